/**
 * Two netlink sockets and the machine that makes a true view of what they say: opened, read, repaired, opened again. Who
 * consumes it sees changes only.
 *
 * @module
 */

import {
  type NetlinkConsumer,
  type NetlinkHost,
  type NetlinkSocket,
  RTNLGRP_LINK,
  RTNLGRP_NEIGH,
} from "../ffi/mod.ts";
import { logger, onceThenSummarise } from "../internal/log.ts";
import { type Random, secureRandom } from "../internal/random.ts";
import { type Clock, systemClock } from "../internal/time/clock.ts";
import { AF_INET, AF_INET6, AF_UNSPEC } from "./protocol/constants.ts";
import { neighborEventFilter } from "./protocol/kernel_filter.ts";
import type { Link, LinkCache } from "./protocol/link_cache.ts";
import type { NeighborTable } from "./protocol/neighbor_table.ts";
import type {
  NeighborChange,
  ResyncActions,
  ResyncReason,
  ResyncResult,
} from "./protocol/resync_actions.ts";
import { ResyncMachine } from "./protocol/resync_machine.ts";
import type { ResolvedNetlinkSettings } from "./settings.ts";
import type { MonitorSnapshot } from "./snapshot.ts";

const log = logger("neighsync", "netlink");

/** Who gets the changes. Called synchronously; must not close the feed. */
export interface FeedConsumer {
  /** An entry changed; `change` is overwritten by the next one. */
  changed(change: NeighborChange, now: number): void;
  /** A link is new, has changed, or is gone (`link` undefined). */
  linkChanged(link: Link | undefined, previous: Link | undefined): void;
  /** The table is about to be read. */
  resyncStarted(reason: ResyncReason): void;
  /** The table was read, and the view is what the kernel has. */
  resyncEnded(result: ResyncResult): void;
  /** What was waiting has been told: a good moment to write. */
  turned(): void;
}

/** How a feed is opened. */
export interface FeedOptions {
  /** Where sockets live; not closed with the feed. */
  readonly host: NetlinkHost;
  /** Which kernel's tables, and how much of them. */
  readonly settings: ResolvedNetlinkSettings;
  /** Tell events that change nothing, too. */
  readonly repeats?: boolean;
  /** Read events that come fast a few at a time, instead of each as it comes. */
  readonly rests?: boolean;
  /** Whose time counts. */
  readonly clock?: Clock;
  /** Where the seed of the table's hash comes from. */
  readonly random?: Random;
  /** Gives up opening. */
  readonly signal?: AbortSignal;
}

/** Every second the drop counter is looked at: a socket that is never ready takes no turns. */
const HOUSEKEEPING_MS = 1000;
/** A flood that lasts is told this often. */
const LOSS_LOG_MS = 5000;
/**
 * Datagrams of a dump in one turn, about 850 rows: what was read is on its way to the sink while the next are read, and a
 * large table does not hold the event loop until its end.
 */
const DUMP_TURN_DATAGRAMS = 2;
/**
 * Least time between two readings of events, where these come faster. At 1,000 events a second it makes 330 batches of them,
 * and a change is in Redis 2 ms after it happened.
 */
const REST_MS = 2;
/** Pauses before sockets that failed are opened again. */
const MIN_REOPEN_MS = 100, MAX_REOPEN_MS = 5000;

/** Reads the kernel's tables and keeps reading them. */
export class KernelFeed {
  readonly #options: FeedOptions;
  readonly #consumer: FeedConsumer;
  readonly #clock: Clock;
  readonly #machine: ResyncMachine;
  #events!: NetlinkSocket;
  #queries!: NetlinkSocket;
  #connected = false;
  #closed = false;
  #inEventTurn = false;
  #reopening: Promise<void> | undefined;
  #stopWaiting: () => void = () => {};
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Infinity;
  #housekeepingAt = 0;
  readonly #waiting = new Set<Waiting>();
  #started = 0;
  #ended = 0;
  #ipv4 = 0;
  #ipv6 = 0;
  #socketErrors = 0;
  #eventTurnAt = 0;
  /** When the datagram in hand was read: asking for the time costs as much as a rule does. */
  #now = 0;
  readonly #refusedOnce: () => void;
  readonly #lostOnce: () => void;
  #lastRefusal = "";
  #lastLoss = "";

