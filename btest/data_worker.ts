/**
 * A thread that carries data: it sleeps in the kernel and wakes for readiness, for what the pacers owe and for messages.
 *
 * @module
 */
import { openDatagramHost, openStreamHost, type ThreadPort, threadPort } from "../ffi/mod.ts";
import { systemClock } from "../internal/time/clock.ts";
import { nextTurn } from "../internal/time/turn.ts";
import { Clockwork } from "./clockwork.ts";
import { tcpGround, udpGround } from "./data_planes.ts";
import type { DataFlow, FlowEvents } from "./flow.ts";
import { TcpFlow, type TcpGround } from "./tcp_flow.ts";
import {
  describeRefusal,
  type FromThread,
  type ThreadSetup,
  type ToThread,
} from "./thread_messages.ts";
import { UdpFlow, type UdpGround } from "./udp_flow.ts";

/** The two kinds of host, as far as the loop needs them. */
interface Waiter {
  readonly wakeDescriptor: number;
  turn(maxWaitMs: number): number;
  close(): Promise<void>;
}

class DataThread {
  readonly #port: ThreadPort;
  readonly #clockwork: Clockwork = new Clockwork(systemClock);
  readonly #flows: Map<number, DataFlow> = new Map();
  #tcp: TcpGround | undefined;
  #udp: UdpGround | undefined;
  /** Promises that flows wait for: the event loop has to run for them. */
  #awaited = 0;

  constructor(port: ThreadPort) {
    this.#port = port;
  }

  async open(protocol: "tcp" | "udp"): Promise<Waiter> {
    if (protocol === "tcp") {
      const host = await openStreamHost({ driver: "fast", wait: "thread" });
      this.#tcp = tcpGround(host, this.#clockwork);
      return host;
    }
    const host = await openDatagramHost({ driver: "fast", wait: "thread" });
    this.#udp = udpGround(host, this.#clockwork);
    return host;
  }

  async loop(host: Waiter): Promise<void> {
    const port = this.#port;
    while (!port.closing) {
      const wait = this.#awaited > 0 ? 0 : this.#clockwork.next - this.#clockwork.now();
      host.turn(Math.max(0, Math.min(wait, MAX_SLEEP_MS)));
      this.#clockwork.run();
      if (this.#awaited > 0) await nextTurn();
      if (port.pending()) await port.drain();
      else if (this.#clockwork.gathers) this.#gather();
    }
    for (const flow of this.#flows.values()) await flow.stop();
  }

  /** Sleeps a moment without being woken by what arrives. */
  #gather(): void {
    this.#clockwork.gathers = false;
    if (this.#clockwork.next - this.#clockwork.now() < GATHER_MS) return;
    Atomics.wait(NEVER, 0, 0, GATHER_MS);
  }

  receive(message: ToThread): void {
    const flow = this.#flows.get(message.id);
    switch (message.kind) {
      case "tcp":
        return this.#openTcp(message);
      case "udp":
        return this.#await(this.#openUdp(message));
      case "start":
        return (flow as UdpFlow | undefined)?.start(message.port);
      case "rate":
        return flow?.setRate(message.bps);
      case "weave":
        return flow?.weave(message.status);
      case "probe":
        return flow?.probe();
      case "stop":
        return this.#await(this.#stop(message.id));
    }
  }

  #openTcp({ id, plan, descriptors, kept, counts }: ToThread & { readonly kind: "tcp" }): void {
    const ground = this.#tcp!;
    const connections = descriptors.map((descriptor) => ground.host.adopt(descriptor));
    const flow = new TcpFlow(ground, plan, connections, kept, counts, this.#events(id));
    this.#flows.set(id, flow);
  }

  async #openUdp(
    { id, plan, counts, segmentation }: ToThread & { readonly kind: "udp" },
  ): Promise<void> {
    try {
      const flow = await UdpFlow.open(this.#udp!, plan, counts, this.#events(id), segmentation);
      this.#flows.set(id, flow);
      this.#post({ kind: "opened", id, local: flow.local });
    } catch (error) {
      this.#post({ kind: "refused", id, refusal: describeRefusal(error) });
    }
  }

  async #stop(id: number): Promise<void> {
    await this.#flows.get(id)?.stop();
    this.#flows.delete(id);
    this.#post({ kind: "stopped", id });
  }

  #events(id: number): FlowEvents {
    return {
      status: (cpu, sequence, received) =>
        this.#post({ kind: "status", id, cpu, sequence, received }),
      closed: (index) => this.#post({ kind: "closed", id, index }),
      arrived: () => this.#post({ kind: "arrived", id }),
    };
  }

  #await(work: Promise<void>): void {
    this.#awaited++;
    work.then(() => this.#awaited--);
  }

  #post(message: FromThread): void {
    this.#port.post(message);
  }
}

async function run(): Promise<void> {
  const port = threadPort();
  const thread = new DataThread(port);
  const host = await thread.open((port.data as ThreadSetup).protocol);
  port.onMessage((message) => {
    if (message !== undefined) thread.receive(message as ToThread);
  });
  port.ready(host.wakeDescriptor);
  await thread.loop(host);
  await host.close();
  port.done();
}

/** Nobody writes here. */
const NEVER: Int32Array<SharedArrayBuffer> = new Int32Array(new SharedArrayBuffer(4));
/**
 * How long data gathers, milliseconds; the kernel adds 0.05. A receiver woken for each piece spends more time on
 * falling asleep than on the data, and the sender as much on waking it: with this, TCP and UDP go 10 to 20 % faster at
 * two fifths of the receiver's processor time (bench:btest, ADR 0021). Three times as long costs rate.
 */
const GATHER_MS = 0.2;
/** Longest sleep, milliseconds. */
const MAX_SLEEP_MS = 1000;

void run();
