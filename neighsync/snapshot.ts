/**
 * What the daemon tells about itself: plain numbers, read when somebody asks.
 *
 * @module
 */

import type { HistogramSnapshot } from "../internal/metrics.ts";
import type { LeaseRole } from "./lease.ts";
import type { FilterReason } from "./protocol/filter.ts";

export type { HistogramSnapshot } from "../internal/metrics.ts";

/** How a monitor of the kernel's tables does; counts since it was opened. */
export interface MonitorSnapshot {
  /** Who reads the kernel: `linux`, or `iproute` without native calls. */
  readonly driver: string;
  /** Why a better driver was not taken, one sentence; empty when this is the best. */
  readonly fallbackReason: string;
  /** The view was once what the kernel has. */
  readonly synced: boolean;
  /** The tables are being read, or will be. */
  readonly resyncing: boolean;
  /** The sockets are open. */
  readonly connected: boolean;
  /** Entries in the view. */
  readonly tableSize: { readonly ipv4: number; readonly ipv6: number };
  /** Links in the view. */
  readonly links: number;
  /** Neighbor events taken. */
  readonly events: number;
  /** Rows of dumps and answers taken. */
  readonly rows: number;
  /** Events known to be lost. */
  readonly lostEvents: number;
  /** Times the event socket overflowed. */
  readonly overflows: number;
  /** Times the table was read. */
  readonly resyncs: number;
  /** Entries that reading the table has corrected. */
  readonly resyncRepairs: number;
  /** Messages that could not be read. */
  readonly malformed: number;
  /** Interface indexes the kernel knew nothing about. */
  readonly unknownIfindex: number;
  /** Refusals of the kernel, and failures of the sockets. */
  readonly netlinkErrors: number;
  /** Receive buffer of the event socket, bytes. */
  readonly receiveBufferBytes: number;
  /** What waits in it, bytes in the kernel's own count, of twice as many. */
  readonly receiveBufferUsedBytes: number;
  /** Events of the usual size it holds; 0 where unknown. */
  readonly eventCapacity: number;
  /** The buffer was set past the system's limit, which takes CAP_NET_ADMIN. */
  readonly receiveBufferForced: boolean;
  /** When the last event came, milliseconds since 1970; 0 before the first. */
  readonly lastEventAt: number;
}

/** Where a warm restart stands. */
export type WarmRestartPhase =
  /** There is none. */
  | "none"
  /** It was counted and what was pending was forgotten. */
  | "initialized"
  /** The table was read; the kernel's is being waited for, or compared with. */
  | "restored"
  /** It is over: what differed was written. */
  | "reconciled";

/** Why batches were made larger or smaller. */
export type TuneReason =
  /** More than one change in twenty failed. */
  | "errors"
  /** The process has more memory than it should. */
  | "memory"
  /** Less was written than came in. */
  | "backlog"
  /** One change in a hundred took longer than 50 ms. */
  | "latency"
  /** Nothing is wrong: back to what is configured. */
  | "calm";

/** What the automatic tuning of batches did. */
export interface TuningSnapshot {
  /** It is on. */
  readonly enabled: boolean;
  /** Keys that make a batch worth sending, now. */
  readonly batchSize: number;
  /** How long a key waits for company, now, milliseconds. */
  readonly batchTimeoutMs: number;
  /** Times batches were made larger. */
  readonly raised: number;
  /** Times they were made smaller. */
  readonly lowered: number;
  /** Why, the last time; empty before the first. */
  readonly lastReason: TuneReason | "";
}

/** How a daemon of several does, of which one writes. */
export interface LeaseSnapshot {
  /** Its part. */
  readonly role: LeaseRole;
  /** What the holder is called, as it was last heard; empty where nobody contends. */
  readonly holder: string;
  /** Somebody holds the lease without ever having to renew it. */
  readonly stuck: boolean;
  /** Times the lease became this daemon's. */
  readonly acquired: number;
  /** Times it ended without having been given back. */
  readonly lost: number;
}

