/**
 * Options described once. An `options.ts` file builds an {@linkcode OptionsSchema} from the blocks here; the API's
 * types, the flags, the environment names and the help text all come from it. Valibot does the parsing and stays
 * inside: what leaves are our own types and our own errors.
 *
 * @module
 */

import * as v from "valibot";
import {
  type Cidr,
  type Endpoint,
  formatCidr,
  formatDuration,
  formatEndpoint,
  formatRate,
  formatSize,
  parseCidr,
  parseDuration,
  parseEndpoint,
  parseRate,
  parseSize,
} from "./units.ts";

/** How a value is written: decides the placeholder in the help text and what a word on the command line becomes. */
export type ValueKind =
  | "boolean"
  | "integer"
  | "number"
  | "string"
  | "path"
  | "secret"
  | "choice"
  | "duration"
  | "size"
  | "rate"
  | "port"
  | "endpoint"
  | "cidr"
  | "list";

/** A value that can be checked. The building blocks below make them. */
export interface Value<T> {
  readonly kind: ValueKind;
  /** What would have been accepted, for error messages: `an integer, 8 to 65464`. */
  readonly expected: string;
  /** The closed set of words, for choices. */
  readonly choices: readonly string[];
  /** The kind of the members, for lists. */
  readonly member: ValueKind | undefined;
  /** Writes a value as a person would. */
  readonly format: (value: T) => string;
  /** The parser behind it; for this module and the JSON Schema generator only. */
  readonly schema: v.GenericSchema<unknown, T>;
}

/** What the command line shows and accepts for an option. */
export interface OptionDetails {
  /** One line: what it does. No default, no range: those are added. */
  readonly help: string;
  /** Short flag: one letter. */
  readonly flag?: string;
  /** Traditional long spellings, without dashes. */
  readonly aliases?: readonly string[];
  /** Word that stands for the value in the help text. */
  readonly placeholder?: string;
  /** Heading under which the help text lists it. */
  readonly group?: string;
}

/** An option: a value, its default, and how it is shown. */
export interface Option<T> {
  readonly value: Value<unknown>;
  /** `undefined` when leaving it out means something of its own. */
  readonly fallback: T;
  readonly details: OptionDetails;
}

/** Members of an options object: options, and groups of options one level deep. */
export type OptionEntries = Readonly<
  Record<string, Option<unknown> | Readonly<Record<string, Option<unknown>>>>
>;

/** The resolved object that {@linkcode OptionEntries} describe. */
export type Resolved<E extends OptionEntries> = {
  readonly [K in keyof E]: E[K] extends Option<infer T> ? T
    : { readonly [L in keyof E[K]]: E[K][L] extends Option<infer T> ? T : never };
};

/** A described options object whose complete form is `T`. */
export interface OptionsSchema<T extends object> {
  readonly entries: OptionEntries;
  /** Every option with its path, in the order of declaration. */
  readonly flat: readonly FlatOption[];
  /** Never set: carries `T` for inference. */
  readonly output?: T;
}

/** One option and where it lives. */
export interface FlatOption {
  /** `["socket", "receiveBufferBytes"]`. */
  readonly path: readonly string[];
  /** The canonical flag without dashes: `socket-receive-buffer-bytes`. */
  readonly flagName: string;
  readonly option: Option<unknown>;
}

/** True or false. */
export function boolean(): Value<boolean> {
  return value("boolean", v.boolean(), "true or false", String);
}

/** A whole number between `min` and `max`, both included. */
export function integer(min: number, max: number): Value<number> {
  const expected = `an integer, ${range(min, max, String)}`;
  return value(
    "integer",
    v.pipe(numberOr(parseNumber), v.integer(), ...within(min, max)),
    expected,
    String,
  );
}

/** A number between `min` and `max`, both included. */
export function number(min: number, max: number): Value<number> {
  const expected = `a number, ${range(min, max, String)}`;
  return value("number", v.pipe(numberOr(parseNumber), ...within(min, max)), expected, String);
}

