/**
 * The short ways: one connection through an outbound, and a SOCKS server in front of a program's own code.
 *
 * @module
 */

import {
  type AeadProvider,
  type Driver,
  openAeads,
  openDatagramHost,
  openStreamHost,
  type SocketAddress,
} from "../ffi/mod.ts";
import { secureRandom } from "../internal/random.ts";
import { systemClock } from "../internal/time/clock.ts";
import { resolveProxyConfig } from "./config.ts";
import type { UserConfig } from "./config_types.ts";
import { type Duplex, PrefixedDuplex, withPrefix } from "./duplex.ts";
import { createProxy } from "./engine.ts";
import { ExpiringSet } from "./handshakes.ts";
import type { Handler, InboundStream, PacketFlow } from "./inbound.ts";
import { LoopGuard } from "./loop_guard.ts";
import { PlainInbound } from "./inbounds/plain.ts";
import type { DialFailure, Endpoint } from "./protocol/mod.ts";
import { RejectedError } from "./replies.ts";
import { WaitingClient } from "./serving.ts";
import type { ProxyServer } from "./server.ts";

/** How to dial, besides where. */
export interface DialViaOptions {
  /** Which driver carries the connection. Default `auto`. */
  readonly driver?: Driver;
  /** Gives up when aborted. */
  readonly signal?: AbortSignal;
}

/**
 * Connects through an outbound that is described here.
 *
 * @param outbound As an entry of `outbounds` in a configuration.
 * @returns The stream; what it lives on is closed with it.
 * @throws {TypeError} Naming everything that is wrong with the outbound. @throws {FastwireError} When there is no way.
 */
export async function dialVia(
  outbound: object,
  destination: Endpoint,
  options: DialViaOptions = {},
): Promise<Duplex> {
  const { driver = "auto", signal } = options;
  const proxy = await createProxy({ outbounds: [{ tag: "out", ...outbound }] }, { driver });
  try {
    const stream = await proxy.outbound().dial(destination, { signal });
    return new OwningDuplex(stream, proxy);
  } catch (error) {
    await proxy.close();
    throw error;
  }
}

/** A SOCKS5 server, and who one is there. */
export interface SocksServer {
  /** Its name or address. */
  readonly host: string;
  /** Its port. */
  readonly port: number;
  /** User, when it wants one. */
  readonly username?: string;
  /** Secret. */
  readonly password?: string;
}

/**
 * Connects through a SOCKS5 server.
 *
 * @throws {PeerError} `proxy.refused` with the server's reply code. @throws {FastwireError} When there is no way.
 */
export function socks5Connect(
  { host, port, username, password }: SocksServer,
  destination: Endpoint,
  options: DialViaOptions = {},
): Promise<Duplex> {
  const user = username === undefined ? {} : { username, password: password ?? "" };
  return dialVia({ type: "socks", server: host, server_port: port, ...user }, destination, options);
}

/** A client that asks for a destination. To be answered once. */
export interface SocksClient {
  /** Where it wants to go. */
  readonly destination: Endpoint;
  /** The client. */
  readonly source: SocketAddress;
  /** Who it is, when users are configured. */
  readonly user: string | undefined;
  /** Tells the client that all is well. @returns The stream; the caller's to close. */
  accept(): Duplex;
  /** Tells the client why not, and closes. */
  refuse(failure: DialFailure): void;
}

/** How to listen. */
export interface ListenSocksOptions {
  /** Address. Default `127.0.0.1`. */
  readonly address?: string;
  /** Port. Default 0: any free one. */
  readonly port?: number;
  /** Who may come in. Default: everybody. */
  readonly users?: readonly UserConfig[];
  /** Which driver carries the connections. Default `auto`. */
  readonly driver?: Driver;
}

/** A SOCKS server that listens. */
export interface SocksListener extends AsyncDisposable {
  /** Where; the port is the real one. */
  readonly address: SocketAddress;
  /** Stops listening and cuts what is left. */
  close(): Promise<void>;
}

