/**
 * Looking a name up without regard to case, for clients that were written for file systems that have none.
 *
 * @module
 */
import type { RootDirectory, Symlinks } from "../ffi/mod.ts";

/** Names of a root by their lower-case form, directory by directory, kept while a directory does not change. */
export class CaselessNames {
  readonly #root: RootDirectory;
  readonly #symlinks: { readonly symlinks: Symlinks };
  readonly #wallClock: () => number;
  // In order of last use.
  readonly #listings = new Map<string, Listing>();

  /** @param wallClock Milliseconds since 1970: compared with times of the file system. */
  constructor(root: RootDirectory, symlinks: Symlinks, wallClock: () => number) {
    this.#root = root;
    this.#symlinks = { symlinks };
    this.#wallClock = wallClock;
  }

  /**
   * The path that is there for a requested one. In each directory the name as it was asked for comes first, then the
   * first in order of code points; what lies beneath another is not tried.
   *
   * @returns `undefined` when there is none.
   */
  find(path: string): string | undefined {
    let directory = "";
    for (const component of path.split("/")) {
      const names = this.#namesOf(directory)?.get(component.toLowerCase());
      if (names === undefined) return undefined;
      const name = names.includes(component) ? component : names[0]!;
      directory = directory === "" ? name : `${directory}/${name}`;
    }
    return directory;
  }

  #namesOf(directory: string): ReadonlyMap<string, readonly string[]> | undefined {
    try {
      const modifiedMs = this.#root.listModifiedMs(directory, this.#symlinks);
      const known = this.#listings.get(directory);
      this.#listings.delete(directory);
      if (known !== undefined && known.settled && known.modifiedMs === modifiedMs) {
        this.#listings.set(directory, known);
        return known.names;
      }
      const names = new Map<string, string[]>();
      for (const name of [...this.#root.list(directory, this.#symlinks)].sort()) {
        const lower = name.toLowerCase();
        const same = names.get(lower);
        if (same === undefined) names.set(lower, [name]);
        else same.push(name);
      }
      // A change in the same tick of the file system's clock would leave no mark: such a listing is good for once.
      const settled = this.#wallClock() - modifiedMs > SETTLED_MS;
      if (this.#listings.size >= MAX_LISTINGS) {
        const oldest = this.#listings.keys().next();
        if (oldest.done !== true) this.#listings.delete(oldest.value);
      }
      this.#listings.set(directory, { modifiedMs, settled, names });
      return names;
    } catch {
      // Not a directory, or one that may not be read: nothing is found there.
      return undefined;
    }
  }
}

interface Listing {
  readonly modifiedMs: number;
  readonly settled: boolean;
  readonly names: ReadonlyMap<string, readonly string[]>;
}

/** Directories remembered. */
const MAX_LISTINGS = 256;
/** The coarsest time stamps in use are those of FAT: two seconds. */
const SETTLED_MS = 2000;
