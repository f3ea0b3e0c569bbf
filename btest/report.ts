/**
 * What a test looks like from outside: sums and averages, lines for people, objects for programs. Pure: who calls decides
 * where the text goes. Rates are bits per second with decimal prefixes, over the time that really passed.
 *
 * @module
 */
import type { TestInterval, TestResult } from "./api_types.ts";
import type { Direction, TestProtocol } from "./protocol/mod.ts";

/** Load above which a machine may itself be the limit; lines of such seconds end with an exclamation mark. */
export const BUSY_CPU_PERCENT = 70;

/** An interval that is shorter is the rest of a second, at the end; its rate says little. */
const WHOLE_MS = 900;

/** What a report names a test by. */
export interface TestIdentity {
  /** The other side's address or name, without brackets. */
  readonly host: string;
  /** The other side's port for a server, the dialled one for a client. */
  readonly port: number;
  /** What carries the data. */
  readonly protocol: TestProtocol;
  /** Which way, seen from the client. */
  readonly direction: Direction;
}

/** Which ways this side moves data in. */
export interface Ways {
  /** It sends. */
  readonly tx: boolean;
  /** It receives. */
  readonly rx: boolean;
}

/** Says which ways a side moves data in. */
export function waysOf(direction: Direction, role: "client" | "server"): Ways {
  const client = { tx: direction !== "receive", rx: direction !== "transmit" };
  return role === "client" ? client : { tx: client.rx, rx: client.tx };
}

/** Best and worst second of one way. */
export interface Extremes {
  /** Bits per second. */
  readonly bestBps: number;
  /** Which second, counted from 1. */
  readonly bestSecond: number;
  /** Bits per second. */
  readonly worstBps: number;
  /** Which second, counted from 1. */
  readonly worstSecond: number;
}

/** Sums up the seconds of a test. */
export class Totals {
  /** Bytes sent. */
  txBytes = 0;
  /** Bytes received. */
  rxBytes = 0;
  /** Milliseconds of all intervals together. */
  elapsedMs = 0;
  /** Datagrams missing; below zero only when late ones of an earlier sum came. */
  lost = 0;
  /** Datagrams that came after a later one. */
  reordered = 0;
  /** Datagrams that came more than once. */
  duplicates = 0;
  /** Datagrams dropped here for want of buffer. */
  localDrops = 0;
  /** Bytes the peer said it received; `undefined` when it never said. */
  peerReceivedBytes: number | undefined;

  #second = 0;
  #endMs = 0;
  #localCpu = 0;
  #localCpuMs = 0;
  #remoteCpu = 0;
  #remoteCpuMs = 0;
  #tx: Extremes | undefined;
  #rx: Extremes | undefined;

  /** Adds an interval. */
  add(interval: TestInterval): void {
    const { second, intervalMs, txBytes, rxBytes, localCpu, remoteCpu } = interval;
    this.#second = second;
    this.#endMs = interval.elapsedMs;
    this.txBytes += txBytes;
    this.rxBytes += rxBytes;
    this.elapsedMs += intervalMs;
    this.lost += interval.lost;
    this.reordered += interval.reordered;
    this.duplicates += interval.duplicates;
    this.localDrops += interval.localDrops;
    if (interval.peerReceivedBytes !== undefined) {
      this.peerReceivedBytes = (this.peerReceivedBytes ?? 0) + interval.peerReceivedBytes;
    }
    // A second without a reading is no second of idleness: each mean has the time it was known as its denominator.
    if (localCpu !== undefined) {
      this.#localCpu += localCpu * intervalMs;
      this.#localCpuMs += intervalMs;
    }
    if (remoteCpu !== undefined) {
      this.#remoteCpu += remoteCpu * intervalMs;
      this.#remoteCpuMs += intervalMs;
    }
    // The rest at the end is too short to be the best or the worst of anything.
    if (intervalMs < WHOLE_MS) return;
    this.#tx = widened(this.#tx, second, rateOf(txBytes, intervalMs));
    this.#rx = widened(this.#rx, second, rateOf(rxBytes, intervalMs));
  }

  /** Average rate sent, bit/s; 0 before any time has passed. */
  get txBps(): number {
    return rateOf(this.txBytes, this.elapsedMs);
  }

  /** Average rate received, bit/s; 0 before any time has passed. */
  get rxBps(): number {
    return rateOf(this.rxBytes, this.elapsedMs);
  }

  /** Mean load of this machine over the time it was known, 0 to 100. */
  get localCpu(): number | undefined {
    return this.#localCpuMs === 0 ? undefined : this.#localCpu / this.#localCpuMs;
  }

