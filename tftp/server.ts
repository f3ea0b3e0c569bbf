/**
 * The TFTP server: starts its loop, or one loop on each of several threads, and stops them.
 *
 * @module
 */
import {
  type DatagramTraits,
  literalAddress,
  openDatagramHost,
  resolveDriver,
  type SocketAddress,
  startThread,
  type Thread,
} from "../ffi/mod.ts";
import { logger } from "../internal/log.ts";
import { secureRandom } from "../internal/random.ts";
import { systemClock } from "../internal/time/clock.ts";
import type { AccessRule } from "./access.ts";
import { type CounterName, counterRow, createCounters, sumCounters } from "./counters.ts";
import { Endpoint } from "./endpoint.ts";
import type { Handlers } from "./handlers.ts";
import { LoopTimer } from "./loop_timer.ts";
import { Opening } from "./opening.ts";
import { resolveServerSettings } from "./options.ts";
import { ServerLoop } from "./server_loop.ts";
import {
  type Bind,
  type FromWorker,
  refusalError,
  type ThreadRefusal,
  type ToWorker,
  type WorkerSetup,
} from "./server_messages.ts";
import type { SessionInfo, TransferRecord } from "./session.ts";
import type { ListenAddress, ResolvedServerSettings, ServerSettings } from "./settings.ts";
import { DirectoryStore, type FileStore, storeOptions } from "./store.ts";

