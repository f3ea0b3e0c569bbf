/**
 * The thirteen optimisations that were asked for, by number. Some are tested beside what they concern; the last test
 * here sees to it that none is without a test or a bench of its name.
 */
import { deepEqual, equal, ok } from "node:assert/strict";
import {
  type ConstantBuffer,
  DatagramBatch,
  type DatagramHost,
  type SocketAddress,
  type StreamConnection,
} from "../ffi/mod.ts";
import { MemoryAccounts } from "./accounts_memory.ts";
import type { ServerEvent, TestResult } from "./api_types.ts";
import { run } from "./client.ts";
import { Clockwork } from "./clockwork.ts";
import { udpGround } from "./data_planes.ts";
import { createFlowCounts, Flow } from "./flow.ts";
import { type BtestServer, serve, type ServerOptions } from "./server.ts";
import { TcpFlow } from "./tcp_flow.ts";
import { Hand, UdpHand } from "./testdata/hand_made.ts";
import { UdpFlow } from "./udp_flow.ts";

const LONG = Deno.env.get("FASTWIRE_LONG") === "1";
const PORTABLE = { driver: "portable", workers: 0 } as const;
const SOMEBODY: SocketAddress = { family: "ipv4", address: "192.0.2.1", port: 2000 };
const NO_EVENTS = { status: () => {}, closed: () => {}, arrived: () => {} };

async function served(options: ServerOptions = {}): Promise<{ server: BtestServer; port: number }> {
  const server = await serve({
    listen: ["127.0.0.1:0"],
    ...PORTABLE,
    maxSessionsPerAddress: 0,
    udpPortStart: 31_000 + Deno.pid % 10_000,
    ...options,
  });
  return { server, port: server.addresses[0]!.port };
}

/** A clock that counts its readers. */
class CountingClock {
  reads = 0;
  time = 1000;

  now(): number {
    this.reads++;
    return this.time;
  }
}

/** A connection that takes everything. */
function bottomless(): StreamConnection {
  return {
    watch: () => {},
    again: () => {},
    sendConstantNow: (_constant: ConstantBuffer, _at: number, length: number) => length,
    sendNow: (_bytes: Uint8Array, start: number, end: number) => end - start,
    discardNow: () => -1,
    receiveNow: () => -1,
    end: () => {},
    close: () => Promise.resolve(),
  } as unknown as StreamConnection;
}

for (
  const [name, capBps, lanes] of [["one connection as fast as it goes", Infinity, 1], [
    "twenty connections as fast as they go",
    Infinity,
    20,
  ], ["one connection with a cap", 100_000_000, 1]] as const
) {
  Deno.test(`PRD-002: a sending loop over ${name} reads the clock once a pass`, () => {
    const clock = new CountingClock();
    const clockwork = new Clockwork(clock);
    const counts = createFlowCounts();
    const ground = {
      host: undefined as never,
      clockwork,
      scratch: new Uint8Array(new ArrayBuffer(16)),
      payload: () => ({ length: 262_144, close: () => {} }),
    };
    const plan = {
      ...{ sends: true, receives: false, finds: false, randomData: false, sendfile: false },
      ...{ blockBytes: 32_768, capBps, drainMs: 0 },
    };
    const connections = Array.from({ length: lanes }, bottomless);
    new TcpFlow(ground, plan, connections, [], counts, NO_EVENTS);
    const passes = 200;
    clock.reads = 0;
    for (let i = 0; i < passes; i++, clock.time += 5) clockwork.run();
    ok(counts[Flow.txBytes]! > 10_000_000, `${counts[Flow.txBytes]} bytes`);
    ok(clock.reads <= passes + 1, `${clock.reads} reads in ${passes} passes`);
  });
}

