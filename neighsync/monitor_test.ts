/** The monitor over a virtual kernel, and what is made from words and files: settings, tables, exit codes. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { runTool } from "../internal/cli/run.ts";
import { seededRandom } from "../internal/random.ts";
import { recordedTerminal } from "../internal/testing/terminal.ts";
import { tool } from "./cli.ts";
import { loadSettings, parseConfig } from "./config_file.ts";
import { configSchema } from "./config_schema.ts";
import { parseRedisUrl } from "./databases.ts";
import { dumpNeighbors } from "./dump.ts";
import { NeighborMonitor } from "./monitor.ts";
import type { NeighborChanged, NeighborEvent } from "./monitor_queue.ts";
import type { Neighbor } from "./neighbor.ts";
import { parseListen } from "./options.ts";
import { NUD_REACHABLE, NUD_STALE } from "./protocol/constants.ts";
import type { VirtualNeighbor } from "./protocol/testing/virtual_kernel.ts";
import { LiveKernel, VirtualHost } from "./testing/virtual_host.ts";

function neighbor(host: number, more: Partial<VirtualNeighbor> = {}): VirtualNeighbor {
  return {
    ifindex: 2,
    family: 2,
    words: [0x0a00_0000 + host, 0, 0, 0],
    mac: 0x0200_0000_0000 + host,
    state: NUD_REACHABLE,
    flags: 0,
    ...more,
  };
}

function virtual(kernel: LiveKernel = new LiveKernel()): VirtualHost {
  kernel.setLink(2, "Ethernet0");
  kernel.setLink(3, "Vlan10", 2);
  return new VirtualHost(kernel);
}

/** Takes events until one satisfies `last`. */
async function taken(
  events: AsyncIterator<NeighborEvent>,
  last: (event: NeighborEvent) => boolean,
): Promise<NeighborEvent[]> {
  const all: NeighborEvent[] = [];
  for (;;) {
    const { value, done } = await events.next();
    if (done === true) throw new Error("Cannot go on: the events ended");
    all.push(value);
    if (last(value)) return all;
  }
}

function isOf(host: number): (event: NeighborEvent) => boolean {
  return (event) => "neighbor" in event && event.neighbor.ip === `10.0.0.${host}`;
}

Deno.test("NeighborMonitor tells what there is, what changes and from what, and what goes", async () => {
  const host = virtual();
  const { kernel } = host;
  kernel.setNeighbor(neighbor(1));
  await using monitor = await NeighborMonitor.open({ host });
  const events = monitor[Symbol.asyncIterator]();
  const first = await taken(events, ({ type }) => type === "resync-end");
  deepEqual(first.map(({ type }) => type), ["resync-start", "add", "resync-end"]);
  await monitor.ready;
  kernel.setNeighbor(neighbor(1, { state: NUD_STALE, mac: 0x0200_0000_0099 }));
  const [changed] = await taken(events, isOf(1)) as NeighborChanged[];
  deepEqual(
    [changed!.type, changed!.source, changed!.neighbor.mac, changed!.neighbor.state],
    ["change", "event", "02:00:00:00:00:99", "stale"],
  );
  deepEqual([changed!.previous?.mac, changed!.previous?.state], ["02:00:00:00:00:01", "reachable"]);
  kernel.collectNeighbor(neighbor(1));
  const [gone] = await taken(events, isOf(1)) as NeighborChanged[];
  equal(gone!.type, "delete");
  await monitor.close();
  deepEqual(await events.next(), { done: true, value: undefined });
});

Deno.test("NeighborMonitor's map finds by key what it lists, and follows the kernel", async () => {
  const host = virtual();
  const { kernel } = host;
  for (let i = 1; i <= 20; i++) kernel.setNeighbor(neighbor(i));
  kernel.setNeighbor(neighbor(0, { ifindex: 3, family: 10, words: [0x2001_0db8, 0, 0, 5] }));
  await using monitor = await NeighborMonitor.open({ host });
  await monitor.ready;
  const map = monitor.neighbors();
  equal(map.size, 21);
  for (const [key, value] of map) {
    equal(key, `${value.ifname}:${value.ip}`);
    deepEqual(map.get(key), value);
  }
  equal(map.get("Vlan10:2001:db8::5")?.master, "Ethernet0");
  equal(map.has("Ethernet0:10.0.0.99"), false);
  equal(map.has("nonsense"), false);
  kernel.setNeighbor(neighbor(99));
  kernel.removeNeighbor(neighbor(1));
  await monitor.resync();
  deepEqual([map.size, map.has("Ethernet0:10.0.0.99"), map.has("Ethernet0:10.0.0.1")], [
    21,
    true,
    false,
  ]);
});

