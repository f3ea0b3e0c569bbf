/**
 * Where the payload of a sending transfer comes from, block by block.
 *
 * A window is asked for by block index and filled straight into the send slab, with a hole in front of every block for
 * its header. Plain files are read by position and keep nothing; translated and streamed content keeps the blocks that
 * may have to be sent again.
 *
 * @module
 */
import type { ReadSource } from "./store.ts";
import { NetasciiEncoder, netasciiLength } from "./protocol/netascii.ts";
import { MemorySource } from "./store_memory.ts";

/** Netascii content up to this size is translated at once, so that its size on the wire can be told. */
const TRANSLATE_AT_ONCE_BYTES = 1_048_576;

/** Content cut into blocks. Block indexes count from 1. */
export interface BlockSource {
  /** Payload bytes in all, once known. */
  readonly sizeBytes: number | undefined;
  /** Blocks that can be filled now; grows while {@linkcode sizeBytes} is unknown. */
  readonly availableBlocks: number;
  /** The last block's index, once known. It is shorter than a full block, possibly empty. */
  readonly lastBlock: number | undefined;
  /**
   * Fills blocks `first` to `first + count − 1`: payload `k` goes to `bytes[start + k * stride]`.
   *
   * @returns Payload bytes; fewer than the blocks hold when the content turned out shorter than announced.
   * @throws {SystemError} When reading fails.
   */
  fill(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    first: number,
    count: number,
    stride: number,
  ): number;
  /** Any block can be filled at any time, any number of times. */
  readonly repeatable: boolean;
  /** Blocks up to and including `index` will not be asked for again. */
  release(index: number): void;
  /** Idempotent. */
  close(): void;
}

/** Blocks of a file or of memory: random access, nothing kept. */
export class FileBlocks implements BlockSource {
  readonly repeatable = true;
  readonly sizeBytes: number;
  readonly availableBlocks: number;
  readonly lastBlock: number;
  readonly #source: ReadSource;
  readonly #blockSize: number;

  /** @param source Must know its size. */
  constructor(source: ReadSource, blockSize: number) {
    if (source.sizeBytes === undefined) {
      throw new TypeError("Cannot cut a source into blocks: its size is unknown");
    }
    this.#source = source;
    this.#blockSize = blockSize;
    this.sizeBytes = source.sizeBytes;
    this.lastBlock = Math.floor(source.sizeBytes / blockSize) + 1;
    this.availableBlocks = this.lastBlock;
  }

  fill(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    first: number,
    count: number,
    stride: number,
  ): number {
    const blockSize = this.#blockSize;
    const position = (first - 1) * blockSize;
    const length = Math.min(count * blockSize, this.sizeBytes - position);
    if (length <= 0) return 0;
    return this.#source.readPieces(bytes, start, blockSize, stride, length, position);
  }

  release(): void {}

  close(): void {
    this.#source.close();
  }
}

/**
 * Blocks made in order from bytes that are pushed in: the common part of translated files and streams. Keeps what was
 * not released yet.
 */
export class QueuedBlocks implements BlockSource {
  readonly repeatable = false;
  readonly #blockSize: number;
  /** Ring of `#capacity` bytes; block `#base` starts at `#head`. */
  #ring: Uint8Array<ArrayBuffer>;
  #head = 0;
  #length = 0;
  #base = 1;
  #pushed = 0;
  #ended = false;
  #onClose: () => void;

  /**
   * @param blockSize Bytes of a full block.
   * @param keepBlocks Blocks kept at first; the ring grows when more is pushed.
   * @param onClose Called once when the transfer needs no more.
   */
  constructor(blockSize: number, keepBlocks: number, onClose: () => void) {
    this.#blockSize = blockSize;
    this.#ring = new Uint8Array(Math.max(1, keepBlocks) * blockSize);
    this.#onClose = onClose;
  }

  get sizeBytes(): number | undefined {
    return this.#ended ? this.#pushed : undefined;
  }

