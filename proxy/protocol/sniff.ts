/**
 * What the first bytes of a connection say about it. Nothing is consumed and nothing is changed: each function looks at
 * the bytes from the beginning and answers yes, no, or that it takes more of them to tell.
 *
 * @module
 */

import { ipFamilyOf } from "./ip_text.ts";
import { normalizeHost } from "./address.ts";
import { CLIENT_HELLO, decodeClientHello, MAX_CLIENT_HELLO_BYTES } from "./client_hello.ts";
import { plainText } from "./http_head.ts";
import { latin1Of, readU16, readU32 } from "./octets.ts";

/** What can be recognised. */
export type SniffedProtocol =
  | "tls"
  | "http"
  | "quic"
  | "dns"
  | "stun"
  | "dtls"
  | "ntp"
  | "bittorrent"
  | "ssh"
  | "rdp";

/** A connection that was recognised. */
export interface Sniffed {
  /** What it is. */
  readonly protocol: SniffedProtocol;
  /** The name it asks for; never an IP literal. */
  readonly host: string | undefined;
  /** The protocols offered inside; TLS and QUIC. */
  readonly alpn: readonly string[];
  /** A hint at the program: its banner for SSH, a guess for QUIC. */
  readonly client: string | undefined;
}

/** An answer: recognised, not this, or not enough to tell. */
export type SniffAnswer = Sniffed | "no" | "more";

/** A function that looks at [start, end). */
export type Sniffer = (bytes: Uint8Array, start: number, end: number) => SniffAnswer;

/** Most bytes of a head that is searched for a host. */
export const MAX_SNIFFED_HEAD_BYTES = 16_384;

/**
 * Asks several about the beginning of a stream.
 *
 * @param protocols Which ones to look for; all that streams can carry by default.
 * @returns The first yes; `more` while somebody has hope; `no` when nobody has.
 *
 * @example
 * ```ts
 * import { sniffStream } from "@fastwire/net/proxy/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * const bytes = new TextEncoder().encode("GET / HTTP/1.1\r\nHost: example.com:8080\r\n\r\n");
 * deepEqual(sniffStream(bytes, 0, 20), "more");
 * deepEqual(sniffStream(bytes, 0, bytes.length), {
 *   protocol: "http",
 *   host: "example.com",
 *   alpn: [],
 *   client: undefined,
 * });
 * ```
 */
export function sniffStream(
  bytes: Uint8Array,
  start: number,
  end: number,
  protocols?: readonly SniffedProtocol[],
): SniffAnswer {
  return askAll(STREAM_SNIFFERS, bytes, start, end, protocols);
}

/**
 * Asks several about the first datagram of a flow. QUIC needs more than one datagram at times: see `QuicSniffer`.
 *
 * @param protocols Which ones to look for; all that are told by one datagram by default.
 */
export function sniffDatagram(
  bytes: Uint8Array,
  start: number,
  end: number,
  protocols?: readonly SniffedProtocol[],
): SniffAnswer {
  return askAll(DATAGRAM_SNIFFERS, bytes, start, end, protocols);
}

/** TLS: the server's name and the protocols offered, out of a ClientHello in any number of records. RFC 8446 §5.1. */
export function sniffTls(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  let message: Uint8Array | undefined;
  let held = 0, wanted = 4;
  for (let at = start; held < wanted;) {
    if (end - at < 5) return isPrefix(bytes, at, end, [0x16, 0x03]) ? "more" : "no";
    const length = readU16(bytes, at + 3);
    const isHandshake = bytes[at] === 0x16 && bytes[at + 1] === 3 && bytes[at + 2]! <= 4;
    if (!isHandshake || length === 0 || length > 16_384) return "no";
    const piece = Math.min(at + 5 + length, end) - at - 5;
    if (message === undefined) {
      // What the message is shows in its first byte, how long it is in the next three.
      if (piece > 0 && bytes[at + 5] !== CLIENT_HELLO) return "no";
      message = new Uint8Array(Math.min(end - start, MAX_CLIENT_HELLO_BYTES));
    }
    if (held + piece > message.length) return "no";
    message.set(bytes.subarray(at + 5, at + 5 + piece), held);
    held += piece;
    if (held >= 4) wanted = 4 + (readU32(message, 0) & 0xffffff);
    if (wanted > MAX_CLIENT_HELLO_BYTES) return "no";
    if (held < wanted && piece < length) return "more";
    at += 5 + length;
  }
  const hello = decodeClientHello(message!, 4, wanted);
  if (hello === undefined) return "no";
  return sniffed("tls", nameOf(hello.serverName), hello.alpn);
}

