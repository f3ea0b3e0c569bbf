/**
 * What `fastwire demo` shows of the bandwidth test: a server that asks for a login by EC-SRP5, and a client that loads it
 * in both directions at once, by TCP and by UDP, on each driver. Both ends count for themselves and are compared.
 *
 * @module
 */
import {
  MemoryAccounts,
  run,
  type RunOptions,
  serve,
  type ServerEvent,
  type TestResult,
} from "./btest/mod.ts";
import type { DemoInput, DemoRow } from "./demo.ts";
import { resolveDriver } from "./ffi/mod.ts";

/** Length of a test on the kernel driver when the tour is a whole one, milliseconds. */
const FAST_MS = 3000;
/** The same on the portable driver: the tour is to stay short. */
const PORTABLE_MS = 1000;
const SHORTEST_MS = 300;
/** The tour's size that stands for a whole one, bytes. */
const WHOLE_BYTES = 100_000_000;
/** UDP without a cap would measure how much this machine can lose. Bit/s each way. */
const UDP_BPS = { fast: 1_000_000_000, portable: 50_000_000 } as const;
/** What the buffers of two sockets may hold when a test ends, bytes. */
const TCP_UNDERWAY_BYTES = 16 * 1_048_576;
/** Size of a packet when none is asked for, IP and UDP headers included. */
const DEFAULT_PACKET_BYTES = 1500;

/** Runs a test in both directions for each driver and protocol; leaves no socket and no thread. */
export async function* btestDemo(
  { largestBytes, signal }: DemoInput,
): AsyncGenerator<DemoRow, void> {
  const part = Math.min(1, largestBytes / WHOLE_BYTES);
  const choice = resolveDriver("auto", ["batchedDatagrams"]);
  for (const driver of ["fast", "portable"] as const) {
    if (driver === "fast" && choice.use !== "fast") {
      yield { what: "everything on the kernel driver", skipped: choice.reason };
      continue;
    }
    const wholeMs = driver === "fast" ? FAST_MS : PORTABLE_MS;
    const durationMs = Math.max(SHORTEST_MS, Math.round(wholeMs * part));
    const udpBps = UDP_BPS[driver];
    yield await measured("tcp both ways, EC-SRP5", { driver, durationMs, protocol: "tcp" }, signal);
    yield await measured(`udp both ways at ${udpBps / 1e6} Mbit/s, EC-SRP5`, {
      driver,
      durationMs,
      protocol: "udp",
      localTxSpeedBps: udpBps,
      remoteTxSpeedBps: udpBps,
    }, signal);
  }
}

async function measured(
  what: string,
  options: RunOptions & { readonly driver: "fast" | "portable" },
  signal: AbortSignal,
): Promise<DemoRow> {
  signal.throwIfAborted();
  const accounts = new MemoryAccounts();
  accounts.set("demo", "secret");
  let other: TestResult | undefined;
  const server = await serve({
    listen: ["127.0.0.1:0"],
    driver: options.driver,
    accounts,
    onEvent: (event: ServerEvent) => {
      if (event.kind === "end") other = event.result;
    },
  });
  try {
    const own = await run(`127.0.0.1:${server.addresses[0]!.port}`, {
      ...options,
      direction: "both",
      user: "demo",
      password: "secret",
      signal,
    });
    signal.throwIfAborted();
    // The server has counted everything when its test is over.
    await server.shutdown({ graceMs: 2000 });
    return {
      what,
      driver: own.driver,
      bytes: own.txBytes + own.rxBytes,
      durationMs: own.elapsedMs,
      verified: own.auth === "ecsrp5" && other !== undefined && agree(own, other, options.protocol),
    };
  } finally {
    await server.close();
  }
}

/** Whether each end counted what the other one sent. */
function agree(own: TestResult, other: TestResult, protocol: "tcp" | "udp" | undefined): boolean {
  if (own.rxBytes === 0 || other.rxBytes === 0) return false;
  if (protocol !== "udp") return arrived(own, other) && arrived(other, own);
  return accounted(own, other) && accounted(other, own);
}

/** TCP: nothing arrived that was not sent, and what was sent arrived, up to what the closing threw away. */
function arrived(sender: TestResult, receiver: TestResult): boolean {
  const underway = sender.txBytes - receiver.rxBytes;
  return underway >= 0 && underway <= TCP_UNDERWAY_BYTES;
}

/**
 * UDP: every datagram that arrived or is known to be lost was sent, and bytes are datagrams of the asked size. No lower
 * bound: what a busy machine still had under way when the other end closed is neither.
 */
function accounted(sender: TestResult, receiver: TestResult): boolean {
  const { datagramsReceived, lost } = receiver;
  return datagramsReceived + lost <= sender.datagramsSent &&
    receiver.rxBytes === datagramsReceived * DEFAULT_PACKET_BYTES &&
    sender.txBytes === sender.datagramsSent * DEFAULT_PACKET_BYTES;
}
