/**
 * The connections that run, and what has gone through them: for the control interface, groups and metrics.
 *
 * @module
 */

import type { Metadata } from "./outbound.ts";

/** A connection, or an association of datagrams, from client to destination. */
export interface TrackedConnection {
  /** Unique while the process lives. */
  readonly id: string;
  /** Who and where to. */
  readonly metadata: Metadata;
  /** Unix time of its start, milliseconds. */
  readonly startedAt: number;
  /** Tags of the outbounds it takes, the outermost group first. */
  readonly chain: readonly string[];
  /** The rule that decided, as text; `final` when none did. */
  readonly rule: string;
  /** Bytes from the client so far. */
  readonly upload: number;
  /** Bytes to the client so far. */
  readonly download: number;
  /** Cuts it. Idempotent. */
  close(): void;
}

/** Bytes since the start, of everything together. */
export interface TrafficTotals {
  /** From clients. */
  readonly upload: number;
  /** To clients. */
  readonly download: number;
}

/** A place that keeps connections of its own, on another thread for example. */
export interface ConnectionSource {
  /** Connections that run. */
  readonly active: number;
  /** Connections so far. */
  readonly opened: number;
  /** Bytes of connections that are over and of those that run. */
  readonly totals: TrafficTotals;
  /** Connections that run. */
  list(): readonly TrackedConnection[];
}

/** A connection whose numbers its relay knows. */
export interface CountedRelay {
  /** Bytes from the client so far. */
  readonly forwardBytes: number;
  /** Bytes to the client so far. */
  readonly backwardBytes: number;
}

/** A connection in the making: who tracks it tells how it goes on. */
export class ConnectionEntry implements TrackedConnection {
  /** Unique while the process lives. */
  readonly id: string;
  /** Unix time of its start, milliseconds. */
  readonly startedAt: number = Date.now();
  /** Tags of the outbounds it takes, the outermost group first. */
  readonly chain: string[] = [];
  /** The rule that decided, as text. */
  rule = "final";
  /** Who and where to, as far as it is known. */
  metadata: Metadata;
  /** Where numbers come from once the connection is relayed. */
  relay: CountedRelay | undefined;
  /** What cutting it means now. */
  cut: (() => void) | undefined;
  #upload = 0;
  #download = 0;
  #wasClosed = false;

  /**
   * Begins now.
   *
   * @param id Unique.
   */
  constructor(id: string, metadata: Metadata) {
    this.id = id;
    this.metadata = metadata;
  }

  /** Bytes from the client so far. */
  get upload(): number {
    return this.#upload + (this.relay?.forwardBytes ?? 0);
  }

  /** Bytes to the client so far. */
  get download(): number {
    return this.#download + (this.relay?.backwardBytes ?? 0);
  }

  /** Whether {@linkcode TrackedConnection.close} was called. */
  get wasClosed(): boolean {
    return this.#wasClosed;
  }

  /** Counts bytes that no relay counts. */
  count(up: number, down: number): void {
    this.#upload += up;
    this.#download += down;
  }

  /** Cuts it. Idempotent. */
  close(): void {
    if (this.#wasClosed) return;
    this.#wasClosed = true;
    this.cut?.();
  }
}

/** All connections of a proxy. */
export class ConnectionTracker {
  readonly #entries = new Map<string, ConnectionEntry>();
  readonly #sources = new Set<ConnectionSource>();
  #opened = 0;
  #upload = 0;
  #download = 0;

  /** Connections that run. */
  get active(): number {
    let active = this.#entries.size;
    for (const source of this.#sources) active += source.active;
    return active;
  }

  /** Connections so far, those that run among them. */
  get opened(): number {
    let opened = this.#opened;
    for (const source of this.#sources) opened += source.opened;
    return opened;
  }

  /** Bytes so far. Adds up what runs: to be called a few times a second at most. */
  get totals(): TrafficTotals {
    let upload = this.#upload, download = this.#download;
    for (const entry of this.#entries.values()) {
      upload += entry.upload;
      download += entry.download;
    }
    for (const { totals } of this.#sources) {
      upload += totals.upload;
      download += totals.download;
    }
    return { upload, download };
  }

  /** Connections that run, oldest first. */
  list(): readonly TrackedConnection[] {
    const elsewhere = [...this.#sources].flatMap((source) => source.list());
    return [...this.#entries.values(), ...elsewhere];
  }

  /** A connection that runs. */
  get(id: string): TrackedConnection | undefined {
    return this.#entries.get(id) ?? this.list().find((connection) => connection.id === id);
  }

  /** How many connections that run take an outbound. */
  countOf(tag: string): number {
    let count = 0;
    for (const { chain } of this.list()) if (chain.includes(tag)) count++;
    return count;
  }

  /** Cuts the connections for which `which` holds; all without it. @returns How many. */
  closeAll(which: (connection: TrackedConnection) => boolean = () => true): number {
    const found = this.list().filter(which);
    for (const connection of found) connection.close();
    return found.length;
  }

  /** Takes a connection in. */
  add(metadata: Metadata): ConnectionEntry {
    const entry = new ConnectionEntry(`${RUN}-${(++this.#opened).toString(36)}`, metadata);
    this.#entries.set(entry.id, entry);
    return entry;
  }

  /** A connection is over: its bytes stay in the sums. */
  remove(entry: ConnectionEntry): void {
    if (!this.#entries.delete(entry.id)) return;
    this.#upload += entry.upload;
    this.#download += entry.download;
  }

  /** Takes in the connections of another place as well. */
  attach(source: ConnectionSource): void {
    this.#sources.add(source);
  }
}

/** Tells the connections of this process from those of the last one. */
const RUN = crypto.randomUUID().slice(0, 8);
