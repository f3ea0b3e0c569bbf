/**
 * The inbound `direct`: everything goes to one destination.
 *
 * @module
 */

import { type SocketAddress, type StreamConnection, unmapAddress } from "../../ffi/mod.ts";
import type { DirectInboundConfig, Network } from "../config_types.ts";
import type { InboundContext } from "../inbound.ts";
import type { Endpoint } from "../protocol/mod.ts";
import type { PacketSocket } from "../udp_socket.ts";
import { StreamInbound } from "./listening.ts";
import { sourceOf } from "./plain.ts";
import { SourceFlows } from "./source_flows.ts";

/** Forwards streams and datagrams. */
export class DirectInbound extends StreamInbound {
  readonly type = "direct";
  override readonly networks: readonly Network[];
  readonly #config: DirectInboundConfig;
  #socket: PacketSocket | undefined;
  #flows: SourceFlows | undefined;

  /** @param config Its configuration. */
  constructor(config: DirectInboundConfig, context: InboundContext) {
    super(config.tag, config.listen, context);
    this.networks = config.networks;
    this.#config = config;
  }

  override get addresses(): readonly SocketAddress[] {
    const streams = super.addresses;
    return streams.length > 0 || this.#socket === undefined ? streams : [this.#socket.local];
  }

  override async start(): Promise<void> {
    if (this.networks.includes("tcp")) await super.start();
    if (!this.networks.includes("udp")) return;
    const socket = await this.openPackets();
    this.#socket = socket;
    const flows = new SourceFlows(
      this.context.handler,
      { inbound: this.tag, inboundType: this.type },
      (bytes, start, end, client) => void socket.send(bytes, start, end, client),
    );
    this.#flows = flows;
    const to = this.#destination(socket.local);
    socket.watch((bytes, start, end, from) => flows.take(bytes, start, end, from, to));
  }

  protected accepted(client: StreamConnection): void {
    this.context.handler.stream({
      metadata: {
        inbound: this.tag,
        inboundType: this.type,
        network: "tcp",
        source: sourceOf(client),
        destination: this.#destination(client.local),
      },
      client,
      ahead: NOTHING,
      reply: "none",
    });
  }

  override async close(): Promise<void> {
    await super.close();
    this.#flows?.close();
  }

  #destination(local: SocketAddress): Endpoint {
    const { overrideAddress, overridePort } = this.#config;
    const { address, port } = unmapAddress(local);
    return Object.freeze({
      host: overrideAddress ?? address,
      port: overridePort === 0 ? port : overridePort,
    });
  }
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);
