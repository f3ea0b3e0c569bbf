/**
 * The packets of TFTP, by position in a buffer. Nothing on the DATA and ACK path allocates or throws.
 *
 * ```
 *  0      2          4
 *  +------+----------+----------------+
 *  |  3   |  block   |  data 0…size   |      DATA, RFC 1350 §5
 *  +------+----------+----------------+
 *  |  4   |  block   |                       ACK, RFC 1350 §5; trailing bytes are accepted, never sent
 *  +------+----------+----------------+---+
 *  |  5   |   code   |  message       | 0 |  ERROR, RFC 1350 §5; the final zero may be missing
 *  +------+----------+----+-------+---+---+
 *  |  6   |  name    | 0  | value | 0 | …    OACK, RFC 2347
 *  +------+----------+----+-------+---+
 * ```
 *
 * @module
 */

import { ACK, DATA, ERROR, MAX_ERROR_MESSAGE_BYTES, OACK } from "./opcodes.ts";

/** Shorter than an opcode. */
export const REJECT_TOO_SHORT: number = -1;
/** An opcode that is 0 or above 6. */
export const REJECT_BAD_OPCODE: number = -2;
/** Shorter than its kind needs. */
export const REJECT_BAD_LENGTH: number = -3;
/** A request whose filename or mode has no end. */
export const REJECT_UNTERMINATED: number = -4;
/** A request without a filename. */
export const REJECT_EMPTY_FILENAME: number = -5;
/** A request longer than {@linkcode MAX_ACCEPTED_REQUEST_BYTES}. */
export const REJECT_TOO_LONG: number = -6;
/** A filename longer than 1,024 bytes, or a component of it longer than 255. */
export const REJECT_FILENAME_TOO_LONG: number = -7;
/** What was to be written does not fit between the start and the end of the buffer. */
export const REJECT_NO_ROOM: number = -8;

/** Names of the negative reasons for metrics and logs: `REJECT_NAMES[-reason]`. */
export const REJECT_NAMES: readonly string[] = Object.freeze([
  "",
  "too-short",
  "bad-opcode",
  "bad-length",
  "unterminated",
  "empty-filename",
  "too-long",
  "filename-too-long",
  "no-room",
]);

/**
 * Says what a datagram is.
 *
 * A DATA, ACK or ERROR has at least its four bytes when its opcode is answered; a request has only been looked at as
 * far as its opcode.
 *
 * @param view View over the buffer that holds `[start, end)`.
 * @returns The opcode, 1 to 6, or one of the negative `REJECT_…` reasons.
 *
 * @example
 * ```ts
 * import { ACK, classify } from "@fastwire/net/tftp/protocol";
 * import { equal } from "node:assert/strict";
 *
 * equal(classify(new DataView(new Uint8Array([0, 4, 0, 0]).buffer), 0, 4), ACK);
 * ```
 */
export function classify(view: DataView, start: number, end: number): number {
  const length = end - start;
  if (length < 2) return REJECT_TOO_SHORT;
  const opcode = view.getUint16(start, false);
  if (opcode === 0 || opcode > OACK) return REJECT_BAD_OPCODE;
  // An options acknowledgement without options is two bytes, and some servers send it.
  if (length < 4 && opcode !== OACK) return REJECT_BAD_LENGTH;
  return opcode;
}

/**
 * Reads the block number of a DATA or ACK packet. RFC 1350 §5.
 *
 * `start` must be where a packet begins that was classified as DATA or ACK.
 *
 * @returns The number on the wire, 0 to 65535. Making an index of it is the machines' business.
 *
 * @example
 * ```ts
 * import { readBlockNumber } from "@fastwire/net/tftp/protocol";
 * import { equal } from "node:assert/strict";
 *
 * equal(readBlockNumber(new DataView(new Uint8Array([0, 4, 1, 2]).buffer), 0), 258);
 * ```
 */
export function readBlockNumber(view: DataView, start: number): number {
  return view.getUint16(start + 2, false);
}

/** Reads the code of a packet that was classified as ERROR: 0 to 65535. RFC 1350 §5. */
export function readErrorCode(view: DataView, start: number): number {
  return view.getUint16(start + 2, false);
}

/**
 * Reads the words of a packet that was classified as ERROR. They are the peer's: at most 512 bytes of them, bytes that
 * are not UTF-8 replaced, control characters removed.
 */
export function decodeErrorMessage(bytes: Uint8Array, start: number, end: number): string {
  const from = Math.min(start + 4, end);
  const limit = Math.min(end, from + MAX_ERROR_MESSAGE_BYTES);
  let stop = from;
  while (stop < limit && bytes[stop] !== 0) stop++;
  return withoutControls(textDecoder.decode(bytes.subarray(from, stop)));
}

/**
 * Writes the four bytes before the payload of a DATA packet.
 *
 * @param block The number on the wire, 0 to 65535.
 */
export function writeDataHeader(view: DataView, start: number, block: number): void {
  view.setUint32(start, (DATA << 16 | block) >>> 0, false);
}

