/**
 * A kernel to test against, and to show things with where there is no real one: links, a neighbor table with hash
 * buckets, an event socket that overflows and a query socket that dumps in parts, all as datagrams in memory.
 *
 * Its dumps miss what the real one misses: a dump goes on at the n-th entry of a bucket, so that when an earlier one of
 * the bucket vanishes between two parts, the next is skipped without a word.
 *
 * @module
 */

import {
  AF_BRIDGE,
  AF_INET,
  EBUSY,
  ENODEV,
  ENOENT,
  IFINFOMSG_BYTES,
  IFLA_IFNAME,
  IFLA_MASTER,
  NDA_DST,
  NDA_LLADDR,
  NDMSG_BYTES,
  NLM_F_DUMP,
  NLM_F_DUMP_INTR,
  NLM_F_MULTI,
  NLMSG_DONE,
  NLMSG_ERROR,
  NLMSG_HDRLEN,
  NUD_FAILED,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_GETLINK,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
} from "../constants.ts";
import { NeighborView, readNeighbor } from "../neighbor.ts";
import { readFlags, readMessageEnd, readSequence, readType } from "../netlink.ts";

/** A link of the virtual kernel. */
export interface VirtualLink {
  /** Interface index. */
  readonly ifindex: number;
  /** Its name now. */
  name: string;
  /** Index of its master, or 0. */
  master: number;
}

/** A neighbor of the virtual kernel. */
export interface VirtualNeighbor {
  /** Interface index. */
  readonly ifindex: number;
  /** `AF_INET` or `AF_INET6`. */
  readonly family: number;
  /** Four 32-bit words, most significant first. */
  readonly words: readonly number[];
  /** 48-bit number, or -1 for none. */
  mac: number;
  /** `NUD_…`. */
  state: number;
  /** `NTF_…`. */
  flags: number;
}

/** A datagram and its memory. */
export interface VirtualDatagram {
  /** All of it. */
  readonly view: DataView<ArrayBuffer>;
  /** Bytes. */
  readonly length: number;
}

/** How the virtual kernel behaves. */
export interface VirtualKernelOptions {
  /** Events the socket holds before it drops. Default 1,000. */
  readonly eventCapacity?: number;
  /** Buckets of the neighbor table. Default 8. */
  readonly buckets?: number;
  /** Rows in one part of a dump. Default 16. */
  readonly rowsPerPart?: number;
}

interface Dump {
  readonly sequence: number;
  readonly type: number;
  bucket: number;
  index: number;
  readonly changes: number;
}

/** Links and neighbors, with an event socket and a query socket. */
export class VirtualKernel {
  /** Links by index. */
  readonly links: Map<number, VirtualLink> = new Map();
  /** What waits on the event socket. */
  readonly events: VirtualDatagram[] = [];
  /** Events that were dropped. */
  dropped = 0;
  /** Events the socket holds before it drops. */
  eventCapacity: number;

  readonly #buckets: VirtualNeighbor[][];
  readonly #rowsPerPart: number;
  /** Answers that wait on the query socket. */
  readonly #answers: VirtualDatagram[] = [];
  #dump: Dump | undefined = undefined;
  #linkChanges = 0;
  readonly #scratch = new NeighborView();

  /** Makes a kernel without links. */
  constructor(options: VirtualKernelOptions = {}) {
    this.eventCapacity = options.eventCapacity ?? 1_000;
    this.#buckets = Array.from({ length: options.buckets ?? 8 }, () => []);
    this.#rowsPerPart = options.rowsPerPart ?? 16;
  }

  /** All neighbors. */
  neighbors(): VirtualNeighbor[] {
    return this.#buckets.flat();
  }

  /** Adds a link or changes it. */
  setLink(ifindex: number, name: string, master = 0): void {
    const link = this.links.get(ifindex);
    if (link === undefined) this.links.set(ifindex, { ifindex, name, master });
    else {
      link.name = name;
      link.master = master;
    }
    this.#linkChanges++;
    this.#emit(encodeLink(RTM_NEWLINK, 0, 0, 0, this.links.get(ifindex)!));
  }

  /** Takes a link away, with its neighbors first, as the real one does. */
  removeLink(ifindex: number): void {
    const link = this.links.get(ifindex);
    if (link === undefined) return;
    for (const neighbor of this.neighbors()) {
      if (neighbor.ifindex === ifindex) this.#unlink(neighbor);
    }
    this.links.delete(ifindex);
    this.#linkChanges++;
    this.#emit(encodeLink(RTM_DELLINK, 0, 0, 0, link));
  }

