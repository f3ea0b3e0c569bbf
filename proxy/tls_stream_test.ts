import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { createServer, type Server } from "node:https";
import { runContract } from "../internal/testing/contract.ts";
import { ownWords } from "../internal/testing/own_tool.ts";
import { fetchVia } from "./fetch.ts";
import { measureDelay } from "./health.ts";
import { systemClock } from "../internal/time/clock.ts";
import { PROXY_DRIVERS, type ProxyDriver } from "./testdata/drivers.ts";
import { Origin, pattern, TestProxy } from "./testdata/engine.ts";
import tls from "./testdata/tls.json" with { type: "json" };

/** A site with a certificate for 127.0.0.1 and dns.test. */
class Site implements AsyncDisposable {
  readonly #server: Server;
  readonly seen: string[] = [];

  private constructor() {
    this.#server = createServer({ key: tls.key, cert: tls.certificate }, (request, response) => {
      const parts: Uint8Array[] = [];
      request.on("data", (part: Uint8Array) => parts.push(part));
      request.on("end", () => {
        const sent = parts.reduce((sum, part) => sum + part.length, 0);
        this.seen.push(`${request.method} ${request.url} ${sent}`);
        if (request.url === "/cut") {
          response.writeHead(200, { "content-length": "10" });
          response.write("half", () => request.socket.destroy());
          return;
        }
        response.writeHead(request.url === "/missing" ? 404 : 200, { "x-kind": "site" });
        response.end(request.url === "/large" ? pattern(300_000) : "hello");
      });
    });
  }

  static async open(): Promise<Site> {
    const site = new Site();
    await new Promise<void>((resolve) => site.#server.listen(0, "127.0.0.1", resolve));
    return site;
  }

  get port(): number {
    return (this.#server.address() as { port: number }).port;
  }

  url(path: string, host = "127.0.0.1"): string {
    return `https://${host}:${this.port}${path}`;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

const TRUSTING = { tls: { ca: tls.certificate } };

runContract<ProxyDriver>("fetchVia", [
  [
    "fetches https: through outbounds, short, long and by POST",
    async (driver) => {
      await using site = await Site.open();
      await using far = await TestProxy.open(driver, [{ type: "socks" }]);
      await using proxy = await TestProxy.open(driver, [], {
        outbounds: [
          { type: "socks", tag: "far", server: "127.0.0.1", server_port: far.port("socks") },
          { type: "direct", tag: "near" },
        ],
      });
      for (const tag of ["far", "near"]) {
        const outbound = proxy.server.outbound(tag);
        const response = await fetchVia(outbound, site.url("/a?b=c"), TRUSTING);
        deepEqual([response.status, response.headers.get("x-kind")], [200, "site"]);
        equal(await response.text(), "hello");
        const large = await fetchVia(outbound, site.url("/large"), TRUSTING);
        deepEqual(new Uint8Array(await large.arrayBuffer()), pattern(300_000));
        const missing = await fetchVia(outbound, site.url("/missing"), {
          ...TRUSTING,
          method: "POST",
          body: pattern(100_000),
        });
        deepEqual([missing.status, await missing.text()], [404, "hello"]);
        const head = await fetchVia(outbound, site.url("/"), { ...TRUSTING, method: "HEAD" });
        deepEqual([head.status, await head.text()], [200, ""]);
      }
      const once = ["GET /a?b=c 0", "GET /large 0", "POST /missing 100000", "HEAD / 0"];
      deepEqual(site.seen, [...once, ...once]);
    },
  ],
  [
    "does not talk to a server whose certificate is nobody's, or another's",
    async (driver) => {
      await using site = await Site.open();
      await using proxy = await TestProxy.open(driver, []);
      const outbound = proxy.server.outbound();
      const refused = (message: RegExp) => ({ code: "proxy.tls", message });
      await rejects(
        fetchVia(outbound, site.url("/")),
        refused(/^Cannot use TLS with "127\.0\.0\.1": /),
      );
      const other = { tls: { ...TRUSTING.tls, serverName: "other.test" } };
      await rejects(fetchVia(outbound, site.url("/"), other), refused(/other\.test|not valid/i));
      deepEqual(site.seen, []);
      const named = { tls: { ...TRUSTING.tls, serverName: "dns.test" } };
      equal(await (await fetchVia(outbound, site.url("/"), named)).text(), "hello");
      const careless = { tls: { insecure: true } };
      equal(await (await fetchVia(outbound, site.url("/"), careless)).text(), "hello");
      const options = { clock: systemClock };
      await rejects(measureDelay(outbound, site.url("/"), options), { code: "proxy.tls" });
      const delay = await measureDelay(outbound, site.url("/"), { ...options, ...TRUSTING });
      equal(delay >= 1, true);
    },
  ],
  [
    "tells what is no TLS, what broke off, and gives up when told to",
    async (driver) => {
      await using site = await Site.open();
      await using plain = await Origin.echo();
      await using silent = await Origin.open();
      await using proxy = await TestProxy.open(driver, []);
      const outbound = proxy.server.outbound();
      await rejects(fetchVia(outbound, `https://127.0.0.1:${plain.port}/`, TRUSTING), {
        code: "proxy.tls",
      });
      const cut = await fetchVia(outbound, site.url("/cut"), TRUSTING);
      await rejects(cut.text());
      const controller = new AbortController();
      const waiting = fetchVia(outbound, `https://127.0.0.1:${silent.port}/`, {
        ...TRUSTING,
        signal: controller.signal,
      });
      await silent.accept();
      controller.abort(new Error("enough"));
      await rejects(waiting, { message: "enough" });
      await rejects(fetchVia(outbound, "ftp://127.0.0.1/"), /^TypeError: Cannot fetch .*https:/);
    },
  ],
], PROXY_DRIVERS);

/** Runs the tool to its end. */
async function tools(folder: string, words: readonly string[]): Promise<[number, string, string]> {
  const [command, ...args] = ownWords("proxy/mod.ts", [
    "tools",
    ...words,
    "-c",
    `${folder}/config.json`,
    "--ca",
    `${folder}/ca.pem`,
  ]);
  const { code, stdout, stderr } = await new Deno.Command(command!, {
    args,
    env: { NO_COLOR: "1" },
  }).output();
  return [code, new TextDecoder().decode(stdout), new TextDecoder().decode(stderr)];
}

Deno.test("`proxy tools` fetches https: and measures outbounds and groups", async () => {
  await using site = await Site.open();
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/ca.pem`, tls.certificate);
    await Deno.writeTextFile(
      `${folder}/config.json`,
      JSON.stringify({
        outbounds: [
          { type: "selector", tag: "group", outbounds: ["near", "nowhere", "closed"] },
          { type: "direct", tag: "near" },
          { type: "block", tag: "closed" },
          { type: "socks", tag: "nowhere", server: "127.0.0.1", server_port: 1 },
        ],
      }),
    );
    deepEqual(await tools(folder, ["fetch", site.url("/a")]), [0, "hello", "200 OK\n"]);
    const group = await tools(folder, ["urltest", "group", "--url", site.url("/")]);
    equal(group[0], 0);
    match(group[1], /^near\t\d+ ms\nnowhere\tCannot .*\nclosed\tCannot connect .*\n$/);
    const [code, json] = await tools(folder, [
      "urltest",
      "nowhere",
      "--url",
      site.url("/"),
      "--json",
    ]);
    equal(code, 1);
    const line = JSON.parse(json) as { outbound: string; error: string };
    equal(line.outbound, "nowhere");
    match(line.error, /^Cannot /);
    const unknown = await tools(folder, ["urltest", "grup"]);
    deepEqual([unknown[0], unknown[1]], [2, ""]);
    match(unknown[2], /no such outbound/);
    const wrong = await tools(folder, ["fetch", "gopher://a/"]);
    equal(wrong[0], 2);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
