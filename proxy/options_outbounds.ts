/**
 * The outbounds of the configuration: one schema per type.
 *
 * @module
 */

import type {
  BlockOutboundConfig,
  DialConfig,
  DirectOutboundConfig,
  FallbackOutboundConfig,
  HttpOutboundConfig,
  LoadbalanceOutboundConfig,
  OutboundConfig,
  SelectorOutboundConfig,
  ShadowsocksOutboundConfig,
  SocksOutboundConfig,
  UrltestOutboundConfig,
} from "./config_types.ts";
import { method, tagOf } from "./options_inbounds.ts";
import { DIAL, DIAL_UNSUPPORTED, headers, networks, recordWith, SERVER } from "./options_shared.ts";
import {
  boolean,
  duration,
  field,
  type FieldsOf,
  integer,
  list,
  mapped,
  nonEmpty,
  oneOf,
  optional,
  record,
  required,
  secret,
  tagged,
  text,
  type UnsupportedFields,
  type Value,
} from "./options_values.ts";

type Own<C> = Omit<C, "dial">;

function dialling<C extends { readonly dial: DialConfig }>(
  own: FieldsOf<Own<C>>,
  unsupported: UnsupportedFields = {},
): Value<C> {
  const value = recordWith<Own<C>, DialConfig, "dial">(own, "dial", DIAL, {
    ...DIAL_UNSUPPORTED,
    ...unsupported,
  });
  // `C` without a member, and that member, are `C`; the compiler does not see it through the type parameter.
  return value as Value<unknown> as Value<C>;
}

const TAG = field(text("a tag"), "", "Unique name among outbounds");

const OVERRIDE = 'this field at an outbound; use "route-options" in a route rule';

const direct = dialling<DirectOutboundConfig>({
  type: required(oneOf(["direct"]), "Connects to the destination itself"),
  tag: TAG,
}, {
  override_address: OVERRIDE,
  override_port: OVERRIDE,
  proxy_protocol: "the PROXY protocol",
});

const block = record<BlockOutboundConfig>({
  type: required(oneOf(["block"]), "Refuses everything"),
  tag: TAG,
});

const socks = dialling<SocksOutboundConfig>({
  type: required(oneOf(["socks"]), "SOCKS server"),
  tag: TAG,
  ...SERVER,
  version: field(
    mapped(oneOf(["", "4", "4a", "5"]), (word) => word === "" ? "5" : word),
    "5",
    "Edition spoken",
  ),
  username: optional(emptyIsNone(text()), "User name"),
  password: optional(emptyIsNone(secret()), "Password"),
  networks: field(networks(), [], "Transports it takes", "network"),
}, { udp_over_tcp: "UDP over TCP" });

const http = dialling<HttpOutboundConfig>({
  type: required(oneOf(["http"]), "HTTP proxy that is asked to CONNECT"),
  tag: TAG,
  ...SERVER,
  username: optional(emptyIsNone(text()), "User name"),
  password: optional(emptyIsNone(secret()), "Password"),
  path: optional(emptyIsNone(text("a path")), "Path put into the request"),
  headers: field(headers(), {}, "Fields added to the request"),
}, { tls: "TLS to an HTTP proxy" });

const shadowsocks = dialling<ShadowsocksOutboundConfig>({
  type: required(oneOf(["shadowsocks"]), "Shadowsocks server"),
  tag: TAG,
  ...SERVER,
  method: required(method(), "Cipher and protocol edition"),
  password: field(secret(), "", "Password, or base64 keys joined by colons for 2022 methods"),
  networks: field(networks(), [], "Transports it takes", "network"),
}, {
  plugin: "SIP003 plugins",
  plugin_opts: "SIP003 plugins",
  udp_over_tcp: "UDP over TCP",
  multiplex: "multiplexing",
});

const MEMBERS = {
  tag: TAG,
  outbounds: required(list(tagOf("an outbound")), "Tags of the members, in order"),
  interruptExistConnections: field(boolean(), false, "Close connections when the member changes"),
};

const TESTED = {
  ...MEMBERS,
  url: field(
    nonEmpty("a URL"),
    "https://www.gstatic.com/generate_204",
    "What is fetched to measure a member",
  ),
  intervalMs: field(duration(), "3m", "Time between measurements"),
  idleTimeoutMs: field(duration(), "30m", "Measuring pauses after so long without use"),
};

const selector = mapped(
  record<Omit<SelectorOutboundConfig, "default"> & { readonly default: string | undefined }>({
    type: required(oneOf(["selector"]), "Group whose member is chosen by hand"),
    ...MEMBERS,
    default: optional(emptyIsNone(text("a tag")), "The member at the start"),
  }),
  (group): SelectorOutboundConfig => ({ ...group, default: group.default ?? group.outbounds[0]! }),
);

const urltest = record<UrltestOutboundConfig>({
  type: required(oneOf(["urltest"]), "Group that takes the quickest member"),
  ...TESTED,
  // A bare number, because sing-box has it so; the unit is milliseconds.
  toleranceMs: field(integer(0, 65535), 50, "How much quicker another has to be, in milliseconds"),
});

const fallback = record<FallbackOutboundConfig>({
  type: required(oneOf(["fallback"]), "Group that takes the first healthy member"),
  ...TESTED,
  upChecks: field(integer(1, 100), 1, "Good measurements in a row that make a member healthy"),
  downChecks: field(integer(1, 100), 1, "Failures in a row that make a member unhealthy"),
});

const loadbalance = record<LoadbalanceOutboundConfig>({
  type: required(oneOf(["loadbalance"]), "Group that spreads connections over its members"),
  ...TESTED,
  strategy: field(
    oneOf(["round-robin", "least-connections", "source-hash", "consistent-hash", "least-latency"]),
    "round-robin",
    "How the member of a connection is chosen",
  ),
});

function emptyIsNone(value: Value<string>): Value<string | undefined> {
  return mapped(value, (given) => given === "" ? undefined : given);
}

/** An entry of `outbounds`. */
export function outboundValue(): Value<OutboundConfig> {
  return tagged<OutboundConfig>({
    key: "type",
    what: "outbound type",
    variants: {
      direct,
      block,
      socks,
      http,
      shadowsocks,
      selector,
      urltest,
      fallback,
      loadbalance,
    },
    unsupported: {
      dns: 'the outbound type "dns"; use a route rule with "action": "hijack-dns"',
      trojan: "Trojan",
      vless: "VLESS",
      vmess: "VMess",
      hysteria: "Hysteria",
      hysteria2: "Hysteria 2",
      tuic: "TUIC",
      ssh: "SSH",
      tor: "Tor",
      naive: "NaiveProxy",
      shadowtls: "ShadowTLS",
      anytls: "AnyTLS",
      wireguard: "WireGuard",
      shadowsocksr: "ShadowsocksR",
    },
  });
}
