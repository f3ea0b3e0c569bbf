/**
 * The command `run`: the daemon with its signals, its service manager and its measurements.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import process from "node:process";
import { openNetlinkHost, openServiceNotifier, releaseMemory } from "../ffi/mod.ts";
import type { CommandInput } from "../internal/cli/command.ts";
import { configureLogging } from "../internal/cli/logging.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { onSignals } from "../internal/cli/terminal.ts";
import { IdleMemory } from "../internal/idle_memory.ts";
import { logger } from "../internal/log.ts";
import { loadRedis } from "../internal/redis_wire.ts";
import { settingsOf } from "./cli_settings.ts";
import { formatConfig, type LoadedSettings, snakeCase } from "./config_file.ts";
import { NeighSync } from "./daemon.ts";
import { firstLine } from "./databases.ts";
import { type HealthServer, serveHealth } from "./rest.ts";
import { servedBy } from "./served.ts";
import { ServiceReports } from "./service.ts";
import { explicitNames } from "./tuner.ts";
import type { ResolvedNeighSyncSettings, ResolvedPerformanceSettings } from "./settings.ts";

const log = logger("neighsync", "daemon");

/** What `run` has besides the settings. */
export interface RunFlags {
  /** The configuration file. */
  readonly config: string | undefined;
  /** Print the settings in force and end. */
  readonly printConfig: boolean;
}

type RunInput = CommandInput<ResolvedNeighSyncSettings, RunFlags>;

/** Runs the daemon until a signal ends it. */
export async function runDaemon(input: RunInput): Promise<number> {
  const { options, given, flags, common, terminal, signal, verbosity } = input;
  const loaded = await settingsOf(options, given, flags.config, terminal);
  if (flags.printConfig) {
    terminal.stdout.write(formatConfig(loaded));
    return 0;
  }
  const { settings } = loaded;
  const configure = async ({ logging }: ResolvedNeighSyncSettings): Promise<void> => {
    const logLevel = common.logLevel ?? (verbosity > 0 ? undefined : logging.level);
    const logFormat = common.logFormat === "human" ? logging.format ?? "human" : common.logFormat;
    await configureLogging(terminal, { ...common, logLevel, logFormat }, verbosity, "info");
  };
  await configure(settings);
  for (const file of loaded.files) log.info("configured by {file}", { file });
  // What has to be loaded from files is there by the time the daemon begins.
  const [host, notifier] = await Promise.all([
    openNetlinkHost({ driver: settings.netlink.driver }),
    openServiceNotifier(),
    settings.redis.cluster.length > 0 ? undefined : loadRedis(),
  ]);
  const performance = withoutDefaults(loaded);
  const sync = new NeighSync({ ...settings, performance, signal, host });
  const reports = new ServiceReports(sync, notifier);
  const say = (event: object, words: string): void =>
    terminal.stderr.write(common.json ? jsonLine(event) : `${words}\n`);
  const reload = async (): Promise<void> => {
    reports.reloading();
    try {
      const again = await settingsOf(options, given, flags.config, terminal);
      const { settings: next } = again;
      await configure(next);
      sync.reload(next, explicitNames(withoutDefaults(again)));
      log.info("the configuration was read again", { event: "neighsync.reloaded" });
      const asleep = fixedChanges(settings, next);
      if (asleep.length > 0) {
        log.warn("a restart is needed for {names}", { names: asleep.join(", ") });
      }
    } catch (error) {
      // The daemon goes on as it was: a slip in a file is no reason to stop.
      log.error("the configuration was not read again: {error}", { error });
    }
    reports.ready();
  };
  let idle: IdleMemory | undefined;
  const forget = onSignals(["SIGHUP", "SIGUSR1"], (name) => {
    if (name === "SIGHUP") void reload();
    else log.info("state {state}", { event: "neighsync.state", state: sync.snapshot() });
  });
  try {
    const metrics = settings.metrics.listen === "off"
      ? undefined
      : await openMetrics(sync, settings);
    if (metrics !== undefined) {
      say(
        { type: "listening", protocol: "http", address: metrics.address },
        `listening http ${metrics.address}`,
      );
    }
    try {
      reports.begin();
      await sync.start();
      if (!signal.aborted) {
        reports.ready();
        const { published, firstSyncMs, lease, kernel } = sync.snapshot();
        const elapsedMs = Math.round(firstSyncMs);
        if (lease.role === "standby") {
          const { ipv4, ipv6 } = kernel.tableSize;
          const { holder } = lease;
          say(
            { type: "standby", neighbors: ipv4 + ipv6, holder },
            `standby ${ipv4 + ipv6} neighbours known, ${holder} writes`,
          );
        } else {
          say(
            { type: "ready", neighbors: published, elapsedMs },
            `ready ${published} neighbours in ${elapsedMs} ms`,
          );
        }
        idle = new IdleMemory({
          work: () => sync.snapshot().neighborsProcessed,
          resident: () => process.memoryUsage.rss(),
          release: releaseMemory,
        });
        await new Promise<void>((resolve) => {
          if (signal.aborted) resolve();
          else signal.addEventListener("abort", () => resolve(), { once: true });
        });
      }
      reports.stopping();
      await sync.close();
    } finally {
      await metrics?.close();
    }
  } finally {
    forget();
    idle?.close();
    reports.close();
    await sync.close();
    await host.close();
  }
  return 0;
}

/** What somebody has written down about batches: the tuner leaves that alone, be it the value of the default. */
function withoutDefaults(
  { settings, sources }: LoadedSettings,
): Partial<ResolvedPerformanceSettings> {
  return Object.fromEntries(
    Object.entries(settings.performance).filter(([name]) =>
      sources.get(`performance.${snakeCase(name)}`) !== "default"
    ),
  );
}

/** Names of settings that differ and cannot be changed while it runs. */
function fixedChanges(now: ResolvedNeighSyncSettings, next: ResolvedNeighSyncSettings): string[] {
  const names: string[] = [];
  for (const [section, group] of Object.entries(now)) {
    for (const [key, value] of Object.entries(group)) {
      const other = Reflect.get(Reflect.get(next, section), key);
      if (RELOADED.has(`${section}.${key}`) || RELOADED.has(section)) continue;
      if (JSON.stringify(value) !== JSON.stringify(other)) names.push(`${section}.${key}`);
    }
  }
  return names;
}

const RELOADED: ReadonlySet<string> = new Set([
  "logging",
  "advanced",
  "netlink.include",
  "netlink.exclude",
  "performance.batchSize",
  "performance.batchTimeoutMs",
  "performance.maxBatch",
  "performance.lingerMs",
  "performance.autoTune",
]);

async function openMetrics(
  sync: NeighSync,
  { metrics, security }: ResolvedNeighSyncSettings,
): Promise<HealthServer> {
  const token = security.tokenFile === undefined
    ? security.token
    : firstLine(await readFile(security.tokenFile, "utf8"));
  return await serveHealth(servedBy(sync), {
    listen: metrics.listen,
    metricsPrefix: metrics.prefix,
    ...(token === undefined ? {} : { token }),
  });
}
