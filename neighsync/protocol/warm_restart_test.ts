import { deepEqual, equal, throws } from "node:assert/strict";
import { recordActions } from "../../internal/testing/recorder.ts";
import { WarmCache, type WarmState } from "./reconcile.ts";
import { reconcileSeconds, type WarmActions, WarmRestart } from "./warm_restart.ts";

const A = { mac: "00:00:00:00:00:0a", family: "IPv4" };
const B = { mac: "00:00:00:00:00:0b", family: "IPv4" };

Deno.test("WarmCache takes every transition of its table", () => {
  const after = (steps: string): WarmState | undefined => {
    const cache = new WarmCache();
    for (const step of steps.split(" ")) {
      if (step === "load") cache.load("k", A);
      else if (step === "same") cache.set("k", A);
      else if (step === "other") cache.set("k", B);
      else if (step === "family") cache.set("k", { ...A, family: "IPv6" });
      else if (step === "delete") cache.delete("k");
    }
    return cache.state("k");
  };
  const table: readonly (readonly [string, WarmState | undefined])[] = [
    ["delete", undefined],
    ["same", "NEW"],
    ["same same", "NEW"],
    ["same delete", "DELETE"],
    ["same delete same", "NEW"],
    ["load", "STALE"],
    ["load same", "SAME"],
    ["load other", "NEW"],
    ["load family", "NEW"],
    ["load delete", "DELETE"],
    ["load same same", "SAME"],
    ["load same other", "NEW"],
    ["load same delete", "DELETE"],
    ["load other same", "NEW"],
    ["load other other", "NEW"],
    ["load other delete", "DELETE"],
    // What is published is still A: B has to be written.
    ["load other delete other", "NEW"],
    ["load other delete same", "SAME"],
    ["load delete delete", "DELETE"],
    ["load delete same", "SAME"],
    ["load delete other", "NEW"],
  ];
  for (const [steps, state] of table) equal(after(steps), state, steps);
});

Deno.test("WarmCache decides on the smallest change", () => {
  const cache = new WarmCache();
  for (const key of ["stale", "same", "changed", "deleted"]) cache.load(key, A);
  cache.load("empty", { mac: "", family: "" });
  cache.load("half", { mac: A.mac, family: "" });
  cache.set("same", A);
  cache.set("changed", B);
  cache.set("new", B);
  cache.set("half", A);
  cache.delete("deleted");
  cache.delete("unknown");
  deepEqual([...cache.decisions()], [
    { op: "del", key: "stale", fields: A, state: "STALE" },
    { op: "set", key: "changed", fields: B, state: "NEW" },
    { op: "del", key: "deleted", fields: A, state: "DELETE" },
    { op: "set", key: "half", fields: A, state: "NEW" },
    { op: "set", key: "new", fields: B, state: "NEW" },
  ]);
  deepEqual(cache.counts(), { STALE: 1, SAME: 1, NEW: 3, DELETE: 1 });
});

function record() {
  return recordActions<WarmActions>([
    "setRestoreCount",
    "setState",
    "clearPending",
    "loadTable",
    "readRestored",
    "joinKernel",
    "reconcile",
    "finish",
  ]);
}

const enabled = { enabled: true, restoreCount: 3, timerSec: undefined };
const NOTHING = { STALE: 0, SAME: 0, NEW: 0, DELETE: 0 };

Deno.test("WarmRestart starts cold when it is not enabled, or when nobody has counted", () => {
  for (
    const [flags, outcome] of [
      [{ ...enabled, enabled: false }, "cold"],
      [{ ...enabled, restoreCount: undefined }, "cold-uncounted"],
    ] as const
  ) {
    const actions = record();
    const machine = new WarmRestart();
    machine.start(flags, 10, actions);
    deepEqual(actions.take(), [
      ["setRestoreCount", 0],
      ["finish", { outcome, counts: NOTHING, elapsedMs: 0 }],
    ]);
    equal(machine.finished, true);
    equal(machine.deadline, Infinity);
    machine.start(enabled, 11, actions);
    machine.stop(12, actions);
    deepEqual(actions.take(), []);
  }
});

