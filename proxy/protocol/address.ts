/**
 * Where a connection goes: a host and a port, as a value, as text, and as the address of SOCKS5, which Shadowsocks and
 * others share.
 *
 * ```
 *  0    1                     1 + n       3 + n
 *  +----+----------------------+------------+
 *  | 01 | IPv4, n = 4          |    port    |        RFC 1928 §5, big-endian
 *  | 03 | length L, name; n=1+L|            |
 *  | 04 | IPv6, n = 16         |            |
 *  +----+----------------------+------------+
 * ```
 *
 * Names are lower case without a final dot. What a name field holds is an IP address when it reads as one (some clients
 * always send a name), and an IPv4 address in IPv6 form is an IPv4 address: rules see one spelling of each destination.
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import { formatIpv4, formatIpv6, ipFamilyOf, writeIpText } from "./ip_text.ts";
import { readU16, writeU16 } from "./octets.ts";

/** Address type: four bytes. RFC 1928 §5. */
export const ADDRESS_IPV4 = 1;
/** Address type: a length and a name. */
export const ADDRESS_DOMAIN = 3;
/** Address type: sixteen bytes. */
export const ADDRESS_IPV6 = 4;
/** Longest address: type, length, 255 bytes of a name, port. */
export const MAX_ADDRESS_BYTES = 259;

/** Fewer bytes than the address has. */
export const REJECT_ADDRESS_SHORT: number = -1;
/** An address type that is none of the three. */
export const REJECT_ADDRESS_TYPE: number = -2;
/** A name that is empty or holds what no name holds. */
export const REJECT_ADDRESS_NAME: number = -3;
/** What was to be written does not fit into the buffer. */
export const REJECT_ADDRESS_ROOM: number = -4;

/** Names of the negative reasons for metrics and logs: `ADDRESS_REJECT_NAMES[-reason]`. */
export const ADDRESS_REJECT_NAMES: readonly string[] = Object.freeze([
  "",
  "address-short",
  "address-type",
  "address-name",
  "address-room",
]);

/** A destination or a source. */
export interface Endpoint {
  /** An IP literal without brackets, or a name: lower case, no final dot, visible ASCII. */
  readonly host: string;
  /** 0 to 65535. */
  readonly port: number;
}

/** All zeros: what replies carry when no address is known. */
export const ANY_ENDPOINT: Endpoint = Object.freeze({ host: "0.0.0.0", port: 0 });

/**
 * Says how long the address at `start` is.
 *
 * @returns Its length in bytes as far as it can be told from what is there: when that is more than `end - start`, come
 * back with at least as many. {@linkcode REJECT_ADDRESS_TYPE} or {@linkcode REJECT_ADDRESS_NAME} when it is none.
 */
export function measureAddress(bytes: Uint8Array, start: number, end: number): number {
  if (start >= end) return 1;
  const type = bytes[start];
  if (type === ADDRESS_IPV4) return 7;
  if (type === ADDRESS_IPV6) return 19;
  if (type !== ADDRESS_DOMAIN) return REJECT_ADDRESS_TYPE;
  if (start + 1 >= end) return 2;
  const length = bytes[start + 1]!;
  return length === 0 ? REJECT_ADDRESS_NAME : 4 + length;
}

/**
 * Reads an address into a fresh frozen value. On packet paths use {@linkcode EndpointCache}, which remembers.
 *
 * @returns The endpoint, or a negative reason.
 */
export function decodeAddress(bytes: Uint8Array, start: number, end: number): Endpoint | number {
  const length = measureAddress(bytes, start, end);
  if (length < 0) return length;
  if (start + length > end) return REJECT_ADDRESS_SHORT;
  const type = bytes[start];
  const port = readU16(bytes, start + length - 2);
  if (type === ADDRESS_IPV4) return endpoint(formatIpv4(bytes, start + 1), port);
  if (type === ADDRESS_IPV6) return endpoint(formatIpv6(bytes, start + 1), port);
  const host = readHost(bytes, start + 2, start + length - 2);
  return host === undefined ? REJECT_ADDRESS_NAME : endpoint(host, port);
}

/**
 * Writes an address. Allocates nothing when the host is a name.
 *
 * @returns Where it ends, or {@linkcode REJECT_ADDRESS_ROOM}.
 * @throws {RangeError} When the port or the length of the name does not fit the wire.
 * @throws {TypeError} When the name holds more than ASCII, or the port is no integer.
 *
 * @example
 * ```ts
 * import { decodeAddress, writeAddress } from "@fastwire/net/proxy/protocol";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const bytes = new Uint8Array(64);
 * const end = writeAddress(bytes, 0, { host: "example.com", port: 443 });
 * equal(end, 15);
 * deepEqual(decodeAddress(bytes, 0, end), { host: "example.com", port: 443 });
 * ```
 */
export function writeAddress(into: Uint8Array, start: number, to: Endpoint): number {
  const { host, port } = to;
  integerIn(port, 0, 65535, "a port");
  if (ipFamilyOf(host) !== 0) {
    const bytes = writeIpText(scratch, 0, host);
    if (start + 3 + bytes > into.length) return REJECT_ADDRESS_ROOM;
    into[start] = bytes === 4 ? ADDRESS_IPV4 : ADDRESS_IPV6;
    for (let i = 0; i < bytes; i++) into[start + 1 + i] = scratch[i]!;
    writeU16(into, start + 1 + bytes, port);
    return start + 3 + bytes;
  }
  const length = integerIn(host.length, 1, 255, "the length of a host name");
  if (start + 4 + length > into.length) return REJECT_ADDRESS_ROOM;
  into[start] = ADDRESS_DOMAIN;
  into[start + 1] = length;
  for (let i = 0; i < length; i++) {
    const code = host.charCodeAt(i);
    if (code <= 0x20 || code >= 0x7f) {
      throw new TypeError(
        `Cannot write host name ${JSON.stringify(host)}: expected visible ASCII, IDNA done before`,
      );
    }
    into[start + 2 + i] = code;
  }
  writeU16(into, start + 2 + length, port);
  return start + 4 + length;
}

