// Refilling the kernel's tables from a real Redis, in networks of their own. Needs root and redis-server.

import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { bindAll } from "../../../ffi/libc_linux.ts";
import { NetworkNamespace } from "../../../internal/testing/netns.ts";
import { peerTest } from "../../../internal/testing/peers.ts";
import { RedisServer } from "../../../internal/testing/redis_server.ts";
import { restoreNeighbors, type RestoreOptions } from "../../restore.ts";
import { openRedisSink, type RedisSink } from "../../sink_redis.ts";
import { WarmRestartStore } from "../../warm_restart_store.ts";

bindAll();

const IS_LONG = Deno.env.get("FASTWIRE_LONG") === "1";

/** A network, a Redis with a published table, and what restores one from the other. */
class Place implements AsyncDisposable {
  private constructor(
    readonly network: NetworkNamespace,
    readonly server: RedisServer,
    readonly sink: RedisSink,
    readonly store: WarmRestartStore,
    readonly made: AsyncDisposableStack,
  ) {}

  static async create(): Promise<Place> {
    await using made = new AsyncDisposableStack();
    const network = made.use(await NetworkNamespace.create());
    const server = made.use(await RedisServer.start());
    const sink = made.use(openRedisSink({ target: { address: { path: server.socket } } }));
    await sink.whenConnected();
    await server.run(["SELECT", 6], [
      "HSET",
      "WARM_RESTART_ENABLE_TABLE|system",
      "enable",
      "true",
    ]);
    return new Place(network, server, sink, new WarmRestartStore(sink.link), made.move());
  }

  async publish(entries: readonly (readonly [key: string, mac: string])[]): Promise<void> {
    await this.server.run(...entries.map(([key, mac]) => [
      "HSET",
      `NEIGH_TABLE:${key}`,
      "neigh",
      mac,
      "family",
      key.includes("::") ? "IPv6" : "IPv4",
    ]));
  }

  restore(options: Partial<RestoreOptions> = {}): ReturnType<typeof restoreNeighbors> {
    const { sink, store } = this;
    return restoreNeighbors({
      sink,
      store,
      namespace: this.network.path,
      settleMs: 50,
      ...options,
    });
  }

  /** Runs many `ip` commands at once. */
  async batch(lines: readonly string[]): Promise<void> {
    const child = new Deno.Command("ip", {
      args: ["-n", this.network.name, "-batch", "-"],
      stdin: "piped",
      stdout: "null",
      stderr: "piped",
    }).spawn();
    const writer = child.stdin.getWriter();
    await writer.write(new TextEncoder().encode(lines.join("\n") + "\n"));
    await writer.close();
    const { success, stderr } = await child.output();
    ok(success, new TextDecoder().decode(stderr));
  }

  /** What the kernel has, by key. */
  async neighbors(): Promise<Map<string, string>> {
    const rows = JSON.parse(await this.network.ip("-json", "neigh", "show", "nud", "all"));
    return new Map(
      rows.filter(({ lladdr }: Row) => lladdr !== undefined).map((row: Row) => [
        `${row.dev}:${row.dst}`,
        `${row.lladdr} ${row.state.join()}`,
      ]),
    );
  }

  async restoredFlag(): Promise<unknown> {
    return (await this.server.run(["SELECT", 6], [
      "HGET",
      "NEIGH_RESTORE_TABLE|Flags",
      "restored",
    ]))[1];
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.made.disposeAsync();
  }
}

