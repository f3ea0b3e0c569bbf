/**
 * Readiness through the runtime's event loop, for descriptors it cannot watch itself (UDP sockets of our own, netlink,
 * eventfds): something in the kernel writes to a pipe when a descriptor is ready, and the runtime can watch pipes.
 *
 * Two mechanisms, one contract: `uring` chains a write behind a poll in an io_uring, so no thread is involved; `worker`
 * is a thread asleep in `epoll_wait`, for kernels and containers without io_uring.
 *
 * @module
 */
import { Socket } from "node:net";
import type { Worker } from "node:worker_threads";
import { CapabilityError } from "../internal/errors.ts";
import {
  EFD_CLOEXEC,
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLIN,
  EPOLLONESHOT,
  EPOLLOUT,
  F_DUPFD_CLOEXEC,
  F_GETFD,
  POLLIN,
  POLLOUT,
} from "./constants_linux.ts";
import { EEXIST, systemError } from "./errno.ts";
import { openPipe } from "./fd_linux.ts";
import { openRing, type PollRing } from "./io_uring_linux.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";
import type { PollWorkerData } from "./poll_worker.ts";
import type { Reactor, Watch } from "./reactor.ts";
import { openWorker } from "./worker.ts";
import { EPOLL_EVENT } from "./structs_linux.ts";

/**
 * Opens a reactor whose callbacks come from the runtime's event loop. One serves any number of descriptors.
 *
 * @param kind `auto` takes io_uring where it works, else the worker.
 * @throws {CapabilityError} `ffi.no-uring` for `uring` where the kernel has none; `ffi.no-worker` where the thread
 * cannot be started, for example without read permission for its file; `ffi.no-libc` without a C library.
 * @throws {SystemError} When the process has no descriptors left.
 */
export async function openReactor(kind: "auto" | "uring" | "worker" = "auto"): Promise<Reactor> {
  const library = requireLibc();
  let why = "it was not asked for";
  if (kind !== "worker") {
    const ring = openRing(library);
    if (typeof ring !== "string") return new UringReactor(library, ring);
    why = ring;
    if (kind === "uring") {
      throw new CapabilityError("ffi.no-uring", `Cannot open an io_uring reactor: ${why}`, {
        capability: "ioUring",
        why,
        remedy: 'use reactor "auto" or "worker"',
      });
    }
  }
  const reactor = new WorkerReactor(library);
  try {
    await reactor.started();
  } catch (cause) {
    const why = `its thread cannot be started (${
      cause instanceof Error ? cause.message : String(cause)
    })`;
    throw new CapabilityError("ffi.no-worker", `Cannot open a polling reactor: ${why}`, {
      capability: "bridge",
      why,
      remedy: 'grant read access to the package\'s files (--allow-read), or use driver "portable"',
      cause,
    });
  }
  return reactor;
}

/** What both mechanisms share: slots, and the pipe in the event loop. */
abstract class PipeReactor implements Reactor {
  abstract readonly kind: "uring" | "worker";
  protected readonly library: Libc;
  protected readonly pipe: number;
  protected closed = false;
  readonly #slots: (PipeWatch | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #socket: Socket;
  #watches = 0;
  #wantsRef = true;

