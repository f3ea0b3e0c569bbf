/**
 * Where the daemon is measured: an interface, a Redis that nobody else uses, and everything taken away again at the end,
 * however that comes about.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { UsageError } from "../internal/cli/command.ts";
import { logger } from "../internal/log.ts";
import { benchIndex, benchKey, benchMac, BenchNeighbors } from "./bench_neighbors.ts";
import { BenchmarkError } from "./bench_report.ts";
import { MeasuredSink } from "./bench_sink.ts";
import { NeighSync, type NeighSyncOptions } from "./daemon.ts";
import { type Databases, openDatabases } from "./databases.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";
import { effectiveTable, type SinkOperation, type StoredNeighbor } from "./sink.ts";

const log = logger("neighsync", "bench");

/** What it is set with. */
export interface BenchStageOptions {
  readonly settings: ResolvedNeighSyncSettings;
  /** The interface; one that need not exist where no kernel is wanted. */
  readonly ifname: string;
  /** Neighbours are made in the kernel. */
  readonly kernel: boolean;
  /** Most neighbours at a time. */
  readonly neighbors: number;
  /** The table may have entries already; only those that are made are touched. */
  readonly useExistingTable: boolean;
  readonly signal: AbortSignal;
}

/** Longest wait for changes to be acknowledged. */
const SETTLE_MS = 60_000;
/** Entries written one by one to compare with. */
const BASELINE_ENTRIES = 1000, BASELINE_FIRST = 200;
const BATCH = 1000;
/** How long a consumer is given to take what is staged, before it is taken to be absent. */
const CONSUMER_MS = 500;

/** Moves what is staged to the final table, as a consumer does. Answers how many keys it took. */
const CONSUME = `local keys = redis.call('SPOP', KEYS[1], 1000)
for _, key in ipairs(keys) do
  if redis.call('SREM', KEYS[2], key) == 1 then redis.call('DEL', ARGV[1] .. key) end
  local fields = redis.call('HGETALL', '_' .. ARGV[1] .. key)
  if #fields > 0 then redis.call('HSET', ARGV[1] .. key, unpack(fields)) end
  redis.call('DEL', '_' .. ARGV[1] .. key)
end
return #keys`;

/** What writing one by one costs. */
export interface Baseline {
  /** From sending to the answer, milliseconds each. */
  readonly latencies: readonly number[];
  /** Processor time of 1,000 entries, milliseconds. */
  readonly cpuMsPer1000: number;
  /** Entries a second. */
  readonly perSecond: number;
}

/** Holds everything that has to be put back. */
export class BenchStage {
  /** What the daemons write to. */
  readonly sink: MeasuredSink;
  readonly #options: BenchStageOptions;
  readonly #databases: Databases;
  readonly #neighbors: BenchNeighbors | undefined;
  readonly #wasEmpty: boolean;
  #sync: NeighSync | undefined;

  private constructor(
    options: BenchStageOptions,
    databases: Databases,
    neighbors: BenchNeighbors | undefined,
    wasEmpty: boolean,
  ) {
    this.#options = options;
    this.#databases = databases;
    this.#neighbors = neighbors;
    this.#wasEmpty = wasEmpty;
    this.sink = new MeasuredSink(databases.sink, options.ifname, options.neighbors);
  }

