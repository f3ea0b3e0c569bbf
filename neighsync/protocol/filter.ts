/**
 * Which neighbors are published, and how: the rules of SONiC's neighbor synchronizer in its order, as a pure function of
 * one neighbor, its link and a few facts.
 *
 * @module
 */

import { MAC_ABSENT, MAC_BROADCAST, MAC_FOREIGN } from "./address.ts";
import {
  AF_INET,
  AF_INET6,
  NTF_EXT_LEARNED,
  NTF_PROXY,
  NUD_FAILED,
  NUD_INCOMPLETE,
  NUD_NOARP,
  NUD_PROBE,
  RTM_DELNEIGH,
  RTM_NEWNEIGH,
} from "./constants.ts";

/** What the rules know besides the neighbor. Read anew for every decision, so it may change at any time. */
export interface FilterFacts {
  /** Some `PEER_SWITCH|*` is configured. */
  readonly dualTor: boolean;
  /** Some `VXLAN_EVPN_NVO|*` is configured. */
  readonly evpn: boolean;
  /** Whether the interface publishes IPv6 link-local neighbors. Asked for those only; see {@linkcode linkLocalTable}. */
  linkLocalEnabled(ifname: string): boolean;
}

/** Why a neighbor is or is not published; a name for metrics. */
export type FilterReason =
  /** Published. */
  | "accepted"
  /** Published with an all-zero MAC: dual-ToR, unresolved. */
  | "unresolved-zero-mac"
  /** Removed: the kernel deleted it. */
  | "deleted"
  /** Removed: it is not resolved. */
  | "unresolved"
  /** Removed: it moved behind a tunnel. */
  | "moved-remote"
  /** Not a neighbor message. */
  | "message-type"
  /** Neither IPv4 nor IPv6. */
  | "family"
  /** Not one of the wanted interfaces. */
  | "interface"
  /** An entry of the proxy table. */
  | "proxy"
  /** IPv4 link-local with dual-ToR. */
  | "ipv4-link-local"
  /** IPv6 link-local where it is not enabled. */
  | "ipv6-link-local"
  /** IPv6 link-local multicast. */
  | "ipv6-multicast"
  /** Being probed, with EVPN. */
  | "probe"
  /** Needs no resolution and was not learned from outside. */
  | "noarp"
  /** No link-layer address. */
  | "no-mac"
  /** A link-layer address that is not 6 bytes. */
  | "bad-lladdr"
  /** The broadcast MAC: a directed broadcast. */
  | "broadcast-mac";

/** What is to be done. Frozen and shared: compare by identity if you like, never change. */
export interface FilterDecision {
  /** Publish, remove, or leave as it is. */
  readonly op: "set" | "del" | "ignore";
  /** Which rule decided. */
  readonly reason: FilterReason;
  /** Publish `00:00:00:00:00:00` instead of the neighbor's MAC. */
  readonly zeroMac: boolean;
  /** Before the set, delete the host route `<master>:<ip>`; done at every set, equal or not. */
  readonly clearRoute: boolean;
}

/** The part of a neighbor the rules look at; `NeighborView` has it. */
export interface FilteredNeighbor {
  /** `RTM_NEWNEIGH` (also for rows of a dump) or `RTM_DELNEIGH`. */
  readonly messageType: number;
  /** `AF_INET` or `AF_INET6`. */
  readonly family: number;
  /** `NUD_…`. */
  readonly state: number;
  /** `NTF_…`. */
  readonly flags: number;
  /** First 32 bits of the address. */
  readonly word0: number;
  /** 48-bit number, `MAC_ABSENT` or `MAC_FOREIGN`. */
  readonly mac: number;
}

/** Which interfaces are published at all. Globs know `*` and `?`; no rule of the reference is of this kind. */
export interface InterfaceChoice {
  /** Only these; empty for all. Default empty. */
  readonly include?: readonly string[];
  /** Not these. Default empty. */
  readonly exclude?: readonly string[];
}

/** Decides, neighbor by neighbor. Allocates nothing once an interface's name was seen. */
export class NeighFilter {
  readonly #facts: FilterFacts;
  readonly #include: RegExp | undefined;
  readonly #exclude: RegExp | undefined;
  readonly #wanted = new Map<string, boolean>();

  /**
   * Makes a filter.
   *
   * @param facts Looked at for every decision.
   * @param choice Default every interface.
   */
  constructor(facts: FilterFacts, choice: InterfaceChoice = {}) {
    this.#facts = facts;
    this.#include = globs(choice.include);
    this.#exclude = globs(choice.exclude);
  }

