/**
 * What `fastwire demo` shows of the proxy: curl fetches a file through a mixed inbound, a Shadowsocks pair and a direct
 * outbound, on each driver. What it gets is hashed and compared with what the server sent.
 *
 * @module
 */
import { spawn } from "node:child_process";
import { createHash } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import type { DemoInput, DemoRow } from "./demo.ts";
import { resolveDriver } from "./ffi/mod.ts";
import { createProxy, generateShadowsocksPassword, type ProxyServer } from "./proxy/mod.ts";

const METHODS = ["aes-256-gcm", "2022-blake3-aes-128-gcm"] as const;
type Method = typeof METHODS[number];

/** Fetches a file for each driver and edition of Shadowsocks; leaves no socket and no process. */
export async function* proxyDemo(
  { largestBytes, signal }: DemoInput,
): AsyncGenerator<DemoRow, void> {
  const choice = resolveDriver("auto", ["ffi", "splice", "epoll", "eventfd"]);
  for (const driver of ["fast", "portable"] as const) {
    if (driver === "fast" && choice.use !== "fast") {
      yield { what: "everything on the kernel driver", skipped: choice.reason };
      continue;
    }
    const bytes = Math.max(1, driver === "fast" ? largestBytes : Math.round(largestBytes / 10));
    for (const method of METHODS) yield await fetched(method, driver, bytes, signal);
  }
}

async function fetched(
  method: Method,
  driver: "fast" | "portable",
  bytes: number,
  signal: AbortSignal,
): Promise<DemoRow> {
  const what = `curl > mixed > ${method} > direct`;
  const origin = new Origin(bytes);
  let far: ProxyServer | undefined, near: ProxyServer | undefined;
  try {
    const password = method.startsWith("2022-") ? generateShadowsocksPassword(method) : "secret";
    const key = { type: "shadowsocks", method, password };
    const place = { listen: "127.0.0.1", listen_port: 0 };
    far = await createProxy({ inbounds: [{ ...key, ...place }] }, { driver });
    const port = far.inbounds[0]!.addresses[0]!.port;
    near = await createProxy({
      inbounds: [{ type: "mixed", ...place }],
      outbounds: [{ ...key, tag: "far", server: "127.0.0.1", server_port: port }],
    }, { driver });
    const entry = near.inbounds[0]!.addresses[0]!.port;
    const url = `http://127.0.0.1:${await origin.listen()}/file`;
    const startedAt = performance.now();
    const hash = await curl(["--socks5-hostname", `127.0.0.1:${entry}`, url], signal);
    if (hash === undefined) return { what, skipped: "there is no curl here" };
    const durationMs = performance.now() - startedAt;
    return { what, driver, bytes, durationMs, verified: hash === origin.hash };
  } finally {
    await near?.close();
    await far?.close();
    origin.close();
  }
}

/** A web server with one file. */
class Origin {
  /** What was sent last, hashed. */
  hash = "";
  readonly #server = createServer((_request, response) => {
    const sent = createHash("sha256");
    let left = this.#bytes;
    response.writeHead(200, { "content-length": this.#bytes });
    const more = (): void => {
      for (;;) {
        if (left === 0) {
          this.hash = sent.digest("hex");
          response.end();
          return;
        }
        const piece = PIECE.subarray(0, Math.min(left, PIECE.length));
        // Each piece differs from the one before, so that none can stand for another.
        piece[0] = left & 255;
        sent.update(piece);
        left -= piece.length;
        if (!response.write(new Uint8Array(piece))) break;
      }
      response.once("drain", more);
    };
    more();
  });
  readonly #bytes: number;

  constructor(bytes: number) {
    this.#bytes = bytes;
  }

  async listen(): Promise<number> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return (this.#server.address() as AddressInfo).port;
  }

  close(): void {
    this.#server.close();
    this.#server.closeAllConnections();
  }
}

/** The hash of what curl fetches; `undefined` without curl. */
async function curl(words: readonly string[], signal: AbortSignal): Promise<string | undefined> {
  signal.throwIfAborted();
  const child = spawn("curl", ["--silent", "--max-time", "60", ...words], {
    stdio: ["ignore", "pipe", "ignore"],
    signal,
  });
  const got = createHash("sha256");
  child.stdout.on("data", (piece: Uint8Array) => got.update(piece));
  return await new Promise((resolve, reject) => {
    child.once("error", () => {
      if (signal.aborted) reject(signal.reason);
      else resolve(undefined);
    });
    child.once(
      "close",
      (code) => resolve(code === 0 ? got.digest("hex") : `curl ended with ${code}`),
    );
  });
}

const PIECE = new Uint8Array(65_536).map((_, at) => (at * 2_654_435_761) >>> 24);
