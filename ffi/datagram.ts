/**
 * Datagram sockets: the contract, and the choice of who fulfils it.
 *
 * Two drivers. `linux` makes its own sockets through the C library (`recvmmsg`, `sendmmsg`, segmentation offload both
 * ways, packet info, error queue, drop counter). `node` is `node:dgram` and runs everywhere. Both pass
 * `datagram_contract_test.ts`; nothing above this file can tell which one it got, except by looking at the clock.
 *
 * @module
 */
import { CapabilityError } from "../internal/errors.ts";
import { Slab } from "../internal/bytes/slab.ts";
import { ADDRESS_BYTES, type SocketAddress } from "./address.ts";
import { resolveDriver } from "./capabilities.ts";
import type { ReactorChoice } from "./shared_loop.ts";

/** Which driver a caller wants: the best there is, the kernel's or an error, or the portable one. */
export type Driver = "auto" | "fast" | "portable";

/** What a socket can do. True or false, never "maybe". */
export interface DatagramTraits {
  /** The driver's name. */
  readonly driver: "linux" | "node";
  /** Datagrams one system call can move at most. */
  readonly batch: number;
  /** A run of equal datagrams leaves in one call (UDP_SEGMENT). */
  readonly segmentation: boolean;
  /** Runs of equal datagrams may arrive coalesced (UDP_GRO). */
  readonly coalescing: boolean;
  /** The address a datagram was sent to is known, and the source address of a sent one can be chosen. */
  readonly packetInfo: boolean;
  /** ICMP errors are reported to the socket. */
  readonly errorQueue: boolean;
  /** Datagrams the kernel dropped for want of buffer are counted. */
  readonly dropCounter: boolean;
  /** `mark`, `device`, `fragment`, `reuseAddress` and `transparent` of {@linkcode DatagramOptions} take effect. */
  readonly options: boolean;
}

/** How to open a socket. */
export interface DatagramOptions {
  /** Where to listen. Port 0 takes any free one. */
  readonly bind: SocketAddress;
  /** On an IPv6 wildcard: accept IPv4 as mapped addresses too. Default false. */
  readonly dualStack?: boolean;
  /** Let several sockets share the port, the kernel spreading peers over them (SO_REUSEPORT). Default false. */
  readonly reusePort?: boolean;
  /** Report the destination address of each datagram in {@linkcode DatagramBatch.locals}. Default false. */
  readonly packetInfo?: boolean;
  /** Let the kernel coalesce what it receives; batches then need slots of 65,536 bytes, or be of heads. Default false. */
  readonly coalesce?: boolean;
  /** Use segmentation offload for runs where it works. Default true. */
  readonly segment?: boolean;
  /** Wanted kernel receive buffer, bytes; the kernel may give less. 0 leaves its default. */
  readonly receiveBufferBytes?: number;
  /** Wanted kernel send buffer, bytes; the kernel may give less. 0 leaves its default. */
  readonly sendBufferBytes?: number;
  /** Netfilter mark of what is sent (`SO_MARK`). 0, the default, is none; others need privileges. */
  readonly mark?: number;
  /** Send and receive through this network interface only (`SO_BINDTODEVICE`). */
  readonly device?: string;
  /**
   * Whether datagrams may be cut into fragments on their way; those that are too long are lost otherwise
   * (`IP_MTU_DISCOVER`). Default: the system's choice.
   */
  readonly fragment?: boolean;
  /** Other sockets may have the address as well (`SO_REUSEADDR`, `SO_REUSEPORT`). Default false. */
  readonly reuseAddress?: boolean;
  /**
   * Have addresses that are not this host's (`IP_TRANSPARENT`): take datagrams for others, which netfilter's TPROXY hands
   * over, with their address and port in {@linkcode DatagramBatch.locals}, and send in the name of others. Needs the
   * `options` trait and privileges. Takes the place of {@linkcode DatagramOptions.packetInfo}.
   */
  readonly transparent?: boolean;
  /** Receive from here only; in the family of `bind`. What is sent may still go anywhere. */
  readonly remote?: SocketAddress;
}

/** Monotonic counts of one socket: the numbers that explain most performance reports. */
export interface DatagramCounters {
  /** System calls made to receive. */
  readonly receiveCalls: number;
  /** System calls made to send. */
  readonly sendCalls: number;
  /** Datagrams handed over, those of runs counted one by one. */
  readonly datagramsReceived: number;
  /** Datagrams the kernel took, those of runs counted one by one. */
  readonly datagramsSent: number;
  /** Datagrams that were dropped while sending because the kernel had no room or a filter refused. */
  readonly sendDrops: number;
  /** Datagrams that were dropped because the receive buffer was full; kernel buffers only where it can tell. */
  readonly receiveDrops: number;
  /** Datagrams that were dropped because they were longer than the slots of the batch. */
  readonly datagramsTruncated: number;
  /** Times a receive found nothing. */
  readonly wouldBlocks: number;
  /** Times segmentation offload was refused and the socket went on without. */
  readonly segmentationRefused: number;
}

