/**
 * Time as a value: monotonic milliseconds with fractions.
 *
 * @module
 */

/** Something that knows how late it is. */
export interface Clock {
  /** Monotonic milliseconds since an arbitrary moment. */
  now(): number;
}

/** The process's monotonic clock. */
export const systemClock: Clock = { now: () => performance.now() };

/** A clock that moves when told to. */
export class ManualClock implements Clock {
  #now: number;

  /** @param now The first reading, in milliseconds. */
  constructor(now = 0) {
    this.#now = now;
  }

  now(): number {
    return this.#now;
  }

  /** Moves the clock forward by `ms`; it never goes back. */
  advance(ms: number): void {
    if (!(ms >= 0)) throw new RangeError(`Cannot advance a clock by ${ms} ms: expected 0 or more`);
    this.#now += ms;
  }
}
