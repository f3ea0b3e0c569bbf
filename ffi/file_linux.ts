/**
 * Files through the C library: the kernel's driver.
 *
 * A path is walked by the kernel in one step and cannot leave the root, whatever somebody does to the tree meanwhile.
 * Where `openat2` is missing or forbidden it is walked one component at a time in directories held open, and no link is
 * followed unless all are.
 *
 * @module
 */
import { BeneathOpener } from "./beneath_linux.ts";
import {
  AT_FDCWD,
  O_CLOEXEC,
  O_CREAT,
  O_DIRECTORY,
  O_EXCL,
  O_NOCTTY,
  O_NOFOLLOW,
  O_NONBLOCK,
  O_PATH,
  O_RDONLY,
  O_RDWR,
  S_IFDIR,
  S_IFMT,
  S_IFREG,
} from "./constants_linux.ts";
import { EACCES, EEXIST, EINTR, EISDIR, ENOENT, fromRuntimeError, systemError } from "./errno.ts";
import type { FileTraits, OpenFile, PendingFile, RootDirectory, Symlinks } from "./file.ts";
import {
  checkRelativePath,
  decodeName,
  directoryMode,
  partName,
  quotePath,
  splitPath,
} from "./file_arguments.ts";
import { IovecPlans } from "./iovec_linux.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";
import { LinuxFile, LinuxPendingFile } from "./open_file_linux.ts";
import { STATVFS } from "./structs_linux.ts";

/** How to open a root with this driver. */
export interface LinuxRootOptions {
  /**
   * Do without `openat2` and `renameat2`, as on an older kernel: walk paths one component at a time, take names by hard
   * links. For tests; default false.
   */
  readonly older?: boolean;
}

/**
 * Opens a root.
 *
 * @throws {CapabilityError} `ffi.no-libc`, when there is no C library to call.
 * @throws {SystemError}
 */
export function openLinuxRoot(path: string, options: LinuxRootOptions = {}): RootDirectory {
  const libc = requireLibc();
  const what = `open directory ${quotePath(path)}`;
  let real: string;
  try {
    // Through the runtime, so that its permission to read is honoured: the calls below would not ask.
    real = Deno.realPathSync(path);
  } catch (error) {
    throw fromRuntimeError(error, "realpath", what);
  }
  const opener = new BeneathOpener(libc, options.older ?? false);
  const flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK;
  const descriptor = opener.open(AT_FDCWD, real, flags, "follow", what);
  return new LinuxRoot(opener, descriptor, real, options.older ?? false);
}

class LinuxRoot implements RootDirectory {
  readonly traits: FileTraits;
  readonly path: string;
  readonly #libc: Libc;
  readonly #opener: BeneathOpener;
  readonly #plans: IovecPlans;
  readonly #older: boolean;
  #descriptor: number;

  constructor(opener: BeneathOpener, descriptor: number, path: string, older: boolean) {
    this.#older = older;
    this.#opener = opener;
    this.#libc = opener.libc;
    this.#plans = new IovecPlans(opener.libc);
    this.#descriptor = descriptor;
    this.path = path;
    this.traits = Object.freeze({
      driver: "linux",
      beneath: opener.atomic,
      vectored: true,
      advice: true,
      rawNames: true,
    });
  }

