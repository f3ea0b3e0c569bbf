/**
 * Options and statistics of TCP sockets.
 *
 * @module
 */
import { ADDRESS_BYTES, AF_INET, AF_INET6, readAddress, type SocketAddress } from "./address.ts";
import {
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_MPTCP,
  IPPROTO_TCP,
  SO_BINDTODEVICE,
  SO_LINGER,
  SO_MARK,
  SO_MAX_PACING_RATE,
  SOCK_CLOEXEC,
  SOCK_NONBLOCK,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_INFO,
} from "./constants_linux.ts";
import { EPERM, systemError } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import { CapabilityError } from "../internal/errors.ts";
import { SocketOptions } from "./sockopt_linux.ts";
import type { DialOptions, StreamInfo, StreamOptions } from "./stream.ts";
import { LINGER, TCP_INFO_STRUCT } from "./structs_linux.ts";

/** What {@linkcode StreamOptions} leaves open for a new socket. A listener's options are copied to what it accepts. */
export const NEW_SOCKET: StreamOptions = { noDelay: true };

/**
 * Sets the options that are there; absent ones stay.
 *
 * @throws {RangeError} For a number that is none or is below 0. @throws {SystemError} When the kernel refuses one.
 */
export function configureSocket(library: Libc, fd: number, options: StreamOptions): void {
  for (const name of NUMBERS) {
    const value = options[name];
    if (value !== undefined && !(value >= 0)) {
      throw new RangeError(`Cannot set ${name} to ${value}: expected a number from 0`);
    }
  }
  const socket = new SocketOptions(library, fd);
  if (options.noDelay !== undefined) socket.set("noDelay", options.noDelay);
  const { keepAliveMs, keepAliveIntervalMs = keepAliveMs, pacingBytesPerSecond } = options;
  if (keepAliveMs !== undefined) {
    socket.set("keepAlive", keepAliveMs > 0);
    if (keepAliveMs > 0) socket.set("keepAliveIdleSeconds", wholeSeconds(keepAliveMs));
  }
  if (keepAliveIntervalMs !== undefined && keepAliveIntervalMs > 0) {
    socket.set("keepAliveIntervalSeconds", wholeSeconds(keepAliveIntervalMs));
  }
  if (options.receiveBufferBytes) socket.receiveBuffer(options.receiveBufferBytes);
  if (options.sendBufferBytes) socket.sendBuffer(options.sendBufferBytes);
  if (options.receiveLowWaterBytes !== undefined) {
    socket.set("receiveLowWater", Math.max(1, options.receiveLowWaterBytes));
  }
  if (options.userTimeoutMs !== undefined) socket.set("userTimeoutMs", options.userTimeoutMs);
  if (options.mark !== undefined) setMark(library, fd, options.mark);
  if (options.device !== undefined) bindDevice(library, fd, options.device);
  if (pacingBytesPerSecond !== undefined) setPacing(library, fd, pacingBytesPerSecond);
}

/** Kernel buffer sizes in force, in the unit they are asked for: the kernel keeps and reports the double (socket(7)). */
export function bufferBytes(
  library: Libc,
  fd: number,
  which: "receiveBuffer" | "sendBuffer",
): number {
  return new SocketOptions(library, fd).get(which) / 2;
}

/** Makes closing cut the connection: `SO_LINGER` of 0 seconds. */
export function armReset(library: Libc, fd: number): void {
  const linger = new DataView(new ArrayBuffer(LINGER.size));
  linger.setInt32(LINGER.onoff, 1, true);
  library.setsockopt(fd, SOL_SOCKET, SO_LINGER, linger, LINGER.size);
}

/**
 * Makes a socket that waits for nothing.
 *
 * @param multipath Multipath TCP, where the kernel has it.
 * @throws {SystemError} When there are no descriptors left.
 */
