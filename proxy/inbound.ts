/**
 * What inbounds are, and what they are given.
 *
 * @module
 */

import type { AeadProvider, DatagramHost, SocketAddress, StreamHost } from "../ffi/mod.ts";
import type { Random } from "../internal/random.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { Network } from "./config_types.ts";
import type { Duplex } from "./duplex.ts";
import type { LoopGuard } from "./loop_guard.ts";
import type { Metadata } from "./outbound.ts";
import type { PacketReceiver } from "./packets.ts";
import type { Endpoint } from "./protocol/mod.ts";
import type { ReplyKind } from "./replies.ts";

/** A client that has said where it wants to go. */
export interface InboundStream {
  /** Who and where to. */
  readonly metadata: Metadata;
  /** The client; the handler's from here on. */
  readonly client: Duplex;
  /** What was read ahead of {@linkcode InboundStream.client}: payload. */
  readonly ahead: Uint8Array;
  /** How the client is told whether its destination was reached; see `encodeOpened` and `encodeRefused`. */
  readonly reply: ReplyKind;
}

/** A client's datagrams, to and from anywhere. */
export interface InboundPackets {
  /** Who, and where the first datagram goes. */
  readonly metadata: Metadata;
  /** Sends a datagram to the client; as `PacketConnection.send`, with where it comes from. */
  readonly reply: PacketReceiver;
  /** The association is over. */
  ended(): void;
}

/** An association of datagrams as the inbound that feeds it sees it. */
export interface PacketFlow {
  /** Whether it is over. */
  readonly closed: boolean;
  /** Takes a datagram of the client; as `PacketConnection.send`. */
  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number, to: Endpoint): void;
  /** Ends it. Idempotent; {@linkcode InboundPackets.ended} is not called. */
  close(): void;
}

/** A stream to a destination, for inbounds that look at what goes through it. */
export interface OpenedStream {
  /** The stream; the caller's to close. */
  readonly upstream: Duplex;
  /** To be called with bytes that went to the destination and came from it. */
  count(up: number, down: number): void;
  /** To be called once when it is over. */
  finish(): void;
}

/** Where inbounds hand things to. */
export interface Handler {
  /** Routes, dials and relays. Never throws and never rejects: what goes wrong is the client's to be told. */
  stream(stream: InboundStream): void;
  /**
   * Routes and dials, for inbounds that relay themselves.
   *
   * @param cut Called when the connection is to be closed from outside.
   * @throws {FastwireError} Why not; see `dialFailure`.
   */
  open(metadata: Metadata, cut: () => void): Promise<OpenedStream>;
  /**
   * Asks for the address of a name, or the name of an address, which is the destination; without it nobody can.
   *
   * @throws {FastwireError} Why there is no answer.
   */
  lookUp?(metadata: Metadata, what: "address" | "name"): Promise<string>;
  /** Routes datagrams: one association for everything one client sends from one address. */
  packets(packets: InboundPackets): PacketFlow;
}

/** What inbounds live on. */
export interface InboundContext {
  /** Where streams live. */
  readonly streams: StreamHost;
  /** Where datagrams live; opened with the first call. */
  datagrams(): Promise<DatagramHost>;
  /** Ciphers; opened with the first call. */
  aeads(): Promise<AeadProvider>;
  /** Where clients are handed to. */
  readonly handler: Handler;
  /** Where this proxy itself listens, and what it has sent. */
  readonly loops: LoopGuard;
  /** Whether there are descriptors for another client and for what it needs besides. */
  hasRoom(): boolean;
  /** Monotonic time. */
  readonly clock: Clock;
  /** Unix time, seconds. */
  unixSeconds(): number;
  /** Randomness fit for salts. */
  readonly random: Random;
}

/** A configured way in. */
export interface Inbound {
  /** The `type` of its configuration. */
  readonly type: string;
  /** Unique among inbounds. */
  readonly tag: string;
  /** Transports it takes. */
  readonly networks: readonly Network[];
  /** Where it listens; ports are the real ones. Empty before {@linkcode Inbound.start}. */
  readonly addresses: readonly SocketAddress[];
  /** Clients that have not said yet where they want to go. */
  readonly handshakes: number;
  /** Listens. @throws {SystemError} When it cannot. */
  start(): Promise<void>;
  /** Stops listening and lets go of handshakes; what was handed over stays. Idempotent. */
  close(): Promise<void>;
}
