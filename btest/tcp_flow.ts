/**
 * The TCP data of one test: all its connections, in the directions it has, on one thread.
 *
 * Payload is sent out of one constant buffer that nobody ever looks at; what arrives is discarded in the kernel unless
 * status messages may stand in it. Status messages leave on the first connection, between two blocks.
 *
 * @module
 */
import {
  type ConstantBuffer,
  STREAM_FAILED,
  type StreamConnection,
  type StreamHost,
  WOULD_BLOCK,
} from "../ffi/mod.ts";
import type { Clockwork, Timed } from "./clockwork.ts";
import { type DataFlow, Flow, type FlowCounts, type FlowEvents, type TcpPlan } from "./flow.ts";
import { pacedWriteBytes, SendPacer, StatusFinder } from "./protocol/mod.ts";

/** What a TCP flow stands on; one for each thread. */
export interface TcpGround {
  readonly host: StreamHost;
  readonly clockwork: Clockwork;
  /** Where bytes that must be looked at are received; shared by all flows of the thread, because nothing is kept. */
  readonly scratch: Uint8Array<ArrayBuffer>;
  /** Payload that never changes. */
  payload(random: boolean, sendfile: boolean): ConstantBuffer;
}

/** Bytes of {@linkcode TcpGround.scratch}: stays in the second-level cache while it is searched. */
export const SCRATCH_BYTES = 262_144;

/** One connection of a flow. */
interface Lane {
  readonly index: number;
  readonly connection: StreamConnection;
  readonly finder: StatusFinder | undefined;
  /** Bytes of payload sent on it: the place in the endless repetition. */
  position: number;
  over: boolean;
}

/** The data of one test over TCP. */
export class TcpFlow implements DataFlow, Timed {
  readonly #ground: TcpGround;
  readonly #plan: TcpPlan;
  readonly #counts: FlowCounts;
  readonly #events: FlowEvents;
  readonly #lanes: Lane[] = [];
  readonly #payload: ConstantBuffer | undefined;
  readonly #sink: { status(cpu: number, sequence: number, received: number): void };
  readonly #silent = { status: (): void => {} };
  /** Payload bytes between two of which a status may stand, and that are paced together. */
  #unit: number;
  #pacer: SendPacer;
  #paced: boolean;
  /** What arrives is neither looked at nor answered: nothing is lost by taking it a little later. */
  readonly #gathers: boolean;
  /** Bytes that may be sent now, when paced. */
  #allowance = 0;
  /** The lane whose turn it is, when paced. */
  #turn = 0;
  /** A status that waits for the end of a block, and how much of it has left. */
  #status: Uint8Array<ArrayBuffer> | undefined;
  #statusSent = 0;
  #stopping: (() => void) | undefined;
  #stopped: Promise<void> | undefined;
  #drainBy = Infinity;
  deadline: number = Infinity;

