import { deepEqual, equal, ok } from "node:assert/strict";
import { decodeInterfaceAddress, type InterfaceAddress, isInNetwork } from "./interface_address.ts";
import { parseAddress } from "./address.ts";
import { solicitationMac, writeArpRequest, writeSolicitation } from "./probe.ts";
import { type RestoreActions, type RestoreCounts, RestoreMachine } from "./restore_machine.ts";

const NEWLINK = 16, DELLINK = 17, NEWADDR = 20, NEWNEIGH = 28, ERROR = 2, DONE = 3;
const EEXIST = 17, ENETDOWN = 100, EPERM = 1;

function words(text: string): readonly number[] {
  return parseAddress(text)!.words;
}

/** A message with its header; `body` as bytes. */
function message(
  type: number,
  body: readonly number[],
  sequence = 0,
  flags = 0,
): DataView<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(16 + body.length));
  view.setUint32(0, view.byteLength, true);
  view.setUint16(4, type, true);
  view.setUint16(6, flags, true);
  view.setUint32(8, sequence, true);
  new Uint8Array(view.buffer).set(body, 16);
  return view;
}

function u32(value: number): number[] {
  return [value & 255, value >>> 8 & 255, value >>> 16 & 255, value >>> 24];
}

function attribute(type: number, value: readonly number[]): number[] {
  const padding = Array<number>((4 - value.length % 4) % 4).fill(0);
  return [4 + value.length, 0, type, 0, ...value, ...padding];
}

function link(ifindex: number, name: string, carrier: boolean, flags = 0x41): number[] {
  return [
    ...[0, 0, 1, 0, ...u32(ifindex), ...u32(flags), ...u32(0)],
    ...attribute(3, [...new TextEncoder().encode(`${name}\0`)]),
    ...attribute(33, [Number(carrier)]),
    ...attribute(1, [2, 0, 0, 0, 9, ifindex]),
  ];
}

function address(ifindex: number, text: string, prefixBits: number, flags = 0x80): number[] {
  const { family, words } = parseAddress(text)!;
  const bytes = words.flatMap((
    word,
  ) => [word >>> 24, word >>> 16 & 255, word >>> 8 & 255, word & 255]);
  const own = bytes.slice(0, family === 2 ? 4 : 16);
  return [family, prefixBits, flags & 255, 0, ...u32(ifindex), ...attribute(1, own)];
}

/** The other side of the machine: a kernel that answers as it is told, and a note of everything asked. */
class Kernel implements RestoreActions {
  readonly machine: RestoreMachine;
  now = 0;
  /** Rows of the next dumps. */
  links: number[][] = [];
  addresses: number[][] = [];
  /** Error number for a neighbor, by its last byte and how often it was written; 0 is fine. */
  refuse: (lastByte: number, time: number) => number = () => 0;
  readonly writes: { readonly ifindex: number; readonly last: number }[] = [];
  readonly probes: {
    readonly ifindex: number;
    readonly etherType: number;
    readonly bytes: Uint8Array;
  }[] = [];
  readonly asked: (readonly string[])[] = [];
  ended: { readonly timedOut: boolean; readonly counts: RestoreCounts } | undefined;
  #answers: DataView<ArrayBuffer>[] = [];

  constructor(options?: ConstructorParameters<typeof RestoreMachine>[0]) {
    this.machine = new RestoreMachine(options);
  }

  start(...keys: readonly string[]): void {
    this.machine.start(keys.map((key) => ({ key, mac: "02:00:00:00:00:01" })), this.now, this);
    this.run();
  }

  tell(type: number, body: readonly number[]): void {
    this.#receive(message(type, body));
    this.run();
  }

