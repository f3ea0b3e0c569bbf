/**
 * Memory of what was seen, so that nothing counts twice: salts of streams, and numbers of packets.
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import { latin1Of } from "./octets.ts";

/** Bounds of a {@linkcode SaltFilter}. */
export interface SaltFilterOptions {
  /** A generation ends when it is this old; what was added is known for one to two such spans. Default: 60 s. */
  readonly generationSeconds?: number;
  /** A generation ends when it holds as many, 1 to 10,000,000. Default: 100,000. */
  readonly maxEntries?: number;
  /**
   * What happens when a generation is full before its time: `rotate` forgets the older one early, `refuse` takes nothing
   * new until its time is over. Refusing is for protocols whose time stamps rely on the memory. Default: `rotate`.
   */
  readonly whenFull?: "rotate" | "refuse";
}

/** An exact set of salts in two generations. Add what has proved the key only: strangers must not fill it. */
export class SaltFilter {
  readonly #seconds: number;
  readonly #maxEntries: number;
  readonly #refuses: boolean;
  #young = new Set<string>();
  #old = new Set<string>();
  #since = -Infinity;

  /**
   * Begins with nothing remembered.
   *
   * @param options The bounds.
   * @throws {RangeError} When one of them is out of range.
   */
  constructor(options: SaltFilterOptions = {}) {
    this.#seconds = integerIn(options.generationSeconds ?? 60, 1, 86400, "a generation's seconds");
    this.#maxEntries = integerIn(options.maxEntries ?? 100_000, 1, 10_000_000, "a salt filter");
    this.#refuses = options.whenFull === "refuse";
  }

  /** How many salts are remembered. */
  get size(): number {
    return this.#young.size + this.#old.size;
  }

  /**
   * Adds the salt in [start, end).
   *
   * @param seconds The time; any clock that does not run backwards far.
   * @returns Whether it is new. Not new is also what cannot be remembered.
   */
  add(bytes: Uint8Array, start: number, end: number, seconds: number): boolean {
    const age = seconds - this.#since;
    const isFull = this.#young.size >= this.#maxEntries;
    if (age >= 2 * this.#seconds || age < -this.#seconds) {
      // Nobody came for so long that both generations are over, or the clock was set back.
      [this.#young, this.#old] = [new Set(), age < 0 ? this.#young : new Set()];
      this.#since = seconds;
    } else if (age >= this.#seconds || isFull && !this.#refuses) {
      [this.#young, this.#old] = [new Set(), this.#young];
      this.#since = seconds;
    } else if (isFull) {
      return false;
    }
    const salt = latin1Of(bytes, start, end);
    if (this.#young.has(salt) || this.#old.has(salt)) return false;
    this.#young.add(salt);
    return true;
  }
}

/** Packets that may arrive late by as much and still count; more than the 1024 that Shadowsocks 2022 asks for. */
export const REPLAY_WINDOW_PACKETS = 2016;

/**
 * Which numbers of a counter were seen: a sliding window over a ring of bits, RFC 6479. Numbers are integers up to
 * 2⁵³ − 1; a larger one is a lie, for no counter that began at zero gets there.
 */
export class ReplayWindow {
  readonly #ring = new Uint32Array(WORDS);
  #highest = -1;

  /** Whether the number is new and not too old. Changes nothing: ask before the packet has proved genuine. */
  accepts(id: number): boolean {
    if (id > this.#highest) return id <= Number.MAX_SAFE_INTEGER;
    if (this.#highest - id >= REPLAY_WINDOW_PACKETS) return false;
    return (this.#ring[Math.floor(id / 32) % WORDS]! >>> id % 32 & 1) === 0;
  }

  /** Marks a number that {@linkcode ReplayWindow.accepts} took, once the packet has proved genuine. */
  mark(id: number): void {
    const word = Math.floor(id / 32);
    if (id > this.#highest) {
      const before = this.#highest < 0 ? word : Math.floor(this.#highest / 32);
      const jump = Math.min(word - before, WORDS);
      for (let i = 0; i < jump; i++) this.#ring[(word - i) % WORDS] = 0;
      this.#highest = id;
    }
    this.#ring[word % WORDS]! |= 1 << id % 32;
  }
}

/** One word more than the window has, so that the word being filled never holds bits of a lap ago. RFC 6479 §3. */
const WORDS = REPLAY_WINDOW_PACKETS / 32 + 1;
