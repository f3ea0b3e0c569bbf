/**
 * Parts of names, all of them looked for in one pass (Aho and Corasick, 1975).
 *
 * @module
 */

import { IdSetBuilder, type IdSets } from "./id_sets.ts";

/** Finds which ids' keywords a host contains. */
export class KeywordIndex {
  readonly #sets: IdSets;
  /** Class of a lower- or upper-case ASCII byte; 0 is a byte that no keyword has. */
  readonly #classes = new Uint8Array(128);
  readonly #classCount: number;
  /** The state after a state and a class. */
  readonly #next: Int32Array<ArrayBuffer>;
  /** Set of ids whose keywords end in a state. */
  readonly #hits: Uint32Array<ArrayBuffer>;

  /** @param keywords Keywords in lower case, each with its id. */
  constructor(keywords: readonly (readonly [keyword: string, id: number])[]) {
    // A keyword with bytes that no host has never matches.
    const usable = keywords.filter(([keyword]) => /^[\x21-\x7e]+$/.test(keyword));
    this.#classCount = this.#classify(usable);
    const builder = new IdSetBuilder();
    const { next, hits } = this.#trie(usable, builder);
    this.#next = Int32Array.from(next);
    this.#hits = Uint32Array.from(hits);
    this.#link(builder);
    this.#sets = builder.build();
  }

  /** Marks the ids of which a keyword is in the host. */
  match(host: string, marks: Uint32Array, stamp: number): void {
    if (this.#hits.length <= 1) return;
    let state = 0;
    for (let i = 0; i < host.length; i++) {
      const code = host.charCodeAt(i);
      state = this.#next[state * this.#classCount + (code < 128 ? this.#classes[code]! : 0)]!;
      const hit = this.#hits[state]!;
      if (hit !== 0) this.#sets.mark(hit, marks, stamp);
    }
  }

  #classify(keywords: readonly (readonly [string, number])[]): number {
    let count = 1;
    for (const [keyword] of keywords) {
      for (let i = 0; i < keyword.length; i++) {
        const code = keyword.charCodeAt(i);
        if (this.#classes[code] !== 0) continue;
        this.#classes[code] = count++;
        if (code >= 97 && code <= 122) this.#classes[code - 32] = this.#classes[code]!;
      }
    }
    return count;
  }

  #trie(
    keywords: readonly (readonly [string, number])[],
    builder: IdSetBuilder,
  ): { readonly next: readonly number[]; readonly hits: readonly number[] } {
    const width = this.#classCount;
    const next = new Array<number>(width).fill(0);
    const hits = [0];
    for (const [keyword, id] of keywords) {
      let state = 0;
      for (let i = 0; i < keyword.length; i++) {
        const at = state * width + this.#classes[keyword.charCodeAt(i)]!;
        if (next[at] === 0) {
          next[at] = hits.push(0) - 1;
          for (let each = 0; each < width; each++) next.push(0);
        }
        state = next[at]!;
      }
      hits[state] = builder.with(hits[state]!, id);
    }
    return { next, hits };
  }

  /** Fills in where a state goes when the keyword does not go on, in order of depth. */
  #link(builder: IdSetBuilder): void {
    const width = this.#classCount;
    const fail = new Int32Array(this.#hits.length);
    const queue = [0];
    for (let head = 0; head < queue.length; head++) {
      const state = queue[head]!;
      for (let each = 0; each < width; each++) {
        const at = state * width + each;
        const child = this.#next[at]!;
        const shorter = state === 0 ? 0 : this.#next[fail[state]! * width + each]!;
        if (child === 0) this.#next[at] = shorter;
        else {
          fail[child] = shorter;
          // What ends in the shorter state ends here as well; it was completed before, being less deep.
          this.#hits[child] = builder.union(this.#hits[child]!, this.#hits[shorter]!);
          queue.push(child);
        }
      }
    }
  }
}
