/**
 * A real Redis for interoperability tests: on a unix socket in a temporary folder, without persistence unless asked for,
 * stopped by its process id.
 *
 * @module
 */

import { Socket } from "node:net";

/** Where a program is, or nothing. */
function programPath(name: string): string | undefined {
  for (const folder of [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/bin", "/usr/sbin"]) {
    if (folder === "") continue;
    try {
      if (Deno.statSync(`${folder}/${name}`).isFile) return `${folder}/${name}`;
    } catch {
      // Not here.
    }
  }
  return undefined;
}

/** Where redis-server is, or nothing. */
export function redisProgram(): string | undefined {
  return programPath("redis-server");
}

/**
 * Registers a test that needs redis-server, with the words and the rules of `peerTest`.
 *
 * @param more Other programs it needs.
 */
export function redisTest(
  name: string,
  body: () => Promise<void>,
  more: readonly string[] = [],
): void {
  const missing = ["redis-server", ...more].filter((program) => programPath(program) === undefined);
  const reason = missing.map((program) => `${program} was not found`).join("; ");
  const ignore = reason !== "" && Deno.env.get("FASTWIRE_REQUIRE_PEERS") !== "1";
  Deno.test({
    name: ignore ? `${name} [skipped: ${reason}]` : name,
    ignore,
    fn: async () => {
      if (reason !== "") throw new Error(`Cannot test without a peer: ${reason}`);
      await body();
    },
  });
}

/** How a server is started. */
export interface RedisServerOptions {
  /** More words for its command line, `--maxmemory 1mb` as two. */
  readonly extra?: readonly string[];
  /** Listens on a free TCP port of the loopback address too. */
  readonly tcp?: boolean;
  /** Keeps what was written with every command, so that a restart finds it. */
  readonly persistent?: boolean;
  /** Speaks TLS on the TCP port; the files are named by `extra`. */
  readonly tls?: boolean;
  /** Runs as a sentinel with this configuration, which it rewrites. */
  readonly sentinelFile?: string;
}

const READY_WITHIN_MS = 10_000;

/** A running server. */
export class RedisServer implements AsyncDisposable {
  readonly #options: RedisServerOptions;
  #child: Deno.ChildProcess | undefined;
  #output: Promise<string> = Promise.resolve("");

  private constructor(
    /** Folder of its socket and files. */
    readonly folder: string,
    /** TCP port; 0 when it has none. */
    readonly port: number,
    options: RedisServerOptions,
  ) {
    this.#options = options;
  }

  /** Starts a server and waits until it answers. */
  static async start(options: RedisServerOptions = {}): Promise<RedisServer> {
    // Somebody may take the port between looking and starting.
    for (let attempt = 1;; attempt++) {
      const folder = await Deno.makeTempDir({ prefix: "fastwire-redis-" });
      const server = new RedisServer(folder, options.tcp === true ? freePort() : 0, options);
      try {
        await server.restart();
        return server;
      } catch (error) {
        await server[Symbol.asyncDispose]();
        if (attempt === 3) throw error;
      }
    }
  }

  /** Path of the unix socket. */
  get socket(): string {
    return `${this.folder}/redis.sock`;
  }

  /** Its process id; 0 while it is not running. */
  get pid(): number {
    return this.#child?.pid ?? 0;
  }

  /** Starts it again after it was ended, with more words if wanted, and waits until it answers, be it with LOADING. */
  async restart(...more: readonly string[]): Promise<void> {
    if (this.#child !== undefined) throw new Error("Cannot restart a server that is running");
    const { extra = [], persistent = false, sentinelFile, tls = false } = this.#options;
    const words = sentinelFile === undefined ? [] : [sentinelFile, "--sentinel"];
    words.push("--unixsocket", this.socket, "--dir", this.folder, "--daemonize", "no");
    // The unix socket stays without TLS.
    const ports = tls ? ["--port", "0", "--tls-port"] : ["--port"];
    words.push(...ports, String(this.port), "--bind", "127.0.0.1");
    if (sentinelFile === undefined) {
      words.push(
        "--save",
        "",
        "--appendonly",
        persistent ? "yes" : "no",
        "--appendfsync",
        "always",
      );
      words.push("--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes");
    }
    words.push(...extra, ...more);
    const child = new Deno.Command(redisProgram()!, {
      args: words,
      stdin: "null",
      stdout: "piped",
      stderr: "null",
    }).spawn();
    this.#child = child;
    this.#output = new Response(child.stdout).text();
    const deadline = performance.now() + READY_WITHIN_MS;
    let ended = false;
    child.status.then(() => ended = true);
    while (!await this.#answers()) {
      if (ended || performance.now() > deadline) {
        await this.kill();
        throw new Error(`Cannot start redis-server: ${(await this.#output).slice(-500)}`);
      }
      await new Promise((resolve) => setTimeout(resolve, 3));
    }
  }

  /** Ends it at once, as a crash does. */
  async kill(): Promise<void> {
    await this.#end("SIGKILL");
    await Deno.remove(this.socket).catch(() => {});
  }

  /** Stops the process without ending it; nothing is answered until {@linkcode RedisServer.resume}. */
  pause(): void {
    this.#child?.kill("SIGSTOP");
  }

  /** Lets it go on. */
  resume(): void {
    this.#child?.kill("SIGCONT");
  }

  /**
   * Runs commands on a connection of their own and answers with the replies: strings, numbers, lists, nothing for nil.
   *
   * @throws {Error} The first refusal.
   */
  async run(...commands: readonly (readonly (string | number)[])[]): Promise<RedisReply[]> {
    await using connection = await RawRedis.connect(this.socket);
    const replies: RedisReply[] = [];
    for (const command of commands) replies.push(await connection.call(...command));
    return replies;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end("SIGKILL");
    await Deno.remove(this.folder, { recursive: true }).catch(() => {});
  }

  async #end(signal: Deno.Signal): Promise<void> {
    const child = this.#child;
    this.#child = undefined;
    if (child === undefined) return;
    try {
      child.kill(signal);
    } catch {
      // It has ended by itself.
    }
    await child.status;
    await this.#output;
  }

  async #answers(): Promise<boolean> {
    try {
      await this.run(["PING"]);
      return true;
    } catch (error) {
      // A server that wants a password or is still loading is there all the same.
      return error instanceof Error && /NOAUTH|LOADING/.test(error.message);
    }
  }
}

