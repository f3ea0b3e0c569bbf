/**
 * A DNS server for tests, on UDP and TCP of one port, that answers as it is told.
 *
 * @module
 */

import { createSocket, type Socket as UdpSocket } from "node:dgram";
import { createServer, type Server, type Socket } from "node:net";
import { decodeDns, type DnsMessage, type DnsRecord, encodeDnsAnswer } from "../dns_message.ts";
import { addressData } from "../dns_message.ts";

/** What came in. */
export interface UpstreamQuery {
  readonly message: DnsMessage;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly over: "udp" | "tcp";
  /** Port it came from. */
  readonly port: number;
}

/** Answers, in order; nothing for silence. */
export type UpstreamScript = (
  query: UpstreamQuery,
) => Answers | Promise<Answers>;

type Answers = Uint8Array | readonly Uint8Array[] | undefined;

/** A server at work. */
export class DnsUpstream implements AsyncDisposable {
  readonly queries: UpstreamQuery[] = [];
  readonly port: number;
  /** TCP connections so far. */
  connections = 0;
  readonly #udp: UdpSocket;
  readonly #tcp: Server;
  readonly #sockets = new Set<Socket>();
  readonly #script: UpstreamScript;

  private constructor(udp: UdpSocket, tcp: Server, script: UpstreamScript) {
    this.#udp = udp;
    this.#tcp = tcp;
    this.#script = script;
    this.port = udp.address().port;
    udp.on("message", (bytes, from) => {
      const answer = (each: Uint8Array): void => void udp.send(each, from.port, from.address);
      this.#take(new Uint8Array(bytes), "udp", from.port, answer);
    });
    tcp.on("connection", (socket) => this.#accept(socket));
  }

  /** Starts one on a free port of 127.0.0.1. */
  static async start(script: UpstreamScript): Promise<DnsUpstream> {
    for (;;) {
      const udp = createSocket("udp4");
      await new Promise<void>((resolve) => udp.bind(0, "127.0.0.1", resolve));
      const tcp = createServer();
      const listening = await new Promise<boolean>((resolve) => {
        tcp.once("error", () => resolve(false));
        tcp.listen(udp.address().port, "127.0.0.1", () => resolve(true));
      });
      if (listening) return new DnsUpstream(udp, tcp, script);
      udp.close();
    }
  }

  /** Cuts all connections. */
  cut(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cut();
    await Promise.all([
      new Promise<void>((resolve) => this.#udp.close(() => resolve())),
      new Promise<void>((resolve) => this.#tcp.close(() => resolve())),
    ]);
  }

  #accept(socket: Socket): void {
    this.connections++;
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
    let held = new Uint8Array(0);
    socket.on("data", (chunk) => {
      held = Uint8Array.from([...held, ...chunk]);
      while (held.length >= 2 && held.length >= 2 + (held[0]! << 8 | held[1]!)) {
        const length = held[0]! << 8 | held[1]!;
        const message = held.slice(2, 2 + length);
        held = held.slice(2 + length);
        this.#take(message, "tcp", socket.remotePort!, (each) => {
          if (!socket.destroyed) socket.write(framed(each));
        });
      }
    });
  }

  async #take(
    bytes: Uint8Array<ArrayBuffer>,
    over: "udp" | "tcp",
    port: number,
    answer: (bytes: Uint8Array) => void,
  ): Promise<void> {
    const message = decodeDns(bytes, 0, bytes.length);
    if (typeof message === "string") throw new Error(`Cannot answer: ${message}`);
    const query = { message, bytes, over, port };
    this.queries.push(query);
    const answers = await this.#script(query);
    if (answers === undefined) return;
    for (const each of answers instanceof Uint8Array ? [answers] : answers) answer(each);
  }
}

/** A message with its length in front. */
export function framed(message: Uint8Array): Uint8Array<ArrayBuffer> {
  return Uint8Array.from([message.length >> 8, message.length & 255, ...message]);
}

/** The answer to a query: records, or addresses of the asked type. */
export function answerTo(
  { message, bytes }: Pick<UpstreamQuery, "message" | "bytes">,
  records: readonly (DnsRecord | string)[],
  rcode = 0,
  ttl = 60,
): Uint8Array<ArrayBuffer> {
  const { question } = message;
  const answer = records.map((record) =>
    typeof record === "string" ? { type: question.type, ttl, data: addressData(record) } : record
  );
  const answered = encodeDnsAnswer(question, rcode, {
    answer: answer.filter(({ type }) => type !== 6),
    authority: answer.filter(({ type }) => type === 6),
  });
  answered[0] = bytes[0]!;
  answered[1] = bytes[1]!;
  return answered;
}
