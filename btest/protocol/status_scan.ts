/**
 * Status messages in a stream of test data. They have no frame around them: twelve bytes between blocks of zeros or of
 * random bytes, cut anywhere by the network.
 *
 * @module
 */

import {
  isStatus,
  readStatusCpu,
  readStatusReceived,
  readStatusSequence,
  STATUS,
  STATUS_BYTES,
} from "./command.ts";

/** Who is told of the status messages. Called synchronously, must not call back. */
export interface StatusSink {
  /**
   * A peer's status arrived.
   *
   * @param cpuPercent The peer's load, 0 to 100.
   * @param sequence Its number, counted from 1.
   * @param receivedBytes What the peer received in its last second; 2³² − 1 stands for that or more.
   */
  status(cpuPercent: number, sequence: number, receivedBytes: number): void;
}

/** Answers the index of the first byte 7 in `[start, end)`, or -1. The same thing as a loop, faster. */
export type FindSeven = (bytes: Uint8Array, start: number, end: number) => number;

/** How to look. */
export interface StatusFinderOptions {
  /**
   * The payload is random: once two messages were found, wait 0.8 s before looking for the next one, because a
   * candidate stands at every 256th byte. Default false.
   */
  readonly randomData?: boolean;
  /** A faster search than the built-in one, such as the C library's. */
  readonly findSeven?: FindSeven;
}

/**
 * Finds status messages in what arrives piece by piece. At most 11 bytes are kept from one piece to the next, nothing
 * is allocated per piece when pieces come in the same buffer.
 *
 * Twelve bytes are a status when they have its shape and its sequence number continues the last one, so payload of
 * zeros never is, and random payload about once in 2⁵⁷ bytes. One old tool begins every block of data with what looks
 * like its first status: what was seen before the first status can be due is remembered as payload.
 *
 * @example
 * ```ts
 * import { StatusFinder, writeStatus } from "@fastwire/net/btest/protocol";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const seen: number[][] = [];
 * const finder = new StatusFinder();
 * const sink = { status: (...fields: number[]) => void seen.push(fields) };
 * const bytes = new Uint8Array(1000);
 * writeStatus(bytes, 700, 12, false, 1, 1_000_000);
 *
 * finder.scan(bytes, 0, 100, 0, sink);
 * finder.scan(bytes, 100, 705, 1000, sink);
 * finder.scan(bytes, 705, 1000, 1000, sink);
 * deepEqual(seen, [[12, 1, 1_000_000]]);
 * equal(finder.statusBytes, 12);
 * ```
 */
export class StatusFinder {
  /** Bytes of the messages found so far; what is data is everything else. */
  statusBytes = 0;

  readonly #randomData: boolean;
  readonly #findSeven: FindSeven | undefined;
  /** What was kept of the last piece, then room for what completes it. */
  readonly #seam: Uint8Array<ArrayBuffer> = new Uint8Array(2 * (STATUS_BYTES - 1));
  #kept = 0;
  #found = 0;
  #sequence = 0;
  #startedAt = NaN;
  /** When the last message was found, or the scan began. */
  #lastAt = 0;
  /** The buffer that `#words` looks at. */
  #buffer: ArrayBufferLike = this.#seam.buffer;
  #words: Float64Array = new Float64Array(0);
  /** Sequence, received bytes and CPU byte of what only looks like a first status; -1 when none was seen. */
  #decoySequence = -1;
  #decoyReceived = -1;
  #decoyCpu = -1;

  /** Makes a finder that has seen nothing. */
  constructor(options: StatusFinderOptions = {}) {
    this.#randomData = options.randomData ?? false;
    this.#findSeven = options.findSeven;
  }

