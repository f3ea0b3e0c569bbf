/**
 * Neighbor messages by position.
 *
 * ```
 *  16       17      20        24      26      27     28
 *  +--------+-------+---------+-------+-------+------+------------------------------+
 *  | family |  pad  | ifindex | state | flags | type | NDA_DST, NDA_LLADDR, …       |   struct ndmsg
 *  +--------+-------+---------+-------+-------+------+------------------------------+
 * ```
 *
 * @module
 */

import { formatAddress, formatMac, MAC_ABSENT, MAC_FOREIGN } from "./address.ts";
import {
  AF_INET,
  AF_INET6,
  NDA_CACHEINFO,
  NDA_DST,
  NDA_FLAGS_EXT,
  NDA_LLADDR,
  NDA_MASTER,
  NDA_PROBES,
  NDA_PROTOCOL,
  NDA_VLAN,
  NDMSG_BYTES,
  NLA_TYPE_MASK,
  NLMSG_HDRLEN,
} from "./constants.ts";
import {
  REJECT_BAD_ADDRESS,
  REJECT_BAD_ATTRIBUTE,
  REJECT_FAMILY,
  REJECT_SHORT_BODY,
} from "./netlink.ts";

/**
 * One neighbor, in fields that are overwritten by the next one: made once, read into for every message. Who keeps it
 * copies it.
 */
export class NeighborView {
  /** `RTM_NEWNEIGH` or `RTM_DELNEIGH`. */
  messageType = 0;
  /** `AF_INET` or `AF_INET6`. */
  family = 0;
  /** Interface index. */
  ifindex = 0;
  /** `NUD_…`. */
  state = 0;
  /** `NTF_…`. */
  flags = 0;
  /** `RTN_…`: 1 unicast, 2 local, 3 broadcast, 5 multicast; often 0. */
  routeType = 0;
  /** Flags of `NDA_FLAGS_EXT`, unknown bits kept; 0 when absent. */
  flagsExt = 0;
  /** First 32 bits of the address; the whole of an IPv4 address. */
  word0 = 0;
  /** Second 32 bits of an IPv6 address, else 0. */
  word1 = 0;
  /** Third 32 bits of an IPv6 address, else 0. */
  word2 = 0;
  /** Last 32 bits of an IPv6 address, else 0. */
  word3 = 0;
  /** 48-bit number, `MAC_ABSENT` or `MAC_FOREIGN`. */
  mac: number = MAC_ABSENT;
  /** Bytes of the link-layer address; 0 when absent. */
  macBytes = 0;
  /** VLAN identifier, or -1. */
  vlan: number = -1;
  /** Index of the interface's master, or 0. */
  master = 0;
  /** Probes sent, or -1. */
  probes: number = -1;
  /** `RTPROT_…` of the originator, or -1. */
  protocol: number = -1;
  /** Age of the last confirmation, milliseconds, or -1. */
  confirmedMs: number = -1;
  /** Age of the last use, milliseconds, or -1. */
  usedMs: number = -1;
  /** Age of the last change, milliseconds, or -1. */
  updatedMs: number = -1;

  /** The address as text. Allocates. */
  get ip(): string {
    return formatAddress(this.family, this.word0, this.word1, this.word2, this.word3);
  }
}

/** One neighbor as a plain object. */
export interface DecodedNeighbor {
  /** Interface index. */
  readonly ifindex: number;
  /** 4 or 6. */
  readonly family: 4 | 6;
  /** The address, as the C library writes it. */
  readonly ip: string;
  /** Lower-case pairs with colons; null while unresolved, and for link-layer addresses that are not 6 bytes. */
  readonly mac: string | null;
  /** `NUD_…`. */
  readonly state: number;
  /** `NTF_…`. */
  readonly flags: number;
  /** Flags of `NDA_FLAGS_EXT`. */
  readonly flagsExt: number;
  /** VLAN identifier, when the kernel gave one. */
  readonly vlan?: number;
  /** Probes sent, when the kernel gave them. */
  readonly probes?: number;
  /** Age of the last confirmation, milliseconds. */
  readonly confirmedMs?: number;
  /** Age of the last use, milliseconds. */
  readonly usedMs?: number;
  /** Age of the last change, milliseconds. */
  readonly updatedMs?: number;
}

/**
 * Reads a NEWNEIGH or DELNEIGH into `into`.
 *
 * A message that is refused leaves `into` in no particular state.
 *
 * @param start Where the message header begins.
 * @param end Where the message ends, as `parseNetlink()` says.
 * @returns 0, or `REJECT_SHORT_BODY`, `REJECT_FAMILY`, `REJECT_BAD_ATTRIBUTE`, `REJECT_BAD_ADDRESS`.
 */
