import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { createHash } from "node:crypto";
import {
  type ContractCase,
  type ContractDriver,
  runContract,
} from "../internal/testing/contract.ts";
import { countDescriptors } from "./fd_linux.ts";
import { openRing } from "./io_uring_linux.ts";
import { bindAll, libc, libcRefusal } from "./libc_linux.ts";
import { openRelayHost, type Relay, type RelayHost, type RelayOptions } from "./relay.ts";
import { openSharedLoop, type SharedLoop } from "./shared_loop.ts";
import {
  openStreamHost,
  STREAM_END,
  STREAM_FAILED,
  type StreamConnection,
  type StreamHost,
  type StreamHostOptions,
  type StreamOptions,
  WOULD_BLOCK,
} from "./stream.ts";
import {
  join,
  LOOPBACK,
  pattern,
  type Subject as StreamSubject,
} from "./testdata/stream_subject.ts";

bindAll();

const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

interface Subject extends StreamSubject {
  readonly relays: RelayHost;
  /** The host at the outer ends: what a client and a server are made with. It waits for events. */
  readonly outer: StreamSubject;
}

/** Both outer ends, and the relay between them. */
interface Line {
  readonly client: StreamConnection;
  readonly server: StreamConnection;
  readonly relay: Relay;
}

interface Ground {
  readonly entry: Awaited<ReturnType<StreamHost["listen"]>>;
  readonly upstream: Awaited<ReturnType<StreamHost["listen"]>>;
}

async function ground(given: Subject, listening: StreamOptions = {}): Promise<Ground> {
  return {
    entry: await given.host.listen({ bind: LOOPBACK }),
    upstream: await given.outer.host.listen({ bind: LOOPBACK, ...listening }),
  };
}

/** A client, the entry that accepts it, and the server behind it. */
async function line(
  given: Subject,
  options: RelayOptions = {},
  at?: Ground,
  before: (client: StreamConnection, server: StreamConnection) => unknown = () => {},
  dialing: StreamOptions = {},
): Promise<Line> {
  const { entry, upstream } = at ?? await ground(given);
  const connecting = given.outer.host.connect({ remote: entry.local });
  const first = await given.settled(entry.accept(), "the client to be accepted");
  const client = await given.settled(connecting, "the client's connection");
  const onward = given.host.connect({ remote: upstream.local, ...dialing });
  const server = await given.settled(upstream.accept(), "the server's connection");
  const second = await given.settled(onward, "the upstream connection");
  await before(client, server!);
  return { client, server: server!, relay: given.relays.start(first!, second, options) };
}

/** Everything until the end, as a hash: what large flows are compared by. */
interface Sink {
  readonly hash: string;
  readonly bytes: number;
  readonly end: number;
}

/** Starts to receive; `done` says when the end has come. */
function sink(connection: StreamConnection): { readonly done: () => boolean; read(): Sink } {
  const hash = createHash("sha256");
  const into = new Uint8Array(new ArrayBuffer(65_536));
  let bytes = 0;
  let end: number = WOULD_BLOCK;
  connection.watch(() => {
    for (let i = 0; i < 16; i++) {
      const count = connection.receiveNow(into, 0, into.length);
      if (count === WOULD_BLOCK) return;
      if (count === STREAM_END || count === STREAM_FAILED) return void (end = count);
      hash.update(into.subarray(0, count));
      bytes += count;
    }
    connection.again();
  });
  return {
    done: () => end !== WOULD_BLOCK,
    read: () => ({ hash: hash.digest("hex"), bytes, end }),
  };
}

/** Sends `bytes` `times` over, then the end. */
async function pour(connection: StreamConnection, bytes: Uint8Array<ArrayBuffer>, times = 1) {
  for (let i = 0; i < times; i++) await connection.send(bytes, 0, bytes.length);
  connection.end();
}

function hashOf(bytes: Uint8Array, times = 1): string {
  const hash = createHash("sha256");
  for (let i = 0; i < times; i++) hash.update(bytes);
  return hash.digest("hex");
}

async function received(given: Subject, from: StreamConnection, count: number) {
  const into = new Uint8Array(new ArrayBuffer(count));
  for (let at = 0; at < count;) {
    const more = await given.settled(from.receive(into, at, count), "bytes");
    ok(more > 0, `the stream ended after ${at} of ${count} bytes`);
    at += more;
  }
  return into;
}

