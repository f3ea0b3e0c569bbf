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

/** The names of one block of addresses. When all are taken, the one given first is given again. */
export class FakeipBlock {
  readonly #block: IpBlock;
  readonly #count: number;
  readonly #nameAt: string[] = [];
  readonly #placeOf = new Map<string, number>();
  readonly #words = new Uint32Array(4);
  #next = 0;

  /**
   * @param block Its network address and the one behind it, usually a router's, are not given away; of what is left, at
   * most 65,536 are.
   * @throws {RangeError} When nothing is left.
   */
  constructor(block: IpBlock) {
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
      place = this.#next;
      this.#next = (place + 1) % this.#count;
      const former = this.#nameAt[place];
      if (former !== undefined) this.#placeOf.delete(former);
      this.#nameAt[place] = name;
      this.#placeOf.set(name, place);
    }
    return this.#addressAt(place);
  }

  /** The name of an address; `undefined` when it is not of this block, or belongs to no name. */
  nameOf(address: string): string | undefined {
    const words = this.#words;
    const { family, words: network } = this.#block;
    if (readIp(address, words) !== family) return undefined;
    const last = network.length - 1;
    for (let word = 0; word < last; word++) if (words[word] !== network[word]) return undefined;
    const place = words[last]! - network[last]! - RESERVED;
    return place >= 0 && place < this.#count ? this.#nameAt[place] : undefined;
  }

  /** Gives a name the address it had before. @returns Whether that is possible. */
  restore(name: string, address: string): boolean {
    const words = this.#words;
    const { family, words: network } = this.#block;
    if (readIp(address, words) !== family) return false;
    const last = network.length - 1;
    for (let word = 0; word < last; word++) if (words[word] !== network[word]) return false;
    const place = words[last]! - network[last]! - RESERVED;
    if (!(place >= 0 && place < this.#count) || this.#nameAt[place] !== undefined) return false;
    if (this.#placeOf.has(name)) return false;
    this.#nameAt[place] = name;
    this.#placeOf.set(name, place);
    this.#next = Math.max(this.#next, (place + 1) % this.#count);
    return true;
  }

  /** Names and their addresses. */
  entries(): readonly (readonly [name: string, address: string])[] {
    return [...this.#placeOf].map(([name, place]) => [name, this.#addressAt(place)]);
  }

  /** Forgets all names. */
  clear(): void {
    this.#nameAt.length = 0;
    this.#placeOf.clear();
    this.#next = 0;
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
      blocks.set(type, new FakeipBlock(block));
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

  /** Names and their addresses, for the next start. */
  entries(): readonly (readonly [name: string, address: string])[] {
    return [...this.#blocks.values()].flatMap((block) => block.entries());
  }

  /** Takes in what {@linkcode FakeipDnsServer.entries} gave; what does not fit any more is left out. */
  restore(entries: readonly (readonly [name: string, address: string])[]): void {
    for (const [name, address] of entries) {
      for (const block of this.#blocks.values()) if (block.restore(name, address)) break;
    }
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
