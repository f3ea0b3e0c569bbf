/**
 * Proxies of others as processes: on a free port, with their configuration in a folder of their own, gone when disposed.
 *
 * @module
 */

import { missing, peer, type ProxyName } from "./peers.ts";

/** A proxy that listens. */
export interface ProxyPeer extends AsyncDisposable {
  readonly name: string;
  /** Where it listens, on 127.0.0.1. */
  readonly port: number;
  readonly pid: number;
  /** What it printed so far, both streams. */
  output(): string;
  /** Ends it and removes its folder; idempotent. */
  stop(): Promise<void>;
}

/** What both ends of a Shadowsocks pair are told. */
export interface ShadowsocksPeerOptions {
  readonly method: string;
  readonly password: string;
  /** Whether datagrams are relayed too. */
  readonly udp?: boolean;
}

/** Starts `ss-server`. */
export function startSsServer(options: ShadowsocksPeerOptions): Promise<ProxyPeer> {
  return start("ss-server", options.udp === true, (port) => ({
    "config.json": JSON.stringify({
      server: "127.0.0.1",
      server_port: port,
      ...shadowsocks(options),
    }),
  }), () => ["-c", "config.json"]);
}

/** Starts `ss-local`, a SOCKS5 server, in front of the Shadowsocks server at `serverPort`. */
export function startSsLocal(
  options: ShadowsocksPeerOptions & { readonly serverPort: number },
): Promise<ProxyPeer> {
  return start("ss-local", options.udp === true, (port) => ({
    "config.json": JSON.stringify({
      server: "127.0.0.1",
      server_port: options.serverPort,
      local_address: "127.0.0.1",
      local_port: port,
      ...shadowsocks(options),
    }),
  }), () => ["-c", "config.json"]);
}

/** Starts `microsocks`. */
export function startMicrosocks(
  user?: { readonly name: string; readonly password: string },
): Promise<ProxyPeer> {
  const words = user === undefined ? [] : ["-u", user.name, "-P", user.password];
  return start(
    "microsocks",
    false,
    () => ({}),
    (port) => ["-i", "127.0.0.1", "-p", `${port}`, ...words],
  );
}

/** How `haproxy` is configured. */
export interface HaproxyOptions {
  /** Where it forwards to, on 127.0.0.1. */
  readonly targetPort: number;
  /** Whether it may leave the bytes in the kernel (`option splice-auto`). Default false. */
  readonly splice?: boolean;
}

/** Starts `haproxy` in tcp mode, with as many threads as it takes by itself. */
export function startHaproxy(options: HaproxyOptions): Promise<ProxyPeer> {
  return start("haproxy", false, (port) => ({
    "haproxy.cfg": [
      "global",
      // Splicing needs descriptors for pipes too: five of a connection.
      "  maxconn 3000",
      "defaults",
      "  mode tcp",
      "  timeout connect 5s",
      "  timeout client 5m",
      "  timeout server 5m",
      ...(options.splice === true ? ["  option splice-auto"] : []),
      "frontend in",
      `  bind 127.0.0.1:${port}`,
      "  default_backend out",
      "backend out",
      `  server one 127.0.0.1:${options.targetPort}`,
      "",
    ].join("\n"),
  }), () => ["-db", "-f", "haproxy.cfg"]);
}

/** The text of a `proxychains.conf` that leads through proxies in the order given. */
export function proxychainsConfig(
  proxies: readonly {
    readonly type: "socks4" | "socks5" | "http";
    readonly port: number;
    readonly user?: string;
    readonly password?: string;
  }[],
): string {
  return [
    "strict_chain",
    "quiet_mode",
    "proxy_dns",
    "tcp_read_time_out 15000",
    "tcp_connect_time_out 8000",
    "[ProxyList]",
    ...proxies.map(({ type, port, user, password }) =>
      [type, "127.0.0.1", port, user, password].filter((word) => word !== undefined).join(" ")
    ),
    "",
  ].join("\n");
}

/** A TCP port nobody listens on just now. */
export function freeTcpPort(): number {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = listener.addr as Deno.NetAddr;
  listener.close();
  return port;
}

/** Settles when somebody listens on a TCP port, without knocking. */
export async function untilListening(
  port: number,
  limitMs: number = READY_WITHIN_MS,
): Promise<void> {
  await until(() => isListening(port), limitMs, () => `nobody listens on port ${port}`);
}

