/**
 * How large batches are and how long they wait, adapted to what happens. Pure: time and numbers come in with the call.
 *
 * Looked at once a minute, in this order: errors or much memory make batches smaller; less written than came in makes them
 * larger; one change in a hundred later than 50 ms makes them smaller; and when nothing is wrong they go back, step by
 * step, to what was configured. A setting that somebody has written down is never touched.
 *
 * @module
 */

import { quantile } from "../internal/metrics.ts";
import { memoryWarningFor } from "./health.ts";
import type { ResolvedPerformanceSettings } from "./settings.ts";
import type { NeighSyncSnapshot, TuneReason, TuningSnapshot } from "./snapshot.ts";

/** Settings that are adapted. */
export type TunedName = "batchSize" | "batchTimeoutMs";

/** Values that are adapted. */
export type Tuned = Pick<ResolvedPerformanceSettings, TunedName>;

const PERIOD_MS = 60_000;
const MIN_SIZE = 50, MAX_SIZE = 1000;
const MIN_TIMEOUT_MS = 1, MAX_TIMEOUT_MS = 500;
/** What one change in a hundred may take, milliseconds; well below it nothing is to be gained. */
const TARGET_MS = 50, CALM_MS = TARGET_MS / 2;
/** Of what comes in, what has to be written. */
const MIN_THROUGHPUT = 0.8;
const MAX_ERROR_RATE = 0.05;
const STEP = 1.5;
/** Fewer changes than this say nothing. */
const MIN_CHANGES = 100;

/** Adapts the settings of a writer. */
export class Tuner {
  #configured: ResolvedPerformanceSettings;
  #fixed: ReadonlySet<TunedName>;
  #tuned: Tuned;
  #before: NeighSyncSnapshot | undefined;
  #nextAt = Infinity;
  #raised = 0;
  #lowered = 0;
  #reason: TuneReason | "" = "";

  /** @param explicit Names of settings that somebody has written down, be it with the value of the default. */
  constructor(configured: ResolvedPerformanceSettings, explicit: Iterable<TunedName>) {
    this.#configured = this.#tuned = configured;
    this.#fixed = new Set(explicit);
  }

  /** The settings in force. */
  get settings(): ResolvedPerformanceSettings {
    const { batchSize, batchTimeoutMs } = this.#tuned;
    return { ...this.#configured, batchSize, batchTimeoutMs };
  }

  /**
   * Other settings are configured: begins anew with them.
   *
   * @param explicit Names of settings that somebody has written down; when left out, those that changed are added.
   */
  configure(configured: ResolvedPerformanceSettings, explicit?: Iterable<TunedName>): void {
    const fixed = new Set(explicit ?? this.#fixed);
    if (explicit === undefined) {
      for (const name of NAMES) if (configured[name] !== this.#configured[name]) fixed.add(name);
    }
    const { batchSize, batchTimeoutMs } = this.#tuned;
    this.#fixed = fixed;
    this.#configured = configured;
    this.#tuned = {
      batchSize: this.#isFree("batchSize") ? batchSize : configured.batchSize,
      batchTimeoutMs: this.#isFree("batchTimeoutMs") ? batchTimeoutMs : configured.batchTimeoutMs,
    };
  }

  /**
   * To be called now and then, once a second is enough.
   *
   * @param now Monotonic milliseconds.
   * @returns Why {@linkcode Tuner.settings} are others now; undefined when they are not.
   */
  look(now: number, snapshot: NeighSyncSnapshot): TuneReason | undefined {
    if (!this.#configured.autoTune) {
      this.#before = undefined;
      return undefined;
    }
    const before = this.#before;
    if (before !== undefined && now < this.#nextAt) return undefined;
    this.#before = snapshot;
    this.#nextAt = now + PERIOD_MS;
    if (before === undefined) return undefined;
    const reason = verdict(before, snapshot);
    if (reason === undefined) return undefined;
    const { batchSize, batchTimeoutMs } = this.#tuned;
    const up = reason === "backlog";
    this.#tuned = reason === "calm"
      ? {
        batchSize: towards(batchSize, this.#configured.batchSize),
        batchTimeoutMs: towards(batchTimeoutMs, this.#configured.batchTimeoutMs),
      }
      : {
        batchSize: this.#step("batchSize", up, MIN_SIZE, this.#mostKeys()),
        batchTimeoutMs: this.#step("batchTimeoutMs", up, MIN_TIMEOUT_MS, MAX_TIMEOUT_MS),
      };
    const bySize = this.#tuned.batchSize - batchSize;
    const byTime = this.#tuned.batchTimeoutMs - batchTimeoutMs;
    if (bySize === 0 && byTime === 0) return undefined;
    if (bySize > 0 || bySize === 0 && byTime > 0) this.#raised++;
    else this.#lowered++;
    return this.#reason = reason;
  }

  /** What it did. */
  snapshot(): TuningSnapshot {
    const { batchSize, batchTimeoutMs } = this.#tuned;
    return Object.freeze({
      enabled: this.#configured.autoTune,
      batchSize,
      batchTimeoutMs,
      raised: this.#raised,
      lowered: this.#lowered,
      lastReason: this.#reason,
    });
  }

  #isFree(name: TunedName): boolean {
    return this.#configured.autoTune && !this.#fixed.has(name);
  }

  /** No batch is larger than the largest. */
  #mostKeys(): number {
    return Math.max(MIN_SIZE, Math.min(MAX_SIZE, this.#configured.maxBatch));
  }

  #step(name: TunedName, up: boolean, least: number, most: number): number {
    const value = this.#tuned[name];
    if (!this.#isFree(name)) return value;
    // At least by one, or small values would never move.
    const next = up
      ? Math.max(value + 1, Math.round(value * STEP))
      : Math.min(value - 1, Math.round(value / STEP));
    return Math.min(most, Math.max(least, next));
  }
}

const NAMES: readonly TunedName[] = ["batchSize", "batchTimeoutMs"];

/** Which of the settings that are tuned somebody has written down. */
export function explicitNames(
  performance: Partial<Record<TunedName, number | undefined>> | undefined,
): TunedName[] {
  return NAMES.filter((name) => performance?.[name] !== undefined);
}

/** What the last minute asks for. */
function verdict(before: NeighSyncSnapshot, now: NeighSyncSnapshot): TuneReason | undefined {
  // A minute with a loss in it is about the loss.
  if (!now.redisConnected || now.redisReconnects !== before.redisReconnects) return undefined;
  const written = now.neighborsAdded + now.neighborsDeleted -
    (before.neighborsAdded + before.neighborsDeleted);
  const failed = now.eventsFailed - before.eventsFailed;
  const tried = written + failed;
  if (tried >= MIN_CHANGES && failed / tried > MAX_ERROR_RATE) return "errors";
  if (now.memoryBytes > memoryWarningFor(now)) return "memory";
  const came = written + Math.max(0, now.queueDepth - before.queueDepth);
  if (came >= MIN_CHANGES && written < MIN_THROUGHPUT * came) return "backlog";
  const measured = now.eventLatency.count - before.eventLatency.count;
  const slowMs = measured < MIN_CHANGES
    ? 0
    : 1000 * quantile(now.eventLatency, 0.99, before.eventLatency);
  if (slowMs > TARGET_MS) return "latency";
  return slowMs <= CALM_MS ? "calm" : undefined;
}

function towards(value: number, goal: number): number {
  return value < goal
    ? Math.min(goal, Math.max(value + 1, Math.round(value * STEP)))
    : Math.max(goal, Math.min(value - 1, Math.round(value / STEP)));
}
