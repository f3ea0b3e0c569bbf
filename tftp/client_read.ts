/**
 * A download as its reader takes it: piece by piece, at the reader's pace.
 *
 * @module
 */
import type { BlockSink } from "./receiving.ts";
import { FunctionSink } from "./sinks.ts";

/**
 * The pieces of a transfer in order. Ending the iteration early ends the transfer.
 *
 * @param receive Starts the transfer into what `open` makes; ends it when the signal is aborted.
 * @param outer The caller's own signal.
 */
export async function* piecesOf(
  receive: (open: () => BlockSink, signal: AbortSignal) => Promise<unknown>,
  mode: "octet" | "netascii",
  outer: AbortSignal | undefined,
): AsyncGenerator<Uint8Array, void> {
  const pieces: Uint8Array[] = [];
  let wake: () => void = () => {};
  let taken: () => void = () => {};
  const stop = new AbortController();
  const signal = outer === undefined ? stop.signal : AbortSignal.any([outer, stop.signal]);
  let ended = false;
  let failure: unknown;
  const open = (): BlockSink =>
    new FunctionSink((piece) => {
      if (piece === undefined) return;
      pieces.push(piece);
      wake();
      // One piece in hand: the next is taken when the consumer comes back.
      return new Promise((resolve) => taken = resolve);
    }, mode === "netascii");
  const done = receive(open, signal).catch((error) => {
    failure = error;
  }).finally(() => {
    ended = true;
    wake();
  });
  try {
    for (;;) {
      if (pieces.length === 0 && !ended) await new Promise<void>((resolve) => wake = resolve);
      const piece = pieces.shift();
      if (piece === undefined) {
        if (!ended) continue;
        if (failure !== undefined) throw failure;
        return;
      }
      yield piece;
      taken();
    }
  } finally {
    stop.abort(new DOMException("The reader went away", "AbortError"));
    taken();
    await done;
  }
}
