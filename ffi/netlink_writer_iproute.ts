/**
 * Rows of the `ip` program as netlink messages, as the kernel would have sent them: neighbours with their attributes,
 * links with those that matter for names, answers and refusals.
 *
 * @module
 */
import { AF_INET, type LinkRow, type NeighborRow } from "./netlink_text_iproute.ts";

/** What a message answers. */
export interface Answer {
  /** Sequence number of the request; 0 for an event. */
  readonly sequence: number;
  /** Port id of who asked; 0 for an event. */
  readonly port: number;
  /** `NLM_F_*`. */
  readonly flags: number;
}

/** The header of an event: nobody asked. */
export const EVENT: Answer = { sequence: 0, port: 0, flags: 0 };

/** Fills one datagram with messages, and hands it over when it is full. */
export class MessageWriter {
  readonly #view = new DataView(new ArrayBuffer(DATAGRAM_BYTES));
  readonly #bytes = new Uint8Array(this.#view.buffer);
  readonly #deliver: (view: DataView<ArrayBuffer>, start: number, end: number) => void;
  #start = 0;
  #at = 0;

  constructor(deliver: (view: DataView<ArrayBuffer>, start: number, end: number) => void) {
    this.#deliver = deliver;
  }

  /** Hands over what is there. */
  flush(): void {
    const end = this.#at;
    this.#at = 0;
    if (end > 0) this.#deliver(this.#view, 0, end);
  }

  /** @param index Of the interface. */
  neighbor(row: NeighborRow, index: number, answer: Answer): void {
    this.#begin(row.deleted ? RTM_DELNEIGH : RTM_NEWNEIGH, answer);
    const body = this.#reserve(12);
    this.#view.setUint8(body, row.family);
    this.#view.setInt32(body + 4, index, true);
    this.#view.setUint16(body + 8, row.state, true);
    this.#view.setUint8(body + 10, row.flags);
    this.#view.setUint8(body + 11, isMulticast(row) ? RTN_MULTICAST : RTN_UNICAST);
    if (row.address.length > 0) this.#attribute(NDA_DST, row.address);
    if (row.lladdr !== undefined) this.#attribute(NDA_LLADDR, row.lladdr);
    if (row.probes !== undefined) this.#words(NDA_PROBES, row.probes);
    if (row.cache !== undefined) {
      const [confirmed, used, updated, references] = row.cache;
      // The program divides ticks of 10 ms into seconds.
      this.#words(NDA_CACHEINFO, confirmed * 100, used * 100, updated * 100, references);
    }
    if (row.flagsExt !== 0) this.#words(NDA_FLAGS_EXT, row.flagsExt);
    this.#end();
  }

  /** @param master Index of what it belongs to, or 0. @param lower Index of what it is on top of, or 0. */
  link(row: LinkRow, master: number, lower: number, answer: Answer): void {
    this.#begin(row.deleted ? RTM_DELLINK : RTM_NEWLINK, answer);
    const body = this.#reserve(16);
    this.#view.setUint8(body, row.family);
    this.#view.setUint16(body + 2, row.type, true);
    this.#view.setInt32(body + 4, row.index, true);
    this.#view.setUint32(body + 8, row.flags, true);
    this.#attribute(IFLA_IFNAME, [...TEXT.encode(row.name), 0]);
    if (row.address !== undefined) this.#attribute(IFLA_ADDRESS, row.address);
    if (row.mtu !== undefined) this.#words(IFLA_MTU, row.mtu);
    if (lower !== 0) this.#words(IFLA_LINK, lower);
    if (master !== 0) this.#words(IFLA_MASTER, master);
    this.#attribute(IFLA_OPERSTATE, [row.operstate]);
    if (row.linkKind !== undefined) {
      const kind = [...TEXT.encode(row.linkKind), 0];
      this.#attribute(IFLA_LINKINFO, [4 + kind.length, 0, IFLA_INFO_KIND, 0, ...kind]);
    }
    this.#end();
  }

  /** The end of a dump. */
  done(answer: Answer): void {
    this.#begin(NLMSG_DONE, answer);
    this.#reserve(4);
    this.#end();
  }

  /**
   * A refusal.
   *
   * @param errno The positive error number.
   * @param sentence Why, as the kernel would put it into an extended acknowledgement.
   * @param request Where the header of the refused request is.
   */
  refusal(
    errno: number,
    sentence: string,
    request: DataView<ArrayBuffer>,
    at: number,
    answer: Answer,
  ): void {
    this.#begin(NLMSG_ERROR, { ...answer, flags: NLM_F_CAPPED | NLM_F_ACK_TLVS });
    const body = this.#reserve(20);
    this.#view.setInt32(body, -errno, true);
    this.#bytes.set(new Uint8Array(request.buffer, request.byteOffset + at, 16), body + 4);
    this.#attribute(NLMSGERR_ATTR_MSG, [...TEXT.encode(sentence.slice(0, 200)), 0]);
    this.#end();
  }

  #begin(type: number, answer: Answer): void {
    if (this.#at + LONGEST_MESSAGE > DATAGRAM_BYTES) this.flush();
    this.#start = this.#at;
    const at = this.#reserve(16);
    this.#view.setUint16(at + 4, type, true);
    this.#view.setUint16(at + 6, answer.flags, true);
    this.#view.setUint32(at + 8, answer.sequence, true);
    this.#view.setUint32(at + 12, answer.port, true);
  }

  #end(): void {
    this.#view.setUint32(this.#start, this.#at - this.#start, true);
  }

  #attribute(type: number, bytes: readonly number[]): void {
    const at = this.#reserve((4 + bytes.length + 3) & ~3);
    this.#view.setUint16(at, 4 + bytes.length, true);
    this.#view.setUint16(at + 2, type, true);
    this.#bytes.set(bytes, at + 4);
  }

  #words(type: number, ...words: readonly number[]): void {
    const at = this.#reserve(4 + 4 * words.length);
    this.#view.setUint16(at, 4 + 4 * words.length, true);
    this.#view.setUint16(at + 2, type, true);
    words.forEach((word, i) => this.#view.setUint32(at + 4 + 4 * i, word, true));
  }

  /** Zeroed room. */
  #reserve(bytes: number): number {
    const at = this.#at;
    this.#bytes.fill(0, at, at + bytes);
    this.#at += bytes;
    return at;
  }
}

function isMulticast({ family, address }: NeighborRow): boolean {
  const [first = 0] = address;
  return family === AF_INET ? first >>> 4 === 0xe : first === 0xff;
}

const TEXT = new TextEncoder();
/** As large as the largest part of a kernel's dump. */
const DATAGRAM_BYTES = 32 * 1024;
/** Names and kinds have at most 16 bytes, hardware addresses 32, sentences 200. */
const LONGEST_MESSAGE = 1024;

// <linux/netlink.h>, <linux/rtnetlink.h>, <linux/neighbour.h>, <linux/if_link.h>
const NLMSG_ERROR = 2;
const NLMSG_DONE = 3;
const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTN_UNICAST = 1;
const RTN_MULTICAST = 5;
const NLM_F_CAPPED = 0x100;
const NLM_F_ACK_TLVS = 0x200;
const NLMSGERR_ATTR_MSG = 1;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NDA_CACHEINFO = 3;
const NDA_PROBES = 4;
const NDA_FLAGS_EXT = 15;
const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_OPERSTATE = 16;
const IFLA_LINKINFO = 18;
const IFLA_INFO_KIND = 1;
