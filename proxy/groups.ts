/**
 * Outbounds that are a choice of others: by hand, by speed, by health, or in turns.
 *
 * @module
 */

import { logger } from "../internal/log.ts";
import type {
  FallbackOutboundConfig,
  GroupOutboundConfig,
  LoadbalanceOutboundConfig,
  Network,
  SelectorOutboundConfig,
  TestedGroup,
  UrltestOutboundConfig,
} from "./config_types.ts";
import type { Duplex } from "./duplex.ts";
import { HealthBook, measureDelay } from "./health.ts";
import type { DialOptions, Metadata, Outbound, OutboundContext } from "./outbound.ts";
import type { PacketConnection } from "./packets.ts";
import type { Endpoint } from "./protocol/mod.ts";
import { RejectedError } from "./replies.ts";

/** Calls back once, after a time. @returns Stops that. */
export type Schedule = (call: () => void, ms: number) => () => void;

/** What groups live on. */
export type GroupContext = Pick<OutboundContext, "connections" | "clock" | "outbound"> & {
  /** Default: the runtime's timer. */
  readonly schedule?: Schedule;
  /** How members are measured; default {@linkcode measureDelay}. */
  readonly measure?: typeof measureDelay;
};

/** Makes a group. Opens nothing; members are looked up when the first is needed. */
export function createGroup(
  config: GroupOutboundConfig,
  context: GroupContext,
): GroupOutbound {
  switch (config.type) {
    case "selector":
      return new SelectorOutbound(config, context);
    case "urltest":
      return new UrltestOutbound(config, context);
    case "fallback":
      return new FallbackOutbound(config, context);
    case "loadbalance":
      return new LoadbalanceOutbound(config, context);
  }
}

/** Whether an outbound is a group. */
export function isGroup(outbound: Outbound): outbound is GroupOutbound {
  return outbound instanceof GroupOutbound;
}

/** Lets the groups of a new configuration go on with what was chosen by hand in the one before. */
export function keepSelections(
  before: ReadonlyMap<string, Outbound>,
  after: ReadonlyMap<string, Outbound>,
): void {
  for (const [tag, group] of after) {
    const previous = before.get(tag);
    if (group instanceof SelectorOutbound && previous instanceof SelectorOutbound) {
      group.takeOver(previous);
    }
  }
}

/** What all groups have in common. */
export abstract class GroupOutbound implements Outbound {
  abstract readonly type: GroupOutboundConfig["type"];
  readonly tag: string;
  /** Tags of the members, in order. */
  readonly members: readonly string[];
  /** What was measured of them. */
  readonly health: HealthBook = new HealthBook();
  protected readonly context: GroupContext;
  readonly #interrupts: boolean;
  readonly #log = logger("proxy", "group");

  /** @param config Its tag and members. */
  constructor(config: GroupOutboundConfig, context: GroupContext) {
    this.tag = config.tag;
    this.members = config.outbounds;
    this.context = context;
    this.#interrupts = config.interruptExistConnections;
  }

