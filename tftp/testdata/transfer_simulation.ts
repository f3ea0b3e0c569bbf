/**
 * A send machine and a receive machine over a bad network, in virtual time. Blocks are numbers: what a block holds is
 * computed from its index, so that gigabytes cost nothing and a block in the wrong place is seen at once.
 *
 * @module
 */

import { equal, ok } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { type LinkProfile, VirtualLink } from "../../internal/testing/link.ts";
import { simulate, type SimulatedEnd } from "../../internal/testing/simulation.ts";
import type { Negotiated, ReceiveActions, SendActions, TransferResult } from "../protocol/mod.ts";
import { ReceiveMachine, SendMachine, wireBlock } from "../protocol/mod.ts";

/** A datagram, with a number where the payload would be. */
export interface Packet {
  readonly kind: "request" | "options" | "data" | "ack" | "error";
  readonly wire: number;
  readonly payloadBytes: number;
  readonly value: number;
}

export interface Scenario {
  readonly seed: number;
  /** Who sends the file. */
  readonly sender: "server" | "client";
  readonly options: boolean;
  readonly blockSize: number;
  readonly windowSize: number;
  readonly sizeBytes: number;
  readonly rollover: 0 | 1;
  readonly believedRollover: 0 | 1 | "auto";
  readonly reorder: boolean;
  readonly pacing: boolean;
  readonly timeoutMs: number | undefined;
  readonly commitMs: number;
  /** The source does not know its size and is this many blocks ahead. */
  readonly streamed: boolean;
  /** Numbers drawn per transfer that shift the timers of the sender and of the receiver, 0 ≤ x < 1. */
  readonly jitter: readonly [number, number];
  /** From the sender to the receiver. */
  readonly data: LinkProfile;
  readonly acks: LinkProfile;
}

export interface Outcome {
  readonly sent: TransferResult | undefined;
  readonly received: TransferResult | undefined;
  readonly delivered: number;
  readonly blocks: number;
  readonly dataPackets: number;
  readonly ackPackets: number;
  readonly lost: number;
  readonly disturbed: number;
  readonly nowMs: number;
  /** When the receiver, and when the sender, was done; virtual milliseconds. */
  readonly receivedMs: number;
  readonly sentMs: number;
  readonly rttMs: number;
}

/** The content of a block, as a number. */
function valueOf(seed: number, index: number): number {
  let value = Math.imul(index ^ seed, 0x9e3779b1);
  value = Math.imul(value ^ (value >>> 15), 0x85ebca6b);
  return value ^ (value >>> 13);
}

class SendEnd implements SimulatedEnd<Packet>, SendActions {
  result: TransferResult | undefined;
  endedMs = Infinity;
  dataPackets = 0;
  readonly machine: SendMachine;
  readonly #scenario: Scenario;
  readonly #out: VirtualLink<Packet>;
  readonly #negotiated: Negotiated;
  readonly #last: number;
  #now = 0;
  #started = false;
  #supplied = 0;

  constructor(scenario: Scenario, out: VirtualLink<Packet>, negotiated: Negotiated) {
    this.#scenario = scenario;
    this.#out = out;
    this.#negotiated = negotiated;
    this.#last = blocksOf(scenario);
    const server = scenario.sender === "server";
    this.machine = new SendMachine({
      role: scenario.sender,
      opening: scenario.options || !server,
      blockSize: scenario.blockSize,
      windowSize: scenario.windowSize,
      rollover: scenario.rollover,
      sizeBytes: scenario.streamed ? undefined : scenario.sizeBytes,
      timeoutMs: scenario.timeoutMs,
      pacing: scenario.pacing,
      jitter: scenario.jitter[0],
    });
    if (!server) this.#start(0);
  }

  get deadline(): number {
    return this.#started ? this.machine.deadline : Infinity;
  }

