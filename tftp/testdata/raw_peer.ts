/**
 * A TFTP peer made of nothing but datagrams, for tests: says any bytes to anybody and shows what comes back.
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  type DatagramBatch,
  type DatagramHost,
  type DatagramSocket,
  formatAddress,
  literalAddress,
  openDatagramHost,
  readAddress,
  type SocketAddress,
  writeAddress,
} from "../../ffi/mod.ts";

/** A datagram that came. */
export interface Received {
  readonly bytes: Uint8Array;
  readonly from: SocketAddress;
  /** The same in words: `DATA 1 512`, `OACK blksize=1428`, `ERROR 1 File not found`. */
  readonly words: string;
}

/** See the module. */
export class RawPeer implements AsyncDisposable {
  readonly #host: DatagramHost;
  readonly #socket: DatagramSocket;
  readonly #incoming: DatagramBatch;
  readonly #outgoing: DatagramBatch;
  readonly #queue: Received[] = [];
  #wake: () => void = () => {};
  readonly #heard = new Set<string>();
  /**
   * {@linkcode hear} passes over what it has heard from the same port before: a client whose test is slow says things
   * again.
   */
  onlyNews = false;
  /** Whom {@linkcode send} speaks to unless told otherwise. */
  to: SocketAddress;

  private constructor(host: DatagramHost, socket: DatagramSocket, to: SocketAddress) {
    this.#host = host;
    this.#socket = socket;
    this.#incoming = host.createBatch(16, 65536);
    this.#outgoing = host.createBatch(1, 65536);
    this.to = to;
    socket.watch(() => this.#drain());
  }

  /** Opens a peer. @param to Whom it speaks to. @param at The address it speaks from; a loopback one. */
  static async open(to: SocketAddress, at?: string, port = 0): Promise<RawPeer> {
    const host = await openDatagramHost();
    const address = at ?? (to.family === "ipv4" ? "127.0.0.1" : "::1");
    const socket = await host.open({ bind: literalAddress(address, port)! });
    return new RawPeer(host, socket, to);
  }

  /** Where it is. */
  get address(): SocketAddress {
    return this.#socket.local;
  }

  /** Datagrams that came and were not looked at. */
  get waiting(): number {
    this.#drain();
    return this.#queue.length;
  }

  /** Sends bytes. */
  send(bytes: Uint8Array, to: SocketAddress = this.to): void {
    const batch = this.#outgoing;
    batch.slab.bytes.set(bytes);
    batch.starts[0] = 0;
    batch.lengths[0] = bytes.length;
    batch.segments[0] = 0;
    batch.locals.setUint16(0, 0);
    writeAddress(batch.peers, 0, to);
    batch.count = 1;
    this.#socket.send(batch);
  }

  /** The next datagram. @throws {Error} When none comes in time. */
  async receive(timeoutMs = 4000): Promise<Received> {
    const until = performance.now() + timeoutMs;
    for (;;) {
      const next = this.#queue.shift();
      if (next !== undefined) return next;
      const left = until - performance.now();
      if (left <= 0) {
        throw new Error(`nothing came to ${formatAddress(this.address)} in ${timeoutMs} ms`);
      }
      let timer: ReturnType<typeof setTimeout> | undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        timer = setTimeout(resolve, left);
      });
      clearTimeout(timer);
    }
  }

  /** The next datagram, in words; whoever sent it is spoken to from now on. */
  async hear(timeoutMs?: number): Promise<string> {
    for (;;) {
      const { words, from } = await this.receive(timeoutMs);
      this.to = from;
      const whole = `${from.port} ${words}`;
      if (this.onlyNews && this.#heard.has(whole)) continue;
      this.#heard.add(whole);
      return words;
    }
  }

  /** Several datagrams in words. */
  async hearAll(count: number): Promise<string[]> {
    const all: string[] = [];
    for (let i = 0; i < count; i++) all.push(await this.hear());
    return all;
  }

  /**
   * Shows that nothing came: asks `server` for a name that it does not have, which it answers after everything that was
   * sent before, and answers what came until then.
   */
  async heardBefore(server: SocketAddress): Promise<string[]> {
    const name = `fence-${Math.random()}`;
    this.send(request("read", name), server);
    const all: string[] = [];
    for (;;) {
      const { words } = await this.receive();
      if (words === "ERROR 1 File not found") return all;
      all.push(words);
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#socket.watch(undefined);
    await this.#host.close();
  }

  #drain(): void {
    const batch = this.#incoming;
    for (;;) {
      const count = this.#socket.receiveNow(batch);
      for (let i = 0; i < count; i++) {
        const start = batch.starts[i]!;
        const bytes = batch.slab.bytes.slice(start, start + batch.lengths[i]!);
        const from = readAddress(batch.peers, i * ADDRESS_BYTES);
        this.#queue.push({ bytes, from, words: inWords(bytes) });
      }
      if (count > 0) this.#wake();
      else this.#socket.drainErrors(() => {});
      if (count < batch.capacity) return;
    }
  }
}

