/**
 * One `ArrayBuffer` cut into equal slots, with the only `Uint8Array` and `DataView` ever made over it. What travels
 * between parts of the package is a position in a slab, never a copy.
 *
 * @module
 */

/** Value a released slot is overwritten with in debug mode, so that a kept position fails at once. */
export const POISON = 0xdd;

/** A buffer of `slots` equal slots. Slots start at multiples of {@linkcode Slab.stride}. */
export class Slab {
  /** The memory. Never resized, never transferred: the kernel may hold its address. */
  readonly buffer: ArrayBuffer;
  /** All of it, as bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** All of it, for numbers. */
  readonly view: DataView<ArrayBuffer>;
  /** Number of slots. */
  readonly slots: number;
  /** Distance between the starts of two slots, in bytes: the slot size rounded up to 64. */
  readonly stride: number;

  /**
   * Allocates the memory, all zero.
   *
   * @param slots How many slots, at least 1.
   * @param slotBytes Bytes each slot must hold at least.
   * @throws {RangeError} When either is not a positive integer.
   */
  constructor(slots: number, slotBytes: number) {
    if (!Number.isInteger(slots) || slots < 1) {
      throw new RangeError(`Cannot make a slab: ${slots} slots, expected a positive integer`);
    }
    if (!Number.isInteger(slotBytes) || slotBytes < 1) {
      throw new RangeError(
        `Cannot make a slab: slots of ${slotBytes} bytes, expected a positive integer`,
      );
    }
    this.slots = slots;
    // A cache line each, so that two slots never share one.
    this.stride = (slotBytes + 63) & ~63;
    this.buffer = new ArrayBuffer(slots * this.stride);
    this.bytes = new Uint8Array(this.buffer);
    this.view = new DataView(this.buffer);
  }

  /** Offset of the first byte of `slot`. */
  startOf(slot: number): number {
    return slot * this.stride;
  }

  /** Overwrites a slot that nobody may look at any more. Debug mode only; costs a memset. */
  poison(slot: number): void {
    const start = slot * this.stride;
    this.bytes.fill(POISON, start, start + this.stride);
  }
}
