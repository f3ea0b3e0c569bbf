/** What the server does on the wire, packet by packet, on every driver. */
import { deepEqual, equal, match, ok, rejects, throws } from "node:assert/strict";
import { SystemError } from "../internal/errors.ts";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import { serve } from "./server.ts";
import { MemoryStore } from "./store_memory.ts";
import { ack, data, error, payloadOf, request } from "./testdata/raw_peer.ts";
import {
  type Bench,
  BOTH_DRIVERS,
  EVERY_ROW,
  namesOf,
  pattern,
  stillRows,
  sum,
  until,
} from "./testdata/server_bench.ts";

const SUITE: ContractCase<Bench>[] = [
  ["answers the options it accepts in the order they were asked for", async (bench) => {
    bench.file("file", pattern(2000));
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file", ["tsize=0", "BLKSIZE=600", "nonsense=1", "windowsize=2"]));
    equal(await peer.hear(), "OACK tsize=2000 blksize=600 windowsize=2");
    peer.send(ack(0));
    deepEqual(await peer.hearAll(2), ["DATA 1 600", "DATA 2 600"]);
    peer.send(ack(2));
    deepEqual(await peer.hearAll(2), ["DATA 3 600", "DATA 4 200"]);
    peer.send(ack(4));
  }],

  ["starts with DATA 1 when no option is accepted", async (bench) => {
    bench.file("file", pattern(3));
    const { to, ended } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file", ["unknown=1"]));
    const { words, from, bytes } = await peer.receive();
    equal(words, "DATA 1 3");
    deepEqual(payloadOf(bytes), pattern(3));
    ok(from.port !== to.port, "a transfer has its own port");
    peer.send(ack(1), from);
    deepEqual((await ended(1)).outcome, "done");
  }],

  ["refuses names that lead out of the root, in every spelling", async (bench) => {
    const outside = await Deno.makeTempDir();
    try {
      await Deno.writeTextFile(`${outside}/secret`, "SECRET");
      bench.file("inside", "inside");
      await Deno.symlink(`${outside}/secret`, `${bench.root}/link`);
      await Deno.symlink(outside, `${bench.root}/folder`);
      const { to } = await bench.serve({
        write: { enabled: true, allowAny: true, allowedPatterns: ["**"] },
      });
      const peer = await bench.peer(to);
      const name = outside.slice(outside.lastIndexOf("/") + 1);
      const names = [
        `../${name}/secret`,
        `..\\${name}\\secret`,
        `./../${name}/secret`,
        `a/../../${name}/secret`,
        `/../${name}/secret`,
        `//..//${name}//secret`,
        `..//${name}/secret`,
        `.\\..\\${name}/secret`,
        "link",
        "folder/secret",
        "./folder/./secret",
        `${outside}/secret`,
        `..`,
        `.`,
        `/`,
        `../../../../../../../../etc/passwd`,
        `..\xff`,
      ];
      for (const operation of ["read", "write"] as const) {
        for (const wanted of names) {
          peer.send(request(operation, wanted), to);
          const { words, from } = await peer.receive();
          if (operation === "write" && !words.startsWith("ERROR")) {
            // A name of its own inside is no way out.
            peer.send(error(0, "no"), from);
            continue;
          }
          match(words, /^ERROR [0-36] /, `${operation} ${wanted}: ${words}`);
          ok(!words.includes(outside), words);
        }
      }
      deepEqual(namesOf(outside), ["secret"]);
      equal(await Deno.readTextFile(`${outside}/secret`), "SECRET");
    } finally {
      await Deno.remove(outside, { recursive: true });
    }
  }],

  ["does not answer what asks for no answer", async (bench) => {
    const { to, server } = await bench.serve();
    const peer = await bench.peer(to);
    const silent = [
      error(0, "hello"),
      error(5, "stray"),
      ack(1),
      data(1, 100),
      Uint8Array.of(0),
      Uint8Array.of(),
      Uint8Array.of(0, 9, 1, 2),
      Uint8Array.of(0, 0, 0, 0),
      Uint8Array.of(0, 6, 97, 0, 98, 0),
    ];
    for (const bytes of silent) if (bytes.length > 0) peer.send(bytes);
    deepEqual(await peer.heardBefore(to), []);
    await until(() => server.snapshot().datagramsRejected === 8, "eight rejections");
  }],

  [
    "answers stray packets with ERROR 4 when told to, but no error, and ten a second",
    async (bench) => {
      const { to } = await bench.serve({ replyIllegal: true });
      const peer = await bench.peer(to);
      peer.send(error(1, "x"));
      for (let i = 0; i < 25; i++) peer.send(ack(i));
      const answers = await peer.heardBefore(to);
      // A second may begin in between.
      ok(answers.length === 10 || answers.length === 20, String(answers.length));
      ok(answers.every((words) => words === "ERROR 4 Illegal TFTP operation"));
    },
  ],

  ["tells a malformed requester once a second", async (bench) => {
    const { to, server } = await bench.serve();
    const peer = await bench.peer(to);
    for (let i = 0; i < 20; i++) peer.send(Uint8Array.of(0, 1, 97, 98, 99));
    for (let i = 0; i < 20; i++) peer.send(Uint8Array.of(0, 1, 0, 111, 0));
    const answers = await peer.heardBefore(to);
    ok(answers.length >= 1 && answers.length <= 2, String(answers.length));
    equal(answers[0], "ERROR 4 Malformed request");
    await until(() => server.snapshot().requestsMalformed === 40, "forty malformed requests");
  }],

  ["refuses modes it does not speak", async (bench) => {
    bench.file("file", "text");
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file", [], "mail"));
    equal(await peer.hear(), "ERROR 4 mail mode not supported");
    peer.to = to;
    peer.send(request("read", "file", [], "image"));
    equal(await peer.hear(), "ERROR 4 Unknown transfer mode");
  }],

  ["tells strangers so and goes on", async (bench) => {
    bench.file("file", pattern(1000));
    const { to, ended, server } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    const stranger = await bench.peer(peer.to);
    const other = await bench.peer(peer.to, "127.0.0.9");
    for (let i = 0; i < 5; i++) {
      stranger.send(ack(1));
      other.send(error(0, "die"));
    }
    equal(await stranger.hear(), "ERROR 5 Unknown transfer ID");
    equal(await other.hear(), "ERROR 5 Unknown transfer ID");
    peer.send(ack(1));
    equal(await peer.hear(), "DATA 2 488");
    peer.send(ack(2));
    equal((await ended(1)).outcome, "done");
    await until(() => server.snapshot().strangers === 10, "ten strangers");
    equal(stranger.waiting + other.waiting, 0);
  }],

  ["follows a peer whose port changes when told not to care", async (bench) => {
    bench.file("file", pattern(1000));
    const { to, ended } = await bench.serve({ sourcePortCheck: false });
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    const moved = await bench.peer(peer.to);
    const foreign = await bench.peer(peer.to, "127.0.0.9");
    foreign.send(ack(1));
    equal(await foreign.hear(), "ERROR 5 Unknown transfer ID");
    moved.send(ack(1));
    // Which of the two ports is answered is the translator's business; the transfer goes on.
    await until(() => peer.waiting + moved.waiting > 0, "block 2");
    equal((await (peer.waiting > 0 ? peer : moved).receive()).words, "DATA 2 488");
    moved.send(ack(2));
    equal((await ended(1)).outcome, "done");
  }],

  ["repeats its first answer for a repeated request and opens nothing new", async (bench) => {
    bench.file("file", pattern(1000));
    // On the portable driver a duplicate finds the socket still being opened; it is swallowed, and the timer answers.
    const { to, server } = await bench.serve({
      retry: { initialTimeoutMs: 100, minTimeoutMs: 100, maxTimeoutMs: 200 },
    });
    for (const options of [[], ["blksize=600"]]) {
      const peer = await bench.peer(to);
      for (let i = 0; i < 2; i++) peer.send(request("read", "file", options), to);
      const [first, second] = [await peer.receive(), await peer.receive()];
      equal(first.words, options.length === 0 ? "DATA 1 512" : "OACK blksize=600");
      deepEqual(second, first);
      peer.send(ack(options.length === 0 ? 1 : 0), first.from);
      match(await peer.hear(), /^DATA/);
      // Answered already: a late duplicate changes nothing.
      peer.send(request("read", "file", options), to);
      await until(() => server.snapshot().requestsRepeated >= (options.length === 0 ? 2 : 4), "");
      equal(peer.waiting, 0);
    }
    equal(server.snapshot().transfersStarted, 2);
  }],

  ["lets another request from the same port replace the transfer without a word", async (bench) => {
    bench.file("first", pattern(5000));
    bench.file("second", pattern(10));
    const { to, ended, records } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "first", ["blksize=1000"]));
    equal(await peer.hear(), "OACK blksize=1000");
    peer.send(request("read", "second"), to);
    equal(await peer.hear(), "DATA 1 10");
    peer.send(ack(1));
    await ended(2);
    deepEqual(records.map(({ filename, outcome }) => [filename, outcome]).sort(), [
      ["first", "aborted"],
      ["second", "done"],
    ]);
    equal(peer.waiting, 0);
  }],

  [
    "takes port numbers from the range it was given and is busy when they are out",
    async (bench) => {
      bench.file("file", pattern(1000));
      const spare = await bench.peer({ family: "ipv4", address: "127.0.0.1", port: 9 });
      const port = spare.address.port;
      await spare[Symbol.asyncDispose]();
      const { to, ended } = await bench.serve({ portRangeFirst: port, portRangeLast: port });
      const [a, b] = [await bench.peer(to), await bench.peer(to)];
      a.send(request("read", "file"));
      equal(await a.hear(), "DATA 1 512");
      equal(a.to.port, port);
      // Two threads have two minds, but the port is one.
      b.send(request("read", "file"));
      equal(await b.hear(), "ERROR 0 server busy");
      a.send(ack(1));
      equal(await a.hear(), "DATA 2 488");
      a.send(ack(2));
      await ended(2);
      const c = await bench.peer(to);
      c.send(request("read", "file"));
      equal(await c.hear(), "DATA 1 512");
      equal(c.to.port, port);
    },
  ],

  ["frees the transfer of a client that is gone", async (bench) => {
    bench.file("file", pattern(100_000));
    const { to, ended, server } = await bench.serve({
      // Not sooner: on a busy machine a block is sent again before this thread has answered it.
      retry: { initialTimeoutMs: 150, minTimeoutMs: 150, maxTimeoutMs: 300, maxIdleMs: 2000 },
    });
    if (!server.traits.errorQueue) return;
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    peer.send(ack(1));
    equal(await peer.hear(), "DATA 2 512");
    peer.send(ack(2));
    const startedAt = performance.now();
    await peer[Symbol.asyncDispose]();
    const { outcome, message, timeouts } = await ended(1);
    deepEqual([outcome, message], ["no-answer", "refused"]);
    ok(timeouts <= 3, `${timeouts} timeouts`);
    ok(performance.now() - startedAt < 1500);
  }],

  ["frees it in single-port mode too", async (bench) => {
    bench.file("file", pattern(100_000));
    const { to, ended, server } = await bench.serve({
      singlePort: true,
      retry: { initialTimeoutMs: 30, minTimeoutMs: 30, maxTimeoutMs: 60, maxIdleMs: 2000 },
    });
    if (!server.traits.errorQueue) return;
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    peer.send(ack(1));
    await peer[Symbol.asyncDispose]();
    const { outcome, message } = await ended(1);
    deepEqual([outcome, message], ["no-answer", "refused"]);
  }],

  ["serves other transfers while one port is flooded", async (bench) => {
    const content = pattern(200_000);
    bench.file("file", content);
    const { to } = await bench.serve({
      retry: { minTimeoutMs: 20, maxTimeoutMs: 1000, initialTimeoutMs: 1000 },
    });
    const flooder = await bench.peer(to);
    flooder.send(request("read", "file"));
    equal(await flooder.hear(), "DATA 1 512");
    const client = await bench.client(to, { windowSize: 1, blockSize: 1000 });
    const before = performance.now();
    const got = client.get("file");
    // Two hundred round trips of the other transfer have to fit between these, in turns.
    let sent = 0;
    let done = false;
    got.finally(() => done = true);
    while (!done && sent < 200_000) {
      for (let i = 0; i < 100; i++, sent++) flooder.send(ack(9));
      await new Promise((resolve) => setTimeout(resolve, 0));
    }
    equal(sum(await got), sum(content));
    ok(performance.now() - before < 10_000);
  }],

  ["stops at once when closed, telling its peers, and closes twice", async (bench) => {
    bench.file("file", pattern(5000));
    const { to, server, ended } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    peer.send(ack(1));
    equal(await peer.hear(), "DATA 2 512");
    equal((await server.sessions()).length, 1);
    await Promise.all([server.close(), server.close()]);
    await server.finished;
    equal(await peer.hear(), "ERROR 0 server shutting down");
    equal((await ended(1)).outcome, "aborted");
    await server.close();
    await server.shutdown();
    deepEqual(await server.sessions(), []);
  }],

  ["lets transfers end when it shuts down and refuses new ones", async (bench) => {
    bench.file("file", pattern(1000));
    const { to, server } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    let stopped = false;
    const stopping = server.shutdown().then(() => stopped = true);
    const late = await bench.peer(to);
    // A thread learns of it a moment later; then every request is refused.
    await until(() => {
      late.send(request("read", `missing${late.waiting}`));
      return late.waiting > 0;
    }, "an answer");
    let words = "";
    while (words !== "ERROR 0 server shutting down") {
      late.send(request("read", "missing"), to);
      words = (await late.receive()).words;
    }
    equal(stopped, false);
    peer.send(ack(1));
    equal(await peer.hear(), "DATA 2 488");
    peer.send(ack(2));
    await stopping;
    equal(stopped, true);
  }],

  ["does not wait for ever when it shuts down", async (bench) => {
    bench.file("file", pattern(1000));
    const { to, server } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    await server.shutdown({ graceMs: 20 });
    match(await peer.hear(), /^(ERROR 0 server shutting down|DATA 1 512)$/);
  }],

  ["obeys a signal before, during and after", async (bench) => {
    const before = AbortSignal.abort(new Error("before"));
    await rejects(bench.serve({ signal: before }), /before/);
    const controller = new AbortController();
    const { server } = await bench.serve({ signal: controller.signal });
    controller.abort();
    await server.finished;
    const late = new AbortController();
    const { server: closed } = await bench.serve({ signal: late.signal });
    await closed.close();
    late.abort();
    await closed.finished;
  }],

  ["says which address is taken", async (bench) => {
    const { to } = await bench.serve();
    await rejects(
      bench.serve({ listen: [`127.0.0.1:${to.port}`] }),
      (error: unknown) => error instanceof SystemError && error.errnoName === "EADDRINUSE",
    );
    await rejects(bench.serve({ listen: ["127.0.0.1:0", `127.0.0.1:${to.port}`] }), SystemError);
  }],

  ["says that a root is missing", async (bench) => {
    await rejects(bench.serve({ root: `${bench.root}/nowhere` }), SystemError);
  }],
];

