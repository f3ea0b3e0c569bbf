/**
 * The kernel's neighbor tables, once.
 *
 * @module
 */

import { openNetlinkHost } from "../ffi/mod.ts";
import { KernelFeed } from "./kernel_feed.ts";
import type { MonitorOptions } from "./monitor.ts";
import { type Neighbor, neighborOf } from "./neighbor.ts";
import { resolveMonitorSettings } from "./options.ts";
import { NeighFilter } from "./protocol/filter.ts";

/**
 * Reads every neighbor, and verifies what changed meanwhile.
 *
 * @returns Neighbors in the kernel's order, with the ages the kernel gave them.
 * @throws {CapabilityError} When the demanded driver, or any, cannot be had.
 * @throws {SystemError} When the kernel refuses a socket. Or the signal's reason.
 */
export async function dumpNeighbors(options: MonitorOptions = {}): Promise<Neighbor[]> {
  const { signal, host: given, ...rest } = options;
  const settings = resolveMonitorSettings(rest);
  signal?.throwIfAborted();
  const host = given ?? await openNetlinkHost({ driver: settings.driver });
  const filter = new NeighFilter(
    { dualTor: false, evpn: false, linkLocalEnabled: () => true },
    settings,
  );
  const found = new Map<string, Neighbor>();
  let opening: Promise<KernelFeed> | undefined;
  let stop: () => void = () => {};
  try {
    await new Promise<void>((resolve, reject) => {
      stop = () => reject(signal!.reason);
      signal?.addEventListener("abort", stop, { once: true });
      opening = KernelFeed.open({ host, settings, ...(signal === undefined ? {} : { signal }) }, {
        changed: ({ kind, neighbor, link, masterName }) => {
          if (!filter.isWanted(link.name)) return;
          const key = link.prefix + neighbor.ip;
          if (kind === "delete") found.delete(key);
          else found.set(key, neighborOf(neighbor, link.name, masterName));
        },
        linkChanged: () => {},
        resyncStarted: () => {},
        resyncEnded: () => resolve(),
        turned: () => {},
      });
      opening.catch(reject);
    });
  } finally {
    signal?.removeEventListener("abort", stop);
    const feed = await opening?.catch(() => undefined);
    await feed?.close();
    if (given === undefined) await host.close();
  }
  return [...found.values()];
}
