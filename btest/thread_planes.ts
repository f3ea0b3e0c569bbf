/**
 * Data on threads of its own: connections are made and greeted here, then handed over as descriptors.
 *
 * @module
 */
import {
  type SocketAddress,
  startThread,
  type StreamConnection,
  type StreamHost,
  type Thread,
} from "../ffi/mod.ts";
import type { Clockwork } from "./clockwork.ts";
import type { DataPlanes, UdpOpening } from "./data_planes.ts";
import type { DataFlow, FlowCounts, FlowEvents, TcpPlan, UdpPlan } from "./flow.ts";
import { type FromThread, refusalError, type ToThread } from "./thread_messages.ts";

type Protocol = "tcp" | "udp";

/** A running thread and how many flows it carries. */
class Member {
  readonly flows: Map<number, RemoteFlow> = new Map();
  #thread: Thread | undefined;

  /** @throws {CapabilityError} When the thread cannot have the kernel's driver. */
  static async start(protocol: Protocol): Promise<Member> {
    const member = new Member();
    const thread = await startThread(new URL("./data_worker.ts", import.meta.url), { protocol }, {
      onMessage: (message) => member.#receive(message as FromThread),
    });
    member.#thread = thread;
    // A thread that broke carries nothing any more: its tests end as if the peer had gone.
    thread.failed.catch(() => {
      for (const flow of [...member.flows.values()]) flow.broken();
    });
    return member;
  }

  post(message: ToThread): void {
    this.#thread!.post(message);
  }

  async close(): Promise<void> {
    await this.#thread?.close();
  }

  #receive(message: FromThread): void {
    this.flows.get(message.id)?.receive(message);
  }
}

/** A flow on another thread. */
class RemoteFlow implements UdpOpening {
  local: SocketAddress = NOWHERE;
  readonly #member: Member;
  readonly #id: number;
  readonly #events: FlowEvents;
  #rate = NaN;
  #stopped: Promise<void> | undefined;
  #resolve: (() => void) | undefined;
  #opened: ((error: unknown) => void) | undefined;

  constructor(member: Member, id: number, events: FlowEvents) {
    this.#member = member;
    this.#id = id;
    this.#events = events;
    member.flows.set(id, this);
  }

  /** Settles when the thread says that the socket is bound, or not. */
  opened(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#opened = (error) => error === undefined ? resolve() : reject(error);
    });
  }

  receive(message: FromThread): void {
    switch (message.kind) {
      case "opened":
        this.local = message.local;
        this.#opened?.(undefined);
        break;
      case "refused":
        this.#member.flows.delete(this.#id);
        this.#opened?.(refusalError(message.refusal));
        break;
      case "stopped":
        this.#member.flows.delete(this.#id);
        this.#resolve?.();
        break;
      case "status":
        if (this.#stopped !== undefined) break;
        this.#events.status(message.cpu, message.sequence, message.received);
        break;
      case "closed":
        if (this.#stopped === undefined) this.#events.closed(message.index);
        break;
      case "arrived":
        if (this.#stopped === undefined) this.#events.arrived();
        break;
    }
  }

  broken(): void {
    this.#member.flows.delete(this.#id);
    this.#opened?.(new TypeError("Cannot carry data: the thread ended"));
    if (this.#stopped === undefined) {
      this.#stopped = Promise.resolve();
      this.#events.closed(0);
    } else this.#resolve?.();
  }

  start(port?: number): void {
    this.#post({ kind: "start", id: this.#id, port });
  }

  setRate(bps: number): void {
    // Asked for with every report, and mostly the same.
    if (Object.is(bps, this.#rate)) return;
    this.#rate = bps;
    this.#post({ kind: "rate", id: this.#id, bps });
  }

  weave(status: Uint8Array): void {
    this.#post({ kind: "weave", id: this.#id, status: Uint8Array.from(status) });
  }

  probe(): void {
    this.#post({ kind: "probe", id: this.#id });
  }

  stop(): Promise<void> {
    return this.#stopped ??= new Promise((resolve) => {
      this.#resolve = resolve;
      this.#member.post({ kind: "stop", id: this.#id });
    });
  }

  #post(message: ToThread): void {
    if (this.#stopped === undefined) this.#member.post(message);
  }
}

/** Data planes on threads. */
export class ThreadPlanes implements DataPlanes {
  readonly host: StreamHost;
  readonly clockwork: Clockwork;
  readonly workers: number;
  readonly #here: DataPlanes;
  readonly #members: Readonly<Record<Protocol, Member[]>> = { tcp: [], udp: [] };
  readonly #starting: Readonly<Record<Protocol, Set<Promise<void>>>> = {
    tcp: new Set(),
    udp: new Set(),
  };
  #id = 0;

  /**
   * @param here Where connections are made; closed with this.
   * @param workers Threads of either protocol at most; they are started when tests need them.
   */
  constructor(here: DataPlanes, workers: number) {
    this.#here = here;
    this.host = here.host;
    this.clockwork = here.clockwork;
    this.workers = workers;
  }

  async prepare(protocol: Protocol): Promise<void> {
    const members = this.#members[protocol];
    const starting = this.#starting[protocol];
    const idle = members.some(({ flows }) => flows.size === 0);
    if (!idle && members.length + starting.size < this.workers) {
      const start = Member.start(protocol).then((member) => void members.push(member));
      starting.add(start);
      try {
        await start;
      } finally {
        starting.delete(start);
      }
    } else if (members.length === 0) await [...starting][0];
  }

  openTcp(
    plan: TcpPlan,
    connections: readonly StreamConnection[],
    kept: readonly Uint8Array[],
    counts: FlowCounts,
    events: FlowEvents,
  ): DataFlow {
    const member = this.#member("tcp");
    const flow = new RemoteFlow(member, ++this.#id, events);
    const descriptors = connections.map((connection) => connection.detach());
    member.post({ kind: "tcp", id: this.#id, plan, descriptors, kept, counts });
    return flow;
  }

  async openUdp(
    plan: UdpPlan,
    counts: FlowCounts,
    events: FlowEvents,
    segmentation: boolean,
  ): Promise<UdpOpening> {
    await this.prepare("udp");
    const member = this.#member("udp");
    const flow = new RemoteFlow(member, ++this.#id, events);
    const opened = flow.opened();
    member.post({ kind: "udp", id: this.#id, plan, segmentation, counts });
    await opened;
    return flow;
  }

  async close(): Promise<void> {
    for (const protocol of ["tcp", "udp"] as const) {
      await Promise.allSettled(this.#starting[protocol]);
      await Promise.all(this.#members[protocol].map((member) => member.close()));
    }
    await this.#here.close();
  }

  /** The one with least to do. */
  #member(protocol: Protocol): Member {
    let least: Member | undefined;
    for (const member of this.#members[protocol]) {
      if (least === undefined || member.flows.size < least.flows.size) least = member;
    }
    if (least === undefined) throw new TypeError("Cannot carry data: no thread was prepared");
    return least;
  }
}

const NOWHERE: SocketAddress = Object.freeze({ family: "ipv4", address: "0.0.0.0", port: 0 });
