// Batches that are tuned: what a minute asks for, how far it goes, and what is left alone.

import { deepEqual, equal } from "node:assert/strict";
import { resolveNeighSyncSettings } from "./options.ts";
import type { NeighSyncSettings } from "./settings.ts";
import type { NeighSyncSnapshot, TuneReason } from "./snapshot.ts";
import { durations, quiet } from "./testdata/snapshots.ts";
import { explicitNames, type TunedName, Tuner } from "./tuner.ts";

const MINUTE_MS = 60_000;

function tuner(
  performance: NeighSyncSettings["performance"] = {},
  explicit: Iterable<TunedName> = explicitNames(performance),
): Tuner {
  return new Tuner(
    resolveNeighSyncSettings({ performance: { autoTune: true, ...performance } }).performance,
    explicit,
  );
}

/** What is in force after minutes that all bring the same. */
function after(machine: Tuner, minutes: readonly Parameters<typeof quiet>[0][]): readonly number[] {
  machine.look(0, quiet());
  minutes.forEach((changes, index) => machine.look((index + 1) * MINUTE_MS, quiet(changes)));
  const { batchSize, batchTimeoutMs } = machine.settings;
  return [batchSize, batchTimeoutMs];
}

const SLOW = durations(...Array<number>(198).fill(0.001), ...Array<number>(20).fill(0.2));
const MEDIUM = durations(...Array<number>(198).fill(0.001), ...Array<number>(20).fill(0.04));
const QUICK = durations(...Array<number>(500).fill(0.001));

const MINUTES: readonly (readonly [
  what: string,
  now: Parameters<typeof quiet>[0],
  reason: TuneReason | undefined,
  settings: readonly [batchSize: number, batchTimeoutMs: number],
])[] = [
  ["nothing happens", {}, undefined, [100, 10]],
  ["all goes well", { neighborsAdded: 9_000, eventLatency: QUICK }, undefined, [100, 10]],
  [
    "more comes than is written",
    { neighborsAdded: 800, queueDepth: 300, eventLatency: SLOW },
    "backlog",
    [150, 15],
  ],
  [
    "four of five are written",
    { neighborsAdded: 803, queueDepth: 200 },
    undefined,
    [100, 10],
  ],
  ["few wait", { neighborsAdded: 3, queueDepth: 99 }, undefined, [100, 10]],
  ["one in a hundred is late", { eventLatency: SLOW }, "latency", [67, 7]],
  ["it is near the target", { eventLatency: MEDIUM }, undefined, [100, 10]],
  [
    "six in a hundred fail while more comes than is written",
    { neighborsAdded: 943, eventsFailed: 60, queueDepth: 5_000 },
    "errors",
    [67, 7],
  ],
  ["five in a hundred fail", { neighborsAdded: 953, eventsFailed: 50 }, undefined, [100, 10]],
  ["few fail", { neighborsAdded: 3, eventsFailed: 50 }, undefined, [100, 10]],
  [
    "there is too much memory while more comes than is written",
    { memoryBytes: 151e6, queueDepth: 5_000 },
    "memory",
    [67, 7],
  ],
  [
    "Redis is away",
    { redisConnected: false, queueDepth: 9_000, memoryBytes: 900e6 },
    undefined,
    [100, 10],
  ],
  ["Redis was away", { redisReconnects: 1, queueDepth: 9_000 }, undefined, [100, 10]],
];

Deno.test("Tuner does after a minute what the minute asks for", () => {
  for (const [what, now, reason, settings] of MINUTES) {
    const machine = tuner();
    equal(machine.look(0, quiet()), undefined, what);
    equal(machine.look(MINUTE_MS - 1, quiet(now)), undefined, what);
    equal(machine.look(MINUTE_MS, quiet(now)), reason, what);
    const { batchSize, batchTimeoutMs } = machine.settings;
    deepEqual([batchSize, batchTimeoutMs], settings, what);
    const { raised, lowered, lastReason } = machine.snapshot();
    equal(lastReason, reason ?? "", what);
    deepEqual([raised, lowered], [
      Number(reason === "backlog"),
      Number(reason !== undefined && reason !== "backlog"),
    ], what);
  }
});

Deno.test("Tuner stays within its bounds, and goes back when all is well", () => {
  const backlog = (minute: number): Partial<NeighSyncSnapshot> => ({ queueDepth: minute * 10_000 });
  const worse = Array.from({ length: 12 }, (_, minute) => backlog(minute + 1));
  deepEqual(after(tuner(), worse), [1000, 500]);
  deepEqual(after(tuner({ maxBatch: 200 }), worse), [200, 500]);
  const full = Array.from({ length: 12 }, () => ({ memoryBytes: 300e6 }));
  deepEqual(after(tuner(), full), [50, 1]);
  const calm = Array.from({ length: 20 }, () => ({}));
  deepEqual(after(tuner(), [...full, ...calm]), [100, 10]);
  const quietAgain = Array.from({ length: 20 }, () => ({ queueDepth: 120_000 }));
  deepEqual(after(tuner(), [...worse, ...quietAgain]), [100, 10]);
});

const EXPLICIT: readonly (readonly [
  NeighSyncSettings["performance"],
  settings: readonly [batchSize: number, batchTimeoutMs: number],
])[] = [
  [{}, [150, 15]],
  [{ batchSize: 100 }, [100, 15]],
  [{ batchSize: 7 }, [7, 15]],
  [{ batchTimeoutMs: 10 }, [150, 10]],
  [{ batchTimeoutMs: 2000 }, [150, 2000]],
  [{ batchSize: 100, batchTimeoutMs: 10 }, [100, 10]],
  [{ autoTune: false }, [100, 10]],
];

Deno.test("Tuner never touches what somebody has written down", () => {
  for (const [performance, settings] of EXPLICIT) {
    const found = after(tuner(performance), [{ queueDepth: 5_000 }]);
    deepEqual(found, settings, JSON.stringify(performance));
  }
});

Deno.test("Tuner takes a value that is changed while it runs for one that was written down", () => {
  const machine = tuner();
  after(machine, [{ queueDepth: 5_000 }]);
  const next = { ...machine.settings, batchSize: 300, batchTimeoutMs: 10 };
  machine.configure(next);
  deepEqual([machine.settings.batchSize, machine.settings.batchTimeoutMs], [300, 15]);
  machine.look(2 * MINUTE_MS, quiet({ queueDepth: 50_000 }));
  deepEqual([machine.settings.batchSize, machine.settings.batchTimeoutMs], [300, 23]);
  // A file says which are written down, whether they change or not.
  machine.configure(next, ["batchTimeoutMs"]);
  machine.look(3 * MINUTE_MS, quiet({ queueDepth: 500_000 }));
  deepEqual([machine.settings.batchSize, machine.settings.batchTimeoutMs], [450, 10]);
  machine.configure({ ...next, autoTune: false }, []);
  deepEqual([machine.settings.batchSize, machine.settings.batchTimeoutMs], [300, 10]);
});
