import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { notConnected } from "../internal/redis_errors.ts";
import { ManualClock } from "../internal/time/clock.ts";
import type { ConfigDatabase } from "./config_database.ts";
import {
  DATABASE_CONFIG_PATH,
  databaseConfigOf,
  DEFAULT_DATABASES,
  loadDatabaseConfig,
  parseDatabaseConfig,
} from "./database_config.ts";
import { ConfigPolicy, type PolicyChange } from "./policy.ts";

/** A configuration in memory: keys `TABLE|name`, with the value of the one field. */
class FakeDatabase implements ConfigDatabase {
  readonly entries = new Map<string, string>();
  tells = true;
  broken = false;
  asked: string[] = [];
  #listeners: ((table: string, name: string) => void)[] = [];

  fields(entries: readonly (readonly [string, string])[]) {
    if (this.broken) return Promise.reject(notConnected("ask", "redis.not-connected"));
    this.asked.push(...entries.map(([table, name]) => `${table}|${name}`));
    return Promise.resolve(entries.map(([table, name]) => this.entries.get(`${table}|${name}`)));
  }

  present(tables: readonly string[]) {
    if (this.broken) return Promise.reject(notConnected("ask", "redis.not-connected"));
    this.asked.push(...tables);
    const keys = [...this.entries.keys()];
    return Promise.resolve(tables.map((table) => keys.some((key) => key.startsWith(`${table}|`))));
  }

  follow(_tables: readonly string[], listener: (table: string, name: string) => void) {
    if (!this.tells) return Promise.resolve(false);
    this.#listeners = [listener];
    return Promise.resolve(true);
  }

