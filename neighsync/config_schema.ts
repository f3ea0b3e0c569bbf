/**
 * The configuration file's JSON Schema, made from the options.
 *
 * @module
 */

import type { Option, ValueKind } from "../internal/schema.ts";
import { snakeCase } from "./config_file.ts";
import { daemonSettings } from "./options.ts";

/** A part of a JSON Schema. */
export type JsonSchema = Readonly<Record<string, unknown>>;

/** JSON Schema, draft 2020-12, of `neighsync.toml` as the object it stands for. */
export function configSchema(): JsonSchema {
  const sections: Record<string, Record<string, JsonSchema>> = {};
  for (const { path, option } of daemonSettings.flat) {
    const [section, key] = path;
    (sections[section!] ??= {})[snakeCase(key!)] = optionSchema(option);
  }
  return {
    $schema: "https://json-schema.org/draft/2020-12/schema",
    title: "Configuration of fastwire neighsync",
    type: "object",
    properties: Object.fromEntries(
      Object.entries(sections).map(([name, properties]) => [name, {
        type: "object",
        properties,
        additionalProperties: false,
      }]),
    ),
    additionalProperties: false,
  };
}

function optionSchema({ value, fallback, details }: Option<unknown>): JsonSchema {
  const { kind, member, choices, expected } = value;
  const shape = kind === "list"
    ? { type: "array", items: kindSchema(member ?? "string", choices) }
    : kindSchema(kind, choices);
  return {
    ...shape,
    description: `${details.help} (${expected})`,
    ...(fallback === undefined ? {} : { default: fallback }),
  };
}

function kindSchema(kind: ValueKind, choices: readonly string[]): JsonSchema {
  switch (kind) {
    case "boolean":
      return { type: "boolean" };
    case "integer":
    case "port":
      return { type: "integer" };
    case "number":
      return { type: "number" };
    case "choice":
      return { enum: choices };
    // Written with a unit, or as a bare number.
    case "duration":
    case "size":
    case "rate":
      return { type: ["string", "number"] };
    default:
      return { type: "string" };
  }
}
