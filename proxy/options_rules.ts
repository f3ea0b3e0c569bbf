/**
 * Rules of the route and DNS sections, and rule sets: conditions together with what they lead to.
 *
 * @module
 */

import { RESPONSE_CODES } from "./dns_numbers.ts";
import {
  CONDITION_UNSUPPORTED,
  conditionOf,
  type ConditionPlace,
  conditionValue,
  defaultFields,
  type ExtraFields,
  logicalFields,
  type Members,
  SNIFFERS,
} from "./options_conditions.ts";
import { tagOf } from "./options_inbounds.ts";
import { ASKING, strategy } from "./options_shared.ts";
import {
  boolean,
  checked,
  duration,
  field,
  type FieldsOf,
  host,
  integer,
  list,
  mapped,
  nonEmpty,
  noneRequired,
  numberOrWord,
  oneOf,
  optional,
  record,
  reference,
  required,
  tagged,
  text,
  type UnsupportedFields,
  type Value,
} from "./options_values.ts";
import type {
  DnsRouteAction,
  DnsRouteOptionsAction,
  DnsRule,
  DnsRuleAction,
  HijackDnsAction,
  InlineRuleSet,
  LocalRuleSet,
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
} from "./rule_types.ts";

type ActionFields<A extends { readonly action: string }> = FieldsOf<Omit<A, "action">>;

const ROUTE_OPTIONS: FieldsOf<RouteOptions> = {
  overrideAddress: optional(host(), "Destination that replaces the asked one"),
  overridePort: field(integer(0, 65535), 0, "Port that replaces the asked one; 0 keeps it"),
  udpDisableDomainUnmapping: field(boolean(), false, "Keep addresses in UDP answers"),
  udpConnect: field(boolean(), false, "Connect UDP sockets to the destination"),
  udpTimeoutMs: optional(duration(), "Silence after which a UDP session ends"),
};

const ROUTE: ActionFields<RouteAction> = {
  outbound: required(tagOf("an outbound"), "Tag of the outbound"),
  ...ROUTE_OPTIONS,
};
const OPTIONS: ActionFields<RouteOptionsAction> = ROUTE_OPTIONS;
const REJECT: ActionFields<RejectAction> = {
  method: field(oneOf(["default", "drop"]), "default", "Whether the client hears of it"),
  noDrop: field(boolean(), false, "Keep answering when there are many"),
};
const HIJACK: ActionFields<HijackDnsAction> = {};
const SNIFF: ActionFields<SniffAction> = {
  sniffer: field(list(oneOf(SNIFFERS)), [], "What is looked for; everything when it is empty"),
  timeoutMs: field(duration(), "300ms", "Longest wait for bytes"),
};
const RESOLVE: ActionFields<ResolveAction> = {
  server: optional(reference(), "Tag of the DNS server"),
  strategy: optional(strategy(), "Address families"),
  ...ASKING,
};

const ACTION_UNSUPPORTED: UnsupportedFields = {
  network_strategy: "choosing between interfaces",
  network_type: "choosing between interfaces",
  fallback_network_type: "choosing between interfaces",
  fallback_delay: 'this field in a rule; use the outbound\'s "fallback_delay"',
  tls_fragment: "fragmented handshakes",
  tls_fragment_fallback_delay: "fragmented handshakes",
  tls_record_fragment: "fragmented handshakes",
};

const DNS_ROUTE: ActionFields<DnsRouteAction> = {
  server: required(tagOf("a DNS server"), "Tag of the DNS server"),
  strategy: optional(strategy(), "Address families"),
  ...ASKING,
};
const DNS_OPTIONS: ActionFields<DnsRouteOptionsAction> = ASKING;
const PREDEFINED: ActionFields<PredefinedAction> = {
  rcode: field(numberOrWord(RESPONSE_CODES, 15), 0, "Response code"),
  answer: field(list(resourceRecord()), [], "Records of the answer section"),
  ns: field(list(resourceRecord()), [], "Records of the authority section"),
  extra: field(list(resourceRecord()), [], "Records of the additional section"),
};

function resourceRecord(): Value<string> {
  return checked(
    'a record like "example.com. IN A 192.0.2.1"',
    (record) =>
      /^\S+\s+(?:\d+\s+)?IN\s+[A-Za-z]\w*\s+\S/i.test(record)
        ? undefined
        : "a name, a class, a type and data are needed",
  );
}

