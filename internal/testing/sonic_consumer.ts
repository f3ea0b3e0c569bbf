/**
 * Takes staged changes out of Redis as the switch's orchestration agent does: woken by the channel, it pops up to 128 keys
 * in one atomic step until none is left, makes them final, and programs what it popped.
 *
 * @module
 */

import { RawRedis, type RedisReply } from "./redis_server.ts";

const POP = `local popped = {}
for _, key in ipairs(redis.call('SPOP', KEYS[1], ARGV[1])) do
  if redis.call('SREM', KEYS[2], key) == 1 then redis.call('DEL', ARGV[2] .. key) end
  local fields = redis.call('HGETALL', '_' .. ARGV[2] .. key)
  for i = 1, #fields, 2 do redis.call('HSET', ARGV[2] .. key, fields[i], fields[i + 1]) end
  redis.call('DEL', '_' .. ARGV[2] .. key)
  popped[#popped + 1] = {key, fields}
end
return popped`;

/** One popped change: the fields in their order, none for a deletion. */
export interface Popped {
  readonly key: string;
  readonly fields: readonly string[];
}

/** A consumer of one table. */
export class SonicConsumer implements AsyncDisposable {
  /** What was programmed: `neigh` and `family` as one string, `02:00:00:00:00:01 IPv4`, by key. */
  readonly programmed: Map<string, string> = new Map();
  /** Everything popped, in order. */
  readonly popped: Popped[] = [];
  /** Messages heard. */
  messages = 0;
  readonly #names: readonly [keySet: string, delSet: string, prefix: string];
  readonly #commands: RawRedis;
  readonly #channel: RawRedis;
  #working: Promise<void> | undefined;
  #again = false;
  #failure: unknown;

  private constructor(table: string, commands: RawRedis, channel: RawRedis) {
    this.#names = [`${table}_KEY_SET`, `${table}_DEL_SET`, `${table}:`];
    this.#commands = commands;
    this.#channel = channel;
    channel.onPush = () => {
      this.messages++;
      this.#wake();
    };
  }

  /** Subscribes to the table's channel and takes what is staged already. */
  static async start(socket: string, table = "NEIGH_TABLE"): Promise<SonicConsumer> {
    const commands = await RawRedis.connect(socket);
    const channel = await RawRedis.connect(socket);
    const consumer = new SonicConsumer(table, commands, channel);
    await channel.call("SUBSCRIBE", `${table}_CHANNEL@0`);
    consumer.#wake();
    return consumer;
  }

  /** Waits until nothing is staged; whoever stages must have been acknowledged. */
  async idle(): Promise<void> {
    this.#wake();
    while (this.#working !== undefined) await this.#working;
    if (this.#failure !== undefined) throw this.#failure;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#working;
    await this.#commands[Symbol.asyncDispose]();
    await this.#channel[Symbol.asyncDispose]();
  }

  #wake(): void {
    this.#again = true;
    this.#working ??= this.#work().catch((error) => {
      this.#failure = error;
    }).finally(() => this.#working = undefined);
  }

  async #work(): Promise<void> {
    const [keySet, delSet, prefix] = this.#names;
    while (this.#again) {
      this.#again = false;
      const reply = await this.#commands.call("EVAL", POP, 2, keySet, delSet, 128, prefix);
      for (const [key, fields] of reply as readonly (readonly [string, readonly RedisReply[]])[]) {
        this.#again = true;
        const values = fields.map(String);
        this.popped.push({ key, fields: values });
        if (values.length === 0) this.programmed.delete(key);
        else this.programmed.set(key, `${values[1]} ${values[3]}`);
      }
    }
  }
}
