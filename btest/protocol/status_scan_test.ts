import { deepEqual, equal, ok } from "node:assert/strict";
import { type Random, seededRandom } from "../../internal/random.ts";
import { writeStatus } from "./command.ts";
import { StatusFinder, type StatusFinderOptions } from "./status_scan.ts";

interface Seen {
  readonly sequence: number;
  readonly cpu: number;
  readonly received: number;
}

/** A finder with its reader: it takes pieces and keeps what was found. */
function reading(options?: StatusFinderOptions) {
  const finder = new StatusFinder(options);
  const seen: Seen[] = [];
  const sink = {
    status: (cpu: number, sequence: number, received: number) =>
      void seen.push({ sequence, cpu, received }),
  };
  // The test begins.
  finder.scan(new Uint8Array(0), 0, 0, 0, sink);
  return {
    finder,
    seen,
    scan: (bytes: Uint8Array, now: number, start = 0, end = bytes.length) =>
      finder.scan(bytes, start, end, now, sink),
  };
}

function status(sequence: number, cpu = 12, received = 1000, flag = false): Uint8Array {
  const bytes = new Uint8Array(12);
  writeStatus(bytes, 0, cpu, flag, sequence, received);
  return bytes;
}

function join(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

Deno.test("PRD-012: StatusFinder finds a message split at each of its 11 inner boundaries", () => {
  for (let split = 1; split < 12; split++) {
    const { finder, seen, scan } = reading();
    const stream = join(new Uint8Array(100), status(1, 42, 123_456), new Uint8Array(100));
    equal(scan(stream, 1000, 0, 100 + split), 0);
    equal(scan(stream, 1000, 100 + split), 1, `split at ${split}`);
    deepEqual(seen, [{ sequence: 1, cpu: 42, received: 123_456 }]);
    equal(finder.statusBytes, 12);
  }
});

Deno.test("PRD-012: StatusFinder finds a message in twelve single bytes and across three reads", () => {
  for (const cuts of [[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11], [3, 7], [1, 11], [0, 0, 5, 5, 9]]) {
    const { seen, scan } = reading();
    const message = status(1);
    let from = 0;
    for (const cut of [...cuts, 12]) {
      scan(message, 1000, from, cut);
      from = cut;
    }
    deepEqual(seen.map(({ sequence }) => sequence), [1], `cuts ${cuts}`);
  }
});

Deno.test("StatusFinder recognizes both forms of the CPU byte", () => {
  for (const flag of [false, true]) {
    const { seen, scan } = reading();
    scan(status(1, 89, 0, flag), 1000);
    deepEqual(seen, [{ sequence: 1, cpu: 89, received: 0 }]);
  }
});

Deno.test("StatusFinder is not fooled by blocks that begin like a first status", () => {
  // One old tool begins each of its 32 KiB blocks so.
  const block = new Uint8Array(32768);
  block.set([7, 0, 0, 0, 1, 0]);
  for (const sent of [1, 2, 3]) {
    const { finder, seen, scan } = reading();
    let now = 0;
    for (let i = 0; i < 100; i++) scan(block, now += 10);
    equal(seen.length, 0);
    scan(status(sent, 55, 777), now);
    for (let i = 0; i < 100; i++) scan(block, now += 10);
    scan(status(sent + 1, 56, 778), now);
    deepEqual(seen.map(({ sequence, cpu }) => [sequence, cpu]), [[sent, 55], [sent + 1, 56]]);
    equal(finder.statusBytes, 24);
  }
});

Deno.test("StatusFinder takes a status whose own fields contain 07", () => {
  const { seen, scan } = reading();
  const received = 0x0707_0707;
  scan(join(Uint8Array.of(7, 7, 0, 7), status(1, 7, received), Uint8Array.of(7, 7)), 1000);
  for (let sequence = 2; sequence <= 7; sequence++) {
    scan(join(Uint8Array.of(7), status(sequence, 7, received, true)), 1000 * sequence);
  }
  deepEqual(
    seen,
    [1, 2, 3, 4, 5, 6, 7].map((sequence) => ({ sequence, cpu: 7, received })),
  );
});

Deno.test("StatusFinder accepts the sequence numbers that time allows, and no others", () => {
  const numbers = (steps: readonly (readonly [number, number])[]) => {
    const { seen, scan } = reading();
    for (const [now, sequence] of steps) scan(status(sequence), now);
    return seen.map(({ sequence }) => sequence);
  };
  deepEqual(numbers([[1000, 1], [2000, 2], [3000, 3]]), [1, 2, 3]);
  deepEqual(numbers([[1000, 3], [2000, 4]]), [3, 4]);
  deepEqual(numbers([[1000, 4], [1000, 0], [1000, 1]]), [1]);
  deepEqual(numbers([[1000, 1], [1500, 3], [1600, 1], [1700, 2]]), [1, 2]);
  // Three seconds unseen.
  deepEqual(numbers([[1000, 1], [4900, 6], [4950, 5], [5950, 6]]), [1, 5, 6]);
});

Deno.test("StatusFinder finds messages that arrive at once, and each of them once", () => {
  const { seen, scan } = reading();
  equal(scan(join(status(1), status(2), new Uint8Array(3), status(3), status(3)), 3000), 3);
  deepEqual(seen.map(({ sequence }) => sequence), [1, 2, 3]);
});

function payload(
  kind: "zeros" | "random",
  length: number,
  random: Random,
): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  if (kind === "random") { for (let i = 0; i < length; i++) bytes[i] = random.u32(); }
  return bytes;
}

