import { deepEqual, equal, ok, throws } from "node:assert/strict";
import { seededRandom } from "../../internal/random.ts";
import { HostilePackets } from "../../internal/testing/hostile.ts";
import { bytesOfHex, forVectors, hexOf, type VectorFile } from "../../internal/testing/vectors.ts";
import ipv6Text from "../testdata/ipv6_text.json" with { type: "json" };
import captures from "../testdata/netlink.json" with { type: "json" };
import {
  formatAddress,
  formatIpv4,
  formatIpv6,
  formatMac,
  MAC_ABSENT,
  MAC_FOREIGN,
  parseAddress,
  parseMac,
} from "./address.ts";
import {
  AF_INET,
  AF_INET6,
  NLM_F_ACK,
  NLM_F_CREATE,
  NLM_F_REPLACE,
  NLMSG_DONE,
  NLMSG_ERROR,
  NUD_PERMANENT,
  RTM_DELNEIGH,
  RTM_GETNEIGH,
  RTM_NEWLINK,
  RTM_NEWNEIGH,
} from "./constants.ts";
import { decodeLink } from "./link.ts";
import { decodeNeighbor, NeighborView, nudName, readNeighbor } from "./neighbor.ts";
import { NeighborTable } from "./neighbor_table.ts";
import {
  decodeAnswer,
  parseNetlink,
  readErrorNumber,
  readFlags,
  readPort,
  readSequence,
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

interface Meaning {
  readonly type: number;
  readonly messageFlags: number;
  readonly sequence: number;
  readonly port: number;
  readonly neighbor?: {
    readonly family: number;
    readonly ifindex: number;
    readonly state: number;
    readonly flags: number;
    readonly routeType: number;
    readonly ip?: string;
    readonly mac?: string;
    readonly agesMs?: readonly number[];
    readonly probes?: number;
    readonly flagsExt?: number;
    readonly dumpIfindex?: number;
  };
  readonly answer?: {
    readonly errorNumber: number;
    readonly requestType: number;
    readonly message: string;
  };
}

// A JSON module's tuples are arrays to the compiler.
const file = captures as unknown as VectorFile<readonly Meaning[]>;

function viewOf(bytes: Uint8Array<ArrayBuffer>): DataView<ArrayBuffer> {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function decode(bytes: Uint8Array<ArrayBuffer>): Meaning[] {
  const view = viewOf(bytes);
  const messages: Meaning[] = [];
  const neighbor = new NeighborView();
  parseNetlink(view, 0, bytes.length, {
    malformed: (reason) => {
      throw new Error(REJECT_NAMES[-reason]);
    },
    message: (type, start, end) => {
      const head = {
        type,
        messageFlags: readFlags(view, start),
        sequence: readSequence(view, start),
        port: readPort(view, start),
      };
      if (type === NLMSG_ERROR || type === NLMSG_DONE) {
        const answer = decodeAnswer(bytes, view, start, end);
        if (typeof answer === "number") throw new Error(REJECT_NAMES[-answer]);
        equal(answer.sequence, head.sequence);
        equal(answer.offset, -1);
        const { errorNumber, requestType, message } = answer;
        messages.push({ ...head, answer: { errorNumber, requestType, message } });
        return;
      }
      const reason = readNeighbor(view, start, end, neighbor);
      if (type === RTM_GETNEIGH && reason < 0) {
        messages.push(head);
        return;
      }
      equal(reason, 0);
      equal(neighbor.messageType, type);
      const { family, ifindex, state, flags, routeType, ip, probes, flagsExt } = neighbor;
      const ages = [neighbor.confirmedMs, neighbor.usedMs, neighbor.updatedMs];
      messages.push({
        ...head,
        neighbor: {
          family,
          ifindex,
          state,
          flags,
          routeType,
          ip,
          ...(neighbor.mac < 0 ? {} : { mac: formatMac(neighbor.mac) }),
          ...(probes < 0 ? {} : { probes }),
          ...(ages[0]! < 0 ? {} : { agesMs: ages }),
          ...(flagsExt === 0 ? {} : { flagsExt }),
        },
      });
    },
  });
  return messages;
}

Deno.test("the codec reads every capture", () => {
  forVectors(file, (vector, bytes) => {
    const expected = vector.decoded!.map((meaning) => {
      // A dump request has no address, so it is no neighbor.
      if (meaning.neighbor === undefined || meaning.neighbor.ip !== undefined) return meaning;
      const { type, messageFlags, sequence, port } = meaning;
      return { type, messageFlags, sequence, port };
    });
    deepEqual(decode(bytes), expected);
  });
});

Deno.test("the codec writes the captured requests byte for byte", () => {
  const hex = (name: string): string =>
    hexOf(bytesOfHex(file.cases.find((vector) => vector.name.startsWith(name))!.hex));
  const bytes = new Uint8Array(256);
  const view = viewOf(bytes);
  const written = (end: number): string => hexOf(bytes.subarray(0, end));
  equal(written(writeNeighborDump(view, 0, { sequence: 10 })), hex("V15a"));
  const filtered = { sequence: 11, family: AF_INET, ifindex: 4 };
  equal(written(writeNeighborDump(view, 0, filtered)), hex("V15b"));
  equal(written(writeNeighborGet(view, 0, 12, 4, AF_INET, 0xc000_0232, 0, 0, 0)), hex("V15c"));
  const neighbor = {
    sequence: 7,
    acknowledge: true,
    flags: NLM_F_REPLACE | NLM_F_CREATE,
    ifindex: 4,
    family: AF_INET,
    words: [0xc000_0232, 0, 0, 0],
    mac: 0x0200_0000_0032,
    state: NUD_PERMANENT,
  };
  const end = writeNewNeighbor(view, 0, neighbor);
  // Ours tells the length with the padding, as the next message follows in the same buffer.
  equal(written(end), hex("V11a"));
  equal(NLM_F_ACK & readFlags(view, 0), NLM_F_ACK);
});

Deno.test("writeNewNeighbor() puts many messages into one buffer, which read back as they were", () => {
  const view = new DataView(new ArrayBuffer(200));
  let end = 0, count = 0;
  for (;; count++) {
    const words = count % 2 === 0
      ? [0x0a00_0000 + count, 0, 0, 0]
      : [0x2001_0db8, 1, 2, 0xffff_0000 + count];
    const family = count % 2 === 0 ? AF_INET : AF_INET6;
    const mac = 0xfedc_ba98_7600 + count;
    const next = writeNewNeighbor(view, end, {
      sequence: count,
      ifindex: 9,
      family,
      words,
      mac,
      state: 4,
    });
    if (next < 0) {
      equal(next, REJECT_NO_ROOM);
      break;
    }
    end = next;
  }
  equal(count, 3);
  const neighbor = new NeighborView();
  const read: string[] = [];
  parseNetlink(view, 0, end, {
    message: (_, start, stop) => {
      equal(readNeighbor(view, start, stop, neighbor), 0);
      read.push(`${neighbor.ip} ${formatMac(neighbor.mac)} ${nudName(neighbor.state)}`);
    },
    malformed: () => ok(false),
  });
  deepEqual(read, [
    "10.0.0.0 fe:dc:ba:98:76:00 stale",
    "2001:db8:0:1:0:2:ffff:1 fe:dc:ba:98:76:01 stale",
    "10.0.0.2 fe:dc:ba:98:76:02 stale",
  ]);
});

Deno.test("the writers refuse what does not fit and what the wire cannot carry", () => {
  const view = new DataView(new ArrayBuffer(27));
  equal(writeNeighborDump(view, 0, { sequence: 1 }), REJECT_NO_ROOM);
  equal(writeNeighborGet(view, 0, 1, 4, AF_INET, 0, 0, 0, 0), REJECT_NO_ROOM);
  equal(writeLinkDump(view, 0, 1), REJECT_NO_ROOM);
  equal(writeLinkGet(view, 0, 1, 4), REJECT_NO_ROOM);
  const good = { sequence: 1, ifindex: 1, family: AF_INET, words: [1], mac: 1, state: 4 };
  throws(() => writeNewNeighbor(view, 0, { ...good, ifindex: 0 }), RangeError);
  throws(() => writeNewNeighbor(view, 0, { ...good, mac: MAC_ABSENT }), RangeError);
  const wide = new DataView(new ArrayBuffer(64));
  equal(writeLinkGet(wide, 0, 1, 4), 40);
  equal(wide.getInt32(20, true), 4);
  equal(writeLinkDump(wide, 0, 1), 40);
  equal(wide.getUint32(36, true), 8);
});

/** A message of one type, the fixed part in hex and attributes as [type, hex]. */
function build(
  type: number,
  fixed: string,
  attributes: readonly (readonly [number, string])[],
): Uint8Array<ArrayBuffer> {
  const parts = attributes.map(([number, hex]) => {
    const value = bytesOfHex(hex);
    const part = new Uint8Array((4 + value.length + 3) & ~3);
    viewOf(part).setUint16(0, 4 + value.length, true);
    viewOf(part).setUint16(2, number, true);
    part.set(value, 4);
    return part;
  });
  const body = bytesOfHex(fixed);
  const length = 16 + body.length + parts.reduce((sum, part) => sum + part.length, 0);
  const bytes = new Uint8Array(length);
  viewOf(bytes).setUint32(0, length, true);
  viewOf(bytes).setUint16(4, type, true);
  bytes.set(body, 16);
  let at = 16 + body.length;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

const NDMSG = "02000000 04000000 0200 00 01";

Deno.test("readNeighbor() takes attributes with nesting and byte-order bits, and skips unknown ones", () => {
  const neighbor = new NeighborView();
  const bytes = build(RTM_NEWNEIGH, NDMSG, [
    [0x4001, "c0000202"],
    [0x8002, "020000000002"],
    [99, "01020304"],
    [5, "0a00"],
    [9, "07000000"],
    [12, "04"],
    [15, "01000080"],
  ]);
  equal(readNeighbor(viewOf(bytes), 0, bytes.length, neighbor), 0);
  deepEqual(decodeNeighbor(neighbor), {
    ifindex: 4,
    family: 4,
    ip: "192.0.2.2",
    mac: "02:00:00:00:00:02",
    state: 2,
    flags: 0,
    flagsExt: 0x8000_0001,
    vlan: 10,
  });
  equal(neighbor.master, 7);
  equal(neighbor.protocol, 4);
});

Deno.test("readNeighbor() tells link-layer addresses of other lengths apart from none", () => {
  const neighbor = new NeighborView();
  const mac = (hex: string): number => {
    const bytes = build(RTM_NEWNEIGH, NDMSG, [[1, "c0000202"], [2, hex]]);
    equal(readNeighbor(viewOf(bytes), 0, bytes.length, neighbor), 0);
    return neighbor.mac;
  };
  equal(mac("ffffffffffff"), 0xffff_ffff_ffff);
  equal(mac("01020304"), MAC_FOREIGN);
  equal(mac("00".repeat(20)), MAC_FOREIGN);
  equal(neighbor.macBytes, 20);
  equal(decodeNeighbor(neighbor).mac, null);
  equal(mac(""), MAC_ABSENT);
});

Deno.test("readNeighbor() answers why it refuses a message", () => {
  const neighbor = new NeighborView();
  const reason = (bytes: Uint8Array<ArrayBuffer>, end = bytes.length): number =>
    readNeighbor(viewOf(bytes), 0, end, neighbor);
  const good = build(RTM_NEWNEIGH, NDMSG, [[1, "c0000202"]]);
  equal(reason(good), 0);
  equal(reason(good, 27), REJECT_SHORT_BODY);
  equal(reason(good, 28), REJECT_BAD_ADDRESS);
  equal(reason(good, 34), REJECT_BAD_ATTRIBUTE);
  equal(reason(build(RTM_NEWNEIGH, NDMSG, [[1, "c00002"]])), REJECT_BAD_ADDRESS);
  equal(reason(build(RTM_NEWNEIGH, NDMSG, [[1, "00".repeat(16)]])), REJECT_BAD_ADDRESS);
  equal(reason(build(RTM_NEWNEIGH, "07" + NDMSG.slice(2), [])), REJECT_FAMILY);
  const short = good.slice();
  viewOf(short).setUint16(28, 3, true);
  equal(reason(short), REJECT_BAD_ATTRIBUTE);
  // What one message leaves behind must not show in the next.
  equal(reason(build(RTM_NEWNEIGH, NDMSG, [[1, "c0000202"], [2, "020000000002"]])), 0);
  equal(reason(good), 0);
  equal(neighbor.mac, MAC_ABSENT);
});

Deno.test("parseNetlink() goes on after a message that is malformed inside, and stops at a bad length", () => {
  const good = build(RTM_NEWNEIGH, NDMSG, [[1, "c0000202"]]);
  const bad = good.slice();
  viewOf(bad).setUint16(28, 2, true);
  const bytes = new Uint8Array(3 * good.length + 8);
  bytes.set(bad, 0);
  bytes.set(good, good.length);
  bytes.set(good, 2 * good.length);
  const view = viewOf(bytes);
  const neighbor = new NeighborView();
  const reasons: number[] = [];
  let malformed = 0;
  const sink = {
    message: (_: number, start: number, end: number) =>
      void reasons.push(readNeighbor(view, start, end, neighbor)),
    malformed: (reason: number) => void (malformed = reason),
  };
  equal(parseNetlink(view, 0, 3 * good.length, sink), 3);
  deepEqual(reasons, [REJECT_BAD_ATTRIBUTE, 0, 0]);
  equal(malformed, 0);
  equal(parseNetlink(view, 0, bytes.length, sink), 3);
  equal(malformed, REJECT_SHORT_HEADER);
  view.setUint32(good.length, 15, true);
  equal(parseNetlink(view, 0, bytes.length, sink), 1);
  equal(malformed, REJECT_BAD_LENGTH);
  view.setUint32(good.length, bytes.length, true);
  equal(parseNetlink(view, 0, bytes.length, sink), 1);
});

Deno.test("decodeAnswer() reads the kernel's words and offset, and does without them", () => {
  const request = "1c000000 1e00 0100 09000000 00000000";
  const message = [1, "4e6f 00"] as const, offset = [2, "10000000"] as const;
  const answer = (flags: number, fixed: string, more: readonly (readonly [number, string])[]) => {
    const bytes = build(NLMSG_ERROR, fixed, more);
    viewOf(bytes).setUint16(6, flags, true);
    return decodeAnswer(bytes, viewOf(bytes), 0, bytes.length);
  };
  const expected = {
    errorNumber: 22,
    requestType: 30,
    sequence: 0,
    message: "No",
    offset: 16,
  };
  deepEqual(answer(0x300, "eaffffff" + request, [message, offset]), expected);
  // Without CAPPED the request's payload is echoed before the words.
  const whole = "eaffffff" + request + "00".repeat(12);
  deepEqual(answer(0x200, whole, [message, offset]), expected);
  deepEqual(answer(0x100, "eaffffff" + request, [message, offset]), {
    ...expected,
    message: "",
    offset: -1,
  });
  const done = build(NLMSG_DONE, "", []);
  equal(readErrorNumber(viewOf(done), 0, 16), 0);
  const short = build(NLMSG_ERROR, "", []);
  equal(decodeAnswer(short, viewOf(short), 0, 16), REJECT_SHORT_BODY);
});

Deno.test("decodeLink() reads name, master, kind and carrier, and refuses a link without a name", () => {
  const fixed = "00000100 07000000 43100100 00000000";
  const kind = "0900 0100 7672 6600 00000000".replaceAll(" ", "");
  const bytes = build(RTM_NEWLINK, fixed, [
    [3, "566c616e313000"],
    [1, "020000000007"],
    [10, "05000000"],
    [16, "06"],
    [33, "01"],
    [0x8000 | 18, kind],
  ]);
  deepEqual(decodeLink(bytes, viewOf(bytes), 0, bytes.length), {
    family: 0,
    ifindex: 7,
    name: "Vlan10",
    master: 5,
    kind: "vrf",
    hardwareType: 1,
    flags: 0x11043,
    operState: 6,
    carrier: true,
    mac: 0x0200_0000_0007,
  });
  const nameless = build(RTM_NEWLINK, fixed, [[10, "05000000"]]);
  equal(decodeLink(nameless, viewOf(nameless), 0, nameless.length), REJECT_NO_NAME);
  equal(decodeLink(bytes, viewOf(bytes), 0, 31), REJECT_SHORT_BODY);
  equal(decodeLink(bytes, viewOf(bytes), 0, 38), REJECT_BAD_ATTRIBUTE);
});

Deno.test("formatIpv6() prints what the C library prints, and parseAddress() reads it back", () => {
  for (const [hex, text] of ipv6Text.cases) {
    const view = viewOf(bytesOfHex(hex!));
    const words = [0, 4, 8, 12].map((at) => view.getUint32(at, false));
    equal(formatIpv6(words[0]!, words[1]!, words[2]!, words[3]!), text);
    deepEqual(parseAddress(text!), { family: AF_INET6, words });
  }
});

Deno.test("addresses survive the way to text and back", () => {
  const random = seededRandom(6);
  for (let i = 0; i < 20_000; i++) {
    const word = (): number =>
      [0, 0xffff, 1, random.u32(), random.u32() & 0xffff_0000][
        random.u32() % 5
      ]! >>> 0;
    const words = [word(), word(), word(), word()] as const;
    const text = formatAddress(AF_INET6, ...words);
    deepEqual(parseAddress(text), { family: AF_INET6, words: [...words] }, `seed 6: ${text}`);
    const v4 = formatIpv4(words[3]);
    deepEqual(parseAddress(v4), { family: AF_INET, words: [words[3], 0, 0, 0] }, `seed 6: ${v4}`);
    const mac = (random.u32() & 0xffff) * 2 ** 32 + random.u32();
    equal(parseMac(formatMac(mac)), mac);
  }
});

Deno.test("parseAddress() and parseMac() refuse what is not an address", () => {
  const bad =
    "|1.2.3|1.2.3.4.5|1.2.3.256|01.2.3.4|1.2.3.4/8|:|:::|1:2|1::2::3|12345::|g::|1:2:3:4:5:6:7:8:9|" +
    "1:2:3:4:5:6:7::8|fe80::1%eth0|1.2.3.4::|::1.2.3|::1.2.3.4:5|1:|:1|1:2:3:4:5:6:7:1.2.3.4";
  for (const text of bad.split("|")) equal(parseAddress(text), undefined, JSON.stringify(text));
  for (const text of ["1:2:3:4:5:6:7::", "::", "FE80::A", "1:2:3:4:5:6:1.2.3.4"]) {
    ok(parseAddress(text) !== undefined, text);
  }
  for (const text of ["", "02:00:00:00:00", "02-00-00-00-00-01", "0g:00:00:00:00:00"]) {
    equal(parseMac(text), MAC_ABSENT);
  }
  equal(parseMac("FF:FF:FF:FF:FF:FE"), 0xffff_ffff_fffe);
});

Deno.test("NeighborTable agrees with a map over random additions and removals", () => {
  const seed = 77;
  const random = seededRandom(seed);
  const table = new NeighborTable(random.u32());
  const model = new Map<string, number>();
  const neighbor = new NeighborView();
  for (let i = 0; i < 60_000; i++) {
    neighbor.family = random.u32() % 2 === 0 ? AF_INET : AF_INET6;
    neighbor.ifindex = 1 + random.u32() % 3;
    neighbor.word0 = 0x0a00_0000;
    neighbor.word3 = neighbor.family === AF_INET ? 0 : random.u32() % 400;
    if (neighbor.family === AF_INET) neighbor.word0 += random.u32() % 400;
    const key = `${neighbor.ifindex} ${neighbor.ip}`;
    const slot = table.find(neighbor);
    equal(slot, model.get(key) ?? -1, `seed ${seed}, step ${i}`);
    if (slot < 0) model.set(key, table.add(neighbor));
    else if (random.u32() % 2 === 0) {
      table.remove(slot);
      model.delete(key);
    }
  }
  equal(table.size, model.size);
  ok(model.size > 500);
  for (const [key, slot] of model) equal(`${table.ifindex[slot]} ${table.ip(slot)}`, key);
});

Deno.test("NeighborTable keeps 100,000 entries in at most 200 bytes each", () => {
  const table = new NeighborTable(1);
  const neighbor = new NeighborView();
  neighbor.family = AF_INET6;
  neighbor.ifindex = 3;
  for (let i = 0; i < 100_000; i++) {
    neighbor.word3 = i;
    table.add(neighbor);
  }
  ok(table.memoryBytes / table.size < 100, `${table.memoryBytes / table.size} bytes an entry`);
});

Deno.test("the codec survives a million hostile datagrams without reading beyond their end", () => {
  const seed = 2_829;
  const good: Uint8Array[] = [];
  forVectors(file, (_, bytes) => void good.push(bytes));
  good.push(build(RTM_NEWLINK, "00".repeat(16), [[3, "6c6f00"], [18, "0900010076726600"]]));
  const hostile = new HostilePackets(seededRandom(seed), good, 400);
  const { bytes, view } = hostile;
  const neighbor = new NeighborView();
  const seen = new Map<string, number>();
  const saw = (name: string): void => void seen.set(name, (seen.get(name) ?? 0) + 1);
  let packet = 0;
  const sink = {
    message: (type: number, start: number, end: number): void => {
      if (start < hostile.start || end > hostile.end) {
        throw new Error(`seed ${seed}, packet ${packet}: a message beyond the datagram`);
      }
      if (type === RTM_NEWNEIGH || type === RTM_DELNEIGH) {
        const reason = readNeighbor(view, start, end, neighbor);
        saw(reason < 0 ? REJECT_NAMES[-reason]! : "neighbor");
      } else if (type === NLMSG_ERROR || type === NLMSG_DONE) {
        const answer = decodeAnswer(bytes, view, start, end);
        if (typeof answer !== "number" && answer.message.length > end - start) {
          throw new Error(`seed ${seed}, packet ${packet}: words beyond the message`);
        }
        saw(typeof answer === "number" ? REJECT_NAMES[-answer]! : "answer");
      } else if (type === RTM_NEWLINK) {
        const link = decodeLink(bytes, view, start, end);
        saw(typeof link === "number" ? REJECT_NAMES[-link]! : "link");
      }
    },
    malformed: (reason: number): void => saw(REJECT_NAMES[-reason]!),
  };
  for (; packet < 1_000_000; packet++) {
    hostile.next();
    parseNetlink(view, hostile.start, hostile.end, sink);
  }
  for (const name of ["neighbor", "answer", "link", ...REJECT_NAMES.slice(1, 8)]) {
    ok((seen.get(name) ?? 0) > 100, `${name}: ${seen.get(name)}`);
  }
});
