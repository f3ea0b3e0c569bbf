/**
 * Authenticated encryption, and single blocks of AES: the contract, and the choice of who computes it.
 *
 * Everything is synchronous, in place and by position, because it stands between a receive and a send. Three drivers:
 * `linux` calls the system's libcrypto, with the key schedule kept between calls; `node` is `node:crypto`; `noble` is
 * plain TypeScript and has every method. All pass `aead_contract_test.ts`, which holds the published vectors.
 *
 * @module
 */
import type { Driver } from "./datagram.ts";
import { CapabilityError } from "../internal/errors.ts";
import { resolveDriver } from "./capabilities.ts";

/**
 * A method: AES in Galois/Counter mode (NIST SP 800-38D), ChaCha20-Poly1305 (RFC 8439) and its form with a longer nonce
 * (draft-irtf-cfrg-xchacha-03).
 */
export type AeadMethod =
  | "aes-128-gcm"
  | "aes-192-gcm"
  | "aes-256-gcm"
  | "chacha20-poly1305"
  | "xchacha20-poly1305";

/** Bytes of key and nonce of each method. The tag is 16 bytes long with all of them. */
export const AEAD_SIZES: Readonly<
  Record<AeadMethod, { readonly keyBytes: 16 | 24 | 32; readonly nonceBytes: 12 | 24 }>
> = Object.freeze({
  "aes-128-gcm": { keyBytes: 16, nonceBytes: 12 },
  "aes-192-gcm": { keyBytes: 24, nonceBytes: 12 },
  "aes-256-gcm": { keyBytes: 32, nonceBytes: 12 },
  "chacha20-poly1305": { keyBytes: 32, nonceBytes: 12 },
  "xchacha20-poly1305": { keyBytes: 32, nonceBytes: 24 },
});

/** Bytes of the tag behind what was sealed. */
export const TAG_BYTES = 16;

/** One key of one method. Its memory is the C library's with some drivers: {@linkcode Aead.close} gives it back. */
export interface Aead {
  /** The method. */
  readonly method: AeadMethod;
  /** Bytes of tag behind what is sealed. */
  readonly tagBytes: 16;
  /** Bytes a nonce must have. */
  readonly nonceBytes: 12 | 24;
  /**
   * Encrypts `[start, end)` in place and writes the tag to `[end, end + 16)`. A nonce must never be used twice with one
   * key.
   *
   * @param additional Bytes that the tag covers but that are not encrypted; none when absent.
   * @throws {RangeError} When range and tag are not inside `buffer`, or the nonce has another length.
   * @throws {TypeError} After {@linkcode close}.
   */
  seal(
    nonce: Uint8Array,
    buffer: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    additional?: Uint8Array,
  ): void;
  /**
   * Checks the tag in `[end − 16, end)` and decrypts `[start, end − 16)` in place.
   *
   * @param additional As for {@linkcode seal}.
   * @returns False when the tag is wrong or `[start, end)` is shorter than one; the range then holds nothing that may be
   * looked at.
   * @throws {RangeError} As {@linkcode seal}. @throws {TypeError} After {@linkcode close}.
   */
  open(
    nonce: Uint8Array,
    buffer: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    additional?: Uint8Array,
  ): boolean;
  /**
   * Goes on with another key, for one third of the price of a new {@linkcode Aead}: protocols with a key for each
   * datagram.
   *
   * @throws {RangeError} When the key has another length. @throws {TypeError} After {@linkcode close}.
   */
  rekey(key: Uint8Array): void;
  /** Forgets the key and frees it. Idempotent. */
  close(): void;
}

/** AES on single blocks of 16 bytes (ECB), for protocols that encrypt one block on its own. */
export interface BlockCipher {
  /** Encrypts `[offset, offset + 16)` in place. @throws {RangeError} When it is not inside `buffer`. */
  encryptBlock(buffer: Uint8Array<ArrayBuffer>, offset: number): void;
  /** Decrypts `[offset, offset + 16)` in place. @throws {RangeError} When it is not inside `buffer`. */
  decryptBlock(buffer: Uint8Array<ArrayBuffer>, offset: number): void;
  /** Forgets the key and frees it. Idempotent; the other verbs throw a `TypeError` after it. */
  close(): void;
}

