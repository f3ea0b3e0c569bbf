/**
 * Requests in absolute form: each is sent on to the server it names, and the answer sent back, one after the other on one
 * connection of the client. RFC 9112 §9.3.
 *
 * @module
 */

import { STREAM_END, STREAM_FAILED, streamError } from "../../ffi/mod.ts";
import { ProtocolError } from "../../internal/errors.ts";
import { logger } from "../../internal/log.ts";
import type { Duplex } from "../duplex.ts";
import { type Expiring, type ExpiringSet, Farewell } from "../handshakes.ts";
import type { Handler, OpenedStream } from "../inbound.ts";
import type { ConnectionPool } from "../pool.ts";
import {
  encodeHttpAnswer,
  HttpBody,
  type HttpForwardRequest,
  type HttpFraming,
  type HttpProxyResponse,
  type HttpProxyServer,
  HttpResponseMachine,
  httpStatusOf,
} from "../protocol/mod.ts";
import { HeldReader, sendAll } from "../reading.ts";
import { dialFailure, RejectedError } from "../replies.ts";
import type { Metadata } from "../outbound.ts";
import type { Endpoint } from "../protocol/mod.ts";

/** A client whose first request was read. */
export interface ForwardedClient {
  /** Makes what is known about a request. */
  readonly inbound: {
    metadataOf(client: Duplex, destination: Endpoint, user: string | undefined): Metadata;
  };
  /** The client. */
  readonly client: Duplex;
  /** Reads its requests. */
  readonly server: HttpProxyServer;
  /** The first of them. */
  readonly first: HttpForwardRequest;
  /** What was received behind its head. */
  readonly ahead: Uint8Array;
  /** Where requests are routed. */
  readonly handler: Handler;
  /** Idle connections to servers. */
  readonly pool: ConnectionPool<PooledStream>;
  /** Bounds the time between requests. */
  readonly waiting: ExpiringSet;
  /** Bounds last words. */
  readonly leaving: ExpiringSet;
}

/** A connection to a server that may serve several requests. */
export class PooledStream {
  /** The stream. */
  readonly stream: Duplex;
  readonly #opened: OpenedStream;

  /** @param opened As the handler gave it. */
  constructor(opened: OpenedStream) {
    this.stream = opened.upstream;
    this.#opened = opened;
  }

  /** Looks without waiting. */
  receiveNow(bytes: Uint8Array<ArrayBuffer>, start: number, end: number): number {
    return this.stream.receiveNow(bytes, start, end);
  }

  /** Sets who is called back. */
  watch(readable: (() => void) | undefined): void {
    this.stream.watch(readable);
  }

  /** Counts bytes. */
  count(up: number, down: number): void {
    this.#opened.count(up, down);
  }

  /** Closes it, and lets go of its entry. */
  close(): Promise<void> {
    this.#opened.finish();
    return this.stream.close();
  }
}

/** Serves a client's requests until it or a server ends that. Never throws. */
export function forwardRequests(client: ForwardedClient): void {
  new Forwarder(client).run().catch((error) => {
    logger("proxy", "http").warning("gave up a client: {error}", { error });
  });
}

class Forwarder implements Expiring {
  readonly #given: ForwardedClient;
  readonly #reader: HeldReader;
  /** Something of an answer was sent: an answer of our own would be read as a part of it. */
  #answering = false;

  constructor(given: ForwardedClient) {
    this.#given = given;
    this.#reader = new HeldReader(given.client, given.ahead, BUFFER_BYTES);
  }

  expire(): void {
    this.#given.client.close().catch(() => {});
  }

