/**
 * Addresses of interfaces, as rtnetlink tells them.
 *
 * ```
 *  16       17       18      19      20      24
 *  +--------+--------+-------+-------+-------+----------------------------------+
 *  | family | prefix | flags | scope | index | IFA_LOCAL, IFA_ADDRESS, …         |   struct ifaddrmsg
 *  +--------+--------+-------+-------+-------+----------------------------------+
 * ```
 *
 * @module
 */

import { AF_INET, AF_INET6, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_HDRLEN } from "./constants.ts";
import {
  nextAttribute,
  readAttributeType,
  REJECT_BAD_ADDRESS,
  REJECT_FAMILY,
  REJECT_NO_ROOM,
  REJECT_SHORT_BODY,
} from "./netlink.ts";

/** An address is there, or changed. */
export const RTM_NEWADDR = 20;
/** An address is gone. */
export const RTM_DELADDR = 21;
/** Asks for addresses. */
export const RTM_GETADDR = 22;
/** Multicast group of IPv4 addresses. */
export const RTNLGRP_IPV4_IFADDR = 5;
/** Multicast group of IPv6 addresses. */
export const RTNLGRP_IPV6_IFADDR = 9;

const IFADDRMSG_BYTES = 8;
const IFA_ADDRESS = 1, IFA_LOCAL = 2, IFA_FLAGS = 8;
const IFA_F_OPTIMISTIC = 0x04, IFA_F_DADFAILED = 0x08, IFA_F_TENTATIVE = 0x40;

/** One address of an interface. */
export interface InterfaceAddress {
  /** `AF_INET` or `AF_INET6`. */
  readonly family: number;
  /** Interface index. */
  readonly ifindex: number;
  /** Bits of the network. */
  readonly prefixBits: number;
  /** Four 32-bit words, most significant first; IPv4 uses only the first. */
  readonly words: readonly number[];
  /** May be used as a source: no duplicate was found, and none is looked for any more. */
  readonly usable: boolean;
}

/**
 * Reads a NEWADDR or DELADDR.
 *
 * @returns The address, or `REJECT_SHORT_BODY`, `REJECT_BAD_ATTRIBUTE`, `REJECT_BAD_ADDRESS`, `REJECT_FAMILY`.
 */
export function decodeInterfaceAddress(
  view: DataView,
  start: number,
  end: number,
): InterfaceAddress | number {
  let at = start + NLMSG_HDRLEN + IFADDRMSG_BYTES;
  if (at > end) return REJECT_SHORT_BODY;
  const family = view.getUint8(start + 16);
  if (family !== AF_INET && family !== AF_INET6) return REJECT_FAMILY;
  const bytes = family === AF_INET ? 4 : 16;
  // The low eight bits of the flags; all 32 come as an attribute.
  let flags = view.getUint8(start + 18);
  let words: readonly number[] | undefined;
  while (end - at >= 4) {
    const next = nextAttribute(view, at, end);
    if (next < 0) return next;
    const size = view.getUint16(at, true) - 4;
    const type = readAttributeType(view, at);
    // On a point-to-point link IFA_ADDRESS is the other side's, and IFA_LOCAL ours.
    if (type === IFA_LOCAL || type === IFA_ADDRESS && words === undefined) {
      if (size !== bytes) return REJECT_BAD_ADDRESS;
      words = [0, 4, 8, 12].map((o) => o < bytes ? view.getUint32(at + 4 + o, false) : 0);
    } else if (type === IFA_FLAGS && size >= 4) flags = view.getUint32(at + 4, true);
    at = next;
  }
  if (words === undefined) return REJECT_BAD_ADDRESS;
  const tentative = (flags & IFA_F_TENTATIVE) !== 0 && (flags & IFA_F_OPTIMISTIC) === 0;
  return {
    family,
    ifindex: view.getInt32(start + 20, true),
    prefixBits: view.getUint8(start + 17),
    words,
    usable: !tentative && (flags & IFA_F_DADFAILED) === 0,
  };
}

/**
 * Writes a request for all addresses of both families.
 *
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 */
export function writeAddressDump(view: DataView, start: number, sequence: number): number {
  const end = start + NLMSG_HDRLEN + IFADDRMSG_BYTES;
  if (end > view.byteLength) return REJECT_NO_ROOM;
  for (let at = start; at < end; at += 4) view.setUint32(at, 0, true);
  view.setUint32(start, end - start, true);
  view.setUint16(start + 4, RTM_GETADDR, true);
  view.setUint16(start + 6, NLM_F_REQUEST | NLM_F_DUMP, true);
  view.setUint32(start + 8, sequence, true);
  return end;
}

/** Whether an address is in the network of an interface's address. */
export function isInNetwork(words: readonly number[], own: InterfaceAddress): boolean {
  for (let i = 0, bits = own.prefixBits; i < 4 && bits > 0; i++, bits -= 32) {
    const mask = bits >= 32 ? 0xffff_ffff : ~(0xffff_ffff >>> bits);
    if (((words[i]! ^ own.words[i]!) & mask) !== 0) return false;
  }
  return true;
}
