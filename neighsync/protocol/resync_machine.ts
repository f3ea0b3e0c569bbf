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
import { MAC_ABSENT } from "./address.ts";
import {
  ENODEV,
  ENOENT,
  ENXIO,
  NLM_F_DUMP_INTR,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_OVERRUN,
  NTF_PROXY,
  NUD_FAILED,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
} from "./constants.ts";
import { decodeLink } from "./link.ts";
import {
  type Link,
  LINK_ADDED,
  LINK_IGNORED,
  LINK_RENAMED,
  LINK_SAME,
  LinkCache,
} from "./link_cache.ts";
import { readNeighbor } from "./neighbor.ts";
import {
  ENTRY_ANNOUNCED,
  ENTRY_BY_EVENT,
  ENTRY_CANDIDATE,
  ENTRY_LIVE,
  NeighborTable,
} from "./neighbor_table.ts";
import {
  decodeAnswer,
  type NetlinkSink,
  parseNetlink,
  readErrorNumber,
  readFlags,
  readSequence,
  REJECT_FAMILY,
  writeLinkDump,
  writeLinkGet,
  writeNeighborDump,
  writeNeighborGet,
} from "./netlink.ts";
import {
  CHANGED_FLAGS,
  CHANGED_MAC,
  CHANGED_STATE,
  type ChangeSource,
  NeighborChange,
  type ResyncActions,
  type ResyncReason,
} from "./resync_actions.ts";

/** How a view is kept. */
export interface ResyncOptions {
  /** Random 32-bit number for the table's hash. */
  readonly seed: number;
  /** `AF_INET`, `AF_INET6`, or 0 (the default) for both. */
  readonly family?: number;
  /** Receive buffer of the event socket as it is now, bytes. */
  readonly receiveBufferBytes: number;
  /** How far it may be asked to grow, bytes. Default 256 MiB. */
  readonly maxReceiveBufferBytes?: number;
  /** Tell events that change nothing, too. Default false. */
  readonly repeats?: boolean;
  /** Milliseconds without a word from the kernel after which a request is made again. Default 2,000. */
  readonly answerTimeoutMs?: number;
}

/** Counts since the machine was made. */
export interface ResyncCounts {
  /** Neighbor events taken. */
  readonly events: number;
  /** Rows of dumps and answers taken. */
  readonly rows: number;
  /** Events known to be lost. */
  readonly lostEvents: number;
  /** Times the event socket overflowed, a row of losses without a pause counted once. */
  readonly overflows: number;
  /** Times the table was read. */
  readonly resyncs: number;
  /** Entries that reading the table has corrected. */
  readonly repairs: number;
  /** Messages that could not be read. */
  readonly malformed: number;
  /** Messages about what is not kept: bridge forwarding, the proxy table, the family that is not wanted. */
  readonly ignored: number;
  /** Interface indexes the kernel knew nothing about. */
  readonly unknownIfindex: number;
  /** Requests sent. */
  readonly queries: number;
  /** Refusals, but for "no such entry" and "no such device". */
  readonly refusals: number;
}

const STEADY = 0, LINKS = 1, NEIGHBORS = 2, VERIFYING = 3, SETTLING = 4, STOPPED = 5;

/** Questions that may be unanswered at a time: their answers fit the smallest receive buffer. */
const MAX_OUTSTANDING = 64;
/** A sweep with more candidates than this, and than this part of the view, is a dump gone wrong: read once more. */
const MANY_CANDIDATES = 1_000, MANY_CANDIDATES_PART = 0.2;
const MIN_SPACING_MS = 100, MAX_SPACING_MS = 5_000;
/** Without a loss for so long, the next one is answered at once again. */
const CALM_MS = 30_000;
/** Two overflows within this time make the buffer grow. */
const GROW_WITHIN_MS = 10_000;
const MAX_CONFIRM_SPACING_MS = 60_000;
/** Attempts at a dump of links that is not interrupted, and the pause after the first. */
const MAX_LINK_DUMPS = 5, LINK_DUMP_PAUSE_MS = 10;
const DEFAULT_ANSWER_TIMEOUT_MS = 2_000;
const DEFAULT_MAX_BUFFER_BYTES = 256 << 20;
/** Largest request, bytes, times the questions of one send. */
const REQUEST_BYTES = 64 * MAX_OUTSTANDING;

/** The view and all that keeps it true, as a value. Time comes in, intents go out. */
export class ResyncMachine {
  /** The neighbors. Read it as you like; only the machine may change it. */
  readonly table: NeighborTable;
  /** The links. */
  readonly links: LinkCache = new LinkCache();

