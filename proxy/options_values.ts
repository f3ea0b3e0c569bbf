/**
 * The blocks the configuration's schemas are built from. Each carries in its message what would have been accepted, so
 * that whoever reports a problem can say what was found and what was expected. Valibot stays inside the `options` files.
 *
 * @module
 */

import * as v from "valibot";
import { domainToASCII } from "node:url";
import { readIp, readIpBlock } from "./ip_text.ts";
import type { PortSpan } from "./rule_types.ts";

/** Something that can be checked and becomes a `T`. */
export type Value<T> = v.GenericSchema<unknown, T>;

/** A member of an object in the file. */
export interface Field<T> {
  /** The value, wrapped so that leaving it out means its default. */
  readonly schema: Value<T>;
  /** Key in the file, when it does not follow from the name. */
  readonly key: string | undefined;
}

/** Members of an object by their name in the resolved configuration. */
export type FieldsOf<T> = { readonly [K in keyof T]-?: Field<T[K]> };

/** Begins the message of a feature that is known and missing. */
export const UNSUPPORTED = "not supported by this build: ";
/** The message of a field that is not known; the hint is added where the object's fields are known. */
export const UNKNOWN_FIELD = "unknown field";

/**
 * A field with a default.
 *
 * @param value What it holds.
 * @param fallback The default as it would stand in the file.
 * @param help What it is for, one line.
 * @param key Its key, when it is not the name in snake case (without `_ms`).
 */
export function field<T>(
  value: Value<T>,
  fallback: unknown,
  help: string,
  key?: string,
): Field<T> {
  return { schema: v.optional(described(value, help), () => fallback) as Value<T>, key };
}

/** A field that may be left out. */
export function optional<T>(value: Value<T>, help: string, key?: string): Field<T | undefined> {
  return { schema: v.optional(described(value, help)), key };
}

/** A field that must be there. */
export function required<T>(value: Value<T>, help: string, key?: string): Field<T> {
  return { schema: described(value, help), key };
}

/** Fields of which none is required. */
export function noneRequired(
  fields: Readonly<Record<string, Field<unknown>>>,
): Readonly<Record<string, Field<unknown>>> {
  return Object.fromEntries(
    Object.entries(fields).map(([name, { schema, key }]) => {
      const loose = schema.type === "optional" ? schema : v.optional(schema);
      return [name, { schema: loose, key }];
    }),
  );
}

function described<T>(value: Value<T>, help: string): Value<T> {
  // The published schema ends at the first change of a value, so the description goes right behind the beginning.
  if (!("pipe" in value) || !Array.isArray(value.pipe)) return v.pipe(value, v.description(help));
  const [first, ...rest]: Value<unknown>[] = value.pipe;
  return v.pipe(described(first!, help), ...rest as [Value<T>]);
}

