/**
 * Collects the numbers of a snapshot from those who count them.
 *
 * @module
 */

import { memoryUsage } from "node:process";
import { Histogram } from "../internal/metrics.ts";
import type { Comparison } from "./comparison.ts";
import { memoryLimitFor } from "./health.ts";
import type { KernelFeed } from "./kernel_feed.ts";
import type { FilterFacts } from "./protocol/filter.ts";
import type { Publisher } from "./publisher.ts";
import type { Sink } from "./sink.ts";
import type {
  LeaseSnapshot,
  MonitorSnapshot,
  NeighSyncSnapshot,
  TuningSnapshot,
  WarmRestartPhase,
} from "./snapshot.ts";
import type { Writer } from "./writer.ts";

/** Who counts what; parts that are not there yet count nothing. */
export interface SnapshotParts {
  readonly uptimeMs: number;
  readonly synced: boolean;
  readonly firstSyncMs: number;
  readonly loopLagMs: number;
  readonly answeredAt: number;
  readonly memoryLimit: number;
  readonly warmRestart: WarmRestartPhase;
  readonly tuning: TuningSnapshot;
  readonly lease: LeaseSnapshot | undefined;
  readonly writer: Writer | undefined;
  readonly publisher: Publisher | undefined;
  readonly sink: Sink | undefined;
  readonly facts: FilterFacts | undefined;
  readonly feed: KernelFeed | undefined;
  readonly comparison: Comparison | undefined;
}

/** A frozen copy of everything that is counted. */
export function takeSnapshot(parts: SnapshotParts): NeighSyncSnapshot {
  const { writer, publisher, facts, feed, comparison } = parts;
  const sink = parts.sink?.snapshot();
  const coalescer = writer?.coalescer;
  const pending = coalescer?.pending ?? 0;
  const published = coalescer?.published ?? 0;
  return Object.freeze({
    uptimeMs: parts.uptimeMs,
    synced: parts.synced,
    firstSyncMs: parts.firstSyncMs,
    neighborsProcessed: publisher?.processed ?? 0,
    neighborsAdded: writer?.sets ?? 0,
    neighborsDeleted: writer?.deletions ?? 0,
    eventsFailed: writer?.failed ?? 0,
    redisErrors: writer?.failures ?? 0,
    batches: writer?.batches ?? 0,
    redisReconnects: sink?.reconnects ?? 0,
    scriptReloads: sink?.scriptReloads ?? 0,
    suppressed: (coalescer?.suppressed ?? 0) + (publisher?.unchanged ?? 0),
    coalesced: coalescer?.coalesced ?? 0,
    filtered: publisher?.filtered() ?? NOTHING,
    audits: comparison?.audits ?? 0,
    auditRepairs: comparison?.auditRepairs ?? 0,
    reconnectRepairs: comparison?.reconnectRepairs ?? 0,
    pendingNeighbors: pending,
    queueDepth: pending + (coalescer?.inFlight ?? 0),
    published,
    memoryBytes: memoryUsage().rss,
    memoryLimitBytes: memoryLimitFor(parts.memoryLimit, Math.max(published, feed?.size ?? 0)),
    loopLagMs: parts.loopLagMs,
    redisConnected: sink?.connected ?? false,
    redisLastError: sink?.lastLoss ?? "",
    lastAnswerAt: Math.max(parts.answeredAt, writer?.acknowledgedAt ?? 0),
    warmRestart: parts.warmRestart,
    lease: parts.lease ?? ALONE,
    dualTor: facts?.dualTor ?? false,
    evpn: facts?.evpn ?? false,
    eventLatency: writer?.eventLatency.snapshot() ?? EMPTY,
    redisLatency: writer?.redisLatency.snapshot() ?? EMPTY,
    batchSize: writer?.batchSize.snapshot() ?? EMPTY,
    tuning: parts.tuning,
    kernel: feed?.snapshot() ?? NO_KERNEL,
  });
}

const NOTHING = Object.freeze({});
const EMPTY = new Histogram([]).snapshot();
const ALONE: LeaseSnapshot = Object.freeze({
  role: "alone",
  holder: "",
  stuck: false,
  acquired: 0,
  lost: 0,
});
const NO_KERNEL: MonitorSnapshot = Object.freeze({
  driver: "",
  fallbackReason: "",
  synced: false,
  resyncing: false,
  connected: false,
  tableSize: Object.freeze({ ipv4: 0, ipv6: 0 }),
  links: 0,
  events: 0,
  rows: 0,
  lostEvents: 0,
  overflows: 0,
  resyncs: 0,
  resyncRepairs: 0,
  malformed: 0,
  unknownIfindex: 0,
  netlinkErrors: 0,
  receiveBufferBytes: 0,
  receiveBufferUsedBytes: 0,
  eventCapacity: 0,
  receiveBufferForced: false,
  lastEventAt: 0,
});
