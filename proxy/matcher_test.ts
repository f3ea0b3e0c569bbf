import { deepEqual, equal, ok } from "node:assert/strict";
import { isIP } from "node:net";
import { type Random, seededRandom } from "../internal/random.ts";
import { PRIVATE_BLOCKS, readIp, readIpBlock } from "./ip_text.ts";
import { ConditionPlan, type ConnectionRequest } from "./matcher.ts";
import { DomainIndexBuilder } from "./matcher_domain.ts";
import { PortSet } from "./matcher_ports.ts";
import { checkShape } from "./options.ts";
import { EMPTY_CONDITION } from "./options_conditions.ts";
import {
  compileDns,
  compileRoute,
  isDecision,
  NO_ROUTE_OPTIONS,
  withRouteOptions,
} from "./route.ts";
import type { DefaultCondition, RuleCondition } from "./rule_types.ts";
import { CASE_RULE_SETS, DNS_CASES, ROUTE_CASES } from "./testdata/route_cases.ts";
import { holds, inBlock } from "./testdata/route_oracle.ts";

const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

/** Reads `tcp example.com 443 from=10.0.0.1:5 user=ann`. */
function requestOf(line: string): ConnectionRequest {
  const [network, host, port, ...rest] = line.split(" ");
  const more = new Map(rest.map((pair) => pair.split("=") as [string, string]));
  const from = more.get("from") ?? "192.0.2.200:40000";
  const colon = from.lastIndexOf(":");
  const question = more.get("q");
  return {
    network: network as "tcp" | "udp",
    host: host!,
    port: Number(port),
    inbound: more.get("in") ?? "in",
    sourceAddress: from.slice(0, colon),
    sourcePort: Number(from.slice(colon + 1)),
    user: more.get("user"),
    protocol: more.get("proto"),
    client: more.get("client"),
    sniffedHost: more.get("sniff"),
    resolved: more.get("res")?.split(","),
    clashMode: more.get("mode"),
    queryType: question === undefined ? undefined : Number(question),
    outbound: more.get("out"),
  };
}

function configOf(section: "route" | "dns", rule: Readonly<Record<string, unknown>>) {
  const route = { rule_set: CASE_RULE_SETS };
  const { value, problems } = checkShape(
    section === "route"
      ? { route: { ...route, rules: [{ ...rule, outbound: "direct" }] } }
      : { route, dns: { rules: [{ ...rule, server: "local" }] } },
  );
  deepEqual(problems, []);
  const ruleSets = new Map(value!.route.ruleSets.map((set) => {
    ok(set.type === "inline");
    return [set.tag, set.rules];
  }));
  return { config: value!, ruleSets };
}

function linesOf(requests: string): readonly string[] {
  return requests.trim().split("\n").map((line) => line.trim());
}

Deno.test("the router answers every case of the table, and so does its oracle", () => {
  let count = 0;
  for (const [section, table] of [["route", ROUTE_CASES], ["dns", DNS_CASES]] as const) {
    for (const { rule, requests } of table) {
      const { config, ruleSets } = configOf(section, rule);
      const plan = section === "route"
        ? compileRoute(config, ruleSets)
        : compileDns(config, ruleSets);
      const { condition } = plan.rules[0]!;
      for (const line of linesOf(requests)) {
        const request = requestOf(line.slice(2));
        const expected = line.startsWith("+");
        const name = `${JSON.stringify(rule)}: ${line}`;
        equal(plan.match(request) === 0, expected, name);
        if (section === "route") {
          equal(holds(condition, request, ruleSets), expected, `oracle ${name}`);
        }
        count++;
      }
    }
  }
  ok(count >= 200, `${count} cases`);
});

Deno.test("the router takes the first rule that applies, and goes on where it is told", () => {
  const { value } = checkShape({
    route: {
      rules: [
        { domain: "a.test", outbound: "direct" },
        { action: "sniff" },
        { port: 53, action: "hijack-dns" },
        { port_range: "1:100", action: "route-options", udp_timeout: "10s" },
        { port: 25, action: "reject" },
      ],
    },
  });
  const plan = compileRoute(value!);
  const all = (line: string): readonly number[] => {
    const request = requestOf(line);
    const found = [];
    for (let at = plan.match(request); at >= 0; at = plan.match(request, at + 1)) found.push(at);
    return found;
  };
  deepEqual(all("tcp a.test 25"), [0, 1, 3, 4]);
  deepEqual(all("udp b.test 53"), [1, 2, 3]);
  deepEqual(all("tcp b.test 443"), [1]);
  equal(plan.match(requestOf("tcp b.test 443"), 5), -1);
  equal(plan.final, "direct");
  deepEqual(plan.rules.map(({ action }) => isDecision(action)), [true, false, true, false, true]);
});

