import { equal } from "node:assert/strict";
import { openRing } from "./io_uring_linux.ts";
import { bindAll } from "./libc_linux.ts";

const library = bindAll();

/** The rows of testdata/stream_cycles.ts, and how often each opens and closes a connection. */
const ROWS: readonly (readonly [row: string, cycles: number])[] = [
  ["uring", 1_000],
  ["worker", 1000],
  ["thread", 1_000],
  ["deno", 1000],
  ["node", 500],
];

/** Why a row cannot run here; empty when it can. */
function missing(row: string): string {
  if (row === "deno" || row === "node") {
    return Deno.build.os === "linux" ? "" : "descriptors are counted on Linux only";
  }
  if (library === undefined) return "no C library";
  if (row !== "uring") return "";
  const ring = openRing(library);
  if (typeof ring === "string") return ring;
  ring.close();
  return "";
}

async function runs(program: string, args: readonly string[]): Promise<void> {
  const path = new URL(`./testdata/${program}`, import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", path, ...args],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  const { stdout, stderr } = await child.output();
  clearTimeout(timer);
  equal(new TextDecoder().decode(stdout), "ok\n", new TextDecoder().decode(stderr));
}

for (const [row, cycles] of ROWS) {
  const reason = missing(row);
  if (reason !== "") console.warn(`streams on ${row} are not tested for leaks: ${reason}`);
  Deno.test({
    name: `streams on ${row} leave no descriptor open after ${cycles} connections`,
    ignore: reason !== "",
    fn: () => runs("stream_cycles.ts", [row, String(cycles)]),
  });
}

Deno.test({
  name:
    "StreamListener refuses connections it has no descriptor for, without spinning, and goes on",
  ignore: library === undefined,
  fn: () => runs("stream_exhausted.ts", []),
});
