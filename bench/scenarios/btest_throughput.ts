/**
 * How fast the bandwidth test is, beside iperf3: both on loopback, in one run, taking turns (A B A B …).
 *
 * Ours are a server and clients as separate processes, started as a user starts them. Numbers are what the receiver
 * counted, checked against the sender's, the datagrams' own and the kernel's (`btest_sides.ts`). Processor time is that
 * of whole processes, their start included.
 *
 * `deno task bench:btest [--rounds N] [--quick] [--only tcp|udp|rates|start|drivers]`; writes
 * `bench/results/DATE-btest.json`, with `--only` that part of it, with `--quick` nothing.
 *
 * @module
 */
import { parseArgs } from "node:util";
import { contents, joinLatency } from "./btest_probes.ts";
import { type Case, Iperf, OurServer, RAMP_MS, type Sample, type Server } from "./btest_sides.ts";
import { commit, machine, print, type Spread, spread } from "./harness.ts";

const { values: flags } = parseArgs({
  options: {
    rounds: { type: "string", default: "3" },
    quick: { type: "boolean", default: false },
    only: { type: "string" },
  },
});
const ROUNDS = flags.quick ? 1 : Number(flags.rounds);
const TCP_SECONDS = flags.quick ? 2 : 3;
/** The rate is found within four seconds; what is measured are those after. */
const UDP_SECONDS = flags.quick ? 5 : 6;

const TCP: readonly Case[] = [
  { name: "tcp receive", protocol: "tcp", direction: "receive", connections: 1 },
  { name: "tcp transmit", protocol: "tcp", direction: "transmit", connections: 1 },
  { name: "tcp receive × 4", protocol: "tcp", direction: "receive", connections: 4 },
  { name: "tcp transmit × 4", protocol: "tcp", direction: "transmit", connections: 4 },
  { name: "tcp both", protocol: "tcp", direction: "both", connections: 1 },
].map((one) => ({ ...one, seconds: TCP_SECONDS } as Case));
const UDP: readonly Case[] = [
  { name: "udp receive", protocol: "udp", direction: "receive", connections: 1 },
  { name: "udp transmit", protocol: "udp", direction: "transmit", connections: 1 },
  { name: "udp both", protocol: "udp", direction: "both", connections: 1 },
].map((one) => ({ ...one, seconds: UDP_SECONDS } as Case));

const verdicts: string[] = [];

/** Says whether a target is met. */
function verdict(what: string, value: number, met: boolean, target: string): void {
  verdicts.push(`${met ? "met   " : "MISSED"}  ${what}: ${value.toFixed(2)} (target ${target})`);
}

/** Both servers' samples of each case, by turns. */
async function race(
  cases: readonly Case[],
  ours: Server,
  iperf: Server | undefined,
): Promise<Record<string, { readonly ours: Sample[]; readonly iperf3: Sample[] }>> {
  const results: Record<string, { readonly ours: Sample[]; readonly iperf3: Sample[] }> = {};
  for (const one of cases) {
    const row: { readonly ours: Sample[]; readonly iperf3: Sample[] } = { ours: [], iperf3: [] };
    results[one.name] = row;
    for (let round = 0; round < ROUNDS; round++) {
      row.ours.push(await ours.run(one));
      // There is no rate to be found: as many seconds as are measured of ours.
      const seconds = one.protocol === "udp" ? one.seconds - RAMP_MS / 1000 : one.seconds;
      if (iperf !== undefined) row.iperf3.push(await iperf.run({ ...one, seconds }));
    }
    console.error(`measured: ${one.name}`);
  }
  return results;
}

function gigabits(sample: Sample): number {
  return sample.gbps;
}

function of(samples: readonly Sample[], value: (sample: Sample) => number): Spread {
  return spread(samples.map(value));
}

function shown({ median, min, max }: Spread, digits = 1): string {
  const text = (value: number): string => value.toFixed(digits);
  return min === max ? text(median) : `${text(median)} (${text(min)}–${text(max)})`;
}

