/**
 * From block indexes to datagrams: content is read straight behind the holes for the headers, and a window leaves as one
 * run.
 *
 * A transfer of a file that has shown itself alive borrows a slab of its own and reads several windows at once, right
 * after a window left: while the client works on it. The next acknowledgement is then answered from memory, with one
 * system call. Slabs are few; who finds none reads each window when it is asked for.
 *
 * @module
 */
import { ANTICIPATED_BLOCKS } from "./anticipation.ts";
import type { DatagramBatch } from "../ffi/mod.ts";
import type { BlockSource } from "./blocks.ts";
import { AHEAD_SLAB_BYTES, type Endpoint, SEND_SLAB_BYTES } from "./endpoint.ts";
import type { Link } from "./link.ts";
import { ERROR_NOT_DEFINED, wireBlock, writeDataHeader } from "./protocol/mod.ts";
import { TftpRefusal } from "./refusal.ts";

/** Bytes of a DATA header. */
const HEADER_BYTES = 4;

/** See the module. */
export class WindowWriter {
  readonly #endpoint: Endpoint;
  readonly #link: Link;
  readonly #source: BlockSource;
  readonly #blockSize: number;
  readonly #stride: number;
  readonly #rollover: 0 | 1;
  /** The borrowed slab, and the packets that are ready in it: `#count` from block `#first` on, up to byte `#end`. */
  #ahead: DatagramBatch | undefined;
  #first = 0;
  #count = 0;
  #end = 0;
  #sends = 0;

  constructor(
    endpoint: Endpoint,
    link: Link,
    source: BlockSource,
    blockSize: number,
    rollover: 0 | 1,
  ) {
    this.#endpoint = endpoint;
    this.#link = link;
    this.#source = source;
    this.#blockSize = blockSize;
    this.#stride = blockSize + HEADER_BYTES;
    this.#rollover = rollover;
  }

  /**
   * Sends `count` blocks from `first` on.
   *
   * @returns Payload bytes.
   * @throws {SystemError} When reading fails. @throws {TftpRefusal} When the content is shorter than it was.
   */
  send(first: number, count: number): number {
    const most = Math.floor(AHEAD_SLAB_BYTES / this.#stride);
    // The first window goes to whoever sent a request, which may be forged: it is not worth reading ahead for.
    if (
      this.#ahead === undefined && this.#sends++ === 1 && this.#source.repeatable && count <= most
    ) {
      this.#ahead = this.#endpoint.borrow();
    }
    const ahead = this.#ahead;
    if (ahead === undefined || count > most) return this.#sendNow(first, count);
    if (first < this.#first || first + count > this.#first + this.#count) {
      this.#prepare(ahead, first, count, most);
    }
    const start = (first - this.#first) * this.#stride;
    const length = Math.min(count * this.#stride, this.#end - start);
    this.#sendRun(ahead, start, length, count);
    const next = first + count;
    const left = this.#source.lastBlock! - next + 1;
    if (left > 0 && next + Math.min(left, count) > this.#first + this.#count) {
      this.#prepare(ahead, next, count, most);
    }
    return length - count * HEADER_BYTES;
  }

  /** Gives the slab back. Idempotent. */
  close(): void {
    if (this.#ahead !== undefined) this.#endpoint.giveBack(this.#ahead);
    this.#ahead = undefined;
    // Never again: a late call must not find the source closed.
    this.#sends = 2;
  }

  /** Reads and sends in pieces of the shared slab. */
  #sendNow(first: number, count: number): number {
    const batch = this.#endpoint.outgoing;
    const chunk = Math.max(1, Math.floor(SEND_SLAB_BYTES / this.#stride));
    let total = 0;
    for (let done = 0; done < count; done += chunk) {
      const blocks = Math.min(chunk, count - done);
      const payload = this.#fill(batch, first + done, blocks);
      total += payload;
      this.#sendRun(batch, 0, payload + blocks * HEADER_BYTES, blocks);
    }
    return total;
  }

  /** Reads whole windows of `window` blocks, as many as fit. */
  #prepare(ahead: DatagramBatch, first: number, window: number, most: number): void {
    const windows = Math.max(1, Math.floor(most / window));
    const blocks = Math.min(windows * window, this.#source.lastBlock! - first + 1);
    // Should reading fail, nothing is ready.
    this.#count = 0;
    this.#end = this.#fill(ahead, first, blocks) + blocks * HEADER_BYTES;
    this.#first = first;
    this.#count = blocks;
  }

  #fill(batch: DatagramBatch, first: number, blocks: number): number {
    const { view, bytes } = batch.slab;
    const stride = this.#stride;
    const payload = this.#source.fill(bytes, HEADER_BYTES, first, blocks, stride);
    // Only the last block of all may be short: anything else means that the content shrank under us.
    const missing = blocks * this.#blockSize - payload;
    if (
      missing > 0 &&
      (missing > this.#blockSize || first + blocks - 1 !== this.#source.lastBlock)
    ) {
      throw new TftpRefusal(ERROR_NOT_DEFINED, "file truncated during transfer");
    }
    const rollover = this.#rollover;
    for (let k = 0, at = 0; k < blocks; k++, at += stride) {
      writeDataHeader(view, at, wireBlock(first + k, rollover));
    }
    return payload;
  }

  #sendRun(batch: DatagramBatch, start: number, length: number, blocks: number): void {
    const { socket, peer, local } = this.#link;
    this.#endpoint.lockstep = blocks === 1;
    this.#endpoint.windowed = blocks >= ANTICIPATED_BLOCKS;
    this.#endpoint.send(socket, peer, local, start, length, blocks > 1 ? this.#stride : 0, batch);
  }
}
