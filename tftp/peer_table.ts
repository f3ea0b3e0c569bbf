/**
 * Who is being served: peer address (and, on a shared socket, the address they asked) to session, without making a
 * string or an object per look-up.
 *
 * @module
 */
import { equalAddress, hashAddress } from "../ffi/mod.ts";

/** Something that belongs to one peer. */
export interface PeerEntry<T> {
  /** The peer's address, at position 0. Never changes while the entry is in a table. */
  readonly key: DataView;
  /** The next entry with the same hash; the table's business. */
  next: T | undefined;
}

/** A hash table keyed by address bytes. */
export class PeerTable<T extends PeerEntry<T>> {
  readonly #heads = new Map<number, T>();
  #size = 0;

  /** Entries in the table. */
  get size(): number {
    return this.#size;
  }

  /** The entry of the address at a position. */
  find(view: DataView, start: number): T | undefined {
    let entry = this.#heads.get(hashAddress(view, start));
    while (entry !== undefined && !equalAddress(entry.key, 0, view, start)) entry = entry.next;
    return entry;
  }

  /** Adds an entry; its key must not be in the table. */
  add(entry: T): void {
    const hash = hashAddress(entry.key, 0);
    entry.next = this.#heads.get(hash);
    this.#heads.set(hash, entry);
    this.#size++;
  }

  /** Removes an entry; harmless when it is not there. */
  remove(entry: T): void {
    const hash = hashAddress(entry.key, 0);
    let at = this.#heads.get(hash);
    if (at === entry) {
      if (entry.next === undefined) this.#heads.delete(hash);
      else this.#heads.set(hash, entry.next);
      this.#size--;
    } else {
      while (at !== undefined && at.next !== entry) at = at.next;
      if (at === undefined) return;
      at.next = entry.next;
      this.#size--;
    }
    entry.next = undefined;
  }

  /** Every entry, in no particular order; entries may be removed meanwhile. */
  entries(): T[] {
    const all: T[] = [];
    for (const head of this.#heads.values()) {
      for (let at: T | undefined = head; at !== undefined; at = at.next) all.push(at);
    }
    return all;
  }
}