/** What a server answers. */
export type RedisReply = string | number | null | readonly RedisReply[];

/** A connection that speaks the protocol by itself, so that what is tested does not judge itself. */
export class RawRedis implements AsyncDisposable {
  readonly #socket: Socket;
  readonly #waiting: { resolve(reply: RedisReply): void; reject(error: Error): void }[] = [];
  #text = "";
  /** Called for what comes without having been asked for: messages of subscriptions. */
  onPush: (message: RedisReply) => void = () => {};
  #failure: Error | undefined;

  private constructor(socket: Socket) {
    this.#socket = socket;
    socket.setEncoding("latin1");
    socket.on("data", (chunk) => this.#read(String(chunk)));
    socket.on("error", (error) => this.#end(error));
    socket.on("close", () => this.#end(new Error("Cannot go on: the connection was closed")));
  }

  /** Connects to a unix socket. */
  static connect(path: string): Promise<RawRedis> {
    return new Promise((resolve, reject) => {
      const socket = new Socket();
      const failed = (error: Error): void => {
        socket.destroy();
        reject(error);
      };
      socket.once("error", failed);
      socket.connect({ path }, () => {
        socket.off("error", failed);
        resolve(new RawRedis(socket));
      });
    });
  }

  /** Sends one command. */
  call(...args: readonly (string | number)[]): Promise<RedisReply> {
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    let text = `*${args.length}\r\n`;
    for (const arg of args) text += `$${String(arg).length}\r\n${arg}\r\n`;
    return new Promise((resolve, reject) => {
      this.#waiting.push({ resolve, reject });
      this.#socket.write(text, "latin1");
    });
  }

  [Symbol.asyncDispose](): Promise<void> {
    const closed = new Promise<void>((resolve) => {
      if (this.#socket.closed) resolve();
      else this.#socket.once("close", () => resolve());
    });
    this.#socket.destroy();
    return closed;
  }

  #read(chunk: string): void {
    this.#text += chunk;
    for (;;) {
      const read = decode(this.#text, 0);
      if (read === undefined) return;
      this.#text = this.#text.slice(read.end);
      const waiter = this.#waiting.shift();
      if (read.value instanceof Error) waiter?.reject(read.value);
      else if (waiter !== undefined) waiter.resolve(read.value);
      else this.onPush(read.value);
    }
  }

  #end(error: Error): void {
    this.#failure ??= error;
    for (const { reject } of this.#waiting.splice(0)) reject(error);
  }
}

/** One reply of RESP 2 at an offset, or nothing while it is not whole. */
function decode(
  text: string,
  at: number,
): { readonly value: RedisReply | Error; readonly end: number } | undefined {
  const lineEnd = text.indexOf("\r\n", at);
  if (lineEnd < 0) return undefined;
  const line = text.slice(at + 1, lineEnd);
  let end = lineEnd + 2;
  switch (text[at]) {
    case "+":
      return { value: line, end };
    case "-":
      return { value: new Error(line), end };
    case ":":
      return { value: Number(line), end };
    case "$": {
      const length = Number(line);
      if (length < 0) return { value: null, end };
      if (text.length < end + length + 2) return undefined;
      return { value: text.slice(end, end + length), end: end + length + 2 };
    }
    default: {
      const count = Number(line);
      if (count < 0) return { value: null, end };
      const list: RedisReply[] = [];
      for (let i = 0; i < count; i++) {
        const item = decode(text, end);
        if (item === undefined) return undefined;
        list.push(item.value instanceof Error ? item.value.message : item.value);
        end = item.end;
      }
      return { value: list, end };
    }
  }
}

function freePort(): number {
  // Below 55,536, because a cluster's second port is this one and 10,000 more.
  for (;;) {
    const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    const { port } = listener.addr as Deno.NetAddr;
    listener.close();
    if (port < 55_000) return port;
  }
}
