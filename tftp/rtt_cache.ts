/**
 * Round-trip times of recent clients, so that the next transfer of a machine starts with a fitting timeout.
 *
 * @module
 */

/** Clients remembered, and for how long. */
const MAX_CLIENTS = 4096;
const MAX_AGE_MS = 600_000;

/** Host to smoothed round-trip time; the one heard longest ago is forgotten first. */
export class RttCache {
  readonly #entries = new Map<string, { readonly rttMs: number; readonly at: number }>();

  /** The last measured time, milliseconds, when it is younger than ten minutes. */
  get(client: string, now: number): number | undefined {
    const entry = this.#entries.get(client);
    return entry === undefined || now - entry.at > MAX_AGE_MS ? undefined : entry.rttMs;
  }

  /** Remembers a measurement. */
  put(client: string, rttMs: number, now: number): void {
    this.#entries.delete(client);
    if (this.#entries.size >= MAX_CLIENTS) {
      for (const oldest of this.#entries.keys()) {
        this.#entries.delete(oldest);
        break;
      }
    }
    this.#entries.set(client, { rttMs, at: now });
  }
}
