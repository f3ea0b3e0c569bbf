/**
 * Whether a process has descriptors left for another client. One that is accepted without is worse off than one that
 * waits: its destination cannot be dialled.
 *
 * @module
 */

import { type DescriptorSource, processDescriptors } from "../ffi/mod.ts";
import type { Clock } from "../internal/time/clock.ts";

/** Keeps descriptors for the destinations of clients that were accepted. */
export class DescriptorRoom {
  readonly #clock: Clock;
  readonly #source: DescriptorSource;
  readonly #limit: number | undefined;
  #count = 0;
  #countedAt = -Infinity;
  /** Clients that were let in since. */
  #since = 0;

  /** @param source Default: this process. */
  constructor(clock: Clock, source: DescriptorSource = processDescriptors) {
    this.#clock = clock;
    this.#source = source;
    this.#limit = source.limit();
  }

  /**
   * Whether another client can be let in. The process is looked at only when it may be close to its limit.
   *
   * @param running Clients and associations there are.
   * @param owed Those of them that have no connection to their destination yet.
   */
  has(running: number, owed: number): boolean {
    const limit = this.#limit;
    if (limit === undefined) return true;
    if (running * MOST_OF_A_CLIENT + OTHERS < limit) return true;
    const now = this.#clock.now();
    if (now - this.#countedAt >= COUNT_MS) {
      const count = this.#source.count();
      if (count === undefined) return true;
      this.#count = count;
      this.#countedAt = now;
      this.#since = 0;
    }
    // One for a client, one for its destination, and one each for those who wait for theirs.
    const left = limit - this.#count - 2 * this.#since - owed;
    if (left < RESERVE) return false;
    this.#since++;
    return true;
  }
}

/** Two sockets and two pipes. */
const MOST_OF_A_CLIENT = 6;
/** Listeners, epolls, the runtime's own. */
const OTHERS = 128;
/** Kept for all the rest: files, name servers, the control interface, associations of datagrams. */
const RESERVE = 16;
const COUNT_MS = 5;
