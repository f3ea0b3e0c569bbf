/**
 * A running proxy as its owner sees it.
 *
 * @module
 */

import type { Driver, SharedLoop, SocketAddress } from "../ffi/mod.ts";
import type { Network, ProxyConfig } from "./config_types.ts";
import type { ConnectionTracker, TrafficTotals } from "./connections.ts";
import type { Outbound, Resolver } from "./outbound.ts";
import type { ProxyDns } from "./proxy_dns.ts";

/** How to run a proxy, besides its configuration. */
export interface ProxyOptions {
  /** Which drivers carry it. Default `auto`. */
  readonly driver?: Driver;
  /** What relative paths in the configuration begin at. Default: the working folder. */
  readonly folder?: string;
  /** Names to addresses of destinations. Default: the DNS part of the configuration. */
  readonly resolver?: Resolver;
  /**
   * The loop that everything waits in, for a program that is a proxy and nothing else: relays run in it too, and no
   * thread is started for them. Not with the driver `portable`. Stays open when the proxy closes.
   */
  readonly loop?: SharedLoop;
}

/** An inbound that listens. */
export interface ListeningInbound {
  /** Its type. */
  readonly type: string;
  /** Its tag. */
  readonly tag: string;
  /** Transports it takes. */
  readonly networks: readonly Network[];
  /** Where; ports are the real ones. */
  readonly addresses: readonly SocketAddress[];
}

/** What a proxy is doing, as plain numbers. */
export interface ProxySnapshot {
  /** Which driver carries streams. */
  readonly driver: string;
  /** Why a better one was not taken; empty when it is the best. */
  readonly fallbackReason: string;
  /** Connections and associations that run. */
  readonly active: number;
  /** Connections and associations so far. */
  readonly opened: number;
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
  /** Bytes so far. */
  readonly traffic: TrafficTotals;
}

/** A running proxy. */
export interface ProxyServer extends AsyncDisposable {
  /** What listens. */
  readonly inbounds: readonly ListeningInbound[];
  /** The connections that run. */
  readonly connections: ConnectionTracker;
  /** The configuration in force. */
  readonly config: ProxyConfig;
  /** Its outbounds by tag. */
  readonly outbounds: ReadonlyMap<string, Outbound>;
  /** Its DNS part. */
  readonly dns: ProxyDns;
  /** Mode of the control interface, for rules; `undefined` without one. To be set by that interface. */
  clashMode: string | undefined;
  /**
   * An outbound.
   *
   * @param tag The one of the configuration's end when left out.
   * @throws {RangeError} When there is none.
   */
  outbound(tag?: string): Outbound;
  /**
   * Takes another configuration. Inbounds that are in both go on listening; connections stay, on the outbounds they
   * have. When anything goes wrong the old configuration stays in force.
   *
   * @param config As {@linkcode createProxy} takes it.
   * @throws {TypeError} Naming everything that is wrong with it. @throws {SystemError} When a port cannot be had.
   */
  reload(config: unknown): Promise<void>;
  /** The same with a configuration that was read and checked. */
  use(config: ProxyConfig): Promise<void>;
  /** Numbers. */
  snapshot(): ProxySnapshot;
  /**
   * Stops listening, waits until connections have ended, but not longer than the bound, then cuts what is left.
   *
   * @param options `graceMs`: the bound, milliseconds. Default 0.
   */
  close(options?: { readonly graceMs?: number }): Promise<void>;
}
