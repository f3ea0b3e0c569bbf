/**
 * The proxy beside microsocks, haproxy and shadowsocks-libev: loopback, one run, taking turns (A B A B …).
 *
 * One client and one destination for all of them (`proxy_ends.ts`, `proxy_far_end.ts`), so that the proxy is what
 * differs. Every byte is compared with what it must be, at both ends, while the clock runs. haproxy is configured as it
 * comes and has no handshake to make. Processor time is that of the proxy's processes with all their threads.
 *
 * `deno task bench:proxy [--rounds N] [--quick] [--only relay|relay8|shadowsocks|latency|connections|memory|whole]`;
 * writes `bench/results/DATE-proxy.json`, with `--only` that part of it, with `--quick` nothing.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { commit, machine, percentile, print, type Spread, spread, untilLine } from "./harness.ts";
import { type Load, NearEnd } from "./proxy_ends.ts";
import {
  direct,
  haproxy,
  libevShadowsocks,
  microsocks,
  ownShadowsocks,
  ownSocks,
  type Subject,
} from "./proxy_subjects.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    quick: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const ROUNDS = flags.quick ? 2 : Number(flags.rounds);
const SHARE = flags.quick ? 0.2 : 1;
const GB = 1e9;

/** One transfer through one proxy. */
interface Sample {
  readonly gigabytesPerSecond: number;
  readonly cpuSecondsPerGigabyte: number;
}

const verdicts: string[] = [];

function verdict(what: string, value: number, met: boolean, target: string): void {
  verdicts.push(`${met ? "met   " : "MISSED"}  ${what}: ${value.toFixed(2)} (target ${target})`);
}

/** At least, or at most, a target. */
function compare(what: string, value: number, sign: ">=" | "<=", target: number): void {
  verdict(what, value, sign === ">=" ? value >= target : value <= target, `${sign} ${target}`);
}

/** Moves the same through every subject, by turns; a first round that is not counted warms all of them. */
function race(
  near: NearEnd,
  subjects: readonly Subject[],
  direction: "down" | "up",
  streams: number,
  bytes: number,
): Record<string, Sample[]> {
  const results: Record<string, Sample[]> = {};
  for (let round = -1; round < ROUNDS; round++) {
    for (const { name, way, cpuSeconds } of subjects) {
      // What is slow tells as much with less.
      const share = /portable|microsocks/.test(name) ? SLOW_SHARE : 1;
      const total = Math.floor(bytes * share * (round < 0 ? WARM_SHARE : 1) / streams);
      const loads: Load[] = Array.from(
        { length: streams },
        (_, i) => ({ way, direction, bytes: total, position: i * 77_777 }),
      );
      const before = cpuSeconds();
      const seconds = near.move(loads);
      const cpu = cpuSeconds() - before;
      if (round < 0) continue;
      const moved = total * streams / GB;
      (results[name] ??= []).push({
        gigabytesPerSecond: moved / seconds,
        cpuSecondsPerGigabyte: cpu / moved,
      });
    }
  }
  return results;
}

function speed(samples: readonly Sample[] | undefined): Spread {
  return spread((samples ?? []).map((one) => one.gigabytesPerSecond));
}

function cost(samples: readonly Sample[] | undefined): Spread {
  return spread((samples ?? []).map((one) => one.cpuSecondsPerGigabyte));
}

function table(title: string, results: Readonly<Record<string, readonly Sample[]>>): void {
  console.log(`\n${title}; median (lowest–highest)`);
  print([
    ["", "GB/s", "proxy CPU-s/GB", "n"],
    ...Object.entries(results).map(([name, samples]) => [
      name,
      shown(speed(samples)),
      shown(cost(samples)),
      `${samples.length}`,
    ]),
  ]);
}

function shown({ median, min, max }: Spread, digits = 2): string {
  const text = (value: number): string => value.toFixed(digits);
  return `${text(median)} (${text(min)}–${text(max)})`;
}

/** Ours against the better of haproxy's two settings. */
function judgeRelay(what: string, results: Readonly<Record<string, readonly Sample[]>>): void {
  const ours = results["ours"];
  for (const name of ["haproxy", "haproxy, splice", "microsocks"]) {
    if (results[name] === undefined) continue;
    const ratio = speed(ours).median / speed(results[name]).median;
    compare(`${what}, throughput over ${name}'s`, ratio, ">=", 1);
    if (name === "microsocks") continue;
    const share = cost(ours).median / cost(results[name]).median;
    compare(`${what}, CPU per GB over ${name}'s`, share, "<=", 0.6);
  }
  const share = speed(ours).median / speed(results["direct"]).median;
  compare(`${what}, throughput over no proxy at all (an aim)`, share, ">=", 0.55);
}

function plain(farPort: number): Opening[] {
  return [
    () => direct(farPort),
    () => ownSocks(farPort),
    () => microsocks(farPort),
    () => haproxy(farPort, false),
    () => haproxy(farPort, true),
  ];
}

