/**
 * Several configuration files as one.
 *
 * @module
 */

import {
  ConfigDocument,
  type ConfigProblem,
  type ConfigSource,
  parseConfigText,
} from "./config_file.ts";
import { formatConfig } from "./config_format.ts";

/**
 * Reads files over one another: objects are merged, lists joined in order, and of anything else the later one stays.
 *
 * @param sources The files, in order of precedence.
 */
export async function mergeDocuments(sources: readonly ConfigSource[]): Promise<ConfigDocument> {
  const documents = await Promise.all(sources.map(parseConfigText));
  return documents.reduce(
    (earlier, later) => earlier.mergedWith(later),
    new ConfigDocument(undefined, []),
  );
}

/**
 * Writes several files as one. Checks their JSON only.
 *
 * @returns The text, or what is wrong with the files.
 */
export async function mergeConfigs(sources: readonly ConfigSource[]): Promise<
  | { readonly text: string; readonly problems: readonly [] }
  | { readonly text: undefined; readonly problems: readonly ConfigProblem[] }
> {
  const document = await mergeDocuments(sources);
  const { problems } = document;
  return problems.length > 0
    ? { text: undefined, problems }
    : { text: formatConfig(document), problems: [] };
}
