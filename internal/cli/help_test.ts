import { equal, match, ok } from "node:assert/strict";
import { choice, integer, list, option, options, secret, text } from "../schema.ts";
import { recordedTerminal } from "../testing/terminal.ts";
import { command, type Tool } from "./command.ts";
import { commandHelp } from "./help.ts";
import { runTool } from "./run.ts";

const TOOL: Tool = {
  name: "example",
  brief: "Try things",
  commands: [command({
    name: "get",
    brief: "Download a file",
    options: options({
      blockSize: option(integer(8, 65464), 1468, {
        help: "Block size to request",
        flag: "b",
        aliases: ["blksize"],
      }),
      password: option(secret(), "hidden", { help: "Password" }),
      driver: option(choice(["auto", "fast"]), "auto", { help: "Driver", group: "System" }),
      write: option(list(text()), [], { help: "Patterns" }),
    }),
    operands: [{ name: "url", help: "What to fetch" }, {
      name: "dest",
      help: "Where to",
      optional: true,
    }],
    examples: [["tftp://host/firmware.bin", "fetch a file"]],
    exits: [0, 6],
    run: () => Promise.resolve(),
  })],
};

Deno.test("commandHelp() shows examples before options", () => {
  const help = commandHelp(TOOL, TOOL.commands[0]!, true, 80);
  ok(help.indexOf("Examples:") < help.indexOf("Options:"));
  match(help, /^Usage: fastwire example get \[options\] URL \[DEST\]$/m);
});

Deno.test("commandHelp() shows ranges, defaults, spellings, variables and exit codes", () => {
  const help = commandHelp(TOOL, TOOL.commands[0]!, true, 100);
  match(help, /-b, --block-size N +Block size to request \(8 to 65464; default 1468\)/);
  match(help, /also --blksize/);
  match(help, /env FASTWIRE_EXAMPLE_BLOCK_SIZE/);
  match(help, /System:\n +--driver WORD +Driver \(auto, fast; default auto\)/);
  match(help, /^ {4}6 {2}timeout$/m);
});

Deno.test("commandHelp() never shows the default of a secret", () => {
  const help = commandHelp(TOOL, TOOL.commands[0]!, true, 80);
  equal(help.includes("hidden"), false);
});

Deno.test("commandHelp() stays within its width", () => {
  for (const line of commandHelp(TOOL, TOOL.commands[0]!, true, 80).split("\n")) {
    ok(line.length <= 80, line);
  }
});

Deno.test("the short help leaves variables out and the full one is longer", () => {
  const short = commandHelp(TOOL, TOOL.commands[0]!, false, 80);
  equal(short.includes("FASTWIRE_"), false);
  ok(short.length < commandHelp(TOOL, TOOL.commands[0]!, true, 80).length);
});

Deno.test("a tool without words prints short help on stderr and answers 2", async () => {
  const terminal = recordedTerminal();
  equal(await runTool(TOOL, [], terminal), 2);
  equal(terminal.out, "");
  match(terminal.err, /^fastwire example: Try things$/m);
});

Deno.test("--help and -h print on stdout and answer 0", async () => {
  for (const words of [["--help"], ["get", "-h"], ["get", "--help", "x"]]) {
    const terminal = recordedTerminal();
    equal(await runTool(TOOL, words, terminal), 0);
    equal(terminal.err, "");
    match(terminal.out, /^fastwire example/);
  }
});
