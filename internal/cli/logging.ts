/**
 * LogTape for the tools: lines on stderr, for people, programs or a syslog collector.
 *
 * @module
 */

import { configure, getConfig, type LogRecord } from "@logtape/logtape";
import type { CommonOptions } from "./command.ts";
import { mayColor, type Terminal } from "./terminal.ts";

const LEVELS = ["error", "warning", "info", "debug", "trace"] as const;

/**
 * Sends what the package logs to stderr.
 *
 * @param verbosity How often `-v` was given: once is info, twice debug, three times trace.
 * @param level The command's own level, when neither `--log-level`, `-q` nor `-v` is given.
 */
export async function configureLogging(
  terminal: Terminal,
  common: CommonOptions,
  verbosity: number,
  level: NonNullable<CommonOptions["logLevel"]>,
): Promise<void> {
  const lowestLevel = levelOfFlags(common, verbosity) ?? level;
  const format = formatOf(terminal, common);
  await configure({
    reset: true, // one process may run several commands, as tests do
    sinks: { stderr: (record: LogRecord) => terminal.stderr.write(format(record)) },
    loggers: [
      { category: ["fastwire"], lowestLevel, sinks: ["stderr"] },
      { category: ["logtape", "meta"], lowestLevel: "error", sinks: ["stderr"] },
    ],
  });
}

/** What a configuration file says about logging. */
export interface LogSettings {
  /** The least severe level, unless the command line names one; `null` logs nothing. */
  readonly level: LogRecord["level"] | null;
  /** Takes lines instead of stderr. */
  readonly write: ((line: string) => void) | undefined;
  /** Whether lines for people begin with the time. */
  readonly timestamps: boolean;
}

/** Logs as a configuration file says, once it was read. What the command line says goes before it. */
export async function adjustLogging(
  terminal: Terminal,
  common: CommonOptions,
  verbosity: number,
  settings: LogSettings,
): Promise<void> {
  const now = getConfig();
  if (now === null) return;
  const format = formatOf(terminal, common, settings);
  const write = settings.write ?? ((line: string) => terminal.stderr.write(line));
  const lowestLevel = levelOfFlags(common, verbosity) ?? settings.level;
  await configure({
    ...now,
    reset: true,
    sinks: { ...now.sinks, stderr: (record: LogRecord) => write(format(record)) },
    loggers: now.loggers.map((each) =>
      each.category[0] === "fastwire" ? { ...each, lowestLevel } : each
    ),
  });
}

/**
 * Shows what is logged to somebody else as well, as far as it is logged at all.
 *
 * @returns Stops that.
 */
export async function tapLogging(sink: (record: LogRecord) => void): Promise<() => Promise<void>> {
  const before = getConfig();
  if (before === null) return () => Promise.resolve();
  await configure({
    ...before,
    reset: true,
    sinks: { ...before.sinks, tap: sink },
    loggers: before.loggers.map((each) => ({ ...each, sinks: [...each.sinks ?? [], "tap"] })),
  });
  return async () => {
    const now = getConfig();
    if (now === null) return;
    const { tap: _tap, ...sinks } = now.sinks;
    const loggers = now.loggers.map((each) => ({
      ...each,
      sinks: each.sinks?.filter((name) => name !== "tap") ?? [],
    }));
    await configure({ ...now, reset: true, sinks, loggers });
  };
}

function levelOfFlags(
  { logLevel, quiet }: CommonOptions,
  verbosity: number,
): NonNullable<CommonOptions["logLevel"]> | undefined {
  if (logLevel !== undefined) return logLevel;
  if (verbosity > 0) return LEVELS[Math.min(4, verbosity + 1)]!;
  return quiet ? "error" : undefined;
}

function formatOf(
  terminal: Terminal,
  { logFormat, color }: CommonOptions,
  settings?: LogSettings,
): (record: LogRecord) => string {
  if (logFormat === "json") return jsonRecord;
  if (logFormat === "syslog") return syslogRecord;
  const colors = settings?.write === undefined && mayColor(terminal, terminal.stderr, color);
  // The time takes twelve characters, and a space.
  const start = settings?.timestamps === false ? 13 : 0;
  return (record) => humanRecord(record, colors).slice(start);
}

/** `12:34:56.789 warning tftp.server  message`. */
export function humanRecord(record: LogRecord, color: boolean): string {
  const time = new Date(record.timestamp).toISOString().slice(11, 23);
  const level = color ? `\x1b[${COLORS[record.level]}m${record.level}\x1b[0m` : record.level;
  return `${time} ${level} ${record.category.slice(1).join(".")}: ${messageText(record)}\n`;
}

/** One JSON object a line; the record's properties beside the fixed names. */
export function jsonRecord(record: LogRecord): string {
  return JSON.stringify({
    ...record.properties,
    time: new Date(record.timestamp).toISOString(),
    level: record.level,
    category: record.category.join("."),
    message: messageText(record),
  }, (_key, value: unknown) => typeof value === "bigint" ? value.toString() : value) + "\n";
}

/** RFC 5424 §6 without structured data: facility daemon (3), no host name, no process id. */
export function syslogRecord(record: LogRecord): string {
  const priority = 3 * 8 + SEVERITIES[record.level];
  const time = new Date(record.timestamp).toISOString();
  const event = typeof record.properties["event"] === "string" ? record.properties["event"] : "-";
  return `<${priority}>1 ${time} - fastwire - ${event} - ${messageText(record)}\n`;
}

function messageText(record: LogRecord): string {
  const text = record.message.map((part) => typeof part === "string" ? part : shown(part)).join("");
  // A line stays a line, whatever a peer put into a name.
  // deno-lint-ignore no-control-regex
  return text.replace(/[\x00-\x1f\x7f]+/g, " ");
}

function shown(part: unknown): string {
  if (part instanceof Error) return part.message;
  return typeof part === "object" && part !== null ? JSON.stringify(part) : String(part);
}

const COLORS: Readonly<Record<LogRecord["level"], number>> = {
  trace: 90,
  debug: 90,
  info: 36,
  warning: 33,
  error: 31,
  fatal: 31,
};

/** RFC 5424 table 2. */
const SEVERITIES: Readonly<Record<LogRecord["level"], number>> = {
  trace: 7,
  debug: 7,
  info: 6,
  warning: 4,
  error: 3,
  fatal: 2,
};