const WRITES: ContractCase<Bench>[] = [
  ["refuses uploads unless they are enabled", async (bench) => {
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("write", "up"));
    match(await peer.hear(), /^ERROR 2 /);
  }],

  ["acknowledges the last block only once the file is there", async (bench) => {
    const { to, ended } = await bench.serve({ write: ANY });
    const peer = await bench.peer(to);
    peer.send(request("write", "up", ["blksize=600", "tsize=700"]));
    equal(await peer.hear(), "OACK blksize=600 tsize=700");
    peer.send(data(1, 600));
    equal(await peer.hear(), "ACK 1");
    equal(bench.names().includes("up"), false);
    equal(bench.names().length, 1);
    peer.send(data(2, 100));
    equal(await peer.hear(), "ACK 2");
    deepEqual(bench.names(), ["up"]);
    equal((await Deno.stat(`${bench.root}/up`)).size, 700);
    equal((await ended(1)).outcome, "done");
    // The acknowledgement may have been lost: whoever asks again is told again.
    peer.send(data(2, 100));
    equal(await peer.hear(), "ACK 2");
  }],

  ["starts with ACK 0 when no option is accepted", async (bench) => {
    const { to } = await bench.serve({ write: ANY });
    const peer = await bench.peer(to);
    peer.send(request("write", "up"));
    equal(await peer.hear(), "ACK 0");
    peer.send(request("write", "up"), to);
    equal(await peer.hear(), "ACK 0");
    peer.send(data(1, 3));
    equal(await peer.hear(), "ACK 1");
  }],

  ["removes what came when it stops", async (bench) => {
    const { to, server } = await bench.serve({ write: ANY });
    const peer = await bench.peer(to);
    peer.send(request("write", "half"));
    equal(await peer.hear(), "ACK 0");
    peer.send(data(1, 512));
    equal(await peer.hear(), "ACK 1");
    await server.close();
    deepEqual(bench.names(), []);
  }],

  ["answers an existing name with ERROR 6", async (bench) => {
    bench.file("there", "there");
    const { to } = await bench.serve({ write: { ...ANY, allowOverwrite: false } });
    const peer = await bench.peer(to);
    peer.send(request("write", "there"));
    match(await peer.hear(), /^ERROR 6 /);
    equal(await Deno.readTextFile(`${bench.root}/there`), "there");
  }],

  ["answers the second of two uploads of one name with ERROR 6", async (bench) => {
    // Threads cannot know of each other's uploads before the end; the file system decides then.
    if ((bench.row.workers ?? 0) > 1) return;
    const { to } = await bench.serve({ write: ANY });
    const [a, b] = [await bench.peer(to), await bench.peer(to)];
    a.send(request("write", "one"));
    equal(await a.hear(), "ACK 0");
    b.send(request("write", "one"));
    match(await b.hear(), /^ERROR 6 /);
    a.send(data(1, 5));
    equal(await a.hear(), "ACK 1");
    deepEqual(bench.names(), ["one"]);
  }],

  ["refuses an announced size above the limit before any data", async (bench) => {
    const { to } = await bench.serve({ write: { ...ANY, maxFileBytes: 1000 } });
    const peer = await bench.peer(to);
    peer.send(request("write", "large", ["tsize=1001"]));
    match(await peer.hear(), /^ERROR 3 /);
    deepEqual(bench.names(), []);
  }],

  ["stops an upload that grows over the limit", async (bench) => {
    const { to, ended } = await bench.serve({ write: { ...ANY, maxFileBytes: 1000 } });
    const peer = await bench.peer(to);
    peer.send(request("write", "large"));
    equal(await peer.hear(), "ACK 0");
    peer.send(data(1, 512));
    equal(await peer.hear(), "ACK 1");
    peer.send(data(2, 512));
    // Blocks are written together, so the acknowledgement may have left already.
    const answer = await peer.hear();
    match(answer === "ACK 2" ? await peer.hear() : answer, /^ERROR 3 /);
    equal((await ended(1)).outcome, "aborted");
    deepEqual(bench.names(), []);
  }],

  ["accepts a size that is not the announced one unless told otherwise", async (bench) => {
    for (const rejectSizeMismatch of [false, true]) {
      const { to, ended } = await bench.serve({ write: { ...ANY, rejectSizeMismatch } });
      const peer = await bench.peer(to);
      peer.send(request("write", `size-${rejectSizeMismatch}`, ["tsize=7"]));
      equal(await peer.hear(), "OACK tsize=7");
      peer.send(data(1, 5));
      equal(
        await peer.hear(),
        rejectSizeMismatch ? "ERROR 0 got 5 bytes, 7 announced" : "ACK 1",
      );
      await ended(1);
    }
    deepEqual(bench.names(), ["size-false"]);
  }],

  ["obeys the patterns of names that may be uploaded", async (bench) => {
    const { to } = await bench.serve({
      write: { enabled: true, allowedPatterns: ["*.cfg"], deniedPatterns: ["secret*"] },
    });
    for (
      const [name, answer] of [["a.cfg", /^ACK 0/], ["a.txt", /^ERROR 2/], [
        "secret.cfg",
        /^ERROR 2/,
      ]] as const
    ) {
      const peer = await bench.peer(to);
      peer.send(request("write", name));
      match(await peer.hear(), answer, name);
      peer.send(error(0, "enough"));
    }
  }],

  ["ends a transfer whose block is longer than agreed", async (bench) => {
    const { to, ended } = await bench.serve({ write: ANY });
    const peer = await bench.peer(to);
    peer.send(request("write", "long"));
    equal(await peer.hear(), "ACK 0");
    peer.send(data(1, 600));
    match(await peer.hear(), /^ERROR 4 /);
    equal((await ended(1)).outcome, "protocol-error");
    deepEqual(bench.names(), []);
  }],

  ["keeps an upload in netascii as the host writes text", async (bench) => {
    const { to, ended } = await bench.serve({ write: ANY });
    const peer = await bench.peer(to);
    peer.send(request("write", "text", [], "netascii"));
    equal(await peer.hear(), "ACK 0");
    peer.send(data(1, new TextEncoder().encode("a\r\nb\r\0c")));
    equal(await peer.hear(), "ACK 1");
    await ended(1);
    equal(await Deno.readTextFile(`${bench.root}/text`), "a\nb\rc");
  }],
];

