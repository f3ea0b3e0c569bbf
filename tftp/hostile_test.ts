/** A server under fire: random and bent datagrams at its listening port and at a running transfer. */
import { equal, ok } from "node:assert/strict";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import type { Endurance } from "./testdata/endurance.ts";
import { error, type RawPeer, request } from "./testdata/raw_peer.ts";
import { type Bench, endure, EVERY_ROW, pattern, until } from "./testdata/server_bench.ts";

const SHORT = 12_000;
/** `deno task test:hostile` sends a million. */
const DATAGRAMS = Number(Deno.env.get("FASTWIRE_HOSTILE_DATAGRAMS") ?? SHORT);
const ALL = DATAGRAMS > SHORT;
const SEED = Number(Deno.env.get("FASTWIRE_SEED") ?? Date.now() % 1_000_007);
/**
 * What the process may grow by; garbage that was not collected yet is most of it. The portable driver's receive buffers
 * are the runtime's, 64 KiB for each socket and packet: with them the process levels off near 500 MiB.
 */
const GROWTH_BYTES = { fast: 192 * 1024 * 1024, portable: 600 * 1024 * 1024 } as const;

const { "linux": linux, "linux thread": thread, "node": node } = EVERY_ROW;

for (
  const [row, share] of [["linux", 0.5], ["linux thread", 0.3], ["node", 0.2]] as const
) {
  const driver = EVERY_ROW[row]!;
  // One port or many is decided above the drivers.
  for (const singlePort of row === "linux" || ALL ? [false, true] : [false]) {
    // The seed says which mode it is, so that it is all that a replay needs.
    const seed = 4 * Math.floor(SEED / 4) + (singlePort ? 0 : 1);
    Deno.test({
      name: `TFTP server on ${row} survives hostile datagrams${singlePort ? " on one port" : ""}`,
      ignore: driver.missing() !== "",
      fn: async () => {
        const count = Math.floor(DATAGRAMS * share * (singlePort ? 0.3 : 0.7));
        const result: Endurance = await endure("fire", row, count, seed);
        ok(result.received > count / 10);
        const limit = GROWTH_BYTES[row === "node" ? "portable" : "fast"];
        ok(result.grownBytes < limit, `${result.grownBytes} bytes more, seed ${seed}`);
      },
    });
  }
}

const SUITE: ContractCase<Bench>[] = [
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
    equal(busy, 30);
    ok((await server.sessions()).length <= 50);
    for (const peer of peers) peer.send(error(0, "never mind"));
    await until(() => records.length === 50, "every transfer to be over");
    equal((await server.sessions()).length, 0);
  }],
];

runContract("TFTP server", SUITE, { "linux": linux!, "linux thread": thread!, "node": node! });
