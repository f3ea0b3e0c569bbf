/**
 * Datagrams of Shadowsocks by SIP004 (2017), and without encryption.
 *
 * ```
 *  +--------+-----------+--------+-------+
 *  |  salt  |  address  |  data  |  tag  |      one key per datagram, nonce zero
 *  +--------+-----------+--------+-------+
 * ```
 *
 * To the server the address is the destination, from it the source. Method `none` has neither salt nor tag.
 *
 * @module
 */

import { type Endpoint, MAX_ADDRESS_BYTES, measureAddress, writeAddress } from "./address.ts";
import type { Aead } from "./aead.ts";
import { checkRoom } from "./aead_chunk.ts";
import type { SaltFilter } from "./replay.ts";
import {
  deriveShadowsocksSubkey,
  type ShadowsocksProfile,
  type ShadowsocksUserTable,
} from "./shadowsocks_method.ts";
import type { ShadowsocksServerOptions, ShadowsocksTools } from "./shadowsocks_stream.ts";

/** Fewer bytes than the parts have. */
export const REJECT_PACKET_SHORT: number = -1;
/** Not sealed with the key. */
export const REJECT_PACKET_FORGED: number = -2;
/** An address that is none. */
export const REJECT_PACKET_ADDRESS: number = -3;
/** Seen before, or too late. */
export const REJECT_PACKET_REPLAYED: number = -4;
/** A time that is more than 30 seconds away. */
export const REJECT_PACKET_TIME: number = -5;
/** A datagram of the other direction. */
export const REJECT_PACKET_TYPE: number = -6;
/** For another session than ours, or one server session too many. */
export const REJECT_PACKET_SESSION: number = -7;
/** Of a user that is not known. */
export const REJECT_PACKET_USER: number = -8;

/** Names of the negative reasons for metrics and logs: `PACKET_REJECT_NAMES[-reason]`. */
export const PACKET_REJECT_NAMES: readonly string[] = Object.freeze([
  "",
  "short",
  "forged",
  "address",
  "replayed",
  "time",
  "type",
  "session",
  "user",
]);

/** Whose datagrams they are: what a server needs to know to answer. Compare by identity. */
export interface ShadowsocksPacketSession {
  /** The user, when users are configured. */
  readonly user: string | undefined;
}

/** What opening and sealing datagrams has in common at both ends. Datagrams are worked on where they lie. */
export interface ShadowsocksPacketOpener {
  /** Bytes that must be free before the data of a datagram that is sealed; an upper bound. */
  readonly headroom: number;
  /** Bytes that must be free behind it. */
  readonly tailroom: number;
  /** Where the address of the datagram opened last begins; for `EndpointCache`. */
  readonly addressStart: number;
  /** Where its data begins, and the address ends. */
  readonly dataStart: number;
  /** Where its data ends. */
  readonly dataEnd: number;
  /**
   * Opens a datagram in place.
   *
   * @param seconds Unix time.
   * @returns Where the data begins, or a negative reason. Names in the address are not looked at yet: that is
   * `decodeAddress`'s.
   */
  open(buffer: Uint8Array, start: number, end: number, seconds: number): number;
  /** Gives the ciphers back. */
  close(): void;
}

/** A client's datagrams. */
export interface ShadowsocksPacketClient extends ShadowsocksPacketOpener {
  /**
   * Seals the data in [start, end) in place.
   *
   * @param to Its destination.
   * @param seconds Unix time.
   * @returns Where the datagram begins; it ends at `end + tailroom`.
   * @throws {RangeError} When the room is too small.
   */
  seal(buffer: Uint8Array, start: number, end: number, to: Endpoint, seconds: number): number;
}

