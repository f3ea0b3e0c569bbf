/**
 * Runs the test suite, or with `--peers` the interoperability tests, and closes with the sum alone on its line. Other
 * words go to `deno test`.
 *
 * @module
 */

import { ROOT, runDeno } from "./steps.ts";
import { writeModules } from "./test_groups.ts";

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

/**
 * The words of `deno test` for all of the rest, examples included. Some modules are outside of the project's folder, so that
 * its configuration has to be named.
 *
 * @param modules What to run; they start in this order.
 */
export function allWords(rest: Words, modules: readonly string[]): Words {
  return [...COMMON, "--parallel", "--config=deno.json", ...rest, ...modules];
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

async function main(): Promise<number> {
  const peers = Deno.args.includes("--peers");
  const rest = Deno.args.filter((word) => word !== "--peers");
  const startedAt = performance.now();
  const folder = await Deno.makeTempDir({ prefix: "fastwire-tests-" });
  try {
    // Whoever names files wants those.
    const named = rest.some((word) => !word.startsWith("-"));
    const words = peers
      ? peerWords(rest)
      : named
      ? partWords(rest)
      : allWords(rest, await writeModules(ROOT, folder));
    const report = `${folder}/report.xml`;
    const code = await runDeno([words[0]!, `--junit-path=${report}`, ...words.slice(1)], jobs());
    const sum = sumOf(await Deno.readTextFile(report).catch(() => ""));
    // A module that does not load or a leak found at the end has no test case to count.
    const failed = code !== 0 && sum.failed === 0 ? 1 : sum.failed;
    for (const name of sum.ignored) console.log(`skipped: ${name}`);
    console.log(`took ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
    console.log(`${sum.passed} passed, ${failed} failed, ${sum.skipped} skipped`);
    return code;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

if (import.meta.main) Deno.exitCode = await main();
