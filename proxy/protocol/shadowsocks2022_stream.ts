/**
 * Streams of Shadowsocks 2022, SIP022 §3.1, with identities by SIP023.
 *
 * ```
 *  +------+-------------+-----------+--------------+--------+---
 *  | salt | identity 16 | fixed, 11 |   variable   | chunks | …      client → server
 *  |      |   each, n   |  + tag    |    + tag     |        |
 *  +------+-------------+-----------+--------------+--------+---
 *    fixed:    00 | Unix seconds 8 | length of variable 2
 *    variable: address | padding length 2 | padding | first bytes
 *
 *  +------+--------------------------------+-----------------+--------+---
 *  | salt |  fixed, 11 + salt, + tag       |  first payload  | chunks | …      server → client
 *  +------+--------------------------------+-----------------+--------+---
 *    fixed:    01 | Unix seconds 8 | salt of the request | length of the first payload 2
 * ```
 *
 * Everything is sealed with one counter of nonces, as the chunks are. An identity is the hash of the next key, encrypted
 * as one block with a key made of the one before and the salt.
 *
 * @module
 */

import { decodeAddress, encodeAddress, type Endpoint, measureAddress } from "./address.ts";
import type { Aead } from "./aead.ts";
import {
  checkRoom,
  ChunkOpener,
  ChunkSealer,
  MAX_RANGES,
  type StreamOpener,
  type StreamSealer,
} from "./aead_chunk.ts";
import { NO_BYTES, readU16, readU64, writeU16, writeU64 } from "./octets.ts";
import {
  deriveIdentitySubkey,
  deriveSessionSubkey,
  type ShadowsocksProfile,
} from "./shadowsocks_method.ts";
import type {
  ShadowsocksClientStream,
  ShadowsocksServerOptions,
  ShadowsocksServerStream,
  ShadowsocksTools,
} from "./shadowsocks_stream.ts";
import { integerIn } from "../../internal/check.ts";

/** Longest payload of a chunk of 2022. */
export const MAX_CHUNK_2022 = 0xffff;
/** Most padding of a header, bytes. SIP022 §3.1.3. */
export const MAX_PADDING_BYTES = 900;
/** How far a time stamp may be away, seconds. SIP022 §3.1.3. */
export const MAX_CLOCK_SKEW_SECONDS = 30;

/**
 * Says how much padding goes before a payload, 0 to 900 bytes. A header without payload must have some.
 *
 * @param payloadBytes Length of the payload.
 * @param port Port of the destination.
 */
export type PaddingPolicy = (payloadBytes: number, port: number) => number;

/** Makes a client's stream of 2022. */
export function createClientStream2022(
  profile: ShadowsocksProfile,
  destination: Endpoint,
  tools: ShadowsocksTools,
  padding?: PaddingPolicy,
): ShadowsocksClientStream {
  const salt = tools.random.bytes(profile.method.keyBytes).slice();
  const ifEmpty: PaddingPolicy = (payloadBytes) =>
    payloadBytes > 0 ? 0 : 1 + tools.random.u32() % MAX_PADDING_BYTES;
  return {
    sealer: new RequestSealer(profile, destination, salt, padding ?? ifEmpty, tools),
    opener: new ResponseOpener(profile, salt, tools),
  };
}

/** Makes a server's stream of 2022. */
export function createServerStream2022(
  options: ShadowsocksServerOptions,
  tools: ShadowsocksTools,
): ShadowsocksServerStream {
  return new RequestOpener(options, tools);
}

/** The client's half: the whole header before the first payload, then chunks. */
class RequestSealer implements StreamSealer {
  readonly tailroom = 16;
  readonly #profile: ShadowsocksProfile;
  readonly #chunks: ChunkSealer;
  readonly #salt: Uint8Array;
  readonly #address: Uint8Array;
  readonly #port: number;
  readonly #padding: PaddingPolicy;
  readonly #tools: ShadowsocksTools;
  #isFirst = true;

  constructor(
    profile: ShadowsocksProfile,
    destination: Endpoint,
    salt: Uint8Array,
    padding: PaddingPolicy,
    tools: ShadowsocksTools,
  ) {
    this.#profile = profile;
    this.#salt = salt;
    this.#address = encodeAddress(destination);
    this.#port = destination.port;
    this.#padding = padding;
    this.#tools = tools;
    this.#chunks = new ChunkSealer(aeadOf(profile, profile.key, salt, tools), MAX_CHUNK_2022);
  }

  get headroom(): number {
    if (!this.#isFirst) return this.#chunks.headroom;
    const identities = 16 * this.#profile.identityKeys.length;
    return this.#salt.length + identities + REQUEST_FIXED_BYTES + 16 + this.#address.length + 2 +
      MAX_PADDING_BYTES;
  }

  get maxPayload(): number {
    if (!this.#isFirst) return MAX_CHUNK_2022;
    return MAX_CHUNK_2022 - this.#address.length - 2 - MAX_PADDING_BYTES;
  }

  seal(buffer: Uint8Array, start: number, end: number, seconds: number): number {
    if (!this.#isFirst) return this.#chunks.seal(buffer, start, end);
    const length = integerIn(end - start, 0, this.maxPayload, "the length of a first payload");
    const padding = this.#padding(length, this.#port);
    integerIn(padding, length > 0 ? 0 : 1, MAX_PADDING_BYTES, "the length of padding");
    const { identityKeys, identityHashes } = this.#profile;
    const variable = start - padding - 2 - this.#address.length;
    const fixed = variable - REQUEST_FIXED_BYTES - 16;
    const head = fixed - 16 * identityKeys.length - this.#salt.length;
    checkRoom(buffer, head, end + this.tailroom);
    this.#isFirst = false;

    buffer.set(this.#salt, head);
    for (let i = 0; i < identityKeys.length; i++) {
      const at = head + this.#salt.length + 16 * i;
      buffer.set(identityHashes[i]!, at);
      const key = deriveIdentitySubkey(identityKeys[i]!, this.#salt);
      const cipher = this.#tools.createBlockCipher(key);
      cipher.encryptBlock(buffer, at);
      cipher.close?.();
    }
    buffer[fixed] = TYPE_REQUEST;
    writeU64(buffer, fixed + 1, seconds);
    writeU16(buffer, fixed + 9, end - variable);
    this.#chunks.sealPart(buffer, fixed, fixed + REQUEST_FIXED_BYTES);
    buffer.set(this.#address, variable);
    writeU16(buffer, start - padding - 2, padding);
    buffer.fill(0, start - padding, start);
    this.#chunks.sealPart(buffer, variable, end);
    return head;
  }

  close(): void {
    this.#chunks.close();
  }
}

/** The server's half of receiving. */
class RequestOpener implements ShadowsocksServerStream {
  count = 0;
  request: Endpoint | undefined;
  user: string | undefined;
  state: "header" | "data" | "drain" = "header";
  readonly starts: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES);
  readonly ends: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES);
  readonly maxNeed = MAX_CHUNK_2022 + 16;
  readonly #options: ShadowsocksServerOptions;
  readonly #tools: ShadowsocksTools;
  readonly #headerBytes: number;
  #key: Uint8Array = NO_BYTES;
  #salt: Uint8Array = NO_BYTES;
  #chunks: ChunkOpener | undefined;
  #variableBytes = 0;

  constructor(options: ShadowsocksServerOptions, tools: ShadowsocksTools) {
    this.#options = options;
    this.#tools = tools;
    this.#headerBytes = options.profile.method.keyBytes + (options.users === undefined ? 0 : 16) +
      REQUEST_FIXED_BYTES + 16;
  }

  get need(): number {
    if (this.state === "drain") return 1;
    if (this.#chunks === undefined) return this.#headerBytes;
    return this.state === "header" ? this.#variableBytes + 16 : this.#chunks.need;
  }

  get atBoundary(): boolean {
    if (this.state === "data") return this.#chunks!.atBoundary;
    return this.state === "header" && this.#chunks === undefined;
  }

  open(buffer: Uint8Array, start: number, end: number, seconds: number): number {
    this.count = 0;
    if (this.state === "drain") return end - start;
    let at = start;
    if (this.#chunks === undefined) {
      if (end - start < this.#headerBytes) return 0;
      if (!this.#openFixed(buffer, start, seconds)) return this.#drain(end - start);
      at += this.#headerBytes;
    }
    const chunks = this.#chunks!;
    if (this.state === "header") {
      if (end - at < this.#variableBytes + 16) return at - start;
      if (!this.#openVariable(buffer, at)) return this.#drain(end - start);
      at += this.#variableBytes + 16;
    }
    const first = this.count;
    chunks.count = first;
    at = chunks.openMore(buffer, at, end);
    this.count = chunks.count;
    if (chunks.state === "drain") this.state = "drain";
    return at - start;
  }

  createSealer(): StreamSealer {
    if (this.request === undefined) {
      throw new TypeError("Cannot seal an answer: the request has not been read");
    }
    return new ResponseSealer(this.#options.profile, this.#key, this.#salt, this.#tools);
  }

  close(): void {
    this.#chunks?.close();
  }

  /** Nothing is remembered of a header that does not prove the key. */
  #openFixed(buffer: Uint8Array, start: number, seconds: number): boolean {
    const { profile, users, salts } = this.#options;
    const saltEnd = start + profile.method.keyBytes;
    const salt = buffer.slice(start, saltEnd);
    let key = profile.key;
    let fixed = saltEnd;
    if (users !== undefined) {
      const cipher = this.#tools.createBlockCipher(deriveIdentitySubkey(profile.key, salt));
      cipher.decryptBlock(buffer, saltEnd);
      cipher.close?.();
      const user = users.find(buffer, saltEnd);
      if (user === undefined) return false;
      this.user = user.name;
      key = user.key;
      fixed += 16;
    }
    const aead = aeadOf(profile, key, salt, this.#tools);
    this.#chunks = new ChunkOpener(aead, MAX_CHUNK_2022, this.starts, this.ends);
    if (!this.#chunks.openPart(buffer, fixed, fixed + REQUEST_FIXED_BYTES + 16)) return false;
    if (buffer[fixed] !== TYPE_REQUEST || !isNow(buffer, fixed + 1, seconds)) return false;
    if (salts !== undefined && !salts.add(salt, 0, salt.length, seconds)) return false;
    this.#variableBytes = readU16(buffer, fixed + 9);
    this.#key = key;
    this.#salt = salt;
    return true;
  }

  #openVariable(buffer: Uint8Array, at: number): boolean {
    const last = at + this.#variableBytes;
    if (!this.#chunks!.openPart(buffer, at, last + 16)) return false;
    const length = measureAddress(buffer, at, last);
    const padding = at + length;
    if (length < 0 || padding + 2 > last) return false;
    const payload = padding + 2 + readU16(buffer, padding);
    // Either padding or a payload: without both a header would be known by its length. SIP022 §3.1.3.
    if (payload > last || padding + 2 === last) return false;
    const request = decodeAddress(buffer, at, last);
    if (typeof request === "number") return false;
    this.request = request;
    this.state = "data";
    if (payload < last) {
      this.starts[0] = payload;
      this.ends[0] = last;
      this.count = 1;
    }
    return true;
  }

  #drain(bytes: number): number {
    this.state = "drain";
    this.count = 0;
    this.request = undefined;
    this.user = undefined;
    return bytes;
  }
}

/** The server's half of sending: the header before the first payload, then chunks. */
class ResponseSealer implements StreamSealer {
  readonly tailroom = 16;
  readonly maxPayload = MAX_CHUNK_2022;
  readonly #chunks: ChunkSealer;
  readonly #salt: Uint8Array;
  readonly #requestSalt: Uint8Array;
  #isFirst = true;

  constructor(
    profile: ShadowsocksProfile,
    key: Uint8Array,
    requestSalt: Uint8Array,
    tools: ShadowsocksTools,
  ) {
    this.#salt = tools.random.bytes(profile.method.keyBytes);
    this.#requestSalt = requestSalt;
    this.#chunks = new ChunkSealer(aeadOf(profile, key, this.#salt, tools), MAX_CHUNK_2022);
  }

  get headroom(): number {
    if (!this.#isFirst) return this.#chunks.headroom;
    return 2 * this.#salt.length + REQUEST_FIXED_BYTES + 16;
  }

  seal(buffer: Uint8Array, start: number, end: number, seconds: number): number {
    if (!this.#isFirst) return this.#chunks.seal(buffer, start, end);
    const length = integerIn(end - start, 0, MAX_CHUNK_2022, "the length of a payload");
    const salt = this.#salt;
    const fixed = start - 16 - REQUEST_FIXED_BYTES - salt.length;
    const head = fixed - salt.length;
    checkRoom(buffer, head, end + this.tailroom);
    this.#isFirst = false;
    buffer.set(salt, head);
    buffer[fixed] = TYPE_RESPONSE;
    writeU64(buffer, fixed + 1, seconds);
    buffer.set(this.#requestSalt, fixed + 9);
    writeU16(buffer, fixed + 9 + salt.length, length);
    this.#chunks.sealPart(buffer, fixed, start - 16);
    this.#chunks.sealPart(buffer, start, end);
    return head;
  }

  close(): void {
    this.#chunks.close();
  }
}

/** The client's half of receiving. */
class ResponseOpener implements StreamOpener {
  count = 0;
  state: "header" | "data" | "drain" = "header";
  readonly starts: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES);
  readonly ends: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES);
  readonly maxNeed = MAX_CHUNK_2022 + 16;
  readonly #profile: ShadowsocksProfile;
  readonly #requestSalt: Uint8Array;
  readonly #tools: ShadowsocksTools;
  readonly #headerBytes: number;
  #chunks: ChunkOpener | undefined;

  constructor(profile: ShadowsocksProfile, requestSalt: Uint8Array, tools: ShadowsocksTools) {
    this.#profile = profile;
    this.#requestSalt = requestSalt;
    this.#tools = tools;
    this.#headerBytes = 2 * requestSalt.length + REQUEST_FIXED_BYTES + 16;
  }

  get need(): number {
    if (this.state === "drain") return 1;
    return this.#chunks?.need ?? this.#headerBytes;
  }

  get atBoundary(): boolean {
    return this.state !== "drain" && (this.#chunks?.atBoundary ?? true);
  }

  open(buffer: Uint8Array, start: number, end: number, seconds: number): number {
    this.count = 0;
    if (this.state === "drain") return end - start;
    let at = start;
    if (this.#chunks === undefined) {
      if (end - start < this.#headerBytes) return 0;
      at += this.#headerBytes;
      if (!this.#openFixed(buffer, start, at, seconds)) {
        this.state = "drain";
        return end - start;
      }
      this.state = "data";
    }
    at += this.#chunks!.open(buffer, at, end);
    this.count = this.#chunks!.count;
    if (this.#chunks!.state === "drain") this.state = "drain";
    return at - start;
  }

  close(): void {
    this.#chunks?.close();
  }

  #openFixed(buffer: Uint8Array, start: number, end: number, seconds: number): boolean {
    const saltBytes = this.#requestSalt.length;
    const fixed = start + saltBytes;
    const salt = buffer.subarray(start, fixed);
    const aead = aeadOf(this.#profile, this.#profile.key, salt, this.#tools);
    this.#chunks = new ChunkOpener(aead, MAX_CHUNK_2022, this.starts, this.ends);
    if (!this.#chunks.openPart(buffer, fixed, end)) return false;
    if (buffer[fixed] !== TYPE_RESPONSE || !isNow(buffer, fixed + 1, seconds)) return false;
    // An answer to another request, replayed, carries that one's salt.
    for (let i = 0; i < saltBytes; i++) {
      if (buffer[fixed + 9 + i] !== this.#requestSalt[i]) return false;
    }
    this.#chunks.expectPayload(readU16(buffer, fixed + 9 + saltBytes));
    return true;
  }
}

/** Whether the time at `at` is within the allowed distance. */
export function isNow(bytes: Uint8Array, at: number, seconds: number): boolean {
  return Math.abs(readU64(bytes, at) - seconds) <= MAX_CLOCK_SKEW_SECONDS;
}

function aeadOf(
  profile: ShadowsocksProfile,
  key: Uint8Array,
  salt: Uint8Array,
  tools: ShadowsocksTools,
): Aead {
  // Every method of 2022 has a cipher.
  return tools.createAead(profile.method.aead!, deriveSessionSubkey(key, salt));
}

const TYPE_REQUEST = 0;
const TYPE_RESPONSE = 1;
/** Type, time and length; a response has the salt of the request too. */
const REQUEST_FIXED_BYTES = 11;
