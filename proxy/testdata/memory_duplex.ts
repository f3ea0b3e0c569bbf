/**
 * A stream in memory whose two ends take and give as much as a test says.
 *
 * @module
 */

import {
  type SocketAddress,
  STREAM_END,
  STREAM_FAILED,
  type StreamConnection,
  type StreamPieces,
  WOULD_BLOCK,
} from "../../ffi/mod.ts";

/** Bytes on their way in one direction. */
class Way {
  readonly #bytes: Uint8Array<ArrayBuffer>;
  #from = 0;
  #to = 0;
  ended = false;
  /** The next call moves at most so many bytes; 0 is none. */
  most: number = Infinity;

  constructor(capacity: number) {
    this.#bytes = new Uint8Array(new ArrayBuffer(capacity));
  }

  get length(): number {
    return this.#to - this.#from;
  }

  put(bytes: Uint8Array, start: number, end: number): number {
    if (this.#from > 0) {
      this.#bytes.copyWithin(0, this.#from, this.#to);
      this.#to -= this.#from;
      this.#from = 0;
    }
    const count = Math.min(end - start, this.#bytes.length - this.#to, this.most);
    this.#bytes.set(bytes.subarray(start, start + count), this.#to);
    this.#to += count;
    return count;
  }

  take(into: Uint8Array, start: number, end: number): number {
    const count = Math.min(end - start, this.length, this.most);
    into.set(this.#bytes.subarray(this.#from, this.#from + count), start);
    this.#from += count;
    return count;
  }
}

/** One end. */
export class MemoryEnd {
  closed = false;
  readonly failure = undefined;
  readonly local: SocketAddress = HERE;
  readonly remote: SocketAddress = HERE;
  /** Bytes that come. */
  readonly incoming: Way;
  readonly #outgoing: Way;
  #readable: (() => void) | undefined;
  #writable: (() => void) | undefined;
  #wantsRoom = false;
  #ended = false;

  private constructor(incoming: Way, outgoing: Way) {
    this.incoming = incoming;
    this.#outgoing = outgoing;
  }

  /** Two ends that know the verbs for pieces, as connections of the kernel's driver do. */
  static pair(capacity: number): readonly [MemoryEnd, MemoryEnd] {
    const one = new Way(capacity), two = new Way(capacity);
    return [new MemoryEnd(one, two), new MemoryEnd(two, one)];
  }

  /** As what the proxy takes for a connection. */
  get connection(): StreamConnection {
    return this as unknown as StreamConnection;
  }

  /** Calls back, as a loop would; each of the two moves at most `most` bytes a call. */
  turn(most: number): void {
    this.incoming.most = this.#outgoing.most = most;
    if (this.incoming.length > 0 || this.incoming.ended) this.#readable?.();
    if (!this.#wantsRoom || this.#writable === undefined) return;
    this.#wantsRoom = false;
    this.#writable();
  }

  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.closed) return STREAM_END;
    const count = this.incoming.take(bytes, start, end);
    if (count > 0) return count;
    return this.incoming.ended && this.incoming.length === 0 ? STREAM_END : WOULD_BLOCK;
  }

  receivePiecesNow({ bytes, starts, ends, first, count }: StreamPieces): number {
    let total = 0;
    for (let i = first; i < count; i++) {
      const got = this.receiveNow(bytes, starts[i]!, ends[i]!);
      if (got <= 0) return total > 0 ? total : got;
      total += got;
      if (got < ends[i]! - starts[i]!) break;
    }
    return total;
  }

  sendNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.closed) return STREAM_FAILED;
    if (this.#ended) throw new TypeError("Cannot send: end() was called");
    const count = this.#outgoing.put(bytes, start, end);
    if (count > 0) return count;
    this.#wantsRoom = true;
    return WOULD_BLOCK;
  }

  sendPiecesNow({ bytes, starts, ends, first, count }: StreamPieces): number {
    let total = 0;
    for (let i = first; i < count; i++) {
      const taken = this.sendNow(bytes, starts[i]!, ends[i]!);
      if (taken <= 0) return total > 0 ? total : taken;
      total += taken;
      if (taken < ends[i]! - starts[i]!) break;
    }
    return total;
  }

  watch(readable: (() => void) | undefined, writable?: () => void): void {
    this.#readable = readable;
    this.#writable = writable;
  }

  again(): void {}

  end(): void {
    this.#ended = true;
    this.#outgoing.ended = true;
  }

  close(): Promise<void> {
    this.closed = true;
    this.#outgoing.ended = true;
    return Promise.resolve();
  }
}

const HERE: SocketAddress = Object.freeze({ family: "ipv4", address: "127.0.0.1", port: 1 });