  /** Transports that any member takes. */
  get networks(): readonly Network[] {
    const all: readonly Network[] = ["tcp", "udp"];
    return all.filter((network) => this.#taking(network).length > 0);
  }

  /** Tag of the member that a new connection takes; `undefined` when that depends on the connection. */
  abstract get now(): string | undefined;

  /** Connects through a member; when that fails before anything was sent, once through the next one. */
  async dial(destination: Endpoint, options: DialOptions = {}): Promise<Duplex> {
    return await this.#through("tcp", options, (member) => member.dial(destination, options));
  }

  /** Opens datagrams through a member. */
  async openPackets(options: DialOptions = {}): Promise<PacketConnection> {
    return await this.#through("udp", options, (member) => member.openPackets!(options));
  }

  /** Begins its measurements. */
  start(): Promise<void> {
    return Promise.resolve();
  }

  /** Ends its measurements. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  /**
   * Measures all members now.
   *
   * @param url What is fetched. @param timeoutMs Longest time for each.
   * @returns Milliseconds by tag; members without an answer are left out.
   */
  async measureAll(url: string, timeoutMs?: number): Promise<ReadonlyMap<string, number>> {
    const delays = new Map<string, number>();
    const left = [...this.members];
    const measureNext = async (): Promise<void> => {
      for (let tag = left.shift(); tag !== undefined; tag = left.shift()) {
        const delay = await this.measure(tag, url, timeoutMs);
        if (delay > 0) delays.set(tag, delay);
      }
    };
    await Promise.all(Array.from({ length: Math.min(MOST_PARALLEL, left.length) }, measureNext));
    return delays;
  }

  /** Members that take a transport, without one; the order is the configuration's. */
  protected candidates(network: Network, without?: string): readonly string[] {
    return this.#taking(network).filter((tag) => tag !== without);
  }

  /**
   * Chooses among members.
   *
   * @param tags Never empty.
   */
  protected abstract choose(tags: readonly string[], metadata: Metadata | undefined): string;

  /** Whether another member is tried when one fails. */
  protected get retries(): boolean {
    return true;
  }

  /** A connection is about to be made. */
  protected used(): void {}

  /** A member could not connect. */
  protected failed(_tag: string): void {}

  /** The chosen member has changed. */
  protected changed(): void {
    this.#log.info("{group} takes {member} now", { group: this.tag, member: this.now ?? "" });
    if (!this.#interrupts) return;
    this.context.connections.closeAll(({ chain }) => chain.includes(this.tag));
  }

  /** Measures one member. @returns Milliseconds; 0 without an answer. */
  protected async measure(
    tag: string,
    url: string,
    timeoutMs?: number,
    signal?: AbortSignal,
  ): Promise<number> {
    let delay = 0;
    try {
      const { clock, measure = measureDelay } = this.context;
      const outbound = this.context.outbound(tag);
      delay = await measure(outbound, url, {
        clock,
        signal,
        ...(timeoutMs === undefined ? {} : { timeoutMs }),
      });
    } catch (error) {
      if (signal?.aborted) return 0;
      this.#log.debug("{member} did not answer: {error}", {
        member: tag,
        error: error instanceof Error ? error.message : String(error),
      });
    }
    this.health.record(tag, delay);
    return delay;
  }

  #taking(network: Network): readonly string[] {
    return this.members.filter((tag) => {
      const member = this.context.outbound(tag);
      return member.networks.includes(network) &&
        (network === "tcp" || member.openPackets !== undefined);
    });
  }

  async #through<T>(
    network: Network,
    options: DialOptions,
    connect: (member: Outbound) => Promise<T>,
  ): Promise<T> {
    this.used();
    const { chain, metadata, signal } = options;
    chain?.push(this.tag);
    const depth = chain?.length ?? 0;
    const tags = this.candidates(network);
    if (tags.length === 0) {
      throw new RejectedError(`Cannot connect: no member of "${this.tag}" takes ${network}`);
    }
    const tag = this.choose(tags, metadata);
    try {
      return await connect(this.context.outbound(tag));
    } catch (error) {
      // A rule's word is no sign of bad health, and neither is that nobody waits any more.
      if (signal?.aborted || error instanceof RejectedError) throw error;
      this.failed(tag);
      const rest = this.candidates(network, tag);
      if (!this.retries || rest.length === 0) throw error;
      if (chain !== undefined) chain.length = depth;
      return await connect(this.context.outbound(this.choose(rest, metadata)));
    }
  }
}

/** Where choices outlive the process. */
export interface SelectionStore {
  /** The member of a group that was chosen last. */
  selected(group: string): string | undefined;
  /** Keeps a choice. */
  select(group: string, member: string): void;
}

/** A group whose member is chosen by hand. */
export class SelectorOutbound extends GroupOutbound {
  readonly type = "selector";
  #now: string;
  #store: SelectionStore | undefined;

  /** @param config Its members, and the one at the start. */
  constructor(config: SelectorOutboundConfig, context: GroupContext) {
    super(config, context);
    this.#now = config.default;
  }

  get now(): string {
    return this.#now;
  }

