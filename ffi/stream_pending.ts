/**
 * Operations that wait, for the drivers of the stream contract.
 *
 * @module
 */
import { DeadlineError } from "../internal/errors.ts";
import { formatAddress } from "./address.ts";
import {
  type ConnectOptions,
  MOST_PIECES,
  type StreamFailure,
  type StreamPieces,
} from "./stream.ts";

/** The one operation of a kind that waits: it is tried again until it answers something. */
export class Waiting<Answer> {
  #attempt: (() => Answer | undefined) | undefined;
  #resolve: ((answer: Answer) => void) | undefined;
  #signal: AbortSignal | undefined;
  #onAbort: (() => void) | undefined;

  /** Whether nothing waits. */
  get idle(): boolean {
    return this.#attempt === undefined;
  }

  /** @throws {TypeError} When something waits. @param what The verb, for the message. */
  mustBeIdle(what: string): void {
    if (this.#attempt !== undefined) {
      throw new TypeError(`Cannot ${what}: another call waits, expected one at a time`);
    }
  }

  /**
   * Waits until `attempt`, called by {@linkcode serve}, answers something. Rejects with `signal.reason` when aborted,
   * before or while it waits; it is not tried again then.
   */
  wait(attempt: () => Answer | undefined, signal: AbortSignal | undefined): Promise<Answer> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      this.#attempt = attempt;
      this.#resolve = resolve;
      this.#signal = signal;
      if (signal === undefined) return;
      this.#onAbort = () => {
        this.#forget();
        reject(signal.reason);
      };
      signal.addEventListener("abort", this.#onAbort, { once: true });
    });
  }

  /** Tries again. */
  serve(): void {
    const answer = this.#attempt?.();
    if (answer !== undefined) this.settle(answer);
  }

  /** Ends the wait with an answer, if there is one. */
  settle(answer: Answer): void {
    const resolve = this.#resolve;
    this.#forget();
    resolve?.(answer);
  }

  #forget(): void {
    if (this.#onAbort !== undefined) this.#signal?.removeEventListener("abort", this.#onAbort);
    this.#attempt = undefined;
    this.#resolve = undefined;
    this.#signal = undefined;
    this.#onAbort = undefined;
  }
}

/** A signal for one attempt to connect: aborted by the caller's own signal and by the timeout. */
export interface ConnectLimit {
  /** Aborted with what the attempt is to be rejected with. */
  readonly signal: AbortSignal;
  /** The attempt is over: releases the timer and the caller's signal. */
  readonly done: () => void;
}

/** Bounds an attempt to connect. @throws {RangeError} For a timeout that is none. */
export function limitConnect(options: ConnectOptions): ConnectLimit {
  const { timeoutMs, signal, remote } = options;
  if (timeoutMs !== undefined && !(timeoutMs > 0)) {
    throw new RangeError(`Cannot connect within ${timeoutMs} ms: expected a positive number`);
  }
  const controller = new AbortController();
  const onAbort = (): void => controller.abort(signal?.reason);
  if (signal?.aborted) onAbort();
  else signal?.addEventListener("abort", onAbort, { once: true });
  const timer = timeoutMs === undefined || timeoutMs === Infinity ? undefined : setTimeout(() => {
    controller.abort(
      new DeadlineError(
        "ffi.connect-timeout",
        `Cannot connect to ${formatAddress(remote)}: no answer within ${timeoutMs} ms`,
        { phase: "connect", elapsedMs: timeoutMs, attempts: 1 },
      ),
    );
  }, timeoutMs);
  return {
    signal: controller.signal,
    done: () => {
      clearTimeout(timer);
      signal?.removeEventListener("abort", onAbort);
    },
  };
}

/** Checks a range. @throws {RangeError} */
export function checkRange(bytes: Uint8Array, start: number, end: number): void {
  if (!(start >= 0 && start < end && end <= bytes.length) || !Number.isInteger(start + end)) {
    throw new RangeError(
      `Cannot use bytes ${start} to ${end}: expected a range inside ${bytes.length} bytes`,
    );
  }
}

/** Checks pieces. @throws {RangeError} */
export function checkPieces({ bytes, starts, ends, first, count }: StreamPieces): void {
  if (!(first >= 0 && first < count && count - first <= MOST_PIECES)) {
    throw new RangeError(
      `Cannot use pieces ${first} to ${count}: expected one to ${MOST_PIECES} of them`,
    );
  }
  for (let i = first; i < count; i++) checkRange(bytes, starts[i]!, ends[i]!);
}

/** Checks a count of bytes. @throws {RangeError} */
export function checkCount(count: number): void {
  if (!(count > 0) || !Number.isInteger(count)) {
    throw new RangeError(`Cannot move ${count} bytes: expected a positive integer`);
  }
}

/** Checks the place in a constant. @throws {RangeError} */
export function checkPosition(position: number, length: number): void {
  checkCount(length);
  if (!(position >= 0) || !Number.isInteger(position)) {
    throw new RangeError(`Cannot send from position ${position}: expected an integer from 0`);
  }
}

/** What the name of an error says about a connection. */
export function failureOf(errnoName: string, syscall: string): StreamFailure {
  return Object.freeze({ kind: KINDS[errnoName] ?? "other", errnoName, syscall });
}

// A peer that closes with bytes unread resets as well; which of the two names it gets depends on what the connection was
// doing at that moment (tcp_reset() in net/ipv4/tcp_input.c).
const KINDS: Readonly<Record<string, StreamFailure["kind"]>> = {
  ECONNRESET: "reset",
  EPIPE: "reset",
  ECONNABORTED: "reset",
  ETIMEDOUT: "timed-out",
  EHOSTUNREACH: "unreachable",
  ENETUNREACH: "unreachable",
  ENETDOWN: "unreachable",
  EHOSTDOWN: "unreachable",
};

/** Constants shorter than this are repeated until they are longer, so that few pieces make a large send. */
const CONSTANT_BYTES = 65_536;

/** A constant repeated to at least {@linkcode CONSTANT_BYTES}, or more. @throws {RangeError} When it is empty. */
export function repeatConstant(
  bytes: Uint8Array,
  leastBytes: number = CONSTANT_BYTES,
): Uint8Array<ArrayBuffer> {
  if (bytes.length === 0) throw new RangeError("Cannot repeat 0 bytes: expected at least one");
  const times = Math.ceil(leastBytes / bytes.length);
  const repeated = new Uint8Array(new ArrayBuffer(times * bytes.length));
  for (let i = 0; i < times; i++) repeated.set(bytes, i * bytes.length);
  return repeated;
}

/** For a `TypeError`: constants belong to the driver that made them. */
export const MISPLACED_CONSTANT =
  "Cannot send the constant: it was not made by createConstant() of a host with this driver";
