/**
 * Keeps a view of the kernel's neighbor table true: events as they come, the whole table at the start and after every
 * loss, and single questions before anything is believed to be gone.
 *
 * ```
 *            start, loss, request            done             done                no candidates left        drained
 *   Steady ─────────────────────► Links ─────────► Neighbors ───────► Verifying ─────────────────► Settling ───┐
 *     ▲                                              ▲     │ many are missing: read once more                  │
 *     │                                              └─────┘                                                   │
 *     └────────────────────────────────────────────────────────────────────────────────────────────────────────┘
 * ```
 *
 * Three rules make it converge. *Events win*: a row of a dump is older than any event that was read while the dump ran.
 * *Verify before delete*: an entry a dump does not show is asked for by name, because the kernel skips live entries when
 * others of their hash bucket vanish under the dump, and never says so. *Confirm*: for the same reason an entry nobody
 * told of can stay unseen; so a dump under which entries vanished is repeated, ever more rarely, until one was calm.
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import {
  ENODEV,
  ENOENT,
  ENXIO,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_OVERRUN,
  NTF_PROXY,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
} from "./constants.ts";
import { KernelQuestions } from "./kernel_questions.ts";
import { KernelView } from "./kernel_view.ts";
import { decodeLink } from "./link.ts";
import type { LinkCache } from "./link_cache.ts";
import { readNeighbor } from "./neighbor.ts";
import { ENTRY_CANDIDATE, type NeighborTable } from "./neighbor_table.ts";
import {
  decodeAnswer,
  type NetlinkSink,
  parseNetlink,
  readErrorNumber,
  readFlags,
  readSequence,
  REJECT_FAMILY,
} from "./netlink.ts";
import type { ResyncActions, ResyncCounts, ResyncOptions, ResyncReason } from "./resync_actions.ts";
import { ResyncPace } from "./resync_pace.ts";

const STEADY = 0, LINKS = 1, NEIGHBORS = 2, VERIFYING = 3, SETTLING = 4, STOPPED = 5;

/** A sweep with more candidates than this, and than this part of the view, is a dump gone wrong: read once more. */
const MANY_CANDIDATES = 1_000, MANY_CANDIDATES_PART = 0.2;
/** Pauses before something that was refused is asked again. */
const MIN_RETRY_MS = 100, MAX_RETRY_MS = 5_000;
/** Attempts at a dump of links that is not interrupted, and the pause after the first. */
const MAX_LINK_DUMPS = 5, LINK_DUMP_PAUSE_MS = 10;
const DEFAULT_ANSWER_TIMEOUT_MS = 2_000;
const DEFAULT_MAX_BUFFER_BYTES = 256 << 20;

/** The view and all that keeps it true, as a value. Time comes in, intents go out. */
export class ResyncMachine {
  readonly #kernel: KernelView;
  readonly #questions: KernelQuestions;
  readonly #pace: ResyncPace;
  readonly #family: number;

  #phase = STEADY;
  #reason: ResyncReason = "start";
  #dumps = 0;
  #linkDumps = 0;
  #interrupted = false;
  /** When a request that was refused or interrupted is made again. */
  #retryAt = Infinity;
  #retryMs = MIN_RETRY_MS;
  /** A loss was told, and the event socket was not seen empty since: what waits there may be older than the loss. */
  #overflowing = false;
  #lostSinceEnd = 0;
  #removed = 0;
  #kept = 0;
  #synced = false;
  /** Links that the running dump of links showed, and those events told of meanwhile. */
  readonly #seenLinks = new Set<number>();
  readonly #toldLinks = new Set<number>();

  #events = 0;
  #rows = 0;
  #lostEvents = 0;
  #overflows = 0;
  #resyncs = 0;
  #repairs = 0;
  #malformed = 0;
  #ignored = 0;
  #unknownIfindex = 0;
  #refusals = 0;

  // What the sinks below work on; set at the entry of every verb, so that no closure is made per datagram.
  #view: DataView = new DataView(new ArrayBuffer(0));
  #bytes: Uint8Array = new Uint8Array(0);
  #now = 0;
  #actions: ResyncActions | undefined = undefined;

