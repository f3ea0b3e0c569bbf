/**
 * Conditions of rules: what a route rule, a DNS rule and a rule of a rule set may ask for.
 *
 * @module
 */

import { RECORD_TYPES } from "./dns_numbers.ts";
import { tagOf } from "./options_inbounds.ts";
import {
  boolean,
  checked,
  cidr,
  domainName,
  domainSuffix,
  field,
  type FieldsOf,
  integer,
  later,
  list,
  mapped,
  nonEmpty,
  numberOrWord,
  oneOf,
  optional,
  portSpan,
  record,
  required,
  tagged,
  text,
  type UnsupportedFields,
  type Value,
} from "./options_values.ts";
import { regexProblem } from "./regex.ts";
import type { DefaultCondition, RuleCondition, Sniffer } from "./rule_types.ts";

/** What can be sniffed. */
export const SNIFFERS: readonly Sniffer[] = [
  "http",
  "tls",
  "quic",
  "dns",
  "stun",
  "bittorrent",
  "dtls",
  "ssh",
  "rdp",
  "ntp",
];

/** A condition that asks nothing and always holds. */
export const EMPTY_CONDITION: DefaultCondition = Object.freeze({
  type: "default",
  invert: false,
  inbound: [],
  ipVersion: undefined,
  network: [],
  authUser: [],
  protocol: [],
  client: [],
  queryType: [],
  domain: [],
  domainSuffix: [],
  domainKeyword: [],
  domainRegex: [],
  ipCidr: [],
  ipIsPrivate: false,
  ipAcceptAny: false,
  sourceIpCidr: [],
  sourceIpIsPrivate: false,
  sourcePort: [],
  sourcePortRange: [],
  port: [],
  portRange: [],
  clashMode: undefined,
  outbound: [],
  ruleSet: [],
  ruleSetIpCidrMatchSource: false,
  ruleSetIpCidrAcceptEmpty: false,
});

type Asked<K extends keyof DefaultCondition> = FieldsOf<Pick<DefaultCondition, K>>;

const HEADLESS = {
  queryType: field(list(numberOrWord(RECORD_TYPES, 65535)), [], "DNS record types"),
  network: field(list(oneOf(["tcp", "udp"])), [], "Transports"),
  domain: field(list(domainName()), [], "Destination: whole names"),
  domainSuffix: field(list(domainSuffix()), [], "Destination: names and what is below them"),
  domainKeyword: field(list(keyword()), [], "Destination: parts of names"),
  domainRegex: field(
    list(checked("a regular expression in RE2 syntax", regexProblem)),
    [],
    "Destination: regular expressions",
  ),
  ipCidr: field(list(cidr()), [], "Destination: blocks of addresses"),
  sourceIpCidr: field(list(cidr()), [], "Source: blocks of addresses"),
  sourcePort: field(list(integer(0, 65535)), [], "Source ports"),
  sourcePortRange: field(list(portSpan()), [], "Ranges of source ports"),
  port: field(list(integer(0, 65535)), [], "Destination ports"),
  portRange: field(list(portSpan()), [], "Ranges of destination ports"),
  invert: field(boolean(), false, "Hold when it would not, and the other way round"),
};

const SHARED = {
  ...HEADLESS,
  inbound: field(list(tagOf("an inbound")), [], "Tags of inbounds"),
  ipVersion: optional(
    mapped(oneOf([0, 4, 6]), (version) => version === 0 ? undefined : version),
    "Family of the destination's address",
  ),
  authUser: field(list(text()), [], "Users that logged in"),
  protocol: field(list(oneOf(SNIFFERS)), [], "Sniffed protocols"),
  ipIsPrivate: field(boolean(), false, "Destination: addresses that are not public"),
  sourceIpIsPrivate: field(boolean(), false, "Source: addresses that are not public"),
  clashMode: optional(
    mapped(text(), (mode) => mode === "" ? undefined : mode),
    "Mode of the control interface",
  ),
  ruleSet: field(list(tagOf("a rule set")), [], "Tags of rule sets"),
  ruleSetIpCidrMatchSource: field(
    boolean(),
    false,
    "Compare address blocks of rule sets with the source",
  ),
};

const ROUTE = {
  ...SHARED,
  client: field(list(oneOf(["chromium", "firefox", "safari", "quic-go"])), [], "Sniffed clients"),
};

