import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { readQuestions } from "./netlink_questions_iproute.ts";
import {
  indexInName,
  type LinkRow,
  type NeighborRow,
  parseLine,
  parseLinks,
  parseNeighbors,
} from "./netlink_text_iproute.ts";
import { EVENT, MessageWriter } from "./netlink_writer_iproute.ts";

const MAC = [2, 0, 0, 0, 0, 3];

/** Lines of `ip -oneline -details monitor neigh link`, iproute2 6.1 on Linux 6.18. */
const NEIGHBORS: readonly (readonly [line: string, expected: Partial<NeighborRow>])[] = [
  [
    "192.0.2.2 dev d0 lladdr 02:00:00:00:00:03 REACHABLE ",
    { deleted: false, family: 2, address: [192, 0, 2, 2], device: "d0", lladdr: MAC, state: 2 },
  ],
  [
    "192.0.2.7 dev d0 lladdr 02:00:00:00:00:03 extern_learn PERMANENT ",
    { flags: 0x10, state: 0x80 },
  ],
  [
    "2001:db8::7 dev d0 lladdr 02:00:00:00:00:03 router PERMANENT ",
    { family: 10, address: [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7], flags: 0x80 },
  ],
  ["192.0.2.2 dev d0 FAILED ", { lladdr: undefined, state: 0x20 }],
  ["Deleted 192.0.2.6 dev d0 ", { deleted: true, state: 0 }],
  ["192.0.2.9 dev d0 managed INCOMPLETE proto static ", { flagsExt: 1, state: 1 }],
  // What a bridge has learned has no address.
  ["dev d0 lladdr 02:00:00:00:00:03 PERMANENT ", { family: 7, address: [], lladdr: MAC }],
  ["Deleted dev br0 lladdr 02:00:00:00:00:03 PERMANENT ", { family: 7, deleted: true }],
  ["10.0.0.1 dev gre1 lladdr 198.51.100.1 NOARP ", { lladdr: [198, 51, 100, 1], state: 0x40 }],
];

const LINKS: readonly (readonly [line: string, expected: Partial<LinkRow>])[] = [
  [
    "3: d0@d1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 qdisc noqueue master br0 state UP group default \\" +
    "    link/ether 02:00:00:00:00:03 brd ff:ff:ff:ff:ff:ff promiscuity 0  allmulti 1 minmtu 68 \\" +
    "    veth \\    bridge_slave state disabled priority 32 ",
    {
      deleted: false,
      family: 0,
      index: 3,
      name: "d0",
      lower: "d1",
      flags: 0x11043,
      type: 1,
      mtu: 1500,
      master: "br0",
      operstate: 6,
      address: MAC,
      linkKind: "veth",
    },
  ],
  // A bridge about its port: the link itself is still there.
  [
    "Deleted 3: d0@d1: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 1500 master br0 state UP \\    link/ether 02:00:00:00:00:03",
    { family: 7, deleted: true, index: 3 },
  ],
  [
    "Deleted 3: d0@NONE: <BROADCAST,MULTICAST> mtu 1500 qdisc noop state DOWN group default \\    link/ether 02:00:00:00:00:03 brd ff:ff:ff:ff:ff:ff",
    { family: 0, deleted: true, lower: undefined, flags: 0x1002, operstate: 2 },
  ],
  [
    "2: d1@d0: <NO-CARRIER,BROADCAST,MULTICAST,UP,M-DOWN> mtu 1500 qdisc noqueue state LOWERLAYERDOWN group default \\    link/ether 02:00:00:00:00:03",
    { flags: 0x1003, operstate: 3 },
  ],
  [
    "1: lo: <LOOPBACK,UP,LOWER_UP> mtu 65536 qdisc noqueue state UNKNOWN group default \\    link/loopback 00:00:00:00:00:00 brd 00:00:00:00:00:00 promiscuity 0 numtxqueues 1",
    { name: "lo", lower: undefined, type: 772, flags: 0x10049, operstate: 0, linkKind: undefined },
  ],
  [
    "9: tun0: <POINTOPOINT,NOARP> mtu 1500 qdisc noop state DOWN group default \\    link/[65534] ",
    { type: 65534, address: undefined },
  ],
];

for (const [line, expected] of [...NEIGHBORS, ...LINKS]) {
  Deno.test(`parseLine() reads ${line.slice(0, 60)}`, () => {
    const row = parseLine(line)!;
    deepEqual({ ...row, ...expected }, { ...row });
  });
}

Deno.test("parseLine() leaves what is something else", () => {
  for (
    const line of [
      "",
      "Deleted",
      "nsid 0",
      "192.0.2.1 lladdr 02:00:00:00:00:03",
      "999.0.2.1 dev d0 STALE",
      "Unknown message: type=0x00000050(80)",
      "inet 192.0.2.1/24",
    ]
  ) {
    equal(parseLine(line), undefined, line);
  }
});

