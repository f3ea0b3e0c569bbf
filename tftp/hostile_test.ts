/** A server under fire: random and bent datagrams at its listening port and at a running transfer. */
import { equal, ok } from "node:assert/strict";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { HostilePackets } from "../internal/testing/hostile.ts";
import { seededRandom } from "../internal/random.ts";
import { ack, data, error, oack, RawPeer, request } from "./testdata/raw_peer.ts";
import { type Bench, EVERY_ROW, pattern, sum, until } from "./testdata/server_bench.ts";

/** `FASTWIRE_HOSTILE_DATAGRAMS=1000000` for the long run. */
const DATAGRAMS = Number(Deno.env.get("FASTWIRE_HOSTILE_DATAGRAMS") ?? 100_000);
const SEED = Number(Deno.env.get("FASTWIRE_SEED") ?? Date.now() % 1_000_000_007);
/**
 * What the process may grow by; garbage that was not collected yet is most of it. The portable driver's receive buffers
 * are the runtime's, 64 KiB for each socket and packet: with them the process levels off near 500 MiB.
 */
const GROWTH_BYTES = { fast: 96 * 1024 * 1024, portable: 512 * 1024 * 1024 } as const;

const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };

const GOOD: readonly Uint8Array[] = [
  request("read", "file", ["blksize=1432", "tsize=0"]),
  request("read", "file", ["windowsize=64", "timeout=1", "rollover=1", "blksize2=1024"]),
  request("read", "../../../../etc/passwd"),
  request("write", "up", ["tsize=5"]),
  request("write", "up/../../x"),
  request("read", "file", [], "netascii"),
  data(1, 512),
  data(65535, 8),
  ack(0),
  ack(1),
  oack("blksize=512"),
  error(8, "no"),
];

/** Throws datagrams of a share of the budget at two places and shows that the server neither breaks nor grows. */
async function underFire(bench: Bench, share: number, singlePort: boolean): Promise<void> {
  const count = Math.floor(DATAGRAMS * share);
  const content = pattern(100_000);
  bench.file("file", content);
  const { to, server } = await bench.serve({
    singlePort,
    write: ANY,
    limits: { maxTransfers: 300 },
    retry: { maxIdleMs: 1000, maxRetries: 1, initialTimeoutMs: 20, maxTimeoutMs: 50 },
  });
  const packets = new HostilePackets(seededRandom(SEED), GOOD, 1600);
  const shooters: RawPeer[] = [];
  for (let i = 0; i < 8; i++) shooters.push(await bench.peer(to));
  const victim = await bench.peer(to);
  const next = (): Uint8Array => {
    packets.next();
    return packets.bytes.subarray(packets.start, packets.end);
  };
  let transfer = to;
  const before = Deno.memoryUsage().rss;
  let sent = 0;
  try {
    while (sent < count) {
      if (sent % 2000 === 0) {
        // A transfer that lives while it is shot at from its own port and from others.
        victim.send(request("read", "file", [`blksize=${512 + sent % 100}`]), to);
        const until = performance.now() + 200;
        while (victim.waiting === 0 && performance.now() < until) {
          await new Promise((resolve) => setTimeout(resolve, 1));
        }
        if (victim.waiting > 0) transfer = (await victim.receive()).from;
      }
      for (let i = 0; i < 100; i++, sent++) {
        const kind = sent % 8;
        if (kind < 5) shooters[sent % shooters.length]!.send(next(), to);
        else if (kind === 5) shooters[0]!.send(next(), transfer);
        else victim.send(next(), transfer);
      }
      // Everybody reads their answers; otherwise only the network's buffers would be tested.
      await new Promise((resolve) => setTimeout(resolve, 0));
      for (const peer of [...shooters, victim]) while (peer.waiting > 0) await peer.receive();
    }
    const client = await bench.client(to, { windowSize: 8, blockSize: 1000 });
    await until(() => server.snapshot().datagramsReceived > count / 10, "datagrams to arrive");
    equal(sum(await client.get("file")), sum(content));
    await client.put("afterwards", content);
    equal(sum(await client.get("afterwards")), sum(content));
    const grown = Deno.memoryUsage().rss - before;
    ok(grown < GROWTH_BYTES[bench.driver], `${grown} bytes more`);
    // Whatever was uploaded is inside.
    const outside = `${bench.root.slice(0, bench.root.lastIndexOf("/"))}/x`;
    equal(await Deno.stat(outside).then(() => true, () => false), false);
  } catch (failure) {
    throw new Error(`with FASTWIRE_SEED=${SEED}`, { cause: failure });
  }
}

const SUITE: ContractCase<Bench>[] = [
  ["survives hostile datagrams", (bench) => underFire(bench, 0.2, false)],
  ["survives hostile datagrams on a single port", (bench) => underFire(bench, 0.05, true)],

  ["keeps to its limits in a flood of requests that nobody follows up", async (bench) => {
    bench.file("file", pattern(1000));
    const { to, server, records } = await bench.serve({
      limits: { maxTransfers: 50 },
      retry: { maxIdleMs: 1000, maxRetries: 1, initialTimeoutMs: 50, maxTimeoutMs: 100 },
    });
    const peers: RawPeer[] = [];
    for (let i = 0; i < 80; i++) peers.push(await bench.peer(to));
    for (const peer of peers) peer.send(request("read", "file", ["blksize=1000"]));
    const words: string[] = [];
    for (const peer of peers) words.push(await peer.hear());
    const busy = words.filter((text) => text === "ERROR 0 server busy").length;
    // Two threads count for themselves.
    const allowed = 50 * Math.max(1, server.workers);
    equal(busy, Math.max(0, 80 - allowed));
    ok((await server.sessions()).length <= allowed);
    for (const peer of peers) peer.send(error(0, "never mind"));
    await until(() => records.length === 80 - busy, "every transfer to be over");
    deepEmpty(await server.sessions());
  }],
];

function deepEmpty(list: readonly unknown[]): void {
  equal(list.length, 0);
}

runContract("TFTP server", SUITE, {
  "linux": EVERY_ROW["linux"]!,
  "linux thread": EVERY_ROW["linux thread"]!,
  "node": EVERY_ROW["node"]!,
});
