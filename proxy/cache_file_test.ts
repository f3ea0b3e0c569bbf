import { deepEqual, equal, match, notEqual, ok } from "node:assert/strict";
import { DatabaseSync } from "node:sqlite";
import { seededRandom } from "../internal/random.ts";
import { runContract } from "../internal/testing/contract.ts";
import { startOwnTool } from "../internal/testing/own_tool.ts";
import { CacheFile } from "./cache_file.ts";
import { FakeipBlock, type FakeipStore } from "./dns_fakeip.ts";
import { createProxy } from "./engine.ts";
import { SelectorOutbound } from "./groups.ts";
import { readIpBlock } from "./ip_text.ts";
import { PROXY_DRIVERS, type ProxyDriver } from "./testdata/drivers.ts";

const BLOCK = "198.18.0.0/15";

/** A folder that is gone afterwards. */
async function inFolder(test: (folder: string) => Promise<void>): Promise<void> {
  const folder = await Deno.makeTempDir();
  try {
    await test(folder);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function openCache(folder: string, more: object = {}, former?: CacheFile) {
  const config = { enabled: true, path: "cache.db", cacheId: "", storeFakeip: true, ...more };
  return CacheFile.open(config, folder, former);
}

function filesOf(folder: string): readonly string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

Deno.test("CacheFile answers what was kept, before and after it was written", () =>
  inFolder(async (folder) => {
    const first = (await openCache(folder))!;
    first.saveMode("Global");
    first.select("group", "a");
    first.select("group", "b");
    first.assign(BLOCK, 7, "a.example");
    first.assign(BLOCK, 7, "b.example");
    first.assign("fc00::/18", 7, "b.example");
    deepEqual([first.mode, first.selected("group"), first.selected("other")], [
      "Global",
      "b",
      undefined,
    ]);
    first.close();
    first.close();
    const second = (await openCache(folder))!;
    deepEqual([second.mode, second.selected("group")], ["Global", "b"]);
    deepEqual(second.names(BLOCK), [[7, "b.example"]]);
    second.clear(BLOCK);
    deepEqual([second.names(BLOCK), second.names("fc00::/18")], [[], [[7, "b.example"]]]);
    second.close();
  }));

Deno.test("CacheFile has written what was reserved when reserve() returns, and forgotten who was there", () =>
  inFolder(async (folder) => {
    const first = (await openCache(folder))!;
    for (const place of [5, 6, 7]) first.assign(BLOCK, place, `${place}.example`);
    first.reserve(BLOCK, 300, [5, 6]);
    // What a killed process leaves behind, looked at by another one.
    await Deno.copyFile(`${folder}/cache.db`, `${folder}/copy.db`);
    await Deno.copyFile(`${folder}/cache.db-wal`, `${folder}/copy.db-wal`);
    const second = (await openCache(folder, { path: "copy.db" }))!;
    deepEqual([second.given(BLOCK), second.names(BLOCK)], [300, [[7, "7.example"]]]);
    second.close();
    first.close();
  }));

Deno.test("CacheFile keeps configurations with other names apart, in one process as well", () =>
  inFolder(async (folder) => {
    const first = (await openCache(folder, { cacheId: "one" }))!;
    first.saveMode("Global");
    equal(await openCache(folder, { cacheId: "one" }, first), first);
    const second = (await openCache(folder, { cacheId: "two" }, first))!;
    first.close();
    equal(second.mode, undefined);
    second.saveMode("Direct");
    second.close();
    const again = (await openCache(folder, { cacheId: "one" }))!;
    equal(again.mode, "Global");
    again.close();
  }));

Deno.test("CacheFile writes everything of a long list, in batches and at the end", () =>
  inFolder(async (folder) => {
    const first = (await openCache(folder))!;
    for (let place = 0; place < 5000; place++) first.assign(BLOCK, place, `${place}.example`);
    first.close();
    const second = (await openCache(folder))!;
    equal(second.names(BLOCK).length, 5000);
    second.close();
  }));

Deno.test("CacheFile keeps to its owner who asked for what", () =>
  inFolder(async (folder) => {
    (await openCache(folder))!.close();
    equal((await Deno.stat(`${folder}/cache.db`)).mode! & 0o777, 0o600);
  }));

Deno.test("CacheFile puts files aside that it cannot use, and never over one another", () =>
  inFolder(async (folder) => {
    const path = `${folder}/cache.db`;
    const foreign = new DatabaseSync(path);
    foreign.exec("CREATE TABLE theirs (a)");
    foreign.close();
    const breaks: readonly (() => void)[] = [
      () => {},
      () => Deno.writeTextFileSync(path, "no database at all\n".repeat(500)),
      () => {
        const newer = new DatabaseSync(path);
        newer.exec("PRAGMA user_version = 2");
        newer.close();
      },
      () => {
        // A page in the middle that is not one.
        const bytes = Deno.readFileSync(path);
        bytes.fill(0xa5, 4096, 8192);
        Deno.writeFileSync(path, bytes);
      },
      () => Deno.truncateSync(path, 5000),
    ];
    for (const [index, spoil] of breaks.entries()) {
      spoil();
      const cache = await openCache(folder);
      ok(cache !== undefined);
      equal(cache.mode, undefined, `case ${index}`);
      for (let place = 0; place < 500; place++) cache.assign(BLOCK, place, `${place}.example`);
      cache.saveMode("Global");
      cache.close();
      const again = (await openCache(folder))!;
      equal(again.mode, "Global");
      again.close();
      equal(filesOf(folder).filter((name) => name.includes("unusable")).length, index + 1);
    }
    const theirs = new DatabaseSync(`${path}.unusable`);
    equal(theirs.prepare("SELECT count(*) AS n FROM sqlite_schema").get()?.["n"], 1);
    theirs.close();
  }));

Deno.test("CacheFile does without a file that another one has, and leaves it alone", () =>
  inFolder(async (folder) => {
    const first = (await openCache(folder))!;
    first.saveMode("Global");
    equal(await openCache(folder), undefined);
    first.close();
    equal(await openCache(`${folder}/missing`), undefined);
    deepEqual(filesOf(folder), ["cache.db"]);
  }));

/** A store that loses what was assigned since the last time it was asked to reserve, as a killed process does. */
class ForgetfulStore implements FakeipStore {
  readonly #kept = new Map<number, string>();
  readonly #waiting = new Map<number, string>();
  #given = 0;

  names(): readonly (readonly [number, string])[] {
    return [...this.#kept];
  }

  given(): number {
    return this.#given;
  }

  assign(_block: string, place: number, name: string): void {
    this.#waiting.set(place, name);
  }

  reserve(_block: string, given: number, places: readonly number[]): void {
    this.#given = given;
    for (const place of places) {
      this.#kept.delete(place);
      this.#waiting.delete(place);
    }
  }

  clear(): void {
    this.#kept.clear();
  }

  flush(): void {
    for (const [place, name] of this.#waiting) this.#kept.set(place, name);
    this.#waiting.clear();
  }

  kill(): void {
    this.#waiting.clear();
  }
}

Deno.test("FakeipBlock gives no address to a second name while clients may hold it, whenever it is killed", () => {
  const seed = Math.floor(Math.random() * 2 ** 32);
  const random = seededRandom(seed);
  const store = new ForgetfulStore();
  const text = "10.0.0.0/22";
  const open = (): FakeipBlock => {
    const block = new FakeipBlock(text, readIpBlock(text)!);
    block.keepIn(store);
    return block;
  };
  let block = open();
  // The block has 1021 places, and a restart may pass over 64 of them.
  const recent: { readonly address: string; readonly name: string; readonly at: number }[] = [];
  let at = 0;
  for (let step = 0; step < 20_000; step++, at++) {
    const name = `${step}.example`;
    const address = block.addressOf(name);
    while (recent.length > 0 && at - recent[0]!.at >= 1021 - 64) recent.shift();
    const other = recent.find((each) => each.address === address);
    equal(other, undefined, `seed ${seed}: ${address} of ${other?.name} was given to ${name}`);
    recent.push({ address, name, at });
    if (random.u32() % 20 === 0) store.flush();
    if (random.u32() % 100 === 0) {
      store.kill();
      block = open();
      at += 64;
      // What was lost leads nowhere, never to somebody else.
      for (const each of recent) {
        if (at - each.at >= 1021 - 64) continue;
        const found = block.nameOf(each.address);
        ok(found === undefined || found === each.name, `seed ${seed}: ${each.name} is ${found}`);
      }
    }
  }
});

runContract<ProxyDriver>("Proxy", [
  [
    "goes on with what was chosen before a restart",
    (driver) =>
      inFolder(async (folder) => {
        const config = (more: object = {}) => ({
          outbounds: [
            { type: "selector", tag: "group", outbounds: ["a", "b"] },
            { type: "direct", tag: "a" },
            { type: "direct", tag: "b" },
          ],
          dns: {
            servers: [{ type: "fakeip", tag: "fake", inet4_range: BLOCK }],
          },
          route: { rules: [{ clash_mode: "Global", outbound: "a" }] },
          experimental: {
            cache_file: { enabled: true, path: "cache.db", store_fakeip: true, ...more },
            clash_api: { external_controller: "127.0.0.1:0" },
          },
        });
        const start = (more?: object) => createProxy(config(more), { driver, folder });
        const groupOf = (proxy: { outbound(tag: string): unknown }): SelectorOutbound => {
          const group = proxy.outbound("group");
          ok(group instanceof SelectorOutbound);
          return group;
        };
        {
          await using proxy = await start();
          proxy.clashMode ??= "Rule";
          proxy.clashMode = "Global";
          groupOf(proxy).select("b");
          // A reload keeps the choice, and goes on keeping.
          await proxy.reload(config());
          equal(groupOf(proxy).now, "b");
          groupOf(proxy).select("a");
          groupOf(proxy).select("b");
        }
        {
          await using proxy = await start();
          deepEqual([proxy.clashMode, groupOf(proxy).now], ["Global", "b"]);
        }
        {
          // Under another name nothing was chosen yet, and what is chosen does not show elsewhere.
          await using proxy = await start({ cache_id: "other" });
          deepEqual([proxy.clashMode, groupOf(proxy).now], [undefined, "a"]);
          await proxy.reload(config());
          deepEqual([proxy.clashMode, groupOf(proxy).now], ["Global", "a"]);
        }
      }),
  ],
], PROXY_DRIVERS);

/** A configuration with everything that is kept, for a process of its own. */
async function writeConfig(folder: string): Promise<string> {
  const file = `${folder}/config.json`;
  await Deno.writeTextFile(
    file,
    JSON.stringify({
      outbounds: [
        { type: "selector", tag: "group", outbounds: ["a", "b"] },
        { type: "direct", tag: "a" },
        { type: "direct", tag: "b" },
      ],
      dns: { servers: [{ type: "fakeip", tag: "fake", inet4_range: BLOCK }] },
      route: { rules: [{ clash_mode: "Global", outbound: "a" }] },
      experimental: {
        cache_file: { enabled: true, path: "cache.db", store_fakeip: true },
        clash_api: { external_controller: "127.0.0.1:0", secret: "s" },
      },
    }),
  );
  return file;
}

Deno.test("`proxy run` that is killed goes on where it was", () =>
  inFolder(async (folder) => {
    const file = await writeConfig(folder);
    const addresses = new Map<string, string>();
    let chosen = "a";
    for (let round = 0; round < 3; round++) {
      const tool = await startOwnTool("proxy/mod.ts", ["run", "-c", file, "-D", folder], {
        ready: /^listening tcp (\S+) clash_api/,
      });
      try {
        const base = `http://${tool.matches[0]![1]}`;
        const call = async (method: string, path: string, body?: object): Promise<unknown> => {
          const response = await fetch(base + path, {
            method,
            headers: { authorization: "Bearer s" },
            ...(body === undefined ? {} : { body: JSON.stringify(body) }),
          });
          const text = await response.text();
          ok(response.ok, `${method} ${path}: ${response.status} ${text}`);
          return text === "" ? undefined : JSON.parse(text);
        };
        const group = await call("GET", "/proxies/group") as { now: string };
        const configs = await call("GET", "/configs") as { mode: string };
        deepEqual([group.now, configs.mode], [chosen, round === 0 ? "Rule" : "Global"]);
        const addressOf = async (name: string): Promise<string> => {
          const answer = await call("GET", `/dns/query?name=${name}&type=A`) as {
            Answer: readonly { data: string }[];
          };
          return answer.Answer[0]!.data;
        };
        for (const [name, address] of addresses) equal(await addressOf(name), address, name);
        for (const name of [`one${round}.example`, `two${round}.example`]) {
          const address = await addressOf(name);
          ok(![...addresses.values()].includes(address), `${address} again`);
          addresses.set(name, address);
        }
        chosen = chosen === "a" ? "b" : "a";
        await call("PUT", "/proxies/group", { name: chosen });
        await call("PATCH", "/configs", { mode: "Global" });
        // Three batches are more than enough for all of it to be in the file.
        await new Promise((resolve) => setTimeout(resolve, 600));
        // Not on its own terms: what comes now may be lost, but nothing breaks.
        await addressOf(`lost${round}.example`);
      } finally {
        Deno.kill(tool.pid, "SIGKILL");
        notEqual(await tool.stop(), 0);
      }
    }
    // Whatever happened, the file is whole.
    const database = new DatabaseSync(`${folder}/cache.db`);
    equal(database.prepare("PRAGMA integrity_check").get()?.["integrity_check"], "ok");
    database.close();
    deepEqual(filesOf(folder).filter((name) => name.includes("unusable")), []);
  }));

Deno.test("`proxy run` starts beside a file that is none, and says where it put it", () =>
  inFolder(async (folder) => {
    const file = await writeConfig(folder);
    await Deno.writeTextFile(`${folder}/cache.db`, "something else");
    const tool = await startOwnTool("proxy/mod.ts", ["run", "-c", file, "-D", folder], {
      ready: /^listening tcp (\S+) clash_api/,
    });
    equal(await tool.stop(), 0);
    match(tool.output(), /put .*cache\.db aside as .*cache\.db\.unusable/);
    equal(await Deno.readTextFile(`${folder}/cache.db.unusable`), "something else");
  }));
