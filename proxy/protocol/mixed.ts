/**
 * Which protocol a client of a `mixed` listener speaks.
 *
 * @module
 */

import { SOCKS4_VERSION } from "./socks4.ts";
import { SOCKS5_VERSION } from "./socks5.ts";

/** What a client may speak. */
export type MixedProtocol = "socks4" | "socks5" | "http";

/** Tells by the first byte, which stays where it is: no HTTP method begins with 04 or 05. */
export function chooseMixedProtocol(firstByte: number): MixedProtocol {
  if (firstByte === SOCKS4_VERSION) return "socks4";
  return firstByte === SOCKS5_VERSION ? "socks5" : "http";
}
