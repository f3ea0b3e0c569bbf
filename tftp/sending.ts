/**
 * A transfer that sends: the server's answer to a read request, the client's upload. Joins a machine to a link and a
 * block source; knows no protocol rule.
 *
 * @module
 */
import type { DatagramBatch } from "../ffi/mod.ts";
import { type BlockSource, FileBlocks } from "./blocks.ts";
import type { Endpoint, Timed } from "./endpoint.ts";
import { type Link, Source } from "./link.ts";
import {
  ACK,
  classify,
  decodeErrorMessage,
  decodeOptionsAck,
  DEFAULT_BLOCK_BYTES,
  ERROR,
  type Negotiated,
  OACK,
  readBlockNumber,
  readErrorCode,
  type SendActions,
  type SendMachine,
  type TransferResult,
} from "./protocol/mod.ts";
import { refusalOf } from "./refusal.ts";
import { WindowWriter } from "./window_writer.ts";

/** What the owner of a sending transfer is told. */
export interface SendingObserver {
  /** The peer answered the request with these options. Client only. Answers what was agreed, or why it cannot be. */
  verify?(
    answered: readonly (readonly [string, string])[],
  ): Negotiated | { readonly refused: string };
  /** The source to read once the block size is certain. Client only. */
  begin?(blockSize: number, windowSize: number): BlockSource;
  /** Blocks left, and how much payload they carried. */
  sent?(blocks: number, payloadBytes: number, again: boolean): void;
  /** The peer confirmed everything up to a block index. */
  acknowledged?(blocks: number): void;
  /** The content cannot be read; the peer is told and `finished` follows. */
  failed?(error: unknown): void;
  /** The transfer is decided. */
  finished(result: TransferResult): void;
  /** The transfer lets go of its socket: nothing comes from it any more. */
  released(): void;
}

/** A bound on how fast payload may leave. */
export interface Rate {
  /** Milliseconds until more may leave; 0 when it may now. */
  waitMs(now: number): number;
  /** Payload left. */
  spend(bytes: number): void;
}

/** See the module. */
export class SendingTransfer implements SendActions, Timed {
  readonly link: Link;
  readonly machine: SendMachine;
  readonly #endpoint: Endpoint;
  readonly #observer: SendingObserver;
  /** The request or the options acknowledgement, as sent. */
  readonly #opening: Uint8Array;
  #source: BlockSource | undefined;
  #writer: WindowWriter | undefined;
  #failure: unknown;
  #failed = false;
  #mute = false;
  #started = false;
  #released = false;
  #acknowledged = 0;
  /** An acknowledgement that waits until the rate allows its answer, and until when. */
  #heldAck = -1;
  #heldUntil = Infinity;
  readonly #rate: Rate | undefined;
  /** The machine does not know the source's size and must be told what is there. */
  #streams = false;

  /**
   * @param source May be missing on a client until the options are agreed; {@linkcode SendingObserver.begin} makes it.
   * @param opening Empty when a server opens with DATA.
   */
  constructor(
    endpoint: Endpoint,
    link: Link,
    machine: SendMachine,
    source: BlockSource | undefined,
    opening: Uint8Array,
    observer: SendingObserver,
    rate?: Rate,
  ) {
    this.#endpoint = endpoint;
    this.#rate = rate;
    this.link = link;
    this.machine = machine;
    this.#opening = opening;
    this.#observer = observer;
    this.#adopt(source);
  }

  get deadline(): number {
    return this.#heldAck < 0 ? this.machine.deadline : this.#heldUntil;
  }

