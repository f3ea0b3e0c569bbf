/**
 * The inbound `shadowsocks`, of 2017 and 2022: streams and datagrams on one port.
 *
 * Whoever does not have the key learns nothing: a stream that is wrong, repeated or too short is read and thrown away
 * until its client leaves or the time of handshakes is over, whatever was wrong with it.
 *
 * @module
 */

import {
  type AeadProvider,
  type SocketAddress,
  STREAM_END,
  type StreamConnection,
  WOULD_BLOCK,
} from "../../ffi/mod.ts";
import type { Network, ShadowsocksInboundConfig } from "../config_types.ts";
import type { Expiring, ExpiringSet } from "../handshakes.ts";
import type { InboundContext, PacketFlow } from "../inbound.ts";
import {
  createShadowsocksPacketServer,
  createShadowsocksServer,
  type Endpoint,
  EndpointCache,
  resolveShadowsocksProfile,
  SaltFilter,
  type ShadowsocksPacketServer,
  type ShadowsocksPacketSession,
  type ShadowsocksServerOptions,
  type ShadowsocksServerStream,
  ShadowsocksUserTable,
} from "../protocol/mod.ts";
import { giveBuffer, takeBuffer } from "../shadowsocks_buffers.ts";
import { ShadowsocksDuplex } from "../shadowsocks_stream.ts";
import { shadowsocksTools } from "../shadowsocks_tools.ts";
import type { PacketSocket } from "../udp_socket.ts";
import { StreamInbound } from "./listening.ts";
import { sourceOf } from "./plain.ts";
import { endpointAddress } from "./source_flows.ts";

/** A Shadowsocks server. */
export class ShadowsocksInbound extends StreamInbound {
  readonly type = "shadowsocks";
  override readonly networks: readonly Network[];
  readonly #config: ShadowsocksInboundConfig;
  readonly #options: ShadowsocksServerOptions;
  #aeads: AeadProvider | undefined;
  #packets: ShadowsocksPackets | undefined;

  /** @param config Its configuration. */
  constructor(config: ShadowsocksInboundConfig, context: InboundContext) {
    super(config.tag, config.listen, context);
    this.networks = config.networks;
    this.#config = config;
    const profile = resolveShadowsocksProfile(config.method, config.password);
    const salts = new SaltFilter({
      whenFull: profile.method.edition === 2022 ? "refuse" : "rotate",
    });
    this.#options = config.users.length === 0
      ? { profile, salts }
      : { profile, salts, users: new ShadowsocksUserTable(config.method, config.users) };
  }

  override get addresses(): readonly SocketAddress[] {
    const streams = super.addresses;
    return streams.length > 0 || this.#packets === undefined ? streams : [this.#packets.local];
  }

