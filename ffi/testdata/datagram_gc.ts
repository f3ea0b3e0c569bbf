// Sends and receives while the collector runs all the time: buffers the kernel has addresses of must neither move nor go.
// Run with --v8-flags=--expose-gc,--stress-scavenge=50. Prints how many datagrams came back right.
import { ADDRESS_BYTES, copyAddress, writeAddress } from "../address.ts";
import { openDatagramHost } from "../datagram.ts";

const { gc } = globalThis as unknown as { gc: () => void };

async function main(): Promise<void> {
  let right = 0;
  for (let life = 0; life < 6; life++) {
    const host = await openDatagramHost({ driver: "fast", wait: "thread" });
    const bind = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;
    const [a, b] = [await host.open({ bind }), await host.open({ bind, coalesce: life % 2 === 1 })];
    // Small ones, which live where the collector moves things unless they are pinned.
    const out = host.createBatch(4, 16);
    const into = host.createBatch(4, 65_536);
    for (let round = 0; round < 20; round++) {
      for (let i = 0; i < 4; i++) {
        out.slab.bytes.fill(round + i, out.slab.startOf(i), out.slab.startOf(i) + 16);
        out.lengths[i] = 16;
        writeAddress(out.peers, i * ADDRESS_BYTES, b.local);
      }
      out.count = 4;
      const litter: Uint8Array[] = [];
      for (let i = 0; i < 200; i++) litter.push(new Uint8Array(i));
      gc();
      a.send(out);
      for (let got = 0; got < 4; got += into.count) {
        if (b.receiveNow(into) === 0) break;
        for (let i = 0; i < into.count; i++) {
          const start = into.starts[i]!;
          const value = round + got + i;
          const bytes = into.slab.bytes.subarray(start, start + into.lengths[i]!);
          if (bytes.length === 16 && bytes.every((byte) => byte === value)) right++;
          copyAddress(into.peers, i * ADDRESS_BYTES, out.peers, i * ADDRESS_BYTES);
        }
      }
    }
    await host.close();
  }
  console.log(right);
}

main();
