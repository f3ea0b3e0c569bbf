/**
 * What reading costs without a kernel: a dump that was made in memory, through the codec, the view and the filter.
 *
 * @module
 */

import { cpuUsage } from "node:process";
import type { BenchReport } from "./bench_report.ts";
import { formatMac } from "./protocol/address.ts";
import { AF_INET, AF_INET6, NUD_REACHABLE } from "./protocol/constants.ts";
import { NeighFilter } from "./protocol/filter.ts";
import { NeighborView, readNeighbor } from "./protocol/neighbor.ts";
import { parseNetlink, writeNewNeighbor } from "./protocol/netlink.ts";
import type { ResyncActions } from "./protocol/resync_actions.ts";
import { ResyncMachine } from "./protocol/resync_machine.ts";

/** Each part is measured for so long. */
const MEASURED_MS = 500;
/** One in so many is IPv6. */
const IPV6_SHARE = 4;
const IFINDEX = 4, IFNAME = "Ethernet0";
/** Attributes of a row that the request to make one does not have: probes and ages. */
const ROW_TAIL_BYTES = 28;

interface Dump {
  readonly view: DataView<ArrayBuffer>;
  readonly end: number;
}

/**
 * Measures.
 *
 * @param rows Rows of the dump.
 */
export async function benchParse(rows: number, signal: AbortSignal): Promise<BenchReport> {
  const dumps = [dump(rows, 0), dump(rows, 1)] as const;
  const read = reader(dumps[0]);
  const follow = follower(dumps);
  const byPosition = await rate(rows, read, signal);
  const published = await rate(rows, follow, signal);
  return {
    mode: "parse",
    synthetic: true,
    touched: [],
    subject: { rows, bytes: dumps[0].end },
    figures: [
      {
        name: "rowsPerSecond",
        label: "rows of a dump, read by position",
        value: byPosition.perSecond,
        unit: "/s",
      },
      {
        name: "changesPerSecond",
        label: "changed rows, through view and filter to key and MAC as text",
        value: published.perSecond,
        unit: "/s",
      },
      {
        name: "cpuMsPer1000",
        label: "processor time of 1,000 changed rows",
        value: published.cpuMsPer1000,
        unit: "ms",
      },
    ],
    verified: 0,
    baseline: "",
  };
}

/** Repeats a pass for a while. @param pass Answers how many rows it has seen. */
async function rate(
  rows: number,
  pass: () => number,
  signal: AbortSignal,
): Promise<{ readonly perSecond: number; readonly cpuMsPer1000: number }> {
  // What runs for the first time is not compiled yet.
  for (let i = 0; i < 3; i++) check(pass(), rows);
  const before = cpuUsage();
  const startedAt = performance.now();
  let passes = 0, elapsedMs = 0;
  do {
    check(pass(), rows);
    passes++;
    elapsedMs = performance.now() - startedAt;
    // A signal is heard between turns only.
    if (passes % 16 === 0) await new Promise((resolve) => setTimeout(resolve, 0));
    signal.throwIfAborted();
  } while (elapsedMs < MEASURED_MS);
  const { user, system } = cpuUsage(before);
  const count = passes * rows;
  return { perSecond: 1000 * count / elapsedMs, cpuMsPer1000: (user + system) / count };
}

function check(seen: number, rows: number): void {
  if (seen === rows) return;
  throw new RangeError(`Cannot measure: ${seen} rows were read, expected ${rows}`);
}

function reader({ view, end }: Dump): () => number {
  const neighbor = new NeighborView();
  let seen = 0;
  const sink = {
    message: (_type: number, from: number, to: number): void => {
      if (readNeighbor(view, from, to, neighbor) === 0) seen++;
    },
    malformed: (): void => {},
  };
  return () => {
    seen = 0;
    parseNetlink(view, 0, end, sink);
    return seen;
  };
}

/** Two dumps in turn, so that every row is a change. */
function follower(dumps: readonly [Dump, Dump]): () => number {
  const filter = new NeighFilter({ dualTor: false, evpn: false, linkLocalEnabled: () => false });
  const machine = new ResyncMachine({ seed: 1, receiveBufferBytes: 1 << 20 });
  let seen = 0, turn = 0;
  const actions: ResyncActions = {
    query: () => {},
    changed: ({ neighbor, link, masterName }) => {
      if (filter.decide(neighbor, link.name, masterName).op !== "set") return;
      if (`${link.prefix}${neighbor.ip} ${formatMac(neighbor.mac)}`.length > 0) seen++;
    },
    linkChanged: () => {},
    resyncStarted: () => {},
    resyncEnded: () => {},
    growReceiveBuffer: () => {},
    refused: () => {},
  };
  machine.receiveEvents(link(), 0, LINK_BYTES, 0, actions);
  return () => {
    const { view, end } = dumps[turn++ & 1]!;
    seen = 0;
    machine.receiveEvents(view, 0, end, 0, actions);
    return seen;
  };
}

/** Rows as the kernel writes them. */
function dump(rows: number, salt: number): Dump {
  const view = new DataView(new ArrayBuffer(rows * 104));
  let end = 0;
  for (let i = 0; i < rows; i++) {
    const start = end;
    const isIpv6 = i % IPV6_SHARE === 0;
    end = writeNewNeighbor(view, start, {
      sequence: 0,
      ifindex: IFINDEX,
      family: isIpv6 ? AF_INET6 : AF_INET,
      words: isIpv6 ? [0x2001_0db8, 0, 0, i] : [0xc612_0000 + i],
      mac: 0x0200_0000_0000 + salt * 0x1_0000_0000 + i,
      state: NUD_REACHABLE,
    });
    // NDA_PROBES and NDA_CACHEINFO, with nothing in them.
    view.setUint16(end, 8, true);
    view.setUint16(end + 2, 4, true);
    view.setUint16(end + 8, 20, true);
    view.setUint16(end + 10, 3, true);
    end += ROW_TAIL_BYTES;
    view.setUint32(start, end - start, true);
  }
  return { view, end };
}

const LINK_BYTES = 48;

/** NEWLINK of the interface the rows are of. */
function link(): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(LINK_BYTES));
  view.setUint32(0, LINK_BYTES, true);
  view.setUint16(4, 16, true);
  view.setInt32(20, IFINDEX, true);
  // IFLA_IFNAME.
  view.setUint16(32, 4 + IFNAME.length + 1, true);
  view.setUint16(34, 3, true);
  new Uint8Array(view.buffer).set(new TextEncoder().encode(IFNAME), 36);
  return view;
}
