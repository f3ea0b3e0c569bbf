/**
 * TCP streams: the contract of listeners and connections, and the choice of who fulfils it.
 *
 * Three drivers. `linux` makes its own sockets through the C library: every socket option, a receive that discards in
 * the kernel, vectored sends, a descriptor that may change its thread. `deno` stands on `Deno.listen` and
 * `Deno.connect`, `node` on `node:net`; what the kernel would do for them (buffering, readiness) they do in bounded
 * memory. All pass `stream_contract_test.ts`; nothing above this file can tell which one it got, except by its traits
 * and by looking at the clock.
 *
 * @module
 */
import { CapabilityError, SystemError } from "../internal/errors.ts";
import type { SocketAddress } from "./address.ts";
import { resolveDriver } from "./capabilities.ts";
import type { Driver } from "./datagram.ts";
import type { ReactorChoice } from "./shared_loop.ts";

/** A receive found the peer's orderly end: nothing more will come. */
export const STREAM_END: number = 0;
/** Nothing is there, or there is no room: wait, or be called by {@linkcode StreamConnection.watch}. */
export const WOULD_BLOCK: number = -1;
/** The connection is gone; {@linkcode StreamConnection.failure} says why. */
export const STREAM_FAILED: number = -2;

/** What the streams of a driver can do. True or false, never "maybe". */
export interface StreamTraits {
  /** The driver's name. */
  readonly driver: "linux" | "deno" | "node";
  /** Discarding leaves the bytes in the kernel; elsewhere they are read and dropped. */
  readonly discard: boolean;
  /**
   * Two parts leave in one system call; elsewhere the driver joins them, which costs a copy. And there are the verbs for
   * {@linkcode StreamPieces}.
   */
  readonly vectored: boolean;
  /** A constant buffer can be sent out of the page cache (`sendfile`). */
  readonly sendfile: boolean;
  /** A connection can be moved to another thread as a descriptor. */
  readonly detach: boolean;
  /** Several listeners can share a port. */
  readonly reusePort: boolean;
  /** The local address of an outgoing connection can be chosen. */
  readonly bind: boolean;
  /** An IPv6 wildcard listener can be kept from accepting IPv4; elsewhere it always accepts both. */
  readonly ipv6Only: boolean;
  /** A connection can be ended with a reset. */
  readonly reset: boolean;
  /** All of {@linkcode StreamOptions} takes effect, not `noDelay` and `keepAliveMs` alone. */
  readonly options: boolean;
  /** {@linkcode StreamConnection.info} answers. */
  readonly info: boolean;
  /** {@linkcode StreamOptions.multipath} takes effect. */
  readonly multipath: boolean;
}

/**
 * Options of a connection. A listener's hold for everything it accepts. What a driver cannot set
 * ({@linkcode StreamTraits.options}) it leaves alone.
 */
export interface StreamOptions {
  /** Send small pieces at once (`TCP_NODELAY`). Default true. */
  readonly noDelay?: boolean;
  /**
   * Probe a silent peer after this many milliseconds; whole seconds are used, at least one. 0 leaves probing off, which
   * is the default. `deno` has the interval of the system.
   */
  readonly keepAliveMs?: number;
  /** Time between the probes of a silent peer, milliseconds; whole seconds are used. Default: {@linkcode keepAliveMs}. */
  readonly keepAliveIntervalMs?: number;
  /** Wanted kernel receive buffer, bytes; the kernel may give less. 0, the default, leaves its own tuning on. */
  readonly receiveBufferBytes?: number;
  /** The same for the send buffer. */
  readonly sendBufferBytes?: number;
  /** Readiness to receive is reported from this many bytes on (`SO_RCVLOWAT`). Default 1. */
  readonly receiveLowWaterBytes?: number;
  /** The kernel sends no faster (`SO_MAX_PACING_RATE`), bytes a second. 0, the default, means no limit. */
  readonly pacingBytesPerSecond?: number;
  /** Unacknowledged bytes older than this many milliseconds end the connection (`TCP_USER_TIMEOUT`). Default 0: never. */
  readonly userTimeoutMs?: number;
  /** Netfilter mark of what is sent (`SO_MARK`). 0, the default, is none; others need privileges. */
  readonly mark?: number;
  /** Send and receive through this network interface only (`SO_BINDTODEVICE`). */
  readonly device?: string;
  /**
   * TCP Fast Open (RFC 7413). A listener takes data that comes with the first segment. A connection sends its first bytes
   * with it where the peer was reached before: it counts as connected at once then, and the peer hears nothing until
   * something is sent. Passed over where the kernel has it off. Only when listening and connecting. Default false.
   */
  readonly fastOpen?: boolean;
  /**
   * Multipath TCP (RFC 8684); TCP where the kernel ({@linkcode StreamTraits.multipath}) or the peer has none. Only when
   * listening and connecting. Default false.
   */
  readonly multipath?: boolean;
}

