/**
 * Whether the daemon does its work, judged from its numbers. A network in which nothing happens is healthy: what is
 * looked at is whether the daemon could do its work, never whether there was any.
 *
 * @module
 */

import { quantile } from "../internal/metrics.ts";
import type { Health, HealthCheck, HealthStatus, NeighSyncSnapshot } from "./snapshot.ts";

/** From which value on a thing is degraded, and from which unhealthy. */
export type HealthLimit = readonly [degraded: number, unhealthy: number];

/** The limits; each has a default. */
export interface HealthLimits {
  /** Part of the changes that failed within the window. Default 0.01 and 0.05. */
  readonly errorRate?: HealthLimit;
  /** Milliseconds that one change in a hundred exceeded within the window. Default 50 and 100. */
  readonly latencyMs?: HealthLimit;
  /** Keys that wait or are on their way. Default 1,000 and 5,000. */
  readonly queueDepth?: HealthLimit;
  /** After the first synchronisation memory is not judged for so long, milliseconds. Default 60,000. */
  readonly settleMs?: number;
  /** How late the event loop is, milliseconds. Default 250 and 2,000. */
  readonly loopLagMs?: HealthLimit;
  /** How long Redis may be away before that is more than degraded, milliseconds. Default 30,000. */
  readonly redisAwayMs?: number;
  /** How long an answer may take while something is on its way, milliseconds. Default 2,000 and 10,000. */
  readonly answerMs?: HealthLimit;
  /** How long the first reading of the table may take before that is more than degraded, milliseconds. Default 60,000. */
  readonly syncMs?: number;
  /** How far back rates and latencies look, milliseconds. Default 60,000. */
  readonly windowMs?: number;
}

const DEFAULTS: Required<HealthLimits> = Object.freeze(
  {
    errorRate: [0.01, 0.05],
    latencyMs: [50, 100],
    queueDepth: [1_000, 5_000],
    settleMs: 60_000,
    loopLagMs: [250, 2_000],
    redisAwayMs: 30_000,
    answerMs: [2_000, 10_000],
    syncMs: 60_000,
    windowMs: 60_000,
  } as const,
);

/** What a process with a table of a usual size has no business to exceed, and what table that is. */
const MEMORY_LIMIT = 200e6, USUAL_TABLE = 100_000;
/** From this part of the limit on memory is worth a word. */
const MEMORY_WARNING = 0.75;

/**
 * Resident memory from which on a process is unhealthy.
 *
 * @param limit What is configured, bytes; 0 for what fits the table.
 * @param neighbors Entries of the table.
 */
export function memoryLimitFor(limit: number, neighbors: number): number {
  return limit > 0 ? limit : MEMORY_LIMIT * Math.max(1, neighbors / USUAL_TABLE);
}

/** Resident memory from which on a process is degraded. */
export function memoryWarningFor({ memoryLimitBytes }: NeighSyncSnapshot): number {
  return MEMORY_WARNING * memoryLimitBytes;
}

/** Fewer changes than this say nothing about a rate or about one in a hundred. */
const MIN_CHANGES = 100;
/** Snapshots are kept no closer than this. */
const STEP_MS = 1_000;

const VALUES: Readonly<Record<HealthStatus, number>> = { healthy: 1, degraded: 0.5, unhealthy: 0 };

/** Judges snapshots one after the other. Holds those of the last minute. */
export class HealthJudge {
  readonly #limits: Required<HealthLimits>;
  readonly #history: { readonly at: number; readonly snapshot: NeighSyncSnapshot }[] = [];
  #awaySince = -1;
  #waitingSince = -1;
  #answeredAt = 0;

  /** @param limits What differs from the defaults. */
  constructor(limits: HealthLimits = {}) {
    this.#limits = { ...DEFAULTS, ...limits };
  }

  /**
   * Judges.
   *
   * @param snapshot How the daemon does now. Looking once a second makes the window exact; looking seldom widens it.
   * @param now Monotonic milliseconds, from the same clock at every call.
   */
  judge(snapshot: NeighSyncSnapshot, now: number): Health {
    const before = this.#remember(snapshot, now);
    const checks = [
      this.#redis(snapshot, now),
      netlink(snapshot),
      this.#sync(snapshot),
      lease(snapshot),
      this.#errors(snapshot, before),
      this.#latency(snapshot, before),
      this.#level("queue", snapshot.queueDepth, this.#limits.queueDepth, "keys wait"),
      this.#memory(snapshot),
      this.#level("loop", snapshot.loopLagMs, this.#limits.loopLagMs, "ms late"),
    ];
    const value = checks.reduce((worst, { status }) => Math.min(worst, VALUES[status]), 1);
    const status = value === 1 ? "healthy" : value === 0 ? "unhealthy" : "degraded";
    return Object.freeze({
      status,
      value,
      ready: hasBegun(snapshot) && snapshot.redisConnected && snapshot.kernel.connected,
      role: snapshot.lease.role,
      checks: Object.freeze(checks.map((check) => Object.freeze(check))),
    });
  }

  /** Keeps the snapshot. @returns The oldest within the window, or undefined when this is the first. */
  #remember(snapshot: NeighSyncSnapshot, now: number): NeighSyncSnapshot | undefined {
    const history = this.#history;
    // One older than the window stays, to measure from.
    while (history.length > 1 && now - history[1]!.at >= this.#limits.windowMs) history.shift();
    const before = history[0]?.snapshot;
    const last = history.at(-1);
    if (last === undefined || now - last.at >= STEP_MS) history.push({ at: now, snapshot });
    return before;
  }

