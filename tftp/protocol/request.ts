/**
 * Requests and lists of options.
 *
 * ```
 *  0      2
 *  +------+------------+---+--------+---+---------+---+---------+---+
 *  | 1, 2 |  filename  | 0 |  mode  | 0 |  name   | 0 |  value  | 0 | …    RFC 1350 §5, RFC 2347
 *  +------+------------+---+--------+---+---------+---+---------+---+
 * ```
 *
 * @module
 */

import { MAX_ACCEPTED_REQUEST_BYTES, MAX_REQUEST_BYTES, RRQ, WRQ } from "./opcodes.ts";
import {
  REJECT_BAD_LENGTH,
  REJECT_BAD_OPCODE,
  REJECT_EMPTY_FILENAME,
  REJECT_FILENAME_TOO_LONG,
  REJECT_NO_ROOM,
  REJECT_TOO_LONG,
  REJECT_UNTERMINATED,
  writePairs,
} from "./packet.ts";

/** An option on the wire: its name in lower case, its value as it was sent. */
export type OptionPair = readonly [name: string, value: string];

/** A request as it arrived. */
export interface TftpRequest {
  /** RRQ or WRQ. */
  readonly operation: "read" | "write";
  /** For people: UTF-8 where the bytes are UTF-8, otherwise every byte above 0x7e as `\xNN`. */
  readonly filename: string;
  /** For the file system: the bytes, copied; never empty, never with a zero, at most 1,024. */
  readonly filenameBytes: Uint8Array<ArrayBuffer>;
  /** Compared without regard to case. `mail` and `unknown` are to be refused with ERROR 4. */
  readonly mode: "octet" | "netascii" | "mail" | "unknown";
  /** The mode as it was written, at most 32 characters. */
  readonly modeText: string;
  /** In the order of the request; of a name that comes twice only the first. */
  readonly options: readonly OptionPair[];
}

/** What {@linkcode encodeRequest} needs. */
export interface RequestFields {
  /** RRQ or WRQ. */
  readonly operation: "read" | "write";
  /** Text is sent as UTF-8, bytes as they are. */
  readonly filename: string | Uint8Array;
  /** How the file travels. */
  readonly mode: "octet" | "netascii";
  /** In this order, as `requestOptions()` answers them. */
  readonly options: readonly OptionPair[];
}

/** Longest filename that is taken, bytes. */
export const MAX_FILENAME_BYTES = 1024;
/** Longest component of a filename that is taken, bytes: the limit of every file system in use. */
export const MAX_COMPONENT_BYTES = 255;

/**
 * Reads a request. Never throws for anything in the bytes.
 *
 * An odd or truncated end of the option list is dropped at the last complete pair: real firmware sends garbage behind
 * its request. Up to 1,500 bytes are taken although RFC 2347 allows 512.
 *
 * @returns The request, frozen, or one of the negative `REJECT_…` reasons.
 *
 * @example
 * ```ts
 * import { decodeRequest, encodeRequest } from "@fastwire/net/tftp/protocol";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const bytes = new Uint8Array(512);
 * const end = encodeRequest(bytes, 0, {
 *   operation: "read",
 *   filename: "boot.ipxe",
 *   mode: "octet",
 *   options: [["blksize", "1432"]],
 * });
 * const request = decodeRequest(bytes, 0, end);
 * if (typeof request === "number") throw new Error("rejected");
 * equal(request.filename, "boot.ipxe");
 * deepEqual(request.options, [["blksize", "1432"]]);
 * ```
 */
export function decodeRequest(bytes: Uint8Array, start: number, end: number): TftpRequest | number {
  if (end - start < 4) return REJECT_BAD_LENGTH;
  if (end - start > MAX_ACCEPTED_REQUEST_BYTES) return REJECT_TOO_LONG;
  const opcode = bytes[start]! << 8 | bytes[start + 1]!;
  if (opcode !== RRQ && opcode !== WRQ) return REJECT_BAD_OPCODE;
  const nameStart = start + 2;
  const nameEnd = zeroIn(bytes, nameStart, end);
  if (nameEnd < 0) return REJECT_UNTERMINATED;
  if (nameEnd === nameStart) return REJECT_EMPTY_FILENAME;
  if (!isFilenameShort(bytes, nameStart, nameEnd)) return REJECT_FILENAME_TOO_LONG;
  const modeStart = nameEnd + 1;
  const modeEnd = zeroIn(bytes, modeStart, end);
  if (modeEnd < 0) return REJECT_UNTERMINATED;
  const filenameBytes = bytes.slice(nameStart, nameEnd) as Uint8Array<ArrayBuffer>;
  const modeText = latin1(bytes, modeStart, Math.min(modeEnd, modeStart + 32));
  return Object.freeze({
    operation: opcode === RRQ ? "read" : "write",
    filename: filenameText(filenameBytes),
    filenameBytes,
    mode: modeEnd - modeStart > 32 ? "unknown" : modeOf(modeText.toLowerCase()),
    modeText: printable(modeText),
    options: readPairs(bytes, modeEnd + 1, end),
  });
}

