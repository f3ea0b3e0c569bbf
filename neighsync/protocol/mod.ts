/**
 * The kernel's neighbor tables as values: netlink codecs, the rules of what is published, and the machines that keep a
 * view true, take over after a restart and write in order. Nothing here opens, waits or reads a clock; bring your own
 * sockets.
 *
 * Three parts follow each other. {@linkcode ResyncMachine} turns datagrams into changes of a view that equals the
 * kernel's tables whatever is lost. {@linkcode NeighFilter} says of each change whether it is published.
 * {@linkcode Coalescer} keeps what is to be written, in order, until somebody has acknowledged it.
 *
 * ```ts
 * import { NeighborView, parseNetlink, readNeighbor, writeNewNeighbor } from "@fastwire/net/neighsync/protocol";
 * import { equal } from "node:assert/strict";
 *
 * const view = new DataView(new ArrayBuffer(128));
 * const words = [0xc000_0232, 0, 0, 0];
 * const mac = 0x0200_0000_0032;
 * const end = writeNewNeighbor(view, 0, { sequence: 7, ifindex: 4, family: 2, words, mac, state: 0x80 });
 * const neighbor = new NeighborView();
 * parseNetlink(view, 0, end, {
 *   message: (_type, from, to) => void readNeighbor(view, from, to, neighbor),
 *   malformed: () => {},
 * });
 * equal(neighbor.ip, "192.0.2.50");
 * equal(neighbor.mac, mac);
 * ```
 *
 * @module
 */

export * from "./address.ts";
export * from "./coalesce.ts";
export * from "./constants.ts";
export * from "./filter.ts";
export * from "./kernel_filter.ts";
export { decodeLink } from "./link.ts";
export type { LinkMessage } from "./link.ts";
export { LinkCache } from "./link_cache.ts";
export type { Link } from "./link_cache.ts";
export { decodeNeighbor, NeighborView, nudName, readNeighbor } from "./neighbor.ts";
export type { DecodedNeighbor } from "./neighbor.ts";
export * from "./neighbor_table.ts";
export {
  decodeAnswer,
  parseNetlink,
  readErrorNumber,
  readFlags,
  readMessageEnd,
  readPort,
  readSequence,
  readType,
  REJECT_BAD_ADDRESS,
  REJECT_BAD_ATTRIBUTE,
  REJECT_BAD_LENGTH,
  REJECT_FAMILY,
  REJECT_NAMES,
  REJECT_NO_NAME,
  REJECT_NO_ROOM,
  REJECT_SHORT_BODY,
  REJECT_SHORT_HEADER,
  writeLinkDump,
  writeLinkGet,
  writeNeighborDump,
  writeNeighborGet,
  writeNewNeighbor,
} from "./netlink.ts";
export type { KernelAnswer, NeighborDumpRequest, NeighborWrite, NetlinkSink } from "./netlink.ts";
export * from "./reconcile.ts";
export * from "./resync_actions.ts";
export * from "./resync_machine.ts";
export * from "./warm_restart.ts";
