/**
 * Authenticated encryption by `node:crypto`, on both runtimes.
 *
 * Its objects are for one message, so each call makes one, with the key schedule, and copies the answer into place. Not
 * every runtime has every method: Deno lacks AES with 192 bits.
 *
 * @module
 */
import { createCipheriv, createDecipheriv } from "node:crypto";
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
import { hchacha20 } from "./hchacha.ts";

/** The driver. */
export function nodeAeads(): AeadSource {
  const known = new Map<string, boolean>();
  const has = (name: string, attempt: () => void): boolean => {
    let answer = known.get(name);
    if (answer === undefined) {
      // There is a list of ciphers, but it names some that cannot be opened (Deno 2.9).
      try {
        attempt();
        answer = true;
      } catch {
        answer = false;
      }
      known.set(name, answer);
    }
    return answer;
  };
  return {
    name: "node",
    aead: (method, key) => {
      const attempt = (): void => {
        const { nonceBytes } = AEAD_SIZES[method];
        const aead = new NodeAead(method, key);
        aead.seal(new Uint8Array(nonceBytes), new Uint8Array(1 + TAG_BYTES), 0, 1);
      };
      return has(method, attempt) ? new NodeAead(method, key) : undefined;
    },
    blockCipher: (key) => {
      const attempt = (): void => {
        const cipher = new NodeBlockCipher(key);
        cipher.encryptBlock(new Uint8Array(16), 0);
        cipher.close();
      };
      return has(`ecb ${key.length}`, attempt) ? new NodeBlockCipher(key) : undefined;
    },
  };
}

class NodeAead implements Aead {
  readonly method: AeadMethod;
  readonly tagBytes = 16;
  readonly nonceBytes: 12 | 24;
  readonly #key: Uint8Array;
  readonly #derived: Uint8Array | undefined;
  readonly #nonce: Uint8Array | undefined;
  #closed = false;

  constructor(method: AeadMethod, key: Uint8Array) {
    this.method = method;
    this.nonceBytes = AEAD_SIZES[method].nonceBytes;
    this.#key = key.slice();
    if (method === "xchacha20-poly1305") {
      this.#derived = new Uint8Array(32);
      this.#nonce = new Uint8Array(12);
    }
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
    const [name, key, iv] = this.#parameters(nonce);
    const cipher = createCipheriv(name, key, iv, OPTIONS);
    if (additional !== undefined) cipher.setAAD(additional, LENGTH);
    buffer.set(cipher.update(buffer.subarray(start, end)), start);
    cipher.final();
    buffer.set(cipher.getAuthTag(), end);
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
    const at = end - TAG_BYTES;
    if (at < start) return false;
    const [name, key, iv] = this.#parameters(nonce);
    const decipher = createDecipheriv(name, key, iv, OPTIONS);
    if (additional !== undefined) decipher.setAAD(additional, LENGTH);
    decipher.setAuthTag(buffer.slice(at, end));
    const plain = decipher.update(buffer.subarray(start, at));
    try {
      decipher.final();
    } catch {
      // The only thing it can say.
      return false;
    }
    buffer.set(plain, start);
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
    this.#derived?.fill(0);
  }

  #parameters(
    nonce: Uint8Array,
  ): readonly [name: "chacha20-poly1305", key: Uint8Array, iv: Uint8Array] {
    // The types know the methods under one name each, with options that are the same for all.
    if (this.#derived === undefined) {
      return [this.method as "chacha20-poly1305", this.#key, nonce];
    }
    hchacha20(this.#key, nonce, this.#derived);
    for (let i = 4; i < 12; i++) this.#nonce![i] = nonce[i + 12]!;
    return ["chacha20-poly1305", this.#derived, this.#nonce!];
  }
}

class NodeBlockCipher implements BlockCipher {
  readonly #encrypt: ReturnType<typeof createCipheriv>;
  readonly #decrypt: ReturnType<typeof createDecipheriv>;
  #closed = false;

  constructor(key: Uint8Array) {
    const name = `aes-${key.length * 8}-ecb`;
    this.#encrypt = createCipheriv(name, key, null);
    this.#decrypt = createDecipheriv(name, key, null);
    // With padding, decryption would hold every block back until it knows that another follows.
    this.#encrypt.setAutoPadding(false);
    this.#decrypt.setAutoPadding(false);
  }

  encryptBlock(buffer: Uint8Array<ArrayBuffer>, offset: number): void {
    checkBlock(buffer, offset);
    if (this.#closed) throw new TypeError(CLOSED);
    buffer.set(this.#encrypt.update(buffer.subarray(offset, offset + 16)), offset);
  }

  decryptBlock(buffer: Uint8Array<ArrayBuffer>, offset: number): void {
    checkBlock(buffer, offset);
    if (this.#closed) throw new TypeError(CLOSED);
    buffer.set(this.#decrypt.update(buffer.subarray(offset, offset + 16)), offset);
  }

  close(): void {
    if (!this.#closed) {
      // What Deno keeps for them is freed by their end.
      this.#encrypt.final();
      this.#decrypt.final();
    }
    this.#closed = true;
  }
}

// Only CCM looks at it.
const LENGTH = { plaintextLength: 0 };
const OPTIONS = { authTagLength: TAG_BYTES };
