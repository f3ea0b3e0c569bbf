/**
 * Relays: two connections become one, until both directions have ended. The contract, and the choice of who carries it.
 *
 * Two drivers. `linux` takes the descriptors away from the connections and moves the bytes inside the kernel, on the
 * loop of the host's own thread or on threads made for it; `portable` copies from one {@linkcode StreamConnection} to
 * the other in bounded memory, over any driver of streams. Both pass `relay_contract_test.ts`. One difference is left:
 * that a peer was cut after it had ended its direction, `linux` notices at once, `portable` with the next byte for it.
 *
 * @module
 */
import type { Driver } from "./datagram.ts";
import { CapabilityError } from "../internal/errors.ts";
import { resolveDriver } from "./capabilities.ts";
import type { StreamConnection, StreamHost, StreamPieces } from "./stream.ts";

/**
 * How one direction ended.
 *
 * - `end`: its source ended, everything arrived at the target and the target was told.
 * - `source-failed`: the source was reset or fell silent. - `target-failed`: the target was, or the other direction's
 * source, which is the same connection.
 * - `idle`: nothing moved for as long as was allowed. - `aborted`: by {@linkcode Relay.abort}, or because the host closed.
 */
export type RelayEnd = "end" | "source-failed" | "target-failed" | "idle" | "aborted";

/** What became of one direction. */
export interface RelayDirection {
  /** Bytes the target's kernel took, the prefix among them. */
  readonly bytes: number;
  /** How it ended. */
  readonly end: RelayEnd;
}

/** What became of a relay. */
export interface RelayResult {
  /** From the first connection to the second. */
  readonly forward: RelayDirection;
  /** From the second to the first. */
  readonly backward: RelayDirection;
  /** From start to end, milliseconds. */
  readonly durationMs: number;
}

/** How to relay. */
export interface RelayOptions {
  /**
   * Sent to the second connection before anything else: what was read ahead of the first, a header. Copied when it does
   * not leave at once.
   */
  readonly forwardPrefix?: Uint8Array;
  /** The same, to the first connection. */
  readonly backwardPrefix?: Uint8Array;
  /** Ends a relay in which nothing moves for this long, milliseconds. Default: never. */
  readonly idleMs?: number;
  /** The same once one direction has ended. Default 30 s, or `idleMs` where that is less. */
  readonly halfCloseMs?: number;
  /** Called once, when it ended and both connections are closed. Must not throw. */
  readonly onFinish?: (result: RelayResult) => void;
}

/** A running relay. */
export interface Relay {
  /** Bytes that went to the second connection so far. Costs a memory access, wherever the relay runs. */
  readonly forwardBytes: number;
  /** Bytes that went to the first connection so far. */
  readonly backwardBytes: number;
  /** What became of it; `undefined` while it runs. */
  readonly result: RelayResult | undefined;
  /** Settles when it ended; never rejects. The promise is made when it is first asked for. */
  readonly finished: Promise<RelayResult>;
  /** Cuts both connections. Idempotent. */
  abort(): void;
}

/** What the relays of a driver can do. */
export interface RelayTraits {
  /** The driver's name. */
  readonly driver: "linux" | "portable";
  /** Large flows do not enter the process. */
  readonly splice: boolean;
  /** Threads made for relays; 0 when they run on the thread of the host. */
  readonly threads: number;
}

/** Where relays run. */
export interface RelayHost extends AsyncDisposable {
  /** What its relays can do. */
  readonly traits: RelayTraits;
  /** Why a better driver was not taken, one sentence; empty when this is the best. */
  readonly fallbackReason: string;
  /** Relays that run. */
  readonly active: number;
  /**
   * Joins two connections of the host this one was opened with. They belong to the relay from here on, which closes
   * them; with the `linux` driver they count as closed at once.
   *
   * @throws {TypeError} When the relay host is closed; when one of them is closed, or a receive or send of it waits. @throws {RangeError} For a limit that is none. Nothing has happened then.
   */
  start(first: StreamConnection, second: StreamConnection, options?: RelayOptions): Relay;
  /** Aborts what runs, and waits for it. */
  close(): Promise<void>;
}

/**
 * What copying needs of a stream: a connection has it, and so has a protocol around one. A protocol that seals and opens
 * bytes where they lie may offer more, and nothing is copied then between it and a connection with pieces.
 */
