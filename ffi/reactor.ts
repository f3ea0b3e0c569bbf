/**
 * Readiness of descriptors that the runtime's own event loop cannot watch.
 *
 * @module
 */

/**
 * What a callback may answer that has set nothing off in the runtime: no promise, no timer. A loop that shares its thread
 * with the runtime (`openSharedLoop`) then goes on without it. Any other answer, and none, is right always.
 */
export const CALM: unique symbol = Symbol("calm");

/** One watched descriptor. */
export interface Watch {
  /**
   * Ask to be called once more. Level-triggered: when the descriptor is ready already, the callback comes soon. Call it
   * after draining; calling it again before the callback came changes nothing.
   */
  arm(): void;
  /** Stop watching; idempotent. After it the callback does not come again and the descriptor may be closed. */
  cancel(): void;
}

/** Something that calls back when a descriptor can be read or written. */
export interface Reactor {
  /** Which mechanism: the caller's own thread, io_uring into a pipe, or a polling worker into a pipe. */
  readonly kind: "thread" | "uring" | "worker";
  /** Starts watching, armed. The callback comes at most once per {@linkcode Watch.arm}. */
  watch(descriptor: number, interest: "read" | "write", ready: () => unknown): Watch;
  /** Whether watched descriptors keep the process alive; they do until `unref`. */
  ref(): void;
  /** The opposite of {@linkcode Reactor.ref}. */
  unref(): void;
  /** Cancels everything and frees the mechanism. */
  close(): Promise<void>;
}
