/**
 * DNS messages (RFC 1035 §4, EDNS0 of RFC 6891) by position: what a peer sent is read without a throw, and bounded.
 *
 * Names are text in lower case without a final dot, `.` for the root. A byte that is no visible ASCII, a dot inside a
 * label and a backslash are written `\DDD`, so that no two names have one text.
 *
 * @module
 */

import { formatIpv4, formatIpv6, writeIpText } from "./protocol/ip_text.ts";
import { NO_BYTES, readU16, readU32, writeU16, writeU32 } from "./protocol/octets.ts";

/** Bytes of the header. */
export const DNS_HEADER_BYTES = 12;
/** Longest message, bytes: what the length in front of it on a stream can say. */
export const MAX_DNS_BYTES = 65_535;
/** What we tell others our UDP answers may be, bytes: fits every path without fragments. */
export const EDNS_UDP_BYTES = 1232;

/** Record type A. */
export const TYPE_A = 1;
/** Record type SOA. */
export const TYPE_SOA = 6;
/** Record type PTR. */
export const TYPE_PTR = 12;
/** Record type AAAA. */
export const TYPE_AAAA = 28;
/** Pseudo record type OPT, RFC 6891. */
export const TYPE_OPT = 41;
/** Class IN. */
export const CLASS_IN = 1;

/** Response codes that are used here, RFC 1035 §4.1.1. */
export const RCODE = {
  noError: 0,
  formatError: 1,
  serverFailure: 2,
  nameError: 3,
  notImplemented: 4,
  refused: 5,
} as const;

/** What is wrong with a message. */
export type DnsFlaw = "short" | "questions" | "name" | "record";

/** A question, RFC 1035 §4.1.2. */
export interface DnsQuestion {
  /** Lower case. */
  readonly name: string;
  /** Record type. */
  readonly type: number;
  /** Class; 1 is IN. */
  readonly class: number;
}

/** Which section a record stands in. */
export type DnsSection = "answer" | "authority" | "additional";

/** Where a record lies in its message. */
export interface DnsRecordPlace {
  /** Section. */
  readonly section: DnsSection;
  /** Position of its name. */
  readonly nameAt: number;
  /** Record type. */
  readonly type: number;
  /** Class. */
  readonly class: number;
  /** Time to live, seconds; what has its highest bit set is 0 (RFC 2181 §8). */
  readonly ttl: number;
  /** Position of the time to live. */
  readonly ttlAt: number;
  /** Data, `[dataStart, dataEnd)`. */
  readonly dataStart: number;
  /** See {@linkcode DnsRecordPlace.dataStart}. */
  readonly dataEnd: number;
}

/** A message that was read. Positions count in the bytes it was read from. */
export interface DnsMessage {
  /** Chosen by who asks. */
  readonly id: number;
  /** Whether it is an answer. */
  readonly isResponse: boolean;
  /** 0 is a standard query. */
  readonly opcode: number;
  /** Response code, without the part in OPT. */
  readonly rcode: number;
  /** Whether the answer was cut. */
  readonly truncated: boolean;
  /** Whether recursion was asked for. */
  readonly recursionDesired: boolean;
  /** Whether the asker checks signatures itself (RFC 4035 §3.2.2). */
  readonly checkingDisabled: boolean;
  /** The one question. */
  readonly question: DnsQuestion;
  /** First position behind the question. */
  readonly questionEnd: number;
  /** Records, in order; OPT among them. */
  readonly records: readonly DnsRecordPlace[];
  /** What OPT says; `undefined` without it. */
  readonly edns: Edns | undefined;
}

/** What OPT says. */
export interface Edns {
  /** Longest answer the asker takes over UDP, bytes; 512 at least. */
  readonly udpBytes: number;
  /** Whether signatures are wanted (RFC 3225). */
  readonly dnssec: boolean;
  /** Position of the OPT record. */
  readonly at: number;
  /** The client subnet option as text, `192.0.2.0/24`; `undefined` without it. */
  readonly clientSubnet: string | undefined;
}

/**
 * Reads a message.
 *
 * @returns The message, or what is wrong with it. Bytes behind its last record are left alone.
 */
