import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { createSocket } from "node:dgram";
import { createSecureServer } from "node:http2";
import { createServer as createHttpsServer } from "node:https";
import { createServer as createTlsServer } from "node:tls";
import { writeFile } from "node:fs/promises";
import { openDatagramHost, openStreamHost } from "../ffi/mod.ts";
import { seededRandom } from "../internal/random.ts";
import { ManualClock, systemClock } from "../internal/time/clock.ts";
import { resolveProxyConfig } from "./config.ts";
import { ConnectionTracker } from "./connections.ts";
import { Dns, type DnsContext } from "./dns.ts";
import { decodeDns, type DnsMessage, encodeDnsQuery } from "./dns_message.ts";
import { DnsOutbound } from "./dns_hijack.ts";
import { parseDnsRecord } from "./dns_records.ts";
import type { StreamDnsServer } from "./dns_servers_stream.ts";
import type { UdpDnsServer } from "./dns_servers_udp.ts";
import type { Metadata } from "./outbound.ts";
import { LoopGuard } from "./loop_guard.ts";
import { DirectOutbound } from "./outbounds/direct.ts";
import { PACKET_HEADROOM, PACKET_TAILROOM } from "./packets.ts";
import { answerTo, DnsUpstream, framed, type UpstreamScript } from "./testdata/dns_upstream.ts";
import tls from "./testdata/tls.json" with { type: "json" };

const SOA = parseDnsRecord("example 60 IN SOA ns.example admin.example 1 2 3 4 30");
const METADATA: Metadata = {
  inbound: "in",
  inboundType: "mixed",
  network: "udp",
  source: { family: "ipv4", address: "127.0.0.1", port: 40_000 },
  destination: { host: "192.0.2.53", port: 53 },
};

/** Runs a test with a DNS part whose servers are reached by real sockets. */
async function withDns(
  dnsSection: unknown,
  run: (dns: Dns, clock: ManualClock) => Promise<void>,
  more: Partial<DnsContext> = {},
): Promise<void> {
  const config = resolveProxyConfig({
    dns: dnsSection,
    outbounds: [{ type: "direct", tag: "direct" }],
  });
  const direct = config.outbounds[0]!;
  if (direct.type !== "direct") throw new Error("Cannot happen");
  await using streams = await openStreamHost({ driver: "portable" });
  await using datagrams = await openDatagramHost({ driver: "portable" });
  const clock = new ManualClock(5000);
  const outbound: DirectOutbound = new DirectOutbound(direct, {
    streams,
    datagrams: () => Promise.resolve(datagrams),
    aeads: () => Promise.reject(new Error("Cannot need ciphers")),
    resolver: { resolve: (host) => Promise.reject(new Error(`Cannot resolve ${host} here`)) },
    connections: new ConnectionTracker(),
    clock: systemClock,
    random: seededRandom(1),
    loops: new LoopGuard(systemClock),
    defaultMark: 0,
    defaultInterface: undefined,
    outbound: () => outbound,
  });
  const random = seededRandom(7);
  const dns = new Dns(config.dns, { dialer: () => outbound, clock, random, ...more });
  try {
    await run(dns, clock);
  } finally {
    await dns.close();
  }
}

function udp(port: number, more: object = {}): object {
  return { type: "udp", tag: "up", server: "127.0.0.1", server_port: port, ...more };
}

