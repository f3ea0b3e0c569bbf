/**
 * Netlink messages by position: walking a datagram, reading errors, writing requests. Numbers are little endian, as
 * the supported hosts are, except addresses. Nothing here throws for what the kernel sent.
 *
 * ```
 *  0      4      6       8     12    16
 *  +------+------+-------+-----+-----+---------------------------+
 *  | len  | type | flags | seq | pid | fixed part | attributes …  |   struct nlmsghdr; len without the padding to 4
 *  +------+------+-------+-----+-----+---------------------------+
 *  0     2      4
 *  +-----+------+----------+-----+
 *  | len | type |  value   | pad |                                   struct rtattr; len with its own 4 bytes
 *  +-----+------+----------+-----+
 * ```
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import {
  AF_INET,
  IFINFOMSG_BYTES,
  IFLA_EXT_MASK,
  NDA_DST,
  NDA_IFINDEX,
  NDA_LLADDR,
  NDA_MASTER,
  NDMSG_BYTES,
  NLA_TYPE_MASK,
  NLM_F_ACK,
  NLM_F_ACK_TLVS,
  NLM_F_CAPPED,
  NLM_F_CREATE,
  NLM_F_DUMP,
  NLM_F_EXCL,
  NLM_F_REQUEST,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  NLMSGERR_ATTR_MSG,
  NLMSGERR_ATTR_OFFS,
  RTEXT_FILTER_SKIP_STATS,
  RTM_GETLINK,
  RTM_GETNEIGH,
  RTM_NEWNEIGH,
} from "./constants.ts";

/** Fewer bytes left than a message header has. */
export const REJECT_SHORT_HEADER: number = -1;
/** A message length below 16 or beyond the datagram: the rest of the datagram cannot be found. */
export const REJECT_BAD_LENGTH: number = -2;
/** A message shorter than the fixed part of its type. */
export const REJECT_SHORT_BODY: number = -3;
/** An attribute length below 4 or beyond the message. */
export const REJECT_BAD_ATTRIBUTE: number = -4;
/** A neighbor without a network address, or with one whose length is not its family's. */
export const REJECT_BAD_ADDRESS: number = -5;
/** A neighbor of a family that is neither IPv4 nor IPv6. */
export const REJECT_FAMILY: number = -6;
/** A link without a name. */
export const REJECT_NO_NAME: number = -7;
/** What was to be written does not fit the buffer. */
export const REJECT_NO_ROOM: number = -8;

/** Names of the negative reasons for metrics and logs: `REJECT_NAMES[-reason]`. */
export const REJECT_NAMES: readonly string[] = Object.freeze([
  "",
  "short-header",
  "bad-length",
  "short-body",
  "bad-attribute",
  "bad-address",
  "family",
  "no-name",
  "no-room",
]);

/** Takes the messages of a datagram. Positions are valid until the call returns. */
export interface NetlinkSink {
  /**
   * One message, header included, in `[start, end)`.
   *
   * @param type `RTM_…` or `NLMSG_…`.
   */
  message(type: number, start: number, end: number): void;
  /** Something at `start` that is not a message: one of the `REJECT_…` reasons. The rest of the datagram is lost. */
  malformed(reason: number, start: number): void;
}

/**
 * Hands every message of a datagram to `sink`.
 *
 * @param view View over the buffer that holds `[start, end)`.
 * @returns How many messages there were.
 *
 * @example
 * ```ts
 * import { parseNetlink, RTM_GETNEIGH, writeNeighborDump } from "@fastwire/net/neighsync/protocol";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const view = new DataView(new ArrayBuffer(64));
 * const end = writeNeighborDump(view, 0, { sequence: 1 });
 * const types: number[] = [];
 * const count = parseNetlink(view, 0, end, {
 *   message: (type) => void types.push(type),
 *   malformed: () => {},
 * });
 * equal(count, 1);
 * deepEqual(types, [RTM_GETNEIGH]);
 * ```
 */
export function parseNetlink(
  view: DataView,
  start: number,
  end: number,
  sink: NetlinkSink,
): number {
  let count = 0;
  for (let at = start; at < end;) {
    const messageEnd = readMessageEnd(view, at, end);
    if (messageEnd < 0) {
      sink.malformed(messageEnd, at);
      return count;
    }
    count++;
    sink.message(view.getUint16(at + 4, true), at, messageEnd);
    at = at + ((messageEnd - at + 3) & ~3);
  }
  return count;
}

