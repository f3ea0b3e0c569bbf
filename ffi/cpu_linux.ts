/**
 * The processors' clocks of Linux: the first line of `/proc/stat` (proc_stat(5)), which needs no C library.
 *
 * @module
 */
import { closeSync, openSync, readSync } from "node:fs";
import type { CpuSource } from "./cpu.ts";

/** Opens it. @returns A sentence that says why not, where it may not be read. Never asks for a permission. */
export function openProcStat(): CpuSource | string {
  const { Deno: deno } = globalThis as { readonly Deno?: typeof Deno };
  if (deno !== undefined) {
    const { state } = deno.permissions.querySync({ name: "read", path: PATH });
    if (state !== "granted") return `the permission to read ${PATH} (read) is not granted`;
  }
  let fd: number;
  try {
    fd = openSync(PATH, "r");
  } catch (error) {
    return `${PATH} cannot be opened (${error instanceof Error ? error.message : String(error)})`;
  }
  const bytes = new Uint8Array(new ArrayBuffer(LINE_BYTES));
  const decoder = new TextDecoder();
  return {
    name: "linux",
    kinds: PROC_STAT.kinds,
    idle: PROC_STAT.idle,
    wrap: PROC_STAT.wrap,
    read: (times) => {
      try {
        // The kernel writes the file anew for each read at its beginning.
        const count = readSync(fd, bytes, 0, LINE_BYTES, 0);
        return readProcStat(decoder.decode(bytes.subarray(0, count)), times);
      } catch {
        return false;
      }
    },
    close: () => closeSync(fd),
  };
}

/**
 * Reads the line of all processors: `cpu  user nice system idle iowait irq softirq steal guest guest_nice`, in ticks.
 *
 * Time of guests is part of `user` and `nice` already and is left out. Kernels before 2.6.33 have fewer kinds: those
 * are 0.
 *
 * @param text The beginning of the file, at least the first line.
 * @returns Whether it is such a line.
 */
export function readProcStat(text: string, times: Float64Array): boolean {
  const line = /^cpu +((?:\d+ )+\d+) *\n/.exec(text);
  if (line === null) return false;
  const words = line[1]!.split(" ");
  if (words.length < LEAST_KINDS) return false;
  for (let kind = 0; kind < PROC_STAT.kinds; kind++) times[kind] = Number(words[kind] ?? 0);
  return true;
}

/** What the line says: eight kinds, of which `idle` and `iowait` are not busy. 64 bits do not wrap. */
export const PROC_STAT: Pick<CpuSource, "kinds" | "idle" | "wrap"> = {
  kinds: 8,
  idle: [3, 4],
  wrap: Infinity,
};

const PATH = "/proc/stat";
/** Eleven words of at most 21 bytes. */
const LINE_BYTES = 256;
/** user, nice, system, idle: since the beginning. */
const LEAST_KINDS = 4;
