/**
 * Conditions compiled into a plan: all names, keywords and address blocks of all rules are looked up once per request,
 * in indexes they share, and every rule then only reads whether it was marked. A thousand rules cost a thousand reads,
 * not a thousand lookups.
 *
 * @module
 */

import { PRIVATE_BLOCKS, readIp, readIpBlock } from "./ip_text.ts";
import { type DomainIndex, DomainIndexBuilder } from "./matcher_domain.ts";
import { type IpIndex, IpIndexBuilder } from "./matcher_ip.ts";
import { KeywordIndex } from "./matcher_keyword.ts";
import { PortSet } from "./matcher_ports.ts";
import { RegexIndex } from "./matcher_regex.ts";
import type { Network } from "./config_types.ts";
import type { DefaultCondition, RuleCondition } from "./rule_types.ts";

/** What is known about a connection, or a DNS question, when it is routed. */
export interface ConnectionRequest {
  /** Tag of the inbound it came in by. */
  readonly inbound: string;
  /** Transport. */
  readonly network: Network;
  /** Address of the client, as text. */
  readonly sourceAddress: string;
  /** Port of the client. */
  readonly sourcePort: number;
  /** Destination: a name in ASCII or an address, as text without brackets; a question's name. */
  readonly host: string;
  /** Port of the destination. */
  readonly port: number;
  /** User that logged in at the inbound. */
  readonly user?: string | undefined;
  /** Sniffed protocol. */
  readonly protocol?: string | undefined;
  /** Sniffed client. */
  readonly client?: string | undefined;
  /** Sniffed name; rules about names look at it before `host`. */
  readonly sniffedHost?: string | undefined;
  /** Addresses that the name was resolved to. */
  readonly resolved?: readonly string[] | undefined;
  /** Mode of the control interface. */
  readonly clashMode?: string | undefined;
  /** Type of the question, by number. */
  readonly queryType?: number | undefined;
  /** Tag of the outbound whose server's name is asked for. */
  readonly outbound?: string | undefined;
}

interface Leaf {
  readonly kind: "leaf";
  readonly id: number;
  readonly invert: boolean;
  readonly inbound: ReadonlySet<string> | undefined;
  readonly ipVersion: 4 | 6 | undefined;
  readonly network: ReadonlySet<string> | undefined;
  readonly authUser: ReadonlySet<string> | undefined;
  readonly protocol: ReadonlySet<string> | undefined;
  readonly client: ReadonlySet<string> | undefined;
  readonly queryType: ReadonlySet<number> | undefined;
  readonly clashMode: string | undefined;
  readonly outbound: ReadonlySet<string> | undefined;
  readonly asksDestination: boolean;
  /** Whether an unknown address counts as a hit. */
  readonly acceptsEmpty: boolean;
  readonly asksSource: boolean;
  readonly sourcePorts: PortSet | undefined;
  readonly ports: PortSet | undefined;
  /** The rules of all sets it names, or nothing when it names none. */
  readonly sets: readonly Node[] | undefined;
}

interface Branch {
  readonly kind: "branch";
  readonly invert: boolean;
  readonly all: boolean;
  readonly nodes: readonly Node[];
}

type Node = Leaf | Branch;

/** How the rules of a set are read where they are used. */
interface SetUse {
  readonly matchSource: boolean;
  readonly acceptEmpty: boolean;
}

const PLAIN_USE: SetUse = { matchSource: false, acceptEmpty: false };

// Which classes of a leaf were hit, as bits.
const DESTINATION = 1;
const SOURCE = 2;
const PORT = 4;
const SOURCE_PORT = 8;

