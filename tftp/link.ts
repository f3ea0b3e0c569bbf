/**
 * The path of one transfer: its socket, its peer, and who may speak on it.
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  copyAddress,
  type DatagramBatch,
  type DatagramSocket,
  equalAddress,
  equalHost,
  type SocketAddress,
} from "../ffi/mod.ts";
import { addressCell, type Endpoint } from "./endpoint.ts";

/** Strangers remembered per transfer, to answer each at most once a second. */
const STRANGERS = 8;
/** Milliseconds before the same stranger is answered again. */
const STRANGER_INTERVAL_MS = 1000;

/** What a {@linkcode Link} answers about a datagram's source. */
export const Source = { Peer: 0, Stranger: 1 } as const;

/** How a link decides who its peer is. */
export interface LinkOptions {
  /** Accept any port of the peer's host until the first datagram came (a client waiting for the server's TID). */
  readonly learnPort?: boolean;
  /** Accept any host until the first datagram came. */
  readonly learnHost?: boolean;
  /** Accept any port of the peer's host for ever: some address translators change it in mid-transfer. */
  readonly anyPort?: boolean;
}

/** One transfer's way to its peer. */
export class Link {
  readonly socket: DatagramSocket;
  /** The peer's address; changes only while it is being learned. */
  readonly peer: DataView<ArrayBuffer> = addressCell();
  /** Source address to send from on a shared socket, or `undefined`. */
  readonly local: DataView<ArrayBuffer> | undefined;
  readonly #endpoint: Endpoint;
  readonly #ownsSocket: boolean;
  #learnPort: boolean;
  #learnHost: boolean;
  readonly #anyPort: boolean;
  #strangers: DataView<ArrayBuffer> | undefined;
  #strangerTimes: Float64Array | undefined;
  #nextStranger = 0;
  /** Datagrams from others. */
  strangers = 0;

  constructor(
    endpoint: Endpoint,
    socket: DatagramSocket,
    peer: DataView,
    peerStart: number,
    local: DataView<ArrayBuffer> | undefined,
    ownsSocket: boolean,
    options: LinkOptions = {},
  ) {
    this.#endpoint = endpoint;
    this.socket = socket;
    this.local = local;
    this.#ownsSocket = ownsSocket;
    this.#learnPort = options.learnPort === true || options.learnHost === true;
    this.#learnHost = options.learnHost === true;
    this.#anyPort = options.anyPort === true;
    copyAddress(peer, peerStart, this.peer, 0);
  }

  /** True once the peer's port is certain. */
  get settled(): boolean {
    return !this.#learnPort;
  }

  /** Whether entry `index` comes from the peer; a peer whose port is not known yet is learned by {@linkcode settle}. */
  check(batch: DatagramBatch, index: number): number {
    const at = index * ADDRESS_BYTES;
    if (equalAddress(batch.peers, at, this.peer, 0) && !this.#learnPort) return Source.Peer;
    if (this.#learnPort) {
      return this.#learnHost || equalHost(batch.peers, at, this.peer, 0)
        ? Source.Peer
        : Source.Stranger;
    }
    return this.#anyPort && equalHost(batch.peers, at, this.peer, 0)
      ? Source.Peer
      : Source.Stranger;
  }

  /** The sender of entry `index` is the peer from now on: its packet was a valid first answer. */
  settle(batch: DatagramBatch, index: number): void {
    if (!this.#learnPort && !this.#anyPort) return;
    this.#learnPort = false;
    this.#learnHost = false;
    copyAddress(batch.peers, index * ADDRESS_BYTES, this.peer, 0);
  }

  /** Tells a stranger so (ERROR 5, RFC 1350 §4), at most once a second each; the transfer goes on. */
  refuseStranger(batch: DatagramBatch, index: number, now: number): void {
    this.strangers++;
    const table = this.#strangers ??= new DataView(new ArrayBuffer(ADDRESS_BYTES * STRANGERS));
    const times = this.#strangerTimes ??= new Float64Array(STRANGERS).fill(-Infinity);
    const at = index * ADDRESS_BYTES;
    let slot = -1;
    for (let i = 0; i < STRANGERS; i++) {
      if (equalAddress(table, i * ADDRESS_BYTES, batch.peers, at)) slot = i;
    }
    if (slot >= 0 && now - times[slot]! < STRANGER_INTERVAL_MS) return;
    if (slot < 0) {
      slot = this.#nextStranger;
      this.#nextStranger = (slot + 1) % STRANGERS;
      copyAddress(batch.peers, at, table, slot * ADDRESS_BYTES);
    }
    times[slot] = now;
    const stranger = addressCell();
    copyAddress(batch.peers, at, stranger, 0);
    this.#endpoint.sendError(this.socket, stranger, this.local, 5, "Unknown transfer ID");
  }

  /** Closes the socket when it is the transfer's own. */
  close(): void {
    if (!this.#ownsSocket) return;
    this.socket.watch(undefined);
    this.socket.close().catch(() => {
      // The descriptor is gone either way; there is nobody to tell.
    });
  }
}

/** Whether a host is this machine's own loopback. */
export function isLoopback(address: SocketAddress): boolean {
  return address.address.startsWith("127.") || address.address === "::1";
}
