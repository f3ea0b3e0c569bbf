/**
 * The outbound `direct`: connects to the destination itself.
 *
 * @module
 */

import {
  type DatagramHost,
  type DatagramOptions,
  literalAddress,
  type SocketAddress,
} from "../../ffi/mod.ts";
import type { DialConfig, DirectOutboundConfig, Network } from "../config_types.ts";
import { connectAny, type ConnectSettings } from "../dial.ts";
import type { Duplex } from "../duplex.ts";
import { ExpiringSet } from "../handshakes.ts";
import type { LoopGuard } from "../loop_guard.ts";
import type { DialOptions, Outbound, OutboundContext } from "../outbound.ts";
import type { PacketConnection, PacketReceiver } from "../packets.ts";
import type { Endpoint } from "../protocol/mod.ts";
import {
  datagramSettings,
  type SocketConfig,
  streamSettings,
  warnIgnored,
} from "../socket_settings.ts";
import { PacketSocket } from "../udp_socket.ts";
import { RejectedError } from "../replies.ts";
import { logger, onceThenSummarise } from "../../internal/log.ts";

/** Connects to destinations by the system's own sockets. */
export class DirectOutbound implements Outbound {
  readonly type = "direct";
  readonly tag: string;
  readonly networks: readonly Network[] = ["tcp", "udp"];
  readonly #dial: DialConfig;
  readonly #context: OutboundContext;
  readonly #settings: ConnectSettings;
  /** The same for a connection that is sent to at once. */
  readonly #early: ConnectSettings;
  readonly #packets: Omit<DatagramOptions, "bind">;

  /** @param config Its tag, and how connections are made. */
  constructor(config: Pick<DirectOutboundConfig, "tag" | "dial">, context: OutboundContext) {
    this.tag = config.tag;
    this.#dial = config.dial;
    this.#context = context;
    const sockets = socketConfig(config.dial, context);
    this.#early = connectSettings(config.dial, sockets, context);
    // Without something to send the peer would never be told that somebody connected.
    const { fastOpen: _fastOpen, ...options } = this.#early.options;
    this.#settings = { ...this.#early, options };
    this.#packets = datagramSettings(sockets);
    if (config.dial.detour === undefined) warn(config, sockets, context);
  }

  async dial(destination: Endpoint, options: DialOptions = {}): Promise<Duplex> {
    options.chain?.push(this.tag);
    const { detour } = this.#dial;
    if (detour !== undefined) {
      return await this.#context.outbound(detour).dial(destination, options);
    }
    const { host, port } = destination;
    const { metadata } = options;
    const addresses = literalAddress(host, port) !== undefined
      ? [host]
      : metadata?.resolved !== undefined && metadata.destination === destination
      ? metadata.resolved
      : await this.#resolve(host, options);
    const { streams, loops } = this.#context;
    const isReturn = addresses.some((address) => loops.isOwn("tcp", { host: address, port }));
    const depth = isReturn ? await loops.depthOf(metadata?.source) : 0;
    const stream = await connectAny(
      streams,
      addresses,
      port,
      options.early === true ? this.#early : this.#settings,
      options.signal,
    );
    if (isReturn) loops.returned(stream.local, depth + 1);
    loops.dialled(stream.local, stream.remote);
    return stream;
  }

  openPackets(options: DialOptions = {}): Promise<PacketConnection> {
    return this.openPacketsTo(options.metadata?.destination, options);
  }

