/**
 * Link messages: which name, master and kind belongs to an interface index.
 *
 * ```
 *  16       18      20      24      28       32
 *  +--------+-------+-------+-------+--------+--------------------------------+
 *  | family | type  | index | flags | change | IFLA_IFNAME, IFLA_MASTER, …     |   struct ifinfomsg
 *  +--------+-------+-------+-------+--------+--------------------------------+
 * ```
 *
 * @module
 */

import { MAC_ABSENT, MAC_FOREIGN } from "./address.ts";
import {
  IFINFOMSG_BYTES,
  IFLA_ADDRESS,
  IFLA_CARRIER,
  IFLA_IFNAME,
  IFLA_INFO_KIND,
  IFLA_LINKINFO,
  IFLA_MASTER,
  IFLA_OPERSTATE,
  NLMSG_HDRLEN,
} from "./constants.ts";
import {
  decodeText,
  nextAttribute,
  readAttributeType,
  REJECT_NO_NAME,
  REJECT_SHORT_BODY,
} from "./netlink.ts";

/** One link message. Links change seldom, so this is a plain object. */
export interface LinkMessage {
  /** `AF_UNSPEC` for the link itself; `AF_BRIDGE` when only its membership in a bridge is meant. */
  readonly family: number;
  /** Interface index. */
  readonly ifindex: number;
  /** Name, at most 15 bytes in today's kernels. */
  readonly name: string;
  /** Index of the master, or 0. */
  readonly master: number;
  /** Kind: `vrf`, `bridge`, `vlan`, …; empty for physical links. */
  readonly kind: string;
  /** `ARPHRD_…`: 1 is Ethernet, 772 loopback. */
  readonly hardwareType: number;
  /** `IFF_…`. */
  readonly flags: number;
  /** RFC 2863: 6 is up, 2 down; 0 when unknown. */
  readonly operState: number;
  /** Whether there is a carrier; undefined when the kernel did not say. */
  readonly carrier: boolean | undefined;
  /** 48-bit number, `MAC_ABSENT` or `MAC_FOREIGN`. */
  readonly mac: number;
}

/**
 * Reads a NEWLINK or DELLINK.
 *
 * @param bytes The same memory as `view`.
 * @returns The message, or `REJECT_SHORT_BODY`, `REJECT_BAD_ATTRIBUTE`, `REJECT_NO_NAME`.
 */
export function decodeLink(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  end: number,
): LinkMessage | number {
  let at = start + NLMSG_HDRLEN + IFINFOMSG_BYTES;
  if (at > end) return REJECT_SHORT_BODY;
  let name = "", kind = "", master = 0, operState = 0, mac = MAC_ABSENT;
  let carrier: boolean | undefined;
  while (end - at >= 4) {
    const next = nextAttribute(view, at, end);
    if (next < 0) return next;
    const value = at + 4, valueEnd = at + view.getUint16(at, true);
    const size = valueEnd - value;
    switch (readAttributeType(view, at)) {
      case IFLA_IFNAME:
        name = decodeText(bytes, value, valueEnd);
        break;
      case IFLA_MASTER:
        if (size >= 4) master = view.getUint32(value, true);
        break;
      case IFLA_OPERSTATE:
        if (size >= 1) operState = view.getUint8(value);
        break;
      case IFLA_CARRIER:
        if (size >= 1) carrier = view.getUint8(value) !== 0;
        break;
      case IFLA_ADDRESS:
        mac = size === 6
          ? view.getUint16(value, false) * 0x1_0000_0000 + view.getUint32(value + 2, false)
          : size === 0
          ? MAC_ABSENT
          : MAC_FOREIGN;
        break;
      case IFLA_LINKINFO:
        kind = readKind(bytes, view, value, valueEnd);
        break;
    }
    at = next;
  }
  if (name === "") return REJECT_NO_NAME;
  return {
    family: view.getUint8(start + 16),
    ifindex: view.getInt32(start + 20, true),
    name,
    master,
    kind,
    hardwareType: view.getUint16(start + 18, true),
    flags: view.getUint32(start + 24, true),
    operState,
    carrier,
    mac,
  };
}

/** A damaged nest says nothing about the link around it. */
function readKind(bytes: Uint8Array, view: DataView, start: number, end: number): string {
  for (let at = start, next; end - at >= 4; at = next) {
    next = nextAttribute(view, at, end);
    if (next < 0) return "";
    if (readAttributeType(view, at) === IFLA_INFO_KIND) {
      return decodeText(bytes, at + 4, at + view.getUint16(at, true));
    }
  }
  return "";
}
