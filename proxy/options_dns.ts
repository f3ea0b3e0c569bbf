/**
 * The DNS section of the configuration.
 *
 * @module
 */

import type {
  DnsConfig,
  DnsServerConfig,
  FakeipDnsServerConfig,
  HostsDnsServerConfig,
  HttpsDnsServerConfig,
  LocalDnsServerConfig,
  RcodeDnsServerConfig,
  TcpDnsServerConfig,
  TlsDnsServerConfig,
  UdpDnsServerConfig,
} from "./config_types.ts";
import { RESPONSE_CODES } from "./dns_numbers.ts";
import { dnsRule } from "./options_rules.ts";
import {
  DIAL,
  DIAL_UNSUPPORTED,
  headers,
  recordWith,
  strategy,
  tlsClient,
} from "./options_shared.ts";
import {
  address,
  boolean,
  cidr,
  dictionary,
  duration,
  field,
  type FieldsOf,
  host,
  integer,
  list,
  mapped,
  nonEmpty,
  numberOrWord,
  objectOr,
  oneOf,
  optional,
  record,
  required,
  tagged,
  text,
  type Value,
} from "./options_values.ts";

const TAG = field(text("a tag"), "", "Unique name among DNS servers");

function remote<C extends { readonly dial: object }>(own: FieldsOf<Omit<C, "dial">>): Value<C> {
  const value = recordWith(own, "dial", DIAL, DIAL_UNSUPPORTED);
  // `C` without a member, and that member, are `C`; the compiler does not see it through the type parameter.
  return value as Value<unknown> as Value<C>;
}

function server(port: number): FieldsOf<{ readonly server: string; readonly serverPort: number }> {
  return {
    server: required(host(), "Name or address of the server"),
    serverPort: field(integer(1, 65535), port, "Port of the server"),
  };
}

function serverValue(): Value<DnsServerConfig> {
  const https = remote<HttpsDnsServerConfig>({
    type: required(oneOf(["https"]), "DNS over HTTPS"),
    tag: TAG,
    ...server(443),
    path: field(nonEmpty("a path"), "/dns-query", "Path of the resource"),
    headers: field(headers(), {}, "Fields added to requests"),
    tls: field(tlsClient(), {}, "What is checked of the server"),
  });
  const hosts = record<HostsDnsServerConfig>({
    type: required(oneOf(["hosts"]), "Names with fixed addresses"),
    tag: TAG,
    path: field(list(nonEmpty("a path")), [], "Files in the format of /etc/hosts"),
    predefined: field(mapped(dictionary(list(address())), lowerKeys), {}, "Name, then addresses"),
  });
  const fakeip = record<FakeipDnsServerConfig>({
    type: required(oneOf(["fakeip"]), "Invented addresses that lead back to their name"),
    tag: TAG,
    inet4Range: optional(cidr(), "Block that A records are taken from"),
    inet6Range: optional(cidr(), "Block that AAAA records are taken from"),
  });
  return tagged<DnsServerConfig>({
    key: "type",
    what: "DNS server type",
    old: { key: "address", use: 'use "type" and "server"' },
    variants: {
      local: record<LocalDnsServerConfig>({
        type: required(oneOf(["local"]), "The system's resolver"),
        tag: TAG,
      }, {
        detour: "reaching the system's resolver through an outbound",
        prefer_go: "another resolver",
      }),
      udp: remote<UdpDnsServerConfig>({
        type: required(oneOf(["udp"]), "Plain DNS over UDP"),
        tag: TAG,
        ...server(53),
      }),
      tcp: remote<TcpDnsServerConfig>({
        type: required(oneOf(["tcp"]), "Plain DNS over TCP"),
        tag: TAG,
        ...server(53),
      }),
      tls: remote<TlsDnsServerConfig>({
        type: required(oneOf(["tls"]), "DNS over TLS"),
        tag: TAG,
        ...server(853),
        tls: field(tlsClient(), {}, "What is checked of the server"),
      }),
      https,
      hosts,
      fakeip,
      rcode: record<RcodeDnsServerConfig>({
        type: required(oneOf(["rcode"]), "One answer for everything"),
        tag: TAG,
        rcode: field(numberOrWord(RESPONSE_CODES, 15), "REFUSED", "Response code"),
      }),
    },
    unsupported: {
      quic: "DNS over QUIC",
      h3: "DNS over HTTP/3",
      dhcp: "DNS servers from DHCP",
      tailscale: "Tailscale",
      resolved: "systemd-resolved",
    },
  });
}

function lowerKeys<T>(given: Readonly<Record<string, T>>): Readonly<Record<string, T>> {
  return Object.fromEntries(
    Object.entries(given).map(([name, value]) => [name.toLowerCase().replace(/\.$/, ""), value]),
  );
}

const DAY_MS = 86_400_000;

function optimistic(): Value<number> {
  const full = mapped(
    record({
      enabled: field(boolean(), false, "Serve answers that ended"),
      timeoutMs: field(duration(), "1d", "How long after their end, 1d at most"),
    }),
    ({ enabled, timeoutMs }) => enabled ? Math.min(timeoutMs, DAY_MS) : 0,
  );
  return objectOr(full, mapped(boolean(), (enabled) => enabled ? DAY_MS : 0));
}

/** The section `dns`; tags and `final` may still be missing. */
export function dnsValue(): Value<
  Omit<DnsConfig, "final"> & { readonly final: string | undefined }
> {
  return record({
    servers: field(list(serverValue()), [], "Servers"),
    rules: field(list(dnsRule()), [], "Rules, in order"),
    final: optional(
      mapped(text("a tag"), (tag) => tag === "" ? undefined : tag),
      "Tag of the server for what no rule decided",
    ),
    strategy: optional(strategy(), "Address families"),
    disableCache: field(boolean(), false, "Cache nothing"),
    disableExpire: field(boolean(), false, "Let cached answers never end"),
    independentCache: field(boolean(), false, "Give each server a cache of its own"),
    cacheCapacity: field(
      mapped(integer(0, 10_000_000), (given) => Math.max(given, 1024)),
      4096,
      "Answers kept, 1024 at least",
    ),
    optimisticMs: field(optimistic(), false, "Serve answers that ended while asking again"),
    reverseMapping: field(boolean(), false, "Remember names of addresses in answers"),
    clientSubnet: optional(cidr(), "Network sent along as EDNS client subnet"),
  }, {
    fakeip: 'this field; use a server with "type": "fakeip"',
    timeout: "another limit than 10 s",
  });
}
