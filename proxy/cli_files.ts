/**
 * `proxy format`, `merge` and `generate`: texts in, texts out.
 *
 * @module
 */

import { writeFile } from "node:fs/promises";
import { type CommandInput, UsageError } from "../internal/cli/command.ts";
import { jsonLine } from "../internal/cli/output.ts";
import { configurationError, readSources } from "./cli_config.ts";
import { parseConfigText } from "./config_file.ts";
import { formatConfig } from "./config_format.ts";
import { mergeConfigs } from "./config_merge.ts";
import { generate } from "./generate.ts";

interface FileFlags {
  readonly config: readonly string[];
  readonly configDirectory: string | undefined;
}

/** Writes each file in canonical form. @throws {ConfigurationError} Naming what is wrong with one. */
export async function formatFiles(
  { flags, terminal }: CommandInput<object, FileFlags & { readonly write: boolean }>,
): Promise<number> {
  const sources = await readSources({ files: flags.config, folder: flags.configDirectory });
  for (const source of sources) {
    const document = await parseConfigText(source);
    if (document.problems.length > 0) throw configurationError(document.problems, true);
    const formatted = formatConfig(document);
    if (flags.write) await writeFile(source.name, formatted);
    else terminal.stdout.write(formatted);
  }
  return 0;
}

/** Writes several files as one. @throws {ConfigurationError} Naming what is wrong with one. */
export async function mergeFiles(
  { flags, operands, terminal }: CommandInput<object, FileFlags>,
): Promise<number> {
  const sources = await readSources({ files: flags.config, folder: flags.configDirectory });
  const { text, problems } = await mergeConfigs(sources);
  if (text === undefined) throw configurationError(problems, true);
  const out = operands[0]!;
  if (out === "-") terminal.stdout.write(text);
  else await writeFile(out, text);
  return 0;
}

/** Prints what was made. */
export function generateWords(
  { flags, operands, common, terminal }: CommandInput<
    object,
    { readonly base64: boolean; readonly hex: boolean }
  >,
): Promise<number> {
  const [what = "", detail] = operands;
  const words = [
    what,
    ...(flags.base64 ? ["--base64"] : []),
    ...(flags.hex ? ["--hex"] : []),
    ...(detail === undefined ? [] : [detail]),
  ];
  let lines: readonly string[];
  try {
    lines = generate(words);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    throw new UsageError(message, "--help shows what can be made", { cause: error });
  }
  terminal.stdout.write(
    common.json ? jsonLine({ type: what, lines }) : lines.map((line) => `${line}\n`).join(""),
  );
  return Promise.resolve(0);
}