  set(key: string, value: string | undefined): void {
    if (value === undefined) this.entries.delete(key);
    else this.entries.set(key, value);
    const [table, ...name] = key.split("|");
    for (const tell of this.#listeners) tell(table!, name.join("|"));
  }
}

interface Subject {
  readonly database: FakeDatabase;
  readonly clock: ManualClock;
  readonly changes: PolicyChange[];
  readonly policy: ConfigPolicy;
}

function subject(options: { dualTor?: "on" | "off" } = {}): Subject {
  const database = new FakeDatabase(), clock = new ManualClock(), changes: PolicyChange[] = [];
  const policy = new ConfigPolicy(database, {
    ...options,
    clock,
    onChange: (change) => changes.push(change),
  });
  return { database, clock, changes, policy };
}

/** Lets everything that is ready happen. */
async function settle(): Promise<void> {
  for (let i = 0; i < 30; i++) await Promise.resolve();
}

Deno.test("ConfigPolicy reads tables and wanted interfaces at once, and nothing per event", async () => {
  const { database, changes, policy } = subject();
  database.set("PEER_SWITCH|tor2", "");
  database.set("VLAN_INTERFACE|Vlan10", "enable");
  policy.want(["Vlan10", "Ethernet0", "eth0", "Loopback0"]);
  await policy.load();
  deepEqual([policy.dualTor, policy.evpn], [true, false]);
  deepEqual(changes, [
    { fact: "dual-tor", value: true },
    { fact: "link-local", ifname: "Vlan10", value: true },
  ]);
  const asked = database.asked.length;
  for (let i = 0; i < 1000; i++) {
    equal(policy.linkLocalEnabled("Vlan10"), true);
    equal(policy.linkLocalEnabled("Ethernet0"), false);
    equal(policy.linkLocalEnabled("eth0"), false);
  }
  await settle();
  equal(database.asked.length, asked);
});

Deno.test("ConfigPolicy reads an unknown interface once and corrects itself", async () => {
  const { database, changes, policy } = subject();
  database.set("PORTCHANNEL_INTERFACE|PortChannel1", "enable");
  await policy.load();
  equal(policy.linkLocalEnabled("PortChannel1"), false);
  equal(policy.linkLocalEnabled("PortChannel1"), false);
  await settle();
  deepEqual(changes, [{ fact: "link-local", ifname: "PortChannel1", value: true }]);
  equal(policy.linkLocalEnabled("PortChannel1"), true);
  equal(database.asked.filter((key) => key.endsWith("PortChannel1")).length, 1);
});

Deno.test("ConfigPolicy follows every kind of change it is told of", async () => {
  const { database, changes, policy } = subject();
  policy.want(["Ethernet0"]);
  await policy.load();
  const asked = database.asked.length;
  database.set("INTERFACE|Ethernet0", "enable");
  database.set("INTERFACE|Ethernet0|10.0.0.0/31", "");
  database.set("INTERFACE|Ethernet99", "enable");
  await settle();
  deepEqual(database.asked.slice(asked), ["INTERFACE|Ethernet0"]);
  database.set("VXLAN_EVPN_NVO|nvo1", "");
  await settle();
  database.set("VXLAN_EVPN_NVO|nvo1", undefined);
  database.set("INTERFACE|Ethernet0", "disable");
  await settle();
  deepEqual(changes, [
    { fact: "link-local", ifname: "Ethernet0", value: true },
    { fact: "evpn", value: true },
    { fact: "evpn", value: false },
    { fact: "link-local", ifname: "Ethernet0", value: false },
  ]);
});

Deno.test("ConfigPolicy reads again after 60 s where changes are not told", async () => {
  const { database, clock, changes, policy } = subject();
  database.tells = false;
  policy.want(["Vlan10"]);
  await policy.load();
  database.set("VLAN_INTERFACE|Vlan10", "enable");
  database.set("PEER_SWITCH|tor2", "");
  equal(policy.deadline, 60_000);
  clock.advance(59_999);
  await policy.expire(clock.now());
  deepEqual(changes, []);
  clock.advance(1);
  await policy.expire(clock.now());
  deepEqual(changes.map(({ fact }) => fact), ["dual-tor", "link-local"]);
  equal(policy.snapshot().notified, false);
  database.tells = true;
  clock.advance(60_000);
  await policy.expire(clock.now());
  equal(policy.snapshot().notified, true);
  const { reads } = policy.snapshot();
  clock.advance(60_000);
  await policy.expire(clock.now());
  equal(policy.snapshot().reads, reads);
});

Deno.test("ConfigPolicy keeps its facts while the database is away and catches up", async () => {
  const { database, clock, policy } = subject();
  database.set("VLAN_INTERFACE|Vlan10", "enable");
  policy.want(["Vlan10"]);
  await policy.load();
  database.broken = true;
  database.set("VLAN_INTERFACE|Vlan10", undefined);
  database.set("PEER_SWITCH|tor2", "");
  equal(policy.linkLocalEnabled("Ethernet4"), false);
  await settle();
  database.tells = false;
  clock.advance(60_000);
  await policy.expire(clock.now());
  equal(policy.linkLocalEnabled("Vlan10"), true);
  await rejects(policy.load(), { code: "redis.not-connected" });
  database.broken = false;
  database.set("INTERFACE|Ethernet4", "enable");
  await policy.load();
  deepEqual(
    [policy.linkLocalEnabled("Vlan10"), policy.linkLocalEnabled("Ethernet4"), policy.dualTor],
    [false, true, true],
  );
});

Deno.test("ConfigPolicy leaves settled facts alone and forgets interfaces that are gone", async () => {
  const { database, policy } = subject({ dualTor: "off" });
  database.set("PEER_SWITCH|tor2", "");
  database.set("INTERFACE|Ethernet0", "enable");
  policy.want(["Ethernet0"]);
  await policy.load();
  equal(policy.dualTor, false);
  deepEqual(database.asked, ["VXLAN_EVPN_NVO", "INTERFACE|Ethernet0"]);
  policy.forget("Ethernet0");
  equal(policy.snapshot().interfaces, 0);
  equal(policy.linkLocalEnabled("Ethernet0"), false);
  const on = subject({ dualTor: "on" });
  await on.policy.load();
  equal(on.policy.dualTor, true);
});

Deno.test("parseDatabaseConfig() reads instances, numbers and separators", () => {
  const text = JSON.stringify({
    INSTANCES: {
      redis: { hostname: "127.0.0.1", port: 6379, unix_socket_path: "/run/redis/redis.sock" },
      other: { hostname: "10.0.0.1", port: "6380", unix_socket_path: "" },
    },
    DATABASES: {
      APPL_DB: { id: 0, separator: ":", instance: "redis" },
      CONFIG_DB: { id: 14, separator: "|", instance: "other" },
    },
    VERSION: "1.0",
  });
  const { application, config, state } = parseDatabaseConfig(text, "file");
  deepEqual(application, {
    database: 0,
    separator: ":",
    instance: "redis",
    address: { path: "/run/redis/redis.sock" },
  });
  deepEqual(config.address, { host: "10.0.0.1", port: 6380 });
  deepEqual([config.database, state.database, state.separator], [14, 6, "|"]);
  deepEqual(DEFAULT_DATABASES.state.address, { path: "/var/run/redis/redis.sock" });
});

Deno.test("parseDatabaseConfig() refuses what it cannot mean", () => {
  throws(() => parseDatabaseConfig("{", "file"), SyntaxError);
  throws(() => parseDatabaseConfig("[]", "file"), /holds no object/);
  throws(() => parseDatabaseConfig('{"DATABASES": 1}', "file"), /DATABASES is no object/);
  throws(
    () => parseDatabaseConfig('{"DATABASES": {"APPL_DB": {"id": "x"}}}', "file"),
    /id is no whole number/,
  );
  throws(
    () => parseDatabaseConfig('{"DATABASES": {"APPL_DB": {"instance": "lost"}}}', "file"),
    /on "lost", expected one of its INSTANCES/,
  );
});

Deno.test("loadDatabaseConfig() follows a namespace to its file", async () => {
  const folder = await Deno.makeTempDir({ prefix: "fastwire-" });
  try {
    await Deno.mkdir(`${folder}/redis1`);
    const globalPath = `${folder}/database_global.json`;
    const includes = [{ include: "database_config.json" }, {
      namespace: "asic1",
      include: "redis1/database_config.json",
    }];
    await Deno.writeTextFile(globalPath, JSON.stringify({ INCLUDES: includes }));
    await Deno.writeTextFile(
      `${folder}/redis1/database_config.json`,
      '{"INSTANCES": {"redis": {"unix_socket_path": "/run/redis1.sock"}}}',
    );
    const { application } = await loadDatabaseConfig({ namespace: "asic1", globalPath });
    deepEqual(application.address, { path: "/run/redis1.sock" });
    await rejects(loadDatabaseConfig({ namespace: "asic7", globalPath }), /lists "", "asic1"/);
    await rejects(loadDatabaseConfig({ path: `${folder}/missing.json` }), { code: "ENOENT" });
    equal(
      databaseConfigOf('{"INCLUDES": [{"include": "x.json"}]}', "", DATABASE_CONFIG_PATH),
      "/var/run/redis/sonic-db/x.json",
    );
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
