/**
 * Netlink sockets, which tell what changes in the kernel's network tables: the contract, and the choice of who fulfils
 * it.
 *
 * Two drivers. `linux` makes AF_NETLINK sockets through the C library. `iproute` needs no native call and no privilege:
 * it runs the `ip` program, watches its output, and puts what it reads back into the form of netlink messages. Both pass
 * `netlink_contract_test.ts`. Both hand over the same thing, datagrams of netlink messages at a position in a slab;
 * {@linkcode NetlinkTraits} says what the lesser one lacks.
 *
 * Loss is part of the contract. A netlink socket drops events when its reader is slow; every drop is counted and handed
 * to {@linkcode NetlinkConsumer.lost}, and the reader then has to ask for the whole table again.
 *
 * @module
 */
import { CapabilityError, type SystemError } from "../internal/errors.ts";
import { resolveDriver } from "./capabilities.ts";
import type { Driver } from "./datagram.ts";
import type { ReactorChoice } from "./shared_loop.ts";

/** What a socket can do. True or false, never "maybe". */
export interface NetlinkTraits {
  /** The driver's name. */
  readonly driver: "linux" | "iproute";
  /** Datagrams one system call can fetch at most. */
  readonly batch: number;
  /**
   * Every datagram the kernel dropped is counted. Without it loss is noticed only when the kernel reports it, and events
   * that no driver could put into a message are lost as well: check the table now and then.
   */
  readonly lossCounted: boolean;
  /** Requests that change something can be sent. Whether the kernel then allows them is another matter. */
  readonly writes: boolean;
  /** {@linkcode NetlinkSocket.filter} works. */
  readonly kernelFilter: boolean;
  /** {@linkcode NetlinkSocket.growReceiveBuffer} works. */
  readonly receiveBuffer: boolean;
  /** The receive buffer was set past the system's limit (`net.core.rmem_max`), which needs CAP_NET_ADMIN. */
  readonly receiveBufferForced: boolean;
  /** The kernel checks every field of a dump request, and refuses instead of ignoring what it does not know. */
  readonly strict: boolean;
  /** Refusals carry the kernel's sentence. */
  readonly extendedAck: boolean;
}

/** Messages were lost. What they said has to be asked for again. */
export interface NetlinkLoss {
  /**
   * `overrun`: the receive buffer was full. `truncated`: a datagram was longer than a slot. `restarted`: the program that
   * was watched had to be started again. `unreadable`: a line of its output could not be understood.
   */
  readonly reason: "overrun" | "truncated" | "restarted" | "unreadable";
  /** How many datagrams, at least; 0 when nobody knows. */
  readonly datagrams: number;
}

/**
 * Who gets what arrives. Called from the event loop, in turns; never from inside another of its calls.
 *
 * An exception thrown here is reported as uncaught; the socket goes on with the next datagram.
 */
export interface NetlinkConsumer {
  /**
   * One datagram from the kernel: whole netlink messages, each padded to four bytes.
   *
   * @param view The slab. Valid until this returns.
   * @param start Where the first message begins.
   * @param end Where the datagram ends, exclusive.
   */
  datagram(view: DataView<ArrayBuffer>, start: number, end: number): void;
  /** Messages were lost. Comes at the end of the turn in which it was noticed, before {@linkcode turned}. */
  lost(loss: NetlinkLoss): void;
  /**
   * A turn is over: a good moment to flush.
   *
   * @param drained Nothing is waiting any more; false when the turn ended to be fair to others and goes on soon.
   */
  turned?(drained: boolean): void;
  /** The socket failed for good and is closed. */
  failed?(error: SystemError): void;
}

