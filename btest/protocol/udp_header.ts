/**
 * The four bytes before the payload of a test datagram, and what their sequence tells.
 *
 * ```
 *  0             4
 *  +-------------+------------------------+
 *  | sequence BE | zeros or random bytes  |
 *  +-------------+------------------------+
 * ```
 *
 * @module
 */

/** Bytes of the sequence number, and of the smallest datagram that is not a NAT probe. */
export const SEQUENCE_BYTES = 4;

/** How many numbers back a late datagram is told from a repeated one. */
export const REORDER_WINDOW = 1024;

/** Writes a sequence number; the first of a test is 1, and it wraps at 2³². */
export function writeSequence(view: DataView, start: number, sequence: number): void {
  view.setUint32(start, sequence, false);
}

/** Reads a sequence number, 0 to 2³² − 1. The datagram has at least {@linkcode SEQUENCE_BYTES}. */
export function readSequence(view: DataView, start: number): number {
  return view.getUint32(start, false);
}

/**
 * Counts what one source port sent: plain numbers, nothing allocated per datagram. The first datagram may have any
 * number; what comes before it is never counted as lost.
 *
 * @example
 * ```ts
 * import { SequenceTracker } from "@fastwire/net/btest/protocol";
 * import { equal } from "node:assert/strict";
 *
 * const tracker = new SequenceTracker();
 * for (const sequence of [1, 2, 5, 4, 4]) tracker.receive(sequence);
 * equal(tracker.lost, 1); // 3 is missing
 * equal(tracker.reordered, 1);
 * equal(tracker.duplicates, 1);
 * ```
 */
export class SequenceTracker {
  /** Datagrams that arrived, repeated ones included. */
  received = 0;
  /** Datagrams that are missing. Falls when one arrives late, never below 0. */
  lost = 0;
  /** Datagrams that arrived after a later one. */
  reordered = 0;
  /** Datagrams that arrived before, or so late that nobody can tell. */
  duplicates = 0;

  #next = 0;
  #begun = false;
  /** How many of the numbers before `#next` are not before the first one; stops at the window. */
  #span = 0;
  /** One bit for each of the last 1024 numbers: it arrived. */
  readonly #seen: Int32Array = new Int32Array(REORDER_WINDOW / 32);

  /** Takes the number of one datagram. */
  receive(sequence: number): void {
    this.receiveRun(sequence, 1);
  }

  /**
   * Takes `count` datagrams whose numbers follow each other: what segmentation offload hands over as one.
   *
   * @param first Number of the first, 0 to 2³² − 1.
   * @param count At least 1.
   */
  receiveRun(first: number, count: number): void {
    this.received += count;
    if (!this.#begun) {
      this.#begun = true;
      this.#next = first;
    }
    const ahead = (first - this.#next) >>> 0;
    if (ahead >= 0x8000_0000) {
      for (let i = 0; i < count; i++) this.#receiveLate((first + i) >>> 0);
      return;
    }
    if (ahead > 0) {
      this.lost += ahead;
      this.#clear(this.#next, ahead);
    }
    this.#mark(first, count);
    this.#next = (first + count) >>> 0;
    this.#span = Math.min(REORDER_WINDOW, this.#span + ahead + count);
  }

  #receiveLate(sequence: number): void {
    const back = (this.#next - sequence) >>> 0;
    // A late run may reach the present.
    if (back === 0 || back >= 0x8000_0000) {
      this.received--;
      this.receiveRun(sequence, 1);
      return;
    }
    const bit = 1 << (sequence & 31);
    const word = (sequence & (REORDER_WINDOW - 1)) >>> 5;
    if (back > REORDER_WINDOW || (this.#seen[word]! & bit) !== 0) {
      this.duplicates++;
      return;
    }
    this.#seen[word]! |= bit;
    this.reordered++;
    // What is before the first datagram was never counted as lost.
    if (back <= this.#span) this.lost--;
  }

  #mark(first: number, count: number): void {
    // Most runs are one to 44 long; more than the window sets all of it.
    if (count >= REORDER_WINDOW) {
      this.#seen.fill(-1);
      return;
    }
    for (let i = 0; i < count; i++) {
      const at = (first + i) & (REORDER_WINDOW - 1);
      this.#seen[at >>> 5]! |= 1 << (at & 31);
    }
  }

  #clear(first: number, count: number): void {
    if (count >= REORDER_WINDOW) {
      this.#seen.fill(0);
      return;
    }
    for (let i = 0; i < count; i++) {
      const at = (first + i) & (REORDER_WINDOW - 1);
      this.#seen[at >>> 5]! &= ~(1 << (at & 31));
    }
  }
}

/** The trackers of one test, by source port: a client with several connections sends from several ports. */
export class SequenceTrackers {
  readonly #byPort: Map<number, SequenceTracker> = new Map();
  readonly #maxPorts: number;

  /**
   * Takes a bound.
   *
   * @param maxPorts Ports that are tracked, at least 1; a test has at most 255.
   */
  constructor(maxPorts: number = 255) {
    this.#maxPorts = maxPorts;
  }

  /** The tracker of a source port, made when it is new; undefined when there are too many. */
  of(port: number): SequenceTracker | undefined {
    const known = this.#byPort.get(port);
    if (known !== undefined) return known;
    if (this.#byPort.size >= this.#maxPorts) return undefined;
    const tracker = new SequenceTracker();
    this.#byPort.set(port, tracker);
    return tracker;
  }

  /** Sum over all ports, in datagrams. */
  totals(): Pick<SequenceTracker, "received" | "lost" | "reordered" | "duplicates"> {
    const sum = { received: 0, lost: 0, reordered: 0, duplicates: 0 };
    for (const tracker of this.#byPort.values()) {
      sum.received += tracker.received;
      sum.lost += tracker.lost;
      sum.reordered += tracker.reordered;
      sum.duplicates += tracker.duplicates;
    }
    return sum;
  }
}
