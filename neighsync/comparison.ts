/**
 * Comparing the whole published table with what is to be published: at the start, after every new connection, now and
 * then, and when the rules changed. One at a time; what is asked for meanwhile follows.
 *
 * @module
 */

import { logger } from "../internal/log.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { KernelFeed } from "./kernel_feed.ts";
import type { Publisher } from "./publisher.ts";
import { effectiveTable, type Sink, type StoredNeighbor } from "./sink.ts";
import type { Writer } from "./writer.ts";

const log = logger("neighsync", "compare");

/** What made both tables be compared. */
export type ComparisonReason = "first" | "reconnect" | "audit" | "policy";

/** What a comparison needs of the daemon. */
export interface ComparisonNeeds {
  readonly sink: Sink;
  readonly writer: Writer;
  readonly publisher: Publisher;
  readonly clock: Clock;
  /** The kernel's side, once it was joined. */
  readonly feed: () => KernelFeed | undefined;
  /** Milliseconds before a table that could not be read is read again. */
  readonly retryMs: number;
  /** What has to be known before rules decide; for every new connection. */
  readonly prepare: () => Promise<void>;
  /** Both tables were compared. */
  readonly done: (reason: ComparisonReason, repairs: number) => void;
}

/** Comparisons, one after the other. */
export class Comparison {
  /** Made because time had passed. */
  audits = 0;
  /** Keys these put right. */
  auditRepairs = 0;
  /** Keys put right after a connection was made again. */
  reconnectRepairs = 0;
  /** Settles when both tables were compared for the first time. */
  readonly first: Promise<void>;

  readonly #needs: ComparisonNeeds;
  #wanted: ComparisonReason | undefined;
  #working: Promise<void> | undefined;
  /** Read, and waiting for the kernel's table to be read to its end. */
  #entries: Map<string, StoredNeighbor> | undefined;
  #isFirst = true;
  /** Comparisons are made: before, there is nothing to compare with. */
  #begun = false;
  /** Asked for before that, or while a warm restart collected. */
  #missed = false;
  /** The table was read before anything was written to it. */
  #untouched = false;
  /** Rules decide differently than when the first entries were told. */
  #rulesChanged = false;
  #stopped = false;
  #firstDone: () => void = () => {};
  #stopWaiting: () => void = () => {};

  /** Compares nothing yet. */
  constructor(needs: ComparisonNeeds) {
    this.#needs = needs;
    this.first = new Promise((resolve) => this.#firstDone = resolve);
  }

  /** Compares, behind what is being compared now; settles when that is done, or cannot be done now. */
  run(reason: ComparisonReason): Promise<void> {
    if (this.#stopped) return Promise.resolve();
    if (reason === "first") this.#begun = true;
    // While a warm restart collects, nothing is to be written; what is due then is done by its end.
    if (!this.#begun || this.#needs.publisher.warm !== undefined) {
      this.#missed = true;
      return Promise.resolve();
    }
    if (this.#wanted === undefined || reason === "reconnect") this.#wanted = reason;
    return this.#working ??= this.#work().finally(() => this.#working = undefined);
  }

  /** The kernel's table was read to its end. */
  kernelRead(): void {
    const entries = this.#entries;
    if (entries === undefined || this.#needs.feed()?.synced !== true) return;
    this.#entries = undefined;
    this.#compare("first", entries);
  }

  /** Comparisons are made from now on, and the one that was asked for before; the first comparison begins them, too. */
  begin(): void {
    this.#begun = true;
    if (this.#missed) this.run("reconnect");
    this.#missed = false;
  }

  /** Some rule decides differently from now on. */
  rulesChanged(): void {
    this.#rulesChanged = true;
  }

  /** A warm restart is about to read the table: what was missed before is no matter. */
  forgetMissed(): void {
    this.#missed = false;
  }

  /** A warm restart has made both tables equal, unless the connection became another one meanwhile. */
  adopt(): void {
    this.#isFirst = false;
    this.#firstDone();
    this.begin();
  }

  /** Ends: nothing is compared any more, whatever is being read. */
  stop(): void {
    this.#stopped = true;
    this.#stopWaiting();
  }

  async #work(): Promise<void> {
    const { sink } = this.#needs;
    while (this.#wanted !== undefined && !this.#stopped) {
      // The next connection asks again.
      if (!sink.connected) return;
      const reason = this.#wanted;
      this.#wanted = undefined;
      try {
        await this.#read(reason);
      } catch (error) {
        log.warn("the published table could not be read: {error}", { error });
        if (!sink.connected || this.#stopped) continue;
        this.#wanted ??= reason;
        await this.#pause();
      }
    }
  }

  async #read(reason: ComparisonReason): Promise<void> {
    const { sink, writer, prepare } = this.#needs;
    const { coalescer } = writer;
    const isNew = reason === "first" || reason === "reconnect";
    writer.touched = new Set();
    try {
      if (isNew) {
        coalescer.pause();
        coalescer.discardShadow();
      }
      this.#untouched = coalescer.batchesTaken === 0;
      coalescer.beginShadow();
      const [table] = await Promise.all([sink.readAll(), isNew ? prepare() : undefined]);
      const entries = effectiveTable(table);
      if (this.#stopped || !sink.connected) return;
      coalescer.replaceShadow(entries);
      // A connection that was lost and made again meanwhile has asked for another one; until then nothing is written.
      if (isNew && this.#wanted !== "reconnect") coalescer.resume();
      if (this.#needs.feed()?.synced === true) this.#compare(reason, entries);
      else this.#entries = entries;
    } finally {
      writer.touched = undefined;
      writer.pump();
    }
  }

  #compare(reason: ComparisonReason, entries: Map<string, StoredNeighbor>): void {
    const { publisher, writer, clock, feed, done } = this.#needs;
    const touched = writer.touched ?? new Set<string>();
    // Everything the kernel has was told since the feed was opened, and is on its way or written: a table that was empty then
    // has nothing else in it.
    const nothingElse = this.#isFirst && this.#untouched && !this.#rulesChanged &&
      !writer.coalescer.cleared && entries.size === 0;
    const repairs = nothingElse ? 0 : publisher.compare(entries, feed()!, clock.now(), touched);
    if (this.#isFirst) {
      this.#isFirst = false;
      this.#firstDone();
      done("first", 0);
    } else {
      if (reason === "audit") {
        this.audits++;
        this.auditRepairs += repairs;
      } else if (reason === "reconnect") this.reconnectRepairs += repairs;
      done(reason, repairs);
    }
    writer.pump();
  }

  #pause(): Promise<void> {
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, this.#needs.retryMs);
      this.#stopWaiting = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }
}
