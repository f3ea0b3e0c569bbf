/**
 * Entry of the polling thread of `reactor_linux.ts`: sleeps in `epoll_wait` over a set that the other thread fills, and
 * copies what is ready into a pipe, eight bytes (slot and generation) each.
 *
 * @module
 */
import { parentPort, workerData } from "node:worker_threads";
import { EINTR, systemError } from "./errno.ts";
import { requireLibc } from "./libc_linux.ts";
import { EPOLL_EVENT } from "./structs_linux.ts";

/** Numbers of the descriptors the two threads share. They belong to the other one. */
export interface PollWorkerData {
  /** The epoll set. Every entry is one-shot; the other thread arms and removes them while this one sleeps. */
  readonly epoll: number;
  /** Writing end of the pipe; blocks when full. */
  readonly pipe: number;
  /** An eventfd, in the set as slot 0 of generation 0: leave. */
  readonly stop: number;
}

function run({ epoll, pipe }: PollWorkerData): void {
  const library = requireLibc();
  const { epoll_wait, write } = library;
  const events = new DataView(new ArrayBuffer(EVENTS * EPOLL_EVENT.size));
  const address = library.addressOf(events);
  const notices = new Uint8Array(new ArrayBuffer(EVENTS * 8));
  const words = new Uint32Array(notices.buffer);
  for (;;) {
    // Waits without a bound: the eventfd in the set is the bound.
    const found = epoll_wait(epoll, address, EVENTS, -1);
    if (found < 0) {
      const errno = library.errno();
      if (errno === EINTR) continue;
      throw systemError("epoll_wait", errno, "wait for readiness");
    }
    for (let i = 0; i < found; i++) {
      const at = i * EPOLL_EVENT.size + EPOLL_EVENT.data;
      const generation = events.getUint32(at + 4, true);
      if (generation === 0) return;
      words[2 * i] = events.getUint32(at, true);
      words[2 * i + 1] = generation;
    }
    // At most 4096 bytes (PIPE_BUF): the pipe takes all or makes this thread wait; it never takes a part. Any error but
    // an interruption means that the reader has gone, and then there is nobody left to tell.
    while (write(pipe, notices, BigInt(8 * found)) < 0) {
      if (library.errno() !== EINTR) return;
    }
  }
}

/** Events of one call: what fits an atomic write. */
const EVENTS = 512;

const port = parentPort;
if (port !== null) {
  port.postMessage("polling");
  // After the message has left this thread.
  setTimeout(() => run(workerData as PollWorkerData), 0);
}
