/**
 * Files in memory: for tests, examples, and content that no disk needs to hold.
 *
 * @module
 */
import type { ResolvedName } from "./path_policy.ts";
import { NetasciiEncoder } from "./protocol/netascii.ts";
import { fileExists, notFound } from "./refusal.ts";
import type { FileStore, ReadSource, WriteSink } from "./store.ts";
import {
  isPartName,
  type Upload,
  Uploads,
  WRITE_POLICY,
  type WritePolicy,
} from "./write_policy.ts";

/** How a store in memory behaves. */
export interface MemoryStoreOptions {
  /** Files it holds at first: text is UTF-8, bytes are copied. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
  /** What may be uploaded. Default: nothing. What concerns disks has no effect. */
  readonly write?: Partial<WritePolicy>;
}

/**
 * A store in memory. A name is its text; one that is not UTF-8 is known by its bytes read as Latin-1.
 *
 * @example
 * ```ts
 * import { equal } from "node:assert/strict";
 * import { MemoryStore } from "@fastwire/net/tftp";
 *
 * const store = new MemoryStore({ files: { "motd": "hello\n" } });
 * equal(store.openRead({ path: "motd", text: "motd" }).sizeBytes, 6);
 * ```
 */
export class MemoryStore implements FileStore {
  readonly #files = new Map<string, Uint8Array<ArrayBuffer>>();
  readonly #uploads: Uploads;

  /** A store with the files it is given. @throws {RangeError} For a write policy that cannot be meant. */
  constructor(options: MemoryStoreOptions = {}) {
    this.#uploads = new Uploads({ ...WRITE_POLICY, ...options.write });
    for (const [name, content] of Object.entries(options.files ?? {})) this.set(name, content);
  }

  /** Names of the files, in order of arrival. */
  get names(): readonly string[] {
    return [...this.#files.keys()];
  }

  /** Puts a file in, or another in its place. Transfers that read the old one go on with it. Bytes are copied. */
  set(name: string, content: string | Uint8Array): void {
    const bytes = typeof content === "string" ? new TextEncoder().encode(content) : content;
    this.#files.set(name, new Uint8Array(bytes));
  }

  /** A file's content, not to be changed; `undefined` when there is none. */
  get(name: string): Uint8Array<ArrayBuffer> | undefined {
    return this.#files.get(name);
  }

  /** Takes a file out; transfers that read it go on. */
  delete(name: string): boolean {
    return this.#files.delete(name);
  }

  /** Opens a file. Answers at once. @throws {TftpRefusal} */
  openRead(name: ResolvedName): ReadSource {
    const content = this.#files.get(name.text);
    if (content === undefined || isPartName(name.text)) throw notFound();
    return new MemorySource(content);
  }

  /** Starts an upload. Answers at once. @throws {TftpRefusal} */
  openWrite(name: ResolvedName, announcedBytes?: number): WriteSink {
    const { policy, prefix } = this.#uploads;
    const upload = this.#uploads.begin(
      name.text,
      announcedBytes,
      (text) => this.#files.has(prefix + text),
    );
    return new MemoryUpload(upload, announcedBytes ?? 0, (content) => {
      if (!policy.allowOverwrite && this.#files.has(prefix + upload.name)) throw fileExists();
      this.#files.set(prefix + upload.name, content);
    });
  }

  /** Forgets every file; transfers that read one go on. */
  close(): void {
    this.#files.clear();
  }
}

/** Bytes to be sent. */
export class MemorySource implements ReadSource {
  /** How many there are. */
  readonly sizeBytes: number;
  readonly #bytes: Uint8Array;

  /**
   * A source of given bytes.
   *
   * @param bytes Not copied, and not to be changed while it is read.
   */
  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.sizeBytes = bytes.length;
  }

  /**
   * Content translated to netascii.
   *
   * @param bytes The content as it is here.
   * @param lengthBytes Its length in netascii: `netasciiLength(bytes)`.
   */
  static netascii(bytes: Uint8Array, lengthBytes: number): MemorySource {
    const into = new Uint8Array(lengthBytes);
    const encoder = new NetasciiEncoder();
    encoder.encode(bytes, 0, bytes.length, into, 0, into.length);
    return new MemorySource(into);
  }

  /** See {@linkcode ReadSource.readPieces}. */
  readPieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): number {
    const end = Math.min(position + length, this.#bytes.length);
    for (let at = position, to = start; at < end; at += pieceBytes, to += strideBytes) {
      bytes.set(this.#bytes.subarray(at, Math.min(at + pieceBytes, end)), to);
    }
    return Math.max(0, end - position);
  }

  /** Nothing to free. */
  close(): void {}
}

/** An upload that grows in memory. */
class MemoryUpload implements WriteSink {
  readonly name: string;
  readonly #upload: Upload;
  readonly #keep: (content: Uint8Array<ArrayBuffer>) => void;
  #bytes: Uint8Array<ArrayBuffer>;
  #written = 0;
  #over = false;

  constructor(
    upload: Upload,
    announcedBytes: number,
    keep: (content: Uint8Array<ArrayBuffer>) => void,
  ) {
    this.name = upload.name;
    this.#upload = upload;
    this.#keep = keep;
    // What is announced may be a lie: room is made for what comes.
    this.#bytes = new Uint8Array(Math.min(announcedBytes, FIRST_ROOM_BYTES));
  }

  expect(sizeBytes: number): void {
    this.#upload.claim(sizeBytes);
  }

  write(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): void {
    this.writePieces(bytes, start, length, length, length, position);
  }

  writePieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): void {
    if (length <= 0) return;
    const end = position + length;
    this.#upload.claim(end);
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, 2 * this.#bytes.length));
      larger.set(this.#bytes.subarray(0, this.#written));
      this.#bytes = larger;
    }
    for (let at = position, from = start; at < end; at += pieceBytes, from += strideBytes) {
      this.#bytes.set(bytes.subarray(from, from + Math.min(pieceBytes, end - at)), at);
    }
    if (end > this.#written) this.#written = end;
  }

  commit(): void {
    if (this.#over) throw new TypeError(`Cannot commit "${this.name}": it is over`);
    this.#over = true;
    try {
      this.#keep(this.#bytes.slice(0, this.#written));
      this.#upload.end(this.#written);
    } finally {
      this.#upload.end(0);
    }
  }

  discard(): void {
    this.#over = true;
    this.#upload.end(0);
  }
}

const FIRST_ROOM_BYTES = 1_048_576;
