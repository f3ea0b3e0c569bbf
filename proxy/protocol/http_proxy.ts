/**
 * The server's half of an HTTP proxy: requests with `CONNECT`, which become tunnels, and in absolute form, which are
 * rewritten and passed on. RFC 9110 §7, §9.3.6, §11.7; RFC 9112 §3.2, §9.
 *
 * @module
 */

import { type Endpoint, formatEndpoint, parseEndpoint } from "./address.ts";
import type { UserTable } from "./credentials.ts";
import { HttpBody } from "./http_body.ts";
import {
  decodeRequestHead,
  encodeHead,
  HeadScanner,
  type HttpField,
  type HttpFraming,
  type HttpRequestHead,
  listOf,
  requestFraming,
  statusOfFault,
  valueOf,
  wantsToPersist,
} from "./http_head.ts";
import { bytesOfLatin1, NO_BYTES } from "./octets.ts";
import { type DialFailure, doneStep, needStep, refusedStep, type Step, writeStep } from "./step.ts";

/** A request for a tunnel. What follows belongs to it. */
export interface HttpTunnelRequest {
  /** Which request this is. */
  readonly kind: "tunnel";
  /** Where to. */
  readonly destination: Endpoint;
  /** Who asks, when users are configured. */
  readonly user: string | undefined;
}

/** A request to pass on. Its body follows; behind the body, and once it was answered, comes the next request. */
export interface HttpForwardRequest {
  /** Which request this is. */
  readonly kind: "forward";
  /** Where to. */
  readonly destination: Endpoint;
  /** Who asks, when users are configured. */
  readonly user: string | undefined;
  /** The method: the answer to HEAD has no body. */
  readonly method: string;
  /** The head to send on: origin form, without what concerns this connection only. */
  readonly head: Uint8Array<ArrayBuffer>;
  /** How the body is delimited; for {@linkcode HttpBody}. It is sent on as it comes. */
  readonly framing: HttpFraming;
  /** The client may wait for `100 Continue` before it sends the body: read answers meanwhile. */
  readonly expectsContinue: boolean;
  /** The client wants to go on with the connection. */
  readonly persists: boolean;
  /** The minor version the client speaks; 0 knows no chunks. */
  readonly minor: 0 | 1;
  /** What the client wants to change to, lower case: answered by 101 the connection becomes a tunnel. */
  readonly upgrade: string | undefined;
}

/** What a client of an HTTP proxy can ask for. */
export type HttpProxyRequest = HttpTunnelRequest | HttpForwardRequest;

/** Why a server gives a client up. */
export type HttpProxyReason = "bad-head" | "bad-target" | "too-large" | "unauthorized";

/** The server's half of a connection: one call of `receive` after the other, request by request. */
export class HttpProxyServer {
  readonly #users: UserTable | undefined;
  readonly #scanner = new HeadScanner();
  /** The body of a request that was not allowed, on its way to nowhere. */
  #discarded: HttpBody | undefined;
  #isEnded = false;

  /**
   * Begins before the first request.
   *
   * @param users Who may come in; without it, or when it is empty, everybody.
   */
  constructor(users?: UserTable) {
    this.#users = users !== undefined && users.size > 0 ? users : undefined;
  }