interface Row {
  readonly dev: string;
  readonly dst: string;
  readonly lladdr?: string;
  readonly state: readonly string[];
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`Cannot wait for ${what}: it did not happen`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

peerTest("restoreNeighbors() fills a thousand interfaces within 2 s of their carrier", [
  "namespaces",
], async () => {
  await using place = await Place.create();
  const count = IS_LONG ? 1000 : 250;
  const names = Array.from({ length: count }, (_, i) => `Ethernet${i}`);
  await place.batch(names.flatMap((name, i) => {
    const [high, low] = [i >> 8, i & 255];
    return [
      // Two of them are the ends of one cable.
      ...(i % 2 === 0 ? [`link add ${name} type veth peer name ${names[i + 1]}`] : []),
      `link set ${name} addrgenmode none`,
      `address add 10.${high}.${low}.1/24 dev ${name}`,
      `address add 2001:db8:${(i + 1).toString(16)}::1/64 dev ${name} nodad`,
    ];
  }));
  const entries = names.flatMap((name, i): [string, string][] => [
    [`${name}:10.${i >> 8}.${i & 255}.2`, "02:00:00:00:00:01"],
    [`${name}:2001:db8:${(i + 1).toString(16)}::2`, "02:00:00:00:00:02"],
  ]);
  await place.publish(entries);
  const restoring = place.restore();
  await place.batch(names.map((name) => `link set ${name} up`));
  const carrierAt = performance.now();
  const result = await restoring;
  const afterMs = performance.now() - carrierAt;
  deepEqual(
    [result.outcome, result.written, result.failed, result.waiting],
    ["restored", 2 * count, 0, []],
  );
  console.log(`restored ${2 * count} neighbours ${afterMs.toFixed(0)} ms after the last carrier`);
  ok(afterMs < 2000, `${afterMs} ms`);
  equal(result.probes, 2 * count);
  const kernel = await place.neighbors();
  for (const [key, mac] of entries) ok(kernel.get(key)?.startsWith(mac), key);
  equal(await place.restoredFlag(), "true");
});

peerTest("restoreNeighbors() makes a living neighbour reachable", ["namespaces"], async () => {
  await using place = await Place.create();
  await using other = await NetworkNamespace.create();
  const { first, second } = await place.network.connect(other, {
    first: "10.1.0.1/24",
    second: "10.1.0.2/24",
  });
  await place.network.addAddress(first, "2001:db8::1/64");
  await other.addAddress(second, "2001:db8::2/64");
  const [{ address }] = JSON.parse(await other.ip("-json", "link", "show", second));
  await place.publish([
    [`${first}:10.1.0.2`, address],
    [`${first}:2001:db8::2`, address],
    [`${first}:10.1.0.99`, "02:00:00:00:00:99"],
    ["lo:127.0.0.1", "02:00:00:00:00:98"],
    [`${first}:10.1.0.98`, "00:00:00:00:00:00"],
  ]);
  const result = await place.restore();
  deepEqual([result.written, result.skipped, result.probes], [3, 2, 3]);
  await until(async () => {
    const kernel = await place.neighbors();
    return [`${first}:10.1.0.2`, `${first}:2001:db8::2`].every((key) =>
      kernel.get(key)?.endsWith("REACHABLE")
    );
  }, "the answers");
  equal((await place.neighbors()).get(`${first}:10.1.0.99`), "02:00:00:00:00:99 STALE");
  // Once more: what exists stays.
  const again = await place.restore();
  deepEqual([again.written, again.existing], [0, 3]);
});

peerTest("restoreNeighbors() waits for each interface by itself: name, carrier, address, members", [
  "namespaces",
], async () => {
  await using place = await Place.create();
  const { network } = place;
  await place.publish([
    ["Ethernet0:10.0.0.2", "02:00:00:00:00:02"],
    ["Ethernet4:10.4.0.2", "02:00:00:00:00:42"],
    ["Vlan10:10.10.0.2", "02:00:00:00:00:0a"],
    ["Ethernet8:10.8.0.2", "02:00:00:00:00:08"],
  ]);
  await network.addDevice("Ethernet0");
  await network.addAddress("Ethernet0", "10.0.0.1/24");
  const restoring = place.restore({ timeoutMs: 10_000 });
  const has = (key: string) => async () => (await place.neighbors()).has(key);
  await until(has("Ethernet0:10.0.0.2"), "the one that was ready");
  // The address comes last.
  await network.addDevice("Ethernet4");
  await network.addAddress("Ethernet4", "10.4.0.1/24");
  await until(has("Ethernet4:10.4.0.2"), "the one that came");
  // The name comes last.
  await network.addDevice("tmp8");
  await network.addAddress("tmp8", "10.8.0.1/24");
  await network.ip("link", "set", "tmp8", "down");
  await network.ip("link", "set", "tmp8", "name", "Ethernet8");
  await network.ip("link", "set", "Ethernet8", "up");
  await until(has("Ethernet8:10.8.0.2"), "the one that was renamed");
  await network.addDevice("Vlan10");
  await network.addAddress("Vlan10", "10.10.0.1/24");
  ok(!(await place.neighbors()).has("Vlan10:10.10.0.2"));
  await place.server.run(["SELECT", 6], [
    "HSET",
    "VLAN_MEMBER_TABLE|Vlan10|Ethernet0",
    "state",
    "ok",
  ]);
  const result = await restoring;
  deepEqual([result.outcome, result.written, result.waiting], ["restored", 4, []]);
  ok((await place.neighbors()).has("Vlan10:10.10.0.2"));
});

peerTest("restoreNeighbors() gives up on interfaces that never come, and sets the flag", [
  "namespaces",
], async () => {
  await using place = await Place.create();
  await place.network.addDevice("Ethernet0");
  await place.network.addAddress("Ethernet0", "10.0.0.1/24");
  await place.publish([
    ["Ethernet0:10.0.0.2", "02:00:00:00:00:02"],
    ["Ethernet0:2001:db8::2", "02:00:00:00:00:02"],
    ["Ethernet9:10.9.0.2", "02:00:00:00:00:02"],
  ]);
  const planned = await place.restore({ dryRun: true });
  deepEqual([planned.outcome, planned.entries, planned.interfaces], ["planned", 3, 2]);
  deepEqual([await place.restoredFlag(), (await place.neighbors()).size], [null, 0]);
  const result = await place.restore({ timeoutMs: 100 });
  deepEqual(
    [result.outcome, result.written, result.waiting],
    ["timed-out", 1, ["Ethernet0", "Ethernet9"]],
  );
  equal(await place.restoredFlag(), "true");
});

peerTest(
  "restoreNeighbors() does no more than the scope of the restart asks for",
  ["namespaces"],
  async () => {
    await using place = await Place.create();
    await place.publish([["Ethernet0:10.0.0.2", "02:00:00:00:00:02"]]);
    await place.server.run(["SELECT", 6], ["DEL", "WARM_RESTART_ENABLE_TABLE|system"]);
    equal((await place.restore()).outcome, "nothing-to-do");
    equal(await place.restoredFlag(), null);
    await place.server.run(["SELECT", 6], [
      "HSET",
      "WARM_RESTART_ENABLE_TABLE|swss",
      "enable",
      "true",
    ]);
    equal((await place.restore()).outcome, "flagged");
    equal(await place.restoredFlag(), "true");
  },
);

peerTest(
  "restoreNeighbors() stops when told to, and does not set the flag for a table it cannot read",
  ["namespaces"],
  async () => {
    await using place = await Place.create();
    await place.publish([["Ethernet0:10.0.0.2", "02:00:00:00:00:02"]]);
    const controller = new AbortController();
    const reason = new Error("Cannot go on: told to stop");
    const restoring = place.restore({ signal: controller.signal });
    const stopped = rejects(restoring, reason);
    controller.abort(reason);
    await stopped;
    const sink = { readAll: () => Promise.reject(new Error("Cannot read")) };
    await rejects(place.restore({ sink }), /Cannot read/);
    equal(await place.restoredFlag(), null);
  },
);