/**
 * Several datagrams in one slab, as parallel arrays; no object per packet.
 *
 * Entry `i` is the bytes `[starts[i], starts[i] + lengths[i])` of the slab. With `segments[i] > 0` the entry is a *run*:
 * datagrams of `segments[i]` bytes each, one behind the other, the last possibly shorter.
 *
 * Received entries start at their slot, `i * slab.stride`, and are valid until the next receive into the batch. A sender
 * may put them anywhere. Made by {@linkcode DatagramHost.createBatch}, which pins what the kernel will look at.
 *
 * A batch of *heads* takes in only the beginning of what arrives, as much as its slots hold; `lengths` and `segments` tell
 * of the whole. Who needs no more than the first bytes of a run is spared the copy of the other 64 KiB.
 */
export class DatagramBatch {
  /** The bytes. */
  readonly slab: Slab;
  /** Entries the batch can hold. */
  readonly capacity: number;
  /** Received entries are cut to their slots, and a length may be more than what is there. */
  readonly heads: boolean;
  /** Entries it holds now. */
  count = 0;
  /** Where each entry begins in the slab. */
  readonly starts: Int32Array<ArrayBuffer>;
  /** Bytes of each entry. */
  readonly lengths: Int32Array<ArrayBuffer>;
  /** Bytes of each datagram of a run; 0 for an entry that is one datagram. */
  readonly segments: Int32Array<ArrayBuffer>;
  /** Who sent the entry or whom it goes to: position `i * ADDRESS_BYTES`, format of `address.ts`. */
  readonly peers: DataView<ArrayBuffer>;
  /**
   * Where a received entry was sent to, when the socket reports it; family 0 otherwise. The port is 0, or 65535 for an
   * IPv4 datagram that went to more than this host (broadcast, multicast). When such a socket sends the entry, it is the
   * address it comes from.
   */
  readonly locals: DataView<ArrayBuffer>;

  /**
   * Makes an empty batch.
   *
   * @param capacity Entries.
   * @param slotBytes Bytes of each receive slot.
   * @param heads Take in only what fits a slot, instead of dropping what is longer. Default false.
   */
  constructor(capacity: number, slotBytes: number, heads: boolean = false) {
    this.slab = new Slab(capacity, slotBytes);
    this.capacity = capacity;
    this.heads = heads;
    this.starts = new Int32Array(new ArrayBuffer(4 * capacity));
    this.lengths = new Int32Array(new ArrayBuffer(4 * capacity));
    this.segments = new Int32Array(new ArrayBuffer(4 * capacity));
    this.peers = new DataView(new ArrayBuffer(ADDRESS_BYTES * capacity));
    this.locals = new DataView(new ArrayBuffer(ADDRESS_BYTES * capacity));
    for (let i = 0; i < capacity; i++) this.starts[i] = this.slab.startOf(i);
  }
}

/** Port in {@linkcode DatagramBatch.locals} of a datagram that was not for this host alone. */
export const BROADCAST_PORT = 65535;

/** What the network said about an earlier datagram. */
export interface DatagramError {
  /** `refused`: nobody listens there. `unreachable`: no way there. `too-big`: it did not fit the path. */
  readonly kind: "refused" | "unreachable" | "too-big" | "other";
  /** Symbolic error name. */
  readonly errnoName: string;
  /** Whom the datagram was for, when known. */
  readonly peer: SocketAddress | undefined;
}

/** A bound UDP socket. All its verbs but `receive` and `close` are synchronous and never wait. */
export interface DatagramSocket extends AsyncDisposable {
  /** Where it is bound; the port is the real one. */
  readonly local: SocketAddress;
  /** What it can do. */
  readonly traits: DatagramTraits;
  /** Kernel buffer sizes really in force, bytes, in the unit they are asked for (Linux reports double); 0 where unknown. */
  readonly receiveBufferBytes: number;
  /** The same for the send buffer. */
  readonly sendBufferBytes: number;
  /**
   * Fills `batch` with what is there now, up to its capacity, and sets `batch.count`.
   *
   * @returns How many entries; 0 when nothing is waiting or the socket is closed.
   */
  receiveNow(batch: DatagramBatch): number;
  /** The same, but waits for at least one. 0 means closed; rejects with `signal.reason` when aborted. */
  receive(batch: DatagramBatch, signal?: AbortSignal): number | Promise<number>;
  /**
   * Sends entries `first` to `batch.count` in order. The bytes may be overwritten when it returns.
   *
   * @returns How many entries left or were lost trying (a datagram network may lose them anyway: full buffers after a
   * short retry, an ICMP error of an earlier datagram, a local filter). Less than asked only when the socket is closed.
   */
  send(batch: DatagramBatch, first?: number): number;
  /**
   * Calls `ready` whenever datagrams may be waiting, until called again with `undefined`. The callback must receive
   * until it gets fewer entries than the batch holds, or ask for {@linkcode again}.
   */
  watch(ready: (() => void) | undefined): void;
  /** From inside a watch callback that stopped early to be fair: call me again next turn. */
  again(): void;
  /** Calls `report` for each error the network reported since; for sockets with the `errorQueue` trait. */
  drainErrors(report: (error: DatagramError) => void): void;
  /** A frozen copy of the counts. */
  counters(): DatagramCounters;
  /** Idempotent. Pending receives settle with 0. */
  close(): Promise<void>;
}