async function until(condition: () => boolean, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > deadline) throw new Error(`Cannot wait for ${what}: it did not happen`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** A and AAAA of every name. */
const addresses: UpstreamScript = (query) =>
  answerTo(query, query.message.question.type === 1 ? ["192.0.2.1", "192.0.2.2"] : ["2001:db8::1"]);

async function ask(
  dns: Dns,
  name: string,
  type = 1,
  overUdp = true,
): Promise<DnsMessage | undefined> {
  const query = encodeDnsQuery(77, { name, type, class: 1 })!;
  const answer = await dns.answer(query, 0, query.length, METADATA, overUdp);
  if (answer === undefined) return undefined;
  const message = decodeDns(answer, 0, answer.length);
  if (typeof message === "string") throw new Error(message);
  equal(message.id, 77);
  return message;
}

Deno.test("Dns orders addresses by the strategy and asks only for the families it wants", async () => {
  await using upstream = await DnsUpstream.start(addresses);
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    deepEqual(await dns.resolve("A.example."), ["192.0.2.1", "192.0.2.2", "2001:db8::1"]);
    deepEqual(
      await dns.resolve("a.example", { strategy: "prefer_ipv6" }),
      ["2001:db8::1", "192.0.2.1", "192.0.2.2"],
    );
    equal(upstream.queries.length, 2);
    deepEqual(await dns.resolve("b.example", { strategy: "ipv6_only" }), ["2001:db8::1"]);
    equal(upstream.queries.length, 3);
    deepEqual(await dns.resolve("192.0.2.9"), ["192.0.2.9"]);
    ok(new Set(upstream.queries.map(({ message }) => message.id)).size > 1);
    equal(new Set(upstream.queries.map(({ port }) => port)).size, 3);
  });
});

Deno.test("Dns says which names it could not resolve, and why", async () => {
  await using upstream = await DnsUpstream.start((query) => {
    const { name } = query.message.question;
    return answerTo(
      query,
      name === "none.example" ? [SOA] : [],
      {
        "nx.example": 3,
        "fail.example": 2,
        "refused.example": 5,
      }[name],
    );
  });
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    const cases: readonly (readonly [string, RegExp])[] = [
      ["nx.example", /there is no such name/],
      ["none.example", /no address of the wanted family/],
      ["fail.example", /the DNS server failed/],
      ["refused.example", /the question was refused/],
      [`${"x".repeat(64)}.example`, /no name that DNS can carry/],
      ["a..example", /no name that DNS can carry/],
    ];
    for (const [name, message] of cases) {
      await rejects(dns.resolve(name), { code: "proxy.name-not-found", message });
    }
  });
});

Deno.test("Dns passes over answers with a wrong id, question or sender, and broken ones", async () => {
  const stranger = createSocket("udp4");
  await using upstream = await DnsUpstream.start(async (query) => {
    await new Promise((resolve) =>
      stranger.send(answerTo(query, ["198.51.100.4"]), query.port, "127.0.0.1", resolve)
    );
    const wrongId = answerTo(query, ["198.51.100.1"]);
    wrongId[0]! ^= 1;
    const wrongName = answerTo(query, ["198.51.100.2"]);
    wrongName[13]! ^= 1;
    const wrongType = answerTo(query, ["198.51.100.3"]);
    wrongType[12 + 11]! ^= 16;
    const loop = Uint8Array.from([...answerTo(query, []), 0xc0, 0x1b, 0, 1, 0, 1]);
    loop[7] = 1;
    const question = query.bytes.slice();
    return [
      wrongId,
      wrongName,
      wrongType,
      loop,
      new Uint8Array(3),
      question,
      answerTo(query, ["192.0.2.1"]),
    ];
  });
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    deepEqual(await dns.resolve("a.example", { strategy: "ipv4_only" }), ["192.0.2.1"]);
    equal((dns.server("up") as UdpDnsServer).strangers, 7);
  });
  await new Promise<void>((resolve) => stranger.close(() => resolve()));
});

Deno.test("UdpDnsServer asks again when an answer is lost", async () => {
  let first = true;
  await using upstream = await DnsUpstream.start((query) => {
    if (first) return void (first = false);
    return addresses(query) as Uint8Array;
  });
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    const started = performance.now();
    deepEqual(await dns.resolve("a.example", { strategy: "ipv4_only" }), [
      "192.0.2.1",
      "192.0.2.2",
    ]);
    equal(upstream.queries.length, 2);
    equal(upstream.queries[0]!.message.id, upstream.queries[1]!.message.id);
    ok(performance.now() - started >= 900);
  });
});

Deno.test("UdpDnsServer asks over TCP for what was cut", async () => {
  const many = Array.from({ length: 300 }, (_, i) => `10.0.${i >> 8}.${i & 255}`);
  await using upstream = await DnsUpstream.start((query) => {
    if (query.over === "tcp") return answerTo(query, many);
    const cut = answerTo(query, ["198.51.100.1"]);
    cut[2]! |= 2;
    return cut;
  });
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    deepEqual(await dns.resolve("a.example", { strategy: "ipv4_only" }), many);
    deepEqual(upstream.queries.map(({ over }) => over), ["udp", "tcp"]);
    // The client over UDP is told to use TCP in turn, and gets all of it there.
    const overUdp = await ask(dns, "a.example");
    deepEqual([overUdp!.truncated, overUdp!.records.length], [true, 1]);
    equal((await ask(dns, "a.example", 1, false))!.records.length, 301);
    equal(upstream.queries.length, 2);
  });
});