  readonly #family: number;
  readonly #repeats: boolean;
  readonly #answerTimeoutMs: number;
  readonly #maxBufferBytes: number;
  #bufferBytes: number;

  #phase = STEADY;
  /** Stamp of everything heard since the last dump of neighbors began. */
  #generation = 1;
  #sequence = 0;
  /** Sequence number of the dump that is running, or 0. */
  #dumpSequence = 0;
  #dumps = 0;
  #linkDumps = 0;
  #interrupted = false;
  #answerBy = Infinity;
  /** When a dump that failed or was interrupted is asked for again. */
  #retryAt = Infinity;
  #retryMs = MIN_SPACING_MS;

  #reason: ResyncReason = "start";
  /** What is to be read next, and when at the earliest. */
  #pending: ResyncReason | undefined = undefined;
  #pendingAt = Infinity;
  #startedAt = -Infinity;
  #spacingMs = MIN_SPACING_MS;
  #confirmMs = MIN_SPACING_MS;
  #lostAt = -Infinity;
  /** A loss was told, and the event socket was not seen empty since: what waits there may be older than the loss. */
  #overflowing = false;
  #lostSinceEnd = 0;
  #synced = false;

  #added = 0;
  #changed = 0;
  #removed = 0;
  #kept = 0;
  /** An entry vanished since the running dump of neighbors began. */
  #disturbed = false;

  /** Next slot to look at for candidates. */
  #cursor = 0;
  #candidates = 0;
  /** Unanswered questions about neighbors: sequence number to slot. */
  readonly #asked = new Map<number, number>();
  /** Unanswered questions about links, both ways. */
  readonly #lookups = new Map<number, number>();
  readonly #lookedUp = new Map<number, number>();
  /** Indexes to ask about when there is room. */
  readonly #wantedLinks = new Set<number>();
  /** Indexes of entries that were not announced because their link is not known. */
  readonly #nameless = new Set<number>();
  /** Links that the running dump of links showed, or that events told of meanwhile. */
  readonly #seenLinks = new Set<number>();
  readonly #toldLinks = new Set<number>();
  /** Live entries by interface index, so that a link without any is not searched for. */
  readonly #liveByIfindex = new Map<number, number>();

  readonly #change = new NeighborChange();
  readonly #request: Uint8Array<ArrayBuffer> = new Uint8Array(REQUEST_BYTES);
  readonly #requestView = new DataView(this.#request.buffer);

  #events = 0;
  #rows = 0;
  #lostEvents = 0;
  #overflows = 0;
  #resyncs = 0;
  #repairs = 0;
  #malformed = 0;
  #ignored = 0;
  #unknownIfindex = 0;
  #queries = 0;
  #refusals = 0;