  /**
   * Sets it.
   *
   * @throws {UsageError} When the table has entries. @throws {CapabilityError} When neighbours may not be made.
   * @throws {FastwireError} When Redis cannot be reached.
   */
  static async open(options: BenchStageOptions): Promise<BenchStage> {
    const { settings, ifname, kernel, signal } = options;
    const neighbors = kernel
      ? await BenchNeighbors.open(settings.netlink, ifname, signal)
      : undefined;
    let databases: Databases | undefined;
    try {
      const { deployment } = settings;
      databases = await openDatabases({
        redis: settings.redis,
        deployment: { ...deployment, leaseKey: undefined },
      });
      await databases.sink.whenConnected({ signal, attempts: 2 });
      const { final, pending } = await databases.sink.readAll();
      const found = new Set([...final.keys(), ...pending.keys()]).size;
      if (found > 0 && !options.useExistingTable) {
        throw new UsageError(
          `Cannot measure in ${databases.name}: its NEIGH_TABLE has ${found} entries, expected an empty one`,
          "name a Redis of its own with --redis, or say --use-existing-table if entries of " +
            `198.18.0.0/15 on ${ifname} may be added to it and removed from it`,
        );
      }
      const own = [...final.keys(), ...pending.keys()].find((key) => benchIndex(ifname, key) >= 0);
      if (own !== undefined) {
        throw new UsageError(
          `Cannot measure in ${databases.name}: it has the entry ${own}, expected none of 198.18.0.0/15`,
          "remove it, or measure on another interface",
        );
      }
      return new BenchStage(options, databases, neighbors, found === 0);
    } catch (error) {
      await databases?.close();
      await neighbors?.close();
      throw error;
    }
  }

