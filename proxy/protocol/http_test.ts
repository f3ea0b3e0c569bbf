import { deepEqual, equal, match, ok, throws } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { abuse, converse, converseEveryWay } from "../testdata/feed.ts";
import { UserTable } from "./credentials.ts";
import { HttpBody, MAX_CHUNK_LINE_BYTES, MAX_TRAILER_BYTES } from "./http_body.ts";
import { HttpConnectClient, type HttpConnectOptions } from "./http_connect.ts";
import { type HttpFraming, MAX_HEAD_BYTES } from "./http_head.ts";
import {
  encodeHttpAnswer,
  encodeTunnelOpened,
  type HttpForwardRequest,
  type HttpProxyRequest,
  HttpProxyServer,
  httpStatusOf,
} from "./http_proxy.ts";
import { type HttpAnswered, type HttpProxyResponse, HttpResponseMachine } from "./http_response.ts";
import { bytesOfLatin1, joinBytes, latin1Of } from "./octets.ts";

const random = seededRandom(61);
const users = new UserTable([{ username: "alice", password: "won:der" }]);
const CREDENTIALS = `Proxy-Authorization: Basic ${btoa("alice:won:der")}`;

/** Lines with their ends, the empty one included. */
function lines(...texts: readonly string[]): string {
  return texts.join("\r\n") + "\r\n\r\n";
}

function ask(input: string, table?: UserTable) {
  return converseEveryWay(() => new HttpProxyServer(table), bytesOfLatin1(input), random);
}

/** The status of the answer to what is refused. */
function statusFor(input: string): unknown {
  const { written, end } = ask(input);
  ok(Array.isArray(end), `accepted: ${JSON.stringify(input.slice(0, 80))}`);
  match(written, new RegExp(`^${hex(`HTTP/1.1 ${end[1]} `)}`));
  ok(written.endsWith(hex("Connection: close\r\n\r\n")));
  return end[1];
}

function hex(text: string): string {
  return [...text].map((letter) => letter.charCodeAt(0).toString(16).padStart(2, "0")).join("");
}

function forward(input: string): HttpForwardRequest & { text: string } {
  const { end } = ask(input);
  const request = end as HttpProxyRequest;
  ok(request.kind === "forward", JSON.stringify(end));
  return { ...request, text: latin1Of(request.head, 0, request.head.length) };
}

Deno.test("HttpProxyServer opens tunnels and leaves the payload behind the head", () => {
  const head = lines("CONNECT example.com:443 HTTP/1.1", "Host: whatever", "User-Agent: x");
  deepEqual(ask(head + "\x16\x03\x01"), {
    written: "",
    consumed: head.length,
    end: { kind: "tunnel", destination: { host: "example.com", port: 443 }, user: undefined },
  });
  const bare = ask(lines("CONNECT [2001:DB8::1]:8443 HTTP/1.0")).end as HttpProxyRequest;
  deepEqual(bare.destination, { host: "2001:db8::1", port: 8443 });
  equal(latin1Of(encodeTunnelOpened(), 0, 19), "HTTP/1.1 200 Connec");
});

Deno.test("HttpProxyServer ignores the body fields of CONNECT: what follows is the tunnel's", () => {
  const head = lines("CONNECT a:1 HTTP/1.1", "Content-Length: 5");
  equal(ask(head + "12345").consumed, head.length);
});

Deno.test("HttpProxyServer rewrites absolute form and drops what concerns one connection", () => {
  const request = forward(lines(
    "GET http://Example.com:8080/a/b?c=%20 HTTP/1.1",
    "Host: other.test",
    "Accept: */*",
    "Proxy-Connection: keep-alive",
    "Connection: keep-alive, X-Private",
    "Keep-Alive: timeout=5",
    "X-Private: secret",
    "Proxy-Authorization: Basic YTpi",
    "TE: gzip, trailers",
    "Upgrade: h2c",
    "Trailer: X-Sum",
    "Cookie: a=b",
  ));
  deepEqual(request.destination, { host: "example.com", port: 8080 });
  equal(
    request.text,
    lines(
      "GET /a/b?c=%20 HTTP/1.1",
      "Host: example.com:8080",
      "Accept: */*",
      "Cookie: a=b",
      "TE: trailers",
      "Connection: TE",
    ),
  );
  deepEqual([request.framing, request.persists, request.upgrade], [
    { kind: "none" },
    true,
    undefined,
  ]);
});

