/**
 * Writes what is to be published: batches from the coalescer to the sink, two on their way, again after a failure.
 *
 * @module
 */

import { logger, onceThenSummarise } from "../internal/log.ts";
import { Histogram } from "../internal/metrics.ts";
import { systemClock } from "../internal/time/clock.ts";
import type { Clock } from "../internal/time/clock.ts";
import { Coalescer, type PublishBatch, type PublishOperation } from "./protocol/coalesce.ts";
import type { ResolvedPerformanceSettings } from "./settings.ts";
import type { Sink } from "./sink.ts";

const log = logger("neighsync", "writer");
const audit = logger("neighsync", "audit");

/** Upper bounds of latencies, seconds. */
const LATENCY_BOUNDS = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];
const BATCH_BOUNDS = [1, 5, 10, 25, 50, 100, 250, 500, 1000];
/** Pauses after a batch that failed on a connection that lasts. */
const MIN_RETRY_MS = 50, MAX_RETRY_MS = 2000;
/** Keys of a batch that the audit log names. */
const NAMED_KEYS = 10;

/** What a writer tells its owner. */
export interface WriterEvents {
  /** A batch was acknowledged. */
  acknowledged(operations: readonly PublishOperation[]): void;
}

/** Between the filter and the sink. */
export class Writer {
  /** What waits and what is on its way. */
  readonly coalescer: Coalescer;
  /** From the oldest change of a batch to its acknowledgement, seconds. */
  readonly eventLatency: Histogram = new Histogram(LATENCY_BOUNDS);
  /** From sending to acknowledgement, seconds. */
  readonly redisLatency: Histogram = new Histogram(LATENCY_BOUNDS);
  /** Changes in a batch. */
  readonly batchSize: Histogram = new Histogram(BATCH_BOUNDS);
  /** Batches acknowledged. */
  batches = 0;
  /** Batches that failed. */
  failures = 0;
  /** Changes in these. */
  failed = 0;
  /** Sets acknowledged. */
  sets = 0;
  /** Deletions acknowledged. */
  deletions = 0;
  /** When the sink last acknowledged, milliseconds since 1970. */
  acknowledgedAt = 0;
  /** Keys acknowledged or failed since a comparison began; undefined while none is made. */
  touched: Set<string> | undefined;

  readonly #sink: Sink;
  readonly #clock: Clock;
  readonly #events: WriterEvents;
  readonly #failedOnce: () => void;
  #lingerMs: number;
  #batchSize: number;
  #lastTakenAt = -Infinity;
  #retryMs = MIN_RETRY_MS;
  #lastError: unknown;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Infinity;
  #stopped = false;
  #idleWaiters: (() => void)[] = [];

