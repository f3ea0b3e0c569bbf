/**
 * The command `client`: one test, told second by second.
 *
 * @module
 */
import type { CommandInput } from "../internal/cli/command.ts";
import { environmentName } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { InterruptedError } from "../internal/cli/run.ts";
import type { EndReason, TestInterval } from "./api_types.ts";
import { joinFlags, type PasswordSources, readPassword, readTarget } from "./cli_words.ts";
import { run } from "./client.ts";
import { CsvLog, INTERVAL_COLUMNS, intervalRow, RESULT_COLUMNS, resultRow } from "./csv_log.ts";
import {
  endObject,
  intervalObject,
  intervalText,
  startObject,
  summaryText,
  tableHead,
  tableText,
  Totals,
  waysOf,
} from "./report.ts";
import type { ResolvedClientOptions } from "./settings.ts";

/** The client's own flags. */
export interface ClientFlags extends Omit<PasswordSources, "password"> {
  readonly transmit: boolean;
  readonly receive: boolean;
  readonly udp: boolean;
  readonly seconds: number | undefined;
  readonly bandwidth: number | undefined;
  readonly port: number | undefined;
  readonly interval: number;
  readonly csv: string | undefined;
  readonly csvIntervals: string | undefined;
}

/** Runs a test and tells of it. Answers the exit code. */
export async function runClient(
  { operands, options, flags, given, common, terminal, signal }: CommandInput<
    ResolvedClientOptions,
    ClientFlags
  >,
): Promise<number> {
  const { host, port, target } = readTarget(operands[0]!, flags.port);
  const joined = joinFlags(options, given, flags);
  const sources = { ...flags, password: options.password };
  const password = readPassword(
    sources,
    terminal,
    environmentName("btest", "password"),
    options.user,
  );
  const { direction, protocol } = joined;
  const test = { host, port, protocol, direction };
  const ways = waysOf(direction, "client");
  const asTable = terminal.stdout.isTerminal && !common.json;
  const totals = new Totals();
  let several = new Totals();
  let collected = 0;

  const tell = (): void => {
    if (collected === 0) return;
    const interval = several.merged();
    several = new Totals();
    collected = 0;
    if (common.json) terminal.stdout.write(jsonLine(intervalObject(interval)));
    else if (!common.quiet) {
      const text = asTable ? tableText : intervalText;
      terminal.stdout.write(text(interval, ways, protocol));
    }
  };
  const results = flags.csv === undefined ? undefined : new CsvLog(flags.csv, RESULT_COLUMNS);
  let seconds: CsvLog | undefined;
  // What goes wrong inside a callback is kept: it must not be thrown into the data.
  let failure: unknown;
  const stop = new AbortController();
  const guarded = (action: () => void): void => {
    if (failure !== undefined) return;
    try {
      action();
    } catch (error) {
      failure = error;
      stop.abort(error);
    }
  };
  try {
    if (flags.csvIntervals !== undefined) {
      seconds = new CsvLog(flags.csvIntervals, INTERVAL_COLUMNS);
    }
    const result = await run(target, {
      ...joined,
      password,
      signal: AbortSignal.any([signal, stop.signal]),
      onStart: (connections) =>
        guarded(() => {
          if (common.json) {
            terminal.stdout.write(jsonLine({ ...startObject(test, Date.now()), connections }));
          } else if (asTable && !common.quiet) {
            terminal.stdout.write(tableHead(ways, protocol));
          }
        }),
      onInterval: (interval: TestInterval) =>
        guarded(() => {
          totals.add(interval);
          several.add(interval);
          seconds?.append(intervalRow(test, interval, "client", Date.now()));
          if (++collected >= flags.interval) tell();
        }),
    });
    if (failure !== undefined) throw failure;
    tell();
    results?.append(resultRow(test, result, "client", Date.now()));
    if (common.json) terminal.stdout.write(jsonLine(endObject(result)));
    else terminal.stdout.write(summaryText(result, totals, ways, protocol));
    // A test without an end is ended by a signal; one that should have gone on was cut short.
    if (signal.aborted && joined.durationMs > 0) return signalCode(signal.reason);
    return EXIT_CODES[result.reason];
  } finally {
    results?.close();
    seconds?.close();
  }
}

function signalCode(reason: unknown): number {
  return reason instanceof InterruptedError && reason.signal === "SIGTERM" ? 143 : 130;
}

const EXIT_CODES: Readonly<Record<EndReason, number>> = {
  "duration": 0,
  "stopped": 0,
  "peer-closed": 1,
  "shutdown": 1,
  "control-timeout": 6,
  "idle": 6,
  "quota": 10,
};