export function decodeDns(bytes: Uint8Array, start: number, end: number): DnsMessage | DnsFlaw {
  if (end - start < DNS_HEADER_BYTES) return "short";
  const flags = readU16(bytes, start + 2);
  if (readU16(bytes, start + 4) !== 1) return "questions";
  // Nothing stands before the first name that it could point to.
  const nameEnd = skipName(bytes, start + DNS_HEADER_BYTES, end, false);
  if (nameEnd < 0) return "name";
  if (nameEnd + 4 > end) return "short";
  const name = readDnsName(bytes, start, start + DNS_HEADER_BYTES, end);
  if (name === undefined) return "name";
  const records: DnsRecordPlace[] = [];
  let at = nameEnd + 4;
  let edns: Edns | undefined;
  for (let section = 0; section < 3; section++) {
    for (let left = readU16(bytes, start + 6 + 2 * section); left > 0; left--) {
      const nameAt = at;
      at = skipName(bytes, at, end);
      // Where the name of a record leads has to be sound, too, even if nobody reads it.
      if (at < 0 || !isSoundName(bytes, start, nameAt, end)) return "name";
      if (at + 10 > end) return "short";
      const dataStart = at + 10;
      const dataEnd = dataStart + readU16(bytes, at + 8);
      if (dataEnd > end) return "short";
      const type = readU16(bytes, at);
      const seconds = readU32(bytes, at + 4);
      const record = {
        section: SECTIONS[section]!,
        nameAt,
        type,
        class: readU16(bytes, at + 2),
        ttl: seconds > 0x7fff_ffff ? 0 : seconds,
        ttlAt: at + 4,
        dataStart,
        dataEnd,
      };
      if (type === TYPE_OPT) {
        if (edns !== undefined || section !== 2 || at !== nameAt + 1) return "record";
        edns = ednsOf(bytes, record, seconds);
      } else if (type === TYPE_A && dataEnd - dataStart !== 4) return "record";
      else if (type === TYPE_AAAA && dataEnd - dataStart !== 16) return "record";
      records.push(record);
      at = dataEnd;
    }
  }
  return {
    id: readU16(bytes, start),
    isResponse: (flags & 0x8000) !== 0,
    opcode: flags >> 11 & 15,
    rcode: flags & 15,
    truncated: (flags & 0x0200) !== 0,
    recursionDesired: (flags & 0x0100) !== 0,
    checkingDisabled: (flags & 0x0010) !== 0,
    question: { name, type: readU16(bytes, nameEnd), class: readU16(bytes, nameEnd + 2) },
    questionEnd: nameEnd + 4,
    records,
    edns,
  };
}

function ednsOf(bytes: Uint8Array, record: DnsRecordPlace, flags: number): Edns {
  let clientSubnet: string | undefined;
  let at = record.dataStart;
  while (at + 4 <= record.dataEnd) {
    const option = readU16(bytes, at);
    const next = at + 4 + readU16(bytes, at + 2);
    if (next > record.dataEnd) break;
    if (option === OPTION_CLIENT_SUBNET) clientSubnet = readClientSubnet(bytes, at + 4, next);
    at = next;
  }
  return {
    udpBytes: Math.max(512, record.class),
    dnssec: (flags & 0x8000) !== 0,
    at: record.nameAt,
    clientSubnet,
  };
}

/**
 * The first position behind a name as it stands, without following pointers.
 *
 * @param mayPoint Whether it may end in a pointer. Default true.
 * @returns -1 when it does not end.
 */
export function skipName(bytes: Uint8Array, at: number, end: number, mayPoint = true): number {
  const limit = Math.min(end, at + MAX_NAME_BYTES);
  while (at < limit) {
    const length = bytes[at]!;
    if (length === 0) return at + 1;
    if (length >= 0xc0) return mayPoint && at + 2 <= end ? at + 2 : -1;
    if (length > 63) return -1;
    at += 1 + length;
  }
  return -1;
}

/**
 * Reads a name, following pointers.
 *
 * @param start Where the message begins.
 * @returns The name; `undefined` when it leaves the message, is longer than 255 bytes, has more than 128 pointers, or one that
 * does not lead back.
 */
