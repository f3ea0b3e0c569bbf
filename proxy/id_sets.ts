/**
 * Sets of small numbers that many keys share, each kept once: an index answers with the number of a set.
 *
 * @module
 */

/** Collects sets; the empty one is number 0. */
export class IdSetBuilder {
  readonly #sets: number[][] = [[]];
  readonly #known = new Map<string, number>([["", 0]]);
  /** Answers of {@linkcode IdSetBuilder.with}, by set and member. */
  readonly #steps = new Map<number, number>();
  // The last of them: lists come in long runs that all take the same step.
  #lastStep = -1;
  #lastResult = 0;

  /** The number of a set that is another with one more member. */
  with(set: number, id: number): number {
    // Ids stay below 2^24 and sets below 2^26, so the pair is an exact number.
    const step = set * 0x100_0000 + id;
    if (step === this.#lastStep) return this.#lastResult;
    let result = this.#steps.get(step);
    if (result === undefined) {
      const members = this.#sets[set]!;
      result = members.includes(id) ? set : this.of([...members, id]);
      this.#steps.set(step, result);
    }
    this.#lastStep = step;
    this.#lastResult = result;
    return result;
  }

  /** The number of the union of two sets. */
  union(a: number, b: number): number {
    return this.#sets[b]!.reduce((set, id) => this.with(set, id), a);
  }

  /** The number of a set given by its members. */
  of(members: readonly number[]): number {
    const sorted = [...new Set(members)].sort((a, b) => a - b);
    const name = sorted.join();
    const before = this.#known.get(name);
    if (before !== undefined) return before;
    const number = this.#sets.push(sorted) - 1;
    this.#known.set(name, number);
    return number;
  }

  /** The sets as they are now. */
  build(): IdSets {
    return new IdSets(this.#sets);
  }
}

/** Sets by their number. */
export class IdSets {
  readonly #members: Uint32Array<ArrayBuffer>;
  readonly #starts: Uint32Array<ArrayBuffer>;

  /** Made by {@linkcode IdSetBuilder.build}. */
  constructor(sets: readonly (readonly number[])[]) {
    this.#members = Uint32Array.from(sets.flat());
    this.#starts = new Uint32Array(sets.length + 1);
    let at = 0;
    for (const [index, set] of sets.entries()) this.#starts[index + 1] = at += set.length;
  }

  /** Writes `stamp` into `marks` at every member of a set. */
  mark(set: number, marks: Uint32Array, stamp: number): void {
    const end = this.#starts[set + 1]!;
    for (let at = this.#starts[set]!; at < end; at++) marks[this.#members[at]!] = stamp;
  }
}
