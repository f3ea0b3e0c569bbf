// Two daemons as processes, one network, one real Redis: one writes, the other goes on when it cannot. Needs root and
// redis-server.

import { deepEqual, equal, ok } from "node:assert/strict";
import { missingNamespaces, NetworkNamespace } from "../../../internal/testing/netns.ts";
import { type OwnTool, startOwnTool } from "../../../internal/testing/own_tool.ts";
import { RedisServer, redisTest } from "../../../internal/testing/redis_server.ts";

const KEY = "NEIGHSYNC_LEASE";

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 15_000;
  while (!await condition()) {
    if (performance.now() > giveUpAt) throw new Error(`Cannot go on: waited for ${what} in vain`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** A network, a Redis, and daemons by name. */
class Pair {
  constructor(readonly network: NetworkNamespace, readonly redis: RedisServer) {}

  start(id: string, ready: RegExp, ttl: string, ...more: readonly string[]): Promise<OwnTool> {
    const url = `unix:${this.redis.socket}`;
    const lease = ["--lease-key", KEY, "--lease-id", id, "--lease-ttl", ttl];
    const schema = more.includes("--schema") ? [] : ["--schema", "plain"];
    const words = ["--redis", url, "--metrics", "off", ...schema, ...lease, ...more];
    return startOwnTool("neighsync/mod.ts", ["run", ...words], { namespace: this.network, ready });
  }

  async add(host: number): Promise<void> {
    const mac = `02:00:00:00:00:${String(host).padStart(2, "0")}`;
    await this.network.ip("neigh", "add", `10.0.0.${host}`, "lladdr", mac, "dev", "Ethernet0");
  }

  async remove(host: number): Promise<void> {
    await this.network.ip("neigh", "del", `10.0.0.${host}`, "dev", "Ethernet0");
  }

  async hosts(): Promise<number[]> {
    const [keys] = await this.redis.run(["KEYS", "NEIGH_TABLE:*"]);
    return (keys as string[]).map((key) => Number(key.split(".").at(-1))).sort((a, b) => a - b);
  }

  untilHosts(...wanted: readonly number[]): Promise<void> {
    return until(
      `hosts ${wanted}`,
      async () => JSON.stringify(await this.hosts()) === JSON.stringify(wanted),
    );
  }
}

function pairTest(name: string, body: (pair: Pair) => Promise<void>): void {
  redisTest(name, async () => {
    await using network = await NetworkNamespace.create();
    await network.addDevice("Ethernet0");
    await using redis = await RedisServer.start();
    await body(new Pair(network, redis));
  }, missingNamespaces() === "" ? [] : ["a right to make namespaces"]);
}

const HOLDER = /^ready (\d+) neighbours/;
const STANDBY = /^standby (\d+) neighbours known, (\S+) writes$/;

pairTest(
  "neighsync run goes on within the lease's time and 2 s when the holder is killed",
  async (pair) => {
    const ttlMs = 3000;
    await pair.add(1);
    await pair.add(2);
    await using first = await pair.start("first", HOLDER, `${ttlMs}ms`);
    await using second = await pair.start("second", STANDBY, `${ttlMs}ms`);
    deepEqual(second.matches[0]!.slice(1), ["2", "first"]);
    await pair.add(3);
    await pair.untilHosts(1, 2, 3);
    Deno.kill(first.pid, "SIGKILL");
    const killedAt = performance.now();
    await pair.add(4);
    await pair.remove(1);
    await pair.untilHosts(2, 3, 4);
    const tookMs = performance.now() - killedAt;
    ok(tookMs <= ttlMs + 2000, `${tookMs} ms`);
    ok(second.output().includes("the lease is held"));
    equal(await second.stop(), 0);
    // Given back: nobody has to wait for it.
    deepEqual(await pair.redis.run(["EXISTS", KEY]), [0]);
  },
);

pairTest(
  "neighsync run goes on at once when the holder is stopped, whatever the lease's time",
  async (pair) => {
    await pair.add(1);
    await using first = await pair.start("first", HOLDER, "1h");
    await using second = await pair.start("second", STANDBY, "1h");
    await using third = await pair.start("third", STANDBY, "1h");
    equal(await first.stop(), 0);
    await pair.add(2);
    await pair.untilHosts(1, 2);
    const holder = String((await pair.redis.run(["GET", KEY]))[0]);
    const [next, other] = holder.startsWith("second ") ? [second, third] : [third, second];
    // Stopping one that stands by leaves the lease alone.
    equal(await other.stop(), 0);
    deepEqual(await pair.redis.run(["GET", KEY]), [holder]);
    equal(await next.stop(), 0);
  },
);

pairTest(
  "neighsync run writes nothing once its lease is stolen, though it has not heard of it",
  async (pair) => {
    await pair.add(1);
    await using daemon = await pair.start("daemon", HOLDER, "1h");
    await pair.redis.run(["SET", KEY, "thief 1"]);
    // Twenty minutes before it asks again: the batch itself is refused.
    await pair.add(2);
    await until("standing by", () => daemon.output().includes("standing by: thief"));
    deepEqual(await pair.hosts(), [1]);
    ok(daemon.output().includes("never ends"));
    await pair.redis.run(["DEL", KEY]);
    await pair.untilHosts(1, 2);
    equal(await daemon.stop(), 0);
  },
);

pairTest("neighsync run stages for a consumer only while it holds the lease", async (pair) => {
  await pair.add(1);
  const schema = ["--schema", "producer-state"];
  await using daemon = await pair.start("daemon", HOLDER, "1h", ...schema);
  deepEqual(await pair.redis.run(["SMEMBERS", "NEIGH_TABLE_KEY_SET"]), [["Ethernet0:10.0.0.1"]]);
  await pair.redis.run(["SET", KEY, "thief 1", "PX", 600_000]);
  await pair.add(2);
  await until("standing by", () => daemon.output().includes("standing by: thief"));
  deepEqual(await pair.redis.run(["SCARD", "NEIGH_TABLE_KEY_SET"]), [1]);
  equal(await daemon.stop(), 0);
  deepEqual(await pair.redis.run(["GET", KEY]), ["thief 1"]);
});

pairTest(
  "neighsync run lets another go on while it is held up, and stands by afterwards",
  async (pair) => {
    await pair.add(1);
    const patience = ["--redis-timeout-ms", "500ms"];
    await using first = await pair.start("first", HOLDER, "1s", ...patience);
    await using second = await pair.start("second", STANDBY, "1s", ...patience);
    Deno.kill(first.pid, "SIGSTOP");
    await until("the takeover", () => second.output().includes("the lease is held"));
    await pair.add(2);
    await pair.untilHosts(1, 2);
    Deno.kill(first.pid, "SIGCONT");
    await until("standing by", () => first.output().includes("standing by: second"));
    await pair.add(3);
    await pair.untilHosts(1, 2, 3);
    equal(await first.stop(), 0);
    equal(await second.stop(), 0);
  },
);