/** Text of at most `maxLength` UTF-16 units. */
export function text(maxLength = 65_536): Value<string> {
  return value(
    "string",
    v.pipe(v.string(), v.maxLength(maxLength)),
    `text of at most ${maxLength} characters`,
    String,
  );
}

/** The name of a file or folder. */
export function path(): Value<string> {
  return value("path", v.pipe(v.string(), v.minLength(1)), "a path", String);
}

/** Text that is never printed. */
export function secret(): Value<string> {
  return value("secret", v.string(), "text", () => "…");
}

/** One of the given words. */
export function choice<const T extends string>(words: readonly T[]): Value<T> {
  const expected = `one of ${words.map((word) => JSON.stringify(word)).join(", ")}`;
  return { ...value("choice", v.picklist(words), expected, String), choices: words };
}

/** Milliseconds, or text such as `1500ms`, `2s`, `5m`. */
export function duration(minMs: number, maxMs: number): Value<number> {
  const expected = `a duration, ${range(minMs, maxMs, formatDuration)}`;
  return value(
    "duration",
    v.pipe(numberOr(parseDuration), ...within(minMs, maxMs)),
    expected,
    formatDuration,
  );
}

/** Bytes, or text such as `64K`, `8MiB`. */
export function size(minBytes: number, maxBytes: number): Value<number> {
  const expected = `a size, ${range(minBytes, maxBytes, formatSize)}`;
  return value(
    "size",
    v.pipe(numberOr(parseSize), v.integer(), ...within(minBytes, maxBytes)),
    expected,
    formatSize,
  );
}

/** Bits per second, or text such as `100M`. */
export function rate(minBps: number, maxBps: number): Value<number> {
  const expected = `a rate in bit/s, ${range(minBps, maxBps, formatRate)}`;
  return value(
    "rate",
    v.pipe(numberOr(parseRate), ...within(minBps, maxBps)),
    expected,
    formatRate,
  );
}

/** A port, 0 to 65535; 0 lets the system choose. */
export function port(): Value<number> {
  return { ...integer(0, 65535), kind: "port", expected: "a port, 0 to 65535" };
}

/** `host:port`, `[v6]:port`, `:port` or `host`, as text or already in parts. */
export function endpoint(): Value<Endpoint> {
  const parts = v.object({
    host: v.string(),
    port: v.optional(v.pipe(v.number(), v.integer(), v.minValue(0), v.maxValue(65535))),
  });
  const schema = v.pipe(
    v.union([parts, parsed(parseEndpoint)]),
    v.transform(({ host, port }): Endpoint => Object.freeze({ host, port })),
  );
  return value("endpoint", schema, '"host:port", "[v6]:port" or ":port"', formatEndpoint);
}

/** `10.0.0.0/8`, `2001:db8::/32`, as text or already in parts. */
export function cidr(): Value<Cidr> {
  const parts = v.pipe(
    v.object({ address: v.string(), prefixBits: v.number() }),
    v.transform(formatCidr),
    parsing(parseCidr),
  );
  return value(
    "cidr",
    v.union([parts, parsed(parseCidr)]),
    "an address block such as 10.0.0.0/8",
    formatCidr,
  );
}

/** Any number of values, at most `maxLength`. */
export function list<T>(member: Value<T>, maxLength = 1024): Value<readonly T[]> {
  const schema = v.pipe(
    v.array(member.schema),
    v.maxLength(maxLength),
    v.transform((values): readonly T[] => Object.freeze(values)),
  );
  const format = (values: readonly T[]): string => values.map(member.format).join(", ");
  const expected = `a list of at most ${maxLength}, each ${member.expected}`;
  return {
    ...value("list", schema, expected, format),
    member: member.kind,
    choices: member.choices,
  };
}

