import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import type { OpenRedis, RedisWire } from "./redis.ts";
import { codeOfReply, peerText, redisError } from "./redis_errors.ts";
import { RedisLink, type RedisLinkEvent, type RedisLinkOptions } from "./redis_link.ts";
import { ManualClock } from "./time/clock.ts";

/** A server that does what the test says. */
class FakeServer {
  /** Errors of the next attempts to connect; without one they succeed. */
  readonly refusals: Error[] = [];
  /** Answers a command; nothing for a server that is silent. */
  reply: (args: readonly string[]) => unknown = () => "OK";
  readonly subscribed: string[] = [];
  readonly wires: { closed: boolean; lose(cause?: unknown): void }[] = [];
  listeners: ((channel: string) => void)[] = [];

  readonly open: OpenRedis = (onLost) => {
    const refusal = this.refusals.shift();
    if (refusal !== undefined) return Promise.reject(refusal);
    const state = { closed: false, lose: onLost };
    this.wires.push(state);
    const wire: RedisWire = {
      send: (args) => {
        const reply = this.reply(args);
        if (reply instanceof Error) return Promise.reject(reply);
        return reply === undefined ? new Promise(() => {}) : Promise.resolve(reply);
      },
      nodes: () => Promise.resolve([wire]),
      subscribe: (pattern, listener) => {
        this.subscribed.push(pattern);
        this.listeners.push(listener);
        return Promise.resolve();
      },
      close: () => state.closed = true,
    };
    return Promise.resolve(wire);
  };
}

interface Subject extends AsyncDisposable {
  readonly server: FakeServer;
  readonly link: RedisLink;
  readonly events: RedisLinkEvent[];
  readonly clock: ManualClock;
}

function subject(options: Partial<RedisLinkOptions> = {}): Subject {
  const server = new FakeServer(), clock = new ManualClock(), events: RedisLinkEvent[] = [];
  const link = new RedisLink({
    open: server.open,
    wait: () => Promise.resolve(),
    random: { bytes: (n) => new Uint8Array(n), u32: () => 0, float: () => 0.5 },
    clock,
    ...options,
  });
  link.observe((event) => events.push(event));
  return { server, link, events, clock, [Symbol.asyncDispose]: () => link.close() };
}

function refusal(message: string): Error {
  return new (class SimpleError extends Error {})(message);
}

function told(events: readonly RedisLinkEvent[]): string[] {
  return events.map((event) =>
    event.state === "lost"
      ? event.code
      : event.state === "reconnecting"
      ? `#${event.attempt} ${event.delayMs}`
      : event.state
  );
}

Deno.test("RedisLink waits a random part of a limit that doubles to 2 s", async () => {
  await using it = subject();
  it.server.refusals.push(...Array.from({ length: 7 }, () => new Error("refused")));
  it.link.start();
  await it.link.whenConnected();
  deepEqual(told(it.events).filter((line) => line.startsWith("#")), [
    "#1 50",
    "#2 100",
    "#3 200",
    "#4 400",
    "#5 800",
    "#6 1000",
    "#7 1000",
  ]);
  equal(told(it.events).at(-1), "connected");
});

Deno.test("RedisLink starts over with its patience only after a connection that held", async () => {
  await using it = subject();
  it.link.start();
  for (const heldMs of [0, 10, 999, 1000, 5]) {
    await it.link.whenConnected();
    it.clock.advance(heldMs);
    it.server.wires.at(-1)!.lose(new Error("gone"));
  }
  await it.link.whenConnected();
  deepEqual(told(it.events).filter((line) => line.startsWith("#")), [
    "#1 50",
    "#1 100",
    "#1 200",
    "#1 50",
    "#1 100",
  ]);
  ok(it.server.wires.slice(0, -1).every(({ closed }) => closed));
});

Deno.test("RedisLink rejects what is pending with the code of the loss, before it tells", async () => {
  await using it = subject();
  it.link.start();
  await it.link.whenConnected();
  it.server.reply = () => undefined;
  const pending = it.link.send(["GET", "x"], "get");
  const order: string[] = [];
  it.link.observe(({ state }) => order.push(state));
  it.server.wires[0]!.lose(Object.assign(new Error("reset"), { code: "ECONNRESET" }));
  const refused = it.link.send(["GET", "x"], "get");
  await rejects(pending.finally(() => order.push("rejected")), {
    code: "redis.connection-lost",
    errnoName: "ECONNRESET",
  });
  await rejects(refused, { code: "redis.not-connected" });
  await it.link.whenConnected();
  deepEqual(order, ["rejected", "lost", "reconnecting", "connected"]);
});

Deno.test("RedisLink counts as connected only after every step of preparation", async () => {
  await using it = subject();
  const steps: string[] = [];
  let loading = true;
  it.link.prepare(async (link) => {
    steps.push(`first, connected ${link.connected}`);
    it.server.reply = () => loading ? refusal("LOADING Redis is loading") : "OK";
    await link.send(["PING"], "ask");
  });
  it.link.prepare(() => {
    steps.push("second");
    return Promise.resolve();
  });
  const waits: RedisLinkEvent[] = [];
  it.link.observe((event) => {
    waits.push(event);
    if (waits.length === 4) loading = false;
  });
  it.link.start();
  await it.link.whenConnected();
  deepEqual(steps, [...Array(3).fill("first, connected false"), "second"]);
  deepEqual(told(it.events).filter((line) => line.startsWith("redis.")), [
    "redis.loading",
    "redis.loading",
  ]);
});

