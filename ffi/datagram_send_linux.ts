/**
 * Sending a batch in as few system calls as there can be: runs by segmentation offload, everything of one call together
 * through `sendmmsg`.
 *
 * @module
 */
import { ADDRESS_BYTES, addressLength } from "./address.ts";
import { MSG_DONTWAIT, MSG_NOSIGNAL, POLLOUT } from "./constants_linux.ts";
import { SEND_CONTROL_BYTES, writeSegmentControl, writeSourceControl } from "./control_linux.ts";
import type { LinuxDatagramBatch } from "./datagram_batch_linux.ts";
import { EAGAIN, EINTR, EINVAL, EIO, EMSGSIZE, ENOBUFS, EPERM } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import { IOVEC, MMSGHDR, POLLFD } from "./structs_linux.ts";

/** What one socket remembers about sending. */
export class SendState {
  /** The longest segment that is worth handing over in a run; 0 when segmentation offload is not used. */
  segmentLimit: number;
  /** Choose the source address from `locals`. */
  readonly packetInfo: boolean;
  /** Takes what lies in the error queue, so that it does not stand in the way of the next call. */
  readonly drain: () => void;
  calls = 0;
  sent = 0;
  drops = 0;
  refused = 0;
  /** The limit before a refusal that may have been the destination's fault; −1 when there is no doubt. */
  doubt = -1;

  constructor(segment: boolean, packetInfo: boolean, drain: () => void) {
    this.segmentLimit = segment ? MAX_PAYLOAD : 0;
    this.packetInfo = packetInfo;
    this.drain = drain;
  }
}

/** The `mmsghdr` array of all sockets of a thread: a send is over when the call is, so one is enough. */
export class SendVector {
  readonly #library: Libc;
  // The kernel reads through pointers into this during a call: an explicit buffer, held for as long as the pointers are.
  readonly #memory: ArrayBuffer = new ArrayBuffer(CONTROLS + MESSAGES * SEND_CONTROL_BYTES);
  readonly #view = new DataView(this.#memory);
  readonly #poll = new DataView(new ArrayBuffer(POLLFD.size));
  /** Address of each header. */
  readonly #addresses: bigint[] = [];
  /** Where each message came from: its entry, its offset in a run, its datagrams. */
  readonly #entries = new Int32Array(MESSAGES);
  readonly #offsets = new Int32Array(MESSAGES);
  readonly #datagrams = new Int32Array(MESSAGES);
  #filled = 0;
  #entry = 0;
  #offset = 0;
  #waits = 0;

  constructor(library: Libc) {
    this.#library = library;
    const base = library.addressOf(this.#view);
    for (let i = 0; i < MESSAGES; i++) {
      const header = i * MMSGHDR.size;
      this.#addresses.push(base + BigInt(header));
      const iovec = base + BigInt(IOVECS + i * IOVEC.size);
      this.#view.setBigUint64(header + MMSGHDR.iov, iovec, true);
      this.#view.setUint32(header + MMSGHDR.iovlen, 1, true);
      const control = base + BigInt(CONTROLS + i * SEND_CONTROL_BYTES);
      this.#view.setBigUint64(header + MMSGHDR.control, control, true);
    }
  }

  /** Sends entries `first` to `batch.count`. What cannot be sent is dropped and counted. */
  send(fd: number, batch: LinuxDatagramBatch, first: number, state: SendState): void {
    this.#entry = first;
    this.#offset = 0;
    this.#waits = 0;
    while (this.#entry < batch.count) {
      this.#fill(batch, state);
      this.#flush(fd, batch, state);
    }
  }

  /** Describes as many messages as fit, from where the last fill ended. */
  #fill(batch: LinuxDatagramBatch, state: SendState): void {
    const { starts, lengths, segments, count } = batch;
    let entry = this.#entry, offset = this.#offset, message = 0;
    while (message < MESSAGES && entry < count) {
      const left = lengths[entry]! - offset;
      const segment = segments[entry]!;
      let bytes = left, datagrams = 1;
      if (segment > 0 && left > segment) {
        bytes = segment;
        if (segment <= state.segmentLimit) {
          datagrams = Math.min(MAX_SEGMENTS, Math.floor(MAX_PAYLOAD / segment));
          bytes = Math.min(left, datagrams * segment);
          datagrams = Math.ceil(bytes / segment);
        }
      }
      this.#entries[message] = entry;
      this.#offsets[message] = offset;
      this.#datagrams[message] = datagrams;
      this.#describe(message, batch, entry, starts[entry]! + offset, bytes);
      let control = 0;
      const area = CONTROLS + message * SEND_CONTROL_BYTES;
      if (datagrams > 1) control = writeSegmentControl(this.#view, area, segment);
      if (state.packetInfo) {
        control += writeSourceControl(
          this.#view,
          area + control,
          batch.locals,
          entry * ADDRESS_BYTES,
        );
      }
      this.#view.setUint32(message * MMSGHDR.size + MMSGHDR.controllen, control, true);
      message++;
      if (bytes < left) offset += bytes;
      else {
        entry++;
        offset = 0;
      }
    }
    this.#filled = message;
    this.#entry = entry;
    this.#offset = offset;
  }

  #describe(
    message: number,
    batch: LinuxDatagramBatch,
    entry: number,
    start: number,
    bytes: number,
  ): void {
    const view = this.#view;
    const header = message * MMSGHDR.size;
    const name = batch.peersAddress + entry * ADDRESS_BYTES;
    // 64-bit addresses as two halves: no BigInt per message. `>>> 0` takes the lower 32 bits of any exact number.
    view.setUint32(header + MMSGHDR.name, name >>> 0, true);
    view.setUint32(header + MMSGHDR.name + 4, Math.floor(name / 0x1_0000_0000), true);
    view.setUint32(
      header + MMSGHDR.namelen,
      addressLength(batch.peers, entry * ADDRESS_BYTES),
      true,
    );
    const iovec = IOVECS + message * IOVEC.size;
    const base = batch.slabAddress + start;
    view.setUint32(iovec + IOVEC.base, base >>> 0, true);
    view.setUint32(iovec + IOVEC.base + 4, Math.floor(base / 0x1_0000_0000), true);
    view.setUint32(iovec + IOVEC.len, bytes, true);
  }

