/**
 * What the neighsync scenarios play on: a network, a Redis, the daemon as a process of its own, started as a user does.
 *
 * @module
 */
import { NeighborGenerator } from "../../internal/testing/neighbor_generator.ts";
import { NetworkNamespace } from "../../internal/testing/netns.ts";
import { ownWords } from "../../internal/testing/own_tool.ts";
import { RawRedis, RedisServer } from "../../internal/testing/redis_server.ts";
import { type Running, start, untilLine } from "./harness.ts";

/** The daemon at work. */
export interface Daemon extends Running {
  /** Milliseconds it says it took from its start to the first synchronisation. */
  readonly syncMs: number;
  /** Milliseconds from starting the process to its word that it is ready. */
  readonly wholeMs: number;
}

/** A network with one device, and a Redis without a consumer: what is staged stays to be counted. */
export class Stage implements AsyncDisposable {
  private constructor(
    readonly network: NetworkNamespace,
    readonly server: RedisServer,
    readonly generator: NeighborGenerator,
    readonly redis: RawRedis,
    readonly made: AsyncDisposableStack,
  ) {}

  /** Sets it. Needs root and redis-server. */
  static async create(): Promise<Stage> {
    await using made = new AsyncDisposableStack();
    const network = made.use(await NetworkNamespace.create());
    const interfaceIndex = await network.addDevice("Ethernet0");
    const generator = made.use(
      await NeighborGenerator.open({ namespace: network.path, interfaceIndex }),
    );
    const server = made.use(await RedisServer.start());
    await server.run(["CONFIG", "SET", "notify-keyspace-events", "KEA"]);
    const redis = made.use(await RawRedis.connect(server.socket));
    return new Stage(network, server, generator, redis, made.move());
  }

  /** Starts the daemon and waits until everything is published. */
  async daemon(...more: readonly string[]): Promise<Daemon> {
    const url = `unix:${this.server.socket}`;
    const metrics = more.includes("--metrics") ? [] : ["--metrics", "off"];
    const own = ownWords("neighsync/mod.ts", ["run", "--redis", url, ...metrics, ...more]);
    const [program, ...args] = this.network.wrap(own);
    const startedAt = performance.now();
    let syncMs = NaN;
    const running = await start(program!, args, async (stderr) => {
      const line = await untilLine(stderr, /^ready \d+ neighbours in (\d+) ms/m, 60_000);
      syncMs = Number(/in (\d+) ms/.exec(line)![1]);
    });
    return { ...running, syncMs, wholeMs: performance.now() - startedAt };
  }

  /** Keys that are staged. */
  async staged(): Promise<number> {
    return Number(await this.redis.call("SCARD", "NEIGH_TABLE_KEY_SET"));
  }

  /** Waits until so many keys are staged. @returns Milliseconds. */
  async untilStaged(count: number, limitMs = 60_000): Promise<number> {
    const startedAt = performance.now();
    for (;;) {
      const staged = await this.staged();
      const tookMs = performance.now() - startedAt;
      if (staged >= count) return tookMs;
      if (tookMs > limitMs) throw new Error(`${staged} of ${count} keys are staged`);
      // Asked without a pause, Redis answers this question half of its time, and on two cores who asks is in the way.
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }

  /**
   * Looks at every staged value: a number that is fast and wrong is none.
   *
   * @param salt What the generator made the MACs with.
   */
  async verify(count: number, salt = 0): Promise<void> {
    const found = await this.redis.call("EVAL", VERIFY, 0, count, salt);
    if (found !== count) throw new Error(`${found} of ${count} staged neighbours are right`);
  }

  /** Takes everything that is staged, as a consumer would in one go. */
  async consume(): Promise<void> {
    await this.redis.call("EVAL", CONSUME, 0);
  }

  /** Forgets the tables and the neighbours. */
  async clear(count: number): Promise<void> {
    this.generator.remove(0, count);
    await this.redis.call("FLUSHALL");
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.made.disposeAsync();
  }
}

const VERIFY = `local right = 0
for i = 0, tonumber(ARGV[1]) - 1 do
  local key = string.format('_NEIGH_TABLE:Ethernet0:10.%d.%d.%d', math.floor(i / 65536), math.floor(i / 256) % 256, i % 256)
  local mac = string.format('02:%02x:%02x:%02x:%02x:%02x', tonumber(ARGV[2]), math.floor(i / 16777216) % 256,
    math.floor(i / 65536) % 256, math.floor(i / 256) % 256, i % 256)
  local hash = redis.call('HMGET', key, 'neigh', 'family')
  if hash[1] == mac and hash[2] == 'IPv4' then right = right + 1 end
end
return right`;

const CONSUME = `for _, name in ipairs(redis.call('KEYS', '_NEIGH_TABLE:*')) do
  redis.call('RENAME', name, string.sub(name, 2))
end
redis.call('DEL', 'NEIGH_TABLE_KEY_SET', 'NEIGH_TABLE_DEL_SET')
return 0`;
