/**
 * A relay of Shadowsocks 2022, SIP023: it takes its own identity off what clients send, and so knows to which of the
 * servers behind it the rest goes. It cannot read that rest, nor forge it.
 *
 * ```
 *  streams:    salt | identity 16 | rest          becomes   salt | rest
 *  datagrams:  first block | identity 16 | rest   becomes   first block | rest
 * ```
 *
 * The first block of datagrams is encrypted for the relay and has to be encrypted for the server instead. Answers go
 * back as they are.
 *
 * @module
 */

import type { BlockCipher } from "./aead.ts";
import { readU32, readU64 } from "./octets.ts";
import { ReplayWindow, type SaltFilter } from "./replay.ts";
import {
  deriveIdentitySubkey,
  type ShadowsocksProfile,
  type ShadowsocksUser,
  type ShadowsocksUserTable,
} from "./shadowsocks_method.ts";
import {
  REJECT_PACKET_REPLAYED,
  REJECT_PACKET_SHORT,
  REJECT_PACKET_USER,
} from "./shadowsocks_packet.ts";
import type { ShadowsocksTools } from "./shadowsocks_stream.ts";

/** Bytes of an identity: what a relay takes away. */
export const IDENTITY_BYTES = 16;

/** What a relay works with. */
export interface ShadowsocksRelayOptions {
  /** The method, and the relay's own key. */
  readonly profile: ShadowsocksProfile;
  /** The servers behind it, each with its key. */
  readonly destinations: ShadowsocksUserTable;
  /** Salts of streams that were seen; without it the server behind is the only one that notices a replay. */
  readonly salts?: SaltFilter;
}

/**
 * Takes the identity off the beginning of a stream: what goes on begins {@linkcode IDENTITY_BYTES} behind `start`.
 *
 * @param seconds Unix time.
 * @returns For whom it is; `more` when the identity is not there yet, `no` when it is nobody's or was here before.
 */
export function relayShadowsocksStream(
  { profile, destinations, salts }: ShadowsocksRelayOptions,
  tools: ShadowsocksTools,
  buffer: Uint8Array,
  start: number,
  end: number,
  seconds: number,
): ShadowsocksUser | "more" | "no" {
  const saltEnd = start + profile.method.keyBytes;
  if (end < saltEnd + IDENTITY_BYTES) return "more";
  const salt = buffer.slice(start, saltEnd);
  const cipher = tools.createBlockCipher(deriveIdentitySubkey(profile.key, salt));
  cipher.decryptBlock(buffer, saltEnd);
  cipher.close?.();
  const destination = destinations.find(buffer, saltEnd);
  if (destination === undefined) return "no";
  // Salts of strangers never get here: an identity is bound to its salt by the relay's key.
  if (salts !== undefined && !salts.add(salt, 0, salt.length, seconds)) return "no";
  buffer.copyWithin(start + IDENTITY_BYTES, start, saltEnd);
  return destination;
}

/** One client's session, as far as a relay sees it. */
export class ShadowsocksRelaySession {
  /** For whom its datagrams are. */
  readonly destination: ShadowsocksUser;
  /** First half of its number. */
  readonly high: number;
  /** The other half. */
  readonly low: number;
  /** What was relayed: whoever records a datagram must not draw the answers away with it. */
  readonly window: ReplayWindow = new ReplayWindow();

  /** Made by {@linkcode ShadowsocksPacketRelay.open}. */
  constructor(destination: ShadowsocksUser, high: number, low: number) {
    this.destination = destination;
    this.high = high;
    this.low = low;
  }
}

/** The datagrams of all clients of a relay. */
export class ShadowsocksPacketRelay {
  /** Whose the datagram is that was opened last. */
  session: ShadowsocksRelaySession | undefined;
  readonly #destinations: ShadowsocksUserTable;
  readonly #tools: ShadowsocksTools;
  readonly #outer: BlockCipher;
  readonly #inner = new Map<ShadowsocksUser, BlockCipher>();
  /** By the low half of the number; those that share it stand in one list. */
  readonly #sessions = new Map<number, ShadowsocksRelaySession[]>();

  /** Begins without sessions. */
  constructor({ profile, destinations }: ShadowsocksRelayOptions, tools: ShadowsocksTools) {
    this.#destinations = destinations;
    this.#tools = tools;
    this.#outer = tools.createBlockCipher(profile.key);
  }

  /**
   * Takes the identity off a datagram; {@linkcode ShadowsocksPacketRelay.session} says for whom it is.
   *
   * @returns Where the datagram begins that goes on, or a negative reason as of `ShadowsocksPacketServer`.
   */
  open(buffer: Uint8Array, start: number, end: number): number {
    const identity = start + 16;
    const body = identity + IDENTITY_BYTES;
    // The shortest body has a type, a time, the length of padding and a tag, as at the server.
    if (end - body < 11 + 16) return REJECT_PACKET_SHORT;
    this.#outer.decryptBlock(buffer, start);
    this.#outer.decryptBlock(buffer, identity);
    for (let i = 0; i < 16; i++) buffer[identity + i]! ^= buffer[start + i]!;
    const destination = this.#destinations.find(buffer, identity);
    if (destination === undefined) return REJECT_PACKET_USER;
    const high = readU32(buffer, start), low = readU32(buffer, start + 4);
    const list = this.#sessions.get(low);
    const known = list?.find((each) => each.high === high && each.destination === destination);
    const session = known ?? new ShadowsocksRelaySession(destination, high, low);
    const number = readU64(buffer, start + 8);
    if (!session.window.accepts(number)) return REJECT_PACKET_REPLAYED;
    session.window.mark(number);
    if (known === undefined) {
      if (list === undefined) this.#sessions.set(low, [session]);
      else list.push(session);
    }
    this.#innerOf(destination).encryptBlock(buffer, start);
    buffer.copyWithin(identity, start, identity);
    this.session = session;
    return identity;
  }

  /** Forgets a session. */
  forget(session: ShadowsocksRelaySession): void {
    const left = this.#sessions.get(session.low)?.filter((each) => each !== session) ?? [];
    if (left.length === 0) this.#sessions.delete(session.low);
    else this.#sessions.set(session.low, left);
  }

  /** Gives the ciphers back. */
  close(): void {
    this.#sessions.clear();
    this.#outer.close?.();
    for (const cipher of this.#inner.values()) cipher.close?.();
    this.#inner.clear();
  }

  #innerOf(destination: ShadowsocksUser): BlockCipher {
    let cipher = this.#inner.get(destination);
    if (cipher === undefined) {
      cipher = this.#tools.createBlockCipher(destination.key);
      this.#inner.set(destination, cipher);
    }
    return cipher;
  }
}