export function readDnsName(
  bytes: Uint8Array,
  start: number,
  at: number,
  end: number,
): string | undefined {
  const length = collectName(bytes, start, at, end);
  if (length < 0) return undefined;
  if (length === 0) return ".";
  if (!scratchHasOddBytes) return String.fromCharCode.apply(null, scratchCodes(length));
  let text = "";
  for (let i = 0; i < length; i++) {
    const code = scratch[i]!;
    if (code === LABEL_END) text += ".";
    else if (isPlain(code)) text += String.fromCharCode(code);
    else text += `\\${String(code).padStart(3, "0")}`;
  }
  return text;
}

function isSoundName(bytes: Uint8Array, start: number, at: number, end: number): boolean {
  return collectName(bytes, start, at, end) >= 0;
}

// Between labels; no byte has this value.
const LABEL_END = 256;
// Scratch of one call, seen by nobody else.
const scratch = new Uint16Array(256);
const scratchText = Array.from({ length: 256 }, (_, length) => scratch.subarray(0, length));
let scratchHasOddBytes = false;

function scratchCodes(length: number): number[] {
  const codes = scratchText[length]!;
  for (let i = 0; i < length; i++) if (codes[i] === LABEL_END) codes[i] = 0x2e;
  // What fromCharCode is given is array-like, whatever the type says.
  return codes as unknown as number[];
}

/** Writes the name's lower-case bytes into the scratch. @returns How many; -1 when it is no name. */
function collectName(bytes: Uint8Array, start: number, at: number, end: number): number {
  let length = 0, wire = 1, jumps = 0, before = at;
  scratchHasOddBytes = false;
  for (;;) {
    if (at >= end) return -1;
    const label = bytes[at]!;
    if (label === 0) return length;
    if (label >= 0xc0) {
      if (at + 2 > end || ++jumps > MAX_POINTERS) return -1;
      const target = start + (readU16(bytes, at) & 0x3fff);
      // Only what stands before can have been written already (RFC 1035 §4.1.4), and nothing in the header is a name.
      if (target >= before || target < start + DNS_HEADER_BYTES) return -1;
      at = before = target;
      continue;
    }
    if (label > 63 || at + 1 + label > end) return -1;
    wire += 1 + label;
    if (wire > MAX_NAME_BYTES) return -1;
    if (length > 0) scratch[length++] = LABEL_END;
    for (const last = at + label; at < last;) {
      let code = bytes[++at]!;
      if (code >= 0x41 && code <= 0x5a) code |= 0x20;
      else if (!isPlain(code)) scratchHasOddBytes = true;
      scratch[length++] = code;
    }
    at++;
  }
}

/** Visible ASCII but the dot and the backslash. */
function isPlain(code: number): boolean {
  return code > 0x20 && code < 0x7f && code !== 0x2e && code !== 0x5c;
}

/**
 * Writes a name, lower case as it stands.
 *
 * @param into With room for 255 bytes from `at` on.
 * @returns The position behind it; -1 when it is no name: an empty or too long label, more than 255 bytes.
 */
export function writeDnsName(into: Uint8Array, at: number, name: string): number {
  const start = at;
  if (name === "." || name === "") {
    into[at] = 0;
    return at + 1;
  }
  let lengthAt = at++;
  for (let i = 0; i <= name.length; i++) {
    let code = i < name.length ? name.charCodeAt(i) : 0x2e;
    if (code === 0x2e) {
      const length = at - lengthAt - 1;
      // One final dot is the root's.
      if (length === 0 && i === name.length) break;
      if (length === 0 || length > 63) return -1;
      into[lengthAt] = length;
      lengthAt = at++;
      continue;
    }
    if (code === 0x5c) {
      const digits = name.slice(i + 1, i + 4);
      const isNumber = /^[0-9]{3}$/.test(digits);
      code = isNumber ? Number(digits) : name.charCodeAt(i + 1);
      i += isNumber ? 3 : 1;
    }
    if (!(code < 256) || at - start >= MAX_NAME_BYTES - 1) return -1;
    into[at++] = code;
  }
  into[at - 1] = 0;
  return at - start > MAX_NAME_BYTES ? -1 : at;
}

