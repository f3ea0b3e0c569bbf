/**
 * Datagrams of Shadowsocks 2022, SIP022 §3.2, with identities by SIP023.
 *
 * ```
 *  AES:
 *  +------------------+-------------+---------------------------------+
 *  | session, packet  | identity 16 |           body + tag            |
 *  | number: one block|   each, n   |                                 |
 *  +------------------+-------------+---------------------------------+
 *  ChaCha20:
 *  +----------+----------------------------------------------+
 *  | nonce 24 |   session, packet number, body, + tag        |
 *  +----------+----------------------------------------------+
 *
 *  body: type | Unix seconds 8 | [session of the client 8] | padding length 2 | padding | address | data
 * ```
 *
 * The first block is encrypted with the server's own key. A session has a key of its own, and its packet number is part
 * of the nonce. An identity is the hash of the next key, mixed with the first block and encrypted.
 *
 * @module
 */

import { integerIn } from "../../internal/check.ts";
import { type Endpoint, MAX_ADDRESS_BYTES, measureAddress, writeAddress } from "./address.ts";
import type { Aead, BlockCipher } from "./aead.ts";
import { checkRoom } from "./aead_chunk.ts";
import { readU16, readU32, readU64, writeU16, writeU64 } from "./octets.ts";
import { ReplayWindow } from "./replay.ts";
import { isNow, MAX_PADDING_BYTES, type PaddingPolicy } from "./shadowsocks2022_stream.ts";
import { deriveSessionSubkey, type ShadowsocksProfile } from "./shadowsocks_method.ts";
import {
  REJECT_PACKET_ADDRESS,
  REJECT_PACKET_FORGED,
  REJECT_PACKET_REPLAYED,
  REJECT_PACKET_SESSION,
  REJECT_PACKET_SHORT,
  REJECT_PACKET_TIME,
  REJECT_PACKET_TYPE,
  REJECT_PACKET_USER,
  type ShadowsocksPacketClient,
  type ShadowsocksPacketServer,
  type ShadowsocksPacketSession,
} from "./shadowsocks_packet.ts";
import type { ShadowsocksServerOptions, ShadowsocksTools } from "./shadowsocks_stream.ts";

/** How long a client goes on hearing a server session after the next one began, seconds. SIP022 §3.2.4. */
export const OLD_SESSION_SECONDS = 60;

/** A sending half: its number, its key, and how many it has sent. */
class Sender {
  readonly id: Uint8Array;
  readonly aead: Aead;
  count = 0;

  constructor(id: Uint8Array, aead: Aead) {
    this.id = id;
    this.aead = aead;
  }
}

/** A receiving half: what the other side's session is known by. */
class Receiver {
  readonly high: number;
  readonly low: number;
  readonly aead: Aead;
  readonly window: ReplayWindow = new ReplayWindow();
  heardAt = 0;

  constructor(high: number, low: number, aead: Aead) {
    this.high = high;
    this.low = low;
    this.aead = aead;
  }
}

/** What both ends do the same way: bodies, nonces and room. */
abstract class Packets2022 {
  readonly headroom: number;
  readonly tailroom = 16;
  addressStart = 0;
  dataStart = 0;
  dataEnd = 0;
  protected readonly profile: ShadowsocksProfile;
  protected readonly tools: ShadowsocksTools;
  protected readonly isChaCha: boolean;
  protected readonly padding: PaddingPolicy;
  /** The one cipher of ChaCha20, which has no keys of sessions. */
  protected readonly wideAead: Aead | undefined;
  protected readonly nonce: Uint8Array<ArrayBuffer>;

