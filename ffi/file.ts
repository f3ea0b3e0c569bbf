/**
 * Files by position, and opening them beneath a root: the contract, and the choice of who fulfils it.
 *
 * Two drivers. `linux` calls `openat2`, `preadv`, `pwritev`, `posix_fadvise`, `renameat2` through the C library. `node`
 * is `node:fs` and runs everywhere. All verbs are synchronous: a read of a window costs microseconds from the page
 * cache, an asynchronous one costs more than the window.
 *
 * @module
 */
import { CapabilityError } from "../internal/errors.ts";
import { resolveDriver } from "./capabilities.ts";
import type { Driver } from "./datagram.ts";

/** What a driver can do. */
export interface FileTraits {
  /** The driver's name. */
  readonly driver: "linux" | "node";
  /** Opening beneath a root is one atomic kernel walk (`openat2` RESOLVE_BENEATH): no race with a changing tree. */
  readonly beneath: boolean;
  /** Strided reads and writes are one call without a copy in this process. */
  readonly vectored: boolean;
  /** Read-ahead advice reaches the kernel. */
  readonly advice: boolean;
  /** Names that are not UTF-8 can be opened. */
  readonly rawNames: boolean;
}

/**
 * How symbolic links are treated, as the last component and on the way: refused, followed while they stay beneath the
 * root, or followed.
 *
 * An absolute link counts as leaving, wherever it leads. A driver without the `beneath` trait cannot tell where a link
 * leads without a race, so `inside` refuses every link there. Magic links (those of `/proc`) are refused unless
 * followed.
 */
export type Symlinks = "deny" | "inside" | "follow";

/** An open regular file. */
export interface OpenFile {
  /** Size when it was opened, bytes. */
  readonly sizeBytes: number;
  /** Last modification when it was opened, milliseconds since 1970. */
  readonly modifiedMs: number;
  /** Permission bits (`st_mode & 0o7777`). */
  readonly mode: number;
  /**
   * Reads up to `length` bytes at `position` of the file into `bytes[start…]`.
   *
   * @returns Bytes read; less than asked only at the end of the file.
   * @throws {SystemError}
   */
  read(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): number;
  /**
   * Reads up to `length` bytes at `position` into pieces of `pieceBytes`, the first at `start`, each next one
   * `strideBytes` behind the one before; what lies between the pieces is not touched.
   *
   * @returns Bytes read; less than asked only at the end of the file. @throws {SystemError}
   */
  readPieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): number;
  /** Writes all of `bytes[start, start + length)` at `position`. @throws {SystemError} */
  write(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): void;
  /** The reverse of {@linkcode readPieces}: writes `length` bytes gathered from pieces. @throws {SystemError} */
  writePieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): void;
  /** Tells the kernel what will happen to a range; silently nothing where it cannot be told. */
  advise(advice: "sequential" | "will-need" | "dont-need", position: number, length: number): void;
  /** Idempotent. */
  close(): void;
}

/**
 * A new file that is not visible under its name until {@linkcode PendingFile.commit}. Closing it before that discards it.
 */
export interface PendingFile extends OpenFile {
  /** Reserves space. @throws {SystemError} `ENOSPC` when there is none; other refusals are ignored. */
  reserve(length: number): void;
  /** Size so far: the highest byte written. */
  readonly writtenBytes: number;
  /**
   * Brings what was written to the disk, on another thread: a disk may take seconds, and the caller has others to serve.
   * A {@linkcode PendingFile.commit} with `sync` soon after it waits for little.
   *
   * @throws {SystemError} When the disk refused; nothing is left behind then.
   */
  flush(): Promise<void>;
  /**
   * Makes it visible, atomically, under its name, and closes it.
   *
   * @param options `replace`: an existing file gives way; otherwise `EEXIST`. `sync`: data and directory are on disk
   * when it returns.
   * @throws {SystemError} Nothing is left behind then.
   */
  commit(options: { readonly replace: boolean; readonly sync: boolean }): void;
  /**
   * Removes every trace; idempotent, and harmless after a commit.
   *
   * @param options `keep`: what was written stays, under the hidden name it has, for somebody to look at. Default false.
   */
  discard(options?: { readonly keep: boolean }): void;
}

/** A directory beneath which files are opened; held open, so renaming it does not move it away. */
export interface RootDirectory {
  /** What its files and paths can do. */
  readonly traits: FileTraits;
  /** Its absolute path when it was opened. */
  readonly path: string;
  /**
   * Opens a regular file for reading.
   *
   * @param path Relative, `/`-separated, no empty, `.` or `..` component, no NUL; bytes that are not UTF-8 are passed
   * as they are when given as `Uint8Array`.
   * @throws {SystemError} `ENOENT`, `EACCES`, `ELOOP` (a link that is refused), `EXDEV` (a link that leads outside),
   * `EISDIR`, `ENOTREG` → reported as `EACCES` (a device, pipe or socket).
   * @throws {TypeError} For a path that breaks the rules above.
   */
  openRead(path: string | Uint8Array, options: { readonly symlinks: Symlinks }): OpenFile;
  /**
   * Starts a new file in the directory that `path` names. Invisible until committed. @throws {SystemError} as above,
   * and `EROFS`, `ENOSPC`, `EDQUOT`.
   */
  create(
    path: string | Uint8Array,
    options: {
      readonly symlinks: Symlinks;
      readonly mode: number;
      readonly makeDirectories: boolean;
    },
  ): PendingFile;
  /**
   * Whether a file of that name is there, of any kind: the last component is not followed when it is a link. `symlinks`
   * is for the way there; default `inside`. False, too, where the way does not lead anywhere or may not be gone.
   */
  exists(path: string | Uint8Array, options?: { readonly symlinks: Symlinks }): boolean;
  /**
   * Names in a directory beneath the root, for look-ups without regard to case; `""` is the root itself. Names that are
   * not UTF-8 are left out. Default for `symlinks`: `inside`. @throws {SystemError}
   */
  list(path: string, options?: { readonly symlinks: Symlinks }): readonly string[];
  /**
   * Last modification of a directory, milliseconds since 1970 with fractions: what {@linkcode list} said holds while it
   * does not change. Default for `symlinks`: `inside`. @throws {SystemError}
   */
  listModifiedMs(path: string, options?: { readonly symlinks: Symlinks }): number;
  /** Bytes an unprivileged writer may still use on its file system. */
  freeBytes(): number;
  /** Idempotent. */
  close(): void;
}

/** How to open a root. */
export interface RootOptions {
  /** Default `auto`. */
  readonly driver?: Driver;
}

/**
 * Opens a directory as a root. May be called on any thread; what it answers stays on that thread.
 *
 * @param path An existing directory; links on the way to it are followed.
 * @throws {SystemError} When it is not there, not a directory, or may not be read.
 * @throws {CapabilityError} `ffi.driver-unavailable` with `driver: "fast"` when the kernel's driver is not available.
 */
export async function openRoot(path: string, options: RootOptions = {}): Promise<RootDirectory> {
  const driver = options.driver ?? "auto";
  if (resolveDriver(driver, ["ffi"]).use === "fast") {
    try {
      const { openLinuxRoot } = await import("./file_linux.ts");
      return openLinuxRoot(path);
    } catch (error) {
      // A C library without one of the functions that are needed here; nothing was opened yet.
      if (driver === "fast" || !(error instanceof CapabilityError)) throw error;
    }
  }
  const { openNodeRoot } = await import("./file_node.ts");
  return openNodeRoot(path);
}
