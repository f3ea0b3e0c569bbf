import { equal, throws } from "node:assert/strict";
import { bytesOf, integerIn, oneOf } from "./check.ts";

Deno.test("integerIn() accepts both bounds", () => {
  equal(integerIn(8, 8, 9, "block size"), 8);
  equal(integerIn(9, 8, 9, "block size"), 9);
});

Deno.test("integerIn() refuses what is outside with a RangeError", () => {
  for (const value of [7, 10]) {
    throws(() => integerIn(value, 8, 9, "block size"), {
      name: "RangeError",
      message: `Cannot use ${value} as block size: expected 8 to 9`,
    });
  }
});

Deno.test("integerIn() refuses fractions and NaN with a TypeError", () => {
  for (const value of [8.5, NaN, Infinity]) {
    throws(() => integerIn(value, 8, 9, "block size"), TypeError);
  }
});

Deno.test("oneOf() names what it would have taken", () => {
  equal(oneOf("a", ["a", "b"], "letter"), "a");
  throws(() => oneOf("c", ["a", "b"], "letter"), {
    name: "TypeError",
    message: 'Cannot use "c" as letter: expected one of "a", "b"',
  });
});

Deno.test("bytesOf() checks the length in bytes", () => {
  const bytes = new Uint8Array(4);
  equal(bytesOf(bytes, "key", 4), bytes);
  equal(bytesOf(bytes, "key"), bytes);
  throws(() => bytesOf(bytes, "key", 5), {
    name: "RangeError",
    message: "Cannot use 4 bytes as key: expected 5 bytes",
  });
});
