import { deepEqual, equal, match, ok } from "node:assert/strict";
import { demonstrate, type DemoPart, type DemoRow } from "./demo.ts";
import { recordedTerminal } from "./internal/testing/terminal.ts";

const GOOD: DemoRow = {
  what: "get",
  driver: "node",
  bytes: 2_000_000,
  durationMs: 1000,
  verified: true,
};
const BAD: DemoRow = { ...GOOD, what: "put", verified: false };
const SKIPPED: DemoRow = { what: "curl", skipped: "curl was not found" };

/** Runs rows that are given. */
async function shown(
  rows: readonly DemoRow[],
  json = false,
): Promise<{ readonly code: number; readonly stdout: string }> {
  const part: DemoPart = async function* () {
    for (const row of rows) yield await Promise.resolve(row);
  };
  const terminal = recordedTerminal();
  const input = { largestBytes: 1, signal: new AbortController().signal };
  const code = await demonstrate(
    { tftp: () => Promise.resolve(part) },
    input,
    terminal,
    json,
  );
  return { code, stdout: terminal.out };
}

Deno.test("the demo prints a line per row and a sum", async () => {
  const { code, stdout } = await shown([GOOD, SKIPPED]);
  equal(code, 0);
  match(stdout, /^tftp +get +node +2,000,000 +1\.0 s +2\.0 +yes$/m);
  match(stdout, /^tftp +curl +skipped: curl was not found$/m);
  match(stdout, /^1 verified, 0 mismatched, 1 skipped, in /m);
});

Deno.test("the demo ends with 9 when something arrived changed", async () => {
  const { code, stdout } = await shown([GOOD, BAD, GOOD]);
  equal(code, 9);
  match(stdout, /^tftp +put .* NO$/m);
});

Deno.test("the demo ends with 9 when nothing could be shown", async () => {
  equal((await shown([SKIPPED])).code, 9);
});

Deno.test("the demo prints an object a line for programs", async () => {
  const { stdout } = await shown([GOOD, SKIPPED], true);
  const [first, second, sum] = stdout.trimEnd().split("\n").map((line) => JSON.parse(line));
  deepEqual(first, { type: "row", library: "tftp", ...GOOD, bytesPerSecond: 2_000_000 });
  deepEqual(second, { type: "row", library: "tftp", ...SKIPPED });
  deepEqual([sum.type, sum.verified, sum.mismatched, sum.skipped], ["sum", 1, 0, 1]);
});

/** Runs `fastwire demo` with a folder for temporary files of its own, and answers what was left there. */
async function ran(
  words: readonly string[],
  interruptAtFirstRow: boolean,
): Promise<{ readonly code: number; readonly stdout: string; readonly left: readonly string[] }> {
  const folder = await Deno.makeTempDir();
  try {
    await using child = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "--no-check", "mod.ts", "demo", "--json", ...words],
      cwd: import.meta.dirname!,
      env: { TMPDIR: folder },
      stdout: "piped",
    }).spawn();
    let stdout = "";
    for await (const piece of child.stdout.pipeThrough(new TextDecoderStream())) {
      if (stdout === "" && interruptAtFirstRow) child.kill("SIGTERM");
      stdout += piece;
    }
    const { code } = await child.status;
    const left = (await Array.fromAsync(Deno.readDir(folder))).map(({ name }) => name);
    return { code, stdout, left };
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

Deno.test("fastwire demo moves real files, verifies them and leaves nothing", async () => {
  const { code, stdout, left } = await ran(["--largest-bytes", "100000"], false);
  equal(code, 0);
  const rows: { type: string; bytes?: number; verified?: boolean | number }[] = stdout
    .trimEnd().split("\n").map((line: string) => JSON.parse(line));
  const done = rows.filter(({ type, bytes }) => type === "row" && bytes !== undefined);
  ok(done.length >= 12, `${done.length} rows`);
  ok(done.every(({ verified }) => verified === true));
  deepEqual(left, []);
});

Deno.test("fastwire demo that is stopped ends with 143 and leaves nothing", async () => {
  const { code, left } = await ran(["--largest-bytes", "5000000"], true);
  equal(code, 143);
  deepEqual(left, []);
});