Deno.test("NeighborMonitor shows the interfaces and the family it was asked for", async () => {
  const host = virtual();
  const { kernel } = host;
  kernel.setNeighbor(neighbor(1));
  kernel.setNeighbor(neighbor(2, { ifindex: 3 }));
  kernel.setNeighbor(neighbor(0, { ifindex: 3, family: 10, words: [0x2001_0db8, 0, 0, 5] }));
  const found = await dumpNeighbors({ host, include: ["Vlan*"], family: "ipv4" });
  deepEqual(found.map(({ ifname, ip }) => `${ifname} ${ip}`), ["Vlan10 10.0.0.2"]);
});

Deno.test("NeighborMonitor leaves a slow consumer with the truth, in no more room than there are keys", async () => {
  for (let seed = 1; seed <= 5; seed++) {
    const random = seededRandom(seed);
    const host = virtual(new LiveKernel({ eventCapacity: 100_000 }));
    const { kernel } = host;
    await using monitor = await NeighborMonitor.open({ host });
    const events = monitor[Symbol.asyncIterator]();
    await taken(events, ({ type }) => type === "resync-end");
    const known = new Map<string, Neighbor>();
    for (let round = 0; round < 10; round++) {
      for (let i = 0; i < 200; i++) {
        const some = neighbor(1 + random.u32() % 20, { mac: 0x0200_0000_0000 + random.u32() % 4 });
        if (random.float() < 0.6) kernel.setNeighbor(some);
        else kernel.removeNeighbor(some);
      }
      await monitor.resync();
      // Behind everything else, and never what it was before.
      kernel.setNeighbor(neighbor(200, { mac: 0x0200_0000_0100 + round }));
      const batch = await taken(events, isOf(200));
      const keys = batch.flatMap((event) => "neighbor" in event ? [event.neighbor.ip] : []);
      equal(new Set(keys).size, keys.length, `seed ${seed}`);
      for (const event of batch) {
        if (!("neighbor" in event)) continue;
        const { type, neighbor: now, previous } = event;
        const before = known.get(now.ip);
        equal(type === "add", before === undefined, `seed ${seed}: ${type} ${now.ip}`);
        if (type === "change") equal(previous?.mac, before?.mac, `seed ${seed}: ${now.ip}`);
        if (type === "delete") known.delete(now.ip);
        else known.set(now.ip, now);
      }
      const truth = [...monitor.neighbors().values()].map(({ ip, mac }) => `${ip} ${mac}`).sort();
      deepEqual(
        [...known.values()].map(({ ip, mac }) => `${ip} ${mac}`).sort(),
        truth,
        `seed ${seed}`,
      );
    }
  }
});

Deno.test("NeighborMonitor is closed by its signal, and whoever waits is told", async () => {
  const controller = new AbortController();
  const monitor = await NeighborMonitor.open({ host: virtual(), signal: controller.signal });
  const waiting = monitor.resync();
  controller.abort();
  await rejects(waiting, /Cannot wait/);
  await monitor.close();
  await rejects(NeighborMonitor.open({ host: virtual(), signal: controller.signal }), {
    name: "AbortError",
  });
});

