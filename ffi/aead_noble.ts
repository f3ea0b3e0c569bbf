/**
 * Authenticated encryption in plain TypeScript, by `@noble/ciphers`: the last resort, and the only portable driver that
 * has every method everywhere.
 *
 * @module
 */
import { ecb, gcm } from "@noble/ciphers/aes.js";
import { chacha20poly1305, xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import {
  type Aead,
  AEAD_SIZES,
  type AeadMethod,
  type AeadSource,
  type BlockCipher,
  checkBlock,
  checkCall,
  checkKey,
  CLOSED,
  TAG_BYTES,
} from "./aead.ts";

/** The driver. */
export function nobleAeads(): AeadSource {
  return {
    name: "noble",
    aead: (method, key) => new NobleAead(method, key),
    blockCipher: (key) => new NobleBlockCipher(key),
  };
}

class NobleAead implements Aead {
  readonly method: AeadMethod;
  readonly tagBytes = 16;
  readonly nonceBytes: 12 | 24;
  readonly #key: Uint8Array<ArrayBuffer>;
  #closed = false;

  constructor(method: AeadMethod, key: Uint8Array) {
    this.method = method;
    this.nonceBytes = AEAD_SIZES[method].nonceBytes;
    this.#key = new Uint8Array(key);
  }

  seal(
    nonce: Uint8Array,
    buffer: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    additional?: Uint8Array,
  ): void {
    checkCall(this.nonceBytes, nonce, buffer, start, end, end + TAG_BYTES);
    if (this.#closed) throw new TypeError(CLOSED);
    buffer.set(this.#cipher(nonce, additional).encrypt(buffer.subarray(start, end)), start);
  }

  open(
    nonce: Uint8Array,
    buffer: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    additional?: Uint8Array,
  ): boolean {
    checkCall(this.nonceBytes, nonce, buffer, start, end, end);
    if (this.#closed) throw new TypeError(CLOSED);
    if (end - start < TAG_BYTES) return false;
    try {
      buffer.set(this.#cipher(nonce, additional).decrypt(buffer.subarray(start, end)), start);
    } catch {
      // The arguments were checked: only the tag is left to be wrong.
      return false;
    }
    return true;
  }

  rekey(key: Uint8Array): void {
    checkKey(this.method, key);
    if (this.#closed) throw new TypeError(CLOSED);
    this.#key.set(key);
  }

  close(): void {
    this.#closed = true;
    this.#key.fill(0);
  }

  #cipher(nonce: Uint8Array, additional: Uint8Array | undefined): ReturnType<typeof gcm> {
    // A copy of the nonce: the library refuses views it considers misaligned on some platforms, and never keeps one.
    const own = new Uint8Array(nonce);
    switch (this.method) {
      case "chacha20-poly1305":
        return chacha20poly1305(this.#key, own, additional);
      case "xchacha20-poly1305":
        return xchacha20poly1305(this.#key, own, additional);
      default:
        return gcm(this.#key, own, additional);
    }
  }
}

class NobleBlockCipher implements BlockCipher {
  readonly #key: Uint8Array<ArrayBuffer>;
  #closed = false;

  constructor(key: Uint8Array) {
    this.#key = new Uint8Array(key);
  }

  encryptBlock(buffer: Uint8Array<ArrayBuffer>, offset: number): void {
    checkBlock(buffer, offset);
    buffer.set(this.#cipher().encrypt(buffer.slice(offset, offset + 16)), offset);
  }

  decryptBlock(buffer: Uint8Array<ArrayBuffer>, offset: number): void {
    checkBlock(buffer, offset);
    buffer.set(this.#cipher().decrypt(buffer.slice(offset, offset + 16)), offset);
  }

  close(): void {
    this.#closed = true;
    this.#key.fill(0);
  }

  #cipher(): ReturnType<typeof ecb> {
    if (this.#closed) throw new TypeError(CLOSED);
    return ecb(this.#key, { disablePadding: true });
  }
}
