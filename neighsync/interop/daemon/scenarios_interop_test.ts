// What a switch does to its neighbour table, between a real kernel and a real Redis with a consumer that pops as the
// switch's agent does. Needs root and redis-server.

import { deepEqual, equal, ok } from "node:assert/strict";
import { bindAll } from "../../../ffi/libc_linux.ts";
import { missingNamespaces } from "../../../internal/testing/netns.ts";
import { redisTest } from "../../../internal/testing/redis_server.ts";
import { seededRandom } from "../../../internal/random.ts";
import { Scene, type SceneOptions, until } from "../../testdata/scene.ts";

bindAll();

const IS_LONG = Deno.env.get("FASTWIRE_LONG") === "1";
const MAC = "02:00:00:00:00:01", OTHER = "02:00:00:00:00:02";

function scenario(
  name: string,
  body: (scene: Scene) => Promise<void>,
  options: SceneOptions = {},
): void {
  redisTest(name, async () => {
    await using scene = await Scene.create(options);
    await body(scene);
    await scene.settled();
  }, missingNamespaces() === "" ? [] : ["a right to make namespaces"]);
}

/** What the consumer popped for a key, in order: fields as one string, empty for a deletion. */
function poppedOf(scene: Scene, key: string): string[] {
  return scene.consumer.popped.filter((one) => one.key === key).map(({ fields }) =>
    fields.join(" ")
  );
}

scenario("neighbours are added, changed and deleted, each with its two fields", async (scene) => {
  await scene.start();
  await scene.neigh("add", "10.0.0.1", "lladdr", MAC);
  await scene.neigh("add", "2001:db8::1", "lladdr", MAC, "nud", "reachable");
  await scene.settled();
  deepEqual(Object.fromEntries(await scene.published()), {
    "Ethernet0:10.0.0.1": `neigh ${MAC} family IPv4`,
    "Ethernet0:2001:db8::1": `neigh ${MAC} family IPv6`,
  });
  await scene.neigh("change", "10.0.0.1", "lladdr", OTHER);
  await scene.settled();
  await scene.neigh("delete", "10.0.0.1");
  await scene.settled();
  deepEqual(poppedOf(scene, "Ethernet0:10.0.0.1"), [
    `neigh ${MAC} family IPv4`,
    `neigh ${OTHER} family IPv4`,
    "",
  ]);
});

scenario("states that wander with one MAC are not published again", async (scene) => {
  const sync = await scene.start();
  await scene.neigh("add", "10.0.0.1", "lladdr", MAC, "nud", "reachable");
  await scene.settled();
  const events = sync.snapshot().kernel.events;
  for (const state of ["stale", "delay", "probe", "reachable", "permanent", "stale"]) {
    await scene.neigh("change", "10.0.0.1", "lladdr", MAC, "nud", state);
  }
  await until(() => sync.snapshot().kernel.events >= events + 5, "the events");
  await scene.settled();
  equal(poppedOf(scene, "Ethernet0:10.0.0.1").length, 1);
  ok(sync.snapshot().suppressed >= 4);
});

