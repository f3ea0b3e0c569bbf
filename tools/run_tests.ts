/**
 * Runs the test suite, or with `--peers` the interoperability tests, and closes with the sum alone on its line. Other
 * words go to `deno test`.
 *
 * @module
 */

import { ROOT, runDeno } from "./steps.ts";
import { findTests, groupModule, groupTests, type TestGroup } from "./test_groups.ts";

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

/** The words of `deno test` for everything else, but for the files of groups. */
export function testWords(rest: Words, groups: readonly TestGroup[] = []): Words {
  const grouped = groups.flatMap(({ files }) => files);
  const ignored = ["**/*interop_test.ts", "docs/api-surface.md", ...grouped].join();
  return [...COMMON, "--parallel", "--doc", `--ignore=${ignored}`, ...rest];
}

/**
 * The words of `deno test` for groups. They are a run of their own: beside a file outside of the project's folder
 * nothing is ignored any more (Deno 2.9).
 *
 * @param folder Where the groups' modules are.
 */
export function groupWords(rest: Words, groups: readonly TestGroup[], folder: string): Words {
  const modules = groups.map(({ name }) => `${folder}/${name}`);
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
    const runs: Words[] = [];
    if (peers) runs.push(peerWords(rest));
    // Whoever names files wants those.
    else if (rest.some((word) => !word.startsWith("-"))) runs.push(testWords(rest));
    else {
      const groups = groupTests(await findTests(ROOT));
      await writeGroups(groups, folder);
      runs.push(groupWords(rest, groups, folder), testWords(rest, groups));
    }
    let worst = 0;
    let passed = 0;
    let failed = 0;
    let skipped = 0;
    for (const [i, words] of runs.entries()) {
      const report = `${folder}/${i}.xml`;
      const code = await runDeno([words[0]!, `--junit-path=${report}`, ...words.slice(1)], jobs());
      const sum = sumOf(await Deno.readTextFile(report).catch(() => ""));
      worst = Math.max(worst, code);
      passed += sum.passed;
      // A module that does not load or a leak found at the end has no test case to count.
      failed += code !== 0 && sum.failed === 0 ? 1 : sum.failed;
      skipped += sum.skipped;
      for (const name of sum.ignored) console.log(`skipped: ${name}`);
    }
    console.log(`took ${((performance.now() - startedAt) / 1000).toFixed(1)} s`);
    console.log(`${passed} passed, ${failed} failed, ${skipped} skipped`);
    return worst;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

async function writeGroups(groups: readonly TestGroup[], folder: string): Promise<void> {
  for (const group of groups) {
    const path = `${folder}/${group.name}`;
    await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    await Deno.writeTextFile(path, groupModule(group, ROOT));
  }
}

if (import.meta.main) Deno.exitCode = await main();
