/**
 * One netlink socket of the kernel's driver: options, turns, loss.
 *
 * @module
 */
import { clearImmediate, setImmediate } from "node:timers";
import { integerIn } from "../internal/check.ts";
import {
  AF_NETLINK,
  MSG_DONTWAIT,
  MSG_TRUNC,
  NETLINK_ADD_MEMBERSHIP,
  NETLINK_CAP_ACK,
  NETLINK_EXT_ACK,
  NETLINK_GET_STRICT_CHK,
  NETLINK_NO_ENOBUFS,
  SK_MEMINFO_DROPS,
  SK_MEMINFO_RCVBUF,
  SK_MEMINFO_RMEM_ALLOC,
  SK_MEMINFO_VARS,
  SO_ATTACH_FILTER,
  SO_DETACH_FILTER,
  SO_MEMINFO,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SOL_NETLINK,
  SOL_SOCKET,
} from "./constants_linux.ts";
import { EAGAIN, EINTR, ENOBUFS, systemError } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import {
  EVENT_TRUESIZE_BYTES,
  type NetlinkConsumer,
  type NetlinkCounters,
  type NetlinkLoss,
  type NetlinkMemory,
  type NetlinkOptions,
  type NetlinkSocket,
  type NetlinkTraits,
} from "./netlink.ts";
import { NetlinkSlab } from "./netlink_slab_linux.ts";
import type { Reactor, Watch } from "./reactor.ts";
import { SOCK_FILTER, SOCK_FPROG, SOCKADDR_NL } from "./structs_linux.ts";

/** An AF_NETLINK socket for routing messages. */
export class LinuxNetlinkSocket implements NetlinkSocket {
  readonly portId: number;
  readonly traits: NetlinkTraits;

  readonly #library: Libc;
  readonly #reactor: Reactor;
  readonly #consumer: NetlinkConsumer | undefined;
  readonly #gone: (socket: LinuxNetlinkSocket) => void;
  readonly #slab: NetlinkSlab;
  readonly #slots: number;
  readonly #turnDatagrams: number;
  readonly #restMs: number;
  // What getsockopt writes to; made once, because it is asked after every turn.
  readonly #memory = new Uint32Array(new ArrayBuffer(4 * SK_MEMINFO_VARS));
  readonly #memoryBytes = new Uint32Array(new ArrayBuffer(4));
  #fd: number;
  #watch: Watch | undefined;
  #soon: ReturnType<typeof setImmediate> | undefined;
  /** Looks in steady steps instead of being woken by each datagram. */
  #resting: ReturnType<typeof setInterval> | undefined;
  #armed = false;
  #turnedAt = -Infinity;
  #inTurn = false;
  #paused = false;
  #receiveBufferBytes = 0;
  #lastDrops = 0;
  // Drops that were reported before the kernel's error about them was seen: the error then says nothing new.
  #dropsAhead = false;
  #receiveCalls = 0;
  #datagramsReceived = 0;
  #bytesReceived = 0;
  #dropped = 0;
  #overruns = 0;
  #truncated = 0;
  #foreign = 0;
  #sendCalls = 0;
  #turnsCut = 0;

  /** @param make Makes the descriptor. @throws {SystemError} @throws {RangeError} @throws {TypeError} */
  constructor(
    library: Libc,
    reactor: Reactor,
    make: () => number,
    options: NetlinkOptions,
    gone: (socket: LinuxNetlinkSocket) => void,
  ) {
    const { groups = [], receiveBufferBytes = 0, kernelFilter } = options;
    const events = groups.length > 0;
    for (const group of groups) integerIn(group, 1, 0xffff, "netlink group");
    integerIn(receiveBufferBytes, 0, MAX_BUFFER_BYTES, "receive buffer bytes");
    this.#slots = integerIn(options.slots ?? (events ? 64 : 8), 1, UIO_MAXIOV, "slots");
    const slotBytes = integerIn(
      options.slotBytes ?? (events ? 8192 : 65_536),
      64,
      1 << 24,
      "slot bytes",
    );
    this.#turnDatagrams = integerIn(
      options.turnDatagrams ?? 4096,
      1,
      1 << 30,
      "datagrams in a turn",
    );
    this.#restMs = integerIn(options.restMs ?? 0, 0, 1000, "milliseconds of rest");
    this.#library = library;
    this.#reactor = reactor;
    this.#consumer = options.consumer;
    this.#gone = gone;
    this.#slab = new NetlinkSlab(library, this.#slots, slotBytes);
    this.#fd = make();
    try {
      const forced = this.#setBuffer(receiveBufferBytes, options.force !== false);
      const strict = options.strict !== false && this.#set(SOL_NETLINK, NETLINK_GET_STRICT_CHK, 1);
      const extendedAck = options.extendedAck !== false &&
        this.#set(SOL_NETLINK, NETLINK_EXT_ACK, 1);
      if (extendedAck) this.#set(SOL_NETLINK, NETLINK_CAP_ACK, 1);
      if (options.quietOverrun === true) this.#set(SOL_NETLINK, NETLINK_NO_ENOBUFS, 1);
      if (kernelFilter !== undefined) this.filter(kernelFilter);
      this.portId = this.#bind(groups);
      this.traits = Object.freeze({
        driver: "linux",
        batch: this.#slots,
        lossCounted: this.#readMemory(),
        writes: true,
        kernelFilter: true,
        receiveBuffer: true,
        receiveBufferForced: forced,
        strict,
        extendedAck,
      });
      this.#arm();
    } catch (error) {
      library.close(this.#fd);
      this.#fd = -1;
      throw error;
    }
  }

