import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { type Metric, openExposition } from "./prometheus.ts";

function counter(name: string, read: () => number): Metric {
  return { name, help: "Counts", type: "counter", read };
}

Deno.test("an exposition reads its metrics at every scrape, under its prefix", async () => {
  let reads = 0;
  const exposition = await openExposition("x_", [
    counter("reads_total", () => ++reads),
    {
      name: "entries",
      help: "Entries by family",
      type: "gauge",
      read: () => [
        { labels: { family: "IPv4" }, value: 2 },
        { labels: { family: 'a"b\\c' }, value: 0.5 },
      ],
    },
  ]);
  equal(reads, 0);
  const first = await exposition.scrape();
  equal(first.contentType, "text/plain; version=0.0.4; charset=utf-8");
  deepEqual(first.body.trim().split("\n"), [
    "# HELP x_reads_total Counts",
    "# TYPE x_reads_total counter",
    "x_reads_total 1",
    "",
    "# HELP x_entries Entries by family",
    "# TYPE x_entries gauge",
    'x_entries{family="IPv4"} 2',
    'x_entries{family="a\\"b\\\\c"} 0.5',
  ]);
  match((await exposition.scrape("text/plain")).body, /^x_reads_total 2$/m);
});

Deno.test("an exposition accumulates the buckets of a distribution", async () => {
  const exposition = await openExposition("x_", [{
    name: "wait_seconds",
    help: "Waiting",
    type: "histogram",
    read: () => ({
      bounds: [0.001, 0.01],
      counts: Uint32Array.of(3, 2, 1),
      sum: 4.5,
    }),
  }]);
  const { body } = await exposition.scrape();
  deepEqual(body.trim().split("\n").slice(2), [
    'x_wait_seconds_bucket{le="0.001"} 3',
    'x_wait_seconds_bucket{le="0.01"} 5',
    'x_wait_seconds_bucket{le="+Inf"} 6',
    "x_wait_seconds_sum 4.5",
    "x_wait_seconds_count 6",
  ]);
});

Deno.test("an exposition writes OpenMetrics for who asks for it, and the old text afterwards", async () => {
  const exposition = await openExposition("x_", [counter("reads_total", () => 7)]);
  const open = await exposition.scrape("application/openmetrics-text; version=1.0.0,text/plain");
  ok(open.contentType.startsWith("application/openmetrics-text; version=1.0.0"));
  deepEqual(open.body.trim().split("\n"), [
    "# HELP x_reads Counts",
    "# TYPE x_reads counter",
    "x_reads_total 7",
    "# EOF",
  ]);
  match((await exposition.scrape()).body, /^x_reads_total 7$/m);
});

Deno.test("an exposition refuses names that Prometheus would", async () => {
  await rejects(openExposition("x-", [counter("a_total", () => 0)]), TypeError);
  const twice = [counter("a_total", () => 0), counter("a_total", () => 0)];
  await rejects(openExposition("x_", twice), { name: "TypeError", message: /x_a_total twice/ });
});
