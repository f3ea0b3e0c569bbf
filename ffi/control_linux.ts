/**
 * Control messages of datagram sockets: what the kernel says about a datagram besides its bytes, and what it is told.
 *
 * @module
 */
import { ADDRESS_BYTES, AF_INET, AF_INET6 } from "./address.ts";
import {
  IP_PKTINFO,
  IP_RECVORIGDSTADDR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_PKTINFO,
  IPV6_RECVORIGDSTADDR,
  SOL_UDP,
  UDP_GRO,
  UDP_SEGMENT,
} from "./constants_linux.ts";
import { BROADCAST_PORT, type DatagramBatch } from "./datagram.ts";
import {
  CMSGHDR,
  controlLength,
  controlSpace,
  IN6_PKTINFO,
  IN_PKTINFO,
  SOCKADDR_IN,
  SOCKADDR_IN6,
} from "./structs_linux.ts";

/** Bytes for all that a socket of ours can be told about one datagram: segment size, packet info of both families. */
export const RECEIVE_CONTROL_BYTES: number = controlSpace(4) + controlSpace(IN_PKTINFO.size) +
  controlSpace(IN6_PKTINFO.size);

/** Bytes for all that we tell the kernel about one message: segment size and source address. */
export const SEND_CONTROL_BYTES: number = controlSpace(2) + controlSpace(IN6_PKTINFO.size);

/**
 * Reads the control messages of a received datagram into entry `entry` of a batch: `segments`, when it is coalesced, and
 * `locals`. What is not there is set to 0 by the caller.
 *
 * @param start Position of the first control message.
 * @param end Behind the last one.
 */
export function readControls(
  view: DataView,
  start: number,
  end: number,
  batch: DatagramBatch,
  entry: number,
): void {
  const { locals } = batch;
  const into = entry * ADDRESS_BYTES;
  let broadcast = false;
  for (let at = start; at + CMSGHDR.size <= end;) {
    const length = view.getUint32(at + CMSGHDR.len, true);
    // The kernel does not write such a thing; a length that did not advance would never end.
    if (length < CMSGHDR.size || at + length > end) return;
    const level = view.getInt32(at + CMSGHDR.level, true);
    const type = view.getInt32(at + CMSGHDR.type, true);
    const data = at + CMSGHDR.size;
    if (level === SOL_UDP && type === UDP_GRO) {
      const segment = view.getInt32(data, true);
      // One datagram alone carries its own size here.
      if (segment < batch.lengths[entry]!) batch.segments[entry] = segment;
    } else if (level === IPPROTO_IP && type === IP_PKTINFO) {
      const address = view.getUint32(data + IN_PKTINFO.addr);
      // For a datagram to this host alone the kernel would answer from the address it came to; see ip(7).
      broadcast = view.getUint32(data + IN_PKTINFO.spec_dst) !== address;
      // A dual-stack socket says both; there the address is in the mapped form.
      if (locals.getUint16(into, true) !== AF_INET6) {
        locals.setUint16(into + SOCKADDR_IN.family, AF_INET, true);
        locals.setUint32(into + SOCKADDR_IN.addr, address);
      }
    } else if (level === IPPROTO_IPV6 && type === IPV6_PKTINFO) {
      locals.setUint16(into + SOCKADDR_IN6.family, AF_INET6, true);
      for (let i = 0; i < 16; i += 4) {
        locals.setUint32(into + SOCKADDR_IN6.addr + i, view.getUint32(data + i));
      }
      // The interface is part of the address only where the same address exists on each of them.
      if (isLinkLocal(locals, into)) {
        const index = view.getUint32(data + IN6_PKTINFO.ifindex, true);
        locals.setUint32(into + SOCKADDR_IN6.scope_id, index, true);
      }
    } else if (
      level === IPPROTO_IP && type === IP_RECVORIGDSTADDR ||
      level === IPPROTO_IPV6 && type === IPV6_RECVORIGDSTADDR
    ) {
      // A whole address: where it was going before netfilter brought it here, the port included.
      copySocketAddress(view, data, length - CMSGHDR.size, locals, into);
    }
    at += controlSpace(length - CMSGHDR.size);
  }
  if (broadcast) locals.setUint16(into + SOCKADDR_IN.port, BROADCAST_PORT);
}

/** Writes "cut this message into datagrams of `segment` bytes". @returns The bytes it takes. */
export function writeSegmentControl(view: DataView, at: number, segment: number): number {
  writeHeader(view, at, 2, SOL_UDP, UDP_SEGMENT);
  view.setUint16(at + CMSGHDR.size, segment, true);
  return SEGMENT_SPACE;
}

/**
 * Writes "send this message from the address at position `from`".
 *
 * @returns The bytes it takes; 0 when no address is there, or one that nothing can be sent from (a group, everybody).
 */
export function writeSourceControl(
  view: DataView,
  at: number,
  locals: DataView,
  from: number,
): number {
  const data = at + CMSGHDR.size;
  const family = locals.getUint16(from, true);
  if (family === AF_INET) {
    if (locals.getUint8(from + SOCKADDR_IN.addr) >= FIRST_GROUP_IPV4) return 0;
    writeHeader(view, at, IN_PKTINFO.size, IPPROTO_IP, IP_PKTINFO);
    view.setUint32(data + IN_PKTINFO.ifindex, 0);
    view.setUint32(data + IN_PKTINFO.spec_dst, locals.getUint32(from + SOCKADDR_IN.addr));
    view.setUint32(data + IN_PKTINFO.addr, 0);
    return controlSpace(IN_PKTINFO.size);
  }
  if (family !== AF_INET6 || locals.getUint8(from + SOCKADDR_IN6.addr) === 0xff) return 0;
  // Mapped addresses included: the kernel takes them in this form on an IPv6 socket, net/ipv4/ip_sockglue.c
  writeHeader(view, at, IN6_PKTINFO.size, IPPROTO_IPV6, IPV6_PKTINFO);
  for (let i = 0; i < 16; i += 4) {
    view.setUint32(data + i, locals.getUint32(from + SOCKADDR_IN6.addr + i));
  }
  const scope = locals.getUint32(from + SOCKADDR_IN6.scope_id, true);
  view.setUint32(data + IN6_PKTINFO.ifindex, scope, true);
  return controlSpace(IN6_PKTINFO.size);
}

/** Copies a `sockaddr`; what is longer than an address of ours, or no whole one, is none. */
function copySocketAddress(
  view: DataView,
  from: number,
  bytes: number,
  into: DataView,
  at: number,
): void {
  if (bytes < SOCKADDR_IN.size || bytes > ADDRESS_BYTES) return;
  for (let i = 0; i < bytes; i += 4) into.setUint32(at + i, view.getUint32(from + i));
}

function writeHeader(view: DataView, at: number, bytes: number, level: number, type: number): void {
  view.setUint32(at + CMSGHDR.len, controlLength(bytes), true);
  view.setUint32(at + CMSGHDR.len + 4, 0);
  view.setInt32(at + CMSGHDR.level, level, true);
  view.setInt32(at + CMSGHDR.type, type, true);
}

/** fe80::/10 */
function isLinkLocal(view: DataView, at: number): boolean {
  return (view.getUint16(at + SOCKADDR_IN6.addr) & 0xffc0) === 0xfe80;
}

const SEGMENT_SPACE: number = controlSpace(2);
/** 224.0.0.0: groups, reserved addresses and the broadcast address lie from here on. */
const FIRST_GROUP_IPV4 = 224;
