/**
 * Network and link-layer addresses as numbers and text. A MAC is one 48-bit number, an IP address four 32-bit words;
 * text is made only for what is published, byte for byte as the C library writes it.
 *
 * @module
 */

import { AF_INET, AF_INET6 } from "./constants.ts";

/** There is no link-layer address. */
export const MAC_ABSENT: number = -1;
/** There is a link-layer address, but not one of 6 bytes. */
export const MAC_FOREIGN: number = -2;
/** `ff:ff:ff:ff:ff:ff`. */
export const MAC_BROADCAST: number = 0xffff_ffff_ffff;

/**
 * Writes a MAC address as lower-case pairs with colons.
 *
 * @param mac 48-bit number.
 *
 * @example
 * ```ts
 * import { formatMac } from "@fastwire/net/neighsync/protocol";
 * import { equal } from "node:assert/strict";
 *
 * equal(formatMac(0x0200_0000_0099), "02:00:00:00:00:99");
 * ```
 */
export function formatMac(mac: number): string {
  const high = Math.floor(mac / 0x100_0000), low = mac % 0x100_0000;
  return HEX[high >> 16 & 0xff]! + ":" + HEX[high >> 8 & 0xff]! + ":" + HEX[high & 0xff]! + ":" +
    HEX[low >> 16]! + ":" + HEX[low >> 8 & 0xff]! + ":" + HEX[low & 0xff]!;
}

/**
 * Reads a MAC address: six pairs of hexadecimal digits with colons, in either case.
 *
 * @returns The 48-bit number, or {@linkcode MAC_ABSENT} when it is not one.
 */
export function parseMac(text: string): number {
  if (text.length !== 17) return MAC_ABSENT;
  let mac = 0;
  for (let i = 0; i < 17; i += 3) {
    const high = hexDigit(text.charCodeAt(i)), low = hexDigit(text.charCodeAt(i + 1));
    if (high < 0 || low < 0 || (i < 15 && text.charCodeAt(i + 2) !== 0x3a)) return MAC_ABSENT;
    mac = mac * 256 + high * 16 + low;
  }
  return mac;
}

/**
 * Writes an IPv4 address.
 *
 * @param word The address as a 32-bit number.
 */
export function formatIpv4(word: number): string {
  return DECIMAL[word >>> 24]! + "." + DECIMAL[word >>> 16 & 0xff]! + "." +
    DECIMAL[word >>> 8 & 0xff]! + "." + DECIMAL[word & 0xff]!;
}

/**
 * Writes an IPv6 address as `inet_ntop` of the C library does: RFC 5952, and the last 32 bits in decimal when the
 * address is IPv4-mapped or the deprecated IPv4-compatible kind.
 *
 * @example
 * ```ts
 * import { formatIpv6 } from "@fastwire/net/neighsync/protocol";
 * import { equal } from "node:assert/strict";
 *
 * equal(formatIpv6(0xfe80_0000, 0, 0, 2), "fe80::2");
 * equal(formatIpv6(0, 0, 0xffff, 0xc000_0201), "::ffff:192.0.2.1");
 * ```
 */
export function formatIpv6(word0: number, word1: number, word2: number, word3: number): string {
  if (word0 === 0 && word1 === 0) {
    if (word2 === 0xffff) return "::ffff:" + formatIpv4(word3);
    // A longer run of zeros (::1, ::2) is written as one; this is exactly six zero groups.
    if (word2 === 0 && word3 > 0xffff) return "::" + formatIpv4(word3);
  }
  const groups = GROUPS;
  groups[0] = word0 >>> 16;
  groups[1] = word0 & 0xffff;
  groups[2] = word1 >>> 16;
  groups[3] = word1 & 0xffff;
  groups[4] = word2 >>> 16;
  groups[5] = word2 & 0xffff;
  groups[6] = word3 >>> 16;
  groups[7] = word3 & 0xffff;
  // The longest run of zero groups, the first among equals, not of one group.
  let bestStart = 8, bestLength = 1;
  for (let i = 0; i < 8; i++) {
    if (groups[i] !== 0) continue;
    const from = i;
    while (i < 8 && groups[i] === 0) i++;
    if (i - from > bestLength) {
      bestStart = from;
      bestLength = i - from;
    }
  }
  let text = "";
  for (let i = 0; i < 8; i++) {
    if (i === bestStart) {
      text += "::";
      i += bestLength - 1;
    } else {
      if (i > 0 && i !== bestStart + bestLength) text += ":";
      text += groups[i]!.toString(16);
    }
  }
  return text;
}