/** A server's datagrams. */
export interface ShadowsocksPacketServer extends ShadowsocksPacketOpener {
  /** Whose datagram was opened last; `undefined` before the first. */
  readonly session: ShadowsocksPacketSession | undefined;
  /**
   * Seals an answer in place.
   *
   * @param session Whose datagram is answered.
   * @param from Where the data came from.
   * @param seconds Unix time.
   * @returns Where the datagram begins; it ends at `end + tailroom`.
   * @throws {RangeError} When the room is too small.
   */
  seal(
    session: ShadowsocksPacketSession,
    buffer: Uint8Array,
    start: number,
    end: number,
    from: Endpoint,
    seconds: number,
  ): number;
  /**
   * Forgets sessions that nothing came from for `idleSeconds`.
   *
   * @param idleSeconds At least 60, or what was seen could be repeated.
   * @returns How many are left.
   */
  expire(seconds: number, idleSeconds: number): number;
}

/** Both ends of 2017 and `none`: they differ in nothing but who has users. */
export class Packets2017 implements ShadowsocksPacketOpener {
  readonly headroom: number;
  readonly tailroom: number;
  addressStart: number = 0;
  dataStart: number = 0;
  dataEnd: number = 0;
  readonly #profile: ShadowsocksProfile;
  readonly #tools: ShadowsocksTools;
  readonly #saltBytes: number;
  readonly #nonce: Uint8Array<ArrayBuffer>;
  #aead: Aead | undefined;

  /**
   * Holds the keys.
   *
   * @param profile The method and the key.
   */
  constructor(profile: ShadowsocksProfile, tools: ShadowsocksTools) {
    this.#profile = profile;
    this.#tools = tools;
    this.#saltBytes = profile.method.keyBytes;
    this.#nonce = new Uint8Array(profile.method.aead === "xchacha20-poly1305" ? 24 : 12);
    this.headroom = this.#saltBytes + MAX_ADDRESS_BYTES;
    this.tailroom = profile.method.aead === undefined ? 0 : 16;
  }

  /** Bytes of the salt. */
  get saltBytes(): number {
    return this.#saltBytes;
  }

  /** Opens with the key of the profile; see {@linkcode ShadowsocksPacketOpener}. */
  open(buffer: Uint8Array, start: number, end: number, _seconds: number): number {
    const key = this.#profile.key;
    return this.unseal(key, buffer, start, end)
      ? this.find(start, end, buffer)
      : this.short(start, end);
  }

  /** Why a datagram did not open. */
  short(start: number, end: number): number {
    return end - start < this.#saltBytes + this.tailroom
      ? REJECT_PACKET_SHORT
      : REJECT_PACKET_FORGED;
  }

  /** Opens the sealed part with a key; what it holds when that fails is not said. */
  unseal(key: Uint8Array, buffer: Uint8Array, start: number, end: number): boolean {
    if (this.tailroom === 0) return true;
    const body = start + this.#saltBytes;
    if (end - body < this.tailroom) return false;
    return this.#keyed(key, buffer.subarray(start, body)).open(this.#nonce, buffer, body, end);
  }

  /** Finds the parts of an opened datagram. */
  find(start: number, end: number, buffer: Uint8Array): number {
    const address = start + this.#saltBytes;
    const last = end - this.tailroom;
    const length = measureAddress(buffer, address, last);
    if (length < 0) return REJECT_PACKET_ADDRESS;
    if (address + length > last) return REJECT_PACKET_SHORT;
    this.addressStart = address;
    this.dataStart = address + length;
    this.dataEnd = last;
    return this.dataStart;
  }

  /** Seals with a key. */
  sealWith(key: Uint8Array, buffer: Uint8Array, start: number, end: number, to: Endpoint): number {
    const address = start - addressLength(to);
    const head = address - this.#saltBytes;
    checkRoom(buffer, head, end + this.tailroom);
    writeAddress(buffer, address, to);
    if (this.tailroom === 0) return head;
    const salt = this.#tools.random.bytes(this.#saltBytes);
    buffer.set(salt, head);
    this.#keyed(key, salt).seal(this.#nonce, buffer, address, end);
    return head;
  }

  /** Gives the cipher back. */
  close(): void {
    this.#aead?.close?.();
    this.#aead = undefined;
  }

