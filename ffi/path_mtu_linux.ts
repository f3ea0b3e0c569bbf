/**
 * The largest packet a path takes, as the kernel knows it now (`IP_MTU`, ip(7); `IPV6_MTU`, ipv6(7)).
 *
 * @module
 */
import { addressLength, AF_INET6 } from "./address.ts";
import {
  AF_INET,
  IP_MTU,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_MTU,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
} from "./constants_linux.ts";
import type { Libc } from "./libc_linux.ts";

/**
 * Asks the kernel. Costs four system calls and sends nothing: connecting a datagram socket only looks up the route.
 *
 * @param view Holds the peer's address at `start`, format of `address.ts`.
 * @returns Bytes of the largest IP packet, or `undefined` without a route.
 */
export function readPathMtu(library: Libc, view: DataView, start: number): number | undefined {
  const ipv6 = view.getUint16(start, true) === AF_INET6;
  const fd = library.socket(ipv6 ? AF_INET6 : AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return undefined;
  try {
    const length = addressLength(view, start);
    const name = new Uint8Array(length);
    for (let i = 0; i < length; i++) name[i] = view.getUint8(start + i);
    // A port is needed to connect; which one does not matter to the route.
    if (name[2] === 0 && name[3] === 0) name[3] = 9;
    if (library.connect(fd, name, length) < 0) return undefined;
    const value = new Int32Array(1);
    const size = new Uint32Array([4]);
    const [level, option] = ipv6 ? [IPPROTO_IPV6, IPV6_MTU] : [IPPROTO_IP, IP_MTU];
    if (library.getsockopt(fd, level, option, value, size) < 0) return undefined;
    return value[0]! > 0 ? value[0]! : undefined;
  } finally {
    library.close(fd);
  }
}
