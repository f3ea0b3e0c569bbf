/**
 * How the published table differs from what the kernel and the rules call for, without changing anything.
 *
 * @module
 */

import { openNetlinkHost } from "../ffi/mod.ts";
import { openDatabases } from "./databases.ts";
import { KernelFeed } from "./kernel_feed.ts";
import { ConfigPolicy } from "./policy.ts";
import { formatMac } from "./protocol/address.ts";
import { AF_INET } from "./protocol/constants.ts";
import { NeighFilter } from "./protocol/filter.ts";
import type { ResolvedNeighSyncSettings } from "./settings.ts";
import { effectiveTable, type StoredNeighbor } from "./sink.ts";

/** One key that is not as it should be. */
export interface Difference {
  /** `<interface>:<address>`. */
  readonly key: string;
  /** What should be there; null for nothing. */
  readonly expected: StoredNeighbor | null;
  /** What is there; null for nothing. */
  readonly found: StoredNeighbor | null;
}

/**
 * Compares two tables.
 *
 * @param mayDiffer Keys nobody is to complain about.
 * @returns Differences: what is missing or other first, then what should not be there.
 */
export function tableDifferences(
  expected: ReadonlyMap<string, StoredNeighbor>,
  found: ReadonlyMap<string, StoredNeighbor>,
  mayDiffer: (key: string) => boolean = () => false,
): Difference[] {
  const differences: Difference[] = [];
  for (const [key, value] of expected) {
    const other = found.get(key);
    const same = other !== undefined && other.mac === value.mac && other.family === value.family;
    if (!same && !mayDiffer(key)) differences.push({ key, expected: value, found: other ?? null });
  }
  for (const [key, value] of found) {
    if (expected.has(key) || mayDiffer(key)) continue;
    differences.push({ key, expected: null, found: value });
  }
  return differences;
}

/**
 * Reads the kernel, the switch's configuration and the published table once, and compares.
 *
 * @throws {FastwireError} With a `redis.…` code when Redis cannot be reached at the second attempt.
 */
export async function findDifferences(
  settings: ResolvedNeighSyncSettings,
  signal?: AbortSignal,
): Promise<Difference[]> {
  const given = signal === undefined ? {} : { signal };
  const databases = await openDatabases(settings);
  try {
    await databases.sink.whenConnected({ ...given, attempts: 2 });
    const { dualTor, evpn } = settings.deployment;
    const policy = new ConfigPolicy(databases.config, { dualTor, evpn });
    const filter = new NeighFilter(policy, settings.netlink);
    const expected = new Map<string, StoredNeighbor>();
    const unsure = new Set<string>();
    const host = await openNetlinkHost({ driver: settings.netlink.driver });
    try {
      let ended: () => void = () => {};
      const read = new Promise<void>((resolve) => ended = resolve);
      const feed = await KernelFeed.open({ host, settings: settings.netlink, ...given }, {
        changed: ({ source, neighbor, link, masterName }) => {
          // Rules are asked once all facts are known.
          if (source !== "replay") return;
          const { op, reason, zeroMac } = filter.decide(neighbor, link.name, masterName);
          const key = link.prefix + neighbor.ip;
          const family = neighbor.family === AF_INET ? "IPv4" : "IPv6";
          if (op === "set") {
            expected.set(key, { mac: formatMac(zeroMac ? 0 : neighbor.mac), family });
          } else if (reason === "probe") unsure.add(key);
        },
        linkChanged: () => {},
        resyncStarted: () => {},
        resyncEnded: () => ended(),
        turned: () => {},
      });
      try {
        await orAborted(read, signal);
        policy.want([...feed.links.links()].map(({ name }) => name));
        await policy.load();
        feed.replay();
      } finally {
        await feed.close();
      }
    } finally {
      await host.close();
    }
    const found = effectiveTable(await databases.sink.readAll());
    return tableDifferences(expected, found, (key) => {
      const colon = key.indexOf(":");
      return unsure.has(key) || !filter.isWanted(key.slice(0, colon));
    });
  } finally {
    await databases.close();
  }
}

function orAborted(work: Promise<void>, signal: AbortSignal | undefined): Promise<void> {
  if (signal === undefined) return work;
  return new Promise((resolve, reject) => {
    const aborted = (): void => reject(signal.reason);
    if (signal.aborted) aborted();
    signal.addEventListener("abort", aborted, { once: true });
    work.then(resolve, reject).finally(() => signal.removeEventListener("abort", aborted));
  });
}
