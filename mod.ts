/**
 * Fastwire: network tools as libraries, and the kernel boundary that makes them fast.
 *
 * Importing opens nothing and asks for nothing. Run as a program it is the command `fastwire`; each library is also an
 * entry point of its own, which loads less: `@fastwire/net/tftp`, `@fastwire/net/btest`, `@fastwire/net/ffi`.
 *
 * @example
 * ```ts
 * import { tftp } from "@fastwire/net";
 * import { equal } from "node:assert/strict";
 *
 * equal(tftp.resolveClientOptions({ blockSize: 1428 }).blockSize, 1428);
 * ```
 *
 * @module
 */

export * as btest from "./btest/mod.ts";
export * as ffi from "./ffi/mod.ts";
export * as neighsync from "./neighsync/mod.ts";
export * as tftp from "./tftp/mod.ts";

if (import.meta.main) import("./cli.ts").then((m) => m.main());
