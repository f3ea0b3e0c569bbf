/**
 * The outbound `block`: refuses everything.
 *
 * @module
 */

import type { BlockOutboundConfig, Network } from "../config_types.ts";
import type { Duplex } from "../duplex.ts";
import type { DialOptions, Outbound } from "../outbound.ts";
import type { PacketConnection } from "../packets.ts";
import { type Endpoint, formatEndpoint } from "../protocol/mod.ts";
import { RejectedError } from "../replies.ts";

/** Refuses everything. */
export class BlockOutbound implements Outbound {
  readonly type = "block";
  readonly tag: string;
  readonly networks: readonly Network[] = ["tcp", "udp"];

  /** @param config Its tag. */
  constructor(config: BlockOutboundConfig) {
    this.tag = config.tag;
  }

  dial(destination: Endpoint, options: DialOptions = {}): Promise<Duplex> {
    options.chain?.push(this.tag);
    const where = formatEndpoint(destination);
    return Promise.reject(
      new RejectedError(`Cannot connect to ${where}: outbound "${this.tag}" blocks it`),
    );
  }

  openPackets(options: DialOptions = {}): Promise<PacketConnection> {
    options.chain?.push(this.tag);
    return Promise.reject(
      new RejectedError(`Cannot send datagrams: outbound "${this.tag}" blocks them`),
    );
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
