/**
 * From a request to a running transfer: name, rules, content, options, socket, machine. Everything that happens once per
 * transfer; the plain case, a file of the root, takes no detour through a promise.
 *
 * @module
 */
import { type DatagramSocket, readAddress, type SocketAddress } from "../ffi/mod.ts";
import type { AccessOverrides, AccessRules } from "./access.ts";
import { type BlockSource, FileBlocks, NetasciiBlocks, translated } from "./blocks.ts";
import { Counter, type CounterRow } from "./counters.ts";
import type { Endpoint, Timed } from "./endpoint.ts";
import type { Handlers, ReadAnswer, RequestInfo, WriteAnswer } from "./handlers.ts";
import { isLoopback, Link } from "./link.ts";
import { resolveName } from "./path_policy.ts";
import { PortRange } from "./port_range.ts";
import {
  encodeOptionsAck,
  ERROR_ACCESS_VIOLATION,
  ERROR_DISK_FULL,
  ERROR_NOT_DEFINED,
  ERROR_NOT_FOUND,
  negotiate,
  type Negotiated,
  ReceiveMachine,
  SendMachine,
  type TransferResult,
} from "./protocol/mod.ts";
import { ReceivingTransfer } from "./receiving.ts";
import { RttCache } from "./rtt_cache.ts";
import { bothRates, RateGate } from "./rate_gate.ts";
import { type Rate, SendingTransfer } from "./sending.ts";
import type { Session } from "./session.ts";
import type { ResolvedServerSettings } from "./settings.ts";
import { FunctionSink, StoreSink } from "./sinks.ts";
import { type FileStore, type ReadSource, refusalOf, TftpRefusal } from "./store.ts";
import { MemorySource } from "./store_memory.ts";
import { StreamBlocks } from "./stream_blocks.ts";

/**
 * Shortest time before a first answer is repeated. TCP's minimum (tcp(7)): atftp 0.8 gives up on a repeated OACK, and a
 * busy machine, theirs or ours, can take 50 ms to get to an acknowledgement that is already there.
 */
const MIN_FIRST_TIMEOUT_MS = 200;
/** Bytes of an IP packet that a path is trusted with when nobody can say what it takes: Ethernet's. */
const ASSUMED_PATH_MTU = 1500;
/** Windows up to this size fit the smallest send buffer a kernel gives by default, with room to spare. */
const SMALL_WINDOW_BYTES = 32_768;
/** Longest options acknowledgement. */
const OPENING_BYTES = 1500;

/** Content and its owner, ready to be cut into blocks. */
type Content =
  | { readonly kind: "source"; readonly source: ReadSource }
  | {
    readonly kind: "stream";
    readonly stream: AsyncIterable<Uint8Array>;
    readonly size: number | undefined;
  };

/** The loop that transfers are started in. */
export interface OpeningHost {
  readonly endpoint: Endpoint;
  readonly settings: ResolvedServerSettings;
  readonly counters: CounterRow;
  /** Answers with an ERROR from the listening socket; the session ends. */
  refuse(
    session: Session,
    listener: DatagramSocket,
    local: DataView<ArrayBuffer> | undefined,
    code: number,
    message: string,
  ): void;
  /** A transfer is decided. */
  ended(session: Session, result: TransferResult): void;
  /** A session lets go of its peer. */
  release(session: Session): void;
  /** A transfer's socket will be closed: keep its counts. */
  retire(socket: DatagramSocket): void;
  /** Watches a transfer's own socket. */
  watchSession(session: Session, socket: DatagramSocket): void;
  /** Adds something with a deadline. */
  schedule(item: Timed): void;
}

/** See the module. */
export class Opening {
  readonly #loop: OpeningHost;
  readonly #endpoint: Endpoint;
  readonly #store: FileStore;
  readonly #handlers: Handlers;
  readonly #rtt = new RttCache();
  readonly #rates: RateGate;
  readonly #ports = new PortRange();

  constructor(loop: OpeningHost, store: FileStore, handlers: Handlers) {
    this.#loop = loop;
    this.#endpoint = loop.endpoint;
    this.#store = store;
    this.#handlers = handlers;
    this.#rates = new RateGate(loop.settings.limits.maxRateBps, loop.settings.limits.clientRateBps);
  }

  /** Closes the store. */
  async close(): Promise<void> {
    await this.#store.close();
  }

