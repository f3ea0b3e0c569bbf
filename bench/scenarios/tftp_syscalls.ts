/**
 * System calls of a running server per megabyte, counted by strace.
 *
 * @module
 */
import type { Running } from "./harness.ts";

/**
 * Counts the calls of each server during one fetch at windows 16 and 64.
 *
 * @returns `name/window` to calls per megabyte; nothing where strace is not installed or may not attach.
 */
export async function callsPerMegabyte<
  S extends { readonly name: string; readonly process: Running },
>(
  subjects: readonly S[],
  fetch: (subject: S, window: number) => Promise<unknown>,
  megabytes: number,
): Promise<Record<string, number>> {
  const results: Record<string, number> = {};
  for (const subject of subjects) {
    for (const window of [16, 64]) {
      const calls = await counted(subject.process.pid, () => fetch(subject, window));
      if (calls !== undefined) results[`${subject.name}/${window}`] = calls / megabytes;
    }
  }
  return results;
}

async function counted(pid: number, act: () => Promise<unknown>): Promise<number | undefined> {
  const report = await Deno.makeTempFile();
  try {
    let strace: Deno.ChildProcess;
    try {
      strace = new Deno.Command("strace", {
        args: ["-f", "-c", "-U", "name,calls", "-o", report, "-p", `${pid}`],
        stdin: "null",
        stdout: "null",
        stderr: "null",
      }).spawn();
    } catch {
      console.log("left out: system calls (strace is not installed)");
      return undefined;
    }
    await attached(pid, strace.pid);
    await act();
    strace.kill("SIGINT");
    await strace.status;
    const text = await Deno.readTextFile(report);
    const total = /^total\s+(\d+)|^\s*(\d+)\s+total/m.exec(text) ??
      /(\d+)\s*(?:\d+\s*)?total/.exec(text);
    return total === null ? undefined : Number(total[1] ?? total[2]);
  } finally {
    await Deno.remove(report);
  }
}

/** Waits until the tracer has hold of the process. */
async function attached(pid: number, tracer: number): Promise<void> {
  for (let i = 0; i < 250; i++) {
    const status = await Deno.readTextFile(`/proc/${pid}/status`);
    if (Number(/TracerPid:\s+(\d+)/.exec(status)?.[1]) === tracer) break;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  // Its other threads follow at once.
  await new Promise((resolve) => setTimeout(resolve, 200));
}
