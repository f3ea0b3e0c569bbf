import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { createServer } from "node:net";
import { openStreamHost } from "../ffi/mod.ts";
import { ManualClock, systemClock } from "../internal/time/clock.ts";
import { resolveProxyConfig } from "./config.ts";
import type { GroupOutboundConfig, Network } from "./config_types.ts";
import { ConnectionTracker } from "./connections.ts";
import type { Duplex } from "./duplex.ts";
import {
  createGroup,
  type GroupOutbound,
  isGroup,
  keepSelections,
  SelectorOutbound,
} from "./groups.ts";
import { measureDelay } from "./health.ts";
import type { DialOptions, Metadata, Outbound } from "./outbound.ts";
import type { PacketConnection } from "./packets.ts";
import { RejectedError } from "./replies.ts";

/** An outbound that connects to nothing, or fails as it is told. */
class Member implements Outbound {
  readonly type = "fake";
  readonly tag: string;
  readonly networks: readonly Network[];
  dials = 0;
  delayMs = 10;
  failure: Error | undefined;

  constructor(tag: string, networks: readonly Network[]) {
    this.tag = tag;
    this.networks = networks;
  }

  dial(_to: unknown, options: DialOptions = {}): Promise<Duplex> {
    options.chain?.push(this.tag);
    this.dials++;
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return Promise.resolve({ tag: this.tag } as unknown as Duplex);
  }