  get receiveBufferBytes(): number {
    return this.#receiveBufferBytes;
  }

  get eventCapacity(): number {
    return Math.floor(2 * this.#receiveBufferBytes / EVENT_TRUESIZE_BYTES);
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    const fd = this.#open("send");
    const { sendto, errno } = this.#library;
    this.#sendCalls++;
    const length = BigInt(bytes.length);
    for (;;) {
      if (sendto(fd, bytes, length, MSG_DONTWAIT, null, 0) >= 0) return;
      const error = errno();
      if (error !== EINTR) throw systemError("sendto", error, "send a netlink request");
    }
  }

  drain(): number {
    if (this.#fd < 0 || this.#inTurn || this.#consumer === undefined) return 0;
    return this.#turn(this.#consumer);
  }

  checkLoss(): number {
    if (this.#fd >= 0 && !this.#inTurn) {
      const lost = this.#newDrops();
      if (lost > 0) {
        this.#dropsAhead = true;
        this.#report({ reason: "overrun", datagrams: lost });
      }
    }
    return this.#dropped + this.#truncated;
  }

  pause(): void {
    this.#paused = true;
    this.#unwatch();
    this.#unschedule();
  }

  resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    if (this.#fd >= 0 && !this.#inTurn) this.#arm();
  }

  growReceiveBuffer(bytes: number): number {
    this.#open("change the receive buffer");
    this.#setBuffer(integerIn(bytes, 1, MAX_BUFFER_BYTES, "receive buffer bytes"), true);
    return this.#receiveBufferBytes;
  }

  filter(program: Uint8Array<ArrayBuffer> | undefined): void {
    const fd = this.#open("change the filter");
    const library = this.#library;
    if (program === undefined) {
      // ENOENT says that there was none.
      library.setsockopt(fd, SOL_SOCKET, SO_DETACH_FILTER, new Int32Array(1), 4);
      return;
    }
    const instructions = program.length / SOCK_FILTER.size;
    integerIn(instructions, 1, BPF_MAXINSNS, "number of filter instructions");
    // The kernel copies both before the call returns.
    const head = new DataView(new ArrayBuffer(SOCK_FPROG.size));
    head.setUint16(SOCK_FPROG.len, instructions, true);
    head.setBigUint64(SOCK_FPROG.filter, library.addressOf(program), true);
    if (library.setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, head, SOCK_FPROG.size) < 0) {
      throw systemError("setsockopt", library.errno(), "attach a filter to a netlink socket");
    }
  }

  memory(): NetlinkMemory {
    const known = this.#fd >= 0 && this.#readMemory();
    return {
      usedBytes: known ? this.#memory[SK_MEMINFO_RMEM_ALLOC]! : 0,
      limitBytes: known ? this.#memory[SK_MEMINFO_RCVBUF]! : 0,
    };
  }

  counters(): NetlinkCounters {
    return Object.freeze({
      receiveCalls: this.#receiveCalls,
      datagramsReceived: this.#datagramsReceived,
      bytesReceived: this.#bytesReceived,
      datagramsLost: this.#dropped + this.#truncated,
      overruns: this.#overruns,
      datagramsTruncated: this.#truncated,
      datagramsForeign: this.#foreign,
      linesUnreadable: 0,
      restarts: 0,
      sendCalls: this.#sendCalls,
      turnsCut: this.#turnsCut,
    });
  }

  close(): Promise<void> {
    if (this.#fd >= 0) {
      // Before the descriptor: its number may be somebody else's a moment later.
      this.#unwatch();
      this.#unschedule();
      this.#library.close(this.#fd);
      this.#fd = -1;
      this.#gone(this);
    }
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  readonly #ready = (): void => {
    this.#armed = false;
    this.#goOn();
  };

  readonly #goOn = (): void => {
    this.#soon = undefined;
    if (this.#fd >= 0 && !this.#paused) this.#turn(this.#consumer!);
  };

  /**
   * Goes on when the runtime has looked at its own sockets. It does so when it sleeps, and otherwise once in 61 turns of its
   * loop (tokio's `event_interval`): a dump of thousands of rows would be over before an answer of Redis is noticed.
   */
  #goOnLater(): void {
    let left = TURNS_BETWEEN_LOOKS;
    const step = (): void => {
      if (--left > 0) this.#soon = setImmediate(step);
      else this.#goOn();
    };
    this.#soon = setImmediate(step);
  }

