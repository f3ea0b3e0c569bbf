/**
 * One client of a stream, from the moment it is known where it wants to go until its relay runs.
 *
 * @module
 */

import { type SocketAddress, STREAM_END, WOULD_BLOCK } from "../ffi/mod.ts";
import type { Duplex } from "./duplex.ts";
import { type ExpiringSet, Farewell } from "./handshakes.ts";
import type { InboundStream } from "./inbound.ts";
import { type DialFailure, type Sniffed, sniffStream } from "./protocol/mod.ts";
import { encodeOpened, encodeRefused, type ReplyKind } from "./replies.ts";
import type { SniffAction } from "./rule_types.ts";
import { join } from "./duplex.ts";

/** A client that waits for its destination. */
export class WaitingClient {
  /** The client. */
  readonly stream: Duplex;
  readonly #reply: ReplyKind;
  readonly #leaving: ExpiringSet;
  #ahead: Uint8Array;
  #told = false;

  /** @param leaving Bounds last words. */
  constructor({ client, ahead, reply }: InboundStream, leaving: ExpiringSet) {
    this.stream = client;
    this.#ahead = ahead;
    this.#reply = reply;
    this.#leaving = leaving;
  }

  /** What was read ahead: the first payload. */
  get ahead(): Uint8Array {
    return this.#ahead;
  }

  /** What still has to be said before any payload; nothing when it was said. */
  opened(bound: SocketAddress | undefined): Uint8Array<ArrayBuffer> | undefined {
    if (this.#told) return undefined;
    this.#told = true;
    return encodeOpened(this.#reply, bound);
  }

  /** Says why not, and closes; resets where that cannot be said. */
  refuse(failure: DialFailure): void {
    if (this.stream.closed) return;
    const words = this.#told ? NOTHING : encodeRefused(this.#reply, failure);
    if (words.length === 0) this.stream.close({ reset: true }).catch(() => {});
    else new Farewell(this.stream, words, this.#leaving);
  }

  /** Lets the client find out by itself: nothing is said until it goes, or the time of last words is over. */
  drop(): void {
    if (!this.stream.closed) new Silence(this.stream, this.#leaving);
  }

  /**
   * Looks at the first bytes without taking them. Clients that wait for an answer before they send are told that all is
   * well, for else there would be nothing to look at.
   */
  async peek(action: SniffAction): Promise<Sniffed | undefined> {
    const words = this.opened(undefined);
    if (words !== undefined && words.length > 0) this.stream.sendNow(words, 0, words.length);
    const protocols = action.sniffer.length === 0 ? undefined : action.sniffer;
    const controller = new AbortController();
    const timer = setTimeout(() => controller.abort(), action.timeoutMs);
    try {
      for (;;) {
        if (this.#ahead.length > 0) {
          const answer = sniffStream(this.#ahead, 0, this.#ahead.length, protocols);
          if (answer === "no" || this.#ahead.length >= MOST_SNIFFED) return undefined;
          if (answer !== "more") return answer;
        }
        const buffer = new Uint8Array(SNIFF_BYTES);
        const count = await this.stream.receive(buffer, 0, buffer.length, controller.signal);
        if (count <= STREAM_END) {
          // The end is read again by whoever relays: streams go on answering it.
          return undefined;
        }
        this.#ahead = join(this.#ahead, buffer.subarray(0, count));
      }
    } catch (error) {
      if (controller.signal.aborted) return undefined;
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }
}

/** A client that is told nothing. */
class Silence {
  readonly #client: Duplex;
  readonly #set: ExpiringSet;

  constructor(client: Duplex, set: ExpiringSet) {
    this.#client = client;
    this.#set = set;
    set.add(this);
    client.watch(this.#discard);
  }

  expire(): void {
    this.#client.close().catch(() => {});
  }

  readonly #discard = (): void => {
    for (;;) {
      const count = this.#client.receiveNow(waste, 0, waste.length);
      if (count === WOULD_BLOCK) return;
      if (count > STREAM_END) continue;
      this.#set.delete(this);
      return this.expire();
    }
  };
}

const SNIFF_BYTES = 4096;
/** As long as the longest ClientHello that is looked at, and its records. */
const MOST_SNIFFED = 32_768;
const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);
const waste: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(4096));
