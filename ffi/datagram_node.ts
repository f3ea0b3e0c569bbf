/**
 * Datagram sockets on `node:dgram`: every runtime, every system, no permission but the network's.
 *
 * What `node:dgram` gives per datagram (an event, a fresh buffer, address text) is turned into batches here, so nothing
 * above can tell it from the kernel's driver except by its traits and its speed.
 *
 * @module
 */
import { createSocket, type RemoteInfo, type Socket } from "node:dgram";
import { platform } from "node:process";
import { setImmediate } from "node:timers";
import { CapabilityError } from "../internal/errors.ts";
import { ADDRESS_BYTES, equalAddress, formatAddress, type SocketAddress } from "./address.ts";
import type {
  DatagramCounters,
  DatagramError,
  DatagramHost,
  DatagramOptions,
  DatagramSocket,
  DatagramTraits,
} from "./datagram.ts";
import { DatagramBatch } from "./datagram.ts";
import { HostTexts } from "./datagram_hosts_node.ts";
import { PendingReceives } from "./datagram_pending.ts";
import { Outbox } from "./datagram_outbox_node.ts";
import { fromRuntimeError } from "./errno.ts";

/** Opens the portable host. @param fallbackReason Why no better driver was taken. */
export function openNodeHost(fallbackReason: string): DatagramHost {
  return new NodeDatagramHost(fallbackReason);
}

const TRAITS: DatagramTraits = Object.freeze({
  driver: "node",
  batch: 1,
  segmentation: false,
  coalescing: false,
  packetInfo: false,
  errorQueue: false,
  dropCounter: false,
  options: false,
});

class NodeDatagramHost implements DatagramHost {
  readonly traits: DatagramTraits = TRAITS;
  readonly fallbackReason: string;
  readonly #sockets = new Set<NodeDatagramSocket>();
  #closed = false;

  constructor(fallbackReason: string) {
    this.fallbackReason = fallbackReason;
  }

  get wakeDescriptor(): number {
    throw new TypeError('Cannot wake a thread: the host was not opened with wait "thread"');
  }

