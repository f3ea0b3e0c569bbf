/**
 * What every file driver checks and makes of its arguments before it touches anything.
 *
 * @module
 */

/**
 * Checks a path of `RootDirectory`: relative, `/`-separated, no empty, `.` or `..` component, no NUL.
 *
 * @throws {TypeError} This is the caller's mistake: names from outside are cleaned before they come here.
 */
export function checkRelativePath(path: string | Uint8Array): void {
  const text = typeof path === "string" ? path : asLatin1(path);
  if (/(?:^|\/)\.{0,2}(?:\/|$)|\0/.test(text)) {
    throw new TypeError(
      `Cannot use path ${quotePath(text)}: ` +
        'expected a relative path without empty, "." or ".." components and without NUL',
    );
  }
}

/**
 * Checks that pieces lie in a buffer: the kernel would write wherever it is told to.
 *
 * @throws {RangeError}
 */
export function checkPieces(
  bytes: Uint8Array,
  start: number,
  pieceBytes: number,
  strideBytes: number,
  length: number,
): void {
  const gaps = Math.ceil(length / pieceBytes) - 1;
  const end = start + length + gaps * (strideBytes - pieceBytes);
  if (!(start >= 0 && pieceBytes > 0 && strideBytes >= pieceBytes && end <= bytes.length)) {
    throw new RangeError(
      `Cannot use ${length} bytes from ${start} in pieces of ${pieceBytes} at distance ` +
        `${strideBytes}: the buffer has ${bytes.length} bytes`,
    );
  }
}

/** Splits a checked path into its directory (empty for the root itself) and its last component, as bytes. */
export function splitPath(
  path: string | Uint8Array,
): { readonly directory: Uint8Array<ArrayBuffer>; readonly name: Uint8Array<ArrayBuffer> } {
  const bytes = typeof path === "string" ? encoder.encode(path) : path.slice();
  const slash = bytes.lastIndexOf(SLASH);
  return {
    directory: bytes.slice(0, Math.max(0, slash)) as Uint8Array<ArrayBuffer>,
    name: bytes.slice(slash + 1) as Uint8Array<ArrayBuffer>,
  };
}

/**
 * The name under which a file is written until it is complete: `.NAME.<random>.part`, `NAME` cut where it would be too
 * long for a file system.
 */
export function partName(name: Uint8Array): Uint8Array<ArrayBuffer> {
  const random = crypto.getRandomValues(new Uint8Array(8));
  let hex = "";
  for (const byte of random) hex += byte.toString(16).padStart(2, "0");
  const tail = encoder.encode(`.${hex}.part`);
  let kept = Math.min(name.length, NAME_MAX - 1 - tail.length);
  // Not within a character: some file systems take UTF-8 only. A continuation byte is 10xxxxxx.
  while (kept < name.length && kept > 0 && (name[kept]! & 0xc0) === 0x80) kept--;
  const part = new Uint8Array(1 + kept + tail.length);
  part[0] = DOT;
  part.set(name.subarray(0, kept), 1);
  part.set(tail, 1 + kept);
  return part;
}

/** The string a name's bytes spell, or `undefined` when they are not UTF-8. */
export function decodeName(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

/** A path as it may stand in a message: quoted, on one line, cut when it is long. */
export function quotePath(path: string | Uint8Array): string {
  const text = typeof path === "string" ? path : decodeName(path) ?? asLatin1(path);
  return JSON.stringify(text.length > 200 ? `${text.slice(0, 200)}…` : text);
}

/**
 * Permission bits of a directory made for files of `mode`: whoever may read the file may search it, and its owner may
 * do anything.
 */
export function directoryMode(mode: number): number {
  return 0o700 | (mode & 0o777) | ((mode & 0o444) >> 2);
}

function asLatin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

const encoder = new TextEncoder();
// A byte order mark is three bytes of the name.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const SLASH = 0x2f;
const DOT = 0x2e;
/** `<linux/limits.h>`; no file system in use allows more. */
const NAME_MAX = 255;