/** How the daemon does. Counts are since it was made and never go down. */
export interface NeighSyncSnapshot {
  /** Milliseconds since the start. */
  readonly uptimeMs: number;
  /** Everything of the kernel is published. */
  readonly synced: boolean;
  /** Milliseconds from the start to the first time it was; 0 before. */
  readonly firstSyncMs: number;
  /** Changes of neighbors looked at, those included that ask for nothing. */
  readonly neighborsProcessed: number;
  /** Neighbors published: sets that were acknowledged. */
  readonly neighborsAdded: number;
  /** Neighbors removed: deletions that were acknowledged. */
  readonly neighborsDeleted: number;
  /** Changes in batches that failed; they are written again. */
  readonly eventsFailed: number;
  /** Batches that failed. */
  readonly redisErrors: number;
  /** Batches acknowledged. */
  readonly batches: number;
  /** Times the connection was made again. */
  readonly redisReconnects: number;
  /** Times Redis had forgotten the script and was given it again. */
  readonly scriptReloads: number;
  /** Changes that were not written because they say what is written already. */
  readonly suppressed: number;
  /** Changes that were replaced by later ones before they were written. */
  readonly coalesced: number;
  /** Changes by what the rules said of them; reasons that never occurred are missing. */
  readonly filtered: Readonly<Partial<Record<FilterReason, number>>>;
  /** Comparisons of the whole table made because time had passed. */
  readonly audits: number;
  /** Keys these had to put right. */
  readonly auditRepairs: number;
  /** Keys that were put right after a connection was made again. */
  readonly reconnectRepairs: number;
  /** Keys that wait to be written. */
  readonly pendingNeighbors: number;
  /** Keys that wait or are on their way. */
  readonly queueDepth: number;
  /** Keys that are known to be published. */
  readonly published: number;
  /** Resident memory of the process, bytes. */
  readonly memoryBytes: number;
  /** Resident memory from which on the daemon is unhealthy, bytes: what is configured, or what fits the table. */
  readonly memoryLimitBytes: number;
  /** How late the event loop is, milliseconds: the latest of a series of looks, one a second. */
  readonly loopLagMs: number;
  /** Batches are taken. */
  readonly redisConnected: boolean;
  /** Code of the last loss; empty before the first. */
  readonly redisLastError: string;
  /** When the sink last answered, milliseconds since 1970; 0 before. */
  readonly lastAnswerAt: number;
  /** Where a warm restart stands. */
  readonly warmRestart: WarmRestartPhase;
  /** Whether it writes, or stands by. */
  readonly lease: LeaseSnapshot;
  /** Some `PEER_SWITCH` is configured, or it is set so. */
  readonly dualTor: boolean;
  /** Some `VXLAN_EVPN_NVO` is configured, or it is set so. */
  readonly evpn: boolean;
  /** From the reading of an event to the acknowledgement of its batch, seconds; the oldest change of each batch. */
  readonly eventLatency: HistogramSnapshot;
  /** From sending a batch to its acknowledgement, seconds. */
  readonly redisLatency: HistogramSnapshot;
  /** Changes in a batch. */
  readonly batchSize: HistogramSnapshot;
  /** How batches are tuned. */
  readonly tuning: TuningSnapshot;
  /** The kernel's side; all zeros before it was joined. */
  readonly kernel: MonitorSnapshot;
}

/** A level, the worst of its causes. */
export type HealthStatus = "healthy" | "degraded" | "unhealthy";

/** One thing that was looked at. */
export interface HealthCheck {
  /** `redis`, `netlink`, `sync`, `lease`, `errors`, `latency`, `queue`, `memory` or `loop`. */
  readonly name: string;
  /** How it is. */
  readonly status: HealthStatus;
  /** One sentence; empty when all is well. */
  readonly detail: string;
}

/** Whether the daemon does its work. A network in which nothing happens is healthy. */
export interface Health {
  /** The worst of the checks. */
  readonly status: HealthStatus;
  /** 1 healthy, 0.5 degraded, 0 unhealthy: for metrics. */
  readonly value: number;
  /** Synced once, or standing by with the kernel's table read, and connected now: traffic may rely on it. */
  readonly ready: boolean;
  /** Whether it writes, or stands by. */
  readonly role: LeaseRole;
  /** Each thing that was looked at. */
  readonly checks: readonly HealthCheck[];
}
