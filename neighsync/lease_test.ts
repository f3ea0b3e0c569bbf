// A lease: how long it counts, and that only its holder writes.

import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { ManualClock, systemClock } from "../internal/time/clock.ts";
import { NeighSync, type NeighSyncOptions } from "./daemon.ts";
import { Lease, type LeaseAnswer, type LeaseStore } from "./lease.ts";
import { fencedArguments, fencedScript } from "./lease_store.ts";
import { LeasedSink } from "./leased_sink.ts";
import { NUD_REACHABLE } from "./protocol/constants.ts";
import type { SinkEvent } from "./sink.ts";
import { MemorySink } from "./sink_memory.ts";
import { LiveKernel, VirtualHost } from "./testing/virtual_host.ts";

const TTL_MS = 30_000;
const OURS: LeaseAnswer = { granted: true, holder: "a", remainingMs: TTL_MS };

function theirs(remainingMs: number): LeaseAnswer {
  return { granted: false, holder: "b", remainingMs };
}

async function until(what: string, condition: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > giveUpAt) throw new Error(`Cannot go on: waited for ${what} in vain`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

type Step =
  | readonly ["connected" | "disconnected" | "released" | "failed" | "tick", now: number]
  | readonly ["answered", now: number, answer: LeaseAnswer, sentAt: number];

const COURSES: readonly (readonly [
  what: string,
  steps: readonly Step[],
  now: number,
  expected: {
    mayWrite: boolean;
    role: string;
    askAt: number;
    acquired?: number;
    lost?: number;
  },
])[] = [
  ["before anything", [], 0, { mayWrite: false, role: "standby", askAt: Infinity }],
  [
    "with a connection it asks at once",
    [["connected", 100]],
    100,
    { mayWrite: false, role: "standby", askAt: 100 },
  ],
  [
    "granted, it is renewed after a third of the time, counted from the question",
    [["connected", 100], ["answered", 400, OURS, 100]],
    400,
    { mayWrite: true, role: "holder", askAt: 10_100, acquired: 1 },
  ],
  [
    "it counts for nine tenths of the time",
    [["connected", 100], ["answered", 400, OURS, 100]],
    27_099,
    { mayWrite: true, role: "holder", askAt: 10_100, acquired: 1 },
  ],
  [
    "and no longer",
    [["connected", 100], ["answered", 400, OURS, 100], ["tick", 27_100]],
    27_100,
    { mayWrite: false, role: "standby", askAt: 10_100, acquired: 1, lost: 1 },
  ],
  [
    "a renewal is no new lease",
    [["connected", 0], ["answered", 1, OURS, 0], ["answered", 10_050, OURS, 10_000]],
    36_999,
    { mayWrite: true, role: "holder", askAt: 20_000, acquired: 1 },
  ],
  [
    "an answer that comes too late is asked for again",
    [["connected", 0], ["answered", 28_000, OURS, 0]],
    28_000,
    { mayWrite: false, role: "standby", askAt: 28_020, acquired: 1 },
  ],
  [
    "nothing is written without a connection, and it is still the holder's",
    [["connected", 0], ["answered", 1, OURS, 0], ["disconnected", 5000]],
    5000,
    { mayWrite: false, role: "holder", askAt: Infinity, acquired: 1 },
  ],
  [
    "a connection that is made again has to be told that it is ours",
    [["connected", 0], ["answered", 1, OURS, 0], ["disconnected", 5000], ["connected", 5100]],
    5100,
    { mayWrite: false, role: "holder", askAt: 5100, acquired: 1 },
  ],
  [
    "without a connection it ends by our own clock",
    [["connected", 0], ["answered", 1, OURS, 0], ["disconnected", 5000], ["tick", 27_000]],
    27_000,
    { mayWrite: false, role: "standby", askAt: Infinity, acquired: 1, lost: 1 },
  ],
  [
    "stolen, it ends with the renewal",
    [["connected", 0], ["answered", 1, OURS, 0], ["answered", 10_001, theirs(29_000), 10_000]],
    10_001,
    { mayWrite: false, role: "standby", askAt: 11_001, acquired: 1, lost: 1 },
  ],
  [
    "a renewal that fails takes nothing from what was granted",
    [["connected", 0], ["answered", 1, OURS, 0], ["failed", 15_000]],
    15_000,
    { mayWrite: true, role: "holder", askAt: 16_000, acquired: 1 },
  ],
  [
    "whoever waits asks each second",
    [["connected", 0], ["answered", 1, theirs(29_000), 0]],
    1,
    { mayWrite: false, role: "standby", askAt: 1001 },
  ],
  [
    "and when it ends",
    [["connected", 0], ["answered", 1, theirs(300), 0]],
    1,
    { mayWrite: false, role: "standby", askAt: 302 },
  ],
  [
    "and at once when it is given back",
    [["connected", 0], ["answered", 1, theirs(29_000), 0], ["released", 700]],
    700,
    { mayWrite: false, role: "standby", askAt: 700 },
  ],
  [
    "but not without a connection",
    [["connected", 0], ["disconnected", 1], ["released", 700], ["failed", 800]],
    800,
    { mayWrite: false, role: "standby", askAt: Infinity },
  ],
  [
    "a key without an end is asked for each second",
    [["connected", 0], ["answered", 1, theirs(-1), 0]],
    1,
    { mayWrite: false, role: "standby", askAt: 1001 },
  ],
];

Deno.test("Lease counts as long as nobody else can have it", () => {
  for (const [what, steps, now, expected] of COURSES) {
    const lease = new Lease(TTL_MS);
    for (const step of steps) {
      if (step[0] === "answered") lease.answered(step[2], step[3], step[1]);
      else lease[step[0]](step[1]);
    }
    const { askAt, acquired, lost } = lease;
    deepEqual(
      { mayWrite: lease.mayWrite(now), role: lease.role(now), askAt, acquired, lost },
      { acquired: 0, lost: 0, ...expected },
      what,
    );
  }
});

Deno.test("fencedArguments puts the lease's key behind the keys and its token behind everything", () => {
  const fence = { key: "lease", token: "a 1" };
  deepEqual(fencedArguments(["2", "k1", "k2", "x", "y"], fence), [
    "3",
    "k1",
    "k2",
    "lease",
    "x",
    "y",
    "a 1",
  ]);
  deepEqual(fencedArguments(["0", "x"], fence), ["1", "lease", "x", "a 1"]);
  deepEqual(fencedArguments(["0", "x"], undefined), ["0", "x"]);
  equal(fencedScript("return 1", undefined), "return 1");
});

/** A lease in memory that several stores contend for. */
class Key {
  holder = "";
  expiresAt = -Infinity;
  readonly listeners = new Set<() => void>();
  readonly clock: { now(): number };

  constructor(clock: { now(): number } = systemClock) {
    this.clock = clock;
  }

  store(id: string): LeaseStore {
    return {
      claim: (ttlMs) => {
        const now = this.clock.now();
        const granted = this.holder === id || now >= this.expiresAt;
        if (granted) {
          this.holder = id;
          this.expiresAt = now + ttlMs;
        }
        const remainingMs = this.expiresAt - now;
        return Promise.resolve({ granted, holder: this.holder, remainingMs });
      },
      release: () => {
        if (this.holder === id) this.take("", -Infinity);
        return Promise.resolve();
      },
      followReleases: (listener) => {
        this.listeners.add(listener);
        return Promise.resolve();
      },
    };
  }

  take(holder: string, expiresAt: number): void {
    this.holder = holder;
    this.expiresAt = expiresAt;
    if (holder === "") { for (const listener of this.listeners) listener(); }
  }
}

Deno.test("LeasedSink refuses what comes after the lease's time, however late the timers are", async () => {
  const clock = new ManualClock(1000);
  const sink = new MemorySink();
  await using leased = new LeasedSink({
    sink,
    store: new Key(clock).store("a"),
    ttlMs: TTL_MS,
    clock,
  });
  const events: SinkEvent[] = [];
  leased.observe((event) => events.push(event));
  equal(leased.connected, false);
  await leased.decided;
  equal(leased.connected, true);
  const change = { op: "set", key: "e:1", mac: "02:00:00:00:00:01", family: "IPv4" } as const;
  await leased.apply([change]);
  clock.advance(0.9 * TTL_MS);
  equal(leased.connected, false);
  await rejects(leased.apply([{ ...change, key: "e:2" }]), { code: "neighsync.lease-lost" });
  deepEqual([...sink.entries.keys()], ["e:1"]);
  await until("the lease again", () => leased.connected);
  deepEqual(events.map(({ state }) => state), ["connected", "lost", "connected"]);
});

/** A daemon of a pair, with a view of its own. */
function daemon(key: Key, id: string, sink: MemorySink, more: NeighSyncOptions = {}): {
  readonly sync: NeighSync;
  readonly kernel: LiveKernel;
} {
  const kernel = new LiveKernel();
  kernel.setLink(2, "Ethernet0");
  const sync = new NeighSync({
    sink,
    host: new VirtualHost(kernel),
    leaseStore: key.store(id),
    deployment: { leaseKey: "lease", leaseTtlMs: 500 },
    ...more,
  });
  return { sync, kernel };
}

function add(kernel: LiveKernel, host: number): void {
  kernel.setNeighbor({
    ifindex: 2,
    family: 2,
    words: [0x0a00_0000 + host, 0, 0, 0],
    mac: 0x0200_0000_0000 + host,
    state: NUD_REACHABLE,
    flags: 0,
  });
}

Deno.test("NeighSync stands by with a warm view, and takes over at once when the lease is given back", async () => {
  const key = new Key(), sink = new MemorySink();
  const first = daemon(key, "a", sink), second = daemon(key, "b", sink);
  await using _a = first.sync;
  await using _b = second.sync;
  for (let i = 1; i <= 20; i++) for (const { kernel } of [first, second]) add(kernel, i);
  await first.sync.start();
  equal(first.sync.snapshot().lease.role, "holder");
  equal(sink.entries.size, 20);
  await second.sync.start();
  const standing = second.sync.snapshot();
  deepEqual([standing.lease.role, standing.lease.holder], ["standby", "a"]);
  deepEqual([standing.kernel.tableSize.ipv4, standing.redisConnected], [20, true]);
  deepEqual([second.sync.health().status, second.sync.health().ready], ["healthy", true]);
  const before = sink.snapshot().operations;
  // What only the second one sees is not written while the first one holds the lease.
  add(second.kernel, 21);
  await until("the view", () => second.sync.snapshot().kernel.tableSize.ipv4 === 21);
  equal(sink.snapshot().operations, before);
  await first.sync.close();
  await until("the takeover", () => second.sync.snapshot().synced);
  const { neighborsAdded, neighborsDeleted, lease } = second.sync.snapshot();
  deepEqual([neighborsAdded, neighborsDeleted, lease.role, lease.acquired], [1, 0, "holder", 1]);
  equal(sink.entries.size, 21);
});

Deno.test("NeighSync stops writing when its lease is stolen, and compares everything when it has it again", async () => {
  const key = new Key(), sink = new MemorySink();
  const { sync, kernel } = daemon(key, "a", sink);
  await using _ = sync;
  add(kernel, 1);
  await sync.start();
  key.take("b", Infinity);
  await until("the loss", () => sync.snapshot().lease.role === "standby");
  const { lost, holder } = sync.snapshot().lease;
  deepEqual([lost, holder], [1, "b"]);
  add(kernel, 2);
  sink.tamper("Ethernet0:10.0.0.9", { mac: "02:00:00:00:00:09", family: "IPv4" });
  await until("the view", () => sync.snapshot().kernel.tableSize.ipv4 === 2);
  // What waits is forgotten rather than kept for months; the comparison knows better.
  await until("nothing to wait", () => sync.snapshot().queueDepth === 0);
  equal(sink.entries.size, 2);
  key.take("", -Infinity);
  await until("the table", () => sink.entries.has("Ethernet0:10.0.0.2"));
  await until("the stranger to go", () => !sink.entries.has("Ethernet0:10.0.0.9"));
  equal(sync.snapshot().lease.acquired, 2);
});

Deno.test("NeighSync can be closed while it stands by, and leaves the lease to its holder", async () => {
  const key = new Key(), sink = new MemorySink();
  key.take("b", Infinity);
  const { sync, kernel } = daemon(key, "a", sink);
  add(kernel, 1);
  await sync.start();
  await sync.close();
  deepEqual([key.holder, sink.entries.size], ["b", 0]);
  throws(() => new NeighSync({ sink, deployment: { leaseKey: "lease" } }), /expected a leaseStore/);
  ok(sync.snapshot().lease.role === "standby");
});