  /** Takes another member. @throws {RangeError} When it is none. */
  select(tag: string): void {
    if (!this.members.includes(tag)) {
      throw new RangeError(`Cannot select "${tag}": it is no member of "${this.tag}"`);
    }
    if (tag === this.#now) return;
    this.#now = tag;
    this.#store?.select(this.tag, tag);
    this.changed();
  }

  /** Keeps choices from now on. @param restores Whether it begins with the one that is kept. */
  keepIn(store: SelectionStore, restores: boolean): void {
    this.#store = store;
    const kept = restores ? store.selected(this.tag) : undefined;
    if (kept !== undefined && this.members.includes(kept)) this.#now = kept;
  }

  /** Goes on with the choice of the group that had this place before, if that member is still there. */
  takeOver(previous: SelectorOutbound): void {
    if (this.members.includes(previous.now)) this.#now = previous.now;
  }

  override get networks(): readonly Network[] {
    return this.context.outbound(this.#now).networks;
  }

  protected override candidates(network: Network, without?: string): readonly string[] {
    return super.candidates(network, without).filter((tag) => tag === this.#now);
  }

  protected override choose(tags: readonly string[]): string {
    return tags[0]!;
  }

  protected override get retries(): boolean {
    return false;
  }
}

/** A group that measures its members while it is used. */
abstract class TestedOutbound extends GroupOutbound {
  readonly #config: TestedGroup;
  readonly #schedule: Schedule;
  readonly #closing = new AbortController();
  #usedAt = -Infinity;
  #testedAt = -Infinity;
  #stop: (() => void) | undefined;
  #testing: Promise<void> | undefined;
  #wantsAgain = false;

  constructor(config: GroupOutboundConfig & TestedGroup, context: GroupContext) {
    super(config, context);
    this.#config = config;
    this.#schedule = context.schedule ?? timer;
  }

  override start(): Promise<void> {
    this.#usedAt = this.context.clock.now();
    this.test().catch(() => {});
    return Promise.resolve();
  }

  override async close(): Promise<void> {
    this.#closing.abort(new Error("Cannot measure: the group was closed"));
    this.#stop?.();
    await this.#testing;
  }

  /** Measures all members by the configuration's URL; one run at a time. */
  test(): Promise<void> {
    if (this.#closing.signal.aborted) return Promise.resolve();
    return this.#testing ??= this.#run().finally(() => {
      this.#testing = undefined;
      if (!this.#wantsAgain) return;
      this.#wantsAgain = false;
      this.test().catch(() => {});
    });
  }

  protected override used(): void {
    const now = this.context.clock.now();
    this.#usedAt = now;
    // Nobody measured while nobody used it.
    if (this.#stop === undefined && this.#testing === undefined) {
      if (now - this.#testedAt >= this.#config.intervalMs) this.test().catch(() => {});
      else this.#wait(this.#config.intervalMs - (now - this.#testedAt));
    }
  }

  protected override failed(tag: string): void {
    this.health.record(tag, 0);
    this.measured(tag, 0);
    if (this.#testing === undefined) this.test().catch(() => {});
    else this.#wantsAgain = true;
  }

  /** A member was measured. @param delayMs 0 for no answer. */
  protected abstract measured(tag: string, delayMs: number): void;

  protected override async measure(
    tag: string,
    url: string,
    timeoutMs?: number,
    signal: AbortSignal = this.#closing.signal,
  ): Promise<number> {
    const delay = await super.measure(tag, url, timeoutMs, signal);
    if (!signal.aborted) this.measured(tag, delay);
    return delay;
  }

  async #run(): Promise<void> {
    this.#stop?.();
    this.#stop = undefined;
    this.#testedAt = this.context.clock.now();
    await this.measureAll(this.#config.url);
    if (!this.#closing.signal.aborted) this.#wait(this.#config.intervalMs);
  }

  #wait(ms: number): void {
    this.#stop?.();
    this.#stop = this.#schedule(() => {
      this.#stop = undefined;
      const idleMs = this.context.clock.now() - this.#usedAt;
      if (idleMs < this.#config.idleTimeoutMs) this.test().catch(() => {});
    }, ms);
  }
}

/** A group that takes the quickest member. */
export class UrltestOutbound extends TestedOutbound {
  readonly type = "urltest";
  readonly #toleranceMs: number;
  #now: string;

  /** @param config Its members, and how they are measured. */
  constructor(config: UrltestOutboundConfig, context: GroupContext) {
    super(config, context);
    this.#toleranceMs = config.toleranceMs;
    this.#now = config.outbounds[0]!;
  }

  get now(): string {
    return this.#now;
  }

  protected override measured(): void {
    const next = this.#quickest(this.members);
    if (next === this.#now) return;
    this.#now = next;
    this.changed();
  }

  protected override choose(tags: readonly string[]): string {
    return this.#quickest(tags);
  }

  /** The member in use, unless another one is quicker by more than the tolerance. */
  #quickest(tags: readonly string[]): string {
    const delay = (tag: string): number => this.health.delayOf(tag) || Infinity;
    const current = tags.includes(this.#now) ? this.#now : tags[0]!;
    let best = current;
    for (const tag of tags) if (delay(tag) < delay(best)) best = tag;
    return delay(best) + this.#toleranceMs < delay(current) ? best : current;
  }
}

/** A group that takes the first healthy member. */
export class FallbackOutbound extends TestedOutbound {
  readonly type = "fallback";
  readonly #upChecks: number;
  readonly #downChecks: number;
  /** Measurements in a row that speak against what is thought of a member. */
  readonly #against = new Map<string, number>();
  readonly #unhealthy = new Set<string>();
  #now: string;

  /** @param config Its members, and how they are measured. */
  constructor(config: FallbackOutboundConfig, context: GroupContext) {
    super(config, context);
    this.#upChecks = config.upChecks;
    this.#downChecks = config.downChecks;
    this.#now = config.outbounds[0]!;
  }

  get now(): string {
    return this.#now;
  }

  protected override measured(tag: string, delayMs: number): void {
    const isDown = this.#unhealthy.has(tag);
    if (delayMs > 0 !== isDown) {
      this.#against.delete(tag);
      return;
    }
    const against = (this.#against.get(tag) ?? 0) + 1;
    this.#against.set(tag, against);
    if (against < (isDown ? this.#upChecks : this.#downChecks)) return;
    this.#against.delete(tag);
    if (isDown) this.#unhealthy.delete(tag);
    else this.#unhealthy.add(tag);
    const next = this.choose(this.members);
    if (next === this.#now) return;
    this.#now = next;
    this.changed();
  }

  protected override choose(tags: readonly string[]): string {
    return tags.find((tag) => !this.#unhealthy.has(tag)) ?? tags[0]!;
  }
}

/** A group that spreads connections over its healthy members. */
export class LoadbalanceOutbound extends TestedOutbound {
  readonly type = "loadbalance";
  readonly now: undefined;
  readonly #strategy: LoadbalanceOutboundConfig["strategy"];
  #turn = 0;

  /** @param config Its members, how they are measured, and how one is chosen. */
  constructor(config: LoadbalanceOutboundConfig, context: GroupContext) {
    super(config, context);
    this.#strategy = config.strategy;
  }

  protected override measured(): void {}

  protected override choose(tags: readonly string[], metadata: Metadata | undefined): string {
    const healthy = tags.filter((tag) => this.health.delayOf(tag) !== 0);
    const usable = healthy.length === 0 ? tags : healthy;
    switch (this.#strategy) {
      case "round-robin":
        return usable[this.#turn++ % usable.length]!;
      case "least-connections":
        return least(usable, (tag) => this.context.connections.countOf(tag));
      case "source-hash":
        return heaviest(usable, metadata?.source.address ?? "");
      case "consistent-hash":
        return heaviest(usable, metadata?.destination.host ?? "");
      case "least-latency": {
        // A member twice as slow gets half as many; one nobody measured counts as slow.
        const count = (tag: string): number => this.context.connections.countOf(tag) + 1;
        return least(usable, (tag) => count(tag) * (this.health.delayOf(tag) ?? UNMEASURED_MS));
      }
    }
  }
}

function least(tags: readonly string[], weigh: (tag: string) => number): string {
  let best = tags[0]!;
  let bestWeight = weigh(best);
  for (const tag of tags.slice(1)) {
    const weight = weigh(tag);
    if (weight < bestWeight) [best, bestWeight] = [tag, weight];
  }
  return best;
}

/**
 * Rendezvous hashing: each pair of key and member has a weight of its own, so that a member that goes takes only its own
 * keys with it, and gets them back when it returns.
 */
function heaviest(tags: readonly string[], key: string): string {
  return least(tags, (tag) => -hash(`${tag}\0${key}`));
}

/** FNV-1a with murmur3's last mixing: the first alone keeps neighbours together. */
function hash(text: string): number {
  let value = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) {
    value = Math.imul(value ^ text.charCodeAt(i), 0x01000193);
  }
  value = Math.imul(value ^ value >>> 16, 0x85ebca6b);
  value = Math.imul(value ^ value >>> 13, 0xc2b2ae35);
  return (value ^ value >>> 16) >>> 0;
}

function timer(call: () => void, ms: number): () => void {
  const id = setTimeout(call, ms);
  return () => clearTimeout(id);
}

const MOST_PARALLEL = 10;
const UNMEASURED_MS = 1000;
