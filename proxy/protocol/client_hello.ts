/**
 * The first message of TLS, read for what can be told from it. RFC 8446 §4.1.2, RFC 6066 §3, RFC 7301 §3.1.
 *
 * @module
 */

import { latin1Of, readU16 } from "./octets.ts";

/** Type of a handshake message: ClientHello. RFC 8446 §4. */
export const CLIENT_HELLO = 1;
/** Longest ClientHello that is looked at, bytes. */
export const MAX_CLIENT_HELLO_BYTES = 32_768;

/** What a ClientHello says. */
export interface ClientHello {
  /** The name of the server as it was sent, or `undefined`. */
  readonly serverName: string | undefined;
  /** The protocols offered, best first; empty without the extension. */
  readonly alpn: readonly string[];
  /** Numbers of the cipher suites, in order. */
  readonly cipherSuites: readonly number[];
  /** Numbers of the extensions, in order. */
  readonly extensions: readonly number[];
  /** Numbers of the groups, in order. */
  readonly groups: readonly number[];
  /**
   * What the fingerprint JA3 is the MD5 of: version, suites, extensions, groups and point formats, without the reserved
   * numbers of RFC 8701.
   */
  readonly ja3: string;
}

/**
 * Reads the body of a ClientHello: what follows the four bytes of type and length.
 *
 * @returns `undefined` when it is none.
 */
export function decodeClientHello(
  bytes: Uint8Array,
  start: number,
  end: number,
): ClientHello | undefined {
  // Version, random, session.
  let at = start + 34;
  if (at >= end) return undefined;
  const version = readU16(bytes, start);
  at += 1 + bytes[at]!;
  const suitesEnd = listEnd(bytes, at, end);
  if (suitesEnd < 0) return undefined;
  const cipherSuites = numbersIn(bytes, at + 2, suitesEnd);
  at = suitesEnd;
  if (at >= end) return undefined;
  at += 1 + bytes[at]!;
  if (at > end) return undefined;
  let serverName: string | undefined;
  let alpn: readonly string[] = [];
  let groups: readonly number[] = [];
  let formats: readonly number[] = [];
  const extensions: number[] = [];
  // TLS 1.2 and older may have none.
  const extensionsEnd = at === end ? end : listEnd(bytes, at, end);
  if (extensionsEnd < 0) return undefined;
  at = Math.min(at + 2, extensionsEnd);
  while (at < extensionsEnd) {
    if (at + 4 > extensionsEnd) return undefined;
    const type = readU16(bytes, at);
    const bodyEnd = listEnd(bytes, at + 2, extensionsEnd);
    if (bodyEnd < 0) return undefined;
    const body = at + 4;
    extensions.push(type);
    if (type === SERVER_NAME) serverName = readServerName(bytes, body, bodyEnd);
    if (type === ALPN) alpn = readAlpn(bytes, body, bodyEnd);
    if (type === SUPPORTED_GROUPS && bodyEnd >= body + 2) {
      groups = numbersIn(bytes, body + 2, bodyEnd);
    }
    if (type === POINT_FORMATS && bodyEnd > body) {
      formats = [...bytes.subarray(body + 1, bodyEnd)];
    }
    at = bodyEnd;
  }
  const ja3 = [[version], cipherSuites, extensions, groups, formats]
    .map((numbers) => numbers.filter((number) => !isReserved(number)).join("-")).join(",");
  return Object.freeze({ serverName, alpn, cipherSuites, extensions, groups, ja3 });
}

/**
 * Guesses the program behind a ClientHello from extensions that only one of them is known to send: a hint for rules, not
 * an identification.
 *
 * @returns `chromium`, `firefox`, `safari`, `quic-go` or `undefined`.
 */
export function guessClient(hello: ClientHello): string | undefined {
  const has = (type: number): boolean => hello.extensions.includes(type);
  if (has(ALPS) || has(ALPS_OLD)) return "chromium";
  if (has(RECORD_SIZE_LIMIT) || has(DELEGATED_CREDENTIALS)) return "firefox";
  if (hello.cipherSuites.some(isReserved)) return "safari";
  // Go always asks for a certificate's status and its time stamps.
  return has(STATUS_REQUEST) && has(CERTIFICATE_TIMESTAMP) ? "quic-go" : undefined;
}

/** Numbers that mean nothing, so that servers learn to ignore what they do not know. RFC 8701. */
function isReserved(number: number): boolean {
  return (number & 0x0f0f) === 0x0a0a && number >>> 8 === (number & 0xff);
}

/** Where a list ends whose length is in the two bytes at `at`; −1 when that is outside. */
function listEnd(bytes: Uint8Array, at: number, end: number): number {
  if (at + 2 > end) return -1;
  const last = at + 2 + readU16(bytes, at);
  return last > end ? -1 : last;
}

function numbersIn(bytes: Uint8Array, start: number, end: number): readonly number[] {
  const numbers: number[] = [];
  for (let at = start; at + 2 <= end; at += 2) numbers.push(readU16(bytes, at));
  return numbers;
}

function readServerName(bytes: Uint8Array, start: number, end: number): string | undefined {
  const last = listEnd(bytes, start, end);
  let at = start + 2;
  while (at + 3 <= last) {
    const nameEnd = listEnd(bytes, at + 1, last);
    if (nameEnd < 0) return undefined;
    if (bytes[at] === 0) return latin1Of(bytes, at + 3, nameEnd);
    at = nameEnd;
  }
  return undefined;
}

function readAlpn(bytes: Uint8Array, start: number, end: number): readonly string[] {
  const last = listEnd(bytes, start, end);
  const names: string[] = [];
  let at = start + 2;
  while (at < last) {
    const nameEnd = at + 1 + bytes[at]!;
    if (nameEnd > last) break;
    names.push(latin1Of(bytes, at + 1, nameEnd));
    at = nameEnd;
  }
  return Object.freeze(names);
}

const SERVER_NAME = 0;
const STATUS_REQUEST = 5;
const SUPPORTED_GROUPS = 10;
const POINT_FORMATS = 11;
const ALPN = 16;
const CERTIFICATE_TIMESTAMP = 18;
const RECORD_SIZE_LIMIT = 28;
const DELEGATED_CREDENTIALS = 34;
const ALPS_OLD = 17513;
const ALPS = 17613;