  /** The cipher under the key of one datagram. There is one, for there is one datagram at a time. */
  #keyed(key: Uint8Array, salt: Uint8Array): Aead {
    const subkey = deriveShadowsocksSubkey(key, salt);
    if (this.#aead?.rekey !== undefined) {
      this.#aead.rekey(subkey);
      return this.#aead;
    }
    this.close();
    return this.#aead = this.#tools.createAead(this.#profile.method.aead!, subkey);
  }
}

/** A client's datagrams of 2017 or `none`. */
export class PacketClient2017 extends Packets2017 implements ShadowsocksPacketClient {
  readonly #key: Uint8Array;

  /**
   * Holds the keys.
   *
   * @param profile The method and the key.
   */
  constructor(profile: ShadowsocksProfile, tools: ShadowsocksTools) {
    super(profile, tools);
    this.#key = profile.key;
  }

  /** Seals a datagram; see {@linkcode ShadowsocksPacketClient}. */
  seal(buffer: Uint8Array, start: number, end: number, to: Endpoint, _seconds: number): number {
    return this.sealWith(this.#key, buffer, start, end, to);
  }
}

/** A server's datagrams of 2017 or `none`. A user is found by trying the keys. */
export class PacketServer2017 extends Packets2017 implements ShadowsocksPacketServer {
  session: ShadowsocksPacketSession | undefined;
  readonly #sessions: readonly (ShadowsocksPacketSession & { readonly key: Uint8Array })[];
  readonly #salts: SaltFilter | undefined;
  readonly #copy: Uint8Array<ArrayBuffer>;

  /**
   * Holds the keys.
   *
   * @param options The method, the keys, and the memory of salts.
   */
  constructor(options: ShadowsocksServerOptions, tools: ShadowsocksTools) {
    super(options.profile, tools);
    const users: ShadowsocksUserTable | undefined = options.users;
    this.#sessions = users === undefined
      ? [{ user: undefined, key: options.profile.key }]
      : users.list.map(({ name, key }) => ({ user: name, key }));
    this.#salts = options.salts;
    this.#copy = new Uint8Array(users === undefined ? 0 : 0x1_0000);
  }

  /** Opens a datagram; see {@linkcode ShadowsocksPacketOpener}. */
  override open(buffer: Uint8Array, start: number, end: number, seconds: number): number {
    const found = this.#sessions.length === 1
      ? this.unseal(this.#sessions[0]!.key, buffer, start, end) ? this.#sessions[0] : undefined
      : this.#tryAll(buffer, start, end);
    if (found === undefined) return this.short(start, end);
    if (this.#salts !== undefined && this.saltBytes > 0) {
      const isNew = this.#salts.add(buffer, start, start + this.saltBytes, seconds);
      if (!isNew) return REJECT_PACKET_REPLAYED;
    }
    this.session = found;
    return this.find(start, end, buffer);
  }

  /** Seals an answer; see {@linkcode ShadowsocksPacketServer}. */
  seal(
    session: ShadowsocksPacketSession,
    buffer: Uint8Array,
    start: number,
    end: number,
    from: Endpoint,
    _seconds: number,
  ): number {
    const own = this.#sessions.find((candidate) => candidate === session);
    if (own === undefined) throw new TypeError("Cannot seal an answer: the session is not ours");
    return this.sealWith(own.key, buffer, start, end, from);
  }

  /** There is nothing to forget. */
  expire(_seconds: number, _idleSeconds: number): number {
    return this.#sessions.length;
  }

  /** Each key gets a fresh copy, for what fails to open is lost. */
  #tryAll(buffer: Uint8Array, start: number, end: number) {
    const length = end - start;
    if (length > this.#copy.length) return undefined;
    for (const session of this.#sessions) {
      this.#copy.set(buffer.subarray(start, end));
      if (!this.unseal(session.key, this.#copy, 0, length)) continue;
      buffer.set(this.#copy.subarray(0, length), start);
      return session;
    }
    return undefined;
  }
}

function addressLength(to: Endpoint): number {
  return writeAddress(scratch, 0, to);
}

const scratch = new Uint8Array(MAX_ADDRESS_BYTES);
