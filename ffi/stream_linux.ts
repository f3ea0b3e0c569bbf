/**
 * TCP streams through the C library: the host, and connecting.
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  AF_INET,
  AF_INET6,
  formatAddress,
  type SocketAddress,
  writeAddress,
} from "./address.ts";
import {
  F_GETFL,
  F_SETFL,
  IPPROTO_TCP,
  O_NONBLOCK,
  SO_ERROR,
  SOCK_STREAM,
  SOL_SOCKET,
  TCP_NODELAY,
} from "./constants_linux.ts";
import { EINPROGRESS, EOPNOTSUPP, systemError } from "./errno.ts";
import { type Libc, requireLibc } from "./libc_linux.ts";
import type { Reactor } from "./reactor.ts";
import type { ReactorChoice } from "./shared_loop.ts";
import { chooseReactor } from "./shared_loop_linux.ts";
import { SocketOptions } from "./sockopt_linux.ts";
import { SystemError } from "../internal/errors.ts";
import type {
  ConnectOptions,
  ConstantBuffer,
  DialOptions,
  ListenOptions,
  StreamConnection,
  StreamHost,
  StreamListener,
  StreamTraits,
} from "./stream.ts";
import { LinuxStreamConnection, type StreamContext } from "./stream_connection_linux.ts";
import { LinuxStreamListener, SocketNames } from "./stream_listener_linux.ts";
import {
  configureSocket,
  hasMultipath,
  NEW_SOCKET,
  openStreamSocket,
  prepareConnect,
} from "./stream_options_linux.ts";
import { limitConnect } from "./stream_pending.ts";
import { LinuxConstant, StreamVector } from "./stream_vector_linux.ts";
import { ThreadLoop } from "./thread_loop_linux.ts";

/**
 * Opens a host of the kernel's driver.
 *
 * @param wait How its streams wait.
 * @param reactor Which readiness bridge `events` uses.
 * @throws {CapabilityError} Without a C library, or without io_uring where it was demanded.
 * @throws {SystemError} When the process has no descriptors left.
 */
export async function openLinuxHost(
  wait: "events" | "thread",
  reactor: ReactorChoice,
): Promise<StreamHost> {
  const library = requireLibc();
  if (wait === "events") {
    const { reactor: own, shared } = await chooseReactor(reactor);
    return new LinuxStreamHost(library, own, shared, shared === undefined ? "events" : "shared");
  }
  const loop = new ThreadLoop();
  return new LinuxStreamHost(library, loop, loop, "thread");
}

/** A host of the kernel's driver. */
export class LinuxStreamHost implements StreamHost {
  readonly traits: StreamTraits;
  readonly fallbackReason = "";
  readonly #library: Libc;
  readonly #context: StreamContext;
  readonly #loop: ThreadLoop | undefined;
  readonly #wait: "events" | "thread" | "shared";
  readonly #connections = new Set<LinuxStreamConnection>();
  readonly #listeners = new Set<LinuxStreamListener>();
  readonly #constants = new Set<LinuxConstant>();
  // Written by calls that are over when they return: memory made for each would cost more than they do.
  readonly #sockaddr = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  readonly #value = new Int32Array(new ArrayBuffer(4));
  readonly #length = new Uint32Array(new ArrayBuffer(4));
  /** Attempts to connect, and how to end them. */
  readonly #attempts = new Set<() => void>();
  #closed = false;

