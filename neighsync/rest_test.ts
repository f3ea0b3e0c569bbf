// What operators see: the verdict on the numbers, the numbers by name, and the interface that serves both.

import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { request } from "node:http";
import { HealthJudge, memoryLimitFor } from "./health.ts";
import { neighsyncMetrics } from "./metrics.ts";
import { createHandler, type ServedNeighbor, type ServedNeighSync, serveHealth } from "./rest.ts";
import type { Health, HealthStatus, NeighSyncSnapshot } from "./snapshot.ts";
import { durations, quiet } from "./testdata/snapshots.ts";

/** The checks that are not healthy. */
function complaints(health: Health): Record<string, HealthStatus> {
  return Object.fromEntries(
    health.checks.filter(({ status }) => status !== "healthy").map((check) => [
      check.name,
      check.status,
    ]),
  );
}

Deno.test("HealthJudge calls a network healthy in which nothing happens for a day", () => {
  const judge = new HealthJudge();
  for (let second = 0; second <= 86_400; second += 600) {
    const health = judge.judge(quiet(), second * 1000);
    deepEqual([health.status, health.value, health.ready], ["healthy", 1, true]);
    deepEqual(health.checks.map(({ detail }) => detail).join(""), "");
  }
});

const LIMITS: readonly (readonly [configured: number, neighbors: number, limit: number])[] = [
  [0, 0, 200e6],
  [0, 100_000, 200e6],
  [0, 250_000, 500e6],
  [64e6, 0, 64e6],
  [64e6, 250_000, 64e6],
];

Deno.test("memoryLimitFor fits the limit to the table, unless it is configured", () => {
  for (const [configured, neighbors, limit] of LIMITS) {
    equal(memoryLimitFor(configured, neighbors), limit, `${configured}, ${neighbors}`);
  }
});

const STANDBY = { role: "standby", holder: "", stuck: false, acquired: 0, lost: 0 } as const;

const JUDGED: readonly (readonly [string, Parameters<typeof quiet>[0], object])[] = [
  ["a Redis that is away", { redisConnected: false }, { redis: "degraded" }],
  ["a closed netlink socket", { kernel: { connected: false } }, { netlink: "unhealthy" }],
  [
    "a start that has not joined the kernel",
    { firstSyncMs: 0, uptimeMs: 300, kernel: { connected: false, resyncs: 0 } },
    { netlink: "degraded", sync: "degraded" },
  ],
  [
    "a warm restart that waits for the kernel's table",
    {
      firstSyncMs: 0,
      uptimeMs: 30_000,
      warmRestart: "restored",
      kernel: { connected: false, resyncs: 0 },
    },
    { netlink: "degraded", sync: "degraded" },
  ],
  ["a table never published", { firstSyncMs: 0, uptimeMs: 60_001 }, { sync: "unhealthy" }],
  ["failing changes", { neighborsAdded: 9_800, eventsFailed: 200 }, { errors: "degraded" }],
  ["more failing changes", { neighborsAdded: 900, eventsFailed: 100 }, { errors: "unhealthy" }],
  ["one failure among few", { neighborsAdded: 3, eventsFailed: 3 }, {}],
  [
    "slow changes",
    { eventLatency: durations(...Array<number>(98).fill(0.001), 0.07, 0.07) },
    { latency: "degraded" },
  ],
  [
    "slower changes",
    { eventLatency: durations(...Array<number>(98).fill(0.001), 0.2, 0.2) },
    { latency: "unhealthy" },
  ],
  ["a queue", { queueDepth: 1_001, pendingNeighbors: 1_001 }, { queue: "degraded" }],
  ["a long queue", { queueDepth: 5_001, pendingNeighbors: 5_001 }, { queue: "unhealthy" }],
  ["much memory", { memoryBytes: 151e6 }, { memory: "degraded" }],
  ["more memory", { memoryBytes: 201e6 }, { memory: "unhealthy" }],
  ["as much memory with a higher limit", { memoryBytes: 201e6, memoryLimitBytes: 400e6 }, {}],
  [
    "much memory a minute after the first synchronisation",
    { memoryBytes: 201e6, firstSyncMs: 500, uptimeMs: 60_500 },
    { memory: "unhealthy" },
  ],
  [
    "much memory right after the start, until the collector has been round",
    { memoryBytes: 900e6, firstSyncMs: 500, uptimeMs: 60_499 },
    {},
  ],
  [
    "a standby that has read the kernel's table and never wrote",
    { lease: { ...STANDBY, holder: "other" }, firstSyncMs: 0 },
    {},
  ],
  [
    "a standby that does not know of a holder",
    { lease: STANDBY, firstSyncMs: 0 },
    { sync: "unhealthy" },
  ],
  [
    "a standby whose holder would never be missed",
    { lease: { ...STANDBY, holder: "other", stuck: true } },
    { lease: "degraded" },
  ],
  ["a late event loop", { loopLagMs: 300 }, { loop: "degraded" }],
];

