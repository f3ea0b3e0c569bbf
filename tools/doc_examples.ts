/**
 * Makes tests of the examples in documentation. `deno test --doc` gives each an isolate of its own, 0.18 s of CPU where the
 * example itself takes some milliseconds. Here all examples of one file become one module, with every line where it is in
 * that file: what a failure names is what has to be mended.
 *
 * @module
 */

/** The code of one example. */
export interface Example {
  /** Line of the opening fence, counted from 1. */
  readonly line: number;
  /** What stands between the fences, one entry a line. */
  readonly code: readonly string[];
}

/** The parts of `deno.json` that say what a name in an import means. */
export interface Manifest {
  readonly name: string;
  readonly exports: Readonly<Record<string, string>>;
  readonly imports: Readonly<Record<string, string>>;
}

/** Languages that run, as `deno test --doc` has them. */
const RUNS = /^(?:ts|typescript|js|javascript)$/;

/**
 * Every example of a page (`.md`) or of the docstrings of a module that is meant to run: fenced, in a language that runs,
 * and not marked `ignore`.
 *
 * @throws {SyntaxError} A fence that is not closed.
 */
export function examplesOf(path: string, text: string): readonly Example[] {
  const page = path.endsWith(".md");
  const examples: Example[] = [];
  let inDocstring = false;
  let fence: { readonly line: number; readonly words: string; readonly code: string[] } | undefined;
  for (const [index, whole] of text.split("\n").entries()) {
    const trimmed = whole.trim();
    if (!page && trimmed.startsWith("/**")) inDocstring = true;
    const line = page ? whole : whole.replace(/^\s*\* ?/, "");
    const [, words] = /^\s*```(.*)$/.exec(line) ?? [];
    if (!page && !inDocstring) continue;
    if (fence === undefined && words !== undefined) {
      fence = { line: index + 1, words, code: [] };
    } else if (fence !== undefined && words !== undefined) {
      const [language = "", ...attributes] = fence.words.trim().split(/[\s,]+/);
      if (RUNS.test(language) && !attributes.includes("ignore")) examples.push(fence);
      fence = undefined;
    } else fence?.code.push(line);
    if (!page && trimmed.endsWith("*/")) {
      if (fence !== undefined) break;
      inDocstring = false;
    }
  }
  if (fence !== undefined) {
    throw new SyntaxError(`Cannot read the example at ${path}:${fence.line}: its fence is open`);
  }
  return examples.map(({ line, code }) => ({ line, code }));
}

/**
 * The module with a test for each example of a file, each line of it where the file has it; empty without examples.
 *
 * @param path The file, relative to the root.
 * @param text What it contains.
 */
export function exampleModule(
  path: string,
  text: string,
  manifest: Manifest,
  root: URL,
): string {
  const lines: string[] = [];
  const modules = new Set<string>();
  const exported = [...text.matchAll(/^export (?:async )?(?:function|class|const) (\w+)/gm)]
    .map(([, name]) => name!);
  const load = (target: string): string => {
    // Loaded before the first test: what a module opens while it loads is no leak of the example that came first.
    if (/^\w+:/.test(target)) modules.add(JSON.stringify(target));
    return JSON.stringify(target);
  };
  const own = (names: readonly string[]): string =>
    names.length === 0
      ? ""
      : ` const { ${names.join(", ")} } = await import(${load(new URL(path, root).href)});`;
  for (const { line, code } of examplesOf(path, text)) {
    // An example of what no entry exports has no import to show.
    const free = exported.filter((name) =>
      code.some((row) => new RegExp(`\\b${name}\\b`).test(row)) &&
      !code.some((row) => new RegExp(`^import\\b.*\\b${name}\\b`).test(row))
    );
    while (lines.length < line - 1) lines.push("");
    const name = JSON.stringify(`the example at ${path}:${line} runs`);
    lines.push(`Deno.test(${name}, async () => {${own(free)} {`);
    const body = code.join("\n").replace(IMPORT, (statement, type, clause, specifier) => {
      const rows = "\n".repeat(statement.split("\n").length - 1);
      if (type !== undefined) return rows;
      const target = load(targetOf(specifier, path, manifest, root));
      return (clause === undefined ? "" : `const ${patternOf(clause)} = await import(${target});`) +
        rows;
    });
    // A block of its own: an example may give a name that its module exports to something else.
    lines.push(...body.split("\n"), "}});");
  }
  if (lines.length === 0) return "";
  const preload = [...modules].map((target) => `import ${target};`).join(" ");
  lines[0] = `${preload} ${lines[0] ?? ""}`;
  return `${lines.join("\n")}\n`;
}

const IMPORT = /^import\s+(type\s+)?(?:([^"';]+?)\s+from\s+)?"([^"]+)";?/gm;

/** What an import of a name from a page or module stands for. */
function targetOf(specifier: string, path: string, manifest: Manifest, root: URL): string {
  if (specifier === manifest.name || specifier.startsWith(`${manifest.name}/`)) {
    const file = manifest.exports[`.${specifier.slice(manifest.name.length)}`];
    // Left as it is, it fails in the one example that has it.
    return file === undefined ? specifier : new URL(file, root).href;
  }
  if (specifier.startsWith(".")) return new URL(specifier, new URL(path, root)).href;
  return manifest.imports[specifier] ?? specifier;
}

/** `{ a, b as c, type D }` → `{ a, b: c }`; `* as a` → `a`; `a` → `{ default: a }`. */
function patternOf(clause: string): string {
  const [, all] = /^\*\s+as\s+(\w+)$/.exec(clause) ?? [];
  if (all !== undefined) return all;
  const [, main, list = ""] = /^(\w+)?,?\s*(?:\{([^]*)\})?$/.exec(clause)!;
  const names = list.split(",").map((name) => name.trim())
    .filter((name) => name !== "" && !name.startsWith("type "))
    .map((name) => name.replace(/\s+as\s+/, ": "));
  if (main !== undefined) names.unshift(`default: ${main}`);
  return `{ ${names.join(", ")} }`;
}
