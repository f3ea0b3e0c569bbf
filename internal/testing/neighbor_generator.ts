/**
 * Changes the kernel's neighbour table as fast as it can be changed: many messages in one buffer, written once, of which
 * only the differing bytes are touched again.
 *
 * @module
 */
import {
  type NetlinkConsumer,
  type NetlinkHost,
  type NetlinkSocket,
  openNetlinkHost,
} from "../../ffi/mod.ts";

/** How to open a generator. */
export interface GeneratorOptions {
  /** Index of the interface the neighbours are on; it has to be up. */
  readonly interfaceIndex: number;
  /** File of the network namespace; default that of the process. */
  readonly namespace?: string;
  /** Default 4. */
  readonly family?: 4 | 6;
  /** `NUD_*` of what is added. Default PERMANENT, of which there may be any number: the kernel never collects them. */
  readonly state?: number;
}

/**
 * Adds, changes and deletes neighbours with consecutive addresses: 10.0.0.0 + index, or 2001:db8:: + index.
 *
 * Needs CAP_NET_ADMIN. Every call blocks until the kernel has carried it out, about 2 µs a neighbour; adding and changing
 * make one event each, deleting makes two.
 */
export class NeighborGenerator implements AsyncDisposable {
  /** Requests sent. */
  sent = 0;
  readonly #host: NetlinkHost;
  readonly #socket: NetlinkSocket;
  readonly #refusals: { count: number; errno: number };
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #state: number;
  readonly #messageBytes: number;
  readonly #addressBytes: number;
  readonly #perSend: number;

  private constructor(
    host: NetlinkHost,
    socket: NetlinkSocket,
    refusals: { count: number; errno: number },
    options: GeneratorOptions,
  ) {
    this.#host = host;
    this.#socket = socket;
    this.#refusals = refusals;
    this.#state = options.state ?? NUD_PERMANENT;
    const ipv6 = options.family === 6;
    this.#addressBytes = ipv6 ? 16 : 4;
    this.#messageBytes = 16 + 12 + 4 + this.#addressBytes + 12;
    this.#perSend = Math.floor(SEND_BYTES / this.#messageBytes);
    this.#bytes = new Uint8Array(new ArrayBuffer(this.#perSend * this.#messageBytes));
    this.#view = new DataView(this.#bytes.buffer);
    for (let i = 0; i < this.#perSend; i++) this.#prepare(i * this.#messageBytes, ipv6, options);
  }

  /** Opens one. @throws {CapabilityError} Without the kernel's driver. @throws {SystemError} */
  static async open(options: GeneratorOptions): Promise<NeighborGenerator> {
    const host = await openNetlinkHost({ driver: "fast" });
    try {
      const refusals = { count: 0, errno: 0 };
      const consumer: NetlinkConsumer = {
        datagram(view, start, end) {
          for (let at = start; at + 16 <= end; at += (view.getUint32(at, true) + 3) & ~3) {
            if (view.getUint16(at + 4, true) !== NLMSG_ERROR) continue;
            refusals.count++;
            refusals.errno = -view.getInt32(at + 16, true);
          }
        },
        lost: () => {},
      };
      const { namespace } = options;
      const socket = await host.open({
        consumer,
        ...(namespace === undefined ? {} : { namespace }),
      });
      return new NeighborGenerator(host, socket, refusals, options);
    } catch (error) {
      await host.close();
      throw error;
    }
  }

  /** Requests the kernel refused so far, and why the last one was. */
  refusals(): { readonly count: number; readonly errno: number } {
    this.#socket.drain();
    return { ...this.#refusals };
  }

  /**
   * Adds neighbours, or changes those that exist.
   *
   * @param first Index of the first.
   * @param count How many.
   * @param salt Byte of the link-layer address, 02:salt:index: another salt makes a change of what exists.
   */
  put(first: number, count: number, salt = 0): void {
    this.#send(first, count, RTM_NEWNEIGH, REQUEST | REPLACE | CREATE, this.#state, salt);
  }

  /** Deletes neighbours. */
  remove(first: number, count: number): void {
    this.#send(first, count, RTM_DELNEIGH, REQUEST, 0, 0);
  }

  /** Changes one neighbour after the other, `changes` times in all, going round the `count` from `first`. */
  flip(first: number, count: number, changes: number): void {
    for (let done = 0, salt = 1; done < changes; done += count, salt = salt % 255 + 1) {
      this.put(first, Math.min(count, changes - done), salt);
    }
  }

  /** Idempotent. */
  async close(): Promise<void> {
    await this.#host.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #prepare(at: number, ipv6: boolean, { interfaceIndex }: GeneratorOptions): void {
    const view = this.#view;
    view.setUint32(at, this.#messageBytes, true);
    view.setUint8(at + 16, ipv6 ? AF_INET6 : AF_INET);
    view.setUint32(at + 20, interfaceIndex, true);
    const destination = at + 28;
    view.setUint16(destination, 4 + this.#addressBytes, true);
    view.setUint16(destination + 2, NDA_DST, true);
    if (ipv6) view.setUint32(destination + 4, 0x20010db8);
    const link = destination + 4 + this.#addressBytes;
    view.setUint16(link, 10, true);
    view.setUint16(link + 2, NDA_LLADDR, true);
    view.setUint8(link + 4, 2);
  }

  #send(
    first: number,
    count: number,
    type: number,
    flags: number,
    state: number,
    salt: number,
  ): void {
    const view = this.#view, step = this.#messageBytes;
    const low = 28 + this.#addressBytes, link = 28 + 4 + this.#addressBytes + 4;
    const base = this.#addressBytes === 4 ? 0x0a000000 : 0;
    for (let done = 0; done < count;) {
      const part = Math.min(this.#perSend, count - done);
      for (let i = 0, at = 0; i < part; i++, at += step) {
        const index = first + done + i;
        view.setUint16(at + 4, type, true);
        view.setUint16(at + 6, flags, true);
        view.setUint16(at + 24, state, true);
        view.setUint32(at + low, base + index);
        view.setUint8(at + link + 1, salt);
        view.setUint32(at + link + 2, index);
      }
      this.#socket.send(this.#bytes.subarray(0, part * step));
      this.sent += part;
      done += part;
    }
  }
}

// <linux/netlink.h>, <linux/rtnetlink.h>, <linux/neighbour.h>
const NLMSG_ERROR = 2;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const REQUEST = 0x1;
const REPLACE = 0x100;
const CREATE = 0x400;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;
const AF_INET = 2;
const AF_INET6 = 10;
/** Below what a socket may send in one piece by default (212,992 bytes). */
const SEND_BYTES = 64 * 1024;
