/**
 * The other side of interoperability tests: real programs, found, started, fed and stopped.
 *
 * @module
 */

import { createSocket } from "node:dgram";
import { missingNamespaces, missingNetem, type NetworkNamespace } from "./netns.ts";

/** TFTP servers that can be started. */
export type ServerName = "in.tftpd" | "atftpd" | "dnsmasq";

/** TFTP clients that can be run. */
export type ClientName = "tftp" | "atftp" | "curl" | "busybox";

/** Proxies, and what makes other programs use one; `proxy_peers.ts` starts them. */
export type ProxyName = "ss-local" | "ss-server" | "microsocks" | "haproxy" | "proxychains4";

/** Everything a test can need from outside: a program, or the right to make namespaces. */
export type Need = Peer["name"] | "namespaces" | "netem";

/** A program that was found. */
export interface Peer {
  readonly name: ServerName | ClientName | ProxyName | "tcpdump" | "nft";
  /** Absolute path. */
  readonly path: string;
  /** First line of what it says about itself. */
  readonly version: string;
}

const found = new Map<string, Peer | undefined>();

/**
 * Looks for a program: in the folders of `PATH` and the system's, atftpd also where it was unpacked (its package
 * conflicts with tftpd-hpa's): at `FASTWIRE_ATFTPD`, else in `fastwire-peers` below the folder for temporary files.
 */
export function peer(name: Peer["name"]): Peer | undefined {
  if (!found.has(name)) found.set(name, look(name));
  return found.get(name);
}

/** Why a need is not met, one sentence; empty when it is. */
export function missing(need: Need): string {
  if (need === "namespaces") return missingNamespaces();
  if (need === "netem") return missingNetem();
  if (peer(need) === undefined) return `${need} was not found`;
  if (need === "in.tftpd" && Deno.uid() !== 0) return "in.tftpd starts as root only";
  // It has no option for the port, so it gets a network of its own.
  return need === "dnsmasq" ? missingNamespaces() : "";
}

/**
 * Registers a test that needs real programs. Without one of them it is ignored and its name ends in the reason; with
 * `FASTWIRE_REQUIRE_PEERS=1` it fails with the reason.
 */
export function peerTest(
  name: string,
  needs: readonly Need[],
  body: (t: Deno.TestContext) => Promise<void>,
): void {
  const reasons = needs.map(missing).filter((reason) => reason !== "");
  // Programs can be installed and rights be given; what a kernel was built without cannot be asked for.
  const required = Deno.env.get("FASTWIRE_REQUIRE_PEERS") === "1" &&
    needs.some((need) => need !== "netem" && missing(need) !== "");
  const ignore = reasons.length > 0 && !required;
  Deno.test({
    name: ignore ? `${name} [skipped: ${reasons.join("; ")}]` : name,
    ignore,
    fn: async (t) => {
      if (reasons.length > 0) throw new Error(`Cannot test without a peer: ${reasons.join("; ")}`);
      await body(t);
    },
  });
}

/** How a server is started. */
export interface ServerOptions {
  /** The folder it serves; made readable, and writable when asked for, for everybody: servers drop their rights. */
  readonly root: string;
  readonly writable?: boolean;
  /** Where it runs; required for dnsmasq. */
  readonly namespace?: NetworkNamespace;
  /** The address it listens on; `127.0.0.1` by default. */
  readonly host?: string;
  /** More words for its command line. */
  readonly extra?: readonly string[];
}

/** A server that is answering. */
export interface RunningServer extends AsyncDisposable {
  readonly name: ServerName;
  readonly host: string;
  readonly port: number;
  readonly pid: number;
  /** What it printed so far, both streams. */
  output(): string;
  /** Ends it and whatever it started; idempotent. */
  stop(): Promise<void>;
}

const READY_WITHIN_MS = 10_000;
const STOP_WITHIN_MS = 3_000;

/** Starts a server and answers once its socket is bound. */
export async function startServer(
  name: ServerName,
  options: ServerOptions,
): Promise<RunningServer> {
  const reason = missing(name);
  if (reason !== "") throw new Error(`Cannot start ${name}: ${reason}`);
  if (name === "dnsmasq" && options.namespace === undefined) {
    throw new TypeError("Cannot start dnsmasq: it needs port 69, expected a namespace");
  }
  await Deno.chmod(options.root, options.writable === true ? 0o777 : 0o755);
  // Somebody may take the port between looking and starting.
  for (let attempt = 1;; attempt++) {
    const port = name === "dnsmasq" ? 69 : await freePort();
    try {
      return await startOnce(name, options, port);
    } catch (error) {
      if (attempt === 3) throw error;
    }
  }
}

