/**
 * What the transfer machines may ask of whoever drives them. Called synchronously, must not call back into the machine.
 * Machines speak of block *indexes*: counted from 1, never wrapped. The 16-bit number on the wire is made by
 * `wireBlock()`.
 *
 * @module
 */

/** How a transfer ended. */
export type TransferOutcome =
  /** Every byte arrived and was acknowledged. */
  | "done"
  /** The peer sent an ERROR packet. */
  | "peer-error"
  /** The peer asked for the size only and went away (ERROR 8 in answer to the options acknowledgement). */
  | "size-probe"
  /** Nobody answered. */
  | "no-answer"
  /** The peer broke the protocol beyond repair; it was told so. */
  | "protocol-error"
  /** This side gave up: abort, shutdown, a source or sink that failed. */
  | "aborted";

/** The last word of a machine. */
export interface TransferResult {
  /** Why it ended. */
  readonly outcome: TransferOutcome;
  /** Blocks that were acknowledged (sender) or received in order (receiver). */
  readonly blocks: number;
  /** Payload bytes of those blocks. */
  readonly bytes: number;
  /** The peer's ERROR code, 0 to 65535, with `peer-error` and `size-probe`. */
  readonly errorCode?: number;
  /** The peer's words with `peer-error`; otherwise ours. */
  readonly message?: string;
  /** Packets of ours that were sent again. */
  readonly retransmits: number;
  /** Times the retransmission timer ran out. */
  readonly timeouts: number;
  /** Smoothed round-trip time, milliseconds; 0 when never measured. */
  readonly rttMs: number;
}

/** What a sending transfer (server RRQ, client WRQ) may ask. */
export interface SendActions {
  /** Client: send the request (again). Server: send the options acknowledgement (again). */
  sendOpening(): void;
  /** Send `count` blocks starting at block index `first`; `again` when any of them was sent before. */
  sendBlocks(first: number, count: number, again: boolean): void;
  /** Tell the peer that it failed. */
  sendError(code: number, message: string): void;
  /** Last call. */
  finish(result: TransferResult): void;
}

/** What a receiving transfer (server WRQ, client RRQ) may ask. */
export interface ReceiveActions {
  /** Client: send the request (again). Server: send the options acknowledgement or ACK 0 (again). */
  sendOpening(): void;
  /** The payload of the datagram in hand is block `index`, and it is the next one. */
  deliver(index: number): void;
  /** Keep a copy of the payload of the datagram in hand: it is block `index`, ahead of its turn. */
  hold(index: number): void;
  /** `count` held blocks starting at `first` are now in order. */
  deliverHeld(first: number, count: number): void;
  /** Forget every held block from `first` on. */
  dropHeld(first: number): void;
  /** Acknowledge everything up to and including block `index` (0 acknowledges a request or options). */
  sendAck(index: number): void;
  /** All blocks are delivered: make them permanent, then call the machine's `committed()` or `abort()`. */
  commit(): void;
  /** Tell the peer that it failed. */
  sendError(code: number, message: string): void;
  /**
   * The transfer is decided: `done` comes when the final acknowledgement was first sent; the machine then lingers to
   * repeat it and is `finished` later. For every other outcome both happen at once.
   */
  finish(result: TransferResult): void;
}
