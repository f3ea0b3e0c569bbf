/**
 * Datagrams as the parts of the proxy see them: a socket, or a protocol around one.
 *
 * @module
 */

import type { Endpoint } from "./protocol/mod.ts";

/** Bytes in front of the data that a receiver may overwrite, and that a sender must leave free: any header fits. */
export const PACKET_HEADROOM = 512;
/** The same behind the data. */
export const PACKET_TAILROOM = 64;
/** Longest data of a datagram, bytes. */
export const PACKET_MAX_BYTES = 65_535;

/**
 * Called with each datagram. It lies in `[start, end)` with {@linkcode PACKET_HEADROOM} and {@linkcode PACKET_TAILROOM}
 * around it, and is the receiver's until it returns.
 */
export type PacketReceiver = (
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
  from: Endpoint,
) => void;

/** Datagrams to and from anywhere. Nothing waits: what finds no room is lost, as datagrams are. */
export interface PacketConnection {
  /** Whether it was closed, here or because what carried it ended. */
  readonly closed: boolean;
  /**
   * Sends `[start, end)`, which has {@linkcode PACKET_HEADROOM} and {@linkcode PACKET_TAILROOM} around it that may be
   * overwritten.
   *
   * @param to An address or a name.
   */
  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number, to: Endpoint): void;
  /**
   * Sets who gets what arrives; nobody gets what arrived before.
   *
   * @param closed Called once if it ends by itself.
   */
  watch(receiver: PacketReceiver | undefined, closed?: () => void): void;
  /** Idempotent. */
  close(): void;
}
