/**
 * Netlink sockets of a kernel that is only in memory: for tests, and to show things where there is no real one.
 *
 * @module
 */

import { clearImmediate, setImmediate } from "node:timers";
import type {
  NetlinkConsumer,
  NetlinkCounters,
  NetlinkHost,
  NetlinkMemory,
  NetlinkOptions,
  NetlinkSocket,
  NetlinkTraits,
} from "../../ffi/mod.ts";
import { SystemError } from "../../internal/errors.ts";
import {
  VirtualKernel,
  type VirtualKernelOptions,
  type VirtualNeighbor,
} from "../protocol/testing/virtual_kernel.ts";

const TRAITS: NetlinkTraits = Object.freeze({
  driver: "linux",
  batch: 64,
  lossCounted: true,
  writes: false,
  kernelFilter: false,
  receiveBuffer: true,
  receiveBufferForced: true,
  strict: true,
  extendedAck: false,
});

const TURN_DATAGRAMS = 4096;
const NO_COUNTERS: NetlinkCounters = Object.freeze({
  receiveCalls: 0,
  datagramsReceived: 0,
  bytesReceived: 0,
  datagramsLost: 0,
  overruns: 0,
  datagramsTruncated: 0,
  datagramsForeign: 0,
  linesUnreadable: 0,
  restarts: 0,
  sendCalls: 0,
  turnsCut: 0,
});

/** A virtual kernel that says when there is something to read. */
export class LiveKernel extends VirtualKernel {
  readonly #wakers = new Set<() => void>();

  /** Calls back after everything that may have made a socket readable, until the returned function is called. */
  onActivity(wake: () => void): () => void {
    this.#wakers.add(wake);
    return () => void this.#wakers.delete(wake);
  }

  /** Adds a link or changes it. */
  override setLink(ifindex: number, name: string, master = 0): void {
    super.setLink(ifindex, name, master);
    this.#wake();
  }

  /** Takes a link away, with its neighbors first. */
  override removeLink(ifindex: number): void {
    super.removeLink(ifindex);
    this.#wake();
  }

  /** Adds a neighbor or changes it. */
  override setNeighbor(neighbor: VirtualNeighbor): void {
    super.setNeighbor(neighbor);
    this.#wake();
  }

  /** Deletes a neighbor as a user does. */
  override removeNeighbor(neighbor: VirtualNeighbor): void {
    super.removeNeighbor(neighbor);
    this.#wake();
  }

  /** Forgets a neighbor as garbage collection does. */
  override collectNeighbor(neighbor: VirtualNeighbor): void {
    super.collectNeighbor(neighbor);
    this.#wake();
  }

  /** Takes requests from the query socket. */
  override query(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void {
    super.query(bytes, start, end);
    this.#wake();
  }

  #wake(): void {
    for (const wake of this.#wakers) wake();
  }
}

/** Where sockets of a virtual kernel live. */
export class VirtualHost implements NetlinkHost {
  /** The kernel behind the sockets. */
  readonly kernel: LiveKernel;
  /** What a real host of the best driver says. */
  readonly driver = "linux";
  /** Nothing better was passed over. */
  readonly fallbackReason = "";
  /** Times `open` was called. */
  opened = 0;
  readonly #sockets = new Set<VirtualSocket>();

  /** Makes a kernel without links, unless one is given. */
  constructor(kernel: VirtualKernelOptions | LiveKernel = {}) {
    this.kernel = kernel instanceof LiveKernel ? kernel : new LiveKernel(kernel);
  }

