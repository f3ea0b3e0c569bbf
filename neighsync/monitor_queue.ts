/**
 * Events that a slow consumer has not taken yet: one for each key, however many there were.
 *
 * @module
 */

import type { Neighbor } from "./neighbor.ts";
import type { ResyncReason } from "./protocol/resync_actions.ts";

/** What a monitor tells. */
export type NeighborEvent = NeighborChanged | ResyncStarted | ResyncEnded;

/** A neighbor was added, is another one now, or is gone. */
export interface NeighborChanged {
  /** What happened. */
  readonly type: "add" | "change" | "delete";
  /** As it is now; for `delete`, as the kernel described it last, which is often without a MAC. */
  readonly neighbor: Neighbor;
  /** As it was before a change or its end, as far as that was told. */
  readonly previous?: Neighbor;
  /** The kernel told it, or reading the table showed it. */
  readonly source: "event" | "dump";
}

/** The table is about to be read: at the start, after a loss, because somebody asked, or to confirm an earlier reading. */
export interface ResyncStarted {
  /** Always this. */
  readonly type: "resync-start";
  /** Why. */
  readonly reason: ResyncReason;
}

/** The table was read: the view is what the kernel has. */
export interface ResyncEnded {
  /** Always this. */
  readonly type: "resync-end";
  /** Entries nobody had told of. */
  readonly added: number;
  /** Entries with other values. */
  readonly changed: number;
  /** Entries that were gone. */
  readonly removed: number;
  /** Events known to be lost since the last end. */
  readonly lost: number;
}

// No interface is called so: a slash and a colon are not allowed in their names.
const START = "/start", END = "/end";

/** Keeps what one consumer has yet to take; bounded by the number of keys. */
export class MonitorQueue {
  readonly #waiting = new Map<string, NeighborEvent>();
  #wake: (() => void) | undefined;
  #closed = false;

  /** Events that wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Takes a change; one that undoes what waits takes that away. */
  push(key: string, event: NeighborChanged): void {
    const waiting = this.#waiting;
    const earlier = waiting.get(key) as NeighborChanged | undefined;
    // The latest goes to the end: what happened to other keys in between was before it.
    waiting.delete(key);
    const joined = earlier === undefined ? event : join(earlier, event);
    if (joined !== undefined) waiting.set(key, joined);
    this.#notify();
  }

  /** Takes a marker; of several that wait the last counts, with what the others counted. */
  mark(event: ResyncStarted | ResyncEnded): void {
    const waiting = this.#waiting;
    if (event.type === "resync-start") {
      waiting.delete(START);
      waiting.set(START, event);
    } else {
      const earlier = waiting.get(END) as ResyncEnded | undefined;
      waiting.delete(END);
      waiting.set(END, {
        type: "resync-end",
        added: event.added + (earlier?.added ?? 0),
        changed: event.changed + (earlier?.changed ?? 0),
        removed: event.removed + (earlier?.removed ?? 0),
        lost: event.lost + (earlier?.lost ?? 0),
      });
    }
    this.#notify();
  }

  /** Nothing comes any more; what waits can still be taken. */
  close(): void {
    this.#closed = true;
    this.#notify();
  }

  /** Takes the oldest; waits for one. @returns Undefined once closed and empty. */
  async take(): Promise<NeighborEvent | undefined> {
    for (;;) {
      for (const [key, event] of this.#waiting) {
        this.#waiting.delete(key);
        return event;
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

/** Two changes of one key as one; undefined when they come to nothing. */
function join(first: NeighborChanged, second: NeighborChanged): NeighborChanged | undefined {
  if (first.type === "add") {
    return second.type === "delete" ? undefined : { ...second, type: "add", source: first.source };
  }
  // What the consumer knows is what was before the first of them.
  const previous = first.previous ?? first.neighbor;
  return { ...second, type: second.type === "delete" ? "delete" : "change", previous };
}