Deno.test("HttpProxyServer finds host and path in any target of absolute form", () => {
  const line = (target: string, method = "GET") => {
    const { destination, text } = forward(lines(`${method} ${target} HTTP/1.1`));
    return [destination.host, destination.port, text.split(" ")[1], text.split("\r\n")[1]];
  };
  deepEqual(line("http://a"), ["a", 80, "/", "Host: a"]);
  deepEqual(line("HTTP://a:80?q"), ["a", 80, "/?q", "Host: a"]);
  deepEqual(line("http://[::1]:81/x://y"), ["::1", 81, "/x://y", "Host: [::1]:81"]);
  deepEqual(line("http://a", "OPTIONS"), ["a", 80, "*", "Host: a"]);
});

Deno.test("HttpProxyServer knows how bodies are delimited and whether the connection goes on", () => {
  const head = (...fields: string[]) => forward(lines("POST http://a/ HTTP/1.1", ...fields));
  deepEqual(head("Content-Length: 17").framing, { kind: "length", bytes: 17 });
  const chunked = head("Transfer-Encoding: Chunked", "Trailer: X");
  deepEqual(chunked.framing, { kind: "chunked" });
  ok(chunked.text.includes("\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n"));
  equal(head("Content-Length: 1", "Expect: 100-continue").expectsContinue, true);
  equal(head("Expect: 100-continue").expectsContinue, false);
  equal(head("Connection: close").persists, false);
  equal(head("Proxy-Connection: Close").persists, false);
  const old = (...fields: string[]) => forward(lines("GET http://a/ HTTP/1.0", ...fields));
  deepEqual([old().persists, old("Proxy-Connection: keep-alive").persists], [false, true]);
  const upgrade = head("Connection: keep-alive, Upgrade", "Upgrade: WebSocket");
  equal(upgrade.upgrade, "websocket");
  ok(upgrade.text.includes("\r\nUpgrade: WebSocket\r\nConnection: Upgrade\r\n"));
});

Deno.test("HttpProxyServer refuses every way to make two readers disagree", () => {
  const line = "GET http://a/ HTTP/1.1\r\n";
  const malformed = [
    "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length: 5\r\nContent-Length: 5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: -1\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length:\r\n",
    "Content-Length: 1e3\r\n",
    "Content-Length: 9999999999999999\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Content-Length : 5\r\n",
    " Content-Length: 5\r\n",
    "A: b\r\n\tc: d\r\n",
    "A: b\nContent-Length: 5\r\n",
    "A: b\rContent-Length: 5\r\n",
    "A: b\0\r\n",
    "A: b\x7f\r\n",
    "A\r\n",
    ": b\r\n",
    "A b: c\r\n",
    "A(): c\r\n",
    "\u00e4: c\r\n",
    "Host: a\r\nHost: b\r\n",
    "Connection: Content-Length\r\nContent-Length: 5\r\n",
    "Connection: host\r\n",
  ];
  for (const fields of malformed) equal(statusFor(`${line}${fields}\r\n`), 400, fields);
  for (
    const coding of ["gzip, chunked", "chunked, chunked", "identity", "xchunked", "\x0bchunked"]
  ) {
    const status = statusFor(`${line}Transfer-Encoding: ${coding}\r\n\r\n`);
    equal(status, coding.startsWith("\x0b") ? 400 : 501, coding);
  }
  equal(statusFor(lines("POST http://a/ HTTP/1.0", "Transfer-Encoding: chunked")), 400);
});

