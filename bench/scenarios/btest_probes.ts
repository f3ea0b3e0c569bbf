/**
 * Measurements of the bandwidth test's server by a client written out by hand: how soon data flows once the last
 * connection has joined, and whether what flows is what it should be, byte for byte.
 *
 * @module
 */
import {
  COMMAND_BYTES,
  encodeCommand,
  encodeJoin,
  readWordToken,
  WORD_BYTES,
} from "@fastwire/net/btest/protocol";
import { percentile } from "./harness.ts";

const HOST = "127.0.0.1";
/** Tests whose start is not counted: both sides warm up. */
const WARM_UP = 60;

/** Microseconds from sending the last join to the first byte of data, on whichever connection it comes. */
export async function joinLatency(
  port: number,
  connections: number,
  tests: number,
): Promise<{ readonly p50: number; readonly p99: number }> {
  const samples: number[] = [];
  for (let test = 0; test < WARM_UP + tests; test++) {
    const took = await joinOnce(port, connections);
    if (test >= WARM_UP) samples.push(took);
  }
  return { p50: percentile(samples, 0.5), p99: percentile(samples, 0.99) };
}

async function joinOnce(port: number, connections: number): Promise<number> {
  const first = await Deno.connect({ hostname: HOST, port });
  const all = [first];
  try {
    // A trickle: the server's processor time is not what is asked for.
    const { token } = await begin(first, { direction: "receive", connections, rate: 1_000_000 });
    for (let i = 1; i < connections; i++) {
      const one = await Deno.connect({ hostname: HOST, port });
      one.setNoDelay();
      all.push(one);
      await read(one, WORD_BYTES);
    }
    const join = new Uint8Array(COMMAND_BYTES);
    encodeJoin(join, 0, token);
    for (const one of all.slice(1, -1)) await one.write(join);
    const arrival = Promise.race(all.map(async (one) => {
      await one.read(new Uint8Array(64)).catch(() => null);
      return performance.now();
    }));
    const sent = performance.now();
    await all.at(-1)!.write(join);
    return (await arrival - sent) * 1000;
  } finally {
    for (const one of all) one.close();
  }
}

/**
 * Receives and compares every byte; then sends, with `told` saying how many of them the server counted.
 *
 * @throws {Error} When a byte is not what it should be, or one is missing.
 */
export async function contents(
  port: number,
  bytes: number,
  told: (direction: "transmit") => Promise<{ readonly rx_bytes: number }>,
): Promise<void> {
  for (const random of [false, true]) {
    const connection = await Deno.connect({ hostname: HOST, port });
    await begin(connection, { direction: "receive", connections: 1, rate: 0, random });
    await compare(connection, bytes, random);
    connection.close();
  }
  const connection = await Deno.connect({ hostname: HOST, port });
  await begin(connection, { direction: "transmit", connections: 1, rate: 0 });
  const piece = new Uint8Array(1 << 18);
  for (let left = bytes; left > 0;) {
    left -= await connection.write(piece.subarray(0, Math.min(piece.length, left)));
  }
  await connection.closeWrite();
  const { rx_bytes } = await told("transmit");
  connection.close();
  if (rx_bytes !== bytes) {
    throw new Error(`${bytes} bytes were sent, the server counted ${rx_bytes}`);
  }
}

/** Zeros are zeros; random payload repeats, and is not zeros. */
async function compare(connection: Deno.Conn, bytes: number, random: boolean): Promise<void> {
  const first = new Uint8Array(random ? REPEATS_AFTER : 1 << 16);
  for (let filled = 0; random && filled < first.length;) {
    filled += await connection.read(first.subarray(filled)) ?? 0;
  }
  const buffer = new Uint8Array(first.length);
  for (let done = 0; done < bytes; done += buffer.length) {
    for (let filled = 0; filled < buffer.length;) {
      const count = await connection.read(buffer.subarray(filled));
      if (count === null) throw new Error("The server ended the test");
      filled += count;
    }
    const words = new BigUint64Array(buffer.buffer), expected = new BigUint64Array(first.buffer);
    const wrong = words.findIndex((word, at) => word !== expected[at]);
    if (wrong >= 0) throw new Error(`A byte near ${done + wrong * 8} is not what it should be`);
  }
  if (random && first.every((byte) => byte === 0)) throw new Error("Random payload is zeros");
}

/** Says what is wanted and reads the answer. */
async function begin(
  connection: Deno.TcpConn,
  { direction, connections, rate, random = false }: {
    readonly direction: "receive" | "transmit";
    readonly connections: number;
    readonly rate: number;
    readonly random?: boolean;
  },
): Promise<{ readonly token: number }> {
  connection.setNoDelay();
  await read(connection, WORD_BYTES);
  const command = new Uint8Array(COMMAND_BYTES);
  encodeCommand(command, 0, {
    protocol: "tcp",
    direction,
    randomData: random,
    connections,
    txSize: 0,
    clientBufferSize: 0,
    remoteTxSpeed: rate,
    localTxSpeed: rate,
  });
  await connection.write(command);
  return { token: readWordToken(await read(connection, WORD_BYTES), 0) };
}

async function read(connection: Deno.Conn, bytes: number): Promise<Uint8Array> {
  const buffer = new Uint8Array(bytes);
  for (let filled = 0; filled < bytes;) {
    const count = await connection.read(buffer.subarray(filled));
    if (count === null) throw new Error("The server closed the connection");
    filled += count;
  }
  return buffer;
}

/** Bytes after which random payload repeats itself: `btest/data_planes.ts`. */
const REPEATS_AFTER = 262_144;
