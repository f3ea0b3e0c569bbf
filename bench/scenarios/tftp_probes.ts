/**
 * Two measurements that need a client of their own: the first reply's latency, and many clients at once.
 *
 * @module
 */
import { createHash } from "node:crypto";
import {
  addressLength,
  type DatagramBatch,
  openDatagramHost,
  writeAddress,
} from "@fastwire/net/ffi";
import { type BlockSink, connect } from "@fastwire/net/tftp";
import { encodeError, encodeRequest } from "@fastwire/net/tftp/protocol";
import { percentile } from "./harness.ts";

/** Requests per server. */
const REQUESTS = 2000;
/** Requests that are not counted: both sides warm up. */
const WARM_UP = 200;

/**
 * Microseconds from a request to the options acknowledgement, one request at a time, the servers in turn. The answer is
 * refused each time (ERROR 8), as firmware does that only wants the size.
 */
export async function firstReplies(
  servers: readonly { readonly name: string; readonly port: number }[],
  host: string,
): Promise<Record<string, { p50: number; p99: number }>> {
  await using sockets = await openDatagramHost({ driver: "fast", wait: "thread" });
  const out = sockets.createBatch(1, 2048);
  const incoming = sockets.createBatch(4, 2048);
  const samples = new Map<string, number[]>(servers.map(({ name }) => [name, []]));
  for (let i = 0; i < WARM_UP + REQUESTS; i++) {
    for (const { name, port } of servers) {
      if (name.includes("portable") && i > WARM_UP + 200) continue;
      const socket = await sockets.open({
        bind: { family: "ipv4", address: host, port: 0 },
      });
      let arrived = 0;
      socket.watch(() => {
        if (socket.receiveNow(incoming) > 0) arrived = performance.now();
      });
      const end = encodeRequest(out.slab.bytes, 0, {
        operation: "read",
        filename: "small",
        mode: "octet",
        options: [["tsize", "0"], ["blksize", "1428"]],
      });
      writeAddress(out.peers, 0, { family: "ipv4", address: host, port });
      const sent = performance.now();
      sendOne(socket, out, end);
      // Never asleep: how fast this process wakes up is not the question.
      while (arrived === 0 && performance.now() - sent < 2000) sockets.turn(0);
      if (arrived === 0) throw new Error(`${name} does not answer`);
      if (i >= WARM_UP) samples.get(name)!.push((arrived - sent) * 1000);
      for (let k = 0; k < addressLength(incoming.peers, 0); k++) {
        out.peers.setUint8(k, incoming.peers.getUint8(k));
      }
      sendOne(socket, out, encodeError(out.slab.bytes, 0, 8, "enough"));
      await socket.close();
    }
  }
  return Object.fromEntries(
    [...samples].map(([name, values]) => [
      name,
      { p50: percentile(values, 0.5), p99: percentile(values, 0.99) },
    ]),
  );
}

function sendOne(
  socket: { send(batch: DatagramBatch): number },
  batch: DatagramBatch,
  length: number,
): void {
  batch.count = 1;
  batch.lengths[0] = length;
  socket.send(batch);
}

/** Fetches the file `10m` fifty times at once, at two windows, and checks every copy. */
export async function manyClients(
  port: number,
  host: string,
  expected: string,
): Promise<{ window: number; megabytesPerSecond: number; timeouts: number }[]> {
  const results = [];
  for (const window of [1, 16]) {
    const started = performance.now();
    await using client = await connect(`${host}:${port}`, {
      blockSize: 1428,
      windowSize: window,
      wait: "thread",
      // Fifty buffers of the default size would be the test of another thing.
      receiveBufferBytes: 1 << 20,
    });
    const summaries = await Promise.all(
      Array.from({ length: 50 }, async () => {
        const sink = new HashSink();
        const summary = await client.receive("10m", () => sink);
        if (sink.digest !== expected) throw new Error("a client got other bytes");
        return summary;
      }),
    );
    const seconds = (performance.now() - started) / 1000;
    results.push({
      window,
      megabytesPerSecond: summaries.reduce((sum, one) => sum + one.bytes, 0) / 1e6 / seconds,
      timeouts: summaries.reduce((sum, one) => sum + one.timeouts, 0),
    });
  }
  return results;
}

/** Content that only leaves its hash. */
class HashSink implements BlockSink {
  readonly #hash = createHash("sha256");
  digest = "";

  append(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
  ): void {
    for (let done = 0; done < length; done += pieceBytes, start += strideBytes) {
      this.#hash.update(bytes.subarray(start, start + Math.min(pieceBytes, length - done)));
    }
  }

  commit(): void {
    this.digest = this.#hash.digest("hex");
  }

  discard(): void {}
}
