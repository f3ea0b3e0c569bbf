import { deepEqual, equal, match, rejects } from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { createServer, type Socket } from "node:net";
import { openServer, type RedisTarget, type RedisWire } from "./redis_wire.ts";

/** A server that answers by hand, so that what is sent and when can be seen. */
class HandServer implements AsyncDisposable {
  /** What arrived, one string a chunk. */
  readonly heard: string[] = [];
  answer: (chunk: string) => string | undefined = () => undefined;
  readonly #sockets = new Set<Socket>();
  readonly #server = createServer((socket) => {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("data", (bytes: Uint8Array) => {
      const chunk = new TextDecoder().decode(bytes);
      this.heard.push(chunk);
      const answer = this.answer(chunk);
      if (answer !== undefined) socket.write(answer);
    });
  });
  #folder = "";

  static async start(): Promise<HandServer> {
    const server = new HandServer();
    server.#folder = await mkdtemp("/tmp/fastwire-hand-");
    await new Promise<void>((resolve) => server.#server.listen(server.path, resolve));
    return server;
  }

  get path(): string {
    return `${this.#folder}/redis.sock`;
  }

  open(
    target: Partial<RedisTarget> = {},
    onLost: (cause: unknown) => void = () => {},
  ): Promise<RedisWire> {
    return openServer(target, { path: this.path }, onLost, new AbortController().signal);
  }

  write(text: string): void {
    for (const socket of this.#sockets) socket.write(text);
  }

  hangUp(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.hangUp();
    await new Promise((resolve) => this.#server.close(resolve));
    await rm(this.#folder, { recursive: true });
  }
}

Deno.test("openServer() names itself, logs in and selects, in one piece", async () => {
  await using server = await HandServer.start();
  server.answer = () => "+OK\r\n+OK\r\n+OK\r\n";
  const wire = await server.open({
    username: "u",
    password: "p",
    clientName: "neighsyncd",
    database: 4,
  });
  wire.close();
  deepEqual(server.heard, [
    "*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n" +
    "*3\r\n$6\r\nCLIENT\r\n$7\r\nSETNAME\r\n$10\r\nneighsyncd\r\n" +
    "*2\r\n$6\r\nSELECT\r\n$1\r\n4\r\n",
  ]);
});

Deno.test("openServer() ends with what the server refuses in the greeting", async () => {
  await using server = await HandServer.start();
  server.answer = () => "-WRONGPASS invalid username-password pair\r\n";
  await rejects(server.open({ password: "p" }), { code: "redis.auth" });
});

Deno.test("RedisWire sends the commands of one turn in one piece and tells the replies apart", async () => {
  await using server = await HandServer.start();
  const wire = await server.open();
  server.answer = () => "+one\r\n-ERR two\r\n*2\r\n$1\r\na\r\n$-1\r\n";
  const replies = await Promise.allSettled([
    wire.send(["A"]),
    wire.send(["B", "é"]),
    wire.send(["C"]),
  ]);
  deepEqual(server.heard, ["*1\r\n$1\r\nA\r\n*2\r\n$1\r\nB\r\n$2\r\né\r\n*1\r\n$1\r\nC\r\n"]);
  deepEqual(
    replies.map((reply) =>
      reply.status === "fulfilled" ? reply.value : (reply.reason as Error).message
    ),
    ["one", "ERR two", ["a", null]],
  );
  wire.close();
});

Deno.test("RedisWire hands messages of a pattern to its listener", async () => {
  await using server = await HandServer.start();
  const wire = await server.open();
  server.answer = () => "*3\r\n$10\r\npsubscribe\r\n$2\r\na*\r\n:1\r\n";
  const heard: string[] = [];
  const message = new Promise<void>((resolve) => {
    void wire.subscribe("a*", (channel) => {
      heard.push(channel);
      resolve();
    }).then(() => server.write("*4\r\n$8\r\npmessage\r\n$2\r\na*\r\n$2\r\nab\r\n$1\r\nG\r\n"));
  });
  await message;
  deepEqual(heard, ["ab"]);
  wire.close();
});

Deno.test("RedisWire writes what is larger than the socket takes at once", async () => {
  await using server = await HandServer.start();
  const wire = await server.open();
  let bytes = 0;
  const size = 3_000_000;
  server.answer = (chunk) => {
    const before = bytes;
    bytes += chunk.length;
    return before < 2 * size && bytes >= 2 * size ? "+OK\r\n+OK\r\n" : undefined;
  };
  const text = "x".repeat(size);
  deepEqual(await Promise.all([wire.send(["SET", text]), wire.send(["SET", text])]), ["OK", "OK"]);
  wire.close();
});

for (
  const [how, end] of [
    ["ends the connection", undefined],
    ["speaks another protocol", "HTTP/1.1 400 Bad Request\r\n\r\n"],
  ] as const
) {
  Deno.test(`RedisWire is lost once when the server ${how}, with all that waits`, async () => {
    await using server = await HandServer.start();
    const lost: unknown[] = [];
    const wire: RedisWire = await server.open({}, (cause) => lost.push(cause));
    server.answer = () => end;
    const waiting = rejects(wire.send(["PING"]));
    if (end === undefined) server.hangUp();
    await waiting;
    equal(lost.length, 1);
    await rejects(wire.send(["PING"]));
    wire.close();
    equal(lost.length, 1);
    match(String(lost[0]), /Error/);
  });
}

Deno.test("RedisWire that is closed rejects what waits and tells nobody", async () => {
  await using server = await HandServer.start();
  let lost = 0;
  const wire = await server.open({}, () => void lost++);
  const waiting = wire.send(["PING"]);
  wire.close();
  await rejects(waiting, { code: "redis.closed" });
  await rejects(wire.send(["PING"]), { code: "redis.closed" });
  equal(lost, 0);
});
