/**
 * The methods of Shadowsocks, and what they make of a password.
 *
 * @module
 */

import { hkdf } from "@noble/hashes/hkdf.js";
import { md5, sha1 } from "@noble/hashes/legacy.js";
import { blake3 } from "@noble/hashes/blake3.js";
import { oneOf } from "../../internal/check.ts";
import type { AeadMethod } from "./aead.ts";
import { bytesOfLatin1, joinBytes, latin1Of, NO_BYTES } from "./octets.ts";

/** The methods by name. */
export type ShadowsocksMethod =
  | "none"
  | "aes-128-gcm"
  | "aes-192-gcm"
  | "aes-256-gcm"
  | "chacha20-ietf-poly1305"
  | "xchacha20-ietf-poly1305"
  | "2022-blake3-aes-128-gcm"
  | "2022-blake3-aes-256-gcm"
  | "2022-blake3-chacha20-poly1305";

/** What a method consists of. */
export interface ShadowsocksMethodParts {
  /** Its name. */
  readonly name: ShadowsocksMethod;
  /** Which protocol: 0 is no encryption at all, 2017 SIP004, 2022 SIP022. */
  readonly edition: 0 | 2017 | 2022;
  /** Bytes of the key, and of the salt. */
  readonly keyBytes: number;
  /** The cipher. */
  readonly aead: AeadMethod | undefined;
}

/** All methods, as SIP004 and SIP022 name them. */
export const SHADOWSOCKS_METHODS: Readonly<Record<ShadowsocksMethod, ShadowsocksMethodParts>> =
  Object.freeze({
    "none": parts("none", 0, 0, undefined),
    "aes-128-gcm": parts("aes-128-gcm", 2017, 16, "aes-128-gcm"),
    "aes-192-gcm": parts("aes-192-gcm", 2017, 24, "aes-192-gcm"),
    "aes-256-gcm": parts("aes-256-gcm", 2017, 32, "aes-256-gcm"),
    "chacha20-ietf-poly1305": parts("chacha20-ietf-poly1305", 2017, 32, "chacha20-poly1305"),
    "xchacha20-ietf-poly1305": parts("xchacha20-ietf-poly1305", 2017, 32, "xchacha20-poly1305"),
    "2022-blake3-aes-128-gcm": parts("2022-blake3-aes-128-gcm", 2022, 16, "aes-128-gcm"),
    "2022-blake3-aes-256-gcm": parts("2022-blake3-aes-256-gcm", 2022, 32, "aes-256-gcm"),
    "2022-blake3-chacha20-poly1305": parts(
      "2022-blake3-chacha20-poly1305",
      2022,
      32,
      "chacha20-poly1305",
    ),
  });

/** A method with the keys that a password stands for. Holds secrets: never log it. */
export interface ShadowsocksProfile {
  /** The method. */
  readonly method: ShadowsocksMethodParts;
  /** The key that seals: of a client with identities the last one, the user's. */
  readonly key: Uint8Array;
  /** 2022: the keys of the servers on the way, first one first; empty without identities. */
  readonly identityKeys: readonly Uint8Array[];
  /** 2022: for each identity key the 16 bytes that it hides: the hash of the key after it. */
  readonly identityHashes: readonly Uint8Array[];
}

/**
 * Makes the keys of a method. Done once, for a configuration.
 *
 * @param password Any text for the methods of 2017. For those of 2022 base64 of exactly the key's length, several joined
 * by colons when there are servers on the way that have to know whom to pass it to.
 * @throws {RangeError} When a key of 2022 has another length.
 * @throws {SyntaxError} When it is not base64.
 * @throws {TypeError} When there is no such method, or it has no identities.
 */
export function resolveShadowsocksProfile(
  method: ShadowsocksMethod,
  password: string,
): ShadowsocksProfile {
  oneOf(method, METHOD_NAMES, "a Shadowsocks method");
  const found = SHADOWSOCKS_METHODS[method];
  if (found.edition !== 2022) {
    const key = deriveShadowsocksKey(password, found.keyBytes);
    return Object.freeze({ method: found, key, identityKeys: [], identityHashes: [] });
  }
  const keys = password.split(":").map((text) => decodeKey(text, found));
  if (keys.length > 1 && found.aead === "chacha20-poly1305") {
    throw new TypeError(
      `Cannot use several keys with ${method}: it has no identities, expected one key`,
    );
  }
  return Object.freeze({
    method: found,
    key: keys[keys.length - 1]!,
    identityKeys: Object.freeze(keys.slice(0, -1)),
    identityHashes: Object.freeze(keys.slice(1).map(shadowsocksIdentityHash)),
  });
}

/** One user of a server. */
export interface ShadowsocksUser {
  /** What the user is called in rules and logs. */
  readonly name: string;
  /** The user's key. */
  readonly key: Uint8Array;
  /** What the key is known by in headers of 2022, as text of its bytes. */
  readonly hash: string;
}

