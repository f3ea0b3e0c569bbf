/**
 * Configuration files: JSON with comments and trailing commas, as trees that remember where everything stood.
 *
 * @module
 */

import type { Node, ParseError } from "jsonc-parser";

/** A configuration file's text. */
export interface ConfigSource {
  /** What it is called in problems: a path. */
  readonly name: string;
  /** What is in it. */
  readonly text: string;
}

/** A place in a file. */
export interface ConfigPosition {
  /** {@linkcode ConfigSource.name}. */
  readonly file: string;
  /** Line, counted from 1. */
  readonly line: number;
  /** Column, counted from 1 in UTF-16 units. */
  readonly column: number;
}

/** Keys and positions from the root. */
export type ConfigPath = readonly (string | number)[];

/** Something wrong with a configuration. */
export interface ConfigProblem {
  /** The place as text: `inbounds[0].listen_port`; empty is the root. */
  readonly path: string;
  /** Where it stands; `undefined` when the configuration came from a program. */
  readonly position: ConfigPosition | undefined;
  /** What is wrong. */
  readonly message: string;
  /** What would be right, or where the other half is. */
  readonly hint: string;
}

interface Source {
  readonly name: string;
  /** Offsets at which lines begin. */
  readonly lines: readonly number[];
}

interface Place {
  readonly source: Source;
  readonly offset: number;
}

/** A value with its place. */
interface Tree {
  readonly place: Place;
  /** Members of an object, in order. */
  readonly members?: Map<string, { readonly keyPlace: Place; readonly value: Tree }>;
  /** Entries of a list. */
  readonly entries?: readonly Tree[];
  /** Anything else. */
  readonly scalar?: string | number | boolean | null;
}

/** A configuration as read, from one file or merged from several. */
export class ConfigDocument {
  /** What is wrong with the text itself. */
  readonly problems: readonly ConfigProblem[];
  readonly #root: Tree | undefined;

  /** Made by {@linkcode parseConfigText} and {@linkcode ConfigDocument.mergedWith}. */
  constructor(root: unknown, problems: readonly ConfigProblem[]) {
    // Only this file makes documents; `unknown` keeps the tree's shape out of the public declaration.
    this.#root = root as Tree | undefined;
    this.problems = problems;
  }

  /** The value as plain objects, lists and scalars. */
  get value(): unknown {
    return this.#root === undefined ? {} : plain(this.#root);
  }

