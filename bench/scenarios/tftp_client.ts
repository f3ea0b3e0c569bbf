/**
 * The client that all servers are measured with: takes jobs as JSON lines, fetches into memory that is there already
 * (fresh pages would be most of the work), answers with times and the content's hash, taken after the clock stopped.
 *
 * @module
 */
import { createHash } from "node:crypto";
import { type BlockSink, connect } from "@fastwire/net/tftp";

/** What to fetch. */
export interface Job {
  readonly server: string;
  readonly name: string;
  readonly blockSize: number;
  readonly windowSize: number;
}

/** How it went. */
export interface Result {
  readonly bytes: number;
  readonly durationMs: number;
  readonly blockSize: number;
  readonly windowSize: number;
  readonly retransmits: number;
  readonly timeouts: number;
  readonly sha256: string;
  /** CPU seconds of this process meanwhile. */
  readonly cpuSeconds: number;
  readonly error?: string;
}

/** Content in a buffer that is used again and again. */
class BufferSink implements BlockSink {
  readonly #buffer: Uint8Array;
  length = 0;

  constructor(buffer: Uint8Array) {
    this.#buffer = buffer;
  }

  append(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    pieceBytes: number,
    strideBytes: number,
    length: number,
  ): void {
    for (let done = 0; done < length; done += pieceBytes, start += strideBytes) {
      const end = start + Math.min(pieceBytes, length - done);
      this.#buffer.set(bytes.subarray(start, end), this.length + done);
    }
    this.length += length;
  }

  commit(): void {}

  discard(): void {}
}

async function run(job: Job, buffer: Uint8Array): Promise<Result> {
  await using client = await connect(job.server, {
    blockSize: job.blockSize,
    windowSize: job.windowSize,
    wait: "thread",
  });
  const sink = new BufferSink(buffer);
  const before = Deno.cpuUsage();
  const summary = await client.receive(job.name, () => sink);
  const after = Deno.cpuUsage();
  const cpu = after.user + after.system - before.user - before.system;
  return {
    bytes: summary.bytes,
    durationMs: summary.durationMs,
    blockSize: summary.blockSize,
    windowSize: summary.windowSize,
    retransmits: summary.retransmits,
    timeouts: summary.timeouts,
    sha256: createHash("sha256").update(buffer.subarray(0, sink.length)).digest("hex"),
    cpuSeconds: cpu / 1e6,
  };
}

if (import.meta.main) {
  const buffer = new Uint8Array(Number(Deno.args[0])).fill(1);
  const lines = Deno.stdin.readable.pipeThrough(new TextDecoderStream());
  let rest = "";
  for await (const text of lines) {
    const parts = (rest + text).split("\n");
    rest = parts.pop()!;
    for (const line of parts) {
      let answer: unknown;
      try {
        answer = await run(JSON.parse(line), buffer);
      } catch (error) {
        answer = { error: String(error) };
      }
      console.log(JSON.stringify(answer));
    }
  }
}
