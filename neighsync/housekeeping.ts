/**
 * What has to be done now and then while nothing happens: looking whether the event loop turns and the sink answers,
 * audits, remembering how things were.
 *
 * @module
 */

import type { Clock } from "../internal/time/clock.ts";
import type { NeighSyncSnapshot } from "./snapshot.ts";

/** What is done when it is time. */
export interface HousekeepingDuties {
  /** How things are. */
  snapshot(): NeighSyncSnapshot;
  /** Once a second. */
  second(now: number): void;
  /** Compare both tables. */
  audit(): void;
  /** Seconds between audits, 0 for never. */
  auditIntervalSec(): number;
}

const TICK_MS = 1000;
const PROBE_MS = 5000;
/** Without an answer for so long a connection that counts as one is not believed. */
const SILENCE_MS = 15_000;
/** Rates and latencies are of about the last minute. */
const REMEMBER_MS = 10_000, REMEMBERED = 6;

/** A tick a second. */
export class Housekeeping {
  /** Asks the sink for a sign of life. */
  probe: (() => Promise<unknown>) | undefined;
  /** How late the last tick was, milliseconds. */
  loopLagMs = 0;
  /** When the sink last answered a probe, milliseconds since 1970. */
  answeredAt = 0;

  readonly #clock: Clock;
  readonly #duties: HousekeepingDuties;
  readonly #past: NeighSyncSnapshot[] = [];
  #timer: ReturnType<typeof setTimeout> | undefined;
  #dueAt = 0;
  #tickedAt = 0;
  #probeAt = 0;
  #probing = false;
  #rememberAt = 0;
  #auditAt = Infinity;
  #silentSince = Infinity;

  /** Does nothing before it is started. */
  constructor(clock: Clock, duties: HousekeepingDuties) {
    this.#clock = clock;
    this.#duties = duties;
  }

  /** How things were about a minute ago, or at the first look since. */
  get before(): NeighSyncSnapshot | undefined {
    return this.#past[0];
  }

  /** Begins. */
  start(): void {
    const now = this.#clock.now();
    this.#tickedAt = now;
    this.#probeAt = now + PROBE_MS;
    this.#rememberAt = now + REMEMBER_MS;
    this.#arm(now);
  }

  /** Ends; idempotent. */
  stop(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#auditAt = Infinity;
  }

  /** The interval of audits begins now. */
  rescheduleAudit(): void {
    const seconds = this.#duties.auditIntervalSec();
    this.#auditAt = seconds === 0 ? Infinity : this.#clock.now() + seconds * 1000;
  }

  /** The loop turns, and the sink answers or is known to be away. */
  isAlive(connected: boolean): boolean {
    const now = this.#clock.now();
    if (now - this.#tickedAt > 5 * TICK_MS) return false;
    return !connected || now - Math.min(this.#silentSince, now) < SILENCE_MS;
  }

  #arm(now: number): void {
    this.#dueAt = now + TICK_MS;
    this.#timer = setTimeout(() => this.#tick(), TICK_MS);
  }

  #tick(): void {
    const now = this.#clock.now();
    this.loopLagMs = Math.max(0, Math.round(now - this.#dueAt));
    this.#tickedAt = now;
    this.#arm(now);
    if (now >= this.#probeAt) {
      this.#probeAt = now + PROBE_MS;
      this.#ask(now);
    }
    if (now >= this.#rememberAt) {
      this.#rememberAt = now + REMEMBER_MS;
      this.#past.push(this.#duties.snapshot());
      if (this.#past.length > REMEMBERED) this.#past.shift();
    }
    if (now >= this.#auditAt) {
      this.rescheduleAudit();
      this.#duties.audit();
    }
    this.#duties.second(now);
  }

  #ask(now: number): void {
    if (this.probe === undefined || this.#probing) return;
    this.#probing = true;
    if (this.#silentSince === Infinity) this.#silentSince = now;
    this.probe().then(() => {
      this.answeredAt = Date.now();
      this.#silentSince = Infinity;
    }, () => {
      // Whoever keeps the connection has heard of it, too.
    }).finally(() => this.#probing = false);
  }
}
