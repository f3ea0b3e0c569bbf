/**
 * Rules as the configuration gives them, with every default filled in: conditions, actions, and sets of conditions.
 *
 * @module
 */

import type { DomainStrategy, Network } from "./config_types.ts";

/** Ports from `first` to `last`, both included. */
export interface PortSpan {
  /** 0 to 65535. */
  readonly first: number;
  /** 0 to 65535, not below `first`. */
  readonly last: number;
}

/**
 * Conditions on one connection. Empty lists and `undefined` ask nothing; what is present must hold. Within a list one
 * hit is enough, and the lists of one class (destination, port, source, source port) count as one list.
 */
export interface DefaultCondition {
  /** Discriminator. */
  readonly type: "default";
  /** Whether the condition holds when it would not, and the other way round. */
  readonly invert: boolean;
  /** Tags of inbounds. */
  readonly inbound: readonly string[];
  /** Family of the destination's address. */
  readonly ipVersion: 4 | 6 | undefined;
  /** Transports. */
  readonly network: readonly Network[];
  /** Users that logged in at the inbound. */
  readonly authUser: readonly string[];
  /** Sniffed protocols. */
  readonly protocol: readonly string[];
  /** Sniffed clients. */
  readonly client: readonly string[];
  /** DNS record types by number. */
  readonly queryType: readonly number[];
  /** Destination: whole names, lower case. */
  readonly domain: readonly string[];
  /** Destination: names and everything below them; with a leading dot only what is below. */
  readonly domainSuffix: readonly string[];
  /** Destination: parts of names. */
  readonly domainKeyword: readonly string[];
  /** Destination: regular expressions in RE2 syntax. */
  readonly domainRegex: readonly string[];
  /** Destination: blocks of addresses. */
  readonly ipCidr: readonly string[];
  /** Destination: addresses that are not public. */
  readonly ipIsPrivate: boolean;
  /** Destination: any address at all (DNS answers). */
  readonly ipAcceptAny: boolean;
  /** Source: blocks of addresses. */
  readonly sourceIpCidr: readonly string[];
  /** Source: addresses that are not public. */
  readonly sourceIpIsPrivate: boolean;
  /** Source ports. */
  readonly sourcePort: readonly number[];
  /** Ranges of source ports. */
  readonly sourcePortRange: readonly PortSpan[];
  /** Destination ports. */
  readonly port: readonly number[];
  /** Ranges of destination ports. */
  readonly portRange: readonly PortSpan[];
  /** Mode of the control interface, compared without regard to case. */
  readonly clashMode: string | undefined;
  /** Tags of outbounds whose server's name is being resolved; `any` is every one (DNS rules). */
  readonly outbound: readonly string[];
  /** Tags of rule sets. */
  readonly ruleSet: readonly string[];
  /** Whether address blocks of rule sets are compared with the source. */
  readonly ruleSetIpCidrMatchSource: boolean;
  /** Whether address blocks of rule sets hold while no address is known (DNS rules). */
  readonly ruleSetIpCidrAcceptEmpty: boolean;
}

/** Conditions joined by "and" or "or". */
export interface LogicalCondition {
  /** Discriminator. */
  readonly type: "logical";
  /** Whether the condition holds when it would not, and the other way round. */
  readonly invert: boolean;
  /** Whether all have to hold, or one. */
  readonly mode: "and" | "or";
  /** What is joined; never empty. */
  readonly rules: readonly RuleCondition[];
}

/** When a rule applies. */
export type RuleCondition = DefaultCondition | LogicalCondition;

/** Changes to a connection that the actions `route` and `route-options` carry. */
export interface RouteOptions {
  /** Destination that replaces the asked one. */
  readonly overrideAddress: string | undefined;
  /** Port that replaces the asked one; 0 keeps it. */
  readonly overridePort: number;
  /** Whether answers keep their address instead of the asked name. */
  readonly udpDisableDomainUnmapping: boolean;
  /** Whether UDP sockets are connected to the destination. */
  readonly udpConnect: boolean;
  /** Silence after which a UDP session ends, in milliseconds; `undefined` keeps the inbound's. */
  readonly udpTimeoutMs: number | undefined;
}

/** Takes an outbound. Decides. */
export interface RouteAction extends RouteOptions {
  /** Discriminator. */
  readonly action: "route";
  /** Tag of the outbound. */
  readonly outbound: string;
}

/** Changes the connection and goes on with the next rule. */
export interface RouteOptionsAction extends RouteOptions {
  /** Discriminator. */
  readonly action: "route-options";
}

