/**
 * Opening beneath a directory: `openat2` where the kernel has it, else one component at a time.
 *
 * @module
 */
import {
  AT_EMPTY_PATH,
  AT_FDCWD,
  O_CLOEXEC,
  O_DIRECTORY,
  O_NOFOLLOW,
  O_PATH,
  RESOLVE_BENEATH,
  RESOLVE_NO_MAGICLINKS,
  RESOLVE_NO_SYMLINKS,
  S_IFLNK,
  S_IFMT,
  STATX_BASIC_STATS,
  SYS_openat2,
} from "./constants_linux.ts";
import {
  EAGAIN,
  EINTR,
  EINVAL,
  ELOOP,
  ENAMETOOLONG,
  ENOSYS,
  ENOTDIR,
  EPERM,
  systemError,
} from "./errno.ts";
import type { Symlinks } from "./file.ts";
import type { Libc } from "./libc_linux.ts";
import { OPEN_HOW, STATX } from "./structs_linux.ts";

/** What `statx` tells about an open file. */
export interface FileStatus {
  /** `st_mode`: type and permission bits. */
  readonly mode: number;
  readonly sizeBytes: number;
  /** Milliseconds since 1970, with fractions. */
  readonly modifiedMs: number;
}

/** Opens paths beneath directories, for one thread. */
export class BeneathOpener {
  readonly libc: Libc;
  /** Whether a walk is one atomic call of the kernel. */
  readonly atomic: boolean;
  // Paths and structs are handed over by address: one explicit buffer, held here.
  readonly #scratch: ArrayBuffer = new ArrayBuffer(PATH_AT + PATH_BYTES);
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #path: Uint8Array<ArrayBuffer>;
  readonly #stat: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #address: bigint;
  readonly #pathAddress: bigint;

  /**
   * @param walk Do without `openat2`, as on a kernel that lacks it or a sandbox that forbids it.
   * @throws {CapabilityError} When the C library lacks something.
   */
  constructor(libc: Libc, walk: boolean) {
    this.libc = libc;
    this.#bytes = new Uint8Array(this.#scratch);
    this.#path = new Uint8Array(this.#scratch, PATH_AT);
    this.#stat = new Uint8Array(this.#scratch, STATX_AT, STATX.size);
    this.#view = new DataView(this.#scratch);
    this.#address = libc.addressOf(this.#scratch);
    this.#pathAddress = this.#address + BigInt(PATH_AT);
    this.atomic = !walk && this.#probe();
  }

  /**
   * Opens `path` beneath `directory`; the empty path is the directory itself.
   *
   * @param flags Besides O_CLOEXEC.
   * @param what For the message; see `systemError()`.
   * @returns The descriptor.
   * @throws {SystemError}
   */
  open(
    directory: number,
    path: string | Uint8Array,
    flags: number,
    symlinks: Symlinks,
    what: string,
  ): number {
    const opened = this.tryOpen(directory, path, flags, symlinks);
    if (opened < 0) throw systemError(this.atomic ? "openat2" : "openat", -opened, what);
    return opened;
  }

  /** The same without an exception: the negative error number. */
  tryOpen(
    directory: number,
    path: string | Uint8Array,
    flags: number,
    symlinks: Symlinks,
  ): number {
    if (this.atomic) return this.#openAtOnce(directory, path, flags, symlinks);
    if (symlinks === "follow") {
      this.#putPath(path.length === 0 ? "." : path);
      return this.#openat(directory, flags);
    }
    return this.#walk(directory, path, flags);
  }

  /** What an open descriptor refers to. @throws {SystemError} */
  status(descriptor: number, what: string): FileStatus {
    const { statx } = this.libc;
    this.#path[0] = 0;
    if (statx!(descriptor, this.#path, AT_EMPTY_PATH, STATX_BASIC_STATS, this.#stat) !== 0) {
      throw systemError("statx", this.libc.errno(), what);
    }
    const view = this.#view;
    const seconds = u64(view, STATX_AT + STATX.mtime_sec);
    return {
      mode: view.getUint16(STATX_AT + STATX.mode, true),
      sizeBytes: u64(view, STATX_AT + STATX.size_),
      modifiedMs: seconds * 1000 + view.getUint32(STATX_AT + STATX.mtime_nsec, true) / 1e6,
    };
  }

  // Tries the real thing: a sandbox that filters calls answers ENOSYS or EPERM, an old kernel ENOSYS.
  #probe(): boolean {
    const opened = this.#openAtOnce(AT_FDCWD, ".", O_PATH | O_DIRECTORY, "inside");
    if (opened < 0) return opened !== -ENOSYS && opened !== -EPERM && opened !== -EINVAL;
    this.libc.close(opened);
    return true;
  }