Deno.test("StreamDnsServer sends questions behind each other on one connection and takes answers in any order", async () => {
  const waiting: (() => void)[] = [];
  await using upstream = await DnsUpstream.start((query) =>
    new Promise((resolve) => {
      waiting.unshift(() =>
        resolve(answerTo(query, [`192.0.2.${query.message.question.name.length}`]))
      );
      if (waiting.length === 5) { for (const answer of waiting) answer(); }
    })
  );
  const tcp = { type: "tcp", tag: "up", server: "127.0.0.1", server_port: upstream.port };
  await withDns({ servers: [tcp] }, async (dns) => {
    const names = ["a", "bb", "ccc", "dddd", "eeeee"];
    const found = await Promise.all(
      names.map((name) => dns.resolve(name, { strategy: "ipv4_only" })),
    );
    deepEqual(found.flat(), [1, 2, 3, 4, 5].map((last) => `192.0.2.${last}`));
    equal(upstream.connections, 1);
  });
});

Deno.test("StreamDnsServer asks again on a new connection when a kept one breaks, and gives up on a second break", async () => {
  let cutting = 0;
  await using upstream: DnsUpstream = await DnsUpstream.start((query) => {
    if (cutting-- > 0) return void upstream.cut();
    return addresses(query) as Uint8Array;
  });
  const tcp = { type: "tcp", tag: "up", server: "127.0.0.1", server_port: upstream.port };
  await withDns({ servers: [tcp] }, async (dns) => {
    const options = { strategy: "ipv4_only" } as const;
    await dns.resolve("a.example", options);
    cutting = 1;
    equal((await dns.resolve("b.example", options)).length, 2);
    equal((dns.server("up") as StreamDnsServer).connections, 2);
    cutting = 2;
    await rejects(dns.resolve("c.example", options));
  });
});

/** A TLS server that answers DNS in frames, or by HTTP; returns its port and how to stop it. */
async function secure(
  kind: "tls" | "h2" | "http/1.1",
  seen: string[],
): Promise<{ readonly port: number } & AsyncDisposable> {
  const options = { key: tls.key, cert: tls.certificate };
  const answer = (bytes: Uint8Array): Uint8Array => {
    const copy = new Uint8Array(bytes);
    const message = decodeDns(copy, 0, copy.length);
    if (typeof message === "string") throw new Error(message);
    return answerTo({ message, bytes: copy }, ["192.0.2.53"]);
  };
  const server = kind === "tls"
    ? createTlsServer({ ...options, ALPNProtocols: ["dot"] }, (socket) => {
      seen.push(`tls ${socket.alpnProtocol}`);
      socket.on("error", () => {});
      socket.on("data", (chunk) => socket.write(framed(answer(new Uint8Array(chunk).slice(2)))));
      socket.on("end", () => socket.end());
    })
    : kind === "h2"
    ? createSecureServer(options)
    : createHttpsServer(options, (request, response) => {
      seen.push(`${request.httpVersion} ${request.url} ${request.headers["x-key"]}`);
      const parts: Uint8Array[] = [];
      request.on("data", (chunk: Uint8Array) => parts.push(chunk));
      request.on(
        "end",
        () => response.end(answer(Uint8Array.from(parts.flatMap((part) => [...part])))),
      );
    });
  if (kind === "h2") {
    server.on("stream", (stream, head) => {
      seen.push(
        `h2 ${head[":path"]} ${head["x-key"]} ${head["content-type"]} ${head[":authority"]}`,
      );
      stream.on("error", () => {});
      stream.on("data", (chunk: Uint8Array) => {
        stream.respond({ ":status": 200, "content-type": "application/dns-message" });
        stream.end(answer(chunk));
      });
    });
  }
  const sockets = new Set<{ destroy(): void }>();
  server.on("secureConnection", (socket) => sockets.add(socket));
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("Cannot happen");
  return {
    port: address.port,
    [Symbol.asyncDispose]: () =>
      new Promise((resolve) => {
        for (const socket of sockets) socket.destroy();
        server.close(() => resolve());
      }),
  };
}