  /**
   * Where something stands.
   *
   * @param path Its path; what does not exist is where its nearest container is.
   * @param atKey Whether its key is wanted, not its value.
   */
  locate(path: ConfigPath, atKey = false): ConfigPosition | undefined {
    if (this.#root === undefined) return undefined;
    let tree = this.#root;
    let place = tree.place;
    for (const [depth, step] of path.entries()) {
      const member = typeof step === "string" ? tree.members?.get(step) : undefined;
      const next = typeof step === "number" ? tree.entries?.[step] : member?.value;
      if (next === undefined) break;
      tree = next;
      place = atKey && depth === path.length - 1 && member !== undefined
        ? member.keyPlace
        : tree.place;
    }
    return positionOf(place);
  }

  /** Writes a path, leaving out positions in lists that the file does not have: a lone value stands for a list. */
  pathText(path: ConfigPath): string {
    let tree = this.#root;
    let text = "";
    for (const step of path) {
      if (typeof step === "number" && tree !== undefined && tree.entries === undefined) continue;
      text += pathStep(step, text === "");
      tree = typeof step === "number" ? tree?.entries?.[step] : tree?.members?.get(step)?.value;
    }
    return text;
  }

  /** This document with another on top: objects are merged, lists joined, and of anything else the later one stays. */
  mergedWith(later: ConfigDocument): ConfigDocument {
    const problems = [...this.problems, ...later.problems];
    if (this.#root === undefined || later.#root === undefined) {
      return new ConfigDocument(this.#root ?? later.#root, problems);
    }
    return new ConfigDocument(merge(this.#root, later.#root), problems);
  }
}

/** A path as people write it: `inbounds[0].listen_port`. */
export function pathText(path: ConfigPath): string {
  return path.reduce<string>((text, step) => text + pathStep(step, text === ""), "");
}

function pathStep(step: string | number, first: boolean): string {
  if (typeof step === "number") return `[${step}]`;
  if (!/^[\w$-]+$/.test(step)) return `[${JSON.stringify(step)}]`;
  return first ? step : `.${step}`;
}

/**
 * Gives a problem its place.
 *
 * @param problem What is wrong, by its path; with `atKey` the key is at fault.
 * @param document Where it stands; `undefined` for configurations that a program made.
 */
export function located(
  problem: {
    readonly path: ConfigPath;
    readonly message: string;
    readonly hint: string;
    readonly atKey?: boolean;
  },
  document: ConfigDocument | undefined,
): ConfigProblem {
  const { path, message, hint, atKey } = problem;
  return {
    path: document?.pathText(path) ?? pathText(path),
    position: document?.locate(path, atKey),
    message,
    hint,
  };
}

/**
 * A problem as one line: `inbounds[0].listen_prot (12:7): unknown field, did you mean "listen_port"?`.
 *
 * @param withFile Whether the line begins with the file's name.
 */
export function formatProblem(problem: ConfigProblem, withFile = false): string {
  const { position, path, message, hint } = problem;
  const where = position === undefined ? "" : ` (${position.line}:${position.column})`;
  const file = withFile && position !== undefined ? `${position.file}: ` : "";
  return `${file}${path === "" ? "configuration" : path}${where}: ${message}, ${hint}`;
}

/**
 * Reads JSON with comments. Problems of the text are in the result; what could be understood is there as well.
 */
export async function parseConfigText(source: ConfigSource): Promise<ConfigDocument> {
  const { parseTree, printParseErrorCode } = await import("jsonc-parser");
  const lines = lineStarts(source.text);
  const file: Source = { name: source.name, lines };
  const errors: ParseError[] = [];
  const node = parseTree(source.text, errors, { allowTrailingComma: true });
  const problems = errors.map(({ error, offset }): ConfigProblem => {
    const position = positionOf({ source: file, offset });
    const [message, hint] = SYNTAX[printParseErrorCode(error)] ?? ["not valid JSON", "look here"];
    return { path: "", position, message, hint };
  });
  if (node === undefined) {
    if (problems.length > 0) return new ConfigDocument(undefined, problems);
    const position = { file: source.name, line: 1, column: 1 };
    const hint = "expected an object";
    return new ConfigDocument(undefined, [{ path: "", position, message: "is empty", hint }]);
  }
  const doubles: ConfigProblem[] = [];
  return new ConfigDocument(treeOf(node, file, [], doubles), [...problems, ...doubles]);
}

const SYNTAX: Readonly<Record<string, readonly [message: string, hint: string]>> = {
  InvalidSymbol: ["unknown word", "expected true, false, null, a number or text in double quotes"],
  InvalidNumberFormat: ["not a number", "numbers are decimal, without leading zeros"],
  PropertyNameExpected: ["no key", "expected a key in double quotes"],
  ValueExpected: ["no value", "expected a value"],
  ColonExpected: ["no colon", 'expected ":" between key and value'],
  CommaExpected: ["no comma", 'expected "," between values'],
  CloseBraceExpected: ["an object is not closed", 'expected "}"'],
  CloseBracketExpected: ["a list is not closed", 'expected "]"'],
  EndOfFileExpected: ["more than one value", "expected the end of the file"],
  InvalidCommentToken: ["a broken comment", 'comments are "//" and "/* */"'],
  UnexpectedEndOfComment: ["a comment is not closed", 'expected "*/"'],
  UnexpectedEndOfString: ["text is not closed", "expected a double quote on the same line"],
  UnexpectedEndOfNumber: ["a number is cut off", "expected a digit"],
  InvalidUnicode: ["a broken escape", 'expected four hexadecimal digits after "\\u"'],
  InvalidEscapeCharacter: ["an unknown escape", "double the backslash"],
  InvalidCharacter: ["a control character in text", "write it as an escape"],
};

function treeOf(
  node: Node,
  source: Source,
  path: ConfigPath,
  doubles: ConfigProblem[],
): Tree {
  const place = { source, offset: node.offset };
  if (node.type === "array") {
    const entries = (node.children ?? []).map((child, index) =>
      treeOf(child, source, [...path, index], doubles)
    );
    return { place, entries };
  }
  if (node.type !== "object") {
    // Scalars carry their value; the other kinds were handled above.
    return { place, scalar: (node.value ?? null) as string | number | boolean | null };
  }
  const members: NonNullable<Tree["members"]> = new Map();
  for (const property of node.children ?? []) {
    const [key, value] = property.children ?? [];
    if (key === undefined || value === undefined) continue; // reported as a syntax error
    const name = String(key.value);
    const keyPlace = { source, offset: key.offset };
    const earlier = members.get(name);
    if (earlier !== undefined) {
      const { line, column } = positionOf(earlier.keyPlace);
      doubles.push({
        path: pathText([...path, name]),
        position: positionOf(keyPlace),
        message: "is there twice",
        hint: `first at ${line}:${column}`,
      });
    }
    members.set(name, { keyPlace, value: treeOf(value, source, [...path, name], doubles) });
  }
  return { place, members };
}

function merge(earlier: Tree, later: Tree): Tree {
  if (earlier.entries !== undefined && later.entries !== undefined) {
    return { place: later.place, entries: [...earlier.entries, ...later.entries] };
  }
  if (earlier.members === undefined || later.members === undefined) return later;
  const members = new Map(earlier.members);
  for (const [name, member] of later.members) {
    const before = members.get(name);
    const value = before === undefined ? member.value : merge(before.value, member.value);
    members.set(name, { keyPlace: member.keyPlace, value });
  }
  return { place: later.place, members };
}

function plain(tree: Tree): unknown {
  if (tree.entries !== undefined) return tree.entries.map(plain);
  if (tree.members === undefined) return tree.scalar;
  const output: Record<string, unknown> = {};
  for (const [name, { value }] of tree.members) {
    // "__proto__" is a key like any other.
    Object.defineProperty(output, name, {
      value: plain(value),
      enumerable: true,
      writable: true,
      configurable: true,
    });
  }
  return output;
}

function lineStarts(text: string): readonly number[] {
  const starts = [0];
  for (let i = text.indexOf("\n"); i >= 0; i = text.indexOf("\n", i + 1)) starts.push(i + 1);
  return starts;
}

function positionOf({ source, offset }: Place): ConfigPosition {
  const { lines, name } = source;
  let low = 0;
  let high = lines.length;
  while (high - low > 1) {
    const middle = low + high >> 1;
    if (lines[middle]! <= offset) low = middle;
    else high = middle;
  }
  return { file: name, line: low + 1, column: offset - lines[low]! + 1 };
}
