/**
 * What `fastwire demo` shows of the neighbour synchroniser: a table published, lost, repaired and compared, from a kernel
 * in memory and, where this process may make a network of its own, from the real one.
 *
 * @module
 */
import { spawn } from "node:child_process";
import type { DemoInput, DemoRow } from "./demo.ts";
import { formatMac, parseAddress } from "./neighsync/protocol/mod.ts";
import { dumpNeighbors, MemorySink, NeighSync } from "./neighsync/mod.ts";
import { VirtualHost } from "./neighsync/testing/virtual_host.ts";

/** Neighbours of a whole tour; fewer for a short one. */
const NEIGHBORS = 20_000;
const WHOLE_BYTES = 100_000_000;
const REACHABLE = 2;
const WAIT_MS = 10_000;
const DEVICE = "demo0";

/** Runs both; leaves no socket and no namespace. */
export async function* neighsyncDemo(
  { largestBytes, signal }: DemoInput,
): AsyncGenerator<DemoRow, void> {
  const part = Math.min(1, largestBytes / WHOLE_BYTES);
  const count = Math.max(100, Math.round(NEIGHBORS * part));
  yield await virtualKernel(count, signal);
  yield await realKernel(Math.min(count, 5000), signal);
}

async function virtualKernel(count: number, signal: AbortSignal): Promise<DemoRow> {
  const host = new VirtualHost({ eventCapacity: count / 2, buckets: 512, rowsPerPart: 400 });
  const { kernel } = host;
  kernel.setLink(2, "Ethernet0");
  const neighbor = (index: number, mac: number) => ({
    ifindex: 2,
    family: 2,
    words: [0x0a00_0000 + index, 0, 0, 0],
    mac: 0x0200_0000_0000 + mac,
    state: REACHABLE,
    flags: 0,
  });
  for (let index = 1; index <= count; index++) kernel.setNeighbor(neighbor(index, index));
  const sink = new MemorySink();
  const startedAt = performance.now();
  const sync = new NeighSync({ sink, host, signal });
  try {
    await sync.start();
    // Twice as many changes as the event socket holds: the rest is lost, noticed, and read again.
    for (let index = 1; index <= count; index++) kernel.setNeighbor(neighbor(index, index + 1));
    await settled(sync, () => sync.snapshot().kernel.lostEvents > 0, signal);
    const durationMs = performance.now() - startedAt;
    let right = sink.entries.size === count && sync.snapshot().kernel.resyncs >= 2;
    for (let index = 1; index <= count; index++) {
      const key = `Ethernet0:10.${index >> 16 & 255}.${index >> 8 & 255}.${index & 255}`;
      right &&= sink.entries.get(key)?.mac === formatMac(0x0200_0000_0001 + index);
    }
    return {
      what: `${count} neighbours, all changed, half of it lost and repaired`,
      driver: "virtual kernel",
      bytes: published(sink),
      durationMs,
      verified: right,
    };
  } finally {
    await sync.close();
    await host.close();
  }
}

async function realKernel(count: number, signal: AbortSignal): Promise<DemoRow> {
  const what = `${count} neighbours of the kernel, published`;
  const name = `fwdemo${crypto.randomUUID().slice(0, 8)}`;
  try {
    await ip(["netns", "add", name]);
  } catch {
    return { what, skipped: "making a network namespace takes root and the ip program" };
  }
  try {
    await ip(["-n", name, "link", "add", DEVICE, "type", "veth", "peer", "name", `${DEVICE}p`]);
    await ip(["-n", name, "link", "set", DEVICE, "up"]);
    await ip(["-n", name, "link", "set", `${DEVICE}p`, "up"]);
    const namespace = `/run/netns/${name}`;
    const sink = new MemorySink();
    const startedAt = performance.now();
    const sync = new NeighSync({ sink, signal, netlink: { namespace } });
    try {
      await sync.start();
      const lines: string[] = [];
      for (let index = 1; index <= count; index++) {
        const address = `10.0.${index >> 8 & 255}.${index & 255}`;
        const mac = formatMac(0x0200_0000_0000 + index);
        lines.push(`neigh add ${address} lladdr ${mac} dev ${DEVICE} nud permanent`);
      }
      await ip(["-n", name, "-batch", "-"], lines.join("\n") + "\n");
      await settled(sync, () => sink.entries.size >= count, signal);
      const durationMs = performance.now() - startedAt;
      // Judged by another reading of the kernel, in which multicast entries are nobody's neighbours.
      const rows = (await dumpNeighbors({ namespace, signal }))
        .filter(({ ip, state }) => parseAddress(ip) !== undefined && state === "permanent");
      const right = rows.length === count && sink.entries.size === count &&
        rows.every(({ ifname, ip, mac }) => sink.entries.get(`${ifname}:${ip}`)?.mac === mac);
      const { driver } = sync.snapshot().kernel;
      return { what, driver, bytes: published(sink), durationMs, verified: right };
    } finally {
      await sync.close();
    }
  } finally {
    await ip(["netns", "delete", name]);
  }
}

/** Waits until nothing is on its way and the kernel was read, and something else is so. */
async function settled(sync: NeighSync, also: () => boolean, signal: AbortSignal): Promise<void> {
  const giveUpAt = performance.now() + WAIT_MS;
  for (;;) {
    signal.throwIfAborted();
    const { queueDepth, kernel } = sync.snapshot();
    if (also() && queueDepth === 0 && !kernel.resyncing) return;
    if (performance.now() > giveUpAt) return;
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}

/** Bytes of keys and values in the table. */
function published(sink: MemorySink): number {
  let bytes = 0;
  for (const [key, { mac, family }] of sink.entries) {
    bytes += key.length + mac.length + family.length;
  }
  return bytes;
}

/** Runs `ip`. @throws {Error} When it cannot be run or complains. */
function ip(words: readonly string[], input = ""): Promise<void> {
  return new Promise((resolve, reject) => {
    const child = spawn("ip", words, { stdio: ["pipe", "ignore", "pipe"] });
    let complaint = "";
    child.stderr.on("data", (chunk) => complaint += String(chunk));
    child.on("error", reject);
    child.on("close", (code) => {
      if (code === 0) resolve();
      else reject(new Error(`Cannot run ip ${words.join(" ")}: ${complaint.trim()}`));
    });
    child.stdin.end(input);
  });
}