export function openStreamSocket(
  library: Libc,
  family: "ipv4" | "ipv6",
  multipath: boolean,
): number {
  const domain = family === "ipv6" ? AF_INET6 : AF_INET;
  const type = SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC;
  if (multipath) {
    const fd = library.socket(domain, type, IPPROTO_MPTCP);
    if (fd >= 0) return fd;
  }
  return library.socket(domain, type, 0);
}

/** Whether the kernel has Multipath TCP, and has it on. Found out by doing. */
export function hasMultipath(library: Libc): boolean {
  const fd = library.socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP);
  if (fd < 0) return false;
  library.close(fd);
  return true;
}

/** Sets what only a socket that has not connected yet can be told. */
export function prepareConnect(
  library: Libc,
  fd: number,
  { fastOpen, reuseAddress }: Pick<DialOptions, "fastOpen" | "reuseAddress">,
): void {
  const socket = new SocketOptions(library, fd);
  if (reuseAddress === true) {
    socket.set("reuseAddress", true);
    socket.set("reusePort", true);
  }
  // Refused by kernels that have it off (net.ipv4.tcp_fastopen) and by Multipath TCP: it connects as ever then.
  if (fastOpen === true) socket.trySet("fastOpenConnect", true);
}

/** Lets a listener take data that comes with the first segment; see {@linkcode prepareConnect} for refusals. */
export function offerFastOpen(library: Libc, fd: number): void {
  new SocketOptions(library, fd).trySet("fastOpenQueue", FAST_OPEN_QUEUE);
}

/**
 * Lets a socket have addresses that are not this host's: take what TPROXY hands over, and send in the name of others.
 *
 * @param what Stands between "Cannot" and the colon.
 * @throws {CapabilityError} `ffi.no-transparent` without the privilege. @throws {SystemError} When the kernel refuses.
 */
export function allowTransparent(library: Libc, fd: number, ipv6: boolean, what: string): void {
  const socket = new SocketOptions(library, fd);
  // A socket of both families has both; what the first of them was told holds for the second.
  const errno = socket.trySet("transparent4", true) ||
    (ipv6 ? socket.trySet("transparent6", true) : 0);
  if (errno === 0) return;
  if (errno !== EPERM) throw systemError("setsockopt", errno, what);
  const why = "IP_TRANSPARENT needs CAP_NET_ADMIN or CAP_NET_RAW, which this process does not have";
  throw new CapabilityError("ffi.no-transparent", `Cannot ${what}: ${why}`, {
    capability: "transparent",
    why,
    remedy: "run as root, or give the process CAP_NET_ADMIN",
  });
}

/**
 * Marks what a socket sends.
 *
 * @param mark 0 leaves it.
 * @throws {CapabilityError} `ffi.no-mark` without the privilege. @throws {SystemError} When the kernel refuses.
 */
export function setMark(library: Libc, fd: number, mark: number): void {
  if (mark === 0) return;
  const what = `mark a socket with ${mark}`;
  const buffer = new Uint32Array([mark]);
  if (library.setsockopt(fd, SOL_SOCKET, SO_MARK, buffer, 4) === 0) return;
  const errno = library.errno();
  if (errno !== EPERM) throw systemError("setsockopt", errno, what);
  const why = "SO_MARK needs CAP_NET_ADMIN or CAP_NET_RAW, which this process does not have";
  throw new CapabilityError("ffi.no-mark", `Cannot ${what}: ${why}`, {
    capability: "mark",
    why,
    remedy: "run as root, or give the process CAP_NET_ADMIN",
  });
}

/** Where a redirected connection was going; `undefined` when it was not redirected. */
export function readOriginalDestination(
  library: Libc,
  fd: number,
  family: "ipv4" | "ipv6",
): SocketAddress | undefined {
  const view = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  const length = new Uint32Array([ADDRESS_BYTES]);
  // An IPv6 socket that took an IPv4 connection is asked as an IPv4 one.
  for (const level of family === "ipv6" ? [IPPROTO_IPV6, IPPROTO_IP] : [IPPROTO_IP]) {
    length[0] = ADDRESS_BYTES;
    if (library.getsockopt(fd, level, SO_ORIGINAL_DST, view, length) === 0) {
      return readAddress(view, 0);
    }
  }
  return undefined;
}

