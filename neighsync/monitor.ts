/**
 * A live view of the kernel's neighbor tables that repairs itself after every loss; needs no Redis and no privilege.
 *
 * @module
 */

import { type NetlinkHost, openNetlinkHost } from "../ffi/mod.ts";
import { KernelFeed } from "./kernel_feed.ts";
import { MonitorQueue, type NeighborEvent } from "./monitor_queue.ts";
import { type Neighbor, neighborOf, type NudState } from "./neighbor.ts";
import { NeighborMap } from "./neighbor_map.ts";
import { resolveMonitorSettings } from "./options.ts";
import { formatMac } from "./protocol/address.ts";
import { NeighFilter } from "./protocol/filter.ts";
import { nudName } from "./protocol/neighbor.ts";
import type { NeighborChange, ResyncResult } from "./protocol/resync_actions.ts";
import type { MonitorSettings } from "./settings.ts";
import type { MonitorSnapshot } from "./snapshot.ts";

/** What is looked at, and how. */
export interface MonitorOptions extends MonitorSettings {
  /** Closes the monitor. */
  readonly signal?: AbortSignal | undefined;
  /** Where sockets live, of the caller's own; it is not closed with the monitor. `driver` has no say then. */
  readonly host?: NetlinkHost | undefined;
}

/**
 * Watches the kernel's neighbor tables.
 *
 * Iterating it tells every neighbor there is as `add` from a `dump` and then what changes; several loops may run, each has
 * everything. A loop that is slow gets the last state of each key, not every one on the way: memory is bounded by the
 * number of keys.
 *
 * @example
 * ```ts
 * import { NeighborMonitor } from "@fastwire/net/neighsync";
 *
 * if (Deno.build.os === "linux") {
 *   await using monitor = await NeighborMonitor.open();
 *   await monitor.ready;
 *   for (const { ifname, ip, mac, state } of monitor.neighbors().values()) {
 *     console.log(ifname, ip, mac, state);
 *   }
 * }
 * ```
 */
export class NeighborMonitor implements AsyncDisposable, AsyncIterable<NeighborEvent> {
  /** Settles when the view is for the first time what the kernel has; rejects when the monitor is closed before. */
  readonly ready: Promise<void>;

  readonly #feedReady: (ready: Promise<void>) => void;
  readonly #ownHost: NetlinkHost | undefined;
  readonly #filter: NeighFilter;
  readonly #queues = new Set<MonitorQueue>();
  #feed!: KernelFeed;
  #started = 0;
  #ended = 0;
  #closing: Promise<void> | undefined;
  #forgetSignal: () => void = () => {};

  private constructor(ownHost: NetlinkHost | undefined, filter: NeighFilter) {
    this.#ownHost = ownHost;
    this.#filter = filter;
    let feedReady: (ready: Promise<void>) => void = () => {};
    this.ready = new Promise((resolve) => feedReady = resolve);
    this.#feedReady = feedReady;
    // Whoever does not wait for it does not want to hear of it either.
    this.ready.catch(() => {});
  }

  /**
   * Opens a monitor. It misses nothing that happens after this settles.
   *
   * @throws {CapabilityError} When the demanded driver, or any, cannot be had.
   * @throws {SystemError} When the kernel refuses a socket.
   * @throws {TypeError} For unknown options. @throws {RangeError} For values out of range.
   */
  static async open(options: MonitorOptions = {}): Promise<NeighborMonitor> {
    const { signal, host: given, ...rest } = options;
    const settings = resolveMonitorSettings(rest);
    signal?.throwIfAborted();
    const host = given ?? await openNetlinkHost({ driver: settings.driver });
    const filter = new NeighFilter(NO_FACTS, settings);
    const monitor = new NeighborMonitor(given === undefined ? host : undefined, filter);
    try {
      monitor.#feed = await KernelFeed.open(
        { host, settings, ...(signal === undefined ? {} : { signal }) },
        {
          changed: (change) => monitor.#changed(change),
          linkChanged: () => {},
          resyncStarted: (reason) => {
            monitor.#started++;
            for (const queue of monitor.#queues) queue.mark({ type: "resync-start", reason });
          },
          resyncEnded: (result) => monitor.#resyncEnded(result),
          turned: () => {},
        },
      );
    } catch (error) {
      if (given === undefined) await host.close();
      throw error;
    }
    monitor.#feedReady(monitor.#feed.firstRead());
    if (signal !== undefined) {
      const aborted = (): void => void monitor.close();
      signal.addEventListener("abort", aborted, { once: true });
      monitor.#forgetSignal = () => signal.removeEventListener("abort", aborted);
      if (signal.aborted) {
        await monitor.close();
        signal.throwIfAborted();
      }
    }
    return monitor;
  }

