import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import {
  type ContractCase,
  type ContractDriver,
  runContract,
} from "../internal/testing/contract.ts";
import { SystemError } from "../internal/errors.ts";
import {
  ADDRESS_BYTES,
  equalAddress,
  formatAddress,
  readAddress,
  writeAddress,
} from "./address.ts";
import type { SocketAddress } from "./address.ts";
import { openDatagramHost } from "./datagram.ts";
import type {
  DatagramBatch,
  DatagramError,
  DatagramHost,
  DatagramHostOptions,
  DatagramOptions,
  DatagramSocket,
} from "./datagram.ts";
import { countDescriptors } from "./fd_linux.ts";
import { bindAll, libc, libcRefusal } from "./libc_linux.ts";
import { openRing } from "./io_uring_linux.ts";

/** What each behaviour is shown with. */
interface Subject {
  readonly host: DatagramHost;
  readonly options: DatagramHostOptions;
  /** Gives the network, and the loop, the time until `done`; fails after five seconds. */
  until(done: () => boolean, what: string): Promise<void>;
}

const LOOPBACK: SocketAddress = { family: "ipv4", address: "127.0.0.1", port: 0 };
const LOOPBACK6: SocketAddress = { family: "ipv6", address: "::1", port: 0 };

async function subject(options: DatagramHostOptions): Promise<Subject> {
  const host = await openDatagramHost(options);
  return {
    host,
    options,
    until: async (done, what) => {
      const deadline = performance.now() + 5000;
      while (!done()) {
        if (performance.now() > deadline) throw new Error(`Cannot see ${what}: 5 s have passed`);
        if (options.wait === "thread") host.turn(10);
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    },
  };
}

async function open(
  { host }: Subject,
  bind = LOOPBACK,
  options: Partial<DatagramOptions> = {},
): Promise<DatagramSocket> {
  return await host.open({ bind, ...options });
}

/** Puts a datagram, or a run with `segment`, behind the entries of a batch. */
function put(
  batch: DatagramBatch,
  to: SocketAddress,
  bytes: Uint8Array,
  segment = 0,
): void {
  const entry = batch.count++;
  const start = entry === 0 ? 0 : batch.starts[entry - 1]! + batch.lengths[entry - 1]!;
  batch.slab.bytes.set(bytes, start);
  batch.starts[entry] = start;
  batch.lengths[entry] = bytes.length;
  batch.segments[entry] = segment;
  writeAddress(batch.peers, entry * ADDRESS_BYTES, to);
}

/** Every datagram of a batch, runs cut. */
function cut(batch: DatagramBatch): Uint8Array[] {
  const datagrams: Uint8Array[] = [];
  for (let i = 0; i < batch.count; i++) {
    const start = batch.starts[i]!;
    const end = start + batch.lengths[i]!;
    const step = batch.segments[i] || batch.lengths[i] || 1;
    let from = start;
    do {
      datagrams.push(batch.slab.bytes.slice(from, Math.min(from + step, end)));
      from += step;
    } while (from < end);
  }
  return datagrams;
}

/** Receives until `count` datagrams are there. */
async function collect(
  { host, until }: Subject,
  socket: DatagramSocket,
  count: number,
  capacity = 16,
): Promise<{ datagrams: Uint8Array[]; peers: SocketAddress[]; locals: SocketAddress[] }> {
  const batch = host.createBatch(capacity, 65_536);
  const datagrams: Uint8Array[] = [];
  const peers: SocketAddress[] = [];
  const locals: SocketAddress[] = [];
  socket.watch(() => {});
  await until(() => {
    while (socket.receiveNow(batch) > 0) {
      datagrams.push(...cut(batch));
      for (let i = 0; i < batch.count; i++) {
        peers.push(readAddress(batch.peers, i * ADDRESS_BYTES));
        locals.push(readAddress(batch.locals, i * ADDRESS_BYTES));
      }
    }
    return datagrams.length >= count;
  }, `${count} datagrams`);
  return { datagrams, peers, locals };
}

function pattern(length: number, salt = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) + salt) & 255);
}

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

  ["reports that nobody listens, and loses nothing because of it", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const closed = await open(given);
    const nobody = closed.local;
    await closed.close();
    const errors: DatagramError[] = [];
    const batch = given.host.createBatch(2, 64);
    const sent = 5;
    for (let i = 0; i < sent; i++) {
      batch.count = 0;
      put(batch, nobody, pattern(4));
      put(batch, b.local, Uint8Array.of(i));
      equal(a.send(batch), 2);
    }
    const { datagrams } = await collect(given, b, sent);
    deepEqual(datagrams.map((bytes) => bytes[0]), [0, 1, 2, 3, 4]);
    // And what arrives is not lost either, with errors still queued.
    batch.count = 0;
    put(batch, a.local, pattern(2));
    b.send(batch);
    deepEqual((await collect(given, a, 1)).datagrams, [pattern(2)]);
    if (!a.traits.errorQueue) return;
    a.drainErrors((error) => errors.push(error));
    equal(errors.length, sent);
    deepEqual(errors[0], { kind: "refused", errnoName: "ECONNREFUSED", peer: nobody });
    equal(a.counters().datagramsSent, 2 * sent);
    a.drainErrors(() => {
      throw new Error("an error was reported twice");
    });
  }],

  ["does not spin on an error nobody asked for", async (given) => {
    const a = await open(given);
    const closed = await open(given);
    const nobody = closed.local;
    await closed.close();
    const into = given.host.createBatch(1, 64);
    let calls = 0;
    a.watch(() => {
      calls++;
      a.receiveNow(into);
    });
    const batch = given.host.createBatch(1, 64);
    put(batch, nobody, pattern(4));
    a.send(batch);
    if (a.traits.errorQueue) await given.until(() => calls > 0, "the error");
    const turns = given.options.wait === "thread" ? 20 : 300;
    let turn = 0;
    await given.until(() => ++turn > turns, "turns enough to spin in");
    ok(calls <= 3, `${calls} calls`);
  }],

  ["gives 0 to a receive that waits when it is closed", async (given) => {
    const socket = await open(given);
    const waiting = socket.receive(given.host.createBatch(1, 64));
    const another = socket.receive(given.host.createBatch(1, 64));
    await socket.close();
    equal(await waiting, 0);
    equal(await another, 0);
    await socket.close();
  }],

  ["does nothing after it is closed", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const batch = given.host.createBatch(1, 64);
    put(batch, b.local, pattern(1));
    await a.close();
    equal(a.send(batch), 0);
    equal(a.receiveNow(batch), 0);
    equal(await a.receive(batch), 0);
    a.watch(() => {});
    a.drainErrors(() => {});
    equal(a.counters().datagramsSent, 0);
  }],

  ["answers a receive at once when something is there, else later", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const into = given.host.createBatch(4, 64);
    const later = b.receive(into);
    ok(typeof later !== "number");
    const batch = given.host.createBatch(1, 64);
    put(batch, b.local, pattern(7));
    a.send(batch);
    let entries = -1;
    later.then((n) => entries = n);
    await given.until(() => entries >= 0, "the receive");
    equal(entries, 1);
    deepEqual(cut(into), [pattern(7)]);
  }],

  ["aborts a receive before and while it waits, with the caller's reason", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const into = given.host.createBatch(1, 64);
    const reason = new Error("changed my mind");
    await rejects(async () => await b.receive(into, AbortSignal.abort(reason)), reason);
    const controller = new AbortController();
    const waiting = b.receive(into, controller.signal);
    controller.abort(reason);
    await rejects(async () => await waiting, reason);
    // Nothing is taken by the receive that was given up.
    const batch = given.host.createBatch(1, 64);
    put(batch, b.local, pattern(2));
    a.send(batch);
    deepEqual((await collect(given, b, 1)).datagrams, [pattern(2)]);
  }],

  ["calls a watcher for each arrival, until it is told not to", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const into = given.host.createBatch(4, 64);
    const batch = given.host.createBatch(1, 64);
    put(batch, b.local, pattern(1));
    let seen = 0;
    b.watch(() => {
      while (b.receiveNow(into) > 0) seen += into.count;
    });
    for (let i = 1; i <= 3; i++) {
      a.send(batch);
      await given.until(() => seen === i, `arrival ${i}`);
    }
    b.watch(undefined);
    a.send(batch);
    const c = await open(given);
    batch.count = 0;
    put(batch, c.local, pattern(1));
    a.send(batch);
    await collect(given, c, 1);
    equal(seen, 3);
    // What came meanwhile is told to whoever watches next.
    b.watch(() => {
      while (b.receiveNow(into) > 0) seen += into.count;
    });
    await given.until(() => seen === 4, "the arrival in between");
  }],

  ["calls again a watcher that left something, and others in between", async (given) => {
    const from = await open(given);
    const [busy, calm] = [await open(given), await open(given)];
    const into = given.host.createBatch(1, 64);
    const batch = given.host.createBatch(21, 64);
    for (let i = 0; i < 20; i++) put(batch, busy.local, Uint8Array.of(i));
    put(batch, calm.local, pattern(1));
    const order: string[] = [];
    from.send(batch);
    // Everything is here before anybody looks, or a slow sender would look like fairness.
    await given.until(() => from.counters().datagramsSent === 21, "everything sent");
    busy.watch(() => {
      if (busy.receiveNow(into) > 0) order.push("busy");
      busy.again();
    });
    calm.watch(() => {
      while (calm.receiveNow(into) > 0) order.push("calm");
    });
    await given.until(() => order.length === 21, "21 datagrams");
    ok(order.indexOf("calm") < 20, "the calm socket had to wait for the busy one");
    busy.watch(undefined);
  }],

  ["calls again a watcher that left something without saying so", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const into = given.host.createBatch(1, 64);
    const batch = given.host.createBatch(5, 64);
    for (let i = 0; i < 5; i++) put(batch, b.local, Uint8Array.of(i));
    a.send(batch);
    await given.until(() => a.counters().datagramsSent === 5, "everything sent");
    let seen = 0;
    // As many calls as arrivals pass without a look, so that the next one is about what was left.
    let calls = 0;
    b.watch(() => {
      if (++calls > 5) seen += b.receiveNow(into);
    });
    await given.until(() => seen === 5, "five datagrams");
  }],

  ["drops what is longer than a slot, counts it, and keeps its neighbours", async (given) => {
    const senders = [await open(given), await open(given), await open(given)];
    const b = await open(given);
    const batch = given.host.createBatch(1, 400);
    const order = [[10, 0], [300, 0], [20, 1], [300, 0], [30, 2]] as const;
    for (const [i, [length, sender]] of order.entries()) {
      batch.count = 0;
      put(batch, b.local, pattern(length, i));
      senders[sender]!.send(batch);
      const sent = i === 3 ? 3 : i === 1 ? 2 : 1;
      await given.until(() => senders[sender]!.counters().datagramsSent === sent, "it leave");
    }
    const into = given.host.createBatch(8, 64);
    const got: Uint8Array[] = [];
    const peers: SocketAddress[] = [];
    b.watch(() => {});
    await given.until(() => {
      while (b.receiveNow(into) > 0) {
        for (let i = 0; i < into.count; i++) {
          equal(into.starts[i], into.slab.startOf(i));
          peers.push(readAddress(into.peers, i * ADDRESS_BYTES));
        }
        got.push(...cut(into));
      }
      return got.length === 3 && b.counters().datagramsTruncated === 2;
    }, "three datagrams and two truncated ones");
    deepEqual(got, [pattern(10, 0), pattern(20, 2), pattern(30, 4)]);
    deepEqual(peers, senders.map((sender) => sender.local));
    equal(b.counters().datagramsReceived, 3);
  }],

  ["counts what a full receive buffer dropped", async (given) => {
    const from = await open(given);
    const to = await open(given, LOOPBACK, { receiveBufferBytes: 4096 });
    const batch = given.host.createBatch(50, 1000);
    for (let i = 0; i < 50; i++) put(batch, to.local, pattern(1000, i));
    for (let i = 0; i < 4; i++) {
      from.send(batch);
      await given.until(() => from.counters().datagramsSent === 50 * (i + 1), "everything sent");
    }
    let received = 0;
    const into = given.host.createBatch(64, 1000);
    to.watch(() => {});
    if (to.traits.dropCounter) {
      while (to.receiveNow(into) > 0) received += into.count;
      ok(received < 200);
      equal(received + to.counters().receiveDrops, 200);
      await to.close();
      equal(received + to.counters().receiveDrops, 200);
    } else {
      await given.until(() => {
        while (to.receiveNow(into) > 0) received += into.count;
        return received > 0;
      }, "the first datagrams");
      equal(to.counters().datagramsReceived, received);
    }
  }],

  ["loses what cannot be sent, counts it, and goes on", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const batch = given.host.createBatch(6, 66_000);
    put(batch, b.local, pattern(1, 1));
    put(batch, { ...LOOPBACK, port: 0 }, pattern(1));
    put(batch, b.local, pattern(65_508));
    put(batch, { ...LOOPBACK6, port: b.local.port }, pattern(1));
    put(batch, { ...LOOPBACK, port: 0 }, pattern(300), 100);
    put(batch, b.local, pattern(300, 2), 100);
    equal(a.send(batch), 6);
    const { datagrams } = await collect(given, b, 4);
    equal(datagrams.length, 4);
    deepEqual(datagrams[0], pattern(1, 1));
    await given.until(() => a.counters().datagramsSent === 4, "the count sent");
    equal(a.counters().sendDrops, 6);
    // A bad address is no reason to give up segmentation for the good ones.
    equal(a.counters().segmentationRefused, 0);
  }],

  ["counts what it does", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    const into = given.host.createBatch(2, 64);
    equal(b.receiveNow(into), 0);
    equal(into.count, 0);
    equal(b.counters().wouldBlocks, 1);
    const batch = given.host.createBatch(1, 64);
    put(batch, b.local, pattern(1));
    a.send(batch);
    await collect(given, b, 1);
    equal(a.counters().sendCalls, 1);
    equal(a.counters().datagramsSent, 1);
    equal(b.counters().datagramsReceived, 1);
    ok(b.counters().receiveCalls >= 1);
    ok(Object.isFrozen(b.counters()));
  }],

  ["takes a free port for port 0 and tells it", async (given) => {
    const [a, b] = [await open(given), await open(given)];
    ok(a.local.port > 0 && b.local.port > 0 && a.local.port !== b.local.port);
    deepEqual({ ...a.local, port: 0 }, LOOPBACK);
  }],

  ["says what is wrong with an address it cannot have", async (given) => {
    const taken = await open(given);
    const opening = async (bind: SocketAddress) => await given.host.open({ bind });
    await rejects(opening(taken.local), (error: unknown) => {
      ok(error instanceof SystemError);
      equal(error.code, "system.address-in-use");
      equal(error.errnoName, "EADDRINUSE");
      equal(error.syscall, "bind");
      ok(error.message.startsWith(`Cannot bind to 127.0.0.1:${taken.local.port}: `), error.message);
      return true;
    });
    await rejects(opening({ ...LOOPBACK, address: "192.0.2.1" }), { errnoName: "EADDRNOTAVAIL" });
    await rejects(opening({ ...LOOPBACK, address: "localhost" }), TypeError);
    await rejects(opening({ ...LOOPBACK, port: 65_536 }), RangeError);
  }],

  ["tells the buffer sizes in force", async (given) => {
    const socket = await open(given, LOOPBACK, {
      receiveBufferBytes: 100_000,
      sendBufferBytes: 50_000,
    });
    // The portable driver cannot set them on every runtime, and then says so.
    const known = given.host.traits.driver === "linux";
    equal(socket.receiveBufferBytes, known ? 100_000 : 0);
    equal(socket.sendBufferBytes, known ? 50_000 : 0);
  }],

  ["shares a port where it was asked to", async (given) => {
    if (given.host.traits.driver !== "linux") return;
    const one = await open(given, LOOPBACK, { reusePort: true });
    const two = await open(given, one.local, { reusePort: true });
    equal(two.local.port, one.local.port);
  }],

  ["closes its sockets with the host, and opens none afterwards", async (given) => {
    const socket = await open(given);
    const waiting = socket.receive(given.host.createBatch(1, 64));
    await given.host.close();
    equal(await waiting, 0);
    await rejects(async () => await open(given), TypeError);
    await given.host.close();
  }],

  ["takes turns only on a thread of its own", async (given) => {
    if (given.options.wait !== "thread") {
      throws(() => given.host.turn(0), TypeError);
      throws(() => given.host.wakeDescriptor, TypeError);
      return;
    }
    equal(given.host.turn(0), 0);
    const library = libc()!;
    library.write(given.host.wakeDescriptor, new BigUint64Array([1n]), 8n);
    const before = performance.now();
    equal(given.host.turn(10_000), 0);
    ok(performance.now() - before < 5000, "the turn was not woken");
    const socket = await open(given);
    let calls = 0;
    socket.watch(() => calls++);
    const batch = given.host.createBatch(1, 64);
    put(batch, socket.local, pattern(1));
    socket.send(batch);
    equal(given.host.turn(5000), 1);
    equal(calls, 1);
  }],

  ["gives its port back at once, even while it is watched", async (given) => {
    const first = await open(given);
    first.watch(() => {});
    for (let i = 0; i < 50; i++) {
      const { local } = first;
      if (i === 0) await first.close();
      const next = await open(given, local);
      const waiting = next.receive(given.host.createBatch(1, 64));
      await next.close();
      equal(await waiting, 0);
    }
  }],

  ["leaves nothing behind after thousands of sockets", async (given) => {
    const cycles = given.host.traits.driver === "linux" ? 10_000 : 300;
    const count = libc() === undefined ? () => 0 : () => countDescriptors(512);
    const once = async () => {
      const socket = await open(given);
      socket.watch(() => {});
      await socket.close();
    };
    await once();
    const before = count();
    for (let i = 0; i < cycles; i++) await once();
    // The portable driver's descriptors belong to the runtime, which closes them in its own time.
    await given.until(() => count() <= before, "as many descriptors as before");
  }],
];

function row(options: DatagramHostOptions, missing: () => string): ContractDriver<Subject> {
  return { missing, open: () => subject(options), close: ({ host }) => host.close() };
}

function noLibc(): string {
  return libc() === undefined ? libcRefusal()!.why : "";
}

function noRing(): string {
  const library = libc();
  if (library === undefined) return libcRefusal()!.why;
  const ring = openRing(library);
  if (typeof ring === "string") return ring;
  ring.close();
  return "";
}

// Functions bind when they are first named, which the leak check would put down to the test that happened to name them.
bindAll();

runContract("DatagramSocket", SUITE, {
  "linux uring": row({ driver: "fast", reactor: "uring" }, noRing),
  "linux worker": row({ driver: "fast", reactor: "worker" }, noLibc),
  "linux thread": row({ driver: "fast", wait: "thread" }, noLibc),
  "node": row({ driver: "portable" }, () => ""),
});
