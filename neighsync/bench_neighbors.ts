/**
 * Neighbours that are made to be measured with: consecutive addresses of the range that RFC 2544 sets aside for
 * benchmarks, written to the kernel many at a time.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import { type NetlinkHost, type NetlinkSocket, openNetlinkHost } from "../ffi/mod.ts";
import { UsageError } from "../internal/cli/command.ts";
import { CapabilityError, SystemError } from "../internal/errors.ts";
import { KernelFeed } from "./kernel_feed.ts";
import { formatAddress, formatMac } from "./protocol/address.ts";
import {
  AF_INET,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NLM_F_REQUEST,
  NLMSG_ERROR,
  NUD_PERMANENT,
  RTM_DELNEIGH,
} from "./protocol/constants.ts";
import {
  decodeAnswer,
  type KernelAnswer,
  parseNetlink,
  writeNewNeighbor,
} from "./protocol/netlink.ts";
import type { ResolvedNetlinkSettings } from "./settings.ts";

/** 198.18.0.0. */
const FIRST_ADDRESS = 0xc612_0000;
/** Addresses in 198.18.0.0/15. */
export const MAX_NEIGHBORS = 0x2_0000;
/** Bytes of a request for an IPv4 neighbour. */
const REQUEST_BYTES = 48;
/** Below what a socket may send in one piece by default. */
const REQUESTS_PER_SEND = 1024;
const EPERM = 1, EACCES = 13;

/** The address with this index, as a number. */
function addressOf(index: number): number {
  return FIRST_ADDRESS + index;
}

/** The key of the neighbour with this index. */
export function benchKey(ifname: string, index: number): string {
  return `${ifname}:${formatAddress(AF_INET, addressOf(index), 0, 0, 0)}`;
}

/** The index behind a key; −1 for a key of somebody else. */
export function benchIndex(ifname: string, key: string): number {
  if (!key.startsWith(ifname) || key.charCodeAt(ifname.length) !== COLON) return -1;
  const parts = /^198\.(18|19)\.(\d{1,3})\.(\d{1,3})$/.exec(key.slice(ifname.length + 1));
  if (parts === null) return -1;
  return (Number(parts[1]) - 18) * 65_536 + Number(parts[2]) * 256 + Number(parts[3]);
}

/** The link-layer address of the neighbour with this index. @param salt 0 to 255: another one makes a change. */
export function benchMac(index: number, salt: number): string {
  return formatMac(macOf(index, salt));
}

/** The salt of a link-layer address. */
export function benchSalt(mac: string): number {
  return Number.parseInt(mac.slice(3, 5), 16);
}

/** Adds, changes and deletes neighbours of one interface. */
export class BenchNeighbors {
  /** Milliseconds of processor time it took to write to the kernel; not the daemon's. */
  cpuMs = 0;
  /** The driver. */
  readonly driver: string;

  readonly #host: NetlinkHost;
  readonly #ifindex: number;
  readonly #view = new DataView(new ArrayBuffer(REQUESTS_PER_SEND * REQUEST_BYTES));
  readonly #bytes = new Uint8Array(this.#view.buffer);
  #socket!: NetlinkSocket;
  #made = 0;
  #refusal: KernelAnswer | undefined;

  private constructor(host: NetlinkHost, ifindex: number) {
    this.#host = host;
    this.driver = host.driver;
    this.#ifindex = ifindex;
  }