  async run(): Promise<void> {
    const { client, first, leaving } = this.#given;
    let request: HttpForwardRequest | undefined = first;
    try {
      while (request !== undefined) {
        this.#answering = false;
        if (!await this.#serve(request)) break;
        request = await this.#next();
      }
    } catch (error) {
      if (!(error instanceof RejectedError && error.drop) && !this.#answering && !client.closed) {
        const status = error instanceof ProtocolError ? 502 : httpStatusOf(dialFailure(error));
        new Farewell(client, encodeHttpAnswer(status, false), leaving);
        return;
      }
      // The client must not take half an answer for a whole one.
      client.close({ reset: true }).catch(() => {});
      return;
    }
    if (!client.closed) new Farewell(client, NOTHING, leaving);
  }

  /** Reads the next request. `undefined` when there is none, or when it was refused. */
  async #next(): Promise<HttpForwardRequest | undefined> {
    const { client, server, waiting } = this.#given;
    const reader = this.#reader;
    waiting.add(this);
    try {
      for (;;) {
        const step = server.receive(reader.bytes, reader.start, reader.end);
        reader.consume(step.consumed);
        if (step.kind === "done") {
          // CONNECT on a connection that has forwarded before: nobody does that.
          return step.outcome.kind === "forward" ? step.outcome : undefined;
        }
        if (step.kind === "write" || step.kind === "refused") {
          if (step.bytes.length > 0) await sendAll(client, step.bytes, "answer a client");
          if (step.kind === "refused") return undefined;
          continue;
        }
        if (await reader.more() <= STREAM_END) return undefined;
      }
    } finally {
      waiting.delete(this);
    }
  }

  /** Serves one request. @returns Whether the client's connection goes on. */
  async #serve(request: HttpForwardRequest): Promise<boolean> {
    const { client, inbound, handler, pool } = this.#given;
    const metadata = inbound.metadataOf(client, request.destination, request.user);
    const { host, port } = request.destination;
    const key = `${metadata.inbound} ${
      metadata.user ?? ""
    } ${metadata.source.address} ${host} ${port}`;
    const pooled = pool.take(key);
    const server = pooled ?? await this.#open(handler, metadata);
    let keep = false;
    try {
      const outcome = await this.#exchange(request, server, pooled !== undefined);
      if (outcome === "dead") {
        // The server closed an idle connection as we used it. Nothing was answered and no body was sent: once more.
        const fresh = await this.#open(handler, metadata);
        const second = await this.#exchange(request, fresh, false)
          .catch((error) => {
            fresh.close().catch(() => {});
            throw error;
          });
        if (second !== "dead" && second.serverPersists) pool.give(key, fresh);
        else fresh.close().catch(() => {});
        return second !== "dead" && second.clientPersists;
      }
      keep = outcome.serverPersists;
      return outcome.clientPersists;
    } finally {
      if (keep) pool.give(key, server);
      else server.close().catch(() => {});
    }
  }

  async #open(handler: Handler, metadata: Metadata): Promise<PooledStream> {
    let stream: PooledStream | undefined;
    const opened = await handler.open(metadata, () => stream?.close());
    return stream = new PooledStream(opened);
  }

  async #exchange(
    request: HttpForwardRequest,
    server: PooledStream,
    isUsed: boolean,
  ): Promise<{ clientPersists: boolean; serverPersists: boolean } | "dead"> {
    const { client } = this.#given;
    const what = "forward a request";
    const sent = await server.stream.send(request.head, 0, request.head.length);
    if (sent === STREAM_FAILED) {
      if (isUsed) return "dead";
      throw streamError(server.stream.failure, what);
    }
    server.count(sent, 0);
    const hasBody = request.framing.kind !== "none";
    const body = hasBody ? this.#sendBody(request.framing, server) : undefined;
    // What it fails with is looked at after the answer, if there is one: servers refuse bodies by closing.
    body?.catch(() => {});
    const answer = new HeldReader(server.stream, NOTHING, BUFFER_BYTES);
    const head = await this.#readHead(request, answer, isUsed && !hasBody);
    if (head === "dead") return head;
    this.#answering = true;
    await sendAll(client, head.head, "answer a client");
    if (head.isTunnel) {
      await this.#tunnel(server, answer);
      return { clientPersists: false, serverPersists: false };
    }
    await this.#sendAnswer(head, answer, server);
    // An answer before the whole request was sent: nobody knows where the next one begins.
    const complete = body === undefined || await settledTrue(body);
    return {
      clientPersists: head.clientPersists && complete,
      serverPersists: head.serverPersists && complete && answer.start === answer.end,
    };
  }

  async #sendBody(framing: HttpFraming, server: PooledStream): Promise<boolean> {
    const reader = this.#reader;
    const body = new HttpBody(framing);
    while (!body.finished) {
      if (reader.start === reader.end && await reader.more() <= STREAM_END) return false;
      const taken = body.receive(reader.bytes, reader.start, reader.end);
      if (taken < 0) return false;
      if (taken === 0) continue;
      const sent = await server.stream.send(reader.bytes, reader.start, reader.start + taken);
      if (sent === STREAM_FAILED) return false;
      server.count(taken, 0);
      reader.consume(taken);
    }
    return true;
  }

  async #readHead(
    request: HttpForwardRequest,
    answer: HeldReader,
    mayBeDead: boolean,
  ): Promise<HttpProxyResponse | "dead"> {
    const { client } = this.#given;
    const machine = new HttpResponseMachine(request);
    let isFresh = true;
    for (;;) {
      const step = machine.receive(answer.bytes, answer.start, answer.end);
      answer.consume(step.consumed);
      if (step.kind === "done") return step.outcome;
      if (step.kind === "refused") {
        throw new ProtocolError(
          "proxy.bad-response",
          `Cannot forward an answer: it is malformed (${step.reason}), expected HTTP/1`,
          { rule: "RFC 9112 §4" },
        );
      }
      if (step.kind === "write") {
        // 100 Continue and its like: said, but no answer yet.
        await sendAll(client, step.bytes, "answer a client");
        continue;
      }
      const count = await answer.more();
      if (count > 0) {
        isFresh = false;
        continue;
      }
      if (isFresh && mayBeDead) return "dead";
      throw new ProtocolError(
        "proxy.bad-response",
        "Cannot forward an answer: the server closed the connection, expected a whole head",
        { rule: "RFC 9112 §4" },
      );
    }
  }

  async #sendAnswer(
    { framing, dataOnly }: HttpProxyResponse,
    answer: HeldReader,
    server: PooledStream,
  ): Promise<void> {
    const { client } = this.#given;
    const body = new HttpBody(framing);
    while (!body.finished) {
      if (answer.start === answer.end) {
        const count = await answer.more();
        if (count === STREAM_END && body.end()) return;
        if (count <= STREAM_END) throw streamError(server.stream.failure, "forward an answer");
      }
      const taken = body.receive(answer.bytes, answer.start, answer.end);
      if (taken < 0) {
        throw new ProtocolError(
          "proxy.bad-response",
          "Cannot forward an answer: its chunks are malformed, expected sizes as RFC 9112 has them",
          { rule: "RFC 9112 §7.1" },
        );
      }
      server.count(0, taken);
      if (dataOnly) {
        for (let i = 0; i < body.count; i++) {
          await sendRange(client, answer.bytes, body.starts[i]!, body.ends[i]!);
        }
      } else await sendRange(client, answer.bytes, answer.start, answer.start + taken);
      answer.consume(taken);
    }
  }

  /** After 101 both sides speak something else. */
  async #tunnel(server: PooledStream, answer: HeldReader): Promise<void> {
    const { client } = this.#given;
    const up = copy(this.#reader, server.stream, (count) => server.count(count, 0));
    const down = copy(answer, client, (count) => server.count(0, count));
    await Promise.all([up, down]);
  }
}

