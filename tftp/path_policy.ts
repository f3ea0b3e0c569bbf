/**
 * From the name in a request to a path that may be looked up beneath a root: pure, on bytes, before anything is opened.
 *
 * Names are bytes, as they are for the file system of Linux. One that is UTF-8 becomes a string, any other keeps its
 * bytes. This is the first of two locks: what passes here cannot leave the root by its spelling; links are the business
 * of whoever opens it.
 *
 * @module
 */

/** Repairs of what real clients send. */
export interface NameQuirks {
  /** Drop 0xFF bytes and one line end behind the name: some DHCP servers and boot ROMs append them. */
  readonly trimGarbage: boolean;
  /** Read `\` as `/`: boot managers of Windows write paths their own way. */
  readonly backslash: boolean;
  /** Refuse what Windows would read as a drive, a stream, a device or another name. For servers that run there. */
  readonly windowsNames: boolean;
}

/** What a Unix host does unless told otherwise. */
export const NAME_QUIRKS: NameQuirks = Object.freeze({
  trimGarbage: true,
  backslash: true,
  windowsNames: false,
});

/** Most bytes a component of a path may have: `NAME_MAX` of Linux. */
export const MAX_COMPONENT_BYTES = 255;
/** Most bytes a whole path may have. */
export const MAX_PATH_BYTES = 1024;

/** A name that passed: relative, `/`-separated, no empty, `.` or `..` component, no NUL. */
export interface ResolvedName {
  /** For the look-up: a string when the bytes are UTF-8, otherwise the bytes. */
  readonly path: string | Uint8Array<ArrayBuffer>;
  /** For patterns and keys: `path`, with bytes that are not UTF-8 read as Latin-1, so that ASCII patterns still bite. */
  readonly text: string;
}

/** Why a name did not pass. */
export type NameRefusal = "empty" | "nul" | "traversal" | "too-long" | "windows-name";

/** A name that did not pass. */
export interface RefusedName {
  /** The reason. */
  readonly refused: NameRefusal;
}

/**
 * Cleans and checks a requested name.
 *
 * Garbage behind it is cut, `\` becomes `/`, `//` collapses, `.` components and a leading `/` go. A component `..` is
 * refused wherever it leads; `a..b` is a name like any other.
 *
 * @param filename The name as text; counts only when `raw` is `undefined`: a name made here, by a rule or a handler.
 * @param raw The name as it came, without its final NUL.
 * @param quirks Which repairs to make.
 *
 * @example
 * ```ts
 * import { deepEqual } from "node:assert/strict";
 * import { NAME_QUIRKS, resolveName } from "./path_policy.ts";
 *
 * deepEqual(resolveName("\\Boot\\bcd", undefined, NAME_QUIRKS), { path: "Boot/bcd", text: "Boot/bcd" });
 * deepEqual(resolveName("a/../../etc/passwd", undefined, NAME_QUIRKS), { refused: "traversal" });
 * ```
 */
export function resolveName(
  filename: string,
  raw: Uint8Array | undefined,
  quirks: NameQuirks,
): ResolvedName | RefusedName {
  const bytes = raw ?? encoder.encode(filename);
  const end = quirks.trimGarbage ? trimmedEnd(bytes) : bytes.length;
  const path = new Uint8Array(new ArrayBuffer(end));
  let length = 0;
  for (let start = 0; start < end;) {
    let stop = start;
    while (stop < end && !isSeparator(bytes[stop]!, quirks.backslash)) {
      if (bytes[stop] === 0) return { refused: "nul" };
      stop++;
    }
    const size = stop - start;
    const dots = size <= 2 && bytes[start] === DOT && (size < 2 || bytes[start + 1] === DOT);
    if (size === 2 && dots) return { refused: "traversal" };
    if (size > MAX_COMPONENT_BYTES) return { refused: "too-long" };
    if (size > 0 && !(size === 1 && dots)) {
      if (length > 0) path[length++] = SLASH;
      for (let i = start; i < stop; i++) path[length++] = bytes[i]!;
    }
    start = stop + 1;
  }
  if (length === 0) return { refused: "empty" };
  if (length > MAX_PATH_BYTES) return { refused: "too-long" };
  const kept = path.slice(0, length);
  const text = decodeUtf8(kept);
  if (quirks.windowsNames && (text === undefined || isWindowsSpecial(text))) {
    return { refused: "windows-name" };
  }
  return text === undefined ? { path: kept, text: decodeLatin1(kept) } : { path: text, text };
}

/**
 * A name as it may appear in a log line or a table: control characters, backslashes and bytes that are not UTF-8 are
 * written as `\xNN`.
 */
export function displayName(name: string | Uint8Array): string {
  const text = typeof name === "string" ? name : decodeUtf8(name);
  let out = "";
  if (text === undefined) {
    for (const byte of name as Uint8Array) {
      out += byte < 0x20 || byte >= 0x7f || byte === BACKSLASH
        ? escaped(byte)
        : String.fromCharCode(byte);
    }
    return out;
  }
  for (const character of text) {
    const code = character.codePointAt(0)!;
    out += code < 0x20 || (code >= 0x7f && code < 0xa0) || code === BACKSLASH
      ? escaped(code)
      : character;
  }
  return out;
}

// The end of what the client meant: without 0xFF bytes, then without one line end.
function trimmedEnd(bytes: Uint8Array): number {
  let end = bytes.length;
  while (end > 0 && bytes[end - 1] === 0xff) end--;
  if (end > 0 && bytes[end - 1] === LINE_FEED) end--;
  if (end > 0 && bytes[end - 1] === CARRIAGE_RETURN) end--;
  return end;
}

function isSeparator(byte: number, backslash: boolean): boolean {
  return byte === SLASH || (backslash && byte === BACKSLASH);
}

// Drive letters and streams have a colon; a device keeps its meaning with any extension; a dot or space at the end is
// dropped by the system, so that two names would open one file. Win32 "Naming Files, Paths, and Namespaces".
function isWindowsSpecial(path: string): boolean {
  return path.split("/").some((component) =>
    /[:<>"|?*\\]/.test(component) || /[. ]$/.test(component) ||
    /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³]|conin\$|conout\$)[ ]*(\..*)?$/i.test(component)
  );
}

function decodeUtf8(bytes: Uint8Array): string | undefined {
  try {
    return decoder.decode(bytes);
  } catch {
    return undefined;
  }
}

function decodeLatin1(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += String.fromCharCode(byte);
  return text;
}

function escaped(code: number): string {
  return `\\x${code.toString(16).padStart(2, "0")}`;
}

const encoder = new TextEncoder();
// A byte order mark is three bytes of the name, not a hint to be swallowed.
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
const SLASH = 0x2f;
const BACKSLASH = 0x5c;
const DOT = 0x2e;
const LINE_FEED = 0x0a;
const CARRIAGE_RETURN = 0x0d;
