/**
 * The control interface: what dashboards for Clash ask for, as HTTP with JSON, its streams also as WebSockets.
 *
 * @module
 */

import type { Context, Hono } from "hono";
import { createHash, timingSafeEqual } from "node:crypto";
import { memoryUsage } from "node:process";
import { type Driver, openRoot, type RootDirectory, splitHost } from "../ffi/mod.ts";
import {
  type HttpListener,
  type HttpPeer,
  type HttpUpgrade,
  listenHttp,
} from "../internal/http/listener.ts";
import type { TextSocket } from "../internal/http/web_socket.ts";
import { openExposition } from "../internal/prometheus.ts";
import { type Clock, systemClock } from "../internal/time/clock.ts";
import { VERSION } from "../internal/version.ts";
import {
  clashConfig,
  clashConnection,
  type ClashProxy,
  clashProxy,
  clashRule,
  dnsAnswer,
  GLOBAL,
  modesOf,
} from "./clash_view.ts";
import type { ClashApiConfig, ProxyConfig } from "./config_types.ts";
import type { ConnectionTracker } from "./connections.ts";
import { RECORD_TYPES } from "./dns_numbers.ts";
import { GroupOutbound, SelectorOutbound } from "./groups.ts";
import { HealthBook, measureDelay } from "./health.ts";
import type { LogFeed } from "./log_feed.ts";
import { type MeteredSnapshot, METRICS_PREFIX, proxyMetrics } from "./metrics.ts";
import type { Outbound } from "./outbound.ts";
import type { ProxyDns } from "./proxy_dns.ts";

/** What is controlled. */
export interface ControlledProxy {
  /** The configuration in force. */
  readonly config: ProxyConfig;
  /** The connections that run. */
  readonly connections: ConnectionTracker;
  /** An outbound; the one of the configuration's end without a tag. @throws {RangeError} When there is none. */
  outbound(tag?: string): Outbound;
  /** Numbers. */
  snapshot(): MeteredSnapshot;
  /** The DNS part in force. */
  readonly dns: ProxyDns | undefined;
  /** Mode that rules with `clash_mode` see; set here. */
  clashMode: string | undefined;
}

/** How to serve. */
export interface ClashApiOptions {
  /** Time between two items of a stream, milliseconds. Default a second. */
  readonly tickMs?: number;
  /** Default: the process's. */
  readonly clock?: Clock;
  /** Log records as they happen; without it `/logs` stays silent. */
  readonly logs?: LogFeed;
  /** Reads the configuration again; without it `PUT /configs` changes nothing. */
  readonly reread?: () => Promise<void>;
  /** How files of `external_ui` are read. Default `auto`. */
  readonly driver?: Driver;
}

/** A control interface at work. */
export interface ClashApiServer extends AsyncDisposable {
  /** `host:port`, the real one. */
  readonly address: string;
  /** Stops; idempotent. */
  close(): Promise<void>;
}

/**
 * Serves the control interface.
 *
 * With a secret every request has to bring it as bearer token, WebSockets may bring it as `?token=`. Without one, on
 * loopback, requests have to name the host by an address or `localhost`, so that no page of another name can call.
 *
 * @throws {SystemError} When the address is taken, or the folder of `external_ui` is not there.
 */
export async function serveClashApi(
  proxy: ControlledProxy,
  config: ClashApiConfig,
  options: ClashApiOptions = {},
): Promise<ClashApiServer> {
  const { host, port } = splitHost(config.externalController, 9090);
  const root = config.externalUi === undefined
    ? undefined
    : await openRoot(config.externalUi, { driver: options.driver ?? "auto" });
  const api = new ClashApi(proxy, config, options, root);
  let listener: HttpListener;
  try {
    const handler = await api.handler();
    listener = await listenHttp({ host: host === "" ? "::" : host, port }, handler, {
      upgrade: api.upgrade,
    });
  } catch (error) {
    root?.close();
    throw error;
  }
  const close = async (): Promise<void> => {
    await api.close();
    await listener.close();
    root?.close();
  };
  const { address } = listener;
  const shown = "path" in address
    ? address.path
    : address.host.includes(":")
    ? `[${address.host}]:${address.port}`
    : `${address.host}:${address.port}`;
  return { address: shown, close, [Symbol.asyncDispose]: close };
}

type App = Hono<{ Bindings: HttpPeer }>;
type Ask = Context<{ Bindings: HttpPeer }>;