Deno.test("Dns asks over TLS and HTTPS, and trusts only what the configuration says", async () => {
  const trust = { certificate: tls.certificate.split("\n"), server_name: "dns.test" };
  for (const kind of ["tls", "h2", "http/1.1"] as const) {
    const seen: string[] = [];
    await using server = await secure(kind, seen);
    const type = kind === "tls" ? "tls" : "https";
    const one = (tag: string, tlsOptions: object) => ({
      type,
      tag,
      server: "127.0.0.1",
      server_port: server.port,
      tls: tlsOptions,
      ...(type === "https" ? { path: "/q", headers: { "X-Key": "k" } } : {}),
    });
    const servers = [
      one("trusted", trust),
      one("address", { certificate: trust.certificate }),
      one("other-name", { ...trust, server_name: "other.test" }),
      one("untrusted", {}),
      one("careless", { insecure: true }),
    ];
    await withDns({ servers }, async (dns) => {
      for (const tag of ["trusted", "trusted", "address", "careless"]) {
        const options = { server: tag, strategy: "ipv4_only", disableCache: true } as const;
        deepEqual(await dns.resolve("a.example", options), ["192.0.2.53"], `${kind} ${tag}`);
      }
      for (const tag of ["other-name", "untrusted"]) {
        const options = { server: tag, strategy: "ipv4_only" } as const;
        await rejects(dns.resolve("a.example", options), { code: "proxy.tls" }, `${kind} ${tag}`);
      }
    });
    const about = seen[0]!.replace(String(server.port), "PORT");
    equal(
      about,
      {
        "tls": "tls dot",
        "h2": "h2 /q k application/dns-message dns.test:PORT",
        "http/1.1": "1.1 /q k",
      }[kind],
    );
  }
});

Deno.test("Dns asks once for equal questions at the same time, and never again while the answer holds", async () => {
  const held: (() => void)[] = [];
  await using upstream = await DnsUpstream.start((query) =>
    new Promise((resolve) => held.push(() => resolve(answerTo(query, ["192.0.2.1"]))))
  );
  await withDns({ servers: [udp(upstream.port)] }, async (dns, clock) => {
    const options = { strategy: "ipv4_only" } as const;
    const all = Promise.all(Array.from({ length: 100 }, () => dns.resolve("a.example", options)));
    await until(() => held.length === 1, "the question");
    held[0]!();
    equal((await all).flat().length, 100);
    equal(upstream.queries.length, 1);
    deepEqual([dns.snapshot().exchanges, dns.snapshot().joined], [1, 99]);
    clock.advance(59_999);
    const message = await ask(dns, "A.example");
    deepEqual([message!.records[0]!.ttl, upstream.queries.length], [1, 1]);
    clock.advance(1);
    const again = dns.resolve("a.example", options);
    await until(() => held.length === 2, "the question after the end");
    held[1]!();
    await again;
    // Who gives up does not take the answer from the others.
    clock.advance(60_000);
    const giveUp = new AbortController();
    const abandoned = dns.resolve("a.example", { ...options, signal: giveUp.signal });
    const kept = dns.resolve("a.example", options);
    giveUp.abort(new Error("enough"));
    await rejects(abandoned, /enough/);
    await until(() => held.length === 3, "the third question");
    held[2]!();
    equal((await kept).length, 1);
    dns.flushCache();
    const afterFlush = dns.resolve("a.example", options);
    await until(() => held.length === 4, "the question after flushing");
    held[3]!();
    await afterFlush;
  });
});

