// The first half of the stream contract: what is sent is what arrives, in every shape of send and receive. The second,
// about connecting, waiting, failing and ending, is in stream_life_contract_test.ts.

import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { SystemError } from "../internal/errors.ts";
import { STREAM_END, type StreamConnection, WOULD_BLOCK } from "./stream.ts";
import {
  collect,
  DRIVERS,
  LOOPBACK,
  pair,
  pattern,
  type Subject,
} from "./testdata/stream_subject.ts";

/** The sizes at which buffers, pages and 16-bit numbers end. */
const SIZES = [1, 2, 1459, 1460, 4096, 16_384, 16_385, 65_535, 65_536, 65_537, 300_000, 1 << 21];

const SUITE: readonly ContractCase<Subject>[] = [
  ["carries pieces of every size there and back", async (given) => {
    const { client, server } = await pair(given);
    for (const size of SIZES) {
      const bytes = pattern(size, size);
      const sent = Promise.resolve(client.send(bytes, 0, size));
      const there = await collect(given, server, size);
      equal(await given.settled(sent, "it to be sent"), size);
      deepEqual(there.bytes, bytes);
      const answered = Promise.resolve(server.send(bytes, 0, size));
      deepEqual((await collect(given, client, size)).bytes, bytes);
      equal(await given.settled(answered, "the answer to be sent"), size);
    }
    const total = SIZES.reduce((sum, size) => sum + size, 0);
    equal(client.counters().bytesSent, total);
    equal(server.counters().bytesReceived, total);
  }],

  ["carries a dribble byte by byte, and is received byte by byte", async (given) => {
    const { client, server } = await pair(given);
    const bytes = pattern(500);
    for (let i = 0; i < bytes.length; i++) {
      equal(await given.settled(client.send(bytes, i, i + 1), "a byte to be sent"), 1);
    }
    client.end();
    const { bytes: got, end } = await collect(given, server, Infinity, 1);
    deepEqual(got, bytes);
    equal(end, STREAM_END);
  }],

  [
    "dials without a promise: a connection, a refusal, or nothing more when given up",
    async (given) => {
      const { host } = given;
      const listener = await host.listen({ bind: LOOPBACK });
      const outcomes: (StreamConnection | SystemError)[] = [];
      host.dial({ remote: listener.local }, (outcome) => outcomes.push(outcome));
      const server = await given.settled(listener.accept(), "it to be accepted");
      await given.until(() => outcomes.length === 1, "the connection");
      const client = outcomes[0] as StreamConnection;
      deepEqual(client.remote, listener.local);
      deepEqual(client.local, server!.remote);
      await given.settled(client.send(pattern(9), 0, 9), "it to be sent");
      deepEqual((await collect(given, server!, 9)).bytes, pattern(9));
      await listener.close();
      host.dial({ remote: listener.local }, (outcome) => outcomes.push(outcome));
      await given.until(() => outcomes.length === 2, "the refusal");
      ok(outcomes[1] instanceof SystemError);
      equal(outcomes[1].errnoName, "ECONNREFUSED");
      // Given up, it is silent: one that is refused afterwards shows that the time for an answer has passed.
      host.dial({ remote: listener.local }, (outcome) => outcomes.push(outcome))();
      host.dial({ remote: listener.local }, (outcome) => outcomes.push(outcome));
      await given.until(() => outcomes.length === 3, "the second refusal");
      throws(() => host.dial({ remote: { ...listener.local, port: -1 } }, () => {}), RangeError);
      equal(outcomes.length, 3);
    },
  ],

  ["waits for bytes with a promise, and answers at once when they are there", async (given) => {
    const { client, server } = await pair(given);
    const into = new Uint8Array(new ArrayBuffer(64));
    for (const signal of [undefined, new AbortController().signal]) {
      equal(server.receiveNow(into, 0, 64), WOULD_BLOCK);
      const later = server.receive(into, 8, 64, signal);
      ok(typeof later !== "number");
      equal(client.sendNow(pattern(5), 0, 5), 5);
      equal(await given.settled(later, "the receive"), 5);
      deepEqual(into.slice(8, 13), pattern(5));
      client.sendNow(pattern(6), 0, 6);
      // What is there is taken without waiting, where it is seen without waiting.
      let count: number = WOULD_BLOCK;
      await given.until(() => (count = server.receiveNow(into, 0, 64)) !== WOULD_BLOCK, "bytes");
      equal(count, 6);
    }
  }],

  ["receives many times with promises, with and without a signal", async (given) => {
    const { client, server } = await pair(given);
    const bytes = pattern(1_000_000);
    const sent = Promise.resolve(client.send(bytes, 0, bytes.length));
    const got = new Uint8Array(new ArrayBuffer(bytes.length));
    const signal = new AbortController().signal;
    for (let at = 0, i = 0; at < bytes.length; i++) {
      const end = Math.min(bytes.length, at + 10_007);
      at += await given.settled(
        server.receive(got, at, end, i % 3 === 0 ? signal : undefined),
        "a receive",
      );
    }
    equal(await given.settled(sent, "it to be sent"), bytes.length);
    deepEqual(got, bytes);
  }],

  ["holds back a sender whose peer never reads, and loses nothing by it", async (given) => {
    const { client, server } = await pair(given, { receiveBufferBytes: 65_536 }, {
      sendBufferBytes: 65_536,
    });
    const piece = pattern(65_536);
    let taken = 0;
    let calls = 0;
    let held = false;
    const fill = (): void => {
      calls++;
      while (!held) {
        const from = taken % piece.length;
        const count = client.sendNow(piece, from, piece.length);
        if (count === WOULD_BLOCK) return;
        ok(count > 0);
        taken += count;
      }
    };
    client.watch(undefined, fill);
    fill();
    // Bounded: the same amount after many turns.
    let quiet = 0, last = -1;
    await given.until(() => {
      quiet = taken === last ? quiet + 1 : 0;
      last = taken;
      return quiet > 300;
    }, "the sender to be held back");
    held = true;
    ok(taken > 0 && taken < 32 << 20, `${taken} bytes were taken`);
    const callsBefore = calls;
    const { bytes } = await collect(given, server, taken);
    for (let at = 0; at < taken; at += 4099) equal(bytes[at], piece[at % piece.length]);
    await given.until(() => calls > callsBefore, "the sender to be called again");
  }],

  ["sends two parts as one, whichever is empty", async (given) => {
    const { client, server } = await pair(given);
    const one = pattern(20, 1), two = pattern(3000, 2);
    equal(client.sendPartsNow(one, 4, 20, two, 0, 3000), 3016);
    equal(client.sendPartsNow(one, 4, 4, two, 0, 10), 10);
    equal(client.sendPartsNow(one, 0, 4, two, 3000, 3000), 4);
    const { bytes } = await collect(given, server, 3030);
    const expected = new Uint8Array([
      ...one.slice(4),
      ...two,
      ...two.slice(0, 10),
      ...one.slice(0, 4),
    ]);
    deepEqual(bytes, expected);
    throws(() => client.sendPartsNow(one, 4, 4, two, 5, 5), RangeError);
    throws(() => client.sendPartsNow(one, 4, 21, two, 5, 6), RangeError);
  }],

  ["discards exactly as many bytes as it says", async (given) => {
    const { client, server } = await pair(given);
    const bytes = pattern(500_000);
    const sent = Promise.resolve(client.send(bytes, 0, bytes.length));
    let dropped = 0;
    server.watch(() => {
      for (let i = 0; i < 16; i++) {
        if (dropped >= 400_000) return;
        const count = server.discardNow(Math.min(60_001, 400_000 - dropped));
        if (count === WOULD_BLOCK) return;
        dropped += count;
      }
      server.again();
    });
    await given.until(() => dropped === 400_000, "400,000 bytes to be dropped");
    const rest = await collect(given, server, 100_000);
    deepEqual(rest.bytes, bytes.slice(400_000));
    equal(await given.settled(sent, "it to be sent"), bytes.length);
    equal(server.counters().bytesReceived, 500_000);
    // And with promises, to the end.
    const more = Promise.resolve(client.send(bytes, 0, 70_000));
    let left = 70_000;
    while (left > 0) {
      left -= await given.settled(
        server.discard(left, left % 2 === 0 ? undefined : new AbortController().signal),
        "a discard",
      );
    }
    await given.settled(more, "it to be sent");
    client.end();
    equal(await given.settled(server.discard(100), "the end"), STREAM_END);
    equal(server.discardNow(1), STREAM_END);
    equal(server.counters().bytesReceived, 570_000);
  }],

  ["sends a constant as its endless repetition, from any position", async (given) => {
    const { client, server } = await pair(given);
    for (const sendfile of [false, true]) {
      for (const [length, total] of [[1, 3000], [777, 3_000_000], [300_000, 4_000_001]] as const) {
        const bytes = pattern(length, 7);
        const constant = given.host.createConstant(bytes, { sendfile });
        equal(constant.length, length);
        let position = 5 * length + 3;
        const first = position;
        const pump = (): void => {
          for (let i = 0; i < 8; i++) {
            const left = first + total - position;
            if (left === 0) return;
            const count = client.sendConstantNow(constant, position, left);
            if (count === WOULD_BLOCK) return;
            ok(count > 0 && count <= left);
            position += count;
          }
          client.again();
        };
        client.watch(undefined, pump);
        const receiving = collect(given, server, total);
        pump();
        // Outside of a callback nobody calls again by itself.
        while (position < first + total && client.counters().wouldBlocks === 0) pump();
        const { bytes: got } = await receiving;
        let wrong = -1;
        for (let i = 0; i < total && wrong < 0; i++) {
          if (got[i] !== bytes[(first + i) % length]) wrong = i;
        }
        equal(wrong, -1, `constant of ${length}, sendfile ${sendfile}: byte ${wrong} is wrong`);
        constant.close();
        throws(() => client.sendConstantNow(constant, 0, 1), TypeError);
      }
    }
  }],

  ["sends a constant to its last byte with a promise", async (given) => {
    const { client, server } = await pair(given);
    const bytes = pattern(10_000, 3);
    const constant = given.host.createConstant(bytes);
    const total = 2_345_678;
    const sent = Promise.resolve(client.sendConstant(constant, 9_999, total));
    const { bytes: got } = await collect(given, server, total);
    equal(await given.settled(sent, "the constant"), total);
    let wrong = 0;
    for (let i = 0; i < total; i++) if (got[i] !== bytes[(9_999 + i) % 10_000]) wrong++;
    equal(wrong, 0);
    equal(client.counters().bytesSent, total);
    constant.close();
    constant.close();
  }],

  ["refuses ranges that are none", async (given) => {
    const { client } = await pair(given);
    const bytes = new Uint8Array(new ArrayBuffer(10));
    for (const [start, end] of [[0, 0], [-1, 5], [0, 11], [5, 4], [0, 1.5], [NaN, 3]] as const) {
      throws(() => client.receiveNow(bytes, start, end), RangeError);
      throws(() => client.sendNow(bytes, start, end), RangeError);
      await rejects(async () => await client.send(bytes, start, end), RangeError);
      await rejects(async () => await client.receive(bytes, start, end), RangeError);
    }
    throws(() => client.discardNow(0), RangeError);
    throws(() => given.host.createConstant(new Uint8Array(0)), RangeError);
    const constant = given.host.createConstant(bytes);
    throws(() => client.sendConstantNow(constant, -1, 5), RangeError);
    throws(() => client.sendConstantNow(constant, 0, 0), RangeError);
    throws(() => client.sendConstantNow({ length: 1, close: () => {} }, 0, 1), TypeError);
  }],

  ["keeps the order of everything that sends, one wait at a time", async (given) => {
    const { client, server } = await pair(given, { receiveBufferBytes: 32_768 }, {
      sendBufferBytes: 32_768,
    });
    const bytes = pattern(9_000_000);
    const long = client.send(bytes, 0, bytes.length);
    ok(typeof long !== "number", "9 MB went without waiting");
    equal(client.sendNow(bytes, 0, 5), WOULD_BLOCK);
    await rejects(async () => await client.send(bytes, 0, 5), TypeError);
    throws(() => client.end(), TypeError);
    const { bytes: got } = await collect(given, server, bytes.length);
    equal(await given.settled(long, "the long send"), bytes.length);
    client.sendNow(pattern(5, 9), 0, 5);
    deepEqual((await collect(given, server, 5)).bytes, pattern(5, 9));
    ok(got.every((byte, i) => byte === bytes[i]));
    const into = new Uint8Array(new ArrayBuffer(5));
    const waiting = server.receive(into, 0, 5);
    await rejects(async () => await server.receive(into, 0, 5), TypeError);
    equal(server.receiveNow(into, 0, 5), WOULD_BLOCK);
    client.sendNow(pattern(5, 4), 0, 5);
    equal(await given.settled(waiting, "the receive"), 5);
    deepEqual(into, pattern(5, 4));
  }],

  ["calls a watcher again for what it left, and others in between", async (given) => {
    const { client, server, listener } = await pair(given);
    const into = new Uint8Array(new ArrayBuffer(10));
    client.sendNow(pattern(200), 0, 200);
    const order: string[] = [];
    let seen = 0;
    server.watch(() => {
      const count = server.receiveNow(into, 0, 10);
      if (count > 0) {
        seen += count;
        order.push("busy");
      }
      server.again();
    });
    const other = given.host.connect({ remote: listener.local });
    const accepted = Promise.resolve(listener.accept());
    await given.settled(other, "another connection");
    const calm = await given.settled(accepted, "it to be accepted");
    calm!.watch(() => {});
    await given.until(() => seen === 200, "200 bytes, ten at a time");
    server.watch(undefined);
    equal(order.length, 20);
  }],

  ["tells counts that are frozen and true", async (given) => {
    const { client, server } = await pair(given);
    const into = new Uint8Array(new ArrayBuffer(10));
    equal(server.receiveNow(into, 0, 10), WOULD_BLOCK);
    equal(server.counters().wouldBlocks, 1);
    client.sendNow(into, 0, 10);
    await collect(given, server, 10);
    const { sendCalls, bytesSent } = client.counters();
    deepEqual([sendCalls, bytesSent], [1, 10]);
    ok(server.counters().receiveCalls >= 1);
    ok(Object.isFrozen(server.counters()));
  }],

  ["sends nothing after the end, which comes behind everything before", async (given) => {
    const { client, server } = await pair(given);
    const bytes = pattern(50_000);
    equal(client.sendNow(bytes, 0, 50_000), 50_000);
    client.end();
    client.end();
    throws(() => client.sendNow(bytes, 0, 1), TypeError);
    await rejects(async () => await client.send(bytes, 0, 1), TypeError);
    const { bytes: got, end } = await collect(given, server);
    deepEqual(got, bytes);
    equal(end, STREAM_END);
    // The other way still carries.
    equal(await given.settled(server.send(bytes, 0, 50_000), "the answer"), 50_000);
    server.end();
    const answer = await collect(given, client);
    deepEqual(answer.bytes, bytes);
    equal(answer.end, STREAM_END);
    equal(client.failure, undefined);
    equal(server.receiveNow(bytes, 0, 1), STREAM_END);
  }],
];

runContract("Stream", SUITE, DRIVERS);
