import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { writeFile } from "node:fs/promises";
import { seededRandom } from "../internal/random.ts";
import { PROXY_SCHEMA, proxySchemaText } from "../tools/proxy_schema.ts";
import { readProxyConfig, resolveProxyConfig } from "./config.ts";
import { type ConfigSource, formatProblem, parseConfigText } from "./config_file.ts";
import { formatConfig } from "./config_format.ts";
import { mergeConfigs } from "./config_merge.ts";
import type { ProxyConfig } from "./config_types.ts";
import { generate, generateRandom, generateShadowsocksPassword, generateUuid } from "./generate.ts";
import { parseDuration } from "./options_values.ts";
import { compileRoute } from "./route.ts";
import { loadRuleSets, readRuleSet } from "./rule_set.ts";
import { BROKEN } from "./testdata/broken.ts";

function source(text: string, name = "config.json"): ConfigSource {
  return { name, text };
}

async function resolved(text: string): Promise<ProxyConfig> {
  const { config, problems } = await readProxyConfig([source(text)]);
  deepEqual(problems.map((problem) => formatProblem(problem)), []);
  return config!;
}

Deno.test("readProxyConfig() tells every problem of a broken file with its place and a hint", async () => {
  ok(BROKEN.length >= 40);
  for (const { name, text, problems } of BROKEN) {
    const result = await readProxyConfig([source(text)]);
    equal(result.config, undefined, name);
    deepEqual(result.problems.map((problem) => formatProblem(problem)), problems, name);
    for (const { hint } of result.problems) ok(hint.length > 0, name);
  }
});

Deno.test("an empty configuration resolves to every default", async () => {
  const config = await resolved("{}");
  deepEqual(config.log, {
    disabled: false,
    level: "info",
    output: undefined,
    timestamp: undefined,
  });
  deepEqual(config.outbounds.map(({ type, tag }) => [type, tag]), [["direct", "direct"]]);
  deepEqual(config.dns.servers, [{ type: "local", tag: "local" }]);
  deepEqual([config.route.final, config.dns.final], ["direct", "local"]);
  deepEqual(config.experimental.clashApi, undefined);
  const [direct] = config.outbounds;
  ok(direct?.type === "direct");
  deepEqual(direct.dial, {
    detour: undefined,
    disableTcpKeepAlive: false,
    tcpKeepAliveMs: 300_000,
    tcpKeepAliveIntervalMs: 75_000,
    tcpFastOpen: false,
    tcpMultiPath: false,
    udpFragment: undefined,
    bindInterface: undefined,
    routingMark: 0,
    inet4BindAddress: undefined,
    inet6BindAddress: undefined,
    reuseAddr: false,
    connectTimeoutMs: 5000,
    domainResolver: undefined,
    fallbackDelayMs: 300,
  });
});

