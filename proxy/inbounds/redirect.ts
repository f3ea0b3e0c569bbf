/**
 * The inbounds `redirect` and `tproxy`: connections that netfilter brought here on their way to somewhere else.
 *
 * @module
 */

import { CapabilityError } from "../../internal/errors.ts";
import { logger } from "../../internal/log.ts";
import { type StreamConnection, unmapAddress } from "../../ffi/mod.ts";
import type { Network, RedirectInboundConfig, TproxyInboundConfig } from "../config_types.ts";
import type { InboundContext } from "../inbound.ts";
import { StreamInbound } from "./listening.ts";
import { sourceOf } from "./plain.ts";

/** Connections that netfilter redirected. */
export class RedirectInbound extends StreamInbound {
  readonly type: "redirect" | "tproxy";
  override readonly networks: readonly Network[] = ["tcp"];

  /** @param config Its configuration. @throws {CapabilityError} When its type takes what this build does not. */
  constructor(config: RedirectInboundConfig | TproxyInboundConfig, context: InboundContext) {
    super(config.tag, config.listen, context, { transparent: config.type === "tproxy" });
    this.type = config.type;
    if (config.type === "tproxy" && !config.networks.includes("tcp")) {
      throw unavailable(config.tag, "datagrams are not taken over by this build");
    }
    if (config.type === "tproxy" && config.networks.includes("udp")) {
      logger("proxy", "inbound").warning(
        "{tag}: takes TCP only, not supported by this build: udp",
        {
          tag: config.tag,
        },
      );
    }
  }

  override start(): Promise<void> {
    if (!this.context.streams.traits.options) {
      return Promise.reject(unavailable(this.tag, "only the kernel's driver can ask netfilter"));
    }
    return super.start();
  }

  protected accepted(client: StreamConnection): void {
    const local = unmapAddress(client.local);
    const original = this.type === "tproxy" ? local : client.originalDestination();
    const { address, port } = original === undefined ? local : unmapAddress(original);
    const [own] = this.addresses;
    const isOwn = port === own?.port && address === local.address;
    // Somebody connected to the port itself: there is nowhere to go but here, again and again.
    if (original === undefined || isOwn) {
      client.close({ reset: true }).catch(() => {});
      return;
    }
    this.context.handler.stream({
      metadata: {
        inbound: this.tag,
        inboundType: this.type,
        network: "tcp",
        source: sourceOf(client),
        destination: Object.freeze({ host: address, port }),
      },
      client,
      ahead: NOTHING,
      reply: "none",
    });
  }
}

function unavailable(tag: string, why: string): CapabilityError {
  return new CapabilityError("proxy.no-redirect", `Cannot open inbound "${tag}": ${why}`, {
    capability: "redirect",
    why,
    remedy: 'on Linux, run with --allow-ffi and driver "auto" or "fast", for TCP',
  });
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);
