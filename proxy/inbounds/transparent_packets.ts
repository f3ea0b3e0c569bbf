/**
 * Datagrams that netfilter's TPROXY brought: they go where they were going, and answers come from there.
 *
 * An answer has to leave from the address that the client asked, which takes a socket bound to it. They are kept for as
 * long as answers come, and no more of them than a bound: the one that was silent longest makes room.
 *
 * @module
 */

import {
  type DatagramOptions,
  literalAddress,
  processDescriptors,
  type SocketAddress,
} from "../../ffi/mod.ts";
import { logger, onceThenSummarise } from "../../internal/log.ts";
import type { InboundContext } from "../inbound.ts";
import type { Endpoint } from "../protocol/mod.ts";
import { PacketSocket, type SocketReceiver } from "../udp_socket.ts";
import { SourceFlows } from "./source_flows.ts";

/** What {@linkcode TransparentPackets} is made of. */
export interface TransparentSettings {
  /** Of the inbound. */
  readonly tag: string;
  /** Of the inbound. */
  readonly type: string;
  /** Where datagrams are brought to; closed by whoever opened it. */
  readonly socket: PacketSocket;
  readonly context: Pick<InboundContext, "datagrams" | "handler" | "loops" | "clock">;
  /** How sockets for answers are opened. */
  readonly options: Omit<DatagramOptions, "bind">;
  /** Sockets for answers at most. Default 1024, and an eighth of the descriptors the process may have. */
  readonly mostSockets?: number;
}

/** An answer that came before its socket was open. */
interface Waiting {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly client: Endpoint;
}

/** A socket that answers in the name of one destination. */
interface Answering {
  /** `undefined` while it is being opened, and when it could not be. */
  socket: PacketSocket | undefined;
  waiting: Waiting[] | undefined;
  usedAt: number;
}

/** The datagrams of all clients, and the sockets that answer them. */
export class TransparentPackets {
  readonly #given: TransparentSettings;
  readonly #flows: SourceFlows;
  /** By destination; the one that was used longest ago is first, give or take a second. */
  readonly #answering = new Map<string, Answering>();
  readonly #mostSockets: number;
  readonly #refused: (error: unknown) => void;
  #timer: ReturnType<typeof setInterval> | undefined;
  #closed = false;

  /** Begins to take datagrams. */
  constructor(given: TransparentSettings) {
    this.#given = given;
    const limit = processDescriptors.limit() ?? Infinity;
    this.#mostSockets = given.mostSockets ?? Math.min(MOST_SOCKETS, Math.floor(limit / 8));
    const { tag, type, socket, context } = given;
    let reason: unknown;
    const report = onceThenSummarise(
      context.clock,
      (times) =>
        logger("proxy", "inbound").warning(
          "{tag}: dropped answers of {times} destinations: {error}",
          { tag, times, error: reason },
        ),
    );
    this.#refused = (error) => {
      reason = error;
      report();
    };
    this.#flows = new SourceFlows(
      context.handler,
      { inbound: tag, inboundType: type },
      (bytes, start, end, client, from) => this.#answer(bytes, start, end, client, from),
    );
    socket.watch(this.take);
  }

  /** Where datagrams are brought to. */
  get local(): SocketAddress {
    return this.#given.socket.local;
  }

  /** Sockets for answers that there are. */
  get sockets(): number {
    return this.#answering.size;
  }

  /** Ends all associations. Idempotent. */
  close(): void {
    this.#closed = true;
    clearInterval(this.#timer);
    this.#timer = undefined;
    this.#flows.close();
    for (const { socket } of this.#answering.values()) socket?.close();
    this.#answering.clear();
  }

  /** Takes a datagram of a client; as `PacketReceiver`, with where it was going. */
  readonly take: SocketReceiver = (bytes, start, end, from, to) => {
    const { loops } = this.#given.context;
    // Sent to the port itself, it has nowhere to go but here.
    if (to === undefined || to.port === 0 || loops.isAt(this.local, to)) return;
    if (loops.datagramCameBack(from)) return;
    this.#flows.take(bytes, start, end, from, to);
  };

  #answer(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    client: Endpoint,
    from: Endpoint,
  ): void {
    const now = this.#given.context.clock.now();
    const key = `${from.host} ${from.port}`;
    let known = this.#answering.get(key);
    if (known === undefined) {
      // From a name there is no address to answer from; servers that tell names answer by the client's own.
      const bind = literalAddress(from.host, from.port);
      if (bind === undefined || this.#closed) return;
      known = this.#open(key, bind, now);
    } else if (now - known.usedAt >= REFRESH_MS) {
      known.usedAt = now;
      this.#answering.delete(key);
      this.#answering.set(key, known);
    }
    if (known.socket !== undefined) known.socket.send(bytes, start, end, client);
    else if (known.waiting !== undefined && known.waiting.length < MOST_WAITING) {
      known.waiting.push({ bytes: bytes.slice(start, end), client });
    }
  }

  #open(key: string, bind: SocketAddress, now: number): Answering {
    if (this.#answering.size >= this.#mostSockets) {
      const [oldest] = this.#answering;
      this.#end(...oldest!);
    }
    const opened: Answering = { socket: undefined, waiting: [], usedAt: now };
    this.#answering.set(key, opened);
    this.#timer ??= setInterval(this.#sweep, SWEEP_MS);
    const { context, options } = this.#given;
    context.datagrams().then((host) => PacketSocket.open(host, bind, options)).then((socket) => {
      if (this.#answering.get(key) !== opened) return socket.close();
      opened.socket = socket;
      // Rules that look for sockets before they redirect bring what clients send next here.
      const to = Object.freeze({ host: bind.address, port: bind.port });
      socket.watch((bytes, start, end, from) => this.take(bytes, start, end, from, to));
      for (const { bytes, client } of opened.waiting ?? []) {
        socket.send(bytes, 0, bytes.length, client);
      }
      opened.waiting = undefined;
    }).catch((error) => {
      // Kept, so that each of its answers does not try again.
      opened.waiting = undefined;
      this.#refused(error);
    });
    return opened;
  }

  #end(key: string, { socket }: Answering): void {
    this.#answering.delete(key);
    socket?.close();
  }

  readonly #sweep = (): void => {
    const since = this.#given.context.clock.now() - IDLE_MS;
    for (const [key, each] of this.#answering) if (each.usedAt < since) this.#end(key, each);
    if (this.#answering.size > 0) return;
    clearInterval(this.#timer);
    this.#timer = undefined;
  };
}

const MOST_SOCKETS = 1024;
const MOST_WAITING = 16;
/** A socket for answers that has sent none for so long is closed; a later answer opens another. */
const IDLE_MS = 60_000;
const SWEEP_MS = 10_000;
const REFRESH_MS = 1000;
