/**
 * What the drivers of the relay contract share.
 *
 * @module
 */
import type { CopyStream, Relay, RelayEnd, RelayOptions, RelayResult } from "./relay.ts";

/** Limits in force, milliseconds; `Infinity` for none. */
export interface RelayLimits {
  readonly idleMs: number;
  readonly halfCloseMs: number;
}

/** Reads the limits. @throws {RangeError} For one that is none. */
export function relayLimits(options: RelayOptions): RelayLimits {
  const { idleMs = Infinity } = options;
  const { halfCloseMs = Math.min(HALF_CLOSE_MS, idleMs) } = options;
  for (const [name, value] of [["idleMs", idleMs], ["halfCloseMs", halfCloseMs]] as const) {
    if (!(value > 0)) {
      throw new RangeError(`Cannot relay with ${name} ${value}: expected a positive number`);
    }
  }
  return { idleMs, halfCloseMs: Math.min(idleMs, halfCloseMs) };
}

/** How often limits have to be looked at: an eighth of the least, so that one is overrun by no more than that. */
export function tickFor({ halfCloseMs }: RelayLimits): number {
  return Math.min(MOST_TICK_MS, Math.max(LEAST_TICK_MS, halfCloseMs / 8));
}

/** @throws {TypeError} When a connection cannot be given away. */
export function checkConnections(first: CopyStream, second: CopyStream): void {
  if (first === second) throw new TypeError("Cannot relay a connection to itself");
  if (first.closed || second.closed) throw new TypeError("Cannot relay a connection: it is closed");
}

/** A relay seen from its owner; a driver feeds it. */
export class RelayHandle implements Relay {
  readonly #startMs = performance.now();
  readonly #onFinish: ((result: RelayResult) => void) | undefined;
  #result: RelayResult | undefined;
  #finished: Promise<RelayResult> | undefined;
  #resolve: ((result: RelayResult) => void) | undefined;

  /**
   * @param counts Where the bytes of both directions are counted.
   * @param at The place of the forward count; the backward one follows.
   * @param cut Ends the relay.
   */
  constructor(
    readonly counts: Float64Array,
    readonly at: number,
    readonly cut: () => void,
    options: RelayOptions,
  ) {
    this.#onFinish = options.onFinish;
  }

  get forwardBytes(): number {
    return this.#result?.forward.bytes ?? this.counts[this.at]!;
  }

  get backwardBytes(): number {
    return this.#result?.backward.bytes ?? this.counts[this.at + 1]!;
  }

  get result(): RelayResult | undefined {
    return this.#result;
  }

  get finished(): Promise<RelayResult> {
    this.#finished ??= new Promise((resolve) => {
      if (this.#result === undefined) this.#resolve = resolve;
      else resolve(this.#result);
    });
    return this.#finished;
  }

  abort(): void {
    if (this.#result === undefined) this.cut();
  }

  /** It ended. To be called once. */
  ended(forward: RelayEnd, backward: RelayEnd): void {
    this.#result = Object.freeze({
      forward: Object.freeze({ bytes: this.counts[this.at]!, end: forward }),
      backward: Object.freeze({ bytes: this.counts[this.at + 1]!, end: backward }),
      durationMs: performance.now() - this.#startMs,
    });
    this.#resolve?.(this.#result);
    this.#onFinish?.(this.#result);
  }
}

/** Reasons as numbers, for memory that threads share. 0 is "runs". */
export const ENDS: readonly RelayEnd[] = [
  "aborted", // never stored
  "end",
  "source-failed",
  "target-failed",
  "idle",
  "aborted",
];
/** Places in {@linkcode ENDS}. */
export const RUNS = 0;
export const ENDED = 1;
export const SOURCE_FAILED = 2;
export const TARGET_FAILED = 3;
export const IDLE = 4;
export const ABORTED = 5;

const HALF_CLOSE_MS = 30_000;
const LEAST_TICK_MS = 20;
const MOST_TICK_MS = 5000;
