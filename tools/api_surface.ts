/**
 * Keeps `docs/api-surface.md`: every exported name with its kind and signature. `--write` brings it up to date,
 * `--check` fails when it is not, so that changing the surface is a reviewed act.
 *
 * @module
 */

import { declarationLines, type DocNode } from "./doc_render.ts";

const ROOT = new URL("..", import.meta.url);
const FILE = new URL("docs/api-surface.md", ROOT);

/** The part of the `deno doc --json` answer that is read. */
export interface DocAnswer {
  readonly nodes: Readonly<
    Record<string, {
      readonly symbols: readonly {
        readonly name: string;
        readonly declarations: readonly DocNode[];
      }[];
    }>
  >;
}

/**
 * The surface as Markdown.
 *
 * @param answers One answer of `deno doc --json` per export name.
 */
export function surfaceText(answers: ReadonlyMap<string, DocAnswer>): string {
  const lines = [
    "# Exported names",
    "",
    "Written by `deno run -A tools/api_surface.ts --write`; `deno task check` compares.",
  ];
  for (const [name, answer] of answers) {
    const symbols = Object.values(answer.nodes).flatMap((module) => module.symbols)
      .toSorted((a, b) => a.name < b.name ? -1 : a.name > b.name ? 1 : 0);
    const blocks = symbols.map((symbol) =>
      symbol.declarations.flatMap((declaration) => declarationLines(symbol.name, declaration))
        .join("\n")
    );
    lines.push("", `## \`@fastwire/net${name.slice(1)}\``, "", "```ts ignore", ...blocks, "```");
  }
  return lines.join("\n") + "\n";
}

/**
 * The first difference between two texts, with its line number.
 *
 * @returns `undefined` when they are equal.
 */
export function firstDifference(recorded: string, current: string): string | undefined {
  if (recorded === current) return undefined;
  const [before, after] = [recorded.split("\n"), current.split("\n")];
  const index = after.findIndex((line, at) => line !== before[at]);
  const at = index < 0 ? after.length : index;
  return `line ${at + 1}:\n- ${before[at] ?? "(end)"}\n+ ${after[at] ?? "(end)"}`;
}

/** Renders the surface of the checkout. */
export async function currentSurface(): Promise<string> {
  const manifest: { exports: Record<string, string> } = JSON.parse(
    await Deno.readTextFile(new URL("deno.json", ROOT)),
  );
  const answers = await Promise.all(
    Object.entries(manifest.exports).map(async ([name, entry]) => {
      const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
        args: ["doc", "--json", entry],
        cwd: ROOT,
      }).output();
      if (!success) throw new Error(new TextDecoder().decode(stderr));
      const answer: DocAnswer = JSON.parse(new TextDecoder().decode(stdout));
      return [name, answer] as const;
    }),
  );
  return surfaceText(new Map(answers));
}

async function main(): Promise<number> {
  const current = await currentSurface();
  if (Deno.args.includes("--write")) {
    await Deno.writeTextFile(FILE, current);
    return 0;
  }
  const recorded = await Deno.readTextFile(FILE).catch(() => "");
  const difference = firstDifference(recorded, current);
  if (difference === undefined) return 0;
  console.error(`docs/api-surface.md is not current, ${difference}`);
  console.error("reviewed? deno run -A tools/api_surface.ts --write");
  return 1;
}

if (import.meta.main) Deno.exitCode = await main();
