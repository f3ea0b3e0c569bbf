/**
 * What the interoperability tests share: our proxy as a process, a client that speaks SOCKS5 by the letter of RFC 1928
 * and shares no code with ours, and transfers whose content is hashed.
 *
 * @module
 */

import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { type OwnTool, startOwnTool } from "../../internal/testing/own_tool.ts";
import { patternBytes } from "../../internal/testing/pattern.ts";
import {
  close,
  hashOfStream,
  originRequest,
  patternHash,
  readExactly,
  sendPattern,
  writeAll,
} from "./interop_origin.ts";

/** Both sides of the kernel boundary. */
export const DRIVERS = ["fast", "portable"] as const;

/** Our proxy, running. */
export interface OwnProxy extends AsyncDisposable {
  readonly tool: OwnTool;
  /** The configuration it was started with; may be written again before a SIGHUP. */
  readonly file: string;
  /** Where the inbound with this tag listens. */
  port(tag: string): number;
}

/**
 * Starts our proxy with a configuration.
 *
 * @param config As in the file; inbounds need tags, and port 0 takes a free one.
 */
export async function startOwnProxy(
  config: { readonly inbounds: readonly object[]; readonly [key: string]: unknown },
  driver: "auto" | "fast" | "portable" = "auto",
  options: { readonly descriptors?: number } = {},
): Promise<OwnProxy> {
  const folder = await Deno.makeTempDir({ prefix: "fastwire-proxy-" });
  const file = `${folder}/config.json`;
  await Deno.writeTextFile(file, JSON.stringify(config));
  try {
    const tool = await startOwnTool("proxy/mod.ts", ["run", "-c", file, "--driver", driver], {
      ready: /^listening \S+ \S+:(\d+) \w+\/(\S+)$/,
      times: config.inbounds.length,
      ...options,
    });
    const ports = new Map(tool.matches.map(([, port, tag]) => [tag!, Number(port)]));
    return {
      tool,
      file,
      port: (tag) => ports.get(tag)!,
      async [Symbol.asyncDispose](): Promise<void> {
        await tool[Symbol.asyncDispose]();
        await Deno.remove(folder, { recursive: true });
      },
    };
  } catch (error) {
    await Deno.remove(folder, { recursive: true });
    throw error;
  }
}

/** An inbound on a free port of 127.0.0.1; its type is its tag. */
export function inbound(type: string, more: object = {}): object {
  return { type, tag: type, listen: "127.0.0.1", listen_port: 0, ...more };
}

/** Resident memory of a process, bytes. */
export function residentBytes(pid: number): number {
  const text = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/VmRSS:\s+(\d+)/.exec(text)![1]) * 1024;
}

/** Connects through a SOCKS5 server without authentication. `host` may be a name or an IPv4 address. */
export async function socksConnect(
  proxyPort: number,
  host: string,
  port: number,
): Promise<Deno.TcpConn> {
  const stream = await Deno.connect({ hostname: "127.0.0.1", port: proxyPort });
  try {
    stream.setNoDelay(true);
    await socksRequest(stream, 1, host, port);
    return stream;
  } catch (error) {
    close(stream);
    throw error;
  }
}

/** The reply's address is what the answer is: only UDP ASSOCIATE needs it. */
async function socksRequest(
  stream: Deno.TcpConn,
  command: number,
  host: string,
  port: number,
): Promise<number> {
  await writeAll(stream, new Uint8Array([5, 1, 0]));
  const method = await readExactly(stream, 2);
  if (method[0] !== 5 || method[1] !== 0) throw new Error(`Cannot use SOCKS5: method ${method}`);
  await writeAll(
    stream,
    new Uint8Array([5, command, 0, ...socksAddress(host), port >> 8, port & 255]),
  );
  const reply = await readExactly(stream, 4);
  if (reply[1] !== 0) throw new Error(`Cannot connect by SOCKS5: reply ${reply[1]}`);
  const bound = await readExactly(stream, (reply[3] === 4 ? 16 : 4) + 2);
  return bound.at(-2)! << 8 | bound.at(-1)!;
}

