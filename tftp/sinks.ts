/**
 * Where received content goes, whatever asked for it: a store, a file, memory, a function.
 *
 * @module
 */
import { logger } from "../internal/log.ts";
import { ERROR_NOT_DEFINED, NetasciiDecoder } from "./protocol/mod.ts";
import type { BlockSink } from "./receiving.ts";
import { TftpRefusal, type WriteSink } from "./store.ts";

const log = logger("tftp", "upload");

/** Bytes a function may owe before the transfer stops reading. */
const QUEUE_LIMIT_BYTES = 8_388_608;

/** Something that takes content by position: a file, a store's upload. */
export interface PositionedSink {
  writePieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): void;
  write(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): void;
}

/** Turns blocks in order into writes at rising positions, from netascii when asked. */
export class PositionedWriter {
  readonly #sink: PositionedSink;
  readonly #decoder: NetasciiDecoder | undefined;
  #scratch: Uint8Array<ArrayBuffer> = new Uint8Array(0);
  /** Content bytes so far, after translation. */
  position = 0;
  /** Payload bytes so far, as they came. */
  received = 0;

  constructor(sink: PositionedSink, netascii: boolean) {
    this.#sink = sink;
    this.#decoder = netascii ? new NetasciiDecoder() : undefined;
  }

  append(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
  ): void {
    this.received += length;
    if (this.#decoder === undefined) {
      this.#sink.writePieces(bytes, start, pieceBytes, strideBytes, length, this.position);
      this.position += length;
      return;
    }
    for (let done = 0; done < length; done += pieceBytes, start += strideBytes) {
      const piece = Math.min(pieceBytes, length - done);
      // A CR that the last piece kept back can add one byte.
      if (this.#scratch.length < piece + 1) this.#scratch = new Uint8Array(2 * piece + 1);
      this.#put(this.#decoder.decode(bytes, start, start + piece, this.#scratch, 0));
    }
  }

  /** Writes what the translation still holds. */
  end(): void {
    if (this.#decoder === undefined) return;
    if (this.#scratch.length === 0) this.#scratch = new Uint8Array(1);
    this.#put(this.#decoder.finish(this.#scratch, 0));
  }

  #put(length: number): void {
    if (length === 0) return;
    this.#sink.write(this.#scratch, 0, length, this.position);
    this.position += length;
  }
}

/** Content gathered in memory. */
export class MemorySink implements BlockSink, PositionedSink {
  readonly #writer: PositionedWriter;
  readonly #limit: number;
  #bytes: Uint8Array<ArrayBuffer>;

  /** @param expected Bytes to make room for. @param limit Most bytes; beyond it `append` throws `RangeError`. */
  constructor(netascii: boolean, expected: number, limit: number) {
    this.#writer = new PositionedWriter(this, netascii);
    this.#bytes = new Uint8Array(Math.min(expected, limit));
    this.#limit = limit;
  }

  /** The content so far: a view of this sink's memory. */
  get content(): Uint8Array<ArrayBuffer> {
    return this.#bytes.subarray(0, this.#writer.position);
  }

  /** Makes room beforehand. */
  expect(bytes: number): void {
    if (bytes > this.#bytes.length) this.#grow(Math.min(bytes, this.#limit));
  }

  append(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
  ): void {
    this.#writer.append(bytes, start, pieceBytes, strideBytes, length);
  }

  writePieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): void {
    if (position + length > this.#bytes.length) this.#grow(position + length);
    for (let done = 0; done < length; done += pieceBytes, start += strideBytes) {
      const end = start + Math.min(pieceBytes, length - done);
      this.#bytes.set(bytes.subarray(start, end), position + done);
    }
  }

  write(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): void {
    this.writePieces(bytes, start, length, length, length, position);
  }

  commit(): void {
    this.#writer.end();
  }

  discard(): void {}

  #grow(needed: number): void {
    if (needed > this.#limit) {
      throw new RangeError(
        `Cannot keep the file in memory: it is larger than ${this.#limit} bytes`,
      );
    }
    const larger = new Uint8Array(Math.min(this.#limit, Math.max(needed, 2 * this.#bytes.length)));
    larger.set(this.#bytes.subarray(0, this.#writer.position));
    this.#bytes = larger;
  }
}

/** Content handed to a function piece by piece, in order, one call at a time. */
export class FunctionSink implements BlockSink, PositionedSink {
  readonly #writer: PositionedWriter;
  readonly #take: (piece: Uint8Array | undefined) => void | Promise<void>;
  #chain: Promise<void> = Promise.resolve();
  #queued = 0;
  #failure: unknown;
  #failed = false;
  #discarded = false;
  /** Called when a congested sink has room again. */
  onRoom: () => void = () => {};

  constructor(
    take: (piece: Uint8Array | undefined) => void | Promise<void>,
    netascii = false,
  ) {
    this.#take = take;
    this.#writer = new PositionedWriter(this, netascii);
  }

  /** The function is behind: read no more until {@linkcode onRoom}. */
  get congested(): boolean {
    return this.#queued > QUEUE_LIMIT_BYTES;
  }

  append(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
  ): void {
    if (this.#failed) throw this.#failure;
    this.#writer.append(bytes, start, pieceBytes, strideBytes, length);
  }

  writePieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    _position: number,
  ): void {
    const piece = new Uint8Array(length);
    for (let done = 0; done < length; done += pieceBytes, start += strideBytes) {
      piece.set(bytes.subarray(start, start + Math.min(pieceBytes, length - done)), done);
    }
    this.#enqueue(piece);
  }

  write(bytes: Uint8Array<ArrayBuffer>, start: number, length: number): void {
    this.#enqueue(bytes.slice(start, start + length));
  }

  commit(): Promise<void> {
    this.#writer.end();
    return this.#chain.then(() => {
      if (this.#failed) throw this.#failure;
      return this.#take(undefined);
    });
  }

  discard(): void {
    this.#discarded = true;
  }

  #enqueue(piece: Uint8Array): void {
    this.#queued += piece.length;
    this.#chain = this.#chain.then(async () => {
      if (this.#failed || this.#discarded) return;
      await this.#take(piece);
    }).catch((error) => {
      if (!this.#failed) this.#failure = error;
      this.#failed = true;
    }).then(() => {
      const congested = this.congested;
      this.#queued -= piece.length;
      if (congested && !this.congested) this.onRoom();
    });
  }
}

/** How a {@linkcode StoreSink} judges what it got. */
export interface StoreSinkOptions {
  /** Payload bytes the client announced. */
  readonly announced: number | undefined;
  /** Refuse content whose size is another. */
  readonly rejectMismatch: boolean;
  readonly netascii: boolean;
}

/** An upload into a store. */
export class StoreSink implements BlockSink {
  readonly #sink: WriteSink;
  readonly #writer: PositionedWriter;
  readonly #options: StoreSinkOptions;

  constructor(sink: WriteSink, options: StoreSinkOptions) {
    this.#sink = sink;
    this.#writer = new PositionedWriter(sink, options.netascii);
    this.#options = options;
  }

  append(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
  ): void {
    this.#writer.append(bytes, start, pieceBytes, strideBytes, length);
  }

  commit(): void | Promise<void> {
    this.#writer.end();
    const { announced, rejectMismatch } = this.#options;
    const { received } = this.#writer;
    if (announced !== undefined && announced !== received) {
      if (rejectMismatch) {
        throw new TftpRefusal(ERROR_NOT_DEFINED, `got ${received} bytes, ${announced} announced`);
      }
      log.warning("Upload of {received} bytes was announced as {announced}", {
        event: "tftp.size-mismatched",
        received,
        announced,
      });
    }
    return this.#sink.commit();
  }

  discard(): void {
    this.#sink.discard();
  }
}
