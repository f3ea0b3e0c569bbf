/**
 * The client in front of the proxies that are measured: one thread, callbacks, every byte compared with what it must be.
 *
 * @module
 */
import {
  type ConstantBuffer,
  openStreamHost,
  STREAM_FAILED,
  type StreamConnection,
  type StreamHost,
  WOULD_BLOCK,
} from "@fastwire/net/ffi";
import { isPattern, patternPeriod } from "../../internal/testing/pattern.ts";

/** Bytes of the request a stream to the far end begins with. */
export const REQUEST_BYTES = 17;
/** Bytes read at a time. */
export const BUFFER_BYTES = 262_144;

/** How the far end is reached. */
export interface Way {
  /** Where to connect to, on 127.0.0.1. */
  readonly port: number;
  /** What to ask the SOCKS5 server there for; `undefined` when there is none to ask. */
  readonly target: number | undefined;
}

/** Bytes to be moved. */
export interface Load {
  readonly way: Way;
  readonly direction: "down" | "up";
  readonly bytes: number;
  /** Where in the content they begin: streams that run at once begin at different places. */
  readonly position: number;
}

/** A client. Its verbs block the thread until they are done. */
export class NearEnd implements AsyncDisposable {
  readonly host: StreamHost;
  readonly buffer: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(BUFFER_BYTES));
  readonly content: ConstantBuffer;

  private constructor(host: StreamHost) {
    this.host = host;
    this.content = host.createConstant(patternPeriod());
  }

  /** Opens one. */
  static async open(): Promise<NearEnd> {
    return new NearEnd(await openStreamHost({ driver: "fast", wait: "thread" }));
  }

  /** Moves all loads at once. @returns Seconds. @throws When a byte was wrong, or none came for a while. */
  move(loads: readonly Load[]): number {
    let left = loads.length;
    let moved = 0;
    const started = performance.now();
    const transfers = loads.map((load) =>
      new Transfer(this, load, () => left--, (bytes) => moved += bytes).start()
    );
    this.#until(() => left === 0, () => moved);
    const seconds = (performance.now() - started) / 1000;
    const wrong = transfers.map(({ wrong }) => wrong).filter((text) => text !== "");
    if (wrong.length > 0) {
      throw new Error(`${wrong.length} of ${loads.length} streams were wrong: ${wrong[0]}`);
    }
    return seconds;
  }

  /** Exchanges pieces one at a time. @returns Microseconds of each. */
  exchange(way: Way, pieceBytes: number, count: number): number[] {
    const samples: number[] = [];
    const piece = new Uint8Array(new ArrayBuffer(pieceBytes));
    let sentAt = 0;
    let got = 0;
    const lane = new EchoLane(this, way, (lane) => {
      sentAt = performance.now();
      lane.send(piece);
    }, (lane, bytes) => {
      got += bytes;
      if (got < pieceBytes) return;
      got = 0;
      samples.push((performance.now() - sentAt) * 1000);
      sentAt = performance.now();
      if (samples.length < count) lane.send(piece);
    }).start();
    this.#until(() => samples.length === count, () => samples.length);
    lane.close();
    return samples;
  }

  /**
   * Makes connections, one byte there and back on each, so many at a time.
   *
   * @returns Milliseconds from the first call to the byte, of each, and seconds for all.
   */
  connections(
    way: Way,
    count: number,
    atOnce: number,
  ): { readonly milliseconds: number[]; readonly seconds: number } {
    const milliseconds: number[] = [];
    const byte = new Uint8Array(1);
    let begun = 0;
    const started = performance.now();
    const next = (): void => {
      if (begun === count) return;
      begun++;
      const at = performance.now();
      new EchoLane(this, way, (lane) => lane.send(byte), (lane) => {
        milliseconds.push(performance.now() - at);
        lane.close();
        next();
      }).start();
    };
    for (let i = 0; i < atOnce; i++) next();
    this.#until(() => milliseconds.length === count, () => milliseconds.length);
    return { milliseconds, seconds: (performance.now() - started) / 1000 };
  }

  /** Opens connections that say nothing after one byte there and back. @returns What closes them. */
  idle(way: Way, count: number): () => void {
    const lanes: EchoLane[] = [];
    const byte = new Uint8Array(1);
    let answered = 0;
    while (lanes.length < count) {
      for (let i = 0; i < IDLE_AT_ONCE && lanes.length < count; i++) {
        lanes.push(new EchoLane(this, way, (lane) => lane.send(byte), () => answered++).start());
      }
      this.#until(() => answered === lanes.length, () => answered);
    }
    return () => {
      for (const lane of lanes) lane.close();
    };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.content.close();
    await this.host.close();
  }

  #until(done: () => boolean, progress: () => number): void {
    let seen = progress();
    let at = performance.now();
    while (!done()) {
      this.host.turn(1000);
      const now = progress();
      if (now !== seen) at = performance.now();
      seen = now;
      if (performance.now() - at > STUCK_MS) throw new Error(`Nothing came any more after ${seen}`);
    }
  }
}

/** A connection to the far end, through a SOCKS5 server or not. */
abstract class Lane {
  protected readonly near: NearEnd;
  #connection: StreamConnection | undefined;
  #stage: "greeted" | "asked" | "open" = "greeted";
  readonly #reply = new Uint8Array(new ArrayBuffer(10));
  #got = 0;
  readonly #target: number | undefined;
  readonly #port: number;

  constructor(near: NearEnd, way: Way) {
    this.near = near;
    this.#target = way.target;
    this.#port = way.port;
  }

