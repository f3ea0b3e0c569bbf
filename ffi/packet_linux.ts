/**
 * Packets below IP through AF_PACKET sockets (packet(7)).
 *
 * @module
 */
import {
  AF_PACKET,
  MSG_DONTWAIT,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from "./constants_linux.ts";
import { EINTR, systemError } from "./errno.ts";
import { OwnedFd } from "./fd_linux.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";
import { inNamespace } from "./netlink_linux.ts";
import type { PacketSender, PacketSenderOptions } from "./packet.ts";
import { SOCKADDR_LL } from "./structs_linux.ts";

/** Opens a sender. @throws {SystemError} @throws {CapabilityError} Without a C library. */
export function openLinuxPacketSender(options: PacketSenderOptions): PacketSender {
  const library = requireLibc();
  const make = (): number => {
    // SOCK_DGRAM: the kernel writes the link-layer header. Protocol 0: nothing is received.
    const fd = library.socket(AF_PACKET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) throw systemError("socket", library.errno(), "open a packet socket");
    return fd;
  };
  const { namespace } = options;
  const fd = namespace === undefined ? make() : inNamespace(library, namespace, make);
  return new LinuxPacketSender(library, new OwnedFd(fd, library));
}

class LinuxPacketSender implements PacketSender {
  refused = 0;
  lastErrno = 0;
  readonly #library: Libc;
  readonly #fd: OwnedFd;
  /** `struct sockaddr_ll`; the kernel copies it within each call. */
  readonly #address = new Uint8Array(new ArrayBuffer(SOCKADDR_LL.size));
  readonly #fields = new DataView(this.#address.buffer);

  constructor(library: Libc, fd: OwnedFd) {
    this.#library = library;
    this.#fd = fd;
    this.#fields.setUint16(SOCKADDR_LL.family, AF_PACKET, true);
  }

  send(
    bytes: Uint8Array<ArrayBuffer>,
    ifindex: number,
    etherType: number,
    destination: Uint8Array,
  ): boolean {
    const { fd } = this.#fd;
    const { length } = destination;
    if (length < 6 || length > 8) {
      throw new RangeError(`Cannot send to an address of ${length} bytes: expected 6 to 8`);
    }
    this.#fields.setUint16(SOCKADDR_LL.protocol, etherType, false);
    this.#fields.setInt32(SOCKADDR_LL.ifindex, ifindex, true);
    this.#fields.setUint8(SOCKADDR_LL.halen, length);
    this.#address.set(destination, SOCKADDR_LL.addr);
    const { sendto, errno } = this.#library;
    const size = BigInt(bytes.length);
    for (;;) {
      if (sendto(fd, bytes, size, MSG_DONTWAIT, this.#address, SOCKADDR_LL.size) >= 0) return true;
      this.lastErrno = errno();
      if (this.lastErrno === EINTR) continue;
      this.refused++;
      return false;
    }
  }

  close(): void {
    this.#fd.close();
  }
}
