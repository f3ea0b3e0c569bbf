/**
 * The fixed-size messages of the bandwidth test, by position: hello, command, join, answer words, status.
 *
 * ```
 *  0    1    2    3
 *  +----+----+----+----+
 *  | 01 | 00 | 00 | 00 |                         hello, server → client
 *  +----+----+----+----+
 *  | 01 | token   | 00 |                         accepted; the token is 00 00 when there is nothing to join
 *  +----+----+----+----+
 *  | 02 | 00   00   00 | challenge 16 …          MD5 wanted
 *  | 03 | 00   00   00 |                         EC-SRP5 wanted
 *  | 00 | 00   00   00 |                         refused
 *  +----+----+----+----+
 *
 *  0       1       2       3       4          6          8               12              16
 *  +-------+-------+-------+-------+----------+----------+---------------+---------------+
 *  | proto | direc | zeros | conns | tx size  | buffer   | remote speed  | local speed   |   command, LE
 *  +-------+-------+-------+-------+----------+----------+---------------+---------------+
 *  |     token     |  02   |  00 … thirteen zeros                                        |   join
 *  +---------------+-------+-------------------------------------------------------------+
 *
 *  0    1         2    4          8          12
 *  +----+---------+----+----------+----------+
 *  | 07 | CPU     | 00 | sequence | received |                                             status, LE
 *  +----+---------+----+----------+----------+
 * ```
 *
 * Layouts as seen in captures of RouterOS 6 and 7; marks in the guide.
 *
 * @module
 */

import { integerIn, oneOf } from "../../internal/check.ts";

/** Bytes of hello, accepted, refused and the words that ask for authentication. */
export const WORD_BYTES = 4;
/** Bytes of a command and of a join. */
export const COMMAND_BYTES = 16;
/** Bytes of a status message. */
export const STATUS_BYTES = 12;
/** Bytes of the UDP port that follows the accepted word of a UDP test, big-endian. */
export const UDP_PORT_BYTES = 2;
/** What the client adds to the server's UDP port to get its own. */
export const UDP_CLIENT_PORT_OFFSET = 256;
/** The port a server listens on. */
export const DEFAULT_PORT = 2000;
/** Write size of a TCP test when the command names none, bytes; what RouterOS sends. */
export const DEFAULT_TCP_TX_BYTES = 32768;
/** Packet size of a UDP test including IP and UDP headers, bytes; what RouterOS sends. */
export const DEFAULT_UDP_TX_BYTES = 1500;
/** IP and UDP headers of a datagram over IPv4, bytes. Every UDP figure of the protocol includes them. */
export const UDP_OVERHEAD_IPV4_BYTES = 28;
/** The same over IPv6; no peer is known to do it otherwise, none is known to do it. */
export const UDP_OVERHEAD_IPV6_BYTES = 48;
/** What the received field of a status saturates at: it never wraps. */
export const MAX_STATUS_BYTES = 0xffff_ffff;

/** First byte of an answer word: refused. */
export const WORD_REFUSED = 0;
/** First byte of an answer word: accepted, and of the hello. */
export const WORD_ACCEPTED = 1;
/** First byte of an answer word: answer an MD5 challenge first. */
export const WORD_MD5 = 2;
/** First byte of an answer word: prove a password by EC-SRP5 first. */
export const WORD_ECSRP5 = 3;
/** First byte of a status message. */
export const STATUS = 7;

/** Not one of the messages that may stand here. */
export const REJECT_BAD_KIND: number = -1;
/** A command with a direction of 0 or above 3. */
export const REJECT_BAD_DIRECTION: number = -2;
/** Fewer bytes than the message has. */
export const REJECT_TOO_SHORT: number = -3;
/** What was to be written does not fit into the buffer. */
export const REJECT_NO_ROOM: number = -4;

/** Names of the negative reasons for metrics and logs: `REJECT_NAMES[-reason]`. */
export const REJECT_NAMES: readonly string[] = Object.freeze([
  "",
  "bad-kind",
  "bad-direction",
  "too-short",
  "no-room",
]);