  /** The same when it is known that somebody else is sent to than the client wants, or nobody knows who. */
  async openPacketsTo(
    destination: Endpoint | undefined,
    options: DialOptions,
  ): Promise<PacketConnection> {
    options.chain?.push(this.tag);
    const { detour } = this.#dial;
    if (detour !== undefined) {
      const through = this.#context.outbound(detour);
      if (through.openPackets !== undefined) return await through.openPackets(options);
      throw new RejectedError(`Cannot send datagrams: outbound "${detour}" takes none`);
    }
    const host = await this.#context.datagrams();
    const socket = options.udpConnect === true && destination !== undefined
      ? await this.#openTo(host, destination, options)
      : await this.#openAny(host, destination);
    const { leave, mayReturn } = this.#context.loops.sends(
      socket.local.port,
      options.metadata?.source,
    );
    const loops = mayReturn ? undefined : this.#context.loops;
    const packets = new DirectPackets(
      socket,
      leave,
      loops,
      (name) => this.#resolve(name, options),
    );
    packets.keepsAddresses = options.keepAddresses === true;
    return packets;
  }

  /** A socket that sends anywhere its addresses allow. */
  async #openAny(host: DatagramHost, destination: Endpoint | undefined): Promise<PacketSocket> {
    const { bind4, bind6 } = this.#settings;
    const wants6 = destination?.host.includes(":") === true;
    if (bind4 !== undefined && (bind6 === undefined || !wants6)) {
      return await PacketSocket.open(host, bind4, this.#packets);
    }
    // A host without IPv6 has no such socket.
    return await PacketSocket.open(host, bind6 ?? ANY6, this.#packets)
      .catch(() => PacketSocket.open(host, ANY4, this.#packets));
  }

  /** A socket that only the destination can send to. */
  async #openTo(
    host: DatagramHost,
    destination: Endpoint,
    options: DialOptions,
  ): Promise<PacketSocket> {
    const { host: name, port } = destination;
    const [address] = literalAddress(name, port) === undefined
      ? await this.#resolve(name, options)
      : [name];
    const remote = literalAddress(address!, port)!;
    const bind = remote.family === "ipv4"
      ? this.#settings.bind4 ?? ANY4
      : this.#settings.bind6 ?? ANY6;
    return await PacketSocket.open(host, bind, { ...this.#packets, remote });
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

/** What sockets are told, with what holds where an outbound says nothing. */
function socketConfig(dial: DialConfig, context: OutboundContext): SocketConfig {
  return {
    ...dial,
    routingMark: dial.routingMark === 0 ? context.defaultMark : dial.routingMark,
    bindInterface: dial.bindInterface ?? context.defaultInterface,
  };
}

function warn(
  { tag, dial }: Pick<DirectOutboundConfig, "tag" | "dial">,
  sockets: SocketConfig,
  { streams }: OutboundContext,
): void {
  warnIgnored(tag, sockets, streams.traits);
  const bound = [
    ...(dial.inet4BindAddress === undefined ? [] : ["inet4_bind_address"]),
    ...(dial.inet6BindAddress === undefined ? [] : ["inet6_bind_address"]),
  ];
  if (bound.length === 0 || streams.traits.bind) return;
  logger("proxy", "sockets").warning(
    "{tag}: refuses every TCP connection: the driver {driver} cannot set {options}; " +
      "on Linux, run with --allow-ffi",
    { tag, driver: streams.traits.driver, options: bound.join(", ") },
  );
}

/** What a configuration says about connecting. */
function connectSettings(
  dial: DialConfig,
  sockets: SocketConfig,
  context: OutboundContext,
): ConnectSettings {
  return {
    options: {
      ...streamSettings(sockets),
      ...(sockets.reuseAddr ? { reuseAddress: true } : {}),
    },
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
  /** Answers are from the address, not from the name that was asked. */
  keepsAddresses = false;
  readonly #socket: PacketSocket;
  readonly #resolve: (name: string) => Promise<readonly string[]>;
  /** Addresses of names, by the name's text; while it is being resolved, what waits. */
  readonly #names = new Map<string, Endpoint | Pending[] | undefined>();
  /** Names of addresses, so that answers come from whom was asked. */
  readonly #reverse = new Map<string, Endpoint>();
  readonly #unreachable: () => void;
  /** `undefined` where it may send to the proxy itself. */
  readonly #loops: LoopGuard | undefined;
  /** Says that nothing goes out from its port any more. */
  readonly #leave: () => void;
  #receiver: PacketReceiver | undefined;

  constructor(
    socket: PacketSocket,
    leave: () => void,
    loops: LoopGuard | undefined,
    resolve: (name: string) => Promise<readonly string[]>,
  ) {
    this.#socket = socket;
    this.#resolve = resolve;
    this.#loops = loops;
    this.#leave = leave;
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
    // To itself it would go round for ever, in a socket more each time.
    if (this.#loops?.isOwn("udp", to) === true) return this.#unreachable();
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
    this.#leave();
    this.#socket.close();
  }

  readonly #received: PacketReceiver = (bytes, start, end, from) => {
    const name = this.keepsAddresses || this.#reverse.size === 0
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
      const answer = address === undefined ? undefined : { host: address, port: to.port };
      const found = answer !== undefined && this.#loops?.isOwn("udp", answer) === true
        ? undefined
        : answer;
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
/** Both families, see `PacketSocket.open`. */
const ANY6: SocketAddress = Object.freeze({ family: "ipv6", address: "::", port: 0 });
const MOST_NAMES = 1024;
const MOST_WAITING = 8;
