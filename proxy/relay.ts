/**
 * Joining a client with its destination: inside the kernel where both are connections, by copying otherwise.
 *
 * @module
 */

import {
  type CopyRelayHost,
  type Driver,
  openCopyRelayHost,
  openRelayHost,
  type Relay,
  type RelayHost,
  type RelayOptions,
  type StreamHost,
} from "../ffi/mod.ts";
import { type Duplex, isRaw, join, unwrap } from "./duplex.ts";

/** Where the relays of a proxy run. */
export class Relays {
  readonly #streams: StreamHost;
  readonly #driver: Driver;
  #raw: RelayHost | undefined;
  #copying: CopyRelayHost | undefined;
  #opening: Promise<RelayHost> | undefined;
  #openingCopying: Promise<CopyRelayHost> | undefined;
  #closed = false;

  /** @param driver Which driver relays between connections have; `fast` is not demanded of portable streams. */
  constructor(streams: StreamHost, driver: Driver) {
    this.#streams = streams;
    this.#driver = driver === "portable" ? "portable" : "auto";
  }

  /** Relays that run. */
  get active(): number {
    return (this.#raw?.active ?? 0) + (this.#copying?.active ?? 0);
  }

  /** Relays inside the kernel that run. */
  get activeInKernel(): number {
    return this.#raw?.traits.driver === "linux" ? this.#raw.active : 0;
  }

  /**
   * Joins two streams, which are the relay's from here on. A promise only for the first of a kind.
   *
   * @throws {TypeError} When one of them is closed, or this is.
   */
  start(client: Duplex, upstream: Duplex, options: RelayOptions): Relay | Promise<Relay> {
    const first = unwrap(client), second = unwrap(upstream);
    const forwardPrefix = both(options.forwardPrefix, first.prefix);
    const backwardPrefix = both(options.backwardPrefix, second.prefix);
    const all: RelayOptions = {
      ...options,
      ...(forwardPrefix === undefined ? {} : { forwardPrefix }),
      ...(backwardPrefix === undefined ? {} : { backwardPrefix }),
    };
    const one = first.stream, two = second.stream;
    if (isRaw(one) && isRaw(two)) {
      if (this.#raw !== undefined) return this.#raw.start(one, two, all);
      return this.#openRaw().then((host) => host.start(one, two, all));
    }
    if (this.#copying !== undefined) return this.#copying.start(one, two, all);
    return this.#openCopying().then((host) => host.start(one, two, all));
  }

  /** Opens the relays between connections before the first is needed: their thread takes a moment. */
  prepare(): void {
    // What it fails with, the first relay is told.
    this.#openRaw().catch(() => {});
  }

  /** Aborts what runs, and waits for it. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#opening?.catch(() => {});
    await this.#openingCopying?.catch(() => {});
    await Promise.all([this.#raw?.close(), this.#copying?.close()]);
  }

  #openRaw(): Promise<RelayHost> {
    if (this.#closed) return Promise.reject(new TypeError(CLOSED));
    return this.#opening ??= openRelayHost(this.#streams, { driver: this.#driver })
      .then((host) => this.#raw = host);
  }

  #openCopying(): Promise<CopyRelayHost> {
    if (this.#closed) return Promise.reject(new TypeError(CLOSED));
    return this.#openingCopying ??= openCopyRelayHost().then((host) => this.#copying = host);
  }
}

function both(
  earlier: Uint8Array | undefined,
  later: Uint8Array | undefined,
): Uint8Array | undefined {
  if (earlier === undefined || earlier.length === 0) return later;
  return later === undefined || later.length === 0 ? earlier : join(earlier, later);
}

const CLOSED = "Cannot relay: the proxy is closed";
