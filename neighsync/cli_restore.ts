/**
 * The command `restore`: the published table back into the kernel.
 *
 * @module
 */

import type { CommandInput } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { settingsOf } from "./cli_settings.ts";
import { openDatabases } from "./databases.ts";
import { restoreNeighbors, type RestoreResult } from "./restore.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";

/** What `restore` has besides the settings. */
export interface RestoreFlags {
  /** The configuration file. */
  readonly config: string | undefined;
  /** Longest wait for interfaces, seconds. */
  readonly timeout: number;
  /** Say what would be done only. */
  readonly dryRun: boolean;
  /** Restore without a warm restart, too. */
  readonly always: boolean;
  /** Ask restored neighbours to show themselves. */
  readonly probe: boolean;
}

/** Restores once. A time-out is a warning: whatever could be restored was, and the daemon goes on. */
export async function runRestore(
  { options, given, flags, common, terminal, signal }: CommandInput<
    ResolvedNeighSyncSettings,
    RestoreFlags
  >,
): Promise<number> {
  const { settings } = await settingsOf(options, given, flags.config, terminal);
  const databases = await openDatabases(settings);
  try {
    const { sink, warm } = databases;
    if (warm === undefined) {
      throw new TypeError("Cannot restore from a cluster: it has no warm-restart tables");
    }
    await sink.whenConnected({ signal, attempts: 2 });
    const { namespace } = settings.netlink;
    const { timeout, dryRun, always, probe } = flags;
    const result = await restoreNeighbors({
      sink,
      store: warm,
      timeoutMs: timeout * 1000,
      dryRun,
      always,
      probe,
      signal,
      ...(namespace === undefined ? {} : { namespace }),
    });
    if (common.json) terminal.stdout.write(jsonLine({ type: "restore", ...result }));
    else if (!common.quiet) terminal.stderr.write(`${words(result)}\n`);
    return 0;
  } finally {
    await databases.close();
  }
}

function words(result: RestoreResult): string {
  const { outcome, entries, interfaces, written, existing, failed, skipped, probes, waiting } =
    result;
  if (outcome === "nothing-to-do") return "nothing to restore: no warm restart is enabled";
  if (outcome === "flagged") return "nothing to restore: only the container restarts";
  if (outcome === "planned") {
    return `would restore ${entries} neighbours on ${interfaces} interfaces`;
  }
  const lines = [
    `restored ${written} neighbours in ${
      Math.round(result.elapsedMs)
    } ms, ${existing} were there, ` +
    `${failed} refused, ${skipped} left out, ${probes} asked for`,
  ];
  if (result.probeRefusal !== "") lines.push(`not asked for: ${result.probeRefusal}`);
  if (waiting.length > 0) lines.push(`never ready: ${waiting.join(", ")}`);
  return lines.join("\n");
}
