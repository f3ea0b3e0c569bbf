/**
 * Option schemas as JSON Schema, for `config schema` and for the published files.
 *
 * @module
 */

import { toJsonSchema } from "@valibot/to-json-schema";

/** A schema as the options files make them. */
export type OptionsParser = Parameters<typeof toJsonSchema>[0];

/** What is said about a schema besides its rules. */
export interface SchemaHead {
  /** Where it is published. */
  readonly id: string;
  /** What it describes. */
  readonly title: string;
}

/**
 * Writes a schema as JSON Schema, draft 2020-12: what may stand in a file, with defaults and descriptions.
 *
 * @param schema What checks the file. Checks that JSON Schema has no words for are left out.
 * @returns The text, with a line feed at its end.
 */
export function jsonSchemaText(schema: OptionsParser, { id, title }: SchemaHead): string {
  const { $schema: _dialect, ...body } = toJsonSchema(schema, {
    typeMode: "input",
    errorMode: "ignore",
    overrideSchema: ({ valibotSchema, jsonSchema }) => {
      // Objects look at their unknown fields themselves, so that each is reported; the schema just forbids them.
      if (valibotSchema.type !== "loose_object") return undefined;
      return { ...jsonSchema, additionalProperties: false };
    },
  });
  const dialect = "https://json-schema.org/draft/2020-12/schema";
  return `${JSON.stringify({ $schema: dialect, $id: id, title, ...shared(body) }, null, 2)}\n`;
}

/** Length from which a part that stands in several places is worth a name. */
const WORTH_A_NAME = 100;

type Json = Readonly<Record<string, unknown>>;

function isJson(value: unknown): value is Json {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Moves parts that stand in several places to `$defs`: without it the proxy's schema is four times as long. */
function shared(body: Json): Json {
  const counts = new Map<string, number>();
  const count = (value: unknown): void => {
    if (Array.isArray(value)) return value.forEach(count);
    if (!isJson(value)) return;
    const text = JSON.stringify(value);
    if (text.length >= WORTH_A_NAME) {
      const before = counts.get(text) ?? 0;
      counts.set(text, before + 1);
      if (before > 0) return; // its parts were counted with it
    }
    Object.values(value).forEach(count);
  };
  count(body);
  const names = new Map<string, string>();
  const found: Record<string, unknown> = {};
  const replace = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(replace);
    if (!isJson(value)) return value;
    const text = JSON.stringify(value);
    const isSchema = "type" in value || "anyOf" in value;
    if ((counts.get(text) ?? 0) < 2 || !isSchema || isJson(value["type"])) return parts(value);
    let name = names.get(text);
    if (name === undefined) {
      names.set(text, name = `part${names.size + 1}`);
      found[name] = parts(value);
    }
    return { $ref: `#/$defs/${name}` };
  };
  const parts = (value: Json): Json =>
    Object.fromEntries(Object.entries(value).map(([key, each]) => [key, replace(each)]));
  const result = parts(body);
  const own = isJson(result["$defs"]) ? result["$defs"] : {};
  return { ...result, $defs: { ...own, ...found } };
}
