import { deepEqual, equal } from "node:assert/strict";
import manifest from "./deno.json" with { type: "json" };

const entries = Object.entries(manifest.exports);

for (const [name, path] of entries) {
  Deno.test(`importing "${name}" opens nothing and asks for nothing`, async () => {
    const entry = new URL(path, import.meta.url).href;
    const program = await Deno.makeTempFile({ suffix: ".ts" });
    try {
      // What is left running keeps the process alive, what is asked for without permission ends it.
      await Deno.writeTextFile(
        program,
        `await import(${JSON.stringify(entry)}); console.log("in");`,
      );
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "--no-prompt",
          "--no-check",
          ...["--deny-net", "--deny-ffi", "--deny-env", "--deny-run", "--deny-sys", "--deny-write"],
          `--allow-read=${new URL(".", import.meta.url).pathname}`,
          `--config=${new URL("deno.json", import.meta.url).pathname}`,
          program,
        ],
        signal: AbortSignal.timeout(20_000),
      }).output();
      const text = new TextDecoder();
      equal(text.decode(stderr), "");
      deepEqual([code, text.decode(stdout)], [0, "in\n"]);
    } finally {
      await Deno.remove(program);
    }
  });
}
