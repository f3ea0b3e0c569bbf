/** What our client does, and what it survives of servers, on every driver. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { DeadlineError, PeerError, ProtocolError } from "../internal/errors.ts";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import type { TftpClient } from "./client.ts";
import type { TransferProgress } from "./client_attempt.ts";
import type { ClientOptions } from "./settings.ts";
import { ack, data, error, oack, payloadOf, type RawPeer } from "./testdata/raw_peer.ts";
import {
  type Bench,
  BOTH_DRIVERS,
  EVERY_ROW,
  pattern,
  sum,
  until,
} from "./testdata/server_bench.ts";

const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };
const LOOPBACK = { family: "ipv4", address: "127.0.0.1", port: 9 } as const;

/** A server made by hand, and a client that talks to it. */
async function pair(
  bench: Bench,
  options: ClientOptions = {},
): Promise<{ fake: RawPeer; client: TftpClient }> {
  const fake = await bench.peer(LOOPBACK);
  const client = await bench.client(fake.address, {
    blockSize: 600,
    windowSize: 2,
    initialTimeoutMs: 200,
    ...options,
  });
  fake.onlyNews = true;
  return { fake, client };
}

const code = (wanted: string) => (thrown: unknown): boolean => {
  equal((thrown as { code?: string }).code, wanted, String(thrown));
  return true;
};

