/**
 * How long it takes to get somewhere through an outbound, and what was measured before.
 *
 * @module
 */

import { STREAM_END, streamError } from "../ffi/mod.ts";
import { DeadlineError, ProtocolError } from "../internal/errors.ts";
import type { Clock } from "../internal/time/clock.ts";
import type { Dialer } from "./outbound.ts";
import type { TlsTrust } from "./tls_stream.ts";

/** One measurement. */
export interface HealthSample {
  /** Unix time, milliseconds. */
  readonly time: number;
  /** Milliseconds, 1 at least; 0 when there was no answer. */
  readonly delayMs: number;
}

/** What was measured, by the tag of the outbound. */
export class HealthBook {
  readonly #samples = new Map<string, HealthSample[]>();

  /** Adds a measurement; the last ten are kept. @param delayMs 0 for no answer. */
  record(tag: string, delayMs: number): void {
    const samples = this.#samples.get(tag) ?? [];
    samples.push({ time: Date.now(), delayMs });
    if (samples.length > MOST_SAMPLES) samples.shift();
    this.#samples.set(tag, samples);
  }

  /** What was measured, oldest first. */
  history(tag: string): readonly HealthSample[] {
    return this.#samples.get(tag) ?? [];
  }

  /** The last delay, milliseconds; 0 when there was no answer, `undefined` when nothing was measured. */
  delayOf(tag: string): number | undefined {
    return this.#samples.get(tag)?.at(-1)?.delayMs;
  }
}

/** How to measure. */
export interface MeasureOptions {
  /** Longest time, milliseconds. Default 5 s. */
  readonly timeoutMs?: number;
  /** Gives up when aborted. */
  readonly signal?: AbortSignal | undefined;
  /** Default: the process's. */
  readonly clock: Clock;
  /** What is checked of a server of `https:`. Default: a certificate for the name that the system trusts. */
  readonly tls?: TlsTrust | undefined;
}

/**
 * Asks for a page by HEAD through an outbound.
 *
 * @param url `http:` or `https:`.
 * @returns Milliseconds from dialling to the first bytes of an answer, any answer; 1 at least.
 * @throws {TypeError} For another URL. @throws {FastwireError} When there is no answer.
 */
export async function measureDelay(
  outbound: Dialer,
  url: string,
  options: MeasureOptions,
): Promise<number> {
  const { timeoutMs = 5000, signal, clock } = options;
  const { protocol, hostname, port, host, pathname, search } = new URL(url);
  if (protocol !== "http:" && protocol !== "https:") {
    throw new TypeError(`Cannot measure by ${JSON.stringify(url)}: expected http: or https:`);
  }
  const isSecure = protocol === "https:";
  const name = hostname.replace(/^\[|\]$/g, "");
  const destination = { host: name, port: port === "" ? isSecure ? 443 : 80 : Number(port) };
  const controller = new AbortController();
  const abort = (): void => controller.abort(signal?.reason);
  if (signal?.aborted) abort();
  signal?.addEventListener("abort", abort, { once: true });
  const late = new DeadlineError(
    "proxy.timeout",
    `Cannot reach ${host}: no answer within ${timeoutMs} ms`,
    { phase: "measurement", elapsedMs: timeoutMs, attempts: 1 },
  );
  const timer = setTimeout(() => controller.abort(late), timeoutMs);
  const started = clock.now();
  const words = new TextEncoder().encode(
    `HEAD ${pathname}${search} HTTP/1.1\r\nHost: ${host}\r\nUser-Agent: fastwire\r\n` +
      "Connection: close\r\n\r\n",
  );
  try {
    const stream = await outbound.dial(destination, { signal: controller.signal });
    if (isSecure) {
      const { beginHttps } = await import("./tls_stream.ts");
      const socket = await beginHttps(stream, name, options.tls ?? {}, controller.signal);
      try {
        const first = await new Promise<Uint8Array>((resolve, reject) => {
          controller.signal.addEventListener("abort", () => reject(controller.signal.reason));
          socket.once("data", resolve);
          socket.once("error", reject);
          socket.once("close", () => reject(notHttp(host)));
          socket.write(words);
        });
        mustBeHttp(first, first.length, host);
      } finally {
        socket.destroy();
      }
    } else {
      try {
        const buffer = new Uint8Array(new ArrayBuffer(1024));
        const sent = await stream.send(words, 0, words.length, controller.signal);
        if (sent < 0) throw streamError(stream.failure, `reach ${host}`);
        let length = 0;
        while (length < HTTP.length) {
          const count = await stream.receive(buffer, length, buffer.length, controller.signal);
          if (count === STREAM_END) break;
          if (count < 0) throw streamError(stream.failure, `reach ${host}`);
          length += count;
        }
        mustBeHttp(buffer, length, host);
      } finally {
        stream.close().catch(() => {});
      }
    }
    return Math.max(1, Math.round(clock.now() - started));
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener("abort", abort);
  }
}

function mustBeHttp(bytes: Uint8Array, length: number, host: string): void {
  for (let i = 0; i < HTTP.length; i++) {
    if (i >= length || bytes[i] !== HTTP.charCodeAt(i)) throw notHttp(host);
  }
}

function notHttp(host: string): ProtocolError {
  return new ProtocolError(
    "proxy.bad-response",
    `Cannot reach ${host}: what came back is no HTTP`,
    { rule: "RFC 9112 §4" },
  );
}

const HTTP = "HTTP/";
const MOST_SAMPLES = 10;
