/**
 * DNS over HTTPS, RFC 8484: POST over HTTP/2, one connection that is kept; over HTTP/1.1 a connection for each question.
 *
 * @module
 */

import { request as requestPlain } from "node:http";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import type { Readable } from "node:stream";
import type { TLSSocket } from "node:tls";
import { PeerError, ProtocolError } from "../internal/errors.ts";
import type { HttpsDnsServerConfig } from "./config_types.ts";
import { decodeDns, type DnsAsk, encodeDnsQuery, MAX_DNS_BYTES } from "./dns_message.ts";
import { type DnsReply, replyOf } from "./dns_reply.ts";
import {
  closedServer,
  type DnsServer,
  type RemoteServerSettings,
  sameQuestion,
  unfitName,
  whenAborted,
} from "./dns_server.ts";
import { beginTls } from "./dns_tls.ts";
import { formatEndpoint } from "./protocol/mod.ts";

/** Settings of a server that is asked over HTTPS. */
export interface HttpsServerSettings extends Omit<RemoteServerSettings, "random"> {
  /** The server, a name or an address; what is checked unless the configuration says otherwise. */
  readonly host: string;
  /** Port, for the `Host` field. */
  readonly port: number;
  /** Path, fields and what is checked of the server. */
  readonly config: Pick<HttpsDnsServerConfig, "path" | "headers" | "tls">;
}

interface HttpAnswer {
  readonly status: number;
  readonly body: Uint8Array<ArrayBuffer>;
}

/** What a connection became by its ALPN. */
type Link =
  | { readonly kind: "h2"; readonly session: ClientHttp2Session }
  | { readonly kind: "http/1.1"; readonly socket: TLSSocket; isTaken: boolean };

/** Asks over HTTPS. */
export class HttpsDnsServer implements DnsServer {
  readonly type = "https";
  readonly tag: string;
  readonly #settings: HttpsServerSettings;
  readonly #closing = new AbortController();
  readonly #authority: string;
  #session: Promise<Link> | undefined;
  #connections = 0;

  /** @param settings Where it is, and how it is reached. */
  constructor(settings: HttpsServerSettings) {
    this.tag = settings.tag;
    this.#settings = settings;
    const { host, port } = settings;
    const name = settings.config.tls.serverName ?? host;
    this.#authority = formatEndpoint({ host: name, port }).replace(/:443$/, "");
  }

  /** Connections made so far. */
  get connections(): number {
    return this.#connections;
  }

  /** Asks; see {@linkcode DnsServer.exchange}. */
  async exchange(ask: DnsAsk, signal: AbortSignal): Promise<DnsReply> {
    // The number is 0: what is asked twice looks the same to caches on the way. RFC 8484 §4.1.
    const query = encodeDnsQuery(0, ask);
    if (query === undefined) throw unfitName(ask.name);
    const { status, body } = await this.#send(query, signal);
    if (status !== 200) {
      throw new PeerError(
        "proxy.name-refused",
        `Cannot ask DNS server "${this.tag}": it answered with HTTP status ${status}`,
        { peerCode: status, peerMessage: "" },
      );
    }
    const message = decodeDns(body, 0, body.length);
    if (typeof message === "string" || !message.isResponse || !sameQuestion(ask, message)) {
      throw new ProtocolError(
        "proxy.name-garbled",
        `Cannot ask DNS server "${this.tag}": its answer is none to the question`,
        { rule: "RFC 8484 §4.2" },
      );
    }
    return replyOf(body, 0, message);
  }

