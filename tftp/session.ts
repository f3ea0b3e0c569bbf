/**
 * One client's place in the server, from its request to the end of its transfer.
 *
 * @module
 */
import { copyAddress, type SocketAddress } from "../ffi/mod.ts";
import type { TransferSlot } from "./access.ts";
import { addressCell, type Timed } from "./endpoint.ts";
import type { PeerEntry } from "./peer_table.ts";
import type { TftpRequest, TransferOutcome } from "./protocol/mod.ts";
import type { ReceivingTransfer } from "./receiving.ts";
import type { SendingTransfer } from "./sending.ts";

/** What is known of a transfer that ended. Plain data, frozen. */
export interface TransferRecord {
  /** `read`: the server sent a file. `write`: it received one. */
  readonly operation: "read" | "write";
  /** The requested name, as text. */
  readonly filename: string;
  /** The transfer mode. */
  readonly mode: "octet" | "netascii";
  /** The client. */
  readonly remote: SocketAddress;
  /** How it ended. */
  readonly outcome: TransferOutcome;
  /** Payload bytes that reached the other side. */
  readonly bytes: number;
  /** Blocks that reached the other side. */
  readonly blocks: number;
  /** Block size that was agreed on, bytes. */
  readonly blockSize: number;
  /** Window that was agreed on, blocks. */
  readonly windowSize: number;
  /** From the request to the end, milliseconds. */
  readonly durationMs: number;
  /** Packets that were sent again. */
  readonly retransmits: number;
  /** Times the retransmission timer ran out. */
  readonly timeouts: number;
  /** Smoothed round-trip time, milliseconds; 0 when never measured. */
  readonly rttMs: number;
  /** Code of the ERROR that ended it, when one did. */
  readonly errorCode?: number;
  /** Its text: the peer's, or ours. */
  readonly message?: string;
}

/** What is known of a transfer that runs. */
export interface SessionInfo {
  /** `read`: the server sent a file. `write`: it received one. */
  readonly operation: "read" | "write";
  /** The requested name, as text. */
  readonly filename: string;
  /** The client. */
  readonly remote: SocketAddress;
  /** Block size that was agreed on, bytes. */
  readonly blockSize: number;
  /** Window that was agreed on, blocks. */
  readonly windowSize: number;
  /** Payload bytes so far. */
  readonly bytes: number;
  /** Milliseconds since the request. */
  readonly ageMs: number;
}

/** Milliseconds after which an identical request of a running transfer is a new one: the client started over. */
const REQUEST_REPEAT_MS = 5000;

/** See the module. */
export class Session implements PeerEntry<Session>, Timed {
  readonly key: DataView<ArrayBuffer> = addressCell();
  next: Session | undefined = undefined;
  readonly request: TftpRequest;
  /** The client. */
  readonly remote: SocketAddress;
  /** The client's host as text, for limits. */
  readonly client: string;
  readonly startedAt: number;
  readonly slot: TransferSlot;
  /** The request as it came, to recognise its duplicates. */
  readonly #requestBytes: Uint8Array;
  sending: SendingTransfer | undefined;
  receiving: ReceivingTransfer | undefined;
  /** Made when a handler is asked: the plain case has no use for it, and it is dear. */
  #handling: AbortController | undefined;
  /** When the opening takes too long. */
  deadline: number = Infinity;
  onTimeout: () => void = () => {};
  /** The client has spoken on this transfer. */
  confirmed = false;
  blockSize = 512;
  windowSize = 1;
  /** Its outcome was reported. */
  ended = false;
  closed = false;

  constructor(
    request: TftpRequest,
    requestBytes: Uint8Array,
    remote: SocketAddress,
    client: string,
    peers: DataView,
    peerStart: number,
    slot: TransferSlot,
    startedAt: number,
  ) {
    this.request = request;
    this.#requestBytes = requestBytes;
    this.remote = remote;
    this.client = client;
    this.slot = slot;
    this.startedAt = startedAt;
    copyAddress(peers, peerStart, this.key, 0);
  }

  /**
   * What to do with another request of the same peer: `repeat` the first answer, `ignore` it (a duplicate of a request
   * that is being served), or `replace` this session (many boot ROMs use one port for everything).
   */
  judge(
    bytes: Uint8Array,
    start: number,
    end: number,
    now: number,
  ): "repeat" | "ignore" | "replace" {
    const own = this.#requestBytes;
    let same = end - start === own.length;
    for (let i = 0; same && i < own.length; i++) same = bytes[start + i] === own[i];
    if (this.ended) return same && now - this.startedAt < 50 ? "ignore" : "replace";
    if (!same) return "replace";
    if (this.sending === undefined && this.receiving === undefined) return "ignore";
    if (!this.confirmed) return "repeat";
    return now - this.startedAt < REQUEST_REPEAT_MS ? "ignore" : "replace";
  }

  /** The running transfer's end, from this side; the peer is told unless it has begun something else. */
  abort(code: number, message: string, now: number, told: boolean): void {
    this.stopHandling();
    this.sending?.abort(code, message, now, told);
    this.receiving?.abort(code, message, now, told);
  }

  /** Aborted when the handler's answer is not wanted any more. */
  handlingSignal(): AbortSignal {
    return (this.#handling ??= new AbortController()).signal;
  }

  /** Tells a handler that its answer is not wanted any more. */
  stopHandling(): void {
    this.#handling?.abort();
  }

  expire(): void {
    this.onTimeout();
  }

  /** A frozen description. */
  info(now: number): SessionInfo {
    const blocks = this.sending?.machine.acknowledgedBlocks ?? 0;
    return Object.freeze({
      operation: this.request.operation,
      filename: this.request.filename,
      remote: this.remote,
      blockSize: this.blockSize,
      windowSize: this.windowSize,
      bytes: this.receiving?.machine.receivedBytes ?? blocks * this.blockSize,
      ageMs: now - this.startedAt,
    });
  }
}