  run(): void {
    do {
      for (const answer of this.#answers.splice(0)) this.#receive(answer);
    } while (this.machine.work(this.now, this) || this.#answers.length > 0);
  }

  pass(ms: number): void {
    this.now += ms;
    this.run();
  }

  request(bytes: Uint8Array<ArrayBuffer>): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    for (let at = 0; at < bytes.length; at += view.getUint32(at, true)) {
      const type = view.getUint16(at + 4, true), sequence = view.getUint32(at + 8, true);
      if (type !== NEWNEIGH) {
        const [row, rows] = type === 18 ? [NEWLINK, this.links] : [NEWADDR, this.addresses];
        for (const body of rows) this.#answers.push(message(row, body, sequence, 2));
        this.#answers.push(message(DONE, u32(0), sequence, 2));
        continue;
      }
      const ifindex = view.getUint32(at + 20, true);
      const last = bytes[at + 28 + view.getUint16(at + 28, true) - 1]!;
      this.writes.push({ ifindex, last });
      const time = this.writes.filter((one) => one.last === last).length;
      const errno = this.refuse(last, time);
      const wantsAnswer = (view.getUint16(at + 6, true) & 4) !== 0;
      if (errno !== 0 || wantsAnswer) this.#answers.push(message(ERROR, u32(-errno), sequence));
    }
  }

  probe(bytes: Uint8Array<ArrayBuffer>, ifindex: number, etherType: number): void {
    this.probes.push({ ifindex, etherType, bytes: bytes.slice() });
  }

  askMembers(names: readonly string[]): void {
    this.asked.push(names);
  }

  finish(timedOut: boolean, counts: RestoreCounts): void {
    equal(this.ended, undefined);
    this.ended = { timedOut, counts };
  }

  #receive(view: DataView<ArrayBuffer>): void {
    this.machine.receive(view, 0, view.byteLength, this.now);
  }
}

Deno.test("RestoreMachine writes what is ready at once, and asks each neighbor to show itself", () => {
  const kernel = new Kernel();
  kernel.links = [link(4, "Ethernet0", true), link(5, "Ethernet4", false)];
  kernel.addresses = [
    address(4, "10.0.0.1", 24),
    address(4, "fe80::1", 64),
    address(4, "2001:db8::1", 64),
    address(5, "10.4.0.1", 24),
  ];
  kernel.start(
    "Ethernet0:10.0.0.7",
    "Ethernet0:172.16.0.8",
    "Ethernet0:2001:db8::9",
    "Ethernet4:10.4.0.3",
  );
  deepEqual(kernel.writes.map(({ ifindex, last }) => [ifindex, last]), [[4, 7], [4, 8], [4, 9]]);
  const asked = kernel.probes.map(({ etherType, bytes }) => [etherType, ...bytes.slice(14, 18)]);
  // From its own address where that is in the neighbor's network, else from nobody's.
  deepEqual(asked.slice(0, 2), [[0x806, 10, 0, 0, 1], [0x806, 0, 0, 0, 0]]);
  deepEqual([kernel.probes[2]!.etherType, kernel.probes[2]!.bytes[23]], [0x86dd, 1]);
  equal(kernel.ended, undefined);
  kernel.tell(NEWLINK, link(5, "Ethernet4", true));
  deepEqual(kernel.writes.at(-1), { ifindex: 5, last: 3 });
  deepEqual(kernel.ended, {
    timedOut: false,
    counts: {
      entries: 4,
      written: 4,
      existing: 0,
      failed: 0,
      lastErrno: 0,
      skipped: 0,
      probes: 4,
      interfaces: 2,
      waiting: [],
      elapsedMs: 0,
    },
  });
});

Deno.test("RestoreMachine takes what exists for good, and counts what is refused", () => {
  const kernel = new Kernel();
  kernel.links = [link(4, "Ethernet0", true)];
  kernel.addresses = [address(4, "10.0.0.1", 24)];
  kernel.refuse = (last) => last < 3 ? EEXIST : last === 5 ? EPERM : 0;
  kernel.start(...[1, 2, 3, 4, 5].map((last) => `Ethernet0:10.0.0.${last}`));
  const { written, existing, failed, lastErrno } = kernel.ended!.counts;
  deepEqual([written, existing, failed, lastErrno], [2, 2, 1, EPERM]);
});

Deno.test("RestoreMachine writes an interface that went down again, and no other", () => {
  const kernel = new Kernel();
  kernel.links = [link(4, "Ethernet0", true), link(5, "Ethernet4", true)];
  kernel.addresses = [address(4, "10.0.0.1", 24), address(5, "10.4.0.1", 24)];
  kernel.refuse = (last, time) => last === 7 && time < 4 ? ENETDOWN : 0;
  kernel.start("Ethernet0:10.0.0.7", "Ethernet4:10.4.0.3");
  equal(kernel.ended, undefined);
  // Ever more slowly, so that an interface that stays down costs nothing.
  const pauses: number[] = [];
  while (!kernel.machine.finished) {
    const before = kernel.now;
    ok(kernel.machine.deadline < Infinity);
    kernel.pass(kernel.machine.deadline - kernel.now);
    pauses.push(kernel.now - before);
  }
  deepEqual(pauses, [10, 20, 40]);
  deepEqual(kernel.writes.filter(({ ifindex }) => ifindex === 5).length, 1);
  equal(kernel.ended!.counts.written, 2);
});

