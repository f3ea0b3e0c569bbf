import { equal } from "node:assert/strict";
import { libc } from "./libc_linux.ts";

const ignore = libc() === undefined;
if (ignore) console.warn("pinned buffers are not tested: no C library");

Deno.test({
  name: "buffers the kernel knows stay where they are while the collector runs",
  ignore,
  fn: async () => {
    const child = new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "-A",
        "--no-check",
        "--v8-flags=--expose-gc,--stress-scavenge=100",
        new URL("./testdata/gc_stress.ts", import.meta.url).pathname,
      ],
      stdout: "piped",
      stderr: "piped",
    }).spawn();
    const timer = setTimeout(() => child.kill("SIGKILL"), 30_000);
    const { code, stdout, stderr } = await child.output();
    clearTimeout(timer);
    equal(code, 0, new TextDecoder().decode(stderr));
    equal(new TextDecoder().decode(stdout), "ok\n");
  },
});
