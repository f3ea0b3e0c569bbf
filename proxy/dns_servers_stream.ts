/**
 * DNS over streams, plain (RFC 7766) and in TLS (RFC 7858): one connection that is kept, many questions at once, answers in
 * any order.
 *
 * @module
 */

import { STREAM_END, streamError, WOULD_BLOCK } from "../ffi/mod.ts";
import { ProtocolError } from "../internal/errors.ts";
import type { Random } from "../internal/random.ts";
import { type DnsAsk, encodeDnsQuery } from "./dns_message.ts";
import type { DnsReply } from "./dns_reply.ts";
import {
  closedServer,
  type DnsServer,
  lateAnswer,
  PendingAsks,
  unfitName,
  whenAborted,
  withSignal,
} from "./dns_server.ts";
import type { Duplex } from "./duplex.ts";
import { joinBytes, NO_BYTES, readU16, writeU16 } from "./protocol/octets.ts";

/** A stream as DNS needs it. */
export interface DnsStream {
  /** Sends; what has no room waits. */
  send(bytes: Uint8Array<ArrayBuffer>): void;
  /**
   * Sets who gets what arrives.
   *
   * @param data Called with `[start, end)`, which is the callee's until it returns.
   * @param ended Called once, with the reason if there is one.
   */
  watch(
    data: (bytes: Uint8Array, start: number, end: number) => void,
    ended: (reason: Error | undefined) => void,
  ): void;
  /** Idempotent. */
  close(): void;
}

/** Settings of a server that is asked over streams. */
export interface StreamServerSettings {
  /** Unique among DNS servers. */
  readonly tag: string;
  /** `tcp` or `tls`. */
  readonly type: "tcp" | "tls";
  /** Connects. */
  readonly connect: (signal: AbortSignal) => Promise<DnsStream>;
  /** Fit for numbers. */
  readonly random: Random;
  /** A connection that carried no question for so long is closed, milliseconds. Default 15 s. */
  readonly idleMs?: number;
}

interface Link {
  readonly stream: DnsStream;
  readonly asks: PendingAsks;
  /** Whether it has answered: then a break says little about the server, which may have been idle. */
  isProven: boolean;
  isOver: boolean;
}

/** Asks over a stream. */
export class StreamDnsServer implements DnsServer {
  readonly type: "tcp" | "tls";
  readonly tag: string;
  readonly #settings: StreamServerSettings;
  readonly #closing = new AbortController();
  #link: Promise<Link> | undefined;
  #idle: ReturnType<typeof setTimeout> | undefined;
  #connections = 0;

  /** @param settings How it is reached. */
  constructor(settings: StreamServerSettings) {
    this.tag = settings.tag;
    this.type = settings.type;
    this.#settings = settings;
  }

  /** Connections made so far. */
  get connections(): number {
    return this.#connections;
  }

