/**
 * A daemon in a network of its own, between a real kernel and a real Redis with a consumer that pops as a switch's agent
 * does; and a judge that knows the rules from their description, not from the code.
 *
 * @module
 */
import { NeighborGenerator } from "../../internal/testing/neighbor_generator.ts";
import { NetworkNamespace } from "../../internal/testing/netns.ts";
import {
  RawRedis,
  RedisServer,
  type RedisServerOptions,
} from "../../internal/testing/redis_server.ts";
import { SonicConsumer } from "../../internal/testing/sonic_consumer.ts";
import { NeighSync, type NeighSyncOptions } from "../daemon.ts";

/** How a scene is set. */
export interface SceneOptions {
  readonly redis?: RedisServerOptions;
  /** Name of the first device. Default `Ethernet0`. */
  readonly device?: string;
  /** Settings of the daemon, besides where everything is. */
  readonly settings?: NeighSyncOptions;
}

/** What the judge has to know. */
export interface Facts {
  readonly dualTor?: boolean;
  readonly evpn?: boolean;
  readonly linkLocal?: readonly string[];
}

/** One row of `ip -json neigh`. */
export interface KernelRow {
  readonly dev: string;
  readonly dst: string;
  readonly lladdr?: string;
  readonly state: readonly string[];
  readonly extern_learn?: null;
}

const READ_TABLE = `local reply = {}
for _, name in ipairs(redis.call('KEYS', 'NEIGH_TABLE:*')) do
  local hash = redis.call('HGETALL', name)
  reply[#reply + 1] = string.sub(name, 13)
  reply[#reply + 1] = table.concat(hash, ' ')
end
return reply`;

/** A scene; everything in it goes when it is disposed. */
export class Scene implements AsyncDisposable {
  readonly network: NetworkNamespace;
  readonly server: RedisServer;
  readonly generator: NeighborGenerator;
  readonly device: string;
  readonly ifindex: number;
  facts: Facts = {};
  readonly #settings: NeighSyncOptions;
  readonly #made: AsyncDisposableStack;
  #consumer: SonicConsumer | undefined;
  #sync: NeighSync | undefined;

  private constructor(
    network: NetworkNamespace,
    server: RedisServer,
    generator: NeighborGenerator,
    device: string,
    ifindex: number,
    settings: NeighSyncOptions,
    made: AsyncDisposableStack,
  ) {
    this.network = network;
    this.server = server;
    this.generator = generator;
    this.device = device;
    this.ifindex = ifindex;
    this.#settings = settings;
    this.#made = made;
  }

