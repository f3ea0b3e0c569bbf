/**
 * When the table is read again, and how large the receive buffer should be: one reading at a time, one waiting, and
 * ever longer pauses while losses go on.
 *
 * @module
 */

import type { ResyncActions, ResyncReason } from "./resync_actions.ts";

// Whoever reads the published table has to find it right two seconds after the last loss, whatever came before.
const MIN_SPACING_MS = 100, MAX_SPACING_MS = 1_000;
/** Without a loss for so long, the next one is answered at once again. */
const CALM_MS = 30_000;
/** Two overflows within this time make the buffer grow. */
const GROW_WITHIN_MS = 10_000;
const MAX_CONFIRM_SPACING_MS = 60_000;

/** The reading that waits, and the memory of losses. */
export class ResyncPace {
  /** What is read next, if anything. */
  pending: ResyncReason | undefined = undefined;
  /** When at the earliest, monotonic milliseconds. */
  pendingAt: number = Infinity;
  /** Receive buffer of the event socket, bytes. */
  bufferBytes: number;

  readonly #maxBufferBytes: number;
  #startedAt = -Infinity;
  #lostAt = -Infinity;
  #spacingMs = MIN_SPACING_MS;
  #confirmMs = MIN_SPACING_MS;

  /** Nothing waits. @param bufferBytes As it is now. */
  constructor(bufferBytes: number, maxBufferBytes: number) {
    this.bufferBytes = bufferBytes;
    this.#maxBufferBytes = maxBufferBytes;
  }

  /** The event socket overflowed: read at once, or later when it does so all the time. */
  overflowed(now: number, actions: ResyncActions): void {
    if (now - this.#lostAt > CALM_MS) this.#spacingMs = MIN_SPACING_MS;
    if (now - this.#lostAt <= GROW_WITHIN_MS && this.bufferBytes < this.#maxBufferBytes) {
      this.bufferBytes = Math.min(2 * this.bufferBytes, this.#maxBufferBytes);
      actions.growReceiveBuffer(this.bufferBytes);
    }
    this.#lostAt = now;
    this.schedule("overflow", Math.max(now, this.#startedAt + this.#spacingMs));
    this.#spacingMs = Math.min(2 * this.#spacingMs, MAX_SPACING_MS);
  }

  /** A reading has ended. @param disturbed Entries vanished meanwhile, so it is to be confirmed. */
  ended(disturbed: boolean, now: number): void {
    if (!disturbed) {
      this.#confirmMs = MIN_SPACING_MS;
      return;
    }
    this.schedule("confirm", now + this.#confirmMs);
    this.#confirmMs = Math.min(2 * this.#confirmMs, MAX_CONFIRM_SPACING_MS);
  }

  /** Something is to be read. One waits at most; a confirmation behind everything else, since that confirms as well. */
  schedule(reason: ResyncReason, at: number): void {
    if (this.pending === undefined || this.pending === "confirm") {
      this.pending = reason;
      this.pendingAt = at;
    } else if (reason !== "confirm") {
      if (reason === "overflow") this.pending = reason;
      this.pendingAt = Math.min(at, this.pendingAt);
    }
  }

  /** A reading begins. */
  begun(reason: ResyncReason, now: number): void {
    this.pending = undefined;
    this.pendingAt = Infinity;
    this.#startedAt = now;
    if (reason !== "confirm") this.#confirmMs = MIN_SPACING_MS;
  }
}
