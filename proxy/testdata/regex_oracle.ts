/**
 * Regular expressions in RE2's syntax translated for `RegExp` with the `u` flag, which may go back and try again: the
 * judge of the automaton that may not.
 *
 * @module
 */

/**
 * Compiles an expression that is searched for anywhere in a text.
 *
 * @throws {SyntaxError} Saying what is wrong with it.
 */
export function compileRegex(source: string): RegExp {
  const flags = /^\(\?([imsU]+)\)/.exec(source);
  const given = flags?.[1] ?? "";
  if (given.includes("U")) throw unusable("the flag U (ungreedy) is not supported");
  const translator = new Translator(source, flags?.[0].length ?? 0, given.includes("s"));
  const translated = translator.run();
  const jsFlags = (given.includes("i") ? "i" : "") + (given.includes("m") ? "m" : "") + "u";
  try {
    return new RegExp(translated, jsFlags);
  } catch {
    // What the engine says names the translated text, which nobody wrote.
    throw unusable("a bracket or a repetition is out of place");
  }
}

const PREFIX = "Cannot use the expression: ";

function unusable(why: string): SyntaxError {
  return new SyntaxError(`${PREFIX}${why}`);
}

const SPACES = "\\t\\n\\f\\r ";

const CLASSES: Readonly<Record<string, string>> = {
  alnum: "0-9A-Za-z",
  alpha: "A-Za-z",
  ascii: "\\x00-\\x7f",
  blank: "\\t ",
  cntrl: "\\x00-\\x1f\\x7f",
  digit: "0-9",
  graph: "!-~",
  lower: "a-z",
  print: " -~",
  punct: "!-\\/:-@\\[-`\\{-~",
  space: "\\t\\n\\v\\f\\r ",
  upper: "A-Z",
  word: "0-9A-Za-z_",
  xdigit: "0-9A-Fa-f",
};

class Translator {
  readonly #source: string;
  readonly #dotAll: boolean;
  #at: number;
  #out = "";

  constructor(source: string, at: number, dotAll: boolean) {
    this.#source = source;
    this.#at = at;
    this.#dotAll = dotAll;
  }

