import { deepEqual, equal, ok } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { bytesOfHex, hexOf } from "../../internal/testing/vectors.ts";
import quic from "../testdata/quic.json" with { type: "json" };
import { createTestBlockCipher } from "../testdata/ciphers.ts";
import {
  clientHello,
  cryptoFrame,
  extension,
  initialPacket,
  u16,
  withLength16,
} from "../testdata/hello_feed.ts";
import { decodeClientHello, guessClient } from "./client_hello.ts";
import { bytesOfLatin1, joinBytes } from "./octets.ts";
import {
  type SniffAnswer,
  sniffDatagram,
  type SniffedProtocol,
  type Sniffer,
  sniffStream,
  sniffTls,
} from "./sniff.ts";
import { MAX_QUIC_DATAGRAMS, QuicSniffer } from "./sniff_quic.ts";

const random = seededRandom(71);

/** Records of at most `size` bytes each. */
function records(message: Uint8Array, size: number): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [];
  for (let at = 0; at < message.length; at += size) {
    pieces.push(joinBytes([22, 3, 1], withLength16(message.subarray(at, at + size))));
  }
  return joinBytes(...pieces);
}

/** The answer to the whole; every shorter beginning must be answered with "more". */
function sniffGrowing(sniffer: Sniffer, bytes: Uint8Array, enough = bytes.length): SniffAnswer {
  const buffer = joinBytes([0xdd, 0xdd, 0xdd], bytes, [0xdd]);
  for (let length = 0; length < enough; length++) {
    equal(sniffer(buffer, 3, 3 + length), "more", `${length} of ${bytes.length}`);
  }
  return sniffer(buffer, 3, 3 + bytes.length);
}

Deno.test("sniffTls() finds name and protocols in any number of records, and never asks for more than the message", () => {
  for (const size of [16_000, 100, 3, 1]) {
    const stream = records(clientHello("Example.COM", ["h2", "http/1.1"]), size);
    deepEqual(sniffGrowing(sniffTls, stream), {
      protocol: "tls",
      host: "example.com",
      alpn: ["h2", "http/1.1"],
      client: undefined,
    });
    const { host } = sniffTls(joinBytes(stream, [20, 3, 3, 0, 1, 1]), 0, stream.length + 6) as {
      host: string;
    };
    equal(host, "example.com");
  }
});

Deno.test("sniffTls() recognises hellos without a usable name as TLS", () => {
  for (const host of [undefined, "192.0.2.1", "::1", "a b", "", "a\0b", "a:b"]) {
    const answer = sniffTls(records(clientHello(host), 999), 0, 999) as SniffAnswer;
    deepEqual(answer, { protocol: "tls", host: undefined, alpn: [], client: undefined }, host);
  }
  // TLS 1.0 without extensions.
  const old = joinBytes([3, 1], new Uint8Array(32), [0, 0, 2, 0, 47, 1, 0]);
  const answer = sniffTls(records(joinBytes([1, 0, 0, old.length], old), 999), 0, 50);
  deepEqual(answer, { protocol: "tls", host: undefined, alpn: [], client: undefined });
});

Deno.test("sniffTls() refuses what is no ClientHello", () => {
  const hello = clientHello("a.test");
  const server = hello.slice();
  server[0] = 2;
  const bent = hello.slice();
  bent[4 + 34] = 255;
  const long = hello.slice();
  long[1] = 1;
  const streams = [
    records(server, 999),
    records(bent, 999),
    records(long, 999),
    joinBytes([22, 3, 1, 0, 0], hello),
    joinBytes([22, 3, 1, 0x50, 0], hello),
    joinBytes([23, 3, 1], withLength16(hello)),
    bytesOfLatin1("\x16\x02"),
  ];
  for (const stream of streams) equal(sniffTls(stream, 0, stream.length), "no");
});

Deno.test("decodeClientHello() makes the text of JA3 without reserved numbers", () => {
  const groups = extension(10, withLength16(u16(0x1a1a), u16(29), u16(23)));
  const formats = extension(11, [1, 0]);
  const hello = clientHello("a", [], [extension(0x0a0a), groups, formats], [0x2a2a, 4865, 49195]);
  const decoded = decodeClientHello(hello, 4, hello.length);
  equal(decoded?.ja3, "771,4865-49195,10-11-0,29-23,0");
});

