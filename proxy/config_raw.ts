/**
 * Looking into a configuration as it was read, before or instead of a schema: shapes are not trusted.
 *
 * @module
 */

import type { ConfigPath } from "./config_file.ts";

/** Something that is wrong, by its path. */
export interface Found {
  /** Keys and positions from the root. */
  readonly path: ConfigPath;
  /** What is wrong. */
  readonly message: string;
  /** What would be right, or where the other half is. */
  readonly hint: string;
}

/** An object and where it is. */
export interface Raw {
  /** Its members. */
  readonly value: Readonly<Record<string, unknown>>;
  /** Its path. */
  readonly path: ConfigPath;
}

/** Whether a value is an object with members. */
export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** A list as it is; a lone value stands for a list of one. */
export function listOf(value: unknown): readonly unknown[] {
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [value];
}

/** The objects of a list in a section, with their paths. */
export function entriesOf(
  section: Readonly<Record<string, unknown>>,
  key: string,
  ...above: readonly string[]
): readonly Raw[] {
  return listOf(section[key]).flatMap((value, index) =>
    isRecord(value) ? [{ value, path: [...above, key, index] }] : []
  );
}

/** The words of a list with their positions. */
export function wordsOf(value: unknown): readonly (readonly [word: string, index: number])[] {
  return listOf(value).flatMap((word, index) =>
    typeof word === "string" ? [[word, index] as const] : []
  );
}
