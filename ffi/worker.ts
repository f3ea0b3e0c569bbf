/**
 * A loop on a thread of its own, and how the two sides talk.
 *
 * Control messages (open, close, statistics) travel by `postMessage`. A thread asleep in a system call does not see
 * them, so posting also writes to the eventfd the thread announced; awake, the thread asks {@linkcode ThreadPort.pending}
 * and, if there is something, lets its event loop run with {@linkcode ThreadPort.drain}. Where there are no eventfds the
 * thread is an ordinary event loop and gets its messages like any other.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { type MessagePort, parentPort, Worker, workerData } from "node:worker_threads";

/** A running thread, seen from the one that started it. */
export interface Thread extends AsyncDisposable {
  /** Sends a message and wakes the thread. @throws {TypeError} After `close`. */
  post(message: unknown): void;
  /** Rejects when the thread throws, or ends without being asked. Never fulfils; need not be looked at. */
  readonly failed: Promise<never>;
  /**
   * Asks the thread to end, waits until it says so, but not longer than the bound, then terminates it. Idempotent; never
   * rejects.
   *
   * @returns Whether it ended by itself.
   */
  close(): Promise<boolean>;
}

/** How to start a thread. */
export interface ThreadOptions {
  /** Called with each message of the thread. */
  readonly onMessage?: (message: unknown) => void;
  /** How long `close` waits before it terminates the thread, milliseconds. Default 2000. */
  readonly stopMs?: number;
}

/** The thread's own side. */
export interface ThreadPort {
  /** What was given to {@linkcode startThread}. */
  readonly data: unknown;
  /** True as soon as the other side called `close`: end the loop, then call {@linkcode ThreadPort.done}. */
  readonly closing: boolean;
  /** Says that the loop is ready; {@linkcode startThread} settles. To be called once. @param wakeDescriptor An eventfd. */
  ready(wakeDescriptor?: number): void;
  /** Sets who is called with each message, and, with `undefined`, when `closing` became true. */
  onMessage(handler: (message: unknown) => void): void;
  /** Whether messages were posted that have not been handled. Costs an atomic load. */
  pending(): boolean;
  /**
   * Lets the event loop run until every message posted before the call, or meanwhile, was handled. Rejects with what a
   * handler threw: let it end the thread.
   */
  drain(): Promise<void>;
  /** Sends a message to the other side. */
  post(message: unknown): void;
  /** Last call: everything is released, the thread may be terminated. */
  done(): void;
}

/**
 * Starts a thread and waits until it is ready.
 *
 * @param url Always the literal `new URL("./x_worker.ts", import.meta.url)`, which packagers look for.
 * @param data Anything that can be cloned.
 * @throws {Error} Whatever the thread threw before it was ready; `TypeError` when it ended without a word.
 */
export async function startThread(
  url: URL,
  data: unknown,
  options: ThreadOptions = {},
): Promise<Thread> {
  const counts = new Int32Array(new SharedArrayBuffer(8));
  const worker = openWorker(url, { data, counts });
  let wake: Wake | undefined;
  let closed: Promise<boolean> | undefined;
  let finished = false;
  let fail!: (error: unknown) => void;
  const failed = new Promise<never>((_, reject) => fail = reject);
  failed.catch(() => {}); // not looking at it is allowed
  let end!: () => void;
  const ended = new Promise<void>((resolve) => end = resolve);
  let start!: (wakeDescriptor: number) => void;
  const started = new Promise<number>((resolve) => start = resolve);

  worker.on("message", (envelope: FromThread) => {
    if (envelope.kind === "message") options.onMessage?.(envelope.message);
    else if (envelope.kind === "ready") start(envelope.wakeDescriptor);
    else {
      finished = true;
      end();
    }
  });
  worker.on("error", (error) => {
    fail(error);
    end();
  });
  worker.on("exit", () => {
    if (!finished) fail(new TypeError("Cannot go on: the thread ended without being asked"));
    end();
  });

  const close = async (): Promise<boolean> => {
    Atomics.store(counts, CLOSING, 1);
    Atomics.add(counts, POSTED, 1);
    worker.postMessage({ kind: "close" } satisfies ToThread);
    wake?.signal();
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => {
      timer = setTimeout(resolve, options.stopMs ?? DEFAULT_STOP_MS);
    });
    await Promise.race([ended, late]);
    clearTimeout(timer);
    const itself = finished;
    finished = true; // from here on the end is no surprise
    await worker.terminate();
    wake?.close();
    return itself;
  };

  try {
    const wakeDescriptor = await Promise.race([started, failed]);
    if (wakeDescriptor >= 0) wake = await openWake(wakeDescriptor);
  } catch (error) {
    finished = true;
    await worker.terminate();
    throw error;
  }
  const thread: Thread = {
    post(message) {
      if (closed !== undefined) throw new TypeError("Cannot post to a thread: it is closed");
      // Counted before it is sent, so that the thread never sees a message it was not told to expect.
      Atomics.add(counts, POSTED, 1);
      worker.postMessage({ kind: "message", message } satisfies ToThread);
      wake?.signal();
    },
    failed,
    close: () => closed ??= close(),
    async [Symbol.asyncDispose]() {
      await thread.close();
    },
  };
  return thread;
}