  /** Hands over what is there, within the limit; then says what was lost, and asks to be called again. */
  #turn(consumer: NetlinkConsumer): number {
    this.#inTurn = true;
    this.#unschedule();
    const before = this.#datagramsReceived;
    const truncatedBefore = this.#truncated;
    const overrunsBefore = this.#overruns;
    const drained = this.#receive(consumer);
    if (this.#fd >= 0) {
      const truncated = this.#truncated - truncatedBefore;
      if (truncated > 0) this.#report({ reason: "truncated", datagrams: truncated });
      const lost = this.#newDrops();
      const overrun = this.#overruns > overrunsBefore;
      if (lost > 0 || (overrun && !this.#dropsAhead)) {
        this.#report({ reason: "overrun", datagrams: lost });
      }
      if (overrun) this.#dropsAhead = false;
      else if (lost > 0) this.#dropsAhead = true;
    }
    if (this.#fd >= 0) this.#guarded(() => consumer.turned?.(drained));
    this.#inTurn = false;
    const received = this.#datagramsReceived - before;
    if (this.#fd >= 0 && !this.#paused) {
      if (!drained) {
        this.#turnsCut++;
        this.#goOnLater();
      } else if (this.#restMs === 0 || !this.#rests(received)) this.#arm();
    }
    return received;
  }

  /** @returns Whether nothing is left. */
  #receive(consumer: NetlinkConsumer): boolean {
    const { recvmmsg, errno } = this.#library;
    const { slab, address } = this.#slab;
    const { view } = slab;
    for (let taken = 0; taken < this.#turnDatagrams;) {
      this.#slab.reset();
      this.#receiveCalls++;
      // Of a dump the kernel makes the next datagram when there is room for it: it has as many as it is asked for.
      const most = Math.min(this.#slots, this.#turnDatagrams - taken);
      const received = recvmmsg(this.#fd, address, most, MSG_DONTWAIT, 0n);
      if (received < 0) {
        const error = errno();
        if (error === EAGAIN) return true;
        if (error === ENOBUFS) this.#overruns++;
        else if (error !== EINTR) return this.#fail(consumer, error);
        // What was buffered before the overrun is still there. Counted, so that a flood cannot hold this loop for ever.
        taken++;
        continue;
      }
      this.#slab.used(received);
      taken += received;
      for (let i = 0; i < received; i++) {
        if (this.#slab.senderOf(i) !== KERNEL) {
          this.#foreign++;
          continue;
        }
        if ((this.#slab.flagsOf(i) & MSG_TRUNC) !== 0) {
          this.#truncated++;
          continue;
        }
        const start = slab.startOf(i), length = this.#slab.lengthOf(i);
        this.#datagramsReceived++;
        this.#bytesReceived += length;
        try {
          consumer.datagram(view, start, start + length);
        } catch (error) {
          rethrowLater(error);
        }
        // Closed or paused by the consumer. What is left of the batch was taken from the kernel: after a pause it still
        // has to be handed over.
        if (this.#fd < 0) return true;
      }
      if (received < most || this.#paused) return true;
    }
    return false;
  }

  #fail(consumer: NetlinkConsumer, errno: number): boolean {
    const error = systemError("recvmmsg", errno, "receive from a netlink socket");
    this.close();
    this.#guarded(() => consumer.failed?.(error));
    return true;
  }

  #report(loss: NetlinkLoss): void {
    this.#guarded(() => this.#consumer?.lost(Object.freeze(loss)));
  }

  #guarded(call: () => void): void {
    try {
      call();
    } catch (error) {
      rethrowLater(error);
    }
  }

  #arm(): void {
    if (this.#consumer === undefined || this.#paused) return;
    this.#armed = true;
    if (this.#watch === undefined) {
      this.#watch = this.#reactor.watch(this.#fd, "read", this.#ready);
    } else this.#watch.arm();
  }

  /**
   * Decides whether to look again after a rest instead of being woken. A rest is worth it when more than one datagram comes
   * in its time, and safe when the buffer holds many times more than will; a flood is better read as it comes.
   */
  #rests(received: number): boolean {
    const now = performance.now();
    const sinceMs = now - this.#turnedAt;
    this.#turnedAt = now;
    const few = received < this.#slots && this.eventCapacity >= REST_CAPACITY;
    if (this.#resting !== undefined) {
      if (few && received > 1) return true;
      this.#wakeUp();
    } else if (few && received > 0 && sinceMs < this.#restMs && !this.#armed) {
      this.#resting = setInterval(this.#goOn, this.#restMs);
      return true;
    }
    return false;
  }

  #wakeUp(): void {
    if (this.#resting !== undefined) clearInterval(this.#resting);
    this.#resting = undefined;
  }

  #unwatch(): void {
    this.#wakeUp();
    this.#watch?.cancel();
    this.#watch = undefined;
    this.#armed = false;
  }

  #unschedule(): void {
    if (this.#soon !== undefined) clearImmediate(this.#soon);
    this.#soon = undefined;
  }

  /** Joins the groups and takes an address. @returns The address. */
  #bind(groups: readonly number[]): number {
    const library = this.#library;
    const address = new DataView(new ArrayBuffer(SOCKADDR_NL.size));
    let mask = 0;
    for (const group of groups) if (group <= 32) mask |= 1 << (group - 1);
    address.setUint16(SOCKADDR_NL.family, AF_NETLINK, true);
    address.setUint32(SOCKADDR_NL.groups, mask >>> 0, true);
    if (library.bind(this.#fd, address, SOCKADDR_NL.size) < 0) {
      throw systemError("bind", library.errno(), `join netlink groups ${groups.join(", ")}`);
    }
    for (const group of groups) {
      // The mask of the address has 32 bits.
      if (group > 32 && !this.#set(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, group)) {
        throw systemError("setsockopt", library.errno(), `join netlink group ${group}`);
      }
    }
    library.getsockname(this.#fd, address, new Uint32Array([SOCKADDR_NL.size]));
    return address.getUint32(SOCKADDR_NL.pid, true);
  }

  /** @returns Whether the system's limit was passed by. */
  #setBuffer(bytes: number, force: boolean): boolean {
    const forced = bytes > 0 && force && this.#set(SOL_SOCKET, SO_RCVBUFFORCE, bytes);
    // Gives silently what net.core.rmem_max allows.
    if (bytes > 0 && !forced) this.#set(SOL_SOCKET, SO_RCVBUF, bytes);
    const value = new Int32Array(new ArrayBuffer(4));
    this.#library.getsockopt(this.#fd, SOL_SOCKET, SO_RCVBUF, value, new Uint32Array([4]));
    this.#receiveBufferBytes = value[0]! / 2;
    return forced;
  }

  #set(level: number, name: number, value: number): boolean {
    return this.#library.setsockopt(this.#fd, level, name, new Int32Array([value]), 4) === 0;
  }