/** A place where sockets live: one driver, one way of waiting. */
export interface DatagramHost extends AsyncDisposable {
  /** What its sockets can do. */
  readonly traits: DatagramTraits;
  /** Why a better driver was not taken, one sentence; empty when this is the best. */
  readonly fallbackReason: string;
  /** Opens a socket. The kernel's driver answers at once. @throws {SystemError} */
  open(options: DatagramOptions): DatagramSocket | Promise<DatagramSocket>;
  /**
   * Makes a batch whose memory this driver's sockets can use; it may be shared by all of them.
   *
   * @param capacity Entries.
   * @param slotBytes Bytes of each receive slot.
   * @param heads Take in only the beginning of what arrives: {@linkcode DatagramBatch.heads}. Default false.
   */
  createBatch(capacity: number, slotBytes: number, heads?: boolean): DatagramBatch;
  /**
   * The largest IP packet the path to a peer takes, bytes, as far as the kernel knows now; `undefined` where it cannot
   * be asked or there is no way there. Sends nothing.
   *
   * @param view Holds the peer's address at `start`, format of `address.ts`.
   */
  pathMtu(view: DataView, start: number): number | undefined;
  /**
   * Only with `wait: "thread"`: sleeps in the kernel until a watched socket is ready, {@linkcode wake} was called, or
   * `maxWaitMs` have passed, then runs the callbacks that are due. Blocks the thread.
   *
   * @returns How many callbacks ran.
   */
  turn(maxWaitMs: number): number;
  /**
   * Only with `wait: "thread"`: the descriptor of an eventfd; eight bytes holding 1 written to it, from any thread of
   * the process, end the current {@linkcode turn}.
   */
  readonly wakeDescriptor: number;
  /** Closes every socket that is still open. */
  close(): Promise<void>;
}

/** How to open a host. */
export interface DatagramHostOptions {
  /** Default `auto`. */
  readonly driver?: Driver;
  /**
   * `events` (default): readiness arrives through the runtime's event loop, the thread never blocks.
   * `thread`: the caller's loop owns its thread and blocks in {@linkcode DatagramHost.turn}; kernel driver only.
   */
  readonly wait?: "events" | "thread";
  /** Which readiness bridge `events` uses on Linux. Default `auto`: io_uring where it works, else the poll worker. */
  readonly reactor?: ReactorChoice;
}

/**
 * Opens the place where datagram sockets live, choosing the driver once.
 *
 * With `auto` a driver that cannot be used here is passed over quietly and {@linkcode DatagramHost.fallbackReason} says
 * why. Never asks for a permission.
 *
 * @throws {CapabilityError} `ffi.driver-unavailable` when the driver, or the way of waiting, that was demanded cannot
 * be had.
 */
export async function openDatagramHost(options: DatagramHostOptions = {}): Promise<DatagramHost> {
  const driver = options.driver ?? "auto";
  const wait = options.wait ?? "events";
  const choice = resolveDriver(driver, ["batchedDatagrams"]);
  let reason = choice.reason;
  if (choice.use === "fast") {
    const { openLinuxHost } = await import("./datagram_linux.ts");
    try {
      return await openLinuxHost(wait, options.reactor ?? "auto");
    } catch (error) {
      // What was demanded is not replaced by something else.
      if (driver === "fast" || (options.reactor ?? "auto") !== "auto") throw error;
      reason = error instanceof CapabilityError ? error.why : String(error);
    }
  }
  if (wait === "thread") {
    throw new CapabilityError(
      "ffi.driver-unavailable",
      `Cannot wait for datagrams on a thread of one's own: ${reason}`,
      {
        capability: "datagram-thread",
        why: reason,
        remedy: 'run with --allow-ffi on Linux, or use wait: "events"',
      },
    );
  }
  const { openNodeHost } = await import("./datagram_node.ts");
  return openNodeHost(reason);
}