/** A rule with an action: the condition's and the action's fields stand side by side in the file. */
function ruleValue<A extends { readonly action: string }>(
  place: ConditionPlace,
  actions: Readonly<Record<A["action"], object>>,
  unsupported: UnsupportedFields,
): Value<{ readonly condition: RuleCondition; readonly action: A }> {
  const every = Object.assign({}, ...Object.values<object>(actions)) as ExtraFields;
  const kinds = { default: defaultFields(place), logical: logicalFields(place) };
  const variants = Object.entries(kinds).map(([type, conditions]) => {
    const byAction = Object.entries<object>(actions).map(([action, own]) => {
      const fields = { ...conditions, action: field(text(), action, "What is done"), ...own };
      const split = (members: Members): { condition: RuleCondition; action: A } => {
        const names = ["action", ...Object.keys(own)];
        const chosen = Object.fromEntries(names.map((name) => [name, members[name]]));
        // The fields were checked by those of the action that the rule names.
        return { condition: conditionOf(members, place), action: chosen as unknown as A };
      };
      const value = record<Members>(fields as ExtraFields, {
        ...CONDITION_UNSUPPORTED,
        ...ACTION_UNSUPPORTED,
      });
      return [action, mapped(value, split)] as const;
    });
    const words = oneOf(Object.keys(actions));
    const published = record<Members>({
      ...conditions,
      action: field(words, "route", "What is done"),
      ...noneRequired(every),
    });
    return [
      type,
      tagged({
        key: "action",
        what: "rule action",
        fallback: "route",
        variants: Object.fromEntries(byAction),
        unsupported,
        published,
      }),
    ] as const;
  });
  return tagged({
    key: "type",
    what: "rule type",
    fallback: "default",
    variants: Object.fromEntries(variants),
  });
}

/** An entry of `route.rules`. */
export function routeRule(): Value<RouteRule> {
  return ruleValue<RuleAction>("route", {
    "route": ROUTE,
    "route-options": OPTIONS,
    "reject": REJECT,
    "hijack-dns": HIJACK,
    "sniff": SNIFF,
    "resolve": RESOLVE,
  }, { direct: 'the action "direct"; use an outbound', bypass: 'the action "bypass"' });
}

/** An entry of `dns.rules`. */
export function dnsRule(): Value<DnsRule> {
  return ruleValue<DnsRuleAction>("dns", {
    "route": DNS_ROUTE,
    "route-options": DNS_OPTIONS,
    "reject": REJECT,
    "predefined": PREDEFINED,
  }, { evaluate: 'the action "evaluate"', respond: 'the action "respond"' });
}

const RULE_SET_TAG = required(tagOf("this rule set"), "Unique name among rule sets");

/** An entry of `route.rule_set`. */
export function ruleSetSource(): Value<RuleSetSource> {
  const inline = record<InlineRuleSet>({
    type: field(oneOf(["inline"]), "inline", "Rules stand here"),
    tag: RULE_SET_TAG,
    rules: required(list(conditionValue("headless")), "Rules; one that holds is enough"),
  });
  const source = record<LocalRuleSet>({
    type: required(oneOf(["local"]), "Rules stand in a file"),
    tag: RULE_SET_TAG,
    format: field(oneOf(["source"]), "source", "Format of the file"),
    path: required(nonEmpty("a path"), "Where the file is"),
  });
  const local = tagged<RuleSetSource>({
    key: "format",
    what: "rule-set format",
    fallback: "source",
    variants: { source },
    unsupported: { binary: "binary rule sets" },
  });
  return tagged<RuleSetSource>({
    key: "type",
    what: "rule-set type",
    fallback: "inline",
    variants: { inline, local },
    unsupported: { remote: "remote rule sets" },
  });
}

/** A file in the source format of rule sets, versions 1 to 5. */
export function ruleSetFile(): Value<{
  readonly version: number;
  readonly rules: readonly RuleCondition[];
}> {
  return record({
    version: required(oneOf([1, 2, 3, 4, 5]), "Version of the format"),
    rules: field(list(conditionValue("headless")), [], "Rules; one that holds is enough"),
  });
}
