/**
 * What the machines here need of ciphers and of randomness, as contracts: whoever builds a machine brings them.
 *
 * @module
 */

/** The ciphers that are asked for, by the names the methods of Shadowsocks are built from. */
export type AeadMethod =
  | "aes-128-gcm"
  | "aes-192-gcm"
  | "aes-256-gcm"
  | "chacha20-poly1305"
  | "xchacha20-poly1305";

/** Authenticated encryption under one key, in place, without associated data. */
export interface Aead {
  /** Bytes of the tag. */
  readonly tagBytes: 16;
  /** Bytes of a nonce. */
  readonly nonceBytes: number;
  /** Encrypts [start, end) in place and writes the tag to [end, end + 16). Keeps no reference to its arguments. */
  seal(nonce: Uint8Array, buffer: Uint8Array, start: number, end: number): void;
  /**
   * Decrypts [start, end − 16) in place, the tag being in [end − 16, end).
   *
   * @returns Whether the tag was right; when not, what the bytes hold then is not said.
   */
  open(nonce: Uint8Array, buffer: Uint8Array, start: number, end: number): boolean;
  /** Goes on with another key, where that is cheaper than another {@linkcode Aead}. */
  rekey?(key: Uint8Array): void;
  /** Gives back what the system holds for it. */
  close?(): void;
}

/** Makes an {@linkcode Aead}; the key is copied. */
export type AeadFactory = (method: AeadMethod, key: Uint8Array) => Aead;

/** AES under one key, one block of 16 bytes at a time, in place. */
export interface BlockCipher {
  /** Encrypts [offset, offset + 16). */
  encryptBlock(buffer: Uint8Array, offset: number): void;
  /** Decrypts [offset, offset + 16). */
  decryptBlock(buffer: Uint8Array, offset: number): void;
  /** Gives back what the system holds for it. */
  close?(): void;
}

/** Makes a {@linkcode BlockCipher} of a key of 16 or 32 bytes; the key is copied. */
export type BlockCipherFactory = (key: Uint8Array) => BlockCipher;

/** A source of random numbers; for salts and identifiers it must be a cryptographic one. */
export interface RandomSource {
  /** `n` fresh random bytes. */
  bytes(n: number): Uint8Array;
  /** An integer, 0 to 2³² − 1. */
  u32(): number;
}

/** Bytes of the tag of every {@linkcode Aead}. */
export const TAG_BYTES = 16;
