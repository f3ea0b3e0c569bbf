/**
 * A warm restart: the daemon takes over a table that is in use and changes only what has changed.
 *
 * ```
 *            flags            table            restored           timer, or dump complete        written
 *   Asking ────────► Loading ───────► Waiting ──────────► Collecting ────────────────► Writing ─────────► Finished
 *      │ not enabled,                    │ 180 s
 *      └─► Finished (cold)               └─► Finished (restore-wait)
 * ```
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import { WarmCache, type WarmCounts, type WarmFields } from "./reconcile.ts";

/** Seconds of the reconcile timer when none, or none that is allowed, is configured. */
export const DEFAULT_RECONCILE_SECONDS = 5;
/** Longest reconcile timer, seconds. */
export const MAX_RECONCILE_SECONDS = 9_999;

/** How a warm restart is done. */
export interface WarmRestartOptions {
  /** Seconds to wait for the kernel's table to be refilled before giving up. Default 180. */
  readonly restoreWaitSec?: number;
  /** Compare when the timer fires (the default), or as soon as the kernel's table was read. */
  readonly reconcileWhen?: "timer" | "dump-complete";
  /** With `dump-complete`: not earlier than so many milliseconds after the kernel was joined. Default 0. */
  readonly minReconcileMs?: number;
}

/** What the databases say at the start. */
export interface WarmFlags {
  /** `enable` is `true` for the system or for the docker. */
  readonly enabled: boolean;
  /** `restore_count`, undefined when it is missing or not a number. */
  readonly restoreCount: number | undefined;
  /** `neighsyncd_timer` as it is configured, undefined when it is not. */
  readonly timerSec: string | undefined;
}

/** What is written to the state table. */
export type WarmRestartState = "initialized" | "restored" | "reconciled";

/** How it ended. */
export type WarmOutcome =
  /** No warm restart was asked for. */
  | "cold"
  /** One was, but nobody counted it: the daemon has not run before. */
  | "cold-uncounted"
  /** The table was taken over. */
  | "reconciled"
  /** The kernel's table was not refilled in time. */
  | "restore-wait"
  /** It was ended from outside; the state stays as it was. */
  | "stopped";

/** The last word of the machine. */
export interface WarmResult {
  /** How it ended. */
  readonly outcome: WarmOutcome;
  /** Keys by what became of them; zeros for a cold start. */
  readonly counts: WarmCounts;
  /** Milliseconds from the start. */
  readonly elapsedMs: number;
}

/**
 * What a warm restart asks of its driver. Called synchronously, must not call back. What is written must take effect in
 * the order of the calls.
 */
export interface WarmActions {
  /** Write `restore_count`. */
  setRestoreCount(count: number): void;
  /** Write `state`. */
  setState(state: WarmRestartState): void;
  /** Forget every change the producer had staged and the consumer had not taken. */
  clearPending(): void;
  /** Read the published table, put it into the cache by `load`, then call `tableLoaded`. */
  loadTable(): void;
  /** Read whether the kernel's table has been refilled, then call `restored`. Also follow notifications of it. */
  readRestored(): void;
  /** Join the kernel's events and read its table; from now on changes come to `set` and `delete`. */
  joinKernel(): void;
  /** Write the decisions of the cache, then call `written`. */
  reconcile(cache: WarmCache): void;
  /** Last call. After an outcome that is cold or reconciled, the daemon goes on as usual. */
  finish(result: WarmResult): void;
}

const ASKING = 0, LOADING = 1, WAITING = 2, COLLECTING = 3, WRITING = 4, FINISHED = 5;

const POLL_MS = 1_000;

/** The course of a warm restart, as a value. Time comes in, intents go out. */
export class WarmRestart {
  /** What was published before, and what has been heard since. */
  readonly cache: WarmCache = new WarmCache();

  readonly #restoreWaitMs: number;
  readonly #whenComplete: boolean;
  readonly #minReconcileMs: number;

  #state = ASKING;
  #begunAt = 0;
  #timerMs = DEFAULT_RECONCILE_SECONDS * 1_000;
  #pollAt = Infinity;
  #giveUpAt = Infinity;
  #reconcileAt = Infinity;
  /** Not before, whatever is complete. */
  #earliestAt = Infinity;
  #reading = false;

