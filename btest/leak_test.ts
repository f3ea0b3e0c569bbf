/** Tests come and go, descriptors do not stay. */
import { equal } from "node:assert/strict";
import { capabilities } from "../ffi/mod.ts";

const ROWS: readonly (readonly [name: string, driver: string, workers: number, tests: number])[] = [
  ["linux", "fast", 0, 200],
  ["linux on threads", "fast", 1, 40],
  ["deno", "portable", 0, 200],
];

for (const [name, driver, workers, tests] of ROWS) {
  const missing = Deno.build.os !== "linux" || driver === "fast" && !capabilities().ffi;
  Deno.test({
    name: `btest on ${name} leaves no descriptor open after ${tests} tests`,
    ignore: missing,
    fn: async () => {
      const path = new URL("./testdata/session_cycles.ts", import.meta.url).pathname;
      const child = new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", path, driver, String(workers), String(tests)],
        stdout: "piped",
        stderr: "piped",
      }).spawn();
      const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
      const { stdout, stderr } = await child.output();
      clearTimeout(timer);
      equal(new TextDecoder().decode(stdout), "ok\n", new TextDecoder().decode(stderr));
    },
  });
}
