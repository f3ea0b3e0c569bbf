/**
 * Options of UDP sockets that are set once, before they are bound.
 *
 * @module
 */
import { ADDRESS_BYTES, formatAddress, type SocketAddress, writeAddress } from "./address.ts";
import { IP_PMTUDISC_DO, IP_PMTUDISC_DONT } from "./constants_linux.ts";
import type { DatagramOptions } from "./datagram.ts";
import { systemError } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import { SocketOptions } from "./sockopt_linux.ts";
import { allowTransparent, bindDevice, setMark } from "./stream_options_linux.ts";

/**
 * Sets what was asked for.
 *
 * @param families Which addresses the socket has; one of IPv6 may have both.
 * @throws {CapabilityError} Without a privilege. @throws {SystemError} When the kernel refuses.
 */
export function configureDatagrams(
  library: Libc,
  fd: number,
  options: DatagramOptions,
  families: { readonly ipv4: boolean; readonly ipv6: boolean },
): void {
  const socket = new SocketOptions(library, fd);
  if (options.reuseAddress === true) {
    socket.set("reuseAddress", true);
    socket.set("reusePort", true);
  }
  if (options.mark !== undefined) setMark(library, fd, options.mark);
  if (options.device !== undefined) bindDevice(library, fd, options.device);
  if (options.fragment !== undefined) {
    const discover = options.fragment ? IP_PMTUDISC_DONT : IP_PMTUDISC_DO;
    if (families.ipv4) socket.set("mtuDiscover4", discover);
    if (families.ipv6) socket.set("mtuDiscover6", discover);
  }
  if (options.transparent === true) {
    allowTransparent(
      library,
      fd,
      families.ipv6,
      `take datagrams at ${formatAddress(options.bind)}`,
    );
    if (families.ipv4) socket.set("originalDestination4", true);
    if (families.ipv6) socket.set("originalDestination6", true);
  }
}

/** Lets a bound socket receive from one address only. @throws {SystemError} When there is no way there. */
export function connectDatagrams(library: Libc, fd: number, remote: SocketAddress): void {
  const sockaddr = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  if (library.connect(fd, sockaddr, writeAddress(sockaddr, 0, remote)) < 0) {
    throw systemError("connect", library.errno(), `connect to ${formatAddress(remote)}`);
  }
}
