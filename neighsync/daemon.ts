/**
 * The synchroniser: the kernel's neighbor tables on one side, the published table on the other, equal again after
 * everything that can happen to either.
 *
 * @module
 */

import { type NetlinkHost, openNetlinkHost } from "../ffi/mod.ts";
import { DeadlineError } from "../internal/errors.ts";
import { logger } from "../internal/log.ts";
import { isRedisError } from "../internal/redis_errors.ts";
import { type Clock, systemClock } from "../internal/time/clock.ts";
import { Comparison } from "./comparison.ts";
import { type Difference, tableDifferences } from "./difference.ts";
import { EventHub, type NeighSyncEvent } from "./daemon_events.ts";
import type { NeighSyncOptions, ReloadableSettings } from "./daemon_options.ts";
import { type Databases, openDatabases } from "./databases.ts";
import { HealthJudge } from "./health.ts";
import { Housekeeping } from "./housekeeping.ts";
import { FAMILIES, KernelFeed } from "./kernel_feed.ts";
import { LeasedSink } from "./leased_sink.ts";
import { NeighborMap } from "./neighbor_map.ts";
import type { Neighbor } from "./neighbor.ts";
import { resolveNeighSyncSettings } from "./options.ts";
import { ConfigPolicy, type PolicyChange } from "./policy.ts";
import { AF_INET, AF_INET6 } from "./protocol/constants.ts";
import type { FilterFacts } from "./protocol/filter.ts";
import type { Link } from "./protocol/link_cache.ts";
import type { WarmCache } from "./protocol/reconcile.ts";
import { parseMac } from "./protocol/address.ts";
import { Publisher } from "./publisher.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";
import { effectiveTable, type Sink, type SinkEvent } from "./sink.ts";
import type { Health, NeighSyncSnapshot } from "./snapshot.ts";
import { takeSnapshot } from "./snapshot_taking.ts";
import { explicitNames, Tuner } from "./tuner.ts";
import { tuneWriter } from "./tuning.ts";
import { WarmRestartDriver, type WarmTables } from "./warm_restart.ts";
import { Writer } from "./writer.ts";

const log = logger("neighsync", "daemon"), audit = logger("neighsync", "audit");

export type { NeighSyncOptions, ReloadableSettings } from "./daemon_options.ts";

/** Pause before a table that could not be read is read again. */
const RETRY_MS = 500;

/**
 * Keeps a table of neighbors equal to what the kernel has and the rules let through.
 *
 * @example
 * ```ts
 * import { MemorySink, NeighSync } from "@fastwire/net/neighsync";
 *
 * if (Deno.build.os === "linux") {
 *   const sink = new MemorySink();
 *   await using sync = new NeighSync({ sink });
 *   await sync.start();
 *   console.log(sync.health().status, sink.entries.size);
 * }
 * ```
 */
export class NeighSync implements AsyncDisposable {
  /** What happens, in batches; each loop begins with what happens from then on. */
  readonly events: AsyncIterable<readonly NeighSyncEvent[]>;

  readonly #options: NeighSyncOptions;
  readonly #clock: Clock;
  readonly #hub = new EventHub();
  readonly #judge = new HealthJudge();
  readonly #housekeeping: Housekeeping;
  readonly #tuner: Tuner;
  #settings: ResolvedNeighSyncSettings;
  #startedAt = 0;
  #starting: Promise<void> | undefined;
  #closing: Promise<void> | undefined;
  #parts: Parts | undefined;
  #databases: Databases | undefined;
  #host: NetlinkHost | undefined;
  #feed: KernelFeed | undefined;
  #warm: WarmRestartDriver | undefined;
  #comparison: Comparison | undefined;
  #synced = false;
  #firstSyncMs = 0;
  #viewRead: () => void = () => {};
  readonly #closed = new AbortController();

