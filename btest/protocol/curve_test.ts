import { equal, ok } from "node:assert/strict";
import { bytesToNumberBE } from "@noble/curves/utils.js";
import { seededRandom } from "../../internal/random.ts";
import { bytesOfHex } from "../../internal/testing/vectors.ts";
import vectors from "../testdata/ecsrp5.json" with { type: "json" };
import {
  addInSubgroup,
  encodePoint,
  GROUP_ORDER,
  hashToPoint,
  isInSubgroup,
  lift,
  liftBytes,
  multiplyBase,
  type Point,
  toScalar,
} from "./curve.ts";

/** The slow judge: n·P. The arithmetic throws where it meets the point of order two. */
function isTorsionFree(point: Point): boolean {
  try {
    return point.isTorsionFree();
  } catch {
    return false;
  }
}

Deno.test("isInSubgroup() says what a multiplication by the group order says", () => {
  const seed = 41;
  const random = seededRandom(seed);
  let inside = 0, outside = 0;
  for (let i = 0; i < 60; i++) {
    let point = liftBytes(random.bytes(32), i);
    for (let doublings = 0; point !== undefined && doublings < 4; doublings++) {
      const expected = isTorsionFree(point);
      equal(isInSubgroup(point), expected, `seed ${seed}, point ${i}, doubled ${doublings} times`);
      if (expected) inside++;
      else outside++;
      point = point.double();
    }
  }
  ok(inside > 10 && outside > 10, `${inside} inside, ${outside} outside`);
});

Deno.test("lift() finds the point with the wanted parity, or none", () => {
  equal(lift(0n, 0), undefined);
  equal(lift(2n ** 255n - 19n, 0), undefined);
  equal(lift(2n, 0), undefined);
  for (const parity of [0, 1]) {
    const point = lift(9n, parity)!;
    const bytes = encodePoint(point);
    equal(bytes[31], 9);
    equal(bytes[32], parity);
  }
  // The base point of the protocol is the even one: the negative of the usual.
  ok(lift(9n, 0)!.equals(multiplyBase(1n)));
  // u is reduced, as is the bit that makes it 256 wide.
  ok(lift(9n + 2n ** 255n - 19n, 0)!.equals(multiplyBase(1n)));
});

Deno.test("hashToPoint() makes the point of the vector, and its negative", () => {
  const vector = vectors.cases[0]!;
  const x = bytesOfHex(vector.gamma!).subarray(0, 32);
  const point = hashToPoint(x, 0);
  equal(bytesToNumberBE(encodePoint(point).subarray(0, 32)), BigInt(`0x${vector.hashedU!}`));
  equal(point.toAffine().y, BigInt(`0x${vector.hashedY!}`));
  ok(point.negate().equals(hashToPoint(x, 1)));
});

Deno.test("toScalar() reduces what is above the group order", () => {
  equal(toScalar(bytesOfHex("ff".repeat(32))), (2n ** 256n - 1n) % GROUP_ORDER);
  ok(multiplyBase(GROUP_ORDER - 1n).equals(multiplyBase(1n).negate()));
});

Deno.test("addInSubgroup() refuses sums that are infinite, of order two or outside", () => {
  const base = multiplyBase(1n);
  const four = lift(1n, 0)!;
  equal(addInSubgroup(base, base.negate()), undefined);
  equal(addInSubgroup(four, four), undefined);
  equal(addInSubgroup(base, four), undefined);
  ok(addInSubgroup(base, base)!.equals(multiplyBase(2n)));
});
