import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { RedisServer, redisTest } from "../../../internal/testing/redis_server.ts";
import { SonicConsumer } from "../../../internal/testing/sonic_consumer.ts";
import { runProgram } from "../../../internal/testing/peers.ts";
import { seededRandom } from "../../../internal/random.ts";
import { openRedisSink, type RedisSink, type RedisSinkOptions } from "../../sink_redis.ts";
import { ManualClock } from "../../../internal/time/clock.ts";
import { RedisConfigDatabase } from "../../config_database.ts";
import { ConfigPolicy, type PolicyChange } from "../../policy.ts";
import { WarmRestartStore } from "../../warm_restart_store.ts";
import { effectiveTable, type SinkEvent, type SinkOperation } from "../../sink.ts";

const LINK = { backoffMs: 5, maxBackoffMs: 40 };

async function openSink(
  server: RedisServer,
  options: Partial<RedisSinkOptions> = {},
): Promise<RedisSink> {
  const sink = openRedisSink({
    target: { address: { path: server.socket } },
    link: LINK,
    ...options,
  });
  await sink.whenConnected();
  return sink;
}

function set(key: string, mac: string): SinkOperation {
  return { op: "set", key, mac, family: key.includes(":", key.indexOf(":") + 1) ? "IPv6" : "IPv4" };
}

function del(key: string): SinkOperation {
  return { op: "del", key, mac: "", family: "IPv4" };
}

async function until(condition: () => boolean | Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`Cannot wait for ${what}: it did not happen`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

redisTest("RedisSink stages what a producer-state consumer expects, byte for byte", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server);
  await sink.apply([
    set("Ethernet0:10.0.0.1", "02:00:00:00:00:01"),
    set("Vlan10:fc00::1", "02:00:00:00:00:02"),
    del("Ethernet4:10.0.0.9"),
  ]);
  const [keys, gone, staged, staged6, final, all] = await server.run(
    ["SMEMBERS", "NEIGH_TABLE_KEY_SET"],
    ["SMEMBERS", "NEIGH_TABLE_DEL_SET"],
    ["HGETALL", "_NEIGH_TABLE:Ethernet0:10.0.0.1"],
    ["HGETALL", "_NEIGH_TABLE:Vlan10:fc00::1"],
    ["EXISTS", "NEIGH_TABLE:Ethernet0:10.0.0.1"],
    ["DBSIZE"],
  );
  deepEqual((keys as string[]).toSorted(), [
    "Ethernet0:10.0.0.1",
    "Ethernet4:10.0.0.9",
    "Vlan10:fc00::1",
  ]);
  deepEqual(gone, ["Ethernet4:10.0.0.9"]);
  deepEqual(staged, ["neigh", "02:00:00:00:00:01", "family", "IPv4"]);
  deepEqual(staged6, ["neigh", "02:00:00:00:00:02", "family", "IPv6"]);
  deepEqual([final, all], [0, 4]);
});

redisTest("RedisSink keeps every byte of a key, whatever it is", async () => {
  await using server = await RedisServer.start();
  for (const schema of ["producer-state", "plain"] as const) {
    await using sink = await openSink(server, { schema });
    const keys = ['"\\\n\t :10.0.0.1', "é€😀:10.0.0.2", "\u0001{}[],:10.0.0.3"];
    await sink.apply(keys.map((key) => ({ ...set(key, "02:00:00:00:00:01"), route: `Vrf${key}` })));
    const table = effectiveTable(await sink.readAll());
    deepEqual([...table.keys()].toSorted(), keys.toSorted());
    await sink.apply(keys.map(del));
    equal(effectiveTable(await sink.readAll()).size, 0);
  }
});

redisTest("RedisSink publishes only when something was added", async () => {
  await using server = await RedisServer.start();
  await using consumer = await SonicConsumer.start(server.socket);
  await consumer.idle();
  await using sink = await openSink(server);
  // Stopped while it is not looking: the second batch finds the key pending already.
  const heard = consumer.messages;
  await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
  await until(() => consumer.messages === heard + 1, "the message");
  await consumer.idle();
  await server.run(["SADD", "NEIGH_TABLE_KEY_SET", "Ethernet0:10.0.0.1"]);
  await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:02")]);
  await sink.apply([set("Ethernet0:10.0.0.2", "02:00:00:00:00:02")]);
  await until(() => consumer.messages > heard + 1, "the message after the silent batch");
  equal(consumer.messages, heard + 2);
});

