/**
 * A transfer that receives: the server's answer to a write request, the client's download. Joins a machine to a link and
 * a sink; knows no protocol rule.
 *
 * Payload is written from where the kernel put it: blocks that arrived in order and lie at equal distances (a coalesced
 * run, or the slots of a batch) become one gathered write.
 *
 * @module
 */
import { ANTICIPATED_BLOCKS } from "./anticipation.ts";
import type { DatagramBatch } from "../ffi/mod.ts";
import type { Endpoint, Timed } from "./endpoint.ts";
import { type Link, Source } from "./link.ts";
import {
  classify,
  DATA,
  decodeErrorMessage,
  decodeOptionsAck,
  DEFAULT_BLOCK_BYTES,
  ERROR,
  type Negotiated,
  OACK,
  readBlockNumber,
  readErrorCode,
  type ReceiveActions,
  type ReceiveMachine,
  type TransferResult,
  wireBlock,
} from "./protocol/mod.ts";

const HEADER_BYTES = 4;

/** Where received blocks go. */
export interface BlockSink {
  /**
   * Takes `length` bytes of content, gathered from pieces of `pieceBytes` that lie `strideBytes` apart, the first at
   * `start`. They follow what came before. @throws {Error} When they cannot be kept.
   */
  append(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
  ): void;
  /** Everything came: make it permanent. A promise when that takes time. @throws {Error} When it cannot be. */
  commit(): void | Promise<void>;
  /** It will not be finished: leave nothing behind. Harmless after a commit. */
  discard(): void;
  /** More came than can be taken now: read no more until {@linkcode BlockSink.onRoom}. */
  readonly congested?: boolean;
  /** Called when a congested sink has room again; set by the transfer. */
  onRoom?: () => void;
}

/** What the owner of a receiving transfer is told. */
export interface ReceivingObserver {
  /** The peer answered the request with these options. Client only. Answers what was agreed, or why it cannot be. */
  verify?(
    answered: readonly (readonly [string, string])[],
  ): Negotiated | { readonly refused: string };
  /** Payload bytes were taken. */
  received?(bytes: number): void;
  /** The sink failed: which ERROR to send. */
  refusal(error: unknown): { readonly code: number; readonly message: string };
  /** The transfer is decided; it may still repeat its last acknowledgement for a while. */
  finished(result: TransferResult, failure: unknown): void;
  /** The transfer lets go of its socket. */
  released(): void;
}

/** See the module. */
export class ReceivingTransfer implements ReceiveActions, Timed {
  readonly link: Link;
  readonly machine: ReceiveMachine;
  readonly #endpoint: Endpoint;
  readonly #observer: ReceivingObserver;
  readonly #sink: BlockSink;
  /** The request or the options acknowledgement, as sent; empty when a server opens with ACK 0. */
  readonly #opening: Uint8Array;
  readonly #held: Map<number, Uint8Array<ArrayBuffer>> = new Map();
  #failure: unknown;
  #failed = false;
  #mute = false;
  #paused = false;
  #committing = false;
  #committed = false;
  #decided = false;
  #released = false;

  // The datagram in hand, and the run of payloads that waits to be written.
  #batch: DatagramBatch | undefined;
  #payloadStart = 0;
  #payloadBytes = 0;
  #runStart = 0;
  #runPieces = 0;
  #runPieceBytes = 0;
  #runStride = 0;
  #runLast = 0;
  #runBytes = 0;

  constructor(
    endpoint: Endpoint,
    link: Link,
    machine: ReceiveMachine,
    sink: BlockSink,
    opening: Uint8Array,
    observer: ReceivingObserver,
  ) {
    this.#endpoint = endpoint;
    this.link = link;
    this.machine = machine;
    this.#sink = sink;
    this.#opening = opening;
    this.#observer = observer;
  }

  /** Never while the sink is behind: who does not listen cannot say that the peer is silent. */
  get deadline(): number {
    return this.#paused ? Infinity : this.machine.deadline;
  }

  /** The sink has more than it can take. */
  get congested(): boolean {
    return this.#sink.congested === true && !this.#decided;
  }

