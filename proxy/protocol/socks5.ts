/**
 * SOCKS version 5: greeting, user and password, request, reply, and the header of relayed datagrams.
 *
 * ```
 *  05 | n | methods n                        greeting               05 | method          choice
 *  01 | L | user L | M | password M          sub-negotiation        01 | status          its end
 *  05 | command | 00 | address               request                05 | reply | 00 | address
 *  00   00 | fragment | address | data       datagram
 * ```
 *
 * RFC 1928, RFC 1929; commands F0 and F1 are Tor's (socks-extensions.txt §2). Addresses: address.ts.
 *
 * @module
 */

import { integerIn, oneOf } from "../../internal/check.ts";
import {
  ADDRESS_REJECT_NAMES,
  ANY_ENDPOINT,
  decodeAddress,
  encodeAddress,
  type Endpoint,
  measureAddress,
  REJECT_ADDRESS_ROOM,
  REJECT_ADDRESS_SHORT,
  REJECT_ADDRESS_TYPE,
  writeAddress,
} from "./address.ts";
import type { UserTable } from "./credentials.ts";
import { joinBytes, NO_BYTES } from "./octets.ts";
import { type DialFailure, doneStep, needStep, refusedStep, type Step, writeStep } from "./step.ts";

/** The first byte of everything but the sub-negotiation. */
export const SOCKS5_VERSION = 5;
/** What the longest message takes: a sub-negotiation with 255 bytes of each. A buffer this long serves every handshake. */
export const SOCKS5_MAX_MESSAGE_BYTES = 513;
/** Longest header of a datagram. */
export const SOCKS5_MAX_DATAGRAM_HEADER_BYTES = 262;

/** A datagram that is a fragment; they are dropped, RFC 1928 §7. */
export const REJECT_SOCKS5_FRAGMENT: number = -5;
/** A datagram whose reserved bytes are not zero. */
export const REJECT_SOCKS5_RESERVED: number = -6;

/** Names of the negative reasons of datagrams: `SOCKS5_REJECT_NAMES[-reason]`. */
export const SOCKS5_REJECT_NAMES: readonly string[] = Object.freeze([
  ...ADDRESS_REJECT_NAMES,
  "fragment",
  "reserved",
]);

/** What a client can ask for. */
export type Socks5Command = "connect" | "bind" | "associate" | "resolve" | "resolve-ptr";

/** A request that was understood. */
export interface Socks5Request {
  /** What is wanted. */
  readonly command: Socks5Command;
  /** Where to; for `associate` where the datagrams will come from, all zeros when the client does not know. */
  readonly destination: Endpoint;
  /** Who asks, when users are configured. */
  readonly user: string | undefined;
}

/** Why a server gives a client up. */
export type Socks5ServerReason =
  | "bad-version"
  | "no-acceptable-method"
  | "bad-credentials"
  | "command-unsupported"
  | "address-unsupported"
  | "bad-name";

/** What a server allows. */
export interface Socks5ServerOptions {
  /** Who may come in; without it, or when it is empty, everybody. */
  readonly users?: UserTable;
  /** Which commands are carried out; others are answered with reply 7. Default: connect and associate. */
  readonly commands?: readonly Socks5Command[];
}

/**
 * The server's half of a handshake, up to and including the request. The reply is {@linkcode encodeSocks5Reply}'s, once
 * the outcome of the dial is known.
 */
export class Socks5Server {
  readonly #users: UserTable | undefined;
  readonly #commands: readonly Socks5Command[];
  #state: "greeting" | "password" | "request" | "ended" = "greeting";
  #user: string | undefined;

  /**
   * Begins before the first byte.
   *
   * @param options What is allowed.
   */
  constructor(options: Socks5ServerOptions = {}) {
    this.#users = options.users !== undefined && options.users.size > 0 ? options.users : undefined;
    this.#commands = options.commands ?? ["connect", "associate"];
  }

  /** Takes what has arrived; see {@linkcode Step}. */
  receive(bytes: Uint8Array, start: number, end: number): Step<Socks5Request, Socks5ServerReason> {
    switch (this.#state) {
      case "greeting":
        return this.#greeting(bytes, start, end);
      case "password":
        return this.#password(bytes, start, end);
      case "request":
        return this.#request(bytes, start, end);
      default:
        return needStep(0, Infinity);
    }
  }

