/**
 * The outbound `direct`: connects to the destination itself.
 *
 * @module
 */

import { literalAddress, type SocketAddress, type StreamOptions } from "../../ffi/mod.ts";
import type { DialConfig, DirectOutboundConfig, Network } from "../config_types.ts";
import { connectAny, type ConnectSettings } from "../dial.ts";
import type { Duplex } from "../duplex.ts";
import { ExpiringSet } from "../handshakes.ts";
import type { DialOptions, Outbound, OutboundContext } from "../outbound.ts";
import type { PacketConnection, PacketReceiver } from "../packets.ts";
import type { Endpoint } from "../protocol/mod.ts";
import { PacketSocket } from "../udp_socket.ts";
import { logger, onceThenSummarise } from "../../internal/log.ts";

/** Connects to destinations by the system's own sockets. */
export class DirectOutbound implements Outbound {
  readonly type = "direct";
  readonly tag: string;
  readonly networks: readonly Network[] = ["tcp", "udp"];
  readonly #dial: DialConfig;
  readonly #context: OutboundContext;
  readonly #settings: ConnectSettings;

  /** @param config Its tag, and how connections are made. */
  constructor(config: Pick<DirectOutboundConfig, "tag" | "dial">, context: OutboundContext) {
    this.tag = config.tag;
    this.#dial = config.dial;
    this.#context = context;
    this.#settings = connectSettings(config.dial, context);
  }

  async dial(destination: Endpoint, options: DialOptions = {}): Promise<Duplex> {
    options.chain?.push(this.tag);
    const { host, port } = destination;
    const { metadata } = options;
    const addresses = literalAddress(host, port) !== undefined
      ? [host]
      : metadata?.resolved !== undefined && metadata.destination === destination
      ? metadata.resolved
      : await this.#resolve(host, options);
    return await connectAny(
      this.#context.streams,
      addresses,
      port,
      this.#settings,
      options.signal,
    );
  }

  async openPackets(options: DialOptions = {}): Promise<PacketConnection> {
    options.chain?.push(this.tag);
    const host = await this.#context.datagrams();
    const { bind4, bind6 } = this.#settings;
    let socket: PacketSocket;
    if (bind4 !== undefined && bind6 === undefined) socket = await PacketSocket.open(host, bind4);
    else {
      // A host without IPv6 has no such socket.
      socket = await PacketSocket.open(host, bind6 ?? ANY6)
        .catch(() => PacketSocket.open(host, ANY4));
    }
    return new DirectPackets(socket, (name) => this.#resolve(name, options));
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  #resolve(host: string, options: DialOptions): Promise<readonly string[]> {
    const resolver = this.#dial.domainResolver;
    return this.#context.resolver.resolve(host, {
      server: resolver?.server,
      strategy: resolver?.strategy,
      disableCache: resolver?.disableCache ?? false,
      rewriteTtl: resolver?.rewriteTtl,
      clientSubnet: resolver?.clientSubnet,
      outbound: this.tag,
      metadata: options.metadata,
      signal: options.signal,
    });
  }
}

/** How connections are made when nothing is configured; the defaults of `DialConfig`'s fields. */
export const PLAIN_DIAL: DialConfig = Object.freeze({
  detour: undefined,
  bindInterface: undefined,
  inet4BindAddress: undefined,
  inet6BindAddress: undefined,
  routingMark: 0,
  reuseAddr: false,
  connectTimeoutMs: 5000,
  tcpFastOpen: false,
  tcpMultiPath: false,
  disableTcpKeepAlive: false,
  tcpKeepAliveMs: 300_000,
  tcpKeepAliveIntervalMs: 75_000,
  udpFragment: undefined,
  domainResolver: undefined,
  fallbackDelayMs: 300,
});

