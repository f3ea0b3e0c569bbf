/**
 * Expressions unfolded into one program of small steps, the automaton of Thompson (1968): many steps can be under way at
 * once, and none of them is ever taken back.
 *
 * @module
 */

import {
  type Assertion,
  type CharSet,
  hasSymbol,
  OUTSIDE,
  parseRegex,
  type RegexNode,
  SYMBOLS,
  wordSymbols,
} from "./regex.ts";

/** Goes on in two places. */
export const SPLIT = 0;
/** Takes a character of a set. */
export const TAKE = 1;
/** Goes on where an assertion holds. */
export const ASSERT = 2;
/** An expression was found. */
export const FOUND = 3;

/** What a program asserts, by number. */
export const ASSERTIONS: readonly Assertion[] = [
  "begin-text",
  "end-text",
  "begin-line",
  "end-line",
  "word-boundary",
  "inside-word",
];

/**
 * Steps by their number, as three columns:
 *
 * ```text
 *   SPLIT   one way        the other way
 *   TAKE    set            next step
 *   ASSERT  assertion      next step
 *   FOUND   id             -
 * ```
 */
export interface RegexProgram {
  /** Kinds of the steps. */
  readonly kinds: Uint8Array<ArrayBuffer>;
  /** First column. */
  readonly lefts: Int32Array<ArrayBuffer>;
  /** Second column. */
  readonly rights: Int32Array<ArrayBuffer>;
  /** Where the expressions begin. */
  readonly starts: readonly number[];
  /** Number of classes: characters of one class are in the same sets. */
  readonly classCount: number;
  /** Class of each character. */
  readonly classes: Uint8Array<ArrayBuffer>;
  /** Whether a set has a class, at `set * classCount + class`. */
  readonly members: Uint8Array<ArrayBuffer>;
  /** Whether a class is a character of words. */
  readonly words: Uint8Array<ArrayBuffer>;
  /** Whether some assertion looks at words. */
  readonly asksWords: boolean;
  /** Whether some assertion looks at lines. */
  readonly asksLines: boolean;
}

/**
 * Unfolds expressions. What several begin with is there once: a thousand of them that begin with the same wildcard would
 * else be a thousand wildcards under way for every byte.
 *
 * @param expressions Each with its id.
 * @throws {SyntaxError} As {@linkcode parseRegex}.
 */
export function compileRegexes(
  expressions: readonly (readonly [source: string, id: number])[],
): RegexProgram {
  const branches = [new Branch(undefined)];
  for (const [source, id] of expressions) {
    const node = parseRegex(source);
    let branch = branches[0]!;
    for (const each of node.kind === "sequence" ? node.nodes : [node]) {
      const name = nameOf(each);
      let next = branch.next.get(name);
      if (next === undefined) {
        next = new Branch(each);
        branch.next.set(name, next);
        branches.push(next);
      }
      branch = next;
    }
    branch.ids.add(id);
  }
  const writer = new Writer();
  // Branches come after what they are on, so backwards every one knows where its own begin.
  for (const branch of branches.reverse()) {
    const ways = [...branch.ids].map((id) => writer.step(FOUND, id, 0));
    for (const { begin } of branch.next.values()) ways.push(begin);
    if (ways.length === 0) continue;
    const all = ways.reduceRight((after, each) => writer.step(SPLIT, each, after));
    branch.begin = branch.node === undefined ? all : writer.node(branch.node, all);
  }
  return writer.finish(expressions.length === 0 ? [] : [branches.at(-1)!.begin]);
}

/** A node that some expressions have behind the same beginning. */
class Branch {
  readonly node: RegexNode | undefined;
  readonly next = new Map<string, Branch>();
  /** Expressions that end here. */
  readonly ids = new Set<number>();
  begin = 0;

  constructor(node: RegexNode | undefined) {
    this.node = node;
  }
}

