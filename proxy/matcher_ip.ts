/**
 * Blocks of addresses: the blocks cut the number line into intervals, and each interval knows which ids it belongs to.
 * A lookup finds one interval; how many blocks overlap there does not matter.
 *
 * @module
 */

import { IdSetBuilder, type IdSets } from "./id_sets.ts";
import type { IpBlock } from "./ip_text.ts";

/** Collects blocks. */
export class IpIndexBuilder {
  readonly #v4: Boundary[] = [];
  readonly #v6: Boundary[] = [];

  /** Adds a block. */
  add(block: IpBlock, id: number): void {
    const list = block.family === 4 ? this.#v4 : this.#v6;
    list.push({ words: block.words, id, enters: true });
    const after = behind(block);
    if (after !== undefined) list.push({ words: after, id, enters: false });
  }

  /** The index as it is now. */
  build(): IpIndex {
    const sets = new IdSetBuilder();
    const v4 = intervals(this.#v4, 1, sets);
    const v6 = intervals(this.#v6, 4, sets);
    return new IpIndex(v4, v6, sets.build());
  }
}

interface Boundary {
  readonly words: Uint32Array<ArrayBuffer>;
  readonly id: number;
  readonly enters: boolean;
}

interface Intervals {
  /** First address of each interval, `width` words each; the first is 0. */
  readonly firsts: Uint32Array<ArrayBuffer>;
  /** Set of ids of each interval. */
  readonly sets: Uint32Array<ArrayBuffer>;
  /**
   * By the first word of an address, less `base` and without the `shift` low bits: the last interval that begins at or
   * before the addresses of the bucket. One more entry ends it.
   */
  readonly buckets: Uint32Array<ArrayBuffer>;
  /** First word of the first interval that is not the one at 0; lower addresses are in that one. */
  readonly base: number;
  /** Chosen so that what the blocks cover fills the buckets: those of one registry share their first 16 bits. */
  readonly shift: number;
}

/** Buckets at most; 64 Ki of them are 256 KiB. */
const BUCKETS = 65_536;

/** Finds which ids an address belongs to. */
export class IpIndex {
  readonly #v4: Intervals;
  readonly #v6: Intervals;
  readonly #sets: IdSets;

  /** Made by {@linkcode IpIndexBuilder.build}. */
  constructor(v4: Intervals, v6: Intervals, sets: IdSets) {
    this.#v4 = v4;
    this.#v6 = v6;
    this.#sets = sets;
  }

  /** Bytes held in typed arrays. */
  get byteLength(): number {
    return [this.#v4, this.#v6].reduce(
      (sum, { firsts, sets, buckets }) =>
        sum + firsts.byteLength + sets.byteLength + buckets.byteLength,
      0,
    );
  }

  /**
   * Marks the ids that an address belongs to.
   *
   * @param family As `readIp` answers.
   * @param words The address, most significant word first.
   * @param marks Receives `stamp` at each id.
   */
  match(family: 4 | 6, words: Uint32Array, marks: Uint32Array, stamp: number): void {
    const interval = family === 4 ? this.#find4(words[0]!) : this.#find6(words);
    if (interval !== 0) this.#sets.mark(interval, marks, stamp);
  }

  #find4(address: number): number {
    const { firsts, sets, buckets, base, shift } = this.#v4;
    if (address < base || sets.length === 1) return sets[0]!;
    const bucket = Math.min((address - base) >>> shift, buckets.length - 2);
    let low = buckets[bucket]!;
    let high = buckets[bucket + 1]! + 1;
    while (high - low > 1) {
      const middle = low + high >>> 1;
      if (firsts[middle]! <= address) low = middle;
      else high = middle;
    }
    return sets[low]!;
  }

  #find6(words: Uint32Array): number {
    const { firsts, sets, buckets, base, shift } = this.#v6;
    const first = words[0]!;
    if (first < base || sets.length === 1) return sets[0]!;
    const bucket = Math.min((first - base) >>> shift, buckets.length - 2);
    let low = buckets[bucket]!;
    let high = buckets[bucket + 1]! + 1;
    while (high - low > 1) {
      const middle = low + high >>> 1;
      if (compareAt(firsts, 4 * middle, words) <= 0) low = middle;
      else high = middle;
    }
    return sets[low]!;
  }
}