/**
 * Writes a request of at most 512 bytes (RFC 2347).
 *
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM} when it is longer than 512 bytes or than the buffer.
 * @throws {RangeError} When the filename is empty or holds a zero, or an option cannot be carried.
 */
export function encodeRequest(bytes: Uint8Array, start: number, request: RequestFields): number {
  const name = typeof request.filename === "string"
    ? new TextEncoder().encode(request.filename)
    : request.filename;
  if (name.length === 0) throw new RangeError('Cannot encode a request: the filename is ""');
  if (name.includes(0)) {
    throw new RangeError("Cannot encode a request: the filename holds a zero byte");
  }
  const limit = Math.min(bytes.length, start + MAX_REQUEST_BYTES);
  let at = start + 2;
  if (at + name.length + 1 + request.mode.length + 1 > limit) return REJECT_NO_ROOM;
  bytes[start] = 0;
  bytes[start + 1] = request.operation === "read" ? RRQ : WRQ;
  bytes.set(name, at);
  at += name.length;
  bytes[at++] = 0;
  for (let i = 0; i < request.mode.length; i++) bytes[at++] = request.mode.charCodeAt(i);
  bytes[at++] = 0;
  return writePairs(bytes.subarray(0, limit), at, request.options);
}

/**
 * Reads the pairs of a packet that was classified as OACK; garbage behind the last complete pair is dropped, and of a
 * name that comes twice only the first is kept.
 */
export function decodeOptionsAck(
  bytes: Uint8Array,
  start: number,
  end: number,
): readonly OptionPair[] {
  return readPairs(bytes, start + 2, Math.min(end, start + MAX_ACCEPTED_REQUEST_BYTES));
}

function readPairs(bytes: Uint8Array, start: number, end: number): readonly OptionPair[] {
  const pairs: OptionPair[] = [];
  let at = start;
  while (at < end) {
    const nameEnd = zeroIn(bytes, at, end);
    if (nameEnd < 0) break;
    const valueEnd = zeroIn(bytes, nameEnd + 1, end);
    if (valueEnd < 0) break;
    const name = latin1(bytes, at, nameEnd).toLowerCase();
    // A list of 1,500 bytes holds at most 500 names; a peer that sends them costs 125,000 comparisons, once.
    if (name !== "" && !pairs.some((pair) => pair[0] === name)) {
      pairs.push(Object.freeze([name, latin1(bytes, nameEnd + 1, valueEnd)] as const));
    }
    at = valueEnd + 1;
  }
  return Object.freeze(pairs);
}

function zeroIn(bytes: Uint8Array, start: number, end: number): number {
  for (let at = start; at < end; at++) if (bytes[at] === 0) return at;
  return -1;
}

function isFilenameShort(bytes: Uint8Array, start: number, end: number): boolean {
  if (end - start > MAX_FILENAME_BYTES) return false;
  let from = start;
  for (let at = start; at < end; at++) {
    // Both separators: whether a backslash separates is decided later, by policy.
    if (bytes[at] === 0x2f || bytes[at] === 0x5c) from = at + 1;
    else if (at - from >= MAX_COMPONENT_BYTES) return false;
  }
  return true;
}

function latin1(bytes: Uint8Array, start: number, end: number): string {
  let text = "";
  for (let at = start; at < end; at++) text += String.fromCharCode(bytes[at]!);
  return text;
}

function modeOf(mode: string): TftpRequest["mode"] {
  return mode === "octet" || mode === "netascii" || mode === "mail" ? mode : "unknown";
}

function filenameText(name: Uint8Array): string {
  try {
    return printable(new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(name));
  } catch {
    return latin1(name, 0, name.length).replace(/[^\u0020-\u007e]/g, escapeCharacter);
  }
}

/** Control characters as `\xNN`: what a peer writes must not move the cursor of who reads the log. */
function printable(text: string): string {
  // deno-lint-ignore no-control-regex -- they are what is to be made visible
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, escapeCharacter);
}

function escapeCharacter(character: string): string {
  const code = character.charCodeAt(0);
  return code < 256
    ? "\\x" + code.toString(16).padStart(2, "0")
    : "\\u" + code.toString(16).padStart(4, "0");
}
