/**
 * The MikroTik bandwidth test: client and server, for RouterOS devices and every tool that speaks their protocol.
 *
 * TCP over one to 255 connections and UDP, in one direction or both, with no login, MD5 or EC-SRP5.
 *
 * Needs `--allow-net`. With `--allow-ffi` on Linux it talks to the kernel directly; without, it does the same through
 * the runtime's sockets. With `--allow-read=/proc/stat` on Linux the load of this machine is measured and told to the
 * peer. Codecs and state machines without I/O are `@fastwire/net/btest/protocol`.
 *
 * @example
 * ```ts
 * import { MemoryAccounts, run, serve } from "@fastwire/net/btest";
 * import { equal, ok } from "node:assert/strict";
 *
 * const accounts = new MemoryAccounts();
 * accounts.set("admin", "secret");
 * await using server = await serve({ listen: ["127.0.0.1:0"], accounts });
 * const result = await run(`127.0.0.1:${server.addresses[0]!.port}`, {
 *   direction: "both",
 *   user: "admin",
 *   password: "secret",
 *   durationMs: 200,
 * });
 * equal(result.auth, "ecsrp5");
 * ok(result.rxBytes > 0 && result.txBytes > 0);
 * ```
 *
 * @module
 */
export { type BtestServer, serve, type ServerOptions, type ServerSnapshot } from "./server.ts";
export { run, type RunOptions } from "./client.ts";
export type { BtestErrorCode } from "./client_errors.ts";
export type {
  EndReason,
  RefusalReason,
  ServerEvent,
  SessionInfo,
  TestInterval,
  TestResult,
} from "./api_types.ts";
export type {
  Accounts,
  AccountSession,
  StartDecision,
  StartRefusal,
  StartRequest,
  Way,
} from "./accounts.ts";
export { MemoryAccounts, type MemoryUsage, type MemoryUserOptions } from "./accounts_memory.ts";
export type {
  ClientSettings,
  ListenAddress,
  Partially,
  ResolvedClientOptions,
  ResolvedDataSettings,
  ResolvedServerSettings,
  ServerSettings,
} from "./settings.ts";
export {
  chooseTxSize,
  type ChosenTxSize,
  resolveClientOptions,
  resolveServerSettings,
} from "./options.ts";
export type { AuthMethod, Direction, TestProtocol } from "./protocol/mod.ts";

if (import.meta.main) import("./cli.ts").then((m) => m.main());