Deno.test("guessClient() goes by extensions that one program sends", () => {
  const guess = (types: readonly number[], suites?: readonly number[]) => {
    const hello = clientHello("a", [], types.map((type) => extension(type)), suites);
    return guessClient(decodeClientHello(hello, 4, hello.length)!);
  };
  deepEqual([guess([17513]), guess([17613], [0x1a1a, 0x1301])], ["chromium", "chromium"]);
  deepEqual([guess([28]), guess([34])], ["firefox", "firefox"]);
  equal(guess([5, 18], [0x1a1a, 0x1301]), "safari");
  equal(guess([5, 18]), "quic-go");
  equal(guess([5]), undefined);
});

Deno.test("sniffStream() finds the host of an HTTP request as soon as its field is there", () => {
  const head = "POST /path HTTP/1.1\r\nAccept: */*\r\nhOsT:  Example.com:8080 \r\n";
  const bytes = bytesOfLatin1(head + "X: y\r\n\r\nbody");
  deepEqual(sniffGrowing(sniffStream, bytes, head.length), {
    protocol: "http",
    host: "example.com",
    alpn: [],
    client: undefined,
  });
  const host = (text: string) => {
    const answer = sniffStream(bytesOfLatin1(text), 0, text.length);
    return typeof answer === "string" ? answer : [answer.protocol, answer.host];
  };
  deepEqual(host("GET / HTTP/1.0\r\n\r\nHost: late\r\n"), ["http", undefined]);
  deepEqual(host("GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n"), ["http", undefined]);
  deepEqual(host("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"), ["http", undefined]);
  deepEqual(host("GET / HTTP/1.1\r\nX-Host: a\r\nHost: b\r\n"), ["http", "b"]);
  equal(host("GET / SPDY/3\r\n"), "no");
  equal(host("GETS / HTTP/1.1\r\n"), "no");
  equal(host("get / HTTP/1.1\r\n"), "no");
  equal(host("GET /" + "x".repeat(16_384)), "no");
});

Deno.test("sniffStream() recognises what else streams carry", () => {
  const yes = (bytes: Uint8Array): readonly unknown[] => {
    const answer = sniffGrowing(sniffStream, bytes);
    return typeof answer === "string" ? [answer] : [answer.protocol, answer.client];
  };
  deepEqual(yes(bytesOfLatin1("SSH-2.0-OpenSSH_9.2\r\n")), ["ssh", "SSH-2.0-OpenSSH_9.2"]);
  deepEqual(yes(bytesOfLatin1("\x13BitTorrent protocol")), ["bittorrent", undefined]);
  const query = bytesOfHex("1234 0100 0001 0000 0000 0000 01 61 04 74657374 00 0001 0001");
  deepEqual(yes(joinBytes(u16(query.length), query)), ["dns", undefined]);
  const rdp = bytesOfHex("0300 0013 0e e0 0000 0000 00 0100 0800 03000000");
  const answer = sniffStream(rdp, 0, rdp.length);
  equal(typeof answer === "string" ? answer : answer.protocol, "rdp");
});

Deno.test("sniffStream() says no as soon as nobody has hope, and looks only for what it is asked", () => {
  equal(sniffStream(bytesOfLatin1("\x00\x01\x02\x03"), 0, 4), "no");
  equal(sniffStream(bytesOfLatin1("SSH-x-y\n"), 0, 8), "no");
  const tls = records(clientHello("a.test"), 999);
  equal(sniffStream(tls, 0, tls.length, ["http", "ssh"]), "no");
  equal(sniffStream(tls, 0, 10, ["tls"]), "more");
  equal(sniffStream(tls, 0, tls.length, []), "no");
});