/** What carries the data. */
export type TestProtocol = "tcp" | "udp";

/** Which way data flows, as the client says it: `transmit` is client to server. */
export type Direction = "transmit" | "receive" | "both";

/** What a client asks for. */
export interface Command {
  /** What carries the data. */
  readonly protocol: TestProtocol;
  /** Which way, seen from the client. The wire has the server's view. */
  readonly direction: Direction;
  /** Payload of random bytes instead of zeros. */
  readonly randomData: boolean;
  /** TCP connections including the first one, or UDP source ports; 1 to 255. */
  readonly connections: number;
  /** TCP: bytes of a write. UDP: bytes of a packet with IP and UDP headers. 0 to 65535. */
  readonly txSize: number;
  /** Informative; 0 is the default. 0 to 65535. */
  readonly clientBufferSize: number;
  /** Cap on what the server sends, bit/s; 0 is none. 0 to 2³² − 1. */
  readonly remoteTxSpeed: number;
  /** Cap on what the client sends, bit/s; 0 is none. 0 to 2³² − 1. */
  readonly localTxSpeed: number;
}

/** Who does what in a test. */
export interface TestPlan {
  /** The client sends data. */
  readonly clientSends: boolean;
  /** The server sends data. */
  readonly serverSends: boolean;
  /** The client sends a status each second: in UDP tests only. */
  readonly clientReports: boolean;
  /** The server sends a status each second: in UDP tests, and in TCP tests in which it receives. */
  readonly serverReports: boolean;
}

/**
 * Writes a command.
 *
 * @returns Where it ends, or {@linkcode REJECT_NO_ROOM}.
 * @throws {RangeError} When a field does not fit the wire.
 * @throws {TypeError} When a field is no integer or none of the words.
 *
 * @example
 * ```ts
 * import { COMMAND_BYTES, decodeCommand, encodeCommand } from "@fastwire/net/btest/protocol";
 * import { deepEqual, equal } from "node:assert/strict";
 *
 * const bytes = new Uint8Array(COMMAND_BYTES);
 * const command = {
 *   protocol: "udp",
 *   direction: "receive",
 *   randomData: false,
 *   connections: 1,
 *   txSize: 1500,
 *   clientBufferSize: 0,
 *   remoteTxSpeed: 10_000_000,
 *   localTxSpeed: 0,
 * } as const;
 * equal(encodeCommand(bytes, 0, command), 16);
 * deepEqual(decodeCommand(bytes, 0, 16), command);
 * ```
 */
export function encodeCommand(bytes: Uint8Array, start: number, command: Command): number {
  if (bytes.length - start < COMMAND_BYTES) return REJECT_NO_ROOM;
  const { protocol, direction, connections } = command;
  bytes[start] = PROTOCOLS.indexOf(oneOf(protocol, PROTOCOLS, "protocol"));
  bytes[start + 1] = DIRECTIONS.indexOf(oneOf(direction, DIRECTIONS, "direction")) + 1;
  bytes[start + 2] = command.randomData ? 0 : 1;
  integerIn(connections, 1, 255, "connection count");
  bytes[start + 3] = connections === 1 ? 0 : connections;
  writeLittle(bytes, start + 4, 2, integerIn(command.txSize, 0, 0xffff, "tx size"));
  const buffer = integerIn(command.clientBufferSize, 0, 0xffff, "client buffer size");
  writeLittle(bytes, start + 6, 2, buffer);
  const remote = integerIn(command.remoteTxSpeed, 0, 0xffff_ffff, "remote tx speed");
  writeLittle(bytes, start + 8, 4, remote);
  const local = integerIn(command.localTxSpeed, 0, 0xffff_ffff, "local tx speed");
  writeLittle(bytes, start + 12, 4, local);
  return start + COMMAND_BYTES;
}

/**
 * Reads a command. Bytes behind its sixteen are not looked at.
 *
 * @returns The command, or a negative `REJECT_…` reason.
 */
