/**
 * A stream as sealed chunks, each a sealed length and a sealed payload:
 *
 * ```
 *  0        2       18                    18 + n     34 + n
 *  +--------+--------+---------------------+-----------+
 *  |   n    |  tag   |       payload       |    tag    |
 *  +--------+--------+---------------------+-----------+
 * ```
 *
 * The nonce is a little-endian counter from zero that grows by one with each of the two. Sealing writes around a payload
 * that stays where it is; opening decrypts where the bytes arrived. Nothing is copied.
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import { type Aead, TAG_BYTES } from "./aead.ts";
import { readU16, writeU16 } from "./octets.ts";

/** Bytes a chunk has before its payload. */
export const CHUNK_HEAD_BYTES = 18;
/** Most payload ranges that one call to `open` answers. */
export const MAX_RANGES = 64;

/** Turns payloads into what goes over the wire, in place. */
export interface StreamSealer {
  /** Bytes that must be free before the next payload; an upper bound, the longest header included. */
  readonly headroom: number;
  /** Bytes that must be free behind a payload; they are written. */
  readonly tailroom: number;
  /** Longest next payload, bytes. */
  readonly maxPayload: number;
  /**
   * Seals the payload in [start, end).
   *
   * @param buffer Has {@linkcode StreamSealer.headroom} bytes before `start` and `tailroom` behind `end`.
   * @param seconds Unix time, for headers that carry one.
   * @returns Where the bytes for the wire begin; they end at `end + tailroom`.
   * @throws {RangeError} When the payload is too long or the room too small.
   */
  seal(buffer: Uint8Array, start: number, end: number, seconds: number): number;
  /** Gives the ciphers back. */
  close(): void;
}

/** Turns what came over the wire into payloads, in place. */
export interface StreamOpener {
  /** How many payloads the last call to `open` found. */
  readonly count: number;
  /** Where they begin. */
  readonly starts: Int32Array;
  /** Where they end. */
  readonly ends: Int32Array;
  /** How many bytes there must be behind the consumed ones before calling again is of use. */
  readonly need: number;
  /** Longest that `need` becomes: a buffer this long serves the whole stream. */
  readonly maxNeed: number;
  /**
   * - `header`: the other side has not shown yet that it has the key.
   * - `data`: it has.
   * - `drain`: it has not, or the stream was tampered with. Read and discard until the peer closes or time is up, and
   *   answer nothing: every failure looks the same from outside.
   */
  readonly state: "header" | "data" | "drain";
  /** Whether the stream may end here: no chunk has begun. Bytes that were not consumed make it false. */
  readonly atBoundary: boolean;
  /**
   * Decrypts all that is complete, at most {@linkcode MAX_RANGES} payloads.
   *
   * @param buffer What was not consumed, unchanged, at `start`, and what came behind it.
   * @param seconds Unix time, for headers that carry one.
   * @returns How many bytes from `start` on are done with; the payloads lie among them and are valid until the buffer is
   * used again. In `drain` it is all of them.
   */
  open(buffer: Uint8Array, start: number, end: number, seconds: number): number;
  /** Gives the ciphers back. */
  close(): void;
}

/** The sealing half of a chunked stream. */
export class ChunkSealer implements StreamSealer {
  /** Bytes that must be free before a payload. */
  readonly headroom: number = CHUNK_HEAD_BYTES;
  /** Bytes that must be free behind it. */
  readonly tailroom: number = TAG_BYTES;
  /** Longest payload, bytes. */
  readonly maxPayload: number;
  readonly #aead: Aead;
  readonly #nonce: Uint8Array<ArrayBuffer>;

  /**
   * Begins with nonce zero.
   *
   * @param aead Under a key that seals nothing else; closed with this.
   * @param maxPayload Longest payload of a chunk, 1 to 65535.
   */
  constructor(aead: Aead, maxPayload: number) {
    this.maxPayload = integerIn(maxPayload, 1, 0xffff, "the longest payload of a chunk");
    this.#aead = aead;
    this.#nonce = new Uint8Array(aead.nonceBytes);
  }

  /** Seals one chunk; see {@linkcode StreamSealer}. */
  seal(buffer: Uint8Array, start: number, end: number): number {
    const length = integerIn(end - start, 0, this.maxPayload, "the length of a chunk");
    const head = start - CHUNK_HEAD_BYTES;
    checkRoom(buffer, head, end + TAG_BYTES);
    writeU16(buffer, head, length);
    this.sealPart(buffer, head, head + 2);
    this.sealPart(buffer, start, end);
    return head;
  }