redisTest("RedisSink deletes a host route just before the neighbour is set", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server);
  const op = { ...set("Vlan10:10.0.0.1", "02:00:00:00:00:01"), route: "Vrf1:10.0.0.1" };
  await server.run(["HSET", "_ROUTE_TABLE:Vrf1:10.0.0.1", "nexthop", "10.0.0.9"]);
  await sink.apply([op, set("Vlan10:10.0.0.2", "02:00:00:00:00:02")]);
  const replies = await server.run(
    ["SMEMBERS", "ROUTE_TABLE_KEY_SET"],
    ["SMEMBERS", "ROUTE_TABLE_DEL_SET"],
    ["EXISTS", "_ROUTE_TABLE:Vrf1:10.0.0.1"],
    ["SCARD", "NEIGH_TABLE_KEY_SET"],
  );
  deepEqual(replies, [["Vrf1:10.0.0.1"], ["Vrf1:10.0.0.1"], 0, 2]);
});

redisTest("RedisSink and a consumer that pops meanwhile end equal to the model", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server, { maxBatch: 7 });
  await using consumer = await SonicConsumer.start(server.socket);
  const seed = Number(Deno.env.get("FASTWIRE_SEED") ?? Date.now() % 100_000);
  const random = seededRandom(seed);
  const model = new Map<string, string>();
  const flying: Promise<void>[] = [];
  const rounds = Deno.env.get("FASTWIRE_LONG") === "1" ? 20_000 : 400;
  for (let round = 0; round < rounds; round++) {
    const batch: SinkOperation[] = [];
    for (let i = random.u32() % 20; i >= 0; i--) {
      const key = `Ethernet${random.u32() % 5}:10.0.0.${random.u32() % 10}`;
      if (random.float() < 0.4) {
        batch.push(del(key));
        model.delete(key);
      } else {
        const mac = `02:00:00:00:00:${(random.u32() % 90 + 10)}`;
        batch.push(set(key, mac));
        model.set(key, `${mac} IPv4`);
      }
    }
    flying.push(sink.apply(batch));
    if (flying.length > 2) await flying.shift();
    if (round % 50 === 0) await server.run(["SCRIPT", "FLUSH"]);
  }
  await Promise.all(flying);
  await consumer.idle();
  const { final, pending } = await sink.readAll();
  equal(pending.size, 0);
  const stored = [...final].map(([key, { mac, family }]) => [key, `${mac} ${family}`]);
  deepEqual(new Map(stored as [string, string][]), model, `seed ${seed}`);
  deepEqual(consumer.programmed, model, `seed ${seed}`);
  ok(sink.snapshot().scriptReloads > 0);
  ok(consumer.popped.length > 0);
});

redisTest("readAll() tells final from staged, and what will become of both", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server);
  await server.run(
    ["HSET", "NEIGH_TABLE:Ethernet0:10.0.0.1", "neigh", "02:00:00:00:00:01", "family", "IPv4"],
    ["HSET", "NEIGH_TABLE:Ethernet0:10.0.0.2", "neigh", "02:00:00:00:00:02", "family", "IPv4"],
    ["HSET", "NEIGH_TABLE:Ethernet0:10.0.0.3", "other", "field"],
    ["SET", "NEIGH_TABLE:Ethernet0:10.0.0.4", "not a hash"],
    ["HSET", "NEIGH_TABLE_LIKE:1", "neigh", "x"],
  );
  await sink.apply([del("Ethernet0:10.0.0.2"), set("Ethernet0:10.0.0.5", "02:00:00:00:00:05")]);
  await sink.apply([del("Ethernet0:10.0.0.1"), set("Ethernet0:10.0.0.1", "02:00:00:00:00:11")]);
  const table = await sink.readAll();
  deepEqual(Object.fromEntries(table.pending), {
    "Ethernet0:10.0.0.1": { deletes: true, staged: { mac: "02:00:00:00:00:11", family: "IPv4" } },
    "Ethernet0:10.0.0.2": { deletes: true, staged: undefined },
    "Ethernet0:10.0.0.5": { deletes: false, staged: { mac: "02:00:00:00:00:05", family: "IPv4" } },
  });
  deepEqual([...table.final.keys()].toSorted().map((key) => key.slice(-1)), ["1", "2", "3", "4"]);
  deepEqual(table.final.get("Ethernet0:10.0.0.3"), { mac: "", family: "" });
  deepEqual([...effectiveTable(table)].map(([key, { mac }]) => [key.slice(-1), mac]).toSorted(), [
    ["1", "02:00:00:00:00:11"],
    ["3", ""],
    ["4", ""],
    ["5", "02:00:00:00:00:05"],
  ]);
});

