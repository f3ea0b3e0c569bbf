import { deepEqual, equal, match, notEqual, ok, throws } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import { HostilePackets } from "../internal/testing/hostile.ts";
import { ManualClock } from "../internal/time/clock.ts";
import { DnsCache } from "./dns_cache.ts";
import { FakeipBlock, FakeipDnsServer } from "./dns_fakeip.ts";
import {
  addressData,
  addressOfReverseName,
  decodeDns,
  type DnsMessage,
  encodeDnsAnswer,
  encodeDnsQuery,
  readDnsName,
  skipName,
  writeDnsName,
} from "./dns_message.ts";
import { formatDnsData, parseDnsRecord } from "./dns_records.ts";
import { askerOf, makeReply, replyOf, withTtl, writeReply } from "./dns_reply.ts";
import { DnsPlan } from "./dns_rules.ts";
import { resolveProxyConfig } from "./config.ts";
import { readIpBlock } from "./ip_text.ts";

const LONG = Deno.env.get("FASTWIRE_LONG") === "1";
const A = { name: "www.example.com", type: 1, class: 1 };

function bytesOf(hex: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(hex.replaceAll(" ", "").match(/../g) ?? [], (byte) => parseInt(byte, 16));
}

function read(bytes: Uint8Array): DnsMessage {
  const message = decodeDns(bytes, 0, bytes.length);
  if (typeof message === "string") throw new Error(message);
  return message;
}

/** An answer as servers write it: names compressed, a CNAME in between, OPT at the end. */
const COMPRESSED = bytesOf(
  "1234 8180 0001 0002 0000 0001 03777777 076578616d706c65 03636f6d 00 0001 0001" +
    "c00c 0005 0001 0000012c 0006 03637777 c010" +
    "c02d 0001 0001 00000014 0004 c0000201" +
    "00 0029 04d0 0000 0000 0000",
);

Deno.test("decodeDns reads an answer with compressed names", () => {
  const message = read(COMPRESSED);
  deepEqual(message.question, A);
  deepEqual([message.id, message.isResponse, message.rcode], [0x1234, true, 0]);
  deepEqual(
    message.records.map((
      { section, nameAt, type, ttl },
    ) => [section, readDnsName(COMPRESSED, 0, nameAt, COMPRESSED.length), type, ttl]),
    [
      ["answer", "www.example.com", 5, 300],
      ["answer", "cww.example.com", 1, 20],
      ["additional", ".", 41, 0],
    ],
  );
  equal(message.edns?.udpBytes, 1232);
});

Deno.test("decodeDns refuses every answer that was cut short", () => {
  for (let end = 0; end < COMPRESSED.length; end++) {
    equal(typeof decodeDns(COMPRESSED, 0, end), "string", `cut at ${end}`);
  }
});

Deno.test("decodeDns refuses names that lead in circles, run too long, or point out of the message", () => {
  const header = "0001 8180 0001 0001 0000 0000 0161 00 0001 0001";
  const tail = "0001 0001 00000001 0004 01020304";
  const cases: readonly (readonly [string, string])[] = [
    ["itself", "c013"],
    ["two pointers at each other", "c015 c013"],
    ["into the header", "c000"],
    ["out of the message", "cfff"],
    ["a label that never ends", "3f61"],
    ["a label type that is reserved", "8000"],
  ];
  equal(typeof read(bytesOf(`${header} c00c ${tail}`)), "object");
  for (const [what, name] of cases) {
    const flaw = decodeDns(bytesOf(`${header} ${name} ${tail}`), 0, 99);
    ok(flaw === "name" || flaw === "short", what);
  }
  // 128 pointers one behind the other lead to a name; one more does not.
  const chain = (pointers: number): Uint8Array => {
    const bytes = [...bytesOf(`${"00".repeat(12)} 0161 00`)];
    for (let i = 0; i < pointers; i++) {
      const to = i === 0 ? 12 : 15 + 2 * (i - 1);
      bytes.push(0xc0 | to >> 8, to & 255);
    }
    return Uint8Array.from(bytes);
  };
  equal(readDnsName(chain(128), 0, 15 + 2 * 127, 400), "a");
  equal(readDnsName(chain(129), 0, 15 + 2 * 128, 400), undefined);
  // The pointed-to part counts: 4 × 64 bytes are more than a name may have.
  const label = `3f${"61".repeat(63)}`;
  const long = bytesOf(`${"00".repeat(12)} ${label.repeat(3)} 00 ${label} c00c`);
  equal(readDnsName(long, 0, 12 + 193, long.length), undefined);
  equal(readDnsName(long, 0, 12, long.length), Array(3).fill("a".repeat(63)).join("."));
});

