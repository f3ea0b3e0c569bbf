/**
 * What was published before a restart against what the kernel says now: the smallest set of changes that makes them
 * equal.
 *
 * ```
 *                        event or row
 *              ┌──────────┬──────────────┬─────────┬────────────┐
 *              │ entry    │ set, equal   │ set,    │ delete     │
 *              │          │              │ another │            │
 *              ├──────────┼──────────────┼─────────┼────────────┤
 *              │ none     │ NEW          │ NEW     │ none       │
 *              │ STALE    │ SAME         │ NEW     │ DELETE     │
 *              │ SAME     │ SAME         │ NEW     │ DELETE     │
 *              │ NEW      │ NEW          │ NEW     │ DELETE     │
 *              │ DELETE   │ SAME         │ NEW     │ DELETE     │
 *              └──────────┴──────────────┴─────────┴────────────┘
 * ```
 *
 * "Equal" is to what was published before the restart; nothing is equal to a key that was not.
 *
 * At the end SAME is left alone, STALE and DELETE are removed, NEW is published.
 *
 * @module
 */

/** What is known of a key since the restart. */
export type WarmState =
  /** Published before; nothing heard yet. */
  | "STALE"
  /** Published before, and still so. */
  | "SAME"
  /** Not published before, or with other values. */
  | "NEW"
  /** Gone. */
  | "DELETE";

/** The fields of a key. */
export interface WarmFields {
  /** Lower-case pairs with colons. */
  readonly mac: string;
  /** `IPv4` or `IPv6`. */
  readonly family: string;
}

/** What is to be done about a key that is not SAME. */
export interface WarmDecision {
  /** Publish or remove. */
  readonly op: "set" | "del";
  /** The key. */
  readonly key: string;
  /** What to publish; what was published, for a removal. */
  readonly fields: WarmFields;
  /** Why. */
  readonly state: Exclude<WarmState, "SAME">;
}

/** How many keys are in which state. */
export type WarmCounts = Readonly<Record<WarmState, number>>;

interface Entry {
  state: WarmState;
  /** What was published before the restart, and still is. */
  readonly stored: WarmFields | undefined;
  /** What is to be published. */
  fields: WarmFields;
}

/** The cache of a warm restart. */
export class WarmCache {
  readonly #entries = new Map<string, Entry>();

  /** Keys in it. */
  get size(): number {
    return this.#entries.size;
  }

  /**
   * Takes what was published before the restart. A hash without fields is no entry.
   *
   * @param fields An empty string stands for a field that is missing.
   */
  load(key: string, fields: WarmFields): void {
    if (fields.mac === "" && fields.family === "") return;
    this.#entries.set(key, { state: "STALE", stored: fields, fields });
  }

  /** State of a key, if there is anything known of it. */
  state(key: string): WarmState | undefined {
    return this.#entries.get(key)?.state;
  }

  /** The kernel has this neighbor, with these fields. */
  set(key: string, fields: WarmFields): void {
    const entry = this.#entries.get(key);
    if (entry === undefined) {
      this.#entries.set(key, { state: "NEW", stored: undefined, fields });
      return;
    }
    const { stored } = entry;
    entry.fields = fields;
    // Compared with what is published, not with what was heard last: an entry that changed, went and came back in its
    // new shape is still to be published.
    if (stored === undefined || stored.mac !== fields.mac || stored.family !== fields.family) {
      entry.state = "NEW";
    } else if (entry.state !== "NEW") entry.state = "SAME";
  }

  /** The kernel does not have this neighbor, or it is not to be published. */
  delete(key: string): void {
    const entry = this.#entries.get(key);
    if (entry !== undefined) entry.state = "DELETE";
  }

  /** How many keys are in which state. */
  counts(): WarmCounts {
    const counts: Record<WarmState, number> = { STALE: 0, SAME: 0, NEW: 0, DELETE: 0 };
    for (const { state } of this.#entries.values()) counts[state]++;
    return counts;
  }

  /** The changes, in the order in which the keys became known. */
  *decisions(): IterableIterator<WarmDecision> {
    for (const [key, { state, fields }] of this.#entries) {
      if (state === "SAME") continue;
      yield { op: state === "NEW" ? "set" : "del", key, fields, state };
    }
  }

  /** Forgets everything. */
  clear(): void {
    this.#entries.clear();
  }
}
