/**
 * One TCP connection of the kernel's driver: moving bytes, waiting, ending.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import type { SocketAddress } from "./address.ts";
import { SHUT_WR } from "./constants_linux.ts";
import { errnoName } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import type { Reactor, Watch } from "./reactor.ts";
import {
  type ConstantBuffer,
  STREAM_END,
  STREAM_FAILED,
  type StreamConnection,
  type StreamCounters,
  type StreamFailure,
  type StreamInfo,
  type StreamOptions,
  type StreamPieces,
  type StreamTraits,
  WOULD_BLOCK,
} from "./stream.ts";
import type { SocketNames } from "./stream_listener_linux.ts";
import {
  armReset,
  bufferBytes,
  configureSocket,
  readInfo,
  readOriginalDestination,
} from "./stream_options_linux.ts";
import {
  checkCount,
  checkPieces,
  checkPosition,
  checkRange,
  failureOf,
  MISPLACED_CONSTANT,
  Waiting,
} from "./stream_pending.ts";
import { LinuxConstant, NOTHING, type StreamVector } from "./stream_vector_linux.ts";

/** What the sockets of one host share: they all live on one thread, and every call is over when it returns. */
export interface StreamContext {
  readonly library: Libc;
  readonly reactor: Reactor;
  readonly vector: StreamVector;
  readonly names: SocketNames;
  readonly traits: StreamTraits;
  /** A connection belongs to the host from here on. */
  readonly came: (connection: LinuxStreamConnection) => void;
  /** It is closed, or belongs to somebody else. */
  readonly gone: (connection: LinuxStreamConnection) => void;
}

/** A connected TCP socket made, or adopted, through the C library. */
export class LinuxStreamConnection implements StreamConnection {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  readonly traits: StreamTraits;

  readonly #context: StreamContext;
  readonly #vector: StreamVector;
  readonly #receiving = new Waiting<number>();
  readonly #sending = new Waiting<number>();
  #fd: number;
  #failure: StreamFailure | undefined;
  #readWatch: Watch | undefined;
  #writeWatch: Watch | undefined;
  #readable: (() => unknown) | undefined;
  #writable: (() => unknown) | undefined;
  /** Nothing more will come: the end, or the failure, was told. */
  #readOver = false;
  /** A send found no room, so whoever sends wants to know when there is some. */
  #wantsRoom = false;
  #ended = false;
  // Which callback runs, and whether it asked to be called again.
  #inside = NOWHERE;
  #againRead = false;
  #againWrite = false;
  #readScheduled = false;
  #writeScheduled = false;
  #receiveCalls = 0;
  #sendCalls = 0;
  #bytesReceived = 0;
  #bytesSent = 0;
  #wouldBlocks = 0;

  /** @param fd A connected, non-blocking socket; belongs to the connection. */
  constructor(context: StreamContext, fd: number, local: SocketAddress, remote: SocketAddress) {
    this.#context = context;
    this.#vector = context.vector;
    this.#fd = fd;
    this.traits = context.traits;
    this.local = local;
    this.remote = remote;
    context.came(this);
  }

  get failure(): StreamFailure | undefined {
    return this.#failure;
  }

  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Whether a receive or a send waits, so that it cannot be given away. */
  get waits(): boolean {
    return !this.#receiving.idle || !this.#sending.idle;
  }

  get receiveBufferBytes(): number {
    return this.#fd < 0 ? 0 : bufferBytes(this.#context.library, this.#fd, "receiveBuffer");
  }