  readonly #eventSink: NetlinkSink = {
    message: (type, start, end) => this.#event(type, start, end, this.#actions!),
    malformed: () => void this.#malformed++,
  };
  readonly #replySink: NetlinkSink = {
    message: (type, start, end) => this.#reply(type, start, end, this.#actions!),
    malformed: () => void this.#malformed++,
  };

  /**
   * Makes a machine that has not begun.
   *
   * @throws {RangeError} When a number is out of range.
   */
  constructor(options: ResyncOptions) {
    const maxBytes = options.maxReceiveBufferBytes ?? DEFAULT_MAX_BUFFER_BYTES;
    this.#pace = new ResyncPace(
      integerIn(options.receiveBufferBytes, 0, 0x7fff_ffff, "receive buffer"),
      integerIn(maxBytes, 0, 0x7fff_ffff, "largest receive buffer"),
    );
    this.#family = options.family ?? 0;
    this.#kernel = new KernelView(options.seed, options.repeats ?? false);
    const timeoutMs = options.answerTimeoutMs ?? DEFAULT_ANSWER_TIMEOUT_MS;
    this.#questions = new KernelQuestions(this.#kernel, timeoutMs);
  }

  /** The neighbors. Read it as you like; only the machine may change it. */
  get table(): NeighborTable {
    return this.#kernel.table;
  }

  /** The links. Read it as you like; only the machine may change it. */
  get links(): LinkCache {
    return this.#kernel.links;
  }

  /** When {@linkcode expire} wants to be called, monotonic milliseconds; `Infinity` when nothing is pending. */
  get deadline(): number {
    if (this.#phase === STOPPED) return Infinity;
    const mayBegin = this.#phase === STEADY && !this.#overflowing;
    return Math.min(
      mayBegin ? this.#pace.pendingAt : Infinity,
      this.#retryAt,
      this.#questions.answerBy,
      this.links.deadline,
    );
  }

  /** True once {@linkcode stop} was called; every later call does nothing. */
  get finished(): boolean {
    return this.#phase === STOPPED;
  }

  /** The view was once what the kernel had. */
  get synced(): boolean {
    return this.#synced;
  }

  /** The table is being read, or will be. */
  get resyncing(): boolean {
    if (this.#phase === STOPPED) return false;
    return this.#phase !== STEADY || this.#pace.pending !== undefined;
  }

  /**
   * Somebody waits for the event socket to be seen empty: read it until it is, then call {@linkcode drained}. To be
   * looked at after every call into the machine.
   */
  get wantsDrain(): boolean {
    return this.#phase === SETTLING || this.#overflowing;
  }

  /** Entries that are in the kernel. */
  get liveEntries(): number {
    return this.#kernel.liveEntries;
  }

  /** The counts now. Allocates. */
  counts(): ResyncCounts {
    return {
      events: this.#events,
      rows: this.#rows,
      lostEvents: this.#lostEvents,
      overflows: this.#overflows,
      resyncs: this.#resyncs,
      repairs: this.#repairs,
      malformed: this.#malformed,
      ignored: this.#ignored,
      unknownIfindex: this.#unknownIfindex,
      queries: this.#questions.sent,
      refusals: this.#refusals,
    };
  }

  /** Begin. Called once, when the event socket has joined its groups: no change may fall between. */
  start(now: number, actions: ResyncActions): void {
    if (this.#phase === STEADY && this.#resyncs === 0) this.#begin("start", now, actions);
  }

  /** Takes one datagram of the event socket. */
  receiveEvents(
    view: DataView,
    start: number,
    end: number,
    now: number,
    actions: ResyncActions,
  ): void {
    if (this.#phase === STOPPED) return;
    this.#enter(view, now, actions);
    parseNetlink(view, start, end, this.#eventSink);
    this.#ask(actions);
  }

  /** Takes one datagram of the query socket. */
  receiveReplies(
    view: DataView,
    start: number,
    end: number,
    now: number,
    actions: ResyncActions,
  ): void {
    if (this.#phase === STOPPED) return;
    this.#enter(view, now, actions);
    parseNetlink(view, start, end, this.#replySink);
    this.#ask(actions);
  }

  /**
   * Events were lost: a full buffer, a datagram that was cut off, a drop counter that went up.
   *
   * @param count How many, 0 when nobody knows.
   */
  lost(count: number, now: number, actions: ResyncActions): void {
    if (this.#phase === STOPPED) return;
    this.#now = now;
    this.#lostEvents += count;
    this.#lostSinceEnd += count;
    if (this.#overflowing) return;
    this.#overflowing = true;
    this.#overflows++;
    this.#pace.overflowed(now, actions);
    // It will not be seen empty before the next reading begins: this one has nothing more to find out.
    if (this.#phase === SETTLING) this.#end(now, actions);
  }

  /** The event socket was just seen empty. May be called at any time; has to be when {@linkcode wantsDrain}. */
  drained(now: number, actions: ResyncActions): void {
    if (this.#phase === STOPPED) return;
    this.#now = now;
    this.#overflowing = false;
    if (this.#phase === SETTLING) this.#end(now, actions);
    this.#beginPending(now, actions);
  }

  /** Answers on the query socket were lost: everything that is not answered is asked again. */
  queryLost(now: number, actions: ResyncActions): void {
    if (this.#phase === STOPPED) return;
    this.#now = now;
    this.#askAgain(actions);
  }

  /** The event socket's buffer has this size now, bytes: what the kernel granted. */
  receiveBufferSet(bytes: number): void {
    this.#pace.bufferBytes = bytes;
  }

  /** Read the table anew, as soon as what is being read has ended. */
  resync(now: number, actions: ResyncActions): void {
    if (this.#phase === STOPPED) return;
    this.#now = now;
    this.#pace.schedule("manual", now);
    this.#beginPending(now, actions);
  }

  /** Time has passed. Safe to call early. */
  expire(now: number, actions: ResyncActions): void {
    if (this.#phase === STOPPED) return;
    this.#now = now;
    this.links.expire(now);
    if (now >= this.#questions.answerBy) this.#askAgain(actions);
    if (now >= this.#retryAt) {
      this.#retryAt = Infinity;
      // A dump that still runs is not what is to be tried again: a question is.
      if (!this.#questions.dumping && this.#phase === LINKS) this.#dumpLinks(actions);
      else if (!this.#questions.dumping && this.#phase === NEIGHBORS) this.#dumpNeighbors(actions);
      this.#ask(actions);
    }
    this.#beginPending(now, actions);
  }

  /** Last call: nothing is emitted any more. */
  stop(): void {
    this.#phase = STOPPED;
  }

  /**
   * Tells every announced entry again, as a change in which nothing changed: for facts that decide differently now.
   *
   * @param ifindex Only this interface's.
   */
  replay(ifindex: number | undefined, actions: ResyncActions): void {
    this.#kernel.replay(ifindex, actions);
  }

  #enter(view: DataView, now: number, actions: ResyncActions): void {
    if (view !== this.#view) {
      this.#view = view;
      this.#bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    }
    this.#now = now;
    this.#actions = actions;
  }

  #event(type: number, start: number, end: number, actions: ResyncActions): void {
    if (type === RTM_NEWNEIGH || type === RTM_DELNEIGH) {
      if (!this.#readNeighbor(start, end)) return;
      this.#events++;
      if (type === RTM_NEWNEIGH) this.#kernel.put(true, actions);
      else this.#kernel.drop(actions);
    } else if (type === RTM_NEWLINK || type === RTM_DELLINK) {
      this.#linkEvent(type, start, end, actions);
    } else if (type === NLMSG_OVERRUN) this.lost(0, this.#now, actions);
  }

  /** Takes a neighbor in hand. @returns Whether it is one that is kept. */
  #readNeighbor(start: number, end: number): boolean {
    const { neighbor } = this.#kernel.change;
    const reason = readNeighbor(this.#view, start, end, neighbor);
    if (reason < 0) {
      if (reason === REJECT_FAMILY) this.#ignored++;
      else this.#malformed++;
      return false;
    }
    const other = this.#family !== 0 && neighbor.family !== this.#family;
    // The proxy table is another one: its entries would pass for real ones of the same address.
    if (!other && (neighbor.flags & NTF_PROXY) === 0) return true;
    this.#ignored++;
    return false;
  }

  #linkEvent(type: number, start: number, end: number, actions: ResyncActions): void {
    const message = decodeLink(this.#bytes, this.#view, start, end);
    if (typeof message === "number") {
      this.#malformed++;
      return;
    }
    const { ifindex, family } = message;
    // A port that leaves its bridge is told as a DELLINK of family AF_BRIDGE; the interface is still there.
    if (family !== 0) {
      this.#ignored++;
      return;
    }
    // An answer that is on its way may be older than this.
    this.#questions.cancelLink(ifindex);
    if (this.#phase === LINKS) this.#toldLinks.add(ifindex);
    if (type === RTM_DELLINK) this.#kernel.removeLink(ifindex, this.#now, actions);
    else this.#kernel.applyLink(message, actions);
  }

  #beginPending(now: number, actions: ResyncActions): void {
    const { pending, pendingAt } = this.#pace;
    if (this.#phase !== STEADY || this.#overflowing || pending === undefined) return;
    if (now >= pendingAt) this.#begin(pending, now, actions);
  }

  #begin(reason: ResyncReason, now: number, actions: ResyncActions): void {
    this.#now = now;
    this.#pace.begun(reason, now);
    this.#reason = reason;
    this.#resyncs++;
    this.#kernel.added = 0;
    this.#kernel.changed = 0;
    this.#removed = 0;
    this.#kept = 0;
    this.#dumps = 0;
    this.#linkDumps = 0;
    this.#retryMs = MIN_RETRY_MS;
    this.#phase = LINKS;
    actions.resyncStarted(reason);
    this.#dumpLinks(actions);
  }

  #dumpLinks(actions: ResyncActions): void {
    this.#linkDumps++;
    this.#interrupted = false;
    this.#seenLinks.clear();
    this.#toldLinks.clear();
    this.#questions.dumpLinks(this.#now, actions);
  }

  #dumpNeighbors(actions: ResyncActions): void {
    this.#phase = NEIGHBORS;
    this.#dumps++;
    this.#kernel.beginDump();
    this.#questions.dumpNeighbors(this.#family, this.#now, actions);
  }

  #reply(type: number, start: number, end: number, actions: ResyncActions): void {
    const sequence = readSequence(this.#view, start);
    if (this.#questions.isDump(sequence, this.#now)) {
      this.#dumpReply(type, start, end, actions);
      return;
    }
    const slot = this.#questions.takeSlot(sequence, this.#now);
    if (slot >= 0) {
      this.#neighborAnswer(slot, type, start, end, actions);
      return;
    }
    const ifindex = this.#questions.takeLink(sequence, this.#now);
    if (ifindex !== 0) this.#linkAnswer(ifindex, type, start, end, actions);
    else if (type === NLMSG_OVERRUN) this.#askAgain(actions);
    // Anything else answers a question that is no longer asked.
  }

  #dumpReply(type: number, start: number, end: number, actions: ResyncActions): void {
    if (type === NLMSG_ERROR || type === NLMSG_DONE) {
      const errorNumber = readErrorNumber(this.#view, start, end);
      if (type === NLMSG_ERROR && errorNumber === 0) return;
      if (type === NLMSG_DONE) this.#lookForInterruption(start);
      this.#questions.dumpEnded();
      if (errorNumber !== 0) {
        this.#refused(start, end, actions);
        this.#retryLater();
      } else if (this.#phase === LINKS) this.#linksDone(actions);
      else this.#neighborsDone(actions);
      return;
    }
    this.#lookForInterruption(start);
    if (this.#phase === NEIGHBORS && type === RTM_NEWNEIGH) {
      if (!this.#readNeighbor(start, end)) return;
      this.#rows++;
      this.#kernel.put(false, actions);
    } else if (this.#phase === LINKS && type === RTM_NEWLINK) {
      const message = decodeLink(this.#bytes, this.#view, start, end);
      if (typeof message === "number") this.#malformed++;
      else if (!this.#toldLinks.has(message.ifindex)) {
        this.#seenLinks.add(message.ifindex);
        this.#questions.cancelLink(message.ifindex);
        this.#kernel.applyLink(message, actions);
      }
    }
  }

  #lookForInterruption(start: number): void {
    if ((readFlags(this.#view, start) & NLM_F_DUMP_INTR) === 0) return;
    this.#interrupted = true;
    // Today's kernels never say it of neighbors; one that does is believed.
    this.#kernel.disturbed = true;
  }

  #refused(start: number, end: number, actions: ResyncActions): void {
    this.#refusals++;
    const answer = decodeAnswer(this.#bytes, this.#view, start, end);
    if (typeof answer !== "number") actions.refused(answer);
  }

  #retryLater(): void {
    this.#retryAt = this.#now + this.#retryMs;
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_RETRY_MS);
  }

  #linksDone(actions: ResyncActions): void {
    if (this.#interrupted && this.#linkDumps < MAX_LINK_DUMPS) {
      this.#retryAt = this.#now + LINK_DUMP_PAUSE_MS * 2 ** (this.#linkDumps - 1);
      return;
    }
    for (const { ifindex } of this.links.links()) {
      const known = this.#seenLinks.has(ifindex) || this.#toldLinks.has(ifindex);
      if (!known) this.#kernel.wantedLinks.add(ifindex);
    }
    this.#seenLinks.clear();
    this.#toldLinks.clear();
    this.#dumpNeighbors(actions);
  }

  #neighborsDone(actions: ResyncActions): void {
    const live = this.#kernel.endDump();
    const { candidates } = this.#kernel;
    const many = candidates > MANY_CANDIDATES && candidates > live * MANY_CANDIDATES_PART;
    if (many && this.#dumps === 1) {
      this.#dumpNeighbors(actions);
      return;
    }
    this.#phase = VERIFYING;
    this.#questions.cancelNeighbors();
  }

  /** Asks about candidates and links as long as answers are few enough; goes on when there is nothing left to ask. */
  #ask(actions: ResyncActions): void {
    if (this.#phase === VERIFYING && this.#kernel.candidates === 0 && this.#questions.linksKnown) {
      this.#phase = SETTLING;
      this.#questions.cancelNeighbors();
    }
    if (this.#retryAt !== Infinity) return;
    this.#questions.ask(this.#phase === VERIFYING, this.#now, actions);
  }

  #neighborAnswer(
    slot: number,
    type: number,
    start: number,
    end: number,
    actions: ResyncActions,
  ): void {
    const { table, change } = this.#kernel;
    // An event has settled it meanwhile; whatever the answer is older than is still to come as an event.
    if (!table.isLive(slot) || (table.marks[slot]! & ENTRY_CANDIDATE) === 0) return;
    if (type === RTM_NEWNEIGH) {
      if (this.#readNeighbor(start, end) && table.find(change.neighbor) === slot) {
        this.#rows++;
        this.#kept++;
        this.#kernel.put(false, actions);
        return;
      }
    } else {
      const errorNumber = readErrorNumber(this.#view, start, end);
      if (isMissing(errorNumber)) {
        this.#removed++;
        this.#kernel.removeMissing(slot, actions);
        return;
      }
      this.#refused(start, end, actions);
    }
    // Not a useful answer: asked again, after a while.
    this.#questions.rewind(slot);
    this.#retryLater();
  }

  #linkAnswer(
    ifindex: number,
    type: number,
    start: number,
    end: number,
    actions: ResyncActions,
  ): void {
    if (type === RTM_NEWLINK) {
      const message = decodeLink(this.#bytes, this.#view, start, end);
      if (typeof message === "number") this.#malformed++;
      else this.#kernel.applyLink(message, actions);
      return;
    }
    const errorNumber = readErrorNumber(this.#view, start, end);
    if (isMissing(errorNumber)) {
      if (this.links.get(ifindex) === undefined) this.#unknownIfindex++;
      this.#kernel.removeLink(ifindex, this.#now, actions);
    } else if (errorNumber > 0) {
      this.#refused(start, end, actions);
      this.#kernel.wantedLinks.add(ifindex);
      this.#retryLater();
    }
  }

  /** Everything that is not answered is asked again, under new numbers. */
  #askAgain(actions: ResyncActions): void {
    // A dump of ours may still run: the kernel refuses another one until the first is read to its end.
    if (this.#questions.restart()) this.#retryLater();
    else this.#ask(actions);
  }

  #end(now: number, actions: ResyncActions): void {
    const { added, changed, disturbed } = this.#kernel;
    this.#phase = STEADY;
    this.#synced = true;
    this.#repairs += added + changed + this.#removed;
    this.#pace.ended(disturbed, now);
    const lost = this.#lostSinceEnd;
    this.#lostSinceEnd = 0;
    actions.resyncEnded({
      reason: this.#reason,
      added,
      changed,
      removed: this.#removed,
      lost,
      kept: this.#kept,
      dumps: this.#dumps,
      disturbed,
    });
  }
}

/** The kernel knows neither the entry nor, perhaps, its link. */
function isMissing(errorNumber: number): boolean {
  return errorNumber === ENOENT || errorNumber === ENODEV || errorNumber === ENXIO;
}
