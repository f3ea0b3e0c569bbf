/**
 * UDP sockets for the parts of the proxy: datagrams in buffers with room around them, several a system call.
 *
 * @module
 */

import type {
  DatagramBatch,
  DatagramHost,
  DatagramOptions,
  DatagramSocket,
  SocketAddress,
} from "../ffi/mod.ts";
import { ADDRESS_BYTES } from "../ffi/mod.ts";
import { AddressBook } from "./address_book.ts";
import { PACKET_HEADROOM, PACKET_MAX_BYTES, PACKET_TAILROOM } from "./packets.ts";
import type { Endpoint } from "./protocol/mod.ts";

/**
 * As `PacketReceiver`.
 *
 * @param to Where the datagram was going, for sockets that take those of others; `undefined` elsewhere.
 */
export type SocketReceiver = (
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
  from: Endpoint,
  to: Endpoint | undefined,
) => void;

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
  /** Datagrams tell where they were going. */
  readonly #transparent: boolean;
  #receiver: SocketReceiver | undefined;
  #closed = false;

  private constructor(socket: DatagramSocket, memory: PacketMemory, transparent: boolean) {
    this.#socket = socket;
    this.#memory = memory;
    this.#transparent = transparent;
    this.#book = new AddressBook(socket.local.family === "ipv6");
  }

  /**
   * Opens a socket.
   *
   * @param bind Where; on the IPv6 wildcard it takes IPv4 too.
   * @param options More of the socket.
   * @throws {SystemError} When it cannot. @throws {CapabilityError} Without a privilege that an option needs.
   */
  static async open(
    host: DatagramHost,
    bind: SocketAddress,
    options: Omit<DatagramOptions, "bind" | "dualStack"> = {},
  ): Promise<PacketSocket> {
    const socket = await host.open({ ...options, bind, dualStack: bind.address === "::" });
    let memory = memories.get(host);
    if (memory === undefined) memories.set(host, memory = new PacketMemory(host));
    return new PacketSocket(socket, memory, options.transparent === true);
  }

  /** Where it is bound. */
  get local(): SocketAddress {
    return this.#socket.local;
  }

  /** Whether it was closed. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Sets who gets what arrives. */
  watch(receiver: SocketReceiver | undefined): void {
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
        const to = this.#transparent && arrived.locals.getUint16(i * ADDRESS_BYTES) !== 0
          ? this.#book.read(arrived.locals, i * ADDRESS_BYTES)
          : undefined;
        if (i === 0) {
          // The room in front of an entry is the unused end of the slot before it; the first has none.
          bytes.copyWithin(start + PACKET_HEADROOM, start, start + length);
          start += PACKET_HEADROOM;
        }
        this.#receiver(bytes, start, start + length, from, to);
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
