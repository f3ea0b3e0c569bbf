/**
 * Fields that have to fit each other: keys and their method, addresses that are listened on twice, options that
 * exclude one another.
 *
 * @module
 */

import { parseEndpoint } from "../internal/units.ts";
import { entriesOf, type Found, isRecord, listOf, type Raw, wordsOf } from "./config_raw.ts";
import { readIpBlock } from "./ip_text.ts";
import { parseDuration } from "./options_values.ts";
import { keyBytesOf } from "./shadowsocks_keys.ts";

/** Checks fields against each other. Adds to `found`. */
export function checkFields(input: Readonly<Record<string, unknown>>, found: Found[]): void {
  const inbounds = entriesOf(input, "inbounds");
  for (const entry of inbounds) if (entry.value["type"] === "shadowsocks") server(entry, found);
  listeners(inbounds, found);
  for (const entry of entriesOf(input, "outbounds")) outbound(entry, found);
  const route = isRecord(input["route"]) ? input["route"] : {};
  const dns = isRecord(input["dns"]) ? input["dns"] : {};
  for (const entry of entriesOf(route, "rules", "route")) rule(entry, ROUTE_OPTIONS, found);
  for (const entry of entriesOf(dns, "rules", "dns")) rule(entry, DNS_OPTIONS, found);
  for (const entry of entriesOf(route, "rule_set", "route")) ruleSet(entry, found);
  for (const entry of entriesOf(dns, "servers", "dns")) fakeip(entry, found);
  controller(input["experimental"], found);
}

function server({ value, path }: Raw, found: Found[]): void {
  const method = value["method"];
  const users = entriesOf(value, "users");
  const destinations = entriesOf(value, "destinations");
  if (typeof method !== "string") return;
  const bytes = keyBytesOf(method);
  const both = [...users, ...destinations].map((entry) => ({
    ...entry,
    path: [...path, ...entry.path],
  }));
  if (users.length > 0 && destinations.length > 0) {
    found.push({
      path: [...path, "destinations"],
      message: "there are users as well",
      hint: "a server has users or destinations, not both",
    });
  }
  if (bytes === undefined) {
    if (destinations.length > 0) {
      found.push({
        path: [...path, "destinations"],
        message: `not possible with ${JSON.stringify(method)}`,
        hint: 'relaying needs a method that begins with "2022-blake3-aes-"',
      });
    }
    if (method !== "none" && users.length === 0) password(value, path, found);
    for (const user of both) password(user.value, user.path, found);
  } else {
    if (both.length > 0 && method.includes("chacha20")) {
      found.push({
        path: [...path, users.length > 0 ? "users" : "destinations"],
        message: `not possible with ${JSON.stringify(method)}`,
        hint: 'several users need a method that begins with "2022-blake3-aes-"',
      });
    }
    key(value["password"], bytes, [...path, "password"], path, found);
    for (const user of both) {
      key(user.value["password"], bytes, [...user.path, "password"], user.path, found);
    }
    for (const list of [users, destinations]) sameKeys(list, path, found);
  }
}

/** A header tells by its key whose it is. */
function sameKeys(list: readonly Raw[], owner: Found["path"], found: Found[]): void {
  const seen = new Map<unknown, number>();
  for (const [index, { value, path }] of list.entries()) {
    const earlier = seen.get(value["password"]);
    if (earlier === undefined) seen.set(value["password"], index);
    else if (typeof value["password"] === "string" && value["password"] !== "") {
      found.push({
        path: [...owner, ...path, "password"],
        message: `is the key of number ${earlier + 1} as well`,
        hint: "each needs one of its own",
      });
    }
  }
}

function password(value: Raw["value"], path: Found["path"], found: Found[]): void {
  if (value["password"] !== undefined && value["password"] !== "") return;
  found.push({ path, message: "has no password", hint: 'add "password"' });
}

function key(
  text: unknown,
  bytes: number,
  path: Found["path"],
  owner: Found["path"],
  found: Found[],
): void {
  if (text === undefined || text === "") {
    found.push({ path: owner, message: "has no password", hint: `expected ${keyText(bytes)}` });
    return;
  }
  if (typeof text !== "string") return;
  const decoded = decodedLength(text);
  if (decoded === bytes) return;
  const is = decoded === undefined ? "is not base64" : `is a key of ${decoded} bytes`;
  found.push({ path, message: is, hint: `expected ${keyText(bytes)}` });
}

