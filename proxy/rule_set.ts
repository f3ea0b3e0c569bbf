/**
 * Rule sets: conditions under a tag, from the configuration or from files in sing-box's source format.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { resolve as resolvePath } from "node:path";
import { type ConfigProblem, type ConfigSource, located, parseConfigText } from "./config_file.ts";
import type { ProxyConfig } from "./config_types.ts";
import { checkRuleSet } from "./options.ts";
import type { RuleCondition } from "./rule_types.ts";

/** The rules of all rule sets by tag, or what is wrong with their files. */
export interface RuleSetResult {
  /** Rules by the set's tag; sets whose file cannot be used are missing. */
  readonly ruleSets: ReadonlyMap<string, readonly RuleCondition[]>;
  /** Everything that is wrong. */
  readonly problems: readonly ConfigProblem[];
}

/**
 * Reads the rule sets of a configuration: those inside it and those in files.
 *
 * @param folder What relative paths begin at; the process's own when it is left out.
 */
export async function loadRuleSets(config: ProxyConfig, folder = "."): Promise<RuleSetResult> {
  const ruleSets = new Map<string, readonly RuleCondition[]>();
  const problems: ConfigProblem[] = [];
  for (const [index, source] of config.route.ruleSets.entries()) {
    if (source.type === "inline") {
      ruleSets.set(source.tag, source.rules);
      continue;
    }
    try {
      const text = await readFile(resolvePath(folder, source.path), "utf8");
      const result = await readRuleSet({ name: source.path, text });
      problems.push(...result.problems);
      if (result.rules !== undefined) ruleSets.set(source.tag, result.rules);
    } catch (error) {
      problems.push({
        path: `route.rule_set[${index}].path`,
        position: undefined,
        message: `cannot read ${JSON.stringify(source.path)}`,
        hint: error instanceof Error ? error.message : String(error),
      });
    }
  }
  return { ruleSets, problems };
}

/** What a file with rules holds, or what is wrong with it. */
export interface RuleSetFile {
  /** The rules; `undefined` when there are problems. */
  readonly rules: readonly RuleCondition[] | undefined;
  /** Everything that is wrong. */
  readonly problems: readonly ConfigProblem[];
}

/** Reads a rule set in source format, versions 1 to 5. */
export async function readRuleSet(source: ConfigSource): Promise<RuleSetFile> {
  const document = await parseConfigText(source);
  if (document.problems.length > 0) return { rules: undefined, problems: document.problems };
  const { value, problems } = checkRuleSet(document.value);
  return { rules: value, problems: problems.map((problem) => located(problem, document)) };
}
