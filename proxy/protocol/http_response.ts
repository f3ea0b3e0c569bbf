/**
 * The way back through an HTTP proxy: the server's answer, made fit for the client.
 *
 * @module
 */

import {
  decodeResponseHead,
  encodeHead,
  HeadScanner,
  type HttpFraming,
  type HttpResponseHead,
  listOf,
  responseFraming,
  valueOf,
  wantsToPersist,
} from "./http_head.ts";
import { HOP_BY_HOP, type HttpForwardRequest, namesFraming } from "./http_proxy.ts";
import { NO_BYTES } from "./octets.ts";
import { doneStep, needStep, refusedStep, type Step, writeStep } from "./step.ts";

/** An answer whose head was read. */
export interface HttpProxyResponse {
  /** 101, or 200 to 999. */
  readonly status: number;
  /** The head to send to the client. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** How the body is delimited; for `HttpBody`. */
  readonly framing: HttpFraming;
  /** Send the data of the body alone: the client knows no chunks. Otherwise all of it as it comes. */
  readonly dataOnly: boolean;
  /** Both sides have changed protocols: from here on it is a tunnel. */
  readonly isTunnel: boolean;
  /** The client's connection goes on after the body. */
  readonly clientPersists: boolean;
  /** The server's connection may be used again after the body. */
  readonly serverPersists: boolean;
}

/** Why an answer is given up; the client gets 502 if nothing was sent to it. */
export type HttpResponseReason = "bad-head" | "too-large" | "unasked-upgrade" | "too-many-interim";

/** What a machine must know of the request. */
export type HttpAnswered = Pick<HttpForwardRequest, "method" | "minor" | "persists" | "upgrade">;

/** Reads the head of the answer to one request. Interim answers are handed on as something to write to the client. */
export class HttpResponseMachine {
  readonly #request: HttpAnswered;
  readonly #scanner = new HeadScanner();
  #interim = 0;
  #isEnded = false;

  /**
   * Begins before the first byte of the answer.
   *
   * @param request What is answered.
   */
  constructor(request: HttpAnswered) {
    this.#request = request;
  }

  /** Takes what has arrived from the server; see {@linkcode Step}. What is to be written goes to the client. */
  receive(
    bytes: Uint8Array,
    start: number,
    end: number,
  ): Step<HttpProxyResponse, HttpResponseReason> {
    if (this.#isEnded) return needStep(0, Infinity);
    const length = this.#scanner.scan(bytes, start, end);
    if (length === 0) return needStep(0, end - start + 1);
    if (typeof length === "string") {
      return this.#refuse(0, length === "too-large" ? "too-large" : "bad-head");
    }
    const head = decodeResponseHead(bytes, start, start + length);
    if (typeof head === "string") return this.#refuse(length, "bad-head");
    if (head.status === 101) {
      if (this.#request.upgrade === undefined) return this.#refuse(length, "unasked-upgrade");
    } else if (head.status < 200) {
      if (++this.#interim > MAX_INTERIM) return this.#refuse(length, "too-many-interim");
      // Version 1.0 knows no interim answers. RFC 9110 §15.2.
      if (this.#request.minor === 0) return writeStep(length, NO_BYTES);
      return writeStep(length, encodeHead(statusLine(head), endToEnd(head)));
    }
    return this.#answer(head, length);
  }

  #answer(head: HttpResponseHead, consumed: number): Step<HttpProxyResponse, HttpResponseReason> {
    const framing = responseFraming(head, this.#request.method);
    if (typeof framing === "string" || namesFraming(listOf(head.fields, "connection"))) {
      return this.#refuse(consumed, "bad-head");
    }
    this.#isEnded = true;
    const { minor, persists } = this.#request;
    const isTunnel = head.status === 101;
    const dataOnly = framing.kind === "chunked" && minor === 0;
    const clientPersists = persists && framing.kind !== "close" && !dataOnly && !isTunnel;
    const fields = endToEnd(head);
    const codings = head.fields.filter(({ key }) => key === "transfer-encoding");
    if (codings.length > 0 && minor === 1) {
      // On an answer to HEAD too: it says what GET would have got.
      fields.push({ name: "Transfer-Encoding", value: "chunked" });
      const trailer = valueOf(head.fields, "trailer");
      if (trailer !== undefined) fields.push({ name: "Trailer", value: trailer });
    }
    if (isTunnel) {
      const upgrade = valueOf(head.fields, "upgrade");
      if (upgrade !== undefined) fields.push({ name: "Upgrade", value: upgrade });
      fields.push({ name: "Connection", value: "Upgrade" });
    } else if (!clientPersists) {
      fields.push({ name: "Connection", value: "close" });
    } else if (minor === 0) {
      fields.push({ name: "Connection", value: "keep-alive" });
    }
    return doneStep(consumed, {
      status: head.status,
      head: encodeHead(statusLine(head), fields),
      framing: isTunnel ? { kind: "close" } : framing,
      dataOnly,
      isTunnel,
      clientPersists,
      serverPersists: !isTunnel && framing.kind !== "close" &&
        wantsToPersist(head.minor, head.fields),
    });
  }

  #refuse(
    consumed: number,
    reason: HttpResponseReason,
  ): Step<HttpProxyResponse, HttpResponseReason> {
    this.#isEnded = true;
    return refusedStep(consumed, reason, NO_BYTES);
  }
}

function statusLine(head: HttpResponseHead): string {
  return `HTTP/1.1 ${head.status} ${head.reason}`;
}

function endToEnd(head: HttpResponseHead): { name: string; value: string }[] {
  const named = listOf(head.fields, "connection");
  const fields: { name: string; value: string }[] = [];
  for (const { key, name, value } of head.fields) {
    if (!HOP_BY_HOP.has(key) && !named.includes(key)) fields.push({ name, value });
  }
  return fields;
}

/** Interim answers before the last; nobody sends more. */
const MAX_INTERIM = 16;
