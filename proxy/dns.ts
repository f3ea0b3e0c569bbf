/**
 * The DNS part: rules choose a server, answers are kept, equal questions asked at the same time are asked once.
 *
 * @module
 */

import type { FastwireError } from "../internal/errors.ts";
import { logger } from "../internal/log.ts";
import type { Random } from "../internal/random.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { DialConfig, DnsConfig, DomainStrategy } from "./config_types.ts";
import { aged, askOf, faultOf, predefinedAnswer, writeFault } from "./dns_answers.ts";
import { DnsCache } from "./dns_cache.ts";
import { FakeipDnsServer, type FakeipStore } from "./dns_fakeip.ts";
import {
  CLASS_IN,
  decodeDns,
  type DnsAsk,
  type DnsMessage,
  RCODE,
  TYPE_A,
  TYPE_AAAA,
} from "./dns_message.ts";
import { askerOf, type DnsReply, makeReply, withTtl, writeReply } from "./dns_reply.ts";
import { type DnsDecision, DnsPlan } from "./dns_rules.ts";
import { type DnsServer, lateAnswer, whenAborted, withSignal } from "./dns_server.ts";
import { createDnsServer, type DnsServerContext } from "./dns_servers.ts";
import type { ConnectionRequest } from "./matcher.ts";
import type { Dialer, Metadata, ResolveOptions } from "./outbound.ts";
import { ipFamilyOf } from "./protocol/ip_text.ts";
import type { DnsSnapshot, ProxyDns } from "./proxy_dns.ts";
import { NameError, orderByStrategy, SystemResolver } from "./resolver.ts";
import type { DnsRouteOptions, PredefinedAction, RuleCondition } from "./rule_types.ts";

/** What the DNS part lives on. */
export interface DnsContext {
  /**
   * How DNS servers are reached: through the outbound that `detour` names, else from here by the dial fields; `undefined`
   * is from here with every default. Called while the DNS part is made; what it gives is used with the first question.
   */
  dialer(dial: DialConfig | undefined): Dialer;
  /** Monotonic time. */
  readonly clock: Clock;
  /** Fit for numbers that nobody should guess. */
  readonly random: Random;
  /** Rules by the set's tag. */
  readonly ruleSets?: ReadonlyMap<string, readonly RuleCondition[]>;
  /** Mode of the control interface, now. */
  readonly clashMode?: () => string | undefined;
  /** Servers that replace those of the configuration, for tests. */
  readonly createServer?: typeof createDnsServer;
}

/** A question, and for whom it is asked. */
interface Context {
  readonly metadata: Metadata | undefined;
  readonly outbound: string | undefined;
  readonly server: string | undefined;
  readonly options: Partial<DnsRouteOptions>;
  readonly allowFakeip: boolean;
}

/** The answer to a question; `undefined` when a rule says that there shall be none. */
type Answered = DnsReply | undefined;

/** The DNS part of a proxy. */
export class Dns implements ProxyDns {
  readonly #config: DnsConfig;
  readonly #context: DnsContext;
  readonly #plan: DnsPlan;
  readonly #servers = new Map<string, DnsServer>();
  readonly #cache: DnsCache;
  readonly #flights = new Map<string, Promise<DnsReply>>();
  readonly #names = new Map<string, string>();
  readonly #predefined = new Map<PredefinedAction, (ask: DnsAsk) => DnsReply>();
  readonly #closing = new AbortController();
  readonly #log = logger("proxy", "dns");
  #questions = 0;
  #exchanges = 0;
  #failures = 0;
  #joined = 0;
  #rejected = 0;

  /**
   * Makes the DNS part. Opens nothing.
   *
   * @throws {SyntaxError} When a rule's records cannot be read. @throws {RangeError} When a block for invented addresses
   * is too small.
   */
  constructor(config: DnsConfig, context: DnsContext) {
    this.#config = config;
    this.#context = context;
    const defaults = {
      disableCache: false,
      rewriteTtl: undefined,
      clientSubnet: config.clientSubnet,
    };
    this.#plan = new DnsPlan(config.rules, config.final, defaults, context.ruleSets);
    const { cacheCapacity: capacity, disableExpire, optimisticMs } = config;
    this.#cache = new DnsCache({ capacity, disableExpire, optimisticMs });
    const serverContext: DnsServerContext = {
      dialer: (dial) => context.dialer(dial),
      clock: context.clock,
      random: context.random,
      locate: async (host, resolver, signal) => {
        const strategy = resolver?.strategy ?? "prefer_ipv4";
        // A server must not be asked for its own name: the system is, unless the configuration names another one.
        const found = resolver === undefined
          ? await new SystemResolver(strategy).resolve(host, { signal })
          : await this.resolve(host, { ...resolver, strategy, signal });
        return found[0]!;
      },
    };
    const create = context.createServer ?? createDnsServer;
    for (const server of config.servers) {
      this.#servers.set(server.tag, create(server, serverContext));
    }
    for (const { action } of config.rules) {
      if (action.action === "predefined") this.#predefined.set(action, predefinedAnswer(action));
    }
  }

