/**
 * The inbounds of the configuration: one schema per type.
 *
 * @module
 */

import type {
  DirectInboundConfig,
  HttpInboundConfig,
  InboundConfig,
  ListenConfig,
  MixedInboundConfig,
  RedirectInboundConfig,
  ShadowsocksDestinationConfig,
  ShadowsocksInboundConfig,
  ShadowsocksMethod,
  ShadowsocksUserConfig,
  SocksInboundConfig,
  TproxyInboundConfig,
} from "./config_types.ts";
import {
  LISTEN,
  LISTEN_UNSUPPORTED,
  METHODS,
  networks,
  recordWith,
  SERVER,
  users,
} from "./options_shared.ts";
import {
  field,
  type FieldsOf,
  host,
  integer,
  list,
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

type Own<C> = Omit<C, "listen">;

function inbound<C extends { readonly listen: ListenConfig }>(
  own: FieldsOf<Own<C>>,
  unsupported: UnsupportedFields = {},
): Value<C> {
  const value = recordWith<Own<C>, ListenConfig, "listen">(own, "listen", LISTEN, {
    ...LISTEN_UNSUPPORTED,
    ...unsupported,
  });
  // `C` without a member, and that member, are `C`; the compiler does not see it through the type parameter.
  return value as Value<unknown> as Value<C>;
}

const TAG = field(text("a tag"), "", "Unique name among inbounds");

const LOCAL_PROXY: UnsupportedFields = {
  tls: "TLS at an inbound",
  set_system_proxy: "changing the system's proxy settings",
  domain_resolver: "resolving at an inbound",
};

const direct = inbound<DirectInboundConfig>({
  type: required(oneOf(["direct"]), "Forwards to one destination"),
  tag: TAG,
  networks: field(networks(), [], "Transports listened on", "network"),
  overrideAddress: optional(host(), "Destination of everything that comes in"),
  overridePort: field(integer(0, 65535), 0, "Port of everything that comes in; 0 keeps it"),
});

const socks = inbound<SocksInboundConfig>({
  type: required(oneOf(["socks"]), "SOCKS 4, 4a and 5"),
  tag: TAG,
  users: field(users(), [], "Who may log in; nobody has to when it is empty"),
}, { domain_resolver: "resolving at an inbound" });

const http = inbound<HttpInboundConfig>({
  type: required(oneOf(["http"]), "HTTP proxy"),
  tag: TAG,
  users: field(users(), [], "Who may log in; nobody has to when it is empty"),
}, LOCAL_PROXY);

const mixed = inbound<MixedInboundConfig>({
  type: required(oneOf(["mixed"]), "SOCKS and HTTP on one port"),
  tag: TAG,
  users: field(users(), [], "Who may log in; nobody has to when it is empty"),
}, LOCAL_PROXY);

const USER: FieldsOf<ShadowsocksUserConfig> = {
  name: field(text("a user name"), "", "Name of the user"),
  password: required(secret(), "Password, or base64 key for 2022 methods"),
};

const shadowsocks = inbound<ShadowsocksInboundConfig>({
  type: required(oneOf(["shadowsocks"]), "Shadowsocks server"),
  tag: TAG,
  networks: field(networks(), [], "Transports listened on", "network"),
  method: required(method(), "Cipher and protocol edition"),
  password: field(secret(), "", "Password, or base64 key for 2022 methods"),
  users: field(list(record(USER)), [], "Users, each with a password"),
  destinations: field(
    list(record<ShadowsocksDestinationConfig>({ ...USER, ...SERVER })),
    [],
    "Servers that are relayed to",
  ),
}, { multiplex: "multiplexing", managed: "users managed by another program" });

const redirect = inbound<RedirectInboundConfig>({
  type: required(oneOf(["redirect"]), "TCP redirected by netfilter"),
  tag: TAG,
});

const tproxy = inbound<TproxyInboundConfig>({
  type: required(oneOf(["tproxy"]), "TCP and UDP handed over by netfilter"),
  tag: TAG,
  networks: field(networks(), [], "Transports listened on", "network"),
});

/** A Shadowsocks method; stream ciphers are refused with the rest. */
export function method(): Value<ShadowsocksMethod> {
  return oneOf(METHODS);
}

/** A tag that must be there. */
export function tagOf(what: string): Value<string> {
  return nonEmpty(`the tag of ${what}`);
}

/** An entry of `inbounds`. */
export function inboundValue(): Value<InboundConfig> {
  return tagged<InboundConfig>({
    key: "type",
    what: "inbound type",
    variants: { direct, socks, http, mixed, shadowsocks, redirect, tproxy },
    unsupported: {
      trojan: "Trojan",
      vless: "VLESS",
      vmess: "VMess",
      hysteria: "Hysteria",
      hysteria2: "Hysteria 2",
      tuic: "TUIC",
      naive: "NaiveProxy",
      shadowtls: "ShadowTLS",
      anytls: "AnyTLS",
      tun: "TUN devices",
      cloudflared: "Cloudflare tunnels",
    },
  });
}
