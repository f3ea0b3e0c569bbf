/**
 * The side of a transfer that receives the file: the server of a write, the client of a read. RFC 1350 §6, RFC 1123
 * §4.2.3, RFC 2347, RFC 7440.
 *
 * ```
 *          start             OACK, DATA                  last block                committed
 *   Idle ────────► Opening ─────────────► Receiving ──────────────► Committing ─────────────► Dallying ──► Finished
 *                                    from anywhere but Dallying: ERROR, abort, no answer ────────────────────┘
 * ```
 *
 * The payload never comes here: whoever drives the machine holds the datagram while `receiveData` runs, and the machine
 * says what it is.
 *
 * @module
 */

import type { ReceiveActions, TransferOutcome } from "./actions.ts";
import { HeldBlocks } from "./held_blocks.ts";
import type { Negotiated } from "./negotiate.ts";
import { DEFAULT_BLOCK_BYTES, ERROR_ILLEGAL_OPERATION } from "./opcodes.ts";
import { RetryTimer } from "./retry.ts";
import type { RetryOptions } from "./retry.ts";

/** How a receiving transfer begins. */
export interface ReceiveOptions extends RetryOptions {
  /** Who we are. A server waits for `maxIdleMs` whatever the count: telephones erase their flash for half a minute. */
  readonly role: "server" | "client";
  /** Server: an options acknowledgement opens the transfer (ACK 0 otherwise). A client always opens with its request. */
  readonly opening: boolean;
  /** Bytes in every block but the last. A client without an answer to its options falls back to 512. */
  readonly blockSize: number;
  /** Blocks in a window, 1 to 32768. */
  readonly windowSize: number;
  /** What follows block number 65535 on the wire; `auto` finds out, and is for clients. */
  readonly rollover: 0 | 1 | "auto";
  /** Hold blocks that come ahead of their turn, up to a window, instead of forgetting them. Default true. */
  readonly reorder?: boolean | undefined;
}

const IDLE = 0, OPENING = 1, RECEIVING = 2, COMMITTING = 3, DALLYING = 4, FINISHED = 5;

/** Retransmissions to a peer that never answered: a forged request must not make us an amplifier. */
const MAX_UNVERIFIED_RETRANSMITS = 3;
/** Refusals without a packet in between that mean that the peer is gone; one may race with its change of ports. */
const MAX_REFUSALS = 2;
/** Least time between two acknowledgements of the same block when windows are used, milliseconds. */
const MIN_REPEAT_MS = 5;
/** Longest wait for a hole to close by itself, milliseconds: what queues of one adapter reorder is closer together. */
const MAX_HOLE_MS = 2;
/** Shortest time to stay after the final ACK, milliseconds. */
const MIN_DALLY_MS = 1000;
/** Timeouts with one block in hand after which a sender is taken for one that does not know windows. */
const STALLS_TO_ADAPT = 2;
/** The 65,536th block: where it shows what follows number 65535. */
const ROLL_INDEX = 65536;

/** The receiving half of a transfer, as a value. Follows the machine contract: time comes in, intents go out. */
export class ReceiveMachine {
  /** ACKs and openings that were sent again. */
  retransmits = 0;
  /** Times the retransmission timer ran out. */
  timeouts = 0;
  /** Blocks that had been received before. */
  duplicateBlocks = 0;
  /** Blocks outside of what may come now, and garbage. */
  blocksOutOfWindow = 0;
  /** Times a hole was reported. */
  gaps = 0;

  readonly #server: boolean;
  readonly #reorder: boolean;
  readonly #retry: RetryTimer;
  /** Server: a peer that has sent data is not given up earlier, milliseconds. */
  readonly #patienceMs: number;

  #state = IDLE;
  #blockSize: number;
  #windowSize: number;
  #rollover: 0 | 1;
  /** What follows 65535 is not known. */
  #undecided: boolean;

  /** Next block in order. */
  #expect = 1;
  /** Blocks in order since the last ACK. */
  #count = 0;
  /** Blocks after which an ACK is due: the window, or 1 for a sender that sends one at a time. */
  #every: number;
  /** Index of the final block; 0 while unknown. */
  #last = 0;
  #lastBytes = 0;

  /** Blocks that are held ahead of their turn. */
  #held: HeldBlocks;

