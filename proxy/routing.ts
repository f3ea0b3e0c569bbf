/**
 * Walking the rules for one connection, and carrying out those that look closer before they go on.
 *
 * @module
 */

import { literalAddress } from "../ffi/mod.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { Metadata, Resolver } from "./outbound.ts";
import type { ConnectionRequest } from "./matcher.ts";
import type { Sniffed } from "./protocol/mod.ts";
import { isDecision, NO_ROUTE_OPTIONS, type RulePlan, withRouteOptions } from "./route.ts";
import type {
  HijackDnsAction,
  RejectAction,
  ResolveAction,
  RouteOptions,
  RouteRule,
  SniffAction,
} from "./rule_types.ts";

/** Looks at a client's first bytes; `undefined` when they are nothing known, or do not come. */
export type Peek = (action: SniffAction) => Promise<Sniffed | undefined>;

/** What is done with a connection. */
export interface Routed {
  /** Which outbound it takes, or what else happens. */
  readonly decision:
    | { readonly action: "route"; readonly outbound: string }
    | RejectAction
    | HijackDnsAction;
  /** What is known by now. */
  readonly metadata: Metadata;
  /** What rules have changed. */
  readonly options: RouteOptions;
  /** The rule that decided, as text. */
  readonly rule: string;
}

/** What a walk needs. */
export interface RoutingContext {
  /** The rules. */
  readonly plan: RulePlan<RouteRule>;
  /** For rules that resolve. */
  readonly resolver: Resolver;
  /** Mode of the control interface. */
  readonly clashMode: string | undefined;
}

/**
 * Decides what is done with a connection. A promise only where a rule sniffs or resolves.
 *
 * @param peek Looks at the first bytes; absent where there are none.
 */
export function routeConnection(
  context: RoutingContext,
  metadata: Metadata,
  peek: Peek | undefined,
): Routed | Promise<Routed> {
  const request = requestOf(metadata, context.clashMode);
  const at = context.plan.match(request);
  if (at < 0) return finalOf(context, metadata, NO_ROUTE_OPTIONS);
  const { action } = context.plan.rules[at]!;
  if (isDecision(action)) return decided(context, metadata, NO_ROUTE_OPTIONS, at);
  return walk(context, metadata, peek, at);
}

async function walk(
  context: RoutingContext,
  first: Metadata,
  peek: Peek | undefined,
  start: number,
): Promise<Routed> {
  const { plan, clashMode } = context;
  let metadata = first;
  let options = NO_ROUTE_OPTIONS;
  for (let at = start; at >= 0; at = plan.match(requestOf(metadata, clashMode), at + 1)) {
    const { action } = plan.rules[at]!;
    if (isDecision(action)) return decided(context, metadata, options, at);
    if (action.action === "route-options") options = withRouteOptions(options, action);
    else if (action.action === "sniff") {
      const found = await peek?.(action);
      if (found !== undefined) {
        metadata = {
          ...metadata,
          protocol: found.protocol,
          sniffedHost: found.host ?? metadata.sniffedHost,
          client: found.client ?? metadata.client,
        };
      }
    } else metadata = await resolved(context.resolver, metadata, action);
  }
  return finalOf(context, metadata, options);
}

async function resolved(
  resolver: Resolver,
  metadata: Metadata,
  action: ResolveAction,
): Promise<Metadata> {
  const { host } = metadata.destination;
  if (literalAddress(host, 0) !== undefined) return metadata;
  const { server, strategy, disableCache, rewriteTtl, clientSubnet } = action;
  const addresses = await resolver.resolve(host, {
    server,
    strategy,
    disableCache,
    rewriteTtl,
    clientSubnet,
    metadata,
  });
  return { ...metadata, resolved: addresses };
}

function decided(
  { plan }: RoutingContext,
  metadata: Metadata,
  earlier: RouteOptions,
  at: number,
): Routed {
  const action = plan.rules[at]!.action;
  if (!isDecision(action)) throw new TypeError("Cannot decide by a rule that goes on");
  const options = action.action === "route" ? withRouteOptions(earlier, action) : earlier;
  return { decision: action, metadata: moved(metadata, options), options, rule: `rule ${at}` };
}

function finalOf({ plan }: RoutingContext, metadata: Metadata, options: RouteOptions): Routed {
  const decision = { action: "route", outbound: plan.final } as const;
  return { decision, metadata: moved(metadata, options), options, rule: "final" };
}

/** A destination that rules have put in the place of the asked one. */
function moved(metadata: Metadata, { overrideAddress, overridePort }: RouteOptions): Metadata {
  if (overrideAddress === undefined && overridePort === 0) return metadata;
  const { host, port } = metadata.destination;
  const destination = {
    host: overrideAddress ?? host,
    port: overridePort === 0 ? port : overridePort,
  };
  const { resolved: _, ...rest } = metadata;
  return overrideAddress === undefined ? { ...metadata, destination } : { ...rest, destination };
}

function requestOf(metadata: Metadata, clashMode: string | undefined): ConnectionRequest {
  return {
    inbound: metadata.inbound,
    network: metadata.network,
    sourceAddress: metadata.source.address,
    sourcePort: metadata.source.port,
    host: metadata.destination.host,
    port: metadata.destination.port,
    user: metadata.user,
    protocol: metadata.protocol,
    client: metadata.client,
    sniffedHost: metadata.sniffedHost,
    resolved: metadata.resolved,
    clashMode,
  };
}

/** Refusals that were answered: after too many of them within a time, further ones are left unanswered. */
export class RejectCounter {
  readonly #clock: Clock;
  readonly #times = new Float64Array(DROP_AFTER).fill(-Infinity);
  #at = 0;

  /** @param clock Whose time counts. */
  constructor(clock: Clock) {
    this.#clock = clock;
  }

  /** Whether the refusal that is due now is to be silent. Counts it. */
  isSilent(action: RejectAction): boolean {
    if (action.method === "drop") return true;
    if (action.noDrop) return false;
    const now = this.#clock.now();
    const oldest = this.#times[this.#at]!;
    this.#times[this.#at] = now;
    this.#at = (this.#at + 1) % DROP_AFTER;
    return now - oldest < DROP_WITHIN_MS;
  }
}

/** proxy.md §7. */
const DROP_AFTER = 50;
const DROP_WITHIN_MS = 30_000;
