/**
 * What the engine's tests share: servers to go to, clients that speak by the letter of the standards, and a proxy.
 *
 * @module
 */

import { Buffer } from "node:buffer";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { connect, createServer, type Server, type Socket as Stream } from "node:net";
import { bindAll } from "../../ffi/libc_linux.ts";
import { libcrypto } from "../../ffi/libcrypto_linux.ts";
import { createProxy } from "../engine.ts";
import type { ProxyServer } from "../server.ts";

// What is bound inside of a test counts as a leak of that test, and stays bound for the life of the process.
bindAll();
libcrypto();

/** A TCP client or the server's side of one: bytes as they come, read in exact pieces. */
export class Peer implements AsyncDisposable {
  readonly socket: Stream;
  #held = Buffer.alloc(0);
  #ended = false;
  #failed = false;
  #wake: (() => void) | undefined;

  constructor(socket: Stream) {
    this.socket = socket;
    socket.on("data", (piece: Buffer) => {
      this.#held = Buffer.concat([this.#held, piece]);
      this.#wake?.();
    });
    socket.on("end", () => {
      this.#ended = true;
      this.#wake?.();
    });
    socket.on("error", () => {
      this.#failed = true;
      this.#wake?.();
    });
    socket.on("close", () => {
      this.#ended = true;
      this.#wake?.();
    });
  }

  static async connect(port: number): Promise<Peer> {
    const socket = connect({ host: "127.0.0.1", port, allowHalfOpen: true, noDelay: true });
    const peer = new Peer(socket);
    await once(socket, "connect");
    return peer;
  }

  /** What has arrived and was not read. */
  get held(): number {
    return this.#held.length;
  }

  /** Whether the connection was reset. */
  get failed(): boolean {
    return this.#failed;
  }

  get ended(): boolean {
    return this.#ended || this.#failed;
  }

  write(bytes: Uint8Array | string): void {
    this.socket.write(bytes);
  }

  /** Sends byte by byte, each on its way before the next. */
  async dribble(bytes: Uint8Array): Promise<void> {
    for (const byte of bytes) {
      await new Promise((resolve) => this.socket.write(Uint8Array.of(byte), resolve));
    }
  }

  end(): void {
    this.socket.end();
  }

