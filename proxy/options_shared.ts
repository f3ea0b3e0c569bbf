/**
 * Fields that many inbounds, outbounds and DNS servers share.
 *
 * @module
 */

import type {
  DialConfig,
  DomainResolver,
  DomainStrategy,
  ListenConfig,
  Network,
  ShadowsocksMethod,
  TlsClientConfig,
  UserConfig,
} from "./config_types.ts";
import type { DnsRouteOptions } from "./rule_types.ts";
import {
  address,
  addressOf,
  boolean,
  cidr,
  dictionary,
  duration,
  type Field,
  field,
  type FieldsOf,
  host,
  integer,
  list,
  mapped,
  mark,
  nonEmpty,
  objectOr,
  oneOf,
  optional,
  record,
  reference,
  required,
  secret,
  text,
  type UnsupportedFields,
  type Value,
} from "./options_values.ts";

const KEEP_ALIVE = {
  disableTcpKeepAlive: field(boolean(), false, "Send no TCP keep-alive probes"),
  tcpKeepAliveMs: field(duration(), "5m", "Silence before the first keep-alive probe"),
  tcpKeepAliveIntervalMs: field(duration(), "75s", "Time between keep-alive probes"),
  tcpFastOpen: field(boolean(), false, "Use TCP Fast Open"),
  tcpMultiPath: field(boolean(), false, "Use Multipath TCP"),
  udpFragment: optional(boolean(), "Let datagrams be fragmented"),
  bindInterface: optional(nonEmpty("the name of an interface"), "Network interface to bind to"),
  routingMark: field(mark(), 0, "Netfilter mark of the sockets; 0 is none"),
};

/** {@linkcode ListenConfig}. */
export const LISTEN: FieldsOf<ListenConfig> = {
  address: field(address(), "127.0.0.1", "Address to listen on", "listen"),
  port: field(integer(0, 65535), 0, "Port; 0 lets the system choose", "listen_port"),
  ...KEEP_ALIVE,
  reuseAddr: field(boolean(), false, "Share the port with a closing listener"),
  udpTimeoutMs: field(duration(), "5m", "Silence after which a UDP session ends"),
};

const SNIFF = 'sniffing at an inbound; use a route rule with "action": "sniff"';

/** Listen fields of sing-box that are refused. */
export const LISTEN_UNSUPPORTED: UnsupportedFields = {
  detour: "handing connections to another inbound",
  netns: "network namespaces",
  proxy_protocol: "the PROXY protocol",
  proxy_protocol_accept_no_header: "the PROXY protocol",
  sniff: SNIFF,
  sniff_override_destination: SNIFF,
  sniff_timeout: SNIFF,
  domain_strategy: 'resolving at an inbound; use a route rule with "action": "resolve"',
  udp_disable_domain_unmapping: 'this field at an inbound; use "route-options" in a route rule',
};

const STRATEGIES = ["prefer_ipv4", "prefer_ipv6", "ipv4_only", "ipv6_only"] as const;

/** Address families; empty text is none given. */
export function strategy(): Value<DomainStrategy | undefined> {
  return mapped(oneOf(["", ...STRATEGIES]), (word) => word === "" ? undefined : word);
}

/** A DNS server's tag, or an object with it and how it is asked. */
export function domainResolver(): Value<DomainResolver> {
  const full: Value<DomainResolver> = record({
    server: required(nonEmpty("the tag of a DNS server"), "Tag of the DNS server"),
    ...ASKING,
    strategy: optional(strategy(), "Address families"),
  });
  const short: Value<DomainResolver> = mapped(
    nonEmpty("the tag of a DNS server"),
    (server) => ({
      server,
      strategy: undefined,
      disableCache: false,
      rewriteTtl: undefined,
      clientSubnet: undefined,
    }),
  );
  return objectOr(full, short);
}

/** How a DNS server is asked. */
export const ASKING: FieldsOf<DnsRouteOptions> = {
  disableCache: field(boolean(), false, "Pass the cache by"),
  rewriteTtl: optional(integer(0, 0xffff_ffff), "Time to live written into answers, in seconds"),
  clientSubnet: optional(cidr(), "Network sent along as EDNS client subnet"),
};

/** {@linkcode DialConfig}. */
export const DIAL: FieldsOf<DialConfig> = {
  detour: optional(reference(), "Tag of the outbound that connections are made through"),
  ...KEEP_ALIVE,
  inet4BindAddress: optional(addressOf(4), "IPv4 address to connect from"),
  inet6BindAddress: optional(addressOf(6), "IPv6 address to connect from"),
  reuseAddr: field(boolean(), false, "Share the local address"),
  connectTimeoutMs: field(duration(), "5s", "Longest time for a TCP connection to be made"),
  domainResolver: optional(domainResolver(), "How the server's name is resolved"),
  // Left open here: `options.ts` fills in what the route section says.
  fallbackDelayMs: optional(
    duration(),
    "Head start of an address before the next is tried",
  ) as Field<number>,
};

