/**
 * What inbounds for streams have in common: listening, accepting fairly, and bounds on clients that say nothing.
 *
 * @module
 */

import type { SocketAddress, StreamConnection, StreamListener } from "../../ffi/mod.ts";
import { literalAddress } from "../../ffi/mod.ts";
import { SystemError } from "../../internal/errors.ts";
import { logger, onceThenSummarise } from "../../internal/log.ts";
import type { ListenConfig, Network } from "../config_types.ts";
import { ExpiringSet } from "../handshakes.ts";
import type { Inbound, InboundContext } from "../inbound.ts";

/** An inbound that accepts connections. */
export abstract class StreamInbound implements Inbound {
  abstract readonly type: string;
  readonly tag: string;
  readonly networks: readonly Network[] = ["tcp"];
  /** What it lives on. */
  protected readonly context: InboundContext;
  /** Clients that have not said what they want. */
  protected readonly waiting: ExpiringSet;
  /** Clients that are being told why not. */
  protected readonly leaving: ExpiringSet;
  readonly #listen: ListenConfig;
  readonly #more: { readonly transparent?: boolean };
  readonly #crowded: () => void;
  #listener: StreamListener | undefined;

  /**
   * Prepares to listen.
   *
   * @param listen Where and how.
   * @param more Options of the socket.
   */
  constructor(
    tag: string,
    listen: ListenConfig,
    context: InboundContext,
    more: { readonly transparent?: boolean } = {},
  ) {
    this.tag = tag;
    this.#more = more;
    this.context = context;
    this.#listen = listen;
    this.waiting = new ExpiringSet(HANDSHAKE_MS, context.clock);
    this.leaving = new ExpiringSet(FAREWELL_MS, context.clock);
    this.#crowded = onceThenSummarise(
      context.clock,
      (times) =>
        logger("proxy", "inbound").warning(
          "{tag}: closed {times} connections unseen, {limit} clients have not finished a handshake",
          { tag, times, limit: MOST_HANDSHAKES },
        ),
    );
  }

  get addresses(): readonly SocketAddress[] {
    return this.#listener === undefined ? [] : [this.#listener.local];
  }

  get handshakes(): number {
    return this.waiting.size;
  }

  async start(): Promise<void> {
    const { address, port, routingMark, bindInterface } = this.#listen;
    const bind = literalAddress(address, port);
    if (bind === undefined) {
      throw new SystemError(
        "system.invalid",
        `Cannot listen on "${address}": expected an IP address`,
        { syscall: "bind", errno: 22, errnoName: "EINVAL" },
      );
    }
    const listener = await this.context.streams.listen({
      bind,
      backlog: BACKLOG,
      dualStack: bind.address === "::",
      ...this.#more,
      ...(routingMark === 0 ? {} : { mark: routingMark }),
      ...(bindInterface === undefined ? {} : { device: bindInterface }),
      keepAliveMs: this.#listen.disableTcpKeepAlive ? 0 : this.#listen.tcpKeepAliveMs,
    });
    this.#listener = listener;
    listener.watch(() => {
      for (let accepted = 0; accepted < ACCEPT_BATCH; accepted++) {
        const client = listener.acceptNow();
        if (client === undefined) return;
        if (this.waiting.size >= MOST_HANDSHAKES) {
          this.#crowded();
          client.close({ reset: true });
        } else this.accepted(client);
      }
      listener.again();
    });
  }

  /** Takes a client. */
  protected abstract accepted(client: StreamConnection): void;

  async close(): Promise<void> {
    await this.#listener?.close();
    this.waiting.close();
    this.leaving.close();
  }
}

/** TCP handshake and protocol together; proxy.md §2.2. */
const HANDSHAKE_MS = 15_000;
/** Last words are read within this, or not at all. */
const FAREWELL_MS = 2000;
/** Clients that may be in their handshake at once; the next are closed unseen. */
const MOST_HANDSHAKES = 1024;
const ACCEPT_BATCH = 64;
const BACKLOG = 4096;
