/**
 * Where files come from and go to: the contract, and the directory that fulfils it.
 *
 * @module
 */
import { openRoot } from "../ffi/mod.ts";
import type { OpenFile, PendingFile, RootDirectory, Symlinks } from "../ffi/mod.ts";
import { CaselessNames } from "./caseless.ts";
import type { ResolvedName } from "./path_policy.ts";
import { ERROR_NOT_FOUND } from "./protocol/opcodes.ts";
import { accessViolation, diskFull, notFound, refusalOf } from "./refusal.ts";
import type { ResolvedServerSettings } from "./settings.ts";
import {
  isPartName,
  type Upload,
  Uploads,
  WRITE_POLICY,
  type WritePolicy,
} from "./write_policy.ts";

export { refusalOf, TftpRefusal } from "./refusal.ts";

/** Content that is read by position, any part any number of times. */
export interface ReadSource {
  /** Bytes in all; `undefined` when that is not known before the end. */
  readonly sizeBytes: number | undefined;
  /**
   * Reads up to `length` bytes at `position` into pieces of `pieceBytes`, the first at `bytes[start]`, each next one
   * `strideBytes` behind the one before; what lies between the pieces is not touched.
   *
   * @returns Bytes read; less than asked only at the end. @throws What {@linkcode refusalOf} understands.
   */
  readPieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): number;
  /** Idempotent. */
  close(): void;
}

/** An upload that nobody sees until it is committed. Its verbs throw what {@linkcode refusalOf} understands. */
export interface WriteSink {
  /** The name it will have; not the requested one when the store numbers its files. */
  readonly name: string;
  /** Says how large it will be, as soon as that is known: refused now when there is no room for it. */
  expect(sizeBytes: number): void;
  /** Writes `bytes[start, start + length)` at `position`. The bytes may be overwritten when it returns. */
  write(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): void;
  /** The reverse of {@linkcode ReadSource.readPieces}. */
  writePieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): void;
  /** Makes it visible, all of it at once. When it fails nothing is left. */
  commit(): void | Promise<void>;
  /** Gives it up; idempotent, and harmless after a commit. */
  discard(): void;
}

/** A place for files. Names arrive cleaned: they cannot leave a root by their spelling. */
export interface FileStore {
  /** Opens a file. @throws {TftpRefusal} or anything {@linkcode refusalOf} understands. */
  openRead(name: ResolvedName): ReadSource | Promise<ReadSource>;
  /**
   * Starts an upload.
   *
   * @param announcedBytes The size the client announced, if it did. @throws As {@linkcode FileStore.openRead}.
   */
  openWrite(name: ResolvedName, announcedBytes?: number): WriteSink | Promise<WriteSink>;
  /** Frees what it holds; idempotent. */
  close(): void | Promise<void>;
}

/** How a directory is served. */
export interface DirectoryStoreOptions {
  /** How to reach the kernel. Default `auto`. */
  readonly driver?: "auto" | "fast" | "portable";
  /** Links: refuse all, follow those that stay beneath the root, or follow all. Default `inside`. */
  readonly symlinks?: Symlinks;
  /** Answer reads that the options forbid with "file not found". Default true. */
  readonly hideExistence?: boolean;
  /** When a name is missing, look for it without regard to case. Default false. */
  readonly caseInsensitive?: boolean;
  /** Fold requested names to lower case. Default false. */
  readonly lowercase?: boolean;
  /** Serve only files that everyone may read. Default false. */
  readonly requireWorldReadable?: boolean;
  /** What may be uploaded. Default: nothing. */
  readonly write?: Partial<WritePolicy>;
}

/** The part of a server's settings that concerns its store. */
export function storeOptions(settings: ResolvedServerSettings): DirectoryStoreOptions {
  const { driver, symlinks, hideExistence, caseInsensitive, lowercase, requireWorldReadable } =
    settings;
  const { rejectSizeMismatch: _, ...write } = settings.write;
  return {
    driver,
    symlinks,
    hideExistence,
    caseInsensitive,
    lowercase,
    requireWorldReadable,
    write,
  };
}

