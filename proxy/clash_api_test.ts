import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { createServer } from "node:http";
import { connect } from "node:net";
import { openDatagramHost, openStreamHost } from "../ffi/mod.ts";
import { secureRandom } from "../internal/random.ts";
import { systemClock } from "../internal/time/clock.ts";
import { type ClashApiServer, type ControlledProxy, serveClashApi } from "./clash_api.ts";
import { resolveProxyConfig } from "./config.ts";
import type { ProxyConfig } from "./config_types.ts";
import { type ConnectionEntry, ConnectionTracker } from "./connections.ts";
import { Dns } from "./dns.ts";
import { createGroup } from "./groups.ts";
import { LogFeed } from "./log_feed.ts";
import { LoopGuard } from "./loop_guard.ts";
import type { Metadata, Outbound, OutboundContext } from "./outbound.ts";
import { BlockOutbound } from "./outbounds/block.ts";
import { DirectOutbound } from "./outbounds/direct.ts";

interface Running extends AsyncDisposable {
  readonly proxy: ControlledProxy;
  readonly api: ClashApiServer;
  readonly logs: LogFeed;
  readonly base: string;
  readonly entry: ConnectionEntry;
  reread: number;
}

const METADATA: Metadata = {
  inbound: "in",
  inboundType: "mixed",
  network: "tcp",
  source: { family: "ipv4", address: "10.0.0.1", port: 4000 },
  destination: { host: "example.com", port: 443 },
};

/** A control interface over outbounds, groups and DNS that are real, and one connection. */
async function start(clashApi: Record<string, unknown> = {}): Promise<Running> {
  const config: ProxyConfig = resolveProxyConfig({
    dns: {
      servers: [{
        type: "hosts",
        tag: "table",
        path: "/nowhere",
        predefined: { "a.lan": "10.0.0.9" },
      }],
    },
    outbounds: [
      { type: "direct", tag: "out" },
      { type: "block", tag: "no" },
      {
        type: "selector",
        tag: "hand",
        outbounds: ["out", "no"],
        interrupt_exist_connections: true,
      },
      { type: "urltest", tag: "quick", outbounds: ["out", "no"] },
    ],
    route: {
      rules: [
        { domain_suffix: ["a.test", "b.test"], port_range: "1:9", outbound: "no" },
        {
          type: "logical",
          mode: "or",
          rules: [{ network: "udp" }, { port: 53 }],
          invert: true,
          action: "reject",
        },
        { clash_mode: "Global", outbound: "out" },
      ],
      final: "hand",
    },
    experimental: {
      clash_api: { external_controller: "127.0.0.1:0", ...clashApi },
    },
  });
  const streams = await openStreamHost({ driver: "portable" });
  const datagrams = await openDatagramHost({ driver: "portable" });
  const connections = new ConnectionTracker();
  const outbounds = new Map<string, Outbound>();
  const context: OutboundContext = {
    loops: new LoopGuard(systemClock),
    streams,
    datagrams: () => Promise.resolve(datagrams),
    aeads: () => Promise.reject(new Error("Cannot need ciphers")),
    resolver: { resolve: () => Promise.resolve(["127.0.0.1"]) },
    connections,
    clock: systemClock,
    random: secureRandom,
    defaultMark: 0,
    defaultInterface: undefined,
    outbound(tag) {
      const outbound = outbounds.get(tag);
      if (outbound === undefined) throw new RangeError(`Cannot find ${tag}`);
      return outbound;
    },
  };
  for (const each of config.outbounds) {
    if (each.type === "direct") outbounds.set(each.tag, new DirectOutbound(each, context));
    else if (each.type === "block") outbounds.set(each.tag, new BlockOutbound(each));
    else if (each.type === "selector" || each.type === "urltest") {
      outbounds.set(each.tag, createGroup(each, context));
    }
  }
  const dns = new Dns(config.dns, {
    dialer: () => outbounds.get("out")!,
    clock: systemClock,
    random: secureRandom,
  });
  const entry = connections.add(METADATA);
  entry.chain.push("hand", "out");
  entry.rule = "final";
  entry.count(100, 2000);
  const logs = new LogFeed();
  const running = { reread: 0 };
  const proxy: ControlledProxy = {
    config,
    connections,
    outbound: (tag = config.route.final) => context.outbound(tag),
    snapshot: () => ({
      driver: "deno",
      failed: 3,
      handshakes: 0,
      associations: 0,
      relays: 1,
      kernelRelays: 0,
    }),
    dns,
    clashMode: undefined,
  };
  const api = await serveClashApi(proxy, config.experimental.clashApi!, {
    tickMs: 5,
    driver: "portable",
    logs,
    reread: () => {
      running.reread++;
      return Promise.resolve();
    },
  });
  return Object.assign(running, {
    proxy,
    api,
    logs,
    entry,
    base: `http://${api.address}`,
    [Symbol.asyncDispose]: async () => {
      await api.close();
      await dns.close();
      for (const outbound of outbounds.values()) await outbound.close();
      await datagrams.close();
      await streams.close();
    },
  });
}

