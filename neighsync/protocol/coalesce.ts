/**
 * What is still to be written, and when: one ordered map from key to its last state, a window of batches on their way,
 * and what is known to be written, so that nothing is written twice.
 *
 * Order per key is kept by three rules. There is one map, not a list of sets and a list of deletes. A key is in at most
 * one batch at a time: what happens to it meanwhile waits. A batch that failed is put back *under* what is newer.
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import { formatMac, parseMac } from "./address.ts";
import { AF_INET6 } from "./constants.ts";

/** One change of one key, as a sink takes it. */
export interface PublishOperation {
  /** Publish or remove. */
  readonly op: "set" | "del";
  /** `<interface>:<address>`. */
  readonly key: string;
  /** Lower-case pairs with colons; empty for `del`. */
  readonly mac: string;
  /** Family of the address; `IPv4` and of no meaning for `del`. */
  readonly family: "IPv4" | "IPv6";
  /** Host route to delete just before a set: `<vrf>:<address>`. */
  readonly route?: string;
}

/** Changes that go out together. */
export interface PublishBatch {
  /** In order, no key twice. */
  readonly operations: readonly PublishOperation[];
  /** When it was taken, monotonic milliseconds. */
  readonly takenAt: number;
  /** When the oldest of its changes was put, monotonic milliseconds. */
  readonly oldestAt: number;
}

/** When to write. */
export interface CoalesceOptions {
  /** Keys that make a batch worth sending while another is on its way. Default 100. */
  readonly batchSize?: number;
  /** Most keys in a batch. Default 1,000. */
  readonly maxBatch?: number;
  /** Batches that may be on their way. Default 2. */
  readonly window?: number;
  /** How long a key waits for company while another batch is on its way, milliseconds. Default 10. */
  readonly batchTimeoutMs?: number;
  /** Write nothing that is known to be written. Default true. */
  readonly dedupe?: boolean;
}

/** What is known to be written about a key, to fill the shadow with. */
export interface PublishedEntry {
  /** Field `neigh` as it is stored. */
  readonly mac: string;
  /** Field `family` as it is stored. */
  readonly family: string;
}

/** A state of a key: its MAC, plus {@linkcode IPV6_BIT} for IPv6; or that it is gone. */
const GONE = -1;
/** Something is stored that no set would write, so every set is a change. */
const OTHER = -2;
const IPV6_BIT = 2 ** 48;

/** The changes between the filter and the sink. Time comes in with every call; nothing is waited for. */
export class Coalescer {
  /** Keys with one change per flush in which a later one replaced an earlier one. */
  coalesced = 0;
  /** Changes that were not written because they say what is written already. */
  suppressed = 0;

  #batchSize = 0;
  #maxBatch = 0;
  readonly #window: number;
  #batchTimeoutMs = 0;
  readonly #dedupe: boolean;

  /** Waiting, oldest first: key to state. */
  readonly #dirty = new Map<string, number>();
  /** Host routes to delete before the set of a waiting key. */
  readonly #routes = new Map<string, string>();
  /** On their way: key to state. */
  readonly #flying = new Map<string, number>();
  readonly #batches = new Set<PublishBatch>();
  /** Waiting keys that are on their way, too, and so cannot be taken. */
  #blocked = 0;
  /** What the other side has acknowledged or shown. */
  readonly #shadow = new Map<string, number>();
  /** The shadow holds every key there is: one that is not in it is not there. */
  #shadowComplete = false;
  /** Keys that were on their way since the reading of the table began. */
  #uncertain: Set<string> | undefined = undefined;
  /** When the first key that waits now was put. */
  #firstAt = Infinity;
  /** Nothing is taken before. */
  #holdUntil = -Infinity;

  /**
   * Makes an empty one.
   *
   * @throws {RangeError} When a number is out of range.
   */
  constructor(options: CoalesceOptions = {}) {
    this.#window = integerIn(options.window ?? 2, 1, 1_000, "window");
    this.#dedupe = options.dedupe ?? true;
    this.tune(options);
  }

  /**
   * Goes on with other sizes; `window` and `dedupe` stay as they were.
   *
   * @throws {RangeError} When a number is out of range.
   */
  tune(options: CoalesceOptions): void {
    this.#batchSize = integerIn(options.batchSize ?? 100, 1, 1e6, "batch size");
    this.#maxBatch = integerIn(options.maxBatch ?? 1_000, 1, 1e6, "largest batch");
    this.#batchTimeoutMs = options.batchTimeoutMs ?? 10;
  }

