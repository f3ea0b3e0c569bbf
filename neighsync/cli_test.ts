// The command line without a kernel and without Redis: every setting as flag, variable and key of a file, and what is said
// about those that are wrong.

import { deepEqual, equal, match, ok } from "node:assert/strict";
import { runTool } from "../internal/cli/run.ts";
import { recordedTerminal } from "../internal/testing/terminal.ts";
import { tool } from "./cli.ts";

async function run(
  words: readonly string[],
  environment: Readonly<Record<string, string>> = {},
): Promise<{ readonly code: number; readonly out: string; readonly err: string }> {
  const terminal = recordedTerminal(environment);
  const code = await runTool(tool, words, terminal);
  return { code, out: terminal.out, err: terminal.err };
}

/** A configuration file that goes with the test. */
class Config implements Disposable {
  readonly path: string = Deno.makeTempFileSync({ suffix: ".toml" });

  constructor(text: string) {
    Deno.writeTextFileSync(this.path, text);
  }

  [Symbol.dispose](): void {
    Deno.removeSync(this.path);
  }
}

/** Key of a file, short flag with a value, variable with a value, and how both are printed; the default. */
const SETTINGS: readonly (readonly [
  key: string,
  flag: readonly [words: readonly string[], printed: string],
  variable: readonly [name: string, value: string, printed: string],
  fallback: string | undefined,
])[] = [
  [
    "performance.auto_tune",
    [["--auto-tune"], "true"],
    ["PERFORMANCE_AUTO_TUNE", "true", "true"],
    "false",
  ],
  [
    "deployment.lease_key",
    [["--lease-key", "LEASE"], '"LEASE"'],
    ["LEASE_KEY", "OTHER", '"OTHER"'],
    undefined,
  ],
  [
    "deployment.lease_id",
    [["--lease-id", "left"], '"left"'],
    ["DEPLOYMENT_LEASE_ID", "right", '"right"'],
    undefined,
  ],
  [
    "deployment.lease_ttl_ms",
    [["--lease-ttl", "9s"], "9000"],
    ["LEASE_TTL", "2s", "2000"],
    "30000",
  ],
  [
    "advanced.memory_limit",
    [["--memory-limit", "256MiB"], "268435456"],
    ["ADVANCED_MEMORY_LIMIT", "1MiB", "1048576"],
    "0",
  ],
];

/** The line of a key in what `--print-config` prints. */
function lineOf(printed: string, key: string): string {
  const [section, name] = key.split(".");
  const part = printed.split(/^\[(\w+)\]$/m);
  const lines = part[part.indexOf(section!) + 1]!.split("\n");
  return lines.find((line) => line.replace(/^# /, "").startsWith(`${name} `)) ?? "";
}

Deno.test("neighsync reads each setting from a flag before a variable before a file before its default", async () => {
  for (const [key, [words, typed], [variable, value, printed], fallback] of SETTINGS) {
    const [section, name] = key.split(".");
    const environment = { [`FASTWIRE_NEIGHSYNC_${variable}`]: value };
    using file = new Config(`[${section}]\n${name} = ${printed}\n`);
    const print = ["run", "--print-config"];
    const shown = async (more: readonly string[], around = {}): Promise<string> => {
      const { code, out, err } = await run([...print, ...more], around);
      equal(code, 0, err);
      return lineOf(out, key);
    };
    const unset = fallback === undefined
      ? `# ${name} is not set # default`
      : `${name} = ${fallback} # default`;
    equal(await shown([]), unset);
    equal(await shown(["-c", file.path]), `${name} = ${printed} # ${file.path}`);
    equal(await shown(["-c", file.path], environment), `${name} = ${printed} # option`);
    equal(await shown([...words, "-c", file.path], environment), `${name} = ${typed} # option`);
  }
});

Deno.test("neighsync config schema knows each setting, with its default", async () => {
  const { code, out } = await run(["config", "schema"]);
  equal(code, 0);
  const { properties } = JSON.parse(out);
  for (const [key, , , fallback] of SETTINGS) {
    const [section, name] = key.split(".");
    const found = properties[section!].properties[name!];
    ok(found.description.length > 10, key);
    equal(found.default, fallback === undefined ? undefined : JSON.parse(fallback), key);
  }
});

const WRONG: readonly (readonly [text: string, says: RegExp])[] = [
  [
    "[performance]\nauto_tun = true\n",
    /unknown key "performance.auto_tun", expected "performance.auto_tune"/,
  ],
  ["[performance]\nauto_tune = 3\n", /auto_tune|autoTune/],
  ["[deployment]\nlease_keys = 'x'\n", /expected "deployment.lease_key"/],
  ["[deployment]\nlease_tll_ms = '1s'\n", /expected "deployment.lease_ttl_ms"/],
  ["[deployment]\nlease_ttl_ms = '499ms'\n", /500ms to 1h/],
  ["[advanced]\nmemory_limits = 1\n", /expected "advanced.memory_limit"/],
  ["[advanced]\nmemory_limit = -1\n", /memoryLimit|memory_limit/],
  ["[advancd]\nmemory_limit = 1\n", /unknown section "advancd", expected "advanced"/],
];

Deno.test("neighsync config check says what is wrong with a file, and what was meant", async () => {
  for (const [text, says] of WRONG) {
    using file = new Config(text);
    const { code, err } = await run(["config", "check", "-c", file.path]);
    equal(code, 3, text);
    match(err, says);
  }
  using right = new Config(
    "[performance]\nauto_tune = true\n[deployment]\nlease_key = 'x'\nlease_id = 'a'\nlease_ttl_ms = '5s'\n" +
      "[advanced]\nmemory_limit = '1GiB'\n",
  );
  deepEqual((await run(["config", "check", "-c", right.path])).code, 0);
  match((await run(["run", "--lease-keyy", "x"])).err, /did you mean --lease-key\?/);
});

const SPELLINGS: readonly (readonly string[])[] = [
  ["bench", "nothing"],
  ["--benchmark", "nothing"],
  ["--benchmark=nothing"],
  ["--events", "5", "--benchmark", "nothing", "-q"],
  ["-q", "--benchmark=nothing", "--events", "5"],
];

Deno.test("neighsync takes --benchmark for bench, wherever it stands", async () => {
  for (const words of SPELLINGS) {
    const { code, err } = await run(words);
    equal(code, 2);
    match(err, /Cannot measure "nothing": expected one of warm-restart, /, words.join(" "));
  }
  const { code, out } = await run(["--benchmark", "parse", "--neighbors", "100", "--json"]);
  equal(code, 0);
  const { mode, synthetic, rows } = JSON.parse(out);
  deepEqual([mode, synthetic, rows], ["parse", true, 100]);
});
