/**
 * What a process keeps after its servers were shot at, or have served many: a program of its own, because memory and
 * descriptors belong to a process and not to a test.
 *
 * Arguments: `fire` or `cycles`, the driver, its threads, how often, the seed. Answers one line of JSON, or fails with
 * words. Wants `--v8-flags=--expose-gc`.
 *
 * @module
 */
import { equal, ok } from "node:assert/strict";
import { openStreamHost, type StreamConnection, type StreamHost } from "../../ffi/mod.ts";
import { type Random, seededRandom } from "../../internal/random.ts";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { bytesOfHex } from "../../internal/testing/vectors.ts";
import { MemoryAccounts } from "../accounts_memory.ts";
import { run } from "../client.ts";
import { type BtestServer, serve } from "../server.ts";
import commands from "./commands.json" with { type: "json" };
import ecsrp5 from "./ecsrp5.json" with { type: "json" };

/** What is measured. */
export interface Endurance {
  /** Connections that the servers accepted. */
  readonly accepted: number;
  /** Tests that began. */
  readonly started: number;
  /** Handshakes that came to nothing. */
  readonly failed: number;
  /** How much larger the heap is after a collection, bytes. */
  readonly heapBytes: number;
  /** How much larger the process is, bytes. */
  readonly grownBytes: number;
  /** How many more sockets and the like it has open. */
  readonly descriptors: number;
}

type Driver = "fast" | "portable";

/** What a good client says first, to be bent: commands, a join, a login behind its command, and other protocols. */
const GOOD: readonly Uint8Array[] = [
  ...commands.cases.map(({ hex }) => bytesOfHex(hex)),
  bytesOfHex("bc040200000000000000000000000000"),
  bytesOfHex(`01020100008000000000000000000000${ecsrp5.cases[0]!.messages[0]}`),
  bytesOfHex(`01010102008000000000000000000000${"11".repeat(48)}`),
  new TextEncoder().encode("GET / HTTP/1.1\r\nHost: router\r\n\r\n"),
  bytesOfHex("160301020001000000fc0303"),
];

/** Connections that are open at a time. */
const AT_ONCE = 24;

/** Fires first messages at a server of each login; all must serve as before. */
async function fire(driver: Driver, workers: number, count: number, seed: number): Promise<object> {
  const servers: BtestServer[] = [];
  for (const auth of ["none", "md5", "ecsrp5"] as const) servers.push(await server(driver, auth));
  const host = await openStreamHost({ driver });
  const random = seededRandom(seed);
  const packets = new HostilePackets(random, GOOD, 600);
  let left = count;
  const shoot = async (): Promise<void> => {
    while (left-- > 0) {
      packets.next();
      const bytes = Uint8Array.from(packets.bytes.subarray(packets.start, packets.end));
      const target = servers[random.u32() % servers.length]!;
      await shot(await connect(host, target), bytes, random);
    }
  };
  const volley = (): Promise<unknown> => Promise.all(Array.from({ length: AT_ONCE }, shoot));
  // The first ones fill caches, pools and the compiler's memory.
  left = Math.min(500, count / 4);
  await volley();
  for (const one of servers) await ordinary(one, driver, workers);
  await until(() => servers.every((one) => one.snapshot().testsRunning === 0));
  const before = await measured();
  left = count;
  await volley();
  await until(() => servers.every((one) => one.snapshot().testsRunning === 0));
  const after = await measured(before.descriptors);
  for (const one of servers) await ordinary(one, driver, workers);
  await host.close();
  return await summary(servers, before, after);
}

/** One connection: says something, sees a part of the answer or none, and goes in one of several ways. */
async function shot(
  connection: StreamConnection,
  bytes: Uint8Array<ArrayBuffer>,
  random: Random,
): Promise<void> {
  const cut = random.u32() % 4 === 0 && bytes.length > 1
    ? 1 + random.u32() % (bytes.length - 1)
    : 0;
  if (cut > 0) await connection.send(bytes, 0, cut);
  if (bytes.length > cut) await connection.send(bytes, cut, bytes.length);
  const kind = random.u32() % 8;
  const answer = new Uint8Array(new ArrayBuffer(256));
  // Not more than there is for sure: the hello. Behind it there may be nothing for as long as a server waits.
  if (kind < 4) await connection.receive(answer, 0, 4);
  if (kind === 0 || kind === 3) {
    // What comes next is an answer, the end or nothing; either is worth a moment, so that tests begin too.
    await Promise.resolve(connection.receive(answer, 0, 256, AbortSignal.timeout(20))).catch(
      () => {},
    );
  }
  if (kind === 1) connection.end();
  // Unread bytes, or the word itself, make a reset of it: no address is left waiting in the system's tables.
  await connection.close(kind === 2 || !connection.traits.reset ? {} : { reset: true });
}

