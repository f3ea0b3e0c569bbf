/**
 * The command `dump`: the kernel's table, or how the published one differs from it.
 *
 * @module
 */

import type { CommandInput } from "../internal/cli/command.ts";
import { jsonLine, table } from "../internal/cli/output.ts";
import { settingsOf } from "./cli_settings.ts";
import { dumpNeighbors } from "./dump.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";
import type { StoredNeighbor } from "./sink.ts";

/** What `dump` has besides the settings. */
export interface DumpFlags {
  /** The configuration file. */
  readonly config: string | undefined;
  /** Only neighbours in these states; all when empty. */
  readonly state: readonly string[];
  /** Compare with what is published. */
  readonly redisDiff: boolean;
}

const EXIT_DIFFERENT = 9;

/** Prints once. */
export async function runDump(
  { options, given, flags, common, terminal, signal }: CommandInput<
    ResolvedNeighSyncSettings,
    DumpFlags
  >,
): Promise<number> {
  const { settings } = await settingsOf(options, given, flags.config, terminal);
  const { stdout } = terminal;
  if (flags.redisDiff) {
    const { findDifferences } = await import("./difference.ts");
    const differences = await findDifferences(settings, signal);
    for (const difference of differences) {
      const { key, expected, found } = difference;
      stdout.write(
        common.json
          ? jsonLine(difference)
          : `${key} ${stored(found)}, expected ${stored(expected)}\n`,
      );
    }
    if (!common.json && !common.quiet) {
      terminal.stderr.write(`${differences.length} differences\n`);
    }
    return differences.length === 0 ? 0 : EXIT_DIFFERENT;
  }
  const neighbors = (await dumpNeighbors({ ...settings.netlink, signal }))
    .filter(({ state }) => flags.state.length === 0 || flags.state.includes(state));
  if (common.json) {
    for (const neighbor of neighbors) stdout.write(jsonLine(neighbor));
    return 0;
  }
  const columns = ["interface", "address", "mac", "state", "master"] as const;
  stdout.write(table(
    columns.map((title) => [title, "left"]),
    neighbors.map(({ ifname, ip, mac, state, master }) => [
      ifname,
      ip,
      mac ?? "-",
      state,
      master ?? "",
    ]),
  ));
  return 0;
}

function stored(neighbor: StoredNeighbor | null): string {
  return neighbor === null ? "nothing" : `${neighbor.mac} ${neighbor.family}`;
}