Deno.test("every inbound and outbound of the first part resolves", async () => {
  const config = await resolved(`{
    // comments and trailing commas are welcome
    "$schema": "urn:x",
    "inbounds": [
      { "type": "direct", "tag": "d", "listen_port": 5300, "network": "udp", "override_address": "1.1.1.1", "override_port": 53 },
      { "type": "socks", "listen": "::1", "users": { "username": "ann", "password": "x" } },
      { "type": "http", "listen_port": 8080 },
      { "type": "mixed", "tag": "m", "listen_port": 1080, "udp_timeout": "1m30s", "set_system_proxy": false, "tls": { "enabled": false } },
      { "type": "shadowsocks", "listen_port": 8388, "method": "aes-128-gcm", "password": "x", "multiplex": {} },
      { "type": "redirect", "listen_port": 12345 },
      { "type": "tproxy", "listen_port": 12346, "network": "" },
    ],
    "outbounds": [
      { "type": "direct", "tag": "out", "bind_interface": "eth1", "routing_mark": "0x10" },
      { "type": "block", "tag": "no" },
      { "type": "socks", "tag": "s", "server": "s.test", "server_port": 1080, "version": "4a", "username": "u" },
      { "type": "http", "tag": "h", "server": "::1", "server_port": 3128, "headers": { "X-A": ["1", "2"], "X-B": "3" } },
      {
        "type": "shadowsocks", "tag": "ss", "server": "s", "server_port": 1, "detour": "s",
        "method": "2022-blake3-aes-128-gcm",
        "password": "AAECAwQFBgcICQoLDA0ODw==:EBESExQVFhcYGRobHB0eHw==",
      },
      { "type": "selector", "tag": "g", "outbounds": ["ss", "h"] },
      { "type": "urltest", "outbounds": "ss", "interval": "1m", "tolerance": 20 },
      { "type": "fallback", "tag": "f", "outbounds": ["g", "out"], "up_checks": 2 },
      { "type": "loadbalance", "tag": "l", "outbounds": ["ss", "s"], "strategy": "source-hash" },
    ],
    "route": {
      "default_mark": 7, "default_interface": "eth0", "default_fallback_delay": "100ms",
      "default_domain_resolver": "local",
      "rules": [{ "inbound": "m", "outbound": "g" }, { "port": 53, "action": "hijack-dns" }],
    },
    "dns": {
      "servers": [
        { "type": "local", "tag": "local" },
        { "type": "https", "tag": "doh", "server": "1.1.1.1", "detour": "ss", "tls": { "server_name": "one.test" } },
        { "type": "hosts", "predefined": { "A.test": "10.0.0.1", "b.test.": ["::1", "10.0.0.2"] } },
        { "type": "fakeip", "tag": "f", "inet4_range": "198.18.0.0/15" },
        { "type": "rcode", "tag": "r", "rcode": "NXDOMAIN" },
      ],
      "rules": [{ "query_type": ["A", 28], "server": "f" }, { "outbound": "any", "server": "local" }],
      "final": "doh", "optimistic": true, "cache_capacity": 10, "strategy": "prefer_ipv6",
    },
    "experimental": {
      "cache_file": { "enabled": true },
      "clash_api": { "external_controller": "127.0.0.1:9090", "secret": "x" },
    },
  }`);
  deepEqual(config.inbounds.map(({ type, tag }) => `${type} ${tag}`), [
    "direct d",
    "socks 1",
    "http 2",
    "mixed m",
    "shadowsocks 4",
    "redirect 5",
    "tproxy 6",
  ]);
  deepEqual(config.inbounds.map(({ listen }) => `${listen.address} ${listen.port}`), [
    "127.0.0.1 5300",
    "::1 0",
    "127.0.0.1 8080",
    "127.0.0.1 1080",
    "127.0.0.1 8388",
    "127.0.0.1 12345",
    "127.0.0.1 12346",
  ]);
  equal(config.inbounds[3]!.listen.udpTimeoutMs, 90_000);
  const [first, , , , , , last] = config.inbounds;
  deepEqual(first?.type === "direct" && first.networks, ["udp"]);
  deepEqual(last?.type === "tproxy" && last.networks, ["tcp", "udp"]);
  // What an outbound leaves open comes from the route section.
  const dials = config.outbounds.flatMap((outbound) => "dial" in outbound ? [outbound.dial] : []);
  deepEqual(
    dials.map(({ bindInterface, routingMark, fallbackDelayMs, domainResolver }) =>
      [bindInterface, routingMark, fallbackDelayMs, domainResolver?.server].join(" ")
    ),
    ["eth1 16 100 local", ...new Array(3).fill("eth0 7 100 local")],
  );
  const byTag = new Map(config.outbounds.map((outbound) => [outbound.tag, outbound]));
  const http = byTag.get("h");
  deepEqual(http?.type === "http" && http.headers, { "X-A": ["1", "2"], "X-B": ["3"] });
  const selector = byTag.get("g");
  equal(selector?.type === "selector" && selector.default, "ss");
  const urltest = byTag.get("6");
  deepEqual(
    urltest?.type === "urltest" && [urltest.intervalMs, urltest.idleTimeoutMs, urltest.toleranceMs],
    [60_000, 1_800_000, 20],
  );
  const hosts = config.dns.servers[2];
  deepEqual(hosts?.type === "hosts" && hosts.predefined, {
    "a.test": ["10.0.0.1"],
    "b.test": ["::1", "10.0.0.2"],
  });
  deepEqual([config.dns.optimisticMs, config.dns.cacheCapacity], [86_400_000, 1024]);
  deepEqual(
    config.dns.rules[0]!.condition.type === "default" && config.dns.rules[0]!.condition.queryType,
    [1, 28],
  );
  equal(config.experimental.clashApi?.defaultMode, "Rule");
  equal(config.experimental.cacheFile.path, "cache.db");
});

Deno.test("parseDuration() reads Go's durations and days", () => {
  const good: readonly [string, number][] = [
    ["300ms", 300],
    ["15s", 15_000],
    ["1h30m", 5_400_000],
    ["1d", 86_400_000],
    ["1.5s", 1500],
    ["0", 0],
    ["1m0s", 60_000],
    ["100us", 0.1],
  ];
  for (const [text, ms] of good) equal(parseDuration(text), ms, text);
  for (const text of ["", "5", "s", "1x", "-1s", "1 s", "1e3s", "9999999999999d"]) {
    equal(parseDuration(text), undefined, text);
  }
});