  /** Connects; the first callback may come before this returns. */
  start(): this {
    const remote = { family: "ipv4", address: "127.0.0.1", port: this.#port } as const;
    this.near.host.dial({ remote }, (outcome) => {
      if (outcome instanceof Error) return this.failed(String(outcome));
      this.#connection = outcome;
      outcome.watch(() => this.#readable(), () => this.#stage === "open" && this.writable());
      if (this.#target !== undefined) {
        outcome.sendNow(new Uint8Array([5, 1, 0]), 0, 3);
        return;
      }
      this.#stage = "open";
      this.opened();
    });
    return this;
  }

  protected get connection(): StreamConnection {
    return this.#connection!;
  }

  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.connection.sendNow(bytes, 0, bytes.length) !== bytes.length) {
      this.failed("there is no room for a few bytes");
    }
  }

  close(): void {
    this.#connection?.close();
  }

  protected request(verb: "d" | "u" | "e", length: number, position: number): void {
    const bytes = new Uint8Array(REQUEST_BYTES);
    const view = new DataView(bytes.buffer);
    bytes[0] = verb.charCodeAt(0);
    view.setBigUint64(1, BigInt(length));
    view.setBigUint64(9, BigInt(position));
    this.send(bytes);
  }

  protected abstract opened(): void;
  protected abstract received(bytes: number): void;
  protected abstract ended(): void;
  protected abstract writable(): void;
  protected abstract failed(why: string): void;

  #readable(): void {
    const connection = this.connection;
    for (let turns = 0; turns < FAIR; turns++) {
      if (this.#stage !== "open") {
        if (!this.#handshake(connection)) return;
        continue;
      }
      const got = connection.receiveNow(this.near.buffer, 0, BUFFER_BYTES);
      if (got === WOULD_BLOCK) return;
      if (got === STREAM_FAILED) return this.failed(connection.failure?.errnoName ?? "failed");
      if (got === 0) return this.ended();
      this.received(got);
      if (connection.closed) return;
    }
    connection.again();
  }

  #handshake(connection: StreamConnection): boolean {
    const wanted = this.#stage === "greeted" ? 2 : 10;
    const got = connection.receiveNow(this.#reply, this.#got, wanted);
    if (got === WOULD_BLOCK) return false;
    if (got <= 0) {
      this.failed("the proxy hung up during the handshake");
      return false;
    }
    this.#got += got;
    if (this.#got < wanted) return true;
    this.#got = 0;
    if (this.#reply[1] !== 0) {
      this.failed(`the proxy answers ${this.#reply[1]}`);
      return false;
    }
    if (this.#stage === "greeted") {
      this.#stage = "asked";
      const port = this.#target!;
      const words = new Uint8Array([5, 1, 0, 1, 127, 0, 0, 1, port >> 8, port & 255]);
      connection.sendNow(words, 0, words.length);
      return true;
    }
    this.#stage = "open";
    this.opened();
    return true;
  }
}

class Transfer extends Lane {
  wrong = "";
  readonly #load: Load;
  readonly #done: () => void;
  readonly #moved: (bytes: number) => void;
  #position: number;
  #left: number;
  #over = false;

  constructor(near: NearEnd, load: Load, done: () => void, moved: (bytes: number) => void) {
    super(near, load.way);
    this.#load = load;
    this.#done = done;
    this.#moved = moved;
    this.#position = load.position;
    this.#left = load.bytes;
  }

  protected opened(): void {
    const { direction, bytes, position } = this.#load;
    this.request(direction === "down" ? "d" : "u", bytes, position);
    this.writable();
  }

  protected received(bytes: number): void {
    if (this.#load.direction === "up") {
      return this.#finish(
        bytes === 1 && this.near.buffer[0] === 1 && this.#left === 0
          ? ""
          : "the far end got other bytes",
      );
    }
    if (!isPattern(this.near.buffer, 0, bytes, this.#position)) {
      return this.#finish(`other bytes at ${this.#position}`);
    }
    this.#position += bytes;
    this.#left -= bytes;
    this.#moved(bytes);
  }

  protected ended(): void {
    this.#finish(
      this.#left === 0 && this.#load.direction === "down" ? "" : `an end with ${this.#left} to go`,
    );
  }

  protected writable(): void {
    if (this.#load.direction === "down" || this.#over) return;
    while (this.#left > 0) {
      const sent = this.connection.sendConstantNow(this.near.content, this.#position, this.#left);
      if (sent === WOULD_BLOCK) return;
      if (sent === STREAM_FAILED) return this.#finish("sending failed");
      this.#position += sent;
      this.#left -= sent;
      this.#moved(sent);
    }
  }

  protected failed(why: string): void {
    this.#finish(why);
  }

  #finish(wrong: string): void {
    if (this.#over) return;
    this.#over = true;
    this.wrong = wrong;
    this.close();
    this.#done();
  }
}

class EchoLane extends Lane {
  readonly #ready: (lane: EchoLane) => void;
  readonly #arrived: (lane: EchoLane, bytes: number) => void;

  constructor(
    near: NearEnd,
    way: Way,
    ready: (lane: EchoLane) => void,
    arrived: (lane: EchoLane, bytes: number) => void,
  ) {
    super(near, way);
    this.#ready = ready;
    this.#arrived = arrived;
  }

  protected opened(): void {
    this.request("e", 0, 0);
    this.#ready(this);
  }

  protected received(bytes: number): void {
    this.#arrived(this, bytes);
  }

  protected ended(): void {
    this.failed("it ended");
  }

  protected writable(): void {}

  protected failed(why: string): void {
    throw new Error(`A connection that echoes broke: ${why}`);
  }
}

/** Receives before others have their turn. */
const FAIR = 16;
/** Idle connections that are opened at a time. */
const IDLE_AT_ONCE = 50;
/** Nothing happening for so long is a failure. */
const STUCK_MS = 15_000;