/** How a server is started: its settings, where content comes from, and whom to tell. */
export interface ServerOptions extends ServerSettings, Handlers {
  /** The directory that is served. Not needed when `store` is given. */
  readonly root?: string | undefined;
  /** Where files come from and go to, instead of a directory. Serves on the calling thread. */
  readonly store?: FileStore | undefined;
  /** Who may do what; the first rule that matches decides. */
  readonly access?: readonly AccessRule[] | undefined;
  /** Told of every transfer that ended, refused requests included. Must not throw. */
  readonly onTransfer?: ((record: TransferRecord) => void) | undefined;
  /** Stops the server at once when aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** What a server has counted so far, over all its threads. */
export type ServerSnapshot = { readonly [K in CounterName]: number } & {
  /** Milliseconds since the start. */
  readonly uptimeMs: number;
};

/** A running server. Made by {@linkcode serve}. */
export interface TftpServer extends AsyncDisposable {
  /** Where it listens; ports are the real ones. */
  readonly addresses: readonly SocketAddress[];
  /** The driver that carries the datagrams. */
  readonly driver: "linux" | "node";
  /** What its sockets can do. */
  readonly traits: DatagramTraits;
  /** Why a faster driver is not used; empty when there is none. */
  readonly fallbackReason: string;
  /** Threads that serve; 0 when the calling thread does. */
  readonly workers: number;
  /** Settles when the server has stopped; rejects when it broke. */
  readonly finished: Promise<void>;
  /** The counts, now. */
  snapshot(): ServerSnapshot;
  /** The running transfers. */
  sessions(): Promise<readonly SessionInfo[]>;
  /**
   * Accepts nothing new, lets running transfers end, then stops.
   *
   * @param options `graceMs`: how long they may take; after that their clients are told and they end. Default: the
   * server's `drainTimeoutMs`.
   */
  shutdown(options?: { readonly graceMs?: number }): Promise<void>;
  /** Stops at once; running transfers are told. Idempotent. */
  close(): Promise<void>;
}

/** Milliseconds a thread has to tell its clients and end. */
const STOP_MS = 2000;

const log = logger("tftp", "server");

/**
 * Starts a TFTP server.
 *
 * Needs `--allow-net`, `--allow-read` for the root, `--allow-write` for it when uploads are enabled, and `--allow-ffi`
 * for the kernel driver; without that it serves through `node:dgram`.
 *
 * @returns The server, once it listens on every address.
 * @throws {TypeError} For options of the wrong shape. @throws {RangeError} For options out of range.
 * @throws {SystemError} When an address is taken or not allowed, or the root cannot be opened.
 * @throws {CapabilityError} When `driver: "fast"` is not possible here.
 *
 * @example
 * ```ts
 * import { get, MemoryStore, serve } from "@fastwire/net/tftp";
 * import { equal } from "node:assert/strict";
 *
 * const store = new MemoryStore({ files: { "hello.txt": "Hello, network!" } });
 * await using server = await serve({ store, listen: ["127.0.0.1:0"] });
 * const { port } = server.addresses[0]!;
 * const bytes = await get(`tftp://127.0.0.1:${port}/hello.txt`);
 * equal(new TextDecoder().decode(bytes), "Hello, network!");
 * ```
 */
export async function serve(options: ServerOptions): Promise<TftpServer> {
  const { root, store, access = [], onRead, onWrite, onTransfer, signal, ...rest } = options;
  const settings = resolveServerSettings(rest);
  if (root === undefined && store === undefined) {
    throw new TypeError('Cannot start a TFTP server: neither "root" nor "store" is given');
  }
  signal?.throwIfAborted();
  const choice = resolveDriver(settings.driver, ["batchedDatagrams"]);
  const fast = choice.use === "fast";
  // Functions cannot travel to another thread.
  const here = store !== undefined || onRead !== undefined || onWrite !== undefined;
  // Where the kernel does not spread clients over sockets of one port, only one thread can own the port.
  const spread = fast || !settings.singlePort;
  const several = settings.workers > 1 && spread;
  const threads = here ? 0 : fast ? settings.workers : several ? settings.workers : 0;
  const binds = settings.listen.map(bindAddress);
  const common: Common = {
    settings,
    access,
    binds,
    driver: fast ? "fast" : "portable",
    reason: choice.reason,
    report: (record) => {
      logTransfer(record);
      onTransfer?.(record);
    },
  };
  const server = threads === 0
    ? await LocalServer.start(common, store ?? await openStore(root!, settings), {
      onRead,
      onWrite,
    })
    : await ThreadedServer.start(common, root!, threads);
  if (choice.reason !== "" && settings.driver === "auto") {
    log.info("Serving through the portable driver: {reason}", {
      event: "tftp.driver-chosen",
      reason: choice.reason,
    });
  }
  if (signal !== undefined) {
    const stop = (): void => void server.close();
    signal.addEventListener("abort", stop, { once: true });
    server.finished.finally(() => signal.removeEventListener("abort", stop)).catch(() => {});
  }
  return server;
}

/** Opens the directory store that the settings describe. */
export function openStore(root: string, settings: ResolvedServerSettings): Promise<FileStore> {
  return DirectoryStore.open(root, storeOptions(settings));
}

/** What both kinds of server need. */
interface Common {
  readonly settings: ResolvedServerSettings;
  readonly access: readonly AccessRule[];
  readonly binds: readonly Bind[];
  readonly driver: "fast" | "portable";
  readonly reason: string;
  readonly report: (record: TransferRecord) => void;
}

function bindAddress({ host, port = 69 }: ListenAddress): Bind {
  if (host === "" || host === "*") {
    return { address: { family: "ipv6", address: "::", port }, dualStack: true };
  }
  const address = literalAddress(host === "localhost" ? "127.0.0.1" : host, port);
  if (address === undefined) {
    throw new TypeError(`Cannot listen on "${host}": expected an address, not a name`);
  }
  return { address, dualStack: address.address === "::" };
}

/** A server on the calling thread's event loop. */
class LocalServer implements TftpServer {
  readonly addresses: readonly SocketAddress[];
  readonly driver: "linux" | "node";
  readonly traits: DatagramTraits;
  readonly fallbackReason: string;
  readonly workers = 0;
  readonly finished: Promise<void>;
  readonly #loop: ServerLoop;
  readonly #timer: LoopTimer;
  readonly #counters: SharedArrayBuffer;
  readonly #startedAt = systemClock.now();
  readonly #drainTimeoutMs: number;
  #finish: () => void = () => {};
  #closing: Promise<void> | undefined;

