/**
 * Connecting to an address, or to the quickest of several: Happy Eyeballs version 2, RFC 8305.
 *
 * @module
 */

import {
  type DialOptions,
  formatAddress,
  literalAddress,
  type SocketAddress,
  type StreamConnection,
  type StreamHost,
  type StreamOptions,
} from "../ffi/mod.ts";
import { DeadlineError, SystemError } from "../internal/errors.ts";
import type { ExpiringSet } from "./handshakes.ts";

/** How to connect. */
export interface ConnectSettings {
  /** Options of the socket. */
  readonly options: StreamOptions & Pick<DialOptions, "reuseAddress">;
  /** IPv4 address to connect from. */
  readonly bind4: SocketAddress | undefined;
  /** IPv6 address to connect from. */
  readonly bind6: SocketAddress | undefined;
  /** Longest time for all attempts together, milliseconds. */
  readonly timeoutMs: number;
  /** Attempts that have that long; their own. */
  readonly deadlines: ExpiringSet;
  /** Head start of an address before the next one is tried, milliseconds. */
  readonly fallbackDelayMs: number;
}

/**
 * Connects to the first address that answers. Attempts begin one after the other; the next does not wait when one fails.
 *
 * @param addresses Texts without brackets, the best first; families are tried in turns.
 * @throws {SystemError} Why the first one failed, when all did. @throws {DeadlineError} `proxy.timeout`. Rejects with
 * `signal.reason` when aborted.
 */
export function connectAny(
  host: StreamHost,
  addresses: readonly string[],
  port: number,
  settings: ConnectSettings,
  signal?: AbortSignal,
): Promise<StreamConnection> {
  if (addresses.length === 1) {
    const remote = literalAddress(addresses[0]!, port);
    if (remote !== undefined) return connectOne(host, remote, settings, signal);
  }
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const order = interleave(addresses.map((address) => literalAddress(address, port)));
    let next = 0;
    let failure: unknown;
    let over = false;
    let delay: ReturnType<typeof setTimeout> | undefined;
    const running = new Set<() => void>();
    const finish = (): void => {
      over = true;
      clearTimeout(delay);
      clearTimeout(deadline);
      signal?.removeEventListener("abort", onAbort);
      for (const cancel of running) cancel();
      running.clear();
    };
    const fail = (error: unknown): void => {
      finish();
      reject(error);
    };
    const attempt = (): void => {
      clearTimeout(delay);
      const remote = order[next++];
      if (over || remote === undefined) return;
      const bind = remote.family === "ipv4" ? settings.bind4 : settings.bind6;
      let cancel: (() => void) | undefined;
      let settled = false;
      const done = (outcome: StreamConnection | SystemError): void => {
        settled = true;
        if (cancel !== undefined) running.delete(cancel);
        if (over) {
          if (!(outcome instanceof SystemError)) outcome.close({ reset: true }).catch(() => {});
          return;
        }
        if (!(outcome instanceof SystemError)) {
          finish();
          return resolve(outcome);
        }
        failure ??= outcome;
        if (next < order.length) attempt();
        else if (running.size === 0) fail(failure);
      };
      try {
        cancel = host.dial(
          bind === undefined
            ? { ...settings.options, remote }
            : { ...settings.options, remote, bind },
          done,
        );
      } catch (error) {
        failure ??= error;
        if (next < order.length) attempt();
        else if (running.size === 0) fail(failure);
        return;
      }
      if (settled) return;
      running.add(cancel);
      if (next < order.length) delay = setTimeout(attempt, settings.fallbackDelayMs);
    };
    const onAbort = (): void => fail(signal!.reason);
    const deadline = setTimeout(
      () => fail(timeoutOf(order[0]!, settings.timeoutMs, next)),
      settings.timeoutMs,
    );
    signal?.addEventListener("abort", onAbort, { once: true });
    if (order.length === 0) {
      return fail(
        new SystemError(
          "system.host-unreachable",
          "Cannot connect: there is no address, expected at least one",
          { syscall: "connect", errno: 0, errnoName: "EHOSTUNREACH" },
        ),
      );
    }
    attempt();
  });
}

/** The same for one address, which most dials have: their time limits share one timer. */
function connectOne(
  host: StreamHost,
  remote: SocketAddress,
  settings: ConnectSettings,
  signal: AbortSignal | undefined,
): Promise<StreamConnection> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const { deadlines, timeoutMs, options } = settings;
    const bind = remote.family === "ipv4" ? settings.bind4 : settings.bind6;
    let over = false;
    const finish = (): void => {
      over = true;
      deadlines.delete(attempt);
      signal?.removeEventListener("abort", onAbort);
    };
    const giveUp = (reason: unknown): void => {
      cancel();
      finish();
      reject(reason);
    };
    const attempt = { expire: () => giveUp(timeoutOf(remote, timeoutMs, 1)) };
    const onAbort = (): void => giveUp(signal!.reason);
    const cancel = host.dial(
      bind === undefined ? { ...options, remote } : { ...options, remote, bind },
      (outcome) => {
        finish();
        if (outcome instanceof SystemError) reject(outcome);
        else resolve(outcome);
      },
    );
    if (over) return;
    deadlines.add(attempt);
    signal?.addEventListener("abort", onAbort, { once: true });
  });
}

function timeoutOf(remote: SocketAddress, timeoutMs: number, attempts: number): DeadlineError {
  return new DeadlineError(
    "proxy.timeout",
    `Cannot connect to ${formatAddress(remote)}: no answer within ${timeoutMs} ms`,
    { phase: "connect", elapsedMs: timeoutMs, attempts },
  );
}

/** Families in turns, beginning with that of the first; in a family the order stays. RFC 8305 §4. */
function interleave(
  addresses: readonly (SocketAddress | undefined)[],
): readonly SocketAddress[] {
  const known = addresses.filter((address) => address !== undefined);
  const family = known[0]?.family;
  const first = known.filter((address) => address.family === family);
  const second = known.filter((address) => address.family !== family);
  const order: SocketAddress[] = [];
  for (let i = 0; i < Math.max(first.length, second.length); i++) {
    if (first[i] !== undefined) order.push(first[i]!);
    if (second[i] !== undefined) order.push(second[i]!);
  }
  return order;
}