export function decodeCommand(bytes: Uint8Array, start: number, end: number): Command | number {
  if (end - start < COMMAND_BYTES) return REJECT_TOO_SHORT;
  const protocol = PROTOCOLS[bytes[start]!];
  if (protocol === undefined) return REJECT_BAD_KIND;
  const direction = DIRECTIONS[bytes[start + 1]! - 1];
  if (direction === undefined) return REJECT_BAD_DIRECTION;
  return Object.freeze({
    protocol,
    direction,
    // RouterOS says 01 for zeros; anything but 00 is read as that.
    randomData: bytes[start + 2] === 0,
    connections: bytes[start + 3] || 1,
    txSize: readLittle(bytes, start + 4, 2),
    // Two fields of two bytes: read as one, a buffer size becomes a part of the tx size.
    clientBufferSize: readLittle(bytes, start + 6, 2),
    remoteTxSpeed: readLittle(bytes, start + 8, 4),
    localTxSpeed: readLittle(bytes, start + 12, 4),
  });
}

/** Says who sends what in a test. */
export function planOf(command: Pick<Command, "protocol" | "direction">): TestPlan {
  const udp = command.protocol === "udp";
  const clientSends = command.direction !== "receive";
  return {
    clientSends,
    serverSends: command.direction !== "transmit",
    // A client that writes a status into TCP data would have it counted as data.
    clientReports: udp,
    serverReports: udp || clientSends,
  };
}

/**
 * Payload of the datagrams of a UDP test.
 *
 * @param txSize Packet size of the command, bytes, IP and UDP headers included.
 * @param overheadBytes {@linkcode UDP_OVERHEAD_IPV4_BYTES} or {@linkcode UDP_OVERHEAD_IPV6_BYTES}.
 * @returns Bytes, at least the 4 of the sequence number, at most what a datagram carries.
 */
export function udpPayloadBytes(txSize: number, overheadBytes: number): number {
  const most = overheadBytes === UDP_OVERHEAD_IPV4_BYTES ? 65507 : 65527;
  const size = txSize === 0 ? DEFAULT_UDP_TX_BYTES : txSize;
  return Math.min(most, Math.max(4, size - overheadBytes));
}

/** Whether a token may be issued: it makes a join that is no command, and no zero, which clients refuse. */
export function isToken(token: number): boolean {
  return token >> 8 >= 2 && token >> 8 <= 0xff && (token & 0xff) !== 0;
}

/**
 * Makes a token of a random number: first byte 02 to ff, second 01 to ff.
 *
 * @param random An integer, 0 to 2³² − 1.
 */
export function tokenOf(random: number): number {
  return (2 + (random & 0xffff) % 254) << 8 | 1 + (random >>> 16) % 255;
}

/**
 * Writes the 16 bytes that add a connection to a test.
 *
 * @returns Where they end, or {@linkcode REJECT_NO_ROOM}.
 * @throws {RangeError} When the token is none.
 */
export function encodeJoin(bytes: Uint8Array, start: number, token: number): number {
  if (bytes.length - start < COMMAND_BYTES) return REJECT_NO_ROOM;
  if (!isToken(token)) throw new RangeError(`Cannot join by token ${token}: it is none`);
  bytes.fill(0, start, start + COMMAND_BYTES);
  bytes[start] = token >> 8;
  bytes[start + 1] = token & 0xff;
  // Constant, whatever the direction.
  bytes[start + 2] = 2;
  return start + COMMAND_BYTES;
}

/**
 * Reads the token of a join: the first two bytes. What follows is not looked at, because some clients repeat the
 * command there.
 *
 * @returns The token, or {@linkcode REJECT_BAD_KIND} when these are the bytes of a command or of nothing.
 */
export function readJoinToken(bytes: Uint8Array, start: number): number {
  const token = bytes[start]! << 8 | bytes[start + 1]!;
  return isToken(token) ? token : REJECT_BAD_KIND;
}

