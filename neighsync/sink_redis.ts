/**
 * The table in Redis: one script call per batch, a connection that is kept, and the same two schemas everywhere.
 *
 * @module
 */

import { handedIn, type OpenRedis, type RedisClient, redisOpener } from "../internal/redis.ts";
import type { RedisTarget } from "../internal/redis.ts";
import { isRedisError, notConnected } from "../internal/redis_errors.ts";
import { RedisLink, type RedisLinkOptions } from "../internal/redis_link.ts";
import { fencedArguments, fencedScript, type LeaseFence } from "./lease_store.ts";
import { RedisBatches } from "./redis_batches.ts";
import { readTable, removeMatching } from "./redis_reading.ts";
import {
  NEIGH_TABLE,
  PLAIN_SCRIPT,
  ROUTE_TABLE,
  scriptArguments,
  STAGE_SCRIPT,
  type TableNames,
  tableNames,
} from "./redis_table.ts";
import type {
  Sink,
  SinkEvent,
  SinkOperation,
  SinkSchema,
  SinkSnapshot,
  SinkTable,
} from "./sink.ts";

/** How the table in Redis is reached and kept. */
export interface RedisSinkOptions {
  /** The server, the sentinels or the cluster; or `clients`. */
  readonly target?: RedisTarget;
  /**
   * The application's own clients, connected and on the database of the table; they are never closed. Without
   * `subscriptions`, changes of the configuration are seen when cached facts expire.
   */
  readonly clients?: { readonly commands: RedisClient; readonly subscriptions?: RedisClient };
  /** `producer-state` by default; a cluster takes `plain` only, since one step may not touch several slots there. */
  readonly schema?: SinkSchema;
  /** Number of the database, 0 by default; part of the channel's name. */
  readonly database?: number;
  /** Between table and key, `:` by default. */
  readonly separator?: string;
  /** Most changes of one script call, 1,000 by default; longer batches are sent as several. */
  readonly maxBatch?: number;
  /** Writes nothing while this key does not hold this token, be that decided in the moment of writing; not in a cluster. */
  readonly fence?: LeaseFence;
  /** Time limits and waits of the connection. */
  readonly link?: Omit<RedisLinkOptions, "open" | "openSubscriptions">;
}

/**
 * Begins to connect to Redis and answers at once; see {@linkcode RedisSink.whenConnected}.
 *
 * @throws {TypeError} When neither or both of `target` and `clients` are given, or a cluster is to stage changes.
 */
export function openRedisSink(options: RedisSinkOptions): RedisSink {
  const { target, clients } = options;
  if ((target === undefined) === (clients === undefined)) {
    throw new TypeError("Cannot open a Redis sink: expected either a target or clients");
  }
  const isCluster = target?.cluster !== undefined;
  if (isCluster && options.schema !== "plain") {
    throw new TypeError(
      'Cannot stage changes in a Redis cluster: one step may not touch several slots, expected schema "plain"',
    );
  }
  const database = options.database ?? target?.database ?? 0;
  let open: OpenRedis;
  let openSubscriptions: OpenRedis | null | undefined;
  if (target !== undefined) {
    open = redisOpener(isCluster ? target : { ...target, database });
  } else {
    open = handedIn(clients!.commands);
    const { subscriptions } = clients!;
    if (subscriptions !== undefined && subscriptions.pSubscribe === undefined) {
      throw new TypeError(
        "Cannot follow changes by the given client: expected a pSubscribe method",
      );
    }
    openSubscriptions = subscriptions === undefined ? null : handedIn(subscriptions);
  }
  const link = new RedisLink({
    ...options.link,
    open,
    ...(openSubscriptions === undefined ? {} : { openSubscriptions }),
  });
  return new RedisSink(link, { ...options, database });
}

/** Keeps the table of neighbours in Redis. Made by {@linkcode openRedisSink}. */
export class RedisSink implements Sink {
  /** How the table is kept. */
  readonly schema: SinkSchema;
  /** The connection; the cached configuration and the warm-restart tables use it too. */
  readonly link: RedisLink;
  readonly #neighbors: TableNames;
  readonly #routes: TableNames;
  readonly #isCluster: boolean;
  readonly #maxBatch: number;
  readonly #fence: LeaseFence | undefined;
  readonly #batches: RedisBatches;
  #acknowledged = 0;
  #operations = 0;
  #failures = 0;
  #connections = 0;
  #lastLoss = "";

  /** Takes a link that nobody has started yet, and starts it. */
  constructor(link: RedisLink, options: Omit<RedisSinkOptions, "clients" | "link">) {
    const { schema = "producer-state", database = 0, separator = ":", maxBatch = 1000 } = options;
    this.schema = schema;
    this.link = link;
    this.#neighbors = tableNames(NEIGH_TABLE, database, separator);
    this.#routes = tableNames(ROUTE_TABLE, database, separator);
    this.#isCluster = options.target?.cluster !== undefined;
    this.#maxBatch = maxBatch;
    this.#fence = options.fence;
    this.#batches = new RedisBatches(
      fencedScript(schema === "plain" ? PLAIN_SCRIPT : STAGE_SCRIPT, options.fence),
      (args) => link.send(args, "apply changes"),
    );
    link.prepare(() => this.#prepare());
    link.observe((event) => {
      if (event.state === "connected") this.#connections++;
      if (event.state === "lost") this.#lastLoss = event.code;
    });
    link.start();
  }