/** How to listen. */
export interface ListenOptions extends StreamOptions {
  /** Where. Port 0 takes any free one. */
  readonly bind: SocketAddress;
  /** Connections that may wait to be accepted; the system has a bound of its own. Default 1024. */
  readonly backlog?: number;
  /** Let several listeners share the port, the kernel spreading connections over them (`SO_REUSEPORT`). Default false. */
  readonly reusePort?: boolean;
  /** On an IPv6 wildcard: accept IPv4 as mapped addresses too. Default false. */
  readonly dualStack?: boolean;
  /**
   * Accept connections to addresses that are not this host's, which netfilter's TPROXY hands over (`IP_TRANSPARENT`):
   * {@linkcode StreamConnection.local} is where they were going. Needs the `options` trait and privileges.
   */
  readonly transparent?: boolean;
}

/** How to connect. */
export interface ConnectOptions extends StreamOptions {
  /** Whom to. */
  readonly remote: SocketAddress;
  /** From which local address; port 0 takes any free one. Needs the `bind` trait. */
  readonly bind?: SocketAddress;
  /** Other sockets may have that address as well (`SO_REUSEADDR`, `SO_REUSEPORT`). Default false. */
  readonly reuseAddress?: boolean;
  /** Give up after this many milliseconds. Default: when the system gives up, after minutes. */
  readonly timeoutMs?: number;
  /** Give up when aborted. */
  readonly signal?: AbortSignal;
}

/** How to {@linkcode StreamHost.dial}. */
export interface DialOptions extends StreamOptions {
  /** Whom to. */
  readonly remote: SocketAddress;
  /** From which local address; port 0 takes any free one. Needs the `bind` trait. */
  readonly bind?: SocketAddress;
  /** Other sockets may have that address as well (`SO_REUSEADDR`, `SO_REUSEPORT`). Default false. */
  readonly reuseAddress?: boolean;
}

/** Why a connection is gone. */
export interface StreamFailure {
  /** `reset`: the peer, or something on the way, cut it. `timed-out`: it fell silent. `unreachable`: no way there. */
  readonly kind: "reset" | "timed-out" | "unreachable" | "other";
  /** Symbolic error name; empty when the runtime did not tell. */
  readonly errnoName: string;
  /** What was being done: `recvmsg`, `sendmsg`. */
  readonly syscall: string;
}

/** Monotonic counts of one connection: the numbers that explain most performance reports. */
export interface StreamCounters {
  /** System calls, or calls of the runtime, made to receive. */
  readonly receiveCalls: number;
  /** The same to send. */
  readonly sendCalls: number;
  /** Bytes handed over or discarded. */
  readonly bytesReceived: number;
  /** Bytes taken for sending. */
  readonly bytesSent: number;
  /** Times there was nothing to receive or no room to send. */
  readonly wouldBlocks: number;
}

