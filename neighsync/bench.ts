/**
 * Measures the daemon as it is: changes in the kernel's table, made through netlink, until Redis has acknowledged them.
 * Every outcome is verified before a number is told, and everything is taken away again.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { benchParse } from "./bench_parse.ts";
import {
  type BenchFigure,
  BenchmarkError,
  type BenchMode,
  type BenchReport,
  latencyFigures,
  percentile,
} from "./bench_report.ts";
import { type Baseline, BenchStage } from "./bench_stage.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";
import type { WarmTables } from "./warm_restart.ts";

/** How much is measured. */
export interface BenchPlan {
  readonly mode: BenchMode;
  readonly settings: ResolvedNeighSyncSettings;
  /** The interface neighbours are made on; of no meaning for `parse` and `redis`. */
  readonly ifname: string;
  /** Neighbours of `warm-restart`, entries of `redis`, rows of `parse`. */
  readonly neighbors: number;
  /** Changes a second of `sustained`. */
  readonly rate: number;
  /** Seconds of `sustained`. */
  readonly seconds: number;
  /** Changes of `burst`. */
  readonly events: number;
  /** Compare with a program that waits for an answer to every entry. */
  readonly baseline: boolean;
  readonly useExistingTable: boolean;
  readonly signal: AbortSignal;
}

/** The first meets code that never ran; a daemon is started once and runs for months. */
const ROUNDS = 6;
const WARM_ROUNDS = 4;
/** Neighbours that are changed all the time. */
const SUSTAINED_KEYS = 1000;
/** Of the neighbours, what has changed while the daemon was away. */
const CHANGED_SHARE = 100;
const BASELINE = "one entry after the other, each answer awaited, through the same connection";

/**
 * Measures.
 *
 * @throws {BenchmarkError} When the final table is not what was made.
 * @throws {UsageError} When the interface or the table cannot be used. @throws {CapabilityError} Without CAP_NET_ADMIN.
 */
export async function runBenchmark(plan: BenchPlan): Promise<BenchReport> {
  const { mode, settings, ifname, signal } = plan;
  if (mode === "parse") return await benchParse(plan.neighbors, signal);
  const stage = await BenchStage.open({
    settings,
    ifname,
    kernel: mode !== "redis",
    neighbors: NEIGHBORS[mode](plan),
    useExistingTable: plan.useExistingTable,
    signal,
  });
  try {
    const baseline = plan.baseline ? await stage.baseline() : undefined;
    const { subject, figures, verified } = await MODES[mode](stage, plan, baseline);
    return {
      mode,
      synthetic: false,
      touched: mode === "redis" ? ["redis"] : ["kernel", "redis"],
      subject: { ...stage.subject, ...subject },
      figures,
      verified,
      baseline: baseline === undefined ? "" : BASELINE,
    };
  } finally {
    await stage.close();
  }
}

type Found = Pick<BenchReport, "subject" | "figures" | "verified">;
type Measure = (
  stage: BenchStage,
  plan: BenchPlan,
  baseline: Baseline | undefined,
) => Promise<Found>;

const NEIGHBORS: Readonly<Record<Exclude<BenchMode, "parse">, (plan: BenchPlan) => number>> = {
  "warm-restart": ({ neighbors }) => neighbors,
  sustained: () => SUSTAINED_KEYS,
  burst: ({ events }) => events,
  redis: ({ neighbors }) => neighbors,
};

const MODES: Readonly<Record<Exclude<BenchMode, "parse">, Measure>> = {
  "warm-restart": warmRestart,
  sustained,
  burst,
  redis: staging,
};