Deno.test("withRouteOptions() keeps what the later rule leaves open", () => {
  const first = { ...NO_ROUTE_OPTIONS, overridePort: 1, udpTimeoutMs: 5 };
  const second = { ...NO_ROUTE_OPTIONS, overrideAddress: "a", udpTimeoutMs: 0 };
  deepEqual(withRouteOptions(first, second), {
    overrideAddress: "a",
    overridePort: 1,
    udpDisableDomainUnmapping: false,
    udpConnect: false,
    udpTimeoutMs: 0,
  });
});

Deno.test("a rule set that is not there holds for nothing", () => {
  const condition = { ...EMPTY_CONDITION, ruleSet: ["missing"] };
  equal(new ConditionPlan([condition]).match(requestOf("tcp a 1")), -1);
  equal(new ConditionPlan([{ ...condition, invert: true }]).match(requestOf("tcp a 1")), 0);
});

/** Words from a small alphabet, so that rules and requests meet. */
function worlds(random: Random) {
  const pick = <T>(list: readonly T[]): T => list[random.u32() % list.length]!;
  const some = <T>(make: () => T, most: number): readonly T[] =>
    random.u32() % 3 > 0 ? [] : Array.from({ length: 1 + random.u32() % most }, make);
  const label = () => pick(["a", "b", "ab", "ads", "x-1", "c"]);
  const name = () => Array.from({ length: 1 + random.u32() % 4 }, label).join(".");
  const v4 = () => `${pick([10, 11, 127, 172])}.${pick([0, 16, 31, 255])}.0.${random.u32() % 4}`;
  const v6 = () =>
    pick(["::1", "fe80::1", "2001:db8::1", "2001:db8:1::2", "fc00::", "::ffff:10.0.0.1"]);
  const ip = () => random.u32() % 2 === 0 ? v4() : v6();
  const block = () => {
    const address = ip();
    const width = isIP(address) === 4 ? 32 : 128;
    // Blocks of mapped addresses are blocks of IPv4 addresses from 96 bits on.
    const least = address.startsWith("::ffff") ? 96 : 0;
    return `${address}/${least + random.u32() % (width - least + 1)}`;
  };
  const port = () => random.u32() % 12;
  const span = () => {
    const first = port();
    return { first, last: first + random.u32() % 4 };
  };
  const condition = (depth: number, sets: readonly string[]): RuleCondition => {
    const invert = random.u32() % 5 === 0;
    if (depth > 0 && random.u32() % 3 === 0) {
      const rules = Array.from({ length: 1 + random.u32() % 3 }, () => condition(depth - 1, sets));
      return { type: "logical", mode: pick(["and", "or"]), invert, rules };
    }
    const rule: DefaultCondition = {
      ...EMPTY_CONDITION,
      invert,
      domain: some(name, 3),
      domainSuffix: some(() => random.u32() % 2 === 0 ? name() : `.${name()}`, 3),
      domainKeyword: some(label, 2),
      domainRegex: some(() => pick(["^a", "b$", "^a.*[xb]", "\\.ads\\."]), 1),
      ipCidr: some(block, 4),
      ipIsPrivate: random.u32() % 8 === 0,
      sourceIpCidr: some(block, 3),
      sourceIpIsPrivate: random.u32() % 8 === 0,
      port: some(port, 10),
      portRange: some(span, 3),
      sourcePort: some(port, 10),
      sourcePortRange: some(span, 3),
      network: some(() => pick(["tcp", "udp"] as const), 1),
      inbound: random.u32() % 4 === 0 ? some(() => pick(["in", "out"]), 2) : [],
      ipVersion: random.u32() % 12 === 0 ? pick([4, 6]) : undefined,
      ruleSet: some(() => pick([...sets, "missing"]), 2),
      ruleSetIpCidrMatchSource: random.u32() % 4 === 0,
    };
    return sets.length === 0 ? { ...rule, ruleSet: [], inbound: [], ipVersion: undefined } : rule;
  };
  const request = (): ConnectionRequest => ({
    inbound: pick(["in", "out"]),
    network: pick(["tcp", "udp"]),
    sourceAddress: ip(),
    sourcePort: port(),
    host: random.u32() % 2 === 0 ? ip() : name() + pick(["", "", "."]),
    port: port(),
    sniffedHost: random.u32() % 4 === 0 ? name().toUpperCase() : undefined,
    resolved: random.u32() % 3 === 0 ? Array.from({ length: 2 }, ip) : undefined,
  });
  return { condition, request };
}

