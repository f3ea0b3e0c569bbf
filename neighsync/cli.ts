/**
 * The neighbour synchroniser's command line: words to options, the public API, the result in words.
 *
 * @module
 */

import { command, type Tool } from "../internal/cli/command.ts";
import { runTool } from "../internal/cli/run.ts";
import { boolean, choice, integer, list, option, options } from "../internal/schema.ts";
import { CONFIG } from "./cli_settings.ts";
import { daemonSettings, monitorSettings } from "./options.ts";

const EXITS = [0, 1, 2, 3, 4, 6, 8, 130, 143] as const;
const STATES = [
  "none",
  "incomplete",
  "reachable",
  "stale",
  "delay",
  "probe",
  "failed",
  "noarp",
  "permanent",
] as const;

const STATE = {
  state: option(list(choice(STATES)), [], {
    help: "Only neighbours in this state",
    placeholder: "STATE",
    group: "Output",
  }),
} as const;

const run = command({
  name: "run",
  brief: "Keep the table in Redis equal to the kernel's",
  options: daemonSettings,
  flags: options({
    ...CONFIG,
    printConfig: option(boolean(), false, {
      help: "Print the settings in force, each with its source, and end",
      group: "Configuration",
    }),
  }),
  examples: [
    ["--redis unix:/var/run/redis/redis.sock", "as a switch does"],
    ["--redis 127.0.0.1:6379 --schema plain --exclude lo", "final hashes, for other programs"],
    ["--config /etc/fastwire/neighsync.toml", "settings from a file"],
  ],
  exits: EXITS,
  logLevel: "info",
  run: async (input) => await (await import("./cli_run.ts")).runDaemon(input),
});

const monitor = command({
  name: "monitor",
  brief: "Print neighbours and what changes, without Redis",
  options: monitorSettings,
  flags: options({
    ...STATE,
    timestamps: option(boolean(), false, { help: "Begin lines with the time", group: "Output" }),
    changes: option(boolean(), false, {
      help: "Print what changes only, not what there is at the start",
      group: "Output",
    }),
  }),
  examples: [
    ["", "a line for each change"],
    ["--json --interface 'Ethernet*'", "one object for each change, of some interfaces"],
  ],
  exits: EXITS,
  run: async (input) => await (await import("./cli_monitor.ts")).runMonitor(input),
});

const dump = command({
  name: "dump",
  brief: "Print the kernel's neighbours once, or how Redis differs",
  options: daemonSettings,
  flags: options({
    ...CONFIG,
    ...STATE,
    redisDiff: option(boolean(), false, {
      help: "Print what differs between kernel and Redis; exit code 9 if anything does",
      group: "Output",
    }),
  }),
  examples: [
    ["", "a table"],
    ["--json --family ipv6", "one object a line"],
    ["--redis-diff --redis unix:/var/run/redis/redis.sock", "compare with what is published"],
  ],
  exits: [...EXITS, 9],
  run: async (input) => await (await import("./cli_dump.ts")).runDump(input),
});

const restore = command({
  name: "restore",
  brief: "Put the published table back into the kernel, after a warm restart",
  options: daemonSettings,
  flags: options({
    ...CONFIG,
    timeout: option(integer(0, 86_400), 110, {
      help: "Seconds after which interfaces that are not ready are given up",
      placeholder: "SECS",
      group: "Restoring",
    }),
    dryRun: option(boolean(), false, {
      help: "Say what would be restored, and touch nothing",
      group: "Restoring",
    }),
    always: option(boolean(), false, {
      help: "Restore whatever the warm-restart tables say, and leave them alone",
      group: "Restoring",
    }),
    probe: option(boolean(), true, {
      help: "Ask restored neighbours to show themselves",
      group: "Restoring",
    }),
  }),
  examples: [
    ["", "what a switch does before it starts the daemon"],
    ["--dry-run --always", "look what would be written"],
  ],
  exits: EXITS,
  run: async (input) => await (await import("./cli_restore.ts")).runRestore(input),
});

const bench = command({
  name: "bench",
  brief: "Measure what it achieves here, with a real kernel and Redis",
  operands: [{ name: "mode", help: "warm-restart, sustained, burst, parse or redis" }],
  options: daemonSettings,
  flags: options({
    ...CONFIG,
    neighbors: option(integer(1, 131_072), 10_000, {
      help: "Neighbours of warm-restart, entries of redis, rows of parse",
      placeholder: "N",
      group: "Measuring",
    }),
    rate: option(integer(1, 1_000_000), 1000, {
      help: "Changes a second of sustained",
      placeholder: "N",
      group: "Measuring",
    }),
    duration: option(integer(1, 86_400), 60, {
      help: "Seconds of sustained",
      placeholder: "SECS",
      group: "Measuring",
    }),
    events: option(integer(1, 131_072), 5000, {
      help: "Changes at once of burst",
      placeholder: "N",
      group: "Measuring",
    }),
    baseline: option(boolean(), true, {
      help: "Measure one entry after the other, too, to compare with",
      group: "Measuring",
    }),
    useExistingTable: option(boolean(), false, {
      help: "Add to a table that has entries, and remove what was added",
      group: "Measuring",
    }),
  }),
  examples: [
    ["burst --events 5000 --interface bench0 --redis 127.0.0.1:6390", "5,000 changes at once"],
    [
      "sustained --rate 1000 --duration 60 --interface bench0 --redis 127.0.0.1:6390",
      "latency and CPU under load",
    ],
    ["parse", "the codec alone: needs no privilege and no Redis"],
  ],
  exits: [0, 1, 2, 3, 4, 8, 130, 143],
  run: async (input) => await (await import("./cli_bench.ts")).runBench(input),
});

const config = command({
  name: "config",
  brief: "Check the configuration, or print its schema",
  operands: [{ name: "action", help: "check or schema" }],
  options: daemonSettings,
  flags: options(CONFIG),
  examples: [
    ["check --config neighsync.toml", "say what is wrong with a file"],
    ["schema", "JSON Schema, for editors"],
  ],
  exits: [0, 2, 3],
  run: async (input) => await (await import("./cli_config.ts")).runConfig(input),
});

/** The tool, for the umbrella command and for completions. */
export const tool: Tool = {
  name: "neighsync",
  brief: "The kernel's neighbour tables, watched and kept in Redis",
  commands: [run, monitor, dump, restore, bench, config],
  rewrite: benchmarkFirst,
};

/** `--benchmark MODE` is `bench MODE`, as it was called before. */
function benchmarkFirst(words: readonly string[]): readonly string[] {
  const at = words.findIndex((word) => /^--benchmark(?:=|$)/.test(word));
  if (at < 0) return words;
  const [, value] = words[at]!.split("=", 2);
  const mode = value ?? words[at + 1];
  const rest = [...words.slice(0, at), ...words.slice(at + (value === undefined ? 2 : 1))];
  return ["bench", ...(mode === undefined ? [] : [mode]), ...rest];
}

/**
 * Runs the tool.
 *
 * @param args Words; the process's own when left out, and then the exit code is set too.
 * @returns The exit code.
 */
export function main(args?: string[]): Promise<number> {
  return runTool(tool, args);
}