scenario("a storm of flaps ends with the last word for every key", async (scene) => {
  const sync = await scene.start();
  const seed = Number(Deno.env.get("FASTWIRE_SEED") ?? Date.now() % 100_000);
  const random = seededRandom(seed);
  const rounds = IS_LONG ? 4000 : 400;
  for (let round = 0; round < rounds; round++) {
    const first = random.u32() % 400, count = 1 + random.u32() % 100;
    if (random.float() < 0.4) scene.generator.remove(first, count);
    else scene.generator.put(first, count, random.u32() % 200);
    // The daemon shares this thread.
    if (round % 8 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
  }
  await scene.settled().catch((error) => {
    throw new Error(`seed ${seed}: ${error.message}`);
  });
  const { kernel, coalesced, suppressed } = sync.snapshot();
  equal(kernel.lostEvents, 0);
  ok(coalesced + suppressed > 0);
});

scenario(
  "IPv4 link-local neighbours are kept without dual-ToR, and are nobody's business with it",
  async (scene) => {
    const sync = await scene.start();
    await scene.neigh("add", "169.254.1.1", "lladdr", MAC);
    await scene.settled();
    equal((await scene.published()).size, 1);
    scene.facts = { dualTor: true };
    await scene.inDatabase(4, ["HSET", "PEER_SWITCH|other", "address_ipv4", "10.1.0.33"]);
    await until(() => sync.snapshot().dualTor, "the fact");
    await scene.settled();
    await scene.neigh("add", "169.254.1.2", "lladdr", MAC);
    await scene.neigh("add", "10.0.0.1", "lladdr", MAC);
    await scene.settled();
    deepEqual([...(await scene.published()).keys()], ["Ethernet0:10.0.0.1"]);
    // Ignored means deletions, too.
    await scene.neigh("delete", "169.254.1.2");
    await scene.inDatabase(4, ["DEL", "PEER_SWITCH|other"]);
    await until(() => !sync.snapshot().dualTor, "the fact");
    scene.facts = {};
    await scene.settled();
    ok((await scene.published()).has("Ethernet0:169.254.1.1"));
  },
);

scenario(
  "unresolved neighbours have a MAC of zeros with dual-ToR, and none without",
  async (scene) => {
    await scene.inDatabase(4, ["HSET", "PEER_SWITCH|other", "address_ipv4", "10.1.0.33"]);
    scene.facts = { dualTor: true };
    const sync = await scene.start();
    const key = "Ethernet0:10.0.0.1";
    await scene.neigh("add", "10.0.0.1", "lladdr", MAC, "nud", "reachable");
    await scene.settled();
    await scene.neigh("change", "10.0.0.1", "lladdr", MAC, "nud", "failed");
    await scene.settled();
    equal((await scene.published()).get(key), "neigh 00:00:00:00:00:00 family IPv4");
    ok((sync.snapshot().filtered["unresolved-zero-mac"] ?? 0) > 0);
    await scene.neigh("change", "10.0.0.1", "lladdr", OTHER, "nud", "reachable");
    await scene.settled();
    equal((await scene.published()).get(key), `neigh ${OTHER} family IPv4`);
    await scene.neigh("delete", "10.0.0.1");
    await scene.settled();
    equal((await scene.published()).size, 0);
    scene.facts = {};
    await scene.inDatabase(4, ["DEL", "PEER_SWITCH|other"]);
    await until(() => !sync.snapshot().dualTor, "the fact");
    await scene.neigh("add", "10.0.0.2", "lladdr", MAC, "nud", "reachable");
    await scene.settled();
    await scene.neigh("change", "10.0.0.2", "lladdr", MAC, "nud", "failed");
    await scene.settled();
    equal((await scene.published()).size, 0);
  },
);

scenario(
  "entries of remote ends and broadcasts are not published, those learned from outside are",
  async (scene) => {
    await scene.start();
    await scene.neigh("add", "10.0.0.1", "lladdr", MAC, "nud", "noarp");
    await scene.neigh("add", "10.0.0.2", "lladdr", MAC, "nud", "noarp", "extern_learn");
    await scene.neigh("add", "10.0.0.3", "lladdr", "ff:ff:ff:ff:ff:ff");
    await scene.neigh("add", "ff02::99", "lladdr", "33:33:00:00:00:99");
    await scene.neigh("add", "10.0.0.4", "lladdr", MAC);
    await scene.settled();
    deepEqual([...(await scene.published()).keys()].sort(), [
      "Ethernet0:10.0.0.2",
      "Ethernet0:10.0.0.4",
    ]);
  },
);

scenario(
  "EVPN removes what moved behind a tunnel, and clears host routes of a VRF",
  async (scene) => {
    await scene.inDatabase(4, ["HSET", "VXLAN_EVPN_NVO|nvo", "source_vtep", "vtep"]);
    scene.facts = { evpn: true };
    const sync = await scene.start();
    ok(sync.snapshot().evpn);
    await scene.neigh("add", "10.0.0.1", "lladdr", MAC, "nud", "reachable");
    await scene.neigh("add", "10.0.0.2", "lladdr", MAC, "nud", "noarp", "extern_learn");
    await scene.settled();
    equal((await scene.published()).size, 2);
    await scene.neigh("replace", "10.0.0.1", "lladdr", MAC, "nud", "noarp");
    await scene.settled();
    deepEqual([...(await scene.published()).keys()], ["Ethernet0:10.0.0.2"]);
    ok((sync.snapshot().filtered["moved-remote"] ?? 0) > 0);
    // The rule goes by the master's name; a kernel without VRFs has bridges.
    await scene.network.ip("link", "add", "Vrf1", "type", "vrf", "table", "10")
      .catch(() => scene.network.ip("link", "add", "Vrf1", "type", "bridge"));
    await scene.network.ip("link", "set", "Vrf1", "up");
    await scene.network.ip("link", "set", "Ethernet0", "master", "Vrf1");
    await scene.neigh("add", "10.0.0.9", "lladdr", MAC, "nud", "reachable");
    await until(async () => {
      const [routes] = await scene.inDatabase(0, ["SMEMBERS", "ROUTE_TABLE_DEL_SET"]);
      return (routes as string[]).includes("Vrf1:10.0.0.9");
    }, "the route to be deleted");
  },
);

scenario(
  "IPv6 link-local neighbours follow the configuration of their interface",
  async (scene) => {
    const sync = await scene.start();
    await scene.neigh("add", "fe80::1", "lladdr", MAC);
    await scene.settled();
    await until(() => (sync.snapshot().filtered["ipv6-link-local"] ?? 0) > 0, "the event");
    equal((await scene.published()).size, 0);
    scene.facts = { linkLocal: ["Ethernet0"] };
    await scene.inDatabase(4, [
      "HSET",
      "INTERFACE|Ethernet0",
      "ipv6_use_link_local_only",
      "enable",
    ]);
    await scene.settled();
    deepEqual([...(await scene.published()).keys()], ["Ethernet0:fe80::1"]);
  },
);

/** Prepares the tables of a warm restart. */
async function warm(scene: Scene, timerSec: number, restored = true): Promise<void> {
  await scene.inDatabase(
    6,
    ["HSET", "WARM_RESTART_ENABLE_TABLE|swss", "enable", "true"],
    ["HSET", "WARM_RESTART_TABLE|neighsyncd", "restore_count", "4"],
    ...(restored ? [["HSET", "NEIGH_RESTORE_TABLE|Flags", "restored", "true"]] : []),
  );
  await scene.inDatabase(4, ["HSET", "WARM_RESTART|swss", "neighsyncd_timer", String(timerSec)]);
}

async function warmState(scene: Scene): Promise<unknown[]> {
  return await scene.inDatabase(
    6,
    ["HGET", "WARM_RESTART_TABLE|neighsyncd", "restore_count"],
    ["HGET", "WARM_RESTART_TABLE|neighsyncd", "state"],
  );
}

scenario(
  "a warm restart in which nothing changed writes nothing, and counts its states in order",
  async (scene) => {
    scene.generator.put(0, 1000);
    await scene.start();
    await scene.settled();
    await scene.stop();
    await warm(scene, 1, false);
    const popped = scene.consumer.popped.length;
    const states: unknown[] = [];
    const starting = scene.start();
    const { sync } = scene;
    await until(async () => {
      const [, state] = await warmState(scene);
      if (states.at(-1) !== state) states.push(state);
      return state === "restored";
    }, "the table to be read");
    ok(!sync.snapshot().kernel.connected);
    await scene.inDatabase(6, ["HSET", "NEIGH_RESTORE_TABLE|Flags", "restored", "true"]);
    const refilledAt = performance.now();
    await starting;
    const tookMs = performance.now() - refilledAt;
    states.push((await warmState(scene))[1]);
    deepEqual(await warmState(scene), ["5", "reconciled"]);
    deepEqual(states.filter((state) => state !== null && state !== "initialized"), [
      "restored",
      "reconciled",
    ]);
    // The timer of the configuration, not the default of five seconds.
    ok(tookMs >= 950 && tookMs < 4000, `${tookMs} ms`);
    await scene.settled();
    equal(scene.consumer.popped.length, popped);
    const { neighborsAdded, neighborsDeleted, warmRestart } = sync.snapshot();
    deepEqual([neighborsAdded, neighborsDeleted, warmRestart], [0, 0, "reconciled"]);
  },
);

scenario(
  "a warm restart writes what came, went and changed meanwhile, and nothing else",
  async (scene) => {
    scene.generator.put(0, 1000);
    await scene.start();
    await scene.settled();
    await scene.stop();
    scene.generator.remove(0, 10);
    scene.generator.put(10, 5, 9);
    scene.generator.put(1000, 20);
    await warm(scene, 1);
    const popped = scene.consumer.popped.length;
    await scene.start();
    await scene.settled();
    const seen = scene.consumer.popped.slice(popped);
    deepEqual(
      [seen.length, seen.filter(({ fields }) => fields.length === 0).length],
      [35, 10],
    );
  },
);

scenario(
  "a restart that is not warm counts from zero and writes the differences only",
  async (scene) => {
    scene.generator.put(0, 100);
    await scene.start();
    await scene.settled();
    await scene.stop();
    scene.generator.remove(0, 3);
    const popped = scene.consumer.popped.length;
    await scene.start();
    await scene.settled();
    deepEqual((await warmState(scene))[0], "0");
    equal(scene.consumer.popped.length - popped, 3);
  },
);

scenario("a stop writes what waits and removes nothing", async (scene) => {
  const sync = await scene.start();
  scene.generator.put(0, 5000);
  await until(() => sync.snapshot().kernel.events >= 5000, "the events");
  await scene.stop();
  await scene.settled(5000);
  equal((await scene.published()).size, 5000);
});