/** How to open a socket. */
export interface NetlinkOptions {
  /** Who gets what arrives. A socket without one only sends; answers pile up unread. */
  readonly consumer?: NetlinkConsumer;
  /** Multicast groups to join, by number: {@linkcode RTNLGRP_LINK}, {@linkcode RTNLGRP_NEIGH}. Default none. */
  readonly groups?: readonly number[];
  /**
   * Wanted kernel receive buffer, bytes; 0 (default) leaves the system's. An event occupies about 416 bytes of it, see
   * {@linkcode NetlinkSocket.eventCapacity}.
   */
  readonly receiveBufferBytes?: number;
  /** Go past the system's limit where the process may; what became of it is in the traits. Default true. */
  readonly force?: boolean;
  /** Let the kernel check dump requests strictly; filters in them work only then. Default true. */
  readonly strict?: boolean;
  /** Ask for sentences in refusals, and for refusals that do not repeat the whole request. Default true. */
  readonly extendedAck?: boolean;
  /** Do not report a full buffer as an error; the drop counter still tells. Default false. */
  readonly quietOverrun?: boolean;
  /**
   * Classic BPF program for {@linkcode NetlinkSocket.filter}, in force before the first group is joined. Left out by a
   * driver without the trait: a consumer has to cope with what a filter would have kept away.
   */
  readonly kernelFilter?: Uint8Array<ArrayBuffer>;
  /** Datagrams fetched by one call. Default 64 with groups, 8 without. */
  readonly slots?: number;
  /**
   * Longest datagram, bytes. Default 8 KiB with groups (an event is below 2 KiB), 64 KiB without (a part of a dump has up
   * to 32 KiB).
   */
  readonly slotBytes?: number;
  /** Datagrams handed over in one turn of the event loop, about. Default 4096. */
  readonly turnDatagrams?: number;
  /**
   * Longest rest after a turn, milliseconds, when turns follow each other faster than that: what comes meanwhile is read
   * together. After a quiet moment the next datagram is told at once all the same. A driver that is told lines by a program
   * has no use for it. Default 0, none.
   */
  readonly restMs?: number;
  /**
   * File that stands for the network namespace to look into, such as `/run/netns/red`; default that of the process. Needs
   * CAP_SYS_ADMIN.
   */
  readonly namespace?: string;
  /** Gives up opening: rejects with `signal.reason`. */
  readonly signal?: AbortSignal;
}

/** Monotonic counts of one socket. */
export interface NetlinkCounters {
  /** System calls made to receive. */
  readonly receiveCalls: number;
  /** Datagrams handed to the consumer. */
  readonly datagramsReceived: number;
  /** Bytes of these. */
  readonly bytesReceived: number;
  /** Datagrams that are known to be lost: dropped by the kernel or longer than a slot. */
  readonly datagramsLost: number;
  /** Times the kernel reported a full buffer. */
  readonly overruns: number;
  /** Datagrams that were longer than a slot. */
  readonly datagramsTruncated: number;
  /** Datagrams that were ignored because another process had sent them. */
  readonly datagramsForeign: number;
  /** Lines that could not be put into a message; `iproute` only. */
  readonly linesUnreadable: number;
  /** Times the watched program was started again; `iproute` only. */
  readonly restarts: number;
  /** Requests sent, counted by {@linkcode NetlinkSocket.send} calls. */
  readonly sendCalls: number;
  /** Turns that ended early to be fair. */
  readonly turnsCut: number;
}

/** The kernel's memory of one socket, bytes in the kernel's own count. */
export interface NetlinkMemory {
  /** In use by datagrams that wait. */
  readonly usedBytes: number;
  /** The limit; twice {@linkcode NetlinkSocket.receiveBufferBytes}. */
  readonly limitBytes: number;
}

/** A netlink socket. All its verbs but `close` are synchronous and never wait. */
export interface NetlinkSocket extends AsyncDisposable {
  /** Its address: answers to its requests carry it. Never 0. */
  readonly portId: number;
  /** What it can do. */
  readonly traits: NetlinkTraits;
  /** The receive buffer in force, bytes, in the unit it is asked for (Linux itself reports double); 0 where unknown. */
  readonly receiveBufferBytes: number;
  /** How many neighbour events of the usual 76 bytes the buffer holds; 0 where unknown. */
  readonly eventCapacity: number;
  /**
   * Sends requests to the kernel: one netlink message or several, each padded to four bytes. They are carried out before
   * this returns, with `linux`; the answers come to the consumer.
   *
   * @param bytes May be overwritten when this returns. At most about 200 KiB.
   * @throws {SystemError} When the kernel does not take the datagram. What it thinks of the requests comes as messages.
   * @throws {TypeError} When the socket is closed.
   */
  send(bytes: Uint8Array<ArrayBuffer>): void;
  /** Takes a turn now instead of when the event loop comes to it. @returns Datagrams handed over. Not for consumers. */
  drain(): number;
  /**
   * Looks at the drop counter now, and reports to the consumer what was lost since the last look. It is looked at after
   * every turn anyway; a socket that is never ready takes no turns.
   *
   * @returns Datagrams lost since the socket was opened.
   */
  checkLoss(): number;
  /** Stops reading: what arrives waits in the kernel's buffer, or is dropped there. Idempotent. */
  pause(): void;
  /** Reads again. Idempotent. */
  resume(): void;
  /**
   * Makes the receive buffer larger, or smaller; what waits in it stays.
   *
   * @param bytes As {@linkcode NetlinkOptions.receiveBufferBytes}.
   * @returns What is in force now, {@linkcode receiveBufferBytes}.
   */
  growReceiveBuffer(bytes: number): number;
  /**
   * Lets a classic BPF program choose which datagrams are worth buffering. It judges a datagram by its first bytes as a
   * whole: never use it on a socket that dumps. Half-words are loaded as big-endian.
   *
   * @param program Instructions as `struct sock_filter`, eight bytes each, at most 4096 of them; `undefined` takes the
   * filter away.
   * @throws {SystemError} When the kernel refuses the program.
   * @throws {CapabilityError} With a driver that cannot.
   */
  filter(program: Uint8Array<ArrayBuffer> | undefined): void;
  /** What the kernel has buffered; zeros where unknown. */
  memory(): NetlinkMemory;
  /** A frozen copy of the counts. */
  counters(): NetlinkCounters;
  /** Idempotent. The consumer is not called any more. */
  close(): Promise<void>;
}

