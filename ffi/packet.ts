/**
 * Sending packets below IP, to a link-layer address on a chosen interface: for questions such as ARP's that no other
 * socket can ask.
 *
 * There is one driver, through the C library; no runtime offers such a thing.
 *
 * @module
 */
import { resolveDriver } from "./capabilities.ts";
import { CapabilityError } from "../internal/errors.ts";

/** Sends packets on any interface; one serves them all. Its verbs never wait. */
export interface PacketSender {
  /**
   * Sends one packet; the kernel puts the link-layer header before it.
   *
   * @param bytes From the network header on. May be overwritten when this returns.
   * @param ifindex The interface.
   * @param etherType What the packet is: 0x0806 is ARP, 0x86dd IPv6.
   * @param destination Link-layer address, 6 to 8 bytes.
   * @returns Whether the kernel took it. It does not when the interface is down or gone, or its queue is full.
   * @throws {TypeError} When the sender is closed. @throws {RangeError} For a destination of another length.
   */
  send(
    bytes: Uint8Array<ArrayBuffer>,
    ifindex: number,
    etherType: number,
    destination: Uint8Array,
  ): boolean;
  /** Packets the kernel did not take. */
  readonly refused: number;
  /** Error number of the last of them; 0 when there was none. */
  readonly lastErrno: number;
  /** Idempotent. */
  close(): void;
}

/** How to open a sender. */
export interface PacketSenderOptions {
  /** File that stands for the network namespace, such as `/run/netns/red`; default that of the process. */
  readonly namespace?: string;
}

/**
 * Opens a sender. It receives nothing and costs nothing while it is not used.
 *
 * @throws {CapabilityError} `ffi.driver-unavailable` without the C library.
 * @throws {SystemError} Without CAP_NET_RAW (`EPERM`), or when the namespace cannot be entered.
 */
export async function openPacketSender(options: PacketSenderOptions = {}): Promise<PacketSender> {
  const { use, reason } = resolveDriver("auto", ["ffi"]);
  if (use !== "fast") {
    throw new CapabilityError(
      "ffi.driver-unavailable",
      `Cannot send packets below IP: ${reason}`,
      { capability: "libc", why: reason, remedy: "run with --allow-ffi" },
    );
  }
  const { openLinuxPacketSender } = await import("./packet_linux.ts");
  return openLinuxPacketSender(options);
}
