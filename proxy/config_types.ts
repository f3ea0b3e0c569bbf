/**
 * The configuration as the engine sees it: what a file says, with every default filled in. Fields of sing-box's schema
 * in camelCase; durations are milliseconds and end in `Ms`; shared fields are grouped under `listen` and `dial`.
 *
 * @module
 */

import type { DnsRule, RouteRule, RuleSetSource } from "./rule_types.ts";

/** Which transport a connection uses. */
export type Network = "tcp" | "udp";

/** Which address family a name is resolved to. */
export type DomainStrategy = "prefer_ipv4" | "prefer_ipv6" | "ipv4_only" | "ipv6_only";

/** The Shadowsocks methods this build speaks. */
export type ShadowsocksMethod =
  | "none"
  | "aes-128-gcm"
  | "aes-192-gcm"
  | "aes-256-gcm"
  | "chacha20-ietf-poly1305"
  | "xchacha20-ietf-poly1305"
  | "2022-blake3-aes-128-gcm"
  | "2022-blake3-aes-256-gcm"
  | "2022-blake3-chacha20-poly1305";

/** A whole configuration. */
export interface ProxyConfig {
  /** What is logged, and where. */
  readonly log: LogConfig;
  /** Name resolution. */
  readonly dns: DnsConfig;
  /** Who is listened to. */
  readonly inbounds: readonly InboundConfig[];
  /** How destinations are reached; never empty. */
  readonly outbounds: readonly OutboundConfig[];
  /** Which outbound a connection takes. */
  readonly route: RouteConfig;
  /** Control interface and cache. */
  readonly experimental: ExperimentalConfig;
}

/** `log`. */
export interface LogConfig {
  /** Whether nothing is logged at all. */
  readonly disabled: boolean;
  /** The least severe level that is written. */
  readonly level: "trace" | "debug" | "info" | "warn" | "error" | "fatal" | "panic";
  /** File to append to, `stdout` or `stderr`; `undefined` is the standard error stream. */
  readonly output: string | undefined;
  /** Whether lines begin with the time; `undefined` is yes. */
  readonly timestamp: boolean | undefined;
}

/** What all inbounds share. */
export interface ListenConfig {
  /** Address to listen on, as text without brackets. */
  readonly address: string;
  /** Port, 0 to 65535; 0 lets the system choose. */
  readonly port: number;
  /** Network interface to bind to. */
  readonly bindInterface: string | undefined;
  /** Netfilter mark of the sockets; 0 is none. */
  readonly routingMark: number;
  /** Whether other sockets may listen on the port as well, the system spreading clients over them. */
  readonly reuseAddr: boolean;
  /** Whether TCP Fast Open is offered. */
  readonly tcpFastOpen: boolean;
  /** Whether Multipath TCP is offered. */
  readonly tcpMultiPath: boolean;
  /** Whether TCP keep-alive probes are off. */
  readonly disableTcpKeepAlive: boolean;
  /** Silence before the first probe, in milliseconds. */
  readonly tcpKeepAliveMs: number;
  /** Time between probes, in milliseconds. */
  readonly tcpKeepAliveIntervalMs: number;
  /** Whether datagrams may be fragmented; `undefined` leaves it to the system. */
  readonly udpFragment: boolean | undefined;
  /** Silence after which a UDP session ends, in milliseconds. */
  readonly udpTimeoutMs: number;
}

