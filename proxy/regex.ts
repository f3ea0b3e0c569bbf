/**
 * Regular expressions in RE2's syntax, as sing-box's files have them, read into a tree.
 *
 * They are asked about the names of hosts, which are ASCII: everything outside of it is one character here, that only a
 * dot and classes that leave something out take. What would make a search take longer than one pass over the name
 * (look-around, back-references) is not part of RE2 and refused when the configuration is checked.
 *
 * @module
 */

/** Characters of ASCII, and behind them everything else as one. */
export const SYMBOLS = 129;
/** What stands for all that is not ASCII. */
export const OUTSIDE = 128;

/** Characters as bits, five words of them. */
export type CharSet = Uint32Array<ArrayBuffer>;

/** What holds between two characters. */
export type Assertion =
  | "begin-text"
  | "end-text"
  | "begin-line"
  | "end-line"
  | "word-boundary"
  | "inside-word";

/** A part of an expression. */
export type RegexNode =
  | { readonly kind: "set"; readonly set: CharSet }
  | { readonly kind: "assertion"; readonly what: Assertion }
  | { readonly kind: "sequence"; readonly nodes: readonly RegexNode[] }
  | { readonly kind: "choice"; readonly nodes: readonly RegexNode[] }
  | {
    readonly kind: "repeat";
    readonly node: RegexNode;
    readonly min: number;
    /** `Infinity` for no bound. */
    readonly max: number;
  };

/**
 * Reads an expression that is searched for anywhere in a name.
 *
 * @throws {SyntaxError} Saying what is wrong with it, and where.
 */
export function parseRegex(source: string): RegexNode {
  const node = new Parser(source).run();
  if (sizeOf(node) > MOST_STEPS) {
    throw new SyntaxError(`${PREFIX}it unfolds to more than ${MOST_STEPS} steps`);
  }
  return node;
}

/** What is wrong with an expression, or `undefined`. */
export function regexProblem(source: string): string | undefined {
  try {
    parseRegex(source);
    return undefined;
  } catch (error) {
    return error instanceof Error ? error.message.slice(PREFIX.length) : String(error);
  }
}

/** Whether a set has a character. */
export function hasSymbol(set: CharSet, symbol: number): boolean {
  return (set[symbol >>> 5]! >>> (symbol & 31) & 1) === 1;
}

/** The characters of words: what `\b` is between. */
export function wordSymbols(): CharSet {
  return setOfText("0-9A-Za-z_");
}

const PREFIX = "Cannot use the expression: ";
/** RE2 limits the size of what a repetition unfolds to. */
const MOST_REPEATS = 1000;
/** Counted repetitions inside of each other multiply; a name has 255 characters to be asked about. */
const MOST_STEPS = 10_000;
const MOST_NESTED = 200;

/** Members of classes as ranges of two characters, or single ones. */
const CLASSES: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  ascii: "\x00-\x7f",
  blank: "\t ",
  cntrl: "\x00-\x1f\x7f",
  digit: "0-9",
  graph: "!-~",
  lower: "a-z",
  print: " -~",
  punct: "!-/:-@[-`{-~",
  space: "\t\n\v\f\r ",
  upper: "A-Z",
  word: "0-9A-Za-z_",
  xdigit: "0-9A-Fa-f",
};

// White space of RE2 is ASCII without the vertical tab.
const PERL: Readonly<Record<string, string>> = { d: "0-9", s: "\t\n\f\r ", w: "0-9A-Za-z_" };
const CONTROLS: Readonly<Record<string, number>> = { a: 7, f: 12, n: 10, r: 13, t: 9, v: 11 };
const EMPTY: RegexNode = { kind: "sequence", nodes: [] };

interface Flags {
  readonly fold: boolean;
  readonly lines: boolean;
  readonly dotAll: boolean;
}

class Parser {
  readonly #source: string;
  readonly #names = new Set<string>();
  #flags: Flags = { fold: false, lines: false, dotAll: false };
  #at = 0;
  #depth = 0;

  constructor(source: string) {
    this.#source = source;
  }

  run(): RegexNode {
    const node = this.#choice();
    if (this.#at < this.#source.length) throw this.#problem("a bracket closes nothing");
    return node;
  }

  #problem(why: string, at = this.#at): SyntaxError {
    return new SyntaxError(`${PREFIX}${why}, at character ${at + 1}`);
  }

