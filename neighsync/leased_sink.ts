/**
 * A sink that takes changes only while a lease is held. To the daemon losing it is a lost connection, and getting it a new
 * one: what waits is kept, and both tables are compared before anything is written.
 *
 * @module
 */

import { DeadlineError } from "../internal/errors.ts";
import { logger } from "../internal/log.ts";
import type { Clock } from "../internal/time/clock.ts";
import { Lease, type LeaseRole, type LeaseStore } from "./lease.ts";
import type {
  Sink,
  SinkEvent,
  SinkOperation,
  SinkSchema,
  SinkSnapshot,
  SinkTable,
} from "./sink.ts";
import type { LeaseSnapshot } from "./snapshot.ts";

const log = logger("neighsync", "lease");
const audit = logger("neighsync", "audit");

/** How a sink is leased. */
export interface LeasedSinkOptions {
  /** Where changes go; not closed with this one. */
  readonly sink: Sink;
  /** Where the lease is kept. */
  readonly store: LeaseStore;
  /** Milliseconds it is held without being renewed. */
  readonly ttlMs: number;
  /** Whose time counts. */
  readonly clock: Clock;
}

/** The longest a timer waits: whose clock was changed or stopped looks again. */
const LOOK_MS = 1000;

/** Between the daemon and its sink. */
export class LeasedSink implements Sink {
  /** How the table is kept. */
  readonly schema: SinkSchema;
  /** Settles with the first answer: whether this daemon begins as the holder, or stands by. */
  readonly decided: Promise<LeaseRole>;

  readonly #options: LeasedSinkOptions;
  readonly #clock: Clock;
  readonly #lease: Lease;
  readonly #observers = new Set<(event: SinkEvent) => void>();
  readonly #forget: () => void;
  #decide: (role: LeaseRole) => void = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  /** Counts connections: an answer over another one says nothing. */
  #connection = 0;
  #asking = false;
  #told = false;
  #following = false;
  #closed = false;
  #saidHolder: string | undefined;

