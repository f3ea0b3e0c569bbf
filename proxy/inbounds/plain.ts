/**
 * The inbounds `socks`, `http` and `mixed`: clients say in clear text where they want to go.
 *
 * A handshake runs in callbacks, on a buffer that all clients of a thread share: a client that says nothing holds none.
 *
 * @module
 */

import {
  type DatagramOptions,
  type SocketAddress,
  STREAM_END,
  type StreamConnection,
  unmapAddress,
  WOULD_BLOCK,
} from "../../ffi/mod.ts";
import type { HttpInboundConfig, MixedInboundConfig, SocksInboundConfig } from "../config_types.ts";
import type { Duplex } from "../duplex.ts";
import { type Expiring, type ExpiringSet, Farewell } from "../handshakes.ts";
import type { InboundContext } from "../inbound.ts";
import type { Metadata } from "../outbound.ts";
import {
  chooseMixedProtocol,
  encodeSocks5Reply,
  type Endpoint,
  type HttpProxyRequest,
  HttpProxyServer,
  ipFamilyOf,
  type MixedProtocol,
  type Socks4Request,
  Socks4Server,
  SOCKS5_ADDRESS_UNSUPPORTED,
  SOCKS5_SUCCEEDED,
  type Socks5Command,
  socks5ReplyOf,
  type Socks5Request,
  Socks5Server,
  type Step,
  UserTable,
} from "../protocol/mod.ts";
import { dialFailure, type ReplyKind } from "../replies.ts";
import { ConnectionPool } from "../pool.ts";
import { forwardRequests, type PooledStream } from "./http_forward.ts";
import { datagramSettings } from "../socket_settings.ts";
import { StreamInbound } from "./listening.ts";
import { SocksAssociation } from "./socks_udp.ts";

/** Configurations of these inbounds. */
export type PlainInboundConfig = SocksInboundConfig | HttpInboundConfig | MixedInboundConfig;

/** An inbound whose clients speak SOCKS, HTTP, or either. */
export class PlainInbound extends StreamInbound {
  readonly type: "socks" | "http" | "mixed";
  /** Who may come in; `undefined` is everybody. */
  readonly users: UserTable | undefined;
  /** Idle connections to the servers of requests in absolute form. */
  readonly pool: ConnectionPool<PooledStream>;
  readonly #packets: Omit<DatagramOptions, "bind">;
  readonly #associations = new Set<SocksAssociation>();

  /** @param config Its configuration. */
  constructor(config: PlainInboundConfig, context: InboundContext) {
    super(config.tag, config.listen, context);
    this.type = config.type;
    this.#packets = datagramSettings(config.listen);
    this.pool = new ConnectionPool(context.clock);
    this.users = config.users.length === 0 ? undefined : new UserTable(config.users);
  }

  protected accepted(client: StreamConnection): void {
    new PlainClient(this, client, this.context, this.waiting, this.leaving);
  }

  /** What is known about a client that asks for a destination. */
  metadataOf(client: Duplex, destination: Endpoint, user: string | undefined): Metadata {
    return {
      inbound: this.tag,
      inboundType: this.type,
      network: "tcp",
      source: sourceOf(client),
      destination,
      user,
    };
  }

  /** Begins to carry a client's datagrams. */
  associate(client: Duplex, request: Socks5Request): void {
    const metadata: Metadata = {
      ...this.metadataOf(client, request.destination, request.user),
      network: "udp",
    };
    const association = new SocksAssociation(
      client,
      this.#packets,
      metadata,
      this.context,
      () => this.#associations.delete(association),
    );
    this.#associations.add(association);
  }

  override async close(): Promise<void> {
    await super.close();
    this.pool.close();
    // They depend on the listener's address.
    for (const association of this.#associations) association.close();
  }
}

/** The client's address; IPv4 as IPv4, however it arrived. */
export function sourceOf(client: Duplex): SocketAddress {
  return client.remote === undefined ? NOBODY : unmapAddress(client.remote);
}

type Machine =
  | { readonly kind: "socks4"; readonly machine: Socks4Server }
  | { readonly kind: "socks5"; readonly machine: Socks5Server }
  | { readonly kind: "http"; readonly machine: HttpProxyServer };

/** One client up to the moment when it is known where it wants to go. */
class PlainClient implements Expiring {
  readonly #inbound: PlainInbound;
  readonly #client: StreamConnection;
  readonly #context: InboundContext;
  readonly #waiting: ExpiringSet;
  readonly #leaving: ExpiringSet;
  #machine: Machine | undefined;
  /** What has arrived and was not used yet. */
  #held: Uint8Array<ArrayBuffer> | undefined;

  constructor(
    inbound: PlainInbound,
    client: StreamConnection,
    context: InboundContext,
    waiting: ExpiringSet,
    leaving: ExpiringSet,
  ) {
    this.#inbound = inbound;
    this.#client = client;
    this.#context = context;
    this.#waiting = waiting;
    this.#leaving = leaving;
    waiting.add(this);
    // The greeting is often there already, and asking costs less than another turn.
    if (this.#receive()) client.watch(this.#readable);
  }

  expire(): void {
    this.#client.close({ reset: true }).catch(() => {});
  }

  readonly #readable = (): void => {
    this.#receive();
  };