Deno.test("Dns keeps that there is no such name for as long as SOA says, and failures not at all", async () => {
  await using upstream = await DnsUpstream.start((query) =>
    query.message.question.name === "nx.example"
      ? answerTo(query, [SOA], 3)
      : answerTo(query, [], 2)
  );
  await withDns({ servers: [udp(upstream.port)] }, async (dns, clock) => {
    const options = { strategy: "ipv4_only" } as const;
    for (let i = 0; i < 3; i++) await rejects(dns.resolve("nx.example", options));
    equal(upstream.queries.length, 1);
    clock.advance(30_000);
    await rejects(dns.resolve("nx.example", options));
    equal(upstream.queries.length, 2);
    for (let i = 0; i < 3; i++) await rejects(dns.resolve("fail.example", options));
    equal(upstream.queries.length, 5);
  });
});

Deno.test("Dns serves what ended while it asks again, when that is wanted", async () => {
  let last = 0;
  await using upstream = await DnsUpstream.start((query) => answerTo(query, [`192.0.2.${++last}`]));
  const optimistic = { enabled: true, timeout: "1h" };
  await withDns({ servers: [udp(upstream.port)], optimistic }, async (dns, clock) => {
    const options = { strategy: "ipv4_only" } as const;
    deepEqual(await dns.resolve("a.example", options), ["192.0.2.1"]);
    clock.advance(100_000);
    const stale = await ask(dns, "a.example");
    equal(stale!.records[0]!.ttl, 30);
    await until(
      () => dns.snapshot().cache.stale === 1 && upstream.queries.length === 2,
      "a refresh",
    );
    await until(() => dns.snapshot().exchanges === 2, "the answer");
    await dns.query("b.example", 1);
    deepEqual(await dns.resolve("a.example", options), ["192.0.2.2"]);
  });
});

Deno.test("Dns follows its rules: server, refusal, silence, fixed records, options, addresses of answers", async () => {
  await using upstream = await DnsUpstream.start(addresses);
  await using inner = await DnsUpstream.start((query) =>
    answerTo(query, [query.message.question.name === "both.corp" ? "192.0.2.7" : "10.0.0.7"])
  );
  const dnsSection = {
    servers: [
      udp(upstream.port),
      { ...udp(inner.port), tag: "inner" },
      {
        type: "hosts",
        tag: "table",
        path: "/nowhere",
        predefined: { "Box.lan": ["10.0.0.9", "::9"] },
      },
      { type: "fakeip", tag: "fake", inet4_range: "198.18.0.0/15" },
      { type: "rcode", tag: "refuse", rcode: "REFUSED" },
    ],
    rules: [
      { domain: "refused.example", action: "reject" },
      { domain: "silent.example", action: "reject", method: "drop" },
      {
        domain: "fixed.example",
        action: "predefined",
        rcode: "NOERROR",
        answer: ["fixed.example. 5 IN A 203.0.113.5"],
      },
      { domain_suffix: "fake.example", query_type: ["A", "AAAA"], server: "fake" },
      { domain: "code.example", server: "refuse" },
      { domain_suffix: "lan", server: "table" },
      { domain_suffix: "corp", ip_cidr: "10.0.0.0/8", server: "inner", rewrite_ttl: 7 },
      {
        domain_suffix: "subnet.example",
        action: "route-options",
        client_subnet: "192.0.2.0/24",
        disable_cache: true,
      },
      { outbound: "any", server: "inner" },
      { inbound: "elsewhere", server: "inner" },
    ],
    final: "up",
  };
  await withDns(dnsSection, async (dns) => {
    const rcode = async (name: string) => (await ask(dns, name))?.rcode;
    equal(await rcode("refused.example"), 5);
    equal(await rcode("silent.example"), undefined);
    equal(await rcode("code.example"), 5);
    equal(await rcode("nothing.lan"), 3);
    deepEqual(await dns.resolve("fixed.example", { strategy: "ipv4_only" }), ["203.0.113.5"]);
    deepEqual(await dns.resolve("box.lan"), ["10.0.0.9", "::9"]);
    equal(upstream.queries.length + inner.queries.length, 0);
    // Clients get an invented address, outbounds never do.
    const fake = await ask(dns, "x.fake.example");
    equal(fake!.records.length, 2);
    equal(dns.fakeNameOf("198.18.0.2"), "x.fake.example");
    equal(
      (await ask(dns, "x.fake.example", 28))!.records.filter(({ type }) => type === 28).length,
      0,
    );
    equal((await dns.resolve("x.fake.example"))[0], "192.0.2.1");
    await withDns(dnsSection, (next) => {
      next.takeOver(dns);
      equal(next.fakeNameOf("198.18.0.2"), "x.fake.example");
      return Promise.resolve();
    });
    dns.flushFakeip();
    equal(dns.fakeNameOf("198.18.0.2"), undefined);
    // The answer decides: one inside is taken, one outside sends the question on.
    deepEqual(await dns.resolve("in.corp", { strategy: "ipv4_only" }), ["10.0.0.7"]);
    equal((await ask(dns, "in.corp"))!.records[0]!.ttl, 7);
    deepEqual(await dns.resolve("both.corp", { strategy: "ipv4_only" }), [
      "192.0.2.1",
      "192.0.2.2",
    ]);
    for (let i = 0; i < 2; i++) await ask(dns, "a.subnet.example");
    const sent = upstream.queries.filter(({ message }) =>
      message.question.name === "a.subnet.example"
    );
    deepEqual(sent.map(({ message }) => message.edns?.clientSubnet), [
      "192.0.2.0/24",
      "192.0.2.0/24",
    ]);
    deepEqual(
      await dns.resolve("server.example", { strategy: "ipv4_only", outbound: "proxy" }),
      ["10.0.0.7"],
    );
    equal(dns.snapshot().rejected, 2);
  });
});