/** What all outbounds that open sockets share. */
export interface DialConfig {
  /** Tag of the outbound that connections are made through. */
  readonly detour: string | undefined;
  /** Network interface to bind to. */
  readonly bindInterface: string | undefined;
  /** IPv4 address to connect from. */
  readonly inet4BindAddress: string | undefined;
  /** IPv6 address to connect from. */
  readonly inet6BindAddress: string | undefined;
  /** Netfilter mark of the sockets; 0 is none. */
  readonly routingMark: number;
  /** Whether the local address may be shared. */
  readonly reuseAddr: boolean;
  /** Longest time for a TCP connection to be made, in milliseconds. */
  readonly connectTimeoutMs: number;
  /** Whether TCP Fast Open is used. */
  readonly tcpFastOpen: boolean;
  /** Whether Multipath TCP is used. */
  readonly tcpMultiPath: boolean;
  /** Whether TCP keep-alive probes are off. */
  readonly disableTcpKeepAlive: boolean;
  /** Silence before the first probe, in milliseconds. */
  readonly tcpKeepAliveMs: number;
  /** Time between probes, in milliseconds. */
  readonly tcpKeepAliveIntervalMs: number;
  /** Whether datagrams may be fragmented; `undefined` leaves it to the system. */
  readonly udpFragment: boolean | undefined;
  /** How the server's name is resolved. */
  readonly domainResolver: DomainResolver | undefined;
  /** Head start of an address before the next one is tried, in milliseconds (RFC 8305 §5). */
  readonly fallbackDelayMs: number;
}

/** A DNS server and what it is asked for. */
export interface DomainResolver {
  /** Tag of the DNS server. */
  readonly server: string;
  /** Address families; `undefined` takes the DNS section's. */
  readonly strategy: DomainStrategy | undefined;
  /** Whether the cache is passed by. */
  readonly disableCache: boolean;
  /** Time to live written into answers, in seconds; `undefined` leaves it. */
  readonly rewriteTtl: number | undefined;
  /** Network sent along in the EDNS client subnet option (RFC 7871). */
  readonly clientSubnet: string | undefined;
}

/** A user of an inbound. */
export interface UserConfig {
  /** Name, as rules see it in `auth_user`. */
  readonly username: string;
  /** Secret. */
  readonly password: string;
}

/** What all inbounds have. */
export interface InboundEntry {
  /** Unique among inbounds; the position as a number when the file gives none. */
  readonly tag: string;
  /** Where and how it listens. */
  readonly listen: ListenConfig;
}

/** Forwards everything to one destination. */
export interface DirectInboundConfig extends InboundEntry {
  /** Discriminator. */
  readonly type: "direct";
  /** Transports listened on. */
  readonly networks: readonly Network[];
  /** Destination; `undefined` keeps the address the client connected to. */
  readonly overrideAddress: string | undefined;
  /** Destination port; 0 keeps the port the client connected to. */
  readonly overridePort: number;
}

/** SOCKS 4, 4a and 5. */
export interface SocksInboundConfig extends InboundEntry {
  /** Discriminator. */
  readonly type: "socks";
  /** Empty: no authentication. */
  readonly users: readonly UserConfig[];
}

/** HTTP proxy. */
export interface HttpInboundConfig extends InboundEntry {
  /** Discriminator. */
  readonly type: "http";
  /** Empty: no authentication. */
  readonly users: readonly UserConfig[];
}

/** SOCKS and HTTP on one port. */
export interface MixedInboundConfig extends InboundEntry {
  /** Discriminator. */
  readonly type: "mixed";
  /** Empty: no authentication. */
  readonly users: readonly UserConfig[];
}

/** A Shadowsocks server. */
export interface ShadowsocksInboundConfig extends InboundEntry {
  /** Discriminator. */
  readonly type: "shadowsocks";
  /** Transports listened on. */
  readonly networks: readonly Network[];
  /** Cipher and protocol edition. */
  readonly method: ShadowsocksMethod;
  /** Password, or base64 key for 2022 methods. */
  readonly password: string;
  /** Users, each with its own password or key. */
  readonly users: readonly ShadowsocksUserConfig[];
  /** Servers that are relayed to, chosen by the identity header (2022 methods). */
  readonly destinations: readonly ShadowsocksDestinationConfig[];
}

/** A user of a Shadowsocks server. */
export interface ShadowsocksUserConfig {
  /** Name, as rules see it in `auth_user`. */
  readonly name: string;
  /** Password, or base64 key for 2022 methods. */
  readonly password: string;
}

