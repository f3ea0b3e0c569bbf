/**
 * How much may be sent: pacing to a cap, and finding the rate of a path that has none.
 *
 * @module
 */

import { MAX_STATUS_BYTES } from "./command.ts";

/** Where an unlimited UDP sender begins, bit/s. */
export const UDP_START_BPS = 50_000_000;
/** What an unlimited UDP sender multiplies by until the path first loses something. */
export const UDP_FIRST_GROWTH = 12;
/** What it multiplies by later. */
export const UDP_GROWTH = 2;
/** The part of what was sent that must arrive for the rate to grow. */
export const UDP_ENOUGH = 0.95;
/** Once something is lost: the rate, over the best of the last three reports. */
export const UDP_HEADROOM = 1.25;
/** Nothing sends faster, bit/s; keeps the numbers finite. */
export const MAX_BPS = 1e12;
/** A paced sender that fell behind makes up for this much, milliseconds. */
export const PACER_FORGIVES_AFTER_MS = 10;
/** A paced sender sends together what falls due within, milliseconds. */
export const PACER_BATCH_MS = 1;
/** Datagrams in one call at most: what segmentation offload takes of 1472 bytes each. */
export const PACER_BATCH_PACKETS = 44;
/** A longer interval between packets becomes one second, milliseconds: every known peer does that. */
export const SLOWEST_INTERVAL_MS = 500;

/**
 * Paces packets, or blocks of a TCP stream, by the time they owe: the next one is due `size · 8 / rate` after the one
 * before, whenever that was sent. So late timers cost no rate.
 *
 * @example
 * ```ts
 * import { SendPacer } from "@fastwire/net/btest/protocol";
 * import { equal } from "node:assert/strict";
 *
 * const pacer = new SendPacer(12_000_000, 1500); // a packet each millisecond
 * equal(pacer.take(0, 44), 2); // now, and the one due within this millisecond
 * equal(pacer.take(0.5, 44), 0);
 * equal(pacer.take(6, 44), 6); // a timer that came late
 * ```
 */
export class SendPacer {
  readonly #packetBits: number;
  readonly #slow: boolean;
  #intervalMs = 0;
  #nextAt = NaN;

  /**
   * Begins when packets are first taken.
   *
   * @param bitsPerSecond Rate, above 0; `Infinity` for no limit.
   * @param packetBytes What each packet counts for, at least 1: with UDP its size on the wire from the IP header on.
   * @param slowHabit Send one packet a second when the rate asks for less than two: UDP only. Default false.
   * @throws {RangeError} When a number is out of range.
   */
  constructor(bitsPerSecond: number, packetBytes: number, slowHabit: boolean = false) {
    if (!(packetBytes >= 1)) {
      throw new RangeError(`Cannot pace packets of ${packetBytes} bytes: expected at least 1`);
    }
    this.#packetBits = packetBytes * 8;
    this.#slow = slowHabit;
    this.setRate(bitsPerSecond);
  }

  /** Milliseconds from one packet to the next; 0 without a limit. */
  get intervalMs(): number {
    return this.#intervalMs;
  }