// What comes back is what each test says it is.
// deno-lint-ignore no-explicit-any
async function json(url: string, init: RequestInit = {}): Promise<any> {
  const response = await fetch(url, init);
  const text = await response.text();
  return { status: response.status, ...(text === "" ? {} : JSON.parse(text)) };
}

function send(method: string, body?: unknown): RequestInit {
  return { method, ...(body === undefined ? {} : { body: JSON.stringify(body) }) };
}

Deno.test("the control interface tells about outbounds, rules, configuration and itself", async () => {
  await using test = await start();
  const { base } = test;
  deepEqual(await json(`${base}/`), { status: 200, hello: "clash" });
  match((await json(`${base}/version`)).version, /^fastwire /);
  const { proxies } = await json(`${base}/proxies`);
  deepEqual(Object.keys(proxies), ["GLOBAL", "out", "no", "hand", "quick"]);
  deepEqual(proxies.GLOBAL, {
    type: "Fallback",
    name: "GLOBAL",
    udp: true,
    history: [],
    now: "hand",
    all: ["hand", "out", "no", "quick"],
  });
  deepEqual(proxies.hand, {
    type: "Selector",
    name: "hand",
    udp: true,
    history: [],
    now: "out",
    all: ["out", "no"],
  });
  deepEqual([proxies.out.type, proxies.no.type, proxies.quick.type], [
    "Direct",
    "Reject",
    "URLTest",
  ]);
  equal((await json(`${base}/proxies/nobody`)).status, 404);
  deepEqual((await json(`${base}/rules`)).rules, [
    { type: "default", payload: "domainSuffix=[a.test b.test] portRange=1-9", proxy: "no" },
    { type: "logical", payload: "!(network=udp or port=53)", proxy: "reject" },
    { type: "default", payload: "clashMode=Global", proxy: "out" },
  ]);
  const configs = await json(`${base}/configs`);
  deepEqual([configs.mode, configs["mode-list"]], ["Rule", ["Rule", "Global"]]);
  equal((await json(`${base}/nothing`)).status, 404);
});

Deno.test("the control interface selects members, changes the mode and reads the configuration again", async () => {
  await using test = await start();
  const { base, proxy } = test;
  equal((await json(`${base}/proxies/hand`, send("PUT", { name: "quick" }))).status, 400);
  equal((await json(`${base}/proxies/quick`, send("PUT", { name: "no" }))).status, 400);
  equal((await json(`${base}/proxies/hand`, { method: "PUT", body: "{" })).status, 400);
  equal(test.entry.wasClosed, false);
  equal((await json(`${base}/proxies/hand`, send("PUT", { name: "no" }))).status, 204);
  equal((await json(`${base}/proxies/hand`)).now, "no");
  equal(test.entry.wasClosed, true);
  equal((await json(`${base}/configs`, send("PATCH", { mode: "gLOBAL" }))).status, 204);
  equal(proxy.clashMode, "Global");
  equal((await json(`${base}/configs`, send("PATCH", { mode: "Other" }))).status, 400);
  equal((await json(`${base}/configs`, send("PUT", { path: "" }))).status, 204);
  equal(test.reread, 1);
});

