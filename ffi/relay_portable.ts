/**
 * Relays over any driver's streams: bytes are received into one buffer and sent from it, without a promise a piece.
 *
 * @module
 */
import type { CopyStream, Relay, RelayEnd, RelayHost, RelayOptions, RelayTraits } from "./relay.ts";
import { checkConnections, RelayHandle, relayLimits, tickFor } from "./relay_pending.ts";
import { CALM } from "./reactor.ts";
import type { RelayLimits } from "./relay_pending.ts";
import { STREAM_END, STREAM_FAILED, type StreamPieces, WOULD_BLOCK } from "./stream.ts";

/** A place for relays that copies. */
export class PortableRelayHost implements RelayHost {
  readonly traits: RelayTraits = Object.freeze({ driver: "portable", splice: false, threads: 0 });
  readonly fallbackReason: string;
  /** Every piece is sent, or what is left of it put aside, before the next is received: one serves every relay. */
  readonly buffer: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(COPY_BYTES));
  readonly #pairs = new Set<Pair>();
  #timer: ReturnType<typeof setInterval> | undefined;
  #tickMs = Infinity;
  #closed = false;

  /** @param fallbackReason Why no better driver was taken. */
  constructor(fallbackReason: string) {
    this.fallbackReason = fallbackReason;
  }

  get active(): number {
    return this.#pairs.size;
  }

  start(first: CopyStream, second: CopyStream, options: RelayOptions = {}): Relay {
    if (this.#closed) throw new TypeError("Cannot relay: the relay host is closed");
    checkConnections(first, second);
    const limits = relayLimits(options);
    const pair = new Pair(this, first, second, limits, options);
    this.#pairs.add(pair);
    const tickMs = tickFor(limits);
    if (tickMs < this.#tickMs) {
      this.#tickMs = tickMs;
      clearInterval(this.#timer);
      this.#timer = setInterval(this.#sweep, tickMs);
    }
    pair.begin();
    return pair.handle;
  }

  async close(): Promise<void> {
    this.#closed = true;
    const ending = [...this.#pairs].map(({ handle }) => {
      handle.abort();
      return handle.finished;
    });
    await Promise.all(ending);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /** A pair is over. @ignore */
  forget(pair: Pair): void {
    this.#pairs.delete(pair);
    if (this.#pairs.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#tickMs = Infinity;
  }

  readonly #sweep = (): void => {
    const now = performance.now();
    for (const pair of this.#pairs) pair.look(now);
  };
}

class Pair {
  readonly handle: RelayHandle;
  readonly counts: Float64Array = new Float64Array(2);
  /** Something moved since the last look at the limits. */
  stirred = true;
  readonly #host: PortableRelayHost;
  readonly #forward: Direction;
  readonly #backward: Direction;
  readonly #limits: RelayLimits;
  #movedMs = performance.now();
  #over = false;

  constructor(
    host: PortableRelayHost,
    first: CopyStream,
    second: CopyStream,
    limits: RelayLimits,
    options: RelayOptions,
  ) {
    this.#host = host;
    this.#limits = limits;
    this.handle = new RelayHandle(this.counts, 0, () => this.#finish("aborted", "aborted", true), {
      ...options,
    });
    const { buffer } = host;
    this.#forward = new Direction(this, 0, first, second, buffer, options.forwardPrefix);
    this.#backward = new Direction(this, 1, second, first, buffer, options.backwardPrefix);
  }

  begin(): void {
    this.#forward.begin(this.#backward);
    this.#backward.begin(this.#forward);
  }

  look(now: number): void {
    if (this.stirred) {
      this.stirred = false;
      this.#movedMs = now;
      return;
    }
    const half = this.#forward.ended || this.#backward.ended;
    const limit = half ? this.#limits.halfCloseMs : this.#limits.idleMs;
    if (now - this.#movedMs >= limit) this.#finish("idle", "idle", false);
  }

  /** A direction has delivered everything and told its target. */
  ended(): void {
    if (this.#forward.ended && this.#backward.ended) this.#finish("end", "end", false);
  }

  /** A connection is gone, as a source and as a target. */
  failed(connection: CopyStream): void {
    if (connection === this.#forward.source) this.#finish("source-failed", "target-failed", true);
    else this.#finish("target-failed", "source-failed", true);
  }

  get over(): boolean {
    return this.#over;
  }

  #finish(forward: RelayEnd, backward: RelayEnd, cut: boolean): void {
    if (this.#over) return;
    this.#over = true;
    const ends = [
      this.#forward.ended ? "end" : forward,
      this.#backward.ended ? "end" : backward,
    ] as const;
    const first = this.#forward.source, second = this.#backward.source;
    first.watch(undefined);
    second.watch(undefined);
    this.#host.forget(this);
    const closing = [first, second].map((side) =>
      side.close({ reset: cut && side.traits?.reset !== false }).catch(() => {})
    );
    Promise.all(closing).then(() => this.handle.ended(...ends));
  }
}

class Direction {
  /** Everything was delivered and the target told. */
  ended = false;
  readonly source: CopyStream;
  readonly #pair: Pair;
  readonly #at: number;
  readonly #target: CopyStream;
  readonly #buffer: Uint8Array<ArrayBuffer>;
  /** What has to leave before anything else: the prefix, or what a send did not take. Bytes from `#leftAt`. */
  #left: Uint8Array<ArrayBuffer> | undefined;
  #leftAt = 0;
  /** The target had no room for all. */
  #blocked = false;
  #inside = false;
  #writable: () => unknown = () => {};

  constructor(
    pair: Pair,
    at: number,
    source: CopyStream,
    target: CopyStream,
    buffer: Uint8Array<ArrayBuffer>,
    prefix: Uint8Array | undefined,
  ) {
    this.#pair = pair;
    this.#at = at;
    this.source = source;
    this.#target = target;
    this.#buffer = buffer;
    this.#left = prefix === undefined || prefix.length === 0 ? undefined : new Uint8Array(prefix);
  }

  begin(opposite: Direction): void {
    this.#writable = () => opposite.pump();
    this.#watch();
    if (this.#left !== undefined) this.pump();
  }

  /** Moves bytes until there are none, there is no room, or it is somebody else's turn. @returns `CALM` while it runs. */
  pump(): unknown {
    const pair = this.#pair;
    if (this.ended) return CALM;
    for (let budget = BUDGET_BYTES; !pair.over;) {
      if (this.#left !== undefined && !this.#flush()) {
        this.#block(true);
        return CALM;
      }
      if (budget <= 0) {
        this.#block(false);
        // From elsewhere than its own callback a connection is asked by watching it anew.
        if (this.#inside) this.source.again();
        else this.#watch();
        return CALM;
      }
      const moved = this.#move();
      this.#block(moved === NO_ROOM);
      if (moved === NO_ROOM || moved === WOULD_BLOCK) return CALM;
      if (moved === STREAM_FAILED) return pair.failed(this.source);
      if (moved === TARGET_FAILED) return pair.failed(this.#target);
      if (moved === STREAM_END) {
        this.#target.end();
        this.ended = true;
        return pair.ended();
      }
      budget -= moved;
    }
    return undefined;
  }

  /** Moves what one call brings. @returns Bytes; as `receiveNow` of the source; {@linkcode NO_ROOM}, {@linkcode TARGET_FAILED}. */
  #move(): number {
    const { source } = this;
    const target = this.#target;
    if (source.openPiecesNow !== undefined && target.sendPiecesNow !== undefined) {
      return this.#sendOpened();
    }
    if (source.receivePiecesNow !== undefined && target.lendRoom !== undefined) {
      const room = target.lendRoom();
      if (room === WOULD_BLOCK) return NO_ROOM;
      if (room === STREAM_FAILED) return TARGET_FAILED;
      if (typeof room === "object") return this.#receiveLent(room);
    }
    const buffer = this.#buffer;
    const count = source.receiveNow(buffer, 0, buffer.length);
    if (count <= STREAM_END) return count;
    const taken = target.sendNow(buffer, 0, count);
    if (taken === STREAM_FAILED) return TARGET_FAILED;
    this.#count(Math.max(0, taken));
    if (taken < count) {
      this.#left = buffer.slice(Math.max(0, taken), count);
      this.#leftAt = 0;
    }
    return count;
  }

  /** From where the source has opened them. */
  #sendOpened(): number {
    const { source } = this;
    const count = source.openPiecesNow!();
    if (count <= STREAM_END) return count;
    const taken = this.#target.sendPiecesNow!(source.opened!);
    if (taken === WOULD_BLOCK) return NO_ROOM;
    if (taken === STREAM_FAILED) return TARGET_FAILED;
    source.consume!(taken);
    this.#count(taken);
    return taken;
  }

  /** To where the target will seal them. */
  #receiveLent(room: StreamPieces): number {
    const count = this.source.receivePiecesNow!(room);
    const sent = this.#target.sendLent!(Math.max(0, count));
    if (sent === STREAM_FAILED) return TARGET_FAILED;
    if (count > 0) this.#count(count);
    return count;
  }

  readonly #readable = (): unknown => {
    this.#inside = true;
    try {
      return this.pump();
    } finally {
      this.#inside = false;
    }
  };

  #watch(): void {
    this.source.watch(this.#blocked ? undefined : this.#readable, this.#writable);
  }

  /** While the target has no room nobody asks the source: it would say that it is readable for ever. */
  #block(blocked: boolean): void {
    if (blocked === this.#blocked || this.#pair.over) return;
    this.#blocked = blocked;
    this.#watch();
  }

  #flush(): boolean {
    const left = this.#left!;
    while (this.#leftAt < left.length) {
      const taken = this.#target.sendNow(left, this.#leftAt, left.length);
      if (taken === WOULD_BLOCK) return false;
      if (taken === STREAM_FAILED) {
        this.#pair.failed(this.#target);
        return false;
      }
      this.#leftAt += taken;
      this.#count(taken);
    }
    this.#left = undefined;
    return true;
  }

  #count(bytes: number): void {
    this.#pair.counts[this.#at]! += bytes;
    this.#pair.stirred = true;
  }
}

const COPY_BYTES = 65_536;
/** The target takes nothing now. */
const NO_ROOM = -10;
/** The target is gone. */
const TARGET_FAILED = -11;
/** One direction moves no more than this before the others have had a turn. */
const BUDGET_BYTES = 1 << 20;
