import { deepEqual, equal, ok, throws } from "node:assert/strict";
import fc from "fast-check";
import { seededRandom } from "../../internal/random.ts";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { bytesOfHex, forVectors, hexOf, type VectorFile } from "../../internal/testing/vectors.ts";
import addresses from "../testdata/addresses.json" with { type: "json" };
import {
  ADDRESS_REJECT_NAMES,
  decodeAddress,
  encodeAddress,
  type Endpoint,
  EndpointCache,
  formatEndpoint,
  measureAddress,
  normalizeHost,
  parseEndpoint,
  REJECT_ADDRESS_ROOM,
  REJECT_ADDRESS_SHORT,
  writeAddress,
} from "./address.ts";
import { formatIpv6, ipFamilyOf, writeIpText } from "./ip_text.ts";

const file: VectorFile<Endpoint> = addresses;

Deno.test("decodeAddress() and EndpointCache read every vector", () => {
  const cache = new EndpointCache(0);
  forVectors(file, (vector, bytes) => {
    for (const read of [decodeAddress, cache.read.bind(cache)]) {
      const decoded = read(bytes, 0, bytes.length);
      const meaning = typeof decoded === "number" ? ADDRESS_REJECT_NAMES[-decoded] : decoded;
      deepEqual(meaning, vector.decoded ?? vector.rejected);
    }
  });
});

Deno.test("writeAddress() writes every vector byte for byte", () => {
  forVectors(file, (vector, bytes) => {
    if (vector.decoded === undefined || vector.decodeOnly) return;
    equal(hexOf(encodeAddress(vector.decoded)), hexOf(bytes));
    const into = new Uint8Array(bytes.length + 3).fill(0xdd);
    equal(writeAddress(into, 2, vector.decoded), 2 + bytes.length);
    equal(hexOf(into), `dd dd ${hexOf(bytes)} dd`);
    for (let room = 0; room < bytes.length; room++) {
      equal(writeAddress(into.subarray(0, room), 0, vector.decoded), REJECT_ADDRESS_ROOM);
    }
  });
});

Deno.test("measureAddress() never asks for more than the address has, and always for more than is there", () => {
  forVectors(file, (vector, bytes) => {
    if (vector.decoded === undefined) return;
    for (let length = 0; length <= bytes.length; length++) {
      const measured = measureAddress(bytes, 0, length);
      ok(measured <= bytes.length, `asked for ${measured} of ${bytes.length}`);
      equal(measured <= length, length === bytes.length);
      equal(decodeAddress(bytes, 0, length) === REJECT_ADDRESS_SHORT, length < bytes.length);
    }
  });
});

Deno.test("an address survives writing and reading, a name of 255 bytes too", () => {
  const label = fc.stringMatching(/^[a-z0-9_-]{1,20}$/);
  const host = fc.oneof(
    fc.array(label, { minLength: 1, maxLength: 8 }).map((labels) => labels.join(".")),
    fc.ipV4(),
    fc.ipV6(),
    fc.constant("a".repeat(255)),
  );
  fc.assert(fc.property(host, fc.nat(65535), (text, port) => {
    const normal = normalizeHost(text);
    ok(normal !== undefined);
    const bytes = encodeAddress({ host: normal, port });
    deepEqual(decodeAddress(bytes, 0, bytes.length), { host: normal, port });
    deepEqual(parseEndpoint(formatEndpoint({ host: normal, port })), { host: normal, port });
  }));
});

Deno.test("writeAddress() refuses what the wire cannot carry", () => {
  const into = new Uint8Array(300);
  for (const host of ["", "a".repeat(256)]) {
    throws(() => writeAddress(into, 0, { host, port: 1 }), RangeError);
  }
  throws(() => writeAddress(into, 0, { host: "a", port: 65536 }), RangeError);
  for (const host of ["ä", "a b", "a\n"]) {
    throws(() => writeAddress(into, 0, { host, port: 1 }), TypeError);
  }
});

