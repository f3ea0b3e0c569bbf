/**
 * Memory that streams of Shadowsocks borrow for as long as something lies in it.
 *
 * Two sizes. The small one is for everybody; a stream that has filled it gets the large one, as long as there are some: six
 * times the bytes in a system call are a tenth less processor time for each.
 *
 * @module
 */

import { MOST_PIECES, type StreamPieces } from "../ffi/mod.ts";
import type { StreamSealer } from "./protocol/mod.ts";

/**
 * A buffer that holds the longest chunk and a good piece of what follows.
 *
 * @param large Whether it may be a large one; not while too many are lent.
 */
export function takeBuffer(large = false): Uint8Array<ArrayBuffer> {
  if (large && largeLent < MOST_LARGE) {
    largeLent++;
    return spareLarge.pop() ?? new Uint8Array(new ArrayBuffer(LARGE_BYTES));
  }
  return spare.pop() ?? new Uint8Array(new ArrayBuffer(SMALL_BYTES));
}

/** Gives a buffer back. */
export function giveBuffer(buffer: Uint8Array<ArrayBuffer> | undefined): void {
  if (buffer === undefined) return;
  if (isLarge(buffer)) {
    largeLent--;
    if (spareLarge.length < MOST_SPARE_LARGE) spareLarge.push(buffer);
  } else if (spare.length < MOST_SPARE) spare.push(buffer);
}

/** Whether a buffer is a large one. */
export function isLarge(buffer: Uint8Array): boolean {
  return buffer.length > SMALL_BYTES;
}

/**
 * Most bytes to receive into an empty buffer: whole chunks, as our own end sends them. What ends with a chunk leaves nothing,
 * and the buffer is the next stream's, in the processor's cache.
 *
 * @param longest Longest sealed payload of the stream.
 */
export function rowBytes(buffer: Uint8Array, longest: number): number {
  const segment = longest < LONG_CHUNK ? 4 * (SHORT_CHUNK + SEALING) : LONG_CHUNK + SEALING;
  return (isLarge(buffer) ? LARGE_SEGMENTS : SMALL_SEGMENTS) * segment;
}

/**
 * Where payloads lie in a buffer so that the sealed chunks lie there without gaps. Every call with a like sealer answers the
 * same pieces: they are for use until the next.
 */
export function roomIn(buffer: Uint8Array<ArrayBuffer>, sealer: StreamSealer): StreamPieces {
  const { headroom, tailroom, maxPayload } = sealer;
  const large = isLarge(buffer);
  let room = rooms.find((each) =>
    each.large === large && each.headroom === headroom && each.maxPayload === maxPayload
  );
  if (room === undefined) {
    const payload = Math.min(maxPayload, maxPayload < LONG_CHUNK ? SHORT_CHUNK : LONG_CHUNK);
    const stride = headroom + payload + tailroom;
    const most = (large ? LARGE_SEGMENTS : SMALL_SEGMENTS) * (payload === SHORT_CHUNK ? 4 : 1);
    const count = Math.min(MOST_PIECES, most, Math.floor(buffer.length / stride));
    const starts = Int32Array.from({ length: count }, (_, i) => i * stride + headroom);
    const ends = starts.map((start) => start + payload);
    room = { large, headroom, maxPayload, bytes: buffer, starts, ends, first: 0, count };
    rooms.push(room);
  }
  room.bytes = buffer;
  return room;
}

interface Room extends StreamPieces {
  readonly large: boolean;
  readonly headroom: number;
  readonly maxPayload: number;
}

const rooms: Room[] = [];
const spare: Uint8Array<ArrayBuffer>[] = [];
const spareLarge: Uint8Array<ArrayBuffer>[] = [];
let largeLent = 0;
const MOST_SPARE = 64;
const MOST_SPARE_LARGE = 4;
/** A stream whose peer does not read keeps its buffer. */
const MOST_LARGE = 16;
/**
 * Four of these, or one of those, fill a segment of the loopback device with what sealing adds; with one byte more a
 * second one would be sent for it. To other networks it makes no difference.
 */
const SHORT_CHUNK = 16_336;
const LONG_CHUNK = 65_449;
/** What sealing adds to a chunk. */
const SEALING = 34;
const SMALL_SEGMENTS = 2;
const LARGE_SEGMENTS = 12;
/** The longest chunk of 2022 has 65,535 bytes. */
const SMALL_BYTES = SMALL_SEGMENTS * 65_536 + 4096;
const LARGE_BYTES = LARGE_SEGMENTS * 65_536 + 4096;