Deno.test("HealthJudge names what is wrong, and the worst decides", () => {
  for (const [what, changes, expected] of JUDGED) {
    const health = new HealthJudge().judge(quiet(changes), 0);
    deepEqual(complaints(health), expected, what);
    const worst = Object.values(expected).includes("unhealthy")
      ? [0, "unhealthy"]
      : Object.values(expected).includes("degraded")
      ? [0.5, "degraded"]
      : [1, "healthy"];
    deepEqual([health.value, health.status], worst, what);
    for (const { status, detail } of health.checks) {
      equal(detail === "", status === "healthy", what);
    }
  }
});

Deno.test("HealthJudge bears with a Redis that is away for half a minute, not longer", () => {
  const judge = new HealthJudge();
  const away = quiet({ redisConnected: false, redisLastError: "redis.connection-lost" });
  equal(judge.judge(away, 1_000).status, "degraded");
  equal(judge.judge(away, 31_000).status, "degraded");
  const late = judge.judge(away, 31_001);
  deepEqual([late.status, late.ready], ["unhealthy", false]);
  match(late.checks[0]!.detail, /not connected for 30 s \(redis\.connection-lost\)/);
  equal(judge.judge(quiet(), 32_000).status, "healthy");
  equal(judge.judge(away, 70_000).status, "degraded");
});

Deno.test("HealthJudge notices a Redis that accepts and does not answer, not one that has nothing to answer", () => {
  const judge = new HealthJudge();
  const stuck = quiet({ queueDepth: 5 });
  equal(judge.judge(stuck, 0).status, "healthy");
  deepEqual(complaints(judge.judge(stuck, 2_001)), { redis: "degraded" });
  deepEqual(complaints(judge.judge(stuck, 10_001)), { redis: "unhealthy" });
  // It answered, and is busy again.
  const answered = { ...stuck, lastAnswerAt: stuck.lastAnswerAt + 1 };
  equal(judge.judge(answered, 10_002).status, "healthy");
  equal(judge.judge(answered, 12_000).status, "healthy");
});

Deno.test("HealthJudge forgets what is older than its window", () => {
  const judge = new HealthJudge();
  const bad = quiet({ neighborsAdded: 900, eventsFailed: 100 });
  judge.judge(quiet(), 0);
  equal(judge.judge(bad, 10_000).status, "unhealthy");
  for (let at = 11_000; at < 70_000; at += 1_000) {
    equal(judge.judge(bad, at).status, "unhealthy", String(at));
  }
  equal(judge.judge(bad, 71_000).status, "healthy");
});

const NEIGHBORS: ReadonlyMap<string, ServedNeighbor> = new Map(
  Array.from({ length: 25 }, (_, i): readonly [string, ServedNeighbor] => {
    const ifname = `Ethernet${i % 2}`;
    const ip = i < 20 ? `10.0.0.${i}` : `fc00::${i}`;
    const state = i % 5 === 0 ? "stale" : "reachable";
    return [`${ifname}:${ip}`, { ifname, ip, family: i < 20 ? 4 : 6, state }];
  }).reverse(),
);

