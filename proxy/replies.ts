/**
 * What clients are told once it is known whether their destination was reached, and from errors to those words.
 *
 * @module
 */

import type { SocketAddress } from "../ffi/mod.ts";
import { DeadlineError, FastwireError, PeerError, SystemError } from "../internal/errors.ts";
import {
  ANY_ENDPOINT,
  type DialFailure,
  dialFailureOf,
  encodeHttpAnswer,
  encodeSocks4Reply,
  encodeSocks5Reply,
  encodeTunnelOpened,
  type Endpoint,
  httpStatusOf,
  SOCKS4_GRANTED,
  SOCKS4_REJECTED,
  SOCKS5_SUCCEEDED,
  socks5ReplyOf,
} from "./protocol/mod.ts";

/** How a client is answered; `none` when its protocol has no answer. */
export type ReplyKind = "socks4" | "socks5" | "http" | "none";

/**
 * What tells a client that its destination was reached; to be sent before any payload. May be empty.
 *
 * @param bound The local address of the connection to the destination, when known.
 */
export function encodeOpened(
  kind: ReplyKind,
  bound: SocketAddress | undefined,
): Uint8Array<ArrayBuffer> {
  switch (kind) {
    case "socks5":
      return encodeSocks5Reply(SOCKS5_SUCCEEDED, endpointOf(bound));
    case "socks4":
      return encodeSocks4Reply(SOCKS4_GRANTED, endpointOf(bound));
    case "http":
      return encodeTunnelOpened();
    case "none":
      return EMPTY;
  }
}

/** What tells a client that its destination was not reached. Empty when its protocol does not tell. */
export function encodeRefused(kind: ReplyKind, failure: DialFailure): Uint8Array<ArrayBuffer> {
  switch (kind) {
    case "socks5":
      return encodeSocks5Reply(socks5ReplyOf(failure));
    case "socks4":
      return encodeSocks4Reply(SOCKS4_REJECTED);
    case "http":
      return encodeHttpAnswer(httpStatusOf(failure), false);
    case "none":
      return EMPTY;
  }
}

/** An address as an endpoint; all zeros for none. */
export function endpointOf(address: SocketAddress | undefined): Endpoint {
  return address === undefined ? ANY_ENDPOINT : { host: address.address, port: address.port };
}

/** A rule, or the outbound `block`, forbids a destination. */
export class RejectedError extends FastwireError {
  /** Nothing is to be answered: the client is left to find out by itself. */
  readonly drop: boolean;

  /**
   * Describes what was forbidden.
   *
   * @param message In the grammar *Cannot do what: state, expectation*.
   * @param drop Whether nothing is answered.
   */
  constructor(message: string, drop = false) {
    super("proxy.rejected", message);
    this.drop = drop;
  }
}

/** Why a dial failed, in the words that clients are answered with. */
export function dialFailure(error: unknown): DialFailure {
  if (error instanceof RejectedError) return "rule";
  if (error instanceof DeadlineError) return "timed-out";
  if (error instanceof SystemError) {
    if (error.syscall === "getaddrinfo") return "name";
    return dialFailureOf(error.errnoName);
  }
  if (error instanceof PeerError) return SOCKS_FAILURES.get(error.peerCode) ?? "general";
  if (error instanceof FastwireError && error.code.startsWith("proxy.name-")) return "name";
  return "general";
}

/** Reply codes of a server of ours, SOCKS5 or a status of HTTP, handed on to the client. */
const SOCKS_FAILURES: ReadonlyMap<number, DialFailure> = new Map([
  [2, "rule"],
  [3, "network-unreachable"],
  [4, "host-unreachable"],
  [5, "refused"],
  [403, "rule"],
  [504, "timed-out"],
]);
const EMPTY: Uint8Array<ArrayBuffer> = new Uint8Array(0);
