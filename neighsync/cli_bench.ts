/**
 * The command `bench`: what the daemon achieves here, measured and verified.
 *
 * @module
 */

import { type CommandInput, UsageError } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { runBenchmark } from "./bench.ts";
import { BENCH_MODES, type BenchMode, reportObject, reportText } from "./bench_report.ts";
import { settingsOf } from "./cli_settings.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";

/** What `bench` has besides the settings. */
export interface BenchFlags {
  /** The configuration file. */
  readonly config: string | undefined;
  /** Neighbours, entries or rows. */
  readonly neighbors: number;
  /** Changes a second. */
  readonly rate: number;
  /** Seconds. */
  readonly duration: number;
  /** Changes at once. */
  readonly events: number;
  /** Compare with one entry after the other. */
  readonly baseline: boolean;
  /** Measure in a table that has entries. */
  readonly useExistingTable: boolean;
}

/** The interface's name where none is needed. */
const NO_INTERFACE = "bench0";

/** Measures once and prints. */
export async function runBench(
  { operands, options, given, flags, common, terminal, signal }: CommandInput<
    ResolvedNeighSyncSettings,
    BenchFlags
  >,
): Promise<number> {
  const mode = BENCH_MODES.find((name) => name === operands[0]);
  if (mode === undefined) {
    throw new UsageError(
      `Cannot measure ${JSON.stringify(operands[0])}: expected one of ${BENCH_MODES.join(", ")}`,
      "bench parse needs no privilege and no Redis",
    );
  }
  const { settings } = await settingsOf(options, given, flags.config, terminal);
  const { neighbors, rate, duration: seconds, events, baseline, useExistingTable } = flags;
  const ifname = interfaceOf(mode, settings);
  if (!common.json && !common.quiet) terminal.stderr.write(`measuring ${mode}\n`);
  const report = await runBenchmark({
    mode,
    settings,
    ifname,
    neighbors,
    rate,
    seconds,
    events,
    baseline,
    useExistingTable,
    signal,
  });
  terminal.stdout.write(common.json ? jsonLine(reportObject(report)) : reportText(report));
  return 0;
}

function interfaceOf(mode: BenchMode, { netlink }: ResolvedNeighSyncSettings): string {
  if (mode === "parse" || mode === "redis") return NO_INTERFACE;
  const [name] = netlink.include;
  if (netlink.include.length === 1 && !/[*?]/.test(name!)) return name!;
  throw new UsageError(
    `Cannot measure ${mode}: neighbours have to be made somewhere, expected one interface`,
    `bench ${mode} --interface bench0, best in a network namespace of its own`,
  );
}