  run(): string {
    while (this.#at < this.#source.length) this.#piece();
    return this.#out;
  }

  #piece(): void {
    const source = this.#source;
    const char = source[this.#at]!;
    if (char === "\\") return this.#escape();
    if (char === "[") return this.#class();
    if (char === "(") return this.#group();
    if (char === "{") return this.#braces();
    this.#at++;
    if (char === "]" || char === "}") this.#out += `\\${char}`;
    // RE2's dot stops at line feeds only; that of RegExp also at U+2028 and others.
    else if (char === ".") this.#out += this.#dotAll ? "[^]" : "[^\\n]";
    else this.#out += char;
  }

  #group(): void {
    const rest = this.#source.slice(this.#at, this.#at + 80);
    const named = /^\(\?P?<([A-Za-z_]\w*)>/.exec(rest);
    if (named !== null) {
      this.#at += named[0].length;
      this.#out += `(?<${named[1]}>`;
    } else if (rest.startsWith("(?:")) {
      this.#at += 3;
      this.#out += "(?:";
    } else if (/^\(\?(?:=|!|<=|<!)/.test(rest)) {
      throw unusable("look-around is not part of RE2");
    } else if (rest.startsWith("(?")) {
      throw unusable("flags are supported at the beginning only");
    } else {
      this.#at++;
      this.#out += "(";
    }
  }

  #braces(): void {
    const repeat = /^\{(\d+)(?:,(\d*))?\}/.exec(this.#source.slice(this.#at, this.#at + 20));
    if (repeat === null) {
      this.#at++;
      this.#out += "\\{";
      return;
    }
    // RE2 limits the size of what a repetition unfolds to.
    const most = Math.max(Number(repeat[1]), Number(repeat[2] ?? 0));
    if (most > 1000) throw unusable(`the repetition ${repeat[0]} is above 1000`);
    this.#at += repeat[0].length;
    this.#out += repeat[0];
  }

  #escape(): void {
    const source = this.#source;
    const char = source[this.#at + 1];
    if (char === undefined) throw unusable("a backslash at the end");
    if (char === "Q") {
      const end = source.indexOf("\\E", this.#at + 2);
      const literal = source.slice(this.#at + 2, end < 0 ? undefined : end);
      for (const each of literal) this.#out += literalOf(each);
      this.#at = end < 0 ? source.length : end + 2;
      return;
    }
    if (char === "A" || char === "z") {
      // Without the m flag these are what ^ and $ mean; with it RegExp has nothing like them.
      this.#out += char === "A" ? "(?<![^])" : "(?![^])";
      this.#at += 2;
      return;
    }
    this.#at += 2;
    if (char === "b" || char === "B") this.#out += `\\${char}`;
    // RE2's white space is ASCII without the vertical tab.
    else if (char === "s") this.#out += `[${SPACES}]`;
    else if (char === "S") this.#out += `[^${SPACES}]`;
    else {
      this.#at -= 2;
      this.#out += this.#character();
    }
  }

  /** An escape that stands for characters, inside and outside of brackets. */
  #character(): string {
    const rest = this.#source.slice(this.#at, this.#at + 40);
    const char = rest[1];
    const take = (length: number, out: string): string => {
      this.#at += length;
      return out;
    };
    if (char === undefined) throw unusable("a backslash at the end");
    if ("dDwW".includes(char) || "fnrtv".includes(char)) return take(2, `\\${char}`);
    if (char === "a") return take(2, "\\x07");
    const hex = /^\\x(?:([\da-fA-F]{2})|\{([\da-fA-F]{1,6})\})/.exec(rest);
    if (hex !== null) return take(hex[0].length, `\\u{${hex[1] ?? hex[2]}}`);
    const octal = /^\\(0[0-7]{0,2}|[1-7][0-7]{2})/.exec(rest);
    if (octal !== null) return take(octal[0].length, `\\u{${parseInt(octal[1]!, 8).toString(16)}}`);
    if (/\d/.test(char)) throw unusable("back-references are not part of RE2");
    const unicode = /^\\([pP])(?:([A-Z])|\{(\^?)(\w+)\})/.exec(rest);
    if (unicode !== null) {
      const negated = (unicode[1] === "P") !== (unicode[3] === "^");
      const name = unicode[2] ?? unicode[4]!;
      const property = name.length <= 2 ? name : `Script=${name}`;
      return take(unicode[0].length, `\\${negated ? "P" : "p"}{${property}}`);
    }
    if (/[A-Za-z]/.test(char)) throw unusable(`the escape \\${char} is not supported`);
    const point = String.fromCodePoint(rest.codePointAt(1)!);
    return take(1 + point.length, literalOf(point));
  }

  #class(): void {
    const source = this.#source;
    let at = this.#at + 1;
    let out = "[";
    if (source[at] === "^") {
      out += "^";
      at++;
    }
    for (let first = true;; first = false) {
      const char = source[at];
      if (char === undefined) throw unusable("a bracket is not closed");
      if (char === "]" && !first) break;
      const posix = /^\[:(\^?)(\w+):\]/.exec(source.slice(at, at + 16));
      if (posix !== null) {
        const members = CLASSES[posix[2]!];
        if (members === undefined || posix[1] === "^") {
          throw unusable(`the class ${posix[0]} is not supported`);
        }
        out += members;
        at += posix[0].length;
      } else if (char === "\\") {
        const next = source[at + 1];
        if (next === "S") throw unusable("\\S inside brackets is not supported");
        this.#at = at;
        if (next === "s") this.#at += 2;
        out += next === "s" ? SPACES : this.#character();
        at = this.#at;
      } else {
        out += char === "[" || char === "]" ? `\\${char}` : char;
        at++;
      }
    }
    this.#at = at + 1;
    this.#out += `${out}]`;
  }
}

/** One character that stands for itself, inside and outside of brackets. */
function literalOf(char: string): string {
  return /[\w\s]/.test(char) ? char : `\\u{${char.codePointAt(0)!.toString(16)}}`;
}
