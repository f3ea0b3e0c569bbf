/**
 * Relays inside one thread's loop: how bytes move between two sockets.
 *
 * Small pieces are read into one buffer of the thread and written on at once. A flow whose reads are large moves to
 * `splice` through a pipe and back when they become small: below 4 KiB the two cost the same, from 16 KiB on splicing
 * costs less, and in bulk a third (docs/adr/0022). Both sockets are watched edge-triggered, so that
 * a piece costs a wake-up, a read and a write and nothing else.
 *
 * @module
 */
import {
  EPOLLERR,
  EPOLLHUP,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  SHUT_WR,
  SPLICE_F_MOVE,
  SPLICE_F_NONBLOCK,
} from "./constants_linux.ts";
import { EAGAIN, EINTR } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import { type Pipe, PIPE_BYTES, PipePool } from "./pipe_pool_linux.ts";
import {
  ABORTED,
  ENDED,
  IDLE,
  type RelayLimits,
  RUNS,
  SOURCE_FAILED,
  TARGET_FAILED,
  tickFor,
} from "./relay_pending.ts";
import { armReset } from "./stream_options_linux.ts";
import type { EdgeListener, EdgeWatch, ThreadLoop, Tick } from "./thread_loop_linux.ts";

/** Two sockets that are one. */
export interface LinuxPair {
  /** How each direction ended, numbers of `relay_pending.ts`; valid when the pair is done. */
  readonly forwardEnd: number;
  readonly backwardEnd: number;
  /** Cuts both sockets; `done` is called before it returns. Idempotent. */
  abort(): void;
}

/** What a pair needs to begin. */
export interface PairStart {
  /** Connected, non-blocking sockets; they belong to the pair. */
  readonly first: number;
  readonly second: number;
  readonly forwardPrefix: Uint8Array | undefined;
  readonly backwardPrefix: Uint8Array | undefined;
  readonly limits: RelayLimits;
  /** Where the bytes of the two directions are added up: at `at` and behind it. */
  readonly counts: Float64Array;
  readonly at: number;
  /** Called once; both sockets are closed. */
  readonly done: (pair: LinuxPair) => void;
}

