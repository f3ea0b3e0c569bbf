import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { RetryTimer } from "./retry.ts";

Deno.test("RetryTimer follows RFC 6298 from the first sample on", () => {
  const timer = new RetryTimer({});
  equal(timer.intervalMs, 1000);
  timer.sample(100);
  equal(timer.srttMs, 100);
  equal(timer.intervalMs, 100 + 4 * 50);
  timer.sample(200);
  equal(timer.srttMs, 112.5);
  equal(timer.intervalMs, 112.5 + 4 * (50 + (100 - 50) / 4));
});

Deno.test("RetryTimer forgets how long the opening took with the first sample", () => {
  const timer = new RetryTimer({});
  timer.sampleOpening(900);
  equal(timer.srttMs, 900);
  timer.sample(20);
  equal(timer.srttMs, 20);
  equal(timer.intervalMs, 20 + 4 * 10);
  timer.sample(28);
  equal(timer.srttMs, 21);
});

Deno.test("RetryTimer doubles with each timeout up to its bound", () => {
  const timer = new RetryTimer({ maxRtoMs: 5000 });
  timer.progress(0);
  const intervals: number[] = [];
  for (let i = 0; i < 4; i++) {
    intervals.push(timer.intervalMs);
    timer.timedOut(0);
  }
  deepEqual(intervals, [1000, 2000, 4000, 5000]);
});

Deno.test("RetryTimer keeps a negotiated interval exactly", () => {
  const timer = new RetryTimer({ timeoutMs: 3000, jitter: 0.9 });
  timer.sample(5);
  timer.timedOut(3000);
  equal(timer.intervalMs, 3000);
});

Deno.test("RetryTimer shifts adaptive intervals by its jitter, at most a tenth", () => {
  equal(new RetryTimer({ jitter: 0 }).intervalMs, 900);
  ok(new RetryTimer({ jitter: 0.999 }).intervalMs < 1100);
});

Deno.test("RetryTimer comes down a step with progress and all the way with a sample", () => {
  const timer = new RetryTimer({});
  timer.timedOut(0);
  timer.timedOut(0);
  timer.progress(0);
  equal(timer.intervalMs, 2000);
  timer.sample(500);
  equal(timer.intervalMs, 1500);
});

Deno.test("RetryTimer gives up after six timeouts, but not within five seconds", () => {
  const timer = new RetryTimer({});
  timer.progress(0);
  for (let i = 1; i <= 20; i++) equal(timer.timedOut(i * 200), false);
  equal(timer.timedOut(5000), true);
  timer.progress(5000);
  for (let i = 1; i <= 5; i++) equal(timer.timedOut(5000 + 2000 * i), false);
  equal(timer.timedOut(17_000), true);
});

Deno.test("RetryTimer gives a negotiated interval six chances", () => {
  const timer = new RetryTimer({ timeoutMs: 100 });
  timer.progress(0);
  let now = 0;
  for (let i = 1; i <= 5; i++) equal(timer.timedOut(now += 100), false);
  equal(timer.timedOut(now += 100), true);
});

Deno.test("RetryTimer gives up after the longest idle time whatever the count", () => {
  const timer = new RetryTimer({ timeoutMs: 100_000 });
  timer.progress(0);
  equal(timer.timedOut(60_000), true);
});

Deno.test("RetryTimer keeps its interval within its bounds for all samples", () => {
  fc.assert(fc.property(fc.array(fc.double({ min: 0, max: 1e5, noNaN: true })), (samples) => {
    const timer = new RetryTimer({});
    for (const sample of samples) timer.sample(sample);
    ok(timer.intervalMs >= 20 && timer.intervalMs <= 8000);
  }));
});
