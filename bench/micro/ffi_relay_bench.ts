/**
 * What a relay costs through each driver, over the loopback with both outer ends in this process: an exchange of pieces
 * of one size, and a run of 16 MiB one way. The outer ends cost the same in every row.
 *
 * To be read with care: the portable rows have both ends and the relay on one thread, which never sleeps during an
 * exchange; the relay thread is woken for every piece, which costs what waking another process costs. What a relay adds
 * between processes is the business of the proxy's scenarios.
 *
 * `deno bench -A --no-check bench/micro/ffi_relay_bench.ts`
 *
 * @module
 */
import {
  openRelayHost,
  openStreamHost,
  type RelayHost,
  STREAM_FAILED,
  type StreamConnection,
  type StreamHost,
} from "@fastwire/net/ffi";

interface Lane {
  readonly client: StreamConnection;
  readonly server: StreamConnection;
  readonly bytes: Uint8Array<ArrayBuffer>;
  close(): Promise<void>;
}

const BIND = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;

/** Rows: the streams in the middle, and who relays between them. */
const ROWS = [
  ["no relay", "fast", undefined],
  ["linux", "fast", "fast"],
  ["portable over linux", "fast", "portable"],
  ["portable over deno", "portable", "portable"],
] as const;

async function lane(
  streams: "fast" | "portable",
  driver: "fast" | "portable" | undefined,
  size: number,
): Promise<Lane> {
  const outer = await openStreamHost();
  const host = await openStreamHost({ driver: streams });
  const upstream = await outer.listen({ bind: BIND });
  const entry = driver === undefined ? upstream : await host.listen({ bind: BIND });
  const client = await outer.connect({ remote: entry.local });
  let relays: RelayHost | undefined;
  if (driver !== undefined) relays = await joined(host, driver, entry, upstream);
  const server = await upstream.accept();
  return {
    client,
    server: server!,
    bytes: new Uint8Array(new ArrayBuffer(size)),
    close: async () => {
      await relays?.close();
      await host.close();
      await outer.close();
    },
  };
}

async function joined(
  host: StreamHost,
  driver: "fast" | "portable",
  entry: Awaited<ReturnType<StreamHost["listen"]>>,
  upstream: Awaited<ReturnType<StreamHost["listen"]>>,
): Promise<RelayHost> {
  const relays = await openRelayHost(host, { driver });
  const first = await entry.accept();
  relays.start(first!, await host.connect({ remote: upstream.local }));
  return relays;
}

async function pass(
  from: StreamConnection,
  to: StreamConnection,
  bytes: Uint8Array<ArrayBuffer>,
  total: number,
): Promise<void> {
  const sending = (async () => {
    for (let sent = 0; sent < total; sent += bytes.length) {
      const taken = from.send(bytes, 0, bytes.length);
      if ((typeof taken === "number" ? taken : await taken) === STREAM_FAILED) return;
    }
  })();
  for (let at = 0; at < total;) {
    let count = to.discard(total - at);
    if (typeof count !== "number") count = await count;
    if (count <= 0) throw new Error(`Cannot pass ${total} bytes: the stream ended after ${at}`);
    at += count;
  }
  await sending;
}

for (const size of [64, 4096, 16_384, 65_536]) {
  for (const [name, streams, driver] of ROWS) {
    Deno.bench({
      name: `${name}: ${size} bytes there and back`,
      group: `${size} bytes`,
      n: 5,
      fn: async (bench) => {
        const { client, server, bytes, close } = await lane(streams, driver, size);
        bench.start();
        for (let i = 0; i < 100; i++) {
          await pass(client, server, bytes, size);
          await pass(server, client, bytes, size);
        }
        bench.end();
        await close();
      },
    });
  }
}

for (const [name, streams, driver] of ROWS) {
  Deno.bench({
    name: `${name}: 16 MiB one way`,
    group: "16 MiB",
    n: 5,
    fn: async (bench) => {
      const { client, server, bytes, close } = await lane(streams, driver, 1 << 18);
      bench.start();
      await pass(client, server, bytes, 16 << 20);
      bench.end();
      await close();
    },
  });
}
