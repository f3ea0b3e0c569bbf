/**
 * The proxy's things in the shapes that dashboards for Clash read.
 *
 * @module
 */

import type { OutboundConfig, ProxyConfig } from "./config_types.ts";
import type { TrackedConnection } from "./connections.ts";
import { decodeDns, readDnsName } from "./dns_message.ts";
import { formatDnsData } from "./dns_records.ts";
import { GroupOutbound } from "./groups.ts";
import type { HealthBook, HealthSample } from "./health.ts";
import type { Outbound } from "./outbound.ts";
import { ipFamilyOf } from "./protocol/ip_text.ts";
import type { DefaultCondition, RouteRule, RuleCondition } from "./rule_types.ts";

/** A measurement. */
export interface ClashSample {
  /** RFC 3339. */
  readonly time: string;
  /** Milliseconds; 0 for no answer. */
  readonly delay: number;
}

/** An outbound. */
export interface ClashProxy {
  /** In Clash's words. */
  readonly type: string;
  /** Tag. */
  readonly name: string;
  /** Whether it takes UDP. */
  readonly udp: boolean;
  /** Oldest first. */
  readonly history: readonly ClashSample[];
  /** Chosen member of a group. */
  readonly now?: string;
  /** Members of a group. */
  readonly all?: readonly string[];
}

/** The name of the synthetic group of everything. */
export const GLOBAL = "GLOBAL";

/**
 * An outbound as dashboards see it.
 *
 * @param books Where measurements of it may be.
 */
export function clashProxy(
  outbound: Outbound,
  config: OutboundConfig | undefined,
  books: readonly HealthBook[],
): ClashProxy {
  const { tag } = outbound;
  const samples = books.flatMap((book) => book.history(tag)).toSorted((a, b) => a.time - b.time);
  const shared = {
    type: TYPES[config?.type ?? outbound.type] ?? outbound.type,
    name: tag,
    udp: outbound.networks.includes("udp"),
    history: samples.slice(-MOST_SAMPLES).map(sampleOf),
  };
  if (!(outbound instanceof GroupOutbound)) return shared;
  return { ...shared, now: outbound.now ?? "", all: outbound.members };
}

function sampleOf({ time, delayMs }: HealthSample): ClashSample {
  return { time: new Date(time).toISOString(), delay: delayMs };
}

/** A connection. */
export function clashConnection(connection: TrackedConnection): object {
  const { id, metadata, chain, rule, upload, download, startedAt } = connection;
  const { source, destination, inbound, inboundType, network } = metadata;
  const isAddress = ipFamilyOf(destination.host) !== 0;
  return {
    id,
    metadata: {
      network,
      type: `${inboundType}/${inbound}`,
      sourceIP: source.address,
      destinationIP: isAddress ? destination.host : metadata.resolved?.[0] ?? "",
      sourcePort: String(source.port),
      destinationPort: String(destination.port),
      host: isAddress ? metadata.sniffedHost ?? "" : destination.host,
      dnsMode: "normal",
      processPath: "",
    },
    upload,
    download,
    start: new Date(startedAt).toISOString(),
    // Dashboards show the way from its end.
    chains: [...chain].reverse(),
    rule,
    rulePayload: "",
  };
}

/** A rule. */
export function clashRule({ condition, action }: RouteRule): object {
  return {
    type: condition.type,
    payload: conditionText(condition),
    proxy: action.action === "route" ? action.outbound : action.action,
  };
}

function conditionText(condition: RuleCondition): string {
  if (condition.type === "logical") {
    const text = condition.rules.map(conditionText).join(` ${condition.mode} `);
    return condition.invert ? `!(${text})` : `(${text})`;
  }
  const parts: string[] = [];
  for (const [name, value] of Object.entries(condition) as [keyof DefaultCondition, unknown][]) {
    if (name === "type" || name === "invert") continue;
    if (Array.isArray(value)) {
      if (value.length > 0) parts.push(`${name}=${valuesText(value)}`);
    } else if (value === true) parts.push(name);
    else if (value !== false && value !== undefined) parts.push(`${name}=${String(value)}`);
  }
  const text = parts.join(" ");
  return condition.invert ? `!(${text})` : text;
}