async function warmRestart(
  stage: BenchStage,
  { neighbors }: BenchPlan,
  baseline: Baseline | undefined,
): Promise<Found> {
  stage.putUnseen(0, neighbors, 0);
  const cold = await stage.start();
  const coldMs = cold.snapshot().firstSyncMs;
  await stage.stop();
  let verified = await stage.verify(neighbors, () => 0);
  await stage.consume();
  const changed = Math.ceil(neighbors / CHANGED_SHARE);
  const tookMs: number[] = [];
  let cpuMs = 0, written = 0;
  for (let salt = 1; salt <= WARM_ROUNDS; salt++) {
    stage.putUnseen(0, changed, salt);
    const before = stage.cpuMs();
    const sync = await stage.start({
      warmTables: WARM_TABLES,
      deployment: { warmRestart: true, reconcileWhen: "dump-complete", minReconcileMs: 0 },
    });
    const { firstSyncMs, neighborsAdded, warmRestart } = sync.snapshot();
    cpuMs += stage.cpuMs() - before;
    if (warmRestart !== "reconciled") {
      throw new BenchmarkError(
        `Cannot measure: the restart was ${warmRestart}, expected reconciled`,
      );
    }
    tookMs.push(firstSyncMs);
    written += neighborsAdded;
    await stage.stop();
    verified = await stage.verify(neighbors, (index) => index < changed ? salt : 0);
    await stage.consume();
  }
  const median = percentile(tookMs.slice(1), 0.5);
  const oneByOneMs = baseline === undefined ? undefined : 1000 * neighbors / baseline.perSecond;
  return {
    subject: { neighbors, changed },
    verified,
    figures: [
      figure("coldMs", "cold start until everything is published", coldMs, "ms", oneByOneMs),
      figure("firstMs", "the first warm restart, without the timer", tookMs[0]!, "ms", oneByOneMs),
      figure("elapsedMs", "the warm restarts after it, median", median, "ms", oneByOneMs),
      figure(
        "neighborsPerSecond",
        "neighbours compared",
        1000 * neighbors / median,
        "/s",
        baseline?.perSecond,
      ),
      figure("written", "entries written by a warm restart", written / WARM_ROUNDS, ""),
      figure(
        "cpuMsPer1000",
        "processor time of 1,000 neighbours",
        cpuMs / WARM_ROUNDS / neighbors * 1000,
        "ms",
        baseline?.cpuMsPer1000,
      ),
    ],
  };
}

/** The flags of a restart, given here: the switch's own tables are left alone. */
const WARM_TABLES: WarmTables = {
  readFlags: () => Promise.resolve({ enabled: true, restoreCount: 1, timerSec: undefined }),
  setRestoreCount: () => Promise.resolve(),
  setState: () => Promise.resolve(),
  readRestored: () => Promise.resolve(true),
  followRestored: () => Promise.resolve(true),
};

async function sustained(
  stage: BenchStage,
  { rate, seconds, signal }: BenchPlan,
  baseline: Baseline | undefined,
): Promise<Found> {
  const turnMs = await turnCost();
  const sync = await stage.start();
  stage.put(0, SUSTAINED_KEYS, 0);
  await stage.settled();
  stage.sink.latencies = [];
  const salts = new Uint8Array(SUSTAINED_KEYS);
  const lostBefore = sync.snapshot().kernel.lostEvents;
  const cpuBefore = stage.cpuMs();
  const startedAt = performance.now();
  let changes = 0, turns = 0, elapsedMs = 0;
  for (; elapsedMs < seconds * 1000; elapsedMs = performance.now() - startedAt) {
    signal.throwIfAborted();
    const due = Math.floor(elapsedMs * rate / 1000);
    while (changes < due) {
      const first = changes % SUSTAINED_KEYS;
      const count = Math.min(due - changes, SUSTAINED_KEYS - first);
      const salt = (Math.floor(changes / SUSTAINED_KEYS) + 1) % 256;
      stage.put(first, count, salt);
      salts.fill(salt, first, first + count);
      changes += count;
    }
    await turn();
    turns++;
  }
  await stage.settled();
  const cpuMs = Math.max(0, stage.cpuMs() - cpuBefore - turns * turnMs);
  const lost = sync.snapshot().kernel.lostEvents - lostBefore;
  const verified = await stage.verify(SUSTAINED_KEYS, (index) => salts[index]!);
  return {
    subject: { rate, seconds, neighbors: SUSTAINED_KEYS },
    verified,
    figures: [
      figure("changes", "changes made", changes, ""),
      figure(
        "changesPerSecond",
        "changes made a second",
        1000 * changes / elapsedMs,
        "/s",
        baseline?.perSecond,
      ),
      ...latencyFigures(stage.sink.latencies, baseline?.latencies),
      figure(
        "cpuMsPer1000",
        "processor time of 1,000 changes",
        1000 * cpuMs / Math.max(1, changes),
        "ms",
        baseline?.cpuMsPer1000,
      ),
      figure("cpuPercent", "of one processor", 100 * cpuMs / elapsedMs, "%"),
      figure("lostEvents", "events lost", lost, ""),
    ],
  };
}

/** Turns that are looked at to know what one costs. */
const TURNS = 300;