  /**
   * Looks at the next piece of the stream.
   *
   * @param bytes Buffer with the piece in `[start, end)`. Nothing of it is kept but 11 bytes, by value.
   * @param now Monotonic milliseconds. The first call is taken as the start of the test; no status is due within half a
   * second of it.
   * @returns How many messages ended in this piece.
   */
  scan(bytes: Uint8Array, start: number, end: number, now: number, sink: StatusSink): number {
    if (this.#startedAt !== this.#startedAt) this.#startedAt = this.#lastAt = now;
    if (this.#randomData && this.#found >= 2 && now - this.#lastAt < QUIET_MS) {
      this.#kept = 0;
      return 0;
    }
    const before = this.#found;
    let at = this.#kept === 0 ? start : this.#scanSeam(bytes, start, end, now, sink);
    while (at <= end - STATUS_BYTES) {
      at = this.#nextSeven(bytes, at, end);
      if (at > end - STATUS_BYTES) break;
      at += this.#take(bytes, at, now, sink) ? STATUS_BYTES : 1;
    }
    // What may be the beginning of a message waits for the next piece.
    for (; at < end; at++) {
      if (bytes[at] !== STATUS) continue;
      for (let i = at; i < end; i++) this.#seam[this.#kept++] = bytes[i]!;
      break;
    }
    return this.#found - before;
  }

  /** Looks at what begins in the kept bytes. Answers where in the piece to go on. */
  #scanSeam(
    bytes: Uint8Array,
    start: number,
    end: number,
    now: number,
    sink: StatusSink,
  ): number {
    const seam = this.#seam;
    const kept = this.#kept;
    let filled = kept;
    for (let i = start; i < end && filled < kept + STATUS_BYTES - 1; i++) {
      seam[filled++] = bytes[i]!;
    }
    this.#kept = 0;
    let at = 0;
    while (at < kept) {
      if (seam[at] !== STATUS) at++;
      else if (filled - at < STATUS_BYTES) {
        // Still not whole, so the piece is used up.
        seam.copyWithin(0, at, filled);
        this.#kept = filled - at;
        return end;
      } else at += this.#take(seam, at, now, sink) ? STATUS_BYTES : 1;
    }
    return start + at - kept;
  }

  /** Where the next byte 7 is, or `end`. */
  #nextSeven(bytes: Uint8Array, start: number, end: number): number {
    if (this.#findSeven !== undefined) {
      const at = this.#findSeven(bytes, start, end);
      return at < 0 ? end : at;
    }
    // Zeros are passed eight at a time: 17 GB/s where indexOf() has 3.5.
    let at = start;
    if (end - start >= 64 && bytes[start] === 0) {
      const skew = (bytes.byteOffset + at) & 7;
      if (skew !== 0) {
        const aligned = at + 8 - skew;
        while (at < aligned && bytes[at] === 0) at++;
        if (at < aligned) return this.#indexOfSeven(bytes, at, end);
      }
      if (this.#buffer !== bytes.buffer) {
        this.#buffer = bytes.buffer;
        this.#words = new Float64Array(bytes.buffer, 0, bytes.buffer.byteLength >> 3);
      }
      const words = this.#words;
      let word = (bytes.byteOffset + at) >> 3;
      const last = (bytes.byteOffset + end) >> 3;
      // -0 equals 0 here, and has no 7 in it.
      while (word < last && words[word] === 0) word++;
      at = word * 8 - bytes.byteOffset;
    }
    return this.#indexOfSeven(bytes, at, end);
  }

  #indexOfSeven(bytes: Uint8Array, start: number, end: number): number {
    const at = bytes.indexOf(STATUS, start);
    return at < 0 || at > end ? end : at;
  }

  /** Takes the twelve bytes at `at`, if they are the next status. */
  #take(bytes: Uint8Array, at: number, now: number, sink: StatusSink): boolean {
    if (!isStatus(bytes, at)) return false;
    const sequence = readStatusSequence(bytes, at);
    // After k seconds without a message, k more numbers may have passed unseen. The first ones are due a second after
    // the start, and two of them may have been missed.
    const ahead = 1 + Math.floor((now - this.#lastAt) / 1000);
    const limit = this.#sequence + (this.#found === 0 ? Math.max(3, ahead + 1) : ahead);
    if (sequence <= this.#sequence || sequence > limit) return false;
    const cpu = bytes[at + 1]!;
    const received = readStatusReceived(bytes, at);
    if (this.#found === 0) {
      if (now - this.#startedAt < FIRST_AFTER_MS) {
        this.#decoySequence = sequence;
        this.#decoyReceived = received;
        this.#decoyCpu = cpu;
        return false;
      }
      const isDecoy = sequence === this.#decoySequence && received === this.#decoyReceived &&
        cpu === this.#decoyCpu;
      if (isDecoy) return false;
    }
    this.#found++;
    this.#sequence = sequence;
    this.#lastAt = now;
    this.statusBytes += STATUS_BYTES;
    sink.status(readStatusCpu(bytes, at), sequence, received);
    return true;
  }
}

/** Random payload: how long after a message the next one is not looked for. They come once a second. */
const QUIET_MS = 800;
/** No first status before: it is due after a second, by a clock that may have started earlier than ours. */
const FIRST_AFTER_MS = 500;
