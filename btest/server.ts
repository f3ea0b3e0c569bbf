/**
 * The bandwidth-test server: accepts connections and lets sessions come of them.
 *
 * @module
 */
import {
  literalAddress,
  type SocketAddress,
  type StreamConnection,
  type StreamListener,
  type StreamTraits,
  unmapAddress,
} from "../ffi/mod.ts";
import { logger, onceThenSummarise } from "../internal/log.ts";
import { secureRandom } from "../internal/random.ts";
import { systemClock } from "../internal/time/clock.ts";
import type { Accounts } from "./accounts.ts";
import type { EndReason, ServerEvent } from "./api_types.ts";
import { type DataPlanes, openPlanes } from "./data_planes.ts";
import { CpuLoad } from "./meter.ts";
import { resolveServerSettings } from "./options.ts";
import { type AuthMethod, Decoy, DEFAULT_PORT } from "./protocol/mod.ts";
import { ServerSession, type SessionGround } from "./server_session.ts";
import { Sessions, UdpPorts } from "./sessions.ts";
import type { ListenAddress, ResolvedServerSettings, ServerSettings } from "./settings.ts";

/** How a server is started: its settings, who may test, and whom to tell. */
export interface ServerOptions extends ServerSettings {
  /** Who may test. Without it nobody has to log in. */
  readonly accounts?: Accounts | undefined;
  /** Told of every test and of every connection turned away. Must not throw. */
  readonly onEvent?: ((event: ServerEvent) => void) | undefined;
  /** Stops the server at once when aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** What a server has counted so far. */
export interface ServerSnapshot {
  /** Connections that were accepted. */
  readonly connectionsAccepted: number;
  /** Connections that were closed unanswered because there was no place for them. */
  readonly connectionsRefused: number;
  /** Tests that began. */
  readonly testsStarted: number;
  /** Tests that ended. */
  readonly testsEnded: number;
  /** Handshakes that came to nothing, wrong passwords included. */
  readonly handshakesFailed: number;
  /** Wrong users and passwords. */
  readonly loginsFailed: number;
  /** Bytes sent in tests that ended. */
  readonly bytesSent: number;
  /** Bytes received in tests that ended. */
  readonly bytesReceived: number;
  /** Tests that run. */
  readonly testsRunning: number;
  /** Milliseconds since the start. */
  readonly uptimeMs: number;
}

/** A running server. Made by {@linkcode serve}. */
export interface BtestServer extends AsyncDisposable {
  /** Where it listens; ports are the real ones. */
  readonly addresses: readonly SocketAddress[];
  /** The driver that carries TCP connections. */
  readonly driver: "linux" | "deno" | "node";
  /** What its connections can do. */
  readonly traits: StreamTraits;
  /** Why a faster driver is not used; empty when there is none. */
  readonly fallbackReason: string;
  /** What clients must prove. */
  readonly auth: AuthMethod;
  /** Threads that carry data at most; 0 when the calling thread does. */
  readonly workers: number;
  /** Settles when the server has stopped. */
  readonly finished: Promise<void>;
  /** The counts, now. */
  snapshot(): ServerSnapshot;
  /**
   * Accepts nothing new, lets running tests end, then stops.
   *
   * @param options `graceMs`: how long they may take. Default: the server's `drainTimeoutMs`.
   */
  shutdown(options?: { readonly graceMs?: number }): Promise<void>;
  /** Stops at once. Idempotent. */
  close(): Promise<void>;
}

const log = logger("btest", "server");

/**
 * Starts a bandwidth-test server.
 *
 * Needs `--allow-net`, and `--allow-ffi` for the kernel driver; without that it serves through the runtime's sockets.
 *
 * @returns The server, once it listens on every address.
 * @throws {TypeError} For options of the wrong shape, and for logins without accounts.
 * @throws {RangeError} For options out of range. @throws {SystemError} When an address is taken or not allowed.
 * @throws {CapabilityError} When `driver: "fast"` is not possible here.
 *
 * @example
 * ```ts
 * import { run, serve } from "@fastwire/net/btest";
 * import { ok } from "node:assert/strict";
 *
 * await using server = await serve({ listen: ["127.0.0.1:0"] });
 * const { port } = server.addresses[0]!;
 * const result = await run(`127.0.0.1:${port}`, { direction: "receive", durationMs: 200 });
 * ok(result.rxBps > 1_000_000);
 * ```
 */
export async function serve(options: ServerOptions = {}): Promise<BtestServer> {
  const { accounts, onEvent, signal, ...rest } = options;
  const settings = resolveServerSettings(rest);
  const auth = settings.auth !== "auto"
    ? settings.auth
    : accounts === undefined
    ? "none"
    : "ecsrp5";
  if (auth !== "none" && accounts === undefined) {
    throw new TypeError(`Cannot ask for logins by "${auth}": no accounts are given`);
  }
  signal?.throwIfAborted();
  const planes = await openPlanes(settings.driver, settings.workers);
  const server = new Server(settings, auth, accounts, planes, onEvent, await openCpu(planes));
  try {
    await server.listen();
  } catch (error) {
    await server.close();
    throw error;
  }
  if (planes.host.fallbackReason !== "" && settings.driver === "auto") {
    log.info("Serving through the portable driver: {reason}", {
      event: "btest.driver-chosen",
      reason: planes.host.fallbackReason,
    });
  }
  if (signal !== undefined) {
    const stop = (): void => void server.close();
    signal.addEventListener("abort", stop, { once: true });
    void server.finished.then(() => signal.removeEventListener("abort", stop));
  }
  return server;
}

async function openCpu(planes: DataPlanes): Promise<CpuLoad> {
  try {
    return await CpuLoad.open(planes.clockwork.now());
  } catch (error) {
    await planes.close();
    throw error;
  }
}

/** The address that is none: beside it a wildcard of IPv6 takes no IPv4. */
export const NO_IPV4 = "none";

/** Where a settings' address is bound. */
function bindAddress({ host, port = DEFAULT_PORT }: ListenAddress, all: readonly ListenAddress[]): {
  readonly bind: SocketAddress;
  readonly dualStack: boolean;
} {
  if (host === "" || host === "*") {
    return { bind: { family: "ipv6", address: "::", port }, dualStack: true };
  }
  const bind = literalAddress(host === "localhost" ? "127.0.0.1" : host, port);
  if (bind === undefined) {
    throw new TypeError(`Cannot listen on "${host}": expected an address, not a name`);
  }
  // With an IPv4 address of the same port the two would be in each other's way.
  const apart = all.some((other) =>
    other.host === NO_IPV4 ||
    (other.port ?? DEFAULT_PORT) === port && other.host.includes(".")
  );
  return { bind, dualStack: bind.address === "::" && !apart };
}

class Server implements BtestServer {
  readonly auth: AuthMethod;
  readonly finished: Promise<void>;
  readonly #planes: DataPlanes;
  readonly #settings: ResolvedServerSettings;
  readonly #ground: SessionGround;
  readonly #cpu: CpuLoad;
  readonly #listeners: StreamListener[] = [];
  readonly #live: Set<ServerSession> = new Set();
  readonly #startedAt: number = systemClock.now();
  readonly #onEvent: ((event: ServerEvent) => void) | undefined;
  readonly #tellFull: () => void;
  readonly #counts = {
    connectionsAccepted: 0,
    connectionsRefused: 0,
    testsStarted: 0,
    testsEnded: 0,
    handshakesFailed: 0,
    loginsFailed: 0,
    bytesSent: 0,
    bytesReceived: 0,
  };
  #finish: () => void = () => {};
  #idle: (() => void) | undefined;
  #closing: Promise<void> | undefined;

