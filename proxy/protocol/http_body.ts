/**
 * Where the body of an HTTP/1 message ends.
 *
 * @module
 */

import type { HttpFraming } from "./http_head.ts";

/** Most ranges of data that one call answers. */
export const MAX_BODY_RANGES = 64;
/** Longest line of a chunk's size with its extensions, bytes. */
export const MAX_CHUNK_LINE_BYTES = 1024;
/** Most bytes of all trailers together. */
export const MAX_TRAILER_BYTES = 8192;

/**
 * Walks over a body that arrives in pieces, and says where it ends and where its data lies.
 *
 * What it was given and has consumed may be sent on as it is, chunk sizes and trailers included: they were checked, so the
 * next reader sees the same end. Or the data ranges alone, for a reader that knows no chunks.
 */
export class HttpBody {
  /** Whether the end was reached. */
  finished: boolean;
  /** How many ranges of data the last call found. */
  count: number = 0;
  /** Where they begin. */
  readonly starts: Int32Array<ArrayBuffer> = new Int32Array(MAX_BODY_RANGES);
  /** Where they end. */
  readonly ends: Int32Array<ArrayBuffer> = new Int32Array(MAX_BODY_RANGES);
  readonly #framing: HttpFraming;
  #state: number = State.Size;
  /** Bytes left of the body or of the chunk. */
  #left = 0;
  #digits = 0;
  #lineBytes = 0;
  #trailerBytes = 0;

  /**
   * Begins before the first byte of the body.
   *
   * @param framing How the body is delimited.
   */
  constructor(framing: HttpFraming) {
    this.#framing = framing;
    if (framing.kind === "length") this.#left = framing.bytes;
    this.finished = framing.kind === "none" || framing.kind === "length" && framing.bytes === 0;
  }

  /**
   * Takes what has arrived.
   *
   * @returns How many bytes from `start` on belong to the body: fewer than there are when it ended, or when there were
   * more ranges than fit; then call again. −1 when it breaks the rules.
   */
  receive(bytes: Uint8Array, start: number, end: number): number {
    this.count = 0;
    if (this.finished || start >= end) return 0;
    if (this.#framing.kind === "chunked") return this.#chunked(bytes, start, end);
    const taken = this.#framing.kind === "close" ? end - start : Math.min(end - start, this.#left);
    this.#left -= taken;
    this.#add(start, start + taken);
    if (this.#framing.kind === "length") this.finished = this.#left === 0;
    return taken;
  }

  /** Takes the end of the connection. @returns Whether the body was complete. */
  end(): boolean {
    if (this.#framing.kind === "close") this.finished = true;
    return this.finished;
  }

  #add(start: number, end: number): void {
    this.starts[this.count] = start;
    this.ends[this.count++] = end;
  }

  #chunked(bytes: Uint8Array, start: number, end: number): number {
    let at = start;
    while (at < end && !this.finished) {
      if (this.#state === State.Data) {
        if (this.count === MAX_BODY_RANGES) break;
        const taken = Math.min(end - at, this.#left);
        this.#add(at, at + taken);
        this.#left -= taken;
        at += taken;
        if (this.#left === 0) this.#state = State.DataReturn;
        continue;
      }
      if (!this.#step(bytes[at]!)) return -1;
      at++;
    }
    return at - start;
  }

  /** One byte that is not data. RFC 9112 §7.1. */
  #step(byte: number): boolean {
    switch (this.#state) {
      case State.Size: {
        const digit = hexDigit(byte);
        if (digit >= 0) {
          // Eleven digits are 2⁴⁴ − 1: more than anybody sends, less than a double loses.
          if (++this.#digits > 11) return false;
          this.#left = this.#left * 16 + digit;
          return true;
        }
        if (this.#digits === 0) return false;
        if (byte === 0x0d) this.#state = State.SizeFeed;
        else if (byte === 0x3b || byte === 0x20 || byte === 0x09) this.#state = State.Extension;
        else return false;
        return true;
      }
      case State.Extension:
        if (byte === 0x0d) this.#state = State.SizeFeed;
        else if (++this.#lineBytes > MAX_CHUNK_LINE_BYTES || isControl(byte)) return false;
        return true;
      case State.SizeFeed:
        this.#state = this.#left === 0 ? State.TrailerStart : State.Data;
        return byte === 0x0a;
      case State.DataReturn:
        this.#state = State.DataFeed;
        return byte === 0x0d;
      case State.DataFeed:
        this.#state = State.Size;
        this.#digits = this.#lineBytes = 0;
        return byte === 0x0a;
      case State.TrailerStart:
        // A folded line would begin with white space.
        if (byte === 0x20 || byte === 0x09) return false;
        if (byte === 0x0d) this.#state = State.LastFeed;
        else return this.#trailer(byte);
        return true;
      case State.Trailer:
        return this.#trailer(byte);
      case State.TrailerFeed:
        this.#state = State.TrailerStart;
        return byte === 0x0a;
      case State.LastFeed:
        this.finished = true;
        return byte === 0x0a;
      default:
        return false;
    }
  }

  #trailer(byte: number): boolean {
    this.#state = byte === 0x0d ? State.TrailerFeed : State.Trailer;
    return ++this.#trailerBytes <= MAX_TRAILER_BYTES && (byte === 0x0d || !isControl(byte));
  }
}

function hexDigit(byte: number): number {
  if (byte >= 0x30 && byte <= 0x39) return byte - 0x30;
  const letter = byte | 0x20;
  return letter >= 0x61 && letter <= 0x66 ? letter - 0x57 : -1;
}

function isControl(byte: number): boolean {
  return byte < 0x20 && byte !== 0x09 || byte === 0x7f;
}

const State = {
  Size: 0,
  Extension: 1,
  SizeFeed: 2,
  Data: 3,
  DataReturn: 4,
  DataFeed: 5,
  TrailerStart: 6,
  Trailer: 7,
  TrailerFeed: 8,
  LastFeed: 9,
} as const;
