/**
 * The server on one thread: listening sockets, sessions, limits, the end of things. Runs the same on an event loop and on
 * a thread of its own; knows neither the machines' rules (`protocol/`) nor where content comes from (`opening.ts`).
 *
 * @module
 */
import {
  ADDRESS_BYTES,
  BROADCAST_PORT,
  copyAddress,
  type DatagramBatch,
  type DatagramCounters,
  type DatagramError,
  type DatagramSocket,
  readAddress,
  type SocketAddress,
  unmapAddress,
  writeAddress,
} from "../ffi/mod.ts";
import { AccessRules, RequestLimiter, TransferGate } from "./access.ts";
import type { AccessRule } from "./access.ts";
import { Counter, type CounterRow } from "./counters.ts";
import { addressCell, type Endpoint, type Timed } from "./endpoint.ts";
import { type Link, Source } from "./link.ts";
import { isLoopback } from "./link.ts";
import type { Opening, OpeningHost } from "./opening.ts";
import { PeerTable } from "./peer_table.ts";
import {
  classify,
  decodeRequest,
  ERROR,
  ERROR_ILLEGAL_OPERATION,
  ERROR_NOT_DEFINED,
  RRQ,
  type TransferResult,
  WRQ,
} from "./protocol/mod.ts";
import { Session, type SessionInfo, type TransferRecord } from "./session.ts";
import type { ResolvedServerSettings } from "./settings.ts";

/** Receives of one socket in one turn before others get their chance. */
const TURN_RECEIVES = 16;
/** Milliseconds between two ERROR 4 to the same malformed requester, and entries remembered for it. */
const ILLEGAL_INTERVAL_MS = 1000;
const ILLEGAL_REMEMBERED = 1024;
/** Answers a second to stray packets on the listening port, with `replyIllegal`. */
const STRAY_ANSWERS_PER_SECOND = 10;

/** A listening socket. */
interface Listener {
  readonly socket: DatagramSocket;
  readonly batch: DatagramBatch;
}

/** What happened, for whoever runs the loop. */
export interface LoopObserver {
  /** A transfer is decided. */
  transfer(record: TransferRecord): void;
}

/** See the module. */
export class ServerLoop implements OpeningHost {
  readonly endpoint: Endpoint;
  readonly settings: ResolvedServerSettings;
  readonly counters: CounterRow;
  readonly #opening: Opening;
  readonly #observer: LoopObserver;
  readonly #rules: AccessRules;
  readonly #limiter: RequestLimiter;
  readonly #gate: TransferGate;
  /** Loopback cannot be forged and cannot flood anyone else: only the total counts there. */
  readonly #localGate: TransferGate;
  readonly #listeners: Listener[] = [];
  readonly #sessions: PeerTable<Session> = new PeerTable<Session>();
  readonly #illegal = new Map<string, number>();
  #strayWindow = 0;
  #strayAnswers = 0;
  #accepting = true;
  #closed = false;
  readonly #idle: (() => void)[] = [];
  /** Gives a request to the thread that its sender's address picks; answers whether it was given away. */
  deal: ((batch: DatagramBatch, index: number, listener: number) => boolean) | undefined;
  /** Counts of sockets that are closed; open ones are added when asked. */
  readonly #retired: Float64Array = new Float64Array(6);

