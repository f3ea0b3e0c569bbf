import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { choice, duration, integer, list, option, options, path, text } from "../schema.ts";
import { recordedTerminal } from "../testing/terminal.ts";
import { canonicalWords, command, type CommandInput, type Tool } from "./command.ts";
import { runTool } from "./run.ts";

interface GetOptions {
  readonly blockSize: number;
  readonly timeoutMs: number;
  readonly driver: "auto" | "fast" | "portable";
  readonly headers: readonly string[];
}

/** The worked example: a tool with one command that remembers what it was called with. */
function exampleTool(): { tool: Tool; calls: CommandInput<GetOptions, { output: string }>[] } {
  const calls: CommandInput<GetOptions, { output: string }>[] = [];
  const get = command({
    name: "get",
    brief: "Download a file",
    options: options({
      blockSize: option(integer(8, 65464), 1468, {
        help: "Block size to request",
        flag: "b",
        aliases: ["blksize"],
      }),
      timeoutMs: option(duration(10, 255_000), 1000, { help: "Patience", aliases: ["timeout"] }),
      driver: option(choice(["auto", "fast", "portable"]), "auto", { help: "Driver" }),
      headers: option(list(text()), [], { help: "More", flag: "H", aliases: ["header"] }),
    }),
    flags: options({ output: option(path(), "-", { help: "Where to write", flag: "o" }) }),
    operands: [
      { name: "url", help: "What to fetch" },
      { name: "copy", help: "A second one", optional: true },
    ],
    examples: [["tftp://host/firmware.bin", "fetch a file"]],
    exits: [0, 4, 6],
    run: (input) => {
      calls.push(input);
      return Promise.resolve(input.operands[0] === "fail" ? 9 : undefined);
    },
  });
  return { tool: { name: "example", brief: "Try things", commands: [get] }, calls };
}

Deno.test("command() hands over resolved options, flags and operands", async () => {
  const { tool, calls } = exampleTool();
  const words = ["get", "-b", "512", "--timeout-ms", "2s", "-o", "-", "tftp://host/x", "second"];
  equal(await runTool(tool, words, recordedTerminal()), 0);
  deepEqual(calls[0]?.options, { blockSize: 512, timeoutMs: 2000, driver: "auto", headers: [] });
  deepEqual(calls[0]?.flags, { output: "-" });
  deepEqual(calls[0]?.operands, ["tftp://host/x", "second"]);
  deepEqual([...calls[0]!.given], ["blockSize", "timeoutMs"]);
  ok(Object.isFrozen(calls[0]?.options));
});

Deno.test("command() answers what the handler answered", async () => {
  const { tool } = exampleTool();
  equal(await runTool(tool, ["get", "fail"], recordedTerminal()), 9);
});

Deno.test("command() takes traditional spellings and the equals sign", async () => {
  const { tool, calls } = exampleTool();
  await runTool(tool, ["get", "--blksize=1428", "--timeout", "3s", "x"], recordedTerminal());
  equal(calls[0]?.options.blockSize, 1428);
  equal(calls[0]?.options.timeoutMs, 3000);
});

Deno.test("command() collects repeated list flags in order", async () => {
  const { tool, calls } = exampleTool();
  await runTool(
    tool,
    ["get", "-H", "a", "--header", "b", "--headers", "c", "x"],
    recordedTerminal(),
  );
  deepEqual(calls[0]?.options.headers, ["a", "b", "c"]);
});

Deno.test("command() ends options at two dashes", async () => {
  const { tool, calls } = exampleTool();
  await runTool(tool, ["get", "--", "--help"], recordedTerminal());
  deepEqual(calls[0]?.operands, ["--help"]);
});

Deno.test("command() prefers a flag to the environment and that to the default", async () => {
  const { tool, calls } = exampleTool();
  const terminal = recordedTerminal({
    FASTWIRE_EXAMPLE_BLOCK_SIZE: "600",
    FASTWIRE_EXAMPLE_HEADERS: "a,b",
    FASTWIRE_DRIVER: "portable",
  });
  await runTool(tool, ["get", "x"], terminal);
  equal(calls[0]?.options.blockSize, 600);
  equal(calls[0]?.options.driver, "portable");
  deepEqual(calls[0]?.options.headers, ["a", "b"]);
  await runTool(tool, ["get", "-b", "700", "x"], terminal);
  equal(calls[1]?.options.blockSize, 700);
});

Deno.test("command() calls a bad variable a configuration error", async () => {
  const { tool, calls } = exampleTool();
  const terminal = recordedTerminal({ FASTWIRE_EXAMPLE_BLOCK_SIZE: "7" });
  equal(await runTool(tool, ["get", "x"], terminal), 3);
  match(terminal.err, /^error: Cannot use FASTWIRE_EXAMPLE_BLOCK_SIZE: it is "7", expected/);
  equal(calls.length, 0);
});

for (
  const [what, words, message] of [
    [
      "an unknown option, with a suggestion",
      ["get", "--blok-size", "8", "x"],
      "did you mean --block-size?",
    ],
    ["an unknown short option", ["get", "-z", "x"], "Cannot use -z: unknown option"],
    ["a value out of range", ["get", "-b", "7", "x"], 'Cannot use --block-size: it is "7"'],
    ["a missing operand", ["get"], "Cannot read the command line"],
    ["an operand too many", ["get", "a", "b", "c"], "Cannot read the command line"],
    ["an unknown command, with a suggestion", ["gte", "x"], "did you mean get?"],
    ["a flag without its value", ["get", "x", "-b"], "Cannot read the command line"],
  ] as const
) {
  Deno.test(`command() refuses ${what} with exit code 2`, async () => {
    const { tool, calls } = exampleTool();
    const terminal = recordedTerminal();
    equal(await runTool(tool, words, terminal), 2);
    ok(terminal.err.startsWith("error: ") && terminal.err.includes(message), terminal.err);
    ok(!terminal.err.includes("    at "), "a stack was printed");
    equal(terminal.out, "");
    equal(calls.length, 0);
  });
}

Deno.test("command() counts -v and knows the common options", async () => {
  const { tool, calls } = exampleTool();
  await runTool(tool, ["-v", "get", "-v", "--json", "--grace", "1s", "x"], recordedTerminal());
  equal(calls[0]?.verbosity, 2);
  equal(calls[0]?.common.json, true);
  equal(calls[0]?.common.graceMs, 1000);
});

Deno.test("command() refuses two options with one spelling", () => {
  const twice = {
    name: "x",
    brief: "",
    options: options({ verbosity: option(text(), "", { help: "", flag: "v" }) }),
    examples: [],
    exits: [],
    run: () => Promise.resolve(),
  };
  throws(() => command(twice), {
    name: "TypeError",
    message: 'Cannot describe command "x": two options are spelt "v", expected one',
  });
});

Deno.test("canonicalWords() leaves operands and what is behind two dashes alone", () => {
  const { tool } = exampleTool();
  deepEqual(
    canonicalWords(
      ["blksize", "--no-blksize", "--blksize", "--", "--blksize"],
      tool.commands[0]!.flags,
    ),
    ["blksize", "--no-block-size", "--block-size", "--", "--blksize"],
  );
});
