/**
 * The UDP data of one test: one socket, both directions, on one thread.
 *
 * Every datagram's payload stands in the send slab from the beginning; only the four bytes of the sequence number are
 * written for each packet. Runs of them leave in one call where the kernel cuts them (segmentation offload).
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  type DatagramBatch,
  type DatagramHost,
  type DatagramSocket,
  equalHost,
  type SocketAddress,
  writeAddress,
} from "../ffi/mod.ts";
import { secureRandom } from "../internal/random.ts";
import { nextTurn } from "../internal/time/turn.ts";
import type { Clockwork, Timed } from "./clockwork.ts";
import { type DataFlow, Flow, type FlowCounts, type FlowEvents, type UdpPlan } from "./flow.ts";
import {
  PACER_BATCH_PACKETS,
  readSequence,
  SendPacer,
  SEQUENCE_BYTES,
  type SequenceTracker,
  SequenceTrackers,
  writeSequence,
} from "./protocol/mod.ts";

/** What a UDP flow stands on; one for each thread. */
export interface UdpGround {
  readonly host: DatagramHost;
  readonly clockwork: Clockwork;
  /** Where datagrams arrive; shared by all flows of the thread, because nothing is kept. */
  readonly incoming: DatagramBatch;
  /** The same for the first bytes of each datagram or run: enough to count them. */
  readonly heads: DatagramBatch;
}

/** Entries of {@linkcode UdpGround.incoming}, and bytes of each: the largest datagram, or a coalesced run. */
export const INCOMING_ENTRIES = 16;
/** See {@linkcode INCOMING_ENTRIES}. */
export const INCOMING_BYTES = 65_536;
/** Entries of {@linkcode UdpGround.heads}. */
export const HEAD_ENTRIES = 64;

/** The data of one test over UDP. */
export class UdpFlow implements DataFlow, Timed {
  /** Where it is bound. */
  readonly local: SocketAddress;
  readonly #ground: UdpGround;
  readonly #plan: UdpPlan;
  readonly #socket: DatagramSocket;
  readonly #counts: FlowCounts;
  readonly #events: FlowEvents;
  /** Whose datagrams count. */
  readonly #peer: DataView<ArrayBuffer> = new DataView(new ArrayBuffer(ADDRESS_BYTES));
  readonly #outgoing: DatagramBatch;
  readonly #empty: DatagramBatch;
  readonly #trackers: SequenceTrackers = new SequenceTrackers();
  readonly #pacer: SendPacer;
  readonly #packetBytes: number;
  /** Datagrams of one entry of the send batch at most. */
  readonly #run: number;
  #sequence = 1;
  #tracker: SequenceTracker | undefined;
  #trackedPort = -1;
  #severalPorts = false;
  /** Datagrams the kernel had no room for, of those that were counted. */
  #dropped = 0;
  #publishAt = 0;
  /** So much arrives that runs are counted by their first number. */
  #hurries = false;
  /** There is room for what comes while nobody looks, and nothing else to do. */
  readonly #gathers: boolean;
  /** Bytes received when that was last decided. */
  #receivedBefore = 0;
  #arrived = false;
  #started = false;
  #stopped: Promise<void> | undefined;
  deadline: number = Infinity;