  async open(options: DatagramOptions): Promise<DatagramSocket> {
    if (this.#closed) throw new TypeError("Cannot open a datagram socket: the host is closed");
    if (options.transparent === true) {
      const why = "this runtime does not let a program have the addresses of others";
      throw new CapabilityError(
        "ffi.no-transparent",
        `Cannot take datagrams at ${formatAddress(options.bind)} for other hosts: ${why}`,
        { capability: "transparent", why, remedy: "run with --allow-ffi on Linux" },
      );
    }
    const socket = await bindSocket(options);
    if (this.#closed) {
      await new Promise<void>((resolve) => socket.close(resolve));
      throw new TypeError("Cannot open a datagram socket: the host is closed");
    }
    const opened = new NodeDatagramSocket(socket, options, () => this.#sockets.delete(opened));
    this.#sockets.add(opened);
    return opened;
  }

  createBatch(capacity: number, slotBytes: number, heads = false): DatagramBatch {
    return new DatagramBatch(capacity, slotBytes, heads);
  }

  pathMtu(): undefined {
    return undefined;
  }

  turn(): number {
    throw new TypeError('Cannot take a turn: the host was not opened with wait "thread"');
  }

  async close(): Promise<void> {
    this.#closed = true;
    await Promise.all([...this.#sockets].map((socket) => socket.close()));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

class NodeDatagramSocket implements DatagramSocket {
  readonly traits: DatagramTraits = TRAITS;
  readonly local: SocketAddress;
  readonly receiveBufferBytes: number;
  readonly sendBufferBytes: number;

  readonly #socket: Socket;
  readonly #gone: () => void;
  readonly #texts: HostTexts;
  readonly #outbox: Outbox;
  readonly #pending = new PendingReceives();
  readonly #errors: DatagramError[] = [];
  /** The only one who may send, and the one who does. */
  readonly #remote: DataView<ArrayBuffer> | undefined;
  readonly #sender = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  // A ring of what arrived and was not received yet: entries [head, head + queued), modulo its length.
  readonly #payloads: (Uint8Array | undefined)[] = new Array(QUEUE_DATAGRAMS).fill(undefined);
  readonly #senders: (RemoteInfo | undefined)[] = new Array(QUEUE_DATAGRAMS).fill(undefined);
  #head = 0;
  #queued = 0;
  #queuedBytes = 0;
  #ready: (() => void) | undefined;
  #scheduled = false;
  #closing: Promise<void> | undefined;
  #receiveCalls = 0;
  #datagramsReceived = 0;
  #receiveDrops = 0;
  #datagramsTruncated = 0;
  #wouldBlocks = 0;

  constructor(socket: Socket, options: DatagramOptions, gone: () => void) {
    this.#socket = socket;
    this.#gone = gone;
    this.#texts = new HostTexts(options.bind.family === "ipv6");
    const bound = socket.address();
    const { scope } = options.bind;
    this.local = Object.freeze({
      family: options.bind.family,
      address: options.bind.address,
      port: bound.port,
      ...(scope === undefined ? {} : { scope }),
    });
    const { receiveBufferBytes = 0, sendBufferBytes = 0 } = options;
    this.receiveBufferBytes = bufferSize(
      receiveBufferBytes > 0 ? () => socket.setRecvBufferSize(receiveBufferBytes) : undefined,
      () => socket.getRecvBufferSize(),
    );
    this.sendBufferBytes = bufferSize(
      sendBufferBytes > 0 ? () => socket.setSendBufferSize(sendBufferBytes) : undefined,
      () => socket.getSendBufferSize(),
    );
    this.#outbox = new Outbox(socket);
    if (options.remote !== undefined) {
      this.#remote = new DataView(new ArrayBuffer(ADDRESS_BYTES));
      this.#texts.check(options.remote, this.#remote);
    }
    socket.on("message", (payload, sender) => this.#arrived(payload, sender));
    socket.on("error", (error) => this.#failed(error));
  }

  receiveNow(batch: DatagramBatch): number {
    if (this.#closing !== undefined) return 0;
    const { slab, peers, locals } = batch;
    let entry = 0;
    while (entry < batch.capacity && this.#queued > 0) {
      const payload = this.#payloads[this.#head]!;
      const sender = this.#senders[this.#head]!;
      this.#payloads[this.#head] = undefined;
      this.#head = (this.#head + 1) % QUEUE_DATAGRAMS;
      this.#queued--;
      this.#queuedBytes -= payload.length;
      const fits = payload.length <= slab.stride;
      if (!fits && !batch.heads) {
        this.#datagramsTruncated++;
        continue;
      }
      const start = slab.startOf(entry);
      slab.bytes.set(fits ? payload : payload.subarray(0, slab.stride), start);
      batch.starts[entry] = start;
      batch.lengths[entry] = payload.length;
      batch.segments[entry] = 0;
      const at = entry * ADDRESS_BYTES;
      this.#texts.write(sender.address, sender.port, peers, at);
      for (let i = 0; i < ADDRESS_BYTES; i += 4) locals.setUint32(at + i, 0);
      entry++;
    }
    if (entry === 0) this.#wouldBlocks++;
    this.#datagramsReceived += entry;
    batch.count = entry;
    return entry;
  }

  receive(batch: DatagramBatch, signal?: AbortSignal): number | Promise<number> {
    if (signal?.aborted) return Promise.reject(signal.reason);
    const entries = this.receiveNow(batch);
    if (entries > 0 || this.#closing !== undefined) return entries;
    return this.#pending.add(batch, signal);
  }

  send(batch: DatagramBatch, first = 0): number {
    if (this.#closing !== undefined) return 0;
    const { slab, peers, starts, lengths, segments, count } = batch;
    for (let entry = first; entry < count; entry++) {
      const start = starts[entry]!;
      const end = start + lengths[entry]!;
      const at = entry * ADDRESS_BYTES;
      const host = this.#texts.read(peers, at);
      const port = peers.getUint16(at + 2, false);
      const step = segments[entry]! > 0 ? segments[entry]! : lengths[entry]!;
      let from = start;
      // An empty datagram is one datagram, too.
      do {
        const to = Math.min(from + step, end);
        this.#outbox.send(slab.bytes, from, to, port, host);
        from = to;
      } while (from < end);
    }
    return Math.max(0, count - first);
  }

  watch(ready: (() => void) | undefined): void {
    if (this.#closing !== undefined) return;
    this.#ready = ready;
    if (ready !== undefined && this.#queued > 0) this.again();
  }

  again(): void {
    if (this.#scheduled || this.#closing !== undefined) return;
    this.#scheduled = true;
    setImmediate(this.#turn);
  }

  drainErrors(report: (error: DatagramError) => void): void {
    for (const error of this.#errors.splice(0)) report(error);
  }

  counters(): DatagramCounters {
    return Object.freeze({
      receiveCalls: this.#receiveCalls,
      sendCalls: this.#outbox.calls,
      datagramsReceived: this.#datagramsReceived,
      datagramsSent: this.#outbox.sent,
      sendDrops: this.#outbox.drops,
      receiveDrops: this.#receiveDrops,
      datagramsTruncated: this.#datagramsTruncated,
      wouldBlocks: this.#wouldBlocks,
      segmentationRefused: 0,
    });
  }

  close(): Promise<void> {
    this.#closing ??= this.#end();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #end(): Promise<void> {
    this.#ready = undefined;
    this.#queued = this.#queuedBytes = 0;
    this.#payloads.fill(undefined);
    this.#pending.settle();
    // What send() took is not in the kernel yet everywhere: a last acknowledgement must not be lost by closing.
    await this.#outbox.drain(CLOSE_WAIT_MS);
    await new Promise<void>((resolve) => this.#socket.close(resolve));
    this.#gone();
  }

  #arrived(payload: Uint8Array, sender: RemoteInfo): void {
    if (this.#closing !== undefined) return;
    if (this.#remote !== undefined) {
      this.#texts.write(sender.address, sender.port, this.#sender, 0);
      if (!equalAddress(this.#sender, 0, this.#remote, 0)) return;
    }
    this.#receiveCalls++;
    if (
      this.#queued === QUEUE_DATAGRAMS || this.#queuedBytes + payload.length > QUEUE_BYTES
    ) {
      this.#receiveDrops++;
      return;
    }
    const tail = (this.#head + this.#queued) % QUEUE_DATAGRAMS;
    this.#payloads[tail] = payload;
    this.#senders[tail] = sender;
    this.#queued++;
    this.#queuedBytes += payload.length;
    if (!this.#scheduled) this.#deliver();
  }

  readonly #turn = (): void => {
    this.#scheduled = false;
    if (this.#closing === undefined) this.#deliver();
  };

  #deliver(): void {
    this.#pending.serve((batch) => this.receiveNow(batch));
    if (this.#ready === undefined) return;
    try {
      this.#ready();
    } finally {
      // Level-triggered, as the kernel is: what a callback left is announced again.
      if (this.#queued > 0 && this.#ready !== undefined) this.again();
    }
  }

  #failed(error: Error): void {
    const { errnoName } = fromRuntimeError(error, "recvmsg", "receive");
    if (this.#errors.length === ERRORS) this.#errors.shift();
    this.#errors.push({ kind: "other", errnoName, peer: undefined });
  }
}

function bindSocket(options: DatagramOptions): Promise<Socket> {
  const { bind } = options;
  const ipv6 = bind.family === "ipv6";
  const texts = new HostTexts(ipv6);
  const view = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  // Checked by our own reader, so that both drivers refuse the same texts with the same words.
  texts.check(bind, view);
  return new Promise((resolve, reject) => {
    const socket = createSocket({
      type: ipv6 ? "udp6" : "udp4",
      ipv6Only: ipv6 && options.dualStack !== true,
      // Runtimes that do not know it leave the port to one socket: the second one gets EADDRINUSE.
      reusePort: options.reusePort === true,
      // Every address here is a number already; the default would ask the resolver's thread pool for each datagram.
      lookup: (host, _options, callback) => callback(null, host, host.includes(":") ? 6 : 4),
    });
    const failed = (error: Error): void => {
      socket.close();
      reject(fromRuntimeError(error, "bind", `bind to ${formatAddress(bind)}`));
    };
    socket.once("error", failed);
    socket.bind({ address: texts.read(view, 0), port: bind.port, exclusive: true }, () => {
      socket.off("error", failed);
      resolve(socket);
    });
  });
}

/** Sets a size if it was asked for and reads it back; 0 where that is not possible. */
function bufferSize(set: (() => void) | undefined, get: () => number): number {
  // Deno 2.9 does not tell the kernel: it allocates this many bytes for each datagram it receives.
  if ("Deno" in globalThis) return 0;
  try {
    set?.();
  } catch {
    // Refused: the reading tells what is in force.
  }
  // Linux keeps twice what it is asked for, for its own bookkeeping, and reports the double.
  return get() / (platform === "linux" ? 2 : 1);
}

/** Datagrams and bytes that may wait to be received; what comes on top is dropped, newest first, and counted. */
const QUEUE_DATAGRAMS = 4096;
const QUEUE_BYTES = 8 * 1024 * 1024;
/** Errors kept for {@linkcode DatagramSocket.drainErrors}; older ones give way. */
const ERRORS = 64;
/** How long a close may wait for datagrams that are on their way to the kernel. */
const CLOSE_WAIT_MS = 1000;