  constructor(library: Libc) {
    this.library = library;
    const [readEnd, writeEnd] = openPipe(library);
    this.pipe = writeEnd;
    // The socket owns the reading end from here on.
    this.#socket = new Socket({ fd: readEnd, readable: true, writable: false });
    this.#socket.on("error", () => {}); // comes only from destroying it
    this.#socket.on("data", (chunk: Uint8Array) => {
      if (!this.closed) this.woken(chunk);
    });
    this.#socket.unref();
  }

  watch(descriptor: number, interest: "read" | "write", ready: () => void): Watch {
    if (this.closed) throw new TypeError("Cannot watch a descriptor: the reactor is closed");
    if (this.library.fcntl(descriptor, F_GETFD, 0) < 0) {
      throw systemError("fcntl", this.library.errno(), `watch descriptor ${descriptor}`);
    }
    const slot = this.#free.pop() ?? this.#slots.length;
    const watch = new PipeWatch(this, descriptor, interest, slot, ready);
    this.#slots[slot] = watch;
    if (++this.#watches === 1 && this.#wantsRef) this.#socket.ref();
    try {
      this.armed(watch);
    } catch (error) {
      watch.state = "cancelled";
      this.forget(watch);
      throw error;
    }
    return watch;
  }

  ref(): void {
    this.#wantsRef = true;
    if (this.#watches > 0 && !this.closed) this.#socket.ref();
  }

  unref(): void {
    this.#wantsRef = false;
    this.#socket.unref();
  }

  close(): Promise<void> {
    if (this.closed) return Promise.resolve();
    for (const watch of this.#slots) watch?.cancel();
    this.closed = true;
    const gone = new Promise<void>((resolve) => this.#socket.once("close", () => resolve()));
    this.#socket.destroy();
    return Promise.all([gone, this.release()]).then(() => {
      this.library.close(this.pipe);
    });
  }

  /** Ask the mechanism for one notice about this watch. @ignore */
  abstract armed(watch: PipeWatch): void;
  /** Take back what was asked for. @ignore */
  abstract disarmed(watch: PipeWatch): void;
  /** Something was written to the pipe. */
  protected abstract woken(chunk: Uint8Array): void;
  /** Free the mechanism. */
  protected abstract release(): Promise<void>;

  /** Frees the slot. @ignore */
  forget(watch: PipeWatch): void {
    this.#slots[watch.slot] = undefined;
    this.#free.push(watch.slot);
    if (--this.#watches === 0) this.#socket.unref();
  }

  /** A watch is ready. Notices of watches that are gone or have been cancelled are told by their generation. */
  protected readonly notify = (slot: number, generation: number): void => {
    const watch = this.#slots[slot];
    if (watch === undefined || watch.generation !== generation || watch.state !== "armed") return;
    watch.state = "idle";
    try {
      watch.ready();
    } catch (error) {
      // Thrown from here it would take the notices behind it along.
      queueMicrotask(() => {
        throw error;
      });
    }
  };
}

class PipeWatch implements Watch {
  state: "armed" | "idle" | "cancelled" = "armed";
  /** What the mechanism knows: 0 nothing yet. */
  registered = 0;
  /** Tells this watch from an earlier one with the same slot; never 0. */
  readonly generation: number = generations = (generations % 0xffff_ffff) + 1;

  constructor(
    readonly reactor: PipeReactor,
    public descriptor: number,
    readonly interest: "read" | "write",
    readonly slot: number,
    readonly ready: () => void,
  ) {}

  arm(): void {
    if (this.state !== "idle") return;
    this.state = "armed";
    this.reactor.armed(this);
  }

  cancel(): void {
    if (this.state === "cancelled") return;
    this.reactor.disarmed(this);
    this.state = "cancelled";
    this.reactor.forget(this);
  }
}

class UringReactor extends PipeReactor {
  readonly kind = "uring";
  readonly #ring: PollRing;
  #inside = false;

  constructor(library: Libc, ring: PollRing) {
    super(library);
    this.#ring = ring;
  }

  armed(watch: PipeWatch): void {
    const events = watch.interest === "read" ? POLLIN : POLLOUT;
    this.#ring.poll(watch.descriptor, events, this.pipe, watch.slot, watch.generation);
    // Watches armed by callbacks leave together, in one call.
    if (!this.#inside) this.#ring.submit();
  }

  disarmed(watch: PipeWatch): void {
    if (watch.state !== "armed") return;
    this.#ring.remove(watch.slot, watch.generation);
    // At once: until then the kernel holds the file, and its port, even if the descriptor is closed.
    this.#ring.submit();
  }

  protected woken(): void {
    this.#inside = true;
    this.#ring.reap(this.notify);
    this.#inside = false;
    if (!this.closed) this.#ring.submit();
  }

  protected release(): Promise<void> {
    this.#ring.close();
    return Promise.resolve();
  }
}

class WorkerReactor extends PipeReactor {
  readonly kind = "worker";
  readonly #epoll: number;
  readonly #stop: number;
  #worker: Worker | undefined;
  #exited: Promise<void> = Promise.resolve();
  readonly #change = new DataView(new ArrayBuffer(EPOLL_EVENT.size));
  readonly #copies = new Map<PipeWatch, number>();
  /** Bytes of a notice whose rest has not arrived, and how many. */
  readonly #carry = new Uint8Array(8);
  #carried = 0;

  constructor(library: Libc) {
    super(library);
    this.#epoll = library.epoll_create1(EPOLL_CLOEXEC);
    this.#stop = library.eventfd(0, EFD_CLOEXEC);
    if (this.#epoll < 0 || this.#stop < 0) {
      throw systemError("epoll_create1", library.errno(), "watch descriptors");
    }
    this.#control(EPOLL_CTL_ADD, this.#stop, EPOLLIN, 0, 0);
  }

  /** Starts the thread; settles when it polls. @throws {Error} Whatever stopped it; everything is closed then. */
  async started(): Promise<void> {
    try {
      const data: PollWorkerData = { epoll: this.#epoll, pipe: this.pipe, stop: this.#stop };
      const worker = openWorker(new URL("./poll_worker.ts", import.meta.url), data);
      this.#worker = worker;
      this.#exited = new Promise((resolve) => worker.once("exit", () => resolve()));
      await new Promise<void>((resolve, reject) => {
        worker.once("message", () => resolve());
        worker.once("error", reject);
      });
      // Whether the process stays alive is for the pipe to say.
      worker.unref();
    } catch (error) {
      await this.close();
      throw error;
    }
  }

  armed(watch: PipeWatch): void {
    const events = (watch.interest === "read" ? EPOLLIN : EPOLLOUT) | EPOLLONESHOT;
    const { slot, generation } = watch;
    if (watch.registered !== 0) {
      if (this.#control(EPOLL_CTL_MOD, watch.descriptor, events, slot, generation)) return;
    } else {
      if (this.#control(EPOLL_CTL_ADD, watch.descriptor, events, slot, generation)) {
        watch.registered = 1;
        return;
      }
      if (this.library.errno() === EEXIST) {
        // The set holds a descriptor once. A second watch uses a second number for the same file.
        const copy = this.library.fcntl(watch.descriptor, F_DUPFD_CLOEXEC, 0);
        if (copy >= 0) {
          this.#copies.set(watch, copy);
          watch.descriptor = copy;
          if (this.#control(EPOLL_CTL_ADD, copy, events, slot, generation)) {
            watch.registered = 1;
            return;
          }
        }
      }
    }
    const errno = this.library.errno();
    throw systemError("epoll_ctl", errno, `watch descriptor ${watch.descriptor}`);
  }

  disarmed(watch: PipeWatch): void {
    // A refusal means that the descriptor was closed first, which removed it as well.
    if (watch.registered !== 0) this.#control(EPOLL_CTL_DEL, watch.descriptor, 0, 0, 0);
    const copy = this.#copies.get(watch);
    if (copy !== undefined) {
      this.#copies.delete(watch);
      this.library.close(copy);
    }
  }

  protected woken(chunk: Uint8Array): void {
    let at = 0;
    while (this.#carried > 0 && at < chunk.length) {
      this.#carry[this.#carried++] = chunk[at++]!;
      if (this.#carried < 8) continue;
      this.#carried = 0;
      this.notify(word(this.#carry, 0), word(this.#carry, 4));
    }
    for (; at + 8 <= chunk.length; at += 8) {
      this.notify(word(chunk, at), word(chunk, at + 4));
      if (this.closed) return;
    }
    while (at < chunk.length) this.#carry[this.#carried++] = chunk[at++]!;
  }

  protected async release(): Promise<void> {
    this.#worker?.ref();
    this.library.write(this.#stop, ONE, 8n);
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, STOP_MS));
    await Promise.race([this.#exited, late]);
    clearTimeout(timer);
    await this.#worker?.terminate();
    this.library.close(this.#epoll);
    this.library.close(this.#stop);
  }

  #control(
    operation: number,
    descriptor: number,
    events: number,
    slot: number,
    generation: number,
  ): boolean {
    const change = this.#change;
    change.setUint32(EPOLL_EVENT.events, events, true);
    change.setUint32(EPOLL_EVENT.data, slot, true);
    change.setUint32(EPOLL_EVENT.data + 4, generation, true);
    return this.library.epoll_ctl(this.#epoll, operation, descriptor, change) === 0;
  }
}

function word(bytes: Uint8Array, at: number): number {
  return (bytes[at]! | bytes[at + 1]! << 8 | bytes[at + 2]! << 16 | bytes[at + 3]! << 24) >>> 0;
}

let generations = 0;

/** How long the thread may take to leave before it is terminated. */
const STOP_MS = 200;
const ONE: BigUint64Array<ArrayBuffer> = new BigUint64Array([1n]);