Deno.test("HttpProxyServer refuses request lines that are none, and targets it does not serve", () => {
  const bad = [
    "GET http://a/",
    "GET  http://a/ HTTP/1.1",
    "GET http://a/ HTTP/1.1 ",
    " GET http://a/ HTTP/1.1",
    "GET http://a/ http/1.1",
    "GET http://a/ HTTP/1.11",
    "G(T http://a/ HTTP/1.1",
    "GET / HTTP/1.1",
    "GET * HTTP/1.1",
    "GET a:80 HTTP/1.1",
    "GET https://a/ HTTP/1.1",
    "GET ftp://a/ HTTP/1.1",
    "GET http:///x HTTP/1.1",
    "GET http://user@a/ HTTP/1.1",
    "GET http://a/#x HTTP/1.1",
    "GET http://a:0/ HTTP/1.1",
    "GET http://a:65536/ HTTP/1.1",
    "GET http://a:b/ HTTP/1.1",
    "CONNECT a HTTP/1.1",
    "CONNECT a:0 HTTP/1.1",
    "CONNECT http://a:1/ HTTP/1.1",
    "CONNECT ::1:443 HTTP/1.1",
  ];
  for (const line of bad) equal(statusFor(lines(line)), 400, line);
  equal(statusFor(lines("PRI * HTTP/2.0")), 505);
});

Deno.test("HttpProxyServer holds to its limits and skips empty lines before a request", () => {
  const fields = (count: number) => Array.from({ length: count }, (_, i) => `F${i}: v`);
  equal(ask(lines("GET http://a/ HTTP/1.1", ...fields(100))).written, "");
  equal(statusFor(lines("GET http://a/ HTTP/1.1", ...fields(101))), 431);
  const padding = (length: number) =>
    lines("GET http://a/ HTTP/1.1", `P: ${"x".repeat(length - 31)}`);
  const once = (input: string) =>
    converse(new HttpProxyServer(), bytesOfLatin1(input), () => 9999).end;
  ok(!Array.isArray(once(padding(MAX_HEAD_BYTES))));
  deepEqual(once(padding(MAX_HEAD_BYTES + 1)), ["too-large", 431, ""]);
  deepEqual(once("\r\n".repeat(40_000)), ["too-large", 431, ""]);
  equal(ask("\r\n\r\n" + lines("CONNECT a:1 HTTP/1.1")).consumed, 4 + 24);
});

Deno.test("HttpProxyServer asks for credentials on a connection that stays", () => {
  const tunnel = "CONNECT a:1 HTTP/1.1";
  const asked = hex("HTTP/1.1 407 Proxy Authentication Required\r\n");
  const { written, end } = ask(lines(tunnel) + lines(tunnel, CREDENTIALS), users);
  ok(written.startsWith(asked));
  ok(written.includes(hex('Proxy-Authenticate: Basic realm="proxy"\r\n')));
  ok(written.includes(hex("Connection: keep-alive\r\n")));
  deepEqual(end, { kind: "tunnel", destination: { host: "a", port: 1 }, user: "alice" });

  const wrong = ["alice:wonder", "alice", "ALICE:won:der", ":", "", "bob:won:der"];
  const values = [...wrong.map((pair) => `Basic ${btoa(pair)}`), "Basic %%%", "Bearer x", "Basic"];
  for (const value of values) {
    const refused = ask(lines(tunnel, `Proxy-Authorization: ${value}`), users);
    ok(refused.written.startsWith(asked), value);
    equal(refused.end, "waits");
  }
  const twice = ask(lines(tunnel, CREDENTIALS, CREDENTIALS), users);
  ok(twice.written.startsWith(asked));
});

