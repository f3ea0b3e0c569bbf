/**
 * How fast TFTP servers are, side by side: ours against the C servers of Debian, on loopback, in one run.
 *
 * One client process fetches for all of them, so that the server is what differs: ours (`tftp_client.ts`), into memory,
 * the SHA-256 compared with the original's after the clock stopped. Servers take turns (A B C A B C …); a first round
 * that is not counted warms all of them. CPU is the server's own, with its children, from the kernel's accounts.
 *
 * `deno task bench:tftp [--rounds N] [--quick] [--only NAME]`; writes `bench/results/DATE-tftp.json`.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { PEERS, programOf } from "../peers/tftp_servers.ts";
import {
  commit,
  fileHash,
  machine,
  print,
  type Running,
  type Spread,
  spread,
  start,
  untilBound,
  untilLine,
} from "./harness.ts";
import { Client } from "./tftp_client.ts";
import { firstReplies, manyClients } from "./tftp_probes.ts";
import { callsPerMegabyte } from "./tftp_syscalls.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "5" },
    quick: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const ROUNDS = flags.quick ? 2 : Number(flags.rounds);
const MB = 1_000_000;
const HOST = "127.0.0.1";
const cli = new URL("../../tftp/mod.ts", import.meta.url).pathname;

/** A server that is measured. */
interface Subject {
  readonly name: string;
  readonly windows: boolean;
  readonly port: number;
  readonly process: Running;
}

/** What is fetched, and how. */
interface Case {
  readonly block: number;
  readonly window: number;
  readonly bytes: number;
  readonly rounds: number;
}

/** One transfer. */
interface Sample {
  readonly megabytesPerSecond: number;
  readonly cpuSecondsPerGigabyte: number;
  readonly clientCpuSecondsPerGigabyte: number;
  readonly retransmits: number;
  readonly timeouts: number;
}

const CASES: readonly Case[] = [
  { block: 1428, window: 1, bytes: 60 * MB, rounds: ROUNDS },
  { block: 1428, window: 16, bytes: 240 * MB, rounds: ROUNDS },
  { block: 1428, window: 64, bytes: 240 * MB, rounds: ROUNDS },
  { block: 512, window: 16, bytes: 60 * MB, rounds: Math.min(3, ROUNDS) },
  { block: 8192, window: 16, bytes: 240 * MB, rounds: Math.min(3, ROUNDS) },
  { block: 65464, window: 16, bytes: 480 * MB, rounds: Math.min(3, ROUNDS) },
];

const SIZES = [...new Set(CASES.map((one) => one.bytes))];

async function main(): Promise<number> {
  const folder = await Deno.makeTempDir(memoryFolder());
  const root = `${folder}/root`;
  await Deno.mkdir(root);
  await Deno.chmod(folder, 0o755);
  await Deno.chmod(root, 0o755);
  const subjects: Subject[] = [];
  let client: Client | undefined;
  try {
    const hashes = new Map<number, string>();
    for (const bytes of SIZES) hashes.set(bytes, await makeFile(`${root}/${bytes}`, bytes));
    await makeFile(`${root}/small`, 1000);
    await makeFile(`${root}/10m`, 10 * MB);
    subjects.push(...await startAll(root));
    client = Client.start(Math.max(...SIZES));
    const results = await throughput(subjects, client, hashes);
    const ours = subjects[0]!;
    const replies = await firstReplies(subjects.map(({ name, port }) => ({ name, port })), HOST);
    const clients = await manyClients(ours.port, HOST, await fileHash(`${root}/10m`));
    const calls = await callsPerMegabyte(
      subjects.filter((subject) => subject.windows && !subject.name.includes("portable")),
      (subject, window) =>
        fetch(subject, { block: 1428, window, bytes: 60 * MB, rounds: 1 }, client!, hashes),
      60,
    );
    report(subjects, results, replies, clients, calls);
    const record = {
      scenario: "tftp_throughput",
      commit: commit(),
      machine: machine(),
      results: [...results].map(([key, samples]) => ({ key, samples })),
      replies,
      clients,
      calls,
    };
    const day = new Date().toISOString().slice(0, 10);
    const path = new URL(`../results/${day}-tftp.json`, import.meta.url).pathname;
    await Deno.writeTextFile(path, JSON.stringify(record, undefined, 1) + "\n");
    console.log(`\nwritten: bench/results/${day}-tftp.json`);
    return 0;
  } finally {
    await client?.stop();
    for (const { process } of subjects) await process.stop();
    await Deno.remove(folder, { recursive: true });
  }
}

