/**
 * The view of the kernel's tables: takes what messages say about neighbors and links, and tells what changed by it.
 * When to read the tables, and what to believe of them, is the resync machine's.
 *
 * @module
 */

import { MAC_ABSENT } from "./address.ts";
import { NUD_FAILED, RTM_DELNEIGH, RTM_NEWNEIGH } from "./constants.ts";
import type { LinkMessage } from "./link.ts";
import {
  type Link,
  LINK_ADDED,
  LINK_IGNORED,
  LINK_RENAMED,
  LINK_SAME,
  LinkCache,
} from "./link_cache.ts";
import {
  ENTRY_ANNOUNCED,
  ENTRY_BY_EVENT,
  ENTRY_CANDIDATE,
  ENTRY_LIVE,
  NeighborTable,
} from "./neighbor_table.ts";
import {
  CHANGED_FLAGS,
  CHANGED_MAC,
  CHANGED_STATE,
  type ChangeSource,
  NeighborChange,
  type ResyncActions,
} from "./resync_actions.ts";

/** Neighbors and links with the rules that join them. The neighbor in hand is `change.neighbor`. */
export class KernelView {
  /** The neighbors. */
  readonly table: NeighborTable;
  /** The links. */
  readonly links: LinkCache = new LinkCache();
  /** What is told, and the neighbor in hand. */
  readonly change: NeighborChange = new NeighborChange();
  /** Indexes that something was said about and whose link is not known. */
  readonly wantedLinks: Set<number> = new Set();
  /** Something went since this was last set to false. */
  disturbed = false;
  /** Entries the last dump did not show and nothing has explained yet. */
  candidates = 0;
  /** Entries a dump or an answer has added. */
  added = 0;
  /** Entries a dump or an answer has changed. */
  changed = 0;

  readonly #repeats: boolean;
  /** Stamp of everything heard since the last dump of neighbors began. */
  #generation = 1;
  /** A dump runs: what goes is remembered, so that an old row does not bring it back. */
  #remembering = false;
  /** Indexes of entries that were not announced because their link is not known. */
  readonly #nameless = new Set<number>();
  /** Live entries by interface index, so that a link without any is not searched for. */
  readonly #liveByIfindex = new Map<number, number>();

  /**
   * Makes an empty view.
   *
   * @param seed Random 32-bit number for the table's hash.
   * @param repeats Tell events that change nothing, too.
   */
  constructor(seed: number, repeats: boolean) {
    this.table = new NeighborTable(seed);
    this.#repeats = repeats;
  }

