/**
 * One datagram socket of the kernel's driver: options, receiving, sending, waiting.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import {
  ADDRESS_BYTES,
  AF_INET,
  AF_INET6,
  copyAddress,
  formatAddress,
  readAddress,
  SOCKADDR_IN_BYTES,
  type SocketAddress,
  writeAddress,
} from "./address.ts";
import {
  IP_PKTINFO,
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  IPV6_RECVPKTINFO,
  IPV6_V6ONLY,
  MSG_DONTWAIT,
  MSG_TRUNC,
  SK_MEMINFO_DROPS,
  SK_MEMINFO_VARS,
  SO_MEMINFO,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_REUSEPORT,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
  SOL_SOCKET,
  SOL_UDP,
  UDP_GRO,
} from "./constants_linux.ts";
import { readControls, RECEIVE_CONTROL_BYTES } from "./control_linux.ts";
import type {
  DatagramBatch,
  DatagramCounters,
  DatagramError,
  DatagramOptions,
  DatagramSocket,
  DatagramTraits,
} from "./datagram.ts";
import { configureDatagrams, connectDatagrams } from "./datagram_options_linux.ts";
import { LinuxDatagramBatch, type ReceiveHeaders } from "./datagram_batch_linux.ts";
import { PendingReceives } from "./datagram_pending.ts";
import { SendState, type SendVector } from "./datagram_send_linux.ts";
import { EAGAIN, EINTR, systemError } from "./errno.ts";
import type { ErrorQueueReader } from "./error_queue_linux.ts";
import type { Libc } from "./libc_linux.ts";
import type { Reactor, Watch } from "./reactor.ts";
import { MMSGHDR } from "./structs_linux.ts";

/** What the sockets of one host share: they all live on one thread, and every call is over when it returns. */
export interface SocketContext {
  readonly library: Libc;
  readonly reactor: Reactor;
  readonly vector: SendVector;
  readonly errorQueue: ErrorQueueReader;
  readonly traits: DatagramTraits;
  /** The socket is closed. */
  readonly gone: (socket: LinuxDatagramSocket) => void;
}

/** A UDP socket made through the C library. */
export class LinuxDatagramSocket implements DatagramSocket {
  readonly traits: DatagramTraits;
  // A server opens one for each transfer and its client waits: what few ask for is found out when they do.
  readonly #sockaddr: DataView<ArrayBuffer>;
  #local: SocketAddress | undefined;
  #receiveBufferBytes = -1;
  #sendBufferBytes = -1;

  readonly #context: SocketContext;
  readonly #library: Libc;
  readonly #send: SendState;
  readonly #pending = new PendingReceives();
  readonly #errors: DatagramError[] = [];
  #fd: number;
  #watch: Watch | undefined;
  #ready: (() => void) | undefined;
  #again = false;
  #scheduled = false;
  // The last batch received into, and its headers: a socket nearly always uses the same one.
  #batch: DatagramBatch | undefined;
  #headers: ReceiveHeaders | undefined;
  #receiveCalls = 0;
  #datagramsReceived = 0;
  #datagramsTruncated = 0;
  #receiveDrops = 0;
  #wouldBlocks = 0;

