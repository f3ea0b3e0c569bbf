/**
 * Whether the data of a running test still moves: what the client sends, and what it takes.
 *
 * @module
 */
import { Flow, type FlowCounts } from "./flow.ts";

/**
 * Looks at the counts of a test ten times a second: a silence that matters is noticed a tenth of a second late, and
 * nothing is done per packet.
 */
export class Progress {
  readonly #counts: FlowCounts;
  readonly #stallMs: number;
  #received = 0;
  #sent = 0;
  #stalledBy: number;
  #nextAt: number;

  /**
   * @param counts Of the test.
   * @param receives The client sends, so that its silence matters.
   * @param stallMs How long it may take nothing of what is sent to it, milliseconds; `Infinity` when that does not show.
   * @param now Monotonic milliseconds.
   */
  constructor(counts: FlowCounts, receives: boolean, stallMs: number, now: number) {
    this.#counts = counts;
    this.#stallMs = stallMs;
    this.#stalledBy = now + stallMs;
    this.#nextAt = receives || stallMs < Infinity ? now + LOOK_EVERY_MS : Infinity;
  }

  /** When to look; `Infinity` when nothing depends on it. */
  get nextAt(): number {
    return this.#nextAt;
  }

  /** Looks. @returns Whether data came from the client since the last look. */
  look(now: number): boolean {
    if (now >= this.#nextAt) this.#nextAt = now + LOOK_EVERY_MS;
    const sent = this.#counts[Flow.txBytes]!;
    if (sent !== this.#sent) {
      this.#sent = sent;
      this.#stalledBy = now + this.#stallMs;
    }
    const received = this.#counts[Flow.rxBytes]!;
    const arrived = received !== this.#received;
    this.#received = received;
    return arrived;
  }

  /**
   * Whether the client has taken nothing for too long. Where it vanished without a word, the kernel alone would go on
   * trying for a quarter of an hour.
   */
  stalled(now: number): boolean {
    return now >= this.#stalledBy;
  }
}

/** From one look to the next, milliseconds. */
const LOOK_EVERY_MS = 100;
