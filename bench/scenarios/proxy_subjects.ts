/**
 * The proxies that are measured: ours as a user starts them, and those of others.
 *
 * @module
 */
import { type OwnTool, startOwnTool } from "../../internal/testing/own_tool.ts";
import { missing } from "../../internal/testing/peers.ts";
import {
  type ProxyPeer,
  startHaproxy,
  startMicrosocks,
  startSsLocal,
  startSsServer,
} from "../../internal/testing/proxy_peers.ts";
import { familyCpu, resident } from "./harness.ts";
import type { Way } from "./proxy_ends.ts";

/** A way to the far end whose cost can be told. */
export interface Subject {
  readonly name: string;
  readonly way: Way;
  /** CPU seconds of its processes, all threads. */
  cpuSeconds(): number;
  /** Resident memory of its processes, bytes. */
  residentBytes(): number;
  /** The part of it that is not pages of programs and libraries, which processes share. */
  anonymousBytes(): number;
  stop(): Promise<void>;
}

/** Method and password of the Shadowsocks pairs. */
const SECRET = { method: "aes-256-gcm", password: "a word both know" } as const;

/** No proxy at all. */
export function direct(farPort: number): Subject {
  return subject("direct", [], { port: farPort, target: undefined });
}

/** Ours, SOCKS5 in and direct out. */
export async function ownSocks(
  farPort: number,
  driver: "fast" | "portable" = "fast",
): Promise<Subject> {
  const one = await own({ inbounds: [SOCKS_IN] }, driver);
  const name = driver === "fast" ? "ours" : "ours (portable)";
  return subject(name, [one], { port: one.port, target: farPort });
}

/** microsocks; `undefined`, and named, when it is not installed. */
export async function microsocks(farPort: number): Promise<Subject | undefined> {
  if (!available("microsocks")) return undefined;
  const one = await startMicrosocks();
  return subject("microsocks", [one], { port: one.port, target: farPort });
}

/** haproxy with one of its two ways of moving bytes; `undefined` as above. */
export async function haproxy(farPort: number, splice: boolean): Promise<Subject | undefined> {
  if (!available("haproxy")) return undefined;
  const one = await startHaproxy({ targetPort: farPort, splice });
  const name = splice ? "haproxy, splice" : "haproxy";
  return subject(name, [one], { port: one.port, target: undefined });
}

/** Ours as a Shadowsocks pair: two processes. */
export async function ownShadowsocks(farPort: number): Promise<Subject> {
  const { method, password } = SECRET;
  const far = await own({
    inbounds: [{ ...SOCKS_IN, type: "shadowsocks", method, password }],
  }, "fast");
  const near = await own({
    inbounds: [SOCKS_IN],
    outbounds: [{
      type: "shadowsocks",
      tag: "far",
      server: "127.0.0.1",
      server_port: far.port,
      method,
      password,
    }],
  }, "fast");
  return subject("our shadowsocks pair", [near, far], { port: near.port, target: farPort });
}

/** The pair of shadowsocks-libev. */
export async function libevShadowsocks(farPort: number): Promise<Subject | undefined> {
  if (!available("ss-server") || !available("ss-local")) return undefined;
  const far = await startSsServer(SECRET);
  const near = await startSsLocal({ ...SECRET, serverPort: far.port });
  return subject("ss-libev pair", [near, far], { port: near.port, target: farPort });
}

const SOCKS_IN = { type: "socks", tag: "in", listen: "127.0.0.1", listen_port: 0 };

interface Process {
  readonly pid: number;
  stop(): Promise<unknown>;
}

async function own(
  config: { readonly inbounds: readonly object[]; readonly outbounds?: readonly object[] },
  driver: "fast" | "portable",
): Promise<OwnTool & { readonly port: number }> {
  const file = await Deno.makeTempFile({ suffix: ".json" });
  await Deno.writeTextFile(file, JSON.stringify(config));
  try {
    const tool = await startOwnTool("proxy/mod.ts", ["run", "-c", file, "--driver", driver], {
      ready: /^listening \S+ \S+:(\d+) /,
    });
    return Object.assign(tool, { port: Number(tool.matches[0]![1]) });
  } finally {
    await Deno.remove(file);
  }
}

function subject(name: string, processes: readonly (Process | ProxyPeer)[], way: Way): Subject {
  const sum = (of: (pid: number) => number): number =>
    processes.reduce((total, { pid }) => total + of(pid), 0);
  return {
    name,
    way,
    cpuSeconds: () => sum(familyCpu),
    residentBytes: () => sum(resident),
    anonymousBytes: () => sum(anonymous),
    async stop(): Promise<void> {
      for (const process of processes) await process.stop();
    },
  };
}

function anonymous(pid: number): number {
  const text = Deno.readTextFileSync(`/proc/${pid}/status`);
  return Number(/RssAnon:\s+(\d+)/.exec(text)?.[1] ?? 0) * 1024;
}

function available(name: "microsocks" | "haproxy" | "ss-server" | "ss-local"): boolean {
  const reason = missing(name);
  if (reason !== "") console.log(`left out: ${name} (${reason})`);
  return reason === "";
}
