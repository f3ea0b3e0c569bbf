/**
 * Streams of Shadowsocks by SIP004 (2017), and without encryption.
 *
 * ```
 *  +--------+-------------------------------+---------+---
 *  |  salt  | chunk: address ‖ first bytes  |  chunk  | …      client → server
 *  +--------+-------------------------------+---------+---
 *  |  salt  |             chunk             |  chunk  | …      server → client
 *  +--------+-------------------------------+---------+---
 * ```
 *
 * Each direction has its own salt and so its own key. Method `none` sends address and bytes as they are.
 *
 * @module
 */

import {
  decodeAddress,
  encodeAddress,
  type Endpoint,
  MAX_ADDRESS_BYTES,
  measureAddress,
} from "./address.ts";
import type { Aead, AeadFactory, BlockCipherFactory, RandomSource } from "./aead.ts";
import {
  checkRoom,
  CHUNK_HEAD_BYTES,
  ChunkOpener,
  ChunkSealer,
  MAX_RANGES,
  type StreamOpener,
  type StreamSealer,
} from "./aead_chunk.ts";
import { NO_BYTES } from "./octets.ts";
import type { SaltFilter } from "./replay.ts";
import {
  deriveShadowsocksSubkey,
  type ShadowsocksProfile,
  type ShadowsocksUserTable,
} from "./shadowsocks_method.ts";

/** Longest payload of a chunk of 2017: the length has 14 bits. SIP004. */
export const MAX_CHUNK_2017 = 0x3fff;

/** What the machines of Shadowsocks need from outside. */
export interface ShadowsocksTools {
  /** Makes the ciphers. */
  readonly createAead: AeadFactory;
  /** Makes the block ciphers; methods of 2022 only. */
  readonly createBlockCipher: BlockCipherFactory;
  /** Makes salts, identifiers and padding. */
  readonly random: RandomSource;
}

/** A client's stream: what it sends and what it receives. */
export interface ShadowsocksClientStream {
  /** Seals what is sent. The first call writes the header in front; an empty payload sends the header alone. */
  readonly sealer: StreamSealer;
  /** Opens what is received. */
  readonly opener: StreamOpener;
}

/** A server's stream: an opener that finds out who asks for what. */
export interface ShadowsocksServerStream extends StreamOpener {
  /** Where the client wants to go; known at the latest with the first payload. */
  readonly request: Endpoint | undefined;
  /** Who it is, when users are configured. */
  readonly user: string | undefined;
  /**
   * Makes the sealer of the answer.
   *
   * @throws {TypeError} When the request is not known yet.
   */
  createSealer(): StreamSealer;
}

/** What a server's streams have in common. */
export interface ShadowsocksServerOptions {
  /** The method and the server's key. */
  readonly profile: ShadowsocksProfile;
  /** The users. With 2017 each has a key of its own and the server's is not used. */
  readonly users?: ShadowsocksUserTable;
  /** Salts that were used; shared by all streams of a listener. Without it nothing is refused for being repeated. */
  readonly salts?: SaltFilter;
}

/** Makes a client's stream of 2017 or `none`. */
export function createClientStream2017(
  profile: ShadowsocksProfile,
  destination: Endpoint,
  tools: ShadowsocksTools,
): ShadowsocksClientStream {
  const address = encodeAddress(destination);
  if (profile.method.edition === 0) {
    return { sealer: new PlainSealer(address), opener: new PlainOpener() };
  }
  return {
    sealer: new SaltedSealer(profile, profile.key, address, tools),
    opener: new SaltedOpener(profile, profile.key, tools),
  };
}

/** Makes a server's stream of 2017 or `none`. */
export function createServerStream2017(
  options: ShadowsocksServerOptions,
  tools: ShadowsocksTools,
): ShadowsocksServerStream {
  return options.profile.method.edition === 0
    ? new PlainServer()
    : new SaltedServer(options, tools);
}

/** Salt and address before the first chunk's payload; chunks from then on. */
class SaltedSealer implements StreamSealer {
  readonly tailroom = 16;
  readonly #chunks: ChunkSealer;
  #salt: Uint8Array;
  #address: Uint8Array;

  constructor(
    profile: ShadowsocksProfile,
    key: Uint8Array,
    address: Uint8Array,
    tools: ShadowsocksTools,
  ) {
    this.#salt = tools.random.bytes(profile.method.keyBytes);
    this.#address = address;
    this.#chunks = new ChunkSealer(
      aeadOf(profile, key, this.#salt, tools.createAead),
      MAX_CHUNK_2017,
    );
  }

  get headroom(): number {
    return this.#salt.length + CHUNK_HEAD_BYTES + this.#address.length;
  }

  get maxPayload(): number {
    return MAX_CHUNK_2017 - this.#address.length;
  }

