/**
 * UDP ASSOCIATE: datagrams of one client of SOCKS5, for as long as its connection lasts. RFC 1928 §7.
 *
 * @module
 */

import { type DatagramOptions, STREAM_END, WOULD_BLOCK } from "../../ffi/mod.ts";
import { logger } from "../../internal/log.ts";
import type { Duplex } from "../duplex.ts";
import type { InboundContext, PacketFlow } from "../inbound.ts";
import type { Metadata } from "../outbound.ts";
import {
  encodeSocks5Reply,
  type Endpoint,
  EndpointCache,
  SOCKS5_DATAGRAM_ADDRESS_AT,
  SOCKS5_GENERAL_FAILURE,
  SOCKS5_MAX_DATAGRAM_HEADER_BYTES,
  SOCKS5_SUCCEEDED,
  socks5DatagramData,
  writeSocks5DatagramHeader,
} from "../protocol/mod.ts";
import { copyRange, PacketSocket } from "../udp_socket.ts";

/** Datagrams of one client. */
export class SocksAssociation {
  readonly #client: Duplex;
  readonly #metadata: Metadata;
  readonly #context: InboundContext;
  readonly #options: Omit<DatagramOptions, "bind">;
  readonly #ended: () => void;
  readonly #endpoints = new EndpointCache(4);
  #socket: PacketSocket | undefined;
  #flow: PacketFlow | undefined;
  /** Where answers go: the first sender, who is the only one from then on. */
  #sender: Endpoint | undefined;
  #closed = false;

  /**
   * Begins to listen, and says where.
   *
   * @param options Of its socket.
   * @param metadata Its destination is where the client says its datagrams will come from.
   * @param ended Called once when it is over.
   */
  constructor(
    client: Duplex,
    options: Omit<DatagramOptions, "bind">,
    metadata: Metadata,
    context: InboundContext,
    ended: () => void,
  ) {
    this.#client = client;
    this.#options = options;
    this.#metadata = metadata;
    this.#context = context;
    this.#ended = ended;
    client.watch(this.#controlled);
    this.#open().catch((error) => {
      logger("proxy", "socks").warning("refused an association: {error}", { error });
      this.#say(SOCKS5_GENERAL_FAILURE, undefined);
      this.close();
    });
  }

  /** Ends it. Idempotent. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#flow?.close();
    this.#socket?.close();
    this.#client.close().catch(() => {});
    this.#ended();
  }

  async #open(): Promise<void> {
    const { local } = this.#client;
    if (local === undefined) throw new TypeError("Cannot associate: the client has no address");
    const host = await this.#context.datagrams();
    const socket = await PacketSocket.open(host, { ...local, port: 0 }, this.#options);
    if (this.#closed) return socket.close();
    this.#socket = socket;
    socket.watch(this.#received);
    this.#say(SOCKS5_SUCCEEDED, socket.local.port);
  }

  #say(code: number, port: number | undefined): void {
    const host = this.#client.local?.address.replace(/^::ffff:(?=\d+\.)/, "");
    const reply = port === undefined || host === undefined
      ? encodeSocks5Reply(code)
      : encodeSocks5Reply(code, { host, port });
    this.#client.sendNow(reply, 0, reply.length);
  }

  /** The connection says nothing more but its end. */
  readonly #controlled = (): void => {
    for (;;) {
      const count = this.#client.receiveNow(waste, 0, waste.length);
      if (count === WOULD_BLOCK) return;
      if (count <= STREAM_END) return this.close();
    }
  };

  readonly #received = (
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    from: Endpoint,
  ): void => {
    if (!this.#isClient(from)) return;
    const data = socks5DatagramData(bytes, start, end);
    if (data < 0) return;
    const to = this.#endpoints.read(bytes, start + SOCKS5_DATAGRAM_ADDRESS_AT, data);
    if (typeof to === "number") return;
    this.#sender = from;
    if (this.#flow === undefined) {
      this.#flow = this.#context.handler.packets({
        metadata: { ...this.#metadata, destination: to },
        reply: this.#reply,
        ended: () => this.close(),
      });
    }
    this.#flow.send(bytes, data, end, to);
  };

  /** Strangers must not use the association: RFC 1928 §6. */
  #isClient(from: Endpoint): boolean {
    if (this.#sender !== undefined) {
      return from === this.#sender ||
        from.port === this.#sender.port && from.host === this.#sender.host;
    }
    const { port } = this.#metadata.destination;
    return from.host === this.#metadata.source.address && (port === 0 || port === from.port);
  }

  readonly #reply = (
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    from: Endpoint,
  ): void => {
    if (this.#sender === undefined || this.#socket === undefined) return;
    const length = writeSocks5DatagramHeader(header, 0, from);
    if (length < 0) return;
    copyRange(header, 0, length, bytes, start - length);
    this.#socket.send(bytes, start - length, end, this.#sender);
  };
}

const header = new Uint8Array(SOCKS5_MAX_DATAGRAM_HEADER_BYTES);
const waste: Uint8Array<ArrayBuffer> = new Uint8Array(new ArrayBuffer(4096));