function compareAt(list: Uint32Array, at: number, words: Uint32Array): number {
  for (let word = 0; word < 4; word++) {
    const a = list[at + word]!;
    const b = words[word]!;
    if (a !== b) return a < b ? -1 : 1;
  }
  return 0;
}

/** The first address after a block; `undefined` when the block reaches the end of the line. */
function behind({ words, prefixBits }: IpBlock): Uint32Array<ArrayBuffer> | undefined {
  if (prefixBits === 0) return undefined;
  const after = words.slice();
  // One is added at the last bit that counts; a carry goes to the words before it.
  let word = (prefixBits - 1) >>> 5;
  let sum = after[word]! + 2 ** (31 - (prefixBits - 1 & 31));
  while (sum > 0xffff_ffff) {
    after[word] = 0;
    if (--word < 0) return undefined;
    sum = after[word]! + 1;
  }
  after[word] = sum;
  return after;
}

function intervals(boundaries: readonly Boundary[], width: number, sets: IdSetBuilder): Intervals {
  const sorted = [...boundaries].sort((a, b) => {
    for (let word = 0; word < width; word++) {
      const difference = a.words[word]! - b.words[word]!;
      if (difference !== 0) return difference;
    }
    return 0;
  });
  const firsts: number[] = new Array(width).fill(0);
  const numbers = [0];
  // Blocks of one id may lie in each other, so ids are counted.
  const depth = new Map<number, number>();
  for (let at = 0; at < sorted.length;) {
    const { words } = sorted[at]!;
    for (; at < sorted.length && sorted[at]!.words.every((word, i) => word === words[i]); at++) {
      const { id, enters } = sorted[at]!;
      const count = (depth.get(id) ?? 0) + (enters ? 1 : -1);
      if (count === 0) depth.delete(id);
      else depth.set(id, count);
    }
    const set = sets.of([...depth.keys()]);
    const isFirst = words.every((word) => word === 0);
    if (isFirst) numbers[0] = set;
    else if (set !== numbers.at(-1)) {
      firsts.push(...words);
      numbers.push(set);
    }
  }
  const list = Uint32Array.from(firsts);
  return { firsts: list, sets: Uint32Array.from(numbers), ...bucketsOf(list, width) };
}

function bucketsOf(
  firsts: Uint32Array<ArrayBuffer>,
  width: number,
): Pick<Intervals, "buckets" | "base" | "shift"> {
  const count = firsts.length / width;
  const base = count === 1 ? 0 : firsts[width]!;
  const span = firsts[firsts.length - width]! - base;
  const shift = Math.max(0, Math.ceil(Math.log2((span + 1) / BUCKETS)));
  const buckets = new Uint32Array(Math.floor(span / 2 ** shift) + 2);
  let interval = 0;
  for (let bucket = 0; bucket < buckets.length - 1; bucket++) {
    // Only an interval that begins exactly at the bucket's first address replaces the one that runs into it.
    const start = base + bucket * 2 ** shift;
    while (interval + 1 < count && isAtOrBefore(firsts, (interval + 1) * width, width, start)) {
      interval++;
    }
    buckets[bucket] = interval;
  }
  buckets[buckets.length - 1] = count - 1;
  return { buckets, base, shift };
}

function isAtOrBefore(
  firsts: Uint32Array<ArrayBuffer>,
  at: number,
  width: number,
  start: number,
): boolean {
  if (firsts[at]! !== start) return firsts[at]! < start;
  for (let word = 1; word < width; word++) if (firsts[at + word] !== 0) return false;
  return true;
}
