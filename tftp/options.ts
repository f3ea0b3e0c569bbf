/**
 * Every option of the TFTP server and client: name, unit, range, default. The only place where a default is written.
 *
 * @module
 */
import {
  boolean,
  choice,
  duration,
  endpoint,
  integer,
  list,
  number,
  option,
  options,
  type OptionsSchema,
  rate,
  resolve,
  size,
  text,
} from "../internal/schema.ts";
import type {
  ClientOptions,
  ResolvedClientOptions,
  ResolvedServerSettings,
  ServerSettings,
} from "./settings.ts";

const MINUTE_MS = 60_000;
const MiB = 1_048_576;

const SERVER = {
  listen: option(list(endpoint(), 64), [{ host: "::", port: 69 }], {
    help: "Address and port to listen on",
    placeholder: "H:P",
    group: "Network",
  }),
  singlePort: option(boolean(), false, {
    help: "Answer from the listening port instead of a port per transfer (NAT, containers)",
    group: "Network",
  }),
  portRangeFirst: option(integer(0, 65535), 0, {
    help: "Lowest port transfers may use; 0 lets the system choose",
    group: "Network",
  }),
  portRangeLast: option(integer(0, 65535), 0, {
    help: "Highest port transfers may use",
    group: "Network",
  }),
  workers: option(integer(0, 64), 1, {
    help: "Threads that serve; 0 serves on the calling thread's event loop",
    placeholder: "N",
    group: "Performance",
  }),
  driver: option(choice(["auto", "fast", "portable"]), "auto", {
    help: "How to reach the kernel",
    group: "Performance",
  }),
  receiveBufferBytes: option(size(0, 1024 * MiB), 2 * MiB, {
    help: "Kernel receive buffer of each socket",
    group: "Performance",
  }),
  sendBufferBytes: option(size(0, 1024 * MiB), 2 * MiB, {
    help: "Kernel send buffer of each socket",
    group: "Performance",
  }),
  spinMs: option(number(0, 5), 0.05, {
    help: "Look this long before sleeping when a transfer goes block by block; 0 never",
    group: "Performance",
  }),
  maxBlockSize: option(integer(8, 65464), 65464, {
    help: "Largest block size agreed to",
    aliases: ["max-blksize"],
    group: "Negotiation",
  }),
  maxWindowSize: option(integer(1, 32768), 1024, {
    help: "Largest window agreed to, in blocks",
    aliases: ["max-windowsize"],
    group: "Negotiation",
  }),
  maxWindowBytes: option(size(8, 256 * MiB), 4 * MiB, {
    help: "Largest window agreed to, in bytes",
    group: "Negotiation",
  }),
  clampToMtu: option(boolean(), true, {
    help: "Never agree to blocks that the path would fragment (loopback exempt)",
    group: "Negotiation",
  }),
  refuseOptions: option(list(text(32), 32), [], {
    help: "Option never agreed to, for clients that ask and then stumble",
    placeholder: "NAME",
    group: "Negotiation",
  }),
  symlinks: option(choice(["deny", "inside", "follow"]), "inside", {
    help: "Links: refuse all, follow those that stay beneath the root, or follow all",
    group: "Files",
  }),
  hideExistence: option(boolean(), true, {
    help: 'Answer reads that a rule forbids with "file not found"',
    group: "Files",
  }),
  caseInsensitive: option(boolean(), false, {
    help: "When a name is missing, look for it without regard to case",
    group: "Files",
  }),
  lowercase: option(boolean(), false, {
    help: "Fold requested names to lower case",
    group: "Files",
  }),
  requireWorldReadable: option(boolean(), false, {
    help: "Serve only files that everyone may read",
    group: "Files",
  }),
  trimGarbage: option(boolean(), true, {
    help: "Ignore 0xFF bytes and a line end behind a name",
    group: "Files",
  }),
  backslash: option(boolean(), true, {
    help: "Take a backslash in a name for a slash",
    group: "Files",
  }),
  write: {
    enabled: option(boolean(), false, { help: "Accept uploads", group: "Uploads" }),
    allowOverwrite: option(boolean(), false, {
      help: "An upload may replace a file",
      group: "Uploads",
    }),
    allowCreate: option(boolean(), true, {
      help: "An upload may make a new file",
      group: "Uploads",
    }),
    allowedPatterns: option(list(text(1024)), [], {
      help: "Names that may be uploaded (*, ?, [...], **)",
      placeholder: "PATTERN",
      group: "Uploads",
    }),
    deniedPatterns: option(list(text(1024)), [], {
      help: "Names that may not be uploaded, whatever else matches",
      placeholder: "PATTERN",
      group: "Uploads",
    }),
    allowAny: option(boolean(), false, {
      help: "Accept a pattern that matches every name",
      group: "Uploads",
    }),
    maxFileBytes: option(size(0, Number.MAX_SAFE_INTEGER), 100 * MiB, {
      help: "Largest upload; 0 is unlimited",
      group: "Uploads",
    }),
    maxTotalBytes: option(size(0, Number.MAX_SAFE_INTEGER), 0, {
      help: "All uploads since the start together; 0 is unlimited",
      group: "Uploads",
    }),
    minFreeBytes: option(size(0, Number.MAX_SAFE_INTEGER), 0, {
      help: "Space on the disk that uploads must leave",
      group: "Uploads",
    }),
    makeDirectories: option(boolean(), false, {
      help: "Make missing folders",
      aliases: ["mkdirs"],
      group: "Uploads",
    }),
    fileMode: option(integer(0, 0o777), 0o640, {
      help: "Permission bits of uploaded files, as a decimal number",
      group: "Uploads",
    }),
    sync: option(choice(["close", "never"]), "close", {
      help: "Whether an upload is on the disk before its last acknowledgement",
      group: "Uploads",
    }),
    keepPartial: option(boolean(), false, {
      help: "Keep what came of a broken upload, under a .part name",
      group: "Uploads",
    }),
    uniqueNames: option(boolean(), false, {
      help: "Store an upload of an existing name as NAME.1, NAME.2 …",
      group: "Uploads",
    }),
    directory: option(text(4096), undefined, {
      help: "Folder beneath the root that uploads go to",
      group: "Uploads",
    }),
    rejectSizeMismatch: option(boolean(), false, {
      help: "Discard an upload whose size is not the announced one",
      group: "Uploads",
    }),
  },
  limits: {
    maxTransfers: option(integer(1, 1_000_000), 4096, {
      help: "Transfers at once",
      group: "Limits",
    }),
    maxTransfersPerClient: option(integer(1, 1_000_000), 16, {
      help: "Transfers at once for one address (loopback exempt)",
      group: "Limits",
    }),
    requestsPerSecondPerClient: option(integer(1, 1_000_000), 50, {
      help: "Requests a second from one address (loopback exempt)",
      group: "Limits",
    }),
    requestBurstPerClient: option(integer(1, 1_000_000), 100, {
      help: "Requests one address may send at once after a pause (loopback exempt)",
      group: "Limits",
    }),
    maxPendingAnswers: option(integer(1, 1_000_000), 256, {
      help: "Transfers whose options no client has confirmed yet (loopback exempt)",
      group: "Limits",
    }),
    maxRateBps: option(rate(0, 1e12), 0, {
      help: "Payload rate of all transfers together; 0 is unlimited",
      group: "Limits",
    }),
    clientRateBps: option(rate(0, 1e12), 0, {
      help: "Payload rate of each client; 0 is unlimited",
      group: "Limits",
    }),
  },
  retry: {
    maxRetries: option(integer(1, 100), 6, {
      help: "Timeouts in a row before giving up",
      group: "Timing",
    }),
    maxIdleMs: option(duration(1000, 60 * MINUTE_MS), MINUTE_MS, {
      help: "Longest silence of a peer",
      group: "Timing",
    }),
    minTimeoutMs: option(duration(1, MINUTE_MS), 20, {
      help: "Shortest retransmission timeout",
      group: "Timing",
    }),
    maxTimeoutMs: option(duration(10, 10 * MINUTE_MS), 8000, {
      help: "Longest retransmission timeout",
      group: "Timing",
    }),
    initialTimeoutMs: option(duration(10, 10 * MINUTE_MS), 1000, {
      help: "Retransmission timeout for a peer that was never measured",
      group: "Timing",
    }),
    tailProbe: option(boolean(), true, {
      help: "Repeat a window's last block early when its acknowledgement is late",
      group: "Timing",
    }),
    pacing: option(boolean(), true, {
      help: "Spread large windows over time after a loss",
      group: "Timing",
    }),
  },
  handlerTimeoutMs: option(duration(1, 60 * MINUTE_MS), 10_000, {
    help: "Longest time a handler may take to answer",
    group: "Timing",
  }),
  drainTimeoutMs: option(duration(0, 60 * MINUTE_MS), 30_000, {
    help: "How long running transfers may go on after a stop",
    group: "Timing",
  }),
  replyIllegal: option(boolean(), false, {
    help: "Answer stray packets on the listening port with an error, ten a second at most",
    group: "Protocol",
  }),
  sourcePortCheck: option(boolean(), true, {
    help: "Refuse packets of a transfer that come from another port",
    group: "Protocol",
  }),
} as const;

