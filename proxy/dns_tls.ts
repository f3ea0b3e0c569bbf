/**
 * TLS around a stream of the proxy, for DNS servers: the runtime's own TLS, which wants a stream of its own kind.
 *
 * @module
 */

import { readFile } from "node:fs/promises";
import { Duplex as NodeDuplex } from "node:stream";
import { connect, type TLSSocket } from "node:tls";
import { STREAM_END, streamError, WOULD_BLOCK } from "../ffi/mod.ts";
import { ProtocolError } from "../internal/errors.ts";
import type { TlsClientConfig } from "./config_types.ts";
import { whenAborted } from "./dns_server.ts";
import type { DnsStream } from "./dns_servers_stream.ts";
import type { Duplex } from "./duplex.ts";
import { ipFamilyOf } from "./protocol/ip_text.ts";

/**
 * A stream of the proxy as one of the runtime. What nobody reads stays where it is.
 *
 * @param duplex Belongs to the result.
 */
export function nodeStreamOf(duplex: Duplex): NodeDuplex {
  const buffer = new Uint8Array(new ArrayBuffer(16_384));
  let isWanted = false;
  let isOver = false;
  let waiting: (() => void) | undefined;
  const readable = (): void => {
    while (isWanted && !isOver) {
      const count = duplex.receiveNow(buffer, 0, buffer.length);
      if (count === WOULD_BLOCK) return;
      if (count > 0) {
        isWanted = stream.push(buffer.slice(0, count));
        continue;
      }
      isOver = true;
      if (count === STREAM_END) stream.push(null);
      else stream.destroy(streamError(duplex.failure, "use TLS"));
    }
  };
  const stream: NodeDuplex = new NodeDuplex({
    read() {
      isWanted = true;
      readable();
    },
    write(chunk: Uint8Array, _encoding: string, done: (error?: Error) => void) {
      const bytes = new Uint8Array(chunk.length);
      bytes.set(chunk);
      let at = 0;
      const send = (): void => {
        waiting = undefined;
        while (at < bytes.length) {
          const count = duplex.sendNow(bytes, at, bytes.length);
          if (count === WOULD_BLOCK) {
            waiting = send;
            return;
          }
          if (count < 0) return done(streamError(duplex.failure, "use TLS"));
          at += count;
        }
        done();
      };
      send();
    },
    final(done: () => void) {
      if (!duplex.closed) duplex.end();
      done();
    },
    destroy(error: Error | null, done: (error: Error | null) => void) {
      isOver = true;
      duplex.watch(undefined);
      duplex.close().catch(() => {});
      done(error);
    },
  });
  duplex.watch(readable, () => waiting?.());
  return stream;
}

/** How to begin TLS. */
export interface TlsBegin {
  /** What is checked of the server. */
  readonly tls: TlsClientConfig;
  /** The server, a name or an address. */
  readonly host: string;
  /** Protocols offered when the configuration names none. */
  readonly alpn: readonly string[];
  /** Gives up when aborted. */
  readonly signal: AbortSignal;
}

/**
 * Begins TLS on a stream.
 *
 * @param duplex Belongs to the result; closed when this fails.
 * @throws {ProtocolError} `proxy.tls` when the server, or its certificate, is not what was expected.
 */
export async function beginTls(duplex: Duplex, begin: TlsBegin): Promise<TLSSocket> {
  const { tls, host, signal } = begin;
  const below = nodeStreamOf(duplex);
  // Somebody has to hear of its failures; whoever waits hears of them through TLS.
  below.on("error", () => {});
  const name = tls.serverName ?? host;
  let ca: readonly string[] = tls.certificate.length === 0 ? [] : [tls.certificate.join("\n")];
  try {
    if (tls.certificatePath !== undefined) ca = [await readFile(tls.certificatePath, "utf8")];
  } catch (error) {
    below.destroy();
    throw error;
  }
  return await new Promise((resolve, reject) => {
    const socket = connect({
      socket: below,
      host: name,
      // An address is no server name, RFC 6066 §3.
      ...(ipFamilyOf(name) === 0 ? { servername: name } : {}),
      rejectUnauthorized: !tls.insecure,
      ALPNProtocols: [...tls.alpn.length === 0 ? begin.alpn : tls.alpn],
      ...(ca.length === 0 ? {} : { ca: [...ca] }),
    });
    const fail = (cause: unknown): void => {
      clearTimeout(timer);
      forget();
      socket.destroy();
      below.destroy();
      reject(cause);
    };
    const late = (): void =>
      fail(tlsError(host, new Error(`no end of the handshake within ${HANDSHAKE_MS} ms`)));
    const timer = setTimeout(late, HANDSHAKE_MS);
    // Stays for as long as the socket lives: a late error must find somebody.
    socket.on("error", (cause) => fail(tlsError(host, cause)));
    socket.once("close", () => {
      below.destroy();
      fail(tlsError(host, new Error("the server closed the connection")));
    });
    let forget = (): void => {};
    forget = whenAborted(signal, () => fail(signal.reason));
    socket.once("secureConnect", () => {
      clearTimeout(timer);
      forget();
      resolve(socket);
    });
  });
}

function tlsError(host: string, cause: Error): ProtocolError {
  return new ProtocolError(
    "proxy.tls",
    `Cannot use TLS with "${host}": ${cause.message}`,
    { rule: "RFC 8446", cause },
  );
}

/** A stream in TLS as DNS needs it. */
export function tlsDnsStream(socket: TLSSocket): DnsStream {
  let ended: ((reason: Error | undefined) => void) | undefined;
  const end = (reason: Error | undefined): void => {
    const report = ended;
    ended = undefined;
    report?.(reason);
  };
  return {
    send(bytes) {
      if (!socket.destroyed) socket.write(bytes);
    },
    watch(data, whenEnded) {
      ended = whenEnded;
      socket.on("error", end);
      socket.once("end", () => end(undefined));
      socket.once("close", () => end(undefined));
      socket.on("data", (chunk: Uint8Array) => {
        if (ended !== undefined) data(chunk, 0, chunk.length);
      });
    },
    close() {
      ended = undefined;
      socket.destroy();
    },
  };
}

const HANDSHAKE_MS = 10_000;