  receive(packet: Packet, now: number): void {
    this.#now = now;
    switch (packet.kind) {
      case "request":
        if (this.#started) this.machine.repeatRequest(now, this);
        else this.#start(now);
        break;
      case "options":
        this.machine.receiveOptions(this.#negotiated, now, this);
        break;
      case "ack":
        this.machine.receiveAck(packet.wire, now, this);
        break;
      case "error":
        this.machine.receiveError(0, "", now, this);
        break;
      default:
        break;
    }
    this.#feed();
  }

  expire(now: number): void {
    this.#now = now;
    this.machine.expire(now, this);
    this.#feed();
  }

  sendOpening(): void {
    this.#send(this.#scenario.sender === "server" ? "options" : "request", 0, 0, 0);
  }

  sendBlocks(first: number, count: number, _again: boolean): void {
    ok(count > 0 && first > this.machine.acknowledgedBlocks, "only outstanding blocks are sent");
    ok(first + count - 1 <= this.machine.acknowledgedBlocks + this.machine.windowSize);
    const { blockSize, sizeBytes, rollover, seed } = this.#scenario;
    for (let index = first; index < first + count; index++) {
      const bytes = index === this.#last ? sizeBytes % blockSize : blockSize;
      this.dataPackets++;
      this.#send("data", wireBlock(index, rollover), bytes, valueOf(seed, index));
    }
  }

  sendError(): void {
    this.#send("error", 0, 0, 0);
  }

  finish(result: TransferResult): void {
    equal(this.result, undefined, "finish comes once");
    this.result = result;
    this.endedMs = this.#now;
  }

  #start(now: number): void {
    this.#started = true;
    this.machine.start(now, this);
    this.#feed();
  }

  #feed(): void {
    if (!this.#scenario.streamed) return;
    const ready = Math.min(this.machine.wantedBlocks, this.#last);
    if (ready <= this.#supplied) return;
    this.#supplied = ready;
    const ended = ready === this.#last;
    this.machine.supply(
      ready,
      ended ? ready : undefined,
      this.#now,
      this,
      this.#scenario.sizeBytes,
    );
  }

  #send(kind: Packet["kind"], wire: number, payloadBytes: number, value: number): void {
    equal(this.result, undefined, "nothing leaves the sender after its end");
    this.#out.send(this.#now, { kind, wire, payloadBytes, value }, payloadBytes + 4);
  }
}

class ReceiveEnd implements SimulatedEnd<Packet>, ReceiveActions {
  result: TransferResult | undefined;
  endedMs = Infinity;
  delivered = 0;
  ackPackets = 0;
  readonly machine: ReceiveMachine;
  readonly #scenario: Scenario;
  readonly #out: VirtualLink<Packet>;
  readonly #negotiated: Negotiated;
  readonly #held: Map<number, number> = new Map();
  #now = 0;
  #started = false;
  #commitAt = Infinity;
  #value = 0;

  constructor(scenario: Scenario, out: VirtualLink<Packet>, negotiated: Negotiated) {
    this.#scenario = scenario;
    this.#out = out;
    this.#negotiated = negotiated;
    const client = scenario.sender === "server";
    this.machine = new ReceiveMachine({
      role: client ? "client" : "server",
      opening: scenario.options || client,
      blockSize: scenario.blockSize,
      windowSize: scenario.windowSize,
      rollover: client ? scenario.believedRollover : scenario.rollover,
      reorder: scenario.reorder,
      timeoutMs: scenario.timeoutMs,
      jitter: scenario.jitter[1],
    });
    if (client) this.#start(0);
  }

  get deadline(): number {
    return Math.min(this.#started ? this.machine.deadline : Infinity, this.#commitAt);
  }

  receive(packet: Packet, now: number): void {
    this.#now = now;
    switch (packet.kind) {
      case "request":
        if (this.#started) this.machine.repeatRequest(now, this);
        else this.#start(now);
        break;
      case "options":
        this.machine.receiveOptions(this.#negotiated, now, this);
        break;
      case "data":
        this.#value = packet.value;
        this.machine.receiveData(packet.wire, packet.payloadBytes, now, this);
        break;
      case "error":
        this.machine.receiveError(0, "", now, this);
        break;
      default:
        break;
    }
    this.#commit();
  }

  expire(now: number): void {
    this.#now = now;
    this.machine.expire(now, this);
    this.#commit();
  }

  sendOpening(): void {
    if (this.#scenario.sender === "server") this.#send("request", 0);
    else this.#send(this.#scenario.options ? "options" : "ack", 0);
  }

  deliver(index: number): void {
    this.#accept(index, this.#value);
  }

  hold(index: number): void {
    ok(index > this.delivered + 1 && index <= this.delivered + this.machine.windowSize);
    ok(!this.#held.has(index), "a block is held once");
    this.#held.set(index, this.#value);
  }

  deliverHeld(first: number, count: number): void {
    for (let index = first; index < first + count; index++) {
      const value = this.#held.get(index);
      ok(value !== undefined, `block ${index} is held`);
      this.#held.delete(index);
      this.#accept(index, value);
    }
  }

  dropHeld(first: number): void {
    for (const index of this.#held.keys()) if (index >= first) this.#held.delete(index);
  }

  sendAck(index: number): void {
    ok(index <= this.delivered, "only what was delivered is acknowledged");
    if (this.result !== undefined) equal(index, blocksOf(this.#scenario), "after the end");
    this.#send("ack", wireBlock(index, this.machine.rollover));
  }

  commit(): void {
    equal(this.delivered, blocksOf(this.#scenario), "everything is there before the commit");
    this.#commitAt = this.#now + this.#scenario.commitMs;
  }

  sendError(): void {
    this.#send("error", 0);
  }

  finish(result: TransferResult): void {
    equal(this.result, undefined, "finish comes once");
    this.result = result;
    this.endedMs = this.#now;
  }

  #start(now: number): void {
    this.#started = true;
    this.machine.start(now, this);
  }

  #accept(index: number, value: number): void {
    equal(index, this.delivered + 1, "blocks come in order");
    equal(value, valueOf(this.#scenario.seed, index), `content of block ${index}`);
    this.delivered = index;
  }

  #commit(): void {
    if (this.#now < this.#commitAt) return;
    this.#commitAt = Infinity;
    this.machine.committed(this.#now, this);
  }

  #send(kind: Packet["kind"], wire: number): void {
    if (this.result !== undefined && this.result.outcome !== "done") equal(kind, "never");
    this.ackPackets++;
    this.#out.send(this.#now, { kind, wire, payloadBytes: 0, value: 0 }, 4);
  }
}

function blocksOf(scenario: Scenario): number {
  return Math.floor(scenario.sizeBytes / scenario.blockSize) + 1;
}

export function run(scenario: Scenario): Outcome {
  const random = seededRandom(scenario.seed);
  const data = new VirtualLink<Packet>(scenario.data, random);
  const acks = new VirtualLink<Packet>(scenario.acks, random);
  const negotiated: Negotiated = {
    accepted: scenario.believedRollover === "auto" ? [] : [["rollover", `${scenario.rollover}`]],
    blockSize: scenario.blockSize,
    windowSize: scenario.windowSize,
    timeoutMs: scenario.timeoutMs,
    rollover: scenario.rollover,
    transferSize: undefined,
  };
  const sender = new SendEnd(scenario, data, negotiated);
  const receiver = new ReceiveEnd(scenario, acks, negotiated);
  const blocks = blocksOf(scenario);
  const end = simulate(sender, receiver, data, acks, 20_000 + 400 * blocks * scenario.windowSize);
  ok(end.quiet, "the exchange ends");
  for (const machine of [sender.machine, receiver.machine]) {
    ok(machine.finished || sender.result === undefined || receiver.result === undefined);
  }
  return {
    sent: sender.result,
    received: receiver.result,
    delivered: receiver.delivered,
    blocks,
    dataPackets: sender.dataPackets,
    ackPackets: receiver.ackPackets,
    lost: data.lost + acks.lost,
    disturbed: data.disturbed + acks.disturbed,
    nowMs: end.nowMs,
    receivedMs: receiver.endedMs,
    sentMs: sender.endedMs,
    rttMs: sender.machine.rttMs,
  };
}

export const CLEAN: Scenario = {
  seed: 1,
  sender: "server",
  options: true,
  blockSize: 512,
  windowSize: 4,
  sizeBytes: 10_000,
  rollover: 0,
  believedRollover: 0,
  reorder: true,
  pacing: false,
  timeoutMs: undefined,
  commitMs: 0,
  streamed: false,
  jitter: [0.3, 0.7],
  data: { delayMs: 5 },
  acks: { delayMs: 5 },
};

export function assertComplete(outcome: Outcome, scenario: Scenario): void {
  equal(outcome.received?.outcome, "done");
  equal(outcome.delivered, outcome.blocks);
  equal(outcome.received?.bytes, scenario.sizeBytes);
  equal(outcome.received?.blocks, outcome.blocks);
  if (outcome.sent?.outcome === "done") equal(outcome.sent.bytes, scenario.sizeBytes);
}
