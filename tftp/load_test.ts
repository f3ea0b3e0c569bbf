/** Many at once, and many after each other. */
import { equal, ok } from "node:assert/strict";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { ack, RawPeer, request } from "./testdata/raw_peer.ts";
import {
  type Bench,
  BOTH_DRIVERS,
  EVERY_ROW,
  pattern,
  sum,
  until,
} from "./testdata/server_bench.ts";

/** `FASTWIRE_LOAD=1` for the full numbers on every driver. */
const FULL = Deno.env.get("FASTWIRE_LOAD") === "1";

/** Open descriptors of this process. */
function descriptors(): number {
  return [...Deno.readDirSync("/proc/self/fd")].length;
}

const SUITE: ContractCase<Bench>[] = [
  ["completes 1,000 transfers that run at once", async (bench) => {
    const sessions = bench.driver === "fast" || FULL ? 1000 : 300;
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
    equal(server.snapshot().transfersFailed, 0);
  }],

  ["holds many sessions open on a single port", async (bench) => {
    const sessions = bench.driver === "fast" || FULL ? 1000 : 200;
    bench.file("file", pattern(1000));
    const { to, server, ended } = await bench.serve({ singlePort: true });
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

const CYCLES: ContractCase<Bench>[] = [
  ["leaves descriptors and memory where they were after many transfers", async (bench) => {
    const cycles = FULL ? 10_000 : bench.driver === "fast" ? 10_000 : 1500;
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
    for (; rounds < 50; rounds++) await round();
    await ended(rounds * peers.length);
    const before = { descriptors: descriptors(), rss: Deno.memoryUsage().rss };
    for (; rounds * peers.length < cycles; rounds++) await round();
    equal((await ended(rounds * peers.length)).outcome, "done");
    await until(() => descriptors() <= before.descriptors, "sockets to be closed");
    equal((await server.sessions()).length, 0);
    const grown = Deno.memoryUsage().rss - before.rss;
    // The collector's young generation takes some 70 MiB within 15,000 transfers, and nothing from then on.
    ok(grown < 128 * 1024 * 1024, `${grown} bytes more`);
    equal(server.snapshot().transfersCompleted, rounds * peers.length);
  }],
];

runContract("TFTP server", SUITE, {
  "linux": EVERY_ROW["linux"]!,
  "linux threads": EVERY_ROW["linux threads"]!,
  "node": EVERY_ROW["node"]!,
});
runContract("TFTP server", CYCLES, BOTH_DRIVERS);

Deno.test("serve() and close() leave no descriptor behind", async () => {
  const missing = EVERY_ROW["linux"]!.missing();
  const rows = missing === "" ? ["linux", "linux threads", "node"] : ["node"];
  for (const name of rows) {
    // The first round loads what stays loaded.
    let most = 0;
    for (let i = 0; i < 4; i++) {
      const bench = await EVERY_ROW[name]!.open() as Bench;
      bench.file("tiny", "tiny");
      const { to } = await bench.serve();
      await (await bench.client(to)).get("tiny");
      await EVERY_ROW[name]!.close!(bench);
      if (i === 0) most = descriptors();
      // A thread's own descriptors go when the runtime has taken it apart.
      else await until(() => descriptors() <= most, `${name}: at most ${most} descriptors`);
    }
  }
});
