/**
 * Connections to Redis through npm:redis, which is loaded by the first one: over TCP, TLS or a unix socket, to a server,
 * to the master that sentinels name, or to a cluster. Nothing here reconnects; `redis_link.ts` does.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { notConnected, redisError, timedOut } from "./redis_errors.ts";

/** Where a server listens. */
export type RedisAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number };

/** TLS for a connection. Files are read at every connection, so renewed ones are taken up. */
export interface RedisTls {
  /** Certificates to trust, PEM; the system's by default. */
  readonly caFile?: string;
  /** Our certificate, PEM. */
  readonly certFile?: string;
  /** Its key, PEM. */
  readonly keyFile?: string;
  /** The name the server's certificate must carry; the host by default. */
  readonly serverName?: string;
}

/** How to reach Redis. */
export interface RedisTarget {
  /** The server; with `sentinels` or `cluster`, one of those is asked instead. */
  readonly address: RedisAddress;
  /** Database number, 0 by default; not used with a cluster, which has only 0. */
  readonly database?: number;
  /** ACL user. */
  readonly username?: string;
  /** Password; never logged, never part of a message. */
  readonly password?: string;
  /** TLS; off unless given. */
  readonly tls?: RedisTls;
  /** Name the server shows for the connection. */
  readonly clientName?: string;
  /** Sentinels, and the name they know the master by. `address` is not used then. */
  readonly sentinels?: {
    readonly addresses: readonly RedisAddress[];
    readonly masterName: string;
    readonly username?: string;
    readonly password?: string;
  };
  /** Nodes of a cluster to ask for the others. `address` is not used then. */
  readonly cluster?: readonly RedisAddress[];
  /** Milliseconds a connection may take; 5,000 by default. */
  readonly connectTimeoutMs?: number;
}

/**
 * What is asked of a client, so that an application may hand in its own. A client of npm:redis is one as it is.
 */
export interface RedisClient {
  /** Sends one command and answers with the reply; rejects with an `Error` whose message is the server's refusal. */
  sendCommand(args: string[]): Promise<unknown>;
  /** Subscribes to a pattern; needed for invalidation by keyspace notifications only. */
  pSubscribe?(
    pattern: string,
    listener: (message: string, channel: string) => void,
  ): Promise<unknown>;
  /** Gives a subscription back. */
  pUnsubscribe?(
    pattern: string,
    listener: (message: string, channel: string) => void,
  ): Promise<unknown>;
  /** Tells about `error` and `end`; without it a loss is noticed by the next command. */
  on?(event: "error" | "end", listener: (error?: unknown) => void): unknown;
  /** Stops telling. */
  off?(event: "error" | "end", listener: (error?: unknown) => void): unknown;
}

/** An open connection. */
export interface RedisWire {
  /**
   * Sends a command. Commands are executed in the order of the calls.
   *
   * @param key Decides the node in a cluster.
   */
  send(args: string[], key?: string): Promise<unknown>;
  /** Every master of a cluster; itself otherwise. */
  nodes(): Promise<readonly Pick<RedisWire, "send">[]>;
  /** Subscribes to a pattern. */
  subscribe(pattern: string, listener: (channel: string) => void): Promise<void>;
  /** Lets go at once; pending commands are rejected. Idempotent. */
  close(): void;
}

/** Opens a connection; `onLost` is called at most once, when it ends by itself. Gives up at once when aborted. */
export type OpenRedis = (
  onLost: (cause: unknown) => void,
  signal: AbortSignal,
) => Promise<RedisWire>;

/** Opens connections to `target`, each time anew. */
export function redisOpener(target: RedisTarget): OpenRedis {
  if (target.cluster !== undefined) return (onLost, signal) => openCluster(target, onLost, signal);
  if (target.sentinels !== undefined) {
    return (onLost, signal) => openThroughSentinel(target, onLost, signal);
  }
  return (onLost, signal) => openServer(target, target.address, onLost, signal);
}

/**
 * Uses a client that is connected already and stays the application's: it is never closed here.
 *
 * @param client Connected, and on the database of the table.
 */
