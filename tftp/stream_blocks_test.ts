import { deepEqual, equal, match, ok } from "node:assert/strict";
import { StreamBlocks } from "./stream_blocks.ts";
import { pattern, sum, until } from "./testdata/server_bench.ts";

async function* pieces(content: Uint8Array, size: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) {
    await Promise.resolve();
    yield content.subarray(at, at + size);
  }
}

/** Runs a stream to its end or failure. */
async function drained(blocks: StreamBlocks): Promise<{ bytes: Uint8Array; failure: unknown }> {
  let failure: unknown;
  blocks.start({ supplied: () => {}, failed: (error) => failure = error });
  const parts: number[] = [];
  let next = 1;
  await until(() => {
    while (next <= blocks.availableBlocks && failure === undefined) {
      const slab = new Uint8Array(100);
      parts.push(...slab.subarray(0, blocks.fill(slab, 0, next, 1, 100)));
      blocks.release(next++);
    }
    return failure !== undefined || blocks.lastBlock !== undefined && next > blocks.lastBlock;
  }, "the stream to end");
  blocks.close();
  return { bytes: Uint8Array.from(parts), failure };
}

Deno.test("StreamBlocks cuts a stream into blocks", async () => {
  for (const size of [0, 1, 99, 100, 101, 5000]) {
    const content = pattern(size);
    const { bytes, failure } = await drained(
      new StreamBlocks(pieces(content, 77), undefined, false, 100, 4),
    );
    equal(failure, undefined);
    equal(sum(bytes), sum(content));
  }
});

Deno.test("StreamBlocks holds a stream to the length it announced", async () => {
  const content = pattern(1000);
  const exact = await drained(new StreamBlocks(pieces(content, 300), 1000, false, 100, 20));
  equal(exact.failure, undefined);
  for (const announced of [999, 1001]) {
    const { failure } = await drained(
      new StreamBlocks(pieces(content, 300), announced, false, 100, 20),
    );
    ok(failure instanceof Error);
    match(failure.message, announced < 1000 ? /longer/ : /shorter/);
  }
});

Deno.test("StreamBlocks pulls no further than two windows ahead and lets the stream go", async () => {
  let pulled = 0;
  let ended = false;
  async function* endless(): AsyncGenerator<Uint8Array> {
    try {
      for (;;) {
        pulled++;
        yield await Promise.resolve(pattern(100));
      }
    } finally {
      ended = true;
    }
  }
  const blocks = new StreamBlocks(endless(), undefined, false, 100, 4);
  let supplies = 0;
  blocks.start({ supplied: () => supplies++, failed: () => {} });
  await until(() => blocks.availableBlocks === 8, "two windows");
  await Promise.resolve();
  equal(pulled, 8);
  equal(supplies, 8);
  blocks.release(2);
  await until(() => blocks.availableBlocks === 10, "two blocks more");
  deepEqual([blocks.sizeBytes, blocks.lastBlock], [undefined, undefined]);
  blocks.close();
  await until(() => ended, "the stream to be let go");
});

Deno.test("StreamBlocks tells of a stream that breaks, but not once it is closed", async () => {
  async function* broken(): AsyncGenerator<Uint8Array> {
    yield await Promise.resolve(pattern(10));
    throw new Error("torn");
  }
  const { failure } = await drained(new StreamBlocks(broken(), undefined, false, 100, 1));
  equal((failure as Error).message, "torn");
  const closed = new StreamBlocks(broken(), undefined, false, 100, 1);
  let told = false;
  closed.start({ supplied: () => {}, failed: () => told = true });
  closed.close();
  for (let i = 0; i < 5; i++) await Promise.resolve();
  equal(told, false);
});

Deno.test("StreamBlocks translates to netascii across pieces", async () => {
  const text = new TextEncoder().encode("a\nb\rc\n".repeat(50));
  const { bytes } = await drained(new StreamBlocks(pieces(text, 7), undefined, true, 100, 2));
  equal(new TextDecoder().decode(bytes), "a\r\nb\r\0c\r\n".repeat(50));
});
