/**
 * The outbound `socks`: a server is asked by SOCKS 4, 4a or 5.
 *
 * @module
 */

import { literalAddress, STREAM_END, WOULD_BLOCK } from "../../ffi/mod.ts";
import { AuthError, PeerError, ProtocolError } from "../../internal/errors.ts";
import type { Network, SocksOutboundConfig } from "../config_types.ts";
import { type Duplex, withPrefix } from "../duplex.ts";
import type { DialOptions, Outbound, OutboundContext } from "../outbound.ts";
import type { PacketConnection, PacketReceiver } from "../packets.ts";
import {
  ANY_ENDPOINT,
  type Endpoint,
  EndpointCache,
  formatEndpoint,
  type RefusedStep,
  Socks4Client,
  SOCKS5_DATAGRAM_ADDRESS_AT,
  SOCKS5_MAX_DATAGRAM_HEADER_BYTES,
  Socks5Client,
  socks5DatagramData,
  writeSocks5DatagramHeader,
} from "../protocol/mod.ts";
import { limited, shakeHands } from "../reading.ts";
import { copyRange } from "../udp_socket.ts";
import { ServerLink } from "./server.ts";

/** Reaches destinations through a SOCKS server. */
export class SocksOutbound implements Outbound {
  readonly type = "socks";
  readonly tag: string;
  readonly networks: readonly Network[];
  readonly #config: SocksOutboundConfig;
  readonly #context: OutboundContext;
  readonly #link: ServerLink;

  /** @param config The server, and how it is asked. */
  constructor(config: SocksOutboundConfig, context: OutboundContext) {
    this.tag = config.tag;
    this.networks = config.version === "5"
      ? config.networks
      : config.networks.filter((network) => network === "tcp");
    this.#config = config;
    this.#context = context;
    this.#link = new ServerLink(config, context);
  }

  async dial(destination: Endpoint, options: DialOptions = {}): Promise<Duplex> {
    options.chain?.push(this.tag);
    const what = `reach ${formatEndpoint(destination)} through "${this.tag}"`;
    const limit = limited(options.signal, HANDSHAKE_MS, what);
    try {
      const { stream, ahead } = this.#config.version === "5"
        ? await this.#ask5("connect", destination, what, { ...options, signal: limit.signal })
        : await this.#ask4(destination, what, { ...options, signal: limit.signal });
      return withPrefix(stream, ahead);
    } finally {
      limit.done();
    }
  }

  async openPackets(options: DialOptions = {}): Promise<PacketConnection> {
    options.chain?.push(this.tag);
    const what = `send datagrams through "${this.tag}"`;
    const limit = limited(options.signal, HANDSHAKE_MS, what);
    try {
      const { stream, outcome } = await this.#ask5("associate", ANY_ENDPOINT, what, {
        ...options,
        signal: limit.signal,
      });
      try {
        // A server that does not know its own address means the one it was reached at.
        const host = outcome.host === "0.0.0.0" || outcome.host === "::"
          ? this.#link.server.host
          : outcome.host;
        const relay = Object.freeze({ host, port: outcome.port });
        const packets = await this.#link.openPackets({ signal: limit.signal });
        return new SocksPackets(stream, packets, relay);
      } catch (error) {
        stream.close().catch(() => {});
        throw error;
      }
    } finally {
      limit.done();
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }

  async #ask5(
    command: "connect" | "associate",
    destination: Endpoint,
    what: string,
    options: DialOptions & { readonly signal: AbortSignal },
  ) {
    const { username, password } = this.#config;
    const machine = new Socks5Client({
      command,
      destination,
      ...(username === undefined ? {} : { username, password: password ?? "" }),
    });
    return await this.#ask(machine, what, options);
  }

  async #ask4(
    destination: Endpoint,
    what: string,
    options: DialOptions & { readonly signal: AbortSignal },
  ) {
    const { version, username = "" } = this.#config;
    let asked = destination;
    if (version === "4" && literalAddress(destination.host, 0) === undefined) {
      const [host] = await this.#context.resolver.resolve(destination.host, {
        strategy: "ipv4_only",
        outbound: this.tag,
        signal: options.signal,
      });
      asked = { host: host!, port: destination.port };
    }
    return await this.#ask(
      new Socks4Client({ destination: asked, userId: username }),
      what,
      options,
    );
  }

  async #ask(
    machine: Socks4Client | Socks5Client,
    what: string,
    options: DialOptions & { readonly signal: AbortSignal },
  ) {
    const stream = await this.#link.connect(options);
    try {
      const { outcome, ahead } = await shakeHands(
        stream,
        machine as Socks5Client,
        what,
        (step) => refusal(step, what),
        options.signal,
      );
      return { stream, outcome, ahead };
    } catch (error) {
      stream.close({ reset: true }).catch(() => {});
      throw error;
    }
  }
}

