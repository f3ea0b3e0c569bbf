/**
 * The inbounds `redirect` and `tproxy`: what netfilter brought here on its way to somewhere else.
 *
 * @module
 */

import { CapabilityError } from "../../internal/errors.ts";
import { type SocketAddress, type StreamConnection, unmapAddress } from "../../ffi/mod.ts";
import type { Network, RedirectInboundConfig, TproxyInboundConfig } from "../config_types.ts";
import type { InboundContext } from "../inbound.ts";
import type { Metadata } from "../outbound.ts";
import { datagramSettings } from "../socket_settings.ts";
import { StreamInbound } from "./listening.ts";
import { sourceOf } from "./plain.ts";
import { TransparentPackets } from "./transparent_packets.ts";

/** Connections that netfilter redirected, and with TPROXY datagrams as well. */
export class RedirectInbound extends StreamInbound {
  readonly type: "redirect" | "tproxy";
  override readonly networks: readonly Network[];
  readonly #config: RedirectInboundConfig | TproxyInboundConfig;
  #packets: TransparentPackets | undefined;
  #unwatch: (() => void) | undefined;

  /** @param config Its configuration. */
  constructor(config: RedirectInboundConfig | TproxyInboundConfig, context: InboundContext) {
    super(config.tag, config.listen, context, { transparent: config.type === "tproxy" });
    this.type = config.type;
    this.networks = config.type === "tproxy" ? config.networks : ["tcp"];
    this.#config = config;
  }

  override get addresses(): readonly SocketAddress[] {
    const streams = super.addresses;
    return streams.length > 0 || this.#packets === undefined ? streams : [this.#packets.local];
  }

  override async start(): Promise<void> {
    if (!this.context.streams.traits.options) {
      const why = "only the kernel's driver can ask netfilter";
      throw new CapabilityError("proxy.no-redirect", `Cannot open inbound "${this.tag}": ${why}`, {
        capability: "redirect",
        why,
        remedy: 'on Linux, run with --allow-ffi and driver "auto" or "fast"',
      });
    }
    this.#unwatch = this.context.loops.watch();
    if (this.networks.includes("tcp")) await super.start();
    if (!this.networks.includes("udp")) return;
    const socket = await this.openPackets({ transparent: true });
    this.#packets = new TransparentPackets({
      tag: this.tag,
      type: this.type,
      socket,
      context: this.context,
      options: { ...datagramSettings(this.#config.listen), transparent: true, reuseAddress: true },
    });
  }

  protected accepted(client: StreamConnection): void {
    const source = sourceOf(client);
    const original = this.type === "tproxy" ? client.local : client.originalDestination();
    const { loops } = this.context;
    const cut = (): void => void client.close({ reset: true }).catch(() => {});
    if (original === undefined) return cut();
    const { address, port } = unmapAddress(original);
    const destination = Object.freeze({ host: address, port });
    // Somebody connected to the port itself: there is nowhere to go but here, again and again.
    const isHere = super.addresses.some((listener) => loops.isAt(listener, destination));
    if (isHere) return cut();
    const metadata: Metadata = {
      inbound: this.tag,
      inboundType: this.type,
      network: "tcp",
      source,
      destination,
    };
    const { handler } = this.context;
    loops.bring(
      source,
      original,
      () => handler.stream({ metadata, client, ahead: NOTHING, reply: "none" }),
      cut,
    );
  }

  override async close(): Promise<void> {
    this.#unwatch?.();
    this.#packets?.close();
    await super.close();
  }
}

const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);
