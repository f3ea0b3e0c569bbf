/**
 * TCP streams on `Deno.listen` and `Deno.connect`.
 *
 * @module
 */
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
export function openDenoHost(fallbackReason: string): StreamHost {
  return new PortableStreamHost({ traits: TRAITS, listen, connect }, fallbackReason);
}

const TRAITS: StreamTraits = Object.freeze({
  driver: "deno",
  discard: false,
  vectored: false,
  sendfile: false,
  detach: false,
  reusePort: false,
  bind: false,
  ipv6Only: false,
  reset: false,
  options: false,
  info: false,
  multipath: false,
});

function listen(options: ListenOptions): Promise<RuntimeListener> {
  const { bind, backlog } = options;
  let listener: Deno.TcpListener;
  try {
    listener = Deno.listen({
      hostname: hostname(bind),
      port: bind.port,
      ...(backlog === undefined ? {} : { tcpBacklog: backlog }),
    });
  } catch (error) {
    return Promise.reject(fromRuntimeError(error, "bind", `listen on ${formatAddress(bind)}`));
  }
  let closed = false;
  return Promise.resolve({
    local: addressOf(listener.addr),
    accept: async () => {
      for (;;) {
        try {
          return new DenoSocket(await listener.accept());
        } catch (error) {
          if (closed) return undefined;
          // The fate of one connection; the next may be well.
          if (error instanceof Deno.errors.ConnectionAborted) continue;
          throw error;
        }
      }
    },
    close: () => {
      if (!closed) {
        closed = true;
        listener.close();
      }
      return Promise.resolve();
    },
  });
}

async function connect(options: ConnectOptions, signal: AbortSignal): Promise<RuntimeSocket> {
  const { remote } = options;
  try {
    return new DenoSocket(
      await Deno.connect({ hostname: hostname(remote), port: remote.port, signal }),
    );
  } catch (error) {
    if (signal.aborted) throw signal.reason;
    throw fromRuntimeError(error, "connect", `connect to ${formatAddress(remote)}`);
  }
}

class DenoSocket implements RuntimeSocket {
  readonly local: SocketAddress;
  readonly remote: SocketAddress;
  readonly #connection: Deno.TcpConn;
  #closed = false;

  constructor(connection: Deno.TcpConn) {
    this.#connection = connection;
    this.local = addressOf(connection.localAddr);
    this.remote = addressOf(connection.remoteAddr);
    // The runtime does not say what its default is.
    this.configure({ noDelay: true });
  }

  async read(into: Uint8Array<ArrayBuffer>): Promise<number> {
    return await this.#connection.read(into) ?? 0;
  }

  write(from: Uint8Array<ArrayBuffer>): Promise<number> {
    return this.#connection.write(from);
  }

  end(): Promise<void> {
    return this.#connection.closeWrite();
  }

  configure(options: StreamOptions): void {
    try {
      if (options.noDelay !== undefined) this.#connection.setNoDelay(options.noDelay);
      if (options.keepAliveMs !== undefined) this.#connection.setKeepAlive(options.keepAliveMs > 0);
    } catch {
      // Gone already, which the next receive tells.
    }
  }

  close(): Promise<void> {
    if (!this.#closed) {
      this.#closed = true;
      this.#connection.close();
    }
    return Promise.resolve();
  }
}

function hostname(address: SocketAddress): string {
  const { scope } = address;
  return scope === undefined ? address.address : `${address.address}%${scope}`;
}

function addressOf(address: Deno.NetAddr): SocketAddress {
  const [host = "", zone] = address.hostname.split("%");
  const family = parseIpv4(host) >= 0 ? "ipv4" : "ipv6";
  const scope = Number(zone ?? 0);
  return Object.freeze({
    family,
    address: host,
    port: address.port,
    ...(scope > 0 ? { scope } : {}),
  });
}