  /** Whether batches are taken now. */
  get connected(): boolean {
    return this.link.connected;
  }

  /**
   * Waits until batches are taken.
   *
   * @param options `attempts`: how many failed connections are enough; by default none is.
   * @throws {FastwireError} The last failure, with a `redis.…` code; or the signal's reason.
   */
  whenConnected(
    options?: { readonly signal?: AbortSignal; readonly attempts?: number },
  ): Promise<void> {
    return this.link.whenConnected(options);
  }

  /**
   * Applies the changes; see {@linkcode Sink.apply}.
   *
   * @throws {FastwireError} With a `redis.…` code. Every refusal to write ends the connection, which then counts as made
   * again only when the server takes writes.
   */
  async apply(batch: readonly SinkOperation[]): Promise<void> {
    if (!this.link.connected) throw this.#refused("redis.not-connected");
    if (batch.length === 0) return;
    try {
      if (this.#isCluster) await this.#applyEach(batch);
      else await Promise.all(this.#submit(batch));
    } catch (error) {
      this.#failures++;
      if (isRedisError(error)) this.link.drop(error);
      throw error;
    }
    this.#acknowledged++;
    this.#operations += batch.length;
  }

  /** Reads the whole table, in steps of 1,000 entries; see {@linkcode Sink.readAll}. */
  readAll(): Promise<SinkTable> {
    return readTable(this.link, this.schema, this.#neighbors, this.#isCluster);
  }

  /** Forgets every staged change; see {@linkcode Sink.clearPending}. */
  async clearPending(): Promise<void> {
    if (this.schema === "plain") return;
    const { keySet, delSet, staged } = this.#neighbors;
    await this.link.send(["DEL", keySet, delSet], "clear staged changes");
    await removeMatching(this.link, `${staged}*`);
  }

  /** Calls back at every change of the connection; see {@linkcode Sink.observe}. */
  observe(observer: (event: SinkEvent) => void): () => void {
    return this.link.observe(observer);
  }

  /** Counters and state now. */
  snapshot(): SinkSnapshot {
    return Object.freeze({
      connected: this.link.connected,
      lastLoss: this.#lastLoss,
      batches: this.#acknowledged,
      operations: this.#operations,
      failures: this.#failures,
      reconnects: Math.max(0, this.#connections - 1),
      scriptReloads: this.#batches.reloads,
      inFlight: this.#batches.inFlight,
    });
  }

  /** Rejects what is not acknowledged and closes the connections; idempotent. */
  close(): Promise<void> {
    return this.link.close();
  }

  /** The same as {@linkcode RedisSink.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #refused(code: "redis.not-connected"): Error {
    this.#failures++;
    return notConnected("apply changes", code, this.link.lastError);
  }

  async #prepare(): Promise<void> {
    // Writing nothing to a key that is not there changes nothing and is refused by everything that would refuse a batch:
    // a replica, a full memory, a failing disk, a missing password. So being connected means that changes are taken.
    const probe = `${NEIGH_TABLE}_WRITE_PROBE`;
    const written = this.link.send(["SETRANGE", probe, "0", ""], "write", probe).catch((error) => {
      if (!(isRedisError(error) && error.code === "redis.not-permitted")) throw error;
    });
    await Promise.all([written, this.#isCluster ? undefined : this.#batches.load()]);
  }

  #submit(batch: readonly SinkOperation[]): readonly Promise<void>[] {
    const parts: Promise<void>[] = [];
    for (let start = 0; start < batch.length; start += this.#maxBatch) {
      const end = Math.min(start + this.#maxBatch, batch.length);
      const { schema } = this;
      const args = scriptArguments(schema, this.#neighbors, this.#routes, batch, start, end);
      parts.push(this.#batches.submit(fencedArguments(args, this.#fence)));
    }
    return parts;
  }

  /** In a cluster every key lives somewhere: one command each, in order per key because a key has one node. */
  async #applyEach(batch: readonly SinkOperation[]): Promise<void> {
    const commands = [];
    for (const { op, key, mac, family, route } of batch) {
      if (route !== undefined) {
        const name = this.#routes.final + route;
        commands.push({ args: ["DEL", name], key: name });
      }
      const name = this.#neighbors.final + key;
      commands.push({
        args: op === "del" ? ["DEL", name] : ["HSET", name, "neigh", mac, "family", family],
        key: name,
      });
    }
    await this.link.sendAll(commands, "apply changes");
  }
}
