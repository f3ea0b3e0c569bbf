/**
 * Associations by the address datagrams come from, for inbounds whose datagrams carry no address of their own.
 *
 * @module
 */

import { literalAddress, type SocketAddress } from "../../ffi/mod.ts";
import type { Handler, PacketFlow } from "../inbound.ts";
import type { Endpoint } from "../protocol/mod.ts";

/**
 * Sends to a client; as `PacketReceiver`.
 *
 * @param from Where the datagram comes from.
 */
export type SourceSender = (
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
  client: Endpoint,
  from: Endpoint,
) => void;

/** One association for each client. */
export class SourceFlows {
  readonly #handler: Handler;
  readonly #describe: { readonly inbound: string; readonly inboundType: string };
  readonly #send: SourceSender;
  readonly #flows = new Map<string, PacketFlow>();

  /**
   * Begins with none.
   *
   * @param describe What is known about all of them.
   */
  constructor(
    handler: Handler,
    describe: { readonly inbound: string; readonly inboundType: string },
    send: SourceSender,
  ) {
    this.#handler = handler;
    this.#describe = describe;
    this.#send = send;
  }

  /** Takes a datagram of a client. */
  take(
    bytes: Uint8Array<ArrayBuffer>,
    start: number,
    end: number,
    from: Endpoint,
    to: Endpoint,
  ): void {
    const key = `${from.host} ${from.port}`;
    let flow = this.#flows.get(key);
    if (flow === undefined || flow.closed) {
      if (this.#flows.size >= MOST_FLOWS) return;
      flow = this.#handler.packets({
        metadata: {
          ...this.#describe,
          network: "udp",
          source: endpointAddress(from),
          destination: to,
        },
        reply: (reply, first, last, source) => this.#send(reply, first, last, from, source),
        ended: () => this.#flows.delete(key),
      });
      this.#flows.set(key, flow);
    }
    flow.send(bytes, start, end, to);
  }

  /** Ends all of them. */
  close(): void {
    for (const flow of this.#flows.values()) flow.close();
    this.#flows.clear();
  }
}

/** The address of an endpoint that is one. */
export function endpointAddress({ host, port }: Endpoint): SocketAddress {
  return literalAddress(host, port) ?? { family: "ipv4", address: "0.0.0.0", port };
}

const MOST_FLOWS = 8192;
