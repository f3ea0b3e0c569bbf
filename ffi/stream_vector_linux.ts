/**
 * One system call's worth of bytes: the message header every stream of a host receives and sends through.
 *
 * `recvmsg` and `sendmsg` take two addresses and no lengths, so that a call needs no BigInt: the range is written into
 * an `iovec` that lives as long as the host (ffi.md §1).
 *
 * @module
 */
import { MFD_CLOEXEC, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC } from "./constants_linux.ts";
import { EAGAIN, EINTR, systemError } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import { type ConstantBuffer, MOST_PIECES, type StreamPieces } from "./stream.ts";
import { repeatConstant } from "./stream_pending.ts";
import { IOVEC, MSGHDR } from "./structs_linux.ts";

/** Answer of a call that found nothing to do; errors are their negative number. */
export const NOTHING: number = -EAGAIN;

/** The message header of one thread. Every call is over when it returns, so one serves every connection. */
export class StreamVector {
  readonly #library: Libc;
  readonly #recvmsg: Libc["recvmsg"];
  readonly #sendmsg: Libc["sendmsg"];
  // The kernel reads this memory by its address: an explicit buffer, held here as long as the address is.
  readonly #buffer = new ArrayBuffer(MSGHDR.size + MOST_PIECES * IOVEC.size);
  readonly #view = new DataView(this.#buffer);
  readonly #header: bigint;
  readonly #addresses = new WeakMap<ArrayBuffer, number>();
  #lastBuffer: ArrayBuffer | undefined;
  #lastAddress = 0;
  #parts = 0;

  /** @param library The C library of this thread. */
  constructor(library: Libc) {
    this.#library = library;
    this.#recvmsg = library.recvmsg;
    this.#sendmsg = library.sendmsg;
    this.#header = library.addressOf(this.#buffer);
    writeAddress(this.#view, MSGHDR.iov, Number(this.#header) + MSGHDR.size);
    this.#view.setBigUint64(MSGHDR.iovlen, 1n, true);
    this.#parts = 1;
  }

  /** Receives into a range. @returns Bytes; 0 at the peer's end; the negative error number. */
  receive(fd: number, bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    this.#describe(0, this.#addressOf(bytes) + start, end - start);
    this.#use(1);
    return this.#call(this.#recvmsg, fd, MSG_DONTWAIT);
  }

  /** Receives into nothing: TCP frees the bytes without looking at the address. @returns As {@linkcode receive}. */
  discard(fd: number, count: number): number {
    this.#describe(0, 0, Math.min(count, MOST_DISCARDED));
    this.#use(1);
    return this.#call(this.#recvmsg, fd, MSG_DONTWAIT | MSG_TRUNC);
  }

  /** Sends a range. @returns Bytes taken; the negative error number. */
  send(fd: number, bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    this.#describe(0, this.#addressOf(bytes) + start, end - start);
    this.#use(1);
    return this.#call(this.#sendmsg, fd, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  /** Sends two ranges, the second behind the first; either may be empty. @returns As {@linkcode send}. */
  sendParts(
    fd: number,
    first: Uint8Array<ArrayBuffer>,
    firstStart: number,
    firstEnd: number,
    second: Uint8Array<ArrayBuffer>,
    secondStart: number,
    secondEnd: number,
  ): number {
    this.#describe(0, this.#addressOf(first) + firstStart, firstEnd - firstStart);
    this.#describe(1, this.#addressOf(second) + secondStart, secondEnd - secondStart);
    this.#use(2);
    return this.#call(this.#sendmsg, fd, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  /** Receives into pieces. @returns As {@linkcode receive}. */
  receivePieces(fd: number, pieces: StreamPieces): number {
    this.#describePieces(pieces);
    return this.#call(this.#recvmsg, fd, MSG_DONTWAIT);
  }

  /** Sends pieces. @returns As {@linkcode send}. */
  sendPieces(fd: number, pieces: StreamPieces): number {
    this.#describePieces(pieces);
    return this.#call(this.#sendmsg, fd, MSG_DONTWAIT | MSG_NOSIGNAL);
  }

  /** Sends the repetition of a constant. @returns As {@linkcode send}. */
  sendConstant(fd: number, constant: LinuxConstant, position: number, count: number): number {
    if (constant.file >= 0) return constant.sendFile(fd, position, count);
    return this.#call(
      this.#sendmsg,
      fd,
      MSG_DONTWAIT | MSG_NOSIGNAL,
      constant.describe(position, count),
    );
  }

  #call(
    call: Libc["recvmsg"] | Libc["sendmsg"],
    fd: number,
    flags: number,
    header: bigint = this.#header,
  ): number {
    for (;;) {
      const moved = call(fd, header, flags);
      if (moved >= 0) return moved;
      const errno = this.#library.errno();
      if (errno !== EINTR) return -errno;
    }
  }

  #use(parts: number): void {
    if (parts === this.#parts) return;
    this.#parts = parts;
    this.#view.setUint32(MSGHDR.iovlen, parts, true);
  }

  #describePieces({ bytes, starts, ends, first, count }: StreamPieces): void {
    const address = this.#addressOf(bytes);
    for (let i = first; i < count; i++) {
      this.#describe(i - first, address + starts[i]!, ends[i]! - starts[i]!);
    }
    this.#use(count - first);
  }

  #describe(part: number, address: number, length: number): void {
    const at = MSGHDR.size + part * IOVEC.size;
    writeAddress(this.#view, at + IOVEC.base, address);
    this.#view.setUint32(at + IOVEC.len, length, true);
  }