Deno.test("decodeDns refuses a question that points, and messages without exactly one question", () => {
  equal(decodeDns(bytesOf("0001 0100 0001 0000 0000 0000 c004 0001 0001"), 0, 18), "name");
  equal(decodeDns(bytesOf("0001 0100 0000 0000 0000 0000"), 0, 12), "questions");
  const twice = bytesOf("0001 0100 0002 0000 0000 0000 00 0001 0001 00 0001 0001");
  equal(decodeDns(twice, 0, twice.length), "questions");
});

Deno.test("decodeDns refuses addresses of a wrong length and a second OPT", () => {
  const answer = encodeDnsAnswer(A, 0, {
    answer: [{ type: 1, ttl: 1, data: new Uint8Array(5) }],
  });
  equal(decodeDns(answer, 0, answer.length), "record");
  const query = encodeDnsQuery(1, A)!;
  const twice = Uint8Array.from([...query, ...query.subarray(query.length - 11)]);
  twice[11] = 2;
  equal(decodeDns(twice, 0, twice.length), "record");
});

Deno.test("a name survives writing and reading, odd bytes included", () => {
  const bytes = new Uint8Array(300);
  for (const name of ["a.example", ".", "\\000\\046\\092.x", "_dns._udp.example", "a\\032b"]) {
    const end = writeDnsName(bytes, 3, name);
    equal(readDnsName(bytes, 0, 3, end), name);
    equal(skipName(bytes, 3, end), end);
  }
  equal(writeDnsName(bytes, 0, "UPPER.example"), 15);
  equal(readDnsName(bytes, 0, 0, 15), "upper.example");
  for (const name of ["a..b", "x".repeat(64), `${"a.".repeat(127)}bb`, "ü\u{1F600}.x", ".a"]) {
    equal(writeDnsName(bytes, 0, name), -1, name);
  }
  ok(writeDnsName(bytes, 0, `${"a.".repeat(126)}a`) === 255);
});

Deno.test("encodeDnsQuery sends the network of a client subnet along, and nothing behind its prefix", () => {
  for (
    const [text, kept] of [["192.0.2.77/24", "192.0.2.0/24"], [
      "2001:db8:ffff::/36",
      "2001:db8:f000::/36",
    ]]
  ) {
    const query = encodeDnsQuery(7, { ...A, clientSubnet: text })!;
    equal(read(query).edns?.clientSubnet, kept);
  }
  equal(read(encodeDnsQuery(7, A)!).edns?.clientSubnet, undefined);
  equal(encodeDnsQuery(7, { ...A, name: "x".repeat(64) }), undefined);
});

Deno.test("writeReply gives a kept answer the id, the spelling and the flags of who asks", () => {
  const reply = replyOf(COMPRESSED, 0, read(COMPRESSED));
  equal(reply.ttlSeconds, 20);
  deepEqual(reply.addresses, ["192.0.2.1"]);
  const query = encodeDnsQuery(0xbeef, A)!;
  query[13] = 0x57; // "W"
  const into = new Uint8Array(600);
  const end = writeReply(reply, 5, undefined, askerOf(query, 0, read(query), true), into, 7);
  const answer = into.slice(7, end);
  const message = read(answer);
  equal(message.id, 0xbeef);
  equal(answer[13], 0x57);
  deepEqual(message.records.map(({ type, ttl }) => [type, ttl]), [[5, 295], [1, 15], [41, 0]]);
  // Who sent no OPT gets none.
  const bare = query.slice(0, query.length - 11);
  bare[11] = 0;
  const short = writeReply(reply, 0, undefined, askerOf(bare, 0, read(bare), true), into, 0);
  equal(read(into.slice(0, short)).edns, undefined);
  deepEqual(
    read(into.slice(0, writeReply(reply, 99, 30, askerOf(bare, 0, read(bare), true), into, 0)))
      .records.map(({ ttl }) => ttl),
    [30, 30],
  );
});

