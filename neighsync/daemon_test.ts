/**
 * The daemon between a virtual kernel and a table in memory: after everything that can happen to either they are equal
 * again.
 */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import type { ConfigDatabase } from "./config_database.ts";
import { NeighSync, type NeighSyncOptions } from "./daemon.ts";
import type { NeighSyncEvent } from "./daemon_events.ts";
import { formatAddress, formatMac } from "./protocol/address.ts";
import { NUD_FAILED, NUD_REACHABLE, NUD_STALE } from "./protocol/constants.ts";
import type { VirtualNeighbor } from "./protocol/testing/virtual_kernel.ts";
import type { WarmFlags } from "./protocol/warm_restart.ts";
import { MemorySink } from "./sink_memory.ts";
import { LiveKernel, VirtualHost } from "./testing/virtual_host.ts";
import type { WarmTables } from "./warm_restart.ts";

const IS_LONG = Deno.env.get("FASTWIRE_LONG") === "1";

/** Waits for a condition, turn by turn; a test that waits in vain says for what. */
async function until(what: string, condition: () => boolean): Promise<void> {
  const giveUpAt = performance.now() + 10_000;
  while (!condition()) {
    if (performance.now() > giveUpAt) throw new Error(`Cannot go on: waited for ${what} in vain`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

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

/** What is to be published of a kernel without special facts. */
function wanted(kernel: LiveKernel): Map<string, string> {
  const entries = kernel.neighbors()
    .filter(({ mac, state }) => mac >= 0 && state !== NUD_FAILED)
    .map(({ ifindex, family, words: [a, b, c, d], mac }) =>
      [
        `${kernel.links.get(ifindex)!.name}:${formatAddress(family, a!, b!, c!, d!)}`,
        `${formatMac(mac)} ${family === 2 ? "IPv4" : "IPv6"}`,
      ] as const
    );
  return new Map(entries.sort());
}

function published(sink: MemorySink): Map<string, string> {
  return new Map(
    [...sink.entries].map(([key, { mac, family }]) => [key, `${mac} ${family}`] as const).sort(),
  );
}

/** A daemon with everything around it. */
class Stage implements AsyncDisposable {
  readonly host: VirtualHost;
  readonly kernel: LiveKernel;
  readonly sink: MemorySink;
  readonly sync: NeighSync;
  readonly events: NeighSyncEvent[] = [];

  constructor(
    options: NeighSyncOptions = {},
    around: { kernel?: LiveKernel; sink?: MemorySink } = {},
  ) {
    this.host = new VirtualHost(around.kernel ?? new LiveKernel());
    this.kernel = this.host.kernel;
    if (this.kernel.links.size === 0) this.kernel.setLink(2, "Ethernet0");
    this.sink = around.sink ?? new MemorySink();
    this.sync = new NeighSync({ sink: this.sink, host: this.host, ...options });
    const events = this.sync.events[Symbol.asyncIterator]();
    void (async () => {
      for (let next = await events.next(); next.done !== true; next = await events.next()) {
        this.events.push(...next.value);
      }
    })();
  }

  /** Waits until both tables are equal and nothing is on its way. */
  async equal(what = "both tables to be equal"): Promise<void> {
    await until(what, () => {
      const { queueDepth, kernel } = this.sync.snapshot();
      if (queueDepth > 0 || kernel.resyncing) return false;
      return JSON.stringify([...wanted(this.kernel)]) === JSON.stringify([...published(this.sink)]);
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.sync.close();
  }
}

Deno.test("NeighSync publishes what the kernel has, then what changes, and removes what goes", async () => {
  await using stage = new Stage();
  const { kernel, sink, sync } = stage;
  for (let i = 1; i <= 500; i++) kernel.setNeighbor(neighbor(i));
  sink.tamper("Ethernet0:10.9.9.9", { mac: "02:00:00:00:00:01", family: "IPv4" });
  await sync.start();
  deepEqual(published(sink), wanted(kernel));
  kernel.setNeighbor(neighbor(501));
  kernel.setNeighbor(neighbor(1, { mac: 0x0200_0000_00aa }));
  kernel.removeNeighbor(neighbor(2));
  await stage.equal();
  const { synced, neighborsAdded, neighborsDeleted, published: known } = sync.snapshot();
  deepEqual([synced, neighborsAdded, neighborsDeleted, known], [true, 502, 2, 500]);
  ok(stage.events.some(({ type }) => type === "synced"));
  await until(
    "the event",
    () => stage.events.some((e) => e.type === "del" && e.key === "Ethernet0:10.0.0.2"),
  );
});

Deno.test("NeighSync writes nothing over a table that is right already", async () => {
  const sink = new MemorySink();
  const kernel = new LiveKernel();
  kernel.setLink(2, "Ethernet0");
  for (let i = 1; i <= 50; i++) kernel.setNeighbor(neighbor(i));
  for (const [key, text] of wanted(kernel)) {
    const [mac, family] = text.split(" ");
    sink.tamper(key, { mac: mac!, family: family! });
  }
  await using stage = new Stage({}, { kernel, sink });
  await stage.sync.start();
  equal(sink.snapshot().operations, 0);
  equal(stage.sync.snapshot().published, 50);
});

Deno.test("NeighSync writes nothing while a neighbor only wanders between states", async () => {
  await using stage = new Stage();
  const { kernel, sink, sync } = stage;
  kernel.setNeighbor(neighbor(1));
  await sync.start();
  const before = sink.snapshot().operations;
  for (let i = 0; i < 100; i++) {
    kernel.setNeighbor(neighbor(1, { state: i % 2 === 0 ? NUD_STALE : NUD_REACHABLE }));
  }
  await until("the events", () => sync.snapshot().kernel.events >= 100);
  equal(sink.snapshot().operations, before);
  ok(sync.snapshot().suppressed >= 100);
});

Deno.test("NeighSync ends equal to the kernel after random histories, whatever the batches", async () => {
  const first = Number(Deno.env.get("FASTWIRE_SEED") ?? 1);
  for (let seed = first; seed < first + (IS_LONG ? 200 : 6); seed++) {
    const random = seededRandom(seed);
    const batchSize = 1 + random.u32() % 20;
    await using stage = new Stage({ performance: { batchSize, maxBatch: batchSize, lingerMs: 0 } });
    const { kernel, sync } = stage;
    kernel.setLink(3, "Ethernet4");
    await sync.start();
    for (let step = 0; step < 400; step++) {
      const some = neighbor(random.u32() % 50, { ifindex: 2 + random.u32() % 2 });
      if (random.float() < 0.6) {
        kernel.setNeighbor({ ...some, mac: 0x0200_0000_0000 + random.u32() % 4 });
      } else kernel.removeNeighbor(some);
      if (random.float() < 0.1) await new Promise((resolve) => setTimeout(resolve, 0));
    }
    await stage.equal(`seed ${seed}`);
  }
});

Deno.test("NeighSync moves every key when an interface is renamed, and removes them when it goes", async () => {
  await using stage = new Stage();
  const { kernel, sink, sync } = stage;
  for (let i = 1; i <= 20; i++) kernel.setNeighbor(neighbor(i));
  await sync.start();
  kernel.setLink(2, "Ethernet99");
  await stage.equal();
  ok([...sink.entries.keys()].every((key) => key.startsWith("Ethernet99:")));
  kernel.removeLink(2);
  await stage.equal();
  equal(sink.entries.size, 0);
});

Deno.test("NeighSync repairs what an overflow made it miss, and counts it", async () => {
  const kernel = new LiveKernel({ eventCapacity: 50 });
  await using stage = new Stage({}, { kernel });
  const { host, sync } = stage;
  for (let i = 1; i <= 40; i++) kernel.setNeighbor(neighbor(i));
  await sync.start();
  host.stall();
  for (let i = 1; i <= 20; i++) kernel.removeNeighbor(neighbor(i));
  for (let i = 100; i < 400; i++) kernel.setNeighbor(neighbor(i));
  host.unstall();
  await until("the loss", () => sync.snapshot().kernel.lostEvents > 0);
  await stage.equal();
  const { overflows, resyncs, resyncRepairs } = sync.snapshot().kernel;
  ok(overflows >= 1 && resyncs >= 2 && resyncRepairs > 200, JSON.stringify(sync.snapshot().kernel));
});

Deno.test("NeighSync opens netlink sockets that fail again, and misses nothing", async () => {
  await using stage = new Stage();
  const { host, kernel, sync } = stage;
  kernel.setNeighbor(neighbor(1));
  await sync.start();
  host.fail();
  equal(sync.snapshot().kernel.connected, false);
  equal(sync.health().status, "unhealthy");
  kernel.setNeighbor(neighbor(2));
  await until("the sockets", () => sync.snapshot().kernel.connected);
  await stage.equal();
  ok(sync.snapshot().kernel.netlinkErrors > 0);
});

Deno.test("NeighSync writes differences only after a reconnection, and everything into an empty table", async () => {
  await using stage = new Stage();
  const { kernel, sink, sync } = stage;
  for (let i = 1; i <= 30; i++) kernel.setNeighbor(neighbor(i));
  await sync.start();
  sink.lose();
  equal(sync.health().ready, false);
  kernel.setNeighbor(neighbor(31));
  kernel.removeNeighbor(neighbor(1));
  sink.tamper("Ethernet0:10.0.0.5", undefined);
  sink.tamper("Ethernet0:10.7.7.7", { mac: "02:00:00:00:00:07", family: "IPv4" });
  const before = sink.snapshot().operations;
  sink.recover();
  await stage.equal();
  equal(sink.snapshot().operations - before, 4);
  equal(sync.snapshot().reconnectRepairs, 2);
  sink.lose();
  sink.recover({ empty: true });
  await stage.equal();
  equal(sink.snapshot().operations - before, 4 + 30);
});

Deno.test("NeighSync survives a sink that comes and goes in the middle of a burst", async () => {
  await using stage = new Stage({ performance: { maxBatch: 10, batchSize: 10 } });
  const { kernel, sink, sync } = stage;
  await sync.start();
  for (let round = 0; round < 10; round++) {
    for (let i = 1; i <= 50; i++) {
      kernel.setNeighbor(neighbor(round * 20 + i, { mac: 0x0200_0000_0000 + round }));
    }
    await new Promise((resolve) => setTimeout(resolve, 0));
    sink.lose();
    for (let i = 1; i <= 10; i++) kernel.removeNeighbor(neighbor(round * 20 + i));
    await new Promise((resolve) => setTimeout(resolve, 0));
    sink.recover({ empty: round % 3 === 0 });
  }
  await stage.equal();
});

Deno.test("NeighSync audits now and then, and counts the keys that were wrong", async () => {
  await using stage = new Stage();
  const { kernel, sink, sync } = stage;
  for (let i = 1; i <= 10; i++) kernel.setNeighbor(neighbor(i));
  await sync.start();
  sink.tamper("Ethernet0:10.0.0.3", undefined);
  sink.tamper("Ethernet0:10.0.0.4", { mac: "02:00:00:00:99:99", family: "IPv4" });
  sink.tamper("Ethernet0:10.7.7.7", { mac: "02:00:00:00:00:07", family: "IPv4" });
  deepEqual((await sync.differences()).map(({ key }) => key).sort(), [
    "Ethernet0:10.0.0.3",
    "Ethernet0:10.0.0.4",
    "Ethernet0:10.7.7.7",
  ]);
  await sync.resync();
  await stage.equal();
  const { audits, auditRepairs } = sync.snapshot();
  deepEqual([audits, auditRepairs], [1, 3]);
  await sync.resync();
  equal(sync.snapshot().auditRepairs, 3);
});

Deno.test("NeighSync leaves alone what interfaces have that are not its own, and follows a changed choice", async () => {
  await using stage = new Stage({ netlink: { exclude: ["eth*"] } });
  const { kernel, sink, sync } = stage;
  kernel.setLink(9, "eth0");
  kernel.setNeighbor(neighbor(1));
  kernel.setNeighbor(neighbor(2, { ifindex: 9 }));
  sink.tamper("eth0:10.8.8.8", { mac: "02:00:00:00:00:08", family: "IPv4" });
  await sync.start();
  deepEqual([...sink.entries.keys()].sort(), ["Ethernet0:10.0.0.1", "eth0:10.8.8.8"]);
  const { settings } = sync;
  sync.reload({ ...settings, netlink: { ...settings.netlink, exclude: ["Ethernet*"] } });
  await until("the other interface", () => sink.entries.has("eth0:10.0.0.2"));
  await until("the first to go", () => !sink.entries.has("Ethernet0:10.0.0.1"));
});

Deno.test("NeighSync judges everything anew when the configuration's facts change", async () => {
  const config = new TestConfig();
  await using stage = new Stage({ configDatabase: config });
  const { kernel, sink, sync } = stage;
  kernel.setNeighbor(neighbor(1, { words: [0xa9fe_0001, 0, 0, 0] }));
  kernel.setNeighbor(neighbor(2, { state: NUD_FAILED, mac: -1 }));
  kernel.setNeighbor(neighbor(3, { family: 10, words: [0xfe80_0000, 0, 0, 3] }));
  await sync.start();
  deepEqual([...sink.entries.keys()], ["Ethernet0:169.254.0.1"]);
  config.set("PEER_SWITCH", "peer", {});
  await until(
    "the zero MAC",
    () => sink.entries.get("Ethernet0:10.0.0.2")?.mac === "00:00:00:00:00:00",
  );
  await until("IPv4 link-local to go", () => !sink.entries.has("Ethernet0:169.254.0.1"));
  config.set("INTERFACE", "Ethernet0", { ipv6_use_link_local_only: "enable" });
  await until("IPv6 link-local", () => sink.entries.has("Ethernet0:fe80::3"));
  equal(sync.snapshot().dualTor, true);
});

Deno.test("NeighSync takes back what it took for publishable before it knew the facts", async () => {
  const config = new TestConfig();
  config.set("PEER_SWITCH", "peer", {});
  let tell: () => void = () => {};
  const told = new Promise<void>((resolve) => tell = resolve);
  const present = config.present.bind(config);
  config.present = async (tables) => {
    await told;
    return await present(tables);
  };
  await using stage = new Stage({ configDatabase: config });
  const { kernel, sink, sync } = stage;
  kernel.setNeighbor(neighbor(1, { words: [0xa9fe_0001, 0, 0, 0] }));
  kernel.setNeighbor(neighbor(2));
  const starting = sync.start();
  await until("the kernel's table", () => sync.neighbors().size === 2);
  // The published table is empty, which is no reason not to compare here.
  tell();
  await starting;
  await until("the table", () => sync.snapshot().queueDepth === 0);
  deepEqual([...sink.entries.keys()], ["Ethernet0:10.0.0.2"]);
});

Deno.test("NeighSync takes a table over in a warm restart: states in order, nothing written that is right", async () => {
  const sink = new MemorySink();
  for (const [host, mac] of [[1, 1], [2, 0x99], [4, 4]] as const) {
    sink.tamper(`Ethernet0:10.0.0.${host}`, {
      mac: formatMac(0x0200_0000_0000 + mac),
      family: "IPv4",
    });
  }
  const tables = new TestWarmTables({ enabled: true, restoreCount: 4, timerSec: undefined });
  await using stage = new Stage({
    warmTables: tables,
    deployment: { reconcileWhen: "dump-complete" },
  }, { sink });
  const { kernel, sync } = stage;
  for (const host of [1, 2, 3]) kernel.setNeighbor(neighbor(host));
  const starting = sync.start();
  await until("the question", () => tables.steps.includes("restored?"));
  equal(stage.host.opened, 0);
  tables.restore();
  await starting;
  deepEqual(tables.steps.filter((step) => step !== "restored?"), [
    "count 5",
    "state initialized",
    "state restored",
    "state reconciled",
  ]);
  deepEqual(published(sink), wanted(kernel));
  // Two sets and one deletion; the first was right.
  equal(sink.snapshot().operations, 3);
  equal(sync.snapshot().warmRestart, "reconciled");
  kernel.setNeighbor(neighbor(7));
  await stage.equal();
});

Deno.test("NeighSync starts cold and writes the count when no warm restart is asked for", async () => {
  const tables = new TestWarmTables({ enabled: false, restoreCount: 9, timerSec: undefined });
  await using stage = new Stage({ warmTables: tables });
  stage.kernel.setNeighbor(neighbor(1));
  await stage.sync.start();
  deepEqual(tables.steps, ["count 0"]);
  deepEqual(published(stage.sink), wanted(stage.kernel));
});

Deno.test("NeighSync gives up a warm restart when the kernel's table is not refilled in time", async () => {
  const tables = new TestWarmTables({ enabled: true, restoreCount: 0, timerSec: undefined });
  await using stage = new Stage({ warmTables: tables, deployment: { restoreWaitSec: 0 } });
  await rejects(stage.sync.start(), { code: "neighsync.restore-wait" });
  equal(tables.steps.at(-1), "restored?");
});

Deno.test("NeighSync leaves the state as it is when it is stopped in a warm restart", async () => {
  const tables = new TestWarmTables({ enabled: true, restoreCount: 0, timerSec: undefined });
  await using stage = new Stage({ warmTables: tables });
  stage.sink.tamper("Ethernet0:10.0.0.1", { mac: "02:00:00:00:00:01", family: "IPv4" });
  const starting = stage.sync.start();
  await until("the question", () => tables.steps.includes("restored?"));
  await stage.sync.close();
  await starting;
  equal(tables.steps.includes("state reconciled"), false);
  deepEqual([stage.sink.entries.size, stage.sink.snapshot().operations], [1, 0]);
});

Deno.test("NeighSync writes what waits when it is stopped, and removes nothing", async () => {
  const stage = new Stage({
    performance: { batchSize: 1000, batchTimeoutMs: 10_000, lingerMs: 1000 },
  });
  const { kernel, sink, sync } = stage;
  kernel.setNeighbor(neighbor(1));
  await sync.start();
  for (let i = 2; i <= 100; i++) kernel.setNeighbor(neighbor(i));
  await until("the events", () => sync.snapshot().neighborsProcessed >= 100);
  await sync.close();
  equal(sink.entries.size, 100);
  equal(stage.sync.snapshot().kernel.connected, false);
});

Deno.test("NeighSync is closed by its signal while it still waits for its sink", async () => {
  const sink = new MemorySink();
  sink.lose();
  const controller = new AbortController();
  await using stage = new Stage({ signal: controller.signal }, { sink });
  const starting = stage.sync.start();
  controller.abort();
  await starting;
  equal(stage.sync.snapshot().synced, false);
});

Deno.test("NeighSync refuses unknown and impossible options with words that help", () => {
  const refused = (options: object, words: RegExp): void => {
    try {
      new NeighSync(options);
    } catch (error) {
      return match((error as Error).message, words);
    }
    throw new Error("nothing was refused");
  };
  refused({ performance: { batchsize: 1 } }, /^Cannot resolve neighsync options: .*batchSize/);
  refused({ performance: { batchSize: 0 } }, /1 to 100000/);
  refused({ redis: { cluster: ["a:1"] } }, /plain/);
  refused({ redis: { url: "unix:/r", cluster: ["a:1"], schema: "plain" } }, /exclude each other/);
  refused({ metrics: { listen: "everywhere" } }, /HOST:PORT/);
});

/** A configuration database in memory. */
class TestConfig implements ConfigDatabase {
  readonly #tables = new Map<string, Map<string, Readonly<Record<string, string>>>>();
  #listener: ((table: string, name: string) => void) | undefined;

  set(table: string, name: string, fields: Readonly<Record<string, string>>): void {
    const entries = this.#tables.get(table) ?? new Map();
    this.#tables.set(table, entries.set(name, fields));
    this.#listener?.(table, name);
  }

  fields(
    entries: readonly (readonly [table: string, name: string])[],
    field: string,
  ): Promise<readonly (string | undefined)[]> {
    return Promise.resolve(
      entries.map(([table, name]) => this.#tables.get(table)?.get(name)?.[field]),
    );
  }

  present(tables: readonly string[]): Promise<readonly boolean[]> {
    return Promise.resolve(tables.map((table) => this.#tables.has(table)));
  }

  follow(
    _tables: readonly string[],
    listener: (table: string, name: string) => void,
  ): Promise<boolean> {
    this.#listener = listener;
    return Promise.resolve(true);
  }
}

/** Warm-restart tables that remember what was done to them. */
class TestWarmTables implements WarmTables {
  readonly steps: string[] = [];
  readonly #flags: WarmFlags;
  #restored = false;
  #listener: (() => void) | undefined;

  constructor(flags: WarmFlags) {
    this.#flags = flags;
  }

  /** The kernel's table has been refilled. */
  restore(): void {
    this.#restored = true;
    this.#listener?.();
  }

  readFlags(): Promise<WarmFlags> {
    return Promise.resolve(this.#flags);
  }

  setRestoreCount(count: number): Promise<void> {
    this.steps.push(`count ${count}`);
    return Promise.resolve();
  }

  setState(state: string): Promise<void> {
    this.steps.push(`state ${state}`);
    return Promise.resolve();
  }

  readRestored(): Promise<boolean> {
    this.steps.push("restored?");
    return Promise.resolve(this.#restored);
  }

  followRestored(listener: () => void): Promise<boolean> {
    this.#listener = listener;
    return Promise.resolve(true);
  }
}

Deno.test("NeighSync tunes its batches, but what is written down", async () => {
  // A minute passes with every tick of a second.
  const clock = { now: () => 100 * performance.now() };
  await using stage = new Stage({
    clock,
    performance: { autoTune: true, batchTimeoutMs: 10 },
    advanced: { memoryLimit: 1 },
  });
  await stage.sync.start();
  await until("smaller batches", () => stage.sync.snapshot().tuning.batchSize === 67);
  const { tuning } = stage.sync.snapshot();
  deepEqual([tuning.lastReason, tuning.lowered, tuning.batchTimeoutMs], ["memory", 1, 10]);
});
