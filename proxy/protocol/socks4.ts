/**
 * SOCKS version 4, and 4a, which sends the name for the server to resolve.
 *
 * ```
 *  04 | command | port | IPv4 | user … 00                      request
 *  04 | command | port | 00 00 00 x | user … 00 | name … 00    4a, x not 0
 *  00 | code | port | IPv4                                     reply
 * ```
 *
 * As written by Ying-Da Lee (SOCKS.protocol, and 4A). There is no password: the user is what an ident server says.
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import { ANY_ENDPOINT, type Endpoint, normalizeHost } from "./address.ts";
import { formatIpv4, ipFamilyOf, writeIpText } from "./ip_text.ts";
import { latin1Of, NO_BYTES, readU16, writeU16 } from "./octets.ts";
import { doneStep, needStep, refusedStep, type Step } from "./step.ts";

/** First byte of a request. */
export const SOCKS4_VERSION = 4;
/** Bytes of a reply. */
export const SOCKS4_REPLY_BYTES = 8;
/** What the longest request takes: 255 bytes of user and of name. */
export const SOCKS4_MAX_MESSAGE_BYTES = 520;

/** Reply: granted. */
export const SOCKS4_GRANTED = 0x5a;
/** Reply: rejected or failed. */
export const SOCKS4_REJECTED = 0x5b;
/** Reply: the user is not who the ident server says; also when users are configured, for there is no password to show. */
export const SOCKS4_USER_MISMATCH = 0x5d;

/** A request that was understood. */
export interface Socks4Request {
  /** What is wanted. */
  readonly command: "connect" | "bind";
  /** Where to; a name with 4a only. */
  readonly destination: Endpoint;
  /** What the client calls itself; proves nothing. Often empty. */
  readonly userId: string;
}

/** Why a server gives a client up. */
export type Socks4ServerReason =
  | "bad-version"
  | "users-required"
  | "command-unsupported"
  | "field-too-long"
  | "bad-name";

/** What a server allows. */
export interface Socks4ServerOptions {
  /** Users are configured, so nobody comes in this way. Default: false. */
  readonly usersRequired?: boolean;
  /** Carry out BIND too. Default: false. */
  readonly bind?: boolean;
}

/** The server's half of a handshake, up to and including the request; the reply is {@linkcode encodeSocks4Reply}'s. */
export class Socks4Server {
  readonly #options: Socks4ServerOptions;
  #ended = false;

  /**
   * Begins before the first byte.
   *
   * @param options What is allowed.
   */
  constructor(options: Socks4ServerOptions = {}) {
    this.#options = options;
  }

  /** Takes what has arrived; see {@linkcode Step}. */
  receive(bytes: Uint8Array, start: number, end: number): Step<Socks4Request, Socks4ServerReason> {
    if (this.#ended) return needStep(0, Infinity);
    if (end - start < 1) return needStep(0, 1);
    if (bytes[start] !== SOCKS4_VERSION) return this.#refuse(0, "bad-version");
    if (end - start < 9) return needStep(0, 9);
    const userEnd = terminator(bytes, start + 8, end);
    if (userEnd === TOO_LONG) return this.#refuse(0, "field-too-long");
    if (userEnd === MISSING) return needStep(0, end - start + 1);
    const isNamed = bytes[start + 4] === 0 && bytes[start + 5] === 0 && bytes[start + 6] === 0 &&
      bytes[start + 7] !== 0;
    let nameEnd = userEnd;
    if (isNamed) {
      nameEnd = terminator(bytes, userEnd + 1, end);
      if (nameEnd === TOO_LONG) return this.#refuse(0, "field-too-long");
      if (nameEnd === MISSING) return needStep(0, end - start + 1);
    }
    const consumed = nameEnd + 1 - start;
    if (this.#options.usersRequired) {
      return this.#refuse(consumed, "users-required", SOCKS4_USER_MISMATCH);
    }
    const command = bytes[start + 1];
    if (command !== 1 && !(command === 2 && this.#options.bind)) {
      return this.#refuse(consumed, "command-unsupported", SOCKS4_REJECTED);
    }
    const host = isNamed
      ? normalizeHost(latin1Of(bytes, userEnd + 1, nameEnd))
      : formatIpv4(bytes, start + 4);
    if (host === undefined) return this.#refuse(consumed, "bad-name", SOCKS4_REJECTED);
    this.#ended = true;
    return doneStep(
      consumed,
      Object.freeze({
        command: command === 1 ? "connect" : "bind",
        destination: Object.freeze({ host, port: readU16(bytes, start + 2) }),
        userId: latin1Of(bytes, start + 8, userEnd),
      }),
    );
  }

  #refuse(
    consumed: number,
    reason: Socks4ServerReason,
    code?: number,
  ): Step<Socks4Request, Socks4ServerReason> {
    this.#ended = true;
    return refusedStep(consumed, reason, code === undefined ? NO_BYTES : encodeSocks4Reply(code));
  }
}

/**
 * Makes a reply.
 *
 * @param code {@linkcode SOCKS4_GRANTED}, {@linkcode SOCKS4_REJECTED} or {@linkcode SOCKS4_USER_MISMATCH}.
 * @param bound The outbound's local address; anything but IPv4 is sent as all zeros.
 */
export function encodeSocks4Reply(
  code: number,
  bound: Endpoint = ANY_ENDPOINT,
): Uint8Array<ArrayBuffer> {
  const reply = new Uint8Array(SOCKS4_REPLY_BYTES);
  reply[1] = integerIn(code, 0, 255, "a SOCKS4 reply code");
  writeU16(reply, 2, integerIn(bound.port, 0, 65535, "a port"));
  if (ipFamilyOf(bound.host) === 4) writeIpText(reply, 4, bound.host);
  return reply;
}

/** Why a client gives a server up. */
export type Socks4ClientReason = "bad-version" | "reply";

/** What a client wants. */
export interface Socks4ClientOptions {
  /** Where to. A name makes it 4a; IPv6 cannot be asked for but as a name, which some servers read. */
  readonly destination: Endpoint;
  /** What to be called; 0 to 255 characters of visible ASCII. Default: empty. */
  readonly userId?: string;
}

/** The client's half of a handshake. Its outcome is the address the server answered with, often all zeros. */
export class Socks4Client {
  readonly #request: Uint8Array<ArrayBuffer>;
  #ended = false;