/** Files live in memory where that is possible: the disk is not what is measured. */
function memoryFolder(): { readonly dir?: string } {
  try {
    return Deno.statSync("/dev/shm").isDirectory ? { dir: "/dev/shm" } : {};
  } catch {
    return {};
  }
}

async function makeFile(path: string, bytes: number): Promise<string> {
  using file = await Deno.open(path, { create: true, write: true });
  const chunk = new Uint8Array(1 << 20);
  for (let left = bytes; left > 0;) {
    for (let at = 0; at < chunk.length; at += 65536) {
      crypto.getRandomValues(chunk.subarray(at, at + 65536));
    }
    const part = chunk.subarray(0, Math.min(left, chunk.length));
    left -= await file.write(part);
  }
  return await fileHash(path);
}

async function startAll(root: string): Promise<Subject[]> {
  const subjects: Subject[] = [];
  let port = 20_069 + Math.floor(Math.random() * 10_000);
  const ours = [["ours", "fast"], ["ours (portable)", "portable"]] as const;
  for (const [name, driver] of ours) {
    if (flags.only !== undefined && flags.only !== name && name !== "ours") continue;
    const own = port++;
    const args = ["serve", root, "--listen", `${HOST}:${own}`, "--driver", driver, "-q"];
    const process = await start(
      Deno.execPath(),
      ["run", "-A", "--no-check", cli, ...args],
      async (stderr) => void await untilLine(stderr, /listening udp/),
    );
    subjects.push({ name, windows: true, port: own, process });
  }
  for (const row of PEERS) {
    const program = programOf(row);
    if (flags.only !== undefined && flags.only !== row.name) continue;
    if (program === undefined || (!row.anyPort && Deno.uid() !== 0)) {
      console.log(
        `left out: ${row.name} (${program === undefined ? "not installed" : "needs root"})`,
      );
      continue;
    }
    const own = row.anyPort ? port++ : 69;
    const process = await start(program, row.args(root, HOST, own), async (stderr) => {
      void stderr.pipeTo(new WritableStream());
      await untilBound(own);
    });
    subjects.push({ name: row.name, windows: row.windows, port: own, process });
  }
  return subjects;
}

async function throughput(
  subjects: readonly Subject[],
  client: Client,
  hashes: ReadonlyMap<number, string>,
): Promise<Map<string, Sample[]>> {
  const results = new Map<string, Sample[]>();
  for (const one of CASES) {
    const able = subjects.filter((subject) => subject.windows || one.window === 1);
    for (let round = -1; round < one.rounds; round++) {
      for (const subject of able) {
        // The portable driver is shown, not raced: a smaller file tells as much.
        const portable = subject.name.includes("portable");
        if (portable && (round > 1 || one.block !== 1428)) continue;
        const key = `${one.block}/${one.window}/${subject.name}`;
        const job = portable ? { ...one, bytes: 60 * MB } : one;
        const sample = await fetch(subject, job, client, hashes);
        if (round >= 0) results.set(key, [...results.get(key) ?? [], sample]);
      }
    }
    console.error(`measured: block ${one.block}, window ${one.window}`);
  }
  return results;
}

/** Fetches one file with the client and checks it. */
async function fetch(
  subject: Subject,
  job: Case,
  client: Client,
  hashes: ReadonlyMap<number, string>,
): Promise<Sample> {
  const before = subject.process.cpuSeconds();
  const result = await client.fetch({
    server: `${HOST}:${subject.port}`,
    name: `${job.bytes}`,
    blockSize: job.block,
    windowSize: job.window,
  });
  const cpu = subject.process.cpuSeconds() - before;
  if (result.error !== undefined) throw new Error(`${subject.name}: ${result.error}`);
  if (result.blockSize !== job.block || result.windowSize !== job.window) {
    throw new Error(
      `${subject.name} agreed to ${result.blockSize}/${result.windowSize} instead of ${job.block}/${job.window}`,
    );
  }
  if (result.sha256 !== hashes.get(job.bytes)) throw new Error(`${subject.name} sent other bytes`);
  return {
    megabytesPerSecond: result.bytes / result.durationMs / 1000,
    cpuSecondsPerGigabyte: cpu / (result.bytes / 1e9),
    clientCpuSecondsPerGigabyte: result.cpuSeconds / (result.bytes / 1e9),
    retransmits: result.retransmits,
    timeouts: result.timeouts,
  };
}

