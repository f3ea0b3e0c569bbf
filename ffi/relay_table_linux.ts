/**
 * The memory a relay thread shares with the thread that orders relays: a row for each relay, and a ring each way.
 *
 * @module
 */
import type { RelayLimits } from "./relay_pending.ts";

/** What a relay thread is started with. */
export interface RelayThreadData {
  /** The table. */
  readonly shared: SharedArrayBuffer;
  /** An eventfd: there are orders. It belongs to the other thread. */
  readonly bell: number;
  /** An eventfd: there are results. It belongs to the other thread. */
  readonly doneBell: number;
}

/** A start with bytes to send first, and its abort: what does not fit the table. */
export type RestMessage =
  | {
    readonly kind: "start";
    readonly slot: number;
    readonly forward: Uint8Array | undefined;
    readonly backward: Uint8Array | undefined;
  }
  | { readonly kind: "abort"; readonly slot: number };

/** What an order asks for; it is pushed as twice the slot and this. */
export const START = 0;
export const ABORT = 1;

/** Memory for a table. */
export function makeTable(): SharedArrayBuffer {
  return new SharedArrayBuffer(SIZE);
}

/** The table, as either thread sees it. */
export class RelayTable {
  readonly shared: SharedArrayBuffer;
  /** Relays that fit. */
  readonly slots: number = SLOTS;
  /**
   * Bytes moved, two doubles a relay. Written by the relay thread without a barrier: a reader may be a moment behind, and
   * never sees half a number, because aligned doubles are written whole on 64-bit processors.
   */
  readonly counts: Float64Array<SharedArrayBuffer>;
  /** To the relay thread. */
  readonly orders: IndexRing;
  /** From the relay thread: slots that are over. */
  readonly results: IndexRing;
  readonly #rows: Int32Array<SharedArrayBuffer>;
  readonly #limits: Float64Array<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer) {
    this.shared = shared;
    this.counts = new Float64Array(shared, COUNTS_AT, 2 * SLOTS);
    this.#limits = new Float64Array(shared, LIMITS_AT, 2 * SLOTS);
    this.#rows = new Int32Array(shared, ROWS_AT, ROW * SLOTS);
    this.orders = new IndexRing(new Int32Array(shared, ORDERS_AT, RING_WORDS));
    this.results = new IndexRing(new Int32Array(shared, RESULTS_AT, RING_WORDS));
  }

  /** The place of a relay's counts. */
  countAt(slot: number): number {
    return 2 * slot;
  }

  /** Describes a relay; the order that follows publishes it. */
  put(
    slot: number,
    [first, second]: readonly [number, number],
    limits: RelayLimits,
    forwardSent: number,
    backwardSent: number,
  ): void {
    this.#rows[ROW * slot] = first;
    this.#rows[ROW * slot + 1] = second;
    this.#limits[2 * slot] = limits.idleMs;
    this.#limits[2 * slot + 1] = limits.halfCloseMs;
    this.counts[2 * slot] = forwardSent;
    this.counts[2 * slot + 1] = backwardSent;
  }

  /** The sockets of a relay. */
  descriptors(slot: number): readonly [number, number] {
    return [this.#rows[ROW * slot]!, this.#rows[ROW * slot + 1]!];
  }

  /** The limits of a relay. */
  limits(slot: number): RelayLimits {
    return { idleMs: this.#limits[2 * slot]!, halfCloseMs: this.#limits[2 * slot + 1]! };
  }

  /** Says how a relay ended; the result that follows publishes it. */
  end(slot: number, forward: number, backward: number): void {
    this.#rows[ROW * slot + 2] = forward;
    this.#rows[ROW * slot + 3] = backward;
  }

  /** How a relay ended. */
  ends(slot: number): readonly [forward: number, backward: number] {
    return [this.#rows[ROW * slot + 2]!, this.#rows[ROW * slot + 3]!];
  }
}

/**
 * A ring of numbers between one writer and one reader. It cannot overflow: a slot is ordered twice at most before its
 * result is taken, and there is room for that from every slot.
 */
export class IndexRing {
  readonly #words: Int32Array<SharedArrayBuffer>;

  constructor(words: Int32Array<SharedArrayBuffer>) {
    this.#words = words;
  }

  /** Adds a number. */
  push(value: number): void {
    const words = this.#words;
    const head = words[HEAD]!;
    words[2 + (head & RING_MASK)] = value;
    // After the number, and after everything written before it.
    Atomics.store(words, HEAD, (head + 1) | 0);
  }

  /** Takes the oldest number; −1 when there is none. */
  take(): number {
    const words = this.#words;
    const tail = words[TAIL]!;
    if (Atomics.load(words, HEAD) === tail) return -1;
    const value = words[2 + (tail & RING_MASK)]!;
    Atomics.store(words, TAIL, (tail + 1) | 0);
    return value;
  }
}

/** Two descriptors each: more than a process usually has. */
const SLOTS = 32_768;
const RING = 2 * SLOTS;
const RING_MASK = RING - 1;
const RING_WORDS = RING + 2;
const HEAD = 0;
const TAIL = 1;
/** Words of a row: two descriptors, two ends. */
const ROW = 4;
const COUNTS_AT = 0;
const LIMITS_AT: number = COUNTS_AT + 16 * SLOTS;
const ROWS_AT: number = LIMITS_AT + 16 * SLOTS;
const ORDERS_AT: number = ROWS_AT + 4 * ROW * SLOTS;
const RESULTS_AT: number = ORDERS_AT + 4 * RING_WORDS;
const SIZE: number = RESULTS_AT + 4 * RING_WORDS;