  /** The view, live: neighbors by key, `<interface>:<address>`. Looking something up makes an object of it. */
  neighbors(): ReadonlyMap<string, Neighbor> {
    return new NeighborMap(this.#feed, (ifname) => this.#filter.isWanted(ifname));
  }

  /** Reads the kernel's tables anew, and settles when that is done. Rejects when the monitor is closed before. */
  resync(): Promise<void> {
    return this.#feed.resync();
  }

  /** Counts and state now. */
  snapshot(): MonitorSnapshot {
    return this.#feed.snapshot();
  }

  /** What there is, with a `resync-end` behind it; then what changes. Ends when the monitor is closed. */
  [Symbol.asyncIterator](): AsyncIterator<NeighborEvent, undefined> {
    const queue = new MonitorQueue();
    for (const [key, neighbor] of this.neighbors()) {
      queue.push(key, { type: "add", neighbor, source: "dump" });
    }
    if (this.#started > this.#ended) queue.mark({ type: "resync-start", reason: "start" });
    else queue.mark({ type: "resync-end", added: queue.size, changed: 0, removed: 0, lost: 0 });
    if (this.#closing === undefined) this.#queues.add(queue);
    else queue.close();
    return {
      next: async () => {
        const value = await queue.take();
        return value === undefined ? { done: true, value } : { done: false, value };
      },
      return: () => {
        this.#queues.delete(queue);
        queue.close();
        return Promise.resolve({ done: true, value: undefined });
      },
    };
  }

  /** Closes the sockets and ends every loop; idempotent. */
  close(): Promise<void> {
    return this.#closing ??= this.#close();
  }

  /** The same as {@linkcode NeighborMonitor.close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  async #close(): Promise<void> {
    this.#forgetSignal();
    for (const queue of this.#queues) queue.close();
    this.#queues.clear();
    await this.#feed.close();
    await this.#ownHost?.close();
  }

  #changed(change: NeighborChange): void {
    if (this.#queues.size === 0) return;
    const { kind, source, link, neighbor: view, masterName } = change;
    if (!this.#filter.isWanted(link.name)) return;
    const neighbor = neighborOf(view, link.name, masterName);
    const from = source === "dump" ? "dump" : "event";
    const previous = kind === "add" ? {} : { previous: before(neighbor, change) };
    const event = { type: kind, neighbor, ...previous, source: from } as const;
    for (const queue of this.#queues) queue.push(link.prefix + neighbor.ip, event);
  }

  #resyncEnded({ added, changed, removed, lost }: ResyncResult): void {
    this.#ended++;
    for (const queue of this.#queues) {
      queue.mark({ type: "resync-end", added, changed, removed, lost });
    }
  }
}

/** The neighbor before a change. */
function before(neighbor: Neighbor, change: NeighborChange): Neighbor {
  const { previousMac: mac, previousState, previousFlags: flags } = change;
  const state: NudState = nudName(previousState);
  return { ...neighbor, mac: mac >= 0 ? formatMac(mac) : null, state, flags };
}

/** Only the choice of interfaces is asked of this filter. */
const NO_FACTS = { dualTor: false, evpn: false, linkLocalEnabled: () => true } as const;