/** What a configuration says about connecting. */
export function connectSettings(dial: DialConfig, context: OutboundContext): ConnectSettings {
  const mark = dial.routingMark === 0 ? context.defaultMark : dial.routingMark;
  const device = dial.bindInterface ?? context.defaultInterface;
  const options: StreamOptions = {
    keepAliveMs: dial.disableTcpKeepAlive ? 0 : dial.tcpKeepAliveMs,
    ...(mark === 0 ? {} : { mark }),
    ...(device === undefined ? {} : { device }),
  };
  return {
    options,
    bind4: dial.inet4BindAddress === undefined
      ? undefined
      : literalAddress(dial.inet4BindAddress, 0),
    bind6: dial.inet6BindAddress === undefined
      ? undefined
      : literalAddress(dial.inet6BindAddress, 0),
    timeoutMs: dial.connectTimeoutMs,
    deadlines: new ExpiringSet(dial.connectTimeoutMs, context.clock),
    fallbackDelayMs: dial.fallbackDelayMs,
  };
}

/** A datagram for a name that is being resolved. */
interface Pending {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly name: Endpoint;
}

/** A socket, and the names that were sent to. */
class DirectPackets implements PacketConnection {
  readonly #socket: PacketSocket;
  readonly #resolve: (name: string) => Promise<readonly string[]>;
  /** Addresses of names, by the name's text; while it is being resolved, what waits. */
  readonly #names = new Map<string, Endpoint | Pending[] | undefined>();
  /** Names of addresses, so that answers come from whom was asked. */
  readonly #reverse = new Map<string, Endpoint>();
  readonly #unreachable: () => void;
  #receiver: PacketReceiver | undefined;

  constructor(socket: PacketSocket, resolve: (name: string) => Promise<readonly string[]>) {
    this.#socket = socket;
    this.#resolve = resolve;
    this.#unreachable = onceThenSummarise(
      { now: () => performance.now() },
      (times) =>
        logger("proxy", "direct").info("{times} datagrams had no address to go to", { times }),
    );
  }

  get closed(): boolean {
    return this.#socket.closed;
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number, to: Endpoint): void {
    if (this.#socket.send(bytes, start, end, to)) return;
    if (literalAddress(to.host, to.port) !== undefined) return this.#unreachable();
    const key = `${to.host} ${to.port}`;
    const known = this.#names.get(key);
    if (known === undefined) {
      if (this.#names.has(key) || this.#names.size >= MOST_NAMES) return this.#unreachable();
      this.#names.set(key, [{ bytes: bytes.slice(start, end), name: to }]);
      this.#look(key, to).catch(() => this.#unreachable());
    } else if (!Array.isArray(known)) this.#socket.send(bytes, start, end, known);
    else if (known.length < MOST_WAITING) known.push({ bytes: bytes.slice(start, end), name: to });
  }

  watch(receiver: PacketReceiver | undefined): void {
    this.#receiver = receiver;
    this.#socket.watch(receiver === undefined ? undefined : this.#received);
  }

  close(): void {
    this.#socket.close();
  }

  readonly #received: PacketReceiver = (bytes, start, end, from) => {
    const name = this.#reverse.size === 0
      ? undefined
      : this.#reverse.get(`${from.host} ${from.port}`);
    this.#receiver?.(bytes, start, end, name ?? from);
  };

  async #look(key: string, to: Endpoint): Promise<void> {
    let address: string | undefined;
    try {
      [address] = await this.#resolve(to.host);
    } finally {
      // A name that is not known is not asked for again, for as long as the association lasts.
      const waiting = this.#names.get(key);
      const found = address === undefined ? undefined : { host: address, port: to.port };
      this.#names.set(key, found);
      if (found !== undefined) {
        this.#reverse.set(`${found.host} ${found.port}`, to);
        if (Array.isArray(waiting)) {
          for (const { bytes } of waiting) this.#socket.send(bytes, 0, bytes.length, found);
        }
      }
    }
  }
}

const ANY4: SocketAddress = Object.freeze({ family: "ipv4", address: "0.0.0.0", port: 0 });
const ANY6: SocketAddress = Object.freeze({ family: "ipv6", address: "::", port: 0 });
const MOST_NAMES = 1024;
const MOST_WAITING = 8;
