/**
 * A stream cut into blocks: pulled no further ahead than two windows.
 *
 * @module
 */
import { type BlockSource, QueuedBlocks } from "./blocks.ts";
import { ERROR_NOT_DEFINED, NetasciiEncoder } from "./protocol/mod.ts";
import { TftpRefusal } from "./refusal.ts";

/** What a {@linkcode StreamBlocks} tells its owner. */
export interface StreamObserver {
  /** More blocks are there, or the end is known. */
  supplied(): void;
  /** The stream failed, or its length is not the announced one. */
  failed(error: unknown): void;
}

/** See the module. */
export class StreamBlocks implements BlockSource {
  readonly repeatable = false;
  readonly #queue: QueuedBlocks;
  readonly #aheadBytes: number;
  readonly #announced: number | undefined;
  readonly #encoder: NetasciiEncoder | undefined;
  readonly #iterator: AsyncIterator<Uint8Array>;
  #observer: StreamObserver | undefined;
  #wake: (() => void) | undefined;
  #closed = false;

  /**
   * @param announced Bytes the stream promised to have, before translation.
   * @param netascii Translate on the way.
   */
  constructor(
    stream: AsyncIterable<Uint8Array>,
    announced: number | undefined,
    netascii: boolean,
    blockSize: number,
    windowSize: number,
  ) {
    this.#iterator = stream[Symbol.asyncIterator]();
    this.#announced = announced;
    this.#encoder = netascii ? new NetasciiEncoder() : undefined;
    this.#aheadBytes = 2 * windowSize * blockSize;
    this.#queue = new QueuedBlocks(blockSize, 2 * windowSize, () => this.#stop());
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

  /** Begins to pull. */
  start(observer: StreamObserver): void {
    this.#observer = observer;
    this.#pump().catch((error) => {
      if (!this.#closed) observer.failed(error);
    });
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
    if (this.#queue.queuedBytes < this.#aheadBytes) this.#resume();
  }

  close(): void {
    this.#queue.close();
  }

  async #pump(): Promise<void> {
    let total = 0;
    while (!this.#closed) {
      const { done, value } = await this.#iterator.next();
      if (this.#closed) return;
      if (done === true) break;
      total += value.length;
      if (this.#announced !== undefined && total > this.#announced) {
        throw new TftpRefusal(ERROR_NOT_DEFINED, "content is longer than announced");
      }
      this.#push(value);
      this.#observer!.supplied();
      while (this.#queue.queuedBytes >= this.#aheadBytes && !this.#closed) {
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    }
    if (this.#closed) return;
    if (this.#announced !== undefined && total < this.#announced) {
      throw new TftpRefusal(ERROR_NOT_DEFINED, "content is shorter than announced");
    }
    this.#queue.end();
    this.#observer!.supplied();
  }

  #push(bytes: Uint8Array): void {
    if (this.#encoder === undefined) {
      this.#queue.push(bytes);
      return;
    }
    const encoded = new Uint8Array(2 * bytes.length + 2);
    const end = this.#encoder.encode(bytes, 0, bytes.length, encoded, 0, encoded.length);
    this.#queue.push(encoded, 0, end);
  }

  #resume(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }

  #stop(): void {
    this.#closed = true;
    this.#resume();
    // The producer may be waiting in its own `yield`; let it clean up, whatever it then says.
    Promise.resolve(this.#iterator.return?.()).catch(() => {});
  }
}