Deno.test("Dns hands no cached answer of one kind of question to another", async () => {
  let asked = 0;
  await using upstream = await DnsUpstream.start((query) => {
    asked++;
    return addresses(query) as Uint8Array;
  });
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    for (
      const more of [{}, { dnssec: true }, { checkingDisabled: true }, {
        clientSubnet: "10.0.0.0/8",
      }]
    ) {
      const query = encodeDnsQuery(1, { name: "a.example", type: 1, class: 1, ...more })!;
      for (let i = 0; i < 2; i++) await dns.answer(query, 0, query.length, undefined, true);
    }
    equal(asked, 4);
  });
});

Deno.test("Dns remembers the names of addresses when that is wanted, and tells nothing of an unwanted family", async () => {
  await using upstream = await DnsUpstream.start(addresses);
  const section = { servers: [udp(upstream.port)], reverse_mapping: true, strategy: "ipv4_only" };
  await withDns(section, async (dns) => {
    await ask(dns, "Name.example");
    equal(dns.reverseNameOf("192.0.2.2"), "name.example");
    const message = await ask(dns, "name.example", 28);
    deepEqual([message!.rcode, message!.records.length, upstream.queries.length], [0, 1, 1]);
  });
});

Deno.test("HostsDnsServer reads its files again when they change, and answers the reverse", async () => {
  const folder = await Deno.makeTempDir();
  const path = `${folder}/hosts`;
  await writeFile(path, "# nothing\n192.0.2.1 one.lan ONE # alias\n");
  const section = { servers: [{ type: "hosts", tag: "up", path }] };
  await withDns(section, async (dns, clock) => {
    deepEqual(await dns.resolve("one"), ["192.0.2.1"]);
    const pointer = await dns.query("1.2.0.192.in-addr.arpa", 12);
    equal(pointer.rcode, 0);
    await writeFile(path, "192.0.2.22 one\n");
    await Deno.utime(path, 1, 1);
    deepEqual(await dns.resolve("one"), ["192.0.2.1"]);
    clock.advance(5000);
    deepEqual(await dns.resolve("one"), ["192.0.2.22"]);
  });
  await Deno.remove(folder, { recursive: true });
});

Deno.test("LocalDnsServer knows localhost, and that a name that ends in invalid is none", async () => {
  await withDns({}, async (dns) => {
    ok(
      (await dns.resolve("localhost")).some((address) =>
        address === "127.0.0.1" || address === "::1"
      ),
    );
  });
});

