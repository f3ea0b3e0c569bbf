/**
 * Keys of the 2022 edition of Shadowsocks (SIP022), which are given as they are and not derived from a password.
 *
 * @module
 */

const KEY_BYTES: Readonly<Record<string, number>> = {
  "2022-blake3-aes-128-gcm": 16,
  "2022-blake3-aes-256-gcm": 32,
  "2022-blake3-chacha20-poly1305": 32,
};

/** Length of a method's keys in bytes; `undefined` for methods that take any password. */
export function keyBytesOf(method: string): number | undefined {
  return Object.hasOwn(KEY_BYTES, method) ? KEY_BYTES[method] : undefined;
}
