/**
 * The side of a transfer that sends the file: the server of a read, the client of a write. RFC 1350 §6, RFC 1123
 * §4.2.3, RFC 2347, RFC 7440.
 *
 * ```
 *          start                 ACK 0, OACK                 ACK of the last block
 *   Idle ────────► Opening ────────────────────► Sending ───────────────────────────► Finished
 *     └──────── without options: DATA 1 ────────────┘          from anywhere: ERROR, abort, no answer
 * ```
 *
 * @module
 */

import type { SendActions, TransferOutcome } from "./actions.ts";
import type { Negotiated } from "./negotiate.ts";
import { DEFAULT_BLOCK_BYTES, ERROR_OPTIONS_REFUSED } from "./opcodes.ts";
import { RetryTimer } from "./retry.ts";
import type { RetryOptions } from "./retry.ts";

/** How a sending transfer begins. */
export interface SendOptions extends RetryOptions {
  /** Who we are. */
  readonly role: "server" | "client";
  /** Server: an options acknowledgement opens the transfer. A client always opens with its request. */
  readonly opening: boolean;
  /** Bytes in every block but the last. A client without an answer to its options falls back to 512. */
  readonly blockSize: number;
  /** Blocks in a window, 1 to 32768. */
  readonly windowSize: number;
  /** What follows block number 65535 on the wire. */
  readonly rollover: 0 | 1;
  /** Bytes to send; undefined when the source tells by {@linkcode SendMachine.supply}. */
  readonly sizeBytes: number | undefined;
  /** Ask with the last block of a window before the timer runs out. Default true. */
  readonly tailProbe?: boolean | undefined;
  /** After loss, spread windows over half a round trip. Default false. */
  readonly pacing?: boolean | undefined;
}

const IDLE = 0, OPENING = 1, SENDING = 2, FINISHED = 3;

/** Retransmissions to a peer that never answered: a forged request must not make us an amplifier. */
const MAX_UNVERIFIED_RETRANSMITS = 3;
/** Payload bytes to a peer that never answered, when larger than a block. */
const MAX_UNVERIFIED_BYTES = 3 * DEFAULT_BLOCK_BYTES;
/** Refusals without a packet in between that mean that the peer is gone; one may race with its change of ports. */
const MAX_REFUSALS = 2;
/** Into how many parts a window is cut at most when pacing. */
const MAX_PARTS = 8;
/** Windows during which duplicate ACKs are not believed after one that was an echo. */
const DISTRUST_WINDOWS = 8;
/** Clean windows until the number of parts is halved. */
const CALM_WINDOWS = 8;

/** The sending half of a transfer, as a value. Follows the machine contract: time comes in, intents go out. */
export class SendMachine {
  /** Blocks and openings that were sent again. */
  retransmits = 0;
  /** Times the retransmission timer ran out. */
  timeouts = 0;
  /** ACKs of what was acknowledged before. */
  duplicateAcks = 0;
  /** ACKs of blocks that were never sent or are long done. */
  acksOutOfWindow = 0;

  readonly #server: boolean;
  readonly #opening: boolean;
  readonly #sizeBytes: number;
  readonly #tailProbe: boolean;
  readonly #pacing: boolean;
  readonly #retry: RetryTimer;

  #state = IDLE;
  #blockSize: number;
  #windowSize: number;
  #rollover: 0 | 1;
  /** Index of the final block; MAX_SAFE_INTEGER while unknown. */
  #last = Number.MAX_SAFE_INTEGER;
  #available = 0;
  #totalBytes = -1;

  /** First block that is not acknowledged. */
  #base = 1;
  /** Next block to send in this pass over the window. */
  #cursor = 1;
  /** One past the highest block ever sent. */
  #high = 1;

  #retryAt = Infinity;
  #probeAt = Infinity;
  #paceAt = Infinity;
  /** When this pass over the window began. */
  #passAt = 0;
  /** When the last part of the window left, and the first block of it. */
  #lastSentAt = 0;
  #partFirst = 1;
  /** When a duplicate ACK last made us go back. */
  #wentBackAt = -Infinity;
  /** No block of this window was sent twice. */
  #clean = true;
  /** First block that only this pass over the window has sent; `Infinity` once it was sent again. */
  #fresh = 1;
  #probed = false;
  /** A duplicate ACK made us go back to the start of this window already. */
  #wentBack = false;
  /** Windows during which no duplicate ACK is believed, because the last one was an echo. */
  #distrust = 0;
  /** W = 1: the repair of this retransmission period was spent. */
  #repaired = false;
  #openedAt = 0;
  #openings = 0;
  /** The peer has answered, so its address is not forged. */
  #verified: boolean;
  #refusals = 0;
  #unverifiedSends = 0;
  #unverifiedBytes = 0;