export function handedIn(client: RedisClient): OpenRedis {
  return async (onLost, signal) => {
    await pinged(client, signal).catch((error) => {
      throw redisError(error, "use the given client", "connect");
    });
    let closed = false;
    const subscriptions: (() => void)[] = [];
    const lost = (error?: unknown): void => {
      if (closed) return;
      wire.close();
      onLost(error ?? notConnected("go on", "redis.connection-lost"));
    };
    const wire: RedisWire = {
      send: (args) => client.sendCommand(args),
      nodes: () => Promise.resolve([wire]),
      subscribe: async (pattern, listener) => {
        const forward = (_message: string, channel: string): void => listener(channel);
        await client.pSubscribe?.(pattern, forward);
        subscriptions.push(() => void client.pUnsubscribe?.(pattern, forward).catch(() => {}));
      },
      close: () => {
        if (closed) return;
        closed = true;
        for (const end of subscriptions) end();
        client.off?.("error", lost);
        client.off?.("end", lost);
      },
    };
    client.on?.("error", lost);
    client.on?.("end", lost);
    return wire;
  };
}

/** Waits for an answer, at most 5 s: a client with a queue of its own may keep the command until it is connected again. */
function pinged(client: RedisClient, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const what = "use the given client";
    const aborted = (): void => done(notConnected(what, "redis.closed"));
    const timer = setTimeout(() => done(timedOut(what, 5000)), 5000);
    const done = (error?: unknown): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", aborted);
      if (error === undefined) resolve();
      else reject(error);
    };
    signal.addEventListener("abort", aborted);
    client.sendCommand(["PING"]).then(() => done(), done);
  });
}

function nameOf(address: RedisAddress): string {
  return "path" in address ? address.path : `${address.host}:${address.port}`;
}

/**
 * Options for a socket of npm:redis. The signal makes the runtime listen to the socket's errors from its first moment to its
 * last. The client itself (6.3) listens to one, and not yet when a server refuses our certificate in the same moment in
 * which the handshake is complete for us, as TLS 1.3 has it; unheard, that error would end the process.
 */
async function socketOptions(target: RedisTarget, address: RedisAddress, signal: AbortSignal) {
  const common = {
    signal,
    connectTimeout: target.connectTimeoutMs ?? 5000,
    reconnectStrategy: false as const,
  };
  if ("path" in address) return { ...common, path: address.path, tls: false as const };
  const plain = { ...common, host: address.host, port: address.port, noDelay: true };
  const alive = { ...plain, keepAlive: true, keepAliveInitialDelay: 10_000 };
  const { tls } = target;
  if (tls === undefined) return { ...alive, tls: false as const };
  const read = async (file: string | undefined): Promise<string | undefined> =>
    file === undefined ? undefined : await readFile(file, "utf8");
  const [ca, cert, key] = await Promise.all([tls.caFile, tls.certFile, tls.keyFile].map(read));
  return {
    ...alive,
    tls: true as const,
    ...(ca === undefined ? {} : { ca }),
    ...(cert === undefined ? {} : { cert }),
    ...(key === undefined ? {} : { key }),
    servername: tls.serverName ?? (/^[\d.]+$|:/.test(address.host) ? "" : address.host),
  };
}

/** Options shared by every client. RESP 2 because servers before 6 speak nothing else, and one reply shape is enough. */
function clientOptions(target: RedisTarget) {
  return {
    RESP: 2 as const,
    disableClientInfo: true,
    disableOfflineQueue: true,
    ...(target.username === undefined ? {} : { username: target.username }),
    ...(target.password === undefined ? {} : { password: target.password }),
    ...(target.clientName === undefined ? {} : { name: target.clientName }),
  };
}

async function openServer(
  target: RedisTarget,
  address: RedisAddress,
  onLost: (cause: unknown) => void,
  signal: AbortSignal,
): Promise<RedisWire> {
  const what = `connect to ${nameOf(address)}`;
  const { createClient } = await import("redis");
  const client = createClient({
    ...clientOptions(target),
    ...(target.database === undefined ? {} : { database: target.database }),
    socket: await socketOptions(target, address, signal).catch((error) => {
      throw redisError(error, what, "connect");
    }),
  });
  let open = false;
  let lastError: unknown;
  const lost = (error?: unknown): void => {
    lastError ??= error;
    if (!open) return;
    open = false;
    client.destroy();
    onLost(lastError);
  };
  client.on("error", lost);
  client.on("end", lost);
  // The client's own limit ends with the socket's connection; a server that accepts and says nothing needs this one.
  const limitMs = target.connectTimeoutMs ?? 5000;
  let expired = false;
  const giveUp = (): void => client.destroy();
  const timer = setTimeout(() => {
    expired = true;
    giveUp();
  }, limitMs);
  signal.addEventListener("abort", giveUp);
  try {
    if (signal.aborted) throw notConnected(what, "redis.closed");
    await client.connect();
  } catch (error) {
    client.destroy();
    throw expired ? timedOut(what, limitMs) : redisError(error, what, "connect");
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", giveUp);
  }
  open = true;
  const wire: RedisWire = {
    send: (args) => client.sendCommand(args),
    nodes: () => Promise.resolve([wire]),
    subscribe: (pattern, listener) =>
      client.pSubscribe(pattern, (_message, channel) => listener(channel)),
    close: () => {
      open = false;
      client.destroy();
    },
  };
  return wire;
}