const SUITE: readonly ContractCase<Subject>[] = [
  ["carries both directions and their ends, whoever speaks first", async (given) => {
    const at = await ground(given);
    for (const first of ["client", "server"] as const) {
      const { client, server, relay } = await line(given, {}, at);
      const [one, two] = first === "client" ? [client, server] : [server, client];
      const hello = pattern(100, 1), answer = pattern(3000, 2);
      await one.send(hello, 0, 100);
      deepEqual(await received(given, two, 100), hello);
      await two.send(answer, 0, 3000);
      deepEqual(await received(given, one, 3000), answer);
      // Half closed, the other direction goes on.
      one.end();
      equal(await given.settled(two.receive(hello, 0, 1), "the end"), STREAM_END);
      equal(relay.result, undefined);
      await two.send(answer, 0, 3000);
      deepEqual(await received(given, one, 3000), answer);
      two.end();
      equal(await given.settled(one.receive(hello, 0, 1), "the other end"), STREAM_END);
      const { forward, backward, durationMs } = await given.settled(relay.finished, "the result");
      const sent = first === "client" ? [100, 6000] : [6000, 100];
      deepEqual([forward, backward].map(({ end }) => end), ["end", "end"]);
      deepEqual([forward.bytes, backward.bytes], sent);
      deepEqual([relay.forwardBytes, relay.backwardBytes], sent);
      ok(durationMs >= 0 && durationMs < 60_000);
    }
    equal(given.relays.active, 0);
  }],

  ["carries megabytes both ways at once, as they were", async (given) => {
    const { client, server, relay } = await line(given);
    const up = pattern(700_001, 3), down = pattern(1_000_003, 4);
    const atServer = sink(server), atClient = sink(client);
    const pouring = [pour(client, up, 8), pour(server, down, 8)];
    await given.until(() => atServer.done() && atClient.done(), "both ends");
    await given.settled(Promise.all(pouring), "everything to be sent");
    deepEqual(atServer.read(), { hash: hashOf(up, 8), bytes: 8 * up.length, end: STREAM_END });
    deepEqual(atClient.read(), { hash: hashOf(down, 8), bytes: 8 * down.length, end: STREAM_END });
    const { forward, backward } = await given.settled(relay.finished, "the result");
    deepEqual(forward, { bytes: 8 * up.length, end: "end" });
    deepEqual(backward, { bytes: 8 * down.length, end: "end" });
  }],

  ["carries a dribble byte by byte, and bulk, and a dribble again", async (given) => {
    const { client, server, relay } = await line(given);
    const atServer = sink(server);
    const hash = createHash("sha256");
    const small = pattern(60), large = pattern(600_000, 5);
    for (const bulk of [true, false]) {
      for (let i = 0; i < small.length; i++) {
        const before = relay.forwardBytes;
        await client.send(small, i, i + 1);
        hash.update(small.subarray(i, i + 1));
        // One at a time: each has left the relay before the next comes.
        await given.until(() => relay.forwardBytes > before, "a byte to pass");
      }
      if (!bulk) break;
      await given.settled(client.send(large, 0, large.length), "the bulk to be sent");
      hash.update(large);
      await given.until(() => relay.forwardBytes === 600_060, "the bulk to pass");
    }
    client.end();
    await given.until(atServer.done, "the end");
    deepEqual(atServer.read(), { hash: hash.digest("hex"), bytes: 600_120, end: STREAM_END });
    server.end();
    await given.settled(relay.finished, "the result");
  }],

  ["carries what was sent, and ended, before it began", async (given) => {
    const at = await ground(given);
    for (const size of [1, 5000, 300_000]) {
      const up = pattern(size, 10), down = pattern(size + 1, 11);
      const { client, server, relay } = await line(given, {}, at, async (client, server) => {
        await client.send(up, 0, up.length);
        client.end();
        await server.send(down, 0, down.length);
        server.end();
      });
      const atServer = sink(server), atClient = sink(client);
      await given.until(() => atServer.done() && atClient.done(), "both ends");
      equal(atServer.read().hash, hashOf(up), `${size} bytes`);
      equal(atClient.read().hash, hashOf(down), `${size} bytes`);
      const { forward } = await given.settled(relay.finished, "the result");
      deepEqual(forward, { bytes: size, end: "end" });
    }
  }],

  ["puts aside what a target has no room for, piece by piece", async (given) => {
    const small = { sendBufferBytes: 4096, receiveBufferBytes: 4096 };
    const at = await ground(given, small);
    const bytes = pattern(400_000, 12);
    for (let round = 0; round < 3; round++) {
      const { client, server, relay } = await line(given, {}, at, async (client) => {
        await client.send(bytes, 0, 60_000);
      }, small);
      // The target is full before anybody reads.
      let quiet = 0, last = -1;
      await given.until(() => {
        quiet = relay.forwardBytes === last ? quiet + 1 : 0;
        last = relay.forwardBytes;
        return last > 0 && quiet > 20;
      }, "the target to be full");
      const atServer = sink(server);
      const pouring = pour(client, bytes.slice(60_000));
      await given.until(atServer.done, "the end");
      await given.settled(pouring, "everything to be sent");
      deepEqual(atServer.read(), { hash: hashOf(bytes), bytes: bytes.length, end: STREAM_END });
      server.end();
      await given.settled(relay.finished, "the result");
    }
  }],

  ["sends prefixes before anything else, of any size", async (given) => {
    const at = await ground(given);
    for (const size of [1, 517, 5_000_000]) {
      const forwardPrefix = pattern(size, 6), backwardPrefix = pattern(size + 1, 7);
      const { client, server, relay } = await line(given, { forwardPrefix, backwardPrefix }, at);
      const behind = pattern(1000, 8);
      const atServer = sink(server), atClient = sink(client);
      const pouring = [pour(client, behind), pour(server, behind)];
      await given.until(() => atServer.done() && atClient.done(), "both ends");
      await Promise.all(pouring);
      const whole = (prefix: Uint8Array): Sink => ({
        hash: createHash("sha256").update(prefix).update(behind).digest("hex"),
        bytes: prefix.length + 1000,
        end: STREAM_END,
      });
      deepEqual(atServer.read(), whole(forwardPrefix), `${size} bytes`);
      deepEqual(atClient.read(), whole(backwardPrefix), `${size} bytes`);
      const { forward, backward } = await given.settled(relay.finished, "the result");
      deepEqual([forward.bytes, backward.bytes], [size + 1000, size + 1001]);
      await client.close();
      await server.close();
    }
  }],

  [
    "holds a sender back whose reader stalls, in bounded memory, and loses nothing",
    async (given) => {
      const { client, server, relay } = await line(given);
      const piece = pattern(1 << 20, 9);
      // Far more than all buffers on the way take together.
      const times = LONG ? 1000 : 40;
      const before = Deno.memoryUsage().rss;
      let most = before;
      let sent = false;
      const pouring = pour(client, piece, times).then(() => sent = true);
      let quiet = 0, last = -1;
      await given.until(() => {
        quiet = relay.forwardBytes === last ? quiet + 1 : 0;
        last = relay.forwardBytes;
        most = Math.max(most, Deno.memoryUsage().rss);
        return last > 0 && quiet > 200;
      }, "the sender to be held back");
      equal(sent, false);
      ok(most - before < 32 << 20, `${most - before} bytes more`);
      // The other direction is not held back.
      await server.send(piece, 0, 1000);
      deepEqual(await received(given, client, 1000), piece.slice(0, 1000));
      const atServer = sink(server);
      await given.until(atServer.done, "the end");
      await given.settled(pouring, "everything to be sent");
      deepEqual(atServer.read(), {
        hash: hashOf(piece, times),
        bytes: times << 20,
        end: STREAM_END,
      });
      server.end();
      await given.settled(relay.finished, "the result");
    },
  ],

  ["ends the other side within a second when one is cut, in whatever state", async (given) => {
    const at = await ground(given);
    for (const victim of ["client", "server"] as const) {
      for (const state of ["idle", "half closed", "stalled"] as const) {
        // Nobody reads any more from who has ended: the runtimes' own sockets tell when something is sent to it.
        if (state === "half closed" && given.relays.traits.driver === "portable") continue;
        const { client, server, relay } = await line(given, {}, at);
        const [one, two] = victim === "client" ? [client, server] : [server, client];
        if (state === "half closed") {
          one.end();
          equal(await given.settled(two.receive(new Uint8Array(1), 0, 1), "the end"), STREAM_END);
        } else if (state === "stalled") {
          // Towards the one that is cut, which does not read: a sender in full flow.
          const piece = pattern(1 << 20);
          (async () => {
            for (let i = 0; i < 100; i++) {
              if (await two.send(piece, 0, piece.length) === STREAM_FAILED) return;
            }
          })();
          const passed = (): number => relay.forwardBytes + relay.backwardBytes;
          let quiet = 0, last = -1;
          await given.until(() => {
            quiet = passed() === last ? quiet + 1 : 0;
            last = passed();
            return last > 0 && quiet > 50;
          }, "the flow to stall");
        }
        const start = performance.now();
        await one.close({ reset: true });
        const { forward, backward } = await given.settled(relay.finished, `${victim} ${state}`);
        ok(performance.now() - start < 1000, `${victim}, ${state}`);
        const ends = [forward.end, backward.end];
        if (victim === "server") ends.reverse();
        // A direction that had ended well stays so.
        if (state === "half closed") equal(ends[0], "end");
        else equal(ends[0], "source-failed", `${victim}, ${state}`);
        equal(ends[1], "target-failed", `${victim}, ${state}`);
        if (state === "half closed") {
          const byte = pattern(1);
          await given.until(() => two.sendNow(byte, 0, 1) === STREAM_FAILED, "the cut");
        } else {
          const rest = sink(two);
          await given.until(rest.done, "the other side to notice");
          // A cut is passed on as one: who sees an orderly end takes what came for everything.
          if (given.host.traits.reset) equal(rest.read().end, STREAM_FAILED, `${victim}, ${state}`);
        }
        await two.close();
      }
      // What was under way then reaches nobody else.
      const { client, server, relay } = await line(given, {}, at);
      const piece = pattern(1_000_000, 13);
      const atServer = sink(server), atClient = sink(client);
      const pouring = [pour(client, piece), pour(server, piece)];
      await given.until(() => atServer.done() && atClient.done(), "both ends");
      await Promise.all(pouring);
      equal(atServer.read().hash, hashOf(piece));
      equal(atClient.read().hash, hashOf(piece));
      await given.settled(relay.finished, "the result");
    }
    equal(given.relays.active, 0);
  }],

  ["ends idle relays, sooner when half closed, and not those that move", async (given) => {
    const at = await ground(given);
    const idle = await line(given, { idleMs: 150 }, at);
    const half = await line(given, { idleMs: 60_000, halfCloseMs: 150 }, at);
    const whole = await line(given, { idleMs: 60_000, halfCloseMs: 150 }, at);
    const busy = await line(given, { idleMs: 400 }, at);
    const start = performance.now();
    half.client.end();
    const beat = setInterval(() => busy.client.sendNow(pattern(1), 0, 1), 50);
    try {
      const one = await given.settled(idle.relay.finished, "the idle relay to end");
      deepEqual([one.forward.end, one.backward.end], ["idle", "idle"]);
      ok(one.durationMs >= 150);
      const two = await given.settled(half.relay.finished, "the half closed relay to end");
      deepEqual([two.forward.end, two.backward.end], ["end", "idle"]);
      await given.until(() => performance.now() - start > 700, "the time to pass");
      equal(busy.relay.result, undefined);
      equal(whole.relay.result, undefined);
    } finally {
      clearInterval(beat);
    }
    const one = await given.settled(busy.relay.finished, "the busy relay to end");
    equal(one.forward.end, "idle");
    ok(one.forward.bytes > 5);
    whole.relay.abort();
    await given.settled(whole.relay.finished, "the last one");
  }],

  ["aborts at once, however often, and cuts both sides", async (given) => {
    const at = await ground(given);
    const { client, server, relay } = await line(given, {}, at);
    await client.send(pattern(10), 0, 10);
    await received(given, server, 10);
    let told = 0;
    const other = await line(given, { onFinish: () => told++ }, at);
    relay.abort();
    relay.abort();
    const { forward, backward } = await given.settled(relay.finished, "the result");
    deepEqual([forward.end, backward.end, forward.bytes], ["aborted", "aborted", 10]);
    for (const connection of [client, server]) {
      const rest = sink(connection);
      await given.until(rest.done, "the cut");
    }
    relay.abort();
    equal(given.relays.active, 1);
    // A relay that goes on after another was cut, on the same thread, with the freed place taken again.
    const third = await line(given, {}, at);
    await third.client.send(pattern(10), 0, 10);
    await received(given, third.server, 10);
    await other.client.send(pattern(10), 0, 10);
    await received(given, other.server, 10);
    await given.settled(given.relays.close(), "the relays to close");
    equal(told, 1);
    equal(third.relay.result?.forward.end, "aborted");
    equal(other.relay.result?.forward.bytes, 10);
    equal(given.relays.active, 0);
    throws(() => given.relays.start(third.client, third.server), TypeError);
  }],

  ["refuses connections that are closed, or the same, and limits that are none", async (given) => {
    const listener = await given.host.listen({ bind: LOOPBACK });
    const { client, server } = await join(given, listener);
    throws(() => given.relays.start(client, client), TypeError);
    for (const options of [{ idleMs: 0 }, { idleMs: NaN }, { halfCloseMs: -1 }]) {
      throws(() => given.relays.start(client, server, options), RangeError);
    }
    equal(client.closed || server.closed, false);
    const another = await join(given, listener);
    await another.client.close();
    throws(() => given.relays.start(server, another.client), TypeError);
    equal(server.closed, false);
    equal(given.relays.active, 0);
  }],

  ["carries many at once, each its own bytes, and leaves nothing open", async (given) => {
    const at = await ground(given);
    const count = LONG ? 500 : 40;
    const lines: Line[] = [];
    for (let i = 0; i < count; i++) lines.push(await line(given, {}, at));
    const before = libc() === undefined ? 0 : countDescriptors(8192);
    equal(given.relays.active, count);
    const sinks = lines.map(({ server }) => sink(server));
    const back = lines.map(({ client }) => sink(client));
    const sizes = lines.map((_, i) => 1 + (i * 7919) % 120_000);
    const pouring = lines.flatMap(({ client, server }, i) => [
      pour(client, pattern(sizes[i]!, i)),
      pour(server, pattern(sizes[i]! + 1, i + 1)),
    ]);
    await given.until(() => [...sinks, ...back].every((one) => one.done()), "all ends");
    await given.settled(Promise.all(pouring), "everything to be sent");
    for (const [i, size] of sizes.entries()) {
      equal(sinks[i]!.read().hash, hashOf(pattern(size, i)), `up ${i}`);
      equal(back[i]!.read().hash, hashOf(pattern(size + 1, i + 1)), `down ${i}`);
      const result = await given.settled(lines[i]!.relay.finished, "a result");
      deepEqual(result.forward, { bytes: size, end: "end" });
      deepEqual(result.backward, { bytes: size + 1, end: "end" });
    }
    equal(given.relays.active, 0);
    if (given.relays.traits.driver === "linux") {
      // The relays' own are closed; pipes that were lent are idle, and bounded.
      ok(countDescriptors(8192) <= before - 2 * count + 64);
    }
  }],
];

