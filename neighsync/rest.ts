/**
 * The daemon's management interface: health, metrics, and a view of the table, as HTTP.
 *
 * It listens on loopback or on a unix socket, nowhere else: there is no encryption here, and pretending otherwise helps
 * nobody. Whoever needs it from afar puts a proxy with TLS and client certificates in front.
 *
 * @module
 */

import type { Context, Hono } from "hono";
import { createHash, timingSafeEqual } from "node:crypto";
import {
  type HttpAddress,
  type HttpListener,
  type HttpPeer,
  listenHttp,
} from "../internal/http/listener.ts";
import { openExposition } from "../internal/prometheus.ts";
import { METRICS_PREFIX, neighsyncMetrics } from "./metrics.ts";
import type { Health, NeighSyncSnapshot } from "./snapshot.ts";

/** A neighbor as the interface shows it; whatever else the object has is shown, too. */
export interface ServedNeighbor {
  /** Name of the interface. */
  readonly ifname: string;
  /** 4 or 6. */
  readonly family: 4 | 6;
  /** Address, as the C library writes it. */
  readonly ip: string;
  /** Name of the state, in lower case. */
  readonly state: string;
}

/** A key that the kernel and Redis do not agree about. */
export interface ServedDifference {
  /** `<interface>:<address>`. */
  readonly key: string;
  /** The MAC that should be published; null when nothing should. */
  readonly wanted: string | null;
  /** The MAC that is published; null when nothing is. */
  readonly published: string | null;
}

/**
 * What the interface shows and does. {@linkcode ServedNeighSync.snapshot} and health are all that metrics and probes need;
 * a route whose member is missing answers 404.
 */
export interface ServedNeighSync {
  /** Counters and state now. */
  snapshot(): NeighSyncSnapshot;
  /** The verdict on them. */
  health(): Health;
  /** The view of the kernel's table, by `<interface>:<address>`. */
  neighbors?(): ReadonlyMap<string, ServedNeighbor>;
  /** The configuration in force, without secrets. */
  config?(): object;
  /** What differs between the kernel and Redis now. */
  diff?(): Promise<readonly ServedDifference[]>;
  /** Reads the kernel's table anew; settles when the view is true again. */
  resync?(): Promise<void>;
  /**
   * Changes the reloadable part of the configuration, all of it or nothing.
   *
   * @throws {TypeError} For what is not reloadable or not an option. @throws {RangeError} For a value out of range.
   */
  reconfigure?(changes: object): object | Promise<object>;
}

/** How to serve. */
export interface ServeHealthOptions {
  /** `127.0.0.1:9091`, `[::1]:9091`, `localhost:9091` or `unix:/run/neighsync.sock`. Default `127.0.0.1:9091`. */
  readonly listen?: string;
  /** Before the name of every metric. Default {@linkcode METRICS_PREFIX}. */
  readonly metricsPrefix?: string;
  /** What a request that changes something has to bring as its bearer token; without one only the unix socket may. */
  readonly token?: string;
}

/** A management interface at work. */
export interface HealthServer extends AsyncDisposable {
  /** Where it listens: `127.0.0.1:9091` with the real port, or `unix:…`. */
  readonly address: string;
  /** Stops; idempotent. */
  close(): Promise<void>;
}

/** Most rows in one answer. */
const MAX_PAGE = 10_000;
const DEFAULT_PAGE = 1_000;

/**
 * Serves the management interface.
 *
 * `GET /metrics`, `/healthz` (200 unless unhealthy), `/readyz` (200 when ready), and below `/api/v1`, also without that:
 * `GET /health /ready /stats /config /neighbors /neighbors/{interface}/{address} /diff`, `POST /resync`,
 * `PATCH /config`. Answers are `{ success, data | error: { code, message, details }, timestamp }`.
 *
 * @throws {RangeError} For an address that is neither loopback nor a unix socket.
 * @throws {SystemError} When it is taken.
 */
export async function serveHealth(
  service: ServedNeighSync,
  options: ServeHealthOptions = {},
): Promise<HealthServer> {
  const address = parseListen(options.listen ?? "127.0.0.1:9091");
  const handle = await createHandler(service, options);
  const listener: HttpListener = await listenHttp(address, handle);
  const close = (): Promise<void> => listener.close();
  return { address: textOf(listener.address), close, [Symbol.asyncDispose]: close };
}

