import { deepEqual, equal, ok } from "node:assert/strict";
import { brokenEdges, cycles, edgesOf, unexpectedPackages } from "./check_layers.ts";
import { type Edge, PACKAGES, RULES, STATIC_PACKAGES } from "./layer_rules.ts";

const MANIFEST = JSON.parse(Deno.readTextFileSync(new URL("../deno.json", import.meta.url)));

function edge(from: string, to: string, kind: Edge["kind"] = "code", specifier = "./x.ts"): Edge {
  const target = to.startsWith("node:") ? "builtin" : to.endsWith(".ts") ? "file" : "package";
  return { from, to, kind, target, specifier };
}

const BAD: Readonly<Record<string, readonly Edge[]>> = {
  L1: [
    edge("tftp/protocol/a.ts", "tftp/server.ts"),
    edge("tftp/protocol/a.ts", "internal/log.ts"),
    edge("tftp/protocol/a.ts", "node:fs"),
    edge("tftp/protocol/a.ts", "valibot"),
    edge("tftp/protocol/a.ts", "btest/protocol/b.ts", "type"),
  ],
  L3: [
    edge("tftp/server.ts", "ffi/datagram.ts"),
    edge("tftp/server.ts", "ffi/datagram_linux.ts", "type"),
    edge("tftp/server.ts", "ffi/datagram_linux.ts", "dynamic"),
  ],
  L4: [
    edge("ffi/datagram.ts", "ffi/datagram_linux.ts"),
    edge("internal/cli/doctor.ts", "ffi/libc_linux.ts", "dynamic"),
  ],
  L5: [edge("tftp/server.ts", "btest/mod.ts"), edge("internal/log.ts", "tftp/mod.ts", "type")],
  L6: [
    edge("internal/log.ts", "ffi/mod.ts"),
    edge("internal/cli/run.ts", "ffi/datagram.ts"),
    edge("tftp/cli.ts", "cli.ts"),
    edge("tftp/server.ts", "internal/testing/link.ts"),
    edge("tftp/server.ts", "tools/check.ts"),
  ],
  L8: [
    edge("examples/tftp_get.ts", "tftp/mod.ts", "code", "../tftp/mod.ts"),
    edge(
      "bench/micro/a_bench.ts",
      "internal/bytes/slab.ts",
      "code",
      "../../internal/bytes/slab.ts",
    ),
  ],
  L9: [
    edge("tftp/server.ts", "valibot"),
    edge("internal/cli/run.ts", "left-pad"),
    edge("internal/cli/run.ts", "cli-progress", "dynamic"),
  ],
  L11: [edge("internal/cli/progress.ts", "cli-progress")],
};

const GOOD: readonly Edge[] = [
  edge("tftp/protocol/a.ts", "tftp/protocol/b.ts"),
  edge("tftp/protocol/a.ts", "internal/bytes/reader.ts"),
  edge("tftp/protocol/a.ts", "internal/errors.ts"),
  edge("tftp/server.ts", "ffi/mod.ts"),
  edge("tftp/server.ts", "ffi/datagram.ts", "type"),
  edge("tftp/options.ts", "valibot"),
  edge("ffi/datagram.ts", "ffi/datagram_linux.ts", "dynamic"),
  edge("ffi/datagram_linux.ts", "ffi/libc_linux.ts"),
  edge("ffi/poll_worker.ts", "ffi/libc_linux.ts"),
  edge("ffi/capabilities.ts", "ffi/probe_linux.ts"),
  edge("internal/cli/doctor.ts", "ffi/mod.ts", "dynamic"),
  edge("internal/cli/progress.ts", "cli-progress", "dynamic"),
  edge("mod.ts", "tftp/mod.ts"),
  edge("examples/tftp_get.ts", "tftp/mod.ts", "code", "@fastwire/net/tftp"),
  edge(
    "bench/scenarios/tftp.ts",
    "internal/testing/peers.ts",
    "code",
    "../../internal/testing/peers.ts",
  ),
  edge("tools/check.ts", "ffi/libc_linux.ts"),
];

Deno.test("every layer rule has an edge that breaks it", () => {
  for (const rule of RULES) {
    ok(Object.values(BAD).flat().some((bad) => rule.broken(bad)), rule.name);
  }
});

for (const [name, edges] of Object.entries(BAD)) {
  Deno.test(`${name} reports what breaks it`, () => {
    for (const bad of edges) {
      const lines = brokenEdges([bad]);
      ok(
        lines.some((line) => line.startsWith(`${bad.from} → ${bad.to}: ${name} `)),
        JSON.stringify(bad),
      );
    }
  });
}

Deno.test("brokenEdges() lets allowed edges pass", () => {
  deepEqual(brokenEdges(GOOD), []);
});

Deno.test("cycles() names the whole loop once and ignores types and dynamic imports", () => {
  deepEqual(
    cycles([
      edge("a.ts", "b.ts"),
      edge("b.ts", "c.ts"),
      edge("c.ts", "b.ts"),
      edge("c.ts", "d.ts"),
    ]),
    ["b.ts → c.ts → b.ts: L7 no cycles between files"],
  );
  deepEqual(cycles([edge("a.ts", "b.ts"), edge("b.ts", "a.ts", "type")]), []);
  deepEqual(cycles([edge("a.ts", "b.ts"), edge("b.ts", "a.ts", "dynamic")]), []);
});

Deno.test("unexpectedPackages() follows static imports only", () => {
  const edges = [
    edge("ffi/mod.ts", "internal/schema.ts"),
    edge("internal/schema.ts", "valibot"),
    edge("ffi/mod.ts", "internal/cli/progress.ts", "dynamic"),
    edge("internal/cli/progress.ts", "cli-progress"),
  ];
  deepEqual(unexpectedPackages(edges, { "./ffi": "./ffi/mod.ts" }), [
    'internal/schema.ts → valibot: not in the static packages of export "./ffi"',
  ]);
  equal(unexpectedPackages([], { "./new": "./new/mod.ts" }).length, 1);
});

Deno.test("edgesOf() tells code, types, dynamic imports, packages and built-ins apart", () => {
  const at = (path: string): { specifier: string } => ({ specifier: `file:///r/${path}` });
  const modules = [{
    ...at("tftp/server.ts"),
    dependencies: [
      { specifier: "./a.ts", code: at("tftp/a.ts") },
      { specifier: "./b.ts", type: at("tftp/b.ts") },
      { specifier: "./c.ts", code: at("tftp/c.ts"), isDynamic: true },
      { specifier: "@logtape/logtape", code: { specifier: "npm:/@logtape/logtape@2.4.2" } },
      { specifier: "node:fs", code: { specifier: "node:fs" } },
    ],
  }, { ...at("tftp/server_test.ts"), dependencies: [{ specifier: "x", code: at("tools/x.ts") }] }];
  deepEqual(edgesOf(modules, "file:///r/").map(({ to, kind, target }) => [to, kind, target]), [
    ["tftp/a.ts", "code", "file"],
    ["tftp/b.ts", "type", "file"],
    ["tftp/c.ts", "dynamic", "file"],
    ["@logtape/logtape", "code", "package"],
    ["node:fs", "code", "builtin"],
  ]);
});

Deno.test("the tables cover exactly the packages and exports of deno.json", () => {
  deepEqual(Object.keys(PACKAGES).sort(), Object.keys(MANIFEST.imports).sort());
  deepEqual(Object.keys(STATIC_PACKAGES).sort(), Object.keys(MANIFEST.exports).sort());
});