/** What computes: one driver, or several with each doing what it does best. */
export interface AeadProvider {
  /** Which driver computes a method. */
  readonly drivers: Readonly<Record<AeadMethod, AeadDriver>>;
  /** Why libcrypto is not used, one plain sentence; empty when it is. */
  readonly fallbackReason: string;
  /**
   * The faster one of `aes-128-gcm` and `chacha20-poly1305` here: AES where the processor and the driver have
   * instructions for it. Measured at the first call, which takes about a millisecond.
   */
  fastestMethod(): AeadMethod;
  /** Takes a key; it is copied. @throws {RangeError} When it has another length than the method's. */
  aead(method: AeadMethod, key: Uint8Array): Aead;
  /** Takes a key of AES: 16, 24 or 32 bytes; it is copied. @throws {RangeError} For another length. */
  blockCipher(key: Uint8Array): BlockCipher;
}

/** A driver's name. */
export type AeadDriver = "linux" | "node" | "noble";

/** What a driver's file offers. `undefined`: this driver does not have the method here. @ignore */
export interface AeadSource {
  readonly name: AeadDriver;
  aead(method: AeadMethod, key: Uint8Array): Aead | undefined;
  blockCipher(key: Uint8Array): BlockCipher | undefined;
}

/** How to choose. */
export interface AeadOptions {
  /** `fast` demands libcrypto, `portable` never opens it. Default `auto`. */
  readonly driver?: Driver;
  /** Which portable driver. Default `auto`: for each method the faster one, by a measurement of a millisecond. */
  readonly portable?: "auto" | "node" | "noble";
}

/**
 * Chooses who computes. What it answers belongs to the thread that asked.
 *
 * @throws {CapabilityError} `ffi.no-libcrypto` when `fast` was demanded and there is none.
 *
 * @example
 * ```ts
 * import { openAeads } from "@fastwire/net/ffi";
 * import { equal } from "node:assert/strict";
 *
 * const aeads = await openAeads();
 * const aead = aeads.aead("aes-256-gcm", new Uint8Array(32));
 * const buffer = new Uint8Array(5 + 16), nonce = new Uint8Array(12);
 * aead.seal(nonce, buffer, 0, 5);
 * equal(aead.open(nonce, buffer, 0, 21), true);
 * buffer[0] ^= 1;
 * equal(aead.open(nonce, buffer, 0, 21), false);
 * aead.close();
 * ```
 */
export async function openAeads(options: AeadOptions = {}): Promise<AeadProvider> {
  const driver = options.driver ?? "auto";
  const portable = options.portable ?? "auto";
  const choice = resolveDriver(driver, ["ffi"]);
  let reason = choice.reason;
  if (choice.use === "fast") {
    const { linuxAeads, libcryptoRefusal } = await import("./aead_linux.ts");
    const source = linuxAeads();
    if (source !== undefined) return new Provider([source], "");
    reason = libcryptoRefusal();
    if (driver === "fast") {
      throw new CapabilityError("ffi.no-libcrypto", `Cannot encrypt with libcrypto: ${reason}`, {
        capability: "libcrypto",
        why: reason,
        remedy: 'install OpenSSL\'s libcrypto (Debian: libssl3), or use driver "portable"',
      });
    }
  }
  const sources: AeadSource[] = [];
  if (portable !== "noble") sources.push((await import("./aead_node.ts")).nodeAeads());
  if (portable !== "node" || !hasAll(sources[0]!)) {
    const { nobleAeads } = await import("./aead_noble.ts");
    sources.push(nobleAeads());
  }
  return new Provider(sources, reason);
}

class Provider implements AeadProvider {
  readonly drivers: Readonly<Record<AeadMethod, AeadDriver>>;
  readonly fallbackReason: string;
  readonly #sources: readonly AeadSource[];
  readonly #best: Readonly<Record<AeadMethod, AeadSource>>;
  #fastest: AeadMethod | undefined;

  constructor(sources: readonly AeadSource[], fallbackReason: string) {
    this.#sources = sources;
    this.fallbackReason = fallbackReason;
    const best = {} as Record<AeadMethod, AeadSource>;
    const drivers = {} as Record<AeadMethod, AeadDriver>;
    for (const method of METHODS) {
      best[method] = bestSource(method, sources);
      drivers[method] = best[method].name;
    }
    this.#best = best;
    this.drivers = Object.freeze(drivers);
  }