/** What a client is told to do. */
export interface ClientJob {
  readonly action: "get" | "put";
  readonly host: string;
  readonly port: number;
  /** The name on the server. */
  readonly remote: string;
  /** The file here. */
  readonly local: string;
  readonly blockSize?: number;
  readonly windowSize?: number;
  /** `octet` by default. */
  readonly mode?: "octet" | "netascii";
  /** Ask for no options at all; curl asks for some unless told not to. */
  readonly noOptions?: boolean;
}

/**
 * The words that make a client do a job.
 *
 * @throws {TypeError} When the client has no option for what the job asks.
 */
export function clientWords(name: ClientName, job: ClientJob): readonly string[] {
  const { action, host, port, remote, local, blockSize, windowSize } = job;
  const path = peer(name)?.path ?? name;
  const refuse = (what: string, value: unknown): void => {
    if (value !== undefined) throw new TypeError(`Cannot give ${name} a ${what}: it has no option`);
  };
  if (name !== "atftp") refuse("window size", windowSize);
  if (name !== "tftp" && job.mode === "netascii") refuse("mode", job.mode);
  switch (name) {
    case "tftp": {
      refuse("block size", blockSize);
      const files = action === "get" ? [remote, local] : [local, remote];
      return [
        path,
        "-m",
        job.mode === "netascii" ? "ascii" : "binary",
        host,
        String(port),
        "-c",
        action,
        ...files,
      ];
    }
    case "atftp": {
      const options = [
        ...(blockSize === undefined ? [] : ["--option", `blksize ${blockSize}`]),
        ...(windowSize === undefined ? [] : ["--option", `windowsize ${windowSize}`]),
      ];
      const files = [`--${action}`, "-r", remote, "-l", local];
      return [path, ...options, ...files, host, String(port)];
    }
    case "curl": {
      const size = blockSize === undefined ? [] : ["--tftp-blksize", String(blockSize)];
      if (job.noOptions === true) size.push("--tftp-no-options");
      const url = `tftp://${host.includes(":") ? `[${host}]` : host}:${port}/${
        encodeURIComponent(remote)
      }`;
      const file = action === "get" ? ["-o", local] : ["-T", local];
      return [path, "-sS", ...size, ...file, url];
    }
    case "busybox": {
      const size = blockSize === undefined ? [] : ["-b", String(blockSize)];
      const files = [action === "get" ? "-g" : "-p", "-r", remote, "-l", local];
      return [path, "tftp", ...size, ...files, host, String(port)];
    }
  }
}

/** How a program ended. */
export interface Finished {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly timedOut: boolean;
}

/** Runs a program to its end, or kills it when that takes too long. */
export async function runProgram(
  words: readonly string[],
  options: {
    readonly timeoutMs?: number;
    readonly cwd?: string;
    readonly namespace?: NetworkNamespace;
  } = {},
): Promise<Finished> {
  const [program, ...args] = options.namespace?.wrap(words) ?? words;
  const child = new Deno.Command(program!, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  }).spawn();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    child.kill("SIGKILL");
  }, options.timeoutMs ?? 20_000);
  const { code, stdout, stderr } = await child.output();
  clearTimeout(timer);
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr), timedOut };
}

function serverWords(name: ServerName, options: ServerOptions, port: number): readonly string[] {
  const path = peer(name)!.path;
  const host = options.host ?? "127.0.0.1";
  const extra = options.extra ?? [];
  const bracketed = host.includes(":") ? `[${host}]` : host;
  switch (name) {
    case "in.tftpd": {
      const write = options.writable === true ? ["--create", "--permissive"] : [];
      const address = ["--address", `${bracketed}:${port}`];
      return [
        path,
        "--listen",
        "--foreground",
        "--secure",
        ...address,
        ...write,
        ...extra,
        options.root,
      ];
    }
    case "atftpd": {
      const address = ["--port", String(port), "--bind-address", host];
      const common = ["--daemon", "--no-fork", "--logfile", "-", "--verbose=7"];
      return [path, ...common, ...address, ...extra, options.root];
    }
    case "dnsmasq":
      return [
        path,
        "--no-daemon",
        "--conf-file=/dev/null",
        "--port=0",
        "--user=root",
        "--pid-file=",
        "--log-facility=-",
        "--bind-interfaces",
        `--listen-address=${host}`,
        "--enable-tftp",
        `--tftp-root=${options.root}`,
        ...extra,
      ];
  }
}

