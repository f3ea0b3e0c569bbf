/** Our client against our server, over real sockets, on every driver. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { openStreamHost } from "../ffi/mod.ts";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import type { TestInterval } from "./api_types.ts";
import { run } from "./client.ts";
import { DRIVER_ROWS, type Floor, THREAD_ROWS } from "./testdata/floor.ts";

const AUTHS = ["none", "md5", "ecsrp5"] as const;
const DIRECTIONS = ["receive", "transmit", "both"] as const;

const SUITE: ContractCase<Floor>[] = [];
/** What is shown on threads too, because the data takes another way there. A long run shows everything. */
const ON_THREADS: readonly RegExp[] = [
  /^moves ... data, both, login none$/,
  /^spreads a test/,
  /^stops sending/,
  /^begins at once/,
];

/** Room for every byte to arrive before the test is over, also on a machine with other things to do. */
const MODERATE = { localTxSpeedBps: 80_000_000, remoteTxSpeedBps: 80_000_000 } as const;

for (const auth of AUTHS) {
  for (const direction of DIRECTIONS) {
    // Logins do not care where the data goes: each meets one direction, and the plain one all of them.
    if (auth !== "none" && direction !== (auth === "md5" ? "transmit" : "both")) continue;
    // One of them as fast as it goes; for the others speed would only be heat.
    const speed = auth === "none" && direction === "transmit" ? {} : MODERATE;
    SUITE.push([`moves TCP data, ${direction}, login ${auth}`, async (floor) => {
      const server = await floor.server({ auth });
      const result = await floor.run(server, { direction, durationMs: 100, ...speed });
      const end = await server.end();
      equal(result.reason, "duration");
      equal(result.auth, auth);
      deepEqual(result.warnings, []);
      // Every byte that one side took for sent, the other one counted.
      equal(result.rxBytes, end.txBytes);
      equal(result.txBytes, end.rxBytes);
      equal(result.rxBytes > 0, direction !== "transmit");
      equal(result.txBytes > 0, direction !== "receive");
      ok(result.elapsedMs >= 100 && result.elapsedMs < 700, `${result.elapsedMs} ms`);
    }], [`moves UDP data, ${direction}, login ${auth}`, async (floor) => {
      const server = await floor.server({ auth });
      const result = await floor.run(server, {
        protocol: "udp",
        direction,
        durationMs: 100,
        localTxSpeedBps: 4_000_000,
        remoteTxSpeedBps: 4_000_000,
      });
      const end = await server.end();
      equal(result.reason, "duration");
      // What is on its way when the test ends is lost to the count, not to the network.
      if (direction !== "transmit") {
        ok(result.datagramsReceived > 5 && result.datagramsReceived <= end.datagramsSent);
      }
      if (direction !== "receive") {
        equal(end.datagramsReceived + end.lost, result.datagramsSent);
        ok(end.datagramsReceived > 5);
      }
      equal(result.txBytes, result.datagramsSent * 1500);
      equal(end.rxBytes, end.datagramsReceived * 1500);
      ok(result.elapsedMs >= 100, `${result.elapsedMs} ms`);
    }]);
  }
}

