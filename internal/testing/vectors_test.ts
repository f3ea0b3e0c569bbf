import { deepEqual, equal, throws } from "node:assert/strict";
import { bytesOfHex, forVectors, hexOf } from "./vectors.ts";

Deno.test("bytesOfHex() ignores spaces and refuses what is not hexadecimal", () => {
  deepEqual([...bytesOfHex("00 ff1A")], [0, 255, 26]);
  throws(() => bytesOfHex("0"), SyntaxError);
  throws(() => bytesOfHex("zz"), SyntaxError);
});

Deno.test("hexOf() writes what bytesOfHex() reads", () => {
  equal(hexOf(bytesOfHex("00 0a ff")), "00 0a ff");
});

Deno.test("forVectors() refuses a case without a meaning and names the case that fails", () => {
  throws(() => forVectors({ source: "", cases: [{ name: "a", hex: "00" }] }, () => {}), /"a"/);
  throws(
    () =>
      forVectors({ source: "", cases: [{ name: "b", hex: "00", decoded: 1 }] }, () => {
        throw new Error("wrong");
      }),
    /vector "b"/,
  );
});
