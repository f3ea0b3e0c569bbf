/**
 * DNS over UDP, RFC 1035 §4.2.1: a port and a number nobody knows for each question, and TCP for answers that were cut.
 *
 * @module
 */

import { NameError } from "./resolver.ts";
import { type DnsAsk, encodeDnsQuery } from "./dns_message.ts";
import type { DnsReply } from "./dns_reply.ts";
import {
  closedServer,
  type DnsServer,
  lateAnswer,
  PendingAsks,
  type RemoteServerSettings,
  unfitName,
  whenAborted,
} from "./dns_server.ts";
import { PACKET_HEADROOM, PACKET_TAILROOM, type PacketConnection } from "./packets.ts";
import { type Endpoint, normalizeHost } from "./protocol/mod.ts";
import { ipFamilyOf } from "./protocol/ip_text.ts";

/** Settings of a server that is asked over UDP. */
export interface UdpServerSettings extends RemoteServerSettings {
  /** Asks again over a stream what was cut. */
  readonly whenTruncated: DnsServer;
  /** Waits before the question is sent again, milliseconds; the last one repeats. Default 1 s, 2 s, 4 s. */
  readonly retriesMs?: readonly number[];
}

interface Port {
  readonly endpoint: Endpoint;
  readonly packets: PacketConnection;
  readonly asks: PendingAsks;
}

/** Asks over UDP. */
export class UdpDnsServer implements DnsServer {
  readonly type = "udp";
  readonly tag: string;
  readonly #settings: UdpServerSettings;
  readonly #ports = new Set<Port>();
  #opening = 0;
  #isClosed = false;
  #strangers = 0;

  /** @param settings Where it is, and how it is reached. */
  constructor(settings: UdpServerSettings) {
    this.tag = settings.tag;
    this.#settings = settings;
  }

  /** Datagrams that were no answer to any question: of other senders, with other numbers or questions, or broken. */
  get strangers(): number {
    return this.#strangers;
  }

  /** Asks; see {@linkcode DnsServer.exchange}. */
  async exchange(ask: DnsAsk, signal: AbortSignal): Promise<DnsReply> {
    signal.throwIfAborted();
    const port = await this.#takePort(signal);
    const { reply, truncated } = await this.#ask(port, ask, signal);
    return truncated ? await this.#settings.whenTruncated.exchange(ask, signal) : reply;
  }

  /** Closes its ports. */
  async close(): Promise<void> {
    this.#isClosed = true;
    for (const port of [...this.#ports]) {
      port.asks.fail(closedServer(this.tag));
      this.#release(port);
    }
    await this.#settings.whenTruncated.close();
  }

  #ask(
    port: Port,
    ask: DnsAsk,
    signal: AbortSignal,
  ): Promise<{ readonly reply: DnsReply; readonly truncated: boolean }> {
    const { retriesMs = RETRIES_MS } = this.#settings;
    return new Promise((resolve, reject) => {
      let timer: ReturnType<typeof setTimeout> | undefined;
      let forget = (): void => {};
      const over = (): void => {
        clearTimeout(timer);
        forget();
        this.#release(port);
      };
      const fail = (reason: unknown): void => {
        over();
        reject(reason);
      };
      const id = port.asks.add({
        ask,
        resolve: (answer) => {
          over();
          resolve(answer);
        },
        reject: fail,
      });
      if (id < 0) return fail(lateAnswer(`"${ask.name}"`, 0, 0));
      const giveUp = (reason: unknown): void => {
        port.asks.delete(id);
        fail(reason);
      };
      const query = encodeDnsQuery(id, ask);
      if (query === undefined) return giveUp(unfitName(ask.name));
      const end = PACKET_HEADROOM + query.length;
      let attempts = 0;
      const send = (): void => {
        // Headers of outbounds are written around it: each sending begins from the query.
        const bytes = new Uint8Array(new ArrayBuffer(end + PACKET_TAILROOM));
        bytes.set(query, PACKET_HEADROOM);
        port.packets.send(bytes, PACKET_HEADROOM, end, port.endpoint);
        timer = setTimeout(send, retriesMs[Math.min(attempts++, retriesMs.length - 1)]);
      };
      send();
      forget = whenAborted(signal, () => giveUp(signal.reason));
    });
  }

  /** A port of its own for each question, as long as there are not too many. */
  async #takePort(signal: AbortSignal): Promise<Port> {
    const { dialer, random, locate } = this.#settings;
    if (this.#isClosed) throw closedServer(this.tag);
    if (this.#ports.size > 0 && this.#ports.size + this.#opening >= MAX_PORTS) {
      return [...this.#ports][random.u32() % this.#ports.size]!;
    }
    if (dialer.openPackets === undefined) {
      throw new NameError(
        "proxy.name-not-found",
        `Cannot ask DNS server "${this.tag}": its detour carries no datagrams`,
      );
    }
    this.#opening++;
    let packets: PacketConnection;
    let endpoint: Endpoint;
    try {
      endpoint = await locate(signal);
      packets = await dialer.openPackets({ signal });
    } finally {
      this.#opening--;
    }
    if (this.#isClosed) {
      packets.close();
      throw closedServer(this.tag);
    }
    const { host, port: number } = endpoint;
    // A name is resolved on the other side of a detour: which address answers is not known here.
    const address = ipFamilyOf(host) === 0 ? undefined : normalizeHost(host);
    const port: Port = { endpoint, packets, asks: new PendingAsks(random) };
    this.#ports.add(port);
    packets.watch((bytes, start, end, from) => {
      // A forged answer must not end the wait for the true one: whatever is none is passed over.
      const isServer = from.port === number && (address === undefined || from.host === address);
      if (!isServer || !port.asks.accept(bytes, start, end)) this.#strangers++;
    }, () => port.asks.fail(lateAnswer(`through DNS server "${this.tag}"`, 0, 1)));
    return port;
  }

  #release(port: Port): void {
    if (port.asks.size > 0) return;
    this.#ports.delete(port);
    port.packets.close();
  }
}

const RETRIES_MS: readonly number[] = [1000, 2000, 4000];
/** Open at once; from there on questions share them. */
const MAX_PORTS = 64;
