/**
 * Every option of the neighbour synchroniser: name, unit, range, default. The only place where a default is written. Flags,
 * variables, the configuration file and its JSON Schema are made from it.
 *
 * @module
 */

import {
  boolean,
  choice,
  duration,
  endpoint,
  integer,
  list,
  option,
  options,
  type OptionsSchema,
  path,
  resolve,
  secret,
  size,
  text,
} from "../internal/schema.ts";
import type {
  MonitorSettings,
  NeighSyncSettings,
  ResolvedNeighSyncSettings,
  ResolvedNetlinkSettings,
} from "./settings.ts";

const MiB = 1_048_576;
const GiB = 1024 * MiB;

const NETLINK = {
  driver: option(choice(["auto", "fast", "portable"]), "auto", {
    help: "How to reach the kernel",
    group: "Kernel",
  }),
  receiveBufferBytes: option(size(0, GiB), 32 * MiB, {
    help: "Receive buffer for events",
    aliases: ["rcvbuf"],
    placeholder: "BYTES",
    group: "Kernel",
  }),
  maxReceiveBufferBytes: option(size(0, GiB), 256 * MiB, {
    help: "How far it may grow after losses",
    placeholder: "BYTES",
    group: "Kernel",
  }),
  kernelFilter: option(boolean(), false, {
    help: "Drop events nobody needs inside the kernel",
    group: "Kernel",
  }),
  family: option(choice(["all", "ipv4", "ipv6"]), "all", {
    help: "Only this family",
    group: "Kernel",
  }),
  include: option(list(text(64)), [], {
    help: "Interface to look at, * and ? allowed; all when never given",
    aliases: ["interface"],
    placeholder: "NAME",
    group: "Kernel",
  }),
  exclude: option(list(text(64)), [], {
    help: "Interface to leave alone, * and ? allowed",
    placeholder: "NAME",
    group: "Kernel",
  }),
  namespace: option(path(), undefined, {
    help: "Network namespace to look into, such as /run/netns/red",
    group: "Kernel",
  }),
} as const;

const { exclude, driver, ...NETLINK_OTHERS } = NETLINK;

/** The daemon's section has a file's names; its most used flags go without them. */
const DAEMON_NETLINK = {
  driver: { ...driver, details: { ...driver.details, aliases: ["driver"] } },
  ...NETLINK_OTHERS,
  exclude: { ...exclude, details: { ...exclude.details, aliases: ["exclude"] } },
} as const;

const REDIS = {
  url: option(text(4096), undefined, {
    help: "unix:PATH, redis://HOST:PORT, or rediss:// with TLS",
    aliases: ["redis"],
    placeholder: "URL",
    group: "Redis",
  }),
  schema: option(choice(["producer-state", "plain"]), "producer-state", {
    help: "Stage changes for a consumer, or write the final hashes",
    aliases: ["schema"],
    group: "Redis",
  }),
  username: option(text(256), undefined, { help: "ACL user", group: "Redis" }),
  password: option(secret(), undefined, {
    help: "Password; better in a file or a variable, others see the command line",
    group: "Redis",
  }),
  passwordFile: option(path(), undefined, {
    help: "File whose first line is the password",
    group: "Redis",
  }),
  tlsCaFile: option(path(), undefined, {
    help: "Certificates to trust; turns TLS on",
    group: "Redis",
  }),
  tlsCertFile: option(path(), undefined, { help: "Our certificate", group: "Redis" }),
  tlsKeyFile: option(path(), undefined, { help: "Its key", group: "Redis" }),
  tlsServerName: option(text(256), undefined, {
    help: "Name the server's certificate must carry",
    group: "Redis",
  }),
  sentinels: option(list(endpoint(), 64), [], {
    help: "Sentinel to ask for the master",
    placeholder: "H:P",
    group: "Redis",
  }),
  sentinelMaster: option(text(256), "mymaster", {
    help: "Name the sentinels know the master by",
    group: "Redis",
  }),
  cluster: option(list(endpoint(), 64), [], {
    help: "Node of a cluster; takes the schema plain only",
    placeholder: "H:P",
    group: "Redis",
  }),
  databaseConfig: option(path(), undefined, {
    help: "The switch's file of databases",
    group: "Redis",
  }),
  namespace: option(text(64), "", {
    help: "Namespace of a switch with several, such as asic0",
    aliases: ["namespace"],
    group: "Redis",
  }),
  timeoutMs: option(duration(100, 600_000), 5000, {
    help: "Longest time a command may take",
    group: "Redis",
  }),
} as const;