  /** Fills `#memory`. @returns Whether the kernel knows the answer; it does since 4.12. */
  #readMemory(): boolean {
    this.#memoryBytes[0] = this.#memory.byteLength;
    return this.#library.getsockopt(
      this.#fd,
      SOL_SOCKET,
      SO_MEMINFO,
      this.#memory,
      this.#memoryBytes,
    ) === 0;
  }

  /** Datagrams dropped since the last look. */
  #newDrops(): number {
    if (!this.#readMemory()) return 0;
    const drops = this.#memory[SK_MEMINFO_DROPS]!;
    // 32 bits that wrap.
    const lost = (drops - this.#lastDrops) >>> 0;
    this.#lastDrops = drops;
    this.#dropped += lost;
    return lost;
  }

  #open(what: string): number {
    if (this.#fd < 0) throw new TypeError(`Cannot ${what}: the netlink socket is closed`);
    return this.#fd;
  }
}

function rethrowLater(error: unknown): void {
  queueMicrotask(() => {
    throw error;
  });
}

/** Events the receive buffer has to hold for a rest: what the kernel tells in 3 ms at its fastest is half as much. */
const REST_CAPACITY = 4096;
const TURNS_BETWEEN_LOOKS = 64;
/** Port id of the kernel. */
const KERNEL = 0;
/** The kernel doubles it into an `int`. */
const MAX_BUFFER_BYTES = 0x3fff_ffff;
/** What one `recvmmsg` takes at most. */
const UIO_MAXIOV = 1024;
/** `<linux/bpf_common.h>`. */
const BPF_MAXINSNS = 4096;