  /** Sends the opening and begins to wait. */
  start(now: number): void {
    this.#started = true;
    if (this.#source !== undefined) this.#supply(now);
    this.machine.start(now, this);
    this.#endpoint.deadlines.add(this);
    this.#settle(now);
  }

  /** Takes entry `index` of a batch. */
  receive(batch: DatagramBatch, index: number, now: number): void {
    if (this.link.check(batch, index) !== Source.Peer) {
      this.link.refuseStranger(batch, index, now);
      return;
    }
    const view = batch.slab.view;
    const start = batch.starts[index]!;
    const end = start + batch.lengths[index]!;
    switch (classify(view, start, end)) {
      case ACK: {
        const wire = readBlockNumber(view, start);
        if (!this.link.settled) {
          // Only ACK 0 can be a first answer: anything else is left over from a transfer that is gone.
          if (wire !== 0) break;
          this.link.settle(batch, index);
          this.#begin(now);
        }
        this.#receiveAck(wire, now);
        break;
      }
      case OACK:
        this.link.settle(batch, index);
        this.#receiveOptions(decodeOptionsAck(batch.slab.bytes, start, end), now);
        break;
      case ERROR:
        this.machine.receiveError(
          readErrorCode(view, start),
          decodeErrorMessage(batch.slab.bytes, start, end),
          now,
          this,
        );
        break;
    }
    this.#settle(now);
  }

  /** The peer's host said that nobody listens there. */
  refused(now: number): void {
    this.machine.receiveRefusal(now, this);
    this.#settle(now);
  }

  expire(now: number): void {
    if (this.#heldAck >= 0) {
      const wire = this.#heldAck;
      this.#heldAck = -1;
      this.#receiveAck(wire, now);
    } else this.machine.expire(now, this);
    this.#settle(now);
  }

  /** A duplicate of the request that began this transfer. */
  repeatRequest(now: number): void {
    this.machine.repeatRequest(now, this);
    this.#settle(now);
  }

  /** More content became available in the source. */
  supplied(now: number): void {
    if (!this.#started || this.machine.finished) return;
    this.#supply(now);
    this.#settle(now);
  }

  /** Ends the transfer from this side, telling the peer unless `told` is false. */
  abort(code: number, message: string, now: number, told = true): void {
    this.#mute = !told;
    this.machine.abort(code, message, now, this);
    this.#settle(now);
  }

  sendOpening(): void {
    this.#endpoint.sendBytes(this.link.socket, this.link.peer, this.link.local, this.#opening);
  }

  sendBlocks(first: number, count: number, again: boolean): void {
    if (this.#failed || this.#source === undefined) return;
    let total: number;
    try {
      total = this.#windows().send(first, count);
    } catch (error) {
      this.#fail(error);
      return;
    }
    this.#rate?.spend(total);
    this.#observer.sent?.(count, total, again);
  }

  sendError(code: number, message: string): void {
    if (this.#mute) return;
    this.#endpoint.sendError(this.link.socket, this.link.peer, this.link.local, code, message);
  }

  finish(result: TransferResult): void {
    this.#writer?.close();
    this.#source?.close();
    this.#observer.finished(result);
  }

  /** The writer; made when the block size is certain. */
  #windows(): WindowWriter {
    const { blockSize, rollover } = this.machine;
    return this.#writer ??= new WindowWriter(
      this.#endpoint,
      this.link,
      this.#source!,
      blockSize,
      rollover,
    );
  }

  #receiveAck(wire: number, now: number): void {
    const wait = this.#rate?.waitMs(now) ?? 0;
    if (wait > 0) {
      // The window is the only valve of the protocol: what paces a transfer is how late its ACK is heard.
      if (this.#heldAck < 0) this.#heldUntil = now + wait;
      this.#heldAck = wire;
      return;
    }
    this.machine.receiveAck(wire, now, this);
    if (this.machine.acknowledgedBlocks !== this.#acknowledged) this.#advance(now);
  }

  #receiveOptions(answered: readonly (readonly [string, string])[], now: number): void {
    const verified = this.#observer.verify?.(answered);
    if (verified === undefined) return;
    if ("refused" in verified) {
      this.machine.abort(8, verified.refused, now, this);
      return;
    }
    if (this.#source !== undefined) {
      // A repeated OACK: the machine decides whether the first window goes again.
      this.machine.receiveOptions(verified, now, this);
      return;
    }
    this.#adopt(this.#observer.begin?.(verified.blockSize, verified.windowSize));
    this.#supply(now);
    this.machine.receiveOptions(verified, now, this);
  }

  /** No OACK came but an ACK: every option is off. */
  #begin(now: number): void {
    if (this.#source !== undefined) return;
    this.#adopt(this.#observer.begin?.(DEFAULT_BLOCK_BYTES, 1));
    this.#supply(now);
  }

  #adopt(source: BlockSource | undefined): void {
    this.#source = source;
    // Only of plain content the machine was told the size, whatever the others have found out meanwhile.
    this.#streams = source !== undefined && !(source instanceof FileBlocks);
  }

  #supply(now: number): void {
    const source = this.#source;
    if (source === undefined || !this.#streams) return;
    this.machine.supply(source.availableBlocks, source.lastBlock, now, this, source.sizeBytes);
  }

  #advance(now: number): void {
    this.#acknowledged = this.machine.acknowledgedBlocks;
    const source = this.#source;
    if (source !== undefined && !this.machine.finished) {
      try {
        source.release(this.#acknowledged);
      } catch (error) {
        this.#fail(error);
        return;
      }
      this.#supply(now);
    }
    this.#observer.acknowledged?.(this.#acknowledged);
  }

  #fail(error: unknown): void {
    this.#failed = true;
    this.#failure = error;
  }

  /** After every call into the machine: report what went wrong inside an action, keep the deadline, let go. */
  #settle(now: number): void {
    if (this.#failed && !this.machine.finished) {
      this.#failed = false;
      this.#observer.failed?.(this.#failure);
      const refusal = refusalOf(this.#failure);
      this.machine.abort(refusal.tftpCode, refusal.message, now, this);
    }
    if (!this.machine.finished) {
      this.#endpoint.deadlines.touch(this);
      return;
    }
    if (this.#released) return;
    this.#released = true;
    this.#endpoint.deadlines.remove(this);
    // Closed first: its last counts are then known without asking the kernel again.
    this.link.close();
    this.#observer.released();
  }
}
