/**
 * Idle connections by destination: the last one put away is the first one taken, because it is the likeliest to live.
 *
 * @module
 */

import { WOULD_BLOCK } from "../ffi/mod.ts";
import type { Clock } from "../internal/time/clock.ts";

/** What a pool needs of what it keeps. */
export interface Poolable {
  /** Looks without waiting; anything but "nothing there" means that the connection is of no more use. */
  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number;
  /** Sets who is called back. */
  watch(readable: (() => void) | undefined): void;
  /** Closes it. */
  close(): Promise<void>;
}

/** Bounds of a pool. */
export interface PoolOptions {
  /** Connections kept for one destination. Default 16. */
  readonly maxPerKey?: number;
  /** Connections kept in all; beyond it the oldest is closed. Default 256. */
  readonly maxIdle?: number;
  /** A connection idle for longer is closed, milliseconds. Default 60 s. */
  readonly idleMs?: number;
}

interface Kept<T> {
  readonly key: string;
  readonly item: T;
  readonly since: number;
}

/** Idle connections. */
export class ConnectionPool<T extends Poolable> {
  readonly #clock: Clock;
  readonly #maxPerKey: number;
  readonly #maxIdle: number;
  readonly #idleMs: number;
  /** In the order they were put away. */
  readonly #idle = new Set<Kept<T>>();
  readonly #byKey = new Map<string, Kept<T>[]>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;
  #hits = 0;
  #misses = 0;

  /** @param options The bounds. */
  constructor(clock: Clock, options: PoolOptions = {}) {
    this.#clock = clock;
    this.#maxPerKey = options.maxPerKey ?? 16;
    this.#maxIdle = options.maxIdle ?? 256;
    this.#idleMs = options.idleMs ?? 60_000;
  }

  /** Connections that are kept. */
  get size(): number {
    return this.#idle.size;
  }

  /** How often one was there, and how often none. */
  get counts(): { readonly hits: number; readonly misses: number } {
    return { hits: this.#hits, misses: this.#misses };
  }

  /** Takes the youngest one that lives. */
  take(key: string): T | undefined {
    const kept = this.#byKey.get(key);
    while (kept !== undefined && kept.length > 0) {
      const entry = kept[kept.length - 1]!;
      this.#remove(entry);
      entry.item.watch(undefined);
      // An idle connection has nothing to say: bytes would be an answer to nobody, the end is the end.
      if (entry.item.receiveNow(probe, 0, 1) === WOULD_BLOCK) {
        this.#hits++;
        return entry.item;
      }
      entry.item.close().catch(() => {});
    }
    this.#misses++;
    return undefined;
  }

  /** Puts one away; it is closed when it is one too many. */
  give(key: string, item: T): void {
    const kept = this.#byKey.get(key) ?? [];
    if (this.#closed || kept.length >= this.#maxPerKey) {
      item.close().catch(() => {});
      return;
    }
    const entry: Kept<T> = { key, item, since: this.#clock.now() };
    this.#byKey.set(key, kept);
    kept.push(entry);
    this.#idle.add(entry);
    item.watch(() => this.#drop(entry));
    if (this.#idle.size > this.#maxIdle) this.#drop(this.#idle.values().next().value!);
    this.#timer ??= setTimeout(this.#sweep, this.#idleMs);
  }

  /** Closes all of them; what is given later is closed at once. */
  close(): void {
    this.#closed = true;
    for (const entry of this.#idle) this.#drop(entry);
  }

  readonly #sweep = (): void => {
    this.#timer = undefined;
    const now = this.#clock.now();
    for (const entry of this.#idle) {
      const age = now - entry.since;
      if (age < this.#idleMs) {
        this.#timer = setTimeout(this.#sweep, Math.ceil(this.#idleMs - age));
        return;
      }
      this.#drop(entry);
    }
  };

  #drop(entry: Kept<T>): void {
    this.#remove(entry);
    entry.item.watch(undefined);
    entry.item.close().catch(() => {});
  }

  #remove(entry: Kept<T>): void {
    this.#idle.delete(entry);
    const kept = this.#byKey.get(entry.key)!;
    const at = kept.indexOf(entry);
    if (at >= 0) kept.splice(at, 1);
    if (kept.length === 0) this.#byKey.delete(entry.key);
    if (this.#idle.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }
}

const probe: Uint8Array<ArrayBuffer> = new Uint8Array(1);
