/**
 * What the sessions of a server share: bounds, tokens, UDP ports.
 *
 * @module
 */
import { parseIpv6 } from "../ffi/mod.ts";
import { PendingSessions } from "./protocol/mod.ts";

/** Who counts as one address: an IPv4 address, or an IPv6 /64, which is what one host has at least. */
export function addressKey(address: string): string {
  const words = parseIpv6(address);
  return words === undefined
    ? address
    : words.slice(0, 4).map((word) => word.toString(16)).join(":");
}

/** Bounds on sessions, and those that wait for connections. */
export class Sessions<Session> {
  /** Sessions that wait for their further connections. */
  readonly pending: PendingSessions<Session> = new PendingSessions<Session>();
  readonly #most: number;
  readonly #mostPerAddress: number;
  readonly #byAddress: Map<string, number> = new Map();
  readonly #waiting: Map<string, number> = new Map();
  #count = 0;

  /** @param mostPerAddress 0 for no bound. */
  constructor(most: number, mostPerAddress: number) {
    this.#most = most;
    this.#mostPerAddress = mostPerAddress || Infinity;
  }

  /** Sessions that hold a place. */
  get count(): number {
    return this.#count;
  }

  /** Whether one more may begin from an address. */
  hasPlace(address: string): boolean {
    const own = this.#byAddress.get(addressKey(address)) ?? 0;
    return this.#count < this.#most && own < this.#mostPerAddress;
  }

  /** Whether a session of this very address waits for connections. */
  expects(address: string): boolean {
    return this.#waiting.has(address);
  }

  /** Takes a place. @returns What gives it back; idempotent. */
  enter(address: string): () => void {
    this.#count++;
    return counted(this.#byAddress, addressKey(address), () => this.#count--);
  }

  /** An address has a session that waits for connections. @returns What ends that; idempotent. */
  expect(address: string): () => void {
    return counted(this.#waiting, address, () => {});
  }
}

function counted(counts: Map<string, number>, key: string, left: () => void): () => void {
  counts.set(key, (counts.get(key) ?? 0) + 1);
  let inside = true;
  return () => {
    if (!inside) return;
    inside = false;
    left();
    const rest = counts.get(key)! - 1;
    if (rest === 0) counts.delete(key);
    else counts.set(key, rest);
  };
}

/** The UDP ports a server offers, one after the other. Which of them are free only binding tells. */
export class UdpPorts {
  readonly #first: number;
  #next: number;

  /** @param first 1 to 65279. */
  constructor(first: number) {
    this.#first = first;
    this.#next = first;
  }

  /** The next to try. The client's is 256 above it, so the last one is 65279. */
  take(): number {
    const port = this.#next;
    this.#next = port >= LAST_PORT ? this.#first : port + 1;
    return port;
  }
}

const LAST_PORT = 65_279;
