/**
 * The questions that make a neighbor show itself: an ARP request, and a Neighbor Solicitation.
 *
 * ```
 *  0      2      4   5   6    8            14          18           24          28
 *  +------+------+---+---+----+------------+-----------+------------+-----------+
 *  |  1   |0x0800| 6 | 4 | 1  | own MAC    | own IPv4  | zeros      | target    |   ARP request, RFC 826
 *  +------+------+---+---+----+------------+-----------+------------+-----------+
 *  0              8        24            40     41   42         44        48           64   65  66
 *  +--------------+--------+-------------+------+----+----------+---------+------------+----+---+---------+
 *  | IPv6, hops   | own    | ff02::1:ff  | 135  | 0  | checksum | 0       | target     | 1  | 1 | own MAC |
 *  | 255, next 58 | IPv6   | + 24 bits   |      |    |          |         |            |    |   |         |
 *  +--------------+--------+-------------+------+----+----------+---------+------------+----+---+---------+
 *   Neighbor Solicitation with its source, RFC 4861 §4.3
 * ```
 *
 * @module
 */

import { REJECT_NO_ROOM } from "./netlink.ts";

/** Type of an ARP packet in an Ethernet header. */
export const ETHERTYPE_ARP = 0x0806;
/** Type of an IPv6 packet in an Ethernet header. */
export const ETHERTYPE_IPV6 = 0x86dd;
/** Bytes of an ARP request. */
export const ARP_REQUEST_BYTES = 28;
/** Bytes of a Neighbor Solicitation, its IPv6 header included. */
export const SOLICITATION_BYTES = 72;

/**
 * Writes an ARP request.
 *
 * @param source Own IPv4 address; 0 asks without telling who, RFC 5227 §2.1.1, and is answered all the same.
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 */
export function writeArpRequest(
  view: DataView,
  start: number,
  mac: number,
  source: number,
  target: number,
): number {
  if (start + ARP_REQUEST_BYTES > view.byteLength) return REJECT_NO_ROOM;
  view.setUint16(start, 1, false);
  view.setUint16(start + 2, 0x0800, false);
  view.setUint8(start + 4, 6);
  view.setUint8(start + 5, 4);
  view.setUint16(start + 6, 1, false);
  writeMac(view, start + 8, mac);
  view.setUint32(start + 14, source, false);
  writeMac(view, start + 18, 0);
  view.setUint32(start + 24, target, false);
  return start + ARP_REQUEST_BYTES;
}

/**
 * Writes a Neighbor Solicitation to the solicited-node group of its target.
 *
 * @param source Own IPv6 address, four words. @param target Whom to ask for, four words.
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 */
export function writeSolicitation(
  view: DataView,
  start: number,
  mac: number,
  source: readonly number[],
  target: readonly number[],
): number {
  if (start + SOLICITATION_BYTES > view.byteLength) return REJECT_NO_ROOM;
  view.setUint32(start, 0x6000_0000, false);
  view.setUint16(start + 4, SOLICITATION_BYTES - 40, false);
  view.setUint8(start + 6, 58);
  // A router that forwarded it would have lowered this: RFC 4861 §7.1.1 has the receiver look.
  view.setUint8(start + 7, 255);
  const group = [0xff02_0000, 0, 1, 0xff00_0000 + target[3]! % 0x100_0000];
  for (let i = 0; i < 4; i++) {
    view.setUint32(start + 8 + 4 * i, source[i]!, false);
    view.setUint32(start + 24 + 4 * i, group[i]!, false);
    view.setUint32(start + 48 + 4 * i, target[i]!, false);
  }
  view.setUint32(start + 40, 135 << 24, false);
  view.setUint32(start + 44, 0, false);
  view.setUint8(start + 64, 1);
  view.setUint8(start + 65, 1);
  writeMac(view, start + 66, mac);
  view.setUint16(start + 42, checksum(view, start), false);
  return start + SOLICITATION_BYTES;
}

/** Where a solicitation goes on Ethernet: 33:33 and the last 32 bits of the group, RFC 2464 §7. */
export function solicitationMac(target: readonly number[]): Uint8Array<ArrayBuffer> {
  const low = target[3]!;
  return Uint8Array.of(0x33, 0x33, 0xff, low >>> 16 & 0xff, low >>> 8 & 0xff, low & 0xff);
}

function writeMac(view: DataView, at: number, mac: number): void {
  view.setUint16(at, Math.floor(mac / 0x1_0000_0000), false);
  view.setUint32(at + 2, mac % 0x1_0000_0000, false);
}

/** Over the pseudo header and the message, RFC 4443 §2.3; what stands in the field is 0 yet. */
function checksum(view: DataView, start: number): number {
  let sum = SOLICITATION_BYTES - 40 + 58;
  for (let at = start + 8; at < start + SOLICITATION_BYTES; at += 2) {
    sum += view.getUint16(at, false);
  }
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  return ~sum & 0xffff;
}