Deno.test("the control interface lists connections and cuts them", async () => {
  await using test = await start();
  const { base, proxy } = test;
  const { connections, uploadTotal, downloadTotal } = await json(`${base}/connections`);
  deepEqual([uploadTotal, downloadTotal], [100, 2000]);
  const { start: started, id, ...rest } = connections[0];
  ok(Math.abs(Date.parse(started) - Date.now()) < 60_000);
  deepEqual(rest, {
    metadata: {
      network: "tcp",
      type: "mixed/in",
      sourceIP: "10.0.0.1",
      destinationIP: "",
      sourcePort: "4000",
      destinationPort: "443",
      host: "example.com",
      dnsMode: "normal",
      processPath: "",
    },
    upload: 100,
    download: 2000,
    chains: ["out", "hand"],
    rule: "final",
    rulePayload: "",
  });
  const other = proxy.connections.add(METADATA);
  equal((await json(`${base}/connections/${id}`, send("DELETE"))).status, 204);
  deepEqual([test.entry.wasClosed, other.wasClosed], [true, false]);
  await json(`${base}/connections`, send("DELETE"));
  equal(other.wasClosed, true);
});

Deno.test("the control interface measures outbounds and groups, and remembers it", async () => {
  await using test = await start();
  const server = createServer((_request, response) => response.end());
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("Cannot happen");
  const { base } = test;
  const url = encodeURIComponent(`http://test.example:${address.port}/`);
  ok((await json(`${base}/proxies/out/delay?url=${url}&timeout=2000`)).delay >= 1);
  equal((await json(`${base}/proxies/no/delay?url=${url}`)).status, 503);
  for (const bad of ["url=ftp://x", `url=${url}&timeout=0`, `url=${url}&timeout=x`]) {
    equal((await json(`${base}/proxies/out/delay?${bad}`)).status, 400);
  }
  deepEqual(Object.keys(await json(`${base}/group/quick/delay?url=${url}`)).toSorted(), [
    "out",
    "status",
  ]);
  equal((await json(`${base}/group/out/delay?url=${url}`)).status, 404);
  const { proxies } = await json(`${base}/proxies`);
  deepEqual(proxies.out.history.length, 2);
  deepEqual(proxies.no.history.map(({ delay }: { delay: number }) => delay), [0, 0]);
  equal((await json(`${base}/group`)).proxies.length, 2);
  server.closeAllConnections();
  await new Promise<void>((resolve) => server.close(() => resolve()));
});

Deno.test("the control interface asks the DNS part, and shows metrics", async () => {
  await using test = await start();
  const { base } = test;
  const answer = await json(`${base}/dns/query?name=A.lan&type=a`);
  deepEqual(answer.Answer, [{ name: "a.lan.", type: 1, TTL: 10, data: "10.0.0.9" }]);
  equal((await json(`${base}/dns/query?name=b.lan`)).Status, 3);
  equal((await json(`${base}/dns/query?name=b.lan&type=NONE`)).status, 400);
  equal((await json(`${base}/cache/dns/flush`, send("POST"))).status, 204);
  equal((await json(`${base}/cache/fakeip/flush`, send("POST"))).status, 204);
  const response = await fetch(`${base}/metrics`);
  match(response.headers.get("content-type") ?? "", /^text\/plain/);
  const text = await response.text();
  match(text, /fastwire_proxy_connections_active\{inbound="in",outbound="out",network="tcp"\} 1/);
  match(text, /fastwire_proxy_bytes_total\{direction="down"\} 2000/);
  match(text, /fastwire_proxy_connections_failed_total 3/);
  match(text, /fastwire_proxy_dns_questions_total 2/);
});

