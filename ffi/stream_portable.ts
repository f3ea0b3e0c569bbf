/**
 * What the portable stream drivers share. The runtimes read and write by promises; here that becomes the contract's
 * "now or later", with bounded memory: one read ahead of {@linkcode READ_AHEAD_BYTES} and one outbox of
 * {@linkcode OUTBOX_BYTES} a connection, made when first needed.
 *
 * Calls that may wait without a signal use the caller's memory directly and copy nothing. With a signal they cannot: an
 * aborted read of the runtime goes on, and would write into memory that is the caller's again.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { SocketAddress } from "./address.ts";
import { fromRuntimeError } from "./errno.ts";
import {
  type ConstantBuffer,
  STREAM_END,
  STREAM_FAILED,
  type StreamConnection,
  type StreamCounters,
  type StreamFailure,
  type StreamOptions,
  type StreamTraits,
  WOULD_BLOCK,
} from "./stream.ts";
import {
  checkCount,
  checkPosition,
  checkRange,
  failureOf,
  MISPLACED_CONSTANT,
  repeatConstant,
  Waiting,
} from "./stream_pending.ts";

/** A connected socket of a runtime, reduced to what is needed of it. */
export interface RuntimeSocket {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  /** Reads at least one byte. Answers how many, 0 at the end; rejects when the connection broke or was closed. */
  read(into: Uint8Array<ArrayBuffer>): Promise<number>;
  /** Writes at least one byte. Answers how many; rejects when the connection broke or was closed. */
  write(from: Uint8Array<ArrayBuffer>): Promise<number>;
  /** Nothing more will be written. Rejects when the connection is gone. */
  end(): Promise<void>;
  configure(options: StreamOptions): void;
  /** Ends reads and writes that are under way. */
  close(reset: boolean): Promise<void>;
}

/** What the connections of one host share. */
export interface PortableContext {
  readonly traits: StreamTraits;
  /** Where bytes go that nobody wants to see; any number of reads may go there at once. */
  readonly dump: Uint8Array<ArrayBuffer>;
  readonly gone: (connection: PortableConnection) => void;
}

/** A constant of the portable drivers. */
export class PortableConstant implements ConstantBuffer {
  readonly length: number;
  /** The bytes, repeated to one good write. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  closed = false;

  /** @throws {RangeError} When there are no bytes. */
  constructor(bytes: Uint8Array) {
    this.length = bytes.length;
    this.bytes = repeatConstant(bytes, WRITE_BYTES);
  }

  close(): void {
    this.closed = true;
  }
}

/** A connection on a socket of the runtime. */
export class PortableConnection implements StreamConnection {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  readonly traits: StreamTraits;
  readonly receiveBufferBytes = 0;
  readonly sendBufferBytes = 0;

  readonly #context: PortableContext;
  readonly #socket: RuntimeSocket;
  readonly #receiving = new Waiting<number>();
  readonly #sending = new Waiting<number>();
  #failure: StreamFailure | undefined;
  #closing: Promise<void> | undefined;

  // Received and not taken yet: bytes [#from, #to) of the read ahead.
  #ahead: Uint8Array<ArrayBuffer> = NO_BYTES;
  #from = 0;
  #to = 0;
  /** A read of the runtime is under way. */
  #reading = false;
  /** Nothing more will come; whether the user was told. */
  #readOver = false;
  #readOverTold = false;

  // Taken and not written yet: bytes [#out, #outEnd) of the outbox.
  #outbox: Uint8Array<ArrayBuffer> = NO_BYTES;
  #out = 0;
  #outEnd = 0;
  #writing = false;
  #wantsRoom = false;
  #ended = false;
  #endSent: Promise<void> | undefined;

  #readable: (() => void) | undefined;
  #writable: (() => void) | undefined;
  #inside = NOWHERE;
  #readScheduled = false;
  #writeScheduled = false;
  #receiveCalls = 0;
  #sendCalls = 0;
  #bytesReceived = 0;
  #bytesSent = 0;
  #wouldBlocks = 0;
  #drained: (() => void) | undefined;

  constructor(context: PortableContext, socket: RuntimeSocket) {
    this.#context = context;
    this.#socket = socket;
    this.traits = context.traits;
    this.local = socket.local;
    this.remote = socket.remote;
  }

  get failure(): StreamFailure | undefined {
    return this.#failure;
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    checkRange(bytes, start, end);
    return this.#receiving.idle ? this.#take(bytes, start, end - start) : WOULD_BLOCK;
  }

  receive(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    checkRange(bytes, start, end);
    return this.#receiveOrWait(bytes, start, end - start, signal);
  }

  discardNow(maxBytes: number): number {
    checkCount(maxBytes);
    return this.#receiving.idle ? this.#take(undefined, 0, maxBytes) : WOULD_BLOCK;
  }