Deno.test("WarmRestart counts, loads, waits, collects until the timer, and writes its states in order", () => {
  const actions = record();
  const machine = new WarmRestart();
  machine.start(enabled, 0, actions);
  deepEqual(actions.take(), [
    ["setRestoreCount", 4],
    ["setState", "initialized"],
    ["clearPending"],
    ["loadTable"],
  ]);
  machine.cache.load("gone", A);
  machine.cache.load("kept", A);
  machine.tableLoaded(100, actions);
  deepEqual(actions.take(), [["setState", "restored"], ["readRestored"]]);
  machine.restored(false, 110, actions);
  equal(machine.deadline, 1_110);
  machine.expire(1_110, actions);
  deepEqual(actions.take(), [["readRestored"]]);
  // Not asked again before it is answered.
  machine.expire(9_000, actions);
  deepEqual(actions.take(), []);
  // Before the kernel was joined nothing is heard.
  machine.set("early", A);
  machine.restored(true, 9_000, actions);
  deepEqual(actions.take(), [["joinKernel"]]);
  equal(machine.collecting, true);
  machine.set("kept", A);
  machine.set("new", B);
  machine.delete("unknown");
  machine.kernelRead(9_500, actions);
  equal(machine.deadline, 14_000);
  machine.expire(13_999, actions);
  deepEqual(actions.take(), []);
  machine.expire(14_000, actions);
  deepEqual(actions.take(), [["reconcile", machine.cache]]);
  deepEqual([...machine.cache.decisions()].map(({ op, key }) => `${op} ${key}`), [
    "del gone",
    "set new",
  ]);
  machine.set("late", A);
  equal(machine.cache.state("late"), undefined);
  machine.written(14_050, actions);
  deepEqual(actions.take(), [
    ["setState", "reconciled"],
    [
      "finish",
      {
        outcome: "reconciled",
        counts: { STALE: 1, SAME: 1, NEW: 1, DELETE: 0 },
        elapsedMs: 14_050,
      },
    ],
  ]);
  equal(machine.cache.size, 0);
});

Deno.test("WarmRestart gives up when the kernel's table is not refilled in time", () => {
  const actions = record();
  const machine = new WarmRestart({ restoreWaitSec: 2 });
  machine.start(enabled, 0, actions);
  machine.tableLoaded(500, actions);
  for (let i = 0; i < 10 && !machine.finished; i++) {
    machine.restored(false, Math.min(machine.deadline, 500 + 1_000 * i), actions);
    machine.expire(machine.deadline, actions);
  }
  const calls = actions.take();
  deepEqual(calls.at(-1), ["finish", {
    outcome: "restore-wait",
    counts: NOTHING,
    elapsedMs: 2_500,
  }]);
  equal(calls.some(([verb]) => verb === "joinKernel"), false);
  machine.restored(true, 3_000, actions);
  deepEqual(actions.take(), []);
});

Deno.test("WarmRestart can compare as soon as the kernel was read, but not before it may nor after the timer", () => {
  const at = (minReconcileMs: number, readAt: number): number => {
    const actions = record();
    const machine = new WarmRestart({ reconcileWhen: "dump-complete", minReconcileMs });
    machine.start({ ...enabled, timerSec: "3" }, 0, actions);
    machine.tableLoaded(0, actions);
    machine.restored(true, 0, actions);
    actions.take();
    machine.kernelRead(readAt, actions);
    if (actions.calls.length > 0) return readAt;
    const { deadline } = machine;
    machine.expire(deadline, actions);
    equal(actions.calls[0]![0], "reconcile");
    return deadline;
  };
  equal(at(0, 40), 40);
  equal(at(500, 40), 500);
  equal(at(5_000, 40), 3_000);
});

Deno.test("WarmRestart leaves the state as it is when it is stopped", () => {
  const actions = record();
  const machine = new WarmRestart();
  machine.start(enabled, 0, actions);
  machine.tableLoaded(0, actions);
  machine.restored(true, 0, actions);
  actions.take();
  machine.stop(100, actions);
  deepEqual(actions.take(), [["finish", {
    outcome: "stopped",
    counts: NOTHING,
    elapsedMs: 100,
  }]]);
  machine.expire(1e9, actions);
  machine.written(1e9, actions);
  deepEqual(actions.take(), []);
});

Deno.test("reconcileSeconds() takes 1 to 9999, and 5 for everything else", () => {
  deepEqual(
    ["1", "9999", "30", "0", "10000", "-1", "", "5s", "1.5", undefined].map(reconcileSeconds),
    [1, 9_999, 30, 5, 5, 5, 5, 5, 5, 5],
  );
  throws(() => new WarmRestart({ restoreWaitSec: -1 }), RangeError);
});
