/**
 * What a test tells: its seconds, its end, and the sessions of a server.
 *
 * Byte figures of TCP tests are payload; those of UDP tests include the IP and UDP headers of every datagram, as the
 * peers of this protocol count.
 *
 * @module
 */
import type { SocketAddress } from "../ffi/mod.ts";
import type { AuthMethod, Direction, TestProtocol } from "./protocol/mod.ts";

/** Why a test ended. */
export type EndReason =
  /** It ran as long as it should, or as a server allows. */
  | "duration"
  /** This side stopped it. */
  | "stopped"
  /** The peer closed the connection. */
  | "peer-closed"
  /** UDP: the peer's status messages stopped. */
  | "control-timeout"
  /** The data that the peer should send stopped. */
  | "idle"
  /** The bytes that the user or the address may move are used up. */
  | "quota"
  /** The server is shutting down. */
  | "shutdown";

/** One second of a test; the last one may be shorter. */
export interface TestInterval {
  /** Counts from 1. */
  readonly second: number;
  /** Milliseconds from the start of the data to the end of this interval. */
  readonly elapsedMs: number;
  /** Length of this interval, milliseconds. */
  readonly intervalMs: number;
  /** Bytes sent in it. */
  readonly txBytes: number;
  /** Bytes received in it. */
  readonly rxBytes: number;
  /** UDP: datagrams that are missing; negative when some came late. */
  readonly lost: number;
  /** UDP: datagrams that came after a later one. */
  readonly reordered: number;
  /** UDP: datagrams that came more than once. */
  readonly duplicates: number;
  /** UDP: datagrams that this machine dropped for want of buffer. They are in `lost` as well. */
  readonly localDrops: number;
  /** Load of this machine, 0 to 100; `undefined` when it cannot be known. */
  readonly localCpu: number | undefined;
  /** Load of the peer as it last said, 0 to 100; `undefined` before it did. */
  readonly remoteCpu: number | undefined;
  /** Bytes the peer last said it received in a second; `undefined` before it did. */
  readonly peerReceivedBytes: number | undefined;
}

/** A test that is over. */
export interface TestResult {
  /** Bytes sent. */
  readonly txBytes: number;
  /** Bytes received. */
  readonly rxBytes: number;
  /** Bit/s sent, over the real length of the test. */
  readonly txBps: number;
  /** Bit/s received, over the real length of the test. */
  readonly rxBps: number;
  /** Bytes the peer said it received, all its reports together; 0 when it sent none. */
  readonly peerReceivedBytes: number;
  /** UDP: datagrams that are missing. */
  readonly lost: number;
  /** UDP: datagrams that came after a later one. */
  readonly reordered: number;
  /** UDP: datagrams that came more than once. */
  readonly duplicates: number;
  /** UDP: datagrams that this machine dropped for want of buffer. They are in `lost` as well. */
  readonly localDrops: number;
  /** UDP: datagrams received. */
  readonly datagramsReceived: number;
  /** UDP: datagrams sent. */
  readonly datagramsSent: number;
  /** Milliseconds from the start of the data to its end. */
  readonly elapsedMs: number;
  /** Mean load of this machine, 0 to 100; `undefined` when it cannot be known. */
  readonly localCpu: number | undefined;
  /** Mean load of the peer as it said, 0 to 100; `undefined` when it never did. */
  readonly remoteCpu: number | undefined;
  /** What the server asked for, and got. */
  readonly auth: AuthMethod;
  /** Connections the data flowed over at its start. */
  readonly connections: number;
  /** Which driver carried the data. */
  readonly driver: "linux" | "deno" | "node";
  /** Threads that carried it; 0 when the calling thread did. */
  readonly workers: number;
  /** Why it ended. */
  readonly reason: EndReason;
  /** What was not as asked, in sentences. */
  readonly warnings: readonly string[];
}

/** A session of a server: one test, however many connections it has. */
export interface SessionInfo {
  /** Counts from 1 over the life of the server. */
  readonly id: number;
  /** Whom it is with: the first connection's address, unmapped. */
  readonly peer: SocketAddress;
  /** Who logged in; empty without authentication. The peer's own bytes: data, not text of ours. */
  readonly user: string;
  /** How. */
  readonly auth: AuthMethod;
  /** What carries the data. */
  readonly protocol: TestProtocol;
  /** Which way, seen from the client. */
  readonly direction: Direction;
  /** Connections that carry it. */
  readonly connections: number;
}

/** Why a connection was turned away before it became a session. */
export type RefusalReason =
  /** Wrong user or wrong password. */
  | "auth-failed"
  /** All sessions, or all connections of the address, are in use. */
  | "too-many"
  /** The accounts say no. */
  | "not-allowed"
  /** It did not speak the protocol, or joined a test that is not its own. */
  | "protocol"
  /** It fell silent in the handshake, or went away. */
  | "no-answer";

/** What a server tells of its sessions. */
export type ServerEvent =
  /** A test began. */
  | { readonly kind: "start"; readonly session: SessionInfo }
  /** A second of it is over. */
  | { readonly kind: "interval"; readonly session: SessionInfo; readonly interval: TestInterval }
  /** It ended. `tx` is what the server sent. */
  | { readonly kind: "end"; readonly session: SessionInfo; readonly result: TestResult }
  /** A connection was turned away. */
  | {
    readonly kind: "refused";
    readonly peer: SocketAddress;
    readonly user: string;
    readonly reason: RefusalReason;
  };
