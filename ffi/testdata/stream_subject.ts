/**
 * What the contract tests of streams stand on: the drivers, a pair of connected streams, and how to see bytes arrive.
 *
 * @module
 */
import type { ContractDriver } from "../../internal/testing/contract.ts";
import type { SocketAddress } from "../address.ts";
import { openRing } from "../io_uring_linux.ts";
import { bindAll, libc, libcRefusal } from "../libc_linux.ts";
import { openSharedLoop, type SharedLoop } from "../shared_loop.ts";
import {
  type ConnectOptions,
  type ListenOptions,
  openStreamHost,
  STREAM_END,
  STREAM_FAILED,
  type StreamConnection,
  type StreamHost,
  type StreamHostOptions,
  type StreamListener,
  WOULD_BLOCK,
} from "../stream.ts";

// Functions bind when they are first named, which the leak check would put down to the test that happened to name them.
bindAll();

/** What each behaviour is shown with. */
export interface Subject {
  readonly host: StreamHost;
  readonly options: StreamHostOptions;
  /** Gives the network, and the loop, the time until `done`; fails after ten seconds. */
  until(done: () => boolean, what: string): Promise<void>;
  /** Waits for a promise, letting the loop run. */
  settled<T>(promise: T | Promise<T>, what: string): Promise<T>;
}

interface Opened extends Subject {
  readonly loop: SharedLoop | undefined;
}

export const LOOPBACK: SocketAddress = { family: "ipv4", address: "127.0.0.1", port: 0 };
export const LOOPBACK6: SocketAddress = { family: "ipv6", address: "::1", port: 0 };

async function subject(given: StreamHostOptions | "shared"): Promise<Opened> {
  const loop = given === "shared" ? await openSharedLoop() : undefined;
  const options = given === "shared" ? { driver: "fast", reactor: loop! } as const : given;
  const host = await openStreamHost(options);
  const until: Subject["until"] = async (done, what) => {
    const deadline = performance.now() + 10_000;
    while (!done()) {
      if (performance.now() > deadline) throw new Error(`Cannot see ${what}: 10 s have passed`);
      if (options.wait === "thread") host.turn(2);
      await new Promise<void>((resolve) => setImmediate(resolve));
    }
  };
  return {
    host,
    options,
    loop,
    until,
    settled: async (promise, what) => {
      let over = false;
      const end = (): void => void (over = true);
      Promise.resolve(promise).then(end, end);
      await until(() => over, what);
      return await promise;
    },
  };
}

/** A listener and both ends of one connection to it. */
export interface Pair {
  readonly listener: StreamListener;
  readonly client: StreamConnection;
  readonly server: StreamConnection;
}

export async function pair(
  given: Subject,
  listening: Partial<ListenOptions> = {},
  connecting: Partial<ConnectOptions> = {},
): Promise<Pair> {
  const listener = await given.host.listen({ bind: LOOPBACK, ...listening });
  const { client, server } = await join(given, listener, connecting);
  return { listener, client, server };
}

/** Both ends of another connection to a listener. */
export async function join(
  given: Subject,
  listener: StreamListener,
  connecting: Partial<ConnectOptions> = {},
): Promise<{ readonly client: StreamConnection; readonly server: StreamConnection }> {
  const connection = given.host.connect({ remote: listener.local, ...connecting });
  const accepted = Promise.resolve(listener.accept());
  const client = await given.settled(connection, "the connection");
  const server = await given.settled(accepted, "it to be accepted");
  return { client, server: server! };
}

/** What came until the end: the bytes, and how it ended. */
export interface Received {
  readonly bytes: Uint8Array;
  readonly end: number;
}

/** Receives in pieces of at most `pieceBytes`, until the end or, with `length`, until that many bytes are there. */
export async function collect(
  given: Subject,
  connection: StreamConnection,
  length: number = Infinity,
  pieceBytes = 65_536,
): Promise<Received> {
  const pieces: Uint8Array[] = [];
  const into = new Uint8Array(new ArrayBuffer(pieceBytes));
  let total = 0;
  let end: number = WOULD_BLOCK;
  let again = false;
  const take = (): void => {
    again = false;
    for (let i = 0; i < 64; i++) {
      if (total >= length) return;
      const most = Math.min(pieceBytes, length - total);
      const count = connection.receiveNow(into, 0, most);
      if (count === WOULD_BLOCK) return;
      if (count === STREAM_END || count === STREAM_FAILED) return void (end = count);
      pieces.push(into.slice(0, count));
      total += count;
    }
    again = true;
    connection.again();
  };
  connection.watch(take);
  await given.until(
    () => total >= length || (end !== WOULD_BLOCK && !again),
    `${length} bytes or the end`,
  );
  connection.watch(undefined);
  const bytes = new Uint8Array(total);
  let at = 0;
  for (const piece of pieces) {
    bytes.set(piece, at);
    at += piece.length;
  }
  return { bytes, end };
}

export function pattern(length: number, salt = 0): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(new ArrayBuffer(length));
  for (let i = 0; i < length; i++) bytes[i] = (i * 31 + (i >> 8) + (i >> 16) + salt) & 255;
  return bytes;
}

function row(
  options: StreamHostOptions | "shared",
  missing: () => string,
): ContractDriver<Opened> {
  return {
    missing,
    open: () => subject(options),
    close: async ({ host, loop }) => {
      await host.close();
      await loop?.close();
    },
  };
}

function noLibc(): string {
  return libc() === undefined ? libcRefusal()!.why : "";
}

function noRing(): string {
  const library = libc();
  if (library === undefined) return libcRefusal()!.why;
  const ring = openRing(library);
  if (typeof ring === "string") return ring;
  ring.close();
  return "";
}

/** Every way there is to wait for a stream. */
export const DRIVERS: Readonly<Record<string, ContractDriver<Opened>>> = {
  "linux uring": row({ driver: "fast", reactor: "uring" }, noRing),
  "linux shared": row("shared", noLibc),
  // The worker's readiness has suites of its own, and a thread's loop is the shared one's: the same driver once more.
  ...(Deno.env.get("FASTWIRE_LONG") === "1"
    ? {
      "linux worker": row({ driver: "fast", reactor: "worker" }, noLibc),
      "linux thread": row({ driver: "fast", wait: "thread" }, noLibc),
    }
    : {}),
  "deno": row({ driver: "portable", portable: "deno" }, () => ""),
  "node": row({ driver: "portable", portable: "node" }, () => ""),
};
