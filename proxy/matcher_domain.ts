/**
 * Names and suffixes of names, found by one walk over a host from its end: a hash grows by one byte a step, and at every
 * dot, and at the beginning, a table is asked. Nothing is cut out of the host and nothing is allocated.
 *
 * @module
 */

import { IdSetBuilder, type IdSets } from "./id_sets.ts";

/** Longest host that is looked at; RFC 1035 §2.3.4 has 255. Longer ones match nothing. */
const MAX_HOST = 255;

/** Words in a slot of the table. */
const SLOT = 4;

const PRIME = 0x0100_0193;
const BASIS = 0x811c_9dc5;

/** Lower case of ASCII; anything else as it is. */
const FOLD = Uint8Array.from(
  { length: 128 },
  (_, code) => code >= 65 && code <= 90 ? code + 32 : code,
);

/** Names with the numbers of their sets, at equal positions. */
interface Names {
  readonly names: readonly string[];
  /** Set of ids that want the whole name. */
  readonly whole: readonly number[];
  /** Set of ids that want what is below it. */
  readonly below: readonly number[];
}

/** Collects names. */
export class DomainIndexBuilder {
  readonly #positions = new Map<string, number>();
  readonly #names: string[] = [];
  readonly #whole: number[] = [];
  readonly #below: number[] = [];
  readonly #sets = new IdSetBuilder();

  /** Adds a name that has to be the host. */
  addName(name: string, id: number): void {
    const at = this.#position(name);
    this.#whole[at] = this.#sets.with(this.#whole[at]!, id);
  }

  /** Adds a suffix: `example.com` is itself and what is below, `.example.com` only what is below. */
  addSuffix(suffix: string, id: number): void {
    const dotted = suffix.charCodeAt(0) === 0x2e;
    const at = this.#position(dotted ? suffix.slice(1) : suffix);
    this.#below[at] = this.#sets.with(this.#below[at]!, id);
    if (!dotted) this.#whole[at] = this.#sets.with(this.#whole[at]!, id);
  }

  /** The index as it is now. */
  build(): DomainIndex {
    const names = { names: this.#names, whole: this.#whole, below: this.#below };
    return new DomainIndex(names, this.#sets.build());
  }

  #position(name: string): number {
    let at = this.#positions.get(name);
    if (at === undefined) {
      at = this.#names.push(name) - 1;
      this.#positions.set(name, at);
      this.#whole.push(0);
      this.#below.push(0);
    }
    return at;
  }
}

/**
 * Finds which ids a host belongs to.
 *
 * The table is open-addressed and at most half full. A slot is four words, so that a probe touches one cache line:
 *
 * ```text
 *   where the name's bytes begin, plus 1; 0 is free
 *   the hash of the name
 *   its length (low 8 bits) and the number of its pair of sets (high 24 bits)
 *   unused
 * ```
 */
export class DomainIndex {
  /** Number of different names. */
  readonly size: number;
  readonly #sets: IdSets;
  readonly #mask: number;
  readonly #slots: Uint32Array<ArrayBuffer>;
  /** Two words a pair: the set that wants the whole name, and the set that wants what is below. */
  readonly #pairs: Uint32Array<ArrayBuffer>;
  readonly #bytes: Uint8Array<ArrayBuffer>;
  /** Dots in the key with fewest, and with most: other suffixes of a host need no look. */
  readonly #shallowest: number;
  readonly #deepest: number;