  constructor(
    endpoint: Endpoint,
    settings: ResolvedServerSettings,
    rules: readonly AccessRule[],
    opening: (loop: ServerLoop) => Opening,
    counters: CounterRow,
    observer: LoopObserver,
  ) {
    this.endpoint = endpoint;
    this.settings = settings;
    this.counters = counters;
    this.#observer = observer;
    this.#rules = new AccessRules(rules);
    const { limits } = settings;
    this.#limiter = new RequestLimiter({
      perClientPerSecond: limits.requestsPerSecondPerClient,
      perClientBurst: limits.requestBurstPerClient,
      totalPerSecond: 0,
      totalBurst: 0,
      maxClients: 4096,
    });
    this.#gate = new TransferGate({
      maxTransfers: limits.maxTransfers,
      maxTransfersPerClient: limits.maxTransfersPerClient,
      maxPending: limits.maxPendingAnswers,
    });
    this.#localGate = new TransferGate({
      maxTransfers: limits.maxTransfers,
      maxTransfersPerClient: Infinity,
      maxPending: Infinity,
    });
    this.#opening = opening(this);
  }

  /** Transfers that are not decided yet. */
  get active(): number {
    return this.#gate.active + this.#localGate.active;
  }

  /**
   * Opens a listening socket.
   *
   * @param reusePort Several threads listen on the same port.
   * @returns Where it is bound. @throws {SystemError}
   */
  async listen(
    bind: SocketAddress,
    dualStack: boolean,
    reusePort: boolean,
  ): Promise<SocketAddress> {
    const { settings, endpoint } = this;
    const socket = await endpoint.host.open({
      bind,
      dualStack,
      reusePort,
      packetInfo: true,
      segment: true,
      receiveBufferBytes: settings.receiveBufferBytes,
      sendBufferBytes: settings.singlePort ? settings.sendBufferBytes : 0,
    });
    // On a shared port uploads arrive here too, and need room for a block.
    const batch = settings.singlePort && settings.write.enabled ? endpoint.large : endpoint.small;
    const listener = { socket, batch };
    this.#listeners.push(listener);
    socket.watch(() => this.#listenerReady(listener));
    return socket.local;
  }

  /** Takes a request that another thread's listening socket, of the same number, received. */
  dealt(bytes: Uint8Array, peer: DataView, number: number): void {
    const listener = this.#listeners[number];
    if (listener === undefined || this.#closed) return;
    const batch = this.endpoint.small;
    batch.slab.bytes.set(bytes, 0);
    batch.starts[0] = 0;
    batch.lengths[0] = bytes.length;
    batch.segments[0] = 0;
    copyAddress(peer, 0, batch.peers, 0);
    batch.locals.setUint16(0, 0);
    this.#request(listener, batch, 0, this.endpoint.clock.now());
  }

  /** Descriptions of the running transfers. */
  sessions(): SessionInfo[] {
    const now = this.endpoint.clock.now();
    return this.#sessions.entries().filter((session) => !session.ended)
      .map((session) => session.info(now));
  }

  /** Accepts nothing new. Settles when the last transfer is decided. */
  drain(): Promise<void> {
    this.#accepting = false;
    return new Promise((resolve) => {
      this.#idle.push(resolve);
      this.#checkIdle();
    });
  }

  /** Ends everything at once, telling every peer. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#accepting = false;
    const now = this.endpoint.clock.now();
    for (const session of this.#sessions.entries()) {
      this.#abandon(session, "server shutting down", now, true);
    }
    this.#closed = true;
    this.publishSocketCounts();
    for (const { socket } of this.#listeners) {
      socket.watch(undefined);
      await socket.close();
    }
    await this.endpoint.host.close();
    await this.#opening.close();
    this.#checkIdle();
  }

  /** Brings the sockets' own counts into the shared row. Cheap; called about once a turn of the host timer. */
  publishSocketCounts(): void {
    const sums = Float64Array.from(this.#retired);
    for (const { socket } of this.#listeners) addCounters(sums, socket.counters());
    for (const session of this.#sessions.entries()) {
      const link = session.sending?.link ?? session.receiving?.link;
      if (link !== undefined && !this.settings.singlePort) {
        addCounters(sums, link.socket.counters());
      }
    }
    const row = this.counters;
    row[Counter.receiveCalls] = sums[0]!;
    row[Counter.sendCalls] = sums[1]!;
    row[Counter.wouldBlocks] = sums[2]!;
    row[Counter.sendDrops] = sums[3]!;
    row[Counter.receiveDrops] = sums[4]!;
    row[Counter.segmentationRefused] = sums[5]!;
  }

  /** A transfer's socket will be closed: keep its counts. */
  retire(socket: DatagramSocket): void {
    if (!this.settings.singlePort) addCounters(this.#retired, socket.counters());
  }

  /** Watches a transfer's own socket. */
  watchSession(session: Session, socket: DatagramSocket): void {
    socket.watch(() => this.#sessionReady(session, socket));
  }

  /** Adds something with a deadline. */
  schedule(item: Timed): void {
    this.endpoint.deadlines.add(item);
    this.endpoint.onDeadline();
  }

  /** Refuses a request; the session ends. */
  refuse(
    session: Session,
    listener: DatagramSocket,
    local: DataView<ArrayBuffer> | undefined,
    code: number,
    message: string,
  ): void {
    // Whoever asked has begun something else, or the server has stopped.
    if (session.closed) return;
    this.counters[Counter.requestsRefused]!++;
    this.counters[Counter.errorsSent]!++;
    this.endpoint.sendError(listener, session.key, local, code, message);
    this.ended(session, undefined, message, code);
    this.release(session);
  }

  /** A transfer is decided. */
  ended(
    session: Session,
    result: TransferResult | undefined,
    message?: string,
    code?: number,
  ): void {
    if (session.ended) return;
    session.ended = true;
    session.slot.end();
    const row = this.counters;
    const outcome = result?.outcome ?? "aborted";
    if (result !== undefined) {
      row[
        outcome === "done"
          ? Counter.transfersCompleted
          : outcome === "size-probe"
          ? Counter.sizeProbes
          : Counter.transfersFailed
      ]!++;
      row[Counter.blocksRetransmitted]! += result.retransmits;
      row[Counter.timeouts]! += result.timeouts;
      if (outcome === "peer-error") row[Counter.errorsReceived]!++;
      const link = session.sending?.link ?? session.receiving?.link;
      row[Counter.strangers]! += link?.strangers ?? 0;
      row[Counter.duplicateAcks]! += session.sending?.machine.duplicateAcks ?? 0;
      row[Counter.acksOutOfWindow]! += session.sending?.machine.acksOutOfWindow ?? 0;
    }
    const { request } = session;
    const errorCode = result?.errorCode ?? code;
    const text = result?.message ?? message;
    this.#observer.transfer(Object.freeze({
      operation: request.operation,
      filename: request.filename,
      mode: request.mode === "netascii" ? "netascii" : "octet",
      remote: session.remote,
      outcome,
      bytes: result?.bytes ?? 0,
      blocks: result?.blocks ?? 0,
      blockSize: session.blockSize,
      windowSize: session.windowSize,
      durationMs: this.endpoint.clock.now() - session.startedAt,
      retransmits: result?.retransmits ?? 0,
      timeouts: result?.timeouts ?? 0,
      rttMs: result?.rttMs ?? 0,
      ...(errorCode === undefined ? {} : { errorCode }),
      ...(text === undefined ? {} : { message: text }),
    }));
    this.#checkIdle();
  }

  /** A session lets go of its peer. */
  release(session: Session): void {
    if (session.closed) return;
    session.closed = true;
    session.stopHandling();
    this.endpoint.deadlines.remove(session);
    this.#sessions.remove(session);
  }

  /** Ends a session from this side, whatever it was at. */
  #abandon(session: Session, message: string, now: number, told: boolean): void {
    session.abort(ERROR_NOT_DEFINED, message, now, told);
    this.ended(session, undefined, message);
    this.release(session);
  }

  #checkIdle(): void {
    if (this.active > 0) return;
    for (const idle of this.#idle.splice(0)) idle();
  }

  #listenerReady(listener: Listener): void {
    const { socket, batch } = listener;
    for (let round = 0; !this.#closed; round++) {
      if (round === TURN_RECEIVES) {
        socket.again();
        return;
      }
      const count = socket.receiveNow(batch);
      if (count === 0) {
        if (round === 0) socket.drainErrors((error) => this.#listenerRefused(error));
        this.endpoint.onDeadline();
        return;
      }
      const now = this.endpoint.clock.now();
      for (let i = 0; i < count; i++) this.#incoming(listener, batch, i, now);
      if (this.settings.singlePort) this.#endOfSharedBatch(now);
      if (count < batch.capacity) break;
    }
    this.endpoint.onDeadline();
  }

  /** Who shares the listening port shares its errors. Those about vanished requesters concern nobody. */
  #listenerRefused({ kind, peer }: DatagramError): void {
    if (!this.settings.singlePort || kind !== "refused" || peer === undefined) return;
    const key = addressCell();
    writeAddress(key, 0, peer);
    const session = this.#sessions.find(key, 0);
    const now = this.endpoint.clock.now();
    session?.sending?.refused(now);
    session?.receiving?.refused(now);
  }

  #incoming(listener: Listener, batch: DatagramBatch, index: number, now: number): void {
    const row = this.counters;
    row[Counter.datagramsReceived]!++;
    const start = batch.starts[index]!;
    const end = start + batch.lengths[index]!;
    const kind = classify(batch.slab.view, start, end);
    if (kind === RRQ || kind === WRQ) {
      this.#request(listener, batch, index, now);
      return;
    }
    if (this.settings.singlePort) {
      const session = this.#sessions.find(batch.peers, index * ADDRESS_BYTES);
      if (session !== undefined) {
        this.#toSession(session, batch, index, now);
        return;
      }
    }
    row[Counter.datagramsRejected]!++;
    // Never an error for an error: two servers would entertain each other for ever.
    if (kind === ERROR || !this.settings.replyIllegal || end - start < 2) return;
    if (now - this.#strayWindow >= 1000) {
      this.#strayWindow = now;
      this.#strayAnswers = 0;
    }
    if (this.#strayAnswers++ < STRAY_ANSWERS_PER_SECOND) {
      this.#answer(listener, batch, index, ERROR_ILLEGAL_OPERATION, "Illegal TFTP operation");
    }
  }

  readonly #touched: Session[] = [];

  #toSession(session: Session, batch: DatagramBatch, index: number, now: number): void {
    this.#confirm(session);
    session.sending?.receive(batch, index, now);
    // A shared socket cannot stop listening for one: what its sink cannot take is lost, and comes again.
    if (session.receiving !== undefined && !session.receiving.congested) {
      session.receiving.receive(batch, index, now);
      if (!this.#touched.includes(session)) this.#touched.push(session);
    }
  }

  #endOfSharedBatch(now: number): void {
    for (const session of this.#touched) session.receiving?.endOfBatch(now);
    this.#touched.length = 0;
  }

  #sessionReady(session: Session, socket: DatagramSocket): void {
    const { receiving, sending } = session;
    const batch = receiving === undefined ? this.endpoint.small : this.endpoint.large;
    this.endpoint.heard();
    for (let round = 0; !session.closed; round++) {
      if (round === TURN_RECEIVES) {
        socket.again();
        break;
      }
      const count = socket.receiveNow(batch);
      const now = this.endpoint.clock.now();
      if (count === 0) {
        socket.drainErrors((error) => {
          if (error.kind === "refused") {
            sending?.refused(now);
            receiving?.refused(now);
          }
        });
        break;
      }
      this.counters[Counter.datagramsReceived]! += count;
      if (!session.confirmed && heardFrom(sending?.link ?? receiving?.link, batch, count)) {
        this.#confirm(session);
      }
      if (sending !== undefined) {
        for (let i = 0; i < count; i++) sending.receive(batch, i, now);
      } else if (receiving !== undefined) {
        for (let i = 0; i < count; i++) receiving.receive(batch, i, now);
        receiving.endOfBatch(now);
        if (receiving.pause(() => this.#resume(session, socket))) {
          // The sink is behind: the kernel's buffer is the queue now.
          socket.watch(undefined);
          break;
        }
      }
      if (count < batch.capacity) break;
    }
    this.endpoint.onDeadline();
  }

  #resume(session: Session, socket: DatagramSocket): void {
    this.watchSession(session, socket);
    this.#sessionReady(session, socket);
  }

  #confirm(session: Session): void {
    if (session.confirmed) return;
    session.confirmed = true;
    session.slot.confirm();
  }

  #request(listener: Listener, batch: DatagramBatch, index: number, now: number): void {
    const row = this.counters;
    const peerStart = index * ADDRESS_BYTES;
    // RFC 1123 §4.2.3.4: a request that was broadcast is not answered.
    if (isGroupAddress(batch.locals, peerStart)) {
      row[Counter.datagramsRejected]!++;
      return;
    }
    if (this.deal?.(batch, index, this.#listeners.indexOf(listener)) === true) return;
    const bytes = batch.slab.bytes;
    const start = batch.starts[index]!;
    const end = start + batch.lengths[index]!;
    const known = this.#sessions.find(batch.peers, peerStart);
    if (known !== undefined) {
      const verdict = known.judge(bytes, start, end, now);
      if (verdict !== "replace") {
        row[Counter.requestsRepeated]!++;
        if (verdict === "repeat") {
          known.sending?.repeatRequest(now);
          known.receiving?.repeatRequest(now);
        }
        return;
      }
      // Not told: an ERROR from the old port would look like the answer to the new request.
      this.#abandon(known, "replaced by a new request", now, false);
    }
    const remote = unmapAddress(readAddress(batch.peers, peerStart));
    const request = decodeRequest(bytes, start, end);
    if (typeof request === "number") {
      row[Counter.requestsMalformed]!++;
      if (this.#mayScold(remote.address, now)) {
        this.#answer(listener, batch, index, ERROR_ILLEGAL_OPERATION, "Malformed request");
      }
      return;
    }
    row[request.operation === "read" ? Counter.requestsRead : Counter.requestsWrite]!++;
    if (request.mode !== "octet" && request.mode !== "netascii") {
      const text = request.mode === "mail" ? "mail mode not supported" : "Unknown transfer mode";
      row[Counter.requestsRefused]!++;
      this.#answer(listener, batch, index, ERROR_ILLEGAL_OPERATION, text);
      return;
    }
    const local = isLoopback(remote);
    if (!this.#accepting) {
      row[Counter.requestsRefused]!++;
      this.#answer(listener, batch, index, ERROR_NOT_DEFINED, "server shutting down");
      return;
    }
    const gate = local ? this.#localGate : this.#gate;
    const allowed = local || this.#limiter.take(remote.address, now);
    const slot = allowed ? gate.begin(remote.address) : undefined;
    if (slot === undefined || typeof slot === "string") {
      row[Counter.requestsRefused]!++;
      this.#answer(listener, batch, index, ERROR_NOT_DEFINED, "server busy");
      return;
    }
    const session = new Session(
      request,
      bytes.slice(start, end),
      remote,
      remote.address,
      batch.peers,
      peerStart,
      slot,
      now,
    );
    this.#sessions.add(session);
    let from: DataView<ArrayBuffer> | undefined;
    if (batch.locals.getUint16(peerStart) !== 0) {
      from = addressCell();
      copyAddress(batch.locals, peerStart, from, 0);
    }
    this.#opening.open(session, listener.socket, from, this.#rules, now);
  }

  #answer(
    listener: Listener,
    batch: DatagramBatch,
    index: number,
    code: number,
    message: string,
  ): void {
    const peer = addressCell();
    copyAddress(batch.peers, index * ADDRESS_BYTES, peer, 0);
    let local: DataView<ArrayBuffer> | undefined;
    if (batch.locals.getUint16(index * ADDRESS_BYTES) !== 0) {
      local = addressCell();
      copyAddress(batch.locals, index * ADDRESS_BYTES, local, 0);
    }
    this.counters[Counter.errorsSent]!++;
    this.endpoint.sendError(listener.socket, peer, local, code, message);
  }

  /** Whether a sender of nonsense may be told so now. */
  #mayScold(client: string, now: number): boolean {
    const last = this.#illegal.get(client);
    if (last !== undefined && now - last < ILLEGAL_INTERVAL_MS) return false;
    this.#illegal.delete(client);
    if (this.#illegal.size >= ILLEGAL_REMEMBERED) {
      for (const oldest of this.#illegal.keys()) {
        this.#illegal.delete(oldest);
        break;
      }
    }
    this.#illegal.set(client, now);
    return true;
  }
}

/** Whether any of `count` datagrams comes from the peer itself. */
function heardFrom(link: Link | undefined, batch: DatagramBatch, count: number): boolean {
  for (let i = 0; i < count; i++) if (link?.check(batch, i) === Source.Peer) return true;
  return false;
}

/** Whether the address at a position is a multicast group or a broadcast address. */
function isGroupAddress(view: DataView, start: number): boolean {
  if (view.getUint16(start) === 0) return false;
  const { family, address, port } = unmapAddress(readAddress(view, start));
  if (port === BROADCAST_PORT) return true;
  if (family === "ipv6") return address.startsWith("ff");
  return Number(address.split(".")[0]) >= 224;
}

function addCounters(sums: Float64Array, counts: DatagramCounters): void {
  sums[0]! += counts.receiveCalls;
  sums[1]! += counts.sendCalls;
  sums[2]! += counts.wouldBlocks;
  sums[3]! += counts.sendDrops;
  sums[4]! += counts.receiveDrops;
  sums[5]! += counts.segmentationRefused;
}