  // What the sinks below work on; set at the entry of every verb, so that no closure is made per datagram.
  #view: DataView = this.#requestView;
  #bytes: Uint8Array = this.#request;
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
    this.#maxBufferBytes = integerIn(maxBytes, 0, 0x7fff_ffff, "largest receive buffer");
    this.#bufferBytes = integerIn(options.receiveBufferBytes, 0, 0x7fff_ffff, "receive buffer");
    this.#family = options.family ?? 0;
    this.#repeats = options.repeats ?? false;
    this.#answerTimeoutMs = options.answerTimeoutMs ?? DEFAULT_ANSWER_TIMEOUT_MS;
    this.table = new NeighborTable(options.seed);
  }

  /** When {@linkcode expire} wants to be called, monotonic milliseconds; `Infinity` when nothing is pending. */
  get deadline(): number {
    if (this.#phase === STOPPED) return Infinity;
    const mayStart = this.#phase === STEADY && !this.#overflowing;
    return Math.min(
      mayStart ? this.#pendingAt : Infinity,
      this.#retryAt,
      this.#answerBy,
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
    return this.#phase !== STEADY && this.#phase !== STOPPED || this.#pending !== undefined;
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
    let live = 0;
    for (const count of this.#liveByIfindex.values()) live += count;
    return live;
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
      queries: this.#queries,
      refusals: this.#refusals,
    };
  }

  /** Begin. Called once, when the event socket has joined its groups: no change may fall between. */
  start(now: number, actions: ResyncActions): void {
    if (this.#phase !== STEADY || this.#resyncs > 0) return;
    this.#begin("start", now, actions);
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
    if (now - this.#lostAt > CALM_MS) this.#spacingMs = MIN_SPACING_MS;
    if (now - this.#lostAt <= GROW_WITHIN_MS && this.#bufferBytes < this.#maxBufferBytes) {
      this.#bufferBytes = Math.min(2 * this.#bufferBytes, this.#maxBufferBytes);
      actions.growReceiveBuffer(this.#bufferBytes);
    }
    this.#lostAt = now;
    this.#schedule("overflow", Math.max(now, this.#startedAt + this.#spacingMs));
    this.#spacingMs = Math.min(2 * this.#spacingMs, MAX_SPACING_MS);
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
    this.#askAgain(now, actions);
  }

  /** The event socket's buffer has this size now, bytes: what the kernel granted. */
  receiveBufferSet(bytes: number): void {
    this.#bufferBytes = bytes;
  }

  /** Read the table anew, soon. */
  resync(now: number, actions: ResyncActions): void {
    if (this.#phase === STOPPED) return;
    this.#schedule("manual", now);
    this.#beginPending(now, actions);
  }

  /** Time has passed. Safe to call early. */
  expire(now: number, actions: ResyncActions): void {
    if (this.#phase === STOPPED) return;
    this.#now = now;
    this.links.expire(now);
    if (now >= this.#answerBy) this.#askAgain(now, actions);
    if (now >= this.#retryAt) {
      this.#retryAt = Infinity;
      // A dump that still runs is not what is to be tried again: a question is.
      if (this.#dumpSequence === 0 && this.#phase === LINKS) this.#dumpLinks(now, actions);
      else if (this.#dumpSequence === 0 && this.#phase === NEIGHBORS) {
        this.#dumpNeighbors(now, actions);
      }
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
    const { table } = this;
    for (let slot = 0; slot < table.end; slot++) {
      if (!this.#isAnnounced(slot)) continue;
      if (ifindex !== undefined && table.ifindex[slot] !== ifindex) continue;
      const link = this.links.get(table.ifindex[slot]!);
      if (link === undefined) continue;
      this.#load(slot);
      this.#tell("change", "replay", link, actions);
    }
  }

  #enter(view: DataView, now: number, actions: ResyncActions): void {
    if (view !== this.#view) {
      this.#view = view;
      this.#bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    }
    this.#now = now;
    this.#actions = actions;
  }

  // Events.

  #event(type: number, start: number, end: number, actions: ResyncActions): void {
    if (type === RTM_NEWNEIGH || type === RTM_DELNEIGH) {
      const { neighbor } = this.#change;
      if (!this.#readNeighbor(start, end)) return;
      this.#events++;
      if (type === RTM_NEWNEIGH) this.#put(true, actions);
      else this.#drop(this.table.find(neighbor), actions);
    } else if (type === RTM_NEWLINK || type === RTM_DELLINK) {
      this.#linkEvent(type, start, end, actions);
    } else if (type === NLMSG_OVERRUN) this.lost(0, this.#now, actions);
  }

  #readNeighbor(start: number, end: number): boolean {
    const { neighbor } = this.#change;
    const reason = readNeighbor(this.#view, start, end, neighbor);
    if (reason < 0) {
      if (reason === REJECT_FAMILY) this.#ignored++;
      else this.#malformed++;
      return false;
    }
    if (
      (neighbor.flags & NTF_PROXY) !== 0 ||
      (this.#family !== 0 && neighbor.family !== this.#family)
    ) {
      this.#ignored++;
      return false;
    }
    return true;
  }

  /** The neighbor in hand exists: an event says so, or a row that no event contradicts. */
  #put(byEvent: boolean, actions: ResyncActions): void {
    const { table } = this;
    const change = this.#change;
    const { neighbor } = change;
    let slot = table.find(neighbor);
    const marks = slot < 0 ? 0 : table.marks[slot]!;
    const live = (marks & ENTRY_LIVE) !== 0;
    if (!byEvent && slot >= 0) {
      const stamped = table.generation[slot] === this.#generation && (marks & ENTRY_BY_EVENT) !== 0;
      if (stamped) return;
    }
    if (slot < 0) slot = table.add(neighbor);
    let changed = 0;
    if (live) {
      const mac = table.mac[slot]!, state = table.state[slot]!, flags = table.flags[slot]!;
      change.previousMac = mac;
      change.previousState = state;
      change.previousFlags = flags;
      if (mac !== neighbor.mac) changed |= CHANGED_MAC;
      if (state !== neighbor.state) changed |= CHANGED_STATE;
      if (flags !== neighbor.flags || table.flagsExt[slot] !== neighbor.flagsExt) {
        changed |= CHANGED_FLAGS;
      }
    } else this.#count(neighbor.ifindex, 1);
    table.mac[slot] = neighbor.mac;
    table.state[slot] = neighbor.state;
    table.flags[slot] = neighbor.flags;
    table.flagsExt[slot] = neighbor.flagsExt;
    table.routeType[slot] = neighbor.routeType;
    table.generation[slot] = this.#generation;
    table.marks[slot] = ENTRY_LIVE | (byEvent ? ENTRY_BY_EVENT : 0) |
      (live ? marks & ENTRY_ANNOUNCED : 0);
    if ((marks & ENTRY_CANDIDATE) !== 0) this.#settled();
    if (!byEvent) {
      if (!live) this.#added++;
      else if (changed !== 0) this.#changed++;
    }
    const source = byEvent ? "event" : "dump";
    if (!live || (marks & ENTRY_ANNOUNCED) === 0) this.#announce(slot, source, actions);
    else if (changed !== 0 || (byEvent && this.#repeats)) {
      const link = this.links.get(neighbor.ifindex);
      if (link === undefined) return;
      change.changed = changed;
      this.#tell("change", source, link, actions);
    }
  }

  /** The neighbor in hand was deleted; `slot` is its entry, or -1. */
  #drop(slot: number, actions: ResyncActions): void {
    const { table } = this;
    this.#disturbed = true;
    if (slot >= 0 && table.isLive(slot)) {
      if ((table.marks[slot]! & ENTRY_ANNOUNCED) !== 0) {
        const link = this.links.recall(table.ifindex[slot]!);
        this.#setPrevious(slot);
        if (link !== undefined) this.#tell("delete", "event", link, actions);
      }
      this.#forget(slot);
    } else if (this.#phase === NEIGHBORS) {
      // The dump may have read it before it went.
      const kept = slot >= 0 ? slot : table.add(this.#change.neighbor);
      table.generation[kept] = this.#generation;
      table.marks[kept] = ENTRY_BY_EVENT;
    }
  }

  /** Takes a live entry out; while a dump runs, remembers that a row of it is old. */
  #forget(slot: number): void {
    const { table } = this;
    this.#count(table.ifindex[slot]!, -1);
    const candidate = (table.marks[slot]! & ENTRY_CANDIDATE) !== 0;
    if (this.#phase === NEIGHBORS) {
      table.generation[slot] = this.#generation;
      table.marks[slot] = ENTRY_BY_EVENT;
    } else table.remove(slot);
    if (candidate) this.#settled();
  }

  #count(ifindex: number, by: 1 | -1): void {
    const count = (this.#liveByIfindex.get(ifindex) ?? 0) + by;
    if (count === 0) this.#liveByIfindex.delete(ifindex);
    else this.#liveByIfindex.set(ifindex, count);
  }

  /** Tells of an entry for the first time, or as soon as its link is known. The entry is the neighbor in hand. */
  #announce(slot: number, source: ChangeSource, actions: ResyncActions): void {
    const ifindex = this.table.ifindex[slot]!;
    const link = this.links.get(ifindex);
    if (link === undefined) {
      this.#nameless.add(ifindex);
      this.#lookUp(ifindex);
      return;
    }
    this.table.marks[slot] = this.table.marks[slot]! | ENTRY_ANNOUNCED;
    this.#tell("add", source, link, actions);
  }

  #tell(
    kind: NeighborChange["kind"],
    source: ChangeSource,
    link: Link,
    actions: ResyncActions,
  ): void {
    const change = this.#change;
    change.kind = kind;
    change.source = source;
    change.link = link;
    change.masterName = this.links.masterName(link);
    if (kind !== "change") change.changed = 0;
    if (kind === "add") {
      change.previousMac = MAC_ABSENT;
      change.previousState = 0;
      change.previousFlags = 0;
    }
    actions.changed(change);
  }

  #isAnnounced(slot: number): boolean {
    const wanted = ENTRY_LIVE | ENTRY_ANNOUNCED;
    return this.table.isLive(slot) && (this.table.marks[slot]! & wanted) === wanted;
  }

  #setPrevious(slot: number): void {
    const { table } = this;
    const change = this.#change;
    change.previousMac = table.mac[slot]!;
    change.previousState = table.state[slot]!;
    change.previousFlags = table.flags[slot]!;
  }

  /** Takes an entry in hand. */
  #load(slot: number): void {
    this.table.read(slot, this.#change.neighbor);
    this.#change.neighbor.messageType = RTM_NEWNEIGH;
    this.#change.changed = 0;
    this.#setPrevious(slot);
  }

  /** Tells that an entry is gone although no message said so. */
  #tellGone(slot: number, source: ChangeSource, link: Link, actions: ResyncActions): void {
    this.#load(slot);
    this.#change.neighbor.messageType = RTM_DELNEIGH;
    this.#change.neighbor.state = NUD_FAILED;
    this.#tell("delete", source, link, actions);
  }

  // Links.

  #linkEvent(type: number, start: number, end: number, actions: ResyncActions): void {
    const message = decodeLink(this.#bytes, this.#view, start, end);
    if (typeof message === "number") {
      this.#malformed++;
      return;
    }
    const { ifindex, family } = message;
    if (family !== 0) {
      this.#ignored++;
      return;
    }
    // An answer that is on its way may be older than this.
    this.#cancelLookup(ifindex);
    if (this.#phase === LINKS) this.#toldLinks.add(ifindex);
    if (type === RTM_DELLINK) this.#removeLink(ifindex, actions);
    else this.#applyLink(message, actions);
  }

  #applyLink(
    message: Exclude<ReturnType<typeof decodeLink>, number>,
    actions: ResyncActions,
  ): void {
    const { ifindex } = message;
    const before = this.links.get(ifindex);
    const outcome = this.links.apply(message);
    if (outcome === LINK_SAME || outcome === LINK_IGNORED) return;
    const link = this.links.get(ifindex)!;
    if (outcome === LINK_RENAMED) this.#rename(before!, link, actions);
    if (outcome === LINK_ADDED && this.#nameless.delete(ifindex)) this.#name(link, actions);
    actions.linkChanged(link, before);
  }

  #rename(before: Link, link: Link, actions: ResyncActions): void {
    const { table } = this;
    if (!this.#liveByIfindex.has(link.ifindex)) return;
    for (let slot = 0; slot < table.end; slot++) {
      if (table.ifindex[slot] !== link.ifindex || !this.#isAnnounced(slot)) continue;
      this.#tellGone(slot, "link", before, actions);
      this.#load(slot);
      this.#tell("add", "link", link, actions);
    }
  }

  /** Announces what waited for the name of its link. */
  #name(link: Link, actions: ResyncActions): void {
    const { table } = this;
    for (let slot = 0; slot < table.end; slot++) {
      if (table.ifindex[slot] !== link.ifindex || !table.isLive(slot)) continue;
      if (this.#isAnnounced(slot)) continue;
      this.#load(slot);
      this.#announce(slot, "link", actions);
    }
  }

  #removeLink(ifindex: number, actions: ResyncActions): void {
    const link = this.links.remove(ifindex, this.#now);
    this.#nameless.delete(ifindex);
    this.#removeEntriesOf(ifindex, link, actions);
    if (link !== undefined) actions.linkChanged(undefined, link);
  }

  #removeEntriesOf(ifindex: number, link: Link | undefined, actions: ResyncActions): void {
    const { table } = this;
    if (!this.#liveByIfindex.has(ifindex)) return;
    for (let slot = 0; slot < table.end; slot++) {
      if (table.ifindex[slot] !== ifindex || !table.isLive(slot)) continue;
      if (link !== undefined && this.#isAnnounced(slot)) {
        this.#tellGone(slot, "link", link, actions);
      }
      this.#disturbed = true;
      this.#forget(slot);
    }
  }

  #lookUp(ifindex: number): void {
    if (!this.#lookedUp.has(ifindex)) this.#wantedLinks.add(ifindex);
  }

  #cancelLookup(ifindex: number): void {
    this.#wantedLinks.delete(ifindex);
    const sequence = this.#lookedUp.get(ifindex);
    if (sequence === undefined) return;
    this.#lookedUp.delete(ifindex);
    this.#lookups.delete(sequence);
    this.#touch();
  }

  // Reading the table.

  #schedule(reason: ResyncReason, at: number): void {
    // One at a time. A confirmation waits behind everything else, since that confirms as well.
    if (this.#pending === undefined || this.#pending === "confirm") {
      this.#pending = reason;
      this.#pendingAt = at;
    } else if (reason !== "confirm") {
      if (reason === "overflow") this.#pending = reason;
      this.#pendingAt = Math.min(at, this.#pendingAt);
    }
  }

  #beginPending(now: number, actions: ResyncActions): void {
    if (this.#phase !== STEADY || this.#overflowing || this.#pending === undefined) return;
    if (now >= this.#pendingAt) this.#begin(this.#pending, now, actions);
  }

  #begin(reason: ResyncReason, now: number, actions: ResyncActions): void {
    this.#pending = undefined;
    this.#pendingAt = Infinity;
    this.#reason = reason;
    this.#startedAt = now;
    this.#resyncs++;
    this.#added = 0;
    this.#changed = 0;
    this.#removed = 0;
    this.#kept = 0;
    this.#dumps = 0;
    this.#linkDumps = 0;
    this.#retryMs = MIN_SPACING_MS;
    if (reason !== "confirm") this.#confirmMs = MIN_SPACING_MS;
    this.#phase = LINKS;
    actions.resyncStarted(reason);
    this.#dumpLinks(now, actions);
  }

  #dumpLinks(now: number, actions: ResyncActions): void {
    this.#linkDumps++;
    this.#interrupted = false;
    this.#seenLinks.clear();
    this.#toldLinks.clear();
    this.#dumpSequence = this.#nextSequence();
    const end = writeLinkDump(this.#requestView, 0, this.#dumpSequence);
    this.#answerBy = now + this.#answerTimeoutMs;
    this.#send(end, 1, actions);
  }

  #dumpNeighbors(now: number, actions: ResyncActions): void {
    // A dump that is begun anew leaves what the last one was to remember.
    this.#purge();
    this.#phase = NEIGHBORS;
    this.#generation = (this.#generation + 1) >>> 0;
    this.#disturbed = false;
    this.#dumps++;
    this.#dumpSequence = this.#nextSequence();
    const family = this.#family;
    const end = writeNeighborDump(this.#requestView, 0, { sequence: this.#dumpSequence, family });
    this.#answerBy = now + this.#answerTimeoutMs;
    this.#send(end, 1, actions);
  }

  /** Removes the slots that only remembered something. */
  #purge(): void {
    const { table } = this;
    for (let slot = 0; slot < table.end; slot++) {
      if (table.isUsed(slot) && !table.isLive(slot)) table.remove(slot);
    }
  }

  #nextSequence(): number {
    this.#sequence = this.#sequence % 0xffff_ffff + 1;
    return this.#sequence;
  }

  #send(end: number, requests: number, actions: ResyncActions): void {
    this.#queries += requests;
    actions.query(this.#request, 0, end);
  }

  #reply(type: number, start: number, end: number, actions: ResyncActions): void {
    const sequence = readSequence(this.#view, start);
    if (sequence !== 0 && sequence === this.#dumpSequence) {
      this.#answerBy = this.#now + this.#answerTimeoutMs;
      this.#dumpReply(type, start, end, actions);
    } else if (this.#asked.has(sequence)) this.#neighborAnswer(sequence, type, start, end, actions);
    else if (this.#lookups.has(sequence)) this.#linkAnswer(sequence, type, start, end, actions);
    else if (type === NLMSG_OVERRUN) this.#askAgain(this.#now, actions);
    // Anything else answers a question that is no longer asked.
  }

  #dumpReply(type: number, start: number, end: number, actions: ResyncActions): void {
    if (readFlags(this.#view, start) & NLM_F_DUMP_INTR && type !== NLMSG_ERROR) {
      this.#interrupted = true;
      this.#disturbed = true;
    }
    if (type === NLMSG_DONE || type === NLMSG_ERROR) {
      const errorNumber = readErrorNumber(this.#view, start, end);
      if (type === NLMSG_ERROR && errorNumber === 0) return;
      this.#dumpSequence = 0;
      this.#answerBy = Infinity;
      this.#touch();
      if (errorNumber !== 0) this.#refusedDump(start, end, actions);
      else if (this.#phase === LINKS) this.#linksDone(actions);
      else this.#neighborsDone(actions);
    } else if (this.#phase === NEIGHBORS && type === RTM_NEWNEIGH) {
      if (!this.#readNeighbor(start, end)) return;
      this.#rows++;
      this.#put(false, actions);
    } else if (this.#phase === LINKS && type === RTM_NEWLINK) {
      const message = decodeLink(this.#bytes, this.#view, start, end);
      if (typeof message === "number") this.#malformed++;
      else if (!this.#toldLinks.has(message.ifindex)) {
        this.#seenLinks.add(message.ifindex);
        this.#cancelLookup(message.ifindex);
        this.#applyLink(message, actions);
      }
    }
  }

  #refusedDump(start: number, end: number, actions: ResyncActions): void {
    this.#refuse(start, end, actions);
    this.#retryAt = this.#now + this.#retryMs;
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_SPACING_MS);
  }

  #refuse(start: number, end: number, actions: ResyncActions): void {
    this.#refusals++;
    const answer = decodeAnswer(this.#bytes, this.#view, start, end);
    if (typeof answer !== "number") actions.refused(answer);
  }

  #linksDone(actions: ResyncActions): void {
    if (this.#interrupted && this.#linkDumps < MAX_LINK_DUMPS) {
      this.#retryAt = this.#now + LINK_DUMP_PAUSE_MS * 2 ** (this.#linkDumps - 1);
      return;
    }
    for (const { ifindex } of this.links.links()) {
      if (!this.#seenLinks.has(ifindex) && !this.#toldLinks.has(ifindex)) this.#lookUp(ifindex);
    }
    this.#seenLinks.clear();
    this.#toldLinks.clear();
    this.#dumpNeighbors(this.#now, actions);
  }

  #neighborsDone(actions: ResyncActions): void {
    const { table } = this;
    this.#phase = VERIFYING;
    this.#purge();
    let candidates = 0, live = 0;
    for (let slot = 0; slot < table.end; slot++) {
      if (!table.isLive(slot)) continue;
      live++;
      if (table.generation[slot] === this.#generation) continue;
      table.marks[slot] = table.marks[slot]! | ENTRY_CANDIDATE;
      candidates++;
    }
    if (candidates > MANY_CANDIDATES && candidates > live * MANY_CANDIDATES_PART) {
      if (this.#dumps === 1) {
        this.#unmark();
        this.#dumpNeighbors(this.#now, actions);
        return;
      }
    }
    this.#candidates = candidates;
    this.#cursor = 0;
    this.#settleIfDone();
  }

  #unmark(): void {
    const { table } = this;
    this.#asked.clear();
    this.#candidates = 0;
    for (let slot = 0; slot < table.end; slot++) {
      if (table.isUsed(slot)) table.marks[slot] = table.marks[slot]! & ~ENTRY_CANDIDATE;
    }
  }

  /** One candidate less. */
  #settled(): void {
    this.#candidates--;
    this.#settleIfDone();
  }

  #settleIfDone(): void {
    if (this.#phase === VERIFYING && this.#candidates === 0 && this.#lookups.size === 0) {
      if (this.#wantedLinks.size === 0) {
        this.#phase = SETTLING;
        this.#asked.clear();
        this.#touch();
      }
    }
  }

  /** Asks about candidates and links as long as answers are few enough. */
  #ask(actions: ResyncActions): void {
    this.#settleIfDone();
    if (this.#retryAt !== Infinity) return;
    const { table } = this;
    const view = this.#requestView;
    let end = 0, requests = 0;
    for (const ifindex of this.#wantedLinks) {
      if (this.#outstanding >= MAX_OUTSTANDING) break;
      const sequence = this.#nextSequence();
      end = writeLinkGet(view, end, sequence, ifindex);
      this.#wantedLinks.delete(ifindex);
      this.#lookups.set(sequence, ifindex);
      this.#lookedUp.set(ifindex, sequence);
      requests++;
    }
    if (this.#phase === VERIFYING) {
      while (this.#cursor < table.end && this.#outstanding < MAX_OUTSTANDING) {
        const slot = this.#cursor++;
        if (!table.isLive(slot) || (table.marks[slot]! & ENTRY_CANDIDATE) === 0) continue;
        const sequence = this.#nextSequence();
        const base = slot << 2;
        end = writeNeighborGet(
          view,
          end,
          sequence,
          table.ifindex[slot]!,
          table.family[slot]!,
          table.words[base]!,
          table.words[base + 1]!,
          table.words[base + 2]!,
          table.words[base + 3]!,
        );
        this.#asked.set(sequence, slot);
        requests++;
      }
    }
    if (requests === 0) return;
    this.#answerBy = this.#now + this.#answerTimeoutMs;
    this.#send(end, requests, actions);
  }

  get #outstanding(): number {
    return this.#asked.size + this.#lookups.size;
  }

  /** Nobody waits for an answer any more, or somebody does. */
  #touch(): void {
    if (this.#outstanding === 0 && this.#dumpSequence === 0) this.#answerBy = Infinity;
  }

  #neighborAnswer(
    sequence: number,
    type: number,
    start: number,
    end: number,
    actions: ResyncActions,
  ): void {
    const slot = this.#asked.get(sequence)!;
    this.#answerBy = this.#now + this.#answerTimeoutMs;
    this.#asked.delete(sequence);
    this.#touch();
    const { table } = this;
    // An event has settled it meanwhile, and is not older than the answer in any way that lasts.
    if (!table.isLive(slot) || (table.marks[slot]! & ENTRY_CANDIDATE) === 0) return;
    if (type === RTM_NEWNEIGH) {
      if (this.#readNeighbor(start, end)) {
        this.#rows++;
        // The kernel of a filter that was ignored may answer for another key.
        if (table.find(this.#change.neighbor) === slot) {
          this.#kept++;
          this.#put(false, actions);
          return;
        }
      }
      this.#unsettled(slot);
      return;
    }
    const errorNumber = readErrorNumber(this.#view, start, end);
    if (errorNumber === ENOENT || errorNumber === ENODEV || errorNumber === ENXIO) {
      const link = this.links.recall(table.ifindex[slot]!);
      if (link !== undefined && this.#isAnnounced(slot)) {
        this.#tellGone(slot, "dump", link, actions);
      }
      this.#removed++;
      this.#forget(slot);
    } else if (type === NLMSG_ERROR && errorNumber > 0) {
      this.#refuse(start, end, actions);
      this.#unsettled(slot);
    }
  }

  /** A question was not answered usefully: it is asked again, after a while. */
  #unsettled(slot: number): void {
    if (slot < this.#cursor) this.#cursor = slot;
    this.#retryAt = this.#now + this.#retryMs;
    this.#retryMs = Math.min(2 * this.#retryMs, MAX_SPACING_MS);
  }

  #linkAnswer(
    sequence: number,
    type: number,
    start: number,
    end: number,
    actions: ResyncActions,
  ): void {
    const ifindex = this.#lookups.get(sequence)!;
    this.#answerBy = this.#now + this.#answerTimeoutMs;
    this.#cancelLookup(ifindex);
    if (type === RTM_NEWLINK) {
      const message = decodeLink(this.#bytes, this.#view, start, end);
      if (typeof message === "number") this.#malformed++;
      else if (message.ifindex === ifindex) this.#applyLink(message, actions);
      return;
    }
    const errorNumber = readErrorNumber(this.#view, start, end);
    if (errorNumber === ENODEV || errorNumber === ENOENT || errorNumber === ENXIO) {
      if (this.links.get(ifindex) === undefined) {
        this.#unknownIfindex++;
        this.#nameless.delete(ifindex);
        this.#removeEntriesOf(ifindex, undefined, actions);
      } else this.#removeLink(ifindex, actions);
    } else if (errorNumber > 0) {
      this.#refuse(start, end, actions);
      this.#wantedLinks.add(ifindex);
      this.#retryAt = this.#now + this.#retryMs;
      this.#retryMs = Math.min(2 * this.#retryMs, MAX_SPACING_MS);
    }
  }

  /** Everything that is not answered is asked again, under new numbers. */
  #askAgain(now: number, actions: ResyncActions): void {
    this.#now = now;
    this.#answerBy = Infinity;
    for (const ifindex of this.#lookups.values()) this.#wantedLinks.add(ifindex);
    this.#lookups.clear();
    this.#lookedUp.clear();
    this.#asked.clear();
    this.#cursor = 0;
    if (this.#dumpSequence !== 0) {
      // The old dump may still run: the kernel refuses a second one until the first is read to its end.
      this.#dumpSequence = 0;
      this.#retryAt = now + this.#retryMs;
      this.#retryMs = Math.min(2 * this.#retryMs, MAX_SPACING_MS);
    } else this.#ask(actions);
  }

  #end(now: number, actions: ResyncActions): void {
    this.#phase = STEADY;
    this.#synced = true;
    this.#repairs += this.#added + this.#changed + this.#removed;
    const disturbed = this.#disturbed;
    const result = {
      reason: this.#reason,
      added: this.#added,
      changed: this.#changed,
      removed: this.#removed,
      lost: this.#lostSinceEnd,
      kept: this.#kept,
      dumps: this.#dumps,
      disturbed,
    };
    this.#lostSinceEnd = 0;
    if (disturbed) {
      this.#schedule("confirm", now + this.#confirmMs);
      this.#confirmMs = Math.min(2 * this.#confirmMs, MAX_CONFIRM_SPACING_MS);
    } else this.#confirmMs = MIN_SPACING_MS;
    actions.resyncEnded(result);
  }
}