/** Asks the sentinels one after the other, and stays with the first that answers to hear of a failover. */
async function openThroughSentinel(
  target: RedisTarget,
  onLost: (cause: unknown) => void,
  signal: AbortSignal,
): Promise<RedisWire> {
  const { addresses, masterName, username, password } = target.sentinels!;
  const sentinelTarget: RedisTarget = {
    address: target.address,
    ...(username === undefined ? {} : { username }),
    ...(password === undefined ? {} : { password }),
    ...(target.tls === undefined ? {} : { tls: target.tls }),
    ...(target.connectTimeoutMs === undefined ? {} : { connectTimeoutMs: target.connectTimeoutMs }),
  };
  let failure: unknown = notConnected(`ask for the master "${masterName}"`, "redis.no-master");
  for (const address of addresses) {
    if (signal.aborted) break;
    let sentinel: RedisWire | undefined;
    let master: RedisWire | undefined;
    let ended = false;
    const end = (cause: unknown): void => {
      if (ended) return;
      ended = true;
      sentinel?.close();
      master?.close();
      onLost(cause);
    };
    try {
      // A sentinel that dies takes its news with it: the connection is made again, through another one.
      sentinel = await openServer(sentinelTarget, address, end, signal);
      const found = await sentinel.send(["SENTINEL", "GET-MASTER-ADDR-BY-NAME", masterName]);
      if (!Array.isArray(found)) continue;
      await sentinel.subscribe(
        "+switch-master",
        () => end(notConnected("go on after a failover", "redis.connection-lost")),
      );
      const [host, port] = found.map(String);
      master = await openServer(target, { host: host!, port: Number(port) }, end, signal);
      if (ended) throw notConnected("connect in a failover", "redis.no-master");
      const { send, subscribe } = master;
      const close = (): void => {
        ended = true;
        sentinel!.close();
        master!.close();
      };
      const wire: RedisWire = {
        send,
        subscribe,
        close,
        nodes: () => Promise.resolve([wire]),
      };
      return wire;
    } catch (error) {
      failure = error;
      ended = true;
      master?.close();
    } finally {
      if (master === undefined || ended) sentinel?.close();
    }
  }
  throw redisError(failure, `ask for the master "${masterName}"`, "connect");
}

async function openCluster(
  target: RedisTarget,
  onLost: (cause: unknown) => void,
  signal: AbortSignal,
): Promise<RedisWire> {
  const what = "connect to the cluster";
  const { createCluster } = await import("redis");
  const sockets = await Promise.all(
    target.cluster!.map((address) => socketOptions(target, address, signal)),
  ).catch((error) => {
    throw redisError(error, what, "connect");
  });
  const { RESP, ...defaults } = clientOptions(target);
  const cluster = createCluster({
    RESP,
    rootNodes: sockets.map((socket) => ({ socket })),
    // Nodes found later are given by address only; everything else about the socket is theirs too.
    defaults: { ...defaults, socket: { ...sockets[0]! } },
  });
  let open = false;
  const lost = (error?: unknown): void => {
    if (!open) return;
    open = false;
    cluster.destroy();
    onLost(error);
  };
  cluster.on("error", lost);
  cluster.on("node-error", lost);
  const giveUp = (): void => cluster.destroy();
  signal.addEventListener("abort", giveUp);
  try {
    await cluster.connect();
    if (signal.aborted) throw notConnected(what, "redis.closed");
  } catch (error) {
    cluster.destroy();
    throw redisError(error, what, "connect");
  } finally {
    signal.removeEventListener("abort", giveUp);
  }
  open = true;
  return {
    send: (args, key) => cluster.sendCommand(key, false, args),
    nodes: () =>
      Promise.all(cluster.masters.map(async (node) => {
        const client = await cluster.nodeClient(node);
        return { send: (args: string[]) => client.sendCommand(args) };
      })),
    subscribe: async (pattern, listener) => {
      await cluster.pSubscribe(pattern, (_message, channel) => listener(channel));
    },
    close: () => {
      if (!open) return;
      open = false;
      cluster.destroy();
    },
  };
}
