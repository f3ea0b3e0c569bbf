/**
 * How the published table differs from what the kernel and the rules call for, without changing anything.
 *
 * @module
 */

import { openNetlinkHost } from "../ffi/mod.ts";
import { openDatabases } from "./databases.ts";
import { KernelFeed } from "./kernel_feed.ts";
import { ConfigPolicy } from "./policy.ts";
import { Coalescer } from "./protocol/coalesce.ts";
import { type ExpectedTable, Publisher } from "./publisher.ts";
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
 * @param publisher Knows which interfaces are nobody's business here.
 * @returns Differences: what is missing or other first, then what should not be there.
 */
export function tableDifferences(
  { entries, mayStay }: ExpectedTable,
  found: ReadonlyMap<string, StoredNeighbor>,
  publisher: Pick<Publisher, "isWanted">,
): Difference[] {
  const differences: Difference[] = [];
  for (const [key, value] of entries) {
    const other = found.get(key);
    const same = other !== undefined && other.mac === value.mac && other.family === value.family;
    if (!same) differences.push({ key, expected: value, found: other ?? null });
  }
  for (const [key, value] of found) {
    const isOurs = publisher.isWanted(key.slice(0, key.indexOf(":")));
    if (entries.has(key) || mayStay.has(key) || !isOurs) continue;
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
    const { dualTor, evpn, strictLinkLocal } = settings.deployment;
    const policy = new ConfigPolicy(databases.config, { dualTor, evpn });
    const publisher = new Publisher({
      facts: policy,
      choice: settings.netlink,
      family: 0,
      coalescer: new Coalescer(),
      dedupe: true,
      strictLinkLocal,
    });
    const host = await openNetlinkHost({ driver: settings.netlink.driver });
    let expected: ExpectedTable;
    try {
      let ended: () => void = () => {};
      const read = new Promise<void>((resolve) => ended = resolve);
      const feed = await KernelFeed.open({ host, settings: settings.netlink, ...given }, {
        // Rules are asked once all facts are known.
        changed: (change, now) => {
          if (change.source === "replay") publisher.changed(change, now);
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
        expected = publisher.expected(feed);
      } finally {
        await feed.close();
      }
    } finally {
      await host.close();
    }
    return tableDifferences(expected, effectiveTable(await databases.sink.readAll()), publisher);
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
