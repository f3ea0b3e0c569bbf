/**
 * A relay: clients that are not allowed to reach the server ask this one, which fetches and stores on their behalf.
 * Content streams through; nothing is kept, and a slow client slows the fetch instead of filling memory.
 *
 *     deno run --allow-net --allow-ffi examples/tftp_relay.ts
 */
import { PeerError } from "@fastwire/net/ffi";
import { connect, get, MemoryStore, put, serve, TftpRefusal } from "@fastwire/net/tftp";

// The server behind, usually somewhere else.
const store = new MemoryStore({
  files: { "firmware.bin": crypto.getRandomValues(new Uint8Array(60_000)) },
  write: { enabled: true, allowedPatterns: ["configs/*"] },
});
await using behind = await serve({ store, listen: ["127.0.0.1:0"] });
await using upstream = await connect(`127.0.0.1:${behind.addresses[0]!.port}`, { windowSize: 32 });

await using relay = await serve({
  store: new MemoryStore(),
  listen: ["127.0.0.1:0"],
  async onRead({ filename, mode, signal }) {
    const size = await asUpstreamSays(() => upstream.stat(filename, { signal }));
    const stream = upstream.read(filename, { mode });
    return size === undefined ? { stream } : { stream, size };
  },
  onWrite({ filename, mode }) {
    const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>();
    const writer = writable.getWriter();
    const stored = asUpstreamSays(async () => {
      await upstream.put(filename, { stream: readable }, { mode });
    });
    // Whoever writes learns of a failure; until then nobody is listening.
    stored.catch((reason) => writer.abort(reason)).catch(() => {});
    return async (piece) => {
      if (piece !== undefined) return await Promise.race([writer.write(piece), stored]);
      // The client's last acknowledgement waits for the server's.
      await writer.close();
      await stored;
    };
  },
});

const base = `tftp://127.0.0.1:${relay.addresses[0]!.port}`;
const fetched = await get(`${base}/firmware.bin`);
const original = store.get("firmware.bin")!;
console.log(
  `fetched ${fetched.length} bytes, ${
    fetched.every((byte, at) => byte === original[at]) ? "equal" : "different"
  }`,
);
await put(`${base}/configs/router1.cfg`, new TextEncoder().encode("hostname router1\n"));
console.log(`stored ${store.names.at(-1)}`);
await get(`${base}/missing.bin`).catch((error: PeerError) => console.log(`missing: ${error.code}`));
await put(`${base}/passwd`, fetched).catch((error: PeerError) => console.log(`bad: ${error.code}`));

/** Hands on what the server behind answered, instead of an internal error. */
async function asUpstreamSays<T>(job: () => Promise<T>): Promise<T> {
  try {
    return await job();
  } catch (error) {
    if (!(error instanceof PeerError)) throw error;
    throw new TftpRefusal(error.peerCode, error.peerMessage, { cause: error });
  }
}
