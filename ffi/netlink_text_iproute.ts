/**
 * What the `ip` program prints about neighbours and links, as rows: its JSON, and the text of `ip monitor`, which has no
 * JSON (iproute2 6.1 takes `-json` there and prints text).
 *
 * @module
 */
import { parseIpv4, parseIpv6 } from "./address.ts";

/** One neighbour. */
export interface NeighborRow {
  readonly kind: "neighbor";
  readonly deleted: boolean;
  /** `AF_INET`, `AF_INET6`, or `AF_BRIDGE` for a forwarding entry, which has no address. */
  readonly family: number;
  readonly address: readonly number[];
  /** Name of the interface; empty where the question had named it. */
  readonly device: string;
  readonly lladdr: readonly number[] | undefined;
  /** `NUD_*`. */
  readonly state: number;
  /** `NTF_*`, and those of `NDA_FLAGS_EXT`. */
  readonly flags: number;
  readonly flagsExt: number;
  /** `struct nda_cacheinfo` in seconds: confirmed, used, updated; and the number of references. */
  readonly cache: readonly [number, number, number, number] | undefined;
  readonly probes: number | undefined;
}

/** One link. */
export interface LinkRow {
  readonly kind: "link";
  readonly deleted: boolean;
  /** `AF_UNSPEC`, or `AF_BRIDGE` for what a bridge says about its port. */
  readonly family: number;
  readonly index: number;
  readonly name: string;
  /** `IFF_*`. */
  readonly flags: number;
  /** `ARPHRD_*`. */
  readonly type: number;
  readonly mtu: number | undefined;
  /** Name of what it belongs to. */
  readonly master: string | undefined;
  /** Name of what it is on top of or connected with. */
  readonly lower: string | undefined;
  /** `IF_OPER_*`. */
  readonly operstate: number;
  readonly address: readonly number[] | undefined;
  /** `vrf`, `bridge`, `vlan`. */
  readonly linkKind: string | undefined;
}

/**
 * Reads one line of `ip -oneline -details monitor`, or of `ip neigh get`.
 *
 * @returns `undefined` for a line that is about something else or cannot be understood.
 */
export function parseLine(line: string): NeighborRow | LinkRow | undefined {
  const deleted = line.startsWith("Deleted ");
  const rest = deleted ? line.slice(8) : line;
  const link = /^(\d+): (\S+): <([^>]*)>(.*)$/.exec(rest);
  if (link !== null) return parseLink(deleted, link[1]!, link[2]!, link[3]!, link[4]!);
  return parseNeighbor(deleted, rest.trim().split(/\s+/));
}

/** Reads what `ip -json neigh` printed. @throws {SyntaxError} When it is not JSON. */
export function parseNeighbors(text: string): { rows: NeighborRow[]; unreadable: number } {
  const rows: NeighborRow[] = [];
  let unreadable = 0;
  for (const object of parseArray(text)) {
    const { dst, dev, lladdr, state, used, confirmed, updated, refcnt, probes } = object;
    const address = typeof dst === "string" ? parseAddress(dst) : undefined;
    // A row without an address is an empty object: what a filter of the program left.
    if (address === undefined) {
      if (dst !== undefined) unreadable++;
      continue;
    }
    let flags = 0, flagsExt = 0, bits = 0;
    for (const [word, bit] of FLAGS) if (word in object) flags |= bit;
    for (const [word, bit] of FLAGS_EXT) if (word in object) flagsExt |= bit;
    for (const word of Array.isArray(state) ? state : []) bits |= STATES.get(word) ?? 0;
    rows.push({
      kind: "neighbor",
      deleted: false,
      family: address.length === 4 ? AF_INET : AF_INET6,
      address,
      device: typeof dev === "string" ? dev : "",
      lladdr: typeof lladdr === "string" ? parseHardwareAddress(lladdr) : undefined,
      state: bits,
      flags,
      flagsExt,
      cache: typeof used === "number"
        ? [Number(confirmed) || 0, used, Number(updated) || 0, Number(refcnt) || 0]
        : undefined,
      probes: typeof probes === "number" ? probes : undefined,
    });
  }
  return { rows, unreadable };
}

