/**
 * Relays of the kernel's driver: on the loop of the host's own thread, or on threads made for them.
 *
 * @module
 */
import { EFD_CLOEXEC, EFD_NONBLOCK } from "./constants_linux.ts";
import { systemError } from "./errno.ts";
import type { Libc } from "./libc_linux.ts";
import { requireLibc } from "./libc_linux.ts";
import type { Watch } from "./reactor.ts";
import type { Relay, RelayHost, RelayOptions, RelayTraits } from "./relay.ts";
import { type LinuxPair, RelayLoop } from "./relay_loop_linux.ts";
import { ABORTED, checkConnections, ENDS, RelayHandle, relayLimits } from "./relay_pending.ts";
import {
  ABORT,
  makeTable,
  RelayTable,
  type RelayThreadData,
  type RestMessage,
  START,
} from "./relay_table_linux.ts";
import { STREAM_FAILED, type StreamConnection, type StreamHost, WOULD_BLOCK } from "./stream.ts";
import { LinuxStreamConnection } from "./stream_connection_linux.ts";
import { LinuxStreamHost } from "./stream_linux.ts";
import { startThread, type Thread } from "./worker.ts";

/**
 * Opens a place for the relays of a host of this driver.
 *
 * @throws {SystemError} When the process has no descriptors left. @throws {Error} When a thread cannot be started.
 */
export async function openLinuxRelays(host: StreamHost, threads: number): Promise<RelayHost> {
  if (!(host instanceof LinuxStreamHost)) throw new TypeError("Cannot relay: not a kernel host");
  if (host.loop !== undefined) return new LoopRelayHost(new RelayLoop(requireLibc(), host.loop));
  const members: Member[] = [];
  try {
    for (let i = 0; i < threads; i++) members.push(await Member.start(host));
  } catch (error) {
    for (const member of members) await member.close();
    throw error;
  }
  return new ThreadRelayHost(members);
}

/** Relays in the loop that carries everything else of its thread. */
class LoopRelayHost implements RelayHost {
  readonly traits: RelayTraits = Object.freeze({ driver: "linux", splice: true, threads: 0 });
  readonly fallbackReason = "";
  readonly #relays: RelayLoop;
  readonly #counters = new Counters();
  #closed = false;

  constructor(relays: RelayLoop) {
    this.#relays = relays;
  }

  get active(): number {
    return this.#relays.active;
  }