/** What the kernel knows about a connection: `struct tcp_info`, `<linux/tcp.h>`. */
export interface StreamInfo {
  /** Smoothed round trip, milliseconds. */
  readonly roundTripMs: number;
  /** Its variation, milliseconds. */
  readonly roundTripVariationMs: number;
  /** Smallest round trip seen, milliseconds; 0 on kernels that do not tell. */
  readonly minRoundTripMs: number;
  /** Congestion window, segments. */
  readonly congestionWindow: number;
  /** Bytes of payload a sent segment carries at most. */
  readonly sendSegmentBytes: number;
  /** Segments sent again so far. */
  readonly segmentsRetransmitted: number;
  /** Segments sent and not acknowledged. */
  readonly segmentsInFlight: number;
  /** Bytes taken for sending that have not left. */
  readonly unsentBytes: number;
  /** Bytes the peer acknowledged. */
  readonly bytesAcknowledged: number;
  /** Bytes that arrived in order. */
  readonly bytesArrived: number;
  /** Rate at which bytes are being delivered, bytes a second; 0 until it is known. */
  readonly deliveryBytesPerSecond: number;
  /** Rate the kernel sends at most, bytes a second; `Infinity` for no limit. */
  readonly pacingBytesPerSecond: number;
}

/** Bytes that are sent again and again and never change. Made by {@linkcode StreamHost.createConstant}. */
export interface ConstantBuffer {
  /** Bytes after which it begins again. */
  readonly length: number;
  /** Frees it; idempotent. Not while a send of it waits. */
  close(): void;
}

/** Ranges of one buffer that follow one another in a stream; at most {@linkcode MOST_PIECES}. */
export interface StreamPieces {
  /** What they lie in. */
  bytes: Uint8Array<ArrayBuffer>;
  /** Where each begins. */
  readonly starts: Int32Array;
  /** Where each ends, exclusively; none is empty. */
  readonly ends: Int32Array;
  /** The first that counts. */
  first: number;
  /** The first behind the last that counts. */
  count: number;
}

/** Most ranges of {@linkcode StreamPieces} that one call takes. */
export const MOST_PIECES = 64;

/** A TCP connection. `…Now` verbs never wait; what a peer does is never thrown. */
export interface StreamConnection extends AsyncDisposable {
  /** Its address on this side. */
  readonly local: SocketAddress;
  /** Its address on the other side; IPv4 on a dual-stack listener is mapped. */
  readonly remote: SocketAddress;
  /** What it can do. */
  readonly traits: StreamTraits;
  /** Why it is gone; `undefined` while it is not, and when it was closed here. */
  readonly failure: StreamFailure | undefined;
  /** Whether it was closed, or detached, here. */
  readonly closed: boolean;
  /** Kernel buffer sizes in force, bytes, in the unit they are asked for (Linux reports double); 0 where unknown. */
  readonly receiveBufferBytes: number;
  /** The same for the send buffer. */
  readonly sendBufferBytes: number;

