/**
 * One connection to one Redis server, out of the parts of npm:@redis/client: its socket, its queue, its decoder.
 *
 * The whole client is not loaded for that. Its four hundred commands, each a file and a method of every client, of which
 * nothing here calls one, take 290 ms and 45 MB; the parts take 15 ms and 3 MB. Their files are no promise of the package,
 * so its version is pinned, and `redis_wire_test.ts` says what has to be true of the next one.
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
  /** Milliseconds a connection may take; 5,000 by default. */
  readonly connectTimeoutMs?: number;
  /** Sentinels, and the name they know the master by. `address` is not used then. */
  readonly sentinels?: {
    readonly addresses: readonly RedisAddress[];
    readonly masterName: string;
    readonly username?: string;
    readonly password?: string;
  };
  /** Nodes of a cluster to ask for the others. `address` is not used then. */
  readonly cluster?: readonly RedisAddress[];
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

/** What the client's socket is made with. */
export type SocketSettings =
  & {
    readonly signal: AbortSignal;
    readonly connectTimeout: number;
    readonly reconnectStrategy: false;
  }
  & (
    | { readonly path: string; readonly tls: false }
    | { readonly host: string; readonly port: number; readonly tls: false }
    | {
      readonly host: string;
      readonly port: number;
      readonly tls: true;
      readonly ca?: string;
      readonly cert?: string;
      readonly key?: string;
      readonly servername: string;
    }
  );

/** Connects to one server; see `OpenRedis` for the arguments. */
export async function openServer(
  target: Omit<RedisTarget, "address">,
  address: RedisAddress,
  onLost: (cause: unknown) => void,
  signal: AbortSignal,
): Promise<RedisWire> {
  const what = `connect to ${nameOf(address)}`;
  const [parts, options] = await Promise.all([
    loadParts(),
    socketOptions(target, address, signal),
  ]).catch((error) => {
    throw redisError(error, what, "connect");
  });
  const connection = new Connection(parts, options, target, onLost);
  // The socket's own limit ends with the socket's connection; a server that accepts and says nothing needs this one.
  const limitMs = target.connectTimeoutMs ?? CONNECT_TIMEOUT_MS;
  let expired = false;
  const giveUp = (): void => connection.close();
  const timer = setTimeout(() => {
    expired = true;
    giveUp();
  }, limitMs);
  signal.addEventListener("abort", giveUp);
  try {
    if (signal.aborted) throw notConnected(what, "redis.closed");
    await connection.connect();
  } catch (error) {
    connection.close();
    throw expired ? timedOut(what, limitMs) : redisError(error, what, "connect");
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", giveUp);
  }
  return connection;
}

/**
 * Options for a socket of the client. The signal makes the runtime listen to the socket's errors from its first moment to its
 * last. The client itself (6.3) listens to one, and not yet when a server refuses our certificate in the same moment in
 * which the handshake is complete for us, as TLS 1.3 has it; unheard, that error would end the process.
 */
