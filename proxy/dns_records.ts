/**
 * Records as text (RFC 1035 §5.1, unknown ones as RFC 3597 §5) for rules that answer from the configuration and for the
 * control interface.
 *
 * @module
 */

import { RECORD_TYPES } from "./dns_numbers.ts";
import { addressData, type DnsRecord, readDnsName, skipName, writeDnsName } from "./dns_message.ts";
import { formatIpv4, formatIpv6 } from "./protocol/ip_text.ts";
import { joinBytes, readU16, readU32, writeU16, writeU32 } from "./protocol/octets.ts";

/**
 * Reads a record: `name [ttl] [class] type data`, all names taken as whole ones.
 *
 * @throws {SyntaxError} When it is none, or of a type whose data has no text here; `TYPE65 \# 2 abcd` always works.
 */
export function parseDnsRecord(text: string): DnsRecord {
  const words = wordsOf(text);
  const fail = (why: string): SyntaxError =>
    new SyntaxError(`Cannot read the record ${JSON.stringify(text)}: ${why}`);
  const name = words.shift()?.text.toLowerCase();
  let ttl = DEFAULT_TTL;
  if (/^\d+$/.test(words[0]?.text ?? "")) ttl = Number(words.shift()!.text);
  if (words[0]?.text.toUpperCase() === "IN") words.shift();
  if (/^\d+$/.test(words[0]?.text ?? "")) ttl = Number(words.shift()!.text);
  const typeName = words.shift()?.text.toUpperCase() ?? "";
  const numbered = /^TYPE(\d{1,5})$/.exec(typeName);
  const type = numbered === null ? RECORD_TYPES[typeName] : Number(numbered[1]);
  if (name === undefined || type === undefined) throw fail("expected a name, a type and data");
  if (ttl > 0x7fff_ffff) throw fail(`expected a time to live up to 2147483647`);
  const data = dataOf(typeName, words);
  if (data === undefined) throw fail(`expected the data of a ${typeName} record`);
  return { name: withoutFinalDot(name), type, ttl, data };
}

interface Word {
  readonly text: string;
  readonly isQuoted: boolean;
}

function wordsOf(text: string): Word[] {
  return [...text.matchAll(/"((?:[^"\\]|\\.)*)"|(\S+)/g)].map(([, quoted, plain]) =>
    quoted === undefined
      ? { text: plain!, isQuoted: false }
      : { text: quoted.replace(/\\(.)/g, "$1"), isQuoted: true }
  );
}

function withoutFinalDot(name: string): string {
  return name.length > 1 && name.endsWith(".") ? name.slice(0, -1) : name;
}

function dataOf(type: string, words: readonly Word[]): Uint8Array | undefined {
  const texts = words.map(({ text }) => text);
  if (texts[0] === "\\#") {
    const hex = texts.slice(2).join("");
    const isHex = /^(?:[0-9a-f]{2})*$/i.test(hex) && hex.length === 2 * Number(texts[1]);
    return isHex
      ? Uint8Array.from(hex.match(/../g) ?? [], (digits) => parseInt(digits, 16))
      : undefined;
  }
  const [first = "", second = "", third = "", fourth = ""] = texts;
  switch (type) {
    case "A":
    case "AAAA": {
      const data = addressData(first);
      return texts.length === 1 && data.length === (type === "A" ? 4 : 16) ? data : undefined;
    }
    case "CNAME":
    case "DNAME":
    case "NS":
    case "PTR":
      return texts.length === 1 ? nameData(first) : undefined;
    case "TXT": {
      const parts = words.map(({ text }) => new TextEncoder().encode(text));
      if (parts.length === 0 || parts.some(({ length }) => length > 255)) return undefined;
      return joinBytes(...parts.flatMap((part) => [[part.length], part]));
    }
    case "MX":
      return texts.length === 2 ? joined(numbers(2, first), nameData(second)) : undefined;
    case "SRV":
      return texts.length === 4
        ? joined(numbers(2, first, second, third), nameData(fourth))
        : undefined;
    case "SOA":
      return texts.length === 7
        ? joined(nameData(first), nameData(second), numbers(4, ...texts.slice(2)))
        : undefined;
    case "CAA": {
      const tag = new TextEncoder().encode(second);
      return texts.length === 3 && tag.length > 0 && tag.length < 256 && Number(first) < 256
        ? joined([Number(first), tag.length], tag, new TextEncoder().encode(third))
        : undefined;
    }
    default:
      return undefined;
  }
}

