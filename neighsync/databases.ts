/**
 * From settings to connections: the sink in the application database, the policy of the configuration database, the
 * warm-restart tables of the state database, wherever they are.
 *
 * @module
 */

import { readFile, stat } from "node:fs/promises";
import { type RedisAddress, redisOpener, type RedisTarget } from "../internal/redis.ts";
import { RedisLink } from "../internal/redis_link.ts";
import { type ConfigDatabase, RedisConfigDatabase } from "./config_database.ts";
import { type DatabasePlace, DEFAULT_DATABASES, loadDatabaseConfig } from "./database_config.ts";
import type { LeaseStore } from "./lease.ts";
import { leaseFence, RedisLeaseStore } from "./lease_store.ts";
import type { ResolvedNeighSyncSettings, ResolvedRedisSettings } from "./settings.ts";
import { openRedisSink, type RedisSink } from "./sink_redis.ts";
import { WarmRestartStore } from "./warm_restart_store.ts";

/** Everything the daemon has in Redis. */
export interface Databases {
  /** The published table. */
  readonly sink: RedisSink;
  /** The switch's configuration. */
  readonly config: ConfigDatabase;
  /** The warm-restart tables; none in a cluster, which has one database only. */
  readonly warm: WarmRestartStore | undefined;
  /** Who may write, where that is contended for. */
  readonly lease: LeaseStore | undefined;
  /** What `--redis-diff` and the log call it. */
  readonly name: string;
  /** Closes every connection. */
  close(): Promise<void>;
}

/**
 * Begins to connect; nothing is waited for but the files that say where to.
 *
 * @throws {SyntaxError} For a URL or a file of databases that cannot be read.
 */
export async function openDatabases(
  settings: Pick<ResolvedNeighSyncSettings, "redis" | "deployment">,
): Promise<Databases> {
  const { redis, deployment } = settings;
  const places = redis.url === undefined
    ? await loadDatabaseConfig({
      ...(redis.databaseConfig === undefined ? {} : { path: redis.databaseConfig }),
      namespace: redis.namespace,
    })
    : DEFAULT_DATABASES;
  const base = await targetOf(redis, places.application);
  const at = async (place: DatabasePlace): Promise<RedisTarget> =>
    redis.url === undefined && base.sentinels === undefined && base.cluster === undefined
      ? { ...base, address: await reachable(place.address) }
      : base;
  const { database, separator } = places.application;
  const target = await at(places.application);
  const { leaseKey, leaseId } = deployment;
  const fence = leaseKey === undefined ? undefined : leaseFence(leaseKey, leaseId);
  const sink = openRedisSink({
    target: { ...target, database: base.database ?? database },
    schema: redis.schema,
    database: base.database ?? database,
    separator,
    ...(fence === undefined ? {} : { fence }),
    link: { timeoutMs: redis.timeoutMs },
  });
  const links = new Map([[places.application.instance, sink.link]]);
  const linkOf = async (place: DatabasePlace): Promise<RedisLink> => {
    const known = links.get(place.instance);
    if (known !== undefined) return known;
    const open = redisOpener({ ...await at(place), database: 0 });
    const link = new RedisLink({ open, timeoutMs: redis.timeoutMs });
    link.start();
    links.set(place.instance, link);
    return link;
  };
  const { config, state } = places;
  const configLink = await linkOf(config);
  const isCluster = base.cluster !== undefined;
  return {
    sink,
    config: new RedisConfigDatabase(configLink, config),
    warm: isCluster ? undefined : new WarmRestartStore(await linkOf(state), {
      stateDatabase: state.database,
      configDatabase: config.database,
      separator: state.separator,
      application: deployment.application,
      docker: deployment.docker,
      configLink,
    }),
    lease: fence === undefined ? undefined : new RedisLeaseStore(sink.link, fence),
    name: nameOf(target),
    close: async () => {
      await sink.close();
      await Promise.all([...links.values()].map((link) => link.close()));
    },
  };
}

