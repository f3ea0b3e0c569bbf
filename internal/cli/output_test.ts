import { deepEqual, equal } from "node:assert/strict";
import { bytesText, durationText, jsonLine, rateText, table, wrap } from "./output.ts";

Deno.test("rateText() shows three digits and a decimal prefix", () => {
  deepEqual([0, 999, 1000, 12_345, 948e6, 999.9e6, 25.6e9].map(rateText), [
    "0 bit/s",
    "999 bit/s",
    "1.00 kbit/s",
    "12.3 kbit/s",
    "948 Mbit/s",
    "1.00 Gbit/s",
    "25.6 Gbit/s",
  ]);
});

Deno.test("bytesText() shows binary prefixes", () => {
  deepEqual([0, 511, 1024, 65_536, 33_554_431].map(bytesText), [
    "0 B",
    "511 B",
    "1.00 KiB",
    "64.0 KiB",
    "32.0 MiB",
  ]);
});

Deno.test("durationText() changes its unit with the span", () => {
  deepEqual([0.25, 870, 999.9, 12_340, 59_990, 245_000, 3_600_000, 7_619_000].map(durationText), [
    "0.3 ms",
    "870 ms",
    "1.0 s",
    "12.3 s",
    "1 min 00 s",
    "4 min 05 s",
    "1 h 00 min",
    "2 h 07 min",
  ]);
});

Deno.test("jsonLine() writes one line and exact integers", () => {
  equal(
    jsonLine({ a: "x\ny", b: 5n, c: 2n ** 60n }),
    '{"a":"x\\ny","b":5,"c":"1152921504606846976"}\n',
  );
});

Deno.test("table() aligns its columns and leaves no spaces at the end", () => {
  equal(
    table([["file", "left"], ["rate", "right"], ["note", "left"]], [
      ["a.bin", "1 Mbit/s", ""],
      ["longer.bin", "948 Mbit/s", "ok"],
    ]),
    "file              rate  note\n" +
      "a.bin         1 Mbit/s\n" +
      "longer.bin  948 Mbit/s  ok\n",
  );
});

Deno.test("wrap() keeps long words whole", () => {
  deepEqual(wrap("a bb ccc dddddd e", 6), ["a bb", "ccc", "dddddd", "e"]);
});