  /** With what it is set, for the report. */
  get subject(): Readonly<Record<string, string>> {
    const driver = this.#neighbors?.driver;
    return {
      ...(driver === undefined ? {} : { interface: this.#options.ifname, driver }),
      redis: this.#databases.name,
      schema: this.sink.schema,
    };
  }

  /** Milliseconds of processor time the daemon has taken, without what it took to make neighbours. */
  cpuMs(): number {
    const { user, system } = cpuUsage();
    return (user + system) / 1000 - (this.#neighbors?.cpuMs ?? 0);
  }

  /** Makes neighbours in the kernel, or changes them, while a daemon looks on. */
  put(first: number, count: number, salt: number): void {
    this.sink.expect(first, count, salt);
    this.#neighbors!.put(first, count, salt);
  }

  /** Makes neighbours in the kernel that nobody waits for. */
  putUnseen(first: number, count: number, salt: number): void {
    this.#neighbors!.put(first, count, salt);
  }

  /** Runs a daemon until everything is published. */
  async start(more: NeighSyncOptions = {}): Promise<NeighSync> {
    const { settings, ifname, signal } = this.#options;
    const { netlink, deployment, advanced } = settings;
    const sync = this.#sync = new NeighSync({
      ...settings,
      netlink: { ...netlink, include: [ifname], exclude: [] },
      advanced: { ...advanced, auditIntervalSec: 0 },
      sink: this.sink,
      configDatabase: this.#databases.config,
      ...more,
      deployment: { ...deployment, leaseKey: undefined, ...more.deployment },
    });
    await this.#orAborted(sync.start());
    signal.throwIfAborted();
    return sync;
  }

  /** Ends the daemon. */
  async stop(): Promise<void> {
    await this.#sync?.close();
    this.#sync = undefined;
  }

  /**
   * Waits until everything that was made is acknowledged.
   *
   * @throws {BenchmarkError} When it is not after a minute.
   */
  async settled(): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => {
        const { waiting } = this.sink;
        reject(
          new BenchmarkError(
            `Cannot measure: ${waiting} changes are not acknowledged after a minute, expected none`,
          ),
        );
      }, SETTLE_MS);
    });
    try {
      await this.#orAborted(Promise.race([this.sink.settled(), late]));
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Looks at every entry: a fast wrong answer is none.
   *
   * @param saltOf What each was made with last.
   * @returns How many were looked at.
   * @throws {BenchmarkError} For the first that is wrong.
   */
  async verify(count: number, saltOf: (index: number) => number): Promise<number> {
    const entries = await this.#own();
    for (let index = 0; index < count; index++) {
      const key = benchKey(this.#options.ifname, index);
      const found = entries.get(key);
      const mac = benchMac(index, saltOf(index));
      if (found?.mac === mac && found.family === "IPv4") continue;
      const what = found === undefined ? "is missing" : `is ${found.mac} ${found.family}`;
      throw new BenchmarkError(`Cannot measure: ${key} ${what}, expected ${mac} IPv4`);
    }
    if (entries.size === count) return count;
    throw new BenchmarkError(
      `Cannot measure: ${entries.size} entries are published, expected ${count}`,
    );
  }

  /** Writes entries one by one, each answer awaited, and removes them. */
  async baseline(): Promise<Baseline> {
    const { ifname, neighbors, signal } = this.#options;
    const count = Math.min(neighbors, BASELINE_ENTRIES);
    const latencies: number[] = [];
    const { sink } = this.#databases;
    const operations = this.operations(count, 0);
    // The first meet code that never ran; the others are compared with a daemon that has run.
    for (const operation of operations.slice(0, BASELINE_FIRST)) await sink.apply([operation]);
    const before = cpuUsage();
    const startedAt = performance.now();
    for (const operation of operations) {
      signal.throwIfAborted();
      const sentAt = performance.now();
      await sink.apply([operation]);
      latencies.push(performance.now() - sentAt);
    }
    const elapsedMs = performance.now() - startedAt;
    const { user, system } = cpuUsage(before);
    await this.#clear();
    log.debug("baseline of {count} on {ifname}", { count, ifname });
    return {
      latencies,
      cpuMsPer1000: (user + system) / count,
      perSecond: 1000 * count / elapsedMs,
    };
  }

  /** Changes as a sink takes them. */
  operations(count: number, salt: number): SinkOperation[] {
    const { ifname } = this.#options;
    return Array.from({ length: count }, (_, index) => ({
      op: "set",
      key: benchKey(ifname, index),
      mac: benchMac(index, salt),
      family: "IPv4",
    }));
  }

  /**
   * Waits until a consumer has taken what is staged, and takes it where there is none: a restart begins with what is final.
   *
   * @throws {BenchmarkError} When there is none, and others stage changes in the same table.
   */
  async consume(): Promise<void> {
    const { link } = this.#databases.sink;
    const giveUpAt = performance.now() + CONSUMER_MS;
    while ((await this.sink.readAll()).pending.size > 0) {
      if (performance.now() < giveUpAt) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        continue;
      }
      if (!this.#wasEmpty) {
        throw new BenchmarkError(
          "Cannot measure: nobody takes what is staged, expected a consumer of this table, or an empty one",
        );
      }
      const args = ["2", "NEIGH_TABLE_KEY_SET", "NEIGH_TABLE_DEL_SET", "NEIGH_TABLE:"];
      while (Number(await link.send(["EVAL", CONSUME, ...args], "take changes")) > 0);
    }
  }

  /** Takes everything away again, whatever had happened. */
  async close(): Promise<void> {
    const failures: unknown[] = [];
    const attempt = async (step: () => void | Promise<void>): Promise<void> => {
      try {
        await step();
      } catch (error) {
        failures.push(error);
      }
    };
    await attempt(() => this.stop());
    await attempt(() => this.#neighbors?.close());
    await attempt(() => this.#clear());
    await attempt(() => this.#databases.close());
    for (const error of failures) {
      log.error("what was made could not be taken away: {error}", { error });
    }
  }

  async #own(): Promise<Map<string, StoredNeighbor>> {
    const { ifname } = this.#options;
    const entries = effectiveTable(await this.sink.readAll());
    for (const key of entries.keys()) if (benchIndex(ifname, key) < 0) entries.delete(key);
    return entries;
  }

  /** Removes every entry of ours. */
  async #clear(): Promise<void> {
    const { sink } = this.#databases;
    const keys = [...(await this.#own()).keys()];
    for (let at = 0; at < keys.length; at += BATCH) {
      await sink.apply(
        keys.slice(at, at + BATCH).map((key) => ({ op: "del", key, mac: "", family: "IPv4" })),
      );
    }
    if (!this.#wasEmpty) return;
    // What is final a consumer has to be told to remove; what nobody took needs nobody.
    if ((await sink.readAll()).final.size > 0) await this.consume();
    await sink.clearPending();
  }

  #orAborted<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#options;
    return new Promise((resolve, reject) => {
      const aborted = (): void => reject(signal.reason);
      if (signal.aborted) aborted();
      signal.addEventListener("abort", aborted, { once: true });
      work.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
    });
  }
}
