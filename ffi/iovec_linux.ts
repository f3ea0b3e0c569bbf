/**
 * Windows of a slab as the kernel wants to be told about them: rows of `struct iovec` that leave a hole before each
 * piece, written once and used again for every window at the same place.
 *
 * @module
 */
import type { Libc } from "./libc_linux.ts";
import { IOVEC } from "./structs_linux.ts";

/** Most entries one call takes: `UIO_MAXIOV`, `<linux/uio.h>`. */
export const MAX_IOVECS = 1024;

/** Rows for pieces of one size at one distance. */
export class IovecPlan {
  readonly pieceBytes: number;
  readonly strideBytes: number;
  /** Address of the first entry. */
  readonly address: bigint;
  // The kernel reads this memory by its address: an explicit buffer, held here as long as the address is.
  readonly #buffer: ArrayBuffer;
  readonly #view: DataView<ArrayBuffer>;
  // What the entries say: the first `#filled` point at pieces behind `#base`; entry `#shortened` is shorter than a piece.
  #base = -1;
  #filled = 0;
  #shortened = -1;

  constructor(libc: Libc, pieceBytes: number, strideBytes: number) {
    this.pieceBytes = pieceBytes;
    this.strideBytes = strideBytes;
    this.#buffer = new ArrayBuffer(MAX_IOVECS * IOVEC.size);
    this.#view = new DataView(this.#buffer);
    this.address = libc.addressOf(this.#buffer);
  }

  /**
   * Describes `length` bytes in pieces of which the first is at address `base`, as many as fit into one call.
   *
   * @returns How many entries are in use; the last one may be short.
   */
  describe(base: number, length: number): number {
    const pieceBytes = this.pieceBytes;
    let entries = Math.ceil(length / pieceBytes);
    if (entries > MAX_IOVECS) entries = MAX_IOVECS;
    if (base !== this.#base) {
      this.#base = base;
      this.#filled = 0;
    }
    if (this.#shortened >= 0) {
      this.#view.setUint32(this.#shortened * IOVEC.size + IOVEC.len, pieceBytes, true);
      this.#shortened = -1;
    }
    for (let i = this.#filled; i < entries; i++) {
      const entry = i * IOVEC.size;
      const piece = base + i * this.strideBytes;
      // Addresses stay below 2^47: exact as a number, and two halves need no BigInt.
      this.#view.setUint32(entry + IOVEC.base, piece >>> 0, true);
      this.#view.setUint32(entry + IOVEC.base + 4, piece / 0x1_0000_0000, true);
      this.#view.setUint32(entry + IOVEC.len, pieceBytes, true);
    }
    if (entries > this.#filled) this.#filled = entries;
    const last = length - (entries - 1) * pieceBytes;
    if (last < pieceBytes) {
      this.#shortened = entries - 1;
      this.#view.setUint32(this.#shortened * IOVEC.size + IOVEC.len, last, true);
    }
    return entries;
  }
}

/** The plans of one thread, and the addresses of the buffers they are used on. */
export class IovecPlans {
  readonly #libc: Libc;
  readonly #plans: IovecPlan[] = [];
  #last: IovecPlan | undefined;
  #evict = 0;
  readonly #addresses = new WeakMap<ArrayBuffer, number>();
  #lastBuffer: ArrayBuffer | undefined;
  #lastAddress = 0;

  constructor(libc: Libc) {
    this.#libc = libc;
  }

  /** The plan for pieces of a size at a distance; made at first use, 16 KiB each, the oldest of {@linkcode MAX_PLANS} goes. */
  planFor(pieceBytes: number, strideBytes: number): IovecPlan {
    const last = this.#last;
    if (last !== undefined && last.pieceBytes === pieceBytes && last.strideBytes === strideBytes) {
      return last;
    }
    for (const plan of this.#plans) {
      if (plan.pieceBytes === pieceBytes && plan.strideBytes === strideBytes) {
        return this.#last = plan;
      }
    }
    const plan = new IovecPlan(this.#libc, pieceBytes, strideBytes);
    this.#plans[this.#evict++ % MAX_PLANS] = plan;
    return this.#last = plan;
  }

  /**
   * Address of byte `start` of `bytes`. The address of an `ArrayBuffer` does not change while it lives (ffi.md §1), so
   * it is asked for once.
   */
  addressOf(bytes: Uint8Array<ArrayBuffer>, start: number): number {
    const buffer = bytes.buffer;
    if (buffer !== this.#lastBuffer) {
      let address = this.#addresses.get(buffer);
      if (address === undefined) {
        address = Number(this.#libc.addressOf(buffer));
        this.#addresses.set(buffer, address);
      }
      this.#lastBuffer = buffer;
      this.#lastAddress = address;
    }
    return this.#lastAddress + bytes.byteOffset + start;
  }
}

/** Sizes and distances remembered: a server has one per block size in use. */
const MAX_PLANS = 16;
