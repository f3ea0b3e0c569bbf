import { equal, ok } from "node:assert/strict";
import { Anticipation } from "./anticipation.ts";

Deno.test("Anticipation comes to stay awake for about as long as answers take", () => {
  const anticipation = new Anticipation();
  const answerMs = 0.06;
  let slept = 0;
  for (let i = 0; i < 2000; i++) {
    const awake = anticipation.awakeMs;
    const left = Math.max(0, answerMs - awake);
    if (i >= 1000 && left > 0.012) slept++;
    anticipation.learn(left, true);
  }
  ok(Math.abs(anticipation.awakeMs - answerMs) < 0.02, `${anticipation.awakeMs} ms`);
  equal(slept, 0, "no wait was slept through for longer than twelve microseconds");
});

Deno.test("Anticipation sleeps at once where answers take long, and tries again later", () => {
  const anticipation = new Anticipation();
  anticipation.learn(0.04, true);
  ok(anticipation.awakeMs > 0);
  anticipation.learn(5, true);
  equal(anticipation.awakeMs, 0);
  for (let i = 0; i < 64; i++) {
    anticipation.learn(0.04, true);
    equal(anticipation.awakeMs, 0);
  }
  anticipation.learn(0.04, true);
  ok(anticipation.awakeMs > 0);
});

Deno.test("Anticipation never stays awake longer than its limit", () => {
  const anticipation = new Anticipation();
  for (let i = 0; i < 100; i++) anticipation.learn(0.14, true);
  ok(anticipation.awakeMs <= 0.15);
});

Deno.test("Anticipation gives up when no answer came", () => {
  const anticipation = new Anticipation();
  anticipation.learn(0.04, true);
  anticipation.learn(0.04, false);
  equal(anticipation.awakeMs, 0);
});
