/**
 * How fast Redis follows the kernel: the daemon as a process of its own in a network of its own, beside a baseline that
 * asks Redis once for every entry and waits for the answer.
 *
 * The baseline is written here, for the purpose: three commands for each neighbour (the set of keys, the hash, the
 * message), one neighbour after the other, as a synchroniser without pipelining does. It is no other project's program.
 *
 * `deno task bench:neighsync [--rounds N] [--seconds N] [--quick] [--only staged|cold|burst|warm|sustained|idle|switches]`;
 * writes `bench/results/DATE-neighsync.json`, with `--only` that part of it. Needs root and redis-server.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { openRedisSink, type SinkOperation } from "@fastwire/net/neighsync";
import { RawRedis } from "../../internal/testing/redis_server.ts";
import { commit, machine, percentile, print, spread } from "./harness.ts";
import { type Daemon, Stage } from "./neighsync_stage.ts";
import { measureSwitches } from "./neighsync_switches.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    seconds: { type: "string", default: "60" },
    quick: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const ROUNDS = flags.quick ? 1 : Number(flags.rounds);
const SECONDS = flags.quick ? 5 : Number(flags.seconds);

const verdicts: string[] = [];
const rows: string[][] = [["", "median", "min", "max", "target"]];

function judge(what: string, values: readonly number[], sign: ">=" | "<=", target: number): void {
  const { median, min, max } = spread(values);
  const met = sign === ">=" ? median >= target : median <= target;
  verdicts.push(
    `${met ? "met   " : "MISSED"}  ${what}: ${median.toFixed(2)} (target ${sign} ${target})`,
  );
  rows.push([what, ...[median, min, max].map((value) => value.toFixed(2)), `${sign} ${target}`]);
}

function show(what: string, values: readonly number[]): void {
  const { median, min, max } = spread(values);
  rows.push([what, ...[median, min, max].map((value) => value.toFixed(2)), "baseline"]);
}

/** Stages entries one by one, each answer awaited. @returns Entries a second. */
async function oneByOne(stage: Stage, count: number): Promise<number> {
  await using redis = await RawRedis.connect(stage.server.socket);
  const startedAt = performance.now();
  for (let i = 0; i < count; i++) {
    const key = `Ethernet0:10.0.${i >> 8}.${i & 255}`;
    await redis.call("SADD", "NEIGH_TABLE_KEY_SET", key);
    await redis.call("HSET", `_NEIGH_TABLE:${key}`, "neigh", "02:00:00:00:00:01", "family", "IPv4");
    await redis.call("PUBLISH", "NEIGH_TABLE_CHANNEL@0", "G");
  }
  return 1000 * count / (performance.now() - startedAt);
}

async function staged(stage: Stage): Promise<unknown> {
  const count = 200_000;
  const sinkRates: number[] = [], daemonRates: number[] = [], baseline: number[] = [];
  const operations = Array.from({ length: count }, (_, i): SinkOperation => ({
    op: "set",
    key: `Ethernet0:10.${i >> 16}.${i >> 8 & 255}.${i & 255}`,
    mac: "02:00:00:00:00:01",
    family: "IPv4",
  }));
  for (let round = 0; round < ROUNDS; round++) {
    const sink = openRedisSink({ target: { address: { path: stage.server.socket } } });
    await sink.whenConnected();
    const startedAt = performance.now();
    const flying: Promise<void>[] = [];
    for (let at = 0; at < count; at += 1000) {
      if (flying.length === 2) await flying.shift();
      flying.push(sink.apply(operations.slice(at, at + 1000)));
    }
    await Promise.all(flying);
    sinkRates.push(1000 * count / (performance.now() - startedAt));
    await sink.close();
    await stage.clear(0);
    baseline.push(await oneByOne(stage, 5000));
    await stage.clear(0);
    const daemon = await stage.daemon();
    const begunAt = performance.now();
    stage.generator.put(0, 100_000);
    await stage.untilStaged(100_000);
    daemonRates.push(1000 * 100_000 / (performance.now() - begunAt));
    await stage.verify(100_000);
    await daemon.stop();
    await stage.clear(100_000);
  }
  judge("changes staged through the sink, thousands a second", sinkRates.map(thousands), ">=", 100);
  judge(
    "changes staged from the kernel on, thousands a second",
    daemonRates.map(thousands),
    ">=",
    100,
  );
  show("one by one, thousands a second", baseline.map(thousands));
  return { sinkRates, daemonRates, baseline };
}

