/**
 * Which interfaces publish IPv6 link-local neighbors, remembered so that no event has to ask.
 *
 * @module
 */

import { linkLocalTable } from "./protocol/filter.ts";

/** The settings of the interfaces that were asked for, and which of them are to be read, again or for the first time. */
export class LinkLocalPolicy {
  readonly #settings = new Map<string, boolean>();
  readonly #wanted = new Set<string>();

  /** How many interfaces are remembered. */
  get size(): number {
    return this.#settings.size;
  }

  /** Interfaces to be read, or read again. */
  get wanted(): boolean {
    return this.#wanted.size > 0;
  }

  /**
   * Whether the interface publishes them, as far as is known: an interface that was never read does not, and is wanted from
   * then on.
   */
  enabled(ifname: string): boolean {
    const setting = this.#settings.get(ifname);
    if (setting !== undefined) return setting;
    this.want(ifname);
    return false;
  }

  /** Asks for a reading; nothing for interfaces that never publish them. */
  want(ifname: string): void {
    if (linkLocalTable(ifname) === undefined) return;
    if (!this.#settings.has(ifname)) this.#settings.set(ifname, false);
    this.#wanted.add(ifname);
  }

  /** Asks for a reading of an interface if it is remembered; others are read when they are asked for. */
  invalidate(ifname: string): void {
    if (this.#settings.has(ifname)) this.#wanted.add(ifname);
  }

  /** Asks for a reading of all that are remembered. */
  invalidateAll(): void {
    for (const ifname of this.#settings.keys()) this.#wanted.add(ifname);
  }

  /** Hands out what is wanted, which is then no longer wanted: a change after this asks again. */
  takeWanted(): string[] {
    const names = [...this.#wanted];
    this.#wanted.clear();
    return names;
  }

  /** Wants again what could not be read. */
  giveBack(names: readonly string[]): void {
    for (const name of names) this.#wanted.add(name);
  }

  /** Remembers a reading and answers whether it changed anything. */
  put(ifname: string, enabled: boolean): boolean {
    const before = this.#settings.get(ifname);
    // It may have been forgotten while it was being read.
    if (before === undefined) return false;
    this.#settings.set(ifname, enabled);
    return before !== enabled;
  }

  /** Forgets an interface that is gone. */
  forget(ifname: string): void {
    this.#settings.delete(ifname);
    this.#wanted.delete(ifname);
  }
}