  constructor(
    settings: ResolvedServerSettings,
    auth: AuthMethod,
    accounts: Accounts | undefined,
    planes: DataPlanes,
    onEvent: ((event: ServerEvent) => void) | undefined,
    cpu: CpuLoad,
  ) {
    this.auth = auth;
    this.#settings = settings;
    this.#planes = planes;
    this.#onEvent = onEvent;
    this.#cpu = cpu;
    this.finished = new Promise((resolve) => this.#finish = resolve);
    let id = 0;
    this.#ground = {
      settings,
      auth,
      accounts,
      decoy: new Decoy(accounts?.decoySecret ?? secureRandom.bytes(32)),
      planes,
      cpu,
      sessions: new Sessions(settings.maxSessions, settings.maxSessionsPerAddress),
      ports: new UdpPorts(settings.udpPortStart),
      emit: (event) => this.#emit(event),
      nextId: () => ++id,
      gone: (session) => this.#gone(session),
    };
    this.#tellFull = onceThenSummarise(systemClock, (occurrences) => {
      log.warn("{occurrences} connections were closed unanswered: all places are taken", {
        event: "btest.connection-refused",
        occurrences,
      });
    }, 1000);
  }

  get addresses(): readonly SocketAddress[] {
    return Object.freeze(this.#listeners.map(({ local }) => local));
  }

  get driver(): "linux" | "deno" | "node" {
    return this.#planes.host.traits.driver;
  }

  get traits(): StreamTraits {
    return this.#planes.host.traits;
  }

  get fallbackReason(): string {
    return this.#planes.host.fallbackReason;
  }

  get workers(): number {
    return this.#planes.workers;
  }

  async listen(): Promise<void> {
    const all = this.#settings.listen;
    const places = all.filter(({ host }) => host !== NO_IPV4);
    if (places.length === 0) throw new TypeError("Cannot listen: no address is given");
    for (const address of places) {
      const listener = await this.#planes.host.listen({
        ...bindAddress(address, all),
        backlog: BACKLOG,
        userTimeoutMs: USER_TIMEOUT_MS,
        sendBufferBytes: this.#settings.sendBufferBytes,
        receiveBufferBytes: this.#settings.receiveBufferBytes,
      });
      this.#listeners.push(listener);
      listener.watch(() => this.#accept(listener));
    }
  }

  snapshot(): ServerSnapshot {
    let testsRunning = 0;
    for (const session of this.#live) if (session.running) testsRunning++;
    return Object.freeze({
      ...this.#counts,
      testsRunning,
      uptimeMs: systemClock.now() - this.#startedAt,
    });
  }

  async shutdown(options: { readonly graceMs?: number } = {}): Promise<void> {
    await this.#stopListening();
    if (this.#live.size > 0) {
      const graceMs = options.graceMs ?? this.#settings.drainTimeoutMs;
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, graceMs);
        this.#idle = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
    await this.close();
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.#stopListening();
    const reason: EndReason = "shutdown";
    if (this.#live.size > 0) {
      const idle = new Promise<void>((resolve) => this.#idle = resolve);
      for (const session of [...this.#live]) session.stop(reason);
      await idle;
    }
    this.#cpu.close();
    await this.#planes.close();
    this.#finish();
  }

  async #stopListening(): Promise<void> {
    for (const listener of this.#listeners) await listener.close();
  }

  #accept(listener: StreamListener): void {
    for (let budget = ACCEPTS; budget > 0; budget--) {
      const connection = listener.acceptNow();
      if (connection === undefined) return;
      this.#take(connection);
    }
    listener.again();
  }

  #take(connection: StreamConnection): void {
    const { sessions } = this.#ground;
    const peer = unmapAddress(connection.remote);
    const { address } = peer;
    this.#counts.connectionsAccepted++;
    // Further connections of a test look like new ones until they say what they are.
    const expected = sessions.expects(address);
    const shaking = this.#live.size - sessions.count;
    if (!expected && !sessions.hasPlace(address) || shaking >= MAX_HANDSHAKES) {
      this.#counts.connectionsRefused++;
      this.#tellFull();
      void connection.close();
      return;
    }
    this.#live.add(new ServerSession(this.#ground, connection, peer));
  }

  #gone(session: ServerSession): void {
    this.#live.delete(session);
    if (this.#live.size === 0) this.#idle?.();
  }

  #emit(event: ServerEvent): void {
    const counts = this.#counts;
    switch (event.kind) {
      case "start":
        counts.testsStarted++;
        break;
      case "end":
        counts.testsEnded++;
        counts.bytesSent += event.result.txBytes;
        counts.bytesReceived += event.result.rxBytes;
        break;
      case "refused":
        counts.handshakesFailed++;
        if (event.reason === "auth-failed") counts.loginsFailed++;
        break;
    }
    try {
      this.#onEvent?.(event);
    } catch (error) {
      log.error("An event could not be told: {error}", { event: "btest.observer-failed", error });
    }
  }
}

/** Connections that may wait to be accepted. */
const BACKLOG = 512;
/** Connections accepted before anything else has its turn. */
const ACCEPTS = 64;
/** Connections in the middle of their handshake. */
const MAX_HANDSHAKES = 1024;
/** Unacknowledged data older than this ends a connection, milliseconds. */
const USER_TIMEOUT_MS = 20_000;
