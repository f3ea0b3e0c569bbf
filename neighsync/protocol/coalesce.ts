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
/** There is no state: nothing waits, nothing is on its way, nothing is known. */
const NONE = -3;
const IPV6_BIT = 2 ** 48;

/** Slots before the first growth. */
const FIRST_CAPACITY = 1024;

/**
 * The changes between the filter and the sink. Time comes in with every call; nothing is waited for.
 *
 * A key is looked up once, when a change is put; its slot in the columns is what is passed on from there. Those that wait are
 * a list through the columns, in order.
 */
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

  /** Slots of keys with any state. */
  readonly #slots = new Map<string, number>();
  readonly #keys: string[] = [];
  readonly #freeSlots: number[] = [];
  /** The state that waits to be written. */
  #waiting: Float64Array<ArrayBuffer> = new Float64Array(FIRST_CAPACITY);
  /** The state on its way. */
  #flying: Float64Array<ArrayBuffer> = new Float64Array(FIRST_CAPACITY);
  /** What the other side has acknowledged or shown. */
  #shadow: Float64Array<ArrayBuffer> = new Float64Array(FIRST_CAPACITY);
  /** Neighbours of a waiting slot in the list, or -1. */
  #next: Int32Array<ArrayBuffer> = new Int32Array(FIRST_CAPACITY);
  #previous: Int32Array<ArrayBuffer> = new Int32Array(FIRST_CAPACITY);
  #oldest = -1;
  #newest = -1;
  #pending = 0;
  #inFlight = 0;
  #published = 0;
  /** Host routes to delete before the set of a waiting key. */
  readonly #routes = new Map<string, string>();
  /** Batches on their way, with the slots of their changes. */
  readonly #batches = new Map<PublishBatch, readonly number[]>();
  #taken = 0;
  #cleared = false;
  /** Waiting keys that are on their way, too, and so cannot be taken. */
  #blocked = 0;
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
    return this.#pending;
  }

  /** Keys in batches on their way. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Batches on their way. */
  get batchesInFlight(): number {
    return this.#batches.size;
  }

  /** Batches that were ever taken. */
  get batchesTaken(): number {
    return this.#taken;
  }

  /** Something that waited was forgotten by {@linkcode clear}. */
  get cleared(): boolean {
    return this.#cleared;
  }

  /** Nothing waits and nothing is on its way. */
  get idle(): boolean {
    return this.#pending === 0 && this.#batches.size === 0;
  }

  /** Whether a key waits or is on its way. */
  isBusy(key: string): boolean {
    const slot = this.#slots.get(key);
    return slot !== undefined && (this.#waiting[slot] !== NONE || this.#flying[slot] !== NONE);
  }

  /** Keys that are known to be written. */
  get published(): number {
    return this.#published;
  }

  /** When the next call of {@linkcode take} brings something if nothing else happens, milliseconds; or `Infinity`. */
  get deadline(): number {
    if (this.#pending === this.#blocked || this.#batches.size >= this.#window) return Infinity;
    const free = this.#batches.size === 0 || this.#pending - this.#blocked >= this.#batchSize;
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
    if (this.#pending === this.#blocked || this.#batches.size >= this.#window) return undefined;
    return this.#take(now);
  }

  /** The other side has everything of this batch. Batches may be acknowledged in any order. */
  acknowledge(batch: PublishBatch): void {
    const slots = this.#batches.get(batch);
    if (slots === undefined) return;
    this.#batches.delete(batch);
    for (const slot of slots) {
      const state = this.#land(slot);
      this.#show(slot, state === GONE ? NONE : state);
      this.#release(slot);
    }
  }

  /**
   * The other side has none, some or all of this batch: its changes are put back, but for keys that have newer ones.
   *
   * @param retryAt When the next batch may be taken, monotonic milliseconds; `Infinity` until {@linkcode resume}.
   */
  fail(batch: PublishBatch, retryAt: number): void {
    const slots = this.#batches.get(batch);
    if (slots === undefined) return;
    this.#batches.delete(batch);
    if (retryAt > this.#holdUntil) this.#holdUntil = retryAt;
    for (const [index, { key, route }] of batch.operations.entries()) {
      const slot = slots[index]!;
      const state = this.#land(slot);
      // Nobody knows what is there now.
      this.#show(slot, OTHER);
      if (this.#waiting[slot] !== NONE) continue;
      this.#wait(slot, state);
      if (route !== undefined) this.#routes.set(key, route);
    }
    if (this.#pending > 0 && batch.oldestAt < this.#firstAt) this.#firstAt = batch.oldestAt;
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
    this.#forgetShadow();
    this.#shadowComplete = false;
    this.#uncertain = undefined;
  }

  /** The table is about to be read for {@linkcode replaceShadow}. */
  beginShadow(): void {
    this.#uncertain = new Set();
    for (const slots of this.#batches.values()) {
      for (const slot of slots) this.#uncertain.add(this.#keys[slot]!);
    }
  }

  /**
   * Everything that is written, as it was read since {@linkcode beginShadow}. Keys that were on their way meanwhile may
   * have been read before or after: nothing is assumed about them.
   *
   * Keys that wait keep waiting, unless they say what is there.
   */
  replaceShadow(entries: Iterable<readonly [string, PublishedEntry]>): void {
    if (this.#uncertain === undefined) this.beginShadow();
    this.#forgetShadow();
    for (const [key, { mac, family }] of entries) this.#show(this.#slot(key), stateOf(mac, family));
    for (const key of this.#uncertain!) this.#show(this.#slot(key), OTHER);
    this.#uncertain = undefined;
    this.#shadowComplete = true;
    if (!this.#dedupe) return;
    for (let slot = this.#oldest, next = -1; slot >= 0; slot = next) {
      next = this.#next[slot]!;
      if (this.#flying[slot] !== NONE || this.#routes.has(this.#keys[slot]!)) continue;
      if (this.#shown(slot) !== this.#waiting[slot]) continue;
      this.#unwait(slot);
      this.#release(slot);
      this.suppressed++;
    }
    if (this.#pending === 0) this.#firstAt = Infinity;
  }

  /** Forgets what waits. What is on its way stays so. */
  clear(): void {
    this.#cleared ||= this.#pending > 0;
    for (let slot = this.#oldest, next = -1; slot >= 0; slot = next) {
      next = this.#next[slot]!;
      this.#unwait(slot);
      this.#release(slot);
    }
    this.#routes.clear();
    this.#firstAt = Infinity;
  }

  #forgetShadow(): void {
    for (let slot = 0; slot < this.#keys.length; slot++) {
      if (this.#shadow[slot] === NONE) continue;
      this.#show(slot, NONE);
      this.#release(slot);
    }
  }

  /** State of a key at the other side; `NONE` when it is not known. */
  #shown(slot: number): number {
    const state = this.#shadow[slot]!;
    return state === NONE && this.#shadowComplete ? GONE : state;
  }

  #put(key: string, state: number, now: number, route: string | undefined): boolean {
    let slot = this.#slots.get(key);
    // A key that nothing is known of has no slot for the sake of being gone.
    if (slot === undefined) {
      if (state === GONE && this.#shadowComplete && this.#dedupe) {
        this.suppressed++;
        return false;
      }
      slot = this.#slot(key);
    }
    const flying = this.#flying[slot]!;
    const waits = this.#waiting[slot] !== NONE;
    if (this.#dedupe && route === undefined && !this.#hasRoute(key)) {
      // What is on its way will be there, or be put back.
      const known = flying === NONE ? this.#shown(slot) : flying;
      if (known === state) {
        this.suppressed++;
        if (waits) {
          this.#unwait(slot);
          this.#release(slot);
          if (this.#pending === 0) this.#firstAt = Infinity;
        }
        return false;
      }
    }
    if (waits) {
      this.coalesced++;
      this.#waiting[slot] = state;
    } else this.#wait(slot, state);
    if (route !== undefined) this.#routes.set(key, route);
    else if (state === GONE) this.#routes.delete(key);
    if (this.#firstAt === Infinity) this.#firstAt = now;
    return true;
  }

  /** Hardly anybody has any. */
  #hasRoute(key: string): boolean {
    return this.#routes.size > 0 && this.#routes.has(key);
  }

  /** The slot of a key, which gets one if it has none; {@linkcode Coalescer.#release} takes it back. */
  #slot(key: string): number {
    const known = this.#slots.get(key);
    if (known !== undefined) return known;
    const slot = this.#freeSlots.pop() ?? this.#keys.length;
    if (slot === this.#waiting.length) this.#grow();
    this.#slots.set(key, slot);
    this.#keys[slot] = key;
    this.#waiting[slot] = NONE;
    this.#flying[slot] = NONE;
    this.#shadow[slot] = NONE;
    return slot;
  }

  /** Takes a slot back that has no state any more. */
  #release(slot: number): void {
    if (this.#waiting[slot] !== NONE || this.#flying[slot] !== NONE) return;
    if (this.#shadow[slot] !== NONE) return;
    this.#slots.delete(this.#keys[slot]!);
    this.#keys[slot] = "";
    this.#freeSlots.push(slot);
  }

  #grow(): void {
    const capacity = 2 * this.#waiting.length;
    this.#waiting = copied(new Float64Array(capacity), this.#waiting);
    this.#flying = copied(new Float64Array(capacity), this.#flying);
    this.#shadow = copied(new Float64Array(capacity), this.#shadow);
    this.#next = copied(new Int32Array(capacity), this.#next);
    this.#previous = copied(new Int32Array(capacity), this.#previous);
  }

  #show(slot: number, state: number): void {
    this.#published += Number(state !== NONE) - Number(this.#shadow[slot] !== NONE);
    this.#shadow[slot] = state;
  }

  /** A key waits from now on, behind all others. */
  #wait(slot: number, state: number): void {
    this.#waiting[slot] = state;
    this.#next[slot] = -1;
    this.#previous[slot] = this.#newest;
    if (this.#newest < 0) this.#oldest = slot;
    else this.#next[this.#newest] = slot;
    this.#newest = slot;
    this.#pending++;
    if (this.#flying[slot] !== NONE) this.#blocked++;
  }

  /** A key does not wait any more. */
  #unwait(slot: number): void {
    const next = this.#next[slot]!, previous = this.#previous[slot]!;
    if (previous < 0) this.#oldest = next;
    else this.#next[previous] = next;
    if (next < 0) this.#newest = previous;
    else this.#previous[next] = previous;
    this.#waiting[slot] = NONE;
    this.#pending--;
    if (this.#flying[slot] !== NONE) this.#blocked--;
  }

  /** A key is not on its way any more. @returns The state it was to get. */
  #land(slot: number): number {
    const state = this.#flying[slot]!;
    this.#flying[slot] = NONE;
    this.#inFlight--;
    if (this.#waiting[slot] !== NONE) this.#blocked--;
    return state;
  }

  #take(now: number): PublishBatch {
    const operations: PublishOperation[] = [];
    const slots: number[] = [];
    for (let slot = this.#oldest, next = -1; slot >= 0; slot = next) {
      if (slots.length === this.#maxBatch) break;
      next = this.#next[slot]!;
      if (this.#flying[slot] !== NONE) continue;
      const key = this.#keys[slot]!, state = this.#waiting[slot]!;
      this.#unwait(slot);
      this.#flying[slot] = state;
      this.#inFlight++;
      this.#uncertain?.add(key);
      slots.push(slot);
      operations.push(this.#operation(key, state));
    }
    const batch = { operations, takenAt: now, oldestAt: this.#firstAt };
    // Those that stay were put no earlier than now, as far as the time to wait for company is concerned.
    this.#firstAt = this.#pending === 0 ? Infinity : now;
    this.#batches.set(batch, slots);
    this.#taken++;
    return batch;
  }

  #operation(key: string, state: number): PublishOperation {
    if (state === GONE) return { op: "del", key, mac: "", family: "IPv4" };
    const family = state >= IPV6_BIT ? "IPv6" : "IPv4";
    const mac = formatMac(state >= IPV6_BIT ? state - IPV6_BIT : state);
    const route = this.#routes.size === 0 ? undefined : this.#routes.get(key);
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

function copied<Column extends { set(from: Column): void }>(into: Column, from: Column): Column {
  into.set(from);
  return into;
}