/** A place where netlink sockets live: one driver, one way of waiting. */
export interface NetlinkHost extends AsyncDisposable {
  /** The driver's name. */
  readonly driver: "linux" | "iproute";
  /** Why a better driver was not taken, one sentence; empty when this is the best. */
  readonly fallbackReason: string;
  /**
   * Opens a socket. It has joined its groups when the promise settles: no change after that is missed.
   *
   * @throws {SystemError} When the kernel refuses, or the program cannot be started.
   * @throws {CapabilityError} When a group or a namespace is beyond the driver.
   * @throws {RangeError} For a number out of range.
   */
  open(options?: NetlinkOptions): Promise<NetlinkSocket>;
  /** Closes every socket that is still open. */
  close(): Promise<void>;
}

/** How to open a host. */
export interface NetlinkHostOptions {
  /** Default `auto`. */
  readonly driver?: Driver;
  /** Which readiness bridge is used on Linux. Default `auto`: io_uring where it works, else the poll worker. */
  readonly reactor?: ReactorChoice;
  /** The `ip` program, for the portable driver. Default `ip`, looked for in `PATH`. */
  readonly program?: string;
}

/** Group of link changes, `<linux/rtnetlink.h>`. */
export const RTNLGRP_LINK = 1;
/** Group of neighbour changes. */
export const RTNLGRP_NEIGH = 3;

/** Of the kernel's receive buffer, what one neighbour event of 76 bytes occupies: measured (neighsync.md §2). */
export const EVENT_TRUESIZE_BYTES = 832;

/**
 * Opens the place where netlink sockets live, choosing the driver once.
 *
 * With `auto` a driver that cannot be used here is passed over quietly and {@linkcode NetlinkHost.fallbackReason} says
 * why. Never asks for a permission.
 *
 * @throws {CapabilityError} `ffi.driver-unavailable` when the driver that was demanded, or any, cannot be had.
 *
 * @example
 * ```ts
 * import { openNetlinkHost, RTNLGRP_NEIGH } from "@fastwire/net/ffi";
 *
 * if (Deno.build.os === "linux") {
 *   await using host = await openNetlinkHost();
 *   await using socket = await host.open({
 *     groups: [RTNLGRP_NEIGH],
 *     consumer: {
 *       datagram: (view, start) => console.log("message of type", view.getUint16(start + 4, true)),
 *       lost: ({ reason }) => console.warn("messages were lost:", reason),
 *     },
 *   });
 *   console.log(`holds ${socket.eventCapacity} events`);
 * }
 * ```
 */
export async function openNetlinkHost(options: NetlinkHostOptions = {}): Promise<NetlinkHost> {
  const driver = options.driver ?? "auto";
  const choice = resolveDriver(driver, ["netlink", "mmsg"]);
  let reason = choice.reason;
  if (choice.use === "fast") {
    const { openLinuxNetlinkHost } = await import("./netlink_linux.ts");
    try {
      return await openLinuxNetlinkHost(options.reactor ?? "auto");
    } catch (error) {
      // What was demanded is not replaced by something else.
      if (driver === "fast" || (options.reactor ?? "auto") !== "auto") throw error;
      reason = error instanceof CapabilityError ? error.why : String(error);
    }
  }
  const { openIprouteHost } = await import("./netlink_iproute.ts");
  return openIprouteHost(options.program ?? "ip", reason);
}
