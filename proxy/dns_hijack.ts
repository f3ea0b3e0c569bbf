/**
 * DNS of clients, answered here: what the action `hijack-dns` does. To the rest it is an outbound, whose every destination
 * is the DNS part.
 *
 * @module
 */

import { STREAM_END, STREAM_FAILED, type StreamFailure, WOULD_BLOCK } from "../ffi/mod.ts";
import type { Network } from "./config_types.ts";
import { ANSWER_LATER, type Dns, NO_ANSWER } from "./dns.ts";
import type { Duplex } from "./duplex.ts";
import type { DialOptions, Metadata, Outbound } from "./outbound.ts";
import {
  PACKET_HEADROOM,
  PACKET_TAILROOM,
  type PacketConnection,
  type PacketReceiver,
} from "./packets.ts";
import { joinBytes, NO_BYTES, readU16, writeU16 } from "./protocol/octets.ts";
import type { Endpoint } from "./protocol/mod.ts";

/** Answers DNS over whatever is sent to it. */
export class DnsOutbound implements Outbound {
  readonly type = "dns";
  readonly tag = "dns";
  readonly networks: readonly Network[] = ["tcp", "udp"];
  readonly #dns: Dns;
  readonly #idleMs: number;

  /**
   * @param dns Answers; closing it is the caller's.
   * @param idleMs A stream that asks nothing for so long is ended, milliseconds.
   */
  constructor(dns: Dns, idleMs: number = IDLE_MS) {
    this.#dns = dns;
    this.#idleMs = idleMs;
  }