function valuesText(values: readonly unknown[]): string {
  const shown = values.slice(0, MOST_VALUES).map((value) =>
    typeof value === "object" && value !== null ? Object.values(value).join("-") : String(value)
  );
  return values.length > MOST_VALUES
    ? `[${shown.join(" ")} …${values.length - MOST_VALUES} more]`
    : shown.length === 1
    ? shown[0]!
    : `[${shown.join(" ")}]`;
}

/** The answer of `/configs`. */
export function clashConfig(config: ProxyConfig, mode: string, modes: readonly string[]): object {
  const portOf = (type: string): number =>
    config.inbounds.find((inbound) => inbound.type === type)?.listen.port ?? 0;
  const mixed = config.inbounds.find(({ type }) => type === "mixed");
  return {
    "port": portOf("http"),
    "socks-port": portOf("socks"),
    "redir-port": portOf("redirect"),
    "tproxy-port": portOf("tproxy"),
    "mixed-port": portOf("mixed"),
    "allow-lan": mixed !== undefined && !/^(?:127\.|::1$)/.test(mixed.listen.address),
    "bind-address": mixed?.listen.address ?? "*",
    "mode": mode,
    "mode-list": modes,
    "modes": modes,
    "log-level": config.log.level,
    "ipv6": config.dns.strategy !== "ipv4_only",
  };
}

/** The modes there are: the one at the start, and those that rules ask for. */
export function modesOf(config: ProxyConfig): readonly string[] {
  const modes = [config.experimental.clashApi?.defaultMode ?? "Rule"];
  const collect = (condition: RuleCondition): void => {
    if (condition.type === "logical") return condition.rules.forEach(collect);
    const { clashMode } = condition;
    if (clashMode === undefined) return;
    const isKnown = modes.some((mode) => mode.toLowerCase() === clashMode.toLowerCase());
    if (!isKnown) modes.push(clashMode);
  };
  for (const { condition } of [...config.route.rules, ...config.dns.rules]) collect(condition);
  return modes;
}

/** An answer in the form of DNS over JSON. */
export function dnsAnswer(bytes: Uint8Array): object {
  const message = decodeDns(bytes, 0, bytes.length);
  if (typeof message === "string") return { Status: 2 };
  const { question, rcode, truncated, records } = message;
  const shown = (section: string): object[] =>
    records.filter((record) => record.section === section).map((record) => ({
      name: `${readDnsName(bytes, 0, record.nameAt, bytes.length)}.`.replace("..", "."),
      type: record.type,
      TTL: record.ttl,
      data: formatDnsData(record.type, bytes, 0, record.dataStart, record.dataEnd),
    }));
  const sections = [["Answer", "answer"], ["Authority", "authority"], ["Additional", "additional"]];
  return {
    Status: rcode,
    Question: [{ Name: `${question.name}.`.replace("..", "."), Qtype: question.type, Qclass: 1 }],
    Server: "internal",
    TC: truncated,
    RD: true,
    RA: true,
    AD: false,
    CD: false,
    ...Object.fromEntries(
      sections.map(([name, section]) => [name!, shown(section!)] as const)
        .filter(([, list]) => list.length > 0),
    ),
  };
}

const TYPES: Readonly<Record<string, string>> = {
  direct: "Direct",
  block: "Reject",
  dns: "DNS",
  socks: "Socks5",
  http: "Http",
  shadowsocks: "Shadowsocks",
  selector: "Selector",
  urltest: "URLTest",
  fallback: "Fallback",
  loadbalance: "LoadBalance",
};
const MOST_SAMPLES = 10;
const MOST_VALUES = 8;
