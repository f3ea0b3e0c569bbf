/**
 * Looking a moment longer before falling asleep.
 *
 * A transfer of one block at a time is a chain of short waits, and each sleep costs more than the wait: the processor
 * goes idle, is woken, switches back. On a machine of two virtual cores a transfer at window 1 goes 1.7 times as fast
 * when both ends look for 50 µs first, and costs no more processor time. Larger windows wait longer and would only burn.
 *
 * @module
 */
import type { DatagramHost } from "../ffi/mod.ts";
import type { Clock } from "../internal/time/clock.ts";

/** Successes that are remembered; each failure halves them. */
const MAX_CONFIDENCE = 16;
/** Without confidence one chance in so many is taken to look whether the peer has become quick. */
const PROBE_EVERY = 256;

/** Decides how long to look. One per loop. */
export class Spin {
  readonly #host: DatagramHost;
  readonly #clock: Clock;
  readonly #limitMs: number;
  #confidence = 1;
  #chances = 0;

  /** @param limitMs How long to look at most; 0 never looks. */
  constructor(host: DatagramHost, clock: Clock, limitMs: number) {
    this.#host = host;
    this.#clock = clock;
    this.#limitMs = limitMs;
  }

  /**
   * Looks until something happened or the limit has passed.
   *
   * @returns Whether something happened: then there is nothing to sleep for.
   */
  look(): boolean {
    if (this.#limitMs === 0) return false;
    if (this.#confidence === 0 && ++this.#chances % PROBE_EVERY !== 0) return false;
    const until = this.#clock.now() + this.#limitMs;
    do {
      if (this.#host.turn(0) > 0) {
        if (this.#confidence < MAX_CONFIDENCE) this.#confidence++;
        return true;
      }
    } while (this.#clock.now() < until);
    this.#confidence >>= 1;
    return false;
  }
}
