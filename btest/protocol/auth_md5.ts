/**
 * The MD5 challenge of RouterOS before 6.43: the server sends 16 random bytes, the client answers with 48.
 *
 * ```
 *  0                        16                              48
 *  +------------------------+-------------------------------+
 *  | MD5(pw ‖ MD5(pw ‖ ch)) | user, UTF-8, zeros to the end |
 *  +------------------------+-------------------------------+
 * ```
 *
 * @module
 */

import { bytesOf } from "../../internal/check.ts";
import { md5 } from "@noble/hashes/legacy.js";
import { equalBytes, joinBytes } from "./octets.ts";

/** Bytes of the challenge. */
export const MD5_CHALLENGE_BYTES = 16;
/** Bytes of the answer. */
export const MD5_ANSWER_BYTES = 48;
/** Bytes of a user name that fit the answer; a name of exactly as many has no terminator. */
export const MD5_USER_BYTES = 32;

/**
 * Makes the 48 bytes that answer a challenge.
 *
 * @param user Cut to 32 bytes of UTF-8, between characters.
 * @param password UTF-8; may be empty.
 * @param challenge 16 bytes.
 * @throws {RangeError} When the challenge has another length.
 *
 * @example
 * ```ts
 * import { checkMd5Answer, encodeMd5Answer, readMd5User } from "@fastwire/net/btest/protocol";
 * import { equal } from "node:assert/strict";
 *
 * const challenge = new Uint8Array(16);
 * const answer = encodeMd5Answer("admin", "secret", challenge);
 * equal(readMd5User(answer, 0), "admin");
 * equal(checkMd5Answer(answer, 0, new TextEncoder().encode("secret"), challenge), true);
 * ```
 */
export function encodeMd5Answer(
  user: string,
  password: string,
  challenge: Uint8Array,
): Uint8Array<ArrayBuffer> {
  bytesOf(challenge, "MD5 challenge", MD5_CHALLENGE_BYTES);
  const answer = new Uint8Array(MD5_ANSWER_BYTES);
  answer.set(digest(textEncoder.encode(password), challenge));
  textEncoder.encodeInto(user, answer.subarray(MD5_CHALLENGE_BYTES));
  return answer;
}

/** Reads the user name of an answer; bytes that are not UTF-8 are replaced. */
export function readMd5User(bytes: Uint8Array, start: number): string {
  const from = start + MD5_CHALLENGE_BYTES;
  const limit = from + MD5_USER_BYTES;
  let end = from;
  while (end < limit && bytes[end] !== 0) end++;
  return textDecoder.decode(bytes.subarray(from, end));
}

/**
 * Says whether an answer proves a password. Takes the same time whatever differs.
 *
 * @param bytes Buffer with the answer's 48 bytes at `start`.
 * @param password The secret; for an unknown user give random bytes, so that time does not tell.
 * @param challenge The 16 bytes that were sent.
 */
export function checkMd5Answer(
  bytes: Uint8Array,
  start: number,
  password: Uint8Array,
  challenge: Uint8Array,
): boolean {
  const answer = bytes.subarray(start, start + MD5_CHALLENGE_BYTES);
  return equalBytes(answer, digest(password, challenge));
}

function digest(password: Uint8Array, challenge: Uint8Array): Uint8Array {
  return md5(joinBytes(password, md5(joinBytes(password, challenge))));
}

const textEncoder = new TextEncoder();
const textDecoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });
