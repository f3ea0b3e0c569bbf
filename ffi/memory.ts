/**
 * Giving memory back that a process does not need any more.
 *
 * @module
 */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { resolveDriver } from "./capabilities.ts";

/**
 * Collects garbage and gives the system what is free: the runtime by itself keeps both for later. A process that has just
 * started, or comes to rest after a burst, is a quarter smaller for it.
 *
 * Stops the thread for about a millisecond per megabyte of live memory: for moments in which nobody waits. Does what can
 * be done where it runs, and never fails.
 *
 * @example
 * ```ts
 * import { releaseMemory } from "@fastwire/net/ffi";
 *
 * await releaseMemory();
 * ```
 */
export async function releaseMemory(): Promise<void> {
  collector()?.();
  if (resolveDriver("auto", ["ffi"]).use !== "fast") return;
  const { libc } = await import("./libc_linux.ts");
  libc()?.malloc_trim?.(0n);
}

/** V8's own verb for a full collection, which it shows to contexts that are made after it was asked to. */
function collector(): (() => void) | undefined {
  if (collect !== undefined) return collect ?? undefined;
  try {
    setFlagsFromString("--expose-gc");
    const found: unknown = runInNewContext("typeof gc === 'function' ? gc : undefined");
    collect = typeof found === "function" ? () => void found() : null;
  } catch {
    // A runtime without contexts of its own.
    collect = null;
  }
  return collect ?? undefined;
}

/** A cache of a pure result; `null` when there is none. */
let collect: (() => void) | null | undefined;
