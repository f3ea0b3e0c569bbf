/**
 * From a connection to what is done with it: a pure function of the request and the rules.
 *
 * A rule that decides (`route`, `reject`, `hijack-dns`) ends the walk. One that does not (`sniff`, `resolve`,
 * `route-options`) is carried out by the caller, who puts what was learned into the request and goes on behind it:
 *
 * ```ts ignore
 * for (let at = plan.match(request); at >= 0; at = plan.match(request, at + 1)) {
 *   const { action } = plan.rules[at];
 *   if (isDecision(action)) return action;
 *   request = await carryOut(action, request);
 * }
 * return plan.final;
 * ```
 *
 * @module
 */

import type { ProxyConfig } from "./config_types.ts";
import { ConditionPlan, type ConnectionRequest } from "./matcher.ts";
import type {
  DnsRule,
  HijackDnsAction,
  RejectAction,
  RouteAction,
  RouteOptions,
  RouteRule,
  RuleAction,
  RuleCondition,
} from "./rule_types.ts";

/** An action that ends the walk. */
export type RouteDecision = RouteAction | RejectAction | HijackDnsAction;

/** Rules with their compiled conditions. */
export class RulePlan<R extends { readonly condition: RuleCondition }> {
  /** The rules, in order. */
  readonly rules: readonly R[];
  /** Tag of what takes everything that no rule decided: an outbound, or a DNS server. */
  readonly final: string;
  readonly #plan: ConditionPlan;

  /**
   * Compiles rules.
   *
   * @param rules In order.
   * @param final Tag for the rest.
   * @param ruleSets Rules by the set's tag; a set that is not there holds for nothing.
   */
  constructor(
    rules: readonly R[],
    final: string,
    ruleSets: ReadonlyMap<string, readonly RuleCondition[]>,
  ) {
    this.rules = rules;
    this.final = final;
    this.#plan = new ConditionPlan(rules.map(({ condition }) => condition), ruleSets);
  }

  /**
   * The first rule that applies. Allocates nothing unless the request's name has upper-case letters or a final dot.
   *
   * @param start Position to begin at.
   * @returns Its position in {@linkcode RulePlan.rules}, or -1.
   */
  match(request: ConnectionRequest, start = 0): number {
    return this.#plan.match(request, start);
  }
}

/** The plan of `route.rules`. */
export function compileRoute(
  config: ProxyConfig,
  ruleSets: ReadonlyMap<string, readonly RuleCondition[]> = new Map(),
): RulePlan<RouteRule> {
  return new RulePlan(config.route.rules, config.route.final, ruleSets);
}

/** The plan of `dns.rules`. */
export function compileDns(
  config: ProxyConfig,
  ruleSets: ReadonlyMap<string, readonly RuleCondition[]> = new Map(),
): RulePlan<DnsRule> {
  return new RulePlan(config.dns.rules, config.dns.final, ruleSets);
}

/** Whether an action ends the walk. */
export function isDecision(action: RuleAction): action is RouteDecision {
  return action.action === "route" || action.action === "reject" || action.action === "hijack-dns";
}

/** Options of a connection that no rule has changed. */
export const NO_ROUTE_OPTIONS: RouteOptions = Object.freeze({
  overrideAddress: undefined,
  overridePort: 0,
  udpDisableDomainUnmapping: false,
  udpConnect: false,
  udpTimeoutMs: undefined,
});

/** Options after another rule: what it says replaces, what it leaves open stays. */
export function withRouteOptions(earlier: RouteOptions, later: RouteOptions): RouteOptions {
  return {
    overrideAddress: later.overrideAddress ?? earlier.overrideAddress,
    overridePort: later.overridePort === 0 ? earlier.overridePort : later.overridePort,
    udpDisableDomainUnmapping: later.udpDisableDomainUnmapping || earlier.udpDisableDomainUnmapping,
    udpConnect: later.udpConnect || earlier.udpConnect,
    udpTimeoutMs: later.udpTimeoutMs ?? earlier.udpTimeoutMs,
  };
}