  /** Closes its connection. */
  async close(): Promise<void> {
    if (this.#closing.signal.aborted) return;
    this.#closing.abort(closedServer(this.tag));
    const link = await this.#session?.catch(() => undefined);
    if (link?.kind === "h2") link.session.destroy();
  }

  async #send(query: Uint8Array<ArrayBuffer>, signal: AbortSignal): Promise<HttpAnswer> {
    for (let attempt = 0;; attempt++) {
      signal.throwIfAborted();
      if (this.#closing.signal.aborted) throw closedServer(this.tag);
      const isKept = this.#session !== undefined;
      const connecting = this.#session ??= this.#connect();
      let link: Link;
      try {
        link = await connecting;
      } catch (error) {
        this.#forget(connecting);
        throw error;
      }
      if (link.kind === "http/1.1") {
        // It carries one question and is not kept; who waited for it as well makes another.
        this.#forget(connecting);
        if (link.isTaken) continue;
        link.isTaken = true;
        return await this.#sendPlain(link.socket, query, signal);
      }
      try {
        return await this.#sendHttp2(link.session, query, signal);
      } catch (error) {
        if (!link.session.closed && !link.session.destroyed) throw error;
        this.#forget(connecting);
        if (!isKept || attempt > 0 || signal.aborted) throw error;
      }
    }
  }

  #forget(session: Promise<Link>): void {
    if (this.#session === session) this.#session = undefined;
  }

  async #connect(): Promise<Link> {
    const { dialer, locate, config, host } = this.#settings;
    const { signal } = this.#closing;
    const duplex = await dialer.dial(await locate(signal), { signal });
    const socket = await beginTls(duplex, {
      tls: config.tls,
      host,
      alpn: ["h2", "http/1.1"],
      signal,
    });
    this.#connections++;
    if (socket.alpnProtocol !== "h2") {
      return { kind: "http/1.1", socket, isTaken: false };
    }
    const session = connectHttp2(`https://${this.#authority}`, { createConnection: () => socket });
    session.on("error", () => {});
    session.once("close", () => socket.destroy());
    // A session that is not used gives way after a while; the next question makes another.
    session.setTimeout(IDLE_MS, () => session.close());
    return { kind: "h2", session };
  }

  #sendHttp2(
    session: ClientHttp2Session,
    query: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    return new Promise((resolve, reject) => {
      const stream = session.request({
        ...this.#fields(query),
        ":method": "POST",
        ":path": this.#settings.config.path,
      });
      const forget = whenAborted(signal, () => {
        stream.close();
        reject(signal.reason);
      });
      const fail = (reason: unknown): void => {
        forget();
        stream.close();
        reject(reason);
      };
      let status = 0;
      stream.on("response", (head) => status = Number(head[":status"]));
      collect(stream, this.tag).then((body) => {
        forget();
        if (status === 0) fail(closedServer(this.tag));
        else resolve({ status, body });
      }, fail);
      stream.end(query);
    });
  }

  #sendPlain(
    socket: TLSSocket,
    query: Uint8Array<ArrayBuffer>,
    signal: AbortSignal,
  ): Promise<HttpAnswer> {
    return new Promise<HttpAnswer>((resolve, reject) => {
      const request = requestPlain({
        method: "POST",
        path: this.#settings.config.path,
        headers: { ...this.#fields(query), host: this.#authority, connection: "close" },
        createConnection: () => socket,
      });
      const forget = whenAborted(signal, () => {
        reject(signal.reason);
        request.destroy();
      });
      request.on("error", (error) => {
        forget();
        reject(error);
      });
      request.on("response", (response) => {
        collect(response, this.tag).then(
          (body) => resolve({ status: response.statusCode ?? 0, body }),
          reject,
        ).finally(forget);
      });
      request.end(query);
    }).finally(() => socket.destroy());
  }

  #fields(query: Uint8Array): Record<string, string | string[]> {
    const fields: Record<string, string | string[]> = {};
    for (const [name, values] of Object.entries(this.#settings.config.headers)) {
      fields[name.toLowerCase()] = [...values];
    }
    fields["content-type"] = "application/dns-message";
    fields["accept"] = "application/dns-message";
    fields["content-length"] = String(query.length);
    return fields;
  }
}

/** A body, as long as a message can be. */
function collect(stream: Readable, tag: string): Promise<Uint8Array<ArrayBuffer>> {
  return new Promise((resolve, reject) => {
    const body = new Uint8Array(MAX_DNS_BYTES);
    let length = 0;
    stream.on("data", (chunk: Uint8Array) => {
      if (length + chunk.length > MAX_DNS_BYTES) {
        reject(
          new ProtocolError(
            "proxy.name-garbled",
            `Cannot ask DNS server "${tag}": its answer is longer than ${MAX_DNS_BYTES} bytes`,
            { rule: "RFC 8484 §6" },
          ),
        );
        stream.destroy();
        return;
      }
      body.set(chunk, length);
      length += chunk.length;
    });
    stream.on("end", () => resolve(body.slice(0, length)));
    stream.on("error", reject);
    // A stream that was cut has no end; one that had its end is settled already.
    stream.on("close", () => reject(closedServer(tag)));
  });
}

const IDLE_MS = 30_000;
