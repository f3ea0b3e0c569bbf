/**
 * TFTP server and client: RFC 1350, 1123 §4.2, 2347, 2348, 2349 and 7440, with the extensions that boot ROMs use.
 *
 * The shortest useful server is `deno run -A jsr:@fastwire/net/tftp serve DIRECTORY`; the same as a program is below.
 *
 * Needs `--allow-net`, and `--allow-read` and `--allow-write` for the directory. With `--allow-ffi` on Linux it talks to
 * the kernel directly, several times faster; without, it does the same through `node:dgram`. Port 69 needs privileges;
 * any other does not. The guide is `docs/tftp.md`; codecs and state machines without I/O are `@fastwire/net/tftp/protocol`.
 *
 * @example
 * ```ts
 * import { get, MemoryStore, serve } from "@fastwire/net/tftp";
 * import { equal } from "node:assert/strict";
 *
 * const store = new MemoryStore({ files: { "boot.cfg": "kernel=linux" } });
 * await using server = await serve({ store, listen: ["127.0.0.1:0"] });
 * const bytes = await get(`tftp://127.0.0.1:${server.addresses[0]!.port}/boot.cfg`);
 * equal(new TextDecoder().decode(bytes), "kernel=linux");
 * ```
 *
 * @module
 */
export { serve, type ServerOptions, type ServerSnapshot, type TftpServer } from "./server.ts";
export { COUNTER_NAMES, type CounterName } from "./counters.ts";
export type { SessionInfo, TransferRecord } from "./session.ts";
export type {
  Handlers,
  ReadAnswer,
  ReadHandler,
  RequestInfo,
  WriteAnswer,
  WriteHandler,
} from "./handlers.ts";
export { connect, TftpClient } from "./client.ts";
export type {
  SendContent,
  TransferOptions,
  TransferProgress,
  TransferSummary,
} from "./client_attempt.ts";
export type { TftpErrorCode } from "./client_errors.ts";
export type { BlockSink } from "./receiving.ts";
export { download, get, put, stat, upload } from "./transfer.ts";
export { parseTftpUrl, type TftpUrl } from "./url.ts";
export type {
  ClientOptions,
  ListenAddress,
  Partially,
  ResolvedClientOptions,
  ResolvedLimits,
  ResolvedRetrySettings,
  ResolvedServerSettings,
  ResolvedWriteSettings,
  ServerSettings,
} from "./settings.ts";
export { resolveClientOptions, resolveServerSettings } from "./options.ts";
export type { AccessMethod, AccessOverrides, AccessRule } from "./access.ts";
export { type FileStore, type ReadSource, TftpRefusal, type WriteSink } from "./store.ts";
export { MemoryStore } from "./store_memory.ts";
export type { ResolvedName } from "./path_policy.ts";
export type { TransferOutcome } from "./protocol/mod.ts";

if (import.meta.main) import("./cli.ts").then((m) => m.main());
