import { deepEqual, equal, throws } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import {
  type BlockSource,
  FileBlocks,
  NetasciiBlocks,
  QueuedBlocks,
  translated,
} from "./blocks.ts";
import { netasciiLength } from "./protocol/mod.ts";
import { MemorySource } from "./store_memory.ts";
import { lines, pattern, sum } from "./testdata/server_bench.ts";

const STRIDE_EXTRA = 4;

/** Blocks `first` to `first + count − 1` as one piece of content, holes removed. */
function taken(source: BlockSource, blockSize: number, first: number, count: number): Uint8Array {
  const stride = blockSize + STRIDE_EXTRA;
  const slab = new Uint8Array(count * stride + 8).fill(0xdd);
  const length = source.fill(slab, 4, first, count, stride);
  const content = new Uint8Array(length);
  for (let k = 0, done = 0; done < length; k++) {
    const piece = slab.subarray(
      4 + k * stride,
      4 + k * stride + Math.min(blockSize, length - done),
    );
    content.set(piece, done);
    done += piece.length;
  }
  return content;
}

Deno.test("FileBlocks ends with a short block, an empty one when the size is a multiple", () => {
  for (const [size, last] of [[0, 1], [1, 1], [99, 1], [100, 2], [101, 2], [200, 3]] as const) {
    const blocks = new FileBlocks(new MemorySource(pattern(size)), 100);
    deepEqual([blocks.lastBlock, blocks.availableBlocks, blocks.sizeBytes], [last, last, size]);
    equal(sum(taken(blocks, 100, 1, last)), sum(pattern(size)));
    equal(taken(blocks, 100, last + 1, 1).length, 0);
  }
});

Deno.test("FileBlocks fills any window again and leaves the holes alone", () => {
  const content = pattern(1050);
  const blocks = new FileBlocks(new MemorySource(content), 100);
  deepEqual(taken(blocks, 100, 4, 3), content.subarray(300, 600));
  deepEqual(taken(blocks, 100, 4, 3), content.subarray(300, 600));
  const slab = new Uint8Array(2 * 104).fill(0xdd);
  blocks.fill(slab, 4, 1, 2, 104);
  deepEqual([...slab.subarray(104, 108)], [0xdd, 0xdd, 0xdd, 0xdd]);
});

Deno.test("FileBlocks needs a size", () => {
  const source = { sizeBytes: undefined, readPieces: () => 0, close: () => {} };
  throws(() => new FileBlocks(source, 100), TypeError);
});

Deno.test("QueuedBlocks keeps what was not released, however it comes and goes", () => {
  const seed = Date.now() % 1_000_007;
  const random = seededRandom(seed);
  const content = pattern(60_000);
  let closed = 0;
  const queue = new QueuedBlocks(100, 4, () => closed++);
  let pushed = 0;
  let released = 0;
  while (released < 600) {
    const length = Math.min(random.u32() % 700, content.length - pushed);
    queue.push(content, pushed, pushed + length);
    pushed += length;
    if (pushed === content.length) queue.end();
    const last = queue.availableBlocks;
    const first = released + 1;
    const count = Math.min(last - released, 8);
    const come = taken(queue, 100, first, count);
    const wanted = content.subarray(released * 100, Math.min(pushed, (released + count) * 100));
    equal(sum(come), sum(wanted), `seed ${seed}`);
    released = Math.min(600, released + random.u32() % (count + 1));
    queue.release(released);
    queue.release(released - 1);
    equal(queue.queuedBytes, Math.max(0, pushed - released * 100), `seed ${seed}`);
  }
  deepEqual([queue.sizeBytes, queue.lastBlock], [60_000, 601]);
  equal(taken(queue, 100, 601, 1).length, 0);
  queue.close();
  queue.close();
  equal(closed, 1);
});

Deno.test("NetasciiBlocks translates ahead of the window and repeats the same bytes", () => {
  const content = lines(50_000);
  const length = netasciiLength(content, 0, content.length);
  const whole = MemorySource.netascii(content, length);
  const expected = new Uint8Array(length);
  whole.readPieces(expected, 0, length, length, length, 0);
  const blocks = new NetasciiBlocks(new MemorySource(content), 512, 4);
  const parts: number[] = [];
  for (let base = 1; blocks.lastBlock === undefined || base <= blocks.lastBlock; base += 4) {
    const count = Math.min(4, (blocks.lastBlock ?? Infinity) - base + 1);
    const once = taken(blocks, 512, base, count);
    equal(sum(taken(blocks, 512, base, count)), sum(once));
    parts.push(...once);
    blocks.release(base + count - 1);
  }
  equal(blocks.sizeBytes, length);
  equal(sum(Uint8Array.from(parts)), sum(expected));
});

Deno.test("NetasciiBlocks closes its source once", () => {
  let closed = 0;
  const source = { sizeBytes: 0, readPieces: () => 0, close: () => closed++ };
  const blocks = new NetasciiBlocks(source, 512, 1);
  equal(blocks.lastBlock, 1);
  blocks.close();
  blocks.close();
  equal(closed, 1);
});

Deno.test("translated() makes text of small content and closes it, and leaves large content alone", () => {
  let closed = 0;
  const small = new MemorySource(new TextEncoder().encode("a\nb\r"));
  const counted = {
    sizeBytes: small.sizeBytes,
    readPieces: small.readPieces.bind(small),
    close: () => closed++,
  };
  const text = translated(counted);
  const bytes = new Uint8Array(10);
  const length = text.readPieces(bytes, 0, 10, 10, 10, 0);
  equal(new TextDecoder().decode(bytes.subarray(0, length)), "a\r\nb\r\0");
  deepEqual([text.sizeBytes, closed], [6, 1]);
  const large = { ...counted, sizeBytes: 1_048_577 };
  equal(translated(large), large);
  equal(closed, 1);
});