  #parts = 1;
  #calm = 0;
  #lossy = false;

  /** Makes a machine that has not begun. The options are resolved ones: nothing is checked here. */
  constructor(options: SendOptions) {
    this.#server = options.role === "server";
    this.#opening = options.opening || options.role === "client";
    this.#verified = !this.#server;
    this.#blockSize = options.blockSize;
    this.#windowSize = options.windowSize;
    this.#rollover = options.rollover;
    this.#sizeBytes = options.sizeBytes ?? -1;
    this.#tailProbe = options.tailProbe ?? true;
    this.#pacing = options.pacing ?? false;
    this.#retry = new RetryTimer(options);
    this.#measure();
  }

  /** When {@linkcode expire} wants to be called, monotonic milliseconds; `Infinity` when nothing is pending. */
  get deadline(): number {
    const at = this.#retryAt < this.#probeAt ? this.#retryAt : this.#probeAt;
    return at < this.#paceAt ? at : this.#paceAt;
  }

  /** True once `finish` was called; every later call does nothing. */
  get finished(): boolean {
    return this.#state === FINISHED;
  }

  /** Payload bytes of every block but the last. */
  get blockSize(): number {
    return this.#blockSize;
  }

  /** Blocks in a window. */
  get windowSize(): number {
    return this.#windowSize;
  }

  /** What follows block number 65535 on the wire. */
  get rollover(): 0 | 1 {
    return this.#rollover;
  }

  /** Blocks the peer has for sure. What lies at or before is never asked of the driver again. */
  get acknowledgedBlocks(): number {
    return this.#base - 1;
  }

  /** Highest block that may be asked for now: what a source should have ready, or the last one. */
  get wantedBlocks(): number {
    const wanted = this.#base + 2 * this.#windowSize - 1;
    return wanted < this.#last ? wanted : this.#last;
  }

  /** Smoothed round-trip time, milliseconds; 0 before the first measurement. */
  get rttMs(): number {
    return this.#retry.srttMs;
  }

