/**
 * Every option of the bandwidth test's server and client: name, unit, range, default. The only place where a default is
 * written.
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
  option,
  options,
  type OptionsSchema,
  rate,
  resolve,
  secret,
  size,
  text,
} from "../internal/schema.ts";
import { DEFAULT_PORT, DEFAULT_TCP_TX_BYTES, DEFAULT_UDP_TX_BYTES } from "./protocol/command.ts";
import { UDP_START_BPS } from "./protocol/rate.ts";
import type {
  ClientSettings,
  ResolvedClientOptions,
  ResolvedServerSettings,
  ServerSettings,
} from "./settings.ts";

const MINUTE_MS = 60_000;
const HOUR_MS = 60 * MINUTE_MS;
const GiB = 2 ** 30;
/** The same as the login's own constant, which would bring the curve along: the help text needs none. */
const MAX_USER_BYTES = 221;
/** The rates of a command are 32-bit numbers. */
const MAX_SPEED_BPS = 0xffff_ffff;

const DATA = {
  driver: option(choice(["auto", "fast", "portable"]), "auto", {
    help: "How to reach the kernel",
    group: "Performance",
  }),
  workers: option(integer(0, 64), 1, {
    help: "Threads that carry data; 0 carries it on the calling thread's event loop",
    placeholder: "N",
    group: "Performance",
  }),
  txMode: option(choice(["auto", "send", "sendfile"]), "auto", {
    help: "How TCP data is sent: from memory, or from a file in memory; auto is from memory",
    group: "Performance",
  }),
  segmentation: option(boolean(), true, {
    help: "Let the kernel cut runs of datagrams; the packets on the wire are the same without",
    group: "Performance",
  }),
  sendBufferBytes: option(size(0, GiB), 0, {
    help: "Kernel send buffer of each data socket; 0 leaves TCP to the kernel",
    group: "Performance",
  }),
  receiveBufferBytes: option(size(0, GiB), 0, {
    help: "Kernel receive buffer of each data socket; 0 leaves TCP to the kernel",
    group: "Performance",
  }),
  fairBoth: option(boolean(), true, {
    help: "TCP in both directions: leave room when the peer's data falls behind",
    group: "Protocol",
  }),
  udpStartBps: option(rate(8000, 1e12), UDP_START_BPS, {
    help: "Rate at which an unlimited UDP sender begins",
    placeholder: "RATE",
    group: "Protocol",
  }),
  statusCpuFlag: option(choice(["auto", "set", "clear"]), "auto", {
    help: "Top bit of the CPU byte in status messages; auto is what RouterOS does in this role",
    group: "Protocol",
  }),
} as const;

const SERVER = {
  listen: option(list(endpoint(), 64), [{ host: "::", port: DEFAULT_PORT }], {
    help: "Address and port to listen on",
    placeholder: "H:P",
    group: "Network",
  }),
  auth: option(choice(["auto", "none", "md5", "ecsrp5"]), "auto", {
    help: "What clients must prove; auto is ecsrp5 when there are users, else none",
    group: "Access",
  }),
  udpPortStart: option(integer(1, 65279), 2001, {
    help: "First UDP port offered to clients; further ones follow upwards",
    placeholder: "PORT",
    group: "Network",
  }),
  maxSessions: option(integer(1, 1_000_000), 100, {
    help: "Tests at once; later connections are closed unanswered",
    placeholder: "N",
    group: "Limits",
  }),
  maxSessionsPerAddress: option(integer(0, 1_000_000), 50, {
    help: "Tests at once for one address, an IPv6 /64 counting as one; 0 is unlimited",
    placeholder: "N",
    group: "Limits",
  }),
  maxDurationMs: option(duration(1000, 24 * HOUR_MS), 5 * MINUTE_MS, {
    help: "Longest test",
    aliases: ["max-test-duration"],
    group: "Limits",
  }),
  idleTimeoutMs: option(duration(1, HOUR_MS), 30_000, {
    help: "Longest time without data from a client that should send some",
    group: "Timing",
  }),
  controlTimeoutMs: option(duration(1, HOUR_MS), 30_000, {
    help: "UDP: longest time without a status of the client",
    aliases: ["control-timeout"],
    group: "Timing",
  }),
  commandTimeoutMs: option(duration(1, 10 * MINUTE_MS), 5000, {
    help: "Longest wait for a command",
    group: "Timing",
  }),
  authTimeoutMs: option(duration(1, 10 * MINUTE_MS), 10_000, {
    help: "Longest wait for a login as a whole",
    group: "Timing",
  }),
  joinTimeoutMs: option(duration(1, 10 * MINUTE_MS), 10_000, {
    help: "Longest wait for further connections; then the test begins with those it has",
    group: "Timing",
  }),
  drainTimeoutMs: option(duration(0, HOUR_MS), 5000, {
    help: "How long running tests may go on after a stop",
    group: "Timing",
  }),
  ...DATA,
} as const;

