import { deepEqual, equal, ok, rejects, throws } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import { RedisBatches } from "./redis_batches.ts";
import { familyOf, scriptArguments, tableNames } from "./redis_table.ts";
import { effectiveTable, type SinkEvent, type SinkOperation } from "./sink.ts";
import { MemorySink } from "./sink_memory.ts";
import { openRedisSink } from "./sink_redis.ts";

function set(key: string, mac: string): SinkOperation {
  return { op: "set", key, mac, family: "IPv4" };
}

function del(key: string): SinkOperation {
  return { op: "del", key, mac: "", family: "IPv4" };
}

const SEED = Number(Deno.env.get("FASTWIRE_SEED") ?? Date.now() % 1_000_000);
const ROUNDS = Deno.env.get("FASTWIRE_LONG") === "1" ? 200_000 : 4000;

Deno.test("MemorySink and a consumer that pops at any time end equal to the model", async () => {
  const random = seededRandom(SEED);
  const sink = new MemorySink({ schema: "producer-state" });
  const model = new Map<string, string>(), programmed = new Map<string, string>();
  const program = (limit?: number): void => {
    for (const { key, op, value } of sink.pop(limit)) {
      if (op === "SET") programmed.set(key, value!.mac);
      else programmed.delete(key);
    }
  };
  for (let round = 0; round < ROUNDS; round++) {
    const batch: SinkOperation[] = [];
    for (let i = random.u32() % 6; i > 0; i--) {
      const key = `Ethernet0:10.0.0.${random.u32() % 12}`;
      if (random.float() < 0.5) {
        batch.push(del(key));
        model.delete(key);
      } else {
        const mac = String(random.u32() % 100);
        batch.push(set(key, mac));
        model.set(key, mac);
      }
    }
    await sink.apply(batch);
    if (round % 16 === 0) {
      const effective = effectiveTable(await sink.readAll());
      const macs = new Map([...effective].map(([key, { mac }]) => [key, mac]));
      deepEqual(macs, model, `seed ${SEED}, round ${round}`);
    }
    if (random.float() < 0.4) program(random.u32() % 5);
  }
  program(Infinity);
  deepEqual(programmed, model, `seed ${SEED}`);
  deepEqual(new Map([...sink.entries].map(([key, { mac }]) => [key, mac])), model, `seed ${SEED}`);
});

Deno.test("MemorySink tells a consumer a deletion first when both happened before it looked", async () => {
  const sink = new MemorySink({ schema: "producer-state" });
  let woken = 0;
  const stop = sink.onPending(() => woken++);
  await sink.apply([set("a:1", "02"), set("a:2", "03")]);
  sink.pop();
  await sink.apply([del("a:1")]);
  await sink.apply([set("a:1", "04"), del("a:2")]);
  equal(woken, 3);
  deepEqual((await sink.readAll()).pending.get("a:1"), {
    deletes: true,
    staged: { mac: "04", family: "IPv4" },
  });
  deepEqual(sink.pop().map(({ key, op }) => `${op} ${key}`), ["SET a:1", "DEL a:2"]);
  await sink.apply([del("a:9")]);
  await sink.clearPending();
  deepEqual(sink.pop(), []);
  stop();
  await sink.apply([del("a:9")]);
  equal(woken, 4);
});

Deno.test("MemorySink is final at once by default and refuses while it is lost", async () => {
  await using sink = new MemorySink();
  const events: SinkEvent[] = [];
  const stop = sink.observe((event) => events.push(event));
  await sink.apply([{ ...set("Vlan1:10.0.0.1", "02"), route: "Vrf1:10.0.0.1" }]);
  deepEqual(sink.deletedRoutes, ["Vrf1:10.0.0.1"]);
  sink.lose("redis.read-only");
  await rejects(sink.apply([del("Vlan1:10.0.0.1")]), { code: "redis.not-connected" });
  await rejects(sink.readAll(), { code: "redis.not-connected" });
  sink.recover();
  equal(sink.entries.size, 1);
  sink.tamper("Vlan1:10.0.0.1", undefined);
  equal((await sink.readAll()).final.size, 0);
  await sink.apply([set("Vlan1:10.0.0.2", "02")]);
  sink.lose();
  sink.recover({ empty: true });
  equal(sink.entries.size, 0);
  stop();
  sink.lose();
  deepEqual(events.map((event) => event.state === "lost" ? event.code : event.state), [
    "redis.read-only",
    "reconnecting",
    "connected",
    "redis.connection-lost",
    "reconnecting",
    "connected",
  ]);
  const { reconnects, failures, batches, operations } = sink.snapshot();
  deepEqual([reconnects, failures, batches, operations], [2, 1, 2, 2]);
  await sink.close();
  sink.recover();
  await rejects(sink.apply([]), { code: "redis.closed" });
});

