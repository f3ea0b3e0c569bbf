/** What real clients do, packet by packet: each of these broke somebody's boot once. */
import { deepEqual, equal, match, ok } from "node:assert/strict";
import { createSocket } from "node:dgram";
import { type ContractCase, runContract } from "../internal/testing/contract.ts";
import {
  ack,
  data,
  error,
  inWords,
  payloadOf,
  type RawPeer,
  request,
} from "./testdata/raw_peer.ts";
import { type Bench, BOTH_DRIVERS, pattern, stillRows, until } from "./testdata/server_bench.ts";

/** Accepts every upload. */
const ANY = { enabled: true, allowAny: true, allowedPatterns: ["**"], allowOverwrite: true };

/** Acknowledges block by block until the short one; answers all of the content. */
async function fetchRest(peer: RawPeer, blockSize: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (let block = 1;; block++) {
    const { words, bytes, from } = await peer.receive();
    equal(words, `DATA ${block & 0xffff} ${bytes.length - 4}`);
    parts.push(payloadOf(bytes).slice());
    peer.send(ack(block & 0xffff), from);
    if (bytes.length - 4 < blockSize) break;
  }
  return Uint8Array.from(parts.flatMap((part) => [...part]));
}

const SUITE: ContractCase<Bench>[] = [
  ["serves iPXE: many small files in a row and names with escapes as they are", async (bench) => {
    const { to, ended } = await bench.serve();
    const names = ["boot.ipxe", "menu%20one.ipxe", "menu one.ipxe", "a+b", "ümlaut"];
    for (const name of names) bench.file(name, `#!ipxe ${name}`);
    for (let round = 0; round < 20; round++) {
      const name = names[round % names.length]!;
      const peer = await bench.peer(to);
      peer.send(request("read", name, ["blksize=1432", "tsize=0"]));
      const size = new TextEncoder().encode(`#!ipxe ${name}`).length;
      equal(await peer.hear(), `OACK blksize=1432 tsize=${size}`);
      peer.send(ack(0));
      const text = new TextDecoder().decode(await fetchRest(peer, 1432));
      equal(text, `#!ipxe ${name}`);
      await peer[Symbol.asyncDispose]();
    }
    equal((await ended(20)).outcome, "done");
  }],

  [
    "serves iPXE: an empty multicast option is ignored and every duplicate may be acknowledged",
    async (bench) => {
      bench.file("kernel", pattern(3000));
      const { to, ended } = await bench.serve();
      const peer = await bench.peer(to);
      peer.send(request("read", "kernel", ["blksize=1432", "tsize=0", "multicast="]));
      equal(await peer.hear(), "OACK blksize=1432 tsize=3000");
      peer.send(ack(0));
      peer.send(ack(0));
      equal(await peer.hear(), "DATA 1 1432");
      peer.send(ack(1));
      peer.send(ack(1));
      peer.send(ack(1));
      equal(await peer.hear(), "DATA 2 1432");
      peer.send(ack(2));
      // Nothing was sent twice: the next packet is the next block.
      equal(await peer.hear(), "DATA 3 136");
      peer.send(ack(3));
      const { outcome, retransmits } = await ended(1);
      deepEqual([outcome, retransmits], ["done", 0]);
    },
  ],

  ["serves UEFI: a size probe ended by ERROR 8, then the file from another port", async (bench) => {
    bench.file("boot.efi", pattern(10_000));
    const { to, ended, server } = await bench.serve();
    const probe = await bench.peer(to);
    probe.send(request("read", "boot.efi", ["tsize=0", "blksize=1468", "windowsize=4"]));
    equal(await probe.hear(), "OACK tsize=10000 blksize=1468 windowsize=4");
    probe.send(error(8, "User aborted the transfer"));
    const { outcome } = await ended(1);
    equal(outcome, "size-probe");
    await until(() => server.snapshot().sizeProbes === 1, "the probe to be counted");
    equal(server.snapshot().transfersFailed, 0);
    const peer = await bench.peer(to);
    peer.send(request("read", "boot.efi", ["blksize=1468", "windowsize=4"]));
    equal(await peer.hear(), "OACK blksize=1468 windowsize=4");
    peer.send(ack(0));
    deepEqual(await peer.hearAll(4), [1, 2, 3, 4].map((block) => `DATA ${block} 1468`));
    peer.send(ack(4));
    deepEqual(await peer.hearAll(3), ["DATA 5 1468", "DATA 6 1468", "DATA 7 1192"]);
    peer.send(ack(7));
    equal((await ended(2)).outcome, "done");
  }],

  ["serves UEFI: never answers more than was asked for", async (bench) => {
    bench.file("boot.efi", pattern(10));
    const { to } = await bench.serve();
    for (const size of [8, 511, 1024, 1428, 1468]) {
      const peer = await bench.peer(to);
      peer.send(request("read", "boot.efi", [`blksize=${size}`, "windowsize=1"]));
      equal(await peer.hear(), `OACK blksize=${size} windowsize=1`);
      peer.send(error(0, "enough"));
    }
  }],

  [
    "serves GRUB: names of options in lower case, whatever the case of the request",
    async (bench) => {
      bench.file("grub.cfg", pattern(1500));
      const { to, ended } = await bench.serve();
      const peer = await bench.peer(to);
      peer.send(request("read", "/grub.cfg", ["BlkSize=1024", "TSIZE=0"], "OCTET"));
      equal(await peer.hear(), "OACK blksize=1024 tsize=1500");
      peer.send(ack(0));
      equal(await peer.hear(), "DATA 1 1024");
      peer.send(error(0, "closed"));
      const { outcome, message } = await ended(1);
      deepEqual([outcome, message], ["peer-error", "closed"]);
      equal(peer.waiting, 0);
    },
  ],

  [
    "serves U-Boot: timeout first, and its repeated acknowledgement brings the lost block",
    async (bench) => {
      bench.file("uImage", pattern(4000));
      const { to, ended } = await bench.serve();
      const peer = await bench.peer(to);
      peer.send(request("read", "uImage", ["timeout=5", "tsize=0", "blksize=1468"]));
      equal(await peer.hear(), "OACK timeout=5 tsize=4000 blksize=1468");
      peer.send(ack(0));
      equal(await peer.hear(), "DATA 1 1468");
      peer.send(ack(1));
      equal(await peer.hear(), "DATA 2 1468");
      // Block 2 is lost; U-Boot says again what it has, well before the five seconds are over.
      const startedAt = performance.now();
      await until(() => {
        peer.send(ack(1));
        return peer.waiting > 0;
      }, "block 2 again");
      ok(performance.now() - startedAt < 3000);
      equal(await peer.hear(), "DATA 2 1468");
      peer.send(ack(2));
      equal(await peer.hear(), "DATA 3 1064");
      peer.send(ack(3));
      equal((await ended(1)).retransmits, 1);
    },
  ],

  ["serves PXELINUX: misses are answered at once, one after the other", async (bench) => {
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    const times: number[] = [];
    for (let i = 0; i < 200; i++) {
      const startedAt = performance.now();
      peer.send(request("read", `pxelinux.cfg/C0A8${i}`, ["tsize=0"]), to);
      equal(await peer.hear(), "ERROR 1 File not found");
      times.push(performance.now() - startedAt);
    }
    times.sort((a, b) => a - b);
    // Less than a millisecond on a quiet machine; a limiter would show as tens of them.
    ok(times[100]! < 20, `median ${times[100]} ms`);
  }],

  ["serves Windows: backslashes and private options", async (bench) => {
    bench.file("Boot/x64/wdsmgfw.efi", pattern(2000));
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(
      request("read", "\\Boot\\x64\\wdsmgfw.efi", [
        "tsize=0",
        "blksize=1456",
        "windowsize=4",
        "msftwindow=31416",
      ]),
    );
    equal(await peer.hear(), "OACK tsize=2000 blksize=1456 windowsize=4");
    peer.send(error(0, "enough"));
  }],

  ["serves Windows: any case of a name when told to", async (bench) => {
    bench.file("Boot/BCD", "bcd");
    const { to } = await bench.serve({ caseInsensitive: true });
    const peer = await bench.peer(to);
    peer.send(request("read", "\\boot\\bcd"));
    equal(await peer.hear(), "DATA 1 3");
    peer.send(ack(1));
  }],

  [
    "serves curl: the default block size may be asked for, behind tsize and before timeout",
    async (bench) => {
      bench.file("file", pattern(513));
      const { to } = await bench.serve({ write: ANY });
      const peer = await bench.peer(to);
      peer.send(request("read", "file", ["tsize=0", "blksize=512", "timeout=6"]));
      equal(await peer.hear(), "OACK tsize=513 blksize=512 timeout=6");
      peer.send(ack(0));
      equal((await fetchRest(peer, 512)).length, 513);
      const up = await bench.peer(to);
      up.send(request("write", "up", ["tsize=3", "blksize=512", "timeout=6"]));
      equal(await up.hear(), "OACK tsize=3 blksize=512 timeout=6");
      up.send(data(1, 3));
      equal(await up.hear(), "ACK 1");
    },
  ],

  ["serves atftp: multicast in a write request is ignored", async (bench) => {
    const { to } = await bench.serve({ write: ANY });
    const peer = await bench.peer(to);
    peer.send(
      request("write", "up", [
        "tsize=3",
        "timeout=5",
        "blksize=1428",
        "windowsize=8",
        "multicast=",
      ]),
    );
    equal(await peer.hear(), "OACK tsize=3 timeout=5 blksize=1428 windowsize=8");
    peer.send(data(1, 3));
    equal(await peer.hear(), "ACK 1");
  }],

  ["serves tftp-hpa: netascii without options", async (bench) => {
    bench.file("motd", "one\ntwo\n");
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "motd", [], "netascii"));
    const { bytes, from } = await peer.receive();
    equal(new TextDecoder().decode(payloadOf(bytes)), "one\r\ntwo\r\n");
    peer.send(ack(1), from);
  }],

  ["tells the size of text as it crosses the network", async (bench) => {
    bench.file("motd", "one\ntwo\n");
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "motd", ["tsize=0"], "NetASCII"));
    equal(await peer.hear(), "OACK tsize=10");
    peer.send(error(0, "enough"));
  }],

  ["serves busybox: blksize before tsize", async (bench) => {
    bench.file("file", pattern(70_000));
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file", ["blksize=65464", "tsize=0"]));
    equal(await peer.hear(), "OACK blksize=65464 tsize=70000");
    peer.send(ack(0));
    equal((await fetchRest(peer, 65464)).length, 70_000);
  }],

  ["serves firmware that puts garbage behind its names and requests", async (bench) => {
    bench.file("pxe.0", pattern(5));
    const { to } = await bench.serve();
    const plain = request("read", "pxe.0");
    const spellings: Uint8Array[] = [
      Uint8Array.of(...plain, 0xff, 0xff),
      Uint8Array.of(...plain, 98, 108, 107),
      Uint8Array.of(...plain, ...new Uint8Array(300)),
      request("read", Uint8Array.of(...new TextEncoder().encode("pxe.0"), 0xff, 0xff)),
      request("read", "pxe.0\n"),
      request("read", "./pxe.0"),
      request("read", "//pxe.0"),
      request("read", "pxe.0", [], "OcTeT"),
    ];
    for (const bytes of spellings) {
      const peer = await bench.peer(to);
      peer.send(bytes);
      equal(await peer.hear(), "DATA 1 5", String(bytes));
      peer.send(ack(1));
    }
  }],

  ["serves firmware that uses one port for every file", async (bench) => {
    const { to, ended } = await bench.serve();
    const peer = await bench.peer(to);
    for (let i = 0; i < 20; i++) {
      bench.file(`f${i}`, pattern(512 + i));
      peer.send(request("read", `f${i}`), to);
      equal((await fetchRest(peer, 512)).length, 512 + i);
    }
    equal((await ended(20)).outcome, "done");
  }],

  ["takes an acknowledgement with bytes behind it", async (bench) => {
    bench.file("file", pattern(600));
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    peer.send(Uint8Array.of(...ack(1), 0, 0, 0, 0));
    equal(await peer.hear(), "DATA 2 88");
  }],

  ["takes an ERROR without its last zero", async (bench) => {
    bench.file("file", pattern(600));
    const { to, ended } = await bench.serve();
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    peer.send(Uint8Array.of(0, 5, 0, 3, 102, 117, 108, 108));
    const { message, errorCode } = await ended(1);
    deepEqual([message, errorCode], ["full", 3]);
  }],

  ["ignores values that are no numbers and options that come twice", async (bench) => {
    bench.file("file", pattern(600));
    const { to } = await bench.serve();
    const peer = await bench.peer(to);
    const options = [
      "blksize=+512",
      "blksize=600",
      "timeout=0",
      "windowsize=-1",
      "tsize=0",
      "tsize=1",
    ];
    peer.send(request("read", "file", options));
    match(await peer.hear(), /^OACK (blksize=600 )?tsize=600$/);
    peer.send(error(0, "enough"));
  }],

  ["answers from the address that was asked", async (bench) => {
    bench.file("file", pattern(600));
    const { server } = await bench.serve({ listen: ["0.0.0.0:0"] });
    if (!server.traits.packetInfo) return;
    for (const address of ["127.0.0.2", "127.0.0.1", "127.3.2.1"]) {
      const { port } = server.addresses[0]!;
      const peer = await bench.peer({ family: "ipv4", address, port });
      peer.send(request("read", "file"));
      equal(await peer.hear(), "DATA 1 512");
      equal(peer.to.address, address);
      peer.send(ack(1));
      equal(await peer.hear(), "DATA 2 88");
      equal(peer.to.address, address);
      peer.send(ack(2));
      peer.send(request("read", "missing"), { family: "ipv4", address, port });
      equal(await peer.hear(), "ERROR 1 File not found");
      equal(peer.to.address, address);
    }
  }],

  ["answers from the address that was asked in single-port mode too", async (bench) => {
    bench.file("file", pattern(600));
    const { server } = await bench.serve({ listen: ["0.0.0.0:0"], singlePort: true });
    if (!server.traits.packetInfo) return;
    const to = { family: "ipv4", address: "127.0.0.2", port: server.addresses[0]!.port } as const;
    const peer = await bench.peer(to);
    peer.send(request("read", "file"));
    equal(await peer.hear(), "DATA 1 512");
    deepEqual(peer.to, to);
    peer.send(ack(1));
    equal(await peer.hear(), "DATA 2 88");
    deepEqual(peer.to, to);
  }],

  ["gives no answer to a request that was broadcast", async (bench) => {
    bench.file("file", pattern(600));
    const { server, to } = await bench.serve({ listen: ["0.0.0.0:0"] });
    if (!server.traits.packetInfo) return;
    const socket = createSocket("udp4");
    const words: string[] = [];
    try {
      await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
      socket.setBroadcast(true);
      const fenced = new Promise<void>((resolve) => {
        socket.on("message", (bytes) => {
          words.push(inWords(bytes));
          if (words.at(-1) === "ERROR 1 File not found") resolve();
        });
      });
      const send = (bytes: Uint8Array, host: string): Promise<void> =>
        new Promise((resolve, reject) => {
          socket.send(bytes, to.port, host, (error) => error === null ? resolve() : reject(error));
        });
      await send(request("read", "file"), "127.255.255.255");
      await until(() => server.snapshot().datagramsRejected === 1, "the broadcast to arrive");
      await send(request("read", "missing"), "127.0.0.1");
      await fenced;
    } finally {
      await new Promise<void>((resolve) => socket.close(() => resolve()));
    }
    deepEqual(words, ["ERROR 1 File not found"]);
  }],
];

runContract("TFTP server", SUITE, stillRows(BOTH_DRIVERS));