Deno.test("HttpProxyServer throws the body of an unauthorized request away, or ends the connection", () => {
  const post = (...fields: string[]) => lines("POST http://a/ HTTP/1.1", ...fields);
  const next = lines("GET http://a/ HTTP/1.1", CREDENTIALS);
  const { end, consumed } = ask(post("Content-Length: 9") + "GET bogus" + next + "rest", users);
  equal((end as HttpForwardRequest).method, "GET");
  equal(consumed, post("Content-Length: 9").length + 9 + next.length);
  const ended = [
    post("Transfer-Encoding: chunked"),
    post("Content-Length: 5", "Expect: 100-continue"),
    post("Content-Length: 999999999"),
    post("Connection: close"),
    lines("GET http://a/ HTTP/1.0"),
  ];
  for (const input of ended) deepEqual(ask(input, users).end, ["unauthorized", 407, ""], input);
});

Deno.test("requests in a row on one connection are told apart, bodies and all", () => {
  const server = new HttpProxyServer();
  const input = bytesOfLatin1(
    lines("GET http://a/1 HTTP/1.1") +
      lines("POST http://b/2 HTTP/1.1", "Content-Length: 4") + "GET " +
      lines("POST http://c/3 HTTP/1.1", "Transfer-Encoding: chunked") +
      "5;x=y\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n" +
      lines("CONNECT d:4 HTTP/1.1") + "raw",
  );
  const seen: string[] = [];
  let at = 0;
  for (let i = 0; i < 4; i++) {
    const step = server.receive(input, at, input.length);
    ok(step.kind === "done");
    at += step.consumed;
    let data = "";
    if (step.outcome.kind === "forward") {
      const body = new HttpBody(step.outcome.framing);
      at += body.receive(input, at, input.length);
      equal(body.finished, true);
      for (let j = 0; j < body.count; j++) data += latin1Of(input, body.starts[j]!, body.ends[j]!);
    }
    seen.push(`${step.outcome.destination.host} ${data}`);
  }
  deepEqual(seen, ["a ", "b GET ", "c hello", "d "]);
  equal(latin1Of(input, at, input.length), "raw");
});

/** Data and the number of bytes that are the body's, of a body cut as said; or "bad", or what it still waits for. */
function walk(framing: HttpFraming, input: Uint8Array, cut: () => number): readonly unknown[] {
  const body = new HttpBody(framing);
  let data = "", at = 0, end = 0;
  while (!body.finished) {
    if (at === end) {
      if (end === input.length) return [data, at, body.end() ? "closed" : "cut off"];
      end = Math.min(input.length, end + cut());
    }
    const taken = body.receive(input, at, end);
    if (taken < 0) return ["bad"];
    ok(taken > 0 || body.finished);
    for (let i = 0; i < body.count; i++) data += latin1Of(input, body.starts[i]!, body.ends[i]!);
    at += taken;
  }
  return [data, at, "done"];
}

function walkEveryWay(framing: HttpFraming, text: string): readonly unknown[] {
  const input = bytesOfLatin1(text);
  const whole = walk(framing, input, () => input.length);
  deepEqual(walk(framing, input, () => 1), whole);
  deepEqual(walk(framing, input, () => 1 + random.u32() % 7), whole);
  return whole;
}

