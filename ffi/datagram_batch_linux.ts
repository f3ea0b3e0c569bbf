/**
 * A batch the kernel can fill: one header, one vector element and one control area per slot, their pointers written once.
 *
 * @module
 */
import { ADDRESS_BYTES } from "./address.ts";
import { RECEIVE_CONTROL_BYTES } from "./control_linux.ts";
import { DatagramBatch } from "./datagram.ts";
import type { Libc } from "./libc_linux.ts";
import { IOVEC, MMSGHDR } from "./structs_linux.ts";

/** The batch of the kernel's driver. */
export class LinuxDatagramBatch extends DatagramBatch {
  /** Address of the first byte of the slab. */
  readonly slabAddress: number;
  /** Address of the first byte of `peers`. */
  readonly peersAddress: number;
  readonly #library: Libc;
  #headers: ReceiveHeaders | undefined;

  constructor(library: Libc, capacity: number, slotBytes: number, heads: boolean) {
    super(capacity, slotBytes, heads);
    this.#library = library;
    // User addresses are below 2^56: exact as numbers.
    this.slabAddress = Number(library.addressOf(this.slab.bytes));
    this.peersAddress = Number(library.addressOf(this.peers));
  }

  /** What `recvmmsg` wants; made when the batch receives for the first time. */
  get headers(): ReceiveHeaders {
    this.#headers ??= new ReceiveHeaders(this.#library, this);
    return this.#headers;
  }
}

/** The `mmsghdr` array of one batch. Keeps alive and in place everything its pointers point to. */
export class ReceiveHeaders {
  /** Address of the first header. */
  readonly address: bigint;
  /** The headers, for numbers. */
  readonly view: DataView<ArrayBuffer>;
  /** Distance from the start of {@linkcode view} to the first control area. */
  readonly controls: number;
  // The kernel writes through pointers into this and into the slab and `peers` of the batch: explicit buffers, never
  // resized, held here for as long as the pointers are.
  readonly #memory: ArrayBuffer;
  readonly #batch: DatagramBatch;
  #used: number;

  constructor(library: Libc, batch: LinuxDatagramBatch) {
    const { capacity, slab } = batch;
    const iovecs = capacity * MMSGHDR.size;
    this.controls = iovecs + capacity * IOVEC.size;
    this.#memory = new ArrayBuffer(this.controls + capacity * RECEIVE_CONTROL_BYTES);
    this.#batch = batch;
    this.view = new DataView(this.#memory);
    this.address = library.addressOf(this.view);
    const { view, address } = this;
    for (let i = 0; i < capacity; i++) {
      const header = i * MMSGHDR.size;
      const iovec = iovecs + i * IOVEC.size;
      const control = this.controls + i * RECEIVE_CONTROL_BYTES;
      const name = batch.peersAddress + i * ADDRESS_BYTES;
      view.setBigUint64(header + MMSGHDR.name, BigInt(name), true);
      view.setBigUint64(header + MMSGHDR.iov, address + BigInt(iovec), true);
      view.setUint32(header + MMSGHDR.iovlen, 1, true);
      view.setBigUint64(header + MMSGHDR.control, address + BigInt(control), true);
      view.setBigUint64(
        iovec + IOVEC.base,
        BigInt(batch.slabAddress + slab.startOf(i)),
        true,
      );
      view.setUint32(iovec + IOVEC.len, slab.stride, true);
    }
    this.#used = capacity;
  }

  /** Makes the headers that were used since the last time ready again; the others still are. */
  reset(): void {
    const { view } = this;
    for (let i = 0, at = 0; i < this.#used; i++, at += MMSGHDR.size) {
      view.setUint32(at + MMSGHDR.namelen, ADDRESS_BYTES, true);
      view.setUint32(at + MMSGHDR.controllen, RECEIVE_CONTROL_BYTES, true);
    }
    this.#used = 0;
  }

  /** Says how many headers the kernel has just used. */
  used(count: number): void {
    this.#used = count;
  }

  /** Entries of the batch these are for. */
  get capacity(): number {
    return this.#batch.capacity;
  }
}