/** Reads what `ip -json -details link` printed. @throws {SyntaxError} When it is not JSON. */
export function parseLinks(text: string): { rows: LinkRow[]; unreadable: number } {
  const rows: LinkRow[] = [];
  let unreadable = 0;
  for (const object of parseArray(text)) {
    const { ifindex, ifname, flags, link_type: type, mtu, master, link, operstate } = object;
    if (typeof ifindex !== "number" || typeof ifname !== "string") {
      if (Object.keys(object).length > 0) unreadable++;
      continue;
    }
    const { address, linkinfo } = object;
    const { info_kind: kind } = Object(linkinfo) as { info_kind?: unknown };
    rows.push({
      kind: "link",
      deleted: false,
      family: AF_UNSPEC,
      index: ifindex,
      name: ifname,
      flags: interfaceFlags(Array.isArray(flags) ? flags : []),
      type: hardwareType(String(type)),
      mtu: typeof mtu === "number" ? mtu : undefined,
      master: typeof master === "string" ? master : undefined,
      lower: typeof link === "string" ? link : undefined,
      operstate: operationalState(String(operstate)),
      address: typeof address === "string" ? parseHardwareAddress(address) : undefined,
      linkKind: typeof kind === "string" ? kind : undefined,
    });
  }
  return { rows, unreadable };
}

/** The index in a name the program gives to an interface that is gone, `if17`; 0 for any other. */
export function indexInName(name: string): number {
  const found = /^if(\d+)$/.exec(name);
  return found === null ? 0 : Number(found[1]);
}

function parseNeighbor(deleted: boolean, words: readonly string[]): NeighborRow | undefined {
  let at = 0;
  let address: readonly number[] = [];
  let family = AF_BRIDGE;
  if (words[0] !== "dev") {
    const found = parseAddress(words[0] ?? "");
    if (found === undefined) return undefined;
    address = found;
    family = found.length === 4 ? AF_INET : AF_INET6;
    at = 1;
  }
  let device = "", state = 0, flags = 0, flagsExt = 0;
  let lladdr: readonly number[] | undefined;
  for (; at < words.length; at++) {
    const word = words[at]!;
    if (word === "dev") device = words[++at] ?? "";
    else if (word === "lladdr") lladdr = parseHardwareAddress(words[++at] ?? "");
    else if (word === "proto") at++;
    else {
      flags |= FLAGS.get(word) ?? 0;
      flagsExt |= FLAGS_EXT.get(word) ?? 0;
      state |= STATES.get(word) ?? 0;
    }
  }
  if (device === "") return undefined;
  return {
    kind: "neighbor",
    deleted,
    family,
    address,
    device,
    lladdr,
    state,
    flags,
    flagsExt,
    cache: undefined,
    probes: undefined,
  };
}

function parseLink(
  deleted: boolean,
  index: string,
  fullName: string,
  flags: string,
  rest: string,
): LinkRow {
  const [head = "", hardware = "", details = ""] = rest.split("\\").map((part) => part.trim());
  const at = fullName.lastIndexOf("@");
  const lower = at < 0 ? undefined : fullName.slice(at + 1);
  const words = head.split(/\s+/);
  const after = (word: string): string | undefined => {
    const place = words.indexOf(word);
    return place < 0 ? undefined : words[place + 1];
  };
  const [type = "", address = ""] = hardware.split(/\s+/);
  const [kind = ""] = details.split(/\s+/);
  const mtu = Number(after("mtu"));
  return {
    kind: "link",
    deleted,
    // What a bridge tells about a port comes without a queueing discipline and a group; every link has both.
    family: words.includes("qdisc") || words.includes("group") ? AF_UNSPEC : AF_BRIDGE,
    index: Number(index),
    name: at < 0 ? fullName : fullName.slice(0, at),
    flags: interfaceFlags(flags.split(",")),
    type: hardwareType(type.startsWith("link/") ? type.slice(5) : ""),
    mtu: mtu > 0 ? mtu : undefined,
    master: after("master"),
    lower: lower === "NONE" ? undefined : lower,
    operstate: operationalState(after("state") ?? ""),
    address: parseHardwareAddress(address),
    // Without a kind of its own the numbers of its queues come first.
    linkKind: kind === "" || /^(?:addrgenmode|numtxqueues|\w+_slave)$/.test(kind)
      ? undefined
      : kind,
  };
}

