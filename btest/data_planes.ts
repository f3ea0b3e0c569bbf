/**
 * Where the data of tests is carried: on this thread's event loop, or on threads of its own.
 *
 * @module
 */
import {
  type ConstantBuffer,
  type DatagramHost,
  openDatagramHost,
  openStreamHost,
  type SocketAddress,
  type StreamConnection,
  type StreamHost,
} from "../ffi/mod.ts";
import { secureRandom } from "../internal/random.ts";
import { systemClock } from "../internal/time/clock.ts";
import { Clockwork, HostTimer } from "./clockwork.ts";
import type { DataFlow, FlowCounts, FlowEvents, TcpPlan, UdpPlan } from "./flow.ts";
import { SEQUENCE_BYTES } from "./protocol/mod.ts";
import { SCRATCH_BYTES, TcpFlow, type TcpGround } from "./tcp_flow.ts";
import {
  HEAD_ENTRIES,
  INCOMING_BYTES,
  INCOMING_ENTRIES,
  UdpFlow,
  type UdpGround,
} from "./udp_flow.ts";

/** A UDP data plane whose socket is bound. */
export interface UdpOpening extends DataFlow {
  /** Where. */
  readonly local: SocketAddress;
  /** Begins. @param port The peer's, when it was not known before. */
  start(port?: number): void;
}

/** A place that carries data. */
export interface DataPlanes {
  /** Where connections are made and accepted, and messages exchanged. */
  readonly host: StreamHost;
  /** Deadlines of this thread. */
  readonly clockwork: Clockwork;
  /** Threads that carry data; 0 when this one does. */
  readonly workers: number;
  /** Makes sure that a flow of this kind can begin at once. */
  prepare(protocol: "tcp" | "udp"): Promise<void>;
  /** Begins to carry data. The connections belong to the flow from here on. */
  openTcp(
    plan: TcpPlan,
    connections: readonly StreamConnection[],
    kept: readonly Uint8Array[],
    counts: FlowCounts,
    events: FlowEvents,
  ): DataFlow;
  /** Binds a socket. @throws {SystemError} When the port is taken. */
  openUdp(
    plan: UdpPlan,
    counts: FlowCounts,
    events: FlowEvents,
    segmentation: boolean,
  ): Promise<UdpOpening>;
  /** Releases everything. Flows have to be stopped before. */
  close(): Promise<void>;
}

/** Makes the ground that TCP flows of one thread stand on. */
export function tcpGround(host: StreamHost, clockwork: Clockwork): TcpGround {
  const payloads: (ConstantBuffer | undefined)[] = [undefined, undefined, undefined, undefined];
  return {
    host,
    clockwork,
    scratch: new Uint8Array(new ArrayBuffer(SCRATCH_BYTES)),
    payload(random, sendfile) {
      const index = (random ? 1 : 0) + (sendfile ? 2 : 0);
      const bytes = (): Uint8Array => random ? randomPayload() : new Uint8Array(PAYLOAD_BYTES);
      return payloads[index] ??= host.createConstant(bytes(), { sendfile });
    },
  };
}

/** Makes the ground that UDP flows of one thread stand on. */
export function udpGround(host: DatagramHost, clockwork: Clockwork): UdpGround {
  return {
    host,
    clockwork,
    incoming: host.createBatch(INCOMING_ENTRIES, INCOMING_BYTES),
    heads: host.createBatch(HEAD_ENTRIES, SEQUENCE_BYTES, true),
  };
}

/**
 * Opens the place that carries data.
 *
 * @param driver How to reach the kernel.
 * @param workers Threads; used with the kernel's driver only, because the portable ones cannot hand connections over.
 * @throws {CapabilityError} When the driver that was demanded cannot be had.
 */
export async function openPlanes(
  driver: "auto" | "fast" | "portable",
  workers: number,
): Promise<DataPlanes> {
  const here = await LocalPlanes.open(driver);
  if (workers === 0 || !here.host.traits.detach) return here;
  // The worker's entry imports this file: loaded only where threads are started.
  const { ThreadPlanes } = await import("./thread_planes.ts");
  return new ThreadPlanes(here, workers);
}

/** Data on the event loop of the calling thread. */
export class LocalPlanes implements DataPlanes {
  readonly host: StreamHost;
  readonly clockwork: Clockwork;
  readonly workers = 0;
  readonly #timer: HostTimer;
  readonly #driver: "auto" | "fast" | "portable";
  #tcp: TcpGround | undefined;
  #udp: Promise<UdpGround> | undefined;

  private constructor(host: StreamHost, driver: "auto" | "fast" | "portable") {
    this.host = host;
    this.#driver = driver;
    this.clockwork = new Clockwork(systemClock);
    this.#timer = new HostTimer(this.clockwork);
  }

  /** @throws {CapabilityError} When the driver that was demanded cannot be had. */
  static async open(driver: "auto" | "fast" | "portable"): Promise<LocalPlanes> {
    return new LocalPlanes(await openStreamHost({ driver }), driver);
  }

  async prepare(protocol: "tcp" | "udp"): Promise<void> {
    if (protocol === "udp") await this.#udpGround();
  }

  openTcp(
    plan: TcpPlan,
    connections: readonly StreamConnection[],
    kept: readonly Uint8Array[],
    counts: FlowCounts,
    events: FlowEvents,
  ): DataFlow {
    const ground = this.#tcp ??= tcpGround(this.host, this.clockwork);
    return new TcpFlow(ground, plan, connections, kept, counts, events);
  }

  async openUdp(
    plan: UdpPlan,
    counts: FlowCounts,
    events: FlowEvents,
    segmentation: boolean,
  ): Promise<UdpOpening> {
    return await UdpFlow.open(await this.#udpGround(), plan, counts, events, segmentation);
  }

  async close(): Promise<void> {
    this.#timer.stop();
    await this.host.close();
    const udp = await this.#udp;
    await udp?.host.close();
  }

  #udpGround(): Promise<UdpGround> {
    return this.#udp ??= openDatagramHost({ driver: this.#driver }).then((host) =>
      udpGround(host, this.clockwork)
    );
  }
}

function randomPayload(): Uint8Array {
  const bytes = new Uint8Array(PAYLOAD_BYTES);
  // The platform gives at most this much at once.
  for (let at = 0; at < bytes.length; at += 65_536) bytes.set(secureRandom.bytes(65_536), at);
  return bytes;
}

/** Bytes of payload before it repeats: what one call sends, and small enough to stay in the cache (ffi.md). */
const PAYLOAD_BYTES = 262_144;