export async function socketOptions(
  target: Pick<RedisTarget, "tls" | "connectTimeoutMs">,
  address: RedisAddress,
  signal: AbortSignal,
): Promise<SocketSettings> {
  const common = {
    signal,
    connectTimeout: target.connectTimeoutMs ?? CONNECT_TIMEOUT_MS,
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

class Connection implements RedisWire {
  readonly #queue: ClientQueue;
  readonly #socket: ClientSocket;
  readonly #onLost: (cause: unknown) => void;
  #open = false;
  #closed = false;
  #lastError: unknown;
  #writing = false;

  constructor(
    { Queue, Socket }: ClientParts,
    options: object,
    target: Omit<RedisTarget, "address">,
    onLost: (cause: unknown) => void,
  ) {
    this.#onLost = onLost;
    // RESP 2 because servers before 6 speak nothing else, and one reply shape is enough.
    this.#queue = new Queue(2, null, () => {}, "");
    this.#socket = new Socket(() => this.#greet(target), "", options);
    this.#socket
      .on("data", (chunk) => {
        try {
          this.#queue.decoder.write(chunk);
        } catch (error) {
          this.#lost(error);
        }
      })
      .on("drain", this.#write)
      .on("error", (error) => this.#lost(error))
      .on("end", () => this.#lost(undefined));
  }

  async connect(): Promise<void> {
    await this.#socket.connect();
    if (this.#closed) throw this.#gone();
    this.#open = true;
  }

  send(args: string[]): Promise<unknown> {
    if (!this.#open) return Promise.reject(this.#gone());
    const reply = this.#queue.addCommand(args);
    this.#schedule();
    return reply;
  }

  nodes(): Promise<readonly RedisWire[]> {
    return Promise.resolve([this]);
  }

  async subscribe(pattern: string, listener: (channel: string) => void): Promise<void> {
    if (!this.#open) throw this.#gone();
    const told = this.#queue.subscribe(
      "PATTERNS",
      pattern,
      (_message, channel) => listener(channel),
    );
    this.#schedule();
    await told;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#open = false;
    this.#queue.flushAll(this.#gone());
    this.#socket.destroy();
  }

  /** What a server wants to hear first. Sent together; its refusals end the attempt. */
  async #greet(
    { username, password, clientName, database = 0 }: Omit<RedisTarget, "address">,
  ): Promise<void> {
    const commands: string[][] = [];
    if (username !== undefined || password !== undefined) {
      const secret = password ?? "";
      commands.push(username === undefined ? ["AUTH", secret] : ["AUTH", username, secret]);
    }
    if (clientName !== undefined) commands.push(["CLIENT", "SETNAME", clientName]);
    if (database !== 0) commands.push(["SELECT", String(database)]);
    const replies = commands.map((command) => this.#queue.addCommand(command));
    this.#write();
    await Promise.all(replies);
  }

  /** What is sent in one go leaves in one piece; the client itself waits a turn of the event loop for that. */
  #schedule(): void {
    if (this.#writing) return;
    this.#writing = true;
    queueMicrotask(this.#write);
  }

  readonly #write = (): void => {
    this.#writing = false;
    if (!this.#closed) this.#socket.write(this.#queue.commandsToWrite());
  };

  #lost(cause: unknown): void {
    this.#lastError ??= cause;
    const wasOpen = this.#open;
    this.close();
    if (wasOpen) this.#onLost(this.#lastError);
  }

  #gone(): unknown {
    return this.#lastError ?? notConnected("go on", "redis.closed");
  }
}

/** What is used of the client. */
interface ClientParts {
  readonly Queue: new (
    respVersion: 2,
    maxLength: null,
    moved: () => void,
    clientId: string,
  ) => ClientQueue;
  readonly Socket: new (
    initiate: () => Promise<void>,
    clientId: string,
    options: object,
  ) => ClientSocket;
}

interface ClientQueue {
  readonly decoder: { write(chunk: Uint8Array): void };
  addCommand(args: readonly string[]): Promise<unknown>;
  subscribe(
    type: "PATTERNS",
    pattern: string,
    listener: (message: string, channel: string) => void,
  ): Promise<void> | undefined;
  commandsToWrite(): Iterable<readonly (string | Uint8Array)[]>;
  flushAll(error: unknown): void;
}

interface ClientSocket {
  connect(): Promise<void>;
  write(pieces: Iterable<readonly (string | Uint8Array)[]>): void;
  destroy(): void;
  on(event: "data", listener: (chunk: Uint8Array) => void): this;
  on(event: "error", listener: (error: unknown) => void): this;
  on(event: "drain" | "end", listener: () => void): this;
}

let parts: Promise<ClientParts> | undefined;

/** Loads what the first connection would load. Never rejects: that connection says what is wrong. */
export async function loadRedis(): Promise<void> {
  await loadParts().catch(() => {});
}

function loadParts(): Promise<ClientParts> {
  return parts ??= (async () => {
    const [queue, socket] = await Promise.all([
      import("@redis/client/dist/lib/client/commands-queue.js"),
      import("@redis/client/dist/lib/client/socket.js"),
    ]);
    return { Queue: classOf(queue), Socket: classOf(socket) } as ClientParts;
  })();
}

/** The default export of a CommonJS module, which runtimes wrap once or twice. */
function classOf(module: unknown): unknown {
  let value = module;
  while (typeof value === "object" && value !== null) value = Reflect.get(value, "default");
  if (typeof value !== "function") {
    throw new TypeError("Cannot use the Redis client: a part of it is no class, expected 6.3.1");
  }
  return value;
}

/** How an address is called in messages. */
function nameOf(address: RedisAddress): string {
  return "path" in address ? address.path : `${address.host}:${address.port}`;
}

const CONNECT_TIMEOUT_MS = 5000;
