/**
 * What the server's and client's socket tests are shown with: a driver, a root directory, and everything that is opened
 * during a test closed after it.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { bindAll } from "../../ffi/libc_linux.ts";
import { formatAddress, resolveDriver, type SocketAddress } from "../../ffi/mod.ts";
import type { ContractDriver } from "../../internal/testing/contract.ts";
import { connect, type TftpClient } from "../client.ts";
import { serve, type ServerOptions, type TftpServer } from "../server.ts";
import type { TransferRecord } from "../session.ts";
import type { ClientOptions, ServerSettings } from "../settings.ts";
import type { Endurance } from "./endurance.ts";
import { RawPeer } from "./raw_peer.ts";

// Opened for the process, not for a test: the sanitizer would take it for a leak of the first one.
bindAll();

/** A server under test. */
export interface Served {
  readonly server: TftpServer;
  /** Its first address. */
  readonly to: SocketAddress;
  /** Every transfer that ended, in order. */
  readonly records: readonly TransferRecord[];
  /** Waits until `count` transfers have ended and answers the last of them. */
  ended(count: number): Promise<TransferRecord>;
}

/** See the module. */
export class Bench {
  /** How servers reach the kernel. */
  readonly row: Pick<ServerSettings, "driver" | "workers">;
  /** The directory that is served; made when it is asked for. */
  #root: string | undefined;
  readonly #open: AsyncDisposable[] = [];

  /** Servers do nothing of their own accord: a slow machine must not show as a packet sent again. */
  still = false;

  constructor(row: Pick<ServerSettings, "driver" | "workers">) {
    this.row = row;
  }

  /** Which driver clients and peers should use. */
  get driver(): "fast" | "portable" {
    return this.row.driver === "portable" ? "portable" : "fast";
  }

  /** The directory that is served. */
  get root(): string {
    return this.#root ??= Deno.makeTempDirSync({ prefix: "fastwire-tftp-" });
  }

  /** Starts a server of the root. */
  async serve(options: Partial<ServerOptions> = {}): Promise<Served> {
    const records: TransferRecord[] = [];
    let wake: () => void = () => {};
    const server = await serve({
      ...this.row,
      listen: ["127.0.0.1:0"],
      ...(options.store === undefined ? { root: this.root } : {}),
      ...options,
      ...(this.still ? { retry: { ...STILL, ...options.retry } } : {}),
      onTransfer: (record) => {
        records.push(record);
        wake();
        options.onTransfer?.(record);
      },
    });
    this.#open.push(server);
    return {
      server,
      to: server.addresses[0]!,
      records,
      ended: async (count) => {
        const patience = setTimeout(() => wake(), 8000);
        const until = performance.now() + 7900;
        while (records.length < count && performance.now() < until) {
          await new Promise<void>((resolve) => wake = resolve);
        }
        clearTimeout(patience);
        if (records.length < count) {
          throw new Error(`${records.length} transfers ended, expected ${count}`);
        }
        return records[count - 1]!;
      },
    };
  }

  /** A raw peer that speaks to an address. */
  async peer(to: SocketAddress, at?: string): Promise<RawPeer> {
    const peer = await RawPeer.open(to, at);
    this.#open.push(peer);
    return peer;
  }

  /** A client of an address, on the driver under test. */
  async client(to: SocketAddress, options: ClientOptions = {}): Promise<TftpClient> {
    const client = await connect(to, { driver: this.driver, ...options });
    this.#open.push(client);
    // A test that fails leaves its transfers behind; that they then end must not hide why.
    for (const verb of ["get", "put", "stat"] as const) {
      const run = client[verb].bind(client) as (...args: unknown[]) => Promise<unknown>;
      Object.defineProperty(client, verb, {
        value: (...args: unknown[]) => {
          const running = run(...args);
          running.catch(() => {});
          return running;
        },
      });
    }
    return client;
  }

  /** Something to close at the end. */
  own<T extends AsyncDisposable>(thing: T): T {
    this.#open.push(thing);
    return thing;
  }

  /** Writes a file of the root. */
  file(name: string, content: string | Uint8Array): void {
    const path = `${this.root}/${name}`;
    Deno.mkdirSync(path.slice(0, path.lastIndexOf("/")), { recursive: true });
    if (typeof content === "string") Deno.writeTextFileSync(path, content);
    else Deno.writeFileSync(path, content);
  }