  /** Alternatives up to the end or the bracket that closes them. */
  #choice(): RegexNode {
    const before = this.#flags;
    const nodes = [this.#sequence()];
    while (this.#source[this.#at] === "|") {
      this.#at++;
      nodes.push(this.#sequence());
    }
    // Flags that were set inside of a group end with it.
    this.#flags = before;
    return nodes.length === 1 ? nodes[0]! : { kind: "choice", nodes };
  }

  #sequence(): RegexNode {
    const nodes: RegexNode[] = [];
    for (;;) {
      const char = this.#source[this.#at];
      if (char === undefined || char === "|" || char === ")") break;
      const node = this.#repeated();
      if (node.kind === "sequence") nodes.push(...node.nodes);
      else nodes.push(node);
    }
    return nodes.length === 1 ? nodes[0]! : { kind: "sequence", nodes };
  }

  #repeated(): RegexNode {
    const begin = this.#at;
    if (this.#repetition() !== undefined) throw this.#problem("nothing to repeat", begin);
    const node = this.#piece();
    const after = this.#at;
    const times = this.#repetition();
    if (times === undefined) return node;
    // Flags and quotations may be empty: then there is nothing in front.
    if (node === EMPTY) throw this.#problem("nothing to repeat", after);
    // Which of several ways is found does not matter here, only whether there is one.
    if (this.#source[this.#at] === "?") this.#at++;
    const again = this.#at;
    if (this.#repetition() !== undefined) {
      throw this.#problem("a repetition of a repetition", again);
    }
    const { min, max } = times;
    // What a quotation repeats is its last character.
    if (this.#source.startsWith("\\Q", begin) && node.kind === "sequence") {
      const last = node.nodes.at(-1)!;
      const nodes = [...node.nodes.slice(0, -1), { kind: "repeat" as const, node: last, min, max }];
      return { kind: "sequence", nodes };
    }
    return { kind: "repeat", node, min, max };
  }

  #repetition(): { readonly min: number; readonly max: number } | undefined {
    const begin = this.#at;
    const char = this.#source[begin];
    if (char === "*" || char === "+" || char === "?") {
      this.#at++;
      return { min: char === "+" ? 1 : 0, max: char === "?" ? 1 : Infinity };
    }
    if (char !== "{") return undefined;
    const counts = /^\{(\d+)(,(\d*))?\}/.exec(this.#source.slice(begin, begin + 20));
    if (counts === null) return undefined;
    const min = Number(counts[1]);
    const max = counts[2] === undefined ? min : counts[3] === "" ? Infinity : Number(counts[3]);
    if (min > MOST_REPEATS || (max > MOST_REPEATS && max !== Infinity)) {
      throw this.#problem(`the repetition ${counts[0]} is above ${MOST_REPEATS}`, begin);
    }
    if (max < min) throw this.#problem(`the repetition ${counts[0]} is the wrong way round`, begin);
    this.#at += counts[0].length;
    return { min, max };
  }

  #piece(): RegexNode {
    const char = this.#source[this.#at]!;
    if (char === "\\") return this.#escape();
    if (char === "[") return { kind: "set", set: this.#class() };
    if (char === "(") return this.#group();
    if (char === "^" || char === "$") {
      this.#at++;
      const side = char === "^" ? "begin" : "end";
      return { kind: "assertion", what: `${side}-${this.#flags.lines ? "line" : "text"}` };
    }
    if (char === ".") {
      this.#at++;
      return { kind: "set", set: inverted(setOfText(this.#flags.dotAll ? "" : "\n")) };
    }
    const point = this.#source.codePointAt(this.#at)!;
    this.#at += point > 0xffff ? 2 : 1;
    return this.#literal(point);
  }

  #literal(point: number): RegexNode {
    return { kind: "set", set: this.#range(new Uint32Array(5), point, point) };
  }

  #group(): RegexNode {
    const begin = this.#at;
    const rest = this.#source.slice(begin, begin + 80);
    if (/^\(\?(?:=|!|<=|<!)/.test(rest)) throw this.#problem("look-around is not part of RE2");
    const named = /^\(\?P?<([A-Za-z_]\w*)>/.exec(rest);
    const flags = /^\(\?([imsU]*)(-[imsU]+)?([:)])/.exec(rest);
    const before = this.#flags;
    if (named !== null) {
      const name = named[1]!;
      if (this.#names.has(name)) {
        throw this.#problem(`the name ${JSON.stringify(name)} is there twice`);
      }
      this.#names.add(name);
      this.#at += named[0].length;
    } else if (flags !== null) {
      this.#at += flags[0].length;
      this.#flags = withFlags(withFlags(before, flags[1]!, true), flags[2] ?? "", false);
      if (flags[3] === ")") return EMPTY;
    } else if (rest.startsWith("(?")) {
      throw this.#problem("flags are i, m, s and U");
    } else {
      this.#at++;
    }
    if (++this.#depth > MOST_NESTED) {
      throw this.#problem(`groups are nested deeper than ${MOST_NESTED}`, begin);
    }
    const node = this.#choice();
    if (this.#source[this.#at] !== ")") throw this.#problem("a bracket is not closed", begin);
    this.#at++;
    this.#depth--;
    this.#flags = before;
    // A sequence in brackets stays whole: what follows repeats all of it.
    return node.kind === "sequence" ? { kind: "choice", nodes: [node] } : node;
  }

  #escape(): RegexNode {
    const begin = this.#at;
    const char = this.#source[begin + 1];
    const assertion = char === undefined ? undefined : ASSERTIONS[char];
    if (assertion !== undefined) {
      this.#at += 2;
      return { kind: "assertion", what: assertion };
    }
    if (char !== "Q") return { kind: "set", set: this.#atom(new Uint32Array(5)) };
    const end = this.#source.indexOf("\\E", begin + 2);
    const text = this.#source.slice(begin + 2, end < 0 ? undefined : end);
    this.#at = end < 0 ? this.#source.length : end + 2;
    if (text === "") return EMPTY;
    const nodes = [...text].map((each) => this.#literal(each.codePointAt(0)!));
    return { kind: "sequence", nodes };
  }

  /** Adds what an escape stands for, inside and outside of brackets. */
  #atom(set: CharSet): CharSet {
    const known = this.#classEscape();
    if (known !== undefined) return union(set, known);
    const point = this.#point();
    return this.#range(set, point, point);
  }

  /** `\d` and its kind, and properties. */
  #classEscape(): CharSet | undefined {
    const rest = this.#source.slice(this.#at, this.#at + 40);
    const perl = /^\\([dswDSW])/.exec(rest);
    if (perl !== null) {
      this.#at += 2;
      const set = setOfText(PERL[perl[1]!.toLowerCase()]!);
      return /[DSW]/.test(perl[1]!) ? inverted(set) : set;
    }
    const property = /^\\([pP])(?:([A-Z])|\{(\^?)(\w+)\})/.exec(rest);
    if (property === null) return undefined;
    const [all, letter, short, caret, long] = property;
    const set = propertySymbols(short ?? long!);
    if (set === undefined) throw this.#problem(`the property ${all} is not known`);
    this.#at += all.length;
    if (this.#flags.fold) foldCase(set);
    return (letter === "P") !== (caret === "^") ? inverted(set) : set;
  }

  /** An escape that stands for one character. */
  #point(): number {
    const rest = this.#source.slice(this.#at, this.#at + 40);
    const char = rest[1];
    const take = (length: number, point: number): number => {
      this.#at += length;
      return point;
    };
    if (char === undefined) throw this.#problem("a backslash at the end");
    const control = CONTROLS[char];
    if (control !== undefined) return take(2, control);
    const hex = /^\\x(?:([\da-fA-F]{2})|\{([\da-fA-F]{1,6})\})/.exec(rest);
    if (hex !== null) return take(hex[0].length, parseInt(hex[1] ?? hex[2]!, 16));
    const octal = /^\\(0[0-7]{0,2}|[1-7][0-7]{1,2})/.exec(rest);
    if (octal !== null) return take(octal[0].length, parseInt(octal[1]!, 8));
    if (/\d/.test(char)) throw this.#problem("back-references are not part of RE2");
    if (/[A-Za-z]/.test(char)) throw this.#problem(`the escape \\${char} is not supported`);
    const point = rest.codePointAt(1)!;
    return take(point > 0xffff ? 3 : 2, point);
  }

  #class(): CharSet {
    const source = this.#source;
    const begin = this.#at++;
    const set = new Uint32Array(5);
    const negated = source[this.#at] === "^";
    if (negated) this.#at++;
    for (let first = true;; first = false) {
      const char = source[this.#at];
      if (char === undefined) throw this.#problem("a bracket is not closed", begin);
      if (char === "]" && !first) break;
      const posix = /^\[:(\^?)(\w+):\]/.exec(source.slice(this.#at, this.#at + 16));
      if (posix !== null) {
        const members = CLASSES[posix[2]!];
        if (members === undefined) throw this.#problem(`the class ${posix[0]} is not known`);
        const named = this.#folded(setOfText(members));
        union(set, posix[1] === "^" ? inverted(named) : named);
        this.#at += posix[0].length;
        continue;
      }
      const known = char === "\\" ? this.#classEscape() : undefined;
      if (known === undefined) this.#span(set);
      else union(set, known);
    }
    this.#at++;
    return negated ? inverted(set) : set;
  }

  /** One character of a class, or two with a hyphen between. */
  #span(set: CharSet): void {
    const begin = this.#at;
    const low = this.#member();
    const source = this.#source;
    if (source[this.#at] !== "-" || source[this.#at + 1] === "]") {
      return void this.#range(set, low, low);
    }
    if (source[this.#at + 1] === undefined) return void this.#range(set, low, low);
    this.#at++;
    const high = this.#member();
    if (high < low) {
      const range = source.slice(begin, this.#at);
      throw this.#problem(`the range ${range} is the wrong way round`, begin);
    }
    this.#range(set, low, high);
  }

  #member(): number {
    if (this.#source[this.#at] === "\\") return this.#point();
    const point = this.#source.codePointAt(this.#at)!;
    this.#at += point > 0xffff ? 2 : 1;
    return point;
  }

  /** Adds characters, in both cases where that is asked for. */
  #range(set: CharSet, low: number, high: number): CharSet {
    const range = new Uint32Array(5);
    for (let code = low; code <= high && code < OUTSIDE; code++) add(range, code);
    if (this.#flags.fold) {
      // The long s and the Kelvin sign are the only ones outside of ASCII whose other case is in it.
      if (low <= 0x17f && high >= 0x17f) add(range, 0x73);
      if (low <= 0x212a && high >= 0x212a) add(range, 0x6b);
    }
    return union(set, this.#folded(range));
  }

  #folded(set: CharSet): CharSet {
    if (this.#flags.fold) foldCase(set);
    return set;
  }
}

const ASSERTIONS: Readonly<Record<string, Assertion | undefined>> = {
  A: "begin-text",
  z: "end-text",
  b: "word-boundary",
  B: "inside-word",
};

function withFlags(flags: Flags, letters: string, value: boolean): Flags {
  return {
    fold: letters.includes("i") ? value : flags.fold,
    lines: letters.includes("m") ? value : flags.lines,
    dotAll: letters.includes("s") ? value : flags.dotAll,
  };
}

function add(set: CharSet, symbol: number): void {
  set[symbol >>> 5]! |= 1 << (symbol & 31);
}

function union(set: CharSet, other: CharSet): CharSet {
  for (let word = 0; word < 5; word++) set[word]! |= other[word]!;
  return set;
}

function inverted(set: CharSet): CharSet {
  const other = set.map((word) => ~word);
  other[4]! &= 1;
  return other;
}

function foldCase(set: CharSet): void {
  for (let upper = 0x41; upper <= 0x5a; upper++) {
    const lower = upper + 32;
    if (hasSymbol(set, upper)) add(set, lower);
    else if (hasSymbol(set, lower)) add(set, upper);
  }
}

/** Reads the texts of {@linkcode CLASSES}: a hyphen between two characters makes a range. */
function setOfText(text: string): CharSet {
  const set = new Uint32Array(5);
  for (let at = 0; at < text.length; at++) {
    const low = text.charCodeAt(at);
    const isRange = text[at + 1] === "-" && at + 2 < text.length;
    const high = isRange ? text.charCodeAt(at + 2) : low;
    for (let code = low; code <= high; code++) add(set, code);
    if (isRange) at += 2;
  }
  return set;
}

/** What a property or a script has of ASCII: the engine of the language knows. */
function propertySymbols(name: string): CharSet | undefined {
  let property: RegExp;
  try {
    property = new RegExp(
      `\\p{${name.length <= 2 || name === "Any" ? name : `Script=${name}`}}`,
      "u",
    );
  } catch {
    return undefined;
  }
  const set = new Uint32Array(5);
  for (let code = 0; code < OUTSIDE; code++) {
    if (property.test(String.fromCharCode(code))) add(set, code);
  }
  return set;
}

/** How many steps an expression unfolds to. */
function sizeOf(node: RegexNode): number {
  switch (node.kind) {
    case "set":
    case "assertion":
      return 1;
    case "sequence":
    case "choice":
      return node.nodes.reduce((sum, each) => sum + 1 + sizeOf(each), 0);
    case "repeat": {
      const copies = node.max === Infinity ? node.min + 1 : node.max;
      return copies * (sizeOf(node.node) + 1);
    }
  }
}
