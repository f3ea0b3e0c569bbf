/**
 * Socket addresses: text outside, kernel bytes inside.
 *
 * Inside the package an address is {@linkcode ADDRESS_BYTES} bytes at a position: the `sockaddr_in` or `sockaddr_in6` of
 * Linux (`<linux/in.h>`, `<linux/in6.h>`), zero-padded, on every platform and under every driver. Two peers are the same
 * when those bytes are, so a datagram is matched to its session without making a string.
 *
 * @module
 */

/** An IPv4 or IPv6 address and a port. */
export interface SocketAddress {
  /** Which family `address` is of. */
  readonly family: "ipv4" | "ipv6";
  /** The address as text: dotted quad, or RFC 5952 form; never in brackets, never with a zone. */
  readonly address: string;
  /** 0 to 65535; 0 asks for any free port. */
  readonly port: number;
  /** Interface index of a link-local IPv6 address. */
  readonly scope?: number;
}

/** Distance between two addresses in an address table, in bytes. */
export const ADDRESS_BYTES = 32;
/** `AF_INET` on Linux. */
export const AF_INET = 2;
/** `AF_INET6` on Linux. */
export const AF_INET6 = 10;
/** Bytes of a `sockaddr_in`. */
export const SOCKADDR_IN_BYTES = 16;
/** Bytes of a `sockaddr_in6`. */
export const SOCKADDR_IN6_BYTES = 28;

//  sockaddr_in    0 family u16 (host order)   2 port u16 (network order)   4 address   8 zero
//  sockaddr_in6   0 family u16 (host order)   2 port u16   4 flow u32   8 address   24 scope u32 (host order)
//
// Host order is little-endian on every machine the kernel drivers run on (x86-64, AArch64); the portable driver uses the
// same bytes, because nothing but this file reads them.

/**
 * Writes an address at a position and clears the rest of its {@linkcode ADDRESS_BYTES}.
 *
 * @returns The bytes the kernel wants to be told: 16 for IPv4, 28 for IPv6.
 * @throws {TypeError} When the text is not an address of its family.
 * @throws {RangeError} When the port or scope is out of range.
 */
export function writeAddress(view: DataView, start: number, address: SocketAddress): number {
  if (!Number.isInteger(address.port) || address.port < 0 || address.port > 65535) {
    throw new RangeError(`Cannot use port ${address.port}: expected an integer from 0 to 65535`);
  }
  for (let at = start; at < start + ADDRESS_BYTES; at += 4) view.setUint32(at, 0);
  view.setUint16(start + 2, address.port, false);
  if (address.family === "ipv4") {
    const value = parseIpv4(address.address);
    if (value < 0) {
      throw new TypeError(`Cannot use "${address.address}": expected an IPv4 address`);
    }
    view.setUint16(start, AF_INET, true);
    view.setUint32(start + 4, value, false);
    return SOCKADDR_IN_BYTES;
  }
  const groups = parseIpv6(address.address);
  if (groups === undefined) {
    throw new TypeError(`Cannot use "${address.address}": expected an IPv6 address`);
  }
  view.setUint16(start, AF_INET6, true);
  for (let i = 0; i < 8; i++) view.setUint16(start + 8 + 2 * i, groups[i]!, false);
  view.setUint32(start + 24, address.scope ?? 0, true);
  return SOCKADDR_IN6_BYTES;
}

/**
 * Reads the address at a position. An IPv4 address mapped into IPv6 (`::ffff:a.b.c.d`) stays IPv6: a dual-stack socket
 * must answer in the family it was asked in. {@linkcode unmapAddress} makes it readable.
 *
 * @returns A frozen address; family `ipv4` with address `0.0.0.0` when nothing was written there.
 */
export function readAddress(view: DataView, start: number): SocketAddress {
  const port = view.getUint16(start + 2, false);
  if (view.getUint16(start, true) !== AF_INET6) {
    return Object.freeze({
      family: "ipv4",
      address: formatIpv4(view.getUint32(start + 4, false)),
      port,
    });
  }
  const address = formatIpv6(view, start + 8);
  const scope = view.getUint32(start + 24, true);
  return Object.freeze(
    scope === 0 ? { family: "ipv6", address, port } : { family: "ipv6", address, port, scope },
  );
}

/** Bytes of the sockaddr at a position: 16 or 28. */
export function addressLength(view: DataView, start: number): number {
  return view.getUint16(start, true) === AF_INET6 ? SOCKADDR_IN6_BYTES : SOCKADDR_IN_BYTES;
}

/** Whether two positions hold the same address, port included. */
export function equalAddress(a: DataView, aStart: number, b: DataView, bStart: number): boolean {
  // Port and family first: they differ most often. The flow label is not part of who a peer is.
  if (a.getUint32(aStart) !== b.getUint32(bStart)) return false;
  if (a.getUint16(aStart, true) !== AF_INET6) {
    return a.getUint32(aStart + 4) === b.getUint32(bStart + 4);
  }
  for (let at = 8; at < SOCKADDR_IN6_BYTES; at += 4) {
    if (a.getUint32(aStart + at) !== b.getUint32(bStart + at)) return false;
  }
  return true;
}

