// The first half of the datagram contract: what is sent is what arrives, and where from. The second, about errors,
// waiting and ends, is in datagram_life_contract_test.ts.

import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { createSocket } from "node:dgram";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import {
  equalAddress,
  formatAddress,
  readAddress,
  type SocketAddress,
  writeAddress,
} from "./address.ts";
import { BROADCAST_PORT, type DatagramSocket } from "./datagram.ts";
import {
  collect,
  DRIVERS,
  LOOPBACK,
  LOOPBACK6,
  open,
  pattern,
  put,
  type Subject,
} from "./testdata/datagram_subject.ts";

/** Sends a run and sees every datagram of it arrive, in order. */
async function runArrives(
  given: Subject,
  bytes: number,
  segment: number,
  options: { readonly coalesce?: boolean; readonly segment?: boolean } = {},
): Promise<{ from: DatagramSocket; to: DatagramSocket }> {
  const from = await open(given, LOOPBACK, { segment: options.segment ?? true });
  const { coalesce = false } = options;
  const to = await open(given, LOOPBACK, { coalesce, receiveBufferBytes: 1 << 20 });
  const batch = given.host.createBatch(1, Math.max(1, bytes));
  const run = pattern(bytes);
  put(batch, to.local, run, segment);
  equal(from.send(batch), 1);
  const expected: Uint8Array[] = [];
  for (let at = 0; at < bytes; at += segment) expected.push(run.slice(at, at + segment));
  const { datagrams } = await collect(given, to, expected.length);
  deepEqual(datagrams.map((datagram) => datagram.length), expected.map((one) => one.length));
  deepEqual(datagrams, expected);
  await given.until(() => from.counters().datagramsSent === expected.length, "the count sent");
  equal(to.counters().datagramsReceived, expected.length);
  return { from, to };
}

