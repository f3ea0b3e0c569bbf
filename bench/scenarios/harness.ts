/**
 * What the scenarios share: processes and what they cost, medians, tables, result files.
 *
 * @module
 */
import { createHash } from "node:crypto";

/** Clock ticks per second in `/proc/PID/stat` (`USER_HZ`, fixed by the kernel's ABI). */
const TICKS = 100;

/** A process that was started, and its children. */
export interface Running {
  readonly pid: number;
  /** CPU seconds of the process and everything it started and waited for. */
  cpuSeconds(): number;
  /** Resident memory, bytes. */
  residentBytes(): number;
  /** Ends it and waits. */
  stop(): Promise<void>;
}

/** Starts a program; it is ready when `ready` settles. */
export async function start(
  command: string,
  args: readonly string[],
  ready: (stderr: ReadableStream<Uint8Array>) => Promise<void>,
): Promise<Running> {
  const child = new Deno.Command(command, {
    args: [...args],
    stdin: "null",
    stdout: "null",
    stderr: "piped",
    // The runtime's own look for a newer one would be measured with what it runs.
    env: { DENO_NO_UPDATE_CHECK: "1" },
  }).spawn();
  try {
    await ready(child.stderr);
  } catch (error) {
    child.kill("SIGKILL");
    await child.status;
    throw error;
  }
  return {
    pid: child.pid,
    cpuSeconds: () => familyCpu(child.pid),
    residentBytes: () => resident(child.pid),
    async stop(): Promise<void> {
      child.kill("SIGTERM");
      await child.status;
    },
  };
}

/** Settles when a line that matches came; the rest of the output is read and thrown away. */
export async function untilLine(
  stream: ReadableStream<Uint8Array>,
  pattern: RegExp,
  limitMs = 10_000,
): Promise<string> {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  const timer = setTimeout(() => reader.cancel().catch(() => {}), limitMs);
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) throw new Error(`No line matches ${pattern}, but: ${text}`);
      text += value;
      const found = pattern.exec(text);
      if (found !== null) return found[0];
    }
  } finally {
    clearTimeout(timer);
    void drain(reader);
  }
}

async function drain(reader: ReadableStreamDefaultReader<string>): Promise<void> {
  while (!(await reader.read()).done);
}

/** Settles when somebody is bound to a UDP port. */
export async function untilBound(port: number, limitMs = 5000): Promise<void> {
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  const until = performance.now() + limitMs;
  while (performance.now() < until) {
    for (const table of ["/proc/net/udp", "/proc/net/udp6"]) {
      if ((await Deno.readTextFile(table)).includes(wanted)) return;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  throw new Error(`Nobody listens on UDP port ${port}`);
}

/** CPU seconds of a process, all its threads, and everything it started; 0 when there is none. */
export function familyCpu(pid: number): number {
  let seconds = cpuOf(pid);
  for (const child of children(pid)) seconds += familyCpu(child);
  return seconds;
}

function cpuOf(pid: number): number {
  try {
    const stat = Deno.readTextFileSync(`/proc/${pid}/stat`);
    // Behind the name, which may hold anything: utime, stime, cutime and cstime are fields 14 to 17 (proc(5)).
    const fields = stat.slice(stat.lastIndexOf(")") + 2).split(" ");
    return [11, 12, 13, 14].reduce((sum, at) => sum + Number(fields[at]), 0) / TICKS;
  } catch {
    return 0;
  }
}

function children(pid: number): number[] {
  try {
    const text = Deno.readTextFileSync(`/proc/${pid}/task/${pid}/children`);
    return text.split(" ").filter((word) => word !== "").map(Number);
  } catch {
    return [];
  }
}

/** Resident memory of a process, bytes. */
export function resident(pid: number): number {
  const text = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+)/.exec(text)?.[1] ?? 0) * 1024;
}

/** SHA-256 of a file, hexadecimal. */
export async function fileHash(path: string): Promise<string> {
  const hash = createHash("sha256");
  const file = await Deno.open(path);
  for await (const chunk of file.readable) hash.update(chunk);
  return hash.digest("hex");
}

/** Median, minimum and maximum. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The spread of some numbers. */
export function spread(values: readonly number[]): Spread {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = (sorted.length - 1) / 2;
  const median = (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle)]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** The value below which a share of the numbers lies. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))]!;
}

/** What the numbers were made on. */
export function machine(): Readonly<Record<string, unknown>> {
  const cpu = /model name\s*:\s*(.*)/.exec(Deno.readTextFileSync("/proc/cpuinfo"))?.[1] ?? "";
  return {
    kernel: Deno.osRelease(),
    deno: Deno.version.deno,
    v8: Deno.version.v8,
    cores: navigator.hardwareConcurrency,
    cpu,
    loadAverage: Deno.loadavg()[0],
  };
}

/** The commit the numbers belong to. */
export function commit(): string {
  const { success, stdout } = new Deno.Command("git", { args: ["rev-parse", "--short", "HEAD"] })
    .outputSync();
  return success ? new TextDecoder().decode(stdout).trim() : "unknown";
}

/** Prints columns. */
export function print(rows: readonly (readonly string[])[]): void {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  for (const row of rows) {
    console.log(
      row.map((cell, column) =>
        column === 0 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!)
      ).join("  "),
    );
  }
}