/**
 * Writes an ACK: always four bytes.
 *
 * @param block The number on the wire, 0 to 65535.
 * @returns Where it ends.
 */
export function writeAck(view: DataView, start: number, block: number): number {
  view.setUint32(start, (ACK << 16 | block) >>> 0, false);
  return start + 4;
}

/**
 * Writes an ERROR packet. A message that is too long for the packet (512 bytes) or for the buffer is cut between
 * characters; control characters are left out.
 *
 * @param code 0 to 65535.
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM} when not even an empty message fits.
 * @throws {RangeError} When the code does not fit 16 bits.
 *
 * @example
 * ```ts
 * import { encodeError } from "@fastwire/net/tftp/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * const bytes = new Uint8Array(8);
 * const end = encodeError(bytes, 0, 1, "no");
 * deepEqual([...bytes.subarray(0, end)], [0, 5, 0, 1, 110, 111, 0]);
 * ```
 */
export function encodeError(
  bytes: Uint8Array,
  start: number,
  code: number,
  message: string,
): number {
  if (!Number.isInteger(code) || code < 0 || code > 0xffff) {
    throw new RangeError(`Cannot encode error code ${code}: expected an integer from 0 to 65535`);
  }
  const room = Math.min(bytes.length - start - 5, MAX_ERROR_MESSAGE_BYTES);
  if (room < 0) return REJECT_NO_ROOM;
  bytes[start] = 0;
  bytes[start + 1] = ERROR;
  bytes[start + 2] = code >> 8;
  bytes[start + 3] = code & 0xff;
  // encodeInto never cuts inside a character.
  const { written } = textEncoder.encodeInto(
    withoutControls(message),
    bytes.subarray(start + 4, start + 4 + room),
  );
  bytes[start + 4 + written] = 0;
  return start + 5 + written;
}

/**
 * Writes an options acknowledgement. RFC 2347.
 *
 * @param pairs Names and values, ASCII without zeros, in the order of the request.
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 * @throws {RangeError} When a name or value cannot be carried.
 *
 * @example
 * ```ts
 * import { decodeOptionsAck, encodeOptionsAck } from "@fastwire/net/tftp/protocol";
 * import { deepEqual } from "node:assert/strict";
 *
 * const bytes = new Uint8Array(64);
 * const end = encodeOptionsAck(bytes, 0, [["blksize", "1432"]]);
 * deepEqual(decodeOptionsAck(bytes, 0, end), [["blksize", "1432"]]);
 * ```
 */
export function encodeOptionsAck(
  bytes: Uint8Array,
  start: number,
  pairs: readonly (readonly [string, string])[],
): number {
  if (bytes.length - start < 2) return REJECT_NO_ROOM;
  bytes[start] = 0;
  bytes[start + 1] = OACK;
  return writePairs(bytes, start + 2, pairs);
}

/** Writes zero-terminated names and values; shared with the requests. */
export function writePairs(
  bytes: Uint8Array,
  start: number,
  pairs: readonly (readonly [string, string])[],
): number {
  let at = start;
  for (const [name, value] of pairs) {
    if (name.length === 0) throw new RangeError('Cannot encode an option: its name is ""');
    at = writeAsciiZ(bytes, at, name);
    if (at < 0) return at;
    at = writeAsciiZ(bytes, at, value);
    if (at < 0) return at;
  }
  return at;
}

/**
 * The number that stands for a block on the wire.
 *
 * @param index Block index, counted from 1; 0 is what an ACK of a request carries.
 * @param rollover What follows 65535: 0 (the usual) or 1.
 *
 * @example
 * ```ts
 * import { wireBlock } from "@fastwire/net/tftp/protocol";
 * import { equal } from "node:assert/strict";
 *
 * equal(wireBlock(65536, 0), 0);
 * equal(wireBlock(65536, 1), 1);
 * ```
 */
export function wireBlock(index: number, rollover: 0 | 1): number {
  // Below 2³¹ the bit operation is right; beyond, block indexes of a terabyte at block size 512, it is not.
  if (rollover === 0) return index < 0x8000_0000 ? index & 0xffff : index % 65536;
  return index === 0 ? 0 : (index - 1) % 65535 + 1;
}

function writeAsciiZ(bytes: Uint8Array, start: number, text: string): number {
  if (start + text.length + 1 > bytes.length) return REJECT_NO_ROOM;
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code === 0 || code > 0x7f) {
      throw new RangeError(
        `Cannot encode option text "${withoutControls(text)}": expected ASCII without zeros`,
      );
    }
    bytes[start + i] = code;
  }
  bytes[start + text.length] = 0;
  return start + text.length + 1;
}

/** The text without C0, DEL and C1 characters and without what reorders a line on a terminal. */
function withoutControls(text: string): string {
  // deno-lint-ignore no-control-regex -- they are what is to be removed
  return text.replace(/[\u0000-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, "");
}

const textDecoder = new TextDecoder("utf-8", { fatal: false, ignoreBOM: true });
const textEncoder = new TextEncoder();