  /** Whether neighbors of this interface are published at all. */
  isWanted(ifname: string): boolean {
    if (this.#include === undefined && this.#exclude === undefined) return true;
    let wanted = this.#wanted.get(ifname);
    if (wanted === undefined) {
      wanted = (this.#include?.test(ifname) ?? true) && !(this.#exclude?.test(ifname) ?? false);
      // Names come and go; a table of them must not grow for ever.
      if (this.#wanted.size >= MAX_REMEMBERED_NAMES) this.#wanted.clear();
      this.#wanted.set(ifname, wanted);
    }
    return wanted;
  }

  /**
   * Decides about one neighbor. What follows from a set or del, the key and the MAC, is made by the caller when needed.
   *
   * @param ifname Name of its interface.
   * @param masterName Name of that interface's master, if it has one.
   *
   * @example
   * ```ts
   * import { NeighborView, NeighFilter, NUD_REACHABLE, RTM_NEWNEIGH } from "@fastwire/net/neighsync/protocol";
   * import { equal } from "node:assert/strict";
   *
   * const filter = new NeighFilter({ dualTor: false, evpn: false, linkLocalEnabled: () => false });
   * const neighbor = new NeighborView();
   * neighbor.messageType = RTM_NEWNEIGH;
   * neighbor.family = 2;
   * neighbor.word0 = 0xc000_0202;
   * neighbor.state = NUD_REACHABLE;
   * neighbor.mac = 0x0200_0000_0002;
   * equal(filter.decide(neighbor, "Ethernet0").op, "set");
   * ```
   */
  decide(
    neighbor: FilteredNeighbor,
    ifname: string,
    masterName?: string | undefined,
  ): FilterDecision {
    const { messageType, family, state, flags, word0, mac } = neighbor;
    const { dualTor, evpn } = this.#facts;
    const isDelete = messageType === RTM_DELNEIGH;
    if (!isDelete && messageType !== RTM_NEWNEIGH) return IGNORE_TYPE;
    if (family !== AF_INET && family !== AF_INET6) return IGNORE_FAMILY;
    if (!this.isWanted(ifname)) return IGNORE_INTERFACE;
    // Deletes as well: the proxy table is another one, and the same address may be a real neighbor's.
    if ((flags & NTF_PROXY) !== 0) return IGNORE_PROXY;
    if (family === AF_INET) {
      if (dualTor && word0 >>> 16 === 0xa9fe) return IGNORE_IPV4_LINK_LOCAL;
    } else {
      // fe80::/10. Deletes pass, so that what was published before the setting changed can go.
      if (word0 >>> 22 === 0x3fa && !isDelete && !this.#facts.linkLocalEnabled(ifname)) {
        return IGNORE_IPV6_LINK_LOCAL;
      }
      // ff?2::/16: any flags, link-local scope.
      if ((word0 & 0xff0f_0000) >>> 0 === 0xff02_0000) return IGNORE_IPV6_MULTICAST;
    }
    if (evpn && !isDelete && state === NUD_PROBE) return IGNORE_PROBE;
    const learned = (flags & NTF_EXT_LEARNED) !== 0;
    if (!evpn && state === NUD_NOARP && !learned) return IGNORE_NOARP;
    const unresolved = state === NUD_INCOMPLETE || state === NUD_FAILED;
    if (isDelete) return DELETE;
    if (unresolved) {
      if (!dualTor) return DELETE_UNRESOLVED;
      return evpn && isVrf(masterName) ? SET_ZERO_MAC_CLEAR : SET_ZERO_MAC;
    }
    if (evpn && state === NUD_NOARP && !learned) return DELETE_MOVED;
    if (mac === MAC_ABSENT) return IGNORE_NO_MAC;
    if (mac === MAC_FOREIGN) return IGNORE_BAD_LLADDR;
    if (mac === MAC_BROADCAST) return IGNORE_BROADCAST;
    return evpn && isVrf(masterName) ? SET_CLEAR : SET;
  }
}

/**
 * The CONFIG_DB table whose entry for this interface has the field `ipv6_use_link_local_only`, which is `enable` where
 * link-local neighbors are published.
 *
 * @returns The table, or undefined for interfaces that never publish them.
 */
export function linkLocalTable(ifname: string): string | undefined {
  if (ifname.startsWith("Vlan")) return "VLAN_INTERFACE";
  if (ifname.startsWith("PortChannel")) return "PORTCHANNEL_INTERFACE";
  if (ifname.startsWith("Ethernet")) return "INTERFACE";
  return undefined;
}

function isVrf(masterName: string | undefined): boolean {
  return masterName !== undefined && masterName.startsWith("Vrf");
}

function globs(patterns: readonly string[] | undefined): RegExp | undefined {
  if (patterns === undefined || patterns.length === 0) return undefined;
  const parts = patterns.map((pattern) =>
    pattern.replace(/[.+^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*").replaceAll("?", ".")
  );
  return new RegExp(`^(?:${parts.join("|")})$`);
}

function decision(
  op: FilterDecision["op"],
  reason: FilterReason,
  zeroMac = false,
  clearRoute = false,
): FilterDecision {
  return Object.freeze({ op, reason, zeroMac, clearRoute });
}

const MAX_REMEMBERED_NAMES = 4096;

const SET = decision("set", "accepted");
const SET_CLEAR = decision("set", "accepted", false, true);
const SET_ZERO_MAC = decision("set", "unresolved-zero-mac", true);
const SET_ZERO_MAC_CLEAR = decision("set", "unresolved-zero-mac", true, true);
const DELETE = decision("del", "deleted");
const DELETE_UNRESOLVED = decision("del", "unresolved");
const DELETE_MOVED = decision("del", "moved-remote");
const IGNORE_TYPE = decision("ignore", "message-type");
const IGNORE_FAMILY = decision("ignore", "family");
const IGNORE_INTERFACE = decision("ignore", "interface");
const IGNORE_PROXY = decision("ignore", "proxy");
const IGNORE_IPV4_LINK_LOCAL = decision("ignore", "ipv4-link-local");
const IGNORE_IPV6_LINK_LOCAL = decision("ignore", "ipv6-link-local");
const IGNORE_IPV6_MULTICAST = decision("ignore", "ipv6-multicast");
const IGNORE_PROBE = decision("ignore", "probe");
const IGNORE_NOARP = decision("ignore", "noarp");
const IGNORE_NO_MAC = decision("ignore", "no-mac");
const IGNORE_BAD_LLADDR = decision("ignore", "bad-lladdr");
const IGNORE_BROADCAST = decision("ignore", "broadcast-mac");