  /** Sends the opening and begins to wait. */
  start(now: number): void {
    this.machine.start(now, this);
    this.#endpoint.deadlines.add(this);
    this.#settle(now);
  }

  /** Takes entry `index` of a batch: one datagram or a run of them. */
  receive(batch: DatagramBatch, index: number, now: number): void {
    if (this.link.check(batch, index) !== Source.Peer) {
      this.link.refuseStranger(batch, index, now);
      return;
    }
    const start = batch.starts[index]!;
    const length = batch.lengths[index]!;
    const segment = batch.segments[index]!;
    this.#batch = batch;
    if (segment === 0) {
      this.#datagram(batch, index, start, start + length, now);
    } else {
      for (let at = start; at < start + length; at += segment) {
        this.#datagram(batch, index, at, Math.min(at + segment, start + length), now);
      }
    }
  }

  /** Call after the last entry of a batch, before the batch is filled again. */
  endOfBatch(now: number): void {
    this.#flush();
    this.#batch = undefined;
    this.#settle(now);
  }

  /** Whether the sink is behind; if so, `resume` is called once it has room, and no time passes until then. */
  pause(resume: () => void): boolean {
    if (!this.congested) return false;
    this.#paused = true;
    this.#sink.onRoom = () => {
      this.#paused = false;
      if (this.#released) return;
      this.#endpoint.deadlines.touch(this);
      resume();
    };
    return true;
  }

  /** The peer's host said that nobody listens there. */
  refused(now: number): void {
    this.machine.receiveRefusal(now, this);
    this.#settle(now);
  }

  expire(now: number): void {
    this.machine.expire(now, this);
    this.#settle(now);
  }

  /** A duplicate of the request that began this transfer. */
  repeatRequest(now: number): void {
    this.machine.repeatRequest(now, this);
    this.#settle(now);
  }

  /** Ends the transfer from this side, telling the peer unless `told` is false. */
  abort(code: number, message: string, now: number, told = true): void {
    this.#mute = !told;
    this.machine.abort(code, message, now, this);
    this.#settle(now);
  }