function socksAddress(host: string): readonly number[] {
  if (/^[\d.]+$/.test(host)) return [1, ...host.split(".").map(Number)];
  return [3, host.length, ...new TextEncoder().encode(host)];
}

/** Fetches so many bytes of the origin. @returns What is wrong with them; empty when nothing. */
export async function download(stream: Deno.TcpConn, length: number): Promise<string> {
  try {
    await writeAll(stream, originRequest("d", length));
    const hash = await hashOfStream(stream, length);
    if (hex(hash) !== patternHash(length)) return "other bytes arrived";
    return await stream.read(new Uint8Array(1)) === null ? "" : "more bytes arrived";
  } catch (error) {
    return String(error);
  } finally {
    close(stream);
  }
}

/** Brings so many bytes to the origin. @returns As {@linkcode download}. */
export async function upload(stream: Deno.TcpConn, length: number): Promise<string> {
  try {
    await writeAll(stream, originRequest("u", length));
    await sendPattern(stream, length);
    return hex(await readExactly(stream, 32)) === patternHash(length) ? "" : "other bytes arrived";
  } catch (error) {
    return String(error);
  } finally {
    close(stream);
  }
}

/** The same, ended by half closing: the answer comes after our end. @returns As {@linkcode download}. */
export async function uploadUntilEnd(stream: Deno.TcpConn, length: number): Promise<string> {
  try {
    await writeAll(stream, originRequest("h"));
    await sendPattern(stream, length);
    await stream.closeWrite();
    const right = hex(await readExactly(stream, 32)) === patternHash(length);
    if (!right) return "other bytes arrived";
    return await stream.read(new Uint8Array(1)) === null ? "" : "more bytes came back";
  } catch (error) {
    return String(error);
  } finally {
    close(stream);
  }
}

/** Datagrams through a SOCKS5 server. */
export class SocksDatagrams implements AsyncDisposable {
  readonly #stream: Deno.TcpConn;
  readonly #socket: Socket;
  readonly #relay: number;
  #arrived: ((bytes: Uint8Array) => void) | undefined;

  private constructor(stream: Deno.TcpConn, socket: Socket, relay: number) {
    this.#stream = stream;
    this.#socket = socket;
    this.#relay = relay;
    socket.on("message", (bytes) => this.#arrived?.(bytes));
  }

  /** Asks for an association. */
  static async open(proxyPort: number): Promise<SocksDatagrams> {
    const stream = await Deno.connect({ hostname: "127.0.0.1", port: proxyPort });
    const relay = await socksRequest(stream, 3, "0.0.0.0", 0);
    const socket = createSocket("udp4");
    socket.bind(0, "127.0.0.1");
    await once(socket, "listening");
    return new SocksDatagrams(stream, socket, relay);
  }

  /**
   * Sends a datagram to the origin and waits for its echo, sending again where one was lost.
   *
   * @returns What is wrong; empty when nothing.
   */
  async exchange(host: string, port: number, length: number): Promise<string> {
    const payload = patternBytes(length, length);
    const head = [0, 0, 0, ...socksAddress(host), port >> 8, port & 255];
    const from = 3 + 1 + 4 + 2;
    for (let attempt = 0; attempt < 5; attempt++) {
      const echo = new Promise<Uint8Array | undefined>((resolve) => {
        const timer = setTimeout(() => resolve(undefined), 1000);
        this.#arrived = (bytes) => {
          clearTimeout(timer);
          resolve(bytes);
        };
      });
      this.#socket.send(new Uint8Array([...head, ...payload]), this.#relay, "127.0.0.1");
      const bytes = await echo;
      if (bytes === undefined) continue;
      if (bytes[3] !== 1 || (bytes[8]! << 8 | bytes[9]!) !== port) return "wrong source";
      const same = bytes.length === from + length &&
        payload.every((byte, at) => bytes[from + at] === byte);
      return same ? "" : `${bytes.length - from} other bytes came back`;
    }
    return "nothing came back";
  }

  async [Symbol.asyncDispose](): Promise<void> {
    close(this.#stream);
    await new Promise<void>((resolve) => this.#socket.close(() => resolve()));
  }
}

function hex(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}