function table(
  results: Readonly<Record<string, { readonly ours: Sample[]; readonly iperf3: Sample[] }>>,
): void {
  const rows = [["", "Gbit/s", "loss %", "client CPU-s/GB", "server CPU-s/GB", "n"]];
  for (const [name, sides] of Object.entries(results)) {
    for (const [side, samples] of Object.entries(sides)) {
      if (samples.length === 0) continue;
      rows.push([
        `${name}, ${side}`,
        shown(of(samples, gigabits)),
        shown(of(samples, (sample) => sample.lossPercent), 2),
        shown(of(samples, (sample) => sample.clientCpuPerGigabyte), 2),
        shown(of(samples, (sample) => sample.serverCpuPerGigabyte), 2),
        `${samples.length}`,
      ]);
    }
  }
  console.log("");
  print(rows);
}

async function tcp(ours: OurServer, iperf: Iperf | undefined): Promise<unknown> {
  await contents(ours.port, 100_000_000, async () => (await ours.told("tcp transmit")).at(-1)!);
  await ours.told("tcp receive");
  await ours.told("tcp receive");
  const results = await race(TCP, ours, iperf);
  table(results);
  for (const [name, { ours, iperf3 }] of Object.entries(results)) {
    if (iperf3.length > 0) {
      const ratio = of(ours, gigabits).median / of(iperf3, gigabits).median;
      verdict(`${name}, times iperf3`, ratio, ratio >= 1, "1.0");
    }
    if (name !== "tcp both") continue;
    const share = of(ours, (one) => 100 * Math.min(one.toClient, one.toServer) / one.gbps).median;
    verdict(`${name}, smaller direction, % of the sum`, share, share >= 25, "25");
  }
  return results;
}

async function udp(ours: OurServer, iperf: Iperf | undefined): Promise<unknown> {
  const results = await race(UDP, ours, iperf);
  table(results);
  for (const [name, { ours, iperf3 }] of Object.entries(results)) {
    const gbps = of(ours, gigabits).median;
    if (iperf3.length > 0) {
      const ratio = gbps / of(iperf3, gigabits).median;
      verdict(`${name}, times iperf3`, ratio, ratio >= 3, "3.0");
    }
    verdict(`${name}, Gbit/s`, gbps, gbps >= 20, "20");
    const loss = of(ours, (one) => one.lossPercent).median;
    verdict(`${name}, loss %`, loss, loss <= 1, "1");
    const ramp = of(ours, (one) => one.rampMs!).median / 1000;
    verdict(`${name}, 90 % of the plateau after s`, ramp, ramp <= RAMP_MS / 1000, "4");
  }
  return results;
}

/** How far what arrived in five seconds is from what was asked for, percent. */
async function rates(ours: OurServer): Promise<unknown> {
  const rows = [["", "1M", "100M", "1G"]];
  const errors: Record<string, Record<string, readonly number[]>> = {};
  let worst = 0;
  const cases = (["tcp", "udp"] as const).flatMap((protocol) =>
    (["receive", "transmit", "both"] as const).map((direction) => ({ protocol, direction }))
  );
  const measure = async ({ protocol, direction }: typeof cases[number], rate: string) => {
    const told = await ours.test([
      ...["--protocol", protocol, "--direction", direction, "--duration", "5s"],
      ...["--local-rate", rate, "--remote-rate", rate],
    ]);
    const wanted = Number(rate.replace("M", "e6").replace("G", "e9"));
    const [client, server] = [told.client.at(-1)!, told.server.at(-1)!];
    const found: number[] = [];
    for (const [end, receives] of [[client, "transmit"], [server, "receive"]] as const) {
      if (direction === receives) continue;
      const bps = end.rx_bytes * 8000 / client.duration_ms;
      found.push(100 * (bps / wanted - 1));
    }
    (errors[`${protocol} ${direction}`] ??= {})[rate] = found;
    for (const one of found) worst = Math.max(worst, Math.abs(one));
  };
  for (const rate of ["1M", "100M"]) await Promise.all(cases.map((one) => measure(one, rate)));
  for (const one of cases) {
    // One at a time: together they would ask for more than two processors have.
    if (!flags.quick || one.direction === "both") await measure(one, "1G");
  }
  for (const [name, row] of Object.entries(errors)) {
    const text = (rate: string): string =>
      row[rate]?.map((one) => `${one >= 0 ? "+" : ""}${one.toFixed(2)}`).join(" ") ?? "";
    rows.push([name, text("1M"), text("100M"), text("1G")]);
  }
  console.log("\nWhat arrived in 5 s against the limit, percent (to the client, to the server)");
  print(rows);
  verdict("rate limits, worst error %", worst, worst <= 2, "2");
  return errors;
}

