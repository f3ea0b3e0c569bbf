/**
 * Invented addresses: each name gets one of its own, which leads back to the name when somebody connects to it.
 *
 * @module
 */

import { addressData, CLASS_IN, type DnsAsk, RCODE, TYPE_A, TYPE_AAAA } from "./dns_message.ts";
import { type DnsReply, makeReply } from "./dns_reply.ts";
import type { DnsServer } from "./dns_server.ts";
import { type IpBlock, readIp, readIpBlock } from "./ip_text.ts";
import { formatIpv4, formatIpv6 } from "./protocol/ip_text.ts";
import { writeU32 } from "./protocol/octets.ts";

/** Where the names of blocks outlive the process. Blocks go by their text. */
export interface FakeipStore {
  /** What was assigned. */
  names(block: string): readonly (readonly [place: number, name: string])[];
  /** How many addresses may have been given so far. */
  given(block: string): number;
  /** Keeps an assignment, soon. */
  assign(block: string, place: number, name: string): void;
  /**
   * Keeps that this many may be given, and forgets who had their places before. Both are there after whatever ends the
   * process.
   */
  reserve(block: string, given: number, places: readonly number[]): void;
  /** Forgets what was assigned. */
  clear(block: string): void;
}

/** The names of one block of addresses. When all are taken, the one given first is given again. */
export class FakeipBlock {
  readonly #text: string;
  readonly #block: IpBlock;
  readonly #count: number;
  readonly #nameAt: string[] = [];
  readonly #placeOf = new Map<string, number>();
  readonly #words = new Uint32Array(4);
  /** Addresses given so far; the next one follows from it. */
  #given = 0;
  #store: FakeipStore | undefined;
  #reserved = 0;

  /**
   * @param text The block as it is written. @param block The same, read. Its network address and the one behind it, usually a router's, are not given away; of what is left, at
   * most 65,536 are.
   * @throws {RangeError} When nothing is left.
   */
  constructor(text: string, block: IpBlock) {
    this.#text = text;
    this.#block = block;
    const hostBits = (block.family === 4 ? 32 : 128) - block.prefixBits;
    const all = hostBits > 17 ? MAX_NAMES : 2 ** hostBits - RESERVED - (block.family === 4 ? 1 : 0);
    this.#count = Math.min(all, MAX_NAMES);
    if (this.#count < 1) {
      throw new RangeError(
        `Cannot invent addresses in a block of ${2 ** hostBits}: expected 4 addresses or more`,
      );
    }
  }

  /** Names that have an address. */
  get size(): number {
    return this.#placeOf.size;
  }