  /**
   * Takes what has arrived; see {@linkcode Step}. After a request to pass on, call again with what is behind its body; not
   * before it was answered, or answers get out of order.
   */
  receive(
    bytes: Uint8Array,
    start: number,
    end: number,
  ): Step<HttpProxyRequest, HttpProxyReason> {
    if (this.#isEnded) return needStep(0, Infinity);
    let from = start;
    if (this.#discarded !== undefined) {
      // More ranges than one call answers are no reason to stop.
      for (let taken = -1; taken !== 0 && !this.#discarded.finished;) {
        taken = this.#discarded.receive(bytes, from, end);
        if (taken < 0) return this.#refuse(from - start, "bad-head", 400);
        from += taken;
      }
      if (!this.#discarded.finished) return needStep(from - start, 1);
      this.#discarded = undefined;
    }
    const length = this.#scanner.scan(bytes, from, end);
    if (length === 0) return needStep(from - start, end - from + 1);
    if (typeof length === "string") {
      const reason = length === "too-large" ? "too-large" : "bad-head";
      return this.#refuse(from - start, reason, statusOfFault(length));
    }
    const head = decodeRequestHead(bytes, from, from + length);
    const consumed = from + length - start;
    if (typeof head === "string") return this.#refuse(consumed, "bad-head", statusOfFault(head));
    return this.#answer(head, consumed);
  }

  #answer(head: HttpRequestHead, consumed: number): Step<HttpProxyRequest, HttpProxyReason> {
    const isTunnel = head.method === "CONNECT";
    // What follows CONNECT is the tunnel's, whatever its fields say. RFC 9110 §9.3.6.
    const framing: HttpFraming | string = isTunnel ? { kind: "none" } : requestFraming(head);
    if (typeof framing === "string") {
      return this.#refuse(consumed, "bad-head", framing === "coding" ? 501 : 400);
    }
    const target = isTunnel ? tunnelTarget(head.target) : forwardTarget(head);
    if (target === undefined) return this.#refuse(consumed, "bad-target", 400);
    const user = this.#users === undefined ? undefined : userOf(head.fields, this.#users);
    if (this.#users !== undefined && user === undefined) {
      return this.#unauthorized(head, framing, consumed);
    }
    if (isTunnel) {
      this.#isEnded = true;
      return doneStep(consumed, { kind: "tunnel", destination: target.destination, user });
    }
    const rewritten = rewriteRequest(head, framing, target.destination, target.path);
    if (rewritten === undefined) return this.#refuse(consumed, "bad-head", 400);
    return doneStep(consumed, {
      kind: "forward",
      destination: target.destination,
      user,
      method: head.method,
      head: rewritten,
      framing,
      expectsContinue: head.minor === 1 && framing.kind !== "none" &&
        listOf(head.fields, "expect").includes("100-continue"),
      persists: wantsToPersist(head.minor, head.fields),
      minor: head.minor,
      upgrade: upgradeOf(head),
    });
  }

  /** The connection stays: browsers ask without credentials first and again on the same connection. */
  #unauthorized(
    head: HttpRequestHead,
    framing: HttpFraming,
    consumed: number,
  ): Step<HttpProxyRequest, HttpProxyReason> {
    const isWaiting = listOf(head.fields, "expect").length > 0 && framing.kind !== "none";
    const isLong = framing.kind === "length" && framing.bytes > MAX_DISCARDED_BYTES;
    // Of a client that waits, or whose body has no known end, nobody can say where the next request begins.
    const stays = wantsToPersist(head.minor, head.fields) && !isWaiting && !isLong &&
      framing.kind !== "chunked";
    const answer = encodeHttpAnswer(407, stays);
    if (!stays) {
      this.#isEnded = true;
      return refusedStep(consumed, "unauthorized", answer, 407);
    }
    if (framing.kind === "length") this.#discarded = new HttpBody(framing);
    return writeStep(consumed, answer);
  }

  #refuse(
    consumed: number,
    reason: HttpProxyReason,
    status: number,
  ): Step<HttpProxyRequest, HttpProxyReason> {
    this.#isEnded = true;
    return refusedStep(consumed, reason, encodeHttpAnswer(status, false), status);
  }
}

/** What tells the client that the tunnel is open; raw bytes follow. */
export function encodeTunnelOpened(): Uint8Array<ArrayBuffer> {
  return bytesOfLatin1("HTTP/1.1 200 Connection established\r\n\r\n");
}

/** The status that tells a client why its destination was not reached. */
export function httpStatusOf(failure: DialFailure): 403 | 502 | 504 {
  return failure === "rule" ? 403 : failure === "timed-out" ? 504 : 502;
}

/**
 * Makes an answer of the proxy's own, without a body.
 *
 * @param status One of 400, 403, 407, 431, 501, 502, 504 and 505; others are answered without words.
 * @param stays Whether the connection goes on.
 */
export function encodeHttpAnswer(status: number, stays: boolean): Uint8Array<ArrayBuffer> {
  const fields = [
    { name: "Content-Length", value: "0" },
    { name: "Connection", value: stays ? "keep-alive" : "close" },
  ];
  if (status === 407) {
    fields.unshift({ name: "Proxy-Authenticate", value: 'Basic realm="proxy"' });
    if (stays) fields.push({ name: "Proxy-Connection", value: "keep-alive" });
  }
  return encodeHead(`HTTP/1.1 ${status} ${WORDS.get(status) ?? ""}`, fields);
}