  /**
   * Looks for the interface, and whether neighbours may be made on it.
   *
   * @throws {UsageError} When there is no such interface, or it has neighbours in the range already.
   * @throws {CapabilityError} When neighbours may not be written.
   */
  static async open(
    settings: ResolvedNetlinkSettings,
    ifname: string,
    signal: AbortSignal,
  ): Promise<BenchNeighbors> {
    const host = await openNetlinkHost({ driver: settings.driver });
    try {
      const ifindex = await find(host, settings, ifname, signal);
      const made = new BenchNeighbors(host, ifindex);
      const { namespace } = settings;
      made.#socket = await host.open({
        consumer: {
          datagram: (view, start, end) => made.#answered(view, start, end),
          lost: () => {},
        },
        ...(namespace === undefined ? {} : { namespace }),
      });
      if (!made.#socket.traits.writes) throw cannotWrite();
      made.put(0, 1, 0);
      made.removeAll();
      made.cpuMs = 0;
      return made;
    } catch (error) {
      await host.close();
      throw error;
    }
  }

  /**
   * Adds neighbours, or changes those that exist. Blocks until the kernel has carried it out.
   *
   * @throws {CapabilityError} When it is not permitted. @throws {SystemError} When the kernel refuses otherwise.
   */
  put(first: number, count: number, salt: number): void {
    this.#made = Math.max(this.#made, first + count);
    this.#write(first, count, (at, index) => {
      writeNewNeighbor(this.#view, at, {
        sequence: 0,
        flags: NLM_F_CREATE | NLM_F_REPLACE,
        ifindex: this.#ifindex,
        family: AF_INET,
        words: [addressOf(index)],
        mac: macOf(index, salt),
        state: NUD_PERMANENT,
      });
    });
  }

  /** Deletes everything that was made. */
  removeAll(): void {
    const count = this.#made;
    this.#write(0, count, (at, index) => {
      writeNewNeighbor(this.#view, at, {
        sequence: 0,
        ifindex: this.#ifindex,
        family: AF_INET,
        words: [addressOf(index)],
        mac: 0,
        state: 0,
      });
      this.#view.setUint16(at + 4, RTM_DELNEIGH, true);
      this.#view.setUint16(at + 6, NLM_F_REQUEST, true);
    }, true);
    this.#made = 0;
  }

  /** Deletes what is left and lets go; idempotent. */
  async close(): Promise<void> {
    try {
      if (this.#made > 0) this.removeAll();
    } finally {
      await this.#host.close();
    }
  }

  #write(
    first: number,
    count: number,
    write: (at: number, index: number) => void,
    mayBeGone = false,
  ): void {
    const before = cpuUsage();
    this.#refusal = undefined;
    for (let done = 0; done < count;) {
      const part = Math.min(REQUESTS_PER_SEND, count - done);
      for (let i = 0; i < part; i++) write(i * REQUEST_BYTES, first + done + i);
      this.#socket.send(this.#bytes.subarray(0, part * REQUEST_BYTES));
      // Nothing but refusals is answered.
      this.#socket.drain();
      done += part;
    }
    const { user, system } = cpuUsage(before);
    this.cpuMs += (user + system) / 1000;
    const refusal = this.#refusal as KernelAnswer | undefined;
    if (refusal === undefined) return;
    const { errorNumber, message } = refusal;
    const why = message === "" ? NAMES[errorNumber] ?? `error ${errorNumber}` : message;
    if (errorNumber === EPERM || errorNumber === EACCES) throw notPermitted(why);
    // An interface that is gone or down has taken its neighbours along.
    if (mayBeGone) return;
    throw new SystemError(
      "neighsync.bench-neighbors",
      `Cannot make neighbours: ${why}, expected an interface that is up`,
      { syscall: "sendmsg", errno: errorNumber, errnoName: NAMES[errorNumber] ?? "" },
    );
  }

  #answered(view: DataView<ArrayBuffer>, start: number, end: number): void {
    const bytes = new Uint8Array(view.buffer, view.byteOffset);
    parseNetlink(view, start, end, {
      message: (type, at, to) => {
        const answer = type === NLMSG_ERROR ? decodeAnswer(bytes, view, at, to) : 0;
        if (typeof answer === "object" && answer.errorNumber !== 0) this.#refusal ??= answer;
      },
      malformed: () => {},
    });
  }
}

const COLON = 0x3a;
const NAMES: Readonly<Record<number, string>> = {
  1: "EPERM",
  2: "ENOENT",
  13: "EACCES",
  19: "ENODEV",
  95: "EOPNOTSUPP",
  100: "ENETDOWN",
  105: "ENOBUFS",
};

function macOf(index: number, salt: number): number {
  return 0x0200_0000_0000 + salt * 0x1_0000_0000 + index;
}

function notPermitted(why: string): CapabilityError {
  return new CapabilityError(
    "neighsync.bench-not-permitted",
    `Cannot make neighbours: ${why}, expected CAP_NET_ADMIN`,
    {
      capability: "netlink",
      why,
      remedy: "run as root or with CAP_NET_ADMIN, and with --allow-ffi; " +
        "bench redis and bench parse need neither",
    },
  );
}

function cannotWrite(): CapabilityError {
  const why = "the ip program cannot";
  return new CapabilityError(
    "neighsync.bench-driver",
    `Cannot make neighbours fast enough to measure: ${why}, expected native calls`,
    { capability: "netlink", why, remedy: "run with --allow-ffi, and without --driver portable" },
  );
}

/** `<linux/if.h>`: their neighbours have no addresses of their own. */
const IFF_LOOPBACK = 0x8, IFF_POINTOPOINT = 0x10;

/** Reads the kernel's tables once. @returns The interface's index. */
async function find(
  host: NetlinkHost,
  settings: ResolvedNetlinkSettings,
  ifname: string,
  signal: AbortSignal,
): Promise<number> {
  let taken = "";
  let opening: Promise<KernelFeed> | undefined;
  try {
    await new Promise<void>((resolve, reject) => {
      // Read once, for which the system's own buffer is enough.
      const plain = { ...settings, receiveBufferBytes: 0, maxReceiveBufferBytes: 0 };
      opening = KernelFeed.open({ host, settings: plain, signal }, {
        changed: ({ neighbor, link }) => {
          const key = link.prefix + neighbor.ip;
          if (benchIndex(ifname, key) >= 0) taken = key;
        },
        linkChanged: () => {},
        resyncStarted: () => {},
        resyncEnded: () => resolve(),
        turned: () => {},
      });
      opening.catch(reject);
    });
    for (const link of (await opening!).links.links()) {
      if (link.name !== ifname) continue;
      if ((link.flags & (IFF_LOOPBACK | IFF_POINTOPOINT)) !== 0) break;
      if (taken === "") return link.ifindex;
      throw new UsageError(
        `Cannot measure on ${ifname}: it has the neighbour ${taken}, expected none in 198.18.0.0/15`,
        `ip neigh flush dev ${ifname} to 198.18.0.0/15 nud all`,
      );
    }
  } finally {
    await (await opening?.catch(() => undefined))?.close();
  }
  throw new UsageError(
    `Cannot measure on ${JSON.stringify(ifname)}: there is no such interface with neighbours`,
    "ip link add bench0 type veth peer name bench0p; ip link set bench0 up; ip link set bench0p up",
  );
}