/** The users of a server. */
export class ShadowsocksUserTable {
  /** In the order they were given. */
  readonly list: readonly ShadowsocksUser[];
  readonly #byHash: ReadonlyMap<string, ShadowsocksUser>;

  /**
   * Makes the keys of the users.
   *
   * @param method The server's method.
   * @param users Names and passwords; of 2022 a single key each.
   * @throws {RangeError | SyntaxError | TypeError} As {@linkcode resolveShadowsocksProfile}; also when two users of 2022
   * have one key, or the method has no identities.
   */
  constructor(
    method: ShadowsocksMethod,
    users: readonly { readonly name: string; readonly password: string }[],
  ) {
    const { edition, aead } = SHADOWSOCKS_METHODS[method];
    if (edition === 0 || edition === 2022 && aead === "chacha20-poly1305") {
      throw new TypeError(`Cannot give ${method} users: it does not tell them apart`);
    }
    this.list = Object.freeze(users.map(({ name, password }) => {
      const { key, identityKeys } = resolveShadowsocksProfile(method, password);
      if (identityKeys.length > 0) {
        throw new RangeError(`Cannot use several keys for user "${name}": expected one key`);
      }
      const hash = shadowsocksIdentityHash(key);
      return Object.freeze({ name, key, hash: latin1Of(hash, 0, hash.length) });
    }));
    this.#byHash = new Map(this.list.map((user) => [user.hash, user]));
    if (edition === 2022 && this.#byHash.size !== this.list.length) {
      throw new RangeError("Cannot tell users apart: two have the same key");
    }
  }

  /** The user whose key is known by the 16 bytes at `start`. */
  find(bytes: Uint8Array, start: number): ShadowsocksUser | undefined {
    return this.#byHash.get(latin1Of(bytes, start, start + 16));
  }
}

/** The key of a password, by OpenSSL's `EVP_BytesToKey` with MD5 and no salt. SIP004. */
export function deriveShadowsocksKey(password: string, keyBytes: number): Uint8Array<ArrayBuffer> {
  const secret = new TextEncoder().encode(password);
  let key: Uint8Array<ArrayBuffer> = NO_BYTES;
  let last: Uint8Array = NO_BYTES;
  while (key.length < keyBytes) {
    last = md5(joinBytes(last, secret));
    key = joinBytes(key, last);
  }
  return key.slice(0, keyBytes);
}

/** The key of one stream or packet: HKDF-SHA1 of key and salt. SIP004. */
export function deriveShadowsocksSubkey(key: Uint8Array, salt: Uint8Array): Uint8Array {
  return hkdf(sha1, key, salt, SUBKEY_INFO, key.length);
}

/** The key of one stream or UDP session: BLAKE3 in key derivation mode. SIP022 §3.1. */
export function deriveSessionSubkey(key: Uint8Array, salt: Uint8Array): Uint8Array {
  return blake3(joinBytes(key, salt), { context: SESSION_CONTEXT, dkLen: key.length });
}

/** The key that hides the identity in a stream's header. SIP023. */
export function deriveIdentitySubkey(key: Uint8Array, salt: Uint8Array): Uint8Array {
  return blake3(joinBytes(key, salt), { context: IDENTITY_CONTEXT, dkLen: key.length });
}

/** The 16 bytes by which a key is known to the server before it. SIP023. */
export function shadowsocksIdentityHash(key: Uint8Array): Uint8Array {
  return blake3(key).slice(0, 16);
}

function parts(
  name: ShadowsocksMethod,
  edition: 0 | 2017 | 2022,
  keyBytes: number,
  aead: AeadMethod | undefined,
): ShadowsocksMethodParts {
  return Object.freeze({ name, edition, keyBytes, aead });
}

/** The message says lengths only: the text is a secret. */
function decodeKey(text: string, method: ShadowsocksMethodParts): Uint8Array<ArrayBuffer> {
  let decoded: string;
  try {
    decoded = atob(text);
  } catch (cause) {
    throw new SyntaxError(`Cannot read the key of ${method.name}: expected base64`, { cause });
  }
  if (decoded.length !== method.keyBytes) {
    throw new RangeError(
      `Cannot use a key of ${decoded.length} bytes with ${method.name}: ` +
        `expected ${method.keyBytes} bytes`,
    );
  }
  return bytesOfLatin1(decoded);
}

const METHOD_NAMES: readonly ShadowsocksMethod[] = [
  "none",
  "aes-128-gcm",
  "aes-192-gcm",
  "aes-256-gcm",
  "chacha20-ietf-poly1305",
  "xchacha20-ietf-poly1305",
  "2022-blake3-aes-128-gcm",
  "2022-blake3-aes-256-gcm",
  "2022-blake3-chacha20-poly1305",
];
const SUBKEY_INFO = bytesOfLatin1("ss-subkey");
const SESSION_CONTEXT = bytesOfLatin1("shadowsocks 2022 session subkey");
const IDENTITY_CONTEXT = bytesOfLatin1("shadowsocks 2022 identity subkey");