  /** Seals [start, end) with the next nonce, the tag behind it; for headers that come before the chunks. */
  sealPart(buffer: Uint8Array, start: number, end: number): void {
    this.#aead.seal(this.#nonce, buffer, start, end);
    increment(this.#nonce);
  }

  /** Gives the cipher back. */
  close(): void {
    this.#aead.close?.();
  }
}

/** The opening half of a chunked stream. */
export class ChunkOpener implements StreamOpener {
  /** How many payloads the last call found. */
  count: number = 0;
  /** Where they begin. */
  readonly starts: Int32Array<ArrayBuffer>;
  /** Where they end. */
  readonly ends: Int32Array<ArrayBuffer>;
  /** Longest that `need` becomes, bytes. */
  readonly maxNeed: number;
  /** Whether all was genuine so far. */
  state: "data" | "drain" = "data";
  readonly #aead: Aead;
  readonly #nonce: Uint8Array<ArrayBuffer>;
  readonly #maxPayload: number;
  /** Length of the payload whose sealed length was opened already, or −1. */
  #pending = -1;

  /**
   * Begins with nonce zero.
   *
   * @param aead Under the key of the sealing half; closed with this.
   * @param maxPayload Longest payload a chunk may announce, 1 to 65535.
   * @param starts Where to write where payloads begin, {@linkcode MAX_RANGES} long; own arrays by default.
   * @param ends Where to write where they end.
   */
  constructor(
    aead: Aead,
    maxPayload: number,
    starts: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES),
    ends: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES),
  ) {
    this.#maxPayload = integerIn(maxPayload, 1, 0xffff, "the longest payload of a chunk");
    this.maxNeed = maxPayload + TAG_BYTES;
    this.#aead = aead;
    this.#nonce = new Uint8Array(aead.nonceBytes);
    this.starts = starts;
    this.ends = ends;
  }

  /** How many bytes are needed next. */
  get need(): number {
    return this.state === "drain"
      ? 1
      : this.#pending < 0
      ? CHUNK_HEAD_BYTES
      : this.#pending + TAG_BYTES;
  }

  /** Whether no chunk has begun. */
  get atBoundary(): boolean {
    return this.state === "data" && this.#pending < 0;
  }

  /** Decrypts all that is complete; see {@linkcode StreamOpener}. */
  open(buffer: Uint8Array, start: number, end: number): number {
    this.count = 0;
    return this.openMore(buffer, start, end) - start;
  }

  /** The same, adding to the ranges found; answers where it stopped. */
  openMore(buffer: Uint8Array, start: number, end: number): number {
    if (this.state === "drain") return end;
    let at = start;
    while (this.count < MAX_RANGES) {
      if (this.#pending < 0) {
        if (end - at < CHUNK_HEAD_BYTES) break;
        if (!this.openPart(buffer, at, at + CHUNK_HEAD_BYTES)) return this.#fail(end);
        const length = readU16(buffer, at);
        if (length > this.#maxPayload) return this.#fail(end);
        this.#pending = length;
        at += CHUNK_HEAD_BYTES;
      }
      const length = this.#pending;
      if (end - at < length + TAG_BYTES) break;
      if (!this.openPart(buffer, at, at + length + TAG_BYTES)) return this.#fail(end);
      this.#pending = -1;
      // Empty chunks are allowed and say nothing.
      if (length > 0) {
        this.starts[this.count] = at;
        this.ends[this.count] = at + length;
        this.count++;
      }
      at += length + TAG_BYTES;
    }
    return at;
  }

  /** Opens [start, end), tag included, with the next nonce; for headers that come before the chunks. */
  openPart(buffer: Uint8Array, start: number, end: number): boolean {
    const isGenuine = this.#aead.open(this.#nonce, buffer, start, end);
    increment(this.#nonce);
    return isGenuine;
  }

  /** Says that the next thing is a payload whose length was announced elsewhere, 0 to 65535. */
  expectPayload(length: number): void {
    this.#pending = length;
  }

  /** Gives the cipher back. */
  close(): void {
    this.#aead.close?.();
  }

  #fail(end: number): number {
    this.state = "drain";
    return end;
  }
}

/** @throws {RangeError} When [start, end) is not inside the buffer. */
export function checkRoom(buffer: Uint8Array, start: number, end: number): void {
  if (start < 0 || end > buffer.length) {
    throw new RangeError(
      `Cannot seal at ${start} to ${end}: the buffer has ${buffer.length} bytes, expected room ` +
        `before and behind the payload`,
    );
  }
}

/** Adds one to a little-endian counter. */
function increment(counter: Uint8Array): void {
  for (let i = 0; i < counter.length; i++) {
    counter[i] = counter[i]! + 1;
    if (counter[i] !== 0) return;
  }
}
