/**
 * SONiC's `database_config.json`: which database is on which server under which number.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { RedisAddress } from "../internal/redis.ts";

/** Where one database is. */
export interface DatabasePlace {
  /** Number for SELECT. */
  readonly database: number;
  /** Between table and key. */
  readonly separator: string;
  /** Name of the server; databases with the same one can share a connection. */
  readonly instance: string;
  /** Its unix socket, or its TCP address when it has none. */
  readonly address: RedisAddress;
}

/** The databases a neighbor synchroniser uses. */
export interface DatabaseMap {
  /** APPL_DB: the published tables. */
  readonly application: DatabasePlace;
  /** CONFIG_DB: the switch's configuration. */
  readonly config: DatabasePlace;
  /** STATE_DB: the warm-restart tables. */
  readonly state: DatabasePlace;
}

/** Where a switch keeps the file. */
export const DATABASE_CONFIG_PATH = "/var/run/redis/sonic-db/database_config.json";
/** Where a switch with several namespaces lists their files. */
export const DATABASE_GLOBAL_PATH = "/var/run/redis/sonic-db/database_global.json";

const DEFAULT_INSTANCE = {
  hostname: "127.0.0.1",
  port: 6379,
  unix_socket_path: "/var/run/redis/redis.sock",
};

/** What holds where there is no such file: one server on its usual socket, the usual numbers. */
export const DEFAULT_DATABASES: DatabaseMap = parseDatabaseConfig("{}", "the defaults");

/**
 * Reads the content of a `database_config.json`. What it does not mention keeps its default.
 *
 * @param name What the text is called in error messages: its path.
 * @throws {SyntaxError} When it is not JSON, or a value is of the wrong kind.
 */
export function parseDatabaseConfig(text: string, name: string): DatabaseMap {
  const root = parseObject(text, name);
  const instances = objectAt(root, "INSTANCES", name) ?? {};
  const databases = objectAt(root, "DATABASES", name) ?? {};
  const place = (key: string, database: number, separator: string): DatabasePlace => {
    const given = objectAt(databases, key, name) ?? {};
    const instance = textAt(given, "instance", name) ?? "redis";
    const server = objectAt(instances, instance, name);
    if (server === undefined && instance !== "redis") {
      throw new SyntaxError(
        `Cannot read ${name}: ${key} is on "${instance}", expected one of its INSTANCES`,
      );
    }
    const path = textAt(server ?? DEFAULT_INSTANCE, "unix_socket_path", name) ?? "";
    const host = textAt(server ?? {}, "hostname", name) ?? DEFAULT_INSTANCE.hostname;
    const port = numberAt(server ?? {}, "port", name) ?? DEFAULT_INSTANCE.port;
    return Object.freeze({
      database: numberAt(given, "id", name) ?? database,
      separator: textAt(given, "separator", name) ?? separator,
      instance,
      address: path === "" ? { host, port } : { path },
    });
  };
  return Object.freeze({
    application: place("APPL_DB", 0, ":"),
    config: place("CONFIG_DB", 4, "|"),
    state: place("STATE_DB", 6, "|"),
  });
}

/**
 * Finds the file of a namespace in the content of a `database_global.json`.
 *
 * @param namespace `asic0`; empty for the host's own.
 * @param path Where the content comes from; relative names count from its folder.
 * @throws {SyntaxError} When it is not JSON, or a value is of the wrong kind.
 * @throws {RangeError} When it does not list the namespace.
 */
export function databaseConfigOf(text: string, namespace: string, path: string): string {
  const includes = parseObject(text, path)["INCLUDES"];
  const known: string[] = [];
  for (const entry of Array.isArray(includes) ? includes : []) {
    if (!isObject(entry)) continue;
    const file = textAt(entry, "include", path);
    const name = textAt(entry, "namespace", path) ?? "";
    if (file === undefined) continue;
    if (name === namespace) return resolve(dirname(path), file);
    known.push(name);
  }
  throw new RangeError(
    `Cannot use the namespace "${namespace}": ${path} lists ${
      known.map((name) => `"${name}"`).join(", ") || "none"
    }`,
  );
}

/**
 * Reads the databases of this switch, or of one of its namespaces.
 *
 * @param options `path`: the file, the switch's own by default; when it is missing there, the defaults hold.
 * @throws {SyntaxError} When a file is malformed.
 * @throws {RangeError} When the namespace is not known.
 */
export async function loadDatabaseConfig(
  options: {
    readonly path?: string;
    readonly namespace?: string;
    readonly globalPath?: string;
  } = {},
): Promise<DatabaseMap> {
  const { namespace, globalPath = DATABASE_GLOBAL_PATH } = options;
  let path = options.path ?? DATABASE_CONFIG_PATH;
  if (namespace !== undefined && namespace !== "") {
    path = databaseConfigOf(await readFile(globalPath, "utf8"), namespace, globalPath);
  }
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    if (isMissing && path === DATABASE_CONFIG_PATH) return DEFAULT_DATABASES;
    throw error;
  }
  return parseDatabaseConfig(text, path);
}

type JsonObject = Readonly<Record<string, unknown>>;

function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function parseObject(text: string, name: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const why = error instanceof Error ? error.message : String(error);
    throw new SyntaxError(`Cannot read ${name}: ${why}`, { cause: error });
  }
  if (isObject(value)) return value;
  throw new SyntaxError(`Cannot read ${name}: it holds no object`);
}

function objectAt(from: JsonObject, key: string, name: string): JsonObject | undefined {
  const value = from[key];
  if (value === undefined || isObject(value)) return value;
  throw new SyntaxError(`Cannot read ${name}: ${key} is no object`);
}

function textAt(from: JsonObject, key: string, name: string): string | undefined {
  const value = from[key];
  if (value === undefined || typeof value === "string") return value;
  throw new SyntaxError(`Cannot read ${name}: ${key} is no text`);
}

function numberAt(from: JsonObject, key: string, name: string): number | undefined {
  const value = from[key];
  // Some generators of the file quote the port.
  const number = typeof value === "string" && /^\d+$/.test(value) ? Number(value) : value;
  if (number === undefined || Number.isInteger(number)) return number as number | undefined;
  throw new SyntaxError(`Cannot read ${name}: ${key} is no whole number`);
}
