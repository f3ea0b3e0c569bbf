/** Datagrams of one test, on every driver: whose count, where they go, what is lost. */
import { deepEqual, equal, ok } from "node:assert/strict";
import {
  capabilities,
  type DatagramBatch,
  type DatagramSocket,
  openDatagramHost,
} from "../ffi/mod.ts";
import { ADDRESS_BYTES, readAddress, writeAddress } from "../ffi/mod.ts";
import {
  type ContractCase,
  type ContractDriver,
  runContract,
} from "../internal/testing/contract.ts";
import { systemClock } from "../internal/time/clock.ts";
import { Clockwork, HostTimer } from "./clockwork.ts";
import { udpGround } from "./data_planes.ts";
import { createFlowCounts, Flow, type FlowCounts, type UdpPlan } from "./flow.ts";
import { UdpFlow, type UdpGround } from "./udp_flow.ts";

const LOOPBACK = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;

/** A flow, and peers by hand. */
class Stage {
  readonly counts: FlowCounts = createFlowCounts();
  readonly timer: HostTimer;
  readonly batch: DatagramBatch;
  readonly #flows: UdpFlow[] = [];

  constructor(readonly ground: UdpGround, readonly driver: "fast" | "portable") {
    this.timer = new HostTimer(ground.clockwork);
    this.batch = ground.host.createBatch(16, 2048);
  }

  static async open(driver: "fast" | "portable"): Promise<Stage> {
    const host = await openDatagramHost({ driver });
    return new Stage(udpGround(host, new Clockwork(systemClock)), driver);
  }

  async flow(plan: Partial<UdpPlan>): Promise<UdpFlow> {
    const whole: UdpPlan = {
      sends: false,
      receives: true,
      randomData: false,
      payloadBytes: 100,
      overheadBytes: 28,
      rateBps: 128 * 8 * 1000,
      peer: LOOPBACK,
      followsProbes: true,
      bind: LOOPBACK,
      receiveBufferBytes: 0,
      ...plan,
    };
    const events = { status: () => {}, closed: () => {}, arrived: () => {} };
    const flow = await UdpFlow.open(this.ground, whole, this.counts, events, true);
    this.#flows.push(flow);
    return flow;
  }

  async peer(address = "127.0.0.1"): Promise<DatagramSocket> {
    return await this.ground.host.open({ bind: { ...LOOPBACK, address } });
  }

  /** Sends datagrams of so many bytes with these numbers; no number sends an empty one. */
  say(from: DatagramSocket, to: UdpFlow, numbers: readonly (number | undefined)[]): void {
    const { batch } = this;
    for (const [i, number] of numbers.entries()) {
      batch.starts[i] = i * 64;
      batch.lengths[i] = number === undefined ? 0 : 60;
      batch.segments[i] = 0;
      if (number !== undefined) batch.slab.view.setUint32(i * 64, number, false);
      writeAddress(batch.peers, i * ADDRESS_BYTES, to.local);
    }
    batch.count = numbers.length;
    from.send(batch);
  }

  /** Waits until so many datagrams were counted. */
  async counted(datagrams: number): Promise<void> {
    while (this.counts[Flow.rxDatagrams]! < datagrams) {
      await new Promise((resolve) => setImmediate(resolve));
    }
  }