Deno.test("neighsync's file is read in layers, and each value knows where it comes from", async () => {
  const folder = await Deno.makeTempDir({ prefix: "fastwire-neighsync-" });
  try {
    const [low, high] = [`${folder}/low.toml`, `${folder}/high.toml`];
    await Deno.writeTextFile(low, "[performance]\nbatch_size = 7\nmax_batch = 70\n");
    await Deno.writeTextFile(high, '[performance]\nbatch_size = 8\n[netlink]\nexclude = ["lo"]\n');
    const { settings, sources, files } = await loadSettings({
      optional: [`${folder}/missing.toml`, low],
      required: high,
      given: { netlink: { receiveBufferBytes: 4096 } },
    });
    const { performance, netlink } = settings;
    deepEqual([performance.batchSize, performance.maxBatch, performance.window], [8, 70, 2]);
    deepEqual([netlink.exclude, netlink.receiveBufferBytes], [["lo"], 4096]);
    deepEqual(files, [low, high]);
    equal(sources.get("performance.batch_size"), high);
    equal(sources.get("performance.max_batch"), low);
    equal(sources.get("netlink.receive_buffer_bytes"), "option");
    equal(sources.get("performance.window"), "default");
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("neighsync's file is refused with the place and what was meant", async () => {
  const refusals: readonly (readonly [text: string, words: RegExp])[] = [
    [
      "[performance]\nbatch_sise = 7\n",
      /unknown key "performance.batch_sise", expected "performance.batch_size"/,
    ],
    ["[perfomance]\n", /unknown section "perfomance", expected "performance"/],
    ["[performance\n", /line 1, column \d+/],
    ["redis = 1\n", /"redis" is no section/],
  ];
  for (const [text, words] of refusals) await rejects(parseConfig(text, "a.toml"), words);
});

Deno.test("neighsync's schema has every key of the file and nothing else", async () => {
  const { properties } = configSchema() as { properties: Record<string, { properties: object }> };
  const lines = Object.entries(properties).flatMap(([section, { properties: keys }]) => [
    `[${section}]`,
    ...Object.keys(keys).map((key) => `${key} = 1`),
  ]);
  const content = await parseConfig(lines.join("\n"), "all");
  deepEqual(Object.keys(content), Object.keys(properties));
});

/** The tool in this process. */
async function run(
  line: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const terminal = recordedTerminal(environment);
  const code = await runTool(tool, line, terminal);
  return { code, out: terminal.out, err: terminal.err };
}

Deno.test("neighsync's options come from flags, then variables, then the file, under the names of the guide", async () => {
  const file = await Deno.makeTempFile({ prefix: "fastwire-neighsync-", suffix: ".toml" });
  try {
    await Deno.writeTextFile(
      file,
      "[performance]\nbatch_size = 5\nbatch_timeout_ms = 50\n[advanced]\naudit_interval_sec = 60\n",
    );
    const flags = ["--config", file, "--rcvbuf", "4096", "--metrics", "off", "--dual-tor", "on"];
    const { code, out } = await run(
      ["run", "--print-config", ...flags, "--no-warm-restart", "--batch-size", "9"],
      { FASTWIRE_NEIGHSYNC_BATCH_SIZE: "6", FASTWIRE_NEIGHSYNC_BATCH_TIMEOUT_MS: "60" },
    );
    equal(code, 0);
    for (
      const line of [
        "batch_size = 9 # option",
        "batch_timeout_ms = 60 # option",
        `audit_interval_sec = 60 # ${file}`,
        "receive_buffer_bytes = 4096 # option",
        'listen = "off" # option',
        'dual_tor = "on" # option',
        "warm_restart = false # option",
        'schema = "producer-state" # default',
      ]
    ) ok(out.split("\n").includes(line), `${line} in ${out}`);
  } finally {
    await Deno.remove(file);
  }
});

Deno.test("neighsync ends with the exit code of what went wrong", async () => {
  equal((await run(["run", "--batchsize", "1"])).code, 2);
  const missing = await run(["config", "check", "--config", "/nowhere/at/all.toml"]);
  equal(missing.code, 3);
  match(missing.err, /Cannot read \/nowhere\/at\/all.toml/);
  equal((await run(["run", "--metrics", "everywhere"])).code, 3);
  equal((await run(["config", "rewrite"])).code, 2);
  const schema = await run(["config", "schema"]);
  equal(schema.code, 0);
  equal(typeof JSON.parse(schema.out), "object");
});

Deno.test("neighsync reads addresses of Redis and of listeners in every form it promises", () => {
  deepEqual(parseRedisUrl("unix:/run/redis.sock").address, { path: "/run/redis.sock" });
  deepEqual(parseRedisUrl("/run/redis.sock").address, { path: "/run/redis.sock" });
  deepEqual(parseRedisUrl("127.0.0.1:6380").address, { host: "127.0.0.1", port: 6380 });
  deepEqual(parseRedisUrl("redis://u:p%40w@[::1]:7000/3"), {
    address: { host: "::1", port: 7000 },
    tls: false,
    database: 3,
    username: "u",
    password: "p@w",
  });
  deepEqual([parseRedisUrl("rediss://db").tls, parseRedisUrl("rediss://db").address], [
    true,
    { host: "db", port: 6379 },
  ]);
  for (const wrong of ["http://a", "redis://", "redis://a/b", ""]) {
    try {
      parseRedisUrl(wrong);
    } catch (error) {
      match((error as Error).message, /^Cannot read the Redis URL/);
      continue;
    }
    throw new Error(`${wrong} was taken`);
  }
  deepEqual(parseListen("off"), undefined);
  deepEqual(parseListen("[::1]:80"), { kind: "tcp", host: "::1", port: 80 });
  deepEqual(parseListen("unix:/run/n.sock"), { kind: "unix", path: "/run/n.sock" });
});
