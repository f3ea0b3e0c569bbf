/**
 * Configuration files: TOML with one section for each group of options and snake_case keys, in layers, each value with
 * the place it comes from.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { kebabCase, nearest } from "../internal/schema.ts";
import { daemonSettings, resolveNeighSyncSettings } from "./options.ts";
import type { NeighSyncSettings, ResolvedNeighSyncSettings } from "./settings.ts";

/** A file that cannot be used. */
export class ConfigFileError extends Error {
  override readonly name = "ConfigFileError";
}

/** Settings and where they come from. */
export interface LoadedSettings {
  /** Checked and complete. */
  readonly settings: ResolvedNeighSyncSettings;
  /** By `section.key` as it stands in a file: the path of the file, `option` or `default`. */
  readonly sources: ReadonlyMap<string, string>;
  /** Files that were read, the strongest last. */
  readonly files: readonly string[];
}

/** Where to look. */
export interface SettingsLayers {
  /** Files that may be missing, the strongest last. */
  readonly optional: readonly string[];
  /** A file that has to be there; stronger than the others. */
  readonly required: string | undefined;
  /** Stronger than every file, by section: typed, or from the environment. */
  readonly given: NeighSyncSettings;
}

type Section = Readonly<Record<string, unknown>>;
type Sections = Record<string, Record<string, unknown>>;

/**
 * Reads files and puts settings together.
 *
 * @throws {ConfigFileError} When a file cannot be read, or says something that is not known or not allowed.
 */
export async function loadSettings(layers: SettingsLayers): Promise<LoadedSettings> {
  const merged: Sections = {};
  const sources = new Map<string, string>();
  const files: string[] = [];
  for (const { section, key } of KEYS) sources.set(`${section}.${key.file}`, "default");
  const lay = (content: Sections, source: string): void => {
    for (const [section, values] of Object.entries(content)) {
      for (const [name, value] of Object.entries(values)) {
        if (value === undefined) continue;
        (merged[section] ??= {})[name] = value;
        sources.set(`${section}.${snakeCase(name)}`, source);
      }
    }
  };
  const paths = [
    ...layers.optional.map((path) => ({ path, required: false })),
    ...(layers.required === undefined ? [] : [{ path: layers.required, required: true }]),
  ];
  for (const { path, required } of paths) {
    const text = await readConfig(path, required);
    if (text === undefined) continue;
    const content = await parseConfig(text, path);
    // Said of the file that says it, not of the sum.
    checked(content, path);
    files.push(path);
    lay(content, path);
  }
  lay(layers.given as Sections, "option");
  return { settings: checked(merged, files.at(-1) ?? "the options"), sources, files };
}

/**
 * Reads the text of one file.
 *
 * @param name What it is called in messages.
 * @returns Sections and keys under the names the API has; values unchecked.
 * @throws {ConfigFileError} When it is not TOML, or has a section or key that is not known.
 */
export async function parseConfig(text: string, name: string): Promise<Sections> {
  const { parse, TomlError } = await import("smol-toml");
  let content: Section;
  try {
    content = parse(text);
  } catch (cause) {
    if (!(cause instanceof TomlError)) throw cause;
    const what = cause.message.split("\n", 1)[0]!.replace(/^Invalid TOML document: /, "");
    throw new ConfigFileError(
      `Cannot read ${name}: line ${cause.line}, column ${cause.column}: ${what}`,
      { cause },
    );
  }
  const result: Sections = {};
  for (const [section, values] of Object.entries(content)) {
    const keys = KEYS.filter((known) => known.section === section).map(({ key }) => key);
    if (keys.length === 0) {
      throw unknown(name, "section", section, [...new Set(KEYS.map((known) => known.section))]);
    }
    if (typeof values !== "object" || values === null || Array.isArray(values)) {
      throw new ConfigFileError(
        `Cannot read ${name}: "${section}" is no section, expected [${section}]`,
      );
    }
    const known = result[section] = {} as Record<string, unknown>;
    for (const [key, value] of Object.entries(values)) {
      const found = keys.find(({ file }) => file === key);
      if (found === undefined) {
        throw unknown(
          name,
          "key",
          `${section}.${key}`,
          keys.map(({ file }) => `${section}.${file}`),
        );
      }
      known[found.api] = value;
    }
  }
  return result;
}

/** A file as it would have to be written to get these settings; secrets are left out. */
export function formatConfig({ settings, sources }: LoadedSettings): string {
  const lines: string[] = [];
  let section = "";
  for (const { section: name, key, isSecret } of KEYS) {
    if (name !== section) lines.push(...(section === "" ? [] : [""]), `[${section = name}]`);
    const group = (settings as unknown as Readonly<Record<string, Section>>)[name]!;
    const value = group[key.api];
    const source = sources.get(`${name}.${key.file}`) ?? "default";
    const shown = value === undefined
      ? `# ${key.file} is not set`
      : isSecret
      ? `# ${key.file} is set`
      : `${key.file} = ${tomlValue(value)}`;
    lines.push(`${shown} # ${source}`);
  }
  return lines.join("\n") + "\n";
}

/** `batchSize` is `batch_size` in a file. */
export function snakeCase(name: string): string {
  return kebabCase(name).replaceAll("-", "_");
}

const KEYS = daemonSettings.flat.map(({ path, option }) => ({
  section: path[0]!,
  key: { api: path[1]!, file: snakeCase(path[1]!) },
  isSecret: option.value.kind === "secret",
}));

async function readConfig(path: string, required: boolean): Promise<string | undefined> {
  try {
    return await readFile(path, "utf8");
  } catch (cause) {
    const code = cause instanceof Error && "code" in cause ? cause.code : undefined;
    // Places nobody named may be out of reach.
    if (!required && code === "ENOENT") return undefined;
    if (!required && (cause as Error).name === "NotCapable") return undefined;
    const what = cause instanceof Error ? cause.message : String(cause);
    throw new ConfigFileError(`Cannot read ${path}: ${what}`, { cause });
  }
}

function checked(content: Sections, name: string): ResolvedNeighSyncSettings {
  try {
    return resolveNeighSyncSettings(content);
  } catch (cause) {
    const what = (cause as Error).message.replace(/^Cannot [^:]+: /, "");
    throw new ConfigFileError(`Cannot use ${name}: ${what}`, { cause });
  }
}

function unknown(
  name: string,
  kind: "section" | "key",
  word: string,
  known: readonly string[],
): ConfigFileError {
  const near = nearest(word, known);
  const expected = near === undefined
    ? `one of ${known.map((each) => JSON.stringify(each)).join(", ")}`
    : JSON.stringify(near);
  return new ConfigFileError(
    `Cannot use ${name}: unknown ${kind} ${JSON.stringify(word)}, expected ${expected}`,
  );
}

function tomlValue(value: unknown): string {
  if (Array.isArray(value)) return `[${value.map(tomlValue).join(", ")}]`;
  if (typeof value === "object" && value !== null) {
    const { host, port } = value as { host: string; port: number | undefined };
    const name = host.includes(":") ? `[${host}]` : host;
    return JSON.stringify(port === undefined ? name : `${name}:${port}`);
  }
  return JSON.stringify(value);
}
