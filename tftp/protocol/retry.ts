/**
 * When to send again, and when to stop: RFC 6298 with Karn's rule left to the caller, as plain arithmetic.
 *
 * @module
 */

/** Bounds of the retransmission timer; all times in milliseconds. */
export interface RetryOptions {
  /** The interval both sides promised (`timeout`, `utimeout`): used exactly, without back-off. Adaptive if undefined. */
  readonly timeoutMs?: number | undefined;
  /** Interval before the first measurement. Default 1000. */
  readonly initialRtoMs?: number | undefined;
  /** Shortest adaptive interval. Default 20. */
  readonly minRtoMs?: number | undefined;
  /** Longest adaptive interval. Default 8000. */
  readonly maxRtoMs?: number | undefined;
  /** Consecutive timeouts without progress before giving up is allowed. Default 6. */
  readonly maxRetries?: number | undefined;
  /** It is not given up earlier than this long after the last progress. Default 5000, or six negotiated intervals. */
  readonly minGiveUpMs?: number | undefined;
  /** It is given up this long after the last progress whatever the count. Default 60000. */
  readonly maxIdleMs?: number | undefined;
  /** A number drawn once per transfer, 0 ≤ x < 1: shifts adaptive intervals by −10 % to +10 %. Default 0.5. */
  readonly jitter?: number | undefined;
}

/** Clock granularity of RFC 6298 §2, milliseconds. */
const GRANULARITY_MS = 1;

/** One retransmission timer's arithmetic. Knows no clock: every time is an argument. */
export class RetryTimer {
  /** Smoothed round-trip time, milliseconds; 0 before the first measurement. */
  srttMs = 0;
  /** Consecutive timeouts without progress. */
  attempts = 0;
  #backOff = 0;
  #variation = 0;
  /** All that is known of the round trip comes from the opening. */
  #provisional = false;
  #rto: number;
  #fixed: number;
  #progressAt = 0;
  #giveUpMs: number;
  readonly #minRto: number;
  readonly #maxRto: number;
  readonly #maxRetries: number;
  readonly #minGiveUp: number | undefined;
  readonly #maxIdle: number;
  readonly #spread: number;

  /** Makes the arithmetic of one transfer; every bound has a default. */
  constructor(options: RetryOptions) {
    this.#minRto = options.minRtoMs ?? 20;
    this.#maxRto = options.maxRtoMs ?? 8000;
    this.#rto = Math.min(Math.max(options.initialRtoMs ?? 1000, this.#minRto), this.#maxRto);
    this.#maxRetries = options.maxRetries ?? 6;
    this.#minGiveUp = options.minGiveUpMs;
    this.#maxIdle = options.maxIdleMs ?? 60_000;
    this.#spread = 0.9 + 0.2 * (options.jitter ?? 0.5);
    this.#fixed = 0;
    this.#giveUpMs = 0;
    this.fix(options.timeoutMs);
  }

  /** Takes the interval that was negotiated, or none. */
  fix(timeoutMs: number | undefined): void {
    this.#fixed = timeoutMs ?? 0;
    this.#giveUpMs = this.#minGiveUp ?? (timeoutMs === undefined ? 5000 : 6 * timeoutMs);
  }

  /** Do not give up earlier than this long after the last progress, milliseconds. */
  waitAtLeast(ms: number): void {
    this.#giveUpMs = ms;
  }

  /** How long to wait from now on, milliseconds, back-off included. */
  get intervalMs(): number {
    if (this.#fixed > 0) return this.#fixed;
    // A power costs more than the rest of what an ACK does here.
    const rto = this.#backOff === 0 ? this.#rto : this.#rto * 2 ** this.#backOff;
    return Math.min(rto, this.#maxRto) * this.#spread;
  }

  /**
   * The transfer began, or moved on: forget the timeouts. The interval comes down one step only, until a measurement
   * shows that it was too long: on a line that is slower than the first exchange promised, each window would time out
   * again (Karn and Partridge).
   */
  progress(now: number): void {
    this.attempts = 0;
    if (this.#backOff > 0) this.#backOff--;
    this.#progressAt = now;
  }

  /**
   * Takes how long the opening took, milliseconds: better than nothing, but the other side's disk is in it, and a second
   * or three when its first answer was lost. The first sample proper takes its place.
   */
  sampleOpening(rttMs: number): void {
    this.sample(rttMs);
    this.#provisional = true;
  }

  /** Takes one unambiguous round-trip time, milliseconds. RFC 6298 §2.2, §2.3. */
  sample(rttMs: number): void {
    const rtt = rttMs > 0.001 ? rttMs : 0.001;
    this.#backOff = 0;
    if (this.srttMs === 0 || this.#provisional) {
      this.#provisional = false;
      this.srttMs = rtt;
      this.#variation = rtt / 2;
    } else {
      const error = this.srttMs - rtt;
      this.#variation += ((error < 0 ? -error : error) - this.#variation) / 4;
      this.srttMs -= error / 8;
    }
    const spread = 4 * this.#variation;
    const rto = this.srttMs + (spread > GRANULARITY_MS ? spread : GRANULARITY_MS);
    this.#rto = rto < this.#minRto ? this.#minRto : rto > this.#maxRto ? this.#maxRto : rto;
  }

  /**
   * Counts a timeout.
   *
   * @returns Whether it was the last: the peer is to be given up.
   */
  timedOut(now: number): boolean {
    this.attempts++;
    this.#backOff++;
    const idle = now - this.#progressAt;
    // A thousandth of slack: six intervals added up are not exactly six times the interval.
    return idle >= this.#maxIdle * 0.999 ||
      (this.attempts >= this.#maxRetries && idle >= this.#giveUpMs * 0.999);
  }
}