/** Where Redis is and how to get in, without the number of a database unless the URL has one. */
async function targetOf(
  settings: ResolvedRedisSettings,
  place: DatabasePlace,
): Promise<RedisTarget> {
  const url = settings.url === undefined ? undefined : parseRedisUrl(settings.url);
  const password = settings.passwordFile === undefined
    ? settings.password ?? url?.password
    : firstLine(await readFile(settings.passwordFile, "utf8"));
  const username = settings.username ?? url?.username;
  const { tlsCaFile, tlsCertFile, tlsKeyFile, tlsServerName } = settings;
  const wantsTls = url?.tls === true || tlsCaFile !== undefined || tlsCertFile !== undefined;
  const tls = {
    ...(tlsCaFile === undefined ? {} : { caFile: tlsCaFile }),
    ...(tlsCertFile === undefined ? {} : { certFile: tlsCertFile }),
    ...(tlsKeyFile === undefined ? {} : { keyFile: tlsKeyFile }),
    ...(tlsServerName === undefined ? {} : { serverName: tlsServerName }),
  };
  const sentinels = settings.sentinels.map(({ host, port }) => ({ host, port: port ?? 26379 }));
  const cluster = settings.cluster.map(({ host, port }) => ({ host, port: port ?? 6379 }));
  return {
    address: url?.address ?? place.address,
    clientName: "neighsyncd",
    ...(url?.database === undefined ? {} : { database: url.database }),
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(wantsTls ? { tls } : {}),
    ...(sentinels.length === 0
      ? {}
      : { sentinels: { addresses: sentinels, masterName: settings.sentinelMaster } }),
    ...(cluster.length === 0 ? {} : { cluster }),
  };
}

/** What a Redis URL says. */
export interface RedisUrl {
  /** The server. */
  readonly address: RedisAddress;
  /** Number of the database of the published table, when the URL has one. */
  readonly database?: number;
  /** ACL user. */
  readonly username?: string;
  /** Password. */
  readonly password?: string;
  /** The connection is encrypted. */
  readonly tls: boolean;
}

/**
 * Reads `unix:PATH`, a path, `redis://[USER[:PASSWORD]@]HOST[:PORT][/DATABASE]`, `rediss://…`, `HOST:PORT`.
 *
 * @throws {SyntaxError} For anything else; a password is not repeated.
 */
export function parseRedisUrl(text: string): RedisUrl {
  const unix = /^(?:unix:(?:\/\/)?)?(\/.+)$/.exec(text);
  if (unix !== null) return { address: { path: unix[1]! }, tls: false };
  const words = /^[a-z]+:\/\//i.test(text) ? text : `redis://${text}`;
  let url: URL | undefined;
  try {
    url = new URL(words);
  } catch {
    // Said below, without what may be a password.
  }
  const database = /^\/?(\d*)$/.exec(url?.pathname ?? "x")?.[1];
  const known = url?.protocol === "redis:" || url?.protocol === "rediss:";
  if (url === undefined || !known || url.hostname === "" || database === undefined) {
    throw new SyntaxError(
      "Cannot read the Redis URL: expected unix:PATH, redis://HOST:PORT or rediss://HOST:PORT",
    );
  }
  return {
    // A host in brackets is an IPv6 address.
    address: {
      host: url.hostname.replace(/^\[|\]$/g, ""),
      port: url.port === "" ? 6379 : Number(url.port),
    },
    tls: url.protocol === "rediss:",
    ...(database === "" ? {} : { database: Number(database) }),
    ...(url.username === "" ? {} : { username: decodeURIComponent(url.username) }),
    ...(url.password === "" ? {} : { password: decodeURIComponent(url.password) }),
  };
}

/** The first line of a file that holds one word. */
export function firstLine(text: string): string {
  return text.split(/\r?\n/, 1)[0]!;
}

/** A unix socket that is not there is given up for the usual TCP port: not every switch has both. */
async function reachable(address: RedisAddress): Promise<RedisAddress> {
  if (!("path" in address)) return address;
  try {
    await stat(address.path);
    return address;
  } catch (error) {
    // Not being allowed to look is no reason to look elsewhere.
    const isMissing = error instanceof Error && "code" in error && error.code === "ENOENT";
    return isMissing ? { host: "127.0.0.1", port: 6379 } : address;
  }
}

function nameOf({ address, sentinels, cluster }: RedisTarget): string {
  if (sentinels !== undefined) return `the master "${sentinels.masterName}"`;
  if (cluster !== undefined) return "the cluster";
  return "path" in address ? `unix:${address.path}` : `${address.host}:${address.port}`;
}