/**
 * Binds a socket to a network interface.
 *
 * @throws {SystemError} When there is none of that name, or the kernel refuses.
 */
export function bindDevice(library: Libc, fd: number, device: string): void {
  const name = new TextEncoder().encode(device);
  if (library.setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, name, name.length) < 0) {
    throw systemError("setsockopt", library.errno(), `use network interface "${device}"`);
  }
}

/** What the kernel knows about a connection; `undefined` where it does not tell. */
export function readInfo(library: Libc, fd: number): StreamInfo | undefined {
  const view = new DataView(new ArrayBuffer(TCP_INFO_STRUCT.size));
  // Members an older kernel does not fill stay 0.
  const length = new Uint32Array([TCP_INFO_STRUCT.size]);
  if (library.getsockopt(fd, IPPROTO_TCP, TCP_INFO, view, length) < 0) return undefined;
  const small = (at: number): number => view.getUint32(at, true);
  const large = (at: number): number => Number(view.getBigUint64(at, true));
  const pacing = view.getBigUint64(TCP_INFO_STRUCT.max_pacing_rate, true);
  const minRoundTrip = small(TCP_INFO_STRUCT.min_rtt);
  return Object.freeze({
    roundTripMs: small(TCP_INFO_STRUCT.rtt) / 1000,
    roundTripVariationMs: small(TCP_INFO_STRUCT.rttvar) / 1000,
    // ~0 until the first sample.
    minRoundTripMs: minRoundTrip === 0xffff_ffff ? 0 : minRoundTrip / 1000,
    congestionWindow: small(TCP_INFO_STRUCT.snd_cwnd),
    sendSegmentBytes: small(TCP_INFO_STRUCT.snd_mss),
    segmentsRetransmitted: small(TCP_INFO_STRUCT.total_retrans),
    segmentsInFlight: small(TCP_INFO_STRUCT.unacked),
    unsentBytes: small(TCP_INFO_STRUCT.notsent_bytes),
    bytesAcknowledged: large(TCP_INFO_STRUCT.bytes_acked),
    bytesArrived: large(TCP_INFO_STRUCT.bytes_received),
    deliveryBytesPerSecond: large(TCP_INFO_STRUCT.delivery_rate),
    pacingBytesPerSecond: pacing === NO_LIMIT ? Infinity : Number(pacing),
  });
}

function setPacing(library: Libc, fd: number, bytesPerSecond: number): void {
  // 64 bits since Linux 4.20 (`sk_max_pacing_rate`); TCP paces by itself where the qdisc does not.
  const value = new BigUint64Array([
    bytesPerSecond === 0 || bytesPerSecond === Infinity
      ? NO_LIMIT
      : BigInt(Math.ceil(bytesPerSecond)),
  ]);
  if (library.setsockopt(fd, SOL_SOCKET, SO_MAX_PACING_RATE, value, 8) < 0) {
    throw systemError(
      "setsockopt",
      library.errno(),
      `limit sending to ${bytesPerSecond} bytes/s`,
    );
  }
}

function wholeSeconds(milliseconds: number): number {
  return Math.max(1, Math.round(milliseconds / 1000));
}

const NO_LIMIT = 0xffff_ffff_ffff_ffffn;

const NUMBERS = [
  "keepAliveMs",
  "keepAliveIntervalMs",
  "receiveBufferBytes",
  "sendBufferBytes",
  "receiveLowWaterBytes",
  "pacingBytesPerSecond",
  "userTimeoutMs",
  "mark",
] as const;
/** Connections that may have sent data without having proved their address (RFC 7413 §5.1). */
const FAST_OPEN_QUEUE = 256;
/** `<linux/netfilter_ipv4.h>`; the same number for IPv6. */
const SO_ORIGINAL_DST = 80;