export interface CopyStream extends
  Pick<
    StreamConnection,
    | "closed"
    | "receiveNow"
    | "receivePiecesNow"
    | "sendNow"
    | "sendPiecesNow"
    | "watch"
    | "again"
    | "end"
    | "close"
  > {
  /** What it can do; absent where that is not a connection's. */
  readonly traits?: Pick<StreamConnection["traits"], "reset">;
  /**
   * Receives, and leaves the bytes where they are: see {@linkcode opened}. @returns How many there are by now; otherwise
   * as `receiveNow`.
   */
  openPiecesNow?(): number;
  /** What {@linkcode openPiecesNow} found, until the next call; `first` and `starts` move on by {@linkcode consume}. */
  readonly opened?: StreamPieces;
  /** Says that this many of the opened bytes are done with. */
  consume?(count: number): void;
  /**
   * Lends room for bytes that are to be sent, to be given back by {@linkcode sendLent} before anything else is called.
   *
   * @returns The room; `undefined` where there is none to lend now and `sendNow` has to do; `WOULD_BLOCK` and
   * `STREAM_FAILED` as `sendNow`.
   */
  lendRoom?(): StreamPieces | number | undefined;
  /** Sends the first bytes of the room, all of them: what does not leave is kept. @returns As `sendNow`, or 0 for 0. */
  sendLent?(count: number): number;
}

/** Where streams of any kind are relayed, by copying. */
export interface CopyRelayHost extends AsyncDisposable {
  /** Relays that run. */
  readonly active: number;
  /** Joins two streams; see {@linkcode RelayHost.start}. @throws {TypeError} @throws {RangeError} As it does. */
  start(first: CopyStream, second: CopyStream, options?: RelayOptions): Relay;
  /** Aborts what runs, and waits for it. */
  close(): Promise<void>;
}

/** Opens a place for relays between streams that need not be connections. */
export async function openCopyRelayHost(): Promise<CopyRelayHost> {
  const { PortableRelayHost } = await import("./relay_portable.ts");
  return new PortableRelayHost("");
}

/** How to open a relay host. */
export interface RelayHostOptions {
  /** Default `auto`: the kernel's driver where the host's streams are the kernel's. */
  readonly driver?: Driver;
  /**
   * Threads for the relays of a host that waits for events. Default 1, which carries more than one processor's worth of
   * senders; a host with `wait: "thread"` needs none.
   */
  readonly threads?: number;
}

/**
 * Opens a place for relays between the connections of one stream host.
 *
 * @throws {CapabilityError} `ffi.driver-unavailable` when `fast` was demanded and the host's streams are not the
 * kernel's. @throws {RangeError} For a count of threads that is none.
 *
 * @example
 * ```ts
 * import { openRelayHost, openStreamHost } from "@fastwire/net/ffi";
 * import { equal } from "node:assert/strict";
 *
 * await using host = await openStreamHost();
 * await using relays = await openRelayHost(host);
 * const bind = { family: "ipv4", address: "127.0.0.1", port: 0 } as const;
 * const upstream = await host.listen({ bind });
 * const entry = await host.listen({ bind });
 * const client = await host.connect({ remote: entry.local });
 * const first = await entry.accept();
 * const second = await host.connect({ remote: upstream.local });
 * const server = await upstream.accept();
 * const relay = relays.start(first!, second);
 * await client.send(new Uint8Array([1, 2, 3]), 0, 3);
 * equal(await server!.receive(new Uint8Array(64), 0, 64), 3);
 * client.end();
 * server!.end();
 * equal((await relay.finished).forward.bytes, 3);
 * ```
 */
export async function openRelayHost(
  host: StreamHost,
  options: RelayHostOptions = {},
): Promise<RelayHost> {
  const driver = options.driver ?? "auto";
  const threads = options.threads ?? 1;
  if (!Number.isInteger(threads) || threads < 1 || threads > MOST_THREADS) {
    throw new RangeError(
      `Cannot relay on ${threads} threads: expected an integer from 1 to ${MOST_THREADS}`,
    );
  }
  const choice = resolveDriver(driver, ["ffi", "splice", "epoll", "eventfd"]);
  let reason = choice.reason;
  if (choice.use === "fast") {
    if (host.traits.driver === "linux") {
      const { openLinuxRelays } = await import("./relay_linux.ts");
      try {
        return await openLinuxRelays(host, threads);
      } catch (error) {
        if (driver === "fast") throw error;
        reason = error instanceof CapabilityError ? error.why : String(error);
      }
    } else {
      reason = `the streams are those of the driver "${host.traits.driver}"`;
      if (driver === "fast") {
        throw new CapabilityError(
          "ffi.driver-unavailable",
          `Cannot relay inside the kernel: ${reason}`,
          { capability: "relay", why: reason, remedy: 'open the stream host with driver "fast"' },
        );
      }
    }
  }
  const { PortableRelayHost } = await import("./relay_portable.ts");
  return new PortableRelayHost(reason);
}

const MOST_THREADS = 64;
