// The second half of the stream contract: connecting, waiting, failing and ending. The first is in
// stream_contract_test.ts.

import { deepEqual, equal, notEqual, ok, rejects, throws } from "node:assert/strict";
import { DeadlineError, SystemError } from "../internal/errors.ts";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import {
  openStreamHost,
  STREAM_END,
  STREAM_FAILED,
  type StreamConnection,
  streamError,
  WOULD_BLOCK,
} from "./stream.ts";
import {
  collect,
  DRIVERS,
  join,
  LOOPBACK,
  LOOPBACK6,
  pair,
  pattern,
  type Subject,
} from "./testdata/stream_subject.ts";
import { startThread } from "./worker.ts";

/** A connection of node:net to a listener, for what not every driver can do to its peer. */
async function rude(port: number): Promise<import("node:net").Socket> {
  const { connect } = await import("node:net");
  const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true });
  await new Promise((resolve, reject) => socket.once("connect", resolve).once("error", reject));
  socket.on("error", () => {});
  return socket;
}

const SUITE: readonly ContractCase<Subject>[] = [
  ["tells both addresses of both ends", async (given) => {
    const { listener, client, server } = await pair(given);
    ok(listener.local.port > 0);
    deepEqual(client.remote, listener.local);
    deepEqual(server.local, listener.local);
    deepEqual(server.remote, client.local);
    equal(client.local.address, "127.0.0.1");
    equal(client.traits, given.host.traits);
  }],

  ["speaks IPv6", async (given) => {
    const { client, server } = await pair(given, { bind: LOOPBACK6 });
    equal(server.remote.address, "::1");
    equal(client.remote.family, "ipv6");
    client.sendNow(pattern(9), 0, 9);
    deepEqual((await collect(given, server, 9)).bytes, pattern(9));
  }],

  [
    "accepts IPv4 on an IPv6 wildcard where it was asked to, and tells where it came from",
    async (given) => {
      const bind = { family: "ipv6", address: "::", port: 0 } as const;
      const listener = await given.host.listen({ bind, dualStack: true });
      const remote = { ...LOOPBACK, port: listener.local.port };
      const { client, server } = await join(given, listener, { remote });
      equal(server.remote.address, "::ffff:127.0.0.1");
      equal(server.remote.port, client.local.port);
      await listener.close();
      if (!given.host.traits.ipv6Only) return;
      const only = await given.host.listen({ bind });
      const refused = given.host.connect({ remote: { ...LOOPBACK, port: only.local.port } });
      await rejects(given.settled(refused, "the refusal"), { errnoName: "ECONNREFUSED" });
    },
  ],

  ["connects from the address it is told", async (given) => {
    const listener = await given.host.listen({ bind: LOOPBACK });
    const bind = { ...LOOPBACK, address: "127.0.0.9" };
    if (!given.host.traits.bind) {
      await rejects(given.host.connect({ remote: listener.local, bind }), { code: "ffi.no-bind" });
      return;
    }
    const { server } = await join(given, listener, { bind });
    equal(server.remote.address, "127.0.0.9");
  }],

  ["says that nobody listens there", async (given) => {
    const listener = await given.host.listen({ bind: LOOPBACK });
    const remote = listener.local;
    await listener.close();
    const refused = given.host.connect({ remote });
    await rejects(given.settled(refused, "the refusal"), (error: unknown) => {
      ok(error instanceof SystemError);
      equal(error.code, "system.connection-refused");
      ok(error.message.startsWith(`Cannot connect to 127.0.0.1:${remote.port}: `), error.message);
      return true;
    });
    await rejects(given.host.connect({ remote: { ...LOOPBACK, port: 70_000 } }), RangeError);
    await rejects(given.host.connect({ remote: { ...LOOPBACK, address: "localhost" } }), TypeError);
    await rejects(given.host.connect({ remote, timeoutMs: 0 }), RangeError);
  }],

  ["gives up connecting in time, and when it is told to", async (given) => {
    // Nobody accepts, and the queue is full: what comes on top gets no answer.
    const stalled = await fullListener();
    try {
      const started = performance.now();
      const late = given.host.connect({ remote: stalled.local, timeoutMs: 60 });
      await rejects(given.settled(late, "the timeout"), (error: unknown) => {
        ok(error instanceof DeadlineError);
        deepEqual([error.code, error.phase], ["ffi.connect-timeout", "connect"]);
        return true;
      });
      ok(performance.now() - started >= 55);
      const controller = new AbortController();
      const reason = new Error("changed my mind");
      const waiting = given.host.connect({ remote: stalled.local, signal: controller.signal });
      waiting.catch(() => {});
      await new Promise<void>((resolve) => setImmediate(resolve));
      controller.abort(reason);
      await rejects(given.settled(waiting, "the abort"), reason);
      await rejects(
        given.host.connect({ remote: stalled.local, signal: controller.signal }),
        reason,
      );
    } finally {
      stalled.close();
    }
  }],

  ["says what is wrong with an address it cannot listen on", async (given) => {
    const listener = await given.host.listen({ bind: LOOPBACK });
    const listening = async (bind: typeof LOOPBACK) => await given.host.listen({ bind });
    await rejects(listening(listener.local), (error: unknown) => {
      ok(error instanceof SystemError);
      equal(error.code, "system.address-in-use");
      const start = `Cannot listen on 127.0.0.1:${listener.local.port}: `;
      ok(error.message.startsWith(start), error.message);
      return true;
    });
    await rejects(listening({ ...LOOPBACK, address: "192.0.2.1" }), { errnoName: "EADDRNOTAVAIL" });
    await rejects(listening({ ...LOOPBACK, address: "localhost" }), TypeError);
    await rejects(listening({ ...LOOPBACK, port: -1 }), RangeError);
    await rejects(async () => await given.host.listen({ bind: LOOPBACK, backlog: 0 }), RangeError);
  }],

  ["listens again at once where connections were", async (given) => {
    const { listener, client, server } = await pair(given);
    await server.close();
    await client.close();
    await listener.close();
    const again = await given.host.listen({ bind: listener.local });
    equal(again.local.port, listener.local.port);
  }],

  ["shares a port where it was asked to", async (given) => {
    if (!given.host.traits.reusePort) return;
    const one = await given.host.listen({ bind: LOOPBACK, reusePort: true });
    const two = await given.host.listen({ bind: one.local, reusePort: true });
    equal(two.local.port, one.local.port);
  }],

  ["accepts two hundred connections at once, none twice", async (given) => {
    const listener = await given.host.listen({ bind: LOOPBACK });
    const accepted: StreamConnection[] = [];
    listener.watch(() => {
      for (let i = 0; i < 10; i++) {
        const connection = listener.acceptNow();
        if (connection === undefined) return;
        accepted.push(connection);
      }
      listener.again();
    });
    const connecting = Promise.all(
      Array.from({ length: 200 }, () => given.host.connect({ remote: listener.local })),
    );
    const clients = await given.settled(connecting, "200 connections");
    await given.until(() => accepted.length === 200, "200 to be accepted");
    equal(new Set(accepted.map(({ remote }) => remote.port)).size, 200);
    const byPort = new Map(accepted.map((one) => [one.remote.port, one]));
    for (const [i, client] of clients.entries()) client.sendNow(pattern(20, i), 0, 20);
    for (const [i, client] of clients.entries()) {
      const { bytes } = await collect(given, byPort.get(client.local.port)!, 20);
      deepEqual(bytes, pattern(20, i));
    }
    equal(listener.refused, 0);
  }],

  ["waits for a connection, one wait at a time, until it is closed or aborted", async (given) => {
    const listener = await given.host.listen({ bind: LOOPBACK });
    equal(listener.acceptNow(), undefined);
    const controller = new AbortController();
    const reason = new Error("changed my mind");
    const aborted = listener.accept(controller.signal);
    await rejects(async () => await listener.accept(), TypeError);
    controller.abort(reason);
    await rejects(async () => await aborted, reason);
    await rejects(async () => await listener.accept(controller.signal), reason);
    // Nothing is taken by the accept that was given up.
    const { server } = await join(given, listener);
    ok(server !== undefined);
    const waiting = listener.accept();
    await listener.close();
    equal(await waiting, undefined);
    equal(await listener.accept(), undefined);
    equal(listener.acceptNow(), undefined);
    ok(listener.closed);
    await listener.close();
  }],

  ["ends each direction by itself", async (given) => {
    const { client, server } = await pair(given);
    server.end();
    equal((await collect(given, client)).end, STREAM_END);
    // The client may go on, for long.
    const bytes = pattern(200_000);
    const sent = Promise.resolve(client.send(bytes, 0, bytes.length));
    deepEqual((await collect(given, server, bytes.length)).bytes, bytes);
    equal(await given.settled(sent, "it to be sent"), bytes.length);
    client.end();
    equal((await collect(given, server)).end, STREAM_END);
    deepEqual([client.failure, server.failure], [undefined, undefined]);
  }],

  ["tells a reset from an end, to who receives and to who sends", async (given) => {
    const listener = await given.host.listen({ bind: LOOPBACK });
    for (const way of ["watch", "receive", "send"] as const) {
      const socket = await rude(listener.local.port);
      const server = (await given.settled(listener.accept(), "it to be accepted"))!;
      socket.write(pattern(10));
      await collect(given, server, 10);
      const into = new Uint8Array(new ArrayBuffer(65_536));
      const waiting = way === "receive" ? server.receive(into, 0, 10) : undefined;
      socket.resetAndDestroy();
      if (way === "watch") equal((await collect(given, server)).end, STREAM_FAILED);
      else if (way === "receive") {
        equal(await given.settled(waiting!, "the receive"), STREAM_FAILED);
      } else {
        let end = 0;
        await given.until(() => {
          const count = server.sendNow(into, 0, into.length);
          if (count === STREAM_FAILED) end = count;
          return end !== 0;
        }, "the send to fail");
      }
      equal(server.failure?.kind, "reset");
      ok(["ECONNRESET", "EPIPE"].includes(server.failure?.errnoName ?? ""));
      equal(server.receiveNow(into, 0, 1), STREAM_FAILED);
      equal(server.sendNow(into, 0, 1), STREAM_FAILED);
      equal(server.discardNow(1), STREAM_FAILED);
      const error = streamError(server.failure, "serve");
      equal(error.code, "system.connection-reset");
      ok(error.message.startsWith("Cannot serve: the peer reset the connection ("));
      await server.close();
    }
  }],

  ["fails a send that waits when the peer resets in the middle", async (given) => {
    const listener = await given.host.listen({ bind: LOOPBACK });
    const socket = await rude(listener.local.port);
    const server = (await given.settled(listener.accept(), "it to be accepted"))!;
    const bytes = pattern(16 << 20);
    const sent = server.send(bytes, 0, bytes.length);
    ok(typeof sent !== "number");
    socket.resetAndDestroy();
    equal(await given.settled(sent, "the send"), STREAM_FAILED);
    equal(server.failure?.kind, "reset");
    ok(server.counters().bytesSent <= bytes.length);
  }],

  ["cuts a connection where it was asked to", async (given) => {
    const { client, server } = await pair(given);
    if (!given.host.traits.reset) return;
    const waiting = client.receive(new Uint8Array(new ArrayBuffer(8)), 0, 8);
    await server.close({ reset: true });
    equal(await given.settled(waiting, "the reset"), STREAM_FAILED);
    equal(client.failure?.kind, "reset");
  }],

  ["does not spin on an end or a reset that was told", async (given) => {
    const { listener, client, server } = await pair(given);
    let calls = 0;
    const into = new Uint8Array(new ArrayBuffer(8));
    server.watch(() => {
      calls++;
      server.receiveNow(into, 0, 8);
    }, () => calls++);
    client.end();
    await given.until(() => calls > 0, "the end");
    const socket = await rude(listener.local.port);
    const second = (await given.settled(listener.accept(), "it to be accepted"))!;
    let resets = 0;
    second.watch(() => {
      resets++;
      second.receiveNow(into, 0, 8);
    }, () => resets++);
    socket.resetAndDestroy();
    await given.until(() => resets > 0, "the reset");
    let turn = 0;
    await given.until(() => ++turn > (given.options.wait === "thread" ? 20 : 300), "turns");
    ok(calls <= 2 && resets <= 2, `${calls} and ${resets} calls`);
  }],

  ["settles what waits when it is closed, and does nothing afterwards", async (given) => {
    const { client, server } = await pair(given, { receiveBufferBytes: 32_768 }, {
      sendBufferBytes: 32_768,
    });
    const into = new Uint8Array(new ArrayBuffer(16 << 20));
    const receiving = client.receive(into, 0, 8);
    const sending = client.send(into, 0, into.length);
    ok(typeof sending !== "number");
    const closing = client.close();
    equal(await given.settled(receiving, "the receive"), STREAM_END);
    equal(await given.settled(sending, "the send"), STREAM_FAILED);
    await closing;
    await client.close();
    ok(client.closed);
    equal(client.failure, undefined);
    equal(client.receiveNow(into, 0, 8), STREAM_END);
    equal(await client.receive(into, 0, 8), STREAM_END);
    equal(client.discardNow(8), STREAM_END);
    equal(client.sendNow(into, 0, 8), STREAM_FAILED);
    equal(await client.send(into, 0, 8), STREAM_FAILED);
    equal(client.info(), undefined);
    client.watch(() => {});
    client.again();
    client.end();
    client.configure({ noDelay: false });
    equal(streamError(client.failure, "go on").code, "system.closed");
    // The peer sees it end: what had left, then the end or a reset.
    notEqual((await collect(given, server)).end, WOULD_BLOCK);
  }],

  ["delivers what was taken before it was closed", async (given) => {
    const { client, server } = await pair(given);
    const bytes = pattern(40_000);
    equal(client.sendNow(bytes, 0, 40_000), 40_000);
    const closing = client.close();
    const { bytes: got, end } = await collect(given, server);
    deepEqual(got, bytes);
    equal(end, STREAM_END);
    await closing;
  }],

  ["delivers what was taken before it was closed, however full the way was", async (given) => {
    const { client, server } = await pair(given, { receiveBufferBytes: 32_768 }, {
      sendBufferBytes: 32_768,
    });
    const bytes = pattern(65_536);
    let taken = 0;
    let quiet = 0, last = -1;
    await given.until(() => {
      const count = client.sendNow(bytes, taken % 65_536, 65_536);
      if (count > 0) taken += count;
      quiet = taken === last ? quiet + 1 : 0;
      last = taken;
      return quiet > 100;
    }, "the way to be full");
    const closing = client.close();
    const { bytes: got, end } = await collect(given, server);
    equal(got.length, taken);
    ok(got.every((byte, i) => byte === bytes[i % 65_536]));
    equal(end, STREAM_END);
    await closing;
  }],

  ["settles a receive with a signal, and an accept, when they are closed", async (given) => {
    const { client, listener } = await pair(given);
    const signal = new AbortController().signal;
    const receiving = client.receive(new Uint8Array(new ArrayBuffer(8)), 0, 8, signal);
    const accepting = listener.accept(signal);
    const closing = [client.close(), listener.close()];
    equal(await given.settled(receiving, "the receive"), STREAM_END);
    equal(await given.settled(accepting, "the accept"), undefined);
    await Promise.all(closing);
  }],

  ["gives the bytes of a send back only when they have left", async (given) => {
    const { client, server } = await pair(given, { receiveBufferBytes: 32_768 }, {
      sendBufferBytes: 32_768,
    });
    const bytes = pattern(6 << 20);
    let over = false;
    // Behind something that is on its way already.
    equal(client.sendNow(bytes, 0, 1000), 1000);
    const sending = client.send(bytes, 0, bytes.length);
    ok(typeof sending !== "number");
    sending.then(() => {
      over = true;
      bytes.fill(0xee);
    });
    // Whoever is called back about room meanwhile changes nothing.
    client.watch(undefined, () => {
      if (!over) client.again();
    });
    client.sendNow(bytes, 0, 1);
    const expected = pattern(6 << 20);
    const { bytes: got } = await collect(given, server, 1000 + bytes.length);
    ok(got.every((byte, i) => byte === expected[i < 1000 ? i : i - 1000]));
    equal(await given.settled(sending, "the send"), bytes.length);
  }],

  ["aborts a receive and a send before and while they wait, losing nothing", async (given) => {
    const { client, server } = await pair(given);
    const into = new Uint8Array(new ArrayBuffer(1 << 16));
    const reason = new Error("changed my mind");
    const gone = AbortSignal.abort(reason);
    await rejects(async () => await server.receive(into, 0, 8, gone), reason);
    await rejects(async () => await server.discard(8, gone), reason);
    await rejects(async () => await server.send(into, 0, 8, gone), reason);
    const controller = new AbortController();
    const waiting = server.receive(into, 0, 8, controller.signal);
    controller.abort(reason);
    await rejects(async () => await waiting, reason);
    client.sendNow(pattern(8), 0, 8);
    deepEqual((await collect(given, server, 8)).bytes, pattern(8));
    ok(into.every((byte) => byte === 0));
    const second = new AbortController();
    const large = pattern(16 << 20);
    const sending = client.send(large, 0, large.length, second.signal);
    ok(typeof sending !== "number");
    second.abort(reason);
    await rejects(async () => await sending, reason);
    const { bytesSent } = client.counters();
    // The caller's again: what is written there now is not sent.
    large.fill(0xee);
    const expected = pattern(16 << 20);
    client.end();
    const { bytes, end } = await collect(given, server);
    equal(bytes.length, bytesSent - 8);
    ok(bytes.every((byte, i) => byte === expected[i]));
    equal(end, STREAM_END);
  }],

  [
    "tells the options in force, which accepted connections have from their listener",
    async (given) => {
      const options = { receiveBufferBytes: 100_000, sendBufferBytes: 50_000, keepAliveMs: 5000 };
      const { client, server } = await pair(given, options, { ...options, noDelay: false });
      const known = given.host.traits.options;
      for (const end of [client, server]) {
        equal(end.receiveBufferBytes, known ? 100_000 : 0);
        equal(end.sendBufferBytes, known ? 50_000 : 0);
      }
      client.configure({ noDelay: true, keepAliveMs: 0, userTimeoutMs: 20_000 });
      client.configure({ receiveLowWaterBytes: 1, pacingBytesPerSecond: 0 });
      if (known) throws(() => client.configure({ userTimeoutMs: -1 }), RangeError);
    },
  ],

  ["reports from the low-water mark on", async (given) => {
    if (!given.host.traits.options) return;
    const { client, server } = await pair(given, { receiveLowWaterBytes: 1000 });
    const into = new Uint8Array(new ArrayBuffer(4096));
    let seen = 0;
    server.watch(() => {
      const count = server.receiveNow(into, 0, 4096);
      if (count > 0 && seen === 0) seen = count;
    });
    client.sendNow(into, 0, 500);
    let turns = 0;
    await given.until(() => ++turns > 20, "turns");
    equal(seen, 0);
    client.sendNow(into, 0, 600);
    await given.until(() => seen > 0, "the rest");
    equal(seen, 1100);
  }],

  ["sends no faster than it is told", async (given) => {
    if (!given.host.traits.options) return;
    // 10 MB/s for 3 MB is 300 ms; unlimited it is below 5.
    const { client, server } = await pair(given, {}, { pacingBytesPerSecond: 10e6 });
    equal(client.info()!.pacingBytesPerSecond, 10e6);
    const bytes = pattern(3_000_000);
    const started = performance.now();
    const sent = Promise.resolve(client.send(bytes, 0, bytes.length));
    await collect(given, server, bytes.length);
    const took = performance.now() - started;
    equal(await given.settled(sent, "it to be sent"), bytes.length);
    ok(took > 150, `3 MB at 10 MB/s took ${took.toFixed(0)} ms`);
    client.configure({ pacingBytesPerSecond: 0 });
    equal(client.info()!.pacingBytesPerSecond, Infinity);
  }],

  ["tells what the kernel knows", async (given) => {
    const { client, server } = await pair(given);
    if (!given.host.traits.info) return equal(client.info(), undefined);
    const bytes = pattern(100_000);
    const sent = Promise.resolve(client.send(bytes, 0, bytes.length));
    await collect(given, server, bytes.length);
    await given.settled(sent, "it to be sent");
    await given.until(() => client.info()!.bytesAcknowledged >= 100_000, "the acknowledgement");
    const info = client.info()!;
    ok(info.roundTripMs > 0 && info.roundTripMs < 1000);
    ok(info.congestionWindow > 0 && info.sendSegmentBytes > 500);
    equal(info.unsentBytes, 0);
    equal(server.info()!.bytesArrived, 100_000);
    ok(Object.isFrozen(info));
  }],

  ["moves a connection to a thread and back", async (given) => {
    const { client, server } = await pair(given);
    if (!given.host.traits.detach) {
      throws(() => server.detach(), TypeError);
      throws(() => given.host.adopt(0), TypeError);
      return;
    }
    const into = new Uint8Array(new ArrayBuffer(8));
    const waiting = server.receive(into, 0, 8);
    throws(() => server.detach(), TypeError);
    client.sendNow(pattern(8), 0, 8);
    equal(await given.settled(waiting, "the receive"), 8);
    server.watch(() => {});
    let back = -1;
    const thread = await startThread(
      new URL("./testdata/stream_thread.ts", import.meta.url),
      undefined,
      { onMessage: (message) => void (back = (message as { descriptor: number }).descriptor) },
    );
    const descriptor = server.detach();
    ok(server.closed);
    throws(() => server.detach(), TypeError);
    thread.post({ descriptor, bytes: 10_000 });
    const bytes = pattern(10_000, 5);
    client.sendNow(bytes, 0, 10_000);
    deepEqual((await collect(given, client, 10_000)).bytes, bytes);
    await given.until(() => back >= 0, "the descriptor");
    const again = given.host.adopt(back);
    deepEqual([again.local, again.remote], [server.local, server.remote]);
    again.sendNow(bytes, 0, 100);
    deepEqual((await collect(given, client, 100)).bytes, bytes.slice(0, 100));
    ok(await thread.close());
  }],

  ["adopts TCP sockets only", async (given) => {
    if (!given.host.traits.detach) return;
    throws(() => given.host.adopt(1_000_000), SystemError);
    const { listener } = await pair(given);
    ok(!listener.closed);
  }],

  ["takes turns only on a thread of its own", async (given) => {
    if (given.options.wait !== "thread") {
      throws(() => given.host.turn(0), TypeError);
      throws(() => given.host.wakeDescriptor, TypeError);
      await rejects(openStreamHost({ driver: "portable", wait: "thread" }), {
        code: "ffi.driver-unavailable",
      });
      return;
    }
    equal(given.host.turn(0), 0);
    ok(given.host.wakeDescriptor > 0);
  }],

  ["closes everything with the host, and opens nothing afterwards", async (given) => {
    const { listener, client, server } = await pair(given);
    const receiving = client.receive(new Uint8Array(new ArrayBuffer(8)), 0, 8);
    const accepting = listener.accept();
    await given.host.close();
    equal(await receiving, STREAM_END);
    equal(await accepting, undefined);
    ok(client.closed && server.closed && listener.closed);
    await rejects(async () => await given.host.listen({ bind: LOOPBACK }), TypeError);
    await rejects(given.host.connect({ remote: listener.local }), TypeError);
    await given.host.close();
  }],
];

/** A listener that nobody accepts from, with its queue full. */
async function fullListener(): Promise<{ readonly local: typeof LOOPBACK; close(): void }> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 1 });
  const { port } = listener.addr;
  const sockets: import("node:net").Socket[] = [];
  const { connect } = await import("node:net");
  // One more than the kernel's queue, which is the backlog and one: the last attempts stay unanswered.
  for (let i = 0; i < 4; i++) {
    const socket = connect({ host: "127.0.0.1", port });
    socket.on("error", () => {});
    sockets.push(socket);
  }
  await Promise.all(
    sockets.slice(0, 2).map((socket) => new Promise((resolve) => socket.once("connect", resolve))),
  );
  return {
    local: { ...LOOPBACK, port },
    close: () => {
      for (const socket of sockets) socket.destroy();
      listener.close();
    },
  };
}

runContract("Stream", SUITE, DRIVERS);
