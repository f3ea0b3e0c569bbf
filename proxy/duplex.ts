/**
 * Byte streams as the parts of the proxy see them: a connection, or a protocol around one.
 *
 * A {@linkcode Duplex} has the non-waiting verbs of `ffi`'s streams, so a connection is one as it is, and a relay through
 * any number of layers makes no promise a piece.
 *
 * @module
 */

import type { SocketAddress, StreamConnection, StreamFailure, StreamTraits } from "../ffi/mod.ts";

/** A byte stream in both directions. What a peer does is never thrown. */
export interface Duplex {
  /** Address on this side of the socket below; `undefined` when there is none. */
  readonly local: SocketAddress | undefined;
  /** Address on the other side of the socket below; `undefined` when there is none. */
  readonly remote: SocketAddress | undefined;
  /** Why it is gone; `undefined` while it is not, and when it was closed here. */
  readonly failure: StreamFailure | undefined;
  /** Whether it was closed, or given away, here. */
  readonly closed: boolean;
  /** Only on connections as the system gives them: what is sent is what goes over the wire. See {@linkcode isRaw}. */
  readonly traits?: StreamTraits;

  /**
   * Receives what is there now into `[start, end)`.
   *
   * @returns How many bytes; `STREAM_END` at the peer's end and after {@linkcode Duplex.close}; `WOULD_BLOCK`;
   * `STREAM_FAILED`.
   * @throws {RangeError} When `[start, end)` is empty or not inside `bytes`.
   */
  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number;
  /**
   * The same, but waits for at least one byte. One receive may wait at a time.
   *
   * @returns As {@linkcode Duplex.receiveNow}, never `WOULD_BLOCK`. Rejects with `signal.reason` when aborted; nothing is
   * lost then.
   */
  receive(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number>;
  /**
   * Sends as much of `[start, end)` as there is room for. The bytes may be overwritten when it returns.
   *
   * @returns How many bytes were taken; `WOULD_BLOCK`; `STREAM_FAILED`, also after {@linkcode Duplex.close}.
   */
  sendNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number;
  /**
   * Sends all of `[start, end)`, waiting for room. One send may wait at a time.
   *
   * @returns `end − start`, or `STREAM_FAILED`. Rejects with `signal.reason` when aborted.
   */
  send(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number>;
  /**
   * Sets who is called back; `undefined` calls nobody. `readable` is called whenever bytes, the end or a failure may be
   * waiting, and must receive until it gets no bytes or ask for {@linkcode Duplex.again}. `writable` is called once there
   * is room, or a failure, after a send answered `WOULD_BLOCK` or took less than it was given.
   */
  watch(readable: (() => void) | undefined, writable?: (() => void) | undefined): void;
  /** From inside a watch callback that stopped early to be fair: call me again next turn. */
  again(): void;
  /** Says that nothing more will be sent. Receiving goes on. Idempotent. */
  end(): void;
  /** Closes it. Idempotent. @param options `reset`: cut it, where that can be expressed. */
  close(options?: { readonly reset?: boolean }): Promise<void>;
}

/** Whether a stream is a connection as the system gives it, with no protocol around it. */
export function isRaw(duplex: Duplex): duplex is StreamConnection {
  return duplex.traits !== undefined;
}
