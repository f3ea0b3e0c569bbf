/**
 * What the contract tests of datagram sockets stand on: the drivers, and how to see datagrams arrive.
 *
 * @module
 */
import type { ContractDriver } from "../../internal/testing/contract.ts";
import { ADDRESS_BYTES, readAddress, type SocketAddress, writeAddress } from "../address.ts";
import {
  type DatagramBatch,
  type DatagramHost,
  type DatagramHostOptions,
  type DatagramOptions,
  type DatagramSocket,
  openDatagramHost,
} from "../datagram.ts";
import { openRing } from "../io_uring_linux.ts";
import { bindAll, libc, libcRefusal } from "../libc_linux.ts";

// Functions bind when they are first named, which the leak check would put down to the test that happened to name them.
bindAll();

/** What each behaviour is shown with. */
export interface Subject {
  readonly host: DatagramHost;
  readonly options: DatagramHostOptions;
  /** Gives the network, and the loop, the time until `done`; fails after five seconds. */
  until(done: () => boolean, what: string): Promise<void>;
}

export const LOOPBACK: SocketAddress = { family: "ipv4", address: "127.0.0.1", port: 0 };
export const LOOPBACK6: SocketAddress = { family: "ipv6", address: "::1", port: 0 };

async function subject(options: DatagramHostOptions): Promise<Subject> {
  const host = await openDatagramHost(options);
  return {
    host,
    options,
    until: async (done, what) => {
      const deadline = performance.now() + 5000;
      while (!done()) {
        if (performance.now() > deadline) throw new Error(`Cannot see ${what}: 5 s have passed`);
        if (options.wait === "thread") host.turn(10);
        await new Promise<void>((resolve) => setImmediate(resolve));
      }
    },
  };
}

export async function open(
  { host }: Subject,
  bind: SocketAddress = LOOPBACK,
  options: Partial<DatagramOptions> = {},
): Promise<DatagramSocket> {
  return await host.open({ bind, ...options });
}

/** Puts a datagram, or a run with `segment`, behind the entries of a batch. */
export function put(
  batch: DatagramBatch,
  to: SocketAddress,
  bytes: Uint8Array,
  segment = 0,
): void {
  const entry = batch.count++;
  const start = entry === 0 ? 0 : batch.starts[entry - 1]! + batch.lengths[entry - 1]!;
  batch.slab.bytes.set(bytes, start);
  batch.starts[entry] = start;
  batch.lengths[entry] = bytes.length;
  batch.segments[entry] = segment;
  writeAddress(batch.peers, entry * ADDRESS_BYTES, to);
}

/** Every datagram of a batch, runs cut. */
export function cut(batch: DatagramBatch): Uint8Array[] {
  const datagrams: Uint8Array[] = [];
  for (let i = 0; i < batch.count; i++) {
    const start = batch.starts[i]!;
    const end = start + batch.lengths[i]!;
    const step = batch.segments[i] || batch.lengths[i] || 1;
    let from = start;
    do {
      datagrams.push(batch.slab.bytes.slice(from, Math.min(from + step, end)));
      from += step;
    } while (from < end);
  }
  return datagrams;
}

/** Receives until `count` datagrams are there. */
export async function collect(
  { host, until }: Subject,
  socket: DatagramSocket,
  count: number,
  capacity = 16,
): Promise<{ datagrams: Uint8Array[]; peers: SocketAddress[]; locals: SocketAddress[] }> {
  const batch = host.createBatch(capacity, 65_536);
  const datagrams: Uint8Array[] = [];
  const peers: SocketAddress[] = [];
  const locals: SocketAddress[] = [];
  socket.watch(() => {});
  await until(() => {
    while (socket.receiveNow(batch) > 0) {
      datagrams.push(...cut(batch));
      for (let i = 0; i < batch.count; i++) {
        peers.push(readAddress(batch.peers, i * ADDRESS_BYTES));
        locals.push(readAddress(batch.locals, i * ADDRESS_BYTES));
      }
    }
    return datagrams.length >= count;
  }, `${count} datagrams`);
  return { datagrams, peers, locals };
}

export function pattern(length: number, salt = 0): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) + salt) & 255);
}

function row(options: DatagramHostOptions, missing: () => string): ContractDriver<Subject> {
  return { missing, open: () => subject(options), close: ({ host }) => host.close() };
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

/** Every way there is to wait for a datagram. */
export const DRIVERS: Readonly<Record<string, ContractDriver<Subject>>> = {
  "linux uring": row({ driver: "fast", reactor: "uring" }, noRing),
  "linux worker": row({ driver: "fast", reactor: "worker" }, noLibc),
  "linux thread": row({ driver: "fast", wait: "thread" }, noLibc),
  "node": row({ driver: "portable" }, () => ""),
};