const SUITE: readonly ContractCase<Subject>[] = [
  ["carries a datagram there and back", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const batch = given.host.createBatch(1, 100);
    put(batch, b.local, pattern(9));
    equal(a.send(batch), 1);
    const there = await collect(given, b, 1);
    deepEqual(there.datagrams, [pattern(9)]);
    deepEqual(there.peers, [a.local]);
    batch.count = 0;
    put(batch, there.peers[0]!, pattern(5, 1));
    b.send(batch);
    deepEqual((await collect(given, a, 1)).datagrams, [pattern(5, 1)]);
  }],

  ["keeps the order of a batch", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const batch = given.host.createBatch(40, 64);
    for (let i = 0; i < 40; i++) put(batch, b.local, Uint8Array.of(i, i + 1));
    equal(a.send(batch), 40);
    const { datagrams } = await collect(given, b, 40, 7);
    deepEqual(datagrams.map((bytes) => bytes[0]), Array.from({ length: 40 }, (_, i) => i));
  }],

  ["sends from the entry it is told", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const batch = given.host.createBatch(3, 64);
    for (let i = 0; i < 3; i++) put(batch, b.local, Uint8Array.of(i));
    equal(a.send(batch, 3), 0);
    equal(a.send(batch, 1), 2);
    deepEqual((await collect(given, b, 2)).datagrams, [Uint8Array.of(1), Uint8Array.of(2)]);
  }],

  ["carries an empty datagram", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const batch = given.host.createBatch(2, 64);
    put(batch, b.local, new Uint8Array(0));
    put(batch, b.local, new Uint8Array(0), 512);
    equal(a.send(batch), 2);
    const { datagrams } = await collect(given, b, 2);
    deepEqual(datagrams.map((bytes) => bytes.length), [0, 0]);
  }],

  ["carries the largest datagram of IPv4, into a batch of one as well", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const batch = given.host.createBatch(1, 65_507);
    put(batch, b.local, pattern(65_507));
    for (const capacity of [1, 2]) {
      a.send(batch);
      const { datagrams, peers } = await collect(given, b, 1, capacity);
      deepEqual(datagrams, [pattern(65_507)]);
      deepEqual(peers, [a.local]);
    }
  }],

  ["cuts a run into equal datagrams, the last one shorter", async (given) => {
    await runArrives(given, 537, 100);
    await runArrives(given, 500, 100);
    await runArrives(given, 101, 100);
    await runArrives(given, 100, 100);
  }],

  ["cuts a run of more than 64 datagrams and 64 KiB", async (given) => {
    await runArrives(given, 130 * 600 + 1, 600);
  }],

  ["cuts a run of hundreds of datagrams, with and without offload", async (given) => {
    // More than one array of messages; as many as its default receive buffer holds where it cannot be enlarged.
    const count = given.host.traits.driver === "linux" ? 400 : 200;
    await runArrives(given, count * 8, 8);
    await runArrives(given, count * 8, 8, { segment: false });
  }],

  ["cuts a run whose segments do not fit together", async (given) => {
    await runArrives(given, 2 * 40_000 + 3, 40_000);
  }],

  ["receives a run coalesced where it can, and loses nothing of it", async (given) => {
    const { to } = await runArrives(given, 20 * 1000 + 7, 1000, { coalesce: true });
    equal(to.traits.coalescing, given.host.traits.coalescing);
    if (to.traits.coalescing) ok(to.counters().receiveCalls < 21);
  }],

  [
    "takes heads: the beginning of each datagram or run, and the length of the whole",
    async (given) => {
      const from = await open(given);
      const to = await open(given, LOOPBACK, { coalesce: true, receiveBufferBytes: 1 << 20 });
      const out = given.host.createBatch(3, 20 * 1000);
      put(out, to.local, pattern(20 * 1000 - 3), 1000);
      put(out, to.local, pattern(7));
      put(out, to.local, new Uint8Array(0));
      from.send(out);
      const heads = given.host.createBatch(3, 4, true);
      let bytes = 0, datagrams = 0;
      to.watch(() => {});
      await given.until(() => {
        while (to.receiveNow(heads) > 0) {
          for (let i = 0; i < heads.count; i++) {
            const [start, length, segment] = [
              heads.starts[i]!,
              heads.lengths[i]!,
              heads.segments[i]!,
            ];
            equal(start, heads.slab.startOf(i));
            // Neither a run nor a datagram of it begins anywhere but at a multiple of the segment.
            const expected = pattern(bytes + 4).slice(bytes);
            if (length > 7) deepEqual(heads.slab.bytes.slice(start, start + 4), expected);
            bytes += length;
            datagrams += segment === 0 ? 1 : Math.ceil(length / segment);
          }
        }
        return datagrams >= 22;
      }, "all datagrams");
      equal(bytes, 20 * 1000 - 3 + 7);
      equal(datagrams, 22);
      equal(to.counters().datagramsTruncated, 0);
      equal(to.counters().datagramsReceived, 22);
    },
  ],

  ["refuses slots that are too small for what it coalesces", async (given) => {
    const to = await open(given, LOOPBACK, { coalesce: true });
    const small = given.host.createBatch(2, 1500);
    if (to.traits.coalescing) throws(() => to.receiveNow(small), RangeError);
    else equal(to.receiveNow(small), 0);
  }],

  ["sends runs and datagrams to several peers in one call, in order for each", async (given) => {
    const from = await open(given);
    const peers = [await open(given), await open(given), await open(given)];
    const batch = given.host.createBatch(6, 400);
    for (let i = 0; i < 6; i++) {
      const bytes = pattern(i % 2 === 0 ? 350 : 30, i);
      put(batch, peers[i % 3]!.local, bytes, i % 2 === 0 ? 100 : 0);
    }
    equal(from.send(batch), 6);
    for (const [i, peer] of peers.entries()) {
      const [run, one] = i % 2 === 0 ? [i, i + 3] : [i + 3, i];
      const whole = pattern(350, run);
      const parts = [0, 100, 200, 300].map((at) => whole.slice(at, Math.min(350, at + 100)));
      const expected = run < one ? [...parts, pattern(30, one)] : [pattern(30, one), ...parts];
      deepEqual((await collect(given, peer, 5)).datagrams, expected);
    }
    if (from.traits.segmentation) equal(from.counters().sendCalls, 1);
  }],

  ["lets the bytes be overwritten as soon as send returns", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const batch = given.host.createBatch(4, 1000);
    for (let i = 0; i < 3; i++) put(batch, b.local, pattern(900, i));
    put(batch, b.local, pattern(900, 3), 300);
    a.send(batch);
    batch.slab.bytes.fill(0xdd);
    batch.peers.setUint32(0, 0xdddddddd);
    const { datagrams } = await collect(given, b, 6);
    const last = pattern(900, 3);
    deepEqual(datagrams, [
      pattern(900, 0),
      pattern(900, 1),
      pattern(900, 2),
      last.slice(0, 300),
      last.slice(300, 600),
      last.slice(600),
    ]);
  }],

  ["tells a stranger's address exactly", async (given) => {
    const server = await open(given, { ...LOOPBACK, address: "0.0.0.0" });
    const friend = await open(given);
    const stranger = await open(given, { ...LOOPBACK, address: "127.0.0.3" });
    const to = { ...LOOPBACK, port: server.local.port };
    const batch = given.host.createBatch(1, 64);
    put(batch, to, pattern(1));
    friend.send(batch);
    const first = await collect(given, server, 1);
    stranger.send(batch);
    const second = await collect(given, server, 1);
    deepEqual(first.peers, [friend.local]);
    deepEqual(second.peers, [stranger.local]);
    equal(formatAddress(second.peers[0]!), `127.0.0.3:${stranger.local.port}`);
  }],

  ["speaks IPv6", async (given) => {
    const [a, b] = [await open(given, LOOPBACK6), await open(given, LOOPBACK6)];
    const batch = given.host.createBatch(2, 1000);
    put(batch, b.local, pattern(100));
    put(batch, b.local, pattern(500), 200);
    equal(a.send(batch), 2);
    const { datagrams, peers } = await collect(given, b, 4);
    deepEqual(datagrams.map((bytes) => bytes.length), [100, 200, 200, 100]);
    deepEqual(peers[0], a.local);
    equal(a.local.address, "::1");
  }],

  ["takes IPv4 on a dual-stack socket as mapped addresses and answers them", async (given) => {
    const server = await open(given, { ...LOOPBACK6, address: "::" }, { dualStack: true });
    const client = await open(given);
    const batch = given.host.createBatch(2, 500);
    put(batch, { ...LOOPBACK, port: server.local.port }, pattern(3));
    client.send(batch);
    const { peers } = await collect(given, server, 1);
    deepEqual(peers, [{ ...client.local, family: "ipv6", address: "::ffff:127.0.0.1" }]);
    batch.count = 0;
    put(batch, peers[0]!, pattern(4));
    put(batch, peers[0]!, pattern(250), 100);
    server.send(batch);
    const back = await collect(given, client, 4);
    deepEqual(back.datagrams.map((bytes) => bytes.length), [4, 100, 100, 50]);
    deepEqual(back.peers[0], { ...LOOPBACK, port: server.local.port });
  }],

  ["keeps IPv4 out of an IPv6 socket that is not dual-stack", async (given) => {
    const server = await open(given, { ...LOOPBACK6, address: "::" });
    const neighbor = await open(given, {
      ...LOOPBACK,
      address: "0.0.0.0",
      port: server.local.port,
    });
    const client = await open(given);
    const batch = given.host.createBatch(1, 64);
    put(batch, { ...LOOPBACK, port: server.local.port }, pattern(3));
    client.send(batch);
    await collect(given, neighbor, 1);
    equal(server.receiveNow(given.host.createBatch(1, 64)), 0);
  }],

  ["knows which of its addresses was asked, and answers from it", async (given) => {
    for (const dualStack of [false, true]) {
      const any: SocketAddress = dualStack
        ? { ...LOOPBACK6, address: "::" }
        : { ...LOOPBACK, address: "0.0.0.0" };
      const server = await open(given, any, { packetInfo: true, dualStack });
      equal(server.traits.packetInfo, given.host.traits.packetInfo);
      const client = await open(given);
      const asked = { ...LOOPBACK, address: "127.0.0.9", port: server.local.port };
      const batch = given.host.createBatch(1, 400);
      put(batch, asked, pattern(3));
      client.send(batch);
      const reply = given.host.createBatch(1, 400);
      server.watch(() => {});
      await given.until(() => server.receiveNow(reply) === 1, "the question");
      const text = readAddress(reply.locals, 0).address;
      if (!server.traits.packetInfo) {
        equal(reply.locals.getUint16(0), 0);
        continue;
      }
      equal(text, dualStack ? "::ffff:127.0.0.9" : "127.0.0.9");
      // Once as one datagram, once as a run.
      server.send(reply);
      reply.lengths[0] = 350;
      reply.segments[0] = 100;
      server.send(reply);
      const { peers } = await collect(given, client, 5);
      deepEqual(peers, peers.map(() => asked));
    }
  }],

  ["tells a datagram for everybody from one for this host", async (given) => {
    for (const dualStack of [false, true]) {
      const any: SocketAddress = dualStack
        ? { ...LOOPBACK6, address: "::" }
        : { ...LOOPBACK, address: "0.0.0.0" };
      const server = await open(given, any, { packetInfo: true, dualStack });
      if (!server.traits.packetInfo) continue;
      const shouting = createSocket("udp4");
      await new Promise<void>((resolve) => shouting.bind(0, "127.0.0.1", resolve));
      shouting.setBroadcast(true);
      shouting.send("all", server.local.port, "127.255.255.255");
      const { locals } = await collect(given, server, 1);
      shouting.send("one", server.local.port, "127.0.0.9");
      const { locals: next } = await collect(given, server, 1);
      await new Promise<void>((resolve) => shouting.close(() => resolve()));
      const prefix = dualStack ? "::ffff:" : "";
      deepEqual([...locals, ...next].map(({ address, port }) => [address, port]), [
        [`${prefix}127.255.255.255`, BROADCAST_PORT],
        [`${prefix}127.0.0.9`, 0],
      ]);
    }
  }],

  ["knows the IPv6 address that was asked", async (given) => {
    const server = await open(given, { ...LOOPBACK6, address: "::" }, { packetInfo: true });
    const client = await open(given, LOOPBACK6);
    const batch = given.host.createBatch(1, 64);
    put(batch, { ...LOOPBACK6, port: server.local.port }, pattern(3));
    client.send(batch);
    const { locals } = await collect(given, server, 1);
    if (server.traits.packetInfo) deepEqual(locals, [{ ...LOOPBACK6, port: 0 }]);
    else equal(locals[0]!.address, "0.0.0.0");
  }],

  ["leaves no address asked in a batch for a socket that does not know it", async (given) => {
    const knows = await open(given, LOOPBACK, { packetInfo: true });
    const does = await open(given);
    const from = await open(given);
    const shared = given.host.createBatch(1, 64);
    for (const to of [knows, does]) {
      const out = given.host.createBatch(1, 64);
      put(out, to.local, pattern(1));
      from.send(out);
      to.watch(() => {});
      await given.until(() => to.receiveNow(shared) === 1, "a datagram");
      equal(shared.locals.getUint16(0) !== 0, to.traits.packetInfo);
    }
  }],

  ["cleans addresses of a batch that serves both families", async (given) => {
    const six = await open(given, LOOPBACK6);
    const four = await open(given);
    const four2 = await open(given);
    const out = given.host.createBatch(1, 64);
    const shared = given.host.createBatch(1, 64);
    const clean = given.host.createBatch(1, 64);
    for (const [from, to, into] of [[six, six, shared], [four2, four, shared]] as const) {
      out.count = 0;
      put(out, to.local, pattern(1));
      from.send(out);
      to.watch(() => {});
      await given.until(() => to.receiveNow(into) === 1, "a datagram");
    }
    writeAddress(clean.peers, 0, four2.local);
    ok(equalAddress(clean.peers, 0, shared.peers, 0));
    deepEqual(new Uint8Array(shared.peers.buffer), new Uint8Array(clean.peers.buffer));
  }],
];

// The worker only waits for the others' sockets: what it does differently is in the second half of the contract, and each
// case would start one (80 ms). `FASTWIRE_LONG=1` does.
const { "linux worker": worker, ...others } = DRIVERS;
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";
runContract("DatagramSocket", SUITE, others);
runContract("DatagramSocket", SUITE.slice(0, LONG ? SUITE.length : 1), { "linux worker": worker! });
