import { deepEqual, equal, ok } from "node:assert/strict";
import { ROOT } from "./steps.ts";
import { findTests, groupModule, groupTests } from "./test_groups.ts";

Deno.test("groupTests() puts tests of values together, and leaves the others alone", () => {
  deepEqual(
    groupTests([
      "tftp/protocol/b_test.ts",
      "tftp/protocol/a_test.ts",
      "btest/protocol/alone_test.ts",
      "internal/cli/run_test.ts",
      "internal/check_test.ts",
      "internal/testing/interop_test.ts",
      "tftp/server_test.ts",
      "ffi/leak_test.ts",
    ]),
    [
      {
        name: "internal/all_test.ts",
        files: ["internal/check_test.ts", "internal/cli/run_test.ts"],
      },
      {
        name: "protocol/tftp_test.ts",
        files: ["tftp/protocol/a_test.ts", "tftp/protocol/b_test.ts"],
      },
    ],
  );
});

Deno.test("groupModule() imports each file of its group", () => {
  const module = groupModule(
    { name: "x", files: ["a/b_test.ts", "c_test.ts"] },
    new URL("file:///r/"),
  );
  equal(module, 'import "file:///r/a/b_test.ts";\nimport "file:///r/c_test.ts";\n');
});

Deno.test("findTests() finds this file, and none twice", async () => {
  const tests = await findTests(ROOT);
  ok(tests.includes("tools/test_groups_test.ts"));
  equal(new Set(tests).size, tests.length);
});