  constructor(
    profile: ShadowsocksProfile,
    tools: ShadowsocksTools,
    padding: PaddingPolicy | undefined,
  ) {
    this.profile = profile;
    this.tools = tools;
    this.isChaCha = profile.method.aead === "chacha20-poly1305";
    this.padding = padding ?? ((_payloadBytes, port) =>
      // Queries of names are short and known by their lengths; others are left as they are.
      port === 53 ? tools.random.u32() % (MAX_PADDING_BYTES + 1) : 0);
    this.wideAead = this.isChaCha ? tools.createAead("xchacha20-poly1305", profile.key) : undefined;
    this.nonce = new Uint8Array(this.isChaCha ? 24 : 12);
    this.headroom = (this.isChaCha ? 40 : 16 + 16 * profile.identityKeys.length) + 19 +
      MAX_PADDING_BYTES + MAX_ADDRESS_BYTES;
  }

  protected aeadOf(key: Uint8Array, id: Uint8Array): Aead {
    return this.wideAead ??
      this.tools.createAead(this.profile.method.aead!, deriveSessionSubkey(key, id));
  }

  /** Closes the cipher of a session, unless it is the one for all. */
  protected release(aead: Aead): void {
    if (aead !== this.wideAead) aead.close?.();
  }

  /** Writes the body before the data and seals it; answers where session and packet number begin, in the clear. */
  protected sealBody(
    sender: Sender,
    echoed: Uint8Array | undefined,
    identityBytes: number,
    buffer: Uint8Array,
    start: number,
    end: number,
    peer: Endpoint,
    seconds: number,
  ): number {
    const padding = integerIn(
      this.padding(end - start, peer.port),
      0,
      MAX_PADDING_BYTES,
      "the length of padding",
    );
    const address = start - writeAddress(scratch, 0, peer);
    const body = address - padding - 11 - (echoed === undefined ? 0 : 8);
    const head = body - identityBytes - 16;
    checkRoom(buffer, head - (this.isChaCha ? 24 : 0), end + this.tailroom);
    writeAddress(buffer, address, peer);
    buffer[body] = echoed === undefined ? TYPE_CLIENT : TYPE_SERVER;
    writeU64(buffer, body + 1, seconds);
    if (echoed !== undefined) buffer.set(echoed, body + 9);
    writeU16(buffer, address - padding - 2, padding);
    buffer.fill(0, address - padding, address);
    buffer.set(sender.id, head);
    writeU64(buffer, head + 8, sender.count++);
    if (this.isChaCha) {
      const nonce = this.tools.random.bytes(24);
      buffer.set(nonce, head - 24);
      sender.aead.seal(nonce, buffer, head, end);
    } else {
      this.#takeNonce(buffer, head);
      sender.aead.seal(this.nonce, buffer, body, end);
    }
    return head;
  }

  /** Opens a body whose session is known; the window takes the number once all is well. */
  protected openBody(
    receiver: Receiver,
    echoed: Uint8Array | undefined,
    buffer: Uint8Array,
    head: number,
    sealed: number,
    end: number,
    seconds: number,
  ): number {
    const id = readU64(buffer, head + 8);
    if (!receiver.window.accepts(id)) return REJECT_PACKET_REPLAYED;
    if (!this.isChaCha) {
      this.#takeNonce(buffer, head);
      if (!receiver.aead.open(this.nonce, buffer, sealed, end)) return REJECT_PACKET_FORGED;
    }
    const last = end - 16;
    const found = this.#readBody(echoed, buffer, sealed, last, seconds);
    if (found < 0) return found;
    receiver.window.mark(id);
    receiver.heardAt = seconds;
    return found;
  }

  /** ChaCha20: opens all of it, for session and number are inside. Answers where they are, or a reason. */
  protected openWide(buffer: Uint8Array, start: number, end: number): number {
    if (end - start < 24 + 16 + 11 + 16) return REJECT_PACKET_SHORT;
    for (let i = 0; i < 24; i++) this.nonce[i] = buffer[start + i]!;
    const isGenuine = this.wideAead!.open(this.nonce, buffer, start + 24, end);
    return isGenuine ? start + 24 : REJECT_PACKET_FORGED;
  }

