/**
 * One accepted connection of a server: its handshake, and the test that comes of it.
 *
 * @module
 */
import { FastwireError, type StreamConnection, unmapAddress } from "../ffi/mod.ts";
import type { SocketAddress } from "../ffi/mod.ts";
import { logger } from "../internal/log.ts";
import { secureRandom } from "../internal/random.ts";
import type { Accounts, AccountSession } from "./accounts.ts";
import type { EndReason, RefusalReason, ServerEvent, SessionInfo } from "./api_types.ts";
import type { Timed } from "./clockwork.ts";
import type { DataPlanes, UdpOpening } from "./data_planes.ts";
import { createFlowCounts, type DataFlow, type FlowCounts, type FlowEvents } from "./flow.ts";
import { closedEarly, type CpuLoad, Meter } from "./meter.ts";
import {
  type AuthMethod,
  type Command,
  type Decoy,
  DEFAULT_TCP_TX_BYTES,
  pacedWriteBytes,
  planOf,
  type ServerActions,
  ServerMachine,
  type ServerResult,
  STATUS_BYTES,
  type TestPlan,
  UDP_CLIENT_PORT_OFFSET,
  UDP_OVERHEAD_IPV4_BYTES,
  UDP_OVERHEAD_IPV6_BYTES,
  udpPayloadBytes,
  writeStatus,
} from "./protocol/mod.ts";
import { Progress } from "./progress.ts";
import { RunRate } from "./run_rate.ts";
import type { Sessions, UdpPorts } from "./sessions.ts";
import type { ResolvedServerSettings } from "./settings.ts";
import { Spending } from "./spending.ts";
import { Wire, type WireReader } from "./wire.ts";

/** What a server gives its sessions. */
export interface SessionGround {
  readonly settings: ResolvedServerSettings;
  readonly auth: AuthMethod;
  readonly accounts: Accounts | undefined;
  readonly decoy: Decoy;
  readonly planes: DataPlanes;
  readonly cpu: CpuLoad;
  readonly sessions: Sessions<ServerSession>;
  readonly ports: UdpPorts;
  readonly emit: (event: ServerEvent) => void;
  /** Numbers of sessions. */
  readonly nextId: () => number;
  /** The session is over and released. */
  readonly gone: (session: ServerSession) => void;
}

const log = logger("btest", "server");

/** A connection of a client, and its test. */
export class ServerSession implements Timed, ServerActions, WireReader, FlowEvents {
  /** Whom it is with, unmapped. */
  readonly peer: SocketAddress;
  readonly #ground: SessionGround;
  readonly #wire: Wire;
  readonly #machine: ServerMachine;
  readonly #joined: Wire[] = [];
  readonly #counts: FlowCounts = createFlowCounts();
  readonly #meter: Meter;
  readonly #warnings: string[] = [];
  #plan: TestPlan | undefined;
  #rate: RunRate | undefined;
  #capBps = 0;
  #udp: UdpOpening | undefined;
  #flow: DataFlow | undefined;
  #info: SessionInfo | undefined;
  #account: AccountSession | undefined;
  #token = 0;
  #leave: (() => void) | undefined;
  #expecting: (() => void) | undefined;
  /** The session that this connection asked to join. */
  #target: ServerSession | undefined;
  #stopReason: EndReason = "stopped";
  #refusal: RefusalReason | undefined;
  #progress: Progress | undefined;
  #spending: Spending | undefined;
  /** Connections that were closed since the last second. */
  #early = 0;
  #message: Uint8Array<ArrayBuffer> = new Uint8Array(STATUS_BYTES);