Deno.test("HttpBody ends where the framing says, in any cut", () => {
  const chunked = { kind: "chunked" } as const;
  deepEqual(walkEveryWay({ kind: "none" }, "abc"), ["", 0, "done"]);
  deepEqual(walkEveryWay({ kind: "length", bytes: 3 }, "abcde"), ["abc", 3, "done"]);
  deepEqual(walkEveryWay({ kind: "length", bytes: 0 }, "abc"), ["", 0, "done"]);
  deepEqual(walkEveryWay({ kind: "length", bytes: 9 }, "abc"), ["abc", 3, "cut off"]);
  deepEqual(walkEveryWay({ kind: "close" }, "abc"), ["abc", 3, "closed"]);
  deepEqual(walkEveryWay(chunked, "3\r\nabc\r\n0\r\n\r\nrest"), ["abc", 13, "done"]);
  deepEqual(walkEveryWay(chunked, 'A;n="v"\r\n0123456789\r\n00\r\nT: 1\r\nU: 2\r\n\r\n'), [
    "0123456789",
    39,
    "done",
  ]);
  deepEqual(walkEveryWay(chunked, "3\r\nabc"), ["abc", 6, "cut off"]);
  const bad = [
    "\r\n",
    "x\r\n",
    "3\nabc\r\n0\r\n\r\n",
    "3\rxabc\r\n0\r\n\r\n",
    "3\r\nabc\rx0\r\n\r\n",
    "0\r\nA: b\rx\r\n",
    "3\r\nabcd\r\n0\r\n\r\n",
    "3\r\nabc0\r\n\r\n",
    "3\r\nabc\n0\r\n\r\n",
    "-3\r\nabc\r\n",
    "0x3\r\nabc\r\n",
    " 3\r\nabc\r\n",
    "123456789abc\r\n",
    "3;\n\r\nabc\r\n",
    "0\r\n\n",
    "0\r\nA: b\nC: d\r\n\r\n",
    "0\r\nA: b\r\n c\r\n\r\n",
    "0\r\n\rX",
    `3;${"x".repeat(MAX_CHUNK_LINE_BYTES + 1)}\r\nabc\r\n`,
    `0\r\nA: ${"x".repeat(MAX_TRAILER_BYTES)}\r\n\r\n`,
  ];
  for (const text of bad) {
    deepEqual(walkEveryWay(chunked, text), ["bad"], JSON.stringify(text.slice(0, 40)));
  }
});

Deno.test("HttpBody finds the data of random chunks, more of them than fit in one call too", () => {
  for (let round = 0; round < 60; round++) {
    const pieces = Array.from(
      { length: round === 0 ? 200 : random.u32() % 12 },
      () => latin1Of(random.bytes(99), 0, 1 + random.u32() % 99),
    );
    const chunks = pieces.map((piece) => `${piece.length.toString(16)}\r\n${piece}\r\n`);
    const wire = chunks.join("") + "0\r\n\r\n";
    deepEqual(walkEveryWay({ kind: "chunked" }, wire + "next"), [
      pieces.join(""),
      wire.length,
      "done",
    ]);
  }
});

const GET: HttpAnswered = { method: "GET", minor: 1, persists: true, upgrade: undefined };

function answerTo(request: Partial<HttpAnswered>, input: string) {
  const machine = () => new HttpResponseMachine({ ...GET, ...request });
  const { written, consumed, end } = converseEveryWay(machine, bytesOfLatin1(input), random);
  if (Array.isArray(end)) return { written, consumed, reason: end[0], text: "" };
  const response = end as HttpProxyResponse;
  return {
    ...response,
    written,
    consumed,
    reason: undefined,
    text: latin1Of(response.head, 0, response.head.length),
  };
}

Deno.test("HttpResponseMachine hands an answer on without what concerns one connection", () => {
  const head = lines(
    "HTTP/1.1 200 Fine",
    "Content-Length: 5",
    "Connection: keep-alive, X-Hop",
    "Keep-Alive: timeout=5",
    "X-Hop: 1",
    "Set-Cookie: a",
    "Set-Cookie: b",
  );
  const answer = answerTo({}, head + "hello");
  equal(
    answer.text,
    lines("HTTP/1.1 200 Fine", "Content-Length: 5", "Set-Cookie: a", "Set-Cookie: b"),
  );
  equal(answer.consumed, head.length);
  deepEqual(answer, {
    ...answer,
    framing: { kind: "length", bytes: 5 },
    dataOnly: false,
    isTunnel: false,
    clientPersists: true,
    serverPersists: true,
  });
});

