/**
 * Payload rates, kept as a debt in time: what was sent is paid off at the allowed rate before more may leave.
 *
 * @module
 */
import type { Rate } from "./sending.ts";

/** Milliseconds of silence that may be made up for at once. */
const BURST_MS = 20;
/** Clients remembered. */
const MAX_CLIENTS = 4096;

/** One bucket. */
class Debt {
  readonly #bytesPerMs: number;
  #paidAt = 0;

  constructor(bps: number) {
    this.#bytesPerMs = bps / 8000;
  }

  waitMs(now: number): number {
    if (this.#paidAt < now - BURST_MS) this.#paidAt = now - BURST_MS;
    return Math.max(0, this.#paidAt - now);
  }

  spend(bytes: number): void {
    this.#paidAt += bytes / this.#bytesPerMs;
  }
}

/** The common rate of a server and the rates of its clients. */
export class RateGate {
  readonly #total: Debt | undefined;
  readonly #clientBps: number;
  readonly #clients = new Map<string, Debt>();

  /** Rates in bit/s; 0 is unlimited. */
  constructor(totalBps: number, clientBps: number) {
    this.#total = totalBps > 0 ? new Debt(totalBps) : undefined;
    this.#clientBps = clientBps;
  }

  /** The bound that holds for one client, or `undefined` when there is none. */
  of(client: string): Rate | undefined {
    const total = this.#total;
    const own = this.#clientBps > 0 ? this.#own(client) : undefined;
    return bothRates(total, own);
  }

  #own(client: string): Debt {
    let debt = this.#clients.get(client);
    if (debt === undefined) {
      if (this.#clients.size >= MAX_CLIENTS) {
        for (const oldest of this.#clients.keys()) {
          this.#clients.delete(oldest);
          break;
        }
      }
      debt = new Debt(this.#clientBps);
      this.#clients.set(client, debt);
    }
    return debt;
  }
}

/** The bound that two bounds make together. */
export function bothRates(a: Rate | undefined, b: Rate | undefined): Rate | undefined {
  if (a === undefined || b === undefined) return a ?? b;
  return {
    waitMs: (now) => Math.max(a.waitMs(now), b.waitMs(now)),
    spend: (bytes) => {
      a.spend(bytes);
      b.spend(bytes);
    },
  };
}
