/**
 * Sets of ports.
 *
 * @module
 */

import type { PortSpan } from "./rule_types.ts";

/** Spans up to which a list is quicker and smaller than a bitmap of 8 KiB. */
const FEW = 8;

/** Tells whether a port is in a set. */
export class PortSet {
  /** First and last port, in turns; empty when the bitmap is used. */
  readonly #spans: Uint16Array<ArrayBuffer>;
  readonly #bits: Uint32Array<ArrayBuffer>;

  /** @param ports Single ports. @param spans Ranges. */
  constructor(ports: readonly number[], spans: readonly PortSpan[]) {
    const all = [...ports.map((port) => ({ first: port, last: port })), ...spans];
    const few = all.length <= FEW;
    this.#spans = Uint16Array.from(few ? all.flatMap(({ first, last }) => [first, last]) : []);
    this.#bits = new Uint32Array(few ? 0 : 2048);
    if (few) return;
    for (const { first, last } of all) {
      for (let port = first; port <= last; port++) this.#bits[port >>> 5]! |= 1 << (port & 31);
    }
  }

  /** Whether a port, 0 to 65535, is in the set. */
  has(port: number): boolean {
    if (this.#bits.length > 0) return (this.#bits[port >>> 5]! >>> (port & 31) & 1) === 1;
    for (let at = 0; at < this.#spans.length; at += 2) {
      if (this.#spans[at]! <= port && port <= this.#spans[at + 1]!) return true;
    }
    return false;
  }
}
