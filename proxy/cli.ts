/**
 * The proxy's command line: words to options, the public API, the result in words.
 *
 * @module
 */

import { command, type Tool } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { runTool } from "../internal/cli/run.ts";
import { processArguments, setExitCode } from "../internal/cli/terminal.ts";
import { boolean, choice, integer, list, option, options, path, text } from "../internal/schema.ts";
import { VERSION } from "../internal/version.ts";

const EXITS = [0, 1, 2, 3, 4, 8, 130, 143] as const;
const FILES_HELP = "Configuration file; later ones are laid over earlier ones";

/** Where the configuration is. */
const PLACES = {
  config: option(list(path()), [], { help: FILES_HELP, flag: "c", placeholder: "FILE" }),
  configDirectory: option(path(), undefined, {
    help: "Folder whose .json files are laid over those, in the order of their names",
    flag: "C",
    placeholder: "DIR",
  }),
  directory: option(path(), ".", {
    help: "What relative paths in the configuration begin at",
    flag: "D",
    placeholder: "DIR",
  }),
} as const;

const DRIVER = {
  driver: option(choice(["auto", "fast", "portable"]), "auto", {
    help: "Which side of the kernel boundary carries the bytes",
  }),
} as const;

const NO_OPTIONS = options({});

const run = command({
  name: "run",
  brief: "Run a proxy",
  options: NO_OPTIONS,
  flags: options({ ...PLACES, ...DRIVER }),
  examples: [
    ["-c config.json", "run what a file describes; SIGHUP reads it again"],
    ["-c base.json -c local.json", "lay one file over another"],
    ["-c config.json --driver portable", "without the kernel's fast paths"],
  ],
  exits: EXITS,
  logLevel: "info",
  run: async (input) => await (await import("./cli_run.ts")).runProxy(input),
});

const check = command({
  name: "check",
  brief: "Check configuration files",
  options: NO_OPTIONS,
  flags: options(PLACES),
  examples: [["-c config.json", "print every problem with path, line and column; opens no socket"]],
  exits: [0, 2, 3],
  async run({ flags }) {
    const { readConfig } = await import("./cli_config.ts");
    await readConfig({ files: flags.config, folder: flags.configDirectory }, flags.directory);
    return 0;
  },
});

const format = command({
  name: "format",
  brief: "Write a configuration file in its canonical form",
  options: NO_OPTIONS,
  flags: options({
    ...PLACES,
    write: option(boolean(), false, { help: "Write it back to the file", flag: "w" }),
  }),
  examples: [
    ["-c config.json", "print it"],
    ["-c config.json -w", "write it back; comments are lost"],
  ],
  exits: [0, 1, 2, 3],
  run: async (input) => await (await import("./cli_files.ts")).formatFiles(input),
});

const merge = command({
  name: "merge",
  brief: "Write several configuration files as one",
  operands: [{ name: "out", help: "File to write; - is standard output" }],
  options: NO_OPTIONS,
  flags: options(PLACES),
  examples: [["all.json -c base.json -c local.json", "lists are joined, later values win"]],
  exits: [0, 1, 2, 3],
  run: async (input) => await (await import("./cli_files.ts")).mergeFiles(input),
});

const generate = command({
  name: "generate",
  brief: "Make keys, passwords and identifiers",
  operands: [
    { name: "what", help: "uuid, rand, ss-password, wg-keypair or reality-keypair" },
    { name: "detail", help: "Bytes for rand, the method for ss-password", optional: true },
  ],
  options: NO_OPTIONS,
  flags: options({
    base64: option(boolean(), false, { help: "Bytes of rand as base64" }),
    hex: option(boolean(), false, { help: "Bytes of rand as hexadecimal digits" }),
  }),
  examples: [
    ["uuid", "an identifier for a user"],
    ["rand --base64 16", "sixteen random bytes"],
    ["ss-password 2022-blake3-aes-128-gcm", "a key that fits the method"],
  ],
  exits: [0, 2],
  run: async (input) => await (await import("./cli_files.ts")).generateWords(input),
});

const tools = command({
  name: "tools",
  brief: "Use the outbounds of a configuration by hand",
  operands: [
    { name: "what", help: "connect, fetch or urltest" },
    { name: "target", help: "host:port to connect to, URL to fetch, or tag to measure" },
  ],
  options: NO_OPTIONS,
  flags: options({
    ...PLACES,
    ...DRIVER,
    outbound: option(text(1024), undefined, {
      help: "Tag of the outbound; the one of the configuration's end by default",
      flag: "o",
      placeholder: "TAG",
    }),
    timeout: option(integer(1, 3600), 30, { help: "Seconds to wait", placeholder: "SECS" }),
    url: option(text(2048), "https://www.gstatic.com/generate_204", {
      help: "What urltest asks for, by HEAD",
      placeholder: "URL",
    }),
    ca: option(path(), undefined, {
      help: "File with certificates (PEM) that are trusted instead of the system's",
      placeholder: "FILE",
    }),
  }),
  examples: [
    ["connect example.com:80 -c config.json -o server", "standard input and output, connected"],
    ["fetch https://example.com/ -c config.json", "print what a server answers"],
    ["urltest group -c config.json", "milliseconds to an answer, through each member of a group"],
  ],
  exits: EXITS,
  run: async (input) => await (await import("./cli_tools.ts")).runTools(input),
});

const version = command({
  name: "version",
  brief: "Print the version",
  options: NO_OPTIONS,
  examples: [["", "print it"]],
  exits: [0],
  run({ common, terminal }) {
    terminal.stdout.write(common.json ? jsonLine({ version: VERSION }) : `${VERSION}\n`);
    return Promise.resolve(0);
  },
});

/** The tool, for the umbrella command and for completions. */
export const tool: Tool = {
  name: "proxy",
  brief: "Proxy toolkit that reads sing-box's configuration",
  commands: [run, check, format, merge, generate, tools, version],
};

/**
 * Runs the tool.
 *
 * @param args Words; the process's own when left out, and then the exit code is set too.
 * @returns The exit code.
 */
export async function main(args?: string[]): Promise<number> {
  const code = await runTool(tool, familiarWords(args ?? processArguments()));
  if (args === undefined) setExitCode(code);
  return code;
}

/** Words that users of other programs type: `config check`, `--disable-color`. */
function familiarWords(words: readonly string[]): readonly string[] {
  const rest = words[0] === "config" && words[1] === "check" ? words.slice(1) : words;
  return rest.map((word) => word === "--disable-color" ? "--color=never" : word);
}