  /**
   * Receives what is there now into `[start, end)`.
   *
   * @returns How many bytes; {@linkcode STREAM_END} at the peer's end and after {@linkcode close};
   * {@linkcode WOULD_BLOCK}, also while a {@linkcode receive} waits; {@linkcode STREAM_FAILED}.
   * @throws {RangeError} When `[start, end)` is empty or not inside `bytes`.
   */
  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number;
  /**
   * The same, but waits for at least one byte. The range belongs to the connection until it answers. One receive may
   * wait at a time.
   *
   * @returns As {@linkcode receiveNow}, never {@linkcode WOULD_BLOCK}. Rejects with `signal.reason` when aborted;
   * nothing is lost then.
   * @throws {TypeError} When another receive waits.
   */
  receive(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number>;
  /** Receives at most `maxBytes` without looking at them. @returns As {@linkcode receiveNow}. */
  discardNow(maxBytes: number): number;
  /** The same, but waits for at least one byte. @returns As {@linkcode receive}. */
  discard(maxBytes: number, signal?: AbortSignal): number | Promise<number>;

  /**
   * Sends as much of `[start, end)` as there is room for. The bytes may be overwritten when it returns.
   *
   * @returns How many bytes were taken; {@linkcode WOULD_BLOCK}, also while a {@linkcode send} waits;
   * {@linkcode STREAM_FAILED}, also after {@linkcode close}.
   * @throws {TypeError} After {@linkcode end}. @throws {RangeError} When `[start, end)` is empty or not inside `bytes`.
   */
  sendNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number;
  /**
   * Sends all of `[start, end)`, waiting for room. The range belongs to the connection until it answers. One send may
   * wait at a time.
   *
   * @returns `end − start`, or {@linkcode STREAM_FAILED}. Rejects with `signal.reason` when aborted; how much had left
   * by then is in {@linkcode counters}.
   * @throws {TypeError} When another send waits, or after {@linkcode end}.
   */
  send(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number>;
  /**
   * Sends two parts, the second behind the first, in one piece where there is room: a header and what follows it.
   * Either may be empty, not both. @returns As {@linkcode sendNow}: how many bytes of the two together.
   */
  sendPartsNow(
    first: Uint8Array<ArrayBuffer>,
    firstStart: number,
    firstEnd: number,
    second: Uint8Array<ArrayBuffer>,
    secondStart: number,
    secondEnd: number,
  ): number;
  /**
   * Receives into pieces, filling one after the other, in one system call. With the `vectored` trait only.
   *
   * @returns As {@linkcode receiveNow}. The pieces stay as they are.
   */
  receivePiecesNow?(pieces: StreamPieces): number;
  /** Sends pieces in one system call. With the `vectored` trait only. @returns As {@linkcode sendNow}. */
  sendPiecesNow?(pieces: StreamPieces): number;
  /**
   * Sends `length` bytes of the endless repetition of `constant`, from `position` in it, as far as there is room. To go
   * on, add what it answered to `position`.
   *
   * @returns As {@linkcode sendNow}.
   */
  sendConstantNow(constant: ConstantBuffer, position: number, length: number): number;
  /** The same, but waits until all `length` bytes were taken. @returns As {@linkcode send}. */
  sendConstant(
    constant: ConstantBuffer,
    position: number,
    length: number,
    signal?: AbortSignal,
  ): number | Promise<number>;

  /**
   * Sets who is called back; `undefined` calls nobody.
   *
   * `readable` is called whenever bytes, the end or a failure may be waiting. It must receive until it gets no bytes, or
   * ask for {@linkcode again}. `writable` is called once there is room, or a failure, after a send answered
   * {@linkcode WOULD_BLOCK}. Either may answer `CALM`.
   */
  watch(readable: (() => unknown) | undefined, writable?: (() => unknown) | undefined): void;
  /** From inside a watch callback that stopped early to be fair: call me again next turn. */
  again(): void;
  /**
   * Says that nothing more will be sent; the peer's {@linkcode STREAM_END} comes after what was taken before. Receiving
   * goes on. Idempotent. @throws {TypeError} While a send waits.
   */
  end(): void;
  /** Changes options; those that are absent stay. @throws {SystemError} When the system refuses one. */
  configure(options: StreamOptions): void;
  /** What the kernel knows; `undefined` without the `info` trait and after {@linkcode close}. */
  info(): StreamInfo | undefined;
  /**
   * Where the connection was going before netfilter's REDIRECT brought it here (`SO_ORIGINAL_DST`); `undefined` when it
   * was not redirected, and where that cannot be asked.
   */
  originalDestination(): SocketAddress | undefined;
  /** A frozen copy of the counts. */
  counters(): StreamCounters;
  /**
   * Gives the descriptor away: it stays open and belongs to the caller, who hands the number to {@linkcode
   * StreamHost.adopt} on any thread of this process. The connection here counts as closed. Needs the `detach` trait.
   *
   * @throws {TypeError} Without the trait, when it is closed, or while a receive or a send waits.
   */
  detach(): number;
  /**
   * Closes it. Idempotent. A receive that waits answers {@linkcode STREAM_END}, a send {@linkcode STREAM_FAILED}. What
   * was taken for sending still leaves, unless bytes that arrived were never received: then TCP tells the peer by a
   * reset, which may overtake them. {@linkcode end} and receiving until the peer's end avoid that.
   *
   * @param options `reset`: cut it instead, nothing that waits leaves, with the `reset` trait.
   */
  close(options?: { readonly reset?: boolean }): Promise<void>;
}

/** A listening TCP socket. */
export interface StreamListener extends AsyncDisposable {
  /** Where it is bound; the port is the real one. */
  readonly local: SocketAddress;
  /** Whether it was closed. */
  readonly closed: boolean;
  /** Connections that were closed unseen because the process had no descriptors, or no room, for them. */
  readonly refused: number;
  /** Takes a connection that is waiting; `undefined` when none is, or while an {@linkcode accept} waits. */
  acceptNow(): StreamConnection | undefined;
  /**
   * The same, but waits for one. `undefined` means closed. Rejects with `signal.reason` when aborted.
   *
   * @throws {TypeError} When another accept waits.
   */
  accept(signal?: AbortSignal): StreamConnection | Promise<StreamConnection | undefined>;
  /** Calls `ready` whenever connections may be waiting; see {@linkcode StreamConnection.watch}. */
  watch(ready: (() => void) | undefined): void;
  /** From inside a watch callback that stopped early to be fair: call me again next turn. */
  again(): void;
  /** Idempotent. An accept that waits answers `undefined`. What was accepted stays open. */
  close(): Promise<void>;
}

/** A place where streams live: one driver, one way of waiting. */
export interface StreamHost extends AsyncDisposable {
  /** What its connections can do. */
  readonly traits: StreamTraits;
  /** Why a better driver was not taken, one sentence; empty when this is the best. */
  readonly fallbackReason: string;
  /** Listens. The kernel's driver answers at once. @throws {SystemError} */
  listen(options: ListenOptions): StreamListener | Promise<StreamListener>;
  /**
   * Connects.
   *
   * @throws {SystemError} When it is refused. @throws {DeadlineError} `ffi.connect-timeout` after `timeoutMs`.
   * @throws {CapabilityError} `ffi.no-bind` for `bind` without the trait.
   */
  connect(options: ConnectOptions): Promise<StreamConnection>;
  /**
   * Connects without a promise, for a thread that blocks in {@linkcode turn}, where none would settle. `done` is called
   * once with the connection or with why there is none, possibly before this returns; never after the host was closed.
   *
   * @returns Gives up: idempotent, and `done` is not called any more. Limits of time are the caller's.
   * @throws {TypeError} @throws {RangeError} For an address or option that is none.
   */
  dial(options: DialOptions, done: (outcome: StreamConnection | SystemError) => void): () => void;
  /**
   * Makes a connection of a descriptor that {@linkcode StreamConnection.detach} gave away; it belongs to the connection
   * from here on. Needs the `detach` trait.
   *
   * @throws {TypeError} Without the trait. @throws {SystemError} When it is no TCP socket; it stays the caller's then.
   */
  adopt(descriptor: number): StreamConnection;
  /**
   * Keeps bytes that will be sent again and again, for the connections of this host.
   *
   * @param bytes Copied. Any length from 1.
   * @param options `sendfile`: keep them in the page cache and send from there, with the trait. Default false: out of
   * memory that stays in the processor's cache.
   */
  createConstant(bytes: Uint8Array, options?: { readonly sendfile?: boolean }): ConstantBuffer;
  /**
   * Only with `wait: "thread"`: sleeps in the kernel until something watched is ready, the descriptor below was written
   * to, or `maxWaitMs` have passed, then runs the callbacks that are due. Blocks the thread; promises and timers go on
   * when the thread lets its event loop run.
   *
   * @returns How many callbacks ran.
   */
  turn(maxWaitMs: number): number;
  /**
   * Only with `wait: "thread"`: an eventfd; eight bytes holding 1 written to it, from any thread of the process, end the
   * current {@linkcode turn}.
   */
  readonly wakeDescriptor: number;
  /** Closes every listener and connection that is still open. */
  close(): Promise<void>;
}

/** How to open a host. */
export interface StreamHostOptions {
  /** Default `auto`. */
  readonly driver?: Driver;
  /** Which portable driver. Default `auto`: `deno` where it runs on Deno, else `node`. */
  readonly portable?: "auto" | "deno" | "node";
  /**
   * `events` (default): readiness arrives through the runtime's event loop, the thread never blocks.
   * `thread`: the caller's loop owns its thread and blocks in {@linkcode StreamHost.turn}; kernel driver only.
   */
  readonly wait?: "events" | "thread";
  /** Which readiness bridge `events` uses on Linux. Default `auto`: io_uring where it works, else the poll worker. */
  readonly reactor?: ReactorChoice;
}

/**
 * Opens the place where streams live, choosing the driver once.
 *
 * With `auto` a driver that cannot be used here is passed over quietly and {@linkcode StreamHost.fallbackReason} says
 * why. Never asks for a permission.
 *
 * @throws {CapabilityError} `ffi.driver-unavailable` when the driver, or the way of waiting, that was demanded cannot
 * be had.
 *
 * @example
 * ```ts
 * import { openStreamHost } from "@fastwire/net/ffi";
 * import { equal } from "node:assert/strict";
 *
 * await using host = await openStreamHost();
 * const bind = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;
 * const listener = await host.listen({ bind });
 * const client = await host.connect({ remote: listener.local });
 * const server = await listener.accept();
 * await client.send(new Uint8Array([1, 2, 3]), 0, 3);
 * equal(await server!.receive(new Uint8Array(64), 0, 64), 3);
 * ```
 */
export async function openStreamHost(options: StreamHostOptions = {}): Promise<StreamHost> {
  const driver = options.driver ?? "auto";
  const wait = options.wait ?? "events";
  const choice = resolveDriver(driver, ["ffi", "epoll", "eventfd"]);
  let reason = choice.reason;
  if (choice.use === "fast") {
    const { openLinuxHost } = await import("./stream_linux.ts");
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
      `Cannot wait for streams on a thread of one's own: ${reason}`,
      {
        capability: "stream-thread",
        why: reason,
        remedy: 'run with --allow-ffi on Linux, or use wait: "events"',
      },
    );
  }
  const onDeno = typeof Deno !== "undefined" && typeof Deno.listen === "function";
  if (options.portable === "node" || (options.portable !== "deno" && !onDeno)) {
    const { openNodeHost } = await import("./stream_node.ts");
    return openNodeHost(reason);
  }
  if (!onDeno) {
    const why = "this runtime is not Deno";
    throw new CapabilityError(
      "ffi.driver-unavailable",
      `Cannot use Deno's streams: ${why}`,
      { capability: "stream-deno", why, remedy: 'use portable: "auto"' },
    );
  }
  const { openDenoHost } = await import("./stream_deno.ts");
  return openDenoHost(reason);
}

/**
 * The exception for a failed connection, for layers that throw.
 *
 * @param failure What {@linkcode StreamConnection.failure} says.
 * @param what What could not be done; stands between "Cannot" and the colon.
 */
export function streamError(failure: StreamFailure | undefined, what: string): SystemError {
  if (failure === undefined) {
    return new SystemError("system.closed", `Cannot ${what}: the connection was closed here`, {
      syscall: "close",
      errno: 0,
      errnoName: "",
    });
  }
  const { kind, errnoName, syscall } = failure;
  const named = errnoName === "" ? "" : ` (${errnoName})`;
  return new SystemError(CODES[kind], `Cannot ${what}: ${TEXTS[kind]}${named}`, {
    syscall,
    errno: 0,
    errnoName,
  });
}

const CODES = {
  "reset": "system.connection-reset",
  "timed-out": "system.timed-out",
  "unreachable": "system.host-unreachable",
  "other": "system.other",
} as const;

const TEXTS = {
  "reset": "the peer reset the connection",
  "timed-out": "the peer fell silent",
  "unreachable": "there is no way to the peer any more",
  "other": "the connection broke",
} as const;