/** Something that is told again and again. @returns Stops that. */
type Feed = (tell: (item: unknown) => void) => () => void;

class ClashApi {
  readonly #proxy: ControlledProxy;
  readonly #config: ClashApiConfig;
  readonly #root: RootDirectory | undefined;
  readonly #options: ClashApiOptions;
  readonly #tickMs: number;
  readonly #clock: Clock;
  readonly #book = new HealthBook();
  readonly #closing = new AbortController();
  readonly #sockets = new Set<TextSocket>();

  constructor(
    proxy: ControlledProxy,
    config: ClashApiConfig,
    options: ClashApiOptions,
    root: RootDirectory | undefined,
  ) {
    this.#proxy = proxy;
    this.#config = config;
    this.#root = root;
    this.#options = options;
    proxy.clashMode ??= config.defaultMode;
    this.#tickMs = options.tickMs ?? 1000;
    this.#clock = options.clock ?? systemClock;
  }

  close(): Promise<void> {
    this.#closing.abort(new Error("Cannot go on: the control interface was closed"));
    for (const socket of this.#sockets) socket.close();
    return Promise.resolve();
  }

  async handler(): Promise<(request: Request, peer: HttpPeer) => Promise<Response>> {
    const { Hono } = await import("hono");
    const app: App = new Hono();
    app.use(async (ask, next) => {
      this.#allowOrigin(ask);
      if (ask.req.method === "OPTIONS") return ask.body(null, 204);
      const isPage = ask.req.path === "/ui" || ask.req.path.startsWith("/ui/");
      if (!isPage && !this.#mayAsk(ask.req.raw, false)) {
        return ask.json({ message: "Unauthorized" }, 401);
      }
      if (!this.#isNamedRight(ask.req.raw)) return ask.json({ message: "Wrong host" }, 421);
      await next();
    });
    this.#addBasics(app);
    this.#addProxies(app);
    this.#addConnections(app);
    this.#addDns(app);
    this.#addMetrics(app);
    if (this.#root !== undefined) this.#addPages(app, this.#root);
    app.notFound((ask) => ask.json({ message: "Resource not found" }, 404));
    app.onError((_error, ask) => ask.json({ message: "Internal error" }, 500));
    return async (request, peer) => await app.fetch(request, peer);
  }

  readonly upgrade: HttpUpgrade = (request) => {
    if (!this.#mayAsk(request, true)) return Promise.resolve(new Response(null, { status: 401 }));
    if (!this.#isNamedRight(request)) return Promise.resolve(new Response(null, { status: 421 }));
    const url = new URL(request.url);
    const feed = this.#feedOf(url.pathname, url.searchParams);
    if (feed === undefined) return Promise.resolve(new Response(null, { status: 404 }));
    return Promise.resolve((socket: TextSocket) => {
      this.#sockets.add(socket);
      // Who does not keep up is told less.
      const stop = feed((item) =>
        socket.waitingBytes < MOST_WAITING_BYTES && socket.send(JSON.stringify(item))
      );
      socket.whenClosed(() => {
        this.#sockets.delete(socket);
        stop();
      });
      if (this.#closing.signal.aborted) socket.close();
    });
  };

  #addBasics(app: App): void {
    app.get(
      "/",
      (ask) =>
        this.#root !== undefined && !ask.req.header("accept")?.includes("application/json")
          ? ask.redirect("/ui/")
          : ask.json({ hello: "clash" }),
    );
    app.get(
      "/version",
      (ask) => ask.json({ version: `fastwire ${VERSION}`, premium: false, meta: true }),
    );
    app.get("/configs", (ask) => {
      const { config, clashMode } = this.#proxy;
      return ask.json(clashConfig(config, clashMode ?? this.#config.defaultMode, modesOf(config)));
    });
    app.patch("/configs", async (ask) => {
      const mode = memberOf(await bodyOf(ask), "mode");
      if (mode === undefined || mode === "") return ask.body(null, 204);
      const known = modesOf(this.#proxy.config)
        .find((each) => each.toLowerCase() === mode.toLowerCase());
      if (known === undefined) return ask.json({ message: "Unknown mode" }, 400);
      this.#proxy.clashMode = known;
      // An answer found in one mode may not hold in another.
      this.#proxy.dns?.flushCache();
      return ask.body(null, 204);
    });
    app.put("/configs", async (ask) => {
      try {
        await this.#options.reread?.();
      } catch (error) {
        return ask.json({ message: error instanceof Error ? error.message : String(error) }, 400);
      }
      return ask.body(null, 204);
    });
    app.get("/rules", (ask) => ask.json({ rules: this.#proxy.config.route.rules.map(clashRule) }));
    for (const path of ["/logs", "/traffic", "/memory"]) {
      app.get(path, (ask) => {
        const feed = this.#feedOf(path, new URL(ask.req.url).searchParams)!;
        return new Response(this.#streamOf(feed), {
          headers: { "content-type": "application/json", "transfer-encoding": "chunked" },
        });
      });
    }
    app.get("/providers/proxies", (ask) => ask.json({ providers: {} }));
    app.get("/providers/rules", (ask) => ask.json({ providers: [] }));
  }

  #addProxies(app: App): void {
    app.get("/proxies", (ask) => {
      const proxies: Record<string, ClashProxy> = { [GLOBAL]: this.#global() };
      for (const { tag } of this.#proxy.config.outbounds) proxies[tag] = this.#view(tag)!;
      return ask.json({ proxies });
    });
    app.get("/proxies/:name", (ask) => {
      const view = this.#view(ask.req.param("name"));
      return view === undefined ? notFound(ask) : ask.json(view);
    });
    app.put("/proxies/:name", async (ask) => {
      const outbound = this.#outbound(ask.req.param("name"));
      if (outbound === undefined) return notFound(ask);
      if (!(outbound instanceof SelectorOutbound)) {
        return ask.json({ message: "Must be a Selector" }, 400);
      }
      const name = memberOf(await bodyOf(ask), "name") ?? "";
      if (!outbound.members.includes(name)) {
        return ask.json({ message: "Selector update error: not found" }, 400);
      }
      outbound.select(name);
      return ask.body(null, 204);
    });
    app.get("/proxies/:name/delay", async (ask) => {
      const outbound = this.#outbound(ask.req.param("name"));
      if (outbound === undefined) return notFound(ask);
      const asked = measurementOf(ask);
      if (asked === undefined) return ask.json({ message: "Body invalid" }, 400);
      try {
        const delay = await measureDelay(outbound, asked.url, {
          timeoutMs: asked.timeoutMs,
          clock: this.#clock,
          signal: this.#closing.signal,
        });
        this.#book.record(outbound.tag, delay);
        return ask.json({ delay });
      } catch (error) {
        this.#book.record(outbound.tag, 0);
        const isLate = error instanceof Error && error.name === "DeadlineError";
        return isLate
          ? ask.json({ message: "Timeout" }, 504)
          : ask.json({ message: "An error occurred in the delay test" }, 503);
      }
    });
    app.get("/group", (ask) => {
      const groups = this.#proxy.config.outbounds
        .filter(({ tag }) => this.#outbound(tag) instanceof GroupOutbound);
      return ask.json({ proxies: groups.map(({ tag }) => this.#view(tag)) });
    });
    app.get("/group/:name/delay", async (ask) => {
      const outbound = this.#outbound(ask.req.param("name"));
      if (!(outbound instanceof GroupOutbound)) return notFound(ask);
      const asked = measurementOf(ask);
      if (asked === undefined) return ask.json({ message: "Body invalid" }, 400);
      return ask.json(Object.fromEntries(await outbound.measureAll(asked.url, asked.timeoutMs)));
    });
  }

  #addConnections(app: App): void {
    const { connections } = this.#proxy;
    app.get("/connections", (ask) => ask.json(this.#connections()));
    app.delete("/connections", (ask) => {
      connections.closeAll();
      return ask.body(null, 204);
    });
    app.delete("/connections/:id", (ask) => {
      connections.get(ask.req.param("id"))?.close();
      return ask.body(null, 204);
    });
  }

  #addDns(app: App): void {
    app.get("/dns/query", async (ask) => {
      const { dns } = this.#proxy;
      if (dns === undefined) return ask.json({ message: "DNS section is disabled" }, 500);
      const name = ask.req.query("name") ?? "";
      const type = RECORD_TYPES[(ask.req.query("type") ?? "A").toUpperCase()];
      if (name === "" || type === undefined) return ask.json({ message: "Invalid query" }, 400);
      try {
        const { signal } = this.#closing;
        return ask.json(dnsAnswer((await dns.query(name, type, { signal })).bytes));
      } catch (error) {
        return ask.json({ message: error instanceof Error ? error.message : String(error) }, 500);
      }
    });
    app.post("/cache/dns/flush", (ask) => {
      this.#proxy.dns?.flushCache();
      return ask.body(null, 204);
    });
    app.post("/cache/fakeip/flush", (ask) => {
      this.#proxy.dns?.flushFakeip();
      return ask.body(null, 204);
    });
  }

  #addMetrics(app: App): void {
    const proxy = this.#proxy;
    let exposition: ReturnType<typeof openExposition> | undefined;
    app.get("/metrics", async (ask) => {
      exposition ??= openExposition(
        METRICS_PREFIX,
        proxyMetrics({
          connections: proxy.connections,
          snapshot: () => proxy.snapshot(),
          ...(proxy.dns === undefined ? {} : { dnsSnapshot: () => proxy.dns!.snapshot() }),
        }),
      );
      const { contentType, body } = await (await exposition).scrape(ask.req.header("accept"));
      return ask.body(body, 200, { "content-type": contentType });
    });
  }

  #addPages(app: App, root: RootDirectory): void {
    const serve = (ask: Ask): Response => {
      const path = decodeURIComponent(new URL(ask.req.url).pathname).slice("/ui/".length);
      const wanted = path === "" || path.endsWith("/") ? `${path}index.html` : path;
      try {
        const file = root.openRead(wanted, { symlinks: "inside" });
        try {
          const bytes = new Uint8Array(new ArrayBuffer(file.sizeBytes));
          const count = file.read(bytes, 0, bytes.length, 0);
          const type = CONTENT_TYPES[wanted.slice(wanted.lastIndexOf(".") + 1)];
          return new Response(bytes.subarray(0, count), {
            headers: {
              "content-type": type ?? "application/octet-stream",
              "x-content-type-options": "nosniff",
            },
          });
        } finally {
          file.close();
        }
      } catch {
        // Not there, not to be read, or no path: all the same to who asks.
        return ask.json({ message: "Resource not found" }, 404);
      }
    };
    app.get("/ui", (ask) => ask.redirect("/ui/"));
    app.get("/ui/*", serve);
  }

  #feedOf(path: string, search: URLSearchParams): Feed | undefined {
    const { connections } = this.#proxy;
    const { logs } = this.#options;
    switch (path) {
      case "/traffic":
        return (tell) => {
          let before = connections.totals;
          return every(this.#tickMs, () => {
            const now = connections.totals;
            tell({ up: now.upload - before.upload, down: now.download - before.download });
            before = now;
          });
        };
      case "/memory":
        return (tell) => every(this.#tickMs, () => tell({ inuse: memoryUsage().rss, oslimit: 0 }));
      case "/connections": {
        const interval = Number(search.get("interval") ?? this.#tickMs);
        const ms = Number.isFinite(interval) ? Math.max(interval, LEAST_INTERVAL_MS) : this.#tickMs;
        return (tell) => {
          tell(this.#connections());
          return every(ms, () => tell(this.#connections()));
        };
      }
      case "/logs":
        return (tell) =>
          logs?.listen(search.get("level") ?? "info", (type, payload) => tell({ type, payload })) ??
            (() => {});
      default:
        return undefined;
    }
  }

  #streamOf(feed: Feed): ReadableStream<Uint8Array<ArrayBuffer>> {
    const encoder = new TextEncoder();
    const { signal } = this.#closing;
    let stop = (): void => {};
    return new ReadableStream({
      start: (controller) => {
        stop = feed((item) => {
          // Who does not keep up is told less.
          if ((controller.desiredSize ?? 0) > -MOST_WAITING_ITEMS) {
            controller.enqueue(encoder.encode(`${JSON.stringify(item)}\n`));
          }
        });
        signal.addEventListener("abort", () => {
          stop();
          try {
            controller.close();
          } catch {
            // It was cancelled before.
          }
        }, { once: true });
      },
      cancel: () => stop(),
    });
  }

  #connections(): object {
    const { connections } = this.#proxy;
    const { upload, download } = connections.totals;
    return {
      downloadTotal: download,
      uploadTotal: upload,
      connections: connections.list().map(clashConnection),
      memory: memoryUsage().rss,
    };
  }

  #outbound(tag: string): Outbound | undefined {
    if (tag === GLOBAL) return undefined;
    try {
      return this.#proxy.outbound(tag);
    } catch {
      return undefined;
    }
  }

  #view(tag: string): ClashProxy | undefined {
    if (tag === GLOBAL) return this.#global();
    const outbound = this.#outbound(tag);
    if (outbound === undefined) return undefined;
    const { outbounds } = this.#proxy.config;
    const books = [this.#book];
    for (const each of outbounds) {
      const other = this.#outbound(each.tag);
      if (other instanceof GroupOutbound) books.push(other.health);
    }
    return clashProxy(outbound, outbounds.find((each) => each.tag === tag), books);
  }

  #global(): ClashProxy {
    const { outbounds, route } = this.#proxy.config;
    const all = outbounds.map(({ tag }) => tag);
    // The one that is taken when nothing else is said comes first.
    const ordered = [route.final, ...all.filter((tag) => tag !== route.final)];
    return {
      type: "Fallback",
      name: GLOBAL,
      udp: true,
      history: [],
      now: route.final,
      all: ordered,
    };
  }

  #allowOrigin(ask: Ask): void {
    const { accessControlAllowOrigin: allowed, accessControlAllowPrivateNetwork } = this.#config;
    const origin = ask.req.header("origin");
    if (origin === undefined) return;
    const isAny = allowed.includes("*");
    if (!isAny && !allowed.includes(origin)) return;
    ask.header("access-control-allow-origin", isAny ? "*" : origin);
    if (!isAny) ask.header("vary", "origin");
    if (ask.req.method !== "OPTIONS") return;
    ask.header("access-control-allow-methods", "GET, POST, PUT, PATCH, DELETE");
    ask.header("access-control-allow-headers", "authorization, content-type");
    ask.header("access-control-max-age", "300");
    if (
      accessControlAllowPrivateNetwork && ask.req.header("access-control-request-private-network")
    ) {
      ask.header("access-control-allow-private-network", "true");
    }
  }

  #mayAsk(request: Request, isSocket: boolean): boolean {
    const { secret } = this.#config;
    if (secret === "") return true;
    const given = /^Bearer (.*)$/i.exec(request.headers.get("authorization") ?? "")?.[1] ??
      (isSocket ? new URL(request.url).searchParams.get("token") : undefined) ?? "";
    const digest = (text: string): Uint8Array => createHash("sha256").update(text).digest();
    return timingSafeEqual(digest(secret), digest(given));
  }

  /** A page of another site can make a browser call our address, but only by that site's name. */
  #isNamedRight(request: Request): boolean {
    if (this.#config.secret !== "") return true;
    const { host } = splitHost(this.#config.externalController, 9090);
    if (!/^(?:127\.|::1$|localhost$)/.test(host)) return true;
    const named = (request.headers.get("host") ?? "").replace(/:\d+$/, "");
    return /^(?:localhost|\d+\.\d+\.\d+\.\d+|\[[0-9a-f:]+\])$/i.test(named);
  }
}

function every(ms: number, call: () => void): () => void {
  const timer = setInterval(call, ms);
  return () => clearInterval(timer);
}

function notFound(ask: Ask): Response {
  return ask.json({ message: "Resource not found" }, 404);
}

async function bodyOf(ask: Ask): Promise<unknown> {
  try {
    return await ask.req.json();
  } catch {
    return undefined;
  }
}

/** A member of an object that is a text. */
function memberOf(value: unknown, name: string): string | undefined {
  if (typeof value !== "object" || value === null) return undefined;
  const member: unknown = Reflect.get(value, name);
  return typeof member === "string" ? member : undefined;
}

/** What `?url=&timeout=` asks for; `undefined` when it is none. */
function measurementOf(ask: Ask): { readonly url: string; readonly timeoutMs: number } | undefined {
  const url = ask.req.query("url") ?? "https://www.gstatic.com/generate_204";
  const timeoutMs = Number(ask.req.query("timeout") ?? 5000);
  if (!/^https?:\/\//.test(url) || !URL.canParse(url)) return undefined;
  if (!(timeoutMs > 0 && timeoutMs <= 60_000)) return undefined;
  return { url, timeoutMs };
}

const CONTENT_TYPES: Readonly<Record<string, string>> = {
  html: "text/html; charset=utf-8",
  js: "text/javascript",
  mjs: "text/javascript",
  css: "text/css",
  json: "application/json",
  svg: "image/svg+xml",
  png: "image/png",
  ico: "image/x-icon",
  woff2: "font/woff2",
  webmanifest: "application/manifest+json",
};
const LEAST_INTERVAL_MS = 100;
const MOST_WAITING_BYTES = 1_048_576;
const MOST_WAITING_ITEMS = 64;