/**
 * The interface without a listener, for tests and for applications with a server of their own. Whoever calls it decides
 * who may.
 */
export async function createHandler(
  service: ServedNeighSync,
  options: ServeHealthOptions = {},
): Promise<(request: Request, peer: HttpPeer) => Promise<Response>> {
  const { Hono } = await import("hono");
  const prefix = options.metricsPrefix ?? METRICS_PREFIX;
  const exposition = await openExposition(prefix, neighsyncMetrics(service));
  const app: App = new Hono<Environment>();

  app.use(async (context, next) => {
    // A page of another site may know our address, but it cannot make a browser call it by that name.
    if (!context.env.local && !isLoopbackName(context.req.header("host"))) {
      return failure(context, 421, "neighsync.wrong-host", "Cannot answer for that host");
    }
    const { method } = context.req;
    if (method !== "GET" && method !== "HEAD" && !mayChange(context, options.token)) {
      return failure(
        context,
        401,
        "neighsync.not-authorized",
        "Cannot change anything for this request: expected the bearer token, or the unix socket",
      );
    }
    await next();
  });
  app.get("/metrics", async (context) => {
    const { contentType, body } = await exposition.scrape(context.req.header("accept"));
    return context.body(body, 200, { "content-type": contentType });
  });
  app.get("/healthz", (context) => {
    const { status, checks } = service.health();
    const lines = [
      status,
      ...checks.filter(({ detail }) => detail !== "").map(({ detail }) => detail),
    ];
    return context.text(lines.join("\n") + "\n", status === "unhealthy" ? 503 : 200);
  });
  app.get("/readyz", (context) => {
    const { ready } = service.health();
    return context.text(ready ? "ready\n" : "not ready\n", ready ? 200 : 503);
  });
  const api: App = new Hono<Environment>();
  addRoutes(api, service, exposition.scrape);
  app.route("/api/v1", api);
  app.route("/", api);
  app.notFound((context) => failure(context, 404, "neighsync.no-route", "Cannot find that path"));
  app.onError((error, context) => {
    if (error instanceof RangeError || error instanceof TypeError || error instanceof SyntaxError) {
      return failure(context, 400, "neighsync.bad-request", error.message);
    }
    const code = "code" in error ? String(error.code) : "neighsync.failed";
    return failure(context, 503, code, error.message);
  });
  return async (request, peer) => await app.fetch(request, { local: peer.local });
}

interface Environment {
  readonly Bindings: { readonly local: boolean };
}

type App = Hono<Environment>;
type Ask = Context<Environment>;

function addRoutes(
  api: App,
  service: ServedNeighSync,
  scrape: (accept?: string) => Promise<{ readonly contentType: string; readonly body: string }>,
): void {
  api.get("/health", (context) => {
    const health = service.health();
    return success(context, health, health.status === "unhealthy" ? 503 : 200);
  });
  api.get("/ready", (context) => {
    const { ready } = service.health();
    return success(context, { ready }, ready ? 200 : 503);
  });
  api.get("/metrics", async (context) => {
    const { contentType, body } = await scrape(context.req.header("accept"));
    return context.body(body, 200, { "content-type": contentType });
  });
  api.get("/stats", (context) => success(context, service.snapshot()));
  const { config, neighbors, diff, resync, reconfigure } = service;
  if (config !== undefined) {
    api.get("/config", (context) => success(context, config.call(service)));
  }
  if (neighbors !== undefined) {
    api.get("/neighbors", (context) => success(context, page(neighbors.call(service), context)));
    api.get("/neighbors/:ifname/:ip", (context) => {
      const key = `${context.req.param("ifname")}:${context.req.param("ip")}`;
      const found = neighbors.call(service).get(key);
      if (found !== undefined) return success(context, found);
      return failure(context, 404, "neighsync.no-neighbor", `Cannot find the neighbor "${key}"`);
    });
  }
  if (diff !== undefined) {
    api.get("/diff", async (context) => {
      const differences = await diff.call(service);
      return success(context, { equal: differences.length === 0, differences });
    });
  }
  if (resync !== undefined) {
    api.post("/resync", async (context) => {
      await resync.call(service);
      return success(context, { synced: true });
    });
  }
  if (reconfigure !== undefined) {
    api.patch("/config", async (context) => {
      const changes: unknown = await context.req.json();
      if (typeof changes !== "object" || changes === null || Array.isArray(changes)) {
        throw new TypeError("Cannot change the configuration: expected an object of options");
      }
      return success(context, await reconfigure.call(service, changes));
    });
  }
}