const SUITE: ContractCase<Bench>[] = [
  ["asks for what it wants and follows the port that answers", async (bench) => {
    const { fake, client } = await pair(bench);
    const got = client.get("some file");
    equal(await fake.hear(), "RRQ some file octet tsize=0 blksize=600 windowsize=2");
    const transfer = await bench.peer(fake.to);
    const impostor = await bench.peer(fake.to);
    // What is left over from a transfer that is gone does not fix the port.
    impostor.send(data(7, 5));
    impostor.send(ack(3));
    // Without options a block has 512 bytes at most: this one belongs to somebody else.
    impostor.send(data(1, 544));
    transfer.send(oack("blksize=600", "windowsize=2", "tsize=605"));
    equal(await transfer.hear(), "ACK 0");
    impostor.send(data(1, 600));
    equal(await impostor.hear(), "ERROR 5 Unknown transfer ID");
    transfer.send(data(1, pattern(600)));
    transfer.send(data(2, 5));
    equal(await transfer.hear(), "ACK 2");
    equal((await got).length, 605);
    equal(impostor.waiting, 0);
  }],

  ["follows the port that answers an upload", async (bench) => {
    const { fake, client } = await pair(bench, { windowSize: 1 });
    const put = client.put("file", pattern(5));
    equal(await fake.hear(), "WRQ file octet tsize=5 blksize=600");
    const impostor = await bench.peer(fake.to);
    // Left over from a transfer that is gone: no answer to a request is ACK 1.
    impostor.send(ack(1));
    const transfer = await bench.peer(fake.to);
    transfer.send(ack(0));
    equal(await transfer.hear(), "DATA 1 5");
    transfer.send(ack(1));
    equal((await put).bytes, 5);
    equal(impostor.waiting, 0);
  }],

  ["takes an answer from another address only when told to", async (bench) => {
    for (const anySourceAddress of [false, true]) {
      const { fake, client } = await pair(bench, { anySourceAddress });
      const got = client.get("file");
      await fake.hear();
      const other = await bench.peer(fake.to, "127.0.0.2");
      other.send(oack("blksize=600"));
      if (anySourceAddress) {
        equal(await other.hear(), "ACK 0");
        other.send(data(1, 3));
        equal(await other.hear(), "ACK 1");
      } else {
        equal(await other.hear(), "ERROR 5 Unknown transfer ID");
        fake.send(oack("blksize=600"));
        equal(await fake.hear(), "ACK 0");
        fake.send(data(1, 3));
        equal(await fake.hear(), "ACK 1");
      }
      equal((await got).length, 3);
    }
  }],

  ["takes fewer and smaller options than it asked for", async (bench) => {
    const { fake, client } = await pair(bench);
    const got = client.get("file");
    await fake.hear();
    fake.send(oack("BLKSIZE=100"));
    equal(await fake.hear(), "ACK 0");
    fake.send(data(1, pattern(100)));
    equal(await fake.hear(), "ACK 1");
    fake.send(data(2, 7));
    equal(await fake.hear(), "ACK 2");
    equal((await got).length, 107);
  }],

  ["goes on without options when a server knows none, both ways", async (bench) => {
    const { fake, client } = await pair(bench, { windowSize: 16 });
    const got = client.get("file");
    await fake.hear();
    fake.send(data(1, pattern(512)));
    equal(await fake.hear(), "ACK 1");
    fake.send(data(2, 0));
    equal(await fake.hear(), "ACK 2");
    equal(sum(await got), sum(pattern(512)));
    fake.to = client.server;
    const content = pattern(1100);
    const put = client.put("file", content);
    match(await fake.hear(), /^WRQ file octet tsize=1100 blksize=600 windowsize=16$/);
    fake.send(ack(0));
    const parts: number[] = [];
    for (let block = 1; block <= 3; block++) {
      const { words, bytes } = await fake.receive();
      equal(words, `DATA ${block} ${block < 3 ? 512 : 76}`);
      parts.push(...payloadOf(bytes));
      fake.send(ack(block));
    }
    equal(sum(Uint8Array.from(parts)), sum(content));
    const summary = await put;
    deepEqual([summary.blockSize, summary.windowSize, summary.withoutOptions], [512, 1, true]);
  }],

  ["stops reading an OACK at the garbage behind it", async (bench) => {
    const { fake, client } = await pair(bench);
    const got = client.get("file");
    await fake.hear();
    fake.send(Uint8Array.of(...oack("blksize=600"), 98, 108, 107, 0xff, 0xff, 0x01));
    equal(await fake.hear(), "ACK 0");
    fake.send(data(1, 1));
    equal((await got).length, 1);
  }],

  ["tries once more without options when they are refused", async (bench) => {
    for (const refused of [8, 0, 4]) {
      const { fake, client } = await pair(bench);
      const got = client.get("file");
      await fake.hear();
      const first = fake.to.port;
      fake.send(error(refused, "no options here"));
      equal(await fake.hear(), "RRQ file octet");
      ok(fake.to.port !== first, "a new transfer has a new port");
      fake.send(data(1, 3));
      equal(await fake.hear(), "ACK 1");
      equal((await got).length, 3);
      // Only once.
      const failed = rejects(client.get("file"), PeerError);
      await fake.hear();
      fake.send(error(refused, "no options here"));
      await fake.hear();
      fake.send(error(refused, "no file either"));
      await failed;
    }
  }],

  ["does not try again when told not to, nor for other errors", async (bench) => {
    const { fake, client } = await pair(bench, { fallback: false });
    const first = rejects(client.get("file"), code("tftp.options-refused"));
    await fake.hear();
    fake.send(error(8, "no"));
    await first;
    const { fake: other, client: asking } = await pair(bench);
    const second = rejects(asking.get("file"), (thrown: unknown) => {
      ok(thrown instanceof PeerError);
      deepEqual([thrown.code, thrown.peerCode, thrown.peerMessage], [
        "tftp.file-not-found",
        1,
        "nothing here",
      ]);
      match(thrown.message, /^Cannot get "file" from 127\.0\.0\.1:\d+: the file was not found/);
      return true;
    });
    await other.hear();
    other.send(error(1, "nothing here"));
    await second;
    equal(fake.waiting + other.waiting, 0);
  }],

  ["refuses more than it asked for", async (bench) => {
    for (const pair_ of ["blksize=601", "windowsize=3", "blksize=7", "timeout=9"]) {
      const { fake, client } = await pair(bench, { lenient: false });
      const got = rejects(client.get("file"), ProtocolError);
      await fake.hear();
      fake.send(oack(pair_));
      match(await fake.hear(), /^ERROR 8 /, pair_);
      await got;
    }
  }],

  ["ignores an option it did not ask for unless told otherwise", async (bench) => {
    const { fake, client } = await pair(bench);
    const got = client.get("file");
    await fake.hear();
    fake.send(oack("blksize=600", "multicast=239.0.0.1,1758,1"));
    equal(await fake.hear(), "ACK 0");
    fake.send(data(1, 2));
    equal((await got).length, 2);
  }],

  ["does not repeat itself to a server that says ACK 0 twice", async (bench) => {
    const { fake, client } = await pair(bench, { windowSize: 1 });
    const put = client.put("file", pattern(700));
    await fake.hear();
    fake.send(oack("blksize=600"));
    equal(await fake.hear(), "DATA 1 600");
    fake.send(ack(0));
    fake.send(ack(0));
    fake.send(oack("blksize=600"));
    fake.send(ack(1));
    equal(await fake.hear(), "DATA 2 100");
    fake.send(ack(2));
    const { retransmits, timeouts } = await put;
    ok(retransmits <= 1 + timeouts, `${retransmits} repeats, ${timeouts} timeouts`);
  }],

  ["acknowledges each block of a server that sends one at a time", async (bench) => {
    const { fake, client } = await pair(bench, { windowSize: 8, initialTimeoutMs: 20 });
    const got = client.get("file");
    await fake.hear();
    fake.send(oack("blksize=600", "windowsize=8"));
    equal(await fake.hear(), "ACK 0");
    const startedAt = performance.now();
    for (let block = 1; block <= 40; block++) {
      fake.send(data(block, block < 40 ? 600 : 1));
      let words = "";
      while (words !== `ACK ${block}`) words = await fake.hear();
    }
    equal((await got).length, 39 * 600 + 1);
    // Every block behind a timer would take 40 × 20 ms at least.
    ok(performance.now() - startedAt < 700, `${performance.now() - startedAt} ms`);
  }],

  ["repeats its request until somebody answers", async (bench) => {
    const { fake, client } = await pair(bench, { initialTimeoutMs: 20 });
    fake.onlyNews = false;
    const got = client.get("file");
    const words = await fake.hearAll(3);
    equal(new Set(words).size, 1);
    fake.send(oack("blksize=600"));
    let heard = "";
    while (heard !== "ACK 0") heard = await fake.hear();
    fake.send(data(1, 1));
    equal((await got).length, 1);
  }],

  ["repeats its last acknowledgement while it is there", async (bench) => {
    const { fake, client } = await pair(bench, { windowSize: 1 });
    const got = client.get("file");
    await fake.hear();
    fake.send(oack("blksize=600"));
    await fake.hear();
    fake.send(data(1, 1));
    equal(await fake.hear(), "ACK 1");
    equal((await got).length, 1);
    fake.onlyNews = false;
    fake.send(data(1, 1));
    equal(await fake.hear(), "ACK 1");
  }],

  ["tells a server whose block is too long, and fails", async (bench) => {
    const { fake, client } = await pair(bench);
    const got = rejects(client.get("file"), code("tftp.unexpected-answer"));
    await fake.hear();
    fake.send(oack("blksize=600"));
    await fake.hear();
    fake.send(data(1, 601));
    match(await fake.hear(), /^ERROR 4 /);
    await got;
  }],

  ["says that a port is closed", async (bench) => {
    const { fake, client } = await pair(bench, { initialTimeoutMs: 20 });
    await fake[Symbol.asyncDispose]();
    if (client.driver === "node") return;
    await rejects(client.get("file"), (thrown: unknown) => {
      ok(thrown instanceof DeadlineError);
      match(thrown.message, /its port is closed$/);
      return true;
    });
  }],

  ["aborts before, during and after, both ways", async (bench) => {
    const reason = new Error("enough");
    const { fake, client } = await pair(bench);
    const gone = AbortSignal.abort(reason);
    const isReason = (thrown: unknown): boolean => thrown === reason;
    await rejects(client.get("file", { signal: gone }), isReason);
    await rejects(client.put("file", pattern(5), { signal: gone }), isReason);
    await rejects(client.stat("file", { signal: gone }), isReason);
    equal(fake.waiting, 0);
    for (const transfer of ["get", "put", "stat"] as const) {
      const controller = new AbortController();
      const { signal } = controller;
      const running = transfer === "put"
        ? client.put("file", pattern(5000), { signal })
        : client[transfer]("file", { signal });
      const failed = rejects(running, isReason);
      await fake.hear();
      if (transfer !== "stat") {
        fake.send(oack("blksize=600", "windowsize=2"));
        match(await fake.hear(), /^(ACK 0|DATA 1 600)$/);
        if (transfer === "put") equal(await fake.hear(), "DATA 2 600");
      }
      controller.abort(reason);
      await failed;
      equal(await fake.hear(), "ERROR 0 aborted");
    }
    const late = new AbortController();
    const got = client.get("file", { signal: late.signal });
    await fake.hear();
    fake.send(data(1, 3));
    equal((await got).length, 3);
    late.abort(reason);
    // Aborted while the socket is being opened.
    const soon = new AbortController();
    const opening = rejects(client.get("file", { signal: soon.signal }), isReason);
    soon.abort(reason);
    await opening;
  }],

  ["ends what runs when it is closed", async (bench) => {
    const { fake, client } = await pair(bench);
    const running = [client.get("file"), client.put("file", pattern(5))];
    const failed = running.map((promise) => rejects(promise, { name: "AbortError" }));
    await fake.hearAll(2);
    await Promise.all([client.close(), client.close()]);
    await Promise.all(failed);
    deepEqual(await fake.hearAll(2), ["ERROR 0 aborted", "ERROR 0 aborted"]);
    await rejects(client.get("file"), TypeError);
  }],

  ["asks for a size and takes no data", async (bench) => {
    bench.file("sized", pattern(12_345));
    const { to, ended } = await bench.serve();
    const client = await bench.client(to);
    equal(await client.stat("sized"), 12_345);
    equal((await ended(1)).outcome, "size-probe");
    await rejects(client.stat("missing"), code("tftp.file-not-found"));
    const { fake, client: other } = await pair(bench);
    const unknown = other.stat("file");
    match(await fake.hear(), /tsize=0/);
    fake.send(data(1, pattern(512)));
    equal(await unknown, undefined);
    match(await fake.hear(), /^(ACK 1|ERROR 0 aborted)$/);
    const silent = other.stat("file");
    while (!(await fake.hear()).startsWith("RRQ"));
    fake.send(oack("blksize=600"));
    equal(await silent, undefined);
  }],

  ["tells how far it is", async (bench) => {
    bench.file("long", pattern(300_000));
    const { to } = await bench.serve({ write: ANY });
    const client = await bench.client(to);
    const seen: TransferProgress[] = [];
    await client.get("long", { onProgress: (progress) => seen.push(progress) });
    const last = seen.at(-1)!;
    deepEqual([last.bytes, last.totalBytes], [300_000, 300_000]);
    seen.length = 0;
    await client.put("up", pattern(200_000), { onProgress: (progress) => seen.push(progress) });
    equal(seen.at(-1)!.bytes, 200_000);
    ok(seen.every(({ totalBytes }) => totalBytes === 200_000));
  }],

  ["waits for a reader that is slow, and lets one go", async (bench) => {
    const content = pattern(24_000_000);
    bench.file("long", content);
    const { to, server, ended } = await bench.serve();
    const client = await bench.client(to, { windowSize: 32, blockSize: 8192 });
    const reader = client.read("long");
    const parts = [(await reader.next()).value!];
    // Nobody reads on: what is under way stays bounded, and the server's progress ends.
    let before = -1;
    await until(() => {
      const counts = server.snapshot();
      const sent = counts.bytesSent - counts.blocksRetransmitted * 8192;
      const stalled = sent === before && sent > 0;
      before = sent;
      return stalled;
    }, "the server to stall");
    ok(before < 23_000_000, `${before} bytes were sent`);
    for await (const part of reader) parts.push(part);
    equal(
      sum(Uint8Array.from(await new Blob(parts as Uint8Array<ArrayBuffer>[]).bytes())),
      sum(content),
    );
    equal((await ended(1)).outcome, "done");
    for await (const part of client.read("long")) {
      ok(part.length > 0);
      break;
    }
    equal((await ended(2)).outcome, "peer-error");
  }],

  ["refuses names that no request can carry", async (bench) => {
    const { client } = await pair(bench);
    for (const name of ["", "a\0b", "x".repeat(3000)]) {
      await rejects(client.get(name), RangeError, name);
    }
  }],
];

