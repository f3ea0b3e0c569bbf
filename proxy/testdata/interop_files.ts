/**
 * Hashes of what programs leave behind.
 *
 * @module
 */

import { createHash } from "node:crypto";

/** SHA-256 of a file, hexadecimal; the reason when there is none. */
export async function hashOf(path: string): Promise<string> {
  try {
    return createHash("sha256").update(await Deno.readFile(path)).digest("hex");
  } catch (error) {
    return String(error);
  }
}