Deno.test("StatusFinder finds what a plain search finds, in any payload and any pieces", () => {
  const seed = 7007;
  const random = seededRandom(seed);
  for (let round = 0; round < 200; round++) {
    const kind = round % 2 === 0 ? "zeros" : "random";
    const { finder, seen, scan } = reading();
    const parts: Uint8Array[] = [];
    const seconds = 1 + random.u32() % 4;
    for (let second = 1; second <= seconds; second++) {
      parts.push(payload(kind, random.u32() % 3000, random), status(second, second));
    }
    parts.push(payload(kind, random.u32() % 300, random));
    const stream = join(...parts);
    // The buffer lies at any alignment, as a slot does.
    const skew = random.u32() % 8;
    const buffer = new Uint8Array(new ArrayBuffer(stream.length + 8), skew, stream.length);
    buffer.set(stream);
    let at = 0;
    let arrived = 0;
    while (at < stream.length) {
      const end = Math.min(stream.length, at + 1 + random.u32() % (random.u32() % 3 ? 2000 : 14));
      // The second that the byte was sent in.
      while (arrived < seconds && end > offsetOf(parts, arrived)) arrived++;
      scan(buffer, arrived * 1000, at, end);
      at = end;
    }
    const expected = Array.from({ length: seconds }, (_, i) => i + 1);
    const found = seen.map(({ sequence }) => sequence);
    deepEqual(found, expected, `seed ${seed}, round ${round}`);
    equal(finder.statusBytes, 12 * found.length);
  }
});

/** Where the message of a second begins. */
function offsetOf(parts: readonly Uint8Array[], second: number): number {
  return parts.slice(0, 2 * second + 1).reduce((sum, part) => sum + part.length, 0);
}

Deno.test("StatusFinder finds nothing in 64 MiB of random payload", () => {
  const random = seededRandom(3);
  const bytes = payload("random", 1 << 20, random);
  const { seen, scan } = reading();
  for (let i = 0; i < 64; i++) {
    // Other bytes in other places each time.
    bytes[random.u32() % bytes.length] = 7;
    scan(bytes, i * 100, i);
  }
  equal(seen.length, 0);
});

Deno.test("StatusFinder looks for no message too early in random payload, then until one comes", () => {
  let searches = 0;
  const findSeven = (bytes: Uint8Array, start: number, end: number) => {
    searches++;
    const at = bytes.subarray(0, end).indexOf(7, start);
    return at;
  };
  const { seen, scan } = reading({ randomData: true, findSeven });
  const zeros = new Uint8Array(1000);
  scan(status(1), 1000);
  scan(status(2), 2000);
  searches = 0;
  for (let now = 2010; now < 2800; now += 10) scan(zeros, now);
  equal(searches, 0);
  scan(zeros, 2800);
  ok(searches > 0);
  scan(join(zeros, status(3)), 2990);
  // Missed, because it came early; the next one is taken.
  scan(status(4), 3700);
  scan(zeros, 4100);
  scan(status(5), 5000);
  deepEqual(seen.map(({ sequence }) => sequence), [1, 2, 3, 5]);
});

Deno.test("StatusFinder gives the same answers with a search of the caller's", () => {
  const seed = 88;
  const random = seededRandom(seed);
  const findSeven = (bytes: Uint8Array, start: number, end: number) => {
    for (let i = start; i < end; i++) if (bytes[i] === 7) return i;
    return -1;
  };
  for (let round = 0; round < 50; round++) {
    const bytes = join(payload("random", 500, random), status(1), payload("zeros", 500, random));
    const plain = reading();
    const given = reading({ findSeven });
    const cut = random.u32() % bytes.length;
    for (const { scan } of [plain, given]) {
      scan(bytes, 1000, 0, cut);
      scan(bytes, 1000, cut);
    }
    deepEqual(given.seen, plain.seen, `seed ${seed}, round ${round}`);
    equal(plain.seen.length, 1);
  }
});
