/**
 * Associations of datagrams between a client and the outbound they take, and when they end.
 *
 * @module
 */

import type { Clock } from "../internal/time/clock.ts";
import type { ConnectionEntry, ConnectionTracker } from "./connections.ts";
import type { InboundPackets, PacketFlow } from "./inbound.ts";
import {
  PACKET_HEADROOM,
  PACKET_TAILROOM,
  type PacketConnection,
  type PacketReceiver,
} from "./packets.ts";
import type { Endpoint } from "./protocol/mod.ts";
import { WaitingPackets } from "./waiting_packets.ts";

/** What carries the datagrams of an association. */
export interface FlowTarget {
  /** Where they go out. */
  readonly packets: PacketConnection;
  /** Silence after which it ends, milliseconds. */
  readonly timeoutMs: number;
  /** Where a rule sends what is for the first destination; `undefined` leaves it. */
  readonly moved: Endpoint | undefined;
}

/** Finds out where an association goes out, from what its client sends first. */
export type OpenFlow = (
  entry: ConnectionEntry,
  waiting: WaitingPackets,
) => Promise<FlowTarget | undefined>;

/** A datagram that came before it was known where it goes out. */
interface Waiting {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly to: Endpoint;
}

/** The associations of a proxy. */
export class FlowTable {
  readonly #clock: Clock;
  readonly #tracker: ConnectionTracker;
  readonly #flows = new Set<Flow>();
  #timer: ReturnType<typeof setInterval> | undefined;

  /** @param tracker Where they are counted. */
  constructor(clock: Clock, tracker: ConnectionTracker) {
    this.#clock = clock;
    this.#tracker = tracker;
  }

  /** Associations that run. */
  get size(): number {
    return this.#flows.size;
  }

  /**
   * Begins an association.
   *
   * @param open Finds out where it goes out, from its first datagrams; `undefined` ends it.
   */
  begin(
    packets: InboundPackets,
    open: OpenFlow,
  ): PacketFlow {
    const entry = this.#tracker.add(packets.metadata);
    const flow = new Flow(packets, entry, open, this.#clock, (ended) => {
      this.#flows.delete(ended);
      this.#tracker.remove(entry);
      if (this.#flows.size > 0) return;
      clearInterval(this.#timer);
      this.#timer = undefined;
    });
    this.#flows.add(flow);
    this.#timer ??= setInterval(() => {
      const now = this.#clock.now();
      for (const each of this.#flows) each.look(now);
    }, SWEEP_MS);
    return flow;
  }

  /** Ends all of them. */
  close(): void {
    for (const flow of this.#flows) flow.end();
  }
}

class Flow implements PacketFlow {
  readonly #given: InboundPackets;
  readonly #entry: ConnectionEntry;
  readonly #open: OpenFlow;
  readonly #clock: Clock;
  readonly #over: (flow: Flow) => void;
  #waiting: Waiting[] | undefined = [];
  #waitingBytes = 0;
  /** Those of them that tell what the client speaks. */
  readonly #seen = new WaitingPackets();
  #target: FlowTarget | undefined;
  #stirred = true;
  #movedMs: number;
  #first: Endpoint | undefined;
  #closed = false;

  constructor(
    given: InboundPackets,
    entry: ConnectionEntry,
    open: OpenFlow,
    clock: Clock,
    over: (flow: Flow) => void,
  ) {
    this.#given = given;
    this.#entry = entry;
    this.#open = open;
    this.#clock = clock;
    this.#over = over;
    this.#movedMs = clock.now();
    entry.cut = () => this.end();
  }

  get closed(): boolean {
    return this.#closed;
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number, to: Endpoint): void {
    if (this.#closed) return;
    this.#stirred = true;
    this.#entry.count(end - start, 0);
    if (this.#target !== undefined) {
      const { packets, moved } = this.#target;
      packets.send(bytes, start, end, moved !== undefined && this.#isFirst(to) ? moved : to);
      return;
    }
    const waiting = this.#waiting!;
    if (waiting.length >= MOST_WAITING || this.#waitingBytes >= MOST_WAITING_BYTES) return;
    this.#waitingBytes += end - start;
    const copy = new Uint8Array(PACKET_HEADROOM + end - start + PACKET_TAILROOM);
    copy.set(bytes.subarray(start, end), PACKET_HEADROOM);
    waiting.push({ bytes: copy, to });
    const isFirst = this.#first === undefined;
    this.#first ??= to;
    const data = copy.subarray(PACKET_HEADROOM, PACKET_HEADROOM + end - start);
    if (this.#isFirst(to)) this.#seen.add(data);
    if (!isFirst) return;
    this.#open(this.#entry, this.#seen).then(
      (target) => this.#opened(target),
      () => this.end(),
    );
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#target?.packets.close();
    this.#waiting = undefined;
    this.#seen.end();
    this.#over(this);
  }

  /** Ends it from this side. */
  end(): void {
    if (this.#closed) return;
    this.close();
    this.#given.ended();
  }

  /** Ends it when it was silent for too long. */
  look(now: number): void {
    if (this.#stirred) {
      this.#stirred = false;
      this.#movedMs = now;
    } else if (this.#target !== undefined && now - this.#movedMs >= this.#target.timeoutMs) {
      this.end();
    }
  }

  #isFirst(to: Endpoint): boolean {
    const first = this.#first!;
    return to === first || to.port === first.port && to.host === first.host;
  }

  #opened(target: FlowTarget | undefined): void {
    if (target === undefined) return this.end();
    if (this.#closed) return target.packets.close();
    this.#target = target;
    this.#seen.end();
    target.packets.watch(this.#received, () => this.end());
    const waiting = this.#waiting!;
    this.#waiting = undefined;
    for (const { bytes, to } of waiting) {
      const moved = target.moved !== undefined && this.#isFirst(to) ? target.moved : to;
      target.packets.send(bytes, PACKET_HEADROOM, bytes.length - PACKET_TAILROOM, moved);
    }
  }

  readonly #received: PacketReceiver = (bytes, start, end, from) => {
    if (this.#closed) return;
    this.#stirred = true;
    this.#entry.count(0, end - start);
    const moved = this.#target?.moved;
    // The client knows nothing of the rule: the answer comes from whom it asked.
    const known = moved !== undefined && moved.host === from.host && moved.port === from.port
      ? this.#first!
      : from;
    this.#given.reply(bytes, start, end, known);
  };
}

/** How long an association may be silent, by what it carries; proxy.md §2.2. */
export function udpTimeoutFor(
  protocol: string | undefined,
  port: number,
  configuredMs: number,
): number {
  const known = (protocol === undefined ? undefined : BY_PROTOCOL.get(protocol)) ??
    BY_PORT.get(port);
  return Math.min(configuredMs, known ?? Infinity);
}

const BY_PROTOCOL: ReadonlyMap<string, number> = new Map([
  ["dns", 10_000],
  ["ntp", 10_000],
  ["stun", 10_000],
  ["quic", 30_000],
  ["dtls", 30_000],
]);
const BY_PORT: ReadonlyMap<number, number> = new Map([
  [53, 10_000],
  [123, 10_000],
  [443, 30_000],
  [3478, 10_000],
]);
const MOST_WAITING = 16;
/** Bytes of those that wait; one more may come on top of it. */
const MOST_WAITING_BYTES = 65_536;
const SWEEP_MS = 1000;
