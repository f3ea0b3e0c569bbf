import { equal } from "node:assert/strict";
import { recordedTerminal } from "../testing/terminal.ts";
import { openProgress } from "./progress.ts";

Deno.test("openProgress() writes nothing where nobody watches or --quiet was given", async () => {
  for (const [watched, quiet] of [[false, false], [true, true]] as const) {
    const terminal = recordedTerminal({}, watched);
    const progress = await openProgress(terminal, "a.bin", quiet);
    progress.update(5, 10);
    progress.stop();
    equal(terminal.err, "");
  }
});
