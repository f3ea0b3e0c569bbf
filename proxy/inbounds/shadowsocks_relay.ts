/**
 * The inbound `shadowsocks` with `destinations`: it passes clients on to servers behind it, by the identity they send,
 * and reads nothing of what they say.
 *
 * Whoever is nobody's client sees what a server shows: everything is read and thrown away until the client leaves or the
 * time of handshakes is over, whatever was wrong. What a server behind finds wrong it treats the same way.
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
import type { Metadata } from "../outbound.ts";
import {
  type Endpoint,
  IDENTITY_BYTES,
  relayShadowsocksStream,
  resolveShadowsocksProfile,
  SaltFilter,
  ShadowsocksPacketRelay,
  type ShadowsocksRelayOptions,
  type ShadowsocksRelaySession,
  type ShadowsocksTools,
  type ShadowsocksUser,
  ShadowsocksUserTable,
} from "../protocol/mod.ts";
import { shadowsocksTools } from "../shadowsocks_tools.ts";
import type { PacketSocket } from "../udp_socket.ts";
import { StreamInbound } from "./listening.ts";
import { sourceOf } from "./plain.ts";
import { endpointAddress } from "./source_flows.ts";

/** A Shadowsocks relay. */
export class ShadowsocksRelayInbound extends StreamInbound {
  readonly type = "shadowsocks";
  override readonly networks: readonly Network[];
  readonly #relay: Relay;
  #aeads: AeadProvider | undefined;
  #packets: RelayedPackets | undefined;

  /** @param config Its configuration, with destinations. */
  constructor(config: ShadowsocksInboundConfig, context: InboundContext) {
    super(config.tag, config.listen, context);
    this.networks = config.networks;
    this.#relay = new Relay(config);
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
    this.#packets = new RelayedPackets(socket, this.#relay, tools, this.context);
  }

  protected accepted(client: StreamConnection): void {
    const tools = shadowsocksTools(this.#aeads!, this.context.random);
    new RelayedClient(client, this.#relay, tools, this.context, this.waiting);
  }

  override async close(): Promise<void> {
    await super.close();
    this.#packets?.close();
  }
}

/** Whom there is to relay to. */
class Relay {
  readonly options: ShadowsocksRelayOptions;
  readonly #tag: string;
  readonly #servers: ReadonlyMap<ShadowsocksUser, Endpoint>;

  constructor({ tag, method, password, destinations }: ShadowsocksInboundConfig) {
    this.#tag = tag;
    const table = new ShadowsocksUserTable(method, destinations);
    const profile = resolveShadowsocksProfile(method, password);
    this.options = { profile, destinations: table, salts: new SaltFilter({}) };
    this.#servers = new Map(table.list.map((user, index) => {
      const { server, serverPort } = destinations[index]!;
      return [user, Object.freeze({ host: server, port: serverPort })];
    }));
  }

  /** The server behind. */
  serverOf(user: ShadowsocksUser): Endpoint {
    return this.#servers.get(user)!;
  }

  metadata(network: Network, source: SocketAddress, user: ShadowsocksUser): Metadata {
    return {
      inbound: this.#tag,
      inboundType: "shadowsocks",
      network,
      source,
      destination: this.serverOf(user),
      user: user.name,
    };
  }
}

/** One client until it is known whose it is. */
class RelayedClient implements Expiring {
  readonly #client: StreamConnection;
  readonly #relay: Relay;
  readonly #tools: ShadowsocksTools;
  readonly #context: InboundContext;
  readonly #waiting: ExpiringSet;
  #held: Uint8Array<ArrayBuffer> = NOTHING;
  #drains = false;

