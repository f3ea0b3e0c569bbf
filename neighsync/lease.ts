/**
 * Who of several daemons may write: the one that holds a lease, a key with a time to live. Pure: when to ask, how long an
 * answer counts, and what is known of the holder; time comes in with every call.
 *
 * What is granted counts from before the question was sent, and ends a margin early: by the time the key can be somebody
 * else's, this side has stopped.
 *
 * @module
 */

/** What the other side says to a claim. */
export interface LeaseAnswer {
  /** The lease is ours, from now on or still. */
  readonly granted: boolean;
  /** What the holder is called; may be empty. */
  readonly holder: string;
  /** Milliseconds the key lives from now on unless it is renewed; −1 for ever. */
  readonly remainingMs: number;
}

/** Where a lease is kept. */
export interface LeaseStore {
  /** Takes the lease if it is free, renews it if it is ours, and says whose it is, in one step. */
  claim(ttlMs: number): Promise<LeaseAnswer>;
  /** Gives it back if it is ours, in one step. */
  release(): Promise<void>;
  /** Calls back when somebody gave it back, where that is told; used beside asking now and then. */
  followReleases(listener: () => void): Promise<void>;
}

/** Part of a daemon in a group. */
export type LeaseRole =
  /** It contends with nobody. */
  | "alone"
  /** It writes. */
  | "holder"
  /** It watches, and would write if the holder stopped. */
  | "standby";

/** How often the lease is renewed in its time. */
const RENEWALS = 3;
/** Part of the time to live after which nothing is written without a renewal. */
const TRUST = 0.9;
/** Whoever waits asks at least so often. */
const MAX_PAUSE_MS = 1000;
/** Whoever was not answered, or too late, asks again after this. */
const MIN_PAUSE_MS = 20;

/** Keeps track of one lease. */
export class Lease {
  /** When to ask the next time, monotonic milliseconds; `Infinity` while there is nobody to be asked. */
  askAt: number = Infinity;
  /** What the holder is called, as it was last heard. */
  holder = "";
  /** Somebody holds it without ever having to renew it. */
  stuck = false;
  /** Times it became ours. */
  acquired = 0;
  /** Times it ended without having been given back. */
  lost = 0;

  readonly #ttlMs: number;
  #until = -Infinity;
  #confirmed = false;
  #wasOurs = false;

  /** @param ttlMs Milliseconds the key lives without being renewed. */
  constructor(ttlMs: number) {
    this.#ttlMs = ttlMs;
  }

  /** When writing has to stop unless an answer comes before, monotonic milliseconds. */
  get until(): number {
    return this.#until;
  }

  /** Whether something may be written now. */
  mayWrite(now: number): boolean {
    return this.#confirmed && now < this.#until;
  }

  /** What this side is, be the other reachable or not. */
  role(now: number): LeaseRole {
    return now < this.#until ? "holder" : "standby";
  }

  /** There is a connection. Whatever was granted over another one has to be confirmed: the key may be gone. */
  connected(now: number): void {
    this.askAt = now;
  }

  /** There is none any more. */
  disconnected(): void {
    this.#confirmed = false;
    this.askAt = Infinity;
  }

  /** Somebody gave it back. */
  released(now: number): void {
    if (this.askAt < Infinity) this.askAt = now;
  }

  /** @param sentAt When the claim was sent. */
  answered({ granted, holder, remainingMs }: LeaseAnswer, sentAt: number, now: number): void {
    this.holder = holder;
    this.stuck = !granted && remainingMs < 0;
    if (granted) {
      this.#until = sentAt + TRUST * this.#ttlMs;
      this.#confirmed = true;
      if (!this.#wasOurs) this.acquired++;
      this.#wasOurs = true;
      // An answer that came after its time is worth nothing but another question.
      this.askAt = Math.max(sentAt + this.#ttlMs / RENEWALS, now + MIN_PAUSE_MS);
      return;
    }
    this.#stopped();
    const expires = remainingMs < 0 ? Infinity : remainingMs + 1;
    const pauseMs = Math.min(MAX_PAUSE_MS, this.#ttlMs / RENEWALS, expires);
    this.askAt = now + Math.max(MIN_PAUSE_MS, pauseMs);
  }

  /** A claim was not answered. What was granted before counts to its end. */
  failed(now: number): void {
    if (this.askAt < Infinity) this.askAt = now + Math.min(MAX_PAUSE_MS, this.#ttlMs / RENEWALS);
  }

  /** Looks at the time. */
  tick(now: number): void {
    if (this.#wasOurs && now >= this.#until) this.#stopped();
  }

  #stopped(): void {
    if (this.#wasOurs) this.lost++;
    this.#wasOurs = false;
    this.#confirmed = false;
    this.#until = -Infinity;
  }
}
