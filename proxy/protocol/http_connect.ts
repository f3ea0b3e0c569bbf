/**
 * The client's half of an HTTP proxy's tunnel. RFC 9110 §9.3.6.
 *
 * @module
 */

import { type Endpoint, formatEndpoint } from "./address.ts";
import { decodeResponseHead, encodeHead, HeadScanner, plainText } from "./http_head.ts";
import { latin1Of, NO_BYTES } from "./octets.ts";
import { doneStep, needStep, refusedStep, type Step } from "./step.ts";

/** What a client wants. */
export interface HttpConnectOptions {
  /** Where to. */
  readonly destination: Endpoint;
  /** Sent with the password as Basic credentials when given; no colon. */
  readonly username?: string;
  /** Default: empty. */
  readonly password?: string;
  /** Sent instead of the destination as the target; `Host` names the destination still. */
  readonly path?: string;
  /** More fields; one named `Host` takes the place of ours. */
  readonly headers?: Readonly<Record<string, string>>;
}

/** Why a client gives a server up. */
export type HttpConnectReason = "bad-head" | "too-large" | "status";

/** The client's half of a handshake. Its outcome is the status, one of the 200s. */
export class HttpConnectClient {
  readonly #request: Uint8Array<ArrayBuffer>;
  readonly #scanner = new HeadScanner();
  #interim = 0;
  #isEnded = false;

  /**
   * Puts the request together.
   *
   * @param options What is wanted.
   * @throws {TypeError} When the path, a field or the user name holds what cannot be sent.
   */
  constructor(options: HttpConnectOptions) {
    const { destination, username, password = "", path, headers = {} } = options;
    const target = formatEndpoint(destination);
    const own = Object.entries(headers);
    const fields = own.some(([name]) => name.toLowerCase() === "host")
      ? []
      : [{ name: "Host", value: target }];
    if (username !== undefined) {
      if (username.includes(":")) {
        throw new TypeError("Cannot send a user name with a colon: expected none");
      }
      const credentials = new TextEncoder().encode(`${username}:${password}`);
      const text = btoa(latin1Of(credentials, 0, credentials.length));
      fields.push({ name: "Proxy-Authorization", value: `Basic ${text}` });
    }
    for (const [name, value] of own) {
      if (!/^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/.test(name) || !/^[\t -~\u0080-\u00ff]*$/.test(value)) {
        throw new TypeError(`Cannot send field ${JSON.stringify(name)}: expected a token and text`);
      }
      fields.push({ name, value });
    }
    if (path !== undefined && !/^[!-~]+$/.test(path)) {
      throw new TypeError(
        `Cannot send path ${JSON.stringify(path)}: expected visible ASCII, percent-encoded`,
      );
    }
    this.#request = encodeHead(`CONNECT ${path ?? target} HTTP/1.1`, fields);
  }

  /** What to send first. */
  start(): Uint8Array<ArrayBuffer> {
    return this.#request;
  }

  /** Takes what has arrived; see {@linkcode Step}. What is behind the head is the tunnel's. */
  receive(bytes: Uint8Array, start: number, end: number): Step<number, HttpConnectReason> {
    if (this.#isEnded) return needStep(0, Infinity);
    let from = start;
    while (true) {
      const length = this.#scanner.scan(bytes, from, end);
      if (length === 0) return needStep(from - start, end - from + 1);
      if (typeof length === "string") {
        return this.#refuse(0, length === "too-large" ? "too-large" : "bad-head");
      }
      const head = decodeResponseHead(bytes, from, from + length);
      from += length;
      if (typeof head === "string") return this.#refuse(from - start, "bad-head");
      if (head.status >= 200) {
        this.#isEnded = true;
        const consumed = from - start;
        if (head.status < 300) return doneStep(consumed, head.status);
        const text = plainText(`${head.status} ${head.reason}`);
        return refusedStep(consumed, "status", NO_BYTES, head.status, text);
      }
      if (++this.#interim > MAX_INTERIM) return this.#refuse(from - start, "bad-head");
    }
  }

  #refuse(consumed: number, reason: HttpConnectReason): Step<number, HttpConnectReason> {
    this.#isEnded = true;
    return refusedStep(consumed, reason, NO_BYTES);
  }
}

/** Interim answers before the last; nobody sends more. */
const MAX_INTERIM = 16;
