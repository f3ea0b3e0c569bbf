/** What tests over real sockets stand on: servers, clients, and peers made by hand. */
import {
  capabilities,
  openStreamHost,
  type SocketAddress,
  type StreamConnection,
  type StreamHost,
} from "../../ffi/mod.ts";
import type { ContractDriver } from "../../internal/testing/contract.ts";
import { MemoryAccounts } from "../accounts_memory.ts";
import type { ServerEvent, TestResult } from "../api_types.ts";
import { run, type RunOptions } from "../client.ts";
import { type BtestServer, serve, type ServerOptions } from "../server.ts";

/** A server and what it told. */
export class ServerUnderTest {
  readonly server: BtestServer;
  readonly target: string;
  readonly address: SocketAddress;
  readonly #ends: TestResult[] = [];
  #starts = 0;
  #told: () => void = () => {};

  constructor(server: BtestServer) {
    this.server = server;
    this.address = server.addresses[0]!;
    this.target = `127.0.0.1:${this.address.port}`;
  }

  tell(event: ServerEvent): void {
    if (event.kind === "end") this.#ends.push(event.result);
    if (event.kind === "start") this.#starts++;
    this.#told();
  }

  /** The next test that ends. */
  async end(): Promise<TestResult> {
    while (this.#ends.length === 0) await new Promise<void>((resolve) => this.#told = resolve);
    return this.#ends.shift()!;
  }

  /** When a test has begun. */
  async started(): Promise<void> {
    while (this.#starts === 0) await new Promise<void>((resolve) => this.#told = resolve);
  }
}

/** A peer that does only what it is told; bytes are hexadecimal. */
export class RawPeer {
  readonly connection: StreamConnection;
  /** What it heard to its command, when it gave one. */
  answer = "";

  constructor(connection: StreamConnection) {
    this.connection = connection;
  }

  /** The next `count` bytes, in short form above 64 of them; fewer when the connection ends before. */
  async hear(count: number): Promise<string> {
    const bytes = new Uint8Array(new ArrayBuffer(count));
    let filled = 0;
    while (filled < count) {
      const more = await this.connection.receive(bytes, filled, count);
      if (more <= 0) break;
      filled += more;
    }
    return [...bytes.subarray(0, Math.min(filled, 64))]
      .map((byte) => byte.toString(16).padStart(2, "0")).join("");
  }

  async say(hex: string): Promise<void> {
    const bytes = Uint8Array.from(hex.match(/../g)!, (pair) => parseInt(pair, 16));
    await this.connection.send(bytes, 0, bytes.length);
  }
}

/** One driver's worth of servers, clients and peers; all of them end with it. */
export class Floor {
  readonly driver: "fast" | "portable";
  readonly workers: number;
  readonly host: StreamHost;
  readonly #servers: BtestServer[] = [];

  private constructor(driver: "fast" | "portable", workers: number, host: StreamHost) {
    this.driver = driver;
    this.workers = workers;
    this.host = host;
  }

  static async open(driver: "fast" | "portable", workers: number): Promise<Floor> {
    return new Floor(driver, workers, await openStreamHost({ driver }));
  }

  /** A server with the user `admin`, password `secret`. */
  async server(options: ServerOptions = {}): Promise<ServerUnderTest> {
    const accounts = new MemoryAccounts();
    accounts.set("admin", "secret", { md5: true });
    let under: ServerUnderTest | undefined;
    const server = await serve({
      listen: ["127.0.0.1:0"],
      driver: this.driver,
      workers: this.workers,
      auth: "none",
      accounts,
      onEvent: (event) => under?.tell(event),
      ...options,
    });
    this.#servers.push(server);
    return under = new ServerUnderTest(server);
  }

  /** A test by our client, which knows the password. */
  run(server: ServerUnderTest, options: RunOptions): Promise<TestResult> {
    return run(server.target, {
      driver: this.driver,
      workers: this.workers,
      user: "admin",
      password: "secret",
      ...options,
    });
  }

  /** A connection to a server. */
  async dial(server: ServerUnderTest, from?: string): Promise<RawPeer> {
    const bind = from === undefined
      ? {}
      : { bind: { family: "ipv4", address: from, port: 0 } as const };
    return new RawPeer(await this.host.connect({ remote: server.address, ...bind }));
  }

  /** A connection on which a command was given, and so many bytes of the answer. */
  async command(server: ServerUnderTest, command: string, answer = 4): Promise<RawPeer> {
    const raw = await this.dial(server);
    await raw.hear(4);
    await raw.say(command);
    raw.answer = await raw.hear(answer);
    return raw;
  }

  async close(): Promise<void> {
    await this.host.close();
    for (const server of this.#servers) await server.close();
  }
}

function row(driver: "fast" | "portable", workers: number): ContractDriver<Floor> {
  return {
    missing: () =>
      driver === "portable" || capabilities().ffi ? "" : capabilities().why["ffi"] ?? "no FFI",
    open: () => Floor.open(driver, workers),
    close: (floor) => floor.close(),
  };
}

/** Every driver, with data on the calling thread. */
export const DRIVER_ROWS: Readonly<Record<string, ContractDriver<Floor>>> = {
  "linux": row("fast", 0),
  "deno": row("portable", 0),
};

/** Data on threads of its own; each server and each client starts one, which costs more than most tests. */
export const THREAD_ROWS: Readonly<Record<string, ContractDriver<Floor>>> = {
  "linux on threads": row("fast", 1),
};