/**
 * Where the message that begins at `start` ends, its padding not included; the next one begins at the following
 * multiple of 4 bytes from `start`.
 *
 * @returns The end, or `REJECT_SHORT_HEADER`, `REJECT_BAD_LENGTH`.
 */
export function readMessageEnd(view: DataView, start: number, end: number): number {
  if (end - start < NLMSG_HDRLEN) return REJECT_SHORT_HEADER;
  const length = view.getUint32(start, true);
  if (length < NLMSG_HDRLEN || length > end - start) return REJECT_BAD_LENGTH;
  return start + length;
}

/** Type of the message at `start`. */
export function readType(view: DataView, start: number): number {
  return view.getUint16(start + 4, true);
}

/** Flags of the message at `start`. */
export function readFlags(view: DataView, start: number): number {
  return view.getUint16(start + 6, true);
}

/** Sequence number of the message at `start`: the request's in replies; another process's, perhaps, in events. */
export function readSequence(view: DataView, start: number): number {
  return view.getUint32(start + 8, true);
}

/** Port number of the message at `start`. */
export function readPort(view: DataView, start: number): number {
  return view.getUint32(start + 12, true);
}

/**
 * The code of an `NLMSG_ERROR` or `NLMSG_DONE`: 0 when all went well, else a positive error number.
 *
 * @returns The number, or {@linkcode REJECT_SHORT_BODY}. A DONE without a code, as old kernels send it, is 0.
 */
export function readErrorNumber(view: DataView, start: number, end: number): number {
  if (end - start < NLMSG_HDRLEN + 4) {
    return readType(view, start) === NLMSG_DONE ? 0 : REJECT_SHORT_BODY;
  }
  const code = view.getInt32(start + NLMSG_HDRLEN, true);
  return code > 0 ? 0 : -code;
}

/** What the kernel said about a request. */
export interface KernelAnswer {
  /** 0 for an acknowledgement, else a positive error number. */
  readonly errorNumber: number;
  /** Type of the request an ERROR echoes; 0 in a DONE. */
  readonly requestType: number;
  /** Sequence number of the request. */
  readonly sequence: number;
  /** The kernel's sentence, at most 512 characters without controls; empty when it gave none. */
  readonly message: string;
  /** Offset in the request of what was refused; -1 when the kernel gave none. */
  readonly offset: number;
}

/**
 * Reads an `NLMSG_ERROR` or `NLMSG_DONE` with its extended acknowledgement.
 *
 * @param bytes The same memory as `view`.
 * @returns The answer, or {@linkcode REJECT_SHORT_BODY}. A damaged extension is left out.
 */
export function decodeAnswer(
  bytes: Uint8Array,
  view: DataView,
  start: number,
  end: number,
): KernelAnswer | number {
  const errorNumber = readErrorNumber(view, start, end);
  if (errorNumber < 0) return errorNumber;
  const flags = readFlags(view, start);
  let requestType = 0;
  let at = start + NLMSG_HDRLEN + 4;
  if (readType(view, start) === NLMSG_ERROR) {
    if (end - at >= NLMSG_HDRLEN) {
      requestType = readType(view, at);
      // The payload is echoed only with an error, and not when the socket asked for less.
      const echoed = flags & NLM_F_CAPPED ? NLMSG_HDRLEN : view.getUint32(at, true);
      at += (Math.max(echoed, NLMSG_HDRLEN) + 3) & ~3;
      if (at < start) at = end;
    } else at = end;
  }
  let message = "", offset = -1;
  if (flags & NLM_F_ACK_TLVS) {
    while (end - at >= 4) {
      const next = nextAttribute(view, at, end);
      if (next < 0) break;
      const type = readAttributeType(view, at);
      const valueEnd = at + view.getUint16(at, true);
      if (type === NLMSGERR_ATTR_MSG) message = decodeText(bytes, at + 4, valueEnd);
      else if (type === NLMSGERR_ATTR_OFFS && valueEnd - at === 8) {
        offset = view.getUint32(at + 4, true);
      }
      at = next;
    }
  }
  return { errorNumber, requestType, sequence: readSequence(view, start), message, offset };
}

/**
 * Where the attribute after the one at `start` begins; at or beyond `end` when there is none.
 *
 * @returns The position, or {@linkcode REJECT_BAD_ATTRIBUTE}. Fewer than 4 bytes at the end of a message are padding.
 */