  #greeting(
    bytes: Uint8Array,
    start: number,
    end: number,
  ): Step<Socks5Request, Socks5ServerReason> {
    if (end - start < 1) return needStep(0, 1);
    if (bytes[start] !== SOCKS5_VERSION) return this.#refuse(0, "bad-version", NO_BYTES);
    if (end - start < 2) return needStep(0, 2);
    const length = 2 + bytes[start + 1]!;
    if (end - start < length) return needStep(0, length);
    const methods = bytes.subarray(start + 2, start + length);
    const method = this.#choose(methods);
    const answer = Uint8Array.of(SOCKS5_VERSION, method);
    if (method === METHOD_REFUSED) return this.#refuse(length, "no-acceptable-method", answer);
    this.#state = method === METHOD_PASSWORD ? "password" : "request";
    return writeStep(length, answer);
  }

  /** With users the password is a must. Without, some clients insist on sending one; any will do. */
  #choose(methods: Uint8Array): number {
    if (this.#users === undefined && methods.includes(METHOD_NONE)) return METHOD_NONE;
    return methods.includes(METHOD_PASSWORD) ? METHOD_PASSWORD : METHOD_REFUSED;
  }

  #password(
    bytes: Uint8Array,
    start: number,
    end: number,
  ): Step<Socks5Request, Socks5ServerReason> {
    if (end - start < 1) return needStep(0, 1);
    if (bytes[start] !== PASSWORD_VERSION) return this.#refuse(0, "bad-version", NO_BYTES);
    if (end - start < 2) return needStep(0, 2);
    const user = start + 2;
    const userEnd = user + bytes[start + 1]!;
    if (end <= userEnd) return needStep(0, userEnd + 1 - start);
    const passwordEnd = userEnd + 1 + bytes[userEnd]!;
    if (end < passwordEnd) return needStep(0, passwordEnd - start);
    if (this.#users !== undefined) {
      this.#user = this.#users.check(
        bytes.subarray(user, userEnd),
        bytes.subarray(userEnd + 1, passwordEnd),
      );
      if (this.#user === undefined) {
        const answer = Uint8Array.of(PASSWORD_VERSION, 1);
        return this.#refuse(passwordEnd - start, "bad-credentials", answer);
      }
    }
    this.#state = "request";
    return writeStep(passwordEnd - start, Uint8Array.of(PASSWORD_VERSION, 0));
  }

  #request(
    bytes: Uint8Array,
    start: number,
    end: number,
  ): Step<Socks5Request, Socks5ServerReason> {
    if (end - start < 1) return needStep(0, 1);
    if (bytes[start] !== SOCKS5_VERSION) return this.#refuse(0, "bad-version", NO_BYTES);
    if (end - start < 4) return needStep(0, 4);
    const length = measureAddress(bytes, start + 3, end);
    if (length === REJECT_ADDRESS_TYPE) {
      return this.#refuse(4, "address-unsupported", encodeSocks5Reply(SOCKS5_ADDRESS_UNSUPPORTED));
    }
    if (length < 0) return this.#refuse(4, "bad-name", encodeSocks5Reply(SOCKS5_GENERAL_FAILURE));
    if (start + 3 + length > end) return needStep(0, 3 + length);
    const consumed = 3 + length;
    const command = COMMANDS.get(bytes[start + 1]!);
    if (command === undefined || !this.#commands.includes(command)) {
      const reply = encodeSocks5Reply(SOCKS5_COMMAND_UNSUPPORTED);
      return this.#refuse(consumed, "command-unsupported", reply);
    }
    const destination = decodeAddress(bytes, start + 3, start + consumed);
    if (typeof destination === "number") {
      return this.#refuse(consumed, "bad-name", encodeSocks5Reply(SOCKS5_GENERAL_FAILURE));
    }
    this.#state = "ended";
    return doneStep(consumed, Object.freeze({ command, destination, user: this.#user }));
  }

  #refuse(
    consumed: number,
    reason: Socks5ServerReason,
    bytes: Uint8Array<ArrayBuffer>,
  ): Step<Socks5Request, Socks5ServerReason> {
    this.#state = "ended";
    return refusedStep(consumed, reason, bytes);
  }
}

/** Why a client gives a server up. */
export type Socks5ClientReason =
  | "bad-version"
  | "method-refused"
  | "bad-credentials"
  | "bad-address"
  | "reply";

/** What a client wants. */
export interface Socks5ClientOptions {
  /** What to ask for. */
  readonly command: Socks5Command;
  /** Where to; for `associate` where the datagrams will come from, all zeros when not known. */
  readonly destination: Endpoint;
  /** Offered when given; 1 to 255 bytes of UTF-8. */
  readonly username?: string;
  /** At most 255 bytes of UTF-8. Default: empty. */
  readonly password?: string;
}

/** The client's half of a handshake. Its outcome is the address the server answered with. */
export class Socks5Client {
  readonly #request: Uint8Array<ArrayBuffer>;
  readonly #password: Uint8Array<ArrayBuffer> | undefined;
  #state: "method" | "password" | "reply" | "ended" = "method";

  /**
   * Puts the request together.
   *
   * @param options What is wanted.
   * @throws {RangeError} When the destination, the name or the password does not fit the wire.
   */
  constructor(options: Socks5ClientOptions) {
    const { command, destination, username, password = "" } = options;
    oneOf(command, [...COMMANDS.values()], "a SOCKS5 command");
    const code = [...COMMANDS].find(([, name]) => name === command)![0];
    this.#request = joinBytes([SOCKS5_VERSION, code, 0], encodeAddress(destination));
    if (username === undefined) return;
    const name = textEncoder.encode(username);
    const secret = textEncoder.encode(password);
    integerIn(name.length, 1, 255, "the bytes of a SOCKS5 user name");
    integerIn(secret.length, 0, 255, "the bytes of a SOCKS5 password");
    this.#password = joinBytes([PASSWORD_VERSION, name.length], name, [secret.length], secret);
  }

  /** What to send first. */
  start(): Uint8Array<ArrayBuffer> {
    return this.#password === undefined
      ? Uint8Array.of(SOCKS5_VERSION, 1, METHOD_NONE)
      : Uint8Array.of(SOCKS5_VERSION, 2, METHOD_NONE, METHOD_PASSWORD);
  }

  /** Takes what has arrived; see {@linkcode Step}. */
  receive(bytes: Uint8Array, start: number, end: number): Step<Endpoint, Socks5ClientReason> {
    if (this.#state === "ended") return needStep(0, Infinity);
    if (end - start < 1) return needStep(0, 1);
    const version = this.#state === "password" ? PASSWORD_VERSION : SOCKS5_VERSION;
    // RFC 1929 says 01; some servers answer the sub-negotiation with 05 and mean it.
    if (bytes[start] !== version && !(this.#state === "password" && bytes[start] === 5)) {
      return this.#refuse(0, "bad-version");
    }
    if (end - start < 2) return needStep(0, 2);
    if (this.#state === "method") return this.#method(bytes[start + 1]!);
    if (this.#state === "password") {
      if (bytes[start + 1] !== 0) return this.#refuse(2, "bad-credentials", bytes[start + 1]);
      this.#state = "reply";
      return writeStep(2, this.#request);
    }
    // What follows a failure is not waited for: some servers close after two bytes.
    if (bytes[start + 1] !== SOCKS5_SUCCEEDED) return this.#refuse(2, "reply", bytes[start + 1]);
    if (end - start < 4) return needStep(0, 4);
    const length = measureAddress(bytes, start + 3, end);
    if (length < 0) return this.#refuse(4, "bad-address");
    if (start + 3 + length > end) return needStep(0, 3 + length);
    const bound = decodeAddress(bytes, start + 3, end);
    if (typeof bound === "number") return this.#refuse(3 + length, "bad-address");
    this.#state = "ended";
    return doneStep(3 + length, bound);
  }

  #method(method: number): Step<Endpoint, Socks5ClientReason> {
    if (method === METHOD_NONE) {
      this.#state = "reply";
      return writeStep(2, this.#request);
    }
    if (method === METHOD_PASSWORD && this.#password !== undefined) {
      this.#state = "password";
      return writeStep(2, this.#password);
    }
    return this.#refuse(2, "method-refused", method);
  }

  #refuse(
    consumed: number,
    reason: Socks5ClientReason,
    code = 0,
  ): Step<Endpoint, Socks5ClientReason> {
    this.#state = "ended";
    const text = reason === "reply" ? SOCKS5_REPLY_NAMES[code] ?? "unknown" : "";
    return refusedStep(consumed, reason, NO_BYTES, code, text);
  }
}

/** Reply: done. RFC 1928 §6, and so on to 8. */
export const SOCKS5_SUCCEEDED = 0;
/** Reply: it did not work. */
export const SOCKS5_GENERAL_FAILURE = 1;
/** Reply: a rule forbids it. */
export const SOCKS5_RULE = 2;
/** Reply: no way to the network. */
export const SOCKS5_NETWORK_UNREACHABLE = 3;
/** Reply: no way to the host, no answer, or no such name. */
export const SOCKS5_HOST_UNREACHABLE = 4;
/** Reply: nobody listens there. */
export const SOCKS5_CONNECTION_REFUSED = 5;
/** Reply: too many hops. */
export const SOCKS5_TTL_EXPIRED = 6;
/** Reply: the command is not carried out here. */
export const SOCKS5_COMMAND_UNSUPPORTED = 7;
/** Reply: the address type is not known here. */
export const SOCKS5_ADDRESS_UNSUPPORTED = 8;

/** Words for the reply codes. */
export const SOCKS5_REPLY_NAMES: readonly string[] = Object.freeze([
  "succeeded",
  "general failure",
  "not allowed by rule",
  "network unreachable",
  "host unreachable",
  "connection refused",
  "time to live expired",
  "command not supported",
  "address type not supported",
]);

/** The reply code of a failed dial. */
export function socks5ReplyOf(failure: DialFailure): number {
  switch (failure) {
    case "refused":
      return SOCKS5_CONNECTION_REFUSED;
    case "network-unreachable":
      return SOCKS5_NETWORK_UNREACHABLE;
    case "host-unreachable":
    case "timed-out":
    case "name":
      return SOCKS5_HOST_UNREACHABLE;
    case "rule":
      return SOCKS5_RULE;
    case "general":
      return SOCKS5_GENERAL_FAILURE;
  }
}

/**
 * Makes a reply.
 *
 * @param code One of the reply codes, 0 to 255.
 * @param bound The outbound's local address, the address of the relay, or what a name resolved to; all zeros when not
 * known.
 */
export function encodeSocks5Reply(
  code: number,
  bound: Endpoint = ANY_ENDPOINT,
): Uint8Array<ArrayBuffer> {
  integerIn(code, 0, 255, "a SOCKS5 reply code");
  return joinBytes([SOCKS5_VERSION, code, 0], encodeAddress(bound));
}

/**
 * Says where the data of a relayed datagram begins. The address is at `start + 3`.
 *
 * @returns Where the data begins, or a negative reason; fragments are refused.
 */
export function socks5DatagramData(bytes: Uint8Array, start: number, end: number): number {
  if (end - start < 4) return REJECT_ADDRESS_SHORT;
  if (bytes[start] !== 0 || bytes[start + 1] !== 0) return REJECT_SOCKS5_RESERVED;
  if (bytes[start + 2] !== 0) return REJECT_SOCKS5_FRAGMENT;
  const length = measureAddress(bytes, start + 3, end);
  if (length < 0) return length;
  return start + 3 + length > end ? REJECT_ADDRESS_SHORT : start + 3 + length;
}

/** Bytes before the address of a datagram. */
export const SOCKS5_DATAGRAM_ADDRESS_AT = 3;

/**
 * Writes the header of a relayed datagram.
 *
 * @returns Where the data begins, or {@linkcode REJECT_ADDRESS_ROOM}.
 * @throws {RangeError | TypeError} As `writeAddress`.
 */
export function writeSocks5DatagramHeader(into: Uint8Array, start: number, to: Endpoint): number {
  if (start + 3 > into.length) return REJECT_ADDRESS_ROOM;
  into.fill(0, start, start + 3);
  return writeAddress(into, start + 3, to);
}

const METHOD_NONE = 0;
const METHOD_PASSWORD = 2;
const METHOD_REFUSED = 0xff;
const PASSWORD_VERSION = 1;
const COMMANDS: ReadonlyMap<number, Socks5Command> = new Map([
  [0x01, "connect"],
  [0x02, "bind"],
  [0x03, "associate"],
  [0xf0, "resolve"],
  [0xf1, "resolve-ptr"],
]);
const textEncoder = new TextEncoder();
