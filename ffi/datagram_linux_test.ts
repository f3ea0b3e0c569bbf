import { equal, match, rejects } from "node:assert/strict";
import { CapabilityError } from "../internal/errors.ts";
import { openDatagramHost } from "./datagram.ts";
import { libc } from "./libc_linux.ts";

/** Runs a program of testdata/, or a line of code, in a process of its own. */
async function run(
  args: string[],
  env: Record<string, string> = {},
): Promise<{ code: number; out: string; err: string }> {
  const command = new Deno.Command(Deno.execPath(), {
    args,
    env,
    stdout: "piped",
    stderr: "piped",
  });
  const { code, stdout, stderr } = await command.output();
  const text = new TextDecoder();
  return { code, out: text.decode(stdout), err: text.decode(stderr) };
}

Deno.test({
  name: "buffers the kernel has addresses of survive the collector",
  ignore: libc() === undefined,
  fn: async () => {
    const file = new URL("./testdata/datagram_gc.ts", import.meta.url).href;
    const flags = "--v8-flags=--expose-gc,--stress-scavenge=50";
    const { code, out, err } = await run(["run", "--no-check", "--no-lock", "-A", flags, file]);
    equal(code, 0, err);
    equal(out.trim(), String(6 * 20 * 4));
  },
});

const OPEN = new URL("./datagram.ts", import.meta.url).href;
const ALL = ["--allow-net", "--allow-ffi", "--allow-env", "--allow-read"];
const PROGRAM = `
  import { openDatagramHost } from "${OPEN}";
  try {
    const host = await openDatagramHost({ driver: Deno.args[0], wait: Deno.args[1] });
    await host.open({ bind: { family: "ipv4", address: "127.0.0.1", port: 0 } });
    console.log(host.traits.driver, host.fallbackReason);
    await host.close();
  } catch (error) {
    console.log(error.name, error.code, error.remedy);
  }
`;

async function program(flags: string[], args: string[], env: Record<string, string> = {}) {
  const file = `data:application/typescript,${encodeURIComponent(PROGRAM)}`;
  const always = ["run", "--no-check", "--no-lock", "--no-prompt", "--allow-import"];
  return await run([...always, ...flags, file, ...args], env);
}

Deno.test("openDatagramHost falls back without the ffi permission, and says why", async () => {
  const { code, out, err } = await program(["--allow-net"], ["auto", "events"]);
  equal(code, 0, err);
  match(out, /^node the permission to call C functions \(ffi\) is not granted/);
});

Deno.test("openDatagramHost refuses a demanded driver that is not there, with the remedy", async () => {
  const { out } = await program(["--allow-net"], ["fast", "events"]);
  match(out, /^CapabilityError ffi.driver-unavailable .*--allow-ffi/);
});

Deno.test("openDatagramHost lets FASTWIRE_DRIVER stand for auto, not for a driver that is named", async () => {
  const env = { FASTWIRE_DRIVER: "portable" };
  const { out } = await program(ALL, ["auto", "events"], env);
  match(out, /^node the portable driver was asked for with FASTWIRE_DRIVER/);
  if (libc() === undefined) return;
  match((await program(ALL, ["fast", "events"], env)).out, /^linux/);
});

Deno.test("openDatagramHost works on one library path, without any other permission", async () => {
  const library = libc();
  // A name without a path cannot be allowed by itself.
  if (library === undefined || !library.path.startsWith("/")) return;
  const flags = ["--allow-net", `--allow-ffi=${library.path}`];
  const { out, err } = await program(flags, ["fast", "thread"]);
  match(out, /^linux/, err);
  // Without mapped memory there is no io_uring, and the polling worker's file may not be read.
  match((await program(flags, ["auto", "events"])).out, /^node .*read/);
});

Deno.test("openDatagramHost refuses to wait on a thread without the kernel driver", async () => {
  await rejects(openDatagramHost({ driver: "portable", wait: "thread" }), (error: unknown) => {
    equal(error instanceof CapabilityError && error.code, "ffi.driver-unavailable");
    return true;
  });
});
