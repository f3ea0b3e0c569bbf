/**
 * One test from the side that dials: its handshake, its further connections, its data.
 *
 * @module
 */
import {
  FastwireError,
  type SocketAddress,
  type StreamConnection,
  unmapAddress,
} from "../ffi/mod.ts";
import { secureRandom } from "../internal/random.ts";
import type { EndReason, TestInterval, TestResult } from "./api_types.ts";
import { clientError } from "./client_errors.ts";
import type { Timed } from "./clockwork.ts";
import type { DataPlanes, UdpOpening } from "./data_planes.ts";
import { createFlowCounts, type DataFlow, Flow, type FlowCounts, type FlowEvents } from "./flow.ts";
import { closedEarly, type CpuLoad, Meter } from "./meter.ts";
import { chooseTxSize } from "./options.ts";
import {
  type ClientActions,
  ClientMachine,
  type ClientResult,
  type Command,
  JoinMachine,
  planOf,
  STATUS_BYTES,
  type TestPlan,
  UDP_CLIENT_PORT_OFFSET,
  UDP_OVERHEAD_IPV4_BYTES,
  UDP_OVERHEAD_IPV6_BYTES,
  udpPayloadBytes,
  writeStatus,
} from "./protocol/mod.ts";
import { RunRate } from "./run_rate.ts";
import type { ResolvedClientOptions } from "./settings.ts";
import { Wire, type WireReader } from "./wire.ts";

/** What a test stands on. */
export interface ClientGround {
  readonly options: ResolvedClientOptions;
  readonly planes: DataPlanes;
  readonly cpu: CpuLoad;
  readonly onStart: (connections: number) => void;
  readonly onInterval: (interval: TestInterval) => void;
}

/** A test that runs. */
export class ClientRun implements Timed, ClientActions, WireReader, FlowEvents {
  /** The test, once it is over; rejects when it never began. */
  readonly result: Promise<TestResult>;
  readonly #ground: ClientGround;
  readonly #remote: SocketAddress;
  readonly #wire: Wire;
  readonly #machine: ClientMachine;
  readonly #command: Command;
  readonly #plan: TestPlan;
  readonly #counts: FlowCounts = createFlowCounts();
  readonly #meter: Meter;
  readonly #rate: RunRate;
  readonly #warnings: string[] = [];
  readonly #joined: Wire[] = [];
  readonly #startedAt: number;
  readonly #message: Uint8Array<ArrayBuffer> = new Uint8Array(STATUS_BYTES);
  #udp: Promise<UdpOpening> | undefined;
  #flow: DataFlow | undefined;
  #probed = false;
  #ran = false;
  /** Between the machine's `run()` and the data. */
  #opening = false;
  #connections = 0;
  /** Connections that were closed since the last second. */
  #early = 0;
  #ending: Promise<void> | undefined;
  #resolve: (result: TestResult) => void = () => {};
  #reject: (error: unknown) => void = () => {};

