/**
 * One loop for everything that a thread waits for: the descriptors of several hosts, and the runtime's own work.
 *
 * @module
 */
import { CapabilityError } from "../internal/errors.ts";
import { resolveDriver } from "./capabilities.ts";
import type { Reactor } from "./reactor.ts";

/**
 * A reactor that several hosts of one thread use, and that lets this thread sleep in the kernel instead of in the
 * runtime while there is traffic: what becomes ready is served without a way through a pipe and the runtime's loop.
 *
 * It takes the thread for itself: as long as something happens at least every few milliseconds, the runtime's timers
 * come up to {@linkcode LINGER_MS} late. For programs that own their process, not for parts of somebody else's.
 */
export interface SharedLoop extends Reactor, AsyncDisposable {
  /** Times the thread was left to the runtime, because nothing was to be done here or something was there. */
  readonly parks: number;
}

/** Which readiness bridge a host uses; a {@linkcode SharedLoop} stays open when the host closes. */
export type ReactorChoice = "auto" | "uring" | "worker" | SharedLoop;

/** How long a thread with nothing to do stays in the kernel before it goes back to the runtime, milliseconds. */
export const LINGER_MS = 4;

/**
 * Opens a loop for hosts: `openStreamHost({ reactor: loop })`, and the same for datagrams and netlink. Close the hosts
 * first.
 *
 * @throws {CapabilityError} `ffi.driver-unavailable` where the kernel's drivers cannot be had; `ffi.no-worker` where the
 * thread that stands for a missing io_uring cannot be started.
 * @throws {SystemError} When the process has no descriptors left.
 *
 * @example
 * ```ts
 * import { openSharedLoop, openStreamHost, resolveDriver } from "@fastwire/net/ffi";
 * import { equal } from "node:assert/strict";
 *
 * if (resolveDriver("auto", ["ffi", "epoll", "eventfd"]).use === "fast") {
 *   await using loop = await openSharedLoop();
 *   await using host = await openStreamHost({ reactor: loop });
 *   const bind = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;
 *   const listener = await host.listen({ bind });
 *   const [client, server] = await Promise.all([
 *     host.connect({ remote: listener.local }),
 *     listener.accept(),
 *   ]);
 *   await client.send(new Uint8Array([1, 2, 3]), 0, 3);
 *   equal(await server!.receive(new Uint8Array(64), 0, 64), 3);
 * }
 * ```
 */
export async function openSharedLoop(): Promise<SharedLoop> {
  const choice = resolveDriver("auto", ["ffi", "epoll", "eventfd"]);
  if (choice.use !== "fast") {
    throw new CapabilityError(
      "ffi.driver-unavailable",
      `Cannot share a loop with the runtime: ${choice.reason}`,
      {
        capability: "shared-loop",
        why: choice.reason,
        remedy: "run with --allow-ffi on Linux, or do without: every host has a bridge of its own",
      },
    );
  }
  const { openLinuxSharedLoop } = await import("./shared_loop_linux.ts");
  return await openLinuxSharedLoop();
}
