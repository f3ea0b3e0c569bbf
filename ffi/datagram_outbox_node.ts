/**
 * Datagrams on their way into `node:dgram`: copied, because the sender's bytes may change at once, in buffers that are
 * used again; and one at a time, because Deno 2.9 sends what is handed over together in reverse order.
 *
 * @module
 */
import type { Socket } from "node:dgram";

/** The sending half of one socket. */
export class Outbox {
  readonly #socket: Socket;
  readonly #small: Parcel[] = [];
  readonly #large: Parcel[] = [];
  // A ring of what waits: parcels [head, head + parcels), the first of them under way.
  readonly #waiting: (Parcel | undefined)[] = [];
  #head = 0;
  #parcels = 0;
  #parcelBytes = 0;
  #sending = false;
  #drained: (() => void) | undefined;
  /** Datagrams handed to the runtime. */
  calls = 0;
  /** Datagrams the kernel took. */
  sent = 0;
  /** Datagrams lost on the way. */
  drops = 0;

  constructor(socket: Socket) {
    this.#socket = socket;
  }

  /**
   * Sends `bytes[from, to)`. An address that cannot be reached from this socket, or too much under way already, loses
   * the datagram and counts it.
   *
   * @param host Address text; empty when the entry's family is not this socket's.
   */
  send(bytes: Uint8Array, from: number, to: number, port: number, host: string): void {
    const length = to - from;
    if (
      host === "" || port === 0 || length > LARGE_BYTES ||
      this.#parcels === PARCELS || this.#parcelBytes + length > PARCEL_BYTES
    ) {
      this.drops++;
      return;
    }
    const pool = length <= SMALL_BYTES ? this.#small : this.#large;
    const parcel = pool.pop() ??
      new Parcel(this, length <= SMALL_BYTES ? SMALL_BYTES : LARGE_BYTES);
    parcel.bytes.set(bytes.subarray(from, to));
    parcel.length = length;
    parcel.port = port;
    parcel.host = host;
    this.#waiting[(this.#head + this.#parcels++) % PARCELS] = parcel;
    this.#parcelBytes += length;
    if (!this.#sending) this.#next();
  }

  /** Waits until nothing is under way, at most `maxWaitMs`. */
  async drain(maxWaitMs: number): Promise<void> {
    if (this.#parcels === 0) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    await new Promise<void>((resolve) => {
      this.#drained = resolve;
      timer = setTimeout(resolve, maxWaitMs);
    });
    clearTimeout(timer);
  }

  /** For {@linkcode Parcel} only. @ignore */
  arrived(parcel: Parcel, error: Error | null): void {
    this.#done(parcel, !error);
    this.#sending = false;
    this.#next();
    if (this.#parcels === 0) this.#drained?.();
  }

  #next(): void {
    while (this.#parcels > 0 && !this.#sending) {
      const parcel = this.#waiting[this.#head]!;
      this.calls++;
      this.#sending = true;
      try {
        this.#socket.send(parcel.bytes, 0, parcel.length, parcel.port, parcel.host, parcel.left);
      } catch {
        // Refused before it was tried; the callback does not come.
        this.#sending = false;
        this.#done(parcel, false);
      }
    }
  }

  #done(parcel: Parcel, left: boolean): void {
    if (left) this.sent++;
    else this.drops++;
    this.#waiting[this.#head] = undefined;
    this.#head = (this.#head + 1) % PARCELS;
    this.#parcels--;
    this.#parcelBytes -= parcel.length;
    const [pool, most] = parcel.bytes.length === SMALL_BYTES
      ? [this.#small, SMALL_KEPT]
      : [this.#large, LARGE_KEPT];
    if (pool.length < most) pool.push(parcel);
  }
}

class Parcel {
  readonly bytes: Uint8Array<ArrayBuffer>;
  length = 0;
  port = 0;
  host = "";
  readonly left: (error: Error | null) => void;

  constructor(outbox: Outbox, size: number) {
    this.bytes = new Uint8Array(size);
    // One function per buffer, not per datagram.
    this.left = (error) => outbox.arrived(this, error);
  }
}

/** Covers every datagram that fits an Ethernet frame. */
const SMALL_BYTES = 2048;
/** Covers every datagram there is. */
const LARGE_BYTES = 65_536;
/** Idle buffers that are kept: 512 KiB and 1 MiB. */
const SMALL_KEPT = 256;
const LARGE_KEPT = 16;
/** Datagrams and bytes that may wait; a kernel's send buffer has a limit as well. */
const PARCELS = 4096;
const PARCEL_BYTES = 8 * 1024 * 1024;