  /** @throws {SystemError} @throws {TypeError} @throws {RangeError} For an address that is none. */
  constructor(context: SocketContext, options: DatagramOptions) {
    const { library, traits } = context;
    const what = `bind to ${formatAddress(options.bind)}`;
    const sockaddr = new DataView(new ArrayBuffer(ADDRESS_BYTES));
    const sockaddrBytes = writeAddress(sockaddr, 0, options.bind);
    const ipv6 = options.bind.family === "ipv6";
    const dual = ipv6 && options.dualStack === true;
    const fd = library.socket(
      ipv6 ? AF_INET6 : AF_INET,
      SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC,
      0,
    );
    if (fd < 0) throw systemError("socket", library.errno(), what);
    this.#context = context;
    this.#library = library;
    this.#fd = fd;
    if (ipv6) this.#set(IPPROTO_IPV6, IPV6_V6ONLY, dual ? 0 : 1);
    if (options.reusePort === true) this.#set(SOL_SOCKET, SO_REUSEPORT, 1);
    try {
      configureDatagrams(library, fd, options, { ipv4: !ipv6 || dual, ipv6 });
    } catch (error) {
      library.close(fd);
      throw error;
    }
    // On a dual-stack socket the one of IPv6 tells mapped addresses as well, but only that of IPv4 knows broadcasts.
    const packetInfo = options.packetInfo === true && options.transparent !== true &&
      (!ipv6 || this.#set(IPPROTO_IPV6, IPV6_RECVPKTINFO, 1)) &&
      ((ipv6 && !dual) || this.#set(IPPROTO_IP, IP_PKTINFO, 1));
    const errorQueue = (!ipv6 || this.#set(IPPROTO_IPV6, IPV6_RECVERR, 1)) &&
      ((ipv6 && !dual) || this.#set(IPPROTO_IP, IP_RECVERR, 1));
    const coalescing = options.coalesce === true && this.#set(SOL_UDP, UDP_GRO, 1);
    const segmentation = options.segment !== false && traits.segmentation;
    const { receiveBufferBytes = 0, sendBufferBytes = 0 } = options;
    this.#want(SO_RCVBUFFORCE, SO_RCVBUF, receiveBufferBytes);
    this.#want(SO_SNDBUFFORCE, SO_SNDBUF, sendBufferBytes);
    if (library.bind(fd, sockaddr, sockaddrBytes) < 0) {
      const errno = library.errno();
      library.close(fd);
      throw systemError("bind", errno, what);
    }
    if (options.remote !== undefined) {
      try {
        connectDatagrams(library, fd, options.remote);
      } catch (error) {
        library.close(fd);
        throw error;
      }
    }
    library.getsockname(fd, sockaddr, new Uint32Array([ADDRESS_BYTES]));
    this.#sockaddr = sockaddr;
    this.traits = Object.freeze({
      ...traits,
      packetInfo,
      errorQueue,
      coalescing,
      segmentation,
    });
    this.#send = new SendState(segmentation, packetInfo, () => this.#drain());
  }

  get local(): SocketAddress {
    return this.#local ??= readAddress(this.#sockaddr, 0);
  }

  get receiveBufferBytes(): number {
    if (this.#receiveBufferBytes < 0) this.#receiveBufferBytes = this.#size(SO_RCVBUF);
    return this.#receiveBufferBytes;
  }

  get sendBufferBytes(): number {
    if (this.#sendBufferBytes < 0) this.#sendBufferBytes = this.#size(SO_SNDBUF);
    return this.#sendBufferBytes;
  }

  receiveNow(batch: DatagramBatch): number {
    if (this.#fd < 0) return 0;
    if (batch !== this.#batch) this.#meet(batch);
    const received = this.#fill(batch);
    if (received <= 0) {
      batch.count = 0;
      return 0;
    }
    const { view, controls } = this.#headers!;
    const { starts, lengths, segments, peers, locals, slab, heads } = batch;
    let entry = 0;
    for (let i = 0; i < received; i++) {
      const header = i * MMSGHDR.size;
      if (!heads && (view.getInt32(header + MMSGHDR.flags, true) & MSG_TRUNC) !== 0) {
        this.#datagramsTruncated++;
        continue;
      }
      const length = view.getUint32(header + MMSGHDR.len, true);
      const at = entry * ADDRESS_BYTES;
      const start = slab.startOf(entry);
      if (entry !== i) {
        // Behind a truncated one: close the gap, entry n is in slot n.
        const from = slab.startOf(i);
        slab.bytes.copyWithin(start, from, from + length);
        copyAddress(peers, i * ADDRESS_BYTES, peers, at);
      }
      starts[entry] = start;
      lengths[entry] = length;
      segments[entry] = 0;
      if (view.getUint32(header + MMSGHDR.namelen, true) === SOCKADDR_IN_BYTES) {
        // What an IPv6 peer left behind must not make two IPv4 addresses differ.
        for (let tail = SOCKADDR_IN_BYTES; tail < ADDRESS_BYTES; tail += 4) {
          peers.setUint32(at + tail, 0);
        }
      }
      for (let word = 0; word < ADDRESS_BYTES; word += 4) locals.setUint32(at + word, 0);
      const controlBytes = view.getUint32(header + MMSGHDR.controllen, true);
      if (controlBytes > 0) {
        const control = controls + i * RECEIVE_CONTROL_BYTES;
        readControls(view, control, control + controlBytes, batch, entry);
      }
      const segment = segments[entry]!;
      this.#datagramsReceived += segment === 0 ? 1 : Math.ceil(length / segment);
      entry++;
    }
    batch.count = entry;
    return entry;
  }

  receive(batch: DatagramBatch, signal?: AbortSignal): number | Promise<number> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const entries = this.receiveNow(batch);
    if (entries > 0 || this.#fd < 0) return entries;
    const pending = this.#pending.add(batch, signal);
    this.#arm();
    return pending;
  }

  send(batch: DatagramBatch, first = 0): number {
    if (this.#fd < 0) return 0;
    if (!(batch instanceof LinuxDatagramBatch)) throw new TypeError(FOREIGN);
    this.#context.vector.send(this.#fd, batch, first, this.#send);
    return Math.max(0, batch.count - first);
  }

  watch(ready: (() => void) | undefined): void {
    if (this.#fd < 0) return;
    this.#ready = ready;
    if (ready !== undefined) this.#arm();
  }

  again(): void {
    this.#again = true;
  }

  drainErrors(report: (error: DatagramError) => void): void {
    if (this.#fd >= 0) this.#drain();
    for (const error of this.#errors.splice(0)) report(error);
  }

  counters(): DatagramCounters {
    if (this.#fd >= 0) this.#readDrops();
    const { calls, sent, drops, refused } = this.#send;
    return Object.freeze({
      receiveCalls: this.#receiveCalls,
      sendCalls: calls,
      datagramsReceived: this.#datagramsReceived,
      datagramsSent: sent,
      sendDrops: drops,
      receiveDrops: this.#receiveDrops,
      datagramsTruncated: this.#datagramsTruncated,
      wouldBlocks: this.#wouldBlocks,
      segmentationRefused: refused,
    });
  }

  close(): Promise<void> {
    if (this.#fd >= 0) {
      this.#readDrops();
      this.#ready = undefined;
      // Before the descriptor: its number may be somebody else's a moment later.
      this.#watch?.cancel();
      this.#library.close(this.#fd);
      this.#fd = -1;
      this.#pending.settle();
      this.#context.gone(this);
    }
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** Asks the kernel. @returns How many headers it filled; −1 when nothing was there. */
  #fill(batch: DatagramBatch): number {
    const library = this.#library;
    const headers = this.#headers!;
    headers.reset();
    // With the flag the kernel tells the whole length of what it cuts, and does not copy the rest.
    const flags = batch.heads ? MSG_DONTWAIT | MSG_TRUNC : MSG_DONTWAIT;
    for (let troubles = 0; troubles < MAX_TROUBLES;) {
      this.#receiveCalls++;
      let received: number;
      if (batch.capacity === 1) {
        received = library.recvmsg(this.#fd, headers.address, flags);
        if (received >= 0) {
          headers.view.setUint32(MMSGHDR.len, received, true);
          received = 1;
        }
      } else {
        received = library.recvmmsg(
          this.#fd,
          headers.address,
          batch.capacity,
          flags,
          0n,
        );
      }
      if (received >= 0) {
        headers.used(received);
        return received;
      }
      const errno = library.errno();
      if (errno === EAGAIN) {
        this.#wouldBlocks++;
        return -1;
      }
      if (errno === EINTR) continue;
      // The fate of an earlier datagram, told once and instead of an answer; what waits to be received still waits.
      // Left in the queue it would make the descriptor look ready for ever.
      troubles++;
      this.#drain();
    }
    return -1;
  }

  #meet(batch: DatagramBatch): void {
    if (!(batch instanceof LinuxDatagramBatch)) throw new TypeError(FOREIGN);
    if (this.traits.coalescing && !batch.heads && batch.slab.stride < COALESCED_BYTES) {
      throw new RangeError(
        `Cannot receive coalesced datagrams: slots of ${batch.slab.stride} bytes, expected ${COALESCED_BYTES}`,
      );
    }
    this.#batch = batch;
    this.#headers = batch.headers;
  }

  #arm(): void {
    if (this.#scheduled) return;
    if (this.#watch === undefined) {
      this.#watch = this.#context.reactor.watch(this.#fd, "read", this.#deliver);
    } else this.#watch.arm();
  }

  readonly #deliver = (): void => {
    this.#scheduled = false;
    if (this.#fd < 0) return;
    this.#again = false;
    try {
      this.#pending.serve((batch) => this.receiveNow(batch));
      this.#ready?.();
    } finally {
      this.#rearm();
    }
  };

  #rearm(): void {
    if (this.#fd < 0 || (this.#ready === undefined && this.#pending.empty)) return;
    // A thread's own loop is level-triggered: an armed descriptor that is not drained comes again next turn, free.
    if (this.#again && this.#context.reactor.kind !== "thread") {
      this.#scheduled = true;
      setImmediate(this.#deliver);
    } else this.#arm();
  }

  #drain(): void {
    this.#context.errorQueue.drain(this.#fd, this.#keep);
  }

  readonly #keep = (error: DatagramError): void => {
    if (this.#errors.length === MAX_ERRORS) this.#errors.shift();
    this.#errors.push(error);
  };

  /** Datagrams the kernel dropped so far: asked for when somebody wants to know, instead of with every datagram. */
  #readDrops(): void {
    const memory = new Uint32Array(new ArrayBuffer(4 * SK_MEMINFO_VARS));
    const length = new Uint32Array([memory.byteLength]);
    if (this.#library.getsockopt(this.#fd, SOL_SOCKET, SO_MEMINFO, memory, length) < 0) return;
    // 32 bits that wrap; what the count has gone on by is added.
    this.#receiveDrops += (memory[SK_MEMINFO_DROPS]! - this.#receiveDrops) >>> 0;
  }

  #set(level: number, name: number, value: number): boolean {
    return this.#library.setsockopt(this.#fd, level, name, new Int32Array([value]), 4) === 0;
  }

  /** Sets a buffer size, past the system's limit where the process may, and reads back what the kernel made of it. */
  #want(force: number, name: number, bytes: number): void {
    if (bytes > 0 && !this.#set(SOL_SOCKET, force, bytes)) this.#set(SOL_SOCKET, name, bytes);
  }

  #size(name: number): number {
    if (this.#fd < 0) return 0;
    const value = new Int32Array(new ArrayBuffer(4));
    const length = new Uint32Array([4]);
    if (this.#library.getsockopt(this.#fd, SOL_SOCKET, name, value, length) < 0) return 0;
    // The kernel keeps and reports twice what it is asked for, for its own bookkeeping (socket(7)).
    return value[0]! / 2;
  }
}

const FOREIGN = "Cannot use the batch: it was not made by createBatch() of a host with this driver";
/** Longest run the kernel coalesces. */
const COALESCED_BYTES = 65_536;
/** Errors of earlier datagrams that one receive puts up with. */
const MAX_TROUBLES = 8;
/** Errors kept for {@linkcode DatagramSocket.drainErrors}; older ones give way. */
const MAX_ERRORS = 64;
