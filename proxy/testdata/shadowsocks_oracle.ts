/**
 * Shadowsocks 2022 written a second time, in a straight line: every message is put together from its parts with fresh
 * arrays, straight from SIP022 and SIP023. It knows nothing of the machines and judges them.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { blake3 } from "@noble/hashes/blake3.js";
import type { AeadMethod } from "../protocol/aead.ts";
import type { Endpoint } from "../protocol/address.ts";
import type { ShadowsocksMethodParts, ShadowsocksProfile } from "../protocol/shadowsocks_method.ts";
import { aesBlock, sealPlainly } from "./ciphers.ts";

/** What a request's header is made of. */
export interface RequestParts {
  readonly method: ShadowsocksMethodParts;
  readonly key: Uint8Array;
  readonly salt: Uint8Array;
  readonly identities?: readonly Uint8Array[];
  readonly type: number;
  readonly time: number;
  readonly variable: Uint8Array;
}

function derive(context: string, key: Uint8Array, salt: Uint8Array): Uint8Array {
  return blake3(Buffer.concat([key, salt]), { context: Buffer.from(context), dkLen: key.length });
}

function sealNumbered(
  method: ShadowsocksMethodParts,
  key: Uint8Array,
  salt: Uint8Array,
  number: number,
  text: Uint8Array,
): Uint8Array {
  const nonce = Buffer.alloc(12);
  nonce.writeUInt32LE(number);
  const subkey = derive("shadowsocks 2022 session subkey", key, salt);
  return sealPlainly(method.aead as AeadMethod, subkey, nonce, text);
}

function time64(seconds: number): Uint8Array {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64BE(BigInt(seconds));
  return bytes;
}

function length16(length: number): Uint8Array {
  const bytes = Buffer.alloc(2);
  bytes.writeUInt16BE(length);
  return bytes;
}

/** The header of a request and its first payload, which is in `variable`. */
export function request2022(parts: RequestParts): Uint8Array {
  const { method, key, salt, identities = [], type, time, variable } = parts;
  const fixed = Buffer.concat([Buffer.from([type]), time64(time), length16(variable.length)]);
  return Uint8Array.from(Buffer.concat([
    salt,
    ...identities,
    sealNumbered(method, key, salt, 0, fixed),
    sealNumbered(method, key, salt, 1, variable),
  ]));
}

/** The header of a response and its first payload. */
export function response2022(
  method: ShadowsocksMethodParts,
  key: Uint8Array,
  salt: Uint8Array,
  time: number,
  requestSalt: Uint8Array,
  first: Uint8Array,
): Uint8Array {
  const fixed = Buffer.concat([
    Buffer.from([1]),
    time64(time),
    requestSalt,
    length16(first.length),
  ]);
  return Uint8Array.from(Buffer.concat([
    salt,
    sealNumbered(method, key, salt, 0, fixed),
    sealNumbered(method, key, salt, 1, first),
  ]));
}

/** Chunks, the first of which is sealed with nonce `number`. */
export function chunks2022(
  method: ShadowsocksMethodParts,
  key: Uint8Array,
  salt: Uint8Array,
  number: number,
  payloads: readonly Uint8Array[],
): Uint8Array {
  return Uint8Array.from(Buffer.concat(payloads.flatMap((payload, i) => [
    sealNumbered(method, key, salt, number + 2 * i, length16(payload.length)),
    sealNumbered(method, key, salt, number + 2 * i + 1, payload),
  ])));
}

/** The block that tells the server with `key` whose stream it is. */
export function identityBlock(key: Uint8Array, next: Uint8Array, salt: Uint8Array): Uint8Array {
  const hash = blake3(next).slice(0, 16);
  return aesBlock("encrypt", derive("shadowsocks 2022 identity subkey", key, salt), hash);
}

/** A client's datagram, methods of AES. */
export function packet2022(
  profile: ShadowsocksProfile,
  id: Uint8Array,
  number: number,
  time: number,
  padding: number,
  to: Endpoint,
  data: Uint8Array,
): Uint8Array {
  const { method, key, identityKeys } = profile;
  const head = Buffer.concat([id, time64(number)]);
  const body = Buffer.concat([
    Buffer.from([0]),
    time64(time),
    length16(padding),
    Buffer.alloc(padding),
    // The tests send to names only.
    Buffer.from([3, to.host.length]),
    Buffer.from(to.host),
    length16(to.port),
    data,
  ]);
  const chain = [...identityKeys, key];
  const identities = identityKeys.map((identityKey, i) => {
    const hash = blake3(chain[i + 1]!).slice(0, 16);
    return aesBlock("encrypt", identityKey, hash.map((byte, j) => byte ^ head[j]!));
  });
  const subkey = derive("shadowsocks 2022 session subkey", key, id);
  return Uint8Array.from(Buffer.concat([
    aesBlock("encrypt", chain[0]!, head),
    ...identities,
    sealPlainly(method.aead as AeadMethod, subkey, head.subarray(4), body),
  ]));
}