  /** A stream of questions, each with its length in front; answers come in any order (RFC 7766 §6.2.1.1). */
  dial(_destination: Endpoint, options: DialOptions = {}): Promise<Duplex> {
    options.chain?.push(this.tag);
    return Promise.resolve(new DnsDuplex(this.#dns, options.metadata, this.#idleMs));
  }

  /** Datagrams with questions; answers come from where they were sent. */
  openPackets(options: DialOptions = {}): Promise<PacketConnection> {
    options.chain?.push(this.tag);
    return Promise.resolve(new DnsPackets(this.#dns, options.metadata));
  }

  /** Nothing to let go of. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}

class DnsPackets implements PacketConnection {
  readonly #dns: Dns;
  readonly #metadata: Metadata | undefined;
  readonly #room = new Uint8Array(new ArrayBuffer(PACKET_HEADROOM + ROOM_BYTES + PACKET_TAILROOM));
  /** What is longer than this is cut, as the asker's limit would. */
  readonly #into = this.#room.subarray(0, PACKET_HEADROOM + ROOM_BYTES);
  #receiver: PacketReceiver | undefined;
  #waiting = 0;
  #closed = false;

  constructor(dns: Dns, metadata: Metadata | undefined) {
    this.#dns = dns;
    this.#metadata = metadata;
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number, to: Endpoint): void {
    if (this.#closed) return;
    const metadata = this.#metadata;
    const answered = this.#dns.answerNow(
      bytes,
      start,
      end,
      metadata,
      true,
      this.#into,
      PACKET_HEADROOM,
    );
    if (answered === NO_ANSWER) return;
    if (answered !== ANSWER_LATER) {
      this.#receiver?.(this.#room, PACKET_HEADROOM, answered, to);
      return;
    }
    // What finds no room is lost, as datagrams are.
    if (this.#waiting >= MAX_WAITING) return;
    this.#waiting++;
    this.#dns.answer(bytes.slice(start, end), 0, end - start, metadata, true).then((answer) => {
      this.#waiting--;
      if (this.#closed || answer === undefined) return;
      const end = PACKET_HEADROOM + answer.length;
      const whole = new Uint8Array(new ArrayBuffer(end + PACKET_TAILROOM));
      whole.set(answer, PACKET_HEADROOM);
      this.#receiver?.(whole, PACKET_HEADROOM, end, to);
    });
  }

  watch(receiver: PacketReceiver | undefined): void {
    this.#receiver = receiver;
  }

  close(): void {
    this.#closed = true;
    this.#receiver = undefined;
  }
}

class DnsDuplex implements Duplex {
  readonly local: undefined;
  readonly remote: undefined;
  readonly failure: StreamFailure | undefined;
  readonly #dns: Dns;
  readonly #metadata: Metadata | undefined;
  readonly #idleMs: number;
  /** The beginning of a question. */
  #held: Uint8Array<ArrayBuffer> = NO_BYTES;
  /** Answers that nobody has received. */
  #answers: Uint8Array<ArrayBuffer>[] = [];
  #answerBytes = 0;
  #waiting = 0;
  #isEnded = false;
  #closed = false;
  #blocked = false;
  #readable: (() => void) | undefined;
  #writable: (() => void) | undefined;
  #changed: (() => void) | undefined;
  #idle: ReturnType<typeof setTimeout> | undefined;

  constructor(dns: Dns, metadata: Metadata | undefined, idleMs: number) {
    this.#dns = dns;
    this.#metadata = metadata;
    this.#idleMs = idleMs;
    this.#rest();
  }

  get closed(): boolean {
    return this.#closed;
  }

  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.#closed) return STREAM_END;
    const first = this.#answers[0];
    if (first === undefined) {
      return this.#isEnded && this.#waiting === 0 ? STREAM_END : WOULD_BLOCK;
    }
    const count = Math.min(first.length, end - start);
    bytes.set(first.subarray(0, count), start);
    this.#answerBytes -= count;
    if (count === first.length) this.#answers.shift();
    else this.#answers[0] = first.subarray(count);
    if (this.#blocked && this.#hasRoom) {
      this.#blocked = false;
      this.#notify(this.#writable);
    }
    return count;
  }

  receive(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    const count = this.receiveNow(bytes, start, end);
    return count === WOULD_BLOCK
      ? this.#until(() => this.receiveNow(bytes, start, end), signal)
      : count;
  }

  sendNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    if (this.#closed) return STREAM_FAILED;
    if (!this.#hasRoom) {
      this.#blocked = true;
      return WOULD_BLOCK;
    }
    let held = joinBytes(this.#held, bytes.subarray(start, end));
    while (held.length >= 2 && held.length - 2 >= readU16(held, 0)) {
      const next = 2 + readU16(held, 0);
      this.#ask(held.slice(2, next));
      held = held.subarray(next);
    }
    this.#held = held.slice();
    this.#rest();
    return end - start;
  }

  send(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): number | Promise<number> {
    const count = this.sendNow(bytes, start, end);
    return count === WOULD_BLOCK
      ? this.#until(() => this.sendNow(bytes, start, end), signal)
      : count;
  }

  watch(readable: (() => void) | undefined, writable?: (() => void) | undefined): void {
    this.#readable = readable;
    this.#writable = writable;
    // What came before has to be told as well.
    if (this.#answers.length > 0 || this.#isEnded) this.#notify(readable);
  }

  again(): void {
    const readable = this.#readable;
    setTimeout(() => this.#readable === readable && !this.#closed && readable?.(), 0);
  }

  end(): void {
    if (this.#isEnded) return;
    this.#isEnded = true;
    clearTimeout(this.#idle);
    this.#notify(this.#readable);
  }

  close(): Promise<void> {
    this.#closed = true;
    clearTimeout(this.#idle);
    this.#answers = [];
    this.#readable = this.#writable = undefined;
    this.#changed?.();
    return Promise.resolve();
  }

  get #hasRoom(): boolean {
    return this.#waiting < MAX_WAITING && this.#answerBytes < MAX_ANSWER_BYTES;
  }

  #ask(message: Uint8Array<ArrayBuffer>): void {
    this.#waiting++;
    this.#dns.answer(message, 0, message.length, this.#metadata, false).then((answer) => {
      this.#waiting--;
      if (this.#closed) return;
      if (answer !== undefined) {
        const framed = new Uint8Array(new ArrayBuffer(2 + answer.length));
        writeU16(framed, 0, answer.length);
        framed.set(answer, 2);
        this.#answers.push(framed);
        this.#answerBytes += framed.length;
      }
      this.#rest();
      this.#notify(this.#readable);
      if (this.#blocked && this.#hasRoom) {
        this.#blocked = false;
        this.#notify(this.#writable);
      }
    });
  }

  /** Nothing was asked for a while: the client may be gone. */
  #rest(): void {
    clearTimeout(this.#idle);
    if (!this.#isEnded) {
      this.#idle = setTimeout(() => this.#waiting === 0 && this.end(), this.#idleMs);
    }
  }

  /** Calls back later: nobody expects to be called from inside a verb. */
  #notify(call: (() => void) | undefined): void {
    this.#changed?.();
    if (call !== undefined) queueMicrotask(() => this.#closed || call());
  }

  async #until(verb: () => number, signal: AbortSignal | undefined): Promise<number> {
    for (;;) {
      const changed = new Promise<void>((resolve, reject) => {
        this.#changed = resolve;
        signal?.addEventListener("abort", () => reject(signal.reason), { once: true });
      });
      signal?.throwIfAborted();
      await changed;
      const count = verb();
      if (count !== WOULD_BLOCK) return count;
    }
  }
}

const IDLE_MS = 10_000;
/** Longest answer that is given without waiting; longer ones are rare, and cut. */
const ROOM_BYTES = 4096;
/** Questions of one client that wait at a time. */
const MAX_WAITING = 256;
/** Answers nobody receives. */
const MAX_ANSWER_BYTES = 262_144;
