/**
 * Configurations written the one canonical way: two spaces, no comments, fields in the order of the schema.
 *
 * @module
 */

import type { ConfigDocument } from "./config_file.ts";
import { isRecord } from "./config_raw.ts";
import { CONFIG_SCHEMA } from "./options.ts";

/**
 * Writes a configuration. Unknown fields stay, behind the known ones; lone values that stand for lists stay alone.
 *
 * @param document A configuration as read; nothing but its JSON has to be right.
 * @returns The text, with a line feed at its end. Writing what it says gives the same text again.
 */
export function formatConfig(document: ConfigDocument): string {
  return `${JSON.stringify(ordered(document.value, CONFIG_SCHEMA), null, 2)}\n`;
}

/** What is read of a schema; every kind of schema has some of it. */
interface Shape {
  readonly entries?: Readonly<Record<string, Shape>>;
  readonly options?: readonly unknown[];
  readonly wrapped?: Shape;
  readonly item?: Shape;
  readonly value?: Shape;
  readonly getter?: (input: unknown) => Shape;
}

function ordered(value: unknown, schema: object | undefined): unknown {
  // Schemas are read as what they have; whichever kind they are of, the members mean the same.
  const shapes = schema === undefined ? [] : alternatives(schema as Shape);
  if (Array.isArray(value)) {
    const items = shapes.flatMap(({ item }) => item === undefined ? [] : [item]);
    return value.map((entry) => ordered(entry, items[0]));
  }
  if (!isRecord(value)) return value;
  const shape = bestOf(shapes, value);
  const entries = shape?.entries ?? {};
  const known = Object.keys(entries).filter((key) => Object.hasOwn(value, key));
  const rest = Object.keys(value).filter((key) => !Object.hasOwn(entries, key));
  const pairs = [...known, ...rest].map((key) => {
    const member = Object.hasOwn(entries, key) ? entries[key] : shape?.value;
    return [key, ordered(value[key], member)] as const;
  });
  return Object.fromEntries(pairs);
}

/** The schemas that a value may fit, without what only wraps them. */
function alternatives(shape: Shape): readonly Shape[] {
  if (shape.wrapped !== undefined) return alternatives(shape.wrapped);
  if (shape.getter !== undefined) return alternatives(shape.getter(undefined));
  const isUnion = shape.options?.every((option) => typeof option === "object") ?? false;
  return isUnion ? (shape.options as readonly Shape[]).flatMap(alternatives) : [shape];
}

/** The schema with most of the value's fields, among those that its `type` does not rule out. */
function bestOf(
  shapes: readonly Shape[],
  value: Readonly<Record<string, unknown>>,
): Shape | undefined {
  let best: Shape | undefined;
  let most = -1;
  for (const shape of shapes) {
    if (shape.entries === undefined && shape.value === undefined) continue;
    const type = shape.entries?.["type"];
    const words = type === undefined ? [] : alternatives(type)[0]?.options ?? [];
    if (words.length > 0 && value["type"] !== undefined && !words.includes(value["type"])) continue;
    const count = Object.keys(value).filter((key) =>
      Object.hasOwn(shape.entries ?? {}, key)
    ).length;
    if (count > most) [best, most] = [shape, count];
  }
  return best;
}