/** Conditions in order, ready to be asked. */
export class ConditionPlan {
  readonly #nodes: readonly Node[];
  readonly #domains: DomainIndex;
  readonly #keywords: KeywordIndex;
  readonly #regexes: RegexIndex;
  readonly #targets: IpIndex;
  readonly #sources: IpIndex;
  // Scratch of one call: `marks[id] === stamp` says hit. Nothing of it is seen outside.
  readonly #targetMarks: Uint32Array<ArrayBuffer>;
  readonly #sourceMarks: Uint32Array<ArrayBuffer>;
  readonly #words = new Uint32Array(4);
  #stamp = 0;
  #targetsDone = false;
  #sourcesDone = false;
  #family: 0 | 4 | 6 = 0;
  #anyAddress = false;

  /**
   * Compiles conditions.
   *
   * @param conditions In order.
   * @param ruleSets Rules by the set's tag; a set that is not there holds for nothing.
   */
  constructor(
    conditions: readonly RuleCondition[],
    ruleSets: ReadonlyMap<string, readonly RuleCondition[]> = new Map(),
  ) {
    const compiler = new Compiler(ruleSets);
    this.#nodes = conditions.map((condition) => compiler.node(condition, PLAIN_USE));
    this.#domains = compiler.domains.build();
    this.#keywords = new KeywordIndex(compiler.keywords);
    this.#regexes = new RegexIndex(compiler.regexes);
    this.#targets = compiler.targets.build();
    this.#sources = compiler.sources.build();
    this.#targetMarks = new Uint32Array(compiler.count);
    this.#sourceMarks = new Uint32Array(compiler.count);
  }

