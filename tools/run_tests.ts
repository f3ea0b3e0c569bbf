/**
 * Runs the test suite, or with `--peers` the interoperability tests, and closes with the sum alone on its line. Other
 * words go to `deno test`.
 *
 * @module
 */

import { certificateStore, ROOT, runDeno } from "./steps.ts";
import { isWaiting, writeModules } from "./test_groups.ts";

/** What a JUnit report adds up to. */
export interface Sum {
  readonly passed: number;
  readonly failed: number;
  readonly skipped: number;
  /** The names of those that were ignored; where there was a reason, it is in the name. */
  readonly ignored: readonly string[];
}

/** Adds up a JUnit report as `deno test --junit-path` writes it. */
export function sumOf(report: string): Sum {
  let tests = 0;
  let failed = 0;
  let skipped = 0;
  const suites =
    /<testsuite name="[^"]*" tests="(\d+)" disabled="(\d+)" errors="(\d+)" failures="(\d+)"/g;
  for (const [, all, disabled, errors, failures] of report.matchAll(suites)) {
    tests += Number(all);
    skipped += Number(disabled);
    failed += Number(errors) + Number(failures);
  }
  const ignored = [...report.matchAll(/<testcase name="([^"]*)"[^>]*>\s*<skipped\/>/g)]
    .map(([, name]) => unescape(name!));
  return { passed: tests - failed - skipped, failed, skipped, ignored };
}

/** The words of one `deno test`. */
export type Words = readonly string[];

/** The words of `deno test` for the interoperability tests. */
export function peerWords(rest: Words): Words {
  return [...COMMON, "--permit-no-files", ...rest, "**/*interop_test.ts"];
}

/** The words of `deno test` for a part of the rest that somebody named. */
export function partWords(rest: Words): Words {
  return [
    ...COMMON,
    "--parallel",
    "--doc",
    "--ignore=**/*interop_test.ts,docs/api-surface.md",
    ...rest,
  ];
}

/** The words of `deno test` for one module, which may be outside of the project's folder. */
export function moduleWords(rest: Words, module: string): Words {
  return [...COMMON, "--config=deno.json", ...rest, module];
}

// Types are the gate's business: `deno task check` looks at every file once.
const COMMON: Words = [
  "test",
  "-A",
  "--quiet",
  "--no-check",
  "--preload=./tools/test_preload.ts",
];

/** As many files at a time as there are processors: with more, tests of timing get in each other's way. */
function jobs(): Record<string, string> {
  return { DENO_JOBS: Deno.env.get("DENO_JOBS") ?? String(navigator.hardwareConcurrency) };
}

function unescape(text: string): string {
  return text.replaceAll("&lt;", "<").replaceAll("&gt;", ">").replaceAll("&quot;", '"')
    .replaceAll("&#39;", "'").replaceAll("&apos;", "'").replaceAll("&amp;", "&");
}

/** Runs one `deno test` on our terminal. */
async function runOnce(words: Words, folder: string): Promise<Sum> {
  const report = `${folder}/report.xml`;
  const code = await runDeno([words[0]!, `--junit-path=${report}`, ...words.slice(1)], jobs());
  return withCode(sumOf(await Deno.readTextFile(report).catch(() => "")), code);
}

/**
 * Runs a `deno test` for each module, as many at a time as there are processors and one of those that mostly wait. A process
 * each: what a test sees of its process's memory and descriptors is its own. What one says is shown when it has ended.
 */
async function runModules(rest: Words, modules: readonly string[], folder: string): Promise<Sum> {
  const ready = modules.filter((module) => !isWaiting(module, folder));
  const waiting = modules.filter((module) => isWaiting(module, folder));
  const sums: Sum[] = [];
  const lane = async (next: () => string | undefined): Promise<void> => {
    for (let module = next(); module !== undefined; module = next()) {
      const report = `${folder}/${sums.length}-${module.replaceAll("/", "-")}.xml`;
      const words = moduleWords(rest, module);
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [words[0]!, `--junit-path=${report}`, ...words.slice(1)],
        cwd: ROOT,
        env: certificateStore(),
        stdin: "null",
      }).output();
      for (const text of [stdout, stderr]) await Deno.stdout.write(text);
      sums.push(withCode(sumOf(await Deno.readTextFile(report).catch(() => "")), code));
    }
  };
  const lanes = Array.from(
    { length: navigator.hardwareConcurrency },
    () => lane(() => ready.shift() ?? waiting.shift()),
  );
  await Promise.all([...lanes, lane(() => waiting.shift())]);
  return {
    passed: sums.reduce((all, { passed }) => all + passed, 0),
    failed: sums.reduce((all, { failed }) => all + failed, 0),
    skipped: sums.reduce((all, { skipped }) => all + skipped, 0),
    ignored: sums.flatMap(({ ignored }) => ignored),
  };
}

/** A module that does not load or a leak found at the end has no test case to count. */
function withCode(sum: Sum, code: number): Sum {
  return { ...sum, failed: code !== 0 && sum.failed === 0 ? 1 : sum.failed };
}

async function main(): Promise<number> {
  const peers = Deno.args.includes("--peers");
  const rest = Deno.args.filter((word) => word !== "--peers");
  const startedAt = performance.now();
  const folder = await Deno.makeTempDir({ prefix: "fastwire-tests-" });
  try {
    // Whoever names files wants those.
    const named = rest.some((word) => !word.startsWith("-"));
    const sum = peers || named
      ? await runOnce(peers ? peerWords(rest) : partWords(rest), folder)
      : await runModules(rest, await writeModules(ROOT, folder), folder);
    for (const name of sum.ignored) console.log(`skipped: ${name}`);
    console.log(`took ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
    console.log(`${sum.passed} passed, ${sum.failed} failed, ${sum.skipped} skipped`);
    return sum.failed === 0 ? 0 : 1;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) Deno.exitCode = await main();
