/**
 * The outbound `shadowsocks`, of 2017 and 2022.
 *
 * @module
 */

import type { AeadProvider } from "../../ffi/mod.ts";
import type { Network, ShadowsocksOutboundConfig } from "../config_types.ts";
import type { Duplex } from "../duplex.ts";
import type { DialOptions, Outbound, OutboundContext } from "../outbound.ts";
import type { PacketConnection, PacketReceiver } from "../packets.ts";
import {
  createShadowsocksClient,
  createShadowsocksPacketClient,
  type Endpoint,
  EndpointCache,
  resolveShadowsocksProfile,
  type ShadowsocksPacketClient,
  type ShadowsocksProfile,
} from "../protocol/mod.ts";
import { ShadowsocksDuplex } from "../shadowsocks_stream.ts";
import { shadowsocksTools, unixSeconds } from "../shadowsocks_tools.ts";
import { ServerLink } from "./server.ts";

/** Reaches destinations through a Shadowsocks server. */
export class ShadowsocksOutbound implements Outbound {
  readonly type = "shadowsocks";
  readonly tag: string;
  readonly networks: readonly Network[];
  readonly #profile: ShadowsocksProfile;
  readonly #context: OutboundContext;
  readonly #link: ServerLink;
  #aeads: AeadProvider | undefined;

  /** @param config The server and the method. */
  constructor(config: ShadowsocksOutboundConfig, context: OutboundContext) {
    this.tag = config.tag;
    this.networks = config.networks;
    this.#profile = resolveShadowsocksProfile(config.method, config.password);
    this.#context = context;
    this.#link = new ServerLink(config, context);
  }

  async dial(destination: Endpoint, options: DialOptions = {}): Promise<Duplex> {
    options.chain?.push(this.tag);
    const tools = shadowsocksTools(
      this.#aeads ??= await this.#context.aeads(),
      this.#context.random,
    );
    const { sealer, opener } = createShadowsocksClient(this.#profile, destination, tools);
    try {
      const stream = await this.#link.connect(options);
      return new ShadowsocksDuplex(stream, sealer, opener, unixSeconds);
    } catch (error) {
      sealer.close();
      opener.close();
      throw error;
    }
  }

  async openPackets(options: DialOptions = {}): Promise<PacketConnection> {
    options.chain?.push(this.tag);
    const tools = shadowsocksTools(
      this.#aeads ??= await this.#context.aeads(),
      this.#context.random,
    );
    const packets = await this.#link.openPackets(options);
    const client = createShadowsocksPacketClient(this.#profile, tools);
    return new ShadowsocksPackets(packets, client, this.#link.server);
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Datagrams with Shadowsocks around them. */
class ShadowsocksPackets implements PacketConnection {
  readonly #packets: PacketConnection;
  readonly #client: ShadowsocksPacketClient;
  readonly #server: Endpoint;
  readonly #endpoints = new EndpointCache();
  #receiver: PacketReceiver | undefined;

  constructor(packets: PacketConnection, client: ShadowsocksPacketClient, server: Endpoint) {
    this.#packets = packets;
    this.#client = client;
    this.#server = server;
  }

  get closed(): boolean {
    return this.#packets.closed;
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number, to: Endpoint): void {
    if (this.closed) return;
    const begin = this.#client.seal(bytes, start, end, to, unixSeconds());
    this.#packets.send(bytes, begin, end + this.#client.tailroom, this.#server);
  }

  watch(receiver: PacketReceiver | undefined, closed?: () => void): void {
    this.#receiver = receiver;
    this.#packets.watch(receiver === undefined ? undefined : this.#received, closed);
  }

  close(): void {
    if (this.closed) return;
    this.#packets.close();
    this.#client.close();
  }

  readonly #received: PacketReceiver = (bytes, start, end) => {
    const client = this.#client;
    // Whoever knows the key is the server, whatever address it answers from.
    const data = client.open(bytes, start, end, unixSeconds());
    if (data < 0) return;
    const from = this.#endpoints.read(bytes, client.addressStart, client.dataStart);
    if (typeof from !== "number") this.#receiver?.(bytes, data, client.dataEnd, from);
  };
}