/** Refuses. Decides. */
export interface RejectAction {
  /** Discriminator. */
  readonly action: "reject";
  /** `default` resets TCP and answers "unreachable" to UDP; `drop` says nothing. */
  readonly method: "default" | "drop";
  /** Whether `default` stays `default` after 50 refusals within 30 s. */
  readonly noDrop: boolean;
}

/** Hands the connection to the DNS part. Decides. */
export interface HijackDnsAction {
  /** Discriminator. */
  readonly action: "hijack-dns";
}

/** What can be recognised from the first bytes. */
export type Sniffer =
  | "http"
  | "tls"
  | "quic"
  | "dns"
  | "stun"
  | "bittorrent"
  | "dtls"
  | "ssh"
  | "rdp"
  | "ntp";

/** Looks at the first bytes and goes on with the next rule. */
export interface SniffAction {
  /** Discriminator. */
  readonly action: "sniff";
  /** What is looked for; empty is everything. */
  readonly sniffer: readonly Sniffer[];
  /** Longest wait for bytes, in milliseconds. */
  readonly timeoutMs: number;
}

/** Resolves the destination's name and goes on with the next rule. */
export interface ResolveAction {
  /** Discriminator. */
  readonly action: "resolve";
  /** Tag of the DNS server; `undefined` follows the DNS rules. */
  readonly server: string | undefined;
  /** Address families; `undefined` takes the DNS section's. */
  readonly strategy: DomainStrategy | undefined;
  /** Whether the cache is passed by. */
  readonly disableCache: boolean;
  /** Time to live written into answers, in seconds; `undefined` leaves it. */
  readonly rewriteTtl: number | undefined;
  /** Network sent along in the EDNS client subnet option (RFC 7871). */
  readonly clientSubnet: string | undefined;
}

/** What a route rule does. */
export type RuleAction =
  | RouteAction
  | RouteOptionsAction
  | RejectAction
  | HijackDnsAction
  | SniffAction
  | ResolveAction;

/** A rule of `route.rules`. */
export interface RouteRule {
  /** When it applies. */
  readonly condition: RuleCondition;
  /** What it does. */
  readonly action: RuleAction;
}

/** How a question is asked. */
export interface DnsRouteOptions {
  /** Whether the cache is passed by. */
  readonly disableCache: boolean;
  /** Time to live written into answers, in seconds; `undefined` leaves it. */
  readonly rewriteTtl: number | undefined;
  /** Network sent along in the EDNS client subnet option (RFC 7871). */
  readonly clientSubnet: string | undefined;
}

/** Asks a server. Decides. */
export interface DnsRouteAction extends DnsRouteOptions {
  /** Discriminator. */
  readonly action: "route";
  /** Tag of the DNS server. */
  readonly server: string;
  /** Address families; `undefined` takes the DNS section's. */
  readonly strategy: DomainStrategy | undefined;
}

/** Changes how the question is asked and goes on with the next rule. */
export interface DnsRouteOptionsAction extends DnsRouteOptions {
  /** Discriminator. */
  readonly action: "route-options";
}

/** Answers from the configuration. Decides. */
export interface PredefinedAction {
  /** Discriminator. */
  readonly action: "predefined";
  /** Response code, 0 to 15 (RFC 1035 §4.1.1). */
  readonly rcode: number;
  /** Records of the answer section, in the text form of RFC 1035 §5. */
  readonly answer: readonly string[];
  /** Records of the authority section. */
  readonly ns: readonly string[];
  /** Records of the additional section. */
  readonly extra: readonly string[];
}

/** What a DNS rule does. */
export type DnsRuleAction =
  | DnsRouteAction
  | DnsRouteOptionsAction
  | RejectAction
  | PredefinedAction;

/** A rule of `dns.rules`. */
export interface DnsRule {
  /** When it applies. */
  readonly condition: RuleCondition;
  /** What it does. */
  readonly action: DnsRuleAction;
}

/** A set of conditions inside the configuration. */
export interface InlineRuleSet {
  /** Discriminator. */
  readonly type: "inline";
  /** Unique among rule sets. */
  readonly tag: string;
  /** One that holds is enough. */
  readonly rules: readonly RuleCondition[];
}

/** A set of conditions in a file. */
export interface LocalRuleSet {
  /** Discriminator. */
  readonly type: "local";
  /** Unique among rule sets. */
  readonly tag: string;
  /** Format of the file. */
  readonly format: "source";
  /** Where it is, from the working folder. */
  readonly path: string;
}

/** An entry of `route.rule_set`. */
export type RuleSetSource = InlineRuleSet | LocalRuleSet;