  constructor(
    library: Libc,
    reactor: Reactor,
    loop: ThreadLoop | undefined,
    wait: "events" | "thread" | "shared",
  ) {
    this.#library = library;
    this.#loop = loop;
    this.#wait = wait;
    this.traits = Object.freeze({
      driver: "linux",
      discard: true,
      vectored: true,
      sendfile: library.memfd_create !== null,
      detach: true,
      reusePort: true,
      bind: true,
      ipv6Only: true,
      reset: true,
      options: true,
      info: true,
      multipath: hasMultipath(library),
    });
    this.#context = {
      library,
      reactor,
      vector: new StreamVector(library),
      names: new SocketNames(library),
      traits: this.traits,
      came: (connection) => this.#connections.add(connection),
      gone: (connection) => this.#connections.delete(connection),
    };
  }

  /** The loop that the host's descriptors are entered in; `undefined` when there is none. For relays. @ignore */
  get loop(): ThreadLoop | undefined {
    return this.#loop;
  }

  /** How its streams wait. For relays. @ignore */
  get reactor(): Reactor {
    return this.#context.reactor;
  }

  get wakeDescriptor(): number {
    return this.#ownLoop().wakeDescriptor;
  }

  listen(options: ListenOptions): StreamListener {
    this.#mustBeOpen("listen");
    const gone = (listener: LinuxStreamListener): void => void this.#listeners.delete(listener);
    const listener = new LinuxStreamListener(this.#context, options, gone);
    this.#listeners.add(listener);
    return listener;
  }

  async connect(options: ConnectOptions): Promise<StreamConnection> {
    this.#mustBeOpen("connect");
    const limit = limitConnect(options);
    try {
      limit.signal.throwIfAborted();
      const fd = this.#start(options);
      try {
        const errno = await this.#outcome(fd, limit.signal);
        if (errno !== 0) throw systemError("connect", errno, connectTo(options.remote));
        this.#mustBeOpen("connect");
      } catch (error) {
        this.#library.close(fd);
        throw error;
      }
      return this.#connection(fd, options.remote);
    } finally {
      limit.done();
    }
  }

  dial(options: DialOptions, done: (outcome: StreamConnection | SystemError) => void): () => void {
    this.#mustBeOpen("connect");
    let fd: number;
    try {
      fd = this.#start(options);
    } catch (error) {
      if (!(error instanceof SystemError)) throw error;
      done(error);
      return nothing;
    }
    const library = this.#library;
    const watch = this.#context.reactor.watch(fd, "write", () => {
      this.#attempts.delete(end);
      watch.cancel();
      this.#length[0] = 4;
      library.getsockopt(fd, SOL_SOCKET, SO_ERROR, this.#value, this.#length);
      const errno = this.#value[0]!;
      if (errno !== 0) {
        library.close(fd);
        return done(systemError("connect", errno, connectTo(options.remote)));
      }
      done(this.#connection(fd, options.remote));
    });
    const end = (): void => {
      if (!this.#attempts.delete(end)) return;
      watch.cancel();
      library.close(fd);
    };
    this.#attempts.add(end);
    return end;
  }

  adopt(descriptor: number): StreamConnection {
    this.#mustBeOpen("adopt a connection");
    const library = this.#library;
    const socket = new SocketOptions(library, descriptor);
    if (socket.get("type") !== SOCK_STREAM || !FAMILIES.has(socket.get("domain"))) {
      throw systemError("getsockopt", EOPNOTSUPP, `adopt descriptor ${descriptor}`);
    }
    const flags = library.fcntl(descriptor, F_GETFL, 0);
    library.fcntl(descriptor, F_SETFL, flags | O_NONBLOCK);
    return this.#connection(descriptor);
  }

  createConstant(
    bytes: Uint8Array,
    options: { readonly sendfile?: boolean } = {},
  ): ConstantBuffer {
    const sendfile = options.sendfile === true && this.traits.sendfile;
    const constant = new LinuxConstant(this.#library, bytes, sendfile);
    this.#constants.add(constant);
    return constant;
  }

  turn(maxWaitMs: number): number {
    return this.#ownLoop().turn(maxWaitMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const end of [...this.#attempts]) end();
    for (const listener of [...this.#listeners]) await listener.close();
    for (const connection of [...this.#connections]) await connection.close();
    for (const constant of this.#constants) constant.close();
    this.#constants.clear();
    if (this.#wait !== "shared") await this.#context.reactor.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** @param remote The other side where it is known: one that was not spoken to yet cannot be asked for. */
  #connection(fd: number, remote?: SocketAddress): LinuxStreamConnection {
    const { names } = this.#context;
    return new LinuxStreamConnection(
      this.#context,
      fd,
      names.local(fd),
      remote ?? names.remote(fd),
    );
  }

  /** Makes the socket and begins. @returns The descriptor. */
  #start(options: DialOptions): number {
    const library = this.#library;
    const { remote, bind } = options;
    const sockaddr = this.#sockaddr;
    const remoteBytes = writeAddress(sockaddr, 0, remote);
    const fd = openStreamSocket(library, remote.family, options.multipath === true);
    if (fd < 0) throw systemError("socket", library.errno(), connectTo(remote));
    try {
      if (CONFIGURED.some((name) => options[name] !== undefined)) {
        configureSocket(library, fd, { ...NEW_SOCKET, ...options });
        if (options.fastOpen === true || options.reuseAddress === true) {
          prepareConnect(library, fd, options);
        }
      } else {
        // NEW_SOCKET, for many connections a second.
        this.#value[0] = 1;
        library.setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, this.#value, 4);
      }
      if (bind !== undefined) {
        const from = new DataView(new ArrayBuffer(ADDRESS_BYTES));
        if (library.bind(fd, from, writeAddress(from, 0, bind)) < 0) {
          throw systemError("bind", library.errno(), `bind to ${formatAddress(bind)}`);
        }
      }
      if (library.connect(fd, sockaddr, remoteBytes) < 0) {
        const errno = library.errno();
        if (errno !== EINPROGRESS) throw systemError("connect", errno, connectTo(remote));
      }
      return fd;
    } catch (error) {
      library.close(fd);
      throw error;
    }
  }

  /** Waits until it is connected or not. @returns 0, or the error number. Rejects when aborted. */
  async #outcome(fd: number, signal: AbortSignal): Promise<number> {
    const { reactor } = this.#context;
    let end!: () => void;
    let onAbort!: () => void;
    const ready = new Promise<void>((resolve, reject) => {
      end = resolve;
      onAbort = () => reject(signal.reason);
    });
    signal.addEventListener("abort", onAbort, { once: true });
    const watch = reactor.watch(fd, "write", end);
    this.#attempts.add(end);
    try {
      await ready;
      return new SocketOptions(this.#library, fd).get("error");
    } finally {
      watch.cancel();
      this.#attempts.delete(end);
      signal.removeEventListener("abort", onAbort);
    }
  }

  #ownLoop(): ThreadLoop {
    if (this.#loop === undefined || this.#wait !== "thread") {
      throw new TypeError('Cannot take a turn: the host was not opened with wait "thread"');
    }
    return this.#loop;
  }

  #mustBeOpen(what: string): void {
    if (this.#closed) throw new TypeError(`Cannot ${what}: the host is closed`);
  }
}

function nothing(): void {}

function connectTo(remote: SocketAddress): string {
  return `connect to ${formatAddress(remote)}`;
}

/** Every option of a connection. */
const CONFIGURED: readonly (keyof DialOptions)[] = [
  "noDelay",
  "keepAliveMs",
  "keepAliveIntervalMs",
  "receiveBufferBytes",
  "sendBufferBytes",
  "receiveLowWaterBytes",
  "pacingBytesPerSecond",
  "userTimeoutMs",
  "mark",
  "device",
  "fastOpen",
  "multipath",
  "reuseAddress",
];
const FAMILIES: ReadonlySet<number> = new Set([AF_INET, AF_INET6]);
