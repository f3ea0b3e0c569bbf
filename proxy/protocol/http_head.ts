/**
 * Heads of HTTP/1 messages, read so strictly that no two readers can disagree about where a message ends.
 *
 * Refused are bare line feeds and carriage returns, folded lines, white space before a colon, control characters, several
 * lengths, a length beside a transfer coding, and codings other than `chunked`: RFC 9112 §2.2, §5, §6.3, §11.2.
 *
 * @module
 */

import { bytesOfLatin1, latin1Of } from "./octets.ts";

/** Longest head, bytes. */
export const MAX_HEAD_BYTES = 65_536;
/** Most fields of a head. */
export const MAX_HEAD_FIELDS = 100;

/** One field of a head. */
export interface HttpField {
  /** The name in lower case. */
  readonly key: string;
  /** The name as it was sent. */
  readonly name: string;
  /** The value without white space around it; one character per byte. */
  readonly value: string;
}

/** The head of a request. */
export interface HttpRequestHead {
  /** A token; case matters. */
  readonly method: string;
  /** As it was sent. */
  readonly target: string;
  /** The minor version. */
  readonly minor: 0 | 1;
  /** In order. */
  readonly fields: readonly HttpField[];
}

/** The head of a response. */
export interface HttpResponseHead {
  /** 100 to 999. */
  readonly status: number;
  /** The words behind the status; one character per byte. */
  readonly reason: string;
  /** The minor version. */
  readonly minor: 0 | 1;
  /** In order. */
  readonly fields: readonly HttpField[];
}

/** How the body behind a head is delimited. RFC 9112 §6.3. */
export type HttpFraming =
  | { readonly kind: "none" }
  | { readonly kind: "length"; readonly bytes: number }
  | { readonly kind: "chunked" }
  | { readonly kind: "close" };

/** Why a head is refused; in a proxy's answer the number behind it. */
export type HttpHeadFault = "malformed" | "too-large" | "version" | "coding";

/** The status that answers a request with the fault. */
export function statusOfFault(fault: HttpHeadFault): 400 | 431 | 501 | 505 {
  switch (fault) {
    case "malformed":
      return 400;
    case "too-large":
      return 431;
    case "version":
      return 505;
    case "coding":
      return 501;
  }
}

/** Finds the end of a head that arrives in pieces, without looking at any byte twice. */
export class HeadScanner {
  /** Bytes from the start that were looked at. */
  #seen = 0;
  #lines = 0;
  #lineBytes = 0;
  #sawReturn = false;

