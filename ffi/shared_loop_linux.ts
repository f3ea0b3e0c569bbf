/**
 * A loop that sleeps in `epoll_wait` while there is traffic and in the runtime while there is none.
 *
 * Awake it takes a turn of a {@linkcode ThreadLoop} in each turn of the runtime's loop, between whose turns the promises
 * that callbacks made are settled. The runtime's own epoll set is watched like every other descriptor, so that a sleep
 * here ends when there is something to do there. Parked, the set is a descriptor among others in a bridge
 * (`reactor_linux.ts`), and the runtime sleeps as it would without all this: its timers are exact, and an idle process
 * does nothing.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { isMainThread } from "node:worker_threads";
import { EFD_CLOEXEC, EPOLL_CTL_DEL } from "./constants_linux.ts";
import { ENOENT } from "./errno.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";
import type { Reactor, Watch } from "./reactor.ts";
import { openReactor } from "./reactor_linux.ts";
import { LINGER_MS, type ReactorChoice, type SharedLoop } from "./shared_loop.ts";
import { EPOLL_EVENT } from "./structs_linux.ts";
import { type EdgeWatch, ThreadLoop } from "./thread_loop_linux.ts";

/** Opens one; see `openSharedLoop`. */
export async function openLinuxSharedLoop(): Promise<SharedLoop> {
  const library = requireLibc();
  // Looked for before ours is there to be found.
  const runtime = isMainThread ? runtimeSet(library) : -1;
  return new LinuxSharedLoop(await openReactor(), runtime);
}

/** What a host of the kernel's driver waits with. */
export interface ChosenReactor {
  readonly reactor: Reactor;
  /** The loop its descriptors are entered in, when that is a shared one: not the host's to close. */
  readonly shared: ThreadLoop | undefined;
}

/** A shared loop's, or a bridge of the host's own; throws as `openReactor`. */
export async function chooseReactor(choice: ReactorChoice): Promise<ChosenReactor> {
  if (typeof choice === "string") {
    return { reactor: await openReactor(choice), shared: undefined };
  }
  if (!(choice instanceof LinuxSharedLoop)) {
    throw new TypeError("Cannot wait with this loop: expected one that openSharedLoop opened");
  }
  return { reactor: choice.thread, shared: choice.thread };
}

/** One, with the loop that its hosts enter their descriptors in. */
export class LinuxSharedLoop implements SharedLoop {
  readonly kind = "thread";
  /** Where descriptors are entered. Its turns are this class's to take. */
  readonly thread: ThreadLoop = new ThreadLoop();
  parks = 0;

  readonly #bridge: Reactor;
  /** The runtime's own epoll set, −1 when it was not found. */
  readonly #runtime: number;
  readonly #door: Watch;
  #runtimeWatch: EdgeWatch | undefined;
  #runtimeReady = false;
  #parked = false;
  /** Turns in a row that found nothing. */
  #quiet = 0;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed: Promise<void> | undefined;

  /** @param bridge How the runtime is woken while this is parked; closed with it. */
  constructor(bridge: Reactor, runtime: number) {
    this.#bridge = bridge;
    this.#runtime = runtime;
    this.#parked = true;
    this.#door = bridge.watch(this.thread.descriptor, "read", this.#resume);
  }

  watch(descriptor: number, interest: "read" | "write", ready: () => unknown): Watch {
    return this.thread.watch(descriptor, interest, ready);
  }

  ref(): void {
    this.#bridge.ref();
  }

  unref(): void {
    this.#bridge.unref();
  }

  close(): Promise<void> {
    return this.#closed ??= this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    clearTimeout(this.#timer);
    this.#runtimeWatch?.cancel();
    this.#door.cancel();
    await this.#bridge.close();
    await this.thread.close();
  }

  readonly #run = (): void => {
    if (this.#closed !== undefined) return;
    const { thread } = this;
    this.#runtimeReady = false;
    let goOn = true;
    try {
      const startedAt = performance.now();
      let sleepMs = SLEEPS_MS[this.#quiet]!;
      for (;;) {
        let served = thread.turn(sleepMs);
        if (this.#runtimeReady) served--;
        if (served > 0) this.#quiet = 0;
        else if (sleepMs > 0) this.#quiet++;
        if (served <= 0 || this.#runtimeReady) break;
        // When all were calm nothing waits for the runtime. Otherwise something may, but what is ready here comes first, or
        // each of many events would be followed by a turn of the runtime.
        const calm = served === thread.calm;
        if (performance.now() - startedAt >= (calm ? CALM_MS : BUSY_MS)) break;
        sleepMs = calm ? SLEEPS_MS[0]! : 0;
      }
      // The runtime looks at its own set once in some sixty turns only, unless it sleeps.
      goOn = !this.#runtimeReady && this.#quiet < SLEEPS_MS.length;
    } finally {
      if (goOn) setImmediate(this.#run);
      else this.#park();
    }
  };

  #park(): void {
    if (this.#closed !== undefined) return;
    this.parks++;
    this.#runtimeWatch?.cancel();
    this.#runtimeWatch = undefined;
    this.thread.settle();
    this.#parked = true;
    const { nextTickMs } = this.thread;
    if (nextTickMs < Infinity) this.#timer = setTimeout(this.#resume, nextTickMs);
    this.#door.arm();
  }

  readonly #resume = (): void => {
    if (!this.#parked || this.#closed !== undefined) return;
    this.#parked = false;
    clearTimeout(this.#timer);
    this.#quiet = 0;
    if (this.#runtime >= 0) {
      this.#runtimeWatch = this.thread.watchEdges(this.#runtime, this.#runtimeListener);
    }
    this.#run();
  };

  readonly #runtimeListener = {
    edge: (): void => {
      this.#runtimeReady = true;
    },
  };
}

/**
 * The epoll set of the runtime's main thread: the first there is. A set is told from other descriptors by what it says to
 * taking out something that is not in it, which needs no permission and changes nothing.
 */
function runtimeSet(library: Libc): number {
  const stranger = library.eventfd(0, EFD_CLOEXEC);
  if (stranger < 0) return -1;
  const event = new DataView(new ArrayBuffer(EPOLL_EVENT.size));
  let found = -1;
  for (let fd = 3; fd < MOST_DESCRIPTORS && found < 0; fd++) {
    // EINVAL from what is no set, EBADF from what is not open (epoll_ctl(2)).
    const refused = library.epoll_ctl(fd, EPOLL_CTL_DEL, stranger, event) < 0;
    if (refused && library.errno() === ENOENT) found = fd;
  }
  library.close(stranger);
  return found;
}

/** The runtime's own come first. */
const MOST_DESCRIPTORS = 64;
/**
 * How long turns sleep at most, by how many in a row have found nothing; after the last the thread is left to the runtime.
 * The first is short: what callbacks have set off in the runtime does not always show in its set.
 */
const SLEEPS_MS: readonly number[] = [0.5, LINGER_MS];
/** How long turns follow one another without the runtime, when nothing waits for it, and when something may. */
const CALM_MS = LINGER_MS;
const BUSY_MS = 0.2;
