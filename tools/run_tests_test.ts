import { deepEqual, ok } from "node:assert/strict";
import { moduleWords, partWords, peerWords, sumOf } from "./run_tests.ts";

const REPORT = `<?xml version="1.0" encoding="UTF-8"?>
<testsuites name="deno test" tests="5" failures="1" errors="0" time="0.013">
    <testsuite name="./a_test.ts" tests="4" disabled="1" errors="0" failures="1">
        <testcase name="a [skipped: no &lt;x&gt;]" classname="./a_test.ts" time="0.000" line="1" col="6">
            <skipped/>
        </testcase>
        <testcase name="b" classname="./a_test.ts" time="0.000" line="2" col="6">
        </testcase>
    </testsuite>
    <testsuite name="./b_test.ts" tests="3" disabled="0" errors="1" failures="0">
    </testsuite>
</testsuites>`;

Deno.test("sumOf() adds up every suite and keeps the reasons", () => {
  deepEqual(sumOf(REPORT), { passed: 4, failed: 2, skipped: 1, ignored: ["a [skipped: no <x>]"] });
});

Deno.test("sumOf() answers nothing for a missing report", () => {
  deepEqual(sumOf(""), { passed: 0, failed: 0, skipped: 0, ignored: [] });
});

Deno.test("sumOf() reads what this Deno writes", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(
      `${folder}/x_test.ts`,
      'Deno.test.ignore("a", () => {}); Deno.test("b", () => {}); Deno.test("c", () => { throw 1; });',
    );
    await new Deno.Command(Deno.execPath(), {
      args: [
        "test",
        "--no-config",
        "--no-check",
        "--junit-path",
        `${folder}/r.xml`,
        `${folder}/x_test.ts`,
      ],
    }).output();
    const sum = sumOf(await Deno.readTextFile(`${folder}/r.xml`));
    deepEqual(sum, { passed: 1, failed: 1, skipped: 1, ignored: ["a"] });
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("the interoperability tests are kept out of the plain run, and the rest out of theirs", () => {
  ok(partWords([]).some((word) => word.startsWith("--ignore=**/*interop_test.ts,")));
  deepEqual(peerWords(["--filter=a"]).slice(-2), ["--filter=a", "**/*interop_test.ts"]);
});

Deno.test("what is not named runs with the words that were given, whatever its folder", () => {
  deepEqual(moduleWords(["--filter=a"], "/x/b").slice(-3), [
    "--config=deno.json",
    "--filter=a",
    "/x/b",
  ]);
});