redisTest("RedisSink reads and clears tables of many steps", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server);
  const batch = Array.from(
    { length: 5000 },
    (_, i) => set(`Ethernet${i % 64}:10.1.${i >> 8}.${i & 255}`, "02:00:00:00:00:01"),
  );
  await sink.apply(batch);
  equal((await sink.readAll()).pending.size, 5000);
  await using consumer = await SonicConsumer.start(server.socket);
  await consumer.idle();
  equal((await sink.readAll()).final.size, 5000);
  equal(sink.snapshot().batches, 1);
  await sink.apply(batch);
  await sink.clearPending();
  const [size] = await server.run(["DBSIZE"]);
  ok(Number(size) <= 5000, `${size} keys are left`);
  deepEqual((await sink.readAll()).pending.size, 0);
});

redisTest("RedisSink writes final hashes with the plain schema", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server, { schema: "plain" });
  await server.run(["SET", "NEIGH_TABLE:Ethernet0:10.0.0.3", "of another type"]);
  await sink.apply([
    set("Ethernet0:10.0.0.1", "02:00:00:00:00:01"),
    set("Ethernet0:10.0.0.2", "02:00:00:00:00:02"),
    set("Ethernet0:10.0.0.3", "02:00:00:00:00:03"),
    del("Ethernet0:10.0.0.1"),
  ]);
  const { final, pending } = await sink.readAll();
  equal(pending.size, 0);
  deepEqual([...final.keys()].toSorted(), ["Ethernet0:10.0.0.2", "Ethernet0:10.0.0.3"]);
  deepEqual(final.get("Ethernet0:10.0.0.3"), { mac: "02:00:00:00:00:03", family: "IPv4" });
});

redisTest("RedisSink replaces a staged key of another type", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server);
  await server.run(["SET", "_NEIGH_TABLE:Ethernet0:10.0.0.1", "of another type"]);
  await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
  const [staged] = await server.run(["HGETALL", "_NEIGH_TABLE:Ethernet0:10.0.0.1"]);
  deepEqual(staged, ["neigh", "02:00:00:00:00:01", "family", "IPv4"]);
});

/** Everything the connection reports, without the waits. */
function events(sink: RedisSink): SinkEvent[] {
  const seen: SinkEvent[] = [];
  sink.observe((event) => {
    if (event.state !== "reconnecting") seen.push(event);
  });
  return seen;
}

redisTest("RedisSink comes back after CLIENT KILL", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server);
  const seen = events(sink);
  await server.run(["CLIENT", "KILL", "TYPE", "normal"]);
  await until(() => seen.some(({ state }) => state === "connected"), "the new connection");
  deepEqual(seen.map((event) => event.state === "lost" ? event.code : event.state), [
    "redis.connection-lost",
    "connected",
  ]);
  await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
  equal(sink.snapshot().reconnects, 1);
});

redisTest(
  "RedisSink rejects what a killed server did not acknowledge and finds it empty",
  async () => {
    await using server = await RedisServer.start();
    await using sink = await openSink(server);
    await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
    const seen = events(sink);
    server.pause();
    const unanswered = sink.apply([set("Ethernet0:10.0.0.2", "02:00:00:00:00:02")]);
    const refusal = rejects(unanswered, { code: "redis.connection-lost" });
    await server.kill();
    await refusal;
    await rejects(sink.apply([del("Ethernet0:10.0.0.1")]), { code: "redis.not-connected" });
    await until(() => seen.length >= 3, "several attempts");
    ok(seen.every((event) => event.state === "lost"));
    equal(seen[1]?.state === "lost" && seen[1].code, "redis.unreachable");
    await server.restart();
    await sink.whenConnected();
    const { final, pending } = await sink.readAll();
    deepEqual([final.size, pending.size], [0, 0]);
  },
);

