/**
 * Datagram sockets without a network: a test hands datagrams in, with any sender, and looks at what leaves.
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  DatagramBatch,
  type DatagramCounters,
  type DatagramHost,
  type DatagramOptions,
  type DatagramSocket,
  type DatagramTraits,
  readAddress,
  type SocketAddress,
  writeAddress,
} from "../../ffi/mod.ts";
import { inWords } from "./raw_peer.ts";

const TRAITS: DatagramTraits = {
  driver: "linux",
  batch: 32,
  segmentation: true,
  coalescing: false,
  packetInfo: true,
  errorQueue: true,
  dropCounter: false,
  options: false,
};

/** A datagram that left. */
export interface Sent {
  readonly words: string;
  readonly to: SocketAddress;
  readonly from: SocketAddress;
  readonly bytes: Uint8Array;
}

/** See the module. */
export class FakeHost implements DatagramHost {
  readonly traits: DatagramTraits = TRAITS;
  readonly fallbackReason = "";
  readonly wakeDescriptor = -1;
  /** Every socket that was opened, in order. */
  readonly sockets: FakeSocket[] = [];
  /** What left, in order, since the last {@linkcode FakeHost.take}. */
  #sent: Sent[] = [];
  #nextPort = 40_000;

  open(options: DatagramOptions): FakeSocket {
    const port = options.bind.port === 0 ? this.#nextPort++ : options.bind.port;
    const socket = new FakeSocket(this, { ...options.bind, port });
    this.sockets.push(socket);
    return socket;
  }

  createBatch(capacity: number, slotBytes: number): DatagramBatch {
    return new DatagramBatch(capacity, slotBytes);
  }

  pathMtu(): number | undefined {
    return 1500;
  }

  turn(): number {
    return 0;
  }

  /** Notes what leaves. */
  note(sent: Sent): void {
    this.#sent.push(sent);
  }

  /** What left since the last call, in words. */
  take(): string[] {
    return this.takeAll().map(({ words }) => words);
  }

  /** The same with addresses. */
  takeAll(): Sent[] {
    return this.#sent.splice(0);
  }

  /** Sockets that are open. */
  get open_(): number {
    return this.sockets.filter(({ closed }) => !closed).length;
  }

  async close(): Promise<void> {
    for (const socket of this.sockets) await socket.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** One of its sockets. */
export class FakeSocket implements DatagramSocket {
  readonly local: SocketAddress;
  readonly traits: DatagramTraits = TRAITS;
  readonly receiveBufferBytes = 0;
  readonly sendBufferBytes = 0;
  readonly #host: FakeHost;
  readonly #queue: { bytes: Uint8Array; from: SocketAddress; local: SocketAddress | undefined }[] =
    [];
  #ready: (() => void) | undefined;
  closed = false;
  /** Times its callback asked to come back. */
  agains = 0;
  /** Times it was asked for datagrams. */
  receives = 0;

  constructor(host: FakeHost, local: SocketAddress) {
    this.#host = host;
    this.local = local;
  }

  /** A datagram arrives; the socket's owner is told when `tell` is true. */
  deliver(bytes: Uint8Array, from: SocketAddress, local?: SocketAddress, tell = true): void {
    this.#queue.push({ bytes, from, local });
    if (tell) this.#ready?.();
  }

  /** The event loop's turn. */
  wake(): void {
    this.#ready?.();
  }

  /** Datagrams nobody has taken. */
  get queued(): number {
    return this.#queue.length;
  }

  receiveNow(batch: DatagramBatch): number {
    this.receives++;
    const count = Math.min(this.#queue.length, batch.capacity);
    for (let i = 0; i < count; i++) {
      const { bytes, from, local } = this.#queue.shift()!;
      batch.starts[i] = batch.slab.startOf(i);
      batch.lengths[i] = bytes.length;
      batch.segments[i] = 0;
      batch.slab.bytes.set(bytes, batch.slab.startOf(i));
      writeAddress(batch.peers, i * ADDRESS_BYTES, from);
      if (local === undefined) batch.locals.setUint16(i * ADDRESS_BYTES, 0);
      else writeAddress(batch.locals, i * ADDRESS_BYTES, local);
    }
    batch.count = count;
    return count;
  }

  receive(batch: DatagramBatch): number {
    return this.receiveNow(batch);
  }

  send(batch: DatagramBatch, first = 0): number {
    for (let i = first; i < batch.count; i++) {
      const to = readAddress(batch.peers, i * ADDRESS_BYTES);
      const start = batch.starts[i]!;
      const end = start + batch.lengths[i]!;
      const step = batch.segments[i]! > 0 ? batch.segments[i]! : end - start;
      for (let at = start; at < end; at += step) {
        const bytes = batch.slab.bytes.slice(at, Math.min(at + step, end));
        this.#host.note({ words: inWords(bytes), to, from: this.local, bytes });
      }
    }
    return batch.count - first;
  }

  watch(ready: (() => void) | undefined): void {
    this.#ready = ready;
  }

  again(): void {
    this.agains++;
  }

  drainErrors(): void {}

  counters(): DatagramCounters {
    return {
      receiveCalls: 0,
      sendCalls: 0,
      datagramsReceived: 0,
      datagramsSent: 0,
      sendDrops: 0,
      receiveDrops: 0,
      datagramsTruncated: 0,
      wouldBlocks: 0,
      segmentationRefused: 0,
    };
  }

  close(): Promise<void> {
    this.closed = true;
    this.#ready = undefined;
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