Deno.test("RedisLink gives a silent server up", async () => {
  await using it = subject({ timeoutMs: 10, clock: { now: () => performance.now() } });
  it.link.start();
  await it.link.whenConnected();
  it.server.reply = () => undefined;
  const sent = it.link.send(["GET", "x"], "read the table");
  await rejects(sent, { name: "DeadlineError", code: "redis.timeout", phase: "read the table" });
  await it.link.whenConnected();
  deepEqual(told(it.events).slice(0, 2), ["connected", "redis.timeout"]);
  ok(it.server.wires[0]!.closed);
});

Deno.test("RedisLink follows patterns again on every connection", async () => {
  await using it = subject();
  const heard: string[] = [];
  it.link.start();
  await it.link.whenConnected();
  await it.link.follow("a*", (channel) => heard.push(channel));
  await it.link.follow("a*", (channel) => heard.push(channel.toUpperCase()));
  deepEqual(it.server.subscribed, ["a*"]);
  equal(it.server.wires.length, 2);
  it.server.wires[1]!.lose(new Error("gone"));
  await it.link.whenConnected();
  deepEqual(it.server.subscribed, ["a*", "a*"]);
  deepEqual(it.server.wires.map(({ closed }) => closed), [true, true, false, false]);
  it.server.listeners.at(-1)!("abc");
  deepEqual(heard, ["abc", "ABC"]);
  const deaf = subject({ openSubscriptions: null });
  await rejects(deaf.link.follow("a*", () => {}), TypeError);
});

Deno.test("RedisLink ends at once when it is closed, whatever it was doing", async () => {
  const opening = Promise.withResolvers<RedisWire>();
  let aborted = false;
  const it = subject({
    open: (_onLost, signal) => {
      signal.addEventListener("abort", () => {
        aborted = true;
        opening.reject(new Error("aborted"));
      });
      return opening.promise;
    },
  });
  it.link.start();
  const waiting = rejects(it.link.whenConnected(), { code: "redis.closed" });
  await it.link.close();
  await waiting;
  ok(aborted);
  await rejects(it.link.send(["PING"], "ask"), { code: "redis.closed" });
  await rejects(it.link.whenConnected(), { code: "redis.closed" });
  await it.link.close();
  deepEqual(it.events, []);
});

Deno.test("whenConnected() gives up after attempts or by its signal", async () => {
  await using it = subject();
  it.server.refusals.push(...Array.from({ length: 4 }, (_, i) => new Error(`refused ${i}`)));
  it.link.start();
  await rejects(it.link.whenConnected({ attempts: 2 }), /refused 1/);
  const reason = new Error("enough");
  await rejects(it.link.whenConnected({ signal: AbortSignal.abort(reason) }), reason);
  const controller = new AbortController();
  await using never = subject({ open: () => new Promise(() => {}) });
  const waiting = never.link.whenConnected({ signal: controller.signal });
  controller.abort(reason);
  await rejects(waiting, reason);
});

Deno.test("codeOfReply() knows refusals of old and new servers", () => {
  const cases: readonly (readonly [string, string])[] = [
    ["READONLY You can't write against a read only replica.", "redis.read-only"],
    ["LOADING Redis is loading the dataset in memory", "redis.loading"],
    ["OOM command not allowed when used memory > 'maxmemory'.", "redis.out-of-memory"],
    ["MISCONF Redis is configured to save RDB snapshots", "redis.not-saving"],
    ["NOAUTH Authentication required.", "redis.auth"],
    ["WRONGPASS invalid username-password pair or user is disabled.", "redis.auth"],
    ["ERR invalid password", "redis.auth"],
    ["NOSCRIPT No matching script. Please use EVAL.", "redis.no-script"],
    ["NOPERM this user has no permissions", "redis.not-permitted"],
    ["MASTERDOWN Link with MASTER is down", "redis.no-master"],
    ["NOREPLICAS Not enough good replicas to write.", "redis.no-master"],
    ["BUSY Redis is busy running a script.", "redis.busy"],
    [
      "ERR Error running script (call to f_1): @user_script:3: -OOM command not allowed",
      "redis.out-of-memory",
    ],
    ["ERR Error running script (call to f_1): @user_script:9: Wrong number", "redis.refused"],
    ["ERR unknown command 'x'", "redis.refused"],
    ["OOMPH what", "redis.refused"],
  ];
  for (const [message, code] of cases) equal(codeOfReply(message), code, message);
});

Deno.test("redisError() keeps the server's words as data", () => {
  const error = redisError(refusal("ERR bad\r\n\x1b[31mthing " + "x".repeat(500)), "write");
  equal(error.name, "PeerError");
  ok(error.message.startsWith('Cannot write: the server said "ERR bad [31mthing x'));
  ok(error.message.length < 300);
  equal(redisError(error, "other"), error);
  equal(peerText("a\u0000\u009fb"), "a b");
  equal(redisError(refusal("NOAUTH no"), "write").name, "AuthError");
  equal(redisError(new Error("x"), "go", "connect").code, "redis.unreachable");
});