interface Row {
  readonly options: StreamHostOptions;
  readonly relay: "fast" | "portable";
  /** In a loop that is shared with the runtime. */
  readonly shared?: boolean;
}

interface Opened extends Subject {
  readonly loop: SharedLoop | undefined;
}

function row(given: Row, missing: () => string): ContractDriver<Opened> {
  const { relay } = given;
  return {
    missing,
    open: async () => {
      const outer = await openStreamHost({ driver: libc() === undefined ? "portable" : "auto" });
      const loop = given.shared === true ? await openSharedLoop() : undefined;
      const options = { ...given.options, ...(loop === undefined ? {} : { reactor: loop }) };
      const host = await openStreamHost(options);
      const relays = await openRelayHost(host, { driver: relay });
      const until: Subject["until"] = async (done, what) => {
        const deadline = performance.now() + 20_000;
        for (let turns = 0; !done(); turns++) {
          if (performance.now() > deadline) throw new Error(`Cannot see ${what}: 20 s have passed`);
          // Long waits are for a limit of time to pass, and need not keep a processor busy.
          const idle = turns > 100;
          if (options.wait === "thread" && host.turn(0) === 0 && idle) host.turn(0.5);
          await new Promise<void>((resolve) =>
            idle ? setTimeout(resolve, 0) : setImmediate(resolve)
          );
        }
      };
      const settled: Subject["settled"] = async (promise, what) => {
        let over = false;
        const end = (): void => void (over = true);
        Promise.resolve(promise).then(end, end);
        await until(() => over, what);
        return await promise;
      };
      return {
        host,
        options,
        relays,
        loop,
        until,
        settled,
        outer: { host: outer, options: {}, until, settled },
      };
    },
    close: async ({ host, relays, outer, loop }) => {
      await relays.close();
      await host.close();
      await loop?.close();
      await outer.host.close();
    },
  };
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

runContract("RelayHost", SUITE, {
  "linux shared": row({ options: { driver: "fast" }, relay: "fast", shared: true }, noLibc),
  "linux threads": row({ options: { driver: "fast" }, relay: "fast" }, noLibc),
  "portable deno": row(
    { options: { driver: "portable", portable: "deno" }, relay: "portable" },
    () => "",
  ),
  ...(LONG
    ? {
      "linux loop": row({ options: { driver: "fast", wait: "thread" }, relay: "fast" }, noLibc),
      "portable node": row(
        { options: { driver: "portable", portable: "node" }, relay: "portable" },
        () => "",
      ),
      "portable linux": row(
        { options: { driver: "fast", reactor: "uring" }, relay: "portable" },
        noRing,
      ),
    }
    : {}),
});
