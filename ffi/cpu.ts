/**
 * How busy the machine is: the contract, and the choice of who tells.
 *
 * Never a child process. `linux` reads `/proc/stat`, `bsd` asks the kernel of FreeBSD or macOS through the C library,
 * `node` takes the counters of `node:os`. All count the same thing: time of all processors together since the last look,
 * of which everything but idling and waiting for a disk is busy.
 *
 * @module
 */

/** One look. */
export interface CpuSample {
  /**
   * Share of all processors' time spent busy since the look before, 0 to 100 with fractions; `undefined` when it cannot
   * be known, for which {@linkcode CpuSampler.reason} says why. Two looks within one tick of the system's clock (10 ms,
   * usually) answer the same.
   */
  readonly busyPercent: number | undefined;
}

/** Something that looks at the processors' clocks. */
export interface CpuSampler {
  /** Where the numbers come from. */
  readonly source: "linux" | "bsd" | "node" | "none";
  /** Why there are none, or why they do not come from the best source; one sentence, or empty. */
  readonly reason: string;
  /** Looks. The first look counts from the opening. Costs below 0.1 ms; never throws, never waits. */
  sample(): CpuSample;
  /** Idempotent; later looks answer `undefined`. */
  close(): void;
}

/** Clocks of all processors together, one for each kind of time. */
export interface CpuSource {
  /** See {@linkcode CpuSampler.source}. */
  readonly name: "linux" | "bsd" | "node";
  /** Kinds of time there are. */
  readonly kinds: number;
  /** Which of them are idling, or waiting for a disk. */
  readonly idle: readonly number[];
  /** Where a clock starts again at 0: 2³² for 32-bit ones; `Infinity` when it does not. */
  readonly wrap: number;
  /** Writes the clocks into `times`, in any unit. @returns Whether they could be read. */
  read(times: Float64Array): boolean;
  /** Frees what it holds. */
  close(): void;
}

/**
 * Opens the best source there is. Never asks for a permission; one process needs one sampler.
 *
 * On Linux it needs permission to read `/proc/stat`; without it `node:os` is asked, which Deno allows with
 * `--allow-sys=cpus`. With neither the sampler exists and answers `undefined`.
 *
 * @example
 * ```ts
 * import { cpuSampler } from "@fastwire/net/ffi";
 * import { ok } from "node:assert/strict";
 *
 * const sampler = await cpuSampler();
 * const { busyPercent } = sampler.sample();
 * ok(busyPercent === undefined || (busyPercent >= 0 && busyPercent <= 100));
 * sampler.close();
 * ```
 */
export async function cpuSampler(): Promise<CpuSampler> {
  const reasons: string[] = [];
  const { platform } = await import("node:process");
  let source: CpuSource | string | undefined;
  if (platform === "linux") {
    const { openProcStat } = await import("./cpu_linux.ts");
    source = openProcStat();
  } else if (platform === "freebsd" || platform === "darwin") {
    const { openKernelClock } = await import("./cpu_bsd.ts");
    source = openKernelClock();
  }
  if (typeof source === "string") reasons.push(source);
  if (source === undefined || typeof source === "string") {
    const { openNodeClock } = await import("./cpu_node.ts");
    source = openNodeClock();
    if (typeof source === "string") reasons.push(source);
  }
  return sampleFrom(typeof source === "string" ? undefined : source, reasons.join("; "));
}

/**
 * A sampler over a source.
 *
 * @param source `undefined` makes a sampler that knows nothing.
 * @param reason See {@linkcode CpuSampler.reason}.
 */
export function sampleFrom(source: CpuSource | undefined, reason: string): CpuSampler {
  if (source === undefined) {
    return { source: "none", reason, sample: () => UNKNOWN, close: () => {} };
  }
  let last = new Float64Array(source.kinds);
  let now = new Float64Array(source.kinds);
  let known = source.read(last);
  // Before the first tick nothing is known to have been busy.
  let answer = 0;
  let open = true;
  return {
    source: source.name,
    reason,
    sample: () => {
      if (!open || !source.read(now)) return UNKNOWN;
      const percent = known ? busyPercent(last, now, source) : undefined;
      // No tick since: what was true a moment ago is, and the time goes on counting from there.
      if (percent !== undefined) answer = percent;
      if (percent !== undefined || !known) [last, now] = [now, last];
      known = true;
      return Object.freeze({ busyPercent: answer });
    },
    close: () => {
      if (open) source.close();
      open = false;
    },
  };
}

/**
 * Share of busy time between two readings.
 *
 * A clock that went backwards wrapped, where clocks wrap; elsewhere it did not move: Linux takes back time it had
 * counted as waiting for a disk (proc_stat(5)), and processors that are taken out of the machine take their time along.
 *
 * @returns 0 to 100; `undefined` when no time has passed.
 */
export function busyPercent(
  before: Float64Array,
  now: Float64Array,
  source: Pick<CpuSource, "idle" | "wrap">,
): number | undefined {
  let total = 0;
  let idle = 0;
  for (let kind = 0; kind < now.length; kind++) {
    const time = passed(before[kind]!, now[kind]!, source.wrap);
    total += time;
    if (source.idle.includes(kind)) idle += time;
  }
  return total > 0 ? 100 * (total - idle) / total : undefined;
}

function passed(before: number, now: number, wrap: number): number {
  if (now >= before) return now - before;
  return wrap === Infinity ? 0 : now - before + wrap;
}

const UNKNOWN: CpuSample = Object.freeze({ busyPercent: undefined });