  #openAtOnce(
    directory: number,
    path: string | Uint8Array,
    flags: number,
    symlinks: Symlinks,
  ): number {
    if (!this.#putPath(path.length === 0 ? "." : path)) return -ENAMETOOLONG;
    const view = this.#view;
    const all = flags | O_CLOEXEC;
    view.setUint32(OPEN_HOW.flags, all >>> 0, true);
    view.setUint32(OPEN_HOW.resolve, RESOLVE[symlinks], true);
    const directoryArgument = BigInt(directory);
    // EAGAIN: the tree changed during the walk and the kernel cannot be sure it stayed beneath; try again, with a bound
    // because somebody may be changing it on purpose.
    for (let left = 16;;) {
      const result = Number(this.libc.syscall(
        SYS_openat2,
        directoryArgument,
        this.#pathAddress,
        this.#address,
        OPEN_HOW_SIZE,
        0n,
        0n,
      ));
      if (result >= 0) return result;
      const errno = this.libc.errno();
      if (errno === EINTR) continue;
      if (errno !== EAGAIN || --left === 0) return -errno;
    }
  }

  // One component at a time, none of them a link: what is opened is what was looked up in the directory held open.
  #walk(directory: number, path: string | Uint8Array, flags: number): number {
    const bytes = typeof path === "string" ? encoder.encode(path) : path;
    if (bytes.length >= PATH_BYTES) return -ENAMETOOLONG;
    let current = directory;
    let opened = -1;
    for (let start = 0;;) {
      const slash = bytes.indexOf(SLASH, start);
      const last = slash < 0;
      const component = bytes.subarray(start, last ? bytes.length : slash);
      this.#putPath(component.length === 0 ? "." : component);
      const wanted = last ? flags | O_NOFOLLOW : O_PATH | O_DIRECTORY | O_NOFOLLOW;
      opened = this.#openat(current, wanted);
      // O_DIRECTORY looks before O_NOFOLLOW does: a link on the way is reported as "not a directory".
      if (opened === -ENOTDIR && this.#isLink(current)) opened = -ELOOP;
      if (current !== directory) this.libc.close(current);
      if (last || opened < 0) return opened;
      current = opened;
      start = slash + 1;
    }
  }

  #openat(directory: number, flags: number): number {
    for (;;) {
      const opened = this.libc.openat(directory, this.#path, flags | O_CLOEXEC, 0);
      if (opened >= 0) return opened;
      const errno = this.libc.errno();
      if (errno !== EINTR) return -errno;
    }
  }

  // Whether the path in the scratch buffer names a link in `directory`.
  #isLink(directory: number): boolean {
    const opened = this.#openat(directory, O_PATH | O_NOFOLLOW);
    if (opened < 0) return false;
    try {
      return (this.status(opened, "look at a component").mode & S_IFMT) === S_IFLNK;
    } finally {
      this.libc.close(opened);
    }
  }

  // Writes the path and its final NUL; false when it is longer than any path may be.
  #putPath(path: string | Uint8Array): boolean {
    let length: number;
    if (typeof path === "string") {
      const { read, written } = encoder.encodeInto(path, this.#path);
      if (read < path.length) return false;
      length = written;
    } else {
      if (path.length > PATH_BYTES) return false;
      this.#path.set(path);
      length = path.length;
    }
    if (length >= PATH_BYTES) return false;
    this.#bytes[PATH_AT + length] = 0;
    return true;
  }
}

// A 64-bit field as a number: sizes and times are far below 2^53.
function u64(view: DataView, at: number): number {
  return view.getInt32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

const encoder = new TextEncoder();
const SLASH = 0x2f;
/** `PATH_MAX`, `<linux/limits.h>`, its NUL included. */
const PATH_BYTES = 4096;
const STATX_AT = 64;
const PATH_AT = 512;
const OPEN_HOW_SIZE = BigInt(OPEN_HOW.size);
const RESOLVE: Readonly<Record<Symlinks, number>> = {
  deny: RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS,
  inside: RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
  follow: 0,
};
