/**
 * The inbounds of a proxy, from one configuration to the next.
 *
 * @module
 */

import { closeAll } from "./closing.ts";
import type { InboundConfig } from "./config_types.ts";
import type { Inbound, InboundContext } from "./inbound.ts";
import { createInbound } from "./inbounds/registry.ts";
import type { ListeningInbound } from "./server.ts";

interface OpenInbound {
  /** Its configuration as text, to see whether another one is the same. */
  readonly text: string;
  readonly inbound: Inbound;
  readonly config: InboundConfig;
}

/** What listens. */
export class InboundSet {
  #open: readonly OpenInbound[] = [];

  /** What listens, for others to see. */
  get listening(): readonly ListeningInbound[] {
    return this.#open.map(({ inbound }) => {
      const { type, tag, networks, addresses } = inbound;
      return { type, tag, networks, addresses };
    });
  }

  /** Clients that have not said yet where they want to go. */
  get handshakes(): number {
    let handshakes = 0;
    for (const { inbound } of this.#open) handshakes += inbound.handshakes;
    return handshakes;
  }

  /** Stops listening. */
  close(): Promise<void> {
    return closeAll(this.#open.map(({ inbound }) => inbound));
  }

  /**
   * Listens as configured: what is the same goes on, what is new begins before what is left out ends.
   *
   * @throws {SystemError} When a port cannot be had; all is as it was then, if that can be had again.
   */
  async use(configs: readonly InboundConfig[], context: InboundContext): Promise<void> {
    const before = this.#open;
    const texts = configs.map((config) => JSON.stringify(config));
    const staying = before.filter(({ text }) => texts.includes(text));
    const leaving = before.filter((each) => !staying.includes(each));
    // These first: one of the new wants their port. The rest go on until the new ones listen.
    const ports = configs.map(({ listen }) => listen.port);
    const hindering = leaving.filter(({ inbound }) =>
      inbound.addresses.some(({ port }) => ports.includes(port))
    );
    const places = hindering.map((each) => ({ ...each, port: each.inbound.addresses[0]!.port }));
    await closeAll(hindering.map(({ inbound }) => inbound));
    const open = async (config: InboundConfig, text: string): Promise<OpenInbound> => {
      const inbound = await createInbound(config, context);
      try {
        await inbound.start();
      } catch (error) {
        await inbound.close();
        throw error;
      }
      return { text, inbound, config };
    };
    const begun: OpenInbound[] = [];
    try {
      for (const [index, config] of configs.entries()) {
        const text = texts[index]!;
        const same = staying.find((each) => each.text === text);
        begun.push(same ?? await open(config, text));
      }
    } catch (error) {
      await closeAll(begun.filter((each) => !staying.includes(each)).map((each) => each.inbound));
      for (const { config, text, port } of places) {
        // If somebody took the port meanwhile, the first error says more.
        const again = await open({ ...config, listen: { ...config.listen, port } }, text)
          .catch(() => undefined);
        if (again === undefined) continue;
        this.#open = this.#open.map((each) => each.text === text ? again : each);
      }
      throw error;
    }
    this.#open = begun;
    await closeAll(leaving.map(({ inbound }) => inbound));
  }
}
