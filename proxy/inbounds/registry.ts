/**
 * Inbounds by type.
 *
 * @module
 */

import type { InboundConfig } from "../config_types.ts";
import type { Inbound, InboundContext } from "../inbound.ts";
import { PlainInbound } from "./plain.ts";

/**
 * Makes an inbound of its configuration; what only some types need is loaded with the first of them.
 */
export async function createInbound(
  config: InboundConfig,
  context: InboundContext,
): Promise<Inbound> {
  switch (config.type) {
    case "socks":
    case "http":
    case "mixed":
      return new PlainInbound(config, context);
    case "shadowsocks":
      return config.destinations.length === 0
        ? new (await import("./shadowsocks.ts")).ShadowsocksInbound(config, context)
        : new (await import("./shadowsocks_relay.ts")).ShadowsocksRelayInbound(config, context);
    case "direct":
      return new (await import("./direct.ts")).DirectInbound(config, context);
    case "redirect":
    case "tproxy":
      return new (await import("./redirect.ts")).RedirectInbound(config, context);
  }
}
