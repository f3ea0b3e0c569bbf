/**
 * What `recvmmsg` fills for a netlink socket: slots for datagrams, one header and one sender address for each, every
 * pointer written once.
 *
 * @module
 */
import { Slab } from "../internal/bytes/slab.ts";
import type { Libc } from "./libc_linux.ts";
import { IOVEC, MMSGHDR, SOCKADDR_NL } from "./structs_linux.ts";

/** The memory of one socket. Keeps alive and in place everything its pointers point to. */
export class NetlinkSlab {
  /** The datagrams. */
  readonly slab: Slab;
  /** Address of the first header. */
  readonly address: bigint;
  // The kernel writes through the pointers in here into here and into the slab: explicit buffers, never resized, held as
  // long as the pointers are.
  readonly #memory: ArrayBuffer;
  readonly #view: DataView<ArrayBuffer>;
  readonly #names: number;
  #used: number;

  constructor(library: Libc, slots: number, slotBytes: number) {
    this.slab = new Slab(slots, slotBytes);
    const iovecs = slots * MMSGHDR.size;
    this.#names = iovecs + slots * IOVEC.size;
    this.#memory = new ArrayBuffer(this.#names + slots * SOCKADDR_NL.size);
    const view = this.#view = new DataView(this.#memory);
    this.address = library.addressOf(view);
    const bytes = library.addressOf(this.slab.bytes);
    for (let i = 0; i < slots; i++) {
      const header = i * MMSGHDR.size, iovec = iovecs + i * IOVEC.size;
      const name = this.#names + i * SOCKADDR_NL.size;
      view.setBigUint64(header + MMSGHDR.name, this.address + BigInt(name), true);
      view.setBigUint64(header + MMSGHDR.iov, this.address + BigInt(iovec), true);
      view.setUint32(header + MMSGHDR.iovlen, 1, true);
      view.setBigUint64(iovec + IOVEC.base, bytes + BigInt(this.slab.startOf(i)), true);
      view.setUint32(iovec + IOVEC.len, this.slab.stride, true);
    }
    this.#used = slots;
  }

  /** Makes the headers that were used since the last time ready again; the others still are. */
  reset(): void {
    const view = this.#view;
    for (let i = 0, at = 0; i < this.#used; i++, at += MMSGHDR.size) {
      view.setUint32(at + MMSGHDR.namelen, SOCKADDR_NL.size, true);
    }
    this.#used = 0;
  }

  /** Says how many headers the kernel has just used. */
  used(count: number): void {
    this.#used = count;
  }

  /** Bytes in a slot. */
  lengthOf(slot: number): number {
    return this.#view.getUint32(slot * MMSGHDR.size + MMSGHDR.len, true);
  }

  /** What the kernel remarked about a datagram, `MSG_TRUNC`. */
  flagsOf(slot: number): number {
    return this.#view.getInt32(slot * MMSGHDR.size + MMSGHDR.flags, true);
  }

  /** Port id of the sender; 0 is the kernel. */
  senderOf(slot: number): number {
    return this.#view.getUint32(this.#names + slot * SOCKADDR_NL.size + SOCKADDR_NL.pid, true);
  }
}
