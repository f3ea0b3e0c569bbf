/**
 * A neighbor as a plain object, for programs that want objects.
 *
 * @module
 */

import { formatMac } from "./protocol/address.ts";
import { AF_INET } from "./protocol/constants.ts";
import { type NeighborView, nudName } from "./protocol/neighbor.ts";

/** What the kernel thinks of a neighbor; two at once, which today's kernels never say, are joined by `|`. */
export type NudState =
  | "none"
  | "incomplete"
  | "reachable"
  | "stale"
  | "delay"
  | "probe"
  | "failed"
  | "noarp"
  | "permanent"
  | (string & Record<never, never>);

/** One neighbor, as it was when the object was made. */
export interface Neighbor {
  /** Index of its interface. */
  readonly ifindex: number;
  /** Name of its interface. */
  readonly ifname: string;
  /** 4 or 6. */
  readonly family: 4 | 6;
  /** Its address, as the C library writes it. */
  readonly ip: string;
  /** Lower-case pairs with colons; null while unresolved, and for link-layer addresses that are not 6 bytes. */
  readonly mac: string | null;
  /** What the kernel thinks of it. */
  readonly state: NudState;
  /** `NTF_…` flags: 0x08 proxy, 0x10 learned from outside, 0x80 router. */
  readonly flags: number;
  /** Further flags, `NTF_EXT_…`. */
  readonly flagsExt: number;
  /** Name of the interface's master, when it has one. */
  readonly master?: string;
  /** VLAN identifier, when the kernel gave one. */
  readonly vlan?: number;
  /** Probes sent, when the kernel gave them. */
  readonly probes?: number;
  /** Age of the last confirmation, milliseconds, when the kernel gave it. */
  readonly confirmedMs?: number;
  /** Age of the last use, milliseconds, when the kernel gave it. */
  readonly usedMs?: number;
  /** Age of the last change, milliseconds, when the kernel gave it. */
  readonly updatedMs?: number;
}

/** Makes an object of a neighbor in hand. */
export function neighborOf(
  view: NeighborView,
  ifname: string,
  masterName: string | undefined,
): Neighbor {
  return {
    ifindex: view.ifindex,
    ifname,
    family: view.family === AF_INET ? 4 : 6,
    ip: view.ip,
    mac: view.mac >= 0 ? formatMac(view.mac) : null,
    state: nudName(view.state),
    flags: view.flags,
    flagsExt: view.flagsExt,
    ...(masterName === undefined ? {} : { master: masterName }),
    ...(view.vlan < 0 ? {} : { vlan: view.vlan }),
    ...(view.probes < 0 ? {} : { probes: view.probes }),
    ...(view.confirmedMs < 0 ? {} : { confirmedMs: view.confirmedMs }),
    ...(view.usedMs < 0 ? {} : { usedMs: view.usedMs }),
    ...(view.updatedMs < 0 ? {} : { updatedMs: view.updatedMs }),
  };
}
