/**
 * The curve of EC-SRP5: Curve25519 in short Weierstrass form, integers big-endian. Points travel as the Montgomery `u`
 * with the lowest bit of `y` beside it.
 *
 * ```
 *   x_w = u + A/3      y the same in both forms      A = 486662      p = 2^255 − 19      cofactor 8
 * ```
 *
 * The group order times 8 is the number of points; what `hashToPoint()` answers is usually outside the prime-order
 * subgroup, and so are honest messages of a server.
 *
 * @module
 */

import { weierstrass } from "@noble/curves/abstract/weierstrass.js";
import type { WeierstrassPoint, WeierstrassPointCons } from "@noble/curves/abstract/weierstrass.js";
import { bytesToNumberBE, numberToBytesBE } from "@noble/curves/utils.js";
import { sha256 } from "@noble/hashes/sha2.js";

/** A point of the curve. */
export type Point = WeierstrassPoint<bigint>;

/** Order of the prime-order subgroup. */
export const GROUP_ORDER: bigint =
  0x1000000000000000000000000000000014def9dea2f79cd65812631a5cf5d3edn;

/** Bytes of an encoded point without its parity. */
export const POINT_BYTES = 32;

/** How often the curve was built in this process: 0 before the first use, 1 after it. For tests. */
export function curveBuilds(): number {
  return builds;
}

/** The costly operations that were carried out in this process, for tests that compare two ways through a login. */
export interface CurveWork {
  /** Multiplications of points, a sum of two counting once. */
  readonly products: number;
  /** Square roots: one for each lifted point, and for each round of hashing. */
  readonly roots: number;
}

/** What was carried out so far. For tests. */
export function curveWork(): CurveWork {
  return { products, roots };
}

/** An integer as a scalar: 0 to the group order less one. */
export function toScalar(bytes: Uint8Array): bigint {
  return bytesToNumberBE(bytes) % GROUP_ORDER;
}

/**
 * `scalar` times the base point, in constant time.
 *
 * @param scalar 1 to the group order less one.
 */
export function multiplyBase(scalar: bigint): Point {
  products++;
  return curve().BASE.multiply(scalar);
}

/**
 * `first` times `point` plus `second` times `other`, in one pass: a third cheaper than two multiplications. Not in
 * constant time: for scalars that are used once and never again.
 */
export function multiplyTwo(point: Point, first: bigint, other: Point, second: bigint): Point {
  products++;
  return point.mulAddUnsafe(first, other, second);
}

/**
 * The point with Montgomery coordinate `u` whose `y` has the given lowest bit.
 *
 * @returns Undefined when there is none, and for `u` = 0, the point of order two.
 */
export function lift(u: bigint, parity: number): Point | undefined {
  const Point = curve();
  const field = Point.Fp;
  const reduced = field.create(u);
  if (reduced === 0n) return undefined;
  // y² = u³ + A·u² + u = u·(u·(u + A) + 1)
  const inner = field.add(field.mul(reduced, field.add(reduced, MONTGOMERY_A)), 1n);
  const square = field.mul(reduced, inner);
  const root = squareRoot(square);
  if (root === undefined) return undefined;
  const y = Number(root & 1n) === (parity & 1) ? root : field.neg(root);
  return Point.fromAffine({ x: field.add(reduced, TO_WEIERSTRASS), y });
}

/** The point that 32 bytes of a message and the parity beside them mean. */
export function liftBytes(bytes: Uint8Array, parity: number): Point | undefined {
  return lift(bytesToNumberBE(bytes), parity);
}

/**
 * Writes a point: 32 bytes of `u`, one of parity.
 *
 * @param point Not the point at infinity.
 */
export function encodePoint(point: Point): Uint8Array<ArrayBuffer> {
  const { x, y } = point.toAffine();
  const bytes = new Uint8Array(POINT_BYTES + 1);
  bytes.set(numberToBytesBE(curve().Fp.sub(x, TO_WEIERSTRASS), POINT_BYTES));
  bytes[POINT_BYTES] = Number(y & 1n);
  return bytes;
}

/**
 * Turns 32 bytes into a point that nobody knows the logarithm of: `redp1` of the protocol. Two rounds on average.
 *
 * @param parity Which of the two points: `hashToPoint(x, 1)` is the negative of `hashToPoint(x, 0)`.
 */
export function hashToPoint(bytes: Uint8Array, parity: number): Point {
  const seed = Uint8Array.from(sha256(bytes));
  for (;;) {
    const point = liftBytes(sha256(seed), parity);
    if (point !== undefined) return point;
    // Plus one as a 256-bit big-endian integer that wraps.
    for (let i = seed.length - 1; i >= 0; i--) {
      seed[i] = seed[i]! + 1;
      if (seed[i] !== 0) break;
    }
  }
}

