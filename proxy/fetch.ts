/**
 * A small HTTP client through an outbound.
 *
 * @module
 */

import { STREAM_END, streamError } from "../ffi/mod.ts";
import { ProtocolError } from "../internal/errors.ts";
import type { Duplex } from "./duplex.ts";
import type { Dialer } from "./outbound.ts";
import { HttpBody, HttpResponseMachine } from "./protocol/mod.ts";
import { HeldReader, sendAll } from "./reading.ts";
import type { TlsTrust } from "./tls_stream.ts";

/** What is asked for. */
export interface FetchInit {
  /** Default `GET`. */
  readonly method?: string;
  /** More fields of the request. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Body of the request. */
  readonly body?: Uint8Array | string;
  /** Gives up when aborted, also while the body of the answer is read. */
  readonly signal?: AbortSignal;
  /** What is checked of a server of `https:`. Default: a certificate for the name that the system trusts. */
  readonly tls?: TlsTrust;
}

/**
 * Fetches an `http:` or `https:` URL through an outbound, on a connection of its own, by HTTP/1.1. Redirects are not
 * followed.
 *
 * @param url Absolute.
 * @throws {TypeError} For a URL or field that cannot be sent. @throws {FastwireError} When the outbound does not get
 * there, or the answer is none; `proxy.tls` when the server or its certificate is not what was expected.
 */
export async function fetchVia(
  outbound: Dialer,
  url: string | URL,
  init: FetchInit = {},
): Promise<Response> {
  const { protocol, hostname, port, host, pathname, search } = new URL(url);
  if (protocol !== "http:" && protocol !== "https:") {
    throw new TypeError(
      `Cannot fetch ${JSON.stringify(String(url))}: expected http: or https:`,
    );
  }
  const { method = "GET", signal } = init;
  const isSecure = protocol === "https:";
  const name = hostname.replace(/^\[|\]$/g, "");
  const destination = { host: name, port: port === "" ? isSecure ? 443 : 80 : Number(port) };
  const dialled = await outbound.dial(destination, { signal });
  const stream = isSecure ? await secured(dialled, name, init) : dialled;
  const close = (): void => void stream.close().catch(() => {});
  try {
    const body = typeof init.body === "string" ? new TextEncoder().encode(init.body) : init.body;
    // The platform's class refuses what is no name and no value of a field.
    const headers = new Headers(init.headers);
    if (!headers.has("host")) headers.set("host", host);
    if (!headers.has("user-agent")) headers.set("user-agent", "fastwire");
    headers.set("connection", "close");
    if (body !== undefined) headers.set("content-length", String(body.length));
    if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(method)) {
      throw new TypeError(`Cannot fetch by method ${JSON.stringify(method)}: expected a token`);
    }
    const lines = [...headers].map(([name, value]) => `${name}: ${value}\r\n`).join("");
    const head = `${method} ${pathname}${search} HTTP/1.1\r\n${lines}\r\n`;
    await sendAll(stream, new TextEncoder().encode(head), "send a request", signal);
    if (body !== undefined) {
      await sendAll(stream, new Uint8Array(body), "send a request", signal);
    }
    const reader = new HeldReader(stream, new Uint8Array(0), 16_384);
    const machine = new HttpResponseMachine({
      method,
      minor: 1,
      persists: false,
      upgrade: undefined,
    });
    for (;;) {
      const step = machine.receive(reader.bytes, reader.start, reader.end);
      reader.consume(step.consumed);
      if (step.kind === "done") {
        const walk = new HttpBody(step.outcome.framing);
        return responseOf(step.outcome.status, step.outcome.head, reader, walk, close, signal);
      }
      if (step.kind === "refused") throw malformed(step.reason);
      if (step.kind === "need" && await reader.more(signal) <= STREAM_END) {
        throw stream.failure === undefined
          ? malformed("the end came first")
          : streamError(stream.failure, "read an answer");
      }
    }
  } catch (error) {
    close();
    throw error;
  }
}

/** What is loaded only for `https:`. */
async function secured(stream: Duplex, name: string, { tls, signal }: FetchInit): Promise<Stream> {
  const { beginHttps, TlsStream } = await import("./tls_stream.ts");
  const trusting = signal ?? new AbortController().signal;
  return new TlsStream(await beginHttps(stream, name, tls ?? {}, trusting));
}

type Stream = Pick<Duplex, "receive" | "send" | "failure" | "close">;

function responseOf(
  status: number,
  head: Uint8Array,
  reader: HeldReader<Stream>,
  walk: HttpBody,
  close: () => void,
  signal: AbortSignal | undefined,
): Response {
  const [line = "", ...fields] = new TextDecoder("latin1").decode(head).trim().split("\r\n");
  const headers = new Headers();
  for (const field of fields) {
    const colon = field.indexOf(":");
    headers.append(field.slice(0, colon), field.slice(colon + 1).trim());
  }
  const hasBody = !walk.finished && ![101, 204, 205, 304].includes(status);
  if (!hasBody) close();
  const body = hasBody ? bodyOf(reader, walk, close, signal) : null;
  return new Response(body, { status, statusText: line.split(" ").slice(2).join(" "), headers });
}

function bodyOf(
  reader: HeldReader<Stream>,
  walk: HttpBody,
  close: () => void,
  signal: AbortSignal | undefined,
): ReadableStream<Uint8Array<ArrayBuffer>> {
  return new ReadableStream({
    async pull(controller) {
      for (;;) {
        const taken = walk.receive(reader.bytes, reader.start, reader.end);
        if (taken < 0) throw malformed("chunks");
        for (let i = 0; i < walk.count; i++) {
          controller.enqueue(reader.bytes.slice(walk.starts[i], walk.ends[i]));
        }
        const found = walk.count;
        reader.consume(taken);
        if (walk.finished) {
          close();
          return controller.close();
        }
        if (found > 0) return;
        const count = await reader.more(signal);
        if (count > 0) continue;
        close();
        if (count === STREAM_END && walk.end()) return controller.close();
        throw malformed("the end came first");
      }
    },
    cancel: close,
  });
}

function malformed(why: string): ProtocolError {
  return new ProtocolError(
    "proxy.bad-response",
    `Cannot read an answer: it is malformed (${why}), expected HTTP/1`,
    { rule: "RFC 9112" },
  );
}