const PERFORMANCE = {
  batchSize: option(integer(1, 100_000), 100, {
    help: "Keys that make a batch worth sending while another is on its way",
    aliases: ["batch-size"],
    group: "Performance",
  }),
  batchTimeoutMs: option(duration(0, 10_000), 10, {
    help: "How long a key waits for company while another batch is on its way",
    aliases: ["batch-timeout-ms"],
    group: "Performance",
  }),
  maxBatch: option(integer(1, 100_000), 1000, {
    help: "Most keys in a batch",
    group: "Performance",
  }),
  window: option(integer(1, 64), 2, {
    help: "Batches that may be on their way",
    group: "Performance",
  }),
  dedupe: option(boolean(), true, {
    help: "Write nothing that is known to be written",
    group: "Performance",
  }),
  lingerMs: option(duration(0, 1000), 1, {
    help: "Least time between the starts of two batches",
    group: "Performance",
  }),
  autoTune: option(boolean(), false, {
    help: "Adapt size and time-out of batches, where they are not set",
    aliases: ["auto-tune"],
    group: "Performance",
  }),
} as const;

const DAEMON = {
  redis: REDIS,
  netlink: DAEMON_NETLINK,
  logging: {
    level: option(choice(["error", "warning", "info", "debug", "trace"]), undefined, {
      help: "Log this and worse; --log-level comes first",
      group: "Logging",
    }),
    format: option(choice(["human", "json", "syslog"]), undefined, {
      help: "Form of log lines; --log-format comes first",
      group: "Logging",
    }),
  },
  performance: PERFORMANCE,
  metrics: {
    listen: option(text(4096), "127.0.0.1:9091", {
      help: "Where measurements can be fetched: HOST:PORT, unix:PATH or off",
      aliases: ["metrics"],
      placeholder: "ADDR",
      group: "Metrics",
    }),
    prefix: option(text(128), "fastwire_neighsync_", {
      help: "What the names of metrics begin with",
      group: "Metrics",
    }),
  },
  deployment: {
    dualTor: option(choice(["auto", "on", "off"]), "auto", {
      help: "Whether two switches share their servers; auto asks the configuration",
      aliases: ["dual-tor"],
      group: "Switch",
    }),
    evpn: option(choice(["auto", "on", "off"]), "auto", {
      help: "Whether neighbours may be behind a tunnel; auto asks the configuration",
      aliases: ["evpn"],
      group: "Switch",
    }),
    strictLinkLocal: option(boolean(), false, {
      help: "Delete link-local neighbours when link-local is turned off",
      group: "Switch",
    }),
    warmRestart: option(boolean(), true, {
      help: "Take part in warm restarts",
      aliases: ["warm-restart"],
      group: "Switch",
    }),
    restoreWaitSec: option(integer(0, 86_400), 180, {
      help: "Seconds to wait for the kernel's table to be refilled",
      group: "Switch",
    }),
    reconcileWhen: option(choice(["timer", "dump-complete"]), "timer", {
      help: "Compare when the timer fires, or when the kernel's table was read",
      group: "Switch",
    }),
    minReconcileMs: option(duration(0, 3_600_000), 0, {
      help: "With dump-complete: not earlier than this",
      group: "Switch",
    }),
    application: option(text(64), "neighsyncd", {
      help: "Name of this daemon in the warm-restart tables",
      group: "Switch",
    }),
    docker: option(text(64), "swss", {
      help: "Name of the container it belongs to",
      group: "Switch",
    }),
    leaseKey: option(text(256), undefined, {
      help: "Write only while holding this key; for two daemons of which one stands by",
      aliases: ["lease-key"],
      placeholder: "KEY",
      group: "Switch",
    }),
    leaseId: option(text(128), undefined, {
      help: "What this daemon is called as a holder; the host and the process by default",
      aliases: ["lease-id"],
      group: "Switch",
    }),
    leaseTtlMs: option(duration(500, 3_600_000), 30_000, {
      help: "How long the key is held without being renewed",
      aliases: ["lease-ttl"],
      group: "Switch",
    }),
  },
  advanced: {
    auditIntervalSec: option(integer(0, 86_400), 300, {
      help: "Seconds between comparisons of the whole table; 0 never",
      aliases: ["audit-interval"],
      placeholder: "SECS",
      group: "Advanced",
    }),
    flushTimeoutMs: option(duration(0, 600_000), 5000, {
      help: "How long a stop may write what waits",
      group: "Advanced",
    }),
    memoryLimit: option(size(0, 1024 * GiB), 0, {
      help: "Resident memory that is unhealthy; 0 for what fits the table",
      aliases: ["memory-limit"],
      placeholder: "BYTES",
      group: "Advanced",
    }),
  },
  security: {
    token: option(secret(), undefined, {
      help: "Bearer token for requests that change something",
      group: "Security",
    }),
    tokenFile: option(path(), undefined, {
      help: "File whose first line is the token",
      group: "Security",
    }),
  },
} as const;

