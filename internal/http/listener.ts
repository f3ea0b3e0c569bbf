/**
 * A small HTTP listener for management pages: web `Request` in, web `Response` out, on TCP or a unix socket, alike on
 * every runtime. Not for bulk.
 *
 * @module
 */
import { chmod, unlink } from "node:fs/promises";
import { createServer, type IncomingMessage, type Server, type ServerResponse } from "node:http";
import { connect } from "node:net";
import type { Duplex } from "node:stream";
import { fromRuntimeError } from "../../ffi/mod.ts";
import { openTextSocket, type TextSocket, webSocketAnswer } from "./web_socket.ts";

/** Where to listen. */
export type HttpAddress =
  | { readonly path: string }
  | { readonly host: string; readonly port: number };

/** How a request came. */
export interface HttpPeer {
  /** Through the unix socket: whoever may open that file. */
  readonly local: boolean;
}

/**
 * Answers one request; a rejection becomes a 500 that says nothing. An answer with the field `transfer-encoding: chunked`
 * leaves as it comes, every other one when it is complete.
 */
export type HttpHandler = (request: Request, peer: HttpPeer) => Response | Promise<Response>;

/** Takes a client that wants a WebSocket, or answers why not. */
export type HttpUpgrade = (
  request: Request,
  peer: HttpPeer,
) => Promise<Response | ((socket: TextSocket) => void)>;

/** A listener at work. */
export interface HttpListener extends AsyncDisposable {
  /** Where it listens; the port is the real one. */
  readonly address: HttpAddress;
  /** Stops listening and ends every connection; idempotent. A unix socket's file is removed. */
  close(): Promise<void>;
}

/** How to listen. */
export interface HttpListenOptions {
  /** Permissions of a unix socket's file. Default 0o660. */
  readonly mode?: number;
  /** Longest body of a request, bytes; longer ones are refused with 413. Default 64 KiB. */
  readonly maxBodyBytes?: number;
  /** Asked when a client wants a WebSocket; without it there are none. */
  readonly upgrade?: HttpUpgrade;
}

/**
 * Listens.
 *
 * The file of a unix socket that nobody listens on any more is replaced.
 *
 * @throws {SystemError} When the address is taken or not allowed.
 */
export async function listenHttp(
  address: HttpAddress,
  handler: HttpHandler,
  options: HttpListenOptions = {},
): Promise<HttpListener> {
  const maxBodyBytes = options.maxBodyBytes ?? 65_536;
  const peer: HttpPeer = Object.freeze({ local: "path" in address });
  // What fails on a connection is the affair of the one who made it.
  const server = createServer((request, response) => {
    answer(request, response, handler, peer, maxBodyBytes).catch(() => response.destroy());
  });
  // A page is small and asked for by a program: who takes longer is not one of ours.
  server.requestTimeout = 10_000;
  server.headersTimeout = 5_000;
  const upgraded = new Set<Duplex>();
  const { upgrade } = options;
  if (upgrade !== undefined) {
    server.on("upgrade", (request, stream, head) => {
      upgraded.add(stream);
      stream.on("close", () => upgraded.delete(stream));
      stream.on("error", () => stream.destroy());
      openSocket(request, stream, head, upgrade, peer).catch(() => stream.destroy());
    });
  }
  if ("path" in address) {
    await removeStale(address.path);
    await bound(server, { path: address.path }, address.path);
    await chmod(address.path, options.mode ?? 0o660);
  } else {
    await bound(server, { host: address.host, port: address.port }, textOf(address));
  }
  const actual = server.address();
  const shown = "path" in address || actual === null || typeof actual === "string"
    ? address
    : { host: address.host, port: actual.port };
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> =>
    closing ??= new Promise((resolve) => {
      server.close(() => resolve());
      server.closeAllConnections();
      for (const stream of upgraded) stream.destroy();
    });
  return { address: Object.freeze(shown), close, [Symbol.asyncDispose]: close };
}

function bound(
  server: Server,
  where: { readonly path: string } | { readonly host: string; readonly port: number },
  text: string,
): Promise<void> {
  return new Promise((resolve, reject) => {
    const failed = (error: Error): void =>
      reject(fromRuntimeError(error, "bind", `listen on ${text}`));
    server.once("error", failed);
    server.listen(where, () => {
      server.off("error", failed);
      resolve();
    });
  });
}