const DNS = {
  ...SHARED,
  ipAcceptAny: field(boolean(), false, "Destination: any address at all"),
  ruleSetIpCidrAcceptEmpty: field(
    boolean(),
    false,
    "Let address blocks of rule sets hold while no address is known",
  ),
  outbound: field(list(nonEmpty('the tag of an outbound, or "any"')), [], "Outbounds served"),
};

const PROCESS = "rules about processes and users";
const DEVICE = "rules about the device's network";
const GEO = 'geo databases; use "rule_set"';

/** Condition fields of sing-box that are refused. */
export const CONDITION_UNSUPPORTED: UnsupportedFields = {
  process_name: PROCESS,
  process_path: PROCESS,
  process_path_regex: PROCESS,
  package_name: PROCESS,
  package_name_regex: PROCESS,
  user: PROCESS,
  user_id: PROCESS,
  source_mac_address: DEVICE,
  source_hostname: DEVICE,
  network_type: DEVICE,
  network_is_expensive: DEVICE,
  network_is_constrained: DEVICE,
  network_interface_address: DEVICE,
  default_interface_address: DEVICE,
  interface_address: DEVICE,
  wifi_ssid: DEVICE,
  wifi_bssid: DEVICE,
  geosite: GEO,
  geoip: GEO,
  source_geoip: GEO,
  preferred_by: "rules that follow an outbound's preference",
  rule_set_ipcidr_match_source: 'this spelling; use "rule_set_ip_cidr_match_source"',
  adguard_domain: "AdGuard rules",
};

/** Whose conditions they are. */
export type ConditionPlace = "route" | "dns" | "headless";

const PLACES: Readonly<Record<ConditionPlace, object>> = {
  route: ROUTE satisfies Partial<Asked<keyof DefaultCondition>>,
  dns: DNS satisfies Partial<Asked<keyof DefaultCondition>>,
  headless: HEADLESS satisfies Partial<Asked<keyof DefaultCondition>>,
};

/** Members of a rule before its action is split off. */
export type Members = Readonly<Record<string, unknown>>;

/** What the kinds of rules add to conditions: the fields of an action. */
export type ExtraFields = FieldsOf<Members>;

/** Fields that only rules with lone conditions have, besides `type`. */
export function defaultFields(place: ConditionPlace): ExtraFields {
  return { type: field(text(), "default", "Kind of rule"), ...PLACES[place] };
}

/** Fields that only logical rules have. */
export function logicalFields(place: ConditionPlace): ExtraFields {
  return {
    type: field(text(), "logical", "Kind of rule"),
    mode: required(oneOf(["and", "or"]), "Whether all rules have to hold, or one"),
    rules: required(list(later(() => NESTED[place])), "Conditions that are joined"),
    invert: field(boolean(), false, "Hold when it would not, and the other way round"),
  };
}

/** Turns the members of a checked rule into its condition. */
export function conditionOf(members: Members, place: ConditionPlace): RuleCondition {
  if (members["type"] === "logical") {
    const { mode, rules, invert } = members;
    // The fields were checked by `logicalFields`.
    return { type: "logical", mode, rules, invert } as RuleCondition;
  }
  // By the place's own names: "outbound" is a condition in DNS rules and part of the action in route rules.
  const given = Object.fromEntries(
    Object.keys(PLACES[place]).map((name) => [name, members[name]]),
  );
  return { ...EMPTY_CONDITION, ...given };
}

function nested(place: ConditionPlace): Value<RuleCondition> {
  const fields = [defaultFields(place), logicalFields(place)] as const;
  const [plain, logical] = fields.map((own) =>
    mapped(record<Members>(own, CONDITION_UNSUPPORTED), (members) => conditionOf(members, place))
  );
  return tagged<RuleCondition>({
    key: "type",
    what: "rule type",
    fallback: "default",
    variants: { default: plain!, logical: logical! },
  });
}

const NESTED: Readonly<Record<ConditionPlace, Value<RuleCondition>>> = {
  route: nested("route"),
  dns: nested("dns"),
  headless: nested("headless"),
};

/** A condition without an action: a member of a logical rule or of a rule set. */
export function conditionValue(place: ConditionPlace): Value<RuleCondition> {
  return NESTED[place];
}

function keyword(): Value<string> {
  return mapped(nonEmpty("a part of a domain name"), (part) => part.toLowerCase());
}
