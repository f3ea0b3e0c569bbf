import { equal, ok, throws } from "node:assert/strict";
import { seededRandom } from "../random.ts";
import { Pacer } from "./pacer.ts";

Deno.test("Pacer starts with a full burst and then owes what time has earned", () => {
  const pacer = new Pacer(1000, 5);
  equal(pacer.take(100, 10), 5);
  equal(pacer.take(100, 10), 0);
  equal(pacer.take(103, 10), 3);
});

Deno.test("Pacer never saves up more than its burst", () => {
  const pacer = new Pacer(1000, 5);
  pacer.take(0, 5);
  equal(pacer.take(1_000_000, 100), 5);
});

Deno.test("Pacer says when the next unit may go", () => {
  const pacer = new Pacer(100, 1);
  equal(pacer.take(0, 1), 1);
  equal(pacer.readyAt(0, 1), 10);
  equal(pacer.take(9, 1), 0);
  equal(pacer.take(10, 1), 1);
});

Deno.test("Pacer keeps its rate whatever the rhythm of the questions", () => {
  for (let seed = 1; seed <= 50; seed++) {
    const random = seededRandom(seed);
    const pacer = new Pacer(2500, 40);
    let now = 0;
    let taken = 0;
    while (now < 10_000) {
      now += random.float() * 12;
      taken += pacer.take(now, 1000);
    }
    const due = 2.5 * now + 40;
    ok(taken <= due + 1 && taken >= due - 42, `seed ${seed}: ${taken} of ${due}`);
  }
});

Deno.test("Pacer refuses a rate of nothing", () => {
  throws(() => new Pacer(0, 1), RangeError);
  throws(() => new Pacer(1, 0), RangeError);
});
