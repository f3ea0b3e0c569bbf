/**
 * The whole configuration as one schema: sing-box's JSON, as far as this build knows it, with every default.
 *
 * @module
 */

import * as v from "valibot";
import { nearest } from "../internal/schema.ts";
import type {
  CacheFileConfig,
  ClashApiConfig,
  DialConfig,
  DnsServerConfig,
  ExperimentalConfig,
  LogConfig,
  OutboundConfig,
  ProxyConfig,
  RouteConfig,
} from "./config_types.ts";
import { dnsValue } from "./options_dns.ts";
import { inboundValue } from "./options_inbounds.ts";
import { outboundValue } from "./options_outbounds.ts";
import { routeRule, ruleSetFile, ruleSetSource } from "./options_rules.ts";
import { domainResolver } from "./options_shared.ts";
import {
  boolean,
  duration,
  field,
  list,
  mapped,
  mark,
  nonEmpty,
  oneOf,
  optional,
  record,
  reference,
  SECRET,
  secret,
  text,
  UNKNOWN_FIELD,
  UNSUPPORTED,
  type Value,
} from "./options_values.ts";
import type { RuleCondition } from "./rule_types.ts";

type Unfinished<T extends { readonly final: string }> =
  & Omit<T, "final">
  & { readonly final: string | undefined };

const log = record<LogConfig>({
  disabled: field(boolean(), false, "Log nothing"),
  level: field(
    oneOf(["trace", "debug", "info", "warn", "error", "fatal", "panic"]),
    "info",
    "Least severe level that is written",
  ),
  output: optional(reference(), "File to append to, stdout or stderr; stderr by default"),
  timestamp: optional(boolean(), "Begin lines with the time; they do by default"),
});

const route = record<Unfinished<RouteConfig>>({
  rules: field(list(routeRule()), [], "Rules, in order"),
  ruleSets: field(list(ruleSetSource()), [], "Rule sets", "rule_set"),
  final: optional(reference(), "Tag of the outbound for what no rule decided"),
  defaultInterface: optional(reference(), "Network interface to bind to"),
  defaultMark: field(mark(), 0, "Netfilter mark of all outgoing sockets; 0 is none"),
  defaultDomainResolver: optional(domainResolver(), "How names of servers are resolved"),
  defaultFallbackDelayMs: field(duration(), "300ms", "fallback_delay of outbounds without one"),
}, {
  geoip: 'geo databases; use "rule_set"',
  geosite: 'geo databases; use "rule_set"',
  find_process: "rules about processes",
  auto_detect_interface: 'finding the interface; use "default_interface"',
  override_android_vpn: "Android",
  default_http_client: "HTTP clients",
  default_network_strategy: "choosing between interfaces",
  default_network_type: "choosing between interfaces",
  default_fallback_network_type: "choosing between interfaces",
});

const cacheFile = record<CacheFileConfig>({
  enabled: field(boolean(), false, "Keep state over restarts"),
  path: field(nonEmpty("a path"), "cache.db", "Where the file is"),
  cacheId: field(text(), "", "Keeps configurations that share a file apart"),
  storeFakeip: field(boolean(), false, "Keep invented addresses"),
}, {
  store_rdrc: "caching of rejected answers",
  rdrc_timeout: "caching of rejected answers",
  store_dns: "keeping DNS answers",
  buffer_size: "this field",
  flush_interval: "this field",
  store_selected: "this field; choices are always kept",
});

const KEPT = 'this field; use "cache_file"';

const clashApi = mapped(
  record<ClashApiConfig>({
    externalController: field(text("host:port"), "", "host:port to listen on"),
    externalUi: optional(reference(), "Folder served under /ui"),
    secret: field(secret(), "", "Bearer token"),
    defaultMode: field(nonEmpty("a mode"), "Rule", "Mode at the start"),
    accessControlAllowOrigin: field(list(text("an origin")), ["*"], "Origins browsers may use"),
    accessControlAllowPrivateNetwork: field(
      boolean(),
      false,
      "Let pages of public networks call into a private one",
    ),
  }, {
    external_ui_download_url: "downloading a dashboard",
    external_ui_download_detour: "downloading a dashboard",
    store_mode: KEPT,
    store_selected: KEPT,
    store_fakeip: KEPT,
    cache_file: KEPT,
    cache_id: KEPT,
  }),
  (api): ClashApiConfig | undefined => api.externalController === "" ? undefined : api,
);

const experimental = record<ExperimentalConfig>({
  cacheFile: field(cacheFile, {}, "What survives a restart"),
  clashApi: optional(clashApi, "REST interface"),
}, { v2ray_api: "the V2Ray interface", debug: "the Go runtime's settings" });

const sections = record({
  schema: optional(text("a URL"), "Where this schema is", "$schema"),
  log: field(log, {}, "What is logged, and where"),
  dns: field(dnsValue(), {}, "Name resolution"),
  inbounds: field(list(inboundValue()), [], "Who is listened to"),
  outbounds: field(list(outboundValue()), [], "How destinations are reached"),
  route: field(route, {}, "Which outbound a connection takes"),
  experimental: field(experimental, {}, "Control interface and cache"),
}, {
  ntp: "the NTP client",
  certificate: "trusted certificates for everything",
  certificate_providers: "certificate providers",
  endpoints: "endpoints",
  services: "services",
  http_clients: "HTTP clients",
});

/** An outbound for files that name none. */
function directOutbound(): OutboundConfig {
  return v.parse(outboundValue(), { type: "direct", tag: "direct" });
}

/** Names what has no tag by its position, as sing-box does. */
function withTags<T extends { readonly tag: string }>(entries: readonly T[]): readonly T[] {
  return entries.map((entry, index) => entry.tag === "" ? { ...entry, tag: `${index}` } : entry);
}

