/**
 * The bandwidth-test client.
 *
 * @module
 */
import { resolveHost, type StreamConnection } from "../ffi/mod.ts";
import type { TestInterval, TestResult } from "./api_types.ts";
import { ClientRun, USER_TIMEOUT_MS } from "./client_run.ts";
import { type DataPlanes, openPlanes } from "./data_planes.ts";
import { CpuLoad } from "./meter.ts";
import { resolveClientOptions } from "./options.ts";
import { DEFAULT_PORT } from "./protocol/mod.ts";
import type { ClientSettings } from "./settings.ts";

/** How a test is run: its options, and whom to tell. */
export interface RunOptions extends ClientSettings {
  /** Told when data begins to flow, with the number of connections it flows over. Must not throw. */
  readonly onStart?: ((connections: number) => void) | undefined;
  /** Told of each second, and of the rest of one at the end. Must not throw. */
  readonly onInterval?: ((interval: TestInterval) => void) | undefined;
  /**
   * Ends the test: before data flows `run` rejects with the signal's reason, later it answers what was measured so far
   * with the reason `stopped`.
   */
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs one test.
 *
 * @param target `host`, `host:port` or `[v6]:port`; the port is 2000 when none is given.
 * @returns What was measured, once the test is over.
 * @throws {TypeError} For options of the wrong shape. @throws {RangeError} For options out of range.
 * @throws {SystemError} When the server cannot be reached. @throws {DeadlineError} When it does not answer.
 * @throws {AuthError} `btest.auth-required`, `btest.auth-failed`, `btest.server-proof`.
 * @throws {PeerError} `btest.refused`, `btest.unsupported`, `btest.peer-closed`.
 * @throws {ProtocolError} `btest.protocol`, when it is another kind of server.
 *
 * @example
 * ```ts
 * import { run, serve } from "@fastwire/net/btest";
 * import { ok } from "node:assert/strict";
 *
 * await using server = await serve({ listen: ["127.0.0.1:0"] });
 * const result = await run(`127.0.0.1:${server.addresses[0]!.port}`, {
 *   protocol: "udp",
 *   direction: "transmit",
 *   localTxSpeedBps: 10_000_000,
 *   durationMs: 200,
 * });
 * ok(result.txBytes > 0);
 * ```
 */
export async function run(target: string, options: RunOptions = {}): Promise<TestResult> {
  const { onStart = () => {}, onInterval = () => {}, signal, ...rest } = options;
  const resolved = resolveClientOptions(rest);
  signal?.throwIfAborted();
  const remote = await resolveHost(target, DEFAULT_PORT);
  const planes = await openPlanes(resolved.driver, resolved.workers);
  let cpu: CpuLoad | undefined;
  try {
    cpu = await CpuLoad.open(planes.clockwork.now());
    // While the connection is made: data begins without waiting for a thread.
    const prepared = planes.prepare(resolved.protocol);
    prepared.catch(() => {});
    const connection = await connect(planes, {
      remote,
      timeoutMs: resolved.connectTimeoutMs,
      userTimeoutMs: USER_TIMEOUT_MS,
      sendBufferBytes: resolved.sendBufferBytes,
      receiveBufferBytes: resolved.receiveBufferBytes,
      ...(signal === undefined ? {} : { signal }),
    });
    try {
      await prepared;
    } catch (error) {
      await connection.close();
      throw error;
    }
    const test = new ClientRun(
      { options: resolved, planes, cpu, onStart, onInterval },
      connection,
    );
    return await stoppable(test, signal);
  } finally {
    cpu?.close();
    await planes.close();
  }
}

function connect(
  planes: DataPlanes,
  options: Parameters<DataPlanes["host"]["connect"]>[0],
): Promise<StreamConnection> {
  return planes.host.connect(options);
}

async function stoppable(test: ClientRun, signal: AbortSignal | undefined): Promise<TestResult> {
  if (signal === undefined) return await test.result;
  const stop = (): void => test.stop();
  signal.addEventListener("abort", stop, { once: true });
  if (signal.aborted) stop();
  try {
    return await test.result;
  } catch (error) {
    // Whoever stopped a test that had not begun gets the own reason back.
    if (signal.aborted) throw signal.reason;
    throw error;
  } finally {
    signal.removeEventListener("abort", stop);
  }
}
