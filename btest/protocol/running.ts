/**
 * The second half of both machines: a test that runs, second by second, until something ends it.
 *
 * @module
 */

import {
  isStatus,
  readStatusCpu,
  readStatusReceived,
  readStatusSequence,
  STATUS,
  STATUS_BYTES,
} from "./command.ts";
import type { StatusSink } from "./status_scan.ts";

/** What a running test may ask of whoever drives it. Called synchronously, must not call back. */
export interface RunningActions extends StatusSink {
  /**
   * A second is over: read the counters.
   *
   * @param second Counts from 1.
   * @param sequence Number of the status to send now, on TCP between two blocks of data; 0 when none is to be sent.
   */
  second(second: number, sequence: number): void;
}

/** What ends a running test from inside. */
export type RunningEnd =
  /** It ran as long as it may. */
  | "duration"
  /** The peer's status messages stopped. UDP only. */
  | "control-timeout"
  /** No data came for too long. */
  | "idle";

/** Bounds of a running test; `Infinity` for none. */
export interface RunningLimits {
  /** Its whole length, milliseconds. */
  readonly durationMs: number;
  /** Without a status from the peer, milliseconds. */
  readonly controlTimeoutMs: number;
  /** Without data from the peer, milliseconds. */
  readonly idleTimeoutMs: number;
}

/** Seconds, status numbers and silence of a running test. */
export class Running {
  /** Bytes on the control connection that belong to no status. */
  strayBytes = 0;

  readonly #reports: boolean;
  readonly #limits: RunningLimits;
  readonly #message: Uint8Array<ArrayBuffer> = new Uint8Array(STATUS_BYTES);
  #filled = 0;
  #startedAt = Infinity;
  #second = 0;
  #sequence = 0;
  #endsAt = Infinity;
  #controlBy = Infinity;
  #idleBy = Infinity;

  /** Prepares a test that has not begun. `reports`: this side sends a status each second. */
  constructor(reports: boolean, limits: RunningLimits) {
    this.#reports = reports;
    this.#limits = limits;
  }

  /** When {@linkcode expire} wants to be called, monotonic milliseconds. */
  get deadline(): number {
    const secondAt = this.#startedAt + 1000 * (this.#second + 1);
    return Math.min(secondAt, this.#endsAt, this.#controlBy, this.#idleBy);
  }

  /** Begins the seconds. */
  start(now: number): void {
    const { durationMs, controlTimeoutMs, idleTimeoutMs } = this.#limits;
    this.#startedAt = now;
    this.#endsAt = now + durationMs;
    this.#controlBy = now + controlTimeoutMs;
    this.#idleBy = now + idleTimeoutMs;
  }

  /** Data came from the peer since the last call. Once a second is enough. */
  dataArrived(now: number): void {
    this.#idleBy = now + this.#limits.idleTimeoutMs;
  }

  /** Reads the status messages of a connection that carries nothing else. */
  receive(bytes: Uint8Array, start: number, end: number, now: number, sink: StatusSink): void {
    const message = this.#message;
    for (let at = start; at < end; at++) {
      // Whatever else stands here is passed over byte by byte until a message begins.
      if (this.#filled === 0 && bytes[at] !== STATUS) {
        this.strayBytes++;
        continue;
      }
      message[this.#filled++] = bytes[at]!;
      if (this.#filled < STATUS_BYTES) continue;
      this.#filled = 0;
      if (!isStatus(message, 0)) {
        this.strayBytes += STATUS_BYTES;
        continue;
      }
      this.#controlBy = now + this.#limits.controlTimeoutMs;
      const received = readStatusReceived(message, 0);
      sink.status(readStatusCpu(message, 0), readStatusSequence(message, 0), received);
    }
  }

  /** Time has passed. Answers what ended the test, if something did. */
  expire(now: number, actions: RunningActions): RunningEnd | undefined {
    // The second that ends with the test is still told. A late call tells of one second, with its own number: the
    // cadence stays on the grid, and the status numbers have no gap.
    if (now >= this.#startedAt + 1000 * (this.#second + 1)) {
      // Rounding may put the quotient just below the second that the deadline named.
      this.#second = Math.max(this.#second + 1, Math.floor((now - this.#startedAt) / 1000));
      if (this.#reports) this.#sequence = this.#sequence + 1 >>> 0;
      actions.second(this.#second, this.#reports ? this.#sequence : 0);
    }
    if (now >= this.#endsAt) return "duration";
    if (now >= this.#controlBy) return "control-timeout";
    if (now >= this.#idleBy) return "idle";
    return undefined;
  }
}

/** What arrives of a handshake, item by item, however it was cut. */
export class ItemBuffer {
  /** The bytes of the item in hand. */
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(512);
  /** How many are there. */
  filled = 0;

  /**
   * Takes bytes until there are `need`.
   *
   * @returns How many were taken.
   */
  take(bytes: Uint8Array, start: number, end: number, need: number): number {
    const count = Math.min(need - this.filled, end - start);
    for (let i = 0; i < count; i++) this.bytes[this.filled++] = bytes[start + i]!;
    return count;
  }

  /** Drops `count` bytes from the front. */
  drop(count: number): void {
    this.bytes.copyWithin(0, count, this.filled);
    this.filled -= count;
  }
}