/** Equal for equal nodes. */
function nameOf(node: RegexNode): string {
  switch (node.kind) {
    case "set":
      return node.set.join();
    case "assertion":
      return node.what;
    case "repeat":
      return `${nameOf(node.node)}{${node.min},${node.max}}`;
    default:
      return `(${node.nodes.map(nameOf).join(node.kind === "choice" ? "|" : "&")})`;
  }
}

class Writer {
  readonly #kinds: number[] = [];
  readonly #lefts: number[] = [];
  readonly #rights: number[] = [];
  readonly #sets: CharSet[] = [];
  readonly #setNumbers = new Map<string, number>();
  readonly #asserted = new Set<Assertion>();

  step(kind: number, left: number, right: number): number {
    this.#kinds.push(kind);
    this.#lefts.push(left);
    return this.#rights.push(right) - 1;
  }

  /** Writes a node in front of a step. @returns Where it begins. */
  node(node: RegexNode, next: number): number {
    switch (node.kind) {
      case "set":
        return this.step(TAKE, this.#set(node.set), next);
      case "assertion":
        this.#asserted.add(node.what);
        return this.step(ASSERT, ASSERTIONS.indexOf(node.what), next);
      case "sequence":
        return node.nodes.reduceRight((after, each) => this.node(each, after), next);
      case "choice":
        return node.nodes.map((each) => this.node(each, next))
          .reduceRight((after, each) => this.step(SPLIT, each, after));
      case "repeat":
        return this.#repeat(node.node, node.min, node.max, next);
    }
  }

  #repeat(node: RegexNode, min: number, max: number, next: number): number {
    let after = next;
    let copies = min;
    if (max === Infinity) {
      const loop = this.step(SPLIT, 0, next);
      const body = this.node(node, loop);
      this.#lefts[loop] = body;
      // The body is one of those that have to be there.
      after = min === 0 ? loop : body;
      copies = Math.max(min - 1, 0);
    } else {
      for (let each = min; each < max; each++) {
        after = this.step(SPLIT, this.node(node, after), next);
      }
    }
    for (let each = 0; each < copies; each++) after = this.node(node, after);
    return after;
  }

  #set(set: CharSet): number {
    const name = set.join();
    let number = this.#setNumbers.get(name);
    if (number === undefined) {
      number = this.#sets.push(set) - 1;
      this.#setNumbers.set(name, number);
    }
    return number;
  }

  finish(starts: readonly number[]): RegexProgram {
    const asksWords = this.#asserted.has("word-boundary") || this.#asserted.has("inside-word");
    const asksLines = this.#asserted.has("begin-line") || this.#asserted.has("end-line");
    const word = wordSymbols();
    // Who asks about words or lines tells characters apart that no set does.
    const apart = (symbol: number): string =>
      (asksWords && hasSymbol(word, symbol) ? "w" : "") + (asksLines && symbol === 10 ? "l" : "");
    const classes = new Uint8Array(SYMBOLS);
    const numbers = new Map<string, number>();
    const examples: number[] = [];
    for (let symbol = 0; symbol <= OUTSIDE; symbol++) {
      let name = apart(symbol);
      for (const [index, set] of this.#sets.entries()) {
        if (hasSymbol(set, symbol)) name += ` ${index}`;
      }
      let number = numbers.get(name);
      if (number === undefined) numbers.set(name, number = examples.push(symbol) - 1);
      classes[symbol] = number;
    }
    const members = new Uint8Array(this.#sets.length * examples.length);
    for (const [set, each] of this.#sets.entries()) {
      for (const [number, symbol] of examples.entries()) {
        members[set * examples.length + number] = hasSymbol(each, symbol) ? 1 : 0;
      }
    }
    return {
      kinds: Uint8Array.from(this.#kinds),
      lefts: Int32Array.from(this.#lefts),
      rights: Int32Array.from(this.#rights),
      starts,
      classCount: examples.length,
      classes,
      members,
      words: Uint8Array.from(examples, (symbol) => hasSymbol(word, symbol) ? 1 : 0),
      asksWords,
      asksLines,
    };
  }
}