/** An option with a default. */
export function option<T>(value: Value<T>, fallback: T, details: OptionDetails): Option<T>;
/** An option that may stay `undefined`. */
export function option<T>(
  value: Value<T>,
  fallback: undefined,
  details: OptionDetails,
): Option<T | undefined>;
export function option<T>(
  value: Value<T>,
  fallback: T | undefined,
  details: OptionDetails,
): Option<T | undefined> {
  // Formatters take what their own parser made; behind `unknown` only values of that parser arrive.
  return { value: value as Value<unknown>, fallback, details };
}

/**
 * Describes an options object.
 *
 * @param entries Options by their API name, and groups of options one level deep.
 */
export function options<E extends OptionEntries>(entries: E): OptionsSchema<Resolved<E>> {
  const flat: FlatOption[] = [];
  for (const [key, entry] of Object.entries(entries)) {
    if (isOption(entry)) flat.push(flatten([key], entry));
    else {for (const [inner, option] of Object.entries(entry)) {
        flat.push(flatten([key, inner], option));
      }}
  }
  return Object.freeze({ entries, flat: Object.freeze(flat) });
}

/**
 * Checks an options object, fills in the defaults and freezes the result.
 *
 * @param schema What is allowed.
 * @param input What was given; members that are `undefined` take their default.
 * @param what Whose options they are, for messages: `TFTP client options`.
 * @throws {TypeError} For an unknown key, naming the nearest known one, and for a value of the wrong shape.
 * @throws {RangeError} For a value outside its range.
 * @throws {SyntaxError} For text that is not what its option calls for.
 */
export function resolve<T extends object>(
  schema: OptionsSchema<T>,
  input: object,
  what: string,
): T {
  // Each member is checked against the entry it was declared with, so the assembled object has the declared shape.
  return resolveEntries(schema.entries, input, what, "") as T;
}

/**
 * Checks one word from a command line or an environment.
 *
 * @param option What the word is for.
 * @param word The text as typed; for a list, one member of it.
 * @param name How the option is called there: `--block-size`.
 * @returns The value {@linkcode resolve} takes.
 * @throws {RangeError} When it is out of range. @throws {SyntaxError} When it cannot be read.
 */
export function readWord(option: Option<unknown>, word: string, name: string): unknown {
  const { kind, member } = option.value;
  let input: unknown = word;
  if ((member ?? kind) === "boolean") {
    if (/^(?:true|yes|on|1)$/i.test(word)) input = true;
    else if (/^(?:false|no|off|0)$/i.test(word)) input = false;
  }
  const result = check(option.value, kind === "list" ? [input] : input, `Cannot use ${name}`, "it");
  return kind === "list" ? (result as readonly unknown[])[0] : result;
}

/** The flag of an API name: `receiveBufferBytes` is `receive-buffer-bytes`. */
export function kebabCase(name: string): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/**
 * The candidate that was most likely meant.
 *
 * @returns The nearest within an edit distance of 2 (a swap of neighbours counts 1), or `undefined`.
 */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: string | undefined;
  let least = 3;
  for (const candidate of candidates) {
    const distance = editDistance(word.toLowerCase(), candidate.toLowerCase());
    if (distance < least && distance < candidate.length) [best, least] = [candidate, distance];
  }
  return best;
}

function resolveEntries(
  entries: OptionEntries,
  input: object,
  what: string,
  prefix: string,
): Readonly<Record<string, unknown>> {
  if (typeof input !== "object" || input === null || Array.isArray(input)) {
    const where = prefix === "" ? "the options" : JSON.stringify(prefix.slice(0, -1));
    throw new TypeError(`Cannot resolve ${what}: ${where} is ${shown(input)}, expected an object`);
  }
  const known = Object.keys(entries);
  for (const key of Object.keys(input)) {
    if (Object.hasOwn(entries, key)) continue;
    const near = nearest(key, known);
    const expected = near === undefined
      ? `one of ${known.map((name) => JSON.stringify(name)).join(", ")}`
      : JSON.stringify(near);
    throw new TypeError(
      `Cannot resolve ${what}: unknown option ${
        JSON.stringify(prefix + key)
      }, expected ${expected}`,
    );
  }
  const output: Record<string, unknown> = {};
  for (const [key, entry] of Object.entries(entries)) {
    const given: unknown = Object.hasOwn(input, key) ? Reflect.get(input, key) : undefined;
    if (!isOption(entry)) {
      output[key] = resolveEntries(entry, (given ?? {}) as object, what, `${prefix}${key}.`);
    } else if (given === undefined) output[key] = entry.fallback;
    else {output[key] = check(
        entry.value,
        given,
        `Cannot resolve ${what}`,
        JSON.stringify(prefix + key),
      );}
  }
  return Object.freeze(output);
}

