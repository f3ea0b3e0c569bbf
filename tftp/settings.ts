/**
 * The options of the TFTP server and client as types. `options.ts` holds the schema they are checked against; a mismatch
 * between the two does not compile.
 *
 * @module
 */

/** An address to listen on, in parts. */
export interface ListenAddress {
  /** A literal address; empty for every address of both families. */
  readonly host: string;
  /** 69 when missing. */
  readonly port: number | undefined;
}

/** What may be uploaded, and what becomes of it. */
export interface ResolvedWriteSettings {
  /** Accept uploads. Default false. */
  readonly enabled: boolean;
  /** An upload may replace a file. Default false. */
  readonly allowOverwrite: boolean;
  /** An upload may make a new file. Default true. */
  readonly allowCreate: boolean;
  /** Names that may be uploaded (*, ?, [...], **). Default []. */
  readonly allowedPatterns: readonly string[];
  /** Names that may not be uploaded, whatever else matches. Default []. */
  readonly deniedPatterns: readonly string[];
  /** Accept a pattern that matches every name. Default false. */
  readonly allowAny: boolean;
  /** Largest upload; 0 is unlimited. 0 to 2^53 − 1 bytes, default 104,857,600. */
  readonly maxFileBytes: number;
  /** All uploads since the start together; 0 is unlimited. 0 to 2^53 − 1 bytes, default 0. */
  readonly maxTotalBytes: number;
  /** Space on the disk that uploads must leave. 0 to 2^53 − 1 bytes, default 0. */
  readonly minFreeBytes: number;
  /** Make missing folders. Default false. */
  readonly makeDirectories: boolean;
  /** Permission bits of uploaded files, as a decimal number. 0 to 0o777, default 0o640. */
  readonly fileMode: number;
  /** Whether an upload is on the disk before its last acknowledgement. Default "close". */
  readonly sync: "close" | "never";
  /** Keep what came of a broken upload, under a .part name. Default false. */
  readonly keepPartial: boolean;
  /** Store an upload of an existing name as NAME.1, NAME.2 …. Default false. */
  readonly uniqueNames: boolean;
  /** Folder beneath the root that uploads go to. */
  readonly directory: string | undefined;
  /** Discard an upload whose size is not the announced one. Default false. */
  readonly rejectSizeMismatch: boolean;
}

/** How much one server and one client may use. */
export interface ResolvedLimits {
  /** Transfers at once. 1 to 1,000,000, default 4096. */
  readonly maxTransfers: number;
  /** Transfers at once for one address (loopback exempt). 1 to 1,000,000, default 16. */
  readonly maxTransfersPerClient: number;
  /** Requests a second from one address (loopback exempt). 1 to 1,000,000, default 50. */
  readonly requestsPerSecondPerClient: number;
  /** Requests one address may send at once after a pause (loopback exempt). 1 to 1,000,000, default 100. */
  readonly requestBurstPerClient: number;
  /** Transfers whose options no client has confirmed yet (loopback exempt). 1 to 1,000,000, default 256. */
  readonly maxPendingAnswers: number;
  /** Payload rate of all transfers together; 0 is unlimited. 0 to 1e12 bit/s, default 0. */
  readonly maxRateBps: number;
  /** Payload rate of each client; 0 is unlimited. 0 to 1e12 bit/s, default 0. */
  readonly clientRateBps: number;
}

/** When to send again and when to give up. */
export interface ResolvedRetrySettings {
  /** Timeouts in a row before giving up. 1 to 100, default 6. */
  readonly maxRetries: number;
  /** Longest silence of a peer. 1000 to 3,600,000 ms, default 60,000. */
  readonly maxIdleMs: number;
  /** Shortest retransmission timeout. 1 to 60,000 ms, default 20. */
  readonly minTimeoutMs: number;
  /** Longest retransmission timeout. 10 to 600,000 ms, default 8000. */
  readonly maxTimeoutMs: number;
  /** Retransmission timeout for a peer that was never measured. 10 to 600,000 ms, default 1000. */
  readonly initialTimeoutMs: number;
  /** Repeat a window's last block early when its acknowledgement is late. Default true. */
  readonly tailProbe: boolean;
  /** Spread large windows over time after a loss. Default true. */
  readonly pacing: boolean;
}