export function nextAttribute(view: DataView, start: number, end: number): number {
  if (end - start < 4) return end;
  const length = view.getUint16(start, true);
  if (length < 4 || length > end - start) return REJECT_BAD_ATTRIBUTE;
  return start + ((length + 3) & ~3);
}

/** Type of the attribute at `start`, without its nesting and byte-order bits. */
export function readAttributeType(view: DataView, start: number): number {
  return view.getUint16(start + 2, true) & NLA_TYPE_MASK;
}

/** Text up to a zero, at most 512 bytes, without control characters. */
export function decodeText(bytes: Uint8Array, start: number, end: number): string {
  const limit = Math.min(end, start + 512);
  let stop = start;
  while (stop < limit && bytes[stop] !== 0) stop++;
  // deno-lint-ignore no-control-regex -- they are what is to be removed
  return decoder.decode(bytes.subarray(start, stop)).replace(/[\u0000-\u001f\u007f-\u009f]/g, "");
}

/** What a dump of neighbors is to contain. */
export interface NeighborDumpRequest {
  /** Any number; replies carry it. */
  readonly sequence: number;
  /** `AF_INET`, `AF_INET6`, or 0 (the default) for both. */
  readonly family?: number;
  /** Only this interface. The kernel ignores it without strict checking: look at what arrives. */
  readonly ifindex?: number;
  /** Only interfaces of this master. */
  readonly master?: number;
}

/**
 * Writes a request for the neighbor table.
 *
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 */
export function writeNeighborDump(
  view: DataView,
  start: number,
  request: NeighborDumpRequest,
): number {
  const { sequence, family = 0, ifindex = 0, master = 0 } = request;
  const end = start + NLMSG_HDRLEN + NDMSG_BYTES + (ifindex === 0 ? 0 : 8) + (master === 0 ? 0 : 8);
  if (end > view.byteLength) return REJECT_NO_ROOM;
  writeHeader(view, start, end, RTM_GETNEIGH, NLM_F_REQUEST | NLM_F_DUMP, sequence);
  let at = writeNdmsg(view, start + NLMSG_HDRLEN, family, 0, 0, 0);
  if (ifindex !== 0) at = writeU32Attribute(view, at, NDA_IFINDEX, ifindex);
  if (master !== 0) at = writeU32Attribute(view, at, NDA_MASTER, master);
  return at;
}

/**
 * Writes a request for one neighbor; the kernel answers with one NEWNEIGH or `ENOENT`.
 *
 * @param family `AF_INET` or `AF_INET6`.
 * @param word0 The address as 32-bit words, most significant first; IPv4 uses only this one.
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 */
export function writeNeighborGet(
  view: DataView,
  start: number,
  sequence: number,
  ifindex: number,
  family: number,
  word0: number,
  word1: number,
  word2: number,
  word3: number,
): number {
  const end = start + NLMSG_HDRLEN + NDMSG_BYTES + (family === AF_INET ? 8 : 20);
  if (end > view.byteLength) return REJECT_NO_ROOM;
  writeHeader(view, start, end, RTM_GETNEIGH, NLM_F_REQUEST, sequence);
  const at = writeNdmsg(view, start + NLMSG_HDRLEN, family, ifindex, 0, 0);
  return writeAddressAttribute(view, at, family, word0, word1, word2, word3);
}

/**
 * Writes a request for all links, without their statistics.
 *
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 */
export function writeLinkDump(view: DataView, start: number, sequence: number): number {
  return writeLinkRequest(view, start, NLM_F_REQUEST | NLM_F_DUMP, sequence, 0);
}

/**
 * Writes a request for one link; the kernel answers with one NEWLINK or `ENODEV`.
 *
 * @param ifindex 1 to 2³¹ − 1.
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 */
export function writeLinkGet(
  view: DataView,
  start: number,
  sequence: number,
  ifindex: number,
): number {
  return writeLinkRequest(view, start, NLM_F_REQUEST, sequence, ifindex);
}

/** A neighbor to be put into the kernel. */
export interface NeighborWrite {
  /** Any number; the answer carries it. */
  readonly sequence: number;
  /** Ask for an acknowledgement; errors are answered in any case. Default false. */
  readonly acknowledge?: boolean;
  /** `NLM_F_CREATE`, `NLM_F_EXCL`, `NLM_F_REPLACE`. Default CREATE and EXCL: what exists stays. */
  readonly flags?: number;
  /** 1 to 2³¹ − 1. */
  readonly ifindex: number;
  /** `AF_INET` or `AF_INET6`. */
  readonly family: number;
  /** The address as 32-bit words, most significant first; IPv4 uses only the first. */
  readonly words: readonly number[];
  /** 48-bit number. */
  readonly mac: number;
  /** `NUD_…`. */
  readonly state: number;
}