Deno.test("the control interface asks for its token, everywhere but on its pages", async () => {
  const folder = await Deno.makeTempDir();
  await Deno.writeTextFile(`${folder}/index.html`, "<p>hello");
  await Deno.writeTextFile(`${folder}/../outside-${folder.split("/").at(-1)}`, "secret");
  {
    await using test = await start({ secret: "hush", external_ui: folder });
    const { base } = test;
    for (const path of ["/", "/proxies", "/connections", "/metrics", "/nothing", "/traffic"]) {
      equal((await json(`${base}${path}`)).status, 401, path);
      equal((await json(`${base}${path}?token=hush`)).status, 401, path);
    }
    const wrong = { headers: { authorization: "Bearer hus" } };
    equal((await json(`${base}/version`, wrong)).status, 401);
    const right = { headers: { authorization: "Bearer hush", accept: "application/json" } };
    equal((await json(`${base}/`, right)).status, 200);
    const page = await fetch(`${base}/ui/`);
    deepEqual([await page.text(), page.headers.get("content-type")], [
      "<p>hello",
      "text/html; charset=utf-8",
    ]);
    for (const path of [`/ui/..%2foutside-${folder.split("/").at(-1)}`, "/ui/%00", "/ui/none.js"]) {
      equal((await json(`${base}${path}`)).status, 404, path);
    }
    await rejects(firstMessage(`ws://${test.api.address}/traffic?token=hus`));
    ok("up" in JSON.parse(await firstMessage(`ws://${test.api.address}/traffic?token=hush`)));
  }
  await Deno.remove(`${folder}/../outside-${folder.split("/").at(-1)}`);
  await Deno.remove(folder, { recursive: true });
});

Deno.test("the control interface without a token answers no page that came by another name", async () => {
  await using test = await start({ access_control_allow_origin: ["http://board.test"] });
  const ask = (headers: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const [host, port] = test.api.address.split(":");
      const socket = connect(Number(port), host!);
      let text = "";
      socket.on("data", (chunk) => text += chunk.toString());
      socket.on("end", () => resolve(text));
      socket.on("error", reject);
      socket.write(`${headers}\r\nConnection: close\r\n\r\n`);
    });
  match(await ask("GET /version HTTP/1.1\r\nHost: evil.test:9090"), /^HTTP\/1.1 421/);
  match(await ask("GET /version HTTP/1.1\r\nHost: localhost:9090"), /^HTTP\/1.1 200/);
  const preflight = (origin: string) =>
    ask(`OPTIONS /proxies HTTP/1.1\r\nHost: localhost\r\nOrigin: ${origin}`);
  match(await preflight("http://board.test"), /access-control-allow-origin: http:\/\/board.test/i);
  ok(!/access-control-allow-origin/i.test(await preflight("http://evil.test")));
});

/** The first message of a WebSocket, which is closed then. */
function firstMessage(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = new WebSocket(url);
    let first: string | undefined;
    socket.onmessage = ({ data }) => {
      first ??= String(data);
      socket.close();
    };
    socket.onerror = () => reject(new Error("Cannot open it"));
    socket.onclose = () =>
      first === undefined ? reject(new Error("Cannot open it")) : resolve(first);
  });
}

Deno.test("the control interface streams traffic, memory, connections and logs over WebSockets", async () => {
  await using test = await start();
  const base = `ws://${test.api.address}`;
  const traffic = JSON.parse(await firstMessage(`${base}/traffic`));
  deepEqual(Object.keys(traffic), ["up", "down"]);
  ok(JSON.parse(await firstMessage(`${base}/memory`)).inuse > 1_000_000);
  const { connections } = JSON.parse(await firstMessage(`${base}/connections?interval=100`));
  equal(connections.length, 1);
  const timer = setInterval(() => {
    test.logs.sink({ level: "debug", message: ["hidden"] });
    test.logs.sink({ level: "warning", message: ["shown ", 7] });
  }, 2);
  const line = await firstMessage(`${base}/logs?level=info`);
  clearInterval(timer);
  deepEqual(JSON.parse(line), { type: "warning", payload: "shown 7" });
  await rejects(firstMessage(`${base}/version`));
});

Deno.test("the control interface streams lines over HTTP, what went through since the line before", async () => {
  await using test = await start();
  const abort = new AbortController();
  const response = await fetch(`${test.base}/traffic`, { signal: abort.signal });
  const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader();
  let up = 0, down = 0, counted = false;
  while (up < 50) {
    const { value, done } = await reader.read();
    if (done) break;
    if (!counted) test.entry.count(50, 70);
    counted = true;
    for (const line of value.trim().split("\n")) {
      const item = JSON.parse(line);
      up += item.up;
      down += item.down;
    }
  }
  deepEqual([up, down], [50, 70]);
  abort.abort();
  await reader.cancel().catch(() => {});
});
