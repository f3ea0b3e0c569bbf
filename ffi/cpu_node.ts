/**
 * The processors' clocks as `node:os` tells them: every system, both runtimes.
 *
 * @module
 */
import { cpus } from "node:os";
import type { CpuSource } from "./cpu.ts";

/** Opens it. @returns A sentence that says why not, where it may not be asked. Never asks for a permission. */
export function openNodeClock(): CpuSource | string {
  const { Deno: deno } = globalThis as { readonly Deno?: typeof Deno };
  if (deno !== undefined) {
    const { state } = deno.permissions.querySync({ name: "sys", kind: "cpus" });
    if (state !== "granted") return "the permission to see the processors (sys) is not granted";
  }
  if (cpus().length === 0) return "this system does not tell how busy its processors are";
  return {
    name: "node",
    kinds: 5,
    idle: [0],
    wrap: Infinity,
    read: (times) => {
      times.fill(0);
      for (const { times: one } of cpus()) {
        times[0]! += one.idle;
        times[1]! += one.user;
        times[2]! += one.nice;
        times[3]! += one.sys;
        times[4]! += one.irq;
      }
      return true;
    },
    close: () => {},
  };
}