Deno.test("problems in merged files are told in the file they are in", async () => {
  const { problems } = await readProxyConfig([
    source(
      `{\n  "log": { "level": "info" }, "foo": 1,\n  "outbounds": [{ "type": "direct", "tag": "a" }]\n}`,
      "a.json",
    ),
    source(
      `{\n\n  "log": { "level": "loud" }, "foo": 2,\n  "outbounds": [{ "type": "direct", "tag": "a" }, { "typ": 1 }]\n}`,
      "b.json",
    ),
  ]);
  deepEqual(
    problems.map((problem) => formatProblem(problem, true).slice(0, 60)),
    [
      'b.json: log.level (3:21): is "loud", expected one of "trace"',
      'b.json: foo (3:31): unknown field, expected one of "$schema"',
      'b.json: outbounds[1].tag (4:44): the tag "a" is taken, outbo',
      "b.json: outbounds[2] (4:51): missing outbound type, expected",
    ],
  );
});

Deno.test("mergeConfigs() joins lists, merges objects and lets the later file win", async () => {
  const result = await mergeConfigs([
    source(
      `{ "route": { "final": "a", "rules": [{ "port": 1, "outbound": "a" }] }, "log": { "level": "info" } }`,
    ),
    source(
      `{ "route": { "final": "b", "rules": [{ "port": 2, "outbound": "b" }] }, "inbounds": [] }`,
    ),
  ]);
  deepEqual(JSON.parse(result.text!), {
    log: { level: "info" },
    inbounds: [],
    route: {
      rules: [{ port: 1, outbound: "a" }, { port: 2, outbound: "b" }],
      final: "b",
    },
  });
  const broken = await mergeConfigs([source("{}"), source("{", "broken.json")]);
  deepEqual([broken.text, broken.problems[0]?.position?.file], [undefined, "broken.json"]);
});

Deno.test("formatConfig() orders fields, keeps unknown ones and writes its own text again", async () => {
  const format = async (text: string) => formatConfig(await parseConfigText(source(text)));
  const text = await format(`{
    "zebra": 1,
    "outbounds": [{ "connect_timeout": "5s", "server_port": 1, "server": "s", "tag": "t", "type": "socks" }],
    // gone
    "inbounds": { "users": [], "listen_port": 1, "listen": "::", "type": "mixed" },
    "route": { "rules": [{ "outbound": "t", "action": "route", "port": [2, 1], "domain": "x" }] }
  }`);
  equal(
    text,
    `{
  "inbounds": {
    "type": "mixed",
    "listen": "::",
    "listen_port": 1,
    "users": []
  },
  "outbounds": [
    {
      "type": "socks",
      "tag": "t",
      "server": "s",
      "server_port": 1,
      "connect_timeout": "5s"
    }
  ],
  "route": {
    "rules": [
      {
        "domain": "x",
        "port": [
          2,
          1
        ],
        "action": "route",
        "outbound": "t"
      }
    ]
  },
  "zebra": 1
}
`,
  );
  equal(await format(text), text);
});

Deno.test("keys that objects have by themselves are keys like any other", async () => {
  const { problems } = await readProxyConfig([
    source(`{ "__proto__": { "x": 1 }, "constructor": 1, "log": { "toString": 1 } }`),
  ]);
  deepEqual(problems.map(({ path, message }) => `${path} ${message}`), [
    "__proto__ unknown field",
    "constructor unknown field",
    "log.toString unknown field",
  ]);
});

Deno.test("resolveProxyConfig() takes objects and names all that is wrong in one error", () => {
  const config = resolveProxyConfig({ inbounds: [{ type: "mixed", listen_port: 1080 }] });
  equal(config.inbounds[0]!.listen.port, 1080);
  throws(
    () => resolveProxyConfig({ inbounds: [{ type: "mixd" }], route: { final: "x" } }),
    (error: unknown) => {
      ok(error instanceof TypeError);
      match(error.message, /^Cannot use the proxy configuration: inbounds\[0\]\.type: unknown/);
      match(error.message, /\nroute\.final: no outbound has the tag "x"/);
      return true;
    },
  );
});

