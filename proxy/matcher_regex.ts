/**
 * Regular expressions, all of them looked for in one pass over a host. Nothing is ever tried again, so a host takes a time
 * that grows with its length, whatever it and the expressions are.
 *
 * The states of the automaton are made when a host first leads to them, and kept while there is room (Thompson 1968, and
 * the lazy automaton of RE2). Where there is none the rest of the host is followed step by step, and the next host begins
 * with an empty cache.
 *
 * @module
 */

import {
  ASSERT,
  ASSERTIONS,
  compileRegexes,
  FOUND,
  type RegexProgram,
  SPLIT,
  TAKE,
} from "./regex_program.ts";

/** Longest host that is looked at, as in the index of names. Longer ones match nothing. */
const MAX_HOST = 255;
/** Words that states may take: 2 MiB. */
const CACHE_WORDS = 1 << 19;

// What is in front of a state.
const BEGIN = 0;
const LINE = 1;
const WORD = 2;
const OTHER = 3;

const NOTHING: Int32Array<ArrayBuffer> = new Int32Array(0);

/** Where the expressions lead that begin at a place: the same for every state. */
interface Begun {
  readonly steps: Int32Array<ArrayBuffer>;
  readonly found: Int32Array<ArrayBuffer>;
}

/** Finds which ids' expressions a host has something of. */
export class RegexIndex {
  readonly #program: RegexProgram;
  readonly #room: number;
  /** Classes, and the end of the host as one more. */
  readonly #width: number;
  readonly #end: number;
  readonly #lineFeed: number;
  /** Class of a byte of a host, in lower case. */
  readonly #classes = new Uint8Array(129);
  readonly #begun: (Begun | undefined)[] = [];
  /** The state after a state and a class; 0 is not known yet. */
  #next: Int32Array<ArrayBuffer>;
  // Of each state: steps under way, ids that were found on the way to it, what is in front of it.
  #steps: Int32Array<ArrayBuffer>[] = [];
  #found: Int32Array<ArrayBuffer>[] = [];
  #before: number[] = [];
  /** The last state of each hash, and the one with the same hash before each. */
  readonly #hashes = new Map<number, number>();
  #sameHash: number[] = [];
  #words = 0;
  #full = false;
  #work = 0;
  // Scratch of one move: the steps it leads to, the ids it finds, and marks that are worth `turn`.
  readonly #nextSteps: Int32Array<ArrayBuffer>;
  #nextCount = 0;
  readonly #nextFound: number[] = [];
  readonly #visited: Uint32Array<ArrayBuffer>;
  readonly #added: Uint32Array<ArrayBuffer>;
  readonly #stack: number[] = [];
  #turn = 0;

  /**
   * Compiles expressions.
   *
   * @param expressions Each with its id.
   * @param cacheWords How much the states may take, in words of four bytes.
   * @throws {SyntaxError} Saying what is wrong with one.
   */
  constructor(
    expressions: readonly (readonly [source: string, id: number])[],
    cacheWords: number = CACHE_WORDS,
  ) {
    const program = compileRegexes(expressions);
    this.#program = program;
    this.#room = cacheWords;
    this.#end = program.classCount;
    this.#width = program.classCount + 1;
    this.#lineFeed = program.classes[10]!;
    for (let code = 0; code < 129; code++) {
      const isUpper = code >= 65 && code <= 90;
      this.#classes[code] = program.classes[isUpper ? code + 32 : code]!;
    }
    const count = program.kinds.length;
    this.#nextSteps = new Int32Array(count);
    this.#visited = new Uint32Array(count);
    this.#added = new Uint32Array(count);
    this.#next = new Int32Array(this.#width * 4);
    this.#empty();
  }

  /** Steps of the program. */
  get size(): number {
    return this.#program.kinds.length;
  }

  /** States that are kept now. */
  get states(): number {
    return this.#steps.length - 1;
  }

  /** How many steps were looked at so far, and bytes: the work that was done, in units that no machine changes. */
  get work(): number {
    return this.#work;
  }