Deno.test("HttpResponseMachine knows which answers have no body, and which end with the connection", () => {
  const kinds = (request: Partial<HttpAnswered>, ...head: string[]) => {
    const { reason, ...answer } = answerTo(request, lines(...head));
    equal(reason, undefined);
    const { framing, clientPersists, serverPersists } = answer as HttpProxyResponse;
    return [framing.kind, clientPersists, serverPersists];
  };
  deepEqual(kinds({ method: "HEAD" }, "HTTP/1.1 200 OK", "Content-Length: 5"), [
    "none",
    true,
    true,
  ]);
  deepEqual(kinds({}, "HTTP/1.1 204 No Content"), ["none", true, true]);
  deepEqual(kinds({}, "HTTP/1.1 304 Not Modified", "Content-Length: 9"), ["none", true, true]);
  deepEqual(kinds({}, "HTTP/1.1 200 OK"), ["close", false, false]);
  deepEqual(kinds({}, "HTTP/1.0 200 OK", "Content-Length: 5"), ["length", true, false]);
  deepEqual(kinds({}, "HTTP/1.1 200", "Content-Length: 5", "Connection: close"), [
    "length",
    true,
    false,
  ]);
  deepEqual(kinds({ persists: false }, "HTTP/1.1 200 OK", "Content-Length: 5"), [
    "length",
    false,
    true,
  ]);
  deepEqual(kinds({}, "HTTP/1.1 200 OK", "Transfer-Encoding: chunked"), ["chunked", true, true]);
});

Deno.test("HttpResponseMachine gives a client of version 1.0 the data of chunks, and the end of the connection", () => {
  const chunked = lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked");
  const { dataOnly, clientPersists, text } = answerTo({ minor: 0 }, chunked) as
    & HttpProxyResponse
    & {
      text: string;
    };
  deepEqual([dataOnly, clientPersists], [true, false]);
  equal(text, lines("HTTP/1.1 200 OK", "Connection: close"));
  const length = answerTo({ minor: 0 }, lines("HTTP/1.1 200 OK", "Content-Length: 0"));
  ok(length.text.includes("Connection: keep-alive"));
});

Deno.test("HttpResponseMachine hands interim answers on, to those who know them", () => {
  const interim = lines("HTTP/1.1 100 Continue");
  const early = lines("HTTP/1.1 103 Early Hints", "Link: x", "Connection: x");
  const last = lines("HTTP/1.1 200 OK", "Content-Length: 0");
  const answer = answerTo({}, interim + early + last);
  equal(answer.written, hex(interim + lines("HTTP/1.1 103 Early Hints", "Link: x")));
  equal(answerTo({ minor: 0 }, interim + last).written, "");
  equal(answerTo({}, interim.repeat(17)).reason, "too-many-interim");
});

Deno.test("HttpResponseMachine opens a tunnel when an upgrade was asked for, and refuses one that was not", () => {
  const head = lines(
    "HTTP/1.1 101 Switching Protocols",
    "Upgrade: websocket",
    "Connection: upgrade",
  );
  const answer = answerTo({ upgrade: "websocket" }, head + "\x81\x00");
  deepEqual([answer.consumed, "isTunnel" in answer && answer.isTunnel], [head.length, true]);
  ok(answer.text.includes("Upgrade: websocket\r\nConnection: Upgrade\r\n"));
  equal(answerTo({}, head).reason, "unasked-upgrade");
  equal(
    answerTo({}, lines("HTTP/1.1 200 OK", "Content-Length: 1", "Transfer-Encoding: chunked"))
      .reason,
    "bad-head",
  );
  equal(answerTo({}, lines("ICY 200 OK")).reason, "bad-head");
  equal(answerTo({}, "HTTP/1.1 200 OK\nA: b\n\n").reason, "bad-head");
});

Deno.test("HttpConnectClient opens a tunnel through HttpProxyServer", () => {
  const destination = { host: "2001:db8::1", port: 443 };
  const client = new HttpConnectClient({ destination, username: "alice", password: "won:der" });
  const request = joinBytes(client.start(), [1, 2, 3]);
  const { consumed, end } = converse(new HttpProxyServer(users), request, () => 7);
  equal(consumed, request.length - 3);
  deepEqual(end, { kind: "tunnel", destination, user: "alice" });
  const opened = joinBytes(encodeTunnelOpened(), [22, 3]);
  deepEqual(client.receive(opened, 0, opened.length), {
    kind: "done",
    consumed: opened.length - 2,
    outcome: 200,
  });
});