  /** Takes a connection and greets it. @param peer Whom it is with, unmapped: read once, where it was accepted. */
  constructor(ground: SessionGround, connection: StreamConnection, peer: SocketAddress) {
    this.#ground = ground;
    this.peer = peer;
    this.#meter = new Meter(this.#counts, ground.cpu);
    const { settings } = ground;
    this.#machine = new ServerMachine({
      auth: ground.auth,
      challenge: secureRandom.bytes(16),
      secret: secureRandom.bytes(32),
      decoy: ground.decoy,
      commandTimeoutMs: settings.commandTimeoutMs,
      authTimeoutMs: settings.authTimeoutMs,
      joinTimeoutMs: settings.joinTimeoutMs,
      controlTimeoutMs: settings.controlTimeoutMs,
      idleTimeoutMs: settings.idleTimeoutMs,
      maxDurationMs: settings.maxDurationMs,
    });
    this.#wire = new Wire(connection, this);
    ground.planes.clockwork.add(this);
    this.#machine.start(this.#now(), this);
    this.#touch();
    this.#wire.start();
  }

  get deadline(): number {
    // Silence and bounds of accounts are looked at more often than each second.
    const lookAt = this.#progress?.nextAt ?? Infinity;
    return Math.min(this.#machine.deadline, lookAt, this.#spending?.nextAt ?? Infinity);
  }

  /** Whether data flows. */
  get running(): boolean {
    return this.#flow !== undefined;
  }

  /** Ends it from this side. */
  stop(reason: EndReason): void {
    this.#stopReason = reason;
    this.#machine.stop(this);
  }

  /** Takes a connection that joins. */
  adopt(wire: Wire): void {
    this.#joined.push(wire);
    wire.handTo({ take: () => 0, closed: () => this.#joinClosed(wire) });
    if (!this.#machine.joined(this.#now(), this)) {
      this.#joined.splice(this.#joined.indexOf(wire), 1);
      void wire.close();
    }
    this.#touch();
  }

  expire(now: number): void {
    const progress = this.#progress;
    if (progress !== undefined) {
      if (progress.look(now)) this.#machine.dataArrived(now);
      if (progress.stalled(now)) return this.stop("idle");
    }
    const spending = this.#spending;
    if (spending !== undefined && now >= spending.nextAt && !spending.look(now)) {
      return this.stop("quota");
    }
    this.#machine.expire(now, this);
  }

  // What the wire tells.

  take(bytes: Uint8Array, start: number, end: number): number {
    const taken = this.#machine.receive(bytes, start, end, this.#now(), this);
    this.#touch();
    return taken;
  }

  closed(index: number = 0): void {
    if (index === 0) return this.#machine.closed(this);
    this.#early++;
  }

  // What the machine asks.

  write(bytes: Uint8Array): void {
    this.#wire.write(bytes);
  }

  lookUp(user: string, method: "md5" | "ecsrp5"): void {
    void this.#lookUp(user, method);
  }

  prepare(command: Command, user: string): void {
    this.#prepare(command, user).catch((error) => {
      log.error("A test could not be prepared: {error}", { event: "btest.prepare-failed", error });
      this.#refuse("not-allowed");
    });
  }

  join(token: number): void {
    this.#target = this.#ground.sessions.pending.find(token, this.peer.address);
  }

  run(connections: number): void {
    const { planes, emit, accounts, settings } = this.#ground;
    const command = this.#machine.command!;
    const plan = this.#plan!;
    this.#forgetToken();
    this.#info = Object.freeze({
      id: this.#ground.nextId(),
      peer: this.peer,
      user: this.#user,
      auth: this.#ground.auth,
      protocol: command.protocol,
      direction: command.direction,
      connections,
    });
    if (connections < command.connections && command.protocol === "tcp") {
      this.#warnings.push(
        `Of ${command.connections} connections ${connections} came within ${settings.joinTimeoutMs} ms`,
      );
    }
    const now = this.#now();
    this.#meter.start(now);
    this.#progress = new Progress(this.#counts, plan.clientSends, this.#stallMs(), now);
    if (accounts !== undefined) {
      this.#account = accounts.begin(this.#info);
      this.#spending = new Spending(this.#account, this.#counts, now);
    }
    emit({ kind: "start", session: this.#info });
    if (command.protocol === "udp") {
      this.#flow = this.#udp!;
      this.#udp!.start();
      return;
    }
    const wires = [this.#wire, ...this.#joined];
    this.#flow = planes.openTcp(
      {
        sends: plan.serverSends,
        receives: plan.clientSends,
        // Clients send no status over TCP: nothing has to be looked at.
        finds: false,
        randomData: command.randomData,
        sendfile: settings.txMode === "sendfile",
        blockBytes: command.txSize || DEFAULT_TCP_TX_BYTES,
        capBps: this.#capBps || Infinity,
        drainMs: DRAIN_MS,
      },
      wires.map((wire) => wire.connection),
      wires.map((wire) => wire.release()),
      this.#counts,
      this,
    );
  }

  second(_second: number, sequence: number): void {
    const now = this.#now();
    const interval = this.#meter.interval(now);
    // At the end of a test all of them are closed, which is nothing to be told.
    if (this.#early > 0) this.#warnings.push(closedEarly(this.#early));
    this.#early = 0;
    this.#rate!.second();
    this.#applyRate();
    if (sequence > 0) {
      const flag = this.#ground.settings.statusCpuFlag === "set";
      writeStatus(this.#message, 0, interval.localCpu ?? 0, flag, sequence, interval.rxBytes);
      if (this.#info!.protocol === "udp") this.#wire.write(this.#message);
      else this.#flow!.weave(this.#message);
    }
    this.#account?.interval(interval);
    this.#ground.emit({ kind: "interval", session: this.#info!, interval });
  }

  status(cpuPercent: number, _sequence: number, receivedBytes: number): void {
    this.#meter.status(cpuPercent, receivedBytes);
    this.#rate?.report(receivedBytes);
    this.#applyRate();
  }

  arrived(): void {}

  finish(result: ServerResult): void {
    this.#ground.planes.clockwork.remove(this);
    this.#forgetToken();
    const target = this.#target;
    if (result.outcome === "joined" && target !== undefined) {
      // In a turn of its own: the bytes of the join are still in the wire's hands.
      this.#wire.handTo({ take: () => 0, closed: () => {} });
      queueMicrotask(() => target.adopt(this.#wire));
      this.#ground.gone(this);
      return;
    }
    void this.#end(result);
  }

  /** Who logged in, as the peer wrote it. */
  #user = "";

  #now(): number {
    return this.#ground.planes.clockwork.now();
  }

  #touch(): void {
    this.#ground.planes.clockwork.touch(this);
  }

  async #lookUp(user: string, method: "md5" | "ecsrp5"): Promise<void> {
    const { accounts } = this.#ground;
    try {
      if (method === "md5") {
        const password = await accounts?.md5Password(user);
        this.#machine.verifyMd5(password, this.#now(), this);
      } else {
        const verifier = await accounts?.verifier(user);
        this.#machine.verifyEcSrp5(verifier, this.#now(), this);
      }
    } catch (error) {
      log.error("Accounts could not be asked: {error}", { event: "btest.accounts-failed", error });
      if (method === "md5") this.#machine.verifyMd5(undefined, this.#now(), this);
      else this.#machine.verifyEcSrp5(undefined, this.#now(), this);
    }
    this.#touch();
    this.#wire.offer();
  }

  async #prepare(command: Command, user: string): Promise<void> {
    const { sessions, accounts, planes, settings } = this.#ground;
    const { address } = this.peer;
    const { protocol, direction } = command;
    // Never from inside the machine's own call.
    await undefined;
    if (this.#machine.finished) return;
    this.#user = user;
    if (!sessions.hasPlace(address)) return this.#refuse("too-many");
    this.#leave = sessions.enter(address);
    this.#plan = planOf(command);
    const decision = await accounts?.checkStart({ user, address, protocol, direction });
    if (decision !== undefined && !decision.allowed) return this.#refuse("not-allowed");
    const caps = [command.remoteTxSpeed, decision?.maxTxBps ?? 0].filter((cap) => cap > 0);
    this.#capBps = caps.length > 0 ? Math.min(...caps) : 0;
    this.#rate = new RunRate(
      protocol,
      this.#plan,
      this.#capBps,
      settings.fairBoth,
      settings.udpStartBps,
      this.#counts,
    );
    await planes.prepare(protocol);
    let port = 0;
    if (protocol === "udp") {
      this.#udp = await this.#openUdp(command);
      port = this.#udp.local.port;
    }
    // The client may have gone meanwhile.
    if (this.#machine.finished) return void await this.#udp?.stop();
    if (protocol === "tcp" && command.connections > 1) {
      this.#token = sessions.pending.add(secureRandom.u32(), address, this);
      if (this.#token === 0) return this.#refuse("too-many");
      this.#expecting = sessions.expect(address);
    }
    this.#machine.accept(this.#token, port, this.#now(), this);
    this.#touch();
    this.#wire.offer();
  }

  async #openUdp(command: Command): Promise<UdpOpening> {
    const { planes, ports, settings } = this.#ground;
    const local = unmapAddress(this.#wire.connection.local);
    const overheadBytes = this.peer.family === "ipv4"
      ? UDP_OVERHEAD_IPV4_BYTES
      : UDP_OVERHEAD_IPV6_BYTES;
    for (let tries = 1;; tries++) {
      const port = ports.take();
      const plan = {
        sends: this.#plan!.serverSends,
        receives: this.#plan!.clientSends,
        randomData: command.randomData,
        payloadBytes: udpPayloadBytes(command.txSize, overheadBytes),
        overheadBytes,
        rateBps: this.#rate!.bps,
        peer: { ...this.peer, port: port + UDP_CLIENT_PORT_OFFSET },
        followsProbes: true,
        bind: { ...local, port },
        receiveBufferBytes: settings.receiveBufferBytes || UDP_BUFFER_BYTES,
      };
      try {
        return await planes.openUdp(plan, this.#counts, this, settings.segmentation);
      } catch (error) {
        const taken = error instanceof FastwireError && error.code === "system.address-in-use";
        if (!taken || tries === PORT_TRIES) throw error;
      }
    }
  }

  #refuse(reason: RefusalReason): void {
    this.#refusal = reason;
    this.#machine.refuse(this);
  }

  #joinClosed(wire: Wire): void {
    const at = this.#joined.indexOf(wire);
    if (at < 0 || this.#flow !== undefined) return;
    this.#joined.splice(at, 1);
    this.#machine.left();
    void wire.close();
  }

  /** How long a client may take nothing: TCP only, because a datagram leaves whether somebody is there or not. */
  #stallMs(): number {
    const { protocol, txSize } = this.#machine.command!;
    if (protocol === "udp" || !this.#plan!.serverSends) return Infinity;
    // One write of a slow cap may take longer than the silence that is borne.
    const bits = 8 * pacedWriteBytes(txSize || DEFAULT_TCP_TX_BYTES, this.#capBps || Infinity);
    return Math.min(this.#ground.settings.idleTimeoutMs, STALL_MS) +
      bits * 1000 / (this.#capBps || Infinity);
  }

  #applyRate(): void {
    if (this.#plan?.serverSends === true) this.#flow?.setRate(this.#rate!.bps);
  }

  #forgetToken(): void {
    if (this.#token !== 0) this.#ground.sessions.pending.remove(this.#token);
    this.#token = 0;
    this.#expecting?.();
    this.#expecting = undefined;
  }

  async #end(result: ServerResult): Promise<void> {
    const { emit, planes, auth } = this.#ground;
    const info = this.#info;
    const wires = [this.#wire, ...this.#joined];
    try {
      if (info === undefined) {
        await this.#udp?.stop();
        for (const wire of wires) await wire.close();
        const reason = this.#refusal ?? REFUSALS[result.outcome];
        if (reason !== undefined) {
          emit({ kind: "refused", peer: this.peer, user: result.user, reason });
        }
        return;
      }
      await this.#flow!.stop();
      if (info.protocol === "udp") await this.#wire.close();
      const now = this.#now();
      this.#spending?.settle();
      if (this.#meter.open) {
        const interval = this.#meter.interval(now);
        this.#account?.interval(interval);
        emit({ kind: "interval", session: info, interval });
      }
      const reason = result.outcome === "stopped"
        ? this.#stopReason
        : ENDS[result.outcome] ?? "peer-closed";
      const end = this.#meter.result(now, {
        auth,
        connections: info.connections,
        driver: planes.host.traits.driver,
        workers: planes.workers,
        reason,
        warnings: this.#warnings,
      });
      emit({ kind: "end", session: info, result: end });
      await this.#account?.end(end);
    } catch (error) {
      log.error("A session did not end well: {error}", { event: "btest.end-failed", error });
    } finally {
      this.#leave?.();
      this.#ground.gone(this);
    }
  }
}

const REFUSALS: Partial<Record<ServerResult["outcome"], RefusalReason>> = {
  "auth-failed": "auth-failed",
  "protocol-error": "protocol",
  "joined": "protocol",
  "refused": "not-allowed",
  "no-answer": "no-answer",
  "peer-closed": "no-answer",
};

const ENDS: Partial<Record<ServerResult["outcome"], EndReason>> = {
  "duration": "duration",
  "idle": "idle",
  "control-timeout": "control-timeout",
};

/** How long data that is on its way is waited for once a test is over, milliseconds. */
const DRAIN_MS = 100;
/** A client that takes nothing for so long is gone, milliseconds: what `TCP_USER_TIMEOUT` says where it can be set. */
const STALL_MS = 20_000;
/** Ports tried before a UDP test is refused. */
const PORT_TRIES = 64;
/** Kernel buffers of a UDP data socket, bytes, when nothing else is asked for. */
const UDP_BUFFER_BYTES = 33_554_432;
