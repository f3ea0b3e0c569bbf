import { deepEqual, equal, ok } from "node:assert/strict";
import fc from "fast-check";
import { seededRandom } from "../../internal/random.ts";
import { readSequence, SequenceTracker, SequenceTrackers, writeSequence } from "./udp_header.ts";

function counts(...sequences: readonly number[]): readonly number[] {
  const tracker = new SequenceTracker();
  for (const sequence of sequences) tracker.receive(sequence >>> 0);
  const { received, lost, reordered, duplicates } = tracker;
  return [received, lost, reordered, duplicates];
}

Deno.test("the sequence number is four bytes, big-endian", () => {
  const view = new DataView(new ArrayBuffer(8));
  writeSequence(view, 2, 0x0102_0304);
  deepEqual([...new Uint8Array(view.buffer)], [0, 0, 1, 2, 3, 4, 0, 0]);
  writeSequence(view, 2, 0xffff_ffff);
  equal(readSequence(view, 2), 0xffff_ffff);
});

Deno.test("SequenceTracker counts received, lost, reordered and repeated datagrams", () => {
  deepEqual(counts(1, 2, 3), [3, 0, 0, 0]);
  deepEqual(counts(0, 1), [2, 0, 0, 0]);
  deepEqual(counts(1, 5), [2, 3, 0, 0]);
  deepEqual(counts(1, 5, 3), [3, 2, 1, 0]);
  deepEqual(counts(1, 5, 3, 3, 5, 1), [6, 2, 1, 3]);
  deepEqual(counts(1, 3, 2), [3, 0, 1, 0]);
});

Deno.test("SequenceTracker begins anywhere and never counts what was before", () => {
  deepEqual(counts(1000, 1001), [2, 0, 0, 0]);
  deepEqual(counts(1000, 998, 999, 998), [4, 0, 2, 1]);
});

Deno.test("SequenceTracker goes on after 2³² − 1", () => {
  deepEqual(counts(-2, -1, 0, 1), [4, 0, 0, 0]);
  deepEqual(counts(-2, 1), [2, 2, 0, 0]);
  deepEqual(counts(-2, 1, -1, 0, -1), [5, 0, 2, 1]);
});

Deno.test("SequenceTracker takes what is later than its window for a repetition", () => {
  deepEqual(counts(1, 1025, 2), [3, 1022, 1, 0]);
  deepEqual(counts(1, 1026, 2), [3, 1024, 0, 1]);
  deepEqual(counts(1, 5000, 4999, 3900), [4, 4997, 1, 1]);
});

Deno.test("SequenceTracker agrees with a plain count over any loss, order and repetition", () => {
  for (let seed = 1; seed <= 300; seed++) {
    const random = seededRandom(seed);
    const start = random.u32() % 4 === 0 ? 0xffff_ff00 : random.u32();
    const total = 50 + random.u32() % 2000;
    const arrivals: number[] = [];
    for (let i = 0; i < total; i++) {
      if (i > 0 && random.u32() % 10 === 0) continue;
      arrivals.push(i);
      if (random.u32() % 20 === 0) arrivals.push(i);
    }
    // Shift some by less than the window, never the first one.
    for (let i = 1; i < arrivals.length; i++) {
      if (random.u32() % 10 !== 0) continue;
      const other = Math.min(arrivals.length - 1, i + random.u32() % 100);
      [arrivals[i], arrivals[other]] = [arrivals[other]!, arrivals[i]!];
    }
    const tracker = new SequenceTracker();
    const seen = new Set<number>();
    let duplicates = 0, reordered = 0, highest = -1;
    for (const index of arrivals) {
      tracker.receive((start + index) >>> 0);
      if (seen.has(index)) duplicates++;
      else if (index < highest) reordered++;
      seen.add(index);
      highest = Math.max(highest, index);
    }
    const expected = [arrivals.length, highest + 1 - seen.size, reordered, duplicates];
    const { received, lost, reordered: late, duplicates: again } = tracker;
    deepEqual([received, lost, late, again], expected, `seed ${seed}`);
  }
});

Deno.test("receiveRun() counts what single datagrams count", () => {
  const run = fc.tuple(fc.integer({ min: 0, max: 3000 }), fc.integer({ min: 1, max: 64 }));
  fc.assert(fc.property(fc.array(run, { maxLength: 40 }), fc.nat(0xffff_ffff), (runs, start) => {
    const whole = new SequenceTracker();
    const single = new SequenceTracker();
    for (const [first, count] of runs) {
      whole.receiveRun((start + first) >>> 0, count);
      for (let i = 0; i < count; i++) single.receive((start + first + i) >>> 0);
    }
    deepEqual({ ...whole }, { ...single });
    ok(whole.lost >= 0);
  }));
});

Deno.test("lost is never below zero, whatever numbers come", () => {
  fc.assert(fc.property(fc.array(fc.nat(0xffff_ffff)), (sequences) => {
    const tracker = new SequenceTracker();
    for (const sequence of sequences) tracker.receive(sequence);
    ok(tracker.lost >= 0);
    equal(tracker.received, sequences.length);
  }));
});

Deno.test("SequenceTrackers counts each source port by itself, up to its bound", () => {
  const trackers = new SequenceTrackers(2);
  for (const sequence of [1, 2, 4]) trackers.of(2257)!.receive(sequence);
  for (const sequence of [1, 3, 2]) trackers.of(2258)!.receive(sequence);
  equal(trackers.of(2259), undefined);
  deepEqual(trackers.totals(), { received: 6, lost: 1, reordered: 1, duplicates: 0 });
});