  /** Entries that are in the kernel. */
  get liveEntries(): number {
    let live = 0;
    for (const count of this.#liveByIfindex.values()) live += count;
    return live;
  }

  /**
   * Tells every announced entry again, as a change in which nothing changed: for facts that decide differently now.
   *
   * @param ifindex Only this interface's.
   */
  replay(ifindex: number | undefined, actions: ResyncActions): void {
    const { table } = this;
    for (let slot = 0; slot < table.end; slot++) {
      if (!this.#isAnnounced(slot)) continue;
      if (ifindex !== undefined && table.ifindex[slot] !== ifindex) continue;
      const link = this.links.get(table.ifindex[slot]!);
      if (link === undefined) continue;
      this.#load(slot);
      this.#tell("change", "replay", link, actions);
    }
  }

  /** The neighbor in hand exists: an event says so, or a row that no event contradicts. */
  put(byEvent: boolean, actions: ResyncActions): void {
    const { table } = this;
    const change = this.change;
    const { neighbor } = change;
    let slot = table.find(neighbor);
    const marks = slot < 0 ? 0 : table.marks[slot]!;
    const live = (marks & ENTRY_LIVE) !== 0;
    if (!byEvent && slot >= 0) {
      const stamped = table.generation[slot] === this.#generation && (marks & ENTRY_BY_EVENT) !== 0;
      if (stamped) return;
    }
    if (slot < 0) slot = table.add(neighbor);
    let changed = 0;
    if (live) {
      const mac = table.mac[slot]!, state = table.state[slot]!, flags = table.flags[slot]!;
      change.previousMac = mac;
      change.previousState = state;
      change.previousFlags = flags;
      if (mac !== neighbor.mac) changed |= CHANGED_MAC;
      if (state !== neighbor.state) changed |= CHANGED_STATE;
      if (flags !== neighbor.flags || table.flagsExt[slot] !== neighbor.flagsExt) {
        changed |= CHANGED_FLAGS;
      }
    } else this.#count(neighbor.ifindex, 1);
    table.mac[slot] = neighbor.mac;
    table.state[slot] = neighbor.state;
    table.flags[slot] = neighbor.flags;
    table.flagsExt[slot] = neighbor.flagsExt;
    table.routeType[slot] = neighbor.routeType;
    table.generation[slot] = this.#generation;
    table.marks[slot] = ENTRY_LIVE | (byEvent ? ENTRY_BY_EVENT : 0) |
      (live ? marks & ENTRY_ANNOUNCED : 0);
    if ((marks & ENTRY_CANDIDATE) !== 0) this.candidates--;
    if (!byEvent) {
      if (!live) this.added++;
      else if (changed !== 0) this.changed++;
    }
    const source = byEvent ? "event" : "dump";
    if (!live || (marks & ENTRY_ANNOUNCED) === 0) this.#announce(slot, source, actions);
    else if (changed !== 0 || (byEvent && this.#repeats)) {
      const link = this.links.get(neighbor.ifindex);
      if (link === undefined) return;
      change.changed = changed;
      this.#tell("change", source, link, actions);
    }
  }

  /** The neighbor in hand was deleted, an event says. */
  drop(actions: ResyncActions): void {
    const { table } = this;
    const slot = table.find(this.change.neighbor);
    this.disturbed = true;
    if (slot >= 0 && table.isLive(slot)) {
      if ((table.marks[slot]! & ENTRY_ANNOUNCED) !== 0) {
        const link = this.links.recall(table.ifindex[slot]!);
        this.#setPrevious(slot);
        if (link !== undefined) this.#tell("delete", "event", link, actions);
      }
      this.#forget(slot);
    } else if (this.#remembering) {
      // The dump may have read it before it went.
      const kept = slot >= 0 ? slot : table.add(this.change.neighbor);
      table.generation[kept] = this.#generation;
      table.marks[kept] = ENTRY_BY_EVENT;
    }
  }

  /** Takes a live entry out; while a dump runs, remembers that a row of it is old. */
  #forget(slot: number): void {
    const { table } = this;
    this.#count(table.ifindex[slot]!, -1);
    const candidate = (table.marks[slot]! & ENTRY_CANDIDATE) !== 0;
    if (this.#remembering) {
      table.generation[slot] = this.#generation;
      table.marks[slot] = ENTRY_BY_EVENT;
    } else table.remove(slot);
    if (candidate) this.candidates--;
  }

  /** Takes a NEWLINK of the link itself. */
  applyLink(message: LinkMessage, actions: ResyncActions): void {
    const { ifindex } = message;
    const before = this.links.get(ifindex);
    const outcome = this.links.apply(message);
    if (outcome === LINK_SAME || outcome === LINK_IGNORED) return;
    const link = this.links.get(ifindex)!;
    if (outcome === LINK_RENAMED) this.#rename(before!, link, actions);
    if (outcome === LINK_ADDED && this.#nameless.delete(ifindex)) this.#name(link, actions);
    actions.linkChanged(link, before);
  }

  /** Takes a DELLINK, with everything that hung on the link. */
  removeLink(ifindex: number, now: number, actions: ResyncActions): void {
    const link = this.links.remove(ifindex, now);
    this.#nameless.delete(ifindex);
    this.#removeEntriesOf(ifindex, link, actions);
    if (link !== undefined) actions.linkChanged(undefined, link);
  }

  /** Removes the entries of an index, told as deleted where they were told at all. */
  #removeEntriesOf(ifindex: number, link: Link | undefined, actions: ResyncActions): void {
    const { table } = this;
    if (!this.#liveByIfindex.has(ifindex)) return;
    for (let slot = 0; slot < table.end; slot++) {
      if (table.ifindex[slot] !== ifindex || !table.isLive(slot)) continue;
      if (link !== undefined && this.#isAnnounced(slot)) {
        this.#tellGone(slot, "link", link, actions);
      }
      this.disturbed = true;
      this.#forget(slot);
    }
  }

  /** A candidate is not in the kernel. */
  removeMissing(slot: number, actions: ResyncActions): void {
    const link = this.links.recall(this.table.ifindex[slot]!);
    if (link !== undefined && this.#isAnnounced(slot)) {
      this.#tellGone(slot, "dump", link, actions);
    }
    this.#forget(slot);
  }

  /** A dump of neighbors begins. One that was begun before and has not ended is forgotten. */
  beginDump(): void {
    this.#clean();
    this.#remembering = true;
    this.#generation = (this.#generation + 1) >>> 0;
    this.disturbed = false;
  }

  /** The dump has ended: what it did not show becomes a candidate. @returns Live entries. */
  endDump(): number {
    const { table } = this;
    this.#remembering = false;
    this.#clean();
    let live = 0;
    for (let slot = 0; slot < table.end; slot++) {
      if (!table.isLive(slot)) continue;
      live++;
      if (table.generation[slot] === this.#generation) continue;
      table.marks[slot] = table.marks[slot]! | ENTRY_CANDIDATE;
      this.candidates++;
    }
    return live;
  }

  /** Removes the slots that only remembered something; no entry is a candidate any more. */
  #clean(): void {
    const { table } = this;
    for (let slot = 0; slot < table.end; slot++) {
      if (!table.isUsed(slot)) continue;
      if (table.isLive(slot)) table.marks[slot] = table.marks[slot]! & ~ENTRY_CANDIDATE;
      else table.remove(slot);
    }
    this.candidates = 0;
  }

  #rename(before: Link, link: Link, actions: ResyncActions): void {
    const { table } = this;
    if (!this.#liveByIfindex.has(link.ifindex)) return;
    for (let slot = 0; slot < table.end; slot++) {
      if (table.ifindex[slot] !== link.ifindex || !this.#isAnnounced(slot)) continue;
      this.#tellGone(slot, "link", before, actions);
      this.#load(slot);
      this.#tell("add", "link", link, actions);
    }
  }

  /** Announces what waited for the name of its link. */
  #name(link: Link, actions: ResyncActions): void {
    const { table } = this;
    for (let slot = 0; slot < table.end; slot++) {
      if (table.ifindex[slot] !== link.ifindex || !table.isLive(slot)) continue;
      if (this.#isAnnounced(slot)) continue;
      this.#load(slot);
      this.#announce(slot, "link", actions);
    }
  }

  #count(ifindex: number, by: 1 | -1): void {
    const count = (this.#liveByIfindex.get(ifindex) ?? 0) + by;
    if (count === 0) this.#liveByIfindex.delete(ifindex);
    else this.#liveByIfindex.set(ifindex, count);
  }

  /** Tells of an entry for the first time, or as soon as its link is known. The entry is the neighbor in hand. */
  #announce(slot: number, source: ChangeSource, actions: ResyncActions): void {
    const ifindex = this.table.ifindex[slot]!;
    const link = this.links.get(ifindex);
    if (link === undefined) {
      this.#nameless.add(ifindex);
      this.wantedLinks.add(ifindex);
      return;
    }
    this.table.marks[slot] = this.table.marks[slot]! | ENTRY_ANNOUNCED;
    this.#tell("add", source, link, actions);
  }

  #tell(
    kind: NeighborChange["kind"],
    source: ChangeSource,
    link: Link,
    actions: ResyncActions,
  ): void {
    const change = this.change;
    change.kind = kind;
    change.source = source;
    change.link = link;
    change.masterName = this.links.masterName(link);
    if (kind !== "change") change.changed = 0;
    if (kind === "add") {
      change.previousMac = MAC_ABSENT;
      change.previousState = 0;
      change.previousFlags = 0;
    }
    actions.changed(change);
  }

  #isAnnounced(slot: number): boolean {
    const wanted = ENTRY_LIVE | ENTRY_ANNOUNCED;
    return this.table.isLive(slot) && (this.table.marks[slot]! & wanted) === wanted;
  }

  #setPrevious(slot: number): void {
    const { table } = this;
    const change = this.change;
    change.previousMac = table.mac[slot]!;
    change.previousState = table.state[slot]!;
    change.previousFlags = table.flags[slot]!;
  }

  /** Takes an entry in hand. */
  #load(slot: number): void {
    this.table.read(slot, this.change.neighbor);
    this.change.neighbor.messageType = RTM_NEWNEIGH;
    this.change.changed = 0;
    this.#setPrevious(slot);
  }

  /** Tells that an entry is gone although no message said so. */
  #tellGone(slot: number, source: ChangeSource, link: Link, actions: ResyncActions): void {
    this.#load(slot);
    this.change.neighbor.messageType = RTM_DELNEIGH;
    this.change.neighbor.state = NUD_FAILED;
    this.#tell("delete", source, link, actions);
  }
}