/**
 * Whether a point is in the prime-order subgroup, and not infinity. Not in constant time: for what a peer sent.
 *
 * The points of order 1, 2, 4 and 8 are one cyclic group, so a point is in the subgroup when it can be halved three
 * times; six square roots instead of a multiplication by the group order take a third of the time.
 */
export function isInSubgroup(point: Point): boolean {
  if (point.is0()) return false;
  const field = curve().Fp;
  let u = field.sub(point.toAffine().x, TO_WEIERSTRASS);
  for (let halvings = 0;; halvings++) {
    // A half exists when u is a square. Its product with u² + A·u + 1 is y², so that is one exactly when u is.
    const root = squareRoot(field.add(field.mul(u, field.add(u, MONTGOMERY_A)), 1n));
    if (root === undefined || u === 0n) return false;
    if (halvings === 2) return true;
    // With q the half's u and t = q + 1/q: t² − 4·u·t − 4·(u·A + 1) = 0 and q² − t·q + 1 = 0. One of the two t works.
    const plus = field.mul(2n, field.add(u, root));
    const minus = field.mul(2n, field.sub(u, root));
    const plusRoot = squareRoot(field.mul(u, field.add(plus, MONTGOMERY_A)));
    const q = plusRoot ?? squareRoot(field.mul(u, field.add(minus, MONTGOMERY_A)));
    if (q === undefined) return false;
    const t = plusRoot === undefined ? minus : plus;
    u = field.add(field.mul(t, HALF), q);
  }
}

/**
 * The sum of two points, when it is in the prime-order subgroup and not infinity.
 *
 * @returns Undefined otherwise; a peer can bring that about.
 */
export function addInSubgroup(left: Point, right: Point): Point | undefined {
  try {
    const sum = left.add(right);
    return isInSubgroup(sum) ? sum : undefined;
  } catch {
    // The arithmetic refuses to make the point of order two, whose y is 0.
    return undefined;
  }
}

// p ≡ 5 modulo 8: the candidate is v^((p+3)/8) = v^(2^252 − 2), or that times √−1.
function squareRoot(value: bigint): bigint | undefined {
  roots++;
  const field = curve().Fp;
  // The exponent is ones but for its last bit. Runs of ones are doubled, so that 11 multiplications stand beside the
  // squarings instead of 250; each name is the number of ones.
  const ones2 = power(value, 1) * value % FIELD_PRIME;
  const ones4 = power(ones2, 2) * ones2 % FIELD_PRIME;
  const ones5 = power(ones4, 1) * value % FIELD_PRIME;
  const ones10 = power(ones5, 5) * ones5 % FIELD_PRIME;
  const ones20 = power(ones10, 10) * ones10 % FIELD_PRIME;
  const ones40 = power(ones20, 20) * ones20 % FIELD_PRIME;
  const ones50 = power(ones40, 10) * ones10 % FIELD_PRIME;
  const ones100 = power(ones50, 50) * ones50 % FIELD_PRIME;
  const ones200 = power(ones100, 100) * ones100 % FIELD_PRIME;
  const ones250 = power(ones200, 50) * ones50 % FIELD_PRIME;
  const ones251 = power(ones250, 1) * value % FIELD_PRIME;
  const candidate = power(ones251, 1);
  const squared = field.sqr(candidate);
  if (squared === value) return candidate;
  if (squared !== field.neg(value)) return undefined;
  return field.mul(candidate, SQRT_MINUS_ONE);
}

/** `value` to the power of 2^`squarings`. */
function power(value: bigint, squarings: number): bigint {
  let result = value;
  for (let i = 0; i < squarings; i++) result = result * result % FIELD_PRIME;
  return result;
}

function curve(): WeierstrassPointCons<bigint> {
  if (built === undefined) {
    builds++;
    built = weierstrass({
      p: FIELD_PRIME,
      n: GROUP_ORDER,
      h: 8n,
      a: 0x2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa984914a144n,
      b: 0x7b425ed097b425ed097b425ed097b425ed097b425ed097b4260b5e9c7710c864n,
      Gx: 0x2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaad245an,
      Gy: 0x5f51e65e475f794b1fe122d388b72eb36dc2b28192839e4dd6163a5d81312c14n,
    }, { randomBytes: refuseRandom });
  }
  return built;
}

/** Randomness comes from the caller. Without a source of its own the curve computes as before, without blinding. */
function refuseRandom(): Uint8Array<ArrayBuffer> {
  throw new RangeError("Cannot draw random bytes: they are the caller's");
}

let built: WeierstrassPointCons<bigint> | undefined;
let builds = 0;
let products = 0;
let roots = 0;

const FIELD_PRIME = 2n ** 255n - 19n;
const MONTGOMERY_A = 486662n;
/** 1/2. */
const HALF = (FIELD_PRIME + 1n) / 2n;
/** A/3. */
const TO_WEIERSTRASS = 0x2aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaad2451n;
const SQRT_MINUS_ONE = 0x2b8324804fc1df0b2b4d00993dfbd7a72f431806ad2fe478c4ee1b274a0ea0b0n;