function joined(...parts: readonly (ArrayLike<number> | undefined)[]): Uint8Array | undefined {
  const known = parts.filter((part) => part !== undefined);
  return known.length === parts.length ? joinBytes(...known) : undefined;
}

function nameData(name: string): Uint8Array | undefined {
  const bytes = new Uint8Array(256);
  const end = writeDnsName(bytes, 0, name.toLowerCase());
  return end < 0 ? undefined : bytes.slice(0, end);
}

function numbers(size: 2 | 4, ...texts: readonly string[]): Uint8Array | undefined {
  const bytes = new Uint8Array(size * texts.length);
  for (const [index, text] of texts.entries()) {
    if (!/^\d{1,10}$/.test(text) || Number(text) >= 256 ** size) return undefined;
    if (size === 2) writeU16(bytes, 2 * index, Number(text));
    else writeU32(bytes, 4 * index, Number(text));
  }
  return bytes;
}

/**
 * The data of a record as text.
 *
 * @param start Where the message begins, which names in the data may point into.
 */
export function formatDnsData(
  type: number,
  bytes: Uint8Array,
  start: number,
  dataStart: number,
  dataEnd: number,
): string {
  const name = (at: number): string | undefined => {
    const text = readDnsName(bytes, start, at, dataEnd);
    return text === undefined || text === "." ? text : `${text}.`;
  };
  const length = dataEnd - dataStart;
  switch (type) {
    case RECORD_TYPES["A"]:
      if (length === 4) return formatIpv4(bytes, dataStart);
      break;
    case RECORD_TYPES["AAAA"]:
      if (length === 16) return formatIpv6(bytes, dataStart);
      break;
    case RECORD_TYPES["CNAME"]:
    case RECORD_TYPES["DNAME"]:
    case RECORD_TYPES["NS"]:
    case RECORD_TYPES["PTR"]: {
      const target = name(dataStart);
      if (target !== undefined) return target;
      break;
    }
    case RECORD_TYPES["MX"]: {
      const target = length > 2 ? name(dataStart + 2) : undefined;
      if (target !== undefined) return `${readU16(bytes, dataStart)} ${target}`;
      break;
    }
    case RECORD_TYPES["SRV"]: {
      const target = length > 6 ? name(dataStart + 6) : undefined;
      if (target === undefined) break;
      const values = [0, 2, 4].map((at) => readU16(bytes, dataStart + at));
      return `${values.join(" ")} ${target}`;
    }
    case RECORD_TYPES["SOA"]: {
      const second = skipName(bytes, dataStart, dataEnd);
      const at = second < 0 ? -1 : skipName(bytes, second, dataEnd);
      if (at < 0 || at + 20 !== dataEnd) break;
      const values = [0, 4, 8, 12, 16].map((offset) => readU32(bytes, at + offset));
      return `${name(dataStart)} ${name(second)} ${values.join(" ")}`;
    }
    case RECORD_TYPES["TXT"]: {
      const parts: string[] = [];
      let at = dataStart;
      while (at < dataEnd && at + 1 + bytes[at]! <= dataEnd) {
        const next = at + 1 + bytes[at]!;
        parts.push(quoted(bytes.subarray(at + 1, next)));
        at = next;
      }
      if (at === dataEnd && parts.length > 0) return parts.join(" ");
      break;
    }
  }
  const hex = Array.from(
    bytes.subarray(dataStart, dataEnd),
    (byte) => byte.toString(16).padStart(2, "0"),
  );
  return `\\# ${length} ${hex.join("")}`.trimEnd();
}

function quoted(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    if (byte === 0x22 || byte === 0x5c) text += `\\${String.fromCharCode(byte)}`;
    else if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\${String(byte).padStart(3, "0")}`;
  }
  return `"${text}"`;
}

const DEFAULT_TTL = 3600;