  /** A port leaves its bridge: told as a DELLINK, of the family `AF_BRIDGE`. */
  leaveBridge(ifindex: number): void {
    const link = this.links.get(ifindex);
    if (link !== undefined) this.#emit(encodeLink(RTM_DELLINK, 0, 0, AF_BRIDGE, link));
  }

  /** Adds a neighbor or changes it; without effect on a link that is not there. */
  setNeighbor(neighbor: VirtualNeighbor): void {
    if (!this.links.has(neighbor.ifindex)) return;
    const bucket = this.#bucketOf(neighbor);
    const known = bucket.find((other) => isSame(other, neighbor));
    if (known === undefined) bucket.unshift({ ...neighbor });
    else {
      known.mac = neighbor.mac;
      known.state = neighbor.state;
      known.flags = neighbor.flags;
    }
    this.#emit(encodeNeighbor(RTM_NEWNEIGH, 0, 0, neighbor));
  }

  /** Deletes a neighbor as a user does: it fails first, then goes. */
  removeNeighbor(neighbor: VirtualNeighbor): void {
    const known = this.#bucketOf(neighbor).find((other) => isSame(other, neighbor));
    if (known === undefined) return;
    known.state = NUD_FAILED;
    known.mac = -1;
    this.#emit(encodeNeighbor(RTM_NEWNEIGH, 0, 0, known));
    this.#unlink(known);
  }

  /** Forgets a neighbor as garbage collection does: it goes without failing first. */
  collectNeighbor(neighbor: VirtualNeighbor): void {
    const known = this.#bucketOf(neighbor).find((other) => isSame(other, neighbor));
    if (known !== undefined) this.#unlink(known);
  }

  /** Takes requests from the query socket. */
  query(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    for (let at = start; at < end;) {
      const messageEnd = readMessageEnd(view, at, end);
      if (messageEnd < 0) return;
      this.#request(view, at, messageEnd);
      at += (messageEnd - at + 3) & ~3;
    }
  }

  /** The next datagram of the query socket, if there is one: a dump goes on only as it is read. */
  answer(): VirtualDatagram | undefined {
    return this.#answers.shift() ?? this.#continueDump();
  }

  /** The query socket has something to read. */
  get answering(): boolean {
    return this.#answers.length > 0 || this.#dump !== undefined;
  }

  #request(view: DataView<ArrayBuffer>, start: number, end: number): void {
    const type = readType(view, start), sequence = readSequence(view, start);
    if ((readFlags(view, start) & NLM_F_DUMP) === NLM_F_DUMP) {
      if (this.#dump !== undefined) this.#answers.push(encodeError(view, start, EBUSY));
      else this.#dump = { sequence, type, bucket: 0, index: 0, changes: this.#linkChanges };
    } else if (type === RTM_GETLINK) {
      const link = this.links.get(view.getInt32(start + 20, true));
      this.#answers.push(
        link === undefined
          ? encodeError(view, start, ENODEV)
          : encodeLink(RTM_NEWLINK, 0, sequence, 0, link),
      );
    } else {
      const scratch = this.#scratch;
      if (readNeighbor(view, start, end, scratch) < 0) return;
      const { ifindex, family, word0, word1, word2, word3 } = scratch;
      const wanted = { ifindex, family, words: [word0, word1, word2, word3] };
      const known = this.#bucketOf(wanted).find((other) => isSame(other, wanted));
      const missing = this.links.has(ifindex) ? ENOENT : ENODEV;
      this.#answers.push(
        known === undefined
          ? encodeError(view, start, missing)
          : encodeNeighbor(RTM_NEWNEIGH, 0, sequence, known),
      );
    }
  }

  #continueDump(): VirtualDatagram | undefined {
    const dump = this.#dump;
    if (dump === undefined) return undefined;
    const parts: VirtualDatagram[] = [];
    if (dump.type === RTM_GETLINK) {
      const links = [...this.links.values()];
      const interrupted = dump.changes === this.#linkChanges ? 0 : NLM_F_DUMP_INTR;
      while (dump.index < links.length && parts.length < this.#rowsPerPart) {
        const link = links[dump.index++]!;
        parts.push(encodeLink(RTM_NEWLINK, NLM_F_MULTI | interrupted, dump.sequence, 0, link));
      }
      if (parts.length === 0) {
        this.#dump = undefined;
        return encodeDone(dump.sequence, interrupted);
      }
      return joined(parts);
    }
    while (dump.bucket < this.#buckets.length && parts.length < this.#rowsPerPart) {
      const bucket = this.#buckets[dump.bucket]!;
      if (dump.index >= bucket.length) {
        dump.bucket++;
        dump.index = 0;
      } else {
        const neighbor = bucket[dump.index++]!;
        parts.push(encodeNeighbor(RTM_NEWNEIGH, NLM_F_MULTI, dump.sequence, neighbor));
      }
    }
    if (parts.length > 0) return joined(parts);
    this.#dump = undefined;
    return encodeDone(dump.sequence, 0);
  }

  #bucketOf(neighbor: Pick<VirtualNeighbor, "ifindex" | "words">): VirtualNeighbor[] {
    const [a, b, c, d] = neighbor.words;
    const hash = Math.imul((a! ^ b! ^ c! ^ d!) + neighbor.ifindex, 0x9e3779b1) >>> 8;
    return this.#buckets[hash % this.#buckets.length]!;
  }

  #unlink(neighbor: VirtualNeighbor): void {
    const bucket = this.#bucketOf(neighbor);
    bucket.splice(bucket.indexOf(neighbor), 1);
    this.#emit(encodeNeighbor(RTM_DELNEIGH, 0, 0, neighbor));
  }

  #emit(datagram: VirtualDatagram): void {
    if (this.events.length < this.eventCapacity) this.events.push(datagram);
    else this.dropped++;
  }
}

