/**
 * `fastwire completions bash|zsh|fish`: a script for the shell, which asks the program itself for every proposal.
 *
 * @module
 */

import { options } from "../schema.ts";
import { type Command, command, type Tool, UsageError } from "./command.ts";

/** The word that makes the program answer proposals instead of running. */
export const PROPOSE = "__propose";

/** The command. */
export function completionsCommand(): Command {
  return command({
    name: "completions",
    brief: "Print a completion script for a shell",
    options: options({}),
    operands: [{ name: "shell", help: "bash, zsh or fish" }],
    examples: [
      ["bash > /etc/bash_completion.d/fastwire", "for every user of bash"],
      ["fish > ~/.config/fish/completions/fastwire.fish", "for fish"],
    ],
    exits: [0],
    run: ({ operands, terminal }) => {
      const shell = operands[0] ?? "";
      const script = Object.hasOwn(SCRIPTS, shell) ? SCRIPTS[shell] : undefined;
      if (script === undefined) {
        throw new UsageError(
          `Cannot complete for ${JSON.stringify(shell)}: expected one of ${
            Object.keys(SCRIPTS).join(", ")
          }`,
          "other shells can call fastwire __propose WORDS",
        );
      }
      terminal.stdout.write(script);
      return Promise.resolve();
    },
  });
}

/**
 * What could stand in place of the last word.
 *
 * @param words Everything behind the program's name; the last may be empty or unfinished.
 * @param umbrella The commands of `fastwire` itself.
 * @param tools The tools behind its first word, loaded when the word was typed.
 */
export async function proposals(
  words: readonly string[],
  umbrella: Tool,
  tools: Readonly<Record<string, () => Promise<Tool>>>,
): Promise<readonly string[]> {
  const [first = "", ...rest] = words;
  if (rest.length === 0) {
    const names = [...Object.keys(tools), ...umbrella.commands.map(({ name }) => name)];
    return [...new Set(names)].filter((name) => name.startsWith(first)).sort();
  }
  const { propose } = await import("./scan.ts");
  const load = Object.hasOwn(tools, first) ? tools[first] : undefined;
  return load === undefined ? await propose(umbrella, words) : await propose(await load(), rest);
}

const SCRIPTS: Readonly<Record<string, string>> = {
  bash: `_fastwire() {
  local IFS=$'\\n'
  COMPREPLY=($(fastwire ${PROPOSE} "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null))
}
complete -o default -o bashdefault -F _fastwire fastwire
`,
  zsh: `#compdef fastwire
_fastwire() {
  local -a proposals
  proposals=("\${(@f)$(fastwire ${PROPOSE} "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if (( \${#proposals[1]} )); then compadd -a proposals; else _files; fi
}
compdef _fastwire fastwire
`,
  fish: `function __fastwire_propose
  set -l words (commandline -opc) (commandline -ct)
  fastwire ${PROPOSE} $words[2..-1] 2>/dev/null
end
complete -c fastwire -a '(__fastwire_propose)'
`,
};
