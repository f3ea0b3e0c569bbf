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
   * is room, or a failure, after a send answered `WOULD_BLOCK`. Either may answer `CALM`.
   */
  watch(readable: (() => unknown) | undefined, writable?: (() => unknown) | undefined): void;
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

/**
 * A stream of which some bytes were received already. A relay takes it apart with {@linkcode unwrap}, so that what is
 * below stays a connection the kernel can relay.
 */
export class PrefixedDuplex implements Duplex {
  /** What the bytes were received from. */
  readonly inner: Duplex;
  #prefix: Uint8Array;
  #readable: (() => unknown) | undefined;
  #writable: (() => unknown) | undefined;

  /**
   * Puts bytes in front.
   *
   * @param prefix Kept, not copied.
   */
  constructor(inner: Duplex, prefix: Uint8Array) {
    this.inner = inner;
    this.#prefix = prefix;
  }

  /** Bytes that are still in front. */
  get prefix(): Uint8Array {
    return this.#prefix;
  }

  get local(): SocketAddress | undefined {
    return this.inner.local;
  }

  get remote(): SocketAddress | undefined {
    return this.inner.remote;
  }

  get failure(): StreamFailure | undefined {
    return this.inner.failure;
  }

  get closed(): boolean {
    return this.inner.closed;
  }

  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.#prefix.length === 0 || this.inner.closed) {
      return this.inner.receiveNow(bytes, start, end);
    }
    const count = Math.min(end - start, this.#prefix.length);
    bytes.set(this.#prefix.subarray(0, count), start);
    this.#prefix = this.#prefix.subarray(count);
    return count;
  }

  receive(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    if (this.#prefix.length > 0) return this.receiveNow(bytes, start, end);
    return this.inner.receive(bytes, start, end, signal);
  }

  sendNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    return this.inner.sendNow(bytes, start, end);
  }

  send(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    return this.inner.send(bytes, start, end, signal);
  }

  watch(readable: (() => unknown) | undefined, writable?: (() => unknown) | undefined): void {
    this.#readable = readable;
    this.#writable = writable;
    this.inner.watch(readable, writable);
    if (readable === undefined || this.#prefix.length === 0) return;
    queueMicrotask(() => {
      if (this.#readable === readable && this.#prefix.length > 0 && !this.closed) readable();
    });
  }

  again(): void {
    this.inner.again();
    // Called for the prefix, the inner one knows of no callback that could come again.
    if (this.#prefix.length > 0) this.watch(this.#readable, this.#writable);
  }

  end(): void {
    this.inner.end();
  }

  close(options?: { readonly reset?: boolean }): Promise<void> {
    this.#prefix = new Uint8Array(0);
    return this.inner.close(options);
  }
}

/** A stream without what was put in front of it, and what that was. */
export function unwrap(
  duplex: Duplex,
): { readonly stream: Duplex; readonly prefix: Uint8Array | undefined } {
  let stream = duplex;
  let prefix: Uint8Array | undefined;
  while (stream instanceof PrefixedDuplex) {
    // The outer bytes come first.
    prefix = prefix === undefined ? stream.prefix : join(prefix, stream.prefix);
    stream = stream.inner;
  }
  return { stream, prefix };
}

/** Puts bytes in front of a stream; the stream itself when there are none. */
export function withPrefix(stream: Duplex, prefix: Uint8Array): Duplex {
  return prefix.length === 0 ? stream : new PrefixedDuplex(stream, prefix);
}

/** Two pieces as one. */
export function join(first: Uint8Array, second: Uint8Array): Uint8Array<ArrayBuffer> {
  const joined = new Uint8Array(first.length + second.length);
  joined.set(first);
  joined.set(second, first.length);
  return joined;
}
