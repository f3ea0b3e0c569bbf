// The second half of the datagram contract: errors, waiting, watching, limits and ends. The first is in
// datagram_contract_test.ts.

import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { SystemError } from "../internal/errors.ts";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { ADDRESS_BYTES, readAddress, type SocketAddress } from "./address.ts";
import type { DatagramError } from "./datagram.ts";
import { countDescriptors } from "./fd_linux.ts";
import { libc } from "./libc_linux.ts";
import {
  collect,
  cut,
  DRIVERS,
  LOOPBACK,
  LOOPBACK6,
  open,
  pattern,
  put,
  type Subject,
} from "./testdata/datagram_subject.ts";

const SUITE: readonly ContractCase<Subject>[] = [
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

  ["receives from one address only where it was told to, and sends anywhere", async (given) => {
    for (const bind of [LOOPBACK, LOOPBACK6]) {
      const [peer, stranger] = [await open(given, bind), await open(given, bind)];
      const socket = await open(given, bind, { remote: peer.local });
      const batch = given.host.createBatch(2, 64);
      for (const [from, byte] of [[stranger, 1], [peer, 2]] as const) {
        batch.count = 0;
        put(batch, socket.local, Uint8Array.of(byte));
        from.send(batch);
      }
      deepEqual((await collect(given, socket, 1)).datagrams, [Uint8Array.of(2)]);
      batch.count = 0;
      put(batch, peer.local, Uint8Array.of(3));
      put(batch, stranger.local, Uint8Array.of(4));
      socket.send(batch);
      deepEqual((await collect(given, peer, 1)).datagrams, [Uint8Array.of(3)]);
      deepEqual((await collect(given, stranger, 1)).datagrams, [Uint8Array.of(4)]);
    }
  }],

  ["has the addresses of others only with the options trait and the privilege", async (given) => {
    const opening = async () => await open(given, LOOPBACK, { transparent: true });
    if (!given.host.traits.options || Deno.uid() !== 0) {
      await rejects(opening, { code: "ffi.no-transparent" });
      return;
    }
    const socket = await opening();
    // An address of nobody here, and a port of its own choice: netfilter would bring a datagram for it.
    const other: SocketAddress = { family: "ipv4", address: "192.0.2.7", port: 7777 };
    const sender = await open(given, other, { transparent: true, reuseAddress: true });
    const batch = given.host.createBatch(1, 64);
    put(batch, socket.local, pattern(5));
    sender.send(batch);
    const into = given.host.createBatch(1, 64);
    await given.until(() => socket.receiveNow(into) === 1, "the datagram");
    deepEqual(readAddress(into.peers, 0), other);
    deepEqual(readAddress(into.locals, 0), socket.local);
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

runContract("DatagramSocket", SUITE, DRIVERS);