async function startOnce(
  name: ServerName,
  options: ServerOptions,
  port: number,
): Promise<RunningServer> {
  const words = serverWords(name, options, port);
  const [program, ...args] = options.namespace?.wrap(words) ?? words;
  const child = new Deno.Command(program!, {
    args,
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const parts: string[] = [];
  const reading = Promise.all([collect(child.stdout, parts), collect(child.stderr, parts)]);
  let ended = false;
  const end = child.status.then(() => ended = true);
  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    // Transfers of in.tftpd are processes of their own; nobody else would end them.
    const children = await childrenOf(child.pid);
    if (!ended) child.kill("SIGTERM");
    for (const pid of children) signalIfAlive(pid, "SIGTERM");
    const timer = setTimeout(() => signalIfAlive(child.pid, "SIGKILL"), STOP_WITHIN_MS);
    await end;
    clearTimeout(timer);
    await reading;
  };
  const server: RunningServer = {
    name,
    host: options.host ?? "127.0.0.1",
    port,
    pid: child.pid,
    output: () => parts.join(""),
    stop: () => stopping ??= stop(),
    [Symbol.asyncDispose]: () => stopping ??= stop(),
  };
  const deadline = performance.now() + READY_WITHIN_MS;
  while (!await isBound(child.pid, port)) {
    if (ended || performance.now() > deadline) {
      await server.stop();
      throw new Error(
        `Cannot start ${name}: ${ended ? "it ended" : "no socket"}, ${server.output()}`,
      );
    }
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
  return server;
}

/** Whether the network of a process has a UDP socket on a port; its own view, so namespaces work too. */
async function isBound(pid: number, port: number): Promise<boolean> {
  const hex = `:${port.toString(16).toUpperCase().padStart(4, "0")} `;
  for (const table of ["udp", "udp6"]) {
    try {
      const lines = (await Deno.readTextFile(`/proc/${pid}/net/${table}`)).split("\n").slice(1);
      if (lines.some((line) => line.trim().split(/\s+/)[1]?.concat(" ").endsWith(hex))) return true;
    } catch {
      return false; // it has ended; the caller looks at that
    }
  }
  return false;
}

async function childrenOf(pid: number): Promise<readonly number[]> {
  try {
    const text = await Deno.readTextFile(`/proc/${pid}/task/${pid}/children`);
    return text.split(" ").filter((word) => word !== "").map(Number);
  } catch {
    return [];
  }
}

function signalIfAlive(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch {
    // It ended by itself.
  }
}

async function collect(stream: ReadableStream<Uint8Array>, parts: string[]): Promise<void> {
  const decoder = new TextDecoder();
  for await (const chunk of stream) parts.push(decoder.decode(chunk, { stream: true }));
}

function freePort(): Promise<number> {
  return new Promise((resolve, reject) => {
    const socket = createSocket("udp4");
    socket.once("error", reject);
    socket.bind(0, "127.0.0.1", () => {
      const { port } = socket.address();
      socket.close(() => resolve(port));
    });
  });
}

const VERSION_WORDS: Readonly<Record<Peer["name"], readonly string[]>> = {
  "in.tftpd": ["--version"],
  "atftpd": ["--version"],
  "dnsmasq": ["--version"],
  "tftp": ["-V"],
  "atftp": ["--version"],
  "curl": ["--version"],
  "busybox": ["--help"],
  "tcpdump": ["--version"],
  "nft": ["--version"],
  "ss-local": ["-h"],
  "ss-server": ["-h"],
  "microsocks": ["-h"],
  "haproxy": ["-v"],
  // It has no word for that and says how it is used.
  "proxychains4": [],
};

function look(name: Peer["name"]): Peer | undefined {
  for (const path of candidates(name)) {
    try {
      if (!Deno.statSync(path).isFile) continue;
      const { stdout, stderr } = new Deno.Command(path, { args: [...VERSION_WORDS[name]] })
        .outputSync();
      const decoder = new TextDecoder();
      const text = `${decoder.decode(stdout)}\n${decoder.decode(stderr)}`.trim();
      const able = name === "curl"
        ? /\btftp\b/.test(text)
        : name !== "busybox" || /\btftp\b/.test(text);
      if (able) return { name, path, version: text.split("\n")[0] ?? "" };
    } catch {
      // Not here, or not for this machine.
    }
  }
  return undefined;
}

function candidates(name: string): readonly string[] {
  const folders = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/usr/bin", "/sbin"];
  const usual = folders.filter((folder) => folder !== "").map((folder) => `${folder}/${name}`);
  if (name !== "atftpd") return usual;
  const given = Deno.env.get("FASTWIRE_ATFTPD");
  const temporary = Deno.env.get("TMPDIR") ?? "/tmp";
  return [
    ...(given === undefined ? [] : [given]),
    ...usual,
    `${temporary}/fastwire-peers/atftpd/usr/sbin/atftpd`,
  ];
}
