/**
 * Who may ask for what, how often and how much at once. Pure arithmetic over the time it is given; nothing here waits,
 * and a request that passes costs a few comparisons.
 *
 * @module
 */
import { parseIpv4, parseIpv6 } from "../ffi/mod.ts";
import { compileGlobs } from "./glob.ts";

/** The direction of a transfer, as a rule names it: `get` is a read request, `put` a write request. */
export type AccessMethod = "get" | "put";

/** What a rule may change for those it lets in. Absent members change nothing. */
export interface AccessOverrides {
  /** Largest block size granted, bytes. */
  readonly maxBlockSize?: number;
  /** Largest window granted, blocks. */
  readonly maxWindowSize?: number;
  /** Names of options that are answered as if unknown, lower case. */
  readonly refuseOptions?: readonly string[];
  /** Most transfers of one client at a time; never more than the server's own limit. */
  readonly maxTransfersPerClient?: number;
  /** Most payload per transfer, bits per second. */
  readonly maxRateBps?: number;
}

/** One rule. A member that is absent matches everything. */
export interface AccessRule extends AccessOverrides {
  /** Networks the client is in: `10.0.0.0/8`, `2001:db8::/32`, or single addresses. */
  readonly from?: readonly string[];
  /** Directions it is about. */
  readonly methods?: readonly AccessMethod[];
  /** Patterns of `compileGlob()` over the resolved path. */
  readonly patterns?: readonly string[];
  /** `limit` lets in as `allow` does and says that the overrides are the point. */
  readonly action: "allow" | "deny" | "limit";
}

/** What the rules say to a request. */
export interface AccessDecision {
  /** Whether the request is let in. */
  readonly allowed: boolean;
  /** Of the rule that decided; empty when none did. */
  readonly overrides: AccessOverrides;
}

/**
 * An ordered list of rules; the first that matches decides. When none does the request is let in: reading is what the
 * root is for, and writing still has to pass the write policy of the store.
 */
export class AccessRules {
  readonly #rules: readonly CompiledRule[];

  /**
   * Compiles rules.
   *
   * @throws {TypeError} For text that is no network.
   * @throws {SyntaxError} For a pattern that does not compile.
   */
  constructor(rules: readonly AccessRule[]) {
    this.#rules = rules.map(compileRule);
  }

  /**
   * Finds the first rule that matches a request.
   *
   * @param address The client, as text without a port; IPv4 mapped into IPv6 counts as IPv4.
   * @param path The resolved path, `ResolvedName.text`.
   */
  decide(address: string, method: AccessMethod, path: string): AccessDecision {
    if (this.#rules.length === 0) return ALLOWED;
    const client = parseAddress(address);
    for (const rule of this.#rules) {
      if (rule.methods !== undefined && !rule.methods.includes(method)) continue;
      if (rule.from !== undefined && !inNetworks(rule.from, client)) continue;
      if (rule.patterns !== undefined && !rule.patterns(path)) continue;
      return rule.decision;
    }
    return ALLOWED;
  }
}

/** An IPv4 or IPv6 network. */
export interface Network {
  /** 32 or 128. */
  readonly bits: number;
  /** How many leading bits count. */
  readonly prefix: number;
  /** The address in groups of 16 bits, two or eight of them. */
  readonly groups: readonly number[];
}

/**
 * Reads `address/prefix`; an address alone is a network of one. Bits behind the prefix are ignored.
 *
 * @throws {TypeError}
 */
export function parseNetwork(text: string): Network {
  const [address = "", prefixText, ...rest] = text.split("/");
  const groups = parseAddress(address);
  const bits = groups.length * 16;
  const prefix = prefixText === undefined ? bits : Number(prefixText);
  const wellFormed = prefixText === undefined || /^\d{1,3}$/.test(prefixText);
  if (groups.length === 0 || rest.length > 0 || !wellFormed || prefix > bits) {
    throw new TypeError(`Cannot use network "${text}": expected an address like "10.0.0.0/8"`);
  }
  return Object.freeze({ bits, prefix, groups: Object.freeze(groups) });
}

/** Whether an address, as text, lies in a network. IPv4 mapped into IPv6 counts as IPv4. */
export function isInNetwork(network: Network, address: string): boolean {
  return inNetworks([network], parseAddress(address));
}

/** How many requests are let through. */
export interface RequestLimits {
  /** Sustained requests per second of one client; 0 lifts the limit. */
  readonly perClientPerSecond: number;
  /** Requests a client that was silent may make at once, at least 1. */
  readonly perClientBurst: number;
  /** Sustained requests per second of all clients together; 0 lifts the limit. */
  readonly totalPerSecond: number;
  /** Requests that may come at once when nobody asked before. */
  readonly totalBurst: number;
  /** Clients remembered; beyond it the one heard longest ago is forgotten, and with it what it had used up. */
  readonly maxClients: number;
}

/** The limits unless configured: a boot ROM that asks for thirty missing names in a row never meets them. */
export const REQUEST_LIMITS: RequestLimits = Object.freeze({
  perClientPerSecond: 50,
  perClientBurst: 100,
  totalPerSecond: 0,
  totalBurst: 0,
  maxClients: 4096,
});

/** Token buckets: one per client, one for all. A bucket is two numbers, so an idle client costs nothing. */
export class RequestLimiter {
  /** Requests refused so far. */
  refused = 0;
  readonly #limits: RequestLimits;
  // In order of last use, which is what a Map keeps when an entry is taken out and put in again.
  readonly #clients = new Map<string, Bucket>();
  readonly #total: Bucket;

