// What a measurement is told as.

import { deepEqual, equal } from "node:assert/strict";
import {
  type BenchReport,
  latencyFigures,
  percentile,
  reportObject,
  reportText,
} from "./bench_report.ts";

const REPORT: BenchReport = {
  mode: "burst",
  synthetic: false,
  touched: ["kernel", "redis"],
  subject: { interface: "e0", events: 5 },
  figures: [
    { name: "elapsedMs", label: "time", value: 999.7, unit: "ms", baseline: 12_345.678 },
    { name: "changesPerSecond", label: "changes", value: 999.4, unit: "/s", baseline: 0.01234 },
    { name: "lostEvents", label: "lost", value: 0, unit: "" },
  ],
  verified: 5,
  baseline: "one by one",
};

Deno.test("reportText puts the baseline beside what was measured", () => {
  equal(
    reportText(REPORT),
    `burst: interface e0, events 5
touched: kernel and redis

         measured   baseline
time     1,000 ms  12,346 ms
changes     999/s   0.0123/s
lost            0

baseline: one by one
verified: 5 entries of the final table are right
`,
  );
  const alone = reportText({ ...REPORT, synthetic: true, touched: [], baseline: "" });
  equal(alone.split("\n")[1], "synthetic: neither the kernel nor Redis had a part in it");
  equal(alone.includes("verified"), false);
});

Deno.test("reportObject is the same for programs", () => {
  deepEqual(reportObject(REPORT), {
    type: "bench",
    mode: "burst",
    synthetic: false,
    touched: ["kernel", "redis"],
    interface: "e0",
    events: 5,
    results: { elapsedMs: 999.7, changesPerSecond: 999.4, lostEvents: 0 },
    baseline: { what: "one by one", elapsedMs: 12345.7, changesPerSecond: 0.01234 },
    verified: 5,
  });
});

Deno.test("percentile is a value that occurred", () => {
  const values = Array.from({ length: 100 }, (_, i) => 100 - i);
  deepEqual([0, 0.5, 0.99, 1].map((part) => percentile(values, part)), [1, 51, 100, 100]);
  equal(percentile([], 0.5), 0);
  deepEqual(
    latencyFigures(values, undefined).map(({ name, value }) => [name, value]),
    [["p50Ms", 51], ["p95Ms", 96], ["p99Ms", 100]],
  );
});