  fastestMethod(): AeadMethod {
    if (this.#fastest === undefined) {
      const aes = timeOf(this.#best["aes-128-gcm"], "aes-128-gcm");
      const chacha = timeOf(this.#best["chacha20-poly1305"], "chacha20-poly1305");
      this.#fastest = aes <= chacha ? "aes-128-gcm" : "chacha20-poly1305";
    }
    return this.#fastest;
  }

  aead(method: AeadMethod, key: Uint8Array): Aead {
    checkKey(method, key);
    return this.#best[method].aead(method, key)!;
  }

  blockCipher(key: Uint8Array): BlockCipher {
    if (key.length !== 16 && key.length !== 24 && key.length !== 32) {
      throw new RangeError(`Cannot use a key of ${key.length} bytes: expected 16, 24 or 32`);
    }
    for (const source of this.#sources) {
      const cipher = source.blockCipher(key);
      if (cipher !== undefined) return cipher;
    }
    throw new CapabilityError("ffi.no-cipher", "Cannot encrypt blocks: no driver has AES", {
      capability: "aes-ecb",
      why: "this build of libcrypto leaves AES-ECB out",
      remedy: 'use driver "portable"',
    });
  }
}

/** The fastest source of a method. Measured only where there is a choice. */
function bestSource(method: AeadMethod, sources: readonly AeadSource[]): AeadSource {
  let best: AeadSource | undefined;
  let least = Infinity;
  for (const source of sources) {
    const time = sources.length === 1 ? 0 : timeOf(source, method);
    if (best === undefined || time < least) [best, least] = [source, time];
  }
  return best!;
}

/** Milliseconds one seal of 2 KiB takes, the better one of a few; `Infinity` where the source lacks the method. */
function timeOf(source: AeadSource, method: AeadMethod): number {
  const { keyBytes, nonceBytes } = AEAD_SIZES[method];
  const aead = source.aead(method, new Uint8Array(keyBytes));
  if (aead === undefined) return Infinity;
  const buffer = new Uint8Array(new ArrayBuffer(2048 + TAG_BYTES));
  const nonce = new Uint8Array(nonceBytes);
  let best = Infinity;
  const begin = performance.now();
  for (let i = 0; i < 4; i++) {
    const start = performance.now();
    aead.seal(nonce, buffer, 0, 2048);
    const now = performance.now();
    // Not the first: it compiles.
    if (i > 0) best = Math.min(best, now - start);
    if (now - begin > MEASURE_MS && i > 0) break;
  }
  aead.close();
  return best;
}

function hasAll(source: AeadSource): boolean {
  return METHODS.every((method) => {
    const aead = source.aead(method, new Uint8Array(AEAD_SIZES[method].keyBytes));
    aead?.close();
    return aead !== undefined;
  });
}

/** Checks a key's length. For drivers. @throws {RangeError} @ignore */
export function checkKey(method: AeadMethod, key: Uint8Array): void {
  const { keyBytes } = AEAD_SIZES[method];
  if (key.length !== keyBytes) {
    throw new RangeError(
      `Cannot use a key of ${key.length} bytes: expected ${keyBytes} for ${method}`,
    );
  }
}

/** Checks what a verb was given; `last` is where its last byte ends. For drivers. @throws {RangeError} @ignore */
export function checkCall(
  nonceBytes: number,
  nonce: Uint8Array,
  buffer: Uint8Array,
  start: number,
  end: number,
  last: number,
): void {
  if (nonce.length !== nonceBytes) {
    throw new RangeError(
      `Cannot use a nonce of ${nonce.length} bytes: expected ${nonceBytes}`,
    );
  }
  if (
    !(start >= 0 && start <= end && last <= buffer.length) ||
    !Number.isInteger(start) || !Number.isInteger(end)
  ) {
    throw new RangeError(
      `Cannot use bytes ${start} to ${last}: expected a range inside ${buffer.length} bytes`,
    );
  }
}

/** Checks where a block is. For drivers. @throws {RangeError} @ignore */
export function checkBlock(buffer: Uint8Array, offset: number): void {
  if (!(offset >= 0 && offset + 16 <= buffer.length) || !Number.isInteger(offset)) {
    throw new RangeError(
      `Cannot use a block at ${offset}: expected one inside ${buffer.length} bytes`,
    );
  }
}

/** For a `TypeError` after `close`. @ignore */
export const CLOSED = "Cannot use a key: it was closed";

const METHODS = Object.keys(AEAD_SIZES) as AeadMethod[];
/** A measurement of one source and method ends after this many milliseconds. */
const MEASURE_MS = 0.5;
