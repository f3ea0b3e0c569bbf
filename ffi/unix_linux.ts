/**
 * Datagrams to a socket in the file system or in the abstract namespace (unix(7)).
 *
 * @module
 */
import {
  AF_UNIX,
  CLOCK_MONOTONIC,
  MSG_DONTWAIT,
  MSG_NOSIGNAL,
  SOCK_CLOEXEC,
  SOCK_DGRAM,
  SOCK_NONBLOCK,
} from "./constants_linux.ts";
import { systemError } from "./errno.ts";
import { requireLibc } from "./libc_linux.ts";
import { SOCKADDR_UN, TIMESPEC } from "./structs_linux.ts";

/** A socket that sends to one address and never waits. */
export class UnixDatagramSender {
  readonly #library = requireLibc();
  readonly #name: string;
  readonly #address: Uint8Array<ArrayBuffer>;
  #fd: number;

  /**
   * Opens it. Whether somebody listens shows when something is sent: who listens may change.
   *
   * @param name A path, or `@` and an abstract name.
   * @throws {RangeError} For a name that is empty or longer than 107 bytes.
   * @throws {SystemError} When the process has no descriptors left.
   * @throws {CapabilityError} Without a C library.
   */
  constructor(name: string) {
    const bytes = new TextEncoder().encode(name);
    if (bytes.length < 2 || bytes.length > SOCKADDR_UN.size - SOCKADDR_UN.path - 1) {
      throw new RangeError(`Cannot use a socket name of ${bytes.length} bytes: expected 2 to 107`);
    }
    const abstract = name.startsWith("@");
    // A path ends in a NUL; an abstract name begins with one, and every byte up to the given length belongs to it.
    this.#address = new Uint8Array(
      new ArrayBuffer(SOCKADDR_UN.path + bytes.length + (abstract ? 0 : 1)),
    );
    new DataView(this.#address.buffer).setUint16(SOCKADDR_UN.family, AF_UNIX, true);
    this.#address.set(bytes, SOCKADDR_UN.path);
    if (abstract) this.#address[SOCKADDR_UN.path] = 0;
    this.#name = name;
    this.#fd = this.#library.socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (this.#fd < 0) throw systemError("socket", this.#library.errno(), `reach "${name}"`);
  }

  /**
   * Sends one datagram.
   *
   * @throws {SystemError} When nobody listens, or who listens has no room left.
   * @throws {TypeError} When it is closed.
   */
  send(bytes: Uint8Array<ArrayBuffer>): void {
    if (this.#fd < 0) throw new TypeError("Cannot send: the socket is closed");
    const { sendto, errno } = this.#library;
    const flags = MSG_DONTWAIT | MSG_NOSIGNAL;
    const length = BigInt(bytes.length);
    if (sendto(this.#fd, bytes, length, flags, this.#address, this.#address.length) < 0) {
      throw systemError("sendto", errno(), `send to "${this.#name}"`);
    }
  }

  /** Idempotent. */
  close(): void {
    if (this.#fd < 0) return;
    this.#library.close(this.#fd);
    this.#fd = -1;
  }
}

/** Microseconds of the clock that every process of this machine sees alike (clock_gettime(2), CLOCK_MONOTONIC). */
export function monotonicMicroseconds(): bigint {
  const time = new DataView(new ArrayBuffer(TIMESPEC.size));
  requireLibc().clock_gettime(CLOCK_MONOTONIC, time);
  return time.getBigInt64(TIMESPEC.sec, true) * 1_000_000n +
    time.getBigInt64(TIMESPEC.nsec, true) / 1000n;
}
