/**
 * Events of a server as syslog lines, RFC 3164 and RFC 5424, and a sender that never makes anybody wait.
 *
 * @module
 */
import {
  type DatagramBatch,
  type DatagramHost,
  type DatagramSocket,
  openDatagramHost,
  type SocketAddress,
  writeAddress,
} from "../ffi/mod.ts";
import type { ServerEvent, SessionInfo, TestResult } from "./api_types.ts";
import { mbps } from "./report.ts";

/** Which of the two forms a collector wants. */
export type SyslogFormat = "3164" | "5424";

/** One event, before it has a form. */
export interface SyslogRecord {
  /** What happened. */
  readonly event: "AUTH_SUCCESS" | "AUTH_FAILURE" | "TEST_START" | "TEST_END";
  /** How bad it is. */
  readonly severity: "info" | "warning" | "error";
  /** Names and values, in the order they are written. */
  readonly fields: readonly (readonly [name: string, value: string])[];
}

/** Who speaks. */
export interface SyslogOrigin {
  /** This machine's name. */
  readonly host: string;
  /** The program's name. */
  readonly app: string;
  /** The process's number. */
  readonly processId: number;
  /** Zone of RFC 3164's local time, as Intl names it; the machine's own when missing. */
  readonly timeZone?: string | undefined;
}

/** Turns an event of a server into records; most events make none or one, a start after a login makes two. */
export function syslogRecords(event: ServerEvent): readonly SyslogRecord[] {
  switch (event.kind) {
    case "start": {
      const start = record("TEST_START", "info", sessionFields(event.session));
      if (event.session.auth === "none") return [start];
      return [record("AUTH_SUCCESS", "info", loginFields(event.session)), start];
    }
    case "end":
      return [
        record("TEST_END", "info", [
          ...sessionFields(event.session),
          ...resultFields(event.result),
        ]),
      ];
    case "refused":
      if (event.reason !== "auth-failed") return [];
      return [
        record("AUTH_FAILURE", "warning", [
          ["peer", event.peer.address],
          ["user", clean(event.user)],
          ["reason", event.reason],
        ]),
      ];
    default:
      return [];
  }
}

/**
 * A record as RFC 3164 §4 has it: `<134>Jan  2 03:04:05 host btest[42]: TEST_START peer=192.0.2.1 …`.
 *
 * @param at Milliseconds since 1970; written as local time.
 */
export function syslog3164(record: SyslogRecord, origin: SyslogOrigin, at: number): string {
  const { host, app, processId } = origin;
  const tag = `${app}[${processId}]`;
  return `<${PRIORITIES[record.severity]}>${localTime(at, origin.timeZone)} ${host} ${tag}: ` +
    message(record);
}

/**
 * A record as RFC 5424 §6 has it, with its fields as structured data of the documentation's enterprise number.
 *
 * @param at Milliseconds since 1970; written as UTC.
 */
export function syslog5424(record: SyslogRecord, origin: SyslogOrigin, at: number): string {
  const { host, app, processId } = origin;
  const data = record.fields.map(([name, value]) => ` ${name}="${escaped(value)}"`).join("");
  return `<${PRIORITIES[record.severity]}>1 ${new Date(at).toISOString()} ` +
    `${host} ${app} ${processId} ${record.event} [btest@32473${data}] ${message(record)}`;
}

/** Records that may wait for a collector; more are dropped and counted. */
export const SYSLOG_QUEUE = 256;
/** RFC 5426 §3.2: what a collector should take; a user name of 64 escaped characters, written twice, stays below it. */
const MAX_RECORD_BYTES = 2048;
/** Longest text of a peer in a record, characters. */
const MAX_PEER_TEXT = 64;

/** Sends records by UDP, one datagram each (RFC 5426), at the end of the turn they were handed over in. */
export class SyslogSender implements AsyncDisposable {
  readonly #host: DatagramHost;
  readonly #socket: DatagramSocket;
  readonly #batch: DatagramBatch;
  readonly #format: (record: SyslogRecord, at: number) => string;
  readonly #waiting: { readonly record: SyslogRecord; readonly at: number }[] = [];
  #scheduled = false;
  #closed = false;
  #dropped = 0;
  #sent = 0;

