/**
 * Options and statistics of TCP sockets.
 *
 * @module
 */
import { ADDRESS_BYTES, readAddress, type SocketAddress } from "./address.ts";
import {
  IP_TRANSPARENT,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  SO_BINDTODEVICE,
  SO_LINGER,
  SO_MARK,
  SO_MAX_PACING_RATE,
  SOL_SOCKET,
  TCP_INFO,
} from "./constants_linux.ts";
import { systemError } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import { SocketOptions } from "./sockopt_linux.ts";
import type { StreamInfo, StreamOptions } from "./stream.ts";
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
  const { keepAliveMs, pacingBytesPerSecond } = options;
  if (keepAliveMs !== undefined) {
    socket.set("keepAlive", keepAliveMs > 0);
    if (keepAliveMs > 0) {
      const seconds = Math.max(1, Math.round(keepAliveMs / 1000));
      socket.set("keepAliveIdleSeconds", seconds);
      socket.set("keepAliveIntervalSeconds", seconds);
    }
  }
  if (options.receiveBufferBytes) socket.receiveBuffer(options.receiveBufferBytes);
  if (options.sendBufferBytes) socket.sendBuffer(options.sendBufferBytes);
  if (options.receiveLowWaterBytes !== undefined) {
    socket.set("receiveLowWater", Math.max(1, options.receiveLowWaterBytes));
  }
  if (options.userTimeoutMs !== undefined) socket.set("userTimeoutMs", options.userTimeoutMs);
  if (options.mark !== undefined && options.mark > 0) {
    setNumber(library, fd, SOL_SOCKET, SO_MARK, options.mark, `mark a socket with ${options.mark}`);
  }
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

/** Lets a listener accept what TPROXY hands over. @throws {SystemError} Without the privilege. */
export function allowTransparent(library: Libc, fd: number, ipv6: boolean): void {
  const what = "accept connections to other hosts";
  setNumber(library, fd, IPPROTO_IP, IP_TRANSPARENT, 1, what);
  if (ipv6) setNumber(library, fd, IPPROTO_IPV6, IPV6_TRANSPARENT, 1, what);
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

function setNumber(
  library: Libc,
  fd: number,
  level: number,
  name: number,
  value: number,
  what: string,
): void {
  const buffer = new Uint32Array([value]);
  if (library.setsockopt(fd, level, name, buffer, 4) < 0) {
    throw systemError("setsockopt", library.errno(), what);
  }
}

function bindDevice(library: Libc, fd: number, device: string): void {
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

const NO_LIMIT = 0xffff_ffff_ffff_ffffn;

const NUMBERS = [
  "keepAliveMs",
  "receiveBufferBytes",
  "sendBufferBytes",
  "receiveLowWaterBytes",
  "pacingBytesPerSecond",
  "userTimeoutMs",
  "mark",
] as const;
/** `<linux/in6.h>`. */
const IPV6_TRANSPARENT = 75;
/** `<linux/netfilter_ipv4.h>`; the same number for IPv6. */
const SO_ORIGINAL_DST = 80;
