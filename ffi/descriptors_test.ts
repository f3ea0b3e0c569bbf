import { equal } from "node:assert/strict";
import { processDescriptors, softLimitOf } from "./descriptors.ts";

Deno.test({
  name: "a process counts its descriptors and knows its limit",
  ignore: Deno.build.os !== "linux",
  fn: async () => {
    const before = processDescriptors.count()!;
    const files = Array.from({ length: 5 }, () => Deno.openSync("/dev/null"));
    equal(processDescriptors.count(), before + 5);
    for (const file of files) file.close();
    equal(processDescriptors.count(), before);
    const { stdout } = await new Deno.Command("/bin/sh", { args: ["-c", "ulimit -n"] }).output();
    equal(processDescriptors.limit(), Number(new TextDecoder().decode(stdout)));
  },
});

Deno.test("a limit is read from its line, and no limit is none", () => {
  const head = "Limit                     Soft Limit           Hard Limit           Units\n";
  const line = (soft: string) => `${head}Max open files            ${soft}   524288   files\n`;
  equal(softLimitOf(line("256")), 256);
  equal(softLimitOf(line("unlimited")), undefined);
  equal(softLimitOf(head), undefined);
});