Deno.test("effectiveTable() does with each kind of pending change what the consumer will", () => {
  const stored = (mac: string) => ({ mac, family: "IPv4" });
  const table = {
    final: new Map([["kept", stored("1")], ["gone", stored("2")], ["odd", stored("3")]]),
    pending: new Map([
      ["gone", { deletes: true, staged: undefined }],
      ["odd", { deletes: false, staged: undefined }],
      ["new", { deletes: true, staged: stored("4") }],
      ["kept", { deletes: false, staged: { mac: "5", family: "" } }],
    ]),
  };
  deepEqual(effectiveTable(table), new Map([["kept", stored("5")], ["new", stored("4")]]));
  equal(table.final.size, 3);
});

Deno.test("scriptArguments() gives the script the routes, and two strings per change, as JSON", () => {
  const neighbors = tableNames("NEIGH_TABLE", 0, ":"), routes = tableNames("ROUTE_TABLE", 0, ":");
  const batch = [
    set("skipped", "x"),
    { ...set("Vlan1:10.0.0.1", "02"), route: "Vrf1:10.0.0.1" },
    del("b"),
  ];
  deepEqual(scriptArguments("producer-state", neighbors, routes, batch, 1, 3), [
    "6",
    "NEIGH_TABLE_KEY_SET",
    "NEIGH_TABLE_DEL_SET",
    "NEIGH_TABLE_CHANNEL@0",
    "ROUTE_TABLE_KEY_SET",
    "ROUTE_TABLE_DEL_SET",
    "ROUTE_TABLE_CHANNEL@0",
    "_NEIGH_TABLE:",
    "_ROUTE_TABLE:",
    '["Vrf1:10.0.0.1"]',
    '["Vlan1:10.0.0.1","IPv402","b",""]',
  ]);
  deepEqual(scriptArguments("plain", neighbors, routes, batch, 2, 3), [
    "0",
    "NEIGH_TABLE:",
    "ROUTE_TABLE:",
    "",
    '["b",""]',
  ]);
  deepEqual([familyOf("10.0.0.1"), familyOf("fe80::1")], ["IPv4", "IPv6"]);
});

/** A server with one script that writes `key value`, which it forgets and is told again by others at any time. */
class ForgetfulServer {
  readonly written = new Map<string, string>();
  readonly random = seededRandom(SEED);
  knows = false;
  forgets = 0.3;
  broken = false;

  readonly send = async (args: string[]): Promise<unknown> => {
    await Promise.resolve();
    if (this.random.float() < this.forgets) this.knows = this.random.float() < 0.5;
    if (this.broken) throw Object.assign(new Error("lost"), { code: "redis.connection-lost" });
    if (args[0] === "SCRIPT") return "sha";
    if (args[0] === "EVAL") this.knows = true;
    if (!this.knows) throw Object.assign(new Error("NOSCRIPT"), { code: "redis.no-script" });
    for (let i = 2; i < args.length; i += 2) this.written.set(args[i]!, args[i + 1]!);
    return 1;
  };
}

Deno.test("RedisBatches keeps the order when the script is forgotten under way", async () => {
  const server = new ForgetfulServer();
  const batches = new RedisBatches("script", server.send);
  await batches.load();
  const model = new Map<string, string>();
  let flying: Promise<void>[] = [];
  for (let round = 0; round < ROUNDS; round++) {
    const key = `k${server.random.u32() % 3}`;
    model.set(key, String(round));
    flying.push(batches.submit([key, String(round)]));
    if (flying.length > server.random.u32() % 5) {
      await Promise.all(flying);
      flying = [];
      deepEqual(server.written, model, `seed ${SEED}, round ${round}`);
    }
  }
  await Promise.all(flying);
  ok(batches.reloads > ROUNDS / 100);
  equal(batches.inFlight, 0);
});

Deno.test("RedisBatches rejects every batch that a lost connection leaves unanswered", async () => {
  const server = new ForgetfulServer();
  const batches = new RedisBatches("script", server.send);
  server.broken = true;
  const sent = [batches.submit(["a", "1"]), batches.submit(["b", "2"])];
  const settled = await Promise.allSettled(sent);
  deepEqual(settled.map(({ status }) => status), ["rejected", "rejected"]);
  equal(batches.inFlight, 0);
});

Deno.test("openRedisSink() refuses contradictions before it connects", () => {
  const target = { address: { path: "/nowhere" } };
  throws(() => openRedisSink({}), TypeError);
  throws(() => openRedisSink({ target: { ...target, cluster: [target.address] } }), /plain/);
  const commands = { sendCommand: () => Promise.resolve() };
  throws(() => openRedisSink({ target, clients: { commands } }), TypeError);
  throws(() => openRedisSink({ clients: { commands, subscriptions: commands } }), /pSubscribe/);
});