function parseArray(text: string): readonly Record<string, unknown>[] {
  // No answer at all is how some versions print an empty one.
  const parsed: unknown = text.trim() === "" ? [] : JSON.parse(text);
  return Array.isArray(parsed)
    ? parsed.filter((entry) => typeof entry === "object" && entry !== null)
    : [];
}

function parseAddress(text: string): readonly number[] | undefined {
  const ipv4 = parseIpv4(text);
  if (ipv4 >= 0) return [ipv4 >>> 24, ipv4 >>> 16 & 255, ipv4 >>> 8 & 255, ipv4 & 255];
  return parseIpv6(text)?.flatMap((group) => [group >> 8, group & 255]);
}

function parseHardwareAddress(text: string): readonly number[] | undefined {
  if (/^[0-9a-f]{2}(?::[0-9a-f]{2})*$/i.test(text)) {
    return text.split(":").map((byte) => parseInt(byte, 16));
  }
  // Tunnels have addresses of the network below.
  return parseAddress(text);
}

function interfaceFlags(words: readonly unknown[]): number {
  let flags = 0;
  for (const word of words) flags |= INTERFACE_FLAGS.get(String(word)) ?? 0;
  // The program tells by its absence.
  if ((flags & IFF_UP) !== 0 && !words.includes("NO-CARRIER")) flags |= IFF_RUNNING;
  return flags;
}

function hardwareType(name: string): number {
  const numbered = /^\[(\d+)\]$/.exec(name);
  return numbered !== null ? Number(numbered[1]) : HARDWARE_TYPES.get(name) ?? ARPHRD_VOID;
}

function operationalState(word: string): number {
  return Math.max(0, OPERATIONAL_STATES.indexOf(word));
}

/** `<linux/socket.h>`. */
export const AF_UNSPEC = 0;
export const AF_INET = 2;
export const AF_BRIDGE = 7;
export const AF_INET6 = 10;

// <linux/neighbour.h>
const STATES: ReadonlyMap<unknown, number> = new Map([
  ["INCOMPLETE", 0x01],
  ["REACHABLE", 0x02],
  ["STALE", 0x04],
  ["DELAY", 0x08],
  ["PROBE", 0x10],
  ["FAILED", 0x20],
  ["NOARP", 0x40],
  ["PERMANENT", 0x80],
]);
const FLAGS: ReadonlyMap<string, number> = new Map([
  ["proxy", 0x08],
  ["extern_learn", 0x10],
  ["offload", 0x20],
  ["sticky", 0x40],
  ["router", 0x80],
]);
const FLAGS_EXT: ReadonlyMap<string, number> = new Map([
  ["managed", 0x1],
  ["locked", 0x2],
  ["extern_valid", 0x4],
]);

// <linux/if.h>
const IFF_UP = 0x1;
const IFF_RUNNING = 0x40;
const INTERFACE_FLAGS: ReadonlyMap<string, number> = new Map([
  ["UP", IFF_UP],
  ["BROADCAST", 0x2],
  ["DEBUG", 0x4],
  ["LOOPBACK", 0x8],
  ["POINTOPOINT", 0x10],
  ["NOTRAILERS", 0x20],
  ["NOARP", 0x80],
  ["PROMISC", 0x100],
  ["ALLMULTI", 0x200],
  ["MASTER", 0x400],
  ["SLAVE", 0x800],
  ["MULTICAST", 0x1000],
  ["PORTSEL", 0x2000],
  ["AUTOMEDIA", 0x4000],
  ["DYNAMIC", 0x8000],
  ["LOWER_UP", 0x10000],
  ["DORMANT", 0x20000],
  ["ECHO", 0x40000],
]);
const OPERATIONAL_STATES: readonly string[] = [
  "UNKNOWN",
  "NOTPRESENT",
  "DOWN",
  "LOWERLAYERDOWN",
  "TESTING",
  "DORMANT",
  "UP",
];

// <linux/if_arp.h>, as far as neighbours are found there.
const ARPHRD_VOID = 0xffff;
const HARDWARE_TYPES: ReadonlyMap<string, number> = new Map([
  ["ether", 1],
  ["infiniband", 32],
  ["ppp", 512],
  ["ipip", 768],
  ["tunnel6", 769],
  ["loopback", 772],
  ["sit", 776],
  ["gre", 778],
  ["gre6", 823],
  ["none", 0xfffe],
]);
