/**
 * Receives that wait, for the drivers of the datagram contract.
 *
 * @module
 */
import type { DatagramBatch } from "./datagram.ts";

interface Pending {
  readonly batch: DatagramBatch;
  readonly resolve: (entries: number) => void;
  readonly signal: AbortSignal | undefined;
  readonly onAbort: () => void;
}

/** The receives of one socket that found nothing, first come, first served. */
export class PendingReceives {
  readonly #queue: Pending[] = [];

  /** Whether nobody waits. */
  get empty(): boolean {
    return this.#queue.length === 0;
  }

  /** Waits for at least one entry. Rejects with `signal.reason` when aborted, before or while it waits. */
  add(batch: DatagramBatch, signal: AbortSignal | undefined): Promise<number> {
    return new Promise((resolve, reject) => {
      if (signal?.aborted) return reject(signal.reason);
      const pending: Pending = {
        batch,
        resolve,
        signal,
        onAbort: () => {
          this.#queue.splice(this.#queue.indexOf(pending), 1);
          reject(signal!.reason);
        },
      };
      signal?.addEventListener("abort", pending.onAbort, { once: true });
      this.#queue.push(pending);
    });
  }

  /** Hands out what is there until nothing is there or nobody waits. */
  serve(receiveNow: (batch: DatagramBatch) => number): void {
    while (this.#queue.length > 0) {
      const entries = receiveNow(this.#queue[0]!.batch);
      if (entries === 0) return;
      this.#finish(entries);
    }
  }

  /** The socket is closed: everybody gets 0. */
  settle(): void {
    while (this.#queue.length > 0) this.#finish(0);
  }

  #finish(entries: number): void {
    const pending = this.#queue.shift()!;
    pending.signal?.removeEventListener("abort", pending.onAbort);
    pending.resolve(entries);
  }
}