/**
 * Listens for clients of SOCKS 4, 4a and 5 and hands them to a program's own code. Datagrams are refused.
 *
 * @param handler Called with each client once it has said where it wants to go. Must not throw.
 * @throws {SystemError} When the port cannot be had.
 *
 * @example
 * ```ts
 * import { listenSocks, socks5Connect } from "@fastwire/net/proxy";
 * import { equal } from "node:assert/strict";
 *
 * await using listener = await listenSocks((client) => {
 *   const stream = client.accept();
 *   const answer = new TextEncoder().encode(client.destination.host);
 *   stream.sendNow(answer, 0, answer.length);
 *   stream.end();
 * });
 * const server = { host: "127.0.0.1", port: listener.address.port };
 * const stream = await socks5Connect(server, { host: "example.com", port: 80 });
 * const bytes = new Uint8Array(64);
 * const count = await stream.receive(bytes, 0, 64);
 * equal(new TextDecoder().decode(bytes.subarray(0, count)), "example.com");
 * await stream.close();
 * ```
 */
export async function listenSocks(
  handler: (client: SocksClient) => void,
  options: ListenSocksOptions = {},
): Promise<SocksListener> {
  const { address = "127.0.0.1", port = 0, users = [], driver = "auto" } = options;
  const config = resolveProxyConfig({
    inbounds: [{ type: "socks", tag: "socks", listen: address, listen_port: port, users }],
  }).inbounds[0];
  if (config?.type !== "socks") throw new TypeError("Cannot listen: the configuration was lost");
  const streams = await openStreamHost({ driver });
  const leaving = new ExpiringSet(FAREWELL_MS, systemClock);
  let aeads: Promise<AeadProvider> | undefined;
  const inbound = new PlainInbound(config, {
    streams,
    datagrams: () => openDatagramHost({ driver }),
    aeads: () => aeads ??= openAeads({ driver }),
    handler: new ClientHandler(handler, leaving),
    loops: new LoopGuard(systemClock),
    // What a client needs besides is the program's to know.
    hasRoom: () => true,
    clock: systemClock,
    unixSeconds: () => Math.floor(Date.now() / 1000),
    random: secureRandom,
  });
  let closing: Promise<void> | undefined;
  const close = (): Promise<void> =>
    closing ??= (async () => {
      await inbound.close();
      leaving.close();
      await streams.close();
    })();
  try {
    await inbound.start();
  } catch (error) {
    await close();
    throw error;
  }
  return { address: inbound.addresses[0]!, close, [Symbol.asyncDispose]: close };
}

/** A stream that closes what it lives on. */
class OwningDuplex extends PrefixedDuplex {
  readonly #proxy: ProxyServer;

  constructor(inner: Duplex, proxy: ProxyServer) {
    super(inner, NOTHING);
    this.#proxy = proxy;
  }

  override async close(options?: { readonly reset?: boolean }): Promise<void> {
    await super.close(options);
    await this.#proxy.close();
  }
}

class ClientHandler implements Handler {
  readonly #handler: (client: SocksClient) => void;
  readonly #leaving: ExpiringSet;

  constructor(handler: (client: SocksClient) => void, leaving: ExpiringSet) {
    this.#handler = handler;
    this.#leaving = leaving;
  }

  stream(stream: InboundStream): void {
    const { destination, source, user } = stream.metadata;
    const client = new WaitingClient(stream, this.#leaving);
    this.#handler({
      destination,
      source,
      user,
      accept() {
        const words = client.opened(undefined);
        if (words !== undefined && words.length > 0) stream.client.sendNow(words, 0, words.length);
        return withPrefix(stream.client, client.ahead);
      },
      refuse: (failure) => client.refuse(failure),
    });
  }

  open(): Promise<never> {
    return Promise.reject(new RejectedError("Cannot forward a request: this is no HTTP proxy"));
  }

  packets(packets: Parameters<Handler["packets"]>[0]): PacketFlow {
    queueMicrotask(() => packets.ended());
    return { closed: false, send: () => {}, close: () => {} };
  }
}

const FAREWELL_MS = 2000;
const NOTHING: Uint8Array = new Uint8Array(0);
