/**
 * What a DNS server is to the rest: something that answers questions. Here too: waiting for answers by number.
 *
 * @module
 */

import { DeadlineError, FastwireError } from "../internal/errors.ts";
import type { Random } from "../internal/random.ts";
import { decodeDns, type DnsAsk, type DnsMessage, type DnsQuestion } from "./dns_message.ts";
import { type DnsReply, replyOf } from "./dns_reply.ts";
import type { Dialer } from "./outbound.ts";
import type { Endpoint } from "./protocol/mod.ts";

/** A configured DNS server. */
export interface DnsServer {
  /** The `type` of its configuration. */
  readonly type: string;
  /** Unique among DNS servers. */
  readonly tag: string;
  /**
   * Asks a question.
   *
   * @param signal Gives up when aborted.
   * @throws {FastwireError} When there is no answer. Rejects with `signal.reason` when aborted.
   */
  exchange(ask: DnsAsk, signal: AbortSignal): Promise<DnsReply>;
  /** Lets go of its connections. Idempotent; questions that wait are given up. */
  close(): Promise<void>;
}

/** What servers on the network are made of. */
export interface RemoteServerSettings {
  /** Unique among DNS servers. */
  readonly tag: string;
  /** Where it is: an address, or a name that the way there takes. */
  readonly locate: (signal: AbortSignal) => Endpoint | Promise<Endpoint>;
  /** How it is reached. */
  readonly dialer: Dialer;
  /** Fit for numbers that nobody should guess. */
  readonly random: Random;
}

/** No DNS server could be asked, or it did not answer what was asked. */
export class DnsServerError extends FastwireError {}

/** A question that waits for its answer. */
export interface PendingAsk {
  /** The question. */
  readonly ask: DnsAsk;
  /** Called once. */
  readonly resolve: (answer: { readonly reply: DnsReply; readonly truncated: boolean }) => void;
  /** Called once, instead. */
  readonly reject: (reason: unknown) => void;
}

/** The questions that wait on one socket or connection, by their number. */
export class PendingAsks {
  readonly #random: Random;
  readonly #waiting = new Map<number, PendingAsk>();

  /** @param random Chooses numbers. */
  constructor(random: Random) {
    this.#random = random;
  }

  /** Questions that wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Takes a question in. @returns Its number; -1 when all are taken. */
  add(pending: PendingAsk): number {
    if (this.#waiting.size >= MAX_WAITING) return -1;
    let id = this.#random.u32() & 0xffff;
    while (this.#waiting.has(id)) id = id + 1 & 0xffff;
    this.#waiting.set(id, pending);
    return id;
  }

  /** Lets go of a question. */
  delete(id: number): void {
    this.#waiting.delete(id);
  }

  /**
   * Takes what arrived.
   *
   * @returns Whether it was the answer to a question that waits: number and question are the same.
   */
  accept(bytes: Uint8Array, start: number, end: number): boolean {
    const message = decodeDns(bytes, start, end);
    if (typeof message === "string" || !message.isResponse) return false;
    const pending = this.#waiting.get(message.id);
    if (pending === undefined || !sameQuestion(pending.ask, message)) return false;
    this.#waiting.delete(message.id);
    pending.resolve({ reply: replyOf(bytes, start, message), truncated: message.truncated });
    return true;
  }

  /** Gives up on all. */
  fail(reason: unknown): void {
    const all = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of all) reject(reason);
  }
}

/** Whether an answer is to a question. */
export function sameQuestion(asked: DnsQuestion, { question }: DnsMessage): boolean {
  return question.type === asked.type && question.class === asked.class &&
    question.name === asked.name;
}

/** The error of a name DNS cannot carry. */
export function unfitName(name: string): DnsServerError {
  return new DnsServerError(
    "proxy.name-not-found",
    `Cannot ask for "${name.slice(0, 300)}": it is no name that DNS can carry`,
  );
}

/** The error of a server that was closed. */
export function closedServer(tag: string): DnsServerError {
  return new DnsServerError("proxy.name-timeout", `Cannot ask DNS server "${tag}": it was closed`);
}

/** The error of an answer that did not come. */
export function lateAnswer(what: string, elapsedMs: number, attempts: number): DeadlineError {
  return new DeadlineError(
    "proxy.name-timeout",
    `Cannot resolve ${what}: no answer within ${elapsedMs} ms`,
    { phase: "name", elapsedMs, attempts },
  );
}

/** Calls back when a signal is aborted; at once when it is. @returns Stops that. */
export function whenAborted(signal: AbortSignal, call: () => void): () => void {
  if (signal.aborted) call();
  else signal.addEventListener("abort", call, { once: true });
  return () => signal.removeEventListener("abort", call);
}

/** What another promise becomes, or the reason of a signal; the other one goes on. */
export function withSignal<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  return new Promise((resolve, reject) => {
    const forget = whenAborted(signal, () => reject(signal.reason));
    promise.then(resolve, reject).finally(forget);
  });
}

/** Far below the 65,536 numbers there are: a number is found at once, and a guess rarely hits one that waits. */
const MAX_WAITING = 4096;