  /** Hands the described messages over. Returns early, with the position moved back, when a run has to be cut anew. */
  #flush(fd: number, batch: LinuxDatagramBatch, state: SendState): void {
    const { sendmsg, sendmmsg } = this.#library;
    const filled = this.#filled;
    let done = 0, retried = false;
    while (done < filled) {
      const left = filled - done;
      const address = this.#addresses[done]!;
      const result = left === 1 ? sendmsg(fd, address, FLAGS) : sendmmsg(fd, address, left, FLAGS);
      // Read before anything else can change it.
      const errno = result < 0 ? this.#library.errno() : 0;
      state.calls++;
      if (result >= 0) {
        // One message answers its bytes, an array the messages that went.
        const end = done + (left === 1 ? 1 : result);
        for (; done < end; done++) {
          state.sent += this.#datagrams[done]!;
        }
        retried = false;
        if (state.doubt >= 0) {
          // The same bytes went as plain datagrams: it was the offload.
          state.doubt = -1;
          state.refused++;
        }
        continue;
      }
      if (errno === EINTR) continue;
      if ((errno === EAGAIN || errno === ENOBUFS) && this.#waits < MAX_WAITS) {
        this.#waits++;
        this.#wait(fd, errno);
        continue;
      }
      if (this.#datagrams[done]! > 1 && isRefusal(errno)) {
        const entry = this.#entries[done]!;
        if (state.doubt < 0) state.doubt = state.segmentLimit;
        state.segmentLimit = errno === EIO ? 0 : batch.segments[entry]! - 1;
        this.#entry = entry;
        this.#offset = this.#offsets[done]!;
        return;
      }
      if (state.doubt >= 0 && isRefusal(errno)) {
        // A plain datagram fares no better: the destination was wrong, and one bad address must not slow the others.
        state.segmentLimit = state.doubt;
        state.doubt = -1;
      }
      if (
        errno !== EAGAIN && errno !== ENOBUFS && errno !== EPERM && errno !== EINVAL && !retried
      ) {
        // Perhaps the fate of an earlier datagram, which the kernel tells at the next call, whatever it is: this one did
        // not leave. Emptying the error queue clears it.
        retried = true;
        state.drain();
        continue;
      }
      state.drops += this.#datagrams[done]!;
      done++;
      retried = false;
    }
  }

  /** Gives a full buffer or queue a moment. */
  #wait(fd: number, errno: number): void {
    const poll = this.#poll;
    poll.setInt32(POLLFD.fd, fd, true);
    // A device queue that is full does not show in the socket's readiness: then it is only the time that helps.
    poll.setInt16(POLLFD.events, errno === EAGAIN ? POLLOUT : 0, true);
    this.#library.poll(poll, 1n, errno === EAGAIN ? 2 : 1);
  }
}

function isRefusal(errno: number): boolean {
  return errno === EINVAL || errno === EMSGSIZE || errno === EIO;
}

/** Messages in one `sendmmsg`; the kernel takes up to 1,024. */
const MESSAGES = 256;
const IOVECS: number = MESSAGES * MMSGHDR.size;
const CONTROLS: number = IOVECS + MESSAGES * IOVEC.size;
/** Segments of one message: UDP_MAX_SEGMENTS of `<linux/udp.h>` before Linux 6.9, which doubled it. */
const MAX_SEGMENTS = 64;
/** Payload of the largest IPv4 datagram; IPv6 has room for 20 bytes more, which no run needs. */
const MAX_PAYLOAD = 65_507;
/** How often one send may wait, 2 ms at most each time: longer, and other sockets of the thread would notice. */
const MAX_WAITS = 4;
const FLAGS: number = MSG_DONTWAIT | MSG_NOSIGNAL;