  /** Keys that wait. */
  get pending(): number {
    return this.#dirty.size;
  }

  /** Keys in batches on their way. */
  get inFlight(): number {
    return this.#flying.size;
  }

  /** Batches on their way. */
  get batchesInFlight(): number {
    return this.#batches.size;
  }

  /** Nothing waits and nothing is on its way. */
  get idle(): boolean {
    return this.#dirty.size === 0 && this.#batches.size === 0;
  }

  /** Whether a key waits or is on its way. */
  isBusy(key: string): boolean {
    return this.#dirty.has(key) || this.#flying.has(key);
  }

  /** Keys that are known to be written. */
  get published(): number {
    return this.#shadow.size;
  }

  /** When the next call of {@linkcode take} brings something if nothing else happens, milliseconds; or `Infinity`. */
  get deadline(): number {
    if (this.#dirty.size === this.#blocked || this.#batches.size >= this.#window) return Infinity;
    const free = this.#batches.size === 0 || this.#dirty.size - this.#blocked >= this.#batchSize;
    const at = free ? this.#firstAt : this.#firstAt + this.#batchTimeoutMs;
    return Math.max(at, this.#holdUntil);
  }

  /**
   * A key is to have this MAC.
   *
   * @param mac 48-bit number.
   * @param family `AF_INET` or `AF_INET6`.
   * @param route Host route to delete just before; such a set is never suppressed.
   * @returns Whether there is something to write.
   */
  set(key: string, mac: number, family: number, now: number, route?: string | undefined): boolean {
    return this.#put(key, family === AF_INET6 ? mac + IPV6_BIT : mac, now, route);
  }

  /** A key is to be gone. @returns Whether there is something to write. */
  delete(key: string, now: number): boolean {
    return this.#put(key, GONE, now, undefined);
  }

  /**
   * Takes the next batch, if it is time: at once when none is on its way, else when the window has room and enough keys
   * wait or one has waited long enough.
   *
   * @returns The batch, which stays on its way until it is acknowledged or has failed.
   */
  take(now: number): PublishBatch | undefined {
    return now >= this.deadline ? this.#take(now) : undefined;
  }

  /** Takes the next batch now, if there is room in the window and any key can be taken: for the end. */
  flush(now: number): PublishBatch | undefined {
    if (this.#dirty.size === this.#blocked || this.#batches.size >= this.#window) return undefined;
    return this.#take(now);
  }

  /** The other side has everything of this batch. Batches may be acknowledged in any order. */
  acknowledge(batch: PublishBatch): void {
    if (!this.#batches.delete(batch)) return;
    for (const { key } of batch.operations) {
      const state = this.#land(key);
      if (state === GONE) this.#shadow.delete(key);
      else this.#shadow.set(key, state);
    }
  }

  /**
   * The other side has none, some or all of this batch: its changes are put back, but for keys that have newer ones.
   *
   * @param retryAt When the next batch may be taken, monotonic milliseconds; `Infinity` until {@linkcode resume}.
   */
  fail(batch: PublishBatch, retryAt: number): void {
    if (!this.#batches.delete(batch)) return;
    if (retryAt > this.#holdUntil) this.#holdUntil = retryAt;
    for (const { key, route } of batch.operations) {
      const state = this.#land(key);
      // Nobody knows what is there now.
      this.#shadow.set(key, OTHER);
      if (this.#dirty.has(key)) continue;
      this.#dirty.set(key, state);
      if (route !== undefined) this.#routes.set(key, route);
    }
    if (this.#dirty.size > 0 && batch.oldestAt < this.#firstAt) this.#firstAt = batch.oldestAt;
  }

  /** Batches may be taken again. */
  resume(): void {
    this.#holdUntil = -Infinity;
  }

  /** Take no batch until {@linkcode resume}. */
  pause(): void {
    this.#holdUntil = Infinity;
  }

  /** The connection is another one: nothing is known of what is written. */
  discardShadow(): void {
    this.#shadow.clear();
    this.#shadowComplete = false;
    this.#uncertain = undefined;
  }

  /** The table is about to be read for {@linkcode replaceShadow}. */
  beginShadow(): void {
    this.#uncertain = new Set(this.#flying.keys());
  }

  /**
   * Everything that is written, as it was read since {@linkcode beginShadow}. Keys that were on their way meanwhile may
   * have been read before or after: nothing is assumed about them.
   *
   * Keys that wait keep waiting, unless they say what is there.
   */
  replaceShadow(entries: Iterable<readonly [string, PublishedEntry]>): void {
    this.#shadow.clear();
    for (const [key, { mac, family }] of entries) this.#shadow.set(key, stateOf(mac, family));
    for (const key of this.#uncertain ?? this.#flying.keys()) this.#shadow.set(key, OTHER);
    this.#uncertain = undefined;
    this.#shadowComplete = true;
    if (!this.#dedupe) return;
    for (const [key, state] of this.#dirty) {
      if (this.#flying.has(key) || this.#routes.has(key) || this.#shown(key) !== state) continue;
      this.#dirty.delete(key);
      this.suppressed++;
    }
    if (this.#dirty.size === 0) this.#firstAt = Infinity;
  }

  /** Forgets what waits. What is on its way stays so. */
  clear(): void {
    this.#dirty.clear();
    this.#routes.clear();
    this.#blocked = 0;
    this.#firstAt = Infinity;
  }

  /** State of a key at the other side; undefined when it is not known. */
  #shown(key: string): number | undefined {
    return this.#shadow.get(key) ?? (this.#shadowComplete ? GONE : undefined);
  }

  #put(key: string, state: number, now: number, route: string | undefined): boolean {
    const flying = this.#flying.get(key);
    const waits = this.#dirty.has(key);
    if (this.#dedupe && route === undefined && !this.#routes.has(key)) {
      // What is on its way will be there, or be put back.
      const known = flying ?? this.#shown(key);
      if (known === state) {
        this.suppressed++;
        if (waits) {
          this.#dirty.delete(key);
          if (flying !== undefined) this.#blocked--;
          if (this.#dirty.size === 0) this.#firstAt = Infinity;
        }
        return false;
      }
    }
    if (waits) this.coalesced++;
    else if (flying !== undefined) this.#blocked++;
    this.#dirty.set(key, state);
    if (route !== undefined) this.#routes.set(key, route);
    else if (state === GONE) this.#routes.delete(key);
    if (this.#firstAt === Infinity) this.#firstAt = now;
    return true;
  }

  /** A key is not on its way any more. @returns The state it was to get. */
  #land(key: string): number {
    const state = this.#flying.get(key)!;
    this.#flying.delete(key);
    if (this.#dirty.has(key)) this.#blocked--;
    return state;
  }

  #take(now: number): PublishBatch {
    const operations: PublishOperation[] = [];
    for (const [key, state] of this.#dirty) {
      if (operations.length === this.#maxBatch) break;
      if (this.#flying.has(key)) continue;
      this.#dirty.delete(key);
      this.#flying.set(key, state);
      this.#uncertain?.add(key);
      operations.push(this.#operation(key, state));
    }
    const batch = { operations, takenAt: now, oldestAt: this.#firstAt };
    // Those that stay were put no earlier than now, as far as the time to wait for company is concerned.
    this.#firstAt = this.#dirty.size === 0 ? Infinity : now;
    this.#batches.add(batch);
    return batch;
  }

  #operation(key: string, state: number): PublishOperation {
    if (state === GONE) return { op: "del", key, mac: "", family: "IPv4" };
    const family = state >= IPV6_BIT ? "IPv6" : "IPv4";
    const mac = formatMac(state >= IPV6_BIT ? state - IPV6_BIT : state);
    const route = this.#routes.get(key);
    if (route === undefined) return { op: "set", key, mac, family };
    this.#routes.delete(key);
    return { op: "set", key, mac, family, route };
  }
}

/** What a set would have to say to be no change. */
function stateOf(mac: string, family: string): number {
  const value = parseMac(mac);
  // Another spelling of the same MAC is another value to whoever compares text.
  if (value < 0 || mac !== formatMac(value)) return OTHER;
  if (family === "IPv4") return value;
  return family === "IPv6" ? value + IPV6_BIT : OTHER;
}
