/**
 * What every data plane has, wherever it runs: counts in shared memory, a plan, and whom it tells.
 *
 * @module
 */
import type { SocketAddress } from "../ffi/mod.ts";

/** Names of the counts of one test, in the order they lie in memory. */
export const FLOW_COUNTERS = [
  "txBytes",
  "rxBytes",
  "txDatagrams",
  "rxDatagrams",
  "lost",
  "reordered",
  "duplicates",
  "localDrops",
] as const;

/** Index of each count in a row. */
export const Flow: { readonly [K in typeof FLOW_COUNTERS[number]]: number } = Object.freeze(
  Object.fromEntries(FLOW_COUNTERS.map((name, index) => [name, index])),
) as { readonly [K in typeof FLOW_COUNTERS[number]]: number };

/** The counts of one test: written by the thread that carries its data, read by the one that reports. */
export type FlowCounts = Float64Array<SharedArrayBuffer>;

/** Fresh counts, in memory that can be sent to a thread. */
export function createFlowCounts(): FlowCounts {
  return new Float64Array(new SharedArrayBuffer(8 * FLOW_COUNTERS.length));
}

/** What a TCP data plane does. Can be cloned. */
export interface TcpPlan {
  /** It sends data. */
  readonly sends: boolean;
  /** What arrives is test data and counts. */
  readonly receives: boolean;
  /** Status messages arrive, alone or between data. */
  readonly finds: boolean;
  /** Payload of random bytes. */
  readonly randomData: boolean;
  /** Send out of the page cache instead of memory, where the driver can. */
  readonly sendfile: boolean;
  /** Bytes of a block, between two of which a status may stand; at least 1. */
  readonly blockBytes: number;
  /** Cap on what it sends, bit/s; `Infinity` for none. */
  readonly capBps: number;
  /** How long it goes on receiving once it was stopped, milliseconds. */
  readonly drainMs: number;
}

/** What a UDP data plane does. Can be cloned. */
export interface UdpPlan {
  /** It sends data. */
  readonly sends: boolean;
  /** What arrives is test data and counts. */
  readonly receives: boolean;
  /** Payload of random bytes. */
  readonly randomData: boolean;
  /** Bytes of each datagram's payload, 4 to 65527. */
  readonly payloadBytes: number;
  /** Bytes of IP and UDP headers that every datagram counts for besides. */
  readonly overheadBytes: number;
  /** First rate to send at, bit/s. */
  readonly rateBps: number;
  /** Whom to send to, and whose datagrams count (from any port). */
  readonly peer: SocketAddress;
  /** An empty datagram from the peer's address names the port to send to: a server does that. */
  readonly followsProbes: boolean;
  /** Where to bind; port 0 takes any. */
  readonly bind: SocketAddress;
  /** Wanted kernel receive buffer, bytes. */
  readonly receiveBufferBytes: number;
}

/** Whom a data plane tells. Nothing is thrown at it and it must not throw. */
export interface FlowEvents {
  /** TCP: a status of the peer stood in what arrived. */
  status(cpuPercent: number, sequence: number, receivedBytes: number): void;
  /** TCP: the peer ended a connection, or it broke. 0 is the first one. */
  closed(index: number): void;
  /** UDP: the first datagram of the peer. */
  arrived(): void;
}

/** A data plane at work. */
export interface DataFlow {
  /** Changes the rate, bit/s; `Infinity` for none. */
  setRate(bitsPerSecond: number): void;
  /** TCP: sends a status on the first connection, between two blocks. The bytes are copied. */
  weave(status: Uint8Array): void;
  /** UDP: sends an empty datagram to the peer. */
  probe(): void;
  /** Stops sending, takes what still arrives for as long as the plan says, and releases everything. Idempotent. */
  stop(): Promise<void>;
}
