/**
 * Each of the eight optimisations on and off, everything else the same. Where "off" is something the daemon cannot be told
 * to do, it is written here and does that one thing the plain way.
 *
 * @module
 */
import { request } from "node:http";
import {
  AF_INET,
  decodeNeighbor,
  formatMac,
  NeighborView,
  parseNetlink,
  readNeighbor,
  writeNewNeighbor,
} from "@fastwire/net/neighsync/protocol";
import { spread } from "./harness.ts";
import type { Daemon, Stage } from "./neighsync_stage.ts";

/** One optimisation. */
export interface Switched {
  readonly what: string;
  readonly on: number;
  readonly off: number;
  readonly unit: string;
}

/** Measures all of them. */
export async function measureSwitches(stage: Stage, quick: boolean): Promise<readonly Switched[]> {
  const pass = quick ? 1 : 3;
  const one = ["--performance-max-batch", "1", "--performance-batch-size", "1"];
  const alone = [...one, "--performance-window", "1", "--performance-linger-ms", "0"];
  return [
    {
      what: "1 event-driven netlink instead of reading the ip program",
      on: await cpuPerThousand(stage, ["--driver", "fast"]),
      off: await cpuPerThousand(stage, ["--driver", "portable"]),
      unit: "CPU ms per 1,000 events",
    },
    {
      what: "2 batches on their way instead of one entry at a time",
      on: await burst(stage, [], pass),
      off: await burst(stage, alone, pass),
      unit: "ms for 5,000",
    },
    { what: "3 reading in place instead of objects from copies", ...parsing(), unit: "ns a row" },
    { what: "4 integer keys with ready prefixes", ...interfaceCache(), unit: "ns a lookup" },
    { what: "5 one record used again instead of one each", ...records(), unit: "ns an event" },
    {
      what: "6 a receive buffer of 32 MiB instead of 208 KiB",
      on: await lost(stage, "32MiB"),
      off: await lost(stage, "208KiB"),
      unit: "events lost of 50,000",
    },
    {
      what: "7 facts kept instead of asked for",
      ...await facts(stage),
      unit: "HGET per 1,000 events",
    },
    {
      what: "8 batches of up to 1,000 within 10 ms instead of each alone",
      on: await cpuAtRate(stage, []),
      off: await cpuAtRate(stage, [...one, "--performance-linger-ms", "0"]),
      unit: "CPU % at 1,000/s",
    },
  ];
}

async function cpuPerThousand(stage: Stage, words: readonly string[]): Promise<number> {
  const daemon = await stage.daemon(...words);
  stage.generator.put(0, 1000);
  await stage.untilStaged(1000);
  const before = daemon.cpuSeconds();
  for (let round = 1; round <= 20; round++) {
    stage.generator.put(0, 1000, round);
    await seen(stage, 999, round);
  }
  const cpuMs = 1000 * (daemon.cpuSeconds() - before) / 20;
  await daemon.stop();
  await stage.clear(1000);
  return cpuMs;
}