/** What an outbound or a DNS server leaves open is taken from the route section. */
function withDefaults<T extends object>(
  entry: T,
  route: Unfinished<RouteConfig>,
): T {
  const dial = "dial" in entry ? entry.dial as DialConfig : undefined;
  if (dial === undefined) return entry;
  const { fallbackDelayMs, domainResolver, bindInterface, routingMark } = dial as Partial<
    DialConfig
  >;
  return {
    ...entry,
    dial: {
      ...dial,
      fallbackDelayMs: fallbackDelayMs ?? route.defaultFallbackDelayMs,
      domainResolver: domainResolver ?? route.defaultDomainResolver,
      bindInterface: bindInterface ?? route.defaultInterface,
      routingMark: routingMark === 0 ? route.defaultMark : routingMark,
    },
  };
}

const config: Value<ProxyConfig> = mapped(sections, (given): ProxyConfig => {
  const { schema: _schema, ...rest } = given;
  const { route } = given;
  const outbounds = withTags(given.outbounds.length === 0 ? [directOutbound()] : given.outbounds)
    .map((outbound) => withDefaults(outbound, route));
  const named: readonly DnsServerConfig[] = given.dns.servers.length === 0
    ? [{ type: "local", tag: "local" }]
    : given.dns.servers;
  const servers = withTags(named).map((server) => withDefaults(server, route));
  return {
    ...rest,
    inbounds: withTags(given.inbounds),
    outbounds,
    dns: { ...given.dns, servers, final: given.dns.final ?? servers[0]!.tag },
    route: { ...route, final: route.final ?? outbounds[0]!.tag },
  };
});

/** Something that does not fit the schema. */
export interface SchemaProblem {
  /** Keys and positions from the root. */
  readonly path: readonly (string | number)[];
  /** What is wrong. */
  readonly message: string;
  /** What would be right. */
  readonly hint: string;
  /** Whether the key is at fault, not its value. */
  readonly atKey: boolean;
}

/** A checked value, or everything that is wrong with it. */
export type Checked<T> =
  | { readonly value: T; readonly problems: readonly [] }
  | { readonly value: undefined; readonly problems: readonly SchemaProblem[] };

/** Checks a configuration and fills in what it leaves out. Opens nothing and reads no file. */
export function checkShape(input: unknown): Checked<ProxyConfig> {
  return check(config, input);
}

/** Checks a rule set in source format. */
export function checkRuleSet(input: unknown): Checked<readonly RuleCondition[]> {
  return check(mapped(ruleSetFile(), ({ rules }) => rules), input);
}

/** The parser of whole configurations, for the generator of the published schema and the formatter. */
export const CONFIG_SCHEMA: v.GenericSchema<unknown, ProxyConfig> = config;

function check<T>(value: Value<T>, input: unknown): Checked<T> {
  const result = v.safeParse(value, input);
  if (result.success) return { value: result.output, problems: [] };
  return { value: undefined, problems: result.issues.map(problemOf) };
}

function problemOf(issue: v.BaseIssue<unknown>): SchemaProblem {
  const path = (issue.path ?? []).map(({ key }) => typeof key === "number" ? key : String(key));
  const [first = "", ...known] = issue.message.split("\n");
  if (first === UNKNOWN_FIELD) {
    return { path, message: first, hint: suggestion(String(path.at(-1)), known), atKey: true };
  }
  if (first.startsWith(UNSUPPORTED)) {
    const [message = first, hint = "remove it"] = first.split("; ");
    return { path, message, hint, atKey: false };
  }
  if (known.length > 0) return chosen(issue, path, first, known);
  // Valibot reports a missing member at the object, with the member's key at the end of the path.
  if (issue.type === "loose_object" && issue.input === undefined && path.length > 0) {
    return {
      path: path.slice(0, -1),
      message: `missing field ${JSON.stringify(path.at(-1))}`,
      hint: "it has no default",
      atKey: false,
    };
  }
  const hidden = issue.message === SECRET;
  return {
    path,
    message: `is ${hidden ? kindOf(issue.input) : shown(issue.input)}`,
    hint: `expected ${issue.message}`,
    atKey: false,
  };
}

function chosen(
  issue: v.BaseIssue<unknown>,
  path: readonly (string | number)[],
  message: string,
  known: readonly string[],
): SchemaProblem {
  const input = issue.path?.at(-1)?.value;
  const word = typeof input === "string" ? input : "";
  const shownWord = word === "" ? "" : ` ${JSON.stringify(word.slice(0, 60))}`;
  return { path, message: message + shownWord, hint: suggestion(word, known), atKey: false };
}

function suggestion(word: string, known: readonly string[]): string {
  const near = nearest(word, known);
  // Among three letters everything is near everything.
  if (near !== undefined && (word.length > 3 || near[0] === word[0])) {
    return `did you mean ${JSON.stringify(near)}?`;
  }
  const shownNames = known.slice(0, 16).map((name) => JSON.stringify(name)).join(", ");
  return `expected one of ${shownNames}${known.length > 16 ? ", …" : ""}`;
}

function shown(input: unknown): string {
  if (typeof input === "string") {
    return JSON.stringify(input.length > 60 ? `${input.slice(0, 60)}…` : input);
  }
  return input === undefined || typeof input === "object" ? kindOf(input) : String(input);
}

function kindOf(input: unknown): string {
  if (input === null) return "null";
  if (input === undefined) return "missing";
  if (Array.isArray(input)) return input.length === 0 ? "an empty list" : "a list";
  return typeof input === "object" ? "an object" : `a ${typeof input}`;
}