  /** Asks for the lease as soon as the sink is connected. */
  constructor(options: LeasedSinkOptions) {
    this.#options = options;
    this.#clock = options.clock;
    this.schema = options.sink.schema;
    this.#lease = new Lease(options.ttlMs);
    this.decided = new Promise((resolve) => this.#decide = resolve);
    this.#forget = options.sink.observe((event) => this.#sinkChanged(event));
    if (options.sink.connected) this.#connected();
  }

  /** Whether batches are taken now. */
  get connected(): boolean {
    return this.#options.sink.connected && this.#lease.mayWrite(this.#clock.now());
  }

  /** What this daemon is. */
  get role(): LeaseRole {
    return this.#lease.role(this.#clock.now());
  }

  /**
   * Applies the changes; see {@linkcode Sink.apply}.
   *
   * @throws {DeadlineError} `neighsync.lease-lost` when the lease is not held.
   */
  apply(batch: readonly SinkOperation[]): Promise<void> {
    // A timer may come late; the clock does not.
    if (this.#lease.mayWrite(this.#clock.now())) return this.#options.sink.apply(batch);
    this.#look();
    return Promise.reject(
      new DeadlineError(
        "neighsync.lease-lost",
        "Cannot apply changes: the lease is not held, expected it to be renewed in time",
        { phase: "lease", elapsedMs: this.#options.ttlMs, attempts: 1 },
      ),
    );
  }

  /** Reads the whole table. */
  readAll(): Promise<SinkTable> {
    return this.#options.sink.readAll();
  }

  /** Forgets every staged change; for the holder. */
  clearPending(): Promise<void> {
    return this.#options.sink.clearPending();
  }

  /** Calls back at every change of the connection and of the lease. */
  observe(observer: (event: SinkEvent) => void): () => void {
    this.#observers.add(observer);
    return () => void this.#observers.delete(observer);
  }

  /** Counters of the sink behind it; `connected` there is about the connection, whoever holds the lease. */
  snapshot(): SinkSnapshot {
    return this.#options.sink.snapshot();
  }

  /** How the lease does. */
  leaseSnapshot(): LeaseSnapshot {
    const { holder, stuck, acquired, lost } = this.#lease;
    return Object.freeze({ role: this.role, holder, stuck, acquired, lost });
  }

  /** Gives the lease back, so that whoever stands by can go on at once; idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#forget();
    this.#decide("standby");
    if (!this.#options.sink.connected) return;
    await this.#options.store.release().catch((error: unknown) => {
      // It ends by itself.
      log.warn("the lease could not be given back: {error}", { error });
    });
  }

  /** The same as {@linkcode LeasedSink.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #sinkChanged(event: SinkEvent): void {
    if (event.state === "connected") return this.#connected();
    if (event.state === "lost") {
      this.#connection++;
      this.#asking = this.#told = false;
      this.#lease.disconnected();
    }
    this.#tell(event);
  }

  #connected(): void {
    this.#connection++;
    this.#lease.connected(this.#clock.now());
    this.#look();
  }

  /** Does what is due, and comes back. */
  #look(): void {
    if (this.#closed) return;
    const now = this.#clock.now();
    const lease = this.#lease;
    lease.tick(now);
    if (this.#told && !lease.mayWrite(now)) this.#lost();
    if (!this.#asking && now >= lease.askAt) this.#ask(now);
    const dueAt = Math.min(
      this.#asking ? Infinity : lease.askAt,
      lease.until > now ? lease.until : Infinity,
    );
    clearTimeout(this.#timer);
    this.#timer = setTimeout(
      () => this.#look(),
      Math.min(LOOK_MS, Math.max(0, Math.ceil(dueAt - now))),
    );
  }

  #ask(sentAt: number): void {
    const { store, ttlMs } = this.#options;
    const connection = this.#connection;
    this.#asking = true;
    store.claim(ttlMs).then((answer) => {
      if (connection !== this.#connection || this.#closed) return;
      this.#asking = false;
      const now = this.#clock.now();
      this.#lease.answered(answer, sentAt, now);
      if (this.#told && !this.#lease.mayWrite(now)) this.#lost();
      else if (!this.#told && this.#lease.mayWrite(now)) this.#gained();
      this.#name(answer.granted ? "" : answer.holder);
      this.#decide(this.role);
      this.#follow();
      this.#look();
    }, (error: unknown) => {
      if (connection !== this.#connection || this.#closed) return;
      this.#asking = false;
      log.warn("the lease could not be asked for: {error}", { error });
      this.#lease.failed(this.#clock.now());
      this.#look();
    });
  }

  #gained(): void {
    this.#told = true;
    audit.info("the lease is held", { event: "neighsync.lease-held" });
    this.#tell({ state: "connected" });
  }

  #lost(): void {
    this.#told = false;
    const message = "the lease is not held any more";
    audit.warn(message, { event: "neighsync.lease-lost", holder: this.#lease.holder });
    this.#tell({ state: "lost", code: "neighsync.lease-lost", message });
  }

  /** Says who holds it, when that is somebody else than before. */
  #name(holder: string): void {
    if (this.#saidHolder === holder) return;
    this.#saidHolder = holder;
    if (holder === "") return;
    const details = { event: "neighsync.standby", holder };
    log.info("standing by: {holder} holds the lease", details);
    if (this.#lease.stuck) {
      log.warn("the lease of {holder} never ends: expected a key that expires", details);
    }
  }

  #follow(): void {
    if (this.#following) return;
    this.#following = true;
    this.#options.store.followReleases(() => {
      this.#lease.released(this.#clock.now());
      this.#look();
    }).catch((error: unknown) => {
      // Asking now and then is enough, only slower.
      this.#following = false;
      log.debug("the lease cannot be followed: {error}", { error });
    });
  }

  #tell(event: SinkEvent): void {
    for (const observer of [...this.#observers]) observer(event);
  }
}
