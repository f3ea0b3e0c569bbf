/**
 * What one configuration makes: outbounds, rules, the DNS part.
 *
 * @module
 */

import type { AeadProvider, DatagramHost, StreamHost } from "../ffi/mod.ts";
import { secureRandom } from "../internal/random.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { CacheFile } from "./cache_file.ts";
import { openCache } from "./cache_file_keeper.ts";
import { closeAll } from "./closing.ts";
import type { ProxyConfig } from "./config_types.ts";
import type { ConnectionTracker } from "./connections.ts";
import { Dns } from "./dns.ts";
import { DnsOutbound } from "./dns_hijack.ts";
import type { LoopGuard } from "./loop_guard.ts";
import type { Dialer, Outbound, OutboundContext, Resolver } from "./outbound.ts";
import { DirectOutbound, PLAIN_DIAL } from "./outbounds/direct.ts";
import { createOutbound } from "./outbounds/registry.ts";
import { RejectedError } from "./replies.ts";
import { compileRoute, type RulePlan } from "./route.ts";
import { loadRuleSets } from "./rule_set.ts";
import type { RouteRule } from "./rule_types.ts";

/** A configuration in force. */
export interface Generation {
  readonly config: ProxyConfig;
  readonly plan: RulePlan<RouteRule>;
  readonly outbounds: ReadonlyMap<string, Outbound>;
  readonly resolver: Resolver;
  readonly dns: Dns;
  /** What `hijack-dns` hands connections to. */
  readonly dnsOutbound: Outbound;
  /** Where state is kept over restarts. */
  readonly cache: CacheFile | undefined;
}

/** What a generation is made on. */
export interface GenerationNeeds {
  readonly streams: StreamHost;
  readonly datagrams: () => Promise<DatagramHost>;
  readonly aeads: () => Promise<AeadProvider>;
  readonly connections: ConnectionTracker;
  readonly clock: Clock;
  readonly loops: LoopGuard;
  readonly clashMode: () => string | undefined;
  /** Where relative paths begin. */
  readonly folder: string | undefined;
  /** Instead of the DNS part. */
  readonly resolver: Resolver | undefined;
  /** The one that is open by now, to go on with when it is the same. */
  readonly cache: CacheFile | undefined;
}

/**
 * Makes everything a configuration asks for but its inbounds.
 *
 * @throws {TypeError} When its rule sets cannot be used. @throws {FastwireError} When an outbound cannot be made.
 */
export async function prepareGeneration(
  config: ProxyConfig,
  needs: GenerationNeeds,
): Promise<Generation> {
  const { ruleSets, problems } = await loadRuleSets(config, needs.folder);
  if (problems.length > 0) {
    const words = problems.map(({ path, message, hint }) => `${path}: ${message}, ${hint}`);
    throw new TypeError(`Cannot use the rule sets: ${words.join("\n")}`);
  }
  const outbounds = new Map<string, Outbound>();
  const context: OutboundContext = {
    streams: needs.streams,
    datagrams: needs.datagrams,
    aeads: needs.aeads,
    // The DNS part reaches its servers by what is made of this.
    resolver: { resolve: (host, how) => resolver.resolve(host, how) },
    connections: needs.connections,
    clock: needs.clock,
    random: secureRandom,
    loops: needs.loops,
    defaultMark: config.route.defaultMark,
    defaultInterface: config.route.defaultInterface,
    outbound: (tag) => foundOutbound(outbounds, tag),
  };
  const dns = new Dns(config.dns, {
    dialer: (dial) =>
      dial?.detour === undefined
        ? new DirectOutbound({ tag: "dns", dial: dial ?? PLAIN_DIAL }, context)
        : detourOf(dial.detour, outbounds),
    clock: needs.clock,
    random: secureRandom,
    ruleSets,
    clashMode: needs.clashMode,
  });
  const resolver = needs.resolver ?? dns;
  try {
    for (const each of config.outbounds) {
      outbounds.set(each.tag, await createOutbound(each, context));
    }
    for (const outbound of outbounds.values()) await outbound.start?.();
  } catch (error) {
    await closeAll([...outbounds.values(), dns]);
    throw error;
  }
  const plan = compileRoute(config, ruleSets);
  const cache = await openCache(config, needs.folder, needs.cache);
  return { config, plan, outbounds, resolver, dns, dnsOutbound: new DnsOutbound(dns), cache };
}

/** An outbound by its tag. @throws {RangeError} When there is none. */
export function foundOutbound(outbounds: ReadonlyMap<string, Outbound>, tag: string): Outbound {
  const outbound = outbounds.get(tag);
  if (outbound === undefined) {
    throw new RangeError(`Cannot find outbound "${tag}": the configuration has none`);
  }
  return outbound;
}

/** An outbound that may not be there yet when this is called. */
function detourOf(tag: string, outbounds: ReadonlyMap<string, Outbound>): Dialer {
  return {
    dial: (destination, options) => foundOutbound(outbounds, tag).dial(destination, options),
    openPackets(options) {
      const outbound = foundOutbound(outbounds, tag);
      if (outbound.openPackets !== undefined) return outbound.openPackets(options);
      return Promise.reject(
        new RejectedError(`Cannot send datagrams: outbound "${tag}" takes none`),
      );
    },
  };
}
