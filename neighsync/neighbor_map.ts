/**
 * The view of a monitor as a map. Nothing is copied: objects are made for what is asked for.
 *
 * @module
 */

import { type Neighbor, neighborOf } from "./neighbor.ts";
import { parseAddress } from "./protocol/address.ts";
import type { Link } from "./protocol/link_cache.ts";
import { NeighborView } from "./protocol/neighbor.ts";
import { ENTRY_ANNOUNCED, ENTRY_LIVE } from "./protocol/neighbor_table.ts";
import type { KernelFeed } from "./kernel_feed.ts";

/** Neighbors by key, `<interface>:<address>`; live, in no particular order. */
export class NeighborMap implements ReadonlyMap<string, Neighbor> {
  readonly #feed: KernelFeed;
  readonly #isWanted: (ifname: string) => boolean;
  readonly #scratch = new NeighborView();

  /** @param isWanted Which interfaces are in it. */
  constructor(feed: KernelFeed, isWanted: (ifname: string) => boolean) {
    this.#feed = feed;
    this.#isWanted = isWanted;
  }

  /** Neighbors; counted anew when only some interfaces are in it. */
  get size(): number {
    let size = 0;
    for (const _slot of this.#slots()) size++;
    return size;
  }

  /** The neighbor with this key, as it is now. */
  get(key: string): Neighbor | undefined {
    const colon = key.indexOf(":");
    const ifname = key.slice(0, Math.max(0, colon));
    const address = parseAddress(key.slice(colon + 1));
    if (address === undefined || !this.#isWanted(ifname)) return undefined;
    const { family, words } = address;
    const [word0, word1, word2, word3] = words;
    for (const link of this.#feed.links.links()) {
      if (link.name !== ifname) continue;
      const { table } = this.#feed;
      const slot = table.findKey(link.ifindex, family, word0!, word1!, word2!, word3!);
      return slot >= 0 && this.#isTold(slot) ? this.#object(slot, link) : undefined;
    }
    return undefined;
  }

  /** Whether there is a neighbor with this key. */
  has(key: string): boolean {
    return this.get(key) !== undefined;
  }

  /** Keys. */
  *keys(): MapIterator<string> {
    for (const [slot, link] of this.#slots()) yield link.prefix + this.#feed.table.ip(slot);
  }

  /** Neighbors, each made when it is asked for. */
  *values(): MapIterator<Neighbor> {
    for (const [slot, link] of this.#slots()) yield this.#object(slot, link);
  }

  /** Keys and neighbors. */
  *entries(): MapIterator<[string, Neighbor]> {
    for (const [slot, link] of this.#slots()) {
      const neighbor = this.#object(slot, link);
      yield [link.prefix + neighbor.ip, neighbor];
    }
  }

  /** The same as {@linkcode NeighborMap.entries}. */
  [Symbol.iterator](): MapIterator<[string, Neighbor]> {
    return this.entries();
  }

  /** Calls back for each neighbor. */
  forEach(
    callback: (neighbor: Neighbor, key: string, map: ReadonlyMap<string, Neighbor>) => void,
    self?: unknown,
  ): void {
    for (const [key, neighbor] of this) callback.call(self, neighbor, key, this);
  }

  *#slots(): MapIterator<[slot: number, link: Link]> {
    const { table, links } = this.#feed;
    for (let slot = 0; slot < table.end; slot++) {
      if (!this.#isTold(slot)) continue;
      const link = links.get(table.ifindex[slot]!);
      if (link !== undefined && this.#isWanted(link.name)) yield [slot, link];
    }
  }

  #isTold(slot: number): boolean {
    const { table } = this.#feed;
    return table.isLive(slot) && (table.marks[slot]! & TOLD) === TOLD;
  }

  #object(slot: number, link: Link): Neighbor {
    this.#feed.table.read(slot, this.#scratch);
    return neighborOf(this.#scratch, link.name, this.#feed.links.masterName(link));
  }
}

const TOLD = ENTRY_LIVE | ENTRY_ANNOUNCED;