/** Settles when `met` says so. */
export async function until(
  met: () => boolean | Promise<boolean>,
  limitMs: number,
  what: () => string,
): Promise<void> {
  const deadline = performance.now() + limitMs;
  while (!await met()) {
    if (performance.now() > deadline) throw new Error(`Cannot go on: ${what()}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

function shadowsocks(options: ShadowsocksPeerOptions): Record<string, unknown> {
  return {
    password: options.password,
    method: options.method,
    timeout: 300,
    mode: options.udp === true ? "tcp_and_udp" : "tcp_only",
  };
}

async function start(
  name: ProxyName,
  udp: boolean,
  files: (port: number) => Readonly<Record<string, string>>,
  words: (port: number) => readonly string[],
): Promise<ProxyPeer> {
  const reason = missing(name);
  if (reason !== "") throw new Error(`Cannot start ${name}: ${reason}`);
  // Somebody may take the port between looking and starting.
  for (let attempt = 1;; attempt++) {
    try {
      return await startOnce(name, udp, freeTcpPort(), files, words);
    } catch (error) {
      if (attempt === 3) throw error;
    }
  }
}

async function startOnce(
  name: ProxyName,
  udp: boolean,
  port: number,
  files: (port: number) => Readonly<Record<string, string>>,
  words: (port: number) => readonly string[],
): Promise<ProxyPeer> {
  const folder = await Deno.makeTempDir({ prefix: "fastwire-peer-" });
  for (const [file, text] of Object.entries(files(port))) {
    await Deno.writeTextFile(`${folder}/${file}`, text);
  }
  // Into a file: a pipe that nobody empties, as in a bench whose thread is busy, would stop what talks a lot.
  const log = `${folder}/output.log`;
  const child = new Deno.Command("/bin/sh", {
    args: ["-c", `exec "$@" > "$0" 2>&1`, log, peer(name)!.path, ...words(port)],
    cwd: folder,
    stdin: "null",
    stdout: "null",
    stderr: "null",
  }).spawn();
  let printed = "";
  let ended = false;
  const end = child.status.then(() => ended = true);
  let stopping: Promise<void> | undefined;
  const stop = async (): Promise<void> => {
    if (!ended) child.kill("SIGTERM");
    const timer = setTimeout(() => ended || child.kill("SIGKILL"), STOP_WITHIN_MS);
    await end;
    clearTimeout(timer);
    printed = outputOf(log);
    await Deno.remove(folder, { recursive: true });
  };
  const running: ProxyPeer = {
    name,
    port,
    pid: child.pid,
    output: () => printed || outputOf(log),
    stop: () => stopping ??= stop(),
    [Symbol.asyncDispose]: () => stopping ??= stop(),
  };
  try {
    await until(
      () => ended || isListening(port) && (!udp || isBound(port)),
      READY_WITHIN_MS,
      () => `${name} has no socket`,
    );
    if (ended) throw new Error("it ended");
  } catch (error) {
    await running.stop();
    throw new Error(`Cannot start ${name}: ${String(error)}, ${running.output()}`);
  }
  return running;
}

/** Whether the kernel has a listening TCP socket on a port (state 0A of `/proc/net/tcp`). */
function isListening(port: number): boolean {
  return ["tcp", "tcp6"].some((table) =>
    rows(table).some((fields) => fields[3] === "0A" && fields[1]?.endsWith(hexPort(port)))
  );
}

function isBound(port: number): boolean {
  return ["udp", "udp6"].some((table) =>
    rows(table).some((fields) => fields[1]?.endsWith(hexPort(port)))
  );
}

function rows(table: string): readonly (readonly string[])[] {
  const lines = Deno.readTextFileSync(`/proc/net/${table}`).split("\n").slice(1);
  return lines.map((line) => line.trim().split(/\s+/));
}

function hexPort(port: number): string {
  return `:${port.toString(16).toUpperCase().padStart(4, "0")}`;
}

function outputOf(log: string): string {
  try {
    return Deno.readTextFileSync(log);
  } catch {
    return ""; // not begun, or removed already
  }
}

const READY_WITHIN_MS = 10_000;
const STOP_WITHIN_MS = 3_000;
