import { deepEqual, equal } from "node:assert/strict";
import fc from "fast-check";
import {
  formatCidr,
  formatDuration,
  formatEndpoint,
  formatRate,
  formatSize,
  parseCidr,
  parseDuration,
  parseEndpoint,
  parseRate,
  parseSize,
} from "./units.ts";

const whole = fc.oneof(fc.nat(), fc.maxSafeNat(), fc.nat(64).map((n) => n * 60_000));

for (
  const [what, format, parse] of [
    ["durations", formatDuration, parseDuration],
    ["sizes", formatSize, parseSize],
    ["rates", formatRate, parseRate],
  ] as const
) {
  Deno.test(`units: ${what} survive being written and read`, () => {
    fc.assert(fc.property(whole, (value) => equal(parse(format(value)), value)));
  });

  Deno.test(`units: parsing ${what} answers for every text`, () => {
    fc.assert(fc.property(fc.string(), (text) => {
      const value = parse(text);
      equal(value === undefined || Number.isSafeInteger(value) && value >= 0, true);
    }));
  });
}

Deno.test("parseDuration() knows the units people write", () => {
  deepEqual(
    ["500ms", "10s", "2m", "1h", "1.5s", "0.1s", "250", "1d"].map(parseDuration),
    [500, 10_000, 120_000, 3_600_000, 1500, 100, 250, 86_400_000],
  );
  deepEqual(
    ["", "ms", "1 0s", "-1s", "10x", "1e3", "0.0001ms"].map(parseDuration),
    Array(7).fill(undefined),
  );
});

Deno.test("parseSize() reads K as 1024 and kB as 1000", () => {
  deepEqual(["512", "64K", "8MiB", "10MB", "1kB", "1.5K"].map(parseSize), [
    512,
    65536,
    8 * 2 ** 20,
    10_000_000,
    1000,
    1536,
  ]);
  deepEqual(["", "K", "12i", "1.3", "12 parsecs"].map(parseSize), Array(5).fill(undefined));
});

Deno.test("parseRate() is bits per second with decimal prefixes", () => {
  deepEqual(["100M", "1.5G", "64kbps", "9600", "2 Mbit/s"].map(parseRate), [
    1e8,
    1.5e9,
    64_000,
    9600,
    2e6,
  ]);
  deepEqual(["", "fast", "100MiB"].map(parseRate), Array(3).fill(undefined));
});

Deno.test("parseEndpoint() reads names, addresses and ports", () => {
  deepEqual(parseEndpoint("host:69"), { host: "host", port: 69 });
  deepEqual(parseEndpoint("host"), { host: "host", port: undefined });
  deepEqual(parseEndpoint(":69"), { host: "", port: 69 });
  deepEqual(parseEndpoint("[::1]:69"), { host: "::1", port: 69 });
  deepEqual(parseEndpoint("fe80::1%eth0"), { host: "fe80::1%eth0", port: undefined });
  for (const bad of ["", "host:65536", "host:", "[::1", "a b", "::1]:69", "[zz]:1"]) {
    equal(parseEndpoint(bad), undefined, bad);
  }
});

Deno.test("units: endpoints survive being written and read", () => {
  const host = fc.oneof(fc.ipV4(), fc.ipV6(), fc.domain());
  fc.assert(fc.property(host, fc.option(fc.nat(65535), { nil: undefined }), (host, port) => {
    deepEqual(parseEndpoint(formatEndpoint({ host, port })), { host, port });
  }));
});

Deno.test("units: address blocks survive being written and read", () => {
  const block = fc.oneof(
    fc.tuple(fc.ipV4(), fc.nat(32)),
    fc.tuple(fc.ipV6(), fc.nat(128)),
  );
  fc.assert(fc.property(block, ([address, prefixBits]) => {
    deepEqual(parseCidr(formatCidr({ address, prefixBits })), { address, prefixBits });
  }));
});

Deno.test("parseCidr() refuses what is not a block of addresses", () => {
  for (const bad of ["", "10.0.0.0/33", "::/129", "10.0.0/8", "300.1.1.1", "1::2::3", "host/8"]) {
    equal(parseCidr(bad), undefined, bad);
  }
  deepEqual(parseCidr("10.0.0.1"), { address: "10.0.0.1", prefixBits: 32 });
});