Deno.test("writeReply cuts what an asker over UDP cannot take, and says so", () => {
  const answer = Array.from(
    { length: 60 },
    (_, i) => ({ type: 1, ttl: 9, data: addressData(`10.0.0.${i}`) }),
  );
  const reply = makeReply(A, 0, { answer });
  const query = encodeDnsQuery(1, A)!;
  const bare = query.slice(0, query.length - 11);
  bare[11] = 0;
  const into = new Uint8Array(2000);
  const limits: readonly (readonly [Uint8Array, boolean, boolean])[] = [
    [bare, true, true],
    [bare, false, false],
    [query, true, false],
  ];
  for (const [asked, overUdp, isCut] of limits) {
    const end = writeReply(reply, 0, undefined, askerOf(asked, 0, read(asked), overUdp), into, 0);
    const message = read(into.slice(0, end));
    equal(message.truncated, isCut);
    equal(message.records.filter(({ type }) => type === 1).length, isCut ? 0 : 60);
    ok(!isCut || end <= 512);
  }
});

Deno.test("an answer is kept for its shortest time to live, a negative one for what SOA says", () => {
  const soa = (ttl: number, minimum: number) => ({
    ...parseDnsRecord(
      `example.com ${ttl} IN SOA ns.example.com admin.example.com 1 2 3 4 ${minimum}`,
    ),
  });
  const address = (ttl: number) => ({ type: 1, ttl, data: addressData("192.0.2.1") });
  equal(makeReply(A, 0, { answer: [address(50), address(40)] }).ttlSeconds, 40);
  equal(makeReply(A, 3, { authority: [soa(100, 30)] }).ttlSeconds, 30);
  equal(makeReply(A, 0, { authority: [soa(20, 30)] }).ttlSeconds, 20);
  equal(makeReply(A, 3).ttlSeconds, 0);
  equal(makeReply(A, 2, { answer: [address(50)] }).ttlSeconds, 0);
  equal(makeReply(A, 0, { answer: [address(0x8000_0000)] }).ttlSeconds, 0);
  const longer = withTtl(makeReply(A, 0, { answer: [address(50)] }), 7);
  deepEqual([longer.ttlSeconds, read(longer.bytes).records[0]!.ttl], [7, 7]);
});

Deno.test("DnsCache lets answers end, serves ended ones as long as it may, and gives up the oldest", () => {
  const clock = new ManualClock(1000);
  const reply = makeReply(A, 0, { answer: [{ type: 1, ttl: 10, data: addressData("192.0.2.1") }] });
  const cache = new DnsCache({ capacity: 2, optimisticMs: 5000 });
  cache.store("a", reply, clock.now());
  clock.advance(9999);
  equal(cache.read("a", clock.now())!.endsAt, 11_000);
  clock.advance(1);
  ok(cache.read("a", clock.now())!.endsAt <= clock.now());
  clock.advance(5000);
  equal(cache.read("a", clock.now()), undefined);
  for (const key of ["a", "b"]) cache.store(key, reply, clock.now());
  ok(cache.read("a", clock.now()));
  cache.store("c", reply, clock.now());
  deepEqual(["a", "b", "c"].map((key) => cache.read(key, clock.now()) !== undefined), [
    true,
    false,
    true,
  ]);
  const { size, stale, evictions } = cache.snapshot();
  deepEqual([size, stale, evictions], [2, 1, 1]);
  // What must not be kept is not, and bounds hold.
  const bounded = new DnsCache({ capacity: 9, minTtlSeconds: 20, maxTtlSeconds: 30 });
  bounded.store("none", makeReply(A, 2), 0);
  equal(bounded.read("none", 0), undefined);
  bounded.store("short", reply, 0);
  bounded.store("long", withTtl(reply, 99), 0);
  deepEqual(["short", "long"].map((key) => bounded.read(key, 0)!.endsAt), [20_000, 30_000]);
  const endless = new DnsCache({ capacity: 9, disableExpire: true });
  endless.store("a", reply, 0);
  equal(endless.read("a", 1e12)!.endsAt, Infinity);
});

