/**
 * Addresses of datagrams as endpoints and back, remembered, so that a flow makes no objects.
 *
 * @module
 */

import {
  ADDRESS_BYTES,
  copyAddress,
  equalAddress,
  hashAddress,
  literalAddress,
  readAddress,
  unmapAddress,
  writeAddress,
} from "../ffi/mod.ts";
import type { Endpoint } from "./protocol/mod.ts";

/** Remembers the addresses seen last. */
export class AddressBook {
  readonly #keys = new DataView(new ArrayBuffer(SLOTS * ADDRESS_BYTES));
  readonly #endpoints: (Endpoint | undefined)[] = new Array<undefined>(SLOTS).fill(undefined);
  readonly #written = new WeakMap<Endpoint, DataView<ArrayBuffer>>();
  /** IPv4 goes out of an IPv6 socket in its mapped form. */
  readonly #mapped: boolean;

  /** @param mapped Whether IPv4 addresses are written in IPv6 form. */
  constructor(mapped: boolean) {
    this.#mapped = mapped;
  }

  /** The endpoint of an address; equal bytes give the same object while it is remembered. */
  read(view: DataView, start: number): Endpoint {
    const slot = hashAddress(view, start) & (SLOTS - 1);
    const known = this.#endpoints[slot];
    if (known !== undefined && equalAddress(this.#keys, slot * ADDRESS_BYTES, view, start)) {
      return known;
    }
    const { address, port } = unmapAddress(readAddress(view, start));
    const endpoint: Endpoint = Object.freeze({ host: address, port });
    copyAddress(view, start, this.#keys, slot * ADDRESS_BYTES);
    this.#endpoints[slot] = endpoint;
    return endpoint;
  }

  /**
   * Writes an endpoint's address.
   *
   * @returns False when its host is no address, or not of a family the socket has.
   */
  write(endpoint: Endpoint, view: DataView, start: number): boolean {
    let known = this.#written.get(endpoint);
    if (known === undefined) {
      const address = literalAddress(endpoint.host, endpoint.port);
      if (address === undefined) return false;
      known = new DataView(new ArrayBuffer(ADDRESS_BYTES));
      const isMapped = this.#mapped && address.family === "ipv4";
      writeAddress(
        known,
        0,
        isMapped ? { ...address, family: "ipv6", address: `::ffff:${address.address}` } : address,
      );
      this.#written.set(endpoint, known);
    }
    copyAddress(known, 0, view, start);
    return true;
  }
}

const SLOTS = 256;
