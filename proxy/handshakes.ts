/**
 * Clients that have not said yet what they want: how many there may be, and for how long.
 *
 * @module
 */

import { WOULD_BLOCK } from "../ffi/mod.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { Duplex } from "./duplex.ts";

/** Something that is given up when its time is over. */
export interface Expiring {
  /** Its time is over, or everything ends. */
  expire(): void;
}

/** Things that all have the same time to live, so the oldest is always due first. */
export class ExpiringSet {
  readonly #limitMs: number;
  readonly #clock: Clock;
  readonly #items = new Map<Expiring, number>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** @param limitMs How long each may live, milliseconds. */
  constructor(limitMs: number, clock: Clock) {
    this.#limitMs = limitMs;
    this.#clock = clock;
  }

  /** How many there are. */
  get size(): number {
    return this.#items.size;
  }

  /** Takes one in. */
  add(item: Expiring): void {
    this.#items.set(item, this.#clock.now() + this.#limitMs);
    this.#timer ??= setTimeout(this.#sweep, this.#limitMs);
  }

  /** Lets go of one; nothing when it is not in. */
  delete(item: Expiring): void {
    if (!this.#items.delete(item) || this.#items.size > 0) return;
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  /** Ends all of them. */
  close(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
    const items = [...this.#items.keys()];
    this.#items.clear();
    for (const item of items) item.expire();
  }

  readonly #sweep = (): void => {
    this.#timer = undefined;
    const now = this.#clock.now();
    for (const [item, deadline] of this.#items) {
      if (deadline > now) {
        // Rounded up: a timer that fires a fraction early would come again at once.
        this.#timer = setTimeout(this.#sweep, Math.ceil(deadline - now));
        return;
      }
      this.#items.delete(item);
      item.expire();
    }
  };
}

/**
 * Sends the last words to a client and closes, without cutting them off: closing while the client still sends would
 * reset the connection, and a reset overtakes what was said.
 */
export class Farewell implements Expiring {
  readonly #client: Duplex;
  readonly #set: ExpiringSet;

  /** @param set Bounds how long the client may go on. */
  constructor(client: Duplex, words: Uint8Array<ArrayBuffer>, set: ExpiringSet) {
    this.#client = client;
    this.#set = set;
    if (words.length > 0) client.sendNow(words, 0, words.length);
    client.end();
    set.add(this);
    client.watch(this.#discard);
    this.#discard();
  }

  expire(): void {
    this.#client.close().catch(() => {});
  }

  readonly #discard = (): void => {
    for (let rounds = 0; rounds < MOST_ROUNDS; rounds++) {
      const count = this.#client.receiveNow(waste, 0, waste.length);
      if (count === WOULD_BLOCK) return;
      if (count > 0) continue;
      this.#set.delete(this);
      this.expire();
      return;
    }
    this.#client.again();
  };
}

const MOST_ROUNDS = 16;
const waste: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(16_384));