Deno.test("the router agrees with a straight-line oracle on random rules and requests", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const { condition, request } = worlds(seededRandom(seed));
  let held = 0;
  let asked = 0;
  for (let round = 0; round < (LONG ? 4000 : 250); round++) {
    const sets = new Map(
      ["s", "t", "u"].map((tag) => [tag, [condition(1, []), condition(0, [])]] as const),
    );
    const conditions = Array.from({ length: 6 }, () => condition(2, [...sets.keys()]));
    const plan = new ConditionPlan(conditions, sets);
    for (let each = 0; each < 12; each++) {
      const asking = request();
      const expected = conditions.findIndex((one) => holds(one, asking, sets));
      const found = plan.match(asking);
      if (found >= 0) held++;
      asked++;
      equal(
        found,
        expected,
        `seed ${seed}, round ${round}: ${JSON.stringify({ asking, conditions, sets: [...sets] })}`,
      );
    }
  }
  ok(held > asked / 5, `only ${held} of ${asked} requests met a rule`);
});

Deno.test("the domain index agrees with endsWith() on twenty thousand names", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const random = seededRandom(seed);
  const word = () => (random.u32() % 5000).toString(36);
  const names = Array.from({ length: 20_000 }, () => `${word()}.${word()}`);
  const builder = new DomainIndexBuilder();
  const [whole, below] = [new Set<string>(), new Set<string>()];
  for (const [index, name] of names.entries()) {
    if (index % 3 === 0) builder.addName(name, 0);
    else builder.addSuffix(index % 3 === 1 ? name : `.${name}`, 0);
    if (index % 3 !== 2) whole.add(name);
    if (index % 3 !== 0) below.add(name);
  }
  const index = builder.build();
  equal(index.size, new Set(names).size);
  const marks = new Uint32Array(1);
  for (let stamp = 1; stamp < 20_000; stamp++) {
    const near = names[random.u32() % names.length]!;
    const host = [near, `${word()}.${near}`, `x${near}`, `${word()}.${word()}`][stamp % 4]!;
    const labels = host.split(".");
    const expected = whole.has(host) ||
      labels.some((_, at) => at > 0 && below.has(labels.slice(at).join(".")));
    index.match(host, marks, stamp);
    equal(marks[0] === stamp, expected, `seed ${seed}: ${host}`);
  }
});

Deno.test("the domain index answers for the longest names and passes over longer ones", () => {
  const builder = new DomainIndexBuilder();
  const longest = `${"a".repeat(63)}.${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(63)}`;
  equal(longest.length, 255);
  builder.addSuffix(longest, 0);
  builder.addSuffix("d", 1);
  const index = builder.build();
  const marks = new Uint32Array(2);
  index.match(longest, marks, 1);
  deepEqual([...marks], [1, 0]);
  index.match(`x.${longest}`, marks, 2);
  index.match("", marks, 2);
  index.match(".", marks, 2);
  deepEqual([...marks], [1, 0]);
  index.match("é.d", marks, 3);
  deepEqual([...marks], [1, 3]);
});