function relayOf(streams: number): Part {
  return (near, farPort) =>
    withSubjects([
      ...plain(farPort),
      ...(streams === 1 ? [() => ownSocks(farPort, "portable")] : []),
    ], (subjects) => {
      const results: Record<string, Record<string, Sample[]>> = {};
      for (const direction of ["down", "up"] as const) {
        const what = `plain relay, ${
          streams === 1 ? "one stream" : `${streams} streams`
        } ${direction}`;
        results[direction] = race(near, subjects, direction, streams, GB * SHARE);
        table(what, results[direction]);
        judgeRelay(what, results[direction]);
      }
      return results;
    });
}

const shadowsocks: Part = (near, farPort) =>
  withSubjects([() => ownShadowsocks(farPort), () => libevShadowsocks(farPort)], (subjects) => {
    const results: Record<string, Record<string, Sample[]>> = {};
    for (const streams of [1, 8]) {
      for (const direction of ["down", "up"] as const) {
        const what = `shadowsocks aes-256-gcm, ${streams} × ${direction}`;
        const raced = race(near, subjects, direction, streams, GB * SHARE * 0.4);
        results[`${direction} ${streams}`] = raced;
        table(what, raced);
        const [ours, libev] = [raced["our shadowsocks pair"], raced["ss-libev pair"]];
        if (libev === undefined) continue;
        const ratio = speed(ours).median / speed(libev).median;
        compare(`${what}, throughput over ss-libev's`, ratio, ">=", 1.6);
        compare(`${what}, CPU-s per GB of the pair`, cost(ours).median, "<=", 2);
      }
    }
    return results;
  });

const latency: Part = (near, farPort) =>
  withSubjects(plain(farPort), (subjects) => {
    const samples: Record<string, number[]> = {};
    const count = flags.quick ? 500 : 2000;
    for (let round = -1; round < ROUNDS; round++) {
      for (const { name, way } of subjects) {
        const some = near.exchange(way, 64, count);
        if (round >= 0) (samples[name] ??= []).push(...some);
      }
    }
    const results = Object.fromEntries(
      Object.entries(samples).map(([name, all]) => [name, quantiles(all)]),
    );
    quantileTable("64 bytes there and back, µs", results);
    for (const name of ["haproxy", "haproxy, splice"]) {
      if (results[name] === undefined) continue;
      const share = results["ours"]!.p95 / results[name].p95;
      compare(`P95 of 64 bytes over ${name}'s (the seed's: ≤ 110 %)`, share, "<=", 1.1);
    }
    return results;
  });

const connections: Part = (near, farPort) =>
  withSubjects(plain(farPort), (subjects) => {
    const rates: Record<string, number[]> = {};
    const single: Record<string, number[]> = {};
    const cpu: Record<string, number[]> = {};
    const count = flags.quick ? 500 : 3000;
    for (let round = -1; round < ROUNDS; round++) {
      for (const { name, way, cpuSeconds } of subjects) {
        const before = cpuSeconds();
        const { seconds } = near.connections(way, count, 32);
        const used = cpuSeconds() - before;
        const { milliseconds } = near.connections(way, count / 10, 1);
        if (round < 0) continue;
        (rates[name] ??= []).push(count / seconds);
        (cpu[name] ??= []).push(used / count * 1e6);
        (single[name] ??= []).push(...milliseconds.map((value) => value * 1000));
      }
    }
    console.log("\nConnections, 32 at a time, one byte there and back");
    print([
      ["", "a second", "proxy CPU µs each"],
      ...Object.keys(rates).map((name) => [
        name,
        shown(spread(rates[name]!), 0),
        shown(spread(cpu[name]!), 0),
      ]),
    ]);
    const times = Object.fromEntries(
      Object.entries(single).map(([name, all]) => [name, quantiles(all)]),
    );
    quantileTable("One connection at a time, to the first byte back, µs", times);
    const ours = spread(rates["ours"]!).median;
    if (rates["microsocks"] !== undefined) {
      const share = ours / spread(rates["microsocks"]).median;
      compare("new connections a second over microsocks'", share, ">=", 0.8);
    }
    const worst = times["ours"]!.p99 / 1000;
    compare("connection time p99, ms (the seed's: < 500)", worst, "<=", 500);
    return { rates, cpu, times };
  });

const memory: Part = (near, farPort) =>
  withSubjects(plain(farPort), async (subjects) => {
    const results: Record<
      string,
      { readonly before: number; readonly during: number; readonly anonymous: number }
    > = {};
    for (const { name, way, residentBytes, anonymousBytes } of subjects) {
      if (name === "direct") continue;
      // What the first connection loads is not what connections cost.
      near.connections(way, 50, 1);
      const before = residentBytes() / 1e6;
      const close = near.idle(way, 1000);
      // Its own clean-up of the handshakes may run first.
      await new Promise((resolve) => setTimeout(resolve, 500));
      results[name] = {
        before,
        during: residentBytes() / 1e6,
        anonymous: anonymousBytes() / 1e6,
      };
      close();
      near.host.turn(0);
    }
    console.log("\nResident memory, MB");
    print([
      ["", "after 50 connections", "with 1,000 idle", "difference", "anonymous"],
      ...Object.entries(results).map(([name, { before, during, anonymous }]) => [
        name,
        before.toFixed(1),
        during.toFixed(1),
        (during - before).toFixed(1),
        anonymous.toFixed(1),
      ]),
    ]);
    const { before, during } = results["ours"]!;
    compare("1,000 idle connections, MB in all", during, "<=", 90);
    compare("MB per 1,000 connections (the seed's: < 100)", during - before, "<=", 100);
    return results;
  });