Deno.test("parseNeighbors() reads rows, and counts those it cannot", () => {
  const { rows, unreadable } = parseNeighbors(
    `[{"dst":"192.0.2.7","dev":"d0","lladdr":"02:00:00:00:00:03","extern_learn":null,"refcnt":1,"used":3,` +
      `"confirmed":4,"updated":5,"probes":6,"state":["DELAY"]},{"dst":"fd00::1","state":["FAILED"]},{},` +
      `{"dst":"a name","dev":"d0","state":[]}]`,
  );
  equal(unreadable, 1);
  equal(rows.length, 2);
  deepEqual(rows[0]!.cache, [4, 3, 5, 1]);
  deepEqual([rows[0]!.flags, rows[0]!.probes, rows[0]!.state], [0x10, 6, 8]);
  deepEqual([rows[1]!.device, rows[1]!.state, rows[1]!.cache], ["", 0x20, undefined]);
  deepEqual(parseNeighbors(""), { rows: [], unreadable: 0 });
  deepEqual(parseNeighbors("{}"), { rows: [], unreadable: 0 });
  throws(() => parseNeighbors("[{"), SyntaxError);
});

Deno.test("parseLinks() reads rows, and counts those it cannot", () => {
  const { rows, unreadable } = parseLinks(
    `[{"ifindex":4,"link":"d1","ifname":"d0.5","flags":["UP","NO-CARRIER"],"mtu":1400,"master":"vrf1",` +
      `"operstate":"DOWN","link_type":"ether","address":"02:00:00:00:00:03",` +
      `"linkinfo":{"info_kind":"vlan","info_data":{}}},{},{"ifname":"x"}]`,
  );
  equal(unreadable, 1);
  const [{ name, index, flags, master, lower, linkKind, mtu, operstate }] = rows as [LinkRow];
  deepEqual([name, index, flags, master, lower], ["d0.5", 4, 0x1, "vrf1", "d1"]);
  deepEqual([linkKind, mtu, operstate], ["vlan", 1400, 2]);
});

Deno.test("indexInName() knows the names of interfaces that are gone, and no other", () => {
  deepEqual(["if17", "ifb0", "if", "eth17"].map(indexInName), [17, 0, 0, 0]);
});

Deno.test("MessageWriter writes a neighbour as the kernel does", () => {
  const got: string[] = [];
  const writer = new MessageWriter((view, start, end) =>
    got.push(new Uint8Array(view.buffer, start, end - start).toHex())
  );
  const row = parseLine("192.0.2.3 dev d0 lladdr 02:00:00:00:00:03 NOARP") as NeighborRow;
  writer.neighbor(row, 4, EVENT);
  writer.flush();
  writer.flush();
  // The kernel's NEWNEIGH of 192.0.2.3 (V6 of the specification) up to its counters, which the text does not have.
  deepEqual(got, [
    "300000001c0000000000000000000000" + // length 48, RTM_NEWNEIGH
    "020000000400000040000001" + // AF_INET, interface 4, NOARP, RTN_UNICAST
    "08000100c0000203" + // NDA_DST
    "0a0002000200000000030000", // NDA_LLADDR
  ]);
});

Deno.test("MessageWriter hands over a datagram before it is full, and cuts no message", () => {
  let messages = 0, datagrams = 0;
  const writer = new MessageWriter((view, start, end) => {
    datagrams++;
    ok(end - start <= 32 * 1024);
    let at = start;
    for (; at < end; at += (view.getUint32(at, true) + 3) & ~3) messages++;
    equal(at, end);
  });
  const row = parseLine(LINKS[0]![0]) as LinkRow;
  for (let i = 0; i < 1000; i++) writer.link(row, 7, 2, EVENT);
  writer.flush();
  equal(messages, 1000);
  ok(datagrams > 1);
});

Deno.test("readQuestions() survives any bytes", () => {
  const seed = crypto.getRandomValues(new Uint32Array(1))[0]!;
  let state = seed;
  const random = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) >>> 16;
  for (let round = 0; round < 2000; round++) {
    const view = new DataView(new ArrayBuffer(random() % 96));
    for (let i = 0; i < view.byteLength; i++) view.setUint8(i, random());
    if (view.byteLength >= 16) {
      view.setUint32(0, random() % 100, true);
      view.setUint16(4, [18, 30][random() % 2]!, true);
      view.setUint16(6, random() | 1, true);
    }
    ok(readQuestions(view).every(({ at }) => at < view.byteLength), `seed ${seed}`);
  }
});