  /** Opens what `session` asks for and starts its transfer, now or when a handler, store or socket has answered. */
  open(
    session: Session,
    listener: DatagramSocket,
    local: DataView<ArrayBuffer> | undefined,
    rules: AccessRules,
    now: number,
  ): void {
    const refuse = (error: unknown): void => {
      const refusal = refusalOf(error);
      this.#loop.refuse(session, listener, local, refusal.tftpCode, refusal.message);
    };
    try {
      const { request } = session;
      const quirks = {
        trimGarbage: this.#loop.settings.trimGarbage,
        backslash: this.#loop.settings.backslash,
        windowsNames: false,
      };
      const name = resolveName(request.filename, request.filenameBytes, quirks);
      if ("refused" in name) {
        throw new TftpRefusal(ERROR_ACCESS_VIOLATION, "Access violation");
      }
      const decision = rules.decide(
        session.client,
        request.operation === "read" ? "get" : "put",
        name.text,
      );
      if (!decision.allowed) {
        const hide = request.operation === "read" && this.#loop.settings.hideExistence;
        throw hide
          ? new TftpRefusal(ERROR_NOT_FOUND, "File not found")
          : new TftpRefusal(ERROR_ACCESS_VIOLATION, "Access violation");
      }
      const { maxTransfersPerClient } = decision.overrides;
      if (
        maxTransfersPerClient !== undefined &&
        session.slot.clientTransfers > maxTransfersPerClient
      ) {
        throw new TftpRefusal(ERROR_NOT_DEFINED, "server busy");
      }
      const plan: Plan = { session, listener, local, overrides: decision.overrides };
      const handler = request.operation === "read" ? this.#handlers.onRead : this.#handlers.onWrite;
      if (handler !== undefined) {
        this.#handled(plan, name.text, refuse);
        return;
      }
      const opened = request.operation === "read"
        ? this.#read(plan, this.#store.openRead(name), now)
        : this.#write(plan, this.#store.openWrite(name, this.#announced(session)), now);
      if (opened !== undefined) opened.catch(refuse);
    } catch (error) {
      refuse(error);
    }
  }