Deno.test("HttpConnectClient sends the fields it is given and understands any answer", () => {
  const destination = { host: "example.com", port: 443 };
  const text = (options: Partial<HttpConnectOptions>) => {
    const bytes = new HttpConnectClient({ destination, ...options }).start();
    return latin1Of(bytes, 0, bytes.length);
  };
  equal(text({}), lines("CONNECT example.com:443 HTTP/1.1", "Host: example.com:443"));
  equal(
    text({ path: "/up", headers: { "User-Agent": "x" } }),
    lines("CONNECT /up HTTP/1.1", "Host: example.com:443", "User-Agent: x"),
  );
  equal(
    text({ headers: { host: "front" } }),
    lines("CONNECT example.com:443 HTTP/1.1", "host: front"),
  );
  throws(() => text({ headers: { "A": "b\r\nC: d" } }), TypeError);
  throws(() => text({ headers: { "A:": "b" } }), TypeError);
  throws(() => text({ path: "/a b" }), TypeError);
  throws(() => text({ username: "a:b" }), TypeError);
  const ends = (input: string) =>
    converseEveryWay(
      () => new HttpConnectClient({ destination }),
      bytesOfLatin1(input),
      random,
    );
  const established = lines("HTTP/1.0 200 OK", "Content-Length: 7");
  deepEqual(ends(lines("HTTP/1.1 100 Continue") + established + "payload"), {
    written: "",
    consumed: 25 + established.length,
    end: 200,
  });
  deepEqual(ends(lines("HTTP/1.1 407 Who\x80 are you", "A: b")).end, [
    "status",
    407,
    "407 Who? are you",
  ]);
  deepEqual(ends(lines("SSH-2.0-x")).end, ["bad-head", 0, ""]);
  deepEqual(ends("\x05\x00").end, ["bad-head", 0, ""]);
});

Deno.test("a failed dial has the status that tells the client why", () => {
  deepEqual([httpStatusOf("rule"), httpStatusOf("timed-out"), httpStatusOf("refused")], [
    403,
    504,
    502,
  ]);
  const answer = encodeHttpAnswer(502, false);
  equal(
    latin1Of(answer, 0, answer.length),
    lines("HTTP/1.1 502 Bad Gateway", "Content-Length: 0", "Connection: close"),
  );
});

Deno.test("HTTP machines survive hostile bytes", () => {
  const seed = 67;
  const good = [
    lines("CONNECT example.com:443 HTTP/1.1", "Host: x"),
    lines("POST http://a/ HTTP/1.1", "Content-Length: 5", CREDENTIALS) + "hello",
    lines("GET http://a/ HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket"),
    lines("HTTP/1.1 200 OK", "Transfer-Encoding: chunked") + "3\r\nabc\r\n0\r\n\r\n",
    "5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nT: v\r\n\r\n",
  ].map(bytesOfLatin1);
  const packets = new HostilePackets(seededRandom(seed), good, 300);
  const rounds = Deno.env.get("FASTWIRE_LONG") === "1" ? 1_000_000 : 60_000;
  for (let i = 0; i < rounds; i++) {
    packets.next();
    const { bytes, start, end } = packets;
    try {
      if (i % 4 === 0) {
        abuse(new HttpProxyServer(i % 8 === 0 ? users : undefined), bytes, start, end);
      }
      if (i % 4 === 1) abuse(new HttpResponseMachine(GET), bytes, start, end);
      if (i % 4 === 2) {
        const destination = { host: "a", port: 1 };
        abuse(new HttpConnectClient({ destination }), bytes, start, end);
      }
      if (i % 4 === 3) {
        const taken = new HttpBody({ kind: "chunked" }).receive(bytes, start, end);
        ok(taken >= -1 && start + taken <= end);
      }
    } catch (error) {
      throw new Error(`seed ${seed}, round ${i}`, { cause: error });
    }
  }
});
