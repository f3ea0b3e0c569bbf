/**
 * What a schema cannot say: tags that must be unique, references that must lead somewhere, circles. Works on the file's
 * own values, so that one section with mistakes does not hide those of another.
 *
 * @module
 */

import { nearest } from "../internal/schema.ts";
import { checkFields } from "./config_check_fields.ts";
import { entriesOf, type Found, isRecord, listOf, type Raw, wordsOf } from "./config_raw.ts";

/**
 * Checks tags, references, circles, and fields against each other. Opens nothing and reads no file.
 *
 * @param input The configuration as read; parts that do not fit the schema are passed over.
 */
export function checkMeaning(input: unknown): readonly Found[] {
  const found: Found[] = [];
  if (!isRecord(input)) return found;
  const route = isRecord(input["route"]) ? input["route"] : {};
  const dns = isRecord(input["dns"]) ? input["dns"] : {};
  tagged(entriesOf(input, "inbounds"), "inbound", found);
  const outbounds = tagged(entriesOf(input, "outbounds"), "outbound", found);
  const servers = tagged(entriesOf(dns, "servers", "dns"), "DNS server", found);
  const ruleSets = tagged(entriesOf(route, "rule_set", "route"), "rule set", found);
  if (outbounds.entries.length === 0) outbounds.index.set("direct", 0);
  if (servers.entries.length === 0) servers.index.set("local", 0);

  const context: Context = { outbounds, servers, ruleSets, found };
  for (const { value, path } of outbounds.entries) {
    dialled(value, path, context);
    for (const [tag, index] of wordsOf(value["outbounds"])) {
      refer(tag, [...path, "outbounds", index], outbounds, found);
    }
  }
  for (const { value, path } of servers.entries) dialled(value, path, context);
  refer(route["final"], ["route", "final"], outbounds, found);
  refer(dns["final"], ["dns", "final"], servers, found);
  resolver(route["default_domain_resolver"], ["route", "default_domain_resolver"], servers, found);
  for (const { value, path } of entriesOf(route, "rules", "route")) {
    condition(value, path, context);
    refer(value["outbound"], [...path, "outbound"], outbounds, found);
    refer(value["server"], [...path, "server"], servers, found);
  }
  for (const { value, path } of entriesOf(dns, "rules", "dns")) {
    condition(value, path, context);
    refer(value["server"], [...path, "server"], servers, found);
    for (const [tag, index] of wordsOf(value["outbound"])) {
      if (tag !== "any") refer(tag, [...path, "outbound", index], outbounds, found);
    }
  }
  circles(outbounds, outboundEdges, found);
  circles(
    servers,
    (value) => [[resolverTag(value["domain_resolver"]), ["domain_resolver"]]],
    found,
  );
  checkFields(input, found);
  return found;
}

interface Tagged {
  readonly what: string;
  readonly entries: readonly Raw[];
  /** Position of the entry by its tag. */
  readonly index: Map<string, number>;
}

interface Context {
  readonly outbounds: Tagged;
  readonly servers: Tagged;
  readonly ruleSets: Tagged;
  readonly found: Found[];
}

/** Collects the tags of a section; what has none is called by its position. */
function tagged(entries: readonly Raw[], what: string, found: Found[]): Tagged {
  const index = new Map<string, number>();
  for (const [position, { value, path }] of entries.entries()) {
    const given = value["tag"];
    const tag = typeof given === "string" && given !== "" ? given : `${position}`;
    const earlier = index.get(tag);
    if (earlier === undefined) index.set(tag, position);
    else {
      found.push({
        path: [...path, "tag"],
        message: `the tag ${JSON.stringify(tag)} is taken`,
        hint: `${what} number ${earlier + 1} has it`,
      });
    }
  }
  return { what, entries, index };
}

function refer(tag: unknown, path: Found["path"], to: Tagged, found: Found[]): void {
  if (typeof tag !== "string" || tag === "" || to.index.has(tag)) return;
  const known = [...to.index.keys()];
  const near = nearest(tag, known);
  const hint = near !== undefined
    ? `did you mean ${JSON.stringify(near)}?`
    : known.length === 0
    ? `there is no ${to.what}`
    : `there are ${known.map((name) => JSON.stringify(name)).join(", ")}`;
  found.push({ path, message: `no ${to.what} has the tag ${JSON.stringify(tag)}`, hint });
}

function dialled(value: Raw["value"], path: Found["path"], context: Context): void {
  refer(value["detour"], [...path, "detour"], context.outbounds, context.found);
  resolver(value["domain_resolver"], [...path, "domain_resolver"], context.servers, context.found);
}

function resolverTag(value: unknown): unknown {
  return isRecord(value) ? value["server"] : value;
}

function resolver(value: unknown, path: Found["path"], servers: Tagged, found: Found[]): void {
  refer(resolverTag(value), isRecord(value) ? [...path, "server"] : path, servers, found);
}

function condition(value: Raw["value"], path: Found["path"], context: Context): void {
  for (const [tag, index] of wordsOf(value["rule_set"])) {
    refer(tag, [...path, "rule_set", index], context.ruleSets, context.found);
  }
  for (const [index, rule] of listOf(value["rules"]).entries()) {
    if (isRecord(rule)) condition(rule, [...path, "rules", index], context);
  }
}

type Edges = readonly (readonly [tag: unknown, path: Found["path"]])[];

function outboundEdges(value: Raw["value"]): Edges {
  const members = wordsOf(value["outbounds"]).map(([tag, index]) =>
    [tag, ["outbounds", index]] as const
  );
  return [[value["detour"], ["detour"]], ...members];
}

/** Reports each circle once, at the reference that closes it. */
function circles(
  section: Tagged,
  edges: (value: Raw["value"]) => Edges,
  found: Found[],
): void {
  const tags = [...section.index.keys()];
  const state = new Map<string, "open" | "done">();
  const trail: string[] = [];
  const visit = (tag: string): void => {
    const entry = section.entries[section.index.get(tag)!];
    if (entry === undefined) return;
    state.set(tag, "open");
    trail.push(tag);
    for (const [to, step] of edges(entry.value)) {
      if (typeof to !== "string" || !section.index.has(to)) continue;
      if (state.get(to) === "open") {
        const round = [...trail.slice(trail.indexOf(to)), to].join(" → ");
        found.push({
          path: [...entry.path, ...step],
          message: `goes round in a circle: ${round}`,
          hint: "one of them has to lead elsewhere",
        });
      } else if (state.get(to) === undefined) visit(to);
    }
    trail.pop();
    state.set(tag, "done");
  };
  for (const tag of tags) if (state.get(tag) === undefined) visit(tag);
}
