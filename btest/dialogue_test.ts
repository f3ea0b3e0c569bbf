/** Our client against servers made by hand, and our server against clients made by hand, on every driver. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { bytesOfHex } from "../internal/testing/vectors.ts";
import { nextTurn } from "../internal/time/turn.ts";
import type { TestInterval, TestResult } from "./api_types.ts";
import { run, type RunOptions } from "./client.ts";
import {
  createVerifier,
  Decoy,
  EcSrp5Client,
  EcSrp5Server,
  encodeMd5Answer,
} from "./protocol/mod.ts";
import { DRIVER_ROWS, type Floor } from "./testdata/floor.ts";
import { Hand, HandServer, statusHex, UdpHand } from "./testdata/hand_made.ts";

const HELLO = "01000000";
const ACCEPTED = "01000000";
const TRANSMIT = "01010100008000000000000000000000";

/** Our client, on the driver of the row, against a server made by hand. */
function test(floor: Floor, server: HandServer, options: RunOptions = {}): Promise<TestResult> {
  const { driver, workers } = floor;
  const login = { user: "admin", password: "secret" };
  return run(server.target, { driver, workers, durationMs: 60, ...login, ...options });
}

/** One side of an EC-SRP5 login with the words it sends, sent by `say`. */
async function serveEcSrp5(hand: Hand, say: (bytes: Uint8Array) => Promise<void>): Promise<void> {
  const server = new EcSrp5Server(randomBytes(32), new Decoy(new Uint8Array(32)));
  const salt = new Uint8Array(16).fill(3);
  let have = new Uint8Array(0);
  for (;;) {
    const step = server.step(have, 0, have.length);
    if (step.kind === "need") {
      have = Uint8Array.from([...have, ...bytesOfHex(await hand.hear(step.bytes - have.length))]);
      continue;
    }
    have = have.slice(step.consumed);
    if (step.kind === "write") await say(step.bytes);
    else if (step.kind === "user") server.verify(createVerifier("admin", "secret", salt));
    else return equal(step.outcome, "proved");
  }
}

async function proveEcSrp5(hand: Hand): Promise<void> {
  const client = new EcSrp5Client("admin", "secret", randomBytes(32));
  let have = new Uint8Array(0);
  for (;;) {
    const step = client.step(have, 0, have.length);
    if (step.kind === "need") {
      have = Uint8Array.from([...have, ...bytesOfHex(await hand.hear(step.bytes - have.length))]);
      continue;
    }
    if (step.kind === "done") return equal(step.outcome, "proved");
    have = have.slice(step.consumed);
    if (step.kind === "write") await hand.dribble(step.bytes);
  }
}

