/**
 * The options of the neighbour synchroniser as types. `options.ts` holds the schema they are checked against; a mismatch
 * between the two does not compile.
 *
 * @module
 */

/** How the kernel is read. */
export interface ResolvedNetlinkSettings {
  /** How to reach the kernel: by native calls, or through the `ip` program. Default `auto`. */
  readonly driver: "auto" | "fast" | "portable";
  /** Receive buffer for events, 0 to 2^30 bytes, default 33,554,432: about 80,000 events. */
  readonly receiveBufferBytes: number;
  /** How far it may grow after losses, 0 to 2^30 bytes, default 268,435,456. */
  readonly maxReceiveBufferBytes: number;
  /** Drop events nobody needs (state PROBE, bridge entries) inside the kernel. Default false. */
  readonly kernelFilter: boolean;
  /** Only this family; `all` by default. */
  readonly family: "all" | "ipv4" | "ipv6";
  /** Interfaces to look at, `*` and `?` allowed; empty (default) for all. */
  readonly include: readonly string[];
  /** Interfaces to leave alone. Default []. */
  readonly exclude: readonly string[];
  /** File of the network namespace to look into, `/run/netns/red`; default that of the process. Needs CAP_SYS_ADMIN. */
  readonly namespace: string | undefined;
}

/** How Redis is reached, and how the table in it is kept. */
export interface ResolvedRedisSettings {
  /** `unix:PATH`, `redis://HOST:PORT`, `rediss://…` with TLS; default what `database_config.json` says. */
  readonly url: string | undefined;
  /** `producer-state` (default) stages changes for a consumer, `plain` writes final hashes. */
  readonly schema: "producer-state" | "plain";
  /** ACL user. */
  readonly username: string | undefined;
  /** Password; better from a file or a variable. */
  readonly password: string | undefined;
  /** File whose first line is the password. */
  readonly passwordFile: string | undefined;
  /** Certificates to trust, PEM; turns TLS on. */
  readonly tlsCaFile: string | undefined;
  /** Our certificate, PEM. */
  readonly tlsCertFile: string | undefined;
  /** Its key, PEM. */
  readonly tlsKeyFile: string | undefined;
  /** Name the server's certificate must carry; the host by default. */
  readonly tlsServerName: string | undefined;
  /** Sentinels, host and port. Default []. */
  readonly sentinels: readonly { readonly host: string; readonly port: number | undefined }[];
  /** Name the sentinels know the master by. Default `mymaster`. */
  readonly sentinelMaster: string;
  /** Nodes of a cluster, host and port; takes the schema `plain` only. Default []. */
  readonly cluster: readonly { readonly host: string; readonly port: number | undefined }[];
  /** The switch's file of databases; default its usual place. */
  readonly databaseConfig: string | undefined;
  /** Namespace of a switch with several, `asic0`; empty (default) for the host's own. */
  readonly namespace: string;
  /** Longest time a command may take, 100 to 600,000 ms, default 5,000. */
  readonly timeoutMs: number;
}

/** When changes are written. */
export interface ResolvedPerformanceSettings {
  /** Keys that make a batch worth sending while another is on its way, 1 to 100,000, default 100. */
  readonly batchSize: number;
  /** How long a key waits for company while another batch is on its way, 0 to 10,000 ms, default 10. */
  readonly batchTimeoutMs: number;
  /** Most keys in a batch, 1 to 100,000, default 1,000. */
  readonly maxBatch: number;
  /** Batches that may be on their way, 1 to 64, default 2. */
  readonly window: number;
  /** Write nothing that is known to be written. Default true. */
  readonly dedupe: boolean;
  /** Least time between the starts of two batches, 0 to 1,000 ms, default 1: events that come one by one share a batch. */
  readonly lingerMs: number;
  /** Adapt `batchSize` and `batchTimeoutMs` to what happens, each only where nobody has set it. Default false. */
  readonly autoTune: boolean;
}

/** Where measurements can be fetched. */
export interface ResolvedMetricsSettings {
  /** `HOST:PORT`, `unix:PATH` or `off`. Default `127.0.0.1:9091`. */
  readonly listen: string;
  /** What the names of metrics begin with. Default `fastwire_neighsync_`. */
  readonly prefix: string;
}

