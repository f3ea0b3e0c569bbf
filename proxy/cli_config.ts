/**
 * Configuration files of the command line: which, read in which order, and what is wrong with them in words.
 *
 * @module
 */

import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { ConfigurationError } from "../internal/cli/command.ts";
import { readProxyConfig } from "./config.ts";
import { type ConfigProblem, type ConfigSource, formatProblem } from "./config_file.ts";
import type { ProxyConfig } from "./config_types.ts";
import { loadRuleSets } from "./rule_set.ts";

/** Where the configuration is. */
export interface ConfigPlaces {
  /** Files, later ones over earlier ones. */
  readonly files: readonly string[];
  /** A folder; its `.json` files come after {@linkcode ConfigPlaces.files}, in the order of their names. */
  readonly folder: string | undefined;
}

/** Reads the texts. @throws {ConfigurationError} When there is none, or one cannot be read. */
export async function readSources(places: ConfigPlaces): Promise<readonly ConfigSource[]> {
  const names = [...places.files];
  if (places.folder !== undefined) {
    const { folder } = places;
    const entries = await readdir(folder).catch((cause) => {
      throw new ConfigurationError(`Cannot read folder ${JSON.stringify(folder)}`, { cause });
    });
    names.push(
      ...entries.filter((name) => name.endsWith(".json")).sort().map((name) => join(folder, name)),
    );
  }
  if (names.length === 0) names.push(DEFAULT_FILE);
  return await Promise.all(names.map(async (name) => {
    try {
      return { name, text: await readFile(name, "utf8") };
    } catch (cause) {
      throw new ConfigurationError(`Cannot read ${JSON.stringify(name)}: ${messageOf(cause)}`, {
        cause,
      });
    }
  }));
}

/**
 * Reads and checks the configuration, and the rule sets it names.
 *
 * @param workFolder What relative paths begin at.
 * @throws {ConfigurationError} Naming everything that is wrong, one problem a line.
 */
export async function readConfig(places: ConfigPlaces, workFolder: string): Promise<ProxyConfig> {
  const sources = await readSources(places);
  const { config, problems } = await readProxyConfig(sources);
  if (config === undefined) throw configurationError(problems, sources.length > 1);
  const ruleSets = await loadRuleSets(config, workFolder);
  if (ruleSets.problems.length > 0) throw configurationError(ruleSets.problems, true);
  return config;
}

/** All problems as one error. @param withFiles Whether each names its file. */
export function configurationError(
  problems: readonly ConfigProblem[],
  withFiles: boolean,
): ConfigurationError {
  return new ConfigurationError(
    problems.map((problem) => formatProblem(problem, withFiles)).join("\n"),
  );
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

const DEFAULT_FILE = "config.json";