/** The bytes of an address. @throws {RangeError | TypeError} As {@linkcode writeAddress}. */
export function encodeAddress(to: Endpoint): Uint8Array<ArrayBuffer> {
  const end = writeAddress(encoded, 0, to);
  return encoded.slice(0, end);
}

/**
 * Remembers the endpoints of the addresses seen last, so that reading the address of each datagram of a flow allocates
 * nothing. Direct-mapped: an address that is new takes the place of another.
 */
export class EndpointCache {
  readonly #keys: Uint8Array<ArrayBuffer>;
  readonly #lengths: Int32Array<ArrayBuffer>;
  readonly #endpoints: (Endpoint | undefined)[];
  readonly #mask: number;

  /**
   * Makes an empty cache.
   *
   * @param bits The cache holds 2ᵇⁱᵗˢ addresses, 260 bytes each; 0 to 12.
   */
  constructor(bits = 6) {
    const slots = 1 << integerIn(bits, 0, 12, "the bits of a cache");
    this.#mask = slots - 1;
    this.#keys = new Uint8Array(slots * MAX_ADDRESS_BYTES);
    this.#lengths = new Int32Array(slots);
    this.#endpoints = new Array<Endpoint | undefined>(slots).fill(undefined);
  }

  /**
   * Reads an address as {@linkcode decodeAddress} does; equal bytes give the same object while it is remembered.
   *
   * @returns The endpoint, or a negative reason.
   */
  read(bytes: Uint8Array, start: number, end: number): Endpoint | number {
    const length = measureAddress(bytes, start, end);
    if (length < 0) return length;
    if (start + length > end) return REJECT_ADDRESS_SHORT;
    let hash = 0x811c9dc5;
    for (let i = start; i < start + length; i++) hash = Math.imul(hash ^ bytes[i]!, 0x01000193);
    const slot = (hash ^ hash >>> 15) & this.#mask;
    const key = slot * MAX_ADDRESS_BYTES;
    const known = this.#endpoints[slot];
    if (known !== undefined && this.#lengths[slot] === length) {
      let i = 0;
      while (i < length && this.#keys[key + i] === bytes[start + i]) i++;
      if (i === length) return known;
    }
    const fresh = decodeAddress(bytes, start, end);
    if (typeof fresh === "number") return fresh;
    for (let i = 0; i < length; i++) this.#keys[key + i] = bytes[start + i]!;
    this.#lengths[slot] = length;
    this.#endpoints[slot] = fresh;
    return fresh;
  }
}

/**
 * The one spelling of a host: IP literals in their canonical form (brackets taken off, IPv4 out of IPv6), names in lower
 * case without a final dot.
 *
 * @returns `undefined` when it is neither: empty, over 255 characters, more than visible ASCII, or with a character that
 * would make `host:port` or a URL ambiguous.
 */
export function normalizeHost(text: string): string | undefined {
  let host = text;
  if (host.startsWith("[") && host.endsWith("]")) {
    host = host.slice(1, -1);
    if (!host.includes(":")) return undefined;
  }
  const bytes = ipFamilyOf(host) === 0 ? 0 : writeIpText(scratch, 0, host);
  if (bytes !== 0) return bytes === 4 ? formatIpv4(scratch, 0) : formatIpv6(scratch, 0);
  if (host.endsWith(".")) host = host.slice(0, -1);
  if (host.length > 255 || host.endsWith(".") || !NAME.test(host)) return undefined;
  // An address with a final dot is the address: its text is canonical once the dot is gone.
  return host.toLowerCase();
}

/**
 * The text of an endpoint: `192.0.2.1:80`, `example.com:80`, `[2001:db8::1]:80`.
 */
export function formatEndpoint({ host, port }: Endpoint): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/**
 * Reads the text of an endpoint.
 *
 * @param defaultPort What stands for a missing port; without it a missing port is an error.
 * @returns `undefined` when it is none.
 *
 * @example
 * ```ts
 * import { parseEndpoint } from "@fastwire/net/proxy/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * deepEqual(parseEndpoint("[2001:DB8::1]:80"), { host: "2001:db8::1", port: 80 });
 * deepEqual(parseEndpoint("Example.com.", 443), { host: "example.com", port: 443 });
 * deepEqual(parseEndpoint("example.com"), undefined);
 * ```
 */
export function parseEndpoint(text: string, defaultPort?: number): Endpoint | undefined {
  const match = /^(\[[^\]]*\]|[^:]*)(?::(\d{1,5}))?$/.exec(text);
  if (match === null) return undefined;
  const port = match[2] === undefined ? defaultPort : Number(match[2]);
  if (port === undefined || port > 65535) return undefined;
  const host = normalizeHost(match[1]!);
  return host === undefined ? undefined : endpoint(host, port);
}

function endpoint(host: string, port: number): Endpoint {
  return Object.freeze({ host, port });
}

function readHost(bytes: Uint8Array, start: number, end: number): string | undefined {
  return normalizeHost(String.fromCharCode(...bytes.subarray(start, end)));
}

/** Visible ASCII without what ends or splits the host of a URL. */
const NAME = /^[!"$-.0-9;->A-Z^-~]+$/;
const scratch = new Uint8Array(16);
const encoded = new Uint8Array(MAX_ADDRESS_BYTES);
