/**
 * Results as rows of a CSV file that is opened once and appended to for as long as the process lives.
 *
 * @module
 */
import { closeSync, fstatSync, openSync, writeSync } from "node:fs";
import { fromRuntimeError } from "../ffi/mod.ts";
import type { TestInterval, TestResult } from "./api_types.ts";
import { mbps, rateOf, type TestIdentity } from "./report.ts";

/** Columns of {@linkcode resultRow}, in their order. */
export const RESULT_COLUMNS: readonly string[] = Object.freeze([
  "timestamp",
  "host",
  "port",
  "protocol",
  "direction",
  "duration_s",
  "tx_avg_mbps",
  "rx_avg_mbps",
  "tx_bytes",
  "rx_bytes",
  "lost_packets",
  "local_cpu_pct",
  "remote_cpu_pct",
  "auth_type",
]);

/** Columns of {@linkcode intervalRow}, in their order. */
export const INTERVAL_COLUMNS: readonly string[] = Object.freeze([
  "timestamp",
  "host",
  "port",
  "protocol",
  "direction",
  "second",
  "interval_s",
  "tx_mbps",
  "rx_mbps",
  "tx_bytes",
  "rx_bytes",
  "lost_packets",
  "reordered_packets",
  "duplicate_packets",
  "local_drops",
  "local_cpu_pct",
  "remote_cpu_pct",
]);

/** A value of a cell; numbers are written as they are, `undefined` is an empty cell. */
export type CsvValue = string | number | undefined;

/**
 * A finished test as a row.
 *
 * @param role Clients write `send`, `receive`, `both`; servers, from where they stand, `RX`, `TX`, `BOTH`.
 * @param at When it ended, milliseconds since 1970.
 */
export function resultRow(
  test: TestIdentity,
  result: TestResult,
  role: "client" | "server",
  at: number,
): readonly CsvValue[] {
  return [
    ...identity(test, role, at),
    seconds(result.elapsedMs),
    mbps(result.txBps),
    mbps(result.rxBps),
    result.txBytes,
    result.rxBytes,
    result.lost,
    load(result.localCpu),
    load(result.remoteCpu),
    result.auth,
  ];
}

/** A second of a test as a row. Parameters as for {@linkcode resultRow}. */
export function intervalRow(
  test: TestIdentity,
  interval: TestInterval,
  role: "client" | "server",
  at: number,
): readonly CsvValue[] {
  const { intervalMs, txBytes, rxBytes } = interval;
  return [
    ...identity(test, role, at),
    interval.second,
    seconds(intervalMs),
    mbps(rateOf(txBytes, intervalMs)),
    mbps(rateOf(rxBytes, intervalMs)),
    txBytes,
    rxBytes,
    interval.lost,
    interval.reordered,
    interval.duplicates,
    interval.localDrops,
    load(interval.localCpu),
    load(interval.remoteCpu),
  ];
}

/** Cells as a line with its CR LF (RFC 4180 §2). Text that a spreadsheet would take for a formula gets a quote in front. */
export function csvLine(values: readonly CsvValue[]): string {
  return values.map((value) => {
    if (typeof value !== "string") return value === undefined ? "" : String(value);
    // A host name or a user can be chosen by somebody who hopes that the file is opened in a spreadsheet.
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : value;
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }).join(",") + "\r\n";
}

/** An open CSV file. Rows of several processes that write to one file stay whole: each is one appending write. */
export class CsvLog {
  readonly #path: string;
  readonly #header: string;
  #descriptor: number | undefined;

  /**
   * Opens the file, or makes it; writes the header when it is empty.
   *
   * @param columns Names for the header.
   * @throws {SystemError} When it cannot be opened or written to.
   */
  constructor(path: string, columns: readonly string[]) {
    this.#path = path;
    this.#header = csvLine(columns);
    this.#open();
  }

  /**
   * Appends a row; on the disk's side of this process when it returns.
   *
   * @throws {SystemError} When it cannot be written. @throws {TypeError} When it was closed.
   */
  append(values: readonly CsvValue[]): void {
    this.#write(csvLine(values));
  }

  /** Closes the file and opens it again by its name: after a log rotation. @throws {SystemError} */
  reopen(): void {
    this.close();
    this.#open();
  }

  /** Idempotent. */
  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  #open(): void {
    try {
      this.#descriptor = openSync(this.#path, "a", 0o644);
      if (fstatSync(this.#descriptor).size > 0) return;
    } catch (error) {
      this.close();
      throw fromRuntimeError(error, "open", `open the CSV file "${this.#path}"`);
    }
    this.#write(this.#header);
  }

  #write(line: string): void {
    if (this.#descriptor === undefined) {
      throw new TypeError(`Cannot write to the CSV file "${this.#path}": it is closed`);
    }
    try {
      writeSync(this.#descriptor, line);
    } catch (error) {
      throw fromRuntimeError(error, "write", `write to the CSV file "${this.#path}"`);
    }
  }
}

function identity(
  { host, port, protocol, direction }: TestIdentity,
  role: "client" | "server",
  at: number,
): readonly CsvValue[] {
  const way = (role === "client" ? CLIENT_WAYS : SERVER_WAYS)[direction];
  return [Math.floor(at / 1000), host, port, protocol, way];
}

function seconds(ms: number): string {
  return (ms / 1000).toFixed(2);
}

function load(percent: number | undefined): number | undefined {
  return percent === undefined ? undefined : Math.round(percent);
}

const CLIENT_WAYS = { transmit: "send", receive: "receive", both: "both" } as const;
const SERVER_WAYS = { transmit: "RX", receive: "TX", both: "BOTH" } as const;