  /** Begin. Called once. */
  start(now: number, actions: SendActions): void {
    if (this.#state !== IDLE) return;
    this.#retry.progress(now);
    if (this.#opening) {
      this.#state = OPENING;
      this.#open(now, actions);
    } else {
      this.#state = SENDING;
      this.#pass(now, actions);
    }
  }

  /**
   * Takes an ACK.
   *
   * @param wire The number it carries, 0 to 65535.
   */
  receiveAck(wire: number, now: number, actions: SendActions): void {
    this.#refusals = 0;
    if (this.#state !== SENDING) {
      if (this.#state === OPENING && wire === 0) {
        // To a client an ACK instead of an OACK says that no option was understood. RFC 2347.
        if (!this.#server) this.#fallBack();
        this.#begin(now, actions);
      }
      return;
    }
    const acknowledged = this.#base - 1;
    const ahead = this.#distance(wire, acknowledged);
    if (ahead < 0 || acknowledged + ahead >= this.#high) {
      this.acksOutOfWindow++;
      return;
    }
    this.#verified = true;
    if (ahead === 0) {
      this.duplicateAcks++;
      this.#repair(now, actions);
      return;
    }
    const index = acknowledged + ahead;
    const whole = index === this.#high - 1;
    const half = this.#retry.srttMs / 2;
    // Karn: only what was sent once tells which sending is answered. Over a bad line no window is without a block that
    // was sent before, but most end with some that were not.
    if (index >= this.#fresh) {
      // Of a block in an earlier part of a paced window it is only known that it left after the window began.
      const last = index >= this.#partFirst;
      const most = now - (last ? this.#lastSentAt : this.#passAt);
      if (last || most < this.#retry.srttMs) this.#retry.sample(most);
    }
    // The answer to what was sent again cannot be here before half a round trip: the window had arrived, and the
    // duplicate ACK that made us go back was an echo. Going back for each echo would double every window from here on
    // (the Sorcerer's Apprentice, RFC 1123 §4.2.3.1).
    if (this.#wentBackAt >= this.#passAt && now - this.#wentBackAt < half) {
      this.#distrust = DISTRUST_WINDOWS;
    } else if (this.#distrust > 0) this.#distrust--;
    this.#retry.progress(now);
    this.#base = index + 1;
    if (index === this.#last) {
      this.#finish("done", actions, -1, "");
      return;
    }
    if (this.#pacing) this.#adjustParts(whole && this.#clean);
    this.#repaired = false;
    this.#wentBack = false;
    this.#probed = false;
    // Either the whole window arrived, or the receiver has begun a new one behind what it acknowledges: both times a
    // full window starts here. RFC 7440 §4.
    this.#pass(now, actions);
  }

  /** Client: takes the verified answer to the options of the request; repeated answers are told apart here. */
  receiveOptions(negotiated: Negotiated, now: number, actions: SendActions): void {
    this.#refusals = 0;
    if (this.#state === OPENING && !this.#server) {
      this.#blockSize = negotiated.blockSize;
      this.#windowSize = negotiated.windowSize;
      this.#rollover = negotiated.rollover;
      this.#retry.fix(negotiated.timeoutMs);
      this.#measure();
      this.#begin(now, actions);
    } else if (this.#state === SENDING && this.#base === 1) {
      // It stands for ACK 0, and is believed no more than a repeated ACK 0.
      this.duplicateAcks++;
      this.#repair(now, actions);
    }
  }

  /** Takes an ERROR: it ends the transfer, and is never answered. */
  receiveError(code: number, message: string, _now: number, actions: SendActions): void {
    if (this.#state === FINISHED) return;
    // UEFI firmware asks for the size, refuses the answer, and comes back for the file.
    const probe = this.#state === OPENING && this.#server && code === ERROR_OPTIONS_REFUSED;
    this.#finish(probe ? "size-probe" : "peer-error", actions, code, message);
  }

  /**
   * The peer's host says that nobody listens on its port (ICMP). The second time without a packet in between, the peer is
   * taken to be gone; it is not told, because nobody is there.
   */
  receiveRefusal(_now: number, actions: SendActions): void {
    if (this.#state === IDLE || this.#state === FINISHED) return;
    if (++this.#refusals >= MAX_REFUSALS) this.#finish("no-answer", actions, -1, "refused");
  }

  /** Time has passed. Safe to call early. */
  expire(now: number, actions: SendActions): void {
    if (now >= this.#retryAt) this.#timeOut(now, actions);
    else if (now >= this.#paceAt) this.#burst(now, actions);
    else if (now >= this.#probeAt) this.#probe(actions);
  }

  /** This side gives up: tells the peer and finishes. */
  abort(code: number, message: string, _now: number, actions: SendActions): void {
    if (this.#state === FINISHED) return;
    const told = this.#state !== IDLE;
    this.#silence();
    if (told) actions.sendError(code, message);
    this.#finish("aborted", actions, -1, message);
  }

  /**
   * A source of unknown size tells how far it has come.
   *
   * @param availableBlocks Blocks up to this index may be sent.
   * @param lastBlock Index of the final block (shorter than the others, maybe empty), once the source has ended.
   * @param totalBytes Bytes of the whole, with `lastBlock`; for the result only.
   */
  supply(
    availableBlocks: number,
    lastBlock: number | undefined,
    now: number,
    actions: SendActions,
    totalBytes?: number,
  ): void {
    if (this.#state === FINISHED) return;
    if (lastBlock !== undefined) this.#last = lastBlock;
    if (totalBytes !== undefined) this.#totalBytes = totalBytes;
    this.#available = Math.min(Math.max(availableBlocks, this.#available), this.#last);
    if (this.#state !== SENDING || this.#paceAt !== Infinity || this.#cursor > this.#limit()) {
      return;
    }
    if (this.#cursor === this.#base) {
      this.#retry.progress(now);
      this.#pass(now, actions);
    } else this.#burst(now, actions);
  }

  /** The peer sent its request again: it has not seen our answer. Server only; ignored once it has answered. */
  repeatRequest(now: number, actions: SendActions): void {
    if (!this.#server || this.#base !== 1) return;
    if (this.#state === OPENING) {
      this.#openings++;
      this.retransmits++;
      this.#retryAt = now + this.#retry.intervalMs;
      actions.sendOpening();
    } else if (this.#state === SENDING && !this.#opening && this.#high > 1) {
      // Asked for, so it does not count against the guard: one block for one request.
      this.#unverifiedSends--;
      this.#unverifiedBytes -= this.#blockSize;
      this.#pass(now, actions);
    }
  }

  /** Distance of a number on the wire from the acknowledged block; −1 when it stands for no block. */
  #distance(wire: number, acknowledged: number): number {
    // Windows are at most 2¹⁵ blocks, so an old number cannot be taken for a new one.
    if (this.#rollover === 0) return (wire - acknowledged % 65536) & 0xffff;
    if (acknowledged === 0) return wire;
    if (wire === 0) return -1;
    const ahead = wire - 1 - (acknowledged - 1) % 65535;
    return ahead < 0 ? ahead + 65535 : ahead;
  }

  #open(now: number, actions: SendActions): void {
    if (this.#openings++ === 0) this.#openedAt = now;
    this.#retryAt = now + this.#retry.intervalMs;
    actions.sendOpening();
  }

  #begin(now: number, actions: SendActions): void {
    this.#verified = true;
    // Karn: an answer to a repeated opening measures nothing.
    if (this.#openings === 1) this.#retry.sampleOpening(now - this.#openedAt);
    this.#retry.progress(now);
    this.#state = SENDING;
    this.#pass(now, actions);
  }

  /** Goes to the first unacknowledged block and sends the window from there. */
  #pass(now: number, actions: SendActions): void {
    this.#cursor = this.#base;
    this.#fresh = this.#high;
    this.#passAt = now;
    this.#clean = this.#high === this.#base;
    this.#burst(now, actions);
  }

  /** Last block of the window that can be sent. */
  #limit(): number {
    const limit = this.#base + this.#windowSize - 1;
    return limit < this.#available ? limit : this.#available;
  }

  /** Sends what is left of the window, or its next part when pacing. */
  #burst(now: number, actions: SendActions): void {
    const first = this.#cursor;
    const limit = this.#limit();
    let count = limit - first + 1;
    this.#paceAt = Infinity;
    this.#probeAt = Infinity;
    if (count <= 0) {
      // The source is behind. Nothing unacknowledged, nothing to repeat: it is for `supply` to go on.
      this.#retryAt = this.#high > this.#base ? now + this.#retry.intervalMs : Infinity;
      return;
    }
    const srtt = this.#retry.srttMs;
    if (this.#parts > 1 && srtt > 0) {
      const part = Math.ceil(this.#windowSize / this.#parts);
      if (count > part) {
        count = part;
        this.#paceAt = now + srtt / 2 / this.#parts;
      }
    }
    if (!this.#verified && !this.#mayStillSend(count)) {
      this.#retryAt = now + this.#retry.intervalMs;
      return;
    }
    const next = first + count;
    const again = first < this.#high;
    if (again) {
      this.retransmits += (next < this.#high ? next : this.#high) - first;
      this.#clean = false;
    }
    if (next > this.#high) this.#high = next;
    this.#cursor = next;
    this.#lastSentAt = now;
    this.#partFirst = first;
    this.#retryAt = now + this.#retry.intervalMs;
    if (
      this.#tailProbe && !this.#probed && srtt > 0 && this.#windowSize > 1 &&
      this.#paceAt === Infinity
    ) {
      const patience = 2 * srtt > 10 ? 2 * srtt : 10;
      if (now + patience < this.#retryAt) this.#probeAt = now + patience;
    }
    actions.sendBlocks(first, count, again);
  }

  /**
   * No ACK came although two round trips have passed: the last block of the window asks for one. Every conforming
   * receiver answers it, with the window when only the ACK or this block was lost, with the gap otherwise. The first
   * block would be wrong: who lost the whole window takes it in order and stays silent.
   */
  #probe(actions: SendActions): void {
    this.#probeAt = Infinity;
    this.#probed = true;
    this.#clean = false;
    this.#fresh = Infinity;
    this.retransmits++;
    actions.sendBlocks(this.#high - 1, 1, true);
  }

  /** A duplicate ACK: an echo in the network, or a cry for help. */
  #repair(now: number, actions: SendActions): void {
    if (this.#high === this.#base) return;
    const srtt = this.#retry.srttMs;
    if (this.#windowSize === 1) {
      // Answering each would double every packet from then on (RFC 1123 §4.2.3.1). But U-Boot and others recover by
      // repeating their ACK: one answer in a retransmission period, when the block must be lost.
      const patience = srtt > 0 ? 2 * srtt : this.#retry.intervalMs / 2;
      if (this.#repaired || now - this.#lastSentAt <= (patience > 10 ? patience : 10)) return;
      this.#repaired = true;
      this.#pass(now, actions);
      return;
    }
    // The first block of the window is missing. What comes sooner than a round trip after the window left speaks of
    // an earlier one; the quarter is for a round trip that got shorter.
    const age = srtt > 0 ? 0.75 * srtt : this.#retry.intervalMs / 4;
    if (this.#distrust > 0 || this.#wentBack || now - this.#passAt < age) return;
    // Once for a window, and not for each of the ACKs that a burst of late blocks sets free.
    if (now - this.#wentBackAt < (srtt > 5 ? srtt : 5)) return;
    this.#wentBack = true;
    this.#wentBackAt = now;
    this.#lossy = true;
    this.#pass(now, actions);
  }

  #timeOut(now: number, actions: SendActions): void {
    this.timeouts++;
    if (this.#retry.timedOut(now)) {
      this.#silence();
      // A forged request is not worth an answer, and the answer would go to its victim.
      if (this.#verified) actions.sendError(0, "timeout");
      this.#finish("no-answer", actions, -1, "timeout");
      return;
    }
    if (this.#state === OPENING) {
      if (!this.#verified && this.#openings > MAX_UNVERIFIED_RETRANSMITS) {
        this.#retryAt = now + this.#retry.intervalMs;
        return;
      }
      this.retransmits++;
      this.#open(now, actions);
      return;
    }
    this.#repaired = false;
    this.#wentBack = false;
    this.#lossy = true;
    this.#pass(now, actions);
  }

  /** The amplification guard: whether `count` more blocks may go to a peer that never answered. */
  #mayStillSend(count: number): boolean {
    const bytes = this.#unverifiedBytes + count * this.#blockSize;
    if (
      this.#unverifiedSends > 0 &&
      (this.#unverifiedSends > MAX_UNVERIFIED_RETRANSMITS || bytes > MAX_UNVERIFIED_BYTES)
    ) return false;
    this.#unverifiedSends++;
    this.#unverifiedBytes = bytes;
    return true;
  }

  #adjustParts(whole: boolean): void {
    if (this.#lossy || !whole) {
      this.#parts = Math.min(this.#parts * 2, MAX_PARTS);
      this.#calm = 0;
    } else if (this.#parts > 1 && ++this.#calm >= CALM_WINDOWS) {
      this.#parts /= 2;
      this.#calm = 0;
    }
    this.#lossy = false;
  }

  #fallBack(): void {
    this.#blockSize = DEFAULT_BLOCK_BYTES;
    this.#windowSize = 1;
    this.#rollover = 0;
    this.#retry.fix(undefined);
    this.#measure();
  }

  #measure(): void {
    if (this.#sizeBytes < 0) return;
    // A size that is a multiple of the block size, 0 included, ends with an empty block. RFC 1350 §6.
    this.#last = Math.floor(this.#sizeBytes / this.#blockSize) + 1;
    this.#available = this.#last;
    this.#totalBytes = this.#sizeBytes;
  }

  #silence(): void {
    this.#state = FINISHED;
    this.#retryAt = Infinity;
    this.#probeAt = Infinity;
    this.#paceAt = Infinity;
  }

  #finish(outcome: TransferOutcome, actions: SendActions, code: number, message: string): void {
    this.#silence();
    const blocks = this.#base - 1;
    const bytes = blocks * this.#blockSize;
    const result = {
      outcome,
      blocks,
      bytes: this.#totalBytes >= 0 && bytes > this.#totalBytes ? this.#totalBytes : bytes,
      retransmits: this.retransmits,
      timeouts: this.timeouts,
      rttMs: this.#retry.srttMs,
    };
    actions.finish(
      Object.freeze(
        outcome === "done"
          ? result
          : code >= 0
          ? { ...result, errorCode: code, message }
          : { ...result, message },
      ),
    );
  }
}