  #redis(snapshot: NeighSyncSnapshot, now: number): HealthCheck {
    const { redisConnected, redisLastError, queueDepth, pendingNeighbors, lastAnswerAt } = snapshot;
    if (!redisConnected) {
      this.#waitingSince = -1;
      if (this.#awaySince < 0) this.#awaySince = now;
      const awayMs = now - this.#awaySince;
      const why = redisLastError === "" ? "" : ` (${redisLastError})`;
      return {
        name: "redis",
        status: awayMs > this.#limits.redisAwayMs ? "unhealthy" : "degraded",
        detail: `Redis is not connected for ${Math.round(awayMs / 1000)} s${why}`,
      };
    }
    this.#awaySince = -1;
    // What is on its way has to be answered; nothing on its way needs no answer.
    if (queueDepth === pendingNeighbors || lastAnswerAt !== this.#answeredAt) {
      this.#waitingSince = -1;
    }
    this.#answeredAt = lastAnswerAt;
    if (queueDepth > pendingNeighbors && this.#waitingSince < 0) this.#waitingSince = now;
    const waitedMs = this.#waitingSince < 0 ? 0 : now - this.#waitingSince;
    return this.#level("redis", waitedMs, this.#limits.answerMs, "ms without an answer");
  }

  #sync(snapshot: NeighSyncSnapshot): HealthCheck {
    if (hasBegun(snapshot)) return { name: "sync", status: "healthy", detail: "" };
    return {
      name: "sync",
      status: snapshot.uptimeMs > this.#limits.syncMs ? "unhealthy" : "degraded",
      detail: "The table was not published yet",
    };
  }

  #errors(snapshot: NeighSyncSnapshot, before: NeighSyncSnapshot | undefined): HealthCheck {
    const failed = snapshot.eventsFailed - (before?.eventsFailed ?? 0);
    const written = snapshot.neighborsAdded + snapshot.neighborsDeleted -
      (before === undefined ? 0 : before.neighborsAdded + before.neighborsDeleted);
    const all = failed + written;
    const rate = all < MIN_CHANGES ? 0 : failed / all;
    const percent = Math.round(rate * 1000) / 10;
    const status = grade(rate, this.#limits.errorRate);
    return {
      name: "errors",
      status,
      detail: status === "healthy" ? "" : `${percent} % of the changes failed`,
    };
  }

  #latency(snapshot: NeighSyncSnapshot, before: NeighSyncSnapshot | undefined): HealthCheck {
    const changes = snapshot.eventLatency.count - (before?.eventLatency.count ?? 0);
    const slowMs = changes < MIN_CHANGES
      ? 0
      : 1000 * quantile(snapshot.eventLatency, 0.99, before?.eventLatency);
    return this.#level(
      "latency",
      slowMs,
      this.#limits.latencyMs,
      "ms for the slowest in a hundred",
    );
  }

  /** Reading a table for the first time takes memory that the collector gives back in its own time: not judged before. */
  #memory(snapshot: NeighSyncSnapshot): HealthCheck {
    const { memoryBytes, memoryLimitBytes, firstSyncMs, uptimeMs } = snapshot;
    const settled = hasBegun(snapshot) && uptimeMs - firstSyncMs >= this.#limits.settleMs;
    const status = settled
      ? grade(memoryBytes, [memoryWarningFor(snapshot), memoryLimitBytes])
      : "healthy";
    const detail = status === "healthy"
      ? ""
      : `${megabytes(memoryBytes)} resident, the limit is ${megabytes(memoryLimitBytes)}`;
    return { name: "memory", status, detail };
  }

  #level(name: string, value: number, limit: HealthLimit, what: string): HealthCheck {
    const status = grade(value, limit);
    return { name, status, detail: status === "healthy" ? "" : `${Math.round(value)} ${what}` };
  }
}

/** The table was published once; or somebody else publishes it, and this daemon could go on. */
function hasBegun({ firstSyncMs, lease, kernel }: NeighSyncSnapshot): boolean {
  return firstSyncMs > 0 || lease.role === "standby" && lease.holder !== "" && kernel.synced;
}

function lease({ lease: { role, holder, stuck } }: NeighSyncSnapshot): HealthCheck {
  // Nobody would notice if that holder were gone.
  const isStuck = role === "standby" && stuck;
  return {
    name: "lease",
    status: isStuck ? "degraded" : "healthy",
    detail: isStuck ? `The lease of ${holder || "somebody"} never ends` : "",
  };
}

function netlink({ kernel, uptimeMs, warmRestart }: NeighSyncSnapshot): HealthCheck {
  // A warm restart joins the kernel last, and a start takes its time.
  const joining = !kernel.connected && kernel.resyncs === 0 &&
    (uptimeMs < 5_000 || warmRestart === "initialized" || warmRestart === "restored");
  return {
    name: "netlink",
    status: kernel.connected ? "healthy" : joining ? "degraded" : "unhealthy",
    detail: kernel.connected
      ? ""
      : joining
      ? "The kernel is not joined yet"
      : "The kernel's sockets are closed",
  };
}

function megabytes(bytes: number): string {
  return `${Math.round(bytes / 1e6)} MB`;
}

/** Above the limit, not at it. */
function grade(value: number, [degraded, unhealthy]: HealthLimit): HealthStatus {
  if (value > unhealthy) return "unhealthy";
  return value > degraded ? "degraded" : "healthy";
}