  #retryAt = Infinity;
  /** When a hole is reported if it is still there. */
  #holeAt = Infinity;
  /** When the last block is acknowledged again because duplicates came and nothing else. */
  #repeatAt = Infinity;
  #dallyEnd = Infinity;
  /** The hole was reported; what else comes ahead of its turn says nothing new. */
  #reported = false;
  #ackedAt = -Infinity;
  /** The next block in order measures the round trip from `#ackedAt` (Karn). */
  #measuring = false;
  #refusals = 0;
  #openings = 0;
  #openedAt = 0;
  /** OACK was taken: ACK 0 is what is repeated, not the request. */
  #optionsTaken = false;

  #stalls = 0;
  /** The sender was seen to send more than one block at a time. */
  #burstSeen = false;

  /** Makes a machine that has not begun. The options are resolved ones: nothing is checked here. */
  constructor(options: ReceiveOptions) {
    this.#server = options.role === "server";
    this.#blockSize = options.blockSize;
    this.#windowSize = options.windowSize;
    this.#every = options.windowSize;
    this.#rollover = options.rollover === 1 ? 1 : 0;
    this.#undecided = options.rollover === "auto";
    this.#reorder = options.reorder ?? true;
    this.#retry = new RetryTimer(options);
    this.#patienceMs = options.minGiveUpMs ?? options.maxIdleMs ?? 60_000;
    this.#held = new HeldBlocks(this.#windowSize);
  }

