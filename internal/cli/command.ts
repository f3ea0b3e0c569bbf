/**
 * Commands described by their options: from one description come the flags, the environment names, the help text and
 * the completion proposals. Stricli reads the words; what they mean is decided by `internal/schema.ts`.
 *
 * @module
 */

import {
  boolean,
  choice,
  duration,
  type FlatOption,
  nearest,
  type Option,
  option,
  options as describe,
  type OptionsSchema,
  readWord,
  resolve,
} from "../schema.ts";
import type { Terminal } from "./terminal.ts";

/** A word that is no flag. */
export interface Operand {
  /** As it stands in the usage line, without brackets: `url`. */
  readonly name: string;
  /** One line. */
  readonly help: string;
  /** May be left out; only behind operands that may not. */
  readonly optional?: boolean;
}

/** Options that every command takes. */
export interface CommonOptions {
  readonly json: boolean;
  readonly quiet: boolean;
  readonly debug: boolean;
  readonly color: "auto" | "always" | "never";
  readonly logLevel: "error" | "warning" | "info" | "debug" | "trace" | undefined;
  readonly logFormat: "human" | "json" | "syslog";
  /** Milliseconds a stop by signal may take. */
  readonly graceMs: number;
}

/** What a command is called with. */
export interface CommandInput<T, F> {
  /** The library's options, resolved. */
  readonly options: T;
  /** The names of those that were typed or came from the environment: `blockSize`, `socket.receiveBufferBytes`. */
  readonly given: ReadonlySet<string>;
  /** The command's own flags, resolved. */
  readonly flags: F;
  readonly operands: readonly string[];
  readonly common: CommonOptions;
  /** How often `-v` was given. */
  readonly verbosity: number;
  readonly terminal: Terminal;
  /** Aborted by the first SIGINT or SIGTERM. */
  readonly signal: AbortSignal;
}

/** What a command is made from. */
export interface CommandSpec<T extends object, F extends object> {
  readonly name: string;
  /** One line, imperative, no full stop. */
  readonly brief: string;
  /** The library's options. */
  readonly options: OptionsSchema<T>;
  /** What only the command line has: `--output`. */
  readonly flags?: OptionsSchema<F>;
  readonly operands?: readonly Operand[];
  /** Words after the command's name, and what they do. */
  readonly examples: readonly (readonly [words: string, what: string])[];
  /** The exit codes it can end with. */
  readonly exits: readonly number[];
  /** Log level without `-v` or `--log-level`. */
  readonly logLevel?: CommonOptions["logLevel"];
  /** Does it. Answers the exit code; nothing means 0. */
  readonly run: (input: CommandInput<T, F>) => Promise<number | void>;
}

/** A command, whatever its options are. */
export interface Command {
  readonly name: string;
  readonly brief: string;
  readonly operands: readonly Operand[];
  readonly examples: readonly (readonly [words: string, what: string])[];
  readonly exits: readonly number[];
  readonly logLevel: CommonOptions["logLevel"];
  /** Its own flags: the library's options and the command's. */
  readonly flags: readonly FlatOption[];
  /** Checks what was collected; runs it when the answer is called. */
  readonly prepare: (words: CollectedWords, surroundings: Surroundings) => () => Promise<number>;
}

/** What was typed and found in the environment, per flag name, already read. */
export interface CollectedWords {
  readonly values: ReadonlyMap<string, unknown>;
  readonly operands: readonly string[];
  readonly verbosity: number;
}

/** What a run adds to the words. */
export interface Surroundings {
  readonly common: CommonOptions;
  readonly terminal: Terminal;
  readonly signal: AbortSignal;
}

/** A set of commands: `fastwire tftp`. */
export interface Tool {
  /** The word after `fastwire`; `""` for `fastwire` itself. */
  readonly name: string;
  /** One line. */
  readonly brief: string;
  readonly commands: readonly Command[];
  /** Turns words as they used to be written into those of today. */
  readonly rewrite?: (words: readonly string[]) => readonly string[];
}

/** A usage mistake: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
  /** What to type instead. */
  readonly hint: string;

  /** @param hint What to type instead. */
  constructor(message: string, hint: string, options?: { readonly cause: unknown }) {
    super(message, options);
    this.hint = hint;
  }
}

/** A mistake in the environment or a configuration file: exit code 3. */
export class ConfigurationError extends Error {
  override readonly name = "ConfigurationError";
}

const NO_FLAGS: OptionsSchema<Record<never, never>> = describe({});

/** Describes one command. */
export function command<T extends object, F extends object = Record<never, never>>(
  spec: CommandSpec<T, F>,
): Command {
  // Without `flags`, F is the empty object that NO_FLAGS resolves to.
  const own = spec.flags ?? NO_FLAGS as OptionsSchema<F>;
  const flags = [...spec.options.flat, ...own.flat];
  refuseDuplicates(spec.name, [...flags, ...COMMON.flat]);
  return Object.freeze({
    name: spec.name,
    brief: spec.brief,
    operands: spec.operands ?? [],
    examples: spec.examples,
    exits: spec.exits,
    logLevel: spec.logLevel ?? "warning",
    flags,
    prepare: (words: CollectedWords, surroundings: Surroundings) => {
      const input: CommandInput<T, F> = {
        options: assemble(spec.options, words.values, spec.name),
        given: givenNames(spec.options, words.values),
        flags: assemble(own, words.values, spec.name),
        operands: words.operands,
        verbosity: words.verbosity,
        ...surroundings,
      };
      return async () => await spec.run(input) ?? 0;
    },
  });
}

