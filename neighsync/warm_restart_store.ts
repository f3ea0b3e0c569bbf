/**
 * The tables of a warm restart: what `protocol/warm_restart.ts` asks to read and write, in STATE_DB and CONFIG_DB.
 *
 * @module
 */

import type { RedisLink } from "../internal/redis_link.ts";
import { isRedisError } from "../internal/redis_errors.ts";
import { findKeys } from "./redis_reading.ts";
import type { WarmFlags, WarmRestartState } from "./protocol/warm_restart.ts";

/** Where the tables are, and who asks; SONiC's names and numbers by default. */
export interface WarmRestartStoreOptions {
  /** Number of STATE_DB, 6 by default. */
  readonly stateDatabase?: number;
  /** Number of CONFIG_DB, 4 by default. */
  readonly configDatabase?: number;
  /** Between table and key, `|` by default. */
  readonly separator?: string;
  /** The name this daemon goes by, `neighsyncd` by default. */
  readonly application?: string;
  /** The container it belongs to, `swss` by default. */
  readonly docker?: string;
  /** The link to CONFIG_DB, where that is on another server. */
  readonly configLink?: RedisLink;
}

/** What is being restarted warm. */
export interface WarmScope {
  /** The whole switch. */
  readonly system: boolean;
  /** This container. */
  readonly docker: boolean;
}

/** Reads and writes the tables of a warm restart. */
export class WarmRestartStore {
  readonly #link: RedisLink;
  readonly #configLink: RedisLink;
  readonly #state: number;
  readonly #config: number;
  readonly #names: Readonly<Record<"system" | "docker" | "own" | "flags" | "timer", string>>;
  readonly #timerField: string;
  readonly #separator: string;

  /** Asks nothing yet. */
  constructor(link: RedisLink, options: WarmRestartStoreOptions = {}) {
    const { separator = "|", application = "neighsyncd", docker = "swss" } = options;
    this.#link = link;
    this.#configLink = options.configLink ?? link;
    this.#state = options.stateDatabase ?? 6;
    this.#config = options.configDatabase ?? 4;
    this.#names = {
      system: `WARM_RESTART_ENABLE_TABLE${separator}system`,
      docker: `WARM_RESTART_ENABLE_TABLE${separator}${docker}`,
      own: `WARM_RESTART_TABLE${separator}${application}`,
      flags: `NEIGH_RESTORE_TABLE${separator}Flags`,
      timer: `WARM_RESTART${separator}${docker}`,
    };
    this.#separator = separator;
    this.#timerField = `${application}_timer`;
  }

  /**
   * Whether the switch, or only the container, is restarted warm.
   *
   * @throws {FastwireError} With a `redis.…` code, like every other member.
   */
  async readScope(): Promise<WarmScope> {
    const [system, docker] = await this.#ask([
      ["HGET", this.#names.system, "enable"],
      ["HGET", this.#names.docker, "enable"],
    ]);
    return { system: system === "true", docker: docker === "true" };
  }

  /** Everything the machine wants to know at the start. */
  async readFlags(): Promise<WarmFlags> {
    const [[system, docker, count], [timer]] = await Promise.all([
      this.#ask([
        ["HGET", this.#names.system, "enable"],
        ["HGET", this.#names.docker, "enable"],
        ["HGET", this.#names.own, "restore_count"],
      ]),
      this.#configLink.inDatabase(
        this.#config,
        [["HGET", this.#names.timer, this.#timerField]],
        "read the warm-restart timer",
      ),
    ]);
    return {
      enabled: system === "true" || docker === "true",
      restoreCount: count !== null && /^\d{1,15}$/.test(String(count)) ? Number(count) : undefined,
      timerSec: timer === null || timer === undefined ? undefined : String(timer),
    };
  }

  /** Writes `restore_count`. */
  async setRestoreCount(count: number): Promise<void> {
    await this.#ask([["HSET", this.#names.own, "restore_count", String(count)]]);
  }

  /** Writes `state`. */
  async setState(state: WarmRestartState): Promise<void> {
    await this.#ask([["HSET", this.#names.own, "state", state]]);
  }

  /** What was last written to `state`; undefined when nothing was. */
  async readState(): Promise<string | undefined> {
    const [state] = await this.#ask([["HGET", this.#names.own, "state"]]);
    return state === null || state === undefined ? undefined : String(state);
  }

  /** Whether the kernel's table has been refilled. */
  async readRestored(): Promise<boolean> {
    const [restored] = await this.#ask([["HGET", this.#names.flags, "restored"]]);
    return restored === "true";
  }

  /** VLANs and port channels that have members, as STATE_DB knows them; of those asked for only. */
  async readMembers(names: readonly string[]): Promise<ReadonlySet<string>> {
    const wanted = new Set(names);
    const found = new Set<string>();
    for (const table of ["VLAN_MEMBER_TABLE", "LAG_MEMBER_TABLE"]) {
      const prefix = table + this.#separator;
      for (const key of await findKeys(this.#link, this.#state, `${prefix}*`)) {
        const name = key.slice(prefix.length).split(this.#separator, 1)[0]!;
        if (wanted.has(name)) found.add(name);
      }
    }
    return found;
  }

  /** Tells that the kernel's table has been refilled; the last step of `restore`. */
  async markRestored(): Promise<void> {
    await this.#ask([["HSET", this.#names.flags, "restored", "true"]]);
  }

  /**
   * Calls back when the flag behind {@linkcode WarmRestartStore.readRestored} was written, where the server tells so; to be
   * used beside reading it each second, not instead.
   *
   * @returns Whether there is any hope of being told.
   */
  async followRestored(listener: () => void): Promise<boolean> {
    if (!this.#link.canFollow) return false;
    try {
      await this.#link.follow(`__keyspace@${this.#state}__:${this.#names.flags}`, listener);
      return true;
    } catch (error) {
      if (isRedisError(error) && error.code === "redis.not-permitted") return false;
      throw error;
    }
  }

  #ask(commands: readonly (readonly string[])[]): Promise<unknown[]> {
    return this.#link.inDatabase(this.#state, commands, "use the warm-restart tables");
  }
}
