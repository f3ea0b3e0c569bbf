/**
 * Keys and names for configurations, fresh from the system's source of randomness.
 *
 * @module
 */

import { generateKeyPairSync, randomUUID } from "node:crypto";
import { integerIn } from "../internal/check.ts";
import { nearest } from "../internal/schema.ts";
import { secureRandom } from "../internal/random.ts";
import { keyBytesOf } from "./shadowsocks_keys.ts";
import { METHODS } from "./options_shared.ts";

/** What can be generated. */
export const GENERATORS: readonly string[] = [
  "uuid",
  "rand",
  "ss-password",
  "wg-keypair",
  "reality-keypair",
];

/** What sing-box generates and this build does not, with what is missing. */
const MISSING: Readonly<Record<string, string>> = {
  "tls-keypair": "making certificates",
  "ech-keypair": "encrypted ClientHello",
  "vapid-keypair": "web push",
};

/** A private key and its public key, as their protocol writes them. */
export interface KeyPair {
  /** Kept secret. */
  readonly privateKey: string;
  /** Given to the peer. */
  readonly publicKey: string;
}

/** A random UUID, version 4 (RFC 9562 §5.4). */
export function generateUuid(): string {
  return randomUUID();
}

/**
 * Random bytes as text.
 *
 * @param bytes How many, 1 to 65536.
 * @param encoding How they are written.
 * @param fresh Where the bytes come from.
 * @throws {RangeError} When it is another number.
 */
export function generateRandom(
  bytes: number,
  encoding: "base64" | "hex",
  fresh: (count: number) => Uint8Array = secureRandom.bytes,
): string {
  const data = fresh(integerIn(bytes, 1, 65_536, "number of random bytes"));
  if (encoding === "hex") {
    return Array.from(data, (byte) => byte.toString(16).padStart(2, "0")).join("");
  }
  return btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
}

/**
 * A password for a Shadowsocks method: the key itself for 2022 methods, else text with as much randomness as the
 * method's key has.
 *
 * @param fresh Where the bytes come from.
 * @throws {RangeError} When the method is not known or has no password.
 */
export function generateShadowsocksPassword(
  method: string,
  fresh: (count: number) => Uint8Array = secureRandom.bytes,
): string {
  const known: readonly string[] = METHODS;
  if (!known.includes(method) || method === "none") {
    const near = nearest(method, known);
    const expected = near === undefined ? `one of ${known.join(", ")}` : JSON.stringify(near);
    throw new RangeError(
      `Cannot make a password: ${JSON.stringify(method)} takes none, expected ${expected}`,
    );
  }
  const own = /-(128|192|256)-/.exec(`${method}-`)?.[1];
  const bytes = keyBytesOf(method) ?? (own === undefined ? 32 : Number(own) / 8);
  return generateRandom(bytes, "base64", fresh);
}

/** An X25519 key pair in base64, as WireGuard writes it. */
export function generateWireguardKeys(): KeyPair {
  const { privateKey, publicKey } = generateRealityKeys();
  const base64 = (text: string): string => `${text.replace(/-/g, "+").replace(/_/g, "/")}=`;
  return { privateKey: base64(privateKey), publicKey: base64(publicKey) };
}

/** An X25519 key pair in base64url without padding, as REALITY writes it. */
export function generateRealityKeys(): KeyPair {
  const { privateKey } = generateKeyPairSync("x25519");
  // A private key's JWK holds both halves (RFC 8037 §2).
  const { d, x } = privateKey.export({ format: "jwk" });
  return { privateKey: d!, publicKey: x! };
}

/**
 * The lines that `generate` prints.
 *
 * @param words What to make, then what it needs: `rand --base64 16`, `ss-password METHOD`.
 * @throws {RangeError} When it is not known, not supported by this build, or what it needs is wrong.
 */
export function generate(words: readonly string[]): readonly string[] {
  const [what = "", ...rest] = words;
  const pair = ({ privateKey, publicKey }: KeyPair): readonly string[] => [
    `PrivateKey: ${privateKey}`,
    `PublicKey: ${publicKey}`,
  ];
  switch (what) {
    case "uuid":
      return [generateUuid()];
    case "rand":
      return [randomOf(rest)];
    case "ss-password":
      return [generateShadowsocksPassword(rest[0] ?? "")];
    case "wg-keypair":
      return pair(generateWireguardKeys());
    case "reality-keypair":
      return pair(generateRealityKeys());
  }
  if (Object.hasOwn(MISSING, what)) {
    throw new RangeError(
      `Cannot generate ${JSON.stringify(what)}: not supported by this build: ${MISSING[what]}`,
    );
  }
  throw new RangeError(
    `Cannot generate ${JSON.stringify(what)}: expected one of ${GENERATORS.join(", ")}`,
  );
}

function randomOf(words: readonly string[]): string {
  const encoding = words.includes("--hex") ? "hex" : "base64";
  const [count = "", ...more] = words.filter((word) => !word.startsWith("--"));
  const flags = words.filter((word) => word.startsWith("--"));
  const known = flags.every((flag) => flag === "--hex" || flag === "--base64");
  if (!known || flags.length > 1 || more.length > 0 || !/^\d{1,6}$/.test(count)) {
    throw new RangeError('Cannot generate "rand": expected [--base64|--hex] and a number of bytes');
  }
  return generateRandom(Number(count), encoding);
}
