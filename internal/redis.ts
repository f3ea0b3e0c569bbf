/**
 * Connections to Redis through npm:@redis/client, which is loaded by the first one: over TCP, TLS or a unix socket, to a
 * server, to the master that sentinels name, or to a cluster. Nothing here reconnects; `redis_link.ts` does.
 *
 * @module
 */

import { notConnected, redisError, timedOut } from "./redis_errors.ts";
import { openServer, type RedisTarget, type RedisWire, socketOptions } from "./redis_wire.ts";

export type { RedisAddress, RedisTarget, RedisTls, RedisWire } from "./redis_wire.ts";

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

/** Options shared by every client of a cluster. */
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
      const connection = master;
      const close = (): void => {
        ended = true;
        sentinel!.close();
        master!.close();
      };
      const wire: RedisWire = {
        send: (args) => connection.send(args),
        subscribe: (pattern, listener) => connection.subscribe(pattern, listener),
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
  const { createCluster } = await import("@redis/client");
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