Deno.test("DnsOutbound answers datagrams, from the cache at once, and never answers answers", async () => {
  await using upstream = await DnsUpstream.start(addresses);
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    const replies: { bytes: Uint8Array; from: string }[] = [];
    const flow = await new DnsOutbound(dns).openPackets({ metadata: METADATA });
    flow.watch((bytes, start, end, from) =>
      void replies.push({ bytes: bytes.slice(start, end), from: from.host })
    );
    const send = (query: Uint8Array): void => {
      const bytes = new Uint8Array(
        new ArrayBuffer(PACKET_HEADROOM + query.length + PACKET_TAILROOM),
      );
      bytes.set(query, PACKET_HEADROOM);
      flow.send(bytes, PACKET_HEADROOM, PACKET_HEADROOM + query.length, {
        host: "192.0.2.53",
        port: 53,
      });
    };
    const query = encodeDnsQuery(1, { name: "a.example", type: 1, class: 1 })!;
    send(query);
    await until(() => replies.length === 1, "the answer");
    send(query);
    equal(replies.length, 2);
    deepEqual(replies[1], replies[0]);
    equal(replies[0]!.from, "192.0.2.53");
    const response = query.slice();
    response[2]! |= 0x80;
    const update = query.slice();
    update[2]! |= 5 << 3;
    for (const bad of [response, new Uint8Array(5)]) send(bad);
    equal(replies.length, 2);
    send(update);
    send(query.slice(0, 20));
    deepEqual(replies.slice(2).map(({ bytes }) => bytes[3]! & 15), [4, 1]);
    equal(upstream.queries.length, 1);
    flow.close();
    send(query);
    equal(replies.length, 4);
  });
});

Deno.test("DnsOutbound answers many questions of one stream, however they are cut, and ends when it is asked to", async () => {
  await using upstream = await DnsUpstream.start(addresses);
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    const outbound = new DnsOutbound(dns, 50);
    const queries = ["a", "b", "c"].map((name, id) =>
      framed(encodeDnsQuery(id, { name, type: 1, class: 1 })!)
    );
    const all = Uint8Array.from(queries.flatMap((query) => [...query]));
    for (const piece of [1, 40, 1000]) {
      const chain: string[] = [];
      const stream = await outbound.dial({ host: "192.0.2.53", port: 53 }, { chain });
      for (let at = 0; at < all.length; at += piece) {
        await stream.send(all, at, Math.min(at + piece, all.length));
      }
      if (piece === 40) stream.end();
      // Without an end it ends by itself after the silence it was given.
      const got: number[] = [];
      const buffer = new Uint8Array(7);
      for (;;) {
        const count = await stream.receive(buffer, 0, buffer.length);
        if (count <= 0) break;
        got.push(...buffer.subarray(0, count));
      }
      const ids: number[] = [];
      for (let at = 0; at < got.length; at += 2 + (got[at]! << 8 | got[at + 1]!)) {
        ids.push(got[at + 3]!);
      }
      deepEqual(ids.toSorted(), [0, 1, 2]);
      deepEqual(chain, ["dns"]);
      await stream.close();
      equal(stream.sendNow(all, 0, 1), -2);
    }
  });
});

Deno.test("DnsOutbound stops taking questions of a client that receives no answers", async () => {
  await using upstream = await DnsUpstream.start(addresses);
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    const stream = await new DnsOutbound(dns).dial({ host: "192.0.2.53", port: 53 });
    const query = framed(encodeDnsQuery(1, { name: "a.example", type: 1, class: 1 })!);
    let sent = 0;
    let isWritable = false;
    stream.watch(undefined, () => isWritable = true);
    for (let idle = 0; idle < 3;) {
      if (stream.sendNow(query, 0, query.length) > 0) {
        sent++;
        idle = 0;
        continue;
      }
      await new Promise((resolve) => setTimeout(resolve, 1));
      idle = isWritable ? 0 : idle + 1;
      isWritable = false;
    }
    ok(sent > 256 && sent < 10_000, `took ${sent} questions`);
    const buffer = new Uint8Array(4096);
    while (stream.receiveNow(buffer, 0, buffer.length) > 0);
    await until(() => isWritable, "room");
    await stream.close();
  });
});

Deno.test("Dns ends its questions when it is closed", async () => {
  await using upstream = await DnsUpstream.start(() => undefined);
  let waiting: Promise<unknown> = Promise.resolve();
  await withDns({ servers: [udp(upstream.port)] }, async (dns) => {
    waiting = dns.resolve("a.example").catch((error) => error);
    await until(() => upstream.queries.length === 2, "both questions");
  });
  ok(await waiting instanceof Error);
});