/** One page in the order of keys, so that what comes and goes between two pages moves nothing else. */
function page(
  all: ReadonlyMap<string, ServedNeighbor>,
  context: Ask,
): {
  readonly neighbors: readonly ServedNeighbor[];
  readonly cursor: string | null;
  readonly total: number;
} {
  const ifname = context.req.query("interface"), state = context.req.query("state");
  const family = familyOf(context.req.query("family"));
  const limit = limitOf(context.req.query("limit"));
  const after = context.req.query("cursor") ?? "";
  const keys: string[] = [];
  let total = 0;
  for (const [key, neighbor] of all) {
    if (ifname !== undefined && neighbor.ifname !== ifname) continue;
    if (family !== undefined && neighbor.family !== family) continue;
    if (state !== undefined && neighbor.state !== state.toLowerCase()) continue;
    total++;
    // One more than a page, to know whether there is another.
    if (key > after && (keys.length <= limit || key < keys.at(-1)!)) insert(keys, key, limit + 1);
  }
  const more = keys.length > limit;
  if (more) keys.pop();
  return {
    neighbors: keys.map((key) => all.get(key)!),
    cursor: more ? keys.at(-1)! : null,
    total,
  };
}

/** Keeps `sorted` sorted and no longer than `most`. */
function insert(sorted: string[], key: string, most: number): void {
  let low = 0, high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < key) low = middle + 1;
    else high = middle;
  }
  sorted.splice(low, 0, key);
  if (sorted.length > most) sorted.pop();
}

function familyOf(text: string | undefined): 4 | 6 | undefined {
  if (text === undefined) return undefined;
  if (/^(?:ipv)?4$/i.test(text)) return 4;
  if (/^(?:ipv)?6$/i.test(text)) return 6;
  throw new RangeError(`Cannot use ${JSON.stringify(text)} as family: expected 4 or 6`);
}

function limitOf(text: string | undefined): number {
  if (text === undefined) return DEFAULT_PAGE;
  const limit = Number(text);
  if (Number.isInteger(limit) && limit >= 1 && limit <= MAX_PAGE) return limit;
  throw new RangeError(`Cannot use ${JSON.stringify(text)} as limit: expected 1 to ${MAX_PAGE}`);
}

function success(context: Ask, data: unknown, status: 200 | 503 = 200): Response {
  return context.json({ success: true, data, timestamp: new Date().toISOString() }, status);
}

function failure(
  context: Ask,
  status: 400 | 401 | 404 | 421 | 503,
  code: string,
  message: string,
  details?: unknown,
): Response {
  const error = { code, message, ...(details === undefined ? {} : { details }) };
  return context.json({ success: false, error, timestamp: new Date().toISOString() }, status);
}

/** Whoever may open the socket's file may change things; over TCP every user of the machine could ask. */
function mayChange(context: Ask, token: string | undefined): boolean {
  if (context.env.local) return true;
  const given = /^Bearer +(\S+)$/i.exec(context.req.header("authorization") ?? "")?.[1];
  if (token === undefined || token === "" || given === undefined) return false;
  // Digests have one length, and comparing them takes one time.
  return timingSafeEqual(digest(given), digest(token));
}

function digest(text: string): Uint8Array {
  return createHash("sha256").update(text).digest();
}

function isLoopbackName(host: string | undefined): boolean {
  return /^(?:localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d+)?$/i.test(host ?? "");
}

function parseListen(text: string): HttpAddress {
  if (text.startsWith("unix:") && text.length > 5) return { path: text.slice(5) };
  const found = /^(localhost|127(?:\.\d{1,3}){3}|\[::1\])?:(\d{1,5})$/.exec(text);
  const port = Number(found?.[2]);
  if (found === null || port > 65_535) {
    throw new RangeError(
      `Cannot serve metrics on ${
        JSON.stringify(text)
      }: expected a loopback address with a port, or unix:PATH`,
    );
  }
  const host = found[1] ?? "127.0.0.1";
  return { host: host === "localhost" ? "127.0.0.1" : host.replace(/[[\]]/g, ""), port };
}

function textOf(address: HttpAddress): string {
  if ("path" in address) return `unix:${address.path}`;
  const { host, port } = address;
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}
