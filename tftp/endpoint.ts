/**
 * What all transfers of one loop share: the sockets' host, one send batch, receive batches, the clock and the deadlines.
 * Memory for packets belongs here, not to transfers, so a thousand of them cost little.
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  copyAddress,
  type DatagramBatch,
  type DatagramHost,
  type DatagramSocket,
} from "../ffi/mod.ts";
import type { Clock } from "../internal/time/clock.ts";
import { Deadlines } from "../internal/time/deadlines.ts";
import type { Random } from "../internal/random.ts";
import { Anticipation } from "./anticipation.ts";
import { Spin } from "./spin.ts";
import { encodeError, writeAck } from "./protocol/mod.ts";

/**
 * Bytes of the send slab: what one call to the kernel may carry. Big enough for a window of 64 blocks of 1,428 bytes in
 * one piece, small enough to stay in the second-level cache between the file read and the send (bench/micro).
 */
export const SEND_SLAB_BYTES = 262_144;
/**
 * Bytes of a slab that one transfer reads ahead into, and how many of them a loop lends: together they stay in the
 * caches, which more transfers than that would not anyway.
 */
export const AHEAD_SLAB_BYTES = 131_072;
const AHEAD_SLABS = 16;
/** Bytes of a receive slot for sockets that expect acknowledgements and requests. */
const SMALL_SLOT_BYTES = 2048;
/** Bytes of a receive slot for sockets that expect data: the largest datagram, or a coalesced run. */
const LARGE_SLOT_BYTES = 65536;

/** Something with a deadline that takes datagrams. */
export interface Timed {
  /** Monotonic milliseconds; `Infinity` when nothing is pending. */
  readonly deadline: number;
  /** The deadline has passed. */
  expire(now: number): void;
}

/** The shared parts of one loop. Single-threaded: nothing here is locked. */
export class Endpoint {
  readonly host: DatagramHost;
  readonly clock: Clock;
  readonly random: Random;
  readonly deadlines: Deadlines<Timed> = new Deadlines<Timed>();
  /** Outgoing packets; its slab is scratch between two calls. */
  readonly outgoing: DatagramBatch;
  /** Incoming requests and acknowledgements. */
  readonly small: DatagramBatch;
  #large: DatagramBatch | undefined;
  readonly #aheads: DatagramBatch[] = [];
  #lent = 0;
  #turn = 0;
  readonly #expire = (item: Timed): void => item.expire(this.#turn);
  /** The last packet was one whose answer is all that its transfer waits for: it pays to look for it. */
  lockstep = false;
  /** The last packets were a window, or the acknowledgement of one. */
  windowed = false;
  readonly #anticipation = new Anticipation();
  readonly #anticipates: boolean;
  #heardAt = 0;
  readonly #spin: Spin;
  /** Promises that transfers wait for (a disk, a handler): a loop that blocks must let the event loop run for them. */
  awaited = 0;
  /** Called when a deadline may have moved closer than the host timer knows. */
  onDeadline: () => void = () => {};

  /** @param spinMs How long {@linkcode sleep} looks before it sleeps, for transfers of one block at a time. */
  constructor(host: DatagramHost, clock: Clock, random: Random, spinMs = 0) {
    this.host = host;
    this.clock = clock;
    this.random = random;
    this.#anticipates = spinMs > 0;
    this.#spin = new Spin(host, clock, spinMs);
    this.outgoing = host.createBatch(4, SEND_SLAB_BYTES / 4);
    this.small = host.createBatch(32, SMALL_SLOT_BYTES);
  }

  /** Incoming data; made when the first transfer needs it. */
  get large(): DatagramBatch {
    return this.#large ??= this.host.createBatch(16, LARGE_SLOT_BYTES);
  }

  /** A slab to read ahead into, or `undefined` when all are lent. */
  borrow(): DatagramBatch | undefined {
    if (this.#lent >= AHEAD_SLABS) return undefined;
    this.#lent++;
    return this.#aheads.pop() ?? this.host.createBatch(1, AHEAD_SLAB_BYTES);
  }

  /** Takes a lent slab back. */
  giveBack(ahead: DatagramBatch): void {
    this.#lent--;
    this.#aheads.push(ahead);
  }

  /**
   * Sends `length` bytes of the outgoing slab from `start` to a peer: one datagram, or with `segment > 0` a run.
   *
   * @param local Where it should come from, for sockets bound to a wildcard; `undefined` lets the kernel choose.
   * @param batch Whose slab the bytes are in.
   */
  send(
    socket: DatagramSocket,
    peer: DataView,
    local: DataView | undefined,
    start: number,
    length: number,
    segment: number,
    batch: DatagramBatch = this.outgoing,
  ): void {
    batch.count = 1;
    batch.starts[0] = start;
    batch.lengths[0] = length;
    batch.segments[0] = segment;
    copyAddress(peer, 0, batch.peers, 0);
    if (local === undefined) batch.locals.setUint16(0, 0);
    else copyAddress(local, 0, batch.locals, 0);
    socket.send(batch);
  }

  /** Sends an acknowledgement. */
  sendAck(
    socket: DatagramSocket,
    peer: DataView,
    local: DataView | undefined,
    wireBlock: number,
  ): void {
    const end = writeAck(this.outgoing.slab.view, 0, wireBlock);
    this.send(socket, peer, local, 0, end, 0);
  }

  /** Sends an error. */
  sendError(
    socket: DatagramSocket,
    peer: DataView,
    local: DataView | undefined,
    code: number,
    message: string,
  ): void {
    const end = encodeError(this.outgoing.slab.bytes, 0, code, message);
    if (end > 0) this.send(socket, peer, local, 0, end, 0);
  }

  /** Sends ready-made bytes. */
  sendBytes(
    socket: DatagramSocket,
    peer: DataView,
    local: DataView | undefined,
    bytes: Uint8Array,
  ): void {
    this.outgoing.slab.bytes.set(bytes, 0);
    this.send(socket, peer, local, 0, bytes.length, 0);
  }

  /** Sleeps until a socket is ready or `maxWaitMs` have passed; for hosts with a thread of their own. */
  sleep(maxWaitMs: number): void {
    const { lockstep, windowed } = this;
    this.lockstep = false;
    this.windowed = false;
    if (lockstep && this.#spin.look()) return;
    // Others must not wait for one transfer's answer.
    if (!windowed || !this.#anticipates || this.deadlines.size !== 1) {
      this.host.turn(maxWaitMs);
      return;
    }
    const { clock } = this;
    const awakeUntil = clock.now() + this.#anticipation.awakeMs;
    let now = clock.now();
    while (now < awakeUntil) now = clock.now();
    this.#heardAt = 0;
    this.host.turn(maxWaitMs);
    const heard = this.#heardAt > 0;
    this.#anticipation.learn((heard ? this.#heardAt : clock.now()) - now, heard);
  }

  /** A transfer's socket has something: to be called before it is received. */
  heard(): void {
    if (this.#heardAt === 0) this.#heardAt = this.clock.now();
  }

  /** Runs what is due and answers when to come back. */
  runDeadlines(): number {
    this.#turn = this.clock.now();
    this.deadlines.run(this.#turn, this.#expire);
    return this.deadlines.next;
  }
}

/** A fresh place for one address. */
export function addressCell(): DataView<ArrayBuffer> {
  return new DataView(new ArrayBuffer(ADDRESS_BYTES));
}