Deno.test("sniffDatagram() recognises DNS, STUN, DTLS, NTP and BitTorrent, whole and not otherwise", () => {
  const ntp = new Uint8Array(48);
  ntp[0] = 0x23;
  const cases: readonly (readonly [SniffedProtocol, Uint8Array])[] = [
    ["dns", bytesOfHex("1234 0100 0001 0000 0000 0001 01 61 04 74657374 00 0001 0001")],
    ["stun", bytesOfHex("0001 0000 2112a442 000102030405060708090a0b")],
    ["stun", bytesOfHex("0001 0004 2112a442 000102030405060708090a0b 80220000")],
    ["dtls", bytesOfHex("16 feff 0000 000000000000 0004 01020304")],
    ["ntp", ntp],
    ["bittorrent", bytesOfHex("00000417 27101980 00000000 12345678")],
    ["bittorrent", bytesOfLatin1("d1:ad2:id20:abcdefghij0123456789e1:q4:ping1:t2:aa1:y1:qe")],
    ["bittorrent", bytesOfHex("41 00 1234 00000001 00000000 00100000 0001 0000")],
    [
      "bittorrent",
      bytesOfHex("41 02 1234 00000001 00000000 00100000 0001 0000 00 08 0000000000000000"),
    ],
  ];
  for (const [protocol, bytes] of cases) {
    const answer = sniffDatagram(bytes, 0, bytes.length);
    equal(typeof answer === "string" ? answer : answer.protocol, protocol, hexOf(bytes));
    equal(sniffDatagram(bytes, 0, bytes.length, ["quic"]), "no");
    if (protocol !== "bittorrent") {
      equal(sniffDatagram(bytes.slice(0, -1), 0, bytes.length - 1), "no", hexOf(bytes));
    }
  }
  const no = [
    "1234 8100 0001 0000 0000 0000 01 61 04 74657374 00 0001 0001",
    "1234 0100 0002 0000 0000 0000 01 61 04 74657374 00 0001 0001",
    "1234 0100 0001 0000 0000 0000 41 61 04 74657374 00 0001 0001",
    "1234 0100 0001 0000 0000 0000 01 61 04 74657374 00 0001 0009",
    "0001 0002 2112a442 000102030405060708090a0b 0000",
    "16 0303 0000 000000000000 0000",
    "41 01 1234 00000001 00000000 00100000 0001 0000 00 08 0000000000000000 00",
    "",
  ];
  for (const text of no) {
    const bytes = bytesOfHex(text);
    equal(sniffDatagram(bytes, 0, bytes.length), "no", text);
  }
});

function sniffQuic(...datagrams: readonly Uint8Array[]): readonly SniffAnswer[] {
  const sniffer = new QuicSniffer(createTestBlockCipher);
  return datagrams.map((datagram) => {
    const before = hexOf(datagram);
    const buffer = joinBytes([1, 2], datagram, [3]);
    const answer = sniffer.receive(buffer, 2, 2 + datagram.length);
    equal(hexOf(buffer.subarray(2, -1)), before, "the datagram was changed");
    return answer;
  });
}

Deno.test("QuicSniffer reads the packet of RFC 9001", () => {
  const crypto = bytesOfHex(quic.crypto);
  const payload = joinBytes(crypto, new Uint8Array(quic.payloadBytes - crypto.length));
  const packet = initialPacket(bytesOfHex(quic.destination), Uint8Array.of(0, 0, 0, 2), payload);
  equal(packet.length, 1200);
  equal(hexOf(packet.subarray(0, 22)), hexOf(bytesOfHex(quic.protectedHeader)));
  equal(hexOf(packet.subarray(-16)), hexOf(bytesOfHex(quic.tag)));
  const [answer] = sniffQuic(packet);
  ok(typeof answer === "object");
  deepEqual([answer.protocol, answer.host, answer.alpn], ["quic", "example.com", ["alpn"]]);
  for (const at of [0, 5, 30, 600, 1199]) {
    const bent = packet.slice();
    bent[at]! ^= 4;
    equal(sniffQuic(bent)[0], "no", `byte ${at}`);
  }
});