/** A daemon that remembers what it was asked to do. */
class Service implements ServedNeighSync {
  readonly done: unknown[] = [];
  now: NeighSyncSnapshot = quiet();

  snapshot(): NeighSyncSnapshot {
    return this.now;
  }
  health(): Health {
    return new HealthJudge().judge(this.now, 0);
  }
  neighbors(): ReadonlyMap<string, ServedNeighbor> {
    return NEIGHBORS;
  }
  config(): object {
    return { batch: { size: 100 }, done: this.done.length };
  }
  diff() {
    return Promise.resolve([{
      key: "Ethernet0:10.0.0.1",
      wanted: null,
      published: "02:00:00:00:00:01",
    }]);
  }
  resync(): Promise<void> {
    this.done.push("resync");
    return Promise.resolve();
  }
  reconfigure(changes: object): object {
    if (!("auditIntervalMs" in changes)) throw new TypeError("Cannot change that: not reloadable");
    this.done.push(changes);
    return { ...changes };
  }
}

interface Asked {
  readonly status: number;
  readonly type: string;
  readonly text: string;
  // deno-lint-ignore no-explicit-any -- what a test expects of an answer is in the test
  readonly json: any;
}

async function asker(
  service: ServedNeighSync,
  options: Parameters<typeof createHandler>[1] = {},
  local = false,
): Promise<(path: string, init?: RequestInit) => Promise<Asked>> {
  const handle = await createHandler(service, options);
  return async (path, init = {}) => {
    const headers = new Headers(init.headers);
    if (!headers.has("host")) headers.set("host", "127.0.0.1:9091");
    const response = await handle(new Request(`http://localhost${path}`, { ...init, headers }), {
      local,
    });
    const text = await response.text();
    const type = response.headers.get("content-type") ?? "";
    return {
      status: response.status,
      type,
      text,
      json: type.includes("json") ? JSON.parse(text) : undefined,
    };
  };
}

Deno.test("the interface answers probes by status alone", async () => {
  const service = new Service();
  const ask = await asker(service);
  deepEqual([(await ask("/healthz")).status, (await ask("/readyz")).status], [200, 200]);
  service.now = quiet({ queueDepth: 2_000, pendingNeighbors: 2_000 });
  const degraded = await ask("/healthz");
  deepEqual([degraded.status, degraded.text], [200, "degraded\n2000 keys wait\n"]);
  service.now = quiet({ redisConnected: false, kernel: { connected: false } });
  deepEqual([(await ask("/healthz")).status, (await ask("/readyz")).status], [503, 503]);
  const { status, json } = await ask("/api/v1/health");
  deepEqual([status, json.data.status, json.data.ready], [503, "unhealthy", false]);
});

Deno.test("the interface wraps every answer alike, with and without the version in the path", async () => {
  const ask = await asker(new Service());
  for (const path of ["/stats", "/api/v1/stats"]) {
    const { status, json } = await ask(path);
    deepEqual([status, json.success, json.data.kernel.driver], [200, true, "linux"]);
    ok(Math.abs(Date.parse(json.timestamp) - Date.now()) < 60_000);
  }
  deepEqual((await ask("/config")).json.data.batch, { size: 100 });
  const { json } = await ask("/diff");
  deepEqual([json.data.equal, json.data.differences.length], [false, 1]);
  const lost = await ask("/nowhere");
  deepEqual([lost.status, lost.json.success, lost.json.error.code], [
    404,
    false,
    "neighsync.no-route",
  ]);
});