  /** The address of an `ArrayBuffer` does not change while it lives, so it is asked for once. */
  #addressOf(bytes: Uint8Array<ArrayBuffer>): number {
    const buffer = bytes.buffer;
    if (buffer !== this.#lastBuffer) {
      let address = this.#addresses.get(buffer);
      if (address === undefined) {
        address = Number(this.#library.addressOf(buffer));
        this.#addresses.set(buffer, address);
      }
      this.#lastBuffer = buffer;
      this.#lastAddress = address;
    }
    return this.#lastAddress + bytes.byteOffset;
  }
}

/**
 * A constant of this driver: in memory, with a message header that repeats it as often as one call takes, or in a file
 * that exists in memory only.
 */
export class LinuxConstant implements ConstantBuffer {
  readonly length: number;
  /** The file to send from; −1 for memory. */
  file = -1;
  readonly #library: Libc;
  // Held as long as their addresses are: what is sent, the message header with its rows, the offset in the file.
  readonly #bytes: Uint8Array<ArrayBuffer>;
  readonly #view: DataView<ArrayBuffer>;
  readonly #header: bigint = 0n;
  readonly #address: number = 0;
  readonly #offset = new BigInt64Array(new ArrayBuffer(8));
  /** The row that does not reach the constant's end; −1 for none. */
  #shortened = -1;

  /** @throws {RangeError} When there are no bytes. @throws {SystemError} When the file cannot be made. */
  constructor(library: Libc, bytes: Uint8Array, sendfile: boolean) {
    this.#library = library;
    this.length = bytes.length;
    this.#bytes = sendfile ? repeatConstant(bytes, FILE_BYTES) : repeatConstant(bytes);
    const rows = sendfile ? 0 : Math.ceil(CALL_BYTES / this.#bytes.length) + 1;
    this.#view = new DataView(new ArrayBuffer(MSGHDR.size + rows * IOVEC.size));
    if (sendfile) {
      this.file = this.#makeFile();
      return;
    }
    this.#header = library.addressOf(this.#view.buffer);
    this.#address = Number(library.addressOf(this.#bytes));
    writeAddress(this.#view, MSGHDR.iov, Number(this.#header) + MSGHDR.size);
    for (let row = 0; row < rows; row++) {
      const at = MSGHDR.size + row * IOVEC.size;
      writeAddress(this.#view, at + IOVEC.base, this.#address);
      this.#view.setUint32(at + IOVEC.len, this.#bytes.length, true);
    }
  }

  /** Whether it was closed. */
  closed = false;

  /** Writes the rows for `count` bytes from `position`, as many as one call takes. @returns The header's address. */
  describe(position: number, count: number): bigint {
    const view = this.#view;
    const size = this.#bytes.length;
    const from = position % size;
    const first = MSGHDR.size;
    if (this.#shortened >= 0) view.setUint32(this.#shortened, size, true);
    this.#shortened = -1;
    writeAddress(view, first + IOVEC.base, this.#address + from);
    const head = Math.min(size - from, count);
    view.setUint32(first + IOVEC.len, head, true);
    const left = Math.min(count, CALL_BYTES) - head;
    let rows = 1;
    if (left > 0) {
      rows += Math.ceil(left / size);
      const last = left - (rows - 2) * size;
      if (last < size) {
        this.#shortened = first + (rows - 1) * IOVEC.size + IOVEC.len;
        view.setUint32(this.#shortened, last, true);
      }
    }
    view.setUint32(MSGHDR.iovlen, rows, true);
    return this.#header;
  }

  /** Sends out of the file, up to its end. @returns Bytes taken; the negative error number. */
  sendFile(fd: number, position: number, count: number): number {
    const library = this.#library;
    const size = this.#bytes.length;
    const from = position % size;
    const most = Math.min(size - from, count);
    for (;;) {
      this.#offset[0] = BigInt(from);
      // There is no flag against SIGPIPE here: both runtimes ignore the signal.
      const moved = library.sendfile(fd, this.file, this.#offset, BigInt(most));
      if (moved >= 0) return moved;
      const errno = library.errno();
      if (errno !== EINTR) return -errno;
    }
  }

  close(): void {
    if (this.file >= 0) this.#library.close(this.file);
    this.file = -1;
    this.closed = true;
  }

  #makeFile(): number {
    const library = this.#library;
    const what = "keep a constant in the page cache";
    const file = library.memfd_create!(CONSTANT_NAME, MFD_CLOEXEC);
    if (file < 0) throw systemError("memfd_create", library.errno(), what);
    const size = this.#bytes.length;
    const address = library.addressOf(this.#bytes);
    for (let at = 0; at < size;) {
      const written = library.writeAt(file, address + BigInt(at), BigInt(size - at));
      if (written <= 0) {
        const errno = library.errno();
        library.close(file);
        throw systemError("write", errno, what);
      }
      at += written;
    }
    return file;
  }
}

/** Addresses stay below 2^47: exact as a number, and two halves need no BigInt. */
function writeAddress(view: DataView, at: number, address: number): void {
  view.setUint32(at, address >>> 0, true);
  view.setUint32(at + 4, address / 0x1_0000_0000, true);
}

/** Most bytes one send of a constant offers the kernel; a socket's buffer seldom has room for more. */
const CALL_BYTES = 1 << 20;
/** Size of the file a constant is repeated to: larger pieces, fewer calls. */
const FILE_BYTES = 4 << 20;
/** Most bytes one discard asks for: the length of a row is written as 32 bits, and the answer is one of 31. */
const MOST_DISCARDED = 1 << 30;
const CONSTANT_NAME: Uint8Array<ArrayBuffer> = new Uint8Array([0x66, 0x77, 0]); // "fw"