/** HTTP/1: a method, and the host of its field. */
export function sniffHttp(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  const space = bytes.subarray(start, Math.min(end, start + 9)).indexOf(0x20);
  const method = latin1Of(bytes, start, space < 0 ? Math.min(end, start + 9) : start + space);
  if (space < 0) {
    return HTTP_METHODS.some((known) => known.startsWith(method)) ? "more" : "no";
  }
  if (!HTTP_METHODS.includes(method)) return "no";
  const limit = Math.min(end, start + MAX_SNIFFED_HEAD_BYTES);
  const text = latin1Of(bytes, start, limit);
  const line = text.indexOf("\r\n");
  if (line >= 0 && !/ HTTP\/1\.[01]$/.test(text.slice(0, line))) return "no";
  const headEnd = text.indexOf("\r\n\r\n");
  const head = headEnd < 0 ? text : text.slice(0, headEnd + 2);
  const host = /\r\nhost:[ \t]*([^\r\n]*?)(?::\d*)?[ \t]*\r\n/i.exec(head);
  if (host !== null) return sniffed("http", nameOf(host[1]!));
  if (headEnd >= 0) return sniffed("http", undefined);
  return limit - start === MAX_SNIFFED_HEAD_BYTES ? "no" : "more";
}

/** SSH: the banner. RFC 4253 §4.2. */
export function sniffSsh(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  if (!isPrefix(bytes, start, end, SSH_MAGIC)) return "no";
  const limit = Math.min(end, start + 255);
  const line = bytes.subarray(start, limit).indexOf(0x0a);
  if (line < 0) return limit - start === 255 ? "no" : "more";
  const banner = latin1Of(bytes, start, start + line).replace(/\r$/, "");
  if (!/^SSH-[12]\.\d+-/.test(banner)) return "no";
  return sniffed("ssh", undefined, [], plainText(banner));
}

/** RDP: a connection request of X.224 inside TPKT. MS-RDPBCGR §2.2.1.1. */
export function sniffRdp(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  if (!isPrefix(bytes, start, end, [3, 0])) return "no";
  if (end - start < 7) return "more";
  const length = readU16(bytes, start + 2);
  const isRequest = bytes[start + 4] === length - 5 && bytes[start + 5] === 0xe0 && length >= 11 &&
    bytes[start + 6] === 0;
  return isRequest ? sniffed("rdp") : "no";
}

/** BitTorrent over TCP: its handshake. BEP 3. */
export function sniffBitTorrentStream(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  if (!isPrefix(bytes, start, end, BITTORRENT_MAGIC)) return "no";
  return end - start < BITTORRENT_MAGIC.length ? "more" : sniffed("bittorrent");
}

/** DNS over TCP: a length before the query. RFC 1035 §4.2.2. */
export function sniffDnsStream(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  if (end - start < 2) return "more";
  const length = readU16(bytes, start);
  if (length < 17) return "no";
  if (end - start >= 2 + length) return sniffDns(bytes, start + 2, start + 2 + length);
  return isQuery(bytes, start + 2, end) ? "more" : "no";
}

/** DNS: a query with one question. Its name is what is asked about, not where to go, so there is no host. */
export function sniffDns(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  if (end - start < 17 || !isQuery(bytes, start, end)) return "no";
  let at = start + 12;
  for (let total = 0; at < end && bytes[at] !== 0;) {
    const length = bytes[at]!;
    total += length + 1;
    if (length > 63 || total > 254) return "no";
    at += 1 + length;
  }
  if (at + 5 > end) return "no";
  const klass = readU16(bytes, at + 3) & 0x7fff;
  return klass === 1 || klass === 3 || klass === 255 ? sniffed("dns") : "no";
}

/** STUN: the cookie, and a length that fits. RFC 8489 §5. */
export function sniffStun(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  if (end - start < 20 || bytes[start]! >= 0x40) return "no";
  const length = readU16(bytes, start + 2);
  const fits = length % 4 === 0 && length <= end - start - 20;
  return fits && readU32(bytes, start + 4) === 0x2112a442 ? sniffed("stun") : "no";
}

/** DTLS: a record of 1.0 or 1.2. RFC 6347 §4.1. */
export function sniffDtls(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  if (end - start < 13) return "no";
  const type = bytes[start]!;
  const isRecord = type >= 20 && type <= 25 && bytes[start + 1] === 0xfe &&
    (bytes[start + 2] === 0xff || bytes[start + 2] === 0xfd);
  return isRecord && readU16(bytes, start + 11) <= end - start - 13 ? sniffed("dtls") : "no";
}