function thousands(value: number): number {
  return value / 1000;
}

async function cold(stage: Stage): Promise<unknown> {
  const results: Record<string, object> = {};
  for (const [count, target] of [[10_000, 150], [100_000, 1200]] as const) {
    const syncMs: number[] = [], wholeMs: number[] = [], residentMb: number[] = [];
    for (let round = 0; round < ROUNDS; round++) {
      stage.generator.put(0, count);
      const daemon = await stage.daemon();
      await stage.verify(count);
      syncMs.push(daemon.syncMs);
      wholeMs.push(daemon.wholeMs);
      residentMb.push(daemon.residentBytes() / 1e6);
      await daemon.stop();
      await stage.clear(count);
    }
    judge(`cold start of ${count}, ms`, syncMs, "<=", target);
    judge(`cold start of ${count}, ms with the start of the process`, wholeMs, "<=", target + 300);
    if (count === 100_000) judge("resident with 100,000 neighbours, MB", residentMb, "<=", 150);
    results[count] = { syncMs, wholeMs, residentMb };
  }
  const rate = await oneByOne(stage, 5000);
  await stage.clear(0);
  show("10,000 one by one, ms", [10_000_000 / rate]);
  return { ...results, oneByOneMs: 10_000_000 / rate };
}

async function burst(stage: Stage): Promise<unknown> {
  const count = 5000;
  const tookMs: number[] = [], baseline: number[] = [];
  const daemon = await stage.daemon();
  // The first bursts meet code that was never run; a daemon is started once and runs for months. All are recorded.
  for (let round = 0; round < 2 * ROUNDS + 2; round++) {
    const before = await stage.staged();
    if (before !== 0) throw new Error(`${before} keys are left`);
    const startedAt = performance.now();
    stage.generator.put(0, count, round);
    await stage.untilStaged(count);
    tookMs.push(performance.now() - startedAt);
    await stage.verify(count, round);
    await stage.consume();
  }
  await daemon.stop();
  await stage.clear(count);
  baseline.push(1000 * count / await oneByOne(stage, count));
  await stage.clear(0);
  judge("burst of 5,000 to the last key staged, ms", tookMs.slice(2), "<=", 60);
  show("burst of 5,000, the first after the start, ms", tookMs.slice(0, 1));
  show("5,000 one by one, ms", baseline);
  return { tookMs, baseline };
}

async function warm(stage: Stage): Promise<unknown> {
  const count = 10_000;
  const tookMs: number[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    stage.generator.put(0, count);
    const first = await stage.daemon();
    await first.stop();
    await stage.consume();
    stage.generator.put(0, 100, 9);
    await stage.server.run(
      ["SELECT", 6],
      ["HSET", "WARM_RESTART_ENABLE_TABLE|swss", "enable", "true"],
      ["HSET", "WARM_RESTART_TABLE|neighsyncd", "restore_count", "1"],
      ["HSET", "NEIGH_RESTORE_TABLE|Flags", "restored", "true"],
    );
    // Without the timer: as soon as the kernel's table was read.
    const daemon = await stage.daemon("--deployment-reconcile-when", "dump-complete");
    tookMs.push(daemon.syncMs);
    const written = await stage.staged();
    if (written !== 100) throw new Error(`${written} keys were written, expected 100`);
    await daemon.stop();
    await stage.clear(count);
  }
  judge("warm restart of 10,000, ms without the timer", tookMs, "<=", 120);
  const rate = await oneByOne(stage, 5000);
  await stage.clear(0);
  show("10,000 one by one, ms", [10_000_000 / rate]);
  return { tookMs };
}

