/**
 * As much of io_uring as readiness needs: poll a descriptor once, and when it is ready write a byte to a pipe, without
 * this process doing anything in between.
 *
 * @module
 */
import {
  IORING_ENTER_GETEVENTS,
  IORING_FEAT_NODROP,
  IORING_FEAT_SINGLE_MMAP,
  IORING_OFF_SQ_RING,
  IORING_OFF_SQES,
  IORING_OP_POLL_ADD,
  IORING_OP_POLL_REMOVE,
  IORING_OP_WRITE,
  IORING_SETUP_CLAMP,
  IORING_SETUP_CQSIZE,
  IORING_SQ_CQ_OVERFLOW,
  IOSQE_IO_HARDLINK,
  MAP_POPULATE,
  MAP_SHARED,
  POLLOUT,
  PROT_READ,
  PROT_WRITE,
  SYS_io_uring_enter,
  SYS_io_uring_setup,
} from "./constants_linux.ts";
import { EAGAIN, EBUSY, EINTR, systemError } from "./errno.ts";
import { openPipe } from "./fd_linux.ts";
import type { Libc } from "./libc_linux.ts";
import { IO_URING_CQE, IO_URING_PARAMS, IO_URING_SQE } from "./structs_linux.ts";

/** An io_uring that was seen to do what the reactor needs, or one sentence saying why there is none. */
export function openRing(library: Libc): PollRing | string {
  if (!library.pointers) {
    return "io_uring needs mapped memory, which needs the ffi permission without a path";
  }
  let ring: PollRing;
  try {
    ring = new PollRing(library, RING_ENTRIES);
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
  // Probe by doing: the end of an empty pipe can be written at once, so the byte must be there when submit returns.
  const [readEnd, writeEnd] = openPipe(library);
  let works = false;
  try {
    ring.poll(writeEnd, POLLOUT, writeEnd, 0, 1);
    ring.submit();
    works = library.read(readEnd, new Uint8Array(8), 8n) === 1;
    ring.reap(() => {});
  } finally {
    library.close(readEnd);
    library.close(writeEnd);
    if (!works) ring.close();
  }
  return works ? ring : "this kernel's io_uring cannot chain a write behind a poll";
}

/** A submission and a completion ring, and the memory the kernel shares with them. */
export class PollRing {
  readonly #library: Libc;
  readonly #fd: number;
  // Views over mapped memory: they must not be touched after close() unmapped it.
  readonly #ring: Int32Array;
  readonly #ringView: DataView;
  readonly #entries: DataView;
  readonly #maps: readonly (readonly [address: bigint, length: bigint])[];
  readonly #sqHead: number;
  readonly #sqTail: number;
  readonly #sqFlags: number;
  readonly #sqMask: number;
  readonly #cqHead: number;
  readonly #cqTail: number;
  readonly #cqMask: number;
  readonly #cqes: number;
  // The kernel reads this byte whenever a chained write runs: held for as long as the ring.
  readonly #byte = new Uint8Array(new ArrayBuffer(8));
  readonly #byteAddress: bigint;
  #queued = 0;
  #closed = false;

  /**
   * @param library A C library with `pointers`: the rings are mapped memory.
   * @param entries Submissions that can be queued before {@linkcode submit}; a power of two.
   * @throws {SystemError} When the kernel has no io_uring, or does not let this process have one.
   */
  constructor(library: Libc, entries: number) {
    this.#library = library;
    this.#byteAddress = library.addressOf(this.#byte);
    const params = new DataView(new ArrayBuffer(IO_URING_PARAMS.size));
    const read = (offset: number): number => params.getUint32(offset, true);
    params.setUint32(IO_URING_PARAMS.flags, IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP, true);
    params.setUint32(IO_URING_PARAMS.cq_entries, entries * 8, true);
    this.#fd = Number(
      library.syscall(
        SYS_io_uring_setup,
        BigInt(entries),
        library.addressOf(params),
        0n,
        0n,
        0n,
        0n,
      ),
    );
    if (this.#fd < 0) throw systemError("io_uring_setup", library.errno(), "make an io_uring");
    const needed = IORING_FEAT_SINGLE_MMAP | IORING_FEAT_NODROP;
    if ((read(IO_URING_PARAMS.features) & needed) !== needed) {
      library.close(this.#fd);
      throw systemError("io_uring_setup", 95, "make an io_uring that loses nothing");
    }

    const sqEntries = read(IO_URING_PARAMS.sq_entries),
      cqEntries = read(IO_URING_PARAMS.cq_entries);
    const sqBytes = read(IO_URING_PARAMS.sq_off_array) + 4 * sqEntries;
    const cqBytes = read(IO_URING_PARAMS.cq_off_cqes) + IO_URING_CQE.size * cqEntries;
    const ringBytes = Math.max(sqBytes, cqBytes), entryBytes = IO_URING_SQE.size * sqEntries;
    const ring = this.#map(ringBytes, IORING_OFF_SQ_RING);
    const sqes = ring === undefined ? undefined : this.#map(entryBytes, IORING_OFF_SQES);
    if (ring === undefined || sqes === undefined) {
      const errno = library.errno();
      if (ring !== undefined) library.munmap(ring.address, BigInt(ringBytes));
      library.close(this.#fd);
      throw systemError("mmap", errno, "make an io_uring");
    }
    this.#maps = [[ring.address, BigInt(ringBytes)], [sqes.address, BigInt(entryBytes)]];
    this.#ring = new Int32Array(ring.memory, 0, ringBytes >>> 2);
    this.#ringView = new DataView(ring.memory);
    this.#entries = new DataView(sqes.memory);
    this.#sqHead = read(IO_URING_PARAMS.sq_off_head) >>> 2;
    this.#sqTail = read(IO_URING_PARAMS.sq_off_tail) >>> 2;
    this.#sqFlags = read(IO_URING_PARAMS.sq_off_flags) >>> 2;
    this.#cqHead = read(IO_URING_PARAMS.cq_off_head) >>> 2;
    this.#cqTail = read(IO_URING_PARAMS.cq_off_tail) >>> 2;
    this.#cqes = read(IO_URING_PARAMS.cq_off_cqes);
    this.#sqMask = sqEntries - 1;
    this.#cqMask = cqEntries - 1;
    // Entry i of the ring is always submission i: the indirection is not used.
    const array = read(IO_URING_PARAMS.sq_off_array) >>> 2;
    for (let i = 0; i < sqEntries; i++) this.#ring[array + i] = i;
  }

  /**
   * Queues: wait until `descriptor` is ready for `events`, then write one byte to `pipe`. Completes as `slot` and
   * `generation` (not 0).
   */
  poll(descriptor: number, events: number, pipe: number, slot: number, generation: number): void {
    this.#room(2);
    let at = this.#next(IORING_OP_POLL_ADD, descriptor);
    // A hard link: the byte is written also when the poll fails or is removed, so no completion goes unnoticed.
    this.#entries.setUint8(at + IO_URING_SQE.flags, IOSQE_IO_HARDLINK);
    this.#entries.setUint32(at + IO_URING_SQE.poll32_events, events, true);
    this.#entries.setUint32(at + IO_URING_SQE.user_data, slot, true);
    this.#entries.setUint32(at + IO_URING_SQE.user_data + 4, generation, true);
    at = this.#next(IORING_OP_WRITE, pipe);
    this.#entries.setBigUint64(at + IO_URING_SQE.addr, this.#byteAddress, true);
    this.#entries.setUint32(at + IO_URING_SQE.len, 1, true);
  }

  /** Queues: forget the poll with this `slot` and `generation`. */
  remove(slot: number, generation: number): void {
    this.#room(1);
    const at = this.#next(IORING_OP_POLL_REMOVE, -1);
    this.#entries.setUint32(at + IO_URING_SQE.addr, slot, true);
    this.#entries.setUint32(at + IO_URING_SQE.addr + 4, generation, true);
  }

  /** Hands everything that is queued to the kernel. @throws {SystemError} */
  submit(): void {
    while (this.#queued > 0) {
      const taken = this.#enter(this.#queued, 0);
      if (taken > 0) this.#queued -= taken;
      else if (taken < 0) {
        const errno = this.#library.errno();
        // EBUSY and EAGAIN: completions overflowed; asking for events moves them into the ring.
        if (errno === EBUSY || errno === EAGAIN) this.#enter(0, IORING_ENTER_GETEVENTS);
        else if (errno !== EINTR) throw systemError("io_uring_enter", errno, "arm a watch");
        else continue;
        // Nothing more can be done before somebody reaps; what is queued stays queued.
        return;
      } else return;
    }
  }

  /** Whether something is queued that the kernel has not taken. */
  get pending(): boolean {
    return this.#queued > 0;
  }

  /** Takes completions, calling `completed` for each finished poll. @returns How many were taken. */
  reap(completed: (slot: number, generation: number) => void): number {
    if (this.#closed) return 0;
    const ring = this.#ring;
    let count = 0;
    for (;;) {
      let head = Atomics.load(ring, this.#cqHead);
      const tail = Atomics.load(ring, this.#cqTail);
      if (head === tail) {
        if ((Atomics.load(ring, this.#sqFlags) & IORING_SQ_CQ_OVERFLOW) === 0) return count;
        this.#enter(0, IORING_ENTER_GETEVENTS);
        if (Atomics.load(ring, this.#cqTail) === tail) return count;
        continue;
      }
      while (head !== tail) {
        const at = this.#cqes + IO_URING_CQE.size * (head & this.#cqMask) + IO_URING_CQE.user_data;
        const slot = this.#ringView.getUint32(at, true);
        const generation = this.#ringView.getUint32(at + 4, true);
        head = (head + 1) | 0;
        Atomics.store(ring, this.#cqHead, head);
        count++;
        // Chained writes and removals carry no user data.
        if (generation !== 0) completed(slot, generation);
        if (this.#closed) return count;
      }
    }
  }

  /** Ends every poll and unmaps the rings. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const [address, length] of this.#maps) this.#library.munmap(address, length);
    this.#library.close(this.#fd);
  }

  #map(bytes: number, offset: number): { address: bigint; memory: ArrayBuffer } | undefined {
    const address = this.#library.mmap(
      0n,
      BigInt(bytes),
      PROT_READ | PROT_WRITE,
      MAP_SHARED | MAP_POPULATE,
      this.#fd,
      BigInt(offset),
    );
    if (address === MAP_FAILED) return undefined;
    const pointer = Deno.UnsafePointer.create(address);
    return { address, memory: Deno.UnsafePointerView.getArrayBuffer(pointer!, bytes) };
  }

  /** Makes sure that `count` submissions can be queued as one chain. */
  #room(count: number): void {
    if (this.#free() < count) this.submit();
    if (this.#free() < count) {
      throw systemError("io_uring_enter", EBUSY, "arm a watch");
    }
  }

  #free(): number {
    const ring = this.#ring;
    return this.#sqMask + 1 - ((ring[this.#sqTail]! - Atomics.load(ring, this.#sqHead)) | 0);
  }

  #next(operation: number, descriptor: number): number {
    const tail = this.#ring[this.#sqTail]!;
    const at = IO_URING_SQE.size * (tail & this.#sqMask);
    for (let i = 0; i < IO_URING_SQE.size; i += 8) this.#entries.setBigUint64(at + i, 0n, true);
    this.#entries.setUint8(at + IO_URING_SQE.opcode, operation);
    this.#entries.setInt32(at + IO_URING_SQE.fd, descriptor, true);
    // The kernel looks only inside io_uring_enter, so the rest may be filled in after the tail moved.
    Atomics.store(this.#ring, this.#sqTail, (tail + 1) | 0);
    this.#queued++;
    return at;
  }

  #enter(submit: number, flags: number): number {
    return Number(
      this.#library.syscall(
        SYS_io_uring_enter,
        BigInt(this.#fd),
        BigInt(submit),
        0n,
        BigInt(flags),
        0n,
        0n,
      ),
    );
  }
}

const MAP_FAILED = 0xffffffffffffffffn;
/** Submissions that callbacks can queue before one call takes them all; completions have eight times the room. */
const RING_ENTRIES = 256;