/** Dial fields of sing-box that are refused. */
export const DIAL_UNSUPPORTED: UnsupportedFields = {
  netns: "network namespaces",
  bind_address_no_port: "binding without a port",
  domain_strategy: 'this field; use "domain_resolver"',
  network_strategy: "choosing between interfaces",
  network_type: "choosing between interfaces",
  fallback_network_type: "choosing between interfaces",
  protect_path: "Android sockets",
};

/** An object whose shared fields stand beside its own in the file and in a group of their own in the result. */
export function recordWith<T extends object, S extends object, N extends string>(
  own: FieldsOf<T>,
  group: N,
  shared: FieldsOf<S>,
  unsupported: UnsupportedFields = {},
): Value<T & { readonly [K in N]: S }> {
  // Where one listens stands right behind the type and the tag; how one dials stands at the end.
  const head = group === "listen" ? Object.fromEntries(Object.entries(own).slice(0, 2)) : own;
  const flat = record<T & S>({ ...head, ...shared, ...own } as FieldsOf<T & S>, unsupported);
  const ownNames = Object.keys(own);
  const sharedNames = Object.keys(shared);
  return mapped(flat, (values) => {
    const pick = (names: readonly string[]): object =>
      Object.fromEntries(names.map((name) => [name, Reflect.get(values, name)]));
    // The names are those the two groups of fields were declared with.
    return { ...pick(ownNames), [group]: pick(sharedNames) } as T & { readonly [K in N]: S };
  });
}

const BOTH: readonly Network[] = ["tcp", "udp"];

/** Transports; empty text or none means both. */
export function networks(): Value<readonly Network[]> {
  return mapped(list(oneOf(["tcp", "udp", ""])), (words) => {
    const given = BOTH.filter((network) => words.includes(network));
    return given.length === 0 ? BOTH : given;
  });
}

/** The Shadowsocks methods, without the ones that are refused. */
export const METHODS: readonly ShadowsocksMethod[] = [
  "2022-blake3-aes-128-gcm",
  "2022-blake3-aes-256-gcm",
  "2022-blake3-chacha20-poly1305",
  "none",
  "aes-128-gcm",
  "aes-192-gcm",
  "aes-256-gcm",
  "chacha20-ietf-poly1305",
  "xchacha20-ietf-poly1305",
];

/** Users of an inbound with names and passwords. */
export function users(): Value<readonly UserConfig[]> {
  return list(record({
    username: required(nonEmpty("a user name"), "Name of the user"),
    password: field(secret(), "", "Password of the user"),
  }));
}

/** Fields of an HTTP request: name, then one value or several. */
export function headers(): Value<Readonly<Record<string, readonly string[]>>> {
  return dictionary(list(text()));
}

/** Where a server is. */
export const SERVER: FieldsOf<{ readonly server: string; readonly serverPort: number }> = {
  server: required(host(), "Name or address of the server"),
  serverPort: required(integer(1, 65535), "Port of the server"),
};

/** What a TLS client checks and offers. */
export function tlsClient(): Value<TlsClientConfig> {
  return mapped(
    record({
      enabled: field(boolean(), true, "Always on where the protocol is TLS"),
      serverName: optional(host(), "Name sent and checked"),
      insecure: field(boolean(), false, "Accept any certificate"),
      alpn: field(list(nonEmpty("a protocol name")), [], "Protocols offered"),
      certificate: field(list(text("PEM text")), [], "Trusted certificate, line by line"),
      certificatePath: optional(nonEmpty("a path"), "File with the trusted certificate"),
    }, {
      disable_sni: "hiding the server's name",
      min_version: "limits of the TLS version",
      max_version: "limits of the TLS version",
      cipher_suites: "choosing cipher suites",
      curve_preferences: "choosing curves",
      ech: "encrypted ClientHello",
      utls: "ClientHello shaping",
      reality: "REALITY",
      fragment: "fragmented handshakes",
      fragment_fallback_delay: "fragmented handshakes",
      record_fragment: "fragmented handshakes",
      kernel_tx: "kernel TLS",
      kernel_rx: "kernel TLS",
      client_certificate: "client certificates",
      client_certificate_path: "client certificates",
      client_key: "client certificates",
      client_key_path: "client certificates",
      certificate_public_key_sha256: "pinned keys",
    }),
    ({ enabled: _enabled, ...checked }) => checked,
  );
}