type Key = Pick<VirtualNeighbor, "ifindex" | "family" | "words">;

function isSame(a: Key, b: Key): boolean {
  return a.ifindex === b.ifindex && a.family === b.family &&
    a.words.every((word, index) => word === b.words[index]);
}

function message(
  length: number,
  type: number,
  flags: number,
  sequence: number,
): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer((length + 3) & ~3));
  view.setUint32(0, length, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  return view;
}

function encodeNeighbor(
  type: number,
  flags: number,
  sequence: number,
  neighbor: VirtualNeighbor,
): VirtualDatagram {
  const addressBytes = neighbor.family === AF_INET ? 4 : 16;
  const length = NLMSG_HDRLEN + NDMSG_BYTES + 4 + addressBytes + (neighbor.mac < 0 ? 0 : 12);
  const view = message(length, type, flags, sequence);
  view.setUint8(16, neighbor.family);
  view.setInt32(20, neighbor.ifindex, true);
  view.setUint16(24, neighbor.state, true);
  view.setUint8(26, neighbor.flags);
  view.setUint8(27, 1);
  view.setUint16(28, 4 + addressBytes, true);
  view.setUint16(30, NDA_DST, true);
  for (let i = 0; 4 * i < addressBytes; i++) view.setUint32(32 + 4 * i, neighbor.words[i]!, false);
  if (neighbor.mac >= 0) {
    const at = 32 + addressBytes;
    view.setUint16(at, 10, true);
    view.setUint16(at + 2, NDA_LLADDR, true);
    view.setUint16(at + 4, Math.floor(neighbor.mac / 0x1_0000_0000), false);
    view.setUint32(at + 6, neighbor.mac % 0x1_0000_0000, false);
  }
  return { view, length: view.byteLength };
}

function encodeLink(
  type: number,
  flags: number,
  sequence: number,
  family: number,
  link: VirtualLink,
): VirtualDatagram {
  const nameBytes = (4 + link.name.length + 1 + 3) & ~3;
  const length = NLMSG_HDRLEN + IFINFOMSG_BYTES + nameBytes + 8;
  const view = message(length, type, flags, sequence);
  view.setUint8(16, family);
  view.setUint16(18, 1, true);
  view.setInt32(20, link.ifindex, true);
  view.setUint16(32, 4 + link.name.length + 1, true);
  view.setUint16(34, IFLA_IFNAME, true);
  for (let i = 0; i < link.name.length; i++) view.setUint8(36 + i, link.name.charCodeAt(i));
  const at = 32 + nameBytes;
  view.setUint16(at, 8, true);
  view.setUint16(at + 2, IFLA_MASTER, true);
  view.setUint32(at + 4, link.master, true);
  return { view, length };
}

function encodeError(request: DataView, start: number, errorNumber: number): VirtualDatagram {
  const view = message(36, NLMSG_ERROR, 0x100, readSequence(request, start));
  view.setInt32(16, -errorNumber, true);
  for (let i = 0; i < 16; i++) view.setUint8(20 + i, request.getUint8(start + i));
  return { view, length: 36 };
}

function encodeDone(sequence: number, flags: number): VirtualDatagram {
  return { view: message(20, NLMSG_DONE, NLM_F_MULTI | flags, sequence), length: 20 };
}

function joined(parts: readonly VirtualDatagram[]): VirtualDatagram {
  const length = parts.reduce((sum, part) => sum + part.view.byteLength, 0);
  const bytes = new Uint8Array(length);
  let at = 0;
  for (const { view } of parts) {
    bytes.set(new Uint8Array(view.buffer), at);
    at += view.byteLength;
  }
  return { view: new DataView(bytes.buffer), length };
}
