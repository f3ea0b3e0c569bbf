/**
 * TCP streams on `node:net`: every runtime, every system, no permission but the network's.
 *
 * @module
 */
import { connect as connectSocket, createServer, type Server, type Socket } from "node:net";
import { formatAddress, parseIpv4, type SocketAddress } from "./address.ts";
import { fromRuntimeError } from "./errno.ts";
import type {
  ConnectOptions,
  ListenOptions,
  StreamHost,
  StreamOptions,
  StreamTraits,
} from "./stream.ts";
import type { RuntimeSocket } from "./stream_portable.ts";
import { PortableStreamHost, type RuntimeListener } from "./stream_portable_host.ts";

/** Opens the host. @param fallbackReason Why no better driver was taken. */
export function openNodeHost(fallbackReason: string): StreamHost {
  return new PortableStreamHost({ traits: TRAITS, listen, connect }, fallbackReason);
}

const TRAITS: StreamTraits = Object.freeze({
  driver: "node",
  discard: false,
  vectored: false,
  sendfile: false,
  detach: false,
  reusePort: false,
  bind: true,
  // Deno 2.9 does not pass the option on.
  ipv6Only: !("Deno" in globalThis),
  reset: true,
  options: false,
  info: false,
  multipath: false,
});

function listen(options: ListenOptions): Promise<RuntimeListener> {
  const { bind, backlog } = options;
  return new Promise((resolve, reject) => {
    const server = createServer({ allowHalfOpen: true, pauseOnConnect: true, noDelay: true });
    const failed = (error: Error): void => {
      // Deno 2.9 says "invalid argument" of an address this machine does not have. What is no address was refused before.
      const { code } = error as { readonly code?: unknown };
      const told = code === "EINVAL"
        ? Object.assign(new Error(error.message, { cause: error }), { code: "EADDRNOTAVAIL" })
        : error;
      reject(fromRuntimeError(told, "bind", `listen on ${formatAddress(bind)}`));
    };
    server.once("error", failed);
    server.listen({
      host: bind.address,
      port: bind.port,
      ipv6Only: bind.family === "ipv6" && options.dualStack !== true,
      exclusive: true,
      ...(backlog === undefined ? {} : { backlog }),
    }, () => {
      server.off("error", failed);
      resolve(new NodeListener(server, bind));
    });
  });
}

class NodeListener implements RuntimeListener {
  readonly local: SocketAddress;
  readonly #server: Server;
  readonly #queue: NodeSocket[] = [];
  #next: ((socket: RuntimeSocket | undefined) => void) | undefined;
  #closed = false;