/** Complete settings of a server, without its functions. Plain data: they travel to worker threads as they are. */
export interface ResolvedServerSettings {
  /** Address and port to listen on. Default [. */
  readonly listen: readonly ListenAddress[];
  /** Answer from the listening port instead of a port per transfer (NAT, containers). Default false. */
  readonly singlePort: boolean;
  /** Lowest port transfers may use; 0 lets the system choose. 0 to 65535, default 0. */
  readonly portRangeFirst: number;
  /** Highest port transfers may use. 0 to 65535, default 0. */
  readonly portRangeLast: number;
  /** Threads that serve; 0 serves on the calling thread's event loop. 0 to 64, default 1. */
  readonly workers: number;
  /** How to reach the kernel. Default "auto". */
  readonly driver: "auto" | "fast" | "portable";
  /** Kernel receive buffer of each socket. 0 to 2^30 bytes, default 2,097,152. */
  readonly receiveBufferBytes: number;
  /** Kernel send buffer of each socket. 0 to 2^30 bytes, default 2,097,152. */
  readonly sendBufferBytes: number;
  /** Look this long before sleeping when a transfer goes block by block; 0 never. 0 to 5 ms, default 0.05. */
  readonly spinMs: number;
  /** Largest block size agreed to. 8 to 65464, default 65464. */
  readonly maxBlockSize: number;
  /** Largest window agreed to, in blocks. 1 to 32768, default 1024. */
  readonly maxWindowSize: number;
  /** Largest window agreed to, in bytes. 8 to 2^28 bytes, default 4,194,304. */
  readonly maxWindowBytes: number;
  /** Never agree to blocks that the path would fragment (loopback exempt). Default true. */
  readonly clampToMtu: boolean;
  /** Option never agreed to, for clients that ask and then stumble. Default []. */
  readonly refuseOptions: readonly string[];
  /** Links: refuse all, follow those that stay beneath the root, or follow all. Default "inside". */
  readonly symlinks: "deny" | "inside" | "follow";
  /** Answer reads that a rule forbids with "file not found". Default true. */
  readonly hideExistence: boolean;
  /** When a name is missing, look for it without regard to case. Default false. */
  readonly caseInsensitive: boolean;
  /** Fold requested names to lower case. Default false. */
  readonly lowercase: boolean;
  /** Serve only files that everyone may read. Default false. */
  readonly requireWorldReadable: boolean;
  /** Ignore 0xFF bytes and a line end behind a name. Default true. */
  readonly trimGarbage: boolean;
  /** Take a backslash in a name for a slash. Default true. */
  readonly backslash: boolean;
  /** What may be uploaded, and what becomes of it. */
  readonly write: ResolvedWriteSettings;
  /** How much one server and one client may use. */
  readonly limits: ResolvedLimits;
  /** When to send again and when to give up. */
  readonly retry: ResolvedRetrySettings;
  /** Longest time a handler may take to answer. 1 to 3,600,000 ms, default 10,000. */
  readonly handlerTimeoutMs: number;
  /** How long running transfers may go on after a stop. 0 to 3,600,000 ms, default 30,000. */
  readonly drainTimeoutMs: number;
  /** Answer stray packets on the listening port with an error, ten a second at most. Default false. */
  readonly replyIllegal: boolean;
  /** Refuse packets of a transfer that come from another port. Default true. */
  readonly sourcePortCheck: boolean;
}

/** Complete options of a client. */
export interface ResolvedClientOptions {
  /** Block size to ask for; 0 fits the path. 0 to 65464, default 0. */
  readonly blockSize: number;
  /** Blocks in flight to ask for. 1 to 32768, default 64. */
  readonly windowSize: number;
  /** Transfer mode. Default "octet". */
  readonly mode: "octet" | "netascii";
  /** Retransmission interval to ask for, in seconds; 0 adapts to the network. 0 to 255, default 0. */
  readonly timeoutSeconds: number;
  /** Timeouts in a row before giving up. 1 to 100, default 6. */
  readonly retries: number;
  /** Ask for no options: blocks of 512 bytes, one at a time. Default false. */
  readonly noOptions: boolean;
  /** Ask for the file's size, for the progress bar. Default true. */
  readonly transferSize: boolean;
  /** Block number that follows 65535; auto asks for nothing and takes what comes. Default "auto". */
  readonly rollover: "auto" | "0" | "1";
  /** Try again without options when the server refuses them. Default true. */
  readonly fallback: boolean;
  /** Ignore options in the answer that were not asked for. Default true. */
  readonly lenient: boolean;
  /** Accept an answer from another address than the asked one. Default false. */
  readonly anySourceAddress: boolean;
  /** Keep blocks that overtake others instead of asking for them again. Default true. */
  readonly reorder: boolean;
  /** Retransmission timeout before the first answer. 10 to 600,000 ms, default 1000. */
  readonly initialTimeoutMs: number;
  /** Longest silence of the server. 1000 to 3,600,000 ms, default 60,000. */
  readonly maxIdleMs: number;
  /** Kernel receive buffer. 0 to 2^30 bytes, default 4,194,304. */
  readonly receiveBufferBytes: number;
  /** How to reach the kernel. Default "auto". */
  readonly driver: "auto" | "fast" | "portable";
  /** With `wait: "thread"`: look this long before sleeping when going block by block. 0 to 5 ms, default 0.05. */
  readonly spinMs: number;
  /** Wait in the event loop, or block the calling thread for up to 2 ms at a time. Default "events". */
  readonly wait: "events" | "thread";
}

/** Partial form of an options object: every member may be left out, groups too. */
export type Partially<T> = {
  readonly [K in keyof T]?: T[K] extends readonly unknown[] | undefined ? T[K] | undefined
    : T[K] extends object ? { readonly [L in keyof T[K]]?: T[K][L] | undefined }
    : T[K] | undefined;
};

/** Client options as a caller writes them. Ranges and defaults: {@linkcode ResolvedClientOptions}. */
export type ClientOptions = Partially<ResolvedClientOptions>;

/** Settings of a server as a caller writes them. Ranges and defaults: {@linkcode ResolvedServerSettings}. */
export type ServerSettings = Omit<Partially<ResolvedServerSettings>, "listen"> & {
  /** Addresses to listen on, as text or in parts: `"127.0.0.1:69"`, `"[::]:69"`, `":6969"`. Default `[::]:69`. */
  readonly listen?: readonly (string | ListenAddress)[] | undefined;
};