  openPackets(options: DialOptions = {}): Promise<PacketConnection> {
    return this.dial(undefined, options) as Promise<unknown> as Promise<PacketConnection>;
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

const TO = { host: "example.com", port: 443 };

function metadata(source: string, host = "example.com"): Metadata {
  return {
    inbound: "in",
    inboundType: "mixed",
    network: "tcp",
    source: { family: "ipv4", address: source, port: 1 },
    destination: { host, port: 443 },
  };
}

/** A group of `a`, `b`, `c`, whose time and measurements the test has in its hands. */
function setUp(group: Record<string, unknown>, networks: Readonly<Record<string, Network[]>> = {}) {
  const tags = ["a", "b", "c"];
  const config = resolveProxyConfig({
    outbounds: [
      ...tags.map((tag) => ({ type: "direct", tag })),
      { tag: "group", outbounds: tags, ...group },
    ],
  });
  const members = new Map(
    tags.map((tag) => [tag, new Member(tag, networks[tag] ?? ["tcp", "udp"])]),
  );
  const clock = new ManualClock(1_000_000);
  const connections = new ConnectionTracker();
  const due: { call: () => void; at: number }[] = [];
  let measurements = 0;
  const made: GroupOutbound = createGroup(config.outbounds[3] as GroupOutboundConfig, {
    connections,
    clock,
    outbound: (tag) => members.get(tag)!,
    schedule: (call, ms) => {
      const entry = { call, at: clock.now() + ms };
      due.push(entry);
      return () => void due.splice(due.indexOf(entry), due.includes(entry) ? 1 : 0);
    },
    measure: (outbound) => {
      measurements++;
      const { delayMs } = outbound as Member;
      return delayMs > 0 ? Promise.resolve(delayMs) : Promise.reject(new Error("no answer"));
    },
  });
  const member = (tag: string): Member => members.get(tag)!;
  return {
    group: made,
    connections,
    clock,
    member,
    measurements: () => measurements,
    scheduled: () => due.length,
    async advance(ms: number): Promise<void> {
      clock.advance(ms);
      for (
        const entry of due.splice(0).filter((each) => each.at <= clock.now() || !due.push(each))
      ) {
        entry.call();
      }
      await settled();
    },
    async dial(about?: Metadata): Promise<string> {
      const chain: string[] = [];
      await made.dial(TO, { chain, metadata: about });
      return chain.join(" ");
    },
  };
}

/** Lets promises that have nothing to wait for settle. */
function settled(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

Deno.test("SelectorOutbound takes the member chosen by hand and cuts what ran through it when asked to", async () => {
  const test = setUp({ type: "selector", default: "b", interrupt_exist_connections: true });
  const { group, connections } = test;
  ok(group instanceof SelectorOutbound && isGroup(group));
  equal(await test.dial(), "group b");
  const entry = connections.add(metadata("10.0.0.1"));
  entry.chain.push("group", "b");
  const other = connections.add(metadata("10.0.0.1"));
  other.chain.push("a");
  group.select("b");
  equal(entry.wasClosed, false);
  group.select("c");
  deepEqual([entry.wasClosed, other.wasClosed, group.now], [true, false, "c"]);
  // After a reload the choice stands, and nothing is cut because of it.
  const later = setUp({ type: "selector", interrupt_exist_connections: true });
  const running = later.connections.add(metadata("10.0.0.1"));
  running.chain.push("group", "c");
  keepSelections(new Map([["group", group]]), new Map([["group", later.group]]));
  deepEqual([later.group.now, running.wasClosed], ["c", false]);
  throws(() => group.select("nobody"), RangeError);
  test.member("c").failure = new Error("broken");
  await rejects(test.dial(), /broken/);
  equal(test.member("a").dials, 0);
});

Deno.test("SelectorOutbound takes what its member takes", async () => {
  const { group } = setUp({ type: "selector" }, { a: ["tcp"] });
  deepEqual(group.networks, ["tcp"]);
  await rejects(group.openPackets(), { code: "proxy.rejected" });
  (group as SelectorOutbound).select("b");
  deepEqual(group.networks, ["tcp", "udp"]);
});

Deno.test("UrltestOutbound takes the quickest member, and keeps the one it has within the tolerance", async () => {
  const test = setUp({ type: "urltest", tolerance: 50, interval: "1m" }, { b: ["tcp"] });
  const { group, member } = test;
  member("a").delayMs = 200;
  member("b").delayMs = 20;
  member("c").delayMs = 100;
  await group.start();
  await settled();
  deepEqual([group.now, await test.dial()], ["b", "group b"]);
  // Datagrams go by a member that takes them.
  const chain: string[] = [];
  await group.openPackets({ chain });
  deepEqual(chain, ["group", "c"]);
  member("a").delayMs = 1;
  member("b").delayMs = 51;
  await test.advance(60_000);
  equal(group.now, "b");
  member("b").delayMs = 52;
  await test.advance(60_000);
  equal(group.now, "a");
  member("a").delayMs = 0;
  await test.advance(60_000);
  equal(group.now, "b");
  deepEqual(group.health.history("a").map(({ delayMs }) => delayMs), [200, 1, 1, 0]);
  await group.close();
  equal(test.scheduled(), 0);
});

Deno.test("a tested group stops measuring when nobody uses it, and begins again when somebody does", async () => {
  const test = setUp({ type: "urltest", interval: "1m", idle_timeout: "3m" });
  await test.group.start();
  await settled();
  equal(test.measurements(), 3);
  await test.advance(60_000);
  await test.advance(60_000);
  equal(test.measurements(), 9);
  await test.advance(60_000);
  equal(test.measurements(), 9);
  equal(test.scheduled(), 0);
  await test.dial();
  await settled();
  equal(test.measurements(), 12);
  equal(test.scheduled(), 1);
  await test.group.close();
});

Deno.test("a group tries the next member once when one fails, and measures again at once", async () => {
  const test = setUp({ type: "fallback", interval: "1m" });
  const { group, member } = test;
  await group.start();
  await settled();
  member("a").failure = new Error("broken a");
  member("a").delayMs = 0;
  equal(await test.dial(), "group b");
  await settled();
  equal(test.measurements(), 6);
  equal(group.now, "b");
  equal(member("a").dials, 1);
  equal(await test.dial(), "group b");
  equal(member("a").dials, 1);
  // Both tries fail: the second's word is told, and there is no third.
  member("b").failure = new Error("broken b");
  member("c").failure = new Error("broken c");
  await rejects(test.dial(), /broken c/);
  // What a rule forbids is not tried elsewhere.
  const dials = member("a").dials;
  member("b").failure = member("c").failure = member("a").failure = new RejectedError("Cannot go");
  await rejects(test.dial(), /Cannot go/);
  ok(member("a").dials - dials <= 1);
  await group.close();
});

Deno.test("FallbackOutbound changes after so many measurements in a row, and goes back after so many", async () => {
  const test = setUp({ type: "fallback", interval: "1m", down_checks: 2, up_checks: 3 });
  const { group, member } = test;
  await group.start();
  await settled();
  const seen: (string | undefined)[] = [];
  for (const delayMs of [0, 5, 0, 0, 5, 5, 0, 5, 5, 5]) {
    member("a").delayMs = delayMs;
    await test.dial();
    await test.advance(60_000);
    seen.push(group.now);
  }
  deepEqual(seen.join(""), "aaabbbbbba");
  for (const tag of ["a", "b", "c"]) member(tag).delayMs = 0;
  await test.advance(60_000);
  await test.advance(60_000);
  equal(await test.dial(), "group a");
  await group.close();
});

Deno.test("LoadbalanceOutbound takes turns among healthy members", async () => {
  const test = setUp({ type: "loadbalance", strategy: "round-robin", interval: "1m" });
  await test.group.start();
  await settled();
  const taken = async (count: number) => {
    const tags: string[] = [];
    for (let i = 0; i < count; i++) tags.push((await test.dial()).slice(-1));
    return tags.join("");
  };
  equal(await taken(6), "abcabc");
  test.member("b").delayMs = 0;
  await test.advance(60_000);
  equal([...new Set(await taken(6))].toSorted().join(""), "ac");
  for (const tag of ["a", "c"]) test.member(tag).delayMs = 0;
  await test.advance(60_000);
  equal(new Set(await taken(6)).size, 3);
  await test.group.close();
});

Deno.test("LoadbalanceOutbound keeps a client, or a destination, on its member while that is healthy", async () => {
  for (const strategy of ["source-hash", "consistent-hash"]) {
    const test = setUp({ type: "loadbalance", strategy, interval: "1m" });
    await test.group.start();
    await settled();
    const about = (i: number): Metadata =>
      strategy === "source-hash"
        ? metadata(`10.0.0.${i}`, `${i}.other`)
        : metadata("10.0.0.1", `host${i}`);
    const all = async () => {
      const taken: string[] = [];
      for (let i = 0; i < 240; i++) taken.push((await test.dial(about(i))).slice(-1));
      return taken;
    };
    const before = await all();
    deepEqual(await all(), before);
    for (const tag of ["a", "b", "c"]) {
      const share = before.filter((each) => each === tag).length;
      ok(share > 50 && share < 120, `${strategy}: ${tag} has ${share} of 240`);
    }
    test.member("b").delayMs = 0;
    await test.advance(60_000);
    const without = await all();
    ok(before.every((tag, i) => tag === "b" ? without[i] !== "b" : without[i] === tag));
    test.member("b").delayMs = 10;
    await test.advance(60_000);
    deepEqual(await all(), before);
    await test.group.close();
  }
});

Deno.test("LoadbalanceOutbound looks at connections, and at delays, when told to", async () => {
  const busy = setUp({ type: "loadbalance", strategy: "least-connections" });
  const load = (tag: string, count: number) => {
    for (let i = 0; i < count; i++) busy.connections.add(metadata("10.0.0.1")).chain.push(tag);
  };
  load("a", 2);
  load("b", 1);
  load("c", 2);
  equal(await busy.dial(), "group b");
  load("b", 2);
  equal(await busy.dial(), "group a");
  await busy.group.close();
  const quick = setUp({ type: "loadbalance", strategy: "least-latency" });
  quick.member("a").delayMs = 100;
  quick.member("b").delayMs = 10;
  quick.member("c").delayMs = 1000;
  await quick.group.start();
  await settled();
  equal(await quick.dial(), "group b");
  for (let i = 0; i < 10; i++) quick.connections.add(metadata("10.0.0.1")).chain.push("b");
  equal(await quick.dial(), "group a");
  await quick.group.close();
});

Deno.test("a group measures ten members at a time at most", async () => {
  const tags = Array.from({ length: 25 }, (_, i) => `m${i}`);
  const config = resolveProxyConfig({
    outbounds: [
      ...tags.map((tag) => ({ type: "direct", tag })),
      { type: "urltest", tag: "group", outbounds: tags },
    ],
  });
  let running = 0, most = 0;
  const group = createGroup(config.outbounds.at(-1) as GroupOutboundConfig, {
    connections: new ConnectionTracker(),
    clock: systemClock,
    outbound: (tag) => new Member(tag, ["tcp"]),
    measure: async () => {
      most = Math.max(most, ++running);
      await settled();
      running--;
      return 1;
    },
  });
  equal((await group.measureAll("http://example.com/")).size, 25);
  equal(most, 10);
  await group.close();
});

Deno.test("measureDelay asks by HEAD and takes any answer of HTTP, nothing else", async () => {
  let words = "HTTP/1.1 500 Broken\r\n\r\n";
  const heads: string[] = [];
  const server = createServer((socket) => {
    socket.on("error", () => {});
    socket.on("data", (chunk) => {
      heads.push(chunk.toString("latin1"));
      if (words !== "silence") socket.end(words);
    });
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const address = server.address();
  if (address === null || typeof address === "string") throw new Error("Cannot happen");
  await using host = await openStreamHost({ driver: "portable" });
  const outbound = {
    dial: () =>
      host.connect({ remote: { family: "ipv4", address: "127.0.0.1", port: address.port } }),
  };
  const url = "http://test.example:81/generate_204?x=1";
  const options = { clock: systemClock };
  ok(await measureDelay(outbound, url, options) >= 1);
  ok(heads[0]!.startsWith("HEAD /generate_204?x=1 HTTP/1.1\r\nHost: test.example:81\r\n"));
  for (words of ["SSH-2.0-x\r\n", "HT"]) {
    await rejects(measureDelay(outbound, url, options), { code: "proxy.bad-response" });
  }
  words = "silence";
  await rejects(measureDelay(outbound, url, { ...options, timeoutMs: 20 }), {
    code: "proxy.timeout",
  });
  await rejects(measureDelay(outbound, "ftp://x/", options), TypeError);
  await new Promise<void>((resolve) => server.close(() => resolve()));
});
