/**
 * A connection while messages travel on it: before its data flows, and for the whole of a UDP test.
 *
 * @module
 */
import { STREAM_FAILED, type StreamConnection, WOULD_BLOCK } from "../ffi/mod.ts";

/** Who reads a wire. */
export interface WireReader {
  /**
   * Takes what arrived. @returns How many bytes were taken; the rest is kept and offered again with what follows, or by
   * {@linkcode Wire.offer}.
   */
  take(bytes: Uint8Array, start: number, end: number): number;
  /** The peer ended the connection, or it broke. */
  closed(): void;
}

/** Small messages over one connection. Never waits, never throws for what a peer does. */
export class Wire {
  /** What carries the messages. */
  readonly connection: StreamConnection;
  #reader: WireReader;
  readonly #bytes: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(KEPT_BYTES));
  #filled = 0;
  #over = false;
  #reading = false;
  #paused = false;

  /** Reads at once. */
  constructor(connection: StreamConnection, reader: WireReader) {
    this.connection = connection;
    this.#reader = reader;
  }

  /** Begins to read. */
  start(): void {
    this.connection.watch(this.#readable);
  }

  /** Gives the connection to another reader; what is kept goes with it. */
  handTo(reader: WireReader): void {
    this.#reader = reader;
  }

  /** Sends a message. A peer that has no room for so little does not read: it counts as gone. */
  write(bytes: Uint8Array): void {
    if (this.#over) return;
    // The bytes of a machine are its own: the contract wants an ArrayBuffer behind them.
    const own = Uint8Array.from(bytes);
    if (this.connection.sendNow(own, 0, own.length) === own.length) return;
    // Not from inside the reader's own call.
    queueMicrotask(() => this.#end());
  }

  /** Reads no further: what comes, the end too, belongs to whoever takes the connection by {@linkcode release}. */
  pause(): void {
    this.#paused = true;
    this.connection.watch(undefined);
  }

  /** Offers what was kept again. */
  offer(): void {
    if (this.#over || this.#reading) return;
    this.#give();
    if (this.#paused && this.#filled < KEPT_BYTES && !this.#over) {
      this.#paused = false;
      this.connection.watch(this.#readable);
    }
  }

  /** Stops reading. @returns What was kept. */
  release(): Uint8Array<ArrayBuffer> {
    this.#over = true;
    this.connection.watch(undefined);
    return this.#bytes.slice(0, this.#filled);
  }

  /** Stops reading and closes. */
  async close(): Promise<void> {
    this.release();
    await this.connection.close();
  }

  readonly #readable = (): void => {
    while (!this.#over && !this.#paused) {
      if (this.#filled === KEPT_BYTES) {
        // Whoever has so much to say before it is its turn waits in the kernel.
        this.#paused = true;
        this.connection.watch(undefined);
        return;
      }
      const count = this.connection.receiveNow(this.#bytes, this.#filled, KEPT_BYTES);
      if (count === WOULD_BLOCK) return;
      if (count <= STREAM_FAILED || count === 0) return this.#end();
      this.#filled += count;
      this.#give();
    }
  };

  #give(): void {
    this.#reading = true;
    const taken = this.#reader.take(this.#bytes, 0, this.#filled);
    this.#reading = false;
    this.#bytes.copyWithin(0, taken, this.#filled);
    this.#filled -= taken;
  }

  #end(): void {
    if (this.#over) return;
    this.#over = true;
    this.connection.watch(undefined);
    this.#reader.closed();
  }
}

/** Longest run of bytes that waits: more than any handshake has. */
const KEPT_BYTES = 1024;