Deno.test("the interface pages through the table in the order of keys, and filters it", async () => {
  const ask = await asker(new Service());
  const seen: string[] = [];
  let cursor: string | null = "";
  for (let pages = 0; cursor !== null; pages++) {
    ok(pages < 10);
    const { json }: Asked = await ask(
      `/neighbors?limit=4&cursor=${encodeURIComponent(cursor)}`,
    );
    equal(json.data.total, 25);
    for (const { ifname, ip } of json.data.neighbors) seen.push(`${ifname}:${ip}`);
    cursor = json.data.cursor;
  }
  deepEqual(seen, [...NEIGHBORS.keys()].sort());
  equal((await ask("/neighbors?family=6")).json.data.total, 5);
  equal((await ask("/neighbors?family=ipv4&interface=Ethernet1")).json.data.total, 10);
  equal((await ask("/neighbors?state=STALE")).json.data.total, 5);
  equal((await ask("/neighbors/Ethernet1/fc00::21")).json.data.ip, "fc00::21");
  equal((await ask("/neighbors/Ethernet1/10.9.9.9")).json.error.code, "neighsync.no-neighbor");
  for (const bad of ["limit=0", "limit=10001", "limit=x", "family=5"]) {
    const { status, json } = await ask(`/neighbors?${bad}`);
    deepEqual([status, json.error.code], [400, "neighsync.bad-request"], bad);
  }
});

Deno.test("the interface lets nobody change anything without the token or the socket", async () => {
  const service = new Service();
  const body = JSON.stringify({ auditIntervalMs: 5000 });
  const token = { authorization: "Bearer sesame" };
  const withToken = await asker(service, { token: "sesame" });
  const without = await asker(service);
  for (
    const [ask, headers] of [
      [withToken, {}],
      [withToken, { authorization: "Bearer open" }],
      [withToken, { authorization: "sesame" }],
      [without, token],
      [without, { authorization: "Bearer " }],
    ] as const
  ) {
    equal((await ask("/resync", { method: "POST", headers })).status, 401);
    equal((await ask("/config", { method: "PATCH", headers, body })).status, 401);
  }
  deepEqual(service.done, []);
  equal((await withToken("/resync", { method: "POST", headers: token })).status, 200);
  const changed = await withToken("/api/v1/config", { method: "PATCH", headers: token, body });
  deepEqual([changed.status, changed.json.data], [200, { auditIntervalMs: 5000 }]);
  const throughSocket = await asker(service, {}, true);
  equal((await throughSocket("/resync", { method: "POST" })).status, 200);
  deepEqual(service.done, ["resync", { auditIntervalMs: 5000 }, "resync"]);
  for (const bad of ["[]", "{", "null", JSON.stringify({ database: 3 })]) {
    const refused = await throughSocket("/config", { method: "PATCH", body: bad });
    deepEqual([refused.status, refused.json.error.code], [400, "neighsync.bad-request"], bad);
  }
});

Deno.test("the interface does not answer a browser that was sent by another site's name", async () => {
  const ask = await asker(new Service());
  for (const host of ["evil.example", "evil.example:9091", "127.0.0.1.evil.example", ""]) {
    equal((await ask("/stats", { headers: { host } })).status, 421, host);
  }
  for (const host of ["localhost:9091", "127.0.0.1", "[::1]:9091"]) {
    equal((await ask("/stats", { headers: { host } })).status, 200, host);
  }
});

Deno.test("the interface without more than numbers has no more than numbers", async () => {
  const service: ServedNeighSync = {
    snapshot: () => quiet(),
    health: () => new HealthJudge().judge(quiet(), 0),
  };
  const ask = await asker(service, { token: "t" });
  equal((await ask("/stats")).status, 200);
  for (const path of ["/neighbors", "/diff", "/config"]) equal((await ask(path)).status, 404, path);
  const headers = { authorization: "Bearer t" };
  equal((await ask("/resync", { method: "POST", headers })).status, 404);
});

