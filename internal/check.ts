/**
 * Argument guards of encoders and constructors. They refuse what our own side got wrong; what a peer sends never comes
 * here.
 *
 * @module
 */

/**
 * Requires an integer between `min` and `max`, both included.
 *
 * @param what What the value is, with a lower-case first letter: `block size`.
 * @returns The value.
 * @throws {TypeError} When it is not an integer.
 * @throws {RangeError} When it is outside the bounds.
 */
export function integerIn(value: number, min: number, max: number, what: string): number {
  if (!Number.isInteger(value)) {
    throw new TypeError(`Cannot use ${value} as ${what}: expected an integer`);
  }
  if (value < min || value > max) {
    throw new RangeError(`Cannot use ${value} as ${what}: expected ${min} to ${max}`);
  }
  return value;
}

/**
 * Requires one of the given strings.
 *
 * @param what What the value is, with a lower-case first letter.
 * @returns The value.
 * @throws {TypeError} When it is another one.
 */
export function oneOf<const T extends string>(
  value: string,
  allowed: readonly T[],
  what: string,
): T {
  for (const candidate of allowed) if (candidate === value) return candidate;
  const names = allowed.map((name) => JSON.stringify(name)).join(", ");
  throw new TypeError(`Cannot use ${JSON.stringify(value)} as ${what}: expected one of ${names}`);
}

/**
 * Requires bytes, of an exact length when one is given.
 *
 * @param what What the value is, with a lower-case first letter.
 * @param length Expected length in bytes.
 * @returns The value.
 * @throws {TypeError} When it is not a `Uint8Array`.
 * @throws {RangeError} When its length is another one.
 */
export function bytesOf(value: Uint8Array, what: string, length?: number): Uint8Array {
  if (!(value instanceof Uint8Array)) {
    throw new TypeError(`Cannot use a ${typeof value} as ${what}: expected a Uint8Array`);
  }
  if (length !== undefined && value.length !== length) {
    throw new RangeError(
      `Cannot use ${value.length} bytes as ${what}: expected ${length} bytes`,
    );
  }
  return value;
}
