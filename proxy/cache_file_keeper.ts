/**
 * Ties what a proxy remembers to the file it is kept in.
 *
 * @module
 */

import type { CacheFile } from "./cache_file.ts";
import { modesOf } from "./clash_view.ts";
import type { ProxyConfig } from "./config_types.ts";
import type { Dns } from "./dns.ts";
import { SelectorOutbound } from "./groups.ts";
import type { Outbound } from "./outbound.ts";

/** What a configuration runs. */
export interface Running {
  /** The configuration. */
  readonly config: ProxyConfig;
  /** Its outbounds by tag. */
  readonly outbounds: ReadonlyMap<string, Outbound>;
  /** Its DNS part. */
  readonly dns: Dns;
}

/** Opens the file of a configuration; `undefined` when it wants none, or none is to be had. */
export async function openCache(
  config: ProxyConfig,
  folder: string | undefined,
  former: CacheFile | undefined,
): Promise<CacheFile | undefined> {
  const { cacheFile } = config.experimental;
  if (!cacheFile.enabled) return undefined;
  return await (await import("./cache_file.ts")).CacheFile.open(cacheFile, folder, former);
}

/**
 * Lets a configuration begin with what is kept, and keeps what changes.
 *
 * @param before Who ran so far: what has gone on from there is newer than what is kept.
 * @returns The mode that is kept, if there is still such a mode.
 */
export function keepState(
  cache: CacheFile | undefined,
  { config, outbounds, dns }: Running,
  before: Running | undefined,
): string | undefined {
  if (cache === undefined) return undefined;
  for (const [tag, outbound] of outbounds) {
    if (!(outbound instanceof SelectorOutbound)) continue;
    outbound.keepIn(cache, !(before?.outbounds.get(tag) instanceof SelectorOutbound));
  }
  if (cache.storesFakeip) dns.keepIn(cache);
  // Without the interface nobody could change a mode that is kept.
  if (config.experimental.clashApi === undefined) return undefined;
  const mode = cache.mode?.toLowerCase();
  return modesOf(config).find((each) => each.toLowerCase() === mode);
}
