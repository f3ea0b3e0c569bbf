/**
 * Answers as they are kept: the bytes of one answer with everything cut off that belongs to one asker, and what is patched
 * in when it is given to another. A kept answer is never encoded anew.
 *
 * @module
 */

import {
  addressesOf,
  decodeDns,
  DNS_HEADER_BYTES,
  type DnsMessage,
  type DnsQuestion,
  type DnsRecords,
  encodeDnsAnswer,
  OPT_BYTES,
  RCODE,
  skipName,
  TYPE_OPT,
  TYPE_SOA,
  writeOpt,
} from "./dns_message.ts";
import { readU16, readU32, writeU16, writeU32 } from "./protocol/octets.ts";

/** An answer without its asker: id 0, no OPT. */
export interface DnsReply {
  /** The message. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Response code. */
  readonly rcode: number;
  /** Positions of the times to live. */
  readonly ttlAt: readonly number[];
  /** How long it holds, seconds; 0 when it must not be kept. */
  readonly ttlSeconds: number;
  /** Addresses of the answer section. */
  readonly addresses: readonly string[];
}

/**
 * Takes an answer out of a buffer.
 *
 * @param message What was read from `[start, end)`.
 */
export function replyOf(bytes: Uint8Array, start: number, message: DnsMessage): DnsReply {
  const kept = message.records.filter(({ type }) => type !== TYPE_OPT);
  const opt = message.records.findIndex(({ type }) => type === TYPE_OPT);
  // What stands behind OPT may be pointed into: it goes with it. Nobody puts anything there but signatures of this message.
  const records = opt < 0 ? kept : kept.slice(0, opt);
  const end = records.at(-1)?.dataEnd ?? message.questionEnd;
  const own = bytes.slice(start, end);
  writeU16(own, 0, 0);
  // Recursion is available here, whatever the server said, and the bits of the one who asked are put in later.
  writeU16(own, 2, readU16(own, 2) & ~0x0310 | 0x8080);
  if (opt >= 0) {
    writeU16(own, 10, records.filter(({ section }) => section === "additional").length);
  }
  return {
    bytes: own,
    rcode: message.rcode,
    ttlAt: records.map(({ ttlAt }) => ttlAt - start),
    ttlSeconds: holdsFor(bytes, message),
    addresses: addressesOf(bytes, message),
  };
}

/** A reply with other times to live, in seconds; it is kept as long, if it may be kept. */
export function withTtl(reply: DnsReply, seconds: number): DnsReply {
  const bytes = reply.bytes.slice();
  for (const at of reply.ttlAt) writeU32(bytes, at, seconds);
  return { ...reply, bytes, ttlSeconds: reply.ttlSeconds === 0 ? 0 : seconds };
}

/** The reply that says what we know ourselves. */
export function makeReply(
  question: DnsQuestion,
  rcode: number,
  records: DnsRecords = {},
): DnsReply {
  const bytes = encodeDnsAnswer(question, rcode, records);
  const message = decodeDns(bytes, 0, bytes.length);
  if (typeof message === "string") {
    // Only records with data of the wrong length come here.
    return makeReply(question, RCODE.serverFailure);
  }
  return replyOf(bytes, 0, message);
}

/** Seconds an answer holds, RFC 2181 §5.2 and RFC 2308 §5. */
function holdsFor(bytes: Uint8Array, message: DnsMessage): number {
  const { rcode, records, question } = message;
  if (message.truncated || rcode !== RCODE.noError && rcode !== RCODE.nameError) return 0;
  const answers = records.filter(({ section }) => section === "answer");
  const wanted = answers.some(({ type }) => type === question.type) || question.type === 255;
  let seconds = answers.reduce((least, { ttl }) => Math.min(least, ttl), Infinity);
  if (rcode === RCODE.nameError || !wanted) {
    const soa = records.find(({ section, type }) => section === "authority" && type === TYPE_SOA);
    // Without it nobody has said how long that holds.
    if (soa === undefined) return 0;
    seconds = Math.min(seconds, soa.ttl, minimumOf(bytes, soa.dataStart, soa.dataEnd));
  }
  return Number.isFinite(seconds) ? seconds : 0;
}

/** MINIMUM of a SOA record: the last of five numbers behind two names, RFC 1035 §3.3.13. */
function minimumOf(bytes: Uint8Array, at: number, end: number): number {
  const second = skipName(bytes, at, end);
  const numbers = second < 0 ? -1 : skipName(bytes, second, end);
  if (numbers < 0 || numbers + 20 > end) return 0;
  return readU32(bytes, numbers + 16);
}

/** Whom an answer is for. */
export interface DnsAsker {
  /** The query. */
  readonly bytes: Uint8Array;
  /** Where it begins. */
  readonly start: number;
  /** First position behind its question. */
  readonly questionEnd: number;
  /** Whether it had OPT. */
  readonly hasEdns: boolean;
  /** Whether it wants signatures. */
  readonly dnssec: boolean;
  /** Longest answer it takes, bytes. */
  readonly limitBytes: number;
}

/**
 * Writes a reply for an asker: its id, its spelling of the name, its flags, times to live less what has passed.
 *
 * @param agedSeconds Since the reply came.
 * @param staleTtl Time to live of what ended; `undefined` when it did not.
 * @param into With room for the longest answer from `at` on.
 * @returns The position behind it. What does not fit the asker's limit leaves as an empty answer with TC.
 */
export function writeReply(
  reply: DnsReply,
  agedSeconds: number,
  staleTtl: number | undefined,
  asker: DnsAsker,
  into: Uint8Array,
  at: number,
): number {
  const { bytes } = reply;
  const length = bytes.length + (asker.hasEdns ? OPT_BYTES : 0);
  const fits = length <= asker.limitBytes && at + length <= into.length;
  const questionBytes = asker.questionEnd - asker.start;
  let end = at;
  if (fits) {
    into.set(bytes, at);
    end += bytes.length;
    if (agedSeconds > 0 || staleTtl !== undefined) {
      for (const ttlAt of reply.ttlAt) {
        const left = readU32(bytes, ttlAt) - agedSeconds;
        writeU32(into, at + ttlAt, staleTtl ?? (left > 0 ? left : 0));
      }
    }
  } else {
    into.set(bytes.subarray(0, DNS_HEADER_BYTES), at);
    writeU16(into, at + 6, 0);
    writeU32(into, at + 8, 0);
    end += questionBytes;
  }
  into[at] = asker.bytes[asker.start]!;
  into[at + 1] = asker.bytes[asker.start + 1]!;
  const asked = readU16(asker.bytes, asker.start + 2) & 0x0110;
  writeU16(into, at + 2, readU16(bytes, 2) | asked | (fits ? 0 : 0x0200));
  // Askers may check that the letters of the name come back as they were sent.
  for (let i = DNS_HEADER_BYTES; i < questionBytes; i++) {
    into[at + i] = asker.bytes[asker.start + i]!;
  }
  if (asker.hasEdns) {
    end = writeOpt(into, end, asker.dnssec);
    writeU16(into, at + 10, readU16(into, at + 10) + 1);
  }
  return end;
}

/** The asker of a query that was read. */
export function askerOf(
  bytes: Uint8Array,
  start: number,
  query: DnsMessage,
  overUdp: boolean,
): DnsAsker {
  return {
    bytes,
    start,
    questionEnd: query.questionEnd,
    hasEdns: query.edns !== undefined,
    dnssec: query.edns?.dnssec ?? false,
    limitBytes: overUdp ? query.edns?.udpBytes ?? 512 : 65_535,
  };
}