  /** Takes what is there. @returns Whether there is more to come. */
  #receive(): boolean {
    for (;;) {
      const held = this.#held;
      const start = held?.length ?? 0;
      if (held !== undefined) shared.set(held);
      const count = this.#client.receiveNow(shared, start, shared.length);
      if (count === WOULD_BLOCK) return true;
      if (count <= STREAM_END) {
        this.#gone();
        return false;
      }
      this.#held = undefined;
      if (!this.#take(start + count)) return false;
    }
  }

  #gone(): void {
    this.#waiting.delete(this);
    this.#client.close().catch(() => {});
  }

  /** Feeds the machine with `[0, end)`. @returns Whether to go on receiving. */
  #take(end: number): boolean {
    const machine = this.#machine ??= this.#choose(shared[0]!);
    if (machine === undefined) {
      this.#gone();
      return false;
    }
    for (let at = 0;;) {
      const step: Step<Socks4Request | Socks5Request | HttpProxyRequest, string> = machine.machine
        .receive(shared, at, end);
      at += step.consumed;
      switch (step.kind) {
        case "need":
          if (at < end) this.#held = shared.slice(at, end);
          return true;
        case "write":
          // The kernel has room for a few bytes; a client that filled it with unread answers is none.
          if (this.#client.sendNow(step.bytes, 0, step.bytes.length) !== step.bytes.length) {
            this.#gone();
            return false;
          }
          break;
        case "refused":
          this.#waiting.delete(this);
          new Farewell(this.#client, step.bytes, this.#leaving);
          return false;
        case "done":
          this.#waiting.delete(this);
          this.#client.watch(undefined);
          this.#done(machine, step.outcome, at === end ? NOTHING : shared.slice(at, end));
          return false;
      }
    }
  }

  #choose(first: number): Machine | undefined {
    const { type, users } = this.#inbound;
    const kind: MixedProtocol = type === "http" ? "http" : chooseMixedProtocol(first);
    switch (kind) {
      case "socks4":
        return { kind, machine: new Socks4Server({ usersRequired: users !== undefined }) };
      case "socks5":
        return { kind, machine: this.#socks5(users) };
      case "http":
        return type === "socks" ? undefined : { kind, machine: new HttpProxyServer(users) };
    }
  }

  #done(
    { kind, machine }: Machine,
    outcome: Socks4Request | Socks5Request | HttpProxyRequest,
    ahead: Uint8Array<ArrayBuffer>,
  ): void {
    const inbound = this.#inbound;
    if ("kind" in outcome) {
      if (outcome.kind === "tunnel") {
        this.#hand("http", outcome.destination, outcome.user, ahead);
      } else {
        forwardRequests({
          inbound,
          client: this.#client,
          server: machine as HttpProxyServer,
          first: outcome,
          ahead,
          handler: this.#context.handler,
          pool: inbound.pool,
          waiting: this.#waiting,
          leaving: this.#leaving,
        });
      }
    } else if (outcome.command === "associate") inbound.associate(this.#client, outcome);
    else if (outcome.command === "resolve" || outcome.command === "resolve-ptr") {
      this.#lookUp(outcome);
    } else {
      const user = "user" in outcome ? outcome.user : undefined;
      this.#hand(kind, outcome.destination, user, ahead);
    }
  }

  /** Who cannot look anything up here answers that the command is not supported, as for `bind`. */
  #socks5(users: UserTable | undefined): Socks5Server {
    const carried: Socks5Command[] = ["connect", "associate"];
    if (this.#context.handler.lookUp !== undefined) carried.push("resolve", "resolve-ptr");
    return new Socks5Server({ commands: carried, ...(users === undefined ? {} : { users }) });
  }

  /** Answers with an address or a name, and that was all. */
  #lookUp({ command, destination, user }: Socks5Request): void {
    const what = command === "resolve" ? "address" : "name";
    const client = this.#client;
    if (what === "name" && ipFamilyOf(destination.host) === 0) {
      return void new Farewell(
        client,
        encodeSocks5Reply(SOCKS5_ADDRESS_UNSUPPORTED),
        this.#leaving,
      );
    }
    const metadata = this.#inbound.metadataOf(client, destination, user);
    const words = async (): Promise<Uint8Array<ArrayBuffer>> => {
      try {
        const host = await this.#context.handler.lookUp!(metadata, what);
        return encodeSocks5Reply(SOCKS5_SUCCEEDED, { host, port: 0 });
      } catch (error) {
        return encodeSocks5Reply(socks5ReplyOf(dialFailure(error)));
      }
    };
    words().then((bytes) => {
      if (!client.closed) new Farewell(client, bytes, this.#leaving);
    });
  }

  #hand(
    reply: ReplyKind,
    destination: Endpoint,
    user: string | undefined,
    ahead: Uint8Array<ArrayBuffer>,
  ): void {
    const metadata = this.#inbound.metadataOf(this.#client, destination, user);
    this.#context.handler.stream({ metadata, client: this.#client, ahead, reply });
  }
}

const NOBODY: SocketAddress = Object.freeze({ family: "ipv4", address: "0.0.0.0", port: 0 });
const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(0));
/** Every receive is used up, or put aside, before the next. As long as the longest head of a request. */
const shared: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(66_560));