  /** Buckets that are all full. @throws {RangeError} For a limit below 0. */
  constructor(limits: RequestLimits = REQUEST_LIMITS) {
    for (const [name, value] of Object.entries(limits)) {
      if (!(value >= 0)) throw new RangeError(`Cannot use ${name} ${value}: expected 0 or more`);
    }
    this.#limits = limits;
    this.#total = { tokens: limits.totalBurst, at: 0 };
  }

  /** Clients remembered now. */
  get clients(): number {
    return this.#clients.size;
  }

  /**
   * Takes one request of a client out of its bucket and the common one.
   *
   * @param client Anything that stands for the client's host, without its port.
   * @param now Monotonic milliseconds.
   * @returns False when either is empty; then neither is charged.
   */
  take(client: string, now: number): boolean {
    const limits = this.#limits;
    const own = limits.perClientPerSecond > 0 ? this.#bucketOf(client, now) : undefined;
    if (own !== undefined) refill(own, limits.perClientPerSecond, limits.perClientBurst, now);
    if (limits.totalPerSecond > 0) {
      refill(this.#total, limits.totalPerSecond, limits.totalBurst, now);
    }
    const ownEmpty = own !== undefined && own.tokens < 1;
    if (ownEmpty || (limits.totalPerSecond > 0 && this.#total.tokens < 1)) {
      this.refused++;
      return false;
    }
    if (own !== undefined) own.tokens -= 1;
    if (limits.totalPerSecond > 0) this.#total.tokens -= 1;
    return true;
  }

  #bucketOf(client: string, now: number): Bucket {
    const clients = this.#clients;
    let bucket = clients.get(client);
    if (bucket === undefined) {
      if (clients.size >= this.#limits.maxClients) {
        const oldest = clients.keys().next();
        if (oldest.done !== true) clients.delete(oldest.value);
      }
      bucket = { tokens: this.#limits.perClientBurst, at: now };
    } else {
      clients.delete(client);
    }
    clients.set(client, bucket);
    return bucket;
  }
}

/** How many transfers may run. */
export interface TransferLimits {
  /** Of all clients together. */
  readonly maxTransfers: number;
  /** Of one client. */
  readonly maxTransfersPerClient: number;
  /**
   * Transfers that were answered with an options acknowledgement and whose client has not spoken since: a request may
   * carry a forged sender, so what it can tie up is bounded apart.
   */
  readonly maxPending: number;
}

/** The limits unless configured. */
export const TRANSFER_LIMITS: TransferLimits = Object.freeze({
  maxTransfers: 1000,
  maxTransfersPerClient: 16,
  maxPending: 256,
});

/** Why a transfer may not start. */
export type TransferRefusal = "transfers" | "transfers-per-client" | "pending";

/** Counts transfers against their limits. */
export class TransferGate {
  readonly #limits: TransferLimits;
  readonly #byClient = new Map<string, number>();
  #active = 0;
  #pending = 0;

  /** A gate that nobody passed yet. */
  constructor(limits: TransferLimits = TRANSFER_LIMITS) {
    this.#limits = limits;
  }

  /** Transfers running, pending ones included. */
  get active(): number {
    return this.#active;
  }

  /** Of those, the ones whose client has not confirmed. */
  get pending(): number {
    return this.#pending;
  }

  /**
   * Asks for one more transfer, pending until {@linkcode TransferSlot.confirm}.
   *
   * @param client Anything that stands for the client's host, without its port.
   * @param maxPerClient A rule's own limit for this client.
   */
  begin(client: string, maxPerClient?: number): TransferSlot | TransferRefusal {
    const limits = this.#limits;
    if (this.#active >= limits.maxTransfers) return "transfers";
    if (this.#pending >= limits.maxPending) return "pending";
    const own = this.#byClient.get(client) ?? 0;
    if (own >= (maxPerClient ?? limits.maxTransfersPerClient)) return "transfers-per-client";
    this.#byClient.set(client, own + 1);
    this.#active++;
    this.#pending++;
    let pending = true, ended = false;
    return {
      clientTransfers: own + 1,
      confirm: () => {
        if (!pending || ended) return;
        pending = false;
        this.#pending--;
      },
      end: () => {
        if (ended) return;
        ended = true;
        if (pending) this.#pending--;
        this.#active--;
        const left = this.#byClient.get(client)! - 1;
        if (left === 0) this.#byClient.delete(client);
        else this.#byClient.set(client, left);
      },
    };
  }
}

/** The place a running transfer holds. */
export interface TransferSlot {
  /** Transfers of the same client when it began, itself included. */
  readonly clientTransfers: number;
  /** The client answered: its address is real. Idempotent. */
  confirm(): void;
  /** The transfer is over. Idempotent. */
  end(): void;
}

interface Bucket {
  tokens: number;
  at: number;
}

interface CompiledRule {
  readonly from: readonly Network[] | undefined;
  readonly methods: readonly AccessMethod[] | undefined;
  readonly patterns: ((path: string) => boolean) | undefined;
  readonly decision: AccessDecision;
}

function compileRule(rule: AccessRule): CompiledRule {
  const { from, methods, patterns, action, ...overrides } = rule;
  return {
    from: from?.map(parseNetwork),
    methods,
    patterns: patterns === undefined ? undefined : compileGlobs(patterns),
    decision: Object.freeze({
      allowed: action !== "deny",
      overrides: Object.freeze(overrides),
    }),
  };
}

// The address in groups of 16 bits: two for IPv4, eight for IPv6, none for anything else.
function parseAddress(text: string): readonly number[] {
  const ipv4 = parseIpv4(text);
  if (ipv4 >= 0) return [ipv4 >>> 16, ipv4 & 0xffff];
  const groups = parseIpv6(text.replace(/%.*$/, ""));
  if (groups === undefined) return [];
  const mapped = groups[5] === 0xffff && groups.slice(0, 5).every((group) => group === 0);
  return mapped ? groups.slice(6) : groups;
}

function inNetworks(networks: readonly Network[], groups: readonly number[]): boolean {
  return networks.some((network) => {
    if (network.groups.length !== groups.length) return false;
    for (let i = 0, left = network.prefix; left > 0; i++, left -= 16) {
      const mask = left >= 16 ? 0xffff : (0xffff << (16 - left)) & 0xffff;
      if (((network.groups[i]! ^ groups[i]!) & mask) !== 0) return false;
    }
    return true;
  });
}

function refill(bucket: Bucket, perSecond: number, burst: number, now: number): void {
  // Readings that arrive out of order must not be paid twice.
  if (now <= bucket.at) return;
  bucket.tokens = Math.min(
    Math.max(burst, 1),
    bucket.tokens + (now - bucket.at) * perSecond / 1000,
  );
  bucket.at = now;
}

const ALLOWED: AccessDecision = Object.freeze({ allowed: true, overrides: Object.freeze({}) });