/** What is asked. */
export interface DnsAsk extends DnsQuestion {
  /** Whether signatures are wanted. Default false. */
  readonly dnssec?: boolean;
  /** Whether the asker checks them itself. Default false. */
  readonly checkingDisabled?: boolean;
  /** Network sent along, `192.0.2.0/24`. */
  readonly clientSubnet?: string | undefined;
}

/**
 * A query for one question, recursion desired, with EDNS0.
 *
 * @param id 0 to 65535.
 * @returns `undefined` when the name is no name DNS can carry.
 */
export function encodeDnsQuery(id: number, ask: DnsAsk): Uint8Array<ArrayBuffer> | undefined {
  const bytes = new Uint8Array(DNS_HEADER_BYTES + MAX_NAME_BYTES + 4 + OPT_BYTES + 24);
  writeU16(bytes, 0, id);
  writeU16(bytes, 2, 0x0100 | (ask.checkingDisabled === true ? 0x10 : 0));
  writeU16(bytes, 4, 1);
  writeU16(bytes, 10, 1);
  let at = writeDnsName(bytes, DNS_HEADER_BYTES, ask.name);
  if (at < 0) return undefined;
  writeU16(bytes, at, ask.type);
  writeU16(bytes, at + 2, ask.class);
  at = writeOpt(bytes, at + 4, ask.dnssec === true);
  if (ask.clientSubnet !== undefined) {
    const length = writeClientSubnet(bytes, at, ask.clientSubnet);
    writeU16(bytes, at - 2, length);
    at += length;
  }
  return bytes.slice(0, at);
}

/** Bytes of an OPT record without options. */
export const OPT_BYTES = 11;

/** Writes an OPT record without options. @returns The position behind it. */
export function writeOpt(into: Uint8Array, at: number, dnssec: boolean): number {
  into[at] = 0;
  writeU16(into, at + 1, TYPE_OPT);
  writeU16(into, at + 3, EDNS_UDP_BYTES);
  writeU32(into, at + 5, dnssec ? 0x8000 : 0);
  writeU16(into, at + 9, 0);
  return at + OPT_BYTES;
}

/** A record to be written. */
export interface DnsRecord {
  /** Owner; `undefined` is the name of the question. */
  readonly name?: string | undefined;
  /** Record type. */
  readonly type: number;
  /** Seconds. */
  readonly ttl: number;
  /** Data, as it goes over the wire. */
  readonly data: Uint8Array;
}

/** The records of an answer by section. */
export interface DnsRecords {
  /** Answer section. */
  readonly answer?: readonly DnsRecord[];
  /** Authority section. */
  readonly authority?: readonly DnsRecord[];
  /** Additional section. */
  readonly additional?: readonly DnsRecord[];
}

/**
 * An answer with id 0, to a question.
 *
 * @param rcode 0 to 15.
 * @returns The answer; records that do not fit 65,535 bytes are left out. A question that is none is answered as the root's.
 */
export function encodeDnsAnswer(
  question: DnsQuestion,
  rcode: number,
  records: DnsRecords = {},
): Uint8Array<ArrayBuffer> {
  const sections = [records.answer ?? [], records.authority ?? [], records.additional ?? []];
  const room = sections.flat().reduce(
    (sum, { data }) => sum + data.length + 10 + MAX_NAME_BYTES,
    0,
  );
  const bytes = new Uint8Array(DNS_HEADER_BYTES + MAX_NAME_BYTES + 4 + room);
  // An answer; recursion was desired and is available.
  writeU16(bytes, 2, 0x8180 | rcode);
  writeU16(bytes, 4, 1);
  let at = writeDnsName(bytes, DNS_HEADER_BYTES, question.name);
  if (at < 0) at = writeDnsName(bytes, DNS_HEADER_BYTES, ".");
  writeU16(bytes, at, question.type);
  writeU16(bytes, at + 2, question.class);
  at += 4;
  for (let section = 0; section < 3; section++) {
    let count = 0;
    for (const record of sections[section]!) {
      const dataAt = writeRecord(bytes, at, record);
      if (dataAt < 0 || dataAt > MAX_DNS_BYTES) break;
      at = dataAt;
      count++;
    }
    writeU16(bytes, 6 + 2 * section, count);
  }
  return bytes.slice(0, at);
}

