import { deepEqual, equal, ok } from "node:assert/strict";
import plugin from "./lint_plugin.ts";

interface Example {
  /** A path of the place the code pretends to be in. */
  readonly at: string;
  readonly bad: readonly string[];
  readonly good: readonly string[];
}

const EXAMPLES: Readonly<Record<string, readonly Example[]>> = {
  "pure-protocol": [
    {
      at: "tftp/protocol/send_machine.ts",
      bad: [
        "const t = Date.now();",
        "const t = performance.now();",
        "const x = Math.random();",
        'const x = Math["random"]();',
        "crypto.getRandomValues(a);",
        "Deno.cwd();",
        "process.cwd();",
        "console.log(1);",
        "setTimeout(f, 1);",
        "queueMicrotask(f);",
        "async function f() {}",
        "const f: F = async () => {};",
        "class A { async f() {} }",
        "async function f() { await g(); }",
        "let p: Promise<void>;",
        "Promise.resolve();",
        'import { readFileSync } from "node:fs";',
        'import { getLogger } from "@logtape/logtape";',
        'import { logger } from "../../internal/log.ts";',
      ],
      good: [
        "const deadline = now + 5;",
        "class A { start(now: number): void { this.date = now; } }",
        "const x = Math.max(1, 2);",
        "const y = record.Date;",
        'import { integerIn } from "../../internal/check.ts";',
      ],
    },
    {
      at: "tftp/protocol/send_machine_test.ts",
      bad: [],
      good: ["const t = Date.now();", "async function f() { await g(); }"],
    },
    { at: "tftp/server.ts", bad: [], good: ["const t = performance.now();"] },
  ],
  "print-in-place": [
    {
      at: "tftp/server.ts",
      bad: ["console.error(1);", "Deno.stdout.writeSync(b);", "process.stderr.write(b);"],
      good: ["log.info(1);", "const { stdout } = child;"],
    },
    { at: "tftp/cli.ts", bad: [], good: ["console.log(1);"] },
    { at: "internal/cli/run.ts", bad: [], good: ["Deno.stdout.writeSync(b);"] },
  ],
  "exit-in-place": [
    { at: "tftp/cli.ts", bad: ["Deno.exit(1);", "process.exit(1);"], good: ["machine.exit(1);"] },
    { at: "internal/cli/terminal.ts", bad: [], good: ["Deno.exit(1);"] },
  ],
  "deno-in-place": [
    {
      at: "tftp/server.ts",
      bad: ["Deno.readFileSync(x);", "const d = Deno;"],
      good: ["const d = globalThis.Deno;", "type A = { Deno: number };"],
    },
    { at: "ffi/libc_linux.ts", bad: [], good: ["Deno.dlopen(a, b);"] },
    { at: "tools/check.ts", bad: [], good: ["Deno.args;"] },
  ],
  "portability-floor": [
    {
      at: "tftp/server.ts",
      bad: [
        "Promise.withResolvers();",
        "Promise.try(f);",
        "Array.fromAsync(x);",
        'Uint8Array.fromHex("00");',
        "bytes.toHex();",
        "buffer.transfer();",
        "this.#buffer.transfer(8);",
        "const map = new Map(); map.values().map(f);",
        "class A { #set = new Set(); f() { return this.#set.keys().toArray(); } }",
        "Temporal.Now.instant();",
        "Buffer.from(x);",
        "function f() { using x = g(); }",
        "async function f() { await using x = g(); }",
      ],
      good: [
        "[...map.values()].map(f);",
        "Object.entries(x).map(f);",
        "observer.transfer(record);",
        "class A { #table = new Table(); f() { return this.#table.entries().map(g); } }",
        "list.map(f);",
        "class A { buffer = 1; }",
        "let a: ArrayBuffer;",
      ],
    },
    { at: "tftp/server_test.ts", bad: [], good: ["function f() { using x = g(); }"] },
  ],
  "no-top-level-await": [
    {
      at: "tftp/server.ts",
      bad: ["await f();", "if (x) { await f(); }", "for await (const x of y) { g(x); }"],
      good: [
        "async function f() { await g(); }",
        "const f: F = async () => await g();",
        "class A { async f() { for await (const x of y) { g(x); } } }",
      ],
    },
    { at: "tools/check.ts", bad: [], good: ["await f();"] },
  ],
  "worker-in-place": [
    {
      at: "tftp/server.ts",
      bad: ["new Worker(url);", 'new Worker(new URL("./x.ts", import.meta.url));'],
      good: ['new Worker(new URL("./server_worker.ts", import.meta.url));', "new Walker(url);"],
    },
  ],
  "hash-private": [
    {
      at: "tftp/server.ts",
      bad: [
        "class A { private x = 1; }",
        "class A { constructor(private x: number) {} }",
      ],
      good: [
        "class A { #x = 1; f() { return this.#x; } }",
        "class A { readonly x = 1; }",
        "class A { protected f() {} }",
        "class A { constructor(readonly x: number) {} }",
        "class A { private constructor() {} }",
      ],
    },
  ],
  "named-exports": [
    {
      at: "tftp/server.ts",
      bad: ["export default 1;", "export default function f() {}"],
      good: ["export const x = 1;"],
    },
    { at: "tools/lint_plugin.ts", bad: [], good: ["export default 1;"] },
  ],
  "no-enum": [
    {
      at: "tftp/server.ts",
      bad: ["enum A { B }", "export const enum A { B }"],
      good: ["const A = { B: 0 } as const;"],
    },
  ],
  "declared-functions": [
    {
      at: "tftp/server.ts",
      bad: [
        "const f = () => 1;",
        "export const f = (x: number) => x;",
        "const f = function () {};",
      ],
      good: [
        "function f() { const g = () => 1; return g; }",
        "export const systemClock: Clock = { now: () => 1 };",
        "const compare: Comparator = (a, b) => a - b;",
        "const x = 5;",
      ],
    },
  ],
  "error-grammar": [
    {
      at: "tftp/server.ts",
      bad: [
        'throw new Error("Cannot do it");',
        'throw new TypeError("bad value");',
        'throw new RangeError("Cannot use 5: expected 8.");',
        "throw new RangeError(`Cannot use ${x}: wasn't expected`);",
        "throw new RangeError(`Wrong ${x}`);",
      ],
      good: [
        'throw new TypeError("Cannot use this: it is closed");',
        "return new Error(message);",
        "throw new RangeError(`Cannot use ${x}: expected 8 to ${max}`);",
        "throw new TypeError(message);",
        "throw new RangeError(`${what}: expected 8`);",
      ],
    },
    { at: "tftp/server_test.ts", bad: [], good: ['throw new Error("x");'] },
  ],
};

Deno.test("every rule of the lint plugin has bad and good code", () => {
  deepEqual(Object.keys(EXAMPLES).sort(), Object.keys(plugin.rules).sort());
  for (const [rule, examples] of Object.entries(EXAMPLES)) {
    ok(examples.some(({ bad }) => bad.length > 0), rule);
    ok(examples.some(({ good }) => good.length > 0), rule);
  }
});

for (const [rule, examples] of Object.entries(EXAMPLES)) {
  for (const { at, bad, good } of examples) {
    for (const [sources, faults] of [[bad, true], [good, false]] as const) {
      if (sources.length === 0) continue;
      Deno.test(`${rule} ${faults ? "reports bad" : "lets good"} code in ${at}`, () => {
        for (const source of sources) {
          const found = Deno.lint.runPlugin(plugin, at, source)
            .filter(({ id }) => id === `fastwire/${rule}`);
          equal(found.length > 0, faults, source);
        }
      });
    }
  }
}

Deno.test("no rule falls over code it does not concern", () => {
  const source = Deno.readTextFileSync(new URL("./lint_plugin.ts", import.meta.url));
  deepEqual(Deno.lint.runPlugin(plugin, "tools/lint_plugin.ts", source), []);
});
