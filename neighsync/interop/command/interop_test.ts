// The command as a process, in a network of its own, with a real Redis: ready line, signals, service manager, exit codes,
// and the monitor beside it. Needs root and redis-server.

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { AF_UNIX, MSG_DONTWAIT, SOCK_CLOEXEC, SOCK_DGRAM } from "../../../ffi/constants_linux.ts";
import { bindAll } from "../../../ffi/libc_linux.ts";
import { missingNamespaces, NetworkNamespace } from "../../../internal/testing/netns.ts";
import { ownWords, startOwnTool } from "../../../internal/testing/own_tool.ts";
import { RedisServer, redisTest } from "../../../internal/testing/redis_server.ts";

const MAIN = "neighsync/mod.ts";
const library = bindAll();

/** A service manager: a socket that keeps what it is told. */
class Manager {
  readonly told: string[] = [];
  readonly #fd = library!.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

  constructor(path: string) {
    const address = Uint8Array.of(AF_UNIX, 0, ...new TextEncoder().encode(path), 0);
    equal(library!.bind(this.#fd, address, address.length), 0);
  }

  heard(words: string): boolean {
    const bytes = new Uint8Array(1000);
    for (;;) {
      const length = library!.recvfrom(this.#fd, bytes, 1000n, MSG_DONTWAIT, null, null);
      if (length < 0) break;
      this.told.push(new TextDecoder().decode(bytes.subarray(0, length)));
    }
    return this.told.some((text) => text.includes(words));
  }

  [Symbol.dispose](): void {
    library!.close(this.#fd);
  }
}

async function until(what: string, condition: () => boolean | Promise<boolean>): Promise<void> {
  const giveUpAt = performance.now() + 15_000;
  while (!await condition()) {
    if (performance.now() > giveUpAt) throw new Error(`Cannot go on: waited for ${what} in vain`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

function commandTest(
  name: string,
  body: (network: NetworkNamespace, redis: RedisServer) => Promise<void>,
): void {
  redisTest(name, async () => {
    await using network = await NetworkNamespace.create();
    await network.addDevice("Ethernet0");
    await using redis = await RedisServer.start();
    await body(network, redis);
  }, missingNamespaces() === "" ? [] : ["a right to make namespaces"]);
}

commandTest(
  "neighsync run says when it is ready, follows its signals and ends with 0",
  async (network, redis) => {
    const file = `${redis.folder}/neighsync.toml`;
    const notify = `${redis.folder}/notify`;
    using manager = new Manager(notify);
    await Deno.writeTextFile(file, `[redis]\nurl = "unix:${redis.socket}"\nschema = "plain"\n`);
    await network.ip("neigh", "add", "10.0.0.1", "lladdr", "02:00:00:00:00:01", "dev", "Ethernet0");
    await using daemon = await startOwnTool(MAIN, ["run", "--config", file, "--metrics", "off"], {
      namespace: network,
      ready: /^ready (\d+) neighbours/,
      environment: { NOTIFY_SOCKET: notify, WATCHDOG_USEC: "200000" },
    });
    equal(daemon.matches[0]![1], "1");
    const keys = async (): Promise<string[]> =>
      ((await redis.run(["KEYS", "NEIGH_TABLE:*"]))[0] as string[]).sort();
    deepEqual(await keys(), ["NEIGH_TABLE:Ethernet0:10.0.0.1"]);
    await until(
      "READY and WATCHDOG",
      () => manager.heard("READY=1") && manager.heard("WATCHDOG=1"),
    );
    await network.ip("neigh", "add", "10.0.0.2", "lladdr", "02:00:00:00:00:02", "dev", "Ethernet0");
    await until("the second neighbour", async () => (await keys()).length === 2);
    // The reloadable part of the file: what is no longer wanted goes.
    await Deno.writeTextFile(
      file,
      `[redis]\nurl = "unix:${redis.socket}"\nschema = "plain"\n[netlink]\nexclude = ["Eth*"]\n`,
    );
    Deno.kill(daemon.pid, "SIGHUP");
    await until("the interface to go", async () => (await keys()).length === 0);
    ok(manager.heard("RELOADING=1"));
    await Deno.writeTextFile(file, "[netlink]\nexclud = []\n");
    Deno.kill(daemon.pid, "SIGHUP");
    await until("the complaint", () => daemon.output().includes('expected "netlink.exclude"'));
    Deno.kill(daemon.pid, "SIGUSR1");
    await until("the state", () => daemon.output().includes("neighborsProcessed"));
    equal(await daemon.stop(), 0);
    ok(manager.heard("STOPPING=1"));
  },
);

commandTest(
  "neighsync run waits for Redis, and dump --redis-diff tells what differs",
  async (network, redis) => {
    const { success, code, stderr } = await output(network, [
      "dump",
      "--redis-diff",
      "--redis",
      `unix:${redis.folder}/nothing.sock`,
    ]);
    deepEqual([success, code], [false, 4], stderr);
    await network.ip("neigh", "add", "10.0.0.1", "lladdr", "02:00:00:00:00:01", "dev", "Ethernet0");
    const diff = ["dump", "--redis-diff", "--json", "--redis", `unix:${redis.socket}`];
    const before = await output(network, diff);
    equal(before.code, 9);
    deepEqual(JSON.parse(before.stdout), {
      key: "Ethernet0:10.0.0.1",
      expected: { mac: "02:00:00:00:00:01", family: "IPv4" },
      found: null,
    });
    await redis.kill();
    await using daemon = await startOwnTool(
      MAIN,
      ["run", "--redis", `unix:${redis.socket}`, "--metrics", "off", "--no-warm-restart"],
      { namespace: network, ready: /connecting to the sink/ },
    );
    await redis.restart();
    await until("the neighbour", () => daemon.output().includes("ready 1 neighbours"));
    // What is staged counts as published: the consumer has only to take it.
    equal((await output(network, diff)).code, 0);
    equal(await daemon.stop(), 0);
  },
);

for (const driver of ["fast", "portable"] as const) {
  commandTest(
    `neighsync monitor prints an object a change with the ${driver} driver`,
    async (network) => {
      const words = ["monitor", "--json", "--driver", driver, "--log-level", "info"];
      await using monitor = await startOwnTool(MAIN, words, {
        namespace: network,
        ready: /reading the kernel's tables by/,
      });
      await until("the first reading", () => monitor.output().includes("resync-end"));
      await network.ip(
        "neigh",
        "add",
        "10.0.0.7",
        "lladdr",
        "02:00:00:00:00:07",
        "dev",
        "Ethernet0",
      );
      await until("the change", () => monitor.output().includes("10.0.0.7"));
      const line = monitor.output().split("\n").find((text) => text.includes("10.0.0.7"))!;
      const { time, type, neighbor } = JSON.parse(line);
      match(time, /^\d{4}-\d\d-\d\dT.*Z$/);
      deepEqual([type, neighbor.ifname, neighbor.mac, neighbor.state], [
        "add",
        "Ethernet0",
        "02:00:00:00:00:07",
        "permanent",
      ]);
      equal(await monitor.stop(), 0);
    },
  );
}

async function output(
  network: NetworkNamespace,
  words: readonly string[],
): Promise<{ success: boolean; code: number; stdout: string; stderr: string }> {
  const [command, ...args] = network.wrap(ownWords(MAIN, words));
  const { success, code, stdout, stderr } = await new Deno.Command(command!, { args }).output();
  const text = new TextDecoder();
  return { success, code, stdout: text.decode(stdout), stderr: text.decode(stderr) };
}
