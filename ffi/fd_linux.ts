/**
 * Owning a descriptor.
 *
 * @module
 */
import { F_GETFD, F_SETFL, O_CLOEXEC, O_NONBLOCK } from "./constants_linux.ts";
import { systemError } from "./errno.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";

/** A descriptor with one owner. */
export class OwnedFd {
  #fd: number;
  readonly #library: Libc;

  /** @param fd An open descriptor that nobody else closes. */
  constructor(fd: number, library: Libc = requireLibc()) {
    if (!Number.isInteger(fd) || fd < 0) {
      throw new RangeError(`Cannot own descriptor ${fd}: expected an integer from 0`);
    }
    this.#fd = fd;
    this.#library = library;
  }

  /** The number. @throws {TypeError} After {@linkcode close}: the number may belong to somebody else by now. */
  get fd(): number {
    if (this.#fd < 0) throw new TypeError("Cannot use a descriptor: it is closed");
    return this.#fd;
  }

  /** Whether it was closed or released. */
  get closed(): boolean {
    return this.#fd < 0;
  }

  /** Gives the descriptor away: it stays open and belongs to the caller. @throws {TypeError} After {@linkcode close}. */
  release(): number {
    const fd = this.fd;
    this.#fd = -1;
    return fd;
  }

  /** Idempotent. What `close` answers is not looked at: on Linux the number is free even after an error. */
  close(): void {
    if (this.#fd < 0) return;
    const fd = this.#fd;
    this.#fd = -1;
    this.#library.close(fd);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * How many descriptors this process has open, for leak tests. Asks for each number up to `limit`, so nothing is opened
 * to count.
 *
 * @param limit Numbers to look at, from 0.
 */
export function countDescriptors(limit = 4096): number {
  const library = requireLibc();
  const { fcntl } = library;
  let count = 0;
  for (let fd = 0; fd < limit; fd++) if (fcntl(fd, F_GETFD, 0) >= 0) count++;
  return count;
}

/**
 * Opens a pipe. Its reading end does not block, so that the runtime's event loop can have it.
 *
 * @throws {SystemError} When the process has no descriptors left.
 */
export function openPipe(library: Libc): readonly [readEnd: number, writeEnd: number] {
  const ends = new Int32Array(new ArrayBuffer(8));
  if (library.pipe2(ends, O_CLOEXEC) < 0) {
    throw systemError("pipe2", library.errno(), "watch descriptors");
  }
  // Only this end: the worker's writes may wait, because a notice it could not write would be lost.
  library.fcntl(ends[0]!, F_SETFL, O_NONBLOCK);
  return [ends[0]!, ends[1]!];
}
