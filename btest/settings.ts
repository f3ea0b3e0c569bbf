/**
 * The options of the bandwidth test's server and client as types. `options.ts` holds the schema they are checked
 * against; a mismatch between the two does not compile.
 *
 * @module
 */
import type { AuthMethod, Direction, TestProtocol } from "./protocol/mod.ts";

/** An address to listen on, in parts. */
export interface ListenAddress {
  /** A literal address; empty for every address of both families; `none` for no IPv4. */
  readonly host: string;
  /** 2000 when missing. */
  readonly port: number | undefined;
}

/** What both sides of a test decide for themselves: how data is sent and received. */
export interface ResolvedDataSettings {
  /** How to reach the kernel. Default "auto". */
  readonly driver: "auto" | "fast" | "portable";
  /** Threads that carry data; 0 carries it on the calling thread's event loop. 0 to 64, default 1. */
  readonly workers: number;
  /** How TCP data is sent: from memory, or from a file in memory; auto is from memory. Default "auto". */
  readonly txMode: "auto" | "send" | "sendfile";
  /** Let the kernel cut runs of datagrams; the packets on the wire are the same without. Default true. */
  readonly segmentation: boolean;
  /** Kernel send buffer of each data socket; 0 leaves TCP to the kernel. 0 to 2^30 bytes, default 0. */
  readonly sendBufferBytes: number;
  /** Kernel receive buffer of each data socket; 0 leaves TCP to the kernel. 0 to 2^30 bytes, default 0. */
  readonly receiveBufferBytes: number;
  /** TCP in both directions: leave room when the peer's data falls behind. Default true. */
  readonly fairBoth: boolean;
  /** Rate at which an unlimited UDP sender begins. 8000 to 1e12 bit/s, default 50,000,000. */
  readonly udpStartBps: number;
  /** Top bit of the CPU byte in status messages; auto is what RouterOS does in this role. Default "auto". */
  readonly statusCpuFlag: "auto" | "set" | "clear";
}

/** Complete settings of a server, without its functions. Plain data: they travel to worker threads as they are. */
export interface ResolvedServerSettings extends ResolvedDataSettings {
  /** Addresses to listen on. Default [::]:2000, which takes IPv4 too unless there is an address `none` beside it. */
  readonly listen: readonly ListenAddress[];
  /** What clients must prove; auto is "ecsrp5" when there are accounts, else "none". Default "auto". */
  readonly auth: "auto" | AuthMethod;
  /** First UDP port offered to clients; further ones follow upwards. 1 to 65,279, default 2001. */
  readonly udpPortStart: number;
  /** Tests at once; later connections are closed unanswered. 1 to 1,000,000, default 100. */
  readonly maxSessions: number;
  /** Tests at once for one address (an IPv6 /64 counts as one); 0 is unlimited. 0 to 1,000,000, default 50. */
  readonly maxSessionsPerAddress: number;
  /** Longest test. 1000 to 86,400,000 ms, default 300,000. */
  readonly maxDurationMs: number;
  /** Longest time without data from a client that should send some. 1 to 3,600,000 ms, default 30,000. */
  readonly idleTimeoutMs: number;
  /** UDP: longest time without a status of the client. 1 to 3,600,000 ms, default 30,000. */
  readonly controlTimeoutMs: number;
  /** Longest wait for a command. 1 to 600,000 ms, default 5000. */
  readonly commandTimeoutMs: number;
  /** Longest wait for a login as a whole. 1 to 600,000 ms, default 10,000. */
  readonly authTimeoutMs: number;
  /** Longest wait for further connections; then the test begins with those it has. 1 to 600,000 ms, default 10,000. */
  readonly joinTimeoutMs: number;
  /** How long running tests may go on after a stop. 0 to 3,600,000 ms, default 5000. */
  readonly drainTimeoutMs: number;
}

/** Complete options of a client. */
export interface ResolvedClientOptions extends ResolvedDataSettings {
  /** What carries the data. Default "tcp". */
  readonly protocol: TestProtocol;
  /** Which way, seen from the client: transmit is to the server. Default "receive". */
  readonly direction: Direction;
  /** TCP connections, or UDP source ports a server may expect. 1 to 255, default 1. */
  readonly connections: number;
  /** Length of the test from its first data; 0 goes on until stopped. 0 to 86,400,000 ms, default 10,000. */
  readonly durationMs: number;
  /** Bytes of a TCP write, or of a UDP packet with IP and UDP headers; 0 is 32,768 or 1500. 0 to 65,535, default 0. */
  readonly txSize: number;
  /** RouterOS' name for {@linkcode ResolvedClientOptions.txSize} where the client sends; 0 is unset. Default 0. */
  readonly localTxSize: number;
  /** RouterOS' name for {@linkcode ResolvedClientOptions.txSize} where the server sends; 0 is unset. Default 0. */
  readonly remoteTxSize: number;
  /** Cap on what the client sends; 0 is none. 0 to 2^32 − 1 bit/s, default 0. */
  readonly localTxSpeedBps: number;
  /** Cap on what the server sends; 0 is none. 0 to 2^32 − 1 bit/s, default 0. */
  readonly remoteTxSpeedBps: number;
  /** Random payload instead of zeros. Default false. */
  readonly randomData: boolean;
  /** UDP: send empty datagrams until data arrives, for a NAT on the way. Default true. */
  readonly natProbe: boolean;
  /** Who logs in, when the server asks. 1 to 221 bytes of UTF-8. */
  readonly user: string | undefined;
  /** The user's password; empty when missing. */
  readonly password: string | undefined;
  /** Longest wait for the connection. 1 to 600,000 ms, default 10,000. */
  readonly connectTimeoutMs: number;
  /** Longest wait for each answer of the server before data flows. 1 to 600,000 ms, default 10,000. */
  readonly answerTimeoutMs: number;
  /** Longest wait for further connections; then the test begins with those it has. 1 to 600,000 ms, default 10,000. */
  readonly joinTimeoutMs: number;
  /** UDP: longest time without a status of the server. 1 to 3,600,000 ms, default 30,000. */
  readonly controlTimeoutMs: number;
}

/** Partial form of an options object: every member may be left out. */
export type Partially<T> = { readonly [K in keyof T]?: T[K] | undefined };

/** Client options as a caller writes them. Ranges and defaults: {@linkcode ResolvedClientOptions}. */
export type ClientSettings = Partially<ResolvedClientOptions>;

/** Settings of a server as a caller writes them. Ranges and defaults: {@linkcode ResolvedServerSettings}. */
export type ServerSettings = Omit<Partially<ResolvedServerSettings>, "listen"> & {
  /** Addresses to listen on, as text or in parts: `"127.0.0.1:2000"`, `"[::]:2000"`. Default `[::]:2000`. */
  readonly listen?: readonly (string | ListenAddress)[] | undefined;
};
