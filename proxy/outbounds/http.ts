/**
 * The outbound `http`: a proxy is asked to CONNECT.
 *
 * @module
 */

import { PeerError, ProtocolError } from "../../internal/errors.ts";
import type { HttpOutboundConfig, Network } from "../config_types.ts";
import { type Duplex, withPrefix } from "../duplex.ts";
import type { DialOptions, Outbound, OutboundContext } from "../outbound.ts";
import { type Endpoint, formatEndpoint, HttpConnectClient } from "../protocol/mod.ts";
import { limited, shakeHands } from "../reading.ts";
import { HANDSHAKE_MS } from "./socks.ts";
import { ServerLink } from "./server.ts";

/** Reaches destinations through an HTTP proxy. */
export class HttpOutbound implements Outbound {
  readonly type = "http";
  readonly tag: string;
  readonly networks: readonly Network[] = ["tcp"];
  readonly #config: HttpOutboundConfig;
  readonly #link: ServerLink;

  /** @param config The server, and how it is asked. */
  constructor(config: HttpOutboundConfig, context: OutboundContext) {
    this.tag = config.tag;
    this.#config = config;
    this.#link = new ServerLink(config, context);
  }

  async dial(destination: Endpoint, options: DialOptions = {}): Promise<Duplex> {
    options.chain?.push(this.tag);
    const { username, password, path, headers } = this.#config;
    const what = `reach ${formatEndpoint(destination)} through "${this.tag}"`;
    const machine = new HttpConnectClient({
      destination,
      ...(username === undefined ? {} : { username, password: password ?? "" }),
      ...(path === undefined ? {} : { path }),
      headers: Object.fromEntries(
        Object.entries(headers).map(([name, values]) => [name, values.join(", ")]),
      ),
    });
    const limit = limited(options.signal, HANDSHAKE_MS, what);
    try {
      const stream = await this.#link.connect({ ...options, signal: limit.signal });
      try {
        const { ahead } = await shakeHands(stream, machine, what, ({ reason, code, text }) => {
          if (reason === "status") {
            return new PeerError(
              "proxy.refused",
              `Cannot ${what}: the server answered ${code} ${text}`,
              { peerCode: code, peerMessage: text },
            );
          }
          return new ProtocolError(
            "proxy.bad-response",
            `Cannot ${what}: the server's answer is malformed (${reason}), expected HTTP/1`,
            { rule: "RFC 9112 §4" },
          );
        }, limit.signal);
        return withPrefix(stream, ahead);
      } catch (error) {
        stream.close({ reset: true }).catch(() => {});
        throw error;
      }
    } finally {
      limit.done();
    }
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