  /** Asks; see {@linkcode DnsServer.exchange}. */
  async exchange(ask: DnsAsk, signal: AbortSignal): Promise<DnsReply> {
    for (let attempt = 0;; attempt++) {
      signal.throwIfAborted();
      if (this.#closing.signal.aborted) throw closedServer(this.tag);
      const link = await withSignal(this.#link ??= this.#connect(), signal);
      try {
        return await this.#ask(link, ask, signal);
      } catch (error) {
        // The server may have closed a connection that was kept just when the question left: ask again, once.
        const mayRetry = attempt === 0 && link.isOver && link.isProven;
        if (!mayRetry || signal.aborted || this.#closing.signal.aborted) throw error;
      }
    }
  }

  /** Closes its connection. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(closedServer(this.tag));
    clearTimeout(this.#idle);
    const link = await this.#link?.catch(() => undefined);
    if (link !== undefined) this.#end(link, closedServer(this.tag));
  }

  #connect(): Promise<Link> {
    const connecting = this.#open();
    connecting.catch(() => {
      if (this.#link === connecting) this.#link = undefined;
    });
    return connecting;
  }

  async #open(): Promise<Link> {
    const { connect, random } = this.#settings;
    const stream = await connect(this.#closing.signal);
    this.#connections++;
    const link: Link = { stream, asks: new PendingAsks(random), isProven: false, isOver: false };
    let held: Uint8Array<ArrayBuffer> = NO_BYTES;
    stream.watch((bytes, start, end) => {
      // Two bytes of length in front of each message, RFC 1035 §4.2.2.
      if (held.length > 0) {
        bytes = joinBytes(held, bytes.subarray(start, end));
        [start, end] = [0, bytes.length];
      }
      while (end - start >= 2 && end - start - 2 >= readU16(bytes, start)) {
        const next = start + 2 + readU16(bytes, start);
        if (link.asks.accept(bytes, start + 2, next)) link.isProven = true;
        start = next;
      }
      held = start === end ? NO_BYTES : bytes.slice(start, end) as Uint8Array<ArrayBuffer>;
    }, (reason) => this.#end(link, reason ?? endedEarly(this.tag)));
    return link;
  }

  #ask(link: Link, ask: DnsAsk, signal: AbortSignal): Promise<DnsReply> {
    clearTimeout(this.#idle);
    return new Promise((resolve, reject) => {
      let forget = (): void => {};
      const over = (): void => {
        forget();
        if (link.asks.size === 0 && !link.isOver) this.#rest(link);
      };
      const fail = (reason: unknown): void => {
        over();
        reject(reason);
      };
      if (link.isOver) return fail(endedEarly(this.tag));
      const id = link.asks.add({
        ask,
        resolve: ({ reply }) => {
          over();
          resolve(reply);
        },
        reject: fail,
      });
      if (id < 0) return fail(lateAnswer(`"${ask.name}"`, 0, 0));
      const giveUp = (reason: unknown): void => {
        link.asks.delete(id);
        fail(reason);
      };
      const query = encodeDnsQuery(id, ask);
      if (query === undefined) return giveUp(unfitName(ask.name));
      const framed = new Uint8Array(2 + query.length);
      writeU16(framed, 0, query.length);
      framed.set(query, 2);
      link.stream.send(framed);
      forget = whenAborted(signal, () => giveUp(signal.reason));
    });
  }

  #rest(link: Link): void {
    clearTimeout(this.#idle);
    if (this.#closing.signal.aborted) return;
    this.#idle = setTimeout(
      () => this.#end(link, endedEarly(this.tag)),
      this.#settings.idleMs ?? IDLE_MS,
    );
  }

  #end(link: Link, reason: Error): void {
    if (link.isOver) return;
    link.isOver = true;
    this.#link = undefined;
    clearTimeout(this.#idle);
    link.stream.close();
    link.asks.fail(reason);
  }
}

function endedEarly(tag: string): ProtocolError {
  return new ProtocolError(
    "proxy.name-cut",
    `Cannot ask DNS server "${tag}": it closed the connection, expected an answer`,
    { rule: "RFC 7766 §6.2.4" },
  );
}

/** A stream of the proxy as DNS needs it. */
export function plainDnsStream(duplex: Duplex): DnsStream {
  const buffer = new Uint8Array(new ArrayBuffer(8192));
  let queue: Uint8Array<ArrayBuffer> = NO_BYTES;
  let ended: ((reason: Error | undefined) => void) | undefined;
  const end = (count: number): void => {
    const report = ended;
    ended = undefined;
    report?.(
      count === STREAM_END ? undefined : streamError(duplex.failure, "ask a DNS server"),
    );
  };
  const flush = (): void => {
    if (queue.length === 0) return;
    const count = duplex.sendNow(queue, 0, queue.length);
    if (count > 0) queue = queue.slice(count);
    else if (count !== WOULD_BLOCK) end(count);
  };
  return {
    send(bytes) {
      queue = queue.length === 0 ? bytes : joinBytes(queue, bytes);
      flush();
    },
    watch(data, whenEnded) {
      ended = whenEnded;
      const readable = (): void => {
        while (ended !== undefined) {
          const count = duplex.receiveNow(buffer, 0, buffer.length);
          if (count === WOULD_BLOCK) return;
          if (count <= 0) return end(count);
          data(buffer, 0, count);
        }
      };
      duplex.watch(readable, flush);
    },
    close() {
      ended = undefined;
      duplex.watch(undefined);
      duplex.close().catch(() => {});
    },
  };
}

const IDLE_MS = 15_000;
