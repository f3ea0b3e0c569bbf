/**
 * Proxy toolkit that reads sing-box's configuration: inbounds, rules, outbounds, and a relay inside the kernel.
 *
 * The shortest useful proxy is `deno run -A jsr:@fastwire/net/proxy run -c config.json`; as a program it is
 * {@linkcode createProxy}. Below, rules decide about a connection without a proxy being run.
 *
 * ```ts
 * import { compileRoute, formatProblem, loadRuleSets, readProxyConfig } from "@fastwire/net/proxy";
 *
 * const text = `{ "route": { "rules": [{ "domain_suffix": "example.com", "outbound": "direct" }] } }`;
 * const { config, problems } = await readProxyConfig([{ name: "config.json", text }]);
 * if (config === undefined) throw new Error(problems.map((each) => formatProblem(each)).join("\n"));
 *
 * const { ruleSets } = await loadRuleSets(config);
 * const plan = compileRoute(config, ruleSets);
 * const at = plan.match({
 *   inbound: "in",
 *   network: "tcp",
 *   sourceAddress: "192.0.2.7",
 *   sourcePort: 40000,
 *   host: "www.example.com",
 *   port: 443,
 * });
 * console.log(at); // 0
 * ```
 *
 * @module
 */

export { type ConfigResult, readProxyConfig, resolveProxyConfig } from "./config.ts";
export {
  ConfigDocument,
  type ConfigPath,
  type ConfigPosition,
  type ConfigProblem,
  type ConfigSource,
  formatProblem,
  parseConfigText,
} from "./config_file.ts";
export { formatConfig } from "./config_format.ts";
export { mergeConfigs, mergeDocuments } from "./config_merge.ts";
export type {
  BlockOutboundConfig,
  CacheFileConfig,
  ClashApiConfig,
  DialConfig,
  DirectInboundConfig,
  DirectOutboundConfig,
  DnsConfig,
  DnsServerConfig,
  DnsServerEntry,
  DomainResolver,
  DomainStrategy,
  ExperimentalConfig,
  FakeipDnsServerConfig,
  FallbackOutboundConfig,
  GroupEntry,
  GroupOutboundConfig,
  HostsDnsServerConfig,
  HttpInboundConfig,
  HttpOutboundConfig,
  HttpsDnsServerConfig,
  InboundConfig,
  InboundEntry,
  ListenConfig,
  LoadbalanceOutboundConfig,
  LocalDnsServerConfig,
  LogConfig,
  MixedInboundConfig,
  Network,
  OutboundConfig,
  OutboundEntry,
  ProxyConfig,
  RcodeDnsServerConfig,
  RedirectInboundConfig,
  RemoteDnsServer,
  RouteConfig,
  SelectorOutboundConfig,
  ServerOutbound,
  ShadowsocksDestinationConfig,
  ShadowsocksInboundConfig,
  ShadowsocksMethod,
  ShadowsocksOutboundConfig,
  ShadowsocksUserConfig,
  SocksInboundConfig,
  SocksOutboundConfig,
  TcpDnsServerConfig,
  TestedGroup,
  TlsClientConfig,
  TlsDnsServerConfig,
  TproxyInboundConfig,
  UdpDnsServerConfig,
  UrltestOutboundConfig,
  UserConfig,
} from "./config_types.ts";
export {
  type ClashApiOptions,
  type ClashApiServer,
  type ControlledProxy,
  serveClashApi,
} from "./clash_api.ts";
export { type FeedRecord, LogFeed } from "./log_feed.ts";
export type { MeteredSnapshot } from "./metrics.ts";
export type { DnsSnapshot, ProxyDns } from "./proxy_dns.ts";
export type { Clock } from "../internal/time/clock.ts";
export type { DnsCacheSnapshot } from "./dns_cache.ts";
export type { DnsReply } from "./dns_reply.ts";
export {
  generate,
  generateRandom,
  generateRealityKeys,
  generateShadowsocksPassword,
  generateUuid,
  generateWireguardKeys,
  GENERATORS,
  type KeyPair,
} from "./generate.ts";
export { ConditionPlan, type ConnectionRequest } from "./matcher.ts";
export {
  compileDns,
  compileRoute,
  isDecision,
  NO_ROUTE_OPTIONS,
  type RouteDecision,
  RulePlan,
  withRouteOptions,
} from "./route.ts";
export { loadRuleSets, readRuleSet, type RuleSetFile, type RuleSetResult } from "./rule_set.ts";
export type {
  DefaultCondition,
  DnsRouteAction,
  DnsRouteOptions,
  DnsRouteOptionsAction,
  DnsRule,
  DnsRuleAction,
  HijackDnsAction,
  InlineRuleSet,
  LocalRuleSet,
  LogicalCondition,
  PortSpan,
  PredefinedAction,
  RejectAction,
  ResolveAction,
  RouteAction,
  RouteOptions,
  RouteOptionsAction,
  RouteRule,
  RuleAction,
  RuleCondition,
  RuleSetSource,
  SniffAction,
  Sniffer,
} from "./rule_types.ts";
export { createProxy, startProxy } from "./engine.ts";
export type { ListeningInbound, ProxyOptions, ProxyServer, ProxySnapshot } from "./server.ts";
export {
  type ConnectionEntry,
  type ConnectionSource,
  type ConnectionTracker,
  type CountedRelay,
  type TrackedConnection,
  type TrafficTotals,
} from "./connections.ts";
export { type Duplex } from "./duplex.ts";
export { type FetchInit, fetchVia } from "./fetch.ts";
export type {
  Dialer,
  DialOptions,
  Metadata,
  Outbound,
  ResolveOptions,
  Resolver,
} from "./outbound.ts";
export {
  PACKET_HEADROOM,
  PACKET_TAILROOM,
  type PacketConnection,
  type PacketReceiver,
} from "./packets.ts";
export { RejectedError } from "./replies.ts";
export {
  dialVia,
  type DialViaOptions,
  listenSocks,
  type ListenSocksOptions,
  socks5Connect,
  type SocksClient,
  type SocksListener,
  type SocksServer,
} from "./socks.ts";
export type { TlsTrust } from "./tls_stream.ts";

if (import.meta.main) import("./cli.ts").then((m) => m.main());
