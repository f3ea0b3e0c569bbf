/**
 * Streams of Shadowsocks over any other stream, at both ends.
 *
 * Sealing and opening happen in buffers that are borrowed for as long as something lies in them: an idle connection holds
 * none.
 *
 * @module
 */

import { setImmediate } from "node:timers";
import {
  CALM,
  type SocketAddress,
  STREAM_END,
  STREAM_FAILED,
  type StreamFailure,
  type StreamPieces,
  WOULD_BLOCK,
} from "../ffi/mod.ts";
import type { Duplex } from "./duplex.ts";
import type { StreamOpener, StreamSealer } from "./protocol/mod.ts";
import { giveBuffer, isLarge, roomIn, rowBytes, takeBuffer } from "./shadowsocks_buffers.ts";
import { copyRange } from "./udp_socket.ts";

/** A stream with Shadowsocks around it. */
export class ShadowsocksDuplex implements Duplex {
  /** What {@linkcode ShadowsocksDuplex.openPiecesNow} found. */
  readonly opened: StreamPieces;
  readonly #inner: Duplex;
  readonly #opener: StreamOpener;
  readonly #sealer: StreamSealer;
  readonly #seconds: () => number;
  // Receiving: sealed bytes that are not complete, and payloads that were opened, in one buffer.
  #bytes: Uint8Array<ArrayBuffer> | undefined;
  #sealedStart = 0;
  #sealedEnd = 0;
  /** The payload that is being handed out, and where it goes on. */
  #range = 0;
  #ranges = 0;
  #rangeAt = 0;
  #over: number | undefined;
  #failure: StreamFailure | undefined;
  // Sending: what was sealed and did not leave yet.
  #out: Uint8Array<ArrayBuffer> | undefined;
  #outStart = 0;
  #outEnd = 0;
  #headerWaits: boolean;
  /** Something was sealed: from now on it is one chunk behind the other. */
  #begun = false;
  /** The last buffer was filled, so that a larger one would have been, too; in each direction. */
  #fullIn = false;
  #fullOut = false;
  #ended = false;
  #endedInner = false;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #readable: (() => unknown) | undefined;
  #writable: (() => unknown) | undefined;
  #wantsRoom = false;
  #receiving: Waiter | undefined;
  #sending: Waiter | undefined;
  #scheduled = false;
  #closed = false;

  /**
   * Puts a layer around a stream, which is this one's from here on.
   *
   * @param sealer Seals what is sent.
   * @param opener Opens what is received.
   * @param seconds Unix time.
   * @param begun What a server has done with the opener already; a client begins without, and holds its header back.
   */
  constructor(
    inner: Duplex,
    sealer: StreamSealer,
    opener: StreamOpener,
    seconds: () => number,
    begun?: OpenedSoFar,
  ) {
    this.#inner = inner;
    this.#sealer = sealer;
    this.#opener = opener;
    this.#seconds = seconds;
    this.#headerWaits = begun === undefined;
    const { starts, ends } = opener;
    this.opened = { bytes: NO_BYTES, starts, ends, first: 0, count: 0 };
    if (begun !== undefined) {
      this.#bytes = begun.bytes;
      this.#sealedStart = begun.start;
      this.#sealedEnd = begun.end;
      this.#ranges = opener.count;
      this.#rangeAt = opener.starts[0]!;
    } else {
      // A client whose server speaks first sends nothing; the server has to know where it wants to go.
      this.#timer = setTimeout(() => this.#sendHeader(), HEADER_MS);
    }
  }

  get local(): SocketAddress | undefined {
    return this.#inner.local;
  }

  get remote(): SocketAddress | undefined {
    return this.#inner.remote;
  }

  get failure(): StreamFailure | undefined {
    return this.#failure ?? this.#inner.failure;
  }

  get closed(): boolean {
    return this.#closed;
  }

  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.#closed) return STREAM_END;
    if (this.#receiving !== undefined) return WOULD_BLOCK;
    if (this.#headerWaits) this.#sendHeader();
    return this.#receive(bytes, start, end);
  }

  receive(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    if (this.#receiving !== undefined) {
      throw new TypeError("Cannot receive: another call waits, expected one at a time");
    }
    if (signal?.aborted) return Promise.reject(signal.reason);
    const count = this.receiveNow(bytes, start, end);
    if (count !== WOULD_BLOCK) return count;
    return new Promise((resolve, reject) => {
      this.#receiving = new Waiter(
        () => this.#receive(bytes, start, end),
        resolve,
        reject,
        signal,
        () => this.#receiving = undefined,
      );
      this.#watch();
    });
  }

  sendNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.#sending !== undefined) return WOULD_BLOCK;
    return this.#send(bytes, start, end);
  }

  send(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    if (this.#sending !== undefined) {
      throw new TypeError("Cannot send: another call waits, expected one at a time");
    }
    if (signal?.aborted) return Promise.reject(signal.reason);
    let at = start;
    const attempt = (): number => {
      while (at < end) {
        const count = this.#send(bytes, at, end);
        if (count < 0) return count;
        at += count;
      }
      return end - start;
    };
    const count = attempt();
    if (count !== WOULD_BLOCK) return count;
    return new Promise((resolve, reject) => {
      this.#sending = new Waiter(attempt, resolve, reject, signal, () => this.#sending = undefined);
      this.#watch();
    });
  }

  watch(readable: (() => unknown) | undefined, writable?: (() => unknown) | undefined): void {
    if (this.#closed) return;
    this.#readable = readable;
    this.#writable = writable;
    this.#watch();
    if (readable !== undefined && (this.#range < this.#ranges || this.#over !== undefined)) {
      this.#schedule();
    }
  }

  again(): void {
    this.#inner.again();
    // What was opened already is nothing the inner stream would call for.
    if (this.#range < this.#ranges) this.#schedule();
  }

  end(): void {
    if (this.#ended || this.#closed) return;
    if (this.#headerWaits) this.#sendHeader();
    this.#ended = true;
    this.#endInner();
  }

  close(options: { readonly reset?: boolean } = {}): Promise<void> {
    if (this.#closed) return Promise.resolve();
    if (this.#headerWaits && options.reset !== true) this.#sendHeader();
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#readable = this.#writable = undefined;
    giveBuffer(this.#bytes);
    giveBuffer(this.#out);
    this.#bytes = this.#out = undefined;
    this.#sealer.close();
    this.#opener.close();
    this.#receiving?.settle(STREAM_END);
    this.#sending?.settle(STREAM_FAILED);
    return this.#inner.close(options);
  }

  openPiecesNow(): number {
    if (this.#closed) return STREAM_END;
    if (this.#receiving !== undefined) return WOULD_BLOCK;
    if (this.#headerWaits) this.#sendHeader();
    while (this.#range === this.#ranges) {
      if (this.#over !== undefined) return this.#over;
      const filled = this.#fill();
      if (filled === WOULD_BLOCK) {
        this.#rest();
        return WOULD_BLOCK;
      }
      if (filled <= 0) this.#over = filled;
    }
    const { opened } = this;
    const { starts, ends } = this.#opener;
    opened.bytes = this.#bytes!;
    opened.first = this.#range;
    opened.count = this.#ranges;
    starts[this.#range] = this.#rangeAt;
    let count = 0;
    for (let i = this.#range; i < this.#ranges; i++) count += ends[i]! - starts[i]!;
    return count;
  }

  consume(count: number): void {
    const { starts, ends } = this.#opener;
    let left = count;
    while (left > 0) {
      const rest = ends[this.#range]! - this.#rangeAt;
      if (left < rest) {
        this.#rangeAt += left;
        return;
      }
      left -= rest;
      this.#rangeAt = starts[++this.#range] ?? 0;
    }
  }

  lendRoom(): StreamPieces | number | undefined {
    if (this.#ended || this.#closed) return STREAM_FAILED;
    const flushed = this.#flush();
    if (flushed !== 1) return flushed;
    // What comes first takes more room, and may be shorter.
    if (!this.#begun || this.#sending !== undefined) return undefined;
    this.#out = takeBuffer(this.#fullOut);
    this.#outStart = this.#outEnd = 0;
    return roomIn(this.#out, this.#sealer);
  }

  sendLent(count: number): number {
    const out = this.#out!;
    const { starts, ends, count: pieces } = roomIn(out, this.#sealer);
    const { tailroom } = this.#sealer;
    const seconds = count === 0 ? 0 : this.#seconds();
    let left = count;
    for (let i = 0; left > 0; i++) {
      const start = starts[i]!;
      const end = Math.min(ends[i]!, start + left);
      this.#sealer.seal(out, start, end, seconds);
      this.#outEnd = end + tailroom;
      left -= end - start;
      if (end === ends[pieces - 1]) this.#fullOut = true;
      else if (left === 0 && i < pieces / 4) this.#fullOut = false;
    }
    return this.#flush() === STREAM_FAILED ? STREAM_FAILED : count;
  }

  #receive(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    let at = start;
    for (;;) {
      at = this.#handOut(bytes, at, end);
      if (at === end) return at - start;
      if (this.#over !== undefined) return at > start ? at - start : this.#over;
      const filled = this.#fill();
      if (filled > 0) continue;
      if (filled === WOULD_BLOCK) {
        this.#rest();
        return at > start ? at - start : WOULD_BLOCK;
      }
      this.#over = filled;
    }
  }

  /** Nothing is there: a buffer with nothing in it is for others. */
  #rest(): void {
    if (this.#sealedStart !== this.#sealedEnd) return;
    giveBuffer(this.#bytes);
    this.#bytes = undefined;
  }

  #handOut(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    let at = start;
    const { starts, ends } = this.#opener;
    while (this.#range < this.#ranges && at < end) {
      const rest = ends[this.#range]! - this.#rangeAt;
      const count = Math.min(rest, end - at);
      copyRange(this.#bytes!, this.#rangeAt, this.#rangeAt + count, bytes, at);
      at += count;
      this.#rangeAt += count;
      if (count === rest) this.#rangeAt = starts[++this.#range] ?? 0;
    }
    return at;
  }

  /** Receives and opens more. @returns 1 when something was opened, or was received that is not complete. */
  #fill(): number {
    const opener = this.#opener;
    const isEmpty = this.#sealedStart === this.#sealedEnd;
    if (isEmpty && this.#bytes !== undefined && isLarge(this.#bytes) !== this.#fullIn) this.#rest();
    const buffer = this.#bytes ??= takeBuffer(this.#fullIn);
    if (isEmpty) this.#sealedStart = this.#sealedEnd = 0;
    else if (buffer.length - this.#sealedStart < opener.maxNeed + READ_BYTES) {
      buffer.copyWithin(0, this.#sealedStart, this.#sealedEnd);
      this.#sealedEnd -= this.#sealedStart;
      this.#sealedStart = 0;
    }
    const pending = this.#open();
    if (pending !== 0) return pending;
    const row = this.#sealedStart + rowBytes(buffer, opener.maxNeed);
    const end = row > this.#sealedEnd ? Math.min(row, buffer.length) : buffer.length;
    const count = this.#inner.receiveNow(buffer, this.#sealedEnd, end);
    if (this.#sealedEnd + count === row) this.#fullIn = true;
    else if (count > 0 && count < row >> 2) this.#fullIn = false;
    if (count === WOULD_BLOCK || count === STREAM_FAILED) return count;
    if (count === STREAM_END) {
      // An end inside a chunk is a connection that was cut.
      if (opener.atBoundary && this.#sealedStart === this.#sealedEnd) return STREAM_END;
      this.#failure ??= CUT;
      return STREAM_FAILED;
    }
    this.#sealedEnd += count;
    const opened = this.#open();
    return opened === 0 ? 1 : opened;
  }

  /** Opens what is complete. @returns 1 when there is a payload, 0 when there is none yet. */
  #open(): number {
    const opener = this.#opener;
    if (this.#sealedEnd - this.#sealedStart < opener.need) return 0;
    this.#sealedStart += opener.open(
      this.#bytes!,
      this.#sealedStart,
      this.#sealedEnd,
      this.#seconds(),
    );
    if (opener.state === "drain") {
      this.#failure ??= FORGED;
      return STREAM_FAILED;
    }
    this.#range = 0;
    this.#ranges = opener.count;
    this.#rangeAt = opener.starts[0]!;
    return opener.count > 0 ? 1 : 0;
  }

  #send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.#ended) throw new TypeError("Cannot send: end() was called");
    if (this.#closed) return STREAM_FAILED;
    const flushed = this.#flush();
    if (flushed !== 1) return flushed;
    this.#headerWaits = false;
    clearTimeout(this.#timer);
    const sealer = this.#sealer;
    const out = this.#out ??= takeBuffer();
    let from = start;
    let at = 0;
    while (from < end) {
      const { headroom, tailroom } = sealer;
      const room = out.length - at - headroom - tailroom;
      if (room < LEAST_CHUNK && from > start) break;
      const count = Math.min(end - from, sealer.maxPayload, room);
      const payload = at + headroom;
      copyRange(bytes, from, from + count, out, payload);
      const begin = sealer.seal(out, payload, payload + count, this.#seconds());
      const sealedEnd = payload + count + tailroom;
      // The room was an upper bound: the chunks of one send lie without gaps.
      if (begin > at) out.copyWithin(at, begin, sealedEnd);
      at += sealedEnd - begin;
      from += count;
    }
    this.#begun = true;
    this.#outStart = 0;
    this.#outEnd = at;
    const left = this.#flush();
    return left === STREAM_FAILED ? STREAM_FAILED : from - start;
  }

  /** Sends what was sealed. @returns 1 when all of it left. */
  #flush(): number {
    const out = this.#out;
    if (out === undefined) return 1;
    while (this.#outStart < this.#outEnd) {
      const count = this.#inner.sendNow(out, this.#outStart, this.#outEnd);
      if (count < 0) {
        if (count === WOULD_BLOCK && !this.#wantsRoom) {
          this.#wantsRoom = true;
          this.#watch();
        }
        return count;
      }
      this.#outStart += count;
    }
    giveBuffer(out);
    this.#out = undefined;
    this.#wantsRoom = false;
    this.#endInner();
    return 1;
  }

  #endInner(): void {
    if (!this.#ended || this.#endedInner || this.#out !== undefined) return;
    this.#endedInner = true;
    this.#inner.end();
  }

  /** Sends the header alone: nobody had anything to send with it. */
  #sendHeader(): void {
    clearTimeout(this.#timer);
    if (!this.#headerWaits || this.#closed) return;
    this.#headerWaits = false;
    const out = this.#out = takeBuffer();
    const { headroom, tailroom } = this.#sealer;
    this.#outStart = this.#sealer.seal(out, headroom, headroom, this.#seconds());
    this.#begun = true;
    this.#outEnd = headroom + tailroom;
    this.#flush();
  }

  #watch(): void {
    const reads = this.#readable !== undefined || this.#receiving !== undefined;
    const writes = this.#writable !== undefined || this.#sending !== undefined || this.#wantsRoom;
    this.#inner.watch(reads ? this.#onReadable : undefined, writes ? this.#onWritable : undefined);
  }

  readonly #onReadable = (): unknown => {
    const waits = this.#receiving !== undefined;
    this.#receiving?.attempt();
    const answer = this.#readable?.();
    return waits ? undefined : answer;
  };

  readonly #onWritable = (): unknown => {
    const flushed = this.#flush();
    if (flushed === WOULD_BLOCK) return CALM;
    this.#wantsRoom = false;
    const waits = this.#sending !== undefined;
    this.#sending?.attempt();
    const answer = this.#writable?.();
    return waits ? undefined : answer;
  };

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      if (!this.#closed) this.#onReadable();
    });
  }
}

/** Where a server's opener has got to when its request is known. */
export interface OpenedSoFar {
  /** A buffer of {@linkcode takeBuffer}; the payloads that were found lie in it. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where sealed bytes begin that are not complete. */
  readonly start: number;
  /** Where they end. */
  readonly end: number;
}

class Waiter {
  readonly #try: () => number;
  readonly #resolve: (count: number) => void;
  readonly #signal: AbortSignal | undefined;
  readonly #onAbort: () => void;
  readonly #done: () => void;

  constructor(
    attempt: () => number,
    resolve: (count: number) => void,
    reject: (reason: unknown) => void,
    signal: AbortSignal | undefined,
    done: () => void,
  ) {
    this.#try = attempt;
    this.#resolve = resolve;
    this.#signal = signal;
    this.#done = done;
    this.#onAbort = () => {
      done();
      reject(signal!.reason);
    };
    signal?.addEventListener("abort", this.#onAbort, { once: true });
  }

  attempt(): void {
    const count = this.#try();
    if (count !== WOULD_BLOCK) this.settle(count);
  }

  settle(count: number): void {
    this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#done();
    this.#resolve(count);
  }
}

const READ_BYTES = 16_384;
const LEAST_CHUNK = 1024;
const NO_BYTES: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(0));
/** How long a header waits for something to travel with; proxy.md §2. */
const HEADER_MS = 100;
const CUT: StreamFailure = Object.freeze({ kind: "other", errnoName: "", syscall: "receive" });
const FORGED: StreamFailure = CUT;