/** The key of a name: `tcpKeepAliveMs` is `tcp_keep_alive`; files write the unit in the value. */
export function fileKey(name: string): string {
  return name.replace(/Ms$/, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
}

/** Fields of an object that are known and not supported: the key, and what is missing. */
export type UnsupportedFields = Readonly<Record<string, string>>;

/**
 * An object of the file.
 *
 * @param fields Its members.
 * @param unsupported Members that are known and refused, unless they say "off".
 * @returns A value whose result has the names, not the keys.
 */
export function record<T extends object>(
  fields: FieldsOf<T>,
  unsupported: UnsupportedFields = {},
): Value<T> {
  const names = new Map<string, string>();
  const entries: Record<string, Value<unknown>> = {};
  for (const [name, { schema, key }] of Object.entries<Field<unknown>>(fields)) {
    const written = key ?? fileKey(name);
    names.set(written, name);
    entries[written] = schema;
  }
  const known = [...names.keys()];
  const members = v.looseObject(entries, "an object");
  const object = v.pipe(
    {
      ...members,
      "~run": (dataset, config) => {
        const input: unknown = dataset.value;
        // To Valibot a list is an object without the members.
        if (Array.isArray(input)) return NO_OBJECT["~run"](dataset, config);
        const result = members["~run"](dataset, config);
        if (isObject(input) && isObject(result.value)) keepSkipped(input, result.value);
        return result;
      },
    } satisfies typeof members,
    v.rawCheck(({ dataset, addIssue }) => {
      const input: unknown = dataset.value;
      if (!isObject(input)) return;
      for (const [key, value] of Object.entries(input)) {
        if (names.has(key)) continue;
        const missing = Object.hasOwn(unsupported, key) ? unsupported[key] : undefined;
        if (missing !== undefined && isOff(value)) continue;
        const message = missing === undefined
          ? `${UNKNOWN_FIELD}\n${[...known, ...Object.keys(unsupported)].join("\n")}`
          : UNSUPPORTED + missing;
        // The item's input and origin are not read by the reporter, which walks the file by keys.
        addIssue({ message, path: [{ type: "object", origin: "key", input, key, value }] });
      }
    }),
    v.transform((input) => {
      const output: Record<string, unknown> = {};
      for (const [key, name] of names) output[name] = input[key];
      return output;
    }),
  );
  // Each member was checked by the field it was declared with, so the assembled object has the declared shape.
  return object as Value<unknown> as Value<T>;
}

/** Copies the keys that Valibot leaves out unseen, so that they are reported like any unknown one. */
function keepSkipped(from: object, into: object): void {
  for (const key of ["__proto__", "prototype", "constructor"]) {
    if (!Object.hasOwn(from, key)) continue;
    Object.defineProperty(into, key, { value: Reflect.get(from, key), enumerable: true });
  }
}

const NO_OBJECT = v.never("an object");

/** Values that switch a feature off say what this build does anyway. */
function isOff(value: unknown): boolean {
  if (value === false || value === null || value === "" || value === 0) return true;
  if (Array.isArray(value)) return value.length === 0;
  if (!isObject(value)) return false;
  return Object.keys(value).length === 0 || Reflect.get(value, "enabled") === false;
}

function isObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/**
 * One of several values, chosen by a look at the input: the problems of the chosen one are reported, not the union's.
 *
 * @param options All of them, for the published schema.
 * @param choose Picks one; a string refuses with that message.
 * @param key Where the refusal belongs: the discriminating field.
 */
function dispatch<T>(
  options: readonly Value<unknown>[],
  choose: (input: unknown) => Value<T> | string,
  key?: string,
): Value<T> {
  // Only `~run` decides what comes out; the union is what the published schema is made from.
  const union = v.union(options) as Value<unknown> as Value<T>;
  const refuse = (message: string): Value<T> =>
    v.rawTransform<unknown, T>(({ dataset, addIssue, NEVER }) => {
      const input = isObject(dataset.value) ? dataset.value : {};
      const at = key !== undefined && Object.hasOwn(input, key);
      addIssue({
        message,
        ...(at
          ? { path: [{ type: "object", origin: "value", input, key, value: input[key] }] }
          : {}),
      });
      return NEVER;
    }) as unknown as Value<T>;
  return {
    ...union,
    "~run": (dataset, config) => {
      const chosen = choose(dataset.value);
      if (typeof chosen !== "string") return chosen["~run"](dataset, config);
      return v.pipe(v.unknown(), refuse(chosen) as never)["~run"](dataset, config) as ReturnType<
        Value<T>["~run"]
      >;
    },
  };
}

/** How an object is told from its siblings. */
export interface Choice<T> {
  /** The discriminating field. */
  readonly key: string;
  /** What it is, for messages: `inbound type`. */
  readonly what: string;
  /** The values this build knows. */
  readonly variants: Readonly<Record<string, Value<T>>>;
  /** Values that are known and refused, with what is missing. */
  readonly unsupported?: UnsupportedFields;
  /** The value when the field is left out; `undefined` requires it. */
  readonly fallback?: string;
  /** A field of old versions instead of the discriminating one, with what to use. */
  readonly old?: { readonly key: string; readonly use: string };
  /** What the published schema shows instead of all variants, when they differ little. */
  readonly published?: Value<unknown>;
}

/** An object whose shape depends on one of its fields. */
export function tagged<T>(choice: Choice<T>): Value<T> {
  const { key, what, variants, unsupported = {}, fallback, published, old } = choice;
  const names = Object.keys(variants);
  return dispatch(published === undefined ? Object.values(variants) : [published], (input) => {
    if (!isObject(input)) return Object.values(variants)[0]!;
    let given = input[key];
    if (given === undefined || given === "") given = fallback;
    if (typeof given === "string" && Object.hasOwn(variants, given)) return variants[given]!;
    if (typeof given === "string" && Object.hasOwn(unsupported, given)) {
      return UNSUPPORTED + unsupported[given];
    }
    if (given === undefined && old !== undefined && Object.hasOwn(input, old.key)) {
      return `${UNSUPPORTED}the field ${JSON.stringify(old.key)}; ${old.use}`;
    }
    const found = given === undefined ? `missing ${what}` : `unknown ${what}`;
    return `${found}\n${[...names, ...Object.keys(unsupported)].join("\n")}`;
  }, key);
}

/** One value or the other, by whether the input is an object. */
export function objectOr<T>(object: Value<T>, other: Value<T>): Value<T> {
  return dispatch([other, object], (input) => isObject(input) ? object : other);
}

/** A list; a lone value stands for a list of one (proxy.md §2.2). */
export function list<T>(member: Value<T>): Value<readonly T[]> {
  const many: Value<readonly T[]> = v.array(member, "a list");
  const one: Value<readonly T[]> = v.pipe(member, v.transform((value) => [value]));
  return dispatch([one, many], (input) => Array.isArray(input) ? many : one);
}

/** A list that must be written as one. */
export function objects<T>(member: Value<T>): Value<readonly T[]> {
  return v.array(member, "a list");
}

/** An object with keys of the user's choice. */
export function dictionary<T>(value: Value<T>): Value<Readonly<Record<string, T>>> {
  return v.record(v.string(), value, "an object");
}

/** A value that is looked up when it is needed: for what contains itself. */
export function later<T>(value: () => Value<T>): Value<T> {
  return v.lazy(value);
}

/** A number, or a word that stands for one. */
export function numberOrWord(words: Readonly<Record<string, number>>, max: number): Value<number> {
  const expected = `a number, 0 to ${max}, or a name like ${
    Object.keys(words).slice(0, 5).join(", ")
  }`;
  const number = v.pipe(
    v.number(expected),
    v.integer(expected),
    v.minValue(0, expected),
    v.maxValue(max, expected),
  );
  const word = read(expected, (text) => {
    const name = text.toUpperCase();
    return Object.hasOwn(words, name) ? words[name] : undefined;
  });
  return dispatch([number, word], (input) => typeof input === "string" ? word : number);
}

/** A value that is changed once more. */
export function mapped<T, U>(value: Value<T>, change: (value: T) => U): Value<U> {
  return v.pipe(value, v.transform(change));
}

/** `true` or `false`. */
export function boolean(): Value<boolean> {
  return v.boolean("true or false");
}

/** Text. */
export function text(expected = "text"): Value<string> {
  return v.string(expected);
}

/** Text that is never shown in a problem. */
export function secret(): Value<string> {
  return v.string(SECRET);
}

/** What is expected of a secret; a problem with this message hides what was found. */
export const SECRET = "a secret as text";

/** A tag of something else; empty text is none. */
export function reference(): Value<string | undefined> {
  return mapped(v.string("a tag"), (tag) => tag === "" ? undefined : tag);
}

/** Text that must not be empty. */
export function nonEmpty(expected: string): Value<string> {
  return v.pipe(v.string(expected), v.minLength(1, expected));
}

/** One of the given words. */
export function oneOf<const T extends string | number>(words: readonly T[]): Value<T> {
  return v.picklist(words, `one of ${words.map((word) => JSON.stringify(word)).join(", ")}`);
}

/** A whole number. */
export function integer(min: number, max: number): Value<number> {
  const expected = max === Number.MAX_SAFE_INTEGER
    ? `an integer, ${min} or more`
    : `an integer, ${min} to ${max}`;
  return v.pipe(
    v.number(expected),
    v.integer(expected),
    v.minValue(min, expected),
    v.maxValue(max, expected),
  );
}

/** Text that is read into something else. */
function read<T>(expected: string, parse: (text: string) => T | undefined): Value<T> {
  return v.pipe(
    v.string(expected),
    v.rawTransform<string, T>(({ dataset, addIssue, NEVER }) => {
      const result = parse(dataset.value);
      if (result !== undefined) return result;
      addIssue({ message: expected });
      return NEVER;
    }),
  );
}

/** A length of time with units; a bare number is refused, its unit would be a guess. Milliseconds. */
export function duration(): Value<number> {
  return read('a duration like "300ms", "15s" or "1h30m"', parseDuration);
}

const UNITS: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  "µs": 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
  d: 86_400_000,
};

