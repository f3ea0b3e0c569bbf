import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { STREAM_END, type StreamConnection, type StreamHost, WOULD_BLOCK } from "../ffi/mod.ts";
import { SystemError } from "../internal/errors.ts";
import { ManualClock, systemClock } from "../internal/time/clock.ts";
import { ConnectionTracker } from "./connections.ts";
import { connectAny, type ConnectSettings } from "./dial.ts";
import { ExpiringSet } from "./handshakes.ts";
import { ConnectionPool } from "./pool.ts";
import { dialFailure, encodeOpened, encodeRefused, RejectedError } from "./replies.ts";
import { NameError } from "./resolver.ts";
import { RejectCounter } from "./routing.ts";
import { udpTimeoutFor } from "./udp_flow.ts";

/** A connection that says what it is told to say when it is looked at. */
class Idle {
  closed = false;
  answer = WOULD_BLOCK;
  wake: (() => void) | undefined;
  constructor(readonly name: string) {}

  receiveNow(): number {
    return this.answer;
  }

  watch(readable: (() => void) | undefined): void {
    this.wake = readable;
  }

  close(): Promise<void> {
    this.closed = true;
    return Promise.resolve();
  }
}

Deno.test("ConnectionPool gives the youngest back, never a dead one, and no more than fit", () => {
  const clock = new ManualClock();
  const pool = new ConnectionPool<Idle>(clock, { maxPerKey: 3, maxIdle: 4 });
  const [a, b, c, d, e, f] = [..."abcdef"].map((name) => new Idle(name));
  for (const each of [a, b, c, d]) pool.give("x", each!);
  ok(d!.closed, "one too many for its destination");
  c!.answer = STREAM_END;
  equal(pool.take("x"), b);
  ok(c!.closed, "the dead one");
  equal(pool.take("y"), undefined);
  deepEqual(pool.counts, { hits: 1, misses: 1 });
  pool.give("y", e!);
  pool.give("z", b!);
  pool.give("z", f!);
  equal(pool.size, 4);
  pool.give("w", new Idle("g"));
  ok(a!.closed, "the oldest of all");
  e!.wake!();
  ok(e!.closed, "the one that ended while it was kept");
  pool.close();
  ok(b!.closed && f!.closed);
  const late = new Idle("h");
  pool.give("x", late);
  ok(late.closed);
});

Deno.test("ExpiringSet ends what is too old, oldest first, and nothing that left in time", async () => {
  const ended: string[] = [];
  const set = new ExpiringSet(15, systemClock);
  const item = (name: string) => ({ expire: () => void ended.push(name) });
  const kept = item("kept");
  set.add(item("first"));
  set.add(kept);
  const last = new Promise<void>((resolve) =>
    set.add({
      expire: () => {
        ended.push("last");
        resolve();
      },
    })
  );
  set.delete(kept);
  await last;
  deepEqual(ended, ["first", "last"]);
  set.add(item("closed"));
  set.close();
  deepEqual(ended, ["first", "last", "closed"]);
  equal(set.size, 0);
});

/** A host whose dials end when the test says so. */
class Dials {
  readonly begun: string[] = [];
  readonly cancelled: string[] = [];
  readonly done = new Map<string, (outcome: StreamConnection | SystemError) => void>();
  readonly host = {
    dial: (
      { remote }: { remote: { address: string } },
      done: (outcome: StreamConnection | SystemError) => void,
    ) => {
      this.begun.push(remote.address);
      this.done.set(remote.address, done);
      return () => this.cancelled.push(remote.address);
    },
  } as unknown as StreamHost;
}

const SETTINGS: ConnectSettings = {
  options: {},
  bind4: undefined,
  bind6: undefined,
  timeoutMs: 10_000,
  deadlines: new ExpiringSet(10_000, systemClock),
  fallbackDelayMs: 5,
};

function refusal(name: string): SystemError {
  return new SystemError("system.other", "Cannot connect: no", {
    syscall: "connect",
    errno: 1,
    errnoName: name,
  });
}

Deno.test("connectAny tries families in turns, the next at once when one fails, and keeps one", async () => {
  const dials = new Dials();
  const connecting = connectAny(
    dials.host,
    ["2001:db8::1", "2001:db8::2", "192.0.2.1", "192.0.2.2"],
    443,
    { ...SETTINGS, fallbackDelayMs: 60_000 },
  );
  deepEqual(dials.begun, ["2001:db8::1"]);
  dials.done.get("2001:db8::1")!(refusal("ENETUNREACH"));
  deepEqual(dials.begun, ["2001:db8::1", "192.0.2.1"]);
  const connection = {} as StreamConnection;
  dials.done.get("192.0.2.1")!(connection);
  equal(await connecting, connection);
});

Deno.test("connectAny gives the next address a start while the first is silent, and drops the loser", async () => {
  const dials = new Dials();
  const connecting = connectAny(dials.host, ["192.0.2.1", "192.0.2.2"], 443, SETTINGS);
  while (dials.begun.length < 2) await new Promise((resolve) => setTimeout(resolve, 1));
  const connection = {} as StreamConnection;
  dials.done.get("192.0.2.2")!(connection);
  equal(await connecting, connection);
  deepEqual(dials.cancelled, ["192.0.2.1"]);
});

