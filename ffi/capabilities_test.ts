import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { type Capabilities, capabilities, resolveDriver } from "./capabilities.ts";
import { bindAll, libcCandidates } from "./libc_linux.ts";

const library = bindAll();
const ignore = library === undefined;
if (ignore) console.warn("capabilities with a C library are not tested: there is none");

interface Report {
  readonly choice: Readonly<Record<string, string>>;
  readonly openedByChoice: number;
  readonly found: Capabilities;
  readonly opened: number;
}

/** Runs the report in a process of its own with exactly these flags. A prompt would hang it: it has none to show. */
async function report(
  flags: readonly string[],
  driver = "auto",
  env: Record<string, string> = {},
): Promise<Report> {
  const program = new URL("./testdata/capabilities_report.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "--no-check", ...flags, program, driver],
    env: { NO_COLOR: "1", ...env },
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), 20_000);
  const { stdout, stderr } = await child.output();
  clearTimeout(timer);
  const said = new TextDecoder().decode(stderr);
  equal(said, "", "nothing is printed, asked or warned about");
  return JSON.parse(new TextDecoder().decode(stdout));
}

Deno.test("without permissions nothing is opened and every no has its sentence", async () => {
  for (const flags of [["--no-prompt"], []]) {
    const { choice, found, opened } = await report(flags);
    equal(choice.use, "portable");
    equal(choice.reason, "the permission to call C functions (ffi) is not granted");
    equal(found.ffi, false);
    equal(opened, 0);
    for (const name of ["ffi", "batchedDatagrams", "segmentationOffload", "splice", "ioUring"]) {
      equal(found.why[name], "the permission to call C functions (ffi) is not granted");
    }
    for (const feature of Object.values(found.features)) equal(feature.reason, "permission");
  }
});

Deno.test({
  name: "a permission for the C library's path alone is enough for everything but io_uring",
  ignore,
  fn: async () => {
    const path = libcCandidates(Deno.build.arch).find((name) => {
      try {
        return name.startsWith("/") && Deno.statSync(name).isFile;
      } catch {
        return false;
      }
    });
    const { choice, found } = await report(["--no-prompt", `--allow-ffi=${path}`]);
    deepEqual(choice, { use: "fast", reason: "" });
    equal(found.ffi, true);
    equal(found.features.libc.detail, path);
    equal(found.ioUring, false);
    equal(found.features.iouring.reason, "permission");
  },
});

Deno.test({
  name: "with the permission the kernel driver is chosen",
  ignore,
  fn: async () => {
    const { choice, found, opened } = await report(["--no-prompt", "--allow-ffi"]);
    deepEqual(choice, { use: "fast", reason: "" });
    equal(found.ffi, true);
    ok(opened > 0);
  },
});

Deno.test("driver fast without the permission says which flag to add", async () => {
  const { choice } = await report(["--no-prompt"], "fast");
  deepEqual(choice, {
    name: "CapabilityError",
    code: "ffi.driver-unavailable",
    why: "the permission to call C functions (ffi) is not granted",
    remedy: "run with --allow-ffi",
  });
});

Deno.test("driver portable never opens a library", async () => {
  const { choice, openedByChoice } = await report(["--no-prompt", "--allow-ffi"], "portable");
  equal(choice.use, "portable");
  equal(openedByChoice, 0);
});

Deno.test("FASTWIRE_DRIVER replaces auto where it may be read, and portable opens nothing", async () => {
  const env = { FASTWIRE_DRIVER: "portable" };
  const read = await report(["--no-prompt", "--allow-ffi", "--allow-env"], "auto", env);
  equal(read.choice.use, "portable");
  equal(read.choice.reason, "the portable driver was asked for with FASTWIRE_DRIVER=portable");
  equal(read.opened, 0);
  equal(read.found.features.libc.reason, "disabled");
  if (ignore) return;
  const hidden = await report(["--no-prompt", "--allow-ffi"], "auto", env);
  equal(hidden.choice.use, "fast");
  const byName = await report(["--no-prompt", "--allow-ffi", "--allow-env"], "fast", env);
  equal(byName.choice.use, "fast");
});

Deno.test("FASTWIRE_DRIVER with another word is refused", async () => {
  const flags = ["--no-prompt", "--allow-env"];
  const { choice } = await report(flags, "auto", { FASTWIRE_DRIVER: "quick" });
  equal(choice.name, "TypeError");
});

Deno.test("resolveDriver() refuses a word it does not know", () => {
  throws(() => resolveDriver("native" as "fast", []), TypeError);
});

Deno.test({
  name: "capabilities() is frozen, and looks only once",
  ignore,
  fn: () => {
    const first = capabilities({ refresh: true });
    equal(capabilities(), first);
    ok(Object.isFrozen(first) && Object.isFrozen(first.features) && Object.isFrozen(first.why));
    for (const [name, { ok: there, reason, detail }] of Object.entries(first.features)) {
      ok(there || (reason !== undefined && detail !== undefined && !detail.endsWith(".")), name);
    }
  },
});
