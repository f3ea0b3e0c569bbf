/** Servers under fire, and servers that have served many: they serve on, and keep nothing. */
import { ok } from "node:assert/strict";
import { capabilities } from "../ffi/mod.ts";
import type { Endurance } from "./testdata/endurance.ts";

/** `deno task test:hostile` sends a hundred thousand, and runs a thousand sessions. */
const MESSAGES = Number(Deno.env.get("FASTWIRE_HOSTILE_MESSAGES") ?? 400);
const SESSIONS = Number(Deno.env.get("FASTWIRE_HOSTILE_SESSIONS") ?? 20);
const SEED = Number(Deno.env.get("FASTWIRE_SEED") ?? Date.now() % 1_000_007);
/**
 * What the process may grow by, outside the heap mostly: buffers of the runtime's sockets, which it gives back late.
 * Measured: 12 to 240 MiB, no more after 6000 messages than after 500.
 */
const GROWTH_BYTES = 400 * 1_048_576;
const PATIENCE_MS = 60_000 + 3 * MESSAGES + 100 * SESSIONS;

const ROWS = [
  ["linux", "fast", 0, 0.7, 1],
  // Each test starts a thread: a hundred times the cost of a test.
  ["linux on threads", "fast", 1, 0, 0.1],
  ["deno", "portable", 0, 0.3, 1],
] as const;

async function endure(mode: "fire" | "cycles", words: readonly unknown[]): Promise<Endurance> {
  const path = new URL("./testdata/endurance.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", "--v8-flags=--expose-gc", path, mode, ...words.map(String)],
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), PATIENCE_MS);
  const { stdout, stderr, success } = await child.output();
  clearTimeout(timer);
  const decoder = new TextDecoder();
  ok(success, `seed ${SEED}: ${decoder.decode(stderr)}`);
  return JSON.parse(decoder.decode(stdout));
}

for (const [name, driver, workers, share, part] of ROWS) {
  const ignore = Deno.build.os !== "linux" || driver === "fast" && !capabilities().ffi;
  const messages = Math.floor(MESSAGES * share);
  const sessions = Math.floor(SESSIONS * part);
  if (messages > 0) {
    Deno.test({
      name: `btest on ${name} serves on after ${messages} hostile first messages`,
      ignore,
      fn: async () => {
        const result = await endure("fire", [driver, workers, messages, SEED]);
        const text = JSON.stringify({ seed: SEED, ...result });
        ok(result.accepted >= messages, text);
        // Bent messages are of every kind: some are refused, some begin a test.
        ok(result.failed > messages / 10 && result.started > messages / 100, text);
        keepsNothing(result, messages, text);
      },
    });
  }
  Deno.test({
    name: `btest on ${name} keeps no descriptor and no memory after ${sessions} tests`,
    ignore,
    fn: async () => {
      const result = await endure("cycles", [driver, workers, sessions, SEED]);
      keepsNothing(result, sessions, JSON.stringify(result));
    },
  });
}

/** A hundred bytes for each would be a leak; what is allowed besides is what the runtime and its compiler take. */
function keepsNothing(result: Endurance, count: number, text: string): void {
  // The runtime makes some of its own at some moment; a leak would leave one each time.
  ok(result.descriptors <= 8, text);
  ok(result.heapBytes < 3_000_000 + 100 * count, text);
  ok(result.grownBytes < GROWTH_BYTES, text);
}
