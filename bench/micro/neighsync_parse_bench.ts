/**
 * What a row of a dump and an event cost in TypeScript, from bytes to the view and to the key that is published. What is
 * printed is the time of one pass over 1,000 rows: divide a second by it and multiply by a thousand for rows a second.
 *
 * `deno bench -A --no-check bench/micro/neighsync_parse_bench.ts`
 *
 * @module
 */
import {
  AF_INET,
  AF_INET6,
  formatMac,
  type NeighborChange,
  NeighborView,
  NeighFilter,
  parseNetlink,
  readNeighbor,
  ResyncMachine,
  writeNewNeighbor,
} from "@fastwire/net/neighsync/protocol";

const ROWS = 1_000;

/** Rows as the kernel writes them: address, MAC, probes, ages; 32 KiB a datagram is 400 rows, here they are in one. */
function rows(mac: number): { readonly view: DataView<ArrayBuffer>; readonly end: number } {
  const bytes = new Uint8Array(ROWS * 104);
  const view = new DataView(bytes.buffer);
  let end = 0;
  for (let i = 0; i < ROWS; i++) {
    const v6 = i % 4 === 0;
    const start = end;
    end = writeNewNeighbor(view, start, {
      sequence: 0,
      ifindex: 4,
      family: v6 ? AF_INET6 : AF_INET,
      words: v6 ? [0x2001_0db8, 0x5_0000, 0, i] : [0x0a00_0000 + i, 0, 0, 0],
      mac: mac + i,
      state: 2,
    });
    view.setUint16(end, 8, true);
    view.setUint16(end + 2, 4, true);
    view.setUint16(end + 8, 20, true);
    view.setUint16(end + 10, 3, true);
    end += 28;
    view.setUint32(start, end - start, true);
  }
  return { view, end };
}

/** NEWLINK of "Ethernet0", index 4. */
function link(): DataView<ArrayBuffer> {
  const bytes = new Uint8Array(48);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, 48, true);
  view.setUint16(4, 16, true);
  view.setInt32(20, 4, true);
  view.setUint16(32, 14, true);
  view.setUint16(34, 3, true);
  bytes.set(new TextEncoder().encode("Ethernet0"), 36);
  return view;
}

const { view, end } = rows(0x0200_0000_0000);
const other = rows(0x0400_0000_0000);

const neighbor = new NeighborView();
let bad = 0;
const reader = {
  message: (_: number, from: number, to: number): void => {
    bad += readNeighbor(view, from, to, neighbor);
  },
  malformed: (): void => void bad++,
};

let characters = 0;
const filter = new NeighFilter({ dualTor: false, evpn: false, linkLocalEnabled: () => false });
const actions = {
  query: (): void => {},
  changed: (change: NeighborChange): void => {
    const { neighbor, link } = change;
    if (filter.decide(neighbor, link.name, change.masterName).op !== "set") return;
    characters += (link.prefix + neighbor.ip).length + formatMac(neighbor.mac).length;
  },
  linkChanged: (): void => {},
  resyncStarted: (): void => {},
  resyncEnded: (): void => {},
  growReceiveBuffer: (): void => {},
  refused: (): void => {},
};
const machine = new ResyncMachine({ seed: 1, receiveBufferBytes: 1 << 20 });
machine.receiveEvents(link(), 0, 48, 0, actions);

Deno.bench("1,000 rows read by position", () => {
  parseNetlink(view, 0, end, reader);
  if (bad !== 0) throw new Error("a row was refused");
});

Deno.bench("1,000 events that change nothing, into the view", () => {
  machine.receiveEvents(view, 0, end, 0, actions);
});

Deno.bench("2,000 events with another MAC, filtered, with key and MAC as text", () => {
  const before = characters;
  machine.receiveEvents(other.view, 0, other.end, 0, actions);
  machine.receiveEvents(view, 0, end, 0, actions);
  if (characters === before) throw new Error("nothing was published");
});