redisTest("RedisSink finds the old table after a restart with data", async () => {
  await using server = await RedisServer.start({ persistent: true });
  await using sink = await openSink(server);
  await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
  await using consumer = await SonicConsumer.start(server.socket);
  await consumer.idle();
  await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:02")]);
  await consumer.idle();
  const connectedAgain = new Promise<void>((resolve) => {
    sink.observe((event) => event.state === "connected" && resolve());
  });
  await server.kill();
  await server.restart();
  await connectedAgain;
  const { final } = await sink.readAll();
  deepEqual(Object.fromEntries(final), {
    "Ethernet0:10.0.0.1": { mac: "02:00:00:00:00:02", family: "IPv4" },
  });
});

redisTest("RedisSink names each refusal and goes on when it ends", async () => {
  await using server = await RedisServer.start({ extra: ["--port", "0"] });
  await using sink = await openSink(server);
  const op = set("Ethernet0:10.0.0.1", "02:00:00:00:00:01");
  const cases:
    readonly (readonly [code: string, begin: readonly string[], end: readonly string[]])[] = [
      ["redis.read-only", ["REPLICAOF", "127.0.0.1", "1"], ["REPLICAOF", "NO", "ONE"]],
      ["redis.out-of-memory", ["CONFIG", "SET", "maxmemory", "1"], [
        "CONFIG",
        "SET",
        "maxmemory",
        "0",
      ]],
      ["redis.not-permitted", ["ACL", "SETUSER", "default", "-evalsha"], [
        "ACL",
        "SETUSER",
        "default",
        "+@all",
      ]],
      ["redis.no-master", ["CONFIG", "SET", "min-replicas-to-write", "1"], [
        "CONFIG",
        "SET",
        "min-replicas-to-write",
        "0",
      ]],
    ];
  for (const [code, begin, end] of cases) {
    await sink.whenConnected();
    const seen = events(sink);
    await server.run(begin);
    await rejects(sink.apply([op]), { code }, code);
    await until(() => seen.length > 0, `the loss for ${code}`);
    equal(seen[0]?.state === "lost" && seen[0].code, code);
    await server.run(end);
    await until(() => sink.connected, `the end of ${code}`);
    await sink.apply([op]);
  }
});

redisTest("RedisSink waits while a disk error forbids writing", async () => {
  await using server = await RedisServer.start({
    extra: ["--dbfilename", "a", "--save", "100000 1"],
  });
  await using sink = await openSink(server);
  // A folder under the name of the file makes the rename at the end of saving fail.
  await Deno.mkdir(`${server.folder}/a`);
  await server.run(["BGSAVE"]);
  await until(
    async () => String(await server.run(["INFO", "persistence"])).includes("save_status:err"),
    "the failed save",
  );
  await rejects(sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]), {
    code: "redis.not-saving",
  });
  await server.run(["CONFIG", "SET", "save", ""]);
  await sink.whenConnected();
});

redisTest("RedisSink counts as connected only when a loading server has loaded", async () => {
  await using server = await RedisServer.start({ persistent: true });
  await server.run(["DEBUG", "POPULATE", "4000"], ["BGREWRITEAOF"]);
  await until(
    async () =>
      String(await server.run(["INFO", "persistence"])).includes("aof_rewrite_in_progress:0"),
    "the rewrite",
  );
  await using sink = await openSink(server);
  const codes = new Set<string>();
  sink.observe((event) => event.state === "lost" && codes.add(event.code));
  await server.kill();
  await server.restart("--key-load-delay", "50", "--loading-process-events-interval-bytes", "1024");
  await until(() => sink.connected, "the loaded server");
  ok(codes.has("redis.loading"), [...codes].join());
});

