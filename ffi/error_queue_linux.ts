/**
 * The error queue of datagram sockets (`IP_RECVERR`, `IPV6_RECVERR`; ip(7)): what the network said about datagrams that
 * were sent earlier.
 *
 * @module
 */
import { ADDRESS_BYTES, readAddress } from "./address.ts";
import {
  IP_RECVERR,
  IPPROTO_IP,
  IPPROTO_IPV6,
  IPV6_RECVERR,
  MSG_DONTWAIT,
  MSG_ERRQUEUE,
} from "./constants_linux.ts";
import type { DatagramError } from "./datagram.ts";
import { errnoName } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import { CMSGHDR, controlSpace, IOVEC, MSGHDR, SOCK_EXTENDED_ERR } from "./structs_linux.ts";

/** Reads error queues, one message at a time; one for all sockets of a thread. */
export class ErrorQueueReader {
  readonly #library: Libc;
  // The kernel writes through pointers into this: an explicit buffer, held for as long as the pointers are.
  readonly #memory: ArrayBuffer = new ArrayBuffer(CONTROL + CONTROL_BYTES);
  readonly #view = new DataView(this.#memory);
  readonly #address: bigint;

  constructor(library: Libc) {
    this.#library = library;
    const address = library.addressOf(this.#view);
    this.#address = address;
    this.#view.setBigUint64(MSGHDR.name, address + BigInt(NAME), true);
    // No room for the bytes of the datagram that failed: nobody asks for them.
    this.#view.setBigUint64(MSGHDR.iov, address + BigInt(VECTOR), true);
    this.#view.setUint32(MSGHDR.iovlen, 1, true);
    this.#view.setBigUint64(VECTOR + IOVEC.base, address + BigInt(NAME), true);
    this.#view.setBigUint64(MSGHDR.control, address + BigInt(CONTROL), true);
  }

  /**
   * Takes what is there, at most {@linkcode MAX_DRAINED}: a flood of errors must not hold up the thread. What is left
   * makes itself noticed again.
   */
  drain(fd: number, report: (error: DatagramError) => void): void {
    const view = this.#view;
    for (let i = 0; i < MAX_DRAINED; i++) {
      view.setUint32(MSGHDR.namelen, ADDRESS_BYTES, true);
      view.setUint32(MSGHDR.controllen, CONTROL_BYTES, true);
      if (this.#library.recvmsg(fd, this.#address, MSG_ERRQUEUE | MSG_DONTWAIT) < 0) return;
      const named = view.getUint32(MSGHDR.namelen, true) > 0;
      const end = CONTROL + Math.min(CONTROL_BYTES, view.getUint32(MSGHDR.controllen, true));
      for (let at = CONTROL; at + CMSGHDR.size + SOCK_EXTENDED_ERR.size <= end;) {
        const length = view.getUint32(at + CMSGHDR.len, true);
        if (length < CMSGHDR.size) break;
        const level = view.getInt32(at + CMSGHDR.level, true);
        const type = view.getInt32(at + CMSGHDR.type, true);
        if (
          level === IPPROTO_IP && type === IP_RECVERR ||
          level === IPPROTO_IPV6 && type === IPV6_RECVERR
        ) {
          const name = errnoName(
            view.getUint32(at + CMSGHDR.size + SOCK_EXTENDED_ERR.errno, true),
          );
          report(Object.freeze({
            kind: KINDS.get(name) ?? "other",
            errnoName: name,
            peer: named ? readAddress(view, NAME) : undefined,
          }));
        }
        at += controlSpace(length - CMSGHDR.size);
      }
    }
  }
}

const KINDS: ReadonlyMap<string, DatagramError["kind"]> = new Map([
  ["ECONNREFUSED", "refused"],
  ["EHOSTUNREACH", "unreachable"],
  ["ENETUNREACH", "unreachable"],
  ["EHOSTDOWN", "unreachable"],
  ["ENONET", "unreachable"],
  ["EMSGSIZE", "too-big"],
]);

/** Errors taken in one go. */
export const MAX_DRAINED = 64;
/** For the extended error, the offender's address, and what other options may add. */
const CONTROL_BYTES = 256;
const NAME = 64;
const VECTOR: number = NAME + ADDRESS_BYTES;
const CONTROL = 128;
