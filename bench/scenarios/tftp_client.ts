/**
 * The client that all servers are measured with: takes jobs as JSON lines, fetches into memory that is there already
 * (fresh pages would be most of the work), answers with times and the content's hash, taken after the clock stopped.
 *
 * @module
 */
import { createHash } from "node:crypto";
import process from "node:process";
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

/** The process that runs this file, seen from the one that started it. */
export class Client {
  readonly #process: Deno.ChildProcess;
  readonly #writer: WritableStreamDefaultWriter<Uint8Array>;
  readonly #reader: ReadableStreamDefaultReader<string>;
  #rest = "";

  private constructor(process: Deno.ChildProcess) {
    this.#process = process;
    this.#writer = process.stdin.getWriter();
    this.#reader = process.stdout.pipeThrough(new TextDecoderStream()).getReader();
  }

  /** Starts it. @param bytes The largest file it will be asked for. */
  static start(bytes: number): Client {
    const path = new URL(import.meta.url).pathname;
    return new Client(
      new Deno.Command(Deno.execPath(), {
        args: ["run", "-A", "--no-check", path, `${bytes}`],
        stdin: "piped",
        stdout: "piped",
      }).spawn(),
    );
  }

  /** Fetches one file. */
  async fetch(job: Job): Promise<Result> {
    await this.#writer.write(new TextEncoder().encode(JSON.stringify(job) + "\n"));
    for (;;) {
      const end = this.#rest.indexOf("\n");
      if (end >= 0) {
        const line = this.#rest.slice(0, end);
        this.#rest = this.#rest.slice(end + 1);
        return JSON.parse(line);
      }
      const { done, value } = await this.#reader.read();
      if (done) throw new Error("The client process ended");
      this.#rest += value;
    }
  }

  /** Ends it. */
  async stop(): Promise<void> {
    await this.#writer.close();
    await this.#process.status;
  }
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
  const before = process.cpuUsage();
  const summary = await client.receive(job.name, () => sink);
  const after = process.cpuUsage();
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
