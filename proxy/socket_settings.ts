/**
 * What a configuration says about sockets, in the words of the socket drivers, and what of it a driver leaves out.
 *
 * @module
 */

import type { DatagramOptions, StreamOptions, StreamTraits } from "../ffi/mod.ts";
import { logger } from "../internal/log.ts";
import type { ListenConfig } from "./config_types.ts";

/** The fields that sockets that listen and sockets that dial have in common. */
export type SocketConfig = Pick<
  ListenConfig,
  | "bindInterface"
  | "routingMark"
  | "reuseAddr"
  | "tcpFastOpen"
  | "tcpMultiPath"
  | "disableTcpKeepAlive"
  | "tcpKeepAliveMs"
  | "tcpKeepAliveIntervalMs"
  | "udpFragment"
>;

/** Options of streams. */
export function streamSettings(config: SocketConfig): StreamOptions {
  return {
    keepAliveMs: config.disableTcpKeepAlive ? 0 : config.tcpKeepAliveMs,
    ...(config.disableTcpKeepAlive ? {} : { keepAliveIntervalMs: config.tcpKeepAliveIntervalMs }),
    ...placeSettings(config),
    ...(config.tcpFastOpen ? { fastOpen: true } : {}),
    ...(config.tcpMultiPath ? { multipath: true } : {}),
  };
}

/** Options of datagram sockets. */
export function datagramSettings(config: SocketConfig): Omit<DatagramOptions, "bind"> {
  const { udpFragment, reuseAddr } = config;
  return {
    ...placeSettings(config),
    ...(udpFragment === undefined ? {} : { fragment: udpFragment }),
    ...(reuseAddr ? { reuseAddress: true } : {}),
  };
}

function placeSettings(
  { routingMark, bindInterface }: SocketConfig,
): Pick<StreamOptions, "mark" | "device"> {
  return {
    ...(routingMark === 0 ? {} : { mark: routingMark }),
    ...(bindInterface === undefined ? {} : { device: bindInterface }),
  };
}

/**
 * The options that are set and that streams and datagrams of a driver leave out, by their names in a file; empty when
 * there are none. Those of the kernel's driver leave nothing out but Multipath TCP, where the kernel has none.
 */
export function ignoredOptions(config: SocketConfig, traits: StreamTraits): readonly string[] {
  if (traits.options) {
    return config.tcpMultiPath && !traits.multipath ? ["tcp_multi_path"] : [];
  }
  // The times that hold where nothing is said are those of other programs, and nobody asked for them.
  const hasTime = traits.driver === "node" || config.disableTcpKeepAlive ||
    config.tcpKeepAliveMs === KEEP_ALIVE_MS;
  const hasInterval = config.disableTcpKeepAlive ||
    config.tcpKeepAliveIntervalMs === KEEP_ALIVE_INTERVAL_MS;
  const set: readonly (readonly [name: string, isSet: boolean])[] = [
    ["bind_interface", config.bindInterface !== undefined],
    ["routing_mark", config.routingMark !== 0],
    ["reuse_addr", config.reuseAddr],
    ["tcp_fast_open", config.tcpFastOpen],
    ["tcp_multi_path", config.tcpMultiPath],
    ["tcp_keep_alive", !hasTime],
    ["tcp_keep_alive_interval", !hasInterval],
    ["udp_fragment", config.udpFragment !== undefined],
  ];
  return set.filter(([, isSet]) => isSet).map(([name]) => name);
}

/** Says once what is left out. */
export function warnIgnored(tag: string, config: SocketConfig, traits: StreamTraits): void {
  const names = ignoredOptions(config, traits);
  if (names.length === 0) return;
  const why = traits.options
    ? "the kernel has no Multipath TCP, or has it off (net.mptcp.enabled); TCP is used"
    : `the driver "${traits.driver}" cannot set it; on Linux, run with --allow-ffi`;
  logger("proxy", "sockets").warning("{tag}: {options} has no effect: {why}", {
    tag,
    options: names.join(", "),
    why,
  });
}

/** Defaults of the schema. */
const KEEP_ALIVE_MS = 300_000;
const KEEP_ALIVE_INTERVAL_MS = 75_000;
