/**
 * What the resync machine may ask of whoever drives it. Called synchronously, must not call back into the machine.
 *
 * @module
 */

import { MAC_ABSENT } from "./address.ts";
import type { Link } from "./link_cache.ts";
import { NeighborView } from "./neighbor.ts";
import type { KernelAnswer } from "./netlink.ts";

/** What made a table be read anew. */
export type ResyncReason =
  /** The machine began. */
  | "start"
  /** Events were lost. */
  | "overflow"
  /** Somebody asked for it. */
  | "manual"
  /** Entries vanished under the last dump, and the kernel may have skipped others then. */
  | "confirm";

/** Where a change was seen. */
export type ChangeSource =
  /** The kernel told it. */
  | "event"
  /** Reading the table showed it. */
  | "dump"
  /** The interface was renamed, went away or became known. */
  | "link"
  /** Nothing changed: {@linkcode ResyncMachine.replay} was asked to tell everything again. */
  | "replay";

/** The MAC is another one. */
export const CHANGED_MAC = 1;
/** The state is another one. */
export const CHANGED_STATE = 2;
/** The flags are others. */
export const CHANGED_FLAGS = 4;

/** One change, in fields that are overwritten by the next one. */
export class NeighborChange {
  /** What happened to the entry. */
  kind: "add" | "change" | "delete" = "add";
  /** Where it was seen. */
  source: ChangeSource = "event";
  /**
   * The neighbor as it is now, its `messageType` fit for the filter. A delete that no message told (the sweep, a link that
   * is gone) has the state the kernel itself gives a deleted entry, `NUD_FAILED`.
   */
  readonly neighbor: NeighborView = new NeighborView();
  /** The link under whose name it is known. */
  link!: Link;
  /** Name of the link's master, while known. */
  masterName: string | undefined = undefined;
  /** `CHANGED_…` bits of a change; 0 when an event repeated what is known. */
  changed = 0;
  /** MAC before a change or delete, `MAC_ABSENT` or `MAC_FOREIGN`. */
  previousMac: number = MAC_ABSENT;
  /** `NUD_…` before a change or delete. */
  previousState = 0;
  /** `NTF_…` before a change or delete. */
  previousFlags = 0;
}

/** What reading the table anew has brought. */
export interface ResyncResult {
  /** Why it was read. */
  readonly reason: ResyncReason;
  /** Entries nobody had told of. */
  readonly added: number;
  /** Entries with other values. */
  readonly changed: number;
  /** Entries that were gone. */
  readonly removed: number;
  /** Events known to be lost since the last end. */
  readonly lost: number;
  /** Entries the dump did not show and the kernel has nevertheless. */
  readonly kept: number;
  /** Dumps of the neighbor table it took. */
  readonly dumps: number;
  /** Entries vanished meanwhile, so that the kernel may have skipped others: it is confirmed later. */
  readonly disturbed: boolean;
}

/** How a view is kept. */
export interface ResyncOptions {
  /** Random 32-bit number for the table's hash. */
  readonly seed: number;
  /** `AF_INET`, `AF_INET6`, or 0 (the default) for both. */
  readonly family?: number;
  /** Receive buffer of the event socket as it is now, bytes. */
  readonly receiveBufferBytes: number;
  /** How far it may be asked to grow, bytes. Default 256 MiB. */
  readonly maxReceiveBufferBytes?: number;
  /** Tell events that change nothing, too. Default false. */
  readonly repeats?: boolean;
  /** Milliseconds without a word from the kernel after which a request is made again. Default 2,000. */
  readonly answerTimeoutMs?: number;
}

/** Counts since the machine was made. */
export interface ResyncCounts {
  /** Neighbor events taken. */
  readonly events: number;
  /** Rows of dumps and answers taken. */
  readonly rows: number;
  /** Events known to be lost. */
  readonly lostEvents: number;
  /** Times the event socket overflowed, a row of losses without a pause counted once. */
  readonly overflows: number;
  /** Times the table was read. */
  readonly resyncs: number;
  /** Entries that reading the table has corrected. */
  readonly repairs: number;
  /** Messages that could not be read. */
  readonly malformed: number;
  /** Messages about what is not kept: bridge forwarding, the proxy table, the family that is not wanted. */
  readonly ignored: number;
  /** Interface indexes the kernel knew nothing about. */
  readonly unknownIfindex: number;
  /** Requests sent. */
  readonly queries: number;
  /** Refusals, but for "no such entry" and "no such device". */
  readonly refusals: number;
}

/** The verbs of the resync machine. */
export interface ResyncActions {
  /** Send these requests on the query socket; the bytes are valid until this call returns. */
  query(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void;
  /** An entry changed; `change` is valid until this call returns. */
  changed(change: NeighborChange): void;
  /** A link is new, has changed, or is gone (`link` undefined). Told after the changes of neighbors it brings. */
  linkChanged(link: Link | undefined, previous: Link | undefined): void;
  /** The table is about to be read. */
  resyncStarted(reason: ResyncReason): void;
  /** The table was read, and the view is what the kernel has. */
  resyncEnded(result: ResyncResult): void;
  /** The receive buffer of the event socket overflowed twice within ten seconds: make it this large. */
  growReceiveBuffer(bytes: number): void;
  /** The kernel refused a request; it is tried again. For the log. */
  refused(answer: KernelAnswer): void;
}
