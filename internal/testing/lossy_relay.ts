/**
 * A bad network in front of a UDP server on loopback, in real time: datagrams of both directions go through seeded
 * virtual links. It follows protocols whose server answers from a port of its own per client, as TFTP's does.
 *
 * @module
 */

import { createSocket, type Socket } from "node:dgram";
import { systemClock } from "../time/clock.ts";
import { seededRandom } from "../random.ts";
import { type LinkProfile, VirtualLink } from "./link.ts";

/** One client's way through the relay. */
interface Flow {
  /** What the server sees. */
  readonly upstream: Socket;
  /** What the client sees, in the place of the server's own port. */
  readonly downstream: Socket;
  /** Where the server answers from. */
  serverPort: number;
}

interface Packet {
  readonly bytes: Uint8Array;
  readonly socket: Socket;
  /** Asked when the packet comes out: the server may have moved by then. */
  readonly port: () => number;
}

/** A relay that is running. */
export class LossyRelay implements AsyncDisposable {
  /** Where clients send requests, on 127.0.0.1. */
  readonly port: number;
  readonly #listener: Socket;
  readonly #server: number;
  readonly #up: VirtualLink<Packet>;
  readonly #down: VirtualLink<Packet>;
  readonly #flows = new Map<number, Promise<Flow>>();
  #timer: ReturnType<typeof setTimeout> | undefined;
  #timerAt = Infinity;
  #open = true;

  private constructor(listener: Socket, server: number, profile: LinkProfile, seed: number) {
    this.#listener = listener;
    this.port = listener.address().port;
    this.#server = server;
    const random = seededRandom(seed);
    this.#up = new VirtualLink(profile, random);
    this.#down = new VirtualLink(profile, random);
    listener.on("message", (bytes, { port }) => void this.#request(bytes, port));
  }

  /** Starts one in front of a port of 127.0.0.1. */
  static async open(server: number, profile: LinkProfile, seed: number): Promise<LossyRelay> {
    return new LossyRelay(await bound(), server, profile, seed);
  }

  /** Datagrams that were lost on either way. */
  get lost(): number {
    return this.#up.lost + this.#down.lost;
  }

  /** Datagrams that were held back or came twice. */
  get disturbed(): number {
    return this.#up.disturbed + this.#down.disturbed;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    clearTimeout(this.#timer);
    await closed(this.#listener);
    for (const flow of await Promise.all(this.#flows.values())) {
      await closed(flow.upstream);
      await closed(flow.downstream);
    }
  }

  async #request(bytes: Uint8Array, client: number): Promise<void> {
    let flow = this.#flows.get(client);
    if (flow === undefined) {
      flow = this.#flow(client);
      this.#flows.set(client, flow);
    }
    const { upstream } = await flow;
    // A request goes to the listening port, whoever served the last one.
    this.#send(this.#up, { bytes, socket: upstream, port: () => this.#server });
  }

  async #flow(client: number): Promise<Flow> {
    const flow: Flow = {
      upstream: await bound(),
      downstream: await bound(),
      serverPort: this.#server,
    };
    flow.upstream.on("message", (bytes, { port }) => {
      flow.serverPort = port;
      this.#send(this.#down, { bytes, socket: flow.downstream, port: () => client });
    });
    flow.downstream.on("message", (bytes) => {
      this.#send(this.#up, { bytes, socket: flow.upstream, port: () => flow.serverPort });
    });
    return flow;
  }

  #send(link: VirtualLink<Packet>, packet: Packet): void {
    if (!this.#open) return;
    link.send(systemClock.now(), packet, packet.bytes.length);
    this.#arm();
  }

  /** One timer for the packet that comes out next. */
  #arm(): void {
    const next = Math.min(this.#up.nextAt, this.#down.nextAt);
    if (next >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = next;
    this.#timer = setTimeout(() => {
      this.#timerAt = Infinity;
      const now = systemClock.now();
      for (const link of [this.#up, this.#down]) {
        for (let packet = link.receive(now); packet !== undefined; packet = link.receive(now)) {
          packet.socket.send(packet.bytes, packet.port(), "127.0.0.1");
        }
      }
      if (this.#open && Math.min(this.#up.nextAt, this.#down.nextAt) < Infinity) this.#arm();
    }, Math.max(0, next - systemClock.now()));
  }
}

function bound(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    socket.once("error", reject);
    socket.bind(0, "127.0.0.1", () => {
      socket.off("error", reject);
      // A peer that has gone is the other side's business.
      socket.on("error", () => {});
      resolve(socket);
    });
  });
}

function closed(socket: Socket): Promise<void> {
  return new Promise((resolve) => socket.close(() => resolve()));
}
