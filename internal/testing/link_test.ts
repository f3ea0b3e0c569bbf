import { deepEqual, equal, ok } from "node:assert/strict";
import { seededRandom } from "../random.ts";
import { type LinkProfile, VirtualLink } from "./link.ts";

function run(profile: LinkProfile, packets: number, seed = 1, spacing = 1): [number, number][] {
  const link = new VirtualLink<number>(profile, seededRandom(seed));
  const out: [number, number][] = [];
  for (let i = 0; i < packets; i++) link.send(i * spacing, i, 100);
  while (link.nextAt !== Infinity) {
    const at = link.nextAt;
    out.push([at, link.receive(at)!]);
  }
  return out;
}

Deno.test("VirtualLink delivers everything in order after its delay when nothing is wrong", () => {
  deepEqual(run({ delayMs: 5 }, 4), [[5, 0], [6, 1], [7, 2], [8, 3]]);
});

Deno.test("VirtualLink keeps the order of packets that arrive at the same time", () => {
  deepEqual(
    run({ delayMs: 5 }, 50, 1, 0).map((event) => event[1]),
    Array.from({ length: 50 }, (_, i) => i),
  );
});

Deno.test("VirtualLink repeats itself for the same seed and not for another", () => {
  const profile = { delayMs: 5, jitterMs: 9, lossRate: 0.2, duplicateRate: 0.2, reorderRate: 0.2 };
  deepEqual(run(profile, 100, 7), run(profile, 100, 7));
  ok(JSON.stringify(run(profile, 100, 7)) !== JSON.stringify(run(profile, 100, 8)));
});

Deno.test("VirtualLink loses about as much as it was told", () => {
  const left = run({ delayMs: 1, lossRate: 0.2 }, 10_000).length;
  ok(left > 7800 && left < 8200, `${left} left`);
});

Deno.test("VirtualLink loses in bursts", () => {
  const left = run({ delayMs: 1, burst: { enter: 0.02, leave: 0.2, lossRate: 1 } }, 10_000);
  let longest = 0;
  for (let i = 1; i < left.length; i++) longest = Math.max(longest, left[i]![1] - left[i - 1]![1]);
  ok(longest > 10, `longest burst ${longest}`);
});

Deno.test("VirtualLink drops one packet, what is too large, and everything after a death", () => {
  deepEqual(run({ delayMs: 1, dropPacket: 2 }, 3).map((event) => event[1]), [0, 2]);
  equal(run({ delayMs: 1, mtuBytes: 99 }, 3).length, 0);
  equal(run({ delayMs: 1, dieAfter: 2 }, 5).length, 2);
});

Deno.test("VirtualLink queues packets behind each other at its rate", () => {
  deepEqual(run({ delayMs: 0, bytesPerMs: 10 }, 3, 1, 0).map((event) => event[0]), [10, 20, 30]);
});

Deno.test("VirtualLink comes out in the order of time with a thousand packets under way", () => {
  const out = run({ delayMs: 5, jitterMs: 500, duplicateRate: 0.5 }, 1000, 3, 0.01);
  ok(out.length > 1300);
  for (let i = 1; i < out.length; i++) ok(out[i]![0] >= out[i - 1]![0]);
});
