/**
 * Test files that never come near the kernel share an isolate: starting one costs more than most of them take
 * (0.15 s of CPU against some milliseconds).
 *
 * @module
 */

/** One isolate's worth of test files. */
export interface TestGroup {
  /** A path for the module that stands for them, relative, such as `protocol/tftp_test.ts`. */
  readonly name: string;
  /** The test files, relative to the repository's root, sorted. */
  readonly files: readonly string[];
}

/** Folders whose tests are about values only, at any depth: no socket, no descriptor, no state that outlives a test. */
const PURE = /^(?:(\w+)\/(protocol)|(internal)(?:\/\w+)?|(tools))\/\w+_test\.ts$/;

/** Sorts test files into groups; what is in none runs by itself. */
export function groupTests(files: readonly string[]): readonly TestGroup[] {
  const groups = new Map<string, string[]>();
  for (const file of [...files].sort()) {
    const match = PURE.exec(file);
    if (match === null || file.endsWith("interop_test.ts")) continue;
    const [, library, protocol, internal, tools] = match;
    const name = protocol === undefined
      ? `${internal ?? tools}/all_test.ts`
      : `${protocol}/${library}_test.ts`;
    const list = groups.get(name) ?? [];
    groups.set(name, list);
    list.push(file);
  }
  return [...groups].filter(([, list]) => list.length > 1).map(([name, list]) => ({
    name,
    files: list,
  }));
}

/** The module that stands for a group. */
export function groupModule(group: TestGroup, root: URL): string {
  return group.files.map((file) => `import ${JSON.stringify(new URL(file, root).href)};\n`).join(
    "",
  );
}

/** Every test file below the root, as relative paths. */
export async function findTests(root: URL, folder = ""): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(new URL(`./${folder}`, root))) {
    const path = folder + entry.name;
    if (entry.isDirectory && !entry.name.startsWith(".") && !SKIPPED.has(entry.name)) {
      found.push(...await findTests(root, `${path}/`));
    } else if (entry.isFile && entry.name.endsWith("_test.ts")) found.push(path);
  }
  return found;
}

const SKIPPED: ReadonlySet<string> = new Set(["node_modules", "npm", "coverage", "testdata"]);