function keyText(bytes: number): string {
  return `${bytes} bytes in base64, as "generate ss-password" makes them`;
}

function decodedLength(text: string): number | undefined {
  const match = /^(?:[A-Za-z\d+/]{4})*(?:[A-Za-z\d+/]{2}==|[A-Za-z\d+/]{3}=)?$/.exec(text);
  if (match === null) return undefined;
  return text.length / 4 * 3 - (text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0);
}

/** Two inbounds on one address would fail when they start; `check` opens nothing, so it is found here. */
function listeners(inbounds: readonly Raw[], found: Found[]): void {
  const seen = new Map<string, number>();
  for (const [index, { value, path }] of inbounds.entries()) {
    const port = value["listen_port"];
    if (typeof port !== "number" || port === 0) continue;
    const address = typeof value["listen"] === "string" ? value["listen"] : "127.0.0.1";
    for (const network of transports(value)) {
      const place = `${network} ${address} ${port}`;
      const earlier = seen.get(place);
      if (earlier === undefined) seen.set(place, index);
      else {
        found.push({
          path: [...path, "listen_port"],
          message: `the ${network} port ${port} is taken`,
          hint: `inbound number ${earlier + 1} listens on it`,
        });
        break;
      }
    }
  }
}

function transports(value: Raw["value"]): readonly string[] {
  const type = value["type"];
  if (type !== "direct" && type !== "shadowsocks" && type !== "tproxy") return ["tcp"];
  const given = wordsOf(value["network"]).map(([word]) => word).filter((word) => word !== "");
  return given.length === 0 ? ["tcp", "udp"] : given;
}

const GROUPS: ReadonlySet<unknown> = new Set(["selector", "urltest", "fallback", "loadbalance"]);

function outbound({ value, path }: Raw, found: Found[]): void {
  const { type, method, username, version } = value;
  const secret = value["password"];
  if (type === "shadowsocks" && typeof method === "string") {
    const bytes = keyBytesOf(method);
    if (bytes === undefined) {
      if (method !== "none") password(value, path, found);
    } else if (typeof secret === "string" && secret.includes(":")) {
      if (method.includes("chacha20")) {
        found.push({
          path: [...path, "password"],
          message: `several keys are not possible with ${JSON.stringify(method)}`,
          hint: 'identity headers need a method that begins with "2022-blake3-aes-"',
        });
      }
      for (const part of secret.split(":")) {
        key(part, bytes, [...path, "password"], [...path, "password"], found);
      }
    } else key(secret, bytes, [...path, "password"], path, found);
  }
  if ((type === "socks" || type === "http") && isGiven(secret)) {
    const old = type === "socks" && (version === "4" || version === "4a");
    if (old) {
      const hint = 'remove it, or use "version": "5"';
      found.push({ path: [...path, "password"], message: "SOCKS 4 has no passwords", hint });
    } else if (!isGiven(username)) {
      const hint = 'add "username"';
      found.push({ path: [...path, "password"], message: "there is no user name", hint });
    }
  }
  if (GROUPS.has(type)) group(value, path, found);
}

function isGiven(value: unknown): boolean {
  return typeof value === "string" && value !== "";
}

function group(value: Raw["value"], path: Found["path"], found: Found[]): void {
  const members = wordsOf(value["outbounds"]);
  const tags = new Set<string>();
  if (value["outbounds"] !== undefined && members.length === 0) {
    const hint = "name one outbound or more";
    found.push({ path: [...path, "outbounds"], message: "the group is empty", hint });
  }
  for (const [tag, index] of members) {
    if (tags.has(tag)) {
      found.push({
        path: [...path, "outbounds", index],
        message: `${JSON.stringify(tag)} is there twice`,
        hint: "remove one",
      });
    }
    tags.add(tag);
  }
  const first = value["default"];
  if (typeof first === "string" && first !== "" && !tags.has(first)) {
    found.push({
      path: [...path, "default"],
      message: `${JSON.stringify(first)} is not a member`,
      hint: `members are ${[...tags].map((tag) => JSON.stringify(tag)).join(", ")}`,
    });
  }
  const { interval, url } = value;
  const idle = value["idle_timeout"] ?? "30m";
  if (typeof interval === "string" && typeof idle === "string") {
    const [every = 0, pause = 0] = [parseDuration(interval), parseDuration(idle)];
    if (every > pause && pause > 0) {
      found.push({
        path: [...path, "interval"],
        message: `${interval} is longer than idle_timeout`,
        hint: `expected ${idle} or less`,
      });
    }
  }
  if (typeof url === "string" && !/^https?:\/\/[^\s/]/.test(url)) {
    const hint = "expected http:// or https:// and a host";
    found.push({ path: [...path, "url"], message: `is ${JSON.stringify(url)}`, hint });
  }
}

