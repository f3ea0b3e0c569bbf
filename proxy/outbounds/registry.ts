/**
 * Outbounds by type.
 *
 * @module
 */

import type { OutboundConfig } from "../config_types.ts";
import type { Outbound, OutboundContext } from "../outbound.ts";
import { BlockOutbound } from "./block.ts";
import { DirectOutbound } from "./direct.ts";

/**
 * Makes an outbound of its configuration; what only some types need is loaded with the first of them.
 */
export async function createOutbound(
  config: OutboundConfig,
  context: OutboundContext,
): Promise<Outbound> {
  switch (config.type) {
    case "direct":
      return new DirectOutbound(config, context);
    case "block":
      return new BlockOutbound(config);
    case "socks":
      return new (await import("./socks.ts")).SocksOutbound(config, context);
    case "http":
      return new (await import("./http.ts")).HttpOutbound(config, context);
    case "shadowsocks":
      return new (await import("./shadowsocks.ts")).ShadowsocksOutbound(config, context);
    case "selector":
    case "urltest":
    case "fallback":
    case "loadbalance":
      return (await import("../groups.ts")).createGroup(config, context);
  }
}
