/**
 * The kernel's neighbor tables: watched by any program, and kept in Redis as SONiC's neighbor synchronizer does.
 *
 * `deno run -A jsr:@fastwire/net/neighsync monitor` prints what changes, `… run --redis unix:PATH` keeps the table in
 * Redis equal. The same as a library is below. The guide is `docs/neighsync.md`; codecs and state machines without I/O are
 * `@fastwire/net/neighsync/protocol`.
 *
 * Linux. Watching takes no privilege, but `--allow-ffi`; without it the `ip` program is asked, which takes `--allow-run=ip`
 * and notices less. CAP_NET_ADMIN allows a receive buffer beyond the system's limit. Redis takes `--allow-net`, or for a
 * unix socket `--allow-read` and `--allow-write` of it.
 *
 * @example
 * ```ts
 * import { MemorySink, NeighborMonitor, NeighSync } from "@fastwire/net/neighsync";
 *
 * if (Deno.build.os === "linux") {
 *   await using monitor = await NeighborMonitor.open();
 *   await monitor.ready;
 *   console.log(`${monitor.neighbors().size} neighbours`);
 *
 *   const sink = new MemorySink();
 *   await using sync = new NeighSync({ sink, netlink: { exclude: ["lo"] } });
 *   await sync.start();
 *   console.log(`${sink.entries.size} of them are to be published`);
 * }
 * ```
 *
 * @module
 */
export { NeighborMonitor } from "./monitor.ts";
export type { MonitorOptions } from "./monitor.ts";
export type {
  NeighborChanged,
  NeighborEvent,
  ResyncEnded,
  ResyncStarted,
} from "./monitor_queue.ts";
export type { Neighbor, NudState } from "./neighbor.ts";
export { dumpNeighbors } from "./dump.ts";
export { NeighSync } from "./daemon.ts";
export type { NeighSyncOptions, ReloadableSettings } from "./daemon.ts";
export type { Difference } from "./difference.ts";
export type { NeighSyncEvent } from "./daemon_events.ts";
export type {
  Health,
  HealthCheck,
  HealthStatus,
  HistogramSnapshot,
  LeaseSnapshot,
  MonitorSnapshot,
  NeighSyncSnapshot,
  TuneReason,
  TuningSnapshot,
  WarmRestartPhase,
} from "./snapshot.ts";
export type {
  MonitorSettings,
  NeighSyncSettings,
  Partially,
  ResolvedAdvancedSettings,
  ResolvedDeploymentSettings,
  ResolvedLoggingSettings,
  ResolvedMetricsSettings,
  ResolvedNeighSyncSettings,
  ResolvedNetlinkSettings,
  ResolvedPerformanceSettings,
  ResolvedRedisSettings,
  ResolvedSecuritySettings,
} from "./settings.ts";
export { resolveMonitorSettings, resolveNeighSyncSettings } from "./options.ts";
export { effectiveTable } from "./sink.ts";
export type {
  NeighborFamily,
  PendingNeighbor,
  Sink,
  SinkEvent,
  SinkOperation,
  SinkSchema,
  SinkSnapshot,
  SinkTable,
  StoredNeighbor,
} from "./sink.ts";
export { MemorySink } from "./sink_memory.ts";
export type { MemorySinkOptions, PoppedChange } from "./sink_memory.ts";
export { openRedisSink, RedisSink } from "./sink_redis.ts";
export type { RedisSinkOptions } from "./sink_redis.ts";
export type {
  OpenRedis,
  RedisAddress,
  RedisClient,
  RedisTarget,
  RedisTls,
  RedisWire,
} from "../internal/redis.ts";
export { restoreNeighbors } from "./restore.ts";
export type { RestoreCounts, RestoreOptions, RestoreResult, RestoreStore } from "./restore.ts";
export { createHandler, serveHealth } from "./rest.ts";
export type {
  HealthServer,
  ServedDifference,
  ServedNeighbor,
  ServedNeighSync,
  ServeHealthOptions,
} from "./rest.ts";
export type { LeaseAnswer, LeaseRole, LeaseStore } from "./lease.ts";
export type { LeaseFence } from "./lease_store.ts";
export type { ConfigDatabase } from "./config_database.ts";
export type { WarmTables } from "./warm_restart.ts";
export { WarmRestartStore } from "./warm_restart_store.ts";
export type { WarmRestartStoreOptions, WarmScope } from "./warm_restart_store.ts";
export type { RestorePlanOptions } from "./protocol/restore_machine.ts";
export type { HttpPeer } from "../internal/http/listener.ts";
export type { Clock } from "../internal/time/clock.ts";
export { RedisLink } from "../internal/redis_link.ts";
export type {
  NodeReply,
  RedisCommand,
  RedisLinkEvent,
  RedisLinkOptions,
} from "../internal/redis_link.ts";
export type { Random } from "../internal/random.ts";
export type { FilterFacts, FilterReason } from "./protocol/filter.ts";
export type { ResyncReason } from "./protocol/resync_actions.ts";
export type { WarmFlags, WarmOutcome, WarmRestartState } from "./protocol/warm_restart.ts";

if (import.meta.main) import("./cli.ts").then((m) => m.main());