Deno.test("QuicSniffer puts a ClientHello together that is cut, shuffled and repeated over datagrams", () => {
  for (const draft of ["1", "2", "29"] as const) {
    const filler = extension(21, new Uint8Array(1500));
    const message = clientHello("Example.com", ["h3"], [extension(17513), filler]);
    const cuts = [0, 1, 7, 300, 301, 1200, message.length];
    const frames = cuts.slice(1).map((end, i) => cryptoFrame(message, cuts[i]!, end));
    const destination = random.bytes(8);
    const packet = (number: number, ...parts: readonly Uint8Array[]) =>
      initialPacket(
        destination,
        Uint8Array.of(number),
        joinBytes([0, 1], ...parts, new Uint8Array(50)),
        draft,
      );
    const [a, b, c] = [
      packet(0, frames[5]!, frames[1]!),
      packet(1, frames[3]!, frames[1]!, frames[4]!),
      packet(2, frames[2]!, bytesOfHex("02 05 00 01 00 00 00"), frames[0]!),
    ];
    const answers = sniffQuic(a, b, c);
    deepEqual(answers.slice(0, 2), ["more", "more"]);
    deepEqual(answers[2], {
      protocol: "quic",
      host: "example.com",
      alpn: ["h3"],
      client: "chromium",
    });
    // What is sent along under other keys tells nothing, and ends nothing.
    const early = joinBytes(
      [draft === "2" ? 0xe0 : 0xd0],
      a.subarray(1, 15),
      [0x40, 30],
      new Uint8Array(30),
    );
    deepEqual(sniffQuic(a, early, b, c).map((answer) => typeof answer), [
      "string",
      "string",
      "string",
      "object",
    ]);
    equal(sniffQuic(early)[0], "no");
    // Two packets in one datagram, and a datagram of something else behind them.
    const [first, second] = sniffQuic(joinBytes(a, b), joinBytes(c, new Uint8Array(20)));
    equal(first, "more");
    equal(typeof second, "object");
  }
});

Deno.test("QuicSniffer refuses what is not QUIC and does not wait for ever", () => {
  equal(sniffQuic(new Uint8Array(0))[0], "no");
  equal(sniffQuic(bytesOfLatin1("hello, world, this is no packet"))[0], "no");
  const destination = random.bytes(8);
  const packet = (payload: Uint8Array) =>
    initialPacket(destination, Uint8Array.of(0), joinBytes(payload, new Uint8Array(30)));
  equal(sniffQuic(packet(Uint8Array.of(7, 7, 7)))[0], "no", "a frame that may not be here");
  equal(sniffQuic(packet(bytesOfHex("06 7fff 4010")))[0], "no", "too far away");
  equal(sniffQuic(packet(bytesOfHex("06 00 7000")))[0], "no", "longer than the packet");
  equal(sniffQuic(packet(bytesOfHex("06 00 04 02000000")))[0], "no", "a server's message");
  equal(sniffQuic(packet(bytesOfHex("06 00 04 01ffffff")))[0], "no", "endless");
  const pings = Array.from({ length: MAX_QUIC_DATAGRAMS + 1 }, () => packet(Uint8Array.of(1)));
  deepEqual(sniffQuic(...pings), [...pings.slice(1).map(() => "more"), "no"]);
});

Deno.test("sniffers survive hostile bytes and look at nothing outside", () => {
  const seed = 73;
  const good = [
    records(clientHello("example.com", ["h2"]), 60),
    records(clientHello("example.com", ["h2"]), 999),
    bytesOfLatin1("GET / HTTP/1.1\r\nHost: example.com\r\n\r\n"),
    bytesOfLatin1("SSH-2.0-x\r\n"),
    bytesOfHex("1234 0100 0001 0000 0000 0000 01 61 04 74657374 00 0001 0001"),
    bytesOfHex("41 02 1234 00000001 00000000 00100000 0001 0000 00 08 0000000000000000"),
    initialPacket(
      Uint8Array.of(1, 2, 3),
      Uint8Array.of(0),
      joinBytes(cryptoFrame(clientHello("a.test"), 0, 100), new Uint8Array(20)),
    ),
  ];
  const packets = new HostilePackets(seededRandom(seed), good, 400);
  const rounds = Deno.env.get("FASTWIRE_LONG") === "1" ? 1_000_000 : 40_000;
  let recognised = 0;
  for (let i = 0; i < rounds; i++) {
    packets.next();
    const { bytes, start, end } = packets;
    try {
      const answers = [sniffStream(bytes, start, end), sniffDatagram(bytes, start, end)];
      if (i % 16 === 0) {
        answers.push(new QuicSniffer(createTestBlockCipher).receive(bytes, start, end));
      }
      // The same bytes at the end of a buffer: what is behind must not have mattered.
      if (i % 64 === 0) deepEqual(sniffStream(bytes.slice(0, end), start, end), answers[0]);
      for (const answer of answers) if (typeof answer === "object") recognised++;
    } catch (error) {
      throw new Error(`seed ${seed}, round ${i}`, { cause: error });
    }
  }
  ok(recognised > 100);
});