Deno.test("connectAny fails with the first reason, or when its time or patience is over", async () => {
  for (const addresses of [["192.0.2.1"], ["192.0.2.1", "192.0.2.2"]]) {
    const dials = new Dials();
    const failing = connectAny(dials.host, addresses, 1, { ...SETTINGS, fallbackDelayMs: 60_000 });
    dials.done.get("192.0.2.1")!(refusal("ECONNREFUSED"));
    dials.done.get("192.0.2.2")?.(refusal("EHOSTUNREACH"));
    await rejects(failing, { errnoName: "ECONNREFUSED" });
    const late = connectAny(new Dials().host, addresses, 1, {
      ...SETTINGS,
      timeoutMs: 10,
      deadlines: new ExpiringSet(10, systemClock),
    });
    await rejects(late, { code: "proxy.timeout" });
    const controller = new AbortController();
    const dialed = new Dials();
    const aborted = connectAny(dialed.host, addresses, 1, SETTINGS, controller.signal);
    controller.abort(new Error("enough"));
    await rejects(aborted, /enough/);
    ok(dialed.cancelled.includes("192.0.2.1"));
  }
});

Deno.test("every failure has its words in every protocol", () => {
  const socks5 = (error: unknown): number => encodeRefused("socks5", dialFailure(error))[1]!;
  equal(socks5(new RejectedError("no")), 2);
  equal(socks5(refusal("ENETUNREACH")), 3);
  equal(socks5(refusal("EHOSTUNREACH")), 4);
  equal(socks5(refusal("ETIMEDOUT")), 4);
  equal(socks5(new NameError("proxy.name-not-found", "no")), 4);
  equal(socks5(refusal("ECONNREFUSED")), 5);
  equal(socks5(new Error("else")), 1);
  const status = (error: unknown): string =>
    new TextDecoder().decode(encodeRefused("http", dialFailure(error))).slice(9, 12);
  deepEqual(
    [new RejectedError("no"), refusal("ETIMEDOUT"), refusal("ECONNREFUSED")].map(status),
    ["403", "504", "502"],
  );
  equal(encodeRefused("none", "rule").length, 0);
  const bound = { family: "ipv4", address: "192.0.2.7", port: 258 } as const;
  deepEqual(encodeOpened("socks5", bound), Uint8Array.of(5, 0, 0, 1, 192, 0, 2, 7, 1, 2));
  deepEqual(encodeOpened("socks4", bound), Uint8Array.of(0, 90, 1, 2, 192, 0, 2, 7));
});

Deno.test("RejectCounter stops answering after fifty refusals in thirty seconds", () => {
  const clock = new ManualClock();
  const counter = new RejectCounter(clock);
  const reject = { action: "reject", method: "default", noDrop: false } as const;
  const silent = (): boolean[] => Array.from({ length: 51 }, () => counter.isSilent(reject));
  deepEqual(silent(), [...new Array<boolean>(50).fill(false), true]);
  ok(!counter.isSilent({ ...reject, noDrop: true }));
  ok(counter.isSilent({ ...reject, method: "drop" }));
  clock.advance(30_000);
  ok(!counter.isSilent(reject));
});

Deno.test("an association may be silent for as long as what it carries allows", () => {
  equal(udpTimeoutFor(undefined, 5000, 300_000), 300_000);
  equal(udpTimeoutFor(undefined, 53, 300_000), 10_000);
  equal(udpTimeoutFor("quic", 5000, 300_000), 30_000);
  equal(udpTimeoutFor("dns", 443, 5000), 5000);
});

Deno.test("ConnectionTracker keeps the bytes of what is over, and those of other places", () => {
  const tracker = new ConnectionTracker();
  const metadata = {
    inbound: "in",
    inboundType: "socks",
    network: "tcp",
    source: { family: "ipv4", address: "192.0.2.1", port: 1 },
    destination: { host: "example.com", port: 80 },
  } as const;
  const one = tracker.add(metadata), two = tracker.add(metadata);
  one.count(1, 2);
  two.relay = { forwardBytes: 10, backwardBytes: 20 };
  two.chain.push("group", "member");
  deepEqual(tracker.totals, { upload: 11, download: 22 });
  equal(tracker.countOf("member"), 1);
  tracker.remove(two);
  tracker.remove(two);
  two.relay = { forwardBytes: 99, backwardBytes: 99 };
  deepEqual(tracker.totals, { upload: 11, download: 22 });
  deepEqual([tracker.active, tracker.opened], [1, 2]);
  let cuts = 0;
  one.cut = () => cuts++;
  equal(tracker.closeAll(), 1);
  one.close();
  equal(cuts, 1);
  tracker.attach({
    active: 3,
    opened: 7,
    totals: { upload: 100, download: 1000 },
    list: () => [],
  });
  deepEqual([tracker.active, tracker.opened], [4, 9]);
  deepEqual(tracker.totals, { upload: 111, download: 1022 });
});
