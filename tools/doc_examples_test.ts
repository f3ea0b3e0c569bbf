import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { exampleModule, examplesOf, type Manifest } from "./doc_examples.ts";

const MANIFEST: Manifest = {
  name: "@a/b",
  exports: { ".": "./mod.ts", "./c": "./c/mod.ts" },
  imports: { d: "npm:d@1" },
};
const ROOT = new URL("file:///r/");

const MODULE = [
  "/**",
  " * One.",
  " *",
  " * ```ts",
  ' * import { x, y as z, type T } from "@a/b/c";',
  " * z(x);",
  " * ```",
  " */",
  "const text = `",
  "```ts",
  "```",
  "`;",
  "  /**",
  "   * ```ts ignore",
  "   * never();",
  "   * ```",
  "   * ```text",
  "   * never();",
  "   * ```",
  "   * ```ts",
  "   * import {",
  "   *   p,",
  '   * } from "./near.ts";',
  '   * import type { Q } from "d";',
  '   * import * as d from "d";',
  "   * await p(d);",
  "   * ```",
  "   */",
].join("\n");

Deno.test("examplesOf() finds what is meant to run in docstrings, and nothing elsewhere", () => {
  deepEqual(examplesOf("c/x.ts", MODULE).map(({ line, code }) => [line, code.at(-1)]), [
    [4, "z(x);"],
    [20, "await p(d);"],
  ]);
  deepEqual(examplesOf("c/x.md", "a\n```ts\nb\n```\n```sh\nc\n```\n```\n```\n"), [
    { line: 2, code: ["b"] },
  ]);
});

Deno.test("examplesOf() refuses a fence that is open", () => {
  const broken = "/**\n * ```\n * ```\n */\n/**\n * ```ts\n */\n/**\n * ```\n */\n";
  throws(() => examplesOf("x.ts", broken), /^SyntaxError: Cannot read the example at x.ts:6/);
  throws(() => examplesOf("x.md", "```ts\n"), /x.md:1: its fence is open/);
});

Deno.test("exampleModule() keeps every line where it was and loads modules first", () => {
  const lines = exampleModule("c/x.ts", MODULE, MANIFEST, ROOT).split("\n");
  equal(lines[0], 'import "file:///r/c/mod.ts"; import "file:///r/c/near.ts"; import "npm:d@1"; ');
  equal(lines[3], 'Deno.test("the example at c/x.ts:4 runs", async () => { {');
  equal(lines[4], 'const { x, y: z } = await import("file:///r/c/mod.ts");');
  equal(lines[5], "z(x);");
  equal(lines[6], "}});");
  equal(lines[19], 'Deno.test("the example at c/x.ts:20 runs", async () => { {');
  deepEqual(lines.slice(20, 27), [
    'const { p } = await import("file:///r/c/near.ts");',
    "",
    "",
    "",
    'const d = await import("npm:d@1");',
    "await p(d);",
    "}});",
  ]);
});

Deno.test("an example of a module knows what that module exports, unless it imports it", () => {
  const text =
    "/**\n * ```ts\n * f(g);\n * ```\n */\nexport function f() {}\nexport const g = 1;\n";
  const [first, second] = exampleModule("m.ts", text, MANIFEST, ROOT).split("\n");
  equal(first, 'import "file:///r/m.ts"; ');
  ok(second!.endsWith('{ const { f, g } = await import("file:///r/m.ts"); {'), second);
  const imported = text.replace(" * f(g)", ' * import { f, g } from "@a/b";\n * f(g)');
  ok(exampleModule("m.ts", imported, MANIFEST, ROOT).split("\n")[1]!.endsWith("=> { {"));
  equal(exampleModule("m.ts", "export const a = 1;", MANIFEST, ROOT), "");
});

Deno.test("an import that leads nowhere is left to the example that has it", () => {
  const page = '```ts\nimport { x } from "@a/b/no";\n```\n';
  const lines = exampleModule("x.md", page, MANIFEST, ROOT).split("\n");
  deepEqual(lines.slice(0, 2), [
    ' Deno.test("the example at x.md:1 runs", async () => { {',
    'const { x } = await import("@a/b/no");',
  ]);
});

Deno.test("an example that fails names its file and its line", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const page = "# A page\n\n```ts\nlet a = 1;\na++;\nthrow new Error(`${a} is wrong`);\n```\n";
    const module = exampleModule("page.md", page, MANIFEST, ROOT);
    await Deno.writeTextFile(`${folder}/page.md.ts`, module);
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "--no-config", "--no-check", `${folder}/page.md.ts`],
      env: { NO_COLOR: "1" },
    }).output();
    equal(code, 1);
    const said = new TextDecoder().decode(stdout);
    ok(said.includes("the example at page.md:3 runs"), said);
    ok(/2 is wrong[^]*page\.md\.ts:6:7/.test(said), said);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
