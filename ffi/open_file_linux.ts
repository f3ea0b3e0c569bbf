/**
 * Open files of the kernel's driver: `preadv` and `pwritev` over rows that are written once.
 *
 * @module
 */
import {
  FALLOC_FL_KEEP_SIZE,
  POSIX_FADV_DONTNEED,
  POSIX_FADV_SEQUENTIAL,
  POSIX_FADV_WILLNEED,
  RENAME_NOREPLACE,
} from "./constants_linux.ts";
import {
  EBADF,
  EDQUOT,
  EFBIG,
  EINTR,
  EINVAL,
  EIO,
  ENOSPC,
  ENOSYS,
  EROFS,
  systemError,
} from "./errno.ts";
import type { FileStatus } from "./beneath_linux.ts";
import type { OpenFile, PendingFile } from "./file.ts";
import { checkPieces } from "./file_arguments.ts";
import type { IovecPlans } from "./iovec_linux.ts";
import type { Libc } from "./libc_linux.ts";

type Vectored = Libc["preadv"];
type Plain = Libc["preadAt"];

/** A regular file. */
export class LinuxFile implements OpenFile {
  readonly sizeBytes: number;
  readonly modifiedMs: number;
  readonly mode: number;
  /** −1 once closed. */
  protected descriptor: number;
  protected readonly libc: Libc;
  protected readonly what: string;
  readonly #plans: IovecPlans;
  // A position as the 64-bit argument of a call: written as two halves, read as one, so that no BigInt is made.
  readonly #position: BigInt64Array<ArrayBuffer> = new BigInt64Array(new ArrayBuffer(8));
  readonly #halves: Uint32Array<ArrayBuffer> = new Uint32Array(this.#position.buffer);
  readonly #preadv: Vectored;
  readonly #pwritev: Vectored;

  /** @param descriptor Becomes this object's. */
  constructor(
    libc: Libc,
    plans: IovecPlans,
    descriptor: number,
    status: FileStatus,
    what: string,
  ) {
    this.libc = libc;
    this.#plans = plans;
    this.descriptor = descriptor;
    this.what = what;
    this.sizeBytes = status.sizeBytes;
    this.modifiedMs = status.modifiedMs;
    this.mode = status.mode & 0o7777;
    this.#preadv = libc.preadv;
    this.#pwritev = libc.pwritev;
  }

  read(bytes: Uint8Array<ArrayBuffer>, start: number, length: number, position: number): number {
    return this.readPieces(bytes, start, length, length, length, position);
  }

  readPieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): number {
    return this.#move(
      this.#preadv,
      this.libc.preadAt,
      "preadv",
      bytes,
      start,
      pieceBytes,
      strideBytes,
      length,
      position,
    );
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
    const moved = this.#move(
      this.#pwritev,
      this.libc.pwriteAt,
      "pwritev",
      bytes,
      start,
      pieceBytes,
      strideBytes,
      length,
      position,
    );
    // A write that moves nothing and names no reason does not happen to regular files; it must not loop if it does.
    if (moved < length) throw systemError("pwritev", EIO, this.what);
  }

  advise(advice: "sequential" | "will-need" | "dont-need", position: number, length: number): void {
    this.requireOpen();
    this.libc.posix_fadvise(this.descriptor, BigInt(position), BigInt(length), ADVICE[advice]);
  }

  close(): void {
    if (this.descriptor < 0) return;
    const descriptor = this.descriptor;
    this.descriptor = -1;
    this.libc.close(descriptor);
  }

  protected requireOpen(): void {
    if (this.descriptor < 0) throw systemError("preadv", EBADF, this.what);
  }

  // Moves `length` bytes between the file and pieces, in as few calls as the kernel allows: one, as long as there are at
  // most 1024 pieces and no signal and no end of file comes between.
  #move(
    vectored: Vectored,
    plain: Plain,
    name: string,
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): number {
    this.requireOpen();
    if (length <= 0) return 0;
    checkPieces(bytes, start, pieceBytes, strideBytes, length);
    const address = this.#plans.addressOf(bytes, start);
    // One piece needs no hole: any plan will do, and files read whole must not each leave one behind.
    const plan = length <= pieceBytes
      ? this.#plans.planFor(WHOLE_BYTES, WHOLE_BYTES)
      : this.#plans.planFor(pieceBytes, strideBytes);
    for (let done = 0;;) {
      const piece = Math.floor(done / pieceBytes);
      const within = done - piece * pieceBytes;
      this.#setPosition(position + done);
      let moved: number;
      if (within > 0) {
        // A call ended inside a piece: finish it alone, so that the next one starts at a piece again.
        moved = plain(
          this.descriptor,
          BigInt(address + piece * strideBytes + within),
          BigInt(Math.min(pieceBytes - within, length - done)),
          this.#position[0]!,
        );
      } else {
        const entries = plan.describe(address + piece * strideBytes, length - done);
        moved = vectored(this.descriptor, plan.address, entries, this.#position[0]!);
      }
      if (moved > 0) {
        done += moved;
        if (done === length) return done;
      } else if (moved === 0) {
        return done;
      } else {
        const errno = this.libc.errno();
        if (errno !== EINTR) throw systemError(name, errno, this.what);
      }
    }
  }

  #setPosition(position: number): void {
    this.#halves[0] = position;
    this.#halves[1] = position / 0x1_0000_0000;
  }
}

