/**
 * One attempt at a client's transfer: what was asked for, what is told, how it ends.
 *
 * @module
 */
import { type DatagramHost, formatAddress, type SocketAddress } from "../ffi/mod.ts";
import { systemClock } from "../internal/time/clock.ts";
import { TransferError, transferError } from "./client_errors.ts";
import {
  encodeRequest,
  type Negotiated,
  type OptionPair,
  type TransferResult,
} from "./protocol/mod.ts";
import type { ClientOptions, ResolvedClientOptions } from "./settings.ts";
import type { ReadSource } from "./store.ts";

/** Milliseconds between two progress reports. */
const PROGRESS_MS = 100;
/** Longest request that is sent. */
const REQUEST_BYTES = 1500;

/** How far a transfer has come. */
export interface TransferProgress {
  /** Payload bytes so far. */
  readonly bytes: number;
  /** Bytes in all, when known. */
  readonly totalBytes: number | undefined;
  /** Packets that were sent again. */
  readonly retransmits: number;
}

/** How a finished transfer went. Frozen. */
export interface TransferSummary {
  /** Payload bytes, as they crossed the network. */
  readonly bytes: number;
  /** Blocks, the last one included. */
  readonly blocks: number;
  /** What was agreed on. */
  readonly blockSize: number;
  /** Window that was agreed on, blocks. */
  readonly windowSize: number;
  /** From the request to the last acknowledgement, milliseconds. */
  readonly durationMs: number;
  /** Packets that were sent again. */
  readonly retransmits: number;
  /** Times the retransmission timer ran out. */
  readonly timeouts: number;
  /** Smoothed round-trip time, milliseconds; 0 when never measured. */
  readonly rttMs: number;
  /** Who served it. */
  readonly server: SocketAddress;
  /** The driver that carried it. */
  readonly driver: "linux" | "node";
  /** Whether the options were refused and the transfer went without. */
  readonly withoutOptions: boolean;
}

/** What a transfer takes besides the client's options. */
export interface TransferOptions extends ClientOptions {
  /** Ends the transfer: the server is told, nothing is left behind, the promise rejects with the signal's reason. */
  readonly signal?: AbortSignal | undefined;
  /** Called at most ten times a second, and once at the end. */
  readonly onProgress?: ((progress: TransferProgress) => void) | undefined;
}

/** What {@linkcode TftpClient.send} reads. */
export type SendContent =
  | { readonly source: ReadSource }
  | { readonly stream: AsyncIterable<Uint8Array>; readonly size?: number | undefined };

/** One attempt at a transfer. */
export interface Attempt {
  readonly operation: "read" | "write";
  readonly name: string;
  readonly options: ResolvedClientOptions;
  readonly pairs: readonly OptionPair[];
  /** Block size that was agreed on, bytes. */
  readonly blockSize: number;
  /** Window that was agreed on, blocks. */
  readonly windowSize: number;
  readonly maxRetries: number;
  readonly signal: AbortSignal | undefined;
  readonly onProgress: ((progress: TransferProgress) => void) | undefined;
}

/** The user's side of one attempt. */
export class Completion {
  agreed: Negotiated | undefined;
  failure: unknown;
  onData: (() => void) | undefined;
  resume: () => void = () => {};
  cleanup: () => void = () => {};
  readonly settled: Promise<void>;
  readonly #startedAt: number;
  readonly #attempt: Attempt;
  readonly #server: SocketAddress;
  readonly #host: DatagramHost;
  readonly #resolve: (summary: TransferSummary) => void;
  readonly #reject: (error: unknown) => void;
  #settle: () => void = () => {};
  #nextProgressAt = 0;

  constructor(
    startedAt: number,
    attempt: Attempt,
    server: SocketAddress,
    host: DatagramHost,
    resolve: (summary: TransferSummary) => void,
    reject: (error: unknown) => void,
  ) {
    this.#startedAt = startedAt;
    this.#attempt = attempt;
    this.#server = server;
    this.#host = host;
    this.#resolve = resolve;
    this.#reject = reject;
    this.settled = new Promise((settle) => this.#settle = settle);
  }

  progress(bytes: number, totalBytes: number | undefined, retransmits: number, last = false): void {
    const report = this.#attempt.onProgress;
    if (report === undefined) return;
    const now = systemClock.now();
    if (!last && now < this.#nextProgressAt) return;
    this.#nextProgressAt = now + PROGRESS_MS;
    report({ bytes, totalBytes, retransmits });
  }

  failed(error: unknown): void {
    this.cleanup();
    this.#settle();
    this.#reject(error);
  }

  finished(result: TransferResult, blockSize: number, windowSize: number): void {
    this.cleanup();
    this.#settle();
    const durationMs = systemClock.now() - this.#startedAt;
    if (result.outcome === "done") {
      this.progress(result.bytes, result.bytes, result.retransmits, true);
      this.#resolve(Object.freeze({
        bytes: result.bytes,
        blocks: result.blocks,
        blockSize,
        windowSize,
        durationMs,
        retransmits: result.retransmits,
        timeouts: result.timeouts,
        rttMs: result.rttMs,
        server: this.#server,
        driver: this.#host.traits.driver,
        withoutOptions: this.agreed === undefined,
      }));
      return;
    }
    if (result.outcome === "aborted" && this.failure !== undefined) {
      this.#reject(this.failure);
      return;
    }
    const { operation, name } = this.#attempt;
    const what = `${operation === "read" ? "get" : "put"} "${name}" ${
      operation === "read" ? "from" : "to"
    } ${formatAddress(this.#server)}`;
    this.#reject(
      new TransferError(
        transferError(result, what, durationMs),
        result.outcome,
        result.bytes,
        this.agreed !== undefined,
      ),
    );
  }
}

/** A request as bytes. @throws {RangeError} When it does not fit a request. */
export function requestBytes(attempt: Attempt): Uint8Array {
  const bytes = new Uint8Array(REQUEST_BYTES);
  const end = encodeRequest(bytes, 0, {
    operation: attempt.operation,
    filename: attempt.name,
    mode: attempt.options.mode,
    options: attempt.pairs,
  });
  if (end < 0) {
    throw new RangeError(
      `Cannot ask for "${attempt.name.slice(0, 64)}": the name is empty, too long or holds a zero`,
    );
  }
  return bytes.slice(0, end);
}
