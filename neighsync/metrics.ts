/**
 * The daemon's metrics by name: what each is called and which number of the snapshot it shows.
 *
 * @module
 */

import type { HistogramSnapshot } from "../internal/metrics.ts";
import type { Metric, MetricDistribution } from "../internal/prometheus.ts";
import type { Health, NeighSyncSnapshot } from "./snapshot.ts";

/** Before every name, unless `metricsPrefix` says otherwise. */
export const METRICS_PREFIX = "fastwire_neighsync_";

/** Where the numbers come from. */
export interface MetricsSource {
  /** Counters and state now. */
  snapshot(): NeighSyncSnapshot;
  /** The verdict on them. */
  health(): Health;
}

type Read = (snapshot: NeighSyncSnapshot) => number;

const COUNTERS: readonly (readonly [name: string, help: string, read: Read])[] = [
  [
    "neighbors_processed_total",
    "Changes of neighbors looked at",
    (now) => now.neighborsProcessed,
  ],
  ["neighbors_added_total", "Neighbors published", (now) => now.neighborsAdded],
  ["neighbors_deleted_total", "Neighbors removed", (now) => now.neighborsDeleted],
  [
    "events_failed_total",
    "Changes in batches that failed and are written again",
    (now) => now.eventsFailed,
  ],
  [
    "netlink_errors_total",
    "Refusals of the kernel and failures of its sockets",
    (now) => now.kernel.netlinkErrors,
  ],
  ["redis_errors_total", "Batches that failed", (now) => now.redisErrors],
  ["redis_reconnects_total", "Connections made again", (now) => now.redisReconnects],
  [
    "redis_script_reloads_total",
    "Times Redis had forgotten the script",
    (now) => now.scriptReloads,
  ],
  ["batches_total", "Batches acknowledged", (now) => now.batches],
  ["events_total", "Neighbor events read from the kernel", (now) => now.kernel.events],
  ["rows_total", "Rows of dumps and answers read from the kernel", (now) => now.kernel.rows],
  [
    "overflows_total",
    "Times the event socket's buffer was full",
    (now) => now.kernel.overflows,
  ],
  ["lost_events_total", "Events known to be lost", (now) => now.kernel.lostEvents],
  ["resyncs_total", "Times the kernel's table was read", (now) => now.kernel.resyncs],
  [
    "resync_repairs_total",
    "Entries that reading the kernel's table has corrected",
    (now) => now.kernel.resyncRepairs,
  ],
  ["audits_total", "Comparisons of the whole table with Redis", (now) => now.audits],
  ["audit_repairs_total", "Keys that audits had to put right", (now) => now.auditRepairs],
  [
    "reconnect_repairs_total",
    "Keys put right after a connection was made again",
    (now) => now.reconnectRepairs,
  ],
  [
    "suppressed_total",
    "Changes not written because they say what is written already",
    (now) => now.suppressed,
  ],
  [
    "coalesced_total",
    "Changes replaced by later ones before they were written",
    (now) => now.coalesced,
  ],
  ["lease_acquired_total", "Times the lease became this daemon's", (now) => now.lease.acquired],
  [
    "lease_lost_total",
    "Times it ended without having been given back",
    (now) => now.lease.lost,
  ],
  ["tunings_raised_total", "Times batches were made larger", (now) => now.tuning.raised],
  ["tunings_lowered_total", "Times batches were made smaller", (now) => now.tuning.lowered],
  ["malformed_total", "Messages that could not be read", (now) => now.kernel.malformed],
  [
    "unknown_ifindex_total",
    "Interface indexes the kernel knew nothing about",
    (now) => now.kernel.unknownIfindex,
  ],
];