  get sendBufferBytes(): number {
    return this.#fd < 0 ? 0 : bufferBytes(this.#context.library, this.#fd, "sendBuffer");
  }

  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    checkRange(bytes, start, end);
    if (this.#fd < 0) return STREAM_END;
    if (!this.#receiving.idle) return WOULD_BLOCK;
    return this.#received(this.#vector.receive(this.#fd, bytes, start, end));
  }

  receive(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    this.#receiving.mustBeIdle("receive");
    if (signal?.aborted) return Promise.reject(signal.reason);
    const count = this.receiveNow(bytes, start, end);
    if (count !== WOULD_BLOCK) return count;
    return this.#await(() => {
      const count = this.#received(this.#vector.receive(this.#fd, bytes, start, end));
      return count === WOULD_BLOCK ? undefined : count;
    }, signal);
  }

  discardNow(maxBytes: number): number {
    checkCount(maxBytes);
    if (this.#fd < 0) return STREAM_END;
    if (!this.#receiving.idle) return WOULD_BLOCK;
    return this.#received(this.#vector.discard(this.#fd, maxBytes));
  }

  discard(maxBytes: number, signal?: AbortSignal): number | Promise<number> {
    this.#receiving.mustBeIdle("receive");
    if (signal?.aborted) return Promise.reject(signal.reason);
    const count = this.discardNow(maxBytes);
    if (count !== WOULD_BLOCK) return count;
    return this.#await(() => {
      const count = this.#received(this.#vector.discard(this.#fd, maxBytes));
      return count === WOULD_BLOCK ? undefined : count;
    }, signal);
  }

  sendNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    checkRange(bytes, start, end);
    if (this.#cannotSend()) return STREAM_FAILED;
    if (!this.#sending.idle) return WOULD_BLOCK;
    return this.#sent(this.#vector.send(this.#fd, bytes, start, end));
  }

  send(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    checkRange(bytes, start, end);
    return this.#sendAll(
      end - start,
      (done) => this.#vector.send(this.#fd, bytes, start + done, end),
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
    if (!this.#sending.idle) return WOULD_BLOCK;
    return this.#sent(
      this.#vector.sendParts(
        this.#fd,
        first,
        firstStart,
        firstEnd,
        second,
        secondStart,
        secondEnd,
      ),
    );
  }

  receivePiecesNow(pieces: StreamPieces): number {
    checkPieces(pieces);
    if (this.#fd < 0) return STREAM_END;
    if (!this.#receiving.idle) return WOULD_BLOCK;
    return this.#received(this.#vector.receivePieces(this.#fd, pieces));
  }

  sendPiecesNow(pieces: StreamPieces): number {
    checkPieces(pieces);
    if (this.#cannotSend()) return STREAM_FAILED;
    if (!this.#sending.idle) return WOULD_BLOCK;
    return this.#sent(this.#vector.sendPieces(this.#fd, pieces));
  }

  sendConstantNow(constant: ConstantBuffer, position: number, length: number): number {
    const own = ownConstant(constant);
    checkPosition(position, length);
    if (this.#cannotSend()) return STREAM_FAILED;
    if (!this.#sending.idle) return WOULD_BLOCK;
    return this.#sent(this.#vector.sendConstant(this.#fd, own, position, length));
  }

  sendConstant(
    constant: ConstantBuffer,
    position: number,
    length: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    const own = ownConstant(constant);
    checkPosition(position, length);
    return this.#sendAll(
      length,
      (done) => this.#vector.sendConstant(this.#fd, own, position + done, length - done),
      signal,
    );
  }

  watch(readable: (() => unknown) | undefined, writable?: (() => unknown) | undefined): void {
    if (this.#fd < 0) return;
    this.#readable = readable;
    this.#writable = writable;
    this.#rearmRead();
    this.#rearmWrite();
  }

  again(): void {
    if (this.#inside === READING) this.#againRead = true;
    else if (this.#inside === WRITING) this.#againWrite = true;
  }

  end(): void {
    if (!this.#sending.idle) throw new TypeError("Cannot end sending: a send waits");
    if (this.#fd < 0 || this.#ended) return;
    this.#ended = true;
    // Refused only when the connection is gone already, which the next receive tells.
    this.#context.library.shutdown(this.#fd, SHUT_WR);
  }

  configure(options: StreamOptions): void {
    if (this.#fd >= 0) configureSocket(this.#context.library, this.#fd, options);
  }

  info(): StreamInfo | undefined {
    return this.#fd < 0 ? undefined : readInfo(this.#context.library, this.#fd);
  }

  originalDestination(): SocketAddress | undefined {
    if (this.#fd < 0) return undefined;
    return readOriginalDestination(this.#context.library, this.#fd, this.local.family);
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
    if (this.#fd < 0) throw new TypeError("Cannot detach a connection: it is closed");
    if (!this.#receiving.idle || !this.#sending.idle) {
      throw new TypeError("Cannot detach a connection: a receive or a send waits");
    }
    return this.#release();
  }

  close(options: { readonly reset?: boolean } = {}): Promise<void> {
    if (this.#fd >= 0) {
      const { library } = this.#context;
      const fd = this.#release();
      if (options.reset === true) armReset(library, fd);
      library.close(fd);
      this.#receiving.settle(STREAM_END);
      this.#sending.settle(STREAM_FAILED);
    }
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Takes the descriptor away from everything that knows it: its number may be somebody else's a moment later. */
  #release(): number {
    this.#readable = this.#writable = undefined;
    this.#readWatch?.cancel();
    this.#writeWatch?.cancel();
    const fd = this.#fd;
    this.#fd = -1;
    this.#context.gone(this);
    return fd;
  }

  #received(moved: number): number {
    this.#receiveCalls++;
    if (moved > 0) {
      this.#bytesReceived += moved;
      return moved;
    }
    if (moved === NOTHING) {
      this.#wouldBlocks++;
      return WOULD_BLOCK;
    }
    this.#readOver = true;
    // The kernel reports an error once and then the end: what it was is remembered.
    if (moved < 0) this.#failed(-moved, "recvmsg");
    return this.#failure === undefined ? STREAM_END : STREAM_FAILED;
  }

  #sent(moved: number): number {
    this.#sendCalls++;
    if (moved > 0) {
      this.#bytesSent += moved;
      return moved;
    }
    if (moved === NOTHING) {
      this.#wouldBlocks++;
      this.#wantsRoom = true;
      // Inside the callback that follows by itself.
      if (this.#inside !== WRITING) this.#rearmWrite();
      return WOULD_BLOCK;
    }
    this.#failed(-moved, "sendmsg");
    return STREAM_FAILED;
  }

  #failed(errno: number, syscall: string): void {
    this.#failure ??= failureOf(errnoName(errno), syscall);
  }

  #cannotSend(): boolean {
    if (this.#ended) throw new TypeError("Cannot send: end() was called");
    return this.#fd < 0 || this.#failure !== undefined;
  }

  #sendAll(
    total: number,
    more: (done: number) => number,
    signal: AbortSignal | undefined,
  ): number | Promise<number> {
    this.#sending.mustBeIdle("send");
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#cannotSend()) return STREAM_FAILED;
    let done = 0;
    const attempt = (): number | undefined => {
      while (done < total) {
        const count = this.#sent(more(done));
        if (count === WOULD_BLOCK) return undefined;
        if (count === STREAM_FAILED) return STREAM_FAILED;
        done += count;
      }
      return total;
    };
    const answer = attempt();
    if (answer !== undefined) return answer;
    const waiting = this.#sending.wait(attempt, signal);
    this.#rearmWrite();
    return waiting;
  }

  #await(attempt: () => number | undefined, signal: AbortSignal | undefined): Promise<number> {
    const waiting = this.#receiving.wait(attempt, signal);
    this.#rearmRead();
    return waiting;
  }

  readonly #onReadable = (): unknown => {
    this.#readScheduled = false;
    if (this.#fd < 0) return undefined;
    this.#againRead = false;
    try {
      const waited = !this.#receiving.idle;
      this.#receiving.serve();
      if (this.#readable === undefined) return undefined;
      this.#inside = READING;
      const answer = this.#readable();
      return waited ? undefined : answer;
    } finally {
      this.#inside = NOWHERE;
      if (this.#againRead && this.#context.reactor.kind !== "thread") {
        this.#schedule(READING);
      } else this.#rearmRead();
    }
  };

  readonly #onWritable = (): unknown => {
    this.#writeScheduled = false;
    if (this.#fd < 0) return undefined;
    this.#againWrite = false;
    this.#wantsRoom = false;
    try {
      const waited = !this.#sending.idle;
      this.#sending.serve();
      if (this.#writable === undefined) return undefined;
      this.#inside = WRITING;
      const answer = this.#writable();
      return waited ? undefined : answer;
    } finally {
      this.#inside = NOWHERE;
      if (this.#againWrite && this.#context.reactor.kind !== "thread") {
        this.#schedule(WRITING);
      } else {
        // A thread's own loop is level-triggered: armed, a socket with room comes again next turn.
        if (this.#againWrite) this.#wantsRoom = true;
        this.#rearmWrite();
      }
    }
  };

  #schedule(side: number): void {
    if (this.#fd < 0) return;
    if (side === READING) {
      this.#readScheduled = true;
      setImmediate(this.#onReadable);
    } else {
      this.#writeScheduled = true;
      setImmediate(this.#onWritable);
    }
  }

  #rearmRead(): void {
    if (this.#fd < 0 || this.#readOver || this.#readScheduled) return;
    if (this.#readable === undefined && this.#receiving.idle) return;
    if (this.#readWatch === undefined) {
      this.#readWatch = this.#context.reactor.watch(this.#fd, "read", this.#onReadable);
    } else this.#readWatch.arm();
  }

  #rearmWrite(): void {
    if (this.#fd < 0 || this.#failure !== undefined || this.#writeScheduled) return;
    // A socket nearly always has room: watched without need it would be ready for ever.
    if (!this.#wantsRoom || (this.#writable === undefined && this.#sending.idle)) return;
    if (this.#writeWatch === undefined) {
      this.#writeWatch = this.#context.reactor.watch(this.#fd, "write", this.#onWritable);
    } else this.#writeWatch.arm();
  }
}

function ownConstant(constant: ConstantBuffer): LinuxConstant {
  if (!(constant instanceof LinuxConstant)) throw new TypeError(MISPLACED_CONSTANT);
  if (constant.closed) throw new TypeError("Cannot send the constant: it is closed");
  return constant;
}

const NOWHERE = 0;
const READING = 1;
const WRITING = 2;
