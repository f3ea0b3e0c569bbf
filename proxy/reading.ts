/**
 * Reading with room to look before taking: for handshakes and heads, where waiting is a promise.
 *
 * @module
 */

import { STREAM_END, streamError } from "../ffi/mod.ts";
import { DeadlineError, ProtocolError } from "../internal/errors.ts";
import type { Duplex } from "./duplex.ts";
import type { RefusedStep, Step } from "./protocol/mod.ts";

/** A stream and what was received of it but not used. */
export class HeldReader<Stream extends Pick<Duplex, "receive"> = Duplex> {
  /** The stream. */
  readonly stream: Stream;
  /** What is held lies here. */
  bytes: Uint8Array<ArrayBuffer>;
  /** Where it begins. */
  start = 0;
  /** Where it ends. */
  end = 0;

  /**
   * Begins with what was received already.
   *
   * @param ahead Copied.
   * @param capacity Bytes to begin with; it grows.
   */
  constructor(stream: Stream, ahead: Uint8Array, capacity: number) {
    this.stream = stream;
    this.bytes = new Uint8Array(new ArrayBuffer(Math.max(capacity, 2 * ahead.length)));
    this.bytes.set(ahead);
    this.end = ahead.length;
  }

  /** Takes bytes from the front. */
  consume(count: number): void {
    this.start += count;
    if (this.start === this.end) this.start = this.end = 0;
  }

  /** What is held; a copy. */
  rest(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(this.start, this.end);
  }

  /**
   * Waits for more.
   *
   * @returns How many came: `STREAM_END` and `STREAM_FAILED` as streams answer them.
   */
  more(signal?: AbortSignal): number | Promise<number> {
    if (this.end === this.bytes.length) this.#makeRoom();
    const count = this.stream.receive(this.bytes, this.end, this.bytes.length, signal);
    if (typeof count === "number") return this.#came(count);
    return count.then((later) => this.#came(later));
  }

  #came(count: number): number {
    if (count > 0) this.end += count;
    return count;
  }

  #makeRoom(): void {
    if (this.start > 0) {
      this.bytes.copyWithin(0, this.start, this.end);
      this.end -= this.start;
      this.start = 0;
      return;
    }
    const grown = new Uint8Array(new ArrayBuffer(2 * this.bytes.length));
    grown.set(this.bytes);
    this.bytes = grown;
  }
}

/** A handshake as a client plays it. */
export interface ClientMachine<Outcome, Reason extends string> {
  /** What to send first. */
  start(): Uint8Array<ArrayBuffer>;
  /** Takes what has arrived. */
  receive(bytes: Uint8Array, start: number, end: number): Step<Outcome, Reason>;
}

/**
 * Plays a handshake with a server.
 *
 * @param what Stands behind "Cannot" in messages.
 * @param refused Makes the error of a refusal.
 * @returns What was agreed on, and what was received behind it.
 * @throws {FastwireError} Why not. Rejects with `signal.reason` when aborted.
 */
export async function shakeHands<Outcome, Reason extends string>(
  stream: Duplex,
  machine: ClientMachine<Outcome, Reason>,
  what: string,
  refused: (step: RefusedStep<Reason>) => Error,
  signal: AbortSignal,
): Promise<{ readonly outcome: Outcome; readonly ahead: Uint8Array<ArrayBuffer> }> {
  const reader = new HeldReader(stream, NOTHING, 1024);
  await sendAll(stream, machine.start(), what, signal);
  for (;;) {
    const step = machine.receive(reader.bytes, reader.start, reader.end);
    reader.consume(step.consumed);
    if (step.kind === "done") return { outcome: step.outcome, ahead: reader.rest() };
    if (step.kind === "refused") throw refused(step);
    if (step.kind === "write") {
      await sendAll(stream, step.bytes, what, signal);
      continue;
    }
    const count = await reader.more(signal);
    if (count > 0) continue;
    if (count !== STREAM_END) throw streamError(stream.failure, what);
    throw new ProtocolError(
      "proxy.handshake-cut",
      `Cannot ${what}: the server closed the connection, expected an answer`,
      { rule: "the handshake" },
    );
  }
}

/** Sends all bytes. @throws {SystemError} When the connection is gone. */
export async function sendAll(
  stream: Pick<Duplex, "send" | "failure">,
  bytes: Uint8Array<ArrayBuffer>,
  what: string,
  signal?: AbortSignal,
): Promise<void> {
  if (bytes.length === 0) return;
  const sent = await stream.send(bytes, 0, bytes.length, signal);
  if (sent !== bytes.length) throw streamError(stream.failure, what);
}

/** A signal that follows another one and ends by itself after a time; `done` lets go of both. */
export function limited(
  signal: AbortSignal | undefined,
  limitMs: number,
  what: string,
): { readonly signal: AbortSignal; readonly done: () => void } {
  const controller = new AbortController();
  const follow = (): void => controller.abort(signal?.reason);
  if (signal?.aborted) follow();
  else signal?.addEventListener("abort", follow, { once: true });
  const timer = setTimeout(() => {
    controller.abort(
      new DeadlineError("proxy.timeout", `Cannot ${what}: no answer within ${limitMs} ms`, {
        phase: "dial",
        elapsedMs: limitMs,
        attempts: 1,
      }),
    );
  }, limitMs);
  return {
    signal: controller.signal,
    done: () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", follow);
    },
  };
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);