Deno.test("parseDnsRecord and formatDnsData are each other's reverse", () => {
  const lines = [
    "a.example 60 IN A 192.0.2.1",
    "a.example 60 IN AAAA 2001:db8::1",
    "a.example 60 IN CNAME b.example.",
    'a.example 60 IN TXT "one two" "thr\\"ee"',
    "a.example 60 IN MX 10 mail.example.",
    "a.example 60 IN SRV 1 2 3 host.example.",
    "a.example 60 IN SOA ns.example. admin.example. 1 2 3 4 5",
    "a.example 60 IN TYPE65 \\# 3 000102",
  ];
  for (const line of lines) {
    const { name, type, ttl, data } = parseDnsRecord(line);
    deepEqual([name, ttl], ["a.example", 60]);
    equal(formatDnsData(type, data, 0, 0, data.length), line.split(" ").slice(4).join(" "));
  }
  equal(parseDnsRecord("a.example. A 1.2.3.4").ttl, 3600);
  for (const bad of ["", "a.example", "a.example A 1.2.3", "a.example MX mail", "a A \\# 2 00"]) {
    throws(() => parseDnsRecord(bad), /Cannot read the record/, bad);
  }
});

Deno.test("addressOfReverseName reads both zones and nothing else", () => {
  equal(addressOfReverseName("1.2.0.192.in-addr.arpa"), "192.0.2.1");
  equal(addressOfReverseName(`1.${"0.".repeat(23)}8.b.d.0.1.0.0.2.ip6.arpa`), "2001:db8::1");
  for (
    const name of ["x.2.0.192.in-addr.arpa", "2.0.192.in-addr.arpa", "1.ip6.arpa", "a.example"]
  ) {
    equal(addressOfReverseName(name), undefined);
  }
});

Deno.test("FakeipBlock gives each name an address that leads back, and begins again when all are taken", () => {
  const block = new FakeipBlock("198.18.0.0/29", readIpBlock("198.18.0.0/29")!);
  const addresses = ["a", "b", "c", "d", "e"].map((name) => block.addressOf(name));
  deepEqual(addresses, [2, 3, 4, 5, 6].map((last) => `198.18.0.${last}`));
  equal(block.addressOf("b"), "198.18.0.3");
  equal(block.nameOf("198.18.0.3"), "b");
  equal(block.addressOf("f"), "198.18.0.2");
  deepEqual([block.nameOf("198.18.0.2"), block.addressOf("a")], ["f", "198.18.0.3"]);
  for (const other of ["198.18.0.1", "198.18.0.7", "198.18.0.8", "192.0.2.3", "::1"]) {
    equal(block.nameOf(other), undefined, other);
  }
  throws(() => new FakeipBlock("198.18.0.0/31", readIpBlock("198.18.0.0/31")!), RangeError);
});

Deno.test("FakeipDnsServer takes over what the one before it has given", () => {
  const before = new FakeipDnsServer("fake", "198.18.0.0/15", "fc00::/18");
  for (const name of ["a.example", "b.example"]) {
    for (const type of [1, 28]) before.exchange({ name, type, class: 1 });
  }
  const after = new FakeipDnsServer("fake", "198.18.0.0/15", "fc00::/18");
  after.takeOver(before);
  equal(after.nameOf("fc00::3"), "b.example");
  equal(after.nameOf("198.18.0.2"), "a.example");
  after.exchange({ name: "c.example", type: 1, class: 1 });
  equal(after.nameOf("198.18.0.4"), "c.example");
  equal(after.size, 5);
});