Deno.test("RestoreMachine believes an event more than an older row of a dump", () => {
  const kernel = new Kernel();
  kernel.links = [link(4, "Ethernet0", false)];
  kernel.addresses = [address(4, "10.0.0.1", 24)];
  kernel.machine.start([{ key: "Ethernet0:10.0.0.7", mac: "02:00:00:00:00:01" }], 0, kernel);
  // The dump was asked for, its rows are not read yet.
  const event = message(NEWLINK, link(4, "Ethernet0", true));
  kernel.machine.receive(event, 0, event.byteLength, 0);
  kernel.run();
  equal(kernel.ended?.counts.written, 1);
});

Deno.test("RestoreMachine follows a name from one index to another", () => {
  const kernel = new Kernel();
  kernel.links = [link(4, "Ethernet0", false)];
  kernel.start("Ethernet0:10.0.0.7");
  kernel.tell(DELLINK, link(4, "Ethernet0", false));
  kernel.tell(NEWLINK, link(9, "tmp", true));
  kernel.tell(NEWADDR, address(9, "10.0.0.1", 24));
  equal(kernel.writes.length, 0);
  kernel.tell(NEWLINK, link(9, "Ethernet0", true));
  deepEqual(kernel.writes, [{ ifindex: 9, last: 7 }]);
});

Deno.test("RestoreMachine waits until an IPv6 address is no longer tentative", () => {
  const kernel = new Kernel();
  kernel.links = [link(4, "Ethernet0", true)];
  kernel.addresses = [address(4, "2001:db8::1", 64, 0xc0)];
  kernel.start("Ethernet0:2001:db8::9");
  equal(kernel.writes.length, 0);
  kernel.tell(NEWADDR, address(4, "2001:db8::1", 64, 0x80));
  equal(kernel.ended?.counts.written, 1);
});

Deno.test("RestoreMachine waits for members, and once for VLANs and port channels to settle", () => {
  const kernel = new Kernel({ settleMs: 15_000 });
  kernel.links = [
    link(4, "Vlan10", true),
    link(5, "PortChannel1", true),
    link(6, "Ethernet0", true),
  ];
  kernel.addresses = [
    address(4, "10.0.0.1", 24),
    address(5, "10.4.0.1", 24),
    address(6, "10.6.0.1", 24),
  ];
  kernel.start("Vlan10:10.0.0.7", "PortChannel1:10.4.0.3", "Ethernet0:10.6.0.6");
  deepEqual(kernel.asked, [["Vlan10", "PortChannel1"]]);
  deepEqual(kernel.writes.map(({ last }) => last), [6]);
  kernel.machine.members(["Vlan10"], kernel.now);
  kernel.run();
  kernel.pass(1_000);
  deepEqual(kernel.asked.at(-1), ["PortChannel1"]);
  kernel.pass(13_999);
  equal(kernel.writes.length, 1);
  kernel.pass(1);
  deepEqual(kernel.writes.map(({ last }) => last), [6, 7]);
  kernel.machine.members(["PortChannel1"], kernel.now);
  kernel.run();
  deepEqual(kernel.writes.map(({ last }) => last), [6, 7, 3]);
  equal(kernel.ended?.counts.waiting.length, 0);
});

Deno.test("RestoreMachine asks again for what was lost, and writes it again", () => {
  const kernel = new Kernel();
  kernel.links = [link(4, "Ethernet0", true)];
  kernel.addresses = [address(4, "10.0.0.1", 24)];
  const lost = { request: kernel.request };
  kernel.request = () => {};
  kernel.machine.start([{ key: "Ethernet0:10.0.0.7", mac: "02:00:00:00:00:01" }], 0, kernel);
  kernel.run();
  kernel.request = lost.request;
  kernel.machine.receive(message(DONE, u32(0), 1), 0, 20, 0);
  kernel.machine.lost(0);
  kernel.run();
  equal(kernel.ended?.counts.written, 1);
});

