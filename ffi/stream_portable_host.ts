/**
 * Hosts and listeners of the portable stream drivers, over what a runtime offers.
 *
 * @module
 */
import { setImmediate } from "node:timers";
import { CapabilityError, type SystemError } from "../internal/errors.ts";
import { ADDRESS_BYTES, formatAddress, type SocketAddress, writeAddress } from "./address.ts";
import { fromRuntimeError } from "./errno.ts";
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
import { limitConnect, Waiting } from "./stream_pending.ts";
import {
  type PortableConnection,
  PortableConnection as Connection,
  PortableConstant,
  type PortableContext,
  type RuntimeSocket,
} from "./stream_portable.ts";

/** A listening socket of a runtime. */
export interface RuntimeListener {
  readonly local: SocketAddress;
  /**
   * Answers the next connection, `undefined` when it was closed. Rejects when the runtime could not accept one, for want
   * of descriptors.
   */
  accept(): Promise<RuntimeSocket | undefined>;
  close(): Promise<void>;
}

/** What a runtime offers. Addresses were checked. */
export interface StreamRuntime {
  readonly traits: StreamTraits;
  /** @throws {SystemError} */
  listen(options: ListenOptions): Promise<RuntimeListener>;
  /** Leaves nothing open when `signal` aborts. @throws {SystemError} @throws Whatever `signal.reason` is. */
  connect(options: ConnectOptions, signal: AbortSignal): Promise<RuntimeSocket>;
}

/** A host over a runtime. */
export class PortableStreamHost implements StreamHost {
  readonly traits: StreamTraits;
  readonly fallbackReason: string;
  readonly #runtime: StreamRuntime;
  readonly #context: PortableContext;
  readonly #connections = new Set<PortableConnection>();
  readonly #listeners = new Set<PortableListener>();
  readonly #closing = new AbortController();
  #closed: Promise<void> | undefined;