function textOf({ host, port }: { readonly host: string; readonly port: number }): string {
  return host.includes(":") ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Removes the file of a socket whose owner is gone; leaves every other kind of thing for `bind` to complain about. */
async function removeStale(path: string): Promise<void> {
  const refused = await new Promise<boolean>((resolve) => {
    const socket = connect({ path });
    socket.once("connect", () => {
      socket.destroy();
      resolve(false);
    });
    socket.once("error", (error) => resolve("code" in error && error.code === "ECONNREFUSED"));
  });
  if (refused) await unlink(path);
}

async function answer(
  request: IncomingMessage,
  response: ServerResponse,
  handler: HttpHandler,
  peer: HttpPeer,
  maxBodyBytes: number,
): Promise<void> {
  const body = await bodyOf(request, maxBodyBytes);
  if (body === undefined) {
    response.writeHead(413, { connection: "close" });
    response.end();
    return;
  }
  let answered: Response;
  try {
    answered = await handler(toRequest(request, body), peer);
  } catch {
    answered = new Response(null, { status: 500 });
  }
  if (answered.headers.get("transfer-encoding") === "chunked" && answered.body !== null) {
    return await stream(answered, answered.body, response, request.method === "HEAD");
  }
  const headers: Record<string, string> = {};
  answered.headers.forEach((value, name) => headers[name] = value);
  const content = new Uint8Array(await answered.arrayBuffer());
  headers["content-length"] = String(content.length);
  response.writeHead(answered.status, headers);
  if (request.method === "HEAD") response.end();
  else response.end(content);
}

/** Sends a body as it comes, no faster than it is taken, and ends it when nobody takes it any more. */
async function stream(
  { status, headers }: Response,
  body: ReadableStream<Uint8Array>,
  response: ServerResponse,
  headOnly: boolean,
): Promise<void> {
  const fields: Record<string, string> = {};
  headers.forEach((value, name) => {
    if (name !== "transfer-encoding") fields[name] = value;
  });
  response.writeHead(status, fields);
  const reader = body.getReader();
  response.on("close", () => reader.cancel().catch(() => {}));
  if (headOnly) await reader.cancel();
  for (;;) {
    const { value } = await reader.read();
    if (value === undefined || response.destroyed) break;
    if (response.write(value)) continue;
    await new Promise<void>((resolve) => {
      response.once("drain", resolve);
      response.once("close", resolve);
    });
  }
  response.end();
}

async function openSocket(
  request: IncomingMessage,
  stream: Duplex,
  head: Uint8Array,
  upgrade: HttpUpgrade,
  peer: HttpPeer,
): Promise<void> {
  const key = request.headers["sec-websocket-key"] ?? "";
  const isWebSocket = request.headers.upgrade?.toLowerCase() === "websocket";
  const words = isWebSocket ? webSocketAnswer(key) : undefined;
  const taken = words === undefined
    ? new Response(null, { status: 400 })
    : await upgrade(toRequest(request, new Uint8Array(0)), peer);
  if (taken instanceof Response) {
    const body = new Uint8Array(await taken.arrayBuffer());
    stream.write(
      `HTTP/1.1 ${taken.status} Refused\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n`,
    );
    stream.end(body);
    return;
  }
  stream.write(words!);
  taken(openTextSocket(stream, head));
}

/** The whole body; `undefined` when it is too long. */
async function bodyOf(
  request: IncomingMessage,
  maxBytes: number,
): Promise<Uint8Array<ArrayBuffer> | undefined> {
  const parts: Uint8Array[] = [];
  let length = 0;
  for await (const part of request) {
    length += part.length;
    if (length > maxBytes) return undefined;
    parts.push(part);
  }
  const body = new Uint8Array(length);
  let at = 0;
  for (const part of parts) {
    body.set(part, at);
    at += part.length;
  }
  return body;
}

function toRequest(request: IncomingMessage, body: Uint8Array<ArrayBuffer>): Request {
  const headers = new Headers();
  for (const [name, value] of Object.entries(request.headers)) {
    if (typeof value === "string") headers.set(name, value);
    else for (const one of value ?? []) headers.append(name, one);
  }
  // The authority is the client's word, looked at by whoever cares; the path decides.
  const url = new URL("http://localhost/");
  const target = request.url ?? "/";
  const query = target.indexOf("?");
  url.pathname = query < 0 ? target : target.slice(0, query);
  if (query >= 0) url.search = target.slice(query);
  const method = request.method ?? "GET";
  const withBody = method !== "GET" && method !== "HEAD";
  return new Request(url, { method, headers, ...(withBody ? { body } : {}) });
}