/** What takes a second, because nobody is given up sooner. */
const PATIENT: ContractCase<Bench>[] = [
  ["never sends a forged requester more than three retransmissions", async (bench) => {
    bench.file("file", pattern(100_000));
    const { to, records } = await bench.serve({
      retry: {
        initialTimeoutMs: 10,
        minTimeoutMs: 10,
        maxTimeoutMs: 20,
        maxIdleMs: 1000,
        maxRetries: 9,
      },
    });
    const [plain, options] = [await bench.peer(to), await bench.peer(to)];
    plain.send(request("read", "file"));
    options.send(request("read", "file", ["blksize=1400", "windowsize=64"]));
    await until(() => records.length === 2, "both transfers to be given up", 8000);
    ok(records.every(({ outcome }) => outcome === "no-answer"));
    ok(plain.waiting >= 2 && plain.waiting <= 4, `${plain.waiting} blocks`);
    ok(options.waiting >= 2 && options.waiting <= 4, `${options.waiting} options`);
    // Not told either: the answer would go to the victim.
    for (const peer of [plain, options]) {
      while (peer.waiting > 0) {
        match(await peer.hear(), /^(DATA 1 512|OACK blksize=1400 windowsize=64)$/);
      }
    }
  }],

  ["removes what came of an upload that breaks off", async (bench) => {
    const { to, ended } = await bench.serve({
      write: ANY,
      retry: {
        maxIdleMs: 1000,
        initialTimeoutMs: 20,
        minTimeoutMs: 20,
        maxTimeoutMs: 50,
        maxRetries: 1,
      },
    });
    const peer = await bench.peer(to);
    peer.send(request("write", "told"));
    equal(await peer.hear(), "ACK 0");
    peer.send(data(1, 512));
    equal(await peer.hear(), "ACK 1");
    equal(bench.names().length, 1);
    peer.send(error(0, "changed my mind"));
    const told = await ended(1);
    deepEqual([told.outcome, told.message], ["peer-error", "changed my mind"]);
    deepEqual(bench.names(), []);
    const silent = await bench.peer(to);
    silent.send(request("write", "silent"));
    equal(await silent.hear(), "ACK 0");
    silent.send(data(1, 512));
    equal(await silent.hear(), "ACK 1");
    equal((await ended(2)).outcome, "no-answer");
    deepEqual(bench.names(), []);
  }],
];