  /** The addresses of a name; see `Resolver`. Invented addresses are never among them. */
  async resolve(host: string, options: ResolveOptions = {}): Promise<readonly string[]> {
    options.signal?.throwIfAborted();
    if (ipFamilyOf(host) !== 0) return [host];
    const name = (host.endsWith(".") ? host.slice(0, -1) : host).toLowerCase();
    const context: Context = {
      metadata: options.metadata,
      outbound: options.outbound,
      server: options.server,
      options: {
        disableCache: options.disableCache ?? false,
        rewriteTtl: options.rewriteTtl,
        clientSubnet: options.clientSubnet,
      },
      allowFakeip: false,
    };
    const decision = this.#decide(askFor(name, TYPE_A), context, 0);
    const strategy = options.strategy ??
      (decision.kind === "server" ? decision.strategy : undefined) ?? this.#config.strategy ??
      "prefer_ipv4";
    const types = strategy === "ipv4_only"
      ? [TYPE_A]
      : strategy === "ipv6_only"
      ? [TYPE_AAAA]
      : [TYPE_A, TYPE_AAAA];
    const settled = Promise.allSettled(
      types.map((type) => this.#answer(askFor(name, type), context)),
    );
    const outcomes = await withSignal(settled, options.signal);
    const found = outcomes.flatMap((outcome) =>
      outcome.status === "fulfilled" ? outcome.value?.addresses ?? [] : []
    ).map((address) => ({ address, family: address.includes(":") ? 6 : 4 }));
    const addresses = orderByStrategy(found, strategy);
    if (addresses.length > 0) return addresses;
    for (const outcome of outcomes) if (outcome.status === "rejected") throw outcome.reason;
    throw nameError(
      host,
      outcomes.map((each) => each.status === "fulfilled" ? each.value : undefined),
    );
  }

  /**
   * Asks a question as a client of this proxy would.
   *
   * @throws {FastwireError} `proxy.name-rejected` when a rule refuses to answer; why there is no answer.
   */
  async query(
    name: string,
    type: number,
    options: Parameters<ProxyDns["query"]>[2] = {},
  ): Promise<DnsReply> {
    const context = {
      ...CLIENT,
      metadata: options.metadata,
      options: { disableCache: options.disableCache ?? false },
    };
    const ask = askFor((name.length > 1 ? name.replace(/\.$/, "") : name).toLowerCase(), type);
    const reply = await withSignal(this.#answer(ask, context), options.signal);
    if (reply !== undefined) return reply;
    throw new NameError(
      "proxy.name-rejected",
      `Cannot resolve "${name}": a rule drops the question`,
    );
  }

  /**
   * Answers a client's message at once if that is possible: from the cache, or by a rule.
   *
   * @param into Receives the answer; with room for what its asker takes from `at` on.
   * @param overUdp Whether long answers are cut to what the asker takes.
   * @returns The position behind the answer; {@linkcode NO_ANSWER} when there shall be none; {@linkcode ANSWER_LATER}
   * when {@linkcode Dns.answer} has to be asked.
   */
  answerNow(
    bytes: Uint8Array,
    start: number,
    end: number,
    metadata: Metadata | undefined,
    overUdp: boolean,
    into: Uint8Array,
    at: number,
  ): number {
    const query = decodeDns(bytes, start, end);
    const fault = faultOf(query, bytes, start, end);
    if (fault !== 0) return fault < 0 ? NO_ANSWER : writeFault(fault, bytes, start, into, at);
    const message = query as DnsMessage;
    const reply = this.#now(askOf(message), metadata);
    if (reply === "later") return ANSWER_LATER;
    if (reply === undefined) return NO_ANSWER;
    const asker = askerOf(bytes, start, message, overUdp);
    return writeReply(reply.reply, reply.agedSeconds, reply.staleTtl, asker, into, at);
  }

  /**
   * Answers a client's message.
   *
   * @returns The answer, its own bytes; `undefined` when there shall be none. Never rejects: what cannot be answered is
   * answered with SERVFAIL.
   */
  async answer(
    bytes: Uint8Array,
    start: number,
    end: number,
    metadata: Metadata | undefined,
    overUdp: boolean,
  ): Promise<Uint8Array<ArrayBuffer> | undefined> {
    const query = decodeDns(bytes, start, end);
    const fault = faultOf(query, bytes, start, end);
    if (fault < 0) return undefined;
    if (fault > 0) {
      const into = new Uint8Array(12);
      writeFault(fault, bytes, start, into, 0);
      return into;
    }
    const message = query as DnsMessage;
    const ask = askOf(message);
    // The buffer may be somebody else's by the time there is an answer.
    const asker = askerOf(bytes.slice(start, message.questionEnd), 0, message, overUdp);
    const moved = { ...asker, questionEnd: asker.bytes.length };
    let reply: Answered;
    try {
      reply = await this.#answer(ask, { ...CLIENT, metadata });
    } catch {
      reply = makeReply(ask, RCODE.serverFailure);
    }
    if (reply === undefined) return undefined;
    const room = new Uint8Array(Math.max(reply.bytes.length, ask.name.length + 18) + 11);
    return room.slice(0, writeReply(reply, 0, undefined, moved, room, 0));
  }

  /** The name an invented address leads back to: whoever connects there means the name. */
  fakeNameOf(address: string): string | undefined {
    for (const server of this.#servers.values()) {
      if (!(server instanceof FakeipDnsServer)) continue;
      const name = server.nameOf(address);
      if (name !== undefined) return name;
    }
    return undefined;
  }

  /** The name in whose answer an address was seen last, with `reverse_mapping`. */
  reverseNameOf(address: string): string | undefined {
    return this.#names.get(address);
  }

  /** Takes over what clients still hold of the DNS part before: invented addresses go on leading to their names. */
  takeOver(previous: Dns): void {
    for (const [tag, server] of this.#servers) {
      const before = previous.#servers.get(tag);
      if (server instanceof FakeipDnsServer && before instanceof FakeipDnsServer) {
        server.takeOver(before);
      }
    }
    for (const [address, name] of previous.#names) this.#names.set(address, name);
  }

  /** Lets invented addresses outlive the process. */
  keepIn(store: FakeipStore): void {
    for (const server of this.#servers.values()) {
      if (server instanceof FakeipDnsServer) server.keepIn(store);
    }
  }

  /** A server, by its tag. */
  server(tag: string): DnsServer | undefined {
    return this.#servers.get(tag);
  }

  /** Forgets all answers. */
  flushCache(): void {
    this.#cache.clear();
    this.#names.clear();
  }

  /** Forgets all invented addresses. */
  flushFakeip(): void {
    for (const server of this.#servers.values()) {
      if (server instanceof FakeipDnsServer) server.clear();
    }
  }

  /** A frozen copy of the counts. */
  snapshot(): DnsSnapshot {
    return Object.freeze({
      questions: this.#questions,
      exchanges: this.#exchanges,
      failures: this.#failures,
      joined: this.#joined,
      rejected: this.#rejected,
      cache: this.#cache.snapshot(),
    });
  }

  /** Gives up on what waits, and closes all servers. Idempotent. */
  async close(): Promise<void> {
    this.#closing.abort(
      new NameError("proxy.name-timeout", "Cannot resolve: the proxy was closed"),
    );
    await Promise.all([...this.#servers.values()].map((server) => server.close()));
    await Promise.allSettled([...this.#flights.values()]);
  }

  #decide(ask: DnsAsk, context: Context, start: number): DnsDecision {
    const { server, options } = context;
    if (server !== undefined) {
      const asked = {
        disableCache: options.disableCache ?? false,
        rewriteTtl: options.rewriteTtl,
        clientSubnet: options.clientSubnet ?? this.#config.clientSubnet,
      };
      return { kind: "server", server, options: asked, strategy: undefined, at: -1 };
    }
    const decision = this.#plan.decide(
      this.#requestOf(ask, context),
      start,
      (tag) => context.allowFakeip || this.#servers.get(tag)?.type !== "fakeip",
    );
    if (decision.kind === "action") return decision;
    const chosen = decision.options;
    return {
      ...decision,
      options: {
        disableCache: chosen.disableCache || options.disableCache === true,
        rewriteTtl: options.rewriteTtl ?? chosen.rewriteTtl,
        clientSubnet: options.clientSubnet ?? chosen.clientSubnet,
      },
    };
  }

  #requestOf(ask: DnsAsk, { metadata, outbound }: Context): ConnectionRequest {
    return {
      inbound: metadata?.inbound ?? "",
      network: metadata?.network ?? "udp",
      sourceAddress: metadata?.source.address ?? "",
      sourcePort: metadata?.source.port ?? 0,
      host: ask.name,
      port: metadata?.destination.port ?? 0,
      user: metadata?.user,
      protocol: metadata?.protocol,
      client: metadata?.client,
      clashMode: this.#context.clashMode?.(),
      queryType: ask.type,
      outbound,
    };
  }

  /** What can be answered without waiting. */
  #now(
    ask: DnsAsk,
    metadata: Metadata | undefined,
  ): "later" | { reply: DnsReply; agedSeconds: number; staleTtl: number | undefined } | undefined {
    const context = metadata === undefined ? CLIENT : { ...CLIENT, metadata };
    const decision = this.#decide(ask, context, 0);
    if (decision.kind === "action") {
      this.#questions++;
      const reply = this.#carryOut(decision.action, ask);
      return reply === undefined ? undefined : { reply, agedSeconds: 0, staleTtl: undefined };
    }
    if (this.#isUnwanted(ask, decision.strategy)) {
      this.#questions++;
      return { reply: makeReply(ask, RCODE.noError), agedSeconds: 0, staleTtl: undefined };
    }
    if (this.#isPassedBy(decision.options) || this.#plan.isFiltered(decision.at)) return "later";
    const now = this.#context.clock.now();
    const key = this.#keyOf(ask, decision.server, decision.options);
    // Who is told "later" asks again and is counted then.
    const entry = this.#cache.read(key, now, false);
    if (entry === undefined) return "later";
    this.#questions++;
    const isStale = now >= entry.endsAt;
    if (isStale) this.#refresh(key, ask, decision);
    return {
      reply: entry.reply,
      agedSeconds: Math.floor((now - entry.storedAt) / 1000),
      staleTtl: isStale ? STALE_TTL_SECONDS : undefined,
    };
  }

  async #answer(ask: DnsAsk, context: Context): Promise<Answered> {
    this.#questions++;
    for (let start = 0;;) {
      const decision = this.#decide(ask, context, start);
      if (decision.kind === "action") return this.#carryOut(decision.action, ask);
      if (context.allowFakeip && this.#isUnwanted(ask, decision.strategy)) {
        return makeReply(ask, RCODE.noError);
      }
      const reply = await this.#exchange(ask, decision);
      const { at } = decision;
      const fits = at < 0 || !this.#plan.isFiltered(at) ||
        (ask.type !== TYPE_A && ask.type !== TYPE_AAAA) ||
        this.#plan.fits(at, this.#requestOf(ask, context), reply.addresses);
      if (fits) return reply;
      start = at + 1;
    }
  }

  #carryOut(
    action: Extract<DnsDecision, { readonly kind: "action" }>["action"],
    ask: DnsAsk,
  ): Answered {
    if (action.action === "predefined") return this.#predefined.get(action)!(ask);
    this.#rejected++;
    return action.method === "drop" ? undefined : makeReply(ask, RCODE.refused);
  }

  /** A question for addresses of a family that is not wanted: such a name has none. */
  #isUnwanted({ type }: DnsAsk, decided: DomainStrategy | undefined): boolean {
    const strategy = decided ?? this.#config.strategy;
    return type === TYPE_AAAA && strategy === "ipv4_only" ||
      type === TYPE_A && strategy === "ipv6_only";
  }

