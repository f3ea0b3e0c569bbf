/** Content that no file holds: what handlers may answer, on every driver. */
import { deepEqual, equal, match, ok, rejects } from "node:assert/strict";
import { PeerError } from "../internal/errors.ts";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import type { ReadAnswer, RequestInfo } from "./handlers.ts";
import { TftpRefusal } from "./refusal.ts";
import { MemoryStore } from "./store_memory.ts";
import { ack, data, request } from "./testdata/raw_peer.ts";
import { type Bench, BOTH_DRIVERS, lines, pattern, sum, until } from "./testdata/server_bench.ts";

const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };

async function* pieces(content: Uint8Array, size = 3000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < content.length; at += size) {
    await Promise.resolve();
    yield content.subarray(at, at + size);
  }
}

const SUITE: ContractCase<Bench>[] = [
  ["answers text, bytes, streams, other files and the file itself", async (bench) => {
    bench.file("real", "the real one");
    const content = pattern(100_000);
    const seen: RequestInfo[] = [];
    const answers: Record<string, () => ReadAnswer> = {
      text: () => "täxt",
      bytes: () => content,
      stream: () => ({ stream: pieces(content) }),
      sized: () => ({ stream: pieces(content), size: content.length }),
      other: () => ({ file: "real" }),
      real: () => undefined,
    };
    const { to } = await bench.serve({
      onRead: (info) => {
        seen.push(info);
        return answers[info.filename]!();
      },
    });
    const client = await bench.client(to, { windowSize: 8, blockSize: 1000 });
    const text = async (name: string): Promise<string> =>
      new TextDecoder().decode(await client.get(name));
    equal(await text("text"), "täxt");
    equal(await text("other"), "the real one");
    equal(await text("real"), "the real one");
    for (const name of ["bytes", "stream", "sized"]) {
      equal(sum(await client.get(name)), sum(content), name);
    }
    deepEqual(seen[0]!.options, { tsize: "0", blksize: "1000", windowsize: "8" });
    equal(seen[0]!.operation, "read");
    equal(seen[0]!.remote.address, "127.0.0.1");
    const peer = await bench.peer(to);
    peer.send(request("read", "stream", ["tsize=0"]));
    equal(await peer.hear(), "DATA 1 512", "the size of a stream is not known");
    const other = await bench.peer(to);
    other.send(request("read", "sized", ["tsize=0"]));
    equal(await other.hear(), "OACK tsize=100000");
  }],

  ["translates streams to netascii", async (bench) => {
    const content = lines(20_000);
    const { to } = await bench.serve({ onRead: () => ({ stream: pieces(content, 777) }) });
    const client = await bench.client(to, { windowSize: 8, mode: "netascii" });
    equal(sum(await client.get("text")), sum(content));
  }],

  ["refuses with the handler's words and hides its failures", async (bench) => {
    const { to, ended } = await bench.serve({
      onRead: ({ filename }) => {
        if (filename === "refused") throw new TftpRefusal(2, "not you");
        throw new Error(`/secret/path of ${filename}`);
      },
    });
    const peer = await bench.peer(to);
    peer.send(request("read", "refused"));
    equal(await peer.hear(), "ERROR 2 not you");
    equal((await ended(1)).errorCode, 2);
    peer.to = to;
    peer.send(request("read", "broken"));
    equal(await peer.hear(), "ERROR 0 internal error");
  }],

  ["gives up a handler that takes too long", async (bench) => {
    let signal: AbortSignal | undefined;
    const { to, ended } = await bench.serve({
      handlerTimeoutMs: 30,
      onRead: (info) => {
        signal = info.signal;
        return new Promise<string>(() => {});
      },
    });
    const peer = await bench.peer(to);
    peer.send(request("read", "slow"));
    equal(await peer.hear(), "ERROR 0 handler timed out");
    equal(signal!.aborted, true);
    equal((await ended(1)).message, "handler timed out");
  }],

  ["swallows duplicates of a request while its handler runs", async (bench) => {
    let calls = 0;
    let answer: (text: string) => void = () => {};
    const { to, server } = await bench.serve({
      onRead: () => {
        calls++;
        return new Promise<string>((resolve) => answer = resolve);
      },
    });
    const peer = await bench.peer(to);
    for (let i = 0; i < 4; i++) peer.send(request("read", "slow"));
    await until(() => server.snapshot().requestsRepeated === 3, "three duplicates");
    answer("now");
    equal(await peer.hear(), "DATA 1 3");
    peer.send(ack(1));
    equal(calls, 1);
    equal(peer.waiting, 0);
  }],

  ["lets go of a request that is replaced or closed while its handler runs", async (bench) => {
    const signals: AbortSignal[] = [];
    let late: (text: string) => void = () => {};
    const { to, server, ended } = await bench.serve({
      onRead: ({ filename, signal }) => {
        signals.push(signal);
        if (filename === "second") return "here";
        return new Promise<string>((resolve) => late = resolve);
      },
    });
    const peer = await bench.peer(to);
    peer.send(request("read", "first"));
    await until(() => signals.length === 1, "the first handler");
    peer.send(request("read", "second"));
    equal(await peer.hear(), "DATA 1 4");
    equal(signals[0]!.aborted, true);
    late("too late");
    peer.send(ack(1));
    await ended(2);
    equal(peer.waiting, 0);
    peer.send(request("read", "third"), to);
    await until(() => signals.length === 3, "the third handler");
    // A handler at work holds up a stop no longer than it may.
    await server.shutdown({ graceMs: 10 });
    equal(signals[2]!.aborted, true);
    equal((await ended(3)).outcome, "aborted");
  }],

  ["ends a transfer whose stream fails, is too short or too long", async (bench) => {
    let returned = 0;
    async function* endless(): AsyncGenerator<Uint8Array> {
      try {
        for (;;) yield await Promise.resolve(pattern(5000));
      } finally {
        returned++;
      }
    }
    async function* failing(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(pattern(5000));
      throw new TftpRefusal(3, "tape torn");
    }
    const { to } = await bench.serve({
      onRead: ({ filename }) =>
        filename === "failing"
          ? { stream: failing() }
          : filename === "short"
          ? { stream: pieces(pattern(100)), size: 101 }
          : { stream: endless(), size: 100_000 },
    });
    const client = await bench.client(to, { windowSize: 4 });
    const told = async (name: string): Promise<string> => {
      let words = "";
      await rejects(client.get(name), (error: unknown) => {
        ok(error instanceof PeerError);
        words = `${error.peerCode} ${error.peerMessage}`;
        return true;
      });
      return words;
    };
    equal(await told("failing"), "3 tape torn");
    equal(await told("short"), "0 content is shorter than announced");
    equal(await told("long"), "0 content is longer than announced");
    await until(() => returned > 0, "the stream to be let go");
  }],

  ["reads a stream no further ahead than two windows", async (bench) => {
    let read = 0;
    async function* counted(): AsyncGenerator<Uint8Array> {
      for (;;) {
        read++;
        yield await Promise.resolve(pattern(512));
      }
    }
    // On a busy machine the tail probe would repeat a block between the windows.
    const { to } = await bench.serve({
      onRead: () => ({ stream: counted() }),
      retry: { tailProbe: false },
    });
    const peer = await bench.peer(to);
    peer.send(request("read", "endless", ["windowsize=4"]));
    equal(await peer.hear(), "OACK windowsize=4");
    peer.send(ack(0));
    deepEqual(await peer.hearAll(4), [1, 2, 3, 4].map((block) => `DATA ${block} 512`));
    await new Promise((resolve) => setTimeout(resolve, 0));
    ok(read <= 9, `${read} pieces`);
    peer.send(ack(4));
    deepEqual(await peer.hearAll(4), [5, 6, 7, 8].map((block) => `DATA ${block} 512`));
    await new Promise((resolve) => setTimeout(resolve, 0));
    ok(read <= 13, `${read} pieces`);
  }],

  [
    "hands uploads to a function, and says the last ACK when it has taken everything",
    async (bench) => {
      const content = pattern(50_000);
      const taken: Uint8Array[] = [];
      let ended = 0;
      let release: () => void = () => {};
      const { to } = await bench.serve({
        onWrite: ({ filename }) => {
          if (filename === "refused") throw new TftpRefusal(2, "not you");
          return (piece) => {
            if (piece !== undefined) {
              taken.push(piece);
              return;
            }
            ended++;
            return filename === "slow"
              ? new Promise<void>((resolve) => release = resolve)
              : undefined;
          };
        },
      });
      const client = await bench.client(to, { windowSize: 8, blockSize: 1000 });
      await client.put("up", content);
      equal(
        sum(new Uint8Array(await new Blob(taken as Uint8Array<ArrayBuffer>[]).arrayBuffer())),
        sum(content),
      );
      equal(ended, 1);
      await rejects(client.put("refused", content), PeerError);
      const peer = await bench.peer(to);
      peer.send(request("write", "slow"));
      equal(await peer.hear(), "ACK 0");
      peer.send(data(1, 5));
      await until(() => ended === 2, "the end of the content");
      // Whoever asks again is not answered before the content is kept.
      peer.send(data(1, 5));
      equal(peer.waiting, 0);
      release();
      equal(await peer.hear(), "ACK 1");
    },
  ],

  ["stops reading an upload whose function is behind, and goes on", async (bench) => {
    const content = pattern(24_000_000);
    let held: (() => void) | undefined;
    let taken = 0;
    let free = false;
    const { to, server } = await bench.serve({
      onWrite: () => (piece) => {
        taken += piece?.length ?? 0;
        return free ? undefined : new Promise<void>((resolve) => held = resolve);
      },
    });
    const client = await bench.client(to, { windowSize: 16, blockSize: 8192 });
    const put = client.put("up", content);
    let before = -1;
    await until(() => {
      const { bytesReceived } = server.snapshot();
      const stalled = bytesReceived === before && bytesReceived > 0 && held !== undefined;
      before = bytesReceived;
      return stalled;
    }, "the upload to stall");
    ok(before < 12_000_000, `${before} bytes were taken in`);
    free = true;
    held!();
    equal((await put).bytes, content.length);
    equal(taken, content.length);
  }],

  ["sends writes to another file of the root", async (bench) => {
    const { to } = await bench.serve({ write: ANY, onWrite: () => ({ file: "renamed" }) });
    const client = await bench.client(to);
    await client.put("wanted", pattern(10));
    deepEqual(bench.names(), ["renamed"]);
    const { to: bad } = await bench.serve({ write: ANY, onWrite: () => ({ file: "../out" }) });
    await rejects((await bench.client(bad)).put("wanted", pattern(10)), /access/);
  }],

  ["serves a store of its own", async (bench) => {
    const store = new MemoryStore({ files: { "in/memory": "memory" }, write: ANY });
    const { to } = await bench.serve({ store });
    const client = await bench.client(to);
    equal(new TextDecoder().decode(await client.get("in/memory")), "memory");
    await client.put("up", pattern(3000));
    equal(sum(store.get("up")!), sum(pattern(3000)));
    await rejects(client.get("missing"), PeerError);
  }],

  ["obeys access rules and what they change", async (bench) => {
    bench.file("public/a", pattern(5000));
    bench.file("private/b", pattern(10));
    const { to } = await bench.serve({
      write: ANY,
      access: [
        { patterns: ["private/**"], action: "deny" },
        { methods: ["put"], action: "deny" },
        { action: "limit", maxBlockSize: 600, maxWindowSize: 2, refuseOptions: ["tsize"] },
      ],
    });
    const peer = await bench.peer(to);
    peer.send(request("read", "private/b"));
    equal(await peer.hear(), "ERROR 1 File not found");
    peer.to = to;
    peer.send(request("write", "public/c"));
    equal(await peer.hear(), "ERROR 2 Access violation");
    peer.to = to;
    peer.send(request("read", "public/a", ["blksize=1400", "windowsize=8", "tsize=0"]));
    equal(await peer.hear(), "OACK blksize=600 windowsize=2");
    const { to: open } = await bench.serve({ hideExistence: false, access: [{ action: "deny" }] });
    peer.to = open;
    peer.send(request("read", "public/a"));
    match(await peer.hear(), /^ERROR 2 /);
  }],

  ["holds a rule's rate", async (bench) => {
    bench.file("file", pattern(50_000));
    const { to, ended } = await bench.serve({
      access: [{ action: "limit", maxRateBps: 2_000_000 }],
      limits: { maxRateBps: 8_000_000, clientRateBps: 4_000_000 },
    });
    const client = await bench.client(to, { windowSize: 4, blockSize: 1000 });
    await client.get("file");
    // 400,000 bits at two million a second are 200 ms; the first 20 ms are free.
    const { durationMs } = await ended(1);
    ok(durationMs > 150 && durationMs < 2000, `${durationMs} ms`);
  }],
];

runContract("TFTP server", SUITE, BOTH_DRIVERS);