redisTest("RedisSink bears slow replies and gives up on silent servers", async () => {
  await using server = await RedisServer.start();
  await using patient = await openSink(server);
  await using hasty = await openSink(server, { link: { ...LINK, timeoutMs: 80 } });
  const op = set("Ethernet0:10.0.0.1", "02:00:00:00:00:01");
  const sleeping = server.run(["DEBUG", "SLEEP", "0.3"]);
  await until(async () => {
    const startedAt = performance.now();
    await patient.apply([op]);
    return performance.now() - startedAt > 100;
  }, "a slow reply");
  await sleeping;
  equal(patient.snapshot().failures, 0);
  server.pause();
  const refusal = rejects(hasty.apply([op]), { name: "DeadlineError", code: "redis.timeout" });
  await refusal;
  server.resume();
  await hasty.whenConnected();
  await hasty.apply([op]);
});

redisTest("RedisSink keeps asking with a wrong password and never shows it", async () => {
  await using server = await RedisServer.start({ extra: ["--requirepass", "right-one"] });
  await using sink = openRedisSink({
    target: { address: { path: server.socket }, password: "wrong-one" },
    link: LINK,
  });
  const messages: string[] = [];
  sink.observe((event) =>
    event.state === "lost" && messages.push(`${event.code} ${event.message}`)
  );
  await rejects(sink.whenConnected({ attempts: 3 }), { name: "AuthError", code: "redis.auth" });
  ok(
    messages.every((message) => message.startsWith("redis.auth") && !message.includes("wrong-one")),
  );
  await using missing = openRedisSink({ target: { address: { path: server.socket } }, link: LINK });
  await rejects(missing.whenConnected({ attempts: 1 }), { code: "redis.auth" });
  await using right = openRedisSink({
    target: {
      address: { path: server.socket },
      username: "default",
      password: "right-one",
      clientName: "neighsyncd",
    },
    link: LINK,
  });
  await right.whenConnected();
  await right.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
});

