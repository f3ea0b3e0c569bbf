/**
 * Help texts, made from the descriptions: examples before options, every default, variable and exit code.
 *
 * @module
 */

import type { FlatOption, Value, ValueKind } from "../schema.ts";
import { type Command, COMMON, environmentName, type Tool } from "./command.ts";
import { wrap } from "./output.ts";

/** What each exit code means, for all tools. */
export const EXIT_CODES: Readonly<Record<number, string>> = Object.freeze({
  0: "success",
  1: "the operation failed",
  2: "usage",
  3: "configuration",
  4: "cannot reach or bind",
  5: "authentication refused",
  6: "timeout",
  7: "the peer broke the protocol",
  8: "not permitted, by the system or the runtime",
  9: "verification mismatch",
  10: "quota or limit",
  130: "interrupted (SIGINT)",
  143: "terminated (SIGTERM)",
});

/** Where the guides are. */
export const DOCUMENTATION = "docs/ in the source of @fastwire/net";

/**
 * The help of a command.
 *
 * @param full `--help`; otherwise the short form of `-h`, without variables, common options and exit codes.
 * @param columns Width to fill.
 */
export function commandHelp(tool: Tool, command: Command, full: boolean, columns: number): string {
  const program = `${programName(tool)} ${command.name}`;
  const operands = command.operands.map(({ name, optional }) =>
    optional === true ? `[${name.toUpperCase()}]` : name.toUpperCase()
  );
  const lines = [
    `${program}: ${command.brief}`,
    "",
    `Usage: ${[program, "[options]", ...operands].join(" ")}`,
    "",
    "Examples:",
    ...command.examples.flatMap((
      [words, what],
    ) => [`  # ${what}`, `  ${program} ${words}`.trimEnd()]),
  ];
  if (command.operands.length > 0) {
    const entries = command.operands.map(({ name, help }) => [name.toUpperCase(), [help]] as const);
    lines.push("", "Operands:", ...columnsOf(entries, columns));
  }
  for (const [group, flags] of grouped(command.flags)) {
    lines.push("", `${group}:`, ...flagLines(tool, flags, full, columns));
  }
  if (!full) {
    lines.push("", `${program} --help shows variables, common options and exit codes.`);
    return lines.join("\n") + "\n";
  }
  lines.push("", "Common options:", ...flagLines(tool, COMMON.flat, true, columns));
  lines.push(...columnsOf([
    ["-v, -vv, -vvv", ["Log info, debug, trace"]],
    ["-h, --help", ["Short help, full help"]],
    ["-V, --version", ["Version; with --json also runtime, platform and driver"]],
  ], columns));
  const exits = [...new Set([0, 1, 2, ...command.exits, 130, 143])].sort((a, b) => a - b);
  lines.push("", "Exit codes:");
  for (const code of exits) lines.push(`  ${String(code).padStart(3)}  ${EXIT_CODES[code]}`);
  lines.push("", `Documentation: ${DOCUMENTATION}`);
  return lines.join("\n") + "\n";
}

/** The help of a tool: its commands. */
export function toolHelp(tool: Tool, full: boolean, columns: number): string {
  const program = programName(tool);
  const examples = tool.commands.flatMap((command) =>
    command.examples.slice(0, full ? undefined : 1).flatMap(([words, what]) => [
      `  # ${what}`,
      `  ${program} ${command.name} ${words}`.trimEnd(),
    ])
  );
  const commands = tool.commands.map(({ name, brief }) => [name, [brief]] as const);
  const lines = [
    `${program}: ${tool.brief}`,
    "",
    `Usage: ${program} COMMAND [options] [operands]`,
    "",
    "Examples:",
    ...examples,
    "",
    "Commands:",
    ...columnsOf(commands, columns),
    "",
    `${program} COMMAND --help shows the options of a command.`,
  ];
  if (full) lines.push(`Documentation: ${DOCUMENTATION}`);
  return lines.join("\n") + "\n";
}

/** `fastwire tftp`, or `fastwire` for the umbrella. */
export function programName(tool: Tool): string {
  return tool.name === "" ? "fastwire" : `fastwire ${tool.name}`;
}

function grouped(flags: readonly FlatOption[]): ReadonlyMap<string, readonly FlatOption[]> {
  const groups = new Map<string, FlatOption[]>();
  for (const flag of flags) {
    const name = flag.option.details.group ?? "Options";
    const group = groups.get(name);
    if (group === undefined) groups.set(name, [flag]);
    else group.push(flag);
  }
  return groups;
}

function flagLines(
  tool: Tool,
  flags: readonly FlatOption[],
  full: boolean,
  columns: number,
): readonly string[] {
  return columnsOf(
    flags.map((flag) => {
      const { details, value, fallback } = flag.option;
      const short = details.flag === undefined ? "    " : `-${details.flag}, `;
      const word = value.kind === "boolean"
        ? ""
        : ` ${details.placeholder ?? PLACEHOLDERS[value.member ?? value.kind]}`;
      const notes = [details.help];
      const bounds = [boundsText(flag.option.value)];
      if (value.kind !== "boolean" && value.kind !== "secret" && fallback !== undefined) {
        const shown = value.format(fallback);
        if (shown !== "") bounds.push(`default ${shown}`);
      }
      const bracket = bounds.filter((part) => part !== "").join("; ");
      if (bracket !== "") notes[0] += ` (${bracket})`;
      if (full) {
        for (const alias of details.aliases ?? []) notes.push(`also --${alias}`);
        if (value.kind === "list") notes.push("may be given several times");
        notes.push(`env ${environmentName(tool.name, flag.flagName)}`);
      }
      return [`${short}--${flag.flagName}${word}`, notes] as const;
    }),
    columns,
  );
}

/** What a value may be, where that is short enough to say. */
function boundsText({ kind, expected, choices }: Value<unknown>): string {
  if (kind === "choice") return choices.join(", ");
  return RANGED.has(kind) ? expected.slice(expected.indexOf(", ") + 2) : "";
}

/** Terms on the left, notes on the right, wrapped; a term too wide for its column gets a line of its own. */
function columnsOf(
  entries: readonly (readonly [term: string, notes: readonly string[]])[],
  columns: number,
): readonly string[] {
  const widest = Math.max(0, ...entries.map(([term]) => term.length));
  const width = Math.min(widest, 34);
  const indent = " ".repeat(width + 4);
  return entries.flatMap(([term, notes]) => {
    const texts = notes.flatMap((note) => wrap(note, Math.max(30, columns - width - 4)));
    const beside = term.length <= width;
    const first = beside ? `  ${term.padEnd(width)}  ${texts[0] ?? ""}`.trimEnd() : `  ${term}`;
    return [first, ...texts.slice(beside ? 1 : 0).map((text) => indent + text)];
  });
}

const RANGED: ReadonlySet<ValueKind> = new Set([
  "integer",
  "number",
  "duration",
  "size",
  "rate",
  "port",
]);

const PLACEHOLDERS: Readonly<Record<ValueKind, string>> = {
  boolean: "",
  integer: "N",
  number: "N",
  string: "TEXT",
  path: "PATH",
  secret: "SECRET",
  choice: "WORD",
  duration: "TIME",
  size: "SIZE",
  rate: "RATE",
  port: "PORT",
  endpoint: "HOST:PORT",
  cidr: "CIDR",
  list: "VALUE",
};