  /**
   * Makes a machine that has not begun.
   *
   * @throws {RangeError} When a number is out of range.
   */
  constructor(options: WarmRestartOptions = {}) {
    const waitSec = integerIn(options.restoreWaitSec ?? 180, 0, 86_400, "restore wait in seconds");
    this.#restoreWaitMs = waitSec * 1_000;
    this.#whenComplete = options.reconcileWhen === "dump-complete";
    this.#minReconcileMs = integerIn(
      options.minReconcileMs ?? 0,
      0,
      86_400_000,
      "shortest time until reconciliation in milliseconds",
    );
  }

  /** When {@linkcode expire} wants to be called, monotonic milliseconds; `Infinity` when nothing is pending. */
  get deadline(): number {
    return Math.min(this.#pollAt, this.#giveUpAt, this.#reconcileAt);
  }

  /** True once `finish` was called; every later call does nothing. */
  get finished(): boolean {
    return this.#state === FINISHED;
  }

  /** Changes are to go to {@linkcode set} and {@linkcode delete} instead of to the sink. */
  get collecting(): boolean {
    return this.#state === COLLECTING;
  }

  /** Begin, with what the databases say. Called once. */
  start(flags: WarmFlags, now: number, actions: WarmActions): void {
    if (this.#state !== ASKING) return;
    this.#begunAt = now;
    const { enabled, restoreCount } = flags;
    if (!enabled || restoreCount === undefined) {
      actions.setRestoreCount(0);
      this.#finish(enabled ? "cold-uncounted" : "cold", now, actions);
      return;
    }
    this.#timerMs = reconcileSeconds(flags.timerSec) * 1_000;
    this.#state = LOADING;
    actions.setRestoreCount(restoreCount + 1);
    actions.setState("initialized");
    actions.clearPending();
    actions.loadTable();
  }

  /** The published table is in the cache. */
  tableLoaded(now: number, actions: WarmActions): void {
    if (this.#state !== LOADING) return;
    this.#state = WAITING;
    actions.setState("restored");
    this.#giveUpAt = now + this.#restoreWaitMs;
    this.#reading = true;
    actions.readRestored();
  }

  /** Whether the kernel's table has been refilled, as it was read or notified. */
  restored(done: boolean, now: number, actions: WarmActions): void {
    if (this.#state !== WAITING) return;
    this.#reading = false;
    if (!done) {
      this.#pollAt = now + POLL_MS;
      return;
    }
    this.#state = COLLECTING;
    this.#pollAt = Infinity;
    this.#giveUpAt = Infinity;
    this.#reconcileAt = now + this.#timerMs;
    this.#earliestAt = now + this.#minReconcileMs;
    actions.joinKernel();
  }

  /** The kernel has this neighbor and it is to be published. Ignored when not {@linkcode collecting}. */
  set(key: string, fields: WarmFields): void {
    if (this.#state === COLLECTING) this.cache.set(key, fields);
  }

  /** The neighbor is to be removed. Ignored when not {@linkcode collecting}. */
  delete(key: string): void {
    if (this.#state === COLLECTING) this.cache.delete(key);
  }

  /** The kernel's table was read to its end and what was missing verified; of consequence with `dump-complete` only. */
  kernelRead(now: number, actions: WarmActions): void {
    if (this.#state !== COLLECTING || !this.#whenComplete) return;
    // The timer of the configuration is not waited for, nor is it exceeded.
    this.#reconcileAt = Math.min(this.#reconcileAt, Math.max(now, this.#earliestAt));
    this.expire(now, actions);
  }

  /** The decisions are written. */
  written(now: number, actions: WarmActions): void {
    if (this.#state !== WRITING) return;
    actions.setState("reconciled");
    this.#finish("reconciled", now, actions);
  }

  /** Time has passed. Safe to call early. */
  expire(now: number, actions: WarmActions): void {
    if (now >= this.#giveUpAt) {
      this.#finish("restore-wait", now, actions);
      return;
    }
    if (now >= this.#pollAt) {
      this.#pollAt = Infinity;
      // One reading at a time: a slow database is not asked ever more often.
      if (!this.#reading) {
        this.#reading = true;
        actions.readRestored();
      }
    }
    if (now >= this.#reconcileAt) {
      this.#reconcileAt = Infinity;
      this.#state = WRITING;
      actions.reconcile(this.cache);
    }
  }

  /** Ends it from outside: nothing is written, nothing is removed. */
  stop(now: number, actions: WarmActions): void {
    if (this.#state !== FINISHED) this.#finish("stopped", now, actions);
  }

  #finish(outcome: WarmOutcome, now: number, actions: WarmActions): void {
    this.#state = FINISHED;
    this.#pollAt = Infinity;
    this.#giveUpAt = Infinity;
    this.#reconcileAt = Infinity;
    const counts = this.cache.counts();
    this.cache.clear();
    actions.finish({ outcome, counts, elapsedMs: now - this.#begunAt });
  }
}

/**
 * The reconcile timer as it is configured: 1 to 9999 seconds, else 5.
 *
 * @param text Field `neighsyncd_timer`.
 */
export function reconcileSeconds(text: string | undefined): number {
  if (text === undefined || !/^\d{1,4}$/.test(text)) return DEFAULT_RECONCILE_SECONDS;
  const seconds = Number(text);
  return seconds >= 1 && seconds <= MAX_RECONCILE_SECONDS ? seconds : DEFAULT_RECONCILE_SECONDS;
}
