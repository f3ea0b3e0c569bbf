/**
 * The TFTP client: one socket per transfer, as many transfers at once as are started.
 *
 * @module
 */
import {
  type DatagramBatch,
  type DatagramHost,
  type DatagramSocket,
  openDatagramHost,
  resolveDriver,
  resolveHost,
  type SocketAddress,
  writeAddress,
} from "../ffi/mod.ts";
import { secureRandom } from "../internal/random.ts";
import { systemClock } from "../internal/time/clock.ts";
import { nextTurn } from "../internal/time/turn.ts";
import { type BlockSource, FileBlocks, NetasciiBlocks } from "./blocks.ts";
import { addressCell, Endpoint } from "./endpoint.ts";
import {
  type Attempt,
  Completion,
  requestBytes,
  type SendContent,
  type TransferOptions,
  type TransferSummary,
} from "./client_attempt.ts";
import { abortedMessage, isPeerError, TransferError } from "./client_errors.ts";
import { piecesOf } from "./client_read.ts";
import { Link } from "./link.ts";
import { LoopTimer } from "./loop_timer.ts";
import { resolveClientOptions } from "./options.ts";
import {
  NO_OPTIONS,
  type OptionPair,
  ReceiveMachine,
  requestOptions,
  SendMachine,
  verifyOptionsAck,
} from "./protocol/mod.ts";
import { type BlockSink, ReceivingTransfer } from "./receiving.ts";
import { SendingTransfer } from "./sending.ts";
import type { ClientOptions, ResolvedClientOptions } from "./settings.ts";
import { FunctionSink, MemorySink } from "./sinks.ts";
import type { ReadSource } from "./store.ts";
import { MemorySource } from "./store_memory.ts";
import { StreamBlocks } from "./stream_blocks.ts";

/** Milliseconds the calling thread blocks at most before the event loop has its turn, with `wait: "thread"`. */
const SLICE_MS = 2;
/** Blocks up to this size pass nearly every tunnel; larger ones are given up for 512 when nothing comes back. */
const SAFE_BLOCK_BYTES = 1428;
/** Largest file that is gathered in memory. */
const MAX_MEMORY_BYTES = 0x7fff_ffff;
/** What the kernel charges a receive buffer for a datagram, beyond its bytes. */
const DATAGRAM_OVERHEAD_BYTES = 800;

/**
 * A client of one server. Holds no socket between transfers. Made by `connect()`.
 */
export class TftpClient implements AsyncDisposable {
  /** The server's address; its port is the one requests go to. */
  readonly server: SocketAddress;
  readonly #options: ResolvedClientOptions;
  readonly #given: ClientOptions;
  readonly #host: DatagramHost;
  readonly #endpoint: Endpoint;
  readonly #timer: LoopTimer | undefined;
  /** Transfers that still hold a socket, and how to end each. */
  readonly #transfers = new Map<Transfer, (reason: unknown) => void>();
  readonly #running = new Set<Completion>();
  #turning: Promise<void> | undefined;
  #closed = false;

