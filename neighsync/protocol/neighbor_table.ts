/**
 * What the kernel's neighbor tables hold, without an object per entry: columns of numbers and a hash index over them. At
 * most 100 bytes an entry, and nothing for the garbage collector to walk.
 *
 * @module
 */

import { formatAddress, MAC_ABSENT } from "./address.ts";
import type { NeighborView } from "./neighbor.ts";

/** The entry is in the kernel, as far as is known. Without it the slot only remembers that a dump must not bring it back. */
export const ENTRY_LIVE = 1;
/** Its present values were announced. */
export const ENTRY_ANNOUNCED = 2;
/** Its stamp was made by an event, not by a dump. */
export const ENTRY_BY_EVENT = 4;
/** The last dump did not show it and nothing explains why. */
export const ENTRY_CANDIDATE = 8;

const FREE = 0x80;
const FIRST_CAPACITY = 256;
/** Bytes of one slot in all the columns together. */
const SLOT_BYTES = 4 * 4 + 4 + 8 + 4 + 4 + 5 + 4 + 4;

/**
 * Entries by (interface index, family, address). An entry is a slot number, valid until the entry is removed; the columns
 * may be replaced by larger ones when an entry is added, so they are always read through the table.
 */
export class NeighborTable {
  /** Four words a slot, most significant first. */
  words: Uint32Array<ArrayBuffer> = new Uint32Array(4 * FIRST_CAPACITY);
  /** Interface index. */
  ifindex: Int32Array<ArrayBuffer> = new Int32Array(FIRST_CAPACITY);
  /** 48-bit number, `MAC_ABSENT` or `MAC_FOREIGN`. */
  mac: Float64Array<ArrayBuffer> = new Float64Array(FIRST_CAPACITY);
  /** Generation of the last stamp. */
  generation: Uint32Array<ArrayBuffer> = new Uint32Array(FIRST_CAPACITY);
  /** Flags of `NDA_FLAGS_EXT`. */
  flagsExt: Uint32Array<ArrayBuffer> = new Uint32Array(FIRST_CAPACITY);
  /** `AF_INET` or `AF_INET6`. */
  family: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_CAPACITY);
  /** `NUD_…`. */
  state: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_CAPACITY);
  /** `NTF_…`. */
  flags: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_CAPACITY);
  /** `RTN_…`. */
  routeType: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_CAPACITY);
  /** `ENTRY_…` bits; 0x80 in a slot that is free. */
  marks: Uint8Array<ArrayBuffer> = new Uint8Array(FIRST_CAPACITY);

  /** Next free slot for free ones. */
  #nextFree: Int32Array<ArrayBuffer> = new Int32Array(FIRST_CAPACITY);
  #firstFree = -1;
  #hashes: Uint32Array<ArrayBuffer> = new Uint32Array(FIRST_CAPACITY);
  /** Slot + 1, or 0; linear probing, at most half full. */
  #index: Int32Array<ArrayBuffer> = new Int32Array(2 * FIRST_CAPACITY);
  #end = 0;
  #size = 0;
  readonly #seed: number;

  /**
   * Makes an empty table.
   *
   * @param seed Random 32-bit number, so that nobody on a link can choose addresses that all collide.
   */
  constructor(seed: number) {
    this.#seed = seed >>> 0;
  }

  /** Entries, those included that are only remembered. */
  get size(): number {
    return this.#size;
  }

  /** One past the highest slot in use: for loops over {@linkcode isUsed}. */
  get end(): number {
    return this.#end;
  }

  /** Bytes of all columns and of the index. */
  get memoryBytes(): number {
    return this.ifindex.length * SLOT_BYTES + this.#index.byteLength;
  }

  /** Whether the slot holds an entry. */
  isUsed(slot: number): boolean {
    return this.marks[slot] !== FREE;
  }

  /** Whether the slot holds an entry that is in the kernel. */
  isLive(slot: number): boolean {
    return (this.marks[slot]! & (FREE | ENTRY_LIVE)) === ENTRY_LIVE;
  }

  /** The slot of a neighbor, or -1. */
  find(neighbor: NeighborView): number {
    const { ifindex, family, word0, word1, word2, word3 } = neighbor;
    return this.findKey(ifindex, family, word0, word1, word2, word3);
  }

  /** The slot of a key, or -1. Words are most significant first; of IPv4 only the first, the others 0. */
  findKey(
    ifindex: number,
    family: number,
    word0: number,
    word1: number,
    word2: number,
    word3: number,
  ): number {
    const index = this.#index, words = this.words;
    const mask = index.length - 1;
    const hash = this.#hash(ifindex, family, word0, word1, word2, word3);
    for (let at = hash & mask;; at = (at + 1) & mask) {
      const slot = index[at]! - 1;
      if (slot < 0) return -1;
      const base = slot << 2;
      if (
        this.#hashes[slot] === hash && this.ifindex[slot] === ifindex &&
        words[base] === word0 && words[base + 3] === word3 && words[base + 1] === word1 &&
        words[base + 2] === word2 && this.family[slot] === family
      ) return slot;
    }
  }

  /** Adds a neighbor that {@linkcode find} did not find, with no marks. @returns Its slot. */
  add(neighbor: NeighborView): number {
    let slot = this.#firstFree;
    if (slot >= 0) this.#firstFree = this.#nextFree[slot]!;
    else {
      if (this.#end === this.ifindex.length) this.#grow();
      slot = this.#end++;
    }
    const { ifindex, family, word0, word1, word2, word3 } = neighbor;
    const base = slot << 2;
    this.words[base] = word0;
    this.words[base + 1] = word1;
    this.words[base + 2] = word2;
    this.words[base + 3] = word3;
    this.ifindex[slot] = ifindex;
    this.family[slot] = family;
    this.mac[slot] = MAC_ABSENT;
    this.state[slot] = 0;
    this.flags[slot] = 0;
    this.routeType[slot] = 0;
    this.flagsExt[slot] = 0;
    this.generation[slot] = 0;
    this.marks[slot] = 0;
    this.#hashes[slot] = this.#hash(ifindex, family, word0, word1, word2, word3);
    this.#size++;
    this.#insert(slot);
    return slot;
  }

  /** Removes an entry. */
  remove(slot: number): void {
    const index = this.#index, hashes = this.#hashes;
    const mask = index.length - 1;
    let hole = hashes[slot]! & mask;
    while (index[hole] !== slot + 1) hole = (hole + 1) & mask;
    // Later entries of the run move up, so that no probe meets a hole before its goal. Knuth, 6.4 algorithm R.
    for (let at = (hole + 1) & mask; index[at] !== 0; at = (at + 1) & mask) {
      const home = hashes[index[at]! - 1]! & mask;
      if (((at - home) & mask) >= ((at - hole) & mask)) {
        index[hole] = index[at]!;
        hole = at;
      }
    }
    index[hole] = 0;
    this.marks[slot] = FREE;
    this.#nextFree[slot] = this.#firstFree;
    this.#firstFree = slot;
    this.#size--;
  }

  /** Copies an entry's values into a view, with its key. What the table does not keep is set to "not given". */
  read(slot: number, into: NeighborView): void {
    const base = slot << 2;
    into.ifindex = this.ifindex[slot]!;
    into.family = this.family[slot]!;
    into.word0 = this.words[base]!;
    into.word1 = this.words[base + 1]!;
    into.word2 = this.words[base + 2]!;
    into.word3 = this.words[base + 3]!;
    into.mac = this.mac[slot]!;
    into.macBytes = into.mac >= 0 ? 6 : 0;
    into.state = this.state[slot]!;
    into.flags = this.flags[slot]!;
    into.routeType = this.routeType[slot]!;
    into.flagsExt = this.flagsExt[slot]!;
    into.vlan = -1;
    into.master = 0;
    into.probes = -1;
    into.protocol = -1;
    into.confirmedMs = -1;
    into.usedMs = -1;
    into.updatedMs = -1;
  }

  /** The address of an entry as text. Allocates. */
  ip(slot: number): string {
    const { words } = this;
    const base = slot << 2;
    return formatAddress(
      this.family[slot]!,
      words[base]!,
      words[base + 1]!,
      words[base + 2]!,
      words[base + 3]!,
    );
  }

  #hash(
    ifindex: number,
    family: number,
    word0: number,
    word1: number,
    word2: number,
    word3: number,
  ): number {
    let hash = this.#seed ^ Math.imul(ifindex << 4 ^ family, 0x9e3779b1);
    hash = mix(hash, word0);
    hash = mix(hash, word1);
    hash = mix(hash, word2);
    hash = mix(hash, word3);
    hash ^= hash >>> 16;
    hash = Math.imul(hash, 0x85ebca6b);
    hash ^= hash >>> 13;
    hash = Math.imul(hash, 0xc2b2ae35);
    return (hash ^ hash >>> 16) >>> 0;
  }

  #insert(slot: number): void {
    const index = this.#index;
    const mask = index.length - 1;
    let at = this.#hashes[slot]! & mask;
    while (index[at] !== 0) at = (at + 1) & mask;
    index[at] = slot + 1;
  }

  #grow(): void {
    const capacity = 2 * this.ifindex.length;
    this.words = copied(new Uint32Array(4 * capacity), this.words);
    this.ifindex = copied(new Int32Array(capacity), this.ifindex);
    this.mac = copied(new Float64Array(capacity), this.mac);
    this.generation = copied(new Uint32Array(capacity), this.generation);
    this.flagsExt = copied(new Uint32Array(capacity), this.flagsExt);
    this.family = copied(new Uint8Array(capacity), this.family);
    this.state = copied(new Uint8Array(capacity), this.state);
    this.flags = copied(new Uint8Array(capacity), this.flags);
    this.routeType = copied(new Uint8Array(capacity), this.routeType);
    this.marks = copied(new Uint8Array(capacity), this.marks);
    this.#nextFree = copied(new Int32Array(capacity), this.#nextFree);
    this.#hashes = copied(new Uint32Array(capacity), this.#hashes);
    this.#index = new Int32Array(2 * capacity);
    // Every slot is in use: that is why it grows.
    for (let slot = 0; slot < this.#end; slot++) this.#insert(slot);
  }
}

function mix(hash: number, word: number): number {
  let k = Math.imul(word, 0xcc9e2d51);
  k = k << 15 | k >>> 17;
  hash ^= Math.imul(k, 0x1b873593);
  hash = hash << 13 | hash >>> 19;
  return Math.imul(hash, 5) + 0xe6546b64 | 0;
}

function copied<Column extends { set(from: Column): void }>(into: Column, from: Column): Column {
  into.set(from);
  return into;
}