Deno.test("DnsPlan asks about addresses only when there is an answer, and then beside the name", () => {
  const { dns } = resolveProxyConfig({
    dns: {
      servers: [{ type: "local", tag: "x" }, { type: "local", tag: "y" }, {
        type: "local",
        tag: "z",
      }],
      rules: [
        { query_type: "AAAA", action: "reject" },
        { domain_suffix: "example", ip_cidr: "10.0.0.0/8", server: "x", rewrite_ttl: 5 },
        { action: "route-options", domain_suffix: "example", disable_cache: true },
        { ip_is_private: true, invert: true, server: "y" },
      ],
      final: "z",
    },
    outbounds: [{ type: "direct", tag: "direct" }],
  });
  const plan = new DnsPlan(dns.rules, dns.final, {
    disableCache: false,
    rewriteTtl: undefined,
    clientSubnet: undefined,
  });
  const request = (host: string, queryType: number) => ({
    inbound: "",
    network: "udp" as const,
    sourceAddress: "",
    sourcePort: 0,
    host,
    port: 0,
    queryType,
  });
  const every = () => true;
  equal(plan.decide(request("a.example", 28), 0, every).kind, "action");
  const first = plan.decide(request("a.example", 1), 0, every);
  deepEqual(
    first.kind === "server" && [first.server, first.at, first.options.rewriteTtl],
    ["x", 1, 5],
  );
  ok(plan.isFiltered(1));
  ok(plan.fits(1, request("a.example", 1), ["10.1.2.3"]));
  ok(!plan.fits(1, request("a.example", 1), ["192.0.2.1"]));
  const second = plan.decide(request("a.example", 1), 2, every);
  deepEqual(
    second.kind === "server" && [second.server, second.options.disableCache],
    ["y", true],
  );
  ok(plan.fits(3, request("a.example", 1), ["192.0.2.1"]));
  ok(!plan.fits(3, request("a.example", 1), ["10.1.2.3"]));
  const last = plan.decide(request("b.test", 1), 0, (tag) => tag !== "y");
  equal(last.kind === "server" && last.server, "z");
});

Deno.test("decodeDns and what follows it never throw, whatever comes", () => {
  const seed = Deno.env.get("FASTWIRE_SEED") === undefined
    ? 20_261
    : Number(Deno.env.get("FASTWIRE_SEED"));
  const random = seededRandom(seed);
  const good = [COMPRESSED, encodeDnsQuery(9, { ...A, clientSubnet: "10.0.0.0/8" })!];
  const hostile = new HostilePackets(random, good, 512);
  const into = new Uint8Array(1500);
  let accepted = 0;
  for (let round = 0; round < (LONG ? 2_000_000 : 100_000); round++) {
    hostile.next();
    const { bytes, start, end } = hostile;
    try {
      const message = decodeDns(bytes, start, end);
      if (typeof message === "string") continue;
      accepted++;
      ok(message.questionEnd <= end);
      for (const { nameAt, type, dataStart, dataEnd } of message.records) {
        ok(dataEnd <= end);
        notEqual(readDnsName(bytes, start, nameAt, end), undefined);
        formatDnsData(type, bytes, start, dataStart, dataEnd);
      }
      const reply = replyOf(bytes, start, message);
      const asker = askerOf(bytes, start, message, true);
      const written = writeReply(reply, 0, undefined, asker, into, 0);
      equal(typeof decodeDns(into, 0, written), "object");
    } catch (error) {
      throw new Error(`seed ${seed}, round ${round}: ${error}`);
    }
  }
  ok(accepted > 1000, `only ${accepted} messages were accepted`);
  match(String(seed), /^\d+$/);
});
