/**
 * Words → flags and operands, by Stricli. Loaded only when a command is about to run or to be completed.
 *
 * @module
 */

import {
  AliasNotFoundError,
  type Application,
  ArgumentParseError,
  ArgumentScannerError,
  buildApplication,
  buildCommand,
  buildRouteMap,
  type CommandContext,
  FlagNotFoundError,
  proposeCompletions,
  run,
  text_en,
} from "@stricli/core";
import { type FlatOption, nearest, readWord } from "../schema.ts";
import {
  canonicalWords,
  type CollectedWords,
  type Command,
  COMMON,
  flagHint,
  type Tool,
  UsageError,
} from "./command.ts";

/** What the words asked for. */
export interface Scanned {
  readonly command: Command;
  readonly words: CollectedWords & { readonly values: Map<string, unknown> };
}

/**
 * Finds the command and reads its words.
 *
 * @param words Everything behind the tool's name, the command's name first.
 * @throws {UsageError} When a word is unknown, missing or cannot be read.
 */
export async function scan(tool: Tool, words: readonly string[]): Promise<Scanned> {
  let scanned: Scanned | undefined;
  let mistake: UsageError | undefined;
  const app = application(tool, (found) => scanned = found, (error) => mistake = error);
  const name = words[0] ?? "";
  const command = tool.commands.find((candidate) => candidate.name === name);
  if (command === undefined) throw unknownCommand(tool, name);
  // Stricli reports by printing; every report of a mistake passes through the text callbacks, which keep the error.
  const silent = { write: () => {} };
  const canonical = canonicalWords(words.slice(1), [...command.flags, ...COMMON.flat]);
  await run(app, [name, ...canonical], { process: { stdout: silent, stderr: silent } });
  if (mistake !== undefined) throw mistake;
  if (scanned === undefined) throw unknownCommand(tool, name);
  return scanned;
}

/**
 * What could stand in place of the last word.
 *
 * @param words Everything behind the tool's name; the last one may be empty or unfinished.
 */
export async function propose(tool: Tool, words: readonly string[]): Promise<readonly string[]> {
  const app = application(tool, () => {}, () => {});
  const silent = { write: () => {} };
  const proposals = await proposeCompletions(app, words, {
    process: { stdout: silent, stderr: silent },
  });
  return proposals.map((proposal) => proposal.completion);
}

/** The mistake of naming a command that does not exist. */
export function unknownCommand(tool: Tool, name: string): UsageError {
  const names = tool.commands.map((command) => command.name);
  const near = nearest(name, names);
  return new UsageError(
    `Cannot run ${JSON.stringify(name)}: unknown command, expected one of ${names.join(", ")}`,
    near === undefined ? "--help shows what there is" : `did you mean ${near}?`,
  );
}

function application(
  tool: Tool,
  found: (scanned: Scanned) => void,
  failed: (mistake: UsageError) => void,
): Application<CommandContext> {
  const routes = Object.fromEntries(
    tool.commands.map((command) => [command.name, stricliCommand(command, found)]),
  );
  const flags = (name: string): readonly FlatOption[] => [
    ...tool.commands.find((command) => command.name === name)?.flags ?? [],
    ...COMMON.flat,
  ];
  return buildApplication(buildRouteMap({ routes, docs: { brief: tool.brief } }), {
    name: tool.name === "" ? "fastwire" : tool.name,
    scanner: { caseStyle: "allow-kebab-for-camel", allowArgumentEscapeSequence: true },
    localization: {
      text: {
        ...text_en,
        exceptionWhileParsingArguments: (error) => {
          failed(usageError(error, tool.commands.flatMap((command) => flags(command.name))));
          return "";
        },
        exceptionWhileRunningCommand: (error) => {
          failed(usageError(error, []));
          return "";
        },
      },
    },
  }, {}); // no integrations: help and version are run.ts's, and -H stays free
}

function stricliCommand(
  command: Command,
  found: (scanned: Scanned) => void,
): ReturnType<typeof buildCommand> {
  const all = [...command.flags, ...COMMON.flat];
  const byKey = new Map(all.map((flag) => [camelCase(flag.flagName), flag]));
  const flags = Object.fromEntries([...byKey].map(([key, flag]) => [key, stricliFlag(flag)]));
  const aliases = Object.fromEntries([
    ["v", "verbose"],
    ...[...byKey].flatMap(([key, { option }]) =>
      option.details.flag === undefined ? [] : [[option.details.flag, key]]
    ),
  ]);
  const parameters = command.operands.map(({ name, help, optional }) => ({
    brief: help,
    placeholder: name,
    parse: String,
    optional: optional === true,
  }));
  const collect = (given: Readonly<Record<string, unknown>>, ...operands: string[]): void => {
    const values = new Map<string, unknown>();
    for (const [key, { flagName }] of byKey) {
      if (given[key] !== undefined) values.set(flagName, given[key]);
    }
    const verbosity = Number(given["verbose"] ?? 0);
    const present = operands.filter((operand) => operand !== undefined);
    found({ command, words: { values, operands: present, verbosity } });
  };
  return buildCommand({
    func: collect,
    // Stricli derives the parameter types from a literal; this table is built from data.
    parameters: {
      flags: {
        ...flags,
        verbose: { kind: "counter", brief: "Log more", optional: true },
      },
      aliases,
      positional: { kind: "tuple", parameters },
    } as never,
    docs: { brief: command.brief },
  });
}

function stricliFlag(flag: FlatOption): Readonly<Record<string, unknown>> {
  const { flagName, option } = flag;
  const { kind, choices } = option.value;
  const common = { brief: option.details.help, optional: true };
  if (kind === "boolean") return { ...common, kind };
  return {
    ...common,
    kind: "parsed",
    parse: (word: string) => readWord(option, word, `--${flagName}`),
    ...(kind === "list" ? { variadic: true } : {}),
    ...(choices.length === 0 ? {} : { proposeCompletions: () => choices }),
  };
}

function usageError(error: unknown, flags: readonly FlatOption[]): UsageError {
  const cause = { cause: error };
  if (error instanceof FlagNotFoundError) {
    const message = `Cannot use --${error.input}: unknown option`;
    return new UsageError(message, flagHint(error.input, flags), cause);
  }
  if (error instanceof AliasNotFoundError) {
    return new UsageError(`Cannot use -${error.input}: unknown option`, flagHint("", flags), cause);
  }
  if (error instanceof ArgumentParseError && error.exception instanceof Error) {
    return new UsageError(
      error.exception.message,
      "--help shows the ranges and the defaults",
      cause,
    );
  }
  const text = error instanceof ArgumentScannerError ? error.message : String(error);
  return new UsageError(`Cannot read the command line: ${text}`, "--help shows the usage", cause);
}

function camelCase(flagName: string): string {
  return flagName.replace(/-([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());
}
