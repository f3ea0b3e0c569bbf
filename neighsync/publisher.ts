/**
 * From changes of the kernel's tables to changes of the published one: the rules, and the comparison of both tables.
 *
 * @module
 */

import { formatMac } from "./protocol/address.ts";
import type { Coalescer } from "./protocol/coalesce.ts";
import {
  AF_INET,
  NUD_DELAY,
  NUD_PERMANENT,
  NUD_REACHABLE,
  NUD_STALE,
} from "./protocol/constants.ts";
import {
  type FilterDecision,
  type FilterFacts,
  type FilterReason,
  type InterfaceChoice,
  NeighFilter,
} from "./protocol/filter.ts";
import { CHANGED_STATE, type NeighborChange } from "./protocol/resync_actions.ts";
import type { WarmRestart } from "./protocol/warm_restart.ts";
import type { StoredNeighbor } from "./sink.ts";

/** Somebody who tells every neighbor again; a `KernelFeed` does. */
export interface Replayable {
  /** Tells every entry again, or those of one interface. */
  replay(ifindex?: number): void;
}

/** What is to be published. */
export interface ExpectedTable {
  /** Entries by key. */
  readonly entries: Map<string, StoredNeighbor>;
  /** Keys whose entries, if there are any, are left as they are. */
  readonly mayStay: Set<string>;
}

/** How it is decided what is published. */
export interface PublisherOptions {
  /** The configuration's facts. */
  readonly facts: FilterFacts;
  /** Which interfaces are published. */
  readonly choice: InterfaceChoice;
  /** Which families are: 0 both, else `AF_INET` or `AF_INET6`. */
  readonly family: number;
  /** What waits to be written. */
  readonly coalescer: Coalescer;
  /** Nothing is written twice. */
  readonly dedupe: boolean;
  /** Link-local neighbors are removed where they are no longer enabled. */
  readonly strictLinkLocal: boolean;
}

const ZERO_MAC = 0;
/** States between which a neighbor wanders without anything to write: the MAC is the same, every rule says the same. */
const SETTLED = NUD_REACHABLE | NUD_STALE | NUD_DELAY | NUD_PERMANENT;

/** Decides about changes, and puts what follows where it belongs. */
export class Publisher {
  /** Changes looked at. */
  processed = 0;
  /** Changes that said what is published already and were not even put into words. */
  unchanged = 0;
  /** The course of a warm restart, while it collects. */
  warm: WarmRestart | undefined;

  readonly #options: PublisherOptions;
  readonly #reasons = new Map<FilterReason, number>();
  #filter: NeighFilter;
  /** What the sink holds and the view has not shown yet, while both are compared. */
  #unseen: Map<string, StoredNeighbor> | undefined;
  #touched: ReadonlySet<string> = NOTHING;
  #repairs = 0;
  #next: NeighFilter | undefined;
  #expected: ExpectedTable | undefined;

  /** Publishes nothing by itself. */
  constructor(options: PublisherOptions) {
    this.#options = options;
    this.#filter = new NeighFilter(options.facts, options.choice);
  }