const GAUGES: readonly (readonly [name: string, help: string, read: Read])[] = [
  ["pending_neighbors", "Keys that wait to be written", (now) => now.pendingNeighbors],
  ["queue_depth", "Keys that wait or are on their way", (now) => now.queueDepth],
  ["published_neighbors", "Keys known to be published", (now) => now.published],
  ["memory_bytes", "Resident memory of the process", (now) => now.memoryBytes],
  [
    "memory_limit_bytes",
    "Resident memory from which on the daemon is unhealthy",
    (now) => now.memoryLimitBytes,
  ],
  ["redis_connected", "1 while batches are taken", (now) => Number(now.redisConnected)],
  [
    "netlink_connected",
    "1 while the kernel's sockets are open",
    (now) => Number(now.kernel.connected),
  ],
  ["synced", "1 while everything of the kernel is published", (now) => Number(now.synced)],
  [
    "last_event_timestamp",
    "When the last event came, seconds since 1970; 0 before the first",
    (now) => now.kernel.lastEventAt / 1000,
  ],
  [
    "rcvbuf_bytes",
    "Receive buffer of the event socket",
    (now) => now.kernel.receiveBufferBytes,
  ],
  [
    "rcvbuf_used_bytes",
    "What waits in it, as the kernel counts: full at twice its size",
    (now) => now.kernel.receiveBufferUsedBytes,
  ],
  [
    "warm_restart_state",
    "0 none, 1 initialized, 2 restored, 3 reconciled",
    (now) => WARM_STATES.indexOf(now.warmRestart),
  ],
  [
    "tuned_batch_size",
    "Keys that make a batch worth sending, now",
    (now) => now.tuning.batchSize,
  ],
  [
    "tuned_batch_timeout_seconds",
    "How long a key waits for company, now",
    (now) => now.tuning.batchTimeoutMs / 1000,
  ],
  ["loop_lag_seconds", "How late the event loop is", (now) => now.loopLagMs / 1000],
  ["uptime_seconds", "Since the start", (now) => now.uptimeMs / 1000],
  [
    "first_sync_seconds",
    "From the start until everything was published; 0 before",
    (now) => now.firstSyncMs / 1000,
  ],
];

const WARM_STATES: readonly NeighSyncSnapshot["warmRestart"][] = [
  "none",
  "initialized",
  "restored",
  "reconciled",
];

const ROLES = ["alone", "holder", "standby"] as const;

const HISTOGRAMS: readonly (readonly [
  name: string,
  help: string,
  read: (snapshot: NeighSyncSnapshot) => HistogramSnapshot,
])[] = [
  [
    "event_latency_seconds",
    "From reading an event to the acknowledgement of its batch",
    (now) => now.eventLatency,
  ],
  [
    "redis_latency_seconds",
    "From sending a batch to its acknowledgement",
    (now) => now.redisLatency,
  ],
  ["batch_size", "Changes in a batch", (now) => now.batchSize],
];

/** Every metric of the daemon, without the prefix. All of one scrape are read from one snapshot. */
export function neighsyncMetrics(source: MetricsSource): readonly Metric[] {
  let snapshot: NeighSyncSnapshot | undefined;
  // A scrape reads every metric in one turn of the event loop: the snapshot is that of the turn.
  const now = (): NeighSyncSnapshot => {
    if (snapshot === undefined) {
      snapshot = source.snapshot();
      queueMicrotask(() => snapshot = undefined);
    }
    return snapshot;
  };
  return [
    ...COUNTERS.map(([name, help, read]): Metric => ({
      name,
      help,
      type: "counter",
      read: () => read(now()),
    })),
    {
      name: "filtered_total",
      help: "Changes by what the rules said of them",
      type: "counter",
      read: () =>
        Object.entries(now().filtered).map(([reason, value]) => ({
          labels: { reason },
          value: value ?? 0,
        })),
    },
    ...GAUGES.map(([name, help, read]): Metric => ({
      name,
      help,
      type: "gauge",
      read: () => read(now()),
    })),
    {
      name: "table_size",
      help: "Entries in the view of the kernel's table",
      type: "gauge",
      read: () => {
        const { ipv4, ipv6 } = now().kernel.tableSize;
        return [
          { labels: { family: "IPv4" }, value: ipv4 },
          { labels: { family: "IPv6" }, value: ipv6 },
        ];
      },
    },
    {
      name: "role",
      help: "1 for what this daemon is: alone, holder or standby",
      type: "gauge",
      read: () =>
        ROLES.map((role) => ({ labels: { role }, value: Number(now().lease.role === role) })),
    },
    {
      name: "health_status",
      help: "1 healthy, 0.5 degraded, 0 unhealthy",
      type: "gauge",
      read: () => source.health().value,
    },
    ...HISTOGRAMS.map(([name, help, read]): Metric => ({
      name,
      help,
      type: "histogram",
      read: (): MetricDistribution => read(now()),
    })),
  ];
}
