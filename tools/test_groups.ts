/**
 * What `deno task test` runs, in which order and how much of it in one process. Starting one and loading a library
 * into it costs more than most test files take (0.15 s of CPU against some milliseconds), so files share one; those that take
 * long have one each and come first, so that no processor is idle at the end.
 *
 * @module
 */

import { exampleModule, type Manifest } from "./doc_examples.ts";

/** One process's worth of test files. */
export interface TestGroup {
  /** A path for the module that stands for them, relative, such as `protocol/tftp_test.ts`. */
  readonly name: string;
  /** The test files, relative to the repository's root, sorted. */
  readonly files: readonly string[];
}

/**
 * Files with a process each, the longest first: those of a second and more, and those that look at the memory or the
 * collector.
 */
export const ALONE: readonly string[] = [
  "tftp/server_test.ts",
  "btest/dialogue_test.ts",
  "btest/sessions_test.ts",
  "tftp/transfers_test.ts",
  "demo_test.ts",
  "proxy/engine_test.ts",
  "tftp/simulation_test.ts",
  "tftp/load_test.ts",
  "btest/cli_test.ts",
  "ffi/relay_contract_test.ts",
  "tftp/hostile_test.ts",
  "ffi/file_contract_test.ts",
  "btest/hostile_test.ts",
  "tftp/client_test.ts",
  "examples/examples_test.ts",
  "ffi/stream_contract_test.ts",
  "ffi/stream_life_contract_test.ts",
  "ffi/reactor_contract_test.ts",
  "btest/prd_test.ts",
  "ffi/stream_leak_test.ts",
  "tftp/cli_test.ts",
  "ffi/leak_test.ts",
  "ffi/aead_contract_test.ts",
  "ffi/datagram_contract_test.ts",
  "ffi/datagram_life_contract_test.ts",
  "tftp/transcript_test.ts",
  "ffi/datagram_linux_test.ts",
  "ffi/gc_stress_test.ts",
];

/** Modules of several files that take long. */
const LARGE: readonly string[] = [
  "proxy/rest_test.ts",
  "protocol/btest_test.ts",
  "tftp/rest_test.ts",
  "ffi/rest_test.ts",
  "protocol/neighsync_test.ts",
];

/** Modules that wait most of their time, for time limits and for processes: one of them may run beside the others. */
const WAITING: ReadonlySet<string> = new Set([
  "tftp/server_test.ts",
  "btest/dialogue_test.ts",
  "btest/sessions_test.ts",
  "proxy/engine_test.ts",
  "btest/prd_test.ts",
  "internal/all_test.ts",
]);

/** Whether a module that {@linkcode writeModules} names waits most of its time. */
export function isWaiting(module: string, folder: string): boolean {
  return WAITING.has(module.replace(`${folder}/`, ""));
}

/** Folders whose tests are about values only, at any depth: no socket, no descriptor, no state that outlives a test. */
const PURE = /^(?:(\w+)\/(protocol)|(internal)(?:\/\w+)?|(tools))\/\w+_test\.ts$/;

/** Sorts test files into groups, in the order in which they should start; every file is in one. */
export function groupTests(files: readonly string[]): readonly TestGroup[] {
  const groups = new Map<string, string[]>();
  for (const file of [...files].sort()) {
    if (file.endsWith("interop_test.ts")) continue;
    const name = ALONE.includes(file) ? file : groupOf(file);
    const list = groups.get(name) ?? [];
    groups.set(name, list);
    list.push(file);
  }
  return [...groups].map(([name, list]) => ({ name, files: list }))
    .sort((a, b) => place(a.name) - place(b.name));
}

/** Where a module stands in the order. */
function place(name: string): number {
  const order = [...LARGE, ...ALONE];
  return order.includes(name) ? order.indexOf(name) : order.length;
}

function groupOf(file: string): string {
  const match = PURE.exec(file);
  if (match !== null) {
    const [, library, protocol, internal, tools] = match;
    return protocol === undefined
      ? `${internal ?? tools}/all_test.ts`
      : `protocol/${library}_test.ts`;
  }
  const slash = file.indexOf("/");
  return slash < 0 ? "root/rest_test.ts" : `${file.slice(0, slash)}/rest_test.ts`;
}

/** The module that stands for others. One of them that does not load is a failed test of its name, and the others run. */
export function groupModule(urls: readonly string[]): string {
  return urls.map((url) => {
    const text = JSON.stringify(url);
    return `try { await import(${text}); } catch (error) { Deno.test(${text} + " loads", () => { throw error; }); }\n`;
  }).join("");
}

/**
 * Writes a module for every group of several files and one for all examples.
 *
 * @param folder Where, an absolute path.
 * @returns What to run, in order: modules of `folder` by their absolute paths, test files that are alone by their own.
 */
export async function writeModules(root: URL, folder: string): Promise<readonly string[]> {
  const run: string[] = [];
  for (const group of groupTests(await findFiles(root, isTest))) {
    if (group.files.length === 1) run.push(group.files[0]!);
    else {run.push(
        await write(
          `${folder}/${group.name}`,
          groupModule(group.files.map((file) => new URL(file, root).href)),
        ),
      );}
  }
  const manifest: Manifest = JSON.parse(await Deno.readTextFile(new URL("deno.json", root)));
  const pages: string[] = [];
  for (const path of await findFiles(root, mayHaveExamples)) {
    const text = await Deno.readTextFile(new URL(path, root));
    const module = exampleModule(path, text, manifest, root);
    if (module === "") continue;
    const target = `${folder}/examples/${path}${path.endsWith(".md") ? ".ts" : ""}`;
    await write(target, module);
    pages.push(`file://${target}`);
  }
  const examples = await write(`${folder}/examples/all_test.ts`, groupModule(pages));
  return [...run.slice(0, LARGE.length), examples, ...run.slice(LARGE.length)];
}

async function write(path: string, text: string): Promise<string> {
  await Deno.mkdir(path.slice(0, path.lastIndexOf("/")), { recursive: true });
  await Deno.writeTextFile(path, text);
  return path;
}

/** Whether a file's name is that of a test. */
export function isTest(path: string): boolean {
  return path.endsWith("_test.ts");
}

/** Whether the examples of a file run. The page of the API surface is made from modules whose examples do. */
function mayHaveExamples(path: string): boolean {
  return /\.(?:ts|md)$/.test(path) && !isTest(path) && path !== "docs/api-surface.md";
}

/** Every file below the root that is wanted, as relative paths, sorted. */
export async function findFiles(
  root: URL,
  wanted: (path: string) => boolean,
  folder = "",
): Promise<string[]> {
  const found: string[] = [];
  for await (const entry of Deno.readDir(new URL(`./${folder}`, root))) {
    const path = folder + entry.name;
    if (entry.isDirectory && !entry.name.startsWith(".") && !SKIPPED.has(entry.name)) {
      found.push(...await findFiles(root, wanted, `${path}/`));
    } else if (entry.isFile && wanted(path)) found.push(path);
  }
  return folder === "" ? found.sort() : found;
}

const SKIPPED: ReadonlySet<string> = new Set(["node_modules", "npm", "coverage", "testdata"]);
