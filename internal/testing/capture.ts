/**
 * What crosses a cable, packet by packet: tcpdump's capture, read back.
 *
 * @module
 */

import type { NetworkNamespace } from "./netns.ts";
import { peer } from "./peers.ts";

/** One packet that was seen. */
export interface SeenPacket {
  /** 4 or 6. */
  readonly version: number;
  /** What it carries: 6 is TCP, 17 is UDP. Of IPv6 the first header's word. */
  readonly protocol: number;
  /** Bytes of the IP packet, as its header says. */
  readonly length: number;
  /** It is a piece of a larger packet. */
  readonly fragment: boolean;
}

/** A capture that is running. */
export interface Capture extends AsyncDisposable {
  /**
   * Ends it once it has seen `atLeast` packets, or has had 3 s to see them, and answers what was seen. Packets reach the
   * file some time after they crossed the cable.
   *
   * @throws When the capture missed packets.
   */
  stop(atLeast: number): Promise<readonly SeenPacket[]>;
}

const PATIENCE_MS = 3000;
const ETHERNET_BYTES = 14;
const FRAGMENT_HEADER = 44;

/** Starts capturing what a device of a namespace receives. */
export async function startCapture(
  namespace: NetworkNamespace,
  device: string,
): Promise<Capture> {
  const path = await Deno.makeTempFile({ suffix: ".pcap" });
  const [program, ...args] = namespace.wrap([
    peer("tcpdump")!.path,
    ...[
      "-i",
      device,
      "-Q",
      "in",
      "-U",
      "--immediate-mode",
      "-s",
      "96",
      "-B",
      "16384",
      "-Z",
      "root",
      "-w",
      path,
    ],
    ...["ip or ip6"],
  ]);
  const child = new Deno.Command(program!, { args, stdin: "null", stdout: "null", stderr: "piped" })
    .spawn();
  let said = "";
  let ready: () => void = () => {};
  const listening = new Promise<void>((resolve) => ready = resolve);
  const reading = (async () => {
    const decoder = new TextDecoder();
    for await (const chunk of child.stderr) {
      said += decoder.decode(chunk, { stream: true });
      if (said.includes("listening on")) ready();
    }
    ready();
  })();
  await listening;
  let ended = false;
  const end = async (): Promise<void> => {
    if (ended) return;
    ended = true;
    try {
      child.kill("SIGINT");
    } catch {
      // It ended by itself.
    }
    await child.status;
    await reading;
  };
  return {
    async stop(atLeast: number): Promise<readonly SeenPacket[]> {
      const deadline = performance.now() + PATIENCE_MS;
      while (readCapture(await Deno.readFile(path)).length < atLeast) {
        if (performance.now() > deadline) break;
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
      await end();
      if (!/^0 packets dropped by kernel/m.test(said)) {
        throw new Error(`Cannot trust the capture: ${said}`);
      }
      return readCapture(await Deno.readFile(path));
    },
    async [Symbol.asyncDispose](): Promise<void> {
      await end();
      await Deno.remove(path);
    },
  };
}

/** Reads a capture file of Ethernet frames in this machine's byte order, the form tcpdump writes. */
function readCapture(bytes: Uint8Array): SeenPacket[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length < 24) return [];
  const magic = view.getUint32(0, true);
  if (magic !== 0xa1b2c3d4) throw new Error(`Cannot read a capture that begins with ${magic}`);
  const packets: SeenPacket[] = [];
  for (let at = 24; at + 16 <= bytes.length;) {
    const captured = view.getUint32(at + 8, true);
    if (at + 16 + captured > bytes.length) break; // still being written
    const ip = at + 16 + ETHERNET_BYTES;
    const version = bytes[ip]! >> 4;
    packets.push(
      version === 4
        ? {
          version,
          protocol: bytes[ip + 9]!,
          length: view.getUint16(ip + 2),
          fragment: (view.getUint16(ip + 6) & 0x3fff) !== 0,
        }
        : {
          version,
          protocol: bytes[ip + 6]!,
          length: 40 + view.getUint16(ip + 4),
          fragment: bytes[ip + 6] === FRAGMENT_HEADER,
        },
    );
    at += 16 + captured;
  }
  return packets;
}