  private constructor(
    host: DatagramHost,
    socket: DatagramSocket,
    target: SocketAddress,
    format: (record: SyslogRecord, at: number) => string,
  ) {
    this.#host = host;
    this.#socket = socket;
    this.#format = format;
    this.#batch = host.createBatch(1, MAX_RECORD_BYTES);
    writeAddress(this.#batch.peers, 0, target);
  }

  /**
   * Opens a socket towards a collector.
   *
   * @throws {SystemError} When there is no socket to be had.
   */
  static async open(
    target: SocketAddress,
    format: SyslogFormat,
    origin: SyslogOrigin,
  ): Promise<SyslogSender> {
    // A few lines a second need no readiness bridge of their own.
    const host = await openDatagramHost({ driver: "portable" });
    try {
      const bind = target.family === "ipv4"
        ? { family: "ipv4", address: "0.0.0.0", port: 0 } as const
        : { family: "ipv6", address: "::", port: 0 } as const;
      const socket = await host.open({ bind });
      const write = format === "3164" ? syslog3164 : syslog5424;
      return new SyslogSender(host, socket, target, (record, at) => write(record, origin, at));
    } catch (error) {
      await host.close();
      throw error;
    }
  }

  /** Records that were dropped because too many waited. */
  get dropped(): number {
    return this.#dropped;
  }

  /** Records that left. */
  get sent(): number {
    return this.#sent;
  }

  /** Hands records over; formats nothing, sends nothing, never waits and never throws. */
  push(records: readonly SyslogRecord[], at: number): void {
    if (this.#closed) return;
    for (const record of records) {
      if (this.#waiting.length >= SYSLOG_QUEUE) this.#dropped++;
      else this.#waiting.push({ record, at });
    }
    if (this.#scheduled || this.#waiting.length === 0) return;
    this.#scheduled = true;
    // A turn of its own: whoever hands over an event goes on at once, whatever formatting costs.
    setTimeout(() => {
      this.#scheduled = false;
      this.#flush();
    }, 0);
  }

  /** Sends what waits, then closes the socket; idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#flush();
    this.#closed = true;
    await this.#host.close();
  }

  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #flush(): void {
    if (this.#closed) return;
    const batch = this.#batch;
    for (const { record, at } of this.#waiting.splice(0)) {
      const start = batch.starts[0]!;
      const slot = batch.slab.bytes.subarray(start, start + MAX_RECORD_BYTES);
      batch.lengths[0] = encoder.encodeInto(this.#format(record, at), slot).written;
      batch.segments[0] = 0;
      batch.count = 1;
      this.#sent += this.#socket.send(batch);
    }
  }
}

function record(
  event: SyslogRecord["event"],
  severity: SyslogRecord["severity"],
  fields: SyslogRecord["fields"],
): SyslogRecord {
  return { event, severity, fields };
}

function loginFields({ peer, user, auth }: SessionInfo): SyslogRecord["fields"] {
  return [["peer", peer.address], ["user", clean(user)], ["type", auth]];
}

function sessionFields(session: SessionInfo): SyslogRecord["fields"] {
  return [
    ...loginFields(session),
    ["proto", session.protocol],
    ["dir", { transmit: "RX", receive: "TX", both: "BOTH" }[session.direction]],
    ["connections", String(session.connections)],
  ];
}

function resultFields(result: TestResult): SyslogRecord["fields"] {
  return [
    ["duration", (result.elapsedMs / 1000).toFixed(2)],
    ["tx_avg", mbps(result.txBps)],
    ["rx_avg", mbps(result.rxBps)],
    ["tx_bytes", String(result.txBytes)],
    ["rx_bytes", String(result.rxBytes)],
    ["lost", String(result.lost)],
    ["reason", result.reason],
  ];
}

function message({ event, fields }: SyslogRecord): string {
  const words = fields.map(([name, value]) =>
    `${name}=${/^[^\s"=]+$/.test(value) ? value : JSON.stringify(value)}`
  );
  return [event, ...words].join(" ");
}

/** What a peer wrote, fit for a line: no control characters, at most 64 characters. */
function clean(text: string): string {
  return [...text.replace(/\p{Cc}/gu, "")].slice(0, MAX_PEER_TEXT).join("");
}

/** RFC 5424 §6.3.3. */
function escaped(value: string): string {
  return value.replace(/["\\\]]/g, (character) => `\\${character}`);
}

/** `Jan  2 03:04:05`; the day is padded with a space. */
function localTime(at: number, timeZone: string | undefined): string {
  const zone = timeZone ?? "";
  let format = FORMATS.get(zone);
  if (format === undefined) {
    format = new Intl.DateTimeFormat("en-US", {
      month: "short",
      day: "numeric",
      hour: "2-digit",
      minute: "2-digit",
      second: "2-digit",
      hourCycle: "h23",
      ...(timeZone === undefined ? {} : { timeZone }),
    });
    FORMATS.set(zone, format);
  }
  const parts = new Map(format.formatToParts(at).map(({ type, value }) => [type, value]));
  const part = (type: Intl.DateTimeFormatPartTypes): string => parts.get(type) ?? "";
  return `${part("month")} ${part("day").padStart(2)} ` +
    `${part("hour")}:${part("minute")}:${part("second")}`;
}

const encoder = new TextEncoder();

/** Making a formatter costs a hundred times what using it does. */
const FORMATS = new Map<string, Intl.DateTimeFormat>();

/** Facility local0 (16), RFC 5424 tables 1 and 2. */
const PRIORITIES = { info: 16 * 8 + 6, warning: 16 * 8 + 4, error: 16 * 8 + 3 } as const;
