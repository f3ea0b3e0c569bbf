/**
 * Charges a test's bytes to its account while it runs.
 *
 * @module
 */
import type { AccountSession, Way } from "./accounts.ts";
import { Flow, type FlowCounts } from "./flow.ts";

/** One way of a test's data. */
interface Purse {
  readonly way: Way;
  readonly index: number;
  /** Bytes that the account gave so far. */
  taken: number;
  /** Bytes that were moved at the last look. */
  moved: number;
}

/**
 * The bytes of one test, taken from its account a little ahead of the data. How far ahead, and how soon to look again,
 * follows from the rate: a slow test binds little of what other tests of the account could move, and one that is about
 * to use up what is left is watched each millisecond.
 */
export class Spending {
  readonly #account: AccountSession;
  readonly #counts: FlowCounts;
  readonly #purses: readonly Purse[] = [
    { way: "outbound", index: Flow.txBytes, taken: 0, moved: 0 },
    { way: "inbound", index: Flow.rxBytes, taken: 0, moved: 0 },
  ];
  #lookedAt: number;
  #nextAt: number;

  /** @param account Whose bound counts. @param counts Of the test. @param now Monotonic milliseconds. */
  constructor(account: AccountSession, counts: FlowCounts, now: number) {
    this.#account = account;
    this.#counts = counts;
    this.#lookedAt = now;
    this.#nextAt = account.unlimited ? Infinity : now;
  }

  /** When to look, monotonic milliseconds; `Infinity` when no bound applies. */
  get nextAt(): number {
    return this.#nextAt;
  }

  /** Charges what was moved since the last look. @returns False when the account has nothing left: the test is over. */
  look(now: number): boolean {
    if (this.#account.unlimited) return true;
    const elapsedMs = Math.max(now - this.#lookedAt, MIN_LOOK_MS);
    this.#lookedAt = now;
    let soonMs = MAX_LOOK_MS;
    for (const purse of this.#purses) {
      const moved = this.#counts[purse.index]!;
      const rate = (moved - purse.moved) / elapsedMs;
      purse.moved = moved;
      if (moved === 0) continue;
      const wanted = moved + Math.min(MAX_AHEAD_BYTES, Math.ceil(rate * AHEAD_MS)) - purse.taken;
      if (wanted > 0) purse.taken += this.#account.reserve(purse.way, wanted);
      const left = purse.taken - moved;
      if (left <= 0 && rate > 0) return false;
      if (rate > 0) soonMs = Math.min(soonMs, left / rate);
    }
    this.#nextAt = now + Math.max(MIN_LOOK_MS, soonMs);
    return true;
  }

  /** The test is over and nothing is counted any more: the account is left with what was really moved. */
  settle(): void {
    this.#nextAt = Infinity;
    if (this.#account.unlimited) return;
    for (const purse of this.#purses) {
      const rest = this.#counts[purse.index]! - purse.taken;
      if (rest > 0) this.#account.reserve(purse.way, rest);
      if (rest < 0) this.#account.giveBack(purse.way, -rest);
      purse.taken += rest;
    }
  }
}

/** How long what is taken ahead lasts at the present rate, milliseconds. */
const AHEAD_MS = 50;
/** Most that is taken ahead: what other tests of the account have to do without. */
const MAX_AHEAD_BYTES = 16_777_216;
/** From one look to the next at most, milliseconds. */
const MAX_LOOK_MS = 20;
/** The same at least: what a timer can do. */
const MIN_LOOK_MS = 1;