const CLIENT = {
  protocol: option(choice(["tcp", "udp"]), "tcp", {
    help: "What carries the data",
    group: "Test",
  }),
  direction: option(choice(["transmit", "receive", "both"]), "receive", {
    help: "Which way, seen from here: transmit is to the server",
    group: "Test",
  }),
  connections: option(integer(1, 255), 1, {
    help: "TCP connections",
    aliases: ["connection-count", "tcp-connection-count"],
    placeholder: "N",
    group: "Test",
  }),
  durationMs: option(duration(0, 24 * HOUR_MS), 10_000, {
    help: "Length of the test from its first data; 0 goes on until stopped",
    aliases: ["duration"],
    placeholder: "TIME",
    group: "Test",
  }),
  txSize: option(integer(0, 65535), 0, {
    help: "Bytes of a TCP write, or of a UDP packet with its headers; 0 is 32768 or 1500",
    placeholder: "BYTES",
    group: "Test",
  }),
  localTxSize: option(integer(0, 65535), 0, {
    help: "RouterOS' name for --tx-size where the client sends; 0 is unset",
    aliases: ["local-udp-tx-size"],
    placeholder: "BYTES",
    group: "Test",
  }),
  remoteTxSize: option(integer(0, 65535), 0, {
    help: "RouterOS' name for --tx-size where the server sends; 0 is unset",
    aliases: ["remote-udp-tx-size"],
    placeholder: "BYTES",
    group: "Test",
  }),
  localTxSpeedBps: option(rate(0, MAX_SPEED_BPS), 0, {
    help: "Most the client sends; 0 is unlimited",
    aliases: ["local-rate", "local-tx-speed"],
    placeholder: "RATE",
    group: "Test",
  }),
  remoteTxSpeedBps: option(rate(0, MAX_SPEED_BPS), 0, {
    help: "Most the server sends; 0 is unlimited",
    aliases: ["remote-rate", "remote-tx-speed"],
    placeholder: "RATE",
    group: "Test",
  }),
  randomData: option(boolean(), false, {
    help: "Random payload instead of zeros",
    group: "Test",
  }),
  natProbe: option(boolean(), true, {
    help: "UDP: send empty datagrams until data arrives, for a NAT on the way",
    flag: "n",
    aliases: ["nat"],
    group: "Test",
  }),
  user: option(text(MAX_USER_BYTES), undefined, {
    help: "Who logs in, when the server asks",
    flag: "a",
    placeholder: "NAME",
    group: "Access",
  }),
  password: option(secret(), undefined, {
    help: "The user's password; other users of this machine can see it, --password-file hides it",
    flag: "p",
    placeholder: "WORD",
    group: "Access",
  }),
  connectTimeoutMs: option(duration(1, 10 * MINUTE_MS), 10_000, {
    help: "Longest wait for the connection",
    group: "Timing",
  }),
  answerTimeoutMs: option(duration(1, 10 * MINUTE_MS), 10_000, {
    help: "Longest wait for each answer of the server before data flows",
    group: "Timing",
  }),
  joinTimeoutMs: option(duration(1, 10 * MINUTE_MS), 10_000, {
    help: "Longest wait for further connections; then the test begins with those it has",
    group: "Timing",
  }),
  controlTimeoutMs: option(duration(1, HOUR_MS), 30_000, {
    help: "UDP: longest time without a status of the server",
    group: "Timing",
  }),
  ...DATA,
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
  return resolve(serverSettings, settings, "bandwidth server options");
}

/**
 * Checks and completes client options.
 *
 * @throws {TypeError} For unknown keys and wrong shapes. @throws {RangeError} For values out of range, and for a user
 * name of more than 221 bytes or with a zero in it.
 * @throws {SyntaxError} For text that is not what its option calls for.
 */
export function resolveClientOptions(settings: ClientSettings = {}): ResolvedClientOptions {
  const resolved = resolve(clientOptions, settings, "bandwidth client options");
  const { user } = resolved;
  if (user !== undefined) {
    const bytes = new TextEncoder().encode(user).length;
    if (bytes === 0 || bytes > MAX_USER_BYTES || user.includes("\0")) {
      throw new RangeError(
        `Cannot resolve bandwidth client options: "user" is ${bytes} bytes of UTF-8, ` +
          `expected 1 to ${MAX_USER_BYTES} without a zero`,
      );
    }
  }
  return resolved;
}

/** The size that a command carries, and what had to be given up for there is only one. */
export interface ChosenTxSize {
  /** Bytes: of a TCP write, or of a UDP packet with its headers. 1 to 65,535. */
  readonly txSize: number;
  /** One sentence when two different sizes were asked for; else empty. */
  readonly warning: string;
}

/**
 * Chooses the one size of the command from the three ways to ask for it: {@linkcode ResolvedClientOptions.txSize} first,
 * then RouterOS' size of the direction that carries data; for both directions the local one.
 *
 * @example
 * ```ts
 * import { chooseTxSize, resolveClientOptions } from "@fastwire/net/btest";
 * import { equal } from "node:assert/strict";
 *
 * equal(chooseTxSize(resolveClientOptions({ protocol: "udp" })).txSize, 1500);
 * ```
 */
export function chooseTxSize(options: ResolvedClientOptions): ChosenTxSize {
  const { txSize, localTxSize, remoteTxSize, direction, protocol } = options;
  const usual = protocol === "tcp" ? DEFAULT_TCP_TX_BYTES : DEFAULT_UDP_TX_BYTES;
  if (txSize > 0) return { txSize, warning: "" };
  if (direction === "transmit") return { txSize: localTxSize || usual, warning: "" };
  if (direction === "receive") return { txSize: remoteTxSize || usual, warning: "" };
  const chosen = localTxSize || remoteTxSize || usual;
  const warning = remoteTxSize > 0 && remoteTxSize !== chosen
    ? `The protocol has one size for both directions: ${chosen} is used, ${remoteTxSize} is not`
    : "";
  return { txSize: chosen, warning };
}
