/**
 * Small things done with bytes in many of the codecs here.
 *
 * @module
 */

/** Empty bytes, shared: nothing can be written into them. */
export const NO_BYTES: Uint8Array<ArrayBuffer> = new Uint8Array(0);

/** The big-endian 16-bit number at `at`. The caller has checked that both bytes are there. */
export function readU16(bytes: Uint8Array, at: number): number {
  return bytes[at]! << 8 | bytes[at + 1]!;
}

/** The big-endian 32-bit number at `at`, unsigned. */
export function readU32(bytes: Uint8Array, at: number): number {
  return (bytes[at]! << 24 | bytes[at + 1]! << 16 | bytes[at + 2]! << 8 | bytes[at + 3]!) >>> 0;
}

/** Writes a 16-bit number, big-endian. */
export function writeU16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 8;
  bytes[at + 1] = value;
}

/** Writes a 32-bit number, big-endian. */
export function writeU32(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >>> 24;
  bytes[at + 1] = value >>> 16;
  bytes[at + 2] = value >>> 8;
  bytes[at + 3] = value;
}

/** Writes a number up to 2⁵³ − 1 as 64 bits, big-endian. */
export function writeU64(bytes: Uint8Array, at: number, value: number): void {
  writeU32(bytes, at, Math.floor(value / 0x1_0000_0000));
  writeU32(bytes, at + 4, value % 0x1_0000_0000);
}

/** The 64-bit number at `at` as a double: exact up to 2⁵³ − 1, rounded above. */
export function readU64(bytes: Uint8Array, at: number): number {
  return readU32(bytes, at) * 0x1_0000_0000 + readU32(bytes, at + 4);
}

/** One character per byte of [start, end), the byte's value as its code. */
export function latin1Of(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  // In pieces, for a call takes only so many arguments.
  for (let at = start; at < end; at += 4096) {
    text += String.fromCharCode(...bytes.subarray(at, Math.min(end, at + 4096)));
  }
  return text;
}

/** The bytes of a text whose characters are all below U+0100. */
export function bytesOfLatin1(text: string): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes;
}

/** One array of all the bytes, in order. */
export function joinBytes(...parts: readonly ArrayLike<number>[]): Uint8Array<ArrayBuffer> {
  let length = 0;
  for (const part of parts) length += part.length;
  const joined = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    joined.set(part, at);
    at += part.length;
  }
  return joined;
}

/**
 * Whether what a peer gave is the secret. The time depends on the length of what was given only, which the peer knows.
 */
export function equalSecret(secret: Uint8Array, given: Uint8Array): boolean {
  let difference = secret.length ^ given.length;
  for (let i = 0; i < given.length; i++) {
    // Past the secret's end the difference of the lengths has decided already; the comparison goes on for its time.
    difference |= (secret[i] ?? 0) ^ given[i]!;
  }
  return difference === 0;
}
