/**
 * TLS around a stream of the proxy for what is read and written by waiting: fetching, and measuring.
 *
 * @module
 */

import type { TLSSocket } from "node:tls";
import { STREAM_END } from "../ffi/mod.ts";
import type { TlsClientConfig } from "./config_types.ts";
import { beginTls } from "./dns_tls.ts";
import type { Duplex } from "./duplex.ts";

/** What is checked of a server. */
export interface TlsTrust {
  /** Certificates trusted instead of the system's, PEM. */
  readonly ca?: string | undefined;
  /** Name sent and checked. Default: the one in the URL. */
  readonly serverName?: string | undefined;
  /** Accepts any certificate. Default false. */
  readonly insecure?: boolean | undefined;
}

/** Begins TLS for HTTP/1.1; see `beginTls`. */
export function beginHttps(
  stream: Duplex,
  host: string,
  trust: TlsTrust,
  signal: AbortSignal,
): Promise<TLSSocket> {
  const tls: TlsClientConfig = {
    serverName: trust.serverName,
    insecure: trust.insecure ?? false,
    alpn: [],
    certificate: trust.ca === undefined ? [] : [trust.ca],
    certificatePath: undefined,
  };
  return beginTls(stream, { tls, host, alpn: ["http/1.1"], signal });
}

/** The part of a stream that waiting needs. What goes wrong with TLS rejects; it is no failure of a socket. */
export class TlsStream implements Pick<Duplex, "receive" | "send" | "failure" | "close"> {
  readonly failure: undefined;
  readonly #socket: TLSSocket;
  #held: Uint8Array | undefined;
  #ended = false;
  #error: unknown;
  #wake: (() => void) | undefined;

  /** @param socket Belongs to the result. */
  constructor(socket: TLSSocket) {
    this.#socket = socket;
    const wake = (): void => this.#wake?.();
    socket.on("readable", wake);
    socket.on("error", (error) => {
      this.#error ??= error;
      wake();
    });
    for (const event of ["end", "close"]) {
      socket.on(event, () => {
        this.#ended = true;
        wake();
      });
    }
  }

  async receive(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): Promise<number> {
    const abort = (): void => this.#wake?.();
    signal?.addEventListener("abort", abort);
    try {
      for (;;) {
        signal?.throwIfAborted();
        const piece: Uint8Array | null = this.#held ?? this.#socket.read();
        if (piece !== null) {
          const count = Math.min(piece.length, end - start);
          bytes.set(piece.subarray(0, count), start);
          this.#held = count < piece.length ? piece.subarray(count) : undefined;
          return count;
        }
        if (this.#error !== undefined) throw this.#error;
        if (this.#ended) return STREAM_END;
        await new Promise<void>((resolve) => this.#wake = resolve);
      }
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  send(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    signal?: AbortSignal,
  ): Promise<number> {
    return new Promise((resolve, reject) => {
      const abort = (): void => reject(signal!.reason);
      if (signal?.aborted) return abort();
      signal?.addEventListener("abort", abort, { once: true });
      this.#socket.write(bytes.slice(start, end), (error) => {
        signal?.removeEventListener("abort", abort);
        if (error) reject(error);
        else resolve(end - start);
      });
    });
  }

  close(): Promise<void> {
    this.#socket.destroy();
    return Promise.resolve();
  }
}
