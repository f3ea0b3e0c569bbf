/**
 * Files through `node:fs`: the portable driver, on Deno and Node.
 *
 * There is no `openat` here, so a path is walked by name: every component is looked at before the file is opened and
 * again behind it, and must be the same both times. What remains is a narrow race with somebody who swaps a directory
 * for a link and back between two looks; therefore links are never followed unless `symlinks` says `follow`. A root that
 * is renamed while open is lost, for the same reason.
 *
 * @module
 */
import {
  type BigIntStats,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsync,
  fsyncSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readSync,
  realpathSync,
  renameSync,
  statfsSync,
  statSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import type { SystemError } from "../internal/errors.ts";
import {
  EACCES,
  EBADF,
  EEXIST,
  EINVAL,
  EISDIR,
  ELOOP,
  ENOENT,
  ENOSPC,
  ENOTDIR,
  fromRuntimeError,
  systemError,
} from "./errno.ts";
import type { FileTraits, OpenFile, PendingFile, RootDirectory, Symlinks } from "./file.ts";
import {
  checkPieces,
  checkRelativePath,
  decodeName,
  directoryMode,
  partName,
  quotePath,
  splitPath,
} from "./file_arguments.ts";

/** Opens a root. @throws {SystemError} */
export function openNodeRoot(path: string): RootDirectory {
  const what = `open directory ${quotePath(path)}`;
  const real = attempt("open", what, () => realpathSync(path));
  const stat = attempt("fstat", what, () => statSync(real));
  if (!stat.isDirectory()) throw systemError("open", ENOTDIR, what);
  return new NodeRoot(real);
}

class NodeRoot implements RootDirectory {
  readonly traits: FileTraits = Object.freeze({
    driver: "node",
    beneath: false,
    vectored: false,
    advice: false,
    rawNames: false,
  });
  readonly path: string;
  #closed = false;

  constructor(path: string) {
    this.path = path;
  }

  openRead(path: string | Uint8Array, options: { readonly symlinks: Symlinks }): OpenFile {
    const what = `open ${quotePath(path)}`;
    const steps = this.#steps(path, what);
    const full = steps.at(-1)!;
    const follow = options.symlinks === "follow";
    const before = follow ? [] : walk(steps, what);
    // A pipe would block the process and a device may do anything when opened: look first.
    requireRegular(
      follow ? attempt("stat", what, () => statSync(full, BIG)) : before.at(-1)!,
      what,
    );
    const flags = constants.O_RDONLY | NONBLOCK | (follow ? 0 : NOFOLLOW);
    const descriptor = attempt("open", what, () => openSync(full, flags));
    try {
      const stat = attempt("fstat", what, () => fstatSync(descriptor, BIG));
      requireRegular(stat, what);
      if (!follow) {
        const after = walk(steps, what);
        const moved = after.some((now, i) => !isSame(now, before[i]!));
        if (moved || !isSame(stat, after.at(-1)!)) throw systemError("open", ELOOP, what);
      }
      return new NodeFile(descriptor, stat, what);
    } catch (error) {
      closeSync(descriptor);
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
    const what = `create ${quotePath(path)}`;
    const steps = this.#steps(path, what);
    const follow = options.symlinks === "follow";
    let before: readonly BigIntStats[] = [];
    for (let i = 0; i < steps.length - 1; i++) {
      const step = steps[i]!;
      try {
        before = follow ? [statSync(step, BIG)] : [...before, lstatSync(step, BIG)];
      } catch (error) {
        const failure = fromRuntimeError(error, "lstat", what);
        if (failure.errno !== ENOENT || !options.makeDirectories) throw failure;
        try {
          mkdirSync(step, directoryMode(options.mode));
        } catch (error) {
          const failure = fromRuntimeError(error, "mkdir", what);
          // Another upload was quicker; the look below tells what it made.
          if (failure.errno !== EEXIST) throw failure;
        }
        before = [...before, attempt("lstat", what, () => lstatSync(step, BIG))];
      }
      requireDirectory(before.at(-1)!, what);
    }
    const { directory, name } = splitPath(path);
    const parent = directory.length === 0 ? this.path : steps.at(-2)!;
    const part = `${parent}/${decodeName(partName(name))}`;
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_EXCL | NOFOLLOW;
    const descriptor = attempt("open", what, () => openSync(part, flags, 0o600));
    const discard = (): void => {
      closeSync(descriptor);
      unlinkSync(part);
    };
    try {
      const stat = attempt("fstat", what, () => fstatSync(descriptor, BIG));
      if (!follow) {
        const after = walk([...steps.slice(0, -1), part], what);
        const moved = before.some((then, i) => !isSame(then, after[i]!));
        if (moved || !isSame(stat, after.at(-1)!)) throw systemError("open", ELOOP, what);
      }
      return new NodePendingFile(descriptor, stat, what, {
        part,
        target: steps.at(-1)!,
        parent,
        mode: options.mode,
      });
    } catch (error) {
      discard();
      throw error;
    }
  }

  exists(path: string | Uint8Array, options?: { readonly symlinks: Symlinks }): boolean {
    try {
      const what = `look for ${quotePath(path)}`;
      const steps = this.#steps(path, what);
      if (options?.symlinks !== "follow") walk(steps.slice(0, -1), what);
      attempt("lstat", what, () => lstatSync(steps.at(-1)!));
      return true;
    } catch (error) {
      if (error instanceof TypeError) throw error;
      return false;
    }
  }

  list(path: string, options?: { readonly symlinks: Symlinks }): readonly string[] {
    const { full, what } = this.#directory(path, options?.symlinks ?? "inside");
    return attempt("getdents", what, () => readdirSync(full)).filter((name) =>
      !name.includes("\ufffd")
    );
  }

  listModifiedMs(path: string, options?: { readonly symlinks: Symlinks }): number {
    const { full, what } = this.#directory(path, options?.symlinks ?? "inside");
    return attempt("stat", what, () => statSync(full)).mtimeMs;
  }

  freeBytes(): number {
    const what = "measure free space";
    this.#requireOpen(what);
    const stat = attempt("statvfs", what, () => statfsSync(this.path));
    return stat.bavail * stat.bsize;
  }

  close(): void {
    this.#closed = true;
  }

  #directory(path: string, symlinks: Symlinks): { full: string; what: string } {
    const what = `list ${quotePath(path)}`;
    if (path === "") {
      this.#requireOpen(what);
      return { full: this.path, what };
    }
    const steps = this.#steps(path, what);
    if (symlinks !== "follow") requireDirectory(walk(steps, what).at(-1)!, what);
    return { full: steps.at(-1)!, what };
  }

  // The full paths of every component, the file's own last.
  #steps(path: string | Uint8Array, what: string): readonly string[] {
    this.#requireOpen(what);
    checkRelativePath(path);
    const text = typeof path === "string" ? path : decodeName(path);
    // Handing the bytes over would open another name: the runtime reads them as UTF-8 with replacement.
    if (text === undefined) throw systemError("open", ENOENT, what);
    const steps: string[] = [];
    for (const component of text.split("/")) {
      steps.push(`${steps.at(-1) ?? (this.path === "/" ? "" : this.path)}/${component}`);
    }
    return steps;
  }

  #requireOpen(what: string): void {
    if (this.#closed) throw new TypeError(`Cannot ${what}: the root is closed`);
  }
}

