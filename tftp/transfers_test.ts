/** Our client against our server: every size, window, mode and direction, on every driver. */
import { deepEqual, equal, ok, rejects } from "node:assert/strict";
import { PeerError } from "../internal/errors.ts";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { TftpRefusal } from "./refusal.ts";
import {
  type Bench,
  BOTH_DRIVERS,
  EVERY_ROW,
  lines,
  namesOf,
  pattern,
  sum,
  urlOf,
} from "./testdata/server_bench.ts";
import { download, get, put, upload } from "./transfer.ts";

const BLOCK = 1428;
const WINDOWS = [1, 4, 16, 64] as const;

function sizesFor(windowSize: number): number[] {
  const whole = 2 * windowSize * BLOCK;
  return [0, 1, 511, 512, 513, BLOCK - 1, BLOCK, BLOCK + 1, whole - 1, whole, whole + 1];
}

/** Whether a row runs the whole matrix: what threads and the portable driver do differently shows in part of it. */
function whole({ driver, row }: Bench): boolean {
  return LONG || driver === "fast" && row.workers === 0;
}

function transfers(direction: "get" | "put", mode: "octet" | "netascii"): ContractCase<Bench> {
  return [`${direction}s every size in ${mode}, window by window`, async (bench) => {
    const { to, ended } = await bench.serve({ write: ANYTHING });
    let transfers = 0;
    for (const windowSize of whole(bench) ? WINDOWS : [1, 16]) {
      for (const blockSize of windowSize === 4 ? [512, BLOCK] : [BLOCK]) {
        const client = await bench.client(to, { mode, windowSize, blockSize });
        for (const size of sizesFor(windowSize)) {
          const content = mode === "netascii" ? lines(size) : pattern(size, size);
          const name = `${size}-${windowSize}-${blockSize}`;
          let came: Uint8Array;
          if (direction === "get") {
            bench.file(name, content);
            came = await client.get(name);
          } else {
            const summary = await client.put(name, content);
            deepEqual([summary.blockSize, summary.windowSize], [blockSize, windowSize]);
            came = await Deno.readFile(`${bench.root}/${name}`);
          }
          equal(sum(came), sum(content), name);
          transfers++;
        }
      }
    }
    equal((await ended(transfers)).outcome, "done");
  }];
}

/** Accepts every upload. */
const ANYTHING = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };

const LONG = Deno.env.get("FASTWIRE_LONG") === "1";
/** More than 65,535 blocks of 8 bytes. */
const MANY_BLOCKS_BYTES = 8 * 65_700 + 3;

const MATRIX: ContractCase<Bench>[] = [
  transfers("get", "octet"),
  transfers("get", "netascii"),
  transfers("put", "octet"),
  transfers("put", "netascii"),
];

const ROLLOVER: ContractCase<Bench>[] = [
  ...(["auto", "0", "1"] as const).flatMap((rollover): ContractCase<Bench>[] => [
    [`gets more than 65,535 blocks with rollover ${rollover}`, async (bench) => {
      const content = pattern(MANY_BLOCKS_BYTES);
      bench.file("big", content);
      const { to } = await bench.serve();
      const client = await bench.client(to, { blockSize: 8, windowSize: 256, rollover });
      equal(sum(await client.get("big")), sum(content));
    }],
    [`puts more than 65,535 blocks with rollover ${rollover}`, async (bench) => {
      const content = pattern(MANY_BLOCKS_BYTES);
      const { to } = await bench.serve({ write: ANYTHING });
      const client = await bench.client(to, { blockSize: 8, windowSize: 256, rollover });
      const { blocks } = await client.put("big", content);
      equal(blocks, 65_701);
      equal(sum(await Deno.readFile(`${bench.root}/big`)), sum(content));
    }],
  ]),
];