/** A request; options are `name=value`. */
export function request(
  operation: "read" | "write",
  name: string | Uint8Array,
  options: readonly string[] = [],
  mode = "octet",
): Uint8Array {
  const nameBytes = typeof name === "string" ? new TextEncoder().encode(name) : name;
  const rest = [
    mode,
    ...options.flatMap((pair) => [
      pair.slice(0, pair.indexOf("=")),
      pair.slice(pair.indexOf("=") + 1),
    ]),
  ];
  return joined([0, operation === "read" ? 1 : 2], nameBytes, [0], ...rest.map(zeroEnded));
}

/** A block. */
export function data(block: number, payload: Uint8Array | number): Uint8Array {
  const bytes = typeof payload === "number" ? new Uint8Array(payload) : payload;
  return joined([0, 3, block >> 8, block & 255], bytes);
}

/** An acknowledgement. */
export function ack(block: number): Uint8Array {
  return Uint8Array.of(0, 4, block >> 8, block & 255);
}

/** An error. */
export function error(code: number, message: string): Uint8Array {
  return joined([0, 5, code >> 8, code & 255], zeroEnded(message));
}

/** An options acknowledgement; options are `name=value`. */
export function oack(...options: readonly string[]): Uint8Array {
  return joined(
    [0, 6],
    ...options.flatMap((pair) => [
      zeroEnded(pair.slice(0, pair.indexOf("="))),
      zeroEnded(pair.slice(pair.indexOf("=") + 1)),
    ]),
  );
}

/** The payload of a block. */
export function payloadOf(bytes: Uint8Array): Uint8Array {
  return bytes.subarray(4);
}

/** A packet in words. */
export function inWords(bytes: Uint8Array): string {
  if (bytes.length < 4) return `${bytes.length} BYTES`;
  const number = bytes[2]! << 8 | bytes[3]!;
  const texts = (from: number): string[] =>
    new TextDecoder("latin1").decode(bytes.subarray(from)).split("\0").slice(0, -1);
  switch (bytes[0]! << 8 | bytes[1]!) {
    case 1:
    case 2: {
      const [name, mode, ...rest] = texts(2);
      const pairs = pairsOf(rest);
      return [bytes[1] === 1 ? "RRQ" : "WRQ", name, mode, ...pairs].join(" ");
    }
    case 3:
      return `DATA ${number} ${bytes.length - 4}`;
    case 4:
      return `ACK ${number}`;
    case 5:
      return `ERROR ${number} ${texts(4)[0]}`;
    case 6:
      return ["OACK", ...pairsOf(texts(2))].join(" ");
    default:
      return `${bytes.length} BYTES`;
  }
}

function pairsOf(words: readonly string[]): string[] {
  const pairs: string[] = [];
  for (let i = 0; i + 1 < words.length; i += 2) pairs.push(`${words[i]}=${words[i + 1]}`);
  return pairs;
}

function zeroEnded(text: string): Uint8Array {
  return joined(new TextEncoder().encode(text), [0]);
}

function joined(...parts: readonly (ArrayLike<number>)[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}
