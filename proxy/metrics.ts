/**
 * The proxy's metrics by name: what each is called and which number of the snapshot it shows.
 *
 * @module
 */

import type { Metric, MetricSample } from "../internal/prometheus.ts";
import type { ConnectionTracker, TrackedConnection } from "./connections.ts";
import type { DnsSnapshot } from "./proxy_dns.ts";

/** Before every name. */
export const METRICS_PREFIX = "fastwire_proxy_";

/** What the proxy counts. */
export interface MeteredSnapshot {
  /** Which driver carries streams. */
  readonly driver: string;
  /** Dials that failed so far, and refusals by rules. */
  readonly failed: number;
  /** Clients that have not said yet where they want to go. */
  readonly handshakes: number;
  /** Associations of datagrams that run. */
  readonly associations: number;
  /** Relays that run. */
  readonly relays: number;
  /** Relays inside the kernel, of these. */
  readonly kernelRelays: number;
}

/** Where the numbers come from. */
export interface MeteredProxy {
  /** The connections that run. */
  readonly connections: ConnectionTracker;
  /** Numbers now. */
  snapshot(): MeteredSnapshot;
  /** The DNS part's, if there is one. */
  dnsSnapshot?(): DnsSnapshot;
}

/** All metrics of a proxy. Read when somebody scrapes; nothing is counted for them. */
export function proxyMetrics(proxy: MeteredProxy): readonly Metric[] {
  const { connections } = proxy;
  const gauge = (name: string, help: string, read: () => number): Metric => ({
    name,
    help,
    type: "gauge",
    read,
  });
  const counter = (name: string, help: string, read: () => number): Metric => ({
    name,
    help,
    type: "counter",
    read,
  });
  const metrics: Metric[] = [
    counter("connections_total", "Connections and associations so far", () => connections.opened),
    counter(
      "connections_failed_total",
      "Dials that failed, and refusals by rules",
      () => proxy.snapshot().failed,
    ),
    {
      name: "connections_active",
      help: "Connections and associations that run",
      type: "gauge",
      read: () => countBy(connections.list()),
    },
    {
      name: "bytes_total",
      help: "Bytes from clients (up) and to clients (down)",
      type: "counter",
      read: () => {
        const { upload, download } = connections.totals;
        return [
          { labels: { direction: "up" }, value: upload },
          { labels: { direction: "down" }, value: download },
        ];
      },
    },
    gauge(
      "handshakes_active",
      "Clients that have not said yet where they want to go",
      () => proxy.snapshot().handshakes,
    ),
    gauge(
      "associations_active",
      "Associations of datagrams that run",
      () => proxy.snapshot().associations,
    ),
    gauge("relays_active", "Relays that run", () => proxy.snapshot().relays),
    gauge("relays_kernel_active", "Relays inside the kernel", () => proxy.snapshot().kernelRelays),
    {
      name: "driver",
      help: "1 for the driver that carries streams",
      type: "gauge",
      read: () => [{ labels: { driver: proxy.snapshot().driver }, value: 1 }],
    },
  ];
  const dns = proxy.dnsSnapshot?.bind(proxy);
  if (dns === undefined) return metrics;
  return [
    ...metrics,
    counter(
      "dns_questions_total",
      "DNS questions, of clients and of ourselves",
      () => dns().questions,
    ),
    counter("dns_exchanges_total", "DNS questions put to a server", () => dns().exchanges),
    counter("dns_failures_total", "DNS questions without an answer", () => dns().failures),
    counter(
      "dns_joined_total",
      "DNS questions that found the same one under way",
      () => dns().joined,
    ),
    counter("dns_rejected_total", "DNS questions refused by a rule", () => dns().rejected),
    counter("dns_cache_hits_total", "DNS answers from the cache", () => dns().cache.hits),
    counter(
      "dns_cache_misses_total",
      "DNS answers that were not in the cache",
      () => dns().cache.misses,
    ),
    counter(
      "dns_cache_evictions_total",
      "DNS answers given up for want of room",
      () => dns().cache.evictions,
    ),
    gauge("dns_cache_size", "DNS answers in the cache", () => dns().cache.size),
  ];
}

function countBy(list: readonly TrackedConnection[]): readonly MetricSample[] {
  const counts = new Map<string, { labels: Record<string, string>; value: number }>();
  for (const { metadata, chain } of list) {
    const outbound = chain.at(-1) ?? "";
    const key = `${metadata.inbound}\0${outbound}\0${metadata.network}`;
    const labels = { inbound: metadata.inbound, outbound, network: metadata.network };
    const sample = counts.get(key) ?? { labels, value: 0 };
    sample.value++;
    counts.set(key, sample);
  }
  return [...counts.values()];
}
