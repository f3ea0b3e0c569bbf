/**
 * What a process keeps after a server in it was shot at, or has served many: its own program, because the memory and the
 * descriptors of a process are shared by every test in it.
 *
 * Arguments: `fire` or `cycles`, the row, how often, the seed. Answers one line of JSON, or fails with words.
 *
 * @module
 */
import { equal } from "node:assert/strict";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { seededRandom } from "../../internal/random.ts";
import { ack, data, error, oack, type RawPeer, request } from "./raw_peer.ts";
import { type Bench, EVERY_ROW, namesOf, pattern, sum, until } from "./server_bench.ts";

/** What is measured. */
export interface Endurance {
  /** Datagrams the server has received. */
  readonly received: number;
  /** Transfers it has completed. */
  readonly completed: number;
  /** How much larger the process is, bytes. */
  readonly grownBytes: number;
  /** How many more sockets and files it has open. */
  readonly descriptors: number;
}

const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };

/** What an upload would be called that got out of the root; the folder above is everybody's. */
const OUTSIDE = `fastwire-outside-${Deno.pid}`;
const GOOD: readonly Uint8Array[] = [
  request("read", "file", ["blksize=1432", "tsize=0"]),
  request("read", "file", ["windowsize=64", "timeout=1", "rollover=1", "blksize2=1024"]),
  request("read", "../../../../etc/passwd"),
  request("write", "up", ["tsize=5"]),
  request("write", `up/../../${OUTSIDE}`),
  request("read", "file", [], "netascii"),
  data(1, 512),
  data(65535, 8),
  ack(0),
  ack(1),
  oack("blksize=512"),
  error(8, "no"),
];

/** Throws datagrams at the listening port and at a running transfer; the server must serve as before. */
async function fire(bench: Bench, count: number, seed: number): Promise<Endurance> {
  const content = pattern(100_000);
  bench.file("file", content);
  const { to, server } = await bench.serve({
    singlePort: seed % 4 === 0,
    write: ANY,
    limits: { maxTransfers: 300 },
    retry: { maxIdleMs: 1000, maxRetries: 1, initialTimeoutMs: 20, maxTimeoutMs: 50 },
  });
  const packets = new HostilePackets(seededRandom(seed), GOOD, 1600);
  const shooters: RawPeer[] = [];
  for (let i = 0; i < 8; i++) shooters.push(await bench.peer(to));
  const victim = await bench.peer(to);
  const next = (): Uint8Array => {
    packets.next();
    return packets.bytes.subarray(packets.start, packets.end);
  };
  let transfer = to;
  const before = Deno.memoryUsage().rss;
  for (let sent = 0; sent < count;) {
    if (sent % 2000 === 0) {
      // A transfer that lives while it is shot at from its own port and from others.
      victim.send(request("read", "file", [`blksize=${512 + sent / 2000 % 100}`]), to);
      const patience = performance.now() + 200;
      while (victim.waiting === 0 && performance.now() < patience) await turn();
      if (victim.waiting > 0) transfer = (await victim.receive()).from;
    }
    for (let i = 0; i < 100; i++, sent++) {
      const kind = sent % 8;
      if (kind < 5) shooters[sent % shooters.length]!.send(next(), to);
      else if (kind === 5) shooters[0]!.send(next(), transfer);
      else victim.send(next(), transfer);
    }
    // Everybody reads their answers; otherwise only the network's buffers would be tested.
    await turn();
    for (const peer of [...shooters, victim]) while (peer.waiting > 0) await peer.receive();
  }
  await until(() => server.snapshot().datagramsReceived > count / 10, "datagrams to arrive");
  const client = await bench.client(to, { windowSize: 8, blockSize: 1000 });
  equal(sum(await client.get("file")), sum(content));
  await client.put("afterwards", content);
  equal(sum(await client.get("afterwards")), sum(content));
  // Whatever was uploaded is inside.
  const above = bench.root.slice(0, bench.root.lastIndexOf("/"));
  equal(namesOf(above).includes(OUTSIDE), false);
  const counts = server.snapshot();
  return {
    received: counts.datagramsReceived,
    completed: counts.transfersCompleted,
    grownBytes: Deno.memoryUsage().rss - before,
    descriptors: 0,
  };
}

/** Serves a tiny file again and again. */
async function cycles(bench: Bench, count: number): Promise<Endurance> {
  bench.file("tiny", "tiny");
  const { to, server, ended } = await bench.serve();
  // Raw packets: a client's own sockets would only blur what is counted.
  const peers: RawPeer[] = [];
  for (let i = 0; i < 20; i++) peers.push(await bench.peer(to));
  const round = async (): Promise<void> => {
    for (const peer of peers) peer.send(request("read", "tiny"), to);
    for (const peer of peers) {
      const { words, from } = await peer.receive();
      equal(words, "DATA 1 4");
      peer.send(ack(1), from);
    }
  };
  let rounds = 0;
  while (rounds < 50) {
    await round();
    await ended(++rounds * peers.length);
  }
  const before = { descriptors: descriptors(bench.root), rss: Deno.memoryUsage().rss };
  for (; rounds * peers.length < count; rounds++) await round();
  equal((await ended(rounds * peers.length)).outcome, "done");
  await until(() => descriptors(bench.root) <= before.descriptors, "sockets to be closed");
  equal((await server.sessions()).length, 0);
  const counts = server.snapshot();
  return {
    received: counts.datagramsReceived,
    completed: counts.transfersCompleted,
    grownBytes: Deno.memoryUsage().rss - before.rss,
    descriptors: descriptors(bench.root) - before.descriptors,
  };
}

/** Datagram sockets of this process and its open files of the root; the runtime opens others when it likes. */
function descriptors(root: string): number {
  const sockets = new Set<string>();
  for (const table of ["udp", "udp6"]) {
    for (const line of Deno.readTextFileSync(`/proc/net/${table}`).split("\n").slice(1)) {
      sockets.add(`socket:[${line.trim().split(/\s+/)[9]}]`);
    }
  }
  return namesOf("/proc/self/fd").filter((number) => {
    try {
      const target = Deno.readLinkSync(`/proc/self/fd/${number}`);
      return sockets.has(target) || target.startsWith(root);
    } catch {
      // The one that the folder was read through.
      return false;
    }
  }).length;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}

async function main(): Promise<void> {
  const [what, row, count, seed] = Deno.args;
  const driver = EVERY_ROW[row!]!;
  const bench = await driver.open() as Bench;
  try {
    const result = what === "fire"
      ? await fire(bench, Number(count), Number(seed))
      : await cycles(bench, Number(count));
    console.log(JSON.stringify(result));
  } finally {
    await driver.close!(bench);
  }
}

if (import.meta.main) void main();