  sendOpening(): void {
    if (this.#opening.length === 0) this.sendAck(0);
    else this.#endpoint.sendBytes(this.link.socket, this.link.peer, this.link.local, this.#opening);
  }

  deliver(_index: number): void {
    const start = this.#payloadStart;
    const bytes = this.#payloadBytes;
    if (this.#runPieces > 0) {
      const distance = start - this.#runLast;
      // A short piece ends its run; pieces must lie at one distance, wherever the kernel put them.
      if (
        this.#runBytes === this.#runPieces * this.#runPieceBytes && bytes <= this.#runPieceBytes &&
        distance > 0 && (this.#runPieces === 1 || distance === this.#runStride) &&
        distance >= this.#runPieceBytes
      ) {
        this.#runStride = distance;
        this.#runPieces++;
        this.#runLast = start;
        this.#runBytes += bytes;
        return;
      }
      this.#flush();
    }
    this.#runStart = start;
    this.#runLast = start;
    this.#runPieces = 1;
    this.#runPieceBytes = bytes;
    this.#runStride = bytes;
    this.#runBytes = bytes;
  }

  hold(index: number): void {
    const from = this.#batch!.slab.bytes;
    this.#held.set(
      index,
      from.slice(this.#payloadStart, this.#payloadStart + this.#payloadBytes),
    );
  }

  deliverHeld(first: number, count: number): void {
    this.#flush();
    for (let index = first; index < first + count; index++) {
      const bytes = this.#held.get(index);
      this.#held.delete(index);
      if (bytes !== undefined) this.#append(bytes, 0, bytes.length, bytes.length, bytes.length);
    }
  }

  dropHeld(first: number): void {
    for (const index of this.#held.keys()) {
      if (index >= first) this.#held.delete(index);
    }
  }

  sendAck(index: number): void {
    this.#endpoint.lockstep = this.machine.windowSize === 1;
    this.#endpoint.windowed = this.machine.windowSize >= ANTICIPATED_BLOCKS;
    const wire = index === 0 ? 0 : wireBlock(index, this.machine.rollover);
    this.#endpoint.sendAck(this.link.socket, this.link.peer, this.link.local, wire);
  }

  commit(): void {
    // Only noted: the machine is in the middle of a step and must not be called back.
    this.#committing = true;
  }

  sendError(code: number, message: string): void {
    if (this.#mute) return;
    this.#endpoint.sendError(this.link.socket, this.link.peer, this.link.local, code, message);
  }

  finish(result: TransferResult): void {
    this.#decided = true;
    this.#held.clear();
    if (result.outcome !== "done") this.#sink.discard();
    this.#observer.finished(result, this.#failure);
  }

  #datagram(batch: DatagramBatch, index: number, start: number, end: number, now: number): void {
    const view = batch.slab.view;
    switch (classify(view, start, end)) {
      case DATA: {
        const wire = readBlockNumber(view, start);
        if (!this.link.settled) {
          // Only block 1, and without options no more than 512 bytes, can be a first answer: anything else is left over
          // from a transfer that is gone, whose port this one got.
          if (wire !== 1 || end - start - HEADER_BYTES > DEFAULT_BLOCK_BYTES) break;
          this.link.settle(batch, index);
        }
        this.#payloadStart = start + HEADER_BYTES;
        this.#payloadBytes = end - start - HEADER_BYTES;
        this.machine.receiveData(wire, this.#payloadBytes, now, this);
        break;
      }
      case OACK: {
        this.link.settle(batch, index);
        const verified = this.#observer.verify?.(decodeOptionsAck(batch.slab.bytes, start, end));
        if (verified === undefined) break;
        if ("refused" in verified) this.machine.abort(8, verified.refused, now, this);
        else this.machine.receiveOptions(verified, now, this);
        break;
      }
      case ERROR:
        this.machine.receiveError(
          readErrorCode(view, start),
          decodeErrorMessage(batch.slab.bytes, start, end),
          now,
          this,
        );
        break;
    }
    if (this.#failed || this.#committing) this.#settle(now);
  }

  #flush(): void {
    if (this.#runPieces === 0) return;
    this.#runPieces = 0;
    this.#append(
      this.#batch!.slab.bytes,
      this.#runStart,
      this.#runPieceBytes,
      this.#runStride,
      this.#runBytes,
    );
  }

  #append(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
  ): void {
    if (this.#failed || this.#decided || length === 0) return;
    try {
      this.#sink.append(bytes, start, pieceBytes, strideBytes, length);
      this.#observer.received?.(length);
    } catch (error) {
      this.#failed = true;
      this.#failure = error;
    }
  }

  #commit(now: number): void {
    this.#committing = false;
    this.#flush();
    if (this.#failed) return;
    let pending: void | Promise<void>;
    try {
      pending = this.#sink.commit();
    } catch (error) {
      this.#failed = true;
      this.#failure = error;
      return;
    }
    if (pending === undefined) {
      this.#committed = true;
      this.machine.committed(now, this);
      return;
    }
    this.#endpoint.awaited++;
    pending.finally(() => this.#endpoint.awaited--).then(
      () => {
        this.#committed = true;
        const later = this.#endpoint.clock.now();
        this.machine.committed(later, this);
        this.#settle(later);
        this.#endpoint.onDeadline();
      },
      (error) => {
        this.#failed = true;
        this.#failure = error;
        this.#settle(this.#endpoint.clock.now());
      },
    );
  }

  /** After every call into the machine: commit what is complete, report what failed, keep the deadline, let go. */
  #settle(now: number): void {
    if (this.#committing) this.#commit(now);
    if (this.#failed && !this.#decided) {
      const refusal = this.#observer.refusal(this.#failure);
      this.machine.abort(refusal.code, refusal.message, now, this);
    }
    if (!this.machine.finished) {
      this.#endpoint.deadlines.touch(this);
      return;
    }
    if (this.#released) return;
    this.#released = true;
    this.#endpoint.deadlines.remove(this);
    this.link.close();
    this.#observer.released();
  }

  /** True once the content is permanent. */
  get committed(): boolean {
    return this.#committed;
  }
}