Deno.test("RestoreMachine splits a large interface into requests whose answers fit a small buffer", () => {
  const kernel = new Kernel();
  kernel.links = [link(4, "Ethernet0", true)];
  kernel.addresses = [address(4, "10.0.0.1", 16)];
  let most = 0;
  const request = kernel.request.bind(kernel);
  kernel.request = (bytes) => {
    const before = kernel.writes.length;
    request(bytes);
    most = Math.max(most, kernel.writes.length - before);
  };
  kernel.start(...Array.from({ length: 1000 }, (_, i) => `Ethernet0:10.0.${i >> 8}.${i & 255}`));
  deepEqual([kernel.ended?.counts.written, most], [1000, 128]);
});

Deno.test("RestoreMachine ends when its time is over, and names who was not ready", () => {
  const kernel = new Kernel({ timeoutMs: 500 });
  kernel.links = [link(4, "Ethernet0", true)];
  kernel.addresses = [address(4, "10.0.0.1", 24)];
  kernel.start(
    "Ethernet8:10.0.0.7",
    "Ethernet0:10.0.0.7",
    "Ethernet0:2001:db8::1",
    "lo:10.0.0.1",
    "x",
  );
  kernel.pass(499);
  equal(kernel.ended, undefined);
  kernel.pass(1);
  const { timedOut, counts } = kernel.ended!;
  deepEqual([timedOut, counts.waiting, counts.skipped, counts.written], [
    true,
    ["Ethernet0", "Ethernet8"],
    2,
    1,
  ]);
  equal(kernel.machine.deadline, Infinity);
});

Deno.test("an ARP request and a Neighbor Solicitation are byte for byte what the standards draw", () => {
  const view = new DataView(new ArrayBuffer(72));
  const bytes = new Uint8Array(view.buffer);
  equal(writeArpRequest(view, 0, 0x0200_0000_0901, 0x0a00_0001, 0x0a00_0007), 28);
  // deno-fmt-ignore
  deepEqual([...bytes.subarray(0, 28)], [
    0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 9, 1, 10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 7,
  ]);
  const target = words("2001:db8::12:3456");
  equal(writeSolicitation(view, 0, 0x0200_0000_0901, words("2001:db8::1"), target), 72);
  // deno-fmt-ignore
  deepEqual([...bytes.subarray(0, 8)], [0x60, 0, 0, 0, 0, 32, 58, 255]);
  deepEqual([...bytes.subarray(24, 40)], [
    0xff,
    2,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    0,
    1,
    0xff,
    0x12,
    0x34,
    0x56,
  ]);
  deepEqual([...bytes.subarray(40, 42)], [135, 0]);
  deepEqual([...bytes.subarray(64)], [1, 1, 2, 0, 0, 0, 9, 1]);
  deepEqual([...solicitationMac(target)], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
  // A receiver adds everything up, the checksum included, and gets all ones (RFC 1071).
  let sum = 32 + 58;
  for (let at = 8; at < 72; at += 2) sum += view.getUint16(at);
  while (sum > 0xffff) sum = (sum & 0xffff) + (sum >>> 16);
  equal(sum, 0xffff);
});

Deno.test("addresses of interfaces are read with their networks, and damaged ones are not", () => {
  const read = (body: readonly number[]): InterfaceAddress | number => {
    const view = message(NEWADDR, body);
    return decodeInterfaceAddress(view, 0, view.byteLength);
  };
  const own = read(address(4, "192.0.2.130", 25)) as InterfaceAddress;
  deepEqual([own.ifindex, own.prefixBits, own.usable], [4, 25, true]);
  deepEqual(
    ["192.0.2.129", "192.0.2.127", "192.0.3.129"].map((text) => isInNetwork(words(text), own)),
    [true, false, false],
  );
  const wide = read(address(4, "2001:db8:0:40::1", 60)) as InterfaceAddress;
  deepEqual(
    ["2001:db8:0:4f::9", "2001:db8:0:50::9"].map((text) => isInNetwork(words(text), wide)),
    [true, false],
  );
  const whole = address(4, "192.0.2.130", 25);
  for (let length = 0; length < whole.length; length++) {
    ok(Number(read(whole.slice(0, length))) < 0);
  }
});