Deno.test("PRD-002: a sending loop of datagrams reads the clock once a pass", async () => {
  const clock = new CountingClock();
  const clockwork = new Clockwork(clock);
  const counts = createFlowCounts();
  const counters = { sendDrops: 0, receiveDrops: 0 };
  const socket = {
    ...{ local: SOMEBODY, watch: () => {}, receiveNow: () => 0, close: () => Promise.resolve() },
    ...{ send: (batch: DatagramBatch) => batch.count, counters: () => counters },
  };
  const host = {
    traits: { coalescing: false },
    createBatch: (capacity: number, bytes: number) => new DatagramBatch(capacity, bytes),
    open: () => socket,
  } as unknown as DatagramHost;
  const plan = {
    ...{ sends: true, receives: false, randomData: false, payloadBytes: 1472, overheadBytes: 28 },
    ...{ rateBps: 1e9, peer: SOMEBODY, followsProbes: false, bind: SOMEBODY },
    receiveBufferBytes: 0,
  };
  const flow = await UdpFlow.open(udpGround(host, clockwork), plan, counts, NO_EVENTS, true);
  flow.start();
  const passes = 200;
  clock.reads = 0;
  for (let i = 0; i < passes; i++, clock.time += 1) clockwork.run();
  ok(counts[Flow.txDatagrams]! > 10_000, `${counts[Flow.txDatagrams]} datagrams`);
  ok(clock.reads <= passes + 1, `${clock.reads} reads in ${passes} passes`);
  await flow.stop();
});

/** What decides by the words of an error, which are for people. */
const BY_WORDS =
  /\.message\s*(?:\?\.|\.)\s*(?:includes|startsWith|endsWith|match|indexOf|search)\b|\.message\s*[!=]==|\.test\(\s*\w+\.message/;

Deno.test("PRD-005: nothing is decided by the words of an error", () => {
  for (const bad of ["e.message.includes('x')", "if (e.message === 'x')", "/x/.test(e.message)"]) {
    ok(BY_WORDS.test(bad), bad);
  }
  for (const path of sources(/(?<!_test)\.ts$/).filter((path) => !path.includes("/testdata/"))) {
    const text = Deno.readTextFileSync(path);
    equal(BY_WORDS.exec(text)?.[0], undefined, path);
  }
});

Deno.test("PRD-005: every refusal of an account has a code", async () => {
  const accounts = new MemoryAccounts();
  accounts.set("empty", "x", { limitBytes: 1 });
  accounts.set("away", "x", { enabled: false });
  const identity = {
    id: 1,
    peer: SOMEBODY,
    user: "empty",
    auth: "ecsrp5",
    protocol: "tcp",
    direction: "receive",
    connections: 1,
  } as const;
  accounts.begin(identity).reserve("outbound", 1);
  const start = { address: "192.0.2.1", protocol: "tcp", direction: "receive" } as const;
  for (
    const [user, code, scope] of [
      ["empty", "btest.quota", "user"],
      ["away", "btest.not-allowed", undefined],
      ["nobody", "btest.not-allowed", undefined],
    ] as const
  ) {
    const decision = await accounts.checkStart({ ...start, user });
    ok(!decision.allowed);
    deepEqual([decision.code, decision.scope], [code, scope]);
  }
});

Deno.test("PRD-008: the address of a peer is made text once, and passed along", async () => {
  const peers = new Set<SocketAddress>();
  const kinds = new Set<string>();
  const accounts = new MemoryAccounts();
  accounts.set("admin", "secret", { limitBytes: 1e12 });
  const begin = accounts.begin.bind(accounts);
  accounts.begin = (session) => {
    peers.add(session.peer);
    return begin(session);
  };
  const onEvent = (event: ServerEvent): void => {
    kinds.add(event.kind);
    if (event.kind !== "refused") peers.add(event.session.peer);
  };
  const { server, port } = await served({ accounts, onEvent });
  const options = { ...PORTABLE, user: "admin", password: "secret", durationMs: 50 } as const;
  await run(`127.0.0.1:${port}`, { ...options, remoteTxSpeedBps: 8_000_000 });
  await server.shutdown();
  // The same object each time: nobody made another one of the socket's bytes.
  equal(peers.size, 1);
  deepEqual([...kinds].sort(), ["end", "interval", "start"]);
});

Deno.test({
  name: "PRD-009: the load of the machine is sampled without another process",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    // A process of its own, because tests of other things start programs: what children cost is added up in the
    // parent, page faults the first of all.
    const script = `
      import { cpuSampler } from "${new URL("../ffi/mod.ts", import.meta.url)}";
      const faults = () =>
        Number(Deno.readTextFileSync("/proc/self/stat").split(") ")[1].split(" ")[8]);
      const sampler = await cpuSampler();
      sampler.sample();
      const until = performance.now() + 120;
      while (performance.now() < until);
      const { busyPercent } = sampler.sample();
      sampler.close();
      const before = faults();
      new Deno.Command("true").outputSync();
      console.log(JSON.stringify([busyPercent, before, faults()]));
    `;
    const config = new URL("../deno.json", import.meta.url).pathname;
    const { stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: ["eval", `--config=${config}`, "--quiet", script],
    }).output();
    const decoder = new TextDecoder();
    ok(stdout.length > 0, decoder.decode(stderr));
    const [percent, before, after] = JSON.parse(decoder.decode(stdout));
    // It was busy itself, on one of the processors at least.
    ok(percent > 0 && percent <= 100, `${percent} %`);
    equal(before, 0);
    ok(after > 0, "a child would not have been seen");
  },
});

