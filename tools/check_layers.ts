/**
 * Holds the module graph against `layer_rules.ts` and prints one line per broken rule: `from → to: rule`.
 *
 * @module
 */

import { type Edge, RULES, STATIC_PACKAGES } from "./layer_rules.ts";
import { isTest } from "./lint_places.ts";

/** The part of the `deno info --json` answer that is read. */
export interface ModuleInfo {
  readonly specifier: string;
  readonly error?: string;
  readonly dependencies?: readonly {
    readonly specifier: string;
    readonly isDynamic?: boolean;
    readonly code?: { readonly specifier?: string; readonly error?: string };
    readonly type?: { readonly specifier?: string; readonly error?: string };
  }[];
}

/**
 * The edges of a module graph, without those that leave from tests.
 *
 * @param root URL of the repository with its final slash.
 */
export function edgesOf(modules: readonly ModuleInfo[], root: string): readonly Edge[] {
  return modules.filter(({ specifier }) => specifier.startsWith(root)).flatMap((module) => {
    const from = module.specifier.slice(root.length);
    if (isTest(from) && !from.startsWith("internal/testing/") || /_test\.ts$/.test(from)) return [];
    return (module.dependencies ?? []).flatMap(({ specifier, isDynamic, code, type }): Edge[] => {
      const resolved = code?.specifier ?? type?.specifier;
      if (resolved === undefined) return [];
      const kind = code === undefined ? "type" : isDynamic === true ? "dynamic" : "code";
      if (resolved.startsWith(root)) {
        return [{ from, to: resolved.slice(root.length), kind, target: "file", specifier }];
      }
      const target = resolved.startsWith("npm:") ? "package" : "builtin";
      const to = target === "package" ? packageName(resolved) : resolved;
      return [{ from, to, kind, target, specifier }];
    });
  });
}

/** Lines for edges that break a rule of their own. */
export function brokenEdges(edges: readonly Edge[]): readonly string[] {
  return edges.flatMap((edge) =>
    RULES.filter((rule) => rule.broken(edge)).map((rule) =>
      `${edge.from} → ${edge.to}: ${rule.name}`
    )
  );
}

/** Lines for files that depend on themselves through others (L7); types alone do not count, they are erased. */
export function cycles(edges: readonly Edge[]): readonly string[] {
  const next = staticFiles(edges);
  const done = new Set<string>();
  const found: string[] = [];
  const walk = (file: string, trail: readonly string[]): void => {
    const seenAt = trail.indexOf(file);
    if (seenAt >= 0) {
      const loop = [...trail.slice(seenAt), file];
      found.push(`${loop.slice(0, -1).join(" → ")} → ${file}: L7 no cycles between files`);
      return;
    }
    if (done.has(file)) return;
    for (const to of next.get(file) ?? []) walk(to, [...trail, file]);
    done.add(file);
  };
  for (const file of next.keys()) walk(file, []);
  return found;
}

/**
 * Lines for packages that an export loads before anything is called.
 *
 * @param exports Names and entry files, as in `deno.json`.
 */
export function unexpectedPackages(
  edges: readonly Edge[],
  exports: Readonly<Record<string, string>>,
): readonly string[] {
  const next = staticFiles(edges);
  return Object.entries(exports).flatMap(([name, entry]) => {
    const allowed = STATIC_PACKAGES[name];
    if (allowed === undefined) return [`${name} → ?: no list of static packages for this export`];
    const reached = new Set<string>([entry.replace(/^\.\//, "")]);
    for (const file of reached) for (const to of next.get(file) ?? []) reached.add(to);
    return edges
      .filter(({ from, target, kind }) =>
        target === "package" && kind === "code" && reached.has(from)
      )
      .filter(({ to }) => !allowed.includes(to))
      .map(({ from, to }) => `${from} → ${to}: not in the static packages of export "${name}"`);
  });
}

/** Reads the graph of every published, example, bench and tool file. */
export async function readGraph(root: string): Promise<readonly ModuleInfo[]> {
  const entry = await Deno.makeTempFile({ suffix: ".ts" });
  try {
    const files = (await sourceFiles(root)).filter((file) => !/_test\.ts$/.test(file));
    const lines = files.map((file) => `import ${JSON.stringify(root + file)};\n`);
    await Deno.writeTextFile(entry, lines.join(""));
    const { stdout, stderr, success } = await new Deno.Command(Deno.execPath(), {
      args: ["info", "--json", "--config", new URL("deno.json", root).pathname, entry],
      cwd: new URL(root),
    }).output();
    const decoder = new TextDecoder();
    if (!success) throw new Error(decoder.decode(stderr));
    return JSON.parse(decoder.decode(stdout)).modules;
  } finally {
    await Deno.remove(entry);
  }
}

/** Every TypeScript file below the root, without generated and fetched folders. */
export async function sourceFiles(root: string, folder = ""): Promise<readonly string[]> {
  const files: string[] = [];
  for await (const entry of Deno.readDir(new URL(root + folder))) {
    const path = folder + entry.name;
    if (entry.isDirectory && !/^(?:\..*|node_modules|npm|coverage|testdata)$/.test(entry.name)) {
      files.push(...await sourceFiles(root, `${path}/`));
    } else if (entry.isFile && path.endsWith(".ts")) files.push(path);
  }
  return files.sort();
}

/** Everything that is wrong with the repository's graph. */
export async function checkLayers(root: string): Promise<readonly string[]> {
  const modules = await readGraph(root);
  const missing = modules.filter(({ error }) => error !== undefined)
    .map(({ specifier, error }) => `${specifier} → ?: ${error}`);
  const edges = edgesOf(modules, root);
  const manifest = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  return [
    ...missing,
    ...brokenEdges(edges),
    ...cycles(edges),
    ...unexpectedPackages(edges, manifest.exports),
  ];
}

function staticFiles(edges: readonly Edge[]): ReadonlyMap<string, readonly string[]> {
  const next = new Map<string, string[]>();
  for (const { from, to, kind, target } of edges) {
    if (kind !== "code" || target !== "file") continue;
    const list = next.get(from);
    if (list === undefined) next.set(from, [to]);
    else list.push(to);
  }
  return next;
}

function packageName(specifier: string): string {
  return /^npm:\/?(@[^/]+\/[^@/]+|[^@/]+)/.exec(specifier)?.[1] ?? specifier;
}

if (import.meta.main) {
  const lines = await checkLayers(new URL("..", import.meta.url).href);
  for (const line of lines) console.error(line);
  console.error(lines.length === 0 ? "layers: ok" : `layers: ${lines.length} broken`);
  Deno.exitCode = lines.length === 0 ? 0 : 1;
}