  /** Changes by what the rules said, as a frozen copy. */
  filtered(): Readonly<Partial<Record<FilterReason, number>>> {
    return Object.freeze(Object.fromEntries(this.#reasons));
  }

  /** Takes one change. */
  changed(change: NeighborChange, now: number): void {
    const { neighbor, link, masterName, source } = change;
    const decision = this.#filter.decide(neighbor, link.name, masterName);
    const { reason } = decision;
    if (source !== "replay") {
      this.processed++;
      this.#reasons.set(reason, (this.#reasons.get(reason) ?? 0) + 1);
    }
    if (this.#expected !== undefined) this.#expect(change, decision);
    else if (this.#next !== undefined) this.#leave(change, now);
    else if (this.#unseen !== undefined) this.#compared(change, decision, now);
    else if (decision.op === "ignore") {
      const left = reason === "ipv6-link-local" && this.#options.strictLinkLocal;
      if (left && source === "replay") this.#delete(link.prefix + neighbor.ip, now);
    } else if (decision.op === "del") this.#delete(link.prefix + neighbor.ip, now);
    else if (this.#isRepetition(change, decision)) this.unchanged++;
    else this.#set(link.prefix + neighbor.ip, change, decision, now);
  }

  /**
   * Makes what is written equal to what is to be published. What an unwanted interface or family has is left alone: it may
   * be somebody else's.
   *
   * @param entries What the sink holds; used up.
   * @param touched Keys that were on their way meanwhile: they are put right, too, but nothing was wrong with them.
   * @returns Keys that were wrong.
   */
  compare(
    entries: Map<string, StoredNeighbor>,
    feed: Replayable,
    now: number,
    touched: ReadonlySet<string> = NOTHING,
  ): number {
    const { coalescer, family } = this.#options;
    this.#unseen = entries;
    this.#touched = touched;
    this.#repairs = 0;
    feed.replay();
    this.#unseen = undefined;
    for (const key of entries.keys()) {
      const colon = key.indexOf(":");
      if (!this.#filter.isWanted(key.slice(0, colon))) continue;
      const isIpv6 = key.indexOf(":", colon + 1) >= 0;
      if (family !== 0 && isIpv6 === (family === AF_INET)) continue;
      const counts = !coalescer.isBusy(key) && !touched.has(key);
      if (coalescer.delete(key, now) && counts) this.#repairs++;
    }
    return this.#repairs;
  }

  /** What is to be published now, as a table; nothing is written. */
  expected(feed: Replayable): ExpectedTable {
    const expected = this.#expected = { entries: new Map(), mayStay: new Set<string>() };
    feed.replay();
    this.#expected = undefined;
    return expected;
  }

  /** Whether neighbors of this interface are published at all. */
  isWanted(ifname: string): boolean {
    return this.#filter.isWanted(ifname);
  }

  /** Goes on with another choice of interfaces: what is no longer wanted is removed, what now is wanted is published. */
  choose(choice: InterfaceChoice, feed: Replayable | undefined): void {
    const next = new NeighFilter(this.#options.facts, choice);
    this.#next = next;
    feed?.replay();
    this.#next = undefined;
    this.#filter = next;
    feed?.replay();
  }

  #set(key: string, change: NeighborChange, decision: FilterDecision, now: number): boolean {
    const { neighbor, masterName } = change;
    const mac = decision.zeroMac ? ZERO_MAC : neighbor.mac;
    if (this.warm !== undefined) {
      const family = neighbor.family === AF_INET ? "IPv4" : "IPv6";
      this.warm.set(key, { mac: formatMac(mac), family });
      return false;
    }
    const route = decision.clearRoute ? `${masterName}:${neighbor.ip}` : undefined;
    return this.#options.coalescer.set(key, mac, neighbor.family, now, route);
  }

  #delete(key: string, now: number): void {
    if (this.warm !== undefined) this.warm.delete(key);
    else this.#options.coalescer.delete(key, now);
  }

  /** Nothing of what is written has changed: known before a key is made. */
  #isRepetition(change: NeighborChange, { clearRoute }: FilterDecision): boolean {
    const { kind, source, changed, neighbor, previousState } = change;
    return kind === "change" && source === "event" && this.#options.dedupe && !clearRoute &&
      (changed & ~CHANGED_STATE) === 0 &&
      (neighbor.state & SETTLED) !== 0 && (previousState & SETTLED) !== 0;
  }

  #compared(change: NeighborChange, decision: FilterDecision, now: number): void {
    const { neighbor, link } = change;
    const key = link.prefix + neighbor.ip;
    if (decision.op === "set") {
      this.#unseen!.delete(key);
      const counts = !this.#options.coalescer.isBusy(key) && !this.#touched.has(key);
      // A host route is cleared at every set; that nothing else is written shows in the shadow only.
      const quiet = decision.clearRoute ? { ...decision, clearRoute: false } : decision;
      if (this.#set(key, change, quiet, now) && counts) this.#repairs++;
    } else if (decision.op === "ignore" && this.#mayStay(decision.reason)) {
      this.#unseen!.delete(key);
    } else if (decision.reason !== "interface" && !this.#unseen!.has(key)) {
      // Taken for publishable before all facts were known, and still waiting: not in the table that was read.
      this.#options.coalescer.delete(key, now);
    }
  }

  /** Rules that leave alone what is published, for a while or for good. */
  #mayStay(reason: FilterReason): boolean {
    if (reason === "ipv6-link-local") return !this.#options.strictLinkLocal;
    return reason === "probe";
  }

  #expect({ neighbor, link }: NeighborChange, { op, reason, zeroMac }: FilterDecision): void {
    const key = link.prefix + neighbor.ip;
    if (op === "set") {
      const mac = formatMac(zeroMac ? ZERO_MAC : neighbor.mac);
      const family = neighbor.family === AF_INET ? "IPv4" : "IPv6";
      this.#expected!.entries.set(key, { mac, family });
    } else if (op === "ignore" && this.#mayStay(reason)) this.#expected!.mayStay.add(key);
  }

  #leave({ link, neighbor }: NeighborChange, now: number): void {
    if (!this.#filter.isWanted(link.name) || this.#next!.isWanted(link.name)) return;
    this.#delete(link.prefix + neighbor.ip, now);
  }
}

const NOTHING: ReadonlySet<string> = new Set();
