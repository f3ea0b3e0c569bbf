/**
 * Thousands of deadlines behind one host timer: a binary heap that learns late that a deadline has moved later, because
 * most do with every packet.
 *
 * @module
 */

/** Something that wants to be called at a time, which may change at any moment. */
export interface HasDeadline {
  /** Monotonic milliseconds; `Infinity` for never. */
  readonly deadline: number;
}

interface Entry<T> {
  readonly item: T;
  /** The key in the heap: never later than the item's deadline unless `touch` was forgotten. */
  at: number;
  position: number;
}

/** The deadlines of many items. Holds no timer: whoever owns it sleeps until {@linkcode next}. */
export class Deadlines<T extends HasDeadline> {
  readonly #heap: Entry<T>[] = [];
  readonly #entries: Map<T, Entry<T>> = new Map();

  /** How many items there are. */
  get size(): number {
    return this.#heap.length;
  }

  /** The earliest deadline; `Infinity` when there is none. */
  get next(): number {
    for (;;) {
      const top = this.#heap[0];
      if (top === undefined) return Infinity;
      if (top.item.deadline <= top.at) return top.at;
      this.#move(top, top.item.deadline);
    }
  }

  /** Takes an item in; nothing when it is in already. */
  add(item: T): void {
    if (this.#entries.has(item)) return;
    const entry: Entry<T> = { item, at: item.deadline, position: this.#heap.length };
    this.#entries.set(item, entry);
    this.#heap.push(entry);
    this.#up(entry);
  }

  /** The item's deadline has changed. Free when it moved later; must not be forgotten when it moved earlier. */
  touch(item: T): void {
    const entry = this.#entries.get(item);
    if (entry !== undefined && item.deadline < entry.at) this.#move(entry, item.deadline);
  }

  /** Lets go of an item; nothing when it is not in. */
  remove(item: T): void {
    const entry = this.#entries.get(item);
    if (entry === undefined) return;
    this.#entries.delete(item);
    const last = this.#heap.pop()!;
    if (last === entry) return;
    last.position = entry.position;
    this.#heap[last.position] = last;
    this.#up(last);
    this.#down(last);
  }

  /**
   * Calls `due` for every item whose deadline is not after `now`, each at most once, earliest first. `due` may add,
   * touch and remove items.
   */
  run(now: number, due: (item: T) => void): void {
    while (this.next <= now) {
      const entry = this.#heap[0]!;
      due(entry.item);
      if (this.#entries.get(entry.item) !== entry) continue;
      // An item that did not move its deadline must not keep us here: it is due again at the next turn.
      const deadline = entry.item.deadline;
      this.#move(entry, deadline > now ? deadline : now + 0.001);
    }
  }

  #move(entry: Entry<T>, at: number): void {
    const earlier = at < entry.at;
    entry.at = at;
    if (earlier) this.#up(entry);
    else this.#down(entry);
  }

  #up(entry: Entry<T>): void {
    const heap = this.#heap;
    let position = entry.position;
    while (position > 0) {
      const above = heap[(position - 1) >> 1]!;
      if (above.at <= entry.at) break;
      heap[position] = above;
      const place = above.position;
      above.position = position;
      position = place;
    }
    heap[position] = entry;
    entry.position = position;
  }

  #down(entry: Entry<T>): void {
    const heap = this.#heap;
    let position = entry.position;
    for (;;) {
      let child = 2 * position + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.at < heap[child]!.at) child++;
      const below = heap[child]!;
      if (below.at >= entry.at) break;
      heap[position] = below;
      below.position = position;
      position = child;
    }
    heap[position] = entry;
    entry.position = position;
  }
}