  /**
   * Does nothing yet.
   *
   * @throws {TypeError} For unknown options and those that exclude each other.
   * @throws {RangeError} For values out of range. @throws {SyntaxError} For text that cannot be read.
   */
  constructor(options: NeighSyncOptions = {}) {
    const {
      sink,
      configDatabase,
      facts,
      warmTables,
      leaseStore,
      host,
      signal,
      clock,
      ...settings
    } = options;
    this.#options = { sink, configDatabase, facts, warmTables, leaseStore, host, signal };
    this.#clock = clock ?? systemClock;
    this.#settings = resolveNeighSyncSettings(settings);
    const isLeased = this.#settings.deployment.leaseKey !== undefined;
    if (isLeased && sink !== undefined && leaseStore === undefined) {
      throw new TypeError("Cannot contend for a lease with the given sink: expected a leaseStore");
    }
    this.#tuner = new Tuner(this.#settings.performance, explicitNames(settings.performance));
    this.events = this.#hub;
    this.#housekeeping = new Housekeeping(this.#clock, {
      snapshot: () => this.snapshot(),
      second: (now) => this.#everySecond(now),
      audit: () => this.#comparison?.run("audit"),
      auditIntervalSec: () => this.#settings.advanced.auditIntervalSec,
    });
  }

  /** Settings in force. */
  get settings(): ResolvedNeighSyncSettings {
    return this.#settings;
  }

  /** Settles when everything of the kernel is published for the first time, or when it was closed before. */
  start(): Promise<void> {
    return this.#starting ??= this.#start();
  }

  /** Whether it does its work. A quiet network is healthy. */
  health(): Health {
    return this.#judge.judge(this.snapshot(), this.#clock.now());
  }

  /** Counts and state now, as plain numbers. */
  snapshot(): NeighSyncSnapshot {
    return takeSnapshot({
      uptimeMs: this.#startedAt === 0 ? 0 : this.#clock.now() - this.#startedAt,
      synced: this.#synced,
      firstSyncMs: this.#firstSyncMs,
      loopLagMs: this.#housekeeping.loopLagMs,
      answeredAt: this.#housekeeping.answeredAt,
      memoryLimit: this.#settings.advanced.memoryLimit,
      writer: this.#parts?.writer,
      publisher: this.#parts?.publisher,
      sink: this.#parts?.sink,
      facts: this.#parts?.facts,
      feed: this.#feed,
      comparison: this.#comparison,
      warmRestart: this.#warm?.phase ?? "none",
      tuning: this.#tuner.snapshot(),
      lease: this.#parts?.lease?.leaseSnapshot(),
    });
  }

  /** The kernel's neighbors as they are known now, by key; empty before they were read. */
  neighbors(): ReadonlyMap<string, Neighbor> {
    return this.#feed === undefined ? new Map() : new NeighborMap(this.#feed, () => true);
  }

  /**
   * Reads the kernel's table anew, then compares both tables; settles when what was wrong is written.
   *
   * @throws {TypeError} Before the first synchronisation.
   */
  async resync(): Promise<void> {
    if (this.#feed === undefined || this.#comparison === undefined) {
      throw new TypeError("Cannot synchronise anew: it has not been done for the first time");
    }
    await this.#feed.resync();
    await this.#comparison.run("audit");
    await this.#parts!.writer.idle();
  }

  /**
   * How the published table differs from what should be in it now; nothing is written. What is on its way shows.
   *
   * @throws {TypeError} Before the kernel was joined. @throws {FastwireError} When the sink cannot be read.
   */
  async differences(): Promise<Difference[]> {
    if (this.#feed === undefined) {
      throw new TypeError("Cannot compare the tables: the kernel's was not read yet");
    }
    const { sink, publisher } = this.#parts!;
    const found = effectiveTable(await sink.readAll());
    return tableDifferences(publisher.expected(this.#feed), found, publisher);
  }

  /**
   * Takes over the settings that can be changed while it runs: batches, interfaces, the interval of audits.
   *
   * @param explicit Which of the settings that are tuned somebody has written down; by default those that change, and those
   * that were before.
   */
  reload(
    settings: ReloadableSettings,
    explicit?: readonly ("batchSize" | "batchTimeoutMs")[],
  ): void {
    const { netlink, performance, advanced } = settings;
    const { include, exclude } = netlink;
    this.#settings = Object.freeze({
      ...this.#settings,
      netlink: Object.freeze({ ...this.#settings.netlink, include, exclude }),
      performance: Object.freeze({
        ...performance,
        window: this.#settings.performance.window,
        dedupe: this.#settings.performance.dedupe,
      }),
      advanced,
    });
    this.#tuner.configure(this.#settings.performance, explicit);
    this.#parts?.writer.tune(this.#tuner.settings);
    this.#parts?.publisher.choose({ include, exclude }, this.#feed);
    this.#parts?.writer.pump();
    this.#housekeeping.rescheduleAudit();
  }

  /** Whether the event loop turns and the sink answers, or is known not to: what a watchdog wants to know. */
  isAlive(): boolean {
    return this.#housekeeping.isAlive(this.#parts?.sink.connected ?? false);
  }

  /**
   * Stops reading, writes what waits for up to `flushTimeoutMs`, and lets go of everything; idempotent. What is published
   * stays.
   */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as {@linkcode NeighSync.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #start(): Promise<void> {
    this.#startedAt = this.#clock.now();
    const { signal } = this.#options;
    signal?.addEventListener("abort", this.#abort, { once: true });
    if (signal?.aborted === true) return void await this.close();
    try {
      await this.#run();
    } catch (error) {
      if (this.#closed.signal.aborted) return;
      // Not by close(): whoever started it is told why.
      await this.close();
      throw error;
    }
  }

  readonly #abort = (): void => void this.close();

  async #run(): Promise<void> {
    const { driver } = this.#settings.netlink;
    const { host: givenHost } = this.#options;
    // Both take their time, and neither needs the other.
    const opening = givenHost === undefined ? openNetlinkHost({ driver }) : undefined;
    opening?.catch(() => {});
    const parts = this.#parts = await this.#assemble();
    const host = await (opening ?? givenHost!);
    this.#host = opening === undefined ? undefined : host;
    if (this.#closed.signal.aborted) return void await this.#host?.close();
    this.#housekeeping.start();
    const { sink, writer } = parts;
    writer.coalescer.pause();
    this.#comparison = new Comparison({
      sink,
      writer,
      publisher: parts.publisher,
      clock: this.#clock,
      feed: () => this.#feed,
      retryMs: RETRY_MS,
      prepare: () => parts.policy?.load() ?? Promise.resolve(),
      done: (reason, repairs) => this.#compared(reason, repairs),
    });
    parts.forget = sink.observe((event) => this.#sinkChanged(event));
    log.info("connecting to the sink");
    if (await this.#standsBy(host)) return;
    await this.#connected();
    this.#hub.tell({ type: "sink-connected" });
    if (parts.warmTables !== undefined && this.#settings.deployment.warmRestart) {
      if (!await this.#restartWarm(parts.warmTables, host)) return;
    }
    if (this.#feed === undefined) {
      const joined = this.#join(host);
      this.#comparison.run("first");
      await joined;
    }
    await this.#firstSync();
  }

  /** Parts that are made before anything is read or written. */
  async #assemble(): Promise<Parts> {
    const { deployment, performance, netlink } = this.#settings;
    let { sink, configDatabase, warmTables, leaseStore } = this.#options;
    if (sink === undefined) {
      const databases = this.#databases = await openDatabases(this.#settings);
      sink = databases.sink;
      configDatabase ??= databases.config;
      warmTables ??= databases.warm;
      leaseStore ??= databases.lease;
      this.#housekeeping.probe = () => databases.sink.link.send(["PING"], "see whether it answers");
    }
    const policy = configDatabase === undefined ? undefined : new ConfigPolicy(configDatabase, {
      dualTor: deployment.dualTor,
      evpn: deployment.evpn,
      clock: this.#clock,
      onChange: (change) => this.#policyChanged(change),
    });
    const facts: FilterFacts = policy ?? this.#options.facts ?? {
      dualTor: deployment.dualTor === "on",
      evpn: deployment.evpn === "on",
      linkLocalEnabled: () => false,
    };
    let lease: LeasedSink | undefined;
    if (deployment.leaseKey !== undefined && leaseStore !== undefined) {
      const { leaseTtlMs: ttlMs } = deployment;
      sink = lease = new LeasedSink({ sink, store: leaseStore, ttlMs, clock: this.#clock });
    }
    const writer = new Writer(sink, performance, {
      acknowledged: (operations) => {
        if (!this.#hub.active) return;
        for (const { op, key, mac, family } of operations) {
          this.#hub.tell(op === "set" ? { type: "set", key, mac, family } : { type: "del", key });
        }
      },
    }, this.#clock);
    const publisher = new Publisher({
      facts,
      choice: netlink,
      family: FAMILIES[netlink.family],
      coalescer: writer.coalescer,
      dedupe: performance.dedupe,
      strictLinkLocal: deployment.strictLinkLocal,
    });
    return { sink, lease, policy, facts, writer, publisher, warmTables, forget: () => {} };
  }

  async #join(host: NetlinkHost): Promise<void> {
    const { publisher, writer, policy } = this.#parts!;
    const feed = await KernelFeed.open({
      host,
      settings: this.#settings.netlink,
      // A rule may want a host route cleared at every event, those included that change nothing.
      repeats: true,
      rests: this.#settings.performance.lingerMs > 0,
      clock: this.#clock,
      signal: this.#closed.signal,
    }, {
      changed: (change, now) => publisher.changed(change, now),
      linkChanged: (link, previous) => {
        if (previous !== undefined && link?.name !== previous.name) policy?.forget(previous.name);
      },
      resyncStarted: (reason) => this.#hub.tell({ type: "resync", reason }),
      resyncEnded: () => this.#kernelRead(),
      turned: () => writer.pump(),
    });
    if (this.#closed.signal.aborted) return await feed.close();
    this.#feed = feed;
    // It may have been read to its end before it was known here.
    if (feed.synced) this.#comparison!.kernelRead();
  }

  #kernelRead(): void {
    this.#warm?.kernelRead();
    if (this.#feed !== undefined) this.#comparison?.kernelRead();
    this.#viewRead();
  }

  /**
   * While somebody else holds the lease the kernel is watched all the same, and everything is published when they stop.
   *
   * @returns Whether it is so.
   */
  async #standsBy(host: NetlinkHost): Promise<boolean> {
    const { lease } = this.#parts!;
    if (lease === undefined || await this.#orClosed(lease.decided) === "holder") return false;
    this.#comparison!.begin();
    const read = new Promise<void>((resolve) => this.#viewRead = resolve);
    await Promise.all([this.#orClosed(read), this.#join(host)]);
    const synced = this.#firstSync();
    if (lease.role === "holder") await synced;
    // Closing ends the waiting, however long it was.
    else synced.catch(() => {});
    return true;
  }

  /** What waits while somebody else writes is old by the time it could be written: both tables are compared then. */
  #forgetWaiting(): void {
    if (this.#parts?.lease?.role !== "standby") return;
    this.#parts.writer.coalescer.clear();
    this.#parts.writer.pump();
  }

  /** @returns Whether to go on; false when it was closed meanwhile. */
  async #restartWarm(tables: WarmTables, host: NetlinkHost): Promise<boolean> {
    const { sink, writer, publisher } = this.#parts!;
    const { restoreWaitSec, reconcileWhen, minReconcileMs } = this.#settings.deployment;
    const startedAt = this.#clock.now();
    const driver = this.#warm = new WarmRestartDriver({
      tables,
      clock: this.#clock,
      connected: () => this.#connected(),
      clearPending: () => sink.clearPending(),
      loadTable: async (cache) => {
        this.#comparison!.forgetMissed();
        writer.coalescer.beginShadow();
        const entries = effectiveTable(await sink.readAll());
        writer.coalescer.replaceShadow(entries);
        for (const [key, fields] of entries) cache.load(key, fields);
      },
      joinKernel: async (machine) => {
        // Rules need facts before the first row.
        await this.#parts!.policy?.load();
        publisher.warm = machine;
        await this.#join(host);
      },
      write: (cache) => this.#reconcile(cache),
    }, { restoreWaitSec, reconcileWhen, minReconcileMs });
    const { outcome, counts } = await driver.run();
    publisher.warm = undefined;
    if (outcome === "stopped") return false;
    audit.info("warm restart: {outcome}", { event: "neighsync.warm-restart", outcome, ...counts });
    this.#hub.tell({ type: "warm-restart", outcome });
    if (outcome === "restore-wait") {
      throw new DeadlineError(
        "neighsync.restore-wait",
        `Cannot take over after a warm restart: the kernel's table was not refilled within ${restoreWaitSec} s, expected NEIGH_RESTORE_TABLE|Flags to say so`,
        { phase: "restore-wait", elapsedMs: this.#clock.now() - startedAt, attempts: 1 },
      );
    }
    return true;
  }

  async #reconcile(cache: WarmCache): Promise<void> {
    const { writer, publisher } = this.#parts!;
    const now = this.#clock.now();
    // What is told from now on goes the usual way, behind these.
    publisher.warm = undefined;
    for (const { op, key, fields } of cache.decisions()) {
      if (op === "del") writer.coalescer.delete(key, now);
      else {
        const family = fields.family === "IPv4" ? AF_INET : AF_INET6;
        writer.coalescer.set(key, parseMac(fields.mac), family, now);
      }
    }
    writer.coalescer.resume();
    writer.pump();
    await this.#orClosed(writer.idle());
    // The connection may have been another one since the table was read.
    this.#comparison!.adopt();
  }

  async #firstSync(): Promise<void> {
    await this.#orClosed(this.#comparison!.first);
    await this.#orClosed(this.#parts!.writer.idle());
    if (this.#closed.signal.aborted) return;
    this.#synced = true;
    this.#firstSyncMs = this.#clock.now() - this.#startedAt;
    const neighbors = this.#parts!.writer.coalescer.published;
    const elapsedMs = Math.round(this.#firstSyncMs);
    log.info("{neighbors} neighbours are published, {elapsedMs} ms after the start", {
      event: "neighsync.synced",
      neighbors,
      elapsedMs,
    });
    this.#hub.tell({ type: "synced", neighbors, elapsedMs });
    this.#housekeeping.rescheduleAudit();
  }

  #sinkChanged(event: SinkEvent): void {
    const { coalescer } = this.#parts!.writer;
    if (event.state === "lost") {
      coalescer.pause();
      const { code, message } = event;
      log.warn("the sink is lost ({code}), changes are kept: {message}", {
        event: "neighsync.sink-lost",
        code,
        message,
      });
      this.#hub.tell({ type: "sink-lost", code });
    } else if (event.state === "connected") {
      log.info("the sink is connected", { event: "neighsync.sink-connected" });
      this.#hub.tell({ type: "sink-connected" });
      this.#comparison?.run("reconnect");
    }
  }

  #compared(reason: "first" | "reconnect" | "audit" | "policy", repairs: number): void {
    if (reason === "first") return;
    const details = { event: "neighsync.compared", reason, repairs };
    const text = "both tables were compared ({reason}): {repairs} keys were wrong";
    if (repairs > 0 && reason === "audit") audit.warn(text, details);
    else audit.info(text, details);
    this.#hub.tell({ type: "compared", reason, repairs });
  }

  #policyChanged(change: PolicyChange): void {
    this.#comparison?.rulesChanged();
    const value = change.value ? "on" : "off";
    if (change.fact === "link-local") {
      log.info("IPv6 link-local of {ifname} is {value}", { ifname: change.ifname, value });
      this.#feed?.replay(this.#linkNamed(change.ifname)?.ifindex ?? -1);
    } else {
      log.info("{fact} is {value}", { event: "neighsync.policy", fact: change.fact, value });
      this.#feed?.replay();
      if (this.#synced) this.#comparison?.run("policy");
    }
    this.#parts?.writer.pump();
  }

  #linkNamed(ifname: string): Link | undefined {
    for (const link of this.#feed?.links.links() ?? []) if (link.name === ifname) return link;
    return undefined;
  }

  #everySecond(now: number): void {
    const { policy, writer } = this.#parts!;
    this.#forgetWaiting();
    // Looked at each second, its window is exact.
    const snapshot = this.snapshot();
    this.#judge.judge(snapshot, now);
    tuneWriter(this.#tuner, writer, now, snapshot);
    if (policy !== undefined && now >= policy.deadline && this.#parts!.sink.connected) {
      policy.expire(now).catch((error) => log.warn("the policy was not read: {error}", { error }));
    }
    if (this.#synced || this.#feed === undefined || snapshot.lease.role === "standby") return;
    log.info("first synchronisation: {known} neighbours known, {written} written", {
      event: "neighsync.progress",
      known: this.#feed.size,
      written: writer.sets + writer.deletions,
    });
  }

  /** Waits for the sink, however long that takes. @throws The reason of the end when it is closed. */
  #connected(): Promise<void> {
    const { sink } = this.#parts!;
    if (this.#closed.signal.aborted) return Promise.reject(this.#closed.signal.reason);
    if (sink.connected) return Promise.resolve();
    return this.#orClosed(
      new Promise<void>((resolve) => {
        const stop = sink.observe(({ state }) => {
          if (state !== "connected") return;
          stop();
          resolve();
        });
        this.#closed.signal.addEventListener("abort", stop, { once: true });
      }),
    );
  }

  #orClosed<T>(work: Promise<T>): Promise<T> {
    const { signal } = this.#closed;
    return new Promise((resolve, reject) => {
      const closed = (): void => reject(signal.reason);
      if (signal.aborted) closed();
      signal.addEventListener("abort", closed, { once: true });
      work.then(resolve, reject).finally(() => signal.removeEventListener("abort", closed));
    });
  }

  async #close(): Promise<void> {
    this.#options.signal?.removeEventListener("abort", this.#abort);
    this.#warm?.stop();
    const collecting = this.#parts?.publisher.warm !== undefined;
    this.#closed.abort(new TypeError("Cannot go on: the synchroniser is closed"));
    this.#housekeeping.stop();
    await this.#feed?.close();
    const { writer, forget } = this.#parts ?? {};
    if (writer !== undefined) {
      this.#comparison?.stop();
      this.#forgetWaiting();
      const left = collecting ? 0 : await writer.finish(this.#settings.advanced.flushTimeoutMs);
      writer.stop();
      if (left > 0) log.warn("{left} changes were not written before the end", { left });
    }
    forget?.();
    await this.#parts?.lease?.close();
    await this.#databases?.close().catch((error) => {
      if (!isRedisError(error)) throw error;
    });
    await this.#host?.close();
    this.#hub.close();
    audit.info("stopped", { event: "neighsync.stopped" });
  }
}

interface Parts {
  readonly sink: Sink;
  readonly lease: LeasedSink | undefined;
  readonly policy: ConfigPolicy | undefined;
  readonly facts: FilterFacts;
  readonly writer: Writer;
  readonly publisher: Publisher;
  readonly warmTables: WarmTables | undefined;
  forget: () => void;
}
