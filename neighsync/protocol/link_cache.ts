/**
 * Interface index → link, with the names of links that are gone for as long as something late may mention them.
 *
 * @module
 */

import { AF_UNSPEC } from "./constants.ts";
import type { LinkMessage } from "./link.ts";

/** A link as it was last told; replaced as a whole when it changes, so holding one is safe. */
export interface Link {
  /** Interface index. */
  readonly ifindex: number;
  /** Its name. */
  readonly name: string;
  /** `<name>:`, what the keys of its neighbors begin with. */
  readonly prefix: string;
  /** Index of its master, or 0. */
  readonly master: number;
  /** Kind: `vrf`, `bridge`, `vlan`, …; empty for physical links. */
  readonly kind: string;
  /** `IFF_…`. */
  readonly flags: number;
  /** RFC 2863: 6 is up. */
  readonly operState: number;
  /** Whether there is a carrier; undefined when never told. */
  readonly carrier: boolean | undefined;
  /** 48-bit number, `MAC_ABSENT` or `MAC_FOREIGN`. */
  readonly mac: number;
}

/** How long the name of a link that is gone is kept, milliseconds. */
export const LINK_TOMBSTONE_MS = 60_000;

/** What {@linkcode LinkCache.apply} made of a message: it concerned a bridge port only. */
export const LINK_IGNORED = 0;
/** The link is new, or its index was used again. */
export const LINK_ADDED = 1;
/** The link changed, but not its name. */
export const LINK_CHANGED = 2;
/** The link has another name now. */
export const LINK_RENAMED = 3;
/** Nothing of what is kept changed. */
export const LINK_SAME = 4;

interface Tombstone {
  readonly link: Link;
  readonly until: number;
}

/** Links by index, filled by dumps and events in the order they arrive. */
export class LinkCache {
  readonly #links = new Map<number, Link>();
  readonly #gone = new Map<number, Tombstone>();

  /** Links that are there. */
  get size(): number {
    return this.#links.size;
  }

  /** The link of this index, if it is there. */
  get(ifindex: number): Link | undefined {
    return this.#links.get(ifindex);
  }

  /** The link of this index, or the one that had it until lately. */
  recall(ifindex: number): Link | undefined {
    return this.#links.get(ifindex) ?? this.#gone.get(ifindex)?.link;
  }

  /** Whether the index belonged to a link that is gone. */
  isGone(ifindex: number): boolean {
    return this.#gone.has(ifindex);
  }

  /** Name of the link's master; undefined without one or while it is not known. */
  masterName(link: Link): string | undefined {
    return link.master === 0 ? undefined : this.#links.get(link.master)?.name;
  }

  /** All links that are there. */
  links(): IterableIterator<Link> {
    return this.#links.values();
  }

  /**
   * Takes a NEWLINK.
   *
   * A message of family `AF_BRIDGE` tells about a port and lacks most of the rest: it changes nothing here.
   *
   * @returns `LINK_ADDED`, `LINK_CHANGED`, `LINK_RENAMED`, `LINK_SAME` or `LINK_IGNORED`.
   */
  apply(message: LinkMessage): number {
    if (message.family !== AF_UNSPEC) return LINK_IGNORED;
    const { ifindex, name, master, kind, flags, operState, carrier, mac } = message;
    const before = this.#links.get(ifindex);
    if (
      before !== undefined && before.name === name && before.master === master &&
      before.kind === kind && before.flags === flags && before.operState === operState &&
      before.carrier === carrier && before.mac === mac
    ) return LINK_SAME;
    this.#links.set(ifindex, {
      ifindex,
      name,
      prefix: name + ":",
      master,
      kind,
      flags,
      operState,
      carrier,
      mac,
    });
    if (before === undefined) {
      this.#gone.delete(ifindex);
      return LINK_ADDED;
    }
    return before.name === name ? LINK_CHANGED : LINK_RENAMED;
  }

  /**
   * Takes a DELLINK: the name is kept for a minute.
   *
   * @param now Monotonic milliseconds.
   * @returns The link that is gone; undefined when it was not there.
   */
  remove(ifindex: number, now: number): Link | undefined {
    const link = this.#links.get(ifindex);
    if (link === undefined) return undefined;
    this.#links.delete(ifindex);
    // Insertion order is the order of expiry.
    this.#gone.delete(ifindex);
    this.#gone.set(ifindex, { link, until: now + LINK_TOMBSTONE_MS });
    return link;
  }

  /** Forgets names whose minute is over. @param now Monotonic milliseconds. */
  expire(now: number): void {
    for (const [ifindex, { until }] of this.#gone) {
      if (until > now) return;
      this.#gone.delete(ifindex);
    }
  }

  /** When {@linkcode expire} has something to do, monotonic milliseconds, or `Infinity`. */
  get deadline(): number {
    for (const { until } of this.#gone.values()) return until;
    return Infinity;
  }
}