const CLIENT = {
  blockSize: option(integer(0, 65464), 0, {
    help: "Block size to ask for; 0 fits the path",
    flag: "b",
    aliases: ["blksize"],
    placeholder: "N",
  }),
  windowSize: option(integer(1, 32768), 64, {
    help: "Blocks in flight to ask for",
    flag: "w",
    aliases: ["windowsize"],
    placeholder: "N",
  }),
  mode: option(choice(["octet", "netascii"]), "octet", {
    help: "Transfer mode",
    flag: "m",
  }),
  timeoutSeconds: option(integer(0, 255), 0, {
    help: "Retransmission interval to ask for, in seconds; 0 adapts to the network",
    flag: "T",
  }),
  retries: option(integer(1, 100), 6, {
    help: "Timeouts in a row before giving up",
    flag: "r",
  }),
  noOptions: option(boolean(), false, {
    help: "Ask for no options: blocks of 512 bytes, one at a time",
  }),
  transferSize: option(boolean(), true, {
    help: "Ask for the file's size, for the progress bar",
    aliases: ["tsize"],
  }),
  rollover: option(choice(["auto", "0", "1"]), "auto", {
    help: "Block number that follows 65535; auto asks for nothing and takes what comes",
  }),
  fallback: option(boolean(), true, {
    help: "Try again without options when the server refuses them",
  }),
  lenient: option(boolean(), true, {
    help: "Ignore options in the answer that were not asked for",
  }),
  anySourceAddress: option(boolean(), false, {
    help: "Accept an answer from another address than the asked one",
  }),
  reorder: option(boolean(), true, {
    help: "Keep blocks that overtake others instead of asking for them again",
  }),
  initialTimeoutMs: option(duration(10, 10 * MINUTE_MS), 1000, {
    help: "Retransmission timeout before the first answer",
  }),
  maxIdleMs: option(duration(1000, 60 * MINUTE_MS), MINUTE_MS, {
    help: "Longest silence of the server",
  }),
  receiveBufferBytes: option(size(0, 1024 * MiB), 4 * MiB, {
    help: "Kernel receive buffer",
  }),
  driver: option(choice(["auto", "fast", "portable"]), "auto", {
    help: "How to reach the kernel",
  }),
  spinMs: option(number(0, 5), 0.05, {
    help: "With --wait thread: look this long before sleeping when going block by block",
  }),
  wait: option(choice(["events", "thread"]), "events", {
    help: "Wait in the event loop, or block the calling thread for up to 2 ms at a time",
  }),
} as const;

/** What the server's settings are, for the command line and for documentation. */
export const serverSettings: OptionsSchema<ResolvedServerSettings> = options(SERVER);
/** What the client's options are, for the command line and for documentation. */
export const clientOptions: OptionsSchema<ResolvedClientOptions> = options(CLIENT);

/**
 * Checks and completes server settings.
 *
 * @throws {TypeError} For unknown keys and wrong shapes. @throws {RangeError} For values out of range.
 */
export function resolveServerSettings(settings: ServerSettings = {}): ResolvedServerSettings {
  const resolved = resolve(serverSettings, settings, "TFTP server options");
  const { portRangeFirst, portRangeLast } = resolved;
  if (portRangeFirst > portRangeLast) {
    throw new RangeError(
      `Cannot resolve TFTP server options: the port range ${portRangeFirst} to ${portRangeLast} is empty`,
    );
  }
  return resolved;
}

/**
 * Checks and completes client options.
 *
 * @throws {TypeError} For unknown keys and wrong shapes. @throws {RangeError} For values out of range.
 */
export function resolveClientOptions(options: ClientOptions = {}): ResolvedClientOptions {
  return resolve(clientOptions, options, "TFTP client options");
}
