/**
 * The destination behind the proxies that are measured, a process of its own. Prints the port it listens on and serves
 * until it is ended.
 *
 * A stream begins with a letter, a length and a position in the known content, eight bytes each: `d` wants so many bytes
 * of the content and the end, `u` brings them and is answered with one byte, 1 when all were right, `e` gets back what
 * it sends.
 *
 * @module
 */
import {
  type ConstantBuffer,
  openStreamHost,
  STREAM_FAILED,
  type StreamConnection,
  WOULD_BLOCK,
} from "@fastwire/net/ffi";
import { isPattern, patternPeriod } from "../../internal/testing/pattern.ts";
import { BUFFER_BYTES, REQUEST_BYTES } from "./proxy_ends.ts";

const BIND = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;
/** Receives before others have their turn. */
const FAIR = 16;

class Served {
  readonly #connection: StreamConnection;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  readonly #content: ConstantBuffer;
  readonly #request = new Uint8Array(new ArrayBuffer(REQUEST_BYTES));
  #asked = 0;
  #verb = "";
  #left = 0;
  #position = 0;
  #right = 1;

  constructor(
    connection: StreamConnection,
    buffer: Uint8Array<ArrayBuffer>,
    content: ConstantBuffer,
  ) {
    this.#connection = connection;
    this.#buffer = buffer;
    this.#content = content;
    connection.watch(() => this.#readable(), () => this.#writable());
  }

  #readable(): void {
    for (let turns = 0; turns < FAIR; turns++) {
      const asking = this.#asked < REQUEST_BYTES;
      const got = asking
        ? this.#connection.receiveNow(this.#request, this.#asked, REQUEST_BYTES)
        : this.#connection.receiveNow(this.#buffer, 0, BUFFER_BYTES);
      if (got === WOULD_BLOCK) return;
      if (got <= 0) return void this.#connection.close();
      if (asking) this.#take(got);
      else if (this.#verb === "u") this.#compare(got);
      else if (this.#verb === "e") this.#connection.sendNow(this.#buffer, 0, got);
    }
    this.#connection.again();
  }

  #take(got: number): void {
    this.#asked += got;
    if (this.#asked < REQUEST_BYTES) return;
    const view = new DataView(this.#request.buffer);
    this.#verb = String.fromCharCode(this.#request[0]!);
    this.#left = Number(view.getBigUint64(1));
    this.#position = Number(view.getBigUint64(9));
    if (this.#verb === "d") this.#writable();
  }

  #compare(got: number): void {
    if (!isPattern(this.#buffer, 0, got, this.#position)) this.#right = 0;
    this.#position += got;
    this.#left -= got;
    if (this.#left > 0) return;
    this.#connection.sendNow(new Uint8Array([this.#left === 0 ? this.#right : 0]), 0, 1);
    this.#connection.end();
  }

  #writable(): void {
    if (this.#verb !== "d") return;
    while (this.#left > 0) {
      const sent = this.#connection.sendConstantNow(this.#content, this.#position, this.#left);
      if (sent === WOULD_BLOCK) return;
      if (sent === STREAM_FAILED) return void this.#connection.close();
      this.#position += sent;
      this.#left -= sent;
    }
    this.#verb = "";
    this.#connection.end();
  }
}

async function main(): Promise<void> {
  const host = await openStreamHost({ driver: "fast", wait: "thread" });
  const buffer = new Uint8Array(new ArrayBuffer(BUFFER_BYTES));
  const content = host.createConstant(patternPeriod());
  const listener = await host.listen({ bind: BIND, backlog: 4096 });
  listener.watch(() => {
    for (;;) {
      const connection = listener.acceptNow();
      if (connection === undefined) return;
      new Served(connection, buffer, content);
    }
  });
  console.error(`port ${listener.local.port}`);
  for (;;) host.turn(10_000);
}

await main();