function report(
  subjects: readonly Subject[],
  results: ReadonlyMap<string, readonly Sample[]>,
  replies: Readonly<Record<string, { readonly p50: number; readonly p99: number }>>,
  clients: readonly {
    readonly window: number;
    readonly megabytesPerSecond: number;
    readonly timeouts: number;
  }[],
  calls: Readonly<Record<string, number>>,
): void {
  const number = (value: number, digits = 0): string => value.toFixed(digits);
  const shown = (one: Spread, digits = 0): string =>
    `${number(one.median, digits)} (${number(one.min, digits)}–${number(one.max, digits)})`;
  const rows = [[
    "block",
    "window",
    "server",
    "MB/s",
    "server CPU-s/GB",
    "client CPU-s/GB",
    "repeated",
    "n",
  ]];
  for (const one of CASES) {
    for (const { name } of subjects) {
      const samples = results.get(`${one.block}/${one.window}/${name}`);
      if (samples === undefined) continue;
      rows.push([
        `${one.block}`,
        `${one.window}`,
        name,
        shown(spread(samples.map((sample) => sample.megabytesPerSecond))),
        // in.tftpd lets the kernel bury its children, and their time with them.
        samples.every((sample) => sample.cpuSecondsPerGigabyte === 0)
          ? "not told"
          : shown(spread(samples.map((sample) => sample.cpuSecondsPerGigabyte)), 2),
        shown(spread(samples.map((sample) => sample.clientCpuSecondsPerGigabyte)), 2),
        `${samples.reduce((sum, sample) => sum + sample.retransmits, 0)}`,
        `${samples.length}`,
      ]);
    }
  }
  console.log("\nThroughput, hash-checked; median (lowest–highest)");
  print(rows);
  console.log("\nFirst reply to a request with options, µs");
  print([
    ["server", "p50", "p99"],
    ...Object.entries(replies).map(([name, { p50, p99 }]) => [name, number(p50), number(p99)]),
  ]);
  console.log("\n50 clients × 10 MB at once, hash-checked");
  print([
    ["window", "MB/s", "timeouts"],
    ...clients.map((one) => [
      `${one.window}`,
      number(one.megabytesPerSecond),
      `${one.timeouts}`,
    ]),
  ]);
  console.log("\nSystem calls of the server per MB of payload, block 1428 (strace -c)");
  print([
    ["server/window", "calls"],
    ...Object.entries(calls).map(([key, value]) => [key, number(value)]),
  ]);
  console.log("\nAgainst the targets");
  const median = (block: number, window: number, name: string): Spread | undefined => {
    const samples = results.get(`${block}/${window}/${name}`);
    return samples && spread(samples.map((sample) => sample.megabytesPerSecond));
  };
  const cpu = (window: number, name: string): number => {
    const samples = results.get(`1428/${window}/${name}`) ?? [];
    return samples.length === 0
      ? NaN
      : spread(samples.map((sample) => sample.cpuSecondsPerGigabyte)).median;
  };
  const verdict = (what: string, value: number, met: boolean, target: string): void =>
    console.log(`${met ? "met   " : "MISSED"}  ${what}: ${value.toFixed(2)} (target ${target})`);
  const peers = subjects.filter(({ name }) => !name.startsWith("ours")).map(({ name }) => name);
  const best = Math.max(...peers.map((name) => median(1428, 1, name)?.median ?? 0));
  const w1 = median(1428, 1, "ours")!.median / best;
  verdict("window 1, times the best C server", w1, w1 >= 1, "1.0");
  for (const [window, target] of [[16, 4], [64, 5]] as const) {
    const ratio = median(1428, window, "ours")!.median /
      (median(1428, window, "atftpd")?.median ?? NaN);
    verdict(`window ${window}, times atftpd`, ratio, ratio >= target, `${target}`);
    const share = cpu(window, "ours") / cpu(window, "atftpd");
    verdict(`window ${window}, CPU per GB over atftpd's`, share, share <= 1 / 3, "0.33");
    const made = calls[`ours/${window}`] ?? NaN;
    const limit = window === 16 ? 150 : 60;
    verdict(`window ${window}, system calls per MB`, made, made <= limit, `${limit}`);
  }
  const p50 = replies["ours"]!.p50;
  verdict("first reply p50, µs", p50, p50 <= 150, "150");
  const pair = median(1428, 64, "ours")!.median;
  verdict("our client and server at window 64, MB/s", pair, pair >= 500, "500");
  const late = clients.reduce((sum, one) => sum + one.timeouts, 0);
  verdict("timeouts of 50 clients", late, late === 0, "0");
}

Deno.exitCode = await main();