/** What it costs to look at the clock now and then, milliseconds of processor time: not the daemon's. */
async function turnCost(): Promise<number> {
  for (let i = 0; i < TURNS / 3; i++) await turn();
  const before = cpuUsage();
  for (let i = 0; i < TURNS; i++) await turn();
  const { user, system } = cpuUsage(before);
  return (user + system) / 1000 / TURNS;
}

function turn(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 1));
}

async function burst(
  stage: BenchStage,
  { events }: BenchPlan,
  baseline: Baseline | undefined,
): Promise<Found> {
  const sync = await stage.start();
  const tookMs: number[] = [];
  let verified = 0, cpuMs = 0;
  for (let salt = 0; salt < ROUNDS; salt++) {
    if (salt === 1) stage.sink.latencies = [];
    const before = stage.cpuMs();
    const startedAt = performance.now();
    stage.put(0, events, salt);
    await stage.settled();
    tookMs.push(performance.now() - startedAt);
    cpuMs += stage.cpuMs() - before;
    verified = await stage.verify(events, () => salt);
  }
  const { lostEvents, resyncs } = sync.snapshot().kernel;
  const median = percentile(tookMs.slice(1), 0.5);
  const oneByOneMs = baseline === undefined ? undefined : 1000 * events / baseline.perSecond;
  return {
    subject: { events, rounds: ROUNDS },
    verified,
    figures: [
      figure(
        "firstMs",
        "the first burst, to its last acknowledgement",
        tookMs[0]!,
        "ms",
        oneByOneMs,
      ),
      figure("elapsedMs", "the bursts after it, median", median, "ms", oneByOneMs),
      figure("changesPerSecond", "changes", 1000 * events / median, "/s", baseline?.perSecond),
      ...latencyFigures(stage.sink.latencies, baseline?.latencies),
      figure(
        "cpuMsPer1000",
        "processor time of 1,000 changes",
        1000 * cpuMs / (ROUNDS * events),
        "ms",
        baseline?.cpuMsPer1000,
      ),
      figure("lostEvents", "events lost", lostEvents, ""),
      figure("resyncs", "readings of the whole table", resyncs, ""),
    ],
  };
}

async function staging(
  stage: BenchStage,
  { neighbors, settings, signal }: BenchPlan,
  baseline: Baseline | undefined,
): Promise<Found> {
  const { maxBatch, window } = settings.performance;
  const tookMs: number[] = [];
  let verified = 0, cpuMs = 0;
  for (let salt = 0; salt < ROUNDS; salt++) {
    if (salt === 1) stage.sink.latencies = [];
    const operations = stage.operations(neighbors, salt);
    const before = stage.cpuMs();
    const startedAt = performance.now();
    const flying: Promise<void>[] = [];
    for (let at = 0; at < neighbors; at += maxBatch) {
      signal.throwIfAborted();
      if (flying.length >= window) await flying.shift();
      const batch = operations.slice(at, at + maxBatch);
      stage.sink.expect(at, batch.length, salt);
      const sent = stage.sink.apply(batch);
      // Told by whoever waits for it; others that fail with it are not to be told as nobody's.
      sent.catch(() => {});
      flying.push(sent);
    }
    await Promise.all(flying);
    tookMs.push(performance.now() - startedAt);
    cpuMs += stage.cpuMs() - before;
    verified = await stage.verify(neighbors, () => salt);
  }
  const median = percentile(tookMs.slice(1), 0.5);
  const oneByOneMs = baseline === undefined ? undefined : 1000 * neighbors / baseline.perSecond;
  return {
    subject: { entries: neighbors, batch: maxBatch, window, rounds: ROUNDS },
    verified,
    figures: [
      figure(
        "firstMs",
        "the first time, to the last acknowledgement",
        tookMs[0]!,
        "ms",
        oneByOneMs,
      ),
      figure("elapsedMs", "the times after it, median", median, "ms", oneByOneMs),
      figure("entriesPerSecond", "entries", 1000 * neighbors / median, "/s", baseline?.perSecond),
      ...latencyFigures(stage.sink.latencies, baseline?.latencies),
      figure(
        "cpuMsPer1000",
        "processor time of 1,000 entries",
        1000 * cpuMs / (ROUNDS * neighbors),
        "ms",
        baseline?.cpuMsPer1000,
      ),
    ],
  };
}

function figure(
  name: string,
  label: string,
  value: number,
  unit: BenchFigure["unit"],
  baseline?: number,
): BenchFigure {
  return { name, label, value, unit, baseline };
}