/**
 * Writes a NEWNEIGH. Many fit one buffer and one send: the kernel takes them one after the other.
 *
 * @returns Where it ends, a multiple of 4 bytes from `start`, or {@linkcode REJECT_NO_ROOM}.
 * @throws {RangeError} When the interface index or the MAC is out of range.
 */
export function writeNewNeighbor(view: DataView, start: number, neighbor: NeighborWrite): number {
  const { sequence, ifindex, family, words, mac, state } = neighbor;
  integerIn(ifindex, 1, 0x7fff_ffff, "interface index");
  integerIn(mac, 0, 0xffff_ffff_ffff, "MAC address");
  // 10 bytes of link-layer attribute, padded to 12: the next message begins right behind.
  const length = NLMSG_HDRLEN + NDMSG_BYTES + (family === AF_INET ? 8 : 20) + 12;
  if (start + length > view.byteLength) return REJECT_NO_ROOM;
  const flags = NLM_F_REQUEST | (neighbor.acknowledge ? NLM_F_ACK : 0) |
    (neighbor.flags ?? (NLM_F_CREATE | NLM_F_EXCL));
  writeHeader(view, start, start + length, RTM_NEWNEIGH, flags, sequence);
  let at = writeNdmsg(view, start + NLMSG_HDRLEN, family, ifindex, state, 0);
  at = writeAddressAttribute(
    view,
    at,
    family,
    words[0] ?? 0,
    words[1] ?? 0,
    words[2] ?? 0,
    words[3] ?? 0,
  );
  view.setUint16(at, 10, true);
  view.setUint16(at + 2, NDA_LLADDR, true);
  view.setUint16(at + 4, Math.floor(mac / 0x1_0000_0000), false);
  view.setUint32(at + 6, mac % 0x1_0000_0000, false);
  view.setUint16(at + 10, 0, true);
  return at + 12;
}

function writeHeader(
  view: DataView,
  start: number,
  end: number,
  type: number,
  flags: number,
  sequence: number,
): void {
  view.setUint32(start, end - start, true);
  view.setUint16(start + 4, type, true);
  view.setUint16(start + 6, flags, true);
  view.setUint32(start + 8, sequence, true);
  // The kernel fills in the port of the socket.
  view.setUint32(start + 12, 0, true);
}

function writeNdmsg(
  view: DataView,
  start: number,
  family: number,
  ifindex: number,
  state: number,
  flags: number,
): number {
  view.setUint32(start, family, true);
  view.setInt32(start + 4, ifindex, true);
  view.setUint16(start + 8, state, true);
  view.setUint8(start + 10, flags);
  view.setUint8(start + 11, 0);
  return start + NDMSG_BYTES;
}

function writeLinkRequest(
  view: DataView,
  start: number,
  flags: number,
  sequence: number,
  ifindex: number,
): number {
  const end = start + NLMSG_HDRLEN + IFINFOMSG_BYTES + 8;
  if (end > view.byteLength) return REJECT_NO_ROOM;
  writeHeader(view, start, end, RTM_GETLINK, flags, sequence);
  const body = start + NLMSG_HDRLEN;
  view.setUint32(body, 0, true);
  view.setInt32(body + 4, ifindex, true);
  view.setUint32(body + 8, 0, true);
  view.setUint32(body + 12, 0, true);
  return writeU32Attribute(view, body + IFINFOMSG_BYTES, IFLA_EXT_MASK, RTEXT_FILTER_SKIP_STATS);
}

function writeU32Attribute(view: DataView, start: number, type: number, value: number): number {
  view.setUint16(start, 8, true);
  view.setUint16(start + 2, type, true);
  view.setUint32(start + 4, value, true);
  return start + 8;
}

function writeAddressAttribute(
  view: DataView,
  start: number,
  family: number,
  word0: number,
  word1: number,
  word2: number,
  word3: number,
): number {
  view.setUint16(start, family === AF_INET ? 8 : 20, true);
  view.setUint16(start + 2, NDA_DST, true);
  view.setUint32(start + 4, word0, false);
  if (family === AF_INET) return start + 8;
  view.setUint32(start + 8, word1, false);
  view.setUint32(start + 12, word2, false);
  view.setUint32(start + 16, word3, false);
  return start + 20;
}

const decoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });
