/**
 * What the first datagrams of QUIC say: the ClientHello inside Initial packets, which are encrypted with keys that anybody
 * can make. RFC 9000 §17.2, RFC 9001 §5, RFC 9369, and draft 29, which some still speak.
 *
 * @module
 */

import { expand, extract } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import type { BlockCipher, BlockCipherFactory } from "./aead.ts";
import { CLIENT_HELLO, decodeClientHello, guessClient } from "./client_hello.ts";
import { bytesOfLatin1, joinBytes, readU32, writeU32 } from "./octets.ts";
import { nameOf, type SniffAnswer, sniffed } from "./sniff.ts";

/** Most datagrams that are looked at before it is given up. */
export const MAX_QUIC_DATAGRAMS = 8;
/** Most bytes of handshake that are put together. */
export const MAX_QUIC_CRYPTO_BYTES = 16_384;

/** One flow: give it the datagrams of the client one after the other, until it answers something else than `more`. */
export class QuicSniffer {
  readonly #createBlockCipher: BlockCipherFactory;
  readonly #crypto = new Uint8Array(MAX_QUIC_CRYPTO_BYTES);
  /** Which bytes have come: pieces as [start, end), apart from each other and in order. */
  #pieces: [number, number][] = [];
  #keys: InitialKeys | undefined;
  #datagrams = 0;

  /**
   * Begins before the first datagram.
   *
   * @param createBlockCipher Makes AES; used for a few blocks per datagram.
   */
  constructor(createBlockCipher: BlockCipherFactory) {
    this.#createBlockCipher = createBlockCipher;
  }

  /** Looks at one datagram of the client. It is not changed. */
  receive(bytes: Uint8Array, start: number, end: number): SniffAnswer {
    if (++this.#datagrams > MAX_QUIC_DATAGRAMS) return this.#end("no");
    // Decrypting happens in a copy: the datagram still has to be sent on.
    const datagram = bytes.slice(start, end);
    let at = 0, found = false;
    // Data under keys of an earlier connection may come between two pieces.
    const isLater = this.#keys !== undefined;
    while (at < datagram.length) {
      const packet = findPacket(datagram, at);
      if (packet === undefined) break;
      at = packet.end;
      if (!packet.isInitial) continue;
      if (!this.#open(datagram, packet)) return found ? "more" : this.#end("no");
      found = true;
    }
    if (!found) return isLater && at > 0 ? "more" : this.#end("no");
    return this.#answer();
  }

  /** Gives the ciphers back; not needed once it has answered something else than `more`. */
  close(): void {
    this.#keys?.close();
    this.#keys = undefined;
  }

  #open(datagram: Uint8Array, packet: Packet): boolean {
    // The keys are those of the first destination, whatever the server calls itself later. RFC 9001 §5.2.
    this.#keys ??= new InitialKeys(
      packet.version,
      datagram.subarray(packet.destinationStart, packet.destinationEnd),
      this.#createBlockCipher,
    );
    const payload = this.#keys.open(datagram, packet);
    return payload > 0 && this.#readFrames(datagram, payload, packet.end - 16);
  }

  /** Only these may stand in an Initial packet. RFC 9000 §12.4. */
  #readFrames(bytes: Uint8Array, start: number, end: number): boolean {
    const reader = new VarintReader(bytes, start, end);
    while (reader.at < end) {
      const type = bytes[reader.at++]!;
      if (type === FRAME_PADDING || type === FRAME_PING) continue;
      if (type === FRAME_CRYPTO) {
        const offset = reader.next(), length = reader.next();
        if (reader.failed || length > end - reader.at) return false;
        if (offset + length > MAX_QUIC_CRYPTO_BYTES) return false;
        this.#crypto.set(bytes.subarray(reader.at, reader.at + length), offset);
        this.#addPiece(offset, offset + length);
        reader.at += length;
      } else if (type === FRAME_ACK || type === FRAME_ACK_ECN) {
        reader.next();
        reader.next();
        const ranges = reader.next();
        reader.next();
        for (let i = 0; i < 2 * ranges && !reader.failed; i++) reader.next();
        if (type === FRAME_ACK_ECN) { for (let i = 0; i < 3; i++) reader.next(); }
        if (reader.failed) return false;
      } else {
        return false;
      }
    }
    return true;
  }

  /** Chrome cuts the message into many pieces and shuffles them. */
  #addPiece(start: number, end: number): void {
    const merged: [number, number] = [start, end];
    const kept = this.#pieces.filter(([from, to]) => {
      if (to < merged[0] || from > merged[1]) return true;
      merged[0] = Math.min(merged[0], from);
      merged[1] = Math.max(merged[1], to);
      return false;
    });
    this.#pieces = [...kept, merged].sort((a, b) => a[0] - b[0]);
  }

  #answer(): SniffAnswer {
    const first = this.#pieces[0];
    if (first === undefined || first[0] > 0 || first[1] < 4) return "more";
    if (this.#crypto[0] !== CLIENT_HELLO) return this.#end("no");
    const end = 4 + (readU32(this.#crypto, 0) & 0xffffff);
    if (end > MAX_QUIC_CRYPTO_BYTES) return this.#end("no");
    if (first[1] < end) return "more";
    const hello = decodeClientHello(this.#crypto, 4, end);
    if (hello === undefined) return this.#end("no");
    const host = nameOf(hello.serverName);
    return this.#end(sniffed("quic", host, hello.alpn, guessClient(hello)));
  }

  #end(answer: SniffAnswer): SniffAnswer {
    this.close();
    return answer;
  }
}

/** Where the parts of a packet with a long header are. */
interface Packet {
  readonly start: number;
  readonly version: Version;
  readonly isInitial: boolean;
  readonly destinationStart: number;
  readonly destinationEnd: number;
  /** Where the packet number begins, encrypted. */
  readonly number: number;
  readonly end: number;
}

/** What differs between versions. */
interface Version {
  readonly salt: Uint8Array;
  /** The type of Initial packets. */
  readonly initial: number;
  readonly label: string;
}

function findPacket(bytes: Uint8Array, start: number): Packet | undefined {
  // A long header, and the bit that is always set. RFC 9000 §17.2.
  if (bytes.length - start < 7 || (bytes[start]! & 0xc0) !== 0xc0) return undefined;
  const version = VERSIONS.get(readU32(bytes, start + 1));
  if (version === undefined) return undefined;
  const destinationStart = start + 6;
  const destinationEnd = destinationStart + bytes[start + 5]!;
  if (bytes[start + 5]! > 20 || destinationEnd >= bytes.length) return undefined;
  const sourceLength = bytes[destinationEnd]!;
  const reader = new VarintReader(bytes, destinationEnd + 1 + sourceLength, bytes.length);
  if (sourceLength > 20 || reader.at > bytes.length) return undefined;
  const isInitial = (bytes[start]! >>> 4 & 3) === version.initial;
  // Retry has neither of the lengths and is the server's; it fails here or at the tag.
  if (isInitial) {
    const token = reader.next();
    reader.at += token;
  }
  const length = reader.next();
  if (reader.failed || reader.at > bytes.length || length > bytes.length - reader.at) {
    return undefined;
  }
  return {
    start,
    version,
    isInitial,
    destinationStart,
    destinationEnd,
    number: reader.at,
    end: reader.at + length,
  };
}

/** The keys of the client's Initial packets. RFC 9001 §5.2. */
class InitialKeys {
  readonly #key: BlockCipher;
  readonly #headerKey: BlockCipher;
  readonly #iv: Uint8Array;
  readonly #block = new Uint8Array(16);
  readonly #hash = new Uint8Array(16);
  readonly #counter = new Uint8Array(16);

  constructor(
    version: Version,
    destination: Uint8Array,
    createBlockCipher: BlockCipherFactory,
  ) {
    const secret = expandLabel(extract(sha256, destination, version.salt), "client in", 32);
    this.#key = createBlockCipher(expandLabel(secret, `${version.label} key`, 16));
    this.#headerKey = createBlockCipher(expandLabel(secret, `${version.label} hp`, 16));
    this.#iv = expandLabel(secret, `${version.label} iv`, 12);
  }

  /** Decrypts header and payload in place; answers where the payload begins, or 0 when the tag is wrong. */
  open(bytes: Uint8Array, packet: Packet): number {
    const { start, number, end } = packet;
    // The sample begins where the payload would after the longest packet number. RFC 9001 §5.4.2.
    if (end - number < 4 + 16) return 0;
    const block = this.#block;
    for (let i = 0; i < 16; i++) block[i] = bytes[number + 4 + i]!;
    this.#headerKey.encryptBlock(block, 0);
    bytes[start]! ^= block[0]! & 0x0f;
    const payload = number + 1 + (bytes[start]! & 3);
    for (let i = number; i < payload; i++) bytes[i]! ^= block[1 + i - number]!;
    const counter = this.#counter;
    counter.set(this.#iv);
    for (let i = number; i < payload; i++) counter[12 + i - payload]! ^= bytes[i]!;
    if (!this.#isGenuine(bytes, start, payload, end - 16)) return 0;
    for (let at = payload, n = 2; at < end - 16; at += 16, n++) {
      this.#keyStream(n);
      for (let i = 0; i < 16 && at + i < end - 16; i++) bytes[at + i]! ^= block[i]!;
    }
    return payload;
  }

  close(): void {
    this.#key.close?.();
    this.#headerKey.close?.();
  }

  /** Block `n` of the stream of AES in counter mode. */
  #keyStream(n: number): void {
    writeU32(this.#counter, 12, n);
    this.#block.set(this.#counter);
    this.#key.encryptBlock(this.#block, 0);
  }

  /** The tag of AES-GCM over header and payload. NIST SP 800-38D §6.4, §7.2. */
  #isGenuine(bytes: Uint8Array, start: number, payload: number, end: number): boolean {
    const block = this.#block, hash = this.#hash;
    block.fill(0);
    this.#key.encryptBlock(block, 0);
    const key = [0, 4, 8, 12].map((at) => readU32(block, at));
    hash.fill(0);
    absorb(hash, key, bytes, start, payload);
    absorb(hash, key, bytes, payload, end);
    block.fill(0);
    writeU32(block, 4, 8 * (payload - start));
    writeU32(block, 12, 8 * (end - payload));
    absorb(hash, key, block, 0, 16);
    this.#keyStream(1);
    let difference = 0;
    for (let i = 0; i < 16; i++) difference |= hash[i]! ^ block[i]! ^ bytes[end + i]!;
    return difference === 0;
  }
}

/** GHASH: takes [start, end) in, zeros to a full block. A bit at a time, which is enough for a few datagrams. */
function absorb(
  hash: Uint8Array,
  key: readonly number[],
  bytes: Uint8Array,
  start: number,
  end: number,
): void {
  for (let at = start; at < end; at += 16) {
    for (let i = 0; i < 16 && at + i < end; i++) hash[i]! ^= bytes[at + i]!;
    let [v0, v1, v2, v3] = [key[0]!, key[1]!, key[2]!, key[3]!];
    let z0 = 0, z1 = 0, z2 = 0, z3 = 0;
    for (let bit = 0; bit < 128; bit++) {
      // All ones when the bit is set, else zero.
      const mask = -(hash[bit >>> 3]! >>> (7 - (bit & 7)) & 1);
      z0 ^= v0 & mask;
      z1 ^= v1 & mask;
      z2 ^= v2 & mask;
      z3 ^= v3 & mask;
      const carry = -(v3 & 1);
      v3 = v3 >>> 1 | v2 << 31;
      v2 = v2 >>> 1 | v1 << 31;
      v1 = v1 >>> 1 | v0 << 31;
      v0 = v0 >>> 1 ^ carry & 0xe1000000;
    }
    writeU32(hash, 0, z0);
    writeU32(hash, 4, z1);
    writeU32(hash, 8, z2);
    writeU32(hash, 12, z3);
  }
}

/** HKDF-Expand-Label of TLS 1.3 without context. RFC 8446 §7.1. */
function expandLabel(secret: Uint8Array, label: string, length: number): Uint8Array {
  const text = bytesOfLatin1("tls13 " + label);
  return expand(sha256, secret, joinBytes([0, length, text.length], text, [0]), length);
}

/** Reads numbers of variable length. RFC 9000 §16. */
class VarintReader {
  at: number;
  failed = false;
  readonly #bytes: Uint8Array;
  readonly #end: number;

  constructor(bytes: Uint8Array, at: number, end: number) {
    this.#bytes = bytes;
    this.at = at;
    this.#end = end;
  }

  /** The next number; 0 and `failed` when it is cut off or larger than anything here can be. */
  next(): number {
    const first = this.at < this.#end ? this.#bytes[this.at]! : 0;
    const length = 1 << (first >>> 6);
    if (this.failed || this.at + length > this.#end) {
      this.failed = true;
      return 0;
    }
    let value = first & 0x3f;
    for (let i = 1; i < length; i++) value = value * 256 + this.#bytes[this.at + i]!;
    this.at += length;
    if (value <= 0xffff_ffff) return value;
    this.failed = true;
    return 0;
  }
}

const FRAME_PADDING = 0;
const FRAME_PING = 1;
const FRAME_ACK = 2;
const FRAME_ACK_ECN = 3;
const FRAME_CRYPTO = 6;

function version(salt: string, initial: number, label: string): Version {
  const bytes = new Uint8Array(20);
  for (let i = 0; i < 20; i++) bytes[i] = parseInt(salt.slice(2 * i, 2 * i + 2), 16);
  return { salt: bytes, initial, label };
}

/** RFC 9001 §5.2, RFC 9369 §3.3, draft-ietf-quic-tls-29 §5.2. */
const VERSIONS: ReadonlyMap<number, Version> = new Map([
  [0x0000_0001, version("38762cf7f55934b34d179ae6a4c80cadccbb7f0a", 0, "quic")],
  [0x6b33_43cf, version("0dede3def700a6db819381be6e269dcbf9bd2ed9", 1, "quicv2")],
  [0xff00_001d, version("afbfec289993d24c9e9786f19c6111e04390a899", 0, "quic")],
]);
