import { deepEqual, equal, notEqual, ok, throws } from "node:assert/strict";
import { seededRandom } from "../internal/random.ts";
import {
  ADDRESS_BYTES,
  addressLength,
  copyAddress,
  equalAddress,
  equalHost,
  formatAddress,
  hashAddress,
  parseIpv4,
  parseIpv6,
  readAddress,
  type SocketAddress,
  unmapAddress,
  writeAddress,
} from "./address.ts";

function written(address: SocketAddress): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  writeAddress(view, 0, address);
  return view;
}

function ipv6(address: string, port = 69, scope?: number): SocketAddress {
  return scope === undefined
    ? { family: "ipv6", address, port }
    : { family: "ipv6", address, port, scope };
}

function ipv4(address: string, port = 69): SocketAddress {
  return { family: "ipv4", address, port };
}

function hex(view: DataView<ArrayBuffer>): string {
  return [...new Uint8Array(view.buffer)].map((byte) => byte.toString(16).padStart(2, "0"))
    .join("");
}

Deno.test("writeAddress writes a sockaddr_in, zero-padded", () => {
  const view = new DataView(new ArrayBuffer(ADDRESS_BYTES + 8));
  new Uint8Array(view.buffer).fill(0xff);
  equal(writeAddress(view, 4, ipv4("192.0.2.7", 6969)), 16);
  equal(hex(view), `ffffffff02001b39c0000207${"00".repeat(24)}ffffffff`);
  equal(addressLength(view, 4), 16);
});

Deno.test("writeAddress writes a sockaddr_in6 with its scope", () => {
  const view = written(ipv6("fe80::1:2", 69, 3));
  equal(hex(view), `0a00004500000000fe80000000000000000000000001000203000000${"00".repeat(4)}`);
  equal(addressLength(view, 0), 28);
  deepEqual(readAddress(view, 0), ipv6("fe80::1:2", 69, 3));
  ok(Object.isFrozen(readAddress(view, 0)));
});

Deno.test("writeAddress refuses what is no address", () => {
  for (
    const bad of [
      ipv4("1.2.3"),
      ipv4("1.2.3.4.5"),
      ipv4("1.2.3.256"),
      ipv4("01.2.3.4"),
      ipv4("1.2.3.4 "),
      ipv4("localhost"),
      ipv4("::1"),
      ipv6("1.2.3.4"),
      ipv6(""),
      ipv6(":"),
      ipv6(":::"),
      ipv6("1::2::3"),
      ipv6("1:2:3:4:5:6:7"),
      ipv6("1:2:3:4:5:6:7:8:9"),
      ipv6("1:2:3:4::5:6:7:8"),
      ipv6("12345::"),
      ipv6("g::"),
      ipv6("::1.2.3.256"),
      ipv6("[::1]"),
      ipv6("fe80::1%eth0"),
    ]
  ) throws(() => written(bad), TypeError, bad.address);
  for (const port of [-1, 65_536, 1.5, NaN]) {
    throws(() => written(ipv4("1.2.3.4", port)), RangeError);
  }
});