Deno.test("the metrics show every number of the snapshot, under either prefix", async () => {
  const service = new Service();
  // Each number its own, so that none can pass for another.
  let next = 1000;
  const numbered = <T>(value: T): T =>
    (typeof value === "number"
      ? ++next
      : Array.isArray(value) || value === null
      ? value
      : typeof value === "object"
      ? Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, numbered(inner)]))
      : value) as T;
  service.now = {
    ...numbered(quiet()),
    eventLatency: durations(0.002),
    redisLatency: durations(),
    batchSize: durations(),
  };
  const ask = await asker(service, { metricsPrefix: "neighsyncd_" });
  const { type, text } = await ask("/metrics");
  match(type, /^text\/plain; version=0\.0\.4/);
  const lines = text.split("\n").filter((line) => line !== "" && !line.startsWith("#"));
  ok(lines.every((line) => line.startsWith("neighsyncd_")));
  const values = new Set(lines.map((line) => Number(line.split(" ").at(-1))));
  const missing: string[] = [];
  const look = (value: unknown, path: string): void => {
    if (typeof value === "object" && value !== null && !("bounds" in value)) {
      for (const [key, inner] of Object.entries(value)) look(inner, path + "." + key);
    } else if (typeof value === "number" && !values.has(value) && !values.has(value / 1000)) {
      missing.push(path);
    }
  };
  look(service.now, "");
  // Of no use over time: a level that follows from another, and a number for people.
  deepEqual(missing, [".lastAnswerAt", ".kernel.links", ".kernel.eventCapacity"]);
  match(text, /^neighsyncd_filtered_total\{reason="interface"\} \d+$/m);
  match(text, /^neighsyncd_event_latency_seconds_bucket\{le="0\.005"\} 1$/m);
  equal(
    (await (await asker(service))("/api/v1/metrics")).text.includes("fastwire_neighsync_"),
    true,
  );
});

Deno.test("serveHealth() listens on loopback and on a socket for its group, and nowhere else", async () => {
  for (const listen of ["0.0.0.0:9091", ":::9091", "192.0.2.1:80", "unix:", "9091", "[::]:1"]) {
    await rejects(serveHealth(new Service(), { listen }), RangeError, listen);
  }
  await using server = await serveHealth(new Service(), { listen: "127.0.0.1:0" });
  const response = await fetch(`http://${server.address}/readyz`);
  deepEqual([response.status, await response.text()], [200, "ready\n"]);
  const big = await fetch(`http://${server.address}/config`, {
    method: "PATCH",
    body: "x".repeat(70_000),
  });
  equal(big.status, 413);
  await big.body?.cancel();
  await rejects(serveHealth(new Service(), { listen: server.address }), {
    code: "system.address-in-use",
  });

  const folder = await Deno.makeTempDir();
  try {
    const path = `${folder}/rest.sock`;
    // A file that a crash left behind is no obstacle; a socket at work is.
    Deno.listen({ transport: "unix", path }).close();
    const local = await serveHealth(new Service(), { listen: `unix:${path}` });
    equal(local.address, `unix:${path}`);
    equal((await Deno.stat(path)).mode! & 0o777, 0o660);
    await rejects(serveHealth(new Service(), { listen: `unix:${path}` }), {
      code: "system.address-in-use",
    });
    const told = await new Promise<number>((resolve, reject) => {
      const asked = request({ socketPath: path, path: "/resync", method: "POST" }, (answer) => {
        answer.resume();
        answer.on("end", () => resolve(answer.statusCode ?? 0));
      });
      asked.on("error", reject);
      asked.end();
    });
    equal(told, 200);
    await local.close();
    await local.close();
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

const CONTRIB = new URL("../contrib/", import.meta.url);

Deno.test("dashboard and alerts name only metrics that exist, and the dashboard names most", async () => {
  const service = new Service();
  const known = new Set<string>();
  for (const { name, type } of neighsyncMetrics(service)) {
    if (type !== "histogram") known.add(name);
    else for (const end of ["bucket", "sum", "count"]) known.add(`${name}_${end}`);
  }
  const used = async (path: string): Promise<Set<string>> => {
    const text = await Deno.readTextFile(new URL(path, CONTRIB));
    return new Set([...text.matchAll(/fastwire_neighsync_(\w+)/g)].map(([, name]) => name!));
  };
  const dashboard = await used("grafana/neighsync.json");
  const alerts = await used("prometheus/neighsync.rules.yml");
  for (const name of [...dashboard, ...alerts]) ok(known.has(name), name);
  ok(dashboard.size >= 25, `${dashboard.size} metrics`);
  ok(alerts.size >= 8, `${alerts.size} metrics`);
});
