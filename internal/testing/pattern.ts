/**
 * Content of any length whose every byte is known from its position: what is sent need not be kept, what arrives is
 * compared while it comes in.
 *
 * @module
 */

import { Buffer } from "node:buffer";

/** Bytes after which the content repeats: a prime, so that no whole number of buffers or pages fits. */
export const PATTERN_PERIOD = 1_048_583;

let kept: Uint8Array<ArrayBuffer> | undefined;

/** One period. The same in every process; not to be changed. */
export function patternPeriod(): Uint8Array<ArrayBuffer> {
  if (kept !== undefined) return kept;
  const bytes = new Uint8Array(new ArrayBuffer(PATTERN_PERIOD));
  let state = 0x2545f491;
  for (let i = 0; i < PATTERN_PERIOD; i++) {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    bytes[i] = state;
  }
  return kept = bytes;
}

/** A copy of `length` bytes of the content from `position` on. */
export function patternBytes(position: number, length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(length));
  const period = patternPeriod();
  for (let done = 0; done < length;) {
    const from = (position + done) % PATTERN_PERIOD;
    const part = period.subarray(from, from + length - done);
    bytes.set(part, done);
    done += part.length;
  }
  return bytes;
}

/** Whether `[start, end)` of `bytes` is the content from `position` on. */
export function isPattern(
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
  position: number,
): boolean {
  const period = patternPeriod();
  while (start < end) {
    const from = position % PATTERN_PERIOD;
    const length = Math.min(end - start, PATTERN_PERIOD - from);
    // One call of the C library for a range, which costs a twentieth of what a hash does.
    const order = Buffer.compare(
      Buffer.from(bytes.buffer, bytes.byteOffset + start, length),
      Buffer.from(period.buffer, from, length),
    );
    if (order !== 0) return false;
    start += length;
    position += length;
  }
  return true;
}
