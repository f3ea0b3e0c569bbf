/** Many at once, and many after each other. */
import { equal, ok } from "node:assert/strict";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { ack, type RawPeer, request } from "./testdata/raw_peer.ts";
import { type Bench, endure, EVERY_ROW, pattern, STILL, sum } from "./testdata/server_bench.ts";

/** `FASTWIRE_LONG=1` for the full numbers on every driver. */
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

const SUITE: ContractCase<Bench>[] = [
  ["completes hundreds of transfers at once, a thousand on the kernel's loop", async (bench) => {
    const sessions = LONG || bench.driver === "fast" && bench.row.workers === 0 ? 1000 : 200;
    const content = pattern(20_000);
    bench.file("file", content);
    const { to, ended, server } = await bench.serve();
    const client = await bench.client(to, {
      windowSize: 4,
      blockSize: 1000,
      receiveBufferBytes: 65536,
    });
    const hash = sum(content);
    const all = await Promise.all(
      Array.from({ length: sessions }, () => client.get("file")),
    );
    for (const came of all) equal(sum(came), hash);
    equal((await ended(sessions)).outcome, "done");
    // Not "nothing failed": on a busy machine a client repeats its request, and the copy that comes after the end is a
    // transfer nobody wants.
    equal(server.snapshot().transfersCompleted, sessions);
  }],

  ["holds many sessions open on a single port", async (bench) => {
    const sessions = bench.driver === "fast" || LONG ? 1000 : 200;
    bench.file("file", pattern(1000));
    const { to, server, ended } = await bench.serve({ singlePort: true, retry: STILL });
    const peers: RawPeer[] = [];
    for (let i = 0; i < sessions / 10; i++) peers.push(await bench.peer(to, `127.0.1.${i % 250}`));
    for (const peer of peers) peer.send(request("read", "file", ["blksize=600"]));
    for (const peer of peers) equal(await peer.hear(), "OACK blksize=600");
    equal((await server.sessions()).length, peers.length);
    for (const peer of peers) peer.send(ack(0));
    for (const peer of peers) equal(await peer.hear(), "DATA 1 600");
    for (const peer of peers) peer.send(ack(1));
    for (const peer of peers) equal(await peer.hear(), "DATA 2 400");
    for (const peer of peers) peer.send(ack(2));
    equal((await ended(peers.length)).outcome, "done");
  }],
];

runContract("TFTP server", SUITE, {
  "linux": EVERY_ROW["linux"]!,
  "linux threads": EVERY_ROW["linux threads"]!,
  "node": EVERY_ROW["node"]!,
});
const CYCLES = { "linux": LONG ? 10_000 : 3000, "node": LONG ? 10_000 : 1000 };
for (const [row, cycles] of Object.entries(CYCLES)) {
  Deno.test({
    name: `TFTP server on ${row} leaves descriptors and memory where they were`,
    ignore: EVERY_ROW[row]!.missing() !== "",
    fn: async () => {
      const result = await endure("cycles", row, cycles, 1);
      equal(result.completed, cycles);
      ok(result.descriptors <= 0, `${result.descriptors} descriptors more`);
      // The collector's young generation takes some 70 MiB within 15,000 transfers, and nothing from then on.
      ok(result.grownBytes < 160 * 1024 * 1024, `${result.grownBytes} bytes more`);
    },
  });
}