  private constructor(
    ground: UdpGround,
    plan: UdpPlan,
    socket: DatagramSocket,
    counts: FlowCounts,
    events: FlowEvents,
  ) {
    this.#ground = ground;
    this.#plan = plan;
    this.#socket = socket;
    this.local = socket.local;
    this.#counts = counts;
    this.#events = events;
    writeAddress(this.#peer, 0, plan.peer);
    const { payloadBytes, overheadBytes } = plan;
    this.#packetBytes = payloadBytes + overheadBytes;
    this.#pacer = new SendPacer(plan.rateBps, this.#packetBytes, true);
    this.#run = Math.max(1, Math.min(PACER_BATCH_PACKETS, Math.floor(RUN_BYTES / payloadBytes)));
    this.#outgoing = ground.host.createBatch(plan.sends ? SEND_ENTRIES : 1, INCOMING_BYTES);
    if (plan.sends && plan.randomData) {
      const { bytes } = this.#outgoing.slab;
      // The platform gives at most this much at once.
      for (let at = 0; at < bytes.length; at += 65_536) bytes.set(secureRandom.bytes(65_536), at);
    }
    this.#outgoing.segments.fill(payloadBytes);
    this.#gathers = !plan.sends && socket.receiveBufferBytes >= GATHER_BUFFER_BYTES;
    this.#empty = ground.host.createBatch(1, 64);
    this.#target(plan.peer);
  }

  /**
   * Opens the socket; {@linkcode start} begins.
   *
   * @throws {SystemError} When the port is taken.
   */
  static async open(
    ground: UdpGround,
    plan: UdpPlan,
    counts: FlowCounts,
    events: FlowEvents,
    segmentation: boolean,
  ): Promise<UdpFlow> {
    const socket = await ground.host.open({
      bind: plan.bind,
      coalesce: plan.receives && ground.host.traits.coalescing,
      segment: segmentation,
      receiveBufferBytes: plan.receiveBufferBytes,
      sendBufferBytes: plan.receiveBufferBytes,
    });
    return new UdpFlow(ground, plan, socket, counts, events);
  }

  /** Begins. @param port The peer's, when it was not known before. */
  start(port?: number): void {
    if (this.#started || this.#stopped !== undefined) return;
    this.#started = true;
    if (port !== undefined) this.#target({ ...this.#plan.peer, port });
    this.#ground.clockwork.add(this);
    this.#socket.watch(() => this.#receive());
    this.expire(this.#ground.clockwork.now());
  }

  setRate(bitsPerSecond: number): void {
    if (!this.#started || this.#stopped !== undefined || !this.#plan.sends) return;
    this.#pacer.setRate(bitsPerSecond);
    this.#schedule(Math.max(this.#pacer.readyAt, this.#ground.clockwork.now()));
  }

  weave(_status: Uint8Array): void {}

  probe(): void {
    if (this.#stopped !== undefined) return;
    this.#empty.lengths[0] = 0;
    this.#empty.segments[0] = 0;
    this.#empty.count = 1;
    this.#socket.send(this.#empty);
  }

  stop(): Promise<void> {
    return this.#stopped ??= this.#stop();
  }

  async #stop(): Promise<void> {
    this.#ground.clockwork.remove(this);
    this.#socket.watch(undefined);
    // A runtime reads datagrams in turns of its own.
    if (this.#ground.host.traits.driver === "node") await nextTurn();
    // What the kernel has already is still counted; more than a buffer full would be a new test.
    this.#receiveBatches(DRAIN_BATCHES);
    this.#publish();
    await this.#socket.close();
  }

  expire(now: number): void {
    this.deadline = Infinity;
    if (this.#stopped !== undefined) return;
    if (this.#plan.sends) {
      const most = this.#run * SEND_ENTRIES;
      for (let calls = this.#plan.receives ? 1 : TURN_CALLS; calls > 0; calls--) {
        const due = this.#pacer.take(now, most);
        if (due === 0) break;
        this.#send(due);
      }
      this.#schedule(Math.max(this.#pacer.readyAt, now));
    }
    if (now >= this.#publishAt) {
      this.#publishAt = now + PUBLISH_EVERY_MS;
      this.#publish();
    }
    this.#schedule(this.#publishAt);
  }

  /** Reads what only the socket knows. */
  #publish(): void {
    const received = this.#counts[Flow.rxBytes]!;
    this.#hurries = received - this.#receivedBefore > HURRY_BYTES;
    this.#receivedBefore = received;
    const counters = this.#socket.counters();
    this.#counts[Flow.localDrops] = counters.receiveDrops;
    if (!this.#plan.sends) return;
    // What the kernel had no room for did not leave.
    const dropped = counters.sendDrops - this.#dropped;
    this.#dropped += dropped;
    this.#counts[Flow.txDatagrams]! -= dropped;
    this.#counts[Flow.txBytes]! -= dropped * this.#packetBytes;
  }

  /** Sends `packets` datagrams, 1 to what the send batch holds. */
  #send(packets: number): void {
    const { payloadBytes } = this.#plan;
    const { slab, starts, lengths } = this.#outgoing;
    let left = packets, entry = 0;
    for (; left > 0; entry++) {
      const count = Math.min(left, this.#run);
      const start = entry * INCOMING_BYTES;
      for (let i = 0; i < count; i++) {
        writeSequence(slab.view, start + i * payloadBytes, this.#sequence);
        this.#sequence = (this.#sequence + 1) >>> 0;
      }
      starts[entry] = start;
      lengths[entry] = count * payloadBytes;
      left -= count;
    }
    this.#outgoing.count = entry;
    this.#socket.send(this.#outgoing);
    this.#counts[Flow.txDatagrams]! += packets;
    this.#counts[Flow.txBytes]! += packets * this.#packetBytes;
  }

  #receive(): void {
    if (!this.#receiveBatches(TURN_BATCHES)) this.#socket.again();
    else if (this.#hurries && this.#gathers) this.#ground.clockwork.gathers = true;
  }

  /** @returns Whether everything was taken. */
  #receiveBatches(most: number): boolean {
    const { incoming, heads } = this.#ground;
    let batch = this.#hurries ? heads : incoming;
    for (let left = most; left > 0; left--) {
      const entries = this.#socket.receiveNow(batch);
      if (entries > 0) this.#take(batch);
      if (entries < batch.capacity) return true;
      // More is waiting than there is time to look at.
      batch = heads;
    }
    return false;
  }

  /** Counts a batch. */
  #take(batch: DatagramBatch): void {
    const { starts, lengths, segments, peers } = batch;
    const { overheadBytes } = this.#plan;
    for (let entry = 0; entry < batch.count; entry++) {
      const at = entry * ADDRESS_BYTES;
      // From any port: RouterOS sends from another one than it named. From any other address: not our test.
      if (!equalHost(peers, at, this.#peer, 0)) continue;
      const length = lengths[entry]!;
      const port = peers.getUint16(at + 2, false);
      if (length < SEQUENCE_BYTES) {
        // A NAT on the way may have given the client another port: an empty datagram shows it.
        if (length === 0 && this.#plan.followsProbes) this.#target({ ...this.#plan.peer, port });
        continue;
      }
      if (!this.#plan.receives) continue;
      const segment = segments[entry]!;
      const packets = segment === 0 ? 1 : Math.ceil(length / segment);
      this.#counts[Flow.rxBytes]! += length + packets * overheadBytes;
      this.#counts[Flow.rxDatagrams]! += packets;
      this.#track(batch, starts[entry]!, segment, packets, port);
    }
    if (this.#plan.receives) this.#account();
    if (!this.#arrived && this.#counts[Flow.rxDatagrams]! > 0) {
      this.#arrived = true;
      this.#events.arrived();
    }
  }

  /** Takes the numbers of a run, as few pieces as it has. */
  #track(
    batch: DatagramBatch,
    start: number,
    segment: number,
    packets: number,
    port: number,
  ): void {
    if (port !== this.#trackedPort) {
      this.#severalPorts ||= this.#trackedPort >= 0;
      this.#tracker = this.#trackers.of(port);
      this.#trackedPort = port;
    }
    const tracker = this.#tracker;
    if (tracker === undefined) return;
    const { view } = batch.slab;
    let first = readSequence(view, start);
    if (batch.heads) {
      // What is missing inside a run is missed by the next one.
      tracker.receiveRun(first, packets);
      return;
    }
    let count = 1;
    for (let i = 1; i < packets; i++) {
      const sequence = readSequence(view, start + i * segment);
      if (sequence === ((first + count) >>> 0)) {
        count++;
        continue;
      }
      tracker.receiveRun(first, count);
      first = sequence;
      count = 1;
    }
    tracker.receiveRun(first, count);
  }

  #account(): void {
    const tracker = this.#tracker;
    if (tracker === undefined) return;
    const counts = this.#counts;
    const sums = this.#severalPorts ? this.#trackers.totals() : tracker;
    counts[Flow.lost] = sums.lost;
    counts[Flow.reordered] = sums.reordered;
    counts[Flow.duplicates] = sums.duplicates;
  }

  #target(address: SocketAddress): void {
    for (let entry = 0; entry < this.#outgoing.capacity; entry++) {
      writeAddress(this.#outgoing.peers, entry * ADDRESS_BYTES, address);
    }
    writeAddress(this.#empty.peers, 0, address);
  }

  #schedule(at: number): void {
    if (at >= this.deadline) return;
    this.deadline = at;
    this.#ground.clockwork.touch(this);
  }
}

/** Payload of the largest IPv4 datagram: what one run carries. */
const RUN_BYTES = 65_507;
/** Runs handed over in one call. */
const SEND_ENTRIES = 4;
/** Calls of one turn, before anybody else has one; who also receives looks after each at what arrived meanwhile. */
const TURN_CALLS = 16;
/** How often drops are asked for, milliseconds. */
const PUBLISH_EVERY_MS = 100;
/**
 * Bytes that arrive between two looks at the drops before runs are counted by their first number: 1 Gbit/s. The copy of the
 * rest costs the receiver three quarters of its time.
 */
const HURRY_BYTES = 12_500_000;
/** What a buffer has to hold to let data gather: 0.2 ms of 100 Gbit/s, with the kernel's own bookkeeping. */
const GATHER_BUFFER_BYTES = 8_388_608;
/** Batches received in one turn. */
const TURN_BATCHES = 8;
/** Batches taken after the end: a receive buffer of 32 MiB in single datagrams. */
const DRAIN_BATCHES = 1024;