  /** Begins over a fresh connection. */
  constructor(ground: ClientGround, connection: StreamConnection) {
    const { options, planes } = ground;
    const { txSize, warning } = chooseTxSize(options);
    if (warning !== "") this.#warnings.push(warning);
    this.#ground = ground;
    this.#remote = connection.remote;
    this.#command = {
      protocol: options.protocol,
      direction: options.direction,
      randomData: options.randomData,
      connections: options.connections,
      txSize,
      clientBufferSize: 0,
      remoteTxSpeed: options.remoteTxSpeedBps,
      localTxSpeed: options.localTxSpeedBps,
    };
    this.#plan = planOf(this.#command);
    this.#meter = new Meter(this.#counts, ground.cpu);
    this.#rate = new RunRate(
      options.protocol,
      this.#plan,
      options.localTxSpeedBps,
      options.fairBoth,
      options.udpStartBps,
      this.#counts,
    );
    const { user, password } = options;
    this.#machine = new ClientMachine({
      command: this.#command,
      credentials: user === undefined ? undefined : { user, password: password ?? "" },
      secret: secureRandom.bytes(32),
      durationMs: options.durationMs === 0 ? Infinity : options.durationMs,
      natProbe: options.natProbe,
      answerTimeoutMs: options.answerTimeoutMs,
      joinTimeoutMs: options.joinTimeoutMs,
      controlTimeoutMs: options.controlTimeoutMs,
    });
    this.result = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#wire = new Wire(connection, this);
    this.#startedAt = planes.clockwork.now();
    this.#machine.start(this.#startedAt, this);
    planes.clockwork.add(this);
    this.#wire.start();
  }

  get deadline(): number {
    // No second passes and no test ends before its data flows.
    return this.#opening ? Infinity : this.#machine.deadline;
  }

  expire(now: number): void {
    if (!this.#opening) this.#machine.expire(now, this);
  }

  /** Ends the test from this side. */
  stop(): void {
    this.#machine.stop(this);
  }

  // What the wire and the flow tell.

  take(bytes: Uint8Array, start: number, end: number): number {
    const taken = this.#machine.receive(bytes, start, end, this.#now(), this);
    this.#touch();
    return taken;
  }

  closed(index: number = 0): void {
    if (index === 0) return this.#machine.closed(this);
    this.#early++;
  }

  arrived(): void {
    this.#machine.dataArrived();
  }

  // What the machine asks.

  write(bytes: Uint8Array): void {
    this.#wire.write(bytes);
  }

  join(token: number, count: number): void {
    // All at once: a server starts when the last one is there.
    for (let i = 0; i < count; i++) void this.#join(token);
  }

  dataPort(port: number): void {
    this.#udp = this.#openUdp(port);
    // Looked at when data is about to flow.
    this.#udp.catch(() => {});
  }

  run(connections: number): void {
    this.#connections = connections;
    this.#opening = true;
    // A server that ends the test at once still had one: its data and its end are read as such.
    if (this.#command.protocol === "tcp") this.#wire.pause();
    const missing = this.#machine.failedJoins;
    if (missing > 0) {
      this.#warnings.push(
        `Of ${this.#command.connections} connections ${missing} could not be opened`,
      );
    }
    // The wire still holds the bytes that brought this about.
    queueMicrotask(() => {
      this.#start().catch((error) => {
        this.#fail(error);
        this.stop();
      });
    });
  }

  probe(): void {
    if (this.#flow === undefined) this.#probed = true;
    else this.#flow.probe();
  }

  second(_second: number, sequence: number): void {
    const now = this.#now();
    const interval = this.#meter.interval(now);
    if (this.#early > 0) this.#warnings.push(closedEarly(this.#early));
    this.#early = 0;
    this.#rate.second();
    this.#applyRate();
    if (sequence > 0) {
      const flag = this.#ground.options.statusCpuFlag !== "clear";
      writeStatus(this.#message, 0, interval.localCpu ?? 0, flag, sequence, interval.rxBytes);
      this.#wire.write(this.#message);
    }
    this.#ground.onInterval(interval);
  }

  status(cpuPercent: number, _sequence: number, receivedBytes: number): void {
    this.#meter.status(cpuPercent, receivedBytes);
    this.#rate.report(receivedBytes);
    this.#applyRate();
  }

  finish(result: ClientResult): void {
    this.#ground.planes.clockwork.remove(this);
    this.#ending ??= this.#end(result).catch((error) => this.#fail(error));
  }

  #now(): number {
    return this.#ground.planes.clockwork.now();
  }

  #touch(): void {
    this.#ground.planes.clockwork.touch(this);
  }

  #fail(error: unknown): void {
    this.#reject(error);
  }

  /** Opens one more connection, to the address that the first one reached. */
  async #join(token: number): Promise<void> {
    const { planes, options } = this.#ground;
    try {
      const connection = await planes.host.connect({
        remote: this.#remote,
        timeoutMs: options.joinTimeoutMs,
        userTimeoutMs: USER_TIMEOUT_MS,
        sendBufferBytes: options.sendBufferBytes,
        receiveBufferBytes: options.receiveBufferBytes,
      });
      const join = new JoinMachine(token);
      const wire: Wire = new Wire(connection, {
        take: (bytes, start, end) => {
          const taken = join.receive(bytes, start, end, wire);
          const { state } = join;
          // Later, because the wire's bytes are still in its hands; once, because it leaves `#joining` then.
          if (state === "joined") queueMicrotask(() => this.#hasJoined(wire));
          else if (state === "failed") queueMicrotask(() => this.#joinFailed(wire));
          return taken;
        },
        closed: () => this.#joinFailed(wire),
      });
      if (this.#machine.finished) return void await wire.close();
      this.#joining.add(wire);
      wire.start();
    } catch {
      this.#machine.joinFailed(this.#now(), this);
      this.#touch();
    }
  }

  /** Connections in the middle of their handshake. */
  readonly #joining: Set<Wire> = new Set();

  #hasJoined(wire: Wire): void {
    if (!this.#joining.delete(wire)) return;
    // Too late: the test has begun without it, or is over.
    if (this.#machine.phase !== "joining") return void wire.close();
    this.#joined.push(wire);
    this.#machine.joined(this.#now(), this);
    this.#touch();
  }

  #joinFailed(wire: Wire): void {
    const at = this.#joined.indexOf(wire);
    if (at < 0 && !this.#joining.delete(wire)) return;
    void wire.close();
    if (at >= 0) {
      this.#joined.splice(at, 1);
      this.#warnings.push("A connection of the test was closed before data flowed");
      return;
    }
    this.#machine.joinFailed(this.#now(), this);
    this.#touch();
  }

  async #openUdp(port: number): Promise<UdpOpening> {
    const { planes, options } = this.#ground;
    const local = unmapAddress(this.#wire.connection.local);
    const peer = { ...unmapAddress(this.#remote), port };
    const overheadBytes = peer.family === "ipv4"
      ? UDP_OVERHEAD_IPV4_BYTES
      : UDP_OVERHEAD_IPV6_BYTES;
    const plan = {
      sends: this.#plan.clientSends,
      receives: this.#plan.serverSends,
      randomData: this.#command.randomData,
      payloadBytes: udpPayloadBytes(this.#command.txSize, overheadBytes),
      overheadBytes,
      rateBps: this.#rate.bps,
      peer,
      followsProbes: false,
      receiveBufferBytes: options.receiveBufferBytes || UDP_BUFFER_BYTES,
    };
    const open = (ownPort: number): Promise<UdpOpening> =>
      planes.openUdp(
        { ...plan, bind: { ...local, port: ownPort } },
        this.#counts,
        this,
        options.segmentation,
      );
    const wanted = port + UDP_CLIENT_PORT_OFFSET;
    try {
      return await open(wanted <= 0xffff ? wanted : 0);
    } catch (error) {
      const taken = error instanceof FastwireError && error.code === "system.address-in-use";
      if (!taken) throw error;
      // A server learns another port from the probes, as it does of a NAT.
      this.#warnings.push(`UDP port ${wanted} is taken here: another one is used`);
      return await open(0);
    }
  }

  async #start(): Promise<void> {
    const { planes, options, onStart } = this.#ground;
    const opened = await this.#udp;
    if (this.#machine.finished) return void await opened?.stop();
    this.#ran = true;
    onStart(this.#connections);
    const now = this.#now();
    this.#meter.start(now);
    this.#machine.flowing(now);
    this.#opening = false;
    this.#touch();
    if (opened !== undefined) {
      this.#flow = opened;
      opened.start();
      if (this.#probed) opened.probe();
      return;
    }
    const wires = [this.#wire, ...this.#joined];
    const plan = this.#plan;
    this.#flow = planes.openTcp(
      {
        sends: plan.clientSends,
        receives: plan.serverSends,
        finds: plan.serverReports,
        randomData: this.#command.randomData,
        sendfile: options.txMode === "sendfile",
        blockBytes: this.#command.txSize,
        capBps: options.localTxSpeedBps || Infinity,
        drainMs: DRAIN_MS,
      },
      wires.map((wire) => wire.connection),
      wires.map((wire) => wire.release()),
      this.#counts,
      this,
    );
  }

  #applyRate(): void {
    if (this.#plan.clientSends) this.#flow?.setRate(this.#rate.bps);
  }

  async #end(result: ClientResult): Promise<void> {
    const { planes, options, onInterval } = this.#ground;
    const now = this.#now();
    await undefined;
    for (const wire of this.#joining) await wire.close();
    if (!this.#ran) {
      await (await this.#udp?.catch(() => undefined))?.stop();
      for (const wire of [this.#wire, ...this.#joined]) await wire.close();
      return this.#fail(clientError(result, this.#remote, now - this.#startedAt));
    }
    await this.#flow!.stop();
    if (options.protocol === "udp") await this.#wire.close();
    const end = this.#now();
    if (this.#meter.open) onInterval(this.#meter.interval(end));
    const bytes = this.#counts[Flow.txBytes]! + this.#counts[Flow.rxBytes]!;
    if (bytes === 0) this.#warnings.push("No data came through");
    this.#resolve(this.#meter.result(end, {
      auth: result.auth,
      connections: this.#connections,
      driver: planes.host.traits.driver,
      workers: planes.workers,
      reason: REASONS[result.outcome] ?? "peer-closed",
      warnings: this.#warnings,
    }));
  }
}

const REASONS: Partial<Record<ClientResult["outcome"], EndReason>> = {
  "duration": "duration",
  "stopped": "stopped",
  "peer-closed": "peer-closed",
  "control-timeout": "control-timeout",
  "idle": "idle",
};

/** How long data that is on its way is waited for once a test is over, milliseconds. */
const DRAIN_MS = 500;
/** Unacknowledged data older than this ends a connection, milliseconds. */
export const USER_TIMEOUT_MS = 20_000;
/** Kernel buffers of a UDP data socket, bytes, when nothing else is asked for. */
const UDP_BUFFER_BYTES = 33_554_432;
