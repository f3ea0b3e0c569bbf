/** The same conversation on every driver gives the same bytes. */
import { deepEqual, equal, ok } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import { ack, data, error, oack, type RawPeer, request } from "./testdata/raw_peer.ts";
import { type Bench, EVERY_ROW, lines, pattern } from "./testdata/server_bench.ts";

const SEED = Number(Deno.env.get("FASTWIRE_SEED") ?? 20_261);
const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };

/** What was said, in order. */
class Transcript {
  readonly lines: string[] = [];
  readonly peer: RawPeer;

  constructor(peer: RawPeer) {
    this.peer = peer;
  }

  say(bytes: Uint8Array, to = this.peer.to): void {
    this.lines.push(`> ${hex(bytes)}`);
    this.peer.send(bytes, to);
  }

  async hear(): Promise<Uint8Array> {
    const { bytes, from } = await this.peer.receive();
    this.peer.to = from;
    this.lines.push(`< ${hex(bytes)}`);
    return bytes;
  }
}

function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/** Forty conversations with a server, chosen by the seed. */
async function withServer(bench: Bench): Promise<string[]> {
  const random = seededRandom(SEED);
  const pick = (n: number): number => random.u32() % n;
  for (let i = 0; i < 6; i++) {
    const size = [0, 1, 512, 1024, 3001, 20_000][i]!;
    bench.file(`file${i}`, i % 2 === 0 ? pattern(size, i) : lines(size));
  }
  bench.still = true;
  const { to } = await bench.serve({ write: ANY });
  const transcript = new Transcript(await bench.peer(to));
  for (let i = 0; i < 40; i++) {
    const options: string[] = [];
    const blockSize = [512, 8 + pick(1400), 1024][pick(3)]!;
    const windowSize = [1, 1 + pick(8)][pick(2)]!;
    if (blockSize !== 512) options.push(`blksize=${blockSize}`);
    if (windowSize !== 1) options.push(`windowsize=${windowSize}`);
    if (pick(2) === 0) options.push("tsize=0");
    if (pick(3) === 0) options.push("timeout=7");
    if (pick(3) === 0) options.push("unknown=x");
    const mode = pick(3) === 0 ? "netascii" : "octet";
    const answered = options.some((option) => !option.startsWith("unknown"));
    if (pick(4) === 0) {
      transcript.say(request("read", `missing${i}`, options, mode), to);
      await transcript.hear();
    } else if (pick(3) > 0) {
      transcript.say(request("read", `file${pick(6)}`, options, mode), to);
      await reads(transcript, blockSize, windowSize, answered, pick);
    } else {
      const put = options.filter((option) => !option.startsWith("tsize"));
      transcript.say(request("write", `up${i}`, put, "octet"), to);
      await writes(transcript, pattern(pick(6000), i), blockSize, windowSize);
    }
  }
  return transcript.lines;
}

async function reads(
  transcript: Transcript,
  blockSize: number,
  windowSize: number,
  answered: boolean,
  pick: (n: number) => number,
): Promise<void> {
  if (answered) {
    await transcript.hear();
    transcript.say(ack(0));
  }
  let base = 1;
  for (;;) {
    let got = base - 1;
    let short = false;
    while (got < base + windowSize - 1 && !short) {
      const bytes = await transcript.hear();
      equal(bytes[3]! | bytes[2]! << 8, ++got);
      short = bytes.length < blockSize + 4;
    }
    // Now and then only a part of the window has come: a whole one starts behind it.
    if (got > base && pick(4) === 0) got -= 1 + pick(got - base);
    else if (short) {
      transcript.say(ack(got));
      return;
    }
    transcript.say(ack(got));
    base = got + 1;
  }
}

async function writes(
  transcript: Transcript,
  content: Uint8Array,
  blockSize: number,
  windowSize: number,
): Promise<void> {
  await transcript.hear();
  const last = Math.floor(content.length / blockSize) + 1;
  for (let base = 1; base <= last; base += windowSize) {
    const end = Math.min(base + windowSize - 1, last);
    for (let block = base; block <= end; block++) {
      transcript.say(data(block, content.subarray((block - 1) * blockSize, block * blockSize)));
    }
    await transcript.hear();
  }
}

/** A few conversations with our client. */
async function withClient(bench: Bench): Promise<string[]> {
  const fake = await bench.peer({ family: "ipv4", address: "127.0.0.1", port: 9 });
  const transcript = new Transcript(fake);
  const client = await bench.client(fake.address, { blockSize: 700, windowSize: 3 });
  const got = client.get("wanted");
  await transcript.hear();
  transcript.say(oack("blksize=600", "windowsize=3", "tsize=3000"));
  await transcript.hear();
  for (let block = 1; block <= 6; block++) {
    transcript.say(data(block, block < 6 ? pattern(600, block) : 0));
    if (block % 3 === 0) await transcript.hear();
  }
  equal((await got).length, 3000);
  const put = client.put("given", pattern(1500));
  await transcript.hear();
  transcript.say(ack(0));
  for (let block = 1; block <= 3; block++) {
    await transcript.hear();
    transcript.say(ack(block));
  }
  await put;
  const refused = client.get("refused").catch((thrown: unknown) => thrown);
  await transcript.hear();
  transcript.say(error(1, "no"));
  ok(await refused instanceof Error);
  return transcript.lines;
}

for (const [name, conversation] of Object.entries({ withServer, withClient })) {
  Deno.test(`TFTP says the same bytes on every driver: ${name}`, async () => {
    let first: readonly string[] | undefined;
    for (const [row, driver] of Object.entries(EVERY_ROW)) {
      if (driver.missing() !== "") continue;
      const bench = await driver.open() as Bench;
      try {
        const lines = await conversation(bench);
        ok(lines.length > 10);
        first ??= lines;
        deepEqual(lines, first, `${row}, FASTWIRE_SEED=${SEED}`);
      } finally {
        await driver.close!(bench);
      }
    }
  });
}