  constructor(
    client: StreamConnection,
    relay: Relay,
    tools: ShadowsocksTools,
    context: InboundContext,
    waiting: ExpiringSet,
  ) {
    this.#client = client;
    this.#relay = relay;
    this.#tools = tools;
    this.#context = context;
    this.#waiting = waiting;
    waiting.add(this);
    client.watch(this.#readable);
    this.#readable();
  }

  expire(): void {
    this.#client.close({ reset: true }).catch(() => {});
  }

  readonly #readable = (): void => {
    while (!this.#client.closed) {
      const held = this.#held.length;
      shared.set(this.#held);
      const count = this.#client.receiveNow(shared, held, shared.length);
      if (count === WOULD_BLOCK) return;
      if (count <= STREAM_END) {
        this.#waiting.delete(this);
        return this.expire();
      }
      if (!this.#drains && this.#take(held + count)) return;
    }
  };

  /** @returns Whether the client was handed over. */
  #take(end: number): boolean {
    const seconds = this.#context.unixSeconds();
    const { options } = this.#relay;
    const user = relayShadowsocksStream(options, this.#tools, shared, 0, end, seconds);
    if (user === "more") {
      this.#held = shared.slice(0, end);
      return false;
    }
    this.#held = NOTHING;
    if (user === "no") {
      this.#drains = true;
      return false;
    }
    this.#waiting.delete(this);
    this.#client.watch(undefined);
    this.#context.handler.stream({
      metadata: this.#relay.metadata("tcp", sourceOf(this.#client), user),
      client: this.#client,
      ahead: shared.slice(IDENTITY_BYTES, end),
      reply: "none",
    });
    return true;
  }
}

/** Where the answers of a client go. */
interface Session {
  readonly flow: PacketFlow;
  /** Follows the last datagram that was new: clients change their address. */
  from: Endpoint;
}

/** The datagrams of all clients. */
class RelayedPackets {
  readonly #socket: PacketSocket;
  readonly #relay: Relay;
  readonly #packets: ShadowsocksPacketRelay;
  readonly #context: InboundContext;
  readonly #sessions = new Map<ShadowsocksRelaySession, Session>();

  constructor(
    socket: PacketSocket,
    relay: Relay,
    tools: ShadowsocksTools,
    context: InboundContext,
  ) {
    this.#socket = socket;
    this.#relay = relay;
    this.#packets = new ShadowsocksPacketRelay(relay.options, tools);
    this.#context = context;
    socket.watch(this.#received);
  }

  get local(): SocketAddress {
    return this.#socket.local;
  }

  close(): void {
    for (const { flow } of this.#sessions.values()) flow.close();
    this.#sessions.clear();
    this.#socket.close();
    this.#packets.close();
  }

  readonly #received = (
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    from: Endpoint,
  ): void => {
    const begin = this.#packets.open(bytes, start, end);
    if (begin < 0) return;
    const session = this.#packets.session!;
    let known = this.#sessions.get(session);
    if (known === undefined || known.flow.closed) known = this.#begin(session, from);
    known.from = from;
    known.flow.send(bytes, begin, end, this.#relay.serverOf(session.destination));
  };

  #begin(session: ShadowsocksRelaySession, from: Endpoint): Session {
    if (this.#sessions.size >= MOST_SESSIONS) {
      const [oldest] = this.#sessions;
      oldest![1].flow.close();
      this.#forget(oldest![0]);
    }
    const flow = this.#context.handler.packets({
      metadata: this.#relay.metadata("udp", endpointAddress(from), session.destination),
      reply: (bytes, start, end) => {
        if (!this.#socket.closed) this.#socket.send(bytes, start, end, known.from);
      },
      ended: () => this.#forget(session),
    });
    const known: Session = { flow, from };
    this.#sessions.set(session, known);
    return known;
  }

  #forget(session: ShadowsocksRelaySession): void {
    this.#sessions.delete(session);
    this.#packets.forget(session);
  }
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);
/** Clients whose datagrams are relayed at once; beyond it the oldest is forgotten. */
const MOST_SESSIONS = 8192;
/** Clients that wait hold less than an identity; what else arrives is handed over or thrown away at once. */
const shared: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(16_384));
