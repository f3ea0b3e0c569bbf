// The command `bench` in a network of its own, with a real Redis: what it tells, what it refuses, and that it leaves
// nothing behind. Needs root and redis-server.

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { missingNamespaces, NetworkNamespace } from "../../../internal/testing/netns.ts";
import { ownWords } from "../../../internal/testing/own_tool.ts";
import { RedisServer, redisTest } from "../../../internal/testing/redis_server.ts";
import { SonicConsumer } from "../../../internal/testing/sonic_consumer.ts";

const MAIN = "neighsync/mod.ts";

/** A network with one interface, and a Redis. */
class Place {
  constructor(readonly network: NetworkNamespace, readonly redis: RedisServer) {}

  get url(): string {
    return `unix:${this.redis.socket}`;
  }

  /** Runs the command to its end. */
  async run(
    words: readonly string[],
    before: readonly string[] = [],
  ): Promise<{ code: number; stdout: string; stderr: string }> {
    const all = this.network.wrap([...before, ...ownWords(MAIN, [...words, "--redis", this.url])]);
    const { code, stdout, stderr } = await new Deno.Command(all[0]!, {
      args: all.slice(1),
      stdin: "null",
    }).output();
    const text = new TextDecoder();
    return { code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
  }

  /** Keys of every database. */
  async keys(): Promise<string[]> {
    const [, all] = await this.redis.run(["SELECT", 0], ["KEYS", "*"]);
    const [, state] = await this.redis.run(["SELECT", 6], ["KEYS", "*"]);
    return [...(all as string[]), ...(state as string[])].sort();
  }

  async neighbors(): Promise<number> {
    const text = await this.network.ip("-o", "neigh", "show", "dev", "bench0", "nud", "all");
    return text.split("\n").filter((line) => line !== "").length;
  }

  async isClean(): Promise<void> {
    deepEqual([await this.keys(), await this.neighbors()], [[], 0]);
  }
}

function benchTest(
  name: string,
  body: (place: Place) => Promise<void>,
  more: readonly string[] = [],
): void {
  redisTest(name, async () => {
    await using network = await NetworkNamespace.create();
    await network.addDevice("bench0");
    await using redis = await RedisServer.start();
    await body(new Place(network, redis));
  }, [...more, ...missingNamespaces() === "" ? [] : ["a right to make namespaces"]]);
}

async function until(what: string, condition: () => Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 15_000;
  while (!await condition()) {
    if (performance.now() > giveUpAt) throw new Error(`Cannot go on: waited for ${what} in vain`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

const ON = ["--interface", "bench0"];

/** Words, how many entries are verified, and names of figures that have a baseline. */
const MODES: readonly (readonly [words: readonly string[], verified: number, named: string[]])[] = [
  [["bench", "burst", "--events", "300", ...ON], 300, ["elapsedMs", "p99Ms", "cpuMsPer1000"]],
  [
    ["--benchmark", "burst", "--events", "200", "--schema", "plain", ...ON],
    200,
    ["elapsedMs", "p99Ms", "cpuMsPer1000"],
  ],
  [
    ["bench", "warm-restart", "--neighbors", "300", ...ON],
    300,
    ["coldMs", "elapsedMs", "cpuMsPer1000"],
  ],
  [
    ["--benchmark=warm-restart", "--neighbors", "250", "--schema", "plain", ...ON],
    250,
    ["coldMs", "elapsedMs", "cpuMsPer1000"],
  ],
  [
    ["bench", "sustained", "--rate", "500", "--duration", "1", ...ON],
    1000,
    ["changesPerSecond", "p50Ms", "p95Ms", "p99Ms", "cpuMsPer1000"],
  ],
  [["bench", "redis", "--neighbors", "2500"], 2500, ["entriesPerSecond", "p99Ms"]],
];

for (const [words, verified, named] of MODES) {
  benchTest(
    `neighsync ${words.join(" ")} verifies what it measures and leaves nothing`,
    async (place) => {
      const { code, stdout, stderr } = await place.run([...words, "--json"]);
      equal(code, 0, stderr);
      const report = JSON.parse(stdout);
      equal(report.type, "bench");
      equal(report.synthetic, false);
      deepEqual(report.touched, words.includes("redis") ? ["redis"] : ["kernel", "redis"]);
      equal(report.verified, verified);
      match(report.baseline.what, /one entry after the other/);
      for (const name of named) {
        ok(report.results[name] >= 0, `${name} of ${stdout}`);
        ok(report.baseline[name] > 0, `${name} of the baseline in ${stdout}`);
      }
      await place.isClean();
    },
  );
}

benchTest("neighsync bench parse says that it is synthetic, and needs nothing", async (place) => {
  const words = ["bench", "parse", "--neighbors", "1000"];
  await place.redis.kill();
  const told = await place.run(words, ["setpriv", "--bounding-set", "-all"]);
  equal(told.code, 0, told.stderr);
  match(told.stdout, /^synthetic: neither the kernel nor Redis had a part in it$/m);
  const { stdout } = await place.run([...words, "--json"]);
  const { synthetic, touched, results, baseline } = JSON.parse(stdout);
  deepEqual([synthetic, touched, baseline], [true, [], null]);
  ok(results.rowsPerSecond > 0);
}, ["setpriv"]);

benchTest("neighsync bench prints a table with the baseline beside it", async (place) => {
  const { code, stdout } = await place.run(["bench", "burst", "--events", "50", ...ON]);
  equal(code, 0);
  match(stdout, /^burst: interface bench0, driver linux, redis unix:\S+, schema producer-state/m);
  match(stdout, /measured +baseline$/m);
  match(stdout, /^latency of a change, p99 +[\d.,]+ ms +[\d.,]+ ms$/m);
  match(stdout, /^verified: 50 entries/m);
  const without = await place.run(["bench", "burst", "--events", "50", "--no-baseline", ...ON]);
  ok(!without.stdout.includes("baseline"));
});

const REFUSALS: readonly (readonly [words: readonly string[], code: number, says: RegExp])[] = [
  [["bench", "burst"], 2, /expected one interface\nhint: bench burst --interface bench0/],
  [["bench", "burst", "--interface", "eth*"], 2, /expected one interface/],
  [
    ["bench", "burst", "--interface", "nowhere"],
    2,
    /no such interface with neighbours\nhint: ip link add/,
  ],
  [["bench", "burst", "--interface", "lo"], 2, /no such interface with neighbours/],
  [
    ["bench", "burst", "--driver", "portable", ...ON],
    8,
    /native calls\nhint: run with --allow-ffi/,
  ],
  [["bench", "brst"], 2, /expected one of warm-restart, sustained, burst, parse, redis/],
  [["bench"], 2, /usage|mode/i],
  [["--benchmark"], 2, /usage|mode/i],
];

benchTest("neighsync bench refuses what it cannot measure, and says what to do", async (place) => {
  for (const [words, code, says] of REFUSALS) {
    const found = await place.run(words);
    equal(found.code, code, words.join(" "));
    match(found.stderr, says);
  }
  await place.isClean();
});

benchTest(
  "neighsync bench leaves a table alone that has entries, unless it is told otherwise",
  async (place) => {
    const key = "NEIGH_TABLE:Ethernet0:10.0.0.1";
    await place.redis.run(["HSET", key, "neigh", "02:00:00:00:00:01", "family", "IPv4"]);
    const words = ["bench", "burst", "--events", "100", ...ON];
    for (const mode of ["burst", "warm-restart", "sustained", "redis"]) {
      const refused = await place.run(["bench", mode, ...ON]);
      equal(refused.code, 2, mode);
      match(refused.stderr, /has 1 entries, expected an empty one\nhint: .*--use-existing-table/);
    }
    // With somebody who takes what is staged, as on a switch: afterwards everything is as it was.
    await using consumer = await SonicConsumer.start(place.redis.socket);
    const allowed = await place.run([...words, "--use-existing-table"]);
    equal(allowed.code, 0, allowed.stderr);
    await consumer.idle();
    deepEqual(await place.keys(), [key]);
    equal(await place.neighbors(), 0);
    ok(consumer.popped.length > 0);
    // What is staged and not taken is somebody's, too.
    await place.redis.run(["DEL", key], ["SADD", "OTHER", "x"], ["HSET", "_X", "neigh", "1"]);
    await place.network.ip(
      "neigh",
      "add",
      "198.18.0.9",
      "lladdr",
      "02:00:00:00:00:09",
      "dev",
      "bench0",
    );
    const taken = await place.run(words);
    equal(taken.code, 2);
    match(taken.stderr, /has the neighbour bench0:198.18.0.9/);
    equal(await place.neighbors(), 1);
  },
);

benchTest("neighsync bench says that it takes CAP_NET_ADMIN, with 8", async (place) => {
  const words = ["bench", "burst", ...ON];
  const { code, stderr } = await place.run(words, ["setpriv", "--bounding-set", "-net_admin"]);
  equal(code, 8);
  match(stderr, /Cannot make neighbours: .*\nhint: run as root or with CAP_NET_ADMIN/);
  await place.isClean();
}, ["setpriv"]);

for (const signal of ["SIGINT", "SIGTERM"] as const) {
  benchTest(`neighsync bench takes everything away again after ${signal}`, async (place) => {
    const words = ["bench", "sustained", "--duration", "600", ...ON, "--redis", place.url];
    const [program, ...args] = place.network.wrap(ownWords(MAIN, words));
    const child = new Deno.Command(program!, {
      args,
      stdin: "null",
      stderr: "null",
      stdout: "null",
    })
      .spawn();
    try {
      await until("neighbours", async () => await place.neighbors() === 1000);
      await until("entries", async () => (await place.keys()).length > 1000);
    } finally {
      child.kill(signal);
    }
    equal((await child.status).code, signal === "SIGINT" ? 130 : 143);
    await place.isClean();
  });
}

benchTest(
  "neighsync bench fails with 1 when the final table is not what was made",
  async (place) => {
    const words = ["bench", "sustained", "--duration", "2", "--rate", "100", ...ON];
    const running = place.run(words);
    const key = "_NEIGH_TABLE:bench0:198.18.3.1";
    await until("neighbours", async () => await place.neighbors() === 1000);
    // Nothing is audited meanwhile, and 200 changes do not come round to number 769.
    await until("the entry", async () => (await place.redis.run(["EXISTS", key]))[0] === 1);
    await place.redis.run(["HSET", key, "neigh", "02:00:00:00:00:ff"]);
    const { code, stderr } = await running;
    equal(code, 1, stderr);
    match(stderr, /198\.18\.3\.1 is 02:00:00:00:00:ff IPv4, expected 02:00:00:00:03:01 IPv4/);
    await place.isClean();
  },
);