  async read(count: number): Promise<Uint8Array> {
    while (this.#held.length < count) {
      if (this.ended) {
        throw new Error(`the connection ended after ${this.#held.length} of ${count} bytes`);
      }
      await new Promise<void>((resolve) => this.#wake = resolve);
    }
    const found = new Uint8Array(this.#held.subarray(0, count));
    this.#held = this.#held.subarray(count);
    return found;
  }

  /** Everything until the end. */
  async rest(): Promise<Uint8Array> {
    while (!this.ended) await new Promise<void>((resolve) => this.#wake = resolve);
    const found = new Uint8Array(this.#held);
    this.#held = Buffer.alloc(0);
    return found;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.socket.destroyed) return;
    const closed = once(this.socket, "close");
    this.socket.destroy();
    await closed;
  }
}

/** A TCP server that hands its clients out. */
export class Origin implements AsyncDisposable {
  readonly #server: Server;
  readonly #peers: Peer[] = [];
  readonly #waiting: ((peer: Peer) => void)[] = [];
  readonly #all: Peer[] = [];

  private constructor(server: Server) {
    this.#server = server;
    server.on("connection", (socket) => {
      const peer = new Peer(socket);
      this.#all.push(peer);
      const waiter = this.#waiting.shift();
      if (waiter === undefined) this.#peers.push(peer);
      else waiter(peer);
    });
  }

  static async open(): Promise<Origin> {
    const server = createServer({ allowHalfOpen: true, noDelay: true });
    const origin = new Origin(server);
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    return origin;
  }

  /** A server that sends back what it gets, and ends when its client does. */
  static async echo(): Promise<Origin> {
    const origin = await Origin.open();
    origin.#server.on("connection", (socket: Stream) => socket.pipe(socket));
    return origin;
  }

  get port(): number {
    const address = this.#server.address();
    if (address === null || typeof address === "string") throw new Error("not listening");
    return address.port;
  }

  get connections(): number {
    return this.#all.length;
  }

  accept(): Promise<Peer> {
    const peer = this.#peers.shift();
    if (peer !== undefined) return Promise.resolve(peer);
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const peer of this.#all) await peer[Symbol.asyncDispose]();
    await new Promise((resolve) => this.#server.close(resolve));
  }
}

/** A UDP socket; datagrams as they come. */
export class Datagrams implements AsyncDisposable {
  readonly socket: Socket;
  readonly #held: { readonly bytes: Uint8Array; readonly port: number }[] = [];
  #wake: (() => void) | undefined;

  private constructor(socket: Socket) {
    this.socket = socket;
    socket.on("message", (bytes, { port }) => {
      this.#held.push({ bytes: new Uint8Array(bytes), port });
      this.#wake?.();
    });
  }

  static async open(): Promise<Datagrams> {
    const socket = createSocket("udp4");
    const datagrams = new Datagrams(socket);
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    return datagrams;
  }

  /** A server that sends back what it gets. */
  static async echo(): Promise<Datagrams> {
    const datagrams = await Datagrams.open();
    datagrams.socket.on("message", (bytes, { port, address }) => {
      datagrams.socket.send(bytes, port, address);
    });
    return datagrams;
  }

  get port(): number {
    return this.socket.address().port;
  }

  get held(): number {
    return this.#held.length;
  }

  send(bytes: Uint8Array, port: number): void {
    this.socket.send(bytes, port, "127.0.0.1");
  }

  async receive(): Promise<{ readonly bytes: Uint8Array; readonly port: number }> {
    while (this.#held.length === 0) await new Promise<void>((resolve) => this.#wake = resolve);
    return this.#held.shift()!;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await new Promise<void>((resolve) => this.socket.close(() => resolve()));
  }
}

/** A proxy on free ports of loopback. */
export class TestProxy implements AsyncDisposable {
  readonly server: ProxyServer;

  private constructor(server: ProxyServer) {
    this.server = server;
  }

  static async open(
    driver: "fast" | "portable",
    inbounds: readonly object[],
    more: object = {},
  ): Promise<TestProxy> {
    return new TestProxy(await createProxy(configOf(inbounds, more), { driver }));
  }

  port(tag: string): number {
    return this.server.inbounds.find((each) => each.tag === tag)!.addresses[0]!.port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.server.close();
  }
}

/** A configuration whose inbounds listen on loopback; their type is their tag unless they say otherwise. */
export function configOf(inbounds: readonly object[], more: object = {}): object {
  return {
    inbounds: inbounds.map((inbound) => ({
      tag: (inbound as { type: string }).type,
      listen: "127.0.0.1",
      listen_port: 0,
      ...inbound,
    })),
    ...more,
  };
}

/** Waits until something holds, looking again each turn of the event loop. */
export async function until(holds: () => boolean, what: string): Promise<void> {
  const limit = performance.now() + 5000;
  while (!holds()) {
    if (performance.now() > limit) throw new Error(`waited in vain until ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** A request of SOCKS5 for a port of loopback, behind a greeting without authentication. */
export function socks5Words(port: number, command = 1): Uint8Array {
  return Uint8Array.of(5, 1, 0, ...socks5Request(port, command));
}

/** The request alone. */
export function socks5Request(port: number, command = 1): Uint8Array {
  return Uint8Array.of(5, command, 0, 1, 127, 0, 0, 1, port >> 8, port & 255);
}

/** Bytes that repeat late. */
export function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let state = seed | 1;
  for (let i = 0; i < length; i++) {
    state = Math.imul(state, 1664525) + 1013904223 | 0;
    bytes[i] = state >>> 24;
  }
  return bytes;
}

/** Bytes of a text. */
export function bytesOf(text: string): Uint8Array<ArrayBuffer> {
  return new TextEncoder().encode(text);
}

/** The text of bytes. */
export function textOf(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