/** Fields that concern one connection only. RFC 9110 §7.6.1, and two that never were standard. */
export const HOP_BY_HOP: ReadonlySet<string> = new Set([
  "connection",
  "keep-alive",
  "proxy-connection",
  "proxy-authorization",
  "proxy-authenticate",
  "proxy-authentication-info",
  "te",
  "trailer",
  "transfer-encoding",
  "upgrade",
]);

/** Fields that must arrive, whatever `Connection` names: without them the message would mean something else. */
export function namesFraming(words: readonly string[]): boolean {
  return words.some((word) =>
    word === "host" || word === "content-length" || word === "transfer-encoding"
  );
}

function rewriteRequest(
  head: HttpRequestHead,
  framing: HttpFraming,
  destination: Endpoint,
  path: string,
): Uint8Array<ArrayBuffer> | undefined {
  const named = listOf(head.fields, "connection");
  if (namesFraming(named)) return undefined;
  const host = destination.port === 80
    ? formatEndpoint(destination).slice(0, -":80".length)
    : formatEndpoint(destination);
  const fields: { name: string; value: string }[] = [{ name: "Host", value: host }];
  for (const { key, name, value } of head.fields) {
    if (key === "host" || HOP_BY_HOP.has(key) || named.includes(key)) continue;
    fields.push({ name, value });
  }
  const connection: string[] = [];
  if (listOf(head.fields, "te").includes("trailers")) {
    fields.push({ name: "TE", value: "trailers" });
    connection.push("TE");
  }
  const upgrade = upgradeOf(head);
  if (upgrade !== undefined) {
    fields.push({ name: "Upgrade", value: valueOf(head.fields, "upgrade")! });
    connection.push("Upgrade");
  }
  if (connection.length > 0) fields.push({ name: "Connection", value: connection.join(", ") });
  if (framing.kind === "chunked") {
    fields.push({ name: "Transfer-Encoding", value: "chunked" });
    const trailer = valueOf(head.fields, "trailer");
    if (trailer !== undefined) fields.push({ name: "Trailer", value: trailer });
  }
  return encodeHead(`${head.method} ${path} HTTP/1.1`, fields);
}

/** A real wish to change protocols: both fields, and a version that knows them. */
function upgradeOf(head: HttpRequestHead): string | undefined {
  if (head.minor === 0 || !listOf(head.fields, "connection").includes("upgrade")) return undefined;
  return valueOf(head.fields, "upgrade")?.toLowerCase();
}

function tunnelTarget(target: string): { destination: Endpoint; path: string } | undefined {
  const destination = parseEndpoint(target);
  return destination === undefined || destination.port === 0
    ? undefined
    : { destination, path: "" };
}

function forwardTarget(
  head: HttpRequestHead,
): { destination: Endpoint; path: string } | undefined {
  // `user@` before the host is refused with everything else that is no host.
  const match = /^http:\/\/([^/?#]+)([^#]*)$/i.exec(head.target);
  if (match === null) return undefined;
  const destination = parseEndpoint(match[1]!, 80);
  if (destination === undefined || destination.port === 0) return undefined;
  const rest = match[2]!;
  if (rest === "") return { destination, path: head.method === "OPTIONS" ? "*" : "/" };
  return { destination, path: rest.startsWith("/") ? rest : "/" + rest };
}

function userOf(fields: readonly HttpField[], users: UserTable): string | undefined {
  const given = fields.filter(({ key }) => key === "proxy-authorization");
  const match = given.length === 1 ? /^basic +([A-Za-z0-9+/=]+)$/i.exec(given[0]!.value) : null;
  const decoded = match === null ? NO_BYTES : decodeBase64(match[1]!);
  const colon = decoded.indexOf(0x3a);
  if (colon < 0) return undefined;
  return users.check(decoded.subarray(0, colon), decoded.subarray(colon + 1));
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  try {
    return bytesOfLatin1(atob(text));
  } catch {
    return NO_BYTES;
  }
}

/** A body of a request that needs credentials is read and thrown away up to this. */
const MAX_DISCARDED_BYTES = 262_144;
const WORDS: ReadonlyMap<number, string> = new Map([
  [400, "Bad Request"],
  [403, "Forbidden"],
  [407, "Proxy Authentication Required"],
  [431, "Request Header Fields Too Large"],
  [501, "Not Implemented"],
  [502, "Bad Gateway"],
  [504, "Gateway Timeout"],
  [505, "HTTP Version Not Supported"],
]);