  /** When {@linkcode expire} wants to be called, monotonic milliseconds; `Infinity` when nothing is pending. */
  get deadline(): number {
    let at = this.#retryAt < this.#holeAt ? this.#retryAt : this.#holeAt;
    if (this.#repeatAt < at) at = this.#repeatAt;
    return at;
  }

  /** True when nothing will come out any more; `finish` was called then or, after success, a while before. */
  get finished(): boolean {
    return this.#state === FINISHED;
  }

  /** True from the final ACK on, while only repeated blocks are answered. */
  get dallying(): boolean {
    return this.#state === DALLYING;
  }

  /** Payload bytes of every block but the last. */
  get blockSize(): number {
    return this.#blockSize;
  }

  /** Blocks in a window. */
  get windowSize(): number {
    return this.#windowSize;
  }

  /** What follows block number 65535 on the wire; 0 while that is not known. */
  get rollover(): 0 | 1 {
    return this.#rollover;
  }

  /** Blocks received in order. */
  get receivedBlocks(): number {
    return this.#expect - 1;
  }

  /** Payload bytes received in order. */
  get receivedBytes(): number {
    const blocks = this.#expect - 1;
    return blocks > 0 && blocks === this.#last
      ? (blocks - 1) * this.#blockSize + this.#lastBytes
      : blocks * this.#blockSize;
  }

  /** Smoothed round-trip time, milliseconds; 0 before the first measurement. */
  get rttMs(): number {
    return this.#retry.srttMs;
  }

  /** Begin. Called once. */
  start(now: number, actions: ReceiveActions): void {
    if (this.#state !== IDLE) return;
    this.#state = OPENING;
    this.#retry.progress(now);
    this.#open(now, actions);
  }

  /**
   * Takes a DATA packet. The payload is the driver's: `deliver` and `hold` speak of the one in hand.
   *
   * @param wire The number it carries, 0 to 65535.
   * @param payloadBytes Bytes behind the header.
   */
  receiveData(wire: number, payloadBytes: number, now: number, actions: ReceiveActions): void {
    this.#refusals = 0;
    if (this.#state !== RECEIVING && !this.#mayReceive(wire, now, actions)) return;
    if (payloadBytes > this.#blockSize) {
      this.#fail(
        "protocol-error",
        ERROR_ILLEGAL_OPERATION,
        `block of ${payloadBytes} bytes, expected at most ${this.#blockSize}`,
        actions,
      );
      return;
    }
    const expect = this.#expect;
    let ahead: number;
    if (this.#rollover === 0) {
      ahead = (wire - expect % 65536) & 0xffff;
      if (this.#undecided && expect + ahead >= ROLL_INDEX && ahead < 0x8000) {
        this.#decide(wire, ahead, payloadBytes, now, actions);
        return;
      }
    } else {
      if (wire === 0) {
        this.blocksOutOfWindow++;
        return;
      }
      ahead = wire - 1 - (expect - 1) % 65535;
      if (ahead < 0) ahead += 65535;
    }
    if (ahead === 0) this.#take(payloadBytes, now, actions);
    else if (ahead < this.#windowSize) this.#ahead(expect + ahead, payloadBytes, now, actions);
    else if (ahead >= 0x8000) this.#behind(now, actions);
    else this.blocksOutOfWindow++;
  }

  /** Client: takes the verified answer to the options of the request; repeated answers are told apart here. */
  receiveOptions(negotiated: Negotiated, now: number, actions: ReceiveActions): void {
    if (this.#server) return;
    this.#refusals = 0;
    if (this.#state === OPENING) {
      this.#blockSize = negotiated.blockSize;
      this.#windowSize = negotiated.windowSize;
      this.#every = negotiated.windowSize;
      if (negotiated.accepted.some((pair) => pair[0] === "rollover")) {
        this.#rollover = negotiated.rollover;
        this.#undecided = false;
      }
      this.#retry.fix(negotiated.timeoutMs);
      this.#held = new HeldBlocks(this.#windowSize);
      this.#optionsTaken = true;
      this.#begin(now);
      this.#measuring = true;
      this.#acknowledge(now, actions);
    } else if (this.#state === RECEIVING && this.#optionsTaken && this.#expect === 1) {
      // ACK 0 was lost.
      this.retransmits++;
      this.#measuring = false;
      this.#acknowledge(now, actions);
    }
  }

  /** Takes an ERROR: it ends the transfer, and is never answered. */
  receiveError(code: number, message: string, _now: number, actions: ReceiveActions): void {
    if (this.#state >= DALLYING) {
      this.#silence();
      return;
    }
    this.#finish("peer-error", code, message, actions);
  }

  /**
   * The peer's host says that nobody listens on its port (ICMP). The second time without a packet in between, the peer is
   * taken to be gone; it is not told, because nobody is there. What is complete is not given up for it.
   */
  receiveRefusal(_now: number, actions: ReceiveActions): void {
    if (this.#state === DALLYING) this.#silence();
    if (this.#state !== OPENING && this.#state !== RECEIVING) return;
    if (++this.#refusals >= MAX_REFUSALS) this.#finish("no-answer", -1, "refused", actions);
  }

  /** Time has passed. Safe to call early. */
  expire(now: number, actions: ReceiveActions): void {
    if (now >= this.#retryAt) {
      if (this.#state === DALLYING) this.#silence();
      else this.#timeOut(now, actions);
      return;
    }
    if (now >= this.#holeAt) this.#reportHole(now, actions);
    if (now >= this.#repeatAt) {
      this.retransmits++;
      this.#acknowledge(now, actions);
    }
  }

  /** This side gives up, because a sink failed or was told to stop: tells the peer and finishes. */
  abort(code: number, message: string, _now: number, actions: ReceiveActions): void {
    if (this.#state >= DALLYING) this.#silence();
    else this.#fail("aborted", code, message, actions);
  }

  /** Everything that was delivered is permanent: the answer to `commit`. The final ACK leaves now. */
  committed(now: number, actions: ReceiveActions): void {
    if (this.#state !== COMMITTING) return;
    this.#state = DALLYING;
    const stay = Math.max(this.#retry.intervalMs, MIN_DALLY_MS);
    // Each answer prolongs the stay, but a peer that never stops asking does not keep us for ever.
    this.#dallyEnd = now + 8 * stay;
    this.#retryAt = now + stay;
    this.#ackedAt = now;
    actions.sendAck(this.#last);
    actions.finish(Object.freeze(this.#result("done")));
  }

  /** The peer sent its request again: it has not seen our answer. Server only; ignored once a block has come. */
  repeatRequest(now: number, actions: ReceiveActions): void {
    if (!this.#server || this.#state !== OPENING) return;
    this.#openings++;
    this.retransmits++;
    this.#retryAt = now + this.#retry.intervalMs;
    actions.sendOpening();
  }

  #open(now: number, actions: ReceiveActions): void {
    if (this.#openings++ === 0) this.#openedAt = now;
    this.#retryAt = now + this.#retry.intervalMs;
    actions.sendOpening();
  }

  /** The states in which DATA is the exception. Answers whether it is to be taken after all. */
  #mayReceive(wire: number, now: number, actions: ReceiveActions): boolean {
    if (this.#state === OPENING && wire > 0 && wire <= this.#windowSize) {
      if (!this.#server) {
        // DATA instead of an OACK says that no option was understood. RFC 2347.
        if (wire !== 1) return false;
        this.#blockSize = DEFAULT_BLOCK_BYTES;
        this.#windowSize = 1;
        this.#every = 1;
        this.#retry.fix(undefined);
        this.#held = new HeldBlocks(this.#windowSize);
      }
      this.#begin(now);
      return true;
    }
    if (this.#state === DALLYING) this.#repeatFinal(now, actions);
    // While committing, repeated blocks are swallowed: the final ACK answers them all.
    return false;
  }

  #begin(now: number): void {
    // Karn: an answer to a repeated opening measures nothing.
    if (this.#openings === 1) this.#retry.sampleOpening(now - this.#openedAt);
    this.#retry.progress(now);
    if (this.#server) this.#retry.waitAtLeast(this.#patienceMs);
    this.#state = RECEIVING;
  }

  /** The next block in order. */
  #take(payloadBytes: number, now: number, actions: ReceiveActions): void {
    const index = this.#expect;
    this.#expect = index + 1;
    this.#count++;
    if (this.#count === 2) this.#noteBurst();
    this.#repeatAt = Infinity;
    this.#holeAt = Infinity;
    this.#reported = false;
    if (this.#measuring) {
      this.#measuring = false;
      this.#retry.sample(now - this.#ackedAt);
    }
    this.#retry.progress(now);
    if (payloadBytes < this.#blockSize) {
      if (this.#held.count > 0) {
        this.#held.clear();
        actions.dropHeld(index + 1);
      }
      this.#last = index;
      this.#lastBytes = payloadBytes;
    }
    actions.deliver(index);
    if (this.#held.count > 0) {
      const next = this.#held.takeFrom(index + 1);
      if (next > index + 1) {
        this.#expect = next;
        this.#count += next - index - 1;
        actions.deliverHeld(index + 1, next - index - 1);
      }
    }
    if (this.#last !== 0 && this.#expect > this.#last) {
      this.#state = COMMITTING;
      this.#retryAt = Infinity;
      actions.commit();
      return;
    }
    if (this.#count >= this.#every) {
      this.#measuring = true;
      this.#acknowledge(now, actions);
      return;
    }
    this.#retryAt = now + this.#retry.intervalMs;
  }

  /** A block ahead of its turn, less than a window away. */
  #ahead(index: number, payloadBytes: number, now: number, actions: ReceiveActions): void {
    if (this.#last !== 0 && index > this.#last) {
      this.blocksOutOfWindow++;
      return;
    }
    this.#noteBurst();
    if (this.#held.has(index)) this.duplicateBlocks++;
    else if (this.#reorder) this.#hold(index, payloadBytes, actions);
    if (this.#reported || this.#holeAt !== Infinity) return;
    if (!this.#reorder) {
      this.#reportHole(now, actions);
      return;
    }
    const srtt = this.#retry.srttMs;
    const wait = srtt / 4 < MAX_HOLE_MS ? srtt / 4 : MAX_HOLE_MS;
    this.#holeAt = now + wait;
  }

  #hold(index: number, payloadBytes: number, actions: ReceiveActions): void {
    if (payloadBytes < this.#blockSize) {
      // A last block before one that is held: somebody lies, and the order of the file will tell who.
      if (this.#held.count > 0 && index < this.#held.highest) return;
      this.#last = index;
      this.#lastBytes = payloadBytes;
    }
    this.#held.add(index);
    actions.hold(index);
  }

  /** A block that was received before. */
  #behind(now: number, actions: ReceiveActions): void {
    this.duplicateBlocks++;
    if (this.#windowSize === 1) {
      // Its ACK was lost. A sender that obeys RFC 1123 is not made to repeat itself by this.
      if (this.#expect > 1) {
        this.retransmits++;
        this.#measuring = false;
        this.#acknowledge(now, actions);
      }
      return;
    }
    // Answering every duplicate of a window doubles traffic.
    const half = this.#retry.srttMs / 2;
    const pause = half > MIN_REPEAT_MS ? half : MIN_REPEAT_MS;
    if (this.#count > 0) {
      // In the middle of a window an ACK makes the sender go back. Only when nothing else comes was it a question.
      this.#noteStall();
      this.#repeatAt = now + pause;
    } else if (now - this.#ackedAt >= pause) {
      this.retransmits++;
      this.#measuring = false;
      this.#acknowledge(now, actions);
    }
  }

  /** ACKs what is in order, which begins a new window for both sides. */
  #acknowledge(now: number, actions: ReceiveActions): void {
    this.#count = 0;
    this.#ackedAt = now;
    this.#repeatAt = Infinity;
    this.#retryAt = now + this.#retry.intervalMs;
    actions.sendAck(this.#expect - 1);
  }

  /** Reports a hole, once: everything else in flight behind it would only say the same. RFC 7440 §4. */
  #reportHole(now: number, actions: ReceiveActions): void {
    this.#holeAt = Infinity;
    this.#reported = true;
    this.#measuring = false;
    this.gaps++;
    this.#acknowledge(now, actions);
  }

  #repeatFinal(now: number, actions: ReceiveActions): void {
    this.duplicateBlocks++;
    const half = this.#retry.srttMs / 2;
    const pause = this.#windowSize === 1 ? 0 : half > MIN_REPEAT_MS ? half : MIN_REPEAT_MS;
    if (now - this.#ackedAt < pause) return;
    this.#ackedAt = now;
    this.retransmits++;
    const stay = Math.max(this.#retry.intervalMs, MIN_DALLY_MS);
    this.#retryAt = now + stay < this.#dallyEnd ? now + stay : this.#dallyEnd;
    actions.sendAck(this.#last);
  }

  #timeOut(now: number, actions: ReceiveActions): void {
    this.timeouts++;
    if (this.#retry.timedOut(now)) {
      const verified = !this.#server || this.#state !== OPENING;
      if (verified) actions.sendError(0, "timeout");
      this.#finish("no-answer", -1, "timeout", actions);
      return;
    }
    if (this.#state === OPENING) {
      if (this.#server && this.#openings > MAX_UNVERIFIED_RETRANSMITS) {
        this.#retryAt = now + this.#retry.intervalMs;
        return;
      }
      this.retransmits++;
      this.#open(now, actions);
      return;
    }
    this.#noteStall();
    this.retransmits++;
    this.#holeAt = Infinity;
    this.#reported = false;
    this.#measuring = false;
    this.#acknowledge(now, actions);
  }

  /** A server that answers `windowsize` and then sends single blocks waits for an ACK after each. */
  #noteStall(): void {
    if (this.#count === 1 && this.#every > 1 && !this.#burstSeen) {
      if (++this.#stalls >= STALLS_TO_ADAPT) this.#every = 1;
    }
  }

  /** The sender does send several blocks at a time: never acknowledge each. */
  #noteBurst(): void {
    this.#burstSeen = true;
    this.#every = this.#windowSize;
  }

  /**
   * A block at or behind the 65,536th while it is not known whether that is number 0 or 1.
   *
   * Number 0 proves the first. A number that would be a whole window ahead cannot have been sent by somebody who counts
   * 0, because we acknowledged no further: it proves the second. Anything between may be either, with one block lost,
   * and is not believed: a wrong guess would shift the rest of the file by a block.
   */
  #decide(
    wire: number,
    ahead: number,
    payloadBytes: number,
    now: number,
    actions: ReceiveActions,
  ): void {
    const expect = this.#expect;
    if (wire === 0) {
      this.#undecided = false;
      this.receiveData(wire, payloadBytes, now, actions);
    } else if (expect === ROLL_INDEX && ahead === this.#windowSize) {
      this.#undecided = false;
      this.#rollover = 1;
      // Not as a new hole: numbers that were between until now have one meaning from here on.
      this.#reported = false;
      this.receiveData(wire, payloadBytes, now, actions);
    } else if (ahead < this.#windowSize) {
      if (!this.#reported && this.#holeAt === Infinity) this.#reportHole(now, actions);
    } else {
      this.blocksOutOfWindow++;
    }
  }

  #silence(): void {
    this.#state = FINISHED;
    this.#retryAt = Infinity;
    this.#holeAt = Infinity;
    this.#repeatAt = Infinity;
  }

  #fail(outcome: TransferOutcome, code: number, message: string, actions: ReceiveActions): void {
    const told = this.#state !== IDLE;
    this.#silence();
    if (told) actions.sendError(code, message);
    this.#finish(outcome, -1, message, actions);
  }

  #finish(outcome: TransferOutcome, code: number, message: string, actions: ReceiveActions): void {
    this.#silence();
    const result = this.#result(outcome);
    actions.finish(
      Object.freeze(code >= 0 ? { ...result, errorCode: code, message } : { ...result, message }),
    );
  }

  #result(outcome: TransferOutcome): {
    outcome: TransferOutcome;
    blocks: number;
    bytes: number;
    retransmits: number;
    timeouts: number;
    rttMs: number;
  } {
    return {
      outcome,
      blocks: this.receivedBlocks,
      bytes: this.receivedBytes,
      retransmits: this.retransmits,
      timeouts: this.timeouts,
      rttMs: this.#retry.srttMs,
    };
  }
}
