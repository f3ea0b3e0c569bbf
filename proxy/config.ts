/**
 * From files to a configuration, or to everything that is wrong with them.
 *
 * @module
 */

import { checkMeaning } from "./config_check.ts";
import {
  type ConfigDocument,
  type ConfigProblem,
  type ConfigSource,
  formatProblem,
  located,
} from "./config_file.ts";
import { mergeDocuments } from "./config_merge.ts";
import type { ProxyConfig } from "./config_types.ts";
import { checkShape } from "./options.ts";

/** A configuration ready to run, or what keeps it from that. */
export type ConfigResult =
  | { readonly config: ProxyConfig; readonly problems: readonly [] }
  | { readonly config: undefined; readonly problems: readonly ConfigProblem[] };

/**
 * Checks configuration files. Opens no socket and reads no other file.
 *
 * @param sources Texts in the order of precedence: later ones are merged over earlier ones.
 * @returns The configuration, or all problems in the order of the files.
 */
export async function readProxyConfig(sources: readonly ConfigSource[]): Promise<ConfigResult> {
  const document = await mergeDocuments(sources);
  return checkDocument(document, sources.map(({ name }) => name));
}

/**
 * Checks a configuration that a program made.
 *
 * @param input In the schema of the files.
 * @throws {TypeError} Naming every problem, one a line.
 */
export function resolveProxyConfig(input: unknown): ProxyConfig {
  const { value, problems } = checkShape(input);
  const all = [
    ...problems.map((problem) => located(problem, undefined)),
    ...checkMeaning(input).map((problem) => located(problem, undefined)),
  ];
  if (value !== undefined && all.length === 0) return value;
  throw new TypeError(
    `Cannot use the proxy configuration: ${all.map((each) => formatProblem(each)).join("\n")}`,
  );
}

function checkDocument(document: ConfigDocument, order: readonly string[]): ConfigResult {
  const input = document.value;
  const shape = checkShape(input);
  const problems = [
    ...document.problems,
    // A file that breaks off is told once; what is missing because of that is not news.
    ...(document.problems.some(({ path }) => path === "")
      ? []
      : shape.problems.map((problem) => located(problem, document))),
    ...checkMeaning(input).map((problem) => located(problem, document)),
  ];
  if (shape.value !== undefined && problems.length === 0) {
    return { config: shape.value, problems: [] };
  }
  return { config: undefined, problems: inOrder(problems, order) };
}

function inOrder(
  problems: readonly ConfigProblem[],
  order: readonly string[],
): readonly ConfigProblem[] {
  const rank = ({ position }: ConfigProblem): readonly number[] =>
    position === undefined
      ? [-1, 0, 0]
      : [order.indexOf(position.file), position.line, position.column];
  return [...problems].sort((a, b) => {
    const [left, right] = [rank(a), rank(b)];
    const at = left.findIndex((value, index) => value !== right[index]);
    return at < 0 ? 0 : left[at]! - right[at]!;
  });
}
