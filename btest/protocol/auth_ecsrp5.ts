/**
 * EC-SRP5, the password proof of RouterOS since 6.43, as two step machines. The password never crosses the wire and the
 * server does not have it: it keeps a salt and a point.
 *
 * ```
 *      client                                          server
 *   1  len | user | 00 | W_a 32 | parity  ──────────►
 *   2                                     ◄──────────  31 | W_b 32 | parity | salt 16
 *   3  20 | client proof 32               ──────────►
 *   4                                     ◄──────────  20 | server proof 32, or the connection is closed
 * ```
 *
 * Both are driven the same way: call `step()` with the bytes at hand until it says that it needs more or is done, and
 * take `consumed` bytes away after each call. Bytes behind the last message belong to the next layer.
 *
 * @module
 */

import { bytesOf } from "../../internal/check.ts";
import { bytesToHex, bytesToNumberBE } from "@noble/curves/utils.js";
import { hmac } from "@noble/hashes/hmac.js";
import { sha256 } from "@noble/hashes/sha2.js";
import {
  addInSubgroup,
  encodePoint,
  GROUP_ORDER,
  hashToPoint,
  isInSubgroup,
  liftBytes,
  multiplyBase,
  multiplyTwo,
  type Point,
  POINT_BYTES,
  toScalar,
} from "./curve.ts";
import { equalBytes, joinBytes } from "./octets.ts";

/** Bytes of a salt. */
export const SALT_BYTES = 16;
/** Bytes of the secret scalar each side draws for one login. */
export const SECRET_BYTES = 32;
/** Longest user name, bytes of UTF-8: what the one length byte leaves. */
export const MAX_USER_BYTES = 221;

/** What a server keeps of a password. Not the password, but as good as it for a server that pretends. */
export interface Verifier {
  /** 16 bytes, drawn when the password was set; the same at every login. */
  readonly salt: Uint8Array;
  /** The point of the password: 32 bytes and its parity. */
  readonly gamma: Uint8Array;
}

/** What a step machine says. */
export type AuthStep =
  /** It waits until this many bytes are at hand; nothing was consumed. */
  | { readonly kind: "need"; readonly bytes: number }
  /** Send these bytes and go on. */
  | { readonly kind: "write"; readonly bytes: Uint8Array<ArrayBuffer>; readonly consumed: number }
  /** Server: look this user up, call `verify()`, and go on. */
  | { readonly kind: "user"; readonly user: string; readonly consumed: number }
  /** The exchange is over; every later step says the same. */
  | { readonly kind: "done"; readonly outcome: AuthOutcome; readonly consumed: number };

/** How an exchange ended. */
export type AuthOutcome =
  /** The peer knows the password, or the verifier of it. */
  | "proved"
  /** Server: wrong user or wrong password; nobody may tell which. Client: the server is an impostor. */
  | "failed"
  /** The peer broke the protocol. */
  | "malformed";

/**
 * Makes what a server keeps of a password.
 *
 * @param user 1 to 221 bytes of UTF-8 without zeros.
 * @param password UTF-8; may be empty.
 * @param salt 16 fresh random bytes.
 * @throws {RangeError} When the user name or the salt cannot be carried.
 *
 * @example
 * ```ts
 * import { createVerifier } from "@fastwire/net/btest/protocol";
 * import { equal } from "node:assert/strict";
 *
 * const salt = crypto.getRandomValues(new Uint8Array(16));
 * equal(createVerifier("admin", "secret", salt).gamma.length, 33);
 * ```
 */
export function createVerifier(user: string, password: string, salt: Uint8Array): Verifier {
  encodeUser(user);
  bytesOf(salt, "salt", SALT_BYTES);
  const gamma = encodePoint(multiplyBase(passwordScalar(user, password, salt)));
  return Object.freeze({ salt: Uint8Array.from(salt), gamma });
}

/** What unknown users are checked against, so that they look like known ones. Made once per server. */
export class Decoy {
  readonly #secret: Uint8Array;
  readonly #gammas: readonly Uint8Array[];