  openRead(path: string | Uint8Array, options: { readonly symlinks: Symlinks }): OpenFile {
    checkRelativePath(path);
    const what = `open ${quotePath(path)}`;
    const root = this.#requireOpen(what);
    // O_NONBLOCK: opening a pipe must not wait for somebody to write to it.
    const flags = O_RDONLY | O_NONBLOCK | O_NOCTTY;
    const descriptor = this.#opener.tryOpen(root, path, flags, options.symlinks);
    if (descriptor < 0) {
      // A socket, or a device without a driver: not a regular file.
      const errno = descriptor === -ENXIO ? EACCES : -descriptor;
      throw systemError(this.traits.beneath ? "openat2" : "openat", errno, what);
    }
    try {
      const status = this.#opener.status(descriptor, what);
      const type = status.mode & S_IFMT;
      if (type !== S_IFREG) throw systemError("openat2", type === S_IFDIR ? EISDIR : EACCES, what);
      return new LinuxFile(this.#libc, this.#plans, descriptor, status, what);
    } catch (error) {
      this.#libc.close(descriptor);
      throw error;
    }
  }

  create(
    path: string | Uint8Array,
    options: {
      readonly symlinks: Symlinks;
      readonly mode: number;
      readonly makeDirectories: boolean;
    },
  ): PendingFile {
    checkRelativePath(path);
    const what = `create ${quotePath(path)}`;
    const { directory: parentPath, name } = splitPath(path);
    const directory = this.#openParent(parentPath, options, what);
    const part = terminated(partName(name));
    const flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW;
    let descriptor: number;
    for (;;) {
      // Nobody else may look at it before it is complete; its own mode comes with its own name.
      descriptor = this.#libc.openat(directory, part, flags, 0o600);
      if (descriptor >= 0) break;
      const errno = this.#libc.errno();
      if (errno === EINTR) continue;
      this.#libc.close(directory);
      throw systemError("openat", errno, what);
    }
    try {
      const status = this.#opener.status(descriptor, what);
      const target = terminated(name);
      const place = { directory, part, target, mode: options.mode, linked: this.#older };
      return new LinuxPendingFile(this.#libc, this.#plans, descriptor, status, what, place);
    } catch (error) {
      this.#libc.unlinkat(directory, part, 0);
      this.#libc.close(descriptor);
      this.#libc.close(directory);
      throw error;
    }
  }

  exists(path: string | Uint8Array, options?: { readonly symlinks: Symlinks }): boolean {
    checkRelativePath(path);
    const root = this.#requireOpen("look for a file");
    const symlinks = options?.symlinks ?? "inside";
    const found = this.#opener.tryOpen(root, path, O_PATH | O_NOFOLLOW, symlinks);
    if (found < 0) return false;
    this.#libc.close(found);
    return true;
  }

  list(path: string, options?: { readonly symlinks: Symlinks }): readonly string[] {
    return this.#inDirectory(path, options, (descriptor, what) => {
      const names: string[] = [];
      const bytes = new Uint8Array(new ArrayBuffer(LIST_BYTES));
      const view = new DataView(bytes.buffer);
      const address = this.#libc.addressOf(bytes);
      for (;;) {
        const filled = Number(
          this.#libc.syscall(
            SYS_GETDENTS64,
            BigInt(descriptor),
            address,
            BigInt(LIST_BYTES),
            0n,
            0n,
            0n,
          ),
        );
        if (filled < 0) throw systemError("getdents64", this.#libc.errno(), what);
        if (filled === 0) return names;
        for (let at = 0; at < filled; at += view.getUint16(at + DIRENT_LENGTH, true)) {
          const start = at + DIRENT_NAME;
          const name = decodeName(bytes.subarray(start, bytes.indexOf(0, start)));
          if (name !== undefined && name !== "." && name !== "..") names.push(name);
        }
      }
    });
  }

  listModifiedMs(path: string, options?: { readonly symlinks: Symlinks }): number {
    return this.#inDirectory(
      path,
      options,
      (descriptor, what) => this.#opener.status(descriptor, what).modifiedMs,
    );
  }

  freeBytes(): number {
    const what = "measure free space";
    const bytes = new Uint8Array(new ArrayBuffer(STATVFS.size));
    if (this.#libc.fstatvfs(this.#requireOpen(what), bytes) !== 0) {
      throw systemError("fstatvfs", this.#libc.errno(), what);
    }
    const view = new DataView(bytes.buffer);
    const blocks = Number(view.getBigUint64(STATVFS.bavail, true));
    return blocks * Number(view.getBigUint64(STATVFS.frsize, true));
  }

  close(): void {
    if (this.#descriptor < 0) return;
    this.#libc.close(this.#descriptor);
    this.#descriptor = -1;
  }

  #inDirectory<T>(
    path: string,
    options: { readonly symlinks: Symlinks } | undefined,
    use: (descriptor: number, what: string) => T,
  ): T {
    if (path !== "") checkRelativePath(path);
    const what = `list ${quotePath(path)}`;
    const flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK;
    const symlinks = options?.symlinks ?? "inside";
    const descriptor = this.#opener.open(this.#requireOpen(what), path, flags, symlinks, what);
    try {
      return use(descriptor, what);
    } finally {
      this.#libc.close(descriptor);
    }
  }

  // The directory a new file goes to, made with everything above it when that is wanted.
  #openParent(
    path: Uint8Array<ArrayBuffer>,
    options: {
      readonly symlinks: Symlinks;
      readonly mode: number;
      readonly makeDirectories: boolean;
    },
    what: string,
  ): number {
    const root = this.#requireOpen(what);
    const flags = O_RDONLY | O_DIRECTORY | O_NONBLOCK;
    const opened = this.#opener.tryOpen(root, path, flags, options.symlinks);
    if (opened >= 0) return opened;
    if (opened !== -ENOENT || !options.makeDirectories) {
      throw systemError("openat2", -opened, what);
    }
    const { directory, name } = splitPath(path);
    const above = this.#openParent(directory, options, what);
    const failed = this.#libc.mkdirat(above, terminated(name), directoryMode(options.mode)) !== 0;
    const errno = failed ? this.#libc.errno() : 0;
    this.#libc.close(above);
    // EEXIST: another upload was quicker.
    if (failed && errno !== EEXIST) throw systemError("mkdirat", errno, what);
    return this.#opener.open(root, path, flags, options.symlinks, what);
  }

  #requireOpen(what: string): number {
    if (this.#descriptor < 0) throw new TypeError(`Cannot ${what}: the root is closed`);
    return this.#descriptor;
  }
}

function terminated(name: Uint8Array): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(name.length + 1);
  bytes.set(name);
  return bytes;
}

/** What one call that lists a directory may fill: about 300 to 1000 names. */
const LIST_BYTES = 32768;
/** `struct linux_dirent64`, getdents(2): the distance to the next entry, and where the name starts. */
const DIRENT_LENGTH = 16;
const DIRENT_NAME = 19;
/** `<asm/unistd.h>`. */
const SYS_GETDENTS64: bigint = Deno.build.arch === "aarch64" ? 61n : 217n;
/** `<asm-generic/errno-base.h>`. */
const ENXIO = 6;