/** NTP: what a client sends, version 3 or 4. RFC 5905 §7.3. */
export function sniffNtp(bytes: Uint8Array, start: number, end: number): SniffAnswer {
  const length = end - start;
  // Without authentication, or with a key number and a digest of 16 or 20 bytes.
  if (length !== 48 && length !== 68 && length !== 72) return "no";
  const mode = bytes[start]! & 7, version = bytes[start]! >>> 3 & 7;
  const poll = bytes[start + 2]!;
  const isClient = mode === 3 && (version === 3 || version === 4) && bytes[start + 1]! <= 16 &&
    (poll <= 17 || poll >= 0xf0);
  return isClient ? sniffed("ntp") : "no";
}

/** BitTorrent over UDP: the first packet of uTP (BEP 29), a tracker's connect (BEP 15), a message of the DHT (BEP 5). */
export function sniffBitTorrentDatagram(
  bytes: Uint8Array,
  start: number,
  end: number,
): SniffAnswer {
  const length = end - start;
  const isTracker = length === 16 && readU32(bytes, start) === 0x417 &&
    readU32(bytes, start + 4) === 0x27101980 && readU32(bytes, start + 8) === 0;
  if (isTracker) return sniffed("bittorrent");
  if (length > 12 && isPrefix(bytes, start, end, DHT_MAGIC)) return sniffed("bittorrent");
  if (length < 20 || bytes[start] !== 0x41) return "no";
  let extension = bytes[start + 1]!;
  let at = start + 20;
  while (extension !== 0) {
    if (extension > 4 || at + 2 > end) return "no";
    extension = bytes[at]!;
    at += 2 + bytes[at + 1]!;
  }
  // A first packet carries no data.
  return at === end ? sniffed("bittorrent") : "no";
}

/** A host to go by: a name, for literals say nothing that the destination does not. */
export function nameOf(text: string | undefined): string | undefined {
  const host = text === undefined ? undefined : normalizeHost(text);
  return host === undefined || ipFamilyOf(host) !== 0 ? undefined : host;
}

/** Makes an answer. */
export function sniffed(
  protocol: SniffedProtocol,
  host?: string,
  alpn: readonly string[] = [],
  client?: string,
): Sniffed {
  return Object.freeze({ protocol, host, alpn, client });
}

function askAll(
  sniffers: readonly (readonly [SniffedProtocol, Sniffer])[],
  bytes: Uint8Array,
  start: number,
  end: number,
  protocols: readonly SniffedProtocol[] | undefined,
): SniffAnswer {
  let answer: SniffAnswer = "no";
  for (const [protocol, sniffer] of sniffers) {
    if (protocols !== undefined && !protocols.includes(protocol)) continue;
    const found = sniffer(bytes, start, end);
    if (typeof found !== "string") return found;
    if (found === "more") answer = "more";
  }
  return answer;
}

/** Whether what is there agrees with a beginning, as far as either goes. */
function isPrefix(
  bytes: Uint8Array,
  start: number,
  end: number,
  beginning: ArrayLike<number>,
): boolean {
  const length = Math.min(end - start, beginning.length);
  for (let i = 0; i < length; i++) if (bytes[start + i] !== beginning[i]) return false;
  return true;
}

/** Whether what is there is the header of a query: opcode 0, one question, no answers and no authorities. */
function isQuery(bytes: Uint8Array, start: number, end: number): boolean {
  return (start + 2 >= end || (bytes[start + 2]! & 0xf8) === 0) &&
    isPrefix(bytes, Math.min(start + 4, end), end, QUERY_COUNTS);
}

const HTTP_METHODS: readonly string[] = [
  "GET",
  "POST",
  "PUT",
  "HEAD",
  "DELETE",
  "OPTIONS",
  "PATCH",
  "TRACE",
  "CONNECT",
];
const QUERY_COUNTS: readonly number[] = [0, 1, 0, 0, 0, 0];
const SSH_MAGIC = new TextEncoder().encode("SSH-");
const BITTORRENT_MAGIC = new TextEncoder().encode("\x13BitTorrent protocol");
const DHT_MAGIC = new TextEncoder().encode("d1:ad2:id20:");
const STREAM_SNIFFERS: readonly (readonly [SniffedProtocol, Sniffer])[] = [
  ["tls", sniffTls],
  ["http", sniffHttp],
  ["ssh", sniffSsh],
  ["bittorrent", sniffBitTorrentStream],
  ["rdp", sniffRdp],
  ["dns", sniffDnsStream],
];
const DATAGRAM_SNIFFERS: readonly (readonly [SniffedProtocol, Sniffer])[] = [
  ["dns", sniffDns],
  ["stun", sniffStun],
  ["dtls", sniffDtls],
  ["bittorrent", sniffBitTorrentDatagram],
  ["ntp", sniffNtp],
];
