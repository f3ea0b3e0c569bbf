/**
 * What the daemon tells whoever listens, in batches.
 *
 * @module
 */

import type { ResyncReason } from "./protocol/resync_actions.ts";
import type { WarmOutcome } from "./protocol/warm_restart.ts";

/** One thing that happened. */
export type NeighSyncEvent =
  /** A neighbor was published: the sink has acknowledged it. */
  | {
    readonly type: "set";
    readonly key: string;
    readonly mac: string;
    readonly family: "IPv4" | "IPv6";
  }
  /** A neighbor was removed: the sink has acknowledged it. */
  | { readonly type: "del"; readonly key: string }
  /** Everything of the kernel is published, for the first time. */
  | { readonly type: "synced"; readonly neighbors: number; readonly elapsedMs: number }
  /** The connection to the sink is there. */
  | { readonly type: "sink-connected" }
  /** The connection to the sink is lost. */
  | { readonly type: "sink-lost"; readonly code: string }
  /** Both tables were compared; `repairs` keys were wrong. */
  | {
    readonly type: "compared";
    readonly reason: "reconnect" | "audit" | "policy";
    readonly repairs: number;
  }
  /** The kernel's table is read anew. */
  | { readonly type: "resync"; readonly reason: ResyncReason }
  /** A warm restart ended, or there was none. */
  | { readonly type: "warm-restart"; readonly outcome: WarmOutcome }
  /** The listener was too slow: so many events were thrown away. */
  | { readonly type: "dropped"; readonly events: number };

/** Events one listener may leave waiting. */
const MAX_WAITING = 100_000;

/** Hands events to any number of listeners; costs nothing while there is none. */
export class EventHub implements AsyncIterable<readonly NeighSyncEvent[]> {
  readonly #listeners = new Set<Listener>();
  #closed = false;

  /** Whether anybody listens. */
  get active(): boolean {
    return this.#listeners.size > 0;
  }

  /** Tells one event. */
  tell(event: NeighSyncEvent): void {
    for (const listener of this.#listeners) listener.take(event);
  }

  /** Every listener gets what waits, then ends. */
  close(): void {
    this.#closed = true;
    for (const listener of this.#listeners) listener.close();
    this.#listeners.clear();
  }

  /** A new listener: what happens from now on, everything that waits at once. */
  [Symbol.asyncIterator](): AsyncIterator<readonly NeighSyncEvent[], undefined> {
    const listener = new Listener();
    if (this.#closed) listener.close();
    else this.#listeners.add(listener);
    return {
      next: async () => {
        const value = await listener.next();
        return value === undefined ? { done: true, value } : { done: false, value };
      },
      return: () => {
        this.#listeners.delete(listener);
        listener.close();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }
}

class Listener {
  #waiting: NeighSyncEvent[] = [];
  #dropped = 0;
  #wake: (() => void) | undefined;
  #closed = false;

  take(event: NeighSyncEvent): void {
    if (this.#waiting.length >= MAX_WAITING) this.#dropped++;
    else this.#waiting.push(event);
    this.#notify();
  }

  close(): void {
    this.#closed = true;
    this.#notify();
  }

  async next(): Promise<readonly NeighSyncEvent[] | undefined> {
    for (;;) {
      if (this.#waiting.length > 0) {
        const batch = this.#waiting;
        this.#waiting = [];
        if (this.#dropped > 0) batch.push({ type: "dropped", events: this.#dropped });
        this.#dropped = 0;
        return batch;
      }
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
  }

  #notify(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}