/** Accepts every upload. */
const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };

Deno.test("serve() refuses what it cannot start with", async () => {
  await rejects(serve({ listen: ["127.0.0.1:0"] }), TypeError);
  const store = new MemoryStore();
  await rejects(serve({ store, listen: ["example.org:69"] }), TypeError);
  await rejects(
    serve({ store, listen: ["127.0.0.1:0"], portRangeFirst: 9, portRangeLast: 8 }),
    RangeError,
  );
  await rejects(serve({ store, lissten: [] } as unknown as { store: MemoryStore }), /listen/);
  throws(() => new MemoryStore({ write: { enabled: true } }), RangeError);
});

/** What can differ when there are several threads. */
const SEVERAL =
  /^(answers the options|lets another|takes port|frees|serves other|stops at once|lets transfers|obeys a|says which|removes what came when|acknowledges the last)/;

/** `FASTWIRE_LONG=1` runs everything on every row. */
const LONG = Deno.env.get("FASTWIRE_LONG") === "1";

const { "linux thread": thread, "linux threads": threads, "node threads": nodeThreads } = EVERY_ROW;
runContract("TFTP server", SUITE, stillRows(BOTH_DRIVERS));
runContract("TFTP server", PATIENT, stillRows(BOTH_DRIVERS));
runContract("TFTP server", WRITES, stillRows(BOTH_DRIVERS));
runContract(
  "TFTP server",
  WRITES.filter(([name]) => SEVERAL.test(name)),
  stillRows({
    "linux thread": thread!,
  }),
);
// The same loop runs on threads; starting them is what takes the time of these.
const onThread = SUITE.filter(([name]) => LONG || SEVERAL.test(name));
runContract("TFTP server", onThread, stillRows({ "linux thread": thread! }));
runContract(
  "TFTP server",
  onThread.filter(([name]) => LONG || /^(lets |stops at once|says which)/.test(name)),
  stillRows({ "linux threads": threads!, "node threads": nodeThreads! }),
);