/** Copies until the source ends, then says so to the target; a failure closes both. */
async function copy(
  reader: HeldReader,
  target: Duplex,
  count: (bytes: number) => void,
): Promise<void> {
  for (;;) {
    if (reader.start === reader.end) {
      const came = await reader.more();
      if (came === STREAM_END) return target.end();
      if (came === STREAM_FAILED) break;
    }
    const bytes = reader.end - reader.start;
    if (await target.send(reader.bytes, reader.start, reader.end) === STREAM_FAILED) break;
    count(bytes);
    reader.consume(bytes);
  }
  await Promise.all([reader.stream.close({ reset: true }), target.close({ reset: true })]);
}

async function sendRange(
  target: Duplex,
  bytes: Uint8Array<ArrayBuffer>,
  start: number,
  end: number,
): Promise<void> {
  if (start === end) return;
  if (await target.send(bytes, start, end) === STREAM_FAILED) {
    throw streamError(target.failure, "answer a client");
  }
}

async function settledTrue(promise: Promise<boolean>): Promise<boolean> {
  const late = new Promise<boolean>((resolve) => queueMicrotask(() => resolve(false)));
  return await Promise.race([promise.catch(() => false), late]);
}

const BUFFER_BYTES = 16_384;
const NOTHING: Uint8Array<ArrayBuffer> = new Uint8Array(0);