  /** @param fallbackReason Why no better driver was taken. */
  constructor(runtime: StreamRuntime, fallbackReason: string) {
    this.#runtime = runtime;
    this.traits = runtime.traits;
    this.fallbackReason = fallbackReason;
    this.#context = {
      traits: runtime.traits,
      dump: new Uint8Array(new ArrayBuffer(DUMP_BYTES)),
      gone: (connection) => this.#connections.delete(connection),
    };
  }

  get wakeDescriptor(): number {
    throw new TypeError('Cannot wake a thread: the host was not opened with wait "thread"');
  }

  async listen(options: ListenOptions): Promise<StreamListener> {
    this.#mustBeOpen("listen");
    checkAddress(options.bind);
    const { backlog = 1 } = options;
    if (!Number.isInteger(backlog) || backlog < 1) {
      throw new RangeError(`Cannot listen with backlog ${backlog}: expected a positive integer`);
    }
    const socket = await this.#runtime.listen(options);
    if (this.#closed !== undefined) {
      await socket.close();
      this.#mustBeOpen("listen");
    }
    const listener = new PortableListener(
      socket,
      (accepted) => {
        if (Object.keys(options).some((name) => CONFIGURED.has(name))) accepted.configure(options);
        return this.#connected(accepted);
      },
      () => this.#listeners.delete(listener),
    );
    this.#listeners.add(listener);
    return listener;
  }

  async connect(options: ConnectOptions): Promise<StreamConnection> {
    this.#mustBeOpen("connect");
    checkAddress(options.remote);
    if (options.bind !== undefined) {
      checkAddress(options.bind);
      if (!this.traits.bind) {
        const why = "this runtime does not let a program choose the local address";
        throw new CapabilityError("ffi.no-bind", `Cannot connect from an address: ${why}`, {
          capability: "bind",
          why,
          remedy: 'run with --allow-ffi on Linux, or use portable: "node"',
        });
      }
    }
    const limit = limitConnect(options);
    try {
      const signal = AbortSignal.any([limit.signal, this.#closing.signal]);
      signal.throwIfAborted();
      const socket = await this.#runtime.connect(options, signal);
      if (this.#closed !== undefined) {
        await socket.close(false);
        this.#mustBeOpen("connect");
      }
      socket.configure(options);
      return this.#connected(socket);
    } finally {
      limit.done();
    }
  }

  dial(options: DialOptions, done: (outcome: StreamConnection | SystemError) => void): () => void {
    this.#mustBeOpen("connect");
    checkAddress(options.remote);
    const controller = new AbortController();
    this.connect({ ...options, signal: controller.signal }).then(
      (connection) => {
        if (controller.signal.aborted) connection.close({ reset: true });
        else done(connection);
      },
      (error) => {
        // Closing the host ends attempts without a word.
        if (controller.signal.aborted || this.#closed !== undefined) return;
        done(fromRuntimeError(error, "connect", `connect to ${formatAddress(options.remote)}`));
      },
    );
    return () => controller.abort();
  }

  adopt(_descriptor: number): StreamConnection {
    throw new TypeError("Cannot adopt a connection: this driver has no descriptors");
  }

  createConstant(bytes: Uint8Array): ConstantBuffer {
    return new PortableConstant(bytes);
  }

  turn(_maxWaitMs: number): number {
    throw new TypeError('Cannot take a turn: the host was not opened with wait "thread"');
  }

  close(): Promise<void> {
    this.#closed ??= this.#shut();
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #shut(): Promise<void> {
    this.#closing.abort(new TypeError("Cannot connect: the host is closed"));
    await Promise.all([...this.#listeners].map((listener) => listener.close()));
    await Promise.all([...this.#connections].map((connection) => connection.close()));
  }

  #connected(socket: RuntimeSocket): PortableConnection {
    const connection = new Connection(this.#context, socket);
    this.#connections.add(connection);
    return connection;
  }

  #mustBeOpen(what: string): void {
    if (this.#closed !== undefined) throw new TypeError(`Cannot ${what}: the host is closed`);
  }
}

/** A listener over a runtime's. One connection at most is accepted before anybody asks for it. */
class PortableListener implements StreamListener {
  readonly local: SocketAddress;
  readonly #listener: RuntimeListener;
  readonly #connected: (socket: RuntimeSocket) => PortableConnection;
  readonly #gone: () => void;
  readonly #waiting = new Waiting<StreamConnection | undefined>();
  #accepted: RuntimeSocket | undefined;
  #accepting = false;
  #ready: (() => void) | undefined;
  #scheduled = false;
  #closing: Promise<void> | undefined;
  #refused = 0;

  constructor(
    listener: RuntimeListener,
    connected: (socket: RuntimeSocket) => PortableConnection,
    gone: () => void,
  ) {
    this.#listener = listener;
    this.#connected = connected;
    this.#gone = gone;
    this.local = listener.local;
  }

  get closed(): boolean {
    return this.#closing !== undefined;
  }

  get refused(): number {
    return this.#refused;
  }

  acceptNow(): StreamConnection | undefined {
    return this.#waiting.idle ? this.#take() : undefined;
  }

  accept(signal?: AbortSignal): StreamConnection | Promise<StreamConnection | undefined> {
    this.#waiting.mustBeIdle("accept");
    if (signal?.aborted) return Promise.reject(signal.reason);
    if (this.#closing !== undefined) return Promise.resolve(undefined);
    return this.#take() ?? this.#waiting.wait(() => this.#take(), signal);
  }

  watch(ready: (() => void) | undefined): void {
    this.#ready = ready;
    this.#goOn();
  }

  again(): void {
    this.#schedule();
  }

  close(): Promise<void> {
    this.#closing ??= this.#shut();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #shut(): Promise<void> {
    this.#ready = undefined;
    this.#waiting.settle(undefined);
    await this.#accepted?.close(false);
    this.#accepted = undefined;
    await this.#listener.close();
    this.#gone();
  }

  #take(): StreamConnection | undefined {
    const socket = this.#accepted;
    this.#accepted = undefined;
    if (socket !== undefined) return this.#connected(socket);
    this.#acceptAhead();
    return undefined;
  }

  #acceptAhead(): void {
    if (this.#accepting || this.#accepted !== undefined || this.#closing !== undefined) return;
    this.#accepting = true;
    this.#listener.accept().then((socket) => this.#came(socket), () => {
      this.#accepting = false;
      this.#refused++;
      // Want of descriptors passes when connections end, not at once.
      setTimeout(() => this.#goOn(), RETRY_MS);
    });
  }

  #came(socket: RuntimeSocket | undefined): void {
    this.#accepting = false;
    if (socket === undefined) return;
    if (this.#closing !== undefined) return void socket.close(false);
    this.#accepted = socket;
    this.#deliver();
  }

  readonly #turn = (): void => {
    this.#scheduled = false;
    this.#deliver();
  };

  #deliver(): void {
    if (this.#closing !== undefined) return;
    this.#waiting.serve();
    try {
      if (this.#accepted !== undefined) this.#ready?.();
    } finally {
      this.#goOn();
    }
  }

  #goOn(): void {
    if (this.#closing !== undefined) return;
    if (this.#ready === undefined && this.#waiting.idle) return;
    if (this.#accepted !== undefined && this.#ready !== undefined) this.#schedule();
    else this.#acceptAhead();
  }

  #schedule(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#turn);
  }
}

/** Refuses what is no address in the same words as the kernel's driver. */
function checkAddress(address: SocketAddress): void {
  writeAddress(new DataView(new ArrayBuffer(ADDRESS_BYTES)), 0, address);
}

/** What a listener's options can change of a connection here; the runtimes' own default is "no delay" already. */
const CONFIGURED: ReadonlySet<string> = new Set(["noDelay", "keepAliveMs"]);
const DUMP_BYTES = 262_144;
const RETRY_MS = 50;
