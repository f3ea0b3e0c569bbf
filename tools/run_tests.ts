/**
 * Runs the test suite, or with `--peers` the interoperability tests, and closes with the sum alone on its line. Other
 * words go to `deno test`.
 *
 * @module
 */

import { runDeno } from "./steps.ts";

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

/** The arguments of `deno test` for either kind of run. */
export function testArguments(
  peers: boolean,
  junitPath: string,
  rest: readonly string[],
): readonly string[] {
  const preload = "--preload=./tools/test_preload.ts";
  // Types are the gate's business: `deno task check` looks at every file once.
  const common = ["test", "-A", "--quiet", "--no-check", preload, `--junit-path=${junitPath}`];
  return peers ? [...common, "--permit-no-files", ...rest, "**/interop_test.ts"] : [
    ...common,
    "--parallel",
    "--doc",
    "--ignore=**/interop_test.ts,docs/api-surface.md",
    ...rest,
  ];
}

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
  const given = Deno.env.get("FASTWIRE_JUNIT");
  const junitPath = given ?? await Deno.makeTempFile({ suffix: ".xml" });
  const startedAt = performance.now();
  try {
    const code = await runDeno(testArguments(peers, junitPath, rest), jobs());
    const sum = sumOf(await Deno.readTextFile(junitPath).catch(() => ""));
    // A module that does not load or a leak found at the end has no test case to count.
    const failed = code !== 0 && sum.failed === 0 ? 1 : sum.failed;
    for (const name of sum.ignored) console.log(`skipped: ${name}`);
    console.log(`took ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
    console.log(`${sum.passed} passed, ${failed} failed, ${sum.skipped} skipped`);
    return code;
  } finally {
    if (given === undefined) await Deno.remove(junitPath);
  }
}

if (import.meta.main) Deno.exitCode = await main();
