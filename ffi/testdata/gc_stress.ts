// Lets the kernel write to buffers whose addresses were taken long ago, while the collector runs as often as it can. Run
// with --v8-flags=--expose-gc,--stress-scavenge=100. Prints "ok" when every byte arrived where it should.
import { O_CLOEXEC, O_NONBLOCK } from "../constants_linux.ts";
import { requireLibc } from "../libc_linux.ts";
import { openReactor } from "../reactor_linux.ts";
import { IOVEC } from "../structs_linux.ts";
import { ThreadLoop } from "../thread_loop_linux.ts";

const { gc } = globalThis as unknown as { gc: () => void };
const library = requireLibc();

/** A buffer, and a table that holds its address: the shape of every batch. */
class Pinned {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly #table = new DataView(new ArrayBuffer(IOVEC.size));
  readonly tableAddress: bigint;

  constructor(size: number) {
    this.bytes = new Uint8Array(new ArrayBuffer(size));
    this.#table.setBigUint64(IOVEC.base, library.addressOf(this.bytes), true);
    this.#table.setBigUint64(IOVEC.len, BigInt(size), true);
    this.tableAddress = library.addressOf(this.#table);
  }
}

function churn(): void {
  const garbage: unknown[] = [];
  for (let i = 0; i < 200; i++) garbage.push(new Uint8Array(16 + i * 7), { i }, `${i}`);
  gc();
}

function fail(what: string): never {
  throw new Error(what);
}

async function main(): Promise<void> {
  const ends = new Int32Array(2);
  library.pipe2(ends, O_CLOEXEC | O_NONBLOCK);
  const sizes = [8, 16, 64, 100, 1500, 65_536];
  const pinned = Array.from({ length: 120 }, (_, i) => new Pinned(sizes[i % sizes.length]!));
  for (let round = 0; round < 5; round++) {
    churn();
    for (const [i, { bytes, tableAddress }] of pinned.entries()) {
      const value = (round * 31 + i) & 0xff;
      const sent = new Uint8Array(bytes.length).fill(value);
      if (library.write(ends[1]!, sent, BigInt(sent.length)) !== sent.length) fail("write");
      if (i % 16 === 0) churn();
      if (library.readv(ends[0]!, tableAddress, 1) !== sent.length) fail("readv");
      if (bytes.some((byte) => byte !== value)) fail(`round ${round}, buffer ${i}`);
    }
  }

  const loops = Array.from({ length: 20 }, () => new ThreadLoop());
  for (const loop of loops) {
    churn();
    let called = 0;
    const event = library.eventfd(1, 0);
    loop.watch(event, "read", () => called++);
    churn();
    if (loop.turn(0) !== 1 || called !== 1) fail("a callback of a loop was lost");
    library.close(event);
  }
  for (const loop of loops) await loop.close();

  const reactor = await openReactor();
  for (let i = 0; i < 30; i++) {
    const event = library.eventfd(0, 0);
    const called = new Promise<void>((resolve) => {
      const watch = reactor.watch(event, "read", () => {
        watch.cancel();
        resolve();
      });
    });
    churn();
    library.write(event, new BigUint64Array([1n]), 8n);
    await called;
    library.close(event);
  }
  await reactor.close();
  console.log("ok");
}
main();