/** As many packets as it takes: with the portable driver twice as slow, and no different. */
const MANY_BLOCKS: ContractCase<Bench>[] = [
  ["finds out that a server counts 1 behind 65535", async (bench) => {
    const { fake, client } = await pair(bench, { blockSize: 8, windowSize: 64 });
    const last = 65_600;
    const content = pattern((last - 1) * 8 + 3);
    const got = client.get("file");
    await fake.hear();
    fake.send(oack("blksize=8", "windowsize=64"));
    equal(await fake.hear(), "ACK 0");
    const wire = (index: number): number => (index - 1) % 65535 + 1;
    let base = 1;
    while (base <= last) {
      const end = Math.min(base + 63, last);
      for (let index = base; index <= end; index++) {
        fake.send(data(wire(index), content.subarray((index - 1) * 8, index * 8)));
      }
      const { bytes } = await fake.receive();
      const number = bytes[2]! << 8 | bytes[3]!;
      let index = base - 1;
      while (index <= end && (index === 0 ? 0 : wire(index)) !== number) index++;
      ok(index <= end, `ACK ${number} behind ${base}`);
      base = index + 1;
    }
    equal(sum(await got), sum(content));
  }],
];

const LONG = Deno.env.get("FASTWIRE_LONG") === "1";
const { linux } = EVERY_ROW;

Deno.test({
  name: "TftpClient moves several files at once while it blocks its thread",
  ignore: linux!.missing() !== "",
  fn: async () => {
    const bench = await linux!.open() as Bench;
    try {
      const content = pattern(400_000);
      const { to } = await bench.serve({ workers: 1, write: ANY });
      const client = await bench.client(to, { wait: "thread" });
      await client.put("a", content);
      const [a, b] = await Promise.all([
        client.get("a"),
        client.get("a"),
        client.put("b", content),
      ]);
      equal(sum(a), sum(content));
      equal(sum(b), sum(content));
      equal(sum(await Deno.readFile(`${bench.root}/b`)), sum(content));
      await rejects(client.get("missing"), PeerError);
      const controller = new AbortController();
      const got = client.get("a", { signal: controller.signal });
      controller.abort(new Error("enough"));
      await rejects(got, /enough/);
    } finally {
      await linux!.close!(bench);
    }
  },
});

runContract("TftpClient", SUITE, BOTH_DRIVERS);
runContract("TftpClient", MANY_BLOCKS, LONG ? BOTH_DRIVERS : { "linux": linux! });