/** A server behind a Shadowsocks relay. */
export interface ShadowsocksDestinationConfig extends ShadowsocksUserConfig {
  /** Name or address of the server. */
  readonly server: string;
  /** Port of the server, 1 to 65535. */
  readonly serverPort: number;
}

/** TCP connections that netfilter redirected here. */
export interface RedirectInboundConfig extends InboundEntry {
  /** Discriminator. */
  readonly type: "redirect";
}

/** Connections and datagrams that netfilter's TPROXY target handed over. */
export interface TproxyInboundConfig extends InboundEntry {
  /** Discriminator. */
  readonly type: "tproxy";
  /** Transports listened on. */
  readonly networks: readonly Network[];
}

/** Any inbound. */
export type InboundConfig =
  | DirectInboundConfig
  | SocksInboundConfig
  | HttpInboundConfig
  | MixedInboundConfig
  | ShadowsocksInboundConfig
  | RedirectInboundConfig
  | TproxyInboundConfig;

/** What all outbounds have. */
export interface OutboundEntry {
  /** Unique among outbounds; the position as a number when the file gives none. */
  readonly tag: string;
}

/** What all outbounds with a server have. */
export interface ServerOutbound extends OutboundEntry {
  /** Name or address of the server. */
  readonly server: string;
  /** Port of the server, 1 to 65535. */
  readonly serverPort: number;
  /** How connections to the server are made. */
  readonly dial: DialConfig;
}

/** Connects to the destination itself. */
export interface DirectOutboundConfig extends OutboundEntry {
  /** Discriminator. */
  readonly type: "direct";
  /** How connections are made. */
  readonly dial: DialConfig;
}

/** Refuses everything. */
export interface BlockOutboundConfig extends OutboundEntry {
  /** Discriminator. */
  readonly type: "block";
}

/** A SOCKS server. */
export interface SocksOutboundConfig extends ServerOutbound {
  /** Discriminator. */
  readonly type: "socks";
  /** Edition spoken. */
  readonly version: "4" | "4a" | "5";
  /** User, or the user id of SOCKS 4. */
  readonly username: string | undefined;
  /** Secret. */
  readonly password: string | undefined;
  /** Transports it takes. */
  readonly networks: readonly Network[];
}