/** Runs tests of every kind, one after the other and some at once. */
async function cycles(driver: Driver, workers: number, count: number): Promise<object> {
  const one = await server(driver, "none", workers);
  const target = `127.0.0.1:${one.addresses[0]!.port}`;
  const once = async (i: number): Promise<void> => {
    const protocol = i % 4 === 3 ? "udp" : "tcp";
    const connections = i % 5 === 4 ? 4 : 1;
    const direction = (["receive", "transmit", "both"] as const)[i % 3]!;
    const abort = new AbortController();
    await run(target, {
      ...{ driver, workers, protocol, connections, direction },
      // Whatever was sent has to be taken before the end: little, so that the machine is not what is tested.
      ...{ localTxSpeedBps: 20_000_000, remoteTxSpeedBps: 20_000_000 },
      signal: abort.signal,
      onStart: () => abort.abort(),
    });
  };
  const tenAtOnce = async (): Promise<void> => {
    await Promise.all(Array.from({ length: Math.min(10, count) }, (_, i) => once(i)));
  };
  for (let i = 0; i < Math.min(20, count); i++) await once(i);
  await tenAtOnce();
  const before = await measured();
  for (let i = 0; i < count; i++) await once(i);
  await tenAtOnce();
  const after = await measured(before.descriptors);
  await until(() => one.snapshot().testsRunning === 0);
  const { testsStarted, testsEnded } = one.snapshot();
  equal(testsStarted, testsEnded);
  ok(testsStarted > count / 2, `only ${testsStarted} tests began`);
  return await summary([one], before, after);
}

async function server(
  driver: Driver,
  auth: "none" | "md5" | "ecsrp5",
  workers = 0,
): Promise<BtestServer> {
  const accounts = new MemoryAccounts();
  accounts.set("admin", "secret", { md5: true });
  return await serve({
    listen: ["127.0.0.1:0"],
    ...{ driver, workers, auth, accounts },
    maxSessionsPerAddress: 0,
    commandTimeoutMs: 1000,
    joinTimeoutMs: 200,
    udpStartBps: 1_000_000,
    udpPortStart: 24_000 + Deno.pid % 20_000,
  });
}

/** A test that must run. */
async function ordinary(one: BtestServer, driver: Driver, workers: number): Promise<void> {
  const result = await run(`127.0.0.1:${one.addresses[0]!.port}`, {
    ...{ driver, workers, user: "admin", password: "secret" },
    durationMs: 30,
    remoteTxSpeedBps: 20_000_000,
  });
  equal(result.reason, "duration");
  ok(result.rxBytes > 0);
}

/** A connection, tried again when the system has no place for one just now. */
async function connect(host: StreamHost, to: BtestServer): Promise<StreamConnection> {
  for (let tries = 0;; tries++) {
    try {
      return await host.connect({ remote: to.addresses[0]! });
    } catch (error) {
      if (tries === 50) throw error;
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }
}

interface Kept {
  readonly descriptors: number;
  readonly heapBytes: number;
  readonly rssBytes: number;
}

/** What the process holds, once it has hardly more descriptors than wanted or five seconds have passed. */
async function measured(wanted = Infinity): Promise<Kept> {
  await until(
    () => wanted !== Infinity && descriptors() <= wanted + 2,
    wanted === Infinity ? 200 : 5000,
  );
  (globalThis as unknown as { gc(): void }).gc();
  const { heapUsed, rss } = Deno.memoryUsage();
  return { descriptors: descriptors(), heapBytes: heapUsed, rssBytes: rss };
}

/** Open sockets and the like. Not files: the runtime opens caches of its own whenever it likes. */
function descriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].filter(({ name }) => {
    try {
      return !Deno.readLinkSync(`/proc/self/fd/${name}`).startsWith("/");
    } catch {
      return false; // the directory itself, which is closed by now
    }
  }).length;
}

async function until(condition: () => boolean, patienceMs = 10_000): Promise<void> {
  const deadline = performance.now() + patienceMs;
  while (!condition() && performance.now() < deadline) {
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

async function summary(
  servers: readonly BtestServer[],
  before: Kept,
  after: Kept,
): Promise<object> {
  const counts = servers.map((one) => one.snapshot());
  for (const one of servers) await one.close();
  const sum = (pick: (count: typeof counts[number]) => number): number =>
    counts.reduce((total, count) => total + pick(count), 0);
  const answer: Endurance = {
    accepted: sum(({ connectionsAccepted }) => connectionsAccepted),
    started: sum(({ testsStarted }) => testsStarted),
    failed: sum(({ handshakesFailed }) => handshakesFailed),
    heapBytes: after.heapBytes - before.heapBytes,
    grownBytes: after.rssBytes - before.rssBytes,
    descriptors: after.descriptors - before.descriptors,
  };
  equal(sum(({ testsRunning }) => testsRunning), 0);
  return answer;
}

async function main(): Promise<void> {
  const [mode, driver, workers, count, seed] = Deno.args;
  const numbers = [Number(workers), Number(count), Number(seed)] as const;
  const answer = mode === "fire"
    ? await fire(driver as Driver, ...numbers)
    : await cycles(driver as Driver, numbers[0], numbers[1]);
  console.log(JSON.stringify(answer));
}

if (import.meta.main) main();