  /**
   * Goes on looking.
   *
   * @param start Where the head begins: the same bytes in each call, until it is found.
   * @returns The length of the head with its empty line, 0 when more is needed, or what is wrong with it.
   */
  scan(bytes: Uint8Array, start: number, end: number): number | HttpHeadFault {
    const limit = Math.min(end, start + MAX_HEAD_BYTES);
    for (let at = start + this.#seen; at < limit; at++) {
      const byte = bytes[at]!;
      if (this.#sawReturn) {
        if (byte !== LF) return "malformed";
        this.#sawReturn = false;
        if (this.#lineBytes === 0 && this.#lines > 0) {
          this.reset();
          return at + 1 - start;
        }
        // Empty lines before the first are skipped: some clients end a body with one more. RFC 9112 §2.2.
        if (this.#lineBytes > 0 && ++this.#lines > MAX_HEAD_FIELDS + 1) return "too-large";
        this.#lineBytes = 0;
      } else if (byte === CR) {
        this.#sawReturn = true;
      } else if (byte < 0x20 && byte !== TAB || byte === 0x7f) {
        return "malformed";
      } else {
        this.#lineBytes++;
      }
    }
    this.#seen = limit - start;
    return this.#seen === MAX_HEAD_BYTES ? "too-large" : 0;
  }

  /** Begins with the next head. */
  reset(): void {
    this.#seen = this.#lines = this.#lineBytes = 0;
    this.#sawReturn = false;
  }
}

/** Reads the head of a request that a {@linkcode HeadScanner} has found at [start, end). */
export function decodeRequestHead(
  bytes: Uint8Array,
  start: number,
  end: number,
): HttpRequestHead | HttpHeadFault {
  const lines = linesOf(bytes, start, end);
  const match = REQUEST_LINE.exec(lines[0]!);
  if (match === null) return "malformed";
  if (match[3] !== "1") return "version";
  const fields = fieldsOf(lines);
  if (fields === undefined) return "malformed";
  if (fields.filter(({ key }) => key === "host").length > 1) return "malformed";
  return {
    method: match[1]!,
    target: match[2]!,
    minor: match[4] === "0" ? 0 : 1,
    fields,
  };
}

/** Reads the head of a response that a {@linkcode HeadScanner} has found at [start, end). */
export function decodeResponseHead(
  bytes: Uint8Array,
  start: number,
  end: number,
): HttpResponseHead | HttpHeadFault {
  const lines = linesOf(bytes, start, end);
  const match = STATUS_LINE.exec(lines[0]!);
  if (match === null) return "malformed";
  if (match[1] !== "1") return "version";
  const fields = fieldsOf(lines);
  if (fields === undefined) return "malformed";
  return {
    status: Number(match[3]),
    reason: match[4] ?? "",
    minor: match[2] === "0" ? 0 : 1,
    fields,
  };
}

/** Writes a head: one line, then the fields, then the empty line. */
export function encodeHead(
  line: string,
  fields: readonly { readonly name: string; readonly value: string }[],
): Uint8Array<ArrayBuffer> {
  let text = line + "\r\n";
  for (const { name, value } of fields) text += `${name}: ${value}\r\n`;
  return bytesOfLatin1(text + "\r\n");
}

/** How the body of a request is delimited. */
export function requestFraming(head: HttpRequestHead): HttpFraming | HttpHeadFault {
  const framing = declaredFraming(head.fields, head.minor);
  return framing ?? { kind: "none" };
}

/**
 * How the body of a response is delimited.
 *
 * @param method The method of the request: what answers HEAD, and CONNECT when it worked, has none.
 */
export function responseFraming(
  head: HttpResponseHead,
  method: string,
): HttpFraming | HttpHeadFault {
  const framing = declaredFraming(head.fields, head.minor);
  if (typeof framing === "string") return framing;
  const { status } = head;
  if (method === "HEAD" || status < 200 || status === 204 || status === 304) {
    return { kind: "none" };
  }
  if (method === "CONNECT" && status < 300) return { kind: "none" };
  return framing ?? { kind: "close" };
}

/** The words of all fields of a name that hold lists, in lower case. */
export function listOf(fields: readonly HttpField[], key: string): readonly string[] {
  const words: string[] = [];
  for (const field of fields) {
    if (field.key !== key) continue;
    for (const word of field.value.split(",")) {
      const trimmed = word.trim().toLowerCase();
      if (trimmed !== "") words.push(trimmed);
    }
  }
  return words;
}

/** The value of the first field of a name. */
export function valueOf(fields: readonly HttpField[], key: string): string | undefined {
  return fields.find((field) => field.key === key)?.value;
}

/** Whether the sender wants to go on with the connection after this message. RFC 9112 §9.3. */
export function wantsToPersist(minor: 0 | 1, fields: readonly HttpField[]): boolean {
  // Proxy-Connection is what browsers of the nineties began and others still send.
  const words = [...listOf(fields, "connection"), ...listOf(fields, "proxy-connection")];
  if (words.includes("close")) return false;
  return minor === 1 || words.includes("keep-alive");
}

/** Takes control characters out of a peer's words and cuts them. */
export function plainText(text: string): string {
  let plain = "";
  for (const character of text.slice(0, 200)) {
    const code = character.charCodeAt(0);
    plain += code < 0x20 || code >= 0x7f ? "?" : character;
  }
  return plain;
}

function declaredFraming(
  fields: readonly HttpField[],
  minor: 0 | 1,
): HttpFraming | HttpHeadFault | undefined {
  const lengths = fields.filter(({ key }) => key === "content-length");
  const codings = fields.filter(({ key }) => key === "transfer-encoding");
  if (codings.length > 0) {
    if (lengths.length > 0 || codings.length > 1 || minor === 0) return "malformed";
    return codings[0]!.value.toLowerCase() === "chunked" ? { kind: "chunked" } : "coding";
  }
  if (lengths.length === 0) return undefined;
  const value = lengths[0]!.value;
  if (lengths.length > 1 || !/^\d{1,15}$/.test(value)) return "malformed";
  return { kind: "length", bytes: Number(value) };
}

/** The lines of a head without the empty ones around them. */
function linesOf(bytes: Uint8Array, start: number, end: number): readonly string[] {
  let from = start;
  while (bytes[from] === CR) from += 2;
  return latin1Of(bytes, from, end - 4).split("\r\n");
}

function fieldsOf(lines: readonly string[]): readonly HttpField[] | undefined {
  const fields: HttpField[] = [];
  for (let i = 1; i < lines.length; i++) {
    // A folded line begins with white space and so has no name.
    const match = FIELD_LINE.exec(lines[i]!);
    if (match === null) return undefined;
    const name = match[1]!;
    fields.push({ key: name.toLowerCase(), name, value: trimmed(lines[i]!, name.length + 1) });
  }
  return fields;
}

/** Without blanks and tabs at both ends; other white space is not HTTP's. */
function trimmed(line: string, from: number): string {
  let start = from, end = line.length;
  while (start < end && isBlank(line.charCodeAt(start))) start++;
  while (end > start && isBlank(line.charCodeAt(end - 1))) end--;
  return line.slice(start, end);
}

function isBlank(code: number): boolean {
  return code === 0x20 || code === TAB;
}

const TAB = 9;
const LF = 10;
const CR = 13;
const REQUEST_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}) ([!-~]+) HTTP\/(\d)\.(\d)$/;
const STATUS_LINE = /^HTTP\/(\d)\.(\d) ([1-9]\d\d)(?: (.*))?$/;
const FIELD_LINE = /^([!#$%&'*+.^_`|~0-9A-Za-z-]{1,256}):/;
