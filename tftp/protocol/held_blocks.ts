/**
 * Which blocks of a window are held ahead of their turn: a ring of marks, by block index.
 *
 * @module
 */

/** A set of block indexes that lie less than `windowSize` apart. */
export class HeldBlocks {
  /** How many are held. */
  count = 0;
  /** The highest index ever marked. */
  highest = 0;
  readonly #marks: Uint8Array<ArrayBuffer>;
  readonly #mask: number;

  /** @param windowSize Blocks in a window, at least 1. */
  constructor(windowSize: number) {
    let size = 1;
    while (size < windowSize) size *= 2;
    this.#marks = new Uint8Array(new ArrayBuffer(size));
    this.#mask = size - 1;
  }

  /** Whether the block is held. */
  has(index: number): boolean {
    return this.#marks[index & this.#mask] === 1;
  }

  /** Marks a block that is not held. */
  add(index: number): void {
    this.#marks[index & this.#mask] = 1;
    this.count++;
    if (index > this.highest) this.highest = index;
  }

  /** Unmarks every block from `first` on without a hole. @returns The first one that is not held. */
  takeFrom(first: number): number {
    let next = first;
    while (this.count > 0 && this.#marks[next & this.#mask] === 1) {
      this.#marks[next & this.#mask] = 0;
      this.count--;
      next++;
    }
    return next;
  }

  /** Unmarks all. */
  clear(): void {
    this.#marks.fill(0);
    this.count = 0;
  }
}