export function readNeighbor(
  view: DataView,
  start: number,
  end: number,
  into: NeighborView,
): number {
  let at = start + NLMSG_HDRLEN + NDMSG_BYTES;
  if (at > end) return REJECT_SHORT_BODY;
  const family = view.getUint8(start + 16);
  if (family !== AF_INET && family !== AF_INET6) return REJECT_FAMILY;
  into.messageType = view.getUint16(start + 4, true);
  into.family = family;
  into.ifindex = view.getInt32(start + 20, true);
  into.state = view.getUint16(start + 24, true);
  into.flags = view.getUint8(start + 26);
  into.routeType = view.getUint8(start + 27);
  into.flagsExt = 0;
  into.word1 = 0;
  into.word2 = 0;
  into.word3 = 0;
  into.mac = MAC_ABSENT;
  into.macBytes = 0;
  into.vlan = -1;
  into.master = 0;
  into.probes = -1;
  into.protocol = -1;
  into.confirmedMs = -1;
  into.usedMs = -1;
  into.updatedMs = -1;
  let addressed = false;
  // Fewer than 4 bytes at the end are padding.
  while (end - at >= 4) {
    const length = view.getUint16(at, true);
    if (length < 4 || length > end - at) return REJECT_BAD_ATTRIBUTE;
    switch (view.getUint16(at + 2, true) & NLA_TYPE_MASK) {
      case NDA_DST:
        if (length !== (family === AF_INET ? 8 : 20)) return REJECT_BAD_ADDRESS;
        addressed = true;
        into.word0 = view.getUint32(at + 4, false);
        if (family === AF_INET6) {
          into.word1 = view.getUint32(at + 8, false);
          into.word2 = view.getUint32(at + 12, false);
          into.word3 = view.getUint32(at + 16, false);
        }
        break;
      case NDA_LLADDR:
        into.macBytes = length - 4;
        into.mac = length === 10
          ? view.getUint16(at + 4, false) * 0x1_0000_0000 + view.getUint32(at + 6, false)
          // An empty one says as little as none.
          : length === 4
          ? MAC_ABSENT
          : MAC_FOREIGN;
        break;
      case NDA_CACHEINFO:
        if (length >= 20) {
          into.confirmedMs = view.getUint32(at + 4, true) * 10;
          into.usedMs = view.getUint32(at + 8, true) * 10;
          into.updatedMs = view.getUint32(at + 12, true) * 10;
        }
        break;
      case NDA_PROBES:
        if (length >= 8) into.probes = view.getUint32(at + 4, true);
        break;
      case NDA_VLAN:
        if (length >= 6) into.vlan = view.getUint16(at + 4, true);
        break;
      case NDA_MASTER:
        if (length >= 8) into.master = view.getUint32(at + 4, true);
        break;
      case NDA_PROTOCOL:
        if (length >= 5) into.protocol = view.getUint8(at + 4);
        break;
      case NDA_FLAGS_EXT:
        if (length >= 8) into.flagsExt = view.getUint32(at + 4, true);
        break;
    }
    at += (length + 3) & ~3;
  }
  return addressed ? 0 : REJECT_BAD_ADDRESS;
}

/** Makes a plain object of what was read. Allocates. */
export function decodeNeighbor(neighbor: NeighborView): DecodedNeighbor {
  const { ifindex, family, ip, mac, state, flags, flagsExt } = neighbor;
  return {
    ifindex,
    family: family === AF_INET ? 4 : 6,
    ip,
    mac: mac < 0 ? null : formatMac(mac),
    state,
    flags,
    flagsExt,
    ...(neighbor.vlan < 0 ? {} : { vlan: neighbor.vlan }),
    ...(neighbor.probes < 0 ? {} : { probes: neighbor.probes }),
    ...(neighbor.confirmedMs < 0 ? {} : {
      confirmedMs: neighbor.confirmedMs,
      usedMs: neighbor.usedMs,
      updatedMs: neighbor.updatedMs,
    }),
  };
}

/**
 * The name of a state, in lower case as `ip neigh` prints its last word.
 *
 * @returns `none`, `incomplete`, `reachable`, `stale`, `delay`, `probe`, `failed`, `noarp`, `permanent`, or the number in
 * hexadecimal when it is none of them.
 */
export function nudName(state: number): string {
  return NUD_NAMES[state] ?? "0x" + state.toString(16);
}

const NUD_NAMES: Readonly<Record<number, string>> = {
  0x00: "none",
  0x01: "incomplete",
  0x02: "reachable",
  0x04: "stale",
  0x08: "delay",
  0x10: "probe",
  0x20: "failed",
  0x40: "noarp",
  0x80: "permanent",
};
