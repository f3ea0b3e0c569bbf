/**
 * Randomness as a value, given to whoever needs it at construction.
 *
 * @module
 */

/** A source of random numbers. */
export interface Random {
  /** `n` fresh random bytes. */
  bytes(n: number): Uint8Array<ArrayBuffer>;
  /** An integer, 0 to 2³² − 1. */
  u32(): number;
  /** A number, 0 ≤ x < 1. */
  float(): number;
}

/** The platform's cryptographic source. */
export const secureRandom: Random = {
  bytes: (n) => crypto.getRandomValues(new Uint8Array(n)),
  u32: () => crypto.getRandomValues(new Uint32Array(1))[0]!,
  float: () => crypto.getRandomValues(new Uint32Array(1))[0]! / 0x1_0000_0000,
};

/**
 * A repeatable source for tests and simulations (sfc32 over a hashed seed); not for secrets.
 *
 * @param seed Any integer; equal seeds give equal sequences.
 */
export function seededRandom(seed: number): Random {
  let a = 0x9e3779b9, b = 0x243f6a88, c = 0xb7e15162, d = seed | 0;
  const u32 = (): number => {
    const t = (((a + b) | 0) + d) | 0;
    d = (d + 1) | 0;
    a = b ^ (b >>> 9);
    b = (c + (c << 3)) | 0;
    c = ((c << 21) | (c >>> 11)) + t | 0;
    return t >>> 0;
  };
  for (let i = 0; i < 15; i++) u32();
  return {
    u32,
    float: () => u32() / 0x1_0000_0000,
    bytes: (n) => {
      const out = new Uint8Array(n);
      for (let i = 0; i < n; i++) out[i] = u32();
      return out;
    },
  };
}