/** What the daemon's settings are, for the command line, the configuration file and documentation. */
export const daemonSettings: OptionsSchema<ResolvedNeighSyncSettings> = options(DAEMON);
/** What a monitor's settings are, for the command line and documentation. */
export const monitorSettings: OptionsSchema<ResolvedNetlinkSettings> = options(NETLINK);

/**
 * Checks and completes settings of the daemon.
 *
 * @throws {TypeError} For unknown keys, wrong shapes, and settings that exclude each other.
 * @throws {RangeError} For values out of range. @throws {SyntaxError} For text that cannot be read.
 */
export function resolveNeighSyncSettings(
  settings: NeighSyncSettings = {},
): ResolvedNeighSyncSettings {
  const resolved = resolve(daemonSettings, settings, "neighsync options");
  const { url, sentinels, cluster, schema } = resolved.redis;
  const ways = [url !== undefined, sentinels.length > 0, cluster.length > 0].filter(Boolean);
  if (ways.length > 1) {
    throw new TypeError(
      "Cannot resolve neighsync options: a Redis URL, sentinels and cluster nodes exclude each other, expected one of them",
    );
  }
  if (cluster.length > 0 && schema !== "plain") {
    throw new TypeError(
      'Cannot resolve neighsync options: changes cannot be staged in a cluster, expected the schema "plain"',
    );
  }
  parseListen(resolved.metrics.listen);
  return resolved;
}

/**
 * Checks and completes settings of a monitor.
 *
 * @throws {TypeError} For unknown keys and wrong shapes. @throws {RangeError} For values out of range.
 */
export function resolveMonitorSettings(settings: MonitorSettings = {}): ResolvedNetlinkSettings {
  return resolve(monitorSettings, settings, "neighbor monitor options");
}

/** Where something listens. */
export type ListenAddress =
  | { readonly kind: "tcp"; readonly host: string; readonly port: number }
  | { readonly kind: "unix"; readonly path: string };

/**
 * Reads `HOST:PORT`, `:PORT`, `unix:PATH` or `off`.
 *
 * @returns The address; undefined for `off`.
 * @throws {SyntaxError} For anything else.
 */
export function parseListen(word: string): ListenAddress | undefined {
  if (word === "off") return undefined;
  if (word.startsWith("unix:") && word.length > 5) return { kind: "unix", path: word.slice(5) };
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]\s]*)):(\d{1,5})$/.exec(word);
  const port = Number(match?.[3] ?? -1);
  if (match === null || port > 65535) {
    throw new SyntaxError(
      `Cannot listen on ${JSON.stringify(word)}: expected HOST:PORT, unix:PATH or off`,
    );
  }
  return { kind: "tcp", host: match[1] ?? match[2] ?? "", port };
}