async function sustained(stage: Stage): Promise<unknown> {
  const keys = 1000;
  const daemon = await stage.daemon();
  stage.generator.put(0, keys);
  await stage.untilStaged(keys);
  const latencies: number[] = [];
  const cpuBefore = daemon.cpuSeconds();
  const startedAt = performance.now();
  let changes = 0, salt = 0;
  while (performance.now() - startedAt < SECONDS * 1000) {
    // What is due by the clock, one change a millisecond; of every twentieth turn the last is followed to Redis.
    const due = Math.floor(performance.now() - startedAt) - changes;
    if (due > 0) {
      const first = changes % keys;
      const count = Math.min(due, keys - first);
      if (first === 0) salt = salt % 255 + 1;
      stage.generator.put(first, count, salt);
      changes += count;
      if (latencies.length < changes / 25) {
        latencies.push(await visible(stage, first + count - 1, salt));
      }
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const cpuPercent = 100 * (daemon.cpuSeconds() - cpuBefore) / seconds;
  await stage.untilStaged(keys);
  await daemon.stop();
  await stage.clear(keys);
  // A second of such changes, each waited for, in milliseconds of that second: how near to full that is.
  const oneByOneMs = 1_000_000 / await oneByOne(stage, 5000);
  await stage.clear(0);
  show("1,000 one by one, ms", [oneByOneMs]);
  const p50 = percentile(latencies, 0.5), p99 = percentile(latencies, 0.99);
  judge(
    `${Math.round(changes / seconds)} changes a second for ${Math.round(seconds)} s, CPU %`,
    [cpuPercent],
    "<=",
    4,
  );
  judge("from the kernel to Redis, p50 ms", [p50], "<=", 2);
  judge("from the kernel to Redis, p99 ms", [p99], "<=", 5);
  return { seconds, changes, cpuPercent, p50, p99, samples: latencies.length, oneByOneMs };
}

/** Milliseconds until a neighbour's new MAC is seen in Redis. */
async function visible(stage: Stage, index: number, salt: number): Promise<number> {
  const key = `_NEIGH_TABLE:Ethernet0:10.0.${index >> 8}.${index & 255}`;
  const want = `02:${salt.toString(16).padStart(2, "0")}:`;
  const startedAt = performance.now();
  for (;;) {
    const mac = await stage.redis.call("HGET", key, "neigh");
    const tookMs = performance.now() - startedAt;
    if (String(mac).startsWith(want)) return tookMs;
    if (tookMs > 5000) throw new Error(`${key} is not seen with ${want}`);
  }
}

async function idle(stage: Stage): Promise<unknown> {
  stage.generator.put(0, 10_000);
  const daemon: Daemon = await stage.daemon();
  await new Promise((resolve) => setTimeout(resolve, 2000));
  const before = daemon.cpuSeconds();
  const seconds = flags.quick ? 5 : 20;
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const cpuPercent = 100 * (daemon.cpuSeconds() - before) / seconds;
  await daemon.stop();
  await stage.clear(10_000);
  judge("idle with 10,000 neighbours, CPU %", [cpuPercent], "<=", 0.5);
  return { cpuPercent, seconds };
}

async function switches(stage: Stage): Promise<unknown> {
  const measured = await measureSwitches(stage, flags.quick);
  console.log("\nThe eight optimisations, on and off");
  print([
    ["", "on", "off", "unit"],
    ...measured.map(({ what, on, off, unit }) => [
      what,
      on.toPrecision(4),
      off.toPrecision(4),
      unit,
    ]),
  ]);
  return measured;
}

const PARTS = { staged, cold, burst, warm, sustained, idle, switches } as const;

async function main(): Promise<number> {
  const names = Object.keys(PARTS) as (keyof typeof PARTS)[];
  const wanted = names.filter((name) =>
    flags.only === undefined || flags.only.split(",").includes(name)
  );
  if (wanted.length === 0) {
    console.error(`Nothing is called ${flags.only}: ${names.join(", ")}`);
    return 2;
  }
  const day = new Date().toISOString().slice(0, 10);
  const path = new URL(`../results/${day}-neighsync.json`, import.meta.url).pathname;
  const record = flags.only === undefined ? {} : await earlier(path);
  await using stage = await Stage.create();
  for (const name of wanted) {
    const results = await PARTS[name](stage);
    record[name] = { commit: commit(), machine: machine(), rounds: ROUNDS, results };
    console.error(`measured: ${name}`);
  }
  console.log("");
  if (rows.length > 1) print(rows);
  console.log(`\nAgainst the targets\n${verdicts.join("\n")}`);
  if (flags.quick) return 0;
  await Deno.writeTextFile(path, JSON.stringify(record, undefined, 1) + "\n");
  console.log(`\nwritten: bench/results/${day}-neighsync.json`);
  return 0;
}

async function earlier(path: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch {
    return {};
  }
}

Deno.exitCode = await main();