/** An HTTP proxy that is asked to CONNECT. */
export interface HttpOutboundConfig extends ServerOutbound {
  /** Discriminator. */
  readonly type: "http";
  /** User. */
  readonly username: string | undefined;
  /** Secret. */
  readonly password: string | undefined;
  /** Path put into the request; `undefined` asks for `host:port` alone. */
  readonly path: string | undefined;
  /** Fields added to the request: name, then values in order. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
}

/** A Shadowsocks server. */
export interface ShadowsocksOutboundConfig extends ServerOutbound {
  /** Discriminator. */
  readonly type: "shadowsocks";
  /** Cipher and protocol edition. */
  readonly method: ShadowsocksMethod;
  /** Password, or base64 keys joined by colons for 2022 methods. */
  readonly password: string;
  /** Transports it takes. */
  readonly networks: readonly Network[];
}

/** What all groups have. */
export interface GroupEntry extends OutboundEntry {
  /** Tags of the members, in order; never empty. */
  readonly outbounds: readonly string[];
  /** Whether a change of the chosen member closes the connections of inbounds. */
  readonly interruptExistConnections: boolean;
}

/** What all groups that measure their members have. */
export interface TestedGroup extends GroupEntry {
  /** What is fetched to measure a member. */
  readonly url: string;
  /** Time between measurements, in milliseconds. */
  readonly intervalMs: number;
  /** Measuring pauses when the group was not used for so long, in milliseconds. */
  readonly idleTimeoutMs: number;
}

/** A group whose member is chosen by hand. */
export interface SelectorOutboundConfig extends GroupEntry {
  /** Discriminator. */
  readonly type: "selector";
  /** The member at the start; the first when the file gives none. */
  readonly default: string;
}

/** A group that takes the quickest member. */
export interface UrltestOutboundConfig extends TestedGroup {
  /** Discriminator. */
  readonly type: "urltest";
  /** How much quicker another member has to be, in milliseconds. */
  readonly toleranceMs: number;
}

/** A group that takes the first healthy member. */
export interface FallbackOutboundConfig extends TestedGroup {
  /** Discriminator. */
  readonly type: "fallback";
  /** Good measurements in a row that make a member healthy. */
  readonly upChecks: number;
  /** Failures in a row that make a member unhealthy. */
  readonly downChecks: number;
}

/** A group that spreads connections over its healthy members. */
export interface LoadbalanceOutboundConfig extends TestedGroup {
  /** Discriminator. */
  readonly type: "loadbalance";
  /** How the member of a connection is chosen. */
  readonly strategy:
    | "round-robin"
    | "least-connections"
    | "source-hash"
    | "consistent-hash"
    | "least-latency";
}

/** Any outbound that is a group of others. */
export type GroupOutboundConfig =
  | SelectorOutboundConfig
  | UrltestOutboundConfig
  | FallbackOutboundConfig
  | LoadbalanceOutboundConfig;

/** Any outbound. */
export type OutboundConfig =
  | DirectOutboundConfig
  | BlockOutboundConfig
  | SocksOutboundConfig
  | HttpOutboundConfig
  | ShadowsocksOutboundConfig
  | GroupOutboundConfig;

/** `route`. */
export interface RouteConfig {
  /** Rules, in order: the first that matches decides. */
  readonly rules: readonly RouteRule[];
  /** Rule sets by their tags. */
  readonly ruleSets: readonly RuleSetSource[];
  /** Tag of the outbound for what no rule decided; the first outbound when the file gives none. */
  readonly final: string;
  /** Network interface sockets are bound to. */
  readonly defaultInterface: string | undefined;
  /** Netfilter mark of all outgoing sockets; 0 is none. */
  readonly defaultMark: number;
  /** How names of servers are resolved when an outbound does not say. */
  readonly defaultDomainResolver: DomainResolver | undefined;
  /** {@linkcode DialConfig.fallbackDelayMs} of outbounds that do not say. */
  readonly defaultFallbackDelayMs: number;
}

/** `dns`. */
export interface DnsConfig {
  /** Servers; never empty: the system's resolver when the file gives none. */
  readonly servers: readonly DnsServerConfig[];
  /** Rules, in order. */
  readonly rules: readonly DnsRule[];
  /** Tag of the server for what no rule decided; the first server when the file gives none. */
  readonly final: string;
  /** Address families; `undefined` asks for both and prefers none. */
  readonly strategy: DomainStrategy | undefined;
  /** Whether nothing is cached. */
  readonly disableCache: boolean;
  /** Whether cached answers never end. */
  readonly disableExpire: boolean;
  /** Whether each server has a cache of its own. */
  readonly independentCache: boolean;
  /** Answers kept, 1024 or more. */
  readonly cacheCapacity: number;
  /** How long after its end an answer may still be served while it is asked for again, in milliseconds; 0 never. */
  readonly optimisticMs: number;
  /** Whether addresses in answers are remembered with their name. */
  readonly reverseMapping: boolean;
  /** Network sent along in the EDNS client subnet option (RFC 7871). */
  readonly clientSubnet: string | undefined;
}

/** What all DNS servers have. */
export interface DnsServerEntry {
  /** Unique among DNS servers; the position as a number when the file gives none. */
  readonly tag: string;
}

/** What all DNS servers on the network have. */
export interface RemoteDnsServer extends DnsServerEntry {
  /** Name or address of the server. */
  readonly server: string;
  /** Port, 1 to 65535. */
  readonly serverPort: number;
  /** How the server is reached. */
  readonly dial: DialConfig;
}

/** The system's resolver. */
export interface LocalDnsServerConfig extends DnsServerEntry {
  /** Discriminator. */
  readonly type: "local";
}

/** Plain DNS over UDP (RFC 1035), over TCP for answers that do not fit. */
export interface UdpDnsServerConfig extends RemoteDnsServer {
  /** Discriminator. */
  readonly type: "udp";
}

/** Plain DNS over TCP (RFC 7766). */
export interface TcpDnsServerConfig extends RemoteDnsServer {
  /** Discriminator. */
  readonly type: "tcp";
}

/** DNS over TLS (RFC 7858). */
export interface TlsDnsServerConfig extends RemoteDnsServer {
  /** Discriminator. */
  readonly type: "tls";
  /** What is checked of the server. */
  readonly tls: TlsClientConfig;
}

/** DNS over HTTPS (RFC 8484). */
export interface HttpsDnsServerConfig extends RemoteDnsServer {
  /** Discriminator. */
  readonly type: "https";
  /** Path of the resource. */
  readonly path: string;
  /** Fields added to requests. */
  readonly headers: Readonly<Record<string, readonly string[]>>;
  /** What is checked of the server. */
  readonly tls: TlsClientConfig;
}

/** Names with fixed addresses. */
export interface HostsDnsServerConfig extends DnsServerEntry {
  /** Discriminator. */
  readonly type: "hosts";
  /** Files in the format of `/etc/hosts`. */
  readonly path: readonly string[];
  /** Lower-case name, then addresses. */
  readonly predefined: Readonly<Record<string, readonly string[]>>;
}

/** Invented addresses that lead back to their name. */
export interface FakeipDnsServerConfig extends DnsServerEntry {
  /** Discriminator. */
  readonly type: "fakeip";
  /** Block that A records are taken from; `undefined` gives none. */
  readonly inet4Range: string | undefined;
  /** Block that AAAA records are taken from; `undefined` gives none. */
  readonly inet6Range: string | undefined;
}

/** One answer for everything. */
export interface RcodeDnsServerConfig extends DnsServerEntry {
  /** Discriminator. */
  readonly type: "rcode";
  /** Response code, 0 to 15 (RFC 1035 §4.1.1). */
  readonly rcode: number;
}

/** Any DNS server. */
export type DnsServerConfig =
  | LocalDnsServerConfig
  | UdpDnsServerConfig
  | TcpDnsServerConfig
  | TlsDnsServerConfig
  | HttpsDnsServerConfig
  | HostsDnsServerConfig
  | FakeipDnsServerConfig
  | RcodeDnsServerConfig;

/** What a TLS client checks and offers. */
export interface TlsClientConfig {
  /** Name sent and checked; `undefined` takes the server's. */
  readonly serverName: string | undefined;
  /** Whether any certificate is accepted. */
  readonly insecure: boolean;
  /** Protocols offered, in order; empty takes the protocol's own. */
  readonly alpn: readonly string[];
  /** Trusted certificate as PEM lines; empty trusts the system's. */
  readonly certificate: readonly string[];
  /** File with the trusted certificate. */
  readonly certificatePath: string | undefined;
}

/** `experimental`. */
export interface ExperimentalConfig {
  /** What survives a restart. */
  readonly cacheFile: CacheFileConfig;
  /** The REST interface; `undefined` opens none. */
  readonly clashApi: ClashApiConfig | undefined;
}

/** `experimental.cache_file`. */
export interface CacheFileConfig {
  /** Whether it is used. */
  readonly enabled: boolean;
  /** Where it is. */
  readonly path: string;
  /** Keeps configurations that share a file apart. */
  readonly cacheId: string;
  /** Whether invented addresses are kept. */
  readonly storeFakeip: boolean;
}

/** `experimental.clash_api`. */
export interface ClashApiConfig {
  /** `host:port` to listen on. */
  readonly externalController: string;
  /** Folder served under `/ui`. */
  readonly externalUi: string | undefined;
  /** Bearer token; empty asks for none. */
  readonly secret: string;
  /** Mode at the start. */
  readonly defaultMode: string;
  /** Origins that browsers may call from; `*` is any. */
  readonly accessControlAllowOrigin: readonly string[];
  /** Whether pages from public networks may call into a private one. */
  readonly accessControlAllowPrivateNetwork: boolean;
}
