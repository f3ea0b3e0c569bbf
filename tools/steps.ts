/**
 * Runs programs one after another and says how long each took.
 *
 * @module
 */

/** A program to run, or a function that answers whether all is well. */
export interface Step {
  readonly name: string;
  readonly run: () => Promise<boolean>;
}

/** The repository's root. */
export const ROOT: URL = new URL("..", import.meta.url);

/**
 * A step that runs this Deno with `args` in the repository's root.
 *
 * @param name How it is reported.
 */
export function denoStep(name: string, args: readonly string[]): Step {
  return { name, run: async () => await runDeno(args) === 0 };
}

/** Runs this Deno in the repository's root with our terminal; answers its exit code. */
export async function runDeno(
  args: readonly string[],
  env: Readonly<Record<string, string>> = {},
): Promise<number> {
  const child = new Deno.Command(Deno.execPath(), {
    args: [...args],
    cwd: ROOT,
    env: { ...certificateStore(), ...env },
    stdin: "null",
    stdout: "inherit",
    stderr: "inherit",
  }).spawn();
  return (await child.status).code;
}

/** Machines behind an intercepting proxy keep its certificate in the system's store, which Deno does not read. */
export function certificateStore(): Record<string, string> {
  return { DENO_TLS_CA_STORE: Deno.env.get("DENO_TLS_CA_STORE") ?? "system,mozilla" };
}

/**
 * Runs every step, also after a failure, so that one run shows all there is to mend.
 *
 * @returns How many failed.
 */
export async function runSteps(steps: readonly Step[]): Promise<number> {
  const failed: string[] = [];
  for (const { name, run } of steps) {
    const startedAt = performance.now();
    console.error(`== ${name}`);
    const ok = await run();
    const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
    console.error(`== ${name}: ${ok ? "ok" : "FAILED"} (${seconds} s)`);
    if (!ok) failed.push(name);
  }
  const list = failed.length === 0 ? "" : `: ${failed.join(", ")}`;
  console.error(`check: ${steps.length - failed.length} passed, ${failed.length} failed${list}`);
  return failed.length;
}