  private constructor(
    loop: ServerLoop,
    timer: LoopTimer,
    addresses: readonly SocketAddress[],
    counters: SharedArrayBuffer,
    reason: string,
  ) {
    this.#loop = loop;
    this.#timer = timer;
    this.addresses = addresses;
    this.#counters = counters;
    const { host } = loop.endpoint;
    this.driver = host.traits.driver;
    this.traits = host.traits;
    this.fallbackReason = reason;
    this.#drainTimeoutMs = loop.settings.drainTimeoutMs;
    this.finished = new Promise((resolve) => this.#finish = resolve);
  }

  static async start(common: Common, store: FileStore, handlers: Handlers): Promise<LocalServer> {
    const host = await openDatagramHost({ driver: common.driver });
    const endpoint = new Endpoint(host, systemClock, secureRandom);
    const counters = createCounters(1);
    const loop = new ServerLoop(
      endpoint,
      common.settings,
      common.access,
      (own) => new Opening(own, store, handlers),
      counterRow(counters, 0),
      { transfer: common.report },
    );
    const timer = new LoopTimer(endpoint);
    try {
      const addresses: SocketAddress[] = [];
      for (const { address, dualStack } of common.binds) {
        addresses.push(await loop.listen(address, dualStack, false));
      }
      return new LocalServer(loop, timer, Object.freeze(addresses), counters, common.reason);
    } catch (error) {
      timer.stop();
      await loop.close();
      throw error;
    }
  }

  snapshot(): ServerSnapshot {
    this.#loop.publishSocketCounts();
    return Object.freeze({
      ...sumCounters(this.#counters),
      uptimeMs: systemClock.now() - this.#startedAt,
    });
  }

  sessions(): Promise<readonly SessionInfo[]> {
    return Promise.resolve(this.#loop.sessions());
  }

  async shutdown(options: { readonly graceMs?: number } = {}): Promise<void> {
    await drained(this.#loop.drain(), options.graceMs ?? this.#drainTimeoutMs);
    await this.close();
  }

  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    await this.#loop.close();
    this.#timer.stop();
    this.#finish();
  }
}

/** A server on threads of its own. */
class ThreadedServer implements TftpServer {
  readonly addresses: readonly SocketAddress[];
  readonly driver: "linux" | "node";
  readonly traits: DatagramTraits;
  readonly fallbackReason: string;
  readonly workers: number;
  readonly finished: Promise<void>;
  readonly #members: readonly Member[];
  readonly #counters: SharedArrayBuffer;
  readonly #startedAt = systemClock.now();
  readonly #drainTimeoutMs: number;
  #finish: () => void = () => {};
  #break: (error: unknown) => void = () => {};
  #closing: Promise<void> | undefined;

  private constructor(
    members: readonly Member[],
    common: Common,
    addresses: readonly SocketAddress[],
    counters: SharedArrayBuffer,
  ) {
    this.#members = members;
    this.addresses = addresses;
    this.#counters = counters;
    this.workers = members.length;
    this.driver = members[0]!.traits.driver;
    this.traits = members[0]!.traits;
    this.fallbackReason = common.reason;
    this.#drainTimeoutMs = common.settings.drainTimeoutMs;
    this.finished = new Promise((resolve, reject) => {
      this.#finish = resolve;
      this.#break = reject;
    });
    // Whoever awaits `finished` learns of it; nobody has to.
    this.finished.catch(() => {});
    for (const member of members) {
      member.failed.catch((error) => {
        log.error("A server thread broke: {error}", { event: "tftp.thread-failed", error });
        this.#break(error);
        void this.close();
      });
    }
  }

  static async start(common: Common, root: string, threads: number): Promise<ThreadedServer> {
    const counters = createCounters(threads);
    const members: Member[] = [];
    // The kernel spreads clients over sockets that share a port; where it cannot, the first thread deals requests out.
    const shared = common.driver === "fast" && threads > 1;
    const settings = shareOf(common.settings, threads);
    let binds = common.binds;
    if (shared) await requireFree(binds);
    try {
      for (let thread = 0; thread < threads; thread++) {
        const member = await Member.start({
          settings,
          access: common.access,
          root,
          driver: common.driver,
          counters,
          thread,
          threads,
          binds: binds,
          reusePort: shared,
          listens: shared || thread === 0,
        }, common.report);
        members.push(member);
        if (thread === 0) {
          binds = binds.map((bind, i) => ({ ...bind, address: member.addresses[i]! }));
        }
      }
    } catch (error) {
      await Promise.all(members.map((member) => member.close()));
      throw error;
    }
    if (!shared && threads > 1) members[0]!.dealTo(members);
    return new ThreadedServer(members, common, members[0]!.addresses, counters);
  }

  snapshot(): ServerSnapshot {
    return Object.freeze({
      ...sumCounters(this.#counters),
      uptimeMs: systemClock.now() - this.#startedAt,
    });
  }

  async sessions(): Promise<readonly SessionInfo[]> {
    if (this.#closing !== undefined) return [];
    return (await Promise.all(this.#members.map((member) => member.sessions()))).flat();
  }

  async shutdown(options: { readonly graceMs?: number } = {}): Promise<void> {
    if (this.#closing === undefined) {
      const all = Promise.all(this.#members.map((member) => member.drain()));
      await drained(all, options.graceMs ?? this.#drainTimeoutMs);
    }
    await this.close();
  }

  close(): Promise<void> {
    return this.#closing ??= Promise.all(this.#members.map((member) => member.close()))
      .then(() => this.#finish());
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** One thread of a server, seen from outside. */
class Member {
  #thread!: Thread;
  addresses: readonly SocketAddress[] = [];
  traits!: DatagramTraits;
  #refusal: ThreadRefusal | undefined;
  readonly #report: (record: TransferRecord) => void;
  readonly #draining: (() => void)[] = [];
  readonly #listing: ((sessions: readonly SessionInfo[]) => void)[] = [];
  #others: readonly Member[] = [];

  private constructor(report: (record: TransferRecord) => void) {
    this.#report = report;
  }

  static async start(
    setup: WorkerSetup,
    report: (record: TransferRecord) => void,
  ): Promise<Member> {
    const member = new Member(report);
    member.#thread = await startThread(
      new URL("./server_worker.ts", import.meta.url),
      setup,
      { onMessage: (message) => member.#receive(message as FromWorker), stopMs: STOP_MS },
    );
    if (member.#refusal !== undefined) {
      await member.close();
      throw refusalError(member.#refusal);
    }
    return member;
  }

  /** Rejects when the thread breaks. */
  get failed(): Promise<never> {
    return this.#thread.failed;
  }

  /** This member receives every request; each goes to the one its sender's address picks. */
  dealTo(members: readonly Member[]): void {
    this.#others = members;
  }

  sessions(): Promise<readonly SessionInfo[]> {
    return new Promise((resolve) => {
      this.#listing.push(resolve);
      this.#post({ kind: "sessions" });
    });
  }

  drain(): Promise<void> {
    return new Promise((resolve) => {
      this.#draining.push(resolve);
      this.#post({ kind: "drain" });
    });
  }

  async close(): Promise<void> {
    await this.#thread.close();
  }

  #post(message: ToWorker): void {
    this.#thread.post(message);
  }

  #receive(message: FromWorker): void {
    switch (message.kind) {
      case "ready":
        this.addresses = message.addresses;
        this.traits = message.traits;
        break;
      case "refused":
        this.#refusal = message.refusal;
        break;
      case "records":
        for (const record of message.records) this.#report(record);
        break;
      case "drained":
        for (const drained of this.#draining.splice(0)) drained();
        break;
      case "sessions":
        this.#listing.shift()?.(message.sessions);
        break;
      case "deal":
        this.#others[message.thread]!.#post({
          kind: "dealt",
          request: message.request,
          peer: message.peer,
          listener: message.listener,
        });
        break;
    }
  }
}

/**
 * Sockets that share a port let in everybody who shares, a second server too, and each would get half of the clients.
 *
 * @throws {SystemError} When an address is taken.
 */
async function requireFree(binds: readonly Bind[]): Promise<void> {
  const host = await openDatagramHost({ driver: "fast", wait: "thread" });
  try {
    for (const { address, dualStack } of binds) {
      if (address.port !== 0) await host.open({ bind: address, dualStack });
    }
  } finally {
    await host.close();
  }
}

/** One thread's part of what is counted for the whole server. What is counted per client stays: its ports are spread. */
function shareOf(settings: ResolvedServerSettings, threads: number): ResolvedServerSettings {
  const { limits } = settings;
  const share = (whole: number): number => Math.ceil(whole / threads);
  return {
    ...settings,
    limits: {
      ...limits,
      maxTransfers: share(limits.maxTransfers),
      maxPendingAnswers: share(limits.maxPendingAnswers),
      maxRateBps: share(limits.maxRateBps),
    },
    write: { ...settings.write, maxTotalBytes: share(settings.write.maxTotalBytes) },
  };
}

/** Waits for the running transfers, but no longer than it was told to. */
async function drained(idle: Promise<unknown>, graceMs: number): Promise<void> {
  let timer: ReturnType<typeof setTimeout> | undefined;
  const patience = new Promise<void>((resolve) => timer = setTimeout(resolve, graceMs));
  await Promise.race([idle, patience]);
  clearTimeout(timer);
}

function logTransfer(record: TransferRecord): void {
  const durationMs = Math.round(record.durationMs * 10) / 10;
  const fields = { event: "tftp.transfer-finished", ...record, durationMs };
  if (record.outcome === "done") {
    log.info("{operation} {filename}: {bytes} bytes in {durationMs} ms", fields);
  } else if (record.outcome === "size-probe") {
    log.debug("{operation} {filename}: size asked for", fields);
  } else log.info("{operation} {filename}: {outcome} ({message})", fields);
}
