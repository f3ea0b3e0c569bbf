/**
 * From the configuration of DNS servers to servers.
 *
 * @module
 */

import { getServers } from "node:dns";
import type { Random } from "../internal/random.ts";
import type { Clock } from "../internal/time/clock.ts";
import type {
  DialConfig,
  DnsServerConfig,
  DomainResolver,
  RemoteDnsServer,
} from "./config_types.ts";
import { FakeipDnsServer } from "./dns_fakeip.ts";
import type { DnsServer } from "./dns_server.ts";
import { HostsDnsServer, LocalDnsServer, RcodeDnsServer } from "./dns_servers_local.ts";
import { plainDnsStream, StreamDnsServer } from "./dns_servers_stream.ts";
import { UdpDnsServer } from "./dns_servers_udp.ts";
import type { Dialer } from "./outbound.ts";
import type { Endpoint } from "./protocol/mod.ts";
import { ipFamilyOf } from "./protocol/ip_text.ts";

/** What DNS servers live on. */
export interface DnsServerContext {
  /**
   * How something is reached: through the outbound that `detour` names, else from here. `undefined` is from here, with
   * every default. Addresses are passed to what is given back, names only through a detour.
   */
  dialer(dial: DialConfig | undefined): Dialer;
  /** Resolves the name of a server that is reached from here. */
  locate(host: string, resolver: DomainResolver | undefined, signal: AbortSignal): Promise<string>;
  /** Monotonic time. */
  readonly clock: Clock;
  /** Fit for numbers that nobody should guess. */
  readonly random: Random;
}

/** Makes a server. Opens nothing. */
export function createDnsServer(config: DnsServerConfig, context: DnsServerContext): DnsServer {
  const { tag } = config;
  switch (config.type) {
    case "local":
      return new LocalDnsServer(tag, systemServer(tag, context));
    case "hosts":
      return new HostsDnsServer(tag, config.path, config.predefined, context.clock);
    case "fakeip":
      return new FakeipDnsServer(tag, config.inet4Range, config.inet6Range);
    case "rcode":
      return new RcodeDnsServer(tag, config.rcode);
    case "udp":
      return udpServer(tag, way(config, context), context);
    case "tcp":
      return tcpServer(tag, way(config, context), context);
    case "tls": {
      const { dialer, locate } = way(config, context);
      return new StreamDnsServer({
        tag,
        type: "tls",
        random: context.random,
        connect: async (signal) => {
          // The runtime's TLS is loaded by the first question only.
          const { beginTls, tlsDnsStream } = await import("./dns_tls.ts");
          const duplex = await dialer.dial(await locate(signal), { signal });
          const { tls, server: host } = config;
          return tlsDnsStream(await beginTls(duplex, { tls, host, alpn: ["dot"], signal }));
        },
      });
    }
    case "https": {
      const { server: host, serverPort: port } = config;
      return loaded(tag, "https", async () => {
        const { HttpsDnsServer } = await import("./dns_servers_https.ts");
        return new HttpsDnsServer({ tag, host, port, ...way(config, context), config });
      });
    }
  }
}

interface Way {
  readonly dialer: Dialer;
  readonly locate: (signal: AbortSignal) => Endpoint | Promise<Endpoint>;
}

function way(config: RemoteDnsServer, context: DnsServerContext): Way {
  const { server: host, serverPort: port, dial } = config;
  const endpoint = { host, port };
  const isKnown = ipFamilyOf(host) !== 0 || dial.detour !== undefined;
  return {
    dialer: context.dialer(dial),
    locate: isKnown
      ? () => endpoint
      : async (signal) => ({ host: await context.locate(host, dial.domainResolver, signal), port }),
  };
}

function udpServer(tag: string, way: Way, context: DnsServerContext): DnsServer {
  const { random } = context;
  return new UdpDnsServer({ tag, ...way, random, whenTruncated: tcpServer(tag, way, context) });
}

function tcpServer(tag: string, { dialer, locate }: Way, context: DnsServerContext): DnsServer {
  return new StreamDnsServer({
    tag,
    type: "tcp",
    random: context.random,
    connect: async (signal) => plainDnsStream(await dialer.dial(await locate(signal), { signal })),
  });
}

/** The name server the system is configured with, for what its look-up function cannot tell. */
function systemServer(tag: string, context: DnsServerContext): DnsServer | undefined {
  let first: string | undefined;
  try {
    first = getServers()[0];
  } catch {
    // Without the permission to know, there is none.
  }
  const match = /^\[?([^\]]+?)\]?(?::(\d+))?$/.exec(first ?? "");
  const isLiteral = ipFamilyOf(first ?? "") !== 0;
  const host = isLiteral ? first! : match?.[1] ?? "";
  if (ipFamilyOf(host) === 0) return undefined;
  const endpoint = { host, port: isLiteral ? 53 : Number(match?.[2] ?? 53) };
  return udpServer(tag, { dialer: context.dialer(undefined), locate: () => endpoint }, context);
}

/** A server whose code is loaded by the first question. */
function loaded(tag: string, type: string, open: () => Promise<DnsServer>): DnsServer {
  let opening: Promise<DnsServer> | undefined;
  return {
    tag,
    type,
    exchange: async (ask, signal) => await (await (opening ??= open())).exchange(ask, signal),
    close: async () => await (await opening)?.close(),
  };
}
