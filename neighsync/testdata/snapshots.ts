/**
 * Snapshots of a daemon that was never there.
 *
 * @module
 */
import { Histogram } from "../../internal/metrics.ts";
import type { MonitorSnapshot, NeighSyncSnapshot } from "../snapshot.ts";

const SECONDS = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1];

/** A distribution of durations in the daemon's buckets. */
export function durations(...seconds: readonly number[]): NeighSyncSnapshot["eventLatency"] {
  const histogram = new Histogram(SECONDS);
  for (const value of seconds) histogram.add(value);
  return histogram.snapshot();
}

/** A daemon that has been up for an hour in a network in which nothing happens. */
export function quiet(
  changes: Partial<Omit<NeighSyncSnapshot, "kernel">> & {
    readonly kernel?: Partial<MonitorSnapshot>;
  } = {},
): NeighSyncSnapshot {
  return {
    uptimeMs: 3_600_000,
    synced: true,
    firstSyncMs: 40,
    neighborsProcessed: 3,
    neighborsAdded: 3,
    neighborsDeleted: 0,
    eventsFailed: 0,
    redisErrors: 0,
    batches: 1,
    redisReconnects: 0,
    scriptReloads: 0,
    suppressed: 0,
    coalesced: 0,
    filtered: { accepted: 3, interface: 2 },
    audits: 12,
    auditRepairs: 0,
    reconnectRepairs: 0,
    pendingNeighbors: 0,
    queueDepth: 0,
    published: 3,
    memoryBytes: 90e6,
    memoryLimitBytes: 200e6,
    loopLagMs: 0.4,
    redisConnected: true,
    redisLastError: "",
    lastAnswerAt: 1_700_000_000_000,
    warmRestart: "none",
    lease: { role: "alone", holder: "", stuck: false, acquired: 0, lost: 0 },
    dualTor: false,
    evpn: false,
    eventLatency: durations(0.002, 0.002, 0.003),
    redisLatency: durations(0.001),
    batchSize: new Histogram([1, 5, 10]).snapshot(),
    tuning: {
      enabled: false,
      batchSize: 100,
      batchTimeoutMs: 10,
      raised: 0,
      lowered: 0,
      lastReason: "",
    },
    ...changes,
    kernel: {
      driver: "linux",
      fallbackReason: "",
      synced: true,
      resyncing: false,
      connected: true,
      tableSize: { ipv4: 2, ipv6: 1 },
      links: 2,
      events: 3,
      rows: 3,
      lostEvents: 0,
      overflows: 0,
      resyncs: 1,
      resyncRepairs: 0,
      malformed: 0,
      unknownIfindex: 0,
      netlinkErrors: 0,
      receiveBufferBytes: 33_554_432,
      receiveBufferUsedBytes: 0,
      eventCapacity: 80_659,
      receiveBufferForced: true,
      lastEventAt: 1_700_000_000_000,
      ...changes.kernel,
    },
  };
}