/** Where an unfinished file is and what becomes of it. Names end in NUL. */
export interface PendingPlace {
  /** The directory, held open; becomes the file's. */
  readonly directory: number;
  readonly part: Uint8Array<ArrayBuffer>;
  readonly target: Uint8Array<ArrayBuffer>;
  /** Permission bits when it is complete. */
  readonly mode: number;
  /** Take the name by a hard link although the kernel may have `renameat2`. */
  readonly linked: boolean;
}

/** A file that is written under a hidden name. */
export class LinuxPendingFile extends LinuxFile implements PendingFile {
  #written = 0;
  #reserved = 0;
  readonly #place: PendingPlace;

  constructor(
    libc: Libc,
    plans: IovecPlans,
    descriptor: number,
    status: FileStatus,
    what: string,
    place: PendingPlace,
  ) {
    super(libc, plans, descriptor, status, what);
    this.#place = place;
  }

  get writtenBytes(): number {
    return this.#written;
  }

  reserve(length: number): void {
    this.requireOpen();
    if (length <= 0) return;
    for (;;) {
      const { descriptor } = this;
      if (this.libc.fallocate(descriptor, FALLOC_FL_KEEP_SIZE, 0n, BigInt(length)) === 0) break;
      const errno = this.libc.errno();
      if (errno === EINTR) continue;
      // Many file systems cannot reserve; those that can say when there is no room.
      if (errno === ENOSPC || errno === EDQUOT || errno === EFBIG) {
        throw systemError("fallocate", errno, this.what);
      }
      return;
    }
    this.#reserved = Math.max(this.#reserved, length);
  }

  override writePieces(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
    position: number,
  ): void {
    super.writePieces(bytes, start, pieceBytes, strideBytes, length, position);
    if (position + length > this.#written) this.#written = position + length;
  }

  async flush(): Promise<void> {
    this.requireOpen();
    const { descriptor } = this;
    // The kernel writes back the pages of the file, whoever asks: that the number may be closed meanwhile is harmless.
    if (await this.libc.fsyncElsewhere(descriptor) === 0) return;
    // The kernel tells each failure once and errno stayed on the other thread: a second call might succeed.
    this.discard();
    throw systemError("fsync", EIO, this.what);
  }

  commit(options: { readonly replace: boolean; readonly sync: boolean }): void {
    this.requireOpen();
    const { libc } = this;
    const { directory, mode } = this.#place;
    try {
      // What was reserved and not written is given back: it would stay allocated behind the end.
      if (this.#reserved > this.#written) {
        this.#check("ftruncate", libc.ftruncate(this.descriptor, BigInt(this.#written)));
      }
      this.#check("fchmod", libc.fchmod(this.descriptor, mode));
      if (options.sync) this.#check("fsync", libc.fsync(this.descriptor));
      if (options.replace) this.#replace();
      else this.#takeName();
    } catch (error) {
      this.discard();
      throw error;
    }
    super.close();
    const synced = options.sync ? libc.fsync(directory) : 0;
    const errno = synced === 0 ? 0 : libc.errno();
    libc.close(directory);
    // EINVAL and EROFS: a file system without a notion of it.
    if (errno !== 0 && errno !== EINVAL && errno !== EROFS) {
      throw systemError("fsync", errno, this.what);
    }
  }

  discard(options?: { readonly keep: boolean }): void {
    if (this.descriptor < 0) return;
    const { directory, part } = this.#place;
    if (options?.keep !== true) this.libc.unlinkat(directory, part, 0);
    super.close();
    this.libc.close(directory);
  }

  override close(): void {
    this.discard();
  }

  #replace(): void {
    const { directory, part, target } = this.#place;
    this.#check("renameat", this.libc.renameat(directory, part, directory, target));
  }

  #takeName(): void {
    const { libc } = this;
    const { directory, part, target, linked } = this.#place;
    const { renameat2 } = libc;
    if (renameat2 !== null && !linked) {
      if (renameat2(directory, part, directory, target, RENAME_NOREPLACE) === 0) return;
      const errno = libc.errno();
      // EINVAL: the file system does not know the flag.
      if (errno !== ENOSYS && errno !== EINVAL) throw systemError("renameat2", errno, this.what);
    }
    this.#check("linkat", libc.linkat(directory, part, directory, target, 0));
    libc.unlinkat(directory, part, 0);
  }

  #check(syscall: string, result: number): void {
    if (result !== 0) throw systemError(syscall, this.libc.errno(), this.what);
  }
}

const ADVICE = {
  "sequential": POSIX_FADV_SEQUENTIAL,
  "will-need": POSIX_FADV_WILLNEED,
  "dont-need": POSIX_FADV_DONTNEED,
} as const;
/** The piece of the plan for reads in one piece: as much as the kernel moves in one call, `MAX_RW_COUNT`. */
const WHOLE_BYTES = 0x7fff_f000;