function refusal({ reason, code, text }: RefusedStep<string>, what: string): Error {
  if (reason === "reply") {
    const words = text === "" ? "" : ` (${text})`;
    return new PeerError("proxy.refused", `Cannot ${what}: the server answered ${code}${words}`, {
      peerCode: code,
      peerMessage: text,
    });
  }
  if (reason === "bad-credentials" || reason === "method-refused") {
    return new AuthError(
      "proxy.unauthorized",
      `Cannot ${what}: the server wants other credentials`,
    );
  }
  return new ProtocolError(
    "proxy.bad-response",
    `Cannot ${what}: the server's answer is malformed (${reason}), expected SOCKS`,
    { rule: "RFC 1928 §6" },
  );
}

/** Datagrams that a server relays for as long as a connection lasts. RFC 1928 §7. */
class SocksPackets implements PacketConnection {
  readonly #control: Duplex;
  readonly #packets: PacketConnection;
  readonly #relay: Endpoint;
  readonly #endpoints = new EndpointCache();
  #receiver: PacketReceiver | undefined;
  #ended: (() => void) | undefined;

  constructor(control: Duplex, packets: PacketConnection, relay: Endpoint) {
    this.#control = control;
    this.#packets = packets;
    this.#relay = relay;
    control.watch(this.#controlled);
  }

  get closed(): boolean {
    return this.#packets.closed;
  }

  send(bytes: Uint8Array<ArrayBuffer>, start: number, end: number, to: Endpoint): void {
    const length = writeSocks5DatagramHeader(header, 0, to);
    copyRange(header, 0, length, bytes, start - length);
    this.#packets.send(bytes, start - length, end, this.#relay);
  }

  watch(receiver: PacketReceiver | undefined, closed?: () => void): void {
    this.#receiver = receiver;
    this.#ended = closed;
    this.#packets.watch(receiver === undefined ? undefined : this.#received, () => this.#end());
  }

  close(): void {
    this.#packets.close();
    this.#control.close().catch(() => {});
  }

  readonly #received: PacketReceiver = (bytes, start, end, from) => {
    // Strangers may send to the socket too.
    if (from.port !== this.#relay.port) return;
    const data = socks5DatagramData(bytes, start, end);
    if (data < 0) return;
    const source = this.#endpoints.read(bytes, start + SOCKS5_DATAGRAM_ADDRESS_AT, data);
    if (typeof source !== "number") this.#receiver?.(bytes, data, end, source);
  };

  readonly #controlled = (): void => {
    for (;;) {
      const count = this.#control.receiveNow(waste, 0, waste.length);
      if (count === WOULD_BLOCK) return;
      if (count <= STREAM_END) return this.#end();
    }
  };

  #end(): void {
    if (this.closed) return;
    this.close();
    this.#ended?.();
  }
}

/** TCP handshake and protocol together; proxy.md §2.2. */
export const HANDSHAKE_MS = 15_000;
const header = new Uint8Array(SOCKS5_MAX_DATAGRAM_HEADER_BYTES);
const waste: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(1024));
