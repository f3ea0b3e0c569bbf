/**
 * Socket options by name.
 *
 * @module
 */
import {
  IP_FREEBIND,
  IP_MTU,
  IP_MTU_DISCOVER,
  IP_PKTINFO,
  IP_RECVERR,
  IP_RECVORIGDSTADDR,
  IP_TOS,
  IP_TRANSPARENT,
  IP_TTL,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPPROTO_TCP,
  IPV6_MTU,
  IPV6_MTU_DISCOVER,
  IPV6_RECVERR,
  IPV6_RECVORIGDSTADDR,
  IPV6_RECVPKTINFO,
  IPV6_TCLASS,
  IPV6_TRANSPARENT,
  IPV6_UNICAST_HOPS,
  IPV6_V6ONLY,
  SO_BROADCAST,
  SO_BUSY_POLL,
  SO_DOMAIN,
  SO_ERROR,
  SO_KEEPALIVE,
  SO_MARK,
  SO_PRIORITY,
  SO_PROTOCOL,
  SO_RCVBUF,
  SO_RCVBUFFORCE,
  SO_RCVLOWAT,
  SO_REUSEADDR,
  SO_REUSEPORT,
  SO_RXQ_OVFL,
  SO_SNDBUF,
  SO_SNDBUFFORCE,
  SO_TYPE,
  SO_ZEROCOPY,
  SOL_SOCKET,
  SOL_UDP,
  TCP_FASTOPEN,
  TCP_FASTOPEN_CONNECT,
  TCP_KEEPCNT,
  TCP_KEEPIDLE,
  TCP_KEEPINTVL,
  TCP_NODELAY,
  TCP_USER_TIMEOUT,
  UDP_GRO,
  UDP_SEGMENT,
} from "./constants_linux.ts";
import { systemError } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";

/** Options whose value is one `int`. */
export type SocketOption =
  | "broadcast"
  | "busyPoll"
  | "coalesce"
  | "domain"
  | "dropCounter"
  | "error"
  | "errorQueue4"
  | "errorQueue6"
  | "fastOpenConnect"
  | "fastOpenQueue"
  | "freeBind"
  | "hopLimit4"
  | "hopLimit6"
  | "keepAlive"
  | "keepAliveCount"
  | "keepAliveIdleSeconds"
  | "keepAliveIntervalSeconds"
  | "mark"
  | "mtu4"
  | "mtu6"
  | "mtuDiscover4"
  | "mtuDiscover6"
  | "noDelay"
  | "only6"
  | "originalDestination4"
  | "originalDestination6"
  | "packetInfo4"
  | "packetInfo6"
  | "priority"
  | "protocol"
  | "receiveBuffer"
  | "receiveBufferForce"
  | "receiveLowWater"
  | "reuseAddress"
  | "reusePort"
  | "segmentBytes"
  | "sendBuffer"
  | "sendBufferForce"
  | "trafficClass4"
  | "trafficClass6"
  | "transparent4"
  | "transparent6"
  | "type"
  | "userTimeoutMs"
  | "zeroCopy";

/** The options of one socket. Holds no descriptor: the socket belongs to whoever opened it. */
export class SocketOptions {
  readonly #library: Libc;
  readonly #fd: number;

  /** @param fd An open socket. */
  constructor(library: Libc, fd: number) {
    this.#library = library;
    this.#fd = fd;
  }

  /** Sets an option. @returns 0, or the error number of the refusal. */
  trySet(option: SocketOption, value: number | boolean): number {
    const [level, name] = OPTIONS[option];
    scratch[0] = Number(value);
    const result = this.#library.setsockopt(this.#fd, level, name, scratch, 4);
    return result < 0 ? this.#library.errno() : 0;
  }

  /** Sets an option. @throws {SystemError} When the kernel refuses. */
  set(option: SocketOption, value: number | boolean): void {
    const errno = this.trySet(option, value);
    if (errno !== 0) {
      throw systemError("setsockopt", errno, `set socket option "${option}" to ${value}`);
    }
  }