const CLIENT: ContractCase<Floor>[] = [
  ["understands answers and logins that come byte by byte", async (floor) => {
    await using server = new HandServer(async (hand, index) => {
      await hand.dribble(HELLO);
      await hand.hear(16);
      if (index === 0) {
        await hand.dribble("02000000" + "5a".repeat(16));
        const answer = encodeMd5Answer("admin", "secret", new Uint8Array(16).fill(0x5a));
        equal(
          await hand.hear(48),
          [...answer].map((b) => b.toString(16).padStart(2, "0")).join(""),
        );
      } else if (index === 1) {
        await hand.dribble("03000000");
        await serveEcSrp5(hand, (bytes) => hand.dribble(bytes));
      }
      await hand.dribble(ACCEPTED);
      await hand.say(new Uint8Array(5000));
      await hand.drain();
    });
    for (const auth of ["md5", "ecsrp5", "none"] as const) {
      const result = await test(floor, server);
      deepEqual([result.auth, result.reason, result.rxBytes], [auth, "duration", 5000]);
    }
  }],
  ["tells what a server does wrong, and where", async (floor) => {
    const login = "0300000031";
    const cases: readonly (readonly [says: readonly string[], code: string, phase: string])[] = [
      [[], "btest.no-answer", "hello"],
      [[HELLO], "btest.no-answer", "answer"],
      [[HELLO, "0300"], "btest.no-answer", "answer"],
      [[HELLO, login], "btest.no-answer", "proof"],
      [["02000000"], "btest.protocol", "hello"],
      [["01bc0400"], "btest.protocol", "hello"],
      [["48545450"], "btest.protocol", "hello"],
      [[HELLO, "05000000"], "btest.protocol", "answer"],
      [[HELLO, "01000001"], "btest.protocol", "answer"],
      [[HELLO, "0300000030"], "btest.protocol", "proof"],
      [[HELLO, login + "00".repeat(49)], "btest.protocol", "proof"],
      [[HELLO, "00000000"], "btest.refused", ""],
      [[HELLO, "02000000" + "00".repeat(16), "00000000"], "btest.auth-failed", ""],
      [[HELLO, "02000000" + "00".repeat(16), "02000000"], "btest.protocol", "verdict"],
      [["x"], "btest.peer-closed", "hello"],
      [[HELLO, "x"], "btest.peer-closed", "answer"],
      [[HELLO, "0100", "x"], "btest.peer-closed", "answer"],
      [[HELLO, "03000000", "x"], "btest.peer-closed", "proof"],
      [[HELLO, "02000000" + "00".repeat(16), "x"], "btest.auth-failed", ""],
    ];
    await Promise.all(cases.map(async ([says, code, phase]) => {
      await using server = new HandServer(async (hand) => {
        for (const [i, word] of says.entries()) {
          // What our client says is read: a close with bytes unread would be a reset.
          if (i === 1) await hand.hear(16);
          if (i === 2 && says[1]!.startsWith("02")) await hand.hear(48);
          if (i === 2 && says[1]!.startsWith("03")) await hand.hear(1 + 5 + 1 + 33);
          if (word === "x") return;
          await hand.say(word);
        }
        await hand.drain();
      });
      const wanted = new RegExp(phase === "" ? "" : `"${phase}"`);
      await rejects(
        test(floor, server, { answerTimeoutMs: 150 }),
        (error: { code?: string; message: string }) => {
          equal(error.code, code, `${says}: ${error.message}`);
          match(error.message, wanted, says.join(" "));
          return true;
        },
      );
    }));
  }],
  ["knows an impostor by the proof that it cannot give", async (floor) => {
    await using server = new HandServer(async (hand) => {
      await hand.say(HELLO);
      await hand.hear(16);
      await hand.say("03000000");
      await hand.hear(1 + 5 + 1 + 33);
      const point = createVerifier("admin", "guess", new Uint8Array(16)).gamma;
      await hand.say(Uint8Array.from([0x31, ...point, ...new Uint8Array(16)]));
      await hand.hear(33);
      await hand.say("20" + "77".repeat(32));
      await hand.drain();
    });
    await rejects(test(floor, server), { code: "btest.server-proof" });
  }],
  ["closes when a server has no token for its connections", async (floor) => {
    await using server = new HandServer(async (hand) => {
      await hand.say(HELLO);
      await hand.hear(16);
      await hand.say(ACCEPTED);
      equal(await hand.hear(1), "");
    });
    await rejects(test(floor, server, { connections: 2 }), { code: "btest.unsupported" });
  }],
  ["tells a server that closes midway from one that never began", async (floor) => {
    await using server = new HandServer(async (hand) => {
      await hand.say(HELLO);
      await hand.hear(16);
      await hand.say(ACCEPTED);
      await hand.say(new Uint8Array(1000));
    });
    const result = await test(floor, server, { durationMs: 5000 });
    deepEqual([result.reason, result.rxBytes], ["peer-closed", 1000]);
  }],
  ["takes an answer to its join for data, and goes on when a connection closes", async (floor) => {
    const joins: string[] = [];
    await using server = new HandServer(async (hand, index) => {
      await hand.say(HELLO);
      const first = await hand.hear(16);
      if (index > 0) joins.push(first);
      // Some servers answer a join; nobody may wait for it or be misled by it.
      await hand.say("01bc0400");
      if (index === 2) return;
      await hand.say(new Uint8Array(1000));
      await hand.drain();
    });
    const result = await test(floor, server, { connections: 3, durationMs: 100 });
    deepEqual(joins, Array(2).fill("bc040200000000000000000000000000"));
    equal(result.reason, "duration");
    // Two connections with a thousand bytes, two joins with four.
    ok(result.rxBytes === 2008 || result.rxBytes === 2004, `${result.rxBytes} bytes`);
    ok(result.warnings.length > 0 || result.connections === 3);
  }],
  [
    "finds status messages between blocks that begin like one, however they are cut",
    async (floor) => {
      const block = new Uint8Array(32_768);
      // What one old tool sends: each block begins like the first status.
      block.set(bytesOfHex("070000000100000000000000"));
      let data = 0;
      await using server = new HandServer(async (hand) => {
        await hand.say(HELLO);
        await hand.hear(16);
        await hand.say(ACCEPTED);
        const drained = hand.drain();
        const blocks = async (untilMs: number): Promise<void> => {
          const startedAt = performance.now();
          while (performance.now() - startedAt < untilMs) {
            await hand.say(block);
            data += block.length;
            await nextTurn();
          }
        };
        // Nothing is taken for a first status within half a second.
        await blocks(560);
        const status = bytesOfHex(statusHex(0x80 | 89, 1, 1_000_000));
        for (const piece of [status.subarray(0, 1), status.subarray(1, 7), status.subarray(7)]) {
          await hand.say(piece);
          await nextTurn();
        }
        await blocks(20);
        await drained;
      });
      const result = await test(floor, server, {
        direction: "both",
        durationMs: 750,
        localTxSpeedBps: 8_000_000,
      });
      equal(result.reason, "duration");
      deepEqual([result.peerReceivedBytes, result.remoteCpu], [1_000_000, 89]);
      equal(result.rxBytes, data);
    },
  ],
  [
    "opens the way for UDP data from any port of the server, and from nobody else",
    async (floor) => {
      await using port = await UdpHand.openPair();
      await using other = await UdpHand.open();
      await using third = await UdpHand.open();
      await using stranger = await UdpHand.open("127.0.0.2");
      await using server = new HandServer(async (hand) => {
        await hand.say(HELLO);
        await hand.hear(16);
        // Accepted and the port in one segment, as RouterOS does.
        await hand.say(ACCEPTED + port.port.toString(16).padStart(4, "0"));
        await port.until((heard) => heard.length >= 2);
        const to = port.port + 256;
        for (let i = 1; i <= 5; i++) await stranger.send(to, 1472, i);
        for (let i = 1; i <= 10; i++) await other.send(to, 1472, i);
        // A port counts for itself: 1, 2, then 5.
        for (const i of [1, 2, 5]) await third.send(to, 1472, i);
        // Numbers 1, 2 and 5, cut: three seconds of status messages of which two are missing.
        await hand.say(statusHex(40, 1, 0) + statusHex(50, 2, 0).slice(0, 10));
        await hand.dribble(statusHex(50, 2, 0).slice(10) + statusHex(60, 5, 0));
        await hand.drain();
      });
      const seconds: TestInterval[] = [];
      const result = await test(floor, server, {
        protocol: "udp",
        durationMs: 600,
        onInterval: (interval) => seconds.push(interval),
      });
      equal(result.reason, "duration");
      deepEqual([result.datagramsReceived, result.lost, result.rxBytes], [13, 2, 13 * 1500]);
      equal(result.remoteCpu, 50);
      // Now and after 250 ms, until data came.
      deepEqual(port.heard, Array(2).fill({ port: port.port + 256, length: 0 }));
    },
  ],
];

