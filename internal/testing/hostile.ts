/**
 * Input that wishes us ill: random bytes, and good packets that were bent.
 *
 * @module
 */

import type { Random } from "../random.ts";

/** Fills one buffer with one hostile packet after the other; nothing is allocated per packet. */
export class HostilePackets {
  /** The buffer. What lies outside the packet is 0xdd, so that reading too far is seen. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory for numbers. */
  readonly view: DataView<ArrayBuffer>;
  /** Where the packet begins. */
  start = 0;
  /** Where it ends. */
  end = 0;
  readonly #random: Random;
  readonly #good: readonly Uint8Array[];

  /**
   * @param random Decides everything.
   * @param good Packets to bend, each at most `maxBytes` long.
   * @param maxBytes Longest packet.
   */
  constructor(random: Random, good: readonly Uint8Array[], maxBytes: number) {
    this.#random = random;
    this.#good = good;
    this.bytes = new Uint8Array(maxBytes + 128).fill(0xdd);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Makes the next packet. */
  next(): void {
    const random = this.#random;
    const bytes = this.bytes;
    bytes.fill(0xdd, this.start, this.end);
    this.start = random.u32() % 64;
    const room = bytes.length - 64 - this.start;
    const kind = random.u32() % 8;
    if (kind < 2 || this.#good.length === 0) {
      const length = random.u32() % (kind === 0 ? 16 : Math.min(room, 600));
      for (let i = 0; i < length; i++) bytes[this.start + i] = random.u32();
      // Half of them get an opcode that is looked at.
      if (kind === 1 && length > 1) {
        bytes[this.start] = 0;
        bytes[this.start + 1] = random.u32() % 8;
      }
      this.end = this.start + length;
      return;
    }
    const good = this.#good[random.u32() % this.#good.length]!;
    let length = Math.min(good.length, room);
    for (let i = 0; i < length; i++) bytes[this.start + i] = good[i]!;
    if (kind === 2) length = random.u32() % (length + 1);
    if (kind === 3) {
      const more = random.u32() % Math.max(1, Math.min(room - length, 64));
      for (let i = 0; i < more; i++) bytes[this.start + length + i] = random.u32();
      length += more;
    }
    const changes = kind >= 5 ? 1 + random.u32() % 4 : 0;
    for (let i = 0; i < changes && length > 0; i++) {
      bytes[this.start + random.u32() % length] = kind === 7 ? random.u32() % 4 : random.u32();
    }
    this.end = this.start + length;
  }
}