  /** Mean load of the peer over the time it said so, 0 to 100. */
  get remoteCpu(): number | undefined {
    return this.#remoteCpuMs === 0 ? undefined : this.#remoteCpu / this.#remoteCpuMs;
  }

  /** Best and worst whole second sent; `undefined` before the first one. */
  get tx(): Extremes | undefined {
    return this.#tx;
  }

  /** Best and worst whole second received; `undefined` before the first one. */
  get rx(): Extremes | undefined {
    return this.#rx;
  }

  /** Everything added so far as one interval, numbered as the last one added. */
  merged(): TestInterval {
    return Object.freeze({
      second: this.#second,
      elapsedMs: this.#endMs,
      intervalMs: this.elapsedMs,
      txBytes: this.txBytes,
      rxBytes: this.rxBytes,
      lost: this.lost,
      reordered: this.reordered,
      duplicates: this.duplicates,
      localDrops: this.localDrops,
      localCpu: this.localCpu,
      remoteCpu: this.remoteCpu,
      peerReceivedBytes: this.peerReceivedBytes,
    });
  }
}

/**
 * One line for a person for each way of an interval:
 * `[   3]  RX  430.51 Mbps (53813376 bytes)  lost: 5  cpu: 18%/45%`.
 *
 * @param ways Those this side moves data in.
 * @param protocol Losses are told of UDP only.
 * @returns Lines, each with its newline; an exclamation mark at the end says that a processor was above 70 %.
 */
export function intervalText(interval: TestInterval, ways: Ways, protocol: TestProtocol): string {
  const { second, intervalMs, localCpu, remoteCpu } = interval;
  const cpu = localCpu === undefined && remoteCpu === undefined
    ? ""
    : `  cpu: ${percent(localCpu)}/${percent(remoteCpu)}`;
  const busy = Math.max(localCpu ?? 0, remoteCpu ?? 0) > BUSY_CPU_PERCENT ? " !" : "";
  const line = (way: string, bytes: number, lost: string): string =>
    `[${String(second).padStart(4)}]  ${way}  ${
      mbps(rateOf(bytes, intervalMs)).padStart(8)
    } Mbps ` +
    `(${bytes} bytes)${lost}${cpu}${partText(intervalMs)}${busy}\n`;
  const lost = protocol === "udp" ? `  lost: ${interval.lost}` : "";
  return (ways.tx ? line("TX", interval.txBytes, "") : "") +
    (ways.rx ? line("RX", interval.rxBytes, lost) : "");
}

/** The head of the table that {@linkcode tableText} fills. */
export function tableHead(ways: Ways, protocol: TestProtocol): string {
  return row(["second", ...cells(ways, protocol, "sent", "received", "lost"), "cpu here", "there"]);
}

/** An interval as a line of a table on a terminal. */
export function tableText(interval: TestInterval, ways: Ways, protocol: TestProtocol): string {
  const { second, intervalMs, txBytes, rxBytes, lost, localCpu, remoteCpu } = interval;
  const rate = (bytes: number): string => `${mbps(rateOf(bytes, intervalMs))} Mbps`;
  const counts = cells(ways, protocol, rate(txBytes), rate(rxBytes), String(lost));
  const line = row([String(second), ...counts, percent(localCpu), percent(remoteCpu)]);
  return line.replace("\n", `${partText(intervalMs)}\n`);
}

/** What is said when a test is over: average, best and worst second, losses, and why it ended. */
export function summaryText(
  result: TestResult,
  totals: Totals,
  ways: Ways,
  protocol: TestProtocol,
): string {
  const line = (way: string, bps: number, bytes: number, seconds: Extremes | undefined): string => {
    const range = seconds === undefined ? "" : `, best ${mbps(seconds.bestBps)} in second ` +
      `${seconds.bestSecond}, worst ${mbps(seconds.worstBps)} in second ${seconds.worstSecond}`;
    return `${way}  average ${mbps(bps)} Mbps${range} (${bytes} bytes)\n`;
  };
  const lines: string[] = [];
  if (ways.tx) lines.push(line("TX", result.txBps, result.txBytes, totals.tx));
  if (ways.rx) lines.push(line("RX", result.rxBps, result.rxBytes, totals.rx));
  if (protocol === "udp" && ways.rx) {
    const { lost, datagramsReceived, reordered, duplicates, localDrops } = result;
    lines.push(
      `lost ${lost} of ${lost + datagramsReceived} datagrams (${
        lossPercent(result).toFixed(2)
      } %), ` +
        `of these ${localDrops} dropped here; ${reordered} reordered, ${duplicates} duplicate\n`,
    );
  }
  const many = result.connections === 1 ? "1 connection" : `${result.connections} connections`;
  const proof = result.auth === "none" ? "no login" : `login by ${result.auth}`;
  lines.push(
    `${protocol}, ${many}, ${proof}, ${(result.elapsedMs / 1000).toFixed(1)} s, ` +
      `ended by ${result.reason}\n`,
    ...result.warnings.map((warning) => `warning: ${warning}\n`),
  );
  return lines.join("");
}

