import { deepEqual, equal, ok } from "node:assert/strict";
import { ROOT } from "./steps.ts";
import { ALONE, findFiles, groupModule, groupTests, isTest, writeModules } from "./test_groups.ts";

Deno.test("groupTests() starts with what takes long and puts the rest together", () => {
  deepEqual(
    groupTests([
      "tftp/protocol/b_test.ts",
      "tftp/protocol/a_test.ts",
      "btest/protocol/alone_test.ts",
      "internal/cli/run_test.ts",
      "internal/check_test.ts",
      "internal/testing/interop_test.ts",
      "tftp/b_test.ts",
      "tftp/a_test.ts",
      "ffi/leak_test.ts",
      "tftp/server_test.ts",
      "mod_test.ts",
    ]),
    [
      { name: "protocol/btest_test.ts", files: ["btest/protocol/alone_test.ts"] },
      { name: "tftp/rest_test.ts", files: ["tftp/a_test.ts", "tftp/b_test.ts"] },
      { name: "tftp/server_test.ts", files: ["tftp/server_test.ts"] },
      { name: "ffi/leak_test.ts", files: ["ffi/leak_test.ts"] },
      {
        name: "internal/all_test.ts",
        files: ["internal/check_test.ts", "internal/cli/run_test.ts"],
      },
      { name: "root/rest_test.ts", files: ["mod_test.ts"] },
      {
        name: "protocol/tftp_test.ts",
        files: ["tftp/protocol/a_test.ts", "tftp/protocol/b_test.ts"],
      },
    ],
  );
});

Deno.test("groupModule() runs every file of its group, and fails for one that does not load", async () => {
  const folder = await Deno.makeTempDir();
  try {
    await Deno.writeTextFile(`${folder}/a.ts`, 'import { no } from "node:fs"; no();');
    await Deno.writeTextFile(`${folder}/b.ts`, 'Deno.test("b runs", () => {});');
    const module = groupModule([`file://${folder}/a.ts`, `file://${folder}/b.ts`]);
    await Deno.writeTextFile(`${folder}/c_test.ts`, module);
    const { code, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["test", "-A", "--no-config", "--no-check", `${folder}/c_test.ts`],
      env: { NO_COLOR: "1" },
    }).output();
    equal(code, 1);
    const said = new TextDecoder().decode(stdout);
    ok(said.includes("b runs ... ok") && said.includes("a.ts loads ... FAILED"), said);
    ok(said.includes("1 passed | 1 failed"), said);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});

Deno.test("every test file runs once, and every name of those that run alone is one", async () => {
  const tests = await findFiles(ROOT, isTest);
  ok(tests.includes("tools/test_groups_test.ts"));
  equal(new Set(tests).size, tests.length);
  deepEqual(ALONE.filter((file) => !tests.includes(file)), []);
  const grouped = groupTests(tests).flatMap(({ files }) => files).sort();
  deepEqual(grouped, tests.filter((file) => !file.endsWith("interop_test.ts")));
});

Deno.test("writeModules() writes what it says to run, examples of pages and docstrings too", async () => {
  const folder = await Deno.makeTempDir();
  try {
    const run = await writeModules(ROOT, folder);
    const examples = await Deno.readTextFile(`${folder}/examples/all_test.ts`);
    for (const path of ["README.md.ts", "docs/tftp.md.ts", "tftp/url.ts", "mod.ts"]) {
      ok(examples.includes(`/examples/${path}"`), path);
      ok((await Deno.readTextFile(`${folder}/examples/${path}`)).includes("Deno.test("), path);
    }
    for (const path of run) ok((await Deno.stat(new URL(path, ROOT))).isFile, path);
    equal(new Set(run).size, run.length);
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
});