  #isPassedBy(options: DnsRouteOptions): boolean {
    return this.#config.disableCache || options.disableCache;
  }

  #keyOf(ask: DnsAsk, server: string, options: DnsRouteOptions): string {
    const flags = (ask.dnssec === true ? 1 : 0) | (ask.checkingDisabled === true ? 2 : 0);
    const subnet = options.clientSubnet ?? ask.clientSubnet ?? "";
    const whose = this.#config.independentCache ? server : "";
    return `${ask.name} ${ask.type} ${ask.class} ${flags} ${subnet} ${
      options.rewriteTtl ?? ""
    } ${whose}`;
  }

  async #exchange(
    ask: DnsAsk,
    decision: Extract<DnsDecision, { readonly kind: "server" }>,
  ): Promise<DnsReply> {
    const { server, options } = decision;
    const key = this.#keyOf(ask, server, options);
    if (!this.#isPassedBy(options)) {
      const now = this.#context.clock.now();
      const entry = this.#cache.read(key, now);
      if (entry !== undefined) {
        if (now < entry.endsAt) {
          return aged(entry.reply, Math.floor((now - entry.storedAt) / 1000));
        }
        this.#refresh(key, ask, decision);
        return withTtl(entry.reply, STALE_TTL_SECONDS);
      }
    }
    return await this.#fly(key, ask, decision);
  }

  /** Asks again for an answer that ended, for whoever asks next. */
  #refresh(
    key: string,
    ask: DnsAsk,
    decision: Extract<DnsDecision, { readonly kind: "server" }>,
  ): void {
    if (!this.#flights.has(`${key} ${decision.server}`)) {
      this.#fly(key, ask, decision).catch(() => {});
    }
  }

  #fly(
    key: string,
    ask: DnsAsk,
    decision: Extract<DnsDecision, { readonly kind: "server" }>,
  ): Promise<DnsReply> {
    const flightKey = `${key} ${decision.server}`;
    const under = this.#flights.get(flightKey);
    if (under !== undefined) {
      this.#joined++;
      return under;
    }
    if (this.#flights.size >= MAX_FLIGHTS) {
      return Promise.reject(lateAnswer(`"${ask.name}"`, 0, 0));
    }
    const flight = this.#ask(ask, decision).then((reply) => {
      if (!this.#isPassedBy(decision.options)) {
        this.#cache.store(key, reply, this.#context.clock.now());
      }
      if (this.#config.reverseMapping) this.#remember(ask.name, reply.addresses);
      return reply;
    }, (error) => {
      this.#failures++;
      this.#log.debug("{name} was not resolved: {error}", {
        name: ask.name,
        error: error instanceof Error ? error.message : String(error),
      });
      throw error;
    }).finally(() => this.#flights.delete(flightKey));
    this.#flights.set(flightKey, flight);
    return flight;
  }

  async #ask(
    ask: DnsAsk,
    { server: tag, options }: Extract<DnsDecision, { readonly kind: "server" }>,
  ): Promise<DnsReply> {
    const server = this.#servers.get(tag);
    if (server === undefined) {
      throw new NameError("proxy.name-not-found", `Cannot ask DNS server "${tag}": there is none`);
    }
    this.#exchanges++;
    const { signal: closing } = this.#closing;
    const controller = new AbortController();
    const forget = whenAborted(closing, () => controller.abort(closing.reason));
    const timer = setTimeout(
      () => controller.abort(lateAnswer(`"${ask.name}" by "${tag}"`, TIMEOUT_MS, 1)),
      TIMEOUT_MS,
    );
    try {
      const clientSubnet = options.clientSubnet ?? ask.clientSubnet;
      const reply = await server.exchange({ ...ask, clientSubnet }, controller.signal);
      return options.rewriteTtl === undefined ? reply : withTtl(reply, options.rewriteTtl);
    } finally {
      clearTimeout(timer);
      forget();
    }
  }

  #remember(name: string, addresses: readonly string[]): void {
    for (const address of addresses) {
      this.#names.delete(address);
      this.#names.set(address, name);
      if (this.#names.size <= this.#config.cacheCapacity) continue;
      for (const oldest of this.#names.keys()) {
        this.#names.delete(oldest);
        break;
      }
    }
  }
}

/** {@linkcode Dns.answerNow} has no answer yet. */
export const ANSWER_LATER: number = -1;
/** The client gets no answer. */
export const NO_ANSWER: number = -2;

const CLIENT: Context = {
  metadata: undefined,
  outbound: undefined,
  server: undefined,
  options: {},
  allowFakeip: true,
};

function askFor(name: string, type: number): DnsAsk {
  return { name, type, class: CLASS_IN };
}

function nameError(host: string, replies: readonly Answered[]): FastwireError {
  const shown = host.slice(0, 300);
  const why = replies.includes(undefined)
    ? "a rule drops the question"
    : replies.some((reply) => reply?.rcode === RCODE.refused)
    ? "the question was refused"
    : replies.some((reply) => reply?.rcode === RCODE.serverFailure)
    ? "the DNS server failed"
    : replies.some((reply) => reply?.rcode === RCODE.nameError)
    ? "there is no such name"
    : "it has no address of the wanted family";
  return new NameError("proxy.name-not-found", `Cannot resolve "${shown}": ${why}`);
}

const TIMEOUT_MS = 10_000;
/** RFC 8767 §4. */
const STALE_TTL_SECONDS = 30;
const MAX_FLIGHTS = 4096;