const whole: Part = (near, farPort) =>
  withSubjects([() => ownSocks(farPort)], (subjects) => {
    const [{ way }] = subjects as [Subject];
    const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
    const random = generator(seed);
    const load = (most: number): Load => ({
      way,
      direction: random() < 0.5 ? "down" : "up",
      bytes: 1 + Math.floor(random() ** 4 * most),
      position: Math.floor(random() * 1e9),
    });
    console.log(`\nseed ${seed}`);
    const sequence = flags.quick ? 1000 : 10_000;
    let bytes = 0;
    let seconds = 0;
    for (let i = 0; i < sequence; i++) {
      const one = load(1_000_000);
      bytes += one.bytes;
      seconds += near.move([one]);
    }
    console.log(`${sequence} relays in sequence, ${(bytes / GB).toFixed(2)} GB, all bytes right`);
    verdict("relays in sequence without a wrong byte", sequence, true, "10000");
    const loads = Array.from({ length: 500 }, () => load(8_000_000));
    const together = near.move(loads);
    const all = loads.reduce((sum, one) => sum + one.bytes, 0);
    console.log(`500 at once, ${(all / GB).toFixed(2)} GB, all bytes right`);
    verdict("relays at once without a wrong byte", 500, true, "500");
    compare("500 at once, seconds", together, "<=", 10);
    return {
      seed,
      sequence: { relays: sequence, bytes, seconds },
      atOnce: { relays: 500, bytes: all, seconds: together },
    };
  });

interface Quantiles {
  readonly p50: number;
  readonly p95: number;
  readonly p99: number;
}

function quantiles(values: readonly number[]): Quantiles {
  return {
    p50: percentile(values, 0.5),
    p95: percentile(values, 0.95),
    p99: percentile(values, 0.99),
  };
}

function quantileTable(title: string, results: Readonly<Record<string, Quantiles>>): void {
  console.log(`\n${title}`);
  print([
    ["", "p50", "p95", "p99"],
    ...Object.entries(results).map(([name, { p50, p95, p99 }]) => [
      name,
      ...[p50, p95, p99].map((value) => value.toFixed(0)),
    ]),
  ]);
}

/** Numbers from 0 to 1, the same for a seed. */
function generator(seed: number): () => number {
  let state = seed | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

/** Part of the bench. */
type Part = (near: NearEnd, farPort: number) => Promise<unknown>;

/** Starts what is measured. */
type Opening = () => Subject | undefined | Promise<Subject | undefined>;

async function withSubjects<T>(
  openings: readonly Opening[],
  body: (subjects: readonly Subject[]) => T | Promise<T>,
): Promise<T> {
  const subjects: Subject[] = [];
  try {
    for (const open of openings) {
      const one = await open();
      if (one !== undefined) subjects.push(one);
    }
    return await body(subjects);
  } finally {
    for (const subject of subjects) await subject.stop();
  }
}

const PARTS: Readonly<Record<string, Part>> = {
  relay: relayOf(1),
  relay8: relayOf(8),
  shadowsocks,
  latency,
  connections,
  memory,
  whole,
};

async function main(): Promise<number> {
  const wanted = Object.keys(PARTS).filter((name) =>
    flags.only === undefined || flags.only === name
  );
  if (wanted.length === 0) {
    console.error(`Nothing is called ${flags.only}: ${Object.keys(PARTS).join(", ")}`);
    return 2;
  }
  const day = new Date().toISOString().slice(0, 10);
  const path = new URL(`../results/${day}-proxy.json`, import.meta.url).pathname;
  const record = flags.only === undefined ? {} : await earlier(path);
  const far = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--no-check",
      "--cached-only",
      new URL("proxy_far_end.ts", import.meta.url).pathname,
    ],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
  }).spawn();
  try {
    const farPort = Number((await untilLine(far.stderr, /port \d+/)).slice(5));
    for (const name of wanted) {
      await using near = await NearEnd.open();
      const results = await PARTS[name]!(near, farPort);
      record[name] = { commit: commit(), machine: machine(), rounds: ROUNDS, results };
    }
  } finally {
    far.kill("SIGKILL");
    await far.status;
  }
  console.log(`\nAgainst the targets\n${verdicts.join("\n")}`);
  if (flags.quick) return 0;
  await Deno.writeTextFile(path, JSON.stringify(record, undefined, 2) + "\n");
  console.log(`\nwritten: bench/results/${day}-proxy.json`);
  return 0;
}

async function earlier(path: string): Promise<Record<string, unknown>> {
  try {
    return JSON.parse(await Deno.readTextFile(path));
  } catch {
    return {};
  }
}

/** What the portable driver and microsocks move, of what the others do. */
const SLOW_SHARE = 0.25;
/** What the round that is not counted moves. */
const WARM_SHARE = 0.2;

Deno.exitCode = await main();
