/**
 * The first datagrams of an association, while it is not known yet where they go.
 *
 * @module
 */

import type { AeadProvider } from "../ffi/mod.ts";
import { type BlockCipher, QuicSniffer, sniffDatagram, type Sniffed } from "./protocol/mod.ts";
import type { SniffAction } from "./rule_types.ts";

/** Datagrams that a client has sent to one destination, and the ones that follow. */
export class WaitingPackets {
  readonly #held: Uint8Array[] = [];
  #ended = false;
  #wake: (() => void) | undefined;

  /** Takes the next one; it must stay as it is. */
  add(datagram: Uint8Array): void {
    this.#held.push(datagram);
    this.#wake?.();
  }

  /** It is known where they go, or nobody waits for that any more. */
  end(): void {
    this.#ended = true;
    this.#held.length = 0;
    this.#wake?.();
  }

  /**
   * Looks at the first one, and where that is the beginning of something longer, at those that follow: browsers spread
   * the ClientHello of QUIC over two and three of them.
   *
   * @param aeads Ciphers; asked for only if something looks like QUIC.
   * @returns What it is; `undefined` when it is nothing known, or the rest does not come in time.
   */
  async sniff(
    { sniffer: wanted, timeoutMs }: SniffAction,
    aeads: () => Promise<AeadProvider>,
  ): Promise<Sniffed | undefined> {
    const first = this.#held[0];
    if (first === undefined) return undefined;
    const protocols = wanted.length === 0 ? undefined : wanted;
    const answer = sniffDatagram(first, 0, first.length, protocols);
    if (typeof answer !== "string") return answer;
    if (protocols?.includes("quic") === false || !hasLongHeader(first)) return undefined;
    const provider = await aeads();
    const quic = new QuicSniffer((key) => provider.blockCipher(key) as BlockCipher);
    let isLate = false;
    const timer = setTimeout(() => {
      isLate = true;
      this.#wake?.();
    }, timeoutMs);
    try {
      for (let at = 0;; at++) {
        while (at >= this.#held.length) {
          if (isLate || this.#ended) return undefined;
          await new Promise<void>((resolve) => this.#wake = resolve);
        }
        const datagram = this.#held[at]!;
        const found = quic.receive(datagram, 0, datagram.length);
        if (found !== "more") return typeof found === "string" ? undefined : found;
      }
    } finally {
      clearTimeout(timer);
      this.#wake = undefined;
      quic.close();
    }
  }
}

/** The form of every packet that begins a connection of QUIC. RFC 8999 §5.1, RFC 9000 §17.2. */
function hasLongHeader(datagram: Uint8Array): boolean {
  return datagram.length >= MIN_QUIC_BYTES && (datagram[0]! & 0xc0) === 0xc0;
}

/** Flags, version, two lengths, and what protecting a packet needs. RFC 9001 §5.4.2. */
const MIN_QUIC_BYTES = 27;