/** Files of a directory. */
export class DirectoryStore implements FileStore {
  /** The directory, held open. */
  readonly root: RootDirectory;
  readonly #symlinks: Symlinks;
  readonly #hideExistence: boolean;
  readonly #lowercase: boolean;
  readonly #requireWorldReadable: boolean;
  readonly #caseless: CaselessNames | undefined;
  readonly #uploads: Uploads;

  /**
   * A store over a root that is open already.
   *
   * @param root Becomes the store's: it is closed with it.
   * @throws {RangeError} For a write policy that cannot be meant.
   * @throws {SyntaxError} For a pattern that does not compile.
   */
  constructor(root: RootDirectory, options: DirectoryStoreOptions = {}) {
    this.root = root;
    this.#symlinks = options.symlinks ?? "inside";
    this.#hideExistence = options.hideExistence ?? true;
    this.#lowercase = options.lowercase ?? false;
    this.#requireWorldReadable = options.requireWorldReadable ?? false;
    this.#uploads = new Uploads({ ...WRITE_POLICY, ...options.write });
    this.#caseless = options.caseInsensitive
      ? new CaselessNames(root, this.#symlinks, () => Date.now())
      : undefined;
  }

  /**
   * Opens a directory as a store.
   *
   * @throws {SystemError} When it cannot be opened.
   * @throws {RangeError} For a write policy that cannot be meant.
   */
  static async open(path: string, options: DirectoryStoreOptions = {}): Promise<DirectoryStore> {
    const root = await openRoot(path, { driver: options.driver ?? "auto" });
    try {
      return new DirectoryStore(root, options);
    } catch (error) {
      root.close();
      throw error;
    }
  }

  /** Opens a file. Answers at once. @throws {TftpRefusal} */
  openRead(name: ResolvedName): ReadSource {
    const { path, text } = this.#folded(name);
    if (isPartName(text)) throw notFound();
    const file = this.#open(path);
    if (this.#requireWorldReadable && (file.mode & OTHERS_READ) === 0) {
      file.close();
      throw this.#hideExistence ? notFound() : accessViolation();
    }
    return new FileSource(file);
  }

  /** Starts an upload. Answers at once. @throws {TftpRefusal} */
  openWrite(name: ResolvedName, announcedBytes?: number): WriteSink {
    const folded = this.#folded(name);
    const { policy } = this.#uploads;
    const place = (text: string): string | Uint8Array<ArrayBuffer> =>
      placeOf(folded, text, this.#uploads.prefix);
    const symlinks = { symlinks: this.#symlinks };
    const upload = this.#uploads.begin(
      folded.text,
      announcedBytes,
      (text) => this.root.exists(place(text), symlinks),
    );
    let file: PendingFile | undefined;
    try {
      this.#requireSpace(announcedBytes ?? 0);
      file = this.root.create(place(upload.name), {
        symlinks: this.#symlinks,
        mode: policy.fileMode,
        makeDirectories: policy.makeDirectories,
      });
      if (announcedBytes !== undefined) file.reserve(announcedBytes);
      return new FileSink(file, upload, policy, (bytes) => this.#requireSpace(bytes));
    } catch (error) {
      file?.discard();
      upload.end(0);
      throw refusalOf(error);
    }
  }

  /** Closes the root; what is open stays open. Idempotent. */
  close(): void {
    this.root.close();
  }

  #folded(name: ResolvedName): ResolvedName {
    if (!this.#lowercase || typeof name.path !== "string") return name;
    const path = name.path.toLowerCase();
    return { path, text: path };
  }

  #open(path: string | Uint8Array): OpenFile {
    const options = { symlinks: this.#symlinks };
    try {
      return this.root.openRead(path, options);
    } catch (error) {
      const refusal = refusalOf(error);
      if (this.#caseless === undefined || refusal.tftpCode !== ERROR_NOT_FOUND) throw refusal;
      const found = typeof path === "string" ? this.#caseless.find(path) : undefined;
      if (found === undefined || found === path) throw refusal;
      try {
        return this.root.openRead(found, options);
      } catch (error) {
        throw refusalOf(error);
      }
    }
  }

  #requireSpace(bytes: number): void {
    const { minFreeBytes } = this.#uploads.policy;
    if (minFreeBytes > 0 && this.root.freeBytes() - bytes < minFreeBytes) throw diskFull();
  }
}

/** A file that is being sent; tells the kernel what comes next. */
class FileSource implements ReadSource {
  readonly sizeBytes: number;
  readonly #file: OpenFile;
  // Up to where the kernel was told to read ahead. It does well by itself with the first pieces.
  #advised = READ_AHEAD_FROM;

  constructor(file: OpenFile) {
    this.#file = file;
    this.sizeBytes = file.sizeBytes;
    if (file.sizeBytes > READ_AHEAD_FROM) file.advise("sequential", 0, 0);
  }

  readPieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): number {
    if (position + length > this.#advised && this.#advised < this.sizeBytes) {
      this.#file.advise("will-need", this.#advised, READ_AHEAD_BYTES);
      // Half of it ahead: the next advice comes before this one is used up.
      this.#advised += READ_AHEAD_BYTES / 2;
    }
    return this.#file.readPieces(bytes, start, pieceBytes, strideBytes, length, position);
  }

  close(): void {
    this.#file.close();
  }
}

/** A file that is being received. */
class FileSink implements WriteSink {
  readonly name: string;
  readonly #file: PendingFile;
  readonly #upload: Upload;
  readonly #policy: WritePolicy;
  readonly #requireSpace: (bytes: number) => void;
  // Up to where space was checked.
  #checked = 0;

  constructor(
    file: PendingFile,
    upload: Upload,
    policy: WritePolicy,
    requireSpace: (bytes: number) => void,
  ) {
    this.#file = file;
    this.#upload = upload;
    this.#policy = policy;
    this.#requireSpace = requireSpace;
    this.name = upload.name;
  }

  expect(sizeBytes: number): void {
    this.#upload.claim(sizeBytes);
    this.#requireSpace(sizeBytes - this.#file.writtenBytes);
    this.#file.reserve(sizeBytes);
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
    if (end > this.#checked) {
      this.#requireSpace(length);
      this.#checked = end + SPACE_CHECK_BYTES;
    }
    this.#file.writePieces(bytes, start, pieceBytes, strideBytes, length, position);
  }

  commit(): void | Promise<void> {
    if (this.#policy.sync === "never") return this.#publish(false);
    return this.#file.flush().then(
      () => this.#publish(true),
      (error) => {
        this.#upload.end(0);
        throw refusalOf(error);
      },
    );
  }

  #publish(sync: boolean): void {
    try {
      const kept = this.#file.writtenBytes;
      this.#file.commit({ replace: this.#policy.allowOverwrite, sync });
      this.#upload.end(kept);
    } finally {
      this.#upload.end(0);
    }
  }

  discard(): void {
    const keep = this.#policy.keepPartial && this.#file.writtenBytes > 0;
    this.#file.discard({ keep });
    this.#upload.end(keep ? this.#file.writtenBytes : 0);
  }
}

// Where an upload goes: beneath its own directory if there is one, as bytes when its name is bytes.
function placeOf(
  requested: ResolvedName,
  text: string,
  prefix: string,
): string | Uint8Array<ArrayBuffer> {
  if (typeof requested.path === "string") return prefix + text;
  const head = encoder.encode(prefix);
  // What a unique name adds behind is ASCII.
  const tail = encoder.encode(text.slice(requested.text.length));
  const bytes = new Uint8Array(head.length + requested.path.length + tail.length);
  bytes.set(head);
  bytes.set(requested.path, head.length);
  bytes.set(tail, head.length + requested.path.length);
  return bytes;
}

const encoder = new TextEncoder();
/** `S_IROTH`. */
const OTHERS_READ = 0o004;
/** Files up to this size are left to the kernel's own read-ahead. */
const READ_AHEAD_FROM = 1_048_576;
/** How far ahead the kernel is told to read: 8 MiB, never the whole of a huge file. */
const READ_AHEAD_BYTES = 8_388_608;
/** Bytes of an upload between two looks at the free space. */
const SPACE_CHECK_BYTES = 8_388_608;
