// Faults: whatever happens, within two seconds of its end Redis equals the kernel again, and a counter tells of it.
// Needs root and redis-server.

import { deepEqual, equal, ok } from "node:assert/strict";
import { bindAll } from "../../../ffi/libc_linux.ts";
import { missingNamespaces } from "../../../internal/testing/netns.ts";
import { NeighborGenerator } from "../../../internal/testing/neighbor_generator.ts";
import { RedisServer, redisTest } from "../../../internal/testing/redis_server.ts";
import { Scene, type SceneOptions, until } from "../../testdata/scene.ts";

bindAll();

const IS_LONG = Deno.env.get("FASTWIRE_LONG") === "1";

/** Registers a fault: a scene that ends with the kernel and Redis equal. */
function fault(
  name: string,
  options: SceneOptions,
  body: (scene: Scene) => Promise<void>,
): void {
  redisTest(name, async () => {
    const missing = missingNamespaces();
    if (missing !== "") throw new Error(`Cannot test without namespaces: ${missing}`);
    await using scene = await Scene.create(options);
    await body(scene);
    await scene.settled();
  }, missingNamespaces() === "" ? [] : ["a right to make namespaces"]);
}

fault(
  "a receive buffer of 4 KiB under 200,000 flips loses events, knows it, and ends right",
  { settings: { netlink: { receiveBufferBytes: 4096, maxReceiveBufferBytes: 4096 } } },
  async (scene) => {
    const sync = await scene.start();
    const keys = 2000;
    scene.generator.put(0, keys);
    for (let done = 0; done < 200_000; done += 10_000) {
      scene.generator.flip(0, keys, 10_000);
      // The daemon shares this thread: between the bursts it may look, as it could on a thread of its own.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    const tookMs = await scene.settled();
    const { kernel } = sync.snapshot();
    ok(kernel.lostEvents > 50_000, `${kernel.lostEvents} events lost`);
    ok(kernel.overflows > 0 && kernel.resyncs > 1, JSON.stringify(kernel));
    ok(kernel.resyncRepairs > 0);
    console.log(
      `${kernel.lostEvents} events lost, equal ${tookMs.toFixed(0)} ms after the last flip`,
    );
  },
);

fault(
  "Redis killed and restarted empty in a burst gets everything again",
  {},
  async (scene) => {
    const sync = await scene.start();
    scene.generator.put(0, 3000);
    await until(() => sync.snapshot().batches > 0, "the first batch");
    scene.generator.put(3000, 3000);
    await scene.unconsume();
    await scene.server.kill();
    scene.generator.remove(0, 500);
    scene.generator.put(6000, 2000);
    await until(() => !sync.snapshot().redisConnected, "the loss");
    ok(sync.health().status !== "healthy");
    await scene.server.restart();
    await scene.consume();
    await until(() => sync.snapshot().redisConnected, "the connection");
    await scene.settled();
    equal((await scene.published()).size, 7500);
    const snapshot = sync.snapshot();
    ok(snapshot.redisReconnects >= 1);
    ok(snapshot.reconnectRepairs > 0, JSON.stringify(snapshot));
  },
);

fault(
  "Redis killed and restarted with what it had is written the differences only",
  { redis: { persistent: true } },
  async (scene) => {
    const sync = await scene.start();
    scene.generator.put(0, 1000);
    await scene.settled();
    await scene.unconsume();
    await scene.server.kill();
    scene.generator.remove(0, 7);
    scene.generator.put(1000, 3);
    await until(() => !sync.snapshot().redisConnected, "the loss");
    const before = sync.snapshot();
    await scene.server.restart();
    await scene.consume();
    await until(() => sync.snapshot().redisConnected, "the connection");
    await scene.settled();
    const after = sync.snapshot();
    equal(after.neighborsDeleted - before.neighborsDeleted, 7);
    equal(after.neighborsAdded - before.neighborsAdded, 3);
  },
);

fault("SCRIPT FLUSH is not noticed by anybody but a counter", {}, async (scene) => {
  const sync = await scene.start();
  for (let round = 0; round < 20; round++) {
    scene.generator.put(round * 50, 50);
    await scene.server.run(["SCRIPT", "FLUSH"]);
  }
  await scene.settled();
  const { redisReconnects, redisErrors, scriptReloads } = sync.snapshot();
  deepEqual([redisReconnects, redisErrors], [0, 0]);
  ok(scriptReloads > 0);
});

fault("CLIENT KILL in a burst costs a connection and nothing else", {}, async (scene) => {
  const sync = await scene.start();
  scene.generator.put(0, 5000);
  await until(() => sync.snapshot().batches > 0, "the first batch");
  scene.generator.put(5000, 5000);
  await scene.server.run(["CLIENT", "KILL", "TYPE", "normal"]).catch(() => {});
  await scene.unconsume();
  await scene.consume();
  scene.generator.remove(100, 100);
  await scene.settled();
  ok(sync.snapshot().redisReconnects >= 1);
});

fault(
  "a server that becomes a replica is waited for until it takes writes again",
  {},
  async (scene) => {
    const sync = await scene.start();
    scene.generator.put(0, 100);
    await scene.settled();
    await using master = await RedisServer.start({ tcp: true });
    await scene.server.run(["REPLICAOF", "127.0.0.1", master.port]);
    scene.generator.put(100, 100);
    scene.generator.remove(0, 10);
    await until(() => !sync.snapshot().redisConnected, "the refusal");
    const { redisLastError } = sync.snapshot();
    equal(redisLastError, "redis.read-only");
    ok(sync.isAlive());
    await scene.server.run(["REPLICAOF", "NO", "ONE"]);
    await until(() => sync.snapshot().redisConnected, "the connection");
    await scene.unconsume();
    await scene.consume();
  },
);

fault("a renamed interface takes its neighbours along", {}, async (scene) => {
  await scene.start();
  scene.generator.put(0, 2000);
  await scene.settled();
  const { network } = scene;
  // The kernel keeps neighbours set by hand through a change of the name; the link need not go down for it.
  await network.ip("link", "set", "Ethernet0", "name", "Ethernet8").catch(async () => {
    await network.ip("link", "set", "Ethernet0", "down");
    await network.ip("link", "set", "Ethernet0", "name", "Ethernet8");
    await network.ip("link", "set", "Ethernet8", "up");
    scene.generator.put(0, 2000);
  });
  await scene.settled();
  const published = await scene.published();
  equal(published.size, 2000);
  ok([...published.keys()].every((key) => key.startsWith("Ethernet8:")));
});

fault("a deleted interface leaves nothing, and its name may come again", {}, async (scene) => {
  const sync = await scene.start();
  scene.generator.put(0, 2000);
  await scene.settled();
  await scene.network.ip("link", "delete", "Ethernet0");
  await scene.settled();
  equal((await scene.published()).size, 0);
  const interfaceIndex = await scene.network.addDevice("Ethernet0");
  await using again = await NeighborGenerator.open({
    namespace: scene.network.path,
    interfaceIndex,
  });
  again.put(5, 10, 7);
  await scene.settled();
  equal((await scene.published()).size, 10);
  ok(sync.snapshot().neighborsDeleted >= 2000);
});

fault(
  "keys changed behind its back are put right by the next audit, and counted",
  { settings: { advanced: { auditIntervalSec: 1 } } },
  async (scene) => {
    const sync = await scene.start();
    scene.generator.put(0, 500);
    await scene.settled();
    await scene.server.run(
      ["DEL", "NEIGH_TABLE:Ethernet0:10.0.0.7"],
      ["HSET", "NEIGH_TABLE:Ethernet0:10.0.0.8", "neigh", "02:ff:ff:ff:ff:ff"],
      ["HSET", "NEIGH_TABLE:Ethernet0:10.9.9.9", "neigh", "02:00:00:00:00:01", "family", "IPv4"],
    );
    await scene.settled(3500);
    equal(sync.snapshot().auditRepairs, 3);
    ok(sync.snapshot().audits >= 1);
  },
);

fault(
  "reading the table again and again under churn deletes none of 20,000 untouched rows",
  {},
  async (scene) => {
    const untouched = 20_000, moving = 3_000;
    scene.generator.put(0, untouched);
    const sync = await scene.start();
    await scene.settled();
    const deleted = new Set<string>();
    const popped = scene.consumer.popped.length;
    const resyncs = sync.snapshot().kernel.resyncs;
    const rounds = IS_LONG ? 100 : 12;
    for (let round = 0; round < rounds; round++) {
      scene.generator.put(untouched, moving, round);
      const reading = sync.resync();
      // In pieces, so that rows vanish while the dump walks past them.
      for (let first = 0; first < moving; first += 500) {
        scene.generator.remove(untouched + first, 500);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      await reading;
    }
    await scene.settled();
    for (const { key, fields } of scene.consumer.popped.slice(popped)) {
      if (fields.length === 0) deleted.add(key);
    }
    const wrong = [...deleted].filter((key) => {
      const [a = 0, b = 0, c = 0] = key.slice(key.indexOf(":") + 1).split(".").slice(1).map(Number);
      return a * 65_536 + b * 256 + c < untouched;
    });
    deepEqual(wrong, []);
    ok(sync.snapshot().kernel.resyncs - resyncs >= rounds / 2);
    equal((await scene.published()).size, untouched);
  },
);

fault("a Redis that stands still for a while is caught up with", {}, async (scene) => {
  const sync = await scene.start({ redis: { timeoutMs: 60_000 } });
  const burst = 50_000;
  scene.server.pause();
  for (const salt of [1, 2]) {
    scene.generator.put(0, burst, salt);
    await until(() => sync.snapshot().kernel.events >= salt * burst, "all events");
  }
  // One change for each neighbour waits, however many there were.
  ok(sync.snapshot().pendingNeighbors <= burst);
  scene.server.resume();
  const resumedAt = performance.now();
  await until(() => sync.snapshot().queueDepth === 0, "everything to be staged");
  const stagedMs = performance.now() - resumedAt;
  console.log(`${burst} keys were staged ${stagedMs.toFixed(0)} ms after the pause`);
  ok(stagedMs < 2000);
  await scene.settled();
  equal(sync.snapshot().kernel.lostEvents, 0);
});
