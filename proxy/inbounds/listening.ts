/**
 * What inbounds for streams have in common: listening, accepting fairly, and bounds on clients that say nothing.
 *
 * @module
 */

import type {
  DatagramHost,
  DatagramOptions,
  SocketAddress,
  StreamConnection,
  StreamListener,
} from "../../ffi/mod.ts";
import { literalAddress } from "../../ffi/mod.ts";
import { SystemError } from "../../internal/errors.ts";
import { logger, onceThenSummarise } from "../../internal/log.ts";
import type { ListenConfig, Network } from "../config_types.ts";
import { ExpiringSet } from "../handshakes.ts";
import type { Inbound, InboundContext } from "../inbound.ts";
import { datagramSettings, streamSettings, warnIgnored } from "../socket_settings.ts";
import { PacketSocket } from "../udp_socket.ts";

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
  readonly #starved: () => void;
  /** Says that nobody listens any more. */
  readonly #leave: (() => void)[] = [];
  #listener: StreamListener | undefined;
  #packets: PacketSocket | undefined;
  #pause: ReturnType<typeof setTimeout> | undefined;

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
    this.#starved = onceThenSummarise(
      context.clock,
      (times) =>
        logger("proxy", "inbound").warning(
          "{tag}: lets clients wait, {times} times: too few descriptors are left for another " +
            "one and its destination; raise the limit (ulimit -n)",
          { tag, times },
        ),
    );
    warnIgnored(tag, listen, context.streams.traits);
  }

  get addresses(): readonly SocketAddress[] {
    return this.#listener === undefined ? [] : [this.#listener.local];
  }

  get handshakes(): number {
    return this.waiting.size;
  }

  start(): Promise<void> {
    return this.#listenForStreams();
  }

  async #listenForStreams(): Promise<void> {
    const bind = this.#bindAddress();
    const listener = await this.context.streams.listen({
      ...streamSettings(this.#listen),
      ...this.#more,
      bind,
      backlog: BACKLOG,
      dualStack: bind.address === "::",
      reusePort: this.#listen.reuseAddr,
    });
    this.#listener = listener;
    this.#leave.push(this.context.loops.listens("tcp", listener.local));
    listener.watch(this.#ready);
  }

  /** Takes datagrams where it listens for streams, or would. Closed with it. */
  protected async openPackets(
    more: { readonly transparent?: boolean } = {},
  ): Promise<PacketSocket> {
    const options = { ...datagramSettings(this.#listen), ...more };
    const socket = await this.#openAt(await this.context.datagrams(), options);
    this.#packets = socket;
    this.#leave.push(this.context.loops.listens("udp", socket.local));
    return socket;
  }

  /** Where streams are listened for; when any port will do and that one is taken, where both can be had. */
  async #openAt(
    host: DatagramHost,
    options: Omit<DatagramOptions, "bind" | "dualStack">,
  ): Promise<PacketSocket> {
    for (let tries = 1;; tries++) {
      const bind = this.#listener?.local ?? this.#bindAddress();
      try {
        return await PacketSocket.open(host, bind, options);
      } catch (error) {
        const taken = error instanceof SystemError && error.errnoName === "EADDRINUSE";
        if (!taken || this.#listener === undefined || this.#listen.port !== 0) throw error;
        if (tries === MOST_PORTS) throw error;
        for (const leave of this.#leave.splice(0)) leave();
        await this.#listener.close();
        await this.#listenForStreams();
      }
    }
  }

  #bindAddress(): SocketAddress {
    const { address, port } = this.#listen;
    const bind = literalAddress(address, port);
    if (bind !== undefined) return bind;
    throw new SystemError(
      "system.invalid",
      `Cannot listen on "${address}": expected an IP address`,
      { syscall: "bind", errno: 22, errnoName: "EINVAL" },
    );
  }

  readonly #ready = (): void => {
    const listener = this.#listener!;
    for (let accepted = 0; accepted < ACCEPT_BATCH; accepted++) {
      if (!this.context.hasRoom()) {
        // They wait in the kernel's queue; descriptors come back when others end.
        this.#starved();
        listener.watch(undefined);
        this.#pause = setTimeout(() => listener.watch(this.#ready), PAUSE_MS);
        return;
      }
      const client = listener.acceptNow();
      if (client === undefined) return;
      if (this.waiting.size >= MOST_HANDSHAKES) {
        this.#crowded();
        client.close({ reset: true });
      } else this.accepted(client);
    }
    listener.again();
  };

  /** Takes a client. */
  protected abstract accepted(client: StreamConnection): void;

  async close(): Promise<void> {
    clearTimeout(this.#pause);
    for (const leave of this.#leave.splice(0)) leave();
    this.#packets?.close();
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
/** How long a listener stays away when there are too few descriptors. */
const PAUSE_MS = 20;
const BACKLOG = 4096;
/** Ports that are tried for streams and datagrams together. */
const MOST_PORTS = 8;