  /**
   * Changes the rate from the next packet on.
   *
   * @param bitsPerSecond Above 0; `Infinity` for no limit.
   * @throws {RangeError} When it is not above 0.
   */
  setRate(bitsPerSecond: number): void {
    if (!(bitsPerSecond > 0)) {
      throw new RangeError(`Cannot pace ${bitsPerSecond} bit/s: expected more than 0`);
    }
    const interval = this.#packetBits * 1000 / bitsPerSecond;
    const before = this.#intervalMs;
    this.#intervalMs = this.#slow && interval > SLOWEST_INTERVAL_MS ? 1000 : interval;
    // What the next packet waits for shrinks with the interval, or a raise from 1 bit/s would wait for hours.
    if (this.#intervalMs < before) this.#nextAt -= before - this.#intervalMs;
  }

  /**
   * How many packets go now, and takes them as sent.
   *
   * @param now Monotonic milliseconds.
   * @param most The most the caller can send, at least 1.
   */
  take(now: number, most: number): number {
    const interval = this.#intervalMs;
    if (interval === 0) return most;
    if (this.#nextAt !== this.#nextAt) this.#nextAt = now;
    const behind = now - this.#nextAt;
    if (behind < 0) return 0;
    if (behind > PACER_FORGIVES_AFTER_MS) this.#nextAt = now - PACER_FORGIVES_AFTER_MS;
    // A billionth of slack: ten times a tenth is not quite one.
    const due = 1 + Math.floor((now + PACER_BATCH_MS - this.#nextAt) / interval + 1e-9);
    const taken = due < most ? due : most;
    this.#nextAt += taken * interval;
    return taken;
  }

  /** Gives back packets that were taken and could not be sent. */
  giveBack(packets: number): void {
    this.#nextAt -= packets * this.#intervalMs;
  }

  /** When the next packet is due, monotonic milliseconds; `-Infinity` without a limit or before the first one. */
  get readyAt(): number {
    return this.#intervalMs === 0 || this.#nextAt !== this.#nextAt ? -Infinity : this.#nextAt;
  }
}

/**
 * Bytes of one write to a TCP connection with a cap: the asked size, but no more than what falls due in 20 ms, so that
 * slow rates are kept over seconds and not over minutes.
 *
 * @param txSize Asked size, bytes, at least 1.
 * @param bitsPerSecond The cap; `Infinity` for none.
 */
export function pacedWriteBytes(txSize: number, bitsPerSecond: number): number {
  return Math.max(1, Math.min(txSize, Math.floor(bitsPerSecond / 8 / 50)));
}

/**
 * The rate of a UDP sender without a cap. Its only feedback is what the peer says it received each second.
 *
 * It grows twelvefold a second until the peer first received less than 95 % of what was sent, so that 50 Mbit/s become
 * 86 Gbit/s with the third report; then it keeps a quarter above the best of the last three reports.
 *
 * @example
 * ```ts
 * import { RateController } from "@fastwire/net/btest/protocol";
 * import { equal } from "node:assert/strict";
 *
 * const rate = new RateController();
 * equal(rate.targetBps, 50_000_000);
 * rate.report(6_250_000, 6_250_000);
 * equal(rate.targetBps, 600_000_000);
 * rate.report(12_500_000, 75_000_000); // the path carries 100 Mbit/s
 * equal(rate.targetBps, 125_000_000);
 * ```
 */
export class RateController {
  #targetBps: number;
  readonly #startBps: number;
  #lostOnce = false;
  // The last three reports, as rates.
  #first = 0;
  #second = 0;
  #third = 0;

  /**
   * Begins at the start rate.
   *
   * @param startBps First rate and lower bound, bit/s, above 0.
   */
  constructor(startBps: number = UDP_START_BPS) {
    this.#startBps = startBps;
    this.#targetBps = startBps;
  }

  /** What to send, bit/s. */
  get targetBps(): number {
    return this.#targetBps;
  }

  /**
   * Takes a peer's report.
   *
   * @param receivedBytes What it received in its last second, headers included; 2³² − 1 stands for that or more.
   * @param sentBytes What was sent since its last report arrived, headers included: the same second, seen from here. A
   * sender that was held back by its own socket counts what it sent, not what it wanted to.
   */
  report(receivedBytes: number, sentBytes: number): void {
    this.#first = this.#second;
    this.#second = this.#third;
    this.#third = receivedBytes * 8;
    const enough = receivedBytes >= MAX_STATUS_BYTES || receivedBytes >= sentBytes * UDP_ENOUGH;
    if (enough && sentBytes > 0) {
      // Who sent much less than the target is the limit itself: a higher target changes nothing.
      if (sentBytes * 8 < this.#targetBps * 0.5) return;
      const growth = this.#lostOnce ? UDP_GROWTH : UDP_FIRST_GROWTH;
      this.#targetBps = Math.min(MAX_BPS, this.#targetBps * growth);
      return;
    }
    // One report of nothing may be a late one.
    if (receivedBytes === 0 && this.#second > 0) return;
    this.#lostOnce = true;
    const best = Math.max(this.#first, this.#second, this.#third);
    this.#targetBps = Math.max(this.#startBps, Math.min(MAX_BPS, best * UDP_HEADROOM));
  }
}

/**
 * Leaves room for the peer in a TCP test in both directions. An unpaced sender can starve the other direction, so while
 * the peer's data comes at less than half of its best second, the own rate is held to 1.5 times what the peer last
 * reported.
 */
export class FairShare {
  #reports = 0;
  #lastReport = 0;
  #best = 0;
  #limitBps = Infinity;

  /** The limit on what this side sends, bit/s; `Infinity` for none. */
  get limitBps(): number {
    return this.#limitBps;
  }

  /** Takes a peer's report: bytes it received in its last second. */
  report(receivedBytes: number): void {
    this.#reports++;
    this.#lastReport = receivedBytes;
  }

  /** Takes what arrived from the peer in one second of ours, bytes, and decides for the next. */
  second(receivedBytes: number): void {
    const starved = receivedBytes < this.#best / 2;
    if (receivedBytes > this.#best) this.#best = receivedBytes;
    const known = this.#reports >= 2 && this.#lastReport > 0 && this.#lastReport < MAX_STATUS_BYTES;
    this.#limitBps = starved && known ? this.#lastReport * 8 * 1.5 : Infinity;
  }
}