const SUITE: ContractCase<Bench>[] = [
  ["moves the largest blocks", async (bench) => {
    const content = pattern(3 * 65464 + 5);
    const { to } = await bench.serve({ write: ANYTHING });
    const client = await bench.client(to, { blockSize: 65464, windowSize: 4 });
    await client.put("large", content);
    equal(sum(await client.get("large")), sum(content));
  }],

  ["moves files without any option", async (bench) => {
    const content = pattern(5 * 512);
    const { to } = await bench.serve({ write: ANYTHING });
    const client = await bench.client(to, { noOptions: true });
    const put = await client.put("plain", content);
    deepEqual([put.blockSize, put.windowSize, put.blocks], [512, 1, 6]);
    equal(sum(await client.get("plain")), sum(content));
  }],

  ["serves everything from one port when told to", async (bench) => {
    const content = pattern(100_000);
    const { to, server } = await bench.serve({ singlePort: true, write: ANYTHING });
    const client = await bench.client(to, { windowSize: 16, blockSize: BLOCK });
    await client.put("one", content);
    const [a, b] = await Promise.all([client.get("one"), client.get("one")]);
    equal(sum(a), sum(content));
    equal(sum(b), sum(content));
    const peer = await bench.peer(to);
    const { request, ack } = await import("./testdata/raw_peer.ts");
    peer.send(request("read", "one"));
    equal(await peer.hear(), "DATA 1 512");
    deepEqual(peer.to, server.addresses[0]);
    peer.send(ack(1));
    equal(await peer.hear(), "DATA 2 512");
  }],

  ["serves IPv6", async (bench) => {
    const content = pattern(50_000);
    const { to } = await bench.serve({ listen: ["[::1]:0"], write: ANYTHING });
    const client = await bench.client(to);
    await client.put("six", content);
    equal(sum(await client.get("six")), sum(content));
  }],

  ["serves IPv4 and IPv6 from one wildcard socket", async (bench) => {
    const content = pattern(50_000);
    bench.file("both", content);
    const { server, ended } = await bench.serve({ listen: ["[::]:0"], write: ANYTHING });
    const { port } = server.addresses[0]!;
    for (const host of ["127.0.0.1", "::1"]) {
      const family = host === "::1" ? "ipv6" : "ipv4";
      const client = await bench.client({ family, address: host, port });
      equal(sum(await client.get("both")), sum(content));
      await client.put(`from-${family}`, content);
    }
    const { remote } = await ended(1);
    deepEqual([remote.family, remote.address], ["ipv4", "127.0.0.1"]);
    equal(sum(await Deno.readFile(`${bench.root}/from-ipv4`)), sum(content));
  }],

  ["listens on several addresses at once", async (bench) => {
    bench.file("here", "here");
    const { server } = await bench.serve({ listen: ["127.0.0.1:0", "[::1]:0", "127.0.0.2:0"] });
    equal(server.addresses.length, 3);
    for (const address of server.addresses) {
      // Several clients, so that every thread of a server has its share.
      for (let i = 0; i < 4; i++) {
        equal(new TextDecoder().decode(await (await bench.client(address)).get("here")), "here");
      }
    }
  }],

  ["runs many transfers of one client at once", async (bench) => {
    const content = pattern(200_000);
    bench.file("shared", content);
    const { to, ended } = await bench.serve({ write: ANYTHING });
    const client = await bench.client(to, { windowSize: 8, blockSize: BLOCK });
    const gets = Array.from({ length: 10 }, () => client.get("shared"));
    const puts = Array.from({ length: 10 }, (_, i) => client.put(`up-${i}`, content));
    for (const came of await Promise.all(gets)) equal(sum(came), sum(content));
    await Promise.all(puts);
    for (let i = 0; i < 10; i++) {
      equal(sum(await Deno.readFile(`${bench.root}/up-${i}`)), sum(content));
    }
    equal((await ended(20)).outcome, "done");
  }],

  ["streams content of unknown and of announced size", async (bench) => {
    const content = pattern(300_000);
    const { to } = await bench.serve({ write: { ...ANYTHING, rejectSizeMismatch: true } });
    const client = await bench.client(to, { windowSize: 16, blockSize: BLOCK });
    async function* pieces(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < content.length; at += 7001) {
        await Promise.resolve();
        yield content.subarray(at, at + 7001);
      }
    }
    await client.put("unknown", { stream: pieces() });
    await client.put("announced", { stream: pieces(), size: content.length });
    for (const name of ["unknown", "announced"]) {
      equal(sum(await Deno.readFile(`${bench.root}/${name}`)), sum(content));
      const came: Uint8Array[] = [];
      for await (const piece of client.read(name)) came.push(piece);
      equal(sum(joined(came)), sum(content));
    }
  }],

  ["fails a stream that is not as long as it said", async (bench) => {
    const { to, ended } = await bench.serve({ write: ANYTHING });
    const client = await bench.client(to, { windowSize: 4, blockSize: 512 });
    async function* pieces(): AsyncGenerator<Uint8Array> {
      yield await Promise.resolve(pattern(5000));
    }
    for (const size of [4000, 6000]) {
      await rejects(client.put("wrong", { stream: pieces(), size }), TftpRefusal);
      equal((await ended(size === 4000 ? 1 : 2)).outcome, "peer-error");
    }
    deepEqual(bench.names(), []);
  }],

  ["moves files of the disk by their paths", async (bench) => {
    const content = pattern(100_001);
    const { to } = await bench.serve({ write: ANYTHING });
    const folder = await Deno.makeTempDir();
    try {
      await Deno.writeFile(`${folder}/from`, content);
      await upload(`${folder}/from`, urlOf(to, "there"), { driver: bench.driver });
      const { bytes } = await download(urlOf(to, "there"), `${folder}/to`, {
        driver: bench.driver,
      });
      equal(bytes, content.length);
      equal(sum(await Deno.readFile(`${folder}/to`)), sum(content));
      deepEqual(namesOf(folder), ["from", "to"]);
      await put(urlOf(to, "bytes"), content, { driver: bench.driver });
      equal(sum(await get(urlOf(to, "bytes"), { driver: bench.driver })), sum(content));
      await rejects(
        download(urlOf(to, "missing"), `${folder}/to2`, { driver: bench.driver }),
        (error: unknown) => error instanceof PeerError && error.code === "tftp.file-not-found",
      );
      deepEqual(namesOf(folder), ["from", "to"]);
    } finally {
      await Deno.remove(folder, { recursive: true });
    }
  }],

  ["counts what it did", async (bench) => {
    bench.file("counted", pattern(10_000));
    const { to, server, ended, records } = await bench.serve({ write: ANYTHING });
    const client = await bench.client(to, { windowSize: 4, blockSize: 512 });
    await client.get("counted");
    await client.put("more", pattern(3000));
    await rejects(client.get("missing"));
    await ended(3);
    // Each thread tells of its own, so the order between threads is open.
    deepEqual(records.map(({ outcome }) => outcome).sort(), ["aborted", "done", "done"]);
    equal(records.find(({ outcome }) => outcome === "aborted")!.errorCode, 1);
    const counts = server.snapshot();
    deepEqual(
      {
        requestsRead: counts.requestsRead,
        requestsWrite: counts.requestsWrite,
        requestsRefused: counts.requestsRefused,
        transfersStarted: counts.transfersStarted,
        transfersCompleted: counts.transfersCompleted,
        transfersFailed: counts.transfersFailed,
        bytesReceived: counts.bytesReceived,
      },
      {
        requestsRead: 2,
        requestsWrite: 1,
        requestsRefused: 1,
        transfersStarted: 2,
        transfersCompleted: 2,
        transfersFailed: 0,
        bytesReceived: 3000,
      },
    );
    ok(counts.bytesSent >= 10_000);
    deepEqual(await server.sessions(), []);
  }],
];

function joined(parts: readonly Uint8Array[]): Uint8Array {
  const all = new Uint8Array(parts.reduce((length, part) => length + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** What can differ when there are several threads. */
const SEVERAL = /^(serves everything|listens|runs many|counts)/;

const { "linux": linux, "linux thread": thread, "node": node } = EVERY_ROW;
runContract("TFTP", MATRIX, { "linux": linux! });
// Text is converted by the machines: each way once shows that their blocks come through.
runContract("TFTP", LONG ? MATRIX : [MATRIX[0]!, MATRIX[3]!], {
  "linux thread": thread!,
  "node": node!,
});
// Numbers that roll over are the machines' business: with sockets of another kind it takes two seconds to see the same.
runContract("TFTP", ROLLOVER, LONG ? BOTH_DRIVERS : { "linux": linux! });
runContract("TFTP", SUITE, BOTH_DRIVERS);
runContract("TFTP", SUITE.filter(([name]) => LONG || SEVERAL.test(name)), {
  ...(LONG ? { "linux thread": thread! } : {}),
  "linux threads": EVERY_ROW["linux threads"]!,
  "node threads": EVERY_ROW["node threads"]!,
});