  /** What is in force. @throws {SystemError} When the kernel does not tell. */
  get(option: SocketOption): number {
    const [level, name] = OPTIONS[option];
    scratchBytes[0] = 4;
    const result = this.#library.getsockopt(this.#fd, level, name, scratch, scratchBytes);
    if (result < 0) {
      throw systemError("getsockopt", this.#library.errno(), `read socket option "${option}"`);
    }
    return scratch[0]!;
  }

  /**
   * Makes the receive buffer at least as large as wanted, past the system's bound where this process may.
   *
   * @param bytes 0 leaves it as it is.
   * @returns What is in force. The kernel counts its own bookkeeping in and therefore doubles what it is asked for.
   */
  receiveBuffer(bytes: number): number {
    return this.#buffer("receiveBuffer", "receiveBufferForce", bytes);
  }

  /** The same for the send buffer; see {@linkcode SocketOptions.receiveBuffer}. */
  sendBuffer(bytes: number): number {
    return this.#buffer("sendBuffer", "sendBufferForce", bytes);
  }

  #buffer(
    option: "receiveBuffer" | "sendBuffer",
    force: "receiveBufferForce" | "sendBufferForce",
    bytes: number,
  ): number {
    // The forced form needs CAP_NET_ADMIN; the other one silently gives what net.core.{r,w}mem_max allows.
    if (bytes > 0 && this.trySet(force, bytes) !== 0) this.set(option, bytes);
    return this.get(option);
  }
}

// Calls are over when they return: memory of its own for each would cost a new socket more than the calls do.
const scratch = new Int32Array(new ArrayBuffer(4));
const scratchBytes = new Uint32Array(new ArrayBuffer(4));

const OPTIONS: Readonly<Record<SocketOption, readonly [level: number, name: number]>> = {
  broadcast: [SOL_SOCKET, SO_BROADCAST],
  busyPoll: [SOL_SOCKET, SO_BUSY_POLL],
  coalesce: [SOL_UDP, UDP_GRO],
  domain: [SOL_SOCKET, SO_DOMAIN],
  dropCounter: [SOL_SOCKET, SO_RXQ_OVFL],
  error: [SOL_SOCKET, SO_ERROR],
  errorQueue4: [IPPROTO_IP, IP_RECVERR],
  errorQueue6: [IPPROTO_IPV6, IPV6_RECVERR],
  fastOpenConnect: [IPPROTO_TCP, TCP_FASTOPEN_CONNECT],
  fastOpenQueue: [IPPROTO_TCP, TCP_FASTOPEN],
  freeBind: [IPPROTO_IP, IP_FREEBIND],
  hopLimit4: [IPPROTO_IP, IP_TTL],
  hopLimit6: [IPPROTO_IPV6, IPV6_UNICAST_HOPS],
  keepAlive: [SOL_SOCKET, SO_KEEPALIVE],
  keepAliveCount: [IPPROTO_TCP, TCP_KEEPCNT],
  keepAliveIdleSeconds: [IPPROTO_TCP, TCP_KEEPIDLE],
  keepAliveIntervalSeconds: [IPPROTO_TCP, TCP_KEEPINTVL],
  mark: [SOL_SOCKET, SO_MARK],
  mtu4: [IPPROTO_IP, IP_MTU],
  mtu6: [IPPROTO_IPV6, IPV6_MTU],
  mtuDiscover4: [IPPROTO_IP, IP_MTU_DISCOVER],
  mtuDiscover6: [IPPROTO_IPV6, IPV6_MTU_DISCOVER],
  noDelay: [IPPROTO_TCP, TCP_NODELAY],
  only6: [IPPROTO_IPV6, IPV6_V6ONLY],
  originalDestination4: [IPPROTO_IP, IP_RECVORIGDSTADDR],
  originalDestination6: [IPPROTO_IPV6, IPV6_RECVORIGDSTADDR],
  packetInfo4: [IPPROTO_IP, IP_PKTINFO],
  packetInfo6: [IPPROTO_IPV6, IPV6_RECVPKTINFO],
  priority: [SOL_SOCKET, SO_PRIORITY],
  protocol: [SOL_SOCKET, SO_PROTOCOL],
  receiveBuffer: [SOL_SOCKET, SO_RCVBUF],
  receiveBufferForce: [SOL_SOCKET, SO_RCVBUFFORCE],
  receiveLowWater: [SOL_SOCKET, SO_RCVLOWAT],
  reuseAddress: [SOL_SOCKET, SO_REUSEADDR],
  reusePort: [SOL_SOCKET, SO_REUSEPORT],
  segmentBytes: [SOL_UDP, UDP_SEGMENT],
  sendBuffer: [SOL_SOCKET, SO_SNDBUF],
  sendBufferForce: [SOL_SOCKET, SO_SNDBUFFORCE],
  trafficClass4: [IPPROTO_IP, IP_TOS],
  trafficClass6: [IPPROTO_IPV6, IPV6_TCLASS],
  transparent4: [IPPROTO_IP, IP_TRANSPARENT],
  transparent6: [IPPROTO_IPV6, IPV6_TRANSPARENT],
  type: [SOL_SOCKET, SO_TYPE],
  userTimeoutMs: [IPPROTO_TCP, TCP_USER_TIMEOUT],
  zeroCopy: [SOL_SOCKET, SO_ZEROCOPY],
};