/** Waits until a neighbour's MAC is in Redis. */
async function seen(stage: Stage, index: number, salt: number): Promise<void> {
  const key = `_NEIGH_TABLE:Ethernet0:10.0.${index >> 8}.${index & 255}`;
  const want = `02:${salt.toString(16).padStart(2, "0")}:`;
  const deadline = performance.now() + 20_000;
  while (!String(await stage.redis.call("HGET", key, "neigh")).startsWith(want)) {
    if (performance.now() > deadline) throw new Error(`${key} is not seen with ${want}`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

async function burst(stage: Stage, words: readonly string[], times: number): Promise<number> {
  const daemon = await stage.daemon(...words);
  const tookMs: number[] = [];
  for (let round = 0; round < times + 1; round++) {
    const startedAt = performance.now();
    stage.generator.put(0, 5000, round);
    await stage.untilStaged(5000);
    tookMs.push(performance.now() - startedAt);
    await stage.consume();
  }
  await daemon.stop();
  await stage.clear(5000);
  return spread(tookMs.slice(1)).median;
}

async function lost(stage: Stage, buffer: string): Promise<number> {
  const path = `${stage.server.folder}/metrics.sock`;
  const daemon: Daemon = await stage.daemon("--rcvbuf", buffer, "--metrics", `unix:${path}`);
  stage.generator.put(0, 50_000);
  await stage.untilStaged(50_000);
  const text = await scrape(path);
  await daemon.stop();
  await stage.verify(50_000);
  await stage.clear(50_000);
  return Number(/^fastwire_neighsync_lost_events_total (\d+)$/m.exec(text)?.[1]);
}

function scrape(socketPath: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const asked = request({ socketPath, path: "/metrics" }, (answer) => {
      let text = "";
      answer.setEncoding("utf8");
      answer.on("data", (part: string) => text += part);
      answer.on("end", () => resolve(text));
    });
    asked.on("error", reject);
    asked.end();
  });
}

/** IPv6 link-local neighbours call for a fact of their interface; the plain way asks for it at each event. */
async function facts(stage: Stage): Promise<{ readonly on: number; readonly off: number }> {
  await stage.server.run(["SELECT", 4], [
    "HSET",
    "INTERFACE|Ethernet0",
    "ipv6_use_link_local_only",
    "enable",
  ]);
  const daemon = await stage.daemon();
  const calls = async (): Promise<number> => {
    const [text] = await stage.server.run(["INFO", "commandstats"]);
    return Number(/cmdstat_hget:calls=(\d+)/.exec(String(text))?.[1] ?? 0);
  };
  const count = 500;
  const before = await calls();
  const lines = Array.from(
    { length: count },
    (_, i) => `neigh replace fe80::${(i + 1).toString(16)} lladdr 02:00:00:00:00:01 dev Ethernet0`,
  );
  const child = new Deno.Command("ip", {
    args: ["-n", stage.network.name, "-batch", "-"],
    stdin: "piped",
    stdout: "null",
    stderr: "null",
  }).spawn();
  const writer = child.stdin.getWriter();
  await writer.write(new TextEncoder().encode(lines.join("\n") + "\n"));
  await writer.close();
  await child.status;
  await stage.untilStaged(count);
  const on = 1000 * (await calls() - before) / count;
  await daemon.stop();
  await stage.network.ip("neigh", "flush", "dev", "Ethernet0", "nud", "all").catch(() => {});
  await stage.clear(0);
  return { on, off: 1000 };
}

async function cpuAtRate(stage: Stage, words: readonly string[]): Promise<number> {
  const daemon = await stage.daemon(...words);
  stage.generator.put(0, 1000);
  await stage.untilStaged(1000);
  const before = daemon.cpuSeconds();
  const startedAt = performance.now();
  let changes = 0, salt = 1;
  while (performance.now() - startedAt < 5000) {
    const due = Math.min(
      Math.floor(performance.now() - startedAt) - changes,
      1000 - changes % 1000,
    );
    if (due > 0) {
      stage.generator.put(changes % 1000, due, salt);
      changes += due;
      if (changes % 1000 === 0) salt = salt % 255 + 1;
    }
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const seconds = (performance.now() - startedAt) / 1000;
  const percent = 100 * (daemon.cpuSeconds() - before) / seconds;
  await daemon.stop();
  await stage.clear(1000);
  return percent;
}

const ROWS = 1000, PASSES = 400;

/** Nanoseconds for one of `ROWS`, the better half of the passes. */
function each(work: () => void): number {
  const times: number[] = [];
  for (let pass = 0; pass < PASSES; pass++) {
    const startedAt = performance.now();
    work();
    times.push(1e6 * (performance.now() - startedAt) / ROWS);
  }
  return times.sort((a, b) => a - b)[PASSES >> 2]!;
}

function rows(): { readonly view: DataView<ArrayBuffer>; readonly end: number } {
  const view = new DataView(new ArrayBuffer(ROWS * 64));
  let end = 0;
  for (let i = 0; i < ROWS; i++) {
    const words = [0x0a00_0000 + i, 0, 0, 0];
    const neighbor = { sequence: 0, ifindex: 4, family: AF_INET, words, mac: i, state: 2 };
    end = writeNewNeighbor(view, end, neighbor);
  }
  return { view, end };
}

/** What the optimiser may not see through. */
let sum = 0;

function parsing(): { readonly on: number; readonly off: number } {
  const { view, end } = rows();
  const neighbor = new NeighborView();
  const on = each(() => {
    parseNetlink(view, 0, end, {
      message(_type, from, to) {
        readNeighbor(view, from, to, neighbor);
        sum += neighbor.word0 + neighbor.mac;
      },
      malformed: () => {},
    });
  });
  const off = each(() => {
    parseNetlink(view, 0, end, {
      message(_type, from, to) {
        const copy = new DataView(view.buffer.slice(from, to));
        const fresh = new NeighborView();
        readNeighbor(copy, 0, copy.byteLength, fresh);
        const object = decodeNeighbor(fresh);
        sum += object.ip.length + object.flags;
      },
      malformed: () => {},
    });
  });
  return { on, off };
}

function interfaceCache(): { readonly on: number; readonly off: number } {
  const byNumber = new Map<number, { readonly prefix: string }>();
  const byText = new Map<string, { readonly name: string }>();
  for (let i = 1; i <= 512; i++) {
    byNumber.set(i, { prefix: `Ethernet${i}:` });
    byText.set(`ifindex-${i}`, { name: `Ethernet${i}` });
  }
  const on = each(() => {
    for (let i = 0; i < ROWS; i++) sum += (byNumber.get((i & 511) + 1)!.prefix + "10.0.0.1").length;
  });
  const off = each(() => {
    for (let i = 0; i < ROWS; i++) {
      sum += `${byText.get(`ifindex-${(i & 511) + 1}`)!.name}:10.0.0.1`.length;
    }
  });
  return { on, off };
}

function records(): { readonly on: number; readonly off: number } {
  const { view, end } = rows();
  const reused = new NeighborView();
  const kept: NeighborView[] = [];
  const on = each(() => {
    parseNetlink(view, 0, end, {
      message: (_type, from, to) => void (sum += readNeighbor(view, from, to, reused)),
      malformed: () => {},
    });
  });
  const off = each(() => {
    kept.length = 0;
    parseNetlink(view, 0, end, {
      message(_type, from, to) {
        const fresh = new NeighborView();
        readNeighbor(view, from, to, fresh);
        kept.push(fresh);
      },
      malformed: () => {},
    });
    sum += formatMac(kept[0]!.mac).length;
  });
  return { on, off };
}