SUITE.push(
  ["spreads a test over twenty connections", async (floor) => {
    const server = await floor.server();
    const result = await floor.run(server, {
      direction: "both",
      connections: 20,
      durationMs: 200,
      ...MODERATE,
    });
    const end = await server.end();
    equal(result.connections, 20);
    equal(end.connections, 20);
    deepEqual(end.warnings, []);
    equal(result.rxBytes, end.txBytes);
    equal(result.txBytes, end.rxBytes);
  }],
  ["tells seconds that add up to the end, and ends tests that last too long", async (floor) => {
    // At once, because both take more than a second.
    const strict = await floor.server({ maxDurationMs: 1000 });
    const server = await floor.server();
    const seconds: TestInterval[] = [];
    const [result, cut] = await Promise.all([
      floor.run(server, {
        direction: "both",
        durationMs: 1200,
        localTxSpeedBps: 50_000_000,
        remoteTxSpeedBps: 50_000_000,
        onInterval: (interval) => seconds.push(interval),
      }),
      floor.run(strict, { direction: "receive", durationMs: 5000, remoteTxSpeedBps: 8_000_000 }),
    ]);
    deepEqual(seconds.map(({ second }) => second), [1, 2]);
    equal(seconds.reduce((sum, { rxBytes }) => sum + rxBytes, 0), result.rxBytes);
    equal(seconds.reduce((sum, { txBytes }) => sum + txBytes, 0), result.txBytes);
    // The server's status of the first second stood between the data and was taken out of it.
    ok(result.peerReceivedBytes > 0, "no status was found");
    const end = await server.end();
    equal(result.txBytes, end.rxBytes);
    equal(result.rxBytes, end.txBytes);
    equal((await strict.end()).reason, "duration");
    equal(cut.reason, "peer-closed");
    ok(cut.elapsedMs > 900 && cut.elapsedMs < 1800, `${cut.elapsedMs} ms`);
  }],
  ["keeps to the caps of both sides", async (floor) => {
    const server = await floor.server();
    const one = async (protocol: "tcp" | "udp") => {
      const result = await floor.run(server, {
        protocol,
        direction: "both",
        durationMs: 350,
        localTxSpeedBps: 8_000_000,
        remoteTxSpeedBps: 16_000_000,
      });
      // Loose: the machine may be busy. The exact claim is a bench.
      ok(result.txBps > 6e6 && result.txBps < 10e6, `${protocol} sent ${result.txBps} bit/s`);
      ok(result.rxBps > 12e6 && result.rxBps < 20e6, `${protocol} received ${result.rxBps} bit/s`);
    };
    await Promise.all([one("tcp"), one("udp")]);
  }],
  ["refuses a wrong user exactly as a wrong password", async (floor) => {
    for (const auth of ["md5", "ecsrp5"] as const) {
      const server = await floor.server({ auth });
      for (const login of [{ user: "nobody", password: "secret" }, { password: "wrong" }]) {
        await rejects(
          floor.run(server, { ...login, durationMs: 100 }),
          (error: { code?: string; message: string }) => {
            equal(error.code, "btest.auth-failed");
            match(error.message, /^Cannot test with 127\.0\.0\.1:\d+: it does not accept the user/);
            return true;
          },
        );
      }
      equal(server.server.snapshot().loginsFailed, 2);
      equal(server.server.snapshot().testsStarted, 0);
    }
  }],
  ["asks for a user where one is needed", async (floor) => {
    const server = await floor.server({ auth: "ecsrp5" });
    await rejects(
      run(server.target, { driver: floor.driver, durationMs: 100 }),
      { code: "btest.auth-required" },
    );
  }],
  ["stops sending within 100 ms when the client resets", async (floor) => {
    const server = await floor.server();
    const raw = await floor.command(server, "01020100008000000000000000000000");
    await raw.hear(100_000);
    const before = performance.now();
    await raw.connection.close({ reset: true });
    const end = await server.end();
    equal(end.reason, "peer-closed");
    ok(performance.now() - before < 100, `${performance.now() - before} ms`);
  }],
  ["gives up a client that sends nothing", async (floor) => {
    const server = await floor.server({ idleTimeoutMs: 120 });
    await floor.command(server, "01010100008000000000000000000000");
    const end = await server.end();
    equal(end.reason, "idle");
    ok(end.elapsedMs >= 120 && end.elapsedMs < 600, `${end.elapsedMs} ms`);
  }],
  ["gives up a UDP client whose status messages stop", async (floor) => {
    const server = await floor.server({ controlTimeoutMs: 120 });
    await floor.command(server, "00020100dc05000040420f0000000000");
    equal((await server.end()).reason, "control-timeout");
  }],
  ["understands a handshake that comes byte by byte", async (floor) => {
    const server = await floor.server();
    const raw = await floor.dial(server);
    equal(await raw.hear(4), "01000000");
    for (const byte of "01020100008000000000000000000000".match(/../g)!) await raw.say(byte);
    equal((await raw.hear(12)).slice(0, 24), "010000000000000000000000");
  }],
  ["closes a stranger's join, and one that nobody waits for, unanswered", async (floor) => {
    const server = await floor.server();
    const raw = await floor.dial(server);
    equal(await raw.hear(4), "01000000");
    await raw.say("fe010200000000000000000000000000");
    equal(await raw.hear(1), "");
    // A test waits at 127.0.0.1; the join with its very token comes from elsewhere.
    const waiting = await floor.command(server, "01020102008000000000000000000000", 4);
    const token = waiting.answer.slice(2, 6);
    if (!floor.host.traits.bind) return;
    const stranger = await floor.dial(server, "127.0.0.2");
    equal(await stranger.hear(4), "01000000");
    await stranger.say(`${token}0200000000000000000000000000`);
    equal(await stranger.hear(1), "");
    equal(server.server.snapshot().testsStarted, 0);
  }],
  ["begins at once with the last connection of a test", async (floor) => {
    const server = await floor.server();
    const first = await floor.command(server, "01020102008000000000000000000000", 4);
    match(first.answer, /^01..(?!00)..00$/);
    const second = await floor.dial(server);
    equal(await second.hear(4), "01000000");
    await second.say(`${first.answer.slice(2, 6)}0200000000000000000000000000`);
    // No answer to a join: the first bytes are data.
    equal(await second.hear(4), "00000000");
    equal(await first.hear(4), "00000000");
  }],
  ["begins without the connections that do not come", async (floor) => {
    const server = await floor.server({ joinTimeoutMs: 100 });
    const first = await floor.command(server, "01020105008000000000000000000000", 4);
    equal(await first.hear(4), "00000000");
    await first.connection.close();
    const end = await server.end();
    equal(end.connections, 1);
    deepEqual(end.warnings, ["Of 5 connections 1 came within 100 ms"]);
  }],
  ["closes connections unanswered when all places are taken", async (floor) => {
    const server = await floor.server({ maxSessions: 1 });
    const first = await floor.command(server, "01020100008000000000000000000000");
    await first.hear(10);
    const late = await floor.dial(server);
    equal(await late.hear(4), "");
    equal(server.server.snapshot().connectionsRefused, 1);
    await first.connection.close();
    await server.end();
    await floor.run(server, { durationMs: 100 });
  }],
  ["lets tests end, then stops", async (floor) => {
    const server = await floor.server();
    const result = floor.run(server, { direction: "transmit", durationMs: 300 });
    await server.started();
    await server.server.shutdown({ graceMs: 5000 });
    equal((await result).reason, "duration");
    await server.server.finished;
  }],
  ["ends a test with what was measured when it is aborted", async (floor) => {
    const server = await floor.server();
    const abort = new AbortController();
    const result = await floor.run(server, {
      durationMs: 0,
      signal: abort.signal,
      onStart: () => abort.abort(),
    });
    equal(result.reason, "stopped");
    await rejects(floor.run(server, { signal: AbortSignal.abort("why") }), (e) => e === "why");
  }],
);

runContract("btest", SUITE, DRIVER_ROWS);
runContract(
  "btest",
  Deno.env.get("FASTWIRE_LONG") === "1"
    ? SUITE
    : SUITE.filter(([name]) => ON_THREADS.some((pattern) => pattern.test(name))),
  THREAD_ROWS,
);

Deno.test("run() says that nobody listens", async () => {
  const host = await openStreamHost({ driver: "portable" });
  const bind = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;
  const listener = await host.listen({ bind });
  const { port } = listener.local;
  await host.close();
  await rejects(run(`127.0.0.1:${port}`), { name: "SystemError" });
});
