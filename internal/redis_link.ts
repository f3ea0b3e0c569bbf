/**
 * One connection to Redis that is kept: made again whenever it is lost, with patience that grows, until it is closed.
 * Commands are sent only while it is there; nothing waits in a queue for a connection.
 *
 * @module
 */

import type { OpenRedis, RedisWire } from "./redis.ts";
import { notConnected, redisError, timedOut } from "./redis_errors.ts";
import { type FastwireError, PeerError } from "./errors.ts";
import { type Clock, systemClock } from "./time/clock.ts";
import { type Random, secureRandom } from "./random.ts";

/** What a link reports. */
export type RedisLinkEvent =
  | { readonly state: "connected" }
  | { readonly state: "lost"; readonly code: string; readonly message: string }
  | { readonly state: "reconnecting"; readonly attempt: number; readonly delayMs: number };

/** How a link is kept. */
export interface RedisLinkOptions {
  /** Opens the connection for commands. */
  readonly open: OpenRedis;
  /** Opens the one for subscriptions, made when the first pattern is followed; `open` by default, null for none. */
  readonly openSubscriptions?: OpenRedis | null;
  /** Milliseconds a command may take before the connection is given up; 5,000 by default. */
  readonly timeoutMs?: number;
  /** Upper bound of the first wait before connecting again, in milliseconds; 100 by default, doubling. */
  readonly backoffMs?: number;
  /** Upper bound of every wait, in milliseconds; 2,000 by default. */
  readonly maxBackoffMs?: number;
  /** Whose time decides whether a connection has held and a reply is late. */
  readonly clock?: Clock;
  /** Source of the jitter. */
  readonly random?: Random;
  /** Waits, or less when the signal aborts; the host's timer by default. */
  readonly wait?: (ms: number, signal: AbortSignal) => Promise<void>;
}

/** A command and, for a cluster, the key that decides its node. */
export interface RedisCommand {
  /** The command's words. */
  readonly args: string[];
  /** Decides the node in a cluster. */
  readonly key?: string;
}

/** A connection that has held this long ends the growth of the waits. */
const STEADY_MS = 1000;

/**
 * Runs commands in another database. SELECT inside a script ends with the script, so the connection's own database never
 * changes, be it shared with an application or not (Redis, "EVAL", since 2.8.12).
 */
const ELSEWHERE = `redis.call('SELECT', ARGV[1])
local replies = {}
for i, command in ipairs(cjson.decode(ARGV[2])) do replies[i] = redis.call(unpack(command)) end
return replies`;

/** Keeps a connection. */
export class RedisLink {
  readonly #options: RedisLinkOptions;
  readonly #timeoutMs: number;
  readonly #clock: Clock;
  readonly #closing = new AbortController();
  readonly #observers = new Set<(event: RedisLinkEvent) => void>();
  readonly #prepares: ((link: RedisLink) => Promise<void>)[] = [];
  readonly #subscriptions = new Map<string, Set<(channel: string) => void>>();
  #wire: RedisWire | undefined;
  #subscriber: RedisWire | undefined;
  #subscriberOpening: Promise<RedisWire> | undefined;
  #giveUp: AbortSignal = this.#closing.signal;
  #connected = false;
  #keeping: Promise<void> | undefined;
  #lost: ((error: FastwireError) => void) | undefined;
  #lastError: FastwireError | undefined;
  #failures = 0;
  #repliedAt = 0;
  /** Commands that are not answered, in the order of sending. */
  readonly #pending = new Set<Waiting>();
  #timer: ReturnType<typeof setTimeout> | undefined;

  /** Does nothing yet; {@linkcode RedisLink.start} connects. */
  constructor(options: RedisLinkOptions) {
    this.#options = options;
    this.#timeoutMs = options.timeoutMs ?? 5000;
    this.#clock = options.clock ?? systemClock;
  }

  /** Whether commands are taken by {@linkcode RedisLink.send}. */
  get connected(): boolean {
    return this.#connected;
  }