const ROUTE_OPTIONS: readonly string[] = [
  "override_address",
  "override_port",
  "udp_disable_domain_unmapping",
  "udp_connect",
  "udp_timeout",
];
const DNS_OPTIONS: readonly string[] = ["disable_cache", "rewrite_ttl", "client_subnet"];

function rule({ value, path }: Raw, options: readonly string[], found: Found[]): void {
  logical(value, path, found);
  if (value["action"] === "reject" && value["method"] === "drop" && value["no_drop"] === true) {
    found.push({
      path: [...path, "no_drop"],
      message: 'contradicts "method": "drop"',
      hint: "remove one of them",
    });
  }
  if (value["action"] === "route-options" && options.every((name) => value[name] === undefined)) {
    const hint = `add ${options.map((name) => JSON.stringify(name)).join(" or ")}`;
    found.push({ path, message: "changes nothing", hint });
  }
}

/** A logical rule without members would hold for everything, or nothing. */
function logical(value: Raw["value"], path: Found["path"], found: Found[]): void {
  const rules = value["rules"];
  if (value["type"] !== "logical" || rules === undefined) return;
  if (listOf(rules).length === 0) {
    const hint = "name one condition or more";
    found.push({ path: [...path, "rules"], message: "there is nothing to join", hint });
  }
  for (const [index, member] of listOf(rules).entries()) {
    if (isRecord(member)) nested(member, [...path, "rules", index], found);
  }
}

function nested(value: Raw["value"], path: Found["path"], found: Found[]): void {
  logical(value, path, found);
  const asks = Object.keys(value).some((name) => name !== "type" && name !== "invert");
  if (asks) return;
  found.push({ path, message: "asks nothing", hint: "add a condition, or remove the rule" });
}

function ruleSet({ value, path }: Raw, found: Found[]): void {
  for (const [index, member] of listOf(value["rules"]).entries()) {
    if (isRecord(member)) nested(member, [...path, "rules", index], found);
  }
  const file = value["path"];
  if (typeof file === "string" && file.endsWith(".srs") && value["format"] === undefined) {
    found.push({
      path: [...path, "path"],
      message: "not supported by this build: binary rule sets",
      hint: 'use the source format, or say "format": "source"',
    });
  }
}

function fakeip({ value, path }: Raw, found: Found[]): void {
  if (value["type"] !== "fakeip") return;
  const ranges = [["inet4_range", 4], ["inet6_range", 6]] as const;
  if (ranges.every(([name]) => !isGiven(value[name]))) {
    const hint = 'add "inet4_range" or "inet6_range"';
    found.push({ path, message: "has no addresses to give", hint });
  }
  for (const [name, family] of ranges) {
    const text = value[name];
    const block = typeof text === "string" ? readIpBlock(text) : undefined;
    if (block === undefined || block.family === family) continue;
    const hint = `expected a block of IPv${family} addresses`;
    found.push({ path: [...path, name], message: `is ${JSON.stringify(text)}`, hint });
  }
}

function controller(experimental: unknown, found: Found[]): void {
  const api = isRecord(experimental) ? experimental["clash_api"] : undefined;
  const text = isRecord(api) ? api["external_controller"] : undefined;
  if (typeof text !== "string" || text === "") return;
  if (parseEndpoint(text)?.port !== undefined) return;
  found.push({
    path: ["experimental", "clash_api", "external_controller"],
    message: `is ${JSON.stringify(text)}`,
    hint: 'expected host:port, as in "127.0.0.1:9090"',
  });
}
