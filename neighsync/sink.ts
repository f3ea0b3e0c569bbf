/**
 * Where published neighbours go: the contract between the daemon and whatever keeps the table.
 *
 * A sink takes ordered batches and says when they are safe; it can tell what the other side holds now, so that after any
 * loss the daemon writes nothing but the differences. `sink_redis.ts` and `sink_memory.ts` implement it.
 *
 * @module
 */

/** The value of the field `family`. */
export type NeighborFamily = "IPv4" | "IPv6";

/**
 * How the table is kept: `producer-state` stages changes for a consumer that pops them, as SONiC's orchestration agent
 * does; `plain` writes the final hashes, for programs that read them directly.
 */
export type SinkSchema = "producer-state" | "plain";

/** One change of one key. */
export interface SinkOperation {
  /** What is done. */
  readonly op: "set" | "del";
  /** `<interface>:<address>`. */
  readonly key: string;
  /** Lower-case colon form; empty for `del`. */
  readonly mac: string;
  /** Family of the address; ignored for `del`. */
  readonly family: NeighborFamily;
  /** Key of `ROUTE_TABLE`, `<vrf>:<address>`, that is deleted just before this change (host-route clean-up, rule 10). */
  readonly route?: string;
}

/** A neighbour as the table holds it. A field that is missing there is an empty string here. */
export interface StoredNeighbor {
  /** Field `neigh`. */
  readonly mac: string;
  /** Field `family`. */
  readonly family: string;
}

/** A change that is staged and not yet taken by the consumer. */
export interface PendingNeighbor {
  /** The final entry is removed before the staged fields, if there are any, are written. */
  readonly deletes: boolean;
  /** The staged fields; absent when there are none, which the consumer takes for a deletion. */
  readonly staged: StoredNeighbor | undefined;
}

/** What the other side holds. */
export interface SinkTable {
  /** Final entries by key. */
  readonly final: ReadonlyMap<string, StoredNeighbor>;
  /** Staged changes by key; always empty with the schema `plain`. */
  readonly pending: ReadonlyMap<string, PendingNeighbor>;
}

/** What a sink reports about its connection. */
export type SinkEvent =
  /** Writable. What was there before may be gone or old: compare with {@linkcode Sink.readAll} and write the differences. */
  | { readonly state: "connected" }
  /** Not usable from here on; whatever was not acknowledged has been rejected with the same code. */
  | { readonly state: "lost"; readonly code: string; readonly message: string }
  /** Waits `delayMs` milliseconds before attempt number `attempt`, counted from 1 since the loss. */
  | { readonly state: "reconnecting"; readonly attempt: number; readonly delayMs: number };

/** Counters of a sink since it was made, and how it is now. */
export interface SinkSnapshot {
  /** Whether batches are taken. */
  readonly connected: boolean;
  /** Code of the last loss; empty before the first. */
  readonly lastLoss: string;
  /** Batches acknowledged. */
  readonly batches: number;
  /** Changes acknowledged. */
  readonly operations: number;
  /** Batches rejected. */
  readonly failures: number;
  /** Connections made after the first. */
  readonly reconnects: number;
  /** Times the server had forgotten the script and was given it again. */
  readonly scriptReloads: number;
  /** Batches sent and not yet answered. */
  readonly inFlight: number;
}

/** Keeps the table of published neighbours. */
export interface Sink {
  /** How the table is kept. */
  readonly schema: SinkSchema;
  /** Whether batches are taken now. */
  readonly connected: boolean;
  /**
   * Applies the changes in their order, all of them or (when it rejects) possibly none. Batches take effect in the order
   * of the calls; a second one may be given before the first is answered.
   *
   * Repeating a batch is harmless. After a rejection the changes are the caller's again, and a `connected` event follows
   * sooner or later.
   *
   * @param batch Not kept after the call returns a promise that settles; must not be changed until then.
   * @returns When the other side has acknowledged.
   */
  apply(batch: readonly SinkOperation[]): Promise<void>;
  /**
   * Reads the whole table. Staged changes are read before final entries, so a consumer that pops meanwhile makes no
   * difference between the two. Changes applied while it reads may be seen or not.
   */
  readAll(): Promise<SinkTable>;
  /** Forgets every staged change, as a producer does at a warm start. */
  clearPending(): Promise<void>;
  /**
   * Calls back at every change of the connection until the returned function is called. Must not throw; the present state
   * is not repeated.
   */
  observe(observer: (event: SinkEvent) => void): () => void;
  /** Counters and state now. */
  snapshot(): SinkSnapshot;
  /** Rejects what is not acknowledged and lets go of the connection; idempotent. Nothing in the table is removed. */
  close(): Promise<void>;
  /** The same as {@linkcode Sink.close}. */
  [Symbol.asyncDispose](): Promise<void>;
}

/**
 * The table as it will be once the consumer has taken everything that is staged.
 *
 * @returns A new map from key to entry.
 */
export function effectiveTable(table: SinkTable): Map<string, StoredNeighbor> {
  const effective = new Map(table.final);
  for (const [key, { deletes, staged }] of table.pending) {
    if (staged === undefined) {
      effective.delete(key);
      continue;
    }
    // The consumer merges: a field that was not staged keeps its old value, unless the entry is removed first.
    const before = deletes ? undefined : effective.get(key);
    effective.set(key, {
      mac: staged.mac || (before?.mac ?? ""),
      family: staged.family || (before?.family ?? ""),
    });
  }
  return effective;
}
