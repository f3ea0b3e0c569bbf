/**
 * Addresses as text, read into numbers without allocation: the router compares numbers only.
 *
 * @module
 */

/**
 * Reads an IPv4 or IPv6 address.
 *
 * @param text Without brackets; a zone (`%eth0`) is not accepted.
 * @param words Receives the address in host numbers, most significant first: one word, or four.
 * @returns 4, 6, or 0 when it is not an address. IPv4-mapped IPv6 addresses are read as IPv4 (proxy.md §3.1).
 */
export function readIp(text: string, words: Uint32Array): 0 | 4 | 6 {
  const length = text.length;
  if (length < 2 || length > 45) return 0;
  const last = text.charCodeAt(length - 1);
  // Most of what comes is a name, and no name ends in a digit or holds a colon: its last byte settles it.
  const digit = last >= 0x30 && last <= 0x39;
  if (digit && readIpv4(text, 0, words, 0)) return 4;
  if (!digit && !isHexOrColon(last)) return 0;
  return readIpv6(text, words);
}

/** Reads dotted decimal from `at` to the end of the text; leading zeros are refused, as inet_pton does. */
function readIpv4(text: string, at: number, words: Uint32Array, into: number): boolean {
  const length = text.length;
  if (length - at < 7 || length - at > 15) return false;
  let word = 0;
  let octet = 0;
  let digits = 0;
  let dots = 0;
  for (let i = at; i < length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0x2e) {
      if (digits === 0 || dots === 3) return false;
      word = word << 8 | octet;
      octet = digits = 0;
      dots++;
    } else {
      if (code < 0x30 || code > 0x39 || digits > 0 && octet === 0) return false;
      octet = octet * 10 + code - 0x30;
      if (++digits > 3 || octet > 255) return false;
    }
  }
  if (dots !== 3 || digits === 0) return false;
  words[into] = (word << 8 | octet) >>> 0;
  return true;
}

const GROUPS = new Uint16Array(8);

function readIpv6(text: string, words: Uint32Array): 0 | 4 | 6 {
  const length = text.length;
  let count = 0; // groups read
  let gap = -1; // groups before "::"
  let i = 0;
  if (text.charCodeAt(0) === 0x3a) {
    if (text.charCodeAt(1) !== 0x3a) return 0;
    gap = 0;
    i = 2;
  }
  while (i < length) {
    const start = i;
    let group = 0;
    let code = 0;
    while (i < length) {
      code = text.charCodeAt(i);
      const value = hexValue(code);
      if (value < 0) break;
      group = group << 4 | value;
      if (++i - start > 4) return 0;
    }
    if (i < length && code === 0x2e) {
      if (count > 6 || !readIpv4(text, start, words, 0)) return 0;
      GROUPS[count++] = words[0]! >>> 16;
      GROUPS[count++] = words[0]! & 0xffff;
      i = length;
      break;
    }
    if (i === start || count === 8) return 0;
    GROUPS[count++] = group;
    if (i === length) break;
    if (code !== 0x3a) return 0;
    if (text.charCodeAt(i + 1) === 0x3a) {
      if (gap >= 0) return 0;
      gap = count;
      i += 2;
    } else if (++i === length) return 0; // a single colon at the end
  }
  if (gap < 0 ? count !== 8 : count > 7) return 0;
  if (gap >= 0) {
    const missing = 8 - count;
    for (let from = count - 1; from >= gap; from--) GROUPS[from + missing] = GROUPS[from]!;
    for (let to = gap; to < gap + missing; to++) GROUPS[to] = 0;
  }
  for (let word = 0; word < 4; word++) {
    words[word] = (GROUPS[2 * word]! << 16 | GROUPS[2 * word + 1]!) >>> 0;
  }
  if (words[0] === 0 && words[1] === 0 && words[2] === 0xffff) {
    words[0] = words[3]!;
    return 4;
  }
  return 6;
}

function hexValue(code: number): number {
  if (code >= 0x30 && code <= 0x39) return code - 0x30;
  const lower = code | 0x20;
  return lower >= 0x61 && lower <= 0x66 ? lower - 0x57 : -1;
}

function isHexOrColon(code: number): boolean {
  return code === 0x3a || hexValue(code) >= 0;
}

/** A block of addresses as numbers. */
export interface IpBlock {
  /** Family; blocks within `::ffff:0:0/96` are IPv4. */
  readonly family: 4 | 6;
  /** Network, most significant word first: one word, or four. Bits behind the prefix are 0. */
  readonly words: Uint32Array<ArrayBuffer>;
  /** Leading bits that count, 0 to 32 or 0 to 128. */
  readonly prefixBits: number;
}

/**
 * Reads `10.0.0.0/8`, `2001:db8::/32`; a lone address is a block of one. Bits behind the prefix may be set and are
 * dropped, as sing-box does.
 *
 * @returns The block, or `undefined` when it is not one.
 */
export function readIpBlock(text: string): IpBlock | undefined {
  const slash = text.indexOf("/");
  const address = slash < 0 ? text : text.slice(0, slash);
  const words = new Uint32Array(4);
  const family = readIp(address, words);
  if (family === 0) return undefined;
  const mapped = family === 4 && address.includes(":");
  const widest = family === 4 && !mapped ? 32 : 128;
  let prefixBits = widest;
  if (slash >= 0) {
    const digits = text.slice(slash + 1);
    if (!/^(?:0|[1-9]\d{0,2})$/.test(digits) || Number(digits) > widest) return undefined;
    prefixBits = Number(digits);
  }
  if (mapped) {
    if (prefixBits < 96) return undefined;
    prefixBits -= 96;
  }
  const kept = family === 4 ? words.slice(0, 1) : words;
  for (let word = 0; word < kept.length; word++) {
    const bits = Math.min(32, Math.max(0, prefixBits - 32 * word));
    kept[word]! &= bits === 0 ? 0 : -1 << 32 - bits;
  }
  return { family, words: kept, prefixBits };
}

/**
 * The blocks that `ip_is_private` means, the same as in sing-box: unspecified, loopback, private, link-local and
 * multicast. Shared (100.64.0.0/10) and documentation blocks are not among them.
 */
export const PRIVATE_BLOCKS: readonly string[] = [
  "0.0.0.0/32",
  "10.0.0.0/8",
  "127.0.0.0/8",
  "169.254.0.0/16",
  "172.16.0.0/12",
  "192.168.0.0/16",
  "224.0.0.0/4",
  "::/127",
  "fc00::/7",
  "fe80::/10",
  "ff00::/8",
];