  /** Sets the stage. The daemon is not started. */
  static async create(options: SceneOptions = {}): Promise<Scene> {
    await using made = new AsyncDisposableStack();
    const network = made.use(await NetworkNamespace.create());
    const device = options.device ?? "Ethernet0";
    const ifindex = await network.addDevice(device);
    const generator = made.use(
      await NeighborGenerator.open({ namespace: network.path, interfaceIndex: ifindex }),
    );
    const server = made.use(await RedisServer.start(options.redis));
    await server.run(["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    const settings = options.settings ?? {};
    return new Scene(network, server, generator, device, ifindex, settings, made.move());
  }

  /** The daemon. */
  get sync(): NeighSync {
    if (this.#sync === undefined) throw new TypeError("Cannot ask a daemon that was not started");
    return this.#sync;
  }

  /** The consumer. */
  get consumer(): SonicConsumer {
    if (this.#consumer === undefined) throw new TypeError("Cannot ask a consumer that left");
    return this.#consumer;
  }

  /** Where Redis is, as the daemon is told. */
  get url(): string {
    return `unix:${this.server.socket}`;
  }

  /** Settings of the daemon: the scene's own, and more. */
  settings(more: NeighSyncOptions = {}): NeighSyncOptions {
    const merged: Record<string, unknown> = { ...this.#settings };
    for (const [key, value] of Object.entries(more)) {
      const before = merged[key];
      merged[key] = typeof before === "object" && typeof value === "object"
        ? { ...before, ...value }
        : value;
    }
    const { redis, netlink } = merged as NeighSyncOptions;
    return {
      ...merged,
      redis: { url: this.url, ...redis },
      netlink: { namespace: this.network.path, ...netlink },
    };
  }

  /** Starts the consumer, and the daemon; settles when everything is published. */
  async start(more: NeighSyncOptions = {}): Promise<NeighSync> {
    const sync = this.#sync = new NeighSync(this.settings(more));
    await this.consume();
    await sync.start();
    return sync;
  }

  /** Stops the daemon. */
  async stop(): Promise<void> {
    const sync = this.#sync;
    this.#sync = undefined;
    await sync?.close();
  }

  /** Starts a consumer, unless there is one. */
  async consume(): Promise<void> {
    this.#consumer ??= await SonicConsumer.start(this.server.socket);
  }

  /** Lets the consumer go: what is staged stays so. */
  async unconsume(): Promise<void> {
    const consumer = this.#consumer;
    this.#consumer = undefined;
    await consumer?.[Symbol.asyncDispose]();
  }

  /** Runs `ip neigh` for an address on the first device. */
  async neigh(verb: string, address: string, ...words: readonly string[]): Promise<void> {
    await this.network.ip("neigh", verb, address, "dev", this.device, ...words);
  }

  /** Commands in another database. */
  async inDatabase(
    database: number,
    ...commands: readonly (readonly (string | number)[])[]
  ): Promise<unknown[]> {
    return (await this.server.run(["SELECT", database], ...commands)).slice(1);
  }

  /** The kernel's table. */
  async kernel(): Promise<readonly KernelRow[]> {
    return JSON.parse(await this.network.ip("-json", "neigh", "show", "nud", "all"));
  }

  /** What should be published: `MAC family` by key. */
  async wanted(): Promise<Map<string, string>> {
    const wanted = new Map<string, string>();
    for (const row of await this.kernel()) {
      const mac = judge(row, this.facts);
      if (mac === undefined) continue;
      wanted.set(`${row.dev}:${row.dst}`, `${mac} ${row.dst.includes(":") ? "IPv6" : "IPv4"}`);
    }
    return wanted;
  }

  /** What is published and taken by the consumer: the fields of every final hash, by key. */
  async published(): Promise<Map<string, string>> {
    await using connection = await RawRedis.connect(this.server.socket);
    const reply = await connection.call("EVAL", READ_TABLE, 0) as readonly string[];
    const found = new Map<string, string>();
    for (let i = 0; i < reply.length; i += 2) found.set(reply[i]!, reply[i + 1]!);
    return found;
  }

  /**
   * Waits until Redis equals the kernel and nothing is staged any more.
   *
   * @returns Milliseconds that took.
   * @throws {Error} When it takes longer than `withinMs` from when the consumer last found something, or ten times as long
   * in all, with examples of what differs.
   */
  async settled(withinMs = 2000): Promise<number> {
    const startedAt = performance.now();
    // The consumer takes 128 keys at a time on the thread of the daemon and the judge: how long that takes is nobody's claim.
    let popped = this.consumer.popped.length, poppedAt = startedAt;
    for (;;) {
      const differences = await this.#differences();
      const now = performance.now();
      const tookMs = now - startedAt;
      if (differences.length === 0) return tookMs;
      if (this.consumer.popped.length > popped) {
        popped = this.consumer.popped.length;
        poppedAt = now;
      }
      if (now - poppedAt > withinMs || tookMs > 10 * withinMs) {
        throw new Error(
          `Cannot see kernel and Redis equal: ${differences.length} keys differ after ${
            tookMs.toFixed(0)
          } ms, ${differences.slice(0, 5).join("; ")}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
    await this.unconsume();
    await this.#made.disposeAsync();
  }

  async #differences(): Promise<string[]> {
    const differences: string[] = [];
    const published = await this.published();
    const wanted = await this.wanted();
    for (const [key, value] of wanted) {
      const [mac, family] = value.split(" ");
      const there = published.get(key);
      if (there !== `neigh ${mac} family ${family}`) {
        differences.push(`${key}: ${there} for ${mac}`);
      }
      published.delete(key);
    }
    for (const [key, value] of published) differences.push(`${key}: ${value} for nothing`);
    if (differences.length === 0) {
      const [staged] = await this.server.run(["SCARD", "NEIGH_TABLE_KEY_SET"]);
      if (staged !== 0) differences.push(`${staged} keys are staged`);
    }
    return differences;
  }
}

/** The MAC to publish for a row of the kernel; undefined for none. The rules of the switch, in words of `ip`. */
function judge(row: KernelRow, facts: Facts): string | undefined {
  const { dst, lladdr, state, dev } = row;
  const is = (name: string): boolean => state.includes(name);
  if (facts.dualTor === true && dst.startsWith("169.254.")) return undefined;
  if (/^ff.2:/.test(dst)) return undefined;
  if (/^fe[89ab]./.test(dst) && facts.linkLocal?.includes(dev) !== true) return undefined;
  const learned = row.extern_learn !== undefined;
  if (is("NOARP") && !learned) return undefined;
  if (is("FAILED") || is("INCOMPLETE")) {
    return facts.dualTor === true ? "00:00:00:00:00:00" : undefined;
  }
  if (lladdr === undefined || lladdr === "ff:ff:ff:ff:ff:ff") return undefined;
  return /^([0-9a-f]{2}:){5}[0-9a-f]{2}$/.test(lladdr) ? lladdr : undefined;
}

/** Waits for a condition. @throws {Error} When it takes longer than ten seconds. */
export async function until(
  condition: () => boolean | Promise<boolean>,
  what: string,
): Promise<void> {
  const deadline = performance.now() + 10_000;
  while (!await condition()) {
    if (performance.now() > deadline) throw new Error(`Cannot wait for ${what}: it did not happen`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