  /**
   * The first condition that holds.
   *
   * @param start Position to begin at: after an action that goes on, one behind the last answer.
   * @returns Its position, or -1.
   */
  match(request: ConnectionRequest, start = 0): number {
    if (this.#stamp === 0xffff_ffff) {
      this.#stamp = 0;
      this.#targetMarks.fill(0);
      this.#sourceMarks.fill(0);
    }
    this.#stamp++;
    this.#targetsDone = this.#sourcesDone = false;
    const nodes = this.#nodes;
    for (let index = start; index < nodes.length; index++) {
      if (this.#holds(nodes[index]!, request)) return index;
    }
    return -1;
  }

  #holds(node: Node, request: ConnectionRequest): boolean {
    if (node.kind === "leaf") {
      return (node.sets === undefined
        ? this.#alone(node, request)
        : this.#merged(node, request)) !==
        node.invert;
    }
    for (const each of node.nodes) {
      if (this.#holds(each, request) !== node.all) return !node.all !== node.invert;
    }
    return node.all !== node.invert;
  }

  #alone(leaf: Leaf, request: ConnectionRequest): boolean {
    return this.#plain(leaf, request) &&
      (leaf.ports === undefined || leaf.ports.has(request.port)) &&
      (leaf.sourcePorts === undefined || leaf.sourcePorts.has(request.sourcePort)) &&
      (!leaf.asksSource || this.#sourceHit(leaf, request)) &&
      (!leaf.asksDestination || this.#destinationHit(leaf, request));
  }

  /** A rule of a set is read as if its fields stood in the rule that names the set (proxy.md §7). */
  #merged(leaf: Leaf, request: ConnectionRequest): boolean {
    if (!this.#plain(leaf, request)) return false;
    const hit = this.#hits(leaf, request);
    const open = asked(leaf) & ~hit;
    for (const rule of leaf.sets!) {
      // What is inverted or joined has no fields that could stand elsewhere: it holds or not.
      if (rule.kind === "branch" || rule.invert) {
        if (open === 0 && this.#holds(rule, request)) return true;
      } else if (this.#plain(rule, request)) {
        const left = (asked(rule) & ~hit) | open;
        if (left === 0 || (left & ~this.#hits(rule, request)) === 0) return true;
      }
    }
    return false;
  }

  /** The fields that do not belong to a class. */
  #plain(leaf: Leaf, request: ConnectionRequest): boolean {
    const { queryType, clashMode, outbound } = leaf;
    if (leaf.network !== undefined && !leaf.network.has(request.network)) return false;
    if (leaf.inbound !== undefined && !leaf.inbound.has(request.inbound)) return false;
    if (!has(leaf.protocol, request.protocol) || !has(leaf.authUser, request.user)) return false;
    if (!has(leaf.client, request.client)) return false;
    if (clashMode !== undefined && clashMode !== request.clashMode?.toLowerCase()) return false;
    if (queryType !== undefined) {
      if (request.queryType === undefined || !queryType.has(request.queryType)) return false;
    }
    if (outbound !== undefined && request.outbound === undefined) return false;
    if (outbound !== undefined && !outbound.has("any") && !has(outbound, request.outbound)) {
      return false;
    }
    return leaf.ipVersion === undefined || leaf.ipVersion === this.#version(request);
  }

  #hits(leaf: Leaf, request: ConnectionRequest): number {
    return (leaf.asksDestination && this.#destinationHit(leaf, request) ? DESTINATION : 0) |
      (leaf.asksSource && this.#sourceHit(leaf, request) ? SOURCE : 0) |
      (leaf.ports?.has(request.port) === true ? PORT : 0) |
      (leaf.sourcePorts?.has(request.sourcePort) === true ? SOURCE_PORT : 0);
  }

  #version(request: ConnectionRequest): number {
    if (!this.#targetsDone) this.#lookUpTargets(request);
    if (this.#family !== 0) return this.#family;
    return request.queryType === 1 ? 4 : request.queryType === 28 ? 6 : 0;
  }

  #destinationHit(leaf: Leaf, request: ConnectionRequest): boolean {
    if (!this.#targetsDone) this.#lookUpTargets(request);
    if (this.#targetMarks[leaf.id] === this.#stamp) return true;
    return leaf.acceptsEmpty && !this.#anyAddress;
  }

  #sourceHit(leaf: Leaf, request: ConnectionRequest): boolean {
    if (!this.#sourcesDone) {
      this.#sourcesDone = true;
      const family = readIp(request.sourceAddress, this.#words);
      if (family !== 0) this.#sources.match(family, this.#words, this.#sourceMarks, this.#stamp);
    }
    return this.#sourceMarks[leaf.id] === this.#stamp;
  }

  #lookUpTargets(request: ConnectionRequest): void {
    this.#targetsDone = true;
    const { host, sniffedHost, resolved } = request;
    this.#family = readIp(host, this.#words);
    this.#anyAddress = this.#family !== 0;
    if (this.#family !== 0) {
      this.#targets.match(this.#family, this.#words, this.#targetMarks, this.#stamp);
    } else if (resolved !== undefined) {
      for (const address of resolved) {
        const family = readIp(address, this.#words);
        if (family === 0) continue;
        this.#anyAddress = true;
        this.#targets.match(family, this.#words, this.#targetMarks, this.#stamp);
      }
    }
    const sniffed = sniffedHost !== undefined && sniffedHost !== "";
    const name = sniffed ? sniffedHost : this.#family === 0 ? host : "";
    if (name === "") return;
    this.#domains.match(name, this.#targetMarks, this.#stamp);
    this.#keywords.match(name, this.#targetMarks, this.#stamp);
    this.#regexes.match(name, this.#targetMarks, this.#stamp);
  }
}

function has(set: ReadonlySet<string> | undefined, value: string | undefined): boolean {
  return set === undefined || value !== undefined && set.has(value);
}

function asked(leaf: Leaf): number {
  return (leaf.asksDestination ? DESTINATION : 0) | (leaf.asksSource ? SOURCE : 0) |
    (leaf.ports === undefined ? 0 : PORT) | (leaf.sourcePorts === undefined ? 0 : SOURCE_PORT);
}

class Compiler {
  readonly domains = new DomainIndexBuilder();
  readonly keywords: (readonly [string, number])[] = [];
  readonly regexes: (readonly [string, number])[] = [];
  readonly targets = new IpIndexBuilder();
  readonly sources = new IpIndexBuilder();
  count = 0;
  readonly #ruleSets: ReadonlyMap<string, readonly RuleCondition[]>;
  /** Sets are compiled once for each way they are used. */
  readonly #used = new Map<string, readonly Node[]>();

  constructor(ruleSets: ReadonlyMap<string, readonly RuleCondition[]>) {
    this.#ruleSets = ruleSets;
  }

  node(condition: RuleCondition, use: SetUse): Node {
    if (condition.type === "default") return this.#leaf(condition, use);
    return {
      kind: "branch",
      invert: condition.invert,
      all: condition.mode === "and",
      nodes: condition.rules.map((rule) => this.node(rule, use)),
    };
  }

  #leaf(condition: DefaultCondition, use: SetUse): Leaf {
    const id = this.count++;
    const { ipCidr, sourceIpCidr, ruleSet } = condition;
    const targetBlocks = use.matchSource ? [] : [...ipCidr];
    const sourceBlocks = use.matchSource ? [...sourceIpCidr, ...ipCidr] : [...sourceIpCidr];
    if (condition.ipIsPrivate) targetBlocks.push(...PRIVATE_BLOCKS);
    if (condition.ipAcceptAny) targetBlocks.push("0.0.0.0/0", "::/0");
    if (condition.sourceIpIsPrivate) sourceBlocks.push(...PRIVATE_BLOCKS);
    for (const text of targetBlocks) this.#block(this.targets, text, id);
    for (const text of sourceBlocks) this.#block(this.sources, text, id);
    for (const name of condition.domain) this.domains.addName(name, id);
    for (const suffix of condition.domainSuffix) this.domains.addSuffix(suffix, id);
    for (const keyword of condition.domainKeyword) this.keywords.push([keyword, id]);
    for (const source of condition.domainRegex) this.regexes.push([source, id]);
    const setUse = {
      matchSource: condition.ruleSetIpCidrMatchSource,
      acceptEmpty: condition.ruleSetIpCidrAcceptEmpty,
    };
    return {
      kind: "leaf",
      id,
      invert: condition.invert,
      inbound: setOf(condition.inbound),
      ipVersion: condition.ipVersion,
      network: setOf<string>(condition.network),
      authUser: setOf(condition.authUser),
      protocol: setOf(condition.protocol),
      client: setOf(condition.client),
      queryType: setOf(condition.queryType),
      clashMode: condition.clashMode?.toLowerCase(),
      outbound: setOf(condition.outbound),
      asksDestination: targetBlocks.length + condition.domain.length +
          condition.domainSuffix.length + condition.domainKeyword.length +
          condition.domainRegex.length > 0,
      acceptsEmpty: use.acceptEmpty && targetBlocks.length > 0,
      asksSource: sourceBlocks.length > 0,
      sourcePorts: portsOf(condition.sourcePort, condition.sourcePortRange),
      ports: portsOf(condition.port, condition.portRange),
      sets: ruleSet.length === 0 ? undefined : ruleSet.flatMap((tag) => this.#set(tag, setUse)),
    };
  }

  #set(tag: string, use: SetUse): readonly Node[] {
    const name = `${use.matchSource} ${use.acceptEmpty} ${tag}`;
    let nodes = this.#used.get(name);
    if (nodes === undefined) {
      nodes = (this.#ruleSets.get(tag) ?? []).map((rule) => this.node(rule, use));
      this.#used.set(name, nodes);
    }
    return nodes;
  }

  #block(index: IpIndexBuilder, text: string, id: number): void {
    const block = readIpBlock(text);
    if (block === undefined) {
      throw new SyntaxError(
        `Cannot compile a rule: ${JSON.stringify(text)} is not a block of addresses`,
      );
    }
    index.add(block, id);
  }
}

function setOf<T>(values: readonly T[]): ReadonlySet<T> | undefined {
  return values.length === 0 ? undefined : new Set(values);
}

function portsOf(
  ports: readonly number[],
  spans: DefaultCondition["portRange"],
): PortSet | undefined {
  return ports.length + spans.length === 0 ? undefined : new PortSet(ports, spans);
}
