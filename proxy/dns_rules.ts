/**
 * Which server is asked: DNS rules, with those about the addresses of answers, which hold only once there is one.
 *
 * @module
 */

import type { DomainStrategy } from "./config_types.ts";
import { ConditionPlan, type ConnectionRequest } from "./matcher.ts";
import type {
  DefaultCondition,
  DnsRouteOptions,
  DnsRule,
  PredefinedAction,
  RejectAction,
  RuleCondition,
} from "./rule_types.ts";

/** What is done with a question. */
export type DnsDecision =
  | {
    readonly kind: "server";
    /** Tag of the server. */
    readonly server: string;
    /** How it is asked. */
    readonly options: DnsRouteOptions;
    /** Address families; `undefined` leaves it to the DNS section. */
    readonly strategy: DomainStrategy | undefined;
    /** Position of the rule; -1 when none decided. */
    readonly at: number;
  }
  | { readonly kind: "action"; readonly action: RejectAction | PredefinedAction };

/** DNS rules, compiled. */
export class DnsPlan {
  readonly #rules: readonly DnsRule[];
  readonly #final: string;
  readonly #defaults: DnsRouteOptions;
  readonly #before: ConditionPlan;
  readonly #after: ConditionPlan;
  readonly #filters: readonly boolean[];

  /**
   * Compiles rules.
   *
   * @param final Tag of the server for what no rule decided.
   * @param defaults How it is asked when no rule says.
   * @param ruleSets Rules by the set's tag.
   */
  constructor(
    rules: readonly DnsRule[],
    final: string,
    defaults: DnsRouteOptions,
    ruleSets: ReadonlyMap<string, readonly RuleCondition[]> = new Map(),
  ) {
    this.#rules = rules;
    this.#final = final;
    this.#defaults = defaults;
    this.#filters = rules.map(({ condition }) => hasFilter(condition));
    this.#before = new ConditionPlan(
      rules.map(({ condition }) => beforeAnswer(condition)),
      ruleSets,
    );
    this.#after = new ConditionPlan(rules.map(({ condition }) => withAnswer(condition)), ruleSets);
  }

  /** Rules, in order. */
  get rules(): readonly DnsRule[] {
    return this.#rules;
  }

  /**
   * Decides.
   *
   * @param start Position to begin at: behind a rule whose answer did not fit.
   * @param mayTake Says which servers may be chosen; rules with others are passed over.
   */
  decide(
    request: ConnectionRequest,
    start: number,
    mayTake: (server: string) => boolean,
  ): DnsDecision {
    let options = this.#defaults;
    const rules = this.#rules;
    let at = rules.length === 0 ? -1 : this.#before.match(request, start);
    for (; at >= 0; at = this.#before.match(request, at + 1)) {
      const { action } = rules[at]!;
      if (action.action === "route") {
        if (!mayTake(action.server)) continue;
        return {
          kind: "server",
          server: action.server,
          options: merged(options, action),
          strategy: action.strategy,
          at,
        };
      }
      // There is no answer whose addresses could be looked at.
      if (this.#filters[at]) continue;
      if (action.action !== "route-options") return { kind: "action", action };
      options = merged(options, action);
    }
    return { kind: "server", server: this.#final, options, strategy: undefined, at: -1 };
  }

  /** Whether a rule looks at the addresses of the answer. */
  isFiltered(at: number): boolean {
    return this.#filters[at] === true;
  }

  /** Whether a rule holds with the addresses of the answer. */
  fits(at: number, request: ConnectionRequest, addresses: readonly string[]): boolean {
    return this.#after.match({ ...request, resolved: addresses }, at) === at;
  }
}

function merged(earlier: DnsRouteOptions, later: DnsRouteOptions): DnsRouteOptions {
  return {
    disableCache: later.disableCache || earlier.disableCache,
    rewriteTtl: later.rewriteTtl ?? earlier.rewriteTtl,
    clientSubnet: later.clientSubnet ?? earlier.clientSubnet,
  };
}

function hasFilter(condition: RuleCondition): boolean {
  if (condition.type === "logical") return condition.rules.some(hasFilter);
  return condition.ipCidr.length > 0 || condition.ipIsPrivate || condition.ipAcceptAny;
}

function withoutFilter(condition: DefaultCondition): DefaultCondition {
  return { ...condition, invert: false, ipCidr: [], ipIsPrivate: false, ipAcceptAny: false };
}

/** What must hold before anybody is asked: whatever the addresses will be, it could hold. */
function beforeAnswer(condition: RuleCondition): RuleCondition {
  if (!hasFilter(condition)) return condition;
  // With the sense turned round, addresses alone may make it hold.
  if (condition.invert) return ALWAYS;
  if (condition.type === "default") return withoutFilter(condition);
  return { ...condition, rules: condition.rules.map(beforeAnswer) };
}

/** The condition as it is read with an answer: addresses have to fit as well, not instead of names. */
function withAnswer(condition: RuleCondition): RuleCondition {
  if (!hasFilter(condition)) return condition;
  if (condition.type === "logical") {
    return { ...condition, rules: condition.rules.map(withAnswer) };
  }
  const { ipCidr, ipIsPrivate, ipAcceptAny, invert } = condition;
  const filter: DefaultCondition = { ...NOTHING_ASKED, ipCidr, ipIsPrivate, ipAcceptAny };
  return { type: "logical", mode: "and", invert, rules: [withoutFilter(condition), filter] };
}

const NOTHING_ASKED: DefaultCondition = {
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
};

const ALWAYS: RuleCondition = NOTHING_ASKED;
