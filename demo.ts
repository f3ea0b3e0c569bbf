/**
 * `fastwire demo`: every library at work, on loopback, with everything it moves checked. Each library brings its rows;
 * this file runs them, prints the table and decides the exit code.
 *
 * @module
 */
import { command, type Tool } from "./internal/cli/command.ts";
import { durationText, jsonLine, table } from "./internal/cli/output.ts";
import { runTool } from "./internal/cli/run.ts";
import { processTerminal, type Terminal } from "./internal/cli/terminal.ts";
import { integer, option, options } from "./internal/schema.ts";

/** One line of the table: a job that was done and checked, or one that was not done and why. */
export type DemoRow = DemoResult | DemoSkip;

/** A job that was done. */
export interface DemoResult {
  /** What was done, in a few words. */
  readonly what: string;
  /** The driver that did it, or the two ends of it. */
  readonly driver: string;
  /** Payload bytes that were moved. */
  readonly bytes: number;
  /** How long that took, milliseconds; checking is not included. */
  readonly durationMs: number;
  /** Whether everything that arrived is what was sent. */
  readonly verified: boolean;
}

/** A job that was not done. */
export interface DemoSkip {
  readonly what: string;
  /** Why not, one sentence. */
  readonly skipped: string;
}

/** What a library's demonstration is given. */
export interface DemoInput {
  /** Size of the largest file, bytes. */
  readonly largestBytes: number;
  /** Aborted by a signal: stop, leave nothing behind. */
  readonly signal: AbortSignal;
}

/** A library's part: rows as they come. Frees everything it holds when it ends, and when it is ended early. */
export type DemoPart = (input: DemoInput) => AsyncGenerator<DemoRow, void>;

/** The parts by library, in the order they run; each is loaded when its turn comes. */
const PARTS: Readonly<Record<string, () => Promise<DemoPart>>> = {
  tftp: async () => (await import("./tftp_demo.ts")).tftpDemo,
  btest: async () => (await import("./btest_demo.ts")).btestDemo,
  proxy: async () => (await import("./proxy_demo.ts")).proxyDemo,
  neighsync: async () => (await import("./neighsync_demo.ts")).neighsyncDemo,
};

/** Verification failed. */
const EXIT_MISMATCH = 9;

/**
 * Runs the parts one after the other and prints a line for each row, or one JSON object a line.
 *
 * @param parts What runs, by library.
 * @returns 0 when everything that was done was verified, 9 when something was not or nothing was done.
 */
export async function demonstrate(
  parts: Readonly<Record<string, () => Promise<DemoPart>>>,
  input: DemoInput,
  terminal: Terminal,
  json: boolean,
): Promise<number> {
  const startedAt = performance.now();
  const rows: { readonly library: string; readonly row: DemoRow }[] = [];
  for (const [library, load] of Object.entries(parts)) {
    const part = await load();
    for await (const row of part(input)) {
      rows.push({ library, row });
      if (json) terminal.stdout.write(jsonLine(rowObject(library, row)));
      else if (terminal.stderr.isTerminal) terminal.stderr.write(`${library}: ${row.what}\n`);
    }
  }
  const results = rows.flatMap(({ row }) => "verified" in row ? [row] : []);
  const wrong = results.filter(({ verified }) => !verified);
  const durationMs = performance.now() - startedAt;
  const verified = results.length - wrong.length;
  if (json) {
    terminal.stdout.write(jsonLine({
      type: "sum",
      verified,
      mismatched: wrong.length,
      skipped: rows.length - results.length,
      durationMs: Math.round(durationMs),
    }));
  } else {
    terminal.stdout.write(rowsTable(rows));
    terminal.stdout.write(
      `\n${verified} verified, ${wrong.length} mismatched, ` +
        `${rows.length - results.length} skipped, in ${durationText(durationMs)}\n`,
    );
  }
  return wrong.length === 0 && results.length > 0 ? 0 : EXIT_MISMATCH;
}

const demo = command({
  name: "demo",
  brief: "Show every library at work, on loopback",
  options: options({
    largestBytes: option(integer(1, 1_000_000_000), 100_000_000, {
      help: "Size of the largest file; the portable driver moves a tenth of it",
      placeholder: "BYTES",
    }),
  }),
  examples: [
    ["", "a tour of under 30 seconds"],
    ["--json", "the same for programs: one object a row"],
    ["--largest-bytes 1000000", "a short one"],
  ],
  exits: [0, 1, 2, EXIT_MISMATCH, 130, 143],
  run: ({ options, common, terminal, signal }) =>
    demonstrate(PARTS, { largestBytes: options.largestBytes, signal }, terminal, common.json),
});

const tool: Tool = { name: "", brief: "Show every library at work", commands: [demo] };

/**
 * Runs the demonstration as a command.
 *
 * @param args Words behind `fastwire demo`.
 * @returns The exit code.
 */
export function main(
  args: readonly string[],
  terminal: Terminal = processTerminal(),
): Promise<number> {
  return runTool(tool, ["demo", ...args], terminal);
}

function rowObject(library: string, row: DemoRow): object {
  if ("skipped" in row) return { type: "row", library, ...row };
  const bytesPerSecond = Math.round(row.bytes * 1000 / Math.max(row.durationMs, 0.001));
  return { type: "row", library, ...row, bytesPerSecond };
}

function rowsTable(rows: readonly { readonly library: string; readonly row: DemoRow }[]): string {
  return table(
    [
      ["library", "left"],
      ["what", "left"],
      ["driver", "left"],
      ["bytes", "right"],
      [
        "time",
        "right",
      ],
      ["MB/s", "right"],
      ["verified", "left"],
    ],
    rows.map(({ library, row }) => {
      if ("skipped" in row) return [library, row.what, "", "", "", "", `skipped: ${row.skipped}`];
      const { what, driver, bytes, durationMs, verified } = row;
      const rate = (bytes / 1000 / Math.max(durationMs, 0.001)).toFixed(1);
      const cells = [
        library,
        what,
        driver,
        bytes.toLocaleString("en-US"),
        durationText(durationMs),
        rate,
      ];
      return [...cells, verified ? "yes" : "NO"];
    }),
  );
}