  #readBody(
    echoed: Uint8Array | undefined,
    buffer: Uint8Array,
    body: number,
    last: number,
    seconds: number,
  ): number {
    const padding = body + (echoed === undefined ? 9 : 17);
    if (padding + 2 > last) return REJECT_PACKET_SHORT;
    if (buffer[body] !== (echoed === undefined ? TYPE_CLIENT : TYPE_SERVER)) {
      return REJECT_PACKET_TYPE;
    }
    if (!isNow(buffer, body + 1, seconds)) return REJECT_PACKET_TIME;
    if (echoed !== undefined) {
      for (let i = 0; i < 8; i++) {
        if (buffer[body + 9 + i] !== echoed[i]) return REJECT_PACKET_SESSION;
      }
    }
    const address = padding + 2 + readU16(buffer, padding);
    if (address > last) return REJECT_PACKET_SHORT;
    const length = measureAddress(buffer, address, last);
    if (length < 0) return REJECT_PACKET_ADDRESS;
    if (address + length > last) return REJECT_PACKET_SHORT;
    this.addressStart = address;
    this.dataStart = address + length;
    this.dataEnd = last;
    return this.dataStart;
  }

  #takeNonce(buffer: Uint8Array, head: number): void {
    for (let i = 0; i < 12; i++) this.nonce[i] = buffer[head + 4 + i]!;
  }
}

/** A client's datagrams of 2022: one session, for as long as this lives. */
export class PacketClient2022 extends Packets2022 implements ShadowsocksPacketClient {
  readonly #sender: Sender;
  /** Encrypts the first block of what is sent. */
  readonly #outer: BlockCipher | undefined;
  /** Decrypts the first block of what is received: the answer is for the user. */
  readonly #inner: BlockCipher | undefined;
  readonly #identities: readonly BlockCipher[];
  #current: Receiver | undefined;
  #old: Receiver | undefined;

  /**
   * Begins a session.
   *
   * @param profile The method and the keys.
   * @param padding How much padding; by default some for port 53 only.
   */
  constructor(profile: ShadowsocksProfile, tools: ShadowsocksTools, padding?: PaddingPolicy) {
    super(profile, tools, padding);
    const id = tools.random.bytes(8).slice();
    this.#sender = new Sender(id, this.aeadOf(profile.key, id));
    if (this.isChaCha) {
      this.#identities = [];
      return;
    }
    this.#identities = profile.identityKeys.map((key) => tools.createBlockCipher(key));
    this.#inner = tools.createBlockCipher(profile.key);
    this.#outer = this.#identities[0] ?? this.#inner;
  }

  /** Seals a datagram; see {@linkcode ShadowsocksPacketClient}. */
  seal(buffer: Uint8Array, start: number, end: number, to: Endpoint, seconds: number): number {
    const identityBytes = 16 * this.#identities.length;
    const head = this.sealBody(
      this.#sender,
      undefined,
      identityBytes,
      buffer,
      start,
      end,
      to,
      seconds,
    );
    if (this.isChaCha) return head - 24;
    const hashes = this.profile.identityHashes;
    for (let i = 0; i < this.#identities.length; i++) {
      const at = head + 16 + 16 * i;
      for (let j = 0; j < 16; j++) buffer[at + j] = hashes[i]![j]! ^ buffer[head + j]!;
      this.#identities[i]!.encryptBlock(buffer, at);
    }
    this.#outer!.encryptBlock(buffer, head);
    return head;
  }