/** What the daemon is to the switch. */
export interface ResolvedDeploymentSettings {
  /** `auto` (default) looks for `PEER_SWITCH` in the configuration database. */
  readonly dualTor: "auto" | "on" | "off";
  /** `auto` (default) looks for `VXLAN_EVPN_NVO` in the configuration database. */
  readonly evpn: "auto" | "on" | "off";
  /** Delete published link-local neighbors when link-local is turned off for their interface. Default false. */
  readonly strictLinkLocal: boolean;
  /** Take part in warm restarts. Default true. */
  readonly warmRestart: boolean;
  /** Longest wait for the kernel's table to be refilled, 0 to 86,400 s, default 180. */
  readonly restoreWaitSec: number;
  /** Compare when the timer of the configuration fires (default), or as soon as the kernel's table was read. */
  readonly reconcileWhen: "timer" | "dump-complete";
  /** With `dump-complete`: not earlier than this after the kernel was joined, 0 to 3,600,000 ms, default 0. */
  readonly minReconcileMs: number;
  /** Name of this daemon in the warm-restart tables. Default `neighsyncd`. */
  readonly application: string;
  /** Name of the container it belongs to. Default `swss`. */
  readonly docker: string;
  /** Key that daemons of which only one may write contend for; unset (default) for a daemon that is alone. */
  readonly leaseKey: string | undefined;
  /** What this daemon is called where the holder is named; default the host's name and the process's id. */
  readonly leaseId: string | undefined;
  /** How long the key is held without being renewed, 500 to 3,600,000 ms, default 30,000; renewed three times as often. */
  readonly leaseTtlMs: number;
}

/** What is rarely changed. */
export interface ResolvedAdvancedSettings {
  /** Seconds between comparisons of the whole table, 0 (never) to 86,400, default 300. */
  readonly auditIntervalSec: number;
  /** Longest time a stop may spend on writing what waits, 0 to 600,000 ms, default 5,000. */
  readonly flushTimeoutMs: number;
  /**
   * Resident memory from which on the daemon is unhealthy, 0 to 2^40 bytes, and degraded from three quarters of it. Default
   * 0: 200 MB, for more than 100,000 neighbors as much more.
   */
  readonly memoryLimit: number;
}

/** What is logged, for the command line. */
export interface ResolvedLoggingSettings {
  /** This and worse; default `info`. */
  readonly level: "error" | "warning" | "info" | "debug" | "trace" | undefined;
  /** Form of log lines; default `human`. */
  readonly format: "human" | "json" | "syslog" | undefined;
}

/** Who may change what. */
export interface ResolvedSecuritySettings {
  /** Bearer token that lets requests change something; without one they only read. */
  readonly token: string | undefined;
  /** File whose first line is the token. */
  readonly tokenFile: string | undefined;
}

/** Complete settings of the daemon, one member for each section of its configuration file. */
export interface ResolvedNeighSyncSettings {
  /** How Redis is reached, and how the table in it is kept. */
  readonly redis: ResolvedRedisSettings;
  /** How the kernel is read. */
  readonly netlink: ResolvedNetlinkSettings;
  /** What is logged. */
  readonly logging: ResolvedLoggingSettings;
  /** When changes are written. */
  readonly performance: ResolvedPerformanceSettings;
  /** Where measurements can be fetched. */
  readonly metrics: ResolvedMetricsSettings;
  /** What the daemon is to the switch. */
  readonly deployment: ResolvedDeploymentSettings;
  /** What is rarely changed. */
  readonly advanced: ResolvedAdvancedSettings;
  /** Who may change what. */
  readonly security: ResolvedSecuritySettings;
}

/** Partial form of an options object: every member may be left out, groups too. */
export type Partially<T> = {
  readonly [K in keyof T]?: T[K] extends readonly unknown[] | undefined ? T[K] | undefined
    : T[K] extends object ? { readonly [L in keyof T[K]]?: T[K][L] | undefined }
    : T[K] | undefined;
};

/** Settings of the daemon as a caller writes them. Ranges and defaults: {@linkcode ResolvedNeighSyncSettings}. */
export type NeighSyncSettings = Partially<ResolvedNeighSyncSettings>;

/** Settings of a monitor as a caller writes them. Ranges and defaults: {@linkcode ResolvedNetlinkSettings}. */
export type MonitorSettings = Partially<ResolvedNetlinkSettings>;