Deno.test("PRD-010: the last connection of a test starts it, within a moment", async () => {
  const { server, port } = await served();
  await using _ = server;
  const [runs, connections] = LONG ? [200, 20] : [15, 3];
  const times: number[] = [];
  for (let i = 0; i < runs; i++) {
    const hands: Hand[] = [];
    for (let j = 0; j < connections; j++) {
      hands.push(await Hand.dial(port));
      equal(await hands[j]!.hear(4), "01000000");
    }
    const [first] = hands;
    const count = connections.toString(16).padStart(2, "0");
    // A cap keeps the machine free for what is measured.
    await first!.say(`010201${count}0080000080969800` + "00000000");
    const token = (await first!.hear(4)).slice(2, 6);
    const join = `${token}0200000000000000000000000000`;
    for (const hand of hands.slice(1, -1)) await hand.say(join);
    const startedAt = performance.now();
    await hands.at(-1)!.say(join);
    equal((await first!.hear(1)).length, 2);
    times.push(performance.now() - startedAt);
    for (const hand of hands) hand.close();
  }
  times.sort((a, b) => a - b);
  const [middle, late] = [times[runs >> 1]!, times[Math.floor(runs * 0.99)]!];
  // A busy machine is slow; a loop that looks each 100 ms would be far above this.
  ok(middle < (LONG ? 1 : 20), `median ${middle} ms`);
  ok(!LONG || late < 5, `99 of 100 within ${late} ms`);
});

Deno.test("PRD-010: fifty tests that open their connections at once all begin, and whole", async () => {
  const { server, port } = await served();
  await using _ = server;
  const results = await Promise.all(Array.from({ length: 50 }, () =>
    run(`127.0.0.1:${port}`, {
      ...{ ...PORTABLE, connections: 3, durationMs: 150 },
      remoteTxSpeedBps: 1_000_000,
    })));
  for (const { connections, warnings, reason, rxBytes } of results) {
    deepEqual([connections, warnings, reason], [3, [], "duration"]);
    ok(rxBytes > 0);
  }
  equal(server.snapshot().testsStarted, 50);
});

Deno.test("PRD-011: a receiver of datagrams makes no timer per packet, and still notices silence", async () => {
  const ends: TestResult[] = [];
  const timers: number[] = [];
  for (const packets of [20, 1500]) {
    let ended: () => void = () => {};
    const over = new Promise<void>((resolve) => ended = resolve);
    const { server, port } = await served({
      idleTimeoutMs: 500,
      onEvent: (event) => {
        if (event.kind !== "end") return;
        ends.push(event.result);
        ended();
      },
    });
    await using _ = server;
    const hand = await Hand.dial(port);
    equal(await hand.hear(4), "01000000");
    await hand.say("00010100dc0500000000000000000000");
    const data = parseInt((await hand.hear(6)).slice(8), 16);
    await using sender = await UdpHand.open();
    const plain = globalThis.setTimeout;
    let made = 0;
    globalThis.setTimeout = ((...words: Parameters<typeof plain>) => {
      made++;
      return plain(...words);
    }) as typeof plain;
    let lastAt = 0;
    try {
      for (let i = 1; i <= packets; i++) {
        await sender.send(data, 200, i);
        // No more than the kernel keeps while the other side waits for its turn.
        if (i % 50 === 0) await new Promise((resolve) => plain(resolve, 2));
      }
      lastAt = performance.now();
      await over;
    } finally {
      globalThis.setTimeout = plain;
    }
    const silence = performance.now() - lastAt;
    equal(ends.at(-1)!.reason, "idle");
    // The same 200 ms late as five seconds may be noticed.
    ok(silence >= 490 && silence < 700, `noticed after ${silence} ms`);
    timers.push(made);
    hand.close();
  }
  ok(ends[1]!.datagramsReceived > 1000, `${ends[1]!.datagramsReceived} arrived`);
  ok(timers[1]! <= timers[0]! + 10, `${timers[0]} and ${timers[1]} timers`);
});