const SERVER: ContractCase<Floor>[] = [
  ["understands logins that come byte by byte, with twenty connections", async (floor) => {
    await Promise.all((["none", "md5", "ecsrp5"] as const).map(async (auth) => {
      const server = await floor.server({ auth });
      const hands: Hand[] = [];
      try {
        const first = await Hand.dial(server.address.port);
        hands.push(first);
        equal(await first.hear(4), HELLO);
        await first.dribble("010201140080000020a1070000000000");
        if (auth === "md5") {
          const challenge = bytesOfHex(await first.hear(20)).subarray(4);
          await first.dribble(encodeMd5Answer("admin", "secret", challenge));
        } else if (auth === "ecsrp5") {
          equal(await first.hear(4), "03000000");
          await proveEcSrp5(first);
        }
        const accepted = await first.hear(4);
        match(accepted, /^01(?!00|01)..(?!00)..00$/);
        // All at once, a byte at a time each.
        await Promise.all(Array.from({ length: 19 }, async () => {
          const hand = await Hand.dial(server.address.port);
          hands.push(hand);
          equal(await hand.hear(4), HELLO);
          await hand.dribble(`${accepted.slice(2, 6)}0200000000000000000000000000`);
        }));
        // Data on every one of them, and nothing before it.
        const heard = await Promise.all(hands.map((hand) => hand.hear(8)));
        deepEqual(heard, Array(20).fill("00".repeat(8)));
      } finally {
        for (const hand of hands) hand.close();
      }
      equal((await server.end()).connections, 20);
    }));
  }],
  ["counts the data that comes in one segment with the command", async (floor) => {
    const server = await floor.server();
    const hand = await Hand.dial(server.address.port);
    await hand.say(bytesOfHex(TRANSMIT + "00".repeat(5000)));
    equal(await hand.hear(8), HELLO + ACCEPTED);
    hand.close();
    equal((await server.end()).rxBytes, 5000);
  }],
  ["counts UDP data from any port of its client, and from nobody else", async (floor) => {
    const server = await floor.server();
    const hand = await Hand.dial(server.address.port);
    equal(await hand.hear(4), HELLO);
    await hand.say("00010103dc0500000000000000000000");
    const port = parseInt((await hand.hear(6)).slice(8), 16);
    await using stranger = await UdpHand.open("127.0.0.2");
    const ports: UdpHand[] = [];
    for (let i = 0; i < 3; i++) ports.push(await UdpHand.open());
    for (let i = 1; i <= 4; i++) await stranger.send(port, 1472, i);
    // Each port has its own numbers; the last one loses two and sends one twice.
    for (let i = 1; i <= 10; i++) {
      for (const one of ports.slice(0, 2)) await one.send(port, 1472, i);
    }
    for (const i of [1, 4, 4]) await ports[2]!.send(port, 1472, i);
    // A status of ours comes a second later and tells what was counted.
    match(await hand.hear(12), new RegExp(`^07..000001000000${littleHex(23 * 1500)}$`));
    hand.close();
    const end = await server.end();
    deepEqual([end.datagramsReceived, end.lost, end.duplicates], [23, 2, 1]);
    equal(end.rxBytes, 23 * 1500);
    for (const one of ports) await one[Symbol.asyncDispose]();
  }],
  [
    "sends where an empty datagram of its client came from, and follows nobody else",
    async (floor) => {
      const server = await floor.server({ udpStartBps: 1_000_000 });
      const hand = await Hand.dial(server.address.port);
      equal(await hand.hear(4), HELLO);
      await hand.say("00020100dc05000040420f0000000000");
      const port = parseInt((await hand.hear(6)).slice(8), 16);
      await using usual = await UdpHand.open("127.0.0.1", port + 256);
      await usual.until((heard) => heard.length > 0);
      await using stranger = await UdpHand.open("127.0.0.2");
      await using loud = await UdpHand.open();
      await using behindNat = await UdpHand.open();
      await stranger.send(port, 0);
      await loud.send(port, 1472, 1);
      await loud.send(port, 2);
      await behindNat.send(port, 0);
      await behindNat.until((heard) => heard.length > 2);
      const before = usual.heard.length;
      await behindNat.until((heard) => heard.length > 6);
      ok(usual.heard.length <= before + 1, "it still sends to the old port");
      deepEqual([stranger.heard.length, loud.heard.length], [0, 0]);
      deepEqual(behindNat.heard[0], { port, length: 1472 });
      hand.close();
      equal((await server.end()).reason, "peer-closed");
    },
  ],
  ["reads status messages in pieces and with gaps, and misses none that came", async (floor) => {
    const server = await floor.server({ controlTimeoutMs: 400 });
    const hand = await Hand.dial(server.address.port);
    equal(await hand.hear(4), HELLO);
    await hand.say("00020100dc05000040420f0000000000");
    await hand.hear(6);
    await server.started();
    await hand.say(statusHex(0x80 | 10, 1, 1000) + statusHex(0x80 | 20, 2, 2000).slice(0, 2));
    await hand.dribble(statusHex(0x80 | 20, 2, 2000).slice(2));
    // Three seconds of them were lost with their sender's patience, and something stands between.
    await hand.say("00ff" + statusHex(0x80 | 60, 6, 4000));
    const end = await server.end();
    equal(end.reason, "control-timeout");
    deepEqual([end.peerReceivedBytes, end.remoteCpu], [7000, 30]);
    ok(end.elapsedMs >= 400, `${end.elapsedMs} ms`);
    hand.close();
  }],
  ["gives up a client that takes nothing", async (floor) => {
    const server = await floor.server({ idleTimeoutMs: 150 });
    const hand = await Hand.dial(server.address.port);
    await hand.hear(4);
    await hand.say("01020100008000000000000000000000");
    // It lives, and reads no further.
    const end = await server.end();
    equal(end.reason, "idle");
    ok(end.elapsedMs >= 150 && end.txBytes > 0, `${end.elapsedMs} ms, ${end.txBytes} bytes`);
    hand.close();
    // The slowest cap there is moves a byte every eight seconds, which is no silence.
    const slow = await floor.run(server, { remoteTxSpeedBps: 1, durationMs: 350 });
    equal(slow.reason, "duration");
  }],
  ["carries a hundred connections in one test", async (floor) => {
    const server = await floor.server();
    const result = await floor.run(server, {
      direction: "both",
      connections: 100,
      durationMs: 150,
      localTxSpeedBps: 40_000_000,
      remoteTxSpeedBps: 40_000_000,
    });
    const end = await server.end();
    deepEqual([result.connections, end.connections], [100, 100]);
    deepEqual([result.warnings, end.warnings], [[], []]);
    equal(result.rxBytes, end.txBytes);
    equal(result.txBytes, end.rxBytes);
  }],
  ["stops a UDP sender within 100 ms when the client resets", async (floor) => {
    const server = await floor.server();
    const raw = await floor.command(server, "00020100dc05000040420f0000000000", 6);
    await server.started();
    const before = performance.now();
    await raw.connection.close({ reset: true });
    equal((await server.end()).reason, "peer-closed");
    ok(performance.now() - before < 100, `${performance.now() - before} ms`);
  }],
];

function littleHex(value: number): string {
  const view = new DataView(new ArrayBuffer(4));
  view.setUint32(0, value, true);
  return [...new Uint8Array(view.buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join(
    "",
  );
}

runContract("btest client", CLIENT, DRIVER_ROWS);
runContract("btest server", SERVER, DRIVER_ROWS);
