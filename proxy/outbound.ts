/**
 * What outbounds are, and what they are given.
 *
 * @module
 */

import type { AeadProvider, DatagramHost, SocketAddress, StreamHost } from "../ffi/mod.ts";
import type { Random } from "../internal/random.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { DomainStrategy, Network } from "./config_types.ts";
import type { ConnectionTracker } from "./connections.ts";
import type { Duplex } from "./duplex.ts";
import type { LoopGuard } from "./loop_guard.ts";
import type { PacketConnection } from "./packets.ts";
import type { Endpoint } from "./protocol/mod.ts";

/** What is known about a connection, or an association of datagrams. */
export interface Metadata {
  /** Tag of the inbound it came in by. */
  readonly inbound: string;
  /** Type of that inbound. */
  readonly inboundType: string;
  /** Transport. */
  readonly network: Network;
  /** The client. */
  readonly source: SocketAddress;
  /** Where it wants to go. */
  readonly destination: Endpoint;
  /** User that logged in at the inbound. */
  readonly user?: string | undefined;
  /** Sniffed protocol. */
  readonly protocol?: string | undefined;
  /** Sniffed name. */
  readonly sniffedHost?: string | undefined;
  /** Sniffed client. */
  readonly client?: string | undefined;
  /** Addresses that a rule has resolved the destination to. */
  readonly resolved?: readonly string[] | undefined;
}

/** How to dial. */
export interface DialOptions {
  /** Gives up when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Whom it is for; groups that spread by client look at it. */
  readonly metadata?: Metadata | undefined;
  /** Each outbound that the dial passes adds its tag, the outermost first; one that tries again takes the failed back. */
  readonly chain?: string[] | undefined;
  /** Something is sent as soon as it is connected, whatever the destination says: TCP Fast Open may wait for it. */
  readonly early?: boolean | undefined;
  /** Datagrams come from the destination only (`udp_connect`). */
  readonly udpConnect?: boolean | undefined;
  /** Answers come from the address that sent them, also when a name was asked (`udp_disable_domain_unmapping`). */
  readonly keepAddresses?: boolean | undefined;
}

/** Something that reaches destinations. */
export interface Dialer {
  /**
   * Connects. A protocol whose header can travel with the first bytes holds it back until they come, 100 ms have passed,
   * or something is received; its failures are the stream's then.
   *
   * @throws {FastwireError} Why not; see {@linkcode dialFailure}. Rejects with `signal.reason` when aborted.
   */
  dial(destination: Endpoint, options?: DialOptions): Promise<Duplex>;
  /**
   * Opens a place for datagrams to anywhere, with one address as seen from outside.
   *
   * @throws {FastwireError} Why not.
   */
  openPackets?(options?: DialOptions): Promise<PacketConnection>;
}

/** A configured way to reach destinations. */
export interface Outbound extends Dialer {
  /** The `type` of its configuration. */
  readonly type: string;
  /** Unique among outbounds. */
  readonly tag: string;
  /** Transports it takes. */
  readonly networks: readonly Network[];
  /** Called once before the first dial; tests of health begin here. */
  start?(): Promise<void>;
  /** Lets go of what it holds; connections it made stay. Idempotent. */
  close(): Promise<void>;
}

/** Names to addresses. */
export interface Resolver {
  /**
   * The addresses of a name, the best first; never empty.
   *
   * @throws {FastwireError} `proxy.name-not-found` when there are none; `proxy.name-timeout` when nobody answered.
   */
  resolve(host: string, options?: ResolveOptions): Promise<readonly string[]>;
}

/** How to resolve. */
export interface ResolveOptions {
  /** Tag of the DNS server; `undefined` follows the DNS rules. */
  readonly server?: string | undefined;
  /** Address families; `undefined` takes the resolver's own. */
  readonly strategy?: DomainStrategy | undefined;
  /** Whether the cache is passed by. */
  readonly disableCache?: boolean;
  /** Time to live written into answers, in seconds. */
  readonly rewriteTtl?: number | undefined;
  /** Network sent along in the EDNS client subnet option (RFC 7871). */
  readonly clientSubnet?: string | undefined;
  /** Tag of the outbound whose server's name is asked for. */
  readonly outbound?: string | undefined;
  /** For whom; rules may look at it. */
  readonly metadata?: Metadata | undefined;
  /** Gives up when aborted. */
  readonly signal?: AbortSignal | undefined;
}

/** What outbounds live on. */
export interface OutboundContext {
  /** Where streams live. */
  readonly streams: StreamHost;
  /** Where datagrams live; opened with the first call. */
  datagrams(): Promise<DatagramHost>;
  /** Ciphers; opened with the first call. */
  aeads(): Promise<AeadProvider>;
  /** Names to addresses. */
  readonly resolver: Resolver;
  /** The connections that run. */
  readonly connections: ConnectionTracker;
  /** Monotonic time. */
  readonly clock: Clock;
  /** Randomness fit for salts. */
  readonly random: Random;
  /** Where this proxy itself listens, and what it has sent. */
  readonly loops: LoopGuard;
  /** Netfilter mark of sockets that are given none; 0 is none. */
  readonly defaultMark: number;
  /** Network interface of sockets that are given none. */
  readonly defaultInterface: string | undefined;
  /**
   * Another outbound. Not before {@linkcode Outbound.start}.
   *
   * @throws {RangeError} When there is none with the tag.
   */
  outbound(tag: string): Outbound;
}
