/**
 * The real sink with a watch: when each change that was made is acknowledged.
 *
 * @module
 */

import type {
  Sink,
  SinkEvent,
  SinkOperation,
  SinkSchema,
  SinkSnapshot,
  SinkTable,
} from "./sink.ts";
import { benchIndex, benchSalt } from "./bench_neighbors.ts";

/** Measures what passes. */
export class MeasuredSink implements Sink {
  /** How the table is kept. */
  readonly schema: SinkSchema;
  /** From making a change to its acknowledgement, milliseconds, in the order of the acknowledgements. */
  latencies: number[] = [];
  /** Changes that were acknowledged. */
  acknowledged = 0;

  readonly #sink: Sink;
  readonly #ifname: string;
  /** By index: when it was made, 0 for what nobody waits for, and with which salt. */
  readonly #madeAt: Float64Array;
  readonly #salts: Uint8Array;
  #waiting = 0;
  #done: () => void = () => {};

  /** @param ifname The interface whose changes are measured. @param neighbors One more than the highest index. */
  constructor(sink: Sink, ifname: string, neighbors: number) {
    this.schema = sink.schema;
    this.#sink = sink;
    this.#ifname = ifname;
    this.#madeAt = new Float64Array(neighbors);
    this.#salts = new Uint8Array(neighbors);
  }

  /** Whether batches are taken now. */
  get connected(): boolean {
    return this.#sink.connected;
  }

  /** Changes that were made and not acknowledged. */
  get waiting(): number {
    return this.#waiting;
  }

  /** Changes are about to be made. */
  expect(first: number, count: number, salt: number): void {
    const now = performance.now();
    for (let index = first; index < first + count; index++) {
      // A change that overtakes another leaves the time of the first.
      if (this.#madeAt[index] === 0) {
        this.#waiting++;
        this.#madeAt[index] = now;
      }
      this.#salts[index] = salt;
    }
  }

  /** Settles when everything that was made is acknowledged. */
  settled(): Promise<void> {
    if (this.#waiting === 0) return Promise.resolve();
    return new Promise((resolve) => this.#done = resolve);
  }

  /** Applies the changes, and notes when they were acknowledged. */
  async apply(batch: readonly SinkOperation[]): Promise<void> {
    await this.#sink.apply(batch);
    const now = performance.now();
    for (const { op, key, mac } of batch) {
      const index = benchIndex(this.#ifname, key);
      const madeAt = this.#madeAt[index] ?? 0;
      if (op === "del" || madeAt === 0 || benchSalt(mac) !== this.#salts[index]) continue;
      this.latencies.push(now - madeAt);
      this.#madeAt[index] = 0;
      this.#waiting--;
      this.acknowledged++;
    }
    if (this.#waiting === 0) this.#done();
  }

  /** Reads the whole table. */
  readAll(): Promise<SinkTable> {
    return this.#sink.readAll();
  }

  /** Forgets every staged change. */
  clearPending(): Promise<void> {
    return this.#sink.clearPending();
  }

  /** Calls back at every change of the connection. */
  observe(observer: (event: SinkEvent) => void): () => void {
    return this.#sink.observe(observer);
  }

  /** Counters of the sink behind it. */
  snapshot(): SinkSnapshot {
    return this.#sink.snapshot();
  }

  /** Leaves the sink behind it open. */
  close(): Promise<void> {
    return Promise.resolve();
  }

  /** The same as {@linkcode MeasuredSink.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}
