/**
 * HChaCha20: the key that a key and the first 16 bytes of a long nonce stand for (draft-irtf-cfrg-xchacha-03, §2.2).
 *
 * @module
 */

/**
 * Derives the key.
 *
 * @param key 32 bytes.
 * @param nonce Its first 16 bytes are used.
 * @param into Where the 32 bytes go.
 */
export function hchacha20(key: Uint8Array, nonce: Uint8Array, into: Uint8Array): void {
  // "expand 32-byte k", the constant of ChaCha (RFC 8439 §2.3).
  let a0 = 0x61707865, a1 = 0x3320646e, a2 = 0x79622d32, a3 = 0x6b206574;
  let b0 = word(key, 0), b1 = word(key, 4), b2 = word(key, 8), b3 = word(key, 12);
  let c0 = word(key, 16), c1 = word(key, 20), c2 = word(key, 24), c3 = word(key, 28);
  let d0 = word(nonce, 0), d1 = word(nonce, 4), d2 = word(nonce, 8), d3 = word(nonce, 12);
  // Columns, then diagonals; the quarter round is written out because sixteen locals stay in registers and an array
  // does not.
  for (let round = 0; round < 10; round++) {
    a0 = (a0 + b0) | 0, d0 = turn(d0 ^ a0, 16), c0 = (c0 + d0) | 0, b0 = turn(b0 ^ c0, 12);
    a0 = (a0 + b0) | 0, d0 = turn(d0 ^ a0, 8), c0 = (c0 + d0) | 0, b0 = turn(b0 ^ c0, 7);
    a1 = (a1 + b1) | 0, d1 = turn(d1 ^ a1, 16), c1 = (c1 + d1) | 0, b1 = turn(b1 ^ c1, 12);
    a1 = (a1 + b1) | 0, d1 = turn(d1 ^ a1, 8), c1 = (c1 + d1) | 0, b1 = turn(b1 ^ c1, 7);
    a2 = (a2 + b2) | 0, d2 = turn(d2 ^ a2, 16), c2 = (c2 + d2) | 0, b2 = turn(b2 ^ c2, 12);
    a2 = (a2 + b2) | 0, d2 = turn(d2 ^ a2, 8), c2 = (c2 + d2) | 0, b2 = turn(b2 ^ c2, 7);
    a3 = (a3 + b3) | 0, d3 = turn(d3 ^ a3, 16), c3 = (c3 + d3) | 0, b3 = turn(b3 ^ c3, 12);
    a3 = (a3 + b3) | 0, d3 = turn(d3 ^ a3, 8), c3 = (c3 + d3) | 0, b3 = turn(b3 ^ c3, 7);
    a0 = (a0 + b1) | 0, d3 = turn(d3 ^ a0, 16), c2 = (c2 + d3) | 0, b1 = turn(b1 ^ c2, 12);
    a0 = (a0 + b1) | 0, d3 = turn(d3 ^ a0, 8), c2 = (c2 + d3) | 0, b1 = turn(b1 ^ c2, 7);
    a1 = (a1 + b2) | 0, d0 = turn(d0 ^ a1, 16), c3 = (c3 + d0) | 0, b2 = turn(b2 ^ c3, 12);
    a1 = (a1 + b2) | 0, d0 = turn(d0 ^ a1, 8), c3 = (c3 + d0) | 0, b2 = turn(b2 ^ c3, 7);
    a2 = (a2 + b3) | 0, d1 = turn(d1 ^ a2, 16), c0 = (c0 + d1) | 0, b3 = turn(b3 ^ c0, 12);
    a2 = (a2 + b3) | 0, d1 = turn(d1 ^ a2, 8), c0 = (c0 + d1) | 0, b3 = turn(b3 ^ c0, 7);
    a3 = (a3 + b0) | 0, d2 = turn(d2 ^ a3, 16), c1 = (c1 + d2) | 0, b0 = turn(b0 ^ c1, 12);
    a3 = (a3 + b0) | 0, d2 = turn(d2 ^ a3, 8), c1 = (c1 + d2) | 0, b0 = turn(b0 ^ c1, 7);
  }
  // The first and the last row, without adding the start: that is what makes it one-way and not a key stream.
  put(into, 0, a0), put(into, 4, a1), put(into, 8, a2), put(into, 12, a3);
  put(into, 16, d0), put(into, 20, d1), put(into, 24, d2), put(into, 28, d3);
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24;
}

function put(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value;
  bytes[at + 1] = value >>> 8;
  bytes[at + 2] = value >>> 16;
  bytes[at + 3] = value >>> 24;
}

function turn(value: number, by: number): number {
  return value << by | value >>> (32 - by);
}
