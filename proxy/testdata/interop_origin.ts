/**
 * The destination behind the proxies of the interoperability tests: streams that send, receive or echo known content,
 * datagrams that come back, and a web server.
 *
 * A stream begins with one letter and a length of eight bytes: `d` wants so many bytes and the end, `u` brings so many
 * and is answered with their SHA-256, `h` brings bytes until its end and is answered the same, `e` gets back what it
 * sends, `s` is sent to without end, `w` gets nothing.
 *
 * @module
 */

import { createHash } from "node:crypto";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { patternBytes } from "../../internal/testing/pattern.ts";

/** What a stream may ask for. */
export type OriginVerb = "d" | "u" | "h" | "e" | "s" | "w";

/** Bytes of a request. */
export const REQUEST_BYTES = 9;

/** The first bytes of a stream. */
export function originRequest(verb: OriginVerb, length = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(REQUEST_BYTES);
  bytes[0] = verb.charCodeAt(0);
  new DataView(bytes.buffer).setBigUint64(1, BigInt(length));
  return bytes;
}

/** A running destination, on 127.0.0.1. */
export class Origin implements AsyncDisposable {
  readonly #listener: Deno.TcpListener;
  readonly #udp: Socket;
  readonly #web: Deno.HttpServer<Deno.NetAddr>;
  readonly #streams = new Set<Deno.TcpConn>();
  readonly #serving = new Set<Promise<void>>();
  readonly #accepting: Promise<void>;
  /** Bytes that went to streams so far. */
  sentBytes = 0;
  readonly #stalled: (() => void)[] = [];
  /** What web clients asked for, one line each: method, path, `Host`. */
  readonly seen: string[] = [];

  private constructor(listener: Deno.TcpListener, udp: Socket) {
    this.#listener = listener;
    this.#udp = udp;
    this.#udp.on("message", (bytes, { address, port }) => this.#udp.send(bytes, port, address));
    this.#web = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, (request) => {
      const { pathname } = new URL(request.url);
      this.seen.push(`${request.method} ${pathname} ${request.headers.get("host")}`);
      return answer(request, pathname);
    });
    this.#accepting = this.#accept();
  }

  /** Starts one. */
  static async start(): Promise<Origin> {
    const udp = createSocket("udp4");
    udp.bind(0, "127.0.0.1");
    await once(udp, "listening");
    return new Origin(Deno.listen({ hostname: "127.0.0.1", port: 0 }), udp);
  }

  /** Where streams go. */
  get port(): number {
    return (this.#listener.addr as Deno.NetAddr).port;
  }

  /** Where datagrams go. */
  get udpPort(): number {
    return this.#udp.address().port;
  }

  /** Where web clients go. */
  get webPort(): number {
    return this.#web.addr.port;
  }

  /** Streams that are open. */
  get open(): number {
    return this.#streams.size;
  }

  /** Cuts every stream, as a destination that is killed does. */
  cut(): void {
    for (const stream of this.#streams) close(stream);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#listener.close();
    await this.#accepting;
    this.cut();
    for (const goOn of this.#stalled) goOn();
    await Promise.all(this.#serving);
    await this.#web.shutdown();
    await new Promise<void>((resolve) => this.#udp.close(() => resolve()));
  }

  async #accept(): Promise<void> {
    for await (const stream of this.#listener) {
      this.#streams.add(stream);
      const serving = this.#serve(stream).catch(() => {}).finally(() => {
        close(stream);
        this.#streams.delete(stream);
        this.#serving.delete(serving);
      });
      this.#serving.add(serving);
    }
  }

  async #serve(stream: Deno.TcpConn): Promise<void> {
    const head = await readExactly(stream, REQUEST_BYTES);
    const length = Number(new DataView(head.buffer).getBigUint64(1));
    switch (String.fromCharCode(head[0]!) as OriginVerb) {
      case "d":
        await sendPattern(stream, length, (sent) => this.sentBytes += sent);
        return await stream.closeWrite();
      case "u":
        return await writeAll(stream, await hashOfStream(stream, length));
      case "h":
        await writeAll(stream, await hashOfStream(stream, Infinity));
        return await stream.closeWrite();
      case "e":
        return await stream.readable.pipeTo(stream.writable);
      case "s":
        return await sendPattern(stream, Infinity, (sent) => this.sentBytes += sent);
      case "w":
        await new Promise<void>((resolve) => this.#stalled.push(resolve));
    }
  }
}

function answer(request: Request, pathname: string): Response | Promise<Response> {
  const wanted = /^\/bytes\/(\d+)$/.exec(pathname);
  if (wanted !== null) return new Response(patternBytes(0, Number(wanted[1])));
  if (pathname === "/hash") {
    return request.arrayBuffer().then((bytes) =>
      new Response(createHash("sha256").update(new Uint8Array(bytes)).digest("hex"))
    );
  }
  return new Response(`you asked for ${pathname}\n`);
}

/** Sends so many bytes of the content, `Infinity` for no end. */
export async function sendPattern(
  stream: Deno.TcpConn,
  length: number,
  sent?: (bytes: number) => void,
): Promise<void> {
  for (let at = 0; at < length; at += CHUNK) {
    const bytes = patternBytes(at, Math.min(CHUNK, length - at));
    await writeAll(stream, bytes);
    sent?.(bytes.length);
  }
}

/** SHA-256 of the next bytes, or of all of them until the end. */
export async function hashOfStream(stream: Deno.TcpConn, length: number): Promise<Uint8Array> {
  const hash = createHash("sha256");
  const buffer = new Uint8Array(CHUNK);
  for (let left = length; left > 0;) {
    const got = await stream.read(buffer.subarray(0, Math.min(left, CHUNK)));
    if (got === null) {
      if (length === Infinity) break;
      throw new Error(`Cannot read ${length} bytes: the stream ended ${left} before`);
    }
    hash.update(buffer.subarray(0, got));
    left -= got;
  }
  return new Uint8Array(hash.digest());
}

const hashes = new Map<number, string>();

/** SHA-256 of the first bytes of the content, hexadecimal. */
export function patternHash(length: number): string {
  const known = hashes.get(length);
  if (known !== undefined) return known;
  const hash = createHash("sha256");
  for (let at = 0; at < length; at += CHUNK) {
    hash.update(patternBytes(at, Math.min(CHUNK, length - at)));
  }
  const digest = hash.digest("hex");
  hashes.set(length, digest);
  return digest;
}

/** Reads so many bytes. */
export async function readExactly(
  stream: Deno.TcpConn,
  length: number,
): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(length);
  for (let done = 0; done < length;) {
    const got = await stream.read(bytes.subarray(done));
    if (got === null) {
      throw new Error(`Cannot read ${length} bytes: the stream ended after ${done}`);
    }
    done += got;
  }
  return bytes;
}

/** Writes all of it. */
export async function writeAll(stream: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await stream.write(bytes.subarray(done));
}

/** Closes a stream that may be closed already. */
export function close(stream: Deno.Conn): void {
  try {
    stream.close();
  } catch {
    // It was.
  }
}

const CHUNK = 1 << 18;