Deno.test("loadRuleSets() reads sets from files and tells what is wrong with them", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const good =
      `{ "version": 2, "rules": [{ "domain_suffix": ["a.test"] }, { "ip_cidr": "10.0.0.0/8" }] }`;
    await writeFile(`${folder}/good.json`, good);
    await writeFile(`${folder}/bad.json`, `{ "version": 9,\n "rules": [{ "domian": "x" }] }`);
    const config = await resolved(`{
      "route": {
        "rule_set": [
          { "type": "local", "tag": "good", "path": "good.json" },
          { "type": "local", "tag": "bad", "path": "bad.json" },
          { "type": "local", "tag": "gone", "path": "gone.json" },
          { "tag": "here", "rules": [{ "port": 1 }] }
        ],
        "rules": [{ "rule_set": ["good", "here"], "outbound": "direct" }]
      }
    }`);
    const { ruleSets, problems } = await loadRuleSets(config, folder);
    deepEqual([...ruleSets.keys()], ["good", "here"]);
    deepEqual(problems.map((problem) => formatProblem(problem, true)).slice(0, 2), [
      "bad.json: version (1:14): is 9, expected one of 1, 2, 3, 4, 5",
      'bad.json: rules[0].domian (2:14): unknown field, did you mean "domain"?',
    ]);
    match(
      formatProblem(problems[2]!),
      /^route\.rule_set\[2\]\.path: cannot read "gone\.json", ENOENT/,
    );
    const request = { inbound: "", network: "tcp", sourceAddress: "::1", sourcePort: 1 } as const;
    const plan = compileRoute(config, ruleSets);
    equal(plan.match({ ...request, host: "x.a.test", port: 9 }), 0);
    equal(plan.match({ ...request, host: "10.1.1.1", port: 9 }), 0);
    equal(plan.match({ ...request, host: "b.test", port: 1 }), 0);
    equal(plan.match({ ...request, host: "b.test", port: 2 }), -1);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
  const broken = await readRuleSet(source("{"));
  deepEqual([broken.rules, broken.problems.length], [undefined, 1]);
});

Deno.test("readProxyConfig() survives every cut and every changed byte of a file", async () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  const random = seededRandom(seed);
  const good = BROKEN.at(-1)!.text;
  for (let round = 0; round < 150; round++) {
    const at = random.u32() % good.length;
    const bytes = ["", '"', "}", "[", ",", "null", "1", "\\", "/*", "\u2028"];
    const text = good.slice(0, at) + bytes[round % bytes.length]! +
      (round % 3 === 0 ? "" : good.slice(at + 1));
    const { config, problems } = await readProxyConfig([source(text)]);
    ok(config !== undefined || problems.length > 0, `seed ${seed}: ${text}`);
    const lines = text.split("\n");
    for (const { position } of problems) {
      ok(position !== undefined, `seed ${seed}: ${text}`);
      ok(position.line <= lines.length, `seed ${seed}: ${text}`);
      ok(position.column <= lines[position.line - 1]!.length + 1, `seed ${seed}: ${text}`);
    }
  }
});

Deno.test("docs/proxy-schema.json is what the schemas say", async () => {
  const recorded = await Deno.readTextFile(PROXY_SCHEMA);
  ok(recorded === proxySchemaText(), "run: deno run -A tools/proxy_schema.ts --write");
});

Deno.test("generate() makes names, random text and keys", () => {
  match(generateUuid(), /^[\da-f]{8}-[\da-f]{4}-4[\da-f]{3}-[89ab][\da-f]{3}-[\da-f]{12}$/);
  equal(
    generateRandom(3, "hex", () => Uint8Array.of(1, 2, 255)),
    "0102ff",
  );
  match(generate(["rand", "--base64", "16"])[0]!, /^[\w+/]{22}==$/);
  match(generate(["rand", "--hex", "4"])[0]!, /^[\da-f]{8}$/);
  const lengths = ["2022-blake3-aes-128-gcm", "2022-blake3-chacha20-poly1305", "aes-192-gcm"]
    .map((method) => atob(generateShadowsocksPassword(method)).length);
  deepEqual(lengths, [16, 32, 24]);
  const [secret, open] = generate(["wg-keypair"]);
  match(secret!, /^PrivateKey: [\w+/]{43}=$/);
  match(open!, /^PublicKey: [\w+/]{43}=$/);
  match(generate(["reality-keypair"])[0]!, /^PrivateKey: [\w-]{43}$/);
});

Deno.test("generate() says what it cannot make", async () => {
  throws(() => generate(["tls-keypair", "a"]), /RangeError: Cannot .*not supported by this build/);
  throws(() => generate(["foo"]), /expected one of uuid, rand/);
  throws(() => generate(["rand", "--hex", "x"]), RangeError);
  throws(() => generate(["rand", "0"]), RangeError);
  throws(() => generateShadowsocksPassword("none"), RangeError);
  throws(() => generateShadowsocksPassword("aes-128-gmc"), /expected "aes-128-gcm"/);
  await rejects(Promise.resolve().then(() => generate([])), RangeError);
});