  /** Takes nothing before {@linkcode Writer.pump} is called. */
  constructor(
    sink: Sink,
    settings: ResolvedPerformanceSettings,
    events: WriterEvents,
    clock: Clock = systemClock,
  ) {
    this.#sink = sink;
    this.#events = events;
    this.#clock = clock;
    this.#lingerMs = settings.lingerMs;
    this.#batchSize = settings.batchSize;
    this.coalescer = new Coalescer(settings);
    this.#failedOnce = onceThenSummarise(clock, (times) => {
      log.warn("{times} batches failed and are written again: {error}", {
        event: "neighsync.batch-failed",
        times,
        error: this.#lastError,
      });
    });
  }

  /** Writes by these settings from now on; `window` and `dedupe` stay. */
  tune(settings: ResolvedPerformanceSettings): void {
    this.#lingerMs = settings.lingerMs;
    this.#batchSize = settings.batchSize;
    this.coalescer.tune(settings);
    this.pump();
  }

  /** Sends what is due, and comes back when more is. */
  pump(): void {
    if (this.#stopped) return;
    const { coalescer } = this;
    const now = this.#clock.now();
    // Events that come one by one share a round trip when they come fast.
    const earliest = coalescer.pending >= this.#batchSize
      ? now
      : this.#lastTakenAt + this.#lingerMs;
    if (now >= earliest) {
      for (;;) {
        const batch = coalescer.take(now);
        if (batch === undefined) break;
        this.#send(batch, now);
      }
    }
    const at = Math.max(coalescer.deadline, earliest);
    if (at < Infinity && at < this.#timerAt) this.#arm(at, now);
    if (coalescer.idle && this.#idleWaiters.length > 0) this.#tellIdle();
  }

  /** Settles when nothing waits and nothing is on its way. */
  idle(): Promise<void> {
    if (this.coalescer.idle) return Promise.resolve();
    return new Promise((resolve) => this.#idleWaiters.push(resolve));
  }

  /**
   * Writes what waits without regard to company, and stops.
   *
   * @param timeoutMs Longest time for that.
   * @returns Keys that could not be written.
   */
  async finish(timeoutMs: number): Promise<number> {
    const { coalescer } = this;
    const until = this.#clock.now() + timeoutMs;
    this.#lingerMs = 0;
    while (!coalescer.idle && this.#sink.connected) {
      const now = this.#clock.now();
      if (now >= until) break;
      for (;;) {
        const batch = coalescer.flush(now);
        if (batch === undefined) break;
        this.#send(batch, now);
      }
      await this.#settled(until - now);
    }
    this.stop();
    return coalescer.pending + coalescer.inFlight;
  }

  /** Sends nothing more; idempotent. */
  stop(): void {
    this.#stopped = true;
    clearTimeout(this.#timer);
    this.#tellIdle();
  }

  #send(batch: PublishBatch, now: number): void {
    this.#lastTakenAt = now;
    this.batchSize.add(batch.operations.length);
    this.#sink.apply(batch.operations).then(
      () => this.#acknowledged(batch),
      (error: unknown) => this.#failed(batch, error),
    );
  }

  #acknowledged(batch: PublishBatch): void {
    const now = this.#clock.now();
    const { operations } = batch;
    this.#retryMs = MIN_RETRY_MS;
    this.#touch(operations);
    this.coalescer.acknowledge(batch);
    this.batches++;
    this.acknowledgedAt = Date.now();
    let sets = 0;
    for (const { op } of operations) if (op === "set") sets++;
    this.sets += sets;
    this.deletions += operations.length - sets;
    this.redisLatency.add((now - batch.takenAt) / 1000);
    this.eventLatency.add((now - batch.oldestAt) / 1000, operations.length);
    audit.debug("published {sets} and removed {deletions} neighbours", () => ({
      event: "neighsync.published",
      sets,
      deletions: operations.length - sets,
      keys: operations.slice(0, NAMED_KEYS).map(({ key }) => key),
    }));
    this.#events.acknowledged(operations);
    this.#settle();
    this.pump();
  }

  #failed(batch: PublishBatch, error: unknown): void {
    const now = this.#clock.now();
    this.failures++;
    this.failed += batch.operations.length;
    this.#lastError = error;
    this.#touch(batch.operations);
    // Without a connection there is nothing to wait for but the next one.
    const retryAt = this.#sink.connected ? now + this.#retryMs : Infinity;
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_RETRY_MS);
    this.coalescer.fail(batch, retryAt);
    this.#failedOnce();
    this.#settle();
    this.pump();
  }

  #touch(operations: readonly PublishOperation[]): void {
    if (this.touched === undefined) return;
    for (const { key } of operations) this.touched.add(key);
  }

  #arm(at: number, now: number): void {
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(this.#tick, Math.max(0, at - now));
  }

  readonly #tick = (): void => {
    this.#timer = undefined;
    this.#timerAt = Infinity;
    this.pump();
  };

  #settleWaiter: (() => void) | undefined;

  #settle(): void {
    this.#settleWaiter?.();
  }

  /** Waits until a batch was answered, at most so long. */
  #settled(ms: number): Promise<void> {
    return new Promise((resolve) => {
      const done = (): void => {
        clearTimeout(timer);
        this.#settleWaiter = undefined;
        resolve();
      };
      const timer = setTimeout(done, ms);
      this.#settleWaiter = done;
    });
  }

  #tellIdle(): void {
    const waiters = this.#idleWaiters;
    this.#idleWaiters = [];
    for (const waiter of waiters) waiter();
  }
}
