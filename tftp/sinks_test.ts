import { deepEqual, equal, rejects, throws } from "node:assert/strict";
import { FunctionSink, MemorySink, PositionedWriter, StoreSink } from "./sinks.ts";
import { TftpRefusal } from "./refusal.ts";
import { pattern, sum, until } from "./testdata/server_bench.ts";

const encoder = new TextEncoder();

/** Appends content as a batch of slots would hold it: pieces with gaps. */
function append(
  sink: { append: MemorySink["append"] },
  content: Uint8Array,
  piece: number,
  stride: number,
): void {
  const pieces = Math.ceil(content.length / piece);
  const slab = new Uint8Array(Math.max(1, pieces) * stride + 4).fill(0xdd);
  for (let k = 0; k < pieces; k++) {
    slab.set(content.subarray(k * piece, (k + 1) * piece), 4 + k * stride);
  }
  sink.append(slab, 4, piece, stride, content.length);
}

Deno.test("MemorySink gathers pieces that lie apart", () => {
  const sink = new MemorySink(false, 10, 10_000);
  const content = pattern(3050);
  append(sink, content.subarray(0, 1000), 100, 164);
  append(sink, content.subarray(1000, 1050), 50, 50);
  append(sink, content.subarray(1050), 500, 504);
  sink.commit();
  equal(sum(sink.content), sum(content));
});

Deno.test("MemorySink keeps to its limit", () => {
  const sink = new MemorySink(false, 1_000_000, 100);
  append(sink, pattern(100), 100, 100);
  throws(() => append(sink, pattern(1), 1, 1), RangeError);
  equal(sink.content.length, 100);
});

Deno.test("MemorySink makes room beforehand without showing it", () => {
  const sink = new MemorySink(false, 0, 1000);
  sink.expect(500);
  equal(sink.content.length, 0);
  append(sink, pattern(20), 20, 20);
  equal(sink.content.length, 20);
});

Deno.test("MemorySink translates netascii across pieces and keeps a last CR", () => {
  for (const piece of [1, 2, 3, 7]) {
    const sink = new MemorySink(true, 10, 1000);
    append(sink, encoder.encode("a\r\nb\r\0c\r"), piece, piece + 5);
    sink.commit();
    equal(new TextDecoder().decode(sink.content), "a\nb\rc\r", `pieces of ${piece}`);
  }
});

Deno.test("FunctionSink hands pieces over in order, one at a time", async () => {
  const seen: string[] = [];
  let inside = 0;
  const sink = new FunctionSink(async (piece) => {
    equal(++inside, 1);
    await Promise.resolve();
    seen.push(piece === undefined ? "end" : new TextDecoder().decode(piece));
    inside--;
  });
  for (const text of ["one", "two", "three"]) append(sink, encoder.encode(text), 3, 10);
  await sink.commit();
  deepEqual(seen, ["one", "two", "three", "end"]);
});

Deno.test("FunctionSink gives pieces away for good", async () => {
  const kept: Uint8Array[] = [];
  const sink = new FunctionSink((piece) => void (piece !== undefined && kept.push(piece)));
  const slab = encoder.encode("first");
  sink.append(slab, 0, 5, 5, 5);
  slab.fill(0xdd);
  await sink.commit();
  equal(new TextDecoder().decode(kept[0]), "first");
});

Deno.test("FunctionSink fails the next append and the commit when the function failed", async () => {
  const sink = new FunctionSink(() => {
    throw new Error("no room");
  });
  append(sink, pattern(5), 5, 5);
  await until(() => {
    try {
      append(sink, pattern(5), 5, 5);
      return false;
    } catch (error) {
      return (error as Error).message === "no room";
    }
  }, "the failure");
  await rejects(sink.commit(), /no room/);
});

Deno.test("FunctionSink says when it is behind and when it has room again", async () => {
  let release: () => void = () => {};
  let first = true;
  const sink = new FunctionSink(() => {
    if (!first) return;
    first = false;
    return new Promise<void>((resolve) => release = resolve);
  });
  let rooms = 0;
  sink.onRoom = () => rooms++;
  const megabyte = new Uint8Array(1_048_576);
  for (let i = 0; i < 8; i++) {
    sink.append(megabyte, 0, megabyte.length, megabyte.length, megabyte.length);
  }
  equal(sink.congested, false);
  sink.append(megabyte, 0, 1, 1, 1);
  equal(sink.congested, true);
  await Promise.resolve();
  equal(rooms, 0);
  release();
  await sink.commit();
  deepEqual([rooms, sink.congested], [1, false]);
});

Deno.test("FunctionSink hands nothing over once it is discarded", async () => {
  const seen: unknown[] = [];
  const sink = new FunctionSink((piece) => void seen.push(piece));
  append(sink, pattern(5), 5, 5);
  sink.discard();
  for (let i = 0; i < 5; i++) await Promise.resolve();
  deepEqual(seen, []);
});

Deno.test("StoreSink compares what came with what was announced", async () => {
  const calls: string[] = [];
  const target = {
    name: "up",
    expect: () => {},
    write: () => {},
    writePieces: () => {},
    commit: () => void calls.push("commit"),
    discard: () => void calls.push("discard"),
  };
  const options = { announced: 10, rejectMismatch: true, netascii: false };
  const wrong = new StoreSink(target, options);
  append(wrong, pattern(9), 9, 9);
  throws(() => wrong.commit(), TftpRefusal);
  wrong.discard();
  const right = new StoreSink(target, options);
  append(right, pattern(10), 10, 10);
  await right.commit();
  const lenient = new StoreSink(target, { ...options, rejectMismatch: false });
  await lenient.commit();
  deepEqual(calls, ["discard", "commit", "commit"]);
});

Deno.test("PositionedWriter writes each byte once, at its place", () => {
  const bytes = new Uint8Array(100).fill(0xdd);
  const writer = new PositionedWriter({
    writePieces: (from, start, piece, stride, length, position) => {
      for (let done = 0; done < length; done++) {
        bytes[position + done] = from[start + Math.floor(done / piece) * stride + done % piece]!;
      }
    },
    write: () => {},
  }, false);
  append(writer, pattern(60), 16, 20);
  append(writer, pattern(40, 2), 40, 40);
  deepEqual([writer.position, writer.received], [100, 100]);
  equal(sum(bytes), sum(Uint8Array.of(...pattern(60), ...pattern(40, 2))));
});