  constructor(server: Server, bind: SocketAddress) {
    this.#server = server;
    const bound = server.address();
    const port = typeof bound === "object" && bound !== null ? bound.port : bind.port;
    this.local = Object.freeze({ ...bind, port });
    server.on("connection", (socket) => {
      const accepted = new NodeSocket(socket);
      const next = this.#next;
      this.#next = undefined;
      if (next !== undefined) next(accepted);
      // The runtime accepts on its own; what nobody takes must not fill the memory.
      else if (this.#queue.length < QUEUE_CONNECTIONS) this.#queue.push(accepted);
      else accepted.close(true);
    });
    // Want of descriptors: the runtime goes on by itself.
    server.on("error", () => {});
  }

  accept(): Promise<RuntimeSocket | undefined> {
    if (this.#closed) return Promise.resolve(undefined);
    const socket = this.#queue.shift();
    if (socket !== undefined) return Promise.resolve(socket);
    return new Promise((resolve) => this.#next = resolve);
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    this.#next?.(undefined);
    for (const socket of this.#queue.splice(0)) await socket.close(false);
    // Its callback waits for connections that were accepted as well: they are not the listener's.
    this.#server.close();
  }
}

function connect(options: ConnectOptions, signal: AbortSignal): Promise<RuntimeSocket> {
  const { remote, bind } = options;
  return new Promise((resolve, reject) => {
    const socket = connectSocket({
      host: remote.address,
      port: remote.port,
      allowHalfOpen: true,
      noDelay: true,
      ...(bind === undefined ? {} : { localAddress: bind.address }),
      ...(bind === undefined || bind.port === 0 ? {} : { localPort: bind.port }),
    });
    const onAbort = (): void => {
      socket.destroy();
      reject(signal.reason);
    };
    const failed = (error: Error): void => {
      signal.removeEventListener("abort", onAbort);
      reject(fromRuntimeError(error, "connect", `connect to ${formatAddress(remote)}`));
    };
    signal.addEventListener("abort", onAbort, { once: true });
    socket.once("error", failed);
    socket.once("connect", () => {
      signal.removeEventListener("abort", onAbort);
      socket.off("error", failed);
      resolve(new NodeSocket(socket));
    });
  });
}

class NodeSocket implements RuntimeSocket {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  readonly #socket: Socket;
  /** What the runtime has read that nobody asked for yet; it is paused, and a few chunks may come nevertheless. */
  readonly #chunks: Uint8Array[] = [];
  #over = false;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;
  #gone: Promise<void>;

  constructor(socket: Socket) {
    this.#socket = socket;
    this.local = addressOf(socket.localAddress, socket.localPort);
    this.remote = addressOf(socket.remoteAddress, socket.remotePort);
    // Paused before anybody listens, or the first chunk would be lost or the rest would follow it.
    socket.pause();
    socket.on("data", (chunk: Uint8Array) => {
      this.#chunks.push(chunk);
      socket.pause();
      this.#woken();
    });
    socket.on("end", () => this.#ended());
    socket.on("error", (error) => {
      this.#failure ??= error;
      this.#ended();
    });
    this.#gone = new Promise((resolve) => {
      socket.once("close", () => {
        this.#ended();
        resolve();
      });
    });
  }

  async read(into: Uint8Array<ArrayBuffer>): Promise<number> {
    while (this.#chunks.length === 0) {
      if (this.#failure !== undefined) throw this.#failure;
      if (this.#over) return 0;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
        this.#socket.resume();
      });
    }
    const chunk = this.#chunks[0]!;
    const count = Math.min(chunk.length, into.length);
    into.set(chunk.subarray(0, count));
    if (count === chunk.length) this.#chunks.shift();
    else this.#chunks[0] = chunk.subarray(count);
    return count;
  }

  write(from: Uint8Array<ArrayBuffer>): Promise<number> {
    return new Promise((resolve, reject) => {
      if (this.#failure !== undefined) return reject(this.#failure);
      const socket = this.#socket;
      // A write that the end of the connection overtakes is not always called back.
      const onClose = (): void => reject(this.#failure ?? new Error("the socket is closed"));
      if (socket.destroyed) return onClose();
      socket.once("close", onClose);
      socket.write(from, (error) => {
        socket.off("close", onClose);
        if (error === undefined || error === null) resolve(from.length);
        else reject(error);
      });
    });
  }

  end(): Promise<void> {
    this.#socket.end();
    return Promise.resolve();
  }

  configure(options: StreamOptions): void {
    const { noDelay, keepAliveMs } = options;
    if (noDelay !== undefined) this.#socket.setNoDelay(noDelay);
    if (keepAliveMs !== undefined) this.#socket.setKeepAlive(keepAliveMs > 0, keepAliveMs);
  }

  close(reset: boolean): Promise<void> {
    if (!this.#socket.destroyed) {
      if (reset) this.#socket.resetAndDestroy();
      else this.#socket.destroy();
    }
    this.#chunks.length = 0;
    return this.#gone;
  }

  #ended(): void {
    this.#over = true;
    this.#woken();
  }

  #woken(): void {
    const wake = this.#wake;
    this.#wake = undefined;
    wake?.();
  }
}

/** The address of a socket; of one that is gone already, none. */
function addressOf(text: string | undefined, port: number | undefined): SocketAddress {
  const [host = "", zone] = (text ?? "0.0.0.0").split("%");
  const scope = Number(zone ?? 0);
  return Object.freeze({
    family: parseIpv4(host) >= 0 ? "ipv4" : "ipv6",
    address: host,
    port: port ?? 0,
    ...(scope > 0 ? { scope } : {}),
  });
}

/** Connections that wait to be taken; what comes on top is reset. */
const QUEUE_CONNECTIONS = 1024;