  get availableBlocks(): number {
    const full = Math.floor(this.#pushed / this.#blockSize);
    return this.#ended ? full + 1 : full;
  }

  get lastBlock(): number | undefined {
    return this.#ended ? this.availableBlocks : undefined;
  }

  /** Bytes that wait to be sent or acknowledged. */
  get queuedBytes(): number {
    return this.#length;
  }

  /** Appends content. */
  push(bytes: Uint8Array, start = 0, end: number = bytes.length): void {
    const length = end - start;
    if (this.#length + length > this.#ring.length) this.#grow(this.#length + length);
    const ring = this.#ring;
    let at = (this.#head + this.#length) % ring.length;
    let from = start;
    while (from < end) {
      const n = Math.min(end - from, ring.length - at);
      ring.set(bytes.subarray(from, from + n), at);
      from += n;
      at = (at + n) % ring.length;
    }
    this.#length += length;
    this.#pushed += length;
  }

  /** No more content comes. */
  end(): void {
    this.#ended = true;
  }

  fill(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    first: number,
    count: number,
    stride: number,
  ): number {
    const blockSize = this.#blockSize;
    const ring = this.#ring;
    let skipped = (first - this.#base) * blockSize;
    let filled = 0;
    for (let k = 0; k < count; k++) {
      const length = Math.min(blockSize, this.#length - skipped);
      if (length <= 0) break;
      const at = (this.#head + skipped) % ring.length;
      const direct = Math.min(length, ring.length - at);
      bytes.set(ring.subarray(at, at + direct), start + k * stride);
      if (direct < length) {
        bytes.set(ring.subarray(0, length - direct), start + k * stride + direct);
      }
      skipped += length;
      filled += length;
    }
    return filled;
  }

  release(index: number): void {
    const blocks = index + 1 - this.#base;
    if (blocks <= 0) return;
    const bytes = Math.min(blocks * this.#blockSize, this.#length);
    this.#head = (this.#head + bytes) % this.#ring.length;
    this.#length -= bytes;
    this.#base = index + 1;
  }

  close(): void {
    const done = this.#onClose;
    this.#onClose = (): void => {};
    done();
  }

  #grow(needed: number): void {
    const larger = new Uint8Array(Math.max(needed, 2 * this.#ring.length));
    const direct = Math.min(this.#length, this.#ring.length - this.#head);
    larger.set(this.#ring.subarray(this.#head, this.#head + direct));
    larger.set(this.#ring.subarray(0, this.#length - direct), direct);
    this.#ring = larger;
    this.#head = 0;
  }
}

/**
 * A file in netascii (RFC 1350 appendix, RFC 764): translated as it is sent, two windows ahead at most. A retransmission
 * comes from the translated bytes, so it is identical.
 */
export class NetasciiBlocks implements BlockSource {
  readonly repeatable = false;
  readonly #queue: QueuedBlocks;
  readonly #source: ReadSource;
  readonly #encoder: NetasciiEncoder = new NetasciiEncoder();
  readonly #aheadBytes: number;
  readonly #chunk: Uint8Array<ArrayBuffer>;
  readonly #encoded: Uint8Array<ArrayBuffer>;
  #position = 0;
  #ended = false;

  constructor(source: ReadSource, blockSize: number, windowSize: number) {
    this.#source = source;
    this.#aheadBytes = 2 * windowSize * blockSize;
    this.#queue = new QueuedBlocks(blockSize, 2 * windowSize, () => source.close());
    this.#chunk = new Uint8Array(Math.min(65536, Math.max(4096, this.#aheadBytes)));
    this.#encoded = new Uint8Array(2 * this.#chunk.length + 2);
    this.#refill();
  }

  get sizeBytes(): number | undefined {
    return this.#queue.sizeBytes;
  }

  get availableBlocks(): number {
    return this.#queue.availableBlocks;
  }

  get lastBlock(): number | undefined {
    return this.#queue.lastBlock;
  }

  fill(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    first: number,
    count: number,
    stride: number,
  ): number {
    return this.#queue.fill(bytes, start, first, count, stride);
  }

  release(index: number): void {
    this.#queue.release(index);
    this.#refill();
  }

  close(): void {
    this.#queue.close();
  }

  #refill(): void {
    while (!this.#ended && this.#queue.queuedBytes < this.#aheadBytes) {
      const size = this.#source.sizeBytes ?? Infinity;
      const wanted = Math.min(this.#chunk.length, size - this.#position);
      const read = wanted <= 0
        ? 0
        : this.#source.readPieces(this.#chunk, 0, wanted, wanted, wanted, this.#position);
      this.#position += read;
      if (read < wanted || this.#position >= size) this.#ended = true;
      const encoded = this.#encoded;
      const length = this.#encoder.encode(this.#chunk, 0, read, encoded, 0, encoded.length);
      this.#queue.push(this.#encoded, 0, length);
      if (this.#ended) this.#queue.end();
    }
  }
}

/**
 * Small content in netascii at once, so that its size on the wire is known; anything else as it is, to be translated on
 * the way.
 */
export function translated(source: ReadSource): ReadSource {
  const size = source.sizeBytes;
  if (size === undefined || size > TRANSLATE_AT_ONCE_BYTES) return source;
  const bytes = new Uint8Array(size);
  const read = size === 0 ? 0 : source.readPieces(bytes, 0, size, size, size, 0);
  const encoded = MemorySource.netascii(bytes.subarray(0, read), netasciiLength(bytes, 0, read));
  source.close();
  return encoded;
}