  /** Opens a socket: with groups the one of events, without the one of queries. */
  open(options: NetlinkOptions = {}): Promise<NetlinkSocket> {
    this.opened++;
    const socket = new VirtualSocket(this.kernel, options, () => this.#sockets.delete(socket));
    this.#sockets.add(socket);
    return Promise.resolve(socket);
  }

  /** The reader of events is held up: they wait in the kernel's buffer, or are dropped there. */
  stall(): void {
    for (const socket of this.#sockets) if (socket.isEvents) socket.pause();
  }

  /** The reader goes on. */
  unstall(): void {
    for (const socket of this.#sockets) if (socket.isEvents) socket.resume();
  }

  /** Every open socket fails for good. */
  fail(): void {
    for (const socket of [...this.#sockets]) socket.fail();
  }

  /** Closes every socket. */
  async close(): Promise<void> {
    await Promise.all([...this.#sockets].map((socket) => socket.close()));
  }

  /** The same as {@linkcode VirtualHost.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

class VirtualSocket implements NetlinkSocket {
  readonly portId = 1;
  readonly traits = TRAITS;
  readonly isEvents: boolean;
  receiveBufferBytes: number;
  readonly #kernel: LiveKernel;
  readonly #consumer: NetlinkConsumer | undefined;
  readonly #gone: () => void;
  readonly #forget: () => void;
  #soon: ReturnType<typeof setImmediate> | undefined;
  #paused = false;
  #closed = false;
  #inTurn = false;
  #dropsSeen: number;

  constructor(kernel: LiveKernel, options: NetlinkOptions, gone: () => void) {
    this.#kernel = kernel;
    this.#consumer = options.consumer;
    this.isEvents = (options.groups?.length ?? 0) > 0;
    this.receiveBufferBytes = options.receiveBufferBytes ?? 0;
    this.#gone = gone;
    // What waits was told to nobody: this socket was not there.
    if (this.isEvents) kernel.events.length = 0;
    this.#dropsSeen = kernel.dropped;
    this.#forget = kernel.onActivity(() => this.#schedule());
  }

  get eventCapacity(): number {
    return this.isEvents ? this.#kernel.eventCapacity : 0;
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#closed) throw new TypeError("Cannot send a netlink request: the socket is closed");
    this.#kernel.query(bytes, 0, bytes.length);
  }

  drain(): number {
    return this.#closed || this.#inTurn ? 0 : this.#turn();
  }

  checkLoss(): number {
    if (!this.#inTurn && this.isEvents) this.#tellLoss();
    return this.#kernel.dropped;
  }

  pause(): void {
    this.#paused = true;
  }

  resume(): void {
    this.#paused = false;
    this.#schedule();
  }

  growReceiveBuffer(bytes: number): number {
    return this.receiveBufferBytes = bytes;
  }

  filter(): void {}

  memory(): NetlinkMemory {
    return { usedBytes: this.#kernel.events.length * 832, limitBytes: 2 * this.receiveBufferBytes };
  }

  counters(): NetlinkCounters {
    return NO_COUNTERS;
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#forget();
    if (this.#soon !== undefined) clearImmediate(this.#soon);
    this.#gone();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  fail(): void {
    this.close();
    const details = { syscall: "recvmmsg", errno: 9, errnoName: "EBADF" };
    this.#consumer?.failed?.(
      new SystemError("ffi.recvmmsg", "Cannot receive: a test said so", details),
    );
  }

  get #readable(): boolean {
    return this.isEvents
      ? this.#kernel.events.length > 0 || this.#kernel.dropped > this.#dropsSeen
      : this.#kernel.answering;
  }

  #schedule(): void {
    if (this.#closed || this.#paused || this.#soon !== undefined || !this.#readable) return;
    this.#soon = setImmediate(() => {
      this.#soon = undefined;
      if (!this.#closed && !this.#paused) this.#turn();
    });
  }

  #turn(): number {
    if (this.#paused) return 0;
    this.#inTurn = true;
    let taken = 0;
    while (taken < TURN_DATAGRAMS && !this.#closed) {
      const datagram = this.isEvents ? this.#kernel.events.shift() : this.#kernel.answer();
      if (datagram === undefined) break;
      taken++;
      this.#consumer?.datagram(datagram.view, 0, datagram.length);
    }
    this.#tellLoss();
    if (!this.#closed) this.#consumer?.turned?.(!this.#readable);
    this.#inTurn = false;
    this.#schedule();
    return taken;
  }

  #tellLoss(): void {
    const datagrams = this.isEvents ? this.#kernel.dropped - this.#dropsSeen : 0;
    if (datagrams === 0 || this.#closed) return;
    this.#dropsSeen = this.#kernel.dropped;
    this.#consumer?.lost({ reason: "overrun", datagrams });
  }
}