  seal(buffer: Uint8Array, start: number, end: number): number {
    const salt = this.#salt, address = this.#address;
    if (salt.length === 0) return this.#chunks.seal(buffer, start, end);
    const from = start - address.length;
    checkRoom(buffer, from - CHUNK_HEAD_BYTES - salt.length, end + this.tailroom);
    buffer.set(address, from);
    const head = this.#chunks.seal(buffer, from, end) - salt.length;
    buffer.set(salt, head);
    this.#salt = this.#address = NO_BYTES;
    return head;
  }

  close(): void {
    this.#chunks.close();
  }
}

/** Takes the salt off and opens chunks. */
class SaltedOpener implements StreamOpener {
  count = 0;
  readonly starts: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES);
  readonly ends: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES);
  readonly maxNeed = MAX_CHUNK_2017 + 16;
  readonly #profile: ShadowsocksProfile;
  readonly #key: Uint8Array;
  readonly #tools: ShadowsocksTools;
  #chunks: ChunkOpener | undefined;
  #isGenuine = false;

  constructor(profile: ShadowsocksProfile, key: Uint8Array, tools: ShadowsocksTools) {
    this.#profile = profile;
    this.#key = key;
    this.#tools = tools;
  }

  get need(): number {
    return this.#chunks?.need ?? this.#profile.method.keyBytes;
  }

  get state(): "header" | "data" | "drain" {
    if (this.#chunks?.state === "drain") return "drain";
    return this.#isGenuine ? "data" : "header";
  }

  get atBoundary(): boolean {
    return this.#chunks?.atBoundary ?? true;
  }

  open(buffer: Uint8Array, start: number, end: number): number {
    this.count = 0;
    let at = start;
    if (this.#chunks === undefined) {
      const { method } = this.#profile;
      if (end - start < method.keyBytes) return 0;
      at += method.keyBytes;
      const salt = buffer.subarray(start, at);
      const aead = aeadOf(this.#profile, this.#key, salt, this.#tools.createAead);
      this.#chunks = new ChunkOpener(aead, MAX_CHUNK_2017, this.starts, this.ends);
    }
    at += this.#chunks.open(buffer, at, end);
    this.count = this.#chunks.count;
    if (this.count > 0 || !this.#chunks.atBoundary) this.#isGenuine = true;
    return at - start;
  }

  close(): void {
    this.#chunks?.close();
  }
}

/** Finds out whose key it is, whether the salt is new, and where to go; then opens chunks. */
class SaltedServer implements ShadowsocksServerStream {
  count = 0;
  request: Endpoint | undefined;
  user: string | undefined;
  readonly starts: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES);
  readonly ends: Int32Array<ArrayBuffer> = new Int32Array(MAX_RANGES);
  readonly maxNeed = MAX_CHUNK_2017 + 16;
  readonly #options: ShadowsocksServerOptions;
  readonly #tools: ShadowsocksTools;
  readonly #address = new AddressReader();
  #key: Uint8Array = NO_BYTES;
  #chunks: ChunkOpener | undefined;
  #isDraining = false;

  constructor(options: ShadowsocksServerOptions, tools: ShadowsocksTools) {
    this.#options = options;
    this.#tools = tools;
  }

  get need(): number {
    if (this.state === "drain") return 1;
    return this.#chunks?.need ?? this.#options.profile.method.keyBytes + CHUNK_HEAD_BYTES;
  }

  get state(): "header" | "data" | "drain" {
    if (this.#isDraining || this.#chunks?.state === "drain") return "drain";
    return this.#chunks === undefined ? "header" : "data";
  }

  get atBoundary(): boolean {
    return !this.#isDraining && (this.#chunks?.atBoundary ?? true);
  }

  open(buffer: Uint8Array, start: number, end: number, seconds: number): number {
    this.count = 0;
    if (this.#isDraining) return end - start;
    let at = start;
    if (this.#chunks === undefined) {
      const saltBytes = this.#options.profile.method.keyBytes;
      if (end - start < saltBytes + CHUNK_HEAD_BYTES) return 0;
      at += saltBytes;
      this.#chunks = this.#begin(buffer, start, at, seconds);
      if (this.#chunks === undefined) return this.#drain(end - start);
    }
    at += this.#chunks.open(buffer, at, end);
    this.count = this.#chunks.count;
    if (this.request === undefined && this.count > 0 && !this.#readRequest(buffer)) {
      return this.#drain(end - start);
    }
    return at - start;
  }

  createSealer(): StreamSealer {
    if (this.request === undefined) throw new TypeError(NO_REQUEST);
    return new SaltedSealer(this.#options.profile, this.#key, NO_BYTES, this.#tools);
  }

  close(): void {
    this.#chunks?.close();
  }

  /**
   * Tries the keys on a copy of the first sealed length, for what fails to open is lost. The salt is remembered only when
   * one fits: strangers must not fill the memory.
   */
  #begin(
    buffer: Uint8Array,
    start: number,
    at: number,
    seconds: number,
  ): ChunkOpener | undefined {
    const { profile, users, salts } = this.#options;
    const salt = buffer.subarray(start, at);
    const candidates = users === undefined ? [{ key: profile.key, name: undefined }] : users.list;
    for (const { key, name } of candidates) {
      const aead = aeadOf(profile, key, salt, this.#tools.createAead);
      const trial = buffer.slice(at, at + CHUNK_HEAD_BYTES);
      if (!aead.open(new Uint8Array(aead.nonceBytes), trial, 0, trial.length)) {
        aead.close?.();
        continue;
      }
      if (salts !== undefined && !salts.add(buffer, start, at, seconds)) {
        aead.close?.();
        return undefined;
      }
      this.#key = key;
      this.user = name;
      return new ChunkOpener(aead, MAX_CHUNK_2017, this.starts, this.ends);
    }
    return undefined;
  }

  /** The address may be spread over several chunks. What is left of them are payloads. */
  #readRequest(buffer: Uint8Array): boolean {
    let kept = 0;
    for (let i = 0; i < this.count; i++) {
      const at = this.#address.take(buffer, this.starts[i]!, this.ends[i]!);
      if (at < 0) return false;
      if (at === this.ends[i]) continue;
      this.starts[kept] = at;
      this.ends[kept++] = this.ends[i]!;
    }
    this.count = kept;
    this.request = this.#address.endpoint;
    return true;
  }

  #drain(bytes: number): number {
    this.#isDraining = true;
    this.count = 0;
    return bytes;
  }
}

/** Sends bytes as they are, the address in front of the first. */
class PlainSealer implements StreamSealer {
  readonly tailroom = 0;
  readonly maxPayload = 0xffff;
  #address: Uint8Array;

  constructor(address: Uint8Array) {
    this.#address = address;
  }

  get headroom(): number {
    return this.#address.length;
  }

  seal(buffer: Uint8Array, start: number, end: number): number {
    const from = start - this.#address.length;
    checkRoom(buffer, from, end);
    buffer.set(this.#address, from);
    this.#address = NO_BYTES;
    return from;
  }

  close(): void {}
}

/** Receives bytes as they are. */
class PlainOpener implements StreamOpener {
  count = 0;
  readonly starts: Int32Array<ArrayBuffer> = new Int32Array(1);
  readonly ends: Int32Array<ArrayBuffer> = new Int32Array(1);
  readonly need = 1;
  readonly maxNeed = 1;
  readonly state = "data";
  readonly atBoundary = true;

  open(_buffer: Uint8Array, start: number, end: number): number {
    this.count = end > start ? 1 : 0;
    this.starts[0] = start;
    this.ends[0] = end;
    return end - start;
  }

  close(): void {}
}

/** Receives an address, then bytes as they are. */
class PlainServer implements ShadowsocksServerStream {
  count = 0;
  request: Endpoint | undefined;
  readonly user = undefined;
  readonly starts: Int32Array<ArrayBuffer> = new Int32Array(1);
  readonly ends: Int32Array<ArrayBuffer> = new Int32Array(1);
  readonly need = 1;
  readonly maxNeed = 1;
  state: "header" | "data" | "drain" = "header";
  readonly #address = new AddressReader();

  get atBoundary(): boolean {
    return this.state === "data";
  }

  open(buffer: Uint8Array, start: number, end: number): number {
    this.count = 0;
    let at = start;
    if (this.state === "header") {
      at = this.#address.take(buffer, start, end);
      if (at < 0) this.state = "drain";
      this.request = this.#address.endpoint;
      if (this.request !== undefined) this.state = "data";
    }
    if (this.state === "data" && at < end) {
      this.count = 1;
      this.starts[0] = at;
      this.ends[0] = end;
    }
    return end - start;
  }

  createSealer(): StreamSealer {
    if (this.request === undefined) throw new TypeError(NO_REQUEST);
    return new PlainSealer(NO_BYTES);
  }

  close(): void {}
}

/** Collects an address that may come in pieces. */
class AddressReader {
  endpoint: Endpoint | undefined;
  readonly #bytes = new Uint8Array(MAX_ADDRESS_BYTES);
  #held = 0;

  /** Answers where what is not the address begins, or −1 when it is none. */
  take(buffer: Uint8Array, start: number, end: number): number {
    let at = start;
    while (this.endpoint === undefined) {
      const length = measureAddress(this.#bytes, 0, this.#held);
      if (length < 0) return -1;
      if (this.#held === length) {
        const endpoint = decodeAddress(this.#bytes, 0, length);
        if (typeof endpoint === "number") return -1;
        this.endpoint = endpoint;
        break;
      }
      if (at === end) break;
      const piece = Math.min(length - this.#held, end - at);
      this.#bytes.set(buffer.subarray(at, at + piece), this.#held);
      this.#held += piece;
      at += piece;
    }
    return at;
  }
}

function aeadOf(
  profile: ShadowsocksProfile,
  key: Uint8Array,
  salt: Uint8Array,
  createAead: AeadFactory,
): Aead {
  // `none` never comes here: every other method has a cipher.
  return createAead(profile.method.aead!, deriveShadowsocksSubkey(key, salt));
}

const NO_REQUEST = "Cannot seal an answer: the request has not been read";
