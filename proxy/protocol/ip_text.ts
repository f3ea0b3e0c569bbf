/**
 * IP addresses as text: read strictly, written the one way RFC 5952 allows.
 *
 * @module
 */

/** Bytes of an IPv4 address. */
export const IPV4_BYTES = 4;
/** Bytes of an IPv6 address. */
export const IPV6_BYTES = 16;

/**
 * Writes the bytes of an IP literal.
 *
 * IPv4 is four decimal numbers without leading zeros: `127.1` and `0x7f.0.0.1` are names here, not addresses, for a rule
 * about addresses must not depend on who reads them. IPv6 has no zone and no brackets; an IPv4 tail is read. An
 * IPv4-mapped address (`::ffff:192.0.2.1`) is written as IPv4.
 *
 * @param into At least 16 bytes from `at` on; they are overwritten even when the text is refused.
 * @returns 4, 16, or 0 when the text is no IP literal.
 */
export function writeIpText(into: Uint8Array, at: number, text: string): number {
  if (!text.includes(":")) return writeIpv4Text(into, at, text) ? IPV4_BYTES : 0;
  if (!writeIpv6Text(into, at, text)) return 0;
  if (!isMapped(into, at)) return IPV6_BYTES;
  into.copyWithin(at, at + 12, at + 16);
  return IPV4_BYTES;
}

/** Whether the text is an IP literal, and of which family: 4, 6, or 0 for neither. */
export function ipFamilyOf(text: string): 0 | 4 | 6 {
  // What holds neither a colon nor a digit at its end is a name, which is the usual case.
  const last = text.charCodeAt(text.length - 1);
  if (!(last >= 0x30 && last <= 0x39) && !text.includes(":")) return 0;
  const bytes = writeIpText(scratch, 0, text);
  return bytes === 0 ? 0 : bytes === IPV4_BYTES ? 4 : 6;
}

/** The text of four bytes. */
export function formatIpv4(bytes: Uint8Array, at: number): string {
  return `${bytes[at]}.${bytes[at + 1]}.${bytes[at + 2]}.${bytes[at + 3]}`;
}

/** The text of sixteen bytes by RFC 5952; an IPv4-mapped address as IPv4. */
export function formatIpv6(bytes: Uint8Array, at: number): string {
  if (isMapped(bytes, at)) return formatIpv4(bytes, at + 12);
  let bestStart = -1, bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groupAt(bytes, at, i + length) === 0) length++;
    if (length > bestLength) [bestStart, bestLength] = [i, length];
    if (length > 0) i += length - 1;
  }
  let text = "";
  for (let i = 0; i < 8; i++) {
    if (i === bestStart) {
      text += "::";
      i += bestLength - 1;
      continue;
    }
    if (text !== "" && !text.endsWith(":")) text += ":";
    text += groupAt(bytes, at, i).toString(16);
  }
  return text;
}

/** Whether sixteen bytes are an IPv4 address in IPv6 form. */
export function isMapped(bytes: Uint8Array, at: number): boolean {
  for (let i = 0; i < 10; i++) if (bytes[at + i] !== 0) return false;
  return bytes[at + 10] === 0xff && bytes[at + 11] === 0xff;
}

function groupAt(bytes: Uint8Array, at: number, group: number): number {
  return bytes[at + 2 * group]! << 8 | bytes[at + 2 * group + 1]!;
}

function writeIpv4Text(into: Uint8Array, at: number, text: string): boolean {
  if (text.length > 15) return false;
  let value = -1, part = 0;
  for (let i = 0; i <= text.length; i++) {
    const code = i === text.length ? 0x2e : text.charCodeAt(i);
    if (code === 0x2e) {
      if (value < 0 || part > 3) return false;
      into[at + part++] = value;
      value = -1;
    } else if (code >= 0x30 && code <= 0x39 && value !== 0) {
      value = (value < 0 ? 0 : value * 10) + code - 0x30;
      if (value > 255) return false;
    } else {
      return false;
    }
  }
  return part === 4;
}

function writeIpv6Text(into: Uint8Array, at: number, text: string): boolean {
  if (text.length > 45) return false;
  const halves = text.split("::");
  if (halves.length > 2) return false;
  const head = groupsOf(halves[0]!, halves.length === 1);
  const tail = halves.length === 2 ? groupsOf(halves[1]!, true) : [];
  if (head === undefined || tail === undefined) return false;
  const zeros = 8 - head.length - tail.length;
  if (halves.length === 2 ? zeros < 1 : zeros !== 0) return false;
  into.fill(0, at, at + IPV6_BYTES);
  for (let i = 0; i < 8; i++) {
    const group = i < head.length
      ? head[i]!
      : i < head.length + zeros
      ? 0
      : tail[i - head.length - zeros]!;
    into[at + 2 * i] = group >>> 8;
    into[at + 2 * i + 1] = group;
  }
  return true;
}

/** The groups of one side of `::`; the last of the address may be IPv4. */
function groupsOf(text: string, isLast: boolean): readonly number[] | undefined {
  if (text === "") return [];
  const groups: number[] = [];
  const parts = text.split(":");
  for (let i = 0; i < parts.length; i++) {
    const part = parts[i]!;
    if (part.includes(".")) {
      if (!isLast || i !== parts.length - 1 || !writeIpv4Text(scratch, 0, part)) return undefined;
      groups.push(groupAt(scratch, 0, 0), groupAt(scratch, 0, 1));
    } else {
      if (!/^[0-9a-f]{1,4}$/i.test(part)) return undefined;
      groups.push(parseInt(part, 16));
    }
  }
  return groups;
}

const scratch = new Uint8Array(IPV6_BYTES);