  /** Asks the program, with a bound on its patience. */
  #handled(plan: Plan, name: string, refuse: (error: unknown) => void): void {
    const { session } = plan;
    const info: RequestInfo = Object.freeze({
      operation: session.request.operation,
      filename: name,
      mode: session.request.mode === "netascii" ? "netascii" : "octet",
      options: Object.freeze(Object.fromEntries(session.request.options)),
      remote: session.remote,
      local: plan.local === undefined ? undefined : readAddress(plan.local, 0),
      signal: session.handlingSignal(),
    });
    let settled = false;
    const settle = (finish: () => void): void => {
      if (settled) return;
      settled = true;
      this.#endpoint.deadlines.remove(session);
      session.deadline = Infinity;
      finish();
    };
    session.deadline = this.#endpoint.clock.now() + this.#loop.settings.handlerTimeoutMs;
    session.onTimeout = () =>
      settle(() => {
        session.stopHandling();
        refuse(new TftpRefusal(ERROR_NOT_DEFINED, "handler timed out"));
      });
    this.#loop.schedule(session);
    const answered = session.request.operation === "read"
      ? Promise.resolve().then(() => this.#handlers.onRead!(info)).then((answer) => () =>
        this.#readAnswer(plan, name, answer)
      )
      : Promise.resolve().then(() => this.#handlers.onWrite!(info)).then((answer) => () =>
        this.#writeAnswer(plan, name, answer)
      );
    answered.then(
      (act) =>
        settle(() => {
          if (session.closed) return;
          act().catch(refuse);
        }),
      (error) => settle(() => refuse(error)),
    );
  }

  async #readAnswer(plan: Plan, name: string, answer: ReadAnswer): Promise<void> {
    if (answer === undefined || (typeof answer === "object" && "file" in answer)) {
      const file = this.#named(answer?.file ?? name);
      await this.#read(plan, this.#store.openRead(file), this.#endpoint.clock.now());
      return;
    }
    if (typeof answer === "string" || answer instanceof Uint8Array) {
      const bytes = typeof answer === "string"
        ? new TextEncoder().encode(answer)
        : new Uint8Array(answer);
      await this.#read(plan, new MemorySource(bytes), this.#endpoint.clock.now());
      return;
    }
    await this.#send(plan, { kind: "stream", stream: answer.stream, size: answer.size });
  }

  async #writeAnswer(plan: Plan, name: string, answer: WriteAnswer): Promise<void> {
    if (typeof answer === "function") {
      await this.#receive(plan, new FunctionSink(answer));
      return;
    }
    const file = this.#named(answer?.file ?? name);
    const sink = this.#store.openWrite(file, this.#announced(plan.session));
    await this.#write(plan, sink, this.#endpoint.clock.now());
  }

  #named(text: string): Exclude<ReturnType<typeof resolveName>, { refused: unknown }> {
    const name = resolveName(text, undefined, {
      trimGarbage: false,
      backslash: false,
      windowsNames: false,
    });
    if ("refused" in name) throw new TftpRefusal(ERROR_ACCESS_VIOLATION, "Access violation");
    return name;
  }

  #read(
    plan: Plan,
    opened: ReadSource | Promise<ReadSource>,
    _now: number,
  ): void | Promise<void> {
    if (opened instanceof Promise) {
      return opened.then((source) => this.#send(plan, { kind: "source", source }));
    }
    return this.#send(plan, { kind: "source", source: opened });
  }

  /** Negotiates and starts a sending transfer. */
  #send(plan: Plan, content: Content): void | Promise<void> {
    const { session } = plan;
    if (session.closed) {
      dispose(content);
      return;
    }
    const netascii = session.request.mode === "netascii";
    try {
      let size: number | undefined;
      let source: ReadSource | undefined;
      if (content.kind === "source") {
        source = netascii ? translated(content.source) : content.source;
        size = netascii && source === content.source ? undefined : source.sizeBytes;
      } else if (!netascii) size = content.size;
      const agreed = this.#negotiate(plan, size);
      let blocks: BlockSource;
      if (source === undefined || content.kind === "stream") {
        const { stream, size } = content as Extract<Content, { kind: "stream" }>;
        blocks = new StreamBlocks(stream, size, netascii, agreed.blockSize, agreed.windowSize);
      } else if (netascii && source === content.source) {
        blocks = new NetasciiBlocks(source, agreed.blockSize, agreed.windowSize);
      } else blocks = new FileBlocks(source, agreed.blockSize);
      return this.#linked(
        plan,
        agreed,
        false,
        (link) => this.#startSending(plan, link, agreed, blocks),
        () => blocks.close(),
      );
    } catch (error) {
      dispose(content);
      throw error;
    }
  }

  #startSending(plan: Plan, link: Link, agreed: Negotiated, blocks: BlockSource): void {
    const { session } = plan;
    const loop = this.#loop;
    const now = this.#endpoint.clock.now();
    const opening = openingBytes(agreed);
    const machine = new SendMachine({
      role: "server",
      opening: opening.length > 0,
      blockSize: agreed.blockSize,
      windowSize: agreed.windowSize,
      rollover: agreed.rollover,
      sizeBytes: blocks instanceof FileBlocks ? blocks.sizeBytes : undefined,
      timeoutMs: agreed.timeoutMs,
      ...this.#timing(session, now),
      tailProbe: loop.settings.retry.tailProbe,
      pacing: loop.settings.retry.pacing,
    });
    const transfer = new SendingTransfer(this.#endpoint, link, machine, blocks, opening, {
      sent: (blocks, bytes) => {
        loop.counters[Counter.bytesSent]! += bytes;
        loop.counters[Counter.datagramsSent]! += blocks;
      },
      finished: (result) => {
        this.#measured(session, result.rttMs);
        loop.ended(session, result);
      },
      released: () => {
        loop.retire(link.socket);
        loop.release(session);
      },
    }, this.#rate(plan));
    session.sending = transfer;
    this.#begin(session, link, agreed);
    transfer.start(now);
    if (blocks instanceof StreamBlocks) {
      blocks.start({
        supplied: () => {
          transfer.supplied(this.#endpoint.clock.now());
          this.#endpoint.onDeadline();
        },
        failed: (error) => {
          const refusal = refusalOf(error);
          transfer.abort(refusal.tftpCode, refusal.message, this.#endpoint.clock.now());
        },
      });
    }
    this.#endpoint.onDeadline();
  }

  #write(
    plan: Plan,
    opened: StoreWrite | Promise<StoreWrite>,
    _now: number,
  ): void | Promise<void> {
    const start = (sink: StoreWrite): void | Promise<void> =>
      this.#receive(
        plan,
        new StoreSink(sink, {
          announced: this.#announced(plan.session),
          rejectMismatch: this.#loop.settings.write.rejectSizeMismatch,
          netascii: plan.session.request.mode === "netascii",
        }),
      );
    return opened instanceof Promise ? opened.then(start) : start(opened);
  }

  /** Negotiates and starts a receiving transfer. */
  #receive(plan: Plan, sink: StoreSink | FunctionSink): void | Promise<void> {
    const { session } = plan;
    if (session.closed) {
      sink.discard();
      return;
    }
    try {
      const announced = this.#announced(session);
      const limit = this.#loop.settings.write.maxFileBytes;
      if (
        sink instanceof FunctionSink && limit > 0 && announced !== undefined && announced > limit
      ) {
        throw new TftpRefusal(ERROR_DISK_FULL, "File too large");
      }
      const agreed = this.#negotiate(plan, announced);
      return this.#linked(
        plan,
        agreed,
        true,
        (link) => this.#startReceiving(plan, link, agreed, sink),
        () => sink.discard(),
      );
    } catch (error) {
      sink.discard();
      throw error;
    }
  }

  #startReceiving(
    plan: Plan,
    link: Link,
    agreed: Negotiated,
    sink: StoreSink | FunctionSink,
  ): void {
    const { session } = plan;
    const loop = this.#loop;
    const now = this.#endpoint.clock.now();
    const opening = openingBytes(agreed);
    const machine = new ReceiveMachine({
      role: "server",
      opening: opening.length > 0,
      blockSize: agreed.blockSize,
      windowSize: agreed.windowSize,
      rollover: agreed.rollover,
      reorder: true,
      timeoutMs: agreed.timeoutMs,
      ...this.#timing(session, now),
    });
    session.receiving = new ReceivingTransfer(this.#endpoint, link, machine, sink, opening, {
      received: (bytes) => {
        loop.counters[Counter.bytesReceived]! += bytes;
      },
      refusal: (error) => {
        const refusal = refusalOf(error);
        return { code: refusal.tftpCode, message: refusal.message };
      },
      finished: (result) => {
        this.#measured(session, result.rttMs);
        loop.ended(session, result);
      },
      released: () => {
        loop.retire(link.socket);
        loop.release(session);
      },
    });
    this.#begin(session, link, agreed);
    session.receiving.start(now);
    this.#endpoint.onDeadline();
  }

  #begin(session: Session, link: Link, agreed: Negotiated): void {
    session.blockSize = agreed.blockSize;
    session.windowSize = agreed.windowSize;
    this.#loop.counters[Counter.transfersStarted]!++;
    if (!this.#loop.settings.singlePort) this.#loop.watchSession(session, link.socket);
  }

  /** Gives the transfer its socket: the listening one, or one of its own on the address that was asked. */
  #linked(
    plan: Plan,
    agreed: Negotiated,
    receives: boolean,
    use: (link: Link) => void,
    abandon: () => void,
  ): void | Promise<void> {
    const { session, listener, local } = plan;
    const { settings } = this.#loop;
    const anyPort = !settings.sourcePortCheck;
    if (settings.singlePort) {
      use(new Link(this.#endpoint, listener, session.key, 0, local, false, { anyPort }));
      return;
    }
    const started = (socket: DatagramSocket): void => {
      if (session.closed) {
        abandon();
        socket.close().catch(() => {});
        return;
      }
      use(new Link(this.#endpoint, socket, session.key, 0, undefined, true, { anyPort }));
    };
    try {
      const opened = this.#openSocket(plan, agreed, receives);
      if (!(opened instanceof Promise)) {
        started(opened);
        return;
      }
      return opened.then(started, (error) => {
        abandon();
        throw error;
      });
    } catch (error) {
      abandon();
      throw error;
    }
  }

  #openSocket(
    plan: Plan,
    agreed: Negotiated,
    receives: boolean,
  ): DatagramSocket | Promise<DatagramSocket> {
    const { settings } = this.#loop;
    const bound = plan.local === undefined ? plan.listener.local : readAddress(plan.local, 0);
    // A window that the kernel's default holds leaves it alone: the client waits meanwhile.
    const large = agreed.blockSize * agreed.windowSize > SMALL_WINDOW_BYTES;
    const options = {
      // A mapped address is served on an IPv6 socket, as it was asked.
      dualStack: bound.family === "ipv6",
      coalesce: receives,
      receiveBufferBytes: receives ? settings.receiveBufferBytes : 0,
      sendBufferBytes: large && !receives ? settings.sendBufferBytes : 0,
    };
    const at = (port: number): SocketAddress => ({ ...bound, port });
    const { portRangeFirst: first, portRangeLast: last } = settings;
    if (first === 0) return this.#endpoint.host.open({ ...options, bind: at(0) });
    return this.#ports.open(
      first,
      last,
      (port) => this.#endpoint.host.open({ ...options, bind: at(port) }),
    );
  }

  #negotiate(plan: Plan, sizeBytes: number | undefined): Negotiated {
    const { session, overrides } = plan;
    const { settings } = this.#loop;
    const { request } = session;
    return negotiate(
      request.options,
      {
        maxBlockSize: Math.min(settings.maxBlockSize, overrides.maxBlockSize ?? Infinity),
        clampToMtu: settings.clampToMtu,
        maxWindowSize: Math.min(settings.maxWindowSize, overrides.maxWindowSize ?? Infinity),
        maxWindowBytes: settings.maxWindowBytes,
        refuseOptions: overrides.refuseOptions ?? settings.refuseOptions,
      },
      {
        operation: request.operation,
        mode: request.mode === "netascii" ? "netascii" : "octet",
        sizeBytes,
        pathMtu: isLoopback(session.remote)
          ? undefined
          : this.#endpoint.host.pathMtu(session.key, 0) ?? ASSUMED_PATH_MTU,
        ipv6: session.remote.family === "ipv6",
      },
    );
  }

  /** The size a write request announces, when it is a number. */
  #announced(session: Session): number | undefined {
    if (session.request.operation !== "write") return undefined;
    const text = session.request.options.find(([name]) => name === "tsize")?.[1];
    return text !== undefined && /^\d{1,15}$/.test(text) ? Number(text) : undefined;
  }

  #measured(session: Session, rttMs: number): void {
    if (rttMs > 0) this.#rtt.put(session.client, rttMs, this.#endpoint.clock.now());
  }

  /** The bounds on a transfer's rate: the server's, the client's, and its rule's own. */
  #rate({ session, overrides }: Plan): Rate | undefined {
    const common = this.#rates.of(session.client);
    const { maxRateBps = 0 } = overrides;
    return maxRateBps > 0 ? bothRates(common, new RateGate(maxRateBps, 0).of("")) : common;
  }

  #timing(session: Session, now: number): Timing {
    const { retry } = this.#loop.settings;
    const measured = this.#rtt.get(session.client, now);
    return {
      initialRtoMs: measured === undefined
        ? retry.initialTimeoutMs
        : Math.min(retry.initialTimeoutMs, Math.max(MIN_FIRST_TIMEOUT_MS, 2 * measured)),
      minRtoMs: retry.minTimeoutMs,
      maxRtoMs: retry.maxTimeoutMs,
      maxRetries: retry.maxRetries,
      maxIdleMs: retry.maxIdleMs,
      jitter: this.#endpoint.random.float(),
    };
  }
}

