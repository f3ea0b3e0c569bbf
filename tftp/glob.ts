/**
 * Patterns over relative paths: `*`, `?`, `[…]` and `**`, matched in time proportional to text × pattern whatever they
 * say. Patterns come from configuration, names from anybody, so no matcher that backtracks may stand between them.
 *
 * @module
 */

/** A compiled pattern. */
export interface Glob {
  /** The pattern as it was given. */
  readonly pattern: string;
  /** Whether the whole of `path` matches. `path` is relative, `/`-separated, without empty components. */
  matches(path: string): boolean;
}

/**
 * Compiles a pattern.
 *
 * `*` stands for any characters within one component, `?` for one of them, `[a-z_]` and `[!a-z]` for one of a set or of
 * the others; none of them matches `/`. `**` as a whole component stands for any number of components, none included:
 * `a/**` is everything beneath `a`, and between two slashes it bridges any depth. Inside a component it means `*`. A
 * backslash takes the meaning from the character behind it. A leading `/` is ignored: every path is relative to a root.
 *
 * @throws {SyntaxError} For an empty pattern, a set without end, a range that runs backwards, a backslash at the end.
 *
 * @example
 * ```ts
 * import { equal } from "node:assert/strict";
 * import { compileGlob } from "./glob.ts";
 *
 * equal(compileGlob("images/**").matches("images/arm/boot.img"), true);
 * equal(compileGlob("*.img").matches("images/boot.img"), false);
 * ```
 */
export function compileGlob(pattern: string): Glob {
  return new Automaton(pattern);
}

/** Whether a pattern restricts nothing: made of asterisks and slashes only, as `*` and `**` are. */
export function isCatchAll(pattern: string): boolean {
  return /^[*/]+$/.test(pattern);
}

/** Compiles several patterns into "does any match?"; no patterns match nothing. @throws {SyntaxError} */
export function compileGlobs(patterns: readonly string[]): (path: string) => boolean {
  const globs = patterns.map(compileGlob);
  return (path) => globs.some((glob) => glob.matches(path));
}

// A pattern is a row of states; each consumes one character and stays, advances, or fails. The set of states that are
// alive is carried along the text, so the cost is text × states and never more.
const Kind = {
  /** This character. */
  Literal: 0,
  /** Any but `/`. */
  One: 1,
  /** One of a set. */
  Set: 2,
  /** Any number of characters but `/`; may be skipped. */
  Star: 3,
  /** The start of any number of whole components; may be skipped, together with `Inside`. */
  Directories: 4,
  /** Within such a component; its `/` leads back to `Directories`. */
  Inside: 5,
  /** One character, `/` included. */
  Anything: 6,
  /** Any number of characters, `/` included; may be skipped. */
  Rest: 7,
} as const;

interface State {
  readonly kind: number;
  /** Of a literal: its code point. */
  readonly code: number;
  /** Of a set: pairs of first and last code point. */
  readonly ranges: readonly number[];
  readonly negated: boolean;
}

class Automaton implements Glob {
  readonly pattern: string;
  readonly #states: readonly State[];
  // Alive states before and after a character. Reused: matching is synchronous and not reentrant.
  #alive: Uint8Array;
  #next: Uint8Array;

  constructor(pattern: string) {
    this.pattern = pattern;
    this.#states = parse(pattern);
    this.#alive = new Uint8Array(this.#states.length + 1);
    this.#next = new Uint8Array(this.#states.length + 1);
  }

  matches(path: string): boolean {
    const states = this.#states;
    const end = states.length;
    this.#alive.fill(0);
    this.#enter(this.#alive, 0);
    for (let at = 0; at < path.length;) {
      const code = path.codePointAt(at)!;
      at += code > 0xffff ? 2 : 1;
      const alive = this.#alive;
      const next = this.#next;
      next.fill(0);
      for (let i = 0; i < end; i++) {
        if (alive[i] === 0) continue;
        const state = states[i]!;
        switch (state.kind) {
          case Kind.Literal:
            if (code === state.code) this.#enter(next, i + 1);
            break;
          case Kind.One:
            if (code !== SLASH) this.#enter(next, i + 1);
            break;
          case Kind.Set:
            if (code !== SLASH && inRanges(state.ranges, code) !== state.negated) {
              this.#enter(next, i + 1);
            }
            break;
          case Kind.Star:
            if (code !== SLASH) this.#enter(next, i);
            break;
          case Kind.Directories:
            if (code !== SLASH) next[i + 1] = 1;
            break;
          case Kind.Inside:
            if (code === SLASH) this.#enter(next, i - 1);
            else next[i] = 1;
            break;
          case Kind.Anything:
            this.#enter(next, i + 1);
            break;
          case Kind.Rest:
            next[i] = 1;
            this.#enter(next, i + 1);
            break;
        }
      }
      this.#alive = next;
      this.#next = alive;
    }
    return this.#alive[end] === 1;
  }

