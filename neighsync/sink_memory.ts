/**
 * The table in memory: for programs that want the daemon without a Redis, and as the model of what the scripts in Redis do.
 *
 * @module
 */

import { notConnected } from "../internal/redis_errors.ts";
import type {
  PendingNeighbor,
  Sink,
  SinkEvent,
  SinkOperation,
  SinkSchema,
  SinkSnapshot,
  SinkTable,
  StoredNeighbor,
} from "./sink.ts";

/** What a consumer is told about one key. */
export interface PoppedChange {
  /** `<interface>:<address>`. */
  readonly key: string;
  /** `DEL` when no fields were staged. */
  readonly op: "SET" | "DEL";
  /** The staged fields. */
  readonly value: StoredNeighbor | undefined;
}

/** Options of {@linkcode MemorySink}. */
export interface MemorySinkOptions {
  /** `plain` by default: changes are final at once. With `producer-state` they wait for {@linkcode MemorySink.pop}. */
  readonly schema?: SinkSchema;
}

/** Keeps the table of neighbours in memory. Connected from the start. */
export class MemorySink implements Sink {
  /** How the table is kept. */
  readonly schema: SinkSchema;
  readonly #final = new Map<string, StoredNeighbor>();
  readonly #staged = new Map<string, StoredNeighbor>();
  readonly #keys = new Set<string>();
  readonly #gone = new Set<string>();
  readonly #routes: string[] = [];
  readonly #observers = new Set<(event: SinkEvent) => void>();
  readonly #wakers = new Set<() => void>();
  #connected = true;
  #closed = false;
  #lastLoss = "";
  #batches = 0;
  #operations = 0;
  #failures = 0;
  #reconnects = 0;

  /** Makes an empty table. */
  constructor(options: MemorySinkOptions = {}) {
    this.schema = options.schema ?? "plain";
  }

  /** Whether batches are taken now. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Final entries now, by key; live, not a copy. */
  get entries(): ReadonlyMap<string, StoredNeighbor> {
    return this.#final;
  }

  /** Keys of the host routes that were deleted, in order. */
  get deletedRoutes(): readonly string[] {
    return this.#routes;
  }

  /** Applies the changes at once; see {@linkcode Sink.apply}. */
  apply(batch: readonly SinkOperation[]): Promise<void> {
    if (!this.#connected) {
      this.#failures++;
      const code = this.#closed ? "redis.closed" : "redis.not-connected";
      return Promise.reject(notConnected("apply changes", code));
    }
    let added = false;
    for (const { op, key, mac, family, route } of batch) {
      if (route !== undefined) this.#routes.push(route);
      if (this.schema === "plain") {
        if (op === "del") this.#final.delete(key);
        else this.#final.set(key, { mac, family });
        continue;
      }
      added ||= !this.#keys.has(key);
      this.#keys.add(key);
      if (op === "del") {
        this.#gone.add(key);
        this.#staged.delete(key);
      } else {
        this.#staged.set(key, { mac, family });
      }
    }
    this.#batches++;
    this.#operations += batch.length;
    if (added) { for (const wake of [...this.#wakers]) wake(); }
    return Promise.resolve();
  }

  /** Reads the whole table, as copies. */
  readAll(): Promise<SinkTable> {
    if (!this.#connected) return Promise.reject(notConnected("read", "redis.not-connected"));
    const pending = new Map<string, PendingNeighbor>();
    for (const key of this.#keys) {
      pending.set(key, { deletes: this.#gone.has(key), staged: this.#staged.get(key) });
    }
    return Promise.resolve({ final: new Map(this.#final), pending });
  }

  /** Forgets every staged change. */
  clearPending(): Promise<void> {
    this.#keys.clear();
    this.#gone.clear();
    this.#staged.clear();
    return Promise.resolve();
  }

  /**
   * Takes staged changes as a consumer does, oldest first, and makes them final.
   *
   * @param limit Most keys to take, 128 by default.
   */
  pop(limit = 128): readonly PoppedChange[] {
    const popped: PoppedChange[] = [];
    for (const key of this.#keys) {
      if (popped.length === limit) break;
      this.#keys.delete(key);
      if (this.#gone.delete(key)) this.#final.delete(key);
      const value = this.#staged.get(key);
      this.#staged.delete(key);
      if (value !== undefined) this.#final.set(key, value);
      popped.push({ key, op: value === undefined ? "DEL" : "SET", value });
    }
    return popped;
  }

  /** Calls back when something becomes pending, as the channel does, until the returned function is called. */
  onPending(wake: () => void): () => void {
    this.#wakers.add(wake);
    return () => void this.#wakers.delete(wake);
  }

  /** Removes or replaces a final entry behind the daemon's back, as an operator might. */
  tamper(key: string, value: StoredNeighbor | undefined): void {
    if (value === undefined) this.#final.delete(key);
    else this.#final.set(key, value);
  }

  /** Acts as if the connection were lost: batches are refused until {@linkcode MemorySink.recover}. */
  lose(code = "redis.connection-lost", message = "Cannot go on: the connection was lost"): void {
    if (!this.#connected) return;
    this.#connected = false;
    this.#lastLoss = code;
    this.#tell({ state: "lost", code, message });
  }

  /**
   * Acts as if it were made again.
   *
   * @param options `empty`: what was there is gone, as after a restart without persistence.
   */
  recover(options: { readonly empty?: boolean } = {}): void {
    if (this.#connected || this.#closed) return;
    if (options.empty === true) {
      this.#final.clear();
      this.clearPending();
    }
    this.#tell({ state: "reconnecting", attempt: 1, delayMs: 0 });
    this.#connected = true;
    this.#reconnects++;
    this.#tell({ state: "connected" });
  }

  /** Calls back at every change of the connection. */
  observe(observer: (event: SinkEvent) => void): () => void {
    this.#observers.add(observer);
    return () => void this.#observers.delete(observer);
  }

  /** Counters and state now. */
  snapshot(): SinkSnapshot {
    return Object.freeze({
      connected: this.#connected,
      lastLoss: this.#lastLoss,
      batches: this.#batches,
      operations: this.#operations,
      failures: this.#failures,
      reconnects: this.#reconnects,
      scriptReloads: 0,
      inFlight: 0,
    });
  }

  /** Takes no more batches; the entries stay readable by {@linkcode MemorySink.entries}. Idempotent. */
  close(): Promise<void> {
    this.#closed = true;
    this.#connected = false;
    return Promise.resolve();
  }

  /** The same as {@linkcode MemorySink.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #tell(event: SinkEvent): void {
    for (const observer of [...this.#observers]) observer(event);
  }
}