Deno.test("readIp() reads what isIP() accepts, and nothing else", () => {
  const words = new Uint32Array(4);
  const good: readonly [string, number, ...number[]][] = [
    ["0.0.0.0", 4, 0],
    ["255.255.255.255", 4, 0xffff_ffff],
    ["192.0.2.1", 4, 0xc000_0201],
    ["::", 6, 0, 0, 0, 0],
    ["::1", 6, 0, 0, 0, 1],
    ["1::", 6, 0x0001_0000, 0, 0, 0],
    ["2001:DB8::a:b", 6, 0x2001_0db8, 0, 0, 0x000a_000b],
    ["1:2:3:4:5:6:7:8", 6, 0x0001_0002, 0x0003_0004, 0x0005_0006, 0x0007_0008],
    ["1:2:3:4:5:6:7::", 6, 0x0001_0002, 0x0003_0004, 0x0005_0006, 0x0007_0000],
    ["64:ff9b::192.0.2.33", 6, 0x0064_ff9b, 0, 0, 0xc000_0221],
    ["::ffff:192.0.2.1", 4, 0xc000_0201],
    ["::ffff:c000:201", 4, 0xc000_0201],
  ];
  for (const [text, family, ...expected] of good) {
    equal(readIp(text, words), family, text);
    deepEqual([...words.slice(0, expected.length)], expected, text);
  }
  const bad = [
    ...["", "1", "a", "1.2.3", "1.2.3.4.5", "1.2.3.256", "01.2.3.4", "1..2.3", "1.2.3.", ".1.2.3"],
    ...[":", ":::", "1:", ":1", "1::2::3", "12345::", "::g", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9"],
    ...[
      "1:2:3:4:5:6:7:1.2.3.4",
      "::1.2.3",
      "1.2.3.4::",
      "fe80::1%eth0",
      "[::1]",
      "::ffff:1.2.3.4.",
    ],
    ...[
      "example.com",
      "a.b.c.d",
      "1.2.3.4 ",
      "0x1.2.3.4",
      "1:2:3:4:5:6:7:8::",
      "::1:2:3:4:5:6:7:8",
    ],
  ];
  for (const text of bad) equal(readIp(text, words), 0, text);
  const random = seededRandom(7);
  const parts = ["1", "0", "ffff", "::", ":", ".", "255", "256", "a", "1.2.3.4", "00"];
  for (let round = 0; round < 30_000; round++) {
    let text = "";
    for (let n = random.u32() % 9; n >= 0; n--) text += parts[random.u32() % parts.length]!;
    equal(readIp(text, words) !== 0, isIP(text) !== 0, text);
  }
});

Deno.test("readIpBlock() drops the bits behind the prefix", () => {
  deepEqual([...readIpBlock("10.1.2.3/8")!.words], [0x0a00_0000]);
  deepEqual([...readIpBlock("255.255.255.255/0")!.words], [0]);
  deepEqual([...readIpBlock("2001:db8::1/33")!.words], [0x2001_0db8, 0, 0, 0]);
  deepEqual(readIpBlock("::ffff:10.0.0.0/104")!.prefixBits, 8);
  equal(readIpBlock("::1")!.prefixBits, 128);
  for (
    const text of [
      "10.0.0.0/33",
      "::/129",
      "10.0.0.0/",
      "10.0.0.0/08",
      "a/8",
      "/8",
      "::ffff:1.2.3.4/8",
    ]
  ) {
    equal(readIpBlock(text), undefined, text);
  }
  for (const block of PRIVATE_BLOCKS) ok(readIpBlock(block) !== undefined, block);
});

Deno.test("address blocks of many sizes are found as by division", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const random = seededRandom(seed);
  const group = () => (random.u32() & [0, 1, 0x8000, 0xffff][random.u32() % 4]!).toString(16);
  const v6 = () =>
    Array.from({ length: 8 }, group).join(":").replace(/^0:0:0:0:0:ffff:/, "1:0:0:0:0:0:");
  const v4 = () =>
    Array.from({ length: 4 }, () => random.u32() & [0, 1, 0x80, 0xff][random.u32() % 4]!).join(".");
  for (let round = 0; round < 40; round++) {
    const blocks = Array.from(
      { length: 30 },
      () =>
        random.u32() % 2 === 0 ? `${v4()}/${random.u32() % 33}` : `${v6()}/${random.u32() % 129}`,
    );
    const few = blocks.filter((block) => Number(block.split("/")[1]) > 4);
    const plan = new ConditionPlan(few.map((block) => ({ ...EMPTY_CONDITION, ipCidr: [block] })));
    for (let each = 0; each < 60; each++) {
      const host = each % 2 === 0 ? v4() : v6();
      const expected = few.findIndex((block) => inBlock(host, block));
      equal(
        plan.match({ ...requestOf("tcp a 1"), host }),
        expected,
        `seed ${seed}: ${host} in ${few}`,
      );
    }
  }
});

Deno.test("PortSet answers the same as a list and as a bitmap", () => {
  const spans = [{ first: 0, last: 3 }, { first: 30, last: 65 }, { first: 65_500, last: 65_535 }];
  const few = new PortSet([10, 20], spans);
  const many = new PortSet([10, 10, 10, 10, 10, 20, 20], spans);
  for (let port = 0; port < 65_536; port++) {
    const expected = port <= 3 || port === 10 || port === 20 || port >= 30 && port <= 65 ||
      port >= 65_500;
    if (few.has(port) !== expected || many.has(port) !== expected) throw new Error(`port ${port}`);
  }
});