/**
 * Writes an address of either family.
 *
 * @param family `AF_INET` or `AF_INET6`.
 */
export function formatAddress(
  family: number,
  word0: number,
  word1: number,
  word2: number,
  word3: number,
): string {
  return family === AF_INET ? formatIpv4(word0) : formatIpv6(word0, word1, word2, word3);
}

/** An address that was read from text. */
export interface ParsedAddress {
  /** `AF_INET` or `AF_INET6`. */
  readonly family: number;
  /** Four 32-bit words, most significant first; IPv4 uses only the first, the others are 0. */
  readonly words: readonly number[];
}

/**
 * Reads an IPv4 or IPv6 address: dotted decimal without leading zeros, or RFC 4291 §2.2 in any of its forms. No zone, no
 * prefix length.
 *
 * @returns The address, or undefined when it is not one.
 *
 * @example
 * ```ts
 * import { parseAddress } from "@fastwire/net/neighsync/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * deepEqual(parseAddress("192.0.2.1"), { family: 2, words: [0xc000_0201, 0, 0, 0] });
 * ```
 */
export function parseAddress(text: string): ParsedAddress | undefined {
  if (text.length > 45) return undefined;
  if (!text.includes(":")) {
    const word = parseIpv4(text);
    return word < 0 ? undefined : { family: AF_INET, words: [word, 0, 0, 0] };
  }
  const gap = text.indexOf("::");
  let head: number[] | undefined, tail: number[] | undefined = [];
  if (gap < 0) head = parseGroups(text);
  else {
    head = gap === 0 ? [] : parseGroups(text.slice(0, gap));
    tail = gap + 2 === text.length ? [] : parseGroups(text.slice(gap + 2));
    // Dotted decimal ends an address: it cannot stand before a gap.
    if (text.lastIndexOf(".", gap) >= 0 && gap > 0) return undefined;
  }
  if (head === undefined || tail === undefined) return undefined;
  const missing = 8 - head.length - tail.length;
  if (gap < 0 ? missing !== 0 : missing < 1) return undefined;
  const groups = [...head, ...Array<number>(missing).fill(0), ...tail];
  const words: number[] = [];
  for (let i = 0; i < 8; i += 2) words.push(groups[i]! * 0x1_0000 + groups[i + 1]!);
  return { family: AF_INET6, words };
}

/** Groups between colons; dotted decimal in the last place counts for two. */
function parseGroups(text: string): number[] | undefined {
  const groups: number[] = [];
  const parts = text.split(":");
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    if (i === parts.length - 1 && part.includes(".")) {
      const word = parseIpv4(part);
      if (word < 0) return undefined;
      groups.push(word >>> 16, word & 0xffff);
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(part)) return undefined;
      groups.push(parseInt(part, 16));
    }
  }
  return groups;
}

function parseIpv4(text: string): number {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return -1;
  let word = 0;
  for (let i = 1; i <= 4; i++) {
    const part = match[i]!;
    const octet = Number(part);
    if (octet > 255 || (part.length > 1 && part[0] === "0")) return -1;
    word = word * 256 + octet;
  }
  return word;
}

function hexDigit(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const letter = code | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

const HEX: readonly string[] = Array.from(
  { length: 256 },
  (_, value) => value.toString(16).padStart(2, "0"),
);
const DECIMAL: readonly string[] = Array.from({ length: 256 }, (_, value) => String(value));
/** Scratch of formatIpv6, which calls nothing that could come back to it. */
const GROUPS = new Uint16Array(8);