  /**
   * Use `connect()`, which chooses the driver.
   *
   * @param host Owned by the client from now on.
   */
  constructor(server: SocketAddress, given: ClientOptions, host: DatagramHost) {
    this.server = server;
    this.#given = given;
    this.#options = resolveClientOptions(given);
    this.#host = host;
    this.#endpoint = new Endpoint(host, systemClock, secureRandom, this.#options.spinMs);
    if (this.#blocking) return;
    this.#timer = new LoopTimer(this.#endpoint);
  }

  /** The driver that carries the datagrams. */
  get driver(): "linux" | "node" {
    return this.#host.traits.driver;
  }

  /** Why a faster driver is not used; empty when there is none. */
  get fallbackReason(): string {
    return this.#host.fallbackReason;
  }

  /** Fetches a file into memory (at most 2 GiB). */
  async get(name: string, options: TransferOptions = {}): Promise<Uint8Array> {
    const resolved = this.#resolve(options);
    let sink!: MemorySink;
    await this.#receive(name, resolved, options, () => {
      sink = new MemorySink(resolved.mode === "netascii", 65536, MAX_MEMORY_BYTES);
      return sink;
    });
    return sink.content;
  }

  /** Fetches a file into a sink. `open` is called once per attempt, and once more without options if those fail. */
  receive(
    name: string,
    open: () => BlockSink,
    options: TransferOptions = {},
  ): Promise<TransferSummary> {
    return this.#receive(name, this.#resolve(options), options, open);
  }

  /** Fetches a file as it comes. Ending the iteration early ends the transfer. */
  read(name: string, options: TransferOptions = {}): AsyncGenerator<Uint8Array, void> {
    return piecesOf(
      (open, signal) => this.receive(name, open, { ...options, signal }),
      options.mode ?? this.#options.mode,
      options.signal,
    );
  }

  /** Stores bytes, or what comes from a stream, under a name. */
  put(
    name: string,
    content: Uint8Array | SendContent,
    options: TransferOptions = {},
  ): Promise<TransferSummary> {
    return this.#send(name, content, this.#resolve(options), options);
  }

  /**
   * The size of a file, from the server's answer to `tsize`; the transfer is broken off before any data.
   *
   * @returns Bytes, or `undefined` when the server does not tell.
   */
  async stat(name: string, options: TransferOptions = {}): Promise<number | undefined> {
    const resolved = { ...this.#resolve(options), transferSize: true, fallback: false };
    let size: number | undefined;
    try {
      await this.#receive(
        name,
        resolved,
        { signal: options.signal },
        () => new FunctionSink(() => {}),
        (told) => size = told,
      );
    } catch (error) {
      if (error !== STAT_DONE) throw error;
    }
    return size;
  }

  /** Ends the running transfers, whose promises reject with an `AbortError`; idempotent. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    const reason = new DOMException("The client was closed", "AbortError");
    for (const end of [...this.#transfers.values()]) end(reason);
    this.#timer?.stop();
    await this.#host.close();
  }

  /** The same as {@linkcode close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  get #blocking(): boolean {
    return this.#options.wait === "thread" && this.#host.traits.driver === "linux";
  }

  #resolve(options: TransferOptions): ResolvedClientOptions {
    const { signal: _signal, onProgress: _onProgress, ...own } = options;
    return Object.keys(own).length === 0
      ? this.#options
      : resolveClientOptions({ ...this.#given, ...own });
  }

  /** Runs attempts until one decides: with options, without them, with small blocks. */
  async #attempts(
    operation: "read" | "write",
    name: string,
    options: ResolvedClientOptions,
    transfer: TransferOptions,
    size: number | undefined,
    run: (attempt: Attempt) => Promise<TransferSummary>,
    repeatable: () => boolean = () => true,
  ): Promise<TransferSummary> {
    if (this.#closed) throw new TypeError("Cannot start a transfer: the client is closed");
    transfer.signal?.throwIfAborted();
    let blockSize = options.noOptions ? 512 : this.#blockSize(options);
    const windowSize = options.noOptions ? 1 : options.windowSize;
    const attempt = (pairs: readonly OptionPair[], maxRetries: number): Attempt => ({
      operation,
      name,
      options,
      pairs,
      blockSize: pairs.length === 0 ? 512 : blockSize,
      windowSize: pairs.length === 0 ? 1 : windowSize,
      maxRetries,
      signal: transfer.signal,
      onProgress: transfer.onProgress,
    });
    const pairs = (): readonly OptionPair[] =>
      options.noOptions ? [] : requestOptions({
        blockSize,
        windowSize,
        timeoutMs: options.timeoutSeconds > 0 ? options.timeoutSeconds * 1000 : undefined,
        transferSize: size ?? (operation === "read" && options.transferSize ? 0 : undefined),
        rollover: options.rollover === "auto" ? undefined : options.rollover === "1" ? 1 : 0,
      });
    const first = pairs();
    // A path that swallows large packets shows as silence after the options were agreed on.
    const suspicious = blockSize > SAFE_BLOCK_BYTES && !this.server.address.startsWith("127.") &&
      this.server.address !== "::1";
    try {
      return await run(attempt(first, suspicious ? Math.min(3, options.retries) : options.retries));
    } catch (error) {
      if (
        !(error instanceof TransferError) || first.length === 0 || error.bytes > 0 || !repeatable()
      ) {
        throw error instanceof TransferError ? error.error : error;
      }
      const refused = options.fallback && isPeerError(error.error, [8, 0, 4]);
      if (!refused && !(suspicious && error.optionsAgreed && error.outcome === "no-answer")) {
        throw error.error;
      }
      blockSize = 512;
      try {
        return await run(attempt(refused ? [] : pairs(), options.retries));
      } catch (second) {
        throw second instanceof TransferError ? second.error : second;
      }
    }
  }

  #receive(
    name: string,
    options: ResolvedClientOptions,
    transfer: TransferOptions,
    open: () => BlockSink,
    sized?: (size: number | undefined) => void,
  ): Promise<TransferSummary> {
    return this.#attempts(
      "read",
      name,
      options,
      transfer,
      undefined,
      (attempt) =>
        this.#run(attempt, (link, opening, done) => {
          let agreed = NO_OPTIONS;
          let sink: BlockSink;
          try {
            sink = open();
          } catch (error) {
            done.failed(error);
            return undefined;
          }
          const machine = new ReceiveMachine({
            role: "client",
            opening: true,
            blockSize: attempt.blockSize,
            windowSize: attempt.windowSize,
            rollover: options.rollover === "auto" ? "auto" : options.rollover === "1" ? 1 : 0,
            reorder: options.reorder,
            timeoutMs: undefined,
            ...this.#timing(attempt),
          });
          const moved = { bytes: 0, totalBytes: undefined as number | undefined };
          const running = new ReceivingTransfer(this.#endpoint, link, machine, sink, opening, {
            verify: (answered) => {
              const verified = verifyOptionsAck(attempt.pairs, answered, options);
              if ("refused" in verified) return verified;
              if (done.agreed === undefined) {
                agreed = verified;
                done.agreed = verified;
                moved.totalBytes = verified.transferSize;
                if (sized !== undefined) {
                  sized(verified.transferSize);
                  done.failure = STAT_DONE;
                  return { refused: "User aborted the transfer" };
                }
                if (sink instanceof MemorySink && verified.transferSize !== undefined) {
                  sink.expect(Math.min(verified.transferSize, 1_073_741_824));
                }
              }
              return verified;
            },
            received: (bytes) => {
              moved.bytes += bytes;
              done.progress(moved.bytes, moved.totalBytes, machine.retransmits);
            },
            refusal: (error) => {
              done.failure = error;
              return { code: 3, message: "cannot store the file" };
            },
            finished: (result) => done.finished(result, agreed.blockSize, agreed.windowSize),
            released: () => this.#transfers.delete(running),
          });
          if (sized !== undefined) {
            done.onData = () => {
              // DATA instead of an answer to the options: the server does not tell.
              if (machine.receivedBlocks === 0) return;
              sized(undefined);
              done.failure = STAT_DONE;
              running.abort(0, abortedMessage, this.#endpoint.clock.now());
            };
          }
          return running;
        }),
    );
  }

  #send(
    name: string,
    content: Uint8Array | SendContent,
    options: ResolvedClientOptions,
    transfer: TransferOptions,
  ): Promise<TransferSummary> {
    const plain: SendContent = content instanceof Uint8Array
      ? { source: new MemorySource(content) }
      : "source" in content
      ? { source: borrowed(content.source) }
      : content;
    const netascii = options.mode === "netascii";
    let streamed: StreamBlocks | undefined;
    const size = netascii ? undefined : "source" in plain ? plain.source.sizeBytes : plain.size;
    return this.#attempts(
      "write",
      name,
      options,
      transfer,
      size,
      (attempt) =>
        this.#run(attempt, (link, opening, done) => {
          let agreed = NO_OPTIONS;
          const begin = (blockSize: number, windowSize: number): BlockSource => {
            if ("source" in plain) {
              return netascii
                ? new NetasciiBlocks(plain.source, blockSize, windowSize)
                : new FileBlocks(plain.source, blockSize);
            }
            streamed = new StreamBlocks(plain.stream, plain.size, netascii, blockSize, windowSize);
            const stream = streamed;
            queueMicrotask(() =>
              stream.start({
                supplied: () => running.supplied(this.#endpoint.clock.now()),
                failed: (error) => {
                  done.failure = error;
                  running.abort(0, "cannot read the content", this.#endpoint.clock.now());
                },
              })
            );
            return stream;
          };
          const machine = new SendMachine({
            role: "client",
            opening: true,
            blockSize: attempt.blockSize,
            windowSize: attempt.windowSize,
            rollover: options.rollover === "1" ? 1 : 0,
            sizeBytes: "source" in plain && !netascii ? plain.source.sizeBytes : undefined,
            timeoutMs: undefined,
            ...this.#timing(attempt),
            tailProbe: true,
            pacing: true,
          });
          const running = new SendingTransfer(this.#endpoint, link, machine, undefined, opening, {
            verify: (answered) => {
              const verified = verifyOptionsAck(attempt.pairs, answered, options);
              if (!("refused" in verified) && done.agreed === undefined) {
                agreed = verified;
                done.agreed = verified;
              }
              return verified;
            },
            begin,
            failed: (error) => {
              done.failure = error;
            },
            acknowledged: (blocks) =>
              done.progress(
                Math.min(blocks * machine.blockSize, size ?? Infinity),
                size,
                machine.retransmits,
              ),
            finished: (result) => done.finished(result, agreed.blockSize, agreed.windowSize),
            released: () => this.#transfers.delete(running),
          });
          return running;
        }),
      // What a stream has yielded is gone.
      () => streamed === undefined,
    );
  }

  /** One attempt on one socket. */
  async #run(
    attempt: Attempt,
    start: (link: Link, opening: Uint8Array, done: Completion) => Transfer | undefined,
  ): Promise<TransferSummary> {
    const endpoint = this.#endpoint;
    const socket = await this.#host.open({
      bind: this.server.family === "ipv4"
        ? { family: "ipv4", address: "0.0.0.0", port: 0 }
        : { family: "ipv6", address: "::", port: 0 },
      coalesce: attempt.operation === "read",
      receiveBufferBytes: attempt.options.receiveBufferBytes,
      sendBufferBytes: attempt.operation === "write" ? attempt.options.receiveBufferBytes : 0,
    });
    if (this.#closed || attempt.signal?.aborted === true) {
      await socket.close();
      attempt.signal?.throwIfAborted();
      throw new DOMException("The client was closed", "AbortError");
    }
    const peer = addressCell();
    writeAddress(peer, 0, this.server);
    const link = new Link(endpoint, socket, peer, 0, undefined, true, {
      learnPort: true,
      learnHost: attempt.options.anySourceAddress,
    });
    const opening = requestBytes(attempt);
    return await new Promise<TransferSummary>((resolve, reject) => {
      const done = new Completion(
        endpoint.clock.now(),
        attempt,
        this.server,
        this.#host,
        resolve,
        reject,
      );
      const transfer = start(link, opening, done);
      if (transfer === undefined) {
        link.close();
        return;
      }
      const batch = attempt.operation === "read" ? endpoint.large : endpoint.small;
      const ready = (): void => this.#ready(transfer, socket, batch, done);
      done.resume = () => {
        socket.watch(ready);
        ready();
      };
      socket.watch(ready);
      const end = (reason: unknown): void => {
        done.failure = reason;
        transfer.abort(0, abortedMessage, endpoint.clock.now());
        endpoint.onDeadline();
      };
      this.#transfers.set(transfer, end);
      const abort = (): void => end(attempt.signal!.reason);
      attempt.signal?.addEventListener("abort", abort, { once: true });
      done.cleanup = () => attempt.signal?.removeEventListener("abort", abort);
      transfer.start(endpoint.clock.now());
      endpoint.onDeadline();
      if (this.#blocking) this.#turn(done);
    });
  }

  #ready(
    transfer: Transfer,
    socket: DatagramSocket,
    batch: DatagramBatch,
    done: Completion,
  ): void {
    this.#endpoint.heard();
    for (let round = 0; round < 64; round++) {
      const count = socket.receiveNow(batch);
      const now = this.#endpoint.clock.now();
      if (count === 0) {
        socket.drainErrors((error) => {
          if (error.kind === "refused") transfer.refused(now);
        });
        this.#endpoint.onDeadline();
        return;
      }
      for (let i = 0; i < count; i++) transfer.receive(batch, i, now);
      if ("endOfBatch" in transfer) {
        transfer.endOfBatch(now);
        done.onData?.();
        if (transfer.pause(() => done.resume())) {
          // The consumer is behind: the kernel's buffer is the queue now, and the window the valve.
          socket.watch(undefined);
          this.#endpoint.onDeadline();
          return;
        }
      }
      if (count < batch.capacity) {
        this.#endpoint.onDeadline();
        return;
      }
    }
    socket.again();
    this.#endpoint.onDeadline();
  }

  /** Blocks the thread for a transfer, with a turn of the event loop every few milliseconds. */
  #turn(done: Completion): void {
    this.#running.add(done);
    done.settled.then(() => this.#running.delete(done));
    this.#turning ??= this.#turnUntilIdle().catch((error) => {
      // Whoever waits must learn that nothing moves any more.
      for (const one of [...this.#running]) one.failed(error);
    }).finally(() => this.#turning = undefined);
  }

  async #turnUntilIdle(): Promise<void> {
    const { clock, deadlines } = this.#endpoint;
    while (this.#running.size > 0 && !this.#closed) {
      const until = clock.now() + SLICE_MS;
      for (let now = clock.now(); now < until && this.#running.size > 0; now = clock.now()) {
        this.#endpoint.sleep(Math.max(0, Math.min(deadlines.next, until) - now));
        this.#endpoint.runDeadlines();
        await undefined;
      }
      await nextTurn();
    }
  }

  #timing(attempt: Attempt): {
    readonly initialRtoMs: number;
    readonly maxRetries: number;
    readonly maxIdleMs: number;
    readonly minRtoMs: number;
    readonly maxRtoMs: number;
    readonly jitter: number;
  } {
    return {
      initialRtoMs: attempt.options.initialTimeoutMs,
      minRtoMs: 20,
      maxRtoMs: 8000,
      maxRetries: attempt.maxRetries,
      maxIdleMs: attempt.options.maxIdleMs,
      jitter: this.#endpoint.random.float(),
    };
  }

  /** The block size to ask for when none was given: what fits the path in one packet. */
  #blockSize(options: ResolvedClientOptions): number {
    if (options.blockSize !== 0) return Math.max(8, options.blockSize);
    const { address, family } = this.server;
    const peer = addressCell();
    writeAddress(peer, 0, this.server);
    const mtu = this.#host.pathMtu(peer, 0);
    if (mtu === undefined) return SAFE_BLOCK_BYTES;
    const room = Math.floor(
      options.receiveBufferBytes / 2 / options.windowSize - DATAGRAM_OVERHEAD_BYTES,
    );
    const local = address.startsWith("127.") || address === "::1";
    const fits = local ? 32768 : mtu - (family === "ipv4" ? 32 : 52);
    return Math.max(512, Math.min(fits, Math.max(SAFE_BLOCK_BYTES, room), 65464));
  }
}