  /** The address of a name, given now if it has none. */
  addressOf(name: string): string {
    let place = this.#placeOf.get(name);
    if (place === undefined) {
      if (this.#store !== undefined && this.#given >= this.#reserved) {
        // An address that a client may still hold must not lead to another name after a crash.
        const count = Math.min(RESERVED_AHEAD, this.#count >> 4) + 1;
        const places = Array.from({ length: count }, (_, at) => (this.#given + at) % this.#count);
        this.#reserved = this.#given + count;
        this.#store.reserve(this.#text, this.#reserved, places);
      }
      place = this.#given++ % this.#count;
      this.#assign(place, name);
      this.#store?.assign(this.#text, place, name);
    }
    return this.#addressAt(place);
  }

  /** The name of an address; `undefined` when it is not of this block, or belongs to no name. */
  nameOf(address: string): string | undefined {
    const place = this.#placeAt(address);
    return place === undefined ? undefined : this.#nameAt[place];
  }

  /** Takes over what another block has given, as far as those addresses are in this one. */
  takeOver(previous: FakeipBlock): void {
    for (const [name, address] of previous.entries()) {
      const place = this.#placeAt(address);
      if (place === undefined) continue;
      this.#assign(place, name);
      this.#given = Math.max(this.#given, place + 1);
    }
    if (previous.#text !== this.#text) return;
    this.#given = previous.#given;
    this.#reserved = previous.#reserved;
  }

  /** Keeps what is given from now on, and takes up what is kept if nothing was given yet. */
  keepIn(store: FakeipStore): void {
    this.#store = store;
    if (this.#given > 0) {
      this.#reserved = 0;
      for (const [name, place] of this.#placeOf) store.assign(this.#text, place, name);
      return;
    }
    for (const [place, name] of store.names(this.#text)) {
      if (place >= 0 && place < this.#count && !this.#placeOf.has(name)) this.#assign(place, name);
    }
    this.#given = this.#reserved = store.given(this.#text);
  }

  /** Names and their addresses. */
  entries(): readonly (readonly [name: string, address: string])[] {
    return [...this.#placeOf].map(([name, place]) => [name, this.#addressAt(place)]);
  }

  /** Forgets all names. Addresses go on where they were: clients may hold the last ones still. */
  clear(): void {
    this.#nameAt.length = 0;
    this.#placeOf.clear();
    this.#store?.clear(this.#text);
  }

  #placeAt(address: string): number | undefined {
    const words = this.#words;
    const { family, words: network } = this.#block;
    if (readIp(address, words) !== family) return undefined;
    const last = network.length - 1;
    for (let word = 0; word < last; word++) if (words[word] !== network[word]) return undefined;
    const place = words[last]! - network[last]! - RESERVED;
    return place >= 0 && place < this.#count ? place : undefined;
  }

  #assign(place: number, name: string): void {
    const former = this.#nameAt[place];
    if (former !== undefined) this.#placeOf.delete(former);
    this.#nameAt[place] = name;
    this.#placeOf.set(name, place);
  }

  #addressAt(place: number): string {
    const { family, words } = this.#block;
    const bytes = new Uint8Array(4 * words.length);
    words.forEach((word, index) => writeU32(bytes, 4 * index, word));
    const last = words.length - 1;
    writeU32(bytes, 4 * last, words[last]! + RESERVED + place);
    return family === 4 ? formatIpv4(bytes, 0) : formatIpv6(bytes, 0);
  }
}

/** Answers with invented addresses. */
export class FakeipDnsServer implements DnsServer {
  readonly type = "fakeip";
  readonly tag: string;
  readonly #blocks: ReadonlyMap<number, FakeipBlock>;

  /**
   * @param inet4Range Block for A records; `undefined` gives none.
   * @param inet6Range Block for AAAA records; `undefined` gives none.
   * @throws {RangeError} When a block is too small. @throws {SyntaxError} When one is none.
   */
  constructor(tag: string, inet4Range: string | undefined, inet6Range: string | undefined) {
    this.tag = tag;
    const blocks = new Map<number, FakeipBlock>();
    for (const [type, text] of [[TYPE_A, inet4Range], [TYPE_AAAA, inet6Range]] as const) {
      if (text === undefined) continue;
      const block = readIpBlock(text);
      if (block === undefined) {
        throw new SyntaxError(`Cannot invent addresses in "${text}": expected a block`);
      }
      blocks.set(type, new FakeipBlock(text, block));
    }
    this.#blocks = blocks;
  }

  /** Names that have an invented address. */
  get size(): number {
    return [...this.#blocks.values()].reduce((sum, { size }) => sum + size, 0);
  }

  /** Answers; see {@linkcode DnsServer.exchange}. Never keeps anybody waiting. */
  exchange(ask: DnsAsk): Promise<DnsReply> {
    const address = ask.class === CLASS_IN
      ? this.#blocks.get(ask.type)?.addressOf(ask.name)
      : undefined;
    return Promise.resolve(addressReply(ask, address === undefined ? [] : [address], TTL_SECONDS));
  }

  /** The name an invented address leads back to. */
  nameOf(address: string): string | undefined {
    for (const block of this.#blocks.values()) {
      const name = block.nameOf(address);
      if (name !== undefined) return name;
    }
    return undefined;
  }

  /** Takes over what the server that had this place before has given, as far as the blocks are the same. */
  takeOver(previous: FakeipDnsServer): void {
    for (const [type, block] of this.#blocks) {
      const before = previous.#blocks.get(type);
      if (before !== undefined) block.takeOver(before);
    }
  }

  /** Lets assignments outlive the process. */
  keepIn(store: FakeipStore): void {
    for (const block of this.#blocks.values()) block.keepIn(store);
  }

  /** Forgets all names. */
  clear(): void {
    for (const block of this.#blocks.values()) block.clear();
  }

  /** Nothing to let go of. */
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** A reply with addresses, made in place: it is not worth keeping. */
export function addressReply(
  ask: DnsAsk,
  addresses: readonly string[],
  ttl: number,
  rcode: number = RCODE.noError,
): DnsReply {
  const family = ask.type === TYPE_A ? 4 : ask.type === TYPE_AAAA ? 16 : 0;
  const answer = addresses
    .map((address) => ({ type: ask.type, ttl, data: addressData(address) }))
    .filter(({ data }) => data.length === family);
  return { ...makeReply(ask, rcode, { answer }), ttlSeconds: 0 };
}

const RESERVED = 2;
const MAX_NAMES = 65_536;
const TTL_SECONDS = 600;
/** Addresses that are reserved with one write; as many may be passed over after a restart. */
const RESERVED_AHEAD = 256;
