import { deepEqual } from "node:assert/strict";
import { logger, onceThenSummarise } from "./log.ts";
import { ManualClock } from "./time/clock.ts";

Deno.test("logger() names its category below fastwire", () => {
  deepEqual(logger("tftp", "server").category, ["fastwire", "tftp", "server"]);
});

Deno.test("onceThenSummarise() reports the first at once and the rest with a count", () => {
  const clock = new ManualClock();
  const reports: number[] = [];
  const note = onceThenSummarise(clock, (count) => reports.push(count), 60_000);
  for (let i = 0; i < 5; i++) note();
  deepEqual(reports, [1]);
  clock.advance(59_999);
  note();
  deepEqual(reports, [1]);
  clock.advance(1);
  note();
  deepEqual(reports, [1, 6]);
});
