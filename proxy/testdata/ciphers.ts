/**
 * Ciphers for tests, on the platform's own: AEADs by method, AES by the block, and what a machine needs in all.
 *
 * @module
 */

import { createCipheriv, createDecipheriv } from "node:crypto";
import { Buffer } from "node:buffer";
import { gcm } from "@noble/ciphers/aes.js";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import type { Random } from "../../internal/random.ts";
import type { Aead, AeadMethod, BlockCipher } from "../protocol/aead.ts";
import type { ShadowsocksTools } from "../protocol/shadowsocks_stream.ts";

/** Seals into a fresh array, the tag at its end. */
export function sealPlainly(
  method: AeadMethod,
  key: Uint8Array,
  nonce: Uint8Array,
  text: Uint8Array,
): Uint8Array {
  if (method === "aes-192-gcm") return gcm(key, nonce).encrypt(text);
  if (method === "xchacha20-poly1305") return xchacha20poly1305(key, nonce).encrypt(text);
  const name = method === "chacha20-poly1305" ? "chacha20-poly1305" as const : method;
  // The two families have types of their own and one behaviour.
  const cipher = createCipheriv(name as "aes-128-gcm", key, nonce, { authTagLength: 16 });
  return Buffer.concat([cipher.update(text), cipher.final(), cipher.getAuthTag()]);
}

/** Opens into a fresh array; `undefined` when the tag is wrong. */
export function openPlainly(
  method: AeadMethod,
  key: Uint8Array,
  nonce: Uint8Array,
  sealed: Uint8Array,
): Uint8Array | undefined {
  try {
    if (method === "aes-192-gcm") return gcm(key, nonce).decrypt(sealed);
    if (method === "xchacha20-poly1305") return xchacha20poly1305(key, nonce).decrypt(sealed);
    const cipher = createDecipheriv(method as "aes-128-gcm", key, nonce, { authTagLength: 16 });
    cipher.setAuthTag(sealed.subarray(sealed.length - 16));
    return Buffer.concat([
      cipher.update(sealed.subarray(0, sealed.length - 16)),
      cipher.final(),
    ]);
  } catch {
    return undefined;
  }
}

/** How many ciphers were made and not closed. */
export const openCiphers: { count: number } = { count: 0 };

/** An AEAD as the machines take it; what fails to open is overwritten, as a driver may leave it. */
export function createTestAead(method: AeadMethod, givenKey: Uint8Array): Aead {
  let key = givenKey.slice();
  openCiphers.count++;
  let isOpen = true;
  return {
    tagBytes: 16,
    nonceBytes: method === "xchacha20-poly1305" ? 24 : 12,
    seal: (nonce, buffer, start, end) =>
      buffer.set(sealPlainly(method, key, nonce, buffer.slice(start, end)), start),
    open: (nonce, buffer, start, end) => {
      const text = openPlainly(method, key, nonce, buffer.slice(start, end));
      if (text === undefined) buffer.fill(0xee, start, end);
      else buffer.set(text, start);
      return text !== undefined;
    },
    rekey: (next) => {
      key = next.slice();
    },
    close: () => {
      if (isOpen) openCiphers.count--;
      isOpen = false;
    },
  };
}

/** One block through AES. */
export function aesBlock(
  direction: "encrypt" | "decrypt",
  key: Uint8Array,
  block: Uint8Array,
): Uint8Array {
  const name = key.length === 16 ? "aes-128-ecb" : "aes-256-ecb";
  const make = direction === "encrypt" ? createCipheriv : createDecipheriv;
  const cipher = make(name, key, null);
  cipher.setAutoPadding(false);
  return Buffer.concat([cipher.update(block), cipher.final()]);
}

/** A block cipher as the machines take it. */
export function createTestBlockCipher(givenKey: Uint8Array): BlockCipher {
  const key = givenKey.slice();
  const apply = (direction: "encrypt" | "decrypt") => (buffer: Uint8Array, offset: number) =>
    buffer.set(aesBlock(direction, key, buffer.slice(offset, offset + 16)), offset);
  return { encryptBlock: apply("encrypt"), decryptBlock: apply("decrypt") };
}

/**
 * What a machine of Shadowsocks needs.
 *
 * @param random The source of salts and numbers.
 */
export function testTools(random: Random): ShadowsocksTools {
  return { createAead: createTestAead, createBlockCipher: createTestBlockCipher, random };
}

/** A source that answers the given bytes first, in order, and fails when it is asked for others. */
export function scriptedRandom(...answers: readonly Uint8Array<ArrayBuffer>[]): Random {
  const left = [...answers];
  return {
    bytes: (n) => {
      const next = left.shift();
      if (next?.length !== n) throw new Error(`asked for ${n} bytes, have ${next?.length}`);
      return next;
    },
    u32: () => 0,
    float: () => 0,
  };
}
