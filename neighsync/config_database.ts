/**
 * Reading the switch's configuration database and following its changes.
 *
 * @module
 */

import { isRedisError } from "../internal/redis_errors.ts";
import type { RedisLink } from "../internal/redis_link.ts";
import { findKeys } from "./redis_reading.ts";

/** What is asked of a configuration database; tests have one of their own. */
export interface ConfigDatabase {
  /** One field of entries of tables, undefined where it is missing, in the order of `entries`. */
  fields(
    entries: readonly (readonly [table: string, name: string])[],
    field: string,
  ): Promise<readonly (string | undefined)[]>;
  /** Whether each of the tables has any entry. */
  present(tables: readonly string[]): Promise<readonly boolean[]>;
  /**
   * Follows changes of tables if the server tells about them.
   *
   * @param listener Called with the table and the entry's name; may come twice.
   * @returns Whether changes are told.
   */
  follow(
    tables: readonly string[],
    listener: (table: string, name: string) => void,
  ): Promise<boolean>;
}

/** Where the configuration is; SONiC's numbers by default. */
export interface ConfigDatabaseOptions {
  /** Number of CONFIG_DB, 4 by default. */
  readonly database?: number;
  /** Between table and name, `|` by default. */
  readonly separator?: string;
}

/** CONFIG_DB in Redis, over a link whose own database it leaves alone. */
export class RedisConfigDatabase implements ConfigDatabase {
  readonly #link: RedisLink;
  readonly #database: number;
  readonly #separator: string;
  readonly #followed = new Set<string>();

  /** Asks nothing yet. */
  constructor(link: RedisLink, options: ConfigDatabaseOptions = {}) {
    this.#link = link;
    this.#database = options.database ?? 4;
    this.#separator = options.separator ?? "|";
  }

  /** One field of many entries, in one round trip per 1,000. */
  async fields(
    entries: readonly (readonly [table: string, name: string])[],
    field: string,
  ): Promise<readonly (string | undefined)[]> {
    const values: (string | undefined)[] = [];
    for (let start = 0; start < entries.length; start += 1000) {
      const commands = entries.slice(start, start + 1000)
        .map(([table, name]) => ["HGET", table + this.#separator + name, field]);
      const replies = await this.#link.inDatabase(this.#database, commands, "read configuration");
      for (const reply of replies) {
        values.push(reply === null || reply === undefined ? undefined : String(reply));
      }
    }
    return values;
  }

  /** Walks through the names of all keys in steps; meant for starts and rare changes. */
  async present(tables: readonly string[]): Promise<readonly boolean[]> {
    return await Promise.all(tables.map(async (table) => {
      const pattern = `${table}${this.#separator}*`;
      return (await findKeys(this.#link, this.#database, pattern, 1)).length > 0;
    }));
  }

  /** Follows keyspace notifications; false when the server sends none of hashes and deletions. */
  async follow(
    tables: readonly string[],
    listener: (table: string, name: string) => void,
  ): Promise<boolean> {
    if (!this.#link.canFollow || !await this.#notifies()) return false;
    const before = `__keyspace@${this.#database}__:`;
    try {
      await Promise.all(tables.map(async (table) => {
        const prefix = before + table + this.#separator;
        if (this.#followed.has(prefix)) return;
        await this.#link.follow(
          `${prefix}*`,
          (channel) => listener(table, channel.slice(prefix.length)),
        );
        this.#followed.add(prefix);
      }));
      return true;
    } catch (error) {
      if (isRedisError(error) && error.code === "redis.not-permitted") return false;
      throw error;
    }
  }

  /** Flags of `notify-keyspace-events`: K for this kind of channel, h for hashes, g for DEL and EXPIRE, A for all. */
  async #notifies(): Promise<boolean> {
    try {
      const reply = await this.#link.send(
        ["CONFIG", "GET", "notify-keyspace-events"],
        "read configuration",
      );
      // A list of name and value; clients that speak RESP 3 make an object of it.
      const flags = Array.isArray(reply)
        ? String(reply[1] ?? "")
        : String((reply as Record<string, unknown> | null)?.["notify-keyspace-events"] ?? "");
      return flags.includes("K") && (flags.includes("A") || /h/.test(flags) && /g/.test(flags));
    } catch (error) {
      // Managed servers have no CONFIG, and users may be denied it.
      const code = isRedisError(error) ? error.code : "";
      if (code === "redis.refused" || code === "redis.not-permitted") return false;
      throw error;
    }
  }
}
