/**
 * Shadowsocks whatever the method: streams and datagrams of clients and servers.
 *
 * @module
 */

import type { Endpoint } from "./address.ts";
import {
  createClientStream2022,
  createServerStream2022,
  type PaddingPolicy,
} from "./shadowsocks2022_stream.ts";
import { PacketClient2022, PacketServer2022 } from "./shadowsocks2022_packet.ts";
import type { ShadowsocksProfile } from "./shadowsocks_method.ts";
import {
  PacketClient2017,
  PacketServer2017,
  type ShadowsocksPacketClient,
  type ShadowsocksPacketServer,
} from "./shadowsocks_packet.ts";
import {
  createClientStream2017,
  createServerStream2017,
  type ShadowsocksClientStream,
  type ShadowsocksServerOptions,
  type ShadowsocksServerStream,
  type ShadowsocksTools,
} from "./shadowsocks_stream.ts";

/**
 * Makes a client's stream.
 *
 * @param destination Where to go.
 * @param padding 2022: how much padding the header gets; by default some when there is no payload.
 * @throws {RangeError | TypeError} When the destination does not fit the wire.
 */
export function createShadowsocksClient(
  profile: ShadowsocksProfile,
  destination: Endpoint,
  tools: ShadowsocksTools,
  padding?: PaddingPolicy,
): ShadowsocksClientStream {
  return profile.method.edition === 2022
    ? createClientStream2022(profile, destination, tools, padding)
    : createClientStream2017(profile, destination, tools);
}

/** Makes a server's stream, one per connection. */
export function createShadowsocksServer(
  options: ShadowsocksServerOptions,
  tools: ShadowsocksTools,
): ShadowsocksServerStream {
  return options.profile.method.edition === 2022
    ? createServerStream2022(options, tools)
    : createServerStream2017(options, tools);
}

/**
 * Makes a client's datagrams, for one client of ours: its session of 2022 is what the server answers to.
 *
 * @param padding 2022: how much padding datagrams get; by default some for port 53 only.
 */
export function createShadowsocksPacketClient(
  profile: ShadowsocksProfile,
  tools: ShadowsocksTools,
  padding?: PaddingPolicy,
): ShadowsocksPacketClient {
  return profile.method.edition === 2022
    ? new PacketClient2022(profile, tools, padding)
    : new PacketClient2017(profile, tools);
}

/**
 * Makes a server's datagrams, one for a whole listener.
 *
 * @param padding 2022: how much padding datagrams get; by default some for port 53 only.
 */
export function createShadowsocksPacketServer(
  options: ShadowsocksServerOptions,
  tools: ShadowsocksTools,
  padding?: PaddingPolicy,
): ShadowsocksPacketServer {
  return options.profile.method.edition === 2022
    ? new PacketServer2022(options, tools, padding)
    : new PacketServer2017(options, tools);
}