  readonly #eventConsumer: NetlinkConsumer = {
    datagram: (view, start, end) => {
      // An event is a datagram of its own, and one turn reads thousands.
      if (!this.#inEventTurn) this.#look();
      this.#inEventTurn = true;
      this.#machine.receiveEvents(view, start, end, this.#now, this.#actions);
    },
    lost: ({ reason, datagrams }) => {
      this.#lastLoss = reason;
      this.#lostOnce();
      this.#machine.lost(datagrams, this.#look(), this.#actions);
    },
    turned: (drained) => {
      this.#inEventTurn = false;
      this.#eventTurnAt = Date.now();
      if (drained) this.#machine.drained(this.#look(), this.#actions);
      this.#after();
    },
    failed: (error) => this.#failed(error),
  };

  readonly #queryConsumer: NetlinkConsumer = {
    datagram: (view, start, end) => {
      this.#machine.receiveReplies(view, start, end, this.#look(), this.#actions);
    },
    lost: () => this.#machine.queryLost(this.#look(), this.#actions),
    turned: () => this.#after(),
    failed: (error) => this.#failed(error),
  };

  readonly #actions: ResyncActions = {
    query: (bytes, start, end) => {
      try {
        this.#queries.send(bytes.subarray(start, end));
      } catch (error) {
        // Not answered is asked again; a socket that is gone for good says so by itself.
        this.#socketErrors++;
        log.debug("a request could not be sent: {error}", { error });
      }
    },
    changed: (change) => {
      const { kind, neighbor } = change;
      const by = kind === "add" ? 1 : kind === "delete" ? -1 : 0;
      if (neighbor.family === AF_INET) this.#ipv4 += by;
      else this.#ipv6 += by;
      this.#consumer.changed(change, this.#now);
    },
    linkChanged: (link, previous) => this.#consumer.linkChanged(link, previous),
    resyncStarted: (reason) => {
      log.debug("the table is read ({reason})", { reason });
      this.#started++;
      this.#consumer.resyncStarted(reason);
    },
    resyncEnded: (result) => {
      const { reason, added, changed, removed, lost } = result;
      const level = reason === "overflow" ? "info" : "debug";
      log[level](
        "the table was read ({reason}): {added} added, {changed} changed, {removed} removed",
        { event: "neighsync.resync", reason, added, changed, removed, lost },
      );
      this.#ended++;
      this.#consumer.resyncEnded(result);
      for (const waiting of this.#waiting) {
        if (this.#ended < waiting.times) continue;
        this.#waiting.delete(waiting);
        waiting.resolve();
      }
    },
    growReceiveBuffer: (bytes) => {
      if (!this.#events.traits.receiveBuffer) return;
      const granted = this.#events.growReceiveBuffer(bytes);
      this.#machine.receiveBufferSet(granted);
      log.info("the receive buffer holds {capacity} events now", {
        event: "neighsync.buffer-grown",
        capacity: this.#events.eventCapacity,
        bytes: granted,
      });
    },
    refused: (answer) => {
      this.#lastRefusal = answer.message === "" ? `error ${answer.errorNumber}` : answer.message;
      this.#refusedOnce();
    },
  };

  private constructor(options: FeedOptions, consumer: FeedConsumer) {
    const { settings, random = secureRandom } = options;
    this.#options = options;
    this.#consumer = consumer;
    this.#clock = options.clock ?? systemClock;
    this.#machine = new ResyncMachine({
      seed: random.u32(),
      family: FAMILIES[settings.family],
      receiveBufferBytes: settings.receiveBufferBytes,
      maxReceiveBufferBytes: settings.maxReceiveBufferBytes,
      repeats: options.repeats ?? false,
    });
    this.#refusedOnce = onceThenSummarise(this.#clock, (times) => {
      const details = { event: "neighsync.refused", times, refusal: this.#lastRefusal };
      log.warn("the kernel refused {times} requests: {refusal}", details);
    });
    this.#lostOnce = onceThenSummarise(this.#clock, (times) => {
      const details = { event: "neighsync.events-lost", times, reason: this.#lastLoss };
      log.warn("events were lost ({reason}, {times}×): the table is read again", details);
    }, LOSS_LOG_MS);
  }

  /**
   * Opens both sockets and begins to read the tables. No change after this is missed.
   *
   * @throws {SystemError} When the kernel refuses a socket. @throws {CapabilityError} When a namespace cannot be entered.
   */
  static async open(options: FeedOptions, consumer: FeedConsumer): Promise<KernelFeed> {
    const feed = new KernelFeed(options, consumer);
    await feed.#open(options.signal);
    feed.#tellBuffer();
    feed.#machine.start(feed.#look(), feed.#actions);
    feed.#after();
    return feed;
  }

  /** The neighbors; to be read only. */
  get table(): NeighborTable {
    return this.#machine.table;
  }

  /** The links; to be read only. */
  get links(): LinkCache {
    return this.#machine.links;
  }

  /** The view was once what the kernel had. */
  get synced(): boolean {
    return this.#machine.synced;
  }

  /** The tables are being read, or will be. */
  get resyncing(): boolean {
    return this.#machine.resyncing;
  }

  /** Entries that were told. */
  get size(): number {
    return this.#ipv4 + this.#ipv6;
  }

  /** Reads the tables anew; settles when that is done. Rejects when the feed is closed before. */
  resync(): Promise<void> {
    // What is being read now may have begun before something the caller knows of.
    const done = this.#whenRead(this.#started + 1);
    this.#machine.resync(this.#look(), this.#actions);
    this.#after();
    return done;
  }

  /** Settles when the tables were read for the first time. Rejects when the feed is closed before. */
  firstRead(): Promise<void> {
    return this.#whenRead(1);
  }

  #whenRead(times: number): Promise<void> {
    if (this.#closed) return Promise.reject(closedError());
    if (this.#ended >= times) return Promise.resolve();
    return new Promise((resolve, reject) => this.#waiting.add({ times, resolve, reject }));
  }

  /** Tells every entry again, or those of one interface. */
  replay(ifindex?: number): void {
    this.#look();
    this.#machine.replay(ifindex, this.#actions);
  }

  /** Counts and state now. */
  snapshot(): MonitorSnapshot {
    const counts = this.#machine.counts();
    const { driver, fallbackReason } = this.#options.host;
    const memory = this.#events.memory();
    return Object.freeze({
      driver,
      fallbackReason,
      synced: this.#machine.synced,
      resyncing: this.#machine.resyncing,
      connected: this.#connected,
      tableSize: Object.freeze({ ipv4: this.#ipv4, ipv6: this.#ipv6 }),
      links: this.#machine.links.size,
      events: counts.events,
      rows: counts.rows,
      lostEvents: counts.lostEvents,
      overflows: counts.overflows,
      resyncs: counts.resyncs,
      resyncRepairs: counts.repairs,
      malformed: counts.malformed,
      unknownIfindex: counts.unknownIfindex,
      netlinkErrors: counts.refusals + this.#socketErrors,
      receiveBufferBytes: this.#events.receiveBufferBytes,
      receiveBufferUsedBytes: memory.usedBytes,
      eventCapacity: this.#events.eventCapacity,
      receiveBufferForced: this.#events.traits.receiveBufferForced,
      lastEventAt: counts.events === 0 ? 0 : this.#eventTurnAt,
    });
  }

  /** Closes both sockets; idempotent. Nothing is told any more. */
  async close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#connected = false;
      this.#machine.stop();
      for (const { reject } of this.#waiting) reject(closedError());
      this.#waiting.clear();
      clearTimeout(this.#timer);
      this.#stopWaiting();
    }
    await this.#reopening;
    await Promise.all([this.#events.close(), this.#queries.close()]);
  }

  async #open(signal: AbortSignal | undefined): Promise<void> {
    const { host, settings } = this.#options;
    const common = {
      ...(settings.namespace === undefined ? {} : { namespace: settings.namespace }),
      ...(signal === undefined ? {} : { signal }),
    };
    const queries = await host.open({
      ...common,
      consumer: this.#queryConsumer,
      // The other driver counts rows.
      ...(host.driver === "iproute" ? {} : { turnDatagrams: DUMP_TURN_DATAGRAMS }),
    });
    try {
      this.#events = await host.open({
        ...common,
        consumer: this.#eventConsumer,
        groups: [RTNLGRP_NEIGH, RTNLGRP_LINK],
        receiveBufferBytes: settings.receiveBufferBytes,
        restMs: this.#options.rests === true ? REST_MS : 0,
        ...(settings.kernelFilter ? { kernelFilter: neighborEventFilter() } : {}),
      });
    } catch (error) {
      await queries.close();
      throw error;
    }
    this.#queries = queries;
    this.#connected = true;
    this.#machine.receiveBufferSet(this.#events.receiveBufferBytes);
  }

  /** Looks at the clock, for everything that follows from what is being done. */
  #look(): number {
    return this.#now = this.#clock.now();
  }

  #tellBuffer(): void {
    const { driver, fallbackReason } = this.#options.host;
    const { eventCapacity: capacity, receiveBufferBytes: bytes, traits } = this.#events;
    const wanted = this.#options.settings.receiveBufferBytes;
    log.info("reading the kernel's tables by {driver}{reason}", {
      event: "neighsync.netlink-open",
      driver,
      reason: fallbackReason === "" ? "" : ` (${fallbackReason})`,
    });
    if (!traits.receiveBuffer) {
      log.warn("this driver notices losses only when it is told of them");
    } else if (bytes < wanted) {
      log.warn(
        "the receive buffer holds {capacity} events only: past net.core.rmem_max it takes CAP_NET_ADMIN",
        { event: "neighsync.small-buffer", capacity, bytes, wanted },
      );
    }
  }

  /** After every call into the machine: what it waits for, what the consumer waits for, when to come back. */
  #after(): void {
    if (this.#closed) return;
    // An idle event socket takes no turns, so it is looked at from here. Its turn says when it is empty.
    if (this.#connected && this.#machine.wantsDrain && !this.#inEventTurn) {
      this.#look();
      this.#inEventTurn = true;
      this.#events.checkLoss();
      this.#events.drain();
      this.#inEventTurn = false;
      // This driver has no turns on demand: what has arrived was handed over.
      if (this.#options.host.driver === "iproute" && this.#machine.wantsDrain) {
        this.#machine.drained(this.#look(), this.#actions);
      }
    }
    this.#consumer.turned();
    this.#arm();
  }

  #arm(): void {
    const now = this.#clock.now();
    if (this.#housekeepingAt <= now) this.#housekeepingAt = now + HOUSEKEEPING_MS;
    const at = Math.min(this.#machine.deadline, this.#housekeepingAt);
    // A timer that is too early looks again; only one that is too late has to go.
    if (this.#timer !== undefined && this.#timerAt <= at) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(this.#tick, Math.max(0, at - now));
  }

  readonly #tick = (): void => {
    this.#timer = undefined;
    this.#timerAt = Infinity;
    if (this.#closed) return;
    const now = this.#look();
    if (this.#connected && now >= this.#housekeepingAt) {
      this.#housekeepingAt = now + HOUSEKEEPING_MS;
      this.#events.checkLoss();
    }
    if (this.#connected && now >= this.#machine.deadline) this.#machine.expire(now, this.#actions);
    this.#after();
  };

  #failed(error: Error): void {
    this.#socketErrors++;
    this.#inEventTurn = false;
    if (this.#closed || !this.#connected) return;
    this.#connected = false;
    log.error("a netlink socket failed, both are opened again: {error}", {
      event: "neighsync.netlink-lost",
      error,
    });
    this.#reopening = this.#reopen();
  }

  async #reopen(): Promise<void> {
    for (let pauseMs = MIN_REOPEN_MS;; pauseMs = Math.min(2 * pauseMs, MAX_REOPEN_MS)) {
      await Promise.all([this.#events.close(), this.#queries.close()]);
      if (this.#closed) return;
      try {
        await this.#open(undefined);
        break;
      } catch (error) {
        this.#socketErrors++;
        log.warn("the netlink sockets could not be opened: {error}", { error });
      }
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, pauseMs);
        this.#stopWaiting = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    if (this.#closed) return;
    // Whatever was told or asked in between is lost.
    const now = this.#look();
    this.#machine.queryLost(now, this.#actions);
    this.#machine.lost(0, now, this.#actions);
    this.#after();
  }
}

/** Families by the names of the setting. */
export const FAMILIES: Readonly<Record<ResolvedNetlinkSettings["family"], number>> = {
  all: AF_UNSPEC,
  ipv4: AF_INET,
  ipv6: AF_INET6,
};

interface Waiting {
  /** How often the tables have to have been read to their end. */
  readonly times: number;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

function closedError(): Error {
  return new TypeError("Cannot wait for the kernel's table: it is not read any more");
}