async function startUp(ours: OurServer): Promise<unknown> {
  const latencies: Record<string, { readonly p50: number; readonly p99: number }> = {};
  for (const connections of [4, 20]) {
    const tests = flags.quick ? 40 : 200;
    latencies[connections] = await joinLatency(ours.port, connections, tests);
  }
  console.log("\nLast join to first data, µs");
  print([
    ["connections", "p50", "p99"],
    ...Object.entries(latencies).map((
      [name, { p50, p99 }],
    ) => [name, p50.toFixed(0), p99.toFixed(0)]),
  ]);
  for (const [connections, { p50, p99 }] of Object.entries(latencies)) {
    verdict(`join to data, ${connections} connections, p50 ms`, p50 / 1000, p50 <= 1000, "1");
    verdict(`join to data, ${connections} connections, p99 ms`, p99 / 1000, p99 <= 5000, "5");
  }
  return latencies;
}

/** The portable driver beside the kernel's, each receiving from the fast server. */
async function drivers(ours: OurServer): Promise<unknown> {
  const results: Record<string, { readonly fast: Sample[]; readonly portable: Sample[] }> = {};
  // What the portable driver cannot take is lost, and tells nothing of what it costs.
  for (const [name, extra] of [["tcp", []], ["udp", ["--remote-rate", "300M"]]] as const) {
    const one: Case = {
      name: `${name} receive`,
      protocol: name,
      direction: "receive",
      connections: 1,
      // Long enough that the start of a process does not count.
      seconds: flags.quick && name === "udp" ? 3 : 5,
    };
    const row: { readonly fast: Sample[]; readonly portable: Sample[] } = {
      fast: [],
      portable: [],
    };
    for (let round = 0; round < Math.min(3, ROUNDS); round++) {
      for (const driver of ["fast", "portable"] as const) {
        row[driver].push(await ours.run(one, ["--driver", driver, ...extra]));
      }
    }
    results[one.name] = row;
    const cpu = (samples: readonly Sample[]): number =>
      of(samples, (sample) => sample.clientCpuPerGigabyte).median;
    const share = cpu(row.fast) / cpu(row.portable);
    verdict(`${one.name}, CPU per GB, fast over portable`, share, share <= 1 / 3, "0.33");
  }
  const rows = [["client", "Gbit/s", "loss %", "client CPU-s/GB"]];
  for (const [name, sides] of Object.entries(results)) {
    for (const [driver, samples] of Object.entries(sides)) {
      rows.push([
        `${name}, ${driver}`,
        shown(of(samples, gigabits)),
        shown(of(samples, (sample) => sample.lossPercent), 2),
        shown(of(samples, (sample) => sample.clientCpuPerGigabyte), 3),
      ]);
    }
  }
  console.log("");
  print(rows);
  return results;
}

const PARTS = { tcp, udp, rates, start: startUp, drivers } as const;

async function main(): Promise<number> {
  const names = Object.keys(PARTS) as (keyof typeof PARTS)[];
  const wanted = names.filter((name) => flags.only === undefined || flags.only === name);
  if (wanted.length === 0) {
    console.error(`Nothing is called ${flags.only}: ${names.join(", ")}`);
    return 2;
  }
  const day = new Date().toISOString().slice(0, 10);
  const path = new URL(`../results/${day}-btest.json`, import.meta.url).pathname;
  const record = flags.only === undefined ? {} : await earlier(path);
  const iperf = await Iperf.start();
  if (iperf === undefined) console.log("left out: iperf3 (not installed)");
  try {
    for (const name of wanted) {
      // What one part leaves untold must not be taken for a test of the next.
      const ours = await OurServer.start();
      try {
        const results = await PARTS[name](ours, iperf);
        record[name] = { commit: commit(), machine: machine(), rounds: ROUNDS, results };
      } finally {
        await ours.stop();
      }
    }
  } finally {
    await iperf?.stop();
  }
  console.log(`\nAgainst the targets\n${verdicts.join("\n")}`);
  if (flags.quick) return 0;
  await Deno.writeTextFile(path, JSON.stringify(record, undefined, 2) + "\n");
  console.log(`\nwritten: bench/results/${day}-btest.json`);
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
