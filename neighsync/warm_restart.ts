/**
 * Drives a warm restart: carries out what the machine asks, in order, whatever happens to the connection meanwhile.
 *
 * @module
 */

import { logger } from "../internal/log.ts";
import { isRedisError } from "../internal/redis_errors.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { WarmCache } from "./protocol/reconcile.ts";
import {
  type WarmActions,
  type WarmFlags,
  WarmRestart,
  type WarmRestartOptions,
  type WarmRestartState,
  type WarmResult,
} from "./protocol/warm_restart.ts";
import type { WarmRestartPhase } from "./snapshot.ts";

const log = logger("neighsync", "warm-restart");

/** What is read and written; `WarmRestartStore` is it. */
export interface WarmTables {
  /** Everything the machine wants to know at the start. */
  readFlags(): Promise<WarmFlags>;
  /** Writes `restore_count`. */
  setRestoreCount(count: number): Promise<void>;
  /** Writes `state`. */
  setState(state: WarmRestartState): Promise<void>;
  /** Whether the kernel's table has been refilled. */
  readRestored(): Promise<boolean>;
  /** Calls back when that was written, where the server tells so. */
  followRestored(listener: () => void): Promise<boolean>;
}

/** What a driver needs of the daemon. */
export interface WarmRestartNeeds {
  /** The tables. */
  readonly tables: WarmTables;
  /** Settles when the sink is connected. Rejects when the daemon is closed. */
  connected(): Promise<void>;
  /** Forgets every change that is staged. */
  clearPending(): Promise<void>;
  /** Puts the published table into the cache. */
  loadTable(cache: WarmCache): Promise<void>;
  /** Joins the kernel's events and begins to read its table; what it tells goes to `machine`. */
  joinKernel(machine: WarmRestart): Promise<void>;
  /** Writes the decisions, and settles when they are acknowledged. */
  write(cache: WarmCache): Promise<void>;
  /** Whose time counts. */
  readonly clock: Clock;
}

/** Pause before something the database refused is tried again. */
const RETRY_MS = 200;

/** One warm restart, or the finding that there is none. */
export class WarmRestartDriver {
  /** The machine; `kernelRead` is to be told to it. */
  readonly machine: WarmRestart;
  /** Where it stands. */
  phase: WarmRestartPhase = "none";
  readonly #needs: WarmRestartNeeds;
  readonly #actions: WarmActions;
  #steps: Promise<void> = Promise.resolve();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #following = false;
  #stopped = false;
  #finish: (result: WarmResult) => void = () => {};
  #fail: (error: unknown) => void = () => {};

  /** Does nothing yet. */
  constructor(needs: WarmRestartNeeds, options: WarmRestartOptions) {
    this.#needs = needs;
    this.machine = new WarmRestart(options);
    const { tables, clock } = needs;
    this.#actions = {
      setRestoreCount: (count) => this.#step(() => tables.setRestoreCount(count)),
      setState: (state) => {
        this.#step(async () => {
          await tables.setState(state);
          this.phase = state;
          log.info("warm restart: {state}", { event: "neighsync.warm-restart", state });
        });
      },
      clearPending: () => this.#step(() => needs.clearPending()),
      loadTable: () => {
        this.#step(async () => {
          await needs.loadTable(this.machine.cache);
          log.info("warm restart: {size} published neighbours are taken over", {
            size: this.machine.cache.size,
          });
          this.machine.tableLoaded(clock.now(), this.#actions);
          this.#arm();
        });
      },
      readRestored: () => this.#step(() => this.#readRestored()),
      joinKernel: () => this.#step(() => needs.joinKernel(this.machine)),
      reconcile: (cache) => {
        this.#step(async () => {
          for (const { op, key, fields, state } of cache.decisions()) {
            log.info("warm restart: {op} {key} {mac} ({state})", {
              op,
              key,
              mac: fields.mac,
              state,
            });
          }
          await needs.write(cache);
          this.machine.written(clock.now(), this.#actions);
        });
      },
      // Behind everything that was asked before.
      finish: (result) => this.#step(() => Promise.resolve(this.#finish(result))),
    };
  }

  /**
   * Runs it to its end.
   *
   * @returns How it ended; a wait that was in vain is an outcome, too.
   * @throws {Error} What `connected` or `joinKernel` reject with.
   */
  async run(): Promise<WarmResult> {
    const { tables, clock } = this.#needs;
    const flags = await this.#persistently(() => tables.readFlags());
    if (this.#stopped) return { outcome: "stopped", counts: NO_COUNTS, elapsedMs: 0 };
    if (flags.enabled && flags.restoreCount === undefined) {
      log.warn("a warm restart was asked for, but nobody counted the last start: this one is cold");
    }
    try {
      return await new Promise<WarmResult>((resolve, reject) => {
        this.#finish = resolve;
        this.#fail = reject;
        this.machine.start(flags, clock.now(), this.#actions);
      });
    } finally {
      clearTimeout(this.#timer);
      this.#stopped = true;
    }
  }

  /** The kernel's table was read to its end. */
  kernelRead(): void {
    this.machine.kernelRead(this.#needs.clock.now(), this.#actions);
    this.#arm();
  }

  /** Ends it: nothing is written any more, the state stays as it is. */
  stop(): void {
    if (this.#stopped) return;
    this.#stopped = true;
    clearTimeout(this.#timer);
    const elapsedMs = 0;
    this.#finish({ outcome: "stopped", counts: this.machine.cache.counts(), elapsedMs });
  }

  async #readRestored(): Promise<void> {
    const { tables, clock } = this.#needs;
    if (!this.#following) {
      this.#following = true;
      // Being told is quicker than asking each second; asking is what can be relied on.
      await tables.followRestored(() => {
        if (this.#stopped || this.machine.collecting) return;
        this.#step(() => this.#readRestored());
      });
    }
    this.machine.restored(await tables.readRestored(), clock.now(), this.#actions);
    this.#arm();
  }

  /** Does one thing behind all others that were asked for. */
  #step(work: () => Promise<void>): void {
    this.#steps = this.#steps.then(() => this.#stopped ? undefined : this.#persistently(work))
      .catch((error) => this.#fail(error));
  }

  /** Does it, again and again while the database is in the way. Every step may be done twice. */
  async #persistently<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      await this.#needs.connected();
      try {
        return await work();
      } catch (error) {
        if (!isRedisError(error)) throw error;
        log.warn("a step of the warm restart is tried again: {error}", { error });
        await this.#needs.connected();
        await new Promise((resolve) => setTimeout(resolve, RETRY_MS));
      }
    }
  }

  #arm(): void {
    clearTimeout(this.#timer);
    const { deadline } = this.machine;
    if (deadline === Infinity || this.#stopped) return;
    const { clock } = this.#needs;
    this.#timer = setTimeout(() => {
      this.machine.expire(clock.now(), this.#actions);
      this.#arm();
    }, Math.max(0, deadline - clock.now()));
  }
}

const NO_COUNTS = Object.freeze({ STALE: 0, SAME: 0, NEW: 0, DELETE: 0 });
