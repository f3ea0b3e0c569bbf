/**
 * netascii (RFC 764 as RFC 1350 §1 uses it): LF is CR LF on the wire, CR is CR NUL. Streaming, both ways; a pair may be
 * split anywhere.
 *
 * @module
 */

const LF = 0x0a;
const CR = 0x0d;
const NUL = 0;

/** Host text to wire text. Keeps at most one byte between calls: the second half of a pair that did not fit. */
export class NetasciiEncoder {
  /** Second byte of a pair whose first is out, or −1. */
  #pending = -1;
  #consumed = 0;

  /** Bytes of the source that the last {@linkcode encode} took. */
  get consumed(): number {
    return this.#consumed;
  }

  /** Whether a byte waits to be written although the source is used up. */
  get hasPending(): boolean {
    return this.#pending >= 0;
  }

  /**
   * Translates from `from[start, end)` into `into[at, limit)` until either is used up. `from` and `into` must not
   * overlap.
   *
   * @returns Where the output ends; {@linkcode consumed} says how much of the source was used.
   *
   * @example
   * ```ts
   * import { NetasciiEncoder } from "@fastwire/net/tftp/protocol";
   * import { deepEqual } from "node:assert/strict";
   *
   * const into = new Uint8Array(8);
   * const end = new NetasciiEncoder().encode(new TextEncoder().encode("a\nb\rc"), 0, 5, into, 0, 8);
   * deepEqual([...into.subarray(0, end)], [0x61, 0x0d, 0x0a, 0x62, 0x0d, 0x00, 0x63]);
   * ```
   */
  encode(
    from: Uint8Array,
    start: number,
    end: number,
    into: Uint8Array,
    at: number,
    limit: number,
  ): number {
    let pending = this.#pending;
    let read = start;
    let write = at;
    while (write < limit) {
      if (pending >= 0) {
        into[write++] = pending;
        pending = -1;
        continue;
      }
      if (read === end) break;
      const byte = from[read++]!;
      if (byte === LF) {
        into[write++] = CR;
        pending = LF;
      } else {
        into[write++] = byte;
        if (byte === CR) pending = NUL;
      }
    }
    this.#pending = pending;
    this.#consumed = read - start;
    return write;
  }
}

/**
 * Wire text to host text. Lenient: a CR that neither LF nor NUL follows stays a CR, a lone LF or NUL passes. Keeps at
 * most one CR between calls.
 */
export class NetasciiDecoder {
  #pendingCr = false;

  /**
   * Translates all of `from[start, end)` into `into` from `at` on. The output is never longer than the input plus one
   * byte; `into` may be `from` when `at < start`, or `at === start` and nothing is pending.
   *
   * @returns Where the output ends.
   *
   * @example
   * ```ts
   * import { NetasciiDecoder } from "@fastwire/net/tftp/protocol";
   * import { deepEqual } from "node:assert/strict";
   *
   * const decoder = new NetasciiDecoder();
   * const into = new Uint8Array(8);
   * let end = decoder.decode(new Uint8Array([0x61, 0x0d]), 0, 2, into, 0);
   * end = decoder.decode(new Uint8Array([0x0a]), 0, 1, into, end);
   * end = decoder.finish(into, end);
   * deepEqual([...into.subarray(0, end)], [0x61, 0x0a]);
   * ```
   */
  decode(from: Uint8Array, start: number, end: number, into: Uint8Array, at: number): number {
    let pendingCr = this.#pendingCr;
    let write = at;
    for (let read = start; read < end; read++) {
      const byte = from[read]!;
      if (pendingCr) {
        pendingCr = false;
        if (byte === LF || byte === NUL) {
          into[write++] = byte === LF ? LF : CR;
          continue;
        }
        into[write++] = CR;
      }
      if (byte === CR) pendingCr = true;
      else into[write++] = byte;
    }
    this.#pendingCr = pendingCr;
    return write;
  }

  /** Writes what is pending at the end of the file (one CR at most). @returns Where the output ends. */
  finish(into: Uint8Array, at: number): number {
    if (!this.#pendingCr) return at;
    this.#pendingCr = false;
    into[at] = CR;
    return at + 1;
  }
}

/** How many bytes `bytes[start, end)` takes on the wire. */
export function netasciiLength(bytes: Uint8Array, start = 0, end: number = bytes.length): number {
  let length = end - start;
  for (let at = start; at < end; at++) if (bytes[at] === LF || bytes[at] === CR) length++;
  return length;
}