class NodeFile implements OpenFile {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  readonly mode: number;
  protected descriptor: number;
  protected readonly what: string;
  // Where a window is put together; grows to the largest one.
  #scratch: Uint8Array<ArrayBuffer> = new Uint8Array(0);

  constructor(descriptor: number, stat: BigIntStats, what: string) {
    this.descriptor = descriptor;
    this.what = what;
    this.sizeBytes = Number(stat.size);
    this.modifiedMs = Number(stat.mtimeNs / 1000n) / 1000;
    this.mode = Number(stat.mode) & 0o7777;
  }

  read(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): number {
    this.requireOpen();
    if (length <= 0) return 0;
    checkPieces(bytes, start, length, length, length);
    let done = 0;
    while (done < length) {
      let n: number;
      try {
        n = readSync(this.descriptor, bytes, start + done, length - done, position + done);
      } catch (error) {
        throw fromRuntimeError(error, "read", this.what);
      }
      if (n === 0) break;
      done += n;
    }
    return done;
  }

  readPieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): number {
    if (length <= 0) return 0;
    checkPieces(bytes, start, pieceBytes, strideBytes, length);
    if (length <= pieceBytes || pieceBytes === strideBytes) {
      return this.read(bytes, start, length, position);
    }
    const scratch = this.#room(length);
    const done = this.read(scratch, 0, length, position);
    for (let from = 0, to = start; from < done; from += pieceBytes, to += strideBytes) {
      bytes.set(scratch.subarray(from, Math.min(done, from + pieceBytes)), to);
    }
    return done;
  }

  write(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): void {
    this.requireOpen();
    if (length <= 0) return;
    checkPieces(bytes, start, length, length, length);
    let done = 0;
    while (done < length) {
      try {
        done += writeSync(this.descriptor, bytes, start + done, length - done, position + done);
      } catch (error) {
        throw fromRuntimeError(error, "write", this.what);
      }
    }
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
    checkPieces(bytes, start, pieceBytes, strideBytes, length);
    if (length <= pieceBytes || pieceBytes === strideBytes) {
      return this.write(bytes, start, length, position);
    }
    const scratch = this.#room(length);
    for (let from = start, to = 0; to < length; from += strideBytes, to += pieceBytes) {
      scratch.set(bytes.subarray(from, from + Math.min(pieceBytes, length - to)), to);
    }
    this.write(scratch, 0, length, position);
  }

  advise(): void {
    this.requireOpen();
  }

  close(): void {
    if (this.descriptor < 0) return;
    const descriptor = this.descriptor;
    this.descriptor = -1;
    closeSync(descriptor);
  }

  protected requireOpen(): void {
    if (this.descriptor < 0) throw systemError("read", EBADF, this.what);
  }

  #room(length: number): Uint8Array<ArrayBuffer> {
    if (this.#scratch.length < length) this.#scratch = new Uint8Array(length);
    return this.#scratch;
  }
}