  /** Opens an answer; see {@linkcode ShadowsocksPacketClient}. */
  open(buffer: Uint8Array, start: number, end: number, seconds: number): number {
    let head = start;
    if (this.isChaCha) {
      head = this.openWide(buffer, start, end);
      if (head < 0) return head;
    } else {
      if (end - start < 16 + 19 + 16) return REJECT_PACKET_SHORT;
      this.#inner!.decryptBlock(buffer, head);
    }
    const high = readU32(buffer, head), low = readU32(buffer, head + 4);
    const known = isOf(this.#current, high, low)
      ? this.#current
      : isOf(this.#old, high, low)
      ? this.#old
      : undefined;
    const receiver = known ?? this.#meet(buffer, head, high, low, seconds);
    if (receiver === undefined) return REJECT_PACKET_SESSION;
    const found = this.openBody(receiver, this.#sender.id, buffer, head, head + 16, end, seconds);
    if (known !== undefined) return found;
    if (found < 0) {
      this.release(receiver.aead);
      return found;
    }
    if (this.#old !== undefined) this.release(this.#old.aead);
    this.#old = this.#current;
    this.#current = receiver;
    return found;
  }

  /** Gives the ciphers back. */
  close(): void {
    for (const session of [this.#current, this.#old, this.#sender]) {
      if (session !== undefined) this.release(session.aead);
    }
    this.wideAead?.close?.();
    this.#inner?.close?.();
    for (const cipher of this.#identities) cipher.close?.();
  }

  /** A session that is new, if there is a place for it: a server restarts, but not every second. */
  #meet(
    buffer: Uint8Array,
    head: number,
    high: number,
    low: number,
    seconds: number,
  ): Receiver | undefined {
    if (this.#old !== undefined && seconds - this.#old.heardAt < OLD_SESSION_SECONDS) {
      return undefined;
    }
    const aead = this.aeadOf(this.profile.key, buffer.subarray(head, head + 8));
    return new Receiver(high, low, aead);
  }
}

/** A session of a client at the server. */
class ServerSession extends Receiver implements ShadowsocksPacketSession {
  readonly user: string | undefined;
  readonly clientId: Uint8Array;
  readonly key: Uint8Array;
  /** Made for the first answer: most of what strangers send never gets one. */
  sender: Sender | undefined;

  constructor(
    high: number,
    low: number,
    aead: Aead,
    user: string | undefined,
    key: Uint8Array,
    clientId: Uint8Array,
  ) {
    super(high, low, aead);
    this.user = user;
    this.key = key;
    this.clientId = clientId;
  }
}

/** A server's datagrams of 2022: sessions are known by their numbers, wherever their datagrams come from. */
export class PacketServer2022 extends Packets2022 implements ShadowsocksPacketServer {
  session: ShadowsocksPacketSession | undefined;
  readonly #options: ShadowsocksServerOptions;
  readonly #outer: BlockCipher | undefined;
  /** By the low half of the number; those that share it stand in one list. */
  readonly #sessions = new Map<number, ServerSession[]>();
  /** Encrypts the first block of answers, by key. */
  readonly #inner = new Map<Uint8Array, BlockCipher>();
  #count = 0;

  /**
   * Begins without sessions.
   *
   * @param options The method, the server's key and the users; salts are not used, sessions have windows.
   * @param padding How much padding; by default some for port 53 only.
   */
  constructor(
    options: ShadowsocksServerOptions,
    tools: ShadowsocksTools,
    padding?: PaddingPolicy,
  ) {
    super(options.profile, tools, padding);
    this.#options = options;
    if (!this.isChaCha) this.#outer = tools.createBlockCipher(options.profile.key);
  }

  /** How many sessions are kept. */
  get sessionCount(): number {
    return this.#count;
  }

  /** Opens a datagram; see {@linkcode ShadowsocksPacketServer}. */
  open(buffer: Uint8Array, start: number, end: number, seconds: number): number {
    let head = start;
    let body = start + 16;
    if (this.isChaCha) {
      head = this.openWide(buffer, start, end);
      if (head < 0) return head;
      body = head + 16;
    } else {
      if (this.#options.users !== undefined) body += 16;
      if (end - body < 11 + 16) return REJECT_PACKET_SHORT;
      this.#outer!.decryptBlock(buffer, head);
    }
    const high = readU32(buffer, head), low = readU32(buffer, head + 4);
    const list = this.#sessions.get(low);
    let session: ServerSession | undefined;
    for (let i = 0; list !== undefined && i < list.length; i++) {
      if (list[i]!.high === high) session = list[i];
    }
    const isNew = session === undefined;
    session ??= this.#meet(buffer, head, high, low);
    if (session === undefined) return REJECT_PACKET_USER;
    const found = this.openBody(session, undefined, buffer, head, body, end, seconds);
    if (found < 0) {
      if (isNew) this.#release(session);
      return found;
    }
    if (isNew) {
      if (list === undefined) this.#sessions.set(low, [session]);
      else list.push(session);
      this.#count++;
    }
    this.session = session;
    return found;
  }

  /** Seals an answer; see {@linkcode ShadowsocksPacketServer}. @throws {TypeError} When the session is not ours. */
  seal(
    session: ShadowsocksPacketSession,
    buffer: Uint8Array,
    start: number,
    end: number,
    from: Endpoint,
    seconds: number,
  ): number {
    if (!(session instanceof ServerSession)) {
      throw new TypeError("Cannot seal an answer: the session is not ours");
    }
    const { clientId, key } = session;
    session.sender ??= this.#createSender(key);
    const head = this.sealBody(session.sender, clientId, 0, buffer, start, end, from, seconds);
    if (this.isChaCha) return head - 24;
    this.#innerOf(key).encryptBlock(buffer, head);
    return head;
  }

  /** Forgets what was idle; see {@linkcode ShadowsocksPacketServer}. */
  expire(seconds: number, idleSeconds: number): number {
    for (const [low, list] of this.#sessions) {
      const kept: ServerSession[] = [];
      for (const session of list) {
        if (seconds - session.heardAt < idleSeconds) kept.push(session);
        else this.#release(session);
      }
      this.#count -= list.length - kept.length;
      if (kept.length === 0) this.#sessions.delete(low);
      else this.#sessions.set(low, kept);
    }
    return this.#count;
  }

  /** Gives the ciphers back. */
  close(): void {
    this.expire(0, -Infinity);
    this.#outer?.close?.();
    for (const cipher of this.#inner.values()) cipher.close?.();
    this.#inner.clear();
    this.wideAead?.close?.();
  }

  /** A session that may become one: its first datagram has not proved the key yet. */
  #meet(
    buffer: Uint8Array,
    head: number,
    high: number,
    low: number,
  ): ServerSession | undefined {
    let key = this.profile.key;
    let user: string | undefined;
    if (this.#options.users !== undefined) {
      const at = head + 16;
      this.#outer!.decryptBlock(buffer, at);
      for (let i = 0; i < 16; i++) buffer[at + i]! ^= buffer[head + i]!;
      const found = this.#options.users.find(buffer, at);
      if (found === undefined) return undefined;
      key = found.key;
      user = found.name;
    }
    const clientId = buffer.slice(head, head + 8);
    return new ServerSession(high, low, this.aeadOf(key, clientId), user, key, clientId);
  }

  #createSender(key: Uint8Array): Sender {
    const id = this.tools.random.bytes(8).slice();
    return new Sender(id, this.aeadOf(key, id));
  }

  #release(session: ServerSession): void {
    this.release(session.aead);
    if (session.sender !== undefined) this.release(session.sender.aead);
  }

  #innerOf(key: Uint8Array): BlockCipher {
    let cipher = this.#inner.get(key);
    if (cipher === undefined) {
      cipher = this.tools.createBlockCipher(key);
      this.#inner.set(key, cipher);
    }
    return cipher;
  }
}

function isOf(receiver: Receiver | undefined, high: number, low: number): boolean {
  return receiver !== undefined && receiver.high === high && receiver.low === low;
}

const TYPE_CLIENT = 0;
const TYPE_SERVER = 1;
const scratch = new Uint8Array(MAX_ADDRESS_BYTES);