  /** Whether {@linkcode RedisLink.follow} works. */
  get canFollow(): boolean {
    return this.#options.openSubscriptions !== null;
  }

  /** Why the last connection or attempt ended; nothing before the first failure. */
  get lastError(): FastwireError | undefined {
    return this.#lastError;
  }

  /** Begins to connect, and to keep the connection; at once when it has begun. */
  start(): void {
    this.#keeping ??= this.#keep();
  }

  /**
   * Adds a step of every connection, run in the order of adding, before it counts as connected. Commands inside go through
   * {@linkcode RedisLink.send}. When it rejects, the connection is given up and made again later.
   */
  prepare(step: (link: RedisLink) => Promise<void>): void {
    this.#prepares.push(step);
  }

  /** Calls back at every change until the returned function is called. Must not throw. */
  observe(observer: (event: RedisLinkEvent) => void): () => void {
    this.#observers.add(observer);
    return () => void this.#observers.delete(observer);
  }

  /**
   * Waits until connected.
   *
   * @param options `attempts`: gives up after so many failed ones, never by default.
   * @throws {FastwireError} Why the last attempt failed.
   */
  whenConnected(
    options: { readonly signal?: AbortSignal; readonly attempts?: number } = {},
  ): Promise<void> {
    const { signal, attempts = Infinity } = options;
    return new Promise((resolve, reject) => {
      const done = (settle: () => void): void => {
        stop();
        signal?.removeEventListener("abort", aborted);
        this.#closing.signal.removeEventListener("abort", closed);
        settle();
      };
      const aborted = (): void => done(() => reject(signal!.reason));
      const closed = (): void => done(() => reject(notConnected("wait", "redis.closed")));
      const look = (): void => {
        if (this.#connected) done(resolve);
        else if (this.#failures >= attempts) done(() => reject(this.#lastError));
      };
      const stop = this.observe(look);
      if (signal?.aborted === true) return aborted();
      if (this.#closing.signal.aborted) return closed();
      signal?.addEventListener("abort", aborted);
      this.#closing.signal.addEventListener("abort", closed);
      look();
    });
  }

  /**
   * Sends one command, at once.
   *
   * @param what What it is for, in error messages: `read the table`.
   * @throws {FastwireError} With a `redis.…` code; after `redis.timeout` and every loss the connection is made again.
   */
  send(args: string[], what: string, key?: string): Promise<unknown> {
    return this.#await(() => this.#ready(what).send(args, key), what);
  }

  /** Sends commands one behind the other and waits for all replies together; the time limit counts for all of them. */
  sendAll(commands: readonly RedisCommand[], what: string): Promise<unknown[]> {
    return this.#await(() => {
      const wire = this.#ready(what);
      return Promise.all(commands.map(({ args, key }) => wire.send(args, key)));
    }, what);
  }

  /** Sends one command to every master of a cluster, or to the one server. */
  async sendToNodes(args: string[], what: string): Promise<readonly NodeReply[]> {
    return await this.#await(async () => {
      const nodes = await this.#ready(what).nodes();
      return await Promise.all(nodes.map(async (node, index) => {
        return { index, reply: await node.send(args) };
      }));
    }, what);
  }

  /** Sends one command to the master with this index, of those {@linkcode RedisLink.sendToNodes} answered for. */
  sendToNode(index: number, args: string[], what: string): Promise<unknown> {
    return this.#await(async () => {
      const node = (await this.#ready(what).nodes())[index];
      if (node === undefined) throw notConnected(what, "redis.no-master");
      return await node.send(args);
    }, what);
  }

  /** Runs commands in the database with this number, atomically, and answers with their replies. */
  async inDatabase(
    database: number,
    commands: readonly (readonly string[])[],
    what: string,
  ): Promise<unknown[]> {
    if (commands.length === 0) return [];
    // A missing value would end the list of replies for Lua; false is its stand-in there and null here.
    const args = ["EVAL", ELSEWHERE, "0", String(database), JSON.stringify(commands)];
    const reply = await this.send(args, what);
    return Array.isArray(reply) ? reply : [];
  }

  /**
   * Follows a pattern of channels for as long as the link lives, over a second connection that is made for the first one.
   *
   * @param listener Called with the channel's name.
   * @throws {FastwireError} When the server refuses; the pattern is not followed then.
   * @throws {TypeError} When there is no connection for subscriptions.
   */
  async follow(pattern: string, listener: (channel: string) => void): Promise<void> {
    if (!this.canFollow) throw new TypeError("Cannot follow a channel: expected a client for it");
    const known = this.#subscriptions.get(pattern);
    if (known !== undefined) return void known.add(listener);
    this.#subscriptions.set(pattern, new Set([listener]));
    if (this.#wire === undefined) return;
    try {
      await this.#await(async () => {
        const subscriber = await this.#openSubscriber();
        await subscriber.subscribe(pattern, (channel) => this.#heard(pattern, channel));
      }, "follow changes");
    } catch (error) {
      // Kept for the next connection, unless it is the server that does not want it.
      if (error instanceof PeerError) this.#subscriptions.delete(pattern);
      throw error;
    }
  }

  /** Gives the connection up, for instance because the server refuses to write, and makes it again. */
  drop(error: FastwireError): void {
    this.#lost?.(error);
  }

  /** Ends everything; pending commands are rejected. Idempotent. */
  async close(): Promise<void> {
    if (!this.#closing.signal.aborted) {
      this.#closing.abort();
      this.#lost?.(notConnected("go on", "redis.closed"));
    }
    await this.#keeping;
  }

  async #keep(): Promise<void> {
    const { signal } = this.#closing;
    const { backoffMs = 100, maxBackoffMs = 2000, random = secureRandom, wait = sleep } =
      this.#options;
    // Grows with every attempt and starts again only once a connection has held: one that is closed as soon as it is
    // made must not be made a thousand times a second.
    let exponent = 0;
    for (let attempt = 1; !signal.aborted; attempt++) {
      const lost = await this.#connectOnce();
      if (signal.aborted) break;
      if (lost.heldMs >= 0) attempt = 1;
      if (lost.heldMs >= STEADY_MS) exponent = 0;
      this.#tell({ state: "lost", code: lost.error.code, message: lost.error.message });
      const delayMs = random.float() * Math.min(maxBackoffMs, backoffMs * 2 ** exponent);
      exponent = Math.min(exponent + 1, 20);
      this.#tell({ state: "reconnecting", attempt, delayMs });
      await wait(delayMs, signal);
    }
  }

  /** Connects and stays until that ends; answers how long it counted as connected, −1 when it never did. */
  async #connectOnce(): Promise<{ readonly error: FastwireError; readonly heldMs: number }> {
    let end: (error: FastwireError) => void = () => {};
    const ended = new Promise<FastwireError>((resolve) => end = resolve);
    let connectedAt = -1;
    const giveUp = new AbortController();
    const attempt = (error: FastwireError): void => {
      if (this.#lost !== attempt) return;
      this.#lost = undefined;
      this.#connected = false;
      for (const { fail } of this.#pending) fail(error);
      this.#pending.clear();
      clearTimeout(this.#timer);
      this.#timer = undefined;
      this.#wire?.close();
      this.#subscriber?.close();
      this.#wire = this.#subscriber = this.#subscriberOpening = undefined;
      giveUp.abort();
      end(error);
    };
    this.#lost = attempt;
    this.#giveUp = giveUp.signal;
    const work = async (): Promise<void> => {
      const wire = await this.#options.open(
        (cause) => attempt(redisError(cause, "go on")),
        giveUp.signal,
      );
      if (this.#lost !== attempt) return wire.close();
      this.#wire = wire;
      if (this.#subscriptions.size > 0) {
        const subscriber = await this.#openSubscriber();
        for (const pattern of this.#subscriptions.keys()) {
          await subscriber.subscribe(pattern, (channel) => this.#heard(pattern, channel));
        }
      }
      for (const step of this.#prepares) await step(this);
      if (this.#lost !== attempt || this.#wire !== wire) return;
      connectedAt = this.#clock.now();
      this.#failures = 0;
      this.#connected = true;
      this.#tell({ state: "connected" });
    };
    const working = work().catch((error) => attempt(redisError(error, "connect", "connect")));
    const error = await ended;
    const heldMs = connectedAt < 0 ? -1 : this.#clock.now() - connectedAt;
    // Nothing of this attempt outlives it: what it was opening is closed before the next begins.
    await working;
    this.#failures++;
    this.#lastError = error;
    return { error, heldMs };
  }

  #openSubscriber(): Promise<RedisWire> {
    const attempt = this.#lost;
    this.#subscriberOpening ??= (async () => {
      const open = this.#options.openSubscriptions ?? this.#options.open;
      const subscriber = await open(
        (cause) => attempt?.(redisError(cause, "follow changes")),
        this.#giveUp,
      );
      if (attempt === undefined || this.#lost !== attempt) {
        subscriber.close();
        throw notConnected("follow changes", "redis.not-connected");
      }
      return this.#subscriber = subscriber;
    })();
    return this.#subscriberOpening;
  }

  #heard(pattern: string, channel: string): void {
    for (const listener of this.#subscriptions.get(pattern) ?? []) listener(channel);
  }

  #ready(what: string): RedisWire {
    if (this.#wire === undefined) {
      const code = this.#closing.signal.aborted ? "redis.closed" : "redis.not-connected";
      throw notConnected(what, code, this.#lastError);
    }
    return this.#wire;
  }

  /** Waits for what `send` sends, no longer than allowed and no longer than the connection lives. */
  #await<T>(send: () => Promise<T>, what: string): Promise<T> {
    const attempt = this.#lost;
    return new Promise<T>((resolve, reject) => {
      const settle = (): void => {
        this.#repliedAt = this.#clock.now();
        this.#pending.delete(waiting);
      };
      const fail = (error: unknown): void => {
        settle();
        reject(redisError(error, what));
      };
      const waiting: Waiting = { what, startedAt: this.#clock.now(), attempt, fail };
      this.#pending.add(waiting);
      try {
        send().then((reply) => {
          settle();
          resolve(reply);
        }, fail);
      } catch (error) {
        fail(error);
      }
      if (attempt !== undefined && this.#pending.size > 0) {
        this.#timer ??= setTimeout(this.#expire, this.#timeoutMs);
      }
    });
  }

  /**
   * Time has passed for the command that waits longest. One timer serves all, set again when it fires: one for each command
   * was a tenth of what a batch costs.
   */
  readonly #expire = (): void => {
    this.#timer = undefined;
    const now = this.#clock.now();
    for (const { what, startedAt, attempt, fail } of this.#pending) {
      // Behind other commands it is not late as long as those are being answered.
      const leftMs = Math.max(startedAt, this.#repliedAt) + this.#timeoutMs - now;
      if (leftMs > 1) {
        this.#timer = setTimeout(this.#expire, leftMs);
        return;
      }
      const error = timedOut(what, now - startedAt);
      fail(error);
      // The reply may still come, to nobody; a connection in that state is worth less than a new one.
      attempt?.(error);
    }
  };

  #tell(event: RedisLinkEvent): void {
    for (const observer of [...this.#observers]) observer(event);
  }
}

/** A command on its way. */
interface Waiting {
  readonly what: string;
  readonly startedAt: number;
  /** Ends the connection it was sent on. */
  readonly attempt: ((error: FastwireError) => void) | undefined;
  fail(error: unknown): void;
}

/** One node's answer. */
export interface NodeReply {
  /** Which of the masters. */
  readonly index: number;
  /** What it answered. */
  readonly reply: unknown;
}

function sleep(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });
}