/** The side of {@linkcode startThread}'s thread. @throws {TypeError} When this is not such a thread. */
export function threadPort(): ThreadPort {
  const given = workerData as ThreadData | null;
  if (parentPort === null || !(given?.counts instanceof Int32Array)) {
    throw new TypeError("Cannot open a thread port: this is not a thread of startThread()");
  }
  const port: MessagePort = parentPort;
  const { data, counts } = given;
  const waiting: (unknown)[] = [];
  let handler: ((message: unknown) => void) | undefined;
  let handled = 0;
  let draining = false;
  const failures: unknown[] = [];
  const send = (envelope: FromThread): void => port.postMessage(envelope);
  port.on("message", (envelope: ToThread) => {
    handled = (handled + 1) | 0;
    const message = envelope.kind === "message" ? envelope.message : undefined;
    if (handler === undefined) waiting.push(message);
    else if (!draining) handler(message);
    else {
      // Thrown from here it would be reported only when the event loop runs again, which a loop that goes on to sleep
      // in the kernel prevents: drain() hands it to the loop instead.
      try {
        handler(message);
      } catch (error) {
        failures.push(error);
      }
    }
  });
  const pending = (): boolean => Atomics.load(counts, POSTED) !== handled;
  return {
    data,
    get closing() {
      return Atomics.load(counts, CLOSING) !== 0;
    },
    ready: (wakeDescriptor = -1) => send({ kind: "ready", wakeDescriptor }),
    onMessage(newHandler) {
      handler = newHandler;
      for (const message of waiting.splice(0)) newHandler(message);
    },
    pending,
    async drain() {
      draining = true;
      while (pending() && failures.length === 0) {
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
      draining = false;
      if (failures.length > 0) throw failures.shift();
    },
    post: (message) => send({ kind: "message", message }),
    done: () => send({ kind: "done" }),
  };
}

/**
 * Starts a module as a worker, wherever it came from.
 *
 * @param url The module. Read permission is needed for one on the disk.
 * @param data Its `workerData`.
 */
export function openWorker(url: URL, data: unknown): Worker {
  // Of remote modules (a registry's) only ones that are imported can run, not ones that are started: start a line that
  // imports it.
  const entry = url.protocol === "file:"
    ? url
    : new URL(`data:text/javascript,${encodeURIComponent(`import ${JSON.stringify(url.href)};`)}`);
  return new Worker(entry, { workerData: data });
}

type ToThread = { readonly kind: "message"; readonly message: unknown } | {
  readonly kind: "close";
};
type FromThread =
  | { readonly kind: "ready"; readonly wakeDescriptor: number }
  | { readonly kind: "message"; readonly message: unknown }
  | { readonly kind: "done" };

interface ThreadData {
  readonly data: unknown;
  readonly counts: Int32Array<SharedArrayBuffer>;
}

interface Wake {
  signal(): void;
  close(): void;
}

/** A second number for the thread's eventfd: writing to the thread's own could hit a stranger's file once it closed it. */
async function openWake(descriptor: number): Promise<Wake> {
  const { OwnedFd } = await import("./fd_linux.ts");
  const { requireLibc } = await import("./libc_linux.ts");
  const { F_DUPFD_CLOEXEC } = await import("./constants_linux.ts");
  const { systemError } = await import("./errno.ts");
  const library = requireLibc();
  const copy = library.fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
  if (copy < 0) throw systemError("fcntl", library.errno(), "wake a thread");
  const owned = new OwnedFd(copy, library);
  const one = new BigUint64Array([1n]);
  return {
    signal: () => {
      if (!owned.closed) library.write(owned.fd, one, 8n);
    },
    close: () => owned.close(),
  };
}

/** Words of the shared counts. */
const POSTED = 0;
const CLOSING = 1;
const DEFAULT_STOP_MS = 2000;
