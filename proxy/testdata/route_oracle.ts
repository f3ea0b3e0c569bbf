/**
 * Conditions asked one after the other, straight from proxy.md §7: slow, and plain enough to be the judge of the plan.
 *
 * @module
 */

import { isIP } from "node:net";
import type { ConnectionRequest } from "../matcher.ts";
import type { DefaultCondition, RuleCondition } from "../rule_types.ts";
import { compileRegex } from "./regex_oracle.ts";

type RuleSets = ReadonlyMap<string, readonly RuleCondition[]>;

/** Whether a condition holds. */
export function holds(
  condition: RuleCondition,
  request: ConnectionRequest,
  sets: RuleSets,
  bySource = false,
): boolean {
  if (condition.type === "logical") {
    const answers = condition.rules.map((rule) => holds(rule, request, sets, bySource));
    const joined = condition.mode === "and" ? answers.every(Boolean) : answers.some(Boolean);
    return joined !== condition.invert;
  }
  return plain(condition, request, sets, bySource) !== condition.invert;
}

function plain(
  rule: DefaultCondition,
  request: ConnectionRequest,
  sets: RuleSets,
  bySource: boolean,
): boolean {
  if (!others(rule, request)) return false;
  const own = classes(rule, request, bySource);
  const fits = (...all: (boolean | undefined)[][]): boolean =>
    [0, 1, 2, 3].every((index) => {
      const present = all.map((each) => each[index]).filter((each) => each !== undefined);
      return present.length === 0 || present.includes(true);
    });
  if (rule.ruleSet.length === 0) return fits(own);
  return rule.ruleSet.flatMap((tag) => sets.get(tag) ?? []).some((member) => {
    const source = rule.ruleSetIpCidrMatchSource;
    if (member.type === "logical" || member.invert) {
      return fits(own) && holds(member, request, sets, source);
    }
    return others(member, request) && fits(own, classes(member, request, source));
  });
}

function others(rule: DefaultCondition, request: ConnectionRequest): boolean {
  const among = <T>(list: readonly T[], value: T | undefined): boolean =>
    list.length === 0 || value !== undefined && list.includes(value);
  const version = isIP(unmapped(request.host));
  return among(rule.inbound, request.inbound) && among(rule.network, request.network) &&
    among(rule.authUser, request.user) && among(rule.protocol, request.protocol) &&
    among(rule.client, request.client) && among(rule.queryType, request.queryType) &&
    (rule.clashMode === undefined ||
      rule.clashMode.toLowerCase() === request.clashMode?.toLowerCase()) &&
    (rule.ipVersion === undefined || rule.ipVersion === version);
}

/** Destination, source, port, source port: whether one of the fields hit; `undefined` when none is there. */
function classes(
  rule: DefaultCondition,
  request: ConnectionRequest,
  bySource: boolean,
): (boolean | undefined)[] {
  const address = isIP(request.host) !== 0;
  const name = (request.sniffedHost ?? (address ? "" : request.host)).toLowerCase()
    .replace(/\.$/, "");
  const addresses = address ? [request.host] : request.resolved ?? [];
  const target = [
    ...rule.domain.map((each) => name === each),
    ...rule.domainSuffix.map((each) =>
      each.startsWith(".") ? name.endsWith(each) && name !== each : `.${name}`.endsWith(`.${each}`)
    ),
    ...rule.domainKeyword.map((each) => name.includes(each)),
    ...rule.domainRegex.map((each) => name !== "" && compileRegex(each).test(name)),
    ...(bySource ? [] : rule.ipCidr.map((each) => addresses.some((ip) => inBlock(ip, each)))),
    ...(rule.ipIsPrivate ? [addresses.some(isPrivate)] : []),
  ];
  const source = [
    ...rule.sourceIpCidr.map((each) => inBlock(request.sourceAddress, each)),
    ...(bySource ? rule.ipCidr.map((each) => inBlock(request.sourceAddress, each)) : []),
    ...(rule.sourceIpIsPrivate ? [isPrivate(request.sourceAddress)] : []),
  ];
  const ports = (
    single: readonly number[],
    spans: DefaultCondition["portRange"],
    port: number,
  ): boolean[] => [
    ...single.map((each) => each === port),
    ...spans.map(({ first, last }) => first <= port && port <= last),
  ];
  return [
    target,
    source,
    ports(rule.port, rule.portRange, request.port),
    ports(rule.sourcePort, rule.sourcePortRange, request.sourcePort),
  ].map((hits) => hits.length === 0 ? undefined : hits.includes(true));
}

function unmapped(ip: string): string {
  return /^::ffff:\d/i.test(ip) ? ip.slice(7) : ip;
}

function isPrivate(ip: string): boolean {
  const text = unmapped(ip);
  if (isIP(text) === 4) {
    const [a = 0, b = 0] = text.split(".").map(Number);
    return a === 10 || a === 127 || a >= 224 && a < 240 || a === 169 && b === 254 ||
      a === 172 && b >= 16 && b < 32 || a === 192 && b === 168 || text === "0.0.0.0";
  }
  const number = valueOf(text);
  return number < 2n || number >> 121n === 0x7en || number >> 118n === 0x3fan ||
    number >> 120n === 0xffn;
}

/** Whether an address is in a block, by division. */
export function inBlock(ip: string, block: string): boolean {
  const [address = "", digits] = block.split("/");
  const [left, right] = [unmapped(ip), unmapped(address)];
  const width = isIP(right) === 4 ? 32 : 128;
  if (isIP(left) !== isIP(right) || isIP(left) === 0) return false;
  const bits = Number(digits ?? width) - (digits !== undefined && right !== address ? 96 : 0);
  const size = 2n ** BigInt(width - bits);
  return valueOf(left) / size === valueOf(right) / size;
}

function valueOf(ip: string): bigint {
  if (isIP(ip) === 4) return ip.split(".").reduce((sum, part) => sum * 256n + BigInt(part), 0n);
  const [head = "", tail] = ip.split("::");
  const groups = (text: string | undefined): string[] =>
    text === undefined || text === "" ? [] : text.split(":");
  const [before, after] = [groups(head), groups(tail)];
  const zeros = new Array(8 - before.length - after.length).fill("0");
  return [...before, ...zeros, ...after].reduce(
    (sum, group) => sum * 65536n + BigInt(`0x${group}`),
    0n,
  );
}