// Text in, canonical text out; RFC 4291 §2.2 and the rules of RFC 5952 §4 and §5.
const TEXTS: readonly (readonly [string, string])[] = [
  ["::", "::"],
  ["::1", "::1"],
  ["1::", "1::"],
  ["2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
  ["2001:0DB8::0001", "2001:db8::1"],
  ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
  ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
  ["0:0:0:0:0:0:0:0", "::"],
  ["1:2:3:4:5:6:7:8", "1:2:3:4:5:6:7:8"],
  ["1:2:3:4:5:6:7::", "1:2:3:4:5:6:7:0"],
  ["::2:3:4:5:6:7:8", "0:2:3:4:5:6:7:8"],
  ["::ffff:192.0.2.1", "::ffff:192.0.2.1"],
  ["::ffff:c000:201", "::ffff:192.0.2.1"],
  ["64:ff9b::192.0.2.33", "64:ff9b::c000:221"],
];

Deno.test("readAddress gives IPv6 its canonical text", () => {
  for (const [text, canonical] of TEXTS) {
    equal(readAddress(written(ipv6(text)), 0).address, canonical, text);
  }
});

Deno.test("readAddress answers 0.0.0.0 where nothing was written", () => {
  const view = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  deepEqual(readAddress(view, 0), ipv4("0.0.0.0", 0));
});

Deno.test("unmapAddress turns mapped addresses, and only those, into IPv4", () => {
  deepEqual(unmapAddress(ipv6("::ffff:10.1.2.3", 7)), ipv4("10.1.2.3", 7));
  for (const other of [ipv6("::1"), ipv6("64:ff9b::102:304"), ipv4("10.1.2.3")]) {
    equal(unmapAddress(other), other);
  }
});

Deno.test("formatAddress prints what a person would type", () => {
  equal(formatAddress(ipv4("10.1.2.3", 69)), "10.1.2.3:69");
  equal(formatAddress(ipv6("::1", 69)), "[::1]:69");
  equal(formatAddress(ipv6("fe80::1", 69, 2)), "[fe80::1%2]:69");
  equal(formatAddress(ipv6("::ffff:10.1.2.3", 69)), "10.1.2.3:69");
});

Deno.test("parseIpv4 and parseIpv6 answer values", () => {
  equal(parseIpv4("255.255.255.255"), 0xffffffff);
  equal(parseIpv4("0.0.0.0"), 0);
  equal(parseIpv4("1.2.3.4x"), -1);
  deepEqual(parseIpv6("1::ffff:2"), [1, 0, 0, 0, 0, 0, 0xffff, 2]);
  equal(parseIpv6("1"), undefined);
});

Deno.test("addresses survive bytes and text, and are equal exactly when their parts are", () => {
  const seed = Number(Deno.env.get("FASTWIRE_SEED") ?? Date.now() % 1_000_000);
  const random = seededRandom(seed);
  const below = (limit: number): number => random.u32() % limit;
  const any = (): SocketAddress => {
    // Few distinct values, so that equal pairs occur.
    const port = [0, 1, 69, 65_535][below(4)]!;
    if (below(2) === 0) {
      return ipv4([0, 1, 2, 3].map(() => [0, 1, 255][below(3)]!).join("."), port);
    }
    const groups = Array.from({ length: 8 }, () => [0, 0, 1, 0xffff][below(4)]!.toString(16));
    const scope = below(4);
    return scope === 0 ? ipv6(groups.join(":"), port) : ipv6(groups.join(":"), port, scope);
  };
  for (let round = 0; round < 5000; round++) {
    const [a, b] = [any(), any()];
    const [x, y] = [written(a), written(b)];
    const replay = `FASTWIRE_SEED=${seed}, round ${round}: ${formatAddress(a)} ${formatAddress(b)}`;
    const read = readAddress(x, 0);
    equal(hex(written(read)), hex(x), replay);
    deepEqual(readAddress(written(read), 0), read, replay);
    const same = hex(x) === hex(y);
    equal(equalAddress(x, 0, y, 0), same, replay);
    if (same) equal(hashAddress(x, 0), hashAddress(y, 0), replay);
    const [hostX, hostY] = [written({ ...a, port: 0 }), written({ ...b, port: 0 })];
    equal(equalHost(x, 0, y, 0), hex(hostX) === hex(hostY), replay);
    const copy = new DataView(new ArrayBuffer(3 * ADDRESS_BYTES));
    copyAddress(x, 0, copy, ADDRESS_BYTES);
    ok(equalAddress(x, 0, copy, ADDRESS_BYTES), replay);
    equal(copy.getUint32(0) + copy.getUint32(2 * ADDRESS_BYTES), 0, replay);
  }
});

Deno.test("equalAddress does not look at the flow label, which is no part of who a peer is", () => {
  const [a, b] = [written(ipv6("::1")), written(ipv6("::1"))];
  b.setUint32(4, 7);
  ok(equalAddress(a, 0, b, 0));
  equal(hashAddress(a, 0), hashAddress(b, 0));
});

Deno.test("equalAddress and equalHost tell the same address on two interfaces apart", () => {
  const [a, b] = [written(ipv6("fe80::1", 69, 2)), written(ipv6("fe80::1", 69, 3))];
  equal(equalAddress(a, 0, b, 0), false);
  equal(equalHost(a, 0, b, 0), false);
  ok(equalHost(a, 0, written(ipv6("fe80::1", 70, 2)), 0));
});

Deno.test("hashAddress spreads neighbouring hosts and ports over a small table", () => {
  for (const host of ["10.0.0.", "2001:db8::"]) {
    const buckets = new Set<number>();
    for (let i = 0; i < 256; i++) {
      const one = host.includes(".") ? ipv4(`${host}${i}`) : ipv6(`${host}${i.toString(16)}`);
      buckets.add(hashAddress(written(one), 0) & 1023);
    }
    // 256 thrown at random into 1,024 hit 226 different ones on average, 210 almost never less.
    ok(buckets.size > 190, `${host}: ${buckets.size}`);
    const ports = new Set<number>();
    for (let port = 32_768; port < 33_024; port++) {
      ports.add(hashAddress(written(ipv4("10.0.0.1", port)), 0) & 1023);
    }
    ok(ports.size > 190, `ports: ${ports.size}`);
  }
  notEqual(hashAddress(written(ipv4("10.0.0.1")), 0), hashAddress(written(ipv6("::1")), 0));
});