/** Part of the datagrams that are missing, 0 to 100; 0 when there were none. */
export function lossPercent(result: Pick<TestResult, "lost" | "datagramsReceived">): number {
  const sent = result.lost + result.datagramsReceived;
  return sent > 0 ? 100 * result.lost / sent : 0;
}

/** The first JSON object of a test. @param at Milliseconds since 1970. */
export function startObject(test: TestIdentity, at: number): object {
  const { host, port, protocol, direction } = test;
  return { type: "start", time: new Date(at).toISOString(), host, port, protocol, direction };
}

/** An interval as a JSON object: integers for bytes and bit/s, `null` for what is not known. */
export function intervalObject(interval: TestInterval): object {
  const { intervalMs } = interval;
  return {
    type: "interval",
    second: interval.second,
    elapsed_ms: Math.round(interval.elapsedMs),
    interval_ms: Math.round(intervalMs),
    rx_bytes: interval.rxBytes,
    tx_bytes: interval.txBytes,
    rx_bps: Math.round(rateOf(interval.rxBytes, intervalMs)),
    tx_bps: Math.round(rateOf(interval.txBytes, intervalMs)),
    lost_packets: interval.lost,
    reordered_packets: interval.reordered,
    duplicate_packets: interval.duplicates,
    local_drops: interval.localDrops,
    local_cpu_pct: rounded(interval.localCpu),
    remote_cpu_pct: rounded(interval.remoteCpu),
    peer_rx_bytes: interval.peerReceivedBytes ?? null,
  };
}

/** The last JSON object of a test. */
export function endObject(result: TestResult): object {
  return {
    type: "end",
    rx_bytes: result.rxBytes,
    tx_bytes: result.txBytes,
    rx_bps: Math.round(result.rxBps),
    tx_bps: Math.round(result.txBps),
    lost_packets: result.lost,
    duration_ms: Math.round(result.elapsedMs),
    local_cpu_pct: rounded(result.localCpu),
    remote_cpu_pct: rounded(result.remoteCpu),
    reordered_packets: result.reordered,
    duplicate_packets: result.duplicates,
    local_drops: result.localDrops,
    rx_packets: result.datagramsReceived,
    tx_packets: result.datagramsSent,
    peer_rx_bytes: result.peerReceivedBytes,
    auth: result.auth,
    connections: result.connections,
    driver: result.driver,
    workers: result.workers,
    reason: result.reason,
    warnings: result.warnings,
  };
}

/** Bits per second of bytes over milliseconds; 0 when no time has passed. */
export function rateOf(bytes: number, ms: number): number {
  return ms > 0 ? bytes * 8000 / ms : 0;
}

/** Megabits per second with two decimals. */
export function mbps(bps: number): string {
  return (bps / 1e6).toFixed(2);
}

function widened(seen: Extremes | undefined, second: number, bps: number): Extremes {
  if (seen === undefined) {
    return { bestBps: bps, bestSecond: second, worstBps: bps, worstSecond: second };
  }
  const best = bps > seen.bestBps ? { bestBps: bps, bestSecond: second } : {};
  const worst = bps < seen.worstBps ? { worstBps: bps, worstSecond: second } : {};
  return { ...seen, ...best, ...worst };
}

function cells(ways: Ways, protocol: TestProtocol, tx: string, rx: string, lost: string): string[] {
  return [
    ...(ways.tx ? [tx] : []),
    ...(ways.rx ? [rx] : []),
    ...(ways.rx && protocol === "udp" ? [lost] : []),
  ];
}

function row(cells: readonly string[]): string {
  return cells.map((cell, index) => cell.padStart(index === 0 ? 6 : 15)).join("") + "\n";
}

/** Says of the rest at the end that it is one. */
function partText(intervalMs: number): string {
  return intervalMs < WHOLE_MS ? `  in ${Math.round(intervalMs)} ms` : "";
}

function percent(load: number | undefined): string {
  return load === undefined ? "-" : `${Math.round(load)}%`;
}

function rounded(load: number | undefined): number | null {
  return load === undefined ? null : Math.round(load);
}