/** A request that passed the rules. */
interface Plan {
  readonly session: Session;
  readonly listener: DatagramSocket;
  readonly local: DataView<ArrayBuffer> | undefined;
  readonly overrides: AccessOverrides;
}

interface Timing {
  readonly initialRtoMs: number;
  readonly minRtoMs: number;
  readonly maxRtoMs: number;
  readonly maxRetries: number;
  readonly maxIdleMs: number;
  readonly jitter: number;
}

type StoreWrite = Exclude<ReturnType<FileStore["openWrite"]>, Promise<unknown>>;

/** Room to build an options acknowledgement in. */
const scratch: Uint8Array<ArrayBuffer> = new Uint8Array(OPENING_BYTES);

/** The options acknowledgement, or nothing when no option was agreed on. */
function openingBytes(agreed: Negotiated): Uint8Array {
  if (agreed.accepted.length === 0) return new Uint8Array(0);
  const end = encodeOptionsAck(scratch, 0, agreed.accepted);
  return scratch.slice(0, Math.max(0, end));
}

function dispose(content: Content): void {
  if (content.kind === "source") {
    content.source.close();
    return;
  }
  try {
    Promise.resolve(content.stream[Symbol.asyncIterator]().return?.()).catch(() => {});
  } catch {
    // Somebody reads it already; then it is theirs.
  }
}
