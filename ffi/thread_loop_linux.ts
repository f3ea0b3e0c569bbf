/**
 * Readiness for a thread that owns itself: it sleeps in `epoll_wait` until something is ready or it is woken.
 *
 * @module
 */
import {
  EFD_CLOEXEC,
  EFD_NONBLOCK,
  EPOLL_CLOEXEC,
  EPOLL_CTL_ADD,
  EPOLL_CTL_DEL,
  EPOLL_CTL_MOD,
  EPOLLET,
  EPOLLIN,
  EPOLLOUT,
  EPOLLRDHUP,
  F_DUPFD_CLOEXEC,
} from "./constants_linux.ts";
import { EEXIST, EINTR, systemError } from "./errno.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";
import { CALM, type Reactor, type Watch } from "./reactor.ts";
import { EPOLL_EVENT, TIMESPEC } from "./structs_linux.ts";

/** Who is told about a descriptor that is watched by {@linkcode ThreadLoop.watchEdges}. */
export interface EdgeListener {
  /** Something changed. @param events `EPOLLIN`, `EPOLLOUT`, `EPOLLRDHUP`, `EPOLLHUP`, `EPOLLERR` as they are now. */
  edge(events: number): void;
}

/** A descriptor watched by {@linkcode ThreadLoop.watchEdges}. */
export interface EdgeWatch {
  /** Tells the listener once more, in the next turn, if there is anything to tell: for one that stopped to be fair. */
  again(): void;
  /** Stops watching; idempotent. To be called before the descriptor is closed. */
  cancel(): void;
  /** The same for a descriptor that is closed right away and has no second number: the kernel forgets it by itself. */
  close(): void;
}

/** A callback of {@linkcode ThreadLoop.every}. */
export interface Tick {
  /** Milliseconds between two calls. */
  readonly everyMs: number;
  /** Ends it; idempotent. */
  cancel(): void;
}

/**
 * A reactor whose callbacks run inside {@linkcode ThreadLoop.turn}, on the thread that calls it.
 *
 * Descriptors stay registered, level-triggered: a watch that arms itself again in its callback costs no system call. One
 * that does not is taken out of the kernel's set before the next sleep, which a ready descriptor nobody drains would end.
 *
 * An error or a hang-up of the descriptor counts as ready, whatever the interest.
 */
export class ThreadLoop implements Reactor {
  readonly kind = "thread";
  /** An eventfd: eight bytes holding 1, written by any thread of the process, end the current turn. */
  readonly wakeDescriptor: number;

  readonly #library: Libc;
  readonly #epoll: number;
  readonly #slots: (LoopWatch | undefined)[] = [undefined]; // slot 0 is the eventfd
  readonly #free: number[] = [];
  // The kernel reads and writes these during calls: explicit buffers, held for as long as their addresses.
  readonly #events = new DataView(new ArrayBuffer(EVENTS * EPOLL_EVENT.size));
  readonly #eventsAddress: bigint;
  readonly #timeout = new BigInt64Array(new ArrayBuffer(TIMESPEC.size));
  readonly #timeoutAddress: bigint;
  readonly #change = new DataView(new ArrayBuffer(EPOLL_EVENT.size));
  readonly #counter = new BigUint64Array(new ArrayBuffer(8));
  /**
   * Entries of the kernel's set, by descriptor, that nobody wants any more. They go before the next sleep: in between
   * the descriptor is often watched anew, which then changes the entry, or closed.
   */
  readonly #leaving = new Map<number, LoopWatch>();
  /** Replaced, never changed: one that runs may cancel another. */
  #ticks: readonly LoopTick[] = [];
  #closed = false;
  /** Callbacks of the last turn that were {@linkcode CALM}; those for {@linkcode watchEdges} always are. */
  calm = 0;