  /** Every name below the root, hidden ones too. */
  names(): string[] {
    return namesOf(this.root);
  }

  /** Closes everything, newest first, and removes the root. */
  async close(): Promise<void> {
    for (const thing of this.#open.splice(0).reverse()) await thing[Symbol.asyncDispose]();
    if (this.#root !== undefined) await Deno.remove(this.#root, { recursive: true });
  }
}

/** The names in a folder, in order. */
export function namesOf(path: string): string[] {
  return [...Deno.readDirSync(path)].map(({ name }) => name).sort();
}

/** Runs `endurance.ts` in a process of its own. @throws {Error} With what it said, when it failed. */
export async function endure(
  what: "fire" | "cycles",
  row: string,
  count: number,
  seed: number,
): Promise<Endurance> {
  const { success, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "-A",
      "--no-check",
      "--quiet",
      new URL("./endurance.ts", import.meta.url).pathname,
      what,
      row,
      String(count),
      String(seed),
    ],
    stdin: "null",
  }).output();
  const decoder = new TextDecoder();
  if (!success) throw new Error(`with FASTWIRE_SEED=${seed}: ${decoder.decode(stderr)}`);
  return JSON.parse(decoder.decode(stdout));
}

/** Every way a server can run: on the event loop, on threads, without the kernel's driver. */
export const EVERY_ROW: Readonly<Record<string, ContractDriver<Bench>>> = {
  "linux": row({ driver: "fast", workers: 0 }),
  "linux thread": row({ driver: "fast", workers: 1 }),
  "linux threads": row({ driver: "fast", workers: 2 }),
  "node": row({ driver: "portable", workers: 0 }),
  "node threads": row({ driver: "portable", workers: 2 }),
};

/** Timers that no test lives to see. */
export const STILL = {
  tailProbe: false,
  pacing: false,
  initialTimeoutMs: 20_000,
  minTimeoutMs: 20_000,
  maxTimeoutMs: 30_000,
} as const;

/** The same rows with servers that do nothing of their own accord; a test that wants timers says which. */
export function stillRows(
  rows: Readonly<Record<string, ContractDriver<Bench>>>,
): Readonly<Record<string, ContractDriver<Bench>>> {
  return Object.fromEntries(
    Object.entries(rows).map(([name, driver]) => [name, {
      ...driver,
      open: async () => {
        const bench = await driver.open();
        bench.still = true;
        return bench;
      },
    }]),
  );
}

/** One row per driver. */
export const BOTH_DRIVERS: Readonly<Record<string, ContractDriver<Bench>>> = {
  "linux": EVERY_ROW["linux"]!,
  "node": EVERY_ROW["node"]!,
};

function row(settings: Pick<ServerSettings, "driver" | "workers">): ContractDriver<Bench> {
  return {
    missing: () => {
      if (settings.driver === "portable") return "";
      const choice = resolveDriver("auto", ["batchedDatagrams"]);
      return choice.use === "fast" ? "" : choice.reason;
    },
    open: () => new Bench(settings),
    close: (bench) => bench.close(),
  };
}

/** Waits for a condition, without a bound on how often it is looked at. @throws {Error} When it stays false. */
export async function until(condition: () => boolean, what: string, ms = 5000): Promise<void> {
  const end = performance.now() + ms;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`${what}: not after ${ms} ms`);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

/** Bytes that repeat nowhere near a block's length. */
export function pattern(length: number, seed = 1): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  let x = seed * 2654435761 >>> 0;
  for (let i = 0; i < length; i++) {
    x = (Math.imul(x, 1664525) + 1013904223) >>> 0;
    bytes[i] = x >>> 24;
  }
  return bytes;
}

/** Text with every kind of line end, for netascii. */
export function lines(length: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(length);
  const some = [97, 10, 98, 13, 10, 13, 13, 0, 99, 100, 101];
  for (let i = 0; i < length; i++) bytes[i] = some[(i * 7 + (i >> 5)) % some.length]!;
  return bytes;
}

/** Shows that two contents are the same. */
export function sum(bytes: Uint8Array): string {
  return `${bytes.length}:${createHash("sha256").update(bytes).digest("hex")}`;
}

/** `tftp://…` of a name on a server. */
export function urlOf(to: SocketAddress, name: string): string {
  return `tftp://${formatAddress(to)}/${name}`;
}
