/**
 * Pipes that carry bytes between two sockets inside the kernel.
 *
 * @module
 */
import { F_SETPIPE_SZ, O_CLOEXEC, O_NONBLOCK } from "./constants_linux.ts";
import { processDescriptors } from "./descriptors.ts";
import type { Libc } from "./libc_linux.ts";

/** Both ends of a pipe. */
export interface Pipe {
  readonly readEnd: number;
  readonly writeEnd: number;
}

/**
 * Empty pipes to borrow. One with bytes left in it is never lent again: they would reach a stranger.
 *
 * A pipe is as large as one megabyte where the system lets it: 250 ms of processor a gigabyte, against 550 ms with
 * 256 KiB (docs/adr/0022). The system bounds what a user's pipes may hold together
 * (`/proc/sys/fs/pipe-user-pages-soft`, pipe(7)); beyond it they stay small and work.
 *
 * Half of the descriptors a process may have are left to sockets: a relay does without a pipe, a client does not without
 * its destination.
 */
export class PipePool {
  readonly #library: Libc;
  readonly #idle: Pipe[] = [];
  readonly #ends = new Int32Array(new ArrayBuffer(8));
  /** A pipe whose number is above is given up: numbers are given out from below, so there are as many descriptors. */
  readonly #highest: number;
  #lent = 0;

  /**
   * Begins with none.
   *
   * @param library The C library of this thread.
   * @param limit How many descriptors the process may have; default what the system says.
   */
  constructor(library: Libc, limit: number = processDescriptors.limit() ?? Infinity) {
    this.#library = library;
    this.#highest = limit / 2;
  }

  /** Pipes that are lent. */
  get lent(): number {
    return this.#lent;
  }

  /** An empty pipe; `undefined` when the process has no descriptors left for one. */
  take(): Pipe | undefined {
    let pipe = this.#idle.pop();
    if (pipe === undefined) {
      const library = this.#library;
      if (library.pipe2(this.#ends, O_CLOEXEC | O_NONBLOCK) < 0) return undefined;
      pipe = { readEnd: this.#ends[0]!, writeEnd: this.#ends[1]! };
      if (this.#isHigh(pipe)) {
        this.#close(pipe);
        return undefined;
      }
      // Refused, it has the size it was made with.
      library.fcntl(pipe.writeEnd, F_SETPIPE_SZ, PIPE_BYTES);
    }
    this.#lent++;
    return pipe;
  }

  /** Takes a pipe back. @param empty Whether nothing is left in it. */
  give(pipe: Pipe, empty: boolean): void {
    this.#lent--;
    const keep = empty && this.#idle.length < MOST_IDLE && !this.#isHigh(pipe);
    if (keep) this.#idle.push(pipe);
    else this.#close(pipe);
  }

  /** Closes the pipes that are not lent. */
  close(): void {
    for (const pipe of this.#idle.splice(0)) this.#close(pipe);
  }

  #isHigh({ readEnd, writeEnd }: Pipe): boolean {
    return readEnd > this.#highest || writeEnd > this.#highest;
  }

  #close(pipe: Pipe): void {
    this.#library.close(pipe.readEnd);
    this.#library.close(pipe.writeEnd);
  }
}

/** Bytes a pipe is asked to hold, and one splice moves at most. */
export const PIPE_BYTES: number = 1 << 20;
/** Idle pipes kept, of two descriptors each, and never more than half of what the process may have. */
const MOST_IDLE = 32;
