/**
 * UDP sockets for the parts of the proxy: datagrams in buffers with room around them, several a system call.
 *
 * @module
 */

import type { DatagramBatch, DatagramHost, DatagramSocket, SocketAddress } from "../ffi/mod.ts";
import { ADDRESS_BYTES } from "../ffi/mod.ts";
import { AddressBook } from "./address_book.ts";
import {
  PACKET_HEADROOM,
  PACKET_MAX_BYTES,
  PACKET_TAILROOM,
  type PacketReceiver,
} from "./packets.ts";
import type { Endpoint } from "./protocol/mod.ts";

/** What the sockets of one host share: every burst is used up before the next, whichever socket it comes from. */
class PacketMemory {
  readonly arrived: DatagramBatch;
  readonly leaving: DatagramBatch;
  #owner: DatagramSocket | undefined;
  #scheduled = false;

  constructor(host: DatagramHost) {
    const slot = PACKET_MAX_BYTES + PACKET_HEADROOM + PACKET_TAILROOM;
    this.arrived = host.createBatch(BURST, slot);
    this.leaving = host.createBatch(BURST, slot);
  }

  /** The next entry to fill for a socket. */
  entry(socket: DatagramSocket): number {
    if (this.#owner !== socket || this.leaving.count === this.leaving.capacity) {
      this.flush();
      this.#owner = socket;
    }
    if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(this.#later);
    }
    return this.leaving.count;
  }

  /** Sends what was filled. */
  flush(): void {
    if (this.leaving.count > 0) this.#owner?.send(this.leaving);
    this.leaving.count = 0;
    this.#owner = undefined;
  }

  readonly #later = (): void => {
    this.#scheduled = false;
    this.flush();
  };
}

/** A bound UDP socket. */
export class PacketSocket {
  readonly #socket: DatagramSocket;
  readonly #memory: PacketMemory;
  readonly #book: AddressBook;
  #receiver: PacketReceiver | undefined;
  #closed = false;

  private constructor(socket: DatagramSocket, memory: PacketMemory) {
    this.#socket = socket;
    this.#memory = memory;
    this.#book = new AddressBook(socket.local.family === "ipv6");
  }

  /**
   * Opens a socket.
   *
   * @param bind Where; on the IPv6 wildcard it takes IPv4 too.
   * @throws {SystemError} When it cannot.
   */
  static async open(host: DatagramHost, bind: SocketAddress): Promise<PacketSocket> {
    const socket = await host.open({ bind, dualStack: bind.address === "::" });
    let memory = memories.get(host);
    if (memory === undefined) memories.set(host, memory = new PacketMemory(host));
    return new PacketSocket(socket, memory);
  }

  /** Where it is bound. */
  get local(): SocketAddress {
    return this.#socket.local;
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Sets who gets what arrives; see {@linkcode PacketReceiver}. */
  watch(receiver: PacketReceiver | undefined): void {
    this.#receiver = receiver;
    if (!this.#closed) this.#socket.watch(receiver === undefined ? undefined : this.#ready);
  }

  /**
   * Sends `[start, end)`; copied. Leaves at the end of the turn at the latest.
   *
   * @returns False when the endpoint is no address this socket can send to.
   */
  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number, to: Endpoint): boolean {
    if (this.#closed || end - start > PACKET_MAX_BYTES) return false;
    const { leaving } = this.#memory;
    const entry = this.#memory.entry(this.#socket);
    if (!this.#book.write(to, leaving.peers, entry * ADDRESS_BYTES)) return false;
    const at = leaving.slab.startOf(entry);
    copyRange(bytes, start, end, leaving.slab.bytes, at);
    leaving.starts[entry] = at;
    leaving.lengths[entry] = end - start;
    leaving.segments[entry] = 0;
    leaving.count = entry + 1;
    return true;
  }

  /** Idempotent. */
  close(): void {
    if (this.#closed) return;
    // What was sent before is not lost.
    this.#memory.flush();
    this.#closed = true;
    this.#receiver = undefined;
    this.#socket.close().catch(() => {});
  }

  readonly #ready = (): void => {
    const { arrived } = this.#memory;
    const { bytes } = arrived.slab;
    for (let bursts = 0; bursts < MOST_BURSTS; bursts++) {
      const count = this.#socket.receiveNow(arrived);
      for (let i = 0; i < count && this.#receiver !== undefined; i++) {
        let start = arrived.starts[i]!;
        const length = arrived.lengths[i]!;
        const from = this.#book.read(arrived.peers, i * ADDRESS_BYTES);
        if (i === 0) {
          // The room in front of an entry is the unused end of the slot before it; the first has none.
          bytes.copyWithin(start + PACKET_HEADROOM, start, start + length);
          start += PACKET_HEADROOM;
        }
        this.#receiver(bytes, start, start + length, from);
      }
      if (count < arrived.capacity) {
        this.#memory.flush();
        return;
      }
    }
    this.#memory.flush();
    this.#socket.again();
  };
}

/** Copies a range; short ones without making an object for it. */
export function copyRange(
  from: Uint8Array,
  start: number,
  end: number,
  into: Uint8Array,
  at: number,
): void {
  if (end - start > SHORT) into.set(from.subarray(start, end), at);
  else for (let i = start; i < end; i++) into[at + i - start] = from[i]!;
}

const SHORT = 64;
const BURST = 16;
const MOST_BURSTS = 8;
const memories = new WeakMap<DatagramHost, PacketMemory>();