  discard(maxBytes: number, signal?: AbortSignal): number | Promise<number> {
    checkCount(maxBytes);
    return this.#receiveOrWait(undefined, 0, maxBytes, signal);
  }

  sendNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    checkRange(bytes, start, end);
    if (this.#cannotSend()) return STREAM_FAILED;
    return this.#sending.idle ? this.#put(bytes, start, end) : this.#noRoom();
  }

  send(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    checkRange(bytes, start, end);
    const total = end - start;
    return this.#sendOrWait(
      total,
      (done) => this.#put(bytes, start + done, end),
      (done) => bytes.subarray(start + done, end),
      signal,
    );
  }

  sendPartsNow(
    first: Uint8Array<ArrayBuffer>,
    firstStart: number,
    firstEnd: number,
    second: Uint8Array<ArrayBuffer>,
    secondStart: number,
    secondEnd: number,
  ): number {
    if (firstStart === firstEnd) return this.sendNow(second, secondStart, secondEnd);
    if (secondStart === secondEnd) return this.sendNow(first, firstStart, firstEnd);
    checkRange(first, firstStart, firstEnd);
    checkRange(second, secondStart, secondEnd);
    if (this.#cannotSend()) return STREAM_FAILED;
    if (!this.#sending.idle) return this.#noRoom();
    // Joined before anything is written, or they would leave as two segments.
    const one = this.#copyOut(first, firstStart, firstEnd);
    const two = one === firstEnd - firstStart ? this.#copyOut(second, secondStart, secondEnd) : 0;
    return this.#putAway(one + two);
  }

  sendConstantNow(constant: ConstantBuffer, position: number, length: number): number {
    const { bytes } = ownConstant(constant);
    checkPosition(position, length);
    if (this.#cannotSend()) return STREAM_FAILED;
    if (!this.#sending.idle || this.#writing) return this.#noRoom();
    // Never changed by anybody: taken as it is, one piece at a time.
    const from = position % bytes.length;
    const piece = bytes.subarray(from, Math.min(from + length, bytes.length));
    this.#bytesSent += piece.length;
    this.#write(piece);
    return piece.length;
  }

  sendConstant(
    constant: ConstantBuffer,
    position: number,
    length: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    const { bytes } = ownConstant(constant);
    checkPosition(position, length);
    const piece = (done: number): Uint8Array<ArrayBuffer> => {
      const from = (position + done) % bytes.length;
      return bytes.subarray(from, Math.min(from + length - done, bytes.length));
    };
    return this.#sendOrWait(
      length,
      (done) => {
        const next = piece(done);
        return this.#put(next, 0, next.length);
      },
      piece,
      signal,
    );
  }

  watch(readable: (() => void) | undefined, writable?: (() => void) | undefined): void {
    if (this.#closing !== undefined) return;
    this.#readable = readable;
    this.#writable = writable;
    if (readable !== undefined) this.#goOnReading();
    if (writable !== undefined && this.#wantsRoom && !this.#writing) this.#scheduleWrite();
  }

  again(): void {
    if (this.#inside === READING) this.#scheduleRead();
    else if (this.#inside === WRITING) this.#scheduleWrite();
  }

  end(): void {
    if (!this.#sending.idle) throw new TypeError("Cannot end sending: a send waits");
    if (this.#ended || this.#closing !== undefined) return;
    this.#ended = true;
    if (!this.#writing) this.#sendEnd();
  }

  configure(options: StreamOptions): void {
    if (this.#closing === undefined) this.#socket.configure(options);
  }

  info(): undefined {
    return undefined;
  }

  originalDestination(): undefined {
    return undefined;
  }

  counters(): StreamCounters {
    return Object.freeze({
      receiveCalls: this.#receiveCalls,
      sendCalls: this.#sendCalls,
      bytesReceived: this.#bytesReceived,
      bytesSent: this.#bytesSent,
      wouldBlocks: this.#wouldBlocks,
    });
  }

  detach(): number {
    throw new TypeError("Cannot detach a connection: this driver has no descriptors");
  }

  close(options: { readonly reset?: boolean } = {}): Promise<void> {
    this.#closing ??= this.#shut(options.reset === true);
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #shut(reset: boolean): Promise<void> {
    this.#readable = this.#writable = undefined;
    // Bytes of a send that waits are the caller's and stay behind; those that were taken leave.
    const taken = this.#writing && this.#sending.idle && this.#failure === undefined;
    this.#receiving.settle(STREAM_END);
    this.#sending.settle(STREAM_FAILED);
    if (taken && !reset) await this.#drain();
    await this.#socket.close(reset);
    this.#context.gone(this);
  }

  /** Waits until what was taken has left, but not for ever: the peer may never read it. */
  async #drain(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
      timer = setTimeout(resolve, CLOSE_WAIT_MS);
    });
    clearTimeout(timer);
  }

  // Receiving.

  /** Hands over what was read ahead; `undefined` for `into` drops it. */
  #take(into: Uint8Array<ArrayBuffer> | undefined, start: number, most: number): number {
    if (this.#closing !== undefined) return STREAM_END;
    const count = Math.min(most, this.#to - this.#from);
    if (count > 0) {
      into?.set(this.#ahead.subarray(this.#from, this.#from + count), start);
      this.#from += count;
      this.#bytesReceived += count;
      return count;
    }
    if (this.#readOver || this.#failure !== undefined) {
      this.#readOverTold = true;
      return this.#failure === undefined ? STREAM_END : STREAM_FAILED;
    }
    this.#wouldBlocks++;
    this.#readAhead();
    return WOULD_BLOCK;
  }

  #receiveOrWait(
    into: Uint8Array<ArrayBuffer> | undefined,
    start: number,
    most: number,
    signal: AbortSignal | undefined,
  ): number | Promise<number> {
    this.#receiving.mustBeIdle("receive");
    if (signal?.aborted) return Promise.reject(signal.reason);
    const direct = signal === undefined && !this.#reading && !this.#readOver &&
      this.#from === this.#to && this.#closing === undefined;
    if (direct) {
      const target = into === undefined
        ? this.#context.dump.subarray(0, most)
        : into.subarray(start, start + most);
      return this.#readDirect(target);
    }
    const count = this.#take(into, start, most);
    if (count !== WOULD_BLOCK) return count;
    return this.#receiving.wait(() => {
      const count = this.#take(into, start, most);
      return count === WOULD_BLOCK ? undefined : count;
    }, signal);
  }

  #readDirect(target: Uint8Array<ArrayBuffer>): Promise<number> {
    // Waits without being tried again: the read itself is the attempt.
    const answer = this.#receiving.wait(() => undefined, undefined);
    this.#read(target, (count) => {
      this.#bytesReceived += count;
      if (count === 0) this.#readOverTold = true;
      // After a close nobody waits any more.
      this.#receiving.settle(this.#failure === undefined || count > 0 ? count : STREAM_FAILED);
    });
    return answer;
  }

  #readAhead(): void {
    if (this.#reading || this.#readOver || this.#closing !== undefined) return;
    if (this.#ahead.length === 0) this.#ahead = new Uint8Array(new ArrayBuffer(READ_AHEAD_BYTES));
    this.#read(this.#ahead, (count) => {
      this.#from = 0;
      this.#to = count;
    });
  }

  #read(target: Uint8Array<ArrayBuffer>, done: (count: number) => void): void {
    this.#reading = true;
    this.#receiveCalls++;
    this.#socket.read(target).then(
      (count) => {
        this.#reading = false;
        if (count === 0) this.#readOver = true;
        done(count);
        this.#deliver();
      },
      (error) => {
        this.#reading = false;
        this.#readOver = true;
        if (this.#closing === undefined) this.#failed(error, "recvmsg");
        done(0);
        this.#deliver();
      },
    );
  }

  readonly #readTurn = (): void => {
    this.#readScheduled = false;
    this.#deliver();
  };

  #deliver(): void {
    if (this.#closing !== undefined) return;
    this.#receiving.serve();
    if (this.#readable !== undefined && this.#somethingToTell()) {
      this.#inside = READING;
      try {
        this.#readable();
      } finally {
        this.#inside = NOWHERE;
        this.#goOnReading();
      }
    } else this.#goOnReading();
  }

  #somethingToTell(): boolean {
    return this.#from < this.#to || (this.#readOver && !this.#readOverTold);
  }

  /** Level-triggered, as the kernel is: what a callback left is announced again; for more, the runtime is asked. */
  #goOnReading(): void {
    if (this.#closing !== undefined) return;
    if (this.#readable !== undefined && this.#somethingToTell()) this.#scheduleRead();
    else if (this.#readable !== undefined || !this.#receiving.idle) this.#readAhead();
  }

  #scheduleRead(): void {
    if (this.#readScheduled) return;
    this.#readScheduled = true;
    setImmediate(this.#readTurn);
  }

  // Sending.

  #cannotSend(): boolean {
    if (this.#ended) throw new TypeError("Cannot send: end() was called");
    return this.#closing !== undefined || this.#failure !== undefined;
  }

  #noRoom(): number {
    this.#wouldBlocks++;
    this.#wantsRoom = true;
    return WOULD_BLOCK;
  }

  #put(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    return this.#putAway(this.#copyOut(bytes, start, end));
  }

  #putAway(count: number): number {
    if (count === 0) return this.#noRoom();
    this.#bytesSent += count;
    if (!this.#writing) this.#write(this.#outbox.subarray(this.#out, this.#outEnd));
    return count;
  }

  /** Copies what fits into the outbox. */
  #copyOut(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.#outbox.length === 0) this.#outbox = new Uint8Array(new ArrayBuffer(OUTBOX_BYTES));
    const count = Math.min(end - start, OUTBOX_BYTES - this.#outEnd);
    if (count > 0) {
      this.#outbox.set(bytes.subarray(start, start + count), this.#outEnd);
      this.#outEnd += count;
    }
    return count;
  }

  #sendOrWait(
    total: number,
    copy: (done: number) => number,
    piece: (done: number) => Uint8Array<ArrayBuffer>,
    signal: AbortSignal | undefined,
  ): number | Promise<number> {
    this.#sending.mustBeIdle("send");
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#cannotSend()) return STREAM_FAILED;
    let done = 0;
    const attempt = (): number | undefined => {
      while (done < total) {
        if (this.#failure !== undefined) return STREAM_FAILED;
        if (signal === undefined && total - done > COPY_BYTES) {
          // Worth more than a copy: written from where it is, once it is its turn.
          if (this.#writing) return undefined;
          const next = piece(done);
          this.#write(next);
          this.#bytesSent += next.length;
          done += next.length;
          // Its memory is in use until it is written; then this is tried again.
          return undefined;
        }
        const count = copy(done);
        if (count === WOULD_BLOCK) return undefined;
        done += count;
      }
      return this.#failure !== undefined ? STREAM_FAILED : total;
    };
    const answer = attempt();
    if (answer !== undefined) return answer;
    return this.#sending.wait(attempt, signal);
  }

  /** Writes all of `bytes`, then what came into the outbox meanwhile. */
  #write(bytes: Uint8Array<ArrayBuffer>): void {
    this.#writing = true;
    this.#sendCalls++;
    this.#socket.write(bytes).then(
      (count) => this.#written(bytes, count),
      (error) => this.#writeFailed(error),
    );
  }

  #written(bytes: Uint8Array<ArrayBuffer>, count: number): void {
    const own = bytes.buffer === this.#outbox.buffer;
    if (own) {
      this.#out += count;
      if (this.#out === this.#outEnd) this.#out = this.#outEnd = 0;
    } else if (count < bytes.length) return this.#write(bytes.subarray(count));
    if (this.#out < this.#outEnd) {
      return this.#write(this.#outbox.subarray(this.#out, this.#outEnd));
    }
    this.#writing = false;
    if (this.#drained !== undefined) this.#drained();
    if (this.#ended) this.#sendEnd();
    this.#roomCame();
  }

  #writeFailed(error: unknown): void {
    this.#writing = false;
    this.#out = this.#outEnd = 0;
    this.#drained?.();
    if (this.#closing !== undefined) return;
    this.#failed(error, "sendmsg");
    this.#roomCame();
  }

  readonly #writeTurn = (): void => {
    this.#writeScheduled = false;
    this.#wantsRoom = true;
    this.#roomCame();
  };

  #roomCame(): void {
    if (this.#closing !== undefined) return;
    // Not before the write is over: it may be of the caller's own memory.
    if (!this.#writing) this.#sending.serve();
    if (!this.#wantsRoom || this.#writable === undefined) return;
    this.#wantsRoom = false;
    this.#inside = WRITING;
    try {
      this.#writable();
    } finally {
      this.#inside = NOWHERE;
    }
  }

  #scheduleWrite(): void {
    if (this.#writeScheduled) return;
    this.#writeScheduled = true;
    setImmediate(this.#writeTurn);
  }

  #sendEnd(): void {
    // Refused only when the connection is gone, which the next receive tells.
    this.#endSent ??= this.#socket.end().catch(() => {});
  }

  #failed(error: unknown, syscall: string): void {
    const { errnoName } = fromRuntimeError(error, syscall, "move bytes");
    this.#failure ??= failureOf(errnoName, syscall);
  }
}

function ownConstant(constant: ConstantBuffer): PortableConstant {
  if (!(constant instanceof PortableConstant)) throw new TypeError(MISPLACED_CONSTANT);
  if (constant.closed) throw new TypeError("Cannot send the constant: it is closed");
  return constant;
}

const NOWHERE = 0;
const READING = 1;
const WRITING = 2;
const NO_BYTES: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(0));

/** Bytes read before anybody asks for them; together with the outbox the most a connection holds. */
export const READ_AHEAD_BYTES = 65_536;
/** Bytes taken before the runtime has written them. */
export const OUTBOX_BYTES = 65_536;
/** Sends up to this size are copied: it costs less than to wait for the write before. */
const COPY_BYTES = 16_384;
/** One write of a constant: fewer, larger writes are what the runtimes are good at. */
const WRITE_BYTES = 262_144;
/** How long a close may wait for bytes that are on their way to the kernel. */
const CLOSE_WAIT_MS = 1000;