/** The flags every command has. */
export const COMMON: OptionsSchema<CommonOptions> = describe({
  json: option(boolean(), false, { help: "Print one JSON object a line" }),
  quiet: option(boolean(), false, { help: "Hide progress, log errors only", flag: "q" }),
  debug: option(boolean(), false, { help: "Print the stack of an error" }),
  color: option(choice(["auto", "always", "never"]), "auto", {
    help: "Colour the text for people",
  }),
  logLevel: option(choice(["error", "warning", "info", "debug", "trace"]), undefined, {
    help: "Log this and worse; -v, -vv, -vvv raise it",
  }),
  logFormat: option(choice(["human", "json", "syslog"]), "human", { help: "Form of log lines" }),
  graceMs: option(duration(0, 3_600_000), 5000, {
    help: "How long a stop by signal may take",
    aliases: ["grace"],
  }),
});

/** The environment name of a flag: `FASTWIRE_TFTP_BLOCK_SIZE`. */
export function environmentName(tool: string, flagName: string): string {
  return ["FASTWIRE", tool, flagName].filter((part) => part !== "").join("_")
    .replaceAll("-", "_").toUpperCase();
}

/**
 * Adds what the environment says about flags that were not typed.
 *
 * @throws {ConfigurationError} When a variable holds what its option does not take.
 */
export function readEnvironment(
  tool: Tool,
  flags: readonly FlatOption[],
  terminal: Terminal,
  values: Map<string, unknown>,
): void {
  for (const flag of flags) {
    const { flagName, option } = flag;
    if (values.has(flagName)) continue;
    const spellings = longSpellings(flag);
    const names = spellings.map((spelling) => environmentName(tool.name, spelling));
    if (spellings.includes("driver")) names.push("FASTWIRE_DRIVER");
    for (const name of names) {
      const word = terminal.environment(name);
      if (word === undefined) continue;
      try {
        values.set(
          flagName,
          option.value.kind === "list"
            ? word.split(",").map((member) => readWord(option, member, name))
            : readWord(option, word, name),
        );
      } catch (cause) {
        throw new ConfigurationError((cause as Error).message, { cause });
      }
      break;
    }
  }
}

/** The spellings of a flag that start with two dashes, canonical first. */
export function longSpellings({ flagName, option }: FlatOption): readonly string[] {
  return [flagName, ...option.details.aliases ?? []];
}

/**
 * Rewrites the traditional long spellings to the canonical ones, which are the only ones the scanner knows.
 *
 * @returns The words, `--blksize 8` as `--block-size 8`, `--blksize=8` as `--block-size=8`; untouched behind `--`.
 */
export function canonicalWords(
  words: readonly string[],
  flags: readonly FlatOption[],
): readonly string[] {
  const canonical = new Map(
    flags.flatMap((flag) =>
      (flag.option.details.aliases ?? []).map((alias) => [alias, flag.flagName] as const)
    ),
  );
  const end = words.indexOf("--");
  return words.map((word, index) => {
    if (!word.startsWith("--") || end >= 0 && index >= end) return word;
    const equals = word.indexOf("=");
    const name = word.slice(2, equals < 0 ? undefined : equals);
    const negated = name.startsWith("no-") ? canonical.get(name.slice(3)) : undefined;
    const found = canonical.get(name) ?? (negated === undefined ? undefined : `no-${negated}`);
    return found === undefined ? word : `--${found}${equals < 0 ? "" : word.slice(equals)}`;
  });
}

/** What to say about a flag that does not exist. */
export function flagHint(input: string, flags: readonly FlatOption[]): string {
  const near = nearest(input, flags.flatMap(longSpellings));
  return near === undefined ? "--help lists the options" : `did you mean --${near}?`;
}

function assemble<T extends object>(
  schema: OptionsSchema<T>,
  values: ReadonlyMap<string, unknown>,
  name: string,
): T {
  const input: Record<string, unknown> = {};
  for (const { path, flagName } of schema.flat) {
    if (!values.has(flagName)) continue;
    const [first, second] = path;
    if (second === undefined) input[first!] = values.get(flagName);
    else {
      const group = input[first!] as Record<string, unknown> | undefined ?? {};
      input[first!] = { ...group, [second]: values.get(flagName) };
    }
  }
  return resolve(schema, input, `the options of "${name}"`);
}

function givenNames<T extends object>(
  schema: OptionsSchema<T>,
  values: ReadonlyMap<string, unknown>,
): ReadonlySet<string> {
  return new Set(
    schema.flat.filter(({ flagName }) => values.has(flagName)).map(({ path }) => path.join(".")),
  );
}

function refuseDuplicates(name: string, flags: readonly FlatOption[]): void {
  // -h, -V and -v are read before any command sees the words.
  const seen = new Set(["help", "version", "verbose", "h", "V", "v"]);
  for (const flag of flags) {
    const { details }: Option<unknown> = flag.option;
    const short = details.flag === undefined ? [] : [details.flag];
    for (const spelling of [...longSpellings(flag), ...short]) {
      if (seen.has(spelling)) {
        throw new TypeError(
          `Cannot describe command "${name}": two options are spelt "${spelling}", expected one`,
        );
      }
      seen.add(spelling);
    }
  }
}