  /**
   * Marks the ids of which an expression is in the host.
   *
   * @param host A name in ASCII; case does not matter, nor does one dot at the end.
   * @param marks Receives `stamp` at each id.
   */
  match(host: string, marks: Uint32Array, stamp: number): void {
    if (this.#program.starts.length === 0) return;
    let length = host.length;
    if (length > 0 && host.charCodeAt(length - 1) === 0x2e) length--;
    if (length === 0 || length > MAX_HOST) return;
    if (this.#full) this.#empty();
    const width = this.#width;
    this.#work += length + 1;
    let state = 1;
    for (let at = 0; at <= length; at++) {
      const symbol = this.#symbol(host, at, length);
      let to = this.#next[state * width + symbol]!;
      if (to === 0) {
        this.#move(this.#steps[state]!, this.#steps[state]!.length, this.#before[state]!, symbol);
        to = this.#keep(symbol);
        if (to === 0) return this.#follow(host, at, length, marks, stamp);
        this.#next[state * width + symbol] = to;
      }
      const found = this.#found[to]!;
      for (let each = 0; each < found.length; each++) marks[found[each]!] = stamp;
      state = to;
    }
  }

  /** Goes on without a cache, after a move that found no room. */
  #follow(host: string, from: number, length: number, marks: Uint32Array, stamp: number): void {
    const steps = new Int32Array(this.#nextSteps.length);
    for (let at = from;; at++) {
      for (const id of this.#nextFound) marks[id] = stamp;
      if (at === length) return;
      const count = this.#nextCount;
      steps.set(this.#nextSteps.subarray(0, count));
      const before = this.#beforeAfter(this.#symbol(host, at, length));
      this.#move(steps, count, before, this.#symbol(host, at + 1, length));
    }
  }

  #symbol(host: string, at: number, length: number): number {
    if (at === length) return this.#end;
    const code = host.charCodeAt(at);
    return this.#classes[code < 128 ? code : 128]!;
  }

  /** What is in front of the place behind a character, as far as anybody asks. */
  #beforeAfter(symbol: number): number {
    const { asksWords, asksLines, words } = this.#program;
    if (asksWords && words[symbol] === 1) return WORD;
    return asksLines && symbol === this.#lineFeed ? LINE : OTHER;
  }

  /** Takes a character with every step that is under way; the outcome is in the scratch. */
  #move(steps: Int32Array, count: number, before: number, symbol: number): void {
    const turn = this.#begin();
    for (let each = 0; each < count; each++) this.#visit(steps[each]!, before, symbol);
    const begun = this.#begun[before * this.#width + symbol] ??= this.#start(before, symbol);
    // Beginning them used up the marks: they are made again from what is known.
    if (turn !== this.#turn) return this.#move(steps, count, before, symbol);
    for (let each = 0; each < begun.steps.length; each++) this.#add(begun.steps[each]!);
    for (const id of begun.found) this.#nextFound.push(id);
  }

  /** The same for the expressions that begin here. */
  #start(before: number, symbol: number): Begun {
    this.#begin();
    for (const step of this.#program.starts) this.#visit(step, before, symbol);
    return {
      steps: this.#nextSteps.slice(0, this.#nextCount),
      found: Int32Array.from(this.#nextFound),
    };
  }

  #begin(): number {
    if (this.#turn === 0xffff_ffff) {
      this.#turn = 0;
      this.#visited.fill(0);
      this.#added.fill(0);
    }
    this.#nextCount = this.#nextFound.length = 0;
    return ++this.#turn;
  }

  /** Goes from a step as far as it can be gone in front of a character, and over it. */
  #visit(first: number, before: number, symbol: number): void {
    const { kinds, lefts, rights, members, classCount } = this.#program;
    const stack = this.#stack;
    stack.push(first);
    for (let step = stack.pop(); step !== undefined; step = stack.pop()) {
      if (this.#visited[step] === this.#turn) continue;
      this.#visited[step] = this.#turn;
      this.#work++;
      switch (kinds[step]) {
        case TAKE:
          if (symbol < classCount && members[lefts[step]! * classCount + symbol] === 1) {
            this.#add(rights[step]!);
          }
          break;
        case ASSERT:
          if (this.#holds(lefts[step]!, before, symbol)) stack.push(rights[step]!);
          break;
        case FOUND:
          this.#nextFound.push(lefts[step]!);
          break;
        case SPLIT:
          stack.push(rights[step]!, lefts[step]!);
      }
    }
  }

  /** Notes a step behind the character; ways that part are gone both at once. */
  #add(first: number): void {
    const { kinds, lefts, rights } = this.#program;
    const stack = this.#stack;
    const floor = stack.length;
    stack.push(first);
    while (stack.length > floor) {
      const step = stack.pop()!;
      if (this.#added[step] === this.#turn) continue;
      this.#added[step] = this.#turn;
      this.#work++;
      if (kinds[step] === SPLIT) stack.push(rights[step]!, lefts[step]!);
      else this.#nextSteps[this.#nextCount++] = step;
    }
  }

  #holds(assertion: number, before: number, symbol: number): boolean {
    switch (ASSERTIONS[assertion]) {
      case "begin-text":
        return before === BEGIN;
      case "begin-line":
        return before === BEGIN || before === LINE;
      case "end-text":
        return symbol === this.#end;
      case "end-line":
        return symbol === this.#end || symbol === this.#lineFeed;
      case "word-boundary":
        return (before === WORD) !== this.#isWord(symbol);
      default:
        return (before === WORD) === this.#isWord(symbol);
    }
  }

  #isWord(symbol: number): boolean {
    return symbol !== this.#end && this.#program.words[symbol] === 1;
  }

  /** The state that is in the scratch, kept for other hosts; 0 when there is no room. */
  #keep(symbol: number): number {
    const steps = this.#nextSteps.subarray(0, this.#nextCount).sort();
    const found = Int32Array.from(new Set(this.#nextFound)).sort();
    // Behind the end nothing is asked any more.
    const before = symbol === this.#end ? OTHER : this.#beforeAfter(symbol);
    let hash = before;
    for (const step of steps) hash = Math.imul(hash ^ step, 0x0100_0193);
    for (const id of found) hash = Math.imul(hash ^ ~id, 0x0100_0193);
    const last = this.#hashes.get(hash) ?? 0;
    for (let state = last; state !== 0; state = this.#sameHash[state]!) {
      if (
        this.#before[state] === before && same(this.#steps[state]!, steps) &&
        same(this.#found[state]!, found)
      ) return state;
    }
    const words = this.#width + steps.length + found.length + STATE_WORDS;
    if (this.#words + words > this.#room) {
      this.#full = true;
      return 0;
    }
    this.#words += words;
    const state = this.#state(steps.slice(), found, before);
    this.#sameHash[state] = last;
    this.#hashes.set(hash, state);
    return state;
  }

  #state(
    steps: Int32Array<ArrayBuffer>,
    found: Int32Array<ArrayBuffer>,
    before: number,
  ): number {
    const state = this.#steps.push(steps) - 1;
    this.#found.push(found);
    this.#before.push(before);
    this.#sameHash.push(0);
    if ((state + 1) * this.#width > this.#next.length) {
      const next = new Int32Array(2 * this.#next.length);
      next.set(this.#next);
      this.#next = next;
    }
    return state;
  }

  /** Forgets all states but the first, which is number 1. */
  #empty(): void {
    this.#full = false;
    this.#words = 0;
    this.#hashes.clear();
    this.#steps = [NOTHING];
    this.#found = [NOTHING];
    this.#before = [OTHER];
    this.#sameHash = [0];
    this.#next.fill(0);
    this.#state(NOTHING, NOTHING, BEGIN);
  }
}

function same(a: Int32Array, b: Int32Array): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false;
  return true;
}

/** What a state takes besides its steps and its row, about. */
const STATE_WORDS = 24;
