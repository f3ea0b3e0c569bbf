/** Peers made by hand: they say the bytes they are given, on the runtime's own sockets and none of ours. */
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { nextTurn } from "../../internal/time/turn.ts";
import { bytesOfHex } from "../../internal/testing/vectors.ts";

/** One connection, byte by byte. */
export class Hand {
  readonly #connection: Deno.TcpConn;
  /** Bytes that were drained. */
  drained = 0;

  constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
    connection.setNoDelay(true);
  }

  static async dial(port: number): Promise<Hand> {
    return new Hand(await Deno.connect({ hostname: "127.0.0.1", port }));
  }

  /** The next `count` bytes in hexadecimal; fewer at the end. */
  async hear(count: number): Promise<string> {
    const bytes = new Uint8Array(count);
    let filled = 0;
    while (filled < count) {
      const more = await this.#connection.read(bytes.subarray(filled)).catch(() => null);
      if (more === null) break;
      filled += more;
    }
    return [...bytes.subarray(0, filled)].map((byte) => byte.toString(16).padStart(2, "0")).join(
      "",
    );
  }

  async say(hex: string | Uint8Array): Promise<void> {
    let rest = typeof hex === "string" ? bytesOfHex(hex) : hex;
    while (rest.length > 0) rest = rest.subarray(await this.#connection.write(rest));
  }

  /** The same, a segment for each byte. */
  async dribble(hex: string | Uint8Array): Promise<void> {
    for (const byte of typeof hex === "string" ? bytesOfHex(hex) : hex) {
      await this.say(Uint8Array.of(byte));
      // The other side has its turn, and the next byte a segment of its own.
      await nextTurn();
    }
  }

  /** Reads until the end, and counts. */
  async drain(): Promise<number> {
    const bytes = new Uint8Array(65_536);
    for (;;) {
      const more = await this.#connection.read(bytes).catch(() => null);
      if (more === null) return this.drained;
      this.drained += more;
    }
  }

  close(): void {
    try {
      this.#connection.close();
    } catch {
      // It was closed already.
    }
  }
}

/** A server made by hand: each connection goes by a script. */
export class HandServer implements AsyncDisposable {
  readonly target: string;
  readonly #listener: Deno.TcpListener;
  readonly #hands: Hand[] = [];
  readonly #scripts: Promise<void>[] = [];

  /** @param script What to do with the connection that is the `index`-th, from 0. It is closed afterwards. */
  constructor(script: (hand: Hand, index: number) => Promise<void>) {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    this.#listener = listener;
    this.target = `127.0.0.1:${listener.addr.port}`;
    this.#scripts.push((async () => {
      for await (const connection of listener) {
        const hand = new Hand(connection);
        this.#scripts.push(
          script(hand, this.#hands.push(hand) - 1).catch(() => {}).finally(() => hand.close()),
        );
      }
    })());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    for (const hand of this.#hands) hand.close();
    for (let i = 0; i < this.#scripts.length; i++) await this.#scripts[i];
  }
}

/** A datagram that came. */
export interface HeardDatagram {
  readonly port: number;
  readonly length: number;
}

/** A UDP socket that sends what it is told and remembers what it got. */
export class UdpHand implements AsyncDisposable {
  readonly port: number;
  readonly heard: HeardDatagram[] = [];
  readonly #socket: Socket;
  #told: () => void = () => {};

  private constructor(socket: Socket) {
    this.#socket = socket;
    this.port = socket.address().port;
    socket.on("message", (bytes, { port }) => {
      this.heard.push({ port, length: bytes.length });
      this.#told();
    });
    socket.on("error", () => {});
  }

  static async open(address = "127.0.0.1", port = 0): Promise<UdpHand> {
    const socket = createSocket("udp4");
    socket.bind(port, address);
    await once(socket, "listening");
    return new UdpHand(socket);
  }

  /** A port for a server whose partner, 256 above, is free as well. */
  static async openPair(): Promise<UdpHand> {
    for (;;) {
      const one = await UdpHand.open();
      if (one.port + 256 <= 65_535) {
        const partner = await UdpHand.open("127.0.0.1", one.port + 256).catch(() => undefined);
        if (partner !== undefined) {
          await partner[Symbol.asyncDispose]();
          return one;
        }
      }
      await one[Symbol.asyncDispose]();
    }
  }

  /** Sends a datagram of `length` bytes that begins with a sequence number; an empty one for length 0. */
  async send(port: number, length: number, sequence = 0): Promise<void> {
    const bytes = new Uint8Array(length);
    if (length >= 4) new DataView(bytes.buffer).setUint32(0, sequence);
    await new Promise<void>((resolve) =>
      this.#socket.send(bytes, port, "127.0.0.1", () => resolve())
    );
  }

  /** Waits until what was heard is enough. */
  async until(enough: (heard: readonly HeardDatagram[]) => boolean): Promise<void> {
    while (!enough(this.heard)) await new Promise<void>((resolve) => this.#told = resolve);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    const closed = once(this.#socket, "close");
    this.#socket.close();
    await closed;
  }
}

/** A status in hexadecimal. */
export function statusHex(cpuByte: number, sequence: number, received: number): string {
  const view = new DataView(new ArrayBuffer(12));
  view.setUint8(0, 7);
  view.setUint8(1, cpuByte);
  view.setUint32(4, sequence, true);
  view.setUint32(8, received, true);
  return [...new Uint8Array(view.buffer)].map((byte) => byte.toString(16).padStart(2, "0")).join(
    "",
  );
}