  /**
   * Takes the server's secret. Costs about 20 ms, so that no login costs more for being one of an unknown user.
   *
   * @param secret 32 random bytes that stay the same while the server runs, better for ever: the salt that an unknown
   * user is shown is made of them.
   * @throws {RangeError} When it has another length.
   */
  constructor(secret: Uint8Array) {
    this.#secret = Uint8Array.from(bytesOf(secret, "decoy secret", SECRET_BYTES));
    // Nobody sees these points: message 2 hides them behind a fresh one. But hashing a point takes one round for some
    // and four for others, always the same for one user. With a single point here, a user who takes another time than
    // the unknown ones would be known to exist.
    this.#gammas = Array.from({ length: DECOY_POINTS }, (_, index) => {
      const label = joinBytes(DECOY_LABEL, [index]);
      return encodePoint(multiplyBase(toScalar(hmac(sha256, this.#secret, label))));
    });
  }

  /** The verifier of a user that does not exist: the same one each time. */
  verifier(user: string): Verifier {
    const digest = hmac(sha256, this.#secret, textEncoder.encode(user));
    const gamma = this.#gammas[digest[SALT_BYTES]! % DECOY_POINTS]!;
    return { salt: digest.slice(0, SALT_BYTES), gamma };
  }
}

/** The side that knows the password. */
export class EcSrp5Client {
  readonly #user: Uint8Array;
  readonly #name: string;
  readonly #password: string;
  readonly #secret: bigint;
  readonly #own: Uint8Array<ArrayBuffer>;
  #state: "opening" | "challenge" | "proof" | AuthOutcome = "opening";
  #expected: Uint8Array = new Uint8Array(0);

  /**
   * Prepares a login.
   *
   * @param user 1 to 221 bytes of UTF-8 without zeros.
   * @param password UTF-8; may be empty.
   * @param secret 32 fresh random bytes.
   * @throws {RangeError} When one of them cannot be used.
   */
  constructor(user: string, password: string, secret: Uint8Array) {
    this.#name = user;
    this.#user = encodeUser(user);
    this.#password = password;
    this.#secret = secretScalar(secret);
    this.#own = encodePoint(multiplyBase(this.#secret));
  }

  /** Goes on with the bytes in `[start, end)`. The first call writes message 1 and needs none. */
  step(bytes: Uint8Array, start: number, end: number): AuthStep {
    switch (this.#state) {
      case "opening": {
        this.#state = "challenge";
        const length = this.#user.length + 1 + POINT_BYTES + 1;
        const message = joinBytes([length], this.#user, ZERO, this.#own);
        return { kind: "write", bytes: message, consumed: 0 };
      }
      case "challenge": {
        const need = missing(bytes, start, end, CHALLENGE_BYTES);
        if (need !== undefined) return need;
        if (bytes[start] !== CHALLENGE_BYTES) return this.#finish("malformed", 0);
        const proof = this.#prove(bytes.slice(start + 1, start + 1 + CHALLENGE_BYTES));
        if (proof === undefined) return this.#finish("malformed", 1 + CHALLENGE_BYTES);
        this.#state = "proof";
        return { kind: "write", bytes: proof, consumed: 1 + CHALLENGE_BYTES };
      }
      case "proof": {
        const need = missing(bytes, start, end, PROOF_BYTES);
        if (need !== undefined) return need;
        if (bytes[start] !== PROOF_BYTES) return this.#finish("malformed", 0);
        const proof = bytes.subarray(start + 1, start + 1 + PROOF_BYTES);
        const proved = equalBytes(proof, this.#expected);
        return this.#finish(proved ? "proved" : "failed", 1 + PROOF_BYTES);
      }
      default:
        return { kind: "done", outcome: this.#state, consumed: 0 };
    }
  }

  #prove(challenge: Uint8Array): Uint8Array<ArrayBuffer> | undefined {
    const peerX = challenge.subarray(0, POINT_BYTES);
    const peer = liftBytes(peerX, challenge[POINT_BYTES]!);
    if (peer === undefined) return undefined;
    const salt = challenge.subarray(POINT_BYTES + 1);
    const i = passwordScalar(this.#name, this.#password, salt);
    const gamma = encodePoint(multiplyBase(i));
    // An honest W_b is outside the subgroup, but the sum is s_b·G. When it is not in the subgroup, the password is wrong
    // or the peer hostile: then the proof is made of our own point, wrong and telling nothing.
    const sum = addInSubgroup(peer, hashToPoint(gamma.subarray(0, POINT_BYTES), 1));
    const j = sha256(joinBytes(this.#own.subarray(0, POINT_BYTES), peerX));
    const scalar = (i * toScalar(j) + this.#secret) % GROUP_ORDER;
    if (scalar === 0n) return undefined;
    const shared = sum === undefined ? multiplyBase(scalar) : sum.multiply(scalar);
    const z = encodePoint(shared).subarray(0, POINT_BYTES);
    const proof = sha256(joinBytes(j, z));
    this.#expected = sha256(joinBytes(j, proof, z));
    return joinBytes([PROOF_BYTES], proof);
  }

  #finish(outcome: AuthOutcome, consumed: number): AuthStep {
    this.#state = outcome;
    return { kind: "done", outcome, consumed };
  }
}

/** The side that knows the verifier. */
export class EcSrp5Server {
  readonly #secret: bigint;
  readonly #decoy: Decoy;
  #state: "user" | "verifier" | "challenge" | "proof" | "answer" | AuthOutcome = "user";
  #user = "";
  #peer: Point | undefined;
  #peerX: Uint8Array = new Uint8Array(0);
  #gamma: Point | undefined;
  #message: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  #known = false;

  /**
   * Prepares for one login.
   *
   * @param secret 32 fresh random bytes.
   * @param decoy What stands for users that do not exist.
   * @throws {RangeError} When the secret cannot be used.
   */
  constructor(secret: Uint8Array, decoy: Decoy) {
    this.#secret = secretScalar(secret);
    this.#decoy = decoy;
  }

  /** Goes on with the bytes in `[start, end)`. */
  step(bytes: Uint8Array, start: number, end: number): AuthStep {
    switch (this.#state) {
      case "user": {
        if (end - start < 1) return { kind: "need", bytes: 1 };
        const length = bytes[start]!;
        // Said at once: a length that cannot be is not worth waiting for.
        if (length < MIN_OPENING_BYTES) return this.#finish("malformed", 1);
        const need = missing(bytes, start, end, length);
        if (need !== undefined) return need;
        if (!this.#readOpening(bytes.slice(start + 1, start + 1 + length))) {
          return this.#finish("malformed", 1 + length);
        }
        this.#state = "verifier";
        return { kind: "user", user: this.#user, consumed: 1 + length };
      }
      case "verifier":
        return { kind: "user", user: this.#user, consumed: 0 };
      case "challenge":
        this.#state = "proof";
        return { kind: "write", bytes: this.#message, consumed: 0 };
      case "proof": {
        const need = missing(bytes, start, end, PROOF_BYTES);
        if (need !== undefined) return need;
        if (bytes[start] !== PROOF_BYTES) return this.#finish("malformed", 1);
        const proof = bytes.subarray(start + 1, start + 1 + PROOF_BYTES);
        if (!this.#check(proof)) return this.#finish("failed", 1 + PROOF_BYTES);
        this.#state = "answer";
        return { kind: "write", bytes: this.#message, consumed: 1 + PROOF_BYTES };
      }
      case "answer":
        return this.#finish("proved", 0);
      default:
        return { kind: "done", outcome: this.#state, consumed: 0 };
    }
  }

  /**
   * Says what is kept of the user that `step()` named. Does the same work either way.
   *
   * @param verifier Undefined when there is no such user, or none who may enter.
   * @throws {RangeError} When the verifier is not one that `createVerifier()` made.
   */
  verify(verifier: Verifier | undefined): void {
    if (this.#state !== "verifier") return;
    const decoy = this.#decoy.verifier(this.#user);
    const { salt, gamma } = verifier ?? decoy;
    bytesOf(salt, "salt", SALT_BYTES);
    bytesOf(gamma, "verifier point", POINT_BYTES + 1);
    this.#known = verifier !== undefined;
    const x = gamma.subarray(0, POINT_BYTES);
    // The true point, with its own parity: taken with a fixed one, half of all salts would fail.
    this.#gamma = liftBytes(x, gamma[POINT_BYTES]!);
    if (this.#gamma === undefined) {
      throw new RangeError("Cannot use the verifier: its point is not on the curve");
    }
    const own = encodePoint(multiplyBase(this.#secret).add(hashToPoint(x, 0)));
    this.#message = joinBytes([CHALLENGE_BYTES], own, salt);
    this.#state = "challenge";
  }

  #readOpening(message: Uint8Array): boolean {
    const userBytes = message.length - POINT_BYTES - 2;
    if (message.indexOf(0) !== userBytes) return false;
    this.#peerX = message.subarray(userBytes + 1, userBytes + 1 + POINT_BYTES);
    const peer = liftBytes(this.#peerX, message[message.length - 1]!);
    // A point outside the subgroup would leave three bits of s_b to be guessed from the answer.
    if (peer === undefined || !isInSubgroup(peer)) return false;
    this.#peer = peer;
    this.#user = textDecoder.decode(message.subarray(0, userBytes));
    return true;
  }

  #check(proof: Uint8Array): boolean {
    const ownX = this.#message.subarray(1, 1 + POINT_BYTES);
    const j = sha256(joinBytes(this.#peerX, ownX));
    // s_b·(W_a + j·gamma) in one pass over two scalars: s_b is used for this one product and never again.
    const second = this.#secret * bytesToNumberBE(j) % GROUP_ORDER;
    const product = multiplyTwo(this.#peer!, this.#secret, this.#gamma!, second);
    // Infinity: the client chose W_a = −j·gamma, which takes the password's verifier and a broken hash.
    if (product.is0()) return false;
    const z = encodePoint(product).subarray(0, POINT_BYTES);
    const expected = sha256(joinBytes(j, z));
    this.#message = joinBytes([PROOF_BYTES], sha256(joinBytes(j, expected, z)));
    // Both are looked at, always.
    const proved = equalBytes(proof, expected);
    return this.#known && proved;
  }

  #finish(outcome: AuthOutcome, consumed: number): AuthStep {
    this.#state = outcome;
    return { kind: "done", outcome, consumed };
  }
}

/** What is still missing of a message of `length` bytes behind its length byte, or nothing. */
function missing(
  bytes: Uint8Array,
  start: number,
  end: number,
  length: number,
): AuthStep | undefined {
  if (end - start >= 1 + length) return undefined;
  // The length alone is asked for first: a wrong one is said before bytes are waited for that never come.
  if (end === start) return { kind: "need", bytes: 1 };
  return bytes[start] === length ? { kind: "need", bytes: 1 + length } : undefined;
}

/**
 * SHA-256 of `user:password` in 64 hexadecimal digits, as older tools keep it: for importing their users, and for nothing
 * else. Whoever has it can log in.
 *
 * @example
 * ```ts
 * import { hashPassword } from "@fastwire/net/btest/protocol";
 * import { equal } from "node:assert/strict";
 *
 * equal(hashPassword("admin", "secret").length, 64);
 * ```
 */
export function hashPassword(user: string, password: string): string {
  return bytesToHex(innerHash(user, password));
}

function innerHash(user: string, password: string): Uint8Array {
  return sha256(textEncoder.encode(`${user}:${password}`));
}

function passwordScalar(user: string, password: string, salt: Uint8Array): bigint {
  return toScalar(sha256(joinBytes(salt, innerHash(user, password))));
}

function secretScalar(secret: Uint8Array): bigint {
  const scalar = toScalar(bytesOf(secret, "login secret", SECRET_BYTES));
  if (scalar === 0n) {
    throw new RangeError("Cannot use 0 as login secret: expected 32 fresh random bytes");
  }
  return scalar;
}

function encodeUser(user: string): Uint8Array {
  const bytes = textEncoder.encode(user);
  if (bytes.length < 1 || bytes.length > MAX_USER_BYTES || bytes.includes(0)) {
    throw new RangeError(
      `Cannot use a user name of ${bytes.length} bytes: expected 1 to ${MAX_USER_BYTES} without zeros`,
    );
  }
  return bytes;
}

const textEncoder = new TextEncoder();
const textDecoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });

const ZERO: Uint8Array = new Uint8Array(1);
/** W_b, parity and salt. */
const CHALLENGE_BYTES = POINT_BYTES + 1 + SALT_BYTES;
const PROOF_BYTES = 32;
/** One byte of user, its terminator, W_a and parity. */
const MIN_OPENING_BYTES = 1 + 1 + POINT_BYTES + 1;
const DECOY_POINTS = 64;
/** No user name begins with a zero, so no salt is made of the same bytes as a point. */
const DECOY_LABEL: Uint8Array = new TextEncoder().encode("\0fastwire btest decoy");
