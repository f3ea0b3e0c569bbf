/**
 * The command `fastwire`: the libraries' tools, and what concerns all of them.
 *
 * @module
 */

import { type Command, command, type Tool } from "./internal/cli/command.ts";
import { completionsCommand, proposals, PROPOSE } from "./internal/cli/completions.ts";
import { doctorCommand } from "./internal/cli/doctor.ts";
import { guarded, runTool } from "./internal/cli/run.ts";
import { processArguments, processTerminal, setExitCode } from "./internal/cli/terminal.ts";
import { options } from "./internal/schema.ts";

interface Entry {
  readonly brief: string;
  readonly example: readonly [words: string, what: string];
  readonly main: (args: readonly string[]) => Promise<number>;
}

/** What the first word hands everything behind it to; each is loaded when it is called. */
const ENTRIES: Readonly<Record<string, Entry>> = {
  tftp: {
    brief: "TFTP server and client",
    example: ["serve /srv/tftp --listen 127.0.0.1:6969", "serve a folder"],
    main: async (args) => await (await import("./tftp/cli.ts")).main([...args]),
  },
  btest: {
    brief: "MikroTik bandwidth test, server and client",
    example: ["client 192.0.2.1 --duration 5s", "receive from a router for five seconds"],
    main: async (args) => await (await import("./btest/cli.ts")).main([...args]),
  },
  neighsync: {
    brief: "The kernel's neighbour tables, watched and kept in Redis",
    example: ["monitor", "print neighbours and what changes"],
    main: async (args) => await (await import("./neighsync/cli.ts")).main([...args]),
  },
  proxy: {
    brief: "Proxy toolkit that reads sing-box's configuration",
    example: ["run -c config.json", "run what a file describes"],
    main: async (args) => await (await import("./proxy/cli.ts")).main([...args]),
  },
  demo: {
    brief: "Show every library at work, on loopback",
    example: ["", "a tour of under 30 seconds"],
    main: async (args) => await (await import("./demo.ts")).main([...args]),
  },
};

const TOOLS: Readonly<Record<string, () => Promise<Tool>>> = {
  tftp: async () => (await import("./tftp/cli.ts")).tool,
  btest: async () => (await import("./btest/cli.ts")).tool,
  neighsync: async () => (await import("./neighsync/cli.ts")).tool,
};

/**
 * Runs `fastwire`.
 *
 * @param args Words behind the program's name. Left out in the outermost call, which takes the process's words and sets
 * its exit code.
 * @returns The exit code.
 */
export async function main(args?: readonly string[]): Promise<number> {
  const words = args ?? processArguments();
  const terminal = processTerminal();
  const code = await guarded(words, terminal, async () => {
    if (words[0] === PROPOSE) {
      const found = await proposals(words.slice(1), umbrella(), TOOLS);
      terminal.stdout.write(found.map((word) => word + "\n").join(""));
      return 0;
    }
    const at = entryIndex(words);
    if (at < 0) return await runTool(umbrella(), words, terminal);
    return await ENTRIES[words[at]!]!.main([...words.slice(0, at), ...words.slice(at + 1)]);
  });
  if (args === undefined) setExitCode(code);
  return code;
}

/** Where the word stands that names an entry: the first one, or behind options. */
function entryIndex(words: readonly string[]): number {
  const isEntry = (word: string): boolean => Object.hasOwn(ENTRIES, word);
  if (words[0]?.startsWith("-") === true) return words.findIndex(isEntry);
  return words[0] !== undefined && isEntry(words[0]) ? 0 : -1;
}

function umbrella(): Tool {
  const entries = Object.entries(ENTRIES).map(([name, { brief, example, main }]): Command =>
    // Only its name, brief and example are used: entryIndex() finds the word before any scanning.
    command({
      name,
      brief,
      options: options({}),
      examples: [example],
      exits: [0],
      run: ({ operands }) => main(operands),
    })
  );
  return {
    name: "",
    brief: "Network tools for Deno",
    commands: [...entries, doctorCommand(), completionsCommand()],
  };
}
