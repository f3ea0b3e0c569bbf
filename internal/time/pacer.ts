/**
 * A rate limit kept as a debt of time. Host timers fire milliseconds late, so nothing waits for "the next token": each
 * turn asks how much may go now.
 *
 * @module
 */

/** A token bucket. Starts full. */
export class Pacer {
  readonly #perMs: number;
  readonly #burstMs: number;
  /** The moment until which everything was spent. It lies at most the burst in the past. */
  #spentUntil = -Infinity;

  /**
   * @param perSecond Units a second, above 0: bytes, packets or requests.
   * @param burst Units that may go at once after a pause, at least 1.
   * @throws {RangeError} When either is out of range.
   */
  constructor(perSecond: number, burst: number) {
    if (!(perSecond > 0) || !(burst >= 1)) {
      throw new RangeError(
        `Cannot pace ${perSecond} a second in bursts of ${burst}: expected more than 0 and at least 1`,
      );
    }
    this.#perMs = perSecond / 1000;
    this.#burstMs = burst / this.#perMs;
  }

  /**
   * Takes up to `wanted` whole units.
   *
   * @param now Monotonic milliseconds.
   * @returns How many may go now, 0 to `wanted`.
   */
  take(now: number, wanted: number): number {
    const from = Math.max(this.#spentUntil, now - this.#burstMs);
    // A millionth of slack: a tenth of a unit, ten times, is not quite one unit.
    const owed = Math.floor((now - from) * this.#perMs + 1e-6);
    const taken = Math.min(owed, wanted);
    if (taken <= 0) return 0;
    this.#spentUntil = from + taken / this.#perMs;
    return taken;
  }

  /** When `amount` units, at most the burst, may go: monotonic milliseconds, not before `now`. */
  readyAt(now: number, amount: number): number {
    const from = Math.max(this.#spentUntil, now - this.#burstMs);
    return Math.max(now, from + amount / this.#perMs);
  }
}
