/**
 * The server's counts: plain numbers in shared memory, one row per thread, incremented in place and summed when asked.
 *
 * @module
 */

/** Names of the counts, in the order they lie in memory. Each counts from the server's start and never goes back. */
export const COUNTER_NAMES = [
  "requestsRead",
  "requestsWrite",
  "requestsMalformed",
  "requestsRefused",
  "requestsRepeated",
  "transfersStarted",
  "transfersCompleted",
  "transfersFailed",
  "sizeProbes",
  "datagramsReceived",
  "datagramsRejected",
  "datagramsSent",
  "bytesSent",
  "bytesReceived",
  "blocksRetransmitted",
  "timeouts",
  "duplicateAcks",
  "acksOutOfWindow",
  "strangers",
  "errorsSent",
  "errorsReceived",
  "receiveCalls",
  "sendCalls",
  "wouldBlocks",
  "sendDrops",
  "receiveDrops",
  "segmentationRefused",
] as const;

/** Name of one count. */
export type CounterName = typeof COUNTER_NAMES[number];

/** Index of each count in a row. */
export const Counter: { readonly [K in CounterName]: number } = Object.freeze(
  Object.fromEntries(COUNTER_NAMES.map((name, index) => [name, index])),
) as { readonly [K in CounterName]: number };

/** One thread's counts. */
export type CounterRow = Float64Array<ArrayBufferLike>;

/** Rows for `threads` threads, in memory that can be sent to them. */
export function createCounters(threads: number): SharedArrayBuffer {
  return new SharedArrayBuffer(threads * COUNTER_NAMES.length * 8);
}

/** The row of one thread. Only that thread writes to it. */
export function counterRow(memory: SharedArrayBuffer, thread: number): CounterRow {
  return new Float64Array(memory, thread * COUNTER_NAMES.length * 8, COUNTER_NAMES.length);
}

/** The sums over all threads, frozen. */
export function sumCounters(memory: SharedArrayBuffer): { readonly [K in CounterName]: number } {
  const all = new Float64Array(memory);
  const sums: Partial<Record<CounterName, number>> = {};
  COUNTER_NAMES.forEach((name, index) => {
    let sum = 0;
    for (let at = index; at < all.length; at += COUNTER_NAMES.length) sum += all[at]!;
    sums[name] = sum;
  });
  return Object.freeze(sums) as { readonly [K in CounterName]: number };
}