  /** Made by {@linkcode DomainIndexBuilder.build}. */
  constructor({ names, whole, below }: Names, sets: IdSets) {
    const count = names.length;
    this.size = count;
    this.#sets = sets;
    let size = 2;
    while (size < 2 * count) size *= 2;
    this.#mask = size - 1;
    this.#slots = new Uint32Array(SLOT * size);
    let total = 0;
    for (const name of names) total += name.length;
    this.#bytes = new Uint8Array(total);
    const pairs: number[] = [];
    const pairNumbers = new Map<number, number>();
    let at = 0;
    let shallowest = MAX_HOST;
    let deepest = -1;
    for (let key = 0; key < count; key++) {
      const name = names[key]!;
      let hash = BASIS;
      let dots = 0;
      for (let i = name.length - 1; i >= 0; i--) {
        const code = name.charCodeAt(i);
        if (code === 0x2e) dots++;
        hash = Math.imul(hash ^ code, PRIME);
        this.#bytes[at + i] = code;
      }
      if (dots > deepest) deepest = dots;
      if (dots < shallowest) shallowest = dots;
      // Sets stay below 2^26, so the two are an exact number.
      const both = whole[key]! * 0x400_0000 + below[key]!;
      let pair = pairNumbers.get(both);
      if (pair === undefined) {
        pairNumbers.set(both, pair = pairNumbers.size);
        pairs.push(whole[key]!, below[key]!);
      }
      let slot = SLOT * (scatter(hash) & this.#mask);
      while (this.#slots[slot] !== 0) slot = slot + SLOT & SLOT * size - 1;
      this.#slots[slot] = at + 1;
      this.#slots[slot + 1] = hash;
      this.#slots[slot + 2] = name.length | pair << 8;
      at += name.length;
    }
    this.#pairs = Uint32Array.from(pairs);
    this.#shallowest = shallowest;
    this.#deepest = deepest;
  }

  /** Bytes held in typed arrays. */
  get byteLength(): number {
    return this.#slots.byteLength + this.#bytes.byteLength + this.#pairs.byteLength;
  }

  /**
   * Marks the ids that a host belongs to.
   *
   * @param host A name in ASCII; case does not matter, nor does one dot at the end.
   * @param marks Receives `stamp` at each id.
   */
  match(host: string, marks: Uint32Array, stamp: number): void {
    let end = host.length;
    if (end > 0 && host.charCodeAt(end - 1) === 0x2e) end--;
    if (end === 0 || end > MAX_HOST || this.size === 0) return;
    let hash = BASIS;
    let dots = 0;
    for (let i = end - 1; i >= 0; i--) {
      const code = host.charCodeAt(i);
      if (code === 0x2e) {
        // The name behind this dot is complete, and the host is below it.
        const pair = dots < this.#shallowest ? -1 : this.#find(host, i + 1, end, hash);
        if (pair >= 0) this.#sets.mark(this.#pairs[2 * pair + 1]!, marks, stamp);
        if (++dots > this.#deepest) return;
      }
      hash = Math.imul(hash ^ (code < 128 ? FOLD[code]! : code), PRIME);
    }
    const pair = this.#find(host, 0, end, hash);
    if (pair >= 0) this.#sets.mark(this.#pairs[2 * pair]!, marks, stamp);
  }

  /** The number of the pair of a name's sets, or -1. */
  #find(host: string, start: number, end: number, hash: number): number {
    const slots = this.#slots;
    const unsigned = hash >>> 0;
    const last = slots.length - 1;
    for (let slot = SLOT * (scatter(hash) & this.#mask);; slot = slot + SLOT & last) {
      const from = slots[slot]! - 1;
      if (from < 0) return -1;
      if (slots[slot + 1] !== unsigned) continue;
      const word = slots[slot + 2]!;
      if ((word & 0xff) === end - start && this.#equals(from, host, start, end)) return word >>> 8;
    }
  }

  #equals(from: number, host: string, start: number, end: number): boolean {
    const bytes = this.#bytes;
    for (let i = start; i < end; i++) {
      const code = host.charCodeAt(i);
      if (code > 127 || FOLD[code] !== bytes[from + i - start]) return false;
    }
    return true;
  }
}

/** Mixes the high bits in: those of the hash that come last are the ones the table uses. */
function scatter(hash: number): number {
  return hash ^ hash >>> 15;
}
