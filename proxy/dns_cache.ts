/**
 * Answers that are kept, the least recently used given up first.
 *
 * @module
 */

import type { DnsReply } from "./dns_reply.ts";

/** Bounds of a cache. */
export interface DnsCacheOptions {
  /** Answers kept, 1 or more. */
  readonly capacity: number;
  /** Shortest time an answer is kept, seconds; what must not be kept is not. Default 0. */
  readonly minTtlSeconds?: number;
  /** Longest time an answer is kept, seconds. Default a day. */
  readonly maxTtlSeconds?: number;
  /** Whether answers never end. Default false. */
  readonly disableExpire?: boolean;
  /** How long after its end an answer may still be served, milliseconds. Default 0. */
  readonly optimisticMs?: number;
}

/** An answer that is kept. */
export interface CachedReply {
  /** The answer. */
  readonly reply: DnsReply;
  /** When it came, monotonic milliseconds. */
  readonly storedAt: number;
  /** When it ends; `Infinity` when it does not. */
  readonly endsAt: number;
}

/** Counts of a cache. */
export interface DnsCacheSnapshot {
  /** Answers it holds. */
  readonly size: number;
  /** Answers found, those that had ended among them. */
  readonly hits: number;
  /** Answers found that had ended. */
  readonly stale: number;
  /** Answers not found. */
  readonly misses: number;
  /** Answers given up for want of room. */
  readonly evictions: number;
}

/** A bounded map from questions to answers. Who asks says what time it is. */
export class DnsCache {
  readonly #capacity: number;
  readonly #minTtlMs: number;
  readonly #maxTtlMs: number;
  readonly #disableExpire: boolean;
  readonly #optimisticMs: number;
  /** In the order of their use, the oldest first. */
  readonly #entries = new Map<string, CachedReply>();
  #hits = 0;
  #stale = 0;
  #misses = 0;
  #evictions = 0;

  /** @param options Bounds. @throws {RangeError} For a capacity below 1. */
  constructor(options: DnsCacheOptions) {
    if (!(options.capacity >= 1)) {
      throw new RangeError(`Cannot cache ${options.capacity} answers: expected 1 or more`);
    }
    this.#capacity = options.capacity;
    this.#minTtlMs = (options.minTtlSeconds ?? 0) * 1000;
    this.#maxTtlMs = (options.maxTtlSeconds ?? 86_400) * 1000;
    this.#disableExpire = options.disableExpire ?? false;
    this.#optimisticMs = options.optimisticMs ?? 0;
  }

  /**
   * Looks an answer up.
   *
   * @param now Monotonic milliseconds.
   * @param countMiss Whether not finding one is counted; false for who looks again. Default true.
   * @returns The answer, which may have ended if that is allowed; `undefined` when there is none.
   */
  read(key: string, now: number, countMiss = true): CachedReply | undefined {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      if (countMiss) this.#misses++;
      return undefined;
    }
    this.#entries.delete(key);
    if (now >= entry.endsAt + this.#optimisticMs) {
      if (countMiss) this.#misses++;
      return undefined;
    }
    this.#entries.set(key, entry);
    this.#hits++;
    if (now >= entry.endsAt) this.#stale++;
    return entry;
  }

  /** Keeps an answer, if it may be kept. */
  store(key: string, reply: DnsReply, now: number): void {
    if (reply.ttlSeconds === 0) return;
    const ttlMs = Math.min(Math.max(reply.ttlSeconds * 1000, this.#minTtlMs), this.#maxTtlMs);
    this.#entries.delete(key);
    const endsAt = this.#disableExpire ? Infinity : now + ttlMs;
    this.#entries.set(key, { reply, storedAt: now, endsAt });
    if (this.#entries.size <= this.#capacity) return;
    for (const oldest of this.#entries.keys()) {
      this.#entries.delete(oldest);
      this.#evictions++;
      return;
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries.clear();
  }

  /** A frozen copy of the counts. */
  snapshot(): DnsCacheSnapshot {
    return Object.freeze({
      size: this.#entries.size,
      hits: this.#hits,
      stale: this.#stale,
      misses: this.#misses,
      evictions: this.#evictions,
    });
  }
}
