/**
 * What a synchroniser is made with, and what can be changed while it runs.
 *
 * @module
 */

import type { NetlinkHost } from "../ffi/mod.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { ConfigDatabase } from "./config_database.ts";
import type { LeaseStore } from "./lease.ts";
import type { FilterFacts } from "./protocol/filter.ts";
import type { NeighSyncSettings, ResolvedNeighSyncSettings } from "./settings.ts";
import type { Sink } from "./sink.ts";
import type { WarmTables } from "./warm_restart.ts";

/** How a synchroniser is made: its settings, and parts of the caller's own. */
export interface NeighSyncOptions extends NeighSyncSettings {
  /** Where neighbors are published, instead of Redis; not closed with the synchroniser. */
  readonly sink?: Sink | undefined;
  /** The switch's configuration, to go with a sink of the caller's own. */
  readonly configDatabase?: ConfigDatabase | undefined;
  /** Facts that never change, to go with a sink of the caller's own where there is no configuration. */
  readonly facts?: FilterFacts | undefined;
  /** Tables of a warm restart, to go with a sink of the caller's own. */
  readonly warmTables?: WarmTables | undefined;
  /** Where the lease of `deployment.leaseKey` is, to go with a sink of the caller's own. */
  readonly leaseStore?: LeaseStore | undefined;
  /** Where netlink sockets live; not closed with the synchroniser. */
  readonly host?: NetlinkHost | undefined;
  /** Closes the synchroniser. */
  readonly signal?: AbortSignal | undefined;
  /** Whose time counts. */
  readonly clock?: Clock | undefined;
}

/** Settings that can be changed while it runs. */
export type ReloadableSettings = Pick<
  ResolvedNeighSyncSettings,
  "netlink" | "performance" | "advanced"
>;