/** The relays of one thread. */
export class RelayLoop {
  readonly loop: ThreadLoop;
  readonly library: Libc;
  readonly pipes: PipePool;
  // The kernel writes and reads here by address, never longer than one call: one buffer serves every relay.
  readonly buffer: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(COPY_BYTES));
  readonly bufferAddress: bigint;
  readonly readAt: Libc["readAt"];
  readonly writeAt: Libc["writeAt"];
  readonly splice: Libc["splice"];
  readonly #pairs = new Set<Pair>();
  #tick: Tick | undefined;

  /** @param library The C library of this thread. @param loop Its loop. */
  constructor(library: Libc, loop: ThreadLoop) {
    this.library = library;
    this.loop = loop;
    this.pipes = new PipePool(library);
    this.bufferAddress = library.addressOf(this.buffer);
    this.readAt = library.readAt;
    this.writeAt = library.writeAt;
    this.splice = library.splice;
  }

  /** Pairs that run. */
  get active(): number {
    return this.#pairs.size;
  }

  /**
   * Begins. Bytes move in the next turn, the prefixes now.
   *
   * @throws {SystemError} When the kernel cannot watch the sockets, which are the caller's again then.
   */
  start(given: PairStart): LinuxPair {
    const pair = new Pair(this, given);
    this.#pairs.add(pair);
    const everyMs = tickFor(given.limits);
    if (this.#tick === undefined || everyMs < this.#tick.everyMs) {
      this.#tick?.cancel();
      this.#tick = this.loop.every(everyMs, this.#sweep);
    }
    pair.begin();
    return pair;
  }

  /** Aborts every pair and closes the pipes. */
  close(): void {
    for (const pair of [...this.#pairs]) pair.abort();
    this.pipes.close();
  }

  /** A pair is over. @ignore */
  forget(pair: Pair): void {
    if (!this.#pairs.delete(pair) || this.#pairs.size > 0) return;
    this.#tick?.cancel();
    this.#tick = undefined;
  }

  readonly #sweep = (): void => {
    const now = performance.now();
    for (const pair of this.#pairs) pair.look(now);
  };
}

class Pair implements LinuxPair {
  forwardEnd: number = RUNS;
  backwardEnd: number = RUNS;
  /** Something moved since the last look at the limits. */
  stirred = true;
  readonly relays: RelayLoop;
  readonly counts: Float64Array;
  readonly #first: Side;
  readonly #second: Side;
  readonly #limits: RelayLimits;
  readonly #done: (pair: LinuxPair) => void;
  #movedMs = performance.now();
  #over = false;

  constructor(relays: RelayLoop, given: PairStart) {
    this.relays = relays;
    this.counts = given.counts;
    this.#limits = given.limits;
    this.#done = given.done;
    this.#first = new Side(this, given.first, given.at, given.forwardPrefix);
    this.#second = new Side(this, given.second, given.at + 1, given.backwardPrefix);
    this.#first.peer = this.#second;
    this.#second.peer = this.#first;
    const { loop } = relays;
    this.#first.watch = loop.watchEdges(given.first, this.#first);
    try {
      this.#second.watch = loop.watchEdges(given.second, this.#second);
    } catch (error) {
      this.#first.watch.cancel();
      throw error;
    }
  }

  begin(): void {
    if (this.#first.pending !== undefined) this.#first.pump();
    if (!this.#over && this.#second.pending !== undefined) this.#second.pump();
  }

  look(now: number): void {
    if (this.stirred) {
      this.stirred = false;
      this.#movedMs = now;
      return;
    }
    const half = this.forwardEnd !== RUNS || this.backwardEnd !== RUNS;
    const limit = half ? this.#limits.halfCloseMs : this.#limits.idleMs;
    if (now - this.#movedMs >= limit) this.#finish(IDLE, IDLE, false);
  }

  abort(): void {
    this.#finish(ABORTED, ABORTED, true);
  }

  /** A direction has delivered everything and told its target. */
  ended(source: Side): void {
    if (source === this.#first) this.forwardEnd = ENDED;
    else this.backwardEnd = ENDED;
    if (this.forwardEnd === ENDED && this.backwardEnd === ENDED) this.#finish(ENDED, ENDED, false);
  }

  /** A socket is gone: as a source and as a target. */
  failed(side: Side): void {
    if (side === this.#first) this.#finish(SOURCE_FAILED, TARGET_FAILED, true);
    else this.#finish(TARGET_FAILED, SOURCE_FAILED, true);
  }

  #finish(forward: number, backward: number, reset: boolean): void {
    if (this.#over) return;
    this.#over = true;
    // What ended well before stays so.
    if (this.forwardEnd === RUNS) this.forwardEnd = forward;
    if (this.backwardEnd === RUNS) this.backwardEnd = backward;
    this.#first.close(reset);
    this.#second.close(reset);
    this.relays.forget(this);
    this.#done(this);
  }
}

/** One socket of a pair, and the direction of which it is the source. */
class Side implements EdgeListener {
  peer!: Side;
  watch!: EdgeWatch;
  /** What has to leave before anything else: the prefix, or what a write did not take. Bytes from `#pendingAt`. */
  pending: Uint8Array | undefined;
  readonly #pair: Pair;
  readonly #relays: RelayLoop;
  readonly #at: number;
  #fd: number;
  #pendingAt = 0;
  /** There may be something to read. */
  #readable = false;
  /** The end, or an error, is behind what there is to read: a short read is not the last one. */
  #hungUp = false;
  /** The source ended. */
  #over = false;
  /** The target ended: its end was sent. */
  #told = false;
  /** The last write found no room: the peer's next edge goes on. */
  #blocked = false;
  #pipe: Pipe | undefined;
  #inPipe = 0;
  #splicing = false;
  /** Reads in a row that speak for the other way of moving bytes. */
  #streak = 0;

  constructor(pair: Pair, fd: number, at: number, prefix: Uint8Array | undefined) {
    this.#pair = pair;
    this.#relays = pair.relays;
    this.#fd = fd;
    this.#at = at;
    this.pending = prefix === undefined || prefix.length === 0 ? undefined : prefix;
  }

  edge(events: number): void {
    if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) {
      this.#readable = true;
      if ((events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) !== 0) this.#hungUp = true;
      // No read would find out: none comes after the end, and none before the target has room, which may be never.
      if ((events & EPOLLERR) !== 0 && (this.#blocked || this.#over)) {
        return this.#pair.failed(this);
      }
      if (!this.#blocked) this.pump();
    }
    const { peer } = this;
    if ((events & EPOLLOUT) !== 0 && peer.#blocked) {
      peer.#blocked = false;
      peer.pump();
    }
  }

  /** Moves bytes to the peer until there are none, there is no room, or it is somebody else's turn. */
  pump(): void {
    const pair = this.#pair;
    const { library, readAt, bufferAddress } = this.#relays;
    let budget = BUDGET_BYTES;
    while (this.#fd >= 0) {
      if (this.pending !== undefined && !this.#flushPending()) return;
      if (this.#inPipe > 0 && !this.#flushPipe()) return;
      if (this.#over) {
        if (this.#told) return;
        this.#told = true;
        // The second end is told by closing.
        if (!this.peer.#told) library.shutdown(this.peer.#fd, SHUT_WR);
        return pair.ended(this);
      }
      if (!this.#readable) return this.#returnPipe();
      if (budget <= 0) return this.watch.again();
      const splicing = this.#splicing && this.#borrowPipe();
      const moved = splicing
        ? this.#relays.splice(this.#fd, 0n, this.#pipe!.writeEnd, 0n, SPLICE_LENGTH, SPLICE_FLAGS)
        : readAt(this.#fd, bufferAddress, COPY_LENGTH);
      if (moved > 0) {
        budget -= moved;
        if (splicing) {
          this.#inPipe = moved;
          this.#judge(moved < FEW_BYTES, 8);
        } else {
          this.#judge(moved >= MANY_BYTES, 2);
          // Less than was asked for is all there was; what comes later makes an edge of its own (epoll(7)).
          if (moved < COPY_BYTES && !this.#hungUp) this.#readable = false;
          if (!this.#forward(moved)) return;
        }
      } else if (moved === 0) this.#over = true;
      else {
        const errno = library.errno();
        if (errno === EAGAIN) this.#readable = false;
        else if (errno !== EINTR) return pair.failed(this);
      }
    }
  }

  close(reset: boolean): void {
    const { library, pipes } = this.#relays;
    if (this.#fd < 0) return;
    if (this.#pipe !== undefined) pipes.give(this.#pipe, this.#inPipe === 0);
    this.#pipe = undefined;
    this.pending = undefined;
    this.watch.close();
    const fd = this.#fd;
    this.#fd = -1;
    if (reset) armReset(library, fd);
    library.close(fd);
  }

  /** Writes what was read into the thread's buffer. @returns Whether all of it left. */
  #forward(length: number): boolean {
    const { writeAt, bufferAddress, buffer } = this.#relays;
    const taken = writeAt(this.peer.#fd, bufferAddress, BigInt(length));
    const moved = this.#moved(taken);
    if (moved < 0) return false;
    if (moved === length) return true;
    // Rare: the buffer is the thread's, and the target has no room.
    this.pending = buffer.slice(moved, length);
    this.#pendingAt = 0;
    this.#blocked = true;
    return false;
  }

  #flushPending(): boolean {
    const { writeAt, bufferAddress, buffer } = this.#relays;
    const pending = this.pending!;
    while (this.#pendingAt < pending.length) {
      const length = Math.min(pending.length - this.#pendingAt, COPY_BYTES);
      buffer.set(pending.subarray(this.#pendingAt, this.#pendingAt + length));
      const moved = this.#moved(writeAt(this.peer.#fd, bufferAddress, BigInt(length)));
      if (moved < 0) return false;
      this.#pendingAt += moved;
      if (moved < length) {
        // What waits outlives this call, and a prefix is the caller's memory.
        this.pending = pending.slice(this.#pendingAt);
        this.#pendingAt = 0;
        this.#blocked = true;
        return false;
      }
    }
    this.pending = undefined;
    this.#pendingAt = 0;
    return true;
  }

  #flushPipe(): boolean {
    const { splice } = this.#relays;
    while (this.#inPipe > 0) {
      const moved = this.#moved(
        splice(this.#pipe!.readEnd, 0n, this.peer.#fd, 0n, SPLICE_LENGTH, SPLICE_FLAGS),
      );
      if (moved < 0) return false;
      if (moved === 0) {
        this.#blocked = true;
        return false;
      }
      this.#inPipe -= moved;
    }
    return true;
  }

  /** What a write answered. @returns Bytes taken; 0 when there is no room; −1 when the pair is over. */
  #moved(taken: number): number {
    if (taken > 0) {
      this.#pair.counts[this.#at]! += taken;
      this.#pair.stirred = true;
      return taken;
    }
    const errno = taken === 0 ? EAGAIN : this.#relays.library.errno();
    if (errno === EAGAIN) return 0;
    if (errno === EINTR) {
      // No edge would follow.
      this.peer.watch.again();
      return 0;
    }
    this.#pair.failed(this.peer);
    return -1;
  }

  #judge(otherWay: boolean, times: number): void {
    if (!otherWay) this.#streak = 0;
    else if (++this.#streak >= times) {
      this.#streak = 0;
      this.#splicing = !this.#splicing;
    }
  }

  #borrowPipe(): boolean {
    this.#pipe ??= this.#relays.pipes.take();
    if (this.#pipe === undefined) this.#splicing = false;
    return this.#splicing;
  }

  /** An idle flow holds no pipe. */
  #returnPipe(): void {
    if (this.#pipe === undefined) return;
    this.#relays.pipes.give(this.#pipe, true);
    this.#pipe = undefined;
  }
}

/** Size of the thread's buffer, and of one read. */
const COPY_BYTES = 65_536;
const COPY_LENGTH = BigInt(COPY_BYTES);
const SPLICE_LENGTH = BigInt(PIPE_BYTES);
const SPLICE_FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
/** Two reads of at least this many bytes in a row: splice. */
const MANY_BYTES = 16_384;
/** Eight splices of less in a row: read and write. */
const FEW_BYTES = 8192;
/** One direction moves no more than this before the others have had a turn: about a millisecond's worth. */
const BUDGET_BYTES = 4 << 20;
