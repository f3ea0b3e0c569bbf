/**
 * A word typed by a person that nobody else should see.
 *
 * @module
 */

const INTERRUPT = 3;
const END = 4;
const BACKSPACES: readonly number[] = [8, 127];
const ENTERS: readonly number[] = [10, 13];
const CLEAR_LINE = 21;
const ESCAPE = 27;

/**
 * Reads a word key by key.
 *
 * @param next The next byte that was typed; `undefined` at the end of the input.
 * @returns The word; `undefined` when the person gave up (Ctrl-C, or Ctrl-D and the end of the input before anything
 * was typed).
 */
export function readSecret(next: () => number | undefined): string | undefined {
  let bytes: number[] = [];
  for (;;) {
    const byte = next();
    if (byte === undefined || byte === END) {
      return bytes.length === 0 ? undefined : decoded(bytes);
    }
    if (byte === INTERRUPT) return undefined;
    if (ENTERS.includes(byte)) return decoded(bytes);
    if (BACKSPACES.includes(byte)) {
      // A character of several bytes goes as one.
      while (bytes.length > 0 && (bytes.pop()! & 0xc0) === 0x80);
    } else if (byte === CLEAR_LINE) bytes = [];
    // Keys that are no characters are passed over, an arrow's letters with them.
    else if (byte === ESCAPE) {
      if (next() === 0x5b) { while (isInside(next())); }
    } else if (byte >= 32) bytes.push(byte);
  }
}

/** Whether an escape sequence goes on behind this byte: it ends with a letter or `~`. */
function isInside(byte: number | undefined): boolean {
  return byte !== undefined && (byte < 0x40 || byte > 0x7e);
}

function decoded(bytes: readonly number[]): string {
  return new TextDecoder().decode(Uint8Array.from(bytes));
}