  start(first: StreamConnection, second: StreamConnection, options: RelayOptions = {}): Relay {
    if (this.#closed) throw new TypeError(CLOSED);
    const limits = relayLimits(options);
    const [one, two] = detachBoth(first, second);
    const place = this.#counters.take();
    const { counts, at } = place;
    let pair: LinuxPair | undefined;
    const handle = new RelayHandle(counts, at, () => pair?.abort(), options);
    const { library } = this.#relays;
    try {
      pair = this.#relays.start({
        first: one,
        second: two,
        forwardPrefix: options.forwardPrefix,
        backwardPrefix: options.backwardPrefix,
        limits,
        counts,
        at,
        done: ({ forwardEnd, backwardEnd }) => {
          handle.ended(ENDS[forwardEnd]!, ENDS[backwardEnd]!);
          this.#counters.give(place);
        },
      });
    } catch (error) {
      this.#counters.give(place);
      library.close(one);
      library.close(two);
      throw error;
    }
    return handle;
  }

  close(): Promise<void> {
    this.#closed = true;
    this.#relays.close();
    return Promise.resolve();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Where the two counts of a relay are. */
interface CounterPlace {
  readonly counts: Float64Array;
  readonly at: number;
}

/** Places for counts, many in one piece of memory: a piece for each relay would cost more than the relay's own fields. */
class Counters {
  readonly #free: CounterPlace[] = [];

  take(): CounterPlace {
    if (this.#free.length === 0) {
      const counts = new Float64Array(2 * COUNTERS);
      for (let at = 0; at < counts.length; at += 2) this.#free.push({ counts, at });
    }
    const place = this.#free.pop()!;
    place.counts[place.at] = place.counts[place.at + 1] = 0;
    return place;
  }

  give(place: CounterPlace): void {
    this.#free.push(place);
  }
}

/** Relays on threads of their own, for a host whose thread must not sleep in the kernel. */
class ThreadRelayHost implements RelayHost {
  readonly traits: RelayTraits;
  readonly fallbackReason = "";
  readonly #members: readonly Member[];
  #closed: Promise<void> | undefined;

  constructor(members: readonly Member[]) {
    this.#members = members;
    this.traits = Object.freeze({ driver: "linux", splice: true, threads: members.length });
  }

  get active(): number {
    let active = 0;
    for (const member of this.#members) active += member.active;
    return active;
  }

  start(first: StreamConnection, second: StreamConnection, options: RelayOptions = {}): Relay {
    if (this.#closed !== undefined) throw new TypeError(CLOSED);
    let idlest: Member | undefined;
    for (const member of this.#members) {
      if (!member.broken && (idlest === undefined || member.active < idlest.active)) {
        idlest = member;
      }
    }
    if (idlest === undefined) throw new TypeError("Cannot relay: every relay thread has ended");
    return idlest.add(first, second, options);
  }

  close(): Promise<void> {
    this.#closed ??= Promise.all(this.#members.map((member) => member.close())).then(() => {});
    return this.#closed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** One thread, the table shared with it, and the two bells. */
class Member {
  /** The thread has ended without being asked. */
  broken = false;
  readonly #library: Libc = requireLibc();
  readonly #host: LinuxStreamHost;
  readonly #table: RelayTable;
  readonly #handles: (RelayHandle | undefined)[] = [];
  readonly #free: number[] = [];
  readonly #counter = new BigUint64Array(new ArrayBuffer(8));
  readonly #bell: number;
  readonly #doneBell: number;
  #watch: Watch | undefined;
  #thread: Thread | undefined;
  #active = 0;

  private constructor(host: LinuxStreamHost) {
    this.#host = host;
    const library = this.#library;
    this.#table = new RelayTable(makeTable());
    this.#bell = library.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    this.#doneBell = library.eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (this.#bell < 0 || this.#doneBell < 0) {
      const errno = library.errno();
      this.#closeBells();
      throw systemError("eventfd", errno, "talk to a relay thread");
    }
  }

  static async start(host: LinuxStreamHost): Promise<Member> {
    const member = new Member(host);
    const data: RelayThreadData = {
      shared: member.#table.shared,
      bell: member.#bell,
      doneBell: member.#doneBell,
    };
    try {
      const thread = await startThread(new URL("./relay_worker.ts", import.meta.url), data);
      member.#thread = thread;
      thread.failed.catch(() => member.#broke());
    } catch (error) {
      member.#closeBells();
      throw error;
    }
    member.#watch = host.reactor.watch(member.#doneBell, "read", () => member.#collect());
    return member;
  }

  get active(): number {
    return this.#active;
  }

  add(first: StreamConnection, second: StreamConnection, options: RelayOptions): Relay {
    const table = this.#table;
    const limits = relayLimits(options);
    const slot = this.#free.pop() ?? this.#handles.length;
    if (slot >= table.slots) {
      throw new TypeError(`Cannot relay: ${table.slots} relays run on this thread`);
    }
    let ends: readonly [number, number];
    const forward = new Prefix(options.forwardPrefix);
    const backward = new Prefix(options.backwardPrefix);
    try {
      checkConnections(first, second);
      // In one piece with what the connections know about their readiness; the thread sends the rest, if there is any.
      forward.send(second);
      backward.send(first);
      ends = detachBoth(first, second);
    } catch (error) {
      this.#free.push(slot);
      throw error;
    }
    const rest = forward.rest !== undefined || backward.rest !== undefined;
    const cut = (): void => {
      // In the order of the start, which went by message when there were bytes to bring along.
      if (rest) this.#thread?.post({ kind: "abort", slot } satisfies RestMessage);
      else this.#order(slot, ABORT);
    };
    const at = table.countAt(slot);
    const handle = new RelayHandle(table.counts, at, cut, options);
    this.#handles[slot] = handle;
    this.#active++;
    table.put(slot, ends, limits, forward.sent, backward.sent);
    if (rest) {
      this.#thread!.post(
        {
          kind: "start",
          slot,
          forward: forward.rest,
          backward: backward.rest,
        } satisfies RestMessage,
      );
    } else this.#order(slot, START);
    return handle;
  }

  async close(): Promise<void> {
    this.#watch?.cancel();
    // The thread aborts what runs, also what it was ordered and has not begun.
    const itself = await this.#thread?.close();
    this.#takeResults();
    if (itself !== true) this.#broke();
    this.#closeBells();
  }

  #order(slot: number, what: number): void {
    this.#table.orders.push(slot * 2 + what);
    this.#library.write(this.#bell, ONE, 8n);
  }

  /** Takes what the thread says is over. */
  #collect(): void {
    this.#library.read(this.#doneBell, this.#counter, 8n);
    this.#takeResults();
    this.#watch?.arm();
  }

  #takeResults(): void {
    const { results } = this.#table;
    for (let slot = results.take(); slot >= 0; slot = results.take()) {
      const [forward, backward] = this.#table.ends(slot);
      this.#finish(slot, forward, backward);
    }
  }

  #finish(slot: number, forward: number, backward: number): void {
    const handle = this.#handles[slot];
    if (handle === undefined) return;
    this.#handles[slot] = undefined;
    this.#active--;
    // Its counts are read before the slot is somebody else's.
    handle.ended(ENDS[forward]!, ENDS[backward]!);
    this.#free.push(slot);
  }

  #broke(): void {
    this.broken = true;
    this.#takeResults();
    // Its descriptors went with the loop that knew them; they are closed here, as far as the table still names them.
    for (let slot = 0; slot < this.#handles.length; slot++) {
      if (this.#handles[slot] === undefined) continue;
      for (const fd of this.#table.descriptors(slot)) this.#library.close(fd);
      this.#finish(slot, ABORTED, ABORTED);
    }
  }

  #closeBells(): void {
    for (const fd of [this.#bell, this.#doneBell]) if (fd >= 0) this.#library.close(fd);
  }
}

/** A prefix on its way. */
class Prefix {
  /** Bytes that left. */
  sent = 0;
  /** What did not. */
  rest: Uint8Array | undefined;

  constructor(bytes: Uint8Array | undefined) {
    this.rest = bytes === undefined || bytes.length === 0 ? undefined : bytes;
  }

  send(target: StreamConnection): void {
    if (this.rest === undefined) return;
    const bytes = new Uint8Array(this.rest);
    const taken = target.sendNow(bytes, 0, bytes.length);
    // A connection that failed says so to the thread as well.
    if (taken === WOULD_BLOCK || taken === STREAM_FAILED) {
      this.rest = bytes;
      return;
    }
    this.sent = taken;
    this.rest = taken < bytes.length ? bytes.slice(taken) : undefined;
  }
}

/** Both descriptors, or an exception and neither. */
function detachBoth(first: StreamConnection, second: StreamConnection): readonly [number, number] {
  checkConnections(first, second);
  for (const connection of [first, second]) {
    if (connection instanceof LinuxStreamConnection && connection.waits) {
      throw new TypeError("Cannot relay a connection: a receive or a send waits");
    }
  }
  return [first.detach(), second.detach()];
}

/** Relays whose counts share a piece of memory. */
const COUNTERS = 256;
const CLOSED = "Cannot relay: the relay host is closed";
const ONE: BigUint64Array<ArrayBuffer> = new BigUint64Array([1n]);