Deno.test("PRD-013: fifty tests at once keep to the bounds of their accounts, counted to the byte", async () => {
  const limitBytes = 400_000;
  const accounts = new MemoryAccounts();
  const users = ["anna", "berta", "carla", "dora", "emma"];
  for (const user of users) accounts.set(user, "x", { limitBytes });
  const moved = new Map(users.map((user) => [user, 0]));
  const reasons = new Set<string>();
  const onEvent = (event: ServerEvent): void => {
    if (event.kind !== "end") return;
    const { session, result } = event;
    moved.set(session.user, moved.get(session.user)! + result.txBytes + result.rxBytes);
    reasons.add(result.reason);
  };
  const { server, port } = await served({ accounts, onEvent });
  await Promise.all(Array.from({ length: 50 }, (_, i) =>
    run(`127.0.0.1:${port}`, {
      ...{ ...PORTABLE, user: users[i % 5]!, password: "x", durationMs: 2000 },
      ...{ direction: i % 2 === 0 ? "receive" : "transmit", txSize: 4096 },
      ...{ localTxSpeedBps: 2_000_000, remoteTxSpeedBps: 2_000_000 },
      // Whoever comes when there is nothing left is refused.
    }).catch((error) => equal(error.code, "btest.refused"))));
  await server.shutdown();
  for (const user of users) {
    const { inboundBytes, outboundBytes } = accounts.usage(user)!;
    equal(inboundBytes + outboundBytes, moved.get(user), user);
    // Ten tests of one user, each at most a look late; what it had is used up.
    ok(moved.get(user)! >= limitBytes * 0.9, `${user} moved ${moved.get(user)}`);
    ok(moved.get(user)! <= limitBytes + 10 * 32_768, `${user} moved ${moved.get(user)}`);
    const again = await accounts.checkStart({
      ...{ user, address: "127.0.0.1", protocol: "tcp", direction: "receive" },
    });
    deepEqual(again.allowed ? "" : again.code, "btest.quota");
  }
  ok(reasons.has("quota"), [...reasons].join());
});

Deno.test("Every optimisation that was asked for has a test or a bench of its name", () => {
  const named = new Map<string, string[]>();
  for (
    const path of [...sources(/_test\.ts$/), ...sources(/btest_bench\.ts$/, "../bench/micro/")]
  ) {
    const text = Deno.readTextFileSync(path);
    for (
      const [, number] of text.matchAll(/(?:Deno\.(?:test|bench)\(|name:)\s*["`]PRD-(\d{3}): /g)
    ) {
      named.set(number!, [...named.get(number!) ?? [], path]);
    }
  }
  const wanted = Array.from({ length: 13 }, (_, i) => String(i + 1).padStart(3, "0"));
  deepEqual([...named.keys()].sort(), wanted);
});

/** Files of a folder and those below it. */
function sources(pattern: RegExp, folder = "./"): string[] {
  const found: string[] = [];
  const root = new URL(folder, import.meta.url);
  for (const entry of Deno.readDirSync(root)) {
    if (entry.isDirectory) found.push(...sources(pattern, `${folder}${entry.name}/`));
    else if (pattern.test(entry.name)) found.push(new URL(entry.name, root).pathname);
  }
  return found;
}
