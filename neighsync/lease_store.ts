/**
 * A lease in Redis: a key with a token nobody else has, taken, renewed and given back in single steps.
 *
 * @module
 */

import { hostname } from "node:os";
import { pid } from "node:process";
import { secureRandom } from "../internal/random.ts";
import { isRedisError } from "../internal/redis_errors.ts";
import type { RedisLink } from "../internal/redis_link.ts";
import type { LeaseAnswer, LeaseStore } from "./lease.ts";

/** What lets a batch be written only while the lease is held. */
export interface LeaseFence {
  /** The key. */
  readonly key: string;
  /** What it holds while it is ours: what we are called, a space, and what nobody can guess. */
  readonly token: string;
}

/** Answers with whether it is ours, what is in the key, and how long that will be so. */
const CLAIM_SCRIPT = `local holder = redis.pcall('GET', KEYS[1])
if holder == ARGV[1] then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
  return {1, holder, tonumber(ARGV[2])}
end
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return {1, ARGV[1], tonumber(ARGV[2])} end
return {0, type(holder) == 'string' and holder or '', redis.call('PTTL', KEYS[1])}`;

/** Deletes the key if it is ours, and tells those who wait, if we may. */
const RELEASE_SCRIPT = `if redis.pcall('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.pcall('PUBLISH', ARGV[2], '')
return 1`;

/** Before a script that writes: its last key and its last argument are the lease's. */
const FENCE = `if redis.pcall('GET', table.remove(KEYS)) ~= table.remove(ARGV) then
  return redis.error_reply('NOLEASE the lease is not held any more')
end
`;

/**
 * What holds the lease for one process.
 *
 * @param id What it is called; the host and the process when left out.
 */
export function leaseFence(key: string, id: string | undefined): LeaseFence {
  const unique = secureRandom.u32().toString(16) + secureRandom.u32().toString(16);
  return { key, token: `${id ?? defaultId()} ${unique}` };
}

/** A script that does nothing unless the lease is held. */
export function fencedScript(script: string, fence: LeaseFence | undefined): string {
  return fence === undefined ? script : FENCE + script;
}

/** Number of keys, keys and arguments for {@linkcode fencedScript}. */
export function fencedArguments(args: string[], fence: LeaseFence | undefined): string[] {
  if (fence === undefined) return args;
  const keys = Number(args[0]);
  args[0] = String(keys + 1);
  args.splice(1 + keys, 0, fence.key);
  args.push(fence.token);
  return args;
}

/** A lease in the database of the published table. */
export class RedisLeaseStore implements LeaseStore {
  readonly #link: RedisLink;
  readonly #fence: LeaseFence;

  /** Asks nothing yet. */
  constructor(link: RedisLink, fence: LeaseFence) {
    this.#link = link;
    this.#fence = fence;
  }

  /** @throws {FastwireError} With a `redis.…` code, like every other member. */
  async claim(ttlMs: number): Promise<LeaseAnswer> {
    const [granted, holder, remainingMs] = await this.#run(CLAIM_SCRIPT, String(ttlMs));
    return {
      granted: Number(granted) === 1,
      // Without what nobody else is to know.
      holder: String(holder).replace(/ [0-9a-f]+$/, ""),
      remainingMs: Number(remainingMs),
    };
  }

  /** Nothing is told when it was not ours. */
  async release(): Promise<void> {
    await this.#run(RELEASE_SCRIPT, this.#channel);
  }

  /** Where the server does not let us follow, nobody is called back. */
  async followReleases(listener: () => void): Promise<void> {
    if (!this.#link.canFollow) return;
    try {
      await this.#link.follow(this.#channel.replace(/[*?[\]\\]/g, "\\$&"), listener);
    } catch (error) {
      if (!(isRedisError(error) && error.code === "redis.not-permitted")) throw error;
    }
  }

  get #channel(): string {
    return `${this.#fence.key}@released`;
  }

  async #run(script: string, last: string): Promise<readonly unknown[]> {
    const { key, token } = this.#fence;
    const reply = await this.#link.send(
      ["EVAL", script, "1", key, token, last],
      "use the lease",
      key,
    );
    return Array.isArray(reply) ? reply : [reply];
  }
}

function defaultId(): string {
  try {
    return `${hostname()}:${pid}`;
  } catch {
    // Without the permission to know it.
    return String(pid);
  }
}