  /**
   * Puts the request together.
   *
   * @param options What is wanted.
   * @throws {RangeError | TypeError} When a field does not fit the wire.
   */
  constructor({ destination, userId = "" }: Socks4ClientOptions) {
    const { host, port } = destination;
    const family = ipFamilyOf(host);
    const request = new Uint8Array(SOCKS4_MAX_MESSAGE_BYTES);
    request[0] = SOCKS4_VERSION;
    request[1] = 1;
    writeU16(request, 2, integerIn(port, 0, 65535, "a port"));
    if (family === 4) writeIpText(request, 4, host);
    else request[7] = 1;
    let at = writeText(request, 8, userId, 0, "a SOCKS4 user");
    if (family !== 4) at = writeText(request, at, host, 1, "a host name");
    this.#request = request.slice(0, at);
  }

  /** What to send first. */
  start(): Uint8Array<ArrayBuffer> {
    return this.#request;
  }

  /** Takes what has arrived; see {@linkcode Step}. */
  receive(bytes: Uint8Array, start: number, end: number): Step<Endpoint, Socks4ClientReason> {
    if (this.#ended) return needStep(0, Infinity);
    if (end - start < 1) return needStep(0, 1);
    // The version of a reply is 0; some servers say 4.
    if (bytes[start] !== 0 && bytes[start] !== SOCKS4_VERSION) {
      this.#ended = true;
      return refusedStep(0, "bad-version", NO_BYTES);
    }
    if (end - start < SOCKS4_REPLY_BYTES) return needStep(0, SOCKS4_REPLY_BYTES);
    this.#ended = true;
    const code = bytes[start + 1]!;
    if (code !== SOCKS4_GRANTED) return refusedStep(SOCKS4_REPLY_BYTES, "reply", NO_BYTES, code);
    const bound = { host: formatIpv4(bytes, start + 4), port: readU16(bytes, start + 2) };
    return doneStep(SOCKS4_REPLY_BYTES, Object.freeze(bound));
  }
}

const MISSING = -1;
const TOO_LONG = -2;

/** Where the zero is that ends a field of at most 255 bytes. */
function terminator(bytes: Uint8Array, start: number, end: number): number {
  const limit = Math.min(end, start + 256);
  for (let at = start; at < limit; at++) if (bytes[at] === 0) return at;
  return limit === start + 256 ? TOO_LONG : MISSING;
}

function writeText(
  into: Uint8Array,
  start: number,
  text: string,
  shortest: number,
  what: string,
): number {
  integerIn(text.length, shortest, 255, `the length of ${what}`);
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i);
    if (code <= 0x20 || code >= 0x7f) {
      throw new TypeError(
        `Cannot write ${what} ${JSON.stringify(text)}: expected visible ASCII`,
      );
    }
    into[start + i] = code;
  }
  into[start + text.length] = 0;
  return start + text.length + 1;
}