/** Writes an answer word; the token counts for {@linkcode WORD_ACCEPTED} only. Returns where it ends. */
export function writeWord(bytes: Uint8Array, start: number, kind: number, token: number): number {
  bytes[start] = kind;
  bytes[start + 1] = kind === WORD_ACCEPTED ? token >> 8 : 0;
  bytes[start + 2] = kind === WORD_ACCEPTED ? token & 0xff : 0;
  bytes[start + 3] = 0;
  return start + WORD_BYTES;
}

/** Says what an answer word is: one of the `WORD_…` constants, or {@linkcode REJECT_BAD_KIND}. */
export function classifyWord(bytes: Uint8Array, start: number): number {
  const kind = bytes[start]!;
  if (kind > WORD_ECSRP5 || bytes[start + 3] !== 0) return REJECT_BAD_KIND;
  if (kind === WORD_ACCEPTED) return kind;
  return bytes[start + 1] === 0 && bytes[start + 2] === 0 ? kind : REJECT_BAD_KIND;
}

/** Reads the token of an accepted word, 0 when there is none. */
export function readWordToken(bytes: Uint8Array, start: number): number {
  return bytes[start + 1]! << 8 | bytes[start + 2]!;
}

/**
 * Writes a status message.
 *
 * @param cpuPercent Load, 0 to 100; clamped and rounded.
 * @param cpuFlag Set the top bit of the CPU byte: RouterOS clients do, RouterOS servers do not.
 * @param sequence Counts from 1, one a second; wraps at 2³².
 * @param receivedBytes Bytes received since the last status; saturates at 2³² − 1.
 * @returns Where it ends.
 */
export function writeStatus(
  bytes: Uint8Array,
  start: number,
  cpuPercent: number,
  cpuFlag: boolean,
  sequence: number,
  receivedBytes: number,
): number {
  const load = cpuPercent >= 100 ? 100 : cpuPercent > 0 ? Math.round(cpuPercent) : 0;
  bytes[start] = STATUS;
  bytes[start + 1] = cpuFlag ? 0x80 | load : load;
  bytes[start + 2] = 0;
  bytes[start + 3] = 0;
  writeLittle(bytes, start + 4, 4, sequence);
  const received = receivedBytes >= MAX_STATUS_BYTES ? MAX_STATUS_BYTES : receivedBytes;
  writeLittle(bytes, start + 8, 4, received > 0 ? received : 0);
  return start + STATUS_BYTES;
}

/** Whether twelve bytes look like a status: kind, a CPU load of at most 100 in either form, two zeros. */
export function isStatus(bytes: Uint8Array, start: number): boolean {
  return bytes[start] === STATUS && (bytes[start + 1]! & 0x7f) <= 100 &&
    bytes[start + 2] === 0 && bytes[start + 3] === 0;
}

/** Reads the CPU load of a status, percent, 0 to 100, in either form. */
export function readStatusCpu(bytes: Uint8Array, start: number): number {
  const load = bytes[start + 1]! & 0x7f;
  return load > 100 ? 100 : load;
}

/** Reads the sequence number of a status, 0 to 2³² − 1. */
export function readStatusSequence(bytes: Uint8Array, start: number): number {
  return readLittle(bytes, start + 4, 4);
}

/** Reads what the sender of a status received since its last one, bytes; 2³² − 1 stands for that or more. */
export function readStatusReceived(bytes: Uint8Array, start: number): number {
  return readLittle(bytes, start + 8, 4);
}

function readLittle(bytes: Uint8Array, start: number, size: number): number {
  let value = 0;
  for (let i = size - 1; i >= 0; i--) value = value * 256 + bytes[start + i]!;
  return value;
}

function writeLittle(bytes: Uint8Array, start: number, size: number, value: number): void {
  for (let i = 0; i < size; i++) bytes[start + i] = Math.floor(value / 2 ** (8 * i));
}

const PROTOCOLS: readonly TestProtocol[] = ["udp", "tcp"];
/** By the bits of the wire, less one: the server receives, transmits, does both. */
const DIRECTIONS: readonly Direction[] = ["transmit", "receive", "both"];
