/**
 * What a datagram costs through each driver, one way over the loopback: sent and received in the same process, in
 * nanoseconds per datagram (divide what is printed by the count in the name).
 *
 * `deno bench -A --no-check bench/micro/ffi_datagram_bench.ts`
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  type DatagramBatch,
  type DatagramHost,
  type DatagramSocket,
  openDatagramHost,
  writeAddress,
} from "@fastwire/net/ffi";

const PAYLOAD = 1432;

interface Lane {
  readonly host: DatagramHost;
  readonly from: DatagramSocket;
  readonly to: DatagramSocket;
  readonly out: DatagramBatch;
  readonly into: DatagramBatch;
}

async function lane(driver: "fast" | "portable", coalesce: boolean): Promise<Lane> {
  const host = await openDatagramHost({ driver });
  const bind = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;
  const from = await host.open({ bind });
  const to = await host.open({ bind, coalesce, receiveBufferBytes: 4 << 20 });
  const out = host.createBatch(64, PAYLOAD);
  const into = host.createBatch(coalesce ? 4 : 64, 65_536);
  for (let i = 0; i < 64; i++) writeAddress(out.peers, i * ADDRESS_BYTES, to.local);
  return { host, from, to, out, into };
}

function asBatch({ out }: Lane, count: number): void {
  for (let i = 0; i < count; i++) {
    out.starts[i] = i * PAYLOAD;
    out.lengths[i] = PAYLOAD;
    out.segments[i] = 0;
  }
  out.count = count;
}

function asRun({ out }: Lane, count: number): void {
  out.starts[0] = 0;
  out.lengths[0] = count * PAYLOAD;
  out.segments[0] = PAYLOAD;
  out.count = 1;
}

/** Sends what is in `out` and receives `count` datagrams of it. */
async function exchange({ from, to, out, into }: Lane, count: number): Promise<void> {
  from.send(out);
  for (let received = 0; received < count;) {
    let entries = to.receive(into);
    if (typeof entries !== "number") entries = await entries;
    for (let i = 0; i < entries; i++) {
      received += into.segments[i] === 0 ? 1 : Math.ceil(into.lengths[i]! / into.segments[i]!);
    }
  }
}

for (const driver of ["fast", "portable"] as const) {
  for (
    const [name, count, prepare, coalesce] of [
      ["one datagram", 1, asBatch, false],
      ["a batch of 32", 32, asBatch, false],
      ["a run of 32", 32, asRun, false],
      ["a run of 32, coalesced", 32, asRun, true],
    ] as const
  ) {
    if (driver === "portable" && coalesce) continue;
    Deno.bench({
      name: `${driver}: ${name} there`,
      group: name,
      fn: async (bench) => {
        // Bounded by the kernel's default receive buffer: nothing is lost, so nothing waits for ever.
        const made = await lane(driver, coalesce);
        prepare(made, count);
        bench.start();
        for (let i = 0; i < 20; i++) await exchange(made, count);
        bench.end();
        await made.host.close();
      },
    });
  }
}