class NodePendingFile extends NodeFile implements PendingFile {
  #written = 0;
  readonly #place: {
    readonly part: string;
    readonly target: string;
    readonly parent: string;
    readonly mode: number;
  };

  constructor(
    descriptor: number,
    stat: BigIntStats,
    what: string,
    place: { part: string; target: string; parent: string; mode: number },
  ) {
    super(descriptor, stat, what);
    this.#place = place;
  }

  get writtenBytes(): number {
    return this.#written;
  }

  reserve(length: number): void {
    this.requireOpen();
    // There is no fallocate here: the best there is is to see that it would fit now, where one may look.
    let stat: { readonly bavail: number; readonly bsize: number };
    try {
      stat = statfsSync(this.#place.parent);
    } catch {
      return;
    }
    if (stat.bavail * stat.bsize < length) throw systemError("fallocate", ENOSPC, this.what);
  }

  override write(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    length: number,
    position: number,
  ): void {
    super.write(bytes, start, length, position);
    this.#written = Math.max(this.#written, position + length);
  }

  async flush(): Promise<void> {
    this.requireOpen();
    try {
      await new Promise<void>((resolve, reject) =>
        fsync(this.descriptor, (error) => error === null ? resolve() : reject(error))
      );
    } catch (error) {
      this.discard();
      throw fromRuntimeError(error, "fsync", this.what);
    }
  }

  commit(options: { readonly replace: boolean; readonly sync: boolean }): void {
    this.requireOpen();
    const { part, target, parent, mode } = this.#place;
    try {
      attempt("fchmod", this.what, () => fchmodSync(this.descriptor, mode));
      if (options.sync) attempt("fsync", this.what, () => fsyncSync(this.descriptor));
      if (options.replace) {
        attempt("rename", this.what, () => renameSync(part, target));
      } else {
        // A hard link fails when the name is taken, which is what a rename cannot be told to do here.
        attempt("link", this.what, () => linkSync(part, target));
        attempt("unlink", this.what, () => unlinkSync(part));
      }
    } catch (error) {
      this.discard();
      throw error;
    }
    super.close();
    if (options.sync) syncDirectory(parent, this.what);
  }

  discard(options?: { readonly keep: boolean }): void {
    if (this.descriptor < 0) return;
    super.close();
    if (options?.keep === true) return;
    try {
      unlinkSync(this.#place.part);
    } catch {
      // Somebody else removed it: there is no trace, which is what was asked for.
    }
  }

  override close(): void {
    this.discard();
  }
}

function attempt<T>(syscall: string, what: string, call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw fromRuntimeError(error, syscall, what);
  }
}

// Looks at every component; all but the last must be directories, and none a link.
function walk(steps: readonly string[], what: string): readonly BigIntStats[] {
  return steps.map((step, i) => {
    const stat = attempt("lstat", what, () => lstatSync(step, BIG));
    if (stat.isSymbolicLink()) throw systemError("open", ELOOP, what);
    if (i < steps.length - 1) requireDirectory(stat, what);
    return stat;
  });
}

function requireDirectory(stat: BigIntStats, what: string): void {
  if (stat.isSymbolicLink()) throw systemError("open", ELOOP, what);
  if (!stat.isDirectory()) throw systemError("open", ENOTDIR, what);
}

function requireRegular(stat: BigIntStats, what: string): void {
  if (stat.isDirectory()) throw systemError("open", EISDIR, what);
  if (!stat.isFile()) throw notRegular(what);
}

function notRegular(what: string): SystemError {
  return systemError("open", EACCES, what);
}

function isSame(a: BigIntStats, b: BigIntStats): boolean {
  return a.dev === b.dev && a.ino === b.ino;
}

// Windows cannot open a directory; its file system keeps names without being asked.
function syncDirectory(path: string, what: string): void {
  let descriptor: number;
  try {
    descriptor = openSync(path, constants.O_RDONLY);
  } catch {
    return;
  }
  try {
    fsyncSync(descriptor);
  } catch (error) {
    const failure = fromRuntimeError(error, "fsync", what);
    if (failure.errno !== EINVAL && failure.errno !== EBADF) throw failure;
  } finally {
    closeSync(descriptor);
  }
}

const BIG = { bigint: true } as const;
// Absent on Windows, where neither pipes nor links are opened by mistake this way.
const NONBLOCK: number = constants.O_NONBLOCK ?? 0;
const NOFOLLOW: number = constants.O_NOFOLLOW ?? 0;
