/**
 * A classic BPF program for the event socket: the kernel drops what nobody would look at before it is charged to the
 * receive buffer.
 *
 * Kept are link messages, neighbor messages of IPv4 and IPv6, and netlink's own. Dropped are NEWNEIGH in state PROBE,
 * which never carries another MAC, bridge forwarding entries, and requests for resolution. STALE is kept: a gratuitous
 * ARP changes the MAC and lands there. Never for a socket that dumps: a filter judges a datagram by its first message.
 *
 * @module
 */

import {
  AF_INET,
  AF_INET6,
  NUD_PROBE,
  RTM_DELLINK,
  RTM_DELNEIGH,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
} from "./constants.ts";

// linux/bpf_common.h: class, size, mode and operation are or-ed together.
const LOAD_HALF = 0x28, LOAD_BYTE = 0x30, JUMP_EQUAL = 0x15, JUMP_GREATER_OR_EQUAL = 0x35;
const RETURN = 0x06;
const KEEP = 0xffff_ffff, DROP = 0;

/**
 * Makes the program, as an array of `struct sock_filter`: code u16, jt u8, jf u8, k u32. For little-endian hosts: a
 * half-word is loaded as big-endian, so what it is compared with is swapped.
 */
export function neighborEventFilter(): Uint8Array<ArrayBuffer> {
  // Jumps count the instructions that are left out, from the next one on.
  const program: readonly (readonly [code: number, jt: number, jf: number, k: number])[] = [
    /* 0 */ [LOAD_HALF, 0, 0, 4],
    /* 1 */ [JUMP_EQUAL, 4, 0, swapped(RTM_NEWNEIGH)],
    /* 2 */ [JUMP_EQUAL, 5, 0, swapped(RTM_DELNEIGH)],
    /* 3 */ [JUMP_EQUAL, 7, 0, swapped(RTM_NEWLINK)],
    /* 4 */ [JUMP_EQUAL, 6, 0, swapped(RTM_DELLINK)],
    // Types below 16 are netlink's own; swapped, they are the ones below 0x1000.
    /* 5 */ [JUMP_GREATER_OR_EQUAL, 6, 5, swapped(RTM_NEWLINK)],
    /* 6 */ [LOAD_HALF, 0, 0, 24],
    /* 7 */ [JUMP_EQUAL, 4, 0, swapped(NUD_PROBE)],
    /* 8 */ [LOAD_BYTE, 0, 0, 16],
    /* 9 */ [JUMP_EQUAL, 1, 0, AF_INET],
    /* 10 */ [JUMP_EQUAL, 0, 1, AF_INET6],
    /* 11 */ [RETURN, 0, 0, KEEP],
    /* 12 */ [RETURN, 0, 0, DROP],
  ];
  const bytes = new Uint8Array(8 * program.length);
  const view = new DataView(bytes.buffer);
  program.forEach(([code, jt, jf, k], index) => {
    view.setUint16(8 * index, code, true);
    view.setUint8(8 * index + 2, jt);
    view.setUint8(8 * index + 3, jf);
    view.setUint32(8 * index + 4, k, true);
  });
  return bytes;
}

function swapped(half: number): number {
  return (half & 0xff) << 8 | half >> 8;
}