function writeRecord(bytes: Uint8Array, at: number, record: DnsRecord): number {
  const { name, type, ttl, data } = record;
  let next = at;
  if (name === undefined) {
    writeU16(bytes, at, 0xc000 | DNS_HEADER_BYTES);
    next += 2;
  } else next = writeDnsName(bytes, at, name);
  if (next < 0) return -1;
  writeU16(bytes, next, type);
  writeU16(bytes, next + 2, CLASS_IN);
  writeU32(bytes, next + 4, ttl);
  writeU16(bytes, next + 8, data.length);
  bytes.set(data, next + 10);
  return next + 10 + data.length;
}

// RFC 7871 §6: family, source prefix, scope prefix, then the octets of the address that the prefix covers.
const OPTION_CLIENT_SUBNET = 8;

/** Writes the option. @returns Its length, bytes; 0 when the text is no block. */
function writeClientSubnet(into: Uint8Array, at: number, text: string): number {
  const slash = text.indexOf("/");
  const octets = new Uint8Array(16);
  const length = writeIpText(octets, 0, slash < 0 ? text : text.slice(0, slash));
  const bits = slash < 0 ? length * 8 : Number(text.slice(slash + 1));
  if (length === 0 || !(bits <= length * 8)) return 0;
  const kept = (bits + 7) >> 3;
  if (bits % 8 !== 0) octets[kept - 1]! &= 0xff << 8 - bits % 8;
  writeU16(into, at, OPTION_CLIENT_SUBNET);
  writeU16(into, at + 2, 4 + kept);
  writeU16(into, at + 4, length === 4 ? 1 : 2);
  into[at + 6] = bits;
  into[at + 7] = 0;
  into.set(octets.subarray(0, kept), at + 8);
  return 8 + kept;
}

function readClientSubnet(bytes: Uint8Array, at: number, end: number): string | undefined {
  const octets = new Uint8Array(16);
  if (end - at < 4 || end - at > 20) return undefined;
  const family = readU16(bytes, at);
  const bits = bytes[at + 2]!;
  if (family !== 1 && family !== 2 || bits > (family === 1 ? 32 : 128)) return undefined;
  if (end - at - 4 !== (bits + 7) >> 3) return undefined;
  octets.set(bytes.subarray(at + 4, end));
  const address = family === 1 ? formatIpv4(octets, 0) : formatIpv6(octets, 0);
  return `${address}/${bits}`;
}

/** The addresses of the A and AAAA records of the answer section, as text. */
export function addressesOf(bytes: Uint8Array, message: DnsMessage): readonly string[] {
  const addresses: string[] = [];
  for (const { section, type, dataStart } of message.records) {
    if (section !== "answer") continue;
    if (type === TYPE_A) addresses.push(formatIpv4(bytes, dataStart));
    if (type === TYPE_AAAA) addresses.push(formatIpv6(bytes, dataStart));
  }
  return addresses;
}

/** The data of a record that holds an address; empty when the text is none. */
export function addressData(address: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(16);
  const length = writeIpText(bytes, 0, address);
  return length === 0 ? NO_BYTES : bytes.slice(0, length);
}

/** The address a name below `in-addr.arpa` or `ip6.arpa` stands for; `undefined` for other names. */
export function addressOfReverseName(name: string): string | undefined {
  const labels = name.split(".");
  if (name.endsWith(".in-addr.arpa") && labels.length === 6) {
    const text = labels.slice(0, 4).reverse().join(".");
    return addressData(text).length === 4 ? text : undefined;
  }
  if (!name.endsWith(".ip6.arpa") || labels.length !== 34) return undefined;
  const digits = labels.slice(0, 32).reverse().join("");
  if (!/^[0-9a-f]{32}$/.test(digits)) return undefined;
  const bytes = Uint8Array.from(
    { length: 16 },
    (_, i) => parseInt(digits.slice(2 * i, 2 * i + 2), 16),
  );
  return formatIpv6(bytes, 0);
}

const SECTIONS: readonly DnsSection[] = ["answer", "authority", "additional"];
const MAX_NAME_BYTES = 255;
const MAX_POINTERS = 128;