/**
 * Reads a duration as Go writes it, with days: `1h30m`, `1.5s`, `1d`.
 *
 * @returns Milliseconds, or `undefined` when it is not one, or is negative.
 */
export function parseDuration(text: string): number | undefined {
  if (!/^(?:\d+(?:\.\d+)?(?:ns|us|µs|ms|s|m|h|d))+$/.test(text)) {
    return text === "0" ? 0 : undefined;
  }
  let total = 0;
  for (const [, digits, unit] of text.matchAll(/(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d)/g)) {
    total += Number(digits) * UNITS[unit!]!;
  }
  return Number.isSafeInteger(Math.round(total)) ? total : undefined;
}

const WORDS = new Uint32Array(4);

/** An address, in its text form. */
export function address(): Value<string> {
  return read("an IP address", (text) => readIp(text, WORDS) === 0 ? undefined : text);
}

/** An address of one family, in its text form. */
export function addressOf(family: 4 | 6): Value<string> {
  return read(
    `an IPv${family} address`,
    (text) => readIp(text, WORDS) === family ? text : undefined,
  );
}

/** A block of addresses, in its text form. */
export function cidr(): Value<string> {
  return read(
    'an address or a block like "10.0.0.0/8"',
    (text) => readIpBlock(text) === undefined ? undefined : text,
  );
}