function check(value: Value<unknown>, input: unknown, cannot: string, name: string): unknown {
  const result = v.safeParse(value.schema, input, { abortEarly: true });
  if (result.success) return result.output;
  const issue = result.issues[0];
  const secret = value.kind === "secret" || value.member === "secret";
  const found = secret ? "not usable" : shown(issue.path === undefined ? input : issue.input);
  const message = `${cannot}: ${name} is ${found}, expected ${value.expected}`;
  throw new (ERRORS[issue.type] ?? TypeError)(message);
}

const ERRORS: Readonly<Record<string, ErrorConstructor>> = {
  min_value: RangeError,
  max_value: RangeError,
  min_length: RangeError,
  max_length: RangeError,
  raw_transform: SyntaxError,
};

function value<T>(
  kind: ValueKind,
  schema: v.GenericSchema<unknown, T>,
  expected: string,
  format: (value: T) => string,
): Value<T> {
  return { kind, schema, expected, format, choices: [], member: undefined };
}

/** A number as it is, or text that `parse` understands. */
function numberOr(parse: (text: string) => number | undefined): v.GenericSchema<unknown, number> {
  return v.lazy((input) => typeof input === "string" ? parsed(parse) : v.number());
}

function parsed<T>(parse: (text: string) => T | undefined): v.GenericSchema<unknown, T> {
  return v.pipe(v.string(), parsing(parse));
}

function parsing<T>(parse: (text: string) => T | undefined): v.GenericPipeItem<string, T> {
  return v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
    const result = parse(dataset.value);
    if (result !== undefined) return result;
    addIssue();
    return NEVER;
  });
}

function within(
  min: number,
  max: number,
): [v.MinValueAction<number, number, undefined>, v.MaxValueAction<number, number, undefined>] {
  return [v.minValue(min), v.maxValue(max)];
}

function parseNumber(text: string): number | undefined {
  return /^-?\d+(?:\.\d+)?$/.test(text) ? Number(text) : undefined;
}

function range(min: number, max: number, format: (value: number) => string): string {
  return max === Infinity || max === Number.MAX_SAFE_INTEGER
    ? `${format(min)} or more`
    : `${format(min)} to ${format(max)}`;
}

function flatten(path: readonly string[], option: Option<unknown>): FlatOption {
  return { path, flagName: path.map(kebabCase).join("-"), option };
}

function isOption(
  entry: Option<unknown> | Readonly<Record<string, Option<unknown>>>,
): entry is Option<unknown> {
  return typeof entry["details"] === "object" && "help" in entry["details"];
}

function shown(input: unknown): string {
  if (typeof input === "string") {
    return JSON.stringify(input.length > 60 ? `${input.slice(0, 60)}…` : input);
  }
  if (typeof input === "object" && input !== null) {
    return Array.isArray(input) ? "a list" : "an object";
  }
  if (typeof input === "function") return "a function";
  return String(input);
}

function editDistance(a: string, b: string): number {
  let before: number[] = [];
  let above = Array.from({ length: b.length + 1 }, (_, index) => index);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let cost = Math.min(above[j]! + 1, row[j - 1]! + 1, above[j - 1]! + (same ? 0 : 1));
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1]) {
        cost = Math.min(cost, before[j - 2]! + 1);
      }
      row.push(cost);
    }
    before = above;
    above = row;
  }
  return above[b.length]!;
}