  /** @throws {SystemError} When the process has no descriptors left. @throws {CapabilityError} Without a C library. */
  constructor() {
    const library = requireLibc();
    this.#library = library;
    this.#eventsAddress = library.addressOf(this.#events);
    this.#timeoutAddress = library.addressOf(this.#timeout);
    this.#epoll = library.epoll_create1(EPOLL_CLOEXEC);
    if (this.#epoll < 0) throw systemError("epoll_create1", library.errno(), "watch descriptors");
    this.wakeDescriptor = library.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    this.#change.setUint32(EPOLL_EVENT.events, EPOLLIN, true); // slot 0 of generation 0
    if (
      this.wakeDescriptor < 0 ||
      library.epoll_ctl(this.#epoll, EPOLL_CTL_ADD, this.wakeDescriptor, this.#change) < 0
    ) {
      const errno = library.errno();
      library.close(this.#epoll);
      if (this.wakeDescriptor >= 0) library.close(this.wakeDescriptor);
      throw systemError("eventfd", errno, "watch descriptors");
    }
  }

  /**
   * Starts watching, armed.
   *
   * @throws {SystemError} When the kernel cannot watch the descriptor: `EBADF`, or `EPERM` for a regular file.
   * @throws {TypeError} When the loop is closed.
   */
  watch(descriptor: number, interest: "read" | "write", ready: () => unknown): Watch {
    if (this.#closed) throw new TypeError("Cannot watch a descriptor: the reactor is closed");
    const slot = this.#free.pop() ?? this.#slots.length;
    const events = interest === "read" ? EPOLLIN : EPOLLOUT;
    const watch = new LoopWatch(this, descriptor, events, slot, ready, undefined);
    this.#slots[slot] = watch;
    try {
      this.enter(watch);
    } catch (error) {
      this.leave(watch);
      throw error;
    }
    return watch;
  }

  /**
   * Watches both directions of a descriptor, edge-triggered: it is entered once and costs no further call. The listener
   * must go on until the kernel answers `EAGAIN`. The descriptor must not be watched otherwise.
   *
   * @throws {SystemError} When the kernel cannot watch the descriptor. @throws {TypeError} When the loop is closed.
   */
  watchEdges(descriptor: number, listener: EdgeListener): EdgeWatch {
    if (this.#closed) throw new TypeError("Cannot watch a descriptor: the reactor is closed");
    const slot = this.#free.pop() ?? this.#slots.length;
    const watch = new LoopWatch(this, descriptor, EDGES, slot, nobody, listener);
    this.#slots[slot] = watch;
    if (this.#enter(watch)) return watch;
    const errno = this.#library.errno();
    this.leave(watch);
    throw systemError("epoll_ctl", errno, `watch descriptor ${descriptor}`);
  }

  /**
   * Calls back at the end of a turn about every `everyMs` milliseconds, ending the sleep for it. For coarse limits; what
   * is due sooner belongs to the caller's own deadlines.
   */
  every(everyMs: number, call: () => void): Tick {
    const tick: LoopTick = {
      everyMs,
      call,
      next: performance.now() + everyMs,
      cancel: () => {
        this.#ticks = this.#ticks.filter((other) => other !== tick);
      },
    };
    this.#ticks = [...this.#ticks, tick];
    return tick;
  }

  /**
   * Sleeps until a watched descriptor is ready, the loop is woken, or `maxWaitMs` have passed, then calls back. Blocks
   * the thread.
   *
   * @param maxWaitMs 0 looks without sleeping; fractions count; `Infinity` waits for a wake-up.
   * @returns How many callbacks ran.
   * @throws Whatever a callback throws; the callbacks behind it come at the next turn.
   */
  turn(maxWaitMs: number): number {
    if (this.#closed) return 0;
    this.calm = 0;
    const found = this.#wait(this.#ticks.length === 0 ? maxWaitMs : this.#untilTick(maxWaitMs));
    let served = 0;
    let calls = 0;
    try {
      while (served < found) calls += this.#serve(served++);
    } finally {
      // Only after a callback threw is something left: what is level-triggered comes again by itself.
      for (; served < found; served++) this.#repeatEdge(served);
    }
    if (this.#ticks.length > 0) this.#runTicks();
    return calls;
  }

  /** The loop's epoll set: readable when a turn would find something. Valid after {@linkcode settle}. */
  get descriptor(): number {
    return this.#epoll;
  }

  /** Milliseconds until a callback of {@linkcode every} is due; `Infinity` without one. */
  get nextTickMs(): number {
    return this.#untilTick(Infinity);
  }

  /** Takes out of the set what nobody waits for any more, which {@linkcode turn} does before it sleeps. */
  settle(): void {
    if (this.#leaving.size > 0) this.#removeLeaving();
  }

  /** Ends the current or next {@linkcode turn}. For the loop's own thread; others write to {@linkcode wakeDescriptor}. */
  wake(): void {
    if (!this.#closed) this.#library.write(this.wakeDescriptor, ONE, 8n);
  }

  /** Nothing: the thread lives for as long as its loop does. */
  ref(): void {}

  /** Nothing; see {@linkcode ref}. */
  unref(): void {}

  /** Cancels everything and closes the loop's own descriptors. Idempotent. */
  close(): Promise<void> {
    if (!this.#closed) {
      for (const watch of this.#slots) watch?.cancel();
      this.#closed = true;
      this.#library.close(this.#epoll);
      this.#library.close(this.wakeDescriptor);
    }
    return Promise.resolve();
  }

  /** Puts a watch into the kernel's set. For {@linkcode LoopWatch} only. @ignore */
  enter(watch: LoopWatch): void {
    if (this.#enter(watch)) return;
    const library = this.#library;
    let errno = library.errno();
    if (errno === EEXIST) {
      // The set holds a descriptor once. Somebody else watches this one: a second watch uses a second number for it.
      const copy = library.fcntl(watch.descriptor, F_DUPFD_CLOEXEC, 0);
      if (copy >= 0) {
        watch.copy = watch.descriptor = copy;
        if (this.#enter(watch)) return;
      }
      errno = library.errno();
    }
    throw systemError("epoll_ctl", errno, `watch descriptor ${watch.descriptor}`);
  }

  /** Has an edge reported again. For {@linkcode LoopWatch} only. @ignore */
  repeat(watch: LoopWatch): void {
    // Changing an entry makes the kernel look at the descriptor afresh (epoll_ctl(2), EPOLLET).
    this.#control(EPOLL_CTL_MOD, watch);
  }

  /** Forgets a watch. For {@linkcode LoopWatch} only. @ignore */
  leave(watch: LoopWatch): void {
    if (this.#slots[watch.slot] !== watch) return;
    if (watch.copy >= 0) {
      // At once: the entry would outlive the number, because the file stays open.
      this.#remove(watch);
      this.#library.close(watch.copy);
    } else if (watch.inKernel) this.#leaving.set(watch.descriptor, watch);
    this.#slots[watch.slot] = undefined;
    this.#free.push(watch.slot);
  }

  /** Serves one event of the turn. @returns How many callbacks ran. */
  #serve(event: number): number {
    const events = this.#events;
    const at = event * EPOLL_EVENT.size;
    const slot = events.getUint32(at + EPOLL_EVENT.data, true);
    if (slot === 0) {
      this.#library.read(this.wakeDescriptor, this.#counter, 8n);
      return 0;
    }
    const watch = this.#slots[slot];
    // An earlier callback of this turn may have cancelled the watch, and another taken over its slot.
    if (watch?.generation !== events.getUint32(at + EPOLL_EVENT.data + 4, true)) return 0;
    if (watch.listener !== undefined) {
      this.calm++;
      watch.listener.edge(events.getUint32(at + EPOLL_EVENT.events, true));
      return 1;
    }
    const { armed } = watch;
    if (armed) {
      watch.armed = false;
      if (watch.ready() === CALM) this.calm++;
    }
    if (!watch.armed && watch.inKernel) this.#leaving.set(watch.descriptor, watch);
    return armed ? 1 : 0;
  }

  /** An edge is told once: one that nobody served has to be asked for anew. */
  #repeatEdge(event: number): void {
    const at = event * EPOLL_EVENT.size + EPOLL_EVENT.data;
    const watch = this.#slots[this.#events.getUint32(at, true)];
    if (watch?.generation !== this.#events.getUint32(at + 4, true)) return;
    if (watch.listener !== undefined) watch.again();
  }

  #untilTick(maxWaitMs: number): number {
    let next = Infinity;
    for (const tick of this.#ticks) next = Math.min(next, tick.next);
    return Math.min(maxWaitMs, Math.max(0, next - performance.now()));
  }

  #runTicks(): void {
    const now = performance.now();
    for (const tick of this.#ticks) {
      if (now < tick.next) continue;
      tick.next = now + tick.everyMs;
      tick.call();
    }
  }

  /** Puts a watch into the kernel's set, in the place of one that leaves. @returns False when the kernel refused. */
  #enter(watch: LoopWatch): boolean {
    const old = this.#leaving.get(watch.descriptor);
    if (old !== undefined) {
      this.#leaving.delete(watch.descriptor);
      old.inKernel = false;
      // Refused when the number is another file's by now.
      if (this.#control(EPOLL_CTL_MOD, watch)) return watch.inKernel = true;
    }
    return watch.inKernel = this.#control(EPOLL_CTL_ADD, watch);
  }

  #control(operation: number, { descriptor, events, slot, generation }: LoopWatch): boolean {
    const change = this.#change;
    change.setUint32(EPOLL_EVENT.events, events, true);
    change.setUint32(EPOLL_EVENT.data, slot, true);
    change.setUint32(EPOLL_EVENT.data + 4, generation, true);
    return this.#library.epoll_ctl(this.#epoll, operation, descriptor, change) === 0;
  }

  #remove(watch: LoopWatch): void {
    watch.inKernel = false;
    // A refusal means that the descriptor was closed first, which removed it as well.
    this.#library.epoll_ctl(this.#epoll, EPOLL_CTL_DEL, watch.descriptor, this.#change);
  }

  #removeLeaving(): void {
    for (const watch of this.#leaving.values()) {
      // Armed again it stays; cancelled it is never armed.
      if (watch.inKernel && !watch.armed) this.#remove(watch);
    }
    this.#leaving.clear();
  }

  #wait(maxWaitMs: number): number {
    const library = this.#library;
    if (this.#leaving.size > 0) this.#removeLeaving();
    let found: number;
    if (maxWaitMs > 0 && maxWaitMs < FINE_MS && library.epoll_pwait2 !== null) {
      // Pacing needs waits below a millisecond, which epoll_wait cannot express.
      this.#timeout[1] = BigInt(Math.ceil(maxWaitMs * 1e6));
      found = library.epoll_pwait2(
        this.#epoll,
        this.#eventsAddress,
        EVENTS,
        this.#timeoutAddress,
        0n,
      );
    } else {
      const wait = maxWaitMs >= 0x7fffffff ? -1 : maxWaitMs > 0 ? Math.ceil(maxWaitMs) : 0;
      found = library.epoll_wait(this.#epoll, this.#eventsAddress, EVENTS, wait);
    }
    if (found >= 0) return found;
    const errno = library.errno();
    if (errno === EINTR) return 0;
    throw systemError("epoll_wait", errno, "wait for readiness");
  }
}

class LoopWatch implements Watch, EdgeWatch {
  armed = true;
  cancelled = false;
  /** Whether the kernel's set holds it; it may stay there unarmed until the loop sleeps. */
  inKernel = false;
  /** A descriptor of our own, when the given one was taken; −1 otherwise. */
  copy = -1;
  /** Tells this watch from an earlier one with the same slot. */
  readonly generation: number = generations = (generations + 1) >>> 0;

  constructor(
    readonly loop: ThreadLoop,
    public descriptor: number,
    readonly events: number,
    readonly slot: number,
    readonly ready: () => unknown,
    readonly listener: EdgeListener | undefined,
  ) {}

  again(): void {
    if (!this.cancelled) this.loop.repeat(this);
  }

  arm(): void {
    if (this.armed || this.cancelled) return;
    this.armed = true;
    if (!this.inKernel) this.loop.enter(this);
  }

  cancel(): void {
    this.armed = false;
    this.cancelled = true;
    this.loop.leave(this);
  }

  close(): void {
    this.inKernel = false;
    this.cancel();
  }
}

// Only has to differ between two users of one slot.
let generations = 0;

interface LoopTick extends Tick {
  readonly call: () => void;
  next: number;
}

/** What an edge-triggered watch is told; errors and hang-ups come unasked. */
const EDGES: number = (EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET) >>> 0;
function nobody(): void {}

/** Events one epoll_wait can report; what does not fit comes with the next. */
const EVENTS = 256;
/** Waits below this go through epoll_pwait2, in nanoseconds; one second, so that the seconds stay 0. */
const FINE_MS = 1000;
const ONE: BigUint64Array<ArrayBuffer> = new BigUint64Array([1n]);