  override async start(): Promise<void> {
    this.#aeads = await this.context.aeads();
    if (this.networks.includes("tcp")) await super.start();
    if (!this.networks.includes("udp")) return;
    const socket = await this.openPackets();
    const tools = shadowsocksTools(this.#aeads, this.context.random);
    // Datagrams have salts of their own: strangers on one network must not use up the other's memory.
    const salts = new SaltFilter({});
    const server = createShadowsocksPacketServer({ ...this.#options, salts }, tools);
    const hasSessions = this.#options.profile.method.edition === 2022;
    this.#packets = new ShadowsocksPackets(this.tag, socket, server, hasSessions, this.context);
  }

  protected accepted(client: StreamConnection): void {
    const tools = shadowsocksTools(this.#aeads!, this.context.random);
    const server = createShadowsocksServer(this.#options, tools);
    new ShadowsocksClient(this.tag, client, server, this.context, this.waiting);
  }

  override async close(): Promise<void> {
    await super.close();
    this.#packets?.close();
  }
}

/** One client up to the moment when it is known where it wants to go. */
class ShadowsocksClient implements Expiring {
  readonly #tag: string;
  readonly #client: StreamConnection;
  readonly #server: ShadowsocksServerStream;
  readonly #context: InboundContext;
  readonly #waiting: ExpiringSet;
  #bytes: Uint8Array<ArrayBuffer> | undefined;
  #start = 0;
  #end = 0;

  constructor(
    tag: string,
    client: StreamConnection,
    server: ShadowsocksServerStream,
    context: InboundContext,
    waiting: ExpiringSet,
  ) {
    this.#tag = tag;
    this.#client = client;
    this.#server = server;
    this.#context = context;
    this.#waiting = waiting;
    waiting.add(this);
    client.watch(this.#readable);
    this.#readable();
  }

  expire(): void {
    this.#release();
    this.#server.close();
    this.#client.close({ reset: true }).catch(() => {});
  }

  readonly #readable = (): void => {
    while (!this.#client.closed) {
      const bytes = this.#bytes ??= takeBuffer();
      const count = this.#client.receiveNow(bytes, this.#end, bytes.length);
      if (count === WOULD_BLOCK) {
        if (this.#end === this.#start) this.#release();
        return;
      }
      if (count <= STREAM_END) {
        this.#waiting.delete(this);
        return this.expire();
      }
      this.#end += count;
      if (this.#take(bytes)) return;
    }
  };

  /** Opens what there is. @returns Whether the client was handed over. */
  #take(bytes: Uint8Array<ArrayBuffer>): boolean {
    const server = this.#server;
    const seconds = this.#context.unixSeconds();
    this.#start += server.open(bytes, this.#start, this.#end, seconds);
    const { request } = server;
    if (this.#start === this.#end) this.#start = this.#end = 0;
    else if (request === undefined && this.#end === bytes.length) {
      // Only before there are payloads: they lie in front, and wait for the destination.
      bytes.copyWithin(0, this.#start, this.#end);
      this.#end -= this.#start;
      this.#start = 0;
    }
    if (request === undefined) return false;
    this.#waiting.delete(this);
    this.#client.watch(undefined);
    const client = new ShadowsocksDuplex(
      this.#client,
      server.createSealer(),
      server,
      this.#context.unixSeconds,
      { bytes, start: this.#start, end: this.#end },
    );
    this.#bytes = undefined;
    this.#context.handler.stream({
      metadata: {
        inbound: this.#tag,
        inboundType: "shadowsocks",
        network: "tcp",
        source: sourceOf(this.#client),
        destination: request,
        user: server.user,
      },
      client,
      ahead: NOTHING,
      reply: "none",
    });
    return true;
  }

  #release(): void {
    giveBuffer(this.#bytes);
    this.#bytes = undefined;
    this.#start = this.#end = 0;
  }
}

/** Where the answers of a client go. */
interface Session {
  readonly session: ShadowsocksPacketSession;
  flow: PacketFlow;
  /** Follows the last datagram that was genuine: clients change their address. */
  from: Endpoint;
}

/** The datagrams of all clients. */
class ShadowsocksPackets {
  readonly #tag: string;
  readonly #socket: PacketSocket;
  readonly #server: ShadowsocksPacketServer;
  readonly #hasSessions: boolean;
  readonly #context: InboundContext;
  readonly #endpoints = new EndpointCache(8);
  /** By session where the protocol has some, by address elsewhere. */
  readonly #sessions = new Map<ShadowsocksPacketSession | string, Session>();
  readonly #timer: ReturnType<typeof setInterval>;

  constructor(
    tag: string,
    socket: PacketSocket,
    server: ShadowsocksPacketServer,
    hasSessions: boolean,
    context: InboundContext,
  ) {
    this.#tag = tag;
    this.#hasSessions = hasSessions;
    this.#socket = socket;
    this.#server = server;
    this.#context = context;
    socket.watch(this.#received);
    this.#timer = setInterval(
      () => server.expire(context.unixSeconds(), SESSION_SECONDS),
      EXPIRE_MS,
    );
  }

  get local(): SocketAddress {
    return this.#socket.local;
  }

  close(): void {
    clearInterval(this.#timer);
    for (const { flow } of this.#sessions.values()) flow.close();
    this.#sessions.clear();
    this.#socket.close();
    this.#server.close();
  }

  readonly #received = (
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    from: Endpoint,
  ): void => {
    const server = this.#server;
    const data = server.open(bytes, start, end, this.#context.unixSeconds());
    if (data < 0) return;
    const to = this.#endpoints.read(bytes, server.addressStart, server.dataStart);
    if (typeof to === "number") return;
    const dataEnd = server.dataEnd;
    const session = server.session!;
    const key = this.#hasSessions ? session : `${from.host} ${from.port}`;
    let known = this.#sessions.get(key);
    if (known === undefined || known.flow.closed) {
      known = this.#begin(key, session, from, to);
    }
    known.from = from;
    known.flow.send(bytes, data, dataEnd, to);
  };

  #begin(
    key: ShadowsocksPacketSession | string,
    session: ShadowsocksPacketSession,
    from: Endpoint,
    to: Endpoint,
  ): Session {
    if (this.#sessions.size >= MOST_SESSIONS) {
      const [oldest] = this.#sessions;
      oldest![1].flow.close();
      this.#sessions.delete(oldest![0]);
    }
    const flow = this.#context.handler.packets({
      metadata: {
        inbound: this.#tag,
        inboundType: "shadowsocks",
        network: "udp",
        source: endpointAddress(from),
        destination: to,
        user: session.user,
      },
      reply: (bytes, start, end, source) => {
        if (this.#socket.closed) return;
        const begin = this.#server.seal(
          session,
          bytes,
          start,
          end,
          source,
          this.#context.unixSeconds(),
        );
        this.#socket.send(bytes, begin, end + this.#server.tailroom, known.from);
      },
      ended: () => {
        if (this.#sessions.get(key) === known) this.#sessions.delete(key);
      },
    });
    const known: Session = { session, flow, from };
    this.#sessions.set(key, known);
    return known;
  }
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);
/** Clients whose datagrams are relayed at once; beyond it the oldest is forgotten. */
const MOST_SESSIONS = 8192;
/** At least 60: what was seen must not count again. */
const SESSION_SECONDS = 300;
const EXPIRE_MS = 30_000;