  async close(): Promise<void> {
    for (const flow of this.#flows) await flow.stop();
    this.timer.stop();
    await this.ground.host.close();
  }
}

const SUITE: ContractCase<Stage>[] = [
  ["counts headers, losses and late ones, of every port of the peer by itself", async (stage) => {
    const flow = await stage.flow({});
    flow.start();
    const [one, other] = [await stage.peer(), await stage.peer()];
    stage.say(one, flow, [1, 2, 5, 4, 4]);
    await stage.counted(5);
    stage.say(other, flow, [1, 2, 4]);
    await stage.counted(8);
    equal(stage.counts[Flow.rxBytes], 8 * (60 + 28));
    equal(stage.counts[Flow.lost], 2);
    equal(stage.counts[Flow.reordered], 1);
    equal(stage.counts[Flow.duplicates], 1);
  }],
  ["counts what waits in numbers as well as what comes one by one", async (stage) => {
    const flow = await stage.flow({});
    const peer = await stage.peer();
    const numbers = (from: number): number[] => Array.from({ length: 16 }, (_, i) => from + i);
    // More than one batch takes, with a hole behind the first, one from behind the hole, and a repetition at the end.
    for (const some of [numbers(1), numbers(20), numbers(36), [18, 52, 53, 53]]) {
      stage.say(peer, flow, some);
    }
    // A run, which the kernel hands over in one piece where it can.
    for (let i = 0; i < 12; i++) stage.batch.slab.view.setUint32(i * 60, 54 + i, false);
    stage.batch.starts[0] = 0;
    stage.batch.lengths[0] = 12 * 60;
    stage.batch.segments[0] = 60;
    stage.batch.count = 1;
    peer.send(stage.batch);
    stage.say(peer, flow, [66]);
    flow.start();
    await stage.counted(65);
    equal(stage.counts[Flow.rxBytes], 65 * (60 + 28));
    equal(stage.counts[Flow.lost], 2);
    equal(stage.counts[Flow.reordered], 1);
    equal(stage.counts[Flow.duplicates], 1);
  }],
  ["takes nothing from another address", async (stage) => {
    const flow = await stage.flow({});
    flow.start();
    const [stranger, peer] = [await stage.peer("127.0.0.2"), await stage.peer()];
    stage.say(stranger, flow, [1, 2, 3, undefined]);
    stage.say(peer, flow, [7]);
    await stage.counted(1);
    await flow.stop();
    equal(stage.counts[Flow.rxDatagrams], 1);
  }],
  [
    "sends to the port that an empty datagram came from, never to another address",
    async (stage) => {
      const [stranger, peer] = [await stage.peer("127.0.0.2"), await stage.peer()];
      const flow = await stage.flow({ sends: true, peer: { ...LOOPBACK, port: 9 } });
      stage.say(stranger, flow, [undefined]);
      stage.say(peer, flow, [undefined]);
      flow.start();
      ok(await peer.receive(stage.batch) > 0);
      deepEqual(readAddress(stage.batch.peers, 0), flow.local);
      equal(stage.batch.lengths[0], 100);
      equal(stranger.receiveNow(stage.batch), 0);
      equal(stage.counts[Flow.rxDatagrams], 0);
    },
  ],
  ["numbers what it sends from 1 and keeps the rest of the payload", async (stage) => {
    const peer = await stage.peer();
    const flow = await stage.flow({ sends: true, receives: false, peer: peer.local });
    flow.start();
    const numbers: number[] = [];
    while (numbers.length < 8) {
      const entries = await peer.receive(stage.batch);
      for (let i = 0; i < entries; i++) {
        const start = stage.batch.starts[i]!;
        numbers.push(stage.batch.slab.view.getUint32(start, false));
        const rest = stage.batch.slab.bytes.subarray(start + 4, start + stage.batch.lengths[i]!);
        equal(rest.length, 96);
        equal(rest.every((byte) => byte === 0), true);
      }
    }
    deepEqual(numbers.slice(0, 8), [1, 2, 3, 4, 5, 6, 7, 8]);
    await flow.stop();
    equal(stage.counts[Flow.txBytes], stage.counts[Flow.txDatagrams]! * 128);
  }],
];

function row(driver: "fast" | "portable"): ContractDriver<Stage> {
  return {
    missing: () =>
      driver === "portable" || capabilities().ffi ? "" : capabilities().why["ffi"] ?? "no FFI",
    open: () => Stage.open(driver),
    close: (stage) => stage.close(),
  };
}

runContract("UdpFlow", SUITE, { "linux": row("fast"), "node": row("portable") });