redisTest("RedisSink speaks TCP and reaches a cluster with the plain schema", async () => {
  await using server = await RedisServer.start({ tcp: true, extra: ["--cluster-enabled", "yes"] });
  await server.run(["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
  await until(
    async () => String(await server.run(["CLUSTER", "INFO"])).includes("cluster_state:ok"),
    "the cluster",
  );
  const address = { host: "127.0.0.1", port: server.port };
  await using sink = openRedisSink({
    target: { address, cluster: [address] },
    schema: "plain",
    link: LINK,
  });
  await sink.whenConnected();
  const batch = Array.from(
    { length: 50 },
    (_, i) => set(`Ethernet0:10.0.0.${i}`, "02:00:00:00:00:01"),
  );
  await sink.apply([...batch, del("Ethernet0:10.0.0.7")]);
  const { final } = await sink.readAll();
  equal(final.size, 49);
  deepEqual(final.get("Ethernet0:10.0.0.8"), { mac: "02:00:00:00:00:01", family: "IPv4" });
  await server.kill();
  await until(() => !sink.connected, "the loss of the cluster");
});

/** Everything a switch's configuration says, over the sink's own connections. */
async function openPolicy(sink: RedisSink, ttlMs = 60_000) {
  const changes: PolicyChange[] = [];
  const clock = new ManualClock();
  const policy = new ConfigPolicy(new RedisConfigDatabase(sink.link), {
    clock,
    ttlMs,
    onChange: (change) => changes.push(change),
  });
  policy.want(["Vlan10", "Ethernet0"]);
  await policy.load();
  return { changes, clock, policy };
}

redisTest("ConfigPolicy follows CONFIG_DB by keyspace notifications", async () => {
  await using server = await RedisServer.start({ extra: ["--notify-keyspace-events", "AKE"] });
  await server.run(
    ["SELECT", 4],
    ["HSET", "VLAN_INTERFACE|Vlan10", "ipv6_use_link_local_only", "enable"],
    ["HSET", "PEER_SWITCH|tor2", "address_ipv4", "10.0.0.1"],
  );
  await using sink = await openSink(server);
  const { changes, policy } = await openPolicy(sink);
  deepEqual(changes, [
    { fact: "dual-tor", value: true },
    { fact: "link-local", ifname: "Vlan10", value: true },
  ]);
  equal(policy.snapshot().notified, true);
  await server.run(
    ["SELECT", 4],
    ["HSET", "INTERFACE|Ethernet0", "ipv6_use_link_local_only", "enable"],
    ["DEL", "PEER_SWITCH|tor2"],
    ["HSET", "VXLAN_EVPN_NVO|nvo", "source_vtep", "vtep"],
    ["HSET", "VLAN_INTERFACE|Vlan10", "ipv6_use_link_local_only", "disable"],
  );
  await until(() => changes.length === 6, "four changes");
  deepEqual([policy.dualTor, policy.evpn], [false, true]);
  deepEqual([policy.linkLocalEnabled("Ethernet0"), policy.linkLocalEnabled("Vlan10")], [
    true,
    false,
  ]);
  // The connection's own database is untouched by all this.
  await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
  const [staged] = await server.run(["EXISTS", "_NEIGH_TABLE:Ethernet0:10.0.0.1"]);
  equal(staged, 1);
  // Subscriptions are made again with the connection.
  const connected = new Promise<void>((resolve) => {
    sink.observe((event) => event.state === "connected" && resolve());
  });
  await server.run(["CLIENT", "KILL", "TYPE", "pubsub"]);
  await connected;
  await server.run(["SELECT", 4], ["DEL", "VXLAN_EVPN_NVO|nvo"]);
  await until(() => !policy.evpn, "the change after the new connection");
});

redisTest("ConfigPolicy reads CONFIG_DB again when its readings expire", async () => {
  await using server = await RedisServer.start();
  await using sink = await openSink(server);
  const { changes, clock, policy } = await openPolicy(sink);
  equal(policy.snapshot().notified, false);
  await server.run(
    ["SELECT", 4],
    ["HSET", "INTERFACE|Ethernet0", "ipv6_use_link_local_only", "enable"],
  );
  clock.advance(60_000);
  await policy.expire(clock.now());
  deepEqual(changes, [{ fact: "link-local", ifname: "Ethernet0", value: true }]);
  await server.run(["CONFIG", "SET", "notify-keyspace-events", "Khg"]);
  clock.advance(60_000);
  await policy.expire(clock.now());
  equal(policy.snapshot().notified, true);
  await server.run(["SELECT", 4], ["DEL", "INTERFACE|Ethernet0"]);
  await until(() => !policy.linkLocalEnabled("Ethernet0"), "the notification");
});

redisTest("WarmRestartStore reads and writes the tables of a warm restart", async () => {
  await using server = await RedisServer.start({ extra: ["--notify-keyspace-events", "AKE"] });
  await using sink = await openSink(server);
  const store = new WarmRestartStore(sink.link);
  deepEqual(await store.readFlags(), {
    enabled: false,
    restoreCount: undefined,
    timerSec: undefined,
  });
  await server.run(
    ["SELECT", 6],
    ["HSET", "WARM_RESTART_ENABLE_TABLE|swss", "enable", "true"],
    ["HSET", "WARM_RESTART_TABLE|neighsyncd", "restore_count", "4"],
    ["SELECT", 4],
    ["HSET", "WARM_RESTART|swss", "neighsyncd_timer", "7"],
  );
  deepEqual(await store.readFlags(), { enabled: true, restoreCount: 4, timerSec: "7" });
  deepEqual(await store.readScope(), { system: false, docker: true });
  await store.setRestoreCount(5);
  await store.setState("initialized");
  await store.setState("restored");
  equal(await store.readState(), "restored");
  let told = 0;
  equal(await store.followRestored(() => told++), true);
  equal(await store.readRestored(), false);
  await new WarmRestartStore(sink.link).markRestored();
  await until(() => told > 0, "the notification");
  equal(await store.readRestored(), true);
  const replies = await server.run(
    ["SELECT", 6],
    ["HGETALL", "WARM_RESTART_TABLE|neighsyncd"],
    ["HGETALL", "NEIGH_RESTORE_TABLE|Flags"],
    ["SELECT", 0],
    ["DBSIZE"],
  );
  deepEqual(replies[1], ["restore_count", "5", "state", "restored"]);
  deepEqual(replies[2], ["restored", "true"]);
  equal(replies[4], 0);
});

redisTest("RedisSink uses the application's own client and leaves it open", async () => {
  await using server = await RedisServer.start();
  const { createClient } = await import("@redis/client");
  const client = createClient({ socket: { path: server.socket, tls: false } });
  client.on("error", () => {});
  await client.connect();
  try {
    const sink = openRedisSink({ clients: { commands: client }, link: LINK });
    await sink.whenConnected();
    await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
    equal((await sink.readAll()).pending.size, 1);
    const policy = new ConfigPolicy(new RedisConfigDatabase(sink.link));
    await policy.load();
    equal(policy.snapshot().notified, false);
    await server.run(["CLIENT", "KILL", "TYPE", "normal"]);
    await until(() => sink.snapshot().reconnects > 0, "the client's own new connection");
    await sink.apply([set("Ethernet0:10.0.0.2", "02:00:00:00:00:02")]);
    await sink.close();
    equal(await client.ping(), "PONG");
  } finally {
    client.destroy();
  }
});

redisTest("RedisSink follows the sentinels to a new master", async () => {
  await using first = await RedisServer.start({ tcp: true });
  await using second = await RedisServer.start({ tcp: true });
  const file = `${first.folder}/sentinel.conf`;
  await Deno.writeTextFile(file, `sentinel monitor table 127.0.0.1 ${first.port} 1\n`);
  await using sentinel = await RedisServer.start({ tcp: true, sentinelFile: file });
  await using sink = openRedisSink({
    target: {
      address: { host: "127.0.0.1", port: 1 },
      sentinels: {
        addresses: [{ host: "127.0.0.1", port: 1 }, { host: "127.0.0.1", port: sentinel.port }],
        masterName: "table",
      },
    },
    link: LINK,
  });
  await sink.whenConnected();
  await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
  await second.run(["REPLICAOF", "127.0.0.1", first.port]);
  await until(
    async () => String(await second.run(["INFO", "replication"])).includes("link_status:up"),
    "the replica",
  );
  // What a failover ends with: the sentinels give another address, and the old master refuses to write.
  await second.run(["REPLICAOF", "NO", "ONE"]);
  await first.run(["REPLICAOF", "127.0.0.1", second.port]);
  await sentinel.run(
    ["SENTINEL", "REMOVE", "table"],
    ["SENTINEL", "MONITOR", "table", "127.0.0.1", second.port, 1],
  );
  await rejects(sink.apply([set("Ethernet0:10.0.0.2", "02:00:00:00:00:02")]), {
    code: "redis.read-only",
  });
  await sink.whenConnected();
  equal((await sink.readAll()).pending.size, 1);
  await sink.apply([set("Ethernet0:10.0.0.2", "02:00:00:00:00:02")]);
  const [keys] = await second.run(["SCARD", "NEIGH_TABLE_KEY_SET"]);
  equal(keys, 2);
});

redisTest("RedisSink speaks TLS and refuses a certificate of somebody else", async () => {
  const folder = await Deno.makeTempDir({ prefix: "fastwire-tls-" });
  try {
    const [keyFile, caFile] = [`${folder}/key.pem`, `${folder}/cert.pem`];
    const words =
      "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost";
    const made = await runProgram([
      "openssl",
      ...words.split(" "),
      ...["-addext", "subjectAltName=DNS:localhost", "-keyout", keyFile, "-out", caFile],
    ]);
    equal(made.code, 0, made.stderr);
    const files = [
      "--tls-cert-file",
      caFile,
      "--tls-key-file",
      keyFile,
      "--tls-ca-cert-file",
      caFile,
    ];
    await using server = await RedisServer.start({ tcp: true, tls: true, extra: files });
    const address = { host: "localhost", port: server.port };
    // The server asks for a certificate of ours too.
    const tls = { caFile, certFile: caFile, keyFile };
    await using sink = openRedisSink({ target: { address, tls }, link: LINK });
    await sink.whenConnected({ attempts: 3 });
    await sink.apply([set("Ethernet0:10.0.0.1", "02:00:00:00:00:01")]);
    for (
      const wrong of [{ certFile: caFile, keyFile }, { ...tls, serverName: "other.example" }, {
        caFile,
      }]
    ) {
      await using stranger = openRedisSink({ target: { address, tls: wrong }, link: LINK });
      await rejects(stranger.whenConnected({ attempts: 2 }), { name: "SystemError" });
    }
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}, ["openssl"]);
