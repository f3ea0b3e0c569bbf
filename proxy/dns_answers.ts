/**
 * What clients ask and are answered, where no server takes part.
 *
 * @module
 */

import { type DnsAsk, type DnsMessage, RCODE } from "./dns_message.ts";
import { parseDnsRecord } from "./dns_records.ts";
import { type DnsReply, makeReply } from "./dns_reply.ts";
import { readU16, readU32, writeU16, writeU32 } from "./protocol/octets.ts";
import type { PredefinedAction } from "./rule_types.ts";

/** The question of a client's message. */
export function askOf({ question, edns, checkingDisabled }: DnsMessage): DnsAsk {
  return {
    ...question,
    dnssec: edns?.dnssec ?? false,
    checkingDisabled,
    clientSubnet: edns?.clientSubnet,
  };
}

/** What is wrong with a client's message: -1 it deserves no answer, 0 nothing, else the response code. */
export function faultOf(
  query: DnsMessage | string,
  bytes: Uint8Array,
  start: number,
  end: number,
): number {
  // Who answers answers starts a quarrel of two servers.
  if (end - start < 12 || (bytes[start + 2]! & 0x80) !== 0) return -1;
  if (typeof query === "string") return RCODE.formatError;
  return query.opcode === 0 ? 0 : RCODE.notImplemented;
}

/** Writes an answer without question. @returns The position behind it. */
export function writeFault(
  rcode: number,
  bytes: Uint8Array,
  start: number,
  into: Uint8Array,
  at: number,
): number {
  into.fill(0, at, at + 12);
  writeU16(into, at, readU16(bytes, start));
  // Opcode and "recursion desired" as they came.
  writeU16(into, at + 2, 0x8000 | readU16(bytes, start + 2) & 0x7900 | rcode);
  return at + 12;
}

/** A reply some time later: its times to live have counted down. */
export function aged(reply: DnsReply, seconds: number): DnsReply {
  if (seconds === 0) return reply;
  const bytes = reply.bytes.slice();
  for (const at of reply.ttlAt) writeU32(bytes, at, Math.max(0, readU32(bytes, at) - seconds));
  return { ...reply, bytes };
}

/** What a rule answers. @throws {SyntaxError} When its records cannot be read. */
export function predefinedAnswer(action: PredefinedAction): (ask: DnsAsk) => DnsReply {
  const answer = action.answer.map(parseDnsRecord);
  const authority = action.ns.map(parseDnsRecord);
  const additional = action.extra.map(parseDnsRecord);
  return (ask) => makeReply(ask, action.rcode, { answer, authority, additional });
}