/** A source that stays the caller's: a second attempt may need it again. */
function borrowed(source: ReadSource): ReadSource {
  return {
    sizeBytes: source.sizeBytes,
    readPieces: (bytes, start, pieceBytes, strideBytes, length, position) =>
      source.readPieces(bytes, start, pieceBytes, strideBytes, length, position),
    close: () => {},
  };
}

type Transfer = SendingTransfer | ReceivingTransfer;

const STAT_DONE: symbol = Symbol("size known");

/**
 * Makes a client of a server. Opens no socket yet; looks up the name when it is not an address.
 *
 * @param server `host`, `host:port`, `[v6]:port`, or an address. Port 69 unless given.
 * @throws {SystemError} When the name cannot be looked up.
 */
export async function connect(
  server: string | SocketAddress,
  options: ClientOptions = {},
): Promise<TftpClient> {
  const resolved = resolveClientOptions(options);
  const address = typeof server === "string" ? await resolveHost(server, 69) : server;
  const fast = resolveDriver(resolved.driver, ["batchedDatagrams"]).use === "fast";
  const host = await openDatagramHost({
    driver: fast ? "fast" : "portable",
    // Only the kernel's driver can sleep for many sockets at once; the portable one always waits in the event loop.
    wait: fast ? resolved.wait : "events",
  });
  return new TftpClient(address, options, host);
}
