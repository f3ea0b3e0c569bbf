/**
 * A file of the disk that is being received: invisible until it is whole.
 *
 * @module
 */
import type { PendingFile, RootDirectory } from "../ffi/mod.ts";
import type { BlockSink } from "./receiving.ts";
import { PositionedWriter } from "./sinks.ts";

/** Permission bits of a received file, before the process's mask. */
const FILE_MODE = 0o644;

/** See the module. */
export class FileSink implements BlockSink {
  readonly #file: PendingFile;
  readonly #writer: PositionedWriter;

  /** @param name In the root's own directory. @throws {SystemError} */
  constructor(root: RootDirectory, name: string, netascii: boolean) {
    this.#file = root.create(name, { symlinks: "follow", mode: FILE_MODE, makeDirectories: false });
    this.#writer = new PositionedWriter(this.#file, netascii);
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

  commit(): void {
    this.#writer.end();
    this.#file.commit({ replace: true, sync: false });
  }

  discard(): void {
    this.#file.discard();
  }
}
