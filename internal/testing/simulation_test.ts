import { equal, match, throws } from "node:assert/strict";
import { seededRandom } from "../random.ts";
import { VirtualLink } from "./link.ts";
import { forSeeds, simulate } from "./simulation.ts";

function endless(): Parameters<typeof simulate<number>>[0] {
  let deadline = 1;
  return {
    receive: () => {},
    expire: () => void deadline++,
    get deadline() {
      return deadline;
    },
  };
}

const silent = { receive: () => {}, expire: () => {}, deadline: Infinity };
const link = () => new VirtualLink<number>({ delayMs: 1 }, seededRandom(1));

Deno.test("simulate() ends when nothing is left to happen", () => {
  const there = link();
  there.send(0, 1, 1);
  const end = simulate(silent, silent, there, link(), 100);
  equal(end.quiet, true);
  equal(end.nowMs, 1);
  equal(end.steps, 1);
});

Deno.test("simulate() stops an endless exchange and says so", () => {
  equal(simulate(endless(), silent, link(), link(), 100).quiet, false);
});

Deno.test("simulate() refuses a deadline at which nothing changes", () => {
  const stuck = { receive: () => {}, expire: () => {}, deadline: 5 };
  throws(() => simulate(stuck, silent, link(), link(), 100), /changed nothing/);
});

Deno.test("forSeeds() names the first seed that fails on a line that repeats it", () => {
  // In a replay only the seed that was asked for is run, and it is not one of these.
  if (Deno.env.get("FASTWIRE_SEED") !== undefined) return;
  try {
    forSeeds("a_test.ts", 10, 10, (seed) => {
      if (seed === 13) throw new Error("no");
    });
    throw new Error("should have failed");
  } catch (error) {
    match(String(error), /FASTWIRE_SEED=13 deno test -A a_test\.ts$/);
  }
});
