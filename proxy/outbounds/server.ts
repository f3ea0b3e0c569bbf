/**
 * What outbounds that speak to a server have in common: how they get there.
 *
 * @module
 */

import type { DialConfig } from "../config_types.ts";
import type { Duplex } from "../duplex.ts";
import type { DialOptions, OutboundContext } from "../outbound.ts";
import type { PacketConnection } from "../packets.ts";
import type { Endpoint } from "../protocol/mod.ts";
import { DirectOutbound } from "./direct.ts";

/** The way to a server: through another outbound, or straight. */
export class ServerLink {
  /** The server. */
  readonly server: Endpoint;
  readonly #context: OutboundContext;
  readonly #detour: string | undefined;
  readonly #direct: DirectOutbound;

  /**
   * Describes the way.
   *
   * @param config Of the outbound it is for.
   */
  constructor(
    config: {
      readonly tag: string;
      readonly server: string;
      readonly serverPort: number;
      readonly dial: DialConfig;
    },
    context: OutboundContext,
  ) {
    this.server = Object.freeze({ host: config.server, port: config.serverPort });
    this.#context = context;
    this.#detour = config.dial.detour;
    this.#direct = new DirectOutbound({ tag: config.tag, dial: config.dial }, context);
  }

  /** Connects to the server, which is spoken to first in every protocol of ours. @throws {FastwireError} As `Dialer.dial`. */
  connect(options: DialOptions): Promise<Duplex> {
    // The chain names what the configuration names: a detour adds itself, the socket below does not.
    if (this.#detour === undefined) {
      return this.#direct.dial(this.server, { ...options, chain: undefined, early: true });
    }
    return this.#context.outbound(this.#detour).dial(this.server, { ...options, early: true });
  }

  /** Opens datagrams the same way. @throws {FastwireError} As `Dialer.openPackets`. */
  openPackets(options: DialOptions): Promise<PacketConnection> {
    if (this.#detour === undefined) {
      return this.#direct.openPacketsTo(this.server, { ...options, chain: undefined });
    }
    const outbound = this.#context.outbound(this.#detour);
    if (outbound.openPackets === undefined) {
      return Promise.reject(
        new TypeError(`Cannot send datagrams: outbound "${outbound.tag}" takes none`),
      );
    }
    return outbound.openPackets(options);
  }
}