/** Whether two positions hold the same host, whatever the port. */
export function equalHost(a: DataView, aStart: number, b: DataView, bStart: number): boolean {
  const family = a.getUint16(aStart, true);
  if (family !== b.getUint16(bStart, true)) return false;
  if (family !== AF_INET6) return a.getUint32(aStart + 4) === b.getUint32(bStart + 4);
  for (let at = 8; at < SOCKADDR_IN6_BYTES; at += 4) {
    if (a.getUint32(aStart + at) !== b.getUint32(bStart + at)) return false;
  }
  return true;
}

/** A 32-bit hash of the address at a position, port included, for tables keyed by peer. */
export function hashAddress(view: DataView, start: number): number {
  let hash = view.getUint32(start);
  const ipv6 = view.getUint16(start, true) === AF_INET6;
  const end = ipv6 ? SOCKADDR_IN6_BYTES : 8;
  for (let at = ipv6 ? 8 : 4; at < end; at += 4) {
    hash = Math.imul(hash ^ view.getUint32(start + at), 0x9e3779b1);
    hash ^= hash >>> 15;
  }
  return hash >>> 0;
}

/** Copies the address at one position to another. */
export function copyAddress(from: DataView, start: number, into: DataView, at: number): void {
  for (let i = 0; i < ADDRESS_BYTES; i += 4) into.setUint32(at + i, from.getUint32(start + i));
}

/** The IPv4 address inside a mapped IPv6 one; any other address unchanged. */
export function unmapAddress(address: SocketAddress): SocketAddress {
  if (address.family !== "ipv6" || !address.address.startsWith("::ffff:")) return address;
  const text = address.address.slice(7);
  return parseIpv4(text) < 0
    ? address
    : Object.freeze({ family: "ipv4", address: text, port: address.port });
}

/** `host:port`, IPv6 in brackets, mapped addresses as IPv4. */
export function formatAddress(address: SocketAddress): string {
  const plain = unmapAddress(address);
  if (plain.family === "ipv4") return `${plain.address}:${plain.port}`;
  const zone = plain.scope === undefined ? "" : `%${plain.scope}`;
  return `[${plain.address}${zone}]:${plain.port}`;
}

/** The 32-bit value of a dotted quad, or −1. Leading zeros are refused: some systems read them as octal. */
export function parseIpv4(text: string): number {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return -1;
  let value = 0;
  for (let i = 1; i <= 4; i++) {
    const part = match[i]!;
    const byte = Number(part);
    if (byte > 255 || (part.length > 1 && part.startsWith("0"))) return -1;
    value = value * 256 + byte;
  }
  return value;
}

/** The eight groups of an IPv6 address (RFC 4291 §2.2), or `undefined`. */
export function parseIpv6(text: string): number[] | undefined {
  let source = text;
  const tail = source.lastIndexOf(":");
  if (source.includes(".")) {
    const value = tail < 0 ? -1 : parseIpv4(source.slice(tail + 1));
    if (value < 0) return undefined;
    const high = Math.floor(value / 65536).toString(16);
    source = `${source.slice(0, tail + 1)}${high}:${(value % 65536).toString(16)}`;
  }
  const halves = source.split("::");
  if (halves.length > 2) return undefined;
  const groups = (part: string | undefined): number[] | undefined => {
    if (part === undefined || part === "") return [];
    const numbers: number[] = [];
    for (const group of part.split(":")) {
      if (!/^[0-9a-fA-F]{1,4}$/.test(group)) return undefined;
      numbers.push(parseInt(group, 16));
    }
    return numbers;
  };
  const left = groups(halves[0]);
  const right = groups(halves[1]);
  if (left === undefined || right === undefined) return undefined;
  const missing = 8 - left.length - right.length;
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined;
  return [...left, ...new Array<number>(missing).fill(0), ...right];
}

function formatIpv4(value: number): string {
  return `${value >>> 24}.${(value >>> 16) & 255}.${(value >>> 8) & 255}.${value & 255}`;
}

// RFC 5952 §4: no leading zeros, the longest run of two or more zero groups (the first of equals) becomes "::".
function formatIpv6(view: DataView, start: number): string {
  const groups: number[] = [];
  for (let i = 0; i < 8; i++) groups.push(view.getUint16(start + 2 * i, false));
  if (groups.slice(0, 5).every((group) => group === 0) && groups[5] === 0xffff) {
    return `::ffff:${formatIpv4(view.getUint32(start + 12, false))}`;
  }
  let best = -1, bestLength = 1;
  for (let i = 0; i < 8;) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === 0) length++;
    if (length > bestLength) {
      best = i;
      bestLength = length;
    }
    i += Math.max(1, length);
  }
  const text = (part: number[]): string => part.map((group) => group.toString(16)).join(":");
  if (best < 0) return text(groups);
  return `${text(groups.slice(0, best))}::${text(groups.slice(best + bestLength))}`;
}
