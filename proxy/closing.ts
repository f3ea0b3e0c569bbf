/**
 * Closing several things, whatever becomes of each.
 *
 * @module
 */

/** Closes all of them; settles when that is done. Never rejects. */
export async function closeAll(items: Iterable<{ close(): Promise<void> }>): Promise<void> {
  await Promise.all([...items].map((item) => item.close().catch(() => {})));
}