  /**
   * Begins at once.
   *
   * @param connections The first one first. They belong to the flow.
   * @param kept What was received on each and is test data already.
   */
  constructor(
    ground: TcpGround,
    plan: TcpPlan,
    connections: readonly StreamConnection[],
    kept: readonly Uint8Array[],
    counts: FlowCounts,
    events: FlowEvents,
  ) {
    this.#ground = ground;
    this.#plan = plan;
    this.#counts = counts;
    this.#events = events;
    this.#sink = { status: (cpu, sequence, received) => events.status(cpu, sequence, received) };
    this.#payload = plan.sends ? ground.payload(plan.randomData, plan.sendfile) : undefined;
    this.#unit = unitOf(plan, plan.capBps);
    this.#pacer = new SendPacer(plan.capBps, this.#unit);
    this.#paced = plan.capBps !== Infinity;
    this.#gathers = !plan.finds && !plan.sends;
    for (const [index, connection] of connections.entries()) {
      const finder = plan.finds ? new StatusFinder({ randomData: plan.randomData }) : undefined;
      this.#lanes.push({ index, connection, finder, position: 0, over: false });
    }
    const now = ground.clockwork.now();
    ground.clockwork.add(this);
    for (const lane of this.#lanes) {
      const bytes = kept[lane.index];
      if (bytes !== undefined && bytes.length > 0) this.#look(lane, bytes, bytes.length, now);
      lane.connection.watch(
        () => this.#receive(lane),
        plan.sends || lane.index === 0 ? () => this.#writable(lane) : undefined,
      );
    }
    if (plan.sends) {
      if (this.#paced) this.expire(now);
      // In a turn of its own, so that a flow that never blocks does not keep its maker.
      else this.#schedule(now);
    }
  }

  setRate(bitsPerSecond: number): void {
    if (!this.#plan.sends || this.#stopped !== undefined) return;
    const rate = Math.min(this.#plan.capBps, bitsPerSecond);
    const unit = unitOf(this.#plan, rate);
    if (unit !== this.#unit) {
      this.#unit = unit;
      this.#pacer = new SendPacer(rate, unit);
    } else this.#pacer.setRate(rate);
    this.#paced = rate !== Infinity;
    this.#allowance = 0;
    this.#schedule(this.#ground.clockwork.now());
  }

  weave(status: Uint8Array): void {
    const first = this.#lanes[0]!;
    // A status that could not leave in a whole second gives way to nothing: its number must not be missing.
    if (this.#status !== undefined || first.over || this.#stopped !== undefined) return;
    this.#status = Uint8Array.from(status);
    this.#statusSent = 0;
    if (!this.#plan.sends || this.#atSeam(first)) this.#sendStatus(first);
  }

  probe(): void {}

  stop(): Promise<void> {
    return this.#stopped ??= new Promise((resolve) => {
      this.#stopping = resolve;
      this.#status = undefined;
      for (const lane of this.#lanes) {
        lane.connection.watch(() => this.#receive(lane));
        if (!lane.over) lane.connection.end();
      }
      this.#drainBy = this.#ground.clockwork.now() + this.#plan.drainMs;
      this.#schedule(this.#drainBy);
      // What is there is taken even when there is no time to wait for more.
      for (const lane of this.#lanes) this.#receive(lane);
      this.#mayRelease();
    });
  }

  expire(now: number): void {
    this.deadline = Infinity;
    if (this.#stopped !== undefined) {
      if (now < this.#drainBy) this.#schedule(this.#drainBy);
      else this.#release();
      return;
    }
    if (!this.#plan.sends) return;
    if (!this.#paced) {
      for (const lane of this.#lanes) this.#writable(lane, now);
      return;
    }
    const due = this.#pacer.take(now, MOST_UNITS) * this.#unit;
    // What the connections had no room for is forgiven beyond the pacer's own bound.
    this.#allowance = Math.min(this.#allowance + due, Math.max(due, this.#unit));
    this.#sendPaced();
    this.#schedule(this.#pacer.readyAt);
  }

  /** Sends what is allowed, lane after lane. */
  #sendPaced(): void {
    const lanes = this.#lanes;
    for (let blocked = 0; this.#allowance > 0 && blocked < lanes.length;) {
      const lane = lanes[this.#turn % lanes.length]!;
      this.#turn = (this.#turn + 1) % lanes.length;
      if (lane.over || !this.#sendStatus(lane)) {
        blocked++;
        continue;
      }
      const share = lanes.length === 1 || this.#allowance <= this.#unit
        ? this.#allowance
        : this.#unit * Math.ceil(this.#allowance / this.#unit / lanes.length);
      const length = this.#upToSeam(lane, Math.min(share, this.#allowance));
      const sent = this.#send(lane, length);
      if (sent <= 0) {
        blocked++;
        continue;
      }
      this.#allowance -= sent;
      blocked = 0;
    }
  }

  /** There may be room on a lane. @param now Outside the connection's own callback. */
  #writable(lane: Lane, now?: number): void {
    if (lane.over || this.#stopped !== undefined) return;
    if (!this.#plan.sends || this.#paced) {
      this.#sendStatus(lane);
      if (this.#plan.sends) this.#sendPaced();
      return;
    }
    for (let budget = TURN_BYTES; budget > 0;) {
      if (this.#atSeam(lane) && !this.#sendStatus(lane)) return;
      const sent = this.#send(lane, this.#upToSeam(lane, CALL_BYTES));
      if (sent <= 0) return;
      budget -= sent;
    }
    // Other connections have their turn.
    if (now === undefined) lane.connection.again();
    else this.#schedule(now);
  }

  /** @returns What {@linkcode StreamConnection.sendConstantNow} answered. */
  #send(lane: Lane, length: number): number {
    const sent = lane.connection.sendConstantNow(this.#payload!, lane.position, length);
    if (sent > 0) {
      lane.position += sent;
      this.#counts[Flow.txBytes]! += sent;
    } else if (sent === STREAM_FAILED) this.#over(lane);
    return sent;
  }

  /** Whether a status may stand here. */
  #atSeam(lane: Lane): boolean {
    return lane.index !== 0 || this.#status === undefined || lane.position % this.#unit === 0;
  }

  /** How much of `length` may be sent before a status has to leave. */
  #upToSeam(lane: Lane, length: number): number {
    if (lane.index !== 0 || this.#status === undefined) return length;
    return Math.min(length, this.#unit - lane.position % this.#unit);
  }

  /** Sends what waits of a status. @returns Whether data may follow. */
  #sendStatus(lane: Lane): boolean {
    const status = this.#status;
    if (lane.index !== 0 || status === undefined || lane.over) return !lane.over;
    if (this.#plan.sends && !this.#atSeam(lane)) return true;
    const sent = lane.connection.sendNow(status, this.#statusSent, status.length);
    if (sent === STREAM_FAILED) this.#over(lane);
    if (sent <= 0) return false;
    this.#statusSent += sent;
    if (this.#statusSent < status.length) return false;
    this.#status = undefined;
    return true;
  }

  /** There may be something to receive on a lane. */
  #receive(lane: Lane): void {
    if (lane.over) return;
    const { connection } = lane;
    const { scratch } = this.#ground;
    const now = lane.finder === undefined ? 0 : this.#ground.clockwork.now();
    for (let budget = TURN_BYTES; budget > 0;) {
      const count = lane.finder === undefined
        ? connection.discardNow(CALL_BYTES)
        : connection.receiveNow(scratch, 0, scratch.length);
      if (count === WOULD_BLOCK) {
        if (budget <= TURN_BYTES - GATHER_BYTES && this.#gathers) {
          this.#ground.clockwork.gathers = true;
        }
        return;
      }
      if (count <= 0) return this.#over(lane);
      this.#look(lane, scratch, count, now);
      budget -= count;
    }
    connection.again();
    // Outside a callback that asks for nothing.
    if (this.#stopped !== undefined) this.#schedule(this.#ground.clockwork.now());
  }

  /** Counts what arrived on a lane, and looks for status messages where there may be some. */
  #look(lane: Lane, bytes: Uint8Array, count: number, now: number): void {
    const { finder } = lane;
    let data = count;
    if (finder !== undefined) {
      const before = finder.statusBytes;
      // Other lanes' messages tell of themselves alone; they are recognised so that they are not counted as data.
      finder.scan(bytes, 0, count, now, lane.index === 0 ? this.#sink : this.#silent);
      data -= finder.statusBytes - before;
    }
    if (this.#plan.receives) this.#counts[Flow.rxBytes]! += data;
  }

  #over(lane: Lane): void {
    if (lane.over) return;
    lane.over = true;
    lane.connection.watch(undefined);
    if (this.#stopped !== undefined) this.#mayRelease();
    else this.#events.closed(lane.index);
  }

  /** Earlier than what is due already. */
  #schedule(at: number): void {
    if (at >= this.deadline) return;
    this.deadline = at;
    this.#ground.clockwork.touch(this);
  }

  #mayRelease(): void {
    if (this.#stopping !== undefined && this.#lanes.every((lane) => lane.over)) this.#release();
  }

  #release(): void {
    const stopping = this.#stopping;
    if (stopping === undefined) return;
    this.#stopping = undefined;
    this.#ground.clockwork.remove(this);
    const closed = this.#lanes.map((lane) => {
      lane.over = true;
      return lane.connection.close();
    });
    Promise.all(closed).then(() => stopping());
  }
}

function unitOf(plan: TcpPlan, rate: number): number {
  return pacedWriteBytes(plan.blockBytes, rate);
}

/** Bytes of one call: enough that the call itself costs nothing beside the copy (ffi.md). */
const CALL_BYTES = 1_048_576;
/** Bytes in one turn from which on more is let gather; a slow test never has as many waiting. */
const GATHER_BYTES = 131_072;
/** Bytes one connection moves before others have their turn. */
const TURN_BYTES = 4_194_304;
/** Units one turn of the pacer hands out at most; it forgives more than 10 ms anyway. */
const MOST_UNITS = 1 << 20;