  // Marks a state and every state that can be reached from it without a character.
  #enter(set: Uint8Array, index: number): void {
    for (let i = index; set[i] === 0;) {
      set[i] = 1;
      const kind = this.#states[i]?.kind;
      if (kind === Kind.Star || kind === Kind.Rest) i += 1;
      else if (kind === Kind.Directories) i += 2;
      else return;
    }
  }
}

function parse(pattern: string): State[] {
  const text = pattern.replace(/^\/+/, "");
  if (text === "") throw fault(pattern, "it is empty, expected at least one character");
  const states: State[] = [];
  const components = splitComponents(text);
  for (let i = 0; i < components.length; i++) {
    const component = components[i]!;
    const last = i === components.length - 1;
    if (component === "**") {
      // The same as one of them; and without the merge the row would grow with what was written twice.
      if (!last && components[i + 1] === "**") continue;
      if (last) states.push(plain(Kind.Anything), plain(Kind.Rest));
      else states.push(plain(Kind.Directories), plain(Kind.Inside));
      continue;
    }
    parseComponent(pattern, component, states);
    if (!last) states.push(literal(SLASH));
  }
  return states;
}

// Splits at slashes that are neither escaped nor inside a set.
function splitComponents(text: string): string[] {
  const components: string[] = [];
  let start = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === "\\") i++;
    else if (text[i] === "[") {
      const end = setEnd(text, i);
      if (end > 0) i = end;
    } else if (text[i] === "/") {
      components.push(text.slice(start, i));
      start = i + 1;
    }
  }
  components.push(text.slice(start));
  return components.filter((component) => component !== "");
}

// Where the set that opens at `open` closes, or −1. A "]" that comes first belongs to the set.
function setEnd(text: string, open: number): number {
  let at = open + 1;
  if (text[at] === "!" || text[at] === "^") at++;
  if (text[at] === "]") at++;
  for (; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === "]") return at;
  }
  return -1;
}

function parseComponent(pattern: string, component: string, states: State[]): void {
  for (let at = 0; at < component.length;) {
    const code = component.codePointAt(at)!;
    const width = code > 0xffff ? 2 : 1;
    const character = component[at];
    if (character === "*") {
      if (states.at(-1)?.kind !== Kind.Star) states.push(plain(Kind.Star));
    } else if (character === "?") {
      states.push(plain(Kind.One));
    } else if (character === "[") {
      const end = setEnd(component, at);
      if (end < 0) throw fault(pattern, 'a set has no end, expected "]"');
      states.push(parseSet(pattern, component.slice(at + 1, end)));
      at = end + 1;
      continue;
    } else if (character === "\\") {
      const escaped = component.codePointAt(at + 1);
      if (escaped === undefined) throw fault(pattern, "it ends with a backslash");
      states.push(literal(escaped));
      at += 1 + (escaped > 0xffff ? 2 : 1);
      continue;
    } else {
      states.push(literal(code));
    }
    at += width;
  }
}

function parseSet(pattern: string, body: string): State {
  const negated = body.startsWith("!") || body.startsWith("^");
  const codes: { readonly code: number; readonly escaped: boolean }[] = [];
  const characters = [...(negated ? body.slice(1) : body)];
  for (let i = 0; i < characters.length; i++) {
    const escaped = characters[i] === "\\" && i + 1 < characters.length;
    if (escaped) i++;
    codes.push({ code: characters[i]!.codePointAt(0)!, escaped });
  }
  const ranges: number[] = [];
  for (let i = 0; i < codes.length;) {
    const first = codes[i]!.code;
    const dash = codes[i + 1];
    const last = codes[i + 2];
    if (dash?.code === DASH && !dash.escaped && last !== undefined) {
      if (last.code < first) throw fault(pattern, "a range in a set runs backwards");
      ranges.push(first, last.code);
      i += 3;
    } else {
      ranges.push(first, first);
      i += 1;
    }
  }
  return { kind: Kind.Set, code: 0, ranges, negated };
}

function inRanges(ranges: readonly number[], code: number): boolean {
  for (let i = 0; i < ranges.length; i += 2) {
    if (code >= ranges[i]! && code <= ranges[i + 1]!) return true;
  }
  return false;
}

function plain(kind: number): State {
  return { kind, code: 0, ranges: NO_RANGES, negated: false };
}

function literal(code: number): State {
  return { kind: Kind.Literal, code, ranges: NO_RANGES, negated: false };
}

function fault(pattern: string, what: string): SyntaxError {
  return new SyntaxError(`Cannot use pattern "${pattern}": ${what}`);
}

const NO_RANGES: readonly number[] = [];
const SLASH = 0x2f;
const DASH = 0x2d;