Deno.test("EndpointCache answers the same object for the same bytes and never a wrong one", () => {
  const cache = new EndpointCache(3);
  const random = seededRandom(7);
  const known = Array.from(
    { length: 40 },
    (_, i) => encodeAddress({ host: i % 2 === 0 ? `host-${i}.test` : `192.0.2.${i}`, port: i }),
  );
  const first = cache.read(known[0]!, 0, known[0]!.length);
  ok(first === cache.read(known[0]!, 0, known[0]!.length));
  for (let i = 0; i < 5000; i++) {
    const bytes = known[random.u32() % known.length]!;
    deepEqual(cache.read(bytes, 0, bytes.length), decodeAddress(bytes, 0, bytes.length));
  }
});

Deno.test("IP literals are read strictly and written canonically", () => {
  const cases: readonly (readonly [text: string, canonical: string | undefined])[] = [
    ["192.0.2.1", "192.0.2.1"],
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["256.1.1.1", "256.1.1.1"],
    ["01.2.3.4", "01.2.3.4"],
    ["127.1", "127.1"],
    ["1.2.3.4.", "1.2.3.4"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
    ["::ffff:192.0.2.1", "192.0.2.1"],
    ["64:ff9b::192.0.2.1", "64:ff9b::c000:201"],
    ["[::1]", "::1"],
    ["1:2:3:4:5:6:7", undefined],
    ["1:2:3:4:5:6:7:8:9", undefined],
    ["1::2::3", undefined],
    ["1:2:3:4:5:6:7::8", undefined],
    ["::12345", undefined],
    ["::1%eth0", undefined],
    [":::", undefined],
    ["1.2.3.4::", undefined],
    ["[192.0.2.1]", undefined],
    ["[]", undefined],
    ["[::1", undefined],
  ];
  for (const [text, canonical] of cases) equal(normalizeHost(text), canonical, text);
  // Too many dots or numbers too large: names, if odd ones.
  equal(ipFamilyOf("256.1.1.1"), 0);
  equal(ipFamilyOf("127.1"), 0);
});

Deno.test("formatIpv6() and writeIpText() are inverse for random addresses with zeros", () => {
  const random = seededRandom(11);
  const bytes = new Uint8Array(16);
  const back = new Uint8Array(16);
  for (let i = 0; i < 3000; i++) {
    for (let group = 0; group < 16; group += 2) {
      const isZero = random.u32() % 2 === 0;
      bytes[group] = isZero ? 0 : random.u32();
      bytes[group + 1] = isZero ? 0 : random.u32();
    }
    bytes[0] = 0x20;
    const text = formatIpv6(bytes, 0);
    equal(writeIpText(back, 0, text), 16, text);
    deepEqual(back, bytes, text);
    // The URL parser of the platform is an independent writer of the same rules.
    equal(new URL(`http://[${text}]/`).hostname, `[${text}]`);
  }
});

Deno.test("parseEndpoint() refuses what is no endpoint", () => {
  for (
    const text of ["", ":80", "a", "a:", "a:65536", "a:-1", "a:1:2", "::1:80", "[::1]", "a:8 0"]
  ) {
    equal(parseEndpoint(text), undefined, text);
  }
  deepEqual(parseEndpoint("a", 80), { host: "a", port: 80 });
});

Deno.test("decodeAddress() survives hostile bytes", () => {
  const seed = 3;
  const good = file.cases.map(({ hex }) => bytesOfHex(hex));
  const packets = new HostilePackets(seededRandom(seed), good, 300);
  const cache = new EndpointCache(2);
  const rounds = Deno.env.get("FASTWIRE_LONG") === "1" ? 1_000_000 : 100_000;
  for (let i = 0; i < rounds; i++) {
    packets.next();
    const { bytes, start, end } = packets;
    const read = cache.read(bytes, start, end);
    if (typeof read === "number") continue;
    ok(start + measureAddress(bytes, start, end) <= end, `seed ${seed}, round ${i}`);
    equal(normalizeHost(read.host), read.host, `seed ${seed}, round ${i}`);
  }
});