/** A name or an address of a server. */
export function host(): Value<string> {
  return read(
    "a name or an address",
    (text) => text === "" || /[\s/]/.test(text) ? undefined : text,
  );
}

/** Text, checked and read by a function that says what is wrong. */
export function checked(
  expected: string,
  problem: (text: string) => string | undefined,
): Value<string> {
  return v.pipe(
    v.string(expected),
    v.rawCheck(({ dataset, addIssue }) => {
      if (!dataset.typed) return;
      const wrong = problem(dataset.value);
      if (wrong !== undefined) addIssue({ message: `${expected}: ${wrong}` });
    }),
  );
}

/** Ports as `1000:2000`, `:1023`, `49152:`. */
export function portSpan(): Value<PortSpan> {
  return read('a range of ports like "1000:2000", ":3000" or "4000:"', (text) => {
    const match = /^(\d{0,5}):(\d{0,5})$/.exec(text);
    if (match === null || text === ":") return undefined;
    const first = match[1] === "" ? 0 : Number(match[1]);
    const last = match[2] === "" ? 65535 : Number(match[2]);
    return first <= last && last <= 65535 ? { first, last } : undefined;
  });
}

/** A netfilter mark: a number, or text in any of C's notations. 0 to 2³² − 1. */
export function mark(): Value<number> {
  const expected = 'a mark, 0 to 4294967295, or text like "0x1f"';
  const number = integer(0, 0xffff_ffff);
  const written = read(expected, (text) => {
    if (!/^(?:0[xX][\da-fA-F]{1,8}|\d{1,10})$/.test(text)) return undefined;
    return Number(text) <= 0xffff_ffff ? Number(text) : undefined;
  });
  return dispatch([number, written], (input) => typeof input === "string" ? written : number);
}

/** A whole name: lower case, without a final dot, in ASCII (RFC 5891). */
export function domainName(): Value<string> {
  return read("a domain name", asciiName);
}

/** A name with or without a leading dot. */
export function domainSuffix(): Value<string> {
  return read("a domain name, or a dot and one", (text) => {
    const name = asciiName(text.startsWith(".") ? text.slice(1) : text);
    return name === undefined ? undefined : text.startsWith(".") ? `.${name}` : name;
  });
}

function asciiName(text: string): string | undefined {
  const name = text.toLowerCase().replace(/\.$/, "");
  const ascii = /^[\x21-\x7e]+$/.test(name) ? name : domainToASCII(name);
  return ascii === "" || ascii.length > 255 || ascii.startsWith(".") ? undefined : ascii;
}
