import { deepEqual, equal, match, ok } from "node:assert/strict";
import { choice, option, options } from "../schema.ts";
import { recordedTerminal } from "../testing/terminal.ts";
import { command, type Tool } from "./command.ts";
import { completionsCommand, proposals } from "./completions.ts";
import { runTool } from "./run.ts";

const TOOL: Tool = {
  name: "tftp",
  brief: "",
  commands: [command({
    name: "get",
    brief: "",
    options: options({
      driver: option(choice(["auto", "fast", "portable"]), "auto", { help: "" }),
      blockSize: option(choice(["512"]), "512", { help: "" }),
    }),
    examples: [],
    exits: [],
    run: () => Promise.resolve(),
  })],
};

const UMBRELLA: Tool = { name: "", brief: "", commands: [completionsCommand()] };
const TOOLS = { tftp: () => Promise.resolve(TOOL) };

Deno.test("proposals() completes the first word from tools and commands", async () => {
  deepEqual(await proposals([""], UMBRELLA, TOOLS), ["completions", "tftp"]);
  deepEqual(await proposals(["tf"], UMBRELLA, TOOLS), ["tftp"]);
});

Deno.test("proposals() completes commands, flags and choices of a tool", async () => {
  deepEqual(await proposals(["tftp", "g"], UMBRELLA, TOOLS), ["get"]);
  ok((await proposals(["tftp", "get", "--"], UMBRELLA, TOOLS)).includes("--block-size"));
  deepEqual(await proposals(["tftp", "get", "--driver", "f"], UMBRELLA, TOOLS), ["fast"]);
});

Deno.test("completions prints a script a shell accepts", async () => {
  for (const shell of ["bash", "zsh", "fish"]) {
    const terminal = recordedTerminal();
    equal(await runTool(UMBRELLA, ["completions", shell], terminal), 0);
    match(terminal.out, /fastwire __propose/);
  }
});

Deno.test("completions refuses an unknown shell with exit code 2", async () => {
  const terminal = recordedTerminal();
  equal(await runTool(UMBRELLA, ["completions", "toString"], terminal), 2);
  match(terminal.err, /^error: Cannot complete for "toString": expected one of bash, zsh, fish/);
});
