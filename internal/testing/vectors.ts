/**
 * Test vectors: bytes and their meaning as data files, architecture §14.2.
 *
 * @module
 */

/** One case of a vector file; `Meaning` is what the file's `decoded` holds. */
export interface Vector<Meaning> {
  readonly name: string;
  /** The bytes; spaces are for the reader. */
  readonly hex: string;
  /** What they mean, when they mean something. */
  readonly decoded?: Meaning;
  /** Why they are refused, otherwise. */
  readonly rejected?: string;
  /** Our encoder writes something else on purpose; `why` says so. */
  readonly decodeOnly?: boolean;
  readonly why?: string;
}

/** A vector file. */
export interface VectorFile<Meaning> {
  /** Where the cases come from. */
  readonly source: string;
  readonly cases: readonly Vector<Meaning>[];
}

/**
 * Checks the shape of a vector file and runs `body` for each case.
 *
 * @throws {Error} When a case has neither or both of `decoded` and `rejected`; what `body` throws, with the case named.
 */
export function forVectors<Meaning>(
  file: VectorFile<Meaning>,
  body: (vector: Vector<Meaning>, bytes: Uint8Array<ArrayBuffer>) => void,
): void {
  if (file.cases.length === 0) throw new Error(`no cases in the vectors of ${file.source}`);
  for (const vector of file.cases) {
    if ((vector.decoded === undefined) === (vector.rejected === undefined)) {
      throw new Error(`vector "${vector.name}" must have one of decoded and rejected`);
    }
    try {
      body(vector, bytesOfHex(vector.hex));
    } catch (error) {
      throw new Error(`vector "${vector.name}"`, { cause: error });
    }
  }
}

/** Bytes of hexadecimal text, spaces ignored. @throws {SyntaxError} When it is not that. */
export function bytesOfHex(hex: string): Uint8Array<ArrayBuffer> {
  const digits = hex.replaceAll(" ", "");
  if (digits.length % 2 !== 0 || /[^0-9a-f]/i.test(digits)) {
    throw new SyntaxError(`Cannot read "${hex}": expected pairs of hexadecimal digits`);
  }
  const bytes = new Uint8Array(digits.length / 2);
  for (let i = 0; i < bytes.length; i++) bytes[i] = parseInt(digits.slice(2 * i, 2 * i + 2), 16);
  return bytes;
}

/** Lower-case hexadecimal text, a space between bytes. */
export function hexOf(bytes: Uint8Array): string {
  return [...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join(" ");
}
